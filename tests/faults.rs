//! Fault tolerance of runs: a run is killed or terminated, its disk is full, its files are damaged,
//! its images are deleted. After each fault, completed work is saved, and the resumed run ends with
//! the weights of an undisturbed run. `docs/faults.md` has the table.

#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::command::{fails_with, is_wrong_usage, sedet, text};
use crate::common::images::write_cifar;
use crate::common::runs::{
    Classifier, Ended, STEPS, Scenes, assert_same, resume, signal, spawn, stderr, steps_logged,
    succeeds, wait_for_steps, words,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sedet::weights::checkpoint::Checkpoint;

#[test]
fn a_run_killed_at_any_moment_ends_with_the_weights_of_an_uninterrupted_one() {
    let classifier = Classifier::new();
    let run = classifier.run("killed");
    let mut moments = ChaCha8Rng::seed_from_u64(3);
    let mut kills = 0;
    // Also in step 0, and while checkpoints are written, which takes a large part of each step.
    for steps in [0, 1, 2, 4, 6, 7, 11, 14, STEPS] {
        let begins = !run.join("checkpoints/last.safetensors").exists();
        let mut child = if begins {
            spawn(&classifier.start(&run))
        } else {
            spawn(&resume(&run))
        };
        wait_for_steps(&mut child, &run, steps);
        std::thread::sleep(Duration::from_micros(moments.random_range(0..30_000)));
        child.kill().unwrap();
        kills += usize::from(child.wait().unwrap().code().is_none());
    }
    assert!(kills >= 6, "only {kills} were killed");
    if run.join("checkpoints/last.safetensors").exists() {
        succeeds(&resume(&run))
    } else {
        succeeds(&classifier.start(&run))
    };
    assert_same(&Ended::of(&run), &classifier.uninterrupted());
}

#[test]
fn a_terminated_run_is_saved() {
    let classifier = Classifier::new();
    let run = classifier.run("ended");
    for name in ["TERM", "HUP", "INT"] {
        // On a busy machine a run gets further than asked. Steps of this process are waited for: before, it may
        // not listen to signals yet.
        let steps = steps_logged(&run) + 3;
        let mut child = match name {
            "TERM" => spawn(&classifier.start(&run)),
            _ => spawn(&resume(&run)),
        };
        wait_for_steps(&mut child, &run, steps);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        let stderr_text = stderr(&output);
        let way_on = format!("resume with: sedet train --resume {}", run.display());
        assert!(stderr_text.contains(&way_on), "{name}: {stderr_text}");
    }
    succeeds(&resume(&run));
    assert_same(&Ended::of(&run), &classifier.uninterrupted());
}

#[test]
fn a_signal_that_is_passed_on_at_once_does_not_keep_the_run_from_being_saved() {
    let classifier = Classifier::new();
    let run = classifier.run("twice");
    let mut child = spawn(&classifier.start(&run));
    wait_for_steps(&mut child, &run, 3);
    // The signal of the process group, and that of `timeout` or a shell.
    signal(&child, "TERM");
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let way_on = format!("resume with: sedet train --resume {}", run.display());
    assert!(stderr(&output).contains(&way_on), "{output:?}");
}

#[test]
fn a_run_is_not_resumed_to_fewer_epochs_than_it_has_finished() {
    let classifier = Classifier::new();
    let run = classifier.run("finished");
    succeeds(&classifier.start(&run));
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    let path = text(&run);
    let resume_with = |option: &[&str]| {
        let resumed: Vec<String> = resume(&run);
        let resumed: Vec<String> = resumed
            .into_iter()
            .chain(option.iter().map(|o| o.to_string()))
            .collect();
        resumed
    };
    is_wrong_usage(
        &words(&resume_with(&["--epochs", "2"])),
        &[
            &format!("{path}: 3 epochs are finished, more than the 2"),
            "hint: to train longer, give more than 3",
        ],
    );
    is_wrong_usage(
        &words(&resume_with(&["--strict"])),
        &["--strict has no effect", "hint: omit --strict"],
    );
    assert_eq!(fs::read_to_string(run.join("config.toml")).unwrap(), config);
    succeeds(&resume_with(&["--epochs", "3"]));
}

#[test]
fn an_interrupted_prediction_keeps_its_results() {
    let scenes = Scenes::new();
    let images = scenes.dir.path().join("many");
    fs::create_dir(&images).unwrap();
    let image = &scenes.images("val")[0];
    for number in 0..400 {
        fs::copy(image, images.join(format!("{number:03}.png"))).unwrap();
    }
    let out = scenes.dir.path().join("predictions");
    let detector = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let arguments = ["predict", "--checkpoint", detector, "--device", "cpu"];
    let more = [text(&images), "--output".into(), text(&out)];
    let arguments: Vec<String> = arguments
        .map(str::to_string)
        .into_iter()
        .chain(more)
        .collect();
    let child = spawn(&arguments);
    let begun = std::time::Instant::now();
    let written = || fs::read_dir(&out).map_or(0, |files| files.count());
    while written() < 3 {
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(120),
            "no progress"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr_text = stderr(&output);
    for part in [
        "predictions.json and images.json to",
        "interrupted after ",
        " of 400 images; their results are kept",
    ] {
        assert!(stderr_text.contains(part), "no '{part}' in {stderr_text}");
    }
    let json = fs::read_to_string(out.join("predictions.json")).unwrap();
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let last = rows
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["image_id"].as_u64())
        .max();
    assert!(last.is_none_or(|last| last < 400), "{last:?}");
}

#[test]
fn results_that_cannot_be_written_are_saved_elsewhere_and_images_cost_no_results() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in [
        "in",
        "tmp",
        "out/a.png/occupied",
        "out/predictions.json/occupied",
    ] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["a.png", "b.png"] {
        image::RgbImage::new(40, 30)
            .save(at("in").join(name))
            .unwrap();
    }
    fs::write(at("out/old.png"), "").unwrap();
    let detector = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let predict = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_sedet"))
            .args(["predict", "--checkpoint", detector, "--device", "cpu"])
            .args([&text(&at("in")), "--output", &text(&at("out"))])
            .env("TMPDIR", at("tmp"))
            .output()
            .unwrap()
    };
    let output = predict();
    let shown = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(
        shown.contains("a.png") && shown.contains("the prediction continues"),
        "{shown}"
    );
    assert!(shown.contains("predictions.json"), "{shown}");
    assert!(shown.contains("the results are in"), "{shown}");
    assert!(at("out/b.png").is_file());
    let saved = fs::read_dir(at("tmp")).unwrap().flatten();
    let saved: Vec<String> = saved
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(
        saved.iter().any(|name| name.ends_with("-predictions.json")),
        "{saved:?}"
    );
    // Without the obstacles, all images are listed, and old files are counted.
    fs::remove_dir_all(at("out/predictions.json")).unwrap();
    fs::remove_dir_all(at("out/a.png")).unwrap();
    let output = predict();
    let shown = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(
        shown.contains("2 of 2 images without detections"),
        "{shown}"
    );
    assert!(shown.contains("note: 1 file in"), "{shown}");
    let images = fs::read_to_string(at("out/images.json")).unwrap();
    let images: serde_json::Value = serde_json::from_str(&images).unwrap();
    assert_eq!(images[1]["image_id"], 2);
    assert_eq!(images[1]["width"], 40);
    assert_eq!(images[1]["detections"], 0);
}

