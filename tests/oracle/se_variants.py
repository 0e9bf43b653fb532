"""Reference numbers for the variants of the SE unit in section 6 of the paper: reduction, squeeze, gate, stages, position,
biases. The modules are written from the paper's text (figure 5, tables 10 to 16), since no library has them; parameters
have sedet's names.

Run from the repository's root:  python tests/oracle/se_variants.py
Writes tests/fixtures/se_variants.safetensors and tests/fixtures/se_variant_counts.json.
"""

import json

import torch
from torch import nn

import common
from tiny_resnet import randomise, weights

GATES = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}


class SeUnit(nn.Module):
    """Squeeze, two layers, gate; `none` is NoSqueeze, where the layers are 1x1 convolutions."""

    def __init__(self, channels, reduction=16, squeeze="avg", gate="sigmoid", bias=True, **_):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=bias)
        self.squeeze = squeeze
        self.gate = GATES[gate]

    def forward(self, x):
        pooled = {
            "avg": lambda: x.mean((2, 3), keepdim=True),
            "max": lambda: x.amax((2, 3), keepdim=True),
            "none": lambda: x,
        }[self.squeeze]()
        return x * self.gate(self.fc2(torch.relu(self.fc1(pooled))))


class Downsample(nn.Module):
    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x):
        return self.norm(self.conv(x))


class Block(nn.Module):
    """A residual unit with its SE unit at one of the five positions."""

    def __init__(self, kind, channels_in, planes, stride, se):
        super().__init__()
        if kind == "basic":
            out = planes
            specs = [(channels_in, planes, 3, stride), (planes, planes, 3, 1)]
        else:
            out = 4 * planes
            specs = [(channels_in, planes, 1, 1), (planes, planes, 3, stride), (planes, out, 1, 1)]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in specs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in specs)
        if stride != 1 or channels_in != out:
            self.downsample = Downsample(channels_in, out, stride)
        else:
            self.downsample = nn.Identity()
        self.position = None
        if se:
            self.position = se.get("position", "standard")
            channels = {"pre": channels_in, "conv3x3": planes}.get(self.position, out)
            self.se = SeUnit(channels, **se)

    def at(self, position, x):
        return self.se(x) if position == self.position else x

    def forward(self, x):
        shortcut = self.at("identity", self.downsample(x))
        x = self.at("pre", x)
        last = len(self.convs) - 1
        for conv, norm in zip(self.convs[:last], self.norms):
            x = torch.relu(norm(conv(x)))
        x = self.at("conv3x3", x)
        x = self.at("standard", self.norms[last](self.convs[last](x)))
        return self.at("post", torch.relu(x + shortcut))


class Network(nn.Module):
    """A stem and stages of these numbers of blocks, without a head."""

    def __init__(self, kind, layers, base, se, stem_kernel):
        super().__init__()
        self.conv1 = nn.Conv2d(3, base, stem_kernel, bias=False, padding=stem_kernel // 2)
        self.bn1 = nn.BatchNorm2d(base)
        channels = base
        self.stages = []
        for stage, count in enumerate(layers):
            planes = base << stage
            unit = se if se and se.get("stages", [True] * 4)[stage] else None
            blocks = nn.ModuleList()
            for index in range(count):
                blocks.append(Block(kind, channels, planes, 2 if stage > 0 and index == 0 else 1, unit))
                channels = planes * (1 if kind == "basic" else 4)
            self.add_module(f"layer{stage + 1}", blocks)
            self.stages.append(blocks)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        for blocks in self.stages:
            for block in blocks:
                x = block(x)
        return x


POSITIONS = ["standard", "pre", "post", "identity", "conv3x3"]

# Other variants; all but the last at the standard position.
VARIANTS = {
    "max": dict(squeeze="max"),
    "none": dict(squeeze="none"),
    "tanh": dict(gate="tanh"),
    "relu": dict(gate="relu"),
    "no_bias": dict(bias=False),
    "second_stage": dict(stages=[False, True, True, True]),
    "mixed": dict(squeeze="none", gate="tanh", position="pre", bias=False),
}


def small(kind, se):
    """Two stages of two blocks and one, 4 and 8 planes, for images without a strided stem."""
    return Network(kind, [2, 1], 4, dict(reduction=4, **se), stem_kernel=3)


def randomised(kind, se):
    network = randomise(small(kind, se))
    for module in network.modules():
        if isinstance(module, SeUnit):
            # Active hidden units, distinct gates.
            module.fc1.weight.data.mul_(0.3).abs_()
            module.fc1.bias.data.uniform_(1.0, 2.0)
            module.fc2.bias.data.normal_(0.3, 0.5)
    return network


def variant_cases():
    """For each kind of block: the weights of all networks (those of the SE units by position), and for each variant the
    last feature map in evaluation mode, and in training mode the gradients of the sum over
    (feature map * cotangent)."""
    out = {}
    common.seed(21)
    x = torch.randn(2, 3, 11, 9)
    out["input"] = x
    for kind in ("basic", "bottleneck"):
        common.seed(22)
        states = {}
        shared = None
        for position in POSITIONS:
            state = weights(randomised(kind, dict(position=position)))
            units = {k: v for k, v in state.items() if ".se." in k}
            shared = shared or {k: v for k, v in state.items() if ".se." not in k}
            states[position] = {**shared, **units}
            for name, tensor in units.items():
                out[f"{kind}.{position}.{name}"] = tensor
        for name, tensor in shared.items():
            out[f"{kind}.{name}"] = tensor
        for name, se in {**{p: dict(position=p) for p in POSITIONS}, **VARIANTS}.items():
            network = small(kind, se)
            state = {k: v.clone() for k, v in states[se.get("position", "standard")].items()}
            missing, unexpected = network.load_state_dict(state, strict=False)
            assert all("num_batches" in key for key in missing), missing
            assert all(".se." in key for key in unexpected), unexpected
            case = f"{kind}_{name}"
            network.eval()
            y = network(x)
            out[f"{case}.map"] = y
            network.train()
            common.seed(23)
            cotangent = torch.randn_like(y)
            out[f"{kind}.cotangent"] = cotangent
            image = x.clone().requires_grad_()
            (network(image) * cotangent).sum().backward()
            out[f"{case}_grad.input"] = image.grad
            for key, parameter in network.named_parameters():
                assert parameter.grad.abs().max() > 1e-4, f"{case} {key} has no gradient"
                out[f"{case}_grad.{key}"] = parameter.grad
    return out


def counts():
    """Parameters of ResNet-50 without its classifier, plain and with units without biases (tables 10, 13 and 15)."""

    def count(**se):
        with torch.device("meta"):
            network = Network("bottleneck", [3, 4, 6, 3], 64, {"bias": False, **se} if se else None, stem_kernel=7)
        return sum(parameter.numel() for parameter in network.parameters())

    def only(stage):
        return [index == stage for index in range(4)]

    return {
        "plain": count(),
        "reduction": {str(r): count(reduction=r) for r in (2, 4, 8, 16, 32)},
        "with_biases": count(reduction=16, bias=True),
        "stage": {str(stage + 2): count(reduction=16, stages=only(stage)) for stage in range(4)},
        "position": {position: count(reduction=16, position=position) for position in POSITIONS},
    }


def main():
    common.save("se_variants.safetensors", variant_cases())
    path = common.FIXTURES / "se_variant_counts.json"
    path.write_text(json.dumps(counts(), indent=1) + "\n")
    print(path.name, path.read_text())


if __name__ == "__main__":
    main()
