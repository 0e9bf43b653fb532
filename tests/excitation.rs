//! SE blocks: their names, their gates compared with PyTorch, and the command `sedet excite`.

mod common;

use std::path::Path;
use std::sync::Arc;

use burn::module::Module as _;
use burn::tensor::{Device, Tensor};
use common::command::{fails_with, is_wrong_usage, sedet, succeeds, text};
use common::images::write_cifar;
use common::networks::tiny;
use common::{Fixture, assert_close, fixture_path, values};
use image::RgbImage;
use sedet::annotations::layout::Split;
use sedet::backbones::{BackboneConfig, zoo};
use sedet::boxes::BoxXyxy;
use sedet::datasets::detection::DetectionDataset;
use sedet::datasets::registry::AnyDatasetName;
use sedet::excitation::{Excitation, se_blocks};
use sedet::loading::transforms::Preprocess;
use sedet::model::{Model, Network, Task};
use sedet::nn::recording::{Depth, record};
use sedet::nn::se::SePosition;
use sedet::weights::parameters::named_tensors;

/// Returns the network at the smallest width multiplier at which its groups divide its channels.
fn narrow(mut backbone: BackboneConfig) -> BackboneConfig {
    for width in [0.125, 0.25, 0.5] {
        *backbone.common_mut().width_multiplier = width;
        if backbone.validate().is_ok() {
            break;
        }
    }
    backbone
}

#[test]
fn every_network_of_the_zoo_records_the_listed_se_blocks() {
    let device = Device::flex();
    for name in zoo::known_names() {
        let network = zoo::network(&name).unwrap();
        if network.backbone.se().is_none() {
            continue;
        }
        let backbone = narrow(network.backbone);
        let blocks = se_blocks(&backbone).unwrap();
        assert!(!blocks.is_empty(), "{name}");
        let side = if network.input.size > 224 { 75 } else { 33 };
        let pixels = Tensor::<4>::ones([1, 3, side, side], &device);
        let module = backbone.init(&device).valid();
        let (_, recorded) = record(Depth::Gates, || module.forward_features(pixels, 0));
        let channels = |gates: &Tensor<4>| gates.dims()[1];
        assert_eq!(
            recorded
                .iter()
                .map(|unit| channels(&unit.gates))
                .collect::<Vec<_>>(),
            blocks
                .iter()
                .map(|block| block.channels)
                .collect::<Vec<_>>(),
            "{name}"
        );
        // Each path is the prefix of the tensors of a block.
        let tensors = named_tensors(&module);
        for block in &blocks {
            let inner = block.path.strip_prefix("backbone.").unwrap();
            assert!(
                tensors.contains_key(&format!("{inner}.fc1.weight")),
                "{name} {block:?}"
            );
        }
        let mut names: Vec<_> = blocks.iter().map(|block| &block.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), blocks.len(), "{name}: names are unique");
    }
}

#[test]
fn se_blocks_at_other_positions_list_their_channels() {
    let device = Device::flex();
    for position in [
        SePosition::Pre,
        SePosition::Post,
        SePosition::Identity,
        SePosition::Conv3x3,
    ] {
        let mut backbone = zoo::network("se-resnet50").unwrap().backbone;
        let common = backbone.common_mut();
        *common.width_multiplier = 0.125;
        let se = common.se.as_mut().unwrap();
        se.position = position;
        se.stages = [false, true, true, true];
        let blocks = se_blocks(&backbone).unwrap();
        assert_eq!(blocks[0].name, "SE_3_1");
        let module = backbone.init(&device).valid();
        let pixels = Tensor::<4>::ones([1, 3, 33, 33], &device);
        let (_, recorded) = record(Depth::Gates, || module.forward_features(pixels, 0));
        let found: Vec<usize> = recorded.iter().map(|unit| unit.gates.dims()[1]).collect();
        let listed: Vec<usize> = blocks.iter().map(|block| block.channels).collect();
        assert_eq!(found, listed, "{position:?}");
    }
}

