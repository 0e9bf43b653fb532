//! Initial weights: whether they are those of the network to train, and their copy into it.

use std::collections::BTreeSet;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, TensorData};

use super::error::RunError;
use super::kind::RunKind;
use super::request::RecipeOptions;
use crate::backbones::BackboneConfig;
use crate::backbones::zoo::name_of;
use crate::config::is_set;
use crate::model::{ModelSpec, Task};
use crate::train::observer::{Notice, Observer};
use crate::weights::groups::is_of_unit;
use crate::weights::load::{LoadError, LoadedWeights};
use crate::weights::parameters::{NamedTensors, load_tensors, named_shapes, named_tensors};
use sedet_data::classes::{differing_names, positions_by_name};
use sedet_nn::nn::norm::NormKind;
use sedet_nn::nn::se::{SeConfig, SeStart};

/// The source and the use of initial weights.
pub(super) struct InitialWeights<'a> {
    pub(super) path: &'a Path,
    /// Whether every tensor has to match.
    pub(super) strict: bool,
    pub(super) sizes: SizesOf,
}

/// The source of the sizes of the layers.
pub(super) struct SizesOf {
    /// The recipe, by name or file.
    recipe: String,
    /// The recipe that keeps the sizes of the weights, if it is another one.
    keeping: Option<&'static str>,
}

impl SizesOf {
    /// Describes the sizes of a run with this recipe and these options that begins with given weights.
    pub(super) fn of<K: RunKind>(
        kind: &K,
        recipe: &str,
        weights: &ModelSpec,
        options: &RecipeOptions,
    ) -> Self {
        let (keeping, _) = kind.default_recipe(Some(weights));
        let sets_sizes = ["model.backbone", "model.overrides"]
            .iter()
            .any(|key| is_set(&options.settings, key));
        let is_other = keeping != recipe && options.backbone.is_none() && !sets_sizes;
        Self {
            recipe: recipe.to_string(),
            keeping: is_other.then_some(keeping),
        }
    }
}

/// Copies given weights into a network wherever name and shape agree, but not the prediction layers
/// of other classes.
///
/// With `strict`, the weights must match the network tensor by tensor. Prediction layers that other
/// classes replace are no mismatch, and from a checkpoint of the other task only the backbone counts.
pub(super) fn initialize<M: Module>(
    model: M,
    mut given: LoadedWeights,
    from: &InitialWeights<'_>,
    spec: &ModelSpec,
    observer: &mut dyn Observer,
) -> Result<M, RunError> {
    let unusable = |reason: String| RunError::UnusableWeights {
        path: from.path.to_path_buf(),
        reason,
    };
    let classes = GivenClasses::of(&given, spec);
    classes.fit_layers(&mut given.weights, spec.task());
    let known: BTreeSet<String> = given.weights.keys().cloned().collect();
    let (tensors, loaded, random) = matching(&model, &mut given.weights);
    if loaded == 0 {
        return Err(unusable("none of its tensors fits this network".into()));
    }
    if from.strict {
        check_all_match(from.path, &classes, &known, &random, &given.weights)?;
    }
    observer.notice(&Notice::WeightsLoaded { tensors: loaded });
    if let Some(notice) = classes.notice(&given.spec, spec) {
        observer.notice(&notice);
    }
    let random = without_grafted_units(random, &given.spec, spec, observer);
    // Prediction layers of other classes were named above.
    let has_other_shape = |name: &String| known.contains(name) && !classes.replaces(name);
    let (reshaped, random): (Vec<_>, Vec<_>) = random.into_iter().partition(has_other_shape);
    if !reshaped.is_empty() {
        observer.notice(&Notice::OtherShapes {
            tensors: reshaped,
            recipe: from.sizes.recipe.clone(),
            keeping: from.sizes.keeping,
        });
    }
    if !random.is_empty() {
        observer.notice(&Notice::RandomlyInitialized(random));
    }
    if !given.weights.is_empty() {
        let names = given.weights.into_keys().collect();
        observer.notice(&Notice::UnusedWeights(names));
    }
    load_tensors(model, tensors).map_err(|error| unusable(error.to_string()))
}

/// The classes of given weights, compared with those of the network to initialize.
struct GivenClasses {
    is_other_task: bool,
    /// Numbers of classes of the checkpoint and of the dataset.
    checkpoint: usize,
    dataset: usize,
    /// Whether the names are known and are other ones.
    has_other_names: bool,
    /// The label in the weights of each class, if the same classes are in another order.
    order: Option<Vec<usize>>,
    /// The beginnings of the names of the tensors that depend on the classes.
    layers: &'static [&'static str],
}

