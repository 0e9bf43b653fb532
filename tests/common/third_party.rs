//! Weight files of other programs: their tensors, and files with changed tensors.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use sedet::weights::third_party::ThirdPartyFile;

/// Shapes and values of tensors by name.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Reads the tensors of a file, without the counters of batch norms.
pub fn tensors_of(path: &Path) -> Tensors {
    let file = ThirdPartyFile::open(path).unwrap();
    file.tensors()
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
        .map(|(name, info)| {
            let values = file.values(name).unwrap();
            (name.to_string(), (info.shape.clone(), values))
        })
        .collect()
}

/// Returns a safetensors file with these tensors.
pub fn to_safetensors(tensors: &Tensors) -> Vec<u8> {
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, values))| (name, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = tensors.iter().map(|(name, (shape, _))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), &bytes[name]);
        (name, view.unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}
