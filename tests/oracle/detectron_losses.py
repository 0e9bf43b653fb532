"""Losses of a training step by the rules of Detectron, which the recipe coco-paper-2x follows.

Run from the repository's root, after faster_rcnn.py:  python tests/oracle/detectron_losses.py
Writes tests/fixtures/detectron_losses.safetensors.

Weights and inputs are those of faster_rcnn.safetensors. torchvision's model is changed where Detectron
(configs/12_2017_baselines/e2e_faster_rcnn_R-50-FPN_2x.yaml, detectron/roi_data/rpn.py, detectron/modeling/FPN.py) differs,
"by formula": anchors that exceed their image are neither positive nor negative, and the best anchor of an object is one of the
others; both losses of the RPN are divided by the sample size times the number of images; the box loss of the second stage is
quadratic up to 1. Anchors are those of detectron/modeling/generate_anchors.py: the sides of an anchor as large as the stride
are whole pixels and are multiplied by size / stride; centers are in the middle of the cells of a grid with strides 4 to 64.
Detectron's corners are the first and the last pixel of a box, here the last corner is one pixel further.

`anchors.cells` [5, 3, 4] are the anchors of the first cell for sizes 32 to 512.
"""

import numpy

import safetensors.torch
import torch
import torch.nn.functional as F
from torchvision.models.detection import roi_heads

import common
from faster_rcnn import build
from tiny_faster_rcnn import train_step

STRIDES = (4, 8, 16, 32, 64)
SIZES = (8, 16, 32, 64, 128)


def cell_anchors(size, stride):
    """The anchors of the first cell, [3, 4]."""
    cell = []
    for ratio in (0.5, 1.0, 2.0):
        width = numpy.round(numpy.sqrt(stride * stride / ratio))
        height = numpy.round(width * ratio)
        width, height = width * size / stride, height * size / stride
        first_and_last = (stride - 1) / 2 + numpy.array([-width + 1, -height + 1, width - 1, height - 1]) / 2
        cell.append(first_and_last + [0, 0, 1, 1])
    return torch.tensor(numpy.array(cell), dtype=torch.float32)


def anchors(images, features):
    """All anchors of an image, and the size of each image for the assignment."""
    out = []
    for size, stride, feature in zip(SIZES, STRIDES, features):
        cell = cell_anchors(size, stride)
        rows, columns = feature.shape[-2:]
        y, x = torch.meshgrid(torch.arange(rows) * stride, torch.arange(columns) * stride, indexing="ij")
        shifts = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        out.append((shifts + cell).reshape(-1, 4))
    anchors.sizes = images.image_sizes
    return [torch.cat(out)] * len(images.image_sizes)


def change(rpn):
    assign = rpn.assign_targets_to_anchors

    def assign_inside(all_anchors, targets):
        labels, boxes = [], []
        for candidates, target, (height, width) in zip(all_anchors, targets, anchors.sizes):
            x1, y1, x2, y2 = candidates.unbind(1)
            inside = (x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height)
            [label], [matched] = assign([candidates[inside]], [target])
            labels.append(torch.full((len(candidates),), -1.0).masked_scatter(inside, label))
            all_matched = torch.zeros(len(candidates), 4)
            all_matched[inside] = matched
            boxes.append(all_matched)
            print("inside", inside.sum().item(), "of", len(candidates), "positive", (label == 1).sum().item())
        return labels, boxes

    def losses(objectness, deltas, labels, targets):
        positive, negative = rpn.fg_bg_sampler(labels)
        positive, negative = (torch.where(torch.cat(part))[0] for part in (positive, negative))
        sampled = torch.cat([positive, negative])
        divisor = rpn.fg_bg_sampler.batch_size_per_image * len(labels)
        labels, targets = torch.cat(labels), torch.cat(targets)
        box = F.smooth_l1_loss(deltas[positive], targets[positive], beta=1 / 9, reduction="sum") / divisor
        score = F.binary_cross_entropy_with_logits(objectness.flatten()[sampled], labels[sampled], reduction="sum")
        return score / divisor, box

    rpn.anchor_generator.forward = anchors
    rpn.assign_targets_to_anchors = assign_inside
    rpn.compute_loss = losses
    # Only empty boxes are dropped.
    rpn.min_size = 1e-30


def box_head_losses(logits, deltas, labels, targets):
    labels, targets = torch.cat(labels), torch.cat(targets)
    positive = torch.where(labels > 0)[0]
    own = deltas.reshape(len(labels), -1, 4)[positive, labels[positive]]
    box = F.smooth_l1_loss(own, targets[positive], beta=1.0, reduction="sum") / len(labels)
    return F.cross_entropy(logits, labels), box


def main():
    common.seed(0)
    fixture = safetensors.torch.load_file(common.FIXTURES / "faster_rcnn.safetensors")
    model = build()
    prefix = "weights."
    model.load_state_dict({k[len(prefix) :]: v for k, v in fixture.items() if k.startswith(prefix)})
    change(model.rpn)
    roi_heads.fastrcnn_loss = box_head_losses
    images = [fixture[f"input.image_{i}"] for i in range(2)]
    out = {"anchors.cells": torch.stack([cell_anchors(4 * size, stride) for size, stride in zip(SIZES, STRIDES)])}
    for batch in ("both", "one_empty"):
        targets = [{key: fixture[f"input.{batch}.{key}_{i}"] for key in ("boxes", "labels")} for i in range(2)]
        losses, _ = train_step(model, images, targets)
        out |= {f"{batch}.{key}": value for key, value in losses.items()}
        print(batch, {key: round(value.item(), 4) for key, value in losses.items()})
    common.save("detectron_losses.safetensors", out)


if __name__ == "__main__":
    main()
