//! Why a detection or a class has its score: compared with pytorch-grad-cam and torch, with measured changes, and the
//! command `sedet explain`.

mod common;

use std::path::Path;

use burn::tensor::Device;
use common::command::{fails_with, is_wrong_usage, succeeds, text};
use common::networks::tiny;
use common::{Fixture, assert_close_to_largest, fixture_path};
use image::{Rgb, RgbImage};
use sedet::annotations::layout::Split;
use sedet::excitation::Excitation;
use sedet::explanation::{GateEffect, LayerCam, Neutral, strongest};
use sedet::kernels::bf16::ComputePrecision;
use sedet::model::{ExplainedImage, Explanation, Model, ReplacedGate, Subject};
use sedet::shapes::{Scene, ShapesConfig, generate_scene};

const DETECTOR: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/assets/shapes-se-resnet18.safetensors"
);

/// Side of a square with the least area of a large object, in pixels, as in COCO's metrics.
const LARGE: f32 = 96.0;
/// IoU with an object of the same class from which a detection is correct.
const CORRECT_IOU: f32 = 0.5;
const LEAST_SCORE: f32 = 0.5;

fn detector() -> Model {
    Model::load(DETECTOR, &Device::flex()).unwrap()
}

fn scene(index: usize) -> Scene {
    generate_scene(&ShapesConfig::default(), Split::Val, index)
}

/// Returns the image of `tests/oracle/explanation.py`.
fn oracle_image(height: u32, width: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (i64::from(x), i64::from(y));
        Rgb([0, 1, 2].map(|c| {
            let rings = ((x - 60 - 20 * c).pow(2) + (y - 50).pow(2)) / 40;
            ((rings + x * (c + 1) + y * (3 - c)) % 256) as u8
        }))
    })
}

fn cam<'a>(explanation: &'a Explanation, layer: &str) -> &'a LayerCam {
    let mut cams = explanation.cams.iter();
    cams.find(|cam| cam.layer == layer).unwrap()
}

#[test]
fn layer_cams_and_gate_gradients_of_imported_classifiers_equal_those_of_pytorch() {
    let expected = Fixture::open("explanation.safetensors");
    for (file, gates) in [("torchvision_basic.pth", 0), ("timm_seresnet.pt", 4)] {
        let case = file.split('.').next().unwrap();
        let mut model = Model::load(fixture_path("layouts").join(file), &Device::flex()).unwrap();
        model.spec.preprocess = model.spec.preprocess.with_sizes(96, 128);
        model.spec.preprocess.center_crop = None;
        let pass = model.explained_image(&oracle_image(96, 128)).unwrap();
        let explanation = model.explain(&pass, Subject::Class(1)).unwrap();
        let score = expected.floats(&format!("{case}.score"))[0];
        assert!((explanation.score - score).abs() < 1e-5, "{case}");
        assert_eq!(explanation.cams.len(), 4);
        for found in &explanation.cams {
            let key = format!("{case}.{}", found.layer);
            assert_eq!(
                [found.map.height, found.map.width],
                expected.shape(&key)[..]
            );
            assert_close_to_largest(&key, &found.map.values, &expected.floats(&key), 1e-4);
        }
        assert_eq!(explanation.units.len(), gates, "{case}");
        for unit in &explanation.units {
            let inner = unit.block.path.strip_prefix("backbone.").unwrap();
            let key = format!("{case}.{inner}");
            assert_close_to_largest(&key, &unit.gradients, &expected.floats(&key), 1e-4);
        }
    }
}

