//! The running statistics of batch norms over the batches of all ranks, in the order of the batches.
//!
//! A batch is normalized by its own statistics, so that the ranks need not wait for each other in a forward pass; what
//! it adds to the running statistics is exchanged after it.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use super::{DistributedError, Ranks};
use crate::weights::parameters::ModulePath;
use sedet_nn::nn::norm::{BatchStatistics, blend};

/// Adds the statistics of one batch of each rank, in the order of the ranks; an empty list if this rank has no batch
/// left. All ranks have to take part.
///
/// # Errors
/// A rank has failed.
pub fn add_statistics<M: Module>(
    ranks: &Ranks,
    model: &M,
    own: &[BatchStatistics],
) -> Result<(), DistributedError> {
    let mut names = Names::default();
    model.visit(&mut names);
    let own: Vec<Named> = own
        .iter()
        .filter_map(|batch| Named::of(batch, &names.paths))
        .collect();
    // Bits instead of numbers: text would round them.
    let all = ranks.gather(own)?;
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
                    let ((), own) = keeping_statistics(|| {
                        if batch < batches {
                            forward(&model, batch);
                        }
                    });
                    add_statistics(&ranks, &model, &own).unwrap();
                }
                named_tensors(&model)
            });
            for tensors in found {
                assert_eq!(tensors, alone, "{size} ranks");
            }
        }
    }
}
