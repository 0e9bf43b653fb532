use super::*;

fn tree(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    dir
}

fn open_train(root: &Path) -> Result<LabeledDataset, String> {
    let found = ImageFolder::find(root).ok_or("no classes")?;
    found.open(Split::Train).map_err(|error| error.to_string())
}

#[test]
fn splits_within_the_classes_are_refused_and_not_joined() {
    for (files, directory, problem) in [
        (
            &[
                "rose/train/1.jpg",
                "rose/val/2.jpg",
                "tulip/train/3.jpg",
                "tulip/val/4.jpg",
            ][..],
            "rose",
            "splits within a class: train, val",
        ),
        (
            &[
                "fold1/train/cat/1.jpg",
                "fold1/val/dog/2.jpg",
                "fold2/train/cat/3.jpg",
                "fold2/test/dog/4.jpg",
            ],
            "fold1",
            "no class, but a dataset with splits of its own: train, val",
        ),
    ] {
        let dir = tree(files);
        let message = open_train(dir.path()).unwrap_err();
        let expected = format!("{}: {problem}", dir.path().join(directory).display());
        assert_eq!(message, expected);
    }
    // Vehicles, and images of one kind.
    let dir = tree(&[
        "a/train/1.jpg",
        "a/car/2.jpg",
        "b/test/3.jpg",
        "b/test_tube/4.jpg",
    ]);
    assert_eq!(open_train(dir.path()).unwrap().class_names(), ["a", "b"]);
}

#[test]
fn what_macos_adds_to_archives_is_no_class() {
    for around in ["", "train/"] {
        let files = [
            "cat/1.jpg",
            "dog/2.jpg",
            "__MACOSX/cat/._1.jpg",
            "__MACOSX/3.jpg",
        ];
        let files = files.map(|file| format!("{around}{file}"));
        let dir = tree(&files.each_ref().map(String::as_str));
        let train = open_train(dir.path()).unwrap();
        assert_eq!(train.class_names(), ["cat", "dog"]);
        assert_eq!(train.notes(), [""; 0]);
    }
}

#[test]
fn images_further_below_the_directory_of_a_split_are_named() {
    const TRAIN: [&str; 2] = ["train/rose/1.jpg", "train/tulip/2.jpg"];
    const VAL: [&str; 2] = ["val/rose/1.jpg", "val/tulip/2.jpg"];
    for (files, split, places) in [
        (
            [
                &VAL[..],
                &["train/train/rose/3.jpg", "train/train/tulip/4.jpg"],
            ]
            .concat(),
            "train",
            "train/rose, train/tulip",
        ),
        (
            [
                &TRAIN[..],
                &["test/test/rose/3.jpg", "test/test/tulip/4.jpg"],
            ]
            .concat(),
            "test",
            "test/rose, test/tulip",
        ),
        (
            [&TRAIN[..], &["val/images/3.jpg"]].concat(),
            "val",
            "images",
        ),
    ] {
        let dir = tree(&files);
        let found = ImageFolder::find(dir.path()).unwrap();
        let opened = found.open(split.parse().unwrap());
        assert_eq!(
            opened.unwrap_err().to_string(),
            format!(
                "{}: no directories of classes with images; there are images in {places}",
                dir.path().join(split).display()
            )
        );
    }
}

#[test]
fn classes_in_a_directory_of_images_of_each_split_are_found() {
    let opened = |files: &[&str]| {
        let dir = tree(files);
        let found = ImageFolder::find(dir.path())?;
        let train = found.open(Split::Train).ok()?;
        Some((
            train.class_names().to_vec(),
            found.open(Split::Val).ok()?.len(),
        ))
    };
    let classes = ["rose", "tulip"].map(str::to_owned).to_vec();
    let below = [
        "train/images/rose/1.jpg",
        "train/images/tulip/2.jpg",
        "val/images/rose/3.jpg",
        "val/images/tulip/4.jpg",
    ];
    assert_eq!(opened(&below), Some((classes.clone(), 2)));
    // In one split only, and beside a class with the name.
    let one = [
        "train/rose/1.jpg",
        "train/tulip/2.jpg",
        "val/images/rose/3.jpg",
        "val/images/tulip/4.jpg",
    ];
    assert_eq!(opened(&one), Some((classes, 2)));
    assert_eq!(opened(&["train/images/1.jpg", "val/images/3.jpg"]), None);
}

