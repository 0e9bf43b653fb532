//! Classification datasets: the layouts of the official ones and directories of classes, compared
//! with the results of torchvision and NumPy on the same files (`tests/oracle/labeled_data.py`).

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sedet::annotations::layout::Split;
use sedet::datasets::cifar::{CifarFiles, CifarVariant};
use sedet::datasets::imagenet_classes::imagenet_classes;
use sedet::datasets::labeled::LabeledDataset;
use sedet::datasets::registry::{AnyDatasetName, DatasetName, LabeledName};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{fixture_path, real_data};

fn fixture(name: &str) -> PathBuf {
    fixture_path("labeled").join(name)
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap()
}

/// Creates empty files: the lists are built without opening an image.
fn tree<S: AsRef<str>>(files: &[S]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        write(dir.path(), file.as_ref(), b"");
    }
    dir
}

fn write(root: &Path, file: &str, content: &[u8]) {
    let path = root.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn parse(root: &Path) -> LabeledName {
    LabeledName::parse(&text(root)).unwrap_or_else(|| panic!("{}: not recognized", root.display()))
}

fn open(root: &Path, split: Split) -> LabeledDataset {
    parse(root).open_split(split, None).unwrap()
}

fn error(root: &Path, split: Split) -> String {
    let error = parse(root).open_split(split, None).unwrap_err().to_string();
    assert!(
        !error.contains('\n') && error.contains(&text(root)),
        "{error}"
    );
    error
}

/// Returns paths relative to the root, with their labels.
fn samples(root: &Path, dataset: &LabeledDataset) -> Vec<(String, usize)> {
    (0..dataset.len())
        .map(|index| {
            let path = PathBuf::from(dataset.describe(index));
            let path = text(path.strip_prefix(root).unwrap()).replace('\\', "/");
            (path, dataset.label(index))
        })
        .collect()
}

fn paths(root: &Path, dataset: &LabeledDataset) -> Vec<String> {
    let samples = samples(root, dataset);
    samples.into_iter().map(|(path, _)| path).collect()
}

#[test]
fn classes_and_images_are_those_of_torchvisions_image_directory() {
    let expected = &expected()["image_folder"];
    let files: Vec<&str> = strings(&expected["files"]);
    let all: Vec<(String, usize)> = expected["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sample| {
            let label = sample[1].as_u64().unwrap() as usize;
            (sample[0].as_str().unwrap().to_owned(), label)
        })
        .collect();
    let inside = |split| files.iter().map(move |file| format!("{split}/{file}"));
    for val in ["val", "valid", "validation", "test"] {
        let dir = tree(&inside("train").chain(inside(val)).collect::<Vec<_>>());
        for (split, name) in [(Split::Train, "train"), (Split::Val, val)] {
            let dataset = open(dir.path(), split);
            assert_eq!(dataset.class_names(), strings(&expected["classes"]));
            assert_eq!(samples(&dir.path().join(name), &dataset), all);
            let joined = format!(
                "{}: images of Ant, Ant/sub, Ant/sub-2 joined as class Ant",
                dir.path().join(name).display()
            );
            let mut notes = vec![joined];
            if (split, val) == (Split::Val, "test") {
                notes.push("no val directory: test is used".to_owned());
            }
            assert_eq!(dataset.notes(), notes);
        }
    }
}

fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|text| text.as_str().unwrap()).collect()
}

/// Python's `int.from_bytes(sha256(path).digest()[:8], "big") % 10 == 0` over the paths below.
const HELD_OUT_OF_600: usize = 75;
const FIRST_HELD_OUT: &str = "cat/108.jpg";

#[test]
fn without_a_val_directory_a_tenth_is_held_out_and_stays_the_same() {
    let files: Vec<String> = (0..600)
        .map(|index| format!("{}/{index}.jpg", ["cat", "dog", "owl"][index % 3]))
        .collect();
    let mut before: Option<Vec<String>> = None;
    for prefix in ["", "train/"] {
        let prefixed: Vec<String> = files.iter().map(|file| format!("{prefix}{file}")).collect();
        let dir = tree(&prefixed);
        let root = dir.path().join(prefix);
        let (train, val) = parse(dir.path()).open(None).unwrap();
        assert_eq!(train.class_names(), ["cat", "dog", "owl"]);
        let held_out = paths(&root, &val);
        assert_eq!(held_out.len(), HELD_OUT_OF_600);
        assert_eq!(held_out[0], FIRST_HELD_OUT);
        let mut all = [held_out.clone(), paths(&root, &train)].concat();
        all.sort();
        let mut whole = files.clone();
        whole.sort();
        assert_eq!(all, whole);
        let note = format!("no val directory: {HELD_OUT_OF_600} of 600 images held out");
        assert_eq!(val.notes(), [note]);
        assert!(train.notes().is_empty());
        // The split is independent of the layout, and additional images do not change it for the
        // others.
        write(&root, "cat/new.jpg", b"");
        let again = paths(&root, &open(dir.path(), Split::Val));
        assert!(held_out.iter().all(|path| again.contains(path)));
        assert!(before.is_none_or(|before| before == held_out));
        before = Some(held_out);
        assert!(error(dir.path(), Split::Test).contains("no test directory"));
    }
}

