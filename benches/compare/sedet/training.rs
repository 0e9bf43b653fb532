//! Training steps on one batch.

use anyhow::ensure;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use sedet::config::training::OptimizerConfig;
use sedet::detection::Target;
use sedet::detection::faster_rcnn::{FasterRcnn, FasterRcnnConfig};
use sedet::detection::sampler::SampleOrder;
use sedet::train::optimizer::Optimizer;
use sedet_nn::kernels::bf16::{ComputePrecision, autocast};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::measure::timed;
use crate::network::{detector_for_training, full_batch};
use crate::tensors::{Inputs, Named, write};

/// The learning rate of the reference's side: large enough that three steps change the losses.
const CHECKED_LEARNING_RATE: f64 = 1e-3;
const CHECKED_STEPS: usize = 3;

/// torchvision's `trainable_backbone_layers=3`: stem and first stage are frozen.
fn frozen(mut config: FasterRcnnConfig) -> FasterRcnnConfig {
    *config.backbone.common_mut().frozen_stages = 2;
    config
}

/// Times forward pass, losses, backward pass and SGD.
pub fn train(arguments: &Arguments) -> anyhow::Result<Value> {
    let mut stepper = Stepper::new(
        detector_for_training(arguments.weights()?, frozen)?,
        arguments,
    )?;
    let found = timed(arguments, |index| {
        let mut order = SampleOrder::shuffled(index as u64);
        stepper.step(1e-5, &mut order).map(drop)
    })?;
    drop(stepper);
    write_checked_losses(arguments, frozen)?;
    Ok(found)
}

/// Returns the four losses of the first steps from the given weights, without randomness.
pub fn write_checked_losses(
    arguments: &Arguments,
    change: impl FnOnce(FasterRcnnConfig) -> FasterRcnnConfig,
) -> anyhow::Result<()> {
    write(arguments.outputs.as_deref(), || {
        let model = detector_for_training(arguments.weights()?, change)?;
        let mut stepper = Stepper::new(model, arguments)?;
        let mut losses = Vec::new();
        for _ in 0..CHECKED_STEPS {
            losses.extend(stepper.step(CHECKED_LEARNING_RATE, &mut SampleOrder::InOrder)?);
        }
        Ok(vec![Named::new("losses", vec![CHECKED_STEPS, 4], losses)])
    })
}

/// A detector that is trained on the same batch repeatedly.
struct Stepper {
    /// Taken for the time of an update.
    model: Option<FasterRcnn>,
    optimizer: Optimizer,
    pixels: Tensor<4>,
    targets: Vec<Target>,
    precision: ComputePrecision,
}

impl Stepper {
    fn new(model: FasterRcnn, arguments: &Arguments) -> anyhow::Result<Self> {
        let inputs = Inputs::open(arguments.inputs()?)?;
        let pixels = inputs.pixels()?;
        let [images, ..] = pixels.dims();
        let sgd = OptimizerConfig::Sgd {
            momentum: 0.9,
            weight_decay: 1e-4,
            nesterov: false,
        };
        Ok(Self {
            model: Some(model),
            optimizer: Optimizer::new(sgd, true),
            targets: inputs.targets(images)?,
            pixels,
            precision: arguments.precision,
        })
    }

    /// The four losses before the step: objectness, RPN boxes, classes, boxes.
    fn step(&mut self, learning_rate: f64, order: &mut SampleOrder) -> anyhow::Result<[f32; 4]> {
        let Some(model) = self.model.take() else {
            anyhow::bail!("an earlier step failed");
        };
        let batch = full_batch(Tensor::from_inner(self.pixels.clone()));
        let losses = autocast(self.precision, || model.losses(batch, &self.targets, order));
        let values: [f32; 4] = losses.parts().map(|(_, loss)| loss.clone().into_scalar());
        ensure!(
            values.iter().all(|value| value.is_finite()),
            "a loss is not finite, so the times are meaningless"
        );
        let gradients = GradientsParams::from_grads(losses.total().backward(), &model);
        drop(losses);
        self.model = Some(self.optimizer.step(model, gradients, learning_rate));
        Ok(values)
    }
}
