"""Reference values for the differentiable operations in crates/nn/src/kernels.

Writes tests/fixtures/kernels.safetensors with inputs, outputs and gradients of convolution, batch
norm in training, the fused affine and RoIAlign. Each case is `name.tensor`; the gradients are those
of `sum(output * name.dy)`. Options are in the metadata, as JSON.

Generated with torch 2.12.1, torchvision 0.27.1 and safetensors on the CPU. Seeds are fixed; inputs are
rounded to multiples of 1/64 and outputs are computed in double precision, so that another version
gives the same numbers.

    python tests/oracle/kernels.py
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torchvision.ops import roi_align

tensors: dict[str, torch.Tensor] = {}
options: dict[str, dict] = {}


def random(generator, *shape, low=-1.0, high=1.0):
    values = torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low
    return (values * 64).round() / 64


def record(name, output, generator, settings, **inputs):
    dy = random(generator, *output.shape)
    (output * dy).sum().backward()
    options[name] = settings
    for key, value in {"y": output, "dy": dy, **inputs}.items():
        tensors[f"{name}.{key}"] = value.detach().float().contiguous()
        if value.is_leaf and value.requires_grad:
            tensors[f"{name}.d{key}"] = value.grad.float().contiguous()


def conv(name, seed, x, weight, bias=False, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        "x": random(generator, *x).requires_grad_(),
        "weight": random(generator, *weight).requires_grad_(),
    }
    if bias:
        inputs["bias"] = random(generator, weight[0]).requires_grad_()
    y = F.conv2d(inputs["x"], inputs["weight"], inputs.get("bias"), stride, padding, dilation, groups)
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    record(name, y, generator, settings, **inputs)


conv("conv_3x3", 1, (2, 5, 9, 11), (4, 5, 3, 3), padding=(1, 1))
conv("conv_3x3_bias", 2, (1, 3, 13, 12), (6, 3, 3, 3), bias=True, padding=(1, 1))
conv("conv_3x3_unpadded", 3, (2, 3, 7, 8), (4, 3, 3, 3), bias=True)
conv("conv_3x3_stride_2_odd", 4, (2, 4, 9, 11), (5, 4, 3, 3), stride=(2, 2), padding=(1, 1))
conv("conv_3x3_stride_2_even", 5, (2, 4, 10, 12), (5, 4, 3, 3), bias=True, stride=(2, 2), padding=(1, 1))
conv("conv_7x7_stride_2", 6, (2, 3, 17, 14), (3, 3, 7, 7), stride=(2, 2), padding=(3, 3))
conv("conv_1x1", 7, (2, 4, 12, 13), (5, 4, 1, 1), bias=True)
conv("conv_1x1_small", 8, (5, 6, 3, 2), (7, 6, 1, 1), bias=True)
conv("conv_1x1_stride_2", 9, (2, 6, 9, 8), (5, 6, 1, 1), stride=(2, 2))
conv("conv_grouped", 10, (2, 12, 8, 7), (16, 3, 3, 3), bias=True, padding=(1, 1), groups=4)
conv("conv_grouped_stride_2", 11, (2, 8, 8, 7), (8, 2, 3, 3), stride=(2, 2), padding=(1, 1), groups=4)
conv("conv_depthwise", 12, (1, 6, 12, 12), (6, 1, 3, 3), padding=(1, 1), groups=6)
conv("conv_dilated", 13, (1, 3, 13, 12), (4, 3, 3, 3), padding=(2, 2), dilation=(2, 2))
conv("conv_uneven", 14, (1, 3, 14, 17), (4, 3, 3, 2), stride=(1, 3), padding=(2, 0), dilation=(1, 2))
conv("conv_overpadded", 15, (1, 2, 11, 12), (3, 2, 2, 2), bias=True, padding=(2, 3))
conv("conv_large_map", 16, (1, 2, 23, 21), (2, 2, 3, 3), padding=(1, 1))


def batch_norm(name, seed, x, epsilon, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    channels = x[1]
    inputs = {
        "x": (random(generator, *x) + offset).requires_grad_(),
        "weight": random(generator, channels, low=0.25, high=1.5).requires_grad_(),
        "bias": random(generator, channels).requires_grad_(),
    }
    y = F.batch_norm(inputs["x"], None, None, inputs["weight"], inputs["bias"], True, 0.1, epsilon)
    record(name, y, generator, {"epsilon": epsilon}, **inputs)
    tensors[f"{name}.mean"] = inputs["x"].detach().mean((0, 2, 3)).float()
    tensors[f"{name}.variance"] = inputs["x"].detach().var((0, 2, 3), unbiased=False).float()


batch_norm("batch_norm", 20, (3, 4, 7, 9), 1e-5)
batch_norm("batch_norm_offset", 21, (2, 3, 10, 10), 1e-3, offset=20.0)


def affine(name, seed, shape, residual, relu):
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        "x": random(generator, *shape).requires_grad_(),
        "scale": random(generator, shape[1]).requires_grad_(),
        "shift": random(generator, shape[1]).requires_grad_(),
    }
    if residual:
        inputs["residual"] = random(generator, *shape).requires_grad_()
    y = inputs["x"] * inputs["scale"].view(1, -1, 1, 1) + inputs["shift"].view(1, -1, 1, 1)
    if residual:
        y = y + inputs["residual"]
    if relu:
        y = F.relu(y)
    record(name, y, generator, {"relu": relu}, **inputs)


affine("affine", 30, (2, 3, 5, 6), False, False)
affine("affine_relu", 31, (2, 3, 5, 6), False, True)
affine("affine_residual", 32, (2, 3, 5, 6), True, False)
affine("affine_residual_relu", 33, (2, 3, 5, 6), True, True)

# Inside, partly outside on each side, wholly outside, tiny, empty, inverted, the whole image.
ROIS = torch.tensor(
    [
        [0, 4.0, 6.0, 40.0, 30.0],
        [1, -20.0, -12.5, 18.0, 25.0],
        [0, 50.0, 40.0, 90.0, 80.0],
        [1, 200.0, 200.0, 240.0, 250.0],
        [1, 10.0, 10.0, 10.5, 10.25],
        [0, 12.0, 9.0, 12.0, 9.0],
        [1, 30.0, 30.0, 20.0, 24.0],
        [0, 0.0, 0.0, 64.0, 48.0],
        [1, 33.3, 1.7, 60.9, 46.2],
    ],
    dtype=torch.float64,
)


def roi(name, seed, output_size, sampling_ratio, aligned):
    generator = torch.Generator().manual_seed(seed)
    features = random(generator, 2, 2, 12, 16).requires_grad_()
    ratio = sampling_ratio if sampling_ratio > 0 else -1
    y = roi_align(features, ROIS, output_size, 0.25, ratio, aligned)
    settings = {
        "output_size": output_size,
        "spatial_scale": 0.25,
        "sampling_ratio": sampling_ratio,
        "aligned": aligned,
    }
    record(name, y, generator, settings, features=features, rois=ROIS)


roi("roi_align_aligned_2", 40, 7, 2, True)
roi("roi_align_aligned_adaptive", 41, 4, 0, True)
roi("roi_align_legacy_2", 42, 5, 2, False)
roi("roi_align_legacy_adaptive", 43, 4, 0, False)

path = Path(__file__).parent.parent / "fixtures" / "kernels.safetensors"
path.parent.mkdir(parents=True, exist_ok=True)
save_file(tensors, path, {"options": json.dumps(options, sort_keys=True)})
print(f"{path}: {path.stat().st_size} bytes, {len(tensors)} tensors")
