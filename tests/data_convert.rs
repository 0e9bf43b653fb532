//! Conversions between annotation formats; splitting, statistics and display of a dataset.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use crate::common::command::{fails_with, is_wrong_usage, sedet, text};
use crate::common::real_data;
use proptest::prelude::*;
use sedet::annotations::format::{
    AnnotatedDataset, DatasetFiles, Dropped, Format, SplitAnnotations,
};
use sedet::annotations::formats::{FORMATS, format_of_key, recognize};
use sedet::annotations::layout::Split;
use sedet::annotations::{AnnotationStore, AnnotationStoreBuilder, NewAnnotation};
use sedet::boxes::ImageSize;
use sedet::curation::convert::{Images, write_dataset};
use sedet::datasets::registry::DatasetName;
use serde_json::{Value, json};

/// Tolerance of box coordinates after a round trip, in pixels.
const TOLERANCE: f32 = 1e-3;

/// Boxes by file name: class names and `[x, y, width, height]`, in file order.
type Content = BTreeMap<String, (ImageSize, Vec<(String, [f32; 4])>)>;

fn content(store: &AnnotationStore) -> Content {
    (0..store.image_count())
        .map(|index| {
            let image = store.image(index);
            let boxes = store.annotations(index).zip(store.boxes_xywh(index));
            let boxes = boxes
                .filter(|(annotation, _)| !annotation.is_crowd)
                .map(|(a, xywh)| (store.categories()[a.class].name.clone(), xywh));
            (image.file_name.to_owned(), (image.size, boxes.collect()))
        })
        .collect()
}

fn assert_same(found: &Content, expected: &Content) {
    let names = |content: &Content| content.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (name, (size, boxes)) in expected {
        let (found_size, found_boxes) = &found[name];
        assert_eq!(found_size, size, "{name}");
        assert_eq!(found_boxes.len(), boxes.len(), "{name}");
        for ((class, found), (expected_class, expected)) in found_boxes.iter().zip(boxes) {
            assert_eq!(class, expected_class, "{name}");
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() <= TOLERANCE, "{name}: {found:?} {expected:?}");
            }
        }
    }
}

/// Images in a directory, and a dataset of them: train with all boxes, val with an empty image.
fn dataset(directory: &Path, boxes: &[(u64, [f32; 4])], size: ImageSize) -> AnnotatedDataset {
    let names = ["zebra & co", "it's", "a: <b>"];
    let split = |split, ids: &[u64], boxes: &[(u64, [f32; 4])]| {
        let mut builder = AnnotationStoreBuilder::new();
        for (id, name) in [7, 3, 90].iter().zip(names) {
            builder.add_category(*id, name);
        }
        for &id in ids {
            let name = format!("{split}{id}.png");
            let image = image::RgbImage::new(size.width as u32, size.height as u32);
            image.save(directory.join(&name)).unwrap();
            builder.add_image(id, &name, size);
        }
        for (id, (class, xywh)) in (1..).zip(boxes) {
            builder.add_annotation(NewAnnotation {
                id,
                image_id: ids[id as usize % ids.len()],
                category_id: [7, 3, 90][*class as usize % 3],
                xywh: *xywh,
                area: None,
                is_crowd: false,
            });
        }
        SplitAnnotations {
            split,
            store: builder.build().unwrap(),
            image_root: directory.to_owned(),
            dropped: Dropped::default(),
            besides_boxes: Dropped::default(),
            notes: Vec::new(),
        }
    };
    // VOC has no list of classes: each must occur.
    let all: Vec<(u64, [f32; 4])> = (0..3).map(|class| (class, [0.0, 0.0, 1.0, 1.0])).collect();
    AnnotatedDataset {
        format: format("coco"),
        splits: vec![
            split(Split::Train, &[40, 5], &[boxes, &all].concat()),
            split(Split::Val, &[8], &[]),
        ],
    }
}

