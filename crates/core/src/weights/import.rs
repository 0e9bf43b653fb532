//! Import of third-party weights, with a report on every tensor.

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::{Device, TensorData};

use super::groups::{LISTED, describe};
use super::layouts::{
    Form, Layout, Names, RecognizeError, Recognized, ThirdPartyTensor, recognize,
};
use super::named::NamedWeights;
use super::parameters::{NamedTensors, named_shapes, named_tensors};
use super::third_party::{Container, ThirdPartyError, ThirdPartyFile};
use crate::spec::{ModelSpec, NetworkConfig};
use sedet_data::annotations::Category;
use sedet_data::annotations::coco_categories::categories_by_count;
use sedet_data::datasets::imagenet_classes::imagenet_classes;

pub use super::layouts::ImportOptions;

/// An error in importing a third-party file.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file itself, or a tensor in it.
    #[error(transparent)]
    File(#[from] ThirdPartyError),
    /// The file is readable, but its layout is unknown.
    #[error("{path}: {reason}")]
    Layout {
        /// The file.
        path: String,
        /// The reason.
        reason: String,
    },
    /// A network that sedet has not.
    #[error("{path}: {reason}")]
    Other {
        /// The file.
        path: String,
        /// What it is.
        reason: String,
    },
    /// A file beside the weights states a preprocessing that sedet has not.
    #[error("{path}: {reason}")]
    Preprocessing {
        /// The weights.
        path: String,
        /// The file beside them, and what it states.
        reason: String,
    },
    /// The file contains several networks, and none or another one was requested.
    #[error("{path}: {reason}")]
    Networks {
        /// The file.
        path: String,
        /// What it contains.
        reason: String,
        /// What the names of the tensors of each begin with.
        networks: Vec<String>,
    },
    /// Tensors inside the network that sedet has no layer for: without them it would compute other
    /// outputs.
    #[error("{path}: {}", unknown_words(tensors, *units))]
    UnknownTensors {
        /// The file.
        path: String,
        /// What the tensors belong to, if it is known.
        units: Option<&'static str>,
        /// Their names in the file.
        tensors: Vec<String>,
    },
    /// Negative values of a variance.
    #[error("{path}: tensor {tensor} has {}; a variance is at least 0", sedet_data::text::count(*count, "negative value"))]
    NegativeVariance {
        /// The file.
        path: String,
        /// Its name in the file.
        tensor: String,
        /// The number of such values.
        count: usize,
    },
    /// Values are not a number or infinite.
    #[error("{path}: tensor {tensor} has {} that {} not finite", sedet_data::text::count(*count, "value"), if *count == 1 { "is" } else { "are" })]
    NotFinite {
        /// The file.
        path: String,
        /// Its name in the file.
        tensor: String,
        /// The number of such values.
        count: usize,
    },
}

/// Describes tensors inside the network that sedet has no layer for.
fn unknown_words(tensors: &[String], units: Option<&str>) -> String {
    const SHOWN: usize = 3;
    let number = sedet_data::text::count(tensors.len(), "tensor");
    let what = match units {
        Some(units) => format!("{units} are not supported ({number}: "),
        None => format!("{number} inside the network for which sedet has no layer ("),
    };
    let shown = tensors[..tensors.len().min(SHOWN)].join(", ");
    match tensors.len().saturating_sub(SHOWN) {
        0 => format!("{what}{shown})"),
        more => format!("{what}{shown} and {more} more)"),
    }
}

/// A tensor with the expected name but another shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The native name.
    pub native: String,
    /// The name in the file.
    pub third_party: String,
    /// The shape that the network needs, in the layout of the file.
    pub expected: Vec<usize>,
    /// The shape in the file.
    pub found: Vec<usize>,
}

