"""Reference numbers for the parts of Faster R-CNN, one case per part.

Run from the repository's root:  python tests/oracle/detection_components.py
Needs torch and torchvision as in requirements.txt. Writes tests/fixtures/detection_components.safetensors.

torchvision's own functions are called throughout. Where a case is detectron2's (which is not
on the package index), it is computed here from detectron2's published formula, as noted in the function.
Tensors are named `case.tensor`; README.md beside this file lists them with the options of each case.
"""

import torch
import torch.nn.functional as F
from torchvision.models.detection import _utils as det_utils
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign, boxes as box_ops, roi_align
from torchvision.ops.poolers import LevelMapper

import common

FPN_SIZES = ((32,), (64,), (128,), (256,), (512,))
RATIOS = (0.5, 1.0, 2.0)


def pyramid_grids(height, width):
    """Grids of P2..P6. P6 is P5 max-pooled with kernel 1 and stride 2, so odd sizes round up."""
    grids = [(height // stride, width // stride) for stride in (4, 8, 16, 32)]
    return grids + [((grids[-1][0] + 1) // 2, (grids[-1][1] + 1) // 2)]


def torchvision_anchors(height, width):
    generator = AnchorGenerator(FPN_SIZES, (RATIOS,) * len(FPN_SIZES))
    images = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    features = [torch.zeros(1, 1, *grid) for grid in pyramid_grids(height, width)]
    return generator, generator(images, features)[0]


def detectron2_anchors(height, width):
    """By formula (detectron2 DefaultAnchorGenerator): area = size^2, w = sqrt(area / ratio), h = ratio * w, not
    rounded; offset 0; the stride of a level is fixed (4, 8, 16, 32, 64) whatever the grid."""
    cells, anchors = [], []
    for (size,), stride, (rows, columns) in zip(FPN_SIZES, (4, 8, 16, 32, 64), pyramid_grids(height, width)):
        cell = []
        for ratio in RATIOS:
            w = (size**2 / ratio) ** 0.5
            h = ratio * w
            cell.append([-w / 2, -h / 2, w / 2, h / 2])
        cell = torch.tensor(cell)
        y, x = torch.meshgrid(torch.arange(rows) * stride, torch.arange(columns) * stride, indexing="ij")
        shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4).float()
        cells.append(cell)
        anchors.append((shifts + cell).reshape(-1, 4))
    return torch.stack(cells), torch.cat(anchors)


def anchor_cases():
    out = {}
    generator, anchors = torchvision_anchors(64, 96)
    out["anchors_torchvision_64x96.cell_anchors"] = torch.stack(generator.cell_anchors)
    out["anchors_torchvision_64x96.grids"] = torch.tensor(pyramid_grids(64, 96))
    out["anchors_torchvision_64x96.anchors"] = anchors
    # 224 x 320: only P5 and P6 are kept. torchvision's stride is the padded image size floor-divided by the
    # grid, so P6 (4 x 5) steps by 56 rows and 64 columns, not by 64 and 64.
    _, anchors = torchvision_anchors(224, 320)
    kept = sum(rows * columns * len(RATIOS) for rows, columns in pyramid_grids(224, 320)[3:])
    out["anchors_torchvision_224x320.grids"] = torch.tensor(pyramid_grids(224, 320)[3:])
    out["anchors_torchvision_224x320.anchors_p5_p6"] = anchors[-kept:]
    cells, anchors = detectron2_anchors(64, 96)
    out["anchors_detectron2_64x96.cell_anchors"] = cells
    out["anchors_detectron2_64x96.anchors"] = anchors
    return out


def matcher_cases():
    """IoUs in steps of 0.05 (ties, and values exactly on a threshold are common)."""
    out = {}

    def case(name, iou, matcher):
        out[f"{name}.iou"] = iou
        out[f"{name}.matches"] = matcher(iou)

    common.seed(10)
    stepped = (torch.rand(6, 120) ** 2 * 20).round() / 20
    smooth = torch.rand(6, 120) ** 2
    rpn = det_utils.Matcher(0.7, 0.3, allow_low_quality_matches=True)
    roi = det_utils.Matcher(0.5, 0.5, allow_low_quality_matches=False)
    case("matcher_rpn_smooth", smooth, rpn)
    case("matcher_rpn_ties", stepped, rpn)
    case("matcher_roi_smooth", smooth, roi)
    case("matcher_roi_ties", stepped, roi)
    # No IoU reaches 0.3: only the low-quality rule makes matches.
    case("matcher_rpn_all_low", smooth * 0.25, rpn)
    # A ground-truth box without any IoU above 0 has best IoU 0, and every prediction ties with that 0: torchvision
    # then restores the best ground truth of every prediction.
    zero_row = smooth * 0.6
    zero_row[2] = 0
    case("matcher_rpn_zero_row", zero_row, rpn)
    case("matcher_roi_zero_row", zero_row, roi)
    case("matcher_rpn_one_gt", stepped[:1], rpn)
    return out


def sampler_cases():
    out = {}

    def case(name, labels, batch_size, positive_fraction):
        with common.sampling_without_randomness():
            positive, negative = det_utils.BalancedPositiveNegativeSampler(batch_size, positive_fraction)([labels])
        out[f"{name}.labels"] = labels
        out[f"{name}.positive_mask"] = positive[0]
        out[f"{name}.negative_mask"] = negative[0]

    common.seed(20)

    def labels(positives, negatives, ignored, classes=1):
        values = torch.cat(
            [torch.randint(1, classes + 1, (positives,)), torch.zeros(negatives), -torch.ones(ignored)]
        ).long()
        return values[torch.randperm(len(values))]

    case("sampler_many_positives", labels(90, 90, 20), 64, 0.5)
    case("sampler_few_positives", labels(7, 150, 30), 64, 0.5)
    case("sampler_few_negatives", labels(120, 10, 10), 64, 0.5)
    case("sampler_no_positives", labels(0, 100, 10), 64, 0.5)
    case("sampler_quarter_classes", labels(40, 150, 0, classes=5), 50, 0.25)
    return out


def box_coder_cases():
    out = {}
    common.seed(30)
    proposals = common.random_boxes(48, 200, 300)
    reference = common.random_boxes(48, 200, 300)
    deltas = torch.randn(48, 4)
    # Beyond the clip of dw and dh at log(1000 / 16) = 4.135, also after division by the weight 5.
    deltas[:6, 2:] = torch.tensor([[4.2, 1.0], [1.0, 9.0], [30.0, 30.0], [-30.0, -9.0], [20.0, 20.5], [21.0, 4.0]])
    per_class_deltas = torch.randn(48, 4 * 3)
    out["box_coder.proposals"] = proposals
    out["box_coder.reference"] = reference
    out["box_coder.deltas"] = deltas
    out["box_coder.per_class_deltas"] = per_class_deltas
    for name, weights in (("w1", (1.0, 1.0, 1.0, 1.0)), ("w10_10_5_5", (10.0, 10.0, 5.0, 5.0))):
        coder = det_utils.BoxCoder(weights)
        out[f"box_coder.encoded_{name}"] = coder.encode([reference], [proposals])[0]
        out[f"box_coder.decoded_{name}"] = coder.decode(deltas, [proposals])[:, 0]
        out[f"box_coder.per_class_decoded_{name}"] = coder.decode(per_class_deltas, [proposals])
    return out


def nms_cases():
    out = {}
    common.seed(40)
    centres = common.random_boxes(40, 150, 200, smallest=15, largest=70)
    boxes = centres.repeat(8, 1) + torch.randn(320, 4) * 4
    boxes = torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:] - 1), boxes[:, 2:]], dim=1)
    scores = common.distinct(320, 0.01, 0.99)
    out["nms.boxes"], out["nms.scores"] = boxes, scores
    for threshold in (0.3, 0.5, 0.7):
        out[f"nms.kept_{threshold}"] = box_ops.nms(boxes, scores, threshold)
    # Equal scores: the sort is stable, so the lower index comes first.
    tied = (scores * 8).round() / 8
    out["nms_tied.scores"] = tied
    out["nms_tied.kept_0.5"] = box_ops.nms(boxes, tied, 0.5)
    # IoU exactly 0.5 is not above the threshold 0.5: both boxes stay.
    out["nms_exact.boxes"] = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 5.5]])
    out["nms_exact.scores"] = torch.tensor([0.9, 0.8, 0.7])
    out["nms_exact.kept_0.5"] = box_ops.nms(out["nms_exact.boxes"], out["nms_exact.scores"], 0.5)
    groups = torch.randint(0, 5, (320,))
    out["batched_nms.groups"] = groups
    out["batched_nms.kept_0.5"] = box_ops.batched_nms(boxes, scores, groups, 0.5)
    out["batched_nms.kept_0.7"] = box_ops.batched_nms(boxes, scores, groups, 0.7)
    return out


