//! SE units that are added to the weights of a plain network start as identity: the network computes what it
//! computed before, and the units learn from there.

use crate::common::{assert_close_to_largest, fixture_path, real_data, values};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use sedet::backbones::BackboneConfig;
use sedet::backbones::resnet::Shortcut;
use sedet::classification::classifier::ClassifierConfig;
use sedet::config::{ClassificationConfig, DetectionConfig, Recipe as _};
use sedet::loading::transforms::Preprocess;
use sedet::model::{Model, ModelSpec, NetworkConfig};
use sedet::nn::se::{SeConfig, SePosition, SeStart};
use sedet::weights::checkpoint::Precision;
use sedet::weights::export::{export, names_for};
use sedet::weights::grafted::to_units_of_the_paper;
use sedet::weights::import::import;
use sedet::weights::layouts::Library;
use sedet::weights::load::{LoadedWeights, load_weights};
use sedet::weights::onnx::{OnnxOptions, to_onnx};
use sedet::weights::parameters::{NamedTensors, load_named_tensors, named_tensors};

/// Returns the recipe of a small classifier with these settings.
fn recipe(settings: &[&str]) -> ClassificationConfig {
    let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
    ClassificationConfig::load("cifar-short", &settings).unwrap()
}

/// Returns weights in which every norm differs from the identity.
fn trained(network: &ClassifierConfig) -> NamedTensors {
    let mut weights = named_tensors(&network.init(&Device::flex()));
    for (name, data) in &mut weights {
        let of_norm = name.contains("bn1.") || name.contains("norm");
        if of_norm && name.ends_with("running_var") {
            *data = wave(data, 0.5, 1.0);
        } else if of_norm {
            *data = wave(data, 0.3, if name.ends_with("weight") { 1.0 } else { 0.0 });
        }
    }
    weights
}

fn wave(data: &TensorData, size: f32, center: f32) -> TensorData {
    let count = data.num_elements();
    let values: Vec<f32> = (0..count)
        .map(|i| center + size * (i as f32 * 1.7).sin())
        .collect();
    TensorData::new(values, data.shape().clone())
}

/// Returns initial weights of a network, replaced by those that are given, and the names of the others.
fn with_weights(network: &ClassifierConfig, given: &NamedTensors) -> (NamedTensors, Vec<String>) {
    let mut weights = named_tensors(&network.init(&Device::flex()));
    let mut others = Vec::new();
    for (name, data) in &mut weights {
        match given.get(name) {
            Some(found) if found.shape() == data.shape() => *data = found.clone(),
            _ => others.push(name.clone()),
        }
    }
    (weights, others)
}

fn logits(network: &ClassifierConfig, weights: &NamedTensors, pixels: &Tensor<4>) -> Vec<f32> {
    let model = load_named_tensors(network.init(&Device::flex()), weights).unwrap();
    values(model.forward(pixels.clone()))
}

fn random_pixels() -> Tensor<4> {
    let device = Device::flex();
    device.seed(3);
    Tensor::random([2, 3, 32, 32], Distribution::Normal(0.0, 1.0), &device)
}

#[test]
fn a_plain_network_with_added_units_has_the_same_logits_wherever_the_units_are() {
    let plain = recipe(&["model.backbone=resnet20", "model.width=0.25"]);
    let plain = plain.classifier(4).unwrap();
    let given = trained(&plain);
    let pixels = random_pixels();
    let expected = logits(&plain, &given, &pixels);
    let grafted = |settings: &[&str]| {
        let settings = [&["model.backbone=se-resnet20"], settings].concat();
        let mut config = recipe(&settings);
        config
            .adopt(&plain, &Preprocess::torchvision(), false)
            .unwrap();
        // As the configuration of the run is read again.
        let text = config.to_toml().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let read = ClassificationConfig::load(file.path().to_str().unwrap(), &[]).unwrap();
        assert_eq!(read, config);
        read.classifier(4).unwrap()
    };
    for position in ["standard", "pre", "post", "identity", "conv3x3"] {
        for variant in [
            "gate=sigmoid",
            "gate=tanh",
            "gate=relu",
            "squeeze=max",
            "squeeze=none",
            "bias=false",
        ] {
            let settings = [
                format!("model.se.position={position}"),
                format!("model.se.{variant}"),
            ];
            let network = grafted(&[&settings[0], &settings[1]]);
            let units = *network.backbone.se().unwrap();
            assert_eq!(units.start, SeStart::Identity);
            let (weights, others) = with_weights(&network, &given);
            assert!(
                others.iter().all(|name| name.contains(".se.")),
                "{others:?}"
            );
            let found = logits(&network, &weights, &pixels);
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() <= 1e-5,
                    "{settings:?}: {found} {expected}"
                );
            }
        }
    }
    // The paper's initialization changes them.
    let paper = grafted(&["model.se.start=paper"]);
    let (weights, _) = with_weights(&paper, &given);
    let found = logits(&paper, &weights, &pixels);
    let difference = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    assert!(difference.fold(0.0, f32::max) > 1e-2);
}

