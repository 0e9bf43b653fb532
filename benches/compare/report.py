"""Tables, JSON and the machine's description."""

import os
import platform
import statistics
import subprocess
from datetime import date

# Times of a busy machine are not comparable.
QUIET = 0.05


def rows(case, measured, idle):
    """One row for each reference of a case."""
    records = measured["records"]
    return [
        {
            "case": case.name,
            "reference": reference,
            "rounds": len(records["sedet"]),
            "reference_ms": middle(records[reference], "median_ms"),
            "sedet_ms": middle(records["sedet"], "median_ms"),
            "time_ratio": statistics.median(paired(records, reference, "median_ms")),
            "time_ratios": sorted(paired(records, reference, "median_ms")),
            "best_ratio": least(records["sedet"]) / least(records[reference]),
            "reference_mb": middle(records[reference], "peak_rss_mb"),
            "sedet_mb": middle(records["sedet"], "peak_rss_mb"),
            "memory_ratio": statistics.median(paired(records, reference, "peak_rss_mb")),
            "own_memory_ratio": own_memory(records["sedet"], idle["sedet"])
            / own_memory(records[reference], idle[reference]),
            "images": records["sedet"][0].get("images"),
            "reading_ms": {side: middle(records[side], "reading_ms") for side in (reference, "sedet")}
            if "reading_ms" in records["sedet"][0]
            else None,
            "difference": measured["differences"][reference][0],
            "difference_text": measured["differences"][reference][1],
            "disturbance": measured["disturbance"],
        }
        for reference in case.references
    ]


def middle(records, key):
    return statistics.median(record[key] for record in records)


def least(records):
    return min(record["min_ms"] for record in records)


def paired(records, reference, key):
    return [ours[key] / theirs[key] for ours, theirs in zip(records["sedet"], records[reference], strict=True)]


def own_memory(records, idle):
    """Returns the peak of the timed steps minus the memory of an idle process of that side."""
    return max(middle(records, "step_rss_mb") - idle["peak_rss_mb"], 1.0)


def table(all_rows):
    """Ratios are sedet's share of the reference's: below 1 sedet needs less."""
    lines = [
        "| work | reference | reference ms | sedet ms | time | reference MB | sedet MB | memory | own memory "
        "| largest difference |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in all_rows:
        mark = " *" if row["disturbance"] > QUIET else ""
        work = row["case"]
        if row["images"]:
            speeds = [row["images"] / row[f"{side}_ms"] * 1000 for side in ("reference", "sedet")]
            work += f" ({speeds[0]:.1f} and {speeds[1]:.1f} images/s)"
        lines.append(
            f"| {work} | {row['reference']} | {row['reference_ms']:.1f} | {row['sedet_ms']:.1f} "
            f"| {row['time_ratio']:.2f}{mark} | {row['reference_mb']:.0f} | {row['sedet_mb']:.0f} "
            f"| {row['memory_ratio']:.2f} | {row['own_memory_ratio']:.2f} | {row['difference_text']} |"
        )
    if any(row["disturbance"] > QUIET for row in all_rows):
        worst = max(row["disturbance"] for row in all_rows)
        lines += ["", f"\\* The machine did other work meanwhile (up to {worst:.0%} of it): no comparison of times."]
    return "\n".join(lines)


def machine(threads, idle):
    """Describes the machine and the versions."""
    reference = idle["torchvision"]
    return {
        "date": date.today().isoformat(),
        "processor": from_file("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "instructions": [flag for flag in FLAGS if flag in from_file("/proc/cpuinfo", "flags").split()],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "threads": threads,
        "rustc": output("rustc", "--version"),
        "sedet": output("git", "describe", "--always", "--dirty"),
        "torch": reference["torch"],
        "torchvision": reference["torchvision"],
        "torch_instructions": reference["instructions"],
        "torch_onednn": reference["onednn"],
        "torch_mkl": reference["mkl"],
        "runtimes": {side: record["version"] for side, record in idle.items() if "version" in record},
        "idle_mb": {side: round(record["peak_rss_mb"]) for side, record in idle.items()},
    }


FLAGS = ("avx2", "fma", "avx512f", "avx512vl", "avx512_vnni", "avx512_bf16", "amx_tile")


def machine_text(machine):
    idle = ", ".join(f"{side} {mb} MB" for side, mb in machine["idle_mb"].items())
    return "\n".join(
        (
            f"{machine['date']}: {machine['processor']}, {machine['cores']} cores ({', '.join(machine['instructions'])}), "
            f"{machine['memory_gb']} GB, {machine['system']}; {machine['threads']} threads on both sides.",
            f"torch {machine['torch']} (kernels {machine['torch_instructions']}, oneDNN {machine['torch_onednn']}, MKL "
            f"{machine['torch_mkl']}), torchvision {machine['torchvision']}; sedet {machine['sedet']}, {machine['rustc']}.",
            *(f"{side} {version}." for side, version in machine["runtimes"].items()),
            f"Idle: {idle}.",
        )
    )


def from_file(path, key):
    with open(path) as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
