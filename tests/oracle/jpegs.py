"""Small JPEGs of every kind of scan, written by libjpeg through Pillow.

Run from the repository's root:  python tests/oracle/jpegs.py
Needs numpy and pillow. Writes tests/fixtures/jpegs/: a noisy image of 75 x 53 pixels, whose sides are no multiples of a
unit, with and without subsampling, restart markers and progression. sedet checks that the data of each is complete.
"""

import numpy
from PIL import Image

import common

FOLDER = common.FIXTURES / "jpegs"
KINDS = {
    "plain": {"subsampling": "4:4:4"},
    "subsampled": {"subsampling": "4:2:0", "optimize": True},
    "restarts": {"subsampling": "4:2:2", "restart_marker_blocks": 3},
    "progressive": {"subsampling": "4:2:0", "progressive": True},
    "progressive_restarts": {"subsampling": "4:4:4", "progressive": True, "restart_marker_rows": 1},
    "gray": {},
    "gray_progressive": {"progressive": True},
}


def main():
    FOLDER.mkdir(exist_ok=True)
    rng = numpy.random.default_rng(5)
    rows, columns = numpy.mgrid[:53, :75]
    waves = numpy.stack([numpy.sin(rows / 7 + c) * numpy.cos(columns / (5 + c)) for c in range(3)], axis=-1)
    pixels = (128 + 70 * waves + rng.normal(0, 12, waves.shape)).clip(0, 255).astype(numpy.uint8)
    image = Image.fromarray(pixels)
    for name, options in KINDS.items():
        path = FOLDER / f"{name}.jpg"
        (image.convert("L") if name.startswith("gray") else image).save(path, quality=60, **options)
        path.chmod(0o644)
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
