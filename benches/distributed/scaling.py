"""Weak scaling of training on ranks: measured with two ranks on this machine, computed for more.

    benches/distributed/scaling.py target/release/sedet [--torch PYTHON] [--rounds N] [--size PIXELS]

Measured, one thread for each process, in turn in each round: two independent trainings at the same time, and one
training on two ranks (mpirun). The efficiency is the throughput of the ranks divided by the sum of the independent ones:
what the exchange costs, without what two processes take from each other. With --torch, the same with torchvision's
detector on two processes of torchrun (gloo) beside two independent ones.

Computed: the step of N ranks takes the measured step of one, plus the exchange. A rank sends and receives (N - 1) / N of
the gradients to the owners and again from them, over a network of a given bandwidth and latency.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = 16
SKIPPED = 4  # the first steps fill caches
BACKBONE = "se-resnet50"
MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "core",
    "RAYON_NUM_THREADS": "1",
}


def command(sedet, data, output, size):
    return [sedet, "train", "--dataset", data, "--config", "small", "--backbone", BACKBONE, "--output", output,
            "--batch-size", "2", "--device", "cpu", "--set", f"train.max_iterations={STEPS}", "--set", "train.log_every=1",
            "--set", "loader.threads=1", "--set", f"input.min_size={size}", "--set", f"input.max_size={size}",
            "--set", "augment.min_sizes=[]", "--set", "model.width=1.0", "--quiet"]


def step_seconds(run):
    """The median time between two steps."""
    events = [json.loads(line) for line in open(Path(run) / "events.jsonl")]
    times = [event["time"] for event in events if event["event"] == "train"][SKIPPED:]
    return statistics.median(b - a for a, b in zip(times, times[1:]))


def run_all(commands, env):
    started = [subprocess.Popen(c, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for c in commands]
    for process in started:
        _, errors = process.communicate()
        if process.returncode:
            sys.exit(errors.decode())


def measure(sedet, rounds, size):
    env = {**os.environ, **MPI}
    result = []
    with tempfile.TemporaryDirectory() as directory:
        data = f"{directory}/data"
        subprocess.run([sedet, "data", "shapes", "--output", data, "--train-images", "120", "--val-images", "2",
                        "--long-side", str(size), "--quiet"], check=True)
        for number in range(rounds):
            runs = [f"{directory}/{number}-{name}" for name in ("a", "b", "ranks")]
            independent = [["taskset", "-c", str(core), *command(sedet, data, run, size)] for core, run in enumerate(runs[:2])]
            run_all(independent, env)
            run_all([["mpirun", "-n", "2", *command(sedet, data, runs[2], size)]], env)
            alone = [step_seconds(run) for run in runs[:2]]
            together = step_seconds(runs[2])
            efficiency = 2 / together / sum(1 / seconds for seconds in alone)
            result.append((statistics.mean(alone), together, efficiency))
            print(f"round {number + 1}: step {result[-1][0]:.3f} s alone, {together:.3f} s on two ranks, efficiency {efficiency:.3f}",
                  flush=True)
    return result


TORCH = '''
import os, statistics, sys, time, torch, torchvision
torch.set_num_threads(1)
torch.manual_seed(0)
model = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=7,
    min_size=SIZE, max_size=SIZE, trainable_backbone_layers=5)
if "RANK" in os.environ:
    torch.distributed.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
images = [torch.rand(3, SIZE, SIZE) for _ in range(2)]
boxes = torch.tensor([[20., 20., 90., 110.], [100., 60., 200., 220.]])
targets = [{"boxes": boxes, "labels": torch.tensor([1, 2])} for _ in images]
times = []
for step in range(14):
    begun = time.time()
    loss = sum(model(images, targets).values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    times.append(time.time() - begun)
open(sys.argv[1] + os.environ.get("RANK", ""), "w").write(str(statistics.median(times[4:])))
'''


def measure_torch(python, rounds, size):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as directory:
        script = f"{directory}/train.py"
        Path(script).write_text(TORCH.replace("SIZE", str(size)))
        seconds = lambda name: float(Path(f"{directory}/{name}").read_text())
        for number in range(rounds):
            run_all([["taskset", "-c", str(core), python, script, f"{directory}/{name}"] for core, name in enumerate("ab")], env)
            run_all([[python, "-m", "torch.distributed.run", "--nproc-per-node=2", script, f"{directory}/rank"]], env)
            alone = [seconds(name) for name in "ab"]
            together = seconds("rank0")
            efficiency = 2 / together / sum(1 / value for value in alone)
            print(f"torch, round {number + 1}: step {statistics.mean(alone):.3f} s alone, {together:.3f} s on two processes, "
                  f"efficiency {efficiency:.3f}", flush=True)


def simulate(step, gradient_bytes):
    networks = [("10 Gbit/s, 30 us", 1.25e9, 30e-6), ("100 Gbit/s, 3 us", 12.5e9, 3e-6)]
    print(f"\ncomputed efficiency, step of {step:.2f} s, gradients of {gradient_bytes / 1e6:.0f} MB:")
    print("ranks" + "".join(f"  {name:>18}" for name, _, _ in networks))
    for ranks in (2, 4, 8, 16, 32, 64):
        row = []
        for _, bandwidth, latency in networks:
            volume = 2 * gradient_bytes * (ranks - 1) / ranks
            exchange = volume / bandwidth + 6 * (ranks - 1) * latency
            row.append(step / (step + exchange))
        print(f"{ranks:5}" + "".join(f"  {value:18.3f}" for value in row))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sedet")
    parser.add_argument("--torch", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=256, help="sides of the images")
    parser.add_argument("--gradients", type=float, default=175e6, help="bytes of the gradients (SE-ResNet-50 FPN)")
    args = parser.parse_args()
    sedet = str(Path(args.sedet).resolve())
    result = measure(sedet, args.rounds, args.size)
    if args.torch:
        measure_torch(args.torch, args.rounds, args.size)
    simulate(statistics.median(alone for alone, _, _ in result), args.gradients)


if __name__ == "__main__":
    main()
