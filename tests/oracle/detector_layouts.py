"""detectron2's and mmdetection's Faster R-CNN: files as written by those libraries, and their detections.

Run from the repository's root:  python tests/oracle/detector_layouts.py
Writes tests/fixtures/layouts/{detectron2,mmdetection,mmdetection_caffe}_detector.* and detectors.safetensors, and
{detectron2,mmdetection}_agnostic_detector.* with agnostic_detectors.safetensors (only these with the argument
`agnostic`).

Neither library is on the package index, so the networks are written here from their published sources ("by
formula"), with their names as the modules' own: detectron2 keeps a norm inside its convolution and numbers stages
from res2; mmdetection has torchvision's names in the backbone. Common to both: anchors that are not
rounded and not shifted, RoIAlign that is aligned and samples adaptively, box deltas without a background, whose
class is the last. detectron2 ranks proposals by their logits, mmdetection by their probabilities. Only roi_align and nms
are torchvision's.

Anchors over the padding have equal scores, and rounding decides which comes first. So networks are chosen whose
detections do not depend on it: the runs are repeated in float64 with weights and scores that differ a little.
"""

import copy
import math
import pickle
import sys

import numpy
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import batched_nms, roi_align

import common
from tiny_resnet import randomise

FOLDER = common.FIXTURES / "layouts"
PLANES = 2
FPN = 8
HIDDEN = 16
CLASSES = 3
HEIGHT, WIDTH = 203, 317
CAFFE_MEAN = (103.53, 116.28, 123.675)
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class ConvWithNorm(nn.Conv2d):
    """detectron2's Conv2d, which contains its norm."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, bias=False, **kwargs)
        self.norm = nn.BatchNorm2d(self.out_channels)

    def forward(self, x):
        return self.norm(super().forward(x))


class Detectron2Block(nn.Module):
    """STRIDE_IN_1X1 is detectron2's default."""

    def __init__(self, channels, planes, stride):
        super().__init__()
        self.conv1 = ConvWithNorm(channels, planes, 1, stride=stride)
        self.conv2 = ConvWithNorm(planes, planes, 3, padding=1)
        self.conv3 = ConvWithNorm(planes, 4 * planes, 1)
        if stride != 1 or channels != 4 * planes:
            self.shortcut = ConvWithNorm(channels, 4 * planes, 1, stride=stride)

    def forward(self, x):
        out = self.conv3(self.conv2(self.conv1(x).relu()).relu())
        return (out + (self.shortcut(x) if hasattr(self, "shortcut") else x)).relu()


