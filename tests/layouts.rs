//! Files of other code bases, taken as they are, compute what they computed there.

mod common;

use std::path::PathBuf;

use burn::tensor::Device;
use common::{Fixture, assert_close_to_largest, fixture_path, values};
use sedet::backbones::resnet::{BlockKind, Shortcut, Stem, StemPooling, StridePlace};
use sedet::classification::classifier::ClassifierConfig;
use sedet::weights::foreign::Container;
use sedet::weights::import::{Imported, import};
use sedet::weights::layouts::Network;
use sedet::weights::parameters::load_named_tensors;

fn path(file: &str) -> PathBuf {
    fixture_path("layouts").join(file)
}

fn classifier(imported: &Imported) -> ClassifierConfig {
    match &imported.network {
        Network::Classification { model, .. } => model.clone(),
        Network::Detection { .. } => panic!("a detector"),
    }
}

/// File, size of its input, kind of the file, part of the layout's name.
const CASES: [(&str, &str, Container, &str); 11] = [
    (
        "torchvision_basic.pth",
        "75x103",
        Container::PytorchZip,
        "torchvision",
    ),
    (
        "torchvision_resnext.safetensors",
        "75x103",
        Container::Safetensors,
        "torchvision",
    ),
    (
        "timm_seresnet.pt",
        "75x103",
        Container::PytorchLegacy,
        "timm SE",
    ),
    (
        "timm_seresnet_d.pth",
        "75x103",
        Container::PytorchZip,
        "timm SE",
    ),
    (
        "cadene_seresnet.pth",
        "75x103",
        Container::PytorchLegacy,
        "Cadene",
    ),
    ("cadene_senet.npz", "75x103", Container::Npz, "Cadene"),
    (
        "cadene_seresnet18.pth",
        "75x103",
        Container::PytorchLegacy,
        "Cadene",
    ),
    (
        "moskomule_seresnet.pkl",
        "75x103",
        Container::PytorchLegacy,
        "moskomule",
    ),
    (
        "mmpretrain_seresnet.pth",
        "75x103",
        Container::PytorchZip,
        "mmpretrain",
    ),
    (
        "akamaster_resnet.th",
        "32x32",
        Container::PytorchZip,
        "akamaster",
    ),
    (
        "chenyaofo_resnet.pt",
        "32x32",
        Container::PytorchZip,
        "chenyaofo",
    ),
];

#[test]
fn every_layout_is_recognised_and_gives_the_logits_of_its_origin() {
    let outputs = Fixture::open("layouts/outputs.safetensors");
    let device = Device::flex();
    for (file, size, container, layout) in CASES {
        let imported = import(&path(file)).unwrap_or_else(|e| panic!("{e}"));
        let report = &imported.report;
        assert_eq!(report.container, container, "{file}");
        assert!(report.layout.contains(layout), "{file}: {}", report.layout);
        assert!(report.network_is_whole(), "{file}: {:?}", report.lines());
        let model = classifier(&imported).init(&device);
        let model = load_named_tensors(model, &imported.weights).unwrap();
        let logits = model.forward(outputs.tensor(&format!("input_{size}"), &device));
        let case = file.split('.').next().unwrap();
        let expected = outputs.floats(&format!("{case}.logits"));
        assert_close_to_largest(file, &values(logits), &expected, 1e-4);
    }
}

#[test]
fn what_names_and_shapes_show_becomes_configuration() {
    let of = |file: &str| classifier(&import(&path(file)).unwrap()).backbone;
    let cadene = of("cadene_seresnet.pth");
    assert_eq!(cadene.stride_place, StridePlace::Conv1x1);
    assert_eq!(cadene.stem_pooling, StemPooling::CeilMode);
    assert_eq!(cadene.layers, [1, 2, 1, 1]);
    let senet = of("cadene_senet.npz");
    assert_eq!(senet.block, BlockKind::WideBottleneck);
    assert_eq!(senet.shortcut, Shortcut::Conv3x3);
    assert!(matches!(
        senet.stem,
        Stem::Deep {
            channels: [4, 4, 8]
        }
    ));
    assert_eq!(senet.groups, 4);
    let deep = of("timm_seresnet_d.pth");
    assert_eq!(deep.shortcut, Shortcut::AveragePool);
    assert_eq!(deep.se.unwrap().round_to, 8);
    let cifar = of("akamaster_resnet.th");
    assert_eq!(
        (cifar.stem, cifar.shortcut),
        (Stem::Cifar, Shortcut::ZeroPad)
    );
    assert_eq!(cifar.layers, [2, 2, 2, 0]);
}

#[test]
fn wrappers_around_the_names_are_said_and_averaged_weights_preferred() {
    let prefix = |file: &str| import(&path(file)).unwrap().report.prefix;
    assert_eq!(prefix("torchvision_basic.pth"), "state_dict.module.");
    assert_eq!(prefix("timm_seresnet_d.pth"), "state_dict_ema.");
}
