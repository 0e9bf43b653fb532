"""Generates tests/fixtures/cmyk.jpg, a CMYK JPEG of one color, and prints the color as decoded by Pillow.

    python tests/oracle/cmyk.py    # needs pillow
"""

from pathlib import Path

from PIL import Image

path = Path(__file__).parents[1] / "fixtures" / "cmyk.jpg"
Image.new("CMYK", (16, 8), (0, 128, 222, 51)).save(path, quality=95)
print(path.stat().st_size, Image.open(path).convert("RGB").getpixel((3, 3)))
