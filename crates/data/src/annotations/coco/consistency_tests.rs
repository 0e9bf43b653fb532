//! Consistency of training, evaluation and the checker on the same document.
//!
//! A few thousand documents are mutated from a valid one. What the checker passes without errors,
//! strict reading and evaluation accept (so that what they refuse, the checker reports); what strict
//! reading accepts, evaluation accepts; and what the checker can correct, strict reading accepts
//! afterwards.

use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{read_coco, read_coco_from};
use crate::annotations::coco_directory::CocoFormat;
use crate::annotations::format::SplitFiles;
use crate::curation::check::{CheckOptions, Diagnostics, Kind, Severity, check_split};
use crate::eval::{GroundTruth, evaluate};

/// Placeholder of a word that is not valid JSON and so can't be a [`Value`], until the document is
/// written.
const NOT_JSON: [&str; 3] = ["@NaN@", "@Infinity@", "@-Infinity@"];

fn valid() -> Value {
    json!({
        "info": {"year": 2017, "images": [1]},
        "images": [
            {"id": 9, "file_name": "sub/nine.jpg", "width": 64, "height": 48, "license": 4},
            {"id": 3, "file_name": "three.png", "width": 30, "height": 20},
            {"id": 12, "file_name": "twelve.png", "width": 300, "height": 200}
        ],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 90, "bbox": [1.5, 2, 3, 4.25], "area": 3.25, "iscrowd": 1,
             "segmentation": {"counts": [1, 2, 3], "size": [3, 4]}},
            {"id": 2, "image_id": 3, "category_id": 1, "bbox": [0, 0, 10, 20], "area": 200,
             "segmentation": [[1, 2, 3, 4, 5, 6]]},
            {"id": 3, "image_id": 12, "category_id": 1, "bbox": [5, 6, 70.5, 80.25], "iscrowd": 0},
            {"id": 4, "image_id": 12, "category_id": 90, "bbox": [15, 16, 7, 8], "area": 55.5, "iscrowd": 0}
        ],
        "categories": [{"id": 90, "name": "toothbrush", "supercategory": "indoor"}, {"id": 1, "name": "person"}]
    })
}

fn any_value(rng: &mut ChaCha8Rng) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(3),
        json!(9),
        json!(90),
        json!(-1),
        json!(7.0),
        json!(0.5),
        json!(1e15),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("7"),
        json!("NaN"),
        json!("three.png"),
        json!("person"),
        json!([]),
        json!([1, 2, 3, 4]),
        json!([0, 0, 1e39, 5]),
        json!([1, 2, null, 4]),
        json!([-5, -5, 8, 8]),
        json!(["1", 2, 3, 4]),
        json!({"a": [1]}),
        json!(NOT_JSON[0]),
        json!(NOT_JSON[1]),
        json!(NOT_JSON[2]),
        json!([1, NOT_JSON[0], 3, 4]),
    ];
    values.choose(rng).cloned().unwrap_or_default()
}

const LISTS: [&str; 3] = ["images", "annotations", "categories"];

fn mutate(document: &mut Value, rng: &mut ChaCha8Rng) {
    let list = LISTS[rng.random_range(0..3)];
    let kind = rng.random_range(0..16);
    if kind == 0 {
        let Some(document) = document.as_object_mut() else {
            return;
        };
        if rng.random_bool(0.5) {
            document.remove(list);
        } else {
            document.insert(list.to_owned(), any_value(rng));
        }
        return;
    }
    let Some(entries) = document[list]
        .as_array_mut()
        .filter(|list| !list.is_empty())
    else {
        return;
    };
    let at = rng.random_range(0..entries.len());
    match kind {
        1 => _ = entries.remove(at),
        2 => entries.push(entries[at].clone()),
        3 => entries[at] = any_value(rng),
        4 => entries.clear(),
        _ => {
            let Some(fields) = entries[at].as_object_mut() else {
                return;
            };
            let names: Vec<String> = fields.keys().cloned().collect();
            let Some(name) = names.choose(rng) else {
                return;
            };
            match kind {
                5 => _ = fields.remove(name),
                6 => _ = fields.insert("unknown".into(), any_value(rng)),
                7 => {
                    if let Some(number) = fields.get_mut("bbox").and_then(|bbox| bbox.get_mut(2)) {
                        *number = any_value(rng);
                    }
                }
                _ => _ = fields.insert(name.clone(), any_value(rng)),
            }
        }
    }
}

