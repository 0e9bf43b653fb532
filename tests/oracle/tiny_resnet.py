"""Narrow residual networks for the fixtures, with torchvision's key names (conv1, bn1, layer1.0.conv1, ...).

The blocks and the stage builders are torchvision's and timm's own; only the container is written here, because both
libraries fix the stem at 64 channels.
"""

from functools import partial

import torch
from timm.layers import SEModule
from timm.models import resnet as timm_resnet
from torch import nn
from torchvision.models import resnet as torchvision_resnet
from torchvision.ops import FrozenBatchNorm2d

NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


class TinyResNet(torchvision_resnet.ResNet):
    """torchvision's ResNet with one block per stage, stage planes width, 2, 4 and 8 times width, and no head."""

    def __init__(self, block, width, groups=1, width_per_group=64, norm_layer=nn.BatchNorm2d):
        nn.Module.__init__(self)
        self._norm_layer = norm_layer
        self.inplanes = width
        self.dilation = 1
        self.groups = groups
        self.base_width = width_per_group
        add_stem(self, width, norm_layer)
        for stage in range(4):
            planes = width * 2**stage
            setattr(self, f"layer{stage + 1}", self._make_layer(block, planes, 1, stride=1 if stage == 0 else 2))

    def forward(self, x):
        """The feature maps C2, C3, C4, C5."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


class TinySeResNet(nn.Module):
    """The same network from timm's blocks with timm's SE module. `squeeze` channels are channels / reduction,
    at least 1 (timm would round up to a multiple of 8)."""

    def __init__(self, block, width, reduction, norm_layer=nn.BatchNorm2d):
        super().__init__()
        add_stem(self, width, norm_layer)
        stages, _ = timm_resnet.make_blocks(
            (block,) * 4,
            tuple(width * 2**stage for stage in range(4)),
            (1, 1, 1, 1),
            inplanes=width,
            # timm also passes device and dtype, which torchvision's frozen batch norm does not accept.
            norm_layer=lambda channels, **_: norm_layer(channels),
            attn_layer=partial(SEModule, rd_ratio=1 / reduction, rd_divisor=1),
        )
        for name, stage in stages:
            self.add_module(name, stage)
        for module in self.modules():
            if isinstance(module, SEModule):
                channels = module.fc1.in_channels
                assert module.fc1.out_channels == max(1, channels // reduction), (channels, module.fc1)

    forward = TinyResNet.forward


def add_stem(network, width, norm_layer):
    network.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    network.bn1 = norm_layer(width)
    network.relu = nn.ReLU(inplace=True)
    network.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)


def randomise(network):
    """Kaiming weights, and normalization statistics that are far from the identity. Positive biases keep the few
    channels active, so that no gradient is zero throughout."""
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, NORMS):
                module.weight.uniform_(0.6, 1.4)
                module.bias.normal_(0.3, 0.3)
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2.0)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for module in network.modules():
            if isinstance(module, SEModule):
                module.fc1.weight.mul_(0.5)
                module.fc1.bias.uniform_(0.5, 1.5)
                module.fc2.bias.normal_(0, 0.5)
    return network


def weights(network):
    return {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
