"""Reference numbers for the backbones: feature maps of narrow networks, gradients, and the parameter counts of
the full-size networks.

Run from the repository's root:  python tests/oracle/backbones.py
Needs torch, torchvision and timm as in requirements.txt. Writes tests/fixtures/backbones.safetensors and
tests/fixtures/parameter_counts.json.
"""

import json
from functools import partial

import timm
import torch
from timm.layers import SEModule
from timm.models import resnet as timm_resnet
from torchvision.models import resnet as torchvision_resnet

import common
from tiny_resnet import TinyResNet, TinySeResNet, randomise, weights

FULL_SIZE = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "seresnet18",
    "seresnet34",
    "seresnet50",
    "seresnet101",
    "seresnet152",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "seresnext50_32x4d",
    "seresnext101_32x4d",
]


def store_weights(out, prefix, network):
    for name, tensor in weights(network).items():
        out[f"{prefix}.{name}"] = tensor


def store_maps(out, prefix, network, x):
    """C2..C5 in eval mode (running statistics)."""
    network.eval()
    for stage, feature in zip((2, 3, 4, 5), network(x)):
        out[f"{prefix}.c{stage}"] = feature


def same_weights_without_se(plain, with_se):
    """Loads the weights of timm's network into torchvision's: the keys are the same but for `se`."""
    missing, unexpected = plain.load_state_dict(with_se.state_dict(), strict=False)
    assert not missing and all(".se." in key for key in unexpected), (missing, unexpected)
    return plain


def residual_cases():
    """Plain and SE networks share their weights: the plain network ignores the `se` keys."""
    out = {}
    common.seed(1)
    x = torch.randn(1, 3, 65, 83)
    out["input"] = x
    for name, reduction, timm_block, torchvision_block in (
        ("basic", 4, timm_resnet.BasicBlock, torchvision_resnet.BasicBlock),
        ("bottleneck", 16, timm_resnet.Bottleneck, torchvision_resnet.Bottleneck),
    ):
        common.seed(10)
        with_se = randomise(TinySeResNet(timm_block, width=4, reduction=reduction))
        plain = same_weights_without_se(TinyResNet(torchvision_block, width=4), with_se)
        store_weights(out, f"{name}_weights", with_se)
        store_maps(out, f"{name}", plain, x)
        store_maps(out, f"{name}_se", with_se, x)
    common.seed(3)
    grouped = randomise(TinyResNet(torchvision_resnet.Bottleneck, width=4, groups=4, width_per_group=32))
    store_weights(out, "resnext_weights", grouped)
    store_maps(out, "resnext", grouped, x)
    # The gradients of the SE bottleneck network (`with_se` is the last one built: bottleneck).
    store_gradients(out, "bottleneck_se", with_se, x)
    return out


def store_gradients(out, prefix, network, x):
    """Gradients of the sum over C2..C5 of (feature map * fixed weights), in eval mode, for every parameter."""
    common.seed(4)
    network.zero_grad()
    maps = network(x)
    cotangents = [torch.randn_like(feature) for feature in maps]
    loss = sum((feature * weight).sum() for feature, weight in zip(maps, cotangents))
    loss.backward()
    out[f"{prefix}_grad.loss"] = loss
    for stage, cotangent in zip((2, 3, 4, 5), cotangents):
        out[f"{prefix}_grad.weight_map_c{stage}"] = cotangent
    for name, parameter in network.named_parameters():
        out[f"{prefix}_grad.{name}"] = parameter.grad


def se_unit_case():
    """timm's SE module alone: 32 channels, 2 in the squeeze."""
    common.seed(5)
    unit = SEModule(32, rd_ratio=1 / 16, rd_divisor=1)
    torch.nn.init.uniform_(unit.fc1.bias, 0.2, 0.5)
    x = torch.randn(2, 32, 5, 7, requires_grad=True)
    cotangent = torch.randn(2, 32, 5, 7)
    with common.recorded_outputs({"gate": unit.gate}) as seen:
        y = unit(x)
    (y * cotangent).sum().backward()
    out = {"se_unit.input": x, "se_unit.gate": seen["gate"], "se_unit.output": y, "se_unit.output_weight": cotangent}
    out["se_unit.input_grad"] = x.grad
    for name, parameter in unit.named_parameters():
        out[f"se_unit.{name}"] = parameter
        out[f"se_unit.{name}_grad"] = parameter.grad
    return out


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def parameter_counts():
    """timm rounds the squeeze up to a multiple of 8, which changes seresnet18 and 34 (64 channels: 8, not 4); the
    `exact_reduction` counts have squeeze = channels / 16, as in the paper."""
    counts = {}
    with torch.device("meta"):
        for name in FULL_SIZE:
            network = timm.create_model(name)
            entry = {"with_head_1000": count(network), "without_head": count(timm.create_model(name, num_classes=0))}
            if name.startswith("se"):
                exact = dict(attn_layer=partial(SEModule, rd_ratio=1 / 16, rd_divisor=1))
                entry["exact_reduction_with_head_1000"] = count(timm.create_model(name, block_args=exact))
                entry["exact_reduction_without_head"] = count(
                    timm.create_model(name, block_args=exact, num_classes=0)
                )
            counts[name] = entry
    return counts


def main():
    common.save("backbones.safetensors", {**residual_cases(), **se_unit_case()})
    path = common.FIXTURES / "parameter_counts.json"
    path.write_text(json.dumps({"made_with": f"timm {timm.__version__}", "networks": parameter_counts()}, indent=1) + "\n")
    print(path.name)


if __name__ == "__main__":
    main()
