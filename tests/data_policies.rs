//! Images that cannot be used, in every command that reads a dataset; divisions with few boxes; lists of datasets.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::command::{fails_with, is_wrong_usage, sedet, text};
use sedet::annotations::format::DatasetFiles;

/// A JPEG of noise, whose second half can be cut off.
fn write_image(path: &Path, seed: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixel = |x: u32, y: u32| {
        let value = (x * 31 + y * 17 + seed * 101).wrapping_mul(2_654_435_761);
        image::Rgb([value as u8, (value >> 8) as u8, (value >> 16) as u8])
    };
    image::RgbImage::from_fn(64, 48, pixel).save(path).unwrap();
}

/// Annotations of images `0.jpg` ... with a box each where `boxes` contains their number.
fn coco(images: u64, boxes: &[u64]) -> Value {
    let images = (0..images).map(
        |id| json!({"id": id + 1, "file_name": format!("{id}.jpg"), "width": 64, "height": 48}),
    );
    let boxes = boxes.iter().map(
        |id| json!({"id": id + 1, "image_id": id + 1, "category_id": 1, "bbox": [9, 9, 20, 20], "area": 400, "iscrowd": 0}),
    );
    json!({
        "images": images.collect::<Vec<_>>(),
        "annotations": boxes.collect::<Vec<_>>(),
        "categories": [{"id": 1, "name": "cat"}],
    })
}

/// Writes a COCO dataset of some images.
fn write_coco(root: &Path, images: u64, boxes: &[u64]) {
    for id in 0..images {
        write_image(&root.join(format!("images/{id}.jpg")), id as u32);
    }
    fs::write(
        root.join("annotations.json"),
        coco(images, boxes).to_string(),
    )
    .unwrap();
}

/// Writes six images with a box each in a format, and returns the path of image 2.
fn write_dataset(root: &Path, format: &str) -> PathBuf {
    let images = match format {
        "coco" => root.join("images"),
        "yolo" => root.join("images/train"),
        _ => root.to_owned(),
    };
    for number in 0..6 {
        let path = images.join(format!("{number}.jpg"));
        write_image(&path, number);
        match format {
            "voc" => {
                let xml = format!(
                    "<annotation><filename>{number}.jpg</filename><size><width>64</width><height>48</height></size>\
                     <object><name>cat</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>29</xmax><ymax>29</ymax></bndbox>\
                     </object></annotation>"
                );
                fs::write(path.with_extension("xml"), xml).unwrap();
            }
            "yolo" => {
                let labels = root.join(format!("labels/train/{number}.txt"));
                fs::create_dir_all(labels.parent().unwrap()).unwrap();
                fs::write(labels, "0 0.4 0.4 0.3 0.3\n").unwrap();
            }
            _ => {}
        }
    }
    match format {
        "coco" => fs::write(
            root.join("annotations.json"),
            coco(6, &[0, 1, 2, 3, 4, 5]).to_string(),
        )
        .unwrap(),
        "yolo" => {
            let yaml = "train: images/train\nnames: [cat]\n";
            fs::write(root.join("data.yaml"), yaml).unwrap();
        }
        "csv" => {
            let rows = (0..6).map(|number| format!("{number}.jpg,64,48,cat,9,9,29,29\n"));
            let head = "filename,width,height,class,xmin,ymin,xmax,ymax\n".to_owned();
            let rows = head + &rows.collect::<String>();
            fs::write(root.join("_annotations.csv"), rows).unwrap();
        }
        _ => {}
    }
    images.join("2.jpg")
}