#[test]
fn copies_of_an_image_are_held_out_together() {
    let dir = tempfile::tempdir().unwrap();
    for index in 0..120 {
        // Every image from 60 on is a copy of one of another class.
        let content = format!("{}", index % 60);
        let class = ["cat", "dog", "owl"][(index + index / 60) % 3];
        write(
            dir.path(),
            &format!("{class}/{index}.jpg"),
            content.as_bytes(),
        );
    }
    let (train, val) = parse(dir.path()).open(None).unwrap();
    let numbers = |dataset: &LabeledDataset| -> Vec<usize> {
        let paths = paths(dir.path(), dataset).into_iter();
        let names = paths.map(|path| path[4..].trim_end_matches(".jpg").to_owned());
        names.map(|name| name.parse().unwrap()).collect()
    };
    let (train, held_out) = (numbers(&train), numbers(&val));
    assert!((4..30).contains(&held_out.len()), "{held_out:?}");
    assert!(
        held_out
            .iter()
            .all(|index| held_out.contains(&((index + 60) % 120)))
    );
    assert_eq!(train.len() + held_out.len(), 120);
    let note = format!(
        "no val directory: {} of 120 images held out, 60 images with the content of another on the side of that",
        held_out.len()
    );
    assert!(val.notes().contains(&note), "{:?}", val.notes());
    write(dir.path(), "Cat/x.jpg", b"x");
    write(dir.path(), "Cat/y.jpg", b"y");
    let (train, _) = parse(dir.path()).open(None).unwrap();
    let alike = train
        .notes()
        .iter()
        .find(|note| note.contains("differ only in capitals"));
    assert!(
        alike.is_some_and(|note| note.ends_with("Cat and cat")),
        "{:?}",
        train.notes()
    );
}

#[test]
fn images_of_formats_that_are_not_supported_are_counted_in_a_note() {
    let dir = tree(&[
        "train/a/1.jfif",
        "train/a/2.ppm",
        "train/a/3.avif",
        "train/b/1.JPE",
        "train/b/deep/2.jp2",
        "train/b/3.AVIF",
        "val/a/1.mpo",
        "val/b/1.pgm",
    ]);
    let train = open(dir.path(), Split::Train);
    assert_eq!(train.class_counts(), [2, 1]);
    let directory = dir.path().join("train");
    let note = format!(
        "{}: skipped 3 images in formats that are not supported (.avif: 2, .jp2: 1)",
        directory.display()
    );
    assert_eq!(train.notes(), [note]);
    assert!(open(dir.path(), Split::Val).notes().is_empty());
}

#[test]
fn a_small_directory_keeps_an_image_of_every_class_and_holds_one_out() {
    for count in [2, 3, 5, 8] {
        let files = (0..count).flat_map(|i| [format!("a/{i}.png"), format!("b/{count}{i}.png")]);
        let dir = tree(&files.chain(["c/only.png".into()]).collect::<Vec<_>>());
        let (train, val) = parse(dir.path()).open(None).unwrap();
        assert!(train.class_counts().iter().all(|count| *count > 0));
        assert!(!val.is_empty() && train.len() + val.len() == 2 * count + 1);
    }
}

