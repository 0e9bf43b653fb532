"""A narrow Faster R-CNN of torchvision with small inputs and small proposal numbers, shared by faster_rcnn.py and
faster_rcnn_v2.py: its options, training steps without randomness, and what the fixtures store of a detection run."""

import torch
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN

import common

WIDTH = 4
FPN_CHANNELS = 16
CLASSES = 4  # background and three
LEVELS = ("0", "1", "2", "3")


def detector(body, norm_layer=None, **options):
    """FasterRCNN over a body of one block per stage; options as in the section of tests/oracle/README.md."""
    backbone = BackboneWithFPN(
        body,
        return_layers={f"layer{i + 1}": level for i, level in enumerate(LEVELS)},
        in_channels_list=[WIDTH * 2**i for i in range(4)],
        out_channels=FPN_CHANNELS,
        norm_layer=norm_layer,
    )
    return FasterRCNN(
        backbone,
        min_size=64,
        max_size=100,
        rpn_anchor_generator=AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=80,
        rpn_post_nms_top_n_train=60,
        rpn_pre_nms_top_n_test=40,
        rpn_post_nms_top_n_test=24,
        rpn_batch_size_per_image=64,
        box_batch_size_per_image=32,
        **options,
    )


def train_step(model, images, targets):
    model.train()
    model.zero_grad()
    with common.sampling_without_randomness():
        losses = model(images, [dict(t) for t in targets])
    sum(losses.values()).backward()
    return losses, {name: p.grad.clone() for name, p in model.named_parameters()}


def detect(model, images):
    model.eval()
    with torch.no_grad(), common.recorded_outputs(
        {"transform": model.transform, "fpn": model.backbone, "head": model.rpn.head, "rpn": model.rpn}
    ) as seen:
        return model(images), seen


def as_double(images, targets):
    return [i.double() for i in images], [{"boxes": t["boxes"].double(), "labels": t["labels"]} for t in targets]


def check_no_ties(model, seen, detections):
    """Per level the logits around the top-k limits, and the scores of the detections, are apart."""
    logits, _ = seen["head"]
    limits = {model.rpn._pre_nms_top_n["training"], model.rpn._pre_nms_top_n["testing"]}
    for level in logits:
        for image in level.flatten(1):
            ordered = image.sort(descending=True).values[: max(limits) + 1]
            assert ordered.diff().abs().min() > 1e-4, "objectness logits tie"
    for image in detections:
        assert image["scores"].diff().abs().min() > 5e-5, "detection scores tie"
        assert 10 <= len(image["scores"]) <= 80, len(image["scores"])


def head_outputs(seen):
    """Outputs of FPN and RPN head in a detection run, by the name in the fixtures."""
    out = {}
    for level, feature in seen["fpn"].items():
        # Four channels of the largest level, to keep the file small; the objectness of that level sees them all.
        out[f"fpn_{level}"] = feature[:, :4] if level == "0" else feature
    logits, deltas = seen["head"]
    for level, (logit, delta) in enumerate(zip(logits, deltas)):
        out[f"objectness_{level}"] = logit
        if level > 0:  # the largest level would double the size of the file
            out[f"rpn_deltas_{level}"] = delta
    return out
