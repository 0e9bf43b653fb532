//! `sedet data check` on a small dataset with one error at a time.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use crate::common::command::{fails_with, is_wrong_usage, sedet, text};
use crate::common::real_data;
use image::{ImageFormat, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Returns a distinct image with contrast for each number.
fn image_of(number: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = |a: u32, b: u32| {
            let phase = (x * (a + number * 7 % 5) + y * (b + number * 3 % 7)) as f32 / 40.0;
            ((phase + number as f32 * 1.7).sin() * 110.0 + 128.0) as u8
        };
        image::Rgb([wave(3, 5), wave(7, 2), wave(1, 9)])
    })
}

fn encoded(rgb_image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    rgb_image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// Returns a JPEG with EXIF orientation 6: to be rotated by 90 degrees clockwise.
fn rotated_jpeg(rgb_image: &RgbImage) -> Vec<u8> {
    let jpeg = encoded(rgb_image, ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0".to_vec();
    exif.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
    let mut out = jpeg[..2].to_vec();
    out.extend([0xFF, 0xE1]);
    out.extend((exif.len() as u16 + 2).to_be_bytes());
    out.extend(exif);
    out.extend(&jpeg[2..]);
    out
}

fn annotation(id: u64, image: u64, category: u64, bbox: [f64; 4]) -> Value {
    json!({
        "id": id, "image_id": image, "category_id": category, "bbox": bbox,
        "area": bbox[2] * bbox[3], "iscrowd": 0, "note": "kept",
    })
}

/// A valid dataset: train with three images of 64x48 pixels, and val with two.
struct DataSet {
    dir: TempDir,
    train: Value,
    val: Value,
}

impl DataSet {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let split = |first: u64, count: u64| {
            let ids = first..first + count;
            let image = |id: u64| json!({"id": id, "file_name": format!("{id}.jpg"), "width": 64, "height": 48});
            let boxes = ids.clone().flat_map(|id| {
                [
                    annotation(10 * id, id, 3, [4.0, 5.0, 20.0, 30.0]),
                    annotation(10 * id + 1, id, 7, [30.5, 10.0, 12.0, 8.25]),
                ]
            });
            json!({
                "info": {"description": "made in a test"},
                "images": ids.map(image).collect::<Vec<_>>(),
                "annotations": boxes.collect::<Vec<_>>(),
                "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 7, "name": "dog"}],
            })
        };
        let set = Self {
            train: split(1, 3),
            val: split(4, 2),
            dir,
        };
        for id in 1..=5 {
            let directory = if id <= 3 { "train" } else { "val" };
            let path = set.path(&format!("{directory}/{id}.jpg"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let bytes = encoded(&image_of(id, 64, 48), ImageFormat::Jpeg);
            std::fs::write(path, bytes).unwrap();
        }
        set
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn save(&self) {
        self.write("train.json", self.train.to_string());
        self.write("val.json", self.val.to_string());
    }

    fn check(&self, extra: &[&str]) -> Checked {
        let directory = text(self.dir.path());
        let output = sedet(&[&["data", "check", &directory, "--json"], extra].concat());
        Checked::of(&output)
    }

    /// Applies a change and checks the dataset.
    fn with(change: impl FnOnce(&mut Self)) -> (Self, Checked) {
        let mut set = Self::new();
        change(&mut set);
        if !set.path("train.json").exists() {
            set.save();
        }
        let checked = set.check(&[]);
        (set, checked)
    }
}

struct Checked {
    code: i32,
    report: Value,
}

impl Checked {
    fn of(output: &std::process::Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{stderr}");
        let report = serde_json::from_slice(&output.stdout);
        Self {
            code: output.status.code().unwrap(),
            report: report.unwrap_or_else(|error| panic!("{error}: {stderr}")),
        }
    }

    /// Returns the counts by kind for one severity.
    fn kinds(&self, severity: &str) -> BTreeMap<&str, u64> {
        let diagnostics = self.report["diagnostics"].as_array().unwrap().iter();
        diagnostics
            .filter(|diagnostic| diagnostic["severity"] == severity)
            .map(|diagnostic| {
                let (kind, count) = (&diagnostic["kind"], &diagnostic["count"]);
                (kind.as_str().unwrap(), count.as_u64().unwrap())
            })
            .collect()
    }

    fn places(&self, kind: &str) -> &Vec<Value> {
        let diagnostics = self.report["diagnostics"].as_array().unwrap();
        let found = diagnostics
            .iter()
            .find(|diagnostic| diagnostic["kind"] == kind);
        let found = found.unwrap_or_else(|| panic!("no {kind} in {:#}", self.report));
        found["places"].as_array().unwrap()
    }

    /// Asserts exactly these errors and exit code 1.
    fn has_errors(&self, expected: &[(&str, u64)]) {
        assert_eq!(
            self.kinds("error"),
            expected.iter().copied().collect(),
            "{:#}",
            self.report
        );
        assert_eq!(self.code, 1);
    }

    /// Asserts no errors, exactly these warnings, and exit code 0.
    fn has_warnings(&self, expected: &[(&str, u64)]) {
        assert_eq!(self.kinds("error"), BTreeMap::new(), "{:#}", self.report);
        assert_eq!(
            self.kinds("warning"),
            expected.iter().copied().collect(),
            "{:#}",
            self.report
        );
        assert_eq!(self.code, 0);
    }
}

#[test]
fn a_valid_dataset_has_no_errors_and_its_counts_are_reported() {
    let (set, checked) = DataSet::with(|_| {});
    checked.has_warnings(&[]);
    let train = &checked.report["splits"][0];
    assert_eq!(train["split"], "train");
    assert_eq!((&train["images"], &train["boxes"]), (&3.into(), &6.into()));
    assert_eq!(train["statistics"]["classes"][1]["name"], "dog");
    assert_eq!(train["statistics"]["sizes"]["small"], 6);
    let anchors = &train["anchors"];
    assert_eq!(anchors["boxes"], 6);
    assert!(anchors["share_at_iou_50"].as_f64().unwrap() > 0.0);
    let shown = sedet(&["data", "check", &text(set.dir.path())]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("0 errors, 0 warnings: ready for training"),
        "{shown}"
    );
    assert!(
        shown.contains("recipe small") && shown.contains("anchor recall"),
        "{shown}"
    );
}

#[test]
fn missing_images_are_reported_with_similar_file_names() {
    let (_, checked) = DataSet::with(|set| {
        std::fs::rename(set.path("train/1.jpg"), set.path("train/1.JPG")).unwrap();
        set.train["images"][1]["file_name"] = "sub\\2.jpg".into();
        std::fs::create_dir(set.path("train/sub")).unwrap();
        std::fs::rename(set.path("train/2.jpg"), set.path("train/sub/2.jpg")).unwrap();
        std::fs::remove_file(set.path("val/4.jpg")).unwrap();
    });
    checked.has_errors(&[("image-missing", 2)]);
    // Training finds the first image, too.
    assert_eq!(
        checked.kinds("warning"),
        BTreeMap::from([("image-names-read", 1)])
    );
    let places = checked.places("image-missing");
    let detail = |at: usize| places[at]["detail"].as_str().unwrap();
    assert!(detail(0).contains("sub/2.jpg exists"), "{places:?}");
    assert_eq!(places[1]["split"], "val");
    assert_eq!(places[1]["image_id"], 4);
}

#[test]
fn a_jpeg_cut_in_half_is_found_as_is_a_png() {
    let (_, checked) = DataSet::with(|set| {
        let jpeg = std::fs::read(set.path("train/1.jpg")).unwrap();
        set.write("train/1.jpg", &jpeg[..jpeg.len() / 2]);
        let png = encoded(&image_of(2, 64, 48), ImageFormat::Png);
        set.write("train/2.jpg", &png[..png.len() / 2]);
        set.write("train/3.jpg", b"");
    });
    checked.has_errors(&[("image-truncated", 3)]);
    assert_eq!(checked.places("image-truncated")[0]["file"], "1.jpg");
}

#[test]
fn an_image_that_was_cut_and_closed_is_found_and_hides_no_problem_of_its_boxes() {
    let (_, checked) = DataSet::with(|set| {
        let jpeg = std::fs::read(set.path("train/1.jpg")).unwrap();
        let closed = [&jpeg[..jpeg.len() * 3 / 4], &[0xFF, 0xD9]].concat();
        set.write("train/1.jpg", &closed);
        let boxes = set.train["annotations"].as_array_mut().unwrap();
        let on_first = boxes.iter_mut().find(|object| object["image_id"] == 1);
        on_first.unwrap()["bbox"] = serde_json::json!([3, 3, -5, 4]);
    });
    checked.has_errors(&[("image-truncated", 1), ("box-negative", 1)]);
    assert_eq!(
        checked.places("image-truncated")[0]["detail"],
        "the JPEG has the data of a part of the image only"
    );
}

#[test]
fn images_in_formats_that_are_not_supported_are_counted() {
    let (_, checked) = DataSet::with(|set| {
        set.write("train/5.avif", b"");
        set.write("train/6.JP2", b"");
    });
    checked.has_warnings(&[("image-unsupported", 2)]);
    let place = &checked.places("image-unsupported")[0]["file"];
    assert!(place.as_str().unwrap().ends_with("5.avif"));
}

#[test]
fn files_that_are_not_images_and_directories_are_found() {
    let (_, checked) = DataSet::with(|set| {
        set.write("train/1.jpg", "<html>404 not found</html>");
        let mut png = encoded(&image_of(2, 64, 48), ImageFormat::Png);
        let middle = png.len() / 2;
        png[middle..middle + 40].fill(0);
        set.write("train/2.jpg", png);
        std::fs::remove_file(set.path("train/3.jpg")).unwrap();
        std::fs::create_dir(set.path("train/3.jpg")).unwrap();
    });
    checked.has_errors(&[("image-broken", 2), ("image-unreadable", 1)]);
}

#[test]
fn a_wrong_extension_is_a_warning_since_the_content_counts() {
    let (_, checked) = DataSet::with(|set| {
        set.write(
            "train/1.jpg",
            encoded(&image_of(1, 64, 48), ImageFormat::Png),
        );
    });
    checked.has_warnings(&[("image-wrong-extension", 1)]);
    assert_eq!(
        checked.places("image-wrong-extension")[0]["detail"],
        "the content is png"
    );
}

#[test]
fn annotations_that_ignore_the_exif_rotation_are_an_error_and_rotated_by_the_fix() {
    // Stored as 64x48 with a bright object at [4, 5, 20, 30], to be rotated clockwise.
    let (set, checked) = DataSet::with(|set| {
        set.write("train/1.jpg", rotated_jpeg(&image_of(1, 64, 48)));
        // The annotations of this image are those of the upright image, as required.
        set.write("train/2.jpg", rotated_jpeg(&image_of(2, 48, 64)));
        set.train["annotations"][0]["segmentation"] = json!([[4, 5, 24, 5, 24, 35]]);
        // It is in the image as it is stored only.
        set.train["annotations"][1]["bbox"] = json!([40, 10, 20, 30]);
        set.train["annotations"][1]["area"] = json!(600);
    });
    checked.has_errors(&[("size-ignores-exif", 1)]);
    assert_eq!(
        checked.kinds("warning"),
        BTreeMap::from([("image-rotated", 2)])
    );
    let fixed = fix(&set, 0);
    let image = &fixed["images"][0];
    assert_eq!(
        (&image["width"], &image["height"]),
        (&48.into(), &64.into())
    );
    // Rotated clockwise: x from the bottom, y from the left.
    let object = &fixed["annotations"][0];
    assert_eq!(object["bbox"], json!([48.0 - 5.0 - 30.0, 4.0, 30.0, 20.0]));
    assert!(object.get("segmentation").is_none());
    assert_eq!(fixed["annotations"][2], set.train["annotations"][2]);
}

#[test]
fn sizes_alone_that_ignore_the_exif_rotation_are_exchanged_and_no_box_is_moved() {
    let changed = |boxes: [[f64; 4]; 2]| {
        DataSet::with(|set| {
            set.write("train/1.jpg", rotated_jpeg(&image_of(1, 64, 48)));
            for (at, bbox) in boxes.into_iter().enumerate() {
                set.train["annotations"][at] = annotation(1 + at as u64, 1, 3, bbox);
            }
        })
    };
    // In the upright image of 48x64 only.
    let boxes = [[4.0, 30.0, 20.0, 30.0], [10.0, 40.0, 30.0, 20.0]];
    let (set, checked) = changed(boxes);
    checked.has_errors(&[("sizes-unclear", 1)]);
    let detail = checked.places("sizes-unclear")[0]["detail"].clone();
    assert!(
        detail
            .as_str()
            .unwrap()
            .ends_with("width and height are exchanged, or the image was rotated by 90 degrees"),
        "{detail}"
    );
    no_copy(&set, "many boxes do not fit their images");
    // In both: it cannot be seen.
    let (set, checked) = changed([[4.0, 5.0, 20.0, 30.0], [10.0, 10.0, 30.0, 20.0]]);
    checked.has_errors(&[("sizes-unclear", 1)]);
    let detail = checked.places("sizes-unclear")[0]["detail"].clone();
    let why = "the size ignores the EXIF rotation, and whether the boxes do cannot be seen";
    assert!(detail.as_str().unwrap().ends_with(why), "{detail}");
    no_copy(&set, "many boxes do not fit their images");
    // Of enough boxes, all in the upright images, the cause is clear.
    let (set, checked) = DataSet::with(|set| {
        for id in 1..=3 {
            set.write(
                &format!("train/{id}.jpg"),
                rotated_jpeg(&image_of(id, 64, 48)),
            );
        }
        let boxes = (0..60).map(|i| {
            let [x, y, w, h] = all_over(i);
            annotation(i + 1, 1 + i % 3, 3, [y, x, h, w])
        });
        set.train["annotations"] = boxes.collect();
    });
    checked.has_errors(&[("sizes-exchanged", 1)]);
    let (root, out) = (text(set.dir.path()), text(&set.path("out")));
    fails_with(
        &["train", "--dataset", &root, "--output", &out],
        &["width and height of 3 of 3 images are exchanged"],
    );
    let fixed = fix(&set, 0);
    assert_eq!(
        (&fixed["images"][0]["width"], &fixed["images"][0]["height"]),
        (&48.into(), &64.into())
    );
    assert_eq!(
        fixed["annotations"][0]["bbox"],
        set.train["annotations"][0]["bbox"]
    );
}

#[test]
fn an_image_of_another_size_than_annotated_is_an_error() {
    let (_, checked) = DataSet::with(|set| {
        set.train["images"][0]["width"] = 640.into();
    });
    checked.has_errors(&[("size-differs", 1)]);
    let detail = checked.places("size-differs")[0]["detail"].clone();
    assert_eq!(detail, "640x48 in the annotations, 64x48 in the file");
}

#[test]
fn a_missing_size_is_that_of_the_image_and_filled_in_by_the_fix() {
    let (set, checked) = DataSet::with(|set| {
        set.train["images"][0]
            .as_object_mut()
            .unwrap()
            .remove("width");
        set.train["images"][1]["height"] = 0.into();
    });
    // The loader reads it from the image, too.
    checked.has_warnings(&[("size-from-image", 2)]);
    let fixed = fix(&set, 0);
    assert_eq!(fixed["images"][0]["width"], 64);
    assert_eq!(fixed["images"][1]["height"], 48);
    assert_eq!(fixed["annotations"], set.train["annotations"]);
}

#[test]
fn what_can_be_known_of_an_exporters_entries_is_filled_in_by_the_fix() {
    let (set, checked) = DataSet::with(|set| {
        for image in set.train["images"].as_array_mut().unwrap() {
            image["width"] = (-1).into();
            image["height"] = (-1).into();
        }
        for object in set.train["annotations"].as_array_mut().unwrap() {
            object.as_object_mut().unwrap().remove("id");
            object["area"] = "350.5".into();
        }
    });
    checked.has_errors(&[("entry-malformed", 6)]);
    let fixed = fix(&set, 0);
    assert_eq!(fixed["images"][2]["width"], 64);
    let boxes = fixed["annotations"].as_array().unwrap();
    let ids: Vec<u64> = boxes.iter().map(|b| b["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    assert!(boxes.iter().all(|object| object["area"] == 350.5));
}

#[test]
fn a_split_without_any_box_is_an_error() {
    let (_, checked) = DataSet::with(|set| set.train["annotations"] = json!([]));
    checked.has_errors(&[("no-boxes", 1)]);
    let (_, checked) = DataSet::with(|set| {
        for object in set.val["annotations"].as_array_mut().unwrap() {
            object["iscrowd"] = 1.into();
        }
    });
    checked.has_errors(&[("no-boxes", 1)]);
}

#[test]
fn a_split_with_nothing_but_boxes_that_training_ignores_is_an_error() {
    let (_, checked) = DataSet::with(|set| {
        for object in set.train["annotations"].as_array_mut().unwrap() {
            object["bbox"][2] = 0.5.into();
            object["area"] = 0.5.into();
        }
    });
    checked.has_errors(&[("no-boxes", 1)]);
    // Such boxes count in an evaluation.
    let (_, checked) = DataSet::with(|set| {
        for object in set.val["annotations"].as_array_mut().unwrap() {
            object["bbox"][2] = 0.5.into();
            object["area"] = 0.5.into();
        }
    });
    assert_eq!(checked.kinds("error"), BTreeMap::new());
    assert_eq!(checked.code, 0);
}

#[test]
fn names_that_are_all_written_in_another_way_are_read_or_explained() {
    let (set, checked) = DataSet::with(|set| {
        for image in set.train["images"].as_array_mut().unwrap() {
            let name = image["file_name"].as_str().unwrap();
            image["file_name"] = format!("train\\{name}").into();
        }
    });
    checked.has_warnings(&[("image-names-read", 1)]);
    assert_eq!(fix(&set, 0)["images"][0]["file_name"], "train/1.jpg");
}

#[test]
fn names_in_other_capitals_are_read_and_become_those_of_the_files_by_the_fix() {
    // All names, some names, and one whose file is listed under its own name.
    let rename = |set: &mut DataSet, images: std::ops::Range<usize>| {
        for at in images {
            let name = set.train["images"][at]["file_name"]
                .as_str()
                .unwrap()
                .to_owned();
            set.train["images"][at]["file_name"] = name.replace("jpg", "JPG").into();
        }
    };
    for images in [0..3, 1..2] {
        let (set, checked) = DataSet::with(|set| rename(set, images.clone()));
        checked.has_warnings(&[("image-names-read", 1)]);
        let detail = checked.places("image-names-read")[0]["detail"].clone();
        let (number, first) = (images.len(), images.start + 1);
        let noun = if number == 1 { "image" } else { "images" };
        assert_eq!(
            detail,
            format!(
                "{number} {noun} found by a name in other capitals than that in the annotations, such as \
                 {first}.jpg for {first}.JPG"
            )
        );
        let fixed = fix(&set, 0);
        for (at, id) in (0..3).zip(1..) {
            assert_eq!(fixed["images"][at]["file_name"], format!("{id}.jpg"));
        }
        assert_eq!(fixed["annotations"], set.train["annotations"]);
    }
    let (set, checked) = DataSet::with(|set| {
        let images = set.train["images"].as_array_mut().unwrap();
        let mut again = images[0].clone();
        again["id"] = 77.into();
        again["file_name"] = "1.JPG".into();
        images.push(again);
    });
    assert_eq!(
        checked.kinds("error"),
        BTreeMap::from([("image-missing", 1)])
    );
    let detail = checked.places("image-missing")[0]["detail"].clone();
    assert_eq!(detail, "1.jpg exists: upper and lower case differ");
    assert_eq!(fix(&set, 0)["images"].as_array().unwrap().len(), 3);
}

#[test]
fn a_name_that_several_files_fit_is_an_error_that_names_them() {
    let (set, checked) = DataSet::with(|set| {
        for name in ["a.jpg", "A.jpg"] {
            std::fs::copy(set.path("train/1.jpg"), set.path("train").join(name)).unwrap();
        }
        set.train["images"][0]["file_name"] = "a.JPG".into();
    });
    assert_eq!(
        checked.kinds("error"),
        BTreeMap::from([("image-ambiguous", 1)])
    );
    let place = &checked.places("image-ambiguous")[0];
    assert_eq!(
        place["detail"],
        "A.jpg and a.jpg differ from it in capitals only"
    );
    let directory = text(set.dir.path());
    fails_with(
        &["train", "--dataset", &directory],
        &[
            "a.JPG: no such file; A.jpg and a.jpg differ from it in capitals only",
            "hint: rename or remove the files that are not meant",
        ],
    );
    assert_eq!(fix(&set, 0)["images"].as_array().unwrap().len(), 2);
}

#[test]
fn a_list_of_images_and_a_table_in_other_capitals_are_passed_and_converted() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let mut table = "filename,width,height,class,xmin,ymin,xmax,ymax\n".to_owned();
    let mut list = String::new();
    for number in 0..3 {
        let jpeg = encoded(&image_of(number, 64, 48), ImageFormat::Jpeg);
        put(&format!("csv/img{number}.jpg"), &jpeg);
        put(&format!("yolo/images/img{number}.jpg"), &jpeg);
        put(
            &format!("yolo/labels/img{number}.txt"),
            b"0 0.5 0.5 0.25 0.25\n",
        );
        table += &format!("IMG{number}.JPG,64,48,cat,24,18,40,30\n");
        list += &format!("images/IMG{number}.JPG\n");
    }
    put("csv/_annotations.csv", table.as_bytes());
    put("yolo/train.txt", list.as_bytes());
    put("yolo/data.yaml", b"train: train.txt\nnames: [cat]\n");
    for name in ["csv", "yolo"] {
        let source = text(&dir.path().join(name));
        let checked = Checked::of(&sedet(&["data", "check", &source, "--json"]));
        checked.has_warnings(&[("found-elsewhere", 1)]);
        let detail = checked.places("found-elsewhere")[0]["detail"].clone();
        let detail = detail.as_str().unwrap();
        assert!(
            detail.starts_with("3 images found by a name in other capitals"),
            "{detail}"
        );
        let out = dir.path().join(format!("{name}-coco"));
        let done = sedet(&[
            "data",
            "convert",
            &source,
            "--to",
            "coco",
            "--output",
            &text(&out),
        ]);
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("3 images found by a name"), "{stderr}");
        let json = std::fs::read_to_string(out.join("annotations/instances_train.json")).unwrap();
        assert!(json.contains("img2.jpg\""), "{json}");
    }
}

#[test]
fn the_command_after_a_fix_trains_on_the_copy_wherever_it_is() {
    let set = DataSet::new();
    std::fs::create_dir(set.path("photos")).unwrap();
    for id in 1..=3 {
        std::fs::rename(
            set.path(&format!("train/{id}.jpg")),
            set.path(&format!("photos/{id}.jpg")),
        )
        .unwrap();
    }
    let mut train = set.train.clone();
    train["annotations"][0]["area"] = (-3).into();
    set.write("photos/boxes.json", train.to_string());
    for directory in ["elsewhere", "out/annotations", "out/train", "photos/fixed"] {
        std::fs::create_dir_all(set.path(directory)).unwrap();
    }
    let run = |arguments: &[&str]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_sedet"))
            .args(arguments)
            .current_dir(set.dir.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(0), "{arguments:?}: {stderr}");
        stderr
    };
    for (out, name) in [
        ("photos/fixed.json", "1.jpg"),
        ("fixed.json", "photos/1.jpg"),
        ("elsewhere/fixed.json", "../photos/1.jpg"),
        ("out/annotations/fixed.json", "../../photos/1.jpg"),
        ("out/train/fixed.json", "../../photos/1.jpg"),
        ("photos/fixed/my boxes.json", "../1.jpg"),
    ] {
        let stderr = run(&[
            "data",
            "check",
            "photos/boxes.json",
            "--image-dir",
            "photos",
            "--fix",
            out,
        ]);
        let fixed: Value =
            serde_json::from_str(&std::fs::read_to_string(set.path(out)).unwrap()).unwrap();
        assert_eq!(fixed["images"][0]["file_name"], name, "{out}");
        let next = stderr
            .lines()
            .find_map(|line| line.strip_prefix("next: sedet "));
        let next = next.unwrap_or_else(|| panic!("{out}: {stderr}"));
        let command: Vec<&str> = next
            .split(['\'', ' '])
            .filter(|word| !word.is_empty())
            .collect();
        let ["train", "--dataset", path @ ..] = command.as_slice() else {
            panic!("{next}");
        };
        assert_eq!(path.join(" "), out);
        // This very command, with little to do.
        if ["elsewhere/fixed.json", "photos/fixed/my boxes.json"].contains(&out) {
            let limits = [
                "--epochs",
                "1",
                "--set",
                "input.min_size=48",
                "--set",
                "input.max_size=64",
            ];
            let output = ["--output", &format!("run-{}", out.len())];
            run(&[&["train", "--dataset", out][..], &output, &limits].concat());
        }
    }
    // Without the extension, the copy would be no dataset.
    is_wrong_usage(
        &[
            "data",
            "check",
            &text(&set.path("photos/boxes.json")),
            "--fix",
            "fixed",
        ],
        &["not the name of a JSON file", "hint: write fixed.json"],
    );
}

#[test]
fn the_command_after_a_fix_of_val_trains_on_train_and_the_copy() {
    let mut set = DataSet::new();
    set.val["annotations"][0]["area"] = (-3).into();
    set.save();
    let (train, val) = (text(&set.path("train.json")), text(&set.path("val.json")));
    let directory = text(set.dir.path());
    for (arguments, copy) in [
        (
            &["data", "check", &directory, "--split", "val"][..],
            "a_val.json",
        ),
        (&["data", "check", &val], "b_val.json"),
    ] {
        let copy = text(&set.path(copy));
        let done = sedet(&[arguments, &["--fix", &copy]].concat());
        let stderr = String::from_utf8_lossy(&done.stderr);
        let next = format!("next: sedet train --dataset {train},{copy}");
        assert!(stderr.lines().any(|line| line == next), "{stderr}");
        // By another name, training would take the copy for train.
        is_wrong_usage(
            &[arguments, &["--fix", &text(&set.path("fixed.json"))]].concat(),
            &[
                "training takes a file of this name for train",
                "choose another name, such as fixed_val.json",
            ],
        );
    }
    let nowhere = text(&set.path("no/where/fixed.json"));
    is_wrong_usage(
        &["data", "check", &train, "--fix", &nowhere],
        &["no/where does not exist", "hint: create the directory"],
    );
}

#[test]
fn an_image_directory_of_a_named_dataset_or_a_directory_has_no_effect() {
    let (set, _) = DataSet::with(|_| {});
    let directory = text(&set.path(""));
    for dataset in ["blood-cells", "coco", &directory] {
        is_wrong_usage(
            &["data", "check", dataset, "--image-dir", &directory],
            &[
                &format!("--image-dir has no effect on {dataset}"),
                "hint: omit --image-dir",
            ],
        );
    }
}

#[test]
fn fractions_that_can_only_be_sizes_become_pixels_by_the_fix() {
    let fractions = |at: u32| {
        let at = f64::from(at);
        let (w, h) = (0.1 + 0.1 * (at % 5.0), 0.1 + 0.15 * (at % 3.0));
        [
            (1.0 - w) * (at % 7.0) / 6.0,
            (1.0 - h) * (at % 4.0) / 3.0,
            w,
            h,
        ]
    };
    let with = |numbers: &dyn Fn([f64; 4]) -> [f64; 4]| {
        DataSet::with(|set| {
            let boxes =
                (0..40).map(|at| annotation(at + 1, 1 + at % 3, 3, numbers(fractions(at as u32))));
            set.train["annotations"] = boxes.collect();
        })
    };
    let (set, checked) = with(&|numbers| numbers);
    checked.has_errors(&[("boxes-are-fractions", 1)]);
    let fixed = fix(&set, 0);
    let [x, y, w, h] = fractions(9);
    let pixels = [64.0 * x, 48.0 * y, 64.0 * w, 48.0 * h];
    let found = fixed["annotations"][9]["bbox"].as_array().unwrap();
    for (found, pixels) in found.iter().zip(pixels) {
        assert!(
            (found.as_f64().unwrap() - pixels).abs() < 1e-3,
            "{found} {pixels}"
        );
    }
    let area = fixed["annotations"][9]["area"].as_f64().unwrap();
    assert!((area - pixels[2] * pixels[3]).abs() < 1e-2, "{area}");
    let (set, checked) = with(&|[x, y, w, h]| [x + w / 2.0, y + h / 2.0, w, h]);
    checked.has_errors(&[("boxes-are-fractions", 1)]);
    let left = fix(&set, 0)["annotations"][9]["bbox"][0].as_f64().unwrap();
    assert!((left - pixels[0]).abs() < 1e-3, "{left}");
    // Of corners, x or y may be first.
    let (set, checked) = with(&|[x, y, w, h]| [x, y, x + w, y + h]);
    checked.has_errors(&[("boxes-are-unclear-fractions", 1)]);
    no_copy(&set, "the meaning of the numbers");
    // Four boxes are refused, too, and their order is not known.
    let (set, checked) = DataSet::with(|set| {
        let boxes = (0..4).map(|at| annotation(at + 1, 1 + at % 3, 3, fractions(at as u32 + 5)));
        set.train["annotations"] = boxes.collect();
    });
    checked.has_errors(&[("boxes-are-unclear-fractions", 1)]);
    no_copy(&set, "the meaning of the numbers");
}

/// Returns right boxes all over images of 64x48; many touch their edges.
fn all_over(i: u64) -> [f64; 4] {
    let [w, h] = [6 + i * 7 % 30, 5 + i * 5 % 25].map(|side| side as f64);
    let [x, y] = [(i * 13 % 11) as f64 / 10.0, (i * 17 % 7) as f64 / 6.0];
    [x * (64.0 - w), y * (48.0 - h), w, h].map(|value| value.round())
}

#[test]
fn exchanged_sizes_of_images_are_named_and_exchanged_by_the_fix() {
    let exchange = |set: &mut DataSet| {
        for image in set.train["images"].as_array_mut().unwrap() {
            image["width"] = json!(48);
            image["height"] = json!(64);
        }
    };
    let all = |set: &mut DataSet, numbers: fn([f64; 4]) -> [f64; 4]| {
        let boxes = (0..60).map(|i| annotation(i + 1, 1 + i % 3, 3, numbers(all_over(i))));
        set.train["annotations"] = boxes.collect();
    };
    let (set, checked) = DataSet::with(|set| {
        exchange(set);
        all(set, |xywh| xywh);
    });
    checked.has_errors(&[("sizes-exchanged", 1)]);
    let message = "width and height of 3 of 3 images are exchanged";
    assert_eq!(checked.places("sizes-exchanged")[0]["detail"], message);
    let skipped = set.check(&["--skip-images"]);
    skipped.has_errors(&[("sizes-exchanged", 1)]);
    let out = text(&set.path("out"));
    let root = text(set.dir.path());
    fails_with(
        &["train", "--dataset", &root, "--output", &out],
        &[message, "train.json --fix FIXED.json` writes a copy"],
    );
    // Without the images, both causes are named.
    let file = text(&set.path("train.json"));
    fails_with(
        &["eval", "--results", &file, "--annotations", &file],
        &[
            "fit their images as [y, x, height, width] in pixels",
            "if width and height of the images were exchanged",
        ],
    );
    let fixed = fix(&set, 0);
    assert_eq!(fixed["images"][2]["width"], 64);
    assert_eq!(fixed["annotations"], set.train["annotations"]);

    // Boxes in the frame of images that were rotated later, with the right sizes and with those of that frame.
    let rotated = |[x, y, w, h]: [f64; 4]| [48.0 - y - h, x, h, w];
    let (_, checked) = DataSet::with(|set| all(set, rotated));
    checked.has_errors(&[("boxes-are-transposed", 1)]);
    let detail = checked.places("boxes-are-transposed")[0]["detail"].clone();
    let expected = "; they fit as [x, y, width, height] of the images rotated by 90 degrees, too";
    assert!(detail.as_str().unwrap().ends_with(expected), "{detail}");
    let (_, checked) = DataSet::with(|set| {
        exchange(set);
        all(set, rotated);
    });
    let detail = checked.places("sizes-unclear")[0]["detail"].clone();
    assert_eq!(
        detail,
        "48x64 in the annotations, 64x48 in the file: the boxes are those of the image rotated by 90 degrees"
    );
    // Six boxes in the middle fit either way.
    let (set, checked) = DataSet::with(|set| {
        exchange(set);
        let boxes =
            (0..6).map(|i| annotation(i + 1, 1 + i % 3, 3, [10.0, 10.0 + i as f64, 9.0, 9.0]));
        set.train["annotations"] = boxes.collect();
    });
    let detail = checked.places("sizes-unclear")[0]["detail"].clone();
    assert!(
        detail
            .as_str()
            .unwrap()
            .ends_with(": width and height are exchanged, or the image was rotated by 90 degrees"),
        "{detail}"
    );
    let copy = text(&set.path("copy.json"));
    set.check(&["--split", "train", "--fix", &copy]);
    assert!(!set.path("copy.json").exists());
    // The error of one image names no EXIF rotation that the image does not have.
    let root = text(set.dir.path());
    fails_with(
        &["data", "convert", &root, "--to", "yolo", "--output", &out],
        &["(width and height are exchanged, or the image was rotated by 90 degrees)"],
    );
}

#[test]
fn boxes_of_another_frame_are_refused_and_no_copy_without_them_is_written() {
    let (set, checked) = DataSet::with(|set| {
        let larger = |i| all_over(i).map(|number| number * 3.0);
        let boxes = (0..60).map(|i| annotation(i + 1, 1 + i % 3, 3, larger(i)));
        set.train["annotations"] = boxes.collect();
    });
    assert!(checked.kinds("error").contains_key("boxes-do-not-fit"));
    let detail = checked.places("boxes-do-not-fit")[0]["detail"].clone();
    let detail = detail.as_str().unwrap();
    assert!(
        detail
            .contains("45 of 60 boxes have no part in their images or a negative side, such as ["),
        "{detail}"
    );
    let root = text(set.dir.path());
    let fixed = set.path("fixed.json");
    let output = sedet(&[
        "data",
        "check",
        &root,
        "--split",
        "train",
        "--fix",
        &text(&fixed),
    ]);
    let stderr = String::from_utf8_lossy(&output.stderr).replace("\n  ", " ");
    assert!(
        stderr.contains("fixed.json: no corrected copy is written while many boxes do not fit"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(!fixed.exists());
    let out = text(&set.path("out"));
    fails_with(
        &["train", "--dataset", &root, "--output", &out],
        &[
            "train.json: 45 of 60 boxes have no part in their images or a negative side",
            "of other images, or of another size",
        ],
    );
}

#[test]
fn other_orders_are_named_in_yolo_csv_and_voc_by_check_and_train() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: String, contents: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    };
    let (mut table, mut voc) = (
        String::from("filename,width,height,class,xmin,ymin,xmax,ymax\n"),
        [const { String::new() }; 3],
    );
    let mut yolo = [const { String::new() }; 3];
    for i in 0..60 {
        let [x, y, w, h] = all_over(i);
        let at = i as usize % 3;
        table += &format!("{at}.png,64,48,cat,{y},{x},{},{}\n", y + h, x + w);
        let [cx, cy] = [x + w / 2.0, y + h / 2.0];
        voc[at] += &format!(
            "<object><name>cat</name><bndbox><xmin>{cx}</xmin><ymin>{cy}</ymin><xmax>{w}</xmax><ymax>{h}</ymax></bndbox></object>"
        );
        let [x, y, w, h] = [x / 64.0, y / 48.0, w / 64.0, h / 48.0];
        yolo[at] += &format!("0 {x} {y} {w} {h}\n");
    }
    for at in 0..3_usize {
        let png = encoded(&image_of(at as u32, 64, 48), ImageFormat::Png);
        for directory in ["csv", "voc", "yolo/images"] {
            write(format!("{directory}/{at}.png"), &png);
        }
        write(format!("yolo/labels/{at}.txt"), yolo[at].as_bytes());
        let xml = format!(
            "<annotation><filename>{at}.png</filename><size><width>64</width><height>48</height></size>{}</annotation>",
            voc[at]
        );
        write(format!("voc/{at}.xml"), xml.as_bytes());
    }
    write("yolo/classes.txt".to_owned(), b"cat\n");
    write("csv/train_labels.csv".to_owned(), table.as_bytes());
    let (pixels, fractions) = ("in pixels", "in fractions of the image size");
    for (format, kind, order, unit) in [
        ("csv", "boxes-are-transposed", "[y1, x1, y2, x2]", pixels),
        (
            "voc",
            "boxes-are-no-corners",
            "[center x, center y, width, height]",
            pixels,
        ),
        (
            "yolo",
            "boxes-are-no-centers",
            "[x, y, width, height]",
            fractions,
        ),
    ] {
        let root = text(&dir.path().join(format));
        let checked = Checked::of(&sedet(&["data", "check", &root, "--json"]));
        checked.has_errors(&[(kind, 1)]);
        let verdict = format!("60 of 60 boxes fit their images as {order} {unit}, not as [");
        let detail = checked.places(kind)[0]["detail"].clone();
        assert!(detail.as_str().unwrap().starts_with(&verdict), "{detail}");
        let out = text(&dir.path().join("out"));
        fails_with(
            &["train", "--dataset", &root, "--output", &out],
            &[&verdict],
        );
    }
}

#[test]
fn empty_files_are_called_empty_and_a_copy_beside_its_original_is_named() {
    let set = DataSet::new();
    std::fs::create_dir(set.path("csv")).unwrap();
    set.write("csv/_annotations.csv", "");
    set.write(
        "csv/1.jpg",
        encoded(&image_of(1, 64, 48), ImageFormat::Jpeg),
    );
    let csv = text(&set.path("csv"));
    fails_with(
        &["data", "check", &csv],
        &["_annotations.csv: the file is empty"],
    );
    std::fs::create_dir(set.path("one")).unwrap();
    set.write("one/instances.json", set.train.to_string());
    let mut fixed = set.train.clone();
    fixed["annotations"][0]["bbox"] = json!([1, 1, 5, 5]);
    set.write("one/fixed.json", fixed.to_string());
    fails_with(
        &["data", "check", &text(&set.path("one"))],
        &[
            "several train annotations",
            "if fixed.json is the corrected copy of `sedet data check --fix`, give it as the dataset: ",
        ],
    );
}

#[test]
fn copies_with_other_boxes_contradict() {
    let (set, checked) = DataSet::with(|set| {
        std::fs::copy(set.path("train/1.jpg"), set.path("train/2.jpg")).unwrap();
        set.train["annotations"][3]["bbox"] = json!([1, 2, 12, 8]);
    });
    checked.has_warnings(&[("copies-differ", 1)]);
    let place = &checked.places("copies-differ")[0];
    assert_eq!(place["file"], "2.jpg");
    assert_eq!(
        place["detail"],
        "the same as 1.jpg, at other places or of other classes"
    );
    let (_, checked) = DataSet::with(|set| {
        std::fs::copy(set.path("train/1.jpg"), set.path("train/2.jpg")).unwrap();
        set.train["annotations"].as_array_mut().unwrap().drain(2..4);
    });
    assert_eq!(
        checked.places("copies-differ")[0]["detail"],
        "the same as 1.jpg, which has 2 boxes; this one has 0"
    );
    // Those with the same boxes are no contradiction.
    let (_, checked) = DataSet::with(|set| {
        std::fs::copy(set.path("train/1.jpg"), set.path("train/2.jpg")).unwrap();
    });
    checked.has_warnings(&[("image-twice", 1)]);
    drop(set);
}

#[test]
fn one_image_with_boxes_is_refused_by_check_and_train_and_noted_by_show() {
    let (set, _) = DataSet::with(|set| {
        std::fs::remove_file(set.path("val/4.jpg")).unwrap();
        set.train["annotations"].as_array_mut().unwrap().truncate(2);
        set.write("train.json", set.train.to_string());
    });
    let checked = set.check(&[]);
    checked.has_errors(&[("cannot-hold-out", 1)]);
    let why = "only 1.jpg of 3 images has boxes, but train and val both need some";
    assert_eq!(checked.places("cannot-hold-out")[0]["detail"], why);
    let directory = text(set.dir.path());
    fails_with(
        &[
            "train",
            "--dataset",
            &directory,
            "--output",
            &text(&set.path("run")),
        ],
        &[why, "hint: annotate more images"],
    );
    assert!(!set.path("run").exists());
    let shown = sedet(&[
        "data",
        "show",
        &directory,
        "--count",
        "1",
        "--output",
        &text(&set.path("shown")),
    ]);
    let stderr = String::from_utf8_lossy(&shown.stderr);
    assert!(stderr.contains(why), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_that_leads_nowhere_is_named_as_such() {
    let (set, checked) = DataSet::with(|set| {
        std::fs::remove_file(set.path("train/2.jpg")).unwrap();
        std::os::unix::fs::symlink("/no/such/disk/2.jpg", set.path("train/2.jpg")).unwrap();
    });
    let link = "a symbolic link to /no/such/disk/2.jpg, which does not exist";
    assert_eq!(checked.places("image-missing")[0]["detail"], link);
    let out = text(&set.path("voc"));
    let directory = text(&set.path("train.json"));
    let convert = [
        "data", "convert", &directory, "--to", "voc", "--output", &out,
    ];
    fails_with(&convert, &["train/2.jpg", link]);
}

#[cfg(unix)]
#[test]
fn a_label_file_that_is_a_link_to_nothing_is_an_error_and_no_image_without_objects() {
    let dir = tempfile::tempdir().unwrap();
    for id in 0..3 {
        let image = image::RgbImage::from_pixel(64, 48, image::Rgb([40 * id, 0, 0]));
        image.save(dir.path().join(format!("{id}.jpg"))).unwrap();
        let labels = dir.path().join(format!("{id}.txt"));
        if id == 1 {
            std::os::unix::fs::symlink("/no/such/disk/1.txt", labels).unwrap();
        } else {
            std::fs::write(labels, "0 0.5 0.5 0.2 0.2\n").unwrap();
        }
    }
    std::fs::write(dir.path().join("classes.txt"), "cat\n").unwrap();
    let directory = text(dir.path());
    let link = "a symbolic link to /no/such/disk/1.txt, which does not exist";
    let checked = sedet(&["data", "check", &directory]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let report = String::from_utf8_lossy(&checked.stdout);
    let report: Vec<&str> = report.split_whitespace().collect();
    assert!(report.join(" ").contains(link), "{report:?}");
    let output = text(&dir.path().join("../coco"));
    let convert = [
        "data", "convert", &directory, "--to", "coco", "--output", &output,
    ];
    fails_with(&convert, &["1.txt", link]);
}

#[test]
fn text_in_an_encoding_that_json_cannot_have_is_named() {
    for (bytes, expected) in [
        (
            "\u{feff}{}"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
            "line 1: UTF-16 text, but JSON has to be UTF-8",
        ),
        (
            "{\"images\": []}"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
            "line 1: probably UTF-16 without a byte order mark, but JSON has to be UTF-8",
        ),
        (
            b"{\"images\": [{\"id\": 1, \"file_name\": \"M\xf6we.jpg\"}]}".to_vec(),
            "not UTF-8 text",
        ),
    ] {
        let bytes: Vec<u8> = bytes;
        let (_, checked) = DataSet::with(|set| {
            set.save();
            set.write("train.json", &bytes);
        });
        let detail = checked.places("file-broken")[0]["detail"].clone();
        assert!(detail.as_str().unwrap().contains(expected), "{detail}");
    }
}

#[test]
fn lines_fit_the_terminal() {
    let (set, _) = DataSet::with(|set| {
        let boxes = set.train["annotations"].as_array_mut().unwrap();
        boxes.push(annotation(900, 1, 3, [60.0, 40.0, 1234.5678, 2345.6789]));
        boxes.push(annotation(901, 1, 3, [60.0, 40.0, 1234.5678, 2345.6789]));
        boxes.push(annotation(902, 1, 3, [1.0, 1.0, -5.0, 4.0]));
        let images = set.train["images"].as_array_mut().unwrap();
        images.push(json!({"id": 9, "file_name": "gone.jpg", "width": 64, "height": 48}));
    });
    let output = |arguments: &[&str]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_sedet"))
            .args(arguments)
            .current_dir(set.dir.path())
            .env("COLUMNS", "80")
            .output()
            .unwrap();
        String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
    };
    let out = ["--split", "train", "--fix", "fixed.json"];
    for arguments in [
        &["data", "check", "."][..],
        &[&["data", "check", "."][..], &out].concat(),
        &["data", "stats", ".", "--split", "val"],
    ] {
        let text = output(arguments);
        assert!(text.lines().count() > 10, "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
        }
    }
}

#[test]
fn invalid_boxes_are_found_by_kind() {
    let (set, checked) = DataSet::with(|set| {
        let boxes = set.train["annotations"].as_array_mut().unwrap();
        for (id, bbox) in [
            (900, [1.0, 1.0, -5.0, 4.0]),
            (901, [1.0, 1.0, 0.0, 4.0]),
            (902, [1.0, 1.0, 2e9, 4.0]),
            (903, [70.0, 1.0, 5.0, 4.0]),
            (904, [60.0, 40.0, 10.0, 20.0]),
            (905, [60.0, 40.0, 4.5, 8.0]),
            (906, [3.0, 4.0, 0.5, 8.0]),
        ] {
            boxes.push(annotation(id, 1, 3, bbox));
        }
    });
    checked.has_errors(&[
        ("box-negative", 1),
        ("box-zero", 1),
        ("box-huge", 1),
        ("box-outside", 1),
        ("box-over-edge", 1),
    ]);
    assert_eq!(
        checked.kinds("warning"),
        BTreeMap::from([("box-under-pixel", 1)])
    );
    for (kind, id) in [
        ("box-negative", 900),
        ("box-outside", 903),
        ("box-over-edge", 904),
    ] {
        let place = &checked.places(kind)[0];
        assert_eq!(place["annotation_id"], id);
        assert_eq!(
            (&place["image_id"], &place["file"]),
            (&1.into(), &"1.jpg".into())
        );
    }
    let fixed = fix(&set, 0);
    let boxes = fixed["annotations"].as_array().unwrap();
    let ids: Vec<_> = boxes.iter().map(|b| b["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [10, 11, 20, 21, 30, 31, 904, 905, 906]);
    assert_eq!(boxes[6]["bbox"], json!([60.0, 40.0, 4.0, 8.0]));
    assert_eq!(boxes[6]["area"], 32.0);
}

#[test]
fn nan_and_infinity_are_read_though_json_has_neither() {
    let (set, checked) = DataSet::with(|set| {
        let mut boxes = set.train["annotations"].as_array().unwrap().clone();
        boxes.push(
            json!({"id": 900, "image_id": 1, "category_id": 3, "bbox": "WORDS", "area": "AREA"}),
        );
        boxes.push(json!({"id": 901, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4.5], "area": "AREA"}));
        set.train["annotations"] = boxes.into();
        let json = set.train.to_string();
        let json = json.replace("\"WORDS\"", "[NaN, 1, Infinity, -Infinity]");
        set.save();
        set.write("train.json", json.replace("\"AREA\"", "NaN"));
    });
    checked.has_errors(&[("area-wrong", 1), ("box-not-finite", 1)]);
    // Evaluation names the entry, and the command line suggests `sedet data check`.
    let directory = text(set.dir.path());
    fails_with(
        &[
            "eval",
            "--dataset",
            &directory,
            "--split",
            "train",
            "--checkpoint",
            &shipped(),
        ],
        &[
            "train.json: annotations[6] (id 900): `bbox` is [NaN, 1, inf, -inf], not four finite numbers",
            "hint: `sedet data check",
        ],
    );
    let fixed = fix(&set, 0);
    let last = fixed["annotations"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["id"], &last["area"]), (&901.into(), &13.5.into()));
}

fn shipped() -> String {
    format!(
        "{}/assets/shapes-se-resnet18.safetensors",
        env!("CARGO_MANIFEST_DIR")
    )
}

#[test]
fn duplicate_ids_are_found_and_repaired_where_unambiguous() {
    let (set, checked) = DataSet::with(|set| {
        // The same file with the same id; a second file with an existing id; a duplicate annotation
        // id.
        let images = set.train["images"].as_array_mut().unwrap();
        images.push(images[0].clone());
        let mut other = images[0].clone();
        other["id"] = 2.into();
        other["file_name"] = "extra.jpg".into();
        images.push(other);
        set.write(
            "train/extra.jpg",
            encoded(&image_of(9, 64, 48), ImageFormat::Jpeg),
        );
        let boxes = set.train["annotations"].as_array_mut().unwrap();
        boxes.push(annotation(10, 3, 7, [1.0, 2.0, 9.0, 9.0]));
    });
    checked.has_errors(&[("annotation-id-twice", 1), ("image-id-twice", 2)]);
    let fixed = fix(&set, 0);
    let ids = |list: &str| -> Vec<u64> {
        let entries = fixed[list].as_array().unwrap().iter();
        entries.map(|entry| entry["id"].as_u64().unwrap()).collect()
    };
    // The owner of the boxes of image 2 is ambiguous.
    assert_eq!(ids("images"), [1, 3]);
    assert_eq!(ids("annotations"), [10, 11, 30, 31, 32]);
}

/// Lists the first image of train under another id, too, with another box.
fn list_again(set: &mut DataSet) {
    let images = set.train["images"].as_array_mut().unwrap();
    let mut again = images[0].clone();
    again["id"] = 77.into();
    images.push(again);
    let boxes = set.train["annotations"].as_array_mut().unwrap();
    boxes.push(annotation(900, 77, 7, [1.0, 2.0, 9.0, 9.0]));
}

#[test]
fn an_image_with_two_ids_is_listed_once_by_the_fix() {
    let (set, checked) = DataSet::with(|set| {
        list_again(set);
        let boxes = set.train["annotations"].as_array_mut().unwrap();
        boxes.push(annotation(901, 77, 3, [4.0, 5.0, 20.0, 30.0]));
    });
    checked.has_errors(&[("box-twice", 1), ("image-listed-twice", 1)]);
    let fixed = fix(&set, 0);
    assert_eq!(fixed["images"].as_array().unwrap().len(), 3);
    let boxes = fixed["annotations"].as_array().unwrap();
    assert_eq!(boxes.len(), 7);
    assert_eq!(
        (&boxes[6]["id"], &boxes[6]["image_id"]),
        (&900.into(), &1.into())
    );
    assert_eq!(boxes[6]["note"], "kept");
}

#[test]
fn a_name_with_different_boxes_under_two_ids_is_not_merged() {
    let (set, checked) = DataSet::with(|set| {
        list_again(set);
    });
    checked.has_errors(&[("image-name-of-two", 1)]);
    let fixed = fix(&set, 1);
    assert_eq!(fixed["images"], set.train["images"]);
    assert_eq!(fixed["annotations"], set.train["annotations"]);
}

#[test]
fn an_image_that_a_missing_name_may_mean_is_named() {
    for (written, file, how) in [
        ("a.png", "a.jpg", "with another extension"),
        ("a", "a.jpg", "with another extension"),
        (
            "0a1b2c3d-a.jpg",
            "a.jpg",
            "without the prefix that Label Studio adds",
        ),
        ("a.jpg", "first/a.jpg", "in another place"),
    ] {
        let set = DataSet::new();
        let image = encoded(&image_of(1, 64, 48), ImageFormat::Jpeg);
        let path = format!("train/{file}");
        std::fs::create_dir_all(set.path(&path).parent().unwrap()).unwrap();
        std::fs::remove_file(set.path("train/1.jpg")).unwrap();
        set.write(&path, image);
        let mut train = set.train.clone();
        train["images"][0]["file_name"] = written.into();
        set.write("train.json", train.to_string());
        set.write("val.json", set.val.to_string());
        let checked = set.check(&[]);
        let detail = checked.places("image-missing")[0]["detail"].clone();
        let detail = detail.as_str().unwrap();
        assert!(
            detail.ends_with(&format!("{file} exists, {how}")),
            "{written}: {detail}"
        );
    }
}

#[test]
fn splits_with_the_same_files_are_found_without_decoding_images() {
    let set = DataSet::new();
    set.save();
    std::fs::remove_dir_all(set.path("val")).unwrap();
    let mut val = set.train.clone();
    val["info"] = json!({});
    set.write("val.json", val.to_string());
    std::fs::rename(set.path("train"), set.path("images")).unwrap();
    let checked = set.check(&["--skip-images"]);
    checked.has_errors(&[("leak-same-split", 1)]);
    let mut val = set.train.clone();
    val["info"] = json!({});
    val["images"].as_array_mut().unwrap().pop();
    set.write("val.json", val.to_string());
    let checked = set.check(&["--skip-images"]);
    assert_eq!(checked.places("leak-same-file").len(), 2);
}

#[test]
fn annotations_in_another_format_that_cannot_be_read_are_named_beside_those_that_are_used() {
    let set = DataSet::new();
    set.save();
    set.write("data.yaml", "train: gone/images\nval: val\nnames: [cat]\n");
    let output = sedet(&["data", "check", &text(set.dir.path())]);
    let stderr = String::from_utf8_lossy(&output.stderr).replace("\n  ", " ");
    assert!(stderr.contains("not used: YOLO annotations ("), "{stderr}");
    assert!(stderr.contains("gone/images"), "{stderr}");
}

#[test]
fn duplicate_boxes_are_errors_and_with_two_classes_a_warning() {
    let (set, checked) = DataSet::with(|set| {
        let boxes = set.train["annotations"].as_array_mut().unwrap();
        boxes.push(annotation(900, 1, 3, [4.0, 5.0, 20.0, 30.0]));
        boxes.push(annotation(901, 2, 7, [4.0, 5.0, 20.0, 30.0]));
    });
    checked.has_errors(&[("box-twice", 1)]);
    assert_eq!(
        checked.kinds("warning"),
        BTreeMap::from([("box-two-classes", 1)])
    );
    assert_eq!(fix(&set, 0)["annotations"].as_array().unwrap().len(), 7);
}

#[test]
fn boxes_of_unknown_images_and_categories_are_found() {
    let (set, checked) = DataSet::with(|set| {
        let boxes = set.train["annotations"].as_array_mut().unwrap();
        boxes.push(annotation(900, 99, 3, [4.0, 5.0, 20.0, 30.0]));
        boxes.push(annotation(901, 2, 8, [4.0, 5.0, 20.0, 31.0]));
    });
    checked.has_errors(&[("unknown-category", 1), ("unknown-image", 1)]);
    assert_eq!(
        checked.places("unknown-category")[0]["detail"],
        "category_id is 8"
    );
    assert_eq!(
        fix(&set, 0)["annotations"],
        json!(set.train["annotations"].as_array().unwrap()[..6])
    );
}

#[test]
fn duplicate_categories_are_found_and_merged_where_unambiguous() {
    let (set, checked) = DataSet::with(|set| {
        for split in [&mut set.train, &mut set.val] {
            let categories = split["categories"].as_array_mut().unwrap();
            categories.push(json!({"id": 3, "name": "cat"}));
            categories.push(json!({"id": 8, "name": "dog"}));
            categories.push(json!({"id": 9, "name": "Dog "}));
        }
        set.train["annotations"][1]["category_id"] = 8.into();
    });
    checked.has_errors(&[("category-id-twice", 2), ("category-name-twice", 2)]);
    let warnings = checked.kinds("warning");
    assert_eq!(warnings["category-names-alike"], 2);
    assert_eq!(warnings["category-unused"], 2);
    let fixed = fix(&set, 0);
    assert_eq!(fixed["annotations"][1]["category_id"], 7);
    assert_eq!(fixed["categories"].as_array().unwrap().len(), 3);

    // Two names with one id are ambiguous, so the fix leaves them to the user.
    let (set, checked) = DataSet::with(|set| {
        for split in [&mut set.train, &mut set.val] {
            let categories = split["categories"].as_array_mut().unwrap();
            categories.push(json!({"id": 3, "name": "lion"}));
        }
    });
    checked.has_errors(&[("category-id-twice", 2)]);
    assert!(checked.report["splits"][0]["statistics"].is_null());
    fix(&set, 1);
}

#[test]
fn different_category_tables_are_reported_as_a_difference() {
    let (_, checked) = DataSet::with(|set| {
        set.val["categories"] =
            json!([{"id": 3, "name": "cat"}, {"id": 7, "name": "hound"}, {"id": 9, "name": "owl"}]);
    });
    checked.has_errors(&[("categories-differ", 2)]);
    let places = checked.places("categories-differ");
    assert_eq!(places[0]["detail"], "7 `dog` / `hound`");
    assert_eq!(places[1]["detail"], "9 `owl` only in val");
}

#[test]
fn a_class_that_is_evaluated_but_not_trained_is_a_warning() {
    let (_, checked) = DataSet::with(|set| {
        let boxes = set.train["annotations"].as_array_mut().unwrap();
        boxes.retain(|object| object["category_id"] == 3);
    });
    checked.has_warnings(&[("category-not-trained", 1), ("category-unused", 1)]);
}

#[test]
fn images_in_two_splits_are_found_by_content_and_appearance() {
    let (_, checked) = DataSet::with(|set| {
        std::fs::copy(set.path("train/1.jpg"), set.path("val/4.jpg")).unwrap();
        // Saved again, smaller and with another quality: different bytes, similar appearance.
        let small = image::imageops::thumbnail(&image_of(2, 64, 48), 48, 36);
        set.write("val/5.jpg", encoded(&small, ImageFormat::Jpeg));
        set.val["images"][1]["width"] = 48.into();
        set.val["images"][1]["height"] = 36.into();
    });
    checked.has_errors(&[("leak-same-file", 1)]);
    assert_eq!(
        checked.kinds("warning"),
        BTreeMap::from([("leak-near-duplicate", 1)])
    );
    let place = &checked.places("leak-same-file")[0];
    assert_eq!(
        (&place["split"], &place["image_id"]),
        (&"val".into(), &4.into())
    );
    assert_eq!(place["detail"], "the same file as train 1.jpg (image 1)");
    let near = checked.places("leak-near-duplicate")[0]["detail"]
        .as_str()
        .unwrap();
    assert!(near.contains("similar to train 2.jpg (image 2)"), "{near}");
}

#[test]
fn the_same_content_twice_in_a_split_and_images_in_no_list_are_warnings() {
    let (_, checked) = DataSet::with(|set| {
        std::fs::copy(set.path("train/1.jpg"), set.path("train/2.jpg")).unwrap();
        std::fs::copy(set.path("train/3.jpg"), set.path("train/forgotten.jpg")).unwrap();
    });
    checked.has_warnings(&[("image-not-listed", 1), ("image-twice", 1)]);
    let place = checked.places("image-not-listed")[0]["file"]
        .as_str()
        .unwrap();
    assert!(place.ends_with("forgotten.jpg"));
}

#[test]
fn empty_images_crowds_and_areas_are_warnings_but_no_area_at_all_is_an_error() {
    let (set, checked) = DataSet::with(|set| {
        let boxes = set.train["annotations"].as_array_mut().unwrap();
        boxes.retain(|object| object["image_id"] != 3);
        boxes[0]["iscrowd"] = 1.into();
        boxes[1].as_object_mut().unwrap().remove("area");
        boxes[2]["area"] = 100_000.into();
    });
    checked.has_warnings(&[
        ("area-missing", 1),
        ("area-over-box", 1),
        ("crowd", 1),
        ("image-empty", 1),
    ]);
    assert_eq!(
        checked.report["splits"][0]["statistics"]["crowd_regions"],
        1
    );
    drop(set);
    let (set, checked) = DataSet::with(|set| {
        set.train["annotations"][0]["area"] = (-3).into();
        set.train["annotations"][1]["area"] = 0.into();
    });
    checked.has_errors(&[("area-wrong", 2)]);
    assert_eq!(fix(&set, 0)["annotations"][0]["area"], 600.0);
}

#[test]
fn entries_of_a_wrong_kind_do_not_hide_the_others() {
    let (set, checked) = DataSet::with(|set| {
        let train = &mut set.train;
        train["images"][0]["id"] = "1".into();
        train["images"][1]["width"] = 64.0.into();
        let boxes = train["annotations"].as_array_mut().unwrap();
        boxes[0]["bbox"] = json!(["4", 5, 20, 30]);
        boxes[1]["id"] = 11.0.into();
        boxes.extend([
            json!(null),
            json!([1, 2]),
            json!({"id": 900, "image_id": 1, "category_id": 3}),
            json!({"id": -901, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}),
            json!({"id": 902, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3]}),
            json!({"id": 903, "image_id": 1, "category_id": {"a": [1]}, "bbox": {"x": 1}}),
            json!({"id": 904, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 7}),
        ]);
        train["categories"]
            .as_array_mut()
            .unwrap()
            .push(json!({"id": 20}));
        set.val["categories"]
            .as_array_mut()
            .unwrap()
            .push(json!({"id": 20, "name": 5}));
    });
    checked.has_errors(&[("entry-malformed", 11)]);
    let details: Vec<_> = checked
        .places("entry-malformed")
        .iter()
        .map(|p| p["detail"].as_str().unwrap())
        .collect();
    for expected in [
        "images[0]: `id` is the string \"1\"",
        "annotations[0]: `bbox` contains numbers written as strings",
        "annotations[6]: is null, not an object",
        "annotations[7]: is a list, not an object",
        "annotations[8]: `bbox` is missing",
        "annotations[9]: `id` is -901, not a non-negative integer",
        "annotations[10]: `bbox` has 3 numbers, not 4",
        "annotations[11]: `category_id` is an object, not a non-negative integer, `bbox` is an object, not four numbers",
        "annotations[12]: `iscrowd` is 7, not 0 or 1",
        "categories[2]: `name` is missing",
    ] {
        assert!(details.contains(&expected), "{expected}: {details:#?}");
    }
    let fixed = fix(&set, 0);
    assert_eq!(fixed["images"][0]["id"], 1);
    assert_eq!(
        fixed["annotations"][0]["bbox"],
        json!([4.0, 5.0, 20.0, 30.0])
    );
    assert_eq!(fixed["annotations"].as_array().unwrap().len(), 6);
}

#[test]
fn a_truncated_file_is_checked_up_to_its_end() {
    let (set, checked) = DataSet::with(|set| {
        set.save();
        let json = set.train.to_string();
        set.write("train.json", &json[..json.len() - 100]);
    });
    assert_eq!(checked.code, 1);
    let errors = checked.kinds("error");
    assert_eq!(errors["file-broken"], 1);
    assert_eq!(
        checked.report["splits"][0]["images"].as_u64().unwrap_or(0) > 0,
        checked.report["splits"][0]["boxes"] != 0
    );
    no_copy(&set, "the file cannot be read to its end");
}

#[test]
fn missing_and_invalid_lists_are_reported() {
    for (spoil, kind) in [
        (r#"{"images": []}"#, "list-missing"),
        (
            r#"{"images": {}, "annotations": [], "categories": []}"#,
            "list-missing",
        ),
        ("[]", "list-missing"),
        ("<html>", "file-broken"),
        ("", "file-broken"),
        ("\u{feff}not json", "file-broken"),
    ] {
        let (_, checked) = DataSet::with(|set| {
            set.save();
            set.write("train.json", spoil);
        });
        assert!(
            checked.kinds("error").contains_key(kind),
            "{spoil}: {:#}",
            checked.report
        );
    }
    // A byte order mark alone is valid.
    let (_, checked) = DataSet::with(|set| {
        set.save();
        set.write("train.json", format!("\u{feff}{}", set.train));
    });
    checked.has_warnings(&[]);
}

#[test]
fn corners_and_fractions_are_recognized_as_such() {
    let many = |set: &mut DataSet, bbox: fn(f64) -> [f64; 4]| {
        let boxes = (0..20).map(|i| annotation(i + 1, 1 + i % 3, 3, bbox(i as f64)));
        set.train["annotations"] = boxes.collect::<Vec<_>>().into();
    };
    let (_, checked) = DataSet::with(|set| many(set, |i| [20.0 + i, 20.0, 40.0 + i, 45.0]));
    checked.has_errors(&[("boxes-are-corners", 1)]);
    let (_, checked) = DataSet::with(|set| many(set, |i| [0.1 + i / 50.0, 0.2, 0.3, 0.4]));
    checked.has_errors(&[("boxes-are-unclear-fractions", 1)]);
    // Correct boxes are not mistaken for corners.
    let (_, checked) = DataSet::with(|set| many(set, |i| [i, 2.0, 30.0, 40.0]));
    assert_eq!(checked.kinds("error"), BTreeMap::new());
}

#[test]
fn corners_and_fractions_are_refused_wherever_annotations_are_read_and_corners_are_fixed() {
    let mut set = DataSet::new();
    let many = |bbox: fn(f64) -> [f64; 4]| -> Value {
        let boxes = (0..20).map(|i| annotation(i + 1, 1 + i % 3, 3, bbox(i as f64)));
        boxes.collect::<Vec<_>>().into()
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let output = elsewhere.path().join("out");
    let out = text(&output);
    let (root, file) = (text(set.dir.path()), text(&set.path("train.json")));
    let refused = |parts: &[&str]| {
        for command in [
            &["train", "--dataset", &root, "--output", &out][..],
            &["data", "convert", &root, "--to", "yolo", "--output", &out],
            &["data", "split", &file, "--output", &out],
            &[
                "data", "split", &file, "--images", "leave", "--output", &out,
            ],
            &["data", "stats", &root],
            &["data", "show", &root, "--output", &out],
            &["eval", "--results", &file, "--annotations", &file],
        ] {
            fails_with(command, parts);
        }
        assert!(!output.exists());
    };
    set.train["annotations"] = many(|i| [0.1 + i / 50.0, 0.2, 0.3, 0.4]);
    set.save();
    refused(&[
        "train.json: 20 of 20 boxes fit their images as fractions of the image size",
        "such as [0.1, 0.2, 0.3, 0.4]",
        "export the boxes in pixels",
    ]);
    set.train["annotations"] = many(|i| [20.0 + i, 20.0, 40.0 + i, 45.0]);
    set.save();
    refused(&[
        "train.json: 20 of 20 boxes fit their images as [x1, y1, x2, y2] in pixels",
        "--fix FIXED.json` writes a copy with [x, y, width, height]",
    ]);
    let fixed = fix(&set, 0);
    assert_eq!(
        fixed["annotations"][2]["bbox"],
        json!([22.0, 20.0, 20.0, 25.0])
    );
    assert_eq!(fixed["annotations"][2]["area"], 500.0);
}

#[test]
fn other_orders_and_centers_in_coco_json_are_refused_by_every_command_and_fixed() {
    type Written = fn([f64; 4]) -> [f64; 4];
    let written: [(&str, Written); 3] = [
        (
            "[center x, center y, width, height] in pixels",
            |[x, y, w, h]| [x + w / 2.0, y + h / 2.0, w, h],
        ),
        ("[y1, x1, y2, x2] in pixels", |[x, y, w, h]| {
            [y, x, y + h, x + w]
        }),
        ("[y, x, height, width] in pixels", |[x, y, w, h]| {
            [y, x, h, w]
        }),
    ];
    for (convention, write) in written {
        // Those of `[y, x, height, width]` may be right, and the sizes of the images wrong.
        let is_fixed = !convention.starts_with("[y, x");
        let way_out = if is_fixed {
            "--fix FIXED.json` writes a copy"
        } else {
            "export the boxes again, as [x, y, width, height] in pixels of the images"
        };
        let (set, checked) = DataSet::with(|set| {
            let boxes = (0..60).map(|i| annotation(i + 1, 1 + i % 3, 3, write(all_over(i))));
            set.train["annotations"] = boxes.collect::<Vec<_>>().into();
        });
        let kind = if is_fixed {
            "boxes-are-no-sizes"
        } else {
            "boxes-are-transposed"
        };
        checked.has_errors(&[(kind, 1)]);
        let expected = format!("60 of 60 boxes fit their images as {convention}, not as [x, y");
        let detail = &checked.places(kind)[0]["detail"];
        assert!(detail.as_str().unwrap().starts_with(&expected), "{detail}");
        let elsewhere = tempfile::tempdir().unwrap();
        let out = text(&elsewhere.path().join("out"));
        let (root, file) = (text(set.dir.path()), text(&set.path("train.json")));
        for command in [
            &["train", "--dataset", &root, "--output", &out][..],
            &["data", "convert", &root, "--to", "yolo", "--output", &out],
            &["data", "stats", &root],
        ] {
            fails_with(command, &[&expected, way_out]);
        }
        fails_with(
            &["eval", "--results", &file, "--annotations", &file],
            &[&expected],
        );
        if !is_fixed {
            no_copy(
                &set,
                "the meaning of the numbers of its boxes is not certain",
            );
            continue;
        }
        let fixed = fix(&set, 0);
        for i in 0..60 {
            let found = &fixed["annotations"][i as usize]["bbox"];
            assert_eq!(*found, json!(all_over(i)), "{convention}");
        }
    }
}

/// Asserts that no corrected copy of train is written, for a reason.
fn no_copy(set: &DataSet, reason: &str) {
    let copy = set.path("copy.json");
    let root = text(set.dir.path());
    let arguments = ["data", "check", &root, "--split", "train", "--fix"];
    let output = sedet(&[&arguments[..], &[&text(&copy)]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).replace("\n  ", " ");
    let message = format!("copy.json: no corrected copy is written while {reason}");
    assert!(stderr.contains(&message), "{stderr}");
    assert_eq!(output.status.code(), Some(1));
    assert!(!copy.exists());
}

#[test]
fn shifted_category_ids_are_named_by_check_and_train_and_no_class_is_dropped_by_the_fix() {
    let (set, checked) = DataSet::with(|set| {
        set.train["categories"] = json!([{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]);
        set.val["categories"] = set.train["categories"].clone();
        for (at, object) in (0..).zip(set.train["annotations"].as_array_mut().unwrap()) {
            object["category_id"] = json!(at % 2);
        }
        for object in set.val["annotations"].as_array_mut().unwrap() {
            object["category_id"] = json!(1);
        }
    });
    assert_eq!(checked.kinds("error")["categories-shifted"], 1);
    assert_eq!(
        checked.places("categories-shifted")[0]["detail"],
        "those of the boxes are 0 to 1, those of the categories 1 to 2: all would be listed if they were one higher, so they seem to be one too low"
    );
    no_copy(&set, "its category ids seem to be shifted by one");
    let (root, out) = (text(set.dir.path()), text(&set.path("out")));
    fails_with(
        &["train", "--dataset", &root, "--output", &out],
        &[
            "refers to category 0, which is not in `categories`",
            "all would be listed if they were one higher",
            "add 1 to every `category_id`",
        ],
    );
    set.write(
        "results.json",
        json!([{"image_id": 1, "category_id": 1, "bbox": [4, 5, 20, 30], "score": 0.5}])
            .to_string(),
    );
    let (results, file) = (
        text(&set.path("results.json")),
        text(&set.path("train.json")),
    );
    let output = sedet(&["eval", "--results", &results, "--annotations", &file]);
    let stderr = String::from_utf8_lossy(&output.stderr).replace("\n  ", " ");
    assert!(
        stderr.contains("of all ids, all would be listed if they were one higher"),
        "{stderr}"
    );
}

#[test]
fn boxes_in_two_orders_are_told_apart_by_their_areas_and_suspected_without() {
    let mixed = |with_areas: bool| {
        DataSet::with(|set| {
            let boxes = (0..120).map(|i| {
                let [x, y, w, h] = all_over(i);
                let corners = i % 3 == 0;
                let bbox = if corners {
                    [x, y, x + w, y + h]
                } else {
                    [x, y, w, h]
                };
                let mut object = annotation(i + 1, 1 + i % 3, 3, bbox);
                object["area"] = if with_areas {
                    json!(w * h)
                } else {
                    Value::Null
                };
                object
            });
            set.train["annotations"] = boxes.collect();
        })
    };
    let (set, checked) = mixed(true);
    checked.has_errors(&[("boxes-are-mixed", 1)]);
    let verdict = "have the `area` of [x1, y1, x2, y2], and not that of [x, y, width, height]";
    let detail = checked.places("boxes-are-mixed")[0]["detail"].clone();
    assert!(detail.as_str().unwrap().contains(verdict), "{detail}");
    let (root, out) = (text(set.dir.path()), text(&set.path("out")));
    fails_with(
        &["train", "--dataset", &root, "--output", &out],
        &[verdict, "--fix FIXED.json` writes a copy"],
    );
    let fixed = fix(&set, 0);
    for i in 0..120 {
        let found = &fixed["annotations"][i as usize]["bbox"];
        assert_eq!(*found, json!(all_over(i)), "{i}");
    }
    let (set, checked) = mixed(false);
    assert_eq!(checked.kinds("error")["boxes-may-be-misread"], 1);
    let detail = checked.places("boxes-may-be-misread")[0]["detail"].clone();
    let suspicion = "of these fit as [x1, y1, x2, y2], such as [";
    assert!(detail.as_str().unwrap().contains(suspicion), "{detail}");
    // Nothing is clipped.
    let fixed = fix(&set, 1);
    assert_eq!(
        fixed["annotations"][3]["bbox"],
        set.train["annotations"][3]["bbox"]
    );
}

#[test]
fn boxes_of_stored_pixels_are_named_with_the_exif_rotation_of_their_images() {
    let (set, checked) = DataSet::with(|set| {
        for id in 1..=3 {
            set.write(
                &format!("train/{id}.jpg"),
                rotated_jpeg(&image_of(id, 48, 64)),
            );
        }
        // The stored image is rotated to the left.
        let boxes = (0..60).map(|i| {
            let [x, y, w, h] = all_over(i);
            annotation(i + 1, 1 + i % 3, 3, [y, 64.0 - x - w, h, w])
        });
        set.train["annotations"] = boxes.collect();
    });
    checked.has_errors(&[("boxes-are-transposed", 1)]);
    let expected = "(3 images with an EXIF rotation by 90 degrees, which is applied here)";
    let detail = checked.places("boxes-are-transposed")[0]["detail"].clone();
    assert!(detail.as_str().unwrap().ends_with(expected), "{detail}");
    let (root, out) = (text(set.dir.path()), text(&set.path("out")));
    fails_with(
        &["train", "--dataset", &root, "--output", &out],
        &[expected, "rotate the boxes as the EXIF orientation"],
    );
    no_copy(&set, "the meaning of the numbers");
}

#[test]
fn boxes_of_stored_pixels_are_named_with_the_exif_rotation_in_csv_and_voc_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = String::from("filename,class,xmin,ymin,xmax,ymax\n");
    let mut voc = [const { String::new() }; 3];
    for i in 0..60 {
        let [x, y, w, h] = all_over(i);
        let at = i as usize % 3;
        let [x1, y1, x2, y2] = [y, 64.0 - x - w, y + h, 64.0 - x];
        table += &format!("{at}.jpg,cat,{x1},{y1},{x2},{y2}\n");
        voc[at] += &format!(
            "<object><name>cat</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        );
    }
    for (at, objects) in voc.iter().enumerate() {
        let jpeg = rotated_jpeg(&image_of(at as u32, 48, 64));
        for format in ["csv", "voc"] {
            std::fs::create_dir_all(dir.path().join(format)).unwrap();
            std::fs::write(dir.path().join(format).join(format!("{at}.jpg")), &jpeg).unwrap();
        }
        let xml = format!("<annotation><filename>{at}.jpg</filename>{objects}</annotation>");
        std::fs::write(dir.path().join(format!("voc/{at}.xml")), xml).unwrap();
    }
    std::fs::write(dir.path().join("csv/train.csv"), table).unwrap();
    let expected = "they fit as [x1, y1, x2, y2] of the images rotated by 90 degrees, too (3 images with an EXIF \
                    rotation by 90 degrees, which is applied here)";
    for format in ["csv", "voc"] {
        let root = text(&dir.path().join(format));
        for options in [&[][..], &["--skip-images"]] {
            let command = [&["data", "check", &root, "--json"], options].concat();
            let checked = Checked::of(&sedet(&command));
            checked.has_errors(&[("boxes-are-transposed", 1)]);
            let detail = checked.places("boxes-are-transposed")[0]["detail"].clone();
            assert!(detail.as_str().unwrap().ends_with(expected), "{detail}");
        }
        let out = text(&dir.path().join("out"));
        fails_with(
            &["train", "--dataset", &root, "--output", &out],
            &[expected, "rotate the boxes as the EXIF orientation"],
        );
    }
}

/// Returns a box of an image of 64x48 in its frame, as those of a rotated image are where the rotation is ignored.
fn stored_box(i: u64) -> [f64; 4] {
    let [x, y, w, h] = all_over(i);
    [y, 64.0 - x - w, h, w]
}

#[test]
fn boxes_of_stored_pixels_on_some_images_are_named_and_not_clipped() {
    let (set, checked) = DataSet::with(|set| {
        let (mut images, mut boxes) = (Vec::new(), Vec::new());
        for id in 1..=20 {
            let jpeg = match id {
                1..=5 => rotated_jpeg(&image_of(id, 48, 64)),
                _ => encoded(&image_of(id, 64, 48), ImageFormat::Jpeg),
            };
            set.write(&format!("train/{id}.jpg"), jpeg);
            images.push(
                json!({"id": id, "file_name": format!("{id}.jpg"), "width": 64, "height": 48}),
            );
            for i in 0..6 {
                let at = u64::from(id) * 6 + i;
                let bbox = if id <= 5 {
                    stored_box(at)
                } else {
                    all_over(at)
                };
                boxes.push(annotation(at, u64::from(id), 3, bbox));
            }
        }
        set.train["images"] = Value::Array(images);
        set.train["annotations"] = Value::Array(boxes);
    });
    checked.has_errors(&[("boxes-ignore-exif", 1)]);
    let expected = "boxes of 5 images with an EXIF rotation by 90 degrees, which is applied here, fit the images as they are \
                    stored";
    assert_eq!(checked.places("boxes-ignore-exif")[0]["detail"], expected);
    no_copy(&set, "many boxes do not fit their images");
    let (root, out) = (text(set.dir.path()), text(&set.path("out")));
    fails_with(
        &["train", "--dataset", &root, "--output", &out],
        &[expected, "hint: rotate these boxes"],
    );
}

#[test]
fn images_whose_size_a_rotation_leaves_are_rotated_like_all_others() {
    let turned = |jpeg: &[u8]| {
        // Orientation 3: by 180 degrees.
        let at = jpeg
            .windows(4)
            .position(|bytes| bytes == [6, 0, 0, 0])
            .unwrap();
        let mut jpeg = jpeg.to_vec();
        jpeg[at] = 3;
        jpeg
    };
    let (set, checked) = DataSet::with(|set| {
        set.write("train/1.jpg", rotated_jpeg(&image_of(1, 64, 48)));
        set.write("train/2.jpg", turned(&rotated_jpeg(&image_of(2, 64, 48))));
        set.train["annotations"][0]["bbox"] = json!([40, 10, 20, 30]);
        set.train["annotations"][0]["area"] = json!(600);
    });
    checked.has_errors(&[("size-ignores-exif", 2)]);
    let fixed = fix(&set, 0);
    let of_second = |document: &Value| {
        let objects = document["annotations"].as_array().unwrap().iter();
        let mut objects = objects.filter(|object| object["image_id"] == 2);
        let bbox = objects.next().unwrap()["bbox"].clone();
        serde_json::from_value::<[f64; 4]>(bbox).unwrap()
    };
    let [x, y, w, h] = of_second(&set.train);
    assert_eq!(of_second(&fixed), [64.0 - x - w, 48.0 - y - h, w, h]);
}

#[test]
fn a_second_dataset_below_the_first_is_named_as_not_used() {
    let set = DataSet::new();
    set.save();
    let below = |name: &str| std::fs::create_dir_all(set.path(name)).unwrap();
    below("v2/images");
    set.write("v2/train.json", set.val.to_string());
    below("old/yolo/images");
    below("old/yolo/labels");
    set.write("old/yolo/classes.txt", "cat\n");
    set.write(
        "old/yolo/images/9.jpg",
        encoded(&image_of(9, 64, 48), ImageFormat::Jpeg),
    );
    set.write("old/yolo/labels/9.txt", "0 0.5 0.5 0.2 0.2\n");
    let checked = set.check(&[]);
    checked.has_warnings(&[("annotations-not-used", 2)]);
    let places = checked.places("annotations-not-used");
    let details: Vec<&str> = places
        .iter()
        .filter_map(|place| place["detail"].as_str())
        .collect();
    assert_eq!(details, ["v2 (COCO)", "old/yolo (YOLO)"]);
}

#[test]
fn labeled_images_that_a_description_does_not_name_are_named_as_not_used() {
    let set = DataSet::new();
    let root = set.path("yolo");
    let put = |directory: &str, id: u32| {
        let [images, labels] = ["images", "labels"].map(|kind| root.join(kind).join(directory));
        for path in [&images, &labels] {
            std::fs::create_dir_all(path).unwrap();
        }
        let jpeg = encoded(&image_of(id, 64, 48), ImageFormat::Jpeg);
        std::fs::write(images.join(format!("{id}.jpg")), jpeg).unwrap();
        std::fs::write(labels.join(format!("{id}.txt")), "0 0.5 0.5 0.4 0.4\n").unwrap();
    };
    for (directory, id) in [
        ("train", 1),
        ("train", 2),
        ("train", 3),
        ("val", 4),
        ("more", 5),
    ] {
        put(directory, id);
    }
    std::fs::write(
        root.join("data.yaml"),
        "train: images/train\nnames: [cat]\n",
    )
    .unwrap();
    let checked = Checked::of(&sedet(&["data", "check", &text(&root), "--json"]));
    let places = checked.places("annotations-not-used");
    let details: Vec<&str> = places
        .iter()
        .filter_map(|place| place["detail"].as_str())
        .collect();
    assert_eq!(details, ["images/more (YOLO)", "images/val (YOLO)"]);
    // Copies of images have no labels of their own, and a link leads to what is known.
    std::fs::create_dir(root.join("thumbnails")).unwrap();
    std::fs::copy(
        root.join("images/train/1.jpg"),
        root.join("thumbnails/1.jpg"),
    )
    .unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("..", root.join("images/loop")).unwrap();
    let checked = Checked::of(&sedet(&["data", "check", &text(&root), "--json"]));
    assert_eq!(checked.places("annotations-not-used").len(), 2);
    // Texts that list no class of the dataset contradict nothing.
    std::fs::write(
        root.join("images/train/classes.txt"),
        "These photos are from 2020.\nSee README\n",
    )
    .unwrap();
    let checked = Checked::of(&sedet(&["data", "check", &text(&root), "--json"]));
    let details = checked.places("annotations-not-used").len();
    assert_eq!(details, 3);
}

#[test]
fn labeled_images_that_no_list_names_and_a_test_split_without_labels_are_said_and_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: String, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    for id in 0..8 {
        let jpeg = encoded(&image_of(id, 64, 48), ImageFormat::Jpeg);
        put(format!("images/all/{id}.jpg"), &jpeg);
        put(format!("labels/all/{id}.txt"), b"0 0.5 0.5 0.4 0.4\n");
        if id > 5 {
            let jpeg = encoded(&image_of(20 + id, 64, 48), ImageFormat::Jpeg);
            put(format!("images/test/{id}.jpg"), &jpeg);
        }
    }
    let list = |ids: std::ops::Range<u32>| -> String {
        let lines = ids.map(|id| format!("./images/all/{id}.jpg\n"));
        lines.collect()
    };
    put("train.txt".into(), list(0..4).as_bytes());
    put("val.txt".into(), list(4..6).as_bytes());
    let yaml = "train: train.txt\nval: val.txt\ntest: images/test\nnames: [cat]\n";
    put("data.yaml".into(), yaml.as_bytes());
    let root = text(dir.path());
    let checked = Checked::of(&sedet(&["data", "check", &root, "--json"]));
    assert_eq!(checked.kinds("error"), BTreeMap::new());
    assert_eq!(checked.places("test-without-labels").len(), 1);
    let unlisted = "2 labeled images that no list names, such as images/all/6.jpg";
    let details = checked.places("annotations-not-used");
    assert_eq!(details[0]["detail"], unlisted);
    let output = sedet(&["data", "stats", &root]);
    let stderr = String::from_utf8_lossy(&output.stderr).replace("\n  ", " ");
    assert!(stderr.contains(unlisted), "{stderr}");
    fails_with(
        &[
            "data",
            "convert",
            &root,
            "--to",
            "coco",
            "--output",
            &format!("{root}/../out"),
        ],
        &[
            "not one of 2 images of the test split has a label file",
            "hint: name no `test`",
        ],
    );
}

#[test]
fn other_images_under_the_same_names_are_noted_with_their_directory() {
    let (_, checked) = DataSet::with(|set| {
        std::fs::create_dir(set.path("images")).unwrap();
        set.write(
            "images/1.jpg",
            encoded(&image_of(77, 64, 48), ImageFormat::Jpeg),
        );
    });
    let detail = checked.places("found-elsewhere")[0]["detail"].clone();
    let detail = detail.as_str().unwrap();
    assert!(
        detail.ends_with("images has others under the same names"),
        "{detail}"
    );
}

#[test]
fn headers_give_the_verdict_of_decoded_images_about_exif() {
    let (set, checked) = DataSet::with(|set| {
        let mut boxes = Vec::new();
        for id in 1..=3 {
            set.write(
                &format!("train/{id}.jpg"),
                rotated_jpeg(&image_of(id, 48, 64)),
            );
            for i in 0..6 {
                let at = u64::from(id) * 6 + i;
                boxes.push(annotation(at, u64::from(id), 3, stored_box(at)));
            }
        }
        set.train["annotations"] = Value::Array(boxes);
    });
    let with_headers = set.check(&["--skip-images"]);
    assert_eq!(checked.kinds("error"), with_headers.kinds("error"));
    let out = text(&set.path("fixed.json"));
    let root = text(set.dir.path());
    let command = [
        "data",
        "check",
        &root,
        "--split",
        "train",
        "--skip-images",
        "--fix",
        &out,
    ];
    assert_eq!(sedet(&command).status.code(), Some(1));
    assert!(!Path::new(&out).exists());
}

#[test]
fn validation_images_of_one_dataset_in_train_of_another_are_a_leak_of_the_list() {
    let (x, _) = DataSet::with(|_| {});
    let (y, _) = DataSet::with(|set| {
        for (from, to) in [("val/4.jpg", "train/1.jpg"), ("val/5.jpg", "train/2.jpg")] {
            std::fs::copy(x.path(from), set.path(to)).unwrap();
        }
    });
    let list = format!("{},{}", text(x.dir.path()), text(y.dir.path()));
    let output = sedet(&["data", "check", &list]);
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("[leak-same-file]"), "{shown}");
}

#[test]
fn what_is_not_used_beside_the_annotations_is_a_warning_of_check_and_named_by_train() {
    let set = DataSet::new();
    set.save();
    set.write("train_new.json", set.val.to_string());
    let checked = set.check(&[]);
    checked.has_warnings(&[("annotations-not-used", 1)]);
    assert_eq!(
        checked.places("annotations-not-used")[0]["detail"],
        "train_new.json"
    );
    // Only val: nothing to train on.
    let val = set.path("only");
    std::fs::create_dir(&val).unwrap();
    std::fs::rename(set.path("val"), val.join("val")).unwrap();
    std::fs::rename(set.path("val.json"), val.join("val.json")).unwrap();
    let val = text(&val);
    let shown = sedet(&["data", "check", &val]);
    let shown = String::from_utf8_lossy(&shown.stdout).replace('\n', " ");
    assert!(
        shown.contains(": ready for evaluation; training needs train annotations"),
        "{shown}"
    );
    fails_with(
        &[
            "train",
            "--dataset",
            &val,
            "--output",
            &text(&set.path("out")),
        ],
        &[
            "no train annotations; the COCO directory contains val",
            "hint: call what you train on train",
        ],
    );
}

#[test]
fn a_file_that_breaks_off_has_no_errors_that_follow_from_it_and_gets_no_copy() {
    let (set, _) = DataSet::with(|_| {});
    let text = set.train.to_string();
    let cut = text.find("\"annotations\"").map_or(0, |at| at + 60);
    set.write("train.json", &text[..cut.min(text.len() - 40)]);
    let checked = set.check(&["--split", "train"]);
    checked.has_errors(&[("file-broken", 1)]);
    no_copy(&set, "the file cannot be read to its end");
    // Nor does a copy without any box.
    let (set, checked) = DataSet::with(|set| {
        for annotation in set.train["annotations"].as_array_mut().unwrap() {
            annotation.as_object_mut().unwrap().remove("bbox");
        }
    });
    assert!(checked.kinds("error").contains_key("entry-malformed"));
    no_copy(&set, "none of its boxes can be used");
}

#[test]
fn a_copy_without_any_image_is_not_written() {
    let (set, checked) = DataSet::with(|set| {
        for id in 1..=3 {
            let larger = encoded(&image_of(id, 128, 96), ImageFormat::Jpeg);
            set.write(&format!("train/{id}.jpg"), larger);
        }
    });
    assert_eq!(checked.kinds("error")["size-differs"], 3);
    no_copy(&set, "none of its images can be used");
}

#[test]
fn rotated_boxes_of_cvat_are_the_upright_ones_around_them_wherever_they_are_read() {
    let note = "6 boxes with a `rotation`, as CVAT writes it: the upright boxes around the rotated ones are used";
    let (set, checked) = DataSet::with(|set| {
        for object in set.train["annotations"].as_array_mut().unwrap() {
            object["bbox"] = json!([
                20.0,
                20.0,
                20.0,
                4.0 + object["id"].as_f64().unwrap() / 10.0
            ]);
            object["attributes"] = json!({"occluded": false, "rotation": 90.0});
        }
        // One of them is changed by the fix.
        set.train["annotations"][0]["id"] = json!("10");
    });
    checked.has_errors(&[("entry-malformed", 1)]);
    assert_eq!(checked.places("found-elsewhere")[0]["detail"], note);
    let fixed = fix(&set, 0);
    assert_eq!(
        fixed["annotations"][0]["bbox"],
        json!([27.5, 12.5, 5.0, 20.0])
    );
    assert_eq!(
        fixed["annotations"][0]["attributes"],
        json!({"occluded": false})
    );
    assert_eq!(fixed["annotations"][1], set.train["annotations"][1]);
    set.write("train.json", fixed.to_string());
    let elsewhere = tempfile::tempdir().unwrap();
    let (root, out) = (text(set.dir.path()), elsewhere.path().join("voc"));
    let output = sedet(&[
        "data",
        "convert",
        &root,
        "--to",
        "voc",
        "--output",
        &text(&out),
    ]);
    let stderr = String::from_utf8_lossy(&output.stderr).replace("\n  ", " ");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("5 boxes with a `rotation`"), "{stderr}");
    let written = std::fs::read_to_string(out.join("Annotations/1.xml")).unwrap();
    for corner in ["<xmin>27.5<", "<ymin>12.5<", "<xmax>32.5<", "<ymax>32.5<"] {
        assert!(written.contains(corner), "{written}");
    }
}

#[test]
fn suspected_centers_are_not_clipped_by_the_fix() {
    let (set, checked) = DataSet::with(|set| {
        let small = (0..400).map(|i| {
            let [x, y] = [(i * 7 % 43) as f64, (i * 11 % 31) as f64];
            let bbox = [3.0 + x * 1.25 + i as f64 / 1e3, 3.0 + y * 1.25, 4.0, 4.0];
            annotation(i + 1, 1 + i % 3, 3, bbox)
        });
        let at_edge = (0..12).map(|i| annotation(401 + i, 1, 3, [62.0, 2.5 + i as f64, 4.0, 4.0]));
        set.train["annotations"] = small.chain(at_edge).collect::<Vec<_>>().into();
    });
    checked.has_errors(&[("boxes-may-be-no-sizes", 1)]);
    let fixed = fix(&set, 1);
    assert_eq!(
        fixed["annotations"][400]["bbox"],
        json!([62.0, 2.5, 4.0, 4.0])
    );
    let stats = sedet(&["data", "stats", &text(set.dir.path())]);
    let stderr = String::from_utf8_lossy(&stats.stderr).into_owned();
    let note = "12 of 412 boxes exceed their images far, and 412 fit as [center x";
    assert!(stderr.replace("\n  ", " ").contains(note), "{stderr}");
}

#[test]
fn sizes_in_the_columns_of_corners_get_one_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = String::from("filename,width,height,class,xmin,ymin,xmax,ymax\n");
    for i in 0..30 {
        let name = format!("{}.png", i % 3);
        std::fs::write(
            dir.path().join(&name),
            encoded(&image_of(i % 3, 64, 48), ImageFormat::Png),
        )
        .unwrap();
        let (x, y) = (10 + i, 5 + i % 20);
        rows += &format!("{name},64,48,cat,{x},{y},{},{}\n", 8 + i % 5, 9 + i % 4);
    }
    std::fs::write(dir.path().join("train_labels.csv"), rows).unwrap();
    let directory = text(dir.path());
    let checked = Checked::of(&sedet(&["data", "check", &directory, "--json"]));
    checked.has_errors(&[("boxes-are-no-corners", 1)]);
    let verdict = "30 of 30 boxes fit their images as [x, y, width, height] in pixels, not as [x1, y1, x2, y2] in pixels";
    let detail = checked.places("boxes-are-no-corners")[0]["detail"].clone();
    assert!(detail.as_str().unwrap().starts_with(verdict), "{detail}");
    let out = text(&dir.path().join("out"));
    let add = "add `xmin` and `ymin` to `xmax` and `ymax`";
    fails_with(
        &["train", "--dataset", &directory, "--output", &out],
        &[verdict, add],
    );
}

#[test]
fn the_command_after_a_fix_keeps_the_val_split() {
    let (set, checked) = DataSet::with(|set| {
        // One of three images is lost, so that the others would be divided without the val split.
        set.train["annotations"][0]["bbox"] = json!([4, 5, -20, 30]);
    });
    checked.has_errors(&[("box-negative", 1)]);
    let elsewhere = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_sedet"))
            .args(arguments)
            .current_dir(elsewhere.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(0), "{arguments:?}: {stderr}");
        stderr
    };
    let root = text(set.dir.path());
    let stderr = run(&[
        "data",
        "check",
        &root,
        "--split",
        "train",
        "--fix",
        "fixed.json",
    ]);
    let next = stderr
        .lines()
        .find_map(|line| line.strip_prefix("next: sedet "));
    let command: Vec<&str> = next
        .unwrap_or_else(|| panic!("{stderr}"))
        .split(' ')
        .collect();
    let list = format!("fixed.json,{root}/val.json");
    assert_eq!(command, ["train", "--dataset", &list]);
    let limits = [
        "--epochs",
        "1",
        "--set",
        "input.min_size=48",
        "--set",
        "input.max_size=64",
    ];
    let stderr = run(&[&command[..], &limits, &["--output", "run"]].concat());
    assert!(stderr.contains("2 validation images"), "{stderr}");
    assert!(!stderr.contains("held out"), "{stderr}");
    // A name of another split would be taken for that.
    is_wrong_usage(
        &[
            "data",
            "check",
            &text(set.dir.path()),
            "--split",
            "train",
            "--fix",
            &text(&set.path("fixed_val.json")),
        ],
        &[
            "training takes a file of this name for val",
            "such as fixed_train.json",
        ],
    );
}

#[test]
fn a_file_that_does_not_exist_is_no_directory() {
    for arguments in [&["nope.json", "--image-dir", "photos"][..], &["nope.json"]] {
        fails_with(
            &[&["data", "check"], arguments].concat(),
            &["nope.json: no such file or directory"],
        );
    }
}

/// Runs `--fix` on train and checks the copy again, which also loads it. Returns the copy.
fn fix(set: &DataSet, code: i32) -> Value {
    let out = set.path("train/fixed.json");
    let checked = set.check(&["--split", "train", "--fix", &text(&out)]);
    assert_eq!(checked.code, code, "{:#}", checked.report);
    let written = std::fs::read_to_string(&out).unwrap();
    let fixed: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(fixed["info"]["description"], "made in a test");
    let again = sedet(&[
        "data",
        "check",
        &text(&out),
        "--image-dir",
        &text(&set.path("train")),
        "--json",
    ]);
    let again = Checked::of(&again);
    assert_eq!(again.code, code, "{:#}", again.report);
    fixed
}

#[test]
fn the_fix_never_overwrites_a_file_and_keeps_valid_entries_byte_by_byte() {
    let set = DataSet::new();
    set.save();
    let train = std::fs::read_to_string(set.path("train.json")).unwrap();
    let odd = train.replace(
        "\"bbox\":[30.5,10.0,12.0,8.25]",
        "\"bbox\" : [ 30.50, 1e1, 12, 8.25 ]",
    );
    assert_ne!(odd, train);
    let odd = odd.replace("\"id\":10,", "\"id\":11,");
    set.write("train.json", &odd);
    let (directory, train) = (text(set.dir.path()), text(&set.path("train.json")));
    for out in [&train, &text(&set.path("val.json"))] {
        let before = std::fs::read(out).unwrap();
        let done = sedet(&[
            "data", "check", &directory, "--split", "train", "--fix", out,
        ]);
        assert_eq!(done.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&done.stderr).contains("already exists"));
        assert_eq!(std::fs::read(out).unwrap(), before);
    }
    let several = sedet(&["data", "check", &directory, "--fix", "out.json"]);
    assert_eq!(several.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&several.stderr).contains("add --split train"));
    let out = set.path("out.json");
    let shown = sedet(&[
        "data",
        "check",
        &directory,
        "--split",
        "train",
        "--fix",
        &text(&out),
    ]);
    assert_eq!(
        shown.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("3 images (0 dropped, 0 changed), 6 boxes (0 dropped, 1 changed)"),
        "{shown}"
    );
    assert!(shown.contains("checked again: 0 errors"), "{shown}");
    let written = std::fs::read_to_string(&out).unwrap();
    assert_eq!(
        written
            .matches("\"bbox\" : [ 30.50, 1e1, 12, 8.25 ]")
            .count(),
        2,
        "{written}"
    );
}

#[test]
fn wrong_usage_and_unsupported_datasets_are_errors() {
    assert_eq!(sedet(&["data", "check"]).status.code(), Some(2));
    assert_eq!(
        sedet(&["data", "check", "x", "--split", "training"])
            .status
            .code(),
        Some(2)
    );
    fails_with(&["data", "check", "no/such"], &["no/such"]);
    fails_with(&["data", "check", "shapes"], &["sedet data shapes"]);
    is_wrong_usage(&["data", "check", "cifar10"], &["no boxes"]);
    let set = DataSet::new();
    set.save();
    let directory = text(set.dir.path());
    fails_with(
        &["data", "check", &directory, "--split", "test"],
        &["no test annotations"],
    );
    is_wrong_usage(
        &["data", "check", &directory, "--image-dir", &directory],
        &["--image-dir"],
    );
}

#[test]
fn a_malicious_file_is_rejected_in_one_line() {
    let (_, checked) = DataSet::with(|set| {
        set.save();
        let deep = format!(
            "{{\"images\": [{{\"id\": 1, \"x\": {}",
            "[".repeat(1_000_000)
        );
        set.write("train.json", deep);
    });
    let places = checked.places("file-broken");
    let detail = places[0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("nested more than 64 levels deep"),
        "{detail}"
    );
}

#[test]
fn a_yolo_directory_is_checked_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    put(
        "data.yaml",
        b"train: images/train\nval: images/val\nnames: [cat, dog]\n",
    );
    for (number, name) in ["train/1", "train/2", "val/3"].into_iter().enumerate() {
        let jpeg = encoded(&image_of(number as u32, 64, 48), ImageFormat::Jpeg);
        put(&format!("images/{name}.jpg"), &jpeg);
    }
    put(
        "labels/train/1.txt",
        b"0 0.5 0.5 0.2 0.2\n5 0.5 0.5 0.2 0.2\n1 320 200 10 10\n0 0.5 0.5 0.2 0.2\n",
    );
    put("labels/train/2.txt", b"1 0.5 0.5 0.25 0.2\n");
    put("labels/val/3.txt", b"0 0.5 0.5 0.3 0.3\n");
    let check = || Checked::of(&sedet(&["data", "check", &text(dir.path()), "--json"]));
    let checked = check();
    checked.has_errors(&[("entry-malformed", 2), ("box-twice", 1)]);
    let place = &checked.places("entry-malformed")[0];
    assert_eq!(
        place["detail"],
        "line 2: unknown class 5; data.yaml names the classes 0 to 1"
    );
    assert!(
        place["file"]
            .as_str()
            .unwrap()
            .ends_with("labels/train/1.txt")
    );
    // What cannot be corrected is not offered to be.
    let shown = sedet(&["data", "check", &text(dir.path())]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(!shown.contains("--fix"), "{shown}");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("there is no automatic fix for YOLO annotations"),
        "{shown}"
    );
    put(
        "images/train/2.png",
        &encoded(&image_of(9, 64, 48), ImageFormat::Png),
    );
    check().has_errors(&[
        ("contradiction", 1),
        ("entry-malformed", 2),
        ("box-twice", 1),
    ]);
    std::fs::remove_file(dir.path().join("images/train/2.png")).unwrap();
    put("labels/train/1.txt", b"0 0.5 0.5 0.2 0.2\n");
    let jpeg = std::fs::read(dir.path().join("images/val/3.jpg")).unwrap();
    put("images/val/3.jpg", &jpeg[..jpeg.len() / 2]);
    check().has_errors(&[("image-truncated", 1)]);
    let fix = sedet(&["data", "check", &text(dir.path()), "--fix", "out.json"]);
    assert_eq!(fix.status.code(), Some(2));
}

