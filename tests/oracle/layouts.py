"""Small networks in the layouts of other libraries, as checkpoint files with their outputs.

Run from the repository's root:  python tests/oracle/layouts.py
Needs torch, torchvision and timm as in requirements.txt. Writes tests/fixtures/layouts/: one weight file per case and
outputs.safetensors with `input_HEIGHTxWIDTH` and `CASE.logits`.

Blocks are the libraries' own wherever they can be installed; the containers around them are written here, because the
libraries fix the widths. moskomule's, mmpretrain's and akamaster's networks are written here from their published
descriptions, with their names. Input sizes are odd, so that a wrong pooling or stride is detected.
"""

from collections import OrderedDict
from functools import partial

import numpy
import safetensors.torch
import torch
from timm.layers import BlurPool2d, SEModule
from timm.models import resnet as timm_resnet
from timm.models import senet as timm_senet
from torch import nn
from torch.nn import functional
from torchvision.models import resnet as torchvision_resnet

import common
from tiny_resnet import TinyResNet, TinySeResNet, randomise

FOLDER = common.FIXTURES / "layouts"
CLASSES = 5
WIDTH = 4
EVEN_SIZE = (64, 96)
# timm's SE unit with the reduction of ResNet-RS.
RS_UNIT = partial(SEModule, rd_ratio=0.25)


class WithHead(nn.Module):
    """A body whose last feature map is averaged and classified by a layer of the given name."""

    def __init__(self, body, channels, head):
        super().__init__()
        self.body = body
        self.head_name = head
        self.body.add_module(head, nn.Linear(channels, CLASSES))

    def forward(self, x):
        maps = type(self.body).forward(self.body, x)
        last = maps[-1] if isinstance(maps, list) else maps
        return getattr(self.body, self.head_name)(last.mean((2, 3)))

    def state_dict(self, *args, **kwargs):
        return self.body.state_dict(*args, **kwargs)


class LegacySeNet(nn.Module):
    """Cadene's container: layer0 with a pooling of ceil mode, then four stages of timm's own legacy blocks."""

    def __init__(self, block, groups, reduction, deep=False, kernel=1, expansion=4):
        super().__init__()
        self.expansion = expansion
        if deep:
            channels = [WIDTH, WIDTH, 2 * WIDTH]
            layers = []
            previous = 3
            for n, c in enumerate(channels, 1):
                stride = 2 if n == 1 else 1
                layers.append((f"conv{n}", nn.Conv2d(previous, c, 3, stride=stride, padding=1, bias=False)))
                layers += [(f"bn{n}", nn.BatchNorm2d(c)), (f"relu{n}", nn.ReLU(inplace=True))]
                previous = c
        else:
            previous = WIDTH
            layers = [("conv1", nn.Conv2d(3, WIDTH, 7, stride=2, padding=3, bias=False))]
            layers += [("bn1", nn.BatchNorm2d(WIDTH)), ("relu1", nn.ReLU(inplace=True))]
        self.layer0 = nn.Sequential(OrderedDict(layers))
        self.pool0 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        for stage in range(4):
            planes, stride = WIDTH * 2**stage, 1 if stage == 0 else 2
            out = planes * expansion
            down = None
            if stride != 1 or previous != out:
                k = 1 if stage == 0 else kernel
                conv = nn.Conv2d(previous, out, k, stride=stride, padding=k // 2, bias=False)
                down = nn.Sequential(conv, nn.BatchNorm2d(out))
            # timm's arguments: inplanes, planes, groups, reduction, stride, downsample.
            blocks = [block(previous, planes, groups, reduction, stride, down)]
            if stage == 1:
                blocks.append(block(out, planes, groups, reduction))
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            previous = out

    def forward(self, x):
        x = self.pool0(self.layer0(x))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x


class MoskomuleSe(nn.Module):
    """Two linear layers without biases, under the names fc.0 and fc.2."""

    def __init__(self, channels, reduction):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class MoskomuleBottleneck(torchvision_resnet.Bottleneck):
    def __init__(self, inplanes, planes, *args, **kwargs):
        super().__init__(inplanes, planes, *args, **kwargs)
        self.se = MoskomuleSe(planes * 4, 8)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.se(self.bn3(self.conv3(out)))
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu(out + identity)


class CifarNet(nn.Module):
    """He et al.'s CIFAR network; option A pads the shortcut with zeros on both sides (akamaster), option B projects it
    (chenyaofo, and with four stages kuangliu)."""

    def __init__(self, option, blocks, stages=3):
        super().__init__()
        self.option = option
        self.stages = stages
        self.conv1 = nn.Conv2d(3, WIDTH, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        previous = WIDTH
        for stage in range(stages):
            planes = WIDTH * 2**stage
            layers = []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                down = None
                if option == "B" and (stride != 1 or previous != planes):
                    conv = nn.Conv2d(previous, planes, 1, stride=stride, bias=False)
                    down = nn.Sequential(conv, nn.BatchNorm2d(planes))
                layers.append(torchvision_resnet.BasicBlock(previous, planes, stride, down))
                previous = planes
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))

    def block(self, block, x):
        if self.option == "B" or block.conv1.in_channels == block.conv1.out_channels:
            return block(x)
        out = functional.relu(block.bn1(block.conv1(x)))
        out = block.bn2(block.conv2(out))
        quarter = block.conv2.out_channels // 4
        return functional.relu(out + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter)))

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            for block in getattr(self, f"layer{stage + 1}"):
                x = self.block(block, x)
        return x


