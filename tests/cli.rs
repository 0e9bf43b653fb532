//! The command line: errors are one line with the right exit code.

use std::path::Path;

use sedet_nn::kernels::bf16::ComputePrecision;

use crate::common::command::{fails_with, is_wrong_usage, sedet, text};

#[test]
fn doctor_reports_the_cpu_and_never_fails() {
    let output = sedet(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["devices"][0]["backend"], "cpu");
    assert_eq!(report["devices"][0]["works"], true);
}

#[test]
fn doctor_compares_a_network_of_a_device_with_the_cpu() {
    let refused = |arguments: &[&str], problem: &str, code| {
        let output = sedet(&[&["doctor"], arguments].concat());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(problem), "{message}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    };
    let with_cpu = ["--device", "cpu", "--model", "se-resnet20"];
    refused(
        &with_cpu,
        "the CPU is what other devices are compared with",
        2,
    );
    refused(
        &["--device", "cpu"],
        "--device has no effect without --model",
        2,
    );
    refused(&["--model", "se-resnt20"], "did you mean 'se-resnet20'?", 2);
    if cfg!(feature = "wgpu") {
        // Of a classifier without a detector.
        let arguments = [
            "doctor",
            "--json",
            "--device",
            "wgpu",
            "--model",
            "se-resnet20",
        ];
        let output = sedet(&arguments);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["different"], 0, "{report:#}");
        assert_eq!(report["complete"], true);
        assert!(report["operations"].as_array().unwrap().len() > 80);
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    assert_eq!(sedet(&["trian"]).status.code(), Some(2));
    assert_eq!(sedet(&["train"]).status.code(), Some(2));
    assert_eq!(
        sedet(&["train", "--dataset", "shapes", "--device", "gpu"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn global_options_set_the_threads_and_the_amount_of_messages() {
    let doctor = sedet(&["--threads", "3", "doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert_eq!(report["threads"], 3);
    assert_eq!(sedet(&["doctor", "--threads", "0"]).status.code(), Some(2));
    let dir = tempfile::tempdir().unwrap();
    let scenes = |name: &str, option: &[&str]| {
        let output = text(&dir.path().join(name));
        let scenes = ["data", "shapes", "--output", &output, "--long-side", "64"];
        let counts = ["--train-images", "1", "--val-images", "1"];
        let done = sedet(&[&scenes[..], &counts, option].concat());
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        String::from_utf8(done.stderr).unwrap()
    };
    assert!(scenes("a", &[]).starts_with("wrote 2 scenes"));
    assert_eq!(scenes("b", &["--quiet"]), "");
    let verbose = scenes("c", &["-v"]);
    assert!(
        verbose.lines().all(|line| line.starts_with('[')),
        "{verbose}"
    );
    assert!(
        verbose.contains(" s] generating scenes: ") && verbose.contains("total: "),
        "{verbose}"
    );
    // Errors are not suppressed.
    is_wrong_usage(&["-q", "models", "vgg19"], &["'vgg19'"]);
    assert_eq!(sedet(&["-q", "-v", "doctor"]).status.code(), Some(2));
}

#[test]
fn a_network_is_measured_by_name_or_with_the_weights_of_a_file() {
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let short = ["--iterations", "1", "--json"];
    for (model, options, task, work) in [
        (
            &["se-resnet20"][..],
            &["--size", "32x48", "--batch", "2"][..],
            "classification",
            "inference",
        ),
        (&["--checkpoint", shipped], &[], "detection", "inference"),
        (
            &["--weights", shipped],
            &["--size", "96", "--train", "--precision", "bf16"],
            "detection",
            "training step",
        ),
    ] {
        let output = sedet(&[&["bench"], model, options, &short].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!([&report["task"], &report["work"]], [task, work]);
        assert_eq!(report["runs"], 1);
        assert!(report["median_ms"].as_f64().unwrap() > 0.0, "{report}");
        assert_eq!(report["macs"].is_null(), work != "inference", "{report}");
        let precision = match work {
            "inference" => ComputePrecision::F32,
            _ => ComputePrecision::Bf16.or_f32(),
        };
        assert_eq!(report["precision"], precision.to_string());
        if model.len() == 1 {
            assert_eq!([&report["height"], &report["width"]], [32, 48]);
            assert_eq!(report["batch_size"], 2);
        }
    }
    // The input of a detector for an image of 480x640, padded to multiples of 32.
    let output = sedet(&["bench", "--checkpoint", shipped, "--iterations", "1"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("1 image of 160x224"), "{message}");
    let table = String::from_utf8(output.stdout).unwrap();
    for row in ["latency", "throughput", "peak memory", "computation"] {
        assert!(table.contains(row), "{table}");
    }
}

#[test]
fn the_instruction_set_can_be_limited_and_an_unknown_one_is_refused() {
    let doctor = |set: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sedet"));
        let output = command.args(["doctor", "--json"]);
        output.env("SEDET_MAX_CPU_ISA", set).output().unwrap()
    };
    let output = doctor("Baseline");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let cpu = report["devices"][0]["detail"].as_str().unwrap();
    assert!(cpu.ends_with(", baseline instructions"), "{cpu}");

    // Empty is not set.
    assert_eq!(doctor("").status.code(), Some(0));

    let output = doctor("sse9");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("SEDET_MAX_CPU_ISA=sse9: must be one of baseline"),
        "{message}"
    );
}

/// Returns the detections of the shipped detector on an image, as `[x, y, width, height, score]`, and the messages.
/// `set` limits the instruction set of the kernels; empty is no limit.
fn detections(image: &str, precision: &str, set: &str) -> (Vec<Vec<f64>>, String) {
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sedet"));
    let command = command.args(["predict", image, "--checkpoint", shipped, "--json"]);
    let command = command.args(["--precision", precision, "--device", "cpu"]);
    let output = command.env("SEDET_MAX_CPU_ISA", set).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = |row: &serde_json::Value| {
        let sides = row["bbox"].as_array().unwrap().iter();
        let numbers = sides.chain([&row["score"]]);
        numbers.map(|number| number.as_f64().unwrap()).collect()
    };
    let rows = rows.as_array().unwrap().iter().map(row).collect();
    (rows, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn bf16_finds_the_objects_of_f32_and_is_f32_where_the_cpu_does_not_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let scenes = text(&dir.path().join("scenes"));
    let counts = ["--train-images", "1", "--val-images", "1"];
    let done = sedet(&[&["data", "shapes", "--output", &scenes][..], &counts].concat());
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let mut images: Vec<_> = images_below(Path::new(&scenes));
    images.sort();
    let image = text(&images[0]);

    let (f32, message) = detections(&image, "f32", "");
    assert!(!f32.is_empty() && !message.contains("note:"), "{message}");
    let (bf16, message) = detections(&image, "bf16", "");
    assert_eq!(bf16.len(), f32.len());
    if message.contains("note: computing in f32: bf16 needs a CPU with AVX512-BF16") {
        assert_eq!(bf16, f32);
    } else {
        assert_ne!(bf16, f32);
        for (bf16, f32) in bf16.iter().zip(&f32) {
            let differences: Vec<f64> = bf16.iter().zip(f32).map(|(a, b)| (a - b).abs()).collect();
            let [sides @ .., score] = differences.as_slice() else {
                panic!("{differences:?}")
            };
            assert!(
                sides.iter().all(|side| *side < 1.5) && *score < 0.03,
                "{differences:?}"
            );
        }
    }

    let (f32, _) = detections(&image, "f32", "baseline");
    let (bf16, message) = detections(&image, "bf16", "baseline");
    assert!(message.contains("note: computing in f32: bf16 needs a CPU with AVX512-BF16"));
    assert_eq!(bf16, f32);
}

#[test]
fn a_precision_without_effect_is_refused() {
    is_wrong_usage(
        &[
            "eval",
            "--results",
            "a.json",
            "--annotations",
            "b.json",
            "--precision",
            "f32",
        ],
        &["--precision has no effect on --results"],
    );
}

#[test]
fn training_states_the_precision_that_it_computes_in() {
    let dir = tempfile::tempdir().unwrap();
    let scenes = text(&dir.path().join("scenes"));
    let counts = ["--train-images", "2", "--val-images", "1"];
    let done = sedet(&[&["data", "shapes", "--output", &scenes][..], &counts].concat());
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let device_row = |set: &str| {
        let run = text(&dir.path().join(format!("run-{set}")));
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sedet"));
        command.args(["train", "--dataset", &scenes, "--config", "shapes"]);
        command.args(["--device", "cpu", "--output", &run, "--epochs", "1"]);
        command.args(["--batch-size", "2", "--set", "train.precision=bf16"]);
        let output = command.env("SEDET_MAX_CPU_ISA", set).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        let mut lines = message.lines();
        let row = lines.find(|line| line.starts_with("device")).unwrap();
        (row.to_string(), message.clone())
    };
    let (row, message) = device_row("avx2");
    assert!(row.ends_with(", f32"), "{row}");
    assert!(
        message.contains("computing in f32: bf16 needs a CPU with AVX512-BF16"),
        "{message}"
    );
    let (row, message) = device_row("");
    let precision = ComputePrecision::Bf16.or_f32();
    assert!(row.ends_with(&format!(", {precision}")), "{row}");
    assert_eq!(message.contains("computing in f32"), precision.is_f32());
}

/// Returns the JPEG and PNG files below a directory.
fn images_below(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| {
        if path.is_dir() {
            images_below(&path)
        } else {
            vec![path]
        }
    });
    let is_image = |path: &std::path::PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "jpg" || extension == "png")
    };
    files.filter(is_image).collect()
}

#[test]
fn a_measurement_without_a_model_or_of_an_impossible_input_is_refused() {
    is_wrong_usage(
        &["bench"],
        &["no model is given", "sedet bench se-resnet50"],
    );
    is_wrong_usage(&["bench", "se-resnet5"], &["'se-resnet5'", "se-resnet50"]);
    is_wrong_usage(&["bench", "resnet20-fpn"], &["resnet20"]);
    is_wrong_usage(&["bench", "resnet50", "--size", "0x32"], &["800x1088"]);
    is_wrong_usage(
        &["bench", "resnet50", "--checkpoint", "a.pth"],
        &["--checkpoint"],
    );
    is_wrong_usage(
        &["bench", "inception-resnet-v2", "--size", "16"],
        &["too small"],
    );
    is_wrong_usage(&["bench", "resnet50", "--strict"], &["--checkpoint"]);
    for (name, part) in [
        ("SE-ResNet50", "did you mean 'se-resnet50'?"),
        ("SE-ResNet50-FPN", "did you mean 'se-resnet50'?"),
        (
            "fasterrcnn-resnet50-fpn-coco",
            "hint: sedet bench --checkpoint fasterrcnn-resnet50-fpn-coco",
        ),
        ("Cargo.toml", "hint: sedet bench --checkpoint Cargo.toml"),
    ] {
        is_wrong_usage(&["bench", name], &[part]);
    }
}

#[test]
fn options_for_third_party_checkpoints_are_refused_with_a_sedet_checkpoint() {
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let dir = tempfile::tempdir().unwrap();
    let output = text(&dir.path().join("out"));
    let photo = text(&dir.path().join("photo.png"));
    image::RgbImage::new(32, 32).save(&photo).unwrap();
    for options in [
        &["--strict"][..],
        &["--allow-unused"],
        &["--layout", "timm"],
        &["--network", "teacher"],
    ] {
        for command in [
            &["predict", &photo][..],
            &["bench"],
            &["eval", "--dataset", "shapes"],
            &["excite", "--image", &photo, "--output", &output],
        ] {
            let words = [command, &["--checkpoint", shipped], options].concat();
            is_wrong_usage(&words, &[options[0], "is a sedet checkpoint", "hint: omit"]);
        }
    }
    assert!(!Path::new(&output).exists());
}

#[test]
fn recipes_and_keys_of_the_paper_s_commands_exist() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/paper.md");
    let page = std::fs::read_to_string(path).unwrap();
    let commands: Vec<&str> = page
        .split('`')
        .filter(|span| span.starts_with("sedet train") || span.starts_with("sedet ablate"))
        .collect();
    assert!(commands.len() > 20);
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        let after = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            words.get(at + 1).copied()
        };
        let mut arguments = vec!["config", "show", after("--config").unwrap()];
        let backbone = after("--backbone").map(|name| format!("model.backbone={name}"));
        arguments.extend(backbone.iter().flat_map(|set| ["--set", set]));
        for (at, _) in words
            .iter()
            .enumerate()
            .filter(|(_, word)| **word == "--set")
        {
            arguments.extend(["--set", words[at + 1]]);
        }
        let shown = sedet(&arguments);
        assert_eq!(shown.status.code(), Some(0), "{command}: {shown:?}");
    }
}

#[test]
fn completions_and_manual_pages_cover_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = sedet(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0), "{script:?}");
        let script = String::from_utf8(script.stdout).unwrap();
        for word in ["excite", "download", "recursive"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let output = text(&dir.path().join("man1"));
    let written = sedet(&["man", "--output", &output]);
    assert_eq!(written.status.code(), Some(0), "{written:?}");
    let pages = std::fs::read_dir(&output).unwrap().count();
    let message = String::from_utf8(written.stderr).unwrap();
    assert_eq!(message, format!("wrote {pages} pages to {output}\n"));
    let again = sedet(&["man", "--output", &output]);
    let message = String::from_utf8(again.stderr).unwrap();
    assert_eq!(
        message,
        format!("wrote {pages} pages to {output}; replaced {pages} earlier pages\n")
    );
    for (page, part) in [
        ("sedet.1", "SEDET_DATA"),
        ("sedet-train.1", "Examples:"),
        ("sedet-data-download.1", "mirror"),
    ] {
        let page = std::fs::read_to_string(format!("{output}/{page}")).unwrap();
        assert!(page.contains(part), "{page}");
    }
}

#[test]
fn the_configuration_is_listed_and_a_shown_recipe_trains() {
    let json = sedet(&["config", "list", "train.epochs", "--json"]);
    let keys: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(keys[0]["key"], "train.epochs");
    assert_eq!(keys[0]["type"], "integer");
    assert_eq!(keys[0]["summary"], "Number of epochs");
    is_wrong_usage(
        &["config", "list", "train.epoch"],
        &["did you mean 'train.epochs'?"],
    );
    let shown = sedet(&["config", "show", "small", "--set", "train.epochs=7"]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let dir = tempfile::tempdir().unwrap();
    let file = text(&dir.path().join("mine.toml"));
    std::fs::write(&file, &shown.stdout).unwrap();
    let again = sedet(&["config", "show", &file]);
    assert_eq!(again.stdout, shown.stdout);
    is_wrong_usage(
        &[
            "config",
            "show",
            "small",
            "--set",
            "train.optimiser.kind=sgd",
        ],
        &["train.optimiser", "did you mean 'optimizer'?"],
    );
}

#[test]
fn mistakes_are_answered_with_one_line_and_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let directory = text(dir.path());
    let results = text(&dir.path().join("results.json"));
    std::fs::write(&results, "[]").unwrap();
    let recipe = text(&dir.path().join("broken.toml"));
    std::fs::write(&recipe, "[train]\nepochs = \n").unwrap();
    let study = |more: &[&'static str]| -> Vec<&'static str> {
        let all = ["ablate", "--dataset", "shapes", "--output", "no/such/study"];
        [&all[..], more].concat()
    };
    let excite = ["excite", "--checkpoint", "a", "--output", "b"];
    let at = |option, value| ["train", "--dataset", "shapes", option, value];
    let cases: [(Vec<&str>, &[&str]); 11] = [
        (
            at("--device", "cuda").to_vec(),
            &[
                "this build does not support cuda",
                "--features cuda",
                "--device cpu",
            ],
        ),
        (
            at("--lr", "fast").to_vec(),
            &["'fast'", "expected a number"],
        ),
        (
            [&at("--epochs", "2")[..], &["--set", "train.epochs=3"]].concat(),
            &["setting 'train.epochs=3': train.epochs is also given as 2"],
        ),
        (
            at("--lr", "0").to_vec(),
            &["learning rate 0: it must be above 0"],
        ),
        (
            at("--config", &recipe).to_vec(),
            &["broken.toml: line 2, column "],
        ),
        (
            vec!["models", "--size", "0"],
            &["'0'", "a whole number from 1 to 65535"],
        ),
        (excite.to_vec(), &["required arguments were not provided"]),
        (
            vec!["config", "list", "nonsense"],
            &["'nonsense'", "hint: `sedet config list`"],
        ),
        (
            vec!["eval", "--results", &results, "--annotations", &directory],
            &["--annotations", "a directory, not a file", "hint: "],
        ),
        (
            study(&["--over", "train.epochs=1,2", "--seeds", "0,0"]),
            &["seed 0 is listed twice", "hint: "],
        ),
        (
            study(&["--over", "train.epochs=1,2", "--epochs", "3"]),
            &["train.epochs is varied, and also set"],
        ),
    ];
    for (arguments, parts) in cases {
        if cfg!(feature = "cuda") && arguments.contains(&"cuda") {
            continue;
        }
        is_wrong_usage(&arguments, parts);
    }
    fails_with(
        &["train", "--resume", "no/such/run"],
        &["no/such/run: file not found"],
    );
    let weights = ["--over", "train.epochs=1", "--weights", "gone.pth"];
    fails_with(&study(&weights), &["gone.pth: file not found"]);
    assert!(!Path::new("no/such/study").exists());
}

#[test]
fn annotated_images_never_replace_the_images_that_they_are_made_from() {
    let dir = tempfile::tempdir().unwrap();
    let photo = dir.path().join("a.png");
    image::RgbImage::new(40, 30).save(&photo).unwrap();
    let before = std::fs::read(&photo).unwrap();
    let checkpoint = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let (image, directory) = (text(&photo), text(dir.path()));
    let predict = ["predict", "--checkpoint", checkpoint, &image, "--output"];
    is_wrong_usage(
        &[&predict[..], &[&format!("{directory}/.")]].concat(),
        &[
            "a.png is in this directory",
            "hint: choose another --output",
        ],
    );
    assert_eq!(std::fs::read(&photo).unwrap(), before);
    let inside = format!("{directory}/annotated");
    let done = sedet(&[&predict[..], &[&inside]].concat());
    assert!(done.status.success(), "{done:?}");
    assert!(Path::new(&inside).join("a.png").is_file());
}

/// As with `sedet predict ... --output DIR | head -1`.
#[test]
fn a_reader_that_leaves_does_not_cost_the_files_of_predictions() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.png", "b.png", "c.png"] {
        let image = image::RgbImage::new(40, 30);
        image.save(dir.path().join(name)).unwrap();
    }
    let checkpoint = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let output = dir.path().join("output");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sedet"));
    command.args(["predict", "--checkpoint", checkpoint, &text(dir.path())]);
    command.args(["--output", &text(&output)]);
    let mut running = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(running.stdout.take());
    assert!(running.wait().unwrap().success());
    for name in ["a.png", "b.png", "c.png", "predictions.json"] {
        assert!(output.join(name).is_file(), "{name}");
    }
}

