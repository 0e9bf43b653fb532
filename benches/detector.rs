//! Training step and inference of whole detectors on the CPU, one JSON line a case.
//!
//! `cargo bench --bench detector -- [FILTER] [--repeats N]`; `benches/compare_torchvision.py` runs
//! this and torchvision in turn on the same work and prints the ratios. Threads are rayon's:
//! `RAYON_NUM_THREADS`.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sedet::backbones::zoo::backbone;
use sedet::boxes::{BoxXyxy, ImageSize};
use sedet::detection::faster_rcnn::{FasterRcnnConfig, Preset};
use sedet::detection::sampler::SampleOrder;
use sedet::detection::{ImageBatch, Target};
use sedet::nn::norm::NormKind;

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
    norm: NormKind::Batch,
    frozen_stages: 0,
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
    let (mut filter, mut repeats) = (String::new(), 5usize);
    while let Some(argument) = arguments.next() {
        if argument == "--repeats" {
            repeats = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(5);
        } else {
            filter = argument;
        }
    }
    for case in CASES.iter().filter(|c| c.name.contains(&filter)) {
        let mut times = measure(case, repeats);
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

fn measure(case: &Case, repeats: usize) -> Vec<f64> {
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
    let model = config.init(&device);
    let plain = Device::flex();
    let shape = [case.batch, 3, case.size.height, case.size.width];
    let pixels = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &plain);
    let targets = vec![
        Target {
            boxes_in_input: vec![
                BoxXyxy::new(10.0, 20.0, 90.0, 120.0),
                BoxXyxy::new(100.0, 30.0, 140.0, 80.0),
            ],
            labels: vec![0, 1],
        };
        case.batch
    ];
    let step = |seed: u64| {
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
            let mut order = SampleOrder::Shuffled(ChaCha8Rng::seed_from_u64(seed));
            let losses = model.losses(batch, &targets, &mut order);
            drop(losses.total().backward());
        } else {
            drop(model.detect(batch));
        }
        start.elapsed().as_secs_f64() * 1e3
    };
    step(0);
    (0..repeats).map(|n| step(n as u64 + 1)).collect()
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