#[test]
fn a_named_classifier_takes_the_shortcuts_and_the_width_of_its_weights() {
    let imported = import(&fixture_path("layouts/chenyaofo_resnet.pt"), None).unwrap();
    let NetworkConfig::Classification(plain) = &imported.spec.network else {
        panic!("a detector");
    };
    let mut config = recipe(&["model.backbone=se-resnet20"]);
    config
        .adopt(plain, &imported.spec.preprocess, false)
        .unwrap();
    let network = config.classifier(5).unwrap();
    let BackboneConfig::Resnet(found) = &network.backbone else {
        panic!("no ResNet");
    };
    // ResNet-20 has shortcuts without weights and 16 channels.
    assert_eq!(
        (found.shortcut, found.base_channels),
        (Shortcut::Conv1x1, 4)
    );
    assert_eq!(found.layers, [3, 3, 3, 0]);
    // Weights of a network for other images have another stem, which is not taken.
    let large = import(&fixture_path("layouts/torchvision_basic.pth"), None).unwrap();
    let NetworkConfig::Classification(large) = &large.spec.network else {
        panic!("a detector");
    };
    let mut config = recipe(&["model.backbone=se-resnet20"]);
    config
        .adopt(large, &Preprocess::torchvision(), false)
        .unwrap();
    assert_eq!(
        config.classifier(5).unwrap().backbone,
        recipe(&["model.backbone=se-resnet20"])
            .classifier(5)
            .unwrap()
            .backbone
    );
}

#[test]
fn a_detector_on_a_named_se_backbone_starts_with_the_feature_maps_of_the_plain_weights() {
    let plain = import(&fixture_path("layouts/torchvision_basic.pth"), None).unwrap();
    let named = vec!["model.backbone=se-resnet18".to_string()];
    let mut config = DetectionConfig::load("shapes", &named).unwrap();
    config.import(&plain.spec, false, &named).unwrap();
    let detector = config.detector(3, true).unwrap();
    let BackboneConfig::Resnet(mut backbone) = detector.backbone else {
        panic!("no ResNet");
    };
    assert_eq!(backbone.se.unwrap().start, SeStart::Identity);
    // The fixture has fewer blocks than a ResNet-18.
    let NetworkConfig::Classification(network) = &plain.spec.network else {
        panic!("a detector");
    };
    let BackboneConfig::Resnet(small) = &network.backbone else {
        panic!("no ResNet");
    };
    backbone.layers = small.layers;
    let grafted = ClassifierConfig::new(backbone.into(), network.num_classes);
    let (weights, others) = with_weights(&grafted, &plain.weights);
    assert!(
        others.iter().all(|name| name.contains(".se.")),
        "{others:?}"
    );
    let pixels = random_pixels();
    assert_close_to_largest(
        "grafted",
        &logits(&grafted, &weights, &pixels),
        &logits(network, &plain.weights, &pixels),
        1e-5,
    );
}

#[test]
fn gradients_reach_added_units_and_their_gates_leave_the_start() {
    let mut config = recipe(&["model.backbone=se-resnet20"]);
    let plain = recipe(&["model.backbone=resnet20", "model.width=0.25"]);
    let plain = plain.classifier(4).unwrap();
    config
        .adopt(&plain, &Preprocess::torchvision(), false)
        .unwrap();
    let network = config.classifier(4).unwrap();
    let (weights, _) = with_weights(&network, &trained(&plain));
    let device = Device::flex().autodiff();
    let model = load_named_tensors(network.init(&device), &weights).unwrap();
    let pixels = Tensor::from_inner(random_pixels());
    let gradients = model.forward(pixels).powf_scalar(2.0).sum().backward();
    let sedet::backbones::AnyBackbone::Resnet(backbone) = &model.backbone else {
        panic!("no ResNet");
    };
    for (stage, blocks) in [&backbone.layer1, &backbone.layer2, &backbone.layer3]
        .into_iter()
        .enumerate()
    {
        for (n, block) in blocks.iter().enumerate() {
            let unit = block.se.as_ref().unwrap();
            let gradient = unit
                .fc2
                .bias
                .as_ref()
                .unwrap()
                .val()
                .grad(&gradients)
                .unwrap();
            let largest: f32 = gradient.abs().max().into_scalar();
            assert!(largest > 1e-6, "layer{}.{n}: {largest}", stage + 1);
        }
    }
}

