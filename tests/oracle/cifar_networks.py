"""Reference numbers for the residual CIFAR networks, plain and with SE units: ResNet-20 to -110 (He et al. 2015),
ResNet-164 (He et al. 2016), WRN (Zagoruyko and Komodakis), Shake-Shake and Shake-Even (Gastaldi). The modules are
written from the papers and the authors' own descriptions of their networks; parameters have sedet's names.

Run from the repository's root:  python tests/oracle/cifar_networks.py
Writes tests/fixtures/cifar_networks.safetensors; the costs of the full-size networks are computed by zoo.py.
"""

import torch
from torch import nn
from torch.nn import functional as F

import common
from se_variants import SeUnit
from tiny_resnet import randomise, weights


def conv(channels_in, channels_out, kernel, stride=1, groups=1):
    return nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)


def unit(channels, reduction):
    return SeUnit(channels, reduction) if reduction else nn.Identity()


class ResNetBlock(nn.Module):
    """Block of two 3x3; the shortcut takes every second pixel and adds zero channels (option A)."""

    def __init__(self, channels_in, planes, stride, reduction):
        super().__init__()
        self.convs = nn.ModuleList([conv(channels_in, planes, 3, stride), conv(planes, planes, 3)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(planes), nn.BatchNorm2d(planes)])
        self.se = unit(planes, reduction)
        self.stride = stride
        self.new_channels = planes - channels_in

    def forward(self, x):
        half = self.new_channels // 2
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.new_channels - half))
        y = torch.relu(self.norms[0](self.convs[0](x)))
        return torch.relu(shortcut + self.se(self.norms[1](self.convs[1](y))))


class PreactBlock(nn.Module):
    """norm, ReLU, convolution, two or three times; norm and ReLU are shared if the shortcut is a convolution."""

    def __init__(self, kind, channels_in, planes, stride, reduction):
        super().__init__()
        if kind == "basic":
            out = planes
            self.convs = nn.ModuleList([conv(channels_in, planes, 3, stride), conv(planes, planes, 3)])
        else:
            out = 4 * planes
            self.convs = nn.ModuleList([conv(channels_in, planes, 1, stride), conv(planes, planes, 3), conv(planes, out, 1)])
        self.norms = nn.ModuleList(nn.BatchNorm2d(c.in_channels) for c in self.convs)
        self.se = unit(out, reduction)
        self.projection = conv(channels_in, out, 1, stride) if channels_in != out else None

    def forward(self, x):
        y = torch.relu(self.norms[0](x))
        shortcut = self.projection(y) if self.projection is not None else x
        y = self.convs[0](y)
        for c, norm in zip(self.convs[1:], self.norms[1:]):
            y = c(torch.relu(norm(y)))
        return shortcut + self.se(y)


class Mix(torch.autograd.Function):
    """alpha and 1 - alpha in the output, beta and 1 - beta in the gradient; one of each per image."""

    @staticmethod
    def forward(ctx, first, second, alpha, beta):
        ctx.save_for_backward(beta)
        alpha = alpha[:, None, None, None]
        return alpha * first + (1 - alpha) * second

    @staticmethod
    def backward(ctx, gradient):
        beta = ctx.saved_tensors[0][:, None, None, None]
        return beta * gradient, (1 - beta) * gradient, None, None


class ShakeBranch(nn.Module):
    """Convolutions with a norm after each and ReLU between."""

    def __init__(self, convs):
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c.out_channels) for c in convs)

    def forward(self, x):
        for index, (c, norm) in enumerate(zip(self.convs, self.norms)):
            x = norm(c(torch.relu(x) if index else x))
        return x


