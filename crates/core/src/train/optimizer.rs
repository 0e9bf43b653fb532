//! SGD with momentum and AdamW, with PyTorch's arithmetic and a state that can be saved by name.
//!
//! burn's optimizers are not used, because their state is keyed by ids that change between runs,
//! and a resumed run must continue bit for bit.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};

use crate::config::training::{EngineConfig, OptimizerConfig};
use crate::weights::parameters::{ModulePath, NamedTensors, ParameterError};

/// An optimizer with its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    config: OptimizerConfig,
    /// Whether weight decay also applies to norm layers. torchvision decays everything; detectron2
    /// excludes the norms.
    decay_norms: bool,
    /// Whether weight decay also applies to the biases of convolutions and linear layers.
    decay_biases: bool,
    /// Factor of the learning rate for these biases.
    bias_rate_factor: f64,
    /// Number of updates of each parameter, for AdamW's bias correction. PyTorch also counts per
    /// parameter: the correction starts at the first gradient.
    steps: BTreeMap<String, u32>,
    /// Flattened tensors by slot and parameter path.
    state: BTreeMap<(Slot, String), Tensor<1>>,
}

/// The kind of a parameter, on which weight decay and learning rate depend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParameterKind {
    /// A filter or a matrix.
    Weight,
    /// The bias of a convolution or a linear layer.
    Bias,
    /// Scale or shift of a norm.
    Norm,
}

/// The state tensors of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Velocity,
    FirstMoment,
    SecondMoment,
}

impl Slot {
    fn name(self) -> &'static str {
        match self {
            Self::Velocity => "velocity",
            Self::FirstMoment => "first_moment",
            Self::SecondMoment => "second_moment",
        }
    }
}

impl Optimizer {
    /// Creates an optimizer with an empty state. `decay_norms` is whether weight decay applies to
    /// vectors (norm scales and all biases).
    pub fn new(config: OptimizerConfig, decay_norms: bool) -> Self {
        Self {
            config,
            decay_norms,
            decay_biases: decay_norms,
            bias_rate_factor: 1.0,
            steps: BTreeMap::new(),
            state: BTreeMap::new(),
        }
    }

    /// Creates the optimizer of a training with an empty state.
    pub fn of(config: &EngineConfig) -> Self {
        Self {
            decay_biases: config.decay_biases.unwrap_or(config.decay_norms),
            bias_rate_factor: config.bias_learning_rate_factor,
            ..Self::new(config.optimizer, config.decay_norms)
        }
    }

    /// Updates the parameters by one step. Parameters without a gradient are unchanged.
    pub fn step<M: Module>(
        &mut self,
        model: M,
        gradients: GradientsParams,
        learning_rate: f64,
    ) -> M {
        model.map(&mut Step {
            optimizer: self,
            gradients,
            learning_rate,
            path: ModulePath::default(),
            container: String::new(),
        })
    }

    fn update(
        &mut self,
        path: String,
        weight: Tensor<1>,
        gradient: Tensor<1>,
        kind: ParameterKind,
        learning_rate: f64,
    ) -> Tensor<1> {
        let (decays, learning_rate) = match kind {
            ParameterKind::Weight => (true, learning_rate),
            ParameterKind::Norm => (self.decay_norms, learning_rate),
            ParameterKind::Bias => (self.decay_biases, learning_rate * self.bias_rate_factor),
        };
        match self.config {
            OptimizerConfig::Sgd {
                momentum,
                weight_decay,
                nesterov,
            } => {
                let gradient = if decays && weight_decay != 0.0 {
                    gradient + weight.clone() * weight_decay
                } else {
                    gradient
                };
                if momentum == 0.0 {
                    return weight - gradient * learning_rate;
                }
                let key = (Slot::Velocity, path);
                let velocity = match self.state.remove(&key) {
                    Some(old) => old * momentum + gradient.clone(),
                    None => gradient.clone(),
                };
                self.state.insert(key, velocity.clone());
                let direction = if nesterov {
                    gradient + velocity * momentum
                } else {
                    velocity
                };
                weight - direction * learning_rate
            }
            OptimizerConfig::Adamw {
                betas,
                epsilon,
                weight_decay,
            } => {
                let weight = if decays {
                    weight * (1.0 - learning_rate * weight_decay)
                } else {
                    weight
                };
                let mut moment = |slot: Slot, beta: f64, value: Tensor<1>| {
                    let key = (slot, path.clone());
                    let blended = match self.state.remove(&key) {
                        Some(old) => old * beta + value * (1.0 - beta),
                        None => value * (1.0 - beta),
                    };
                    self.state.insert(key, blended.clone());
                    blended
                };
                let squared = gradient.clone() * gradient.clone();
                let first = moment(Slot::FirstMoment, betas[0], gradient);
                let second = moment(Slot::SecondMoment, betas[1], squared);
                let steps = self.steps.entry(path).or_insert(0);
                *steps += 1;
                let steps = *steps as f64;
                let correction = |beta: f64| 1.0 - beta.powf(steps);
                let denominator = second.sqrt() / correction(betas[1]).sqrt() + epsilon;
                weight - first / denominator * (learning_rate / correction(betas[0]))
            }
        }
    }

    /// Returns the state as flat tensors named `velocity/PATH`, `first_moment/PATH`,
    /// `second_moment/PATH` and `steps/PATH` (one number; whole up to 2^24, as in PyTorch's
    /// checkpoints).
    pub fn export(&self) -> NamedTensors {
        let tensors = self.state.iter().map(|((slot, path), tensor)| {
            let name = format!("{}/{path}", slot.name());
            (name, tensor.clone().into_data())
        });
        let steps = self.steps.iter().map(|(path, steps)| {
            let name = format!("{STEPS}/{path}");
            (name, TensorData::new(vec![*steps as f32], [1]))
        });
        tensors.chain(steps).collect()
    }

