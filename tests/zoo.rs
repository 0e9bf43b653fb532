//! Networks other than ResNet compared with torchvision's, timm's and modules written from the
//! papers' tables: feature maps, logits, gradients, feature pyramids; and the cost of every
//! published network.
//!
//! Both sides compute weights and inputs from names, as `tests/oracle/zoo.py` documents.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use common::torchvision::transposed;
use common::{Fixture, assert_close_to_largest, fixture_path, gradients_by_name, values};
use sedet::backbones::BackboneConfig;
use sedet::backbones::bn_inception::BnInceptionConfig;
use sedet::backbones::inception_resnet_v2::InceptionResnetV2Config;
use sedet::backbones::mobilenet::MobilenetConfig;
use sedet::backbones::resnet::{
    AntiAlias, BlockKind, ResNetConfig, Shortcut, Stem, StemPooling, StridePlace,
};
use sedet::backbones::shufflenet::ShufflenetConfig;
use sedet::backbones::summary::{LayerKind, LayerSummary, Summary};
use sedet::backbones::vgg::VggConfig;
use sedet::backbones::zoo;
use sedet::boxes::{BoxXyxy, ImageSize};
use sedet::classification::classifier::{Classifier, ClassifierConfig};
use sedet::detection::faster_rcnn::{FasterRcnnConfig, Preset};
use sedet::detection::sampler::SampleOrder;
use sedet::detection::{ImageBatch, Target};
use sedet::loading::batch::pad_images;
use sedet::loading::transforms::PreparedImage;
use sedet::nn::norm::NormKind;
use sedet::nn::se::{SeConfig, SePosition, Squeeze};
use sedet::weights::parameters::{NamedTensors, load_named_tensors, named_shapes};

const CLASSES: usize = 5;

