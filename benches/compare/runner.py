"""Measuring processes: builds sedet's, alternates between the sides, and measures the load of other processes."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from cases import RUNTIMES
from differences import difference
from prepare import prepare

HERE = Path(__file__).resolve().parent
# Set on some machines for old OpenBLAS builds; they would slow a current one.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def build_sedet():
    """Builds the bench with cargo and returns its path."""
    command = ["cargo", "bench", "--bench", "compare", "--no-run", "--message-format=json"]
    done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit("cargo could not build the bench")
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    built = [m for m in messages if m.get("target", {}).get("name") == "compare" and m.get("executable")]
    return Path(built[-1]["executable"])


class Runner:
    """Measures cases with both sides on the same files."""

    def __init__(self, sedet, threads, rounds, work, images, precision):
        self.sedet, self.threads, self.rounds, self.work, self.images = sedet, threads, rounds, work, images
        self.precision = precision
        self.environment = {name: value for name, value in os.environ.items() if name not in UNSET}
        for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            self.environment[name] = str(threads)

    def idle(self, cases):
        """Returns the memory of an idle process of each side of these cases."""
        sides = ["sedet", "torchvision", *(reference for case in cases for reference in case.references)]
        return {side: self.call(self.idle_command(side))[0] for side in dict.fromkeys(sides)}

    def idle_command(self, side):
        threads = ["--threads", self.threads]
        if side == "sedet":
            return [self.sedet, "--kind", "idle", *threads]
        if side.startswith("torchvision"):
            return [sys.executable, HERE / "torch_side.py", "--case", "idle", *threads]
        if side in RUNTIMES:
            return [sys.executable, HERE / "runtime_side.py", "--engine", side, "--case", "idle", *threads]
        return [sys.executable, HERE / "coco_side.py", "--engine", side]

    def measure(self, case):
        """The records of all rounds and sides, and the differences from each reference."""
        files = prepare(case, self.work, self.sedet, self.images)
        sides = [*case.references, "sedet"]
        records = {side: [] for side in sides}
        disturbance = 0.0
        for turn in range(self.rounds):
            # Each side runs first equally often.
            order = sides[turn % len(sides) :] + sides[: turn % len(sides)]
            for side in order:
                outputs = self.outputs(case, side) if turn == 0 else None
                record, others = self.call(self.command(case, side, files, outputs))
                if record["case"] != case.name:
                    raise SystemExit(f'{side} was asked for "{case.name}" and answered "{record["case"]}"')
                records[side].append(record)
                disturbance = max(disturbance, others)
                print(
                    f"{case.name}, round {turn + 1}, {side}: {record['median_ms']:.1f} ms, "
                    f"{record['peak_rss_mb']:.0f} MB, machine busy with others {others:.0%}",
                    file=sys.stderr,
                    flush=True,
                )
        apart = {}
        for reference in case.references:
            if case.kind == "evaluate":
                apart[reference] = difference(case, records[reference][0]["numbers"], records["sedet"][0]["numbers"])
            else:
                apart[reference] = difference(case, self.outputs(case, reference), self.outputs(case, "sedet"))
        return {"records": records, "differences": apart, "disturbance": disturbance}

    def outputs(self, case, side):
        return self.work / f"outputs-{side}-{case.name.replace(' ', '-').replace(',', '')}.safetensors"

    def command(self, case, side, files, outputs):
        if side == "sedet":
            command = [self.sedet, "--kind", case.kind, "--precision", self.precision]
            if case.kind == "load":
                command += ["--workers", max(case.workers, 1)]
        elif side.startswith("torchvision"):
            command = [sys.executable, HERE / "torch_side.py"]
            if side.endswith("-bf16"):
                command += ["--precision", "bf16"]
        elif side in RUNTIMES:
            command = [sys.executable, HERE / "runtime_side.py", "--engine", side]
        else:
            command = [sys.executable, HERE / "coco_side.py", "--engine", side]
        command += ["--case", case.name, "--threads", self.threads]
        command += ["--warmup", case.warmup, "--iterations", case.iterations]
        for option, path in files.items():
            # A runtime reads the network from its own file, the other sides from the weights.
            if option not in (("weights",) if side in RUNTIMES else ("model",)):
                command += [f"--{option}", path]
        if outputs and case.kind != "evaluate":
            command += ["--outputs", outputs]
        return command

    def call(self, command):
        """Returns the JSON line of a process, and the share of the machine that other processes used meanwhile."""
        command = [str(part) for part in command]
        busy, started, own = machine_busy(), time.monotonic(), children_busy()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=self.environment)
        if done.returncode != 0:
            raise SystemExit(f"failed (status {done.returncode}): {' '.join(command)}")
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            raise SystemExit(f"printed no JSON line: {' '.join(command)}")
        seconds = (time.monotonic() - started) * os.cpu_count()
        others = (machine_busy() - busy) - (children_busy() - own)
        return json.loads(lines[-1]), max(others / seconds, 0.0)


def machine_busy():
    """Returns the seconds that all CPUs together were busy or taken by a hypervisor, since boot."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, irq, soft, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def children_busy():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