#[test]
fn abbreviations_of_splits_around_classes_are_splits_and_none_of_languages() {
    let splits = |files: &[&str]| {
        let dir = tree(files);
        let found = ImageFolder::find(dir.path()).unwrap();
        found.open(Split::Train).unwrap().class_names().join(" ")
    };
    let files = [
        "tr/cat/1.jpg",
        "tr/dog/2.jpg",
        "te/cat/3.jpg",
        "te/dog/4.jpg",
    ];
    assert_eq!(splits(&files), "cat dog");
    assert_eq!(splits(&["tr/1.jpg", "te/2.jpg"]), "te tr");
}

#[test]
fn directories_of_a_split_in_two_capitals_and_folds_of_classes_are_refused() {
    for (files, expected) in [
        (
            &[
                "Train/cat/1.jpg",
                "Train/dog/2.jpg",
                "train/cat/3.jpg",
                "train/dog/4.jpg",
            ][..],
            "Train and train differ in capitals only, and both are directories of train",
        ),
        (
            &[
                "fold1/cat/1.jpg",
                "fold1/dog/2.jpg",
                "fold2/cat/3.jpg",
                "fold2/dog/4.jpg",
            ],
            "no classes, but folds with the same classes in each: fold1, fold2",
        ),
    ] {
        let dir = tree(files);
        let message = open_train(dir.path()).unwrap_err();
        assert_eq!(message, format!("{}: {expected}", dir.path().display()));
    }
    for files in [
        // Without images, it is not used.
        &["Train/cat/1.jpg", "Train/dog/2.jpg", "train/readme.md"][..],
        // Folds of cloth, and parts of a class.
        &["fold1/1.jpg", "fold2/2.jpg"],
        &["fold1/a/1.jpg", "fold2/b/2.jpg"],
        &["cat/a/1.jpg", "cat/b/2.jpg", "dog/a/3.jpg", "dog/b/4.jpg"],
    ] {
        assert!(open_train(tree(files).path()).is_ok(), "{files:?}");
    }
}

#[test]
fn a_link_of_train_that_leads_nowhere_is_named_where_train_is_missing() {
    #[cfg(unix)]
    {
        let dir = tree(&["val/cat/1.jpg", "val/dog/2.jpg"]);
        std::os::unix::fs::symlink("/nowhere", dir.path().join("train")).unwrap();
        let message = open_train(dir.path()).unwrap_err();
        assert!(
            message.ends_with("(train is a symbolic link to /nowhere, which does not exist)"),
            "{message}"
        );
    }
}

#[test]
fn masks_inside_classes_are_left_out_and_directories_that_may_be_classes_named() {
    for (files, note, count) in [
        (
            &[
                "COVID/images/1.jpg",
                "COVID/masks/1.jpg",
                "Normal/images/2.jpg",
                "Normal/masks/2.jpg",
            ][..],
            "not used: COVID/masks, Normal/masks",
            2,
        ),
        (
            &["yes/1.jpg", "no/2.jpg", "brain/yes/3.jpg", "brain/no/4.jpg"],
            "images of brain/no, brain/yes joined as class brain",
            4,
        ),
        (
            &[
                "color/apple/1.jpg",
                "color/corn/2.jpg",
                "grayscale/apple/3.jpg",
                "grayscale/corn/4.jpg",
            ],
            "images of color/apple, color/corn joined as class color; \
                    grayscale/apple, grayscale/corn joined as class grayscale; \
                 if apple, corn are the classes, each of the others is a dataset of its own",
            4,
        ),
        (
            &[
                "a/images/1.jpg",
                "a/x/2.jpg",
                "b/images/3.jpg",
                "b/x/4.jpg",
                "mask/masks/5.jpg",
            ],
            "",
            5,
        ),
    ] {
        let dir = tree(files);
        let directory = ImageFolder::find(dir.path()).unwrap();
        let classes = class_directories(dir.path()).unwrap();
        let images = ClassImages::read(&directory.root, dir.path(), &classes).unwrap();
        assert_eq!(images.len(), count);
        let note = (!note.is_empty()).then(|| format!("{}: {note}", dir.path().display()));
        assert_eq!(images.notes, Vec::from_iter(note));
    }
}

