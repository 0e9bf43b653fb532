//! The whole detector compared with torchvision's: with the same weights, it has the same losses,
//! gradients and detections.

use crate::common::torchvision::{key, transposed, weights};
use crate::common::{Fixture, assert_close, assert_close_to_largest, gradients_by_name, values};
use burn::tensor::{Device, Tensor, TensorData};
use sedet::backbones::resnet::{BlockKind, ResNetConfig};
use sedet::boxes::{BoxXyxy, ImageSize};
use sedet::config::{DetectionConfig, Recipe as _};
use sedet::detection::faster_rcnn::{FasterRcnn, FasterRcnnConfig, Preset};
use sedet::detection::sampler::SampleOrder;
use sedet::detection::{ImageBatch, Target};
use sedet::loading::batch::pad_images;
use sedet::loading::transforms::PreparedImage;
use sedet::nn::se::SeConfig;
use sedet::read_back::counted;
use sedet::weights::parameters::{load_named_tensors, named_tensors};

const IMAGE_SIZES: [ImageSize; 2] = [ImageSize::new(46, 71), ImageSize::new(60, 41)];

fn config(model: &str) -> FasterRcnnConfig {
    let mut net = ResNetConfig::new(BlockKind::Basic, [1; 4]);
    net.width_multiplier = 4.0 / 64.0;
    net.se = (model == "se").then_some(SeConfig::new(4));
    let mut config = FasterRcnnConfig::new(Preset::Torchvision, net, 3);
    config.fpn.channels = 16;
    config.anchors.sizes = vec![8.0, 16.0, 32.0, 64.0, 128.0];
    config.rpn.train_limits.pre_nms = 80;
    config.rpn.train_limits.post_nms = 60;
    config.rpn.test_limits.pre_nms = 40;
    config.rpn.test_limits.post_nms = 24;
    config.rpn.sampler.batch_size_per_image = 64;
    config.roi_heads.sampler.batch_size_per_image = 32;
    config.roi_heads.representation_size = 32;
    if model == "canonical_16" {
        config.roi_heads.pooler.canonical_scale = 16.0;
    }
    config
}

fn model(fixture: &Fixture, name: &str, device: &Device) -> FasterRcnn {
    let model = config(name).init(device);
    let tensors = weights(
        &named_tensors(&model),
        fixture,
        &["weights_se.", "weights."],
    );
    load_named_tensors(model, &tensors).unwrap()
}

pub(crate) fn prepared(fixture: &Fixture) -> Vec<PreparedImage> {
    (0..2)
        .map(|i| {
            let shape = fixture.shape(&format!("transform.image_{i}"));
            PreparedImage {
                pixels: fixture.floats(&format!("transform.image_{i}")),
                image_size: IMAGE_SIZES[i],
                input_size: ImageSize::new(shape[1], shape[2]),
            }
        })
        .collect()
}

pub(crate) fn batch(fixture: &Fixture) -> ImageBatch {
    let images = prepared(fixture);
    let (pixels, shape) = pad_images(&images, 32);
    ImageBatch {
        pixels: Tensor::from_data(TensorData::new(pixels, shape), &crate::common::device()),
        input_sizes: images.iter().map(|i| i.input_size).collect(),
    }
}

pub(crate) fn boxes(fixture: &Fixture, key: &str) -> Vec<BoxXyxy> {
    fixture
        .floats(key)
        .chunks_exact(4)
        .map(|b| BoxXyxy::new(b[0], b[1], b[2], b[3]))
        .collect()
}

pub(crate) fn targets(fixture: &Fixture, batch: &str) -> Vec<Target> {
    prepared(fixture)
        .iter()
        .enumerate()
        .map(|(i, image)| Target {
            boxes_in_input: boxes(fixture, &format!("input.{batch}.boxes_{i}"))
                .into_iter()
                .map(|b| image.to_input(b))
                .collect(),
            labels: fixture
                .ints(&format!("input.{batch}.labels_{i}"))
                .into_iter()
                .map(|l| l as usize - 1)
                .collect(),
        })
        .collect()
}

