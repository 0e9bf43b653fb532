//! The layers of torchvision's `fasterrcnn_resnet50_fpn_v2`, class-agnostic box regression and the losses on
//! IoU, compared with torchvision's.

use crate::common::torchvision::transposed;
use crate::common::{
    Fixture, assert_close, assert_close_to_largest, fixture_path, gradients_by_name, values,
};
use crate::faster_rcnn::{batch, boxes, prepared, targets};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use sedet::boxes::{BoxXyxy, ImageSize};
use sedet::config::training::OptimizerConfig;
use sedet::config::{DetectionConfig, Recipe as _};
use sedet::detection::box_coder::BoxCoder;
use sedet::detection::faster_rcnn::{FasterRcnn, FasterRcnnConfig, FasterRcnnLosses, Preset};
use sedet::detection::losses::{BoxLoss, BoxPairs};
use sedet::detection::roi_heads::{BoxHeadOutput, TrainingSample, detections, roi_losses};
use sedet::detection::sampler::SampleOrder;
use sedet::kernels::bf16::ComputePrecision;
use sedet::model::NetworkConfig;
use sedet::nn::norm::NormKind;
use sedet::train::optimizer::Optimizer;
use sedet::weights::checkpoint::Precision;
use sedet::weights::export::{export, names_for};
use sedet::weights::import::{ImportOptions, import};
use sedet::weights::layouts::{Form, Library, Names};
use sedet::weights::load::LoadedWeights;
use sedet::weights::parameters::{load_named_tensors, named_tensors};

const FILE: &str = "faster_rcnn_v2.safetensors";

/// The fixture also has the gradients of all weights.
fn of_weights() -> ImportOptions {
    ImportOptions {
        network: Some("weights".into()),
        ..ImportOptions::default()
    }
}

/// Imports the fixture as a user imports a state dict.
fn imported() -> (LoadedWeights, FasterRcnnConfig) {
    let imported = import(&fixture_path(FILE), of_weights()).unwrap_or_else(|e| panic!("{e}"));
    let NetworkConfig::Detection(mut config) = imported.spec.network.clone() else {
        panic!("a classifier");
    };
    config.anchors.sizes = vec![8.0, 16.0, 32.0, 64.0, 128.0];
    config.rpn.train_limits.pre_nms = 80;
    config.rpn.train_limits.post_nms = 60;
    config.rpn.test_limits.pre_nms = 40;
    config.rpn.test_limits.post_nms = 24;
    config.rpn.sampler.batch_size_per_image = 64;
    config.roi_heads.sampler.batch_size_per_image = 32;
    (imported, config)
}

fn model(device: &Device) -> FasterRcnn {
    let (imported, config) = imported();
    load_named_tensors(config.init(device), &imported.weights).unwrap()
}

fn names() -> Names {
    names_for(Library::Torchvision, &imported().0.spec.network).unwrap()
}

/// The inputs are those of the first version's fixture.
fn inputs() -> Fixture {
    Fixture::open("faster_rcnn.safetensors")
}

fn losses(model: &FasterRcnn, case: &str) -> FasterRcnnLosses {
    let fixture = inputs();
    let mut input = batch(&fixture);
    input.pixels = Tensor::from_inner(input.pixels);
    model.losses(input, &targets(&fixture, case), &mut SampleOrder::InOrder)
}

fn assert_losses(losses: &FasterRcnnLosses, fixture: &Fixture, prefix: &str) {
    let of_torchvision = [
        "loss_objectness",
        "loss_rpn_box_reg",
        "loss_classifier",
        "loss_box_reg",
    ];
    for ((name, loss), reference) in losses.parts().into_iter().zip(of_torchvision) {
        let key = format!("{prefix}.{reference}");
        let expected = fixture.floats(&key)[0];
        let found = values(loss.clone().inner())[0];
        assert!(
            (found - expected).abs() <= 1e-4 * expected.abs(),
            "{key}, {name}: {found} instead of {expected}"
        );
    }
}