#[test]
fn a_voc_directory_is_checked_file_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let annotation = |width: u32, corners: [u32; 4]| {
        let [xmin, ymin, xmax, ymax] = corners;
        format!(
            "<annotation><filename>x</filename><size><width>{width}</width><height>48</height></size>
            <object><name>cat</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>
            <xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object></annotation>"
        )
    };
    for (number, name) in ["1", "2", "3", "4"].into_iter().enumerate() {
        let jpeg = encoded(&image_of(number as u32, 64, 48), ImageFormat::Jpeg);
        put(&format!("JPEGImages/{name}.jpg"), &jpeg);
        let xml = annotation(64, [2, 2, 20, 20]);
        put(&format!("Annotations/{name}.xml"), xml.as_bytes());
    }
    put("ImageSets/Main/train.txt", b"1\n2\n3\n");
    put("ImageSets/Main/val.txt", b"4\n");
    let check = |extra: &[&str]| {
        let directory = text(dir.path());
        let arguments = [&["data", "check", &directory, "--json"][..], extra].concat();
        Checked::of(&sedet(&arguments))
    };
    let valid = check(&[]);
    assert_eq!(valid.kinds("error"), BTreeMap::new());
    assert_eq!(valid.code, 0);
    put(
        "Annotations/1.xml",
        annotation(64, [2, 2, 2, 20]).as_bytes(),
    );
    put(
        "Annotations/2.xml",
        annotation(32, [2, 2, 20, 20]).as_bytes(),
    );
    put(
        "Annotations/3.xml",
        b"<annotation><object><name>cat</name></object></annotation>",
    );
    std::fs::remove_file(dir.path().join("JPEGImages/4.jpg")).unwrap();
    let checked = check(&[]);
    checked.has_errors(&[
        ("entry-malformed", 1),
        ("image-missing", 1),
        ("size-differs", 1),
        ("box-zero", 1),
    ]);
    let place = &checked.places("entry-malformed")[0];
    assert!(
        place["file"]
            .as_str()
            .unwrap()
            .ends_with("Annotations/3.xml")
    );
    let annotations_only = check(&["--skip-images"]);
    annotations_only.has_errors(&[("entry-malformed", 1), ("box-zero", 1)]);
}

