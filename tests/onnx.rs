//! The ONNX export writes the bytes that were verified with onnxruntime (tests/oracle/onnx_export.py).
//! Graphs of all networks are checked for their structure; tests/oracle/onnx_networks.py runs them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::fixture_path;
use burn::tensor::{Device, TensorData};
use prost::Message as _;
use sedet::annotations::Category;
use sedet::backbones::BackboneConfig;
use sedet::backbones::resnet::{BlockKind, ResNetConfig};
use sedet::backbones::zoo;
use sedet::classification::classifier::ClassifierConfig;
use sedet::detection::faster_rcnn::{FasterRcnnConfig, Preset};
use sedet::loading::transforms::Preprocess;
use sedet::model::{ModelSpec, NetworkConfig};
use sedet::nn::norm::NormKind;
use sedet::nn::se::{Gate, SeConfig, SePosition, SeStart, Squeeze};
use sedet::weights::checkpoint::{Checkpoint, Precision};
use sedet::weights::import::import;
use sedet::weights::load::{LoadedWeights, load_weights};
use sedet::weights::onnx::messages::{
    AttributeProto, DataType, DimensionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto,
};
use sedet::weights::onnx::{OnnxOptions, to_onnx};
use sedet::weights::parameters::{NamedTensors, named_shapes};
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
    let spec = with_categories(imported, categories);
    written(&spec, &imported.weights, OnnxOptions::default())
}

fn written(spec: &ModelSpec, weights: &NamedTensors, options: OnnxOptions) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("export.onnx");
    let model = to_onnx(spec, weights, options).unwrap();
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
    let text = |dimension: &DimensionProto| match dimension.dim_value {
        Some(number) => number.to_string(),
        None => dimension.dim_param.clone().unwrap(),
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
            let sizes: Vec<i64> = values.shape().iter().map(|&e| e as i64).collect();
            assert_eq!(tensor.dims, sizes, "{file}: {name}");
            let bytes: Vec<u8> = values.iter::<f32>().flat_map(f32::to_le_bytes).collect();
            assert!(tensor.raw_data == bytes, "{file}: {name}");
        }
        check_structure(&graph, file);
    }
}

