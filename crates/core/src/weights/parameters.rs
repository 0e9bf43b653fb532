//! Conversion between modules and named tensors.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};

/// Float tensors by their path in the module: `backbone.layer1.0.convs.0.weight`. Includes the
/// running statistics of batch norms.
pub type NamedTensors = BTreeMap<String, TensorData>;

/// The tensors do not match a module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the weights do not match the network: {}", problems.join("; "))]
pub struct ParameterError {
    /// One entry per tensor: missing, unexpected, or the two different shapes.
    pub problems: Vec<String>,
}

/// The position of a visitor in a module: the names of the fields from the root.
///
/// burn reports the variant of an enum like a field. It is omitted, so that the names of a network
/// do not depend on an enclosing enum.
#[derive(Debug, Default)]
pub struct ModulePath(Vec<String>);

impl ModulePath {
    /// Enters a module; to be called from `enter_module` with its arguments.
    pub fn enter(&mut self, name: &str, container: &str) {
        if !is_enum(container) {
            self.0.push(name.to_string());
        }
    }

    /// Leaves a module; to be called from `exit_module` with its second argument.
    pub fn exit(&mut self, container: &str) {
        if !is_enum(container) {
            self.0.pop();
        }
    }

    /// Returns the names, joined by dots.
    pub fn name(&self) -> String {
        self.0.join(".")
    }
}

/// Returns whether the container type passed to `enter_module` is an enum.
fn is_enum(container: &str) -> bool {
    container.starts_with("Enum:")
}

/// Returns all float tensors of a module.
pub fn named_tensors<M: Module>(model: &M) -> NamedTensors {
    let mut collector = Collector::default();
    // Running statistics are kept in a per-thread slot until `valid` merges them.
    model.valid().visit(&mut collector);
    collector.tensors
}

#[derive(Default)]
struct Collector {
    path: ModulePath,
    tensors: NamedTensors,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.tensors
            .insert(self.path.name(), param.val().into_data());
    }
}

/// Returns a line for each tensor with its name and a checksum of its values.
pub(crate) fn checksums(tensors: &NamedTensors) -> String {
    let lines = tensors
        .iter()
        .map(|(name, data)| format!("{name} {:08x}\n", crc32c::crc32c(data.as_bytes())));
    lines.collect()
}

/// Returns the gradients of all parameters of a module that have one.
pub fn named_gradients<M: Module>(model: &M, gradients: &Gradients) -> NamedTensors {
    let mut collector = GradientCollector {
        gradients,
        path: ModulePath::default(),
        tensors: NamedTensors::default(),
    };
    model.visit(&mut collector);
    collector.tensors
}

struct GradientCollector<'g> {
    gradients: &'g Gradients,
    path: ModulePath,
    tensors: NamedTensors,
}

impl ModuleVisitor for GradientCollector<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.tensors.insert(self.path.name(), gradient.into_data());
        }
    }
}

/// Returns the names and shapes of all float tensors of a module, without drawing initial values.
pub fn named_shapes<M: Module>(model: &M) -> BTreeMap<String, Vec<usize>> {
    let mut collector = ShapeCollector::default();
    model.visit(&mut collector);
    collector.shapes
}

#[derive(Default)]
struct ShapeCollector {
    path: ModulePath,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl ModuleVisitor for ShapeCollector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.shapes
            .insert(self.path.name(), param.lazy_shape().to_vec());
    }
}

/// Replaces all float tensors of a module. Whether a tensor requires gradients is kept.
///
/// # Errors
/// Lists every tensor that is missing, unexpected or has another shape. In this case nothing is
/// loaded.
pub fn load_named_tensors<M: Module>(
    model: M,
    tensors: &NamedTensors,
) -> Result<M, ParameterError> {
    // Pending batch statistics are merged now, so that they are not merged into the loaded values
    // later.
    drop(named_tensors(&model));
    load_tensors(model, tensors.clone())
}

/// Replaces all float tensors of a module that has not been trained. Unlike [`load_named_tensors`],
/// it takes the tensors by value and copies nothing, so the weights are in memory only once.
///
/// # Errors
/// See [`load_named_tensors`].
pub fn load_tensors<M: Module>(model: M, tensors: NamedTensors) -> Result<M, ParameterError> {
    check_named_tensors(&model, &tensors)?;
    Ok(model.map(&mut Loader {
        path: ModulePath::default(),
        tensors,
    }))
}

/// Checks whether the tensors are those of a module. The module is not changed, and no initial
/// values are drawn.
///
/// # Errors
/// See [`load_named_tensors`].
pub(crate) fn check_named_tensors<M: Module>(
    model: &M,
    tensors: &NamedTensors,
) -> Result<(), ParameterError> {
    let have = named_shapes(model);
    let shapes = have.iter().map(|(name, shape)| (name, shape.as_slice()));
    fits(&shapes.collect(), tensors)
}

