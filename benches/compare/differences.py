"""The differences between the outputs of the two sides."""

import torch
from safetensors.torch import load_file
from torchvision.ops import box_iou

# IoU above which two boxes are the same except for rounding.
SAME_BOX = 0.95
STD = 0.225  # of a normalized image, approximately


def difference(case, theirs, ours):
    """Returns differences by name, and a short string for the table. `theirs` and `ours` are files, or lists of metrics, of the reference and of sedet."""
    return DIFFERENCES[case.kind](theirs, ours)


def tensors(measure):
    def from_files(theirs, ours):
        theirs, ours = load_file(theirs), load_file(ours)
        # A runtime has the outputs of its graph only.
        if not theirs or theirs.keys() - ours.keys():
            raise SystemExit(f"the sides wrote different outputs: {sorted(theirs)} and {sorted(ours)}")
        return measure(theirs, ours)

    return from_files


def relative(theirs, ours):
    """Returns the largest difference relative to the largest value."""
    if theirs.shape != ours.shape:
        raise SystemExit(f"shapes {tuple(theirs.shape)} and {tuple(ours.shape)}")
    return ((theirs - ours).abs().max() / theirs.abs().max()).item()


@tensors
def logits(theirs, ours):
    theirs, ours = theirs["logits"], ours["logits"]
    found = {"absolute": (theirs - ours).abs().max().item(), "relative": relative(theirs, ours)}
    return found, f"logits {found['absolute']:.1e} ({found['relative']:.1e} of the largest)"


@tensors
def detections(theirs, ours):
    found, text = {}, []
    if "proposals" in theirs:
        found["pyramid"] = max(relative(theirs[f"p{level}"], ours[f"p{level}"]) for level in range(2, 7))
        text.append(f"pyramid {found['pyramid']:.1e}")
        here, there = matched(theirs["proposals"], ours["proposals"], None, None)
        found["proposals"] = len(theirs["proposals"])
        found["proposals_unmatched"] = len(theirs["proposals"]) + len(ours["proposals"]) - 2 * len(here)
        if len(here):
            found["proposal_pixels"] = (theirs["proposals"][here] - ours["proposals"][there]).abs().max().item()
    here, there = matched(theirs["boxes"], ours["boxes"], theirs["labels"], ours["labels"])
    found["detections"] = len(theirs["boxes"])
    found["detections_unmatched"] = len(theirs["boxes"]) + len(ours["boxes"]) - 2 * len(here)
    if len(here):
        found["score"] = (theirs["scores"][here] - ours["scores"][there]).abs().max().item()
        found["box_pixels"] = (theirs["boxes"][here] - ours["boxes"][there]).abs().max().item()
        text.append(f"scores {found['score']:.1e}, boxes {found['box_pixels']:.1e} px")
    unmatched = found["detections_unmatched"]
    return found, ", ".join(text) + f"; {len(here)} of {found['detections']} detections" + (f", {unmatched} alone" if unmatched else "")


def matched(theirs, ours, their_labels, our_labels):
    """Returns the indices of the boxes that both sides have, each once."""
    if not len(theirs) or not len(ours):
        return torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
    overlap = box_iou(theirs, ours)
    if their_labels is not None:
        overlap[their_labels[:, None] != our_labels[None]] = 0
    best, there = overlap.max(1)
    mutual = overlap.max(0).indices[there] == torch.arange(len(theirs))
    here = torch.nonzero((best > SAME_BOX) & mutual).flatten()
    return here, there[here]


@tensors
def losses(theirs, ours):
    theirs, ours = theirs["losses"], ours["losses"]
    apart = (theirs - ours).abs() / theirs.abs()
    found = {"relative": apart.max(1).values.tolist(), "theirs": theirs.tolist(), "ours": ours.tolist()}
    return found, "losses of three steps " + ", ".join(f"{step:.1e}" for step in found["relative"])


@tensors
def pixels(theirs, ours):
    theirs, ours = theirs["first_batch"], ours["first_batch"]
    if theirs.shape != ours.shape:
        raise SystemExit(f"batches of {tuple(theirs.shape)} and {tuple(ours.shape)}")
    levels = (theirs - ours).abs() * STD * 255
    found = {"levels": levels.max().item(), "mean_levels": levels.mean().item()}
    return found, f"pixels {found['levels']:.1f} of 255, mean {found['mean_levels']:.2f}"


def metrics(theirs, ours):
    found = {"absolute": max(abs(a - b) for a, b in zip(theirs, ours, strict=True)), "theirs": theirs, "ours": ours}
    return found, f"12 numbers {found['absolute']:.1e} (AP {theirs[0]:.3f})"


DIFFERENCES = {
    "classify": logits,
    "detect": detections,
    "predict": detections,
    "train": losses,
    "recipe": losses,
    "load": pixels,
    "evaluate": metrics,
}
