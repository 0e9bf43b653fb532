//! Tests of the table against what its publishers state, and of the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use burn::tensor::Device;
use flate2::read::GzDecoder;
use serde::Deserialize;

use super::*;
use crate::spec::NetworkConfig;
use crate::weights::import::{fits, known_categories};
use crate::weights::layouts::{ThirdPartyTensor, recognize};
use crate::weights::parameters::named_shapes;
use crate::weights::third_party::ThirdPartyFile;

/// Written by `tests/oracle/named_weights.py`.
const FIXTURE: &[u8] = include_bytes!("../../../../../tests/fixtures/named_weights.json.gz");

#[derive(Deserialize)]
struct Fixture {
    weights: BTreeMap<String, Stated>,
}

/// The statements of a publisher's package.
#[derive(Deserialize)]
struct Stated {
    url: Option<String>,
    hub: Option<String>,
    license: Option<String>,
    mebibytes: Option<f64>,
    top1: Option<f64>,
    top5: Option<f64>,
    box_ap: Option<f64>,
    resize: Option<usize>,
    crop: Option<usize>,
    interpolation: Option<String>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    tensors: Vec<(String, Vec<usize>)>,
}

fn fixture() -> BTreeMap<String, Stated> {
    let fixture: Fixture = serde_json::from_reader(GzDecoder::new(FIXTURE)).unwrap();
    fixture.weights
}

impl Stated {
    fn values(&self) -> usize {
        let sizes = self
            .tensors
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>());
        sizes.sum()
    }

    /// Writes a safetensors file with these tensors, all zero. The file has holes: it takes no space.
    fn write_stub(&self, path: &Path) {
        let mut end = 0;
        let header: BTreeMap<&str, serde_json::Value> = self
            .tensors
            .iter()
            .map(|(name, shape)| {
                let start = end;
                end += 4 * shape.iter().product::<usize>();
                let entry = serde_json::json!({
                    "dtype": "F32",
                    "shape": shape,
                    "data_offsets": [start, end],
                });
                (name.as_str(), entry)
            })
            .collect();
        let header = serde_json::to_vec(&header).unwrap();
        let mut file = File::create(path).unwrap();
        file.write_all(&(header.len() as u64).to_le_bytes())
            .unwrap();
        file.write_all(&header).unwrap();
        file.set_len((8 + header.len() + end) as u64).unwrap();
    }
}

#[test]
fn the_table_agrees_with_the_packages_of_the_publishers() {
    let fixture = fixture();
    let names: Vec<&str> = fixture.keys().map(String::as_str).collect();
    let mut known = NamedWeights::names();
    known.sort_unstable();
    assert_eq!(known, names);
    for weights in NamedWeights::all() {
        let name = weights.name;
        let stated = &fixture[name];
        if let Some(url) = &stated.url {
            assert_eq!(&weights.sources[0].url(), url);
        }
        let hub = stated
            .hub
            .as_ref()
            .map(|id| format!("https://huggingface.co/{id}/resolve/main/model.safetensors"));
        assert_eq!(weights.sources.get(1).map(Source::url), hub, "{name}");
        if let Some(license) = &stated.license {
            assert_eq!(&weights.publisher.license().to_lowercase(), license);
        }
        let bytes = stated
            .mebibytes
            .map_or(4.0 * stated.values() as f64, |mebibytes| {
                mebibytes * f64::from(1 << 20)
            });
        let megabytes = f64::from(weights.megabytes);
        assert!(
            (megabytes - bytes / 1e6).abs() < 0.01 * megabytes + 0.6,
            "{name}: {megabytes} MB instead of {}",
            bytes / 1e6
        );
        let input = weights.input;
        assert_eq!(input.map(|input| input.resize), stated.resize, "{name}");
        assert_eq!(input.map(|input| input.crop), stated.crop, "{name}");
        let interpolation = input.map(|input| match input.method {
            ResizeMethod::PillowBicubic => "bicubic",
            _ => "bilinear",
        });
        assert_eq!(interpolation, stated.interpolation.as_deref(), "{name}");
        match weights.result {
            PublishedResult::Accuracy { top1, top5 } => {
                assert!(top1 < top5 && top5 < 100.0, "{name}");
                for (ours, stated) in [(top1, stated.top1), (top5, stated.top5)] {
                    assert!(stated.is_none_or(|stated| stated == ours), "{name}");
                }
            }
            PublishedResult::BoxAp(ap) => {
                assert!(stated.box_ap.is_none_or(|stated| stated == ap), "{name}");
            }
        }
    }
}

