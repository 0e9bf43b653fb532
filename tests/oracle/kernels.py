"""Reference numbers for src/kernels: convolution, batch norm, affine, RoIAlign, with gradients.

Computed by torch 2.12.1 and torchvision 0.27.1. Writes ../fixtures/kernels.safetensors; options
that the test needs stand in the tensor `<case>.options`.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torchvision.ops import roi_align

OUT = Path(__file__).parent.parent / "fixtures" / "kernels.safetensors"
CONVS = {
    # name: (x, weight, stride, padding, dilation, groups)
    "plain_3x3": ((2, 5, 9, 11), (7, 5, 3, 3), 1, 1, 1, 1),
    "strided_3x3": ((2, 20, 9, 12), (6, 20, 3, 3), 2, 1, 1, 1),
    "stem_7x7": ((2, 3, 19, 23), (8, 3, 7, 7), 2, 3, 1, 1),
    "pointwise": ((2, 18, 5, 7), (6, 18, 1, 1), 1, 0, 1, 1),
    "strided_pointwise": ((1, 6, 7, 9), (4, 6, 1, 1), 2, 0, 1, 1),
    "grouped_3x3": ((2, 8, 6, 7), (12, 2, 3, 3), 1, 1, 1, 4),
    "grouped_strided": ((1, 8, 7, 7), (8, 4, 3, 3), 2, 1, 1, 2),
    "dilated": ((1, 3, 10, 9), (4, 3, 3, 3), 1, 2, 2, 1),
    "wide_padding": ((1, 2, 4, 5), (3, 2, 3, 3), 1, 3, 1, 1),
    "one_pixel": ((1, 4, 1, 1), (5, 4, 3, 3), 1, 1, 1, 1),
}


def convolutions(out):
    for name, (xs, ws, stride, padding, dilation, groups) in CONVS.items():
        x = torch.randn(xs, requires_grad=True)
        weight = torch.randn(ws, requires_grad=True)
        bias = torch.randn(ws[0], requires_grad=True)
        y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        dy = torch.randn_like(y)
        y.backward(dy)
        out[f"conv.{name}.options"] = torch.tensor([stride, padding, dilation, groups])
        tensors = dict(x=x, weight=weight, bias=bias, y=y, dy=dy)
        tensors |= dict(dx=x.grad, dweight=weight.grad, dbias=bias.grad)
        out |= {f"conv.{name}.{key}": value.detach() for key, value in tensors.items()}


def batch_norm(out):
    x = (torch.randn(3, 5, 6, 7) * 3 + 2).requires_grad_()
    weight, bias = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    y = F.batch_norm(x, torch.zeros(5), torch.ones(5), weight, bias, training=True, eps=1e-5)
    dy = torch.randn_like(y)
    y.backward(dy)
    tensors = dict(x=x, weight=weight, bias=bias, y=y, dy=dy)
    tensors |= dict(dx=x.grad, dweight=weight.grad, dbias=bias.grad)
    tensors |= dict(mean=x.mean((0, 2, 3)), variance=x.var((0, 2, 3), unbiased=False))
    out |= {f"batch_norm.{key}": value.detach() for key, value in tensors.items()}


def affine(out):
    x = torch.randn(2, 4, 3, 5, requires_grad=True)
    scale, shift = torch.randn(4, requires_grad=True), torch.randn(4, requires_grad=True)
    residual = torch.randn(2, 4, 3, 5, requires_grad=True)
    y = F.relu(x * scale[None, :, None, None] + shift[None, :, None, None] + residual)
    dy = torch.randn_like(y)
    y.backward(dy)
    tensors = dict(x=x, scale=scale, shift=shift, residual=residual, y=y, dy=dy)
    tensors |= dict(dx=x.grad, dscale=scale.grad, dshift=shift.grad, dresidual=residual.grad)
    out |= {f"affine.{key}": value.detach() for key, value in tensors.items()}


def roi_aligns(out):
    features = torch.randn(2, 3, 13, 17)
    rois = torch.tensor(
        [
            [0, 3.0, 4.0, 40.0, 33.0],
            [1, 10.3, 7.7, 11.1, 8.2],  # smaller than a feature pixel
            [0, -20.0, -9.0, 30.0, 70.0],  # sticks out
            [1, 50.0, 40.0, 90.0, 80.0],  # almost all outside
            [1, 0.0, 0.0, 68.0, 52.0],
            [0, 20.0, 20.0, 20.0, 20.0],  # empty
        ]
    )
    out |= {"roi_align.features": features, "roi_align.rois": rois}
    for aligned in (0, 1):
        for sampling in (0, 2):
            x = features.clone().requires_grad_()
            y = roi_align(x, rois, (3, 3), 0.25, sampling, bool(aligned))
            dy = torch.randn_like(y)
            y.backward(dy)
            case = f"roi_align.aligned{aligned}_sampling{sampling}"
            out |= {f"{case}.y": y.detach(), f"{case}.dy": dy, f"{case}.dx": x.grad}


if __name__ == "__main__":
    torch.manual_seed(0)
    tensors = {}
    convolutions(tensors)
    batch_norm(tensors)
    affine(tensors)
    roi_aligns(tensors)
    save_file({key: value.contiguous() for key, value in tensors.items()}, OUT)
