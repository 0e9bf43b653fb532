//! The sum of the gradients of the batches of one optimizer step, in the order of the batches.
//!
//! Each rank owns a part of all values. After each round, in which every rank has computed at most one batch, it adds
//! what the ranks have sent for its part, in their order. So the sum of every value has the terms of one process that
//! computes the batches in turn, in the same order, with the same bits, for any number of ranks; a sum over the ranks of
//! what each has accumulated would depend on their number. At the end the parts are sent to all.

use std::borrow::Cow;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Tensor, TensorData};

use super::{DistributedError, Ranks};

/// The gradients of a step, summed over batches and ranks.
pub struct GradientSum<'r, M> {
    ranks: &'r Ranks,
    /// The sum of one process without others.
    local: GradientsAccumulator<M>,
    /// The sum of the part of this rank.
    part: Vec<f32>,
    /// Whether a batch had a gradient for a parameter, in the order of the parameters.
    has_gradient: Vec<bool>,
}

/// The gradients of a batch as one row of numbers, in the order of the parameters.
struct Flat {
    values: Vec<f32>,
    parameters: Vec<Parameter>,
}

/// A parameter in a row of numbers.
struct Parameter {
    /// The number of values.
    size: usize,
    /// Whether the batch has a gradient for it; its values are 0 otherwise.
    has_gradient: bool,
}

impl<'r, M: Module> GradientSum<'r, M> {
    /// A sum without terms.
    pub fn new(ranks: &'r Ranks) -> Self {
        Self {
            ranks,
            local: GradientsAccumulator::new(),
            part: Vec::new(),
            has_gradient: Vec::new(),
        }
    }

    /// Adds the gradients of one batch of each rank, in the order of the ranks; none if this rank has no batch left.
    /// All ranks have to take part.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn add(
        &mut self,
        model: &M,
        gradients: Option<GradientsParams>,
    ) -> Result<(), DistributedError> {
        if self.ranks.is_alone() {
            if let Some(gradients) = gradients {
                self.local.accumulate(model, gradients);
            }
            return Ok(());
        }
        let flat = Flat::of(model, gradients);
        let flags: Vec<u8> = flat
            .parameters
            .iter()
            .map(|p| p.has_gradient.into())
            .collect();
        let flags = self.ranks.gather_bytes(&flags)?;
        let ranges = ranges(flat.values.len(), self.ranks.size());
        let bytes: &[u8] = bytemuck::cast_slice(&flat.values);
        let outgoing: Vec<&[u8]> = ranges
            .iter()
            .map(|&(from, to)| &bytes[4 * from..4 * to])
            .collect();
        let terms = self.ranks.exchange(&outgoing)?;
        let (from, to) = ranges[self.ranks.rank()];
        self.part.resize(to - from, 0.0);
        self.has_gradient.resize(flat.parameters.len(), false);
        for (flags, term) in flags.iter().zip(&terms) {
            let mut begin = 0;
            for (parameter, (has_sum, flag)) in flat
                .parameters
                .iter()
                .zip(self.has_gradient.iter_mut().zip(flags.iter()))
            {
                let end = begin + parameter.size;
                if *flag == 1 {
                    let own = begin.clamp(from, to) - from..end.clamp(from, to) - from;
                    let term = &term[4 * own.start..4 * own.end];
                    add(&mut self.part[own], term, *has_sum);
                    *has_sum = true;
                }
                begin = end;
            }
        }
        Ok(())
    }

    /// Returns the sum on every rank.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn finish(mut self, model: &M) -> Result<GradientsParams, DistributedError> {
        if self.ranks.is_alone() {
            return Ok(self.local.grads());
        }
        let parts = self.ranks.gather_bytes(bytemuck::cast_slice(&self.part))?;
        let mut assemble = Assemble {
            parts: Joined { parts, at: 0 },
            has_gradient: self.has_gradient.into_iter(),
            gradients: GradientsParams::new(),
        };
        model.visit(&mut assemble);
        Ok(assemble.gradients)
    }
}

/// Adds the numbers of a message to a sum, or begins it with them.
fn add(sum: &mut [f32], term: &[u8], has_sum: bool) {
    let term = term
        .chunks_exact(4)
        .map(bytemuck::pod_read_unaligned::<f32>);
    if has_sum {
        sum.iter_mut()
            .zip(term)
            .for_each(|(sum, term)| *sum += term);
    } else {
        sum.iter_mut().zip(term).for_each(|(sum, term)| *sum = term);
    }
}

/// Returns the part of `len` values that each of `parts` owns, as start and end.
fn ranges(len: usize, parts: usize) -> Vec<(usize, usize)> {
    let at = |part: usize| len * part / parts;
    (0..parts).map(|part| (at(part), at(part + 1))).collect()
}

impl Flat {
    /// Returns the gradients of a batch; none if there is no batch.
    fn of<M: Module>(model: &M, gradients: Option<GradientsParams>) -> Self {
        let mut visitor = Flatten {
            gradients,
            // With frozen parameters more than is needed. A row that grows would be copied several times.
            flat: Self {
                values: Vec::with_capacity(model.num_params()),
                parameters: Vec::new(),
            },
        };
        model.visit(&mut visitor);
        visitor.flat
    }
}

