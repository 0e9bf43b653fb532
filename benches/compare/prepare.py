"""Generates the files that both sides read: weights, inputs, images, results. Everything is seeded; existing files are kept."""

import json
import random
import subprocess

import torch
from safetensors.torch import save_file

import networks

BOXES_PER_IMAGE = 5
SCENES = 64  # of the loader and the quick start
COCO_IMAGES = 5000
COCO_CLASSES = 80


def prepare(case, work, sedet, images):
    """The paths that a case's measuring processes get, by their option. `images` is a directory of JPEG files, or None for
    generated ones."""
    files = {}
    if case.network:
        files["weights"] = work / f"{case.network}.safetensors"
        once(files["weights"], lambda path: write_weights(case.network, path))
    if case.network and case.kind != "predict":
        height, width = case.size if case.kind != "recipe" else (160, 256)
        batch = 4 if case.kind == "recipe" else 1
        classes = networks.SHAPES_CLASSES if case.kind == "recipe" else networks.CLASSES
        files["inputs"] = work / f"input-{batch}x{height}x{width}-{classes}.safetensors"
        once(files["inputs"], lambda path: write_input(batch, height, width, classes, path))
    if case.runtimes:
        files["model"] = work / f"{case.network}.onnx"
        once(files["model"], lambda path: write_onnx(sedet, files["weights"], path))
    if case.kind == "predict" and images:
        files["data"] = images
    elif case.kind in ("recipe", "load", "predict"):
        # The recipe's own scenes are small; the loader's are as large as photographs of COCO.
        side, seed = (256, 0) if case.kind == "recipe" else (640, 1)
        files["data"] = work / f"scenes-{side}"
        once(files["data"], lambda path: write_scenes(sedet, path, side, seed))
        if case.kind == "predict":
            files["data"] /= "train2017"
    if case.kind == "evaluate":
        files["annotations"] = work / "annotations.json"
        files["results"] = work / "results.json"
        once(files["results"], lambda path: write_evaluation(files["annotations"], path))
    return files


def once(path, make):
    """Creates a file or directory that appears under its name only when it is complete."""
    if path.exists():
        return
    unfinished = path.with_name(f"unfinished-{path.name}")
    print(f"preparing {path.name}", flush=True)
    make(unfinished)
    unfinished.rename(path)


def write_weights(network, path):
    torch.manual_seed(0)
    model = networks.build(network)
    networks.randomise_norms(model)
    if hasattr(model, "roi_heads"):
        networks.spread_scores(model, smooth_noise(1, 480, 640))
    tensors = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    metadata = {"format": "pt"}
    if hasattr(model, "sedet_metadata"):
        tensors = {name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")}
        tensors["fc.weight"] = tensors["fc.weight"].T.contiguous()  # sedet's matrices are [in, out]
        metadata = {"sedet": json.dumps(model.sedet_metadata())}
    save_file(tensors, path, metadata=metadata)


def write_onnx(sedet, weights, path):
    """The network as sedet exports it; tests/onnx.rs proves that ONNX Runtime finds the same boxes with it."""
    subprocess.run([sedet, "--kind", "export", "--weights", weights, "--outputs", path], check=True)


def load_weights(network, path):
    """The reference's network with the weights of the file."""
    from safetensors.torch import load_file

    model = networks.build(network)
    tensors = load_file(path)
    if hasattr(model, "sedet_metadata"):
        tensors["fc.weight"] = tensors["fc.weight"].T.contiguous()
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise SystemExit(f"{path}: not the weights of {network}: {missing} {unexpected}")
    return model


def smooth_noise(batch, height, width):
    """Returns blobs of several sizes with noise, mean 0 and std 1, like a normalized image."""
    pixels = 0.3 * torch.randn(batch, 3, height, width)
    for cell in (8, 32, 128):
        coarse = torch.randn(batch, 3, height // cell + 2, width // cell + 2)
        pixels += torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (pixels - pixels.mean()) / pixels.std()


def write_input(batch, height, width, classes, path):
    """Pixels, and for training boxes with labels (1 and up: 0 is the background)."""
    torch.manual_seed(1)
    tensors = {"pixels": smooth_noise(batch, height, width)}
    extent = torch.tensor([width, height, width, height])
    for image in range(batch):
        sides = torch.rand(BOXES_PER_IMAGE, 2) * 0.5 + 0.1
        corners = torch.rand(BOXES_PER_IMAGE, 2) * (1 - sides)
        tensors[f"boxes.{image}"] = torch.cat([corners, corners + sides], dim=1) * extent
        tensors[f"labels.{image}"] = torch.randint(1, classes, (BOXES_PER_IMAGE,)).float()
    save_file(tensors, path)


def write_scenes(sedet, path, side, seed):
    command = [sedet, "--kind", "scenes", "--data", path, "--images", SCENES, "--side", side, "--seed", seed]
    subprocess.run([str(part) for part in command], check=True)


def write_evaluation(annotations, results):
    """Annotations of the size of val2017: 5,000 images, 80 classes, about 7 objects and 36 detections per image, of which about
    half are on an object with a displaced box, some with a wrong class."""
    draw = random.Random(2)
    truth, rows = [], []
    images = [{"id": n, "width": 640, "height": 480, "file_name": f"{n:012}.jpg"} for n in range(1, COCO_IMAGES + 1)]
    for image in images:
        objects = []
        for _ in range(min(int(draw.expovariate(1 / 7.3)), 60)):
            side = min(10 * 2 ** draw.uniform(0, 5), 470)
            width, height = min(side * draw.uniform(0.5, 1.6), 630), min(side * draw.uniform(0.6, 1.2), 470)
            box = [draw.uniform(0, 640 - width), draw.uniform(0, 480 - height), width, height]
            box = [round(value, 2) for value in box]
            # A few classes are common, as persons are.
            category = min(int(draw.expovariate(1 / 18)) + 1, COCO_CLASSES)
            crowd = int(draw.random() < 0.01)
            objects.append((box, category))
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": box,
                    "area": round(width * height * draw.uniform(0.5, 1.0), 2),
                    "iscrowd": crowd,
                }
            )
        for _ in range(min(int(draw.expovariate(1 / 37)), 100)):
            if objects and draw.random() < 0.5:
                (x, y, width, height), category = draw.choice(objects)
                spread = draw.choice((0.03, 0.1, 0.3))
                box = [x + draw.gauss(0, spread) * width, y + draw.gauss(0, spread) * height]
                box += [width * draw.uniform(1 - spread, 1 + spread), height * draw.uniform(1 - spread, 1 + spread)]
                category = category if draw.random() < 0.8 else draw.randint(1, COCO_CLASSES)
                score = draw.betavariate(3, 2)
            else:
                box = [draw.uniform(0, 500), draw.uniform(0, 400), draw.uniform(5, 140), draw.uniform(5, 80)]
                category, score = draw.randint(1, COCO_CLASSES), draw.betavariate(1, 4)
            box = [round(value, 2) for value in box]
            row = {"image_id": image["id"], "category_id": category, "bbox": box, "score": score}
            rows.append(row)
    categories = [{"id": n, "name": f"class {n}"} for n in range(1, COCO_CLASSES + 1)]
    data = {"info": {}, "images": images, "annotations": truth, "categories": categories}
    annotations.write_text(json.dumps(data))
    results.write_text(json.dumps(rows))
