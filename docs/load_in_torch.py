"""Loads a detector of sedet on a ResNet or SE-ResNet into PyTorch.

    python load_in_torch.py best.safetensors photo.png
    python load_in_torch.py best.safetensors photo.png --compare predictions.json

The file is a checkpoint, or what `sedet weights export --format safetensors` writes. torchvision has no class for an
SE-ResNet with a feature pyramid: the blocks are written here, everything else is torchvision's. Of the presets, only
`torchvision` can be built from its parts. `--compare` reads the output of `sedet predict --output DIR --score 0`.

Needs torch, torchvision and safetensors.
"""

import argparse
import json
from collections import OrderedDict

import torch
from safetensors import safe_open
from torch import nn
from torchvision.io import ImageReadMode, decode_image
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.misc import FrozenBatchNorm2d


class SqueezeExcitation(nn.Module):
    """Gates for the channels of a feature map (Hu et al., equations 2 to 4)."""

    def __init__(self, channels, hidden, factor):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.factor = factor

    def forward(self, x):
        gates = self.factor * self.fc2(self.fc1(x.mean((2, 3))).relu()).sigmoid()
        return x * gates[:, :, None, None]


class Downsample(nn.Module):
    def __init__(self, conv, norm):
        super().__init__()
        self.conv, self.norm = conv, norm


class Block(nn.Module):
    """A residual block; its layers are those that the file has tensors of."""

    def __init__(self, at, tensors, stride, strided, network):
        super().__init__()
        epsilon = network["norm"]["epsilon"]
        count = sum(f"{at}.convs.{n}.weight" in tensors for n in range(3))
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        channels = tensors[f"{at}.convs.0.weight"].shape[1]
        for n in range(count):
            weight = tensors[f"{at}.convs.{n}.weight"]
            self.convs.append(conv(channels, weight, stride if n == strided else 1))
            channels = len(weight)
            self.norms.append(FrozenBatchNorm2d(channels, epsilon))
        self.se = self.downsample = None
        if f"{at}.se.fc1.weight" in tensors:
            # Units that were added to a trained network begin with gates of 1.
            factor = 2 if network["se"].get("start") == "identity" else 1
            # sedet stores the weight of a linear layer as [in, out].
            self.se = SqueezeExcitation(*tensors[f"{at}.se.fc1.weight"].shape, factor)
        if f"{at}.downsample.conv.weight" in tensors:
            weight = tensors[f"{at}.downsample.conv.weight"]
            norm = FrozenBatchNorm2d(len(weight), epsilon)
            self.downsample = Downsample(conv(weight.shape[1], weight, stride), norm)

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample.norm(self.downsample.conv(x))
        for n, (layer, norm) in enumerate(zip(self.convs, self.norms)):
            x = norm(layer(x))
            if n + 1 < len(self.convs):
                x = x.relu()
        if self.se is not None:
            x = self.se(x)
        return (x + shortcut).relu()


