"""Reference numbers for the layers of torchvision's `fasterrcnn_resnet50_fpn_v2`, and for losses on IoU.

Run from the repository's root, after faster_rcnn.py:  python tests/oracle/faster_rcnn_v2.py
Needs torch, torchvision and timm as in requirements.txt. Writes tests/fixtures/faster_rcnn_v2.safetensors and
tests/fixtures/box_losses.safetensors.

The detector is torchvision's FasterRCNN over the narrow ResNet of tiny_faster_rcnn.py with live batch norm, an FPN with
batch norm, an RPN head of two convolutions and a FastRCNNConvFCHead with batch norm; its inputs are those of
faster_rcnn.safetensors. One training step (SGD) is taken: losses, gradients, statistics of the norms after the
forward pass, and losses after the step. Only the detections use the running statistics.

A network is taken whose decisions do not depend on rounding: in float64, and with weights that differ by a few
roundings, it has the same samples and detections.
"""

import copy

import safetensors.torch
import torch
from torch import nn
from torchvision.models import resnet as torchvision_resnet
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import complete_box_iou_loss, generalized_box_iou_loss

import common
from tiny_faster_rcnn import (
    CLASSES,
    FPN_CHANNELS,
    WIDTH,
    as_double,
    check_no_ties,
    detect,
    detector,
    head_outputs,
    train_step,
)
from tiny_resnet import TinyResNet, randomise

RATE, MOMENTUM, DECAY = 0.02, 0.9, 1e-4


def build():
    body = TinyResNet(torchvision_resnet.BasicBlock, WIDTH, norm_layer=nn.BatchNorm2d)
    return detector(
        body,
        norm_layer=nn.BatchNorm2d,
        rpn_head=RPNHead(FPN_CHANNELS, 3, conv_depth=2),
        box_head=FastRCNNConvFCHead((FPN_CHANNELS, 7, 7), [16, 12, 12, 8], [32], norm_layer=nn.BatchNorm2d),
        box_predictor=FastRCNNPredictor(32, CLASSES),
    )


def initialise(model):
    """Weights of sizes that spread the scores and move the boxes; statistics far from the identity."""
    randomise(model.backbone.body)
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.startswith("backbone.body"):
                continue
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.6, 1.4)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2.0)
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                if module.bias is not None:
                    module.bias.normal_(0, 0.1)
        for module, scale in (
            (model.rpn.head.cls_logits, 0.6),
            (model.rpn.head.bbox_pred, 0.25),
            (model.roi_heads.box_predictor.cls_score, 1.5),
            (model.roi_heads.box_predictor.bbox_pred, 1.0),
        ):
            for parameter in module.parameters():
                parameter.mul_(scale)


def statistics(model):
    return {key: value.clone() for key, value in model.state_dict().items() if "running" in key}