fn goes_on(_done: usize, _all: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn format(key: &str) -> Format {
    format_of_key(key).unwrap()
}

fn write(dataset: &AnnotatedDataset, format: Format, output: &Path) -> AnnotatedDataset {
    write_dataset(dataset, format, Images::Copy, output, &mut goes_on).unwrap();
    assert_eq!(recognize(output).unwrap(), Some(format));
    DatasetFiles::find(output).unwrap().read().unwrap()
}

#[test]
fn a_conversion_that_is_stopped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = dataset(dir.path(), &[], ImageSize::new(20, 30));
    let there = dir.path().join("there");
    fs::create_dir(&there).unwrap();
    let output = there.join("voc");
    let mut first_only = |done, _all| match done {
        1 => ControlFlow::Break(()),
        _ => panic!("it went on"),
    };
    let stopped = write_dataset(
        &dataset,
        format("voc"),
        Images::Copy,
        &output,
        &mut first_only,
    );
    assert!(stopped.unwrap_err().to_string().contains("stopped"));
    assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn coco_survives_every_other_format_to_a_thousandth_of_a_pixel(
        (width, height) in (8usize..700, 8usize..500),
        fractions in proptest::collection::vec((0u64..3, proptest::array::uniform4(0.0f32..1.0)), 0..12),
    ) {
        let size = ImageSize::new(height, width);
        let boxes: Vec<(u64, [f32; 4])> = fractions
            .into_iter()
            .map(|(class, [x, y, w, h])| {
                let (x, y) = (x * (width as f32 - 2.0), y * (height as f32 - 2.0));
                let (w, h) = (w * (width as f32 - x - 1.0), h * (height as f32 - y - 1.0));
                (class, [x, y, w.max(0.5), h.max(0.5)])
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let original = dataset(dir.path(), &boxes, size);
        for &other in FORMATS.iter().filter(|other| other.key() != "coco") {
            let there = write(&original, other, &dir.path().join(format!("there {other}")));
            let back = write(&there, format("coco"), &dir.path().join(format!("back {other}")));
            prop_assert_eq!(back.splits.len(), 2);
            for (back, original) in back.splits.iter().zip(&original.splits) {
                prop_assert_eq!(back.split, original.split);
                assert_same(&content(&back.store), &content(&original.store));
                let image = back.store.image(0).file_name;
                prop_assert!(back.image_root.join(image).is_file());
            }
        }
    }

    #[test]
    fn voc_and_yolo_survive_each_other(
        fractions in proptest::collection::vec((0u64..3, proptest::array::uniform4(0.0f32..0.5)), 1..6),
    ) {
        let size = ImageSize::new(120, 200);
        let scaled = |[x, y, w, h]: [f32; 4]| [x * 200.0, y * 120.0, (w * 200.0).max(0.5), (h * 120.0).max(0.5)];
        let boxes: Vec<_> = fractions.into_iter().map(|(class, f)| (class, scaled(f))).collect();
        let dir = tempfile::tempdir().unwrap();
        let original = dataset(dir.path(), &boxes, size);
        let voc = write(&original, format("voc"), &dir.path().join("voc"));
        let yolo = write(&voc, format("yolo"), &dir.path().join("yolo"));
        let again = write(&yolo, format("voc"), &dir.path().join("again"));
        for (again, voc) in again.splits.iter().zip(&voc.splits) {
            assert_same(&content(&again.store), &content(&voc.store));
        }
    }
}

/// A COCO directory with a crowd annotation, a segmentation area, and a box beyond the image edge.
fn coco_directory(root: &Path) {
    std::fs::create_dir_all(root.join("train/sub")).unwrap();
    for name in ["train/a b.jpg", "train/sub/c.jpg"] {
        image::RgbImage::new(64, 48).save(root.join(name)).unwrap();
    }
    let object = |id: u64, image: u64, bbox: [f64; 4], area: f64, crowd: u8| json!({"id": id, "image_id": image, "category_id": 5, "bbox": bbox, "area": area, "iscrowd": crowd, "segmentation": [], "keypoints": [1, 2, 2], "attributes": {}});
    let json = json!({
        "images": [
            {"id": 1, "file_name": "a b.jpg", "width": 64, "height": 48},
            {"id": 2, "file_name": "sub/c.jpg", "width": 64, "height": 48},
        ],
        "annotations": [
            object(1, 1, [1.0, 2.0, 10.0, 20.0], 100.0, 0),
            object(2, 1, [5.0, 5.0, 30.0, 30.0], 500.0, 1),
            object(3, 2, [60.0, 40.0, 10.0, 20.0], 200.0, 0),
        ],
        "categories": [{"id": 5, "name": "dog"}, {"id": 9, "name": "never"}],
    });
    std::fs::write(root.join("train.json"), json.to_string()).unwrap();
}

fn convert(source: &Path, to: &str, output: &Path) -> (String, String) {
    let done = sedet(&[
        "data",
        "convert",
        &text(source),
        "--to",
        to,
        "--output",
        &text(output),
    ]);
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{stderr}");
    (String::from_utf8_lossy(&done.stdout).into_owned(), stderr)
}

#[test]
fn what_a_format_cannot_express_is_counted_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("coco");
    coco_directory(&source);
    let (out, stderr_text) = convert(&source, "yolo", &dir.path().join("yolo"));
    assert!(out.contains("train: 2 images, 2 boxes"), "{out}");
    for line in [
        "dropped: crowd annotations (1 object)",
        "dropped: areas that differ from the box (1 object)",
        "dropped: parts of boxes outside the image (1 object)",
        "dropped: keypoints (3 objects)",
    ] {
        assert!(stderr_text.contains(line), "{stderr_text}");
    }
    let labels = std::fs::read_to_string(dir.path().join("yolo/labels/train/sub/c.txt")).unwrap();
    assert_eq!(labels, "0 0.96875 0.916666667 0.0625 0.166666667\n");
    let yaml = std::fs::read_to_string(dir.path().join("yolo/data.yaml")).unwrap();
    assert!(yaml.contains("1: \"never\""), "{yaml}");

    let voc = dir.path().join("voc");
    let (_, stderr_text) = convert(&source, "voc", &voc);
    assert!(
        stderr_text.contains("dropped: classes without a box (1 class)"),
        "{stderr_text}"
    );
    let xml = std::fs::read_to_string(voc.join("Annotations/a_b.xml")).unwrap();
    assert!(xml.contains("<xmax>11</xmax>"), "{xml}");
    let xml = xml
        .replace("<difficult>0", "<difficult>1")
        .replace("<pose>Unspecified", "<pose>Left");
    std::fs::write(voc.join("Annotations/a_b.xml"), xml).unwrap();
    let (_, stderr_text) = convert(&voc, "coco", &dir.path().join("back"));
    assert!(!stderr_text.contains("`difficult` flags"), "{stderr_text}");
    assert!(
        stderr_text.contains("dropped: `pose` elements (1 object)"),
        "{stderr_text}"
    );
    let back =
        std::fs::read_to_string(dir.path().join("back/annotations/instances_train.json")).unwrap();
    let back: Value = serde_json::from_str(&back).unwrap();
    assert_eq!(
        back["annotations"][0]["bbox"],
        json!([1.0, 2.0, 10.0, 20.0])
    );
}

#[test]
fn a_conversion_into_its_input_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("coco");
    coco_directory(&source);
    for (from, output) in [
        (&source, source.join("yolo")),
        (&source, dir.path().to_owned()),
    ] {
        let (from, output) = (text(from), text(&output));
        fails_with(
            &[
                "data", "convert", &from, "--to", "yolo", "--output", &output,
            ],
            &[
                "is or contains a part of the input",
                "choose another --output",
            ],
        );
    }
    assert!(!source.join("yolo").exists());
}

#[test]
fn images_that_voc_cannot_name_as_before_are_counted_by_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("coco");
    let write = |split: &str, names: &[&str]| {
        let mut images = Vec::new();
        let mut annotations = Vec::new();
        for (id, name) in (1..).zip(names) {
            let path = root.join(split).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::RgbImage::new(30, 20).save(path).unwrap();
            images.push(json!({"id": id, "file_name": name, "width": 30, "height": 20}));
            annotations.push(json!({"id": id, "image_id": id, "category_id": 1,
                "bbox": [1, 2, 10, 10], "area": 100, "iscrowd": 0}));
        }
        let categories = json!([{"id": 1, "name": "cat"}]);
        let json = json!({"images": images, "annotations": annotations, "categories": categories});
        fs::write(root.join(format!("{split}.json")), json.to_string()).unwrap();
    };
    write("train", &["a.png", "b c.png", "x/d.png", "y/d.png"]);
    write("val", &["e.png"]);
    let (_, stderr) = convert(&root, "voc", &dir.path().join("voc"));
    for line in [
        "dropped: directories and spaces of image names (2 images)",
        "dropped: names of images that differ from others only in what is not stored (1 image)",
    ] {
        assert!(stderr.contains(line), "{stderr}");
    }
    assert!(!stderr.contains("another split"), "{stderr}");
    write("val", &["a.png"]);
    let (_, stderr) = convert(&root, "voc", &dir.path().join("voc2"));
    let line = "dropped: names of images that another split has, too (1 image)";
    assert!(stderr.contains(line), "{stderr}");
}

#[test]
fn annotations_alone_are_verified_and_leave_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = dataset(dir.path(), &[], ImageSize::new(20, 30));
    for &format in FORMATS {
        let output = dir.path().join(format.key());
        write_dataset(&dataset, format, Images::Leave, &output, &mut goes_on).unwrap();
        let mut open = vec![output];
        let mut files = 0;
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                let path = entry.path();
                assert!(!path.is_symlink(), "{}", path.display());
                if path.is_dir() {
                    open.push(path);
                } else {
                    files += 1;
                    assert!(
                        path.extension().is_some_and(|e| e != "png"),
                        "{}",
                        path.display()
                    );
                }
            }
        }
        assert!(files >= 2, "{format}: {files}");
    }
}