#[test]
fn directories_below_one_of_images_in_a_class_are_named_as_joined() {
    for (files, note) in [
        (
            &[
                "a/images/mug/1.jpg",
                "a/images/mug/2.jpg",
                "b/jpg/mug/3.jpg",
            ][..],
            "images of a/images/mug joined as class a; b/jpg/mug joined as class b",
        ),
        (
            &["cat/images/x/1.jpg", "cat/images/2.jpg", "dog/images/3.jpg"],
            "images of cat/images, cat/images/x joined as class cat",
        ),
        (
            &[
                "cat/images/x/1.jpg",
                "cat/images/masks/1.jpg",
                "dog/images/3.jpg",
            ],
            "not used: cat/images/masks; images of cat/images/x joined as class cat",
        ),
        // As without the directory of images.
        (
            &["cat/images/1.jpg", "dog/images/2.jpg", "dog/images/3.jpg"],
            "",
        ),
        (&["cat/x/1.jpg", "dog/y/2.jpg", "dog/z/3.jpg"], ""),
        // Superclasses, and videos of one class.
        (
            &["mammal/cat/1.jpg", "mammal/dog/2.jpg", "bird/3.jpg"],
            "images of mammal/cat, mammal/dog joined as class mammal",
        ),
        (
            &["walk/video1/1.jpg", "walk/video2/2.jpg", "run/video3/3.jpg"],
            "",
        ),
    ] {
        let dir = tree(files);
        let classes = class_directories(dir.path()).unwrap();
        let images = ClassImages::read(dir.path(), dir.path(), &classes).unwrap();
        let root = format!("{}: ", dir.path().display());
        let notes = images.notes.iter().map(|note| note.replace(&root, ""));
        assert_eq!(notes.collect::<Vec<_>>().join("; "), note, "{files:?}");
    }
    let dir = tree(&[
        "cat/images/train/1.jpg",
        "cat/images/val/2.jpg",
        "dog/images/3.jpg",
    ]);
    let message = open_train(dir.path()).unwrap_err();
    assert!(
        message.ends_with("splits within a class: train, val"),
        "{message}"
    );
}

#[test]
fn captions_beside_the_images_of_classes_are_refused_as_such() {
    let dir = tree(&["cat/1.jpg", "dog/2.jpg"]);
    for (text, expected) in [
        (
            "a cat",
            "a text, such as a caption, beside an image in a class directory",
        ),
        (
            "cat 1 2 3 4",
            "annotations beside images in class directories",
        ),
    ] {
        let file = dir.path().join("cat/1.txt");
        std::fs::write(&file, text).unwrap();
        let message = open_train(dir.path()).unwrap_err();
        assert_eq!(message, format!("{}: {expected}", file.display()));
    }
}

#[test]
fn json_beside_the_images_of_classes_is_an_annotation_only_with_keys_of_objects() {
    let dir = tree(&["cat/1.jpg", "dog/2.jpg"]);
    let file = dir.path().join("cat/1.json");
    for (text, is_refused) in [
        (
            r#"{"license": "CC BY", "source": "https://a.example", "object_count": 7}"#,
            false,
        ),
        (r#"{"boxes": [[1, 2, 3, 4]]}"#, true),
        (
            r#"{"objects": [{"name": "cat", "Polygon": [1, 2, 3, 4, 5, 6]}]}"#,
            true,
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(open_train(dir.path()).is_err(), is_refused, "{text}");
    }
}

#[test]
fn boxes_in_files_within_or_beside_the_directories_of_classes_are_named() {
    const IMAGES: [&str; 3] = ["train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg"];
    let named = |file: &str, text: &str| {
        let dir = tree(&IMAGES);
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        let note = ImageFolder::new(dir.path()).unused().unwrap_or_default();
        note.replace(&format!("{}: ", dir.path().display()), "")
    };
    let boxes = "cat 10.0 12.0 60.0 60.0\n";
    for (file, place) in [
        ("train/cat/Label/1.txt", "train/cat/Label"),
        ("train/dog/bbox/2.txt", "train/dog/bbox"),
        ("labels/cat/1.txt", "labels/cat"),
    ] {
        assert_eq!(named(file, boxes), format!("not used: boxes ({place})"));
    }
    // Captions, and boxes of other images.
    assert_eq!(named("train/cat/captions/1.txt", "a cat"), "");
    assert_eq!(named("train/cat/Label/9.txt", boxes), "");
}

#[test]
fn captions_of_coco_beside_classes_are_no_detection_dataset() {
    const CAPTIONS: &str = r#"{"images":[{"id":1,"file_name":"rose/1.jpg"}],
            "annotations":[{"id":1,"image_id":1,"caption":"a train"}]}"#;
    for file in ["captions.json", "annotations/captions.json"] {
        let dir = tree(&["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"]);
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, CAPTIONS).unwrap();
        assert!(!holds_annotations(dir.path()), "{file}");
        let train = open_train(dir.path()).unwrap();
        assert_eq!(train.class_names(), ["rose", "tulip"]);
        assert!(
            train.notes().iter().all(|note| !note.contains("not used")),
            "{:?}",
            train.notes()
        );
    }
}

