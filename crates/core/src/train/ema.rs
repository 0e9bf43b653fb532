//! Exponential moving average (EMA) of the weights, which often has a better score.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::weights::parameters::{ModulePath, NamedTensors, ParameterError, load_named_tensors};

/// The EMA of all float tensors, including running statistics.
#[derive(Debug, Clone)]
pub struct Ema {
    decay: f64,
    updates: u64,
    shadow: BTreeMap<String, (Vec<usize>, Tensor<1>)>,
}

impl Ema {
    /// Creates an EMA that starts with the first update. `decay` is the factor of the old average.
    pub fn new(decay: f64) -> Self {
        Self {
            decay,
            updates: 0,
            shadow: BTreeMap::new(),
        }
    }

    /// Updates the EMA with the current weights. In the first updates the factor of the old average
    /// is at most `(1 + n) / (10 + n)`, so that the random initial weights lose influence quickly.
    pub fn update<M: Module>(&mut self, model: &M) {
        self.updates += 1;
        let n = self.updates as f64;
        let decay = self.decay.min((1.0 + n) / (10.0 + n));
        model.valid().visit(&mut Blend {
            ema: self,
            decay,
            path: ModulePath::default(),
        });
    }

    /// Returns whether there was no update yet.
    pub fn is_empty(&self) -> bool {
        self.shadow.is_empty()
    }

    /// Returns the model with the EMA weights. Running statistics of `model` are changed in place,
    /// as burn shares them between clones: pass `model.valid()`, which is a separate copy.
    ///
    /// # Errors
    /// The model does not have the tensors of the EMA.
    pub(crate) fn apply_to<M: Module>(&self, model: M) -> Result<M, ParameterError> {
        load_named_tensors(model, &self.export().1)
    }

    /// Returns the number of updates and the EMA as named tensors.
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

    /// Restores an exported state.
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
    path: ModulePath,
}

impl ModuleVisitor for Blend<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let flat = tensor.flatten::<1>(0, (D - 1) as isize);
        let name = self.path.name();
        let blended = match self.ema.shadow.remove(&name) {
            Some((_, old)) => old * self.decay + flat * (1.0 - self.decay),
            None => flat,
        };
        self.ema.shadow.insert(name, (shape, blended));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{BatchNorm, BatchNormConfig};

    fn norm(value: f32) -> BatchNorm {
        let mut norm = BatchNormConfig::new(2).init(&Device::flex().autodiff());
        let fill = || TensorData::new(vec![value; 2], [2]);
        let tensors = ["gamma", "beta", "running_mean", "running_var"]
            .map(|name| (name.to_string(), fill()))
            .into();
        norm = load_named_tensors(norm, &tensors).unwrap();
        norm
    }

    fn averages(ema: &Ema) -> Vec<f32> {
        let (_, tensors) = ema.export();
        tensors
            .values()
            .flat_map(|t| t.iter::<f32>().collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn the_average_follows_the_formula_and_its_warm_up() {
        let mut ema = Ema::new(0.3);
        assert!(ema.is_empty());
        ema.update(&norm(1.0));
        assert_eq!(averages(&ema), [1.0; 8]);
        // Update 2: decay min(0.3, 3/12) = 0.25. Update 3: min(0.3, 4/13) = 0.3.
        ema.update(&norm(2.0));
        assert_eq!(averages(&ema), [1.75; 8]);
        ema.update(&norm(3.0));
        for average in averages(&ema) {
            assert!(
                (average - (0.3 * 1.75 + 0.7 * 3.0)).abs() < 1e-6,
                "{average}"
            );
        }
    }

    #[test]
    fn the_averaged_model_leaves_the_trained_one_alone() {
        let mut ema = Ema::new(0.9);
        ema.update(&norm(1.0));
        let model = norm(5.0);
        let averaged = ema.apply_to(model.valid()).unwrap();
        let mean = |norm: &BatchNorm| norm.running_mean.value().into_data().iter::<f32>().next();
        assert_eq!((mean(&averaged), mean(&model)), (Some(1.0), Some(5.0)));
    }

    #[test]
    fn an_exported_average_continues_exactly() {
        let mut straight = Ema::new(0.95);
        let mut broken = Ema::new(0.95);
        for value in [0.3, 0.7, 1.1, -4.0] {
            straight.update(&norm(value));
            let (updates, tensors) = broken.export();
            broken = Ema::new(0.95);
            broken.import(updates, &tensors, &Device::flex());
            broken.update(&norm(value));
        }
        assert_eq!(averages(&straight), averages(&broken));
    }
}