#[test]
fn a_failed_conversion_names_the_cause_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("coco"), dir.path().join("out"));
    coco_directory(&source);
    let convert = |source: &Path, to: &str, parts: &[&str]| {
        let arguments = [
            "data",
            "convert",
            &text(source),
            "--to",
            to,
            "--output",
            &text(&out),
        ];
        fails_with(&arguments, parts);
    };
    convert(&source, "coco", &["already in the format COCO"]);
    let json = std::fs::read_to_string(source.join("train.json")).unwrap();
    let spaces = json.replace("never", "dog ");
    let both = spaces.replacen("\"category_id\":5", "\"category_id\":9", 1);
    std::fs::write(source.join("train.json"), both).unwrap();
    convert(&source, "voc", &["`dog` and `dog `", "would be one"]);
    std::fs::write(
        source.join("train.json"),
        json.replace("a b.jpg", "../a.jpg"),
    )
    .unwrap();
    convert(
        &source,
        "yolo",
        &["../a.jpg: cannot read the image", "--on-bad-image skip"],
    );
    std::fs::write(
        source.join("train.json"),
        json.replace("a b.jpg", "gone.jpg"),
    )
    .unwrap();
    convert(&source, "yolo", &["gone.jpg"]);
    std::fs::write(source.join("train.json"), json).unwrap();
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("mine"), "precious").unwrap();
    convert(&source, "yolo", &["out", "not empty"]);
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    let empty = tempfile::tempdir().unwrap();
    convert(
        empty.path(),
        "yolo",
        &[
            "no annotations in a known format",
            "COCO",
            "Pascal VOC",
            "YOLO",
        ],
    );
    let usage = sedet(&["data", "convert", "x", "--to", "tsv", "--output", "y"]);
    assert_eq!(usage.status.code(), Some(2));
}

/// Runs a command that has to succeed, and returns its error stream.
fn succeeds(arguments: &[&str]) -> String {
    let done = sedet(arguments);
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{arguments:?}: {stderr}");
    stderr
}

/// Writes an image whose content depends on a number.
fn image_of(number: u8, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = image::RgbImage::from_pixel(64, 48, image::Rgb([number, 2 * (number % 100), 90]));
    image.save(path).unwrap();
}

#[test]
fn unreadable_images_are_left_out_on_request_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let yolo = dir.path().join("yolo");
    for number in 0..6 {
        image_of(number, &yolo.join(format!("images/{number}.png")));
        let labels = yolo.join(format!("labels/{number}.txt"));
        fs::create_dir_all(labels.parent().unwrap()).unwrap();
        fs::write(labels, "0 0.5 0.5 0.5 0.5\n").unwrap();
    }
    fs::write(yolo.join("classes.txt"), "cat\n").unwrap();
    fs::write(yolo.join("images/2.png"), "<html>404</html>").unwrap();
    // COCO states the sizes, so that reading the annotations opens no image.
    let coco = dir.path().join("coco");
    let images: Vec<Value> = (0..6)
        .map(
            |id| json!({"id": id + 1, "file_name": format!("{id}.png"), "width": 64, "height": 48}),
        )
        .collect();
    let boxes: Vec<Value> = (0..6)
        .map(|id| json!({"id": id + 1, "image_id": id + 1, "category_id": 1, "bbox": [9, 9, 20, 20]}))
        .collect();
    let all =
        json!({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]});
    for number in [0, 1, 3, 4, 5] {
        image_of(number, &coco.join(format!("{number}.png")));
    }
    fs::write(coco.join("train.json"), all.to_string()).unwrap();
    for (source, to) in [(&yolo, "coco"), (&coco, "yolo")] {
        let source = text(source);
        let out = text(&dir.path().join(format!("to {to}")));
        let convert = ["data", "convert", &source, "--to", to, "--output", &out];
        let parts = text(&dir.path().join(format!("parts {to}")));
        let split = ["data", "split", &source, "--output", &parts];
        for command in [&convert[..], &split] {
            fails_with(command, &["2.png", "--on-bad-image skip"]);
            let stderr = succeeds(&[command, &["--on-bad-image", "skip"]].concat());
            assert!(
                stderr.contains("skipped 1 of 6 images that cannot be used: 2.png"),
                "{stderr}"
            );
        }
        for written in [out, parts] {
            let read = DatasetFiles::find(Path::new(&written))
                .unwrap()
                .read()
                .unwrap();
            let images = read.splits.iter().map(|split| split.store.image_count());
            assert_eq!(images.sum::<usize>(), 5);
        }
    }
    let yolo = text(&yolo);
    let stats = ["data", "stats", &yolo];
    fails_with(&stats, &["2.png", "--on-bad-image skip"]);
    succeeds(&[&stats[..], &["--on-bad-image", "skip"]].concat());
    let out = text(&dir.path().join("run"));
    let train = [
        "train",
        "--dataset",
        &yolo,
        "--output",
        &out,
        "--epochs",
        "1",
    ];
    let train = [
        &train[..],
        &["--set", "input.min_size=48", "--set", "input.max_size=64"],
    ]
    .concat();
    fails_with(&train, &["2.png", "--on-bad-image skip"]);
    let stderr = succeeds(&[&train[..], &["--on-bad-image", "skip"]].concat());
    assert!(
        stderr.contains("skipped 1 of 6 images that cannot be used: 2.png"),
        "{stderr}"
    );
    let eval = ["eval", "--checkpoint", &out, "--dataset", &yolo];
    fails_with(&eval, &["2.png", "--on-bad-image skip"]);
    succeeds(&[&eval[..], &["--on-bad-image", "skip"]].concat());
}

#[test]
fn names_that_lead_elsewhere_are_read_and_become_relative() {
    let dir = tempfile::tempdir().unwrap();
    let photos = dir.path().join("photos");
    let source = dir.path().join("fixed");
    fs::create_dir_all(&source).unwrap();
    let mut images = Vec::new();
    for number in 0..6u8 {
        let path = photos.join(format!("day {}/{number}.png", number % 2));
        image_of(number, &path);
        let name = match number {
            0..3 => text(&path),
            _ => format!("../photos/day {}/{number}.png", number % 2),
        };
        images.push(json!({"id": number + 1, "file_name": name, "width": 64, "height": 48}));
    }
    let boxes: Vec<Value> = (1..=6)
        .map(|id| json!({"id": id, "image_id": id, "category_id": 1, "bbox": [9, 9, 20, 20]}))
        .collect();
    let all =
        json!({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]});
    let json = source.join("fixed.json");
    fs::write(&json, all.to_string()).unwrap();
    let (json, yolo, parts) = (
        text(&json),
        dir.path().join("yolo"),
        dir.path().join("parts"),
    );
    succeeds(&[
        "data",
        "convert",
        &json,
        "--to",
        "yolo",
        "--output",
        &text(&yolo),
    ]);
    succeeds(&["data", "split", &json, "--output", &text(&parts)]);
    assert!(yolo.join("images/train/day 1/3.png").is_file());
    assert!(parts.join("images/day 1/3.png").is_file());
    for written in [yolo, parts] {
        let read = DatasetFiles::find(&written).unwrap().read().unwrap();
        let mut count = 0;
        for split in read.splits {
            for index in 0..split.store.image_count() {
                let name = split.store.image(index).file_name;
                assert!(
                    Path::new(name).is_relative() && !name.contains(".."),
                    "{name}"
                );
                count += 1;
            }
        }
        assert_eq!(count, 6);
        succeeds(&["data", "check", &text(&written)]);
    }
}

