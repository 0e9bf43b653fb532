use super::class_names::{ClassList, class_names};
use super::directory::looks_like_labels;
use super::images::FoundPath;
use super::line::parse_pose;
use super::*;
use crate::annotations::file_names::AnyCapitals;
use crate::boxes::ImageSize;
use crate::datasets::registry::LabeledName;
use crate::images::decode::has_image_extension;
use proptest::prelude::*;

#[test]
fn a_description_of_darknet_is_read_in_any_capitals_and_never_passed_over_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let put = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
    put("obj.names", "cat\n");
    put("train.txt", "a.png\n");
    put("valid.txt", "b.png\n");
    image::RgbImage::new(4, 4).save(root.join("a.png")).unwrap();
    for (keys, splits, reason) in [
        (
            "Train=train.txt\nValidation = valid.txt\nNames=obj.names\n",
            &[Split::Train, Split::Val][..],
            "obj.data",
        ),
        (
            "train=train.txt\nval=gone.txt\nnames=obj.names\n",
            &[Split::Train],
            "obj.data; its `val` (gone.txt) is missing",
        ),
    ] {
        put("obj.data", keys);
        let found = YoloDirectory::expect(root).unwrap();
        let names: Vec<Split> = found.splits.iter().map(|(split, _)| *split).collect();
        assert_eq!((names.as_slice(), found.reason.as_str()), (splits, reason));
    }
    put("obj.data", "classes=1\ntrain=train.txt\n");
    let message = YoloDirectory::expect(root).unwrap_err().to_string();
    assert!(message.contains("obj.data: no `names`"), "{message}");
}

#[test]
fn images_without_labels_repeated_lines_and_a_missing_val_are_noted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let put = |name: &str, text: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put(
        "data.yaml",
        "train: train.txt\nval: images/gone\nnames: [cat]\n",
    );
    put(
        "train.txt",
        "images/0.png\nimages/1.png\nimages/0.png\n./images/2.png\nimages/0.png\n",
    );
    put("labels/1.txt", "0 0.5 0.5 0.5 0.5\n");
    std::fs::create_dir(root.join("images")).unwrap();
    for number in 0..3 {
        let path = root.join(format!("images/{number}.png"));
        image::RgbImage::new(4, 4).save(path).unwrap();
    }
    let read = DatasetFiles::find(root).unwrap().read().unwrap();
    assert_eq!(
        read.splits[0].notes,
        [
            "2 repeated images in train.txt: each is used once",
            "2 of 3 images have no label file: images without objects",
            "`val` of data.yaml is `images/gone`, which does not exist: there are no val images",
        ]
    );
    assert_eq!(read.splits[0].store.image_count(), 3);
}

#[test]
fn a_path_that_leads_elsewhere_is_noted_with_the_images_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in ["images/0.png", "elsewhere/0.png", "own/images/0.png"] {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::new(4, 4).save(&path).unwrap();
        let labels = path.with_file_name("0.txt");
        std::fs::write(labels, "0 0.5 0.5 0.5 0.5\n").unwrap();
    }
    let used = root.join("images");
    for (path, expected) in [
        ("/gone/data", Some("which does not exist")),
        ("elsewhere", Some("where these images are not")),
        (".", None),
        ("own", None),
    ] {
        let yaml = format!("path: {path}\ntrain: images\nnames: [cat]\n");
        std::fs::write(root.join("data.yaml"), yaml).unwrap();
        let notes = YoloDirectory::expect(root).unwrap().notes;
        let expected = expected.map(|problem| {
            format!(
                "`path` of data.yaml is `{path}`, {problem}: {} is used",
                used.display()
            )
        });
        assert_eq!(notes, Vec::from_iter(expected), "{path}");
    }
}

#[test]
fn other_keys_of_a_data_yaml_that_lead_to_images_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for split in ["train", "valid", "holdout"] {
        std::fs::create_dir_all(root.join("images").join(split)).unwrap();
    }
    let yaml = "train: images/train\nValid: images/valid\nholdout: images/holdout\n\
        author: someone\nnames: [cat]\n";
    std::fs::write(root.join("data.yaml"), yaml).unwrap();
    let found = YoloDirectory::expect(root).unwrap();
    let names: Vec<Split> = found.splits.iter().map(|(split, _)| *split).collect();
    assert_eq!(names, [Split::Train, Split::Val]);
    assert_eq!(found.reason, "data.yaml");
    assert_eq!(found.unused, ["its `holdout` (images/holdout)"]);
}

#[test]
fn wrong_lines_say_what_is_wrong() {
    for (line, expected) in [
        ("0 0.5 0.5 0.1", "4 numbers; a box has 5"),
        ("0 0.5 0.5 0.1 0.1 0.9", "prediction"),
        (
            "3 0.5 0.5 0.1 0.1",
            "unknown class 3; the classes are 0 to 2",
        ),
        ("-1 0.5 0.5 0.1 0.1", "class -1"),
        ("0 320 240 50 50", "320 is not a fraction"),
        ("0 0.5 nan 0.1 0.1", "`nan` is not a finite number"),
        ("0 0.5 0.5 0 0.1", "without area"),
        ("cat 0.5 0.5 0.1 0.1", "`cat` is not a finite number"),
    ] {
        let problem = parse_line(line, 3).unwrap_err();
        assert!(problem.contains(expected), "{line}: {problem}");
    }
    let outline = parse_line("1 0.1 0.2 0.5 0.2 0.3 0.6", 3).unwrap();
    assert_eq!(outline.extra, Extra::Outline);
    for (found, expected) in outline.cxcywh.iter().zip([0.3, 0.4, 0.4, 0.4]) {
        assert!((found - expected).abs() < 1e-12);
    }
}

#[test]
fn a_class_without_a_name_is_an_error_and_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("classes.txt");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        class_names(&path).map_err(|error| error.to_string())
    };
    assert_eq!(read("cat\r\ndog \n\n").unwrap(), ["cat", "dog"]);
    assert!(
        read("cat\n\ndog\n")
            .unwrap_err()
            .contains("line 2 is empty")
    );
    assert!(read("\n").unwrap_err().contains("no class names"));
    assert!(read("").unwrap_err().contains("no class names"));
}

#[test]
fn comments_and_names_in_one_line_are_no_classes_and_a_header_is_doubted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("classes.txt");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        ClassList::read(&path).map_err(|error| error.to_string())
    };
    for (text, expected) in [
        (
            "# my classes\ncat\ndog\n",
            "line 1 is `# my classes`, a comment",
        ),
        ("cat\n// pets\ndog\n", "line 2 is `// pets`, a comment"),
        ("cat,dog,bird\n", "in one line"),
        ("cat, dog, bird", "in one line"),
        ("cat,dog", "in one line"),
        ("cat;dog\n", "in one line"),
    ] {
        let message = read(text).unwrap_err();
        assert!(message.contains(expected), "{text}: {message}");
    }
    for (text, doubt) in [
        ("#cat\n#dog\n", None),
        ("person, adult\n", None),
        ("c#\nc++\n", None),
        (
            "name\ncat\ndog\n",
            Some("the first line of classes.txt, `name`, is the name of class 0"),
        ),
        ("label\ncat\n", None),
    ] {
        let found = read(text).unwrap().doubt(&path);
        assert_eq!(found.as_deref(), doubt, "{text}");
    }
}