impl GivenClasses {
    fn of(given: &LoadedWeights, spec: &ModelSpec) -> Self {
        let is_other_task = given.spec.task() != spec.task();
        // Imported files have the numbers of classes only, no names to compare.
        let has_names = given.report.is_none() && given.spec.imported.is_none();
        let order = if is_other_task {
            None
        } else {
            labels_by_name(&given.spec, spec)
        };
        Self {
            is_other_task,
            checkpoint: given.spec.num_classes(),
            dataset: spec.num_classes(),
            has_other_names: has_names && !is_other_task && order.is_none(),
            order: order.filter(|order| !order.is_sorted()),
            layers: spec.network.prediction_layers(),
        }
    }

    fn is_prediction_layer(&self, name: &str) -> bool {
        self.layers.iter().any(|layer| name.starts_with(layer))
    }

    /// Returns whether a tensor is that of a prediction layer that is initialized again for other classes.
    fn replaces(&self, name: &str) -> bool {
        (self.checkpoint != self.dataset || self.has_other_names) && self.is_prediction_layer(name)
    }

    /// Returns whether a tensor has to match with strict loading.
    fn has_to_match(&self, name: &str) -> bool {
        if self.is_other_task {
            name.starts_with("backbone.")
        } else {
            !self.replaces(name)
        }
    }

    /// Brings the prediction layers into the order of the classes, or removes those of other classes.
    fn fit_layers(&self, weights: &mut NamedTensors, task: Task) {
        if let Some(order) = &self.order {
            for (name, tensor) in weights.iter_mut() {
                if self.is_prediction_layer(name) {
                    *tensor = with_outputs_in(order, tensor, task);
                }
            }
        }
        if self.has_other_names {
            weights.retain(|name, _| !self.is_prediction_layer(name));
        }
    }

    /// Describes how the classes differ, if they do.
    fn notice(&self, given: &ModelSpec, wanted: &ModelSpec) -> Option<Notice> {
        let (checkpoint, dataset) = (self.checkpoint, self.dataset);
        if self.is_other_task {
            Some(Notice::ClassificationCheckpoint)
        } else if checkpoint != dataset {
            Some(Notice::OtherClasses {
                checkpoint,
                dataset,
            })
        } else if self.has_other_names {
            let difference = differing_names(
                ("the checkpoint", &given.class_names()),
                ("the dataset", &wanted.class_names()),
            );
            Some(Notice::OtherClassNames { difference })
        } else {
            self.order.as_ref().map(|_| Notice::ReorderedClasses)
        }
    }
}

/// Checks that every tensor matches, for strict loading. `known` are the names in the file, `random` those of the
/// network that got none, and `unused` the tensors that are left.
fn check_all_match(
    path: &Path,
    classes: &GivenClasses,
    known: &BTreeSet<String>,
    random: &[String],
    unused: &NamedTensors,
) -> Result<(), LoadError> {
    let random = random.iter().filter(|name| classes.has_to_match(name));
    let (mismatched, missing) = random.partition::<Vec<_>, _>(|name| known.contains(*name));
    let unused = unused.keys().filter(|name| classes.has_to_match(name));
    let unused = unused.count();
    if mismatched.len() + missing.len() + unused == 0 {
        return Ok(());
    }
    Err(LoadError::NotStrict {
        path: path.to_path_buf(),
        missing: missing.len(),
        mismatched: mismatched.len(),
        unused,
    })
}

/// Reports the SE units that are added to the weights of a plain network, if they begin as the identity, and
/// returns the names of the other tensors with random values.
fn without_grafted_units(
    random: Vec<String>,
    given: &ModelSpec,
    spec: &ModelSpec,
    observer: &mut dyn Observer,
) -> Vec<String> {
    let starts_as_identity = |units: &SeConfig| units.start == SeStart::Identity;
    if given.backbone().se().is_some() || !spec.backbone().se().is_some_and(starts_as_identity) {
        return random;
    }
    let (units, random): (Vec<_>, Vec<_>) = random.into_iter().partition(|name| is_of_unit(name));
    observer.notice(&Notice::GraftedUnits {
        units: units
            .iter()
            .filter(|name| name.ends_with(".fc1.weight"))
            .count(),
        keeps_outputs: !random.iter().any(|name| name.starts_with("backbone.")),
    });
    random
}