#[test]
fn annotations_without_images_lead_to_the_images_or_say_where_they_belong() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir_all(&source).unwrap();
    for number in 0..8 {
        image_of(number, &source.join(format!("photos/{number}.png")));
    }
    let images: Vec<Value> = (0..8)
        .map(|id| json!({"id": id + 1, "file_name": format!("photos/{id}.png"), "width": 64, "height": 48}))
        .collect();
    let boxes: Vec<Value> = (1..=8)
        .map(|id| json!({"id": id, "image_id": id, "category_id": 1, "bbox": [9, 9, 20, 20], "area": 400}))
        .collect();
    let all =
        json!({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]});
    fs::write(source.join("train.json"), all.to_string()).unwrap();
    let source = text(&source);
    let at = |name: &str| text(&dir.path().join(name));
    let leave = ["--images", "leave", "--output"];
    for (command, out) in [
        (vec!["data", "split", &source], "parts"),
        (vec!["data", "convert", &source, "--to", "csv"], "csv"),
    ] {
        let stderr = succeeds(&[&command[..], &leave, &[&at(out)]].concat());
        assert!(stderr.contains("next: sedet data check"), "{stderr}");
        succeeds(&["data", "check", &at(out)]);
    }
    let yolo = at("yolo");
    let convert = ["data", "convert", &source, "--to", "yolo"];
    let stderr = succeeds(&[&convert[..], &leave, &[&yolo]].concat());
    let line = format!(
        "annotations only: put the images of {} into {}",
        dir.path().join("source/photos").display(),
        dir.path().join("yolo/images/train/photos/").display()
    );
    assert!(stderr.contains(&line), "{stderr}");
    let csv = at("csv");
    let convert = ["data", "convert", &csv, "--to", "coco"];
    succeeds(&[&convert[..], &leave, &[&at("coco")]].concat());
    succeeds(&["data", "check", &at("coco")]);
}

#[test]
fn images_that_get_other_names_are_listed_with_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let names = ["day/0.png", "day/1.png", "night/0.png", "night/a 2.png"];
    for (number, name) in (0..).zip(names) {
        image_of(number, &source.join(name));
    }
    let images = (1..).zip(names);
    let images: Vec<Value> = images
        .map(|(id, name)| json!({"id": id, "file_name": name, "width": 64, "height": 48}))
        .collect();
    let boxes: Vec<Value> = (1..=4)
        .map(|id| json!({"id": id, "image_id": id, "category_id": 1, "bbox": [9, 9, 20, 20], "area": 400}))
        .collect();
    let all =
        json!({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]});
    fs::write(source.join("train.json"), all.to_string()).unwrap();
    for to in ["voc", "yolo"] {
        let written = dir.path().join(to);
        let out = text(&written);
        let convert = ["data", "convert", &text(&source), "--to", to];
        let stderr = succeeds(&[&convert[..], &["--images", "leave", "--output", &out]].concat());
        let list = written.join("image-places.csv");
        let line = format!("in their places, which {} lists, such as ", list.display());
        assert!(stderr.contains(&line), "{stderr}");
        // Without the images, the check looks where they belong.
        let checked = sedet(&["data", "check", &out]);
        let shown =
            String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
        let expected = ["voc/JPEGImages", "images/train"][usize::from(to == "yolo")];
        assert!(shown.replace("\n", "").contains(expected), "{shown}");
        let text = fs::read_to_string(&list).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("from,to"));
        let rows: Vec<(&str, &str)> = lines.map(|line| line.split_once(',').unwrap()).collect();
        assert_eq!(rows.len(), 4, "{text}");
        for (from, to) in rows {
            let place = written.join(to);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(from, place).unwrap();
        }
        succeeds(&["data", "check", &out]);
        let read = DatasetFiles::find(&written).unwrap().read().unwrap();
        assert_eq!(read.splits[0].store.annotation_count(), 4);
    }
}

#[test]
fn images_of_another_size_than_annotated_are_one_rule_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    for number in 0..6 {
        image_of(number, &source.join(format!("{number}.png")));
    }
    let image = |id: u64, width: u64| json!({"id": id + 1, "file_name": format!("{id}.png"), "width": width, "height": 48});
    let boxes: Vec<Value> = (1..=6)
        .map(|id| json!({"id": id, "image_id": id, "category_id": 1, "bbox": [9, 9, 20, 20], "area": 400}))
        .collect();
    let put = |widths: [u64; 6]| {
        let images: Vec<Value> = (0..)
            .zip(widths)
            .map(|(id, width)| image(id, width))
            .collect();
        let all = json!({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]});
        fs::write(source.join("train.json"), all.to_string()).unwrap();
    };
    put([64, 64, 60, 64, 64, 64]);
    let path = text(&source);
    let at = |name: &str| text(&dir.path().join(name));
    for (command, out) in [
        (vec!["data", "convert", &path, "--to", "voc"], "voc"),
        (vec!["data", "convert", &path, "--to", "yolo"], "yolo"),
        (vec!["data", "split", &path], "parts"),
    ] {
        let out = at(out);
        let command = [&command[..], &["--output", &out]].concat();
        let expected = "2.png: the image is 64x48, but its annotations are for 60x48";
        fails_with(&command, &[expected, "--on-bad-image skip"]);
        assert!(!Path::new(&out).exists());
        let stderr = succeeds(&[&command[..], &["--on-bad-image", "skip"]].concat());
        assert!(
            stderr.contains("skipped 1 of 6 images that cannot be used: 2.png"),
            "{stderr}"
        );
    }
    // With nothing left, the option that was given is no advice.
    put([60; 6]);
    let out = at("none");
    let convert = ["data", "convert", &path, "--to", "voc", "--output", &out];
    let convert = [&convert[..], &["--on-bad-image", "skip"]].concat();
    fails_with(
        &convert,
        &[
            "no image is left: none of 6 images can be used",
            "hint: replace the images",
        ],
    );
    let stderr = String::from_utf8_lossy(&sedet(&convert).stderr).into_owned();
    assert!(!stderr.contains("--on-bad-image"), "{stderr}");
}

#[test]
fn a_split_that_cannot_be_made_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    for id in 0..2u8 {
        image_of(id, &source.join(format!("{id}.png")));
        let xml = "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>";
        fs::write(source.join(format!("{id}.xml")), xml).unwrap();
    }
    let out = text(&dir.path().join("parts"));
    let source_path = text(&source);
    for seed in ["0", "1", "2", "3"] {
        let split = [
            "data",
            "split",
            &source_path,
            "--test",
            "0.2",
            "--seed",
            seed,
        ];
        fails_with(
            &[&split[..], &["--output", &out]].concat(),
            &[
                "2 images cannot be split: none is left for ",
                "hint: add images, or create only two splits: omit --test",
            ],
        );
    }
    succeeds(&["data", "split", &source_path, "--output", &out]);
    // Copies are only divided if there is nothing else.
    fs::copy(source.join("0.png"), source.join("1.png")).unwrap();
    let stderr = succeeds(&[
        "data",
        "split",
        &source_path,
        "--output",
        &format!("{out}2"),
    ]);
    assert!(
        stderr
            .contains("all 2 images have the same content, so that copies are in different splits"),
        "{stderr}"
    );
}

