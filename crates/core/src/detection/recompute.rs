//! Training with less memory: the backward pass computes the backbone's blocks a second time.
//!
//! Usually every map of the forward pass waits for the backward pass. Here only C2..C5 wait, which the
//! pyramid needs anyway, and each stage is computed again when its gradient is due (Chen et al. 2016,
//! "Training Deep Nets with Sublinear Memory Cost"). Losses and gradients are the same; the
//! backbone's forward pass is paid for twice.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::faster_rcnn::{FasterRcnn, FasterRcnnLosses};
use super::sampler::SampleOrder;
use super::{ImageBatch, Target};
use crate::backbones::resnet::ResNet;

/// What waits for the backward pass.
#[derive(Debug)]
pub struct Recomputation {
    /// Of each part of the backbone from the first that learns on, without gradients.
    part_inputs: Vec<Tensor<4>>,
    /// C2..C5 as the rest of the detector was given them.
    maps: [Tensor<4>; 4],
    /// Stem and stages that don't learn.
    frozen: usize,
}

/// [`FasterRcnn::losses`], keeping only what [`Recomputation::backward`] needs.
///
/// The norms must be frozen: with the statistics of batches, computing a block twice would count a
/// batch twice.
pub fn losses(
    model: &FasterRcnn,
    batch: ImageBatch,
    targets: &[Target],
    order: &mut SampleOrder,
) -> (FasterRcnnLosses, Recomputation) {
    let frozen = model.config().backbone.frozen_stages.min(ResNet::PARTS);
    let mut part_inputs = Vec::new();
    let mut maps = Vec::new();
    let mut x = batch.pixels.clone().inner();
    // Without gradients, because burn keeps the maps of a graph that no backward pass runs through
    // until the next backward pass: the peak was 20 % higher than without recomputing.
    let backbone = model.backbone.valid();
    for part in 0..ResNet::PARTS {
        if part >= frozen {
            part_inputs.push(x.clone());
        }
        x = backbone.forward_part(part, x);
        if part > 0 {
            maps.push(x.clone());
        }
    }
    let leaf = |stage: usize| Tensor::from_inner(maps[stage].clone()).require_grad();
    let maps = std::array::from_fn(leaf);
    let losses = model.losses_of_maps(maps.clone(), batch, targets, order);
    let waiting = Recomputation {
        part_inputs,
        maps,
        frozen,
    };
    (losses, waiting)
}

impl Recomputation {
    /// The gradients of `total`, which was made of the losses that came with this.
    pub fn backward(self, model: &FasterRcnn, total: &Tensor<1>) -> GradientsParams {
        let backbone = &model.backbone;
        let mut gradients = total.backward();
        let mut of_maps = self.maps.map(|map| map.grad_remove(&mut gradients));
        let mut collected = GradientsParams::from_grads(gradients, model);
        let mut of_output: Option<Tensor<4>> = None;
        let parts = (self.frozen..ResNet::PARTS).zip(self.part_inputs);
        for (part, input) in parts.rev() {
            let of_map = part.checked_sub(1).and_then(|stage| of_maps[stage].take());
            let dy = match (of_output.take(), of_map) {
                (Some(a), Some(b)) => a + b,
                (Some(a), None) | (None, Some(a)) => a,
                (None, None) => continue,
            };
            let x = Tensor::from_inner(input).require_grad();
            let y = backbone.forward_part(part, x.clone());
            let mut gradients = (y * Tensor::from_inner(dy)).sum().backward();
            of_output = x.grad_remove(&mut gradients);
            move_gradients(
                GradientsParams::from_grads(gradients, backbone),
                &mut collected,
                backbone,
            );
        }
        collected
    }
}

/// Moves the gradients of a network's parameters.
fn move_gradients(mut from: GradientsParams, to: &mut GradientsParams, network: &ResNet) {
    struct Mover<'a> {
        from: &'a mut GradientsParams,
        to: &'a mut GradientsParams,
    }

    impl ModuleVisitor for Mover<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.from.remove::<D>(param.id) {
                self.to.register(param.id, gradient);
            }
        }
    }

    network.visit(&mut Mover {
        from: &mut from,
        to,
    });
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::backbones::zoo::backbone;
    use crate::detection::faster_rcnn::{FasterRcnnConfig, Preset};
    use sedet_data::boxes::{BoxXyxy, ImageSize};

    /// Name-less gradients in the order of the parameters.
    fn values(gradients: &GradientsParams, model: &FasterRcnn) -> Vec<Option<Vec<f32>>> {
        struct Reader<'a> {
            gradients: &'a GradientsParams,
            values: Vec<Option<Vec<f32>>>,
        }

        impl ModuleVisitor for Reader<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let gradient = self.gradients.get::<D>(param.id);
                let values = gradient.map(|g| g.into_data().iter::<f32>().collect());
                self.values.push(values);
            }
        }

        let mut reader = Reader {
            gradients,
            values: Vec::new(),
        };
        model.visit(&mut reader);
        reader.values
    }

    #[test]
    fn losses_and_gradients_are_those_of_the_usual_way() {
        let device = Device::flex().autodiff();
        for (name, frozen_stages) in [("se-resnet18", 0), ("resnet50", 2), ("resnet18", 5)] {
            let mut net = backbone(name).unwrap();
            net.width_multiplier = 0.125;
            net.frozen_stages = frozen_stages;
            let mut config = FasterRcnnConfig::new(Preset::Torchvision, net, 3);
            config.fpn.channels = 16;
            config.roi_heads.representation_size = 32;
            let model = config.init(&device);
            let size = ImageSize::new(64, 96);
            let pixels = Tensor::<4>::random(
                [2, 3, size.height, size.width],
                Distribution::Normal(0.0, 1.0),
                &Device::flex(),
            );
            let batch = || ImageBatch {
                pixels: Tensor::from_inner(pixels.clone()),
                input_sizes: vec![size; 2],
            };
            let target = Target {
                boxes_in_input: vec![BoxXyxy::new(5.0, 8.0, 40.0, 50.0)],
                labels: vec![1],
            };
            let targets = [target, Target::default()];
            let usual = model.losses(batch(), &targets, &mut SampleOrder::InOrder);
            let (again, waiting) = losses(&model, batch(), &targets, &mut SampleOrder::InOrder);
            let [usual, again] = [usual.total(), again.total()];
            assert_eq!(usual.clone().into_data(), again.clone().into_data());
            let expected = GradientsParams::from_grads(usual.backward(), &model);
            let found = waiting.backward(&model, &again);
            let (expected, found) = (values(&expected, &model), values(&found, &model));
            assert!(expected.iter().any(Option::is_some));
            for (expected, found) in expected.iter().zip(&found) {
                assert_eq!(expected.is_some(), found.is_some(), "{name}");
                let (Some(expected), Some(found)) = (expected, found) else {
                    continue;
                };
                let largest = expected.iter().fold(0.0f32, |most, g| most.max(g.abs()));
                for (e, f) in expected.iter().zip(found) {
                    assert!(
                        (e - f).abs() <= 1e-5 * largest,
                        "{name}: {f} instead of {e}"
                    );
                }
            }
        }
    }
}
