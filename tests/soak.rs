//! Tests that take too long or require additional privileges: `cargo test --release --test commands
//! soak:: -- --ignored --nocapture`. docs/faults.md has the last results.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::runs::{Classifier, Ended, Scenes, assert_same, spawn, stderr};

/// The resources of a process at one time.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Resident memory, MB.
    memory: f64,
    threads: usize,
    files: usize,
}

fn held(process: u32) -> Option<Held> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let number = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    Some(Held {
        memory: number("VmRSS:")? * 1024.0 / 1e6,
        threads: number("Threads:")? as usize,
        files: fs::read_dir(format!("/proc/{process}/fd")).ok()?.count(),
    })
}

fn count(run: &Path, kind: &str) -> usize {
    let events = fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
    let kind = format!("\"event\":\"{kind}\"");
    events.lines().filter(|line| line.contains(&kind)).count()
}

#[test]
#[ignore = "minutes"]
fn memory_threads_and_files_stay_flat_over_two_thousand_iterations_and_fifty_evaluations() {
    let scenes = Scenes::with_images(80, 10);
    let run = scenes.dir.path().join("run");
    let mut child = spawn(&scenes.start(&run, "--epochs 50 --set train.save_minutes=0.02"));
    let begun = Instant::now();
    let mut moments: Vec<Held> = Vec::new();
    while child.try_wait().unwrap().is_none() {
        moments.extend(held(child.id()));
        std::thread::sleep(Duration::from_millis(100));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!((count(&run, "train"), count(&run, "eval")), (2000, 50));
    // Memory first grows to the working size; the last samples are evaluation and plotting.
    let tenth = moments.len() / 10;
    let parts: Vec<&[Held]> = moments.chunks(tenth.max(1)).take(10).collect();
    println!(
        "2,000 iterations and 50 evaluations in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    println!("tenth of the run   memory MB (median, most)   threads   files");
    let median = |part: &[Held]| {
        let mut memory: Vec<f64> = part.iter().map(|held| held.memory).collect();
        memory.sort_by(f64::total_cmp);
        memory[memory.len() / 2]
    };
    let most = |part: &[Held], of: fn(&Held) -> f64| part.iter().map(of).fold(0.0, f64::max);
    for (number, part) in parts.iter().enumerate() {
        println!(
            "{:>16}   {:>10.1} {:>14.1}   {:>7}   {:>5}",
            number + 1,
            median(part),
            most(part, |held| held.memory),
            most(part, |held| held.threads as f64),
            most(part, |held| held.files as f64),
        );
    }
    let (early, late) = (parts[2], parts[8]);
    assert!(median(late) <= median(early) * 1.05, "the memory grows");
    assert!(most(late, |h| h.threads as f64) <= most(early, |h| h.threads as f64));
    assert!(most(late, |h| h.files as f64) <= most(early, |h| h.files as f64));
}

/// A disk of a few megabytes becomes full in the middle of a run and is then enlarged; another one
/// becomes read-only.
#[test]
#[ignore = "mounts file systems, in a name space of its own"]
fn a_full_or_read_only_disk_leaves_saved_files_intact() {
    let classifier = Classifier::new();
    let disk = classifier.dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let expected = classifier.uninterrupted();
    for (name, harm, mend, expected_error) in [
        (
            "full",
            "head -c 100000000 /dev/zero > DISK/filler 2>/dev/null || true",
            "rm DISK/filler",
            "No space left on device",
        ),
        (
            "read-only",
            // A remount requires that no file is open, so it happens between two sessions.
            "kill -TERM $pid; wait $pid || true
            mount -o remount,ro DISK
            SEDET train --resume DISK/run --device cpu >> OUT 2>&1 &
            pid=$!",
            "mount -o remount,rw DISK",
            "Read-only file system",
        ),
    ] {
        let run = disk.join("run");
        let start = classifier.start(&run).join(" ");
        let kept = classifier.dir.path().join(name);
        let script = "set -e
            mount -t tmpfs -o size=8m sedet-soak DISK
            SEDET START > OUT 2>&1 &
            pid=$!
            until [ \"$(grep -c train DISK/run/events.jsonl 2>/dev/null)\" -ge 5 ] 2>/dev/null; do sleep 0.01; done
            HARM
            if wait $pid; then echo 'it went on' >> OUT; fi
            MEND
            SEDET train --resume DISK/run --device cpu
            cp -r DISK/run KEPT";
        let script = script
            .replace("HARM", harm)
            .replace("MEND", mend)
            .replace("START", &start)
            .replace("SEDET", env!("CARGO_BIN_EXE_sedet"))
            .replace("OUT", &format!("{}.out", kept.display()))
            .replace("KEPT", &kept.display().to_string())
            .replace("DISK", &disk.display().to_string());
        let done = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", &script])
            .output()
            .unwrap();
        let first = fs::read_to_string(format!("{}.out", kept.display())).unwrap_or_default();
        assert!(done.status.success(), "{name}: {done:?} {first}");
        println!("{name}: {}", first.lines().last().unwrap_or_default());
        assert!(
            first.contains("error: ") && first.contains(expected_error),
            "{name}: {first}"
        );
        assert!(!first.contains("it went on"), "{name}: {first}");
        assert_same(&Ended::of(&kept), &expected);
    }
}