#[test]
fn lists_of_a_dataset_beside_this_one_are_not_named() {
    const ROSES: [&str; 4] = ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
    const PETS: [&str; 4] = ["cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/4.jpg"];
    const TABLE: &str = "file,split\nrose/1.jpg,train\nrose/2.jpg,train\ntulip/3.jpg,val\n";
    for (table, pets, flowers) in [
        ("flowers_split/metadata.csv", None, Some("metadata.csv")),
        // Beside both, only the directories of the names say whose they are.
        ("metadata.csv", None, Some("../metadata.csv")),
        ("splits/all.csv", None, Some("../splits/all.csv")),
    ] {
        let flower_images = ROSES.map(|name| format!("flowers_split/{name}"));
        let pet_images = PETS.map(|name| format!("pets/{name}"));
        let all = flower_images.iter().chain(&pet_images);
        let dir = tree(&all.map(String::as_str).collect::<Vec<_>>());
        let path = dir.path().join(table);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, TABLE).unwrap();
        for (name, expected) in [("pets", pets), ("flowers_split", flowers)] {
            let root = dir.path().join(name);
            let train = open_train(&root).unwrap();
            let expected: Option<String> =
                expected.map(|file: &str| format!("{}: not used: {file}", root.display()));
            assert_eq!(train.notes(), Vec::from_iter(expected), "{table}");
        }
    }
}