fn stderr_of(arguments: &[&str]) -> String {
    let output = sedet(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    stderr
}

#[test]
fn every_command_stops_at_the_images_that_it_would_skip() {
    for format in ["coco", "yolo", "voc", "csv"] {
        for damage in ["truncated", "empty", "missing"] {
            // A YOLO directory lists its images by their files.
            if (format, damage) == ("yolo", "missing") {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let source = dir.path().join("source");
            let damaged = write_dataset(&source, format);
            match damage {
                "truncated" => {
                    let bytes = fs::read(&damaged).unwrap();
                    fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
                }
                "empty" => fs::write(&damaged, "").unwrap(),
                _ => fs::remove_file(&damaged).unwrap(),
            }
            let (source, damaged) = (text(&source), text(&damaged));
            let at = |name: &str| text(&dir.path().join(name));
            let to = if format == "coco" { "yolo" } else { "coco" };
            let (converted, parts, shown) = (at("converted"), at("parts"), at("shown"));
            let advice = match damage {
                "missing" => "hint: put the file there, or skip such images",
                _ => "hint: replace the file, or skip such images",
            };
            let small = ["--set", "input.min_size=48", "--set", "input.max_size=64"];
            let show = ["data", "show", &source, "--output", &shown];
            let show = [&show[..], &small].concat();
            let stats = [
                &["data", "stats", &source][..],
                &["--on-bad-image", "error"],
            ]
            .concat();
            for command in [
                &[
                    "data", "convert", &source, "--to", to, "--output", &converted,
                ][..],
                &["data", "split", &source, "--output", &parts],
                &show,
                &stats,
            ] {
                fails_with(command, &[&damaged, advice, "--on-bad-image skip"]);
                let skip: Vec<&str> = match command.split_last() {
                    Some((&"error", before)) => [before, &["skip"]].concat(),
                    _ => [command, &["--on-bad-image", "skip"]].concat(),
                };
                let stderr = stderr_of(&skip);
                assert_eq!(
                    stderr.matches("skipped").count(),
                    1,
                    "{format}, {damage}: {stderr}"
                );
                assert!(!stderr.contains("os error"), "{stderr}");
            }
            for written in [converted, parts] {
                let read = DatasetFiles::find(Path::new(&written)).unwrap();
                let read = read.read().unwrap();
                let images = read.splits.iter().map(|split| split.store.image_count());
                assert_eq!(images.sum::<usize>(), 5, "{format}, {damage}: {written}");
            }
        }
    }
}

#[test]
fn held_out_images_are_drawn_from_those_that_can_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let run = text(&dir.path().join("run"));
    let train = |source: &Path, expected: &str| {
        // The check of the memory is the last before training.
        let done = sedet(&[
            "train",
            "--dataset",
            &text(source),
            "--output",
            &run,
            "--on-bad-image",
            "skip",
            "--device",
            "cpu",
            "--batch-size",
            "100000000",
        ]);
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(stderr.contains(expected), "{expected}: {stderr}");
        fs::remove_dir_all(&run).ok();
        stderr
    };
    let noted = " of 6 images that cannot be used: ";
    let damage = |source: &Path, image: usize| {
        fs::write(source.join(format!("images/{image}.jpg")), "").unwrap();
    };
    let mut held = Vec::new();
    for damaged in 0..6 {
        let source = dir.path().join(format!("source-{damaged}"));
        write_coco(&source, 6, &[0, 1, 2, 3, 4, 5]);
        damage(&source, damaged);
        let stderr = train(&source, "GB are free");
        if stderr.contains(noted) {
            held.push(damaged);
        }
    }
    // The one that would be held out is replaced. Two others are left, one for each side; then one; then none.
    let [held] = held[..] else {
        panic!("{held:?}");
    };
    let source = dir.path().join("two");
    write_coco(&source, 6, &[0, 1, 2, 3, 4, 5]);
    damage(&source, held);
    let mut others = (0..6).filter(|image| *image != held);
    let left = [others.next().unwrap(), others.next().unwrap()];
    others.for_each(|image| damage(&source, image));
    let stderr = train(&source, "GB are free");
    assert!(stderr.contains(noted), "{stderr}");
    damage(&source, left[0]);
    let stderr = train(&source, "one image cannot be split into train and val");
    assert!(
        stderr.contains("skipped 5 of 6 images that cannot be used: "),
        "{stderr}"
    );
    damage(&source, left[1]);
    train(&source, "no image is left: none of 6 images can be used");
    assert!(!Path::new(&run).exists());
}

#[test]
fn a_split_names_the_classes_that_are_not_trained() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("data"), text(&dir.path().join("out")));
    // Two images of which each has a class of its own.
    write_coco(&root, 2, &[0, 1]);
    let mut annotations = coco(2, &[0, 1]);
    annotations["categories"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({"id": 77, "name": "bicycle"}));
    annotations["annotations"][1]["category_id"] = 77.into();
    fs::write(root.join("annotations.json"), annotations.to_string()).unwrap();
    let stderr = stderr_of(&[
        "data",
        "split",
        &text(&root),
        "--val",
        "0.5",
        "--output",
        &out,
    ]);
    let named = ["cat", "bicycle"].iter().any(|name| {
        stderr.contains(&format!(
            "train has no image of {name}, so that a detector cannot learn it"
        ))
    });
    assert!(named, "{stderr}");
}