#[test]
fn images_of_formats_that_are_not_decoded_are_named_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let boxes = (1..=2).map(|id| {
        image::RgbImage::new(40, 30)
            .save(at(&format!("{id}.png")))
            .unwrap();
        serde_json::json!({
            "id": id, "image_id": id, "category_id": 1, "bbox": [1, 2, 10, 10], "area": 100, "iscrowd": 0
        })
    });
    let boxes: Vec<serde_json::Value> = boxes.collect();
    let images = (1..=2).map(|id| {
        serde_json::json!({"id": id, "file_name": format!("{id}.png"), "width": 40, "height": 30})
    });
    let document = serde_json::json!({
        "images": images.collect::<Vec<_>>(), "annotations": boxes,
        "categories": [{"id": 1, "name": "cat"}],
    });
    std::fs::write(at("train.json"), document.to_string()).unwrap();
    for name in ["3.avif", "4.HEIC", "5.heic"] {
        std::fs::write(at(name), "").unwrap();
    }
    let skipped = "skipped 3 images in formats that are not supported (.avif: 1, .heic: 2)";
    let directory = text(dir.path());
    let checkpoint = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    for (arguments, line) in [
        (
            vec!["data", "stats", &directory],
            format!("{directory}: train: {skipped}"),
        ),
        (
            vec!["-q", "predict", "--checkpoint", checkpoint, &directory],
            format!("warning: {skipped}"),
        ),
    ] {
        let done = sedet(&arguments);
        let console = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(0), "{console}");
        // Long lines are wrapped.
        let words: Vec<&str> = console.split_whitespace().collect();
        assert_eq!(words.join(" ").matches(&line).count(), 1, "{console}");
    }
}

