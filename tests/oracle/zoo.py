"""Reference values for the networks other than ResNet: last feature maps and logits of narrow networks, fingerprints of
their gradients, their feature pyramids, and the parameters and multiply-adds of every full-size network.

Weights and inputs are not stored: both sides compute them from their names, see `numbers`.

Run from the repository's root:  python tests/oracle/zoo.py
Needs torch, torchvision and timm as in requirements.txt. Writes zoo.safetensors,
pyramids.safetensors and zoo_costs.json in tests/fixtures.
"""

import json
import re
from functools import partial

import numpy as np
import timm
import torch
from timm.layers import SEModule
from timm.models.senet import SEModule as LegacySEModule
from torch import nn
from torchvision.models import vgg as torchvision_vgg
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

import cifar_networks
import common
from se_variants import POSITIONS, SeUnit, small

REDUCTION = 16


# ---------------------------------------------------------------------------------------------------------------------
# Numbers from names
# ---------------------------------------------------------------------------------------------------------------------


def numbers(name, shape, low, high):
    """Evenly distributed between low and high, from a hash of the name and the position (FNV-1a, then murmur3's
    finalizer)."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    count = int(np.prod(shape))
    x = (np.arange(count, dtype=np.uint64) * 0x9E3779B9 + seed) & 0xFFFFFFFF
    x ^= x >> 16
    x = x * 0x85EBCA6B & 0xFFFFFFFF
    x ^= x >> 13
    x = x * 0xC2B2AE35 & 0xFFFFFFFF
    x ^= x >> 16
    unit = (x >> 8).astype(np.float64) / 2**24
    return torch.from_numpy((low + (high - low) * unit).astype(np.float32)).reshape(tuple(shape))


def initial(name, shape):
    """A tensor of a network by its sedet name: He's bound for convolutions, statistics far from the identity."""
    module, tensor = name.split(".")[-2:]
    if module in ("norm",):
        low, high = {"weight": (0.6, 1.4), "bias": (0.0, 0.6), "running_mean": (-0.3, 0.3), "running_var": (0.5, 2.0)}[
            tensor
        ]
    elif tensor == "bias":
        low, high = (0.5, 1.5) if module == "fc1" else (-0.5, 0.5)
    else:
        gain = 6 if len(shape) == 4 and ".se." not in name else 3
        high = (gain / np.prod(shape[1:])) ** 0.5
        low = -high
    return numbers(name, shape, low, high)


def fill(network, ours):
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                tensor.copy_(initial(ours(key), tensor.shape))
    return network


# ---------------------------------------------------------------------------------------------------------------------
# Networks: torchvision's and timm's made narrow, the others from their papers' tables
# ---------------------------------------------------------------------------------------------------------------------


def scaled(channels, width):
    return channels if channels == 3 else max(1, round(channels * width))


def shrink(network, width):
    """Replaces every layer by one of fewer channels. Only for widths that divide all channel counts."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.Conv2d):
            new = nn.Conv2d(
                scaled(child.in_channels, width),
                scaled(child.out_channels, width),
                child.kernel_size,
                child.stride,
                child.padding,
                bias=child.bias is not None,
            )
            setattr(network, name, new)
        elif isinstance(child, nn.BatchNorm2d):
            # timm's norm includes its activation.
            child.num_features = scaled(child.num_features, width)
            for key in ("weight", "bias", "running_mean", "running_var"):
                old = getattr(child, key)
                new = torch.ones(child.num_features)
                setattr(child, key, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
        else:
            shrink(child, width)
    return network


def se_module(channels):
    return SEModule(channels, rd_channels=max(1, channels // REDUCTION))


def maybe_se(with_se, channels):
    return se_module(channels) if with_se else nn.Identity()


class ConvNorm(nn.Sequential):
    def __init__(self, channels_in, channels_out, kernel, stride=1, groups=1, relu=True):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)
        if relu:
            self.relu = nn.ReLU()


class Classifier(nn.Module):
    """`features`, the mean, one linear layer. The keys are sedet's with `backbone` for `features`."""

    def __init__(self, features, channels, num_classes):
        super().__init__()
        self.backbone = features
        self.fc = nn.Linear(channels, num_classes)

    def features(self, x):
        return self.backbone(x)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