/// Returns numbers evenly distributed between `low` and `high`, hashed from a name and the position.
fn numbers(name: &str, count: usize, low: f64, high: f64) -> Vec<f32> {
    let seed = name.bytes().fold(0x811C_9DC5u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (0..count as u32)
        .map(|index| {
            let mut x = index.wrapping_mul(0x9E37_79B9).wrapping_add(seed);
            x ^= x >> 16;
            x = x.wrapping_mul(0x85EB_CA6B);
            x ^= x >> 13;
            x = x.wrapping_mul(0xC2B2_AE35);
            x ^= x >> 16;
            let unit = f64::from(x >> 8) / f64::from(1 << 24);
            (low + (high - low) * unit) as f32
        })
        .collect()
}

/// Returns the values of a network's tensor by its name.
fn initial(name: &str, shape: &[usize]) -> TensorData {
    let count = shape.iter().product();
    let parts: Vec<&str> = name.rsplitn(3, '.').collect();
    let (tensor, module) = (parts[0], parts[1]);
    let uniform = |low: f64, high: f64| numbers(name, count, low, high);
    let he = |gain: f64, fan_in: usize| {
        let bound = (gain / fan_in as f64).sqrt();
        uniform(-bound, bound)
    };
    let values = match (module, tensor, shape) {
        ("norm", "weight", _) => uniform(0.6, 1.4),
        ("norm", "bias", _) => uniform(0.0, 0.6),
        ("norm", "running_mean", _) => uniform(-0.3, 0.3),
        ("norm", _, _) => uniform(0.5, 2.0),
        ("fc1", "bias", _) => uniform(0.5, 1.5),
        (_, "bias", _) => uniform(-0.5, 0.5),
        // Computed in torch's order, outputs first.
        (_, _, &[d_in, d_out]) => transposed(&he(3.0, d_in), d_out, d_in),
        _ => he(6.0, shape[1..].iter().product()),
    };
    TensorData::new(values, shape.to_vec())
}

fn filled(config: &ClassifierConfig, device: &Device) -> Classifier {
    with_initial_weights(config.init(device))
}

fn with_initial_weights<M: Module>(network: M) -> M {
    let weights: NamedTensors = named_shapes(&network)
        .into_iter()
        .map(|(name, shape)| {
            let tensor = initial(&name, &shape);
            (name, tensor)
        })
        .collect();
    load_named_tensors(network, &weights).unwrap()
}

/// `[batch, 3, height, width]`.
fn input(batch: usize, [height, width]: [usize; 2], device: &Device) -> Tensor<4> {
    let shape = [batch, 3, height, width];
    let values = numbers("input", shape.iter().product(), -1.0, 1.0);
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Returns the name in the fixture, the network, and the size of its input.
fn narrow_networks() -> [(&'static str, BackboneConfig, [usize; 2]); 5] {
    let width_multiplier = 1.0 / 16.0;
    [
        (
            "vgg",
            BackboneConfig::Vgg(VggConfig {
                width_multiplier,
                ..VggConfig::vgg16()
            }),
            [75, 103],
        ),
        (
            "bn_inception",
            BackboneConfig::BnInception(BnInceptionConfig {
                width_multiplier,
                ..BnInceptionConfig::default()
            }),
            [75, 103],
        ),
        (
            "inception_resnet_v2",
            BackboneConfig::InceptionResnetV2(InceptionResnetV2Config {
                width_multiplier,
                ..InceptionResnetV2Config::default()
            }),
            [139, 171],
        ),
        (
            "mobilenet",
            BackboneConfig::Mobilenet(MobilenetConfig {
                width_multiplier,
                ..MobilenetConfig::default()
            }),
            [75, 103],
        ),
        (
            "shufflenet",
            BackboneConfig::Shufflenet(ShufflenetConfig {
                width_multiplier: 0.25,
                ..ShufflenetConfig::default()
            }),
            [75, 103],
        ),
    ]
}

#[test]
fn last_feature_maps_and_logits_of_plain_and_se_networks_equal_the_references() {
    let fixture = Fixture::open("zoo.safetensors");
    let device = common::device();
    for (family, plain, size) in narrow_networks() {
        assert_eq!(family, plain.family());
        for se in [None, Some(SeConfig::default())] {
            let mut backbone = plain.clone();
            *backbone.common_mut().se = se;
            let name = match se {
                None => family.to_string(),
                Some(_) => format!("se_{family}"),
            };
            let config = ClassifierConfig::new(backbone, CLASSES);
            let network = filled(&config, &device);
            let x = input(2, size, &device);
            let map = network.backbone.forward_features(x.clone(), 0);
            let key = format!("{name}.features");
            assert_eq!(map.dims().to_vec(), fixture.shape(&key), "{key}");
            assert_eq!(map.dims()[1], config.backbone.channels(), "{key}");
            assert_close_to_largest(&key, &values(map.clone()), &fixture.floats(&key), 1e-4);
            let key = format!("{name}.logits");
            assert_close_to_largest(
                &key,
                &values(network.forward(x)),
                &fixture.floats(&key),
                1e-4,
            );
            // The declared shape equals the actual one.
            let [_, channels, height, width] = map.dims();
            let summary = config.summary(size).unwrap();
            let last = last_of_backbone(&summary);
            assert_eq!(last.output[1..], [height, width], "{name}: {}", last.name);
            assert_eq!(pooled(&summary).output[0], channels, "{name}");
        }
    }
}

/// Checks C2..C5 by the mean of each channel and its product with a hashed vector, and P2..P6 in full.
#[test]
fn feature_pyramids_of_plain_and_se_networks_equal_the_references() {
    let fixture = Fixture::open("pyramids.safetensors");
    let device = crate::common::device();
    for (family, plain, _) in narrow_networks() {
        for se in [None, Some(SeConfig::default())] {
            let name = match se {
                None => family.to_string(),
                Some(_) => format!("se_{family}"),
            };
            let mut backbone = plain.clone().for_detection();
            *backbone.common_mut().se = se;
            let mut config = FasterRcnnConfig::new(Preset::Torchvision, backbone, 3);
            config.fpn.channels = 6;
            config.roi_heads.representation_size = 4;
            assert_eq!(config.validate(), Ok(()));
            let detector = with_initial_weights(config.init(&device));
            let maps = detector.feature_maps(input(1, [75, 103], &device));
            for (level, map) in (2..).zip(maps) {
                let key = format!("{name}.c{level}");
                let shape: Vec<i64> = map.dims().map(|size| size as i64).into();
                assert_eq!(shape, fixture.ints(&format!("{key}_shape")), "{key}");
                let [_, channels, height, width] = map.dims();
                let area = height * width;
                let map = values(map);
                let direction = numbers(&format!("c{level}#"), channels * area, -1.0, 1.0);
                let mean = |weight: &dyn Fn(usize) -> f32| -> Vec<f32> {
                    (0..channels)
                        .map(|channel| {
                            let pixels = channel * area..(channel + 1) * area;
                            let sum: f64 = pixels.map(|i| f64::from(map[i] * weight(i))).sum();
                            (sum / area as f64) as f32
                        })
                        .collect()
                };
                let found = [mean(&|_| 1.0), mean(&|i| direction[i])].concat();
                assert_close_to_largest(&key, &found, &fixture.floats(&key), 1e-4);
            }
            let levels = detector.features(input(1, [75, 103], &device));
            assert_eq!(levels.len(), 5);
            for (number, level) in (2..).zip(levels) {
                let key = format!("{name}.p{number}");
                assert_eq!(level.dims().to_vec(), fixture.shape(&key), "{key}");
                assert_close_to_largest(&key, &values(level), &fixture.floats(&key), 1e-4);
            }
        }
    }
}

/// A detector of every family gives losses and detections for sizes that no stride divides. Only
/// the parts that are not frozen have gradients.
#[test]
fn detectors_of_every_family_train_all_parts_except_frozen_parts() {
    let device = crate::common::device().autodiff();
    for (family, plain, _) in narrow_networks() {
        for frozen in [0, 2] {
            let mut backbone = plain.clone().for_detection();
            let common = backbone.common_mut();
            *common.se = Some(SeConfig::default());
            common.norm.kind = NormKind::Batch;
            *common.frozen_stages = frozen;
            let mut config = FasterRcnnConfig::new(Preset::Torchvision, backbone.clone(), 3);
            config.fpn.channels = 6;
            config.roi_heads.representation_size = 4;
            let detector = with_initial_weights(config.init(&device));
            let size = ImageSize::new(77, 101);
            let batch = |device| ImageBatch {
                pixels: input(1, [size.height, size.width], device),
                input_sizes: vec![size],
            };
            let target = Target {
                boxes_in_input: vec![BoxXyxy::new(10.0, 12.0, 60.0, 70.0)],
                labels: vec![1],
            };
            let losses = detector.losses(batch(&device), &[target], &mut SampleOrder::InOrder);
            let gradients = gradients_by_name(&detector, &losses.total().backward());
            let trained = layers_of_backbone(&backbone, frozen..);
            let kept = layers_of_backbone(&backbone, ..frozen);
            assert_eq!(kept.is_empty(), frozen == 0, "{family}");
            let has_gradient = |layer: &String| {
                let prefix = format!("backbone.{layer}.");
                gradients.keys().any(|name| name.starts_with(&prefix))
            };
            for layer in &trained {
                assert!(has_gradient(layer), "{family}, {frozen} frozen: {layer}");
            }
            for layer in &kept {
                assert!(!has_gradient(layer), "{family}, {frozen} frozen: {layer}");
            }
            let found = detector.valid().detect(batch(&crate::common::device()));
            assert_eq!(found.len(), 1, "{family}");
        }
    }
}

/// Returns the names of the layers with parameters in some parts of a backbone.
fn layers_of_backbone(
    backbone: &BackboneConfig,
    parts: impl std::slice::SliceIndex<[Vec<LayerSummary>], Output = [Vec<LayerSummary>]>,
) -> Vec<String> {
    let all = backbone
        .init(&Device::flex())
        .layers_of_parts([77, 101])
        .unwrap();
    let layers = all[parts].iter().flatten();
    let with_parameters = layers.filter(|layer| layer.parameters > 0);
    with_parameters.map(|layer| layer.name.clone()).collect()
}

fn last_of_backbone(summary: &Summary) -> &LayerSummary {
    let of_backbone = |layer: &&LayerSummary| layer.name.starts_with("backbone.");
    summary.layers.iter().rfind(of_backbone).unwrap()
}

fn pooled(summary: &Summary) -> &LayerSummary {
    let is_pool = |layer: &&LayerSummary| layer.name == "pool";
    summary.layers.iter().find(is_pool).unwrap()
}

/// With batch statistics and without dropout, every parameter has a gradient. It equals torch's by
/// its norm and its product with a fixed vector.
#[test]
fn gradients_of_every_family_equal_torch_s() {
    let fixture = Fixture::open("zoo.safetensors");
    let device = common::device().autodiff();
    for (family, mut backbone, mut size) in narrow_networks() {
        *backbone.common_mut().se = Some(SeConfig::default());
        backbone.common_mut().norm.kind = NormKind::Batch;
        match &mut backbone {
            BackboneConfig::InceptionResnetV2(config) => config.blocks = [1, 1, 2],
            _ => size = [97, 115],
        }
        let mut config = ClassifierConfig::new(backbone, CLASSES);
        config.head.dropout = 0.0;
        let network = filled(&config, &device);
        let logits = network.forward(input(4, size, &device));
        let weights = numbers("cotangent", 4 * CLASSES, -1.0, 1.0);
        let weights = Tensor::from_data(TensorData::new(weights, [4, CLASSES]), &device);
        let found = gradients_by_name(&network, &(logits * weights).sum().backward());
        let learned = named_shapes(&network)
            .into_keys()
            .filter(|name| !name.contains("running"));
        assert!(learned.eq(found.keys().cloned()), "{family}: all learn");
        let longest = found
            .values()
            .map(|(_, gradient)| length(gradient))
            .fold(0.0, f64::max);
        for (name, gradient) in found {
            let expected = fixture.floats(&format!("gradients.{family}.{name}"));
            assert_gradient(family, &name, gradient, &expected, longest, 1e-3);
        }
    }
}

/// Compares a gradient with torch's by its length and its product with a hashed vector.
fn assert_gradient(
    family: &str,
    name: &str,
    (shape, gradient): (Vec<usize>, Vec<f32>),
    expected: &[f32],
    longest: f64,
    relative: f64,
) {
    let gradient = match shape.as_slice() {
        &[d_in, d_out] => transposed(&gradient, d_in, d_out),
        _ => gradient,
    };
    let direction = numbers(&format!("{name}#"), gradient.len(), -1.0, 1.0);
    let product: f64 = gradient
        .iter()
        .zip(&direction)
        .map(|(g, d)| f64::from(*g) * f64::from(*d))
        .sum();
    let [expected_length, expected_product] = [expected[0], expected[1]].map(f64::from);
    // The gradient of a bias before a norm is only rounding error.
    let tolerance = relative * expected_length + 1e-5 * longest;
    assert!(
        (length(&gradient) - expected_length).abs() <= tolerance
            && (product - expected_product).abs() <= tolerance,
        "{family}: {name}: length {} for {expected_length}, product {product} for \
         {expected_product}",
        length(&gradient)
    );
}

/// With the same weights, image and samples, the detectors on the small families have torchvision's losses
/// and gradients; norms are frozen.
#[test]
fn losses_and_gradients_of_detectors_of_every_family_equal_torchvision_s() {
    let fixture = Fixture::open("zoo_detectors.safetensors");
    let device = crate::common::device().autodiff();
    let size = ImageSize::new(75, 103);
    for (family, backbone, _) in narrow_networks() {
        let mut backbone = backbone.for_detection();
        *backbone.common_mut().se = Some(SeConfig::default());
        backbone.common_mut().norm.kind = NormKind::Frozen;
        let mut config = FasterRcnnConfig::new(Preset::Torchvision, backbone, 3);
        config.fpn.channels = 6;
        config.anchors.sizes = vec![8.0, 16.0, 32.0, 64.0, 128.0];
        config.rpn.train_limits.pre_nms = 80;
        config.rpn.train_limits.post_nms = 60;
        config.rpn.sampler.batch_size_per_image = 64;
        config.roi_heads.sampler.batch_size_per_image = 32;
        config.roi_heads.representation_size = 32;
        let detector = with_initial_weights(config.init(&device));
        let number = fixture.ints(&format!("{family}.image"))[0];
        let pixels = 3 * size.height * size.width;
        let image = PreparedImage {
            pixels: numbers(&format!("image{number}"), pixels, -1.0, 1.0),
            image_size: size,
            input_size: size,
        };
        let (pixels, shape) = pad_images(&[image], 32);
        let batch = ImageBatch {
            pixels: Tensor::from_data(TensorData::new(pixels, shape), &device),
            input_sizes: vec![size],
        };
        let target = Target {
            boxes_in_input: vec![
                BoxXyxy::new(10.0, 12.0, 60.0, 70.0),
                BoxXyxy::new(30.0, 5.0, 95.0, 40.0),
            ],
            labels: vec![1, 0],
        };
        let losses = detector.losses(batch, &[target], &mut SampleOrder::InOrder);
        let gradients = gradients_by_name(&detector, &losses.total().backward());
        for (native, reference) in [
            (losses.classifier, "loss_classifier"),
            (losses.box_reg, "loss_box_reg"),
            (losses.objectness, "loss_objectness"),
            (losses.rpn_box, "loss_rpn_box_reg"),
        ] {
            let expected = fixture.floats(&format!("{family}.{reference}"))[0];
            let found = values(native.inner())[0];
            assert!(
                (found - expected).abs() <= 3e-4 * expected.abs(),
                "{family} {reference}: {found} instead of {expected}"
            );
        }
        let prefix = format!("{family}.grad.");
        let names = fixture.names().into_iter();
        let expected = names.filter_map(|name| Some(name.strip_prefix(&prefix)?.to_owned()));
        let expected: BTreeSet<String> = expected.filter(|n| !n.contains(".norm.")).collect();
        assert!(
            expected.iter().eq(gradients.keys()),
            "{family}: the same have gradients"
        );
        let lengths = gradients.values().map(|(_, gradient)| length(gradient));
        let longest = lengths.fold(0.0, f64::max);
        for (name, gradient) in gradients {
            let expected = fixture.floats(&format!("{prefix}{name}"));
            assert_gradient(family, &name, gradient, &expected, longest, 2e-3);
        }
    }
}

fn length(values: &[f32]) -> f64 {
    let squares = values.iter().map(|v| f64::from(*v).powi(2));
    squares.sum::<f64>().sqrt()
}

fn published(name: &str) -> (ClassifierConfig, usize) {
    let network = zoo::network(name).unwrap();
    let size = network.input.size;
    (
        ClassifierConfig::new(network.backbone, network.num_classes),
        size,
    )
}

#[test]
fn full_size_networks_have_the_parameters_and_macs_of_the_references() {
    let text = std::fs::read_to_string(fixture_path("zoo_costs.json")).unwrap();
    let costs: serde_json::Value = serde_json::from_str(&text).unwrap();
    for name in zoo::known_names() {
        let (config, size) = published(&name);
        let expected = &costs["networks"][&name];
        let summary = config.summary([size; 2]).unwrap();
        assert_eq!(expected["size"], size, "{name}");
        assert_eq!(expected["parameters"], summary.parameters(), "{name}");
        assert_eq!(expected["macs"], summary.macs(), "{name}");
        let odd = config.summary([317; 2]).unwrap();
        assert_eq!(expected["macs_at_317"], odd.macs(), "{name} at 317");
        // Every tensor belongs to a layer of the summary, and vice versa.
        let shapes = named_shapes(&config.init(&Device::flex()));
        let mut of_layers: BTreeMap<&str, u64> = BTreeMap::new();
        for (tensor, shape) in shapes.iter().filter(|(t, _)| !t.contains("running")) {
            let layer = summary
                .layers
                .iter()
                .find(|layer| tensor.starts_with(&format!("{}.", layer.name)))
                .unwrap_or_else(|| panic!("{name}: no layer has {tensor}"));
            *of_layers.entry(&layer.name).or_default() += shape.iter().product::<usize>() as u64;
        }
        for layer in summary.layers.iter().filter(|l| l.parameters > 0) {
            assert_eq!(of_layers.get(layer.name.as_str()), Some(&layer.parameters));
        }
    }
}

/// How the "GFLOPs" of the SENet paper (tables 2 and 3) are computed.
#[derive(Debug, Clone, Copy)]
enum Paper {
    /// Multiply-adds as counted by sedet, rounded.
    Equal,
    /// Multiply-adds and one multiplication for each output of a norm, to less than a unit of the
    /// last digit: the paper is inconsistent about norms, and about rounding and truncation.
    WithNorms,
    /// Another number; the multiply-adds counted by sedet, in G.
    Differs(f64, &'static str),
}

const INCEPTION_RESNET: &str = "the paper's own implementation, which was never published: with \
    its shortcuts and channels as in Szegedy et al.'s figures (5, 10 and 5 blocks) there are 9.26 G, \
    and in the network that those authors published (10, 20 and 10 blocks, a smaller stem) 13.16 G";

/// The paper's number for each network, in G, and its number of decimals.
const PAPER: [(&str, f64, i32, Paper); 20] = [
    ("resnet50", 3.86, 2, Paper::Equal),
    ("se-resnet50", 3.87, 2, Paper::Equal),
    ("resnet101", 7.58, 2, Paper::WithNorms),
    ("se-resnet101", 7.60, 2, Paper::WithNorms),
    ("resnet152", 11.30, 2, Paper::WithNorms),
    ("se-resnet152", 11.32, 2, Paper::WithNorms),
    ("resnext50-32x4d", 4.24, 2, Paper::WithNorms),
    ("se-resnext50-32x4d", 4.25, 2, Paper::WithNorms),
    ("resnext101-32x4d", 7.99, 2, Paper::WithNorms),
    ("se-resnext101-32x4d", 8.00, 2, Paper::WithNorms),
    ("vgg16-bn", 15.47, 2, Paper::Equal),
    ("se-vgg16-bn", 15.48, 2, Paper::Equal),
    ("bn-inception", 2.03, 2, Paper::Equal),
    ("se-bn-inception", 2.04, 2, Paper::WithNorms),
    (
        "inception-resnet-v2",
        11.75,
        2,
        Paper::Differs(13.16, INCEPTION_RESNET),
    ),
    (
        "se-inception-resnet-v2",
        11.76,
        2,
        Paper::Differs(13.18, INCEPTION_RESNET),
    ),
    ("mobilenet-v1", 0.569, 3, Paper::Equal),
    ("se-mobilenet-v1", 0.572, 3, Paper::Equal),
    ("shufflenet-v1-g3", 0.140, 3, Paper::WithNorms),
    ("se-shufflenet-v1-g3", 0.142, 3, Paper::WithNorms),
];

/// The paper's residual networks have the stride of a bottleneck in its first 1x1 convolution, like
/// the original Caffe networks; ResNeXt has it in the 3x3.
#[test]
fn multiply_adds_equal_the_senet_paper_or_differ_for_a_known_reason() {
    for (name, figure, digits, paper) in PAPER {
        let (mut config, size) = published(name);
        if let BackboneConfig::Resnet(resnet) = &mut config.backbone
            && resnet.groups == 1
        {
            resnet.stride_place = StridePlace::Conv1x1;
        }
        let summary = config.summary([size; 2]).unwrap();
        let giga = |count: u64| count as f64 / 1e9;
        let unit = 10f64.powi(-digits);
        let native = giga(summary.macs());
        match paper {
            Paper::Equal => assert!((native - figure).abs() <= unit / 2.0, "{name}: {native}"),
            Paper::WithNorms => {
                let norms = summary.layers.iter().filter(|l| l.kind == LayerKind::Norm);
                let norms: u64 = norms.map(LayerSummary::activations).sum();
                let all = giga(summary.macs() + norms);
                assert!((all - figure).abs() < unit, "{name}: {all}");
            }
            Paper::Differs(counted, reason) => {
                assert!(
                    (native - counted).abs() <= unit / 2.0,
                    "{name}: {native}; {reason}"
                );
            }
        }
    }
    // With torchvision's stride position, as in the zoo: more, for the same parameters.
    let (config, size) = published("resnet50");
    let macs = config.summary([size; 2]).unwrap().macs();
    assert_eq!((macs as f64 / 1e7).round(), 409.0);
}

/// Returns the millions of parameters.
fn millions(config: &ClassifierConfig) -> f64 {
    let size = zoo::network("resnet18").unwrap().input.size;
    config.summary([size; 2]).unwrap().parameters() as f64 / 1e6
}

/// Table 3 truncates the parameters of the mobile networks to one decimal.
#[test]
fn parameters_of_mobile_networks_equal_the_senet_paper() {
    for (name, figure) in [
        ("mobilenet-v1", 4.2),
        ("se-mobilenet-v1", 4.7),
        ("shufflenet-v1-g3", 1.8),
        ("se-shufflenet-v1-g3", 2.4),
    ] {
        let parameters = millions(&published(name).0);
        assert_eq!((parameters * 10.0).floor() / 10.0, figure, "{name}");
    }
}

/// The numbers of the networks' own papers, which include the classifier of CIFAR-10. That of
/// Shake-Even is the number of the ResNeXt-29 8x64d that it splits in two. The Places network has
/// the 60.19 M of ResNet-152 minus the weights of the missing classes.
#[test]
fn parameters_of_networks_for_other_datasets_equal_their_papers() {
    for (name, figure, digits) in [
        ("resnet20", 0.27, 2),
        ("resnet32", 0.46, 2),
        ("resnet44", 0.66, 2),
        ("resnet56", 0.85, 2),
        ("resnet110", 1.7, 1),
        ("resnet164", 1.7, 1),
        ("wrn-16-8", 11.0, 1),
        ("wrn-28-10", 36.5, 1),
        ("shake-shake-26-2x96d", 26.2, 1),
        ("shake-even-29-2x4x64d", 34.4, 1),
    ] {
        let network = zoo::network(name).unwrap();
        let found = millions(&ClassifierConfig::new(network.backbone, 10));
        let unit = 10f64.powi(-digits);
        assert!((found - figure).abs() <= unit / 2.0, "{name}: {found}");
    }
    let (places, _) = published("resnet152-places365");
    let (imagenet, _) = published("resnet152");
    assert_eq!(places.backbone, imagenet.backbone);
    let lacking = (1000 - 365) as f64 * 2049.0 / 1e6;
    let found = millions(&places);
    assert!((found - (60.19 - lacking)).abs() < 0.005, "{found}");
}

/// With units at every position, with and without a squeeze; the reference is counted by torch
/// hooks.
#[test]
fn costs_of_se_variants_equal_the_references() {
    let text = std::fs::read_to_string(fixture_path("zoo_costs.json")).unwrap();
    let costs: serde_json::Value = serde_json::from_str(&text).unwrap();
    let positions = [
        ("standard", SePosition::Standard),
        ("pre", SePosition::Pre),
        ("post", SePosition::Post),
        ("identity", SePosition::Identity),
        ("conv3x3", SePosition::Conv3x3),
    ];
    let squeezes = [
        ("avg", Squeeze::Average),
        ("avg", Squeeze::Max),
        ("none", Squeeze::None),
    ];
    let mut places = BTreeSet::new();
    for (kind, block) in [
        ("basic", BlockKind::Basic),
        ("bottleneck", BlockKind::Bottleneck),
    ] {
        for (position_name, position) in positions {
            for (squeeze_name, squeeze) in squeezes {
                let backbone = BackboneConfig::Resnet(ResNetConfig {
                    base_channels: 4,
                    stem: Stem::Cifar,
                    se: Some(SeConfig {
                        position,
                        squeeze,
                        ..SeConfig::new(4)
                    }),
                    ..ResNetConfig::new(block, [2, 1, 0, 0])
                });
                places.insert(backbone.se_position().unwrap());
                let config = ClassifierConfig::new(backbone, CLASSES);
                let summary = config.summary([33, 47]).unwrap();
                let of_backbone = || {
                    let layers = summary.layers.iter();
                    layers.filter(|layer| layer.name.starts_with("backbone."))
                };
                let name = format!("{kind}_{position_name}_{squeeze_name}");
                let expected = &costs["se_variants"][&name];
                let parameters: u64 = of_backbone().map(|layer| layer.parameters).sum();
                assert_eq!(expected["parameters"], parameters, "{name}");
                let macs: u64 = of_backbone().map(|layer| layer.macs).sum();
                assert_eq!(expected["macs"], macs, "{name}");
            }
        }
    }
    // Each position has its own layer names; the inner position has two.
    assert_eq!(places.len(), positions.len() + 1, "{places:?}");
}

/// At fractions of the width, down to one at which strided blocks add no channels.
#[test]
fn declared_sizes_of_narrow_cifar_networks_equal_actual_sizes() {
    let device = common::device();
    for (name, width) in [
        ("se-resnet20", 0.25),
        ("se-resnet164", 0.125),
        ("resnet164", 0.01),
        ("se-wrn-16-8", 0.0625),
        ("se-shake-shake-26-2x96d", 0.0625),
        ("se-shake-even-29-2x4x64d", 0.125),
        ("shake-even-29-2x4x64d", 0.01),
    ] {
        let mut network = zoo::network(name).unwrap();
        *network.backbone.common_mut().width_multiplier = width;
        network.backbone.validate().unwrap();
        let config = ClassifierConfig::new(network.backbone, CLASSES);
        let network = config.init(&device);
        let map = network
            .backbone
            .forward_features(input(1, [13, 10], &device), 0);
        let [_, channels, height, width] = map.dims();
        assert_eq!([height, width], [4, 3], "{name}");
        let summary = config.summary([13, 10]).unwrap();
        let last = last_of_backbone(&summary);
        assert_eq!(last.output, [channels, height, width], "{name}");
        assert_eq!(channels, config.backbone.channels(), "{name}");
    }
}

/// Unpublished configurations: the summary supports every stem, pooling and shortcut.
#[test]
fn declared_sizes_of_unusual_resnets_equal_actual_sizes() {
    let device = common::device();
    let stem = Stem::Deep {
        channels: [32, 32, 64],
    };
    let (average, blur) = (Some(AntiAlias::AveragePool), Some(AntiAlias::BlurPool));
    for (stem, stem_pooling, anti_alias) in [
        (Stem::Conv7x7, StemPooling::CeilMode, None),
        (Stem::Cifar, StemPooling::Padded, None),
        (stem, StemPooling::Padded, None),
        (stem, StemPooling::Conv3x3, None),
        (Stem::Conv7x7, StemPooling::Padded, average),
        (stem, StemPooling::Padded, blur),
        (Stem::Cifar, StemPooling::Padded, blur),
    ] {
        for shortcut in [
            Shortcut::Conv1x1,
            Shortcut::Conv3x3,
            Shortcut::AveragePool,
            Shortcut::ZeroPad,
        ] {
            let resnet = ResNetConfig {
                width_multiplier: 1.0 / 16.0,
                stem,
                stem_pooling,
                anti_alias,
                shortcut,
                se: Some(SeConfig::default()),
                ..ResNetConfig::new(BlockKind::Bottleneck, [1, 1, 1, 0])
            };
            let config = ClassifierConfig::new(BackboneConfig::Resnet(resnet), CLASSES);
            let network = config.init(&device);
            let map = network
                .backbone
                .forward_features(input(1, [45, 38], &device), 0);
            let [_, channels, height, width] = map.dims();
            let summary = config.summary([45, 38]).unwrap();
            let of_last_block = |layer: &&LayerSummary| layer.name.ends_with("layer3.0.norms.2");
            let last = summary.layers.iter().find(of_last_block).unwrap();
            assert_eq!(last.output, [channels, height, width], "{config:?}");
            // Every parameter of the network is in a layer.
            let learned: usize = named_shapes(&network)
                .iter()
                .filter(|(name, _)| !name.contains("running"))
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum();
            assert_eq!(summary.parameters(), learned as u64);
        }
    }
}

#[test]
fn an_image_that_is_too_small_is_rejected_with_the_layer() {
    let (config, _) = published("inception-resnet-v2");
    let message = config.summary([60, 80]).unwrap_err().to_string();
    assert!(message.contains("60x80"), "{message}");
    assert!(message.contains("backbone.stages.2"), "{message}");
}

#[test]
fn dropout_is_active_in_training_only() {
    let (mut config, _) = published("vgg16-bn");
    *config.backbone.common_mut().width_multiplier = 1.0 / 16.0;
    config.head.hidden = vec![64, 64];
    assert_eq!(config.head.dropout, 0.5);
    let device = Device::flex().autodiff();
    device.seed(7);
    // Norms with running statistics, so that only dropout makes a difference.
    config.backbone.common_mut().norm.kind = NormKind::Frozen;
    let network = filled(&config, &device);
    let x = || input(1, [64, 64], &device);
    let first = values(network.forward(x()).inner());
    let second = values(network.forward(x()).inner());
    assert_ne!(first, second);
    let evaluated = network.valid();
    let x = || input(1, [64, 64], &Device::flex());
    assert_eq!(
        values(evaluated.forward(x())),
        values(evaluated.forward(x()))
    );
}
