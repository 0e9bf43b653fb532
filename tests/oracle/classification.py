"""Loss and metrics of classifiers, as torch, scikit-learn and torchmetrics compute them."""

import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix, top_k_accuracy_score
from torchmetrics.functional.classification import multiclass_calibration_error

from common import save, seed

CLASSES = 12


def losses(out):
    """Cross entropy with smoothing and with two labels per image, and its gradient."""
    seed(1)
    logits = torch.randn(7, 5) * 3
    labels = torch.randint(5, (7,))
    others = torch.randint(5, (7,))
    shares = torch.rand(7)
    out |= {"loss.logits": logits, "loss.labels": labels, "loss.others": others, "loss.shares": shares}
    for smoothing in (0.0, 0.1):
        x = logits.clone().requires_grad_()
        hard = F.cross_entropy(x, labels, label_smoothing=smoothing)
        hard.backward()
        out[f"loss.hard_{smoothing}"] = hard.reshape(1)
        out[f"loss.hard_{smoothing}_grad"] = x.grad
        x = logits.clone().requires_grad_()
        one_hot = F.one_hot(labels, 5) * (1 - shares[:, None]) + F.one_hot(others, 5) * shares[:, None]
        mixed = F.cross_entropy(x, one_hot, label_smoothing=smoothing)
        mixed.backward()
        out[f"loss.mixed_{smoothing}"] = mixed.reshape(1)
        out[f"loss.mixed_{smoothing}_grad"] = x.grad


def metrics(out):
    """Scores of 300 images for twelve classes, some confident and wrong."""
    seed(2)
    labels = torch.randint(CLASSES, (300,))
    labels[:CLASSES] = torch.arange(CLASSES)
    logits = torch.randn(300, CLASSES) * 2
    logits[torch.arange(300), labels] += torch.rand(300) * 5
    probabilities = logits.double().softmax(1)
    predicted = logits.argmax(1)
    top5 = top_k_accuracy_score(labels, logits, k=5, labels=range(CLASSES))
    calibration = multiclass_calibration_error(probabilities, labels, CLASSES, n_bins=15, norm="l1")
    out |= {
        "metrics.logits": logits,
        "metrics.labels": labels,
        "metrics.confusion": torch.from_numpy(confusion_matrix(labels, predicted)),
        "metrics.values": torch.tensor(
            [
                100 * (predicted == labels).double().mean(),
                100 * top5,
                F.cross_entropy(logits.double(), labels),
                100 * calibration,
            ],
            dtype=torch.float32,
        ),
    }


if __name__ == "__main__":
    tensors = {}
    losses(tensors)
    metrics(tensors)
    save("classification.safetensors", tensors)