#[test]
fn unsuitable_directories_are_reported_with_the_reason() {
    let train = ["train/a/1.jpg", "train/b/1.jpg"];
    let dir = tree(&[&train[..], &["val/a/1.jpg", "val/c/1.jpg"]].concat());
    let message = error(dir.path(), Split::Val);
    assert!(
        message.contains("only in val: c; only in train: b"),
        "{message}"
    );

    let dir = tree(&[&train[..], &["train/empty/.hidden.jpg", "val/a/1.jpg"]].concat());
    let message = error(dir.path(), Split::Train);
    assert!(message.ends_with("no images in empty"), "{message}");
    let val = open(dir.path(), Split::Val);
    assert!(val.notes()[0].contains("no images of 2 of 3 classes: b, empty"));
    assert_eq!(val.class_counts(), [1, 0, 0]);

    let dir = tree(&[&train[..], &["val/1.jpg"]].concat());
    let message = error(dir.path(), Split::Train);
    assert!(
        message.contains("it contains images instead of class directories"),
        "{message}"
    );

    // Images without classes, as in the test set of a competition.
    let dir = tree(&[&train[..], &["test/1.jpg", ".git/x/1.jpg"]].concat());
    assert_eq!(open(dir.path(), Split::Train).class_names(), ["a", "b"]);

    let dir = tree(&["train/1.jpg", "bus/1.jpg", "car/1.jpg"]);
    let message = error(dir.path(), Split::Train);
    assert!(
        message.contains("train: the name of a split is not a class"),
        "{message}"
    );
}

#[test]
fn a_directory_with_boxes_is_never_detected_as_class_folders() {
    let images = [
        "train2017/1.jpg",
        "val2017/1.jpg",
        "train/a/1.jpg",
        "train/b/1.jpg",
    ];
    for annotations in [
        &["annotations/instances_train2017.json"][..],
        &[
            "annotations/instances_train_a.json",
            "annotations/instances_train_b.json",
        ],
        &["annotations/captions_val2017.json"],
        &["train/_annotations.coco.json"],
        &["instances_default.json"],
        &["train.json"],
        &["JPEGImages/1.jpg"],
    ] {
        let dir = tree(&[&images[..], annotations].concat());
        assert_eq!(
            LabeledName::parse(&text(dir.path())),
            None,
            "{annotations:?}"
        );
        let any = AnyDatasetName::parse(&text(dir.path())).unwrap();
        assert!(matches!(
            any,
            AnyDatasetName::Detection(DatasetName::Directory(_))
        ));
    }
    for files in [
        &["images/train/1.jpg", "labels/train/1.txt"][..],
        &["a/1.jpg"],
        &["a/1.txt", "b/1.txt"],
    ] {
        assert_eq!(
            LabeledName::parse(&text(tree(files).path())),
            None,
            "{files:?}"
        );
    }
}

#[test]
fn splits_under_other_names_are_no_classes_and_the_classes_below_them_are_found() {
    for [train, val] in [
        ["training_set", "test_set"],
        ["seg_train/seg_train", "seg_test/seg_test"],
        ["Train1", "Val1"],
    ] {
        let [outer_train, outer_val] = [train, val].map(|path| path.split('/').next().unwrap());
        let flat = tree(&[format!("{outer_train}/1.jpg"), format!("{outer_val}/2.jpg")]);
        assert_eq!(LabeledName::parse(&text(flat.path())), None, "{train}");
        let directories = [train, val]
            .map(|split| ["cats", "dogs"].map(|class| format!("{split}/{class}/1.jpg")));
        let dir = tree(&directories.concat());
        let (opened, held_out) = parse(dir.path()).open(None).unwrap();
        assert_eq!(opened.class_names(), ["cats", "dogs"], "{train}");
        let expected = ["cats/1.jpg", "dogs/1.jpg"];
        assert_eq!(paths(&dir.path().join(train), &opened), expected);
        assert_eq!(paths(&dir.path().join(val), &held_out), expected);
    }
    let classes = ["beaker", "flask", "funnel", "test_tube", "train_ticket"];
    let dir = tree(&classes.map(|class| format!("{class}/1.jpg")));
    assert_eq!(open(dir.path(), Split::Train).class_names(), classes);
}

#[test]
fn annotations_of_the_images_in_class_directories_are_refused_by_the_name_of_a_file() {
    let images: Vec<String> = (0..6)
        .flat_map(|i| [format!("cat/{i}.jpg"), format!("dog/{i}.jpg")])
        .collect();
    for pattern in [
        "cat/#.json",
        "dog/#.txt",
        "labelTxt/#.txt",
        "gt/#.txt",
        "#.csv",
    ] {
        let files = (0..6).map(|i| pattern.replace('#', &i.to_string()));
        let files: Vec<String> = files.collect();
        let dir = tree(&images.iter().chain(&files).cloned().collect::<Vec<_>>());
        for json in files.iter().filter(|file| file.ends_with(".json")) {
            // Other JSON beside an image, such as the facts of a photograph, is no annotation.
            write(
                dir.path(),
                json,
                br#"{"objects": [{"bbox": [0, 0, 1, 1]}]}"#,
            );
        }
        let message = error(dir.path(), Split::Train);
        let first = dir.path().join(pattern.replace('#', "0"));
        assert!(
            message.starts_with(&format!("{}: annotations beside images", text(&first))),
            "{message}"
        );
    }
    let dir = tree(&images);
    let labelme = br#"{"shapes": [], "imagePath": "0.jpg"}"#;
    for i in 0..6 {
        write(dir.path(), &format!("cat/{i}.json"), labelme);
    }
    let message = error(dir.path(), Split::Train);
    assert!(message.contains("LabelMe annotations"), "{message}");
    // Lists and a few descriptions are no annotations.
    let dir = tree(&images);
    for file in ["classes.txt", "cat/readme.txt", "dog/3.json"] {
        write(dir.path(), file, b"");
    }
    for i in 0..6 {
        write(
            dir.path(),
            &format!("cat/{i}.json"),
            br#"{"camera": "x100", "iso": 200}"#,
        );
    }
    assert_eq!(open(dir.path(), Split::Train).class_names(), ["cat", "dog"]);
}