#[test]
fn layer_cams_of_an_imported_torchvision_detector_equal_those_of_pytorch_grad_cam() {
    let expected = Fixture::open("explanation.safetensors");
    let file = fixture_path("layouts/torchvision_old_detector.pth");
    let mut model = Model::load(file, &Device::flex()).unwrap();
    model.spec.preprocess = model.spec.preprocess.with_sizes(192, 288);
    let pass = model.explained_image(&oracle_image(192, 288)).unwrap();
    let scores = expected.floats("detector.scores");
    let boxes = expected.floats("detector.boxes");
    let mut compared = 0;
    for number in [0, 40] {
        let subject = Subject::Detection(number);
        let explanation = model.explain(&pass, subject).unwrap();
        let found = explanation.detection.unwrap();
        let b = found.box_in_image;
        let coordinates = [b.x1, b.y1, b.x2, b.y2];
        for (found, expected) in coordinates.iter().zip(&boxes[number * 4..]) {
            assert!((found - expected).abs() < 0.01, "{number}: {coordinates:?}");
        }
        assert!((explanation.score - scores[number]).abs() < 1e-4);
        for found in &explanation.cams {
            let key = format!("detector.{number}.{}", found.layer);
            let values = expected.floats(&key);
            let is_zero = values.iter().all(|&value| value == 0.0);
            assert_eq!(found.largest() == 0.0, is_zero, "{key}");
            if !is_zero {
                assert_close_to_largest(&key, &found.map.values, &values, 1e-4);
                compared += 1;
            }
            let is_pooled = explanation.pooled_from.as_deref() == Some(&found.layer);
            assert_eq!(is_pooled, !is_zero && found.layer.starts_with('P'), "{key}");
        }
    }
    assert_eq!(compared, 10);
}

/// Returns a channel of each SE unit.
fn some_channels(pass: &ExplainedImage) -> Vec<(usize, usize)> {
    let units = pass.blocks().iter().enumerate();
    units
        .map(|(unit, block)| (unit, (7 * unit + 3) % block.channels))
        .collect()
}

#[test]
fn gradients_equal_difference_quotients_in_networks_of_all_families() {
    const STEP: f32 = 0.002;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.safetensors");
    let image = scene(0).image;
    for (name, layers) in [
        ("se-resnet20", vec!["layer1", "layer2", "layer3"]),
        ("se-wrn-16-8", vec!["layer1", "layer2", "layer3"]),
        (
            "se-shake-shake-26-2x96d",
            vec!["layer1", "layer2", "layer3"],
        ),
        ("se-resnet18", vec!["C2", "C3", "C4", "C5"]),
        ("se-mobilenet-v1", vec!["C2", "C3", "C4", "C5"]),
        ("se-shufflenet-v1-g3", vec!["C2", "C3", "C4", "C5"]),
    ] {
        tiny(name, &file);
        let model = Model::load(&file, &Device::flex()).unwrap();
        let best = model.classify(&image, 1).unwrap()[0].clone();
        let pass = model.explained_image(&image).unwrap();
        assert!(pass.detections().is_empty());
        let subject = Subject::Class(best.label);
        let explanation = model.explain(&pass, subject).unwrap();
        // Norms, dropout and Shake-Shake as in evaluation.
        let difference = (explanation.score - best.probability).abs();
        assert!(difference < 1e-5, "{name}: {difference}");
        let found: Vec<&str> = explanation.cams.iter().map(|c| c.layer.as_str()).collect();
        assert_eq!(found, layers, "{name}");
        assert_eq!(explanation.units.len(), pass.blocks().len(), "{name}");
        let all = explanation.units.iter().flat_map(|unit| &unit.gradients);
        let largest = all.fold(0.0f32, |most, value| most.max(value.abs()));
        assert!(largest > 0.0, "{name}");
        for (unit, channel) in some_channels(&pass) {
            let gate = explanation.units[unit].gates[channel];
            let score = |gate| {
                let replaced = ReplacedGate {
                    unit,
                    channel,
                    gate,
                };
                model.score_with(&pass, subject, &[replaced]).unwrap()
            };
            let quotient = (score(gate + STEP) - score(gate - STEP)) / (2.0 * STEP);
            let gradient = explanation.units[unit].gradients[channel];
            assert!(
                (quotient - gradient).abs() < 0.02 * largest + 2e-5,
                "{name}, unit {unit}: {gradient} and {quotient} of {largest}"
            );
        }
    }
}

