//! Every component of Faster R-CNN compared with torchvision's; detectron2's rules are compared
//! with their formulas.

use crate::common::{Fixture, assert_close, values};
use burn::tensor::{Device, Tensor};
use sedet::backbones::resnet::{BlockKind, ResNetConfig};
use sedet::boxes::{BoxXyxy, ImageSize};
use sedet::detection::Target;
use sedet::detection::anchors::AnchorConfig;
use sedet::detection::box_coder::BoxCoder;
use sedet::detection::faster_rcnn::{FasterRcnnConfig, Preset};
use sedet::detection::matcher::{Match, Matcher};
use sedet::detection::nms::nms;
use sedet::detection::roi_heads::{
    BoxHeadOutput, TrainingSample, detections, roi_losses, select_training_sample,
};
use sedet::detection::rpn::{ProposalLimits, RpnOutput, proposals, rpn_losses};
use sedet::detection::sampler::{BalancedSampler, SampleOrder};

const PRESETS: [(Preset, &str); 2] = [
    (Preset::Torchvision, "torchvision"),
    (Preset::Detectron2, "detectron2"),
];

fn fixture() -> Fixture {
    Fixture::open("detection_components.safetensors")
}

fn config(preset: Preset) -> FasterRcnnConfig {
    FasterRcnnConfig::new(preset, ResNetConfig::new(BlockKind::Basic, [1; 4]), 3)
}

fn boxes(fixture: &Fixture, key: &str) -> Vec<BoxXyxy> {
    let row = |b: &[f32]| BoxXyxy::new(b[0], b[1], b[2], b[3]);
    fixture.floats(key).chunks_exact(4).map(row).collect()
}

fn flat(boxes: &[BoxXyxy]) -> Vec<f32> {
    boxes
        .iter()
        .flat_map(|b| [b.x1, b.y1, b.x2, b.y2])
        .collect()
}

fn sizes(fixture: &Fixture, key: &str) -> Vec<ImageSize> {
    let size = |s: &[i64]| ImageSize::new(s[0] as usize, s[1] as usize);
    fixture.ints(key).chunks_exact(2).map(size).collect()
}

fn indices(values: &[i64]) -> Vec<usize> {
    values.iter().map(|v| *v as usize).collect()
}

#[test]
fn anchors_follow_both_presets() {
    let fixture = fixture();
    for (preset, name) in PRESETS {
        let anchors = config(preset).anchors;
        let case = format!("anchors_{name}_64x96");
        let cells: Vec<BoxXyxy> = (0..5).flat_map(|l| anchors.cell_anchors(l)).collect();
        assert_close(
            &case,
            &flat(&cells),
            &fixture.floats(&format!("{case}.cell_anchors")),
            1e-5,
        );
        if preset == Preset::Torchvision {
            let grids = sizes(&fixture, &format!("{case}.grids"));
            let grid = anchors.grid(ImageSize::new(64, 96), &grids).concat();
            assert_close(
                &case,
                &flat(&grid),
                &fixture.floats(&format!("{case}.anchors")),
                1e-6,
            );
        }
    }
    let grids = sizes(&fixture, "anchors_torchvision_224x320.grids");
    let coarse = AnchorConfig {
        sizes: vec![256.0, 512.0],
        ..AnchorConfig::default()
    };
    let grid = coarse.grid(ImageSize::new(224, 320), &grids).concat();
    let expected = fixture.floats("anchors_torchvision_224x320.anchors_p5_p6");
    assert_close("p5 and p6", &flat(&grid), &expected, 1e-6);
    // detectron2's P6 keeps its stride of 64 even beyond the input.
    let fixed = config(Preset::Detectron2).anchors;
    let last = fixed.grid(ImageSize::new(224, 320), &[ImageSize::new(4, 5); 5]);
    let size = fixed.cell_anchors(4)[0];
    let end = last[4][57];
    assert_eq!(
        (end.x1 - size.x1, end.y1 - size.y1),
        (4.0 * 64.0, 3.0 * 64.0)
    );
}

