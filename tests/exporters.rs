//! What sedet does with the exports of the usual annotation programs: `docs/exporters.md`.
//!
//! Each fixture has the files of an exporter in its layout, with the same images and boxes. The table in
//! the documentation is written by `UPDATE_DOCS=1 cargo test --release --test data exporters`.

use std::collections::BTreeMap;
use std::path::Path;

use sedet::DataError;
use sedet::annotations::AnnotationStore;
use sedet::annotations::layout::LayoutError;
use sedet::datasets::registry::{AnyDatasetName, DatasetName, RecognizedTask, RegistryError};
use sedet::text::count;
use serde_json::{Value, json};

/// An export: the program, what it is called there, and the function that writes its files.
type Export = (&'static str, &'static str, fn(&Path));

const WIDTH: u32 = 96;
const HEIGHT: u32 = 64;
/// The boxes of every image: class and `[x, y, width, height]`.
const BOXES: [(&str, [u32; 4]); 2] = [("cat", [10, 10, 30, 20]), ("dog", [50, 20, 25, 30])];
/// The images of an export without splits.
const ALL: [&str; 4] = ["1", "2", "3", "4"];
const TRAIN: [&str; 3] = ["1", "2", "3"];
const VAL: [&str; 1] = ["4"];

fn put(root: &Path, name: &str, content: impl AsRef<[u8]>) {
    // An absolute name would leave the directory of the test.
    let path = root.join(name.trim_start_matches('/'));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Writes images of a color that follows from the name: the same content twice is reported.
fn images(root: &Path, directory: &str, names: &[&str]) {
    for name in names {
        let path = root.join(directory).join(format!("{name}.jpg"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let gray = name
            .bytes()
            .fold(0, |sum: u8, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let image = image::RgbImage::from_pixel(WIDTH, HEIGHT, image::Rgb([gray; 3]));
        image.save(path).unwrap();
    }
}

/// COCO JSON; `name` is the format of file names, `size` the width and height that are written.
fn coco(names: &[&str], name: fn(&str) -> String, size: [i64; 2]) -> String {
    let images = (1..).zip(names);
    let entries: Vec<Value> = images
        .clone()
        .map(|(id, image)| json!({"id": id, "file_name": name(image), "width": size[0], "height": size[1]}))
        .collect();
    let mut boxes = Vec::new();
    for (image, _) in images {
        for (category, (_, xywh)) in (1..).zip(BOXES) {
            let id = boxes.len() + 1;
            boxes.push(json!({
                "id": id, "image_id": image, "category_id": category, "bbox": xywh, "iscrowd": 0,
                "area": xywh[2] * xywh[3], "segmentation": [],
            }));
        }
    }
    let categories: Vec<Value> = (1..)
        .zip(BOXES)
        .map(|(id, (name, _))| json!({"id": id, "name": name}))
        .collect();
    json!({"images": entries, "annotations": boxes, "categories": categories}).to_string()
}

fn plain(name: &str) -> String {
    format!("{name}.jpg")
}

const SIZE: [i64; 2] = [WIDTH as i64, HEIGHT as i64];

fn voc(root: &Path, directory: &str, names: &[&str]) {
    for name in names {
        let objects: String = BOXES
            .iter()
            .map(|(class, [x, y, w, h])| {
                format!(
                    "<object><name>{class}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>",
                    x + w,
                    y + h
                )
            })
            .collect();
        let xml = format!(
            "<annotation><folder>f</folder><filename>{name}.jpg</filename><path>C:\\f\\{name}.jpg</path><size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>{objects}</annotation>"
        );
        put(root, &format!("{directory}/{name}.xml"), xml);
    }
}

/// Label files of YOLO with `extra` numbers behind each box.
fn yolo_with(root: &Path, directory: &str, names: &[&str], extra: &str) {
    let text: String = (0..)
        .zip(BOXES)
        .map(|(class, (_, xywh))| {
            let [x, y, w, h] = xywh.map(f64::from);
            let (width, height) = (f64::from(WIDTH), f64::from(HEIGHT));
            let (cx, cy) = ((x + w / 2.0) / width, (y + h / 2.0) / height);
            format!(
                "{class} {cx:.8} {cy:.8} {:.8} {:.8}{extra}\n",
                w / width,
                h / height
            )
        })
        .collect();
    for name in names {
        put(root, &format!("{directory}/{name}.txt"), &text);
    }
}

fn yolo(root: &Path, directory: &str, names: &[&str]) {
    yolo_with(root, directory, names, "");
}

fn csv(root: &Path, file: &str, names: &[&str]) {
    let mut text = "filename,width,height,class,xmin,ymin,xmax,ymax\n".to_owned();
    for name in names {
        for (class, [x, y, w, h]) in BOXES {
            text += &format!(
                "{name}.jpg,{WIDTH},{HEIGHT},{class},{x},{y},{},{}\n",
                x + w,
                y + h
            );
        }
    }
    put(root, file, text);
}

fn list(root: &Path, file: &str, prefix: &str, names: &[&str]) {
    let lines = names.iter().map(|name| format!("{prefix}{name}.jpg\n"));
    put(root, file, lines.collect::<String>());
}

const EXPORTS: &[Export] = &[
    ("LabelImg", "XML files beside the images", |root| {
        images(root, "", &ALL);
        voc(root, "", &ALL);
    }),
    (
        "LabelImg",
        "XML files in `annotations/`, images in `images/`",
        |root| {
            images(root, "images", &ALL);
            voc(root, "annotations", &ALL);
        },
    ),
    (
        "LabelImg",
        "YOLO: text files and `classes.txt` beside the images",
        |root| {
            images(root, "", &ALL);
            yolo(root, "", &ALL);
            put(root, "classes.txt", "cat\ndog\n");
        },
    ),
    ("LabelImg", "CreateML: JSON beside the images", |root| {
        images(root, "", &ALL);
        let label =
            json!({"label": "cat", "coordinates": {"x": 25, "y": 20, "width": 30, "height": 20}});
        put(
            root,
            "labels.json",
            json!([{"image": "1.jpg", "annotations": [label]}]).to_string(),
        );
    }),
    (
        "CVAT",
        "COCO 1.0: `annotations/instances_default.json`, `images/default/`",
        |root| {
            images(root, "images/default", &ALL);
            put(
                root,
                "annotations/instances_default.json",
                coco(&ALL, plain, SIZE),
            );
        },
    ),
    (
        "CVAT",
        "YOLO 1.1: `obj.data`, `obj.names`, `train.txt`, `obj_train_data/`",
        |root| {
            images(root, "obj_train_data", &ALL);
            yolo(root, "obj_train_data", &ALL);
            put(root, "obj.names", "cat\ndog\n");
            put(
                root,
                "obj.data",
                "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
            );
            list(root, "train.txt", "data/obj_train_data/", &ALL);
        },
    ),
    (
        "CVAT",
        "Ultralytics YOLO Detection 1.0: `data.yaml`, `train.txt`, `images/train/`, `labels/train/`",
        |root| {
            images(root, "images/train", &ALL);
            yolo(root, "labels/train", &ALL);
            put(
                root,
                "data.yaml",
                "names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\n",
            );
            list(root, "train.txt", "data/images/train/", &ALL);
        },
    ),
    (
        "CVAT",
        "PASCAL VOC 1.1: `Annotations/`, `JPEGImages/`, `ImageSets/Main/default.txt`",
        |root| {
            images(root, "JPEGImages", &ALL);
            voc(root, "Annotations", &ALL);
            put(root, "ImageSets/Main/default.txt", "1\n2\n3\n4\n");
            put(
                root,
                "labelmap.txt",
                "# label:color_rgb:parts:actions\ncat:1,2,3::\n",
            );
        },
    ),
    ("CVAT", "CVAT for images 1.1: `annotations.xml`", |root| {
        images(root, "images", &ALL);
        put(
            root,
            "annotations.xml",
            "<?xml version=\"1.0\"?>\n<annotations><version>1.1</version><image/></annotations>",
        );
    }),
    ("Label Studio", "COCO: `result.json`, `images/`", |root| {
        images(root, "images", &ALL);
        put(
            root,
            "result.json",
            coco(&ALL, |name| format!("images/{name}.jpg"), SIZE),
        );
    }),
    (
        "Label Studio",
        "COCO, written on Windows: names with `\\`",
        |root| {
            images(root, "images", &ALL);
            put(
                root,
                "result.json",
                coco(&ALL, |name| format!("images\\{name}.jpg"), SIZE),
            );
        },
    ),
    (
        "Label Studio",
        "YOLO: `classes.txt`, `notes.json`, `images/`, `labels/`",
        |root| {
            images(root, "images", &ALL);
            yolo(root, "labels", &ALL);
            put(root, "classes.txt", "cat\ndog");
            let categories = json!([{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]);
            put(
                root,
                "notes.json",
                json!({"categories": categories, "info": {}}).to_string(),
            );
        },
    ),
    (
        "Label Studio",
        "Pascal VOC XML: `Annotations/`, `images/`",
        |root| {
            images(root, "images", &ALL);
            voc(root, "Annotations", &ALL);
        },
    ),
    ("Label Studio", "JSON", |root| {
        let result =
            json!([{"type": "rectanglelabels", "value": {"rectanglelabels": ["cat"], "x": 1}}]);
        put(
            root,
            "project.json",
            json!([{"id": 1, "annotations": [{"result": result}]}]).to_string(),
        );
    }),
    ("Roboflow", "COCO: `train/_annotations.coco.json`", |root| {
        for (directory, names) in [("train", &TRAIN[..]), ("valid", &VAL)] {
            images(root, directory, names);
            put(
                root,
                &format!("{directory}/_annotations.coco.json"),
                coco(names, plain, SIZE),
            );
        }
    }),
    (
        "Roboflow",
        "YOLO: `data.yaml`, `train/images/`, `train/labels/`",
        |root| {
            for (directory, names) in [("train", &TRAIN[..]), ("valid", &VAL)] {
                images(root, &format!("{directory}/images"), names);
                yolo(root, &format!("{directory}/labels"), names);
            }
            put(root, "README.roboflow.txt", "x");
            put(
                root,
                "data.yaml",
                "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n",
            );
        },
    ),
    (
        "Roboflow",
        "YOLO Darknet: `train/_darknet.labels`, labels beside the images",
        |root| {
            for (directory, names) in [("train", &TRAIN[..]), ("valid", &VAL)] {
                images(root, directory, names);
                yolo(root, directory, names);
                put(root, &format!("{directory}/_darknet.labels"), "cat\ndog\n");
            }
        },
    ),
    (
        "Roboflow",
        "Pascal VOC: XML files beside the images in `train/`, `valid/`",
        |root| {
            for (directory, names) in [("train", &TRAIN[..]), ("valid", &VAL)] {
                images(root, directory, names);
                voc(root, directory, names);
            }
        },
    ),
    (
        "Roboflow",
        "TensorFlow CSV: `train/_annotations.csv`",
        |root| {
            for (directory, names) in [("train", &TRAIN[..]), ("valid", &VAL)] {
                images(root, directory, names);
                csv(root, &format!("{directory}/_annotations.csv"), names);
            }
        },
    ),
    (
        "Roboflow",
        "CreateML: `train/_annotations.createml.json`",
        |root| {
            for (directory, names) in [("train", &TRAIN[..]), ("valid", &VAL)] {
                images(root, directory, names);
                put(
                    root,
                    &format!("{directory}/_annotations.createml.json"),
                    "[]",
                );
            }
        },
    ),
    ("Roboflow", "TFRecord: `train/cats.tfrecord`", |root| {
        put(root, "train/cats.tfrecord", "\0\0");
    }),
    (
        "FiftyOne",
        "COCODetectionDataset: `data/`, `labels.json`",
        |root| {
            images(root, "data", &ALL);
            put(root, "labels.json", coco(&ALL, plain, SIZE));
        },
    ),
    (
        "FiftyOne",
        "COCODetectionDataset for each split: `train/data/`, `train/labels.json`",
        |root| {
            for (directory, names) in [("train", &TRAIN[..]), ("validation", &VAL)] {
                images(root, &format!("{directory}/data"), names);
                let labels = coco(names, plain, SIZE);
                put(root, &format!("{directory}/labels.json"), labels);
            }
        },
    ),
    (
        "FiftyOne",
        "YOLOv5Dataset: `dataset.yaml`, `images/train/`, `labels/train/`",
        |root| {
            for (directory, names) in [("train", &TRAIN[..]), ("val", &VAL)] {
                images(root, &format!("images/{directory}"), names);
                yolo(root, &format!("labels/{directory}"), names);
            }
            put(
                root,
                "dataset.yaml",
                "names:\n- cat\n- dog\nnc: 2\npath: /somewhere/else\ntrain: ./images/train/\nval: ./images/val/\n",
            );
        },
    ),
    (
        "FiftyOne",
        "YOLOv4Dataset: `obj.names`, `images.txt`, `data/`",
        |root| {
            images(root, "data", &ALL);
            yolo(root, "data", &ALL);
            put(root, "obj.names", "cat\ndog\n");
            list(root, "images.txt", "data/", &ALL);
        },
    ),
    (
        "FiftyOne",
        "VOCDetectionDataset: `data/`, `labels/`",
        |root| {
            images(root, "data", &ALL);
            voc(root, "labels", &ALL);
        },
    ),
    (
        "FiftyOne",
        "FiftyOneDataset: `samples.json`, `metadata.json`",
        |root| {
            images(root, "data", &ALL);
            put(
                root,
                "metadata.json",
                json!({"version": "1.0", "sample_fields": [{"ftype": "fiftyone.core.fields"}]})
                    .to_string(),
            );
            put(
                root,
                "samples.json",
                json!({"samples": [{"_cls": "Sample"}]}).to_string(),
            );
        },
    ),
    (
        "VIA",
        "COCO: a JSON file beside the images, without sizes",
        |root| {
            images(root, "", &ALL);
            put(root, "via_export_coco.json", coco(&ALL, plain, [-1, -1]));
        },
    ),
    ("VIA", "JSON", |root| {
        images(root, "", &ALL);
        put(root, "via_export_json.json", json!({"1.jpg1234": {"filename": "1.jpg", "regions": [{"shape_attributes": {"name": "rect"}}]}}).to_string());
    }),
    ("VIA", "CSV", |root| {
        images(root, "", &ALL);
        put(
            root,
            "via_export_csv.csv",
            "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n",
        );
    }),
    (
        "darknet",
        "`obj.data`, `obj.names`, lists of images, labels beside the images",
        |root| {
            images(root, "obj", &ALL);
            yolo(root, "obj", &ALL);
            put(root, "obj.names", "cat\ndog\n");
            put(
                root,
                "obj.data",
                "classes= 2\ntrain  = data/train.txt\nvalid  = data/val.txt\nnames = data/obj.names\n",
            );
            list(root, "train.txt", "data/obj/", &TRAIN);
            list(root, "val.txt", "data/obj/", &VAL);
        },
    ),
    (
        "ultralytics",
        "`data.yaml`, `images/train/`, `labels/train/`",
        |root| {
            for (directory, names) in [("train", &TRAIN[..]), ("val", &VAL)] {
                images(root, &format!("images/{directory}"), names);
                yolo(root, &format!("labels/{directory}"), names);
            }
            put(
                root,
                "data.yaml",
                "path: ../datasets/cats\ntrain: images/train\nval: images/val\ntest:\nnames:\n  0: cat\n  1: dog\n",
            );
        },
    ),
    ("ultralytics", "pose: `kpt_shape` in `data.yaml`", |root| {
        for (directory, names) in [("train", &TRAIN[..]), ("val", &VAL)] {
            images(root, &format!("images/{directory}"), names);
            yolo_with(
                root,
                &format!("labels/{directory}"),
                names,
                " 0.2 0.3 2 0.4 0.4 1",
            );
        }
        put(
            root,
            "data.yaml",
            "train: images/train\nval: images/val\nkpt_shape: [2, 3]\nnames: [cat, dog]\n",
        );
    }),
    (
        "ultralytics",
        "`images/`, `labels/` without `data.yaml`",
        |root| {
            images(root, "images/train", &TRAIN);
            yolo(root, "labels/train", &TRAIN);
        },
    ),
    (
        "COCO 2017",
        "`annotations/instances_train2017.json`, `train2017/`",
        |root| {
            for (split, names) in [("train", &TRAIN[..]), ("val", &VAL)] {
                images(root, &format!("{split}2017"), names);
                put(
                    root,
                    &format!("annotations/instances_{split}2017.json"),
                    coco(names, plain, SIZE),
                );
            }
        },
    ),
    ("Pascal VOC", "`VOCdevkit/VOC2007/` as unpacked", |root| {
        let root = &root.join("VOCdevkit/VOC2007");
        images(root, "JPEGImages", &ALL);
        voc(root, "Annotations", &ALL);
        put(root, "ImageSets/Main/train.txt", "1\n2\n3\n");
        put(root, "ImageSets/Main/val.txt", "4\n");
    }),
    (
        "TensorFlow",
        "`train_labels.csv`, `val_labels.csv`, `images/`",
        |root| {
            images(root, "images", &ALL);
            csv(root, "train_labels.csv", &TRAIN);
            csv(root, "val_labels.csv", &VAL);
        },
    ),
    ("LabelMe", "JSON files beside the images", |root| {
        images(root, "train", &TRAIN);
        for name in TRAIN {
            let label = json!({"version": "5.0", "shapes": [], "imagePath": plain(name)});
            put(root, &format!("train/{name}.json"), label.to_string());
        }
    }),
    (
        "Datumaro",
        "`annotations/default.json`, `images/default/`",
        |root| {
            images(root, "images/default", &ALL);
            let label = json!({"id": 0, "type": "bbox", "label_id": 0, "bbox": [10, 10, 30, 20]});
            let items = json!([{"id": "1", "annotations": [label], "image": {"path": "1.jpg"}}]);
            let categories = json!({"label": {"labels": [{"name": "cat"}]}});
            let content = json!({"info": {}, "categories": categories, "items": items});
            put(root, "annotations/default.json", content.to_string());
        },
    ),
    (
        "Datumaro",
        "with splits: `annotations/train.json`, `images/train/`",
        |root| {
            images(root, "images/train", &TRAIN);
            images(root, "images/val", &VAL);
            for split in ["train", "val"] {
                let content = json!({"info": {}, "categories": {"label": {}}, "items": []});
                put(
                    root,
                    &format!("annotations/{split}.json"),
                    content.to_string(),
                );
            }
        },
    ),
    (
        "Supervisely",
        "`meta.json`, `ds0/img/`, `ds0/ann/`",
        |root| {
            put(
                root,
                "meta.json",
                json!({"classes": [{"title": "cat"}], "tags": [], "projectType": "images"})
                    .to_string(),
            );
            for (directory, names) in [("ds0", &TRAIN[..]), ("ds1", &VAL)] {
                images(root, &format!("{directory}/img"), names);
                for name in names {
                    let content = json!({"description": "", "tags": [], "size": {}, "objects": []});
                    put(
                        root,
                        &format!("{directory}/ann/{name}.jpg.json"),
                        content.to_string(),
                    );
                }
            }
        },
    ),
    ("VoTT", "JSON: a file for each asset", |root| {
        images(root, "", &ALL);
        put(
            root,
            "1f2e-asset.json",
            json!({"asset": {"name": "1.jpg"}, "regions": []}).to_string(),
        );
    }),
    ("Labelbox", "NDJSON", |root| {
        images(root, "images", &ALL);
        put(
            root,
            "export.ndjson",
            json!({"data_row": {"external_id": "1.jpg"}, "projects": {}}).to_string(),
        );
    }),
    ("V7", "Darwin JSON: a file for each image", |root| {
        images(root, "images", &ALL);
        let label = json!({"name": "cat", "bounding_box": {"x": 1, "y": 2, "w": 3, "h": 4}});
        let content = json!({"version": "2.0", "item": {}, "annotations": [label]});
        put(root, "annotations/1.json", content.to_string());
    }),
    (
        "KITTI",
        "`training/image_2/`, `training/label_2/`",
        |root| {
            images(root, "training/image_2", &ALL);
            for name in ALL {
                put(
                    root,
                    &format!("training/label_2/{name}.txt"),
                    "Car 0.00 0 -1.57 10 10 40 30 2.85 2.63 12.34 0.47 1.49 69.44 -1.56\n",
                );
            }
        },
    ),
    ("DOTA", "`images/`, `labelTxt/`", |root| {
        images(root, "images", &ALL);
        for name in ALL {
            put(
                root,
                &format!("labelTxt/{name}.txt"),
                "imagesource:x\ngsd:0.1\n10 10 40 10 40 30 10 30 cat 0\n",
            );
        }
    }),
    (
        "torchvision",
        "ImageFolder: `train/CLASS/`, `val/CLASS/`",
        |root| {
            for split in ["Train", "Val"] {
                for class in ["cat", "dog"] {
                    images(root, &format!("{split}/{class}"), &TRAIN);
                }
            }
        },
    ),
];

/// The boxes of each image, by the stem of its name.
fn content(store: &AnnotationStore) -> BTreeMap<String, Vec<(String, [f32; 4])>> {
    (0..store.image_count())
        .map(|index| {
            let stem = Path::new(store.image(index).file_name).file_stem().unwrap();
            let boxes = store.annotations(index).zip(store.boxes_xywh(index));
            let boxes = boxes.map(|(a, xywh)| (store.categories()[a.class].name.clone(), xywh));
            (stem.to_string_lossy().into_owned(), boxes.collect())
        })
        .collect()
}

/// Opens a detection dataset, compares it with what was written, and describes it.
fn open_detection(name: &DatasetName) -> Result<String, RegistryError> {
    let (train, val) = name.open(None)?;
    let mut found = content(train.dataset.store());
    let val_content = content(val.dataset.store());
    assert!(val_content.keys().all(|image| !found.contains_key(image)));
    found.extend(val_content);
    assert_eq!(found.keys().collect::<Vec<_>>(), ALL);
    for (image, boxes) in &found {
        assert_eq!(boxes.len(), BOXES.len(), "{image}");
        for ((class, xywh), (expected_class, expected)) in boxes.iter().zip(BOXES) {
            assert_eq!(class, expected_class);
            for (a, b) in xywh.iter().zip(expected) {
                assert!((a - b as f32).abs() < 1e-3, "{image}: {xywh:?}");
            }
        }
    }
    let images = |split: &str, dataset: &sedet::datasets::detection::DetectionDataset| {
        let boxes = dataset.store().annotation_count();
        format!(
            "{split}: {}, {}",
            count(dataset.len(), "image"),
            count(boxes, "box")
        )
    };
    let mut parts = vec![images("train", &train.dataset), images("val", &val.dataset)];
    let notes = train.dataset.notes().iter().chain(val.dataset.notes());
    // Each of these exports has few images.
    let notes = notes.filter(|note| !note.contains("the scores of "));
    parts.extend(notes.cloned());
    Ok(parts.join("; "))
}

/// Returns what sedet does with an export.
fn outcome(root: &Path) -> String {
    let name = root.display().to_string();
    let done = AnyDatasetName::parse(&name).and_then(|dataset| {
        let recognized = dataset.recognize(None)?;
        let opened = match &dataset {
            AnyDatasetName::Detection(name) => {
                assert_eq!(recognized.task, RecognizedTask::Detection);
                open_detection(name)?
            }
            AnyDatasetName::Classification(name) => {
                let (train, val) = name.open(None)?;
                let classes = train.class_names().join(", ");
                let (train, val) = (count(train.len(), "image"), count(val.len(), "image"));
                format!("train: {train}; val: {val}; classes {classes}")
            }
        };
        Ok(format!(
            "{} ({}), {}; {opened}",
            recognized.format, recognized.reason, recognized.task
        ))
    });
    let text = match done {
        Ok(text) => text,
        Err(error) => {
            let advice = match &error {
                RegistryError::Data { source, .. } => match &**source {
                    DataError::Layout(LayoutError::UnreadFormat { instead, .. }) => {
                        format!("; {instead}")
                    }
                    _ => String::new(),
                },
                _ => String::new(),
            };
            format!("refused: {error}{advice}")
        }
    };
    text.replace(&name, "DIR")
        .replace('\\', "\\\\")
        .replace('|', "\\|")
}

#[test]
fn the_documented_table_is_what_is_done_with_each_export() {
    let mut text = "# Exports of annotation programs\n\n\
        What sedet does with the files of the usual programs, as they write them. `sedet train --dataset DIR` trains on\n\
        every layout below that is not refused, without a conversion. A test writes each layout, reads it, and compares the\n\
        boxes; it also writes this page (`UPDATE_DOCS=1 cargo test --release --test data exporters`).\n\n\
        | program | layout | what sedet does |\n|---|---|---|\n"
        .to_owned();
    for (program, layout, write) in EXPORTS {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        text += &format!("| {program} | {layout} | {} |\n", outcome(dir.path()));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/exporters.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    for (line, expected) in text.lines().zip(committed.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(text, committed);
}

#[test]
fn an_annotation_file_is_a_dataset_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    images(root, "images", &ALL);
    put(root, "all.json", coco(&ALL, plain, SIZE));
    csv(root, "all.csv", &ALL);
    yolo(root, "labels", &ALL);
    put(root, "cats.yaml", "train: images\nnames: [cat, dog]\n");
    for file in ["all.json", "all.csv", "cats.yaml"] {
        let path = root.join(file).display().to_string();
        let described = open_detection(&DatasetName::parse(&path).unwrap()).unwrap();
        assert!(described.contains("train: 3 images"), "{file}: {described}");
        assert!(
            described.contains("1 of 4 images held out of train"),
            "{file}: {described}"
        );
    }
}

#[test]
fn datasets_with_equal_class_names_are_joined_whatever_their_formats() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    images(root, "a", &TRAIN);
    put(root, "a/train.json", coco(&TRAIN, plain, SIZE));
    images(root, "b", &VAL);
    voc(root, "b", &VAL);
    let [a, b] = ["a", "b"].map(|name| root.join(name).display().to_string());
    let name = format!("{a}, {b}");
    let dataset = DatasetName::parse(&name).unwrap();
    let described = open_detection(&dataset).unwrap();
    assert!(described.contains("held out of train"), "{described}");
    let absolute = AnyDatasetName::absolute(&name).unwrap();
    assert_eq!(DatasetName::parse(&absolute).unwrap(), dataset);
    let xml = std::fs::read_to_string(root.join("b/4.xml")).unwrap();
    put(root, "b/4.xml", xml.replace("dog", "cow"));
    let message = dataset.open(None).unwrap_err().to_string();
    assert!(
        message.contains("`cow` only in") && message.contains("`dog` only in"),
        "{message}"
    );
    let message = DatasetName::parse(&format!("{a},cifar10"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("not 'cifar10'"), "{message}");
}

#[test]
fn a_directory_named_as_a_split_beside_classes_is_not_dropped_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["bus", "plane", "masks"] {
        images(dir.path(), class, &ALL);
    }
    let open = || {
        let name = dir.path().display().to_string();
        match AnyDatasetName::parse(&name).unwrap() {
            AnyDatasetName::Classification(dataset) => dataset.open(None),
            other => panic!("{other:?}"),
        }
    };
    let (train, _) = open().unwrap();
    assert_eq!(train.class_names(), ["bus", "plane"]);
    assert!(
        train.notes()[0].ends_with("not a class: masks"),
        "{:?}",
        train.notes()
    );
    images(dir.path(), "Train", &ALL);
    let message = open().unwrap_err().to_string();
    assert!(
        message.contains("Train: the name of a split is not a class"),
        "{message}"
    );
}

#[test]
fn directories_of_splits_and_parts_are_never_classes() {
    for names in [
        ["train", "valid"],
        ["Train", "TEST"],
        ["images", "masks"],
        ["Labels", "annotations"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            images(dir.path(), name, &ALL);
        }
        let name = dir.path().display().to_string();
        let message = match AnyDatasetName::parse(&name).unwrap() {
            AnyDatasetName::Detection(dataset) => dataset.open(None).unwrap_err().to_string(),
            other => panic!("{names:?}: {other:?}"),
        };
        assert!(
            message.contains("images without annotations in"),
            "{message}"
        );
    }
}