    /// Restores an exported state for `model`, on the devices of the model's tensors.
    ///
    /// # Errors
    /// Lists every tensor that belongs to another optimizer, to no trained parameter of the model,
    /// or to a parameter of another size.
    pub fn import<M: Module>(
        &mut self,
        tensors: &NamedTensors,
        model: &M,
    ) -> Result<(), ParameterError> {
        let mut learning = Learning::default();
        model.visit(&mut learning);
        let slots: &[Slot] = match self.config {
            OptimizerConfig::Sgd { .. } => &[Slot::Velocity],
            OptimizerConfig::Adamw { .. } => &[Slot::FirstMoment, Slot::SecondMoment],
        };
        let mut problems = Vec::new();
        let (mut state, mut steps) = (BTreeMap::new(), BTreeMap::new());
        for (name, data) in tensors {
            let Some((kind, path)) = name.split_once('/') else {
                problems.push(format!("optimizer/{name} is not part of an optimizer"));
                continue;
            };
            let Some((size, device)) = learning.parameters.get(path) else {
                problems.push(format!(
                    "optimizer/{name} belongs to no trainable parameter"
                ));
                continue;
            };
            if kind == STEPS && slots.contains(&Slot::FirstMoment) {
                let count = data.iter::<f32>().next().unwrap_or(0.0);
                steps.insert(path.to_string(), count as u32);
            } else if let Some(slot) = slots.iter().find(|slot| slot.name() == kind) {
                if data.num_elements() == *size {
                    let values: Vec<f32> = data.iter().collect();
                    let flat = Tensor::<1>::from_data(TensorData::new(values, [*size]), device);
                    state.insert((*slot, path.to_string()), flat);
                } else {
                    problems.push(format!(
                        "optimizer/{name} has {} values and its parameter {size}",
                        data.num_elements()
                    ));
                }
            } else {
                problems.push(format!(
                    "optimizer/{name} does not belong to this optimizer"
                ));
            }
        }
        if !problems.is_empty() {
            return Err(ParameterError { problems });
        }
        (self.state, self.steps) = (state, steps);
        Ok(())
    }
}

/// The name of the step counts in an exported state.
const STEPS: &str = "steps";

/// Returns size and device of every trained parameter, by path.
#[derive(Default)]
struct Learning {
    path: ModulePath,
    parameters: BTreeMap<String, (usize, Device)>,
}

impl ModuleVisitor for Learning {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if tensor.is_require_grad() {
            let place = (tensor.shape().num_elements(), tensor.device().inner());
            self.parameters.insert(self.path.name(), place);
        }
    }
}

struct Step<'a> {
    optimizer: &'a mut Optimizer,
    gradients: GradientsParams,
    learning_rate: f64,
    path: ModulePath,
    /// The type of the module that was entered last: when a parameter is visited, that of its module.
    container: String,
}

/// burn's name of the type of norm layers.
pub(crate) const NORM: &str = "Struct:Norm";

impl Step<'_> {
    fn kind_of(&self, dimensions: usize) -> ParameterKind {
        match dimensions {
            1 if self.container == NORM => ParameterKind::Norm,
            1 => ParameterKind::Bias,
            _ => ParameterKind::Weight,
        }
    }
}

impl ModuleMapper for Step<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
        container.clone_into(&mut self.container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let kind = self.kind_of(D);
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.shape();
        let size = shape.num_elements();
        // A conversion from plain tensors would lose it, and autodiff rejects mixed strategies.
        let checkpointing = tensor.gradient_checkpointing_strategy();
        let moved = self.optimizer.update(
            self.path.name(),
            tensor.inner().reshape([size]),
            gradient.reshape([size]),
            kind,
            self.learning_rate,
        );
        let mut moved = Tensor::from_inner(moved.reshape(shape));
        if let Some(strategy) = checkpointing {
            moved = moved.with_gradient_checkpointing_strategy(strategy);
        }
        Param::from_mapped_value(id, moved.require_grad(), mapper)
    }
}

/// Returns the mean of gradients that were summed over `batches`, scaled down so that its Euclidean
/// norm over all parameters is at most `max_norm` (`torch.nn.utils.clip_grad_norm_`), and the norm
/// before scaling. Without `max_norm` nothing is scaled.
pub fn average_and_clip<M: Module>(
    model: &M,
    sum: GradientsParams,
    batches: usize,
    max_norm: Option<f64>,
) -> (f64, GradientsParams) {
    let mut squares = Squares {
        gradients: &sum,
        sums: Vec::new(),
    };
    model.visit(&mut squares);
    if squares.sums.is_empty() {
        return (0.0, sum);
    }
    // One read for all tensors.
    let squares = crate::read_back::host(Tensor::cat(squares.sums, 0));
    let norm = squares.iter().map(|s| f64::from(*s)).sum::<f64>().sqrt() / batches as f64;
    let clip = max_norm.map_or(1.0, |max_norm| (max_norm / (norm + 1e-6)).min(1.0));
    let factor = clip / batches as f64;
    if factor == 1.0 || !norm.is_finite() {
        return (norm, sum);
    }
    let mut scale = Scale {
        from: sum,
        to: GradientsParams::new(),
        factor,
    };
    model.visit(&mut scale);
    (norm, scale.to)
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sums.push((gradient.clone() * gradient).sum());
        }
    }
}

struct Scale {
    from: GradientsParams,
    to: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, gradient * self.factor);
        }
    }
}