#[test]
fn an_extended_run_that_is_killed_goes_on_to_the_number_of_epochs_it_was_extended_to() {
    let classifier = Classifier::new();
    let extended = |run: &Path| {
        let more = ["--epochs", "5"].map(str::to_string);
        [resume(run), more.to_vec()].concat()
    };
    let (run, killed) = (classifier.run("extended"), classifier.run("killed"));
    for run in [&run, &killed] {
        succeeds(&classifier.start(run));
    }
    succeeds(&extended(&run));
    let mut child = spawn(&extended(&killed));
    wait_for_steps(&mut child, &killed, STEPS + 3);
    signal(&child, "KILL");
    child.wait().unwrap();
    succeeds(&resume(&killed));
    assert_same(&Ended::of(&killed), &Ended::of(&run));
    let config = fs::read_to_string(killed.join("config.toml")).unwrap();
    assert!(config.contains("epochs = 5"), "{config}");
}

#[test]
fn closed_pipes_do_not_stop_training() {
    let classifier = Classifier::new();
    let run = classifier.run("unheard");
    let mut child = spawn(&classifier.start(&run));
    // Both pipes break at the first write.
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());
    assert_same(&Ended::of(&run), &classifier.uninterrupted());
    // Both are redirected to a full disk.
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let measured = Command::new(env!("CARGO_BIN_EXE_sedet"))
        .args(resume(&run))
        .stderr(full())
        .stdout(Stdio::null())
        .status();
    assert!(measured.unwrap().success());
    let unprinted = Command::new(env!("CARGO_BIN_EXE_sedet"))
        .args(resume(&run))
        .stdout(full())
        .output()
        .unwrap();
    assert_eq!(unprinted.status.code(), Some(1));
    assert!(
        stderr(&unprinted)
            .contains("cannot write to standard output: no space is left on the disk"),
        "{unprinted:?}"
    );
}