/// Returns a small ResNet-18 with units that started as identity and have been trained.
fn grafted_resnet(position: SePosition) -> (ModelSpec, NamedTensors) {
    let plain = import(&fixture_path("layouts/torchvision_basic.pth"), None).unwrap();
    let NetworkConfig::Classification(mut network) = plain.spec.network.clone() else {
        panic!("a detector");
    };
    *network.backbone.common_mut().se = Some(SeConfig {
        start: SeStart::Identity,
        position,
        ..SeConfig::new(2)
    });
    let (mut weights, _) = with_weights(&network, &plain.weights);
    for (name, data) in &mut weights {
        if name.contains(".se.fc2.") {
            *data = wave(data, 0.8, 0.1);
        }
    }
    let spec = ModelSpec::new(
        NetworkConfig::Classification(network),
        plain.spec.preprocess,
    );
    (spec, weights)
}

#[test]
fn an_export_of_added_units_computes_the_same_in_timm_s_form_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("exported.safetensors");
    let (spec, weights) = grafted_resnet(SePosition::Standard);
    let NetworkConfig::Classification(network) = &spec.network else {
        panic!("a detector");
    };
    // Without a factor of 2 in the file the network would be another one.
    let message = names_for(Library::Timm, &spec.network)
        .unwrap_err()
        .to_string();
    assert!(message.contains("variant of the SE unit"), "{message}");
    let (mut paper, mut folded) = (spec.clone(), weights.clone());
    assert!(to_units_of_the_paper(&mut paper, &mut folded));
    let names = names_for(Library::Timm, &paper.network).unwrap();
    export(&folded, &names, Precision::Full, &path).unwrap();
    let back = import(&path, None).unwrap();
    let NetworkConfig::Classification(read) = &back.spec.network else {
        panic!("a detector");
    };
    assert_eq!(read.backbone.se().unwrap().start, SeStart::Paper);
    let pixels = random_pixels();
    assert_close_to_largest(
        "timm",
        &logits(read, &back.weights, &pixels),
        &logits(network, &weights, &pixels),
        1e-6,
    );
    // No norm is directly before these units.
    let (mut spec, mut weights) = grafted_resnet(SePosition::Pre);
    assert!(!to_units_of_the_paper(&mut spec, &mut weights));
    assert!(names_for(Library::Timm, &spec.network).is_err());
}

#[test]
fn an_onnx_file_of_added_units_has_the_factor_of_their_gates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("grafted.onnx");
    let has_factor = |spec: &ModelSpec, weights: &NamedTensors| {
        to_onnx(spec, weights, OnnxOptions::default())
            .unwrap()
            .save(&path)
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let name = b"gates.grafted";
        bytes.windows(name.len()).any(|found| found == name)
    };
    let (mut spec, mut weights) = grafted_resnet(SePosition::Standard);
    assert!(has_factor(&spec, &weights));
    to_units_of_the_paper(&mut spec, &mut weights);
    assert!(!has_factor(&spec, &weights));
}

/// The published ResNet-56 for CIFAR-10 with added units.
#[test]
#[ignore = "needs SEDET_REAL_DATA"]
fn a_real_data_network_with_added_units_has_the_logits_of_its_origin() {
    let directory = real_data("weights_cifar10_resnet");
    let path = directory.join("resnet56-4bfd9763.safetensors");
    let loaded = load_weights(&path, None).unwrap();
    let NetworkConfig::Classification(plain) = &loaded.spec.network else {
        panic!("a detector");
    };
    let mut config = recipe(&["model.backbone=se-resnet56"]);
    config.adopt(plain, &loaded.spec.preprocess, false).unwrap();
    let network = config.classifier(10).unwrap();
    let (weights, others) = with_weights(&network, &loaded.weights);
    assert_eq!(others.len(), 27 * 4, "only units are new");
    let grafted = LoadedWeights {
        spec: ModelSpec {
            network: NetworkConfig::Classification(network),
            ..loaded.spec.clone()
        },
        weights,
        report: None,
    };
    let grafted = Model::from_weights(grafted, &path, &Device::flex()).unwrap();
    let bytes = std::fs::read(directory.join("reference_resnet20.safetensors")).unwrap();
    let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let images = crate::layouts::cifar_images(&reference);
    let found: Vec<f32> = grafted.logits(&images).unwrap().concat();
    let expected: Vec<f32> = reference
        .tensor("logits_resnet56")
        .unwrap()
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    assert_close_to_largest("resnet56", &found, &expected, 1e-4);
}
