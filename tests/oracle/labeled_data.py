"""Classification datasets: the asset with ImageNet's classes, and small files in the structure of the official ones.

Writes assets/imagenet-classes.txt and tests/fixtures/labeled/.
"""

import gzip
import importlib.util
import io
import json
import pickle
import shutil
import struct
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import timm.data
from torchvision.datasets import ImageFolder

from common import FIXTURES

HERE = Path(__file__).resolve()
ASSET = HERE.parent.parent.parent / "assets" / "imagenet-classes.txt"
INFO = Path(timm.data.__file__).parent / "_info"
# Located without importing it: only the package's lists are needed, not TensorFlow.
TFDS = Path(importlib.util.find_spec("tensorflow_datasets").origin).parent
OUT = FIXTURES / "labeled"

# The only two classes with the same name.
DISTINCT = {"n02012849": "crane, wading bird", "n03126707": "crane, lifting machine"}


def devkit_numbers():
    """ILSVRC2012_ID of each synset: downsampled ImageNet numbers its classes as the development kit does."""
    order = (TFDS / "image_classification" / "imagenet_resized_labels.txt").read_text().split()
    return {synset: number for number, synset in enumerate(order, start=1)}


def imagenet_classes():
    synsets = (INFO / "imagenet_synsets.txt").read_text().split()
    lemmas = dict(line.split("\t", 1) for line in (INFO / "imagenet_synset_to_lemma.txt").read_text().splitlines())
    assert synsets == sorted(synsets) and len(synsets) == 1000
    names = {synset: DISTINCT.get(synset, lemmas[synset]) for synset in synsets}
    assert len(set(names.values())) == 1000
    numbers = devkit_numbers()
    assert sorted(numbers) == synsets
    ASSET.write_text("".join(f"{synset}\t{numbers[synset]}\t{name}\n" for synset, name in names.items()))
    return names


def devkit(names):
    """The first 50 labels of the validation images as synsets (TensorFlow Datasets) and as the devkit's numbers."""
    synsets = (TFDS / "datasets" / "imagenet2012" / "validation_labels.txt").read_text().split()[:50]
    folder = OUT / "devkit"
    folder.mkdir(parents=True)
    numbers = devkit_numbers()
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{numbers[s]}\n" for s in synsets))
    sorted_synsets = sorted(names)
    return {"synsets": synsets, "labels": [sorted_synsets.index(synset) for synset in synsets]}


def image_folder():
    """The classes and samples that torchvision's ImageFolder finds in a directory tree."""
    files = [
        "zebra/b.jpg", "zebra/a.JPG", "zebra/B.png", "Ant/10.jpeg", "Ant/9.jpg", "Ant/sub/1.jpg", "Ant/sub/deep/0.jpg",
        "Ant/sub-2/0.jpg", "Ant/readme.txt", "été/x.webp", "10/x.bmp", "9/x.tiff", "bear cub/x y.jpg",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as root:
        for file in files:
            path = Path(root) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        found = ImageFolder(root)
        samples = [[str(Path(path).relative_to(root)), label] for path, label in found.samples]
        return {"files": files, "classes": found.classes, "samples": samples}


class Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2's cPickle wrote it: strings are bytes, NumPy's functions have their old names."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_str(self, obj):
        data = obj.encode("latin-1") if isinstance(obj, str) else obj
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(obj)

    def save_function(self, obj, name=None):
        self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
        self.memoize(obj)

    dispatch[str] = dispatch[bytes] = save_str
    dispatch[type(np.core.multiarray._reconstruct)] = save_function


def pickled(value, protocol=None):
    if protocol is not None:
        return pickle.dumps(value, protocol)
    out = io.BytesIO()
    Python2Pickler(out, 2).dump(value)
    return out.getvalue()


def archive(path, folder, files):
    """A .tar.gz without dates, in an order that is not the batches'."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
        for name in reversed(sorted(files)):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(files[name])
            tar.addfile(entry, io.BytesIO(files[name]))
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))


def cifar():
    """Both datasets with few images in all four encodings; sixteen colors, so that they compress."""
    rng = np.random.default_rng(1)
    ten_names = [f"ten {i}" for i in range(10)]
    fine_names = [f"fine {i}" for i in range(100)]
    batches = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]

    def pictures(count):
        return (rng.integers(0, 2, (count, 3072)) * 16).astype(np.uint8)

    binary, python, expected = {}, {}, {"cifar10": {}, "cifar100": {}}
    for index, batch in enumerate(batches):
        data = pictures(2)
        labels = [int(label) for label in rng.integers(0, 10, 2)]
        binary[f"{batch}.bin"] = b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, data))
        python[batch] = {
            "batch_label": f"batch {index + 1} of 6", "labels": labels, "data": data,
            "filenames": [f"caf\xe9_s_{i:06}.png" for i in range(2)],
        }  # fmt: skip
        expected["cifar10"][batch] = [[label, int(row.astype(np.int64).sum()), row[:3].tolist()] for label, row in zip(labels, data)]
    expected["cifar10"]["names"] = ten_names
    binary["batches.meta.txt"] = "".join(f"{name}\n" for name in ten_names).encode() + b"\n"
    python["batches.meta"] = {"num_cases_per_batch": 2, "label_names": ten_names, "num_vis": 3072}
    archive(OUT / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", binary)
    archive(OUT / "cifar-10-python.tar.gz", "cifar-10-batches-py", {k: pickled(v) for k, v in python.items()})
    for protocol in (2, 3, 4):
        folder = OUT / f"protocol{protocol}"
        folder.mkdir()
        # As rewritten by users: with Python 3, after loading with encoding="bytes".
        again = {key.encode(): value for key, value in python["test_batch"].items()}
        (folder / "test_batch").write_bytes(pickled(again, protocol))

    binary, python = {}, {}
    for batch, count in (("train", 3), ("test", 2)):
        data = pictures(count)
        coarse = [int(label) for label in rng.integers(0, 20, count)]
        fine = [int(label) for label in rng.integers(0, 100, count)]
        binary[f"{batch}.bin"] = b"".join(bytes([c, f]) + row.tobytes() for c, f, row in zip(coarse, fine, data))
        python[batch] = {
            "filenames": [f"x_s_{i:06}.png" for i in range(count)], "batch_label": f"{batch}ing batch 1 of 1",
            "fine_labels": fine, "coarse_labels": coarse, "data": data,
        }  # fmt: skip
        expected["cifar100"][batch] = [[label, int(row.astype(np.int64).sum()), row[:3].tolist()] for label, row in zip(fine, data)]
    expected["cifar100"]["names"] = fine_names
    coarse_names = [f"coarse {i}" for i in range(20)]
    binary["fine_label_names.txt"] = "".join(f"{name}\n" for name in fine_names).encode()
    binary["coarse_label_names.txt"] = "".join(f"{name}\n" for name in coarse_names).encode()
    python["meta"] = {"fine_label_names": fine_names, "coarse_label_names": coarse_names}
    archive(OUT / "cifar-100-binary.tar.gz", "cifar-100-binary", binary)
    archive(OUT / "cifar-100-python.tar.gz", "cifar-100-python", {k: pickled(v) for k, v in python.items()})
    return expected


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    names = imagenet_classes()
    expected = {"devkit": devkit(names), "image_folder": image_folder(), **cifar()}
    (OUT / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
    for path in sorted(OUT.rglob("*")):
        if path.is_file():
            print(f"{path.relative_to(FIXTURES)}: {path.stat().st_size / 1024:.1f} KiB")


if __name__ == "__main__":
    main()