#[test]
fn a_further_list_is_followed_alone_and_named_beside_others() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let image = dir.path().join("images/train/a.png");
    std::fs::create_dir_all(image.parent().unwrap()).unwrap();
    image::RgbImage::new(3, 2).save(image).unwrap();
    write("labels/train/a.txt", "1 0.5 0.5 0.2 0.2\n");
    let shown = || match DatasetFiles::find(dir.path()) {
        Ok(files) => files.explanation(),
        Err(error) => error
            .to_string()
            .replace(&dir.path().display().to_string(), "."),
    };
    write(
        "cfg/data.yaml",
        "path: ..\ntrain: images/train\nnames: [cat, dog]\n",
    );
    let expected =
        ".: YOLO labels without class names; these are in another directory: ./cfg/data.yaml";
    assert_eq!(shown(), expected);
    write("data/obj.names", "cat\ndog\n");
    assert_eq!(shown().replace('\\', "/"), "data/obj.names");
    std::fs::remove_file(dir.path().join("data/obj.names")).unwrap();
    // The label of each image.
    write("labels.txt", "a.png cat\nb.png dog\n");
    assert_eq!(shown(), expected);
    write("labels.txt", "0\n1\n");
    assert_eq!(shown(), expected);
    std::fs::remove_file(dir.path().join("labels.txt")).unwrap();
    write("pets.names", "cat\ndog\n");
    assert_eq!(shown(), "pets.names");
    write("labels.txt", "cat\ndog\n");
    assert_eq!(shown(), "labels.txt");
    write("labels.txt", "dog\ncat\n");
    assert!(shown().contains("several lists of different class names (labels.txt, pets.names)"));
    // Beside a list with the usual name, as many other classes are those of a model.
    write("classes.txt", "cat\ndog\n");
    write("coco.names", "person\ncat\ndog\n");
    let expected = "classes.txt; not used: labels.txt, in which class 0 is `dog`, and not `cat`";
    assert_eq!(shown(), expected);
    write("labels.txt", "Cat\ndog\n");
    assert_eq!(shown(), "classes.txt");
}

#[test]
fn numbers_before_class_names_are_no_part_of_them_and_have_to_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("classes.txt");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let list = ClassList::read(&path).map_err(|error| error.to_string())?;
        Ok::<_, String>((list.names, list.is_numbered))
    };
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    for text in [
        "0 cat\n1 traffic light\n",
        "0: cat\n1:traffic light\n",
        "0, cat\n1, traffic light",
        "0\tcat\n1\ttraffic light\n",
        "0. cat\n1. traffic light\n",
    ] {
        let expected = (names(&["cat", "traffic light"]), true);
        assert_eq!(read(text).unwrap(), expected, "{text}");
    }
    for plain in [
        &["1 euro", "2 euro"][..],
        &["10 cent", "20 cent", "1 euro"],
        &["cat", "0 dog"],
        &["3d printer", "7-up", "100"],
    ] {
        let expected = (names(plain), false);
        assert_eq!(read(&plain.join("\n")).unwrap(), expected);
    }
    // A header above numbered lines is known by them.
    for text in ["id,name\n0,cat\n1,dog\n", "# classes\n0 cat\n1 dog\n"] {
        assert_eq!(
            read(text).unwrap(),
            (names(&["cat", "dog"]), true),
            "{text}"
        );
    }
    for wrong in ["1: cat\n2: dog\n", "1 cat\n0 dog\n", "0: cat\n2: dog\n"] {
        let message = read(wrong).unwrap_err();
        assert!(message.contains("counted from 0"), "{wrong}: {message}");
    }
}

/// Writes images and other files.
fn put_all(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if has_image_extension(&path) {
            // The format is that of the content.
            image::RgbImage::new(8, 8)
                .save_with_format(&path, image::ImageFormat::Png)
                .unwrap();
        } else {
            std::fs::write(path, text).unwrap();
        }
    }
}

/// Returns a new directory with these files.
fn directory_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put_all(dir.path(), files);
    dir
}

fn read_train(root: &Path) -> Result<crate::annotations::format::SplitAnnotations, String> {
    let read = DatasetFiles::find(root).and_then(|files| files.read());
    let read = read.map_err(|error| error.to_string())?;
    Ok(read.splits.into_iter().next().unwrap())
}

