//! Export of models to ONNX, for runtimes other than burn.
//!
//! The graph of a network follows from the operations that it traces (`backbones.rs`), that of a detector's
//! other parts from their layers (`detector.rs`); the weights keep their names and values. Sizes are dynamic. The preprocessing of images is
//! described in the file's metadata. burn-onnx also has an export (experimental feature `export`),
//! but it traces tensor operations and does not support slicing an axis of unknown length, which
//! CIFAR networks require.

mod backbones;
mod detector;
mod graph;
pub mod messages;
mod stream;

pub use stream::{OnnxModel, OnnxWriteError};

use burn::tensor::Device;

use self::Dimension::{Fixed, Free};
use self::detector::{BOXES, LABELS, SCORES};
use self::graph::{GraphBuilder, INPUT, LOGITS, OPSET};
use self::messages::{
    DataType, DimensionProto, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::checkpoint::Precision;
use super::parameters::{NamedTensors, ParameterError, check_named_tensors};
use crate::classification::classifier::ClassifierConfig;
use crate::detection::faster_rcnn::FasterRcnnConfig;
use crate::spec::{ModelSpec, NetworkConfig, SpecError};

/// Version of the file format: that of ONNX 1.12, which introduced [`OPSET`].
const IR_VERSION: i64 = 8;

/// Protobuf's limit for a message: lengths are signed 32-bit numbers.
const MAX_BYTES: usize = i32::MAX as usize;

/// An error in exporting an ONNX file.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The outputs before non-maximum suppression of a model without it.
    #[error("a classifier has no outputs before non-maximum suppression")]
    RawClassifier,
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

/// Options of [`to_onnx`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// Precision of the stored filters and matrices. The computation is in 32 bits.
    pub precision: Precision,
    /// Whether a detector ends with the boxes and scores of all proposals and classes, for programs
    /// that filter them on their own.
    pub raw: bool,
}

/// Returns a model as ONNX (opset 17). All tensors except labels are float32.
///
/// # Shapes
/// - Classifier: `pixels` `[batch, 3, height, width]` to `logits` `[batch, classes]`.
/// - Detector: `pixels` `[1, 3, height, width]`, one image without padding, to `boxes`
///   `[detections, 4]` (left, top, right, bottom in pixels of the input), `labels` `[detections]`
///   (64-bit indices of the category names) and `scores` `[detections]`, by decreasing score: the
///   result of [`FasterRcnn::detect`](crate::detection::faster_rcnn::FasterRcnn::detect). With
///   [`OnnxOptions::raw`] to `boxes` `[proposals, classes, 4]` and `scores` `[proposals, classes]`,
///   before score threshold and non-maximum suppression within classes; that of the RPN is part of
///   the graph.
///
/// The metadata has JSON entries: `preprocess`, the fields of
/// [`Preprocess`](sedet_data::loading::transforms::Preprocess), and `categories`, the names in the
/// order of the classes, if the spec has categories; for detectors also `category_ids`, their ids in
/// the dataset. The same input gives the same bytes.
///
/// # Errors
/// The model has 2 GiB or more, the weights or category names do not match the network, or raw
/// outputs of a classifier are asked for.
pub fn to_onnx<'a>(
    spec: &ModelSpec,
    weights: &'a NamedTensors,
    options: OnnxOptions,
) -> Result<OnnxModel<'a>, OnnxError> {
    let model = model_proto(spec, weights, options.raw)?;
    let model = OnnxModel::new(model, weights, options.precision);
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
fn model_proto(
    spec: &ModelSpec,
    weights: &NamedTensors,
    is_raw: bool,
) -> Result<ModelProto, OnnxError> {
    spec.validate()?;
    let graph = match &spec.network {
        NetworkConfig::Classification(_) if is_raw => return Err(OnnxError::RawClassifier),
        NetworkConfig::Classification(model) => classifier(model, weights)?,
        NetworkConfig::Detection(model) => {
            detector(model, weights, spec.preprocess.size_divisor, is_raw)?
        }
    };
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: key.into(),
        value,
    };
    let mut metadata_props = vec![entry(
        "preprocess",
        serde_json::to_string(&spec.preprocess)?,
    )];
    if !spec.categories.is_empty() {
        let names: Vec<&str> = spec.categories.iter().map(|c| c.name.as_str()).collect();
        metadata_props.push(entry("categories", serde_json::to_string(&names)?));
        if let NetworkConfig::Detection(_) = spec.network {
            let ids: Vec<u64> = spec.categories.iter().map(|c| c.id).collect();
            metadata_props.push(entry("category_ids", serde_json::to_string(&ids)?));
        }
    }
    Ok(ModelProto {
        ir_version: Some(IR_VERSION),
        // Without a version, so that a file depends on the network only.
        producer_name: "sedet".into(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: Some(OPSET),
        }],
        metadata_props,
    })
}

