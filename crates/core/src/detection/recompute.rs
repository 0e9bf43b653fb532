//! Training with less memory: the backward pass recomputes the backbone.
//!
//! Usually all feature maps of the forward pass are kept for the backward pass. Here only the outputs
//! of the backbone's parts are kept, and each part is recomputed when its gradient is due (Chen et al.
//! 2016, "Training Deep Nets with Sublinear Memory Cost"). Losses and gradients are the same; the
//! backbone's forward pass is computed twice.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::faster_rcnn::{FasterRcnn, FasterRcnnLosses};
use super::sampler::SampleOrder;
use super::{ImageBatch, Target};
use crate::backbones::AnyBackbone;

/// The tensors kept for the backward pass.
#[derive(Debug)]
pub struct Recomputation {
    /// Inputs of the parts from the first trained one on, without gradients.
    part_inputs: Vec<Tensor<4>>,
    /// C2..C5 as the rest of the detector received them.
    maps: Vec<Tensor<4>>,
    /// Number of leading parts that are not trained.
    frozen: usize,
}

/// Computes [`FasterRcnn::losses`] and keeps only what [`Recomputation::backward`] needs.
///
/// The norms must be frozen: with batch statistics, computing a part twice would update the running
/// statistics twice.
pub fn losses(
    model: &FasterRcnn,
    batch: ImageBatch,
    targets: &[Target],
    order: &mut SampleOrder,
) -> (FasterRcnnLosses, Recomputation) {
    let frozen = model.frozen_parts();
    // Without gradients, because burn keeps the feature maps of a graph that no backward pass runs
    // through until the next backward pass: the peak was 20 % higher than without recomputing.
    let backbone = model.backbone.valid();
    let pixels = batch.pixels.clone().inner();
    let outputs = backbone.part_outputs(pixels.clone(), 0);
    let maps: Vec<Tensor<4>> = model
        .pyramid_parts()
        .iter()
        .map(|&part| Tensor::from_inner(outputs[part].clone()).require_grad())
        .collect();
    let part_inputs = std::iter::once(pixels)
        .chain(outputs)
        .take(backbone.parts())
        .skip(frozen)
        .collect();
    let losses = model.losses_of_maps(maps.clone(), batch, targets, order);
    let kept = Recomputation {
        part_inputs,
        maps,
        frozen,
    };
    (losses, kept)
}

impl Recomputation {
    /// Computes the gradients of `total`, which must be computed from the losses returned with this
    /// value.
    pub fn backward(self, model: &FasterRcnn, total: &Tensor<1>) -> GradientsParams {
        let backbone = &model.backbone;
        let mut gradients = total.backward();
        let mut of_parts: Vec<Option<Tensor<4>>> = vec![None; backbone.parts()];
        for (map, &part) in self.maps.iter().zip(model.pyramid_parts()) {
            of_parts[part] = map.grad_remove(&mut gradients);
        }
        let mut collected = GradientsParams::from_grads(gradients, model);
        let mut of_output: Option<Tensor<4>> = None;
        let parts = (self.frozen..backbone.parts()).zip(self.part_inputs);
        for (part, input) in parts.rev() {
            let dy = match (of_output.take(), of_parts[part].take()) {
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

/// Moves the gradients of a network's parameters from one collection to another.
fn move_gradients(mut from: GradientsParams, to: &mut GradientsParams, network: &AnyBackbone) {
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

    /// Returns the gradients in the order of the parameters.
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
    fn losses_and_gradients_equal_those_without_recomputing() {
        let device = Device::flex().autodiff();
        let cases = [
            ("se-resnet18", 0),
            ("resnet50", 2),
            ("resnet18", 5),
            ("se-mobilenet-v1", 1),
            ("shufflenet-v1-g3", 2),
        ];
        for (name, frozen_stages) in cases {
            let mut net = backbone(name).unwrap();
            *net.common_mut().width_multiplier = 0.125;
            *net.common_mut().frozen_stages = frozen_stages;
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
            let expected = model.losses(batch(), &targets, &mut SampleOrder::InOrder);
            let (found, kept) = losses(&model, batch(), &targets, &mut SampleOrder::InOrder);
            let [expected, found] = [expected.total(), found.total()];
            assert_eq!(expected.clone().into_data(), found.clone().into_data());
            let expected = GradientsParams::from_grads(expected.backward(), &model);
            let found = kept.backward(&model, &found);
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
