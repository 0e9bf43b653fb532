//! The ONNX export writes the bytes that were verified with onnxruntime
//! (tests/oracle/onnx_export.py), and reports unsupported models.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::fixture_path;
use prost::Message as _;
use sedet::annotations::Category;
use sedet::model::{ModelSpec, NetworkConfig};
use sedet::nn::norm::NormKind;
use sedet::nn::se::Squeeze;
use sedet::weights::import::import;
use sedet::weights::load::LoadedWeights;
use sedet::weights::onnx::messages::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto,
};
use sedet::weights::onnx::to_onnx;
use sha2::{Digest as _, Sha256};

fn layout(file: &str) -> PathBuf {
    fixture_path("layouts").join(file)
}

/// Returns the classifier of that name, with any file extension.
fn classifier_file(case: &str) -> PathBuf {
    let mut files = std::fs::read_dir(fixture_path("layouts")).unwrap();
    files
        .find_map(|file| {
            let path = file.unwrap().path();
            (path.file_stem()? == case).then_some(path)
        })
        .unwrap_or_else(|| panic!("no file for {case}"))
}

/// Returns the ONNX file of an imported classifier, with only these category names.
fn exported(imported: &LoadedWeights, categories: &[Category]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("export.onnx");
    let spec = with_categories(imported, categories);
    let model = to_onnx(&spec, &imported.weights).unwrap();
    model.save(&path).unwrap();
    std::fs::read(path).unwrap()
}

fn with_categories(imported: &LoadedWeights, categories: &[Category]) -> ModelSpec {
    ModelSpec {
        categories: categories.to_vec(),
        ..imported.spec.clone()
    }
}

fn decoded(imported: &LoadedWeights) -> ModelProto {
    ModelProto::decode(exported(imported, &[]).as_slice()).unwrap()
}

fn categories(names: &[&str]) -> Vec<Category> {
    let name = |(n, name): (usize, &&str)| Category {
        id: 3 * n as u64 + 1,
        name: name.to_string(),
    };
    names.iter().enumerate().map(name).collect()
}

/// Applies the oracle's changes to a classifier for its case `NAME_epsilon`.
fn with_epsilon(mut imported: LoadedWeights) -> LoadedWeights {
    let NetworkConfig::Classification(model) = &mut imported.spec.network else {
        panic!("a detector");
    };
    let norm = model.backbone.common_mut().norm;
    norm.epsilon = 1e-2;
    norm.kind = NormKind::Batch;
    imported
}

#[test]
fn every_classifier_gives_the_bytes_verified_with_onnxruntime() {
    let proven = std::fs::read_to_string(layout("onnx.json")).unwrap();
    let proven: serde_json::Value = serde_json::from_str(&proven).unwrap();
    let proven: BTreeMap<String, String> =
        serde_json::from_value(proven["sha256"].clone()).unwrap();
    assert_eq!(proven.len(), 17, "the classifiers and one variant");
    for (case, hash) in proven {
        let bytes = match case.strip_suffix("_epsilon") {
            None => exported(&import(&classifier_file(&case), None).unwrap(), &[]),
            Some(plain) => {
                let imported = with_epsilon(import(&classifier_file(plain), None).unwrap());
                exported(&imported, &categories(&["a", "b", "Ö", "d", "e"]))
            }
        };
        let native: String = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            native, hash,
            "{case}: run tests/oracle/onnx_export.py to prove it"
        );
    }
}

fn node<'a>(graph: &'a GraphProto, name: &str) -> &'a NodeProto {
    let found = graph.node.iter().find(|node| node.name == name);
    found.unwrap_or_else(|| panic!("no node {name}"))
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> &'a AttributeProto {
    let found = node.attribute.iter().find(|a| a.name == name);
    found.unwrap_or_else(|| panic!("{}: no attribute {name}", node.name))
}

