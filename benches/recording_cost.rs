//! Cost of recording the gates of SE-ResNet-50 at 224x224, on the CPU.
//!
//! `cargo bench --bench recording_cost [-- ROUNDS]` runs the network alternately without and with
//! [`record`] and prints the medians.

use std::time::Instant;

use burn::module::Module as _;
use burn::tensor::{Device, Distribution, Tensor};
use sedet::backbones::zoo;
use sedet::classification::classifier::ClassifierConfig;
use sedet::nn::recording::{Depth, record};

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let rounds: usize = rounds.unwrap_or(31);
    let device = Device::flex();
    let backbone = zoo::network("se-resnet50").expect("in the table").backbone;
    let network = ClassifierConfig::new(backbone, 1000).init(&device).valid();
    let pixels = Tensor::<4>::random([1, 3, 224, 224], Distribution::Normal(0.0, 1.0), &device);
    let forward = || network.forward(pixels.clone()).into_data();
    let milliseconds = |work: &dyn Fn()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e3
    };
    let without = || {
        forward();
    };
    let with = || {
        let (_, recorded) = record(Depth::Gates, forward);
        // Reading the gates is part of the cost.
        for unit in recorded {
            unit.gates.into_data();
        }
    };
    without();
    with();
    let (mut plain, mut recording) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        plain.push(milliseconds(&without));
        recording.push(milliseconds(&with));
    }
    let ratios = plain.iter().zip(&recording).map(|(a, b)| b / a).collect();
    println!(
        "without {:.1} ms, with {:.1} ms, median of the ratios {:.4}",
        median(plain),
        median(recording),
        median(ratios)
    );
}