#[test]
fn shown_images_are_counted_apart_from_other_files_and_take_no_settings_without_effect() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("data"), dir.path().join("out"));
    write_coco(&root, 4, &[0, 1, 2, 3]);
    let (root, output) = (text(&root), text(&out));
    let show = ["data", "show", &root, "--output", &output];
    assert!(!stderr_of(&show).contains("not written by this command"));
    let again = stderr_of(&[&show[..], &["--count", "1", "--image-format", "svg"]].concat());
    assert!(
        again.contains("files in") && again.contains("not written by this command and remain"),
        "{again}"
    );
    for setting in ["train.epochs=3", "model.backbone=resnet50"] {
        is_wrong_usage(
            &[&show[..], &["--set", setting]].concat(),
            &[&format!("--set {setting} has no effect"), "omit --set"],
        );
    }
    stderr_of(
        &[
            &show[..],
            &["--set", "train.seed=3", "--set", "augment.vertical_flip=1"],
        ]
        .concat(),
    );
}

#[test]
fn mistakes_in_paths_and_names_have_hints() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("data"), text(&dir.path().join("out")));
    write_coco(&root, 4, &[0, 1, 2, 3]);
    let nowhere = text(&dir.path().join("nowhere/photos"));
    let empty = dir.path().join("empty.json");
    fs::write(&empty, r#"{"images":[],"annotations":[],"categories":[]}"#).unwrap();
    let results = dir.path().join("results.json");
    fs::write(&results, "[]").unwrap();
    let yolo = dir.path().join("yolo");
    fs::create_dir_all(yolo.join("images/train")).unwrap();
    fs::create_dir_all(yolo.join("labels/train")).unwrap();
    fs::write(
        yolo.join("data.yaml"),
        "train: images/train\nnames: [cat]\n",
    )
    .unwrap();
    let (root, empty, yolo) = (text(&root), text(&empty), text(&yolo));
    fails_with(
        &["data", "stats", &nowhere],
        &[
            "no such file or directory",
            "hint: give an existing directory",
        ],
    );
    fails_with(
        &["data", "convert", &root, "--to", "coco", "--output", &out],
        &["already in the format COCO", "hint: choose another --to"],
    );
    fails_with(
        &["data", "check", &root, "--split", "val"],
        &["no val annotations", "hint: use --split train"],
    );
    fails_with(
        &["data", "stats", &yolo],
        &[
            "no images in the train split",
            "hint: put the images into these directories",
        ],
    );
    for command in [
        &["data", "stats", &empty][..],
        &[
            "eval",
            "--results",
            &text(&results),
            "--annotations",
            &empty,
        ],
    ] {
        fails_with(
            command,
            &["lists no images", "hint: export the annotations again"],
        );
    }
    let checked = sedet(&["data", "check", &empty]);
    assert!(String::from_utf8_lossy(&checked.stdout).contains("empty.json: lists no images"));
}