#[test]
fn what_follows_from_an_error_or_was_just_run_is_not_reported() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let xml = |stated: &str, class: &str| {
        format!(
            "<annotation><filename>{stated}</filename><object><name>{class}</name><bndbox><xmin>2</xmin>
            <ymin>2</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>"
        )
    };
    for (number, name) in [
        "swapped/a",
        "swapped/b",
        "latin/a",
        "latin/b",
        "names/images/a",
    ]
    .into_iter()
    .enumerate()
    {
        let jpeg = encoded(&image_of(number as u32, 64, 48), ImageFormat::Jpeg);
        put(&format!("{name}.jpg"), &jpeg);
    }
    let check = |name: &str| {
        let directory = text(&dir.path().join(name));
        let done = sedet(&["data", "check", &directory]);
        let shown = [done.stdout, done.stderr].concat();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert_eq!(done.status.code(), Some(1), "{shown}");
        shown.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // Of two annotations with each other's name, neither is a harmless copy.
    put("swapped/a.xml", xml("b.jpg", "cat").as_bytes());
    put("swapped/b.xml", xml("a.jpg", "cat").as_bytes());
    let shown = check("swapped");
    assert!(shown.contains("2 files contradict others"), "{shown}");
    assert!(!shown.contains("no action is required"), "{shown}");
    // The boxes of a file that cannot be read are not known.
    for name in ["a", "b"] {
        let latin1 = [xml(name, "M").as_bytes(), b"<x>\xf6</x>"].concat();
        put(&format!("latin/{name}.xml"), &latin1);
    }
    let shown = check("latin");
    assert!(
        shown.contains("2 annotation files are in another encoding"),
        "{shown}"
    );
    for follows in ["no usable box", "image-empty", "images have no box"] {
        assert!(!shown.contains(follows), "{follows}: {shown}");
    }
    // The command that was just run is not the hint.
    put("names/classes.txt", b"cat\ndog\n");
    put("names/labels/classes.txt", b"cat\nowl\n");
    put("names/labels/a.txt", b"0 0.5 0.5 0.25 0.25\n");
    let shown = check("names");
    assert!(
        shown.ends_with("hint: correct, rename or remove the wrong file"),
        "{shown}"
    );
    let directory = text(&dir.path().join("names"));
    fails_with(
        &["train", "--dataset", &directory],
        &[
            "class 1 is `dog`",
            "`sedet data check DIR` lists all such files",
        ],
    );
}