#[test]
fn lists_with_other_class_names_are_an_error_unless_one_is_given() {
    for (chosen, other) in [
        ("data.yaml", "classes.txt"),
        ("data.yaml", "labels/classes.txt"),
        ("data.yaml", "labels/train/classes.txt"),
        ("obj.data", "classes.txt"),
        ("classes.txt", "labels/classes.txt"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put_all(
            root,
            &[
                ("images/train/a.png", ""),
                ("labels/train/a.txt", "0 0.5 0.5 0.1 0.1\n"),
                ("train.txt", "images/train/a.png\n"),
            ],
        );
        match chosen {
            "data.yaml" => put_all(
                root,
                &[(chosen, "train: images/train\nnames: [cat, dog]\n")],
            ),
            "obj.data" => put_all(
                root,
                &[
                    (chosen, "train=train.txt\nnames=obj.names\n"),
                    ("obj.names", "cat\ndog\n"),
                ],
            ),
            _ => put_all(root, &[(chosen, "cat\ndog\n")]),
        }
        for same in ["cat\ndog\n", "Cat\ndog\nowl\n", "0: cat\n"] {
            put_all(root, &[(other, same)]);
            assert!(read_train(root).is_ok(), "{chosen}, {other}: {same}");
        }
        put_all(root, &[(other, "cat\nowl\n")]);
        let message = read_train(root).unwrap_err();
        let expected = format!(
            "class 1 is `dog`, but `owl` in {}",
            root.join(other).display()
        );
        assert!(message.ends_with(&expected), "{message}");
        if chosen == "data.yaml" {
            let found = DatasetFiles::find(&root.join(chosen)).unwrap();
            let expected = format!("not used: {other}, which names other classes");
            let explanation = found.explanation();
            assert!(explanation.ends_with(&expected), "{explanation}");
        }
    }
}

#[test]
fn class_lists_in_deeper_directories_are_compared_too() {
    let label = "0 0.5 0.5 0.25 0.25\n";
    for other in [
        "b2/classes.txt",
        "deep/er/classes.txt",
        "labels/b2/classes.txt",
        "notes.json",
        "data/obj.names",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let names = if other.ends_with("json") {
            r#"{"categories": [{"id": 1, "name": "cat"}, {"id": 0, "name": "dog"}]}"#
        } else {
            "dog\ncat\n"
        };
        put_all(
            root,
            &[
                ("classes.txt", "cat\ndog\n"),
                ("0.png", ""),
                ("0.txt", label),
                ("b2/1.png", ""),
                ("b2/1.txt", label),
                ("deep/er/2.png", ""),
                ("deep/er/2.txt", label),
                (other, names),
            ],
        );
        let message = read_train(root).unwrap_err();
        let expected = format!(
            "class 0 is `cat`, but `dog` in {}",
            root.join(other).display()
        );
        assert!(message.ends_with(&expected), "{message}");
    }
}

#[test]
fn label_files_that_contradict_each_other_are_errors_that_name_them() {
    let label = "0 0.5 0.5 0.25 0.25\n";
    let base: &[(&str, &str)] = &[
        ("classes.txt", "cat\n"),
        ("images/a.png", ""),
        ("labels/a.txt", label),
        ("images/b.png", ""),
        ("labels/b.txt", label),
    ];
    for (more, expected) in [
        (&[("images/a.txt", "0 0.5 0.5 0.25 0.25")][..], None),
        (&[("images/a.txt", "a cat on a mat")], None),
        (
            &[("images/a.txt", "0 0.5 0.5 0.9 0.9\n")],
            Some((
                "labels/a.txt: the same image has other boxes in",
                "images/a.txt",
            )),
        ),
        (
            &[("images/c.png", ""), ("images/c.txt", label)],
            Some(("images/c.txt: the label file of", "labels/c.txt is missing")),
        ),
        (
            &[("images/a.jpg", "")],
            Some(("labels/a.txt: the label file of two images", "images/a.png")),
        ),
        (&[("images/c.png", ""), ("images/c.jpg", "")], None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        put_all(dir.path(), base);
        put_all(dir.path(), more);
        match (read_train(dir.path()), expected) {
            (Ok(_), None) => {}
            (Err(message), Some((expected, names))) => {
                assert!(message.contains(expected), "{message}");
                assert!(message.contains(names), "{message}");
            }
            (read, _) => panic!("{more:?}: {read:?}"),
        }
    }
}

#[test]
fn label_files_in_other_capitals_are_found_and_counted() {
    let label = "0 0.5 0.5 0.25 0.25\n";
    for (files, note) in [
        (
            &[
                ("images/IMG1.JPG", ""),
                ("images/IMG2.JPG", ""),
                ("labels/img1.txt", label),
                ("labels/img2.txt", label),
            ][..],
            "2 label files found by a name in other capitals than that of the image, such as \
             labels/img1.txt for images/IMG1.JPG",
        ),
        (
            &[
                ("Images/a.png", ""),
                ("Images/b.png", ""),
                ("Labels/a.txt", label),
                ("Labels/B.TXT", label),
            ],
            // That of a.png differs in the capitals of the directory only.
            "1 label file found by",
        ),
        (
            &[
                ("images/a.png", ""),
                ("images/b.png", ""),
                ("labels/a.txt", label),
                ("labels/B.txt", label),
            ],
            "1 label file found by",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        put_all(dir.path(), &[("classes.txt", "cat\n")]);
        put_all(dir.path(), files);
        let read = read_train(dir.path()).unwrap();
        assert_eq!(read.store.annotation_count(), 2, "{files:?}");
        let notes = &read.notes;
        assert!(notes.iter().any(|line| line.starts_with(note)), "{notes:?}");
    }
    // The file of another image is not taken.
    let dir = tempfile::tempdir().unwrap();
    put_all(
        dir.path(),
        &[
            ("classes.txt", "cat\n"),
            ("images/a.png", ""),
            ("images/A.png", ""),
            ("labels/a.txt", label),
        ],
    );
    let read = read_train(dir.path()).unwrap();
    let note = "1 of 2 images has no label file: images without objects";
    assert_eq!(read.store.annotation_count(), 1);
    assert_eq!(read.notes, [note]);
}

#[test]
fn label_files_that_differ_in_capitals_are_both_named() {
    let label = "0 0.5 0.5 0.25 0.25\n";
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    put_all(
        root,
        &[
            ("classes.txt", "cat\n"),
            ("images/img0.png", ""),
            ("labels/img0.txt", label),
            ("labels/IMG0.txt", "0 0.5001 0.5 0.25 0.25\n"),
            ("images/img1.png", ""),
            ("labels/img1.txt", label),
        ],
    );
    let read = read_train(root).unwrap();
    assert_eq!(
        read.notes,
        [
            "1 label file with another that differs from it in capitals only and has the same boxes, such as \
             labels/img0.txt, which is used, and labels/IMG0.txt"
        ]
    );
    // It is no file without an image.
    assert_eq!(read.dropped.lines().count(), 0);
    for other in ["", "0 0.5 0.5 0.9 0.9\n"] {
        put_all(root, &[("labels/IMG0.txt", other)]);
        let message = read_train(root).unwrap_err();
        assert!(
            message.contains("labels/img0.txt: the same image has other boxes in"),
            "{message}"
        );
        assert!(message.ends_with("labels/IMG0.txt"), "{message}");
    }
    std::fs::rename(root.join("labels/img0.txt"), root.join("labels/Img0.txt")).unwrap();
    let message = read_train(root).unwrap_err();
    assert!(
        message.ends_with(
            "labels/img0.txt: no such label file; IMG0.txt and Img0.txt differ from it in capitals only"
        ),
        "{message}"
    );
}

#[test]
fn copies_of_labels_may_differ_by_rounding() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    put_all(
        root,
        &[
            ("classes.txt", "cat\ndog\n"),
            ("images/a.png", ""),
            ("images/b.png", ""),
        ],
    );
    // The images have 8 pixels a side: an eighth is a pixel.
    let written = |other: &str| {
        put_all(
            root,
            &[
                (
                    "labels/a.txt",
                    "0 0.500000 0.5 0.25 0.25\n1 0.25 0.25 0.5 0.5\n",
                ),
                ("labels/b.txt", ""),
                ("images/a.txt", other),
            ],
        );
        read_train(root)
    };
    let exact = "0 0.500000 0.5 0.25 0.25\n1 0.25 0.25 0.5 0.5\n";
    assert_eq!(written(exact).unwrap().notes, [""; 0]);
    for same in [
        "0 0.5004 0.5 0.25 0.25\n1 0.25 0.25 0.5 0.5\n",
        "1 0.25 0.25 0.5 0.5\n0 0.6 0.5 0.25 0.25\n",
    ] {
        let read = written(same).unwrap();
        assert_eq!(read.store.annotation_count(), 2);
        assert_eq!(
            read.notes,
            [
                "1 label file with a copy whose boxes differ by rounding (at most 1 px), such as labels/a.txt, \
                 which is used, and images/a.txt"
            ]
        );
    }
    for other in [
        "0 0.65 0.5 0.25 0.25\n1 0.25 0.25 0.5 0.5\n",
        "1 0.5004 0.5 0.25 0.25\n1 0.25 0.25 0.5 0.5\n",
        "0 0.5004 0.5 0.25 0.25\n",
        "0 0.5004 0.5 0.25 0.25\n5 0.25 0.25 0.5 0.5\n",
    ] {
        let message = written(other).unwrap_err();
        assert!(
            message.contains("the same image has other boxes in"),
            "{message}"
        );
    }
}

#[test]
fn images_of_a_list_are_found_in_other_capitals() {
    let label = "0 0.5 0.5 0.25 0.25\n";
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    put_all(
        root,
        &[
            (
                "data.yaml",
                "train: Lists/train.txt\nval: IMAGES/val\nnames: [cat]\n",
            ),
            (
                "lists/train.txt",
                "images/IMG0.PNG\n./images/img1.png\nimages/img1.PNG\n",
            ),
            ("images/img0.png", ""),
            ("images/img1.png", ""),
            ("images/val/img2.png", ""),
            ("labels/img0.txt", label),
            ("labels/img1.txt", label),
            ("labels/val/img2.txt", label),
        ],
    );
    let found = DatasetFiles::find(root).unwrap();
    assert_eq!(
        found.reason,
        "data.yaml; its `train` (Lists/train.txt) is lists/train.txt; its `val` (IMAGES/val) is images/val"
    );
    assert_eq!(found.split_names(), [Split::Train, Split::Val]);
    let read = read_train(root).unwrap();
    let names: Vec<&str> = (0..2)
        .map(|image| read.store.image(image).file_name)
        .collect();
    assert_eq!(names, ["img0.png", "img1.png"]);
    assert_eq!(read.store.annotation_count(), 2);
    assert_eq!(
        read.notes,
        [
            "1 image found by a name in other capitals than that in the annotations, such as \
             images/img0.png for images/IMG0.PNG"
        ]
    );
    put_all(root, &[("images/Img0.png", "")]);
    let message = read_train(root).unwrap_err();
    assert!(
        message.ends_with(
            "images/IMG0.PNG: no such file; Img0.png and img0.png differ from it in capitals only"
        ),
        "{message}"
    );
    put_all(root, &[("lists/train.txt", "elsewhere/a.png\n")]);
    let message = read_train(root).unwrap_err();
    assert!(
        message.contains("train.txt: images not found; expected `elsewhere/a.png` in"),
        "{message}"
    );
    put_all(root, &[("Images/val/img3.png", "")]);
    let message = read_train(root).unwrap_err();
    assert!(
        message.ends_with("data.yaml: `val` is `IMAGES/val`, but Images/val and images/val differ from it in capitals only"),
        "{message}"
    );
}

#[test]
fn lists_of_more_or_fewer_classes_are_noted_and_classes_without_a_name_named() {
    let label = "0 0.5 0.5 0.25 0.25\n";
    for (yaml, list, expected) in [
        (
            "[cat, dog]",
            "cat\ndog\nowl\n",
            "classes.txt has 3 class names and data.yaml 2: data.yaml is used",
        ),
        (
            "[cat, dog]",
            "cat\n",
            "classes.txt has 1 class name and data.yaml 2: data.yaml is used",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let yaml = format!("train: images\nnames: {yaml}\n");
        put_all(
            dir.path(),
            &[
                ("data.yaml", &*yaml),
                ("classes.txt", list),
                ("images/a.png", ""),
                ("labels/a.txt", label),
            ],
        );
        assert_eq!(read_train(dir.path()).unwrap().notes, [expected]);
        put_all(dir.path(), &[("labels/a.txt", "2 0.5 0.5 0.25 0.25\n")]);
        let message = read_train(dir.path()).unwrap_err();
        assert!(
            message.ends_with("line 1: unknown class 2; data.yaml names the classes 0 to 1"),
            "{message}"
        );
    }
}

#[test]
fn paths_of_another_machine_are_found_by_their_end() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("train/images")).unwrap();
    std::fs::create_dir(dir.path().join("images")).unwrap();
    let capitals = AnyCapitals::default();
    let find = |entry, parts| {
        let look = |root: &Path, path: &Path| capitals.any(root, path);
        let found = FoundPath::below(dir.path(), entry, parts, &look)?;
        assert!(found.is_exact);
        found.paths.into_iter().next()
    };
    let found = Some(dir.path().join("train/images"));
    assert_eq!(find("/content/cats/train/images", 2), found);
    assert_eq!(find("..\\train\\images", 2), found);
    assert_eq!(find("/content/cats/valid/images", 2), None);
    assert_eq!(find("valid/images", 1), Some(dir.path().join("images")));
    assert_eq!(find("", 1), None);
}

#[test]
fn keypoints_are_no_outline() {
    let values = "0.5 0.5 0.2 0.4 0.3 0.3 2 0.6 0.7 1";
    let pose = parse_pose(&format!("1 {values}"), 2, 6).unwrap();
    assert_eq!(
        (pose.cxcywh, pose.extra),
        ([0.5, 0.5, 0.2, 0.4], Extra::Keypoints)
    );
    let plain = parse_pose("1 0.5 0.5 0.2 0.4", 2, 6).unwrap();
    assert_eq!(plain.extra, Extra::None);
    let problem = parse_pose(&format!("1 {values}"), 2, 9)
        .unwrap_err()
        .to_string();
    assert!(problem.contains("a box has 5 or 14"), "{problem}");
}

#[test]
fn labels_are_found_where_the_usual_programs_put_them() {
    use LabelPlace::*;
    for (place, image, labels) in [
        (ForLastImages, "images/train/a.jpg", "labels/train/a.txt"),
        (
            ForLastImages,
            "images/x/images/a.b.png",
            "images/x/labels/a.b.txt",
        ),
        (ForLastImages, "JPEGImages/a.jpg", "labels/a.txt"),
        (
            ForFirstImages,
            "images/x/images/a.png",
            "labels/x/images/a.txt",
        ),
        (Beside, "images/a.jpg", "images/a.txt"),
        (ForLastImages, "train/a.jpg", "train/a.txt"),
        (BelowLabels, "train/a.jpg", "labels/train/a.txt"),
        (InLabels, "images/train/a.jpg", "labels/a.txt"),
        (WithinImages, "train/a.jpg", "train/labels/a.txt"),
    ] {
        // The directory `images` above the dataset is not part of it.
        let root = Path::new("images/d");
        let found = place.path(root, &root.join(image));
        assert_eq!(found, root.join(labels), "{place:?} {image}");
    }
}

#[test]
fn labels_without_class_names_in_directories_of_videos_are_no_classes() {
    const LABEL: &str = "0 0.5 0.5 0.25 0.25\n";
    let dir = directory_of(&[
        ("cam1/train/images/a.png", ""),
        ("cam1/train/labels/a.txt", LABEL),
        ("cam1/val/images/b.png", ""),
        ("cam1/val/labels/b.txt", LABEL),
        ("cam2/train/images/c.png", ""),
        ("cam2/train/labels/c.txt", LABEL),
    ]);
    let name = dir.path().display().to_string();
    assert_eq!(LabeledName::parse(&name), None);
    let message = DatasetFiles::find(dir.path()).unwrap_err().to_string();
    let expected = format!(
        "{}: YOLO labels without class names; a data.yaml with `names` or a classes.txt is missing in {name}",
        dir.path().join("cam1/train/labels/a.txt").display(),
    );
    assert_eq!(message, expected);
    put_all(dir.path(), &[("classes.txt", "cat\n")]);
    let files = DatasetFiles::find(dir.path()).unwrap();
    assert_eq!(files.split_names(), [Split::Train, Split::Val]);
}

#[test]
fn class_names_in_each_directory_of_labels_are_found_and_compared() {
    const LABEL: &str = "1 0.5 0.5 0.25 0.25\n";
    for [train, val] in [
        ["labels/train", "labels/val"],
        ["train/labels", "val/labels"],
    ] {
        let image = |labels: &str| labels.replace("labels", "images") + "/a.png";
        let (of_train, of_val) = (format!("{train}/a.txt"), format!("{val}/a.txt"));
        let lists = [train, val].map(|labels| format!("{labels}/classes.txt"));
        let dir = directory_of(&[
            (&image(train), ""),
            (&image(val), ""),
            (&of_train, LABEL),
            (&of_val, LABEL),
            (&lists[0], "cat\ndog\n"),
            (&lists[1], "cat\ndog\n"),
        ]);
        let files = DatasetFiles::find(dir.path()).unwrap();
        assert_eq!(files.explanation(), lists[0]);
        assert_eq!(files.read().unwrap().splits.len(), 2);
        put_all(dir.path(), &[(&lists[1], "cat\nowl\n")]);
        let message = DatasetFiles::find(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("class 1 is `dog`, but `owl` in"),
            "{message}"
        );
    }
}

#[test]
fn labels_in_a_directory_beside_the_images_are_read() {
    const LABEL: &str = "0 0.5 0.5 0.25 0.25\n";
    for (list, text) in [
        ("classes.txt", "cat\n"),
        ("data.yaml", "train: train\nval: val\nnames: [cat]\n"),
    ] {
        let dir = directory_of(&[
            (list, text),
            ("train/a.png", ""),
            ("train/labels/a.txt", LABEL),
            ("val/b.png", ""),
            ("val/labels/b.txt", LABEL),
        ]);
        let files = DatasetFiles::find(dir.path()).unwrap();
        assert_eq!(files.explanation(), list);
        for read in files.read().unwrap().splits {
            assert_eq!(read.store.annotation_count(), 1);
            assert_eq!(
                read.notes,
                ["label files were found in labels/ beside the images"]
            );
        }
        std::fs::remove_dir_all(dir.path().join("train/labels")).unwrap();
        let message = read_train(dir.path()).unwrap_err();
        let [beside, below] =
            ["train/a.txt", "labels/train/a.txt"].map(|path| dir.path().join(path));
        let expected = format!("expected {} or {}", beside.display(), below.display());
        assert!(message.ends_with(&expected), "{message}");
    }
}

proptest! {
    #[test]
    fn label_lines_of_any_kind_never_panic(line in ".{0,60}", classes in 0usize..4) {
        let _ = parse_line(&line, classes);
        let _ = looks_like_labels(&line);
    }

    #[test]
    fn class_lists_of_any_kind_have_a_name_for_each_line_or_an_error(
        text in "([0-9]{0,2}[:., \t]{0,2}[a-z ]{0,4}\n){0,5}",
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("classes.txt");
        std::fs::write(&path, &text).unwrap();
        if let Ok(list) = ClassList::read(&path) {
            let lines = list.names.len() + usize::from(list.header.is_some());
            prop_assert_eq!(lines, text.trim_end().lines().count());
            prop_assert!(list.names.iter().all(|name| !name.is_empty()));
        }
    }

    #[test]
    fn written_boxes_are_read_back_to_a_thousandth_of_a_pixel(
        (width, height) in (1usize..5000, 1usize..5000),
        fractions in proptest::array::uniform4(0.0f64..1.0),
    ) {
        let size = ImageSize::new(height, width);
        let [a, b, c, d] = fractions;
        let (x, y) = (a * width as f64, b * height as f64);
        let (w, h) = (c * (width as f64 - x), d * (height as f64 - y));
        prop_assume!(w > 0.01 && h > 0.01);
        let xywh = [x, y, w, h].map(|v| v as f32);
        let stored = StoredBox { xywh: xywh.map(f64::from), size, is_crowd: false };
        let stored = YoloFormat.stored_box(&stored).unwrap();
        let text = format_labels(size, &[PlacedBox { class: 0, xywh: stored, flags: Default::default() }]);
        let read = parse_line(text.trim(), 1).unwrap().xywh(size);
        for (read, written) in read.iter().zip(xywh) {
            prop_assert!((read - written).abs() < 1e-3, "{:?} {:?}", read, xywh);
        }
    }
}

#[test]
fn entries_that_lead_elsewhere_are_noted_and_those_that_lead_nowhere_name_both_places() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let put = |text: &str| std::fs::write(root.join("data.yaml"), text).unwrap();
    std::fs::create_dir_all(root.join("images/train")).unwrap();
    std::fs::create_dir_all(root.join("labels/train")).unwrap();
    image::RgbImage::new(4, 4)
        .save(root.join("images/train/a.png"))
        .unwrap();
    std::fs::write(root.join("labels/train/a.txt"), "0 0.5 0.5 0.5 0.5\n").unwrap();
    let notes = || {
        let read = DatasetFiles::find(root).unwrap().read().unwrap();
        read.splits[0].notes.clone()
    };
    put("train: /no/where/images/train\nnames: [cat]\n");
    let used = root.join("images/train").display().to_string();
    assert_eq!(
        notes(),
        [format!(
            "`train` of data.yaml is `/no/where/images/train`, which does not exist: {used} is used"
        )]
    );
    // As it is written, and as Roboflow writes it.
    for entry in ["images/train", "../images/train"] {
        put(&format!("train: {entry}\nnames: [cat]\n"));
        assert_eq!(notes(), [""; 0], "{entry}");
    }
    put("path: /no/where\ntrain: images/gone\nnames: [cat]\n");
    let message = YoloDirectory::expect(root).unwrap_err().to_string();
    let beside = root.join("images/gone").display().to_string();
    assert!(
        message.ends_with(&format!(
            "`train` is `images/gone` and `path` is `/no/where`, but neither /no/where/images/gone nor {beside} exists"
        )),
        "{message}"
    );
}