#[test]
fn names_are_of_one_kind_and_unknown_ones_list_all() {
    for name in LabeledName::NAMES {
        let any = AnyDatasetName::parse(name).unwrap();
        let AnyDatasetName::Classification(dataset) = any else {
            panic!("{name}: {any:?}");
        };
        assert_eq!(dataset.label(), name);
        let message = DatasetName::parse(name).unwrap_err().to_string();
        assert!(message.contains("no boxes"), "{message}");
        let empty = tempfile::tempdir().unwrap();
        let opened = dataset.open_split(Split::Val, Some(empty.path()));
        let message = opened.unwrap_err().to_string();
        assert!(message.contains(&text(empty.path())), "{message}");
    }
    for name in DatasetName::NAMES {
        let any = AnyDatasetName::parse(name).unwrap();
        assert!(matches!(any, AnyDatasetName::Detection(_)));
        assert_eq!(LabeledName::parse(name), None);
    }
    let message = AnyDatasetName::parse("imagnet").unwrap_err().to_string();
    for name in LabeledName::NAMES.iter().chain(&DatasetName::NAMES) {
        assert!(message.contains(name), "{message}");
    }
}

// ImageNet.

const DEVKIT: &str = "ILSVRC2012_validation_ground_truth.txt";

/// A flat val directory with the first 50 images.
fn flat_val(root: &Path, images: &str) {
    for number in 1..=50 {
        write(
            root,
            &format!("{images}/ILSVRC2012_val_{number:08}.JPEG"),
            b"",
        );
    }
}

fn devkit_labels() -> Vec<usize> {
    let labels = expected()["devkit"]["labels"].clone();
    serde_json::from_value(labels).unwrap()
}

fn labels(dataset: &LabeledDataset) -> Vec<usize> {
    (0..dataset.len())
        .map(|index| dataset.label(index))
        .collect()
}

#[test]
fn the_official_val_images_have_the_labels_that_torchvision_gives_them() {
    for directory in ["", "devkit", "devkit/data", "ILSVRC2012_devkit_t12/data"] {
        let dir = tempfile::tempdir().unwrap();
        flat_val(dir.path(), "val");
        let numbers = std::fs::read(fixture("devkit").join(DEVKIT)).unwrap();
        write(&dir.path().join(directory), DEVKIT, &numbers);
        assert_eq!(
            parse(dir.path()),
            LabeledName::ImageNetDirectory(dir.path().into())
        );
        let val = open(dir.path(), Split::Val);
        assert_eq!(labels(&val), devkit_labels());
        assert_eq!(val.class_names().len(), 1000);
        assert!(val.notes()[0].starts_with("images of "));
        let by_name = LabeledName::ImageNet.open_split(Split::Val, Some(dir.path()));
        assert_eq!(labels(&by_name.unwrap()), devkit_labels());
    }
}