#[test]
fn replaced_gates_change_the_score_exactly_whichever_part_runs_again() {
    let (model, image) = (detector(), scene(0).image);
    let pass = model.explained_image(&image).unwrap();
    assert_eq!(pass.detections(), model.detect(&image).unwrap());
    let subject = Subject::Detection(0);
    let explanation = model.explain(&pass, subject).unwrap();
    let score = |replaced: &[ReplacedGate]| model.score_with(&pass, subject, replaced).unwrap();
    let own = |unit: usize, channel: usize| ReplacedGate {
        unit,
        channel,
        gate: explanation.units[unit].gates[channel],
    };
    let unchanged = score(&[]);
    assert!((unchanged - pass.detections()[0].score).abs() < 1e-6);
    assert!((explanation.score - unchanged).abs() < 1e-6);
    let last = explanation.units.len() - 1;
    let off: Vec<ReplacedGate> = (0..explanation.units[last].gates.len())
        .map(|channel| ReplacedGate {
            gate: 0.0,
            ..own(last, channel)
        })
        .collect();
    let without = score(&off);
    assert!((without - unchanged).abs() > 1e-6, "{without}");
    // The first unit makes all parts run again.
    let from_start = score(&[vec![own(0, 0)], off].concat());
    assert!(
        (from_start - without).abs() < 1e-6,
        "{from_start} {without}"
    );
    let same: Vec<ReplacedGate> = (0..=last).map(|unit| own(unit, 1)).collect();
    assert!((score(&same) - unchanged).abs() < 1e-6);
}

#[test]
fn what_cannot_be_explained_is_an_error() {
    let model = detector();
    let pass = model.explained_image(&scene(0).image).unwrap();
    let found = pass.detections().len();
    let message = |subject| model.explain(&pass, subject).unwrap_err().to_string();
    assert_eq!(
        message(Subject::Detection(found)),
        format!(
            "there is no detection {}: the image has {found} detections",
            found + 1
        )
    );
    assert!(message(Subject::Class(0)).contains("a detector has detections"));
    let gate = ReplacedGate {
        unit: 0,
        channel: 16,
        gate: 0.0,
    };
    let error = model.score_with(&pass, Subject::Detection(0), &[gate]);
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "there is no channel 16 of SE unit 0");
    let reduced = model.with_precision(ComputePrecision::Bf16);
    let explained = reduced.explain(&pass, Subject::Detection(0));
    match explained {
        Err(error) => assert!(error.to_string().contains("bf16")),
        Ok(_) => assert!(!ComputePrecision::Bf16.is_available()),
    }
}

/// A first-order effect and the measured one.
type Pair = [f64; 2];

/// Returns the correlation coefficient.
fn correlation(pairs: &[Pair]) -> f64 {
    let count = pairs.len() as f64;
    let mean = |side: usize| pairs.iter().map(|pair| pair[side]).sum::<f64>() / count;
    let means = [mean(0), mean(1)];
    let product = |a: usize, b: usize| -> f64 {
        let products = pairs
            .iter()
            .map(|pair| (pair[a] - means[a]) * (pair[b] - means[b]));
        products.sum()
    };
    product(0, 1) / (product(0, 0) * product(1, 1)).sqrt()
}

/// A detection of a generated scene.
struct Explained {
    explanation: Explanation,
    is_correct: bool,
}

impl Explained {
    fn side(&self) -> f32 {
        let found = self.explanation.detection.unwrap();
        found.box_in_image.area().sqrt()
    }

    fn share(&self, layer: &str) -> Option<f64> {
        let found = self.explanation.detection.unwrap();
        cam(&self.explanation, layer).share_inside(found.box_in_image, self.explanation.seen)
    }
}

/// Explains the first detections of the generated scenes, with what `visit` returns for each.
fn explain_scenes<T>(
    model: &Model,
    count: usize,
    mut visit: impl FnMut(&ExplainedImage, Subject, &Explanation) -> T,
) -> Vec<(Explained, T)> {
    let mut explained = Vec::new();
    for index in 0.. {
        let Scene { image, objects } = scene(index);
        let pass = model.explained_image(&image).unwrap();
        for (position, found) in pass.detections().into_iter().enumerate() {
            if explained.len() == count {
                return explained;
            }
            if found.score < LEAST_SCORE {
                continue;
            }
            let subject = Subject::Detection(position);
            let explanation = model.explain(&pass, subject).unwrap();
            let visited = visit(&pass, subject, &explanation);
            let is_correct = objects.iter().any(|object| {
                object.class_index == found.label
                    && object.box_in_image.iou(found.box_in_image) >= CORRECT_IOU
            });
            let found = Explained {
                explanation,
                is_correct,
            };
            explained.push((found, visited));
        }
    }
    unreachable!("scenes are generated without end")
}

