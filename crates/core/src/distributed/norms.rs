//! The running statistics of batch norms over the batches of all ranks, in the order of the batches.
//!
//! A batch is normalized by its own statistics, so that the ranks need not wait for each other in a forward pass; what
//! it adds to the running statistics is exchanged after it. With [`NormSync`] the batches of all ranks are normalized
//! together, as one batch (synchronized batch norm).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use super::{DistributedError, Ranks};
use crate::train::optimizer::NORM;
use crate::weights::parameters::ModulePath;
use sedet_nn::kernels::batch_norm::Processes;
use sedet_nn::nn::norm::{BatchStatistics, blend};

/// The ranks whose batches of one round are normalized by the statistics of all of them.
#[derive(Debug)]
pub struct NormSync {
    ranks: Ranks,
    error: Mutex<Option<DistributedError>>,
}

impl NormSync {
    /// Begins a round.
    pub fn new(ranks: &Ranks) -> Self {
        Self {
            ranks: ranks.clone(),
            error: Mutex::new(None),
        }
    }

    fn error(&self) -> MutexGuard<'_, Option<DistributedError>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the round of this rank: answers the others until all have ended theirs. A rank without a batch begins
    /// with this.
    ///
    /// # Errors
    /// A rank has failed, now or during the passes.
    pub fn finish(&self) -> Result<(), DistributedError> {
        if let Some(error) = self.error().take() {
            return Err(error);
        }
        while !self
            .ranks
            .gather_bytes(&[])?
            .iter()
            .all(|bytes| bytes.is_empty())
        {}
        Ok(())
    }
}

impl Processes for NormSync {
    fn gather(&self, own: &[f64]) -> Vec<Vec<f64>> {
        let mut error = self.error();
        // The passes go on to their end, with numbers that are not used any more.
        if error.is_some() {
            return vec![own.to_vec()];
        }
        match self.ranks.gather_bytes(bytemuck::cast_slice(own)) {
            Ok(all) => {
                let all = all.iter().filter(|bytes| !bytes.is_empty());
                all.map(|bytes| bytemuck::pod_collect_to_vec(bytes))
                    .collect()
            }
            Err(lost) => {
                *error = Some(lost);
                vec![own.to_vec()]
            }
        }
    }
}

/// Returns whether a network has norms that normalize by the statistics of the batch.
pub fn has_trained_norms<M: Module>(model: &M) -> bool {
    let mut trained = TrainedNorms::default();
    model.visit(&mut trained);
    trained.found
}

#[derive(Default)]
struct TrainedNorms {
    container: String,
    found: bool,
}

