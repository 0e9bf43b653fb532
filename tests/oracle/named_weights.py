"""The named weights: what torchvision and timm state about them, and the names and shapes of their tensors.

Run from the repository's root:  python tests/oracle/named_weights.py
Writes tests/fixtures/named_weights.json.gz. Nothing is downloaded and no weight is computed: the networks are built
without memory for their parameters.

torchvision's published detector has the names of before 0.13, which its own loading code converts. detectron2 is not on
the package index, so its names are written here from its published sources ("by formula"), with the shapes of
torchvision's backbones.
"""

import gzip
import json
import math

import timm
import torch
import torchvision
from torchvision import models
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_V2_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
    fasterrcnn_resnet50_fpn,
    fasterrcnn_resnet50_fpn_v2,
)

import common

TORCHVISION = {
    "resnet18-imagenet-v1": (models.resnet18, models.ResNet18_Weights.IMAGENET1K_V1),
    "resnet34-imagenet-v1": (models.resnet34, models.ResNet34_Weights.IMAGENET1K_V1),
    "resnet50-imagenet-v1": (models.resnet50, models.ResNet50_Weights.IMAGENET1K_V1),
    "resnet50-imagenet-v2": (models.resnet50, models.ResNet50_Weights.IMAGENET1K_V2),
    "resnet101-imagenet-v1": (models.resnet101, models.ResNet101_Weights.IMAGENET1K_V1),
    "resnet101-imagenet-v2": (models.resnet101, models.ResNet101_Weights.IMAGENET1K_V2),
    "resnet152-imagenet-v1": (models.resnet152, models.ResNet152_Weights.IMAGENET1K_V1),
    "resnet152-imagenet-v2": (models.resnet152, models.ResNet152_Weights.IMAGENET1K_V2),
    "resnext50-32x4d-imagenet-v1": (models.resnext50_32x4d, models.ResNeXt50_32X4D_Weights.IMAGENET1K_V1),
    "resnext50-32x4d-imagenet-v2": (models.resnext50_32x4d, models.ResNeXt50_32X4D_Weights.IMAGENET1K_V2),
    "resnext101-32x8d-imagenet-v1": (models.resnext101_32x8d, models.ResNeXt101_32X8D_Weights.IMAGENET1K_V1),
    "resnext101-32x8d-imagenet-v2": (models.resnext101_32x8d, models.ResNeXt101_32X8D_Weights.IMAGENET1K_V2),
    "resnext101-64x4d-imagenet-v1": (models.resnext101_64x4d, models.ResNeXt101_64X4D_Weights.IMAGENET1K_V1),
}

TIMM = [
    "seresnet50.a1_in1k",
    "seresnet50.a2_in1k",
    "seresnet50.a3_in1k",
    "seresnet50.ra2_in1k",
    "seresnet152d.ra2_in1k",
    "seresnext26d_32x4d.bt_in1k",
    "seresnext26t_32x4d.bt_in1k",
    "seresnext50_32x4d.gluon_in1k",
    "seresnext50_32x4d.racm_in1k",
    "seresnext101_32x4d.gluon_in1k",
    "seresnext101_32x8d.ah_in1k",
    "seresnext101_64x4d.gluon_in1k",
    "seresnext101d_32x8d.ah_in1k",
    "seresnextaa101d_32x8d.ah_in1k",
    "legacy_seresnet18.in1k",
    "legacy_seresnet34.in1k",
    "legacy_seresnet50.in1k",
    "legacy_seresnet101.in1k",
    "legacy_seresnet152.in1k",
    "legacy_seresnext26_32x4d.in1k",
    "legacy_seresnext50_32x4d.in1k",
    "legacy_seresnext101_32x4d.in1k",
    "legacy_senet154.in1k",
]

DETECTRON2 = {
    "detectron2-r50-fpn-1x": models.resnet50,
    "detectron2-r50-fpn-3x": models.resnet50,
    "detectron2-r101-fpn-3x": models.resnet101,
    "detectron2-x101-fpn-3x": models.resnext101_32x8d,
}
COCO_CLASSES = 80


def shapes(build):
    """Names and shapes of a state dict, without memory for its values."""
    with torch.device("meta"):
        network = build()
    return [(name, list(tensor.shape)) for name, tensor in network.state_dict().items()]


