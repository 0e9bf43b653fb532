"""Reference numbers for `data::transforms::preprocess`: torchvision's and detectron2's input.

torchvision: GeneralizedRCNNTransform itself. detectron2: its ResizeShortestEdge reimplemented from its
definition (target size, then Pillow's BILINEAR on 8-bit pixels, BGR, mean on a scale of 255).

    python tests/oracle/resize.py    # needs torch, torchvision, pillow, numpy, safetensors

Writes tests/fixtures/resize.safetensors: `image` [height, width, 3] u8 and, for each pair of
sizes, `torchvision/MIN-MAX` and `detectron2/MIN-MAX`, [3, height, width] f32; and `row`, `column`
(images of one row and one column with `row/torchvision`, `column/torchvision` for sizes 800-1066),
which show how the source positions of a large image are rounded.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models.detection.transform import GeneralizedRCNNTransform

HEIGHT, WIDTH = 23, 37
# bigger, bigger but limited by the long side, smaller, much smaller, unchanged
SIZES = [(40, 80), (40, 50), (17, 40), (7, 40), (23, 37)]


def test_image() -> np.ndarray:
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    smooth = np.stack([x * 6, y * 10, (x + y) * 4], axis=-1)
    return np.clip(smooth + rng.integers(-60, 60, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)


def torchvision_input(image: np.ndarray, min_size: int, max_size: int) -> torch.Tensor:
    transform = GeneralizedRCNNTransform(
        min_size, max_size, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], size_divisible=1
    ).eval()
    planes = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    return transform([planes])[0].tensors[0].contiguous()


def detectron2_input(image: np.ndarray, min_size: int, max_size: int) -> torch.Tensor:
    height, width = image.shape[:2]
    scale = min_size / min(height, width)
    new_h, new_w = (min_size, scale * width) if height < width else (scale * height, min_size)
    if max(new_h, new_w) > max_size:
        shrink = max_size / max(new_h, new_w)
        new_h, new_w = new_h * shrink, new_w * shrink
    size = int(new_w + 0.5), int(new_h + 0.5)
    resized = np.asarray(Image.fromarray(image).resize(size, Image.BILINEAR))
    bgr = torch.from_numpy(resized[:, :, ::-1].copy()).permute(2, 0, 1).float()
    return (bgr - torch.tensor([103.53, 116.28, 123.675])[:, None, None]).contiguous()


def main() -> None:
    image = test_image()
    tensors = {"image": torch.from_numpy(image)}
    for min_size, max_size in SIZES:
        tensors[f"torchvision/{min_size}-{max_size}"] = torchvision_input(image, min_size, max_size)
        tensors[f"detectron2/{min_size}-{max_size}"] = detectron2_input(image, min_size, max_size)
    rng = np.random.default_rng(8)
    for name, shape in [("row", (1, 640, 3)), ("column", (480, 1, 3))]:
        line = rng.integers(0, 256, shape).astype(np.uint8)
        tensors[name] = torch.from_numpy(line)
        tensors[f"{name}/torchvision"] = torchvision_input(line, 800, 1066)
    path = Path(__file__).parents[1] / "fixtures" / "resize.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    print(path.stat().st_size, {name: list(t.shape) for name, t in tensors.items()})


if __name__ == "__main__":
    main()