#[test]
fn lists_in_directories_around_classes_are_named_unless_they_are_of_another_dataset() {
    const LIST: &str = "rose/r1.jpg\nrose/r2.jpg\ntulip/t3.jpg\n";
    const TABLE: &str = "file,split\nrose/r1.jpg,train\ntulip/t3.jpg,val\n";
    const OTHER: &str = "file,split\nB/rose/r1.jpg,train\nB/tulip/t3.jpg,val\n";
    for (file, text, expected) in [
        ("meta/train.txt", LIST, [true, true]),
        ("annotations/train.txt", LIST, [true, true]),
        ("ucfTrainTestlist/trainlist01.txt", LIST, [true, true]),
        ("splits/1/train.txt", LIST, [true, true]),
        ("split.csv", TABLE, [true, true]),
        ("meta/classes.txt", "rose\ntulip\n", [false, false]),
        (
            "meta/train.txt",
            "lily/l1.jpg\nlily/l2.jpg\n",
            [false, false],
        ),
        ("B_split.csv", TABLE, [false, true]),
        ("splits/b.csv", TABLE, [false, true]),
        ("B_lists/train.txt", LIST, [false, true]),
        ("all.csv", OTHER, [false, true]),
    ] {
        let images = ["rose/r1.jpg", "rose/r2.jpg", "tulip/t3.jpg", "tulip/t4.jpg"];
        let images = ["A", "B"].map(|name| images.map(|image| format!("{name}/{image}")));
        let dir = tree(
            &images
                .as_flattened()
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        for (name, is_named) in ["A", "B"].into_iter().zip(expected) {
            let found = ImageFolder::new(&dir.path().join(name)).unused_above();
            assert_eq!(
                found,
                Vec::from_iter(is_named.then_some(file)),
                "{file} of {name}"
            );
        }
    }
}

#[test]
fn what_is_beside_the_splits_of_classes_is_named() {
    let classes = [
        "train/cat/1.jpg",
        "train/dog/2.jpg",
        "val/cat/3.jpg",
        "val/dog/4.jpg",
    ];
    for (others, expected) in [
        (
            &["cow/1.jpg", "seg_pred/2.jpg", "notes/x.txt"][..],
            Some("cow, seg_pred"),
        ),
        (&["test/5.jpg", "6.jpg"], Some("test, 6.jpg")),
        (&["train/sample.jpg"], Some("train/sample.jpg")),
        (&["test/cat/5.jpg", "readme.txt"], None),
    ] {
        let dir = tree(&[&classes[..], others].concat());
        let train = open_train(dir.path()).unwrap();
        let expected = expected.map(|names| format!("{}: not used: {names}", dir.path().display()));
        assert_eq!(train.notes(), Vec::from_iter(expected), "{others:?}");
    }
}

#[test]
fn lists_of_splits_beside_classes_are_named_as_not_used() {
    let dir = tree(&[
        "cat/1.jpg",
        "cat/2.jpg",
        "dog/3.jpg",
        "train.csv",
        "val_list.txt",
        "a.txt",
    ]);
    let train = open_train(dir.path()).unwrap();
    let expected = format!(
        "{}: not used: train.csv, val_list.txt",
        dir.path().display()
    );
    assert_eq!(train.notes(), [expected]);
}

#[test]
fn tables_that_divide_the_images_of_classes_are_named_whatever_they_are_called() {
    const IMAGES: [&str; 4] = ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
    for (file, text, is_named) in [
        ("metadata.csv", "filename,split\n1.jpg,train\n", true),
        (
            "birds.csv",
            "id,filepaths,labels,data set\n0,train/x/1.jpg,rose,train\n",
            true,
        ),
        (
            "split.yaml",
            "train:\n- rose/1.jpg\nval:\n- rose/2.jpg\n",
            true,
        ),
        ("train.lst", "0\t0.0\trose/1.jpg\n", true),
        ("images.txt", "1 rose/1.jpg\n", true),
        ("data.csv", "id,split\n1,train\n2,val\n", true),
        ("data.csv", "id,fold\n1,0\n2,1\n", true),
        ("rose/train.txt", "1\n", true),
        ("rose/train.txt", "a rose\n", false),
        ("captions.csv", "id,caption\n1,a rose\n", false),
        ("metadata.csv", "filename,width\n1.jpg,640\n", false),
        ("other.csv", "filename,split\n9.jpg,train\n", false),
        ("config.yaml", "train: 10\n", false),
    ] {
        let dir = tree(&IMAGES);
        std::fs::write(dir.path().join(file), text).unwrap();
        let train = open_train(dir.path()).unwrap();
        let note = format!("{}: not used: {file}", dir.path().display());
        assert_eq!(
            train.notes(),
            Vec::from_iter(is_named.then_some(note)),
            "{file}"
        );
    }
}

#[test]
fn boxes_of_the_images_of_classes_in_formats_that_are_not_read_are_named() {
    const VIA: &str = r#"{"rose/1.jpg48": {"filename": "rose/1.jpg", "regions":
            [{"shape_attributes": {"name": "rect"}}]}}"#;
    const CVAT: &str = r#"<annotations><image name="rose/1.jpg"></image></annotations>"#;
    const STUDIO: &str = r#"[{"data": {"image": "/data/upload/1/0a1b2c3d-1.jpg"},
            "annotations": [{"result": []}]}]"#;
    const CREATE: &str = r#"[{"image": "1.jpg", "annotations": [{"label": "x",
            "coordinates": {}}]}]"#;
    for (file, text, format) in [
        ("via.json", VIA, "VIA project"),
        (
            "via.csv",
            "#filename,file_size,region_shape_attributes\n1.jpg,48,{}\n",
            "VIA CSV",
        ),
        ("annotations.xml", CVAT, "CVAT XML"),
        ("project.json", STUDIO, "Label Studio JSON"),
        ("_annotations.createml.json", CREATE, "CreateML"),
    ] {
        for (images, is_named) in [
            (
                ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"],
                true,
            ),
            // Those of other images are no boxes of these.
            (
                ["rose/5.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"],
                false,
            ),
        ] {
            let dir = tree(&images);
            std::fs::write(dir.path().join(file), text).unwrap();
            let train = open_train(dir.path()).unwrap();
            let path = dir.path().display();
            let note = format!("{path}: not used: {format} annotations ({file})");
            assert_eq!(
                train.notes(),
                Vec::from_iter(is_named.then_some(note)),
                "{file}"
            );
        }
    }
}

#[test]
fn classes_with_a_list_of_their_names_and_of_their_images_are_no_yolo() {
    const IMAGES: [&str; 4] = ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
    let numbered = [
        "1 rose/1.jpg",
        "2 rose/2.jpg",
        "3 tulip/3.jpg",
        "4 tulip/4.jpg",
    ];
    for (classes, list, lines) in [
        ("rose\ntulip\n", "images.txt", IMAGES),
        ("1 rose\n2 tulip\n", "images.txt", numbered),
        ("rose\ntulip\n", "train.txt", IMAGES),
    ] {
        let dir = tree(&IMAGES);
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
        };
        write("classes.txt", classes);
        write(list, &lines.join("\n"));
        let train = open_train(dir.path()).unwrap();
        let note = format!("{}: not used: {list}", dir.path().display());
        assert_eq!(train.notes(), [note]);
        assert!(!holds_annotations(dir.path()));
        // With one label file, it is YOLO.
        write("tulip/4.txt", "0 0.5 0.5 0.1 0.1\n");
        assert!(holds_annotations(dir.path()));
    }
}

