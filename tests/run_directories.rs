//! Runs as their users meet them: in place of a checkpoint, with a dataset that moved, in directories with
//! other files, and what they print and record.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::common::command::{fails_with, text};
use crate::common::images::write_cifar;
use crate::common::runs::{
    Classifier, Ended, Scenes, assert_same, resume, split, stderr, succeeds, words,
};

const SHIPPED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/assets/shapes-se-resnet18.safetensors"
);

/// Writes a dataset in COCO's layout: images of one color with a box each.
fn write_boxes(directory: &Path, size: (u32, u32), boxes: &[[f32; 4]]) {
    for split in ["train", "val"] {
        let place = directory.join("images").join(split);
        fs::create_dir_all(&place).unwrap();
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for id in 1..=4 {
            let name = format!("{id}.png");
            image::RgbImage::from_pixel(size.0, size.1, image::Rgb([40 * id as u8; 3]))
                .save(place.join(&name))
                .unwrap();
            images.push(json!({"id": id, "file_name": name, "width": size.0, "height": size.1}));
            for (number, bbox) in boxes.iter().enumerate() {
                annotations.push(json!({
                    "id": 10 * id + number, "image_id": id, "category_id": 1, "bbox": bbox,
                    "area": bbox[2] * bbox[3], "iscrowd": 0,
                }));
            }
        }
        let document = json!({
            "images": images, "annotations": annotations,
            "categories": [{"id": 1, "name": "scratch"}],
        });
        let path = directory.join(format!("{split}.json"));
        fs::write(path, document.to_string()).unwrap();
    }
}

#[test]
fn a_run_is_accepted_in_place_of_its_checkpoint() {
    let classifier = Classifier::new();
    let run = classifier.run("whole");
    succeeds(&classifier.start(&run));
    let directory = text(&run);
    let best = format!("weights: {directory}/checkpoints/best.safetensors");
    let data = text(&classifier.dir.path().join("cifar10"));
    let photo = text(&classifier.dir.path().join("a.png"));
    image::RgbImage::new(32, 32).save(&photo).unwrap();
    let exported = text(&classifier.dir.path().join("a.safetensors"));
    for command in [
        format!("eval --checkpoint {directory} --dataset {data}"),
        format!("predict --checkpoint {directory} {photo}"),
        format!("weights inspect {directory}"),
        format!("weights export {directory} --format safetensors -o {exported}"),
    ] {
        let console = stderr(&succeeds(&split(&command)));
        assert!(console.contains(&best), "{command}: {console}");
    }
    let tuned = classifier.run("tuned");
    let more = format!("--batch-size 10 --weights {directory}");
    let start: Vec<String> = classifier.start_with(&tuned, &more);
    let start: Vec<String> = without(&start, "--backbone");
    let console = stderr(&succeeds(&start));
    assert!(console.contains(&best), "{console}");
    assert!(!console.contains("randomly initialized"), "{console}");
    let empty = text(classifier.dir.path());
    let eval = ["eval", "--checkpoint", &empty, "--dataset", &data];
    fails_with(&eval, &["no checkpoints/best.safetensors", "hint: "]);
}

/// Removes an option with its value.
fn without(arguments: &[String], option: &str) -> Vec<String> {
    let at = arguments.iter().position(|word| word == option).unwrap();
    let keeps = |index: &usize| *index != at && *index != at + 1;
    let kept = (0..arguments.len()).filter(keeps);
    kept.map(|index| arguments[index].clone()).collect()
}

#[test]
fn a_dataset_that_moved_is_verified_and_the_run_ends_with_the_same_weights() {
    let classifier = Classifier::new();
    let expected = classifier.uninterrupted();
    let run = classifier.stopped("moved", 5);
    let (old, new) = (
        classifier.dir.path().join("cifar10"),
        classifier.dir.path().join("elsewhere"),
    );
    fs::rename(&old, &new).unwrap();
    fails_with(
        &words(&resume(&run)),
        &["its dataset is no longer at its path", "--dataset PATH"],
    );
    let other = classifier.dir.path().join("other");
    write_cifar(&other, 70, 30);
    let last = text(&run.join("checkpoints/last.safetensors"));
    let at = |dataset: &Path| {
        let words = ["train", "--resume", &last, "--device", "cpu", "--dataset"];
        let mut words: Vec<String> = words.map(str::to_string).to_vec();
        words.push(text(dataset));
        words
    };
    fails_with(&words(&at(&other)), &["have changed since this run began"]);
    let boxes = classifier.dir.path().join("boxes");
    write_boxes(&boxes, (64, 64), &[[8.0, 8.0, 30.0, 30.0]]);
    fails_with(&words(&at(&boxes)), &["have changed since this run began"]);
    let best = text(&run.join("checkpoints/best.safetensors"));
    if Path::new(&best).exists() {
        fails_with(&["train", "--resume", &best], &["last.safetensors"]);
    }
    succeeds(&at(&new));
    assert_same(&Ended::of(&run), &expected);
    // The new place is recorded.
    succeeds(&resume(&run));
}