#[test]
fn two_processes_do_not_train_in_one_directory() {
    let classifier = Classifier::new();
    let run = classifier.run("shared");
    let mut first = spawn(&classifier.start(&run));
    wait_for_steps(&mut first, &run, 2);
    signal(&first, "STOP");
    let owner = format!("another sedet (process {})", first.id());
    fails_with(
        &words(&resume(&run)),
        &["shared", &owner, "wait until it has ended"],
    );
    fails_with(&words(&classifier.start(&run)), &["already contains a run"]);
    signal(&first, "CONT");
    assert!(first.wait().unwrap().success());
    assert_same(&Ended::of(&run), &classifier.uninterrupted());
}

/// File sizes are limited, which has the same effect as a full disk. (`tests/soak.rs` fills a real
/// one.)
#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_previous_one() {
    let classifier = Classifier::new();
    let run = classifier.stopped("full", 5);
    let last = run.join("checkpoints/last.safetensors");
    let saved = fs::read(&last).unwrap();
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_sedet"))
        .args(resume(&run))
        .output()
        .unwrap();
    assert_eq!(limited.status.code(), Some(1), "{limited:?}");
    let stderr_text = stderr(&limited);
    for part in [
        "error: ",
        "last.safetensors: checkpoint not written",
        "the previous one is intact",
        "resume with: sedet train --resume",
    ] {
        assert!(stderr_text.contains(part), "no '{part}' in {stderr_text}");
    }
    assert!(fs::read(&last).unwrap() == saved);
    succeeds(&resume(&run));
    assert_same(&Ended::of(&run), &classifier.uninterrupted());
}

#[test]
fn a_run_without_any_checkpoint_does_not_claim_one() {
    let classifier = Classifier::new();
    let run = classifier.run("never");
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_sedet"))
        .args(classifier.start(&run))
        .output()
        .unwrap();
    assert_eq!(limited.status.code(), Some(1), "{limited:?}");
    let stderr_text = stderr(&limited);
    assert!(
        stderr_text.contains("last.safetensors: checkpoint not written")
            && stderr_text.contains("hint: nothing was saved; run the same command again"),
        "{stderr_text}"
    );
    for claim in ["intact", "progress saved", "--resume"] {
        assert!(!stderr_text.contains(claim), "{claim} in {stderr_text}");
    }
    assert!(!run.join("checkpoints/last.safetensors").exists());
    // The hint holds: the same command begins the run.
    succeeds(&classifier.start(&run));
    assert_same(&Ended::of(&run), &classifier.uninterrupted());
}

#[test]
fn a_read_only_directory_is_reported_before_training() {
    let classifier = Classifier::new();
    let start = classifier.start(Path::new("/proc/sedet-run"));
    fails_with(&words(&start), &["/proc/sedet-run"]);
}

#[test]
fn a_damaged_checkpoint_is_detected_and_the_previous_one_used() {
    let classifier = Classifier::new();
    let run = classifier.stopped("flipped", 9);
    let last = run.join("checkpoints/last.safetensors");
    let mut bytes = fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&last, bytes).unwrap();
    let data = text(&classifier.dir.path().join("cifar10"));
    let eval = ["eval", "--checkpoint", &text(&last), "--dataset", &data];
    fails_with(&eval, &["last.safetensors", "its checksum differs"]);
    let stderr_text = stderr(&succeeds(&resume(&run)));
    assert!(
        stderr_text.contains("its checksum differs") && stderr_text.contains("resuming from"),
        "{stderr_text}"
    );
    assert_same(&Ended::of(&run), &classifier.uninterrupted());
}

