"""Matches of detections and objects by pycocotools, and error types of the false positives by tidecv.

Run from the repository's root:  python tests/oracle/matching.py
Needs pycocotools (made with 2.0.11), tidecv (1.0.1) and numpy. Writes tests/fixtures/matching.json.

Coordinates are quarters of a pixel, exact in float32. The images have several classes, crowds, equal scores, equal
IoUs, duplicates, IoUs of exactly a threshold, no objects, no detections, and neither.

TIDE has its own matching, which differs in three cases: among equal IoUs it takes the first object, the IoU with a
crowd must be above the threshold, and ignored detections get an error type. Its errors are kept only for images where it
found the same detections correct as pycocotools; that is asserted to be nearly all.
"""

import contextlib
import copy
import io
import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tidecv import TIDE, Data
from tidecv.errors.main_errors import BackgroundError, BoxError, ClassError, DuplicateError, OtherError

FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "matching.json"
THRESHOLDS = [0.3, 0.5, 0.55, 0.75, 0.9]
CLASSES = 4
NAMES = {ClassError: "Cls", BoxError: "Loc", OtherError: "Both", DuplicateError: "Dupe", BackgroundError: "Bkg"}
rng = np.random.default_rng(20200821)


def quarters(values):
    return [round(float(v) * 4) / 4 for v in values]


def random_box():
    w, h = np.exp(rng.uniform(np.log(8), np.log(180), 2))
    return quarters([rng.uniform(0, 400 - w), rng.uniform(0, 300 - h), w, h])


def jitter(box, strength):
    x, y, w, h = box
    move = rng.normal(0, strength, 4)
    return quarters([x + move[0] * w, y + move[1] * h, w * np.exp(move[2]), h * np.exp(move[3])])


def score():
    """Two decimals, so that ties are common."""
    return round(float(rng.beta(2, 2)), 2)


def random_image():
    truth, found = [], []
    for _ in range(int(rng.integers(0, 9))):
        box = random_box()
        truth.append([*box, int(rng.integers(CLASSES)), int(rng.random() < 0.12)])
        if rng.random() < 0.15:  # a second object at nearly the same position
            truth.append([*jitter(box, 0.05), int(rng.integers(CLASSES)), 0])
    for *box, class_, _ in truth:
        for _ in range(int(rng.integers(0, 4))):
            right = class_ if rng.random() < 0.7 else int(rng.integers(CLASSES))
            found.append([*jitter(box, rng.choice([0.02, 0.1, 0.3])), right, score()])
    for _ in range(int(rng.integers(0, 4))):
        found.append([*random_box(), int(rng.integers(CLASSES)), score()])
    order = rng.permutation(len(found))
    return truth, [found[i] for i in order]


def exact_overlaps():
    """An object of 20 x 20 and boxes inside it whose IoU is exactly a threshold, or next to one."""
    for height in [2, 6, 10, 11, 15, 18, 20]:
        for class_ in [0, 1]:
            yield [[40.0, 40.0, 20.0, 20.0, 0, 0]], [[40.0, 40.0, 20.0, float(height), class_, 0.5]]


def crooked():
    yield [], []
    yield [[10.0, 10.0, 50.0, 60.0, 1, 0]], []
    yield [], [[10.0, 10.0, 50.0, 60.0, 1, 0.5]]
    # Two objects at the same position, three detections with the same score.
    same = [50.0, 60.0, 40.0, 40.0]
    yield [[*same, 2, 0], [*same, 2, 0]], [[*same, 2, 0.75]] * 3
    # A detection at equal distance from two objects; then one that only matches the first, or the last.
    pair = [[0.0, 0.0, 20.0, 20.0, 0, 0], [10.0, 0.0, 20.0, 20.0, 0, 0]]
    for x in [0.0, 10.0]:
        yield pair, [[5.0, 0.0, 20.0, 20.0, 0, 0.9], [x, 0.0, 20.0, 20.0, 0, 0.8]]
    # A crowd that contains several detections, one of them near a real object, some of another class.
    crowd = [[20.0, 20.0, 300.0, 200.0, 1, 1], [40.0, 40.0, 60.0, 90.0, 1, 0]]
    inside = [[float(x), 50.0, 38.0, 80.0, 1, 0.6] for x in range(30, 290, 40)]
    yield crowd, [*inside, [41.0, 40.0, 60.0, 90.0, 1, 0.6], [200.0, 60.0, 30.0, 30.0, 0, 0.9]]
    # Two overlapping crowds, and a detection half inside them.
    yield [[0.0, 0.0, 100.0, 100.0, 3, 1], [0.0, 0.0, 100.0, 100.0, 3, 1]], [[90.0, 0.0, 20.0, 10.0, 3, 0.5]]
    # Only a crowd of another class.
    yield [[0.0, 0.0, 100.0, 100.0, 3, 1]], [[10.0, 10.0, 20.0, 10.0, 2, 0.5]]