#[test]
fn a_box_whose_center_is_beyond_its_image_is_read_and_pixels_are_not() {
    let read = parse_line("0 1.02 0.5 0.2 0.2", 1).unwrap();
    assert_eq!(read.cxcywh, [1.02, 0.5, 0.2, 0.2]);
    for line in ["0 2 3 1 1", "0 0.5 0.5 1.6 0.2", "0 -0.6 0.5 0.2 0.2"] {
        let problem = parse_line(line, 1).unwrap_err();
        assert!(problem.contains("is not a fraction"), "{line}: {problem}");
    }
}

#[test]
fn labels_without_images_are_named_as_such() {
    for label in ["labels/a.txt", "train/labels/a.txt"] {
        let dir = tempfile::tempdir().unwrap();
        let names = ("classes.txt", "cat\n");
        put_all(dir.path(), &[names, (label, "0 0.5 0.5 0.25 0.25\n")]);
        std::fs::create_dir(dir.path().join("images")).unwrap();
        let message = YoloDirectory::find(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("a.txt: YOLO labels without images; a directory `images`"),
            "{message}"
        );
    }
    // No labels either.
    let dir = tempfile::tempdir().unwrap();
    put_all(
        dir.path(),
        &[("labels/a.txt", "cat\n"), ("classes.txt", "cat\n")],
    );
    assert!(YoloDirectory::find(dir.path()).unwrap().is_none());
}