#[test]
fn a_run_resumes_only_with_unchanged_data() {
    let classifier = Classifier::new();
    let run = classifier.stopped("changed", 5);
    let data = classifier.dir.path().join("cifar10");
    write_cifar(&data, 70, 30);
    let parts = ["cifar10", "have changed since this run began", "--weights"];
    fails_with(&words(&resume(&run)), &parts);
    write_cifar(&data, 60, 30);
    succeeds(&resume(&run));
    assert_same(&Ended::of(&run), &classifier.uninterrupted());
}

#[test]
fn a_run_that_is_shortened_before_its_first_evaluation_is_evaluated() {
    let scenes = Scenes::new();
    let run = scenes.dir.path().join("run");
    let rare = "--epochs 1000 --set train.evaluate_every=1000";
    let mut child = spawn(&scenes.start(&run, rare));
    // Three steps are an epoch.
    wait_for_steps(&mut child, &run, 4);
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let last = Checkpoint::load(&run.join("checkpoints/last.safetensors")).unwrap();
    let epochs = last.progress.unwrap().epoch.to_string();
    let (best, metrics) = (
        run.join("checkpoints/best.safetensors"),
        run.join("results/metrics.json"),
    );
    assert!(!best.exists());
    let mut shorter = resume(&run);
    shorter.extend(["--epochs", &epochs].map(str::to_string));
    // The file of the best weights is not named before it exists.
    let said = stderr(&succeeds(&shorter));
    let before = said.split("hint: ").nth(1).unwrap().lines().next().unwrap();
    assert!(!before.contains("best.safetensors"), "{said}");
    assert!(best.exists() && metrics.exists(), "{said}");
    let evaluations = || {
        let events = fs::read_to_string(run.join("events.jsonl")).unwrap();
        events.matches("\"eval\"").count()
    };
    assert_eq!(evaluations(), 1);
    // Again, nothing is left to evaluate; without the best weights it is done again.
    let again = stderr(&succeeds(&resume(&run)));
    assert!(
        again.contains("--weights") && again.contains("best.safetensors"),
        "{again}"
    );
    fs::remove_file(&best).unwrap();
    succeeds(&resume(&run));
    assert!(best.exists());
    assert_eq!(evaluations(), 1);
}

#[test]
fn an_image_deleted_during_training_stops_the_run_or_is_skipped() {
    let scenes = Scenes::new();
    let run = scenes.dir.path().join("run");
    let mut child = spawn(&scenes.start(&run, "--epochs 1000"));
    wait_for_steps(&mut child, &run, 2);
    let gone = scenes.images("train").remove(0);
    fs::remove_file(&gone).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr_text = stderr(&output);
    let name = gone.file_name().unwrap().to_string_lossy().to_string();
    for part in [
        name.as_str(),
        "progress saved; resume with",
        "--on-bad-image skip",
    ] {
        assert!(stderr_text.contains(part), "no '{part}' in {stderr_text}");
    }
    // All events before the batch with the image are logged.
    let last = Checkpoint::load(&run.join("checkpoints/last.safetensors")).unwrap();
    let progress = last.progress.unwrap();
    assert_eq!(progress.iteration, steps_logged(&run));
    let epochs = progress.epoch + 2;
    let mut skip = resume(&run);
    skip.extend(["--on-bad-image", "skip", "--epochs", &epochs.to_string()].map(str::to_string));
    let stderr_text = stderr(&succeeds(&skip));
    assert!(
        stderr_text.contains("skipped in training: 1 unreadable image")
            && stderr_text.contains(&name),
        "{stderr_text}"
    );
    let listed = fs::read_to_string(run.join("skipped-images.txt")).unwrap();
    assert!(listed.lines().count() == 1 && listed.contains(&name));
}

#[test]
fn an_image_that_was_replaced_by_one_of_another_size_is_named() {
    let scenes = Scenes::new();
    let run = scenes.dir.path().join("run");
    let mut child = spawn(&scenes.start(&run, "--epochs 1000"));
    wait_for_steps(&mut child, &run, 2);
    let replaced = scenes.images("train").remove(1);
    image::RgbImage::new(50, 50).save(&replaced).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr_text = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    let name = replaced.file_name().unwrap().to_string_lossy().to_string();
    // It may be read while it is partly written.
    assert!(stderr_text.contains(&name), "{stderr_text}");
}

