//! Training step and inference of whole detectors on the CPU, one JSON line a case.
//!
//! `cargo bench --bench detector` runs all cases; `-- --case NAME --warmup W --iterations I` one of
//! them, as `benches/compare_torchvision.py` asks in turn with torchvision on the same work.
//! Threads are rayon's: `RAYON_NUM_THREADS`; `--threads N` only makes sure that it was set.

use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use sedet::backbones::zoo::backbone;
use sedet::boxes::{BoxXyxy, ImageSize};
use sedet::detection::faster_rcnn::{FasterRcnnConfig, Preset};
use sedet::detection::sampler::SampleOrder;
use sedet::detection::{ImageBatch, Target};
use sedet::nn::norm::NormKind;
use sedet::train::optimizer::{Optimizer, OptimizerConfig};
use sedet::weights::parameters::{load_named_tensors, named_tensors};

struct Case {
    name: &'static str,
    backbone: &'static str,
    width: f64,
    fpn: usize,
    representation: usize,
    norm: NormKind,
    frozen_stages: usize,
    train: bool,
    batch: usize,
    size: ImageSize,
}

const SMALL: Case = Case {
    name: "resnet18_w0.25_fpn64 infer batch 4 at 160x224",
    backbone: "resnet18",
    width: 0.25,
    fpn: 64,
    representation: 256,
    norm: NormKind::Frozen,
    frozen_stages: 2,
    train: false,
    batch: 4,
    size: ImageSize::new(160, 224),
};

const LARGE: Case = Case {
    name: "resnet50_fpn infer batch 1 at 320x480",
    backbone: "resnet50",
    width: 1.0,
    fpn: 256,
    representation: 1024,
    norm: NormKind::Frozen,
    frozen_stages: 2,
    train: false,
    batch: 1,
    size: ImageSize::new(320, 480),
};

const CASES: [Case; 5] = [
    SMALL,
    Case {
        name: "resnet18_w0.25_fpn64 train batch 4 at 160x224",
        train: true,
        ..SMALL
    },
    LARGE,
    Case {
        name: "resnet50_fpn infer batch 1 at 800x800",
        size: ImageSize::new(800, 800),
        ..LARGE
    },
    Case {
        name: "resnet50_fpn train batch 1 at 320x480",
        train: true,
        ..LARGE
    },
];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let (mut name, mut warmup, mut iterations) = (None, 1, 5);
    while let Some(option) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = || {
            value
                .parse::<usize>()
                .unwrap_or_else(|_| fail(&format!("{option} '{value}': not a number")))
        };
        match option.as_str() {
            "--case" => name = Some(value),
            "--warmup" => warmup = number(),
            "--iterations" => iterations = number().max(1),
            "--threads" if number() == rayon::current_num_threads() => {}
            "--threads" => fail(&format!("set RAYON_NUM_THREADS={value}")),
            _ => fail(&format!("unknown option {option}")),
        }
    }
    let wanted = |case: &&Case| name.as_deref().is_none_or(|n| n == case.name);
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    if cases.is_empty() {
        fail(&format!("no such case: {}", name.unwrap_or_default()));
    }
    for case in cases {
        let mut times = measure(case, warmup, iterations);
        times.sort_by(f64::total_cmp);
        println!(
            "{}",
            serde_json::json!({
                "name": case.name,
                "threads": rayon::current_num_threads(),
                "median_ms": times[times.len() / 2],
                "min_ms": times[0],
                "peak_rss_mb": peak_rss_mb(),
            })
        );
    }
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    std::process::exit(2);
}

fn measure(case: &Case, warmup: usize, iterations: usize) -> Vec<f64> {
    let device = if case.train {
        Device::flex().autodiff()
    } else {
        Device::flex()
    };
    let mut net = backbone(case.backbone).expect("a known backbone");
    net.width_multiplier = case.width;
    net.norm.kind = case.norm;
    net.frozen_stages = case.frozen_stages;
    let mut config = FasterRcnnConfig::new(Preset::Torchvision, net, 90);
    config.fpn.channels = case.fpn;
    config.roi_heads.representation_size = case.representation;
    device.seed(0);
    let mut model = config.init(&device);
    // As the comparison does: keeps activations in scale through untrained frozen norms.
    let mut tensors = named_tensors(&model);
    let last = match model.backbone.layer1[0].norms.len() {
        2 => ".norms.1.weight",
        _ => ".norms.2.weight",
    };
    for (name, data) in &mut tensors {
        if name.ends_with(last) {
            let shape = data.shape().to_vec();
            *data = TensorData::new(vec![0.2f32; shape.iter().product()], shape);
        }
    }
    model = load_named_tensors(model, &tensors).expect("the model's own tensors");
    let mut optimizer = Optimizer::new(
        OptimizerConfig::Sgd {
            momentum: 0.9,
            weight_decay: 1e-4,
            nesterov: false,
        },
        true,
    );
    let plain = Device::flex();
    let shape = [case.batch, 3, case.size.height, case.size.width];
    let pixels = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &plain);
    let targets = vec![
        Target {
            boxes_in_input: (0..5)
                .map(|i| {
                    let at = 12.0 * i as f32;
                    BoxXyxy::new(at, at, at + 40.0 + at, at + 60.0)
                })
                .collect(),
            labels: (0..5).collect(),
        };
        case.batch
    ];
    let mut step = |seed: u64| {
        let batch = ImageBatch {
            pixels: if case.train {
                Tensor::from_inner(pixels.clone())
            } else {
                pixels.clone()
            },
            input_sizes: vec![case.size; case.batch],
        };
        let start = Instant::now();
        if case.train {
            let mut order = SampleOrder::shuffled(seed);
            let losses = model.losses(batch, &targets, &mut order);
            let gradients = GradientsParams::from_grads(losses.total().backward(), &model);
            model = optimizer.step(model.clone(), gradients, 1e-5);
        } else {
            drop(model.detect(batch));
        }
        start.elapsed().as_secs_f64() * 1e3
    };
    for n in 0..warmup {
        step(n as u64);
    }
    (warmup..warmup + iterations)
        .map(|n| step(n as u64))
        .collect()
}

/// The largest resident set so far, from the kernel's own count; 0 where there is no `/proc`.
fn peak_rss_mb() -> f64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        })
        .map_or(0.0, |kib| kib / 1024.0)
}
