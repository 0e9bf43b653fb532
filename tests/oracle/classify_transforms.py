"""Reference numbers for `data::transforms::classify` and a classifier's preprocessing: torchvision on PIL images.

    python tests/oracle/classify_transforms.py

Writes tests/fixtures/classify_transforms.safetensors. Images are [height, width, 3] u8; see README.md for the cases.
"""

import math
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode, RandAugment, v2
from torchvision.transforms.autoaugment import _apply_op
from torchvision.transforms.v2 import functional as F

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
BILINEAR, BICUBIC = InterpolationMode.BILINEAR, InterpolationMode.BICUBIC


def picture(height, width, seed):
    """Smooth colors with noise and hard edges, and some pure grays."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 4, y * 6, (x + y) * 2], axis=-1)
    pixels = np.clip(smooth + rng.integers(-40, 40, (height, width, 3)), 0, 255)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = [250, 20, 130]
    pixels[0] = pixels[0, :, :1]
    return Image.fromarray(pixels.astype(np.uint8))


def pixels(image):
    return torch.from_numpy(np.asarray(image).copy())


def sizes_and_crops(tensors, image):
    # larger, smaller, much smaller, unchanged
    for side in (41, 20, 7, 37):
        tensors[f"pillow/{side}"] = pixels(v2.Resize(side, BILINEAR)(image))
        tensors[f"pillow_bicubic/{side}"] = pixels(v2.Resize(side, BICUBIC)(image))
    for side, limit in ((20, 24), (30, 31)):
        tensors[f"pillow_limited/{side}-{limit}"] = pixels(v2.Resize(side, BILINEAR, max_size=limit)(image))
    # remainders even and odd, smaller than one side, smaller than both, by odd and even numbers
    for side in (37, 32, 31, 30, 29, 41, 44, 53, 58, 61):
        tensors[f"center_crop/{side}"] = pixels(F.center_crop(image, [side, side]))
    for side in (30, 31):
        tensors[f"ten_crop/{side}"] = torch.stack([pixels(crop) for crop in v2.TenCrop(side)(image)])
    # left, top, width, height, side
    for window in ((3, 5, 40, 21, 24), (10, 0, 11, 37, 32), (52, 36, 1, 1, 9), (0, 0, 53, 37, 17)):
        left, top, width, height, side = window
        for name, mode in (("resized_crop", BILINEAR), ("resized_crop_bicubic", BICUBIC)):
            cut = F.resized_crop(image, top, left, height, width, [side, side], interpolation=mode)
            tensors[f"{name}/{left}-{top}-{width}-{height}-{side}"] = pixels(cut)


class Drawn:
    """Replaces `torch.empty(1)`; its `uniform_` returns these values in order."""

    def __init__(self, values):
        self.values = values

    def uniform_(self, *_):
        return torch.tensor(self.values.pop(0), dtype=torch.float64)


def windows(tensors):
    """Rows: height, width, area fraction, ratio, fits, window's height and width, lowest and highest ratio, top, left (the last two of the fallback only)."""
    rng = np.random.default_rng(5)
    rows = []
    for index in range(60):
        height, width = (int(n) for n in rng.integers(1, 500, 2))
        area, ratio = rng.uniform(0.08, 1), math.exp(rng.uniform(math.log(0.5), math.log(2)))
        lowest, highest = ((3 / 4, 4 / 3), (0.9, 1.1), (0.5, 2))[index % 3]
        crop = v2.RandomResizedCrop(9, ratio=(lowest, highest))
        asked = []

        def empty(*_):
            asked.append(0)
            return Drawn([area if len(asked) % 2 else math.log(ratio)])

        image = Image.new("RGB", (width, height))
        with mock.patch.object(torch, "empty", empty):
            got = crop.make_params([image])
        fits = len(asked) == 2
        place = [0, 0] if fits else [got["top"], got["left"]]
        drawn = torch.tensor(math.log(ratio), dtype=torch.float64).exp().item()
        rows.append([height, width, area, drawn, fits, got["height"], got["width"], lowest, highest, *place])
    assert 10 < sum(row[4] for row in rows) < 50
    tensors["windows"] = torch.tensor(rows, dtype=torch.float64)


