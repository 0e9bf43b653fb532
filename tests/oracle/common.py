"""Shared by the oracle scripts: fixed seeds, sampling without randomness, and saving a fixture."""

import contextlib
from pathlib import Path
from unittest import mock

import safetensors.torch
import timm
import torch
import torchvision

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def seed(number):
    """Every case seeds itself, so that a new case does not change the numbers of the others."""
    torch.set_num_threads(1)
    torch.manual_seed(number)


def sampling_without_randomness():
    """The balanced sampler permutes with `torch.randperm`; here it takes the first candidates in index order."""

    def identity_permutation(n, *, device=None, **_):
        return torch.arange(n, device=device)

    return mock.patch("torch.randperm", identity_permutation)


def random_boxes(count, height, width, smallest=4.0, largest=None):
    """Boxes (x1, y1, x2, y2) in pixels, inside an image."""
    largest = largest or max(height, width)
    sides = torch.empty(count, 2).uniform_(smallest, largest)
    sides = torch.minimum(sides, torch.tensor([width, height]) * 0.95)
    corners = torch.rand(count, 2) * (torch.tensor([width, height]) - sides)
    return torch.cat([corners, corners + sides], dim=1)


def distinct(count, low, high):
    """Evenly spaced values in random order, so that no two are close."""
    return torch.linspace(low, high, count)[torch.randperm(count)]


def save(file_name, tensors):
    """Writes float32 and int64 tensors; masks become 0 and 1."""
    ready = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        if tensor.dtype in (torch.bool, torch.uint8, torch.int32):
            tensor = tensor.long()
        assert tensor.dtype in (torch.float32, torch.int64), (name, tensor.dtype)
        assert tensor.dtype == torch.int64 or torch.isfinite(tensor).all(), f"{name} is not finite"
        ready[name] = tensor.contiguous().clone()
    FIXTURES.mkdir(exist_ok=True)
    made_with = f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}"
    path = FIXTURES / file_name
    safetensors.torch.save_file(ready, path, metadata={"made_with": made_with})
    path.chmod(0o644)
    print(f"{path.name}: {len(ready)} tensors, {path.stat().st_size / 1024:.0f} KiB")


@contextlib.contextmanager
def recorded_outputs(modules):
    """Collects the output of each named module during a forward pass: {name: last output}."""
    seen = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: seen.__setitem__(name, output))
        for name, module in modules.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
