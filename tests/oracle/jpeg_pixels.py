"""Small JPEGs and the pixels that libjpeg-turbo decodes them to, through Pillow.

Run from the repository's root:  python tests/oracle/jpeg_pixels.py
Needs numpy and pillow. Writes tests/fixtures/jpeg_pixels/: for each kind NAME.jpg and, losslessly, NAME.png with its pixels as RGB.
sedet compares every value.

Pillow writes no files with chroma subsampled by rows only, by four columns, or in YCCK. These are made from a file with as many blocks
in a unit: the sampling factors (or the color transform) in the header are changed and the size so that the number of units is the same.
The image is then scrambled, which is as good for a comparison.
"""

import io
import struct

import numpy
from PIL import Image, features

import common

DIRECTORY = common.FIXTURES / "jpeg_pixels"


def image(width, height):
    """Smooth color, noise, and edges between saturated colors, where a decoder's interpolation of chroma shows."""
    rng = numpy.random.default_rng(width * 1000 + height)
    rows, columns = numpy.mgrid[:height, :width]
    waves = numpy.stack([numpy.sin(rows / 7 + c) * numpy.cos(columns / (5 + c)) for c in range(3)], axis=-1)
    pixels = 128 + 80 * waves + rng.normal(0, 10, waves.shape)
    pixels[height // 3 : 2 * height // 3, width // 4 : width // 2] = [235, 10, 20]
    pixels[height // 2 :, 3 * width // 4 :] = [10, 20, 245]
    return Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))


def jpeg(source, **options):
    file = io.BytesIO()
    source.save(file, "JPEG", **{"quality": 75, **options})
    return file.getvalue()


def segments(data):
    """Yields marker, position of the content and its length for the segments of the header."""
    at = 2
    while True:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        yield marker, at + 4, length - 2
        if marker == 0xDA:
            return
        at += 2 + length


def resampled(data, width, height, factors):
    """The file with another size and other sampling factors of the first component."""
    changed = bytearray(data)
    for marker, at, _ in segments(data):
        if marker in (0xC0, 0xC2):
            changed[at + 1 : at + 5] = struct.pack(">HH", height, width)
            changed[at + 7] = factors
    return bytes(changed)


def as_ycck(data):
    """The CMYK file, declared to be YCCK by Adobe's segment."""
    changed = bytearray(data)
    for marker, at, length in segments(data):
        if marker == 0xEE:
            changed[at + length - 1] = 2
    return bytes(changed)


def with_long_tables(data):
    """The file with 16-bit quantization tables, some of whose values need them."""
    out = bytearray(data[:2])
    for marker, at, length in segments(data):
        content = data[at : at + length]
        if marker == 0xDB:
            tables = [content[start : start + 65] for start in range(0, length, 65)]
            content = b"".join(
                bytes([0x10 | table[0]]) + struct.pack(">64H", *(v if k < 40 else 40 * v for k, v in enumerate(table[1:])))
                for table in tables
            )
        # 16-bit tables are allowed in an extended sequential frame only.
        out += bytes([0xFF, 0xC1 if marker == 0xC0 else marker]) + struct.pack(">H", len(content) + 2) + content
        end = at + length
    return bytes(out) + data[end:]


def cmyk(width, height):
    pixels = numpy.asarray(image(width, height).convert("CMYK")).copy()
    pixels[..., 3] = numpy.arange(width) * 3
    return Image.fromarray(pixels, "CMYK")


def kinds():
    for sampling in ("4:4:4", "4:2:2", "4:2:0"):
        short = sampling.replace(":", "")
        yield f"{short}", jpeg(image(37, 29), subsampling=sampling)
        yield f"{short}_progressive", jpeg(image(37, 29), subsampling=sampling, progressive=True)
        yield f"{short}_restarts", jpeg(image(29, 37), subsampling=sampling, restart_marker_blocks=2)
        for size in ((1, 1), (3, 2), (17, 13)):
            yield f"{short}_{size[0]}x{size[1]}", jpeg(image(*size), subsampling=sampling)
    yield "440", resampled(jpeg(image(37, 29), subsampling="4:2:2"), 29, 37, 0x12)
    yield "440_progressive", resampled(jpeg(image(39, 22), subsampling="4:2:2", progressive=True), 22, 39, 0x12)
    # Two by two units of 16 x 16 pixels become two by two of 32 x 8.
    yield "411", resampled(jpeg(image(30, 27), subsampling="4:2:0"), 51, 13, 0x41)
    for quality in (10, 50, 95, 100):
        yield f"quality_{quality}", jpeg(image(37, 29), quality=quality, subsampling="4:2:0")
    yield "optimized", jpeg(image(37, 29), optimize=True)
    yield "long_tables", with_long_tables(jpeg(image(37, 29)))
    yield "gray", jpeg(image(37, 29).convert("L"))
    yield "gray_progressive", jpeg(image(37, 29).convert("L"), progressive=True)
    yield "rgb", jpeg(image(37, 29), keep_rgb=True)
    yield "cmyk", jpeg(cmyk(37, 29))
    yield "cmyk_progressive", jpeg(cmyk(37, 29), progressive=True)
    yield "ycck", as_ycck(jpeg(cmyk(37, 29)))


def main():
    DIRECTORY.mkdir(exist_ok=True)
    total = 0
    for name, data in kinds():
        path = DIRECTORY / f"{name}.jpg"
        path.write_bytes(data)
        pixels = DIRECTORY / f"{name}.png"
        Image.open(path).convert("RGB").save(pixels, optimize=True)
        for file in (path, pixels):
            file.chmod(0o644)
            total += file.stat().st_size
    print(f"{DIRECTORY.name}: {total / 1024:.0f} KiB, libjpeg-turbo {features.version_feature('libjpeg_turbo')}")


if __name__ == "__main__":
    main()
