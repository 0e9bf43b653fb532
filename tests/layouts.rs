//! Imported weight files of other frameworks give the same outputs as in their framework.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::third_party::{Tensors, tensors_of, to_safetensors};
use crate::common::{
    Fixture, assert_close_to_largest, fixture_path, real_data, torchvision, values,
};
use burn::tensor::{Device, TensorData};
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sedet::backbones::BackboneConfig;
use sedet::backbones::resnet::{
    AntiAlias, BlockKind, ResNetConfig, Shortcut, Stem, StemPooling, StridePlace,
};
use sedet::classification::classifier::ClassifierConfig;
use sedet::config::{DetectionConfig, Recipe as _};
use sedet::loading::transforms::ResizeMethod;
use sedet::model::{ImageDetection, Model, NetworkConfig};
use sedet::weights::checkpoint::{Checkpoint, Precision};
use sedet::weights::export::{export, names_for};
use sedet::weights::import::{ImportError, ImportOptions, ImportReport, import};
use sedet::weights::layouts::{Layout, Library};
use sedet::weights::load::{LoadedWeights, load_weights};
use sedet::weights::parameters::{load_named_tensors, named_shapes, named_tensors};
use sedet::weights::third_party::{Container, ThirdPartyFile};

fn path(file: &str) -> PathBuf {
    fixture_path("layouts").join(file)
}

fn report(imported: &LoadedWeights) -> &ImportReport {
    imported.report.as_ref().unwrap()
}

fn classifier(imported: &LoadedWeights) -> ClassifierConfig {
    match &imported.spec.network {
        NetworkConfig::Classification(model) => model.clone(),
        NetworkConfig::Detection(_) => panic!("a detector"),
    }
}

/// File name, input size, file format, part of the layout's name.
const CASES: [(&str, &str, Container, &str); 16] = [
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
    (
        "kuangliu_resnet.pth",
        "32x32",
        Container::PytorchZip,
        "kuangliu",
    ),
    (
        "resnetaa10d.safetensors",
        "64x96",
        Container::Safetensors,
        "average pooling",
    ),
    (
        "seresnetaa14d.pth",
        "64x96",
        Container::PytorchLegacy,
        "average pooling",
    ),
    (
        "resnetblur14d.pth",
        "75x103",
        Container::PytorchZip,
        "blur pooling",
    ),
    (
        "resnetrs14.safetensors",
        "75x103",
        Container::Safetensors,
        "timm SE",
    ),
];

#[test]
fn every_layout_is_recognized_and_gives_the_logits_of_its_origin() {
    let outputs = Fixture::open("layouts/outputs.safetensors");
    let device = Device::flex();
    for (file, size, container, layout) in CASES {
        let imported = import(&path(file), None).unwrap_or_else(|e| panic!("{e}"));
        let report = report(&imported);
        assert_eq!(report.container, container, "{file}");
        assert!(
            report.layout.name().contains(layout),
            "{file}: {}",
            report.layout.name()
        );
        assert!(report.network_is_whole(), "{file}: {:?}", report.lines());
        let model = classifier(&imported).init(&device);
        let model = load_named_tensors(model, &imported.weights).unwrap();
        let logits = model.forward(outputs.tensor(&format!("input_{size}"), &device));
        let case = file.split('.').next().unwrap();
        let expected = outputs.floats(&format!("{case}.logits"));
        assert_close_to_largest(file, &values(logits), &expected, 1e-4);
    }
}

/// Returns the backbone of an imported classifier.
fn resnet(imported: &LoadedWeights) -> ResNetConfig {
    match classifier(imported).backbone {
        BackboneConfig::Resnet(backbone) => backbone,
        other => panic!("{}", other.family()),
    }
}

#[test]
fn the_configuration_is_derived_from_names_and_shapes() {
    let of = |file: &str| resnet(&import(&path(file), None).unwrap());
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
fn name_prefixes_are_reported_and_ema_weights_preferred() {
    let prefix = |file: &str| report(&import(&path(file), None).unwrap()).prefix.clone();
    assert_eq!(prefix("torchvision_basic.pth"), "state_dict.module.");
    assert_eq!(prefix("timm_seresnet_d.pth"), "state_dict_ema.");
}

/// Writes the tensors of a fixture as safetensors after a change.
fn rewrite(fixture: &str, to: &Path, change: impl FnOnce(&mut Tensors)) {
    let mut tensors = tensors_of(&path(fixture));
    change(&mut tensors);
    std::fs::write(to, to_safetensors(&tensors)).unwrap();
}

#[test]
fn a_tensor_in_a_block_that_sedet_has_no_layer_for_is_an_error_unless_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("extra.safetensors");
    let extra = |name: &str| {
        rewrite("torchvision_resnext.safetensors", &file, |tensors| {
            tensors.insert(name.to_string(), (vec![1], vec![0.5]));
        });
    };
    for (name, words) in [
        ("layer2.0.conv1.bias", "1 tensor inside the network"),
        ("layer3.0.gate.weight", "layer3.0.gate.weight"),
        ("conv2.weight", "conv2.weight"),
        ("layer1.0.se.conv.weight", "efficient channel attention"),
    ] {
        extra(name);
        let error = import(&file, None).unwrap_err();
        assert!(
            matches!(error, ImportError::UnknownTensors { .. }),
            "{error}"
        );
        let message = error.to_string();
        assert!(message.contains("extra.safetensors: "), "{message}");
        assert!(
            message.contains(words) && message.contains(name),
            "{message}"
        );
        let options = ImportOptions {
            allow_unused: true,
            ..ImportOptions::default()
        };
        let imported = import(&file, options).unwrap();
        assert_eq!(report(&imported).skipped, [name]);
        assert!(report(&imported).network_is_whole());
    }
    // What comes after the network is not needed for its outputs.
    extra("projection.weight");
    assert_eq!(
        report(&import(&file, None).unwrap()).skipped,
        ["projection.weight"]
    );
}