def conv(channels, weight, stride):
    out, per_group, side, _ = weight.shape
    return nn.Conv2d(channels, out, side, stride, side // 2, groups=channels // per_group, bias=False)


class Backbone(nn.Module):
    """C2..C5 of a ResNet, then the feature pyramid."""

    def __init__(self, config, tensors):
        super().__init__()
        network = config["backbone"]
        stem = tensors["backbone.conv1.weight"]
        self.conv1 = conv(3, stem, 2)
        self.bn1 = FrozenBatchNorm2d(len(stem), network["norm"]["epsilon"])
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        is_basic = network["block"] == "basic"
        strided = 0 if is_basic or network.get("stride_place", "conv3x3") == "conv1x1" else 1
        self.stages = []
        for stage, count in enumerate(network["layers"], 1):
            blocks = [
                Block(f"backbone.layer{stage}.{n}", tensors, 2 if stage > 1 and n == 0 else 1, strided, network)
                for n in range(count)
            ]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            self.stages.append(f"layer{stage}")
        self.out_channels = config["fpn"]["channels"]
        channels = [tensors[f"fpn.inner_blocks.{n}.weight"].shape[1] for n in range(4)]
        self.fpn = FeaturePyramidNetwork(channels, self.out_channels, LastLevelMaxPool())

    def forward(self, x):
        x = self.pool(self.bn1(self.conv1(x)).relu())
        maps = OrderedDict()
        for level, stage in enumerate(self.stages):
            maps[str(level)] = x = getattr(self, stage)(x)
        return self.fpn(maps)


def check(description):
    """Raises an error for what torchvision's parts do not compute."""
    model = description["model"]
    backbone, heads, rpn = (model.get(key) or {} for key in ("backbone", "roi_heads", "rpn"))
    se, pooler, anchors = backbone.get("se") or {}, heads.get("pooler", {}), model.get("anchors", {})
    published = {"squeeze": "avg", "gate": "sigmoid", "position": "standard", "after_relu": False, "bias": True}
    problems = {
        "not a detector": description["task"] != "detection",
        "not a ResNet": backbone.get("family", "resnet") != "resnet",
        "another stem than one 7x7 convolution": backbone.get("stem", {}).get("kind", "conv7x7") != "conv7x7",
        "another pooling of the stem": backbone.get("stem_pooling", "padded") != "padded",
        "other shortcuts than 1x1 convolutions": backbone.get("shortcut", "conv1x1") != "conv1x1",
        "an anti-aliased network": backbone.get("anti_alias") is not None,
        "a variant of the SE unit": any(se.get(key, value) != value for key, value in published.items()),
        "the layers of fasterrcnn_resnet50_fpn_v2": model.get("fpn", {}).get("norm")
        or rpn.get("convolutions", 1) != 1
        or heads.get("box_head"),
        "not the anchors of torchvision": not anchors.get("rounded", True)
        or anchors.get("strides")
        or anchors.get("quantized")
        or anchors.get("offset"),
        "not the pooling of torchvision": pooler.get("aligned", False)
        or "on_level" not in pooler.get("level_epsilon", {"on_level": 1e-6}),
        "another smallest side of boxes": abs(rpn.get("min_side", 1e-3) - 1e-3) > 1e-6
        or abs(heads.get("min_side", 1e-2) - 1e-2) > 1e-6,
        "another resize method": description["preprocess"]["resize_method"] != "torchvision",
    }
    for problem, applies in problems.items():
        if applies:
            raise SystemExit(f"this script does not load the network: {problem}; export it with --format onnx")


def torchvision_name(name):
    """Returns torchvision's name of a tensor of sedet."""
    for prefix, renamed in [
        ("fpn.inner_blocks.", "backbone.fpn.inner_blocks."),
        ("fpn.layer_blocks.", "backbone.fpn.layer_blocks."),
    ]:
        if name.startswith(prefix):
            level, tensor = name.removeprefix(prefix).split(".")
            return f"{renamed}{level}.0.{tensor}"
    for prefix, renamed in [
        ("rpn.conv.", "rpn.head.conv.0.0."),
        ("rpn.", "rpn.head."),
        ("box_head.fc", "roi_heads.box_head.fc"),
        ("box_head.", "roi_heads.box_predictor."),
    ]:
        if name.startswith(prefix):
            return renamed + name.removeprefix(prefix)
    return name


def load(path):
    """Returns the detector in evaluation mode and its categories, a list of {"id", "name"}."""
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["sedet"])
        # Checkpoints to resume from also have the state of the optimizer and EMA weights.
        tensors = {name: file.get_tensor(name).float() for name in file.keys() if "/" not in name}
    check(description)
    config, preprocess = description["model"], description["preprocess"]
    anchors, rpn, heads = config["anchors"], config["rpn"], config["roi_heads"]
    pooler = heads["pooler"]
    # torchvision's images are from 0 to 1.
    factor = 255 * preprocess["scale"]
    mean, std = ([value / factor for value in preprocess[key]] for key in ("mean", "std"))
    if preprocess["channel_order"] == "bgr":
        mean, std = mean[::-1], std[::-1]
        tensors["backbone.conv1.weight"] = tensors["backbone.conv1.weight"].flip(1)
    backbone = Backbone(config, tensors)
    size = pooler["output_size"]
    model = FasterRCNN(
        backbone,
        min_size=preprocess["min_size"],
        max_size=preprocess["max_size"],
        image_mean=mean,
        image_std=std,
        size_divisible=preprocess["size_divisor"],
        rpn_anchor_generator=AnchorGenerator(
            tuple((side,) for side in anchors["sizes"]), (tuple(anchors["aspect_ratios"]),) * 5
        ),
        rpn_pre_nms_top_n_test=rpn["test_limits"]["pre_nms"],
        rpn_post_nms_top_n_test=rpn["test_limits"]["post_nms"],
        rpn_nms_thresh=rpn["nms_threshold"],
        box_roi_pool=MultiScaleRoIAlign(
            ["0", "1", "2", "3"],
            size,
            pooler["sampling_ratio"],
            canonical_scale=pooler["canonical_scale"],
            canonical_level=pooler["canonical_level"],
        ),
        box_head=TwoMLPHead(backbone.out_channels * size * size, heads["representation_size"]),
        box_predictor=FastRCNNPredictor(heads["representation_size"], config["num_classes"] + 1),
        box_score_thresh=heads["score_threshold"],
        box_nms_thresh=heads["nms_threshold"],
        box_detections_per_img=heads["max_detections"],
    )
    state = {torchvision_name(name): tensor.T if tensor.dim() == 2 else tensor for name, tensor in tensors.items()}
    model.load_state_dict(state, strict=True)
    return model.eval(), description["categories"]


def detect(model, categories, image):
    """Returns detections of an image [3, height, width] of 8 bits as rows of COCO results."""
    with torch.no_grad():
        (found,) = model([image.float() / 255])
    rows = []
    for (x1, y1, x2, y2), label, score in zip(*(found[key].tolist() for key in ("boxes", "labels", "scores"))):
        category = categories[label - 1]
        bbox = [x1, y1, x2 - x1, y2 - y1]
        rows.append({"category_id": category["id"], "name": category["name"], "bbox": bbox, "score": score})
    return rows


def largest_difference(rows, others):
    """Returns the largest difference of two lists of detections in pixels; an error if they do not correspond."""
    if len(rows) != len(others):
        raise SystemExit(f"{len(rows)} detections here, {len(others)} in the file")
    worst = 0.0
    for row, other in zip(rows, others):
        if row["category_id"] != other["category_id"]:
            raise SystemExit(f"class {row['category_id']} here, {other['category_id']} in the file")
        worst = max(worst, *(abs(a - b) for a, b in zip(row["bbox"], other["bbox"])))
    return worst


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("image")
    parser.add_argument("--compare", help="predictions.json of `sedet predict --score 0` for this image")
    arguments = parser.parse_args()
    model, categories = load(arguments.checkpoint)
    rows = detect(model, categories, decode_image(arguments.image, ImageReadMode.RGB))
    for row in rows:
        box = ", ".join(f"{value:.1f}" for value in row["bbox"])
        print(f"{row['name']:<24} {row['score']:.3f}  {box}")
    if arguments.compare:
        with open(arguments.compare) as file:
            worst = largest_difference(rows, json.load(file))
        print(f"{len(rows)} detections as in {arguments.compare}, boxes within {worst:.4f} px")


if __name__ == "__main__":
    main()