#[test]
fn losses_equal_torchvision_s_with_and_without_se_and_with_an_image_without_boxes() {
    let fixture = Fixture::open("faster_rcnn.safetensors");
    let device = crate::common::device().autodiff();
    for name in ["plain", "se", "canonical_16"] {
        let model = model(&fixture, name, &device);
        for case in ["both", "one_empty"] {
            let mut input = batch(&fixture);
            input.pixels = Tensor::from_inner(input.pixels);
            let losses = model.losses(input, &targets(&fixture, case), &mut SampleOrder::InOrder);
            for (native, reference) in [
                (losses.classifier, "loss_classifier"),
                (losses.box_reg, "loss_box_reg"),
                (losses.objectness, "loss_objectness"),
                (losses.rpn_box, "loss_rpn_box_reg"),
            ] {
                let expected = fixture.floats(&format!("{name}.{case}.{reference}"))[0];
                let actual = values(native.inner())[0];
                assert!(
                    (actual - expected).abs() <= 1e-4 * expected.abs(),
                    "{name} {case} {reference}: {actual} instead of {expected}"
                );
            }
        }
    }
}

/// Anchors are quantized, those over the edge of the image are ignored, the boxes' loss is quadratic up to 1,
/// and pooling is not aligned.
#[test]
fn the_recipe_of_the_paper_has_the_losses_of_detectron() {
    let fixture = Fixture::open("faster_rcnn.safetensors");
    let expected = Fixture::open("detectron_losses.safetensors");
    let recipe = DetectionConfig::load("coco-paper-2x", &[]).unwrap();
    let small = config("plain");
    let mut config = recipe.detector(3, true).unwrap();
    let corners = |b: BoxXyxy| [b.x1, b.y1, b.x2, b.y2];
    let cells: Vec<f32> = (0..5)
        .flat_map(|level| config.anchors.cell_anchors(level))
        .flat_map(corners)
        .collect();
    assert_eq!(cells, expected.floats("anchors.cells"));
    config.backbone = small.backbone;
    config.fpn = small.fpn;
    config.anchors.sizes = small.anchors.sizes;
    config.rpn.train_limits = small.rpn.train_limits;
    config.rpn.sampler = small.rpn.sampler;
    config.roi_heads.sampler = small.roi_heads.sampler;
    config.roi_heads.representation_size = small.roi_heads.representation_size;
    let model = config.init(&crate::common::device().autodiff());
    let tensors = weights(&named_tensors(&model), &fixture, &["weights."]);
    let model = load_named_tensors(model, &tensors).unwrap();
    for case in ["both", "one_empty"] {
        let mut input = batch(&fixture);
        input.pixels = Tensor::from_inner(input.pixels);
        let losses = model.losses(input, &targets(&fixture, case), &mut SampleOrder::InOrder);
        for (native, reference) in [
            (losses.classifier, "loss_classifier"),
            (losses.box_reg, "loss_box_reg"),
            (losses.objectness, "loss_objectness"),
            (losses.rpn_box, "loss_rpn_box_reg"),
        ] {
            let expected = expected.floats(&format!("{case}.{reference}"))[0];
            let actual = values(native.inner())[0];
            assert!(
                (actual - expected).abs() <= 1e-4 * expected.abs(),
                "{case} {reference}: {actual} instead of {expected}"
            );
        }
    }
}

#[test]
fn gradients_of_all_parameters_equal_torchvision_s() {
    let fixture = Fixture::open("faster_rcnn.safetensors");
    let model = model(&fixture, "plain", &crate::common::device().autodiff());
    for case in ["both", "one_empty"] {
        let mut input = batch(&fixture);
        input.pixels = Tensor::from_inner(input.pixels);
        let losses = model.losses(input, &targets(&fixture, case), &mut SampleOrder::InOrder);
        let gradients = losses.total().backward();
        let prefix = format!("plain.{case}.grad.");
        let expected = fixture
            .names()
            .into_iter()
            .filter(|n| n.starts_with(&prefix));
        let mut compared = 0;
        for (name, (shape, gradient)) in &gradients_by_name(&model, &gradients) {
            let (key, is_transposed) = key(name);
            let key = format!("{prefix}{key}");
            if !fixture.has(&key) {
                continue;
            }
            let expected = fixture.floats(&key);
            let gradient = if is_transposed {
                transposed(gradient, shape[0], shape[1])
            } else {
                gradient.clone()
            };
            assert_close_to_largest(&key, &gradient, &expected, 1e-3);
            compared += 1;
        }
        assert_eq!(
            compared,
            expected.count(),
            "{case}: every gradient is compared"
        );
    }
}