#[test]
fn unusable_images_of_a_val_split_are_named_before_training_with_a_division_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let (source, run) = (dir.path().join("source"), text(&dir.path().join("run")));
    write_coco(&source.join("train"), 4, &[0, 1, 2, 3]);
    write_coco(&source.join("val"), 1, &[0]);
    fs::write(source.join("val/images/0.jpg"), "").unwrap();
    let source = text(&source);
    fails_with(
        &[
            "train",
            "--dataset",
            &source,
            "--output",
            &run,
            "--on-bad-image",
            "skip",
            "--device",
            "cpu",
        ],
        &[
            "no image of val can be used: the only one with boxes is skipped",
            &format!("sedet data split {source} --on-bad-image skip --output NEW"),
        ],
    );
    assert!(!Path::new(&run).exists());
}

#[test]
fn a_classifier_holds_out_images_that_can_be_used_and_fails_before_training_without_any() {
    let dir = tempfile::tempdir().unwrap();
    let (root, run) = (dir.path().join("classes"), text(&dir.path().join("run")));
    for (class, at) in (0..2).flat_map(|class| (0..4).map(move |at| (class, at))) {
        let directory = root.join(format!("c{class}"));
        fs::create_dir_all(&directory).unwrap();
        let image = image::RgbImage::from_fn(32, 32, |x, y| {
            image::Rgb([(x * 7 + class * 90) as u8, (y * 5) as u8, (at * 60) as u8])
        });
        image.save(directory.join(format!("{at}.png"))).unwrap();
    }
    let train = |root: &Path| {
        let done = sedet(&[
            "train",
            "--dataset",
            &text(root),
            "--output",
            &run,
            "--on-bad-image",
            "skip",
            "--device",
            "cpu",
            "--batch-size",
            "100000000",
        ]);
        fs::remove_dir_all(&run).ok();
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    let before = train(&root);
    assert!(before.contains("2 of 8 images held out"), "{before}");
    for at in 0..3 {
        fs::write(root.join(format!("c0/{at}.png")), "").unwrap();
    }
    let after = train(&root);
    assert!(after.contains("that cannot be used: c0/"), "{after}");
    assert!(!after.contains("no image of"), "{after}");
    // A validation split of its own, of which no image can be used.
    let split = dir.path().join("split");
    for part in ["train", "val"] {
        for class in ["c0", "c1"] {
            fs::create_dir_all(split.join(part).join(class)).unwrap();
            let to = split.join(part).join(class).join("3.png");
            fs::copy(root.join(class).join("3.png"), to).unwrap();
        }
    }
    for class in ["c0", "c1"] {
        fs::write(split.join("val").join(class).join("3.png"), "").unwrap();
    }
    let refused = train(&split);
    let expected = "no image of val can be used: all 2 are skipped, the first because of: ";
    assert!(refused.contains(expected), "{refused}");
    assert!(
        refused.contains("hint: replace the images of this split"),
        "{refused}"
    );
}

#[test]
fn images_of_another_size_than_annotated_are_the_cause_of_a_run_without_images() {
    let dir = tempfile::tempdir().unwrap();
    let (root, run) = (dir.path().join("data"), text(&dir.path().join("run")));
    write_coco(&root, 4, &[0, 1, 2, 3]);
    let annotations = coco(4, &[0, 1, 2, 3]).to_string();
    let annotations = annotations.replace("\"width\":64", "\"width\":80");
    fs::write(root.join("annotations.json"), annotations).unwrap();
    let train = ["train", "--dataset", &text(&root), "--output", &run];
    fails_with(
        &[&train[..], &["--on-bad-image", "skip", "--device", "cpu"]].concat(),
        &[
            "no image is left: none of 4 images can be used (",
            "its annotations are for 80x48",
            "hint: ",
        ],
    );
    assert!(!Path::new(&run).exists());
}

#[test]
fn gates_are_measured_without_the_images_that_cannot_be_used_on_request() {
    const DETECTOR: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/shapes-se-resnet18.safetensors"
    );
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("data"), text(&dir.path().join("out")));
    write_coco(&root, 4, &[0, 1, 2, 3]);
    let annotations = coco(4, &[0, 1, 2, 3]).to_string();
    let annotations = annotations.replace("\"cat\"", "\"sphere\"");
    fs::write(root.join("annotations.json"), annotations).unwrap();
    let bad = root.join("images/2.jpg");
    fs::write(&bad, "").unwrap();
    let root = text(&root);
    let excite = [
        "excite",
        "--checkpoint",
        DETECTOR,
        "--dataset",
        &root,
        "--split",
        "train",
        "--output",
        &out,
    ];
    // The held-out image may be the bad one: both splits are measured.
    let mut skipped = 0;
    for split in ["train", "val"] {
        let excite = excite.map(|word| if word == "train" { split } else { word });
        let stopped = sedet(&excite);
        let stderr = String::from_utf8_lossy(&stopped.stderr).into_owned();
        if stopped.status.success() {
            continue;
        }
        assert!(
            stderr.contains("2.jpg") && stderr.contains("`excite`"),
            "{stderr}"
        );
        let skip = [&excite[..], &["--on-bad-image", "skip", "--json"]].concat();
        if split == "val" {
            fails_with(&skip, &["no image is left: none of 1 image can be used"]);
        } else {
            let output = sedet(&skip);
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(stderr.contains("skipped: 1 unreadable image"), "{stderr}");
            let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(summary["images"], 2, "{summary}");
        }
        skipped += 1;
    }
    assert_eq!(skipped, 1);
    is_wrong_usage(
        &[
            "excite",
            "--checkpoint",
            DETECTOR,
            "--dataset",
            "shapes",
            "--output",
            &out,
            "--on-bad-image",
            "skip",
        ],
        &["--on-bad-image has no effect: shapes is generated"],
    );
}