impl ModuleVisitor for TrainedNorms {
    fn enter_module(&mut self, _: &str, container: &str) {
        container.clone_into(&mut self.container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found |= self.container == NORM && param.val().is_require_grad();
    }
}

/// Adds the statistics of one batch of each rank, in the order of the ranks; an empty list if this rank has no batch
/// left. Those of batches that are normalized together are the same on each rank and are added once. All ranks have to
/// take part.
///
/// # Errors
/// A rank has failed.
pub fn add_statistics<M: Module>(
    ranks: &Ranks,
    model: &M,
    own: &[BatchStatistics],
    are_together: bool,
) -> Result<(), DistributedError> {
    let mut names = Names::default();
    model.visit(&mut names);
    let own: Vec<Named> = own
        .iter()
        .filter_map(|batch| Named::of(batch, &names.paths))
        .collect();
    // Bits instead of numbers: text would round them.
    let mut all = ranks.gather(own)?;
    if are_together {
        all.retain(|batches| !batches.is_empty());
        all.truncate(1);
    }
    let mut add = Add {
        path: ModulePath::default(),
        batches: HashMap::new(),
    };
    for batch in all.into_iter().flatten() {
        for (field, bits) in [
            ("running_mean", batch.mean),
            ("running_var", batch.variance),
        ] {
            let values = bits.into_iter().map(f32::from_bits).collect();
            let batches = add.batches.entry(format!("{}.{field}", batch.norm));
            batches.or_default().push((values, batch.momentum));
        }
    }
    if !add.batches.is_empty() {
        // Statistics that are still to be merged would be lost.
        drop(model.valid());
        // A clone shares the running statistics.
        drop(model.clone().map(&mut add));
    }
    Ok(())
}

/// The statistics of a batch, as they are sent.
#[derive(serde::Serialize, serde::Deserialize)]
struct Named {
    /// The path of the norm.
    norm: String,
    momentum: f64,
    mean: Vec<u32>,
    variance: Vec<u32>,
}

impl Named {
    fn of(batch: &BatchStatistics, paths: &HashMap<ParamId, String>) -> Option<Self> {
        let bits = |tensor: &Tensor<1>| {
            let data = tensor.clone().detach().into_data();
            data.iter::<f32>().map(f32::to_bits).collect()
        };
        Some(Self {
            norm: paths.get(&batch.norm)?.strip_suffix(".weight")?.to_string(),
            momentum: batch.momentum,
            mean: bits(&batch.mean),
            variance: bits(&batch.variance),
        })
    }
}

/// The paths of parameters: their ids differ between processes.
#[derive(Default)]
struct Names {
    path: ModulePath,
    paths: HashMap<ParamId, String>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.paths.insert(param.id, self.path.name());
    }
}

struct Add {
    path: ModulePath,
    /// Values and momentum of the batches, by the path of the running statistics.
    batches: HashMap<String, Vec<(Vec<f32>, f64)>>,
}

impl ModuleMapper for Add {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(batches) = self.batches.remove(&self.path.name()) else {
            return param;
        };
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.shape();
        let device = tensor.device();
        let mut running: Tensor<1> = tensor.reshape([shape.num_elements()]);
        for (values, momentum) in batches {
            let size = values.len();
            let batch = Tensor::from_data(TensorData::new(values, [size]), &device);
            running = blend(running, batch, momentum);
        }
        Param::from_mapped_value(id, running.reshape(shape), mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::threads::on_threads;
    use crate::weights::parameters::named_tensors;
    use burn::tensor::Device;
    use sedet_nn::nn::norm::{Norm, NormConfig, NormKind, keeping_statistics};

    #[derive(Module, Debug)]
    struct Net {
        first: Norm,
        second: Norm,
    }

    fn net() -> Net {
        let device = Device::flex().autodiff();
        let norm = || NormConfig::new(NormKind::Batch).init(3, &device);
        Net {
            first: norm(),
            second: norm(),
        }
    }

    fn forward(model: &Net, batch: usize) {
        let values: Vec<f32> = (0..24)
            .map(|at| ((at * 7 + batch * 13) as f32 * 12.9898).sin() * 3.0)
            .collect();
        let device = Device::flex().autodiff();
        let x = Tensor::<4>::from_data(TensorData::new(values, [2, 3, 2, 2]), &device);
        let x = model.first.forward(x, None, true);
        model.second.forward(x, None, false);
    }

    #[test]
    fn any_number_of_ranks_has_the_running_statistics_of_one_process() {
        let batches = 5;
        let alone = net();
        (0..batches).for_each(|batch| forward(&alone, batch));
        let alone = named_tensors(&alone);
        let variance: Vec<f32> = alone["second.running_var"].iter().collect();
        assert_ne!(variance, [1.0; 3]);
        for size in [2, 3] {
            let found = on_threads(size, |ranks| {
                let model = net();
                for first in (0..batches).step_by(size) {
                    let batch = first + ranks.rank();
                    let ((), own) = keeping_statistics(None, || {
                        if batch < batches {
                            forward(&model, batch);
                        }
                    });
                    add_statistics(&ranks, &model, &own, false).unwrap();
                }
                named_tensors(&model)
            });
            for tensors in found {
                assert_eq!(tensors, alone, "{size} ranks");
            }
        }
    }
}