#[test]
fn gates_of_an_imported_timm_network_equal_those_of_a_torch_hook() {
    let device = Device::flex();
    let file = fixture_path("layouts").join("timm_seresnet.pt");
    let classifier = Model::load(&file, &device).unwrap();
    let Network::Classifier(network) = &classifier.network else {
        panic!("a detector");
    };
    let expected = Fixture::open("excitation.safetensors");
    let input = Fixture::open("layouts/outputs.safetensors").tensor("input_75x103", &device);
    let (_, recorded) = record(Depth::Gates, || network.forward(input));
    let blocks = se_blocks(&classifier.spec.backbone()).unwrap();
    assert_eq!(
        (recorded.len(), blocks.len()),
        (expected.names().len(), recorded.len())
    );
    for (unit, block) in recorded.into_iter().zip(blocks) {
        let name = block.path.strip_prefix("backbone.").unwrap();
        assert_close(name, &values(unit.gates), &expected.floats(name), 1e-5);
    }
}

const DETECTOR: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/assets/shapes-se-resnet18.safetensors"
);

fn scenes() -> Arc<DetectionDataset> {
    let AnyDatasetName::Detection(name) = AnyDatasetName::parse("shapes").unwrap() else {
        panic!("shapes have boxes");
    };
    name.open_split(Split::Val, None).unwrap().dataset
}

/// Returns a crop of a generated scene, of a size that requires padding.
fn scene() -> RgbImage {
    let image = scenes().load_image(0).unwrap();
    image::imageops::crop_imm(&image, 0, 0, image.width() - 30, image.height() - 20).to_image()
}

#[test]
fn a_recording_has_the_detections_of_the_detector_its_gates_and_its_feature_maps() {
    let device = Device::flex();
    let image = scene();
    let detector = Model::load(Path::new(DETECTOR), &device).unwrap();
    let (expected, recorded) = record(Depth::GatesAndFeatureMaps, || {
        detector.detect(&image).unwrap()
    });
    assert!(!expected.is_empty(), "the scene contains objects");
    assert_eq!(detector.task(), Task::Detection);
    let categories = &detector.spec.categories;
    let names: Vec<&String> = categories.iter().map(|c| &c.name).collect();
    assert!(detector.spec.class_names().iter().eq(names));

    let recording = detector.record(&image, Depth::GatesAndFeatureMaps).unwrap();
    assert_eq!(recording.prediction.detections(), expected);
    assert!(recording.prediction.classes().is_empty());
    let (width, height) = (image.width() as f32, image.height() as f32);
    assert_eq!(recording.seen, BoxXyxy::new(0.0, 0.0, width, height));
    let names = recording.blocks.iter().map(|unit| unit.block.name.as_str());
    assert_eq!(
        names.collect::<Vec<_>>()[..3],
        ["SE_2_1", "SE_2_2", "SE_3_1"]
    );
    assert_eq!(recording.blocks.len(), recorded.len());
    let mut cut = 0;
    for (found, unit) in recording.blocks.iter().zip(&recorded) {
        assert_eq!(found.gates, values(unit.gates.clone()));
        let maps = unit.feature_maps.clone().unwrap();
        let [_, channels, rows, columns] = maps.before.dims();
        let channel = found.most_active(1)[0];
        let (before, after) = found.channel(channel).unwrap();
        for (found, map) in [(&before, maps.before), (&after, maps.after)] {
            let part = map.slice([0..1, channel..channel + 1, 0..found.height, 0..found.width]);
            assert_eq!(found.values, values(part));
            cut += rows - found.height + columns - found.width;
            let seen = found.box_in_seen;
            assert_eq!((seen.x1, seen.y1), (0.0, 0.0));
            let cell = seen.x2 / found.width as f32;
            assert!((1.0..1.0 + cell).contains(&seen.x2), "{seen:?}");
        }
        let gate = found.gates[channel];
        let scaled: Vec<f32> = before.values.iter().map(|value| value * gate).collect();
        assert_close(&found.block.name, &after.values, &scaled, 1e-6);
        assert!(found.gates.iter().all(|&other| other <= gate));
        assert!(found.channel(channels).is_none());
    }
    assert!(cut > 0, "some cells cover padding");

    let gates = detector.record(&image, Depth::Gates).unwrap();
    assert_eq!(gates.gates_csv(), recording.gates_csv());
    assert!(gates.blocks[0].channel(0).is_none(), "no maps were kept");
}