#[test]
fn lists_of_synsets_and_kaggles_table_give_the_same_labels() {
    let expected = expected();
    let synsets = strings(&expected["devkit"]["synsets"]);
    let dir = tempfile::tempdir().unwrap();
    flat_val(dir.path(), "ILSVRC/Data/CLS-LOC/val");
    write(
        dir.path(),
        "ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_10026.JPEG",
        b"",
    );
    assert!(error(dir.path(), Split::Val).contains("LOC_val_solution.csv"));
    let mut table = "ImageId,PredictionString\n".to_owned();
    for (index, synset) in synsets.iter().enumerate().rev() {
        let box_of = format!("{synset} 85 1 499 272 ");
        table += &format!(
            "ILSVRC2012_val_{:08},{}\n",
            index + 1,
            box_of.repeat(1 + index % 3)
        );
    }
    write(dir.path(), "LOC_val_solution.csv", table.as_bytes());
    assert_eq!(labels(&open(dir.path(), Split::Val)), devkit_labels());
    let train = open(dir.path(), Split::Train);
    assert_eq!((train.len(), train.label(0)), (1, 0));
    assert!(error(dir.path(), Split::Test).contains("not public"));

    let list = synsets.join("\n");
    write(
        dir.path(),
        "imagenet_2012_validation_synset_labels.txt",
        list.as_bytes(),
    );
    assert_eq!(labels(&open(dir.path(), Split::Val)), devkit_labels());
    let cut = synsets[..49].join("\n");
    write(
        dir.path(),
        "imagenet_2012_validation_synset_labels.txt",
        cut.as_bytes(),
    );
    assert!(error(dir.path(), Split::Val).contains("val_00000050.JPEG: "));
    write(
        dir.path(),
        "imagenet_2012_validation_synset_labels.txt",
        b"n01440764\nn1",
    );
    assert!(error(dir.path(), Split::Val).contains("'n1' is not one of ImageNet's 1000 synsets"));
}

#[test]
fn directories_of_synsets_are_the_whole_challenge_by_name_and_a_subset_by_path() {
    // Imagenette's first classes.
    let synsets = ["n03000684", "n01440764", "n02102040"];
    let splits = ["train", "val"].into_iter();
    let files: Vec<String> = splits
        .flat_map(|split| synsets.map(|synset| format!("{split}/{synset}/1.JPEG")))
        .collect();
    let dir = tree(&files);
    let by_name = LabeledName::ImageNet.open_split(Split::Val, Some(dir.path()));
    let by_name = by_name.unwrap();
    assert_eq!(labels(&by_name), [0, 217, 491]);
    assert_eq!(
        by_name.class_names()[217],
        "English springer, English springer spaniel"
    );
    assert_eq!(by_name.notes(), ["images of 3 of ImageNet's 1000 classes"]);
    let by_path = open(dir.path(), Split::Val);
    assert_eq!(labels(&by_path), [0, 1, 2]);
    assert_eq!(
        by_path.class_names(),
        [0, 217, 491].map(|label| imagenet_classes()[label].name)
    );
    write(dir.path(), "val/dog/1.jpg", b"");
    let opened = LabeledName::ImageNet.open_split(Split::Val, Some(dir.path()));
    let message = opened.unwrap_err().to_string();
    assert!(
        message.contains("not among ImageNet's 1000 synsets: dog"),
        "{message}"
    );
}

#[test]
fn a_number_outside_of_the_development_kits_classes_is_named_with_its_line() {
    for wrong in ["0", "1001", "n01751748"] {
        let dir = tempfile::tempdir().unwrap();
        flat_val(dir.path(), "val");
        write(dir.path(), DEVKIT, format!("490\n{wrong}\n").as_bytes());
        let message = error(dir.path(), Split::Val);
        let expected = format!("line 2: '{wrong}' is not a number from 1 to 1000");
        assert!(message.contains(&expected), "{message}");
    }
}

// Places365.

const PLACES: [(&str, &str); 4] = [
    (
        "categories_places365.txt",
        "/a/airfield 0\n/a/apartment_building/outdoor 1\n/b/bar 2\n",
    ),
    (
        "places365_train_standard.txt",
        "/b/bar/00000002.jpg 2\n/a/apartment_building/outdoor/00000001.jpg 1\n/b/bar/00000001.jpg 2\n",
    ),
    (
        "places365_train_challenge.txt",
        "/a/airfield/00009999.jpg 0\n",
    ),
    (
        "places365_val.txt",
        "Places365_val_00000001.jpg 2\nPlaces365_val_00000002.jpg 0",
    ),
];

fn places(images: &[&str]) -> TempDir {
    let dir = tree(images);
    for (file, content) in PLACES {
        write(dir.path(), file, content.as_bytes());
    }
    dir
}

