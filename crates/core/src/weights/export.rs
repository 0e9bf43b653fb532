//! Export of weights with the tensor names of another library.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, View};

use super::checkpoint::{CheckpointError, write_safetensors};
use super::import::{foreign_shape, to_foreign};
use super::layouts::{ClassifierNames, DetectorNames, Form, Library, Names};
use super::parameters::NamedTensors;
use crate::backbones::BackboneConfig;
use crate::spec::NetworkConfig;

/// An error in exporting weights.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The library has no equivalent network.
    #[error("no export with the tensor names of {library}: {reason}")]
    NoSuchNetwork {
        /// The library.
        library: Library,
        /// The reason.
        reason: String,
    },
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] CheckpointError),
}

/// A tensor of the export. Its values are rearranged when they are written.
struct Ready<'a> {
    values: &'a burn::tensor::TensorData,
    shape: Vec<usize>,
    form: Form,
}

impl View for Ready<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let values: Vec<f32> = self.values.iter::<f32>().collect();
        let values = to_foreign(&values, self.values.shape(), self.form);
        Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
    fn data_len(&self) -> usize {
        4 * self.shape.iter().product::<usize>()
    }
}

/// Returns a library's names for the tensors of a network.
///
/// # Errors
/// The reason why the library has no equivalent network.
pub fn names_for(library: Library, network: &NetworkConfig) -> Result<Names, ExportError> {
    let names = match (library, network) {
        (_, NetworkConfig::Classification(model)) => match &model.backbone {
            BackboneConfig::Resnet(backbone) => {
                ClassifierNames::for_export(library, backbone).map(Names::Classifier)
            }
            other => Err(format!(
                "only ResNets have them, and this network is {}",
                other.family_title()
            )),
        },
        (Library::Torchvision, NetworkConfig::Detection(model)) => {
            DetectorNames::for_export(model).map(Names::Detector)
        }
        (Library::Timm, NetworkConfig::Detection(_)) => Err("it has no detectors".into()),
    };
    names.map_err(|reason| ExportError::NoSuchNetwork { library, reason })
}

/// Writes weights as safetensors with the names of another library, or with native names if `names`
/// is `None`. `load_state_dict(load_file(path), strict=True)` loads the file.
///
/// # Errors
/// The system error.
pub fn export(
    weights: &NamedTensors,
    names: Option<&Names>,
    path: &Path,
) -> Result<(), ExportError> {
    let tensors: BTreeMap<String, Ready<'_>> = weights
        .iter()
        .filter_map(|(native, values)| {
            let (name, form) = match names {
                None => (native.clone(), Form::AsIs),
                Some(names) => {
                    let external = names.external(native);
                    (external.name, external.form)
                }
            };
            let ready = Ready {
                shape: foreign_shape(values.shape(), form),
                values,
                form,
            };
            (form != Form::Absent).then_some((name, ready))
        })
        .collect();
    write_safetensors(path, tensors, None)?;
    Ok(())
}