#[test]
fn the_layers_of_torchvision_s_second_version_follow_from_its_tensors() {
    let (imported, config) = imported();
    let report = imported.report.as_ref().unwrap();
    assert!(report.network_is_whole(), "{:?}", report.lines());
    assert_eq!(Preset::of(&config), Preset::TorchvisionV2);
    assert_eq!(config.rpn.convolutions, 2);
    let head = &config.roi_heads.box_head;
    assert_eq!(head.convolutions, [16, 12, 12, 8]);
    assert_eq!((head.hidden_layers, head.class_agnostic), (1, false));
    for norm in [config.fpn.norm, head.norm, Some(config.backbone.norm())] {
        let norm = norm.unwrap();
        assert_eq!((norm.kind, norm.epsilon), (NormKind::Batch, 1e-5));
    }
}

#[test]
fn a_step_equals_torchvision_s_in_losses_gradients_statistics_and_effect() {
    let fixture = Fixture::open(FILE);
    let names = names();
    for case in ["both", "one_empty"] {
        let model = model(&crate::common::device().autodiff());
        let losses_before = losses(&model, case);
        assert_losses(&losses_before, &fixture, case);
        let gradients = losses_before.total().backward();
        if case == "both" {
            let mut compared = 0;
            for (name, (shape, gradient)) in &gradients_by_name(&model, &gradients) {
                let reference = names.third_party(name);
                let key = format!("{case}.grad.{}", reference.name);
                let gradient = match reference.form {
                    Form::Matrix => transposed(gradient, shape[0], shape[1]),
                    _ => gradient.clone(),
                };
                assert_close_to_largest(&key, &gradient, &fixture.floats(&key), 1e-3);
                compared += 1;
            }
            let expected = fixture.names();
            let prefix = format!("{case}.grad.");
            let expected = expected.iter().filter(|name| name.starts_with(&prefix));
            assert_eq!(compared, expected.count(), "every gradient is compared");
            let mut compared = 0;
            for (name, data) in named_tensors(&model) {
                if !name.contains(".running_") {
                    continue;
                }
                let key = format!("{case}.after.{}", names.third_party(&name).name);
                let found: Vec<f32> = data.iter::<f32>().collect();
                assert_close(&key, &found, &fixture.floats(&key), 1e-5);
                compared += 1;
            }
            assert_eq!(compared, 2 * (1 + 8 + 3 + 8 + 4));
        }
        let gradients = GradientsParams::from_grads(gradients, &model);
        let sgd = OptimizerConfig::Sgd {
            momentum: 0.9,
            weight_decay: 1e-4,
            nesterov: false,
        };
        let model = Optimizer::new(sgd, true).step(model, gradients, 0.02);
        assert_losses(&losses(&model, case), &fixture, &format!("{case}.second"));
    }
}