#[test]
fn a_missing_image_of_a_list_is_expected_where_the_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let label = "0 0.5 0.5 0.25 0.25\n";
    put_all(
        dir.path(),
        &[
            (
                "obj.data",
                "train = data/train.txt\nnames = data/obj.names\n",
            ),
            ("obj.names", "cat\n"),
            ("train.txt", "data/obj/a.png\ndata\\obj\\b.png\n"),
            ("obj/a.png", ""),
            ("obj/a.txt", label),
            ("obj/b.txt", label),
        ],
    );
    let message = read_train(dir.path()).unwrap_err();
    let expected = dir.path().join("obj/b.png").display().to_string();
    assert!(message.starts_with(&expected), "{message}");
}

#[test]
fn images_in_directories_of_any_depth_are_found_by_their_labels() {
    let label = "0 0.5 0.5 0.5 0.5\n";
    let train = |files: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        put_all(dir.path(), &[("classes.txt", "cat\n")]);
        put_all(dir.path(), files);
        let found = YoloDirectory::find(dir.path()).unwrap();
        found.map(|found| {
            let places = found.splits.into_iter().map(|(split, places)| {
                let place = places[0].strip_prefix(dir.path()).unwrap();
                format!("{split} {}", place.display())
            });
            places.collect::<Vec<_>>()
        })
    };
    for (files, expected) in [
        (
            &[
                ("images/train2017/a.png", ""),
                ("labels/train2017/a.txt", label),
                ("images/val2017/b.png", ""),
            ][..],
            &["train images/train2017", "val images/val2017"][..],
        ),
        (
            &[
                ("train_set/images/a.png", ""),
                ("train_set/labels/a.txt", label),
                ("val_set/images/b.png", ""),
            ],
            &["train train_set/images", "val val_set/images"],
        ),
        (
            &[
                ("images/cam1/a.png", ""),
                ("images/cam2/b.png", ""),
                ("labels/cam2/b.txt", label),
            ],
            // The images of cam1 are named as not used.
            &["train images/cam2"],
        ),
        (
            &[("images/cam1/a.png", ""), ("images/cam1/a.txt", label)],
            &["train images/cam1"],
        ),
        (
            &[("cam1/a.png", ""), ("cam1/a.txt", label)],
            &["train cam1"],
        ),
    ] {
        let found = train(files).unwrap_or_default();
        assert_eq!(found, expected, "{files:?}");
    }
    // Directories of classes have no labels.
    for files in [
        [("images/cat/a.png", ""), ("images/dog/b.png", "")],
        [("cat/a.png", ""), ("cat/a.txt", "a photo of a cat")],
    ] {
        assert_eq!(train(&files), None, "{files:?}");
    }
}

