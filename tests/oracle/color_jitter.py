"""Reference numbers for `data::transforms::color`: torchvision's adjust_* on 8-bit tensors.

    python tests/oracle/color_jitter.py    # needs torch, torchvision, numpy, safetensors

Writes tests/fixtures/color_jitter.safetensors: `image` [3, height, width] u8 and `KIND=FACTOR`.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torchvision.transforms import functional as F

FACTORS = {
    "brightness": (F.adjust_brightness, [0.5, 1.4]),
    "contrast": (F.adjust_contrast, [0.0, 0.6, 1.5]),
    "saturation": (F.adjust_saturation, [0.0, 0.6, 1.5]),
    "hue": (F.adjust_hue, [-0.3, 0.05, 0.5]),
}


def main() -> None:
    rng = np.random.default_rng(3)
    image = torch.from_numpy(rng.integers(0, 256, (3, 20, 30), dtype=np.uint8))
    image[:, 0, :] = torch.arange(30, dtype=torch.uint8) * 8  # grays
    tensors = {"image": image}
    for kind, (adjust, factors) in FACTORS.items():
        for factor in factors:
            tensors[f"{kind}={factor}"] = adjust(image, factor).contiguous()
    path = Path(__file__).parents[1] / "fixtures" / "color_jitter.safetensors"
    save_file(tensors, path)
    print(path.stat().st_size)


if __name__ == "__main__":
    main()
