//! SGD with momentum and AdamW, with PyTorch's arithmetic and a state that can be saved by name.
//!
//! Our own rather than burn's, whose state is keyed by ids that change from run to run: a resumed
//! run has to continue bit for bit.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Which rule moves the weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent as `torch.optim.SGD` (dampening 0).
    Sgd {
        /// Share of the old velocity.
        momentum: f64,
        /// Added to the gradient as this share of the weight.
        weight_decay: f64,
        /// Look ahead along the velocity.
        #[serde(default)]
        nesterov: bool,
    },
    /// `torch.optim.AdamW`: decoupled weight decay.
    Adamw {
        /// Decay of the two moments.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Added to the denominator.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
        /// Share of the weight taken off per step, times the learning rate.
        weight_decay: f64,
    },
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_epsilon() -> f64 {
    1e-8
}

/// An optimiser with its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    config: OptimizerConfig,
    /// Weight decay on norm layers and biases too. torchvision decays everything; detectron2
    /// spares the norms.
    decay_norms: bool,
    steps: u64,
    /// Slot name and parameter path to the flattened tensor.
    state: BTreeMap<(Slot, String), Tensor<1>>,
}

/// What the state holds of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Velocity,
    FirstMoment,
    SecondMoment,
}

impl Slot {
    const ALL: [Self; 3] = [Self::Velocity, Self::FirstMoment, Self::SecondMoment];

    fn name(self) -> &'static str {
        match self {
            Self::Velocity => "velocity",
            Self::FirstMoment => "first_moment",
            Self::SecondMoment => "second_moment",
        }
    }
}

impl Optimizer {
    /// With an empty state. `decay_norms` says whether vectors (norm scales and all biases) decay.
    pub fn new(config: OptimizerConfig, decay_norms: bool) -> Self {
        Self {
            config,
            decay_norms,
            steps: 0,
            state: BTreeMap::new(),
        }
    }

    /// One step along the gradients. Parameters without a gradient stay as they are.
    pub fn step<M: Module>(
        &mut self,
        model: M,
        gradients: GradientsParams,
        learning_rate: f64,
    ) -> M {
        self.steps += 1;
        model.map(&mut Step {
            optimizer: self,
            gradients,
            learning_rate,
            path: Vec::new(),
        })
    }

    fn update(
        &mut self,
        path: String,
        weight: Tensor<1>,
        gradient: Tensor<1>,
        is_vector: bool,
        learning_rate: f64,
    ) -> Tensor<1> {
        let decays = self.decay_norms || !is_vector;
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
                let steps = self.steps as i32;
                let correction = |beta: f64| 1.0 - beta.powi(steps);
                let denominator = second.sqrt() / correction(betas[1]).sqrt() + epsilon;
                weight - first / denominator * (learning_rate / correction(betas[0]))
            }
        }
    }

    /// The state as named tensors (`velocity/PATH`) and the number of steps.
    pub fn export(&self) -> (u64, BTreeMap<String, TensorData>) {
        let tensors = self
            .state
            .iter()
            .map(|((slot, path), tensor)| {
                (
                    format!("{}/{path}", slot.name()),
                    tensor.clone().into_data(),
                )
            })
            .collect();
        (self.steps, tensors)
    }

    /// Take over an exported state; tensors go to `device`. Names of other slots are ignored.
    pub fn import(
        &mut self,
        steps: u64,
        tensors: &BTreeMap<String, TensorData>,
        device: &burn::tensor::Device,
    ) {
        self.steps = steps;
        for (name, data) in tensors {
            let slot = Slot::ALL.into_iter().find_map(|slot| {
                let path = name.strip_prefix(slot.name())?.strip_prefix('/')?;
                Some((slot, path.to_string()))
            });
            if let Some(key) = slot {
                self.state
                    .insert(key, Tensor::from_data(data.clone(), device));
            }
        }
    }
}

struct Step<'a> {
    optimizer: &'a mut Optimizer,
    gradients: GradientsParams,
    learning_rate: f64,
    path: Vec<String>,
}

impl ModuleMapper for Step<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.shape();
        let size = shape.num_elements();
        let moved = self.optimizer.update(
            self.path.join("."),
            tensor.inner().reshape([size]),
            gradient.reshape([size]),
            D == 1,
            self.learning_rate,
        );
        let moved = Tensor::from_inner(moved.reshape(shape)).require_grad();
        Param::from_mapped_value(id, moved, mapper)
    }
}

/// The Euclidean norm over all gradients, and the gradients scaled down to `max_norm` if it is
/// above; `torch.nn.utils.clip_grad_norm_`. Without `max_norm` the norm is only measured.
pub fn clip_global_norm<M: Module>(
    model: &M,
    gradients: GradientsParams,
    max_norm: Option<f64>,
) -> (f64, GradientsParams) {
    let mut squares = Squares {
        gradients: &gradients,
        sums: Vec::new(),
    };
    model.visit(&mut squares);
    if squares.sums.is_empty() {
        return (0.0, gradients);
    }
    // One read for all tensors.
    let sums = crate::detection::host(Tensor::cat(squares.sums, 0));
    let norm = sums.iter().map(|s| f64::from(*s)).sum::<f64>().sqrt();
    match max_norm {
        Some(max_norm) if norm > max_norm => {
            let mut scale = Scale {
                from: gradients,
                to: GradientsParams::new(),
                factor: max_norm / (norm + 1e-6),
            };
            model.visit(&mut scale);
            (norm, scale.to)
        }
        _ => (norm, gradients),
    }
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
