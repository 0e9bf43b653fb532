"""One measuring process of torchvision: a case is set up, warmed up, timed, and checked. Prints one JSON line.

    python benches/compare/torch_side.py --case NAME --threads N --warmup W --iterations I --weights FILE ...

The runner calls it; sedet's side takes the same options. `--case idle` only imports: what memory costs before any work.
"""

import argparse
import json
import statistics
import time

import torch
import torchvision
from safetensors.torch import load_file, save_file

import cases
import prepare
import torch_detector
import torch_loader
from files import image_files
from memory import forget_peak, peak_mb

# bf16: automatic mixed precision with channels last, which is faster than either alone.
PRECISIONS = ("f32", "bf16")
CHECKED_STEPS = 3
# Large enough that three steps change the losses, so that the gradients are compared too.
CHECKED_LEARNING_RATE = 1e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--precision", choices=PRECISIONS, default="f32")
    for file in ("weights", "inputs", "data", "outputs"):
        parser.add_argument(f"--{file}")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    line = {"case": arguments.case, "threads": torch.get_num_threads()}
    if arguments.case == "idle":
        line |= {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "onednn": torch.backends.mkldnn.is_available(),
            "mkl": torch.backends.mkl.is_available(),
        }
    else:
        case = cases.by_name(arguments.case)
        line |= WORK[case.kind](case, arguments)
    print(json.dumps({**line, "peak_rss_mb": line.get("peak_rss_mb", peak_mb())}), flush=True)


def timed(step, arguments):
    """Runs the step; times in ms and the peaks of memory before and during it."""
    loading = peak_mb()
    forget_peak()
    times = []
    for index in range(arguments.warmup + arguments.iterations):
        start = time.perf_counter()
        step(index)
        if index >= arguments.warmup:
            times.append((time.perf_counter() - start) * 1000)
    during = peak_mb()
    return {
        "median_ms": statistics.median(times),
        "min_ms": min(times),
        "step_rss_mb": during,
        "peak_rss_mb": max(loading, during),
    }


def in_layout(arguments, value):
    """Returns a module or a batch in the order of memory that is the faster one for this precision."""
    return value.to(memory_format=torch.channels_last) if arguments.precision == "bf16" else value


def autocast(arguments):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.precision == "bf16")


def classify(case, arguments):
    model = in_layout(arguments, prepare.load_weights(case.network, arguments.weights).eval())
    pixels = in_layout(arguments, load_file(arguments.inputs)["pixels"])
    with torch.inference_mode(), autocast(arguments):
        found = timed(lambda _: model(pixels), arguments)
        write(arguments, lambda: {"logits": model(pixels)})
    return found


def detect(case, arguments):
    model = in_layout(arguments, prepare.load_weights(case.network, arguments.weights).eval())
    pixels = in_layout(arguments, load_file(arguments.inputs)["pixels"])

    def outputs():
        features = model.backbone(pixels)
        proposals, _ = model.rpn(torch_detector.image_list(pixels), features)
        found = torch_detector.detect(model, pixels)[0]
        return {
            **{f"p{level + 2}": feature for level, feature in enumerate(features.values())},
            "proposals": proposals[0],
            "boxes": found["boxes"],
            "scores": found["scores"],
            "labels": found["labels"].float() - 1,  # sedet counts without the background
        }

    with torch.inference_mode(), autocast(arguments):
        found = timed(lambda _: torch_detector.detect(model, pixels), arguments)
        write(arguments, outputs)
    return found


def train(case, arguments):
    model = in_layout(arguments, prepare.load_weights(case.network, arguments.weights).train())
    pixels, targets = batch(arguments.inputs)
    pixels = in_layout(arguments, pixels)
    step = trainer(model, sgd(model, 1e-5), arguments)
    found = timed(lambda _: step(pixels, targets), arguments)
    write(arguments, lambda: {"losses": checked_losses(case, arguments)})
    return found


def recipe(case, arguments):
    """An epoch's steps: decode, flip, resize, normalize, forward, backward, clip, AdamW, average."""
    model = prepare.load_weights(case.network, arguments.weights).train()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99), use_buffers=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    batches = torch_loader.endless(arguments.data)

    def step(index):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (0.01 + 0.99 * min(index / 100, 1))
        images, targets = next(batches)
        optimizer.zero_grad()
        loss = sum(model(images, targets).values())
        check_finite(loss)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        average.update_parameters(model)

    found = timed(step, arguments)
    write(arguments, lambda: {"losses": checked_losses(case, arguments)})
    return found


def load(case, arguments):
    """Loads the images of a directory as padded batches of two."""
    batches = torch_loader.evaluation(arguments.data, case.workers)

    def epoch(_):
        for _batch in batches:
            pass

    found = timed(epoch, arguments)
    # The workers are separate processes with a copy of the library; only this process is counted.
    images = len(batches.dataset)
    write(arguments, lambda: {"first_batch": next(iter(batches))})
    return {**found, "images": images}


def predict(case, arguments):
    """Detects the objects in the images of a directory, from the files to boxes in the images."""
    model = prepare.load_weights(case.network, arguments.weights).eval()
    files = image_files(arguments.data)

    def boxes_in(file):
        return model([torch_loader.decoded(file)])[0]

    def all_images(_):
        for file in files:
            boxes_in(file)

    def outputs():
        found = boxes_in(files[0])
        return {**found, "labels": found["labels"].float() - 1}

    with torch.inference_mode():
        found = timed(all_images, arguments)
        write(arguments, outputs)
    return {**found, "images": len(files)}


WORK = {"classify": classify, "detect": detect, "predict": predict, "train": train, "recipe": recipe, "load": load}


def batch(inputs):
    """Pixels, and the targets in torchvision's form."""
    tensors = load_file(inputs)
    pixels = tensors["pixels"]
    targets = [
        {"boxes": tensors[f"boxes.{image}"], "labels": tensors[f"labels.{image}"].long()}
        for image in range(len(pixels))
    ]
    return pixels, targets


def sgd(model, learning_rate):
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trainable, lr=learning_rate, momentum=0.9, weight_decay=1e-4)


def trainer(model, optimizer, arguments):
    def step(pixels, targets):
        optimizer.zero_grad()
        with autocast(arguments):
            parts = torch_detector.losses(model, pixels, targets)
            loss = sum(parts.values())
        check_finite(loss)
        loss.backward()
        optimizer.step()
        return parts

    return step


def checked_losses(case, arguments):
    """The four losses of the first steps from the given weights, without randomness."""
    model = prepare.load_weights(case.network, arguments.weights).train()
    pixels, targets = batch(arguments.inputs)
    step = trainer(model, sgd(model, CHECKED_LEARNING_RATE), arguments)
    rows = []
    with torch_detector.sampling_in_order():
        for _ in range(CHECKED_STEPS):
            parts = step(pixels, targets)
            rows.append(torch.stack([parts[name].detach() for name in torch_detector.LOSSES]))
    return torch.stack(rows)


def check_finite(loss):
    if not torch.isfinite(loss):
        raise SystemExit("the loss is not finite, so the times are meaningless")


def write(arguments, outputs):
    """Runs after the timing, so that the check affects neither time nor memory."""
    if arguments.outputs:
        tensors = {name: tensor.detach().float().contiguous().clone() for name, tensor in outputs().items()}
        save_file(tensors, arguments.outputs)


if __name__ == "__main__":
    main()