#[test]
fn images_that_are_skipped_for_several_reasons_are_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    write_coco(&source, 6, &[0, 1, 2, 3, 4, 5]);
    // One has no size in the annotations and none in its file, and the pixels of another are cut off.
    let mut annotations = coco(6, &[0, 1, 2, 3, 4, 5]);
    let image = annotations["images"][1].as_object_mut().unwrap();
    image.remove("width");
    image.remove("height");
    fs::write(source.join("annotations.json"), annotations.to_string()).unwrap();
    fs::write(source.join("images/1.jpg"), "").unwrap();
    let cut = source.join("images/4.jpg");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let (source, out) = (text(&source), text(&dir.path().join("out")));
    let convert = ["data", "convert", &source, "--to", "voc", "--output", &out];
    let stderr = stderr_of(&[&convert[..], &["--on-bad-image", "skip"]].concat());
    let skipped: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains("skipped"))
        .collect();
    assert_eq!(skipped.len(), 1, "{stderr}");
    assert!(
        skipped[0].contains("skipped 2 of 6 images that cannot be used: 1.jpg, 4.jpg"),
        "{stderr}"
    );
}

#[test]
fn a_policy_on_images_of_generated_scenes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = text(&dir.path().join("out"));
    for command in [
        &["data", "stats", "shapes"][..],
        &["data", "show", "shapes", "--output", &out],
    ] {
        is_wrong_usage(
            &[command, &["--on-bad-image", "skip"]].concat(),
            &["--on-bad-image has no effect: shapes is generated"],
        );
    }
}