#[test]
fn a_recording_has_the_classes_of_the_classifier_and_the_part_of_the_image_that_it_receives() {
    let image = scene();
    for name in ["se-resnet20", "resnet20"] {
        let mut classifier = tiny_classifier(name);
        classifier.spec.preprocess = Preprocess {
            min_size: 40,
            max_size: 80,
            center_crop: Some(32),
            ..classifier.spec.preprocess
        };
        let expected = classifier.classify(&image, 5).unwrap();
        assert_eq!(classifier.spec.class_names()[9], "class 9");
        let recording = classifier
            .record(&image, Depth::GatesAndFeatureMaps)
            .unwrap();
        assert_eq!(recording.prediction.classes(), expected);
        assert!(recording.prediction.detections().is_empty());
        assert_eq!(recording.blocks.is_empty(), name == "resnet20");
        let side = image.width().min(image.height()) as f32;
        assert!(
            (recording.seen.width() - side * 0.8).abs() < 8.0,
            "{:?}",
            recording.seen
        );
        for block in &recording.blocks {
            let (before, _) = block.channel(0).unwrap();
            assert_eq!(before.box_in_seen, BoxXyxy::new(0.0, 0.0, 1.0, 1.0));
            assert_eq!(before.values.len(), before.height * before.width);
        }
    }
}

/// Returns a narrow network with random weights.
fn tiny_classifier(name: &str) -> Model {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.safetensors");
    tiny(name, &path);
    Model::load(&path, &Device::flex()).unwrap()
}

#[test]
fn gates_of_a_classifier_are_measured_tabulated_and_plotted() {
    let dir = tempfile::tempdir().unwrap();
    let (data, checkpoint) = (dir.path().join("cifar10"), dir.path().join("a.safetensors"));
    write_cifar(&data, 10, 45);
    tiny("se-resnet20", &checkpoint);
    let out = dir.path().join("out");
    let (data, checkpoint) = (text(&data), text(&checkpoint));
    let output = text(&out);
    let excite = [
        "excite",
        "--checkpoint",
        &checkpoint,
        "--dataset",
        &data,
        "--device",
        "cpu",
    ];
    let (table, console) = succeeds(&[&excite[..], &["--output", &output]].concat());
    assert!(console.contains("45 images"), "{console}");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2 + 9 + 2, "{table}");
    assert!(
        lines[0].contains("low var.") && lines[2].starts_with("SE_2_1"),
        "{table}"
    );
    for name in ["class-activations", "class-std", "mean-gates"] {
        let png = image::open(out.join(name).with_extension("png")).unwrap();
        assert!(png.width() > 300, "{name}");
        let svg = std::fs::read_to_string(out.join(name).with_extension("svg")).unwrap();
        assert!(svg.contains("SE_4_3"), "{name}");
    }
    let activations = std::fs::read_to_string(out.join("class-activations.svg")).unwrap();
    assert!(
        activations.contains("shade3") && !activations.contains("shade4"),
        "four classes"
    );
    let csv = std::fs::read_to_string(out.join("statistics.csv")).unwrap();
    assert_eq!(
        csv.lines().next(),
        Some("block,channel,mean,std,min,max,selectivity")
    );
    assert_eq!(csv.lines().count(), 1 + 3 * (8 + 16 + 32));

    let found = Excitation::load(&out.join("excitation.safetensors")).unwrap();
    assert_eq!(found.origin.images, 45);
    assert_eq!(found.class_counts(), [5, 5, 5, 5, 5, 4, 4, 4, 4, 4]);
    // Computing the mean image by image gives the same result.
    let classifier = Model::load(Path::new(&checkpoint), &Device::flex()).unwrap();
    let mut sums = vec![0.0f64; 32];
    for i in 0..45u32 {
        let label = (i % 10) as u8;
        let image = image::RgbImage::from_fn(32, 32, |x, y| {
            let at = |plane: u32| plane * 1024 + y * 32 + x;
            image::Rgb([0, 1, 2].map(|p| label * 25 + ((at(p) * 7 + i * 3) % 13) as u8))
        });
        let (_, recorded) = record(Depth::Gates, || classifier.logits(&[image]).unwrap());
        for (sum, gate) in sums.iter_mut().zip(values(recorded[8].gates.clone())) {
            *sum += f64::from(gate);
        }
    }
    let expected: Vec<f32> = sums.iter().map(|sum| (sum / 45.0) as f32).collect();
    assert_close("SE_4_3", &found.blocks[8].all.mean, &expected, 1e-5);

    // With selected classes and blocks and a limited number of images.
    let (json, console) = succeeds(
        &[
            &excite[..],
            &[
                "--output",
                &output,
                "--json",
                "--limit",
                "9",
                "--classes",
                "shade0,shade1",
            ],
            &["--blocks", "SE_3_2", "--channels", "7"],
        ]
        .concat(),
    );
    let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(summary["images"], 9);
    assert_eq!(summary["blocks"].as_array().unwrap().len(), 9);
    assert_eq!(summary["blocks"][0]["weakest"].as_array().unwrap().len(), 8);
    assert!(summary["thresholds"]["dead"].is_number());
    assert!(
        console.contains("9 images measured, none shows shade1"),
        "{console}"
    );
    let svg = std::fs::read_to_string(out.join("class-activations.svg")).unwrap();
    assert!(svg.contains("SE_3_2") && !svg.contains("SE_4_3"));
}