def box_operation_cases():
    out = {}
    common.seed(50)
    first, second = common.random_boxes(20, 100, 120), common.random_boxes(30, 100, 120)
    second[0] = first[0]  # the same box: IoU 1
    second[1] = torch.tensor([500.0, 500, 520, 520])  # disjoint: IoU 0
    out["box_iou.first"], out["box_iou.second"] = first, second
    out["box_iou.iou"] = box_ops.box_iou(first, second)
    boxes = torch.cat([common.random_boxes(20, 200, 200) - 50, torch.tensor([[-30.0, -40, -10, -5], [0, 0, 100, 60]])])
    out["clip_boxes.boxes"] = boxes
    out["clip_boxes.clipped_60x100"] = box_ops.clip_boxes_to_image(boxes, (60, 100))
    small = torch.tensor(
        [[5.0, 5, 9, 9], [5, 5, 5, 9], [5, 5, 5.0005, 9], [5, 5, 5.002, 9], [5, 5, 9, 5.02], [5, 5, 9, 5.005], [9, 9, 5, 5]]
    )
    out["small_boxes.boxes"] = small
    out["small_boxes.kept_0.001"] = box_ops.remove_small_boxes(small, 1e-3)
    out["small_boxes.kept_0.01"] = box_ops.remove_small_boxes(small, 1e-2)
    return out