#[test]
fn tensors_of_unknown_layers_are_refused_with_the_option_that_skips_them() {
    let fixture = format!(
        "{}/tests/fixtures/layouts/torchvision_resnext.safetensors",
        env!("CARGO_MANIFEST_DIR")
    );
    let bytes = std::fs::read(fixture).unwrap();
    let known = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let gate = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]);
    let mut tensors = known.tensors();
    tensors.push(("layer2.0.gate.weight".into(), gate.unwrap()));
    let dir = tempfile::tempdir().unwrap();
    let file = text(&dir.path().join("gated.safetensors"));
    safetensors::serialize_to_file(tensors, None, Path::new(&file)).unwrap();
    let output = text(&dir.path().join("out.safetensors"));
    let import = ["weights", "import", &file, "-o", &output];
    fails_with(
        &import,
        &[
            "gated.safetensors: 1 tensor inside",
            "layer2.0.gate.weight",
            "--allow-unused",
        ],
    );
    assert!(!Path::new(&output).exists());
    let done = sedet(&[&import[..], &["--allow-unused"]].concat());
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success() && stderr.contains("skipped: layer2.0.gate.weight"),
        "{stderr}"
    );
    let both = sedet(&[&import[..], &["--allow-unused", "--strict"]].concat());
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn errors_of_train_name_the_cause_and_a_hint() {
    fails_with(
        &["train", "--dataset", "no/such/directory"],
        &["no/such/directory: no such file or directory"],
    );
    is_wrong_usage(&["train", "--dataset", "coco"], &["coco", "--data-dir"]);
    is_wrong_usage(&["train", "--dataset", "cocoo"], &["did you mean 'coco'?"]);
    let dir = tempfile::tempdir().unwrap();
    let directory = text(dir.path());
    let run = text(&dir.path().join("run"));
    fails_with(
        &["train", "--dataset", &directory, "--output", &run],
        &["train"],
    );
    let shapes = |extra: &[&str]| -> Vec<String> {
        let base = ["train", "--dataset", "shapes", "--output", &run];
        base.iter().chain(extra).map(|s| s.to_string()).collect()
    };
    for (extra, parts) in [
        (["--backbone", "resnet19"], ["resnet19", "se-resnet50"]),
        (
            ["--backbone", "wrn-28-10"],
            ["wrn-28-10", "classifier only"],
        ),
        (["--set", "train.epoch=3"], ["train.epoch=3", "epoch"]),
        (["--config", "nothing"], ["'nothing'", "blood-cells"]),
        (["--config", "smal"], ["'smal'", "did you mean 'small'?"]),
    ] {
        let arguments = shapes(&extra);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        is_wrong_usage(&arguments, &parts);
        let _ = std::fs::remove_dir_all(&run);
    }
    let arguments = shapes(&["--weights", "gone.safetensors"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    fails_with(&arguments, &["gone.safetensors", "file not found"]);
    fails_with(
        &["train", "--resume", &directory],
        &[&directory, "no run to resume"],
    );
}

#[test]
fn errors_of_predict_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let directory = text(dir.path());
    let checkpoint = dir.path().join("bad.safetensors");
    std::fs::write(&checkpoint, "hello").unwrap();
    let image_path = dir.path().join("a.png");
    image::RgbImage::new(40, 30).save(&image_path).unwrap();
    let (checkpoint, image_path) = (text(&checkpoint), text(&image_path));
    fails_with(
        &["predict", "--checkpoint", &checkpoint, &image_path],
        &["bad.safetensors", "unknown weights file format"],
    );
    fails_with(
        &["predict", "--checkpoint", &checkpoint, "gone.jpg"],
        &["gone.jpg", "hint: give images"],
    );
    is_wrong_usage(
        &["predict", &image_path, &checkpoint],
        &[
            "a model among the images",
            &format!("sedet predict --checkpoint {checkpoint} {image_path}"),
        ],
    );
    is_wrong_usage(
        &[
            "predict",
            &image_path,
            "--checkpoint",
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/assets/shapes-se-resnet18.safetensors"
            ),
            "--score",
            "-0.5",
        ],
        &["--score -0.5: a value from 0 to 1"],
    );
    std::fs::remove_file(&image_path).unwrap();
    fails_with(
        &["predict", "--checkpoint", &checkpoint, &directory],
        &["no image"],
    );
}