class Vgg(nn.Module):
    """torchvision's `vgg16_bn`; an SE unit after every ReLU of the convolutions."""

    def __init__(self, width=1.0, with_se=False, num_classes=1000):
        super().__init__()
        full = torchvision_vgg.vgg16_bn(num_classes=num_classes)
        layers = []
        for layer in shrink(full.features, width):
            layers.append(layer)
            if isinstance(layer, nn.BatchNorm2d):
                channels = layer.num_features
            if isinstance(layer, nn.ReLU) and with_se:
                layers.append(se_module(channels))
        self.body = nn.Sequential(*layers)
        self.avgpool = full.avgpool
        self.classifier = full.classifier
        hidden = scaled(4096, width)
        self.classifier[0] = nn.Linear(channels * 49, hidden)
        self.classifier[3] = nn.Linear(hidden, hidden)
        self.classifier[6] = nn.Linear(hidden, num_classes)
        self.names = {"classifier.0": "hidden.0", "classifier.3": "hidden.1", "classifier.6": "fc"}
        stage = layer = 0
        for index, module in enumerate(layers):
            ours = f"backbone.stages.{stage}.layers.{layer}"
            if isinstance(module, nn.Conv2d):
                self.names[f"body.{index}"] = f"{ours}.conv_norm.conv"
            elif isinstance(module, nn.BatchNorm2d):
                self.names[f"body.{index}"] = f"{ours}.conv_norm.norm"
            elif isinstance(module, SEModule):
                self.names[f"body.{index}"] = f"{ours}.se"
            elif isinstance(module, nn.MaxPool2d):
                stage, layer = stage + 1, 0
            is_last = isinstance(module, SEModule if with_se else nn.ReLU)
            layer += is_last

    def ours(self, key):
        prefix = max((p for p in self.names if key.startswith(p + ".")), key=len)
        return self.names[prefix] + key[len(prefix) :]

    def features(self, x):
        return self.body(x)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class EvenMaxPool(nn.MaxPool2d):
    """Odd feature maps are extended by a row or column that is never the maximum: the strided convolutions beside it
    round sizes up, where Caffe's pooling would round them down, and the outputs could not be concatenated."""

    def forward(self, x):
        height, width = x.shape[2:]
        return super().forward(nn.functional.pad(x, (0, width % 2, 0, height % 2), value=-torch.inf))


