"""The files of a directory of images, the same for all sides."""

from pathlib import Path


def image_files(directory):
    """The JPEG files of a directory, by name."""
    return sorted(path for path in Path(directory).iterdir() if path.suffix == ".jpg")