#[test]
fn a_named_dataset_is_found_in_another_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    write_cifar(&old.join("cifar10"), 20, 10);
    let run = text(&dir.path().join("run"));
    let train = format!(
        "train --dataset cifar10 --data-dir {} --output {run} --config cifar-short --epochs 1 \
         --batch-size 10 --set model.width=0.25 --device cpu",
        old.display()
    );
    succeeds(&split(&train));
    fs::rename(&old, &new).unwrap();
    let resume = format!("train --resume {run} --epochs 2 --device cpu");
    fails_with(&words(&split(&resume)), &["cifar10"]);
    let moved = format!("{resume} --data-dir {}", new.display());
    let console = stderr(&succeeds(&split(&moved)));
    assert!(console.contains("epoch 2/2"), "{console}");
    let launch = fs::read_to_string(Path::new(&run).join("launch.json")).unwrap();
    assert!(launch.contains(&text(&new)), "{launch}");
    // The number of epochs that a run was extended to is its own from then on.
    let again = stderr(&succeeds(&split(&format!(
        "train --resume {run} --device cpu"
    ))));
    assert!(
        again.contains("all 2 epochs are done\n") && again.contains("N above 2"),
        "{again}"
    );
    write_cifar(&new.join("cifar10"), 30, 10);
    fails_with(
        &words(&split(&moved)),
        &["have changed since this run began"],
    );
}

#[test]
fn a_run_never_begins_in_a_directory_with_other_files() {
    let classifier = Classifier::new();
    let run = classifier.run("mine");
    fs::create_dir(&run).unwrap();
    let config = run.join("config.toml");
    fs::write(&config, "# mine\n").unwrap();
    fails_with(
        &words(&classifier.start(&run)),
        &[
            "mine: not empty: contains config.toml",
            "choose another --output",
        ],
    );
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
    assert_eq!(fs::read_dir(&run).unwrap().count(), 1);
}

#[test]
fn a_dataset_without_boxes_is_refused_before_the_run_exists() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    write_boxes(&data, (64, 64), &[]);
    let (data, run) = (text(&data), text(&dir.path().join("run")));
    let train = ["train", "--dataset", &data, "--output", &run];
    fails_with(
        &train,
        &["train has 4 images, none with a box", "sedet data check"],
    );
    assert!(!Path::new(&run).exists());
}

#[test]
fn the_weights_of_a_detector_keep_everything_but_the_prediction_layers() {
    let scenes = Scenes::with_images(4, 2);
    let data = scenes.dir.path().join("data");
    for split in ["train", "val"] {
        let path = data.join(format!("annotations/instances_{split}2017.json"));
        let annotations = fs::read_to_string(&path).unwrap();
        fs::write(&path, annotations.replace("\"ball\"", "\"globe\"")).unwrap();
    }
    let run = scenes.dir.path().join("run");
    let train = format!(
        "train --dataset {} --weights {SHIPPED} --output {} --epochs 1 --device cpu",
        data.display(),
        run.display()
    );
    let console = stderr(&succeeds(&split(&train)));
    for part in [
        "recipe     fine-tune, the default for the weights of a detector",
        "model      se-resnet18 (width 0.25) FPN",
        "input      short side 160 px, long side at most 256 px",
        "anchors    16, 32, 64, 128, 256 px",
        "158 tensors loaded",
    ] {
        assert!(console.contains(part), "{part}: {console}");
    }
    let random = console
        .lines()
        .find(|line| line.contains("randomly initialized"))
        .unwrap();
    assert_eq!(random.matches("box_head.").count(), 4, "{random}");
    assert!(
        !random.contains("fpn") && !random.contains("rpn"),
        "{random}"
    );
    // The block is also in the log, and the network that was trained in the configuration.
    let log = fs::read_to_string(run.join("log.txt")).unwrap();
    let begins = |label: &str| {
        console
            .lines()
            .find(|line| line.starts_with(label))
            .unwrap()
    };
    for label in ["task ", "dataset ", "recipe ", "memory "] {
        assert!(log.contains(begins(label)), "{label}: {log}");
    }
    assert!(log.contains("\nepoch 1/1 "), "{log}");
    assert!(log.contains("AP50"), "{log}");
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    for part in [
        "backbone = \"se-resnet18\"",
        "sizes = [16.0, 32.0, 64.0, 128.0, 256.0]",
        "min_size = 160",
    ] {
        assert!(config.contains(part), "{part}: {config}");
    }
}