#[test]
fn annotations_within_a_directory_of_images_are_found() {
    let dir = tree(&["MOT17-02/img1/1.jpg", "MOT17-04/img1/1.jpg"]);
    assert_eq!(annotations_of_images(dir.path()), None);
    let dir = tree(&[
        "MOT17-02/img1/1.jpg",
        "MOT17-04/img1/1.jpg",
        "MOT17-04/gt/gt.txt",
    ]);
    let found = dir.path().join("MOT17-04/gt/gt.txt");
    assert_eq!(annotations_of_images(dir.path()), Some(found));
}

#[test]
fn masks_beside_the_images_that_they_are_named_after_are_left_out_and_counted() {
    for (files, note, count) in [
        (
            &[
                "benign/benign (0).png",
                "benign/benign (0)_mask.png",
                "benign/benign (0)_mask_1.png",
                "normal/a.jpg",
                "normal/A_Mask.PNG",
                "normal/ISIC_1.jpg",
                "normal/isic_1_segmentation.png",
            ][..],
            Some("4 masks named after images beside them, such as benign/benign (0)_mask.png"),
            3,
        ),
        (
            &["a/x/1.jpg", "a/x/1-mask.png", "b/2.jpg", "b/3_mask.png"],
            Some("1 mask named after images beside them, such as a/x/1-mask.png"),
            3,
        ),
        // Names of images, and those of no image beside them.
        (
            &[
                "mask/1_mask.jpg",
                "mask/2_mask.jpg",
                "mask/mask_1.jpg",
                "mask/mask_2.jpg",
                "plain/1.jpg",
                "plain/unmask.jpg",
                "plain/un.jpg",
                "plain/y/2_mask.jpg",
            ],
            None,
            8,
        ),
    ] {
        let dir = tree(files);
        let classes = class_directories(dir.path()).unwrap();
        let images = ClassImages::read(dir.path(), dir.path(), &classes).unwrap();
        assert_eq!(images.len(), count, "{files:?}");
        let note = note.map(|note| format!("{}: not used: {note}", dir.path().display()));
        let mut notes = images.notes;
        notes.retain(|note| !note.contains("joined"));
        assert_eq!(notes, Vec::from_iter(note));
    }
}

#[test]
fn images_in_a_class_and_below_it_are_joined_with_a_note() {
    let dir = tree(&[
        "rose/0.jpg",
        "rose/close/1.jpg",
        "rose/far/1/2.jpg",
        "tulip/3.jpg",
        "lily/x/4.jpg",
        "lily/y/5.jpg",
    ]);
    let train = open_train(dir.path()).unwrap();
    let expected = format!(
        "{}: images of rose, rose/close, rose/far joined as class rose",
        dir.path().display()
    );
    assert_eq!(train.notes(), [expected]);
}

#[test]
fn directories_without_images_are_no_classes_and_their_lists_are_named() {
    const CLASSES: [&str; 4] = ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
    for (others, notes) in [
        (
            &["splits/trainlist01.txt", "splits/1/testlist01.txt"][..],
            &["not used: splits/1/testlist01.txt, splits/trainlist01.txt"][..],
        ),
        (
            &["docs/readme.md", "about/LICENSE", "meta/classes.txt"],
            &[],
        ),
        (&["labels/classes.txt"], &[]),
        // What may have been meant as a class.
        (
            &["models/best.pt", "lily/1.txt", "train_lists/a.txt"],
            &["not a class, without images: lily, models, train_lists"],
        ),
        // Classes, whatever they are called.
        (&["splits/1.jpg", "splits/2.jpg", "docs/3.jpg"], &[]),
    ] {
        let dir = tree(&[&CLASSES[..], others].concat());
        let train = open_train(dir.path()).unwrap();
        let notes = notes.iter();
        let notes: Vec<String> = notes
            .map(|note| format!("{}: {note}", dir.path().display()))
            .collect();
        assert_eq!(train.notes(), notes, "{others:?}");
        let with_images = others.iter().any(|name| name.ends_with("jpg"));
        assert_eq!(train.class_names().len(), if with_images { 4 } else { 2 });
    }
    // A class whose images are packed, not decoded, or not there at all.
    for (other, expected) in [
        ("lily/images.zip", "no images in lily, but lily/images.zip"),
        (
            "lily/1.heic",
            "no images in lily that can be decoded, but 1 image in a format that is not supported (.heic: 1)",
        ),
        ("lily/x/.hidden.jpg", "no images in lily"),
    ] {
        let dir = tree(&[&CLASSES[..], &[other]].concat());
        let message = open_train(dir.path()).unwrap_err();
        let expected = format!("{}: {expected}", dir.path().display());
        assert_eq!(message.replace('\\', "/"), expected.replace('\\', "/"));
    }
}

