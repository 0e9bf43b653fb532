"""Proves with onnxruntime that an exported model gives the predictions of `sedet predict`.

Run from the repository's root, after `cargo build --release`:

    python tests/oracle/onnx_networks.py detector target/release/sedet CHECKPOINT IMAGES...
    python tests/oracle/onnx_networks.py networks target/release/sedet CHECKPOINTS IMAGES...

`detector` exports one detector and compares its detections on the images and on two black ones: the count, classes in
order of score, boxes in pixels of the image, scores. It also reports what half precision costs.

`networks` does this for a directory of networks with weights of zero, which tests/onnx.rs writes:

    SEDET_ONNX_NETWORKS=CHECKPOINTS cargo test --release --test networks -- --ignored every_network_is_written

The weights are random, drawn from a seed; the last layers are scaled by what they give for the first image, so that a
network has detections with different scores. Classifiers are compared by the probabilities of all classes.

The input of a model is computed here as its metadata says, by torchvision and Pillow. Images are decoded once and stored
as PNG: decoders of JPEG differ.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torchvision import transforms
from torchvision.models.detection.transform import GeneralizedRCNNTransform

BOX_TOLERANCE = 0.01  # pixels of the image
SCORE_TOLERANCE = 1e-4


def run(binary, *arguments):
    done = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def metadata(running):
    entries = running.get_modelmeta().custom_metadata_map
    return {key: json.loads(value) for key, value in entries.items()}


def model_input(preprocess, image):
    """The input for an image [height, width, 3] of 8 bits, [1, 3, height, width]."""
    mean, std = np.array(preprocess["mean"], "f4"), np.array(preprocess["std"], "f4")
    method, side, limit = preprocess["resize_method"], preprocess["min_size"], preprocess["max_size"]
    if preprocess["channel_order"] == "bgr":
        image = image[:, :, ::-1]
    if method == "torchvision":
        factor = 1 / np.float32(preprocess["scale"])
        assert abs(factor - 255) < 1e-3
        resize = GeneralizedRCNNTransform(side, limit, mean.tolist(), std.tolist(), size_divisible=1).eval()
        planes = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        return resize([planes])[0].tensors.numpy()
    height, width = image.shape[:2]
    if method == "pillow":
        resized = transforms.Resize(side)(Image.fromarray(image))
        resized = transforms.CenterCrop(preprocess["center_crop"])(resized)
    elif method in ("detectron2", "mmdetection"):
        scale = min(side / min(height, width), limit / max(height, width))
        size = (int(height * scale + 0.5), int(width * scale + 0.5))
        if method == "detectron2":
            resized = Image.fromarray(image).resize(size[::-1], Image.BILINEAR)
        else:
            # OpenCV's bilinear interpolation of 8-bit pixels, whose levels sedet rounds to nearest.
            planes = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
            planes = torch.nn.functional.interpolate(planes, size=size, mode="bilinear", align_corners=False)
            resized = (planes[0] + 0.5).floor().clamp(0, 255).permute(1, 2, 0).numpy()
    else:
        raise AssertionError(method)
    values = np.asarray(resized, "f4") * np.float32(preprocess["scale"])
    return np.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1)[None])


def detections(running, image):
    """Boxes in pixels of the image, category ids and scores."""
    described = metadata(running)
    pixels = model_input(described["preprocess"], image)
    boxes, labels, scores = running.run(["boxes", "labels", "scores"], {"pixels": pixels})
    assert boxes.shape == (len(labels), 4) and scores.shape == labels.shape, (boxes.shape, labels.shape, scores.shape)
    height, width = image.shape[:2]
    ratio = np.array([width, height, width, height]) / np.array(pixels.shape[2:])[[1, 0, 1, 0]]
    ids = [described["category_ids"][label] for label in labels]
    return boxes * ratio, ids, scores


def difference(expected, found):
    """The largest differences of boxes and scores, or the reason why detections differ. Detections whose scores differ
    by less than the tolerance may be in another order."""
    boxes, ids, scores = found
    if len(expected) != len(ids):
        return f"{len(expected)} and {len(ids)} detections"
    free = set(range(len(ids)))
    worst, worst_score = 0.0, 0.0
    for row in expected:
        x, y, w, h = row["bbox"]
        box = np.array([x, y, x + w, y + h])
        same = [i for i in free if ids[i] == row["category_id"] and abs(scores[i] - row["score"]) < SCORE_TOLERANCE]
        if not same:
            return f"no detection of class {row['category_id']} with score {row['score']}"
        best = min(same, key=lambda i: np.abs(boxes[i] - box).max())
        free.remove(best)
        worst = max(worst, np.abs(boxes[best] - box).max())
        worst_score = max(worst_score, abs(scores[best] - row["score"]))
    return worst, worst_score


class ImageSet:
    """Images as PNG files and as arrays."""

    def __init__(self, folder, files, size_of=lambda size: size):
        self.files, self.arrays = [], []
        images = [Image.open(file).convert("RGB") for file in files]
        for image in images + [Image.new("RGB", size) for size in [(640, 480), (301, 97)]]:
            self.add(folder, image.resize(size_of(image.size), Image.BICUBIC))

    def add(self, folder, image):
        path = folder / f"{len(self.files):03}.png"
        image.save(path, compress_level=1)
        self.files.append(path)
        self.arrays.append(np.asarray(image))


def export(binary, checkpoint, path, *options):
    path.unlink(missing_ok=True)
    run(binary, "weights", "export", checkpoint, "--format", "onnx", "-o", path, *options)
    onnx.checker.check_model(str(path), full_check=True)
    return path


def compare_detector(binary, checkpoint, image_set, folder):
    """Returns the number of detections, the largest differences of boxes and scores, and two dictionaries from images to
    differences that are too large: failures, and those where the reference decides nothing."""
    running = session(export(binary, checkpoint, folder / "detector.onnx"))
    rows = json.loads(run(binary, "predict", "--weights", checkpoint, "--json", "--score", 0, *image_set.files))
    loader = loaded_in_torch(checkpoint)
    worst, worst_of_loader, differences = (0.0, 0.0), 0.0, {}
    for n, image in enumerate(image_set.arrays):
        expected = [row for row in rows if row["image_id"] == n + 1]
        found = difference(expected, detections(running, image))
        if isinstance(found, str) or found[0] > BOX_TOLERANCE:
            differences.setdefault(n, []).append(f"ONNX: {found}")
        else:
            worst = tuple(map(max, worst, found))
        if loader is None:
            continue
        found = difference(expected, detections_in_torch(loader, image))
        if isinstance(found, str) or found[0] > BOX_TOLERANCE:
            differences.setdefault(n, []).append(f"load_in_torch.py: {found}")
        else:
            worst_of_loader = max(worst_of_loader, found[0])
    if loader is not None:
        print(f"load_in_torch.py: boxes {worst_of_loader:.5f} px")
    failures, undecided = {}, {}
    for n, lines in differences.items():
        of = failures if is_stable(running, image_set.arrays[n]) else undecided
        of[n] = f"{image_set.files[n].name}: {'; '.join(lines)}"
    return len(rows), worst, failures, undecided


def is_stable(running, image):
    """Whether the detections of the reference stay the same when the pixels change by a few roundings.

    On a uniform area, and at the edges of an image, all anchors of a row can have scores that are equal up to 1e-6. The
    last bit then decides which of them suppress the others: such an image says nothing about two programs."""
    described = metadata(running)
    pixels = model_input(described["preprocess"], image)
    expected = running.run(["boxes", "labels", "scores"], {"pixels": pixels})
    expected = [
        {"category_id": label, "score": score, "bbox": [*box[:2], *(box[2:] - box[:2])]}
        for box, label, score in zip(*expected)
    ]
    for seed in range(4):
        noise = np.random.default_rng(seed).standard_normal(pixels.shape).astype("f4")
        boxes, labels, scores = running.run(["boxes", "labels", "scores"], {"pixels": pixels * (1 + 1e-6 * noise)})
        found = difference(expected, (boxes, labels, scores))
        if isinstance(found, str) or found[0] > BOX_TOLERANCE:
            return False
    return True


def loaded_in_torch(checkpoint):
    """The model of docs/load_in_torch.py and its function for images; None for a model that it refuses."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
    import load_in_torch

    try:
        return *load_in_torch.load(checkpoint), load_in_torch.detect
    except SystemExit:
        return None