#[test]
fn a_recipe_with_other_sizes_than_the_weights_is_named_with_the_one_that_keeps_them() {
    let scenes = Scenes::with_images(2, 1);
    let data = text(&scenes.dir.path().join("data"));
    let shown = succeeds(&split("config show small"));
    let recipe = String::from_utf8(shown.stdout).unwrap();
    let narrow = recipe.replace("channels = 48", "channels = 32");
    assert_ne!(narrow, recipe);
    let file = text(&scenes.dir.path().join("narrow.toml"));
    fs::write(&file, narrow).unwrap();
    let run = text(&scenes.dir.path().join("run"));
    let train = format!(
        "-q train --dataset {data} --weights {SHIPPED} --config {file} --output {run} --epochs 1 --device cpu \
         --set input.min_size=96 --set input.max_size=128 --set model.width=0.5"
    );
    let done = succeeds(&split(&train));
    let console = stderr(&done);
    let lost: Vec<&str> = console
        .lines()
        .filter(|line| line.contains("the network has other sizes there"))
        .collect();
    let [lost] = lost.as_slice() else {
        panic!("{console}");
    };
    for part in [
        "FPN: ",
        "RPN: ",
        &format!("the recipe {file}; the recipe fine-tune keeps those of the weights"),
    ] {
        assert!(lost.contains(part), "{lost}");
    }
    let width = "warning: the setting model.width=0.5 has no effect: the value is 0.25, that of the weights";
    assert!(console.lines().any(|line| line == width), "{console}");
    let is_warning = |line: &str| line.starts_with("warning: ");
    assert!(console.lines().all(is_warning), "{console}");
    // Without messages the result is one line for programs.
    let output = String::from_utf8(done.stdout).unwrap();
    assert_eq!(output.lines().count(), 1, "{output}");
    let result: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(result["run"], run);
    assert!(result["metrics"]["AP50"].is_number(), "{output}");
}

#[test]
fn a_backbone_that_a_setting_names_is_trained_with_weights_too() {
    let scenes = Scenes::with_images(2, 1);
    let data = text(&scenes.dir.path().join("data"));
    let run = text(&scenes.dir.path().join("run"));
    let train = format!(
        "train --dataset {data} --weights {SHIPPED} --output {run} --epochs 1 --device cpu --set input.max_size=96 \
         --set model.backbone=resnet18"
    );
    let console = stderr(&succeeds(&split(&train)));
    for part in [
        "model      resnet18 (width 0.25) FPN",
        "input.min_size is 96 as input.max_size",
    ] {
        assert!(console.contains(part), "{part}: {console}");
    }
}

#[test]
fn the_recipe_for_own_images_fits_wide_images_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("strips");
    write_boxes(
        &data,
        (640, 64),
        &[[20.0, 10.0, 150.0, 24.0], [300.0, 30.0, 200.0, 20.0]],
    );
    let run = dir.path().join("run");
    let train = format!(
        "train --dataset {} --output {} --epochs 2 --device cpu --set model.width=0.0625",
        data.display(),
        run.display()
    );
    let console = stderr(&succeeds(&split(&train)));
    let words: Vec<&str> = console.split_whitespace().collect();
    assert!(
        words.join(" ").contains(
            "small, the default for own images; input size and anchors fitted to the boxes"
        ),
        "{console}"
    );
    let is_of_block = |line: &&str| line.contains("fitted to") || line.starts_with("anchors ");
    for line in console.lines().filter(is_of_block) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let epochs: Vec<&str> = console
        .lines()
        .filter(|line| line.starts_with("epoch 1/2 ") || line.starts_with("epoch 2/2 "))
        .collect();
    assert_eq!(epochs.len(), 2, "one line an epoch: {console}");
    for line in epochs {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let log = fs::read_to_string(run.join("log.txt")).unwrap();
    let mut logged = log.lines().filter(|line| line.starts_with("epoch 1/2 "));
    assert!(
        logged.any(|line| line.contains("  lr ") && line.contains(" images/s  ")),
        "{log}"
    );
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(!config.contains("sizes = [16.0, 32.0, 64.0"), "{config}");
    let first = console.lines().next().unwrap();
    assert!(first.contains(": detection dataset, COCO"), "{first}");
    // With a named recipe nothing is fitted.
    let named = dir.path().join("named");
    let train = format!(
        "train --dataset {} --output {} --config small --epochs 1 --device cpu --set model.width=0.0625",
        data.display(),
        named.display()
    );
    let console = stderr(&succeeds(&split(&train)));
    assert!(console.contains("small, as requested"), "{console}");
    assert!(console.contains("warning: anchor recall"), "{console}");
}

#[test]
fn a_checkpoint_for_another_task_is_refused_before_the_dataset_is_generated() {
    let classifier = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/layouts/timm_seresnet.pt"
    );
    let begun = std::time::Instant::now();
    let eval = ["eval", "--checkpoint", classifier, "--dataset", "shapes"];
    fails_with(&eval, &["a classifier, but a detector is required"]);
    // Opening the dataset takes longer than reading the file.
    assert!(begun.elapsed().as_secs() < 10);
}

#[test]
fn a_frozen_backbone_without_weights_is_refused() {
    let scenes = Scenes::with_images(2, 1);
    let run = scenes.dir.path().join("run");
    let train = format!(
        "train --dataset {} --weights {SHIPPED} --output {} --backbone mobilenet-v1 --device cpu",
        scenes.dir.path().join("data").display(),
        run.display()
    );
    fails_with(
        &words(&split(&train)),
        &["not the weights of mobilenet-v1", "omit --backbone"],
    );
    // What fits, the heads of the detector, is not enough for frozen norms.
    let partly = format!("{train} --allow-unused");
    fails_with(
        &words(&split(&partly)),
        &["none of its tensors fits the backbone", "omit --backbone"],
    );
    assert!(!run.exists());
}
