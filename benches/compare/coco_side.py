"""One measuring process of a COCO evaluator: from two files to the twelve metrics. Prints one JSON line.

    python benches/compare/coco_side.py --engine pycocotools|faster-coco-eval|idle --annotations FILE --results FILE
"""

import argparse
import contextlib
import io
import json
import statistics
import time

from memory import forget_peak, peak_mb


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", required=True)
    parser.add_argument("--annotations")
    parser.add_argument("--results")
    parser.add_argument("--warmup", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--case")
    arguments = parser.parse_args()
    if arguments.engine == "faster-coco-eval":
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as Evaluation
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval as Evaluation
    line = {"case": arguments.case, "threads": 1}
    if arguments.annotations:
        line |= measure(COCO, Evaluation, arguments)
    else:
        line["peak_rss_mb"] = peak_mb()
    print(json.dumps(line), flush=True)


def measure(COCO, Evaluation, arguments):
    loading = peak_mb()
    forget_peak()
    times, reading = [], []
    for index in range(arguments.warmup + arguments.iterations):
        # Both print progress; the speed of a terminal must not count.
        with contextlib.redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            truth = COCO(arguments.annotations)
            found = truth.loadRes(arguments.results)
            read = time.perf_counter()
            evaluation = Evaluation(truth, found, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            end = time.perf_counter()
        if index >= arguments.warmup:
            times.append((end - start) * 1000)
            reading.append((read - start) * 1000)
    return {
        "median_ms": statistics.median(times),
        "min_ms": min(times),
        "reading_ms": statistics.median(reading),
        "step_rss_mb": peak_mb(),
        "peak_rss_mb": max(loading, peak_mb()),
        "numbers": [float(value) for value in evaluation.stats[:12]],
    }


if __name__ == "__main__":
    main()
