//! Export of classifiers to ONNX, for runtimes other than burn.
//!
//! The graph is derived from the layers of the module (`graph.rs`); the weights keep their names
//! and values. Batch, height and width are dynamic. The preprocessing of images is described in the
//! file's metadata. burn-onnx also has an export (experimental feature `export`), but it traces
//! tensor operations and does not support slicing an axis of unknown length, which CIFAR networks
//! require.

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
use sedet_nn::nn::se::{SeConfig, SeStart};

/// Version of the file format: that of ONNX 1.12, which introduced [`OPSET`].
const IR_VERSION: i64 = 8;

/// Protobuf's limit for a message: lengths are signed 32-bit numbers.
const MAX_BYTES: usize = i32::MAX as usize;

/// An error in exporting an ONNX file.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The model is a detector. Proposals and non-maximum suppression differ between runtimes, so
    /// only classifiers are exported.
    #[error("ONNX export supports classifiers only; this model is a detector")]
    Detector,
    /// The network has a variant of the SE unit, from the ablations of the SE paper, which is not
    /// supported.
    #[error("ONNX export does not support variants of the SE unit")]
    SeVariant,
    /// The network is of an unsupported family.
    #[error("ONNX export supports ResNet and SE-ResNet only; this network is {0}")]
    Family(&'static str),
    /// The model description is inconsistent.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The weights belong to another network.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// The metadata cannot be serialized.
    #[error("cannot serialize the metadata: {0}")]
    Json(#[from] serde_json::Error),
    /// The file would exceed protobuf's size limit.
    #[error("the model would have {bytes} bytes; the limit of an ONNX file is {MAX_BYTES}")]
    TooLarge {
        /// Size of the file.
        bytes: usize,
    },
}

/// Returns a classifier as an ONNX model (opset 17) from `pixels` `[batch, 3, height, width]` to
/// `logits` `[batch, classes]`. All tensors are float32; batch, height and width are dynamic.
///
/// The metadata has two entries, both JSON: `preprocess`, the fields of
/// [`Preprocess`](sedet_data::loading::transforms::Preprocess), and `categories`, the names in the
/// order of the logits, if the spec has categories. The same input gives the same bytes.
///
/// # Errors
/// The model is a detector, has a variant of the SE unit, or has 2 GiB or more; the weights or
/// category names do not match the network.
pub fn to_onnx<'a>(
    spec: &ModelSpec,
    weights: &'a NamedTensors,
) -> Result<OnnxModel<'a>, OnnxError> {
    let model = OnnxModel::new(model_proto(spec, weights)?, weights);
    check_size(model.len())?;
    Ok(model)
}

fn check_size(bytes: usize) -> Result<(), OnnxError> {
    if bytes > MAX_BYTES {
        Err(OnnxError::TooLarge { bytes })
    } else {
        Ok(())
    }
}

/// Returns the model without its weights.
fn model_proto(spec: &ModelSpec, weights: &NamedTensors) -> Result<ModelProto, OnnxError> {
    let NetworkConfig::Classification(model) = &spec.network else {
        return Err(OnnxError::Detector);
    };
    let is_variant = |se: &SeConfig| {
        let paper = SeConfig {
            start: SeStart::Paper,
            ..*se
        };
        !paper.is_published()
    };
    if model.backbone.se().is_some_and(is_variant) {
        return Err(OnnxError::SeVariant);
    }
    spec.validate()?;
    // Only the structure is used: initial values are drawn lazily.
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
    let GraphBuilder { nodes, constants } = GraphBuilder::classifier(&layers)
        .ok_or(OnnxError::Family(model.backbone.family_title()))?;
    Ok(ModelProto {
        ir_version: Some(IR_VERSION),
        // Without a version, so that a file depends on the network only.
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

/// A dimension of an input or output.
enum Extent {
    Fixed(usize),
    /// Chosen by the caller; dimensions of the same name have the same size.
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