#[test]
fn a_file_that_is_no_whole_weights_file_is_refused_by_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = |name: &str| {
        let path = format!(
            "{}/tests/fixtures/layouts/{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        std::fs::read(path).unwrap()
    };
    let archive = fixture("torchvision_basic.pth");
    let legacy = fixture("timm_seresnet.pt");
    let shards = fixture("torchvision_resnext.safetensors");
    let photo = text(&dir.path().join("a.png"));
    image::RgbImage::new(40, 30).save(&photo).unwrap();
    let again = "hint: copy or download the file again";
    for (name, content, parts) in [
        (
            "a.onnx",
            &b"\x08\x08\x12\x05sedet"[..],
            [
                "an ONNX model",
                "hint: give the checkpoint that was exported",
            ],
        ),
        (
            "page.pth",
            b"<!doctype html><title>a.pth</title>",
            ["a web page (HTML)", "hint: download the file itself"],
        ),
        (
            "pointer.pt",
            b"version https://git-lfs.github.com/spec/v1\n",
            ["a Git LFS pointer", "git lfs pull"],
        ),
        ("empty.pth", b"", ["an empty file", again]),
        (
            "half.pth",
            &archive[..archive.len() / 2],
            ["not a complete PyTorch file: it ends early", again],
        ),
        (
            "half.pt",
            &legacy[..legacy.len() / 2],
            ["not a complete PyTorch file: ", again],
        ),
        (
            "half.safetensors",
            &shards[..shards.len() / 2],
            ["not a complete safetensors file: it ends early", again],
        ),
    ] {
        let path = text(&dir.path().join(name));
        std::fs::write(&path, content).unwrap();
        let output = text(&dir.path().join("out"));
        let parts = [&[name][..], &parts].concat();
        for command in [
            &["predict", &photo, "--checkpoint", &path][..],
            &["eval", "--dataset", "shapes", "--checkpoint", &path],
            &[
                "excite",
                "--image",
                &photo,
                "--output",
                &output,
                "--checkpoint",
                &path,
            ],
            &["weights", "inspect", &path],
        ] {
            fails_with(command, &parts);
        }
        // Before a window opens, and whether or not there is a display.
        #[cfg(feature = "viewer")]
        for command in [
            &["view", &path][..],
            &["view", "--checkpoint", &path],
            &["view", "--compare", &path],
        ] {
            fails_with(command, &parts);
        }
    }
}

