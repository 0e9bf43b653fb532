//! Classification from the command line: training, evaluation, prediction, ablation, and the backbone as
//! initial weights of a detector.

use std::path::Path;
use std::process::Output;

use crate::common::command::{fails_with, is_wrong_usage, sedet, text};
use crate::common::images::write_cifar;
#[cfg(target_os = "linux")]
use crate::common::runs::{spawn, wait_for_steps};
use crate::common::runs::{split, words};

/// Options for a very short run.
const SMALL: [&str; 12] = [
    "--config",
    "cifar-short",
    "--set",
    "model.width=0.25",
    "--epochs",
    "2",
    "--batch-size",
    "10",
    "--set",
    "loader.threads=1",
    "--device",
    "cpu",
];

fn with<'a>(start: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [start, &SMALL, more].concat()
}

/// Asserts success and returns stdout and stderr.
fn succeeds(arguments: &[&str]) -> (String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = sedet(arguments);
    let (stdout, stderr) = (
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    );
    assert!(status.success(), "{arguments:?}: {stdout}{stderr}");
    (stdout, stderr)
}

#[test]
fn a_classifier_is_trained_evaluated_and_classifies_images() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("cifar10"));
    write_cifar(Path::new(&data), 60, 30);
    let run = text(&dir.path().join("run"));
    let start = ["train", "--dataset", &data, "--output", &run];
    let (out, console) = succeeds(&with(&start, &["--backbone", "se-resnet20"]));
    assert!(out.contains("30 images: top-1"), "{out}");
    assert!(
        console.contains("60 training images, 30 validation images")
            && console.contains("classes    10: shade0"),
        "{console}"
    );
    let best = format!("{run}/checkpoints/best.safetensors");
    let report = text(&dir.path().join("report"));
    let eval = ["eval", "--checkpoint", &best, "--dataset", &data];
    let (json, _) = succeeds(&[&eval[..], &["--json", "--output", &report]].concat());
    let metrics: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(metrics["images"], 30);
    assert_eq!(metrics["classes"][3]["name"], "shade3");
    let csv = std::fs::read_to_string(format!("{report}/confusion.csv")).unwrap();
    assert_eq!(csv.lines().count(), 11);
    assert!(Path::new(&report).join("confusion.png").is_file());
    assert!(Path::new(&report).join("reliability.png").is_file());

    let image_path = text(&dir.path().join("an image.png"));
    image::RgbImage::from_pixel(40, 50, image::Rgb([80; 3]))
        .save(&image_path)
        .unwrap();
    let predict = ["predict", "--checkpoint", &best, &image_path, "--top", "3"];
    let (table, _) = succeeds(&predict);
    assert_eq!(table.lines().count(), 4);
    assert!(table.contains("shade") && table.contains('%'), "{table}");
    let (json, _) = succeeds(&[&predict[..], &["--json"]].concat());
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found[0]["classes"].as_array().unwrap().len(), 3);
    assert_eq!(found[0]["file_name"], image_path);

    let fine = text(&dir.path().join("fine"));
    let start = ["train", "--dataset", &data, "--output", &fine];
    let (_, console) = succeeds(
        &[
            &start[..],
            &[
                "--config",
                "cifar-short",
                "--weights",
                &best,
                "--epochs",
                "1",
                "--batch-size",
                "20",
            ],
        ]
        .concat(),
    );
    assert!(console.contains(&format!("weights    {best}")), "{console}");
    assert!(!console.contains("randomly initialized"), "{console}");
}

#[test]
fn se_units_are_added_to_a_trained_network_without_changing_it_and_then_learn() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("cifar10"));
    write_cifar(Path::new(&data), 60, 30);
    let [plain, grafted, paper, gates] =
        ["plain", "grafted", "paper", "gates"].map(|name| text(&dir.path().join(name)));
    let start = ["train", "--dataset", &data];
    let train = |run: &str, more: &[&str]| {
        let more = [&["--output", run], more].concat();
        succeeds(&with(&start, &more)).1
    };
    train(&plain, &["--backbone", "resnet20"]);
    let graft = ["--backbone", "se-resnet20", "--weights", &plain];
    let console = train(&grafted, &graft);
    let line = "weights: 9 SE units not in the checkpoint: start as identity, so that the backbone \
                computes the same as without them";
    assert!(console.contains(line), "{console}");
    assert!(!console.contains("randomly initialized"), "{console}");
    let config = std::fs::read_to_string(format!("{grafted}/config.toml")).unwrap();
    assert!(config.contains("start = \"identity\""), "{config}");
    // The gates, which were 1 for every image, differ after the first steps.
    let excite = [
        "excite",
        "--checkpoint",
        &grafted,
        "--dataset",
        &data,
        "--output",
        &gates,
    ];
    let (out, _) = succeeds(&[&excite[..], &["--json"]].concat());
    let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
    let blocks = summary["blocks"].as_array().unwrap();
    let means: Vec<f64> = blocks.iter().map(|b| b["mean"].as_f64().unwrap()).collect();
    assert_eq!(means.len(), 9);
    assert!(
        means.iter().all(|mean| (0.2..1.8).contains(mean)),
        "{means:?}"
    );
    assert!(
        means.iter().any(|mean| (mean - 1.0).abs() > 1e-4),
        "{means:?}"
    );
    // Asked for, they start as in the paper.
    let paper_start = ["--set", "model.se.start=paper"];
    let console = train(&paper, &[&graft[..], &paper_start].concat());
    assert!(
        console.contains("randomly initialized: SE units: 36 tensors"),
        "{console}"
    );
}

