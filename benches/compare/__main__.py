"""Compares sedet with torchvision, ONNX Runtime, OpenVINO, pycocotools and faster-coco-eval on the same weights and inputs.

    python benches/compare                      # everything
    python benches/compare --case infer --case "train 512" --rounds 3
    python benches/compare --list

Prints a table (Markdown) to stdout and progress to stderr; writes all records as JSON. See README.md.
"""

import argparse
import json
import sys
from pathlib import Path

import cases
import report
from runner import Runner, build_sedet


def main():
    parser = argparse.ArgumentParser(prog="python benches/compare", description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", metavar="TEXT", help="only cases with this in their name; repeatable")
    parser.add_argument(
        "--reference", action="append", metavar="NAME", help="only this reference of each case, such as openvino; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="print the cases' names and stop")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--rounds", type=positive, default=5, help="processes of each side and case")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="of sedet's inference and training")
    parser.add_argument("--sedet", type=Path, metavar="PATH", help="the built bench; without it cargo builds it")
    parser.add_argument("--work", type=Path, default=Path("runs/compare"), help="directory of weights, inputs and results")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="JPEG files for the cases from files to detections [default: 64 generated]"
    )
    arguments = parser.parse_args()
    chosen = cases.chosen(arguments.case, arguments.reference)
    if arguments.list:
        print("\n".join(case.name for case in chosen))
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    runner = Runner(
        (arguments.sedet or build_sedet()).resolve(),
        arguments.threads,
        arguments.rounds,
        arguments.work.resolve(),
        arguments.images and arguments.images.resolve(),
        arguments.precision,
    )
    idle = runner.idle(chosen)
    machine = report.machine(arguments.threads, idle)
    print(report.machine_text(machine), flush=True)
    rows, records = [], {}
    path = arguments.work / "comparison.json"
    for case in chosen:
        measured = runner.measure(case)
        records[case.name] = measured["records"]
        rows += report.rows(case, measured, idle)
        # After each case, so that no result is lost if a later one fails or is stopped.
        path.write_text(json.dumps({"machine": machine, "rows": rows, "records": records}, indent=1) + "\n")
    print(f"\n{report.table(rows)}")
    print(f"all records: {path}", file=sys.stderr)


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    main()
