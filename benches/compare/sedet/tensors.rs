//! Tensors from and to the files that are shared with the reference.

use std::path::Path;

use anyhow::{Context as _, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sedet::boxes::BoxXyxy;
use sedet::detection::Target;

/// A named float tensor to be written to a file.
pub struct Named {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Named {
    pub fn new(name: impl Into<String>, shape: Vec<usize>, values: Vec<f32>) -> Self {
        Self {
            name: name.into(),
            shape,
            values,
        }
    }

    pub fn tensor<const D: usize>(name: impl Into<String>, tensor: Tensor<D>) -> Self {
        let data = tensor.into_data();
        Self::new(name, data.shape().to_vec(), data.iter::<f32>().collect())
    }

    /// `[boxes, 4]`.
    pub fn boxes(name: &str, boxes: &[BoxXyxy]) -> Self {
        let corners = boxes.iter().flat_map(|b| [b.x1, b.y1, b.x2, b.y2]);
        Self::new(name, vec![boxes.len(), 4], corners.collect())
    }
}

/// Writes the outputs if a directory is given.
pub fn write(
    path: Option<&Path>,
    outputs: impl FnOnce() -> anyhow::Result<Vec<Named>>,
) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let outputs = outputs()?;
    let bytes: Vec<Vec<u8>> = outputs
        .iter()
        .map(|o| o.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = outputs
        .iter()
        .zip(&bytes)
        .map(|(o, bytes)| {
            Ok((
                &o.name,
                TensorView::new(Dtype::F32, o.shape.clone(), bytes)?,
            ))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    safetensors::serialize_to_file(views, None, path).with_context(|| path.display().to_string())
}

/// The input of both sides.
pub struct Inputs {
    bytes: Vec<u8>,
}

impl Inputs {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        Ok(Self { bytes })
    }

    fn floats(&self, name: &str) -> anyhow::Result<(Vec<f32>, Vec<usize>)> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let view = file.tensor(name).with_context(|| name.to_string())?;
        ensure!(view.dtype() == Dtype::F32, "{name}: not f32");
        let values = view.data().as_chunks().0.iter();
        let values = values.map(|b| f32::from_le_bytes(*b)).collect();
        Ok((values, view.shape().to_vec()))
    }

    /// `[batch, 3, height, width]`, normalized, on a device without autodiff.
    pub fn pixels(&self) -> anyhow::Result<Tensor<4>> {
        let (values, shape) = self.floats("pixels")?;
        Ok(Tensor::from_data(
            TensorData::new(values, shape),
            &Device::flex(),
        ))
    }

    /// Returns the objects of each image; the file counts classes from 1, as torchvision does.
    pub fn targets(&self, batch: usize) -> anyhow::Result<Vec<Target>> {
        let of_image = |image: usize| {
            let (corners, _) = self.floats(&format!("boxes.{image}"))?;
            let (labels, _) = self.floats(&format!("labels.{image}"))?;
            let corners = corners.as_chunks().0.iter();
            Ok(Target {
                boxes_in_input: corners
                    .map(|&[x1, y1, x2, y2]| BoxXyxy::new(x1, y1, x2, y2))
                    .collect(),
                labels: labels.into_iter().map(|label| label as usize - 1).collect(),
            })
        };
        (0..batch).map(of_image).collect()
    }
}