struct Flatten {
    gradients: Option<GradientsParams>,
    flat: Flat,
}

impl ModuleVisitor for Flatten {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if !tensor.is_require_grad() {
            return;
        }
        let size = tensor.shape().num_elements();
        // Removed, because a gradient with another owner would be copied once more.
        let gradients = self.gradients.as_mut();
        let gradient = gradients.and_then(|all| all.remove::<D>(param.id));
        self.flat.parameters.push(Parameter {
            size,
            has_gradient: gradient.is_some(),
        });
        match gradient {
            Some(gradient) => {
                let data = gradient.into_data();
                match data.as_slice::<f32>() {
                    Ok(values) => self.flat.values.extend_from_slice(values),
                    Err(_) => self.flat.values.extend(data.iter::<f32>()),
                }
            }
            None => self.flat.values.resize(self.flat.values.len() + size, 0.0),
        }
    }
}

/// The parts of all ranks as one row, read from its beginning.
struct Joined<'m> {
    /// What is left of the row, with the part that is being read first.
    parts: Vec<Cow<'m, [u8]>>,
    /// The byte of the first part that comes next.
    at: usize,
}

impl Joined<'_> {
    /// Returns the next values, or fewer at the end.
    fn take(&mut self, count: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(count);
        while values.len() < count
            && let Some(part) = self.parts.first()
        {
            let end = part.len().min(self.at + 4 * (count - values.len()));
            let bytes = part[self.at..end].chunks_exact(4);
            values.extend(bytes.map(bytemuck::pod_read_unaligned::<f32>));
            self.at = end;
            if end == part.len() {
                self.parts.remove(0);
                self.at = 0;
            }
        }
        values
    }
}

struct Assemble<'m> {
    parts: Joined<'m>,
    has_gradient: std::vec::IntoIter<bool>,
    gradients: GradientsParams,
}

impl ModuleVisitor for Assemble<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if !tensor.is_require_grad() {
            return;
        }
        let shape = tensor.shape();
        let values = self.parts.take(shape.num_elements());
        if self.has_gradient.next() != Some(true) {
            return;
        }
        let device = tensor.device().inner();
        let gradient = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
        self.gradients.register(param.id, gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::threads::on_threads;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Net {
        layers: Vec<Linear>,
    }

    fn net() -> Net {
        let device = Device::flex().autodiff();
        let layer = |size| LinearConfig::new(size, 3).init(&device);
        Net {
            layers: vec![layer(5), layer(2), layer(1)],
        }
    }

    /// Registers gradients for a batch whose bits depend on the order in which they are added. The second layer has a
    /// gradient in each third batch only, the third in none.
    struct Draw {
        batch: usize,
        parameter: usize,
        gradients: GradientsParams,
    }

    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let has_gradient = match self.parameter {
                0 | 1 => true,
                2 | 3 => self.batch % 3 == 1,
                _ => false,
            };
            self.parameter += 1;
            if !has_gradient {
                return;
            }
            let shape = param.lazy_shape();
            let seed = (self.batch * 31 + self.parameter) as f32;
            let values: Vec<f32> = (0..shape.num_elements())
                .map(|at| ((seed * 12.9898 + at as f32 * 78.233).sin() * 43_758.547).fract())
                .map(|value| value * 10f32.powi(self.batch as i32 % 7 - 3))
                .collect();
            let gradient = Tensor::<D>::from_data(TensorData::new(values, shape), &Device::flex());
            self.gradients.register(param.id, gradient);
        }
    }

    fn draw(model: &Net, batch: usize) -> GradientsParams {
        let mut draw = Draw {
            batch,
            parameter: 0,
            gradients: GradientsParams::new(),
        };
        model.visit(&mut draw);
        draw.gradients
    }

    /// Returns the bits of the sum over batches on each rank.
    fn sums(size: usize, batches: usize) -> Vec<(Vec<u32>, Vec<bool>)> {
        on_threads(size, |ranks| {
            let model = net();
            let mut sum = GradientSum::new(&ranks);
            for first in (0..batches).step_by(size) {
                let batch = first + ranks.rank();
                let gradients = (batch < batches).then(|| draw(&model, batch));
                sum.add(&model, gradients).unwrap();
            }
            let sum = sum.finish(&model).unwrap();
            let flat = Flat::of(&model, Some(sum));
            let bits = flat.values.iter().map(|value| value.to_bits());
            let flags = flat.parameters.iter().map(|p| p.has_gradient);
            (bits.collect(), flags.collect())
        })
    }

    #[test]
    fn any_number_of_ranks_has_the_bits_of_one_process() {
        for batches in [1, 2, 3, 7, 8] {
            let alone = sums(1, batches).remove(0);
            assert_eq!(alone.1[4..], [false; 2]);
            assert_eq!(alone.1[2], batches > 1);
            for size in [2, 3, 4, 5] {
                for (rank, sum) in sums(size, batches).into_iter().enumerate() {
                    assert_eq!(sum, alone, "{batches} batches, rank {rank} of {size}");
                }
            }
        }
    }
}