/// Measures the effects of gates by forward passes: with the neutral gate, and with 0.
fn measured(
    model: &Model,
    pass: &ExplainedImage,
    subject: Subject,
    effects: &[GateEffect],
) -> Vec<[Pair; 2]> {
    let score = |replaced: &[ReplacedGate]| model.score_with(pass, subject, replaced).unwrap();
    let unchanged = score(&[]);
    let lost = |found: &GateEffect, gate| {
        let replaced = ReplacedGate {
            unit: found.unit,
            channel: found.channel,
            gate,
        };
        f64::from(unchanged - score(&[replaced]))
    };
    effects
        .iter()
        .map(|found| {
            [
                [found.effect.into(), lost(found, found.neutral)],
                [found.removal.into(), lost(found, 0.0)],
            ]
        })
        .collect()
}

#[test]
fn first_order_effects_of_fifty_detections_correlate_with_measured_changes() {
    let model = detector();
    let explained = explain_scenes(&model, 50, |pass, subject, explanation| {
        let effects = explanation.effects(&Neutral::UnitMean);
        measured(&model, pass, subject, &strongest(&effects, 2).concat())
    });
    let pairs: Vec<Pair> = explained
        .iter()
        .flat_map(|(_, measured)| measured.iter().map(|[neutral, _]| *neutral))
        .collect();
    assert_eq!(pairs.len(), 50 * 4);
    let found = correlation(&pairs);
    assert!(found >= 0.9, "{found}");
}

#[test]
fn the_map_of_the_pooled_level_of_large_correct_detections_lies_inside_the_box() {
    let model = detector();
    let explained = explain_scenes(&model, 100, |_, _, _| ());
    let large: Vec<&Explained> = explained
        .iter()
        .map(|(found, ())| found)
        .filter(|found| found.is_correct && found.side() >= LARGE)
        .collect();
    assert!(large.len() >= 5, "{}", large.len());
    for found in large {
        let level = found.explanation.pooled_from.clone().unwrap();
        let share = found.share(&level).unwrap();
        assert!(share >= 0.8, "{level} {}: {share}", found.side());
    }
}

/// Prints the numbers of `docs/explain.md`.
#[test]
#[ignore = "a measurement of a minute"]
fn measurements_of_the_guide() {
    let model = detector();
    let file = std::env::var("SEDET_GATES").expect("SEDET_GATES: statistics of sedet excite");
    let statistics = Excitation::load(Path::new(&file)).unwrap();
    let means = Neutral::of_dataset(&statistics, &model.se_blocks().unwrap()).unwrap();
    for (name, neutral) in [("unit", Neutral::UnitMean), ("dataset", means)] {
        let explained = explain_scenes(&model, 50, |pass, subject, explanation| {
            let effects = explanation.effects(&neutral);
            let all: Vec<GateEffect> = effects.iter().copied().step_by(37).collect();
            [strongest(&effects, 10).concat(), all]
                .map(|effects| measured(&model, pass, subject, &effects))
        });
        for (which, at) in [("ten for and ten against", 0), ("every 37th channel", 1)] {
            for (change, side) in [("neutral", 0), ("zero", 1)] {
                let pairs = explained.iter().flat_map(|(_, sets)| &sets[at]);
                let pairs: Vec<Pair> = pairs.map(|pair| pair[side]).collect();
                let each: Vec<f64> = explained
                    .iter()
                    .map(|(_, sets)| {
                        correlation(&sets[at].iter().map(|p| p[side]).collect::<Vec<_>>())
                    })
                    .collect();
                let mut sorted = each.clone();
                sorted.sort_by(f64::total_cmp);
                println!(
                    "{name}, {which}, {change}: {:.3} of {} pairs; median of a detection {:.3}",
                    correlation(&pairs),
                    pairs.len(),
                    sorted[sorted.len() / 2]
                );
            }
        }
    }
    let explained = explain_scenes(&model, 600, |_, _, _| ());
    let correct: Vec<&Explained> = explained
        .iter()
        .map(|(found, ())| found)
        .filter(|found| found.is_correct)
        .collect();
    for (name, from, to) in [
        ("96 and more", LARGE, f32::MAX),
        ("64 to 96", 64.0, LARGE),
        ("32 to 64", 32.0, 64.0),
        ("less than 32", 0.0, 32.0),
    ] {
        let chosen = correct
            .iter()
            .filter(|found| (from..to).contains(&found.side()));
        let chosen: Vec<&&Explained> = chosen.collect();
        println!("side {name}: {} correct detections", chosen.len());
        let pooled = |found: &Explained| found.explanation.pooled_from.clone().unwrap();
        for layer in ["C2", "C3", "C4", "C5", "pooled"] {
            let shares = chosen.iter().filter_map(|found| match layer {
                "pooled" => found.share(&pooled(found)),
                _ => found.share(layer),
            });
            let mut shares: Vec<f64> = shares.collect();
            shares.sort_by(f64::total_cmp);
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            let inside = shares.iter().filter(|&&share| share >= 0.8).count();
            println!(
                "  {layer}: mean {mean:.3}, least {:.3}, {inside} of {} at least 0.8",
                shares[0],
                shares.len()
            );
        }
    }
}

