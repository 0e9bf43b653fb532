//! Small networks with random weights.

use std::path::Path;

use burn::tensor::Device;
use sedet::backbones::zoo;
use sedet::classification::classifier::ClassifierConfig;
use sedet::loading::transforms::Preprocess;
use sedet::model::ModelSpec;
use sedet::weights::checkpoint::{Checkpoint, Precision};
use sedet::weights::parameters::named_tensors;

/// Saves a checkpoint of a narrow network with random weights.
pub fn tiny(name: &str, path: &Path) {
    let device = Device::flex();
    device.seed(7);
    let mut network = zoo::network(name).unwrap();
    *network.backbone.common_mut().width_multiplier = 0.5;
    let network = ClassifierConfig::new(network.backbone, 10);
    let preprocess = Preprocess {
        min_size: 32,
        max_size: 32,
        size_divisor: 1,
        ..Preprocess::torchvision()
    };
    let checkpoint = Checkpoint {
        spec: ModelSpec::classifier(network.clone(), preprocess, []),
        progress: None,
        weights: named_tensors(&network.init(&device)),
        optimizer: Default::default(),
        ema: Default::default(),
    };
    checkpoint.save(path, Precision::Full).unwrap();
}
