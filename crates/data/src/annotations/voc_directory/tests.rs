use super::*;
use crate::annotations::format::DatasetFiles;
use crate::boxes::ImageSize;
use crate::curation::check::{CheckOptions, Diagnostics, check_dataset};
use std::fs;

const OBJECTS: &str = "<object><name>cat</name><difficult>1</difficult>
        <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>8</ymax></bndbox></object>
        <object><name>dog</name>
        <bndbox><xmin>5</xmin><ymin>2</ymin><xmax>5</xmax><ymax>8</ymax></bndbox></object>
        <object><name>dog</name>
        <bndbox><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></object>";

fn annotation(width: u32, height: u32, objects: &str) -> String {
    format!(
        "<annotation><filename>a</filename><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>"
    )
}

/// Creates a directory with two images of 12x9: `b` in train, `a` in train and val.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let mut image = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(12, 9)
        .write_to(&mut image, image::ImageFormat::Jpeg)
        .unwrap();
    for name in ["a", "b"] {
        put(&format!("JPEGImages/{name}.jpg"), image.get_ref());
    }
    put("Annotations/a.xml", annotation(12, 9, OBJECTS).as_bytes());
    // Some tools write 0 for the size.
    put("Annotations/b.xml", annotation(0, 0, "").as_bytes());
    put("ImageSets/Main/train.txt", b"b  1\r\na -1\r\n\r\nb 1\r\n");
    put("ImageSets/Main/val.txt", b"a");
    directory
}

fn read(root: &Path) -> Result<Vec<crate::annotations::format::SplitAnnotations>, DataError> {
    Ok(DatasetFiles::find(root)?.read()?.splits)
}

#[test]
fn a_listed_name_without_an_annotation_is_named_with_its_line() {
    let directory = directory();
    let notes = read(directory.path()).unwrap().remove(0).notes;
    let note = "1 repeated line in train.txt: each name is used once";
    assert!(notes.iter().any(|found| found == note), "{notes:?}");
    for file in ["Annotations/b.xml", "JPEGImages/b.jpg"] {
        fs::remove_file(directory.path().join(file)).unwrap();
    }
    let message = read(directory.path()).unwrap_err().to_string();
    let list = directory.path().join("ImageSets/Main/train.txt");
    let start = format!("{}: line 1: `b` has no annotation; ", list.display());
    assert!(message.starts_with(&start), "{message}");
    assert!(message.ends_with("b.xml is missing"), "{message}");
}

#[test]
fn an_empty_list_of_a_split_is_named() {
    let directory = directory();
    let list = directory.path().join("ImageSets/Main/val.txt");
    fs::write(&list, "\n").unwrap();
    let files = DatasetFiles::find(directory.path()).unwrap();
    let message = files.read().unwrap_err().to_string();
    assert_eq!(message, format!("{}: lists no images", list.display()));
    // The other split can be read on its own, and the check names the list, too.
    let train = files.split(Split::Train).unwrap();
    assert_eq!(train.read().unwrap().store.image_count(), 2);
    let mut diagnostics = Diagnostics::default();
    let options = CheckOptions { images: false };
    let splits = files.split_names();
    check_dataset(&files, &splits, options, &mut diagnostics, &|_, _| {}).unwrap();
    let mut found = diagnostics.groups().flat_map(|(_, group)| &group.kept);
    let list = list.display().to_string();
    assert!(found.any(|found| found.file.as_deref() == Some(&*list)));
}

#[test]
fn splits_share_their_classes_and_boxes_without_area_are_dropped() {
    let directory = directory();
    let splits = read(directory.path()).unwrap();
    let names: Vec<Split> = splits.iter().map(|read| read.split).collect();
    assert_eq!(names, [Split::Train, Split::Val]);
    for read in &splits {
        let categories = read.store.categories().iter();
        let categories: Vec<_> = categories.map(|c| (c.id, c.name.as_str())).collect();
        assert_eq!(categories, [(1, "cat"), (2, "dog")]);
        let dropped: Vec<String> = read.dropped.lines().collect();
        assert_eq!(
            dropped,
            [
                "`difficult` flags (1 object)",
                "boxes without area (1 object)"
            ]
        );
        assert!(
            read.image_root
                .join(read.store.image(0).file_name)
                .is_file()
        );
    }
    let train = &splits[0].store;
    assert_eq!((train.image_count(), train.annotation_count()), (2, 2));
    assert_eq!(train.image(1).size, ImageSize::new(9, 12));
    assert_eq!(
        train.boxes_xywh(0).collect::<Vec<_>>(),
        [[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 1.0, 1.0]]
    );
}