#[test]
fn a_list_of_datasets_with_an_empty_name_is_wrong_usage() {
    is_wrong_usage(
        &["train", "--dataset", "photos,"],
        &[
            "'photos,': a list of datasets with an empty name",
            "hint: write photos",
        ],
    );
}

#[test]
#[ignore = "needs SEDET_REAL_DATA"]
fn real_data_has_its_known_errors() {
    let check = |name: &str| {
        Checked::of(&sedet(&[
            "data",
            "check",
            &text(&real_data(name)),
            "--json",
        ]))
    };
    let coco = check("coco_real");
    assert_eq!(coco.kinds("error"), BTreeMap::new());
    assert_eq!(coco.code, 0);
    assert_eq!(coco.kinds("warning")["crowd"], 17);
    assert_eq!(coco.kinds("warning")["image-empty"], 3);
    let blood = check("bccd");
    assert_eq!(blood.report["splits"][0]["boxes"], 2804);
    // One view at two focus depths: BCCD's split has it in train and in val.
    assert_eq!(blood.kinds("error"), BTreeMap::new());
    let leak = &blood.places("leak-near-duplicate");
    assert_eq!(leak.len(), 1);
    assert_eq!(leak[0]["file"], "BloodImage_00037.jpg");
    assert!(
        leak[0]["detail"]
            .as_str()
            .unwrap()
            .contains("train BloodImage_00038.jpg")
    );
}