/// The report on how the tensors of a file were matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportReport {
    /// The format of the file.
    pub container: Container,
    /// The layout of the file.
    pub layout: Layout,
    /// The prefix of all names in the file.
    pub prefix: String,
    /// Assumptions about what cannot be derived from the tensors.
    pub assumptions: Vec<String>,
    /// Number of imported tensors.
    pub matched: usize,
    /// Native names of missing tensors with the third-party names that were expected; they are randomly
    /// initialized.
    pub missing: Vec<(String, String)>,
    /// Tensors of another shape; the native ones are randomly initialized.
    pub mismatched: Vec<Mismatch>,
    /// Names in the file that are not used; constants that are not weights (counters of batch
    /// norms, detectron2's anchors and pixel mean) are not listed.
    pub skipped: Vec<String>,
    /// The prefixes of other networks in the file; their tensors are among the skipped ones.
    pub other_networks: Vec<String>,
}

impl ImportReport {
    /// Returns whether every tensor was matched.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.mismatched.is_empty() && self.skipped.is_empty()
    }

    /// Returns whether the file provides every tensor of the network.
    pub fn network_is_whole(&self) -> bool {
        self.missing.is_empty() && self.mismatched.is_empty()
    }

    /// Returns the native names of the tensors that the file provides no values for.
    fn uninitialized(&self) -> impl Iterator<Item = &str> {
        let missing = self.missing.iter().map(|(native, _)| native.as_str());
        let mismatched = self.mismatched.iter().map(|m| m.native.as_str());
        missing.chain(mismatched)
    }

    /// Returns the report as lines of text.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{}, {}", self.layout.name(), self.container)];
        if !self.prefix.is_empty() {
            lines.push(format!("names start with '{}'", self.prefix));
        }
        lines.extend(self.assumptions.iter().map(|a| format!("assumed {a}")));
        lines.push(format!(
            "{} matched, {} missing, {} of another shape, {} skipped",
            sedet_data::text::count(self.matched, "tensor"),
            self.missing.len(),
            self.mismatched.len(),
            self.skipped.len()
        ));
        let names = |tensors: &mut dyn Iterator<Item = &String>| -> Vec<String> {
            tensors.cloned().collect()
        };
        if self.missing.len() > LISTED {
            let names = names(&mut self.missing.iter().map(|(native, _)| native));
            lines.push(format!(
                "missing: {}; randomly initialized",
                describe(&names)
            ));
        } else {
            lines.extend(self.missing.iter().map(|(native, third_party)| {
                format!("missing: {third_party} (for {native}); randomly initialized")
            }));
        }
        if self.mismatched.len() > LISTED {
            let names = names(&mut self.mismatched.iter().map(|m| &m.native));
            lines.push(format!(
                "another shape: {}; randomly initialized",
                describe(&names)
            ));
        } else {
            lines.extend(self.mismatched.iter().map(|m| {
                format!(
                    "another shape: {} is {:?} in the file, the network needs {:?}; randomly initialized",
                    m.third_party, m.found, m.expected
                )
            }));
        }
        let mut skipped = self.skipped.clone();
        for prefix in &self.other_networks {
            let before = skipped.len();
            skipped.retain(|name| !name.starts_with(prefix.as_str()));
            let tensors = sedet_data::text::count(before - skipped.len(), "tensor");
            lines.push(format!("skipped: {tensors} of another network, '{prefix}'"));
        }
        if skipped.len() > LISTED {
            lines.push(format!("skipped: {}", describe(&skipped)));
        } else {
            lines.extend(skipped.iter().map(|name| format!("skipped: {name}")));
        }
        lines
    }
}

/// Weights with the description of their model.
#[derive(Debug, Clone)]
pub struct LoadedWeights {
    /// The model.
    pub spec: ModelSpec,
    /// The tensors by native name.
    pub weights: NamedTensors,
    /// The report of the import, for a third-party file.
    pub report: Option<ImportReport>,
}

