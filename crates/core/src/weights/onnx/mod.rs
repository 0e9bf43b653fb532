//! Classifiers as ONNX files, for runtimes that know neither sedet nor burn.
//!
//! The graph is read off the layers that compute here (`graph.rs`); the weights keep their names
//! and values. Batch, height and width stay open. What an image must become before it is fed
//! stands in the file's metadata. burn-onnx can export too (its feature `export`, experimental),
//! but it traces tensor operations and does not slice an axis of unknown length, as CIFAR networks
//! do.

mod graph;
pub mod messages;
mod stream;

pub use stream::{OnnxModel, OnnxWriteError};

use burn::tensor::Device;

use self::Extent::{Fixed, Free};
use self::graph::{GraphBuilder, INPUT, OPSET, OUTPUT};
use self::messages::{
    DataType, DimensionProto, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::parameters::{NamedTensors, ParameterError, check_named_tensors};
use crate::spec::{ModelSpec, NetworkConfig, SpecError};

/// Version of the file format: the one of ONNX 1.12, which also brought [`OPSET`].
const IR_VERSION: i64 = 8;

/// Protobuf's limit for a message: lengths are signed 32-bit numbers.
const MAX_BYTES: usize = i32::MAX as usize;

/// Why there is no ONNX file.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// Only classifiers have a graph that every runtime computes alike: proposals and non-maximum
    /// suppression do not.
    #[error("ONNX export is for classifiers, and this is a detector")]
    Detector,
    /// A unit of the SE paper's ablations, for which no graph is built.
    #[error("ONNX export has the SE unit as published only, and this network has a variant of it")]
    SeVariant,
    /// A classifier of another build.
    #[error("ONNX export is for ResNets and their SE forms, and this is a network of family {0}")]
    Family(&'static str),
    /// A description that contradicts itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Weights of another network.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// The metadata.
    #[error("no JSON of the metadata: {0}")]
    Json(#[from] serde_json::Error),
    /// More than protobuf allows.
    #[error("the model would have {bytes} bytes; an ONNX file can have {MAX_BYTES}")]
    TooLarge {
        /// Size of the file.
        bytes: usize,
    },
}

/// A classifier as ONNX (opset 17): `pixels` `[batch, 3, height, width]` to `logits`
/// `[batch, classes]`, all float32, batch, height and width free.
///
/// The metadata has two entries, both JSON: `preprocess`, the fields of
/// [`Preprocess`](sedet_data::loading::transforms::Preprocess), and `categories`, the names in the order of
/// the logits, where the spec has categories. The same input gives the same bytes.
///
/// # Errors
/// A detector; a variant of the SE unit; weights or category names that don't fit the network; a model of 2 GiB or more.
pub fn to_onnx<'a>(
    spec: &ModelSpec,
    weights: &'a NamedTensors,
) -> Result<OnnxModel<'a>, OnnxError> {
    let model = OnnxModel::new(model_proto(spec, weights)?, weights);
    check_size(model.len())?;
    Ok(model)
}

fn check_size(bytes: usize) -> Result<(), OnnxError> {
    match bytes > MAX_BYTES {
        true => Err(OnnxError::TooLarge { bytes }),
        false => Ok(()),
    }
}

/// The model without its weights.
fn model_proto(spec: &ModelSpec, weights: &NamedTensors) -> Result<ModelProto, OnnxError> {
    let NetworkConfig::Classification(model) = &spec.network else {
        return Err(OnnxError::Detector);
    };
    if model.backbone.se().is_some_and(|se| !se.is_published()) {
        return Err(OnnxError::SeVariant);
    }
    spec.validate()?;
    // For its structure only: initial values are drawn when they are first used.
    let layers = model.init(&Device::flex());
    check_named_tensors(&layers, weights)?;
    let mut metadata_props = vec![StringStringEntryProto {
        key: "preprocess".into(),
        value: serde_json::to_string(&spec.preprocess)?,
    }];
    if !spec.categories.is_empty() {
        let names: Vec<&str> = spec.categories.iter().map(|c| c.name.as_str()).collect();
        metadata_props.push(StringStringEntryProto {
            key: "categories".into(),
            value: serde_json::to_string(&names)?,
        });
    }
    let GraphBuilder { nodes, constants } =
        GraphBuilder::classifier(&layers).ok_or(OnnxError::Family(model.backbone.family()))?;
    Ok(ModelProto {
        ir_version: Some(IR_VERSION),
        // Without a version, so that a file depends on nothing but the network.
        producer_name: "sedet".into(),
        graph: Some(GraphProto {
            node: nodes,
            name: "classifier".into(),
            initializer: constants,
            input: vec![ValueInfoProto {
                doc_string:
                    "RGB or BGR planes of (value * scale - mean) / std with values of 0 to \
                             255; see the metadata entry `preprocess`"
                        .into(),
                ..float_tensor(
                    INPUT,
                    [Free("batch"), Fixed(3), Free("height"), Free("width")],
                )
            }],
            output: vec![float_tensor(
                OUTPUT,
                [Free("batch"), Fixed(model.num_classes)],
            )],
        }),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: Some(OPSET),
        }],
        metadata_props,
    })
}

/// An extent of an input or output.
enum Extent {
    Fixed(usize),
    /// Chosen by the caller; the same name is the same extent.
    Free(&'static str),
}

fn float_tensor<const D: usize>(name: &str, shape: [Extent; D]) -> ValueInfoProto {
    let dim = shape.map(|extent| match extent {
        Fixed(value) => DimensionProto {
            dim_value: Some(value as i64),
            dim_param: None,
        },
        Free(name) => DimensionProto {
            dim_value: None,
            dim_param: Some(name.into()),
        },
    });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: DataType::Float.into(),
                shape: Some(TensorShapeProto { dim: dim.into() }),
            }),
        }),
        doc_string: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_two_gibibytes_is_refused() {
        assert!(check_size(2_147_483_647).is_ok());
        let message = check_size(2_147_483_648).unwrap_err().to_string();
        assert!(message.contains("2147483648 bytes"), "{message}");
    }
}
