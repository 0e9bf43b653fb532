//! Export of weights with the tensor names of another library.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::tensor::TensorData;
use half::f16;
use safetensors::tensor::{Dtype, View};

use super::checkpoint::{CheckpointError, METADATA_KEY, Precision, bytes_of, write_safetensors};
use super::import::{third_party_shape, to_third_party};
use super::layouts::{ClassifierNames, DetectorNames, Form, Library, Names};
use super::parameters::NamedTensors;
use crate::backbones::BackboneConfig;
use crate::spec::{ModelSpec, NetworkConfig};

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
    values: &'a TensorData,
    shape: Vec<usize>,
    form: Form,
    dtype: Dtype,
}

/// Returns whether a tensor is exported in half precision: filters and matrices of numbers that half
/// precision reaches. Biases and norms are few numbers, and statistics close to zero would become zero.
pub(super) fn is_half(values: &TensorData, precision: Precision) -> bool {
    let largest = f16::MAX.to_f32();
    precision == Precision::Half
        && values.shape().len() > 1
        && values.iter::<f32>().all(|value| value.abs() <= largest)
}

impl View for Ready<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let values: Vec<f32> = self.values.iter::<f32>().collect();
        let values = to_third_party(&values, self.values.shape(), self.form);
        Cow::Owned(bytes_of(values.into_iter(), self.dtype))
    }
    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
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

/// Writes weights as safetensors with the names of another library. `load_state_dict(load_file(path),
/// strict=True)` loads the file.
///
/// # Errors
/// The system error.
pub fn export(
    weights: &NamedTensors,
    names: &Names,
    precision: Precision,
    path: &Path,
) -> Result<(), ExportError> {
    write(weights, Some(names), precision, None, path)
}

/// Writes weights as safetensors with native names. The description of the model is in the file's
/// metadata, so that the file is a checkpoint for inference.
///
/// # Errors
/// The system error.
pub fn export_native(
    spec: &ModelSpec,
    weights: &NamedTensors,
    precision: Precision,
    path: &Path,
) -> Result<(), ExportError> {
    let description = spec
        .to_header()
        .map_err(|source| CheckpointError::not_written(path, source.into()))?;
    let header = HashMap::from([(METADATA_KEY.to_string(), description.to_string())]);
    write(weights, None, precision, Some(header), path)
}

fn write(
    weights: &NamedTensors,
    names: Option<&Names>,
    precision: Precision,
    header: Option<HashMap<String, String>>,
    path: &Path,
) -> Result<(), ExportError> {
    let tensors: BTreeMap<String, Ready<'_>> = weights
        .iter()
        .filter_map(|(native, values)| {
            let (name, form) = match names {
                None => (native.clone(), Form::AsIs),
                Some(names) => {
                    let third_party = names.third_party(native);
                    (third_party.name, third_party.form)
                }
            };
            let ready = Ready {
                shape: third_party_shape(values.shape(), form),
                values,
                form,
                dtype: if is_half(values, precision) {
                    Dtype::F16
                } else {
                    Dtype::F32
                },
            };
            (form != Form::Absent).then_some((name, ready))
        })
        .collect();
    write_safetensors(path, tensors, header)?;
    Ok(())
}