/// Reads a third-party file as a network. The layout is the given one, that of the named weights of
/// which the file is the download, or detected.
///
/// Tensors are read one after the other: apart from the result, at most one tensor is in memory.
///
/// # Errors
/// The file is damaged, its layout is unknown, the network has layers that sedet does not have, values are
/// not finite, or variances are negative. Every message names the file.
pub fn import(
    path: &Path,
    options: impl Into<ImportOptions>,
) -> Result<LoadedWeights, ImportError> {
    let options = options.into();
    let allow_unused = options.allow_unused;
    let file = ThirdPartyFile::open(path)?;
    let found = recognized(&file, path, options)?;
    let mut spec = found.spec;
    let device = Device::flex();
    let shapes = match &spec.network {
        NetworkConfig::Classification(model) => named_shapes(&model.init(&device)),
        NetworkConfig::Detection(model) => named_shapes(&model.init(&device)),
    };
    let mut report = ImportReport {
        container: file.container(),
        layout: found.layout,
        prefix: found.prefix.clone(),
        assumptions: found.assumptions,
        matched: 0,
        missing: Vec::new(),
        mismatched: Vec::new(),
        skipped: Vec::new(),
        other_networks: found.other_networks,
    };
    let mut weights = NamedTensors::new();
    let mut used = BTreeSet::new();
    for (native, shape) in shapes {
        let ThirdPartyTensor { name, form } = found.names.third_party(&native);
        if form == Form::Absent {
            weights.insert(native, TensorData::zeros::<f32, _>(shape));
            continue;
        }
        let third_party = format!("{}{name}", found.prefix);
        let Some(info) = file.info(&third_party) else {
            report.missing.push((native, third_party));
            continue;
        };
        used.insert(third_party.clone());
        if !fits(&info.shape, &shape, form) {
            report.mismatched.push(Mismatch {
                found: info.shape.clone(),
                expected: third_party_shape(&shape, form),
                native,
                third_party,
            });
            continue;
        }
        let values = file.values(&third_party)?;
        check_values(&values, path, &native, &third_party)?;
        let values = from_third_party(values, &shape, form);
        weights.insert(native, TensorData::new(values, shape));
        report.matched += 1;
    }
    report.skipped = file
        .tensors()
        .filter(|(name, _)| !used.contains(*name) && !is_constant(name))
        .map(|(name, _)| name.to_string())
        .collect();
    if !allow_unused {
        check_skipped(&report.skipped, &found.names, &found.prefix, path)?;
    }
    if !report.network_is_whole() {
        spec.missing = report.uninitialized().map(str::to_string).collect();
        let random = match &spec.network {
            NetworkConfig::Classification(model) => named_tensors(&model.init(&device)),
            NetworkConfig::Detection(model) => named_tensors(&model.init(&device)),
        };
        for (name, data) in random {
            weights.entry(name).or_insert(data);
        }
    }
    Ok(LoadedWeights {
        spec,
        weights,
        report: Some(report),
    })
}

/// Checks the values of a tensor.
fn check_values(
    values: &[f32],
    path: &Path,
    native: &str,
    third_party: &str,
) -> Result<(), ImportError> {
    let count = values.iter().filter(|v| !v.is_finite()).count();
    if count > 0 {
        return Err(ImportError::NotFinite {
            path: path.display().to_string(),
            tensor: third_party.to_owned(),
            count,
        });
    }
    let count = values.iter().filter(|v| **v < 0.0).count();
    if count > 0 && is_variance(native) {
        return Err(ImportError::NegativeVariance {
            path: path.display().to_string(),
            tensor: third_party.to_owned(),
            count,
        });
    }
    Ok(())
}

/// Checks that no skipped tensor belongs to a layer inside the network, which would compute something else without it.
fn check_skipped(
    skipped: &[String],
    names: &Names,
    prefix: &str,
    path: &Path,
) -> Result<(), ImportError> {
    let is_inside = |name: &&String| {
        let name = name.strip_prefix(prefix);
        name.is_some_and(|name| names.is_inside(name))
    };
    let tensors: Vec<String> = skipped.iter().filter(is_inside).cloned().collect();
    if tensors.is_empty() {
        return Ok(());
    }
    Err(ImportError::UnknownTensors {
        path: path.display().to_string(),
        units: known_units(&tensors),
        tensors,
    })
}

/// Checks that a third-party file contains a known network, without reading its tensors.
///
/// # Errors
/// The file is damaged, or its layout is unknown. Every message names the file.
pub fn check(path: &Path) -> Result<(), ImportError> {
    let file = ThirdPartyFile::open(path)?;
    recognized(&file, path, ImportOptions::default()).map(|_| ())
}