class TwoPaths(nn.Module):
    """Two 1x1 average poolings with the stride, the second of the feature map shifted right and down by a
    pixel, each with a 1x1 convolution to half of the channels; norm over both."""

    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.convs = nn.ModuleList([conv(channels_in, channels_out // 2, 1) for _ in range(2)])
        self.norm = nn.BatchNorm2d(channels_out)
        self.stride = stride

    def forward(self, x):
        moved = F.pad(x, (1, -1, 1, -1))
        paths = [c(F.avg_pool2d(y, 1, self.stride)) for c, y in zip(self.convs, (x, moved))]
        return self.norm(torch.cat(paths, 1))


class OnePath(nn.Module):
    """ResNeXt's projection."""

    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.convs = nn.ModuleList([conv(channels_in, channels_out, 1, stride)])
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x):
        return self.norm(self.convs[0](x))


class ShakeBlock(nn.Module):
    """Two mixed branches; the SE unit is applied to the mixture."""

    def __init__(self, kind, groups, width, channels_in, planes, stride, reduction):
        super().__init__()
        self.preact = kind == "preact"
        if self.preact:
            out = planes
            specs = lambda: [conv(channels_in, planes, 3, stride), conv(planes, planes, 3)]
            shortcut = TwoPaths
        else:
            out = 4 * planes
            inner = planes * width // 64 * groups
            specs = lambda: [conv(channels_in, inner, 1), conv(inner, inner, 3, stride, groups), conv(inner, out, 1)]
            shortcut = OnePath
        self.branches = nn.ModuleList([ShakeBranch(specs()), ShakeBranch(specs())])
        self.shortcut = shortcut(channels_in, out, stride) if channels_in != out else nn.Identity()
        self.se = unit(out, reduction)
        self.shares = None

    def forward(self, x):
        y = torch.relu(x) if self.preact else x
        first, second = (branch(y) for branch in self.branches)
        shortcut = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(y)
        if self.training:
            mixture = Mix.apply(first, second, *self.shares)
        else:
            mixture = (first + second) / 2
        out = shortcut + self.se(mixture)
        return out if self.preact else torch.relu(out)


class Network(nn.Module):
    """Stem, three stages, and the layers after them."""

    def __init__(self, block, layers, stem, first_planes, expansion, reduction, stem_norm=True, stem_relu=True, end=None):
        super().__init__()
        self.conv1 = conv(3, stem, 3)
        self.bn1 = nn.BatchNorm2d(stem) if stem_norm else nn.Identity()
        self.stem_relu = stem_relu
        channels = stem
        for stage, count in enumerate(layers):
            planes = first_planes << stage
            blocks = nn.ModuleList()
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(channels, planes, stride, reduction))
                channels = planes * expansion
            self.add_module(f"layer{stage + 1}", blocks)
        if end == "norm":
            self.norm = nn.BatchNorm2d(channels)
        self.channels = channels
        self.end = end

    def blocks(self):
        return [*self.layer1, *self.layer2, *self.layer3]

    def forward(self, x):
        x = self.bn1(self.conv1(x))
        x = torch.relu(x) if self.stem_relu else x
        for block in self.blocks():
            x = block(x)
        if self.end == "norm":
            x = self.norm(x)
        return torch.relu(x) if self.end else x


def resnet(layers, base, reduction):
    return Network(ResNetBlock, layers, base, base, 1, reduction)


def preact(kind, layers, base, widen, reduction):
    def block(*args):
        return PreactBlock(kind, *args)

    expansion = 1 if kind == "basic" else 4
    return Network(block, layers, base, base * widen, expansion, reduction, stem_norm=False, stem_relu=False, end="norm")


def shake(kind, layers, stem, base, reduction, groups=None, width=None):
    def block(*args):
        return ShakeBlock(kind, groups, width, *args)

    is_preact = kind == "preact"
    end = "relu" if is_preact else None
    return Network(block, layers, stem, base, 1 if is_preact else 4, reduction, stem_relu=not is_preact, end=end)


SMALL = {
    "resnet": lambda r: resnet([2, 1, 1], 4, r),
    "preact_bottleneck": lambda r: preact("bottleneck", [2, 1, 1], 2, 1, r),
    "wide": lambda r: preact("basic", [2, 1, 1], 2, 2, r),
    "shake_preact": lambda r: shake("preact", [2, 1, 1], 3, 4, r),
    "shake_resnext": lambda r: shake("resnext", [2, 1, 1], 4, 2, r, groups=2, width=64),
}

FULL_SIZE = {
    **{f"resnet{6 * n + 2}": (lambda r, n=n: resnet([n] * 3, 16, r)) for n in (3, 5, 7, 9, 18)},
    "resnet164": lambda r: preact("bottleneck", [18] * 3, 16, 1, r),
    "wrn_16_8": lambda r: preact("basic", [2] * 3, 16, 8, r),
    "wrn_28_10": lambda r: preact("basic", [4] * 3, 16, 10, r),
    "shake_shake_26_2x96d": lambda r: shake("preact", [4] * 3, 16, 96, r),
    "shake_even_29_2x4x64d": lambda r: shake("resnext", [3] * 3, 64, 64, r, groups=4, width=64),
}


def small_cases():
    """For each family: the weights with SE units of reduction 4, the last feature maps in evaluation mode with and
    without the units, and in training mode (batch statistics, given shares) the feature map and the gradients of the
    sum over (feature map * cotangent)."""
    out = {}
    common.seed(31)
    out["input"] = torch.randn(1, 3, 33, 31)
    out["training_input"] = torch.randn(3, 3, 17, 15)
    for index, (name, make) in enumerate(SMALL.items()):
        common.seed(32 + index)
        network = randomise(make(4))
        for module in network.modules():
            if isinstance(module, SeUnit):
                # Active hidden units, distinct gates.
                module.fc1.weight.data.mul_(0.3).abs_()
                module.fc1.bias.data.uniform_(1.0, 2.0)
                module.fc2.bias.data.normal_(0.3, 0.5)
        state = {k: v.clone() for k, v in weights(network).items()}
        for key, tensor in state.items():
            out[f"{name}.{key}"] = tensor
        plain = make(None)
        missing, unexpected = plain.load_state_dict(state, strict=False)
        assert all("num_batches" in key for key in missing) and all(".se." in key for key in unexpected)
        with torch.no_grad():
            out[f"{name}_plain.map"] = plain.eval()(out["input"])
            out[f"{name}_se.map"] = network.eval()(out["input"])
        network.train()
        if name.startswith("shake"):
            shares = torch.rand(len(network.blocks()), 2, 3)
            out[f"{name}.shares"] = shares
            for block, pair in zip(network.blocks(), shares):
                block.shares = pair
        image = out["training_input"].clone().requires_grad_()
        y = network(image)
        cotangent = torch.randn_like(y)
        (y * cotangent).sum().backward()
        out[f"{name}_training.map"] = y
        out[f"{name}_training.cotangent"] = cotangent
        out[f"{name}_grad.input"] = image.grad
        for key, parameter in network.named_parameters():
            assert parameter.grad.abs().max() > 1e-4, f"{name} {key} has no gradient"
            out[f"{name}_grad.{key}"] = parameter.grad
    return out


def main():
    common.save("cifar_networks.safetensors", small_cases())


if __name__ == "__main__":
    main()