#[test]
fn features_and_detections_equal_torchvision_s() {
    let fixture = Fixture::open("faster_rcnn.safetensors");
    let images = prepared(&fixture);
    for name in ["plain", "se", "canonical_16"] {
        let model = model(&fixture, name, &crate::common::device());
        if name == "plain" {
            let levels = model.features(batch(&fixture).pixels);
            for (level, key) in ["fpn_1", "fpn_2", "fpn_3", "fpn_pool"].iter().enumerate() {
                let expected = fixture.floats(&format!("plain.{key}"));
                assert_close(key, &values(levels[level + 1].clone()), &expected, 1e-5);
            }
        }
        let found = model.detect(batch(&fixture));
        for (i, found) in found.iter().enumerate() {
            let case = format!("{name}.detections_{i}");
            let expected = boxes(&fixture, &format!("{case}.boxes"));
            let labels = fixture.ints(&format!("{case}.labels"));
            let scores = fixture.floats(&format!("{case}.scores"));
            assert_eq!(found.len(), expected.len(), "{case}");
            for (n, detection) in found.iter().enumerate() {
                let native = images[i].to_image(detection.box_in_input);
                let reference = expected[n];
                for (a, b) in [
                    (native.x1, reference.x1),
                    (native.y1, reference.y1),
                    (native.x2, reference.x2),
                    (native.y2, reference.y2),
                ] {
                    assert!((a - b).abs() < 0.01, "{case} {n}: {native:?} {reference:?}");
                }
                assert_eq!(detection.label as i64 + 1, labels[n], "{case} {n}");
                assert!((detection.score - scores[n]).abs() < 1e-4, "{case} {n}");
            }
        }
    }
}

/// Each read makes the host wait for the device. The losses and the norm of the gradients are one more read each.
#[test]
fn a_step_and_a_detection_read_back_no_more_than_scores_and_the_deltas_of_the_best_anchors() {
    let fixture = Fixture::open("faster_rcnn.safetensors");
    let device = crate::common::device();
    let config = config("plain");
    let images = IMAGE_SIZES.len();
    let levels = model(&fixture, "plain", &device).features(batch(&fixture).pixels);
    let anchors: usize = levels
        .iter()
        .map(|level| {
            let [_, _, height, width] = level.dims();
            height * width * config.anchors.aspect_ratios.len()
        })
        .sum();
    // Four bytes of a logit, and four deltas of those that go on.
    let proposals = |pre_nms: usize| images * (4 * anchors + 16 * levels.len() * pre_nms);

    let training = model(&fixture, "plain", &device.clone().autodiff());
    let mut input = batch(&fixture);
    input.pixels = Tensor::from_inner(input.pixels);
    let targets = targets(&fixture, "both");
    let (_, step) = counted(|| training.losses(input, &targets, &mut SampleOrder::InOrder));
    assert_eq!(step.number, 2);
    let limit = proposals(config.rpn.train_limits.pre_nms);
    assert!(step.bytes <= limit, "{step:?}, limit {limit}");

    // Inference runs on a thread of the pool, and reads are counted by thread.
    let network = model(&fixture, "plain", &device);
    let (found, detection) = rayon::scope(|_| counted(|| network.detect(batch(&fixture))));
    assert!(found.iter().any(|found| !found.is_empty()));
    assert_eq!(detection.number, 4);
    let classes = config.num_classes + 1;
    let limits = config.rpn.test_limits;
    // Scores of all classes of a proposal, and the deltas of those above the threshold.
    let boxes = images * limits.post_nms * classes * (4 + 16);
    let limit = proposals(limits.pre_nms) + boxes;
    assert!(detection.bytes <= limit, "{detection:?}, limit {limit}");
}
