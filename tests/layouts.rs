//! Files of other code bases, taken as they are, compute what they computed there.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::{Device, TensorData};
use common::{Fixture, assert_close_to_largest, fixture_path, torchvision, values};
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sedet::backbones::BackboneConfig;
use sedet::backbones::resnet::{BlockKind, Shortcut, Stem, StemPooling, StridePlace};
use sedet::classification::classifier::ClassifierConfig;
use sedet::predict::classifier::LoadedClassifier;
use sedet::weights::export::{export, names_for};
use sedet::weights::foreign::{Container, ForeignFile};
use sedet::weights::import::{Imported, import};
use sedet::weights::layouts::{Library, Network};
use sedet::weights::parameters::{load_named_tensors, named_tensors};

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
    let of = |file: &str| match classifier(&import(&path(file)).unwrap()).backbone {
        BackboneConfig::Resnet(backbone) => backbone,
        other => panic!("{file}: {}", other.family()),
    };
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

/// The weights of the small detector under our names, by the map that the parity tests use.
fn reference_detector(network: &Network) -> BTreeMap<String, TensorData> {
    let Network::Detection { model, .. } = network else {
        panic!("not a detector");
    };
    let fixture = Fixture::open("faster_rcnn.safetensors");
    let ours = named_tensors(&model.init(&Device::flex()));
    torchvision::weights(&ours, &fixture, &["weights."])
}

#[test]
fn detectors_of_four_code_bases_give_the_same_weights() {
    for (file, layout) in [
        ("faster_rcnn.safetensors", "torchvision Faster"),
        ("layouts/torchvision_old_detector.pth", "before 0.13"),
        ("layouts/detectron2_detector.pth", "detectron2"),
        ("layouts/mmdetection_detector.pth", "mmdetection"),
    ] {
        let imported = import(&fixture_path(file)).unwrap_or_else(|e| panic!("{e}"));
        let report = &imported.report;
        assert!(report.layout.contains(layout), "{file}: {}", report.layout);
        assert!(report.network_is_whole(), "{file}: {:?}", report.lines());
        // The fixture of the first holds much more than weights.
        assert!(
            report.is_complete() || file == "faster_rcnn.safetensors",
            "{file}"
        );
        let no_background = report.layout.contains("detectron2") || report.layout.contains("mm");
        for (name, expected) in reference_detector(&imported.network) {
            let mut expected: Vec<f32> = expected.iter::<f32>().collect();
            if no_background && name.starts_with("box_head.bbox_pred") {
                // The deltas of the background, which nothing reads.
                let columns = imported.weights[&name].shape()[..].last().copied().unwrap();
                for row in expected.chunks_exact_mut(columns) {
                    row[..4].fill(0.0);
                }
            }
            let ours: Vec<f32> = imported.weights[&name].iter::<f32>().collect();
            assert_eq!(ours, expected, "{file}: {name}");
        }
    }
}

#[test]
fn an_export_is_read_back_as_it_was_and_has_the_shapes_of_its_library() {
    let dir = tempfile::tempdir().unwrap();
    for (file, library) in [
        ("layouts/torchvision_basic.pth", Library::Torchvision),
        ("layouts/torchvision_resnext.safetensors", Library::Timm),
        ("layouts/timm_seresnet.pt", Library::Timm),
        ("layouts/timm_seresnet_d.pth", Library::Timm),
        ("layouts/cadene_seresnet.pth", Library::Timm),
        ("layouts/cadene_senet.npz", Library::Timm),
        ("layouts/torchvision_old_detector.pth", Library::Torchvision),
    ] {
        let imported = import(&fixture_path(file)).unwrap();
        let names = names_for(library, &imported.network).unwrap();
        let path = dir.path().join("export.safetensors");
        export(&imported.weights, Some(&names), &path).unwrap();
        let back = import(&path).unwrap();
        assert!(
            back.report.is_complete(),
            "{file}: {:?}",
            back.report.lines()
        );
        assert_eq!(back.weights, imported.weights, "{file}");
        // Every tensor has the shape that the library wrote; a detector changes its old names.
        let (original, exported) = (
            ForeignFile::open(&fixture_path(file)).unwrap(),
            ForeignFile::open(&path).unwrap(),
        );
        for (name, info) in exported.tensors() {
            let theirs = format!("{}{name}", imported.report.prefix);
            match original.info(&theirs) {
                Some(original) => assert_eq!(info.shape, original.shape, "{file}: {name}"),
                None => assert!(file.contains("old_detector"), "{file}: {name}"),
            }
        }
    }
}

#[test]
fn an_export_that_would_compute_something_else_is_refused() {
    for (file, library, why) in [
        ("cadene_seresnet.pth", Library::Torchvision, "SE units"),
        ("akamaster_resnet.th", Library::Timm, "CIFAR"),
        ("detectron2_detector.pth", Library::Torchvision, "stride"),
        (
            "torchvision_old_detector.pth",
            Library::Timm,
            "no detectors",
        ),
    ] {
        let imported = import(&path(file)).unwrap();
        let message = names_for(library, &imported.network)
            .unwrap_err()
            .to_string();
        assert!(message.contains(why), "{file}: {message}");
    }
}

