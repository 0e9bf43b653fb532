"""Times torchvision's Faster R-CNN and, if given, our own bench on the same work, and prints the ratios.

    python benches/compare_torchvision.py --threads 2                      # torchvision alone
    python benches/compare_torchvision.py --threads 2 --rust PATH          # both, interleaved, and a table
    python benches/compare_torchvision.py --case "resnet50_fpn infer batch 1 at 480x640"

Needs torch and torchvision as in tests/oracle/requirements.txt. Linux or macOS (peak memory by getrusage).

A case's name is its whole description: "MODEL infer|train batch N at HEIGHTxWIDTH". Models:

- resnet50_fpn: ResNet-50 (stride in the 3x3), FPN of 256 channels;
- resnet18_w0.25_fpn64: ResNet-18 with stages of 16, 32, 64 and 128 channels, FPN of 64 channels.

Both: 91 classes with the background, frozen batch norm, torchvision's default Faster R-CNN options (anchors
32..512, 2000 proposals in training, 1000 in inference, two fully connected layers of 1024), random weights.
The weight of the last frozen batch norm of each block is 0.2, so that activations stay in scale without training.
`infer` is images in, detections out (normalising and the resize to the same size included). `train` is forward,
the sum of the four losses, backward and one SGD step (momentum 0.9, weight decay 1e-4, learning rate 1e-5) with
five boxes per image; the stem and the first stage are frozen (three trainable stages).

Every measurement is a process of its own, so that peak memory is the case's own. A process runs the warm-up, then
the timed iterations, and prints one JSON line:

    {"name": ..., "threads": ..., "median_ms": ..., "min_ms": ..., "peak_rss_mb": ...}

The Rust bench is called the same way: PATH --case NAME --threads N --warmup W --iterations I, with
RAYON_NUM_THREADS=N in the environment (OMP_NUM_THREADS too); its last stdout line that starts with "{" counts. The
time of inference also depends on how many proposals survive: torchvision's side says that number on stderr (about
1000 per image on these cases, and no detections, because an untrained classifier stays below 0.05); ours should do
the same, so that the work can be seen to be equal. With --rounds R each case
is measured R times per side, the sides taking turns in going first; the table shows the median of the medians,
the least of the minima and the largest peak.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time

CASES = [
    "resnet18_w0.25_fpn64 infer batch 4 at 160x224",
    "resnet18_w0.25_fpn64 train batch 4 at 160x224",
    "resnet50_fpn infer batch 1 at 320x480",
    "resnet50_fpn infer batch 1 at 800x800",
    "resnet50_fpn train batch 1 at 320x480",
]
CASE_PATTERN = re.compile(r"(resnet50_fpn|resnet18_w0\.25_fpn64) (infer|train) batch (\d+) at (\d+)x(\d+)")
CLASSES = 91
BOXES_PER_IMAGE = 5


def parse_case(name):
    match = CASE_PATTERN.fullmatch(name)
    if not match:
        sys.exit(f'unknown case "{name}": write "MODEL infer|train batch N at HEIGHTxWIDTH", as in "{CASES[0]}"')
    model, mode, batch, height, width = match.groups()
    return model, mode, int(batch), int(height), int(width)


def narrow_resnet18(stem_channels):
    """torchvision's ResNet-18 with every width in proportion to the stem's (64 in the original)."""
    from torch import nn
    from torchvision.models.resnet import BasicBlock, ResNet
    from torchvision.ops import FrozenBatchNorm2d

    class Narrow(ResNet):
        def __init__(self):
            nn.Module.__init__(self)
            self._norm_layer = FrozenBatchNorm2d
            self.inplanes, self.dilation, self.groups, self.base_width = stem_channels, 1, 1, 64
            self.conv1 = nn.Conv2d(3, stem_channels, kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = FrozenBatchNorm2d(stem_channels)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            for stage in range(4):
                blocks = self._make_layer(BasicBlock, stem_channels * 2**stage, 2, stride=1 if stage == 0 else 2)
                setattr(self, f"layer{stage + 1}", blocks)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    return Narrow()


def build(model_name, height, width):
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
    from torchvision.models.resnet import BasicBlock, Bottleneck

    if model_name == "resnet50_fpn":
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    else:
        body = narrow_resnet18(16)
        for part in (body.conv1, body.layer1):
            part.requires_grad_(False)
        levels = {f"layer{stage + 1}": str(stage) for stage in range(4)}
        backbone = BackboneWithFPN(body, levels, in_channels_list=[16, 32, 64, 128], out_channels=64)
    for module in backbone.modules():
        if isinstance(module, Bottleneck):
            module.bn3.weight.fill_(0.2)
        elif isinstance(module, BasicBlock):
            module.bn2.weight.fill_(0.2)
    return FasterRCNN(backbone, CLASSES, min_size=min(height, width), max_size=max(height, width))


def random_targets(torch, batch, height, width):
    targets = []
    for _ in range(batch):
        sides = torch.rand(BOXES_PER_IMAGE, 2) * 0.5 + 0.1
        corners = torch.rand(BOXES_PER_IMAGE, 2) * (1 - sides)
        boxes = torch.cat([corners, corners + sides], dim=1) * torch.tensor([width, height, width, height])
        targets.append({"boxes": boxes, "labels": torch.randint(1, CLASSES, (BOXES_PER_IMAGE,))})
    return targets


def measure_torchvision(name, threads, warmup, iterations):
    """Runs one case in this process and prints its JSON line."""
    import torch

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    model_name, mode, batch, height, width = parse_case(name)
    model = build(model_name, height, width)
    images = [torch.rand(3, height, width) for _ in range(batch)]
    targets = random_targets(torch, batch, height, width)

    if mode == "infer":
        model.eval()

        def step():
            with torch.inference_mode():
                model(images)
    else:
        model.train()
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trainable, lr=1e-5, momentum=0.9, weight_decay=1e-4)

        def step():
            optimizer.zero_grad()
            loss = sum(model(images, targets).values())
            loss.backward()
            optimizer.step()
            if not torch.isfinite(loss):
                sys.exit(f'"{name}": the loss is not finite, so the times would mean nothing')

    times = []
    for index in range(warmup + iterations):
        start = time.perf_counter()
        step()
        if index >= warmup:
            times.append((time.perf_counter() - start) * 1000)
    # Read before the untimed pass below. ru_maxrss is in KiB on Linux and in bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
    print(
        json.dumps(
            {
                "name": name,
                "threads": threads,
                "median_ms": round(statistics.median(times), 2),
                "min_ms": round(min(times), 2),
                "peak_rss_mb": round(peak, 1),
            }
        ),
        flush=True,
    )
    print(f"{name}: {work_done(torch, model, images)}", file=sys.stderr)


def work_done(torch, model, images):
    """What the time depends on beside the sizes: proposals and detections in inference, of all images together."""
    counts = []
    model.rpn.register_forward_hook(lambda _module, _inputs, output: counts.append(sum(map(len, output[0]))))
    model.eval()
    with torch.inference_mode():
        detections = model(images)
    return f"{counts[0]} proposals, {sum(len(image['scores']) for image in detections)} detections in inference"


def run_side(command, name, arguments):
    """Runs one measuring process and returns its record."""
    command = command + [
        "--case", name,
        "--threads", str(arguments.threads),
        "--warmup", str(arguments.warmup),
        "--iterations", str(arguments.iterations),
    ]  # fmt: skip
    threads = str(arguments.threads)
    environment = {**os.environ, "RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")
    if done.returncode != 0:
        sys.exit(f'{command[0]} failed on "{name}" (status {done.returncode})')
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        sys.exit(f'{command[0]} printed no JSON line for "{name}"')
    record = json.loads(lines[-1])
    if record["name"] != name or record["threads"] != arguments.threads:
        sys.exit(f'{command[0]} was asked for "{name}" with {threads} threads and answered {lines[-1]}')
    return record


def summary(records):
    return {
        "name": records[0]["name"],
        "threads": records[0]["threads"],
        "median_ms": statistics.median(record["median_ms"] for record in records),
        "min_ms": min(record["min_ms"] for record in records),
        "peak_rss_mb": max(record["peak_rss_mb"] for record in records),
    }


def compare(arguments):
    sides = {"torchvision": [sys.executable, os.path.abspath(__file__), "--measure"]}
    if arguments.rust:
        sides["sedet"] = [os.path.abspath(arguments.rust)]
    names = arguments.case or CASES
    for name in names:
        parse_case(name)
    records = {(side, name): [] for side in sides for name in names}
    for name in names:
        for turn in range(arguments.rounds):
            order = list(sides) if turn % 2 == 0 else list(reversed(sides))
            for side in order:
                record = run_side(sides[side], name, arguments)
                records[side, name].append(record)
                print(f"{side}, round {turn + 1}: {json.dumps(record)}", file=sys.stderr, flush=True)
        for side in sides:
            print(json.dumps({"engine": side, **summary(records[side, name])}), flush=True)
    if arguments.rust:
        print()
        print(table(names, records, arguments.threads))


def table(names, records, threads):
    """A ratio above 1 says how many times as long, or as much memory, torchvision takes."""
    rows = [
        f"| case ({threads} threads) | torchvision ms | sedet ms | times faster | best against best "
        "| torchvision MB | sedet MB | times smaller |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in names:
        theirs, ours = summary(records["torchvision", name]), summary(records["sedet", name])
        rows.append(
            f"| {name} | {theirs['median_ms']:.1f} | {ours['median_ms']:.1f} "
            f"| {theirs['median_ms'] / ours['median_ms']:.2f} | {theirs['min_ms'] / ours['min_ms']:.2f} "
            f"| {theirs['peak_rss_mb']:.0f} | {ours['peak_rss_mb']:.0f} "
            f"| {theirs['peak_rss_mb'] / ours['peak_rss_mb']:.2f} |"
        )
    return "\n".join(rows)


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", metavar="NAME", help="may be repeated; default: the five of the suite")
    parser.add_argument("--threads", type=positive, default=os.cpu_count())
    parser.add_argument("--warmup", type=positive, default=2)
    parser.add_argument("--iterations", type=positive, default=7)
    parser.add_argument("--rounds", type=positive, default=3, help="processes per case and side")
    parser.add_argument("--rust", metavar="PATH", help="our bench binary")
    parser.add_argument("--measure", action="store_true", help="time torchvision on one case in this process")
    arguments = parser.parse_args()
    if arguments.measure:
        if not arguments.case or len(arguments.case) != 1:
            sys.exit("--measure needs exactly one --case")
        measure_torchvision(arguments.case[0], arguments.threads, arguments.warmup, arguments.iterations)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