#[test]
fn a_detection_is_explained_by_figures_tables_and_json() {
    let directory = tempfile::tempdir().unwrap();
    let photo = directory.path().join("photo.png");
    scene(0).image.save(&photo).unwrap();
    let (photo, out) = (text(&photo), directory.path().join("out"));
    let output = text(&out);
    let explain = [
        "explain",
        "--checkpoint",
        DETECTOR,
        "--image",
        &photo,
        "--output",
        &output,
    ];
    let (tables, _) = succeeds(&explain);
    for part in [
        "box 1: ",
        "pooled from P",
        "in the box",
        "measured",
        "neutral: mean gate",
    ] {
        assert!(tables.contains(part), "{part}: {tables}");
    }
    let mut names: Vec<String> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let layers = ["C2", "C3", "C4", "C5", "P2", "P3", "P4", "P5"];
    let mut expected: Vec<String> = layers.map(|layer| format!("cam-{layer}.png")).to_vec();
    expected.extend(
        [
            "cams.png",
            "channels.png",
            "effects.csv",
            "explanation.json",
        ]
        .map(String::from),
    );
    assert_eq!(names, expected);
    let csv = std::fs::read_to_string(out.join("effects.csv")).unwrap();
    // SE-ResNet-18 at a quarter of its width.
    assert_eq!(csv.lines().count(), 1 + 2 * (16 + 32 + 64 + 128));

    let without = [
        "--json",
        "--box",
        "2",
        "--neutral",
        "zero",
        "--without",
        "SE_2_1:3,se_5_2:0",
    ];
    let (json, notes) = succeeds(&[&explain[..], &without].concat());
    assert!(!notes.contains("were not written"), "{notes}");
    let written = std::fs::read_to_string(out.join("explanation.json")).unwrap();
    assert_eq!(json.trim_end(), written.trim_end());
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["box"], 2);
    assert_eq!(document["score"], document["detections"][1]["score"]);
    assert_eq!(document["neutral"], "0");
    assert!(document["score_without"].is_number());
    for side in ["for", "against"] {
        let rows = document[side].as_array().unwrap();
        assert_eq!(rows.len(), 10, "{side}");
        for row in rows {
            assert_eq!(row["effect"], row["removal"]);
            assert_eq!(row["measured_effect"], row["measured_removal"]);
            assert_eq!(row["effect"].as_f64().unwrap() > 0.0, side == "for");
        }
    }

    let gates = text(&directory.path().join("gates"));
    succeeds(&[
        "excite",
        "--checkpoint",
        DETECTOR,
        "--dataset",
        "shapes",
        "--limit",
        "2",
        "--output",
        &gates,
    ]);
    let file = format!("{gates}/excitation.safetensors");
    let (json, _) = succeeds(&[&explain[..], &["--json", "--gates", &file]].concat());
    assert!(json.contains("mean over the dataset of"), "{json}");
    let other = text(&directory.path().join("a.safetensors"));
    tiny("se-resnet20", Path::new(&other));
    fails_with(
        &[
            "explain",
            "--checkpoint",
            &other,
            "--image",
            &photo,
            "--gates",
            &file,
            "--output",
            &output,
        ],
        &[
            "the gate statistics belong to another network",
            "sedet excite",
        ],
    );
}