#[test]
fn annotated_images_have_the_requested_format() {
    let dir = tempfile::tempdir().unwrap();
    let here = |name: &str| format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    let (detector, classifier) = (
        here("assets/shapes-se-resnet18.safetensors"),
        here("tests/fixtures/layouts/timm_seresnet.pt"),
    );
    let (photo, output) = (here("assets/shapes-detections.jpg"), text(dir.path()));
    let predict = ["predict", &photo, "--image-format", "svg", "--checkpoint"];
    let done = sedet(&[&predict[..], &[&detector, "--output", &output]].concat());
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let svg = std::fs::read_to_string(dir.path().join("shapes-detections.svg")).unwrap();
    assert!(svg.contains("data:image/jpeg;base64,") && svg.contains(">ball 1.00</text>"));
    is_wrong_usage(
        &[&predict[..], &[&classifier, "--output", &output]].concat(),
        &["--image-format requires a detector", "timm_seresnet.pt"],
    );
    let nowhere = sedet(&[&predict[..], &[&detector]].concat());
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
}

#[test]
fn weights_are_imported_inspected_exported_and_errors_reported() {
    let dir = tempfile::tempdir().unwrap();
    let layouts = format!("{}/tests/fixtures/layouts", env!("CARGO_MANIFEST_DIR"));
    let (file, odd) = (
        format!("{layouts}/cadene_seresnet.pth"),
        format!("{layouts}/outputs.safetensors"),
    );
    let at = |name: &str| text(&dir.path().join(name));
    let (imported, exported) = (at("a.safetensors"), at("b.safetensors"));
    let done = |arguments: &[&str]| {
        let output = sedet(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        (String::from_utf8_lossy(&output.stdout).to_string(), stderr)
    };
    for command in [
        &["weights", "import", &file, "-o", &file][..],
        &["weights", "export", &odd, "--format", "timm", "-o", &odd],
    ] {
        is_wrong_usage(command, &["is the file that is read", "hint: "]);
    }
    let (_, stderr_text) = done(&["weights", "import", &file, "-o", &imported, "--strict"]);
    assert!(
        stderr_text.contains("Cadene") && stderr_text.contains(" 0 missing"),
        "{stderr_text}"
    );
    let export = [
        "weights", "export", &imported, "--format", "timm", "-o", &exported,
    ];
    let (_, stderr_text) = done(&export);
    assert!(
        stderr_text
            .contains("timm has no constructor for this network: its networks have 64 channels")
            && stderr_text.contains("not in the file: class names, input size and normalization"),
        "{stderr_text}"
    );
    // What exists is not replaced, and a name does not promise another format.
    let import = ["weights", "import", &file, "-o", &imported];
    for command in [&export[..], &import] {
        fails_with(
            command,
            &["safetensors: already exists", "choose another --output"],
        );
    }
    for (format, name, renamed) in [
        ("onnx", "a.pth", "a.onnx"),
        ("timm", "a.onnx", "a.safetensors"),
        ("safetensors", "a", "a.safetensors"),
    ] {
        let output = at(name);
        let export = [
            "weights", "export", &file, "--format", format, "-o", &output,
        ];
        let hint = format!("hint: --output {}", at(renamed));
        is_wrong_usage(&export, &[&format!("{name} does not end in ."), &hint]);
    }
    let directory = text(dir.path());
    is_wrong_usage(
        &["weights", "import", &file, "-o", &directory],
        &["is a directory", "weights.safetensors"],
    );
    let (json, _) = done(&["weights", "inspect", &exported, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["container"], "safetensors");
    assert!(json["recognized_as"].as_str().unwrap().contains("Cadene"));
    let (table, _) = done(&["weights", "inspect", &imported]);
    assert!(table.contains("a sedet checkpoint"), "{table}");
    assert!(table.contains("backbone.layer1.0.se.fc1.weight"), "{table}");

    fails_with(
        &["weights", "import", &odd, "-o", &at("c.safetensors")],
        &[
            "outputs.safetensors",
            "none of the known networks",
            "--layout",
        ],
    );
    fails_with(
        &[
            "weights",
            "import",
            &file,
            "--layout",
            "detectron2",
            "-o",
            &at("c.safetensors"),
        ],
        &["cadene_seresnet.pth", "not of layout detectron2"],
    );
    fails_with(
        &[
            "weights",
            "export",
            &file,
            "--format",
            "torchvision",
            "-o",
            &at("c.safetensors"),
        ],
        &["cadene_seresnet.pth", "SE units"],
    );
    is_wrong_usage(
        &["train", "--dataset", "shapes", "--layout", "timm"],
        &["--layout", "name the checkpoint with --weights"],
    );
    fails_with(
        &["predict", "--checkpoint", &imported, "gone.jpg"],
        &["gone.jpg"],
    );
    is_wrong_usage(
        &["eval", "--checkpoint", &imported, "--dataset", "cifar10"],
        &["--data-dir"],
    );
}

#[test]
fn eval_evaluates_a_results_file_without_a_model() {
    let fixture = |name: &str| format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let output = sedet(&[
        "eval",
        "--results",
        &fixture("coco_eval_dt.json"),
        "--annotations",
        &fixture("coco_eval_gt.json"),
        "--output",
        &text(dir.path()),
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0));
    let native: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in [
        "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
    ] {
        assert!(native[key].is_f64(), "{key} in {native}");
    }
    let written = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    // The matrix and the list of boxes agree: each counted annotation is in the row of its class,
    // and each false positive that is not a confusion is in the last row.
    let boxes = written("boxes.csv");
    let count = |kind: &str, verdicts: &[&str]| {
        let lines = boxes.lines().filter(|line| line.contains(kind));
        let ends = |line: &&str| verdicts.iter().any(|v| line.contains(&format!(",{v},")));
        lines.filter(ends).count()
    };
    assert!(boxes.starts_with("file,kind,class,score,"));
    let (mut annotated, mut invented) = (0, 0);
    for line in written("confusion.csv").lines().skip(1) {
        let numbers = line
            .rsplit(',')
            .map_while(|field| field.parse::<usize>().ok());
        if line.starts_with("(background)") {
            invented += numbers.sum::<usize>();
        } else {
            annotated += numbers.sum::<usize>();
        }
    }
    assert!(annotated > 0 && invented > 0);
    assert_eq!(
        invented,
        count(",detection,", &["Loc", "Both", "Dupe", "Bkg"])
    );
    let missed = count(",annotation,", &["missed"]);
    assert!(annotated >= count(",annotation,", &["found"]) && missed > 0);
}

#[test]
fn weights_of_other_classes_or_networks_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("data"));
    let scenes = ["data", "shapes", "--output", &data, "--long-side", "128"];
    let scenes = [&scenes[..], &["--train-images", "2", "--val-images", "1"]].concat();
    assert_eq!(sedet(&scenes).status.code(), Some(0));
    fails_with(&scenes, &["exists", "another --output"]);
    // As many classes, other names.
    for split in ["train", "val"] {
        let path = format!("{data}/annotations/instances_{split}2017.json");
        let annotations = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, annotations.replace("\"ball\"", "\"globe\"")).unwrap();
    }
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let run = text(&dir.path().join("run"));
    let train = [
        "train",
        "--dataset",
        &data,
        "--config",
        "shapes",
        "--epochs",
        "1",
    ];
    let train = [&train[..], &["--batch-size", "2", "--device", "cpu"]].concat();
    let train = [&train[..], &["--weights", shipped, "--output", &run]].concat();
    // Another network, even if parts of it would fit.
    for backbone in ["se-mobilenet-v1", "resnet34", "se-resnet50"] {
        fails_with(
            &[&train[..], &["--backbone", backbone]].concat(),
            &[
                "shapes-se-resnet18.safetensors: not the weights of ",
                backbone,
                "the backbone in this file is se-resnet18 (width 0.25)",
                " tensors fit",
                "omit --backbone",
                "--allow-unused",
            ],
        );
        assert!(!Path::new(&run).exists(), "nothing is left behind");
    }
    let strict = [&train[..], &["--strict"]].concat();
    fails_with(
        &[&strict[..], &["--set", "model.overrides.fpn.channels=16"]].concat(),
        &[
            "not every tensor was matched",
            "of another shape",
            "omit --strict",
        ],
    );
    let third_party = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/layouts/cadene_seresnet18.pth"
    );
    let other = ["train", "--dataset", &data, "--config", "shapes"];
    let other = [&other[..], &["--weights", third_party, "--output", &run]].concat();
    fails_with(
        &[&other[..], &["--backbone", "se-resnet34"]].concat(),
        &["cadene_seresnet18.pth: not the weights of se-resnet34"],
    );
    // The layers that the classes replace are no mismatch.
    let trained = sedet(&strict);
    assert_eq!(trained.status.code(), Some(0), "{trained:?}");
    let stderr_text = String::from_utf8_lossy(&trained.stderr).to_string();
    assert!(
        stderr_text.contains("158 tensors loaded")
            && stderr_text.contains("only in the checkpoint: ball; only in the dataset: globe")
            && stderr_text.contains("box_head.cls_score.bias"),
        "{stderr_text}"
    );
}