fn classifier(model: &ClassifierConfig, weights: &NamedTensors) -> Result<GraphProto, OnnxError> {
    // Only the structure is used: initial values are drawn lazily.
    let layers = model.init(&Device::flex());
    check_named_tensors(&layers, weights)?;
    let GraphBuilder { nodes, constants } = GraphBuilder::classifier(&layers);
    let input = tensor(
        INPUT,
        DataType::Float,
        &[Free("batch"), Fixed(3), Free("height"), Free("width")],
    );
    let logits = [Free("batch"), Fixed(model.num_classes)];
    Ok(GraphProto {
        node: nodes,
        name: "classifier".into(),
        initializer: constants,
        input: vec![ValueInfoProto {
            doc_string: "RGB or BGR planes of (value * scale - mean) / std with values of 0 to \
                             255; see the metadata entry `preprocess`"
                .into(),
            ..input
        }],
        output: vec![tensor(LOGITS, DataType::Float, &logits)],
    })
}

fn detector(
    model: &FasterRcnnConfig,
    weights: &NamedTensors,
    size_divisor: usize,
    is_raw: bool,
) -> Result<GraphProto, OnnxError> {
    let layers = model.init(&Device::flex());
    check_named_tensors(&layers, weights)?;
    let GraphBuilder { nodes, constants } = GraphBuilder::detector(&layers, size_divisor, is_raw);
    let input = tensor(
        INPUT,
        DataType::Float,
        &[Fixed(1), Fixed(3), Free("height"), Free("width")],
    );
    let rows = Free(if is_raw { "proposals" } else { "detections" });
    let classes = Fixed(model.num_classes);
    let output = if is_raw {
        vec![
            tensor(BOXES, DataType::Float, &[rows, classes, Fixed(4)]),
            tensor(SCORES, DataType::Float, &[rows, classes]),
        ]
    } else {
        vec![
            tensor(BOXES, DataType::Float, &[rows, Fixed(4)]),
            tensor(LABELS, DataType::Int64, &[rows]),
            tensor(SCORES, DataType::Float, &[rows]),
        ]
    };
    let documented = |value: ValueInfoProto| {
        let doc = match value.name.as_str() {
            BOXES => "left, top, right, bottom in pixels of the input",
            LABELS => "index of the class in the metadata entry `categories`",
            _ => "probability of the class",
        };
        ValueInfoProto {
            doc_string: doc.into(),
            ..value
        }
    };
    Ok(GraphProto {
        node: nodes,
        name: "detector".into(),
        initializer: constants,
        input: vec![ValueInfoProto {
            doc_string: "an image resized to a short side of `min_size` pixels, the long side at most \
                         `max_size`, without padding: RGB or BGR planes of (value * scale - mean) / std \
                         with values of 0 to 255; see the metadata entry `preprocess`"
                .into(),
            ..input
        }],
        output: output.into_iter().map(documented).collect(),
    })
}

/// A dimension of an input or output.
#[derive(Debug, Clone, Copy)]
enum Dimension {
    Fixed(usize),
    /// Chosen by the caller or the network; dimensions of the same name have the same size.
    Free(&'static str),
}

fn tensor(name: &str, element: DataType, shape: &[Dimension]) -> ValueInfoProto {
    let dim = shape.iter().map(|dimension| match *dimension {
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
                elem_type: element.into(),
                shape: Some(TensorShapeProto { dim: dim.collect() }),
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