#[test]
fn a_trained_backbone_initializes_a_detector() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("cifar10"));
    write_cifar(Path::new(&data), 60, 30);
    let run = text(&dir.path().join("run"));
    let start = ["train", "--dataset", &data, "--output", &run];
    succeeds(&with(&start, &["--backbone", "se-resnet18"]));
    let best = format!("{run}/checkpoints/best.safetensors");
    let scenes = text(&dir.path().join("scenes"));
    succeeds(&[
        "data",
        "shapes",
        "--output",
        &scenes,
        "--train-images",
        "2",
        "--val-images",
        "1",
    ]);
    let detector = text(&dir.path().join("detector"));
    let (_, console) = succeeds(&[
        "train",
        "--dataset",
        &scenes,
        "--output",
        &detector,
        "--weights",
        &best,
        "--epochs",
        "1",
        "--set",
        "input.min_size=64",
        "--set",
        "input.max_size=96",
        "--set",
        "model.overrides.fpn.channels=16",
    ]);
    assert!(
        console.contains("classification checkpoint: dropping the final layer"),
        "{console}"
    );
    let random = console.lines();
    let random = random.filter(|line| line.contains("randomly initialized"));
    let random: Vec<&str> = random.collect();
    assert!(
        matches!(random.as_slice(), [line] if !line.contains("backbone.layer")),
        "{console}"
    );
}

#[test]
fn variants_are_compared_over_seeds_and_finished_runs_are_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("cifar10"));
    write_cifar(Path::new(&data), 60, 30);
    let output = text(&dir.path().join("ablation"));
    let start = [
        "ablate",
        "--dataset",
        &data,
        "--output",
        &output,
        "--over",
        "se.reduction=2,4",
        "--seeds",
        "0,1",
    ];
    let all = with(&start, &["--backbone", "se-resnet20"]);
    let (table, console) = succeeds(&all);
    assert!(
        console.contains("[4/4] model.se.reduction=4 seed 1"),
        "{console}"
    );
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].contains("model.se.reduction") && lines[0].contains("top-1 err."));
    assert!(
        lines[2].starts_with('2') && lines[2].contains('±'),
        "{table}"
    );
    assert!(lines[2].contains(" M "), "parameters: {table}");
    assert_eq!(lines.len(), 4);
    let (again, console) = succeeds(&all);
    assert_eq!(again, table);
    assert_eq!(console.matches("already finished").count(), 4, "{console}");
    let (csv, _) = succeeds(&[&all[..], &["--csv"]].concat());
    assert_eq!(csv.lines().count(), 3);
    fails_with(
        &[&all[..], &["--lr", "0.01"]].concat(),
        &["ablation", "runs of another dataset or recipe", "--output"],
    );
    let checkpoint = Path::new(&output).join("model.se.reduction=4/seed-1/config.toml");
    let config = std::fs::read_to_string(checkpoint).unwrap();
    assert!(config.contains("reduction = 4") && config.contains("seed = 1"));
    is_wrong_usage(
        &with(
            &[
                "ablate",
                "--dataset",
                &data,
                "--output",
                &output,
                "--over",
                "se.gat=tanh",
            ],
            &["--backbone", "se-resnet20", "--seeds", "0"],
        ),
        &["gat"],
    );
}