class DeepTimm(nn.Module):
    """timm's own ResNet-D: deep stem, average pooling in the shortcuts."""

    def __init__(self, block=timm_resnet.Bottleneck, layers=(1, 2, 1, 1), attention="se", **options):
        super().__init__()
        self.net = timm_resnet.ResNet(
            block,
            layers,
            num_classes=CLASSES,
            channels=tuple(WIDTH * 2**stage for stage in range(4)),
            stem_type="deep",
            stem_width=WIDTH,
            avg_down=True,
            block_args={"attn_layer": attention},
            **options,
        )

    def forward(self, x):
        return self.net(x)

    def state_dict(self, *args, **kwargs):
        return self.net.state_dict(*args, **kwargs)


def widen(network):
    """Statistics for the norms, as in the other oracles, and larger logits."""
    randomise(network)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (timm_senet.SEModule, MoskomuleSe)):
                for name, parameter in module.named_parameters():
                    parameter.normal_(0, 0.5) if name.endswith("bias") else parameter.mul_(2)
    return network


def mmpretrain_names(state):
    out = {}
    for name, tensor in state.items():
        if name.startswith("fc."):
            out[f"head.{name}"] = tensor
        else:
            name = name.replace(".se.fc1.", ".se_layer.conv1.conv.").replace(".se.fc2.", ".se_layer.conv2.conv.")
            out[f"backbone.{name}"] = tensor
    return out