#[test]
fn flags_of_objects_are_kept_where_the_format_stores_them() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    for id in 0..10u8 {
        image_of(id, &source.join(format!("{id}.jpg")));
        let flags = if id % 2 == 0 {
            "<difficult>1</difficult><truncated>0</truncated><pose>Left</pose>"
        } else {
            "<difficult>0</difficult><truncated>1</truncated>"
        };
        let xml = format!(
            "<annotation><object><name>cat</name>{flags}<bndbox><xmin>{id}</xmin><ymin>2</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>"
        );
        fs::write(source.join(format!("{id}.xml")), xml).unwrap();
    }
    let source = text(&source);
    let flagged = |root: &Path, difficult: &str, truncated: &str| -> (usize, usize) {
        let (mut open, mut counts) = (vec![root.to_owned()], (0, 0));
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                if entry.path().is_dir() {
                    open.push(entry.path());
                } else if let Ok(text) = fs::read_to_string(entry.path()) {
                    counts.0 += text.matches(difficult).count();
                    counts.1 += text.matches(truncated).count();
                }
            }
        }
        counts
    };
    let (parts, coco, yolo) = (
        dir.path().join("parts"),
        dir.path().join("coco"),
        dir.path().join("yolo"),
    );
    let stderr = succeeds(&["data", "split", &source, "--output", &text(&parts)]);
    assert!(
        !stderr.contains("flags") && stderr.contains("dropped: `pose` elements (5 objects)"),
        "{stderr}"
    );
    let tags = ("<difficult>1</difficult>", "<truncated>1</truncated>");
    assert_eq!(flagged(&parts, tags.0, tags.1), (5, 5));
    let (_, stderr) = convert(Path::new(&source), "coco", &coco);
    assert!(!stderr.contains("flags"), "{stderr}");
    assert_eq!(flagged(&coco, "\"difficult\":1", "\"truncated\":1"), (5, 5));
    let (_, stderr) = convert(Path::new(&source), "yolo", &yolo);
    assert!(
        stderr.contains("dropped: `difficult` flags (5 objects)")
            && stderr.contains("dropped: `truncated` flags (5 objects)"),
        "{stderr}"
    );
    // They are read from COCO, too: split as fields of entries, and written as VOC.
    let again = dir.path().join("again");
    let stderr = succeeds(&["data", "split", &text(&coco), "--output", &text(&again)]);
    assert!(!stderr.contains("flags"), "{stderr}");
    assert_eq!(
        flagged(&again, "\"difficult\":1", "\"truncated\":1"),
        (5, 5)
    );
    let (_, stderr) = convert(&coco, "voc", &dir.path().join("voc"));
    assert!(!stderr.contains("flags"), "{stderr}");
    assert_eq!(flagged(&dir.path().join("voc"), tags.0, tags.1), (5, 5));
    let (_, stderr) = convert(&coco, "csv", &dir.path().join("csv"));
    assert!(
        stderr.contains("dropped: `difficult` flags (5 objects)"),
        "{stderr}"
    );
}

#[test]
fn a_list_of_images_without_annotations_is_refused_and_does_not_become_background() {
    let dir = tempfile::tempdir().unwrap();
    for id in 0..4u8 {
        image_of(id, &dir.path().join(format!("images/{id}.jpg")));
    }
    let images = |ids: [u8; 2]| {
        ids.map(|id| json!({"id": id, "file_name": format!("{id}.jpg"), "width": 48, "height": 32}))
    };
    let categories = json!([{"id": 1, "name": "cat"}]);
    let boxes = json!([{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, 8, 9]}]);
    let train = json!({"images": images([0, 1]), "annotations": boxes, "categories": categories});
    let test = json!({"images": images([2, 3]), "categories": categories});
    fs::write(dir.path().join("train.json"), train.to_string()).unwrap();
    fs::write(dir.path().join("test.json"), test.to_string()).unwrap();
    let (root, out) = (text(dir.path()), text(&dir.path().join("../out")));
    for command in [
        &["data", "split", &root, "--output", &out][..],
        &["data", "convert", &root, "--to", "yolo", "--output", &out],
    ] {
        fails_with(
            command,
            &[
                "test.json: there is no `annotations` list",
                "hint: move it away if its images were not annotated",
            ],
        );
    }
}

#[test]
fn copies_of_an_image_are_in_one_split() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    for id in 0..40u8 {
        // Every image from 20 on is a copy.
        image_of(id % 20, &source.join(format!("{id}.png")));
        let xml = "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>";
        fs::write(source.join(format!("{id}.xml")), xml).unwrap();
    }
    let parts = dir.path().join("parts");
    let stderr = succeeds(&[
        "data",
        "split",
        &text(&source),
        "--val",
        "0.3",
        "--output",
        &text(&parts),
    ]);
    assert!(
        stderr.contains("20 images with the content of another: in the same split"),
        "{stderr}"
    );
    let read = DatasetFiles::find(&parts).unwrap().read().unwrap();
    let names = |split: &SplitAnnotations| -> Vec<u8> {
        let images = 0..split.store.image_count();
        let names = images.map(|index| split.store.image(index).file_name.to_owned());
        names
            .map(|name| name.trim_end_matches(".png").parse().unwrap())
            .collect()
    };
    let (train, val) = (names(&read.splits[0]), names(&read.splits[1]));
    assert_eq!((train.len(), val.len()), (28, 12));
    assert!(
        train.iter().all(|id| train.contains(&((id + 20) % 40))),
        "{train:?}"
    );
}

#[test]
fn yolo_and_voc_directories_are_datasets() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("coco");
    coco_directory(&source);
    let yolo = dir.path().join("yolo");
    convert(&source, "yolo", &yolo);
    let stats = sedet(&["data", "stats", &text(&yolo), "--json"]);
    let stats: Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!(stats["statistics"]["boxes"], 2);
    std::fs::write(yolo.join("labels/train/sub/c.txt"), "0 320 200 50 50\n").unwrap();
    fails_with(
        &["data", "stats", &text(&yolo)],
        &["c.txt", "line 1", "not a fraction"],
    );
    let voc = dir.path().join("voc");
    convert(&source, "voc", &voc);
    let stats = sedet(&["data", "stats", &text(&voc), "--json"]);
    let stats: Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!(stats["statistics"]["boxes"], 2);
    fails_with(
        &["data", "stats", &text(&voc), "--split", "val"],
        &["no val annotations", "Pascal VOC", "train"],
    );
    let no_box = "<annotation><object/></annotation>";
    std::fs::write(voc.join("Annotations/a_b.xml"), no_box).unwrap();
    fails_with(
        &["data", "stats", &text(&voc)],
        &["a_b.xml", "line 1", "<bndbox>"],
    );
}

#[test]
fn roboflows_yolo_layout_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put(
        "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['cat', 'dog']\n",
    );
    put(
        "train/labels/a.txt",
        "1 0.5 0.5 0.5 0.5\n\n0 0.1 0.1 0.4 0.1 0.4 0.3\n",
    );
    put("valid/labels/c.txt", "");
    for name in [
        "train/images/a.png",
        "train/images/b.png",
        "valid/images/c.png",
    ] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::new(100, 50).save(path).unwrap();
    }
    let read = DatasetFiles::find(dir.path()).unwrap().read().unwrap();
    assert_eq!(read.format, format("yolo"));
    assert_eq!(read.splits.len(), 2);
    let train = content(&read.splits[0].store);
    let (size, boxes) = &train["a.png"];
    assert_eq!(*size, ImageSize::new(50, 100));
    assert_eq!(boxes[0], ("dog".into(), [25.0, 12.5, 50.0, 25.0]));
    let expected = [10.0, 5.0, 30.0, 10.0];
    assert!(
        boxes[1]
            .1
            .iter()
            .zip(expected)
            .all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-4)
    );
    let dropped: Vec<String> = read.splits[0].dropped.lines().collect();
    assert_eq!(
        dropped,
        ["outlines, of which the boxes are kept (1 object)"]
    );
    assert!(train["b.png"].1.is_empty());
}