/// Asserts that nodes are in order, that names are unique, that every input exists, that nothing is
/// superfluous, and that initializers have as many bytes as their shape needs.
fn check_structure(graph: &GraphProto, context: &str) {
    let mut known: BTreeSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    for tensor in &graph.initializer {
        let name = tensor.name.as_str();
        assert!(known.insert(name), "{context}: {name} twice");
        let size = match DataType::try_from(tensor.data_type).unwrap() {
            DataType::Float => 4,
            DataType::Int64 => 8,
            DataType::Float16 => 2,
            DataType::Undefined => panic!("{context}: {name} has no type"),
        };
        let values: i64 = tensor.dims.iter().product();
        assert_eq!(tensor.raw_data.len() as i64, size * values, "{name}");
    }
    let mut used: BTreeSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    let mut names = BTreeSet::new();
    for node in &graph.node {
        assert!(names.insert(&node.name), "{context}: {} twice", node.name);
        // An optional input that is absent has no name.
        for input in node.input.iter().filter(|input| !input.is_empty()) {
            let is_known = known.contains(input.as_str());
            assert!(is_known, "{context}: {}: {input}", node.name);
            used.insert(input);
        }
        for output in &node.output {
            assert!(known.insert(output), "{context}: {output} twice");
        }
    }
    for tensor in &graph.initializer {
        let is_used = used.contains(tensor.name.as_str());
        assert!(is_used, "{context}: {} is unused", tensor.name);
    }
    for node in &graph.node {
        let is_used = node
            .output
            .iter()
            .any(|output| used.contains(output.as_str()));
        assert!(is_used, "{context}: {} is unused", node.name);
    }
    for output in &graph.output {
        let is_known = known.contains(output.name.as_str());
        assert!(is_known, "{context}: no output {}", output.name);
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
    assert_eq!(attribute(node(&deep, "backbone.pool"), "pads").ints, [1; 4]);
    assert_eq!(
        node(&deep, "backbone.layer1.0.se.fc1").input[1],
        "backbone.layer1.0.se.fc1.weight"
    );
    let cadene = of("cadene_senet.npz");
    let pool = node(&cadene, "backbone.pool");
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
    let message = to_onnx(
        &with_categories(&imported, &names[1..]),
        &imported.weights,
        OnnxOptions::default(),
    )
    .unwrap_err()
    .to_string();
    assert!(message.ends_with("4 categories for 5 classes"), "{message}");
}

#[test]
fn weights_of_another_network_are_refused_by_name() {
    let mut imported = import(&layout("timm_seresnet.pt"), None).unwrap();
    imported.weights.remove("fc.bias");
    let message = to_onnx(&imported.spec, &imported.weights, OnnxOptions::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("fc.bias is missing"), "{message}");
}

/// Makes a backbone as narrow as its groups allow.
fn narrowed(mut backbone: BackboneConfig) -> BackboneConfig {
    for width in [0.0625, 0.125, 0.25, 0.5] {
        *backbone.common_mut().width_multiplier = width;
        if backbone.validate().is_ok() {
            break;
        }
    }
    backbone
}

/// Returns every classifier of the zoo and every variant of the SE unit, narrow, by name.
fn classifiers() -> Vec<(String, ModelSpec)> {
    let of_backbone = |name: String, backbone: BackboneConfig, input: zoo::InputConvention| {
        let preprocess = Preprocess {
            mean: input.mean,
            std: input.std,
            center_crop: Some(input.size),
            ..Preprocess::imagenet_eval().with_sizes(input.size, 4096)
        };
        let network = NetworkConfig::Classification(ClassifierConfig::new(narrowed(backbone), 5));
        (name, ModelSpec::new(network, preprocess))
    };
    let mut all: Vec<_> = zoo::known_names()
        .into_iter()
        .map(|name| {
            let published = zoo::network(&name).unwrap();
            of_backbone(name, published.backbone, published.input)
        })
        .collect();
    let paper = SeConfig::new(4);
    let at = |position| SeConfig { position, ..paper };
    let squeezed = |squeeze| SeConfig { squeeze, ..paper };
    let gated = |gate| SeConfig { gate, ..paper };
    let grafted = |gate| SeConfig {
        start: SeStart::Identity,
        ..gated(gate)
    };
    let variants = [
        ("pre", at(SePosition::Pre)),
        ("post", at(SePosition::Post)),
        ("identity", at(SePosition::Identity)),
        ("conv3x3", at(SePosition::Conv3x3)),
        ("max", squeezed(Squeeze::Max)),
        ("none", squeezed(Squeeze::None)),
        ("tanh", gated(Gate::Tanh)),
        ("relu", gated(Gate::Relu)),
        ("grafted-sigmoid", grafted(Gate::Sigmoid)),
        ("grafted-tanh", grafted(Gate::Tanh)),
        ("grafted-relu", grafted(Gate::Relu)),
        (
            "no-bias",
            SeConfig {
                bias: false,
                squeeze: Squeeze::None,
                ..paper
            },
        ),
        (
            "after-relu",
            SeConfig {
                after_relu: true,
                ..paper
            },
        ),
    ];
    for (name, se) in variants {
        let backbone = ResNetConfig {
            se: Some(se),
            ..ResNetConfig::new(BlockKind::Bottleneck, [1, 1, 1, 1])
        };
        let name = format!("se-variant-{name}");
        all.push(of_backbone(name, backbone.into(), zoo::IMAGENET));
    }
    all
}

/// Returns a narrow detector of every backbone with every preset, by name.
fn detectors() -> Vec<(String, ModelSpec)> {
    let torchvision = Preprocess::torchvision();
    let presets = [
        ("torchvision", Preset::Torchvision, torchvision),
        ("torchvision-v2", Preset::TorchvisionV2, torchvision),
        ("detectron2", Preset::Detectron2, Preprocess::detectron2()),
        (
            "mmdetection",
            Preset::Mmdetection,
            Preprocess::mmdetection(),
        ),
    ];
    let mut all = Vec::new();
    for name in zoo::detector_names() {
        for (preset_name, preset, preprocess) in presets {
            let backbone = narrowed(zoo::backbone(&name).unwrap());
            let mut model = FasterRcnnConfig::new(preset, backbone, 3);
            model.fpn.channels = 16;
            model.roi_heads.representation_size = 32;
            model.roi_heads.box_head.convolutions.fill(16);
            let described = |model: FasterRcnnConfig| {
                let preprocess = preprocess.with_sizes(160, 256);
                ModelSpec::detector(model, preprocess, categories(&["a", "b", "c"]))
            };
            if name == "se-resnet18" {
                let mut agnostic = model.clone();
                agnostic.roi_heads.box_head.class_agnostic = true;
                let name = format!("{name}-class-agnostic-{preset_name}");
                all.push((name, described(agnostic)));
            }
            all.push((format!("{name}-{preset_name}"), described(model)));
        }
    }
    all
}

/// Returns zeros for all tensors of a network.
fn zeros(spec: &ModelSpec) -> NamedTensors {
    let device = Device::flex();
    let shapes = match &spec.network {
        NetworkConfig::Classification(model) => named_shapes(&model.init(&device)),
        NetworkConfig::Detection(model) => named_shapes(&model.init(&device)),
    };
    let zeros = |(name, shape)| (name, TensorData::full(shape, 0.0f32));
    shapes.into_iter().map(zeros).collect()
}

/// Returns the graph of a network with weights of zero, and checks its structure.
fn checked_graph(name: &str, spec: &ModelSpec, raw: bool) -> GraphProto {
    let weights = zeros(spec);
    let options = OnnxOptions {
        raw,
        ..OnnxOptions::default()
    };
    let bytes = written(spec, &weights, options);
    let graph = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap();
    check_structure(&graph, name);
    let initializers: BTreeMap<_, _> = graph
        .initializer
        .iter()
        .map(|t| (t.name.as_str(), &t.dims))
        .collect();
    for (tensor, values) in &weights {
        let shape: Vec<i64> = values.shape().iter().map(|&size| size as i64).collect();
        assert_eq!(initializers[tensor.as_str()], &shape, "{name}: {tensor}");
    }
    graph
}

fn count(graph: &GraphProto, operator: &str) -> usize {
    let nodes = graph.node.iter();
    nodes.filter(|node| node.op_type == operator).count()
}

#[test]
fn every_classifier_and_variant_of_the_se_unit_has_a_complete_graph() {
    let mut graphs = BTreeMap::new();
    for (name, spec) in classifiers() {
        let graph = checked_graph(&name, &spec, false);
        let gates = graph.node.iter().filter(|n| n.name.ends_with(".se.gates"));
        let has_gates = gates.count() > 0;
        assert_eq!(has_gates, spec.backbone().se().is_some(), "{name}");
        graphs.insert(name, graph);
    }
    let operator = |name: &str, end: &str| {
        let graph = &graphs[name];
        let found = graph.node.iter().find(|node| node.name.ends_with(end));
        found.unwrap().op_type.clone()
    };
    assert_eq!(
        operator("se-variant-max", "se.squeezed.maps"),
        "GlobalMaxPool"
    );
    assert_eq!(operator("se-variant-none", "se.fc1"), "Conv");
    assert_eq!(operator("se-variant-tanh", "se.gates"), "Tanh");
    assert_eq!(operator("se-variant-relu", "se.gates"), "Relu");
    assert_eq!(operator("se-variant-post", "se.gates"), "Sigmoid");
    let block = "backbone.layer1.0";
    let excited = |variant: &str| {
        let graph = &graphs[&format!("se-variant-{variant}")];
        node(graph, &format!("{block}.se")).input[0].clone()
    };
    assert_eq!(excited("pre"), "backbone.pool");
    assert_eq!(excited("conv3x3"), format!("{block}.norms.1.relu"));
    assert_eq!(excited("identity"), format!("{block}.downsample.norm"));
    assert_eq!(excited("post"), format!("{block}.relu"));
    assert_eq!(excited("max"), format!("{block}.norms.2"));
    assert_eq!(excited("after-relu"), format!("{block}.norms.2.relu"));
    // Seven rows and columns for VGG's first hidden layer, of any feature map.
    let vgg = &graphs["vgg16-bn"];
    assert_eq!(node(vgg, "pool.rows").op_type, "Div");
    assert_eq!(node(vgg, "hidden.1").input[0], "hidden.0.relu");
}

#[test]
fn every_detector_has_a_complete_graph_with_the_operators_of_its_preset() {
    for (name, spec) in detectors() {
        let graph = checked_graph(&name, &spec, false);
        assert_eq!(shape(&graph.input[0]), ["1", "3", "height", "width"]);
        let outputs: Vec<_> = graph
            .output
            .iter()
            .map(|o| (o.name.as_str(), shape(o)))
            .collect();
        let expected = [
            ("boxes", vec!["detections", "4"]),
            ("labels", vec!["detections"]),
            ("scores", vec!["detections"]),
        ];
        assert_eq!(
            outputs,
            expected.map(|(name, shape)| (name, shape.into_iter().map(String::from).collect()))
        );
        // One per level of the RPN, and one for the classes.
        assert_eq!(count(&graph, "NonMaxSuppression"), 6, "{name}");
        let is_torchvision = name.contains("torchvision");
        let is_agnostic = name.contains("class-agnostic");
        assert_eq!(count(&graph, "Expand"), usize::from(is_agnostic), "{name}");
        for (level, scale) in [0.25, 0.125, 0.0625, 0.03125].into_iter().enumerate() {
            let pooled = node(&graph, &format!("roi.p{}.pooled", level + 2));
            assert_eq!(attribute(pooled, "spatial_scale").f, Some(scale));
            let (mode, samples): (&[u8], _) = if is_torchvision {
                (b"output_half_pixel", 2)
            } else {
                (b"half_pixel", 0)
            };
            let found = &attribute(pooled, "coordinate_transformation_mode").s;
            assert_eq!(found.as_deref(), Some(mode), "{name}");
            assert_eq!(
                attribute(pooled, "sampling_ratio").i,
                Some(samples),
                "{name}"
            );
        }
        let constant = |name: &str| {
            let found = graph.initializer.iter().find(|t| t.name == name);
            let floats = found?.raw_data.as_chunks().0.iter();
            Some(floats.map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>())
        };
        let strides = constant("rpn.p5.anchors.strides");
        assert_eq!(strides, (!is_torchvision).then(|| vec![32.0; 2]), "{name}");
        assert_eq!(constant("rpn.nms_threshold"), Some(vec![0.7]));
        assert_eq!(constant("score_threshold"), Some(vec![0.05]));
        let ranks = graph
            .node
            .iter()
            .filter(|n| n.op_type == "Reciprocal")
            .count();
        assert_eq!(
            ranks,
            if name.ends_with("detectron2") { 0 } else { 5 },
            "{name}"
        );

        let raw = checked_graph(&name, &spec, true);
        assert_eq!(count(&raw, "NonMaxSuppression"), 5, "{name}: of the RPN");
        let outputs: Vec<_> = raw.output.iter().map(shape).collect();
        assert_eq!(
            outputs,
            [vec!["proposals", "3", "4"], vec!["proposals", "3"]]
        );
    }
}

#[test]
fn a_detector_is_padded_in_the_graph_and_names_its_categories_and_their_ids() {
    let (_, mut spec) = detectors().swap_remove(0);
    let padded = checked_graph("divisor 32", &spec, false);
    assert_eq!(node(&padded, "backbone.conv1").input[0], "padded");
    spec.preprocess.size_divisor = 1;
    let whole = checked_graph("divisor 1", &spec, false);
    assert_eq!(node(&whole, "backbone.conv1").input[0], "pixels");
    let bytes = written(&spec, &zeros(&spec), OnnxOptions::default());
    let model = ModelProto::decode(bytes.as_slice()).unwrap();
    let entries = model.metadata_props.into_iter();
    let entries: BTreeMap<_, _> = entries.map(|entry| (entry.key, entry.value)).collect();
    assert_eq!(entries["categories"], r#"["a","b","c"]"#);
    assert_eq!(entries["category_ids"], "[1,4,7]");
    let preprocess: serde_json::Value = serde_json::from_str(&entries["preprocess"]).unwrap();
    assert_eq!(
        (&preprocess["min_size"], &preprocess["max_size"]),
        (&160.into(), &256.into())
    );
}

#[test]
fn half_precision_is_for_filters_and_matrices_that_it_reaches() {
    let detector = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let mut loaded = load_weights(Path::new(detector), None).unwrap();
    let huge = "rpn.conv.weight";
    let shape = loaded.weights[huge].shape().to_vec();
    let values = TensorData::full(shape, 70_000.0f32);
    loaded.weights.insert(huge.into(), values);
    let options = |precision| OnnxOptions {
        precision,
        raw: false,
    };
    let full = written(&loaded.spec, &loaded.weights, options(Precision::Full));
    let half = written(&loaded.spec, &loaded.weights, options(Precision::Half));
    assert!(
        half.len() < full.len() * 6 / 10,
        "{} {}",
        half.len(),
        full.len()
    );
    let graph = ModelProto::decode(half.as_slice()).unwrap().graph.unwrap();
    check_structure(&graph, "half");
    for (name, values) in &loaded.weights {
        let is_half = values.shape().len() > 1 && name != huge;
        let stored = if is_half {
            let cast = node(&graph, name);
            assert_eq!(
                (cast.op_type.as_str(), attribute(cast, "to").i),
                ("Cast", Some(1))
            );
            cast.input[0].as_str()
        } else {
            name
        };
        let found = graph.initializer.iter().find(|t| t.name == stored).unwrap();
        let expected = if is_half {
            DataType::Float16
        } else {
            DataType::Float
        };
        assert_eq!(found.data_type, i32::from(expected), "{name}");
    }
    let name = "box_head.fc7.weight";
    let values: Vec<f32> = loaded.weights[name].iter().collect();
    let at = (0..values.len()).max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()));
    let (at, value) = (at.unwrap(), values[at.unwrap()]);
    let mut stored = graph.initializer.iter();
    let stored = stored.find(|t| t.name == format!("{name}.f16")).unwrap();
    let bits = u16::from_le_bytes([stored.raw_data[2 * at], stored.raw_data[2 * at + 1]]);
    let exponent = i32::from(bits >> 10 & 31) - 15;
    let magnitude = (1.0 + f32::from(bits & 1023) / 1024.0) * 2f32.powi(exponent);
    assert_eq!(bits >> 15 == 1, value < 0.0);
    assert!(
        (magnitude - value.abs()).abs() <= value.abs() / 2048.0,
        "{magnitude} {value}"
    );
}