#[test]
fn tables_of_splits_and_lists_beside_splits_are_named_as_not_used() {
    const FLAT: [&str; 4] = ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
    const SPLITS: [&str; 4] = [
        "train/rose/1.jpg",
        "train/tulip/2.jpg",
        "val/rose/3.jpg",
        "val/tulip/4.jpg",
    ];
    const LISTS: &str = "splits/testlist01.txt, splits/trainlist01.txt";
    for (classes, others, expected) in [
        (&FLAT, &["splits.csv"][..], Some("splits.csv")),
        (&FLAT, &["labels.csv"], Some("labels.csv")),
        (
            &SPLITS,
            &["splits/trainlist01.txt", "splits/testlist01.txt"],
            Some(LISTS),
        ),
        (&SPLITS, &["splits.csv"], Some("splits.csv")),
        (
            &SPLITS,
            &["train/labels.csv", "readme.txt"],
            Some("train/labels.csv"),
        ),
        (
            &SPLITS,
            &["noisy_imagenette.csv", "results/test_results.csv"],
            None,
        ),
    ] {
        let dir = tree(&[&classes[..], others].concat());
        for other in others {
            std::fs::write(dir.path().join(other), "path,split\nrose/1.jpg,train\n").unwrap();
        }
        let train = open_train(dir.path()).unwrap();
        let expected = expected.map(|names| format!("{}: not used: {names}", dir.path().display()));
        assert_eq!(train.notes(), Vec::from_iter(expected), "{others:?}");
    }
}

#[test]
fn directories_of_masks_beside_classes_and_classes_that_may_be_none_are_noted() {
    for (files, note) in [
        (
            &["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg", "masks/a/1.png"][..],
            "not a class: masks",
        ),
        (
            &[
                "train/a/1.jpg",
                "train/b/2.jpg",
                "train/masks/a/1.png",
                "val/a/3.jpg",
                "val/b/4.jpg",
            ],
            "not a class: masks",
        ),
        (
            &[
                "a/1.jpg",
                "a/2.jpg",
                "b/3.jpg",
                "b/4.jpg",
                "unlabeled/5.jpg",
            ],
            "used as a class, though its name says that its images have none: unlabeled",
        ),
        (
            &["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg", "seg_pred/5.jpg"],
            "used as a class, though its name says that its images have none: seg_pred",
        ),
        (
            &["a/1.jpg", "a/2.jpg", "predator/3.jpg", "predator/4.jpg"],
            "",
        ),
    ] {
        let dir = tree(files);
        let train = open_train(dir.path()).unwrap();
        let notes = train.notes().join("; ");
        assert!(
            notes.ends_with(note) && notes.is_empty() == note.is_empty(),
            "{notes}"
        );
    }
}

#[test]
fn the_layouts_of_public_datasets_have_no_notes() {
    for files in [
        // Imagenette.
        &[
            "train/n01440764/n01440764_1.JPEG",
            "train/n02102040/n02102040_2.JPEG",
            "val/n01440764/ILSVRC2012_val_00000293.JPEG",
            "val/n02102040/ILSVRC2012_val_00000665.JPEG",
            "noisy_imagenette.csv",
        ][..],
        // Food-101 and CUB, by the directory of their images.
        &[
            "apple_pie/1005649.jpg",
            "apple_pie/1011328.jpg",
            "waffles/1.jpg",
            "waffles/2.jpg",
        ],
        &[
            "001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg",
            "001.Black_footed_Albatross/Black_Footed_Albatross_0002_55.jpg",
            "002.Laysan_Albatross/Laysan_Albatross_0001_545.jpg",
            "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg",
        ],
        // Flowers of TensorFlow.
        &[
            "daisy/100080576_f52e8ee070_n.jpg",
            "daisy/10140303196_b88d3d6cec.jpg",
            "roses/10090824183_d02c613f10_m.jpg",
            "roses/102501987_3cdb8e5394_n.jpg",
            "LICENSE.txt",
        ],
        // Faces with masks.
        &[
            "with_mask/with_mask_1.jpg",
            "with_mask/1-with-mask.jpg",
            "without_mask/without_mask_1.jpg",
            "without_mask/1.jpg",
        ],
    ] {
        let dir = tree(files);
        let train = open_train(dir.path()).unwrap();
        assert_eq!(train.notes(), [""; 0]);
        let images = files.iter().filter(|file| !file.starts_with("val/"));
        let images =
            images.filter(|file| has_extension(Path::new(file), "jpg") || file.ends_with("JPEG"));
        let found = ImageFolder::find(dir.path()).unwrap();
        let held_out = found.open(Split::Val).unwrap().len();
        let held_out = if files[0].starts_with("train/") {
            0
        } else {
            held_out
        };
        assert_eq!(train.len() + held_out, images.count());
    }
}