#[test]
fn runs_of_a_study_in_processes_of_their_own_have_the_results_of_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("cifar10"));
    write_cifar(Path::new(&data), 60, 30);
    let study = |name: &str, over: &str, more: &[&str]| {
        let output = text(&dir.path().join(name));
        let words = format!(
            "ablate --dataset {data} --output {output} --over {over} --seeds 0,1 --config cifar-short \
             --set model.width=0.25 --set train.max_iterations=3 --set train.log_every=1 --device cpu"
        );
        let mut words = split(&words);
        words.extend(more.iter().map(ToString::to_string));
        words
    };
    let run = |name: &str, over: &str, more: &[&str]| sedet(&words(&study(name, over, more)));
    let over = "model.backbone=resnet20,se-resnet20";
    let table = |name: &str| {
        let path = dir.path().join(name).join("ablation.csv");
        std::fs::read_to_string(path).unwrap()
    };
    let one = run("one", over, &[]);
    assert!(one.status.success(), "{one:?}");
    // The second run is there already.
    let second = run("two", over, &["--run", "2"]);
    assert!(second.status.success(), "{second:?}");
    let directory = |run: &str| dir.path().join("two").join(run).is_dir();
    assert!(directory("model.backbone=se-resnet20/seed-0"));
    assert!(!directory("model.backbone=resnet20"));
    let two = run("two", over, &["--jobs", "2"]);
    assert!(two.status.success(), "{two:?}");
    let console = String::from_utf8(two.stderr).unwrap();
    assert!(console.contains("seed 0: already finished"), "{console}");
    assert_eq!(console.matches("finished in").count(), 3, "{console}");
    assert!(console.contains("[4/4] epoch"), "{console}");
    assert_eq!(two.stdout, one.stdout);
    assert_eq!(table("two"), table("one"));
    // The other runs go on after a run has failed.
    let failed = run(
        "failed",
        "loss.label_smoothing=0,0.1",
        &["--jobs", "3", "--lr", "1e30"],
    );
    assert_eq!(failed.status.code(), Some(1));
    let console = String::from_utf8(failed.stderr).unwrap();
    assert!(console.contains("error: 4 runs failed"), "{console}");
    assert!(console.contains("[1/4] error:"), "{console}");
    is_wrong_usage(
        &words(&study("two", over, &["--run", "5"])),
        &[
            "there is no run 5: the study has 4 runs",
            "--run 1 to --run 4",
        ],
    );
    let start = [
        "ablate",
        "--dataset",
        "shapes",
        "--output",
        "x",
        "--over",
        "train.epochs=1,2",
    ];
    for (more, parts) in [
        (
            "--jobs 1",
            [
                "--jobs 1 trains on 1 device",
                "--devices lists 2",
                "omit --jobs",
            ],
        ),
        ("--run 1", ["--run", "cannot be used with", "--devices"]),
    ] {
        let more = format!("{more} --devices cpu,cpu");
        let more: Vec<&str> = more.split(' ').collect();
        is_wrong_usage(&[&start[..], &more].concat(), &parts);
    }
}

/// Returns whether a process of this user has an argument.
#[cfg(target_os = "linux")]
fn runs_with(argument: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .any(|command| {
            command
                .split(|byte| *byte == 0)
                .any(|own| own == argument.as_bytes())
        })
}

#[test]
#[cfg(target_os = "linux")]
fn runs_in_processes_of_their_own_end_saved_when_the_command_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("cifar10"));
    write_cifar(Path::new(&data), 60, 30);
    let output = dir.path().join("study");
    let words = format!(
        "ablate --dataset {data} --output {} --over se.reduction=2,4 --seeds 0 --backbone se-resnet20 --epochs 500 \
         --set train.log_every=1 --device cpu --jobs 2",
        output.display()
    );
    let mut command = spawn(&split(&words));
    let runs = ["model.se.reduction=2/seed-0", "model.se.reduction=4/seed-0"];
    for run in runs {
        wait_for_steps(&mut command, &output.join(run), 2);
    }
    command.kill().unwrap();
    command.wait().unwrap();
    let begun = std::time::Instant::now();
    while runs_with(&text(&output)) {
        assert!(begun.elapsed().as_secs() < 60, "the runs go on");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    for run in runs {
        assert!(
            output
                .join(run)
                .join("checkpoints/last.safetensors")
                .is_file()
        );
    }
}