#[test]
fn places365_is_read_by_its_lists() {
    for (train, val) in [
        ("data_256", "val_256"),
        ("data_large_standard", "val_large"),
    ] {
        // One of the first images is allowed to be missing.
        let dir = places(&[
            &format!("{train}/b/bar/00000001.jpg"),
            &format!("{val}/Places365_val_00000002.jpg"),
        ]);
        let (train_set, val_set) = parse(dir.path()).open(None).unwrap();
        let expected = [
            ("b/bar/00000002.jpg", 2),
            ("a/apartment_building/outdoor/00000001.jpg", 1),
            ("b/bar/00000001.jpg", 2),
        ];
        let expected = expected.map(|(path, label)| (path.to_owned(), label));
        assert_eq!(samples(&dir.path().join(train), &train_set), expected);
        assert_eq!(labels(&val_set), [2, 0]);
        assert_eq!(
            val_set.class_names(),
            ["airfield", "apartment_building/outdoor", "bar"]
        );
    }
    let dir = places(&["places365/data_256_challenge/a/airfield/00009999.jpg"]);
    let inside = dir.path().join("places365");
    for (file, content) in PLACES {
        write(&inside, file, content.as_bytes());
    }
    let challenge = LabeledName::Places365Challenge.open_split(Split::Train, Some(dir.path()));
    assert_eq!(labels(&challenge.unwrap()), [0]);
}

#[test]
fn invalid_lists_of_places365_are_reported() {
    let dir = places(&["data_256/b/bar/00000001.jpg"]);
    let message = error(dir.path(), Split::Val);
    assert!(message.contains("searched val_256, val_large"), "{message}");
    assert!(error(dir.path(), Split::Test).contains("not public"));
    for (file, content, problem) in [
        (
            "places365_train_standard.txt",
            "/b/bar/00000001.jpg 3\n",
            "line 1: the label 3",
        ),
        (
            "places365_train_standard.txt",
            "\n/../x.jpg 0\n",
            "line 2: not a path",
        ),
        (
            "places365_train_standard.txt",
            "/b/bar/00000001.jpg",
            "line 1: not a path",
        ),
        ("places365_train_standard.txt", "", "it has no images"),
        (
            "categories_places365.txt",
            "/a/airfield 1\n",
            "line 1: the number 1 where 0",
        ),
    ] {
        write(dir.path(), file, content.as_bytes());
        let message = error(dir.path(), Split::Train);
        assert!(
            message.contains(problem) && message.contains(file),
            "{message}"
        );
    }
}

#[test]
#[ignore = "needs SEDET_REAL_DATA"]
fn the_places365_list_of_real_data_has_365_scenes() {
    let list = real_data("places365/categories_places365.txt");
    let dir = places(&["val_256/Places365_val_00000001.jpg"]);
    write(
        dir.path(),
        "categories_places365.txt",
        &std::fs::read(list).unwrap(),
    );
    let val = open(dir.path(), Split::Val);
    assert_eq!(val.class_names().len(), 365);
    assert_eq!(val.class_names()[364], "zen_garden");
}

// CIFAR.

fn unpack(archive: &str, into: &Path) {
    let file = std::fs::File::open(fixture(archive)).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file)
        .read_to_end(&mut bytes)
        .unwrap();
    tar::Archive::new(bytes.as_slice()).unpack(into).unwrap();
}

/// `[label, sum of the pixels, first three bytes]` of every image, as the fixture has it.
fn described(dataset: &LabeledDataset) -> Value {
    let images = (0..dataset.len()).map(|index| {
        let image = dataset.load_image(index).unwrap();
        let sum: u64 = image.as_raw().iter().map(|byte| u64::from(*byte)).sum();
        let first: Vec<u8> = (0..3).map(|x| image.get_pixel(x, 0).0[0]).collect();
        serde_json::json!([dataset.label(index), sum, first])
    });
    images.collect()
}

#[test]
fn cifar_is_the_same_in_all_its_forms_packed_and_unpacked() {
    let expected = expected();
    for (number, name, train) in [
        (
            "10",
            "cifar10",
            (1..=5)
                .map(|i| format!("data_batch_{i}"))
                .collect::<Vec<_>>(),
        ),
        ("100", "cifar100", vec!["train".to_owned()]),
    ] {
        let expected = &expected[name];
        let train: Vec<Value> = train
            .iter()
            .flat_map(|batch| expected[batch].as_array().unwrap().clone())
            .collect();
        let test = match number {
            "10" => &expected["test_batch"],
            _ => &expected["test"],
        };
        for coding in ["binary", "python"] {
            let archive = format!("cifar-{number}-{coding}.tar.gz");
            let packed = tempfile::tempdir().unwrap();
            std::fs::copy(fixture(&archive), packed.path().join(&archive)).unwrap();
            let unpacked = tempfile::tempdir().unwrap();
            unpack(&archive, unpacked.path());
            let inner = std::fs::read_dir(unpacked.path()).unwrap().next().unwrap();
            for root in [packed.path(), unpacked.path(), &inner.unwrap().path()] {
                assert_eq!(parse(root), LabeledName::CifarDirectory(root.into()));
                let dataset = LabeledName::parse(name).unwrap();
                for (split, images) in [
                    (Split::Train, &Value::from(train.clone())),
                    (Split::Val, test),
                    (Split::Test, test),
                ] {
                    let opened = dataset.open_split(split, Some(root)).unwrap();
                    assert_eq!(&described(&opened), images, "{archive} {split}");
                    assert_eq!(opened.class_names(), strings(&expected["names"]));
                }
            }
        }
    }
}