class BnInception(nn.Module):
    """Figure 5 of Ioffe and Szegedy with the channels of the Caffe network; an SE unit on every module's output."""

    #        1x1   3x3         double 3x3       pool
    TABLE = [
        (64, (64, 64), (64, 96, 96), ("avg", 32)),
        (64, (64, 96), (64, 96, 96), ("avg", 64)),
        (None, (128, 160), (64, 96, 96), None),
        (224, (64, 96), (96, 128, 128), ("avg", 128)),
        (192, (96, 128), (96, 128, 128), ("avg", 128)),
        (160, (128, 160), (128, 160, 160), ("avg", 128)),
        (96, (128, 192), (160, 192, 192), ("avg", 128)),
        (None, (128, 192), (192, 256, 256), None),
        (352, (192, 320), (160, 224, 224), ("avg", 128)),
        (352, (192, 320), (192, 224, 224), ("max", 128)),
    ]

    class Module(nn.Module):
        def __init__(self, channels, row, width, with_se):
            super().__init__()
            conv1, conv3, double, pool = row
            scale = lambda c: scaled(c, width)
            stride = 1 if conv1 else 2
            chain = lambda *convs: nn.ModuleDict({"convs": nn.Sequential(*convs)})
            branches = []
            if conv1:
                branches.append(chain(ConvNorm(channels, scale(conv1), 1)))
            a, b = map(scale, conv3)
            branches.append(chain(ConvNorm(channels, a, 1), ConvNorm(a, b, 3, stride)))
            out = b + (scale(conv1) if conv1 else 0)
            a, b, c = map(scale, double)
            branches.append(chain(ConvNorm(channels, a, 1), ConvNorm(a, b, 3), ConvNorm(b, c, 3, stride)))
            out += c
            if pool is None:
                self.pool = EvenMaxPool(3, 2, ceil_mode=True)
                branches.append(chain(nn.Identity()))
                out += channels
            else:
                kind, projected = pool
                self.pool = nn.AvgPool2d(3, 1, 1) if kind == "avg" else nn.MaxPool2d(3, 1, 1)
                branches.append(chain(ConvNorm(channels, scale(projected), 1)))
                out += scale(projected)
            self.branches = nn.ModuleList(branches)
            self.channels = out
            self.se = maybe_se(with_se, out)

        def forward(self, x):
            *convs, pooled = [branch["convs"] for branch in self.branches]
            return self.se(torch.cat([branch(x) for branch in convs] + [pooled(self.pool(x))], 1))

    def __init__(self, width=1.0, with_se=False):
        super().__init__()
        narrow, wide = scaled(64, width), scaled(192, width)
        self.stem = nn.Sequential(ConvNorm(3, narrow, 7, 2), ConvNorm(narrow, narrow, 1), ConvNorm(narrow, wide, 3))
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        rows, channels = [], wide
        for row in self.TABLE:
            rows.append(self.Module(channels, row, width, with_se))
            channels = rows[-1].channels
        self.modules_ = nn.Sequential(*rows)
        self.channels = channels

    def forward(self, x):
        x = self.pool(self.stem[0](x))
        return self.modules_(self.pool(self.stem[2](self.stem[1](x))))


class MobileNet(nn.Module):
    """Table 1 of Howard et al.; an SE unit after every pointwise convolution's ReLU."""

    BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]

    class Block(nn.Module):
        def __init__(self, channels_in, channels, stride, with_se):
            super().__init__()
            self.depthwise = ConvNorm(channels_in, channels_in, 3, stride, groups=channels_in)
            self.pointwise = ConvNorm(channels_in, channels, 1)
            self.se = maybe_se(with_se, channels)

        def forward(self, x):
            return self.se(self.pointwise(self.depthwise(x)))

    def __init__(self, width=1.0, with_se=False):
        super().__init__()
        channels = scaled(32, width)
        self.stem = ConvNorm(3, channels, 3, 2)
        blocks = []
        for wanted, stride in self.BLOCKS:
            blocks.append(self.Block(channels, scaled(wanted, width), stride, with_se))
            channels = scaled(wanted, width)
        self.blocks = nn.Sequential(*blocks)
        self.channels = channels

    def forward(self, x):
        return self.blocks(self.stem(x))