#[test]
fn a_class_is_explained_with_and_without_se_units() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&directory.path().join(name));
    let photo = at("photo.png");
    scene(0).image.save(&photo).unwrap();
    for (name, has_units) in [("se-resnet20", true), ("resnet20", false)] {
        let (model, output) = (at(&format!("{name}.safetensors")), at(name));
        tiny(name, Path::new(&model));
        let explain = [
            "explain",
            "--checkpoint",
            &model,
            "--image",
            &photo,
            "--output",
            &output,
        ];
        let (tables, notes) = succeeds(&[&explain[..], &["--class", "class 3"]].concat());
        assert!(tables.starts_with("class 3 0."), "{tables}");
        assert!(tables.contains("layer3"), "{tables}");
        assert_eq!(tables.contains("no gates"), !has_units, "{tables}");
        assert_eq!(notes.contains("no SE units"), !has_units, "{notes}");
        for file in ["channels.png", "effects.csv"] {
            let exists = Path::new(&output).join(file).exists();
            assert_eq!(exists, has_units, "{file}");
        }
        if !has_units {
            is_wrong_usage(
                &[&explain[..], &["--neutral", "zero"]].concat(),
                &["--neutral requires SE units", "omit --neutral"],
            );
        }
        let (json, _) = succeeds(&[&explain[..], &["--json"]].concat());
        let document: serde_json::Value = serde_json::from_str(&json).unwrap();
        let best = Model::load(&model, &Device::flex()).unwrap();
        let best = best.classify(&scene(0).image, 1).unwrap()[0].clone();
        assert_eq!(document["category_name"], best.name);
        assert!(document["box"].is_null());
        is_wrong_usage(
            &[&explain[..], &["--class", "clas 3"]].concat(),
            &["no such class", "did you mean 'class 3'"],
        );
        is_wrong_usage(
            &[&explain[..], &["--box", "1"]].concat(),
            &["--box requires a detector"],
        );
    }
}

#[test]
fn errors_of_explain_name_the_cause() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&directory.path().join(name));
    let (photo, empty, output) = (at("cams.png"), at("empty.png"), at("out"));
    scene(0).image.save(&photo).unwrap();
    RgbImage::from_pixel(64, 64, Rgb([90; 3]))
        .save(&empty)
        .unwrap();
    let start = ["explain", "--checkpoint", DETECTOR, "--image"];
    let here = text(directory.path());
    let cases: [(&str, &[&str], [&str; 2]); 10] = [
        (&output, &["--box", "99"], ["--box 99", "numbered from 1"]),
        (&output, &["--box", "0"], ["--box 0", "numbered from 1"]),
        (
            &output,
            &["--class", "ball"],
            ["--class requires a classifier", "omit"],
        ),
        (&output, &["--score", "2"], ["--score 2", "from 0 to 1"]),
        (
            &output,
            &["--without", "SE_2_9:1"],
            ["SE_2_9:1", "no such block"],
        ),
        (
            &output,
            &["--without", "SE_2_1:16"],
            ["SE_2_1:16", "0 to 15"],
        ),
        (
            &output,
            &["--without", "SE_2_1"],
            ["not a channel", "SE_2_1:12"],
        ),
        (
            &output,
            &["--without", "SE_2_1:3, SE_2_1:3"],
            ["--without SE_2_1:3", "listed twice"],
        ),
        (
            &output,
            &["--without", "SE_2_1:3,"],
            ["an empty entry", "SE_2_1:12"],
        ),
        (&here, &[], ["cams.png", "choose another --output"]),
    ];
    for (output, more, parts) in cases {
        let arguments = [&start[..], &[&photo, "--output", output], more].concat();
        is_wrong_usage(&arguments, &parts);
    }
    // Statistics of a network with the same units and other classes.
    let (scenes, gates) = (
        text(&directory.path().join("scenes")),
        directory.path().join("gates"),
    );
    let shapes = [
        "data",
        "shapes",
        "--output",
        &scenes,
        "--train-images",
        "1",
        "--val-images",
        "1",
    ];
    succeeds(&[&shapes[..], &["--long-side", "64"]].concat());
    let cells = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/blood-cells-se-resnet18.safetensors"
    );
    let measure = [
        "excite",
        "--checkpoint",
        cells,
        "--dataset",
        &scenes,
        "--output",
        &text(&gates),
    ];
    succeeds(&measure);
    let gates = text(&gates.join("excitation.safetensors"));
    let explain = [&start[..], &[&photo, "--output", &output]].concat();
    fails_with(
        &[&explain[..], &["--gates", &gates]].concat(),
        &[
            "belong to another network: it has 3 classes, this one 6",
            "sedet excite",
        ],
    );
    let explain = [&start[..], &[&empty, "--output", &output]].concat();
    fails_with(&explain, &["no detection with a score of at least 0.5"]);
    assert!(!Path::new(&output).exists(), "no output is left");
}