#[test]
fn pickles_of_python_3_are_read_too() {
    let expected = expected();
    for protocol in 2..=4 {
        let dir = tempfile::tempdir().unwrap();
        unpack("cifar-10-python.tar.gz", dir.path());
        let again = fixture(&format!("protocol{protocol}/test_batch"));
        std::fs::copy(again, dir.path().join("cifar-10-batches-py/test_batch")).unwrap();
        let test = open(dir.path(), Split::Test);
        assert_eq!(described(&test), expected["cifar10"]["test_batch"]);
    }
}

#[test]
fn invalid_files_of_cifar_are_reported_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    for number in ["10", "100"] {
        let archive = format!("cifar-{number}-python.tar.gz");
        std::fs::copy(fixture(&archive), dir.path().join(&archive)).unwrap();
    }
    assert!(error(dir.path(), Split::Val).contains("both CIFAR-10 and CIFAR-100"));
    std::fs::remove_file(dir.path().join("cifar-100-python.tar.gz")).unwrap();
    let archive = dir.path().join("cifar-10-python.tar.gz");
    let whole = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    let message = error(dir.path(), Split::Train);
    assert!(message.contains("truncated or damaged"), "{message}");
    unpack("cifar-10-python.tar.gz", dir.path());
    let batch = dir.path().join("cifar-10-batches-py/test_batch");
    std::fs::write(&batch, b"cos\nsystem\n(S'true'\ntR.").unwrap();
    assert!(
        error(dir.path(), Split::Test).contains("test_batch: it lacks the 'data' and 'labels'")
    );
    std::fs::write(&batch, b"\x80\x02}q").unwrap();
    assert!(error(dir.path(), Split::Test).contains("test_batch: not a complete CIFAR pickle"));
    for batch in ["data_batch_3", "data_batch_5"] {
        std::fs::remove_file(dir.path().join("cifar-10-batches-py").join(batch)).unwrap();
    }
    let message = error(dir.path(), Split::Train);
    assert!(
        message.ends_with("no data_batch_3, data_batch_5 in it"),
        "{message}"
    );
}

#[test]
#[ignore = "needs SEDET_REAL_DATA"]
fn cifar_10_of_real_data_has_a_thousand_test_images_of_every_class() {
    let cifar10 = real_data("cifar10");
    let test = LabeledName::Cifar10
        .open_split(Split::Test, cifar10.parent())
        .unwrap();
    assert_eq!(test.class_counts(), [1000; 10]);
    assert_eq!(test.class_names()[9], "truck");
}

// Damage.

/// Flips bits, and truncates, duplicates or overwrites ranges.
fn damage(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    for _ in 0..1 + rng.next_u32() % 4 {
        if bytes.is_empty() {
            return;
        }
        // Mostly near the ends, where the headers are: the middle of a batch is pixels.
        let reach = match rng.next_u32() % 3 {
            0 => bytes.len(),
            _ => bytes.len().min(400),
        };
        let offset = rng.next_u32() as usize % reach;
        let at = match rng.next_u32() % 2 {
            0 => offset,
            _ => bytes.len() - 1 - offset,
        };
        let end = (at + 1 + rng.next_u32() as usize % 16).min(bytes.len());
        match rng.next_u32() % 6 {
            0 => bytes.truncate(at),
            1 => bytes[at..end].fill(0),
            2 => bytes[at..end].fill(0xFF),
            3 => bytes.extend_from_within(at..end),
            4 => bytes[at] = rng.next_u32() as u8,
            _ => bytes[at] ^= 1 << (rng.next_u32() % 8),
        }
    }
}

/// Reads the files and ignores errors.
type Reader = Box<dyn Fn() + std::panic::RefUnwindSafe>;