def level_cases():
    """Boxes at and near the limits 112, 224 and 448 (square root of the area, pixels)."""
    sizes = []
    for limit in (56.0, 112.0, 224.0, 448.0, 896.0):
        sizes += [(limit * f, limit * f) for f in (0.7, 0.999, 1 - 1e-5, 1.0, 1 + 1e-5, 1.001, 1.3)]
        sizes += [(limit / 2, limit * 2), (limit * 4, limit / 4), (limit / 2, limit * 1.99)]
    sizes = torch.tensor(sizes)
    boxes = torch.cat([torch.zeros_like(sizes), sizes], dim=1)
    mapper = LevelMapper(k_min=2, k_max=5, canonical_scale=224, canonical_level=4, eps=1e-6)
    # detectron2 by formula: the epsilon is 1e-8 and is inside the logarithm.
    inside_log = torch.floor(4 + torch.log2(torch.sqrt(box_ops.box_area(boxes)) / 224 + 1e-8)).clamp(2, 5) - 2
    return {
        "levels.boxes": boxes,
        "levels.torchvision": mapper([boxes]),
        "levels.detectron2": inside_log.long(),
    }


def roi_pooler_case():
    """Two images of 224 x 256, four levels of two channels; boxes of every level (some exceed the border)."""
    common.seed(60)
    features = {str(i): torch.randn(2, 2, 224 // s, 256 // s) for i, s in enumerate((4, 8, 16, 32))}
    first = torch.cat([common.random_boxes(6, 224, 256), torch.tensor([[-100.0, -120, 420, 400]])])
    second = torch.cat([common.random_boxes(5, 224, 256, largest=90), torch.tensor([[0.0, 0, 256, 224]])])
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    out = {f"roi_pooler.p{int(i) + 2}": feature for i, feature in features.items()}
    out["roi_pooler.boxes_0"], out["roi_pooler.boxes_1"] = first, second
    out["roi_pooler.output"] = pooler(features, [first, second], [(224, 256)] * 2)
    levels = pooler.map_levels([first, second])
    out["roi_pooler.levels"] = levels
    assert set(levels.tolist()) == {0, 1, 2, 3}
    # detectron2's ROIAlignV2: aligned, adaptive sampling.
    rois = torch.cat(
        [torch.cat([torch.full((len(b), 1), float(i)), b], dim=1) for i, b in enumerate((first, second))]
    )
    aligned = torch.zeros_like(out["roi_pooler.output"])
    for level, feature in enumerate(features.values()):
        at = torch.where(levels == level)[0]
        aligned[at] = roi_align(feature, rois[at], 7, 1 / (4 * 2**level), sampling_ratio=0, aligned=True)
    out["roi_pooler.output_aligned_adaptive"] = aligned
    return out


RPN_GRIDS = ((8, 12), (4, 6), (2, 3))
RPN_ANCHORS_PER_LEVEL = [rows * columns * 3 for rows, columns in RPN_GRIDS]
RPN_IMAGE_SIZES = [(60, 90), (64, 80)]


def tiny_rpn():
    """Strides 8, 16, 32 on a padded input of 64 x 96; anchor sizes 16, 32, 64; three ratios."""
    generator = AnchorGenerator(((16,), (32,), (64,)), (RATIOS,) * 3)
    rpn = RegionProposalNetwork(
        generator,
        head=None,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=64,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 120, "testing": 60},
        post_nms_top_n={"training": 60, "testing": 30},
        nms_thresh=0.7,
    )
    images = ImageList(torch.zeros(2, 3, 64, 96), RPN_IMAGE_SIZES)
    anchors = generator(images, [torch.zeros(2, 1, *grid) for grid in RPN_GRIDS])
    return rpn, anchors


def rpn_proposal_cases():
    common.seed(70)
    rpn, anchors = tiny_rpn()
    count = sum(RPN_ANCHORS_PER_LEVEL)
    objectness = torch.stack([common.distinct(count, -4, 4), common.distinct(count, -3, 5)])
    deltas = torch.randn(2 * count, 4) * torch.tensor([0.3, 0.3, 0.4, 0.4])
    deltas[::50, 2:] = 6.0
    deltas[7::50, 2:] = -14.0  # sides below 1e-3
    proposals = rpn.box_coder.decode(deltas, anchors).view(2, -1, 4)
    out = {
        "rpn_proposals.anchors": anchors[0],
        "rpn_proposals.objectness": objectness,
        "rpn_proposals.deltas": deltas.view(2, -1, 4),
        "rpn_proposals.decoded": proposals,
    }
    for mode in ("training", "testing"):
        rpn.train(mode == "training")
        boxes, scores = rpn.filter_proposals(proposals, objectness, RPN_IMAGE_SIZES, RPN_ANCHORS_PER_LEVEL)
        for image in range(2):
            out[f"rpn_proposals.{mode}_boxes_{image}"] = boxes[image]
            out[f"rpn_proposals.{mode}_scores_{image}"] = scores[image]
    return out


def rpn_loss_cases():
    """Targets on the anchors of `rpn_proposals`."""
    out = {}
    common.seed(80)
    rpn, anchors = tiny_rpn()
    both = [
        torch.tensor([[10.0, 8, 30, 26], [40, 12, 75, 50], [5, 35, 20, 58], [60, 5, 66, 11]]),
        torch.tensor([[20.0, 20, 52, 53]]),
    ]
    for name, gt_boxes in (("rpn_loss_both", both), ("rpn_loss_one_empty", [both[0], torch.zeros(0, 4)])):
        objectness = torch.randn(sum(len(a) for a in anchors), 1, requires_grad=True)
        deltas = (torch.randn(len(objectness), 4) * 0.5).requires_grad_()
        with common.sampling_without_randomness():
            labels, matched = rpn.assign_targets_to_anchors(anchors, [{"boxes": b} for b in gt_boxes])
            targets = rpn.box_coder.encode(matched, anchors)
            positive, negative = rpn.fg_bg_sampler(labels)
            loss_objectness, loss_box = rpn.compute_loss(objectness, deltas, labels, targets)
        positive, negative = torch.cat(positive).bool(), torch.cat(negative).bool()
        out[f"{name}.gt_boxes_0"], out[f"{name}.gt_boxes_1"] = gt_boxes
        out[f"{name}.objectness"] = objectness.view(2, -1)
        out[f"{name}.deltas"] = deltas.view(2, -1, 4)
        out[f"{name}.labels"] = torch.stack(labels).long()
        out[f"{name}.positive_mask"] = positive.view(2, -1)
        out[f"{name}.negative_mask"] = negative.view(2, -1)
        out[f"{name}.positive_targets"] = torch.cat(targets)[positive]
        save_losses(out, f"{name}.torchvision", loss_objectness, loss_box, objectness, deltas)
        # detectron2 by formula: both losses are sums over (batch_size_per_image * images); L1 instead of smooth L1.
        normalizer = rpn.fg_bg_sampler.batch_size_per_image * 2
        sampled = positive | negative
        loss_objectness = F.binary_cross_entropy_with_logits(
            objectness[sampled, 0], torch.cat(labels)[sampled], reduction="sum"
        )
        loss_box = (deltas[positive] - torch.cat(targets)[positive]).abs().sum()
        save_losses(out, f"{name}.detectron2", loss_objectness / normalizer, loss_box / normalizer, objectness, deltas)
    return out


def save_losses(out, prefix, loss_score, loss_box, scores, deltas):
    """The two losses, and the gradient of their sum."""
    scores_grad, deltas_grad = torch.autograd.grad(loss_score + loss_box, [scores, deltas])
    out[f"{prefix}_loss_score"], out[f"{prefix}_loss_box"] = loss_score, loss_box
    out[f"{prefix}_scores_grad"], out[f"{prefix}_deltas_grad"] = scores_grad, deltas_grad


def fast_rcnn_loss_cases():
    out = {}
    common.seed(90)
    for name, labels in (
        ("fast_rcnn_loss_mixed", torch.randint(0, 4, (40,)) * (torch.rand(40) < 0.5)),
        ("fast_rcnn_loss_background", torch.zeros(12, dtype=torch.int64)),
    ):
        count = len(labels)
        logits = torch.randn(count, 4, requires_grad=True)
        deltas = (torch.randn(count, 16) * 0.5).requires_grad_()
        targets = torch.randn(count, 4) * 0.5
        out[f"{name}.labels"], out[f"{name}.regression_targets"] = labels, targets
        out[f"{name}.class_logits"], out[f"{name}.deltas"] = logits, deltas
        loss_class, loss_box = fastrcnn_loss(logits, deltas, [labels], [targets])
        save_losses(out, f"{name}.torchvision", loss_class, loss_box, logits, deltas)
        # detectron2 by formula: L1 over the positives' own class, divided by the number of sampled RoIs. (Its own
        # background is the last class; the label convention here is torchvision's, 0.)
        positive = torch.where(labels > 0)[0]
        own_class = deltas.view(count, 4, 4)[positive, labels[positive]]
        loss_box = (own_class - targets[positive]).abs().sum() / count
        save_losses(out, f"{name}.detectron2", F.cross_entropy(logits, labels), loss_box, logits, deltas)
    return out


def roi_heads(batch_size_per_image):
    return RoIHeads(
        box_roi_pool=None,
        box_head=None,
        box_predictor=None,
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=batch_size_per_image,
        positive_fraction=0.25,
        bbox_reg_weights=None,  # 10, 10, 5, 5
        score_thresh=0.05,
        nms_thresh=0.5,
        detections_per_img=100,
    )


def roi_sample_case():
    """Image 0 has three objects, image 1 has none."""
    common.seed(100)
    gt_boxes = [torch.tensor([[10.0, 8, 50, 46], [60, 12, 115, 80], [5, 55, 30, 88]]), torch.zeros(0, 4)]
    gt_labels = [torch.tensor([3, 1, 2]), torch.zeros(0, dtype=torch.int64)]
    near = gt_boxes[0].repeat(12, 1) + torch.randn(36, 4) * 4
    proposals = [torch.cat([near, common.random_boxes(30, 100, 130)]), common.random_boxes(50, 100, 130)]
    proposals[0] = proposals[0][torch.randperm(len(proposals[0]))]
    out = {}
    for image in range(2):
        out[f"roi_sample.proposals_{image}"] = proposals[image]
        out[f"roi_sample.gt_boxes_{image}"] = gt_boxes[image]
        out[f"roi_sample.gt_labels_{image}"] = gt_labels[image]
    targets = [{"boxes": b, "labels": l} for b, l in zip(gt_boxes, gt_labels)]
    with common.sampling_without_randomness():
        sampled, matched, labels, regression = roi_heads(40).select_training_samples(list(proposals), targets)
    for image in range(2):
        out[f"roi_sample.sampled_boxes_{image}"] = sampled[image]
        out[f"roi_sample.sampled_gt_index_{image}"] = matched[image]
        out[f"roi_sample.sampled_labels_{image}"] = labels[image]
    # Image 1 has no targets: its rows are never read (torchvision computes -inf there).
    out["roi_sample.regression_targets_0"] = regression[0]
    return out


def detection_case():
    """Image 0 has more candidates than 100, image 1 has few, image 2 only background."""
    common.seed(110)
    sizes = [(150, 200), (100, 120), (80, 80)]
    counts = [170, 40, 10]
    proposals = [common.random_boxes(n, *s, smallest=8, largest=60) for n, s in zip(counts, sizes)]
    logits = torch.randn(sum(counts), 4) * 1.5
    logits[170:210, 0] += 2.0
    logits[210:, 0] += 12.0
    deltas = torch.randn(sum(counts), 16)
    boxes, scores, labels = roi_heads(512).postprocess_detections(logits, deltas, proposals, sizes)
    assert len(boxes[0]) == 100 and 0 < len(boxes[1]) < 100 and len(boxes[2]) == 0, [len(b) for b in boxes]
    out = {"detections.class_logits": logits, "detections.deltas": deltas, "detections.image_sizes": torch.tensor(sizes)}
    for image in range(3):
        out[f"detections.proposals_{image}"] = proposals[image]
        out[f"detections.boxes_{image}"] = boxes[image]
        out[f"detections.scores_{image}"] = scores[image]
        out[f"detections.labels_{image}"] = labels[image]
    return out


def main():
    tensors = {}
    for part in (
        anchor_cases,
        matcher_cases,
        sampler_cases,
        box_coder_cases,
        nms_cases,
        box_operation_cases,
        level_cases,
        roi_pooler_case,
        rpn_proposal_cases,
        rpn_loss_cases,
        fast_rcnn_loss_cases,
        roi_sample_case,
        detection_case,
    ):
        tensors.update(part())
    common.save("detection_components.safetensors", tensors)


if __name__ == "__main__":
    main()