#[test]
fn raw_outputs_of_a_classifier_are_refused() {
    let imported = import(&layout("timm_seresnet.pt"), None).unwrap();
    let options = OnnxOptions {
        raw: true,
        ..OnnxOptions::default()
    };
    let error = to_onnx(&imported.spec, &imported.weights, options).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("a classifier has no outputs"), "{message}");
}

/// The networks that tests/oracle/onnx_networks.py fills with values and runs.
#[test]
#[ignore = "writes files for tests/oracle/onnx_networks.py into $SEDET_ONNX_NETWORKS"]
fn every_network_is_written_for_the_oracle() {
    let directory = PathBuf::from(std::env::var_os("SEDET_ONNX_NETWORKS").unwrap());
    for (name, spec) in classifiers().into_iter().chain(detectors()) {
        let checkpoint = Checkpoint {
            weights: zeros(&spec),
            spec,
            progress: None,
            optimizer: NamedTensors::new(),
            ema: NamedTensors::new(),
        };
        let path = directory.join(format!("{name}.safetensors"));
        checkpoint.save(&path, Precision::Full).unwrap();
    }
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
fn the_command_writes_models_and_refuses_a_path_that_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    for model in ["torchvision_basic.pth", "torchvision_old_detector.pth"] {
        let file = layout(model);
        let path = directory.path().join(model).with_extension("onnx");
        let (code, line) = export_by_command(&file, &path);
        assert_eq!(code, Some(0), "{line}");
        let imported = import(&file, None).unwrap();
        let expected = written(&imported.spec, &imported.weights, OnnxOptions::default());
        assert!(std::fs::read(&path).unwrap() == expected, "{model}");
    }
    let nowhere = directory.path().join("missing/out.onnx");
    let (code, line) = export_by_command(&layout("torchvision_basic.pth"), &nowhere);
    assert_eq!(code, Some(1));
    assert!(
        line.starts_with(&format!("error: {}: not written", nowhere.display())),
        "{line}"
    );
}
