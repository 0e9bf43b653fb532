//! `sedet eval`: which options belong together, results files with wrong entries, and classes in another order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::command::{fails_with, is_wrong_usage, sedet, text};
use crate::common::runs::{Scenes, stderr};

const DETECTOR: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/assets/shapes-se-resnet18.safetensors"
);

/// Writes two images with an object of each of two classes, and returns the file.
fn write_ground_truth(directory: &Path) -> String {
    let path = directory.join("truth.json");
    let object = |id: u64, x: f64| json!({"id": id, "image_id": id, "category_id": id, "bbox": [x, 10, 20, 20], "area": 400, "iscrowd": 0});
    let image =
        |id: u64| json!({"id": id, "file_name": format!("{id}.jpg"), "width": 100, "height": 80});
    let truth = json!({
        "images": [image(1), image(2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [object(1, 10.0), object(2, 30.0)],
    });
    fs::write(&path, truth.to_string()).unwrap();
    text(&path)
}

#[test]
fn options_that_lack_another_or_have_no_effect_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let truth = write_ground_truth(dir.path());
    let results = text(&dir.path().join("results.json"));
    fs::write(&results, "[]").unwrap();
    let file = ["--results", &results, "--annotations", &truth];
    let cases: [(&[&str], &str); 8] = [
        (&[], "nothing to evaluate is given"),
        (&["--bootstrap", "200"], "nothing to evaluate is given"),
        (&["--results", &results], "--results requires --annotations"),
        (
            &["--annotations", &truth],
            "--annotations requires --results",
        ),
        (
            &["--checkpoint", DETECTOR],
            "--checkpoint requires --dataset",
        ),
        (&["--dataset", "shapes"], "--dataset requires --checkpoint"),
        (
            &["--results", &results, "--dataset", "shapes"],
            "--dataset and --results cannot be used together",
        ),
        (
            &[
                "--checkpoint",
                DETECTOR,
                "--dataset",
                "shapes",
                "--annotations",
                &truth,
            ],
            "--checkpoint and --annotations cannot be used together",
        ),
    ];
    for (options, part) in cases {
        is_wrong_usage(&[&["eval"], options].concat(), &[part, "hint: for "]);
    }
    let without_effect: [&[&str]; 7] = [
        &["--split", "train"],
        &["--device", "cpu"],
        &["--ten-crop"],
        &["--batch-size", "4"],
        &["--on-bad-image", "skip"],
        &["--data-dir", "data"],
        &["--strict"],
    ];
    for options in without_effect {
        is_wrong_usage(
            &[&["eval"], &file[..], options].concat(),
            &[options[0], "hint: "],
        );
    }
}

#[test]
fn wrong_entries_of_a_results_file_are_named_with_their_position_and_value() {
    let dir = tempfile::tempdir().unwrap();
    let truth = write_ground_truth(dir.path());
    let results = dir.path().join("results.json");
    let good = r#"{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}"#;
    let with = |entry: &str| fs::write(&results, format!("[{good}, {entry}]")).unwrap();
    let path = text(&results);
    let eval = ["eval", "--results", &path, "--annotations", &truth];
    for (entry, part) in [
        (
            r#"{"image_id": 2, "category_id": 2, "bbox": [30, 10, 20, 20], "score": NaN}"#,
            "row 1 (the first is 0): score NaN (image_id 2): scores must be finite",
        ),
        (
            r#"{"image_id": -2, "category_id": 2, "bbox": [30, 10, 20, 20], "score": 0.5}"#,
            "row 1 (the first is 0): image_id: -2 is not a non-negative integer",
        ),
        (
            r#"{"image_id": 9, "category_id": 2, "bbox": [30, 10, 20, 20], "score": 0.5}"#,
            "first: row 1 with image_id 9",
        ),
    ] {
        with(entry);
        fails_with(&eval, &[part]);
    }
    // The last one is about an image; its hint is not repeated with the explanation.
    let unknown_image = stderr(&sedet(&eval));
    let hint = "hint: write the image ids of the annotation file";
    assert_eq!(unknown_image.matches(hint).count(), 1, "{unknown_image}");
    let why = |output: &std::process::Output| stderr(output).matches("why:").count();
    for (entry, part) in [
        (
            r#"{"image_id": 2, "category_id": 7, "bbox": [30, 10, 20, 20], "score": 0.5}"#,
            "dropped 1 of 2 result rows: the ground truth has no such category (first: row 1 with category_id 7",
        ),
        (
            r#"{"image_id": 2, "category_id": 2, "bbox": [50, 30, -20, -20], "score": 0.5}"#,
            "1 of 2 result rows have a negative width or height and match no object (first: row 1 with bbox \
             [50, 30, -20, -20])",
        ),
    ] {
        with(entry);
        let output = sedet(&eval);
        assert_eq!(output.status.code(), Some(0));
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
        assert_eq!(why(&output), 0, "{}", stderr(&output));
    }
    let negative =
        r#"[{"image_id": 1, "category_id": 1, "bbox": [30, 30, -20, -20], "score": 0.9}]"#;
    fs::write(&results, negative).unwrap();
    let output = sedet(&eval);
    assert_eq!(stderr(&output).matches("negative width").count(), 1);
    assert!(
        !stderr(&output).contains("not trained"),
        "{}",
        stderr(&output)
    );
    fs::write(&results, "[]").unwrap();
    let output = sedet(&eval);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("results.json: an empty list"));
    assert_eq!(why(&output), 0, "{}", stderr(&output));
}