#[test]
fn a_division_of_few_boxes_trains_first_and_says_what_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    write_coco(&dir.path().join("two"), 3, &[0, 1]);
    write_coco(&dir.path().join("one"), 3, &[1]);
    let boxes = |output: &str| -> Vec<usize> {
        let read = DatasetFiles::find(Path::new(output))
            .unwrap()
            .read()
            .unwrap();
        let splits = read.splits.iter();
        splits.map(|split| split.store.annotation_count()).collect()
    };
    for (at_seed, seed) in ["0", "1", "2", "3"].into_iter().enumerate() {
        let out = at(&format!("two-{at_seed}"));
        let two = at("two");
        let split = ["data", "split", &two, "--seed", seed, "--output", &out];
        let stderr = stderr_of(&split);
        assert!(!stderr.contains("no image with boxes"), "{stderr}");
        assert_eq!(boxes(&out), [1, 1], "{seed}");
        let out = at(&format!("one-{at_seed}"));
        let one = at("one");
        let split = ["data", "split", &one, "--val", "0.7", "--seed", seed];
        let stderr = stderr_of(&[&split[..], &["--output", &out]].concat());
        let note =
            "val has no image with boxes and cannot be evaluated: only 1 image has boxes of 3";
        assert!(stderr.contains(note), "{stderr}");
        assert!(stderr.contains("hint: annotate more images"), "{stderr}");
        assert!(!stderr.contains("next: "), "{stderr}");
        assert_eq!(boxes(&out), [1, 0], "{seed}");
    }
    // Without val, training would have to hold out some of train.
    let (one, out) = (at("one"), at("whole"));
    let stderr = stderr_of(&["data", "split", &one, "--val", "0", "--output", &out]);
    for part in [
        "training cannot hold out validation images: only 1.jpg of 3 images has boxes",
        "hint: annotate more images",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert!(!stderr.contains("next: "), "{stderr}");
    let (two, out) = (at("two"), at("none"));
    is_wrong_usage(
        &[
            "data", "split", &two, "--val", "0", "--seed", "1", "--output", &out,
        ],
        &["--seed has no effect", "hint: omit --seed"],
    );
}

#[test]
fn two_equal_images_are_judged_alike_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("twins");
    write_coco(&root, 2, &[0, 1]);
    fs::copy(root.join("images/0.jpg"), root.join("images/1.jpg")).unwrap();
    let (root, out) = (text(&root), text(&dir.path().join("out")));
    let checked = sedet(&["data", "check", &root]);
    let shown = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{shown}");
    assert!(shown.contains("[held-out-copies]"), "{shown}");
    let split = stderr_of(&["data", "split", &root, "--output", &out]);
    // A check of the result would report the leak.
    assert!(split.contains("hint: add other images"), "{split}");
    assert!(!split.contains("next: "), "{split}");
    let whole = text(&dir.path().join("whole"));
    let whole = stderr_of(&["data", "split", &root, "--val", "0", "--output", &whole]);
    assert!(
        whole.contains("next: ") && !whole.contains("different splits"),
        "{whole}"
    );
    for said in [shown.replace('\n', " "), split] {
        let words: Vec<&str> = said.split_whitespace().collect();
        assert!(
            words
                .join(" ")
                .contains("the metrics will be those of training images"),
            "{said}"
        );
    }
}