#[test]
fn labels_without_images_beside_those_of_images_are_named() {
    let label = "0 0.5 0.5 0.5 0.5\n";
    let dir = directory_of(&[
        ("classes.txt", "cat\n"),
        ("train/images/a.png", ""),
        ("train/images/cam1/b.png", ""),
        ("train/labels/a.txt", label),
        ("train/labels/cam1/b.txt", label),
        ("train/labels/notes.txt", "by Ann\n"),
        ("train/labels_old/a.txt", "0 0.4 0.5 0.5 0.5\n"),
        ("val/labels/c.txt", label),
        ("logs/times.txt", "2026 11 30 12 15\n"),
    ]);
    let root = dir.path();
    let found = DatasetFiles::find(root).unwrap();
    assert_eq!(
        found.unused,
        [
            "train/labels_old (YOLO without images)",
            "val/labels (YOLO without images)"
        ]
    );
    // A text is no label file without an image.
    let read = read_train(root).unwrap();
    assert_eq!(read.dropped.lines().count(), 0);
}

#[test]
fn lists_of_splits_that_no_description_names_are_named_as_not_used() {
    let label = "0 0.5 0.5 0.5 0.5\n";
    let dir = directory_of(&[
        ("classes.txt", "cat\n"),
        ("images/a.png", ""),
        ("labels/a.txt", label),
        ("splits/train.txt", "images/a.png\n"),
        ("splits/notes.txt", "by Ann\n"),
        ("ImageSets/Main/val.txt", "a\n"),
    ]);
    let expected = "without a data.yaml that names them, lists of images are not used: \
        splits/train.txt, ImageSets/Main/val.txt";
    let notes = read_train(dir.path()).unwrap().notes;
    assert!(notes.iter().any(|note| note == expected), "{notes:?}");
}

