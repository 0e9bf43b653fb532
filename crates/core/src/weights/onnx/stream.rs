//! Streaming writer for ONNX models that does not copy all weights.
//!
//! Protobuf allows fields in any order, and the elements of a list separately. Everything except
//! the weights is encoded in memory; the weights follow as additional initializers of the graph,
//! whose length is known in advance.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use half::f16;
use prost::Message as _;
use prost::{encode_length_delimiter, length_delimiter_len};

use super::graph::cast;
use super::messages::{DataType, ModelProto, TensorProto};
use crate::weights::checkpoint::Precision;
use crate::weights::export::is_half;
use crate::weights::parameters::NamedTensors;
use sedet_data::atomic::write_atomically;

/// The first byte of a field that has a length before its content (protobuf's wire type 2). Field
/// numbers above 15 would require a second byte.
const fn key(field: u8) -> u8 {
    field << 3 | 2
}

const MODEL_GRAPH: u8 = key(7);
const GRAPH_INITIALIZER: u8 = key(5);
const TENSOR_RAW_DATA: u8 = key(9);

/// Disk full, no permission, no directory.
#[derive(Debug, thiserror::Error)]
#[error("{}: not written: {source}", path.display())]
pub struct OnnxWriteError {
    /// The file.
    pub path: PathBuf,
    /// The system error.
    pub source: io::Error,
}

/// A model that can be written. Its weights are borrowed.
#[derive(Debug)]
pub struct OnnxModel<'a> {
    /// The encoded model without the graph.
    model: Vec<u8>,
    /// The encoded graph without the weights.
    graph: Vec<u8>,
    weights: Vec<Weight<'a>>,
}

#[derive(Debug)]
struct Weight<'a> {
    /// The encoded tensor without the values.
    header: Vec<u8>,
    values: &'a TensorData,
    is_half: bool,
}

impl Weight<'_> {
    fn value_bytes(&self) -> usize {
        let size = if self.is_half {
            size_of::<f16>()
        } else {
            size_of::<f32>()
        };
        size * self.values.num_elements()
    }

    fn len(&self) -> usize {
        self.header.len() + field_len(self.value_bytes())
    }
}

impl<'a> OnnxModel<'a> {
    /// Creates a model. `weights` are the inputs of the graph's nodes; they become initializers of
    /// the graph. Those in half precision have the suffix `.f16`, and a node converts them.
    pub(super) fn new(
        mut model: ModelProto,
        weights: &'a NamedTensors,
        precision: Precision,
    ) -> Self {
        let mut graph = model.graph.take().unwrap_or_default();
        let mut conversions = Vec::new();
        let mut initializers = Vec::with_capacity(weights.len());
        for (name, values) in weights {
            let is_half = is_half(values, precision);
            let (stored, data_type) = if is_half {
                let stored = format!("{name}.f16");
                conversions.push(cast(name, DataType::Float, &stored));
                (stored, DataType::Float16)
            } else {
                (name.clone(), DataType::Float)
            };
            let header = TensorProto {
                dims: values.shape().iter().map(|&size| size as i64).collect(),
                data_type: data_type.into(),
                name: stored,
                raw_data: Vec::new(),
            };
            initializers.push(Weight {
                header: header.encode_to_vec(),
                values,
                is_half,
            });
        }
        conversions.append(&mut graph.node);
        graph.node = conversions;
        Self {
            model: model.encode_to_vec(),
            graph: graph.encode_to_vec(),
            weights: initializers,
        }
    }

    fn graph_len(&self) -> usize {
        let weights = self.weights.iter().map(|weight| field_len(weight.len()));
        self.graph.len() + weights.sum::<usize>()
    }

    /// Returns the size of the file in bytes.
    pub(super) fn len(&self) -> usize {
        self.model.len() + field_len(self.graph_len())
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// The system error, with the path; an existing file of that name is unchanged.
    pub fn save(&self, path: &Path) -> Result<(), OnnxWriteError> {
        write_atomically(path, |out| self.write(out)).map_err(|source| OnnxWriteError {
            path: path.to_path_buf(),
            source,
        })
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.model)?;
        start_field(out, MODEL_GRAPH, self.graph_len())?;
        out.write_all(&self.graph)?;
        for weight in &self.weights {
            start_field(out, GRAPH_INITIALIZER, weight.len())?;
            out.write_all(&weight.header)?;
            start_field(out, TENSOR_RAW_DATA, weight.value_bytes())?;
            for value in weight.values.iter::<f32>() {
                if weight.is_half {
                    out.write_all(&f16::from_f32(value).to_le_bytes())?;
                } else {
                    out.write_all(&value.to_le_bytes())?;
                }
            }
        }
        Ok(())
    }
}

/// Returns the size of a field with this number of bytes of content.
fn field_len(content: usize) -> usize {
    1 + length_delimiter_len(content) + content
}

fn start_field(out: &mut dyn Write, key: u8, content: usize) -> io::Result<()> {
    let mut start = vec![key];
    encode_length_delimiter(content, &mut start).map_err(io::Error::other)?;
    out.write_all(&start)
}