class ShuffleNet(nn.Module):
    """Table 1 and figure 2 of Zhang et al.; an SE unit at the end of every branch."""

    class Unit(nn.Module):
        def __init__(self, channels_in, channels, groups_in, groups, with_se):
            super().__init__()
            self.groups = groups
            self.halves = channels_in != channels
            inner = channels // 4
            branch = channels - channels_in if self.halves else channels
            self.reduce = ConvNorm(channels_in, inner, 1, groups=groups_in)
            self.depthwise = ConvNorm(inner, inner, 3, 2 if self.halves else 1, groups=inner, relu=False)
            self.expand = ConvNorm(inner, branch, 1, groups=groups, relu=False)
            self.se = maybe_se(with_se, branch)
            self.pool = nn.AvgPool2d(3, 2, 1)

        def forward(self, x):
            y = nn.functional.channel_shuffle(self.reduce(x), self.groups)
            y = self.se(self.expand(self.depthwise(y)))
            return torch.relu(torch.cat([self.pool(x), y], 1) if self.halves else x + y)

    def __init__(self, stem=24, first=240, groups=3, with_se=False):
        super().__init__()
        self.stem = ConvNorm(3, stem, 3, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        units, channels = [], stem
        for stage, count in enumerate((4, 8, 4)):
            for _ in range(count):
                groups_in = groups if units else 1
                units.append(self.Unit(channels, first << stage, groups_in, groups, with_se))
                channels = first << stage
        self.units = nn.Sequential(*units)
        self.channels = channels

    def forward(self, x):
        return self.units(self.pool(self.stem(x)))


def inception_resnet_v2(width=1.0, with_se=False, num_classes=1000, blocks=None):
    """timm's; an SE unit after the last convolution of every residual branch."""
    network = timm.create_model("inception_resnet_v2", num_classes=num_classes)
    if blocks:
        for name, count in zip(("repeat", "repeat_1", "repeat_2"), blocks):
            setattr(network, name, getattr(network, name)[:count])
    if width != 1.0:
        shrink(network, width)
        network.classif = nn.Linear(scaled(1536, width), num_classes)
    if with_se:
        for block in [*network.repeat, *network.repeat_1, *network.repeat_2, network.block8]:
            block.conv2d = nn.Sequential(block.conv2d, se_module(block.conv2d.out_channels))
    network.features = network.forward_features
    last = len(network.repeat_2)

    def ours(key):
        key = re.sub(r"\.bn\.", ".norm.", key)
        for index, name in enumerate(("1a", "2a", "2b", "3b", "4a")):
            key = key.replace(f"conv2d_{name}.", f"stem.{index}.")
        key = key.replace("conv2d_7b.", "last.").replace("classif.", "fc.")
        key = key.replace("conv2d.0.", "conv.").replace("conv2d.1.", "se.").replace("conv2d.", "conv.")
        for stage, (mixed, repeat) in enumerate(
            (("mixed_5b", "repeat"), ("mixed_6a", "repeat_1"), ("mixed_7a", "repeat_2"))
        ):
            key = re.sub(rf"^{mixed}\.branch", f"stages.{stage}.transition.", key)
            key = re.sub(rf"^{repeat}\.(\d+)\.", rf"stages.{stage}.blocks.\1.", key)
        key = key.replace("block8.", f"stages.2.blocks.{last}.")
        # The pooled branch of mixed_5b has its convolution in second place.
        key = key.replace("stages.0.transition.3.1.", "stages.0.transition.3.0.")
        key = key.replace(".branch", ".branches.")
        key = re.sub(r"(branches|transition)\.(\d+)\.(conv|norm)\.", r"\1.\2.0.\3.", key)
        key = re.sub(r"(branches|transition)\.(\d+)\.(\d+)\.", r"\1.\2.convs.\3.", key)
        return key if key.startswith("fc.") else "backbone." + key

    return network, ours


def own(features, num_classes):
    network = Classifier(features, features.channels, num_classes)
    return network, lambda key: key.replace(".modules_.", ".modules.")


def vgg(**options):
    network = Vgg(**options)
    return network, network.ours


# ---------------------------------------------------------------------------------------------------------------------
# Fixtures
# ---------------------------------------------------------------------------------------------------------------------

CLASSES = 5
WIDTH = 1 / 16


def narrow_networks(with_se):
    """Name, network, sedet's names of its tensors, input size."""
    yield "vgg", *vgg(width=WIDTH, with_se=with_se, num_classes=CLASSES), (75, 103)
    yield "bn_inception", *own(BnInception(WIDTH, with_se), CLASSES), (75, 103)
    yield "inception_resnet_v2", *inception_resnet_v2(WIDTH, with_se, CLASSES), (139, 171)
    yield "mobilenet", *own(MobileNet(WIDTH, with_se), CLASSES), (75, 103)
    yield "shufflenet", *own(ShuffleNet(6, 60, with_se=with_se), CLASSES), (75, 103)


def forward_cases():
    out = {}
    for with_se in (False, True):
        for name, network, ours, size in narrow_networks(with_se):
            name = f"se_{name}" if with_se else name
            fill(network, ours).eval()
            x = numbers("input", (2, 3, *size), -1, 1)
            with torch.no_grad():
                out[f"{name}.features"] = network.features(x)
                out[f"{name}.logits"] = network(x)
    return out


def gradient_networks():
    yield "vgg", *vgg(width=WIDTH, with_se=True, num_classes=CLASSES), (97, 115)
    yield "bn_inception", *own(BnInception(WIDTH, True), CLASSES), (97, 115)
    yield "inception_resnet_v2", *inception_resnet_v2(WIDTH, True, CLASSES, blocks=(1, 1, 1)), (139, 171)
    yield "mobilenet", *own(MobileNet(WIDTH, True), CLASSES), (97, 115)
    yield "shufflenet", *own(ShuffleNet(6, 60, with_se=True), CLASSES), (97, 115)


def gradient_cases():
    """Gradients of sum(logits * weights) on batch statistics, without dropout. Stored for each gradient: its norm, and
    its product with a vector of numbers between -1 and 1."""
    out = {}
    for name, network, ours, size in gradient_networks():
        fill(network, ours).train()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0
        x = numbers("input", (4, 3, *size), -1, 1)
        logits = network(x)
        (logits * numbers("cotangent", logits.shape, -1, 1)).sum().backward()
        for key, parameter in network.named_parameters():
            gradient = parameter.grad.double().flatten()
            direction = numbers(ours(key) + "#", gradient.shape, -1, 1).double()
            out[f"{name}.{ours(key)}"] = torch.stack([gradient.norm(), gradient @ direction]).float()
    return {f"gradients.{key}": value for key, value in out.items()}


# ---------------------------------------------------------------------------------------------------------------------
# Costs
# ---------------------------------------------------------------------------------------------------------------------


def macs(network, size):
    """Multiply-adds of convolutions and linear layers, and the multiplications of the SE scaling."""
    total = 0

    def note(module, inputs, output):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()
        else:
            total += output[0].numel()

    kinds = (nn.Conv2d, nn.Linear, SEModule, LegacySEModule, SeUnit)
    handles = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, kinds)]
    network.eval()(torch.empty(1, 3, *size, device="meta"))
    for handle in handles:
        handle.remove()
    return total


