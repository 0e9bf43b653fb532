"""The layouts at full size: real timm and torchvision networks with random weights, and their outputs.

Run from the repository's root, then compare with sedet:

    python tests/oracle/layouts_full.py DIR
    SEDET_FULL_LAYOUTS=DIR cargo test --release --test networks full_layouts -- --ignored

Writes about 1.9 GB to DIR: a weights file for each network, and outputs.safetensors with logits for an input of
3x203x317 pixels (odd sizes reveal padding and pooling mistakes) and the detections of an image.
"""

import argparse
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import nn
from torchvision import models

import common

CLASSIFIERS = {
    "timm_seresnet50": lambda: timm.create_model("seresnet50"),
    "timm_seresnext50_32x4d": lambda: timm.create_model("seresnext50_32x4d"),
    "timm_seresnet152d": lambda: timm.create_model("seresnet152d"),
    "timm_legacy_seresnet18": lambda: timm.create_model("legacy_seresnet18"),
    "timm_legacy_seresnet50": lambda: timm.create_model("legacy_seresnet50"),
    "timm_legacy_seresnext50_32x4d": lambda: timm.create_model("legacy_seresnext50_32x4d"),
    "timm_legacy_senet154": lambda: timm.create_model("legacy_senet154"),
    "timm_resnet50": lambda: timm.create_model("resnet50"),
    "torchvision_resnet18": lambda: models.resnet18(),
    "torchvision_resnet101": lambda: models.resnet101(),
    "torchvision_resnext50_32x4d": lambda: models.resnext50_32x4d(),
}


def randomise(network):
    """Statistics of the norms far from the identity, damped at the end of a branch so that fifty blocks stay finite."""
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                last = name.endswith("bn3") or "downsample" in name
                module.weight.uniform_(0.2, 0.5) if last else module.weight.uniform_(0.6, 1.4)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2.0)
    return network.eval()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--detectors", action="store_true", help="no classifiers")
    arguments = arguments.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    common.seed(5)
    x = torch.randn(1, 3, 203, 317)
    outputs = {"input": x}
    classifiers = {} if arguments.detectors else CLASSIFIERS
    for number, (name, build) in enumerate(classifiers.items()):
        common.seed(200 + number)
        network = randomise(build())
        with torch.no_grad():
            outputs[f"{name}.logits"] = network(x)
        torch.save(network.state_dict(), folder / f"{name}.pth")
        print(name, (folder / f"{name}.pth").stat().st_size // 2**20, "MiB", outputs[f"{name}.logits"].std().item())
    # torchvision's whole detectors: 91 outputs. The scores are spread so that there are detections.
    common.seed(300)
    image = torch.rand(1, 3, 10, 14)
    image = nn.functional.interpolate(image, size=(203, 317), mode="bicubic").clamp(0, 1)
    image = (255 * image[0]).round()
    outputs["image"] = image.to(torch.uint8)
    for name, build, spread in (
        ("detector", models.detection.fasterrcnn_resnet50_fpn, 40),
        ("detector_v2", models.detection.fasterrcnn_resnet50_fpn_v2, 12),
    ):
        common.seed(301)
        detector = build(weights=None, weights_backbone=None, num_classes=91)
        randomise(detector)
        with torch.no_grad():
            detector.roi_heads.box_predictor.cls_score.weight.mul_(spread)
            detector.rpn.head.cls_logits.weight.mul_(5)
            found = detector([image / 255])[0]
        outputs |= {f"{name}.{key}": value for key, value in found.items()}
        print(name, len(found["scores"]), "detections", found["scores"][:3].tolist())
        torch.save(detector.state_dict(), folder / f"torchvision_{name}.pth")
    safetensors.torch.save_file({k: v.contiguous() for k, v in outputs.items()}, folder / "outputs.safetensors")


if __name__ == "__main__":
    main()
