"""The Python call that `sedet weights export --format timm` prints builds the network whose weights it wrote.

Run from the repository's root, after `cargo build --release`:

    python tests/oracle/timm_constructors.py target/release/sedet

Needs timm as in requirements.txt. For each network it saves seeded random weights, exports them by sedet, evaluates the
printed call, loads the export strictly and compares the logits. Fails if a call is missing, does not load, or computes
something else. `crates/core/src/weights/layouts/timm.rs` has some of the calls as a test.
"""

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import safetensors.torch
import timm
import torch

UNITS = functools.partial(timm.layers.SEModule, rd_ratio=1 / 8, rd_divisor=1)
UNROUNDED = functools.partial(timm.layers.SEModule, rd_ratio=1 / 16, rd_divisor=1)
CALL = "in Python: import functools, timm; model = "

NETWORKS = {
    **{
        name: dict(model_name=name)
        for name in (
            "resnet18 resnet26d resnet50 wide_resnet50_2 resnext50_32x4d seresnet18 seresnet34 seresnet50 "
            "seresnext26d_32x4d resnet14t resnet50t resnetrs50 legacy_seresnet18 legacy_seresnet50 "
            "legacy_seresnext26_32x4d legacy_seresnext50_32x4d"
        ).split()
    },
    "unrounded units": dict(model_name="seresnet18", block_args=dict(attn_layer=UNROUNDED)),
    "another reduction": dict(model_name="resnet50", block_args=dict(attn_layer=UNITS)),
    "other layers": dict(model_name="resnet18", layers=[1, 2, 1, 1]),
    "groups": dict(model_name="resnet50", layers=[1, 1, 1, 1], cardinality=4, base_width=32),
    "deep stem": dict(model_name="resnet50", layers=[1, 1, 1, 1], stem_type="deep", stem_width=48),
    "legacy layers": dict(model_name="legacy_seresnet50", layers=[1, 1, 1, 1], reduction=8),
}


def randomize(network):
    """Gives norms random values, so that tensors in a wrong place change the logits."""
    for tensor in network.state_dict().values():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    return network.eval()


def prove(binary, arguments, folder):
    torch.manual_seed(1)
    network = randomize(timm.create_model(num_classes=7, **arguments))
    source, exported = folder / "source.safetensors", folder / "exported.safetensors"
    exported.unlink(missing_ok=True)
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    safetensors.torch.save_file(state, source)
    layout = ["--layout", "timm"] if arguments["model_name"].startswith("se") else []
    command = [binary, "weights", "export", source, "--format", "timm", "-o", exported, *layout]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls = [line.removeprefix(CALL) for line in done.stderr.splitlines() if line.startswith(CALL)]
    assert len(calls) == 1, done.stderr
    model = eval(calls[0], {"timm": timm, "functools": functools}).eval()
    model.load_state_dict(safetensors.torch.load_file(exported), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), network(images)), "other logits"
    return calls[0]


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in NETWORKS.items():
            print(f"{name}: {prove(sys.argv[1], arguments, Path(folder))}", flush=True)


if __name__ == "__main__":
    main()