#[test]
fn gates_of_a_detector_are_measured_on_generated_scenes() {
    let dir = tempfile::tempdir().unwrap();
    let output = text(&dir.path().join("out"));
    let excite = ["excite", "--checkpoint", DETECTOR, "--dataset", "shapes"];
    let (table, _) = succeeds(&[&excite[..], &["--limit", "3", "--output", &output]].concat());
    assert_eq!(table.lines().count(), 2 + 8 + 2, "{table}");
    let found = Excitation::load(&dir.path().join("out/excitation.safetensors")).unwrap();
    assert_eq!(found.origin.images, 3);
    let names: Vec<&str> = found.blocks.iter().map(|b| b.block.name.as_str()).collect();
    assert_eq!(names[..3], ["SE_2_1", "SE_2_2", "SE_3_1"]);
    let images: u32 = found.class_counts().iter().sum();
    assert!(images > 3, "a scene has objects of several classes");
    assert!(found.class_counts().iter().all(|&count| count <= 3));
    // Indices refer to the split and not to the measured images.
    let spread = [0, 1, 2].map(|n| (n * scenes().len() / 3) as u32);
    for block in &found.blocks {
        for images in block.lowest.iter().chain(&block.highest) {
            let mut images = images.clone();
            images.sort_unstable();
            assert_eq!(images, spread, "{}", block.block.name);
        }
    }
}

#[test]
fn gates_and_feature_maps_of_one_image_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let photo = dir.path().join("photo.png");
    scene().save(&photo).unwrap();
    let (photo, out) = (text(&photo), dir.path().join("out"));
    let output = text(&out);
    let excite = ["excite", "--checkpoint", DETECTOR, "--image", &photo];
    let (table, _) = succeeds(&[&excite[..], &["--output", &output]].concat());
    // The detections, the header of the table with its line, and the blocks.
    assert_eq!(table.lines().count(), 1 + 2 + 8, "{table}");
    let mut lines = table.lines().skip(1);
    assert!(lines.next().unwrap().ends_with("most active"), "{table}");

    let csv = std::fs::read_to_string(out.join("gates.csv")).unwrap();
    assert!(csv.starts_with("block,channel,gate\nSE_2_1,0,0."), "{csv}");
    let svg = std::fs::read_to_string(out.join("gates.svg")).unwrap();
    assert!(svg.contains("Gates of one image") && svg.contains("SE_5_2"));
    assert!(image::open(out.join("gates.png")).unwrap().width() > 1000);
    let mut maps: Vec<String> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("channels-"))
        .collect();
    maps.sort();
    let expected = ["SE_2_2", "SE_3_2", "SE_4_2", "SE_5_1", "SE_5_2"];
    let expected = expected.map(|block| format!("channels-{block}.png"));
    assert_eq!(maps, expected);
    let eight = image::open(out.join("channels-SE_2_2.png")).unwrap();

    let more = [
        "--top", "2", "--blocks", "SE_3_1", "--json", "--output", &output,
    ];
    let (json, _) = succeeds(&[&excite[..], &more].concat());
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["blocks"].as_array().unwrap().len(), 8);
    assert_eq!(document["blocks"][0]["gates"].as_array().unwrap().len(), 16);
    assert!(
        !document["detections"].as_array().unwrap().is_empty(),
        "{json}"
    );
    let two = image::open(out.join("channels-SE_3_1.png")).unwrap();
    assert!(two.height() * 3 < eight.height() && two.width() == eight.width());

    let classifier = text(&dir.path().join("a.safetensors"));
    tiny("se-resnet20", Path::new(&classifier));
    let (table, _) = succeeds(&[
        "excite",
        "--checkpoint",
        &classifier,
        "--image",
        &photo,
        "--output",
        &output,
    ]);
    assert!(table.starts_with("class "), "{table}");
}

