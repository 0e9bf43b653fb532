"""The reference's networks, with random weights whose activations keep their scale.

torchvision's where it has the network, timm's blocks where there are SE units. MobileNet v1, which torchvision does
not have, is written here with the names of sedet's own checkpoints.

Random norms are far enough from the identity that folding them into a convolution is real work. The last norm of
each residual block has the weight 0.2, as in trained networks: with 1 the activations grow from block to block.
"""

from functools import partial

import timm
import torch
import torchvision
from timm.layers import SEModule
from timm.models import resnet as timm_resnet
from torch import nn
from torchvision.models import resnet as torchvision_resnet
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

CLASSES = 91  # COCO's ids and the background
SHAPES_CLASSES = 7  # the generated scenes' and the background
LEVELS = ("0", "1", "2", "3")


def build(network):
    """Returns the network of a case with random weights; the scores of a detector are not scaled yet."""
    if network.endswith("-fpn"):
        return detector(network)
    return {
        "resnet50": torchvision.models.resnet50,
        "se-resnet50": partial(timm.create_model, "seresnet50"),
        "se-resnext50": partial(timm.create_model, "seresnext50_32x4d"),
        "mobilenet-v1": MobilenetV1,
        "quick-start": quick_start,
    }[network]()


def randomise_norms(network):
    """Statistics, scales and shifts of a trained network's size."""
    blocks = (torchvision_resnet.Bottleneck, timm_resnet.Bottleneck, timm_resnet.BasicBlock)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm2d, FrozenBatchNorm2d)):
                module.weight.uniform_(0.8, 1.2)
                module.bias.normal_(0, 0.1)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.8, 1.25)
        for module in network.modules():
            if isinstance(module, blocks):
                last = module.bn2 if isinstance(module, timm_resnet.BasicBlock) else module.bn3
                last.weight.fill_(0.2)


class ConvNorm(nn.Module):
    """A convolution and its norm, by sedet's names."""

    def __init__(self, channels_in, channels_out, kernel, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out" if groups == 1 else "fan_in", nonlinearity="relu")

    def forward(self, x):
        return nn.functional.relu(self.norm(self.conv(x)), inplace=True)


class MobilenetV1(nn.Module):
    """Table 1 of Howard et al. 2017 with ReLU; the last depthwise convolution has stride 1."""

    BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)) + ((512, 1),) * 5 + ((1024, 2), (1024, 1))

    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.stem = ConvNorm(3, 32, 3, stride=2)
        self.backbone.blocks = nn.ModuleList()
        channels_in = 32
        for channels, stride in self.BLOCKS:
            block = nn.Module()
            block.depthwise = ConvNorm(channels_in, channels_in, 3, stride, groups=channels_in)
            block.pointwise = ConvNorm(channels_in, channels, 1)
            self.backbone.blocks.append(block)
            channels_in = channels
        self.fc = nn.Linear(channels_in, 1000)

    def forward(self, x):
        x = self.backbone.stem(x)
        for block in self.backbone.blocks:
            x = block.pointwise(block.depthwise(x))
        return self.fc(x.mean((2, 3)))

    @staticmethod
    def sedet_metadata():
        """Returns the header of this network's checkpoint."""
        return {
            "format": 1,
            "task": "classification",
            "model": {"backbone": {"family": "mobilenet"}, "num_classes": 1000},
            # ImageNet's evaluation; inputs of the comparison are prepared already.
            "preprocess": {
                "channel_order": "rgb",
                "scale": 1 / 255,
                "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225],
                "min_size": 256,
                "max_size": 65536,
                "resize_method": "pillow",
                "center_crop": 224,
                "size_divisor": 1,
            },
        }


