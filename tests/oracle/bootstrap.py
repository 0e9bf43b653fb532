"""Reference numbers for bootstrap intervals, computed with pycocotools and numpy.

Run from the repository's root:  python tests/oracle/bootstrap.py
Needs pycocotools (made with 2.0.11) and numpy. Reads the set of coco_eval.py; writes tests/fixtures/bootstrap.json: the images of
each sample, by position, the twelve metrics of two lists of detections on it, and the intervals.

The second list lacks every third row of the first. An image that is drawn twice gets two ids, with copies of its objects and
detections.
"""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
SAMPLES = 16

ground_truth = json.loads((FIXTURES / "coco_eval_gt.json").read_text())
detections = json.loads((FIXTURES / "coco_eval_dt.json").read_text())
others = [row for index, row in enumerate(detections) if index % 3]
rng = np.random.default_rng(8)
# The order of images decides ties between scores; pycocotools sorts them by id.
ground_truth["images"].sort(key=lambda image: image["id"])


def copies(rows, drawn):
    """Returns the rows of the images drawn, with their new ids."""
    by_image = {}
    for row in rows:
        by_image.setdefault(row["image_id"], []).append(row)
    images = ground_truth["images"]
    return [
        {**row, "image_id": position + 1}
        for position, index in enumerate(drawn)
        for row in by_image.get(images[index]["id"], [])
    ]


def metrics(rows, drawn):
    gt = COCO()
    gt.dataset = {
        "images": [{**ground_truth["images"][index], "id": position + 1} for position, index in enumerate(drawn)],
        "categories": ground_truth["categories"],
        "annotations": [
            {**annotation, "id": number + 1} for number, annotation in enumerate(copies(ground_truth["annotations"], drawn))
        ],
    }
    gt.createIndex()
    evaluation = COCOeval(gt, gt.loadRes(copies(rows, drawn)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


number = len(ground_truth["images"])
samples = [rng.integers(0, number, number).tolist() for _ in range(SAMPLES)]
with contextlib.redirect_stdout(io.StringIO()):
    first = np.array([metrics(detections, drawn) for drawn in samples])
    second = np.array([metrics(others, drawn) for drawn in samples])
    once = [metrics(rows, range(number)) for rows in (detections, others)]
assert (first > -1).all() and (second > -1).all()
difference = first - second
expected = {
    "samples": samples,
    "metrics": {
        key: {
            "value": once[0][i],
            "interval": np.quantile(first[:, i], [0.025, 0.975]).tolist(),
            "other": once[1][i],
            "difference": np.quantile(difference[:, i], [0.025, 0.975]).tolist(),
            "larger_in": float(np.mean(difference[:, i] > 0)),
        }
        for i, key in enumerate(KEYS)
    },
}
path = FIXTURES / "bootstrap.json"
path.write_text(json.dumps(expected, separators=(",", ":")) + "\n")
print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