def as_coco(images):
    images = [{"id": i + 1} for i in range(len(images))]
    annotations, detections = [], []
    for i, (truth, found) in enumerate(images):
        for at, (*box, class_, crowd) in enumerate(truth):
            annotations.append(
                {"id": len(annotations) + 1, "at": at, "image_id": i + 1, "category_id": class_ + 1, "bbox": box}
                | {"area": box[2] * box[3], "iscrowd": crowd}
            )
        for *box, class_, value in found:
            detections.append({"image_id": i + 1, "category_id": class_ + 1, "bbox": box, "score": value})
    categories = [{"id": c + 1, "name": str(c)} for c in range(CLASSES)]
    return {"images": images, "categories": categories, "annotations": annotations}, detections


def by_pycocotools(images):
    """For each threshold and image: what each detection matched (-1: nothing), what each object (crowds: -1)."""
    ground_truth, detections = as_coco(images)
    place, seen = {}, {}  # of a detection's id in its image
    for number, detection in enumerate(detections):
        place[number + 1] = seen.get(detection["image_id"], 0)
        seen[detection["image_id"]] = place[number + 1] + 1
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(ground_truth)
        gt.createIndex()
        evaluation = COCOeval(gt, gt.loadRes(copy.deepcopy(detections)), "bbox")
        evaluation.params.iouThrs = np.array(THRESHOLDS)
        evaluation.params.maxDets = [10**6]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
    at = {a["id"]: a["at"] for a in ground_truth["annotations"]}
    crowds = {a["id"] for a in ground_truth["annotations"] if a["iscrowd"]}
    result = [[{"found": [-1] * len(f), "truth": [-1] * len(t)} for t, f in images] for _ in THRESHOLDS]
    for image in filter(None, evaluation.evalImgs):
        for t in range(len(THRESHOLDS)):
            image = result[t][image["image_id"] - 1]
            for number, match in zip(image["dtIds"], image["dtMatches"][t]):
                if match > 0:
                    image["found"][place[number]] = at[int(match)]
            for number, match in zip(image["gtIds"], image["gtMatches"][t]):
                if match > 0 and number not in crowds:
                    image["truth"][at[number]] = place[int(match)]
    return result


def by_tide(images, threshold):
    """For each image: which detections are correct, and the error type of each detection that has one."""
    objects, detections, places = Data("objects"), Data("detections"), []
    for i, (truth, found) in enumerate(images):
        objects.add_image(i, str(i))
        for *box, class_, crowd in truth:
            add = objects.add_ignore_region if crowd else objects.add_ground_truth
            add(i, class_, box=list(box))
        for at, (*box, class_, value) in enumerate(found):
            detections.add_detection(i, class_, value, box=list(box))
            places.append((i, at))
    run = TIDE(pos_threshold=threshold).evaluate(objects, detections)
    result = [(set(), {}) for _ in images]
    for detection in detections.annotations:
        i, at = places[detection["_id"]]
        if detection["used"] is True:
            result[i][0].add(at)
    for error in filter(lambda error: type(error) in NAMES, run.errors):
        i, at = places[error.pred["_id"]]
        result[i][1][at] = NAMES[type(error)]
    return result


def main():
    images = [*crooked(), *exact_overlaps(), *(random_image() for _ in range(45))]
    matches = by_pycocotools(images)
    compared, total = 0, 0
    for t, threshold in enumerate(THRESHOLDS):
        by_picture = by_tide(images, threshold)
        for (truth, _), match, (tide_right, errors) in zip(images, matches[t], by_picture):
            crowds = {at for at, (*_, crowd) in enumerate(truth) if crowd}
            right = {d for d, at in enumerate(match["found"]) if at >= 0 and at not in crowds}
            total += 1
            match["errors"] = None
            if right == tide_right:
                compared += 1
                wrong = [at < 0 for at in match["found"]]
                match["errors"] = [errors[d] if is_wrong else "" for d, is_wrong in enumerate(wrong)]
    assert compared > 0.95 * total, (compared, total)
    names = [name for one in matches for match in one for name in match["errors"] or []]
    print({name: names.count(name) for name in sorted(set(names))}, f"{compared} of {total} images by TIDE")
    fixture = {
        "made_with": "pycocotools 2.0.11, tidecv 1.0.1",
        "images": [{"truth": truth, "found": found} for truth, found in images],
        "thresholds": THRESHOLDS,
        "matches": matches,
    }
    FIXTURE.write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
    print(f"{FIXTURE.name}: {FIXTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