#[test]
fn the_matcher_agrees_on_smooth_tied_low_and_empty_rows() {
    let fixture = fixture();
    let names = fixture.names();
    let cases = names.iter().filter_map(|n| n.strip_suffix(".iou"));
    let mut seen = 0;
    for case in cases.filter(|c| c.starts_with("matcher_")) {
        let iou = fixture.floats(&format!("{case}.iou"));
        let shape = fixture.shape(&format!("{case}.iou"));
        let matcher = if case.starts_with("matcher_rpn") {
            Matcher::RPN
        } else {
            Matcher::ROI
        };
        let matches = matcher.match_quality(shape[0], shape[1], |g, c| iou[g * shape[1] + c]);
        let as_numbers: Vec<i64> = matches
            .iter()
            .map(|m| match m {
                Match::GroundTruth(g) => *g as i64,
                Match::Background => -1,
                Match::Ignored => -2,
            })
            .collect();
        assert_eq!(
            as_numbers,
            fixture.ints(&format!("{case}.matches")),
            "{case}"
        );
        seen += 1;
    }
    assert!(seen >= 8, "{seen} cases");
}

#[test]
fn the_balanced_sampler_takes_as_many_of_each_kind() {
    let fixture = fixture();
    let names = fixture.names();
    let cases = names
        .iter()
        .filter_map(|n| n.strip_suffix(".positive_mask"));
    for case in cases.filter(|c| c.starts_with("sampler_")) {
        let labels = fixture.ints(&format!("{case}.labels"));
        let of = |wanted: &dyn Fn(i64) -> bool| -> Vec<usize> {
            (0..labels.len()).filter(|&i| wanted(labels[i])).collect()
        };
        let quarter = case == "sampler_quarter_classes";
        let sampler = BalancedSampler {
            batch_size_per_image: if quarter { 50 } else { 64 },
            positive_fraction: if quarter { 0.25 } else { 0.5 },
        };
        let sample = sampler.sample(of(&|l| l >= 1), of(&|l| l == 0), &mut SampleOrder::InOrder);
        let mask = |name: &str| -> Vec<usize> {
            let mask = fixture.ints(&format!("{case}.{name}"));
            (0..mask.len()).filter(|&i| mask[i] != 0).collect()
        };
        assert_eq!(sample.positive, mask("positive_mask"), "{case}");
        assert_eq!(sample.negative, mask("negative_mask"), "{case}");
    }
}

#[test]
fn the_box_coder_encodes_and_decodes_alike() {
    let fixture = fixture();
    let proposals = boxes(&fixture, "box_coder.proposals");
    let reference = boxes(&fixture, "box_coder.reference");
    let deltas = fixture.floats("box_coder.deltas");
    for (coder, name) in [(BoxCoder::RPN, "w1"), (BoxCoder::ROI, "w10_10_5_5")] {
        let encoded: Vec<f32> = proposals
            .iter()
            .zip(&reference)
            .flat_map(|(p, r)| coder.encode(*p, *r))
            .collect();
        let expected = fixture.floats(&format!("box_coder.encoded_{name}"));
        assert_close("encoded", &encoded, &expected, 1e-5);
        let decoded: Vec<BoxXyxy> = proposals
            .iter()
            .zip(deltas.chunks_exact(4))
            .map(|(p, d)| coder.decode(*p, [d[0], d[1], d[2], d[3]]))
            .collect();
        let expected = fixture.floats(&format!("box_coder.decoded_{name}"));
        assert_close("decoded", &flat(&decoded), &expected, 1e-5);
    }
}

#[test]
fn suppression_keeps_the_same_boxes_in_the_same_order() {
    let fixture = fixture();
    let all = boxes(&fixture, "nms.boxes");
    let scores = fixture.floats("nms.scores");
    for threshold in ["0.3", "0.5", "0.7"] {
        let kept = nms(&all, &scores, &[], threshold.parse().unwrap());
        assert_eq!(
            kept,
            indices(&fixture.ints(&format!("nms.kept_{threshold}")))
        );
    }
    let tied = nms(&all, &fixture.floats("nms_tied.scores"), &[], 0.5);
    assert_eq!(tied, indices(&fixture.ints("nms_tied.kept_0.5")));
    let exact = boxes(&fixture, "nms_exact.boxes");
    let kept = nms(&exact, &fixture.floats("nms_exact.scores"), &[], 0.5);
    assert_eq!(kept, indices(&fixture.ints("nms_exact.kept_0.5")));
    let groups = indices(&fixture.ints("batched_nms.groups"));
    for threshold in ["0.5", "0.7"] {
        let kept = nms(&all, &scores, &groups, threshold.parse().unwrap());
        let expected = fixture.ints(&format!("batched_nms.kept_{threshold}"));
        assert_eq!(kept, indices(&expected));
    }
}