def mixing(tensors):
    """torchvision's own MixUp and CutMix with a given draw."""
    torch.manual_seed(3)
    batch = torch.randn(3, 3, 7, 9)
    labels = torch.tensor([4, 0, 2])
    tensors["mix/batch"] = batch
    inputs = {"labels": labels, "batch_size": 3}
    mixup, cutmix = v2.MixUp(num_classes=5), v2.CutMix(num_classes=5)
    params = dict(lam=0.3, **inputs)
    tensors["mixup/0.3"] = mixup.transform(batch, params)
    tensors["mixup/0.3/labels"] = mixup.transform(labels, params)
    # own share and center (y, x): inside, clipped at a corner, all of it, nothing
    for lam, y, x in ((0.6, 3, 4), (0.5, 0, 8), (0.0, 3, 4), (1.0, 2, 2), (0.3, 6, 1)):
        draws = iter([x, y])
        with (
            mock.patch.object(torch, "randint", lambda *_, **__: torch.tensor([next(draws)])),
            mock.patch.object(cutmix._dist, "sample", lambda *_: lam),
        ):
            params = cutmix.make_params([batch])
        tensors[f"cutmix/{lam}-{y}-{x}"] = cutmix.transform(batch, params | inputs)
        tensors[f"cutmix/{lam}-{y}-{x}/labels"] = cutmix.transform(labels, params | inputs)


def rand_augment(tensors, image):
    """torchvision's fourteen operations: amounts of all magnitudes, and each with given amounts."""
    space = RandAugment()._augmentation_space(31, (image.height, image.width))
    signs, amounts = [], []
    for values, signed in space.values():
        amounts.append(values.float().expand(31))
        signs.append(signed)
    tensors["rand_augment_amounts"] = torch.stack(amounts)
    tensors["rand_augment_signs"] = torch.tensor(signs, dtype=torch.float32)
    given = {
        "Identity": [0],
        "ShearX": [0.3, -0.11],
        "ShearY": [0.09, -0.3],
        "TranslateX": [7.9, -24.2],
        "TranslateY": [16.8, -3.1],
        "Rotate": [9, -30, 0],
        "Brightness": [0.27, -0.9],
        "Color": [0.9, -0.27],
        "Contrast": [0.27, -0.9],
        "Sharpness": [0.9, -0.27],
        "Posterize": [4, 7],
        "Solarize": [178.5, 0],
        "AutoContrast": [0],
        "Equalize": [0],
    }
    assert list(given) == list(space)
    # not all levels occur, so that there is something to stretch
    flat = Image.fromarray((np.asarray(image) // 3 + 40).astype(np.uint8))
    tensors["flat"] = pixels(flat)
    for name, values in given.items():
        for amount in values:
            source = flat if name in ("AutoContrast", "Equalize") else image
            changed = _apply_op(source, name, float(amount), InterpolationMode.NEAREST, None)
            tensors[f"rand_augment/{name}={amount}"] = pixels(changed)


def shifts_and_squares(tensors, image):
    """By formula: AlexNet's lighting, pixel jitter, and Cutout as in its authors' numpy code."""
    values = np.asarray(image).astype(np.float64)
    eigenvalues = np.array([0.2175, 0.0188, 0.0045])
    eigenvectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    shift = 255 * eigenvectors @ (np.array([0.15, -0.3, 0.7]) * eigenvalues)
    for name, shift in (("lighting", shift), ("pixel_jitter", np.array(-13.3))):
        tensors[name] = torch.from_numpy(np.clip(np.rint(values + shift), 0, 255).astype(np.uint8))
    mask = np.ones((37, 53, 1))
    for y, x in ((20, 30), (1, 50)):
        mask[np.clip(y - 4, 0, 37) : np.clip(y + 4, 0, 37), np.clip(x - 4, 0, 53) : np.clip(x + 4, 0, 53)] = 0
    mean = np.rint(255 * np.array([0.485, 0.456, 0.406]))
    tensors["cutout"] = torch.from_numpy((values * mask + mean * (1 - mask)).astype(np.uint8))


def main():
    torch.set_num_threads(1)
    tensors = {}
    image = picture(37, 53, 1)
    tensors["image"] = pixels(image)
    sizes_and_crops(tensors, image)
    windows(tensors)
    mixing(tensors)
    rand_augment(tensors, image)
    shifts_and_squares(tensors, image)
    path = FIXTURES / "classify_transforms.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(0o644)
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
