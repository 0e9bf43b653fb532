"""torchvision's path from files to batches: a dataset, a DataLoader, `GeneralizedRCNNTransform`."""

import json
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.models.detection.transform import GeneralizedRCNNTransform

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def decoded(path):
    """An image as floats from 0 to 1, decoded by libjpeg-turbo (faster than Pillow)."""
    pixels = decode_image(read_file(str(path)), ImageReadMode.RGB)
    return pixels.to(torch.float32).div_(255)


class Scenes(Dataset):
    """The training images of a COCO directory."""

    def __init__(self, directory, transform):
        self.directory = Path(directory) / "train2017"
        data = json.loads((Path(directory) / "annotations/instances_train2017.json").read_text())
        self.images = sorted(data["images"], key=lambda image: image["id"])
        ids = sorted(category["id"] for category in data["categories"])
        self.label = {category: place + 1 for place, category in enumerate(ids)}
        self.boxes = {image["id"]: [] for image in self.images}
        for annotation in data["annotations"]:
            if not annotation["iscrowd"]:
                self.boxes[annotation["image_id"]].append(annotation)
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        pixels = decoded(self.directory / image["file_name"])
        found = self.boxes[image["id"]]
        corners = [(x, y, x + w, y + h) for x, y, w, h in (annotation["bbox"] for annotation in found)]
        boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor([self.label[a["category_id"]] for a in found], dtype=torch.int64)
        return self.transform(pixels, {"boxes": boxes, "labels": labels})


class Prepared:
    """Normalizes and resizes in the worker, in parallel with other work."""

    def __init__(self):
        self.whole = GeneralizedRCNNTransform(800, 1333, MEAN, STD)
        self.whole.eval()

    def __call__(self, pixels, _target):
        pixels, _ = self.whole.resize(self.whole.normalize(pixels), None)
        return pixels


class Padded:
    """Batches padded to a multiple of 32."""

    def __call__(self, images):
        return GeneralizedRCNNTransform(800, 1333, MEAN, STD).batch_images(images)


def evaluation(directory, workers):
    """Loads all images in order, two per batch."""
    return DataLoader(
        Scenes(directory, Prepared()),
        batch_size=2,
        num_workers=workers,
        collate_fn=Padded(),
        persistent_workers=workers > 0,
    )


def flipped_half_the_time(pixels, target):
    """torchvision's `RandomHorizontalFlip` of its detection recipe."""
    if torch.rand(1) < 0.5:
        pixels = pixels.flip(-1)
        width = pixels.shape[-1]
        target["boxes"][:, [0, 2]] = width - target["boxes"][:, [2, 0]]
    return pixels, target


def as_lists(samples):
    return tuple(zip(*samples))


def endless(directory):
    """Shuffled training batches of four from one worker; the model itself normalizes and resizes."""
    batches = DataLoader(
        Scenes(directory, flipped_half_the_time),
        batch_size=4,
        shuffle=True,
        num_workers=1,
        collate_fn=as_lists,
        persistent_workers=True,
        drop_last=True,
    )
    while True:
        for images, targets in batches:
            yield list(images), list(targets)