/// Returns the metrics of each class by its name.
fn by_class(metrics: &Value) -> BTreeMap<String, [String; 5]> {
    let classes = metrics["per_class"].as_array().unwrap();
    let metrics = classes.iter().map(|class| {
        let keys = ["ground_truths", "detections", "AP", "AP50", "AR100"];
        let name = class["name"].as_str().unwrap().to_owned();
        (name, keys.map(|key| class[key].to_string()))
    });
    metrics.collect()
}

#[test]
fn a_low_ap_of_a_checkpoint_is_not_explained_by_the_formats_of_a_results_file() {
    let scenes = Scenes::with_images(2, 4);
    let data = scenes.dir.path().join("data");
    let path = data.join("annotations/instances_val2017.json");
    let mut document: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for annotation in document["annotations"].as_array_mut().unwrap() {
        annotation["bbox"] = json!([1, 1, 2, 2]);
    }
    fs::write(&path, document.to_string()).unwrap();
    let eval = ["eval", "--checkpoint", DETECTOR, "--dataset", &text(&data)];
    let output = sedet(&[&eval[..], &["--device", "cpu"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let console = stderr(&output);
    let why = console.lines().find(|line| line.starts_with("why: 0 of "));
    assert!(
        why.is_some_and(|line| !line.contains("box format")),
        "{console}"
    );
}

#[test]
fn a_detector_is_evaluated_by_the_names_of_classes_whatever_their_order_and_ids() {
    let scenes = Scenes::with_images(2, 4);
    let data = text(&scenes.dir.path().join("data"));
    let eval = ["eval", "--checkpoint", DETECTOR, "--dataset", &data];
    let eval = [&eval[..], &["--device", "cpu", "--json"]].concat();
    let evaluate = || {
        let output = sedet(&eval);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let metrics: Value = serde_json::from_slice(&output.stdout).unwrap();
        (metrics, stderr(&output))
    };
    let (expected, console) = evaluate();
    assert!(!console.contains("matched by name"), "{console}");
    let change = |change: &dyn Fn(&mut Value)| {
        for split in ["train", "val"] {
            let path = format!("{data}/annotations/instances_{split}2017.json");
            let mut document: Value =
                serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            change(&mut document);
            fs::write(&path, document.to_string()).unwrap();
        }
    };
    change(&|document| {
        let reverse = |id: &mut Value| *id = (100 - id.as_u64().unwrap()).into();
        for category in document["categories"].as_array_mut().unwrap() {
            reverse(&mut category["id"]);
        }
        document["categories"].as_array_mut().unwrap().reverse();
        for annotation in document["annotations"].as_array_mut().unwrap() {
            reverse(&mut annotation["category_id"]);
        }
    });
    let (found, console) = evaluate();
    assert!(
        console.contains("note: classes are matched by name: the dataset has another order"),
        "{console}"
    );
    assert_eq!(by_class(&found), by_class(&expected));
    assert!(expected["AP50"].as_f64().unwrap() > 0.1, "{expected}");
    change(&|document| {
        for category in document["categories"].as_array_mut().unwrap() {
            if category["name"] == "ball" {
                category["name"] = "globe".into();
            }
        }
    });
    fails_with(
        &eval,
        &[
            "trained for other classes than those of the dataset: only in the checkpoint: ball; only in the \
             dataset: globe",
        ],
    );
}

#[test]
fn a_data_directory_is_refused_for_a_dataset_that_is_not_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let photos = dir.path().join("photos");
    fs::create_dir(&photos).unwrap();
    let (photos, data, output) = (text(&photos), text(dir.path()), text(&dir.path().join("o")));
    let with = |start: &[&str], dataset: &str| {
        let mut words: Vec<String> = start.iter().map(ToString::to_string).collect();
        words.extend(["--dataset", dataset, "--data-dir", &data].map(String::from));
        words
    };
    let over = ["--over", "train.epochs=1,2", "--output", &output];
    for start in [
        vec!["train"],
        [&["ablate"], &over[..]].concat(),
        vec!["eval", "--checkpoint", DETECTOR],
        vec!["excite", "--checkpoint", DETECTOR, "--output", &output],
    ] {
        let words = with(&start, &photos);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        is_wrong_usage(
            &words,
            &["--data-dir has no effect", "photos", "omit --data-dir"],
        );
        let words = with(&start, "photos");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        is_wrong_usage(&words, &["photos is not one of them", "give its path: "]);
        let words = with(&start, "shapes");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        is_wrong_usage(&words, &["--data-dir has no effect: shapes is generated"]);
    }
    for command in [
        vec!["check"],
        vec!["stats"],
        vec!["show", "--output", &output],
        vec!["convert", "--to", "yolo", "--output", &output],
        vec!["split", "--output", &output],
    ] {
        for (dataset, part) in [
            (&*photos, "--data-dir has no effect: "),
            ("photos", "photos is not one of them"),
            ("shapes", "--data-dir has no effect: shapes is generated"),
        ] {
            let (name, rest) = command.split_first().unwrap();
            let words = ["data", name, dataset, "--data-dir", &data];
            is_wrong_usage(&[&words, rest].concat(), &[part, "hint: "]);
        }
    }
    assert!(!Path::new(&output).exists());
}

#[cfg(feature = "viewer")]
#[test]
fn options_of_the_viewer_that_need_another_are_refused_before_a_window_opens() {
    let dir = tempfile::tempdir().unwrap();
    let photo = text(&dir.path().join("photo.png"));
    image::RgbImage::new(8, 8).save(&photo).unwrap();
    for (options, parts) in [
        (
            vec!["--split", "train"],
            ["--split requires a dataset", "--dataset DATASET"],
        ),
        (
            vec![&photo, "--data-dir", "data"],
            ["--data-dir requires a dataset", "--dataset DATASET"],
        ),
        (
            vec![&photo, "--results", &photo],
            ["--results requires a dataset", "--dataset DATASET"],
        ),
        (
            vec![&photo, "--compare", DETECTOR],
            ["--compare requires a model", "--checkpoint FILE"],
        ),
        (
            vec!["--dataset", "shapes", "--data-dir", "data"],
            [
                "--data-dir has no effect: shapes is generated",
                "omit --data-dir",
            ],
        ),
        (
            vec!["shapes", "--data-dir", "data"],
            [
                "--data-dir has no effect: shapes is generated",
                "omit --data-dir",
            ],
        ),
        (
            vec![&photo, "--dataset", "shapes"],
            ["--dataset has no effect: ", "photo.png is opened instead"],
        ),
        (
            vec![DETECTOR, "--checkpoint", DETECTOR],
            ["--checkpoint has no effect: ", "to compare both: --compare"],
        ),
    ] {
        is_wrong_usage(&[vec!["view"], options].concat(), &parts);
    }
}

#[test]
fn results_that_are_wrong_in_part_are_explained_and_weak_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let truth = text(&dir.path().join("truth.json"));
    let results = text(&dir.path().join("results.json"));
    let image =
        |id: u64| json!({"id": id, "file_name": format!("{id}.jpg"), "width": 100, "height": 80});
    let bbox = |id: u64| [3 * id + 2, 2 * id + 5, 20 + id, 30 - id];
    let class = |id: u64| 1 + id % 3;
    let objects = (1..=12).map(|id| {
        json!({"id": id, "image_id": id, "category_id": class(id), "bbox": bbox(id), "area": 400, "iscrowd": 0})
    });
    let categories = ["cat", "dog", "owl"].into_iter().zip(1..);
    let document = json!({
        "images": (1..=12).map(image).collect::<Vec<_>>(),
        "categories": categories.map(|(name, id)| json!({"id": id, "name": name})).collect::<Vec<_>>(),
        "annotations": objects.collect::<Vec<_>>(),
    });
    fs::write(&truth, document.to_string()).unwrap();
    let why = |row: &dyn Fn(u64) -> Option<Value>| {
        let rows: Vec<Value> = (1..=12).filter_map(row).collect();
        fs::write(&results, Value::from(rows).to_string()).unwrap();
        let output = sedet(&["eval", "--results", &results, "--annotations", &truth]);
        assert!(output.status.success(), "{output:?}");
        let lines = stderr(&output);
        let is_explanation = |line: &&str| line.starts_with("why: ") || line.starts_with("hint: ");
        let lines = lines.lines().filter(is_explanation);
        lines.map(str::to_owned).collect::<Vec<String>>().join("\n")
    };
    let row = |id: u64, class: u64, bbox: [u64; 4]| {
        Some(
            json!({"image_id": id, "category_id": class, "bbox": bbox, "score": 0.5 + id as f64 / 100.0}),
        )
    };
    // One of three classes is right.
    let swapped = why(&|id| row(id, [1, 3, 2][class(id) as usize - 1], bbox(id)));
    assert!(
        swapped.contains("they are permuted, 2 is 3 (owl), 3 is 2 (dog); converted, AP50 is 1.000"),
        "{swapped}"
    );
    assert!(
        swapped.ends_with("\nhint: write the category ids of the annotation file"),
        "{swapped}"
    );
    let transposed = why(&|id| {
        let [x, y, w, h] = bbox(id);
        row(id, class(id), [y, x, h, w])
    });
    assert!(
        transposed
            .contains("the boxes would fit as [y, x, height, width], not as [x, y, width, height]"),
        "{transposed}"
    );
    assert!(
        transposed.ends_with(
            "\nhint: write boxes as [x, y, width, height] in pixels of the original image"
        ),
        "{transposed}"
    );
    // Of ids from 1 in the place of those of the file, the error claims no other cause.
    let mut shifted = document.clone();
    for (list, key) in [("images", "id"), ("annotations", "image_id")] {
        for entry in shifted[list].as_array_mut().unwrap() {
            entry[key] = json!(500 + 7 * entry[key].as_u64().unwrap());
        }
    }
    let other = text(&dir.path().join("shifted.json"));
    fs::write(&other, shifted.to_string()).unwrap();
    why(&|id| row(id, class(id), bbox(id)));
    let output = sedet(&["eval", "--results", &results, "--annotations", &other]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    for part in [
        "they count the images from 1 in the order of their ids",
        "the results have 12 image ids (1, 2, 3, 4, ...), which look like positions in the list of 12 images",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // A detector that misses most objects of images with one detection each.
    let weak = why(&|id| match id % 4 {
        0 => row(id, class(id), bbox(id)),
        _ => row(id, class(id), [70, 60, 9, 9]),
    });
    assert_eq!(weak, "");
}

#[test]
fn what_is_wrong_with_a_results_file_is_said_whatever_its_score() {
    let dir = tempfile::tempdir().unwrap();
    let truth = text(&dir.path().join("truth.json"));
    // Nearly squares: with width and height exchanged, every object is detected.
    let bbox = |i: u64| {
        let [w, h] = [28.0, 36.0];
        let [x, y] = [(i % 4) as f64 / 3.0, (i % 5) as f64 / 4.0];
        [x * (100.0 - w), y * (80.0 - h), w, h]
    };
    let images: Vec<Value> = (0..40)
        .map(|id| json!({"id": id, "file_name": format!("{id}.jpg"), "width": 100, "height": 80}))
        .collect();
    let objects: Vec<Value> = (0..40)
        .map(|i| {
            json!({"id": i + 1, "image_id": i, "category_id": 1, "bbox": bbox(i), "area": 1008, "iscrowd": 0})
        })
        .collect();
    let file =
        json!({"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]});
    fs::write(&truth, file.to_string()).unwrap();
    let row = |i: u64, [x, y, w, h]: [f64; 4]| json!({"image_id": i, "category_id": 1, "bbox": [x, y, w, h], "score": 0.5});
    let said = |rows: Vec<Value>| {
        let results = dir.path().join("results.json");
        fs::write(&results, json!(rows).to_string()).unwrap();
        let output = sedet(&[
            "eval",
            "--results",
            &text(&results),
            "--annotations",
            &truth,
        ]);
        assert!(output.status.success());
        stderr(&output).replace("\n  ", " ")
    };
    let right = || (0..40).map(|i| row(i, bbox(i)));
    let lines = said(right().collect());
    assert!(!lines.contains("warning"), "{lines}");
    let crossed = (0..40).map(|i| {
        let [x, y, w, h] = bbox(i);
        row(i, [x, y, h, w])
    });
    let lines = said(crossed.collect());
    assert!(
        lines.contains(
            "warning: the boxes would fit as [x, y, height, width], not as [x, y, width, height]"
        ),
        "{lines}"
    );
    let lines = said(right().chain(right().take(3)).collect());
    assert!(
        lines.contains("results.json: 3 of 43 rows repeat another row"),
        "{lines}"
    );
    let lines = said(right().take(1).collect());
    assert!(
        lines.contains("detections for 1 of 40 images with objects; the objects of the others"),
        "{lines}"
    );
    assert!(!lines.contains("the model is not trained"), "{lines}");
    let results = dir.path().join("lines.json");
    let lines: Vec<String> = right().map(|row| row.to_string()).collect();
    fs::write(&results, lines.join("\n")).unwrap();
    let refused = |expected: &[&str]| {
        let results = text(&results);
        fails_with(
            &["eval", "--results", &results, "--annotations", &truth],
            expected,
        );
    };
    refused(&["JSON Lines", "jq -s . "]);
    let mut strings: Vec<Value> = right().collect();
    strings[0]["image_id"] = json!("0");
    fs::write(&results, json!(strings).to_string()).unwrap();
    refused(&[
        "image_id: \"0\" is not a non-negative integer",
        "write ids as numbers",
    ]);
}