def residual(name, **options):
    exact = dict(attn_layer=partial(SEModule, rd_ratio=1 / REDUCTION, rd_divisor=1))
    if name.startswith("se") and "senet" not in name:
        options["block_args"] = exact
    return timm.create_model(name, **options)


def full_size():
    """sedet's name, network, input size."""
    for depth in (18, 34, 50, 101, 152):
        yield f"resnet{depth}", residual(f"resnet{depth}"), 224
        yield f"se-resnet{depth}", residual(f"seresnet{depth}"), 224
    for depth in (50, 101):
        yield f"resnext{depth}-32x4d", residual(f"resnext{depth}_32x4d"), 224
        yield f"se-resnext{depth}-32x4d", residual(f"seresnext{depth}_32x4d"), 224
    yield "senet154", residual("legacy_senet154"), 224
    for with_se, prefix in ((False, ""), (True, "se-")):
        yield f"{prefix}vgg16-bn", vgg(with_se=with_se)[0], 224
        yield f"{prefix}bn-inception", own(BnInception(with_se=with_se), 1000)[0], 224
        yield f"{prefix}inception-resnet-v2", inception_resnet_v2(with_se=with_se)[0], 299
        yield f"{prefix}mobilenet-v1", own(MobileNet(with_se=with_se), 1000)[0], 224
        yield f"{prefix}shufflenet-v1-g3", own(ShuffleNet(with_se=with_se), 1000)[0], 224
        for name, features in cifar_networks.FULL_SIZE.items():
            classes = 100 if "even" in name else 10
            network = own(features(REDUCTION if with_se else None), classes)[0]
            yield prefix + name.replace("_", "-"), network, 32
        timm_name = f"{prefix}resnet152".replace("-", "")
        yield f"{prefix}resnet152-places365", residual(timm_name, num_classes=365), 224


def costs():
    """For the published number of classes, at the published size and at one that no stride divides."""
    with torch.device("meta"):
        return {
            name: {
                "parameters": sum(p.numel() for p in network.parameters()),
                "size": size,
                "macs": macs(network, (size, size)),
                "macs_at_317": macs(network, (317, 317)),
            }
            for name, network, size in full_size()
        }