def cases():
    """name, network, input size, function that writes the file."""

    def zipped(state, path):
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)

    def legacy(state, path):
        torch.save(state, path, _use_new_zipfile_serialization=False)

    def ema(state, path):
        broken = {k: torch.zeros_like(v) for k, v in state.items()}
        torch.save({"state_dict": broken, "state_dict_ema": state}, path)

    def half(state, path):
        torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)

    def npz(state, path):
        numpy.savez(path, **{k: v.numpy() for k, v in state.items()})

    def safe(state, path):
        safetensors.torch.save_file(state, path)

    def shortcut(state, path):
        zipped({k.replace("downsample", "shortcut"): v for k, v in state.items()}, path)

    def mmpretrain(state, path):
        torch.save({"meta": {"mmpretrain_version": "1.2.0"}, "state_dict": mmpretrain_names(state)}, path)

    basic, bottleneck = torchvision_resnet.BasicBlock, torchvision_resnet.Bottleneck
    timm_bottleneck = timm_resnet.Bottleneck
    out = WIDTH * 8
    size = (75, 103)
    yield "torchvision_basic.pth", WithHead(TinyResNet(basic, WIDTH), out, "fc"), size, zipped
    resnext = TinyResNet(bottleneck, WIDTH, groups=4, width_per_group=32)
    yield "torchvision_resnext.safetensors", WithHead(resnext, 4 * out, "fc"), size, safe
    seresnet = TinySeResNet(timm_bottleneck, WIDTH, 16)
    yield "timm_seresnet.pt", WithHead(seresnet, 4 * out, "fc"), size, legacy
    yield "timm_seresnet_d.pth", DeepTimm(), size, ema
    cadene = LegacySeNet(timm_senet.SEResNetBottleneck, 1, 16)
    yield "cadene_seresnet.pth", WithHead(cadene, 4 * out, "last_linear"), size, legacy
    senet = LegacySeNet(timm_senet.SEBottleneck, 4, 16, deep=True, kernel=3)
    yield "cadene_senet.npz", WithHead(senet, 4 * out, "last_linear"), size, npz
    legacy18 = LegacySeNet(timm_senet.SEResNetBlock, 1, 4, expansion=1)
    yield "cadene_seresnet18.pth", WithHead(legacy18, out, "last_linear"), size, legacy
    moskomule = TinyResNet(MoskomuleBottleneck, WIDTH)
    yield "moskomule_seresnet.pkl", WithHead(moskomule, 4 * out, "fc"), size, legacy
    yield "mmpretrain_seresnet.pth", WithHead(TinySeResNet(timm_bottleneck, WIDTH, 16), 4 * out, "fc"), size, mmpretrain
    yield "akamaster_resnet.th", WithHead(CifarNet("A", 2), WIDTH * 4, "linear"), (32, 32), zipped
    yield "chenyaofo_resnet.pt", WithHead(CifarNet("B", 2), WIDTH * 4, "fc"), (32, 32), half
    yield "kuangliu_resnet.pth", WithHead(CifarNet("B", 1, stages=4), WIDTH * 8, "linear"), (32, 32), shortcut
    # The names of the files tell what the tensors do not. timm's average pooling needs even sizes.
    one = (1, 1, 1, 1)
    aa = DeepTimm(timm_resnet.BasicBlock, one, attention=None, aa_layer=nn.AvgPool2d)
    yield "resnetaa10d.safetensors", aa, EVEN_SIZE, safe
    yield "seresnetaa14d.pth", DeepTimm(layers=one, aa_layer=nn.AvgPool2d), EVEN_SIZE, legacy
    yield "resnetblur14d.pth", DeepTimm(layers=one, attention=None, aa_layer=BlurPool2d), size, zipped
    yield "resnetrs14.safetensors", DeepTimm(layers=one, attention=RS_UNIT, replace_stem_pool=True), size, safe


def old_detector_file():
    """The small torchvision detector of faster_rcnn.safetensors (run faster_rcnn.py first) under the names that
    torchvision had before 0.13."""
    tensors = safetensors.torch.load_file(common.FIXTURES / "faster_rcnn.safetensors")
    state = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    old = {}
    for name, value in state.items():
        old_name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        if ".fpn." in name:
            old_name = name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        old[old_name] = value
    path = FOLDER / "torchvision_old_detector.pth"
    torch.save(old, path)
    path.chmod(0o644)
    print(path.name, path.stat().st_size // 1024, "KiB")


def networks():
    """file name, network in evaluation mode, its input, function that writes the file."""
    common.seed(99)
    inputs = {size: torch.randn(1, 3, *size) for size in ((75, 103), (32, 32))}
    # From a generator of its own: the next random numbers are weights of the first network.
    inputs[EVEN_SIZE] = torch.randn(1, 3, *EVEN_SIZE, generator=torch.Generator().manual_seed(98))
    for number, (name, network, size, write) in enumerate(cases()):
        common.seed(100 + number)
        widen(network).eval()
        if write.__name__ == "half":
            network.half().float()
        yield name, network, inputs[size], write


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    outputs = {}
    for name, network, x, write in networks():
        height, width = x.shape[2:]
        outputs[f"input_{height}x{width}"] = x
        with torch.no_grad():
            logits = network(x)
        case = name.split(".")[0]
        outputs[f"{case}.logits"] = logits
        path = FOLDER / name
        write({k: v.contiguous().clone() for k, v in network.state_dict().items()}, path)
        path.chmod(0o644)
        print(name, path.stat().st_size // 1024, "KiB", [round(v, 3) for v in logits[0].tolist()])
    path = FOLDER / "outputs.safetensors"
    safetensors.torch.save_file(outputs, path)
    path.chmod(0o644)
    old_detector_file()


if __name__ == "__main__":
    main()
