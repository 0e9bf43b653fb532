"""LayerCAM of pytorch-grad-cam, and the gradients of a score for SE gates, on the small networks of layouts.py.

Run from the repository's root, after layouts.py:  python tests/oracle/explanation.py
Needs torch, torchvision, timm and grad-cam as in requirements.txt. Writes tests/fixtures/explanation.safetensors.

The maps are those of pytorch-grad-cam's `LayerCAM.get_cam_image`, before it divides them by their largest value and
resizes them. The scores are probabilities: `ClassifierOutputSoftmaxTarget` for classifiers, and for the torchvision
detector (the weights of layouts/torchvision_old_detector.pth) the `scores` of its output, which are those of proposals
that torchvision detaches. The images are written by a formula that the test repeats.

- `CASE.score`, `CASE.C2` ... `CASE.C5`: torchvision_basic and timm_seresnet, class 1.
- `timm_seresnet.layerS.B.se`: the gradient for the output of the sigmoid of that SE module.
- `detector.boxes`, `.labels`, `.scores`: all detections; `detector.N.LAYER`: the maps of two of them, with zeros in
  the levels of the pyramid that the detection is not pooled from.
"""

import safetensors.torch
import torch
from pytorch_grad_cam import LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torchvision.models import resnet as torchvision_resnet
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FrozenBatchNorm2d

import common
from layouts import FOLDER, networks
from tiny_faster_rcnn import CLASSES, FPN_CHANNELS, LEVELS, WIDTH
from tiny_resnet import TinyResNet

CLASS = 1
SHOWN = (0, 40)  # a high and a low score
CLASSIFIER_SIZE = (96, 128)
DETECTOR_SIZE = (192, 288)
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def image(height, width):
    """Rings and stripes, 0 to 255, by whole numbers only."""
    c = torch.arange(3)[:, None, None]
    y = torch.arange(height)[None, :, None]
    x = torch.arange(width)[None, None, :]
    rings = ((x - 60 - 20 * c) ** 2 + (y - 50) ** 2) // 40
    return ((rings + x * (c + 1) + y * (3 - c)) % 256).float() / 255


class RawLayerCam(LayerCAM):
    """Keeps the map of its only layer as pytorch-grad-cam computes it."""

    def get_cam_image(self, *arguments):
        raw = super().get_cam_image(*arguments)
        self.raw = torch.from_numpy(raw).clamp(min=0)
        return raw


def layer_cam(model, layer, x, target):
    with RawLayerCam(model, [layer]) as cam:
        cam(x, [target])
        return cam.raw[0]


def classifier_case(out, file_name, network):
    case = file_name.split(".")[0]
    state = torch.load(FOLDER / file_name, weights_only=True)
    state = {name.removeprefix("module."): value for name, value in state.get("state_dict", state).items()}
    network.body.load_state_dict(state)
    network.eval()
    x = ((image(*CLASSIFIER_SIZE) - MEAN) / STD)[None]
    for n in range(4):
        layer = getattr(network.body, f"layer{n + 1}")
        out[f"{case}.C{n + 2}"] = layer_cam(network, layer, x, ClassifierOutputSoftmaxTarget(CLASS))
    gates = {name.removesuffix(".gate"): m for name, m in network.body.named_modules() if name.endswith(".se.gate")}
    kept = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: kept.update({name: output}) or output.retain_grad())
        for name, module in gates.items()
    ]
    score = network(x).softmax(1)[0, CLASS]
    score.backward()
    for hook in hooks:
        hook.remove()
    out[f"{case}.score"] = score
    out.update({f"{case}.{name}": output.grad for name, output in kept.items()})
    print(case, f"score {score.item():.4f}", [f"{out[f'{case}.C{n}'].max().item():.2e}" for n in range(2, 6)])


def detector():
    tensors = safetensors.torch.load_file(common.FIXTURES / "faster_rcnn.safetensors")
    state = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    body = TinyResNet(torchvision_resnet.BasicBlock, WIDTH, norm_layer=FrozenBatchNorm2d)
    backbone = BackboneWithFPN(
        body,
        return_layers={f"layer{i + 1}": level for i, level in enumerate(LEVELS)},
        in_channels_list=[WIDTH * 2**i for i in range(4)],
        out_channels=FPN_CHANNELS,
    )
    model = FasterRCNN(
        backbone,
        min_size=min(DETECTOR_SIZE),
        max_size=max(DETECTOR_SIZE),
        box_head=TwoMLPHead(FPN_CHANNELS * 7 * 7, 32),
        box_predictor=FastRCNNPredictor(32, CLASSES),
    )
    model.load_state_dict(state)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0  # that of files with the old names
    return model.eval()


def pooled_levels(model, x):
    """For each detection the index of the level, 0 for P2, that its proposal is pooled from."""
    seen = []
    hooks = [block.register_forward_hook(lambda *call: seen.append(call[-1])) for block in model.backbone.fpn.layer_blocks]
    (found,) = model(x)
    for hook in hooks:
        hook.remove()
    seen.reverse()  # the coarsest level is computed first
    largest = []
    for score in found["scores"]:
        gradients = torch.autograd.grad(score, seen, retain_graph=True)
        largest.append(int(torch.stack([g.abs().max() for g in gradients]).argmax()))
    return largest


class BoxScore:
    """The score of one detection."""

    def __init__(self, number):
        self.number = number

    def __call__(self, output):
        return output["scores"][self.number]


def detector_case(out):
    model = detector()
    x = image(*DETECTOR_SIZE)[None]
    with torch.no_grad():
        (found,) = model(x)
    out.update({f"detector.{key}": found[key] for key in ("boxes", "labels", "scores")})
    layers = {f"C{n + 2}": model.backbone.body[f"layer{n + 1}"] for n in range(4)}
    layers |= {f"P{n + 2}": model.backbone.fpn.layer_blocks[n] for n in range(4)}
    pooled = pooled_levels(model, x)
    for number in SHOWN:
        level = pooled[number]
        cams = {name: layer_cam(model, layer, x, BoxScore(number)) for name, layer in layers.items()}
        assert all((cams[f"P{n + 2}"].max() > 0) == (n == level) for n in range(4))
        out.update({f"detector.{number}.{name}": cam for name, cam in cams.items()})
        largest = {name: f"{cam.max().item():.1e}" for name, cam in cams.items()}
        print(f"detection {number}: score {found['scores'][number]:.4f}, {largest}")
    print(len(found["scores"]), "detections", found["scores"][:8].tolist())


def main():
    common.seed(0)
    out = {}
    for name, network, _, _ in networks():
        if name in ("torchvision_basic.pth", "timm_seresnet.pt"):
            classifier_case(out, name, network)
    detector_case(out)
    common.save("explanation.safetensors", out)


if __name__ == "__main__":
    main()