#[test]
fn splits_in_the_names_of_deeper_directories_are_not_joined() {
    let label = "0 0.5 0.5 0.5 0.5\n";
    for (files, expected) in [
        (
            &[
                ("train/cam1/a.png", ""),
                ("train/cam1/a.txt", label),
                ("val/cam1/b.png", ""),
                ("val/cam1/b.txt", label),
            ][..],
            &["train train/cam1", "val val/cam1"][..],
        ),
        (
            &[
                ("images/cam1/train/a.png", ""),
                ("labels/cam1/train/a.txt", label),
                ("images/cam1/val/b.png", ""),
                ("labels/cam1/val/b.txt", label),
                ("images/cam2/train/c.png", ""),
                ("labels/cam2/train/c.txt", label),
            ],
            &[
                "train images/cam1/train images/cam2/train",
                "val images/cam1/val",
            ],
        ),
        (
            &[
                ("train_set/a.png", ""),
                ("train_set/a.txt", label),
                ("Test/b.png", ""),
                ("Test/b.txt", label),
            ],
            // One name is exact; train has another.
            &["train train_set", "test Test"],
        ),
        // The outermost name decides.
        (
            &[
                ("train/test_track/a.png", ""),
                ("train/test_track/a.txt", label),
                ("val/train_station/b.png", ""),
                ("val/train_station/b.txt", label),
            ],
            &["train train/test_track", "val val/train_station"],
        ),
        (
            &[
                ("A-train/images/a.png", ""),
                ("A-val/images/b.png", ""),
                ("A-test-dev/images/c.png", ""),
                ("A-train/labels/a.txt", label),
            ],
            &[
                "train A-train/images",
                "val A-val/images",
                "test A-test-dev/images",
            ],
        ),
        (
            &[
                ("trainA/a.png", ""),
                ("trainA/a.txt", label),
                ("valA/b.png", ""),
                ("valA/b.txt", label),
            ],
            &["train trainA", "val valA"],
        ),
        // Labeled images around the directory of a split are no split of their own.
        (
            &[
                ("images/a.png", ""),
                ("labels/a.txt", label),
                ("images/val2017/b.png", ""),
                ("labels/val2017/b.txt", label),
            ],
            &["val images/val2017"],
        ),
        // Nor are those that a list of another split names.
        (
            &[
                ("images/a.png", ""),
                ("images/b.png", ""),
                ("labels/a.txt", label),
                ("labels/b.txt", label),
                ("val.txt", "images/b.png\n"),
            ],
            &["val val.txt"],
        ),
        // A name without a split beside that of val.
        (
            &[
                ("batch1/a.png", ""),
                ("batch1/a.txt", label),
                ("val/b.png", ""),
                ("val/b.txt", label),
            ],
            &["train batch1", "val val"],
        ),
        (
            &[
                ("cam_test/a.png", ""),
                ("cam_test/a.txt", label),
                ("cam_front/b.png", ""),
                ("cam_front/b.txt", label),
            ],
            &["train cam_front cam_test"],
        ),
        (
            &[
                ("images/train2014/a.png", ""),
                ("images/train2017/b.png", ""),
                ("labels/train2017/b.txt", label),
                ("images/val2017/c.png", ""),
            ],
            &[
                "train images/train2014 images/train2017",
                "val images/val2017",
            ],
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        put_all(dir.path(), &[("classes.txt", "cat\n")]);
        put_all(dir.path(), files);
        let found = YoloDirectory::find(dir.path()).unwrap().unwrap();
        let splits = found.splits.iter().map(|(split, places)| {
            let places = places.iter();
            let places = places.map(|place| place.strip_prefix(dir.path()).unwrap());
            let places: Vec<String> = places.map(|path| path.display().to_string()).collect();
            format!("{split} {}", places.join(" "))
        });
        assert_eq!(splits.collect::<Vec<_>>(), expected, "{files:?}");
        let unused = DatasetFiles::find(dir.path()).unwrap().unused;
        let is_whole = !files.contains(&("images/a.png", ""));
        assert_eq!(unused.is_empty(), is_whole, "{files:?}: {unused:?}");
    }
}

#[test]
fn images_without_labels_or_with_other_annotations_in_deeper_directories_are_named() {
    let label = "0 0.5 0.5 0.5 0.5\n";
    let xml = "<annotation><filename>b.png</filename><size><width>8</width><height>8</height></size>\
               <object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>\
               </object></annotation>";
    let dir = directory_of(&[
        ("classes.txt", "cat\n"),
        ("a/a.png", ""),
        ("a/a.txt", label),
        ("b/b.png", ""),
        ("b/b.xml", xml),
        ("vis/a.png", ""),
    ]);
    let root = dir.path();
    let found = DatasetFiles::find(root).unwrap();
    assert_eq!(found.unused, ["b (Pascal VOC)"]);
    let read = found.read().unwrap();
    assert_eq!(read.splits[0].store.image_count(), 1);
    assert!(
        read.splits[0]
            .notes
            .contains(&"no image in b, vis has a label file: these images are not used".into()),
        "{:?}",
        read.splits[0].notes
    );
    // Also where the same images have labels.
    put_all(root, &[("b/b.txt", label)]);
    assert_eq!(DatasetFiles::find(root).unwrap().unused, ["b (Pascal VOC)"]);
    let dir = directory_of(&[
        ("classes.txt", "cat\n"),
        ("images/train/a.png", ""),
        ("labels/train/a.txt", label),
        ("images/unlabeled/b.png", ""),
    ]);
    assert_eq!(
        read_train(dir.path()).unwrap().notes,
        ["no image in images/unlabeled has a label file: these images are not used"]
    );
    // Several names that may be those of splits.
    let dir = directory_of(&[
        ("classes.txt", "cat\n"),
        ("train_station/a.png", ""),
        ("train_station/a.txt", label),
        ("test_tube/b.png", ""),
        ("test_tube/b.txt", label),
    ]);
    let message = read_train(dir.path()).unwrap_err();
    assert!(
        message.contains("test_tube: the name leaves open whether its images are of one split"),
        "{message}"
    );
    // Labeled images beside the directories of the splits.
    let dir = directory_of(&[
        ("classes.txt", "cat\n"),
        ("a.png", ""),
        ("a.txt", label),
        ("train/b.png", ""),
        ("train/b.txt", label),
    ]);
    let root = dir.path();
    assert_eq!(
        DatasetFiles::find(root).unwrap().unused,
        ["1 labeled image beside the directories of the splits, such as a.png"]
    );
    let dir = directory_of(&[
        ("classes.txt", "cat\n"),
        ("Train/a.png", ""),
        ("Train/a.txt", label),
        ("Train/Images/b.png", ""),
        ("Train/Labels/b.txt", label),
    ]);
    let root = dir.path();
    let found = DatasetFiles::find(root).unwrap();
    assert_eq!(
        found.unused,
        ["1 labeled image beside the directories of the splits, such as Train/a.png"]
    );
    // The capitals of the directory are no difference of names.
    assert_eq!(found.read().unwrap().splits[0].notes, Vec::<String>::new());
}

#[test]
fn a_list_of_classes_makes_no_detection_dataset_of_class_directories_or_captions() {
    let dir = directory_of(&[
        ("classes.txt", "1 001.Crow\n2 002.Tern\n"),
        ("images.txt", "1 001.Crow/a.png\n2 002.Tern/b.png\n"),
        ("images/001.Crow/a.png", ""),
        ("images/002.Tern/b.png", ""),
    ]);
    let root = dir.path();
    assert!(YoloDirectory::find(root).unwrap().is_none());
    let dir = directory_of(&[
        ("classes.txt", "cat\ndog\n"),
        ("train.txt", "train/cat/a.png 0\ntrain/dog/b.png 1\n"),
        ("train/cat/a.png", ""),
        ("train/dog/b.png", ""),
    ]);
    let root = dir.path();
    assert!(YoloDirectory::find(root).unwrap().is_none());
    // Captions are no labels: the boxes are those of the table.
    let dir = directory_of(&[
        ("classes.txt", "cat\n"),
        ("images/a.png", ""),
        ("images/a.txt", "a photo of a cat\n"),
        (
            "annotations.csv",
            "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,8,8,cat,1,1,5,5\n",
        ),
    ]);
    let root = dir.path();
    let found = DatasetFiles::find(root).unwrap();
    assert_eq!(found.format.key(), "csv");
}

#[test]
fn annotations_with_a_train_split_are_preferred_to_those_of_val_in_another_format() {
    let label = "0 0.5 0.5 0.5 0.5\n";
    let dir = directory_of(&[
        (
            "coco.yaml",
            "train: train2017.txt\nval: val2017.txt\nnames: [cat]\n",
        ),
        ("train2017.txt", "./images/train2017/a.png\n"),
        ("val2017.txt", "./images/val2017/b.png\n"),
        ("images/train2017/a.png", ""),
        ("images/val2017/b.png", ""),
        ("labels/train2017/a.txt", label),
        ("labels/val2017/b.txt", label),
        (
            "annotations/instances_val2017.json",
            r#"{"images":[{"id":1,"file_name":"b.png","width":8,"height":8}],
                "categories":[{"id":1,"name":"cat"}],
                "annotations":[{"id":1,"image_id":1,"category_id":1,"bbox":[2,2,4,4],"area":16,"iscrowd":0}]}"#,
        ),
    ]);
    let root = dir.path();
    let found = DatasetFiles::find(root).unwrap();
    assert_eq!(found.format.key(), "yolo");
    let splits: Vec<Split> = found.splits.iter().map(|split| split.split).collect();
    assert_eq!(splits, [Split::Train, Split::Val]);
    assert_eq!(
        found.unused,
        ["COCO annotations (annotations/instances_val2017.json)"]
    );
    // Without splits they may be predictions.
    std::fs::remove_file(root.join("coco.yaml")).unwrap();
    for name in ["images/train2017", "labels/train2017"] {
        std::fs::remove_dir_all(root.join(name)).unwrap();
    }
    put_all(root, &[("classes.txt", "cat\n")]);
    let found = DatasetFiles::find(root).unwrap();
    assert_eq!(found.format.key(), "coco");
}