/// Returns the label in given weights of each class of a model, if both have the same classes by name.
fn labels_by_name(given: &ModelSpec, wanted: &ModelSpec) -> Option<Vec<usize>> {
    let have_names = !given.categories.is_empty() && !wanted.categories.is_empty();
    if !have_names || given.num_classes() != wanted.num_classes() {
        return None;
    }
    let labels = positions_by_name(&wanted.class_names(), &given.class_names());
    labels.into_iter().collect()
}

/// Returns a tensor of a prediction layer with the outputs of its classes in another order. `order` has the present
/// label of each class.
///
/// # Shapes
/// The last dimension is that of the outputs: one or four for each class, and for a detector as many for the
/// background, which is first. A tensor of another shape is returned as it is.
fn with_outputs_in(order: &[usize], tensor: &TensorData, task: Task) -> TensorData {
    let background = usize::from(task == Task::Detection);
    let groups = order.len() + background;
    let outputs = tensor.shape()[..].last().copied().unwrap_or_default();
    let per_class = outputs / groups;
    if per_class == 0 || !outputs.is_multiple_of(groups) {
        return tensor.clone();
    }
    let moved = order.iter().map(|label| label + background);
    let from: Vec<usize> = (0..background).chain(moved).collect();
    let values: Vec<f32> = tensor.iter::<f32>().collect();
    let rows = values.chunks(outputs).flat_map(|row| {
        let of_group = |&group: &usize| &row[group * per_class..(group + 1) * per_class];
        from.iter().flat_map(of_group).copied()
    });
    TensorData::new(rows.collect::<Vec<f32>>(), tensor.shape().clone())
}

/// Checks that initial weights are those of the backbone to train, tensor by tensor. SE units may be missing: they are
/// added to the weights of a plain network. `missing` tensors of the file are random. With `allows_other`, the tensors that
/// fit are enough.
///
/// A network of another depth shares some names and shapes: of a deeper one a part would be loaded, and of a shallower
/// one all between layers with random weights.
pub(super) fn check_backbone(
    backbone: &BackboneConfig,
    weights: &LoadedWeights,
    missing: &[String],
    path: &Path,
    allows_other: bool,
) -> Result<(), RunError> {
    /// The side of an input that is large enough for every backbone, in pixels.
    const SIDE: usize = 512;
    let given = weights.spec.backbone();
    let network = backbone.init(&Device::flex());
    // A backbone for images of 32 pixels has another stem than one of a detector, which keeps its own.
    let stem: Vec<String> = if given.pyramid_parts().is_err() && backbone.pyramid_parts().is_ok() {
        let parts = network.layers_of_parts([SIDE; 2]).unwrap_or_default();
        let layers = parts.into_iter().take(1).flatten();
        layers.map(|layer| format!("{}.", layer.name)).collect()
    } else {
        Vec::new()
    };
    let shapes = named_shapes(&network);
    let required = shapes.iter().filter(|(name, _)| {
        !is_of_unit(name) && !stem.iter().any(|layer| name.starts_with(layer.as_str()))
    });
    let fits = |name: &str, shape: &[usize]| {
        let name = format!("backbone.{name}");
        let found = weights.weights.get(&name);
        !missing.contains(&name) && found.is_some_and(|found| found.shape().iter().eq(shape))
    };
    let (mut all, mut fitting) = (0, 0);
    for (name, shape) in required {
        all += 1;
        fitting += usize::from(fits(name, shape));
    }
    let in_file = weights.weights.keys();
    let in_file = in_file.filter_map(|name| name.strip_prefix("backbone."));
    let unused = in_file
        .filter(|name| !is_of_unit(name) && !shapes.contains_key(*name))
        .count();
    if (fitting < all || unused > 0) && !allows_other {
        return Err(RunError::OtherBackbone {
            path: path.to_path_buf(),
            wanted: title_of(backbone),
            given: title_of(&given),
            fitting,
            all,
            unused,
        });
    }
    if fitting == 0 && backbone.norm().kind == NormKind::Frozen {
        return Err(RunError::FrozenBackbone {
            path: path.to_path_buf(),
        });
    }
    Ok(())
}

/// Returns the name of a backbone, with its width if it is not the published one, or else that of its family.
fn title_of(backbone: &BackboneConfig) -> String {
    let mut published = backbone.clone();
    if let Some(units) = published.common_mut().se {
        *units = SeConfig::default();
    }
    let name = name_of(&published).unwrap_or_else(|| match backbone {
        BackboneConfig::Resnet(net) => {
            let blocks = net.layers.map(|blocks| blocks.to_string());
            format!("a ResNet with {} blocks", blocks.join(", "))
        }
        other => format!("a {}", other.family_title()),
    });
    match backbone.width_multiplier() {
        1.0 => name,
        width => format!("{name} (width {width})"),
    }
}