#[test]
fn malicious_xml_is_rejected_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for directory in ["Annotations", "JPEGImages"] {
        std::fs::create_dir_all(dir.path().join(directory)).unwrap();
    }
    let photo = image::RgbImage::new(8, 8);
    photo.save(dir.path().join("JPEGImages/a.jpg")).unwrap();
    let path = dir.path().join("Annotations/a.xml");
    let outside = tempfile::tempdir().unwrap();
    let out = text(&outside.path().join("out"));
    let bomb = "<!DOCTYPE a [<!ENTITY b \"xxxxxxxxxx\"><!ENTITY c \"&b;&b;&b;&b;\">]><annotation>&c;</annotation>";
    for xml in [
        bomb.to_owned(),
        "<a>".repeat(200_000),
        "<annotation".to_owned(),
    ] {
        std::fs::write(&path, xml).unwrap();
        fails_with(
            &[
                "data",
                "convert",
                &text(dir.path()),
                "--to",
                "coco",
                "--output",
                &out,
            ],
            &["a.xml", "XML"],
        );
    }
}

fn divided(root: &Path, extra: &[&str]) -> std::process::Output {
    let source = text(&root.join("train.json"));
    sedet(&[&["data", "split", &source][..], extra].concat())
}

#[test]
fn a_dataset_is_split_by_class_the_same_for_the_same_seed() {
    let dir = tempfile::tempdir().unwrap();
    let images: Vec<Value> = (1..=50)
        .map(|id| json!({"id": id, "file_name": format!("{id}.jpg"), "width": 64, "height": 48, "license": 4}))
        .collect();
    let boxes: Vec<Value> = (1..=50)
        .map(|id| {
            let category = if id % 10 == 0 { 2 } else { 1 };
            json!({"id": id, "image_id": id, "category_id": category, "bbox": [1, 2, 3, 4.50], "segmentation": [[1, 2]]})
        })
        .collect();
    let all = json!({"info": {"x": 1}, "images": images, "annotations": boxes,
        "categories": [{"id": 1, "name": "common"}, {"id": 2, "name": "rare"}]});
    std::fs::write(dir.path().join("train.json"), all.to_string()).unwrap();
    let out = |name: &str| dir.path().join(name);
    let options = |name: &str, seed: &str| -> Vec<String> {
        let output = text(&out(name));
        [
            "--val", "0.2", "--test", "0.2", "--seed", seed, "--images", "leave", "--output",
            &output,
        ]
        .map(String::from)
        .to_vec()
    };
    let run = |name: &str, seed: &str| {
        let options = options(name, seed);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let done = divided(dir.path(), &options);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let table = run("a", "1");
    assert!(table.contains("rare        3    1     1"), "{table}");
    assert!(table.contains("images     30   10    10"), "{table}");
    run("b", "1");
    run("c", "2");
    let read = |directory: &str, split: &str| -> String {
        std::fs::read_to_string(out(directory).join(format!("{split}.json"))).unwrap()
    };
    let mut seen = Vec::new();
    for split in ["train", "val", "test"] {
        assert_eq!(read("a", split), read("b", split));
        assert_ne!(read("a", split), read("c", split));
        let part: Value = serde_json::from_str(&read("a", split)).unwrap();
        assert_eq!(part["info"], all["info"]);
        assert_eq!(part["categories"], all["categories"]);
        for image in part["images"].as_array().unwrap() {
            seen.push(image["id"].as_u64().unwrap());
            assert_eq!(image["license"], 4);
        }
        assert!(
            part["annotations"]
                .as_array()
                .unwrap()
                .iter()
                .all(|a| a["segmentation"] == json!([[1, 2]]))
        );
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=50).collect::<Vec<_>>());
    // Nothing is overwritten, and fractions must be valid.
    let again = options("a", "1");
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let again = divided(dir.path(), &again);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("already exists"));
    assert_eq!(
        divided(dir.path(), &["--val", "1.5", "--output", "x"])
            .status
            .code(),
        Some(2)
    );
    let most = divided(
        dir.path(),
        &["--val", "0.6", "--test", "0.5", "--output", "x"],
    );
    assert!(String::from_utf8_lossy(&most.stderr).contains("leave no images for training"));
}

/// Writes a COCO dataset of images that are relative symbolic links, of which one is not annotated.
#[cfg(unix)]
fn linked_images(root: &Path) -> std::path::PathBuf {
    let (stored, source) = (root.join("stored"), root.join("in"));
    fs::create_dir_all(&stored).unwrap();
    fs::create_dir_all(&source).unwrap();
    for id in 0..7_u8 {
        let image = image::RgbImage::from_pixel(64, 48, image::Rgb([30 * id, 0, 0]));
        let name = format!("{id}.png");
        image.save(stored.join(&name)).unwrap();
        std::os::unix::fs::symlink(format!("../stored/{name}"), source.join(&name)).unwrap();
    }
    let images = (0..6)
        .map(|id| json!({"id": id, "file_name": format!("{id}.png"), "width": 64, "height": 48}));
    let objects = (0..6).map(
        |id| json!({"id": id, "image_id": id, "category_id": 1, "bbox": [5, 6, 20, 10], "area": 200, "iscrowd": 0}),
    );
    let document = json!({
        "images": images.collect::<Vec<_>>(),
        "annotations": objects.collect::<Vec<_>>(),
        "categories": [{"id": 1, "name": "cat"}],
    });
    fs::write(source.join("train.json"), document.to_string()).unwrap();
    source
}