#[test]
fn iou_clipping_and_small_boxes_agree() {
    let fixture = fixture();
    let (first, second) = (
        boxes(&fixture, "box_iou.first"),
        boxes(&fixture, "box_iou.second"),
    );
    let iou: Vec<f32> = first
        .iter()
        .flat_map(|a| second.iter().map(|b| a.iou(*b)))
        .collect();
    assert_close("iou", &iou, &fixture.floats("box_iou.iou"), 1e-6);
    let clipped: Vec<BoxXyxy> = boxes(&fixture, "clip_boxes.boxes")
        .into_iter()
        .map(|b| b.clip(ImageSize::new(60, 100)))
        .collect();
    assert_eq!(flat(&clipped), fixture.floats("clip_boxes.clipped_60x100"));
    let small = boxes(&fixture, "small_boxes.boxes");
    for limit in ["0.001", "0.01"] {
        let side = limit.parse().unwrap();
        let kept: Vec<usize> = (0..small.len())
            .filter(|&i| small[i].has_sides_of(side))
            .collect();
        assert_eq!(
            kept,
            indices(&fixture.ints(&format!("small_boxes.kept_{limit}")))
        );
    }
}

#[test]
fn boxes_go_to_the_same_pyramid_level() {
    let fixture = fixture();
    let all = boxes(&fixture, "levels.boxes");
    for (preset, name) in PRESETS {
        let pooler = config(preset).roi_heads.pooler;
        let levels: Vec<usize> = all.iter().map(|b| pooler.level_of(*b, 4)).collect();
        assert_eq!(
            levels,
            indices(&fixture.ints(&format!("levels.{name}"))),
            "{name}"
        );
    }
}

#[test]
fn pooling_over_the_pyramid_agrees() {
    let fixture = fixture();
    let device = Device::flex();
    let features: Vec<Tensor<4>> = ["p2", "p3", "p4", "p5"]
        .iter()
        .map(|p| fixture.tensor(&format!("roi_pooler.{p}"), &device))
        .collect();
    let all = [
        boxes(&fixture, "roi_pooler.boxes_0"),
        boxes(&fixture, "roi_pooler.boxes_1"),
    ];
    for (aligned, sampling_ratio, key) in
        [(false, 2, "output"), (true, 0, "output_aligned_adaptive")]
    {
        let mut pooler = config(Preset::Torchvision).roi_heads.pooler;
        pooler.aligned = aligned;
        pooler.sampling_ratio = sampling_ratio;
        let pooled = values(pooler.forward(&features, &all));
        assert_close(
            key,
            &pooled,
            &fixture.floats(&format!("roi_pooler.{key}")),
            1e-5,
        );
    }
}

/// Returns anchors of three levels, as in the fixture's small pyramid.
const ANCHORS_OF_LEVEL: [usize; 3] = [288, 72, 18];

fn levels(anchors: &[BoxXyxy]) -> Vec<Vec<BoxXyxy>> {
    let mut rest = anchors;
    ANCHORS_OF_LEVEL
        .iter()
        .map(|count| {
            let (level, others) = rest.split_at(*count);
            rest = others;
            level.to_vec()
        })
        .collect()
}