/// Returns the tensors of a model with those of given weights wherever name and shape agree, the
/// number of those, and the names of the others.
fn matching(model: &impl Module, given: &mut NamedTensors) -> (NamedTensors, usize, Vec<String>) {
    let mut tensors = named_tensors(model);
    let (mut loaded, mut random) = (0, Vec::new());
    for (name, tensor) in &mut tensors {
        match given.remove(name) {
            Some(found) if found.shape() == tensor.shape() => {
                *tensor = found;
                loaded += 1;
            }
            _ => random.push(name.clone()),
        }
    }
    (tensors, loaded, random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::zoo::network;
    use crate::classification::classifier::ClassifierConfig;
    use crate::model::{Model, Network};
    use sedet_data::loading::transforms::Preprocess;

    #[test]
    fn outputs_of_prediction_layers_are_reordered_by_class() {
        let tensor = |values: Vec<f32>, shape: [usize; 2]| TensorData::new(values, shape);
        let numbers = |data: &TensorData| data.iter::<f32>().collect::<Vec<_>>();
        let order = [2, 0, 1];
        let classifier = tensor(vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0], [2, 3]);
        let found = with_outputs_in(&order, &classifier, Task::Classification);
        assert_eq!(numbers(&found), [2.0, 0.0, 1.0, 12.0, 10.0, 11.0]);
        // The background is first; its outputs stay.
        let bias = TensorData::new(vec![-1.0_f32, 0.0, 1.0, 2.0], [4]);
        let found = with_outputs_in(&order, &bias, Task::Detection);
        assert_eq!(numbers(&found), [-1.0, 2.0, 0.0, 1.0]);
        let boxes = tensor((0..16).map(|n| n as f32).collect(), [1, 16]);
        let found = with_outputs_in(&order, &boxes, Task::Detection);
        let expected = [0, 1, 2, 3, 12, 13, 14, 15, 4, 5, 6, 7, 8, 9, 10, 11];
        assert_eq!(numbers(&found), expected.map(|n| n as f32));
        let other = tensor(vec![0.0; 5], [1, 5]);
        assert_eq!(with_outputs_in(&order, &other, Task::Detection), other);
    }

    /// Keeps the notices.
    #[derive(Default)]
    struct Notices(Vec<String>);

    impl Observer for Notices {
        fn step(&mut self, _: &crate::train::progress::StepReport<'_>) {}
        fn evaluating(&mut self, _: usize) {}
        fn evaluated(&mut self, _: usize, _: &crate::train::progress::EpochEvaluation, _: bool) {}
        fn notice(&mut self, notice: &Notice) {
            self.0.push(notice.to_string());
        }
    }

    #[test]
    fn weights_with_the_classes_in_another_order_predict_the_same_names() {
        let device = Device::flex();
        let config = ClassifierConfig::new(network("resnet20").unwrap().backbone, 3);
        let spec = |names: [&str; 3]| {
            let preprocess = Preprocess::imagenet_eval();
            ModelSpec::classifier(config.clone(), preprocess, names.map(String::from))
        };
        let (given, wanted) = (spec(["cat", "dog", "cow"]), spec(["cow", "Cat", "dog"]));
        device.seed(4);
        let trained = config.init(&device);
        let loaded = LoadedWeights {
            spec: given.clone(),
            weights: named_tensors(&trained),
            report: None,
        };
        let from = InitialWeights {
            path: Path::new("a.safetensors"),
            strict: true,
            sizes: SizesOf {
                recipe: "small".into(),
                keeping: None,
            },
        };
        let mut notices = Notices::default();
        let model = config.init(&device);
        let model = initialize(model, loaded, &from, &wanted, &mut notices);
        let model = model.unwrap_or_else(|error| panic!("{error}"));
        let reordered = "weights: the checkpoint has the classes in another order: reordering the prediction \
                         layers by name";
        assert_eq!(notices.0.last().map(String::as_str), Some(reordered));
        let image = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8, y as u8, 9]));
        let logits = |network, spec: &ModelSpec| {
            let network = Network::Classifier(network);
            let model = Model::new(network, spec.clone(), Path::new("a"), &device);
            model
                .logits(std::slice::from_ref(&image))
                .unwrap()
                .remove(0)
        };
        let (before, after) = (logits(trained, &given), logits(model, &wanted));
        assert_eq!(after, [before[2], before[0], before[1]]);
    }
}