#[test]
fn a_negative_variance_is_an_error_that_names_the_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("negative.safetensors");
    rewrite("torchvision_resnext.safetensors", &file, |tensors| {
        let (_, variances) = tensors.get_mut("layer2.0.bn1.running_var").unwrap();
        variances[..2].fill(-0.25);
    });
    let message = import(&file, None).unwrap_err().to_string();
    assert!(
        message.ends_with(
            "negative.safetensors: tensor layer2.0.bn1.running_var has 2 negative values; a variance is \
             at least 0"
        ),
        "{message}"
    );
    // So it is in a checkpoint of sedet.
    let imported = import(&path("torchvision_resnext.safetensors"), None).unwrap();
    for (name, value, words) in [
        ("backbone.bn1.running_var", -1.0, "1 negative value"),
        ("fc.bias", f32::NAN, "1 NaN or infinite value"),
    ] {
        let mut weights = imported.weights.clone();
        let mut values: Vec<f32> = weights[name].iter::<f32>().collect();
        values[0] = value;
        let shape = weights[name].shape().to_vec();
        weights.insert(name.into(), TensorData::new(values, shape));
        let checkpoint = Checkpoint {
            spec: imported.spec.clone(),
            progress: None,
            weights,
            optimizer: BTreeMap::new(),
            ema: BTreeMap::new(),
        };
        let file = dir.path().join("native.safetensors");
        checkpoint.save(&file, Precision::Full).unwrap();
        let message = Model::load(&file, &Device::flex()).unwrap_err().to_string();
        let expected = format!("native.safetensors: tensor {name} has {words}");
        assert!(message.contains(&expected), "{message}");
    }
}

#[test]
fn a_backbone_without_its_last_layer_is_taken_by_a_detector() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("headless.safetensors");
    rewrite("torchvision_resnext.safetensors", &file, |tensors| {
        tensors.retain(|name, _| !name.starts_with("fc."));
    });
    let loaded = load_weights(&file, None).unwrap();
    assert_eq!(loaded.spec.missing, ["fc.bias", "fc.weight"]);
    let assumptions = &report(&loaded).assumptions;
    assert!(
        assumptions.contains(&"a backbone without its last layer".into()),
        "{assumptions:?}"
    );
    let mut config = DetectionConfig::load("shapes", &[]).unwrap();
    config.import(&loaded.spec, true, &[]).unwrap();
    let detector = config.detector(3, true).unwrap().init(&Device::flex());
    let in_backbone = |name: &&String| name.starts_with("backbone.");
    let wanted = named_shapes(&detector);
    assert!(wanted.keys().any(|name| name.starts_with("backbone.")));
    for name in wanted.keys().filter(in_backbone) {
        assert_eq!(
            loaded.weights[name].shape().to_vec(),
            wanted[name],
            "{name}"
        );
    }
    // It is no classifier.
    let message = Model::from_weights(loaded, &file, &Device::flex())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("headless.safetensors: 2 tensors"),
        "{message}"
    );
}

#[test]
fn a_network_in_an_entry_backbone_is_read_with_the_names_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("entry.safetensors");
    rewrite("akamaster_resnet.th", &file, |tensors| {
        let renamed = std::mem::take(tensors).into_iter().map(|(name, tensor)| {
            let name = name.replace("state_dict.module.", "backbone.");
            (name, tensor)
        });
        tensors.extend(renamed);
    });
    let imported = import(&file, None).unwrap();
    let original = import(&path("akamaster_resnet.th"), None).unwrap();
    assert_eq!(report(&imported).layout, Layout::Akamaster);
    assert_eq!(report(&imported).prefix, "backbone.");
    assert!(report(&imported).is_complete());
    assert_eq!(imported.spec, original.spec);
    assert_eq!(imported.weights, original.weights);
}

/// Writes a network twice, with these prefixes: the second copy has zeros for weights.
fn write_twice(file: &Path, [first, second]: [&str; 2]) {
    rewrite("torchvision_resnext.safetensors", file, |tensors| {
        for (name, (shape, values)) in std::mem::take(tensors) {
            let zeros = vec![0.0; values.len()];
            tensors.insert(format!("{first}{name}"), (shape.clone(), values));
            tensors.insert(format!("{second}{name}"), (shape, zeros));
        }
    });
}

fn of_network(name: &str) -> ImportOptions {
    ImportOptions {
        network: Some(name.to_string()),
        ..ImportOptions::default()
    }
}

#[test]
fn of_two_networks_in_a_file_one_has_to_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("two.safetensors");
    let original = import(&path("torchvision_resnext.safetensors"), None).unwrap();
    for (prefixes, network, listed) in [
        (
            ["module.encoder_q.", "module.encoder_k."],
            "encoder_q",
            "it contains 2 networks: module.encoder_k, module.encoder_q",
        ),
        (
            ["teacher.backbone.", "student.module.backbone."],
            "teacher",
            "it contains 2 networks: student.module.backbone, teacher.backbone",
        ),
        (
            ["backbone.", "encoder_k.0."],
            "backbone",
            "it contains 2 networks: backbone, encoder_k.0",
        ),
    ] {
        write_twice(&file, prefixes);
        let error = import(&file, None).unwrap_err();
        assert!(matches!(error, ImportError::Networks { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.ends_with(&format!("two.safetensors: {listed}")),
            "{message}"
        );
        let imported = import(&file, of_network(network)).unwrap();
        assert_eq!(imported.weights, original.weights, "{network}");
        let message = import(&file, of_network("decoder"))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("it contains no network 'decoder'"),
            "{message}"
        );
    }
    // The EMA weights are those of the same network.
    write_twice(&file, ["state_dict_ema.", "state_dict."]);
    assert_eq!(import(&file, None).unwrap().weights, original.weights);
    let plain = import(&file, of_network("state_dict")).unwrap();
    assert_ne!(plain.weights, original.weights);
}