#[test]
fn pyramid_anchors_and_detections_equal_torchvision_s_before_and_after_folding() {
    let fixture = Fixture::open(FILE);
    let inputs = inputs();
    let images = prepared(&inputs);
    let plain = model(&crate::common::device());
    for (name, model) in [
        ("plain", plain.clone()),
        ("folded", plain.folded(ComputePrecision::F32)),
    ] {
        let levels = model.features(batch(&inputs).pixels);
        for (level, key) in ["0", "1", "2", "3", "pool"].iter().enumerate() {
            let expected = fixture.floats(&format!("fpn_{key}"));
            let mut found = levels[level].clone();
            if level == 0 {
                found = found.narrow(1, 0, 4);
            }
            assert_close(
                &format!("{name} P{}", level + 2),
                &values(found),
                &expected,
                1e-5,
            );
        }
        let output = model.rpn.forward(&levels);
        let rows = |level: usize| {
            let before = output.anchors_of_level[..level].iter().sum::<usize>();
            (before, output.anchors_of_level[level])
        };
        for level in 0..5 {
            let key = format!("objectness_{level}");
            let [images, anchors, height, width] = fixture.shape(&key)[..] else {
                panic!("{key}");
            };
            let (start, count) = rows(level);
            let found = output.objectness.clone().narrow(1, start, count);
            let found = found
                .reshape([images, height, width, anchors])
                .permute([0, 3, 1, 2]);
            assert_close(&key, &values(found), &fixture.floats(&key), 1e-4);
            if level > 0 {
                let key = format!("rpn_deltas_{level}");
                let found = output.box_deltas.clone().narrow(1, start, count);
                let found = found.reshape([images, height, width, 4 * anchors]);
                let found = found.permute([0, 3, 1, 2]);
                assert_close(&key, &values(found), &fixture.floats(&key), 1e-4);
            }
        }
        for (i, found) in model.detect(batch(&inputs)).iter().enumerate() {
            let case = format!("detections_{i}");
            let expected = boxes(&fixture, &format!("{case}.boxes"));
            let labels = fixture.ints(&format!("{case}.labels"));
            let scores = fixture.floats(&format!("{case}.scores"));
            assert_eq!(found.len(), expected.len(), "{name} {case}");
            for (n, detection) in found.iter().enumerate() {
                let native = images[i].to_image(detection.box_in_input);
                let reference = expected[n];
                for (a, b) in [
                    (native.x1, reference.x1),
                    (native.y1, reference.y1),
                    (native.x2, reference.x2),
                    (native.y2, reference.y2),
                ] {
                    assert!(
                        (a - b).abs() < 0.01,
                        "{name} {case} {n}: {native:?} {reference:?}"
                    );
                }
                assert_eq!(detection.label as i64 + 1, labels[n], "{name} {case} {n}");
                let difference = (detection.score - scores[n]).abs();
                assert!(difference < 1e-4, "{name} {case} {n}: {difference}");
            }
        }
    }
}

#[test]
fn an_export_of_the_second_version_has_the_tensors_of_torchvision() {
    let (imported, _) = imported();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("export.safetensors");
    export(&imported.weights, &names(), Precision::Full, &path).unwrap();
    let (fixture, exported) = (Fixture::open(FILE), Fixture::open_file(&path));
    let is_weight = |name: &&str| !name.ends_with("num_batches_tracked");
    let in_fixture = fixture.names();
    let in_fixture = in_fixture
        .iter()
        .filter_map(|name| name.strip_prefix("weights."));
    let expected: Vec<&str> = in_fixture.filter(is_weight).collect();
    assert_eq!(exported.names(), expected);
    for name in expected {
        let key = format!("weights.{name}");
        assert_eq!(exported.shape(name), fixture.shape(&key), "{name}");
        assert_eq!(exported.floats(name), fixture.floats(&key), "{name}");
    }
}

#[test]
fn head_norms_are_frozen_only_with_the_statistics_of_a_detector() {
    let kinds = |config: &FasterRcnnConfig| {
        let head = &config.roi_heads.box_head;
        [
            config.backbone.norm().kind,
            config.fpn.norm.unwrap().kind,
            head.norm.unwrap().kind,
        ]
    };
    let (batch, frozen) = (NormKind::Batch, NormKind::Frozen);
    let settings = ["model.preset=torchvision_v2".to_string()];
    let config = DetectionConfig::load("fine-tune", &settings).unwrap();
    assert_eq!(kinds(&config.detector(3, false).unwrap()), [batch; 3]);
    // The weights of a classifier have no statistics for the pyramid.
    assert_eq!(
        kinds(&config.detector(3, true).unwrap()),
        [frozen, batch, batch]
    );
    let mut config = DetectionConfig::load("fine-tune", &[]).unwrap();
    config.import(&imported().0.spec, true, &[]).unwrap();
    assert_eq!(kinds(&config.detector(3, true).unwrap()), [frozen; 3]);
    // A norm can be added to any preset with its mode alone.
    let settings = ["model.overrides.fpn.norm.kind=batch".to_string()];
    let config = DetectionConfig::load("fine-tune", &settings).unwrap();
    let norm = config.detector(3, true).unwrap().fpn.norm.unwrap();
    assert_eq!((norm.epsilon, norm.momentum), (1e-5, 0.1));
}