#[test]
fn damaged_and_foreign_files_are_named_with_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let message = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let message = import(&path).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
        message
    };
    for file in [
        "torchvision_basic.pth",
        "torchvision_resnext.safetensors",
        "timm_seresnet.pt",
        "cadene_senet.npz",
    ] {
        let whole = std::fs::read(path(file)).unwrap();
        for cut in [0, 1, 8, 100, whole.len() / 2, whole.len() - 1] {
            message(file, &whole[..cut]);
        }
    }
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    assert!(message("huge.safetensors", &huge).contains("no known kind"));
    let long = [&50_000u64.to_le_bytes()[..], b"{\"a\":"].concat();
    assert!(message("long.safetensors", &long).contains("cut off"));
    message("text.pth", b"import os; os.system('rm -rf /')");
    // A pickle that would run a command is parsed and refused, not executed.
    let marker = dir.path().join("executed");
    let evil = format!("cos\nsystem\n(S'touch {}'\ntR.", marker.display());
    message("evil.pkl", evil.as_bytes());
    message("evil2.pkl", &[b"\x80\x02", evil.as_bytes()].concat());
    assert!(!marker.exists());
}

#[test]
fn a_value_that_is_no_number_is_an_error_that_names_the_tensor() {
    let imported = import(&path("torchvision_basic.pth")).unwrap();
    let mut weights = imported.weights.clone();
    let name = "backbone.layer2.0.convs.0.weight";
    let mut values: Vec<f32> = weights[name].iter::<f32>().collect();
    values[3] = f32::NAN;
    let shape = weights[name].shape().to_vec();
    weights.insert(name.into(), TensorData::new(values, shape));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nan.safetensors");
    let names = names_for(Library::Torchvision, &imported.network).unwrap();
    export(&weights, Some(&names), &file).unwrap();
    let message = import(&file).unwrap_err().to_string();
    assert!(
        message.contains("nan.safetensors")
            && message.contains("layer2.0.conv1.weight has 1 value(s)"),
        "{message}"
    );
}

#[test]
fn trained_cifar_networks_give_the_logits_of_their_origin_on_real_pictures() {
    let Some(data) = std::env::var_os("SEDET_REAL_DATA") else {
        eprintln!("NOT CHECKED: SEDET_REAL_DATA is not set, the trained weights are not there");
        return;
    };
    let folder = PathBuf::from(data).join("weights_cifar10_resnet");
    let bytes = std::fs::read(folder.join("reference_resnet20.safetensors")).unwrap();
    let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let planes = reference.tensor("images").unwrap().data().to_vec();
    let images: Vec<image::RgbImage> = planes
        .chunks_exact(3 * 1024)
        .map(|p| {
            image::RgbImage::from_fn(32, 32, |x, y| {
                let at = (y * 32 + x) as usize;
                image::Rgb([p[at], p[1024 + at], p[2048 + at]])
            })
        })
        .collect();
    for (file, key) in [
        ("resnet20-12fca82f.safetensors", "logits_resnet20"),
        ("resnet56-4bfd9763.safetensors", "logits_resnet56"),
    ] {
        let classifier = LoadedClassifier::load(&folder.join(file), &Device::flex()).unwrap();
        assert!(classifier.report.as_ref().unwrap().is_complete());
        let ours: Vec<f32> = classifier.logits(&images).concat();
        let theirs: Vec<f32> = reference
            .tensor(key)
            .unwrap()
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        assert_close_to_largest(file, &ours, &theirs, 1e-4);
    }
}

/// Damage of every kind to real files: flipped bits, cuts, doubled and zeroed stretches. Runs for a
/// moment; `SEDET_FUZZ_SECONDS` makes it longer.
#[test]
fn no_damage_to_a_file_makes_the_readers_panic() {
    let seconds = std::env::var("SEDET_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1.0);
    let dir = tempfile::tempdir().unwrap();
    let files = [
        "torchvision_basic.pth",
        "torchvision_resnext.safetensors",
        "timm_seresnet.pt",
        "cadene_senet.npz",
        "chenyaofo_resnet.pt",
    ];
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let start = std::time::Instant::now();
    let mut round = 0;
    // The first rounds are made whatever the clock says, so that the test never checks nothing.
    while round < 40 || start.elapsed().as_secs_f64() < seconds {
        let file = files[round % files.len()];
        let mut bytes = std::fs::read(path(file)).unwrap();
        for _ in 0..1 + rng.next_u32() % 4 {
            // Mostly near the ends, where headers, pickles and directories are.
            let reach = match rng.next_u32() % 3 {
                0 => bytes.len(),
                _ => bytes.len().min(6000),
            };
            let offset = rng.next_u32() as usize % reach.max(1);
            let at = match rng.next_u32() % 2 {
                0 => offset,
                _ => bytes.len().saturating_sub(offset + 1),
            };
            let end = (at + 1 + rng.next_u32() as usize % 16).min(bytes.len());
            match rng.next_u32() % 5 {
                0 => bytes.truncate(at),
                1 => bytes[at..end].fill(0),
                2 => bytes[at..end].fill(0xFF),
                3 => bytes.extend_from_within(at..end),
                _ if at < bytes.len() => bytes[at] ^= 1 << (rng.next_u32() % 8),
                _ => {}
            }
            if bytes.is_empty() {
                break;
            }
        }
        let damaged = dir.path().join("damaged");
        std::fs::write(&damaged, &bytes).unwrap();
        let outcome = std::panic::catch_unwind(|| import(&damaged).map(|_| ()));
        if outcome.is_err() {
            let kept = std::env::temp_dir().join("sedet-damaged-weights");
            std::fs::write(&kept, &bytes).unwrap();
            panic!(
                "round {round}, {file}: the reader panicked; see {}",
                kept.display()
            );
        }
        round += 1;
    }
    eprintln!("{round} damaged files");
}