/// Writes a document; occasionally escapes a key, repeats a key, or truncates the end.
fn written(document: &Value, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut json = document.to_string();
    for word in NOT_JSON {
        json = json.replace(&format!("\"{word}\""), word.trim_matches('@'));
    }
    match rng.random_range(0..20) {
        0 => json = json.replacen("\"images\"", "\"\\u0069mages\"", 1),
        1 => json = json.replacen("\"id\":", "\"id\":5,\"id\":", 1),
        2 => json = json.replacen("{", "{\"images\":[],", 1),
        3 => json.truncate(json.len() - 1),
        4 => json.push_str(" x"),
        5 => json.insert(0, '\u{feff}'),
        _ => {}
    }
    let mut bytes = json.into_bytes();
    if rng.random_bool(0.05) {
        let at = rng.random_range(0..bytes.len());
        bytes[at] = rng.random();
    }
    bytes
}

#[test]
fn training_evaluation_and_the_checker_agree_about_mutated_documents() {
    const DOCUMENTS: usize = 3000;
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("instances_train.json");
    // Without any of these outcomes the test would show nothing.
    let (mut passed, mut refused, mut only_lenient, mut corrected) = (0, 0, 0, 0);
    for number in 0..DOCUMENTS {
        let mut document = valid();
        for _ in 0..rng.random_range(0..4) {
            mutate(&mut document, &mut rng);
        }
        let bytes = written(&document, &mut rng);
        std::fs::write(&path, &bytes).unwrap();
        let shown = || String::from_utf8_lossy(&bytes).into_owned();

        let mut diagnostics = Diagnostics::default();
        let files = SplitFiles::of_file(&CocoFormat, &path, None);
        let options = CheckOptions { images: false };
        let checked = check_split("train", &files, options, &mut diagnostics, &|_| {}).unwrap();
        let is_reported = diagnostics.count(Severity::Error) > 0;
        let strict = read_coco_from(bytes.as_slice(), &path);
        let lenient = GroundTruth::from_file(&path);
        if let Err(error) = &strict {
            assert!(is_reported, "training: {error}\n{}", shown());
        }
        if let Err(error) = &lenient {
            assert!(is_reported, "evaluation: {error}\n{}", shown());
        }
        match (&strict, &lenient) {
            (Ok(store), Ok(truth)) => {
                // The engine takes most of the time.
                if number % 16 == 0 {
                    evaluate(truth, &[]).unwrap_or_else(|error| panic!("{error}\n{}", shown()));
                }
                let of_store = GroundTruth::of_store(store).unwrap();
                assert_eq!(of_store.annotations().len(), truth.annotations().len());
            }
            // Neither the list of annotations nor a single image is needed to read a file.
            (Ok(store), Err(error)) => assert!(
                store.annotation_count() == 0,
                "evaluation refuses what training accepts: {error}\n{}",
                shown()
            ),
            (Err(_), Ok(_)) => only_lenient += 1,
            (Err(_), Err(_)) => refused += 1,
        }
        passed += usize::from(!is_reported);

        let is_left_to_the_user = checked.sound_part().is_err()
            || checked.obstacle.is_some()
            || [
                Kind::ListMissing,
                Kind::BoxesAreCorners,
                Kind::BoxesAreFractions,
                Kind::BoxesAreUnclearFractions,
            ]
            .into_iter()
            .any(|kind| diagnostics.of(kind).is_some());
        if is_reported && checked.is_whole && !is_left_to_the_user {
            let fixed = directory.path().join("fixed.json");
            checked.write_fixed(&fixed).unwrap();
            let again = read_coco(&fixed);
            assert!(again.is_ok(), "{}\n{}", again.unwrap_err(), shown());
            std::fs::remove_file(fixed).unwrap();
            corrected += 1;
        }
    }
    for count in [passed, refused, only_lenient, corrected] {
        assert!(
            count > DOCUMENTS / 50,
            "{passed} passed, {refused} refused, {only_lenient} fit for evaluation only, {corrected} corrected"
        );
    }
}