#[test]
fn bad_images_are_skipped_on_request_and_listed_at_the_end() {
    let scenes = Scenes::new();
    let run = scenes.dir.path().join("run");
    let (train, val) = (scenes.images("train"), scenes.images("val"));
    for image_path in [&train[2], &val[1]] {
        let bytes = fs::read(image_path).unwrap();
        fs::write(image_path, &bytes[..bytes.len() / 2]).unwrap();
    }
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().to_string();
    let error = sedet(&words(&scenes.start(&run, "--epochs 1")));
    assert_eq!(error.status.code(), Some(1));
    assert!(stderr(&error).contains(&name(&train[2])), "{error:?}");
    let other = scenes.dir.path().join("other");
    let output = succeeds(&scenes.start(&other, "--epochs 1 --on-bad-image skip"));
    let stderr_text = stderr(&output);
    for part in [
        "skipped in training: 1 unreadable image",
        &name(&train[2]),
        "skipped in evaluation: 1 unreadable image",
        &name(&val[1]),
        "2 validation images",
    ] {
        assert!(stderr_text.contains(part), "no '{part}' in {stderr_text}");
    }
    let best = text(&other.join("checkpoints/best.safetensors"));
    let data = text(&scenes.dir.path().join("data"));
    let eval = ["eval", "--checkpoint", &best, "--dataset", &data];
    fails_with(&eval, &[&name(&val[1]), "hint: ", "--on-bad-image skip"]);
    let measured = sedet(&[&eval[..], &["--on-bad-image", "skip"]].concat());
    assert!(measured.status.success(), "{measured:?}");
    let stderr_text = stderr(&measured);
    assert!(
        stderr_text.contains("skipped in evaluation: 1 unreadable image"),
        "{stderr_text}"
    );
    // With no image left, the option that was given is no advice.
    for image_path in &val {
        fs::write(image_path, "").unwrap();
    }
    let skip = [&eval[..], &["--on-bad-image", "skip"]].concat();
    fails_with(
        &skip,
        &[
            "no image is left: none of 3 images can be used",
            "hint: replace the images",
        ],
    );
}

#[test]
fn a_dataset_whose_images_are_all_broken_is_an_error() {
    let scenes = Scenes::new();
    let run = scenes.dir.path().join("run");
    for image_path in scenes.images("train") {
        fs::write(image_path, "").unwrap();
    }
    let start = scenes.start(&run, "--epochs 1 --on-bad-image skip");
    fails_with(
        &words(&start),
        &[
            "no image of train can be used: all 6 with boxes are skipped",
            "hint: replace the images that `sedet data check ",
        ],
    );
    assert!(!run.exists());
    // Nor can a model be evaluated without one.
    let scenes = Scenes::new();
    for image_path in scenes.images("val") {
        fs::write(image_path, "").unwrap();
    }
    let run = scenes.dir.path().join("run");
    let start = scenes.start(&run, "--epochs 1 --on-bad-image skip");
    fails_with(
        &words(&start),
        &[
            "no image of val can be used: all 3 with boxes are skipped",
            "hint: replace the images that `sedet data check ",
            "or split the other images: sedet data split ",
        ],
    );
    assert!(!run.exists());
}

#[test]
fn a_step_that_does_not_fit_into_memory_is_refused_before_training() {
    let scenes = Scenes::new();
    let run = scenes.dir.path().join("run");
    let huge = "--batch-size 100000 --set input.max_size=4000";
    let start = scenes.start_with(&run, huge);
    let parts = [
        "GB are free",
        "loader.batch_size (now 100000)",
        "input.max_size (now 4000)",
    ];
    fails_with(&words(&start), &parts);
    // The next attempt is not blocked.
    succeeds(&scenes.start(&run, "--epochs 1"));
    let classifier = Classifier::new();
    let start = classifier.start_with(&classifier.run("huge"), "--batch-size 100000000");
    fails_with(
        &words(&start),
        &["GB are free", "loader.batch_size (now 100000000)"],
    );
}