#[test]
fn one_label_file_for_images_of_two_splits_is_an_error() {
    let label = "0 0.5 0.5 0.5 0.5\n";
    let dir = directory_of(&[
        ("classes.txt", "cat\n"),
        ("images/train/a.png", ""),
        ("images/val/b.png", ""),
        ("labels/a.txt", label),
        ("labels/b.txt", label),
    ]);
    let root = dir.path();
    assert!(read_train(root).is_ok());
    put_all(root, &[("images/val/a.png", "")]);
    let message = read_train(root).unwrap_err();
    assert!(
        message.contains("labels/a.txt: the label file of two images")
            && message.contains("val/a.png"),
        "{message}"
    );
}

#[test]
fn a_dataset_with_a_directory_for_each_of_many_videos_is_read_whole() {
    let dir = directory_of(&[("classes.txt", "cat\n"), ("images/0000/a.png", "")]);
    let root = dir.path();
    let image = std::fs::read(root.join("images/0000/a.png")).unwrap();
    for number in 0..2100 {
        for (name, content) in [
            (format!("images/{number:04}/a.png"), &image[..]),
            (format!("labels/{number:04}/a.txt"), b"0 0.5 0.5 0.5 0.5\n"),
        ] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }
    let read = read_train(root).unwrap();
    assert_eq!(read.store.image_count(), 2100);
    assert_eq!(read.store.annotation_count(), 2100);
}

#[test]
fn lists_of_splits_in_forms_that_are_not_read_are_named_beside_yolo() {
    let label = "0 0.5 0.5 0.5 0.5\n";
    let images = [("images/a.png", ""), ("images/b.png", "")];
    let labels = [("labels/a.txt", label), ("labels/b.txt", label)];
    for (file, text, is_named) in [
        ("trainlist01.txt", "a\nb\n", true),
        ("train_test_split.txt", "a.png 1\nb.png 0\n", true),
        ("data.csv", "id,split\na,train\nb,val\n", true),
        ("folds.csv", "id,fold\na,0\nb,1\n", true),
        ("captions.txt", "a.png a cat\nb.png two cats\n", false),
        ("notes.txt", "a\nb\n", false),
    ] {
        let files = [
            &[("classes.txt", "cat\n"), (file, text)][..],
            &images,
            &labels,
        ]
        .concat();
        let found = DatasetFiles::find(directory_of(&files).path()).unwrap();
        let expected = if is_named {
            format!("classes.txt; not used: {file}")
        } else {
            "classes.txt".to_owned()
        };
        assert_eq!(found.explanation(), expected, "{file}");
    }
}

#[test]
fn masks_without_label_files_are_no_images() {
    let label = "0 0.5 0.5 0.5 0.5\n";
    // Black images have the pixels of masks, and the first ones are photographs.
    let photograph = image::RgbImage::from_fn(40, 30, |x, y| {
        let noise = (x * 37 + y * 91) % 23;
        image::Rgb([x * 5 + noise, y * 7 + noise, 200 - x - y].map(|value| value as u8))
    });
    for (masks, labels, count) in [
        (
            &["images/train/0_mask.png"][..],
            &["labels/train/0.txt"][..],
            1,
        ),
        (&["images/train/mask_0.png"], &["labels/train/0.txt"], 1),
        (&["images/train/0.png"], &["labels/train/0.txt"], 1),
        (
            &["images/train/0_mask.png"],
            &["labels/train/0.txt", "labels/train/0_mask.txt"],
            2,
        ),
    ] {
        let dir = directory_of(&[("classes.txt", "cat\n")]);
        let path = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        photograph.save(path("images/train/0.jpg")).unwrap();
        for mask in masks {
            image::RgbImage::new(40, 30).save(path(mask)).unwrap();
        }
        for file in labels {
            std::fs::write(path(file), label).unwrap();
        }
        let read = read_train(dir.path()).unwrap();
        assert_eq!(read.store.image_count(), count, "{masks:?}");
        let notes: Vec<&String> = read
            .notes
            .iter()
            .filter(|note| note.contains("mask"))
            .collect();
        assert_eq!(notes.len(), 2 - count, "{notes:?}");
    }
}