/// Recognizes the network in a file. The layout is the given one, that of the named weights of which the file is
/// the download, or detected.
fn recognized(
    file: &ThirdPartyFile,
    path: &Path,
    mut options: ImportOptions,
) -> Result<Recognized, ImportError> {
    let named = NamedWeights::of_file(path);
    options.layout = options.layout.or(named.map(|named| named.layout));
    let mut found = recognize(file, options).map_err(|error| {
        let (path, reason) = (path.display().to_string(), error.to_string());
        match error {
            RecognizeError::Layout(_) => ImportError::Layout { path, reason },
            RecognizeError::Other(_) => ImportError::Other { path, reason },
            RecognizeError::Preprocessing(_) => ImportError::Preprocessing { path, reason },
            RecognizeError::SeveralNetworks { networks }
            | RecognizeError::NoSuchNetwork { networks, .. } => ImportError::Networks {
                path,
                reason,
                networks,
            },
        }
    })?;
    if let Some(named) = named
        && named.layout == found.layout
    {
        named.complete(&mut found);
    }
    if found.spec.categories.is_empty() {
        found.spec.categories = known_categories(&found.spec.network);
    }
    // Tensors may have a size of zero.
    found.spec.validate().map_err(|error| ImportError::Layout {
        path: path.display().to_string(),
        reason: error.to_string(),
    })?;
    Ok(found)
}

/// Returns the usual classes of a network without class names, by the number of classes: COCO's for
/// a detector, ImageNet's for a classifier with 1000 classes.
pub(super) fn known_categories(network: &NetworkConfig) -> Vec<Category> {
    match network {
        NetworkConfig::Detection(model) => categories_by_count(model.num_classes),
        NetworkConfig::Classification(model) => {
            let classes = imagenet_classes();
            if model.num_classes != classes.len() {
                return Vec::new();
            }
            let categories = classes.iter().enumerate().map(|(label, class)| Category {
                id: label as u64,
                name: class.name.to_string(),
            });
            categories.collect()
        }
    }
}

/// Returns whether a native tensor is the running variance of a batch norm.
pub(super) fn is_variance(native: &str) -> bool {
    native.ends_with("running_var")
}

/// Names what tensors without a counterpart in sedet's networks belong to, by the names of timm, mmdetection and
/// torchvision.
fn known_units(tensors: &[String]) -> Option<&'static str> {
    const UNITS: [(&str, &str); 5] = [
        (
            ".se.conv.weight",
            "efficient channel attention (ECA) units of timm's ecaresnet",
        ),
        (".conv2_offset.", "deformable convolutions"),
        (".conv_offset.", "deformable convolutions"),
        (".context_block.", "global context (GC) blocks"),
        (".filt", "the filters of antialiased-cnns"),
    ];
    let is_named = |part: &str| tensors.iter().any(|name| name.contains(part));
    let found = UNITS.into_iter().find(|(part, _)| is_named(part));
    found.map(|(_, units)| units)
}

/// Returns whether a tensor of a state dict is not a weight.
fn is_constant(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(last, "num_batches_tracked" | "pixel_mean" | "pixel_std")
        || name.contains("anchor_generator.cell_anchors.")
}

/// Returns the third-party shape of a native shape (the one with the fewest dimensions).
pub(super) fn third_party_shape(native: &[usize], form: Form) -> Vec<usize> {
    match (form, native) {
        (Form::Matrix | Form::BackgroundLast, [d_in, d_out]) => vec![*d_out, *d_in],
        (Form::Pointwise, [d_in, d_out]) => vec![*d_out, *d_in, 1, 1],
        (Form::NoBackground, [d_in, d_out]) => vec![d_out.saturating_sub(4), *d_in],
        (Form::NoBackgroundBias, [n]) => vec![n.saturating_sub(4)],
        _ => native.to_vec(),
    }
}

