//! Optimizers, gradient clipping and learning rates compared with torch.

use crate::common::{Fixture, assert_close, values};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use sedet::config::training::{Decay, OptimizerConfig, ScheduleConfig};
use sedet::config::{DetectionConfig, Recipe as _};
use sedet::nn::conv::{Conv2d, Conv2dConfig};
use sedet::nn::norm::{Norm, NormConfig, NormKind};
use sedet::train::optimizer::{Optimizer, average_and_clip};

const TOLERANCE: f32 = 2e-6;
const STEPS: usize = 6;

#[derive(Module, Debug)]
struct Layer {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

fn layer(fixture: &Fixture) -> Layer {
    let device = Device::flex().autodiff();
    Layer {
        weight: Param::from_tensor(fixture.tensor("weight", &device)),
        bias: Param::from_tensor(fixture.tensor("bias", &device)),
    }
}

/// Returns the given gradients of a step; in step 2 the bias has none.
fn gradients(fixture: &Fixture, model: &Layer, step: usize) -> GradientsParams {
    let device = Device::flex();
    let weight: Tensor<3> = fixture.tensor("weight_grads", &device);
    let bias: Tensor<2> = fixture.tensor("bias_grads", &device);
    let mut gradients = GradientsParams::new();
    gradients.register::<2>(model.weight.id, weight.slice(step..step + 1).squeeze_dim(0));
    if step != 2 {
        gradients.register::<1>(model.bias.id, bias.slice(step..step + 1).squeeze_dim(0));
    }
    gradients
}

fn cases() -> Vec<(&'static str, OptimizerConfig)> {
    let sgd = |momentum, weight_decay, nesterov| OptimizerConfig::Sgd {
        momentum,
        weight_decay,
        nesterov,
    };
    let adamw = |betas, epsilon, weight_decay| OptimizerConfig::Adamw {
        betas,
        epsilon,
        weight_decay,
    };
    vec![
        ("sgd", sgd(0.0, 0.0, false)),
        ("sgd_momentum", sgd(0.9, 1e-4, false)),
        ("sgd_strong_decay", sgd(0.9, 0.1, false)),
        ("sgd_nesterov", sgd(0.9, 0.01, true)),
        ("adamw", adamw([0.9, 0.999], 1e-8, 0.05)),
        ("adamw_other", adamw([0.8, 0.95], 1e-3, 0.3)),
    ]
}

/// Compares the parameters after each step with those of a case of the fixture.
fn assert_steps(fixture: &Fixture, name: &str, mut optimizer: Optimizer) {
    let rates = fixture.floats("rates");
    let weights = fixture.floats(&format!("{name}.weight"));
    let biases = fixture.floats(&format!("{name}.bias"));
    let mut model = layer(fixture);
    for step in 0..STEPS {
        let gradients = gradients(fixture, &model, step);
        model = optimizer.step(model, gradients, f64::from(rates[step]));
        let label = format!("{name}, step {step}");
        let expected = &weights[step * 15..(step + 1) * 15];
        assert_close(&label, &values(model.weight.val()), expected, TOLERANCE);
        let expected = &biases[step * 3..(step + 1) * 3];
        assert_close(&label, &values(model.bias.val()), expected, TOLERANCE);
    }
    assert!(model.weight.val().is_require_grad(), "{name}");
}

#[test]
fn every_step_equals_torch() {
    let fixture = Fixture::open("optimizer.safetensors");
    for (name, config) in cases() {
        assert_steps(&fixture, name, Optimizer::new(config, true));
    }
}

fn optimizer_of(recipe: &str, settings: &[&str]) -> Optimizer {
    let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
    Optimizer::of(&DetectionConfig::load(recipe, &settings).unwrap().train)
}

#[test]
fn rate_and_decay_of_biases_are_those_of_parameter_groups_in_torch() {
    let fixture = Fixture::open("optimizer.safetensors");
    for (name, recipe) in [
        ("sgd_detectron", "coco-paper-2x"),
        ("sgd_decayed_biases", "coco-detectron2-1x"),
        ("sgd_strong_decay", "coco-torchvision"),
    ] {
        let optimizer = optimizer_of(recipe, &["train.optimizer.weight_decay=0.1"]);
        assert_steps(&fixture, name, optimizer);
    }
}

#[derive(Module, Debug)]
struct Normed {
    conv: Conv2d,
    norm: Norm,
}

#[test]
fn the_shift_of_a_norm_is_not_a_bias() {
    let device = Device::flex().autodiff();
    let conv = Conv2dConfig {
        bias: true,
        ..Conv2dConfig::new(1, 1, 1)
    };
    let mut model = Normed {
        conv: conv.init(&device),
        norm: NormConfig::new(NormKind::Batch).init(1, &device),
    };
    let one = || Tensor::<1>::full([1], 1.0, &device);
    let bias = Param::from_tensor(one());
    let mut gradients = GradientsParams::new();
    for id in [bias.id, model.norm.weight.id, model.norm.bias.id] {
        gradients.register::<1>(id, one().inner());
    }
    model.conv.bias = Some(bias);
    let settings = [
        "train.optimizer.momentum=0",
        "train.optimizer.weight_decay=0.5",
        "train.decay_biases=true",
        "train.bias_learning_rate_factor=3",
    ];
    let mut optimizer = optimizer_of("coco-detectron2-1x", &settings);
    let model = optimizer.step(model, gradients, 0.1);
    let of = |tensor: Tensor<1>| values(tensor)[0];
    let moved = [
        of(model.conv.bias.unwrap().val()),
        of(model.norm.weight.val()),
        of(model.norm.bias.val()),
    ];
    // The bias begins at 1: 1 - 3 * 0.1 * (1 + 0.5 * 1).
    assert_close("parameters", &moved, &[0.55, 0.9, -0.1], TOLERANCE);
}

#[test]
fn an_exported_state_continues_bit_for_bit() {
    let fixture = Fixture::open("optimizer.safetensors");
    for (name, config) in cases() {
        let mut straight = (layer(&fixture), Optimizer::new(config, false));
        let mut broken = (layer(&fixture), Optimizer::new(config, false));
        for step in 0..STEPS {
            let g = gradients(&fixture, &straight.0, step);
            straight.0 = straight.1.step(straight.0, g, 0.1);
            let state = broken.1.export();
            broken.1 = Optimizer::new(config, false);
            broken.1.import(&state, &broken.0).unwrap();
            let g = gradients(&fixture, &broken.0, step);
            broken.0 = broken.1.step(broken.0, g, 0.1);
        }
        assert_eq!(
            values(straight.0.weight.val()),
            values(broken.0.weight.val()),
            "{name}"
        );
        assert_eq!(
            values(straight.0.bias.val()),
            values(broken.0.bias.val()),
            "{name}"
        );
    }
}

#[test]
fn a_state_of_another_optimizer_or_model_is_rejected_by_name() {
    let fixture = Fixture::open("optimizer.safetensors");
    let cases = cases();
    let (sgd, adamw) = (cases[1].1, cases[4].1);
    let mut model = layer(&fixture);
    let mut optimizer = Optimizer::new(sgd, true);
    let g = gradients(&fixture, &model, 0);
    model = optimizer.step(model, g, 0.1);
    let mut state = optimizer.export();
    let error = Optimizer::new(adamw, true)
        .import(&state, &model)
        .unwrap_err()
        .to_string();
    assert!(error.contains("optimizer/velocity/weight"), "{error}");

    let bias = state["velocity/bias"].clone();
    state.insert("velocity/weight".into(), bias.clone());
    state.insert("velocity/head.weight".into(), bias);
    let error = Optimizer::new(sgd, true)
        .import(&state, &model)
        .unwrap_err()
        .to_string();
    assert!(error.contains("velocity/weight has 3 values"), "{error}");
    assert!(
        error.contains("velocity/head.weight belongs to no"),
        "{error}"
    );
}

#[test]
fn vectors_are_excluded_from_weight_decay_on_request() {
    let fixture = Fixture::open("optimizer.safetensors");
    for (_, config) in [&cases()[2], &cases()[4]] {
        let step = |decay_norms| {
            let model = layer(&fixture);
            let g = gradients(&fixture, &model, 0);
            Optimizer::new(*config, decay_norms).step(model, g, 0.1)
        };
        let (all, matrices) = (step(true), step(false));
        assert_eq!(values(all.weight.val()), values(matrices.weight.val()));
        assert_ne!(values(all.bias.val()), values(matrices.bias.val()));
    }
}

#[test]
fn gradients_are_clipped_as_torch_clips_them() {
    let fixture = Fixture::open("optimizer.safetensors");
    let model = layer(&fixture);
    for step in [0, 1, 3, 4, 5] {
        // Twice the sum over twice the number of batches is the same mean.
        for batches in [1, 2] {
            let mut sum = gradients(&fixture, &model, step);
            let weight = sum.remove::<2>(model.weight.id).unwrap() * batches as f64;
            let bias = sum.remove::<1>(model.bias.id).unwrap() * batches as f64;
            sum.register(model.weight.id, weight);
            sum.register(model.bias.id, bias);
            let (norm, clipped) = average_and_clip(&model, sum, batches, Some(1.5));
            let key = |part: &str| fixture.floats(&format!("clip_{step}.{part}"));
            assert_close("norm", &[norm as f32], &key("norm"), TOLERANCE);
            let weight = clipped.get::<2>(model.weight.id).unwrap();
            assert_close("weight", &values(weight), &key("weight"), TOLERANCE);
            let bias = clipped.get::<1>(model.bias.id).unwrap();
            assert_close("bias", &values(bias), &key("bias"), TOLERANCE);
        }
    }
}

#[test]
fn a_norm_that_is_not_finite_is_reported() {
    let fixture = Fixture::open("optimizer.safetensors");
    let model = layer(&fixture);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut g = gradients(&fixture, &model, 0);
        g.register(model.bias.id, Tensor::<1>::full([3], bad, &Device::flex()));
        assert!(!average_and_clip(&model, g, 1, Some(1.0)).0.is_finite());
    }
}

#[test]
fn learning_rates_equal_torch() {
    let fixture = Fixture::open("optimizer.safetensors");
    let detection = ScheduleConfig {
        warmup_iterations: 1000,
        warmup_epochs: None,
        warmup_factor: 1.0 / 1000.0,
        decay: Decay::MultiStep {
            milestones: vec![3.0, 5.0],
            gamma: 0.1,
        },
    };
    let cosine = ScheduleConfig {
        warmup_iterations: 0,
        warmup_epochs: None,
        warmup_factor: 1.0,
        decay: Decay::Cosine { floor: 0.01 },
    };
    for (key, schedule, per_epoch, total) in [
        ("rates.multi_step", detection, 7, 49),
        ("rates.cosine", cosine, 10, 40),
    ] {
        let expected = fixture.floats(key);
        let rates: Vec<f32> = (0..expected.len())
            .map(|i| (0.02 * schedule.factor(i, per_epoch, total, 0)) as f32)
            .collect();
        for (i, (rate, expected)) in rates.iter().zip(&expected).enumerate() {
            assert!(
                (rate - expected).abs() <= 1e-6 * expected,
                "{key} {i}: {rate} for {expected}"
            );
        }
    }
}
