"""One measuring process of an ONNX runtime: the same network and input as the other sides. Prints one JSON line.

    python benches/compare/runtime_side.py --engine onnxruntime --case NAME --threads N --model FILE.onnx ...

Engines: onnxruntime, openvino (32-bit floats, or with -bf16 at its end bfloat16 where the CPU has it). `--case idle` only imports: what
memory costs before any work.
"""

import argparse
import json
import statistics
import time

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from files import image_files
from memory import forget_peak, peak_mb


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", required=True, choices=ENGINES)
    parser.add_argument("--case", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=1)
    for file in ("model", "inputs", "data", "outputs"):
        parser.add_argument(f"--{file}")
    arguments = parser.parse_args()
    line = {"case": arguments.case, "threads": arguments.threads}
    version, load = ENGINES[arguments.engine]()
    if arguments.case == "idle":
        line |= {"version": version}
    else:
        work = predict if arguments.data else forward
        line |= work(load(arguments.model, arguments.threads), arguments)
    print(json.dumps({**line, "peak_rss_mb": line.get("peak_rss_mb", peak_mb())}), flush=True)


def onnxruntime():
    import onnxruntime

    def load(model, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda pixels: dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))

    return onnxruntime.__version__, load


def openvino(precision):
    import openvino

    def load(model, threads):
        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core.compile_model(model, "CPU", settings)
        names = [output.get_any_name() for output in compiled.outputs]
        request = compiled.create_infer_request()

        def infer(pixels):
            found = request.infer({"pixels": pixels})
            return {name: found[name].copy() for name in names}

        return infer

    return openvino.__version__, load


ENGINES = {
    "onnxruntime": onnxruntime,
    "openvino": lambda: openvino("f32"),
    "openvino-bf16": lambda: openvino("bf16"),
}


def forward(infer, arguments):
    """A normalized batch to the outputs of the graph."""
    pixels = load_file(arguments.inputs)["pixels"]
    return measure(lambda: infer(pixels), lambda: infer(pixels), arguments)


def predict(infer, arguments):
    """Files to boxes in the images. Unlike the other sides, images are resized as 8-bit values, by Pillow."""
    files = image_files(arguments.data)

    def boxes_in(file):
        image = Image.open(file).convert("RGB")
        scale = min(SHORT_SIDE / min(image.size), LONG_SIDE / max(image.size))
        width, height = (int(side * scale) for side in image.size)
        resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), "f4")
        pixels = ((resized / 255 - MEAN) / STD).transpose(2, 0, 1)
        found = infer(np.ascontiguousarray(pixels[None]))
        across, down = image.width / width, image.height / height
        return {**found, "boxes": found["boxes"] * np.array([across, down, across, down], "f4")}

    def all_images():
        for file in files:
            boxes_in(file)

    return {**measure(all_images, lambda: boxes_in(files[0]), arguments), "images": len(files)}


SHORT_SIDE, LONG_SIDE = 800, 1333
MEAN, STD = np.array([0.485, 0.456, 0.406], "f4"), np.array([0.229, 0.224, 0.225], "f4")


def measure(step, outputs, arguments):
    loading = peak_mb()
    forget_peak()
    times = []
    for index in range(arguments.warmup + arguments.iterations):
        start = time.perf_counter()
        step()
        if index >= arguments.warmup:
            times.append((time.perf_counter() - start) * 1000)
    during = peak_mb()
    if arguments.outputs:
        found = {name: np.ascontiguousarray(values, "f4") for name, values in outputs().items()}
        save_file(found, arguments.outputs)
    return {
        "median_ms": statistics.median(times),
        "min_ms": min(times),
        "step_rss_mb": during,
        "peak_rss_mb": max(loading, during),
    }


if __name__ == "__main__":
    main()