#[test]
fn a_run_trains_evaluates_predicts_and_tolerates_a_broken_image() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("data"));
    let made = sedet(&[
        "data",
        "shapes",
        "--output",
        &data,
        "--train-images",
        "6",
        "--val-images",
        "3",
        "--long-side",
        "128",
    ]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let run = text(&dir.path().join("run"));
    let layouts = format!("{}/tests/fixtures/layouts", env!("CARGO_MANIFEST_DIR"));
    let trained = sedet(&[
        "train",
        "--dataset",
        &data,
        "--config",
        "shapes",
        "--output",
        &run,
        "--epochs",
        "1",
        "--batch-size",
        "2",
        "--weights",
        &format!("{layouts}/mmdetection_detector.pth"),
        "--set",
        "input.min_size=64",
        "--set",
        "input.max_size=96",
        "--device",
        "cpu",
    ]);
    assert_eq!(trained.status.code(), Some(0), "{trained:?}");
    let stderr_text = String::from_utf8_lossy(&trained.stderr).to_string();
    assert!(
        stderr_text.contains("checkpoint has 3 classes, dataset has 6")
            && stderr_text.contains("randomly initialized: box_head.bbox_pred.bias"),
        "{stderr_text}"
    );
    for file in [
        "config.toml",
        "environment.json",
        "events.jsonl",
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "results/metrics.json",
        "results/detections.json",
    ] {
        assert!(Path::new(&run).join(file).is_file(), "{file}");
    }
    fails_with(
        &["train", "--dataset", &data, "--output", &run],
        &["already contains a run", "--resume"],
    );
    let images_dir = dir.path().join("images");
    std::fs::create_dir(&images_dir).unwrap();
    image::RgbImage::new(80, 60)
        .save(images_dir.join("good.png"))
        .unwrap();
    std::fs::write(images_dir.join("bad.jpg"), "no image").unwrap();
    let checkpoint = format!("{run}/checkpoints/best.safetensors");
    let found = text(&dir.path().join("found"));
    let predicted = sedet(&[
        "predict",
        "--checkpoint",
        &checkpoint,
        &text(&images_dir),
        "--output",
        &found,
        "--json",
    ]);
    let stderr = String::from_utf8_lossy(&predicted.stderr).to_string();
    assert_eq!(predicted.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("bad.jpg") && stderr.contains("1 of 2"),
        "{stderr}"
    );
    let rows: serde_json::Value = serde_json::from_slice(&predicted.stdout).unwrap();
    assert!(rows.is_array());
    assert!(Path::new(&found).join("good.png").is_file());
    assert!(Path::new(&found).join("predictions.json").is_file());
}