class MmdetectionBlock(nn.Module):
    """Stride in the 3x3 (style pytorch) or in the first 1x1 (style caffe)."""

    def __init__(self, channels, planes, stride, style):
        super().__init__()
        first, second = (1, stride) if style == "pytorch" else (stride, 1)
        self.conv1 = nn.Conv2d(channels, planes, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        if stride != 1 or channels != 4 * planes:
            shortcut = nn.Conv2d(channels, 4 * planes, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * planes))

    def forward(self, x):
        out = self.bn1(self.conv1(x)).relu()
        out = self.bn3(self.conv3(self.bn2(self.conv2(out)).relu()))
        return (out + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


def stages(block, first_name):
    channels = PLANES
    for stage in range(4):
        planes, stride = PLANES * 2**stage, 1 if stage == 0 else 2
        blocks = [block(channels, planes, stride)]
        channels = 4 * planes
        if stage == 1:
            blocks.append(block(channels, planes, 1))
        name, number = first_name
        yield f"{name}{stage + number}", nn.Sequential(*blocks)


def named(module, **children):
    for name, child in children.items():
        module.add_module(name, child)
    return module


class Detectron2(nn.Module):
    """`regressors` is 1 where all classes share their box deltas (CLS_AGNOSTIC_BBOX_REG)."""

    def __init__(self, regressors=CLASSES):
        super().__init__()
        bottom_up = named(nn.Module(), stem=named(nn.Module(), conv1=ConvWithNorm(3, PLANES, 7, stride=2, padding=3)))
        for name, stage in stages(Detectron2Block, ("res", 2)):
            bottom_up.add_module(name, stage)
        self.backbone = named(nn.Module(), bottom_up=bottom_up)
        for level in range(4):
            self.backbone.add_module(f"fpn_lateral{level + 2}", nn.Conv2d(4 * PLANES * 2**level, FPN, 1))
            self.backbone.add_module(f"fpn_output{level + 2}", nn.Conv2d(FPN, FPN, 3, padding=1))
        head = named(
            nn.Module(),
            conv=nn.Conv2d(FPN, FPN, 3, padding=1),
            objectness_logits=nn.Conv2d(FPN, 3, 1),
            anchor_deltas=nn.Conv2d(FPN, 12, 1),
        )
        self.proposal_generator = named(nn.Module(), rpn_head=head)
        self.roi_heads = named(
            nn.Module(),
            box_head=named(nn.Module(), fc1=nn.Linear(FPN * 49, HIDDEN), fc2=nn.Linear(HIDDEN, HIDDEN)),
            box_predictor=named(
                nn.Module(), cls_score=nn.Linear(HIDDEN, CLASSES + 1), bbox_pred=nn.Linear(HIDDEN, 4 * regressors)
            ),
        )

    def pixels(self, image):
        """BGR, Caffe's mean, no standard deviation."""
        return image.flip(0) - torch.tensor(CAFFE_MEAN)[:, None, None]

    def maps(self, x):
        body = self.backbone.bottom_up
        x = functional.max_pool2d(body.stem.conv1(x).relu(), 3, stride=2, padding=1)
        out = []
        for stage in (body.res2, body.res3, body.res4, body.res5):
            x = stage(x)
            out.append(x)
        return out

    def parts(self):
        laterals = [getattr(self.backbone, f"fpn_lateral{n}") for n in range(2, 6)]
        outputs = [getattr(self.backbone, f"fpn_output{n}") for n in range(2, 6)]
        head, roi = self.proposal_generator.rpn_head, self.roi_heads
        rpn = (head.conv, head.objectness_logits, head.anchor_deltas)
        box = (roi.box_head.fc1, roi.box_head.fc2, roi.box_predictor.cls_score, roi.box_predictor.bbox_pred)
        return laterals, outputs, rpn, box


class Mmdetection(nn.Module):
    """`regressors` is 1 for `reg_class_agnostic`."""

    def __init__(self, style, regressors=CLASSES):
        super().__init__()
        self.style = style
        self.backbone = named(
            nn.Module(), conv1=nn.Conv2d(3, PLANES, 7, stride=2, padding=3, bias=False), bn1=nn.BatchNorm2d(PLANES)
        )
        for name, stage in stages(lambda *a: MmdetectionBlock(*a, style), ("layer", 1)):
            self.backbone.add_module(name, stage)

        def conv_module(*args, **kwargs):
            return named(nn.Module(), conv=nn.Conv2d(*args, **kwargs))

        self.neck = named(
            nn.Module(),
            lateral_convs=nn.ModuleList([conv_module(4 * PLANES * 2**level, FPN, 1) for level in range(4)]),
            fpn_convs=nn.ModuleList([conv_module(FPN, FPN, 3, padding=1) for _ in range(4)]),
        )
        self.rpn_head = named(
            nn.Module(),
            rpn_conv=nn.Conv2d(FPN, FPN, 3, padding=1),
            rpn_cls=nn.Conv2d(FPN, 3, 1),
            rpn_reg=nn.Conv2d(FPN, 12, 1),
        )
        bbox_head = named(
            nn.Module(),
            shared_fcs=nn.ModuleList([nn.Linear(FPN * 49, HIDDEN), nn.Linear(HIDDEN, HIDDEN)]),
            fc_cls=nn.Linear(HIDDEN, CLASSES + 1),
            fc_reg=nn.Linear(HIDDEN, 4 * regressors),
        )
        self.roi_head = named(nn.Module(), bbox_head=bbox_head)

    def pixels(self, image):
        if self.style == "caffe":
            return image.flip(0) - torch.tensor(CAFFE_MEAN)[:, None, None]
        mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (image - mean) / std

    def maps(self, x):
        body = self.backbone
        x = functional.max_pool2d(body.bn1(body.conv1(x)).relu(), 3, stride=2, padding=1)
        out = []
        for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
            x = stage(x)
            out.append(x)
        return out

    def parts(self):
        laterals = [module.conv for module in self.neck.lateral_convs]
        outputs = [module.conv for module in self.neck.fpn_convs]
        head, box = self.rpn_head, self.roi_head.bbox_head
        return laterals, outputs, (head.rpn_conv, head.rpn_cls, head.rpn_reg), (*box.shared_fcs, box.fc_cls, box.fc_reg)


def decode(anchors, deltas, weights, limit):
    """Boxes from deltas; dw and dh are at most log(1000 / 16). Clipped to the image."""
    widths, heights = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    x, y = anchors[:, 0] + widths / 2, anchors[:, 1] + heights / 2
    dx, dy, dw, dh = (deltas / torch.tensor(weights, dtype=deltas.dtype)).unbind(1)
    most = math.log(1000 / 16)
    x, y = x + dx * widths, y + dy * heights
    w, h = widths * dw.clamp(max=most).exp(), heights * dh.clamp(max=most).exp()
    height, width = limit
    corners = [(x - w / 2).clamp(0, width), (y - h / 2).clamp(0, height)]
    corners += [(x + w / 2).clamp(0, width), (y + h / 2).clamp(0, height)]
    return torch.stack(corners, 1)


def anchors_of(size, stride, height, width, dtype):
    cell = []
    for ratio in (0.5, 1.0, 2.0):
        w = math.sqrt(size * size / ratio)
        h = w * ratio
        cell.append([-w / 2, -h / 2, w / 2, h / 2])
    y, x = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
    shifts = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
    return (shifts + torch.tensor(cell)[None]).reshape(-1, 4).to(dtype)


def detect(model, image, noise=0.0):
    """`noise` is added to the objectness, to check whether the order of ties matters."""
    dtype = next(model.parameters()).dtype
    x = model.pixels(image.float()).to(dtype)
    x = functional.pad(x, (0, -WIDTH % 32, 0, -HEIGHT % 32))[None]
    laterals, outputs, (conv, logits_of, deltas_of), (fc1, fc2, cls_score, bbox_pred) = model.parts()
    maps = model.maps(x)
    inner = [lateral(c) for lateral, c in zip(laterals, maps)]
    for level in (2, 1, 0):
        inner[level] = inner[level] + functional.interpolate(inner[level + 1], scale_factor=2, mode="nearest")
    pyramid = [output(p) for output, p in zip(outputs, inner)]
    pyramid.append(functional.max_pool2d(pyramid[-1], 1, stride=2))

    boxes, scores, levels = [], [], []
    for level, p in enumerate(pyramid):
        t = conv(p).relu()
        logits = logits_of(t)[0].permute(1, 2, 0).flatten()
        deltas = deltas_of(t)[0].reshape(3, 4, *p.shape[2:]).permute(2, 3, 0, 1).reshape(-1, 4)
        anchors = anchors_of(32 * 2**level, 4 * 2**level, *p.shape[2:], dtype)
        logits = logits + noise * torch.randn_like(logits)
        top, order = logits.topk(min(1000, len(logits)))
        boxes.append(decode(anchors[order], deltas[order], (1, 1, 1, 1), (HEIGHT, WIDTH)))
        scores.append(top.sigmoid() if isinstance(model, Mmdetection) else top)
        levels.append(torch.full_like(order, level))
    boxes, scores, levels = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
    valid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, levels = boxes[valid], scores[valid], levels[valid]
    proposals = boxes[batched_nms(boxes, scores, levels, 0.7)[:1000]]

    sides = ((proposals[:, 2] - proposals[:, 0]) * (proposals[:, 3] - proposals[:, 1])).sqrt()
    if isinstance(model, Mmdetection):
        level_of = (sides / 56 + 1e-6).log2().floor().clamp(0, 3).long()
    else:
        level_of = (4 + (sides / 224 + 1e-8).log2()).floor().clamp(2, 5).long() - 2
    pooled = torch.zeros(len(proposals), FPN, 7, 7, dtype=dtype)
    for level in range(4):
        mine = level_of == level
        scale = 1 / (4 * 2**level)
        pooled[mine] = roi_align(pyramid[level], [proposals[mine]], 7, scale, sampling_ratio=-1, aligned=True)
    t = fc2(fc1(pooled.flatten(1)).relu()).relu()
    probabilities = cls_score(t).softmax(1)[:, :-1]
    deltas = bbox_pred(t).reshape(len(proposals), -1, 4).expand(-1, CLASSES, 4)
    found = [decode(proposals, deltas[:, c], (10, 10, 5, 5), (HEIGHT, WIDTH)) for c in range(CLASSES)]
    found = torch.stack(found, 1)
    rows, labels = (probabilities > 0.05).nonzero(as_tuple=True)
    boxes, scores = found[rows, labels], probabilities[rows, labels]
    keep = batched_nms(boxes, scores, labels, 0.5)[:100]
    return {"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]}


def initialise(model):
    randomise(model)
    laterals, outputs, (conv, logits, deltas), (fc1, fc2, cls_score, bbox_pred) = model.parts()
    with torch.no_grad():
        for module in (*laterals, *outputs, conv, logits, deltas, fc1, fc2, cls_score, bbox_pred):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            module.bias.normal_(0, 0.1)
        deltas.weight.mul_(0.2)
        cls_score.weight.mul_(SCORES)
        # BGR without a standard deviation: the inputs of the stem are about fifty times larger.
        if not (isinstance(model, Mmdetection) and model.style == "pytorch"):
            stem = model.backbone.conv1 if isinstance(model, Mmdetection) else model.backbone.bottom_up.stem.conv1
            stem.weight.mul_(1 / 57)


SCORES = 1.5


def picture():
    coarse = torch.rand(1, 3, HEIGHT // 16, WIDTH // 16)
    image = functional.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bicubic")[0]
    return (255 * (image + 0.05 * torch.randn_like(image)).clamp(0, 1)).round().to(torch.uint8)


def agree(found, other):
    return (
        torch.equal(found["labels"], other["labels"]) and (found["boxes"] - other["boxes"]).abs().max() < 5e-3
        if len(found["scores"]) == len(other["scores"])
        else False
    )


def is_stable(model, image):
    """The detections, if scores differ, and float64 and slightly perturbed weights give the same decisions."""
    with torch.no_grad():
        found = detect(model, image)
        scores, labels = found["scores"], found["labels"]
        if not 8 <= len(scores) <= 90 or len(labels.unique()) < CLASSES:
            return None
        if scores.diff().abs().min() < 5e-5 or scores[-1] < 0.0505:
            return None
        for _ in range(5):
            nudged = copy.deepcopy(model).double()
            for parameter in nudged.parameters():
                parameter.mul_(1 + 1e-6 * torch.randn_like(parameter))
            if not agree(found, detect(nudged, image, noise=1e-5)):
                return None
    return found


def chosen(build, image, start):
    """The first seed whose network detects a few objects of every class and makes no decision by rounding."""
    for number in range(start, start + 3000):
        common.seed(number)
        model = build().eval()
        initialise(model)
        found = is_stable(model, image)
        if found is not None:
            print(f"seed {number}: {len(found['scores'])} detections, scores {found['scores'][0]:.3f} and less")
            return model, found
    raise SystemExit("no seed gives a stable network")


def save_detector(name, model):
    state = {key: value.clone() for key, value in model.state_dict().items()}
    if isinstance(model, Detectron2):
        state = {key: value.numpy() for key, value in state.items() if "num_batches" not in key}
        path = FOLDER / f"{name}_detector.pkl"
        with open(path, "wb") as file:
            pickle.dump({"model": state, "__author__": "Detectron2 Model Zoo"}, file, protocol=4)
    else:
        config = f"model = dict(type='FasterRCNN', backbone=dict(type='ResNet', depth=50, style='{model.style}'))\n"
        path = FOLDER / f"{name}_detector.pth"
        torch.save({"meta": {"epoch": 12, "config": config, "time": "now"}, "state_dict": state}, path)
    path.chmod(0o644)
    print(path.name, path.stat().st_size // 1024, "KiB")


def detector_cases(cases, image, first_seed):
    """Saves a detector of each case. Returns what they detect."""
    outputs = {}
    for start, (name, build) in enumerate(cases.items()):
        model, found = chosen(build, image, first_seed + 10000 * start)
        outputs |= {f"{name}.{key}": value for key, value in found.items()}
        save_detector(name, model)
    return outputs


def save_outputs(file_name, outputs):
    path = FOLDER / file_name
    safetensors.torch.save_file({key: value.contiguous() for key, value in outputs.items()}, path)
    path.chmod(0o644)
    print(path.name, path.stat().st_size // 1024, "KiB")


def main():
    common.seed(7)
    image = picture()
    agnostic = {"detectron2_agnostic": lambda: Detectron2(1), "mmdetection_agnostic": lambda: Mmdetection("pytorch", 1)}
    save_outputs("agnostic_detectors.safetensors", detector_cases(agnostic, image, 50000))
    if sys.argv[1:] == ["agnostic"]:
        return
    cases = {"detectron2": Detectron2, "mmdetection": lambda: Mmdetection("pytorch")}
    cases["mmdetection_caffe"] = lambda: Mmdetection("caffe")
    save_outputs("detectors.safetensors", {"image": image} | detector_cases(cases, image, 10000))
    # The same arrays as written by other protocols.
    rows = numpy.arange(6, dtype="f4").reshape(2, 3)
    kinds = {"rows": rows, "columns": numpy.asfortranarray(rows), "big_endian": rows.astype(">f4"), "half": rows.astype("f2")}
    kinds |= {"long": numpy.arange(3), "scalar": numpy.array(2.5), "empty": numpy.zeros((0, 4), "f4")}
    for protocol in (2, 3, 4, 5):
        path = FOLDER / f"arrays_protocol{protocol}.pkl"
        with open(path, "wb") as file:
            pickle.dump({"outer": kinds, "not_an_array": [1, "text", None, 2.5, {1: 2}]}, file, protocol=protocol)
        path.chmod(0o644)
    # The name inside makes the first entry as long as the records behind the directory, which confused a zip reader.
    path = FOLDER / "twenty_one_characters.pth"
    torch.save({"rows": torch.arange(6.0), "more": torch.ones(2)}, path)
    path.chmod(0o644)


if __name__ == "__main__":
    main()