#[test]
fn boxes_of_the_images_of_classes_in_no_format_are_named() {
    const IMAGES: [&str; 4] = ["rose/r1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
    for (files, expected) in [
        (
            &[("boxes.json", r#"{"rose/r1.jpg": [[10, 10, 40, 40]]}"#)][..],
            Some("boxes (boxes.json)"),
        ),
        (
            &[(
                "all.csv",
                "fname,x1,y1,x2,y2,class\nrose/2.jpg,1,2,3,4,rose\n",
            )],
            Some("boxes (all.csv)"),
        ),
        (
            &[(
                "bbox.csv",
                "ImageID,XMin,XMax,YMin,YMax\nr1,0.1,0.2,0.3,0.4\n",
            )],
            Some("boxes (bbox.csv)"),
        ),
        (
            &[
                ("bounding_boxes.txt", "8 60.0 27.0 325.0 304.0\n"),
                ("images.txt", "8 rose/r1.jpg\n"),
            ],
            Some("boxes (bounding_boxes.txt), images.txt"),
        ),
        (
            &[("scores.json", r#"{"rose/r1.jpg": [0.1, 0.2, 0.3, 0.4]}"#)],
            None,
        ),
    ] {
        let dir = tree(&IMAGES);
        for (file, text) in files {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let train = open_train(dir.path()).unwrap();
        let expected = expected.map(|named| format!("{}: not used: {named}", dir.path().display()));
        assert_eq!(train.notes(), Vec::from_iter(expected), "{files:?}");
    }
}

#[test]
fn lists_around_a_directory_of_classes_are_named_if_they_name_its_images() {
    const IMAGES: [&str; 4] = [
        "images/rose/r1.jpg",
        "images/rose/r2.jpg",
        "images/tulip/t3.jpg",
        "images/tulip/t4.jpg",
    ];
    for (files, expected) in [
        (
            &[
                (
                    "images.txt",
                    "1 rose/r1.jpg\n2 rose/r2.jpg\n3 tulip/t3.jpg\n",
                ),
                ("train_test_split.txt", "1 1\n2 0\n3 1\n"),
                ("bounding_boxes.txt", "1 60 27 325 304\n2 1 2 3 4\n"),
                ("image_class_labels.txt", "1 1\n2 1\n3 2\n"),
                ("classes.txt", "1 rose\n2 tulip\n"),
            ][..],
            Some("bounding_boxes.txt, train_test_split.txt"),
        ),
        (
            &[
                ("labels/train1.txt", "rose/r1.jpg\nrose/r2.jpg\n"),
                ("labels/labels_joint_anno.txt", "rose/r1.jpg rose\n"),
            ],
            Some("labels/train1.txt"),
        ),
        // Of another dataset.
        (
            &[
                ("train_test_split.txt", "1 1\n2 0\n3 1\n"),
                ("train.txt", "lily/l1.jpg\n"),
                ("data.csv", "id,split\nl1,train\n"),
            ],
            None,
        ),
    ] {
        let dir = tree(&IMAGES);
        for (file, text) in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let images = dir.path().join("images");
        let train = open_train(&images).unwrap();
        let names: Vec<&str> = expected
            .into_iter()
            .flat_map(|names: &str| names.split(", "))
            .collect();
        let above: Vec<String> = names.iter().map(|name| format!("../{name}")).collect();
        let expected = (!above.is_empty())
            .then(|| format!("{}: not used: {}", images.display(), above.join(", ")));
        assert_eq!(train.notes(), Vec::from_iter(expected));
        assert_eq!(ImageFolder::new(&images).unused_above(), names);
    }
}
