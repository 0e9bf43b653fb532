//! Training and evaluation by several processes that `mpirun` starts: the same results as one process, and the end of
//! all of them when one fails. `docs/distributed.md` describes what is tested here.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::command::{sedet, text};
use crate::common::runs::{
    Classifier, Ended, Scenes, assert_same, resume, split, stderr, succeeds, wait_for_steps, words,
};

/// Returns a launcher of Open MPI, also for root and for more ranks than cores.
fn mpirun() -> Command {
    let mut command = Command::new("mpirun");
    command
        .env_remove("SEDET_DATA")
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        // Containers may forbid to read the memory of other processes.
        .env("OMPI_MCA_btl_vader_single_copy_mechanism", "none")
        .env("OMPI_MCA_hwloc_base_binding_policy", "none")
        .env("RAYON_NUM_THREADS", "1");
    command
}

/// Returns the launcher of a command on a number of ranks.
fn on_ranks(size: usize, arguments: &[String]) -> Command {
    let mut command = mpirun();
    command
        .args(["-n", &size.to_string(), env!("CARGO_BIN_EXE_sedet")])
        .args(arguments);
    command
}

/// Returns the launcher of two ranks with a command each, which a shell runs as `$@` of a script.
fn two_ranks(commands: [(&str, &[String]); 2]) -> Command {
    let mut command = mpirun();
    for (script, arguments) in commands {
        command
            .args([
                "-n",
                "1",
                "sh",
                "-c",
                script,
                "sh",
                env!("CARGO_BIN_EXE_sedet"),
            ])
            .args(arguments)
            .arg(":");
    }
    command
}