#[test]
fn without_lists_all_annotations_are_for_training() {
    let directory = directory();
    fs::remove_dir_all(directory.path().join("ImageSets")).unwrap();
    let splits = read(directory.path()).unwrap();
    assert_eq!(splits.len(), 1);
    assert_eq!(
        (splits[0].split, splits[0].store.image_count()),
        (Split::Train, 2)
    );
}

#[test]
fn lists_of_the_splits_are_read_wherever_they_are_or_named() {
    let files = |lists: &[(&str, &str)]| {
        let dir = beside(&[
            ("JPEGImages/a.png", ""),
            ("JPEGImages/b.png", ""),
            ("JPEGImages/c.png", ""),
            ("JPEGImages/d 1.png", ""),
            ("Annotations/a.xml", "a.png"),
            ("Annotations/b.xml", "b.png"),
            ("Annotations/c.xml", "c.png"),
            ("Annotations/d 1.xml", "d 1.png"),
        ]);
        for (list, text) in lists {
            let path = dir.path().join(list);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = DatasetFiles::find(dir.path()).and_then(|files| {
            let splits = files.read()?.splits.into_iter();
            let splits = splits.map(|read| (read.split, read.store.image_count()));
            Ok((splits.collect::<Vec<_>>(), files.explanation()))
        });
        found.map_err(|error| error.to_string())
    };
    const BOTH: [(Split, usize); 2] = [(Split::Train, 3), (Split::Val, 1)];
    const ALL: [(Split, usize); 1] = [(Split::Train, 4)];
    for (lists, splits, lists_in) in [
        (
            &[("train.txt", "a\nb\nc\n"), ("val.txt", "d 1\n")][..],
            &BOTH[..],
            ", lists in train.txt, val.txt",
        ),
        (
            &[
                ("ImageSets/train.txt", "a\nb\nc\n"),
                ("splits/val.txt", "d 1\n"),
            ],
            &BOTH,
            ", lists in ImageSets, splits",
        ),
        // As Paddle and darknet write them, and with words around the split.
        (
            &[
                (
                    "lists/train_list.txt",
                    "./JPEGImages/a.png ./Annotations/a.xml\nb.png\n/x/y\\c.xml\n",
                ),
                ("lists/val_list.txt", "JPEGImages/d 1.png\n"),
            ],
            &BOTH,
            ", lists in lists",
        ),
        // A list of the devkit, and the same in other places.
        (
            &[
                ("ImageSets/Main/trainval.txt", "a\nb\nc\nd 1\n"),
                ("ImageSets/Main/train.txt", "a\nb\nc\n"),
                ("ImageSets/Main/val.txt", "d 1\n"),
                ("ImageSets/Segmentation/train.txt", "a\n"),
                ("train.txt", "c.png\nb.png\na.png\n"),
            ],
            &BOTH,
            ", lists in ImageSets",
        ),
        (
            &[
                ("ImageSets/Main/train.txt", "a\nb\n"),
                ("splits/train.txt", "a\n"),
            ],
            &[(Split::Train, 2)],
            ", lists in ImageSets; not used: splits/train.txt",
        ),
        // Beside the annotations, and further below.
        (
            &[
                ("Annotations/train.txt", "a\nb\nc\n"),
                ("lists/1/2/3/val.txt", "d 1\n"),
            ],
            &BOTH,
            ", lists in Annotations, lists",
        ),
        // The columns of Oxford's pets.
        (
            &[
                ("Annotations/trainval.txt", "a 1 1 1\nb 1 1 1\n"),
                ("Annotations/test.txt", "e 1 1 1\n"),
            ],
            &ALL,
            "; not used: Annotations/test.txt, whose names are not those of the annotations, \
                    Annotations/trainval.txt, whose lines are not understood",
        ),
        (
            &[("train.txt", "a.png,a.xml\nb.png,b.xml\n")],
            &ALL,
            "; not used: train.txt, whose lines are not understood",
        ),
        // Other texts.
        (
            &[("train.txt", "epoch 1\nepoch 2\n")],
            &ALL,
            "; not used: train.txt, whose names are not those of the annotations",
        ),
        (
            &[("texts/train_1.txt", "b 1 2 3 4\n"), ("notes.txt", "a\n")],
            &ALL,
            "",
        ),
        // Names of other annotations, and tables.
        (
            &[("splits/train.txt", "q1\nq2\n"), ("splits/val.txt", "q3\n")],
            &ALL,
            "; not used: splits/train.txt, whose names are not those of the annotations, \
                    splits/val.txt, whose names are not those of the annotations",
        ),
        (
            &[("splits.csv", "file,train\na,train\nb,train\n")],
            &ALL,
            "; not used: splits.csv",
        ),
        // A word with the split, and tables of several splits.
        (
            &[
                ("trainlist01.txt", "a\nb\nc.png\n"),
                ("vallist01.txt", "d 1\n"),
            ],
            &BOTH,
            ", lists in trainlist01.txt, vallist01.txt",
        ),
        (
            &[(
                "splits/split.csv",
                "file,split\na,train\nb,train\nc,train\nd 1,val\n",
            )],
            &BOTH,
            ", lists in splits",
        ),
        (
            &[("train_test_split.txt", "a 1\nb 1\nc.png 0\n")],
            &[(Split::Train, 2), (Split::Test, 1)],
            ", lists in train_test_split.txt",
        ),
        (
            &[
                ("train.txt", "a\nb\nc\n"),
                ("val.txt", "d 1\n"),
                ("folds.csv", "id,fold\na,1\nb,2\n"),
                ("captions.txt", "a a rose\nb two roses\n"),
            ],
            &BOTH,
            ", lists in train.txt, val.txt",
        ),
        (
            &[
                ("folds.csv", "id,fold\na,1\nb,2\n"),
                ("counts.csv", "a,1\nb,0\n"),
            ],
            &ALL,
            "; not used: folds.csv",
        ),
        (
            &[("splits.json", r#"{"train": ["a", "b"], "val": ["c"]}"#)],
            &ALL,
            "; not used: splits.json",
        ),
        (
            &[
                ("results/val_results.csv", "a.png,1\n"),
                ("sizes.csv", "a.png,3,2\n"),
            ],
            &ALL,
            "",
        ),
    ] {
        let (found, explanation) = files(lists).unwrap();
        assert_eq!(found, splits, "{lists:?}");
        assert_eq!(
            explanation,
            format!("XML files in Annotations{lists_in}"),
            "{lists:?}"
        );
    }
    let lists = [("train.txt", "a\n"), ("splits/train.txt", "a\nb\n")];
    let message = files(&lists).unwrap_err();
    assert!(
        message.ends_with("several train annotations (splits/train.txt, train.txt)"),
        "{message}"
    );
}

#[test]
fn tables_of_numbers_divide_annotations_by_a_list_of_images_or_without_zeros() {
    const CUB: &str =
        "1 000006.png\n2 000005.png\n3 000004.png\n4 000003.png\n5 000002.png\n6 000001.png\n";
    let train_and = |split, names: [&[&str]; 2]| {
        let of = |at: usize| {
            names[at]
                .iter()
                .map(|name| format!("00000{name}.png"))
                .collect()
        };
        vec![(Split::Train, of(0)), (split, of(1))]
    };
    let whole: Vec<(Split, Vec<String>)> = vec![(
        Split::Train,
        (1..=6).map(|number| format!("{number:06}.png")).collect(),
    )];
    const IDS: &str = "1,train\n2,train\n3,train\n4,train\n5,val\n6,val\n";
    let with_rows = format!(
        ",id,split\n{}",
        IDS.lines()
            .zip(0..)
            .map(|(line, row)| format!("{row},{line}\n"))
            .collect::<String>()
    );
    for (files, expected, explanation) in [
        (
            &[
                ("images.txt", CUB),
                ("train_test_split.txt", "1 1\n2 1\n3 1\n4 1\n5 0\n6 0\n"),
            ][..],
            train_and(Split::Test, [&["3", "4", "5", "6"], &["1", "2"]]),
            ", lists in train_test_split.txt",
        ),
        (
            &[("train_test_split.txt", "1 1\n2 1\n3 1\n4 1\n5 0\n6 0\n")],
            train_and(Split::Test, [&["1", "2", "3", "4"], &["5", "6"]]),
            ", lists in train_test_split.txt",
        ),
        (
            &[("data.csv", &format!("id,split\n{IDS}"))],
            train_and(Split::Val, [&["1", "2", "3", "4"], &["5", "6"]]),
            ", lists in data.csv",
        ),
        (
            &[("data.csv", IDS)],
            train_and(Split::Val, [&["1", "2", "3", "4"], &["5", "6"]]),
            ", lists in data.csv",
        ),
        // The numbers of the rows are others.
        (
            &[("data.csv", &with_rows)],
            train_and(Split::Val, [&["1", "2", "3", "4"], &["5", "6"]]),
            ", lists in data.csv",
        ),
        // The name of an image alone, captions, and numbers of images.
        (&[("images.txt", CUB)], whole.clone(), ""),
        (
            &[(
                "captions.txt",
                "000001 a cat in the train\n000002 a test of a train\n000003 a train\n000004 a test\n",
            )],
            whole.clone(),
            "",
        ),
        (&[("counts.csv", "train,4\nval,2\n")], whole.clone(), ""),
        // Logs of a training, and a few of the images.
        (
            &[(
                "log.csv",
                "step,phase\n1,train\n2,val\n3,train\n4,val\n5,train\n6,val\n",
            )],
            whole.clone(),
            "",
        ),
        (
            &[(
                "history.txt",
                "1 train 0.0\n2 val 0.1\n3 train 0.2\n4 val 0.3\n5 val 0.1\n",
            )],
            whole.clone(),
            "",
        ),
        (
            &[(
                "log.csv",
                "id,split\n1,train\n1,val\n2,train\n2,val\n3,train\n3,val\n4,train\n4,val\n",
            )],
            whole.clone(),
            "",
        ),
        (
            &[("val_hard.txt", "000001\n000002\n")],
            whole.clone(),
            "; not used: val_hard.txt",
        ),
        (
            &[(
                "test_log.txt",
                "000001 0.5\n000002 0.6\n000003 0.1\n000004 0.2\n",
            )],
            whole.clone(),
            "; not used: test_log.txt",
        ),
        (
            &[("train_test_split.txt", "11 1\n12 1\n13 1\n14 0\n")],
            whole.clone(),
            "; not used: train_test_split.txt",
        ),
    ] {
        let names = (1..=6).flat_map(|number| {
            [
                (format!("JPEGImages/{number:06}.png"), String::new()),
                (
                    format!("Annotations/{number:06}.xml"),
                    format!("{number:06}.png"),
                ),
            ]
        });
        let names: Vec<(String, String)> = names.collect();
        let names = names
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()));
        let dir = beside(&names.collect::<Vec<_>>());
        for (file, text) in files {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let found = DatasetFiles::find(dir.path()).unwrap();
        let read = found.read().unwrap().splits.into_iter();
        let read = read.map(|read| {
            let names = read.image_paths().into_iter();
            let names = names.map(|path| last_name(&path));
            (read.split, names.collect::<Vec<String>>())
        });
        assert_eq!(read.collect::<Vec<_>>(), expected, "{files:?}");
        let explanation = format!("XML files in Annotations{explanation}");
        assert_eq!(found.explanation(), explanation, "{files:?}");
    }
}

/// Describes a dataset of six annotations, with files of text beside them, or the error without its directory.
fn described(directories: [&str; 2], files: &[(&str, &str)]) -> String {
    let [train, val] = directories;
    let names = (1..=6).flat_map(|number| {
        let images = if number <= 4 { train } else { val };
        [
            format!("{images}/{number:06}.png"),
            format!("Annotations/{number:06}.xml"),
        ]
    });
    let names: Vec<String> = names.collect();
    let names = names.iter().map(|name| (name.as_str(), ""));
    let dir = beside(&names.collect::<Vec<_>>());
    for (file, text) in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let found = DatasetFiles::find(dir.path()).and_then(|files| {
        let splits = files.read()?.splits.into_iter();
        let splits = splits.map(|read| {
            let images = read.image_paths().into_iter();
            let numbers = images.map(|path| last_name(&path)[5..6].to_owned());
            format!("{} {}", read.split, numbers.collect::<String>())
        });
        let splits: Vec<String> = splits.collect();
        Ok(format!("{}: {}", splits.join(", "), files.explanation()))
    });
    let root = format!("{}/", dir.path().display());
    let shown = found.unwrap_or_else(|error| error.to_string().replace(&root, ""));
    shown.replace("XML files in Annotations", "XML")
}

const FIRST: &str =
    "file,split\n000001,train\n000002,train\n000003,train\n000004,train\n000005,val\n000006,val\n";
const LAST: &str =
    "file,split\n000001,val\n000002,val\n000003,train\n000004,train\n000005,train\n000006,train\n";
const FINER: &str =
    "file,split\n000001,train\n000002,train\n000003,val\n000004,val\n000005,test\n000006,test\n";
const IDS: &str = "id,split\n1,train\n2,train\n3,train\n4,train\n5,val\n6,val\n";

#[test]
fn divisions_that_contradict_the_one_that_is_followed_are_named_and_equal_ones_are_not() {
    const WHOLE: [&str; 2] = ["images", "images"];
    const SPLITS: [&str; 2] = ["images/train", "images/val"];
    const TRAIN: (&str, &str) = (
        "ImageSets/Main/train.txt",
        "000001\n000002\n000003\n000004\n",
    );
    const VAL: (&str, &str) = ("ImageSets/Main/val.txt", "000005\n000006\n");
    const CUB: (&str, &str) = (
        "train_test_split.txt",
        "000001 1\n000002 1\n000003 1\n000004 1\n000005 0\n000006 0\n",
    );
    const OTHER_IDS: &str = "id,split\n91,train\n92,train\n93,val\n94,val\n";
    let parts = r#"{"train": ["000001"], "val": ["000002"]}"#;
    for (directories, files, expected) in [
        (
            WHOLE,
            &[("a.csv", FIRST), ("b.csv", LAST)][..],
            "a.csv: it has 000001 in train, and b.csv has it in val",
        ),
        (
            WHOLE,
            &[("a.csv", FIRST), ("b.csv", FIRST)],
            "train 1234, val 56: XML, lists in a.csv",
        ),
        (
            WHOLE,
            &[CUB, ("split.csv", LAST)],
            "split.csv: it has 000005 in train, and train_test_split.txt has it in test",
        ),
        // The other has no val.
        (
            WHOLE,
            &[CUB, ("split.csv", FINER)],
            "train 12, val 34, test 56: XML, lists in split.csv",
        ),
        (
            WHOLE,
            &[TRAIN, VAL, ("data.csv", LAST)],
            "train 1234, val 56: XML, lists in ImageSets; not used: data.csv, by which 000001 is in val instead of train",
        ),
        (
            WHOLE,
            &[TRAIN, VAL, ("data.csv", FIRST)],
            "train 1234, val 56: XML, lists in ImageSets",
        ),
        (
            WHOLE,
            &[TRAIN, VAL, ("ids.csv", OTHER_IDS)],
            "train 1234, val 56: XML, lists in ImageSets; not used: ids.csv",
        ),
        (
            WHOLE,
            &[TRAIN, VAL, ("parts.json", parts)],
            "train 1234, val 56: XML, lists in ImageSets; not used: parts.json",
        ),
        (
            SPLITS,
            &[TRAIN, VAL, ("data.csv", FIRST)],
            "train 1234, val 56: XML, lists in ImageSets",
        ),
        (
            SPLITS,
            &[("data.csv", LAST)],
            "train 3456, val 12: XML, lists in data.csv; not used: the directories of splits (images/train, images/val), \
                    by which 000001 is in train instead of val",
        ),
        (
            SPLITS,
            &[("data.csv", FIRST)],
            "train 1234, val 56: XML, lists in data.csv",
        ),
    ] {
        assert_eq!(described(directories, files), expected, "{files:?}");
    }
}

#[test]
fn directories_of_annotations_are_compared_with_tables() {
    for (table, unused) in [
        (FIRST, ""),
        (
            LAST,
            "; not used: data.csv, by which 000001 is in val instead of train",
        ),
    ] {
        let names = (1..=6).map(|number| {
            let split = if number <= 4 { "train" } else { "val" };
            format!("{split}/{number:06}")
        });
        let files = names.flat_map(|name| ["png", "xml"].map(|of| format!("{name}.{of}")));
        let files: Vec<String> = files.collect();
        let files = files.iter().map(|name| (name.as_str(), ""));
        let dir = beside(&files.collect::<Vec<_>>());
        fs::write(dir.path().join("data.csv"), table).unwrap();
        let found = DatasetFiles::find(dir.path()).unwrap();
        assert_eq!(
            found.explanation(),
            format!("XML files in train, val{unused}")
        );
    }
}

#[test]
fn numbers_are_those_of_the_table_that_names_images_or_are_not_used() {
    let numbering = |header: &str, separator: &str, extension: &str| -> String {
        let lines = (1..=6).map(|number| {
            let name = 7 - number;
            format!("{number}{separator}{name:06}{extension}\n")
        });
        format!("{header}{}", lines.collect::<String>())
    };
    let same = "id,file_name\n1,000001.png\n2,000002.png\n3,000003.png\n4,000004.png\n5,000005.png\n6,000006.png\n";
    let others = "1 a.jpg\n2 b.jpg\n3 c.jpg\n4 d.jpg\n5 e.jpg\n6 f.jpg\n";
    let zero = "id,split\n0,train\n1,train\n2,train\n3,train\n4,val\n5,val\n";
    let json = r#"{"6": "000001.png", "5": "000002.png", "4": "000003.png", "3": "000004.png", "2": "000005.png",
            "1": "000006.png"}"#;
    const REVERSED: &str = "train 3456, val 12: XML, lists in data.csv";
    let unused =
        |why: &str| format!("train 123456: XML; not used: data.csv, whose numbers are {why}");
    for (files, expected) in [
        (
            vec![("images.csv", numbering("id,file_name\n", ",", ".png"))],
            REVERSED.to_owned(),
        ),
        (
            vec![("images.txt", numbering("", ",", ".png"))],
            REVERSED.to_owned(),
        ),
        (
            vec![("images.txt", numbering("", " ", ".png"))],
            REVERSED.to_owned(),
        ),
        (
            vec![("names.csv", numbering("image_id,name\n", ",", ""))],
            REVERSED.to_owned(),
        ),
        (vec![("images.json", json.to_owned())], REVERSED.to_owned()),
        (
            vec![("meta/images.csv", numbering("id,file_name\n", ",", ".png"))],
            REVERSED.to_owned(),
        ),
        (
            vec![("images.txt", others.to_owned())],
            unused("those of no annotation by images.txt"),
        ),
        (
            vec![
                ("images.csv", same.to_owned()),
                ("images.txt", numbering("", " ", ".png")),
            ],
            unused("those of different annotations by images.txt, images.csv"),
        ),
        (
            vec![("data.csv", zero.to_owned())],
            unused("not all those of annotations (0)"),
        ),
        // A table of other things.
        (
            vec![("sizes.csv", "id,width\n1,640\n2,640\n".to_owned())],
            "train 1234, val 56: XML, lists in data.csv".to_owned(),
        ),
    ] {
        let mut all = vec![("data.csv", IDS)];
        all.extend(files.iter().map(|(name, text)| (*name, text.as_str())));
        assert_eq!(described(["images", "images"], &all), expected, "{files:?}");
    }
}

#[test]
fn images_in_directories_of_splits_divide_annotations_that_are_in_one() {
    for [train, val] in [["images/train", "images/val"], ["train", "test"]] {
        let images = [train, val].map(|split| format!("{split}/{}.png", &split[split.len() - 2..]));
        let annotations = images.clone().map(|image| {
            let name = image.rsplit('/').next().unwrap();
            format!("Annotations/{}", name.replace("png", "xml"))
        });
        let files = images.iter().chain(&annotations);
        let files: Vec<(&str, &str)> = files.map(|file| (file.as_str(), "")).collect();
        let dir = beside(&files);
        let found = DatasetFiles::find(dir.path()).unwrap();
        let expected = format!("XML files in Annotations, images in {train}, {val}");
        assert_eq!(found.explanation(), expected);
        for (read, image) in found.read().unwrap().splits.iter().zip(&images) {
            assert_eq!(read.store.image_count(), 1);
            let path = read.image_root.join(read.store.image(0).file_name);
            assert_eq!(path, dir.path().join(image));
        }
    }
}

#[test]
fn annotations_of_images_outside_the_directories_of_splits_do_not_join_the_splits() {
    const FILES: [(&str, &str); 4] = [
        ("Annotations/a.xml", ""),
        ("Annotations/b.xml", ""),
        ("images/train/a.png", ""),
        ("images/val/b.png", ""),
    ];
    const PLACES: &str = "images/train, images/val";
    for (others, unused) in [
        (
            &["images/s.png", "Annotations/s.xml"][..],
            format!("{PLACES} (s)"),
        ),
        (
            &["images/extra/s.png", "Annotations/s.xml"],
            format!("{PLACES} (s)"),
        ),
        (&["Annotations/s.xml"], format!("{PLACES} (s)")),
        (
            &[
                "images/train/s.png",
                "images/val/s.png",
                "Annotations/s.xml",
            ],
            format!("only one of {PLACES} (s)"),
        ),
    ] {
        let others: Vec<(&str, &str)> = others.iter().map(|file| (*file, "")).collect();
        let dir = beside(&[&FILES[..], &others].concat());
        let found = DatasetFiles::find(dir.path()).unwrap();
        let expected = format!(
            "XML files in Annotations, images in {PLACES}; not used: 1 annotation without an image in {unused}"
        );
        assert_eq!(found.explanation(), expected);
        let splits = found.read().unwrap().splits;
        let counts = splits
            .iter()
            .map(|read| (read.split, read.store.image_count()));
        assert_eq!(
            counts.collect::<Vec<_>>(),
            [(Split::Train, 1), (Split::Val, 1)]
        );
    }
}

#[test]
fn a_strict_read_names_the_file_at_fault() {
    type Spoil = fn(&Path) -> std::io::Result<()>;
    let cases: [(Spoil, &str, &str); 5] = [
        (
            |f| fs::remove_file(f.join("Annotations/b.xml")),
            "Annotations/b.xml",
            "",
        ),
        (
            |f| fs::write(f.join("Annotations/a.xml"), [0xff]),
            "Annotations/a.xml",
            "not UTF-8",
        ),
        (
            |f| fs::write(f.join("JPEGImages/a.jpg"), b"text"),
            "JPEGImages/a.jpg",
            "",
        ),
        (
            |f| fs::remove_file(f.join("JPEGImages/b.jpg")),
            "JPEGImages/b.jpg",
            "cannot read",
        ),
        (
            |f| fs::write(f.join("Annotations/a.xml"), annotation(9, 12, "")),
            "JPEGImages/a.jpg",
            "its annotations are for 9x12",
        ),
    ];
    for (spoil, file, expected) in cases {
        let directory = directory();
        spoil(directory.path()).unwrap();
        let message = read(directory.path()).unwrap_err().to_string();
        let file = directory.path().join(file).display().to_string();
        assert!(message.contains(&file), "{message}");
        assert!(message.contains(expected), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

/// Writes images, and annotations with a `<filename>`, unless it is empty.
fn beside(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, stated) in files {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if has_image_extension(&path) {
            image::RgbImage::new(12, 9)
                .save_with_format(&path, image::ImageFormat::Png)
                .unwrap();
            continue;
        }
        let xml = annotation(12, 9, OBJECTS);
        let stated = match *stated {
            "" => String::new(),
            stated => format!("<filename>{stated}</filename>"),
        };
        fs::write(path, xml.replace("<filename>a</filename>", &stated)).unwrap();
    }
    dir
}

#[test]
fn an_annotation_that_names_another_image_is_an_error_unless_it_is_a_copy() {
    let images = [("a.png", ""), ("b.png", ""), ("c.png", "")];
    for (annotations, expected) in [
        (
            &[("a.xml", "a.png"), ("b.xml", "b.jpg"), ("c.xml", "z.png")][..],
            Ok(0),
        ),
        (
            &[("a.xml", "b.png"), ("b.xml", "a.png")],
            Err("a.xml: its <filename> is b.png, but a.png has its name; both images exist"),
        ),
        (
            &[("a.xml", "a.png"), ("b.xml", "c.png")],
            Err("b.xml: its <filename> is c.png, but b.png has its name"),
        ),
        // The first file was copied for similar images.
        (
            &[("a.xml", "a.png"), ("b.xml", "a.png"), ("c.xml", "a.png")],
            Ok(1),
        ),
    ] {
        let dir = beside(&[&images[..], annotations].concat());
        match (read(dir.path()), expected) {
            (Ok(read), Ok(notes)) => {
                assert_eq!(read[0].notes.len(), notes, "{:?}", read[0].notes);
                let names: Vec<&str> = (0..annotations.len())
                    .map(|image| read[0].store.image(image).file_name)
                    .collect();
                assert_eq!(names, ["a.png", "b.png", "c.png"][..annotations.len()]);
            }
            (Err(error), Err(expected)) => {
                let message = error.to_string();
                assert!(message.contains(expected), "{message}");
            }
            (read, _) => panic!("{annotations:?}: {read:?}"),
        }
    }
}

#[test]
fn of_two_images_with_the_name_of_an_annotation_its_filename_decides() {
    let read_with = |stated: &str| {
        let dir = beside(&[("a.png", ""), ("a.jpg", ""), ("a.xml", stated)]);
        let read = read(dir.path()).map_err(|error| error.to_string())?;
        Ok::<_, String>(read[0].store.image(0).file_name.to_owned())
    };
    assert_eq!(read_with("a.png").unwrap(), "a.png");
    assert_eq!(read_with("C:\\x\\a.jpg").unwrap(), "a.jpg");
    for stated in ["", "a", "b.jpg"] {
        let message = read_with(stated).unwrap_err();
        let expected = "a.xml: a.jpg and a.png have its name, and its <filename> is none of them";
        assert!(message.ends_with(expected), "{message}");
    }
}

#[test]
fn images_and_annotations_in_other_capitals_are_found_and_counted() {
    for files in [
        &[
            ("IMG1.JPG", ""),
            ("img1.xml", ""),
            ("img2.png", ""),
            ("IMG2.xml", ""),
        ][..],
        &[
            ("IMG1.JPG", ""),
            ("img1.xml", "img1.jpg"),
            ("a.PNG", ""),
            ("A.XML", "A.png"),
        ],
    ] {
        let dir = beside(files);
        let read = read(dir.path()).unwrap();
        assert_eq!(read[0].store.image_count(), 2);
        let note = &read[0].notes[0];
        assert!(
            note.starts_with("2 images found by a name in other capitals"),
            "{note}"
        );
    }
    let dir = directory();
    fs::write(dir.path().join("ImageSets/Main/val.txt"), "A\n").unwrap();
    let read = read(dir.path()).unwrap();
    assert_eq!(read[1].store.image(0).file_name, "a.jpg");
}

#[test]
fn all_problems_of_a_split_are_collected() {
    let directory = directory();
    fs::write(directory.path().join("Annotations/a.xml"), "<x>").unwrap();
    fs::write(directory.path().join("JPEGImages/b.jpg"), "text").unwrap();
    let files = DatasetFiles::find(directory.path()).unwrap();
    let collected = collect(&files, &[Split::Train]).unwrap().remove(0);
    let places: Vec<usize> = collected.problems.iter().map(|p| p.image).collect();
    // The only annotation that can be read also states the name of the other image.
    assert_eq!(places, [0, 1, 1]);
    assert_eq!(collected.images.len(), 2);
}

#[test]
fn only_xml_files_with_annotations_make_a_dataset() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.xml");
    for (content, expected) in [
        (annotation(12, 9, "").into_bytes(), true),
        (
            b"<?xml version='1.0'?>\n<!-- x --><annotation verified=\"no\">".to_vec(),
            true,
        ),
        (
            "\u{feff}<annotation/>"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
            true,
        ),
        (
            b"<annotations><version>1.1</version></annotations>".to_vec(),
            false,
        ),
        (b"<project/>".to_vec(), false),
        (b"".to_vec(), false),
    ] {
        fs::write(&path, &content).unwrap();
        let found = VocFormat.find(dir.path()).unwrap();
        assert_eq!(
            found.is_some(),
            expected,
            "{}",
            String::from_utf8_lossy(&content)
        );
    }
}

#[test]
fn annotations_beside_images_in_directories_of_classes_are_one_dataset() {
    let class = OBJECTS.split("<name>").nth(1).unwrap();
    let class = class.split('<').next().unwrap();
    for (directories, is_one) in [([class, class], true), ([class, "v2"], false)] {
        // The second is called after the class in other capitals.
        let second = if is_one {
            directories[1].to_uppercase()
        } else {
            directories[1].to_owned()
        };
        let files: Vec<String> = [directories[0], &second]
            .iter()
            .flat_map(|name| [format!("{name}/0.png"), format!("{name}/0.xml")])
            .collect();
        let dir = tempfile::tempdir().unwrap();
        for file in &files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if has_image_extension(&path) {
                image::RgbImage::new(12, 9).save(&path).unwrap();
            } else {
                fs::write(path, annotation(12, 9, OBJECTS)).unwrap();
            }
        }
        let found = DatasetFiles::find(dir.path());
        if !is_one {
            let message = found.unwrap_err().to_string();
            assert!(message.contains("several datasets"), "{message}");
            continue;
        }
        let read = found.unwrap().read().unwrap();
        assert_eq!(read.splits.len(), 1);
        assert_eq!(read.splits[0].store.image_count(), 2);
    }
}
