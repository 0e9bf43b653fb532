//! Detectors must be able to overfit three images.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::Module as _;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use sedet::annotations::Split;
use sedet::config::training::OptimizerConfig;
use sedet::config::{DetectionConfig, Recipe as _};
use sedet::datasets::detection::TargetFilter;
use sedet::datasets::registry::{OpenedSplit, shapes_dataset};
use sedet::distributed::Ranks;
use sedet::images::OnBadImage;
use sedet::loading::transforms::Augmentation;
use sedet::loading::{DetectionLoader, LoaderOptions, Shard, TrainingImages};
use sedet::model::{ModelSpec, ground_truth};
use sedet::shapes::ShapesConfig;
use sedet::train::detection::DetectionTask;
use sedet::train::engine::TrainTask as _;
use sedet::train::optimizer::Optimizer;
use sedet_nn::kernels::bf16::{ComputePrecision, autocast};

/// Trains a detector on three images and returns its AP at IoU 0.5 on the same images.
fn overfit(settings: &[&str], precision: ComputePrecision) -> f64 {
    let shapes = ShapesConfig {
        train_images: 3,
        val_images: 3,
        long_side: 160,
        seed: 3,
    };
    let dataset = Arc::new(shapes_dataset(&shapes, Split::Train).unwrap());
    let sizes = ["input.min_size=96", "input.max_size=128"];
    let settings: Vec<String> = sizes
        .iter()
        .chain(settings)
        .map(|s| s.to_string())
        .collect();
    let config = DetectionConfig::load("shapes", &settings).unwrap();
    let network = config.detector(6, false).unwrap();
    let categories = dataset.store().categories().to_vec();
    let spec = ModelSpec::detector(network.clone(), config.preprocess(), categories);
    let device = Device::flex().autodiff();
    device.seed(1);
    let mut model = network.init(&device);
    let split = OpenedSplit {
        dataset: dataset.clone(),
    };
    let results = tempfile::tempdir().unwrap();
    let task = DetectionTask {
        train: DetectionLoader::training(
            dataset,
            spec.preprocess,
            Augmentation::none(),
            TrainingImages {
                group_by_aspect: false,
                filter: TargetFilter {
                    keep_empty: true,
                    ..TargetFilter::default()
                },
            },
            LoaderOptions {
                batch_size: 3,
                ..LoaderOptions::default()
            },
        )
        .unwrap(),
        ground_truth: ground_truth(&split).unwrap(),
        val: split,
        spec,
        results: results.path().to_path_buf(),
        on_bad_image: OnBadImage::Error,
        recompute: false,
        device: Device::flex(),
        ranks: Ranks::alone(),
    };
    let adamw = OptimizerConfig::Adamw {
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        weight_decay: 0.0,
    };
    let mut optimizer = Optimizer::new(adamw, true);
    for step in 0..200 {
        let mut batches = task.batches(step, 0, Shard::WHOLE).unwrap();
        let batch = batches.next().unwrap().unwrap().unwrap();
        let losses = autocast(precision, || task.losses(&model, batch, step as u64));
        let gradients = GradientsParams::from_grads(losses.total.backward(), &model);
        let rate = if step < 150 { 2e-3 } else { 4e-4 };
        model = optimizer.step(model, gradients, rate);
    }
    let evaluation = task
        .evaluate(&model.valid(), &AtomicBool::new(false), &mut |_, _| {})
        .unwrap()
        .unwrap();
    let ap50 = evaluation
        .metrics
        .iter()
        .find(|(name, _)| name == "AP50")
        .unwrap()
        .1;
    println!("{:?}", evaluation.metrics);
    ap50
}

#[test]
fn a_resnet_detector_overfits_three_images() {
    assert!(overfit(&[], ComputePrecision::F32) > 0.999);
}

#[test]
fn a_resnet_detector_overfits_three_images_in_bf16() {
    assert!(overfit(&[], ComputePrecision::Bf16) > 0.999);
}

#[test]
fn a_mobilenet_detector_overfits_three_images() {
    let mobilenet = ["model.backbone=se-mobilenet-v1"];
    let ap50 = overfit(&mobilenet, ComputePrecision::F32);
    assert!(ap50 > 0.9, "{ap50}");
}