/// Runs briefly; `SEDET_FUZZ_SECONDS` sets a longer time.
#[test]
fn no_damage_to_a_file_makes_the_readers_panic() {
    let seconds = std::env::var("SEDET_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1.0);
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    flat_val(&root.join("imagenet"), "val");
    let truth = std::fs::read(fixture("devkit").join(DEVKIT)).unwrap();
    write(
        root,
        "imagenet/ILSVRC2012_validation_ground_truth.txt",
        &truth,
    );
    flat_val(&root.join("kaggle"), "val");
    let table = "ImageId,PredictionString\nILSVRC2012_val_00000001,n01751748 1 2 3 4\n";
    write(root, "kaggle/LOC_val_solution.csv", table.as_bytes());
    write(root, "places365/val_256/Places365_val_00000001.jpg", b"");
    for (file, content) in PLACES {
        write(&root.join("places365"), file, content.as_bytes());
    }
    for archive in ["cifar-10-python", "cifar-100-python", "cifar-100-binary"] {
        unpack(&format!("{archive}.tar.gz"), &root.join("cifar"));
    }
    let packed = std::fs::read(fixture("cifar-10-python.tar.gz")).unwrap();
    write(root, "packed/cifar-10-python.tar.gz", &packed);
    for protocol in 2..=4 {
        let directory = format!("protocol{protocol}/cifar-10-batches-py");
        let batch = std::fs::read(fixture(&format!("protocol{protocol}/test_batch"))).unwrap();
        write(root, &format!("{directory}/test_batch"), &batch);
        let names = std::fs::read(root.join("cifar/cifar-10-batches-py/batches.meta")).unwrap();
        write(root, &format!("{directory}/batches.meta"), &names);
    }
    let cifar = |directory: &str, variant| {
        let directory = root.join(directory);
        move || {
            if let Some(files) = CifarFiles::find(&directory, variant) {
                files.open(Split::Test).map(drop).map_err(drop).ok();
            }
        }
    };
    let named = |directory: &str, name: LabeledName| {
        let directory = root.join(directory);
        move || drop(name.open_split(Split::Val, Some(&directory)))
    };
    let (ten, hundred) = (CifarVariant::Cifar10, CifarVariant::Cifar100);
    let cases: Vec<(&str, Reader)> = vec![
        (
            "imagenet/ILSVRC2012_validation_ground_truth.txt",
            Box::new(named("imagenet", LabeledName::ImageNet)),
        ),
        (
            "kaggle/LOC_val_solution.csv",
            Box::new(named("kaggle", LabeledName::ImageNet)),
        ),
        (
            "places365/places365_val.txt",
            Box::new(named("places365", LabeledName::Places365)),
        ),
        (
            "places365/categories_places365.txt",
            Box::new(named("places365", LabeledName::Places365)),
        ),
        (
            "cifar/cifar-10-batches-py/test_batch",
            Box::new(cifar("cifar", ten)),
        ),
        (
            "cifar/cifar-10-batches-py/batches.meta",
            Box::new(cifar("cifar", ten)),
        ),
        (
            "cifar/cifar-100-python/test",
            Box::new(cifar("cifar/cifar-100-python", hundred)),
        ),
        (
            "cifar/cifar-100-python/meta",
            Box::new(cifar("cifar/cifar-100-python", hundred)),
        ),
        (
            "cifar/cifar-100-binary/test.bin",
            Box::new(cifar("cifar", hundred)),
        ),
        (
            "packed/cifar-10-python.tar.gz",
            Box::new(cifar("packed", ten)),
        ),
        (
            "protocol2/cifar-10-batches-py/test_batch",
            Box::new(cifar("protocol2", ten)),
        ),
        (
            "protocol3/cifar-10-batches-py/test_batch",
            Box::new(cifar("protocol3", ten)),
        ),
        (
            "protocol4/cifar-10-batches-py/test_batch",
            Box::new(cifar("protocol4", ten)),
        ),
    ];
    let whole: BTreeMap<&str, Vec<u8>> = cases
        .iter()
        .map(|(file, _)| (*file, std::fs::read(root.join(file)).unwrap()))
        .collect();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let start = std::time::Instant::now();
    let mut round = 0;
    // The first rounds are run regardless of the time, so that the test always checks something.
    while round < 4 * cases.len() || start.elapsed().as_secs_f64() < seconds {
        let (file, read) = &cases[round % cases.len()];
        let mut bytes = whole[file].clone();
        damage(&mut bytes, &mut rng);
        std::fs::write(root.join(file), &bytes).unwrap();
        if std::panic::catch_unwind(read).is_err() {
            let kept = std::env::temp_dir().join("sedet-damaged-data");
            std::fs::write(&kept, &bytes).unwrap();
            panic!(
                "round {round}, {file}: the reader panicked; see {}",
                kept.display()
            );
        }
        std::fs::write(root.join(file), &whole[file]).unwrap();
        round += 1;
    }
    eprintln!("{round} damaged files");
}