/// Returns whether a third-party shape corresponds to a native one. Whether a matrix is written as a 1x1 convolution makes no
/// difference: frameworks changed that over time.
pub(super) fn fits(third_party: &[usize], native: &[usize], form: Form) -> bool {
    let plain = |shape: &[usize]| match (form, shape) {
        (Form::Matrix | Form::Pointwise, [a, b, 1, 1]) => vec![*a, *b],
        _ => shape.to_vec(),
    };
    plain(third_party) == plain(&third_party_shape(native, form))
}

/// Returns third-party values in native order; `shape` is the native shape.
fn from_third_party(values: Vec<f32>, shape: &[usize], form: Form) -> Vec<f32> {
    match (form, shape) {
        (Form::Matrix | Form::Pointwise, [d_in, d_out]) => transposed(&values, *d_out, *d_in),
        (Form::BackgroundLast, [d_in, d_out]) => {
            transposed(&rotated_right(values, *d_in), *d_out, *d_in)
        }
        (Form::BackgroundLastBias, _) => rotated_right(values, 1),
        (Form::NoBackground, [d_in, d_out]) => {
            let mut rows = vec![0.0; 4 * d_in];
            rows.extend(values);
            transposed(&rows, *d_out, *d_in)
        }
        (Form::NoBackgroundBias, _) => {
            let mut all = vec![0.0; 4];
            all.extend(values);
            all
        }
        _ => values,
    }
}

/// Returns native values in third-party order, the inverse of the import; `shape` is the native shape.
pub(super) fn to_third_party(values: &[f32], shape: &[usize], form: Form) -> Vec<f32> {
    match (form, shape) {
        (Form::Matrix | Form::Pointwise, [d_in, d_out]) => transposed(values, *d_in, *d_out),
        (Form::BackgroundLast, [d_in, d_out]) => {
            let mut rows = transposed(values, *d_in, *d_out);
            rows.rotate_left(*d_in);
            rows
        }
        (Form::BackgroundLastBias, _) => {
            let mut all = values.to_vec();
            all.rotate_left(1);
            all
        }
        (Form::NoBackground, [d_in, d_out]) => {
            transposed(values, *d_in, *d_out).split_off(4 * d_in)
        }
        (Form::NoBackgroundBias, _) => values[4..].to_vec(),
        _ => values.to_vec(),
    }
}

/// Moves the last row of `width` values to the front.
fn rotated_right(mut rows: Vec<f32>, width: usize) -> Vec<f32> {
    rows.rotate_right(width);
    rows
}

/// Transposes a matrix of `rows` by `columns`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|c| (0..rows).map(move |r| values[r * columns + c]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn export_undoes_import_in_every_form(d_in in 1usize..5, classes in 1usize..5) {
            let cases = [
                (Form::AsIs, vec![d_in, classes]),
                (Form::Matrix, vec![d_in, classes]),
                (Form::Pointwise, vec![d_in, classes]),
                (Form::BackgroundLast, vec![d_in, classes + 1]),
                (Form::BackgroundLastBias, vec![classes + 1]),
                (Form::NoBackground, vec![d_in, 4 * (classes + 1)]),
                (Form::NoBackgroundBias, vec![4 * (classes + 1)]),
            ];
            for (form, shape) in cases {
                let count: usize = third_party_shape(&shape, form).iter().product();
                let third_party: Vec<f32> = (0..count).map(|v| v as f32).collect();
                let native = from_third_party(third_party.clone(), &shape, form);
                prop_assert_eq!(native.len(), shape.iter().product::<usize>());
                prop_assert_eq!(to_third_party(&native, &shape, form), third_party, "{:?}", form);
            }
        }
    }

    #[test]
    fn the_background_comes_from_the_last_row_to_the_first() {
        // Two classes and the background, one input.
        let native = from_third_party(vec![1.0, 2.0, 9.0], &[1, 3], Form::BackgroundLast);
        assert_eq!(native, [9.0, 1.0, 2.0]);
    }

    #[test]
    fn a_matrix_may_be_written_as_a_1x1_convolution() {
        assert!(fits(&[2, 32, 1, 1], &[32, 2], Form::Matrix));
        assert!(!fits(&[32, 2, 1, 1], &[32, 2], Form::Matrix));
        assert!(!fits(&[2, 32, 1, 1], &[2, 32], Form::AsIs));
    }
}