#[test]
fn errors_of_classification_name_the_cause_and_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("cifar10"));
    write_cifar(Path::new(&data), 60, 30);
    let run = text(&dir.path().join("run"));
    let train = ["train", "--dataset", &data, "--output", &run];
    for (more, parts) in [
        (
            ["--config", "shapes"],
            [
                "recipe shapes is for detection, but the dataset needs classification",
                "cifar-resnet",
            ],
        ),
        (["--backbone", "resnet21"], ["resnet21", "se-resnet20"]),
        (
            ["--backbone", "inception-resnet-v2"],
            ["input.size 32", "too small"],
        ),
        (
            ["--set", "loss.label_smoothing=1"],
            ["loss.label_smoothing is 1", "below 1"],
        ),
        (["--set", "model.se.gate=tanh"], ["model.se", "se-"]),
        (
            ["--set", "augment.horizontal_flip=2"],
            ["horizontal_flip", "between 0 and 1"],
        ),
        (
            ["--set", "input.resize=16"],
            ["input.resize 16", "below input.size 32"],
        ),
    ] {
        let more = match more[1] {
            "model.se.gate=tanh" => [&more[..], &["--backbone", "resnet20"]].concat(),
            _ => more.to_vec(),
        };
        is_wrong_usage(&[&train[..], &more].concat(), &parts);
        assert!(
            !Path::new(&run).exists(),
            "nothing is left behind: {more:?}"
        );
    }
    is_wrong_usage(
        &["train", "--dataset", "cifar10"],
        &["cifar10", "--data-dir"],
    );
    let detector = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    fails_with(
        &["eval", "--checkpoint", detector, "--dataset", &data],
        &["shapes-se-resnet18", "detector"],
    );
    fails_with(
        &[&train[..], &["--weights", detector]].concat(),
        &[
            "shapes-se-resnet18",
            "a detector; it cannot initialize a classifier",
        ],
    );
    let image_path = text(&dir.path().join("a.png"));
    image::RgbImage::new(8, 8).save(&image_path).unwrap();
    is_wrong_usage(
        &[
            "predict",
            "--checkpoint",
            detector,
            &image_path,
            "--top",
            "3",
        ],
        &["--top requires a classifier"],
    );
}

#[test]
fn a_directory_of_classes_is_trained_on_and_a_broken_image_stops_it_or_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("fruit");
    for (class, shade) in [("apple", 40u8), ("pear", 200)] {
        std::fs::create_dir_all(data.join(class)).unwrap();
        for number in 0..20u8 {
            let image = image::RgbImage::from_fn(24, 20, |x, y| {
                image::Rgb([shade, (x * 3) as u8, (y * 5) as u8 + number])
            });
            let path = data.join(class).join(format!("{number}.png"));
            image.save(path).unwrap();
        }
    }
    let broken = data.join("apple/broken.png");
    std::fs::write(&broken, b"no image").unwrap();
    let (data, run) = (text(&data), text(&dir.path().join("run")));
    let small = [
        "train",
        "--dataset",
        &data,
        "--epochs",
        "1",
        "--set",
        "input.size=32",
        "--set",
        "input.resize=36",
        "--set",
        "model.width=0.125",
    ];
    let strict = text(&dir.path().join("strict"));
    fails_with(
        &[&small[..], &["--output", &strict]].concat(),
        &["broken.png"],
    );
    let skip = ["--output", &run, "--set", "loader.on_bad_image=skip"];
    let (out, console) = succeeds(&[&small[..], &skip].concat());
    assert!(console.contains("no val directory"), "{console}");
    assert!(console.contains("classes    2: apple, pear"), "{console}");
    let is_named = console.contains("skipped in training: 1 unreadable image")
        && console.contains("broken.png");
    let is_counted = console.contains("skipped in evaluation: 1 unreadable image");
    assert!(is_named || is_counted, "{console}");
    assert!(out.contains("top-1"), "{out}");
}

/// Weights are drawn on the CPU, and a step computes the same on every device but for rounding.
#[cfg(feature = "wgpu")]
#[test]
fn one_seed_has_the_same_first_losses_on_the_cpu_and_on_wgpu() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("cifar10"));
    write_cifar(Path::new(&data), 60, 30);
    let losses = |device: &str| -> Vec<f64> {
        let run = text(&dir.path().join(device));
        let start = ["train", "--dataset", &data, "--output", &run];
        let options = [
            "--config",
            "cifar-short",
            "--backbone",
            "se-resnet20",
            "--batch-size",
            "10",
            "--device",
            device,
        ];
        let sets = [
            "model.width=0.25",
            "train.max_iterations=2",
            "train.log_every=1",
        ];
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let arguments: Vec<&str> = start.into_iter().chain(options).chain(sets).collect();
        succeeds(&arguments);
        let events = std::fs::read_to_string(Path::new(&run).join("events.jsonl")).unwrap();
        let events = events
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let steps = events.filter(|event| event["event"] == "train");
        steps.map(|event| event["loss"].as_f64().unwrap()).collect()
    };
    let (cpu, wgpu) = (losses("cpu"), losses("wgpu"));
    assert_eq!((cpu.len(), wgpu.len()), (2, 2));
    // The second loss follows from the gradients of the first step.
    for (cpu, wgpu) in cpu.iter().zip(&wgpu) {
        assert!((cpu - wgpu).abs() < 1e-3 * cpu, "{cpu} {wgpu}");
    }
}