fn shape(value: &ValueInfoProto) -> Vec<String> {
    let tensor = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
    let text = |extent: &DimensionProto| match extent.dim_value {
        Some(number) => number.to_string(),
        None => extent.dim_param.clone().unwrap(),
    };
    let dim = &tensor.shape.as_ref().unwrap().dim;
    dim.iter().map(text).collect()
}

#[test]
fn a_file_has_free_sizes_every_weight_under_its_own_name_and_nodes_in_order() {
    for file in [
        "timm_seresnet_d.pth",
        "akamaster_resnet.th",
        "cadene_senet.npz",
    ] {
        let imported = import(&layout(file), None).unwrap();
        let model = decoded(&imported);
        assert_eq!(
            (model.ir_version, model.opset_import[0].version),
            (Some(8), Some(17))
        );
        let graph = model.graph.unwrap();
        assert_eq!(graph.input[0].name, "pixels");
        assert_eq!(shape(&graph.input[0]), ["batch", "3", "height", "width"]);
        assert_eq!(graph.output[0].name, "logits");
        assert_eq!(shape(&graph.output[0]), ["batch", "5"]);
        let initializers: BTreeMap<_, _> = graph
            .initializer
            .iter()
            .map(|t| (t.name.as_str(), t))
            .collect();
        assert_eq!(initializers.len(), graph.initializer.len(), "{file}");
        for (name, values) in &imported.weights {
            let tensor = initializers[name.as_str()];
            let extents: Vec<i64> = values.shape().iter().map(|&e| e as i64).collect();
            assert_eq!(tensor.dims, extents, "{file}: {name}");
            let bytes: Vec<u8> = values.iter::<f32>().flat_map(f32::to_le_bytes).collect();
            assert!(tensor.raw_data == bytes, "{file}: {name}");
        }
        let mut known: BTreeSet<&str> = initializers.keys().copied().collect();
        known.insert("pixels");
        let mut used = BTreeSet::new();
        for node in &graph.node {
            for input in &node.input {
                assert!(
                    known.contains(input.as_str()),
                    "{file}: {}: {input}",
                    node.name
                );
                used.insert(input.as_str());
            }
            assert!(known.insert(&node.output[0]), "{file}: {} twice", node.name);
        }
        assert!(known.remove("logits") && known == used, "{file}");
    }
}

#[test]
fn the_configuration_determines_operators_and_attributes() {
    let graph_of = |imported: &LoadedWeights| decoded(imported).graph.unwrap();
    let of = |file: &str| graph_of(&import(&layout(file), None).unwrap());
    let deep = of("timm_seresnet_d.pth");
    let pool = node(&deep, "backbone.layer2.0.shortcut.pool");
    assert_eq!(pool.op_type, "AveragePool");
    assert_eq!(attribute(pool, "ceil_mode").i, Some(1));
    assert_eq!(attribute(pool, "count_include_pad").i, Some(0));
    assert_eq!(
        attribute(node(&deep, "backbone.pooling"), "pads").ints,
        [1; 4]
    );
    assert_eq!(
        node(&deep, "backbone.layer1.0.se.fc1").input[1],
        "backbone.layer1.0.se.fc1.weight"
    );
    let cadene = of("cadene_senet.npz");
    let pool = node(&cadene, "backbone.pooling");
    assert_eq!(attribute(pool, "ceil_mode").i, Some(1));
    assert_eq!(attribute(pool, "pads").ints, [0; 4]);
    let grouped = node(&cadene, "backbone.layer2.0.convs.1");
    assert_eq!(attribute(grouped, "group").i, Some(4));
    assert_eq!(attribute(grouped, "strides").ints, [2, 2]);
    let cifar = of("akamaster_resnet.th");
    assert_eq!(
        node(&cifar, "backbone.layer2.0.shortcut.slice").op_type,
        "Slice"
    );
    assert_eq!(
        node(&cifar, "backbone.layer2.0.shortcut.pad").op_type,
        "Pad"
    );
    assert!(cifar.node.iter().all(|node| node.op_type != "MaxPool"));
    let norms = with_epsilon(import(&layout("torchvision_basic.pth"), None).unwrap());
    let norms = graph_of(&norms);
    let bn1 = node(&norms, "backbone.bn1");
    assert_eq!(attribute(bn1, "epsilon").f, Some(1e-2));
}