def detections_in_torch(loader, image):
    model, categories, detect = loader
    found = detect(model, categories, torch.from_numpy(image.copy()).permute(2, 0, 1))
    boxes = np.array([row["bbox"] for row in found]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes, [row["category_id"] for row in found], [row["score"] for row in found]


def check_raw(binary, checkpoint, image_set, folder):
    """Detections from the raw outputs by torchvision's operators equal those of the graph."""
    from torchvision.ops import batched_nms

    running = session(folder / "detector.onnx")
    raw = session(export(binary, checkpoint, folder / "raw.onnx", "--raw"))
    with safetensors.safe_open(checkpoint, "pt") as file:
        heads = json.loads(file.metadata()["sedet"])["model"]["roi_heads"]
    pixels = model_input(metadata(raw)["preprocess"], image_set.arrays[0])
    boxes, scores = map(torch.from_numpy, raw.run(["boxes", "scores"], {"pixels": pixels}))
    assert boxes.shape == (*scores.shape, 4), (boxes.shape, scores.shape)
    sides = boxes[..., 2:] - boxes[..., :2]
    proposals, classes = torch.where((scores > heads["score_threshold"]) & (sides >= heads["min_side"]).all(-1))
    boxes, scores = boxes[proposals, classes], scores[proposals, classes]
    kept = batched_nms(boxes, scores, classes, heads["nms_threshold"])[: heads["max_detections"]]
    expected = running.run(["boxes", "scores"], {"pixels": pixels})
    assert np.allclose(boxes[kept].numpy(), expected[0]) and np.allclose(scores[kept].numpy(), expected[1])


# ---------------------------------------------------------------------------------------------------------------------
# Networks with random weights
# ---------------------------------------------------------------------------------------------------------------------


def random_weights(shapes):
    generator = torch.Generator().manual_seed(5)
    last_norm = {}
    for name in shapes:
        module, _, rest = name.partition(".norms.")
        if rest:
            last_norm[module] = max(last_norm.get(module, 0), int(rest.split(".")[0]))
    weights = {}
    for name, shape in shapes.items():
        normal = torch.randn(shape, generator=generator)
        uniform = torch.rand(shape, generator=generator)
        tensor = name.split(".")[-1]
        if f"{name.rsplit('.', 1)[0]}.running_var" in shapes:
            module, _, rest = name.partition(".norms.")
            is_last = rest and int(rest.split(".")[0]) == last_norm[module]
            # As in trained networks: with 1 the activations would grow from block to block.
            scale = 0.2 if is_last else 0.8 + 0.4 * uniform
            weights[name] = {
                "weight": torch.ones(shape) * scale,
                "bias": 0.1 * normal,
                "running_mean": 0.1 * normal,
                "running_var": 0.8 + 0.45 * uniform,
            }[tensor]
        elif tensor == "bias":
            weights[name] = 0.1 * normal
        elif len(shape) == 4:
            weights[name] = normal * (2 / np.prod(shape[1:])) ** 0.5
        else:
            weights[name] = normal * (2 / shape[0]) ** 0.5
    return weights


def save(path, weights, header):
    header.pop("crc32c", None)  # a file without checksums is read as it is
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    safetensors.torch.save_file(weights, path, metadata={"sedet": json.dumps(header)})


def outputs_of(path, names, pixels):
    """Runs a model with some of its inner tensors as outputs."""
    model = onnx.load(path)
    del model.graph.output[:]
    for name in names:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return session(model.SerializeToString()).run(names, {"pixels": pixels})


# Layers in the order of computation, and the standard deviation of what they give.
DETECTOR_LAYERS = [
    (["fpn.layer_blocks.0", "fpn.layer_blocks.1", "fpn.layer_blocks.2", "fpn.layer_blocks.3"], 1.0),
    (["rpn.cls_logits"], 2.0),
    (["rpn.bbox_pred"], 0.2),
    (["box_head.cls_score"], 3.0),
    (["box_head.bbox_pred"], 0.5),
]
STEPS = [DETECTOR_LAYERS[:1], DETECTOR_LAYERS[1:3], DETECTOR_LAYERS[3:]]


def scaled_network(binary, checkpoint, image, folder):
    """Fills a checkpoint with random weights that give different scores."""
    with safetensors.safe_open(checkpoint, "pt") as file:
        header = json.loads(file.metadata()["sedet"])
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    weights = random_weights(shapes)
    is_detector = header["task"] == "detection"
    path = folder / "network.safetensors"
    steps = STEPS if is_detector else [[(["fc"], 2.0)]]
    for step in steps:
        save(path, weights, header)
        model = export(binary, path, folder / "network.onnx")
        pixels = model_input(metadata(session(model))["preprocess"], image)
        for layers, deviation in step:
            for layer in layers:
                if f"{layer}.bias" not in weights:
                    layer = layer.replace("_blocks", "_norms")  # a convolution with a norm
                output = {"fc": "logits"}.get(layer, layer.replace("rpn.", "rpn.p4.") if is_detector else layer)
                (values,) = outputs_of(model, [output], pixels)
                factor = float(deviation / values.std())
                assert np.isfinite(factor), (checkpoint, layer, values.std())
                weights[f"{layer}.weight"] *= factor
                weights[f"{layer}.bias"] *= factor
    if is_detector:
        # The background is likely.
        weights["box_head.cls_score.bias"][0] += 2.0
    save(path, weights, header)
    return path, is_detector


def compare_classifier(binary, checkpoint, image_set, folder):
    running = session(export(binary, checkpoint, folder / "classifier.onnx"))
    classes = running.get_outputs()[0].shape[1]
    rows = json.loads(run(binary, "predict", "--weights", checkpoint, "--json", "--top", classes, *image_set.files))
    worst = 0.0
    for row, image in zip(rows, image_set.arrays):
        pixels = model_input(metadata(running)["preprocess"], image)
        (logits,) = running.run(["logits"], {"pixels": pixels})
        expected = {entry["label"]: entry["probability"] for entry in row["classes"]}
        found = torch.from_numpy(logits).softmax(1)[0]
        worst = max(worst, *(abs(found[label].item() - p) for label, p in expected.items()))
    return worst


def input_size(checkpoint):
    """Returns the function from the size of an image to that of the model's input, width first."""
    with safetensors.safe_open(checkpoint, "pt") as file:
        preprocess = json.loads(file.metadata()["sedet"])["preprocess"]
    if "center_crop" in preprocess:
        return lambda size: (preprocess["center_crop"],) * 2
    limits = preprocess["min_size"], preprocess["max_size"]
    scale = lambda size: min(limits[0] / min(size), limits[1] / max(size))
    return lambda size: tuple(round(side * scale(size)) for side in size)


def networks(binary, directory, files, folder):
    failed = []
    for checkpoint in sorted(Path(directory).glob("*.safetensors")):
        # Of the input's size, so that nothing is resized: levels of 8 bits differ by one between Pillow and others,
        # and networks with random weights are sensitive to that.
        image_set = ImageSet(folder, files, input_size(checkpoint))
        path, is_detector = scaled_network(binary, checkpoint, image_set.arrays[0], folder)
        if is_detector:
            total, (box, score), failures, undecided = compare_detector(binary, path, image_set, folder)
            check_raw(binary, path, image_set, folder)
            line = f"{total} detections, boxes {box:.5f} px, scores {score:.1e}"
            line += f"; undecided: {[*undecided.values()]}" * bool(undecided)
            failures = [*failures.values(), *["no detections"] * (total == 0)]
        else:
            worst = compare_classifier(binary, path, image_set, folder)
            line = f"probabilities {worst:.1e}"
            failures = [line] * (worst > SCORE_TOLERANCE)
        print(f"{checkpoint.stem}: {line}", *failures, sep="\n    ", flush=True)
        failed += [checkpoint.stem] * bool(failures)
    assert not failed, failed


def detector(binary, checkpoint, files, folder):
    image_set = ImageSet(folder, files)
    total, (box, score), failures, undecided = compare_detector(binary, checkpoint, image_set, folder)
    print(f"{len(image_set.files)} images, {total} detections: boxes {box:.5f} px, scores {score:.1e}")
    print(*failures.values(), *(f"undecided: {line}" for line in undecided.values()), sep="\n")
    photos = [n for n in undecided if n < len(files)]
    assert 5 * len(photos) <= len(files), "too many images say nothing"
    check_raw(binary, checkpoint, image_set, folder)
    whole = session(folder / "detector.onnx")
    half = export(binary, checkpoint, folder / "half.onnx", "--precision", "f16")
    sizes = [(folder / name).stat().st_size for name in ("detector.onnx", "half.onnx")]
    moved, changed, lost = [0.0], [0.0], 0
    running = session(half)
    for image in image_set.arrays:
        boxes, ids, scores = detections(whole, image)
        others, other_ids, other_scores = detections(running, image)
        for box, label, score in zip(boxes, ids, scores):
            if score < 0.5:
                continue
            distances = [np.abs(other - box).max() if i == label else np.inf for other, i in zip(others, other_ids)]
            if not distances or min(distances) > 5:
                lost += 1
                continue
            nearest = int(np.argmin(distances))
            moved.append(distances[nearest])
            changed.append(abs(other_scores[nearest] - score))
    print(f"half precision: {sizes[1] / sizes[0]:.2f} of the size; of detections above 0.5, boxes move up to "
          f"{max(moved):.3f} px, scores change up to {max(changed):.1e}, {lost} of {len(moved) - 1 + lost} are lost")
    assert not failures


def main():
    task, binary, model, *images = sys.argv[1:]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        function = {"detector": detector, "networks": networks}[task]
        function(Path(binary).resolve(), Path(model), images, Path(folder))


if __name__ == "__main__":
    main()
