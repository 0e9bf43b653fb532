"""Losses and gradients of detectors on the small backbones, of torchvision's Faster R-CNN.

Run from the repository's root:  python tests/oracle/zoo_detectors.py
Needs torch, torchvision and timm as in requirements.txt. Writes tests/fixtures/zoo_detectors.safetensors.

The networks, the layers that C2..C5 are taken from, and the weights derived from sedet's names are those of zoo.py;
proposals and samples are few, as in faster_rcnn.py, and the sampler takes the first candidates in index order. Norms are
frozen. Stored for each family with SE units: the four losses, and for each gradient its norm and its product with a
vector of numbers between -1 and 1. The image is chosen so that float64, and weights that differ by a few roundings,
lead to the same losses: no decision is close to a tie.
"""

import copy
import re
from collections import OrderedDict

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

import common
from zoo import aligned, fill, narrow_networks, numbers, pyramid, taps

FPN_CHANNELS = 6
CLASSES = 4  # background and three
SIZE = (75, 103)
TARGET = {"boxes": torch.tensor([[10.0, 12, 60, 70], [30, 5, 95, 40]]), "labels": torch.tensor([2, 1])}


class Pyramid(nn.Module):
    """The feature maps P2..P6 of a network."""

    out_channels = FPN_CHANNELS

    def __init__(self, family, network):
        super().__init__()
        self.family, self.network = family, network
        with torch.no_grad():
            channels = [level.shape[1] for level in self.levels(torch.zeros(1, 3, *SIZE)).values()]
        self.fpn = pyramid(channels)

    def levels(self, x):
        modules = {str(n): module for n, module in enumerate(taps(self.family, self.network))}
        with common.recorded_outputs(modules) as seen:
            self.network.features(x)
        return OrderedDict((key, seen[key]) for key in modules)

    def forward(self, x):
        return self.fpn(self.levels(x))


def build(family, network):
    network.eval()
    return FasterRCNN(
        Pyramid(family, network),
        min_size=min(SIZE),
        max_size=max(SIZE),
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=80,
        rpn_post_nms_top_n_train=60,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(("0", "1", "2", "3"), output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(FPN_CHANNELS * 7 * 7, 32),
        box_predictor=FastRCNNPredictor(32, CLASSES),
        box_batch_size_per_image=32,
    )


def names(ours):
    """sedet's name of a tensor of the detector."""

    def name(key):
        if key.startswith("backbone.network."):
            return ours(key.removeprefix("backbone.network."))
        key = re.sub(r"^backbone\.fpn\.(\w+)_blocks\.(\d)\.0\.", r"fpn.\1_blocks.\2.", key)
        key = key.replace("rpn.head.conv.0.0.", "rpn.conv.").replace("rpn.head.", "rpn.")
        return re.sub(r"^roi_heads\.box_(head|predictor)\.", "box_head.", key)

    return name


def step(model, image):
    """Losses and gradients with frozen norms; parameters of norms have none in sedet."""
    model.train()
    model.backbone.network.eval()
    model.zero_grad()
    targets = [{"boxes": TARGET["boxes"].to(image), "labels": TARGET["labels"]}]
    with common.sampling_without_randomness():
        losses = model([image], targets)
    sum(losses.values()).backward()
    gradients = {key: p.grad.double().flatten() for key, p in model.named_parameters() if p.grad is not None}
    return {key: loss.item() for key, loss in losses.items()}, gradients


def difference(one, other):
    """The largest difference of two steps, relative to the loss and to the largest gradient of all."""
    (losses, gradients), (others, other_gradients) = one, other
    worst = max(abs(losses[key] - others[key]) / abs(others[key]) for key in losses)
    scale = max(g.norm() for g in other_gradients.values())
    return max(worst, *((gradients[key] - g).norm().item() / scale for key, g in other_gradients.items()))


def is_stable(model, image):
    found = step(model, image)
    double = copy.deepcopy(model).double()
    if difference(found, step(double, image.double())) > 1e-4:
        return False
    for _ in range(4):
        nudged = copy.deepcopy(double)
        with torch.no_grad():
            for parameter in nudged.parameters():
                parameter.mul_(1 + 1e-6 * torch.randn_like(parameter))
        if difference(found, step(nudged, image.double())) > 5e-4:
            return False
    return True


def main():
    torch.set_num_threads(1)
    common.seed(3)
    out = {}
    for family, network, ours, _ in narrow_networks(True):
        if family == "inception_resnet_v2":
            aligned(network)
        model = build(family, network)
        name = names(ours)
        fill(model, name)
        for attempt in range(40):
            image = numbers(f"image{attempt}", (3, *SIZE), -1, 1)
            if is_stable(model, image):
                break
        else:
            raise SystemExit(f"{family}: no stable image")
        losses, gradients = step(model, image)
        print(family, attempt, {key: round(value, 4) for key, value in losses.items()})
        out[f"{family}.image"] = torch.tensor([attempt])
        for key, value in losses.items():
            assert value > 1e-3, (family, key)
            out[f"{family}.{key}"] = torch.tensor([value])
        for key, gradient in gradients.items():
            direction = numbers(name(key) + "#", gradient.shape, -1, 1).double()
            out[f"{family}.grad.{name(key)}"] = torch.stack([gradient.norm(), gradient @ direction]).float()
    common.save("zoo_detectors.safetensors", out)


if __name__ == "__main__":
    main()