#[test]
fn a_list_is_checked_as_training_joins_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    write_coco(&dir.path().join("a"), 4, &[0, 1, 2, 3]);
    write_coco(&dir.path().join("b"), 4, &[0, 1]);
    let list = format!("{},{}", at("a"), at("b"));
    let checked = sedet(&["data", "check", &list]);
    let shown = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{shown}");
    for part in [
        format!("{}:", at("a")),
        format!("{}:", at("b")),
        "together: ".into(),
        "ready for training".into(),
    ] {
        assert!(shown.contains(&part), "{part}: {shown}");
    }
    let json = sedet(&["data", "check", &list, "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["parts"].as_array().unwrap().len(), 2);
    let images = |split: &str| json["together"][split].as_u64().unwrap();
    assert_eq!(images("train_images") + images("val_images"), 8);
    // Two files on images of one directory: those of the other are no images that nobody lists.
    let halves = ["a/train.json", "a/val.json"];
    for (name, ids) in halves.iter().zip([[1, 2], [3, 4]]) {
        let mut half = coco(4, &[0, 1, 2, 3]);
        let of_half = |entry: &Value, key: &str| ids.iter().any(|id| entry[key] == json!(id));
        for (list, key) in [("images", "id"), ("annotations", "image_id")] {
            let entries = half[list].as_array_mut().unwrap();
            entries.retain(|entry| of_half(entry, key));
        }
        fs::write(dir.path().join(name), half.to_string()).unwrap();
    }
    let files = halves.map(at).join(",");
    let checked = sedet(&["data", "check", &files]);
    let shown = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{shown}");
    assert!(!shown.contains("image-not-listed"), "{shown}");
    // Other class names are no error of either dataset.
    let list = format!("{},{}", at("a/train.json"), at("b"));
    let mut other = coco(4, &[0, 1]);
    other["categories"][0]["name"] = "dog".into();
    fs::write(dir.path().join("b/annotations.json"), other.to_string()).unwrap();
    let checked = sedet(&["data", "check", &list]);
    let shown = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{shown}");
    assert!(
        shown.contains("together: not ready for training"),
        "{shown}"
    );
    let (fixed, out) = (at("fixed.json"), at("out"));
    is_wrong_usage(
        &["data", "check", &list, "--fix", &fixed],
        &["--fix applies to one dataset", "on its own"],
    );
    fails_with(
        &["data", "split", &list, "--output", &out],
        &["several datasets", "sedet train --dataset"],
    );
}

#[cfg(unix)]
#[test]
fn a_backslash_in_the_name_of_a_file_stays_one() {
    for format in ["coco", "yolo", "voc", "csv"] {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        let image = write_dataset(&source, format);
        let renamed = |path: &Path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            fs::rename(path, path.with_file_name(format!("d\\{name}"))).unwrap();
        };
        renamed(&image);
        let replaced = |file: &str| {
            let path = source.join(file);
            let text = fs::read_to_string(&path).unwrap();
            let name = if format == "coco" {
                "d\\\\2.jpg"
            } else {
                "d\\2.jpg"
            };
            fs::write(&path, text.replace("2.jpg", name)).unwrap();
        };
        match format {
            "coco" => replaced("annotations.json"),
            "yolo" => renamed(&source.join("labels/train/2.txt")),
            "voc" => {
                replaced("2.xml");
                renamed(&source.join("2.xml"));
            }
            _ => replaced("_annotations.csv"),
        }
        let source = text(&source);
        let checked = sedet(&["data", "check", &source]);
        let shown = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{format}: {shown}");
        for to in ["coco", "yolo", "voc", "csv"] {
            if to == format {
                continue;
            }
            let out = text(&dir.path().join(to));
            stderr_of(&["data", "convert", &source, "--to", to, "--output", &out]);
            let read = DatasetFiles::find(Path::new(&out)).unwrap().read().unwrap();
            let store = &read.splits[0].store;
            let of_all = (store.image_count(), store.annotation_count());
            assert_eq!(of_all, (6, 6), "{format} to {to}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn links_that_become_copies_are_counted() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    write_coco(&source, 3, &[0, 1, 2]);
    let (source, out) = (text(&source), text(&dir.path().join("linked")));
    let convert = |out: &str| {
        let convert = ["data", "convert", &source, "--to", "yolo"];
        stderr_of(&[&convert[..], &["--images", "link", "--output", out]].concat())
    };
    let stderr = convert(&out);
    assert!(!stderr.contains("copied"), "{stderr}");
    // A file system in memory, which is another one than that of temporary files on most systems.
    let memory = Path::new("/dev/shm");
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    let is_another = device(memory).is_some_and(|found| Some(found) != device(dir.path()));
    if let (true, Ok(elsewhere)) = (is_another, tempfile::tempdir_in(memory)) {
        let stderr = convert(&text(&elsewhere.path().join("copied")));
        let said = "--images link: 3 images copied";
        assert!(stderr.contains(said), "{stderr}");
    }
}