#[cfg(unix)]
#[test]
fn hard_links_of_images_that_are_symbolic_links_lead_to_the_images() {
    let dir = tempfile::tempdir().unwrap();
    let (source, output) = (
        text(&linked_images(dir.path())),
        text(&dir.path().join("a/b/out")),
    );
    let split = [
        "data", "split", &source, "--images", "link", "--output", &output,
    ];
    let done = sedet(&split);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let checked = sedet(&["data", "check", &output]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

#[cfg(unix)]
#[test]
fn images_that_do_not_belong_to_a_converted_dataset_are_not_moved_with_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (source, output) = (text(&linked_images(dir.path())), dir.path().join("out"));
    let target = text(&output);
    let convert = [
        "data", "convert", &source, "--to", "yolo", "--images", "leave", "--output",
    ];
    let done = sedet(&[&convert[..], &[&target]].concat());
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let places = fs::read_to_string(output.join("image-places.csv")).unwrap();
    assert_eq!(places.lines().count(), 1 + 6, "{places}");
    assert!(!places.contains("6.png"), "{places}");
}

#[test]
fn a_directory_is_split_into_a_dataset_with_its_images() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir_all(&source).unwrap();
    for id in 0..10 {
        image::RgbImage::new(64, 48)
            .save(source.join(format!("{id}.jpg")))
            .unwrap();
        let xml = format!(
            "<annotation><object><name>cat</name><bndbox><xmin>{id}</xmin><ymin>2</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>"
        );
        std::fs::write(source.join(format!("{id}.xml")), xml).unwrap();
    }
    let split = |source: &Path, output: &Path, extra: &[&str]| {
        let (source, output) = (text(source), text(output));
        sedet(&[&["data", "split", &source, "--output", &output][..], extra].concat())
    };
    let out = dir.path().join("out");
    let done = split(&source, &out, &[]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let read = DatasetFiles::find(&out).unwrap().read().unwrap();
    assert_eq!(read.format, format("voc"));
    let counts: Vec<_> = read
        .splits
        .iter()
        .map(|s| (s.split, s.store.image_count()))
        .collect();
    assert_eq!(counts, [(Split::Train, 8), (Split::Val, 2)]);
    // Splits that exist are joined: the same division again.
    let again = split(
        &out,
        &dir.path().join("again"),
        &["--images", "link", "--val", "0.5"],
    );
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("train, val are joined"));
    let read = DatasetFiles::find(&dir.path().join("again"))
        .unwrap()
        .read()
        .unwrap();
    assert_eq!(
        read.splits
            .iter()
            .map(|s| s.store.image_count())
            .sum::<usize>(),
        10
    );
    for inside in [source.join("parts"), dir.path().to_owned()] {
        let refused = split(&source, &inside, &[]);
        assert_eq!(refused.status.code(), Some(1));
        let message = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            message.contains("part of the input") || message.contains("already exists"),
            "{message}"
        );
    }
    let refused = split(&source, &out, &[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("already exists"));
}

#[test]
fn a_coco_file_is_split_with_its_images_and_unknown_fields() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let names: Vec<u64> = (1..=10).collect();
    for id in &names {
        let path = source.join(format!("photos/{id}.jpg"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::new(64, 48).save(path).unwrap();
    }
    let images: Vec<Value> = names
        .iter()
        .map(|id| json!({"id": id, "file_name": format!("photos/{id}.jpg"), "width": 64, "height": 48, "license": 4}))
        .collect();
    let boxes: Vec<Value> = names
        .iter()
        .map(|id| json!({"id": id, "image_id": id, "category_id": 1, "bbox": [1, 2, 3, 4]}))
        .collect();
    let all =
        json!({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]});
    std::fs::write(source.join("result.json"), all.to_string()).unwrap();
    let out = dir.path().join("out");
    let arguments = ["data", "split", &text(&source), "--output", &text(&out)];
    let done = sedet(&arguments);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let read = DatasetFiles::find(&out).unwrap().read().unwrap();
    let counts: Vec<_> = read
        .splits
        .iter()
        .map(|s| (s.split, s.store.image_count()))
        .collect();
    assert_eq!(counts, [(Split::Train, 8), (Split::Val, 2)]);
    for split in &read.splits {
        for index in 0..split.store.image_count() {
            let path = split.image_root.join(split.store.image(index).file_name);
            assert!(path.is_file(), "{}", path.display());
        }
    }
    let val = std::fs::read_to_string(out.join("val.json")).unwrap();
    assert!(val.contains("\"license\":4"), "{val}");
}

#[test]
fn splits_that_share_images_are_joined_without_copies_and_keep_all_fields() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir_all(source.join("images")).unwrap();
    let json = |ids: std::ops::Range<u64>, category: u64| {
        let images: Vec<Value> = ids
            .clone()
            .map(
                |id| json!({"id": id, "file_name": format!("{id}.png"), "width": 64, "height": 48, "license": 4}),
            )
            .collect();
        let boxes: Vec<Value> = ids
            .map(|id| json!({"id": id, "image_id": id, "category_id": category, "bbox": [1, 2, 3, 4], "segmentation": [[id, 2, 4, 2, 4, 6]]}))
            .collect();
        json!({"info": {"of": category}, "licenses": [{"id": 4}], "images": images, "annotations": boxes,
            "categories": [{"id": category, "name": "cat"}]})
            .to_string()
    };
    for id in 1..=10 {
        let path = source.join(format!("images/{id}.png"));
        image::RgbImage::new(64, 48).save(path).unwrap();
    }
    fs::write(source.join("train.json"), json(1..9, 1)).unwrap();
    fs::write(source.join("val.json"), json(7..11, 5)).unwrap();
    let out = dir.path().join("out");
    let done = sedet(&["data", "split", &text(&source), "--output", &text(&out)]);
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{stderr}");
    for line in [
        "2 images of several parts, with equal boxes in each: taken once",
        "dropped: `info` of files besides the first (1 file)",
    ] {
        assert!(stderr.contains(line), "{stderr}");
    }
    assert!(!stderr.contains("outlines"), "{stderr}");
    let mut outlines = Vec::new();
    for split in ["train", "val"] {
        let part = fs::read_to_string(out.join(format!("{split}.json"))).unwrap();
        let part: Value = serde_json::from_str(&part).unwrap();
        assert_eq!(part["info"], json!({"of": 1}));
        assert_eq!(part["licenses"], json!([{"id": 4}]));
        for object in part["annotations"].as_array().unwrap() {
            assert_eq!(object["category_id"], 1);
            let mut images = part["images"].as_array().unwrap().iter();
            let image = images.find(|image| image["id"] == object["image_id"]);
            let image = image.unwrap();
            assert_eq!(image["license"], 4);
            let id = object["segmentation"][0][0].as_u64().unwrap();
            assert_eq!(image["file_name"], format!("{id}.png"));
            outlines.push(id);
        }
    }
    outlines.sort_unstable();
    assert_eq!(outlines, (1..=10).collect::<Vec<_>>());
    let read = DatasetFiles::find(&out).unwrap().read().unwrap();
    let images = read.splits.iter().map(|split| split.store.image_count());
    assert_eq!(images.sum::<usize>(), 10);
    // Other boxes of one image contradict each other.
    fs::write(
        source.join("val.json"),
        json(7..11, 5).replacen("[1,2,3,4]", "[1,2,3,9]", 1),
    )
    .unwrap();
    let out = text(&dir.path().join("other"));
    fails_with(
        &["data", "split", &text(&source), "--output", &out],
        &["7.png: its boxes differ in train and val", "hint: correct"],
    );
}