def variant_costs():
    """Fingerprints of the small residual networks of `se_variants.py`, without a head, for every position of
    their units."""
    with torch.device("meta"):
        return {
            f"{kind}_{position}_{squeeze}": {
                "parameters": sum(p.numel() for p in network.parameters()),
                "macs": macs(network, (33, 47)),
            }
            for kind in ("basic", "bottleneck")
            for position in POSITIONS
            for squeeze in ("avg", "none")
            for network in [small(kind, dict(position=position, squeeze=squeeze))]
        }


# ---------------------------------------------------------------------------------------------------------------------
# Pyramids
# ---------------------------------------------------------------------------------------------------------------------

FPN_CHANNELS = 6


def aligned(network):
    """Inception-ResNet-v2 with `align_feature_maps` of TensorFlow's object detection API: unpadded layers are padded,
    here by the same number of pixels on every side."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.padding = tuple(side // 2 for side in module.kernel_size)
        elif isinstance(module, nn.MaxPool2d):
            module.padding = 1
    return network


def taps(family, network):
    """The modules whose outputs are C2..C5: the last of each stride."""
    if family == "vgg":
        # The last module of stages 3, 4 and 5 before their pooling, and the last pooling.
        pools = [i for i, module in enumerate(network.body) if isinstance(module, nn.MaxPool2d)]
        return [network.body[i] for i in (pools[2] - 1, pools[3] - 1, pools[4] - 1, pools[4])]
    if family == "bn_inception":
        features = network.backbone
        return [features.stem[2], features.modules_[1], features.modules_[6], features.modules_[9]]
    if family == "inception_resnet_v2":
        return [network.conv2d_4a, network.repeat[-1], network.repeat_1[-1], network.conv2d_7b]
    features = network.backbone
    if family == "mobilenet":
        return [features.blocks[i] for i in (2, 4, 10, 12)]
    return [features.pool, features.units[3], features.units[11], features.units[15]]


def pyramid(channels):
    """torchvision's network, with weights derived from sedet's names."""
    fpn = FeaturePyramidNetwork(channels, FPN_CHANNELS, LastLevelMaxPool())
    return fill(fpn, lambda key: "fpn." + re.sub(r"_blocks\.(\d)\.0\.", r"_blocks.\1.", key))


def pyramid_cases():
    """Stored for C2..C5: a fingerprint of each channel, its mean and its product with numbers from a name; P2..P6 in
    full."""
    out = {}
    for with_se in (False, True):
        for family, network, ours, _ in narrow_networks(with_se):
            name = f"se_{family}" if with_se else family
            fill(network, ours).eval()
            if family == "inception_resnet_v2":
                aligned(network)
            x = numbers("input", (1, 3, 75, 103), -1, 1)
            modules = {f"c{level}": module for level, module in enumerate(taps(family, network), 2)}
            with torch.no_grad(), common.recorded_outputs(modules) as seen:
                network.features(x)
                maps = {key: seen[key] for key in modules}
                for key, level in maps.items():
                    direction = numbers(f"{key}#", level.shape[1:], -1, 1)
                    out[f"{name}.{key}"] = torch.stack([level[0].mean((1, 2)), (level[0] * direction).mean((1, 2))])
                    out[f"{name}.{key}_shape"] = torch.tensor(level.shape)
                fpn = pyramid([level.shape[1] for level in maps.values()])
                for level, key in zip(fpn(maps).values(), ("p2", "p3", "p4", "p5", "p6")):
                    out[f"{name}.{key}"] = level
    return out


def main():
    torch.set_num_threads(1)
    common.save("pyramids.safetensors", pyramid_cases())
    common.save("zoo.safetensors", {**forward_cases(), **gradient_cases()})
    path = common.FIXTURES / "zoo_costs.json"
    made_with = f"torch {torch.__version__}, timm {timm.__version__}"
    figures = {"made_with": made_with, "networks": costs(), "se_variants": variant_costs()}
    path.write_text(json.dumps(figures, indent=1) + "\n")
    print(path.name)


if __name__ == "__main__":
    main()