fn succeeds_on(size: usize, arguments: &[String]) -> Output {
    let output = on_ranks(size, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

fn with(arguments: Vec<String>, more: &str) -> Vec<String> {
    arguments.into_iter().chain(split(more)).collect()
}

/// Returns the lines of a failed command that begin with an error or a hint: those of rank 0, once.
#[track_caller]
fn errors(output: &Output) -> Vec<String> {
    assert!(!output.status.success(), "{output:?}");
    let text = stderr(output);
    assert!(!text.contains("panicked"), "{text}");
    let lines = text.lines();
    lines
        .filter(|line| line.starts_with("error:") || line.starts_with("hint:"))
        .map(str::to_string)
        .collect()
}

#[test]
fn several_ranks_train_the_classifier_of_one_process_with_more_accumulation() {
    let classifier = Classifier::new();
    // Norms with batch statistics, EMA weights, clipping, and a last group of two batches: 8 batches in groups of 6.
    let options = "--batch-size 8 --set train.ema_decay=0.9 --set train.clip_norm=1";
    let start = |name: &str, accumulate: usize| {
        let options = format!("{options} --set train.accumulate={accumulate}");
        classifier.start_with(&classifier.run(name), &options)
    };
    succeeds(&start("one", 6));
    let one = Ended::of(&classifier.run("one"));
    for (name, size, accumulate) in [("two", 2, 3), ("three", 3, 2)] {
        succeeds_on(size, &start(name, accumulate));
        assert_same(&Ended::of(&classifier.run(name)), &one);
        let config = |name: &str| fs::read(classifier.run(name).join("config.toml")).unwrap();
        assert_eq!(config(name), config("one"));
    }
}

#[test]
fn synchronized_norms_train_like_one_process_with_the_batches_of_all() {
    let classifier = Classifier::new();
    let start = |name: &str, options: &str| {
        let options = format!("{options} --set train.max_iterations=8");
        classifier.start_with(&classifier.run(name), &options)
    };
    // 60 images: the last batch of one process has 4, which are the only batch of one rank.
    succeeds(&start("one", "--batch-size 8"));
    let synced = "--batch-size 4 --set train.sync_norms=2";
    succeeds_on(2, &start("synced", synced));
    succeeds_on(2, &start("plain", "--batch-size 4"));
    let weights = |name: &str| Ended::of(&classifier.run(name)).last.weights;
    let one = weights("one");
    let difference = |name: &str| {
        let found = weights(name);
        let of_tensor = |(name, tensor): (&String, &burn::tensor::TensorData)| {
            let (a, b) = (tensor.iter::<f32>(), found[name].iter::<f32>());
            a.zip(b)
                .map(|(a, b)| (a - b).abs() / (1.0 + a.abs()))
                .fold(0.0, f32::max)
        };
        one.iter().map(of_tensor).fold(0.0, f32::max)
    };
    let (synced_difference, plain) = (difference("synced"), difference("plain"));
    assert!(synced_difference < 2e-5, "{synced_difference}");
    assert!(plain > 100.0 * synced_difference, "{plain}");
    // The numbers depend on the number of processes.
    let refused = sedet(&words(&resume(&classifier.run("synced"))));
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let text = stderr(&refused);
    assert!(
        text.contains("train.sync_norms is 2, but 1 process is training"),
        "{text}"
    );
    let scenes = Scenes::with_images(4, 2);
    let frozen = scenes.start(
        &scenes.dir.path().join("run"),
        "--set train.sync_norms=2 --set model.norm=frozen",
    );
    let found = errors(&on_ranks(2, &frozen).output().unwrap());
    assert!(
        found[0].contains("the norms of this network are frozen"),
        "{found:?}"
    );
}

#[test]
fn several_ranks_train_the_detector_of_one_process_with_more_accumulation() {
    let scenes = Scenes::with_images(10, 5);
    let run = |name: &str| scenes.dir.path().join(name);
    let options = |accumulate: usize| format!("--epochs 2 --set train.accumulate={accumulate}");
    succeeds(&scenes.start(&run("one"), &options(2)));
    succeeds_on(2, &scenes.start(&run("two"), &options(1)));
    assert_same(&Ended::of(&run("two")), &Ended::of(&run("one")));
    let detections = |name: &str| fs::read(run(name).join("results/detections.json")).unwrap();
    assert!(detections("one").len() > 100);
    assert_eq!(detections("two"), detections("one"));
}

#[test]
fn a_run_is_continued_by_another_number_of_ranks_with_the_same_result() {
    let classifier = Classifier::new();
    let start = |name: &str, accumulate: usize| {
        let options = format!("--batch-size 5 --set train.accumulate={accumulate}");
        classifier.start_with(&classifier.run(name), &options)
    };
    succeeds(&start("one", 2));
    let one = Ended::of(&classifier.run("one"));
    let run = classifier.run("moved");
    let mut child = spawn(on_ranks(2, &start("moved", 1)));
    wait_for_steps(&mut child, &run, 4);
    terminate(&rank_of(&run, 1));
    assert!(!child.wait_with_output().unwrap().status.success());
    let mut child = spawn(on_ranks(3, &resume(&run)));
    wait_for_steps(&mut child, &run, 9);
    terminate(&rank_of(&run, 2));
    child.wait_with_output().unwrap();
    succeeds(&resume(&run));
    assert_same(&Ended::of(&run), &one);
}

fn spawn(mut command: Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns the process id of a rank of the run in a directory.
fn rank_of(run: &Path, rank: usize) -> String {
    let has = |file: &Path, part: &str| {
        let bytes = fs::read(file).unwrap_or_default();
        String::from_utf8_lossy(&bytes)
            .split('\0')
            .any(|found| found == part)
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut found = processes.map(|entry| entry.path()).filter(|process| {
        has(&process.join("cmdline"), &text(run))
            && has(&process.join("cmdline"), "train")
            && has(
                &process.join("environ"),
                &format!("OMPI_COMM_WORLD_RANK={rank}"),
            )
            && fs::read_link(process.join("exe"))
                .is_ok_and(|exe| exe == Path::new(env!("CARGO_BIN_EXE_sedet")))
    });
    let process = found.next().expect("the rank is not running");
    process.file_name().unwrap().to_string_lossy().into_owned()
}

fn send(signal: &str, process: &str) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {process}")])
        .status();
    assert!(sent.unwrap().success());
}

fn terminate(process: &str) {
    send("TERM", process);
}

/// The time within which all ranks end after a fault; on a busy machine it takes seconds.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn all_ranks_end_saved_when_one_is_terminated() {
    let classifier = Classifier::new();
    for rank in [0, 1] {
        let run = classifier.run(&format!("terminated-{rank}"));
        let mut child = spawn(on_ranks(2, &classifier.start(&run)));
        wait_for_steps(&mut child, &run, 3);
        terminate(&rank_of(&run, rank));
        let begun = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(begun.elapsed() < SOON);
        let way_on = format!("resume with: sedet train --resume {}", run.display());
        let found = stderr(&output);
        assert_eq!(found.matches(&way_on).count(), 1, "{found}");
        succeeds(&resume(&run));
        assert!(run.join("results/metrics.json").exists());
    }
}

#[test]
fn all_ranks_end_when_one_is_killed_and_the_run_can_be_resumed() {
    let classifier = Classifier::new();
    let start = |name: &str, accumulate: usize| {
        let options = format!("--batch-size 5 --set train.accumulate={accumulate}");
        classifier.start_with(&classifier.run(name), &options)
    };
    succeeds(&start("one", 2));
    let run = classifier.run("killed");
    let mut child = spawn(on_ranks(2, &start("killed", 1)));
    wait_for_steps(&mut child, &run, 5);
    send("KILL", &rank_of(&run, 1));
    let begun = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(begun.elapsed() < SOON);
    // The launcher's line.
    assert!(stderr(&output).contains("rank 1"), "{output:?}");
    succeeds_on(2, &resume(&run));
    assert_same(&Ended::of(&run), &Ended::of(&classifier.run("one")));
}

#[test]
fn a_rank_that_does_not_answer_is_named() {
    let classifier = Classifier::new();
    let run = classifier.run("silent");
    let mut command = on_ranks(2, &classifier.start(&run));
    command.env("SEDET_RANK_TIMEOUT", "2");
    let mut child = spawn(command);
    wait_for_steps(&mut child, &run, 3);
    let silent = rank_of(&run, 1);
    send("STOP", &silent);
    let begun = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(begun.elapsed() < SOON);
    let errors = errors(&output).join("\n");
    assert!(
        errors.contains("error: rank 0: no answer from rank 1 for 2 s"),
        "{errors}"
    );
    assert!(errors.contains("sedet train --resume"), "{errors}");
    succeeds(&resume(&run));
}

#[test]
fn a_damaged_image_of_one_rank_ends_all_with_its_name_and_can_be_skipped() {
    let scenes = Scenes::with_images(8, 3);
    let run = scenes.dir.path().join("run");
    let images = scenes.images("train");
    let damaged = &images[5];
    let whole = fs::read(damaged).unwrap();
    fs::write(damaged, &whole[..whole.len() / 2]).unwrap();
    let output = on_ranks(2, &scenes.start(&run, "--epochs 2"))
        .output()
        .unwrap();
    let errors = errors(&output);
    let name = damaged.file_name().unwrap().to_string_lossy();
    assert!(errors[0].contains(&*name), "{errors:?}");
    assert!(errors[1].contains("--on-bad-image skip"), "{errors:?}");
    assert_eq!(errors.len(), 2, "{errors:?}");
    let resumed = with(resume(&run), "--on-bad-image skip");
    let output = succeeds_on(2, &resumed);
    assert!(
        stderr(&output).contains("skipped in training: 1 unreadable image"),
        "{output:?}"
    );
}

#[test]
fn a_loss_that_is_not_finite_ends_all_ranks_and_names_the_images() {
    let classifier = Classifier::new();
    let run = classifier.run("run");
    let start = classifier.start_with(&run, "--batch-size 2 --lr 1e30");
    let found = errors(&on_ranks(2, &start).output().unwrap());
    assert_eq!(found.len(), 2, "{found:?}");
    let is_of_a_rank = found[0].contains(" on rank 0") || found[0].contains(" on rank 1");
    assert!(
        found[0].starts_with("error: the loss is not finite at iteration 1"),
        "{found:?}"
    );
    assert!(
        is_of_a_rank && found[0].contains("CIFAR image"),
        "{found:?}"
    );
    // Every rank stopped before the update.
    let resumed = on_ranks(2, &with(resume(&run), "--epochs 4"))
        .output()
        .unwrap();
    assert!(
        stderr(&resumed).contains("not finite at iteration 1"),
        "{resumed:?}"
    );
}

#[test]
fn a_full_disk_of_rank_0_ends_all_ranks() {
    let classifier = Classifier::new();
    let run = classifier.run("full");
    let start = classifier.start(&run);
    // A limit of file sizes has the same effect as a full disk.
    let output = two_ranks([
        ("trap '' XFSZ; ulimit -f 64; exec \"$@\"", &start),
        ("exec \"$@\"", &start),
    ])
    .output()
    .unwrap();
    let errors = errors(&output);
    assert!(errors[0].contains("safetensors"), "{errors:?}");
    assert!(!errors[0].contains("rank"), "{errors:?}");
}

/// Returns the error of two ranks that run one command in two directories, with more arguments on rank 1.
fn refused_in(directories: [&Path; 2], command: &[String], more: &str) -> String {
    let [first, second] = directories.map(|path| format!("cd {} && exec \"$@\"", path.display()));
    let other = with(command.to_vec(), more);
    let begun = Instant::now();
    let output = two_ranks([(&first, command), (&second, &other)])
        .output()
        .unwrap();
    assert!(begun.elapsed() < SOON);
    errors(&output).swap_remove(0)
}

#[test]
fn ranks_with_another_command_or_other_data_are_refused_at_the_start() {
    let (scenes, others) = (Scenes::with_images(4, 2), Scenes::with_images(5, 2));
    let (own, other) = (scenes.dir.path(), others.dir.path());
    let mut start = scenes.start(&own.join("run"), "");
    let dataset = start.iter().position(|word| word == "--dataset").unwrap();
    start[dataset + 1] = "data".to_string();
    let found = refused_in([own, own], &start, "--set train.log_every=7");
    assert!(
        found.contains("rank 1 has another argument than rank 0"),
        "{found}"
    );
    // A mistake on one rank only.
    let found = refused_in([own, own], &start, "--bogus");
    assert!(found.contains("\"--bogus\", not nothing"), "{found}");
    let found = refused_in([own, other], &start, "");
    assert!(
        found.contains("rank 1 has another dataset (fingerprint) than rank 0"),
        "{found}"
    );
    let empty = tempfile::tempdir().unwrap();
    let found = refused_in([own, empty.path()], &start, "");
    assert!(found.contains("rank 1: unknown dataset 'data'"), "{found}");
    assert!(!own.join("run/checkpoints/last.safetensors").exists());
}

#[test]
fn ranks_that_would_evaluate_another_network_or_other_data_are_refused() {
    let (scenes, others) = (Scenes::with_images(4, 3), Scenes::with_images(4, 5));
    let (own, other) = (scenes.dir.path(), others.dir.path());
    succeeds(&scenes.start(&own.join("run"), "--epochs 1"));
    succeeds(&others.start(&other.join("run"), "--epochs 1"));
    let words = "eval --checkpoint run --dataset data --device cpu".split(' ');
    let eval: Vec<String> = words.map(str::to_string).collect();
    let found = refused_in([own, other], &eval, "");
    assert!(
        found.contains("rank 1 has another checkpoint (checksum) than rank 0"),
        "{found}"
    );
    fs::copy(
        own.join("run/checkpoints/best.safetensors"),
        other.join("run/checkpoints/best.safetensors"),
    )
    .unwrap();
    let found = refused_in([own, other], &eval, "");
    assert!(
        found.contains("rank 1 has another dataset (fingerprint) than rank 0"),
        "{found}"
    );
    let found = refused_in([own, own], &eval, "--split train");
    assert!(
        found.contains("rank 1 has another argument than rank 0"),
        "{found}"
    );
}

#[test]
fn an_evaluation_on_several_ranks_writes_the_bytes_of_one_process() {
    let scenes = Scenes::with_images(4, 19);
    let run = scenes.dir.path().join("run");
    succeeds(&scenes.start(&run, "--epochs 1"));
    let output = |name: &str| scenes.dir.path().join(name);
    let eval = |name: &str| -> Vec<String> {
        let words = format!(
            "eval --checkpoint {} --dataset {} --device cpu --output {}",
            run.display(),
            scenes.dir.path().join("data").display(),
            output(name).display()
        );
        split(&words)
    };
    let one = succeeds(&eval("one"));
    for (name, size) in [("two", 2), ("three", 3)] {
        let several = succeeds_on(size, &eval(name));
        assert_eq!(several.stdout, one.stdout);
        for file in ["detections.json", "metrics.json", "boxes.csv"] {
            let read = |name: &str| fs::read(output(name).join(file)).unwrap();
            assert_eq!(read(name), read("one"), "{file}");
        }
    }
}

#[test]
fn a_classifier_on_several_ranks_has_the_metrics_of_one_process() {
    let classifier = Classifier::new();
    let run = classifier.run("run");
    succeeds(&classifier.start(&run));
    let eval = |name: &str| -> Vec<String> {
        let words = format!(
            "eval --checkpoint {} --dataset {} --device cpu --batch-size 4 --output {}",
            run.display(),
            classifier.dir.path().join("cifar10").display(),
            classifier.run(name).display()
        );
        split(&words)
    };
    succeeds(&eval("one"));
    succeeds_on(3, &eval("three"));
    let metrics = |name: &str| fs::read(classifier.run(name).join("metrics.json")).unwrap();
    assert_eq!(metrics("three"), metrics("one"));
}

#[test]
fn gate_statistics_of_several_ranks_are_the_bytes_of_one_process() {
    let scenes = Scenes::with_images(4, 19);
    let network = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let data = scenes.dir.path().join("data");
    let output = |name: &str| scenes.dir.path().join(name);
    let excite = |name: &str| -> Vec<String> {
        let words = format!(
            "excite --checkpoint {network} --dataset {} --device cpu --output {}",
            data.display(),
            output(name).display()
        );
        split(&words)
    };
    let one = succeeds(&excite("one"));
    for (name, size) in [("two", 2), ("three", 3)] {
        let several = succeeds_on(size, &excite(name));
        assert_eq!(several.stdout, one.stdout);
        for file in ["excitation.safetensors", "statistics.csv", "summary.json"] {
            let read = |name: &str| fs::read(output(name).join(file)).unwrap();
            assert_eq!(read(name), read("one"), "{file}");
        }
    }
    let image = format!("excite --checkpoint {network} --image a.png --output x");
    let found = errors(&on_ranks(2, &split(&image)).output().unwrap());
    assert!(found[0].contains("works in one process"), "{found:?}");
}

#[test]
fn ranks_divide_the_runs_of_a_study() {
    let classifier = Classifier::new();
    let study = |name: &str, more: &str| -> Vec<String> {
        let words = format!(
            "ablate --dataset {} --output {} --config cifar-short --over train.max_iterations=2,3,4 \
             --seeds 0 --set model.width=0.25 --device cpu --csv {more}",
            classifier.dir.path().join("cifar10").display(),
            classifier.run(name).display(),
        );
        split(&words)
    };
    let one = succeeds(&study("one", ""));
    let two = succeeds_on(2, &study("two", ""));
    assert_eq!(two.stdout, one.stdout);
    let again = succeeds_on(2, &study("two", ""));
    assert_eq!(again.stdout, one.stdout);
    let text = stderr(&again);
    assert_eq!(text.matches("already finished").count(), 3, "{text}");
    // The second run, of rank 1, has its reason in a line of its own.
    let failing = study("failing", "--lr 1e30");
    let found = errors(&on_ranks(2, &failing).output().unwrap());
    assert!(
        found.iter().any(|line| line.starts_with("error: rank 1: ")),
        "{found:?}"
    );
    assert!(
        found.iter().any(|line| line.contains("3 runs failed")),
        "{found:?}"
    );
    let found = errors(&on_ranks(2, &study("one", "--jobs 2")).output().unwrap());
    assert!(
        found[0].contains("starts processes of its own"),
        "{found:?}"
    );
}

#[test]
fn a_mistake_is_reported_once_and_commands_of_one_process_are_refused() {
    let twice = |words: &str| on_ranks(2, &split(words)).output().unwrap();
    let output = twice("train --dataset shapes --lr x");
    assert_eq!(errors(&output).len(), 1, "{output:?}");
    let output = twice("train --dataset nowhere/");
    let found = errors(&output);
    let errors_only = found.iter().filter(|line| line.starts_with("error:"));
    assert_eq!(errors_only.count(), 1, "{output:?}");
    let output = on_ranks(2, &["models".to_string()])
        .env("SEDET_RANK_TIMEOUT", "x")
        .output()
        .unwrap();
    assert_eq!(errors(&output).len(), 2, "{output:?}");
    let output = on_ranks(
        1,
        &["train", "--dataset", "shapes", "--devices", "cpu,cpu"].map(str::to_string),
    )
    .output()
    .unwrap();
    assert!(errors(&output)[0].contains("the launcher started one process"));
    let output = twice("models");
    assert!(errors(&output)[0].contains("works in one process, but 2 were started"));
}

#[test]
fn devices_start_one_rank_each() {
    let scenes = Scenes::with_images(8, 3);
    let run = |name: &str| scenes.dir.path().join(name);
    succeeds(&scenes.start(&run("one"), "--epochs 1 --set train.accumulate=2"));
    let mut start = scenes.start(&run("two"), "--epochs 1 --devices cpu,cpu");
    let device = start.iter().position(|word| word == "--device").unwrap();
    start.drain(device..device + 2);
    let output = Command::new(env!("CARGO_BIN_EXE_sedet"))
        .args(&start)
        .envs(
            mpirun()
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_same(&Ended::of(&run("two")), &Ended::of(&run("one")));
    let refused = sedet(&words(&scenes.start(&run("three"), "--devices cpu,cpu")));
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
