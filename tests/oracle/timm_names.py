"""All names of timm that match a pattern: sedet computes what timm computes, or refuses the file.

Run from the repository's root, after `cargo build --release`:

    python tests/oracle/timm_names.py target/release/sedet [--pattern '*resne*'] [--largest 120] [--output TABLE]

Needs timm, onnx and onnxruntime as in requirements.txt. For each name it builds the network with seeded random weights,
saves its state dict as NAME.safetensors, imports it, exports the import to ONNX and compares onnxruntime's logits with
timm's for an image of 64x64 and one of 96x64. The table has one line for each name: the largest difference in units of
the largest logit, or the line with which sedet refused the file. Fails if there is a third outcome: other logits, a file
that is imported but can't be compared, or a crash. Without --largest (millions of parameters) it needs 10 GiB of memory
and an hour.
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


def outcome(binary, name, folder):
    """'equal', 'refused' or anything else, and the details."""
    torch.manual_seed(len(name))
    network = randomise(timm.create_model(name, num_classes=10))
    file, checkpoint, model = (folder / f"{name}{end}" for end in (".safetensors", ".sedet.safetensors", ".onnx"))
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    safetensors.torch.save_file(state, file)
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
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    worst = 0.0
    for size in SIZES:
        x = torch.randn(size)
        with torch.no_grad():
            expected = network(x).numpy()
        (found,) = session.run(["logits"], {"pixels": x.numpy()})
        worst = max(worst, float(numpy.abs(found - expected).max() / numpy.abs(expected).max()))
    return ("equal" if worst <= TOLERANCE else "differs"), f"{worst:.1e}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("binary")
    arguments.add_argument("--pattern", default="*resne*")
    arguments.add_argument("--largest", type=float, help="millions of parameters; larger networks are skipped")
    arguments.add_argument("--output", type=Path)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    counts, rows = {}, []
    for name in fnmatch.filter(timm.list_models(), options.pattern):
        begun = time.monotonic()
        with torch.device("meta"):
            parameters = sum(p.numel() for p in timm.create_model(name).parameters()) / 1e6
        if options.largest and parameters > options.largest:
            found, details = "skipped", f"{parameters:.0f} M parameters"
        else:
            with tempfile.TemporaryDirectory() as folder:
                found, details = outcome(options.binary, name, Path(folder))
        counts[found] = counts.get(found, 0) + 1
        rows.append(f"| {name} | {found} | {details} |")
        print(f"{rows[-1]} {time.monotonic() - begun:.0f} s", flush=True)
        if options.output:
            options.output.write_text("\n".join(["| name | outcome | details |", "|---|---|---|", *rows]) + "\n")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(counts, f"{memory:.1f} GiB")
    third = set(counts) - {"equal", "refused", "skipped"}
    if third:
        sys.exit(f"a third outcome: {', '.join(sorted(third))}")


if __name__ == "__main__":
    main()
