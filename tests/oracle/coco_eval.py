"""Reference numbers for the COCO box metrics, computed with pycocotools.

Run from the repository's root:  python tests/oracle/coco_eval.py
Needs pycocotools (made with 2.0.11) and numpy. Writes tests/fixtures/coco_eval_{gt,dt,expected}.json.

The set is small but covers edge cases: ties in scores (inside an image and across images), ties in IoU,
crowds, images without objects, without detections and without both, more than 100 detections of
one class in an image, classes without objects, without detections and without both, objects and
detections whose area is exactly on the limits between small, medium and large, mask areas that
differ from the box, category ids with gaps and lists that are not sorted by id.
"""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pycocotools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
# id -> name; 11 has no detections, 18 no objects, 27 neither.
CATEGORIES = {44: "bottle", 1: "person", 3: "car", 90: "toothbrush", 11: "hydrant", 18: "dog", 27: "bag"}
OBJECT_CLASSES = [1, 1, 1, 3, 44, 90, 11]
rng = np.random.default_rng(20240607)


def r2(values):
    return [round(float(v), 2) for v in values]


def random_box(width, height):
    side = np.exp(rng.uniform(np.log(6), np.log(260), 2))
    w, h = min(side[0], width * 0.9), min(side[1], height * 0.9)
    return r2([rng.uniform(0, width - w), rng.uniform(0, height - h), w, h])


def jitter(box, strength):
    x, y, w, h = box
    return r2(
        [
            x + rng.normal(0, strength) * w,
            y + rng.normal(0, strength) * h,
            w * np.exp(rng.normal(0, strength)),
            h * np.exp(rng.normal(0, strength)),
        ]
    )


def score():
    """Two decimals, so that ties are common."""
    return round(float(rng.beta(2, 2)), 2)


images, annotations, detections = [], [], []


def add_object(image_id, category_id, box, area=None, iscrowd=0):
    annotations.append(
        {
            "id": 1000 + 3 * len(annotations),
            "image_id": image_id,
            "category_id": category_id,
            "bbox": box,
            "area": round(box[2] * box[3] * rng.uniform(0.5, 1.0), 3) if area is None else area,
            "iscrowd": iscrowd,
        }
    )


def add_detection(image_id, category_id, box, value):
    detections.append({"image_id": image_id, "category_id": category_id, "bbox": box, "score": value})


for index in range(36):
    image_id = 900 - 17 * index
    width, height = (640, 480) if index % 3 else (375, 500)
    images.append({"id": image_id, "file_name": f"{image_id:012d}.jpg", "width": width, "height": height})
    if index == 0:
        continue  # neither objects nor detections
    objects = 0 if index == 1 else int(rng.integers(1, 14))  # image 1: only detections
    boxes = []
    for _ in range(objects):
        category_id = int(rng.choice(OBJECT_CLASSES))
        box = random_box(width, height)
        boxes.append((category_id, box))
        add_object(image_id, category_id, box, iscrowd=int(rng.random() < 0.08))
    if index == 2:
        continue  # only objects
    for category_id, box in boxes:
        for _ in range(int(rng.integers(0, 4))):
            found = category_id if rng.random() < 0.8 else int(rng.choice([1, 3, 44, 90, 18]))
            if found != 11:
                add_detection(image_id, found, jitter(box, rng.choice([0.02, 0.08, 0.25])), score())
    for _ in range(int(rng.integers(0, 8))):
        add_detection(image_id, int(rng.choice([1, 3, 44, 90, 18])), random_box(width, height), score())

# More than 100 detections of one class in one image; the true ones are spread over the ranking.
crowded = images[5]["id"]
for _ in range(150):
    add_detection(crowded, 1, random_box(640, 480), score())
for annotation in [a for a in annotations if a["image_id"] == crowded and a["category_id"] == 1]:
    for value in (0.03, 0.5, 0.97):
        add_detection(crowded, 1, jitter(annotation["bbox"], 0.02), value)

# Areas exactly on the limits 32^2 and 96^2, and one ulp beside them.
for offset, (side, area) in enumerate(
    [(32.0, 1024.0), (32.0, 1023.999), (32.0, 1024.001), (96.0, 9216.0), (96.0, 9215.999), (96.0, 9216.001)]
):
    image_id = images[10 + offset]["id"]
    box = [10.0, 20.0, side, side]
    add_object(image_id, 3, box, area=area)
    add_detection(image_id, 3, box, 0.5)
    add_detection(image_id, 3, [200.0, 20.0, side, side], 0.5)

# Two objects at the same position and two detections with the same score: ties in IoU and in rank.
image_id = images[20]["id"]
for _ in range(2):
    add_object(image_id, 44, [50.0, 60.0, 40.0, 40.0], area=1600.0)
    add_detection(image_id, 44, [50.0, 60.0, 40.0, 40.0], 0.75)
add_detection(image_id, 44, [50.0, 60.0, 40.0, 20.0], 0.75)  # IoU exactly 0.5

# A crowd that contains several detections, one of them also near a real object.
image_id = images[21]["id"]
add_object(image_id, 1, [20.0, 20.0, 300.0, 200.0], area=41000.0, iscrowd=1)
add_object(image_id, 1, [40.0, 40.0, 60.0, 90.0], area=4000.0)
for x in range(30, 290, 40):
    add_detection(image_id, 1, [float(x), 50.0, 38.0, 80.0], 0.6)
add_detection(image_id, 1, [41.0, 40.0, 60.0, 90.0], 0.6)

order = rng.permutation(len(detections))
detections = [detections[i] for i in order]
ground_truth = {
    "images": images,
    "categories": [{"id": i, "name": name} for i, name in CATEGORIES.items()],
    "annotations": annotations,
}


def evaluate():
    gt = COCO()
    gt.dataset = json.loads(json.dumps(ground_truth))
    gt.createIndex()
    dt = gt.loadRes(json.loads(json.dumps(detections)))
    evaluation = COCOeval(gt, dt, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def mean(values):
    values = values[values > -1]
    return float(np.mean(values)) if values.size else -1.0


with contextlib.redirect_stdout(io.StringIO()):
    result = evaluate()
precision, recall = result.eval["precision"], result.eval["recall"]
per_class = {
    str(category_id): {
        "AP": mean(precision[:, :, k, 0, 2]),
        "AP50": mean(precision[0, :, k, 0, 2]),
        "AR100": mean(recall[:, k, 0, 2]),
        "precision50": precision[0, :, k, 0, 2].tolist(),
    }
    for k, category_id in enumerate(result.params.catIds)
}
expected = {
    "made_with": f"pycocotools {getattr(pycocotools, '__version__', '2.0.11')}",
    "metrics": dict(zip(KEYS, [float(v) for v in result.stats])),
    "per_class": per_class,
}


def write(name, value):
    path = FIXTURES / name
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


FIXTURES.mkdir(exist_ok=True)
write("coco_eval_gt.json", ground_truth)
write("coco_eval_dt.json", detections)
write("coco_eval_expected.json", expected)
print(json.dumps(expected["metrics"], indent=1))
print({k: v["AP"] for k, v in per_class.items()})