fn fits(have: &BTreeMap<&String, &[usize]>, tensors: &NamedTensors) -> Result<(), ParameterError> {
    let mut problems = Vec::new();
    for (name, expected) in have {
        match tensors.get(*name).map(|data| &data.shape()[..]) {
            None => problems.push(format!("{name} is missing")),
            Some(found) if found != *expected => problems.push(format!(
                "{name} is {found:?} in the file and {expected:?} in the network"
            )),
            Some(_) => {}
        }
    }
    for name in tensors.keys().filter(|n| !have.contains_key(n)) {
        problems.push(format!("{name} is not part of the network"));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ParameterError { problems })
    }
}

struct Loader {
    path: ModulePath,
    tensors: NamedTensors,
}

impl ModuleMapper for Loader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(data) = self.tensors.remove(&self.path.name()) else {
            return param;
        };
        let (id, tensor, mapper) = param.consume();
        let requires_grad = tensor.is_require_grad();
        let loaded = Tensor::from_data(data, &tensor.device());
        Param::from_mapped_value(id, loaded.set_require_grad(requires_grad), mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Net {
        layers: Vec<Linear>,
        norm: BatchNorm,
    }

    fn net() -> Net {
        let device = Device::flex().autodiff();
        Net {
            layers: vec![LinearConfig::new(2, 2).init(&device)],
            norm: BatchNormConfig::new(2).init(&device),
        }
    }

    fn filled(value: f32) -> NamedTensors {
        named_tensors(&net())
            .into_iter()
            .map(|(name, data)| {
                let shape = data.shape().clone();
                (name, TensorData::full(shape, value))
            })
            .collect()
    }

    #[test]
    fn names_are_paths_and_cover_running_statistics() {
        let names: Vec<_> = named_tensors(&net()).into_keys().collect();
        assert_eq!(
            names,
            [
                "layers.0.bias",
                "layers.0.weight",
                "norm.beta",
                "norm.gamma",
                "norm.running_mean",
                "norm.running_var"
            ]
        );
    }

    #[derive(Module, Debug)]
    enum Either {
        Net(Net),
        Linear(Linear),
    }

    #[derive(Module, Debug)]
    struct Chosen {
        network: Either,
    }

    #[test]
    fn the_variant_of_an_enum_is_not_part_of_a_name() {
        let device = Device::flex();
        let linear = Chosen {
            network: Either::Linear(LinearConfig::new(2, 2).init(&device)),
        };
        let filled = |value: f32| -> NamedTensors {
            let tensor = |name: &str, shape: &[usize]| {
                let data = TensorData::full(shape.to_vec(), value);
                (format!("network.{name}"), data)
            };
            [tensor("bias", &[2]), tensor("weight", &[2, 2])].into()
        };
        assert!(
            named_shapes(&linear)
                .into_keys()
                .eq(filled(0.0).into_keys())
        );
        let loaded = load_named_tensors(linear, &filled(0.5)).unwrap();
        assert_eq!(named_tensors(&loaded), filled(0.5));
        let net = Chosen {
            network: Either::Net(net()),
        };
        assert!(named_shapes(&net).contains_key("network.layers.0.weight"));
    }

    #[test]
    fn loading_replaces_everything_and_keeps_who_learns() {
        let mut model = net();
        model.layers[0] = model.layers[0].clone().no_grad();
        let before = model.norm.gamma.id;
        let model = load_named_tensors(model, &filled(3.0)).unwrap();
        assert_eq!(named_tensors(&model), filled(3.0));
        assert!(!model.layers[0].weight.is_require_grad());
        assert!(model.norm.gamma.is_require_grad());
        assert_eq!(model.norm.gamma.id, before);
    }

    #[test]
    fn statistics_that_wait_to_be_merged_are_read_and_do_not_survive_loading() {
        let model = net();
        let x = Tensor::<2>::from_floats([[1.0, 5.0], [3.0, 7.0]], &Device::flex().autodiff());
        model.norm.forward(x);
        let mean = named_tensors(&model)["norm.running_mean"].clone();
        assert!(mean.iter::<f32>().all(|m| m > 0.0), "{mean}");
        let model = net();
        let x = Tensor::<2>::from_floats([[1.0, 5.0], [3.0, 7.0]], &Device::flex().autodiff());
        model.norm.forward(x);
        let model = load_named_tensors(model, &filled(0.5)).unwrap();
        assert_eq!(named_tensors(&model), filled(0.5));
    }

    #[test]
    fn every_tensor_that_does_not_fit_is_named() {
        let mut tensors = filled(1.0);
        tensors.remove("norm.beta");
        tensors.insert("head.weight".into(), TensorData::full([1], 0.0f32));
        tensors.insert("norm.gamma".into(), TensorData::full([3], 0.0f32));
        let message = load_named_tensors(net(), &tensors).unwrap_err().to_string();
        for part in [
            "norm.beta is missing",
            "head.weight is not part",
            "norm.gamma is [3] in the file and [2] in the network",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}