class SeBody(nn.Module):
    """SE-ResNet for a pyramid, built from timm's blocks, with torchvision's names."""

    def __init__(self, block, layers, width, norm_layer, attention):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = norm_layer(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        stages, _ = timm_resnet.make_blocks(
            (block,) * 4,
            tuple(width * 2**stage for stage in range(4)),
            layers,
            inplanes=width,
            # timm also passes device and dtype, which torchvision's frozen batch norm does not accept.
            norm_layer=lambda channels, **_: norm_layer(channels),
            attn_layer=attention,
        )
        for name, stage in stages:
            self.add_module(name, stage)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def with_pyramid(body, stage_channels, channels):
    levels = {f"layer{stage + 1}": level for stage, level in enumerate(LEVELS)}
    return BackboneWithFPN(body, levels, in_channels_list=stage_channels, out_channels=channels)


def detector(network):
    """Faster R-CNN with torchvision's defaults; frozen batch norm, stem and first stage without gradients."""
    if network == "resnet50-fpn":
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    else:
        body = SeBody(
            timm_resnet.Bottleneck, (3, 4, 6, 3), 64, FrozenBatchNorm2d, partial(SEModule, rd_ratio=1 / 16)
        )
        for part in (body.conv1, body.layer1):
            part.requires_grad_(False)
        backbone = with_pyramid(body, [256, 512, 1024, 2048], 256)
    return FasterRCNN(backbone, CLASSES)


def quick_start():
    """What `sedet train --dataset shapes` trains: configs/detection/shapes.toml."""
    attention = partial(SEModule, rd_ratio=1 / 4, rd_divisor=1)
    body = SeBody(timm_resnet.BasicBlock, (2, 2, 2, 2), 16, nn.BatchNorm2d, attention)
    return FasterRCNN(
        with_pyramid(body, [16, 32, 64, 128], 48),
        min_size=160,
        max_size=256,
        rpn_anchor_generator=AnchorGenerator(((16,), (32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=400,
        rpn_post_nms_top_n_train=300,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=150,
        box_roi_pool=MultiScaleRoIAlign(LEVELS, output_size=7, sampling_ratio=2, canonical_scale=112),
        box_head=TwoMLPHead(48 * 7 * 7, 192),
        box_predictor=FastRCNNPredictor(192, SHAPES_CLASSES),
        box_batch_size_per_image=64,
        box_positive_fraction=0.5,
    )


# Approximate spread of the outputs of a trained detector. With PyTorch's initial values all anchors would tie,
# and no detection would pass the threshold.
OBJECTNESS_DEVIATION = 2.0
ANCHOR_DELTA_DEVIATION = 0.2
CLASS_LOGIT_DEVIATION = 1.5
BOX_DELTA_DEVIATION = 0.5
CANDIDATES = 400


def spread_scores(model, pixels):
    """Scale a detector's last layers by what they give for an input, so that proposals differ and about CANDIDATES
    pairs of proposal and class pass the score threshold of 0.05 (then suppression begins)."""
    model.eval()
    with torch.no_grad():
        features = list(model.backbone(pixels).values())
        logits, deltas = model.rpn.head(features)
        scale(model.rpn.head.cls_logits, OBJECTNESS_DEVIATION, torch.cat([level.flatten() for level in logits]))
        scale(model.rpn.head.bbox_pred, ANCHOR_DELTA_DEVIATION, torch.cat([level.flatten() for level in deltas]))
        proposals, hidden = pooled_and_hidden(model, pixels)
        predictor = model.roi_heads.box_predictor
        classes, boxes = predictor(hidden)
        scale(predictor.cls_score, CLASS_LOGIT_DEVIATION, classes)
        scale(predictor.bbox_pred, BOX_DELTA_DEVIATION, boxes)
        low, high = -20.0, 40.0
        for _ in range(40):
            middle = (low + high) / 2
            predictor.cls_score.bias[0] = middle
            scores = predictor(hidden)[0].softmax(1)[:, 1:]
            if (scores > model.roi_heads.score_thresh).sum() > CANDIDATES:
                low = middle
            else:
                high = middle


def scale(layer, deviation, outputs):
    layer.weight.mul_(deviation / outputs.std())
    layer.bias.mul_(deviation / outputs.std())


def pooled_and_hidden(model, pixels):
    from torch_detector import image_list

    images = image_list(pixels)
    features = model.backbone(pixels)
    proposals, _ = model.rpn(images, features)
    pooled = model.roi_heads.box_roi_pool(features, proposals, images.image_sizes)
    return proposals, model.roi_heads.box_head(pooled)