#[test]
fn the_networks_that_are_not_used_are_listed_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("moco.safetensors");
    write_twice(&file, ["module.encoder_q.", "module.encoder_k."]);
    let imported = import(&file, of_network("encoder_q")).unwrap();
    let lines = report(&imported).lines().join("\n");
    let words = "tensors of another network, 'module.encoder_k.'";
    assert!(lines.contains(words), "{lines}");
    // It was asked for, so it is no assumption.
    assert!(!lines.contains("network to use"), "{lines}");
    let by_part = import(&file, of_network("r_q")).unwrap();
    assert_eq!(by_part.weights, imported.weights);
    let message = import(&file, of_network("encoder"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("it contains 2 networks"), "{message}");
    write_twice(&file, ["state_dict_ema.", "state_dict."]);
    let lines = report(&import(&file, None).unwrap()).lines().join("\n");
    assert!(
        lines.contains("'state_dict_ema.', not 'state_dict.'"),
        "{lines}"
    );
    assert!(!lines.contains("encoder_k.conv1"), "{lines}");
}

/// Renames the tensors of torchvision's network as Hugging Face's transformers name them.
fn transformers_names(tensors: &mut Tensors, head: &str) {
    for (name, tensor) in std::mem::take(tensors) {
        let own = name.strip_prefix("state_dict.module.").unwrap_or(&name);
        let parts: Vec<&str> = own.split('.').collect();
        let layer = |name: &str| {
            let is_norm = name.starts_with("bn") || name == "1";
            if is_norm {
                "normalization"
            } else {
                "convolution"
            }
        };
        let index = |name: &str| {
            let number: usize = name[name.len() - 1..].parse().unwrap();
            number - 1
        };
        let name = match parts.as_slice() {
            ["fc", tensor] => format!("{head}.{tensor}"),
            [stem, tensor] => format!("resnet.embedder.embedder.{}.{tensor}", layer(stem)),
            [stage, block, "downsample", part, tensor] => format!(
                "resnet.encoder.stages.{}.layers.{block}.shortcut.{}.{tensor}",
                index(stage),
                layer(part)
            ),
            [stage, block, part, tensor] => format!(
                "resnet.encoder.stages.{}.layers.{block}.layer.{}.{}.{tensor}",
                index(stage),
                index(part),
                layer(part)
            ),
            other => panic!("{other:?}"),
        };
        tensors.insert(name, tensor);
    }
}

#[test]
fn a_network_of_transformers_is_the_one_of_torchvision_under_other_names() {
    for fixture in ["torchvision_basic.pth", "torchvision_resnext.safetensors"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.safetensors");
        rewrite(fixture, &file, |tensors| {
            transformers_names(tensors, "classifier.1")
        });
        let imported = import(&file, None).unwrap();
        let original = import(&path(fixture), None).unwrap();
        assert_eq!(report(&imported).layout, Layout::Transformers);
        assert!(
            report(&imported).is_complete(),
            "{:?}",
            report(&imported).lines()
        );
        assert_eq!(imported.weights, original.weights, "{fixture}");
        assert_eq!(imported.spec.network, original.spec.network, "{fixture}");
        let assumptions = report(&imported).assumptions.join("; ");
        assert!(assumptions.contains("activations: ReLU"), "{assumptions}");
        // ResNetModel has neither a head nor the prefix.
        rewrite(fixture, &file, |tensors| {
            transformers_names(tensors, "classifier.1");
            for (name, tensor) in std::mem::take(tensors) {
                if let Some(name) = name.strip_prefix("resnet.") {
                    tensors.insert(name.to_string(), tensor);
                }
            }
        });
        let headless = import(&file, None).unwrap();
        assert_eq!(headless.spec.missing, ["fc.bias", "fc.weight"]);
    }
}

