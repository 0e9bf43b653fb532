"""torchvision's detector from the normalized, padded batch on: everything after `GeneralizedRCNNTransform`.

sedet is timed from there too; its resizing and normalising belong to the loader, which has a case of its own.
"""

from unittest import mock

import torch
from torchvision.models.detection.image_list import ImageList


def image_list(pixels):
    """Returns a batch whose images have no padding."""
    return ImageList(pixels, [tuple(pixels.shape[2:])] * len(pixels))


def detect(model, pixels):
    """Boxes in the input's pixels, labels and scores of every image."""
    images = image_list(pixels)
    features = model.backbone(images.tensors)
    proposals, _ = model.rpn(images, features)
    detections, _ = model.roi_heads(features, proposals, images.image_sizes)
    return detections


def losses(model, pixels, targets):
    """The four losses of training, by torchvision's names."""
    images = image_list(pixels)
    features = model.backbone(images.tensors)
    proposals, rpn = model.rpn(images, features, targets)
    _, roi = model.roi_heads(features, proposals, images.image_sizes, targets)
    return {**rpn, **roi}


# sedet's order of the losses.
LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")


def sampling_in_order():
    """The sampler takes the first candidates instead of a random choice, as sedet's `SampleOrder::InOrder`."""
    return mock.patch("torch.randperm", lambda n, device=None, **_: torch.arange(n, device=device))