#[test]
fn outlines_of_a_yolo_directory_are_kept_by_a_split() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let put = |name: &str, content: &str| {
        let path = source.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    put(
        "data.yaml",
        "train: images/train\nval: images/val\nnames: [cat, dog]\n",
    );
    let outline = |number: usize| format!("1 0.{number}0 0.2 0.95 0.2 0.6 0.75");
    for number in 1..=8 {
        let split = if number <= 5 { "train" } else { "val" };
        let image = source.join(format!("images/{split}/{number}.png"));
        fs::create_dir_all(image.parent().unwrap()).unwrap();
        image::RgbImage::new(64, 48).save(image).unwrap();
        let text = format!("{}\n0 0.5 0.5 0.25 0.25\n", outline(number));
        put(&format!("labels/{split}/{number}.txt"), &text);
    }
    let out = dir.path().join("out");
    let done = sedet(&["data", "split", &text(&source), "--output", &text(&out)]);
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("dropped"), "{stderr}");
    let mut found = Vec::new();
    // The joined splits keep their directories.
    for split in ["train", "val"] {
        for of in ["train", "val"] {
            let labels = fs::read_dir(out.join("labels").join(split).join(of));
            for entry in labels.into_iter().flatten() {
                let label = fs::read_to_string(entry.unwrap().path()).unwrap();
                found.extend(label.lines().next().map(str::to_owned));
            }
        }
    }
    found.sort();
    assert_eq!(found, (1..=8).map(outline).collect::<Vec<_>>());
}

#[test]
fn statistics_come_as_table_json_csv_and_images() {
    let dir = tempfile::tempdir().unwrap();
    coco_directory(dir.path());
    let (directory, out) = (text(dir.path()), dir.path().join("stats"));
    let shown = sedet(&["data", "stats", &directory, "--output", &text(&out)]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let table = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        table.contains("2 images (0 empty), 2 boxes, 1 crowd region, 2 classes"),
        "{table}"
    );
    for name in ["statistics.png", "statistics.svg"] {
        assert!(out.join(name).metadata().unwrap().len() > 1000, "{name}");
    }
    let csv = std::fs::read_to_string(out.join("statistics.csv")).unwrap();
    assert!(
        csv.contains("\nboxes of class,dog,2\n") && csv.contains("\nboxes of size,small,2\n"),
        "{csv}"
    );
    let json: Value =
        serde_json::from_slice(&std::fs::read(out.join("statistics.json")).unwrap()).unwrap();
    let printed = sedet(&["data", "stats", &directory, "--json"]);
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(json, printed);
    assert_eq!(json["statistics"]["classes"][0]["images"], 2);
}

#[test]
fn images_are_shown_as_in_training() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir(root.join("images")).unwrap();
    // A white square in the left half; mirrored, it is on the right.
    let image = image::RgbImage::from_fn(120, 80, |x, y| {
        image::Rgb(
            [if (20..40).contains(&x) && (30..50).contains(&y) {
                255
            } else {
                0
            }; 3],
        )
    });
    image.save(root.join("images/a.png")).unwrap();
    let json = json!({
        "images": [{"id": 1, "file_name": "a.png", "width": 120, "height": 80}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 30, 20, 20]}],
        "categories": [{"id": 1, "name": "square"}],
    });
    std::fs::write(root.join("train.json"), json.to_string()).unwrap();
    let show = |name: &str, flip: &str| {
        let out = root.join(name);
        let (directory, output) = (text(root), text(&out));
        let flip = format!("augment.horizontal_flip={flip}");
        let set = [
            "--set",
            &flip,
            "--set",
            "input.min_size=80",
            "--set",
            "input.max_size=200",
        ];
        let more = [
            "--set",
            "augment.min_sizes=[]",
            "--set",
            "augment.color_jitter={}",
        ];
        let more = &more[..2];
        let done = sedet(
            &[
                &["data", "show", &directory, "--output", &output][..],
                &set,
                more,
            ]
            .concat(),
        );
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        let table = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(
            table.contains("001-a.png") && table.contains("120x80"),
            "{table}"
        );
        image::open(out.join("001-a.png")).unwrap().to_rgb8()
    };
    let bright = |shown: &image::RgbImage, x: u32| shown.get_pixel(x, 42).0[1] > 128;
    let (plain, mirrored) = (show("plain", "0.0"), show("mirrored", "1.0"));
    assert!(bright(&plain, 30) && !bright(&plain, 89));
    assert!(!bright(&mirrored, 30) && bright(&mirrored, 89));
    is_wrong_usage(
        &[
            "data",
            "show",
            &text(root),
            "--output",
            "x",
            "--set",
            "augment.flip=1",
        ],
        &["augment.flip"],
    );
}

#[test]
#[ignore = "needs SEDET_REAL_DATA"]
fn real_data_survives_every_format() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["bccd", "coco_real"] {
        let original = DatasetFiles::find(&real_data(name))
            .unwrap()
            .read()
            .unwrap();
        for &other in FORMATS.iter().filter(|other| other.key() != "coco") {
            let there = write(
                &original,
                other,
                &dir.path().join(format!("{name} {other}")),
            );
            for (there, original) in there.splits.iter().zip(&original.splits) {
                assert_same(&content(&there.store), &content(&original.store));
            }
        }
    }
}

#[test]
fn names_divide_one_file_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    let (mut images, mut boxes) = (Vec::new(), Vec::new());
    for id in 0..10u8 {
        let split = if id < 8 { "train" } else { "val" };
        let name = format!("images/{split}/{id}.png");
        image_of(10 * id + 1, &root.join(&name));
        images.push(json!({"id": id, "file_name": name, "width": 64, "height": 48}));
        boxes.push(
            json!({"id": id, "image_id": id, "category_id": 1, "bbox": [2, 3, 20, 10],
            "area": 200, "iscrowd": 0}),
        );
    }
    let file = root.join("annotations.json");
    let document = json!({"images": images, "annotations": boxes,
        "categories": [{"id": 1, "name": "cat"}]});
    fs::write(&file, document.to_string()).unwrap();
    let counts = |path: &Path| -> Vec<(Split, usize)> {
        let read = DatasetFiles::find(path).unwrap().read().unwrap();
        let splits = read.splits.iter();
        splits
            .map(|read| (read.split, read.store.image_count()))
            .collect()
    };
    let divided = [(Split::Train, 8), (Split::Val, 2)];
    for (at, given) in [&root, &file].into_iter().enumerate() {
        let shown = text(given);
        assert_eq!(counts(given), divided);
        let checked = sedet(&["data", "check", &shown, "--json"]);
        assert_eq!(checked.status.code(), Some(0), "{checked:?}");
        let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
        let report = report.to_string();
        for counted in ["\"images\":8", "\"images\":2"] {
            assert!(report.contains(counted), "{report}");
        }
        let name = DatasetName::parse(&shown).unwrap();
        let (train, val) = name.open(None).unwrap();
        let images = [train, val].map(|split| split.dataset.store().image_count());
        assert_eq!(images, [8, 2]);
        for to in ["yolo", "coco"] {
            let output = dir.path().join(format!("{to}{at}"));
            succeeds(&[
                "data",
                "convert",
                &shown,
                "--to",
                to,
                "--output",
                &text(&output),
            ]);
            assert_eq!(counts(&output), divided);
        }
        let output = dir.path().join(format!("split{at}"));
        let said = succeeds(&[
            "data",
            "split",
            &shown,
            "--output",
            &text(&output),
            "--val",
            "0.5",
        ]);
        assert!(said.contains("train, val are joined"), "{said}");
        assert_eq!(counts(&output), [(Split::Train, 5), (Split::Val, 5)]);
        let fixed = text(&dir.path().join("fixed.json"));
        is_wrong_usage(
            &["data", "check", &shown, "--fix", &fixed],
            &[
                "divide it into splits, and --fix writes one",
                "hint: ",
                "data convert",
            ],
        );
    }
}