#[test]
fn predict_takes_lists_of_images_from_files_and_from_stdin() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b");
    std::fs::create_dir_all(&deep).unwrap();
    let image_path = deep.join("x.png");
    image::RgbImage::new(40, 30).save(&image_path).unwrap();
    let classifier = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/layouts/timm_seresnet.pt"
    );
    let list = dir.path().join("list.txt");
    std::fs::write(&list, text(&image_path)).unwrap();
    let (root, list) = (text(dir.path()), format!("@{}", list.display()));
    let predict = ["predict", "--checkpoint", classifier, "--json"];
    let expected = sedet(&[&predict[..], &[&text(&image_path)]].concat()).stdout;
    assert!(!expected.is_empty());
    for inputs in [
        &[root.as_str(), "--recursive"][..],
        &[&list],
        &[&list, &root, "-r"],
    ] {
        let found = sedet(&[&predict[..], inputs].concat());
        assert_eq!(found.stdout, expected, "{inputs:?}: {found:?}");
    }
    fails_with(
        &[&predict[..], &[&root]].concat(),
        &["no images in this directory", "--recursive"],
    );
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_sedet"))
        .args(predict)
        .arg("-")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text(&image_path).as_bytes()).unwrap();
    drop(stdin);
    assert_eq!(child.wait_with_output().unwrap().stdout, expected);
}

