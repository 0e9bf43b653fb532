//! Consistency of training and the checker on the same files: what the checker passes without errors, a strict read
//! accepts, for the formats with other files than JSON. For files in other capitals than in the annotations, the
//! reverse holds, too, and in every format.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{CheckOptions, Diagnostics, Severity, check_dataset, compare_splits};
use crate::annotations::format::{
    AnnotatedDataset, DatasetFiles, Dropped, Format, Reader, SplitAnnotations,
};
use crate::annotations::formats::FORMATS;
use crate::annotations::layout::Split;
use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};
use crate::boxes::ImageSize;
use crate::curation::convert::{Images, write_dataset};
use crate::datasets::detection::{DetectionDataset, TargetFilter};

fn dataset(directory: &Path) -> AnnotatedDataset {
    dataset_of(directory, [1..3, 3..4])
}

/// Images of 12x9 pixels with these ids in train and val, each with two boxes.
fn dataset_of(directory: &Path, [train, val]: [std::ops::Range<u64>; 2]) -> AnnotatedDataset {
    let split = |split, ids: std::ops::Range<u64>| {
        let mut builder = AnnotationStoreBuilder::new();
        for (id, name) in [(1, "cat"), (2, "traffic light")] {
            builder.add_category(id, name);
        }
        for image_id in ids {
            let name = format!("img{image_id}.png");
            image::RgbImage::from_pixel(12, 9, image::Rgb([image_id as u8; 3]))
                .save(directory.join(&name))
                .unwrap();
            builder.add_image(image_id, &name, ImageSize::new(9, 12));
            for category_id in [1, 2] {
                builder.add_annotation(NewAnnotation {
                    id: image_id * 10 + category_id,
                    image_id,
                    category_id,
                    xywh: [1.5, 2.0, 3.0, category_id as f32],
                    area: None,
                    is_crowd: false,
                });
            }
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
    AnnotatedDataset {
        format: FORMATS[0],
        splits: vec![split(Split::Train, train), split(Split::Val, val)],
    }
}

/// Lists the files below a directory that are not images.
fn texts(directory: &Path) -> Vec<PathBuf> {
    let mut found = files_within(directory);
    found.retain(|path| path.extension().is_some_and(|extension| extension != "png"));
    found
}

fn files_within(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_within(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy_tree(from: &Path, to: &Path) {
    for file in files_within(from) {
        let copy = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(file, copy).unwrap();
    }
}

fn in_random_capitals(path: &Path, rng: &mut ChaCha8Rng) -> PathBuf {
    let name = path.file_name().unwrap().to_str().unwrap();
    let name = name.chars().map(|character| match rng.random_bool(0.3) {
        true if character.is_lowercase() => character.to_ascii_uppercase(),
        true => character.to_ascii_lowercase(),
        false => character,
    });
    path.with_file_name(name.collect::<String>())
}

/// Opens all images of a dataset as training does.
fn can_be_trained_on(format: Format, root: &Path) -> Result<(), String> {
    let read = DatasetFiles::of_format(format, root).and_then(|found| found.read());
    for split in read.map_err(|error| error.to_string())?.splits {
        let dataset = DetectionDataset::in_directory(split.store, split.image_root);
        let usable = dataset.training_images(TargetFilter::default());
        usable.map_err(|error| error.to_string())?;
        for index in 0..dataset.len() {
            let image = dataset.load_image(index);
            image.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

#[test]
fn files_in_other_capitals_are_passed_by_the_checker_if_and_only_if_they_can_be_trained_on() {
    const MUTATIONS: usize = 120;
    let mut rng = ChaCha8Rng::seed_from_u64(19);
    let dir = tempfile::tempdir().unwrap();
    let original = dataset(dir.path());
    for &format in FORMATS {
        let written = dir.path().join(format.key());
        let mut goes_on = |_, _| ControlFlow::Continue(());
        write_dataset(&original, format, Images::Copy, &written, &mut goes_on).unwrap();
        let (mut passed, mut refused) = (0, 0);
        for _ in 0..MUTATIONS {
            let copy = tempfile::tempdir().unwrap();
            let root = copy.path();
            copy_tree(&written, root);
            let mut done = Vec::new();
            for _ in 0..rng.random_range(1..4) {
                let mut files = files_within(root);
                // The images, and the files of their annotations.
                files.retain(|path| {
                    let name = path.file_name().unwrap().to_str().unwrap();
                    name.to_lowercase().starts_with("img")
                });
                let Some(file) = files.choose(&mut rng) else {
                    break;
                };
                let other = in_random_capitals(file, &mut rng);
                let what = rng.random_range(0..5);
                match what {
                    0 => std::fs::remove_file(file).unwrap(),
                    1 => _ = std::fs::copy(file, &other).unwrap(),
                    _ => std::fs::rename(file, &other).unwrap(),
                }
                done.push((what, file.clone(), other));
            }
            let is_passed = is_passed_and_can_be_trained_on(format, root, &done);
            passed += usize::from(is_passed);
            refused += usize::from(!is_passed);
        }
        assert!(
            passed > MUTATIONS / 20 && refused > MUTATIONS / 20,
            "{format}: {passed} {refused}"
        );
    }
}

/// Returns whether the checker passes a dataset, after comparing that with whether it can be trained on. `done` is what
/// was changed, for the message.
fn is_passed_and_can_be_trained_on(format: Format, root: &Path, done: &dyn fmt::Debug) -> bool {
    let mut diagnostics = Diagnostics::default();
    let checked = DatasetFiles::of_format(format, root).and_then(|found| {
        let options = CheckOptions { images: true };
        let splits = found.split_names();
        check_dataset(&found, &splits, options, &mut diagnostics, &|_, _| {})
    });
    let is_passed = checked.is_ok() && diagnostics.count(Severity::Error) == 0;
    let trained = can_be_trained_on(format, root);
    assert_eq!(
        is_passed,
        trained.is_ok(),
        "{format}: {done:?}: {trained:?}, {checked:?}, {diagnostics:?}"
    );
    is_passed
}

/// Changes all boxes of COCO JSON or CSV with a function of `[x, y, width, height]`; None for other files.
fn with_boxes(path: &Path, change: fn([f64; 4]) -> [f64; 4]) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    if path.extension()? == "json" {
        let mut document: serde_json::Value = serde_json::from_str(&text).ok()?;
        for object in document["annotations"].as_array_mut()? {
            let numbers: [f64; 4] = serde_json::from_value(object["bbox"].clone()).ok()?;
            object["bbox"] = serde_json::json!(change(numbers));
        }
        return Some(document.to_string());
    }
    if path.extension()? != "csv" {
        return None;
    }
    let mut lines = text.lines().map(str::to_owned);
    let mut changed = vec![lines.next()?];
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let numbers: Option<Vec<f64>> = fields[4..].iter().map(|n| n.parse().ok()).collect();
        let [x1, y1, x2, y2]: [f64; 4] = numbers?.try_into().ok()?;
        let [x, y, w, h] = change([x1, y1, x2 - x1, y2 - y1]);
        let corners = [x, y, x + w, y + h].map(|number| number.to_string());
        changed.push(format!("{},{}", fields[..4].join(","), corners.join(",")));
    }
    Some(changed.join("\n"))
}

/// Changes a file of a dataset in one of the ways of damaged exports, and describes it.
fn damage(file: &Path, rng: &mut ChaCha8Rng) -> Option<&'static str> {
    let is_image = file.extension()? == "png";
    let bytes = std::fs::read(file).unwrap();
    let is_json = file.extension()? == "json";
    let (what, damaged) = match rng.random_range(0..7) {
        // As sizes, the corners of the larger boxes exceed the image.
        0 if is_json => (
            "corners",
            with_boxes(file, |[x, y, w, h]| {
                [x + 6.0, y + 3.0, x + 6.0 + w, y + 3.0 + h]
            })?
            .into_bytes(),
        ),
        1 => (
            "fractions",
            with_boxes(file, |[x, y, w, h]| [x / 12.0, y / 9.0, w / 12.0, h / 9.0])?.into_bytes(),
        ),
        2 if !is_image => {
            std::fs::remove_file(file).unwrap();
            return Some("missing");
        }
        3 if is_image => (
            "broken image",
            bytes[..rng.random_range(0..bytes.len())].to_vec(),
        ),
        4 if is_image => ("no image", b"<html>".to_vec()),
        5 if !is_image => ("byte order mark", [b"\xef\xbb\xbf", &bytes[..]].concat()),
        6 if !is_image => {
            let text = format!("\u{feff}{}", String::from_utf8(bytes).ok()?);
            let units = text.encode_utf16().flat_map(u16::to_le_bytes);
            ("UTF-16", units.collect())
        }
        _ => return None,
    };
    std::fs::write(file, damaged).unwrap();
    Some(what)
}

#[test]
fn damaged_exports_are_passed_by_the_checker_if_and_only_if_they_can_be_trained_on() {
    const MUTATIONS: usize = 150;
    let mut rng = ChaCha8Rng::seed_from_u64(20);
    let dir = tempfile::tempdir().unwrap();
    // Enough boxes to tell in which convention they are.
    let original = dataset_of(dir.path(), [1..9, 9..16]);
    for &format in FORMATS {
        let written = dir.path().join(format.key());
        let mut goes_on = |_, _| ControlFlow::Continue(());
        write_dataset(&original, format, Images::Copy, &written, &mut goes_on).unwrap();
        let (mut passed, mut refused) = (0, 0);
        for _ in 0..MUTATIONS {
            let copy = tempfile::tempdir().unwrap();
            let root = copy.path();
            copy_tree(&written, root);
            let mut done = Vec::new();
            while done.is_empty() {
                let files = files_within(root);
                let file = files.choose(&mut rng).unwrap();
                done.extend(damage(file, &mut rng).map(|what| (what, file.clone())));
            }
            let is_passed = is_passed_and_can_be_trained_on(format, root, &done);
            passed += usize::from(is_passed);
            refused += usize::from(!is_passed);
        }
        assert!(
            passed > MUTATIONS / 20 && refused > MUTATIONS / 20,
            "{format}: {passed} {refused}"
        );
    }
}

fn mutate(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    const WORDS: [&str; 14] = [
        "-1", "0", "nan", "1e39", "99", "0.5", "cat", "", " ", "\n", ",", "<", "\"", "\u{feff}",
    ];
    let text = String::from_utf8_lossy(bytes).into_owned();
    let is_break = |c: char| c.is_whitespace() || matches!(c, ',' | '<' | '>' | ':');
    match rng.random_range(0..5) {
        0 => bytes[..rng.random_range(0..bytes.len())].to_vec(),
        1 => {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.remove(rng.random_range(0..lines.len()));
            lines.join("\n").into_bytes()
        }
        2 => {
            let mut bytes = bytes.to_vec();
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
            bytes
        }
        _ => {
            let words: Vec<&str> = text
                .split(is_break)
                .filter(|word| !word.is_empty())
                .collect();
            let (Some(word), Some(with)) = (words.choose(rng), WORDS.choose(rng)) else {
                return Vec::new();
            };
            text.replacen(word, with, rng.random_range(1..3))
                .into_bytes()
        }
    }
}

#[test]
fn what_the_checker_passes_training_accepts_in_every_format() {
    const MUTATIONS: usize = 250;
    let mut rng = ChaCha8Rng::seed_from_u64(18);
    let dir = tempfile::tempdir().unwrap();
    let original = dataset(dir.path());
    for &format in FORMATS {
        if matches!(format.reader(), Reader::CocoJson) {
            continue;
        }
        let root = dir.path().join(format.key());
        let mut goes_on = |_, _| ControlFlow::Continue(());
        write_dataset(&original, format, Images::Copy, &root, &mut goes_on).unwrap();
        let files = texts(&root);
        // Without any of these outcomes the test would show nothing.
        let (mut passed, mut refused) = (0, 0);
        for _ in 0..MUTATIONS {
            let file = files.choose(&mut rng).unwrap();
            let whole = std::fs::read(file).unwrap();
            let mutated = mutate(&whole, &mut rng);
            std::fs::write(file, &mutated).unwrap();
            let shown = || format!("{}\n{}", file.display(), String::from_utf8_lossy(&mutated));
            let mut diagnostics = Diagnostics::default();
            let checked = DatasetFiles::of_format(format, &root).and_then(|found| {
                let options = CheckOptions { images: true };
                let splits = found.split_names();
                check_dataset(&found, &splits, options, &mut diagnostics, &|_, _| {})
            });
            let read = DatasetFiles::of_format(format, &root).and_then(|found| found.read());
            if checked.is_ok() && diagnostics.count(Severity::Error) == 0 {
                passed += 1;
                if let Err(error) = read {
                    panic!("{error}\n{}", shown());
                }
            } else {
                refused += 1;
            }
            std::fs::write(file, &whole).unwrap();
        }
        assert!(
            passed > MUTATIONS / 20 && refused > MUTATIONS / 20,
            "{format}: {passed} {refused}"
        );
    }
}

#[test]
fn a_test_split_that_is_val_is_a_warning_and_one_that_is_train_an_error() {
    for (test, key, errors) in [("val", "test-is-val", 0), ("train", "leak-same-split", 1)] {
        let dir = tempfile::tempdir().unwrap();
        for (at, name) in ["train/1", "train/2", "val/3", "val/4"].iter().enumerate() {
            let image = dir.path().join(format!("images/{name}.png"));
            let label = dir.path().join(format!("labels/{name}.txt"));
            for path in [&image, &label] {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            }
            let gray = image::Rgb([40 * at as u8; 3]);
            image::RgbImage::from_pixel(12, 9, gray)
                .save(image)
                .unwrap();
            std::fs::write(label, "0 0.5 0.5 0.5 0.5\n").unwrap();
        }
        let yaml =
            format!("names: [cat]\ntrain: images/train\nval: images/val\ntest: images/{test}\n");
        std::fs::write(dir.path().join("data.yaml"), yaml).unwrap();
        let mut diagnostics = Diagnostics::default();
        let found = DatasetFiles::find(dir.path()).unwrap();
        let options = CheckOptions { images: false };
        let checked = check_dataset(&found, &Split::ALL, options, &mut diagnostics, &|_, _| {});
        compare_splits(&checked.unwrap(), &[], &mut diagnostics);
        let keys: Vec<&str> = diagnostics.groups().map(|(kind, _)| kind.key()).collect();
        assert_eq!(keys, [key]);
        assert_eq!(diagnostics.count(Severity::Error), errors);
        let details: Vec<&str> = diagnostics
            .groups()
            .flat_map(|(_, group)| group.kept.iter().map(|found| found.detail.as_str()))
            .collect();
        let expected = match test {
            "val" => "the 2 images of val",
            _ => "the 2 images of train; leave test out",
        };
        assert_eq!(details, [expected]);
    }
}

#[test]
fn masks_beside_the_images_of_yolo_are_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["images", "labels"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("classes.txt"), "cat\n").unwrap();
    let place = |name: &str| dir.path().join("images").join(name);
    for at in 0..3 {
        let photograph = image::RgbImage::from_fn(40, 30, |x, y| {
            let noise = (x * 37 + y * 91 + at * 7) % 23;
            image::Rgb([x * 5 + noise, y * 7 + noise, 200 - x - y].map(|value| value as u8))
        });
        photograph.save(place(&format!("{at}.jpg"))).unwrap();
        let mask = image::RgbImage::new(40, 30);
        mask.save(place(&format!("{at}_mask.png"))).unwrap();
        let label = dir.path().join(format!("labels/{at}.txt"));
        std::fs::write(label, "0 0.5 0.5 0.5 0.5\n").unwrap();
    }
    let mut diagnostics = Diagnostics::default();
    let found = DatasetFiles::find(dir.path()).unwrap();
    let options = CheckOptions { images: true };
    let checked = check_dataset(
        &found,
        &[Split::Train],
        options,
        &mut diagnostics,
        &|_, _| {},
    );
    compare_splits(&checked.unwrap(), &[], &mut diagnostics);
    let about_masks = diagnostics.groups().flat_map(|(kind, group)| {
        let examples = group.kept.iter();
        let text = examples.map(|found| format!("{:?} {}", found.file, found.detail));
        text.map(|text| (kind.key(), text)).collect::<Vec<_>>()
    });
    let about_masks = about_masks.filter(|(_, text)| text.contains("_mask.png"));
    let about_masks: Vec<(&str, String)> = about_masks.collect();
    let [(key, text)] = about_masks.as_slice() else {
        panic!("{about_masks:?}");
    };
    assert_ne!(*key, "image-not-listed");
    assert!(text.contains("3 masks"), "{text}");
}

#[test]
fn an_image_in_val_and_test_is_a_warning_and_one_in_train_and_test_an_error() {
    for (of, key, errors) in [
        ("val/3", "test-in-val", 0),
        ("train/1", "leak-same-file", 1),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let names = ["train/1", "train/2", "val/3", "val/4", "test/5", "test/6"];
        for (at, name) in names.iter().enumerate() {
            let image = dir.path().join(format!("images/{name}.png"));
            let label = dir.path().join(format!("labels/{name}.txt"));
            for path in [&image, &label] {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            }
            // Stripes of another width each, so that none are near-duplicates.
            let stripe = |x: u32, y: u32| ((x / (at as u32 + 1) + y * at as u32) % 3) as u8 * 90;
            image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([stripe(x, y); 3]))
                .save(image)
                .unwrap();
            std::fs::write(label, "0 0.5 0.5 0.5 0.5\n").unwrap();
        }
        let copied = dir.path().join(format!("images/{of}.png"));
        std::fs::copy(copied, dir.path().join("images/test/6.png")).unwrap();
        let yaml = "names: [cat]\ntrain: images/train\nval: images/val\ntest: images/test\n";
        std::fs::write(dir.path().join("data.yaml"), yaml).unwrap();
        let mut diagnostics = Diagnostics::default();
        let found = DatasetFiles::find(dir.path()).unwrap();
        let options = CheckOptions { images: true };
        let checked = check_dataset(&found, &Split::ALL, options, &mut diagnostics, &|_, _| {});
        compare_splits(&checked.unwrap(), &[], &mut diagnostics);
        let keys: Vec<&str> = diagnostics.groups().map(|(kind, _)| kind.key()).collect();
        assert!(keys.contains(&key), "{keys:?}");
        assert_eq!(diagnostics.count(Severity::Error), errors);
    }
}
