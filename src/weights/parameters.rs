//! A module as tensors with names, and back.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

/// Float tensors by their path in the module: `backbone.layer1.0.convs.0.weight`. Includes the
/// running statistics of batch norms.
pub type NamedTensors = BTreeMap<String, TensorData>;

/// Tensors that don't fit a module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the weights do not fit the network: {}", problems.join("; "))]
pub struct ParameterError {
    /// One entry a tensor: missing, unexpected, or both shapes.
    pub problems: Vec<String>,
}

/// All float tensors of a module.
pub fn named_tensors<M: Module>(model: &M) -> NamedTensors {
    let mut collector = Collector::default();
    // Running statistics wait in a per-thread slot until asked; `valid` fetches them.
    model.valid().visit(&mut collector);
    collector.tensors
}

#[derive(Default)]
struct Collector {
    path: Vec<String>,
    tensors: NamedTensors,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.tensors
            .insert(self.path.join("."), param.val().into_data());
    }
}

/// The module with all its float tensors replaced. What learned before still learns.
///
/// # Errors
/// Lists every tensor that is missing, unexpected or of another shape; nothing is loaded then.
pub fn load_named_tensors<M: Module>(
    model: M,
    tensors: &NamedTensors,
) -> Result<M, ParameterError> {
    let have = named_tensors(&model);
    let shape = |data: &TensorData| data.shape().to_vec();
    let mut problems = Vec::new();
    for (name, mine) in &have {
        match tensors.get(name) {
            None => problems.push(format!("{name} is missing")),
            Some(theirs) if shape(theirs) != shape(mine) => problems.push(format!(
                "{name} is {:?} in the file and {:?} in the network",
                shape(theirs),
                shape(mine)
            )),
            Some(_) => {}
        }
    }
    for name in tensors.keys().filter(|n| !have.contains_key(*n)) {
        problems.push(format!("{name} is not part of the network"));
    }
    if !problems.is_empty() {
        return Err(ParameterError { problems });
    }
    Ok(model.map(&mut Loader {
        path: Vec::new(),
        tensors,
    }))
}

struct Loader<'a> {
    path: Vec<String>,
    tensors: &'a NamedTensors,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(data) = self.tensors.get(&self.path.join(".")) else {
            return param;
        };
        let (id, tensor, mapper) = param.consume();
        let learns = tensor.is_require_grad();
        let loaded = Tensor::from_data(data.clone(), &tensor.device());
        Param::from_mapped_value(id, loaded.set_require_grad(learns), mapper)
    }
}