#[test]
fn errors_of_excite_image_name_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&dir.path().join(name));
    let (photo, plain, output) = (path("a.png"), path("plain.safetensors"), path("out"));
    RgbImage::new(40, 30).save(&photo).unwrap();
    tiny("resnet20", Path::new(&plain));
    let gone = path("gone.png");
    let start = ["excite", "--output", &output, "--checkpoint"];
    for (arguments, parts) in [
        (
            vec![DETECTOR, "--image", &gone],
            ["gone.png", "file not found"],
        ),
        (
            vec![&plain, "--image", &photo],
            ["plain.safetensors: the network has no SE blocks", "sedet"],
        ),
        (
            vec![DETECTOR, "--image", &photo, "--top", "0"],
            ["--top 0", "from 1 to 100"],
        ),
        (
            vec![DETECTOR, "--image", &photo, "--blocks", "SE_9_9"],
            ["unknown block 'SE_9_9'", "SE_2_1"],
        ),
    ] {
        let is_usage = arguments.len() > 3;
        let refused = if is_usage { is_wrong_usage } else { fails_with };
        refused(&[&start[..], &arguments].concat(), &parts);
        assert!(!Path::new(&output).exists(), "{arguments:?}");
    }
    for (arguments, parts) in [
        (
            vec!["--image", &photo, "--dataset", "shapes"],
            ["cannot be used with", "--image"],
        ),
        (
            vec!["--image", &photo, "--limit", "3"],
            ["cannot be used with", "--limit"],
        ),
        (
            vec!["--dataset", "shapes", "--top", "3"],
            ["cannot be used with", "--top"],
        ),
        (vec![], ["required", "--dataset"]),
    ] {
        let output = sedet(&[&start[..], &[DETECTOR], &arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        for part in parts {
            assert!(stderr.contains(part), "{arguments:?}: {stderr}");
        }
    }
}

#[test]
fn errors_of_excite_name_the_cause_and_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("cifar10"));
    write_cifar(Path::new(&data), 10, 45);
    let (plain, se) = (
        dir.path().join("plain.safetensors"),
        dir.path().join("se.safetensors"),
    );
    tiny("resnet20", &plain);
    tiny("se-resnet20", &se);
    let (plain, se) = (text(&plain), text(&se));
    let output = text(&dir.path().join("out"));
    let start = [
        "excite",
        "--dataset",
        &data,
        "--output",
        &output,
        "--checkpoint",
    ];
    for (more, parts) in [
        (
            vec![&*plain],
            [
                "plain.safetensors: the network has no SE blocks",
                "sedet models",
            ],
        ),
        (
            vec![&se, "--classes", "shade1,red"],
            ["unknown class 'red'", "shade0, shade1"],
        ),
        (
            vec![&se, "--blocks", "SE_5_1"],
            ["unknown block 'SE_5_1'", "SE_2_1, SE_2_2"],
        ),
        (vec![&se, "--limit", "0"], ["--limit 0", "at least 1"]),
        (vec![&se, "--channels", "0"], ["--channels 0", "at least 1"]),
    ] {
        let refused = if more.len() > 1 {
            is_wrong_usage
        } else {
            fails_with
        };
        refused(&[&start[..], &more].concat(), &parts);
        assert!(!Path::new(&output).exists(), "no output is left: {more:?}");
    }
    let deep = text(&dir.path().join("deep.safetensors"));
    tiny("se-resnet56", Path::new(&deep));
    let blocks: Vec<String> = (2..5)
        .flat_map(|stage| (1..10).map(move |block| format!("SE_{stage}_{block}")))
        .collect();
    let (blocks, classes) = (blocks.join(","), "0,1,2,3,4,5,6,7,8,9");
    let many = [&deep, "--blocks", &blocks, "--classes", classes];
    is_wrong_usage(
        &[&start[..], &many].concat(),
        &["27 --blocks for 10 classes", "choose fewer"],
    );
    let one = ["--limit", "1", "--classes", "shade1"];
    fails_with(
        &[&start[..], &[&se], &one].concat(),
        &["1 image measured, none shows shade1", "--limit"],
    );
}
