"""Proves with onnx and onnxruntime that `sedet weights export --format onnx` reproduces the original networks.

Run from the repository's root, after `cargo build --release`:

    python tests/oracle/onnx_export.py target/release/sedet

Exports every classifier of tests/fixtures/layouts/, checks the file with onnx.checker (shapes inferred and strict),
and compares onnxruntime's logits with those of the original network: on the fixture's odd-sized input, on two images
at once, and on other sizes. Writes tests/fixtures/layouts/onnx.json with the SHA-256 of the files that passed; the
Rust test asserts that the export still has this hash.

(Not called onnx.py: a script's directory comes first on Python's path, so it would import itself.)
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import onnx
import onnxruntime
import safetensors
import safetensors.torch
import torch

import common
import layouts

TOLERANCE = 1e-4  # of the largest logit
OTHER_SHAPES = ((2, 3, 75, 103), (1, 3, 64, 96), (3, 3, 61, 50))
# timm's anti-aliased networks with average pooling do not run on others.
EVEN_SHAPES = ((2, 3, 64, 96), (1, 3, 128, 32))
EPSILON = 1e-2
CATEGORIES = ["a", "b", "Ö", "d", "e"]


def sedet(binary, *arguments):
    subprocess.run([binary, "weights", *map(str, arguments)], check=True, capture_output=True)


def with_epsilon(binary, source, folder):
    """Writes a checkpoint of the file with another epsilon, trainable norms, and class names."""
    plain, changed = folder / "plain.safetensors", folder / "changed.safetensors"
    plain.unlink(missing_ok=True)
    sedet(binary, "import", source, "-o", plain)
    with safetensors.safe_open(plain, "pt") as file:
        header = json.loads(file.metadata()["sedet"])
    # The checksums are those of the unchanged description; a file without any is read as it is.
    header.pop("crc32c", None)
    header["model"]["backbone"]["norm"].update(epsilon=EPSILON, kind="batch")
    header["categories"] = [{"id": 3 * n + 1, "name": name} for n, name in enumerate(CATEGORIES)]
    tensors = safetensors.torch.load_file(plain)
    safetensors.torch.save_file(tensors, changed, metadata={"sedet": json.dumps(header)})
    return changed


def prove(binary, case, source, network, x, folder):
    """Exports one file, asserts that its outputs equal the network's, and returns its hash."""
    path = folder / f"{case}.onnx"
    path.unlink(missing_ok=True)
    sedet(binary, "export", source, "--format", "onnx", "-o", path)
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert set(metadata["preprocess"]) >= {"channel_order", "scale", "mean", "std"}, metadata
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    shapes = EVEN_SHAPES if tuple(x.shape[2:]) == layouts.EVEN_SIZE else OTHER_SHAPES
    for images in [x] + [torch.randn(shape) for shape in shapes]:
        with torch.no_grad():
            expected = network(images).numpy()
        (logits,) = session.run(["logits"], {"pixels": images.numpy()})
        assert logits.shape == expected.shape, (case, logits.shape)
        worst = max(worst, numpy.abs(logits - expected).max() / numpy.abs(expected).max())
    assert worst <= TOLERANCE, (case, worst)
    print(f"{case}: {path.stat().st_size // 1024} KiB, {len(model.graph.node)} nodes, off by {worst:.1e}")
    return hashlib.sha256(path.read_bytes()).hexdigest(), metadata


def main():
    binary = Path(sys.argv[1]).resolve()
    expected = safetensors.torch.load_file(layouts.FOLDER / "outputs.safetensors")
    hashes = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # All at once: random numbers drawn in between would change the next network.
        for name, network, x, _ in list(layouts.networks()):
            case, source = name.split(".")[0], layouts.FOLDER / name
            with torch.no_grad():
                difference = (network(x) - expected[f"{case}.logits"]).abs().max()
            assert difference < 1e-5, f"{case}: not the network of the fixture"
            common.seed(7)
            hashes[case], _ = prove(binary, case, source, network, x, folder)
            if case == "torchvision_basic":
                changed = with_epsilon(binary, source, folder)
                norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
                for norm in norms:
                    norm.eps = EPSILON
                case = f"{case}_epsilon"
                hashes[case], metadata = prove(binary, case, changed, network, x, folder)
                assert metadata["categories"] == CATEGORIES, metadata
                for norm in norms:
                    norm.eps = 1e-5
    proven = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "sha256": hashes}
    path = layouts.FOLDER / "onnx.json"
    path.write_text(json.dumps(proven, indent=2) + "\n")
    print(path, len(hashes), "files")


if __name__ == "__main__":
    main()