#[test]
fn the_metadata_has_preprocessing_and_categories() {
    let imported = import(&layout("timm_seresnet.pt"), None).unwrap();
    let entries = |categories: &[Category]| -> BTreeMap<String, String> {
        let model = ModelProto::decode(exported(&imported, categories).as_slice()).unwrap();
        let entries = model.metadata_props.into_iter();
        entries.map(|entry| (entry.key, entry.value)).collect()
    };
    let plain = entries(&[]);
    let preprocess: serde_json::Value = serde_json::from_str(&plain["preprocess"]).unwrap();
    assert_eq!(preprocess["channel_order"], "rgb");
    assert_eq!(preprocess["mean"], serde_json::json!([0.485, 0.456, 0.406]));
    assert!(!plain.contains_key("categories"));
    let names = categories(&["cat", "dog", "\"", "cow", "owl"]);
    assert_eq!(
        entries(&names)["categories"],
        r#"["cat","dog","\"","cow","owl"]"#
    );
    let message = to_onnx(&with_categories(&imported, &names[1..]), &imported.weights)
        .unwrap_err()
        .to_string();
    assert!(message.ends_with("4 categories for 5 classes"), "{message}");
}

#[test]
fn weights_of_another_network_are_refused_by_name() {
    let mut imported = import(&layout("timm_seresnet.pt"), None).unwrap();
    imported.weights.remove("fc.bias");
    let message = to_onnx(&imported.spec, &imported.weights)
        .unwrap_err()
        .to_string();
    assert!(message.contains("fc.bias is missing"), "{message}");
}

#[test]
fn a_variant_of_the_se_unit_is_refused() {
    let mut imported = import(&layout("timm_seresnet.pt"), None).unwrap();
    if let NetworkConfig::Classification(model) = &mut imported.spec.network {
        let se = model.backbone.common_mut().se.as_mut().unwrap();
        se.squeeze = Squeeze::Max;
    }
    let message = to_onnx(&imported.spec, &imported.weights)
        .unwrap_err()
        .to_string();
    assert!(message.contains("variants of the SE unit"), "{message}");
}

/// Returns exit code and message of `sedet weights export FILE --format onnx`.
fn export_by_command(file: &Path, output: &Path) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_sedet"))
        .args(["weights", "export", "--format", "onnx"])
        .args([file, Path::new("-o"), output])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|l| !l.starts_with("weights:"))
        .collect();
    let hints = errors.iter().filter(|line| line.starts_with("hint: "));
    assert_eq!(errors.len() - hints.count(), 1, "{stderr}");
    (done.status.code(), errors.join("\n"))
}

#[test]
fn the_command_writes_a_classifier_and_refuses_a_detector_and_a_path_that_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.onnx");
    let classifier = layout("torchvision_basic.pth");
    let (code, line) = export_by_command(&classifier, &path);
    assert_eq!(code, Some(0), "{line}");
    let expected = exported(&import(&classifier, None).unwrap(), &[]);
    assert!(std::fs::read(&path).unwrap() == expected);
    std::fs::remove_file(&path).unwrap();

    let (code, line) = export_by_command(&layout("torchvision_old_detector.pth"), &path);
    assert_eq!(code, Some(1));
    for part in [
        "error: ",
        "torchvision_old_detector.pth",
        "this model is a detector",
        "--format safetensors",
        "safetensors",
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!path.exists());

    let nowhere = directory.path().join("missing/out.onnx");
    let (code, line) = export_by_command(&classifier, &nowhere);
    assert_eq!(code, Some(1));
    assert!(
        line.starts_with(&format!("error: {}: not written", nowhere.display())),
        "{line}"
    );
}