#[test]
fn proposals_agree_in_training_and_testing() {
    let fixture = fixture();
    let device = Device::flex();
    let output = RpnOutput {
        objectness: fixture.tensor("rpn_proposals.objectness", &device),
        box_deltas: fixture.tensor("rpn_proposals.deltas", &device),
        anchors_of_level: ANCHORS_OF_LEVEL.to_vec(),
    };
    let anchors = levels(&boxes(&fixture, "rpn_proposals.anchors"));
    let image_sizes = [ImageSize::new(60, 90), ImageSize::new(64, 80)];
    let rpn = config(Preset::Torchvision).rpn;
    for (name, pre_nms, post_nms) in [("training", 120, 60), ("testing", 60, 30)] {
        let limits = ProposalLimits { pre_nms, post_nms };
        let found = proposals(&rpn, limits, &output, &anchors, &image_sizes);
        for (image, found) in found.iter().enumerate() {
            let key = format!("rpn_proposals.{name}_boxes_{image}");
            assert_close(&key, &flat(found), &fixture.floats(&key), 1e-5);
        }
    }
}

fn learning<const D: usize>(fixture: &Fixture, key: &str) -> Tensor<D> {
    let device = Device::flex().autodiff();
    fixture.tensor::<D>(key, &device).require_grad()
}

#[test]
fn rpn_losses_and_their_gradients_agree_in_both_presets() {
    let fixture = fixture();
    let anchors = boxes(&fixture, "rpn_proposals.anchors");
    for case in ["rpn_loss_both", "rpn_loss_one_empty"] {
        let truth: Vec<Vec<BoxXyxy>> = (0..2)
            .map(|i| boxes(&fixture, &format!("{case}.gt_boxes_{i}")))
            .collect();
        for (preset, name) in PRESETS {
            let mut rpn = config(preset).rpn;
            rpn.sampler.batch_size_per_image = 64;
            let objectness: Tensor<2> = learning(&fixture, &format!("{case}.objectness"));
            let deltas: Tensor<3> = learning(&fixture, &format!("{case}.deltas"));
            let output = RpnOutput {
                objectness: objectness.clone(),
                box_deltas: deltas.clone(),
                anchors_of_level: ANCHORS_OF_LEVEL.to_vec(),
            };
            let sizes = [ImageSize::new(60, 90), ImageSize::new(64, 80)];
            let order = &mut SampleOrder::InOrder;
            let losses = rpn_losses(&rpn, &output, &anchors, &sizes, &truth, order);
            let key = |what: &str| format!("{case}.{name}_{what}");
            let score = values(losses.objectness.clone().inner());
            assert_close(
                &key("loss_score"),
                &score,
                &fixture.floats(&key("loss_score")),
                1e-5,
            );
            let of_boxes = values(losses.box_deltas.clone().inner());
            assert_close(
                &key("loss_box"),
                &of_boxes,
                &fixture.floats(&key("loss_box")),
                1e-5,
            );
            let grads = (losses.objectness + losses.box_deltas).backward();
            let scores_grad = values(objectness.grad(&grads).unwrap());
            let deltas_grad = values(deltas.grad(&grads).unwrap());
            assert_close(
                "scores",
                &scores_grad,
                &fixture.floats(&key("scores_grad")),
                1e-6,
            );
            assert_close(
                "deltas",
                &deltas_grad,
                &fixture.floats(&key("deltas_grad")),
                1e-6,
            );
        }
    }
}