def step(model, images, targets):
    """Losses and gradients of a step, the statistics after its forward pass, and the losses after it."""
    model = copy.deepcopy(model)
    losses, gradients = train_step(model, images, targets)
    after = statistics(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    optimizer.step()
    second, _ = train_step(model, images, targets)
    return losses, gradients, after, second


def agree(a, b, images, batches, limit):
    """Whether two networks that should differ by rounding take the same decisions."""
    doubled = (lambda model, i, t: (i, t) if next(model.parameters()).dtype == torch.float32 else as_double(i, t))
    for targets in batches.values():
        these, those = (step(model, *doubled(model, images, targets)) for model in (a, b))
        for first, second in zip(these, those):
            for key in first:
                scale = max(second[key].abs().max().item(), 1e-9)
                if (first[key] - second[key]).abs().max().item() > limit * scale:
                    return False
    these, those = (detect(copy.deepcopy(model), doubled(model, images, [])[0])[0] for model in (a, b))
    for one, other in zip(these, those):
        if not torch.equal(one["labels"], other["labels"]):
            return False
        if (one["boxes"] - other["boxes"]).abs().max() > 1e-3 or (one["scores"] - other["scores"]).abs().max() > 1e-5:
            return False
    return True


def is_stable(model, images, batches):
    detections, seen = detect(copy.deepcopy(model), images)
    try:
        check_no_ties(model, seen, detections)
    except AssertionError:
        return False
    if not agree(model, copy.deepcopy(model).double(), images, batches, 3e-4):
        return False
    for _ in range(2):
        nudged = copy.deepcopy(model).double()
        with torch.no_grad():
            for parameter in nudged.parameters():
                parameter.mul_(1 + 1e-6 * torch.randn_like(parameter))
        if not agree(model, nudged, images, batches, 1e-3):
            return False
    return True


def detector_case():
    v1 = safetensors.torch.load_file(common.FIXTURES / "faster_rcnn.safetensors")
    images = [v1[f"input.image_{i}"] for i in range(2)]
    batches = {
        batch: [{key: v1[f"input.{batch}.{key}_{i}"] for key in ("boxes", "labels")} for i in range(2)]
        for batch in ("both", "one_empty")
    }
    for number in range(1, 2000):
        common.seed(number)
        model = build()
        initialise(model)
        if is_stable(model, images, batches):
            break
    else:
        raise SystemExit("no seed gives a stable network")
    out = {f"weights.{key}": value for key, value in model.state_dict().items()}
    for batch, targets in batches.items():
        losses, gradients, after, second = step(model, images, targets)
        out |= {f"{batch}.{key}": value for key, value in losses.items()}
        out |= {f"{batch}.second.{key}": value for key, value in second.items()}
        if batch == "both":
            out |= {f"{batch}.grad.{key}": value for key, value in gradients.items()}
            out |= {f"{batch}.after.{key}": value for key, value in after.items()}
        print(batch, {key: round(value.item(), 4) for key, value in losses.items()})
    detections, seen = detect(copy.deepcopy(model), images)
    out |= head_outputs(seen)
    for image, found in enumerate(detections):
        out |= {f"detections_{image}.{key}": found[key] for key in ("boxes", "labels", "scores")}
    print("seed", number, [len(found["scores"]) for found in detections], "detections")
    common.save("faster_rcnn_v2.safetensors", out)


def box_loss_cases():
    """Sums over boxes of torchvision's losses on IoU, of boxes decoded with both coders, and their gradients. The
    deltas move boxes far enough that some do not touch their ground truth, and some are clamped."""
    common.seed(31)
    count = 40
    references = common.random_boxes(count, 300, 400, smallest=6, largest=180)
    truth = references + torch.randn(count, 4) * 6
    truth = torch.cat([torch.minimum(truth[:, :2], truth[:, 2:] - 1), truth[:, 2:]], 1)
    truth[5:10] = truth[5:10].roll(1, 0)
    out = {"references": references, "ground_truth": truth}
    deltas = torch.randn(count, 4) * 0.4
    deltas[0, 2:] = torch.tensor([4.5, 0.1])
    out["deltas"] = deltas
    for coder, weights in (("rpn", (1.0, 1.0, 1.0, 1.0)), ("roi", (10.0, 10.0, 5.0, 5.0))):
        given = deltas * torch.tensor(weights)
        for name, loss_of in (("giou", generalized_box_iou_loss), ("ciou", complete_box_iou_loss)):
            learned = given.clone().requires_grad_()
            boxes = BoxCoder(weights).decode_single(learned, references)
            loss = loss_of(boxes, truth, reduction="sum")
            loss.backward()
            key = f"{coder}_{name}"
            out[f"{key}.loss"], out[f"{key}.grad"] = loss, learned.grad
            each = loss_of(boxes, truth)
            print(key, loss.item(), "disjoint", (each > 1).sum().item())
    common.save("box_losses.safetensors", out)


if __name__ == "__main__":
    box_loss_cases()
    detector_case()
