//! A slow copy of the weights: the exponential moving average that evaluation often prefers.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::weights::parameters::{NamedTensors, ParameterError, load_named_tensors};

/// The average of all float tensors, running statistics included.
#[derive(Debug, Clone)]
pub struct Ema {
    decay: f64,
    updates: u64,
    shadow: BTreeMap<String, (Vec<usize>, Tensor<1>)>,
}

impl Ema {
    /// Starts with the first update. `decay` is the share of the old average.
    pub fn new(decay: f64) -> Self {
        Self {
            decay,
            updates: 0,
            shadow: BTreeMap::new(),
        }
    }

    /// Blend the present weights in. The first updates count for more, `(1 + n) / (10 + n)` at
    /// most for the old average, so that the random start is soon forgotten.
    pub fn update<M: Module>(&mut self, model: &M) {
        self.updates += 1;
        let n = self.updates as f64;
        let decay = self.decay.min((1.0 + n) / (10.0 + n));
        model.valid().visit(&mut Blend {
            ema: self,
            decay,
            path: Vec::new(),
        });
    }

    /// The average in the form of the model.
    ///
    /// # Errors
    /// If the model is not the one that was averaged.
    pub fn apply_to<M: Module>(&self, model: M) -> Result<M, ParameterError> {
        load_named_tensors(model, &self.export().1)
    }

    /// Number of updates, and the average as named tensors.
    pub fn export(&self) -> (u64, NamedTensors) {
        let tensors = self
            .shadow
            .iter()
            .map(|(name, (shape, tensor))| {
                let values: Vec<f32> = tensor.clone().into_data().iter().collect();
                (name.clone(), TensorData::new(values, shape.clone()))
            })
            .collect();
        (self.updates, tensors)
    }

    /// Take over an exported state.
    pub fn import(&mut self, updates: u64, tensors: &NamedTensors, device: &Device) {
        self.updates = updates;
        self.shadow = tensors
            .iter()
            .map(|(name, data)| {
                let shape = data.shape().to_vec();
                let values: Vec<f32> = data.iter().collect();
                let size = values.len();
                let flat = TensorData::new(values, [size]);
                (name.clone(), (shape, Tensor::from_data(flat, device)))
            })
            .collect();
    }
}

struct Blend<'a> {
    ema: &'a mut Ema,
    decay: f64,
    path: Vec<String>,
}

impl ModuleVisitor for Blend<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let flat = tensor.flatten::<1>(0, (D - 1) as isize);
        let name = self.path.join(".");
        let blended = match self.ema.shadow.remove(&name) {
            Some((_, old)) => old * self.decay + flat * (1.0 - self.decay),
            None => flat,
        };
        self.ema.shadow.insert(name, (shape, blended));
    }
}