#[test]
fn the_configuration_of_transformers_completes_or_refuses_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    rewrite("torchvision_resnext.safetensors", &file, |tensors| {
        transformers_names(tensors, "classifier.1");
    });
    let with = |name: &str, text: &str| {
        std::fs::write(file.with_file_name(name), text).unwrap();
        import(&file, None)
    };
    let names = r#""id2label": {"0": "a", "1": "b", "3": "d", "4": "e", "2": "c"}"#;
    let stated = with(
        "config.json",
        &format!(r#"{{"model_type": "resnet", "downsample_in_bottleneck": true, {names}}}"#),
    )
    .unwrap();
    assert_eq!(resnet(&stated).stride_place, StridePlace::Conv1x1);
    assert_eq!(stated.spec.class_names(), ["a", "b", "c", "d", "e"]);
    let stated = with(
        "preprocessor_config.json",
        r#"{"feature_extractor_type": "ConvNextFeatureExtractor", "size": 160, "crop_pct": 0.875,
            "resample": 2, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]}"#,
    );
    let input = stated.unwrap().spec.preprocess;
    assert_eq!((input.mean, input.std), ([0.5, 0.4, 0.3], [0.2, 0.25, 0.5]));
    assert_eq!((input.min_size, input.center_crop), (182, Some(160)));
    assert_eq!(input.resize_method, ResizeMethod::Pillow);
    // The short side and a crop, as BiT and CLIP have them.
    let stated = with(
        "preprocessor_config.json",
        r#"{"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32},
            "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]}"#,
    );
    let input = stated.unwrap().spec.preprocess;
    assert_eq!((input.min_size, input.center_crop), (40, Some(32)));
    assert_eq!(input.resize_method, ResizeMethod::PillowBicubic);
    // transformers takes ConvNeXt's where none is named.
    let untyped = r#""size": {"shortest_edge": 224}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]"#;
    let stated = with("preprocessor_config.json", &format!("{{{untyped}}}"));
    let input = stated.unwrap().spec.preprocess;
    assert_eq!((input.min_size, input.center_crop), (256, Some(224)));
    assert_eq!(input.resize_method, ResizeMethod::Pillow);
    for (text, reason) in [
        (
            format!(r#"{{"do_normalize": false, {untyped}}}"#),
            "has `do_normalize` off",
        ),
        (
            format!(r#"{{"image_processor_type": "ViTImageProcessor", {untyped}}}"#),
            "is that of a ViTImageProcessor",
        ),
        (
            format!(r#"{{"rescale_factor": 1, {untyped}}}"#),
            "has another `rescale_factor`",
        ),
        (
            untyped.replace("224", "384").replace("\"size", "{\"size") + "}",
            "has no `size` with a",
        ),
        ("{".to_owned(), "is no JSON"),
    ] {
        let message = with("preprocessor_config.json", &text)
            .unwrap_err()
            .to_string();
        let expected = format!("the preprocessor_config.json beside the file {reason}");
        assert!(message.contains(&expected), "{message}");
    }
    std::fs::remove_file(file.with_file_name("preprocessor_config.json")).unwrap();
    for (text, part) in [
        (
            r#"{"model_type": "resnet", "hidden_act": "gelu"}"#,
            "its activation is gelu",
        ),
        (
            r#"{"model_type": "resnet", "downsample_in_first_stage": true}"#,
            "its first stage has a stride of 2",
        ),
    ] {
        let message = with("config.json", text).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    // Its RegNets have the same names.
    rewrite("torchvision_resnext.safetensors", &file, |tensors| {
        transformers_names(tensors, "classifier.1");
        let stem = "resnet.embedder.embedder.convolution.weight";
        tensors.insert(stem.into(), (vec![4, 3, 3, 3], vec![0.0; 108]));
    });
    let message = import(&file, None).unwrap_err().to_string();
    assert!(message.contains("has a 7x7 convolution"), "{message}");
}

#[test]
fn safetensors_in_several_files_are_read_through_their_index() {
    let dir = tempfile::tempdir().unwrap();
    let shard = |number: usize| {
        dir.path()
            .join(format!("model-0000{number}-of-00002.safetensors"))
    };
    let mut map = serde_json::Map::new();
    for number in [1, 2] {
        rewrite(
            "torchvision_resnext.safetensors",
            &shard(number),
            |tensors| {
                tensors.retain(|name, _| name.starts_with("layer3.") == (number == 2));
                for name in tensors.keys() {
                    let file = shard(number)
                        .file_name()
                        .unwrap()
                        .to_string_lossy()
                        .into_owned();
                    map.insert(name.clone(), file.into());
                }
            },
        );
    }
    let original = import(&path("torchvision_resnext.safetensors"), None).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    // Without the index a part of the network is missing, which is said.
    let part = import(&shard(1), None).unwrap();
    assert!(!part.spec.missing.is_empty());
    let document = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
    std::fs::write(&index, document.to_string()).unwrap();
    for file in [&index, &shard(1), &shard(2)] {
        let loaded = load_weights(file, None).unwrap();
        assert!(report(&loaded).is_complete(), "{}", file.display());
        assert_eq!(report(&loaded).container, Container::Safetensors);
        assert_eq!(loaded.weights, original.weights);
    }
    std::fs::remove_file(shard(2)).unwrap();
    let message = import(&index, None).unwrap_err().to_string();
    assert!(
        message.contains("model-00002-of-00002.safetensors: cannot be read"),
        "{message}"
    );
}

#[test]
fn networks_that_contain_a_resnet_and_compute_something_else_are_refused_by_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("other.safetensors");
    for (prefix, other, name) in [
        (
            "backbone.body.",
            "head.classification_head.cls_logits.weight",
            "a RetinaNet (torchvision)",
        ),
        (
            "backbone.",
            "bbox_head.retina_cls.weight",
            "a RetinaNet (mmdetection)",
        ),
        (
            "backbone.bottom_up.",
            "head.cls_subnet.0.weight",
            "a RetinaNet (detectron2)",
        ),
        (
            "backbone.",
            "aux_classifier.4.weight",
            "with a dilated backbone (torchvision)",
        ),
        (
            "model.backbone.",
            "model.classifier.0.convs.0.0.weight",
            "a DeepLabV3",
        ),
    ] {
        rewrite("torchvision_resnext.safetensors", &file, |tensors| {
            for (name, tensor) in std::mem::take(tensors) {
                tensors.insert(format!("{prefix}{name}"), tensor);
            }
            tensors.insert(other.to_string(), (vec![1], vec![0.5]));
        });
        let message = import(&file, None).unwrap_err().to_string();
        assert!(message.contains("other.safetensors: it is "), "{message}");
        assert!(message.contains(name), "{message}");
    }
    rewrite("torchvision_resnext.safetensors", &file, |tensors| {
        for (name, tensor) in std::mem::take(tensors) {
            tensors.insert(format!("backbone.{name}"), tensor);
        }
        let last = (vec![2, 4, 1, 1], vec![0.5; 8]);
        tensors.insert("classifier.4.weight".into(), last);
    });
    let message = import(&file, None).unwrap_err().to_string();
    assert!(
        message.contains("it is an FCN with a dilated backbone"),
        "{message}"
    );
    // The backbone alone is read on request.
    let imported = import(&file, Some(Layout::Torchvision)).unwrap();
    let original = import(&path("torchvision_resnext.safetensors"), None).unwrap();
    assert_eq!(imported.weights, original.weights);
}

#[test]
fn the_assumption_that_a_network_subsamples_by_strides_is_printed() {
    let said = |file: &str| {
        let imported = import(&path(file), None).unwrap();
        let assumptions = report(&imported).assumptions.join("; ");
        assumptions.contains("subsampling: strides")
    };
    assert!(said("torchvision_basic.pth") && said("timm_seresnet_d.pth"));
    assert!(!said("akamaster_resnet.th"));
}

#[test]
fn anti_aliased_networks_are_recognized_by_what_names_their_architecture() {
    let kind = |file: &Path, layout: Option<Layout>| {
        let imported = import(file, layout).unwrap();
        let assumptions = report(&imported).assumptions.join("; ");
        (resnet(&imported).anti_alias, assumptions)
    };
    let (average, blur) = (Some(AntiAlias::AveragePool), Some(AntiAlias::BlurPool));
    let dir = tempfile::tempdir().unwrap();
    let in_directory = |directory: &str| {
        let directory = dir.path().join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("model.safetensors");
        std::fs::copy(path("resnetaa10d.safetensors"), &file).unwrap();
        file
    };
    // The name of the file, and that of a directory in the cache of the Hugging Face Hub.
    assert_eq!(kind(&path("resnetblur14d.pth"), None).0, blur);
    let (found, said) = kind(
        &in_directory("models--timm--seresnextaa101d_32x8d.sw_in12k/snapshots/0a1b"),
        None,
    );
    assert_eq!(found, average);
    assert!(said.contains("from the name of the directory"), "{said}");
    // A config.json beside the file overrides its name.
    let file = in_directory("plain");
    assert_eq!(kind(&file, None).0, None);
    let config = file.with_file_name("config.json");
    std::fs::write(
        &config,
        r#"{"architecture": "resnetblur50", "num_classes": 5}"#,
    )
    .unwrap();
    let (found, said) = kind(&file, None);
    assert_eq!(found, blur);
    assert!(
        said.contains("blur pooling (anti-aliased), from the config.json"),
        "{said}"
    );
    let named = file.with_file_name("resnetaa50.safetensors");
    std::fs::copy(&file, &named).unwrap();
    std::fs::write(&config, r#"{"architecture": "resnet50d"}"#).unwrap();
    assert_eq!(kind(&named, None).0, None);
    // The layout overrides everything.
    assert_eq!(kind(&named, Some(Layout::TimmAa)).0, average);
    assert_eq!(kind(&named, Some(Layout::TimmBlur)).0, blur);
    std::fs::remove_file(&config).unwrap();
    assert_eq!(kind(&named, Some(Layout::Torchvision)).0, None);
}

#[test]
fn the_preprocessing_of_timm_s_config_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    std::fs::copy(path("resnetrs14.safetensors"), &file).unwrap();
    let usual = import(&file, None).unwrap().spec.preprocess;
    let config = |text: &str| {
        std::fs::write(file.with_file_name("config.json"), text).unwrap();
        import(&file, None).unwrap()
    };
    let stated = config(
        r#"{"architecture": "resnetrs50", "pretrained_cfg": {"input_size": [3, 160, 160],
            "interpolation": "bilinear", "crop_pct": 0.91, "crop_mode": "center",
            "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.5]}}"#,
    );
    let input = stated.spec.preprocess;
    assert_eq!((input.mean, input.std), ([0.5, 0.4, 0.3], [0.2, 0.25, 0.5]));
    assert_eq!((input.min_size, input.center_crop), (175, Some(160)));
    assert_eq!(input.resize_method, ResizeMethod::Pillow);
    let assumptions = report(&stated).assumptions.join("; ");
    assert!(
        assumptions.contains("from the config.json"),
        "{assumptions}"
    );
    // Other programs have files of that name, too.
    for text in ["{}", "[1"] {
        assert_eq!(config(text).spec.preprocess, usual, "{text}");
    }
    // Older files have the keys at the top.
    let old = config(
        r#"{"architecture": "resnet14t", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.5]}"#,
    );
    assert_eq!(old.spec.preprocess.mean, [0.5, 0.4, 0.3]);
    // Another network is refused.
    for (stated, reason) in [
        (r#""global_pool": "max""#, "its `global_pool` is `max`"),
        (
            r#""model_args": {"act_layer": "silu"}"#,
            "its `act_layer` is `silu`",
        ),
    ] {
        let text = format!(r#"{{"architecture": "resnet14t", {stated}}}"#);
        std::fs::write(file.with_file_name("config.json"), text).unwrap();
        let message = import(&file, None).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
    // What sedet cannot follow is refused.
    for (stated, reason) in [
        (r#""std": [0.2, 0.25, 0.0]"#, "states what cannot work"),
        (r#""std": [0.2, 0.25]"#, "has no three numbers as `std`"),
        (r#""interpolation": "random""#, "has an `interpolation`"),
        (r#""crop_mode": "squash""#, "has another `crop_mode`"),
        (r#""input_size": [1, 224, 224]"#, "has an `input_size`"),
        (r#""crop_pct": 2.0"#, "has a `crop_pct`"),
    ] {
        let text = format!(r#"{{"pretrained_cfg": {{{stated}}}}}"#);
        std::fs::write(file.with_file_name("config.json"), text).unwrap();
        let message = import(&file, None).unwrap_err().to_string();
        let expected = format!("the config.json beside the file {reason}");
        assert!(message.contains(&expected), "{message}");
    }
}

/// Returns the weights of the small detector with native names, by the name mapping of the parity
/// tests.
fn reference_detector(network: &NetworkConfig) -> BTreeMap<String, TensorData> {
    let NetworkConfig::Detection(model) = network else {
        panic!("not a detector");
    };
    let fixture = Fixture::open("faster_rcnn.safetensors");
    let native_values = named_tensors(&model.init(&Device::flex()));
    torchvision::weights(&native_values, &fixture, &["weights."])
}

#[test]
fn torchvision_detectors_of_old_and_new_names_have_the_same_weights() {
    for (file, layout, options) in [
        // The fixture also has the gradients of the network.
        (
            "faster_rcnn.safetensors",
            Layout::TorchvisionDetector,
            of_network("weights"),
        ),
        (
            "layouts/torchvision_old_detector.pth",
            Layout::TorchvisionDetectorV1,
            ImportOptions::default(),
        ),
    ] {
        let imported = import(&fixture_path(file), options).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(report(&imported).layout, layout, "{file}");
        assert!(report(&imported).network_is_whole(), "{file}");
        assert_eq!(
            reference_detector(&imported.spec.network),
            imported.weights,
            "{file}"
        );
    }
    // The epsilon can be given by the layout, as the names do not determine it.
    let epsilon = |layout| {
        let file = fixture_path("faster_rcnn.safetensors");
        let options = ImportOptions {
            layout,
            ..of_network("weights")
        };
        match import(&file, options).unwrap().spec.network {
            NetworkConfig::Detection(model) => model.backbone.norm().epsilon,
            NetworkConfig::Classification(_) => panic!("a classifier"),
        }
    };
    assert_eq!(epsilon(None), 1e-5);
    assert_eq!(epsilon(Some(Layout::TorchvisionDetectorV1)), 0.0);
}

/// Returns an image from planes `[3, height, width]`.
fn image_of(planes: &[u8], height: u32, width: u32) -> image::RgbImage {
    let plane = (width * height) as usize;
    image::RgbImage::from_fn(width, height, |x, y| {
        let at = (y * width + x) as usize;
        image::Rgb([0, 1, 2].map(|channel| planes[channel * plane + at]))
    })
}

/// Compares boxes to 0.01 pixels and scores to 1e-4, and returns the largest differences of both. The
/// labels of the reference begin with this number.
fn assert_detections(
    case: &str,
    found: &[ImageDetection],
    outputs: &Fixture,
    name: &str,
    first_label: i64,
) -> (f32, f32) {
    let (mut of_boxes, mut of_scores) = (0.0f32, 0.0f32);
    let scores = outputs.floats(&format!("{name}.scores"));
    let boxes = outputs.floats(&format!("{name}.boxes"));
    let labels = outputs.ints(&format!("{name}.labels"));
    assert_eq!(found.len(), scores.len(), "{case}");
    for (n, detection) in found.iter().enumerate() {
        let label = detection.label as i64 + first_label;
        assert_eq!(label, labels[n], "{case} {n}");
        let difference = (detection.score - scores[n]).abs();
        assert!(difference < 1e-4, "{case} {n}");
        of_scores = of_scores.max(difference);
        let b = detection.box_in_image;
        for (native_values, third_party) in [b.x1, b.y1, b.x2, b.y2].iter().zip(&boxes[4 * n..]) {
            let difference = (native_values - third_party).abs();
            assert!(
                difference < 0.01,
                "{case} {n}: {native_values} {third_party}"
            );
            of_boxes = of_boxes.max(difference);
        }
    }
    (of_boxes, of_scores)
}

#[test]
fn detectron2_and_mmdetection_detectors_have_the_same_detections_as_in_their_framework() {
    let outputs = Fixture::open("layouts/detectors.safetensors");
    let agnostic = Fixture::open("layouts/agnostic_detectors.safetensors");
    let (height, width) = (203, 317);
    let image = image_of(&outputs.bytes("image"), height, width);
    for (case, file, layout) in [
        ("detectron2", "detectron2_detector.pkl", Layout::Detectron2),
        (
            "detectron2_agnostic",
            "detectron2_agnostic_detector.pkl",
            Layout::Detectron2,
        ),
        (
            "mmdetection_agnostic",
            "mmdetection_agnostic_detector.pth",
            Layout::Mmdetection,
        ),
        (
            "mmdetection",
            "mmdetection_detector.pth",
            Layout::Mmdetection,
        ),
        (
            "mmdetection_caffe",
            "mmdetection_caffe_detector.pth",
            Layout::MmdetectionCaffe,
        ),
    ] {
        let path = path(file);
        let loaded = load_weights(&path, None).unwrap();
        let report = loaded.report.as_ref().unwrap();
        assert_eq!(report.layout, layout);
        assert!(report.is_complete(), "{file}: {:?}", report.lines());
        let is_agnostic = case.ends_with("_agnostic");
        let NetworkConfig::Detection(model) = &loaded.spec.network else {
            panic!("{file}: a classifier");
        };
        let head = &model.roi_heads.box_head;
        assert_eq!(head.class_agnostic, is_agnostic, "{file}");
        let outputs = if is_agnostic { &agnostic } else { &outputs };
        let mut detector = Model::from_weights(loaded, &path, &Device::flex()).unwrap();
        let preprocess = detector.spec.preprocess;
        detector.spec.preprocess = preprocess.with_sizes(height as usize, width as usize);
        let found = detector.detect(&image).unwrap();
        assert_detections(case, &found, outputs, case, 0);
    }
}

/// Four deltas without a background are those of the only class, not of all classes.
#[test]
fn a_detectron2_detector_with_one_class_is_imported_with_the_deltas_of_its_class() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.safetensors");
    rewrite("detectron2_detector.pkl", &file, |tensors| {
        for (name, (shape, values)) in tensors.iter_mut() {
            // The classes are the first rows, the background is the last.
            let per_row: usize = shape.iter().skip(1).product();
            if name.contains("box_predictor.cls_score") {
                let background = values.split_off(values.len() - per_row);
                values.truncate(per_row);
                values.extend(background);
                shape[0] = 2;
            } else if name.contains("box_predictor.bbox_pred") {
                values.truncate(4 * per_row);
                shape[0] = 4;
            }
        }
    });
    let (one, three) = (
        import(&file, None).unwrap(),
        import(&path("detectron2_detector.pkl"), None).unwrap(),
    );
    assert!(report(&one).is_complete(), "{:?}", report(&one).lines());
    let NetworkConfig::Detection(model) = &one.spec.network else {
        panic!("a classifier");
    };
    assert_eq!(model.num_classes, 1);
    assert!(!model.roi_heads.box_head.class_agnostic);
    let biases = |imported: &LoadedWeights| -> Vec<f32> {
        let tensor = &imported.weights["box_head.bbox_pred.bias"];
        tensor.iter::<f32>().collect()
    };
    assert_eq!(biases(&one), biases(&three)[..8]);
}

#[test]
fn a_wrong_layout_is_reported() {
    let message = |file: &str, layout| import(&path(file), Some(layout)).unwrap_err().to_string();
    let wrong = message("timm_seresnet.pt", Layout::Detectron2);
    assert!(wrong.contains("not of layout detectron2"), "{wrong}");
    let wrong = message("mmpretrain_seresnet.pth", Layout::Mmdetection);
    assert!(wrong.contains("it is a classifier"), "{wrong}");
    let wrong = message("mmdetection_detector.pth", Layout::MmpretrainCaffe);
    assert!(wrong.contains("it is a detector"), "{wrong}");
}

#[test]
fn file_names_of_any_length_are_read() {
    let file = ThirdPartyFile::open(&path("twenty_one_characters.pth")).unwrap();
    assert_eq!(file.container(), Container::PytorchZip);
    let values = file.values("rows").unwrap();
    assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn an_incomplete_file_is_imported_with_a_report_but_not_used() {
    let whole = std::fs::read(fixture_path("faster_rcnn.safetensors")).unwrap();
    let whole = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let without = |name: &&str| name.starts_with("weights.") && !name.contains("rpn.head.conv");
    let tensors = whole.names().into_iter().filter(without);
    let tensors = tensors.map(|name| (name, whole.tensor(name).unwrap()));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("partial.safetensors");
    safetensors::serialize_to_file(tensors, None, &path).unwrap();
    let loaded = load_weights(&path, None).unwrap();
    let report = loaded.report.as_ref().unwrap();
    assert!(!report.is_complete() && !report.network_is_whole());
    assert_eq!(loaded.spec.missing, ["rpn.conv.bias", "rpn.conv.weight"]);
    let lines = report.lines().join("\n");
    assert!(
        lines.contains("missing: weights.rpn.head.conv.0.0.weight"),
        "{lines}"
    );
    let error = Model::from_weights(loaded, &path, &Device::flex()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("partial.safetensors: 2 tensors"),
        "{message}"
    );
}

#[test]
fn numpy_arrays_are_read_from_pickles_of_every_protocol() {
    for protocol in 2..=5 {
        let file = ThirdPartyFile::open(&path(&format!("arrays_protocol{protocol}.pkl"))).unwrap();
        assert_eq!(file.container(), Container::NumpyPickle);
        let names: Vec<&str> = file.tensors().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "big_endian",
                "columns",
                "empty",
                "half",
                "long",
                "rows",
                "scalar"
            ]
            .map(|name| format!("outer.{name}"))
        );
        for name in ["big_endian", "columns", "half", "rows"] {
            let values = file.values(&format!("outer.{name}")).unwrap();
            assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "{protocol} {name}");
        }
        assert_eq!(file.values("outer.long").unwrap(), [0.0, 1.0, 2.0]);
        assert_eq!(file.values("outer.scalar").unwrap(), [2.5]);
        assert!(file.values("outer.empty").unwrap().is_empty());
    }
}

#[test]
fn an_export_is_read_back_unchanged_and_has_the_shapes_of_its_library() {
    let dir = tempfile::tempdir().unwrap();
    for (file, library) in [
        ("layouts/torchvision_basic.pth", Library::Torchvision),
        ("layouts/torchvision_resnext.safetensors", Library::Timm),
        ("layouts/timm_seresnet.pt", Library::Timm),
        ("layouts/timm_seresnet_d.pth", Library::Timm),
        ("layouts/cadene_seresnet.pth", Library::Timm),
        ("layouts/cadene_senet.npz", Library::Timm),
        ("layouts/resnetrs14.safetensors", Library::Timm),
        ("layouts/torchvision_old_detector.pth", Library::Torchvision),
    ] {
        let imported = import(&fixture_path(file), None).unwrap();
        let names = names_for(library, &imported.spec.network).unwrap();
        let path = dir.path().join("export.safetensors");
        export(&imported.weights, &names, Precision::Full, &path).unwrap();
        let back = import(&path, None).unwrap();
        assert!(
            report(&back).is_complete(),
            "{file}: {:?}",
            report(&back).lines()
        );
        assert_eq!(back.weights, imported.weights, "{file}");
        // Every tensor has the shape that the library wrote; old names of a detector are converted.
        let (original, exported) = (
            ThirdPartyFile::open(&fixture_path(file)).unwrap(),
            ThirdPartyFile::open(&path).unwrap(),
        );
        if !file.contains("old_detector") {
            let weights = original
                .tensors()
                .filter(|(name, _)| name.starts_with(&report(&imported).prefix))
                .filter(|(name, _)| !name.ends_with("num_batches_tracked"));
            // torch's `strict=True` requires all of them.
            assert_eq!(exported.tensors().count(), weights.count(), "{file}");
        }
        for (name, info) in exported.tensors() {
            let third_party = format!("{}{name}", report(&imported).prefix);
            match original.info(&third_party) {
                Some(original) => assert_eq!(info.shape, original.shape, "{file}: {name}"),
                None => assert!(file.contains("old_detector"), "{file}: {name}"),
            }
        }
    }
}

#[test]
fn an_export_without_an_equivalent_network_is_rejected() {
    for (file, library, why) in [
        ("cadene_seresnet.pth", Library::Torchvision, "SE units"),
        ("akamaster_resnet.th", Library::Timm, "CIFAR"),
        ("resnetaa10d.safetensors", Library::Timm, "anti-aliased"),
        ("detectron2_detector.pkl", Library::Torchvision, "stride"),
        (
            "torchvision_old_detector.pth",
            Library::Timm,
            "no detectors",
        ),
    ] {
        let imported = import(&path(file), None).unwrap();
        let message = names_for(library, &imported.spec.network)
            .unwrap_err()
            .to_string();
        assert!(message.contains(why), "{file}: {message}");
    }
}

#[test]
fn damaged_and_unknown_files_are_reported_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let message = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let message = import(&path, None).unwrap_err().to_string();
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
    assert!(message("huge.safetensors", &huge).contains("unknown weights file format"));
    let long = [&50_000u64.to_le_bytes()[..], b"{\"a\":"].concat();
    assert!(message("long.safetensors", &long).contains("the header is truncated"));
    message("text.pth", b"import os; os.system('rm -rf /')");
    // A pickle that would run a command is parsed and rejected, not executed.
    let marker = dir.path().join("executed");
    let evil = format!("cos\nsystem\n(S'touch {}'\ntR.", marker.display());
    message("evil.pkl", evil.as_bytes());
    message("evil2.pkl", &[b"\x80\x02", evil.as_bytes()].concat());
    assert!(!marker.exists());
}

#[test]
fn a_nan_value_is_an_error_that_names_the_tensor() {
    let imported = import(&path("torchvision_basic.pth"), None).unwrap();
    let mut weights = imported.weights.clone();
    let name = "backbone.layer2.0.convs.0.weight";
    let mut values: Vec<f32> = weights[name].iter::<f32>().collect();
    values[3] = f32::NAN;
    let shape = weights[name].shape().to_vec();
    weights.insert(name.into(), TensorData::new(values, shape));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nan.safetensors");
    let names = names_for(Library::Torchvision, &imported.spec.network).unwrap();
    export(&weights, &names, Precision::Full, &file).unwrap();
    let message = import(&file, None).unwrap_err().to_string();
    assert!(
        message.contains("nan.safetensors")
            && message.contains("layer2.0.conv1.weight has 1 value that is not finite"),
        "{message}"
    );
}

/// Returns the images of 32x32 in a reference file, which stores their channels one after the other.
pub(crate) fn cifar_images(reference: &safetensors::SafeTensors) -> Vec<image::RgbImage> {
    let planes = reference.tensor("images").unwrap();
    let image = |p: &[u8]| {
        image::RgbImage::from_fn(32, 32, |x, y| {
            let at = (y * 32 + x) as usize;
            image::Rgb([p[at], p[1024 + at], p[2048 + at]])
        })
    };
    planes.data().chunks_exact(3 * 1024).map(image).collect()
}

#[test]
#[ignore = "needs SEDET_REAL_DATA"]
fn trained_cifar_networks_give_the_logits_of_their_origin_on_real_data() {
    let directory = real_data("weights_cifar10_resnet");
    let bytes = std::fs::read(directory.join("reference_resnet20.safetensors")).unwrap();
    let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let images = cifar_images(&reference);
    for (file, key) in [
        ("resnet20-12fca82f.safetensors", "logits_resnet20"),
        ("resnet56-4bfd9763.safetensors", "logits_resnet56"),
    ] {
        let path = directory.join(file);
        let loaded = load_weights(&path, None).unwrap();
        assert!(loaded.report.as_ref().unwrap().is_complete());
        let classifier = Model::from_weights(loaded, &path, &Device::flex()).unwrap();
        let native_values: Vec<f32> = classifier.logits(&images).unwrap().concat();
        let third_party: Vec<f32> = reference
            .tensor(key)
            .unwrap()
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        assert_close_to_largest(file, &native_values, &third_party, 1e-4);
    }
}

/// Full-size networks of timm and torchvision, written by `tests/oracle/layouts_full.py`.
#[test]
#[ignore = "needs SEDET_FULL_LAYOUTS, the directory that tests/oracle/layouts_full.py wrote"]
fn full_layouts_of_real_networks_give_the_outputs_of_their_origin() {
    let directory = PathBuf::from(
        std::env::var_os("SEDET_FULL_LAYOUTS")
            .expect("SEDET_FULL_LAYOUTS names the directory of layouts_full.py"),
    );
    let outputs = Fixture::open_file(&directory.join("outputs.safetensors"));
    let device = Device::flex();
    let mut networks = 0;
    for case in outputs.names() {
        let Some(name) = case.strip_suffix(".logits") else {
            continue;
        };
        let imported = import(&directory.join(format!("{name}.pth")), None).unwrap();
        assert!(report(&imported).is_complete(), "{name}");
        let model = classifier(&imported).init(&device);
        let model = load_named_tensors(model, &imported.weights).unwrap();
        let logits = values(model.forward(outputs.tensor("input", &device)));
        assert_close_to_largest(name, &logits, &outputs.floats(&case), 1e-4);
        networks += 1;
    }
    // The script writes all of them, or with `--detectors` none.
    assert!(
        networks == 0 || networks >= 11,
        "only {networks} classifiers"
    );
    let image = image_of(&outputs.bytes("image"), 203, 317);
    for name in ["detector", "detector_v2"] {
        let path = directory.join(format!("torchvision_{name}.pth"));
        let detector = Model::load(&path, &device).unwrap();
        let found = detector.detect(&image).unwrap();
        let (pixels, score) = assert_detections(name, &found, &outputs, name, 1);
        eprintln!(
            "{name}: {} detections, boxes within {pixels} px, scores within {score}",
            found.len()
        );
    }
}

/// Python's reader would run a program.
#[test]
fn a_pickle_that_would_run_a_program_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let proof = dir.path().join("proof");
    let call = format!("cposix\nsystem\n(S'touch {}'\ntR.", proof.display());
    for (name, start) in [
        ("bare.pkl", &b""[..]),
        ("protocol.pkl", b"\x80\x02"),
        ("old.pth", b""),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, [start, call.as_bytes()].concat()).unwrap();
        let message = import(&path, None).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
    }
    assert!(!proof.exists());
}

/// Damages real files: flipped bits, truncation, duplicated and zeroed ranges. Runs briefly;
/// `SEDET_FUZZ_SECONDS` sets a longer time.
#[test]
fn no_damage_to_a_file_makes_the_readers_panic() {
    let seconds = std::env::var("SEDET_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1.0);
    let dir = tempfile::tempdir().unwrap();
    // One file for each reader; `SEDET_FUZZ_FILE` selects a single one.
    let mut files = vec![
        "torchvision_basic.pth".to_string(),
        "torchvision_resnext.safetensors".into(),
        "timm_seresnet.pt".into(),
        "cadene_senet.npz".into(),
        "detectron2_detector.pkl".into(),
        "arrays_protocol2.pkl".into(),
        "mmdetection_detector.pth".into(),
    ];
    if let Ok(name) = std::env::var("SEDET_FUZZ_FILE") {
        files.retain(|file| *file == name);
        assert_eq!(
            files.len(),
            1,
            "SEDET_FUZZ_FILE={name} is none of the files"
        );
    }
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let start = std::time::Instant::now();
    let mut round = 0;
    // The first rounds are run regardless of the time, so that the test always checks something.
    while round < 40 || start.elapsed().as_secs_f64() < seconds {
        let file = &files[round % files.len()];
        let mut bytes = std::fs::read(path(file)).unwrap();
        for _ in 0..1 + rng.next_u32() % 4 {
            // Mostly near the ends, where the headers, pickles and archive directories are.
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
        let outcome = std::panic::catch_unwind(|| import(&damaged, None).map(|_| ()));
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