def before_0_13(name):
    for block in ("inner_blocks", "layer_blocks"):
        for level in range(4):
            name = name.replace(f"fpn.{block}.{level}.0.", f"fpn.{block}.{level}.")
    return name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")


def detectron2(build):
    tensors = []
    for name, shape in shapes(build):
        if name.endswith("num_batches_tracked") or name.startswith("fc."):
            continue
        parts = name.split(".")
        parts[-1:-1] = ["norm"] if parts[-2].startswith("bn") or parts[-3:-1] == ["downsample", "1"] else []
        plain = ".".join(parts)
        plain = plain.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut").replace("bn", "conv")
        stage = parts[0].removeprefix("layer")
        plain = f"res{int(stage) + 1}.{plain.split('.', 1)[1]}" if stage != parts[0] else f"stem.{plain}"
        tensors.append((f"backbone.bottom_up.{plain}", shape))
    for level, channels in zip(range(2, 6), (256, 512, 1024, 2048)):
        for layer, kernel, inputs in (("lateral", 1, channels), ("output", 3, 256)):
            tensors.append((f"backbone.fpn_{layer}{level}.weight", [256, inputs, kernel, kernel]))
            tensors.append((f"backbone.fpn_{layer}{level}.bias", [256]))
    rpn = "proposal_generator.rpn_head"
    box = "roi_heads.box"
    for layer, shape in (
        (f"{rpn}.conv", [256, 256, 3, 3]),
        (f"{rpn}.objectness_logits", [3, 256, 1, 1]),
        (f"{rpn}.anchor_deltas", [12, 256, 1, 1]),
        (f"{box}_head.fc1", [1024, 256 * 7 * 7]),
        (f"{box}_head.fc2", [1024, 1024]),
        (f"{box}_predictor.cls_score", [COCO_CLASSES + 1, 1024]),
        (f"{box}_predictor.bbox_pred", [4 * COCO_CLASSES, 1024]),
    ):
        tensors += [(f"{layer}.weight", shape), (f"{layer}.bias", shape[:1])]
    return tensors


def main():
    weights = {}
    for name, builder, published, rename in (
        ("fasterrcnn-resnet50-fpn-coco", fasterrcnn_resnet50_fpn, FasterRCNN_ResNet50_FPN_Weights.COCO_V1, before_0_13),
        ("fasterrcnn-resnet50-fpn-v2-coco", fasterrcnn_resnet50_fpn_v2, FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1, str),
    ):
        build = lambda builder=builder: builder(weights=None, weights_backbone=None)
        weights[name] = {
            "url": published.url,
            "mebibytes": published.meta["_file_size"],
            "box_ap": published.meta["_metrics"]["COCO-val2017"]["box_map"],
            "tensors": [(rename(tensor), shape) for tensor, shape in shapes(build)],
        }
    for name, build in DETECTRON2.items():
        weights[name] = {"tensors": detectron2(build)}
    for name, (build, published) in TORCHVISION.items():
        metrics = published.meta["_metrics"]["ImageNet-1K"]
        transforms = published.transforms()
        weights[name] = {
            "url": published.url,
            "mebibytes": published.meta["_file_size"],
            "top1": metrics["acc@1"],
            "top5": metrics["acc@5"],
            "resize": transforms.resize_size[0],
            "crop": transforms.crop_size[0],
            "interpolation": transforms.interpolation.value,
            "mean": transforms.mean,
            "std": transforms.std,
            "tensors": shapes(build),
        }
    for timm_name in TIMM:
        name = timm_name.removesuffix(".in1k").removesuffix("_in1k").replace("_", "-").replace(".", "-")
        config = timm.get_pretrained_cfg(timm_name)
        size = (config.test_input_size or config.input_size)[-1]
        crop_share = config.test_crop_pct or config.crop_pct
        weights[name] = {
            "url": config.url,
            "hub": config.hf_hub_id,
            "license": config.license,
            "resize": math.floor(size / crop_share),
            "crop": size,
            "interpolation": config.interpolation,
            "mean": config.mean,
            "std": config.std,
            "tensors": shapes(lambda: timm.create_model(timm_name.split(".")[0])),
        }
    made_with = f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}"
    text = json.dumps({"made_with": made_with, "weights": weights}, separators=(",", ":"))
    path = common.FIXTURES / "named_weights.json.gz"
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{path.name}: {len(weights)} files, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