#[test]
fn an_exported_detector_detects_the_same_and_raw_outputs_are_for_detectors_in_onnx() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    let detector = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let export = |file: &str, options: &str, output: &str| {
        let line = format!("weights export {file} {options} -o {output}");
        line.split(' ').map(String::from).collect::<Vec<_>>()
    };
    let photo = at("photo.png");
    image::RgbImage::from_fn(90, 70, |x, y| {
        image::Rgb([(x * 2) as u8, (y * 3) as u8, 90])
    })
    .save(&photo)
    .unwrap();
    let detections = |file: &str| {
        let line = [
            "predict",
            "--weights",
            file,
            &photo,
            "--json",
            "--score",
            "0",
        ];
        let done = sedet(&line);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        done.stdout
    };
    let (full, half) = (at("full.safetensors"), at("half.safetensors"));
    let run = |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        sedet(&arguments)
    };
    for (file, precision) in [(&full, "f32"), (&half, "f16")] {
        let options = format!("--format safetensors --precision {precision}");
        let done = run(&export(detector, &options, file));
        assert_eq!(done.status.code(), Some(0), "{done:?}");
    }
    assert!(detections(&full) == detections(detector));
    detections(&half);
    let size = |file: &str| std::fs::metadata(file).unwrap().len();
    assert!(size(&half) * 10 < size(&full) * 6);

    let model = at("model.onnx");
    let done = run(&export(
        detector,
        "--format onnx --raw --precision f16",
        &model,
    ));
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let words = export(detector, "--format torchvision --raw", &model);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    is_wrong_usage(&words, &["--raw", "--format onnx"]);
    let classifier = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/layouts/torchvision_basic.pth"
    );
    let words = export(classifier, "--format onnx --raw", &at("classifier.onnx"));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    is_wrong_usage(
        &words,
        &["torchvision_basic.pth is a classifier", "omit --raw"],
    );
}

#[test]
fn a_warning_of_an_evaluation_is_printed_once() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    let (truth, results) = (at("gt.json"), at("dt.json"));
    std::fs::write(
        &truth,
        r#"{"images": [{"id": 1, "file_name": "a.jpg", "width": 50, "height": 50}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20], "area": 400, "iscrowd": 0},
                {"id": 2, "image_id": 9, "category_id": 1, "bbox": [1, 1, 20, 20], "area": 400, "iscrowd": 0}]}"#,
    )
    .unwrap();
    std::fs::write(
        &results,
        r#"[{"image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20], "score": 0.9}]"#,
    )
    .unwrap();
    let evaluated = sedet(&["eval", "--results", &results, "--annotations", &truth]);
    assert_eq!(evaluated.status.code(), Some(0), "{evaluated:?}");
    let stderr = String::from_utf8(evaluated.stderr).unwrap();
    assert_eq!(
        stderr.matches("dropped 1 of 2 annotations").count(),
        1,
        "{stderr}"
    );
}

#[test]
fn models_lists_every_network_and_the_layers_of_one() {
    let listed = sedet(&["models", "--json"]);
    assert_eq!(listed.status.code(), Some(0));
    let rows: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let find = |name: &str| {
        let mut rows = rows.as_array().unwrap().iter();
        rows.find(|row| row["name"] == name).unwrap().clone()
    };
    let row = find("se-resnet50");
    assert_eq!(row["parameters"], 28_088_024);
    assert_eq!(row["macs"], 4_097_218_560u64);
    assert_eq!(row["se"], "end of each residual branch");
    assert_eq!(find("inception-resnet-v2")["size"], 299);
    // Networks of other datasets with their own input size and classes.
    let row = find("se-resnet110");
    assert_eq!(
        (&row["size"], &row["parameters"]),
        (&32.into(), &1_742_200.into())
    );
    let row = find("se-shake-even-29-2x4x64d");
    assert_eq!(
        (&row["family"], &row["size"]),
        (&"shake_shake".into(), &32.into())
    );
    assert_eq!(row["se"], "mixture of each block's two branches");
    assert_eq!(find("resnet152-places365")["parameters"], 58_891_693);
    let layers = sedet(&[
        "models",
        "se-mobilenet-v1",
        "--size",
        "192",
        "--classes",
        "10",
        "--json",
    ]);
    let report: serde_json::Value = serde_json::from_slice(&layers.stdout).unwrap();
    let layers = report["layers"].as_array().unwrap();
    let sum: u64 = layers.iter().map(|l| l["macs"].as_u64().unwrap()).sum();
    assert_eq!(report["macs"], sum);
    let last = layers.last().unwrap();
    assert_eq!(
        (&last["name"], &last["output"][0]),
        (&"fc".into(), &10.into())
    );
    let layers = sedet(&["models", "wrn-16-8", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&layers.stdout).unwrap();
    assert_eq!(
        (&report["classes"], &report["size"]),
        (&10.into(), &32.into())
    );
    assert_eq!(report["parameters"], 10_961_370);
    // The three output formats have the same numbers.
    let table = sedet(&["models", "se-resnet18"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("backbone.layer1.0.se") && table.contains("11778592 parameters"));
    let csv = sedet(&["models", "--csv"]);
    let csv = String::from_utf8_lossy(&csv.stdout).into_owned();
    assert!(
        csv.contains("\nvgg16-bn,vgg,224,138365992,15470264320,"),
        "{csv}"
    );
    assert!(
        csv.lines().all(|line| line.matches(',').count() == 6),
        "{csv}"
    );
}

#[test]
fn errors_of_models_name_the_cause_and_a_hint() {
    is_wrong_usage(&["models", "vgg19"], &["'vgg19'", "vgg16-bn"]);
    is_wrong_usage(
        &["models", "inception-resnet-v2", "--size", "60"],
        &["60x60", "too small"],
    );
    assert_eq!(sedet(&["models", "--size", "0"]).status.code(), Some(2));
    let small = sedet(&["models", "--size", "32"]);
    assert_eq!(small.status.code(), Some(0));
    let (out, console) = (
        String::from_utf8_lossy(&small.stdout),
        String::from_utf8_lossy(&small.stderr),
    );
    assert!(out.contains("se-resnet18") && !out.contains("inception-resnet"));
    assert!(console.contains("skipped inception-resnet-v2"), "{console}");
}