#[test]
fn every_file_of_the_table_is_recognized_and_has_every_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let fixture = fixture();
    for weights in NamedWeights::all() {
        let name = weights.name;
        let stated = &fixture[name];
        let path = dir.path().join(format!("{name}.safetensors"));
        stated.write_stub(&path);
        let file = ThirdPartyFile::open(&path).unwrap();
        let detected = recognize(&file, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(detected.layout, weights.layout, "{name}");
        let mut found = recognize(&file, Some(weights.layout)).unwrap();
        assert_eq!(found.spec.network, detected.spec.network, "{name}");
        weights.complete(&mut found);
        found.spec.categories = known_categories(&found.spec.network);
        found
            .spec
            .validate()
            .unwrap_or_else(|e| panic!("{name}: {e}"));

        let (shapes, classes) = match &found.spec.network {
            NetworkConfig::Classification(model) => {
                (named_shapes(&model.init(&device)), model.num_classes)
            }
            NetworkConfig::Detection(model) => {
                (named_shapes(&model.init(&device)), model.num_classes)
            }
        };
        let tensors: BTreeMap<&str, &[usize]> = stated
            .tensors
            .iter()
            .map(|(name, shape)| (name.as_str(), shape.as_slice()))
            .collect();
        let mut used = 0;
        for (native, shape) in shapes {
            let ThirdPartyTensor {
                name: third_party,
                form,
            } = found.names.third_party(&native);
            let in_file = tensors.get(third_party.as_str());
            let in_file =
                in_file.unwrap_or_else(|| panic!("{name}: no {third_party} for {native}"));
            assert!(
                fits(in_file, &shape, form),
                "{name}: {third_party} is {in_file:?}, {native} needs {shape:?}"
            );
            used += 1;
        }
        let counters = tensors
            .keys()
            .filter(|name| name.ends_with("num_batches_tracked"));
        assert_eq!(used + counters.count(), tensors.len(), "{name}");

        let preprocess = found.spec.preprocess;
        match (weights.input, weights.publisher) {
            (Some(input), _) => {
                assert_eq!(classes, 1000, "{name}");
                assert_eq!(preprocess.min_size, input.resize, "{name}");
                assert_eq!(preprocess.center_crop, Some(input.crop), "{name}");
                assert_eq!(preprocess.resize_method, input.method, "{name}");
                assert_eq!(Some(preprocess.mean), stated.mean, "{name}");
                assert_eq!(Some(preprocess.std), stated.std, "{name}");
                assert_eq!(preprocess.scale, 1.0 / 255.0, "{name}");
            }
            (None, publisher) => {
                let expected = if publisher == Publisher::Torchvision {
                    90
                } else {
                    80
                };
                assert_eq!(classes, expected, "{name}");
                assert_eq!((preprocess.min_size, preprocess.max_size), (800, 1333));
            }
        }
        assert!(found.assumptions.is_empty());
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn names_are_unique_and_publishers_names_are_understood() {
    let mut names = NamedWeights::names();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), NamedWeights::all().len());
    for name in &names {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.chars().all(is_plain), "{name}");
        assert_eq!(NamedWeights::of_name(name).unwrap().name, *name);
    }
    for (given, name) in [
        ("seresnet50.a1_in1k", "seresnet50-a1"),
        ("legacy_seresnext50_32x4d.in1k", "legacy-seresnext50-32x4d"),
        (
            "FasterRCNN_ResNet50_FPN_COCO",
            "fasterrcnn-resnet50-fpn-coco",
        ),
    ] {
        assert_eq!(NamedWeights::of_name(given).unwrap().name, name);
    }
    let message = NamedWeights::of_name("fasterrcnn-resnet50-fpn")
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "no published weights are named 'fasterrcnn-resnet50-fpn' (did you mean \
         'fasterrcnn-resnet50-fpn-coco'?)"
    );
}

#[test]
fn checksums_are_those_that_file_names_contain() {
    let checksum = |name: &str| NamedWeights::of_name(name).unwrap().sources[0].checksum();
    let sha256 = |digits: &str| Some(Checksum::Sha256(digits.into()));
    assert_eq!(checksum("resnet50-imagenet-v2"), sha256("11ad3fa6"));
    assert_eq!(checksum("seresnet50-a1"), sha256("ffa00869"));
    assert_eq!(
        checksum("detectron2-r50-fpn-3x"),
        Some(Checksum::Md5("280758".into()))
    );
    // Nine digits: not of timm's script.
    assert_eq!(checksum("legacy-seresnext26-32x4d"), None);
    for weights in NamedWeights::all() {
        let first = &weights.sources[0];
        if weights.name != "legacy-seresnext26-32x4d" {
            assert!(first.checksum().is_some(), "{}", weights.name);
        }
        for (number, source) in weights.sources.iter().enumerate() {
            let name = weights.file_name(source);
            let others = weights.sources[..number].iter();
            assert!(others.clone().all(|other| weights.file_name(other) != name));
        }
    }
}
