"""All names of timm that match a pattern: sedet computes what timm computes, or refuses the file.

Run from the repository's root, after `cargo build --release`:

    python tests/oracle/timm_names.py target/release/sedet [--pattern '*resne*'] [--smallest 50] [--largest 120]
        [--output TABLE]

Needs timm, onnx and onnxruntime as in requirements.txt. For each name it builds the network with seeded random weights,
saves its state dict as NAME.safetensors, imports it, exports the import to ONNX and compares onnxruntime's logits with
timm's for an image of 64x64 and one of 96x64. The table has one line for each name: the largest difference in units of
the largest logit, or the line with which sedet refused the file. Fails if there is a third outcome: other logits, a file
that is imported but can't be compared, or a crash. --smallest and --largest are limits in millions of parameters; networks
beyond them are skipped, and the lines that TABLE has for them are kept, so that it can be completed in several runs. A run
of all names takes one and a half hours of one busy CPU core and up to 8 GiB of memory.
"""

import argparse
import fnmatch
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnxruntime
import safetensors
import safetensors.torch
import timm
import torch
from torch import nn

TOLERANCE = 1e-4
SIZES = ((1, 3, 64, 64), (1, 3, 96, 64))


def randomise(network):
    """Norms far from the identity, damped where a branch ends, so that two hundred blocks stay finite."""
    with torch.no_grad():
        for name, module in network.named_modules():
            if not isinstance(module, nn.BatchNorm2d):
                continue
            last = name.endswith(("bn3", "downsample.1", "downsample.2"))
            module.weight.uniform_(0.2, 0.5) if last else module.weight.uniform_(0.6, 1.4)
            module.bias.normal_(0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return network.eval()


def run(binary, *arguments):
    return subprocess.run([binary, "weights", *map(str, arguments)], capture_output=True, text=True)


def reason(done):
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return lines[0].split(": ", 2)[-1] if lines else ""


def logits_of(network, inputs):
    """None for a network that computes inputs of its own size only."""
    try:
        with torch.no_grad():
            return [network(x).numpy() for x in inputs]
    except (AssertionError, RuntimeError):
        return None


def outcome(binary, name, folder):
    """'equal', 'refused' or anything else, and the details."""
    torch.manual_seed(len(name))
    network = randomise(timm.create_model(name, num_classes=10))
    file, checkpoint, model = (folder / f"{name}{end}" for end in (".safetensors", ".sedet.safetensors", ".onnx"))
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    safetensors.torch.save_file(state, file)
    inputs = [torch.randn(size) for size in SIZES]
    expected = logits_of(network, inputs)
    # Not in memory while sedet runs.
    del network, state
    done = run(binary, "import", file, "-o", checkpoint)
    if done.returncode == 1 and reason(done):
        return "refused", reason(done)
    if done.returncode != 0:
        return "crash", done.stderr[-300:]
    with safetensors.safe_open(checkpoint, "pt") as opened:
        missing = json.loads(opened.metadata()["sedet"]).get("missing", [])
    done = run(binary, "export", checkpoint, "--format", "onnx", "-o", model)
    if missing and done.returncode == 1:
        # Nothing computes with such a checkpoint; a detector can be trained from its backbone.
        return "refused", f"incomplete: {len(missing)} tensors missing ({missing[0]}, ...)"
    if done.returncode != 0:
        return "not compared", reason(done) or done.stderr[-300:]
    if expected is None:
        return "not compared", "timm does not compute inputs of these sizes"
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    worst = 0.0
    for x, logits in zip(inputs, expected, strict=True):
        (found,) = session.run(["logits"], {"pixels": x.numpy()})
        worst = max(worst, float(numpy.abs(found - logits).max() / numpy.abs(logits).max()))
    return ("equal" if worst <= TOLERANCE else "differs"), f"{worst:.1e}"


def table(rows):
    return "\n".join(["| name | outcome | details |", "|---|---|---|", *rows.values()]) + "\n"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("binary")
    arguments.add_argument("--pattern", default="*resne*")
    arguments.add_argument("--smallest", type=float, default=0, help="millions of parameters; smaller ones are skipped")
    arguments.add_argument("--largest", type=float, default=1e6, help="as --smallest; larger ones are skipped")
    arguments.add_argument("--output", type=Path)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    before = {}
    if options.output and options.output.exists():
        lines = options.output.read_text().splitlines()[2:]
        before = {line.split("|")[1].strip(): line for line in lines}
    counts, rows = {}, {}
    for name in fnmatch.filter(timm.list_models(), options.pattern):
        begun = time.monotonic()
        with torch.device("meta"):
            parameters = sum(p.numel() for p in timm.create_model(name).parameters()) / 1e6
        if not options.smallest <= parameters <= options.largest:
            rows[name] = before.get(name, f"| {name} | skipped | {parameters:.0f} M parameters |")
            continue
        with tempfile.TemporaryDirectory() as folder:
            found, details = outcome(options.binary, name, Path(folder))
        counts[found] = counts.get(found, 0) + 1
        rows[name] = f"| {name} | {found} | {details} |"
        print(f"{rows[name]} {time.monotonic() - begun:.0f} s", flush=True)
        if options.output:
            options.output.write_text(table(before | rows))
    if options.output:
        options.output.write_text(table(rows))
    own, children = (resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(counts, f"{own:.1f} GiB here, {children:.1f} GiB in sedet")
    third = set(counts) - {"equal", "refused"}
    if third:
        sys.exit(f"a third outcome: {', '.join(sorted(third))}")


if __name__ == "__main__":
    main()