#[test]
fn head_losses_and_their_gradients_agree_in_both_presets() {
    let fixture = fixture();
    for case in ["fast_rcnn_loss_mixed", "fast_rcnn_loss_background"] {
        let labels = indices(&fixture.ints(&format!("{case}.labels")));
        // Any proposal does: encoding gives the targets again.
        let proposal = BoxXyxy::new(3.0, 5.0, 35.0, 29.0);
        let sample = TrainingSample {
            proposals: vec![proposal; labels.len()],
            labels,
            ground_truth: fixture
                .floats(&format!("{case}.regression_targets"))
                .chunks_exact(4)
                .map(|d| BoxCoder::ROI.decode(proposal, [d[0], d[1], d[2], d[3]]))
                .collect(),
        };
        for (preset, name) in PRESETS {
            let logits: Tensor<2> = learning(&fixture, &format!("{case}.class_logits"));
            let deltas: Tensor<2> = learning(&fixture, &format!("{case}.deltas"));
            let output = BoxHeadOutput {
                class_logits: logits.clone(),
                box_deltas: deltas.clone(),
            };
            let samples = std::slice::from_ref(&sample);
            let losses = roi_losses(&config(preset).roi_heads, output, samples);
            let key = |what: &str| format!("{case}.{name}_{what}");
            let score = values(losses.classifier.clone().inner());
            assert_close(
                &key("loss_score"),
                &score,
                &fixture.floats(&key("loss_score")),
                1e-5,
            );
            let of_boxes = values(losses.box_deltas.clone().inner());
            assert_close(
                &key("loss_box"),
                &of_boxes,
                &fixture.floats(&key("loss_box")),
                1e-5,
            );
            let grads = (losses.classifier + losses.box_deltas).backward();
            let scores_grad = values(logits.grad(&grads).unwrap());
            assert_close(
                "scores",
                &scores_grad,
                &fixture.floats(&key("scores_grad")),
                1e-6,
            );
            let expected = fixture.floats(&key("deltas_grad"));
            match deltas.grad(&grads) {
                Some(grad) => assert_close("deltas", &values(grad), &expected, 1e-6),
                None => assert!(expected.iter().all(|g| *g == 0.0), "{case}"),
            }
        }
    }
}

#[test]
fn the_head_s_training_sample_agrees() {
    let fixture = fixture();
    let mut roi = config(Preset::Torchvision).roi_heads;
    roi.sampler.batch_size_per_image = 40;
    for image in 0..2 {
        let key = |what: &str| format!("roi_sample.{what}_{image}");
        let target = Target {
            boxes_in_input: boxes(&fixture, &key("gt_boxes")),
            labels: fixture
                .ints(&key("gt_labels"))
                .iter()
                .map(|l| *l as usize - 1)
                .collect(),
        };
        let sample = select_training_sample(
            &roi,
            boxes(&fixture, &key("proposals")),
            &target,
            &mut SampleOrder::InOrder,
        );
        assert_close(
            "boxes",
            &flat(&sample.proposals),
            &fixture.floats(&key("sampled_boxes")),
            1e-6,
        );
        assert_eq!(
            sample.labels,
            indices(&fixture.ints(&key("sampled_labels")))
        );
        if image == 0 {
            // The loss ignores background rows; torchvision sets them anyway.
            let expected = fixture.floats(&key("regression_targets"));
            let pairs = sample.proposals.iter().zip(&sample.ground_truth);
            for (row, (proposal, truth)) in pairs.enumerate() {
                if sample.labels[row] > 0 {
                    let target = BoxCoder::ROI.encode(*proposal, *truth);
                    assert_close("targets", &target, &expected[row * 4..row * 4 + 4], 1e-5);
                }
            }
        }
    }
}

#[test]
fn detections_agree_with_more_than_a_hundred_candidates_and_with_none() {
    let fixture = fixture();
    let device = Device::flex();
    let output = BoxHeadOutput {
        class_logits: fixture.tensor("detections.class_logits", &device),
        box_deltas: fixture.tensor("detections.deltas", &device),
    };
    let proposals: Vec<Vec<BoxXyxy>> = (0..3)
        .map(|i| boxes(&fixture, &format!("detections.proposals_{i}")))
        .collect();
    let found = detections(
        &config(Preset::Torchvision).roi_heads,
        output,
        &proposals,
        &sizes(&fixture, "detections.image_sizes"),
    );
    for (image, found) in found.iter().enumerate() {
        let key = |what: &str| format!("detections.{what}_{image}");
        let all: Vec<BoxXyxy> = found.iter().map(|(d, _)| d.box_in_input).collect();
        let scores: Vec<f32> = found.iter().map(|(d, _)| d.score).collect();
        let labels: Vec<i64> = found.iter().map(|(d, _)| d.label as i64 + 1).collect();
        assert_close("boxes", &flat(&all), &fixture.floats(&key("boxes")), 1e-5);
        assert_close("scores", &scores, &fixture.floats(&key("scores")), 1e-6);
        assert_eq!(labels, fixture.ints(&key("labels")));
    }
}