#[test]
fn losses_on_iou_and_their_gradients_equal_torchvision_s() {
    let fixture = Fixture::open("box_losses.safetensors");
    let references = boxes(&fixture, "references");
    let ground_truth = boxes(&fixture, "ground_truth");
    let device = Device::flex().autodiff();
    for (coder, coder_name) in [(BoxCoder::RPN, "rpn"), (BoxCoder::ROI, "roi")] {
        for (loss, loss_name) in [(BoxLoss::Giou, "giou"), (BoxLoss::Ciou, "ciou")] {
            let key = format!("{coder_name}_{loss_name}");
            let deltas = fixture.floats("deltas");
            let rows = deltas.chunks_exact(4);
            let scaled = rows.flat_map(|d| [0, 1, 2, 3].map(|n| d[n] * coder.weights[n]));
            let scaled = TensorData::new(scaled.collect::<Vec<f32>>(), [references.len(), 4]);
            let deltas = Tensor::<2>::from_data(scaled, &device).require_grad();
            let pairs = BoxPairs {
                coder,
                references: &references,
                ground_truth: &ground_truth,
            };
            let sum = loss.sum(deltas.clone(), pairs);
            let expected = fixture.floats(&format!("{key}.loss"));
            assert_close_to_largest(&key, &values(sum.clone().inner()), &expected, 1e-5);
            let gradient = values(deltas.grad(&sum.backward()).unwrap());
            let expected = fixture.floats(&format!("{key}.grad"));
            assert_close_to_largest(&key, &gradient, &expected, 1e-4);
            // The heads divide by the number of sampled boxes, detectron2's normalization; two of three boxes
            // are background here, and all classes share their deltas.
            if coder == BoxCoder::ROI {
                let preset = FasterRcnnConfig::new(
                    Preset::Detectron2,
                    sedet::backbones::zoo::backbone("resnet18").unwrap(),
                    3,
                );
                let mut heads = preset.roi_heads;
                heads.box_loss = loss;
                heads.box_loss_weight = 10.0;
                heads.box_head.class_agnostic = true;
                let count = references.len();
                let sample = TrainingSample {
                    proposals: [references.clone(), references.clone(), references.clone()]
                        .concat(),
                    labels: [vec![2; count], vec![0; 2 * count]].concat(),
                    ground_truth: [ground_truth.clone(), vec![BoxXyxy::default(); 2 * count]]
                        .concat(),
                };
                let zeros = Tensor::zeros([2 * count, 4], &device);
                let output = BoxHeadOutput {
                    class_logits: Tensor::zeros([3 * count, 4], &device),
                    box_deltas: Tensor::cat(vec![deltas.clone(), zeros], 0),
                };
                let found = roi_losses(&heads, output, &[sample]).box_deltas;
                let expected = fixture.floats(&format!("{key}.loss"))[0];
                let expected = 10.0 * expected / (3 * count) as f32;
                assert_close_to_largest(&key, &values(found.inner()), &[expected], 1e-5);
            }
        }
    }
}

#[test]
fn class_agnostic_deltas_move_the_box_of_every_class_alike() {
    let device = Device::flex();
    let preset = FasterRcnnConfig::new(
        Preset::Torchvision,
        sedet::backbones::zoo::backbone("resnet18").unwrap(),
        2,
    );
    let per_class = preset.roi_heads;
    let mut shared = per_class.clone();
    shared.box_head.class_agnostic = true;
    let logits = Tensor::<2>::from_floats([[0.0, 1.0, 1.2], [0.5, 0.4, 2.0]], &device);
    let deltas = Tensor::<2>::from_floats([[1.0, -2.0, 0.5, 0.3], [0.2, 0.1, -0.4, 0.6]], &device);
    let proposals = [vec![
        BoxXyxy::new(10.0, 20.0, 60.0, 90.0),
        BoxXyxy::new(50.0, 15.0, 95.0, 45.0),
    ]];
    let size = [ImageSize::new(100, 120)];
    let of = |config, box_deltas: Tensor<2>| {
        let class_logits = logits.clone();
        let output = BoxHeadOutput {
            class_logits,
            box_deltas,
        };
        detections(config, output, &proposals, &size)
    };
    let repeated = deltas.clone().repeat_dim(1, 3);
    let found = of(&shared, deltas);
    assert_eq!(found[0].len(), 4);
    assert_eq!(found, of(&per_class, repeated));
}
