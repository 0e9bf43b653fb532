//! The COCO metrics equal pycocotools': on a small crooked set made by `tests/oracle/coco_eval.py`,
//! and on the published table of the COCO authors' own example where that data is at hand.

use std::path::{Path, PathBuf};

use crate::common::real_data;
use proptest::prelude::*;
use sedet::eval::{CocoEvaluation, GroundTruth, ResultRow, evaluate, read_results};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn crooked_set() -> (GroundTruth, Vec<ResultRow>) {
    (
        GroundTruth::from_file(&fixture("coco_eval_gt.json")).unwrap(),
        read_results(&fixture("coco_eval_dt.json")).unwrap(),
    )
}

fn assert_close(got: f64, wanted: f64, what: &str) {
    assert!(
        (got - wanted).abs() <= 1e-9,
        "{what}: {got} instead of {wanted}"
    );
}

#[test]
fn the_metrics_equal_pycocotools_on_the_crooked_set() {
    let text = std::fs::read_to_string(fixture("coco_eval_expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let (ground_truth, results) = crooked_set();
    let evaluation = evaluate(&ground_truth, &results).unwrap();

    for (name, value) in evaluation.metrics.named() {
        assert_close(value, expected["metrics"][name].as_f64().unwrap(), name);
    }
    assert_eq!(evaluation.per_class.len(), 7);
    for class in &evaluation.per_class {
        let wanted = &expected["per_class"][class.category_id.to_string()];
        for (key, value) in [
            ("AP", class.ap),
            ("AP50", class.ap50),
            ("AR100", class.ar100),
        ] {
            let what = format!("{key} of {}", class.name);
            assert_close(value, wanted[key].as_f64().unwrap(), &what);
        }
        let precision = wanted["precision50"].as_array().unwrap();
        match &class.curves {
            None => assert!(precision.iter().all(|value| value == -1.0)),
            Some(curves) => {
                assert_eq!(precision.len(), curves.at_iou_50.len());
                for (got, wanted) in curves.at_iou_50.iter().zip(precision) {
                    assert_close(*got, wanted.as_f64().unwrap(), "precision");
                }
            }
        }
    }
}

#[test]
#[ignore = "needs SEDET_REAL_DATA"]
fn the_metrics_equal_the_published_table_of_the_coco_example_on_real_data() {
    let directory = real_data("coco_eval_oracle");
    let ground_truth =
        GroundTruth::from_file(&directory.join("instances_val2014_100.json")).unwrap();
    let results =
        read_results(&directory.join("instances_val2014_fakebbox100_results.json")).unwrap();
    let evaluation = evaluate(&ground_truth, &results).unwrap();
    let published = [
        0.5045806987249628,
        0.6969727247299577,
        0.5729816669904824,
        0.5856257209410443,
        0.5193996948036719,
        0.5013978986347466,
        0.38681277964578054,
        0.5936795762842003,
        0.595352982877607,
        0.6398109626113442,
        0.5664205978994309,
        0.5642905982905982,
    ];
    for ((name, value), wanted) in evaluation.metrics.named().into_iter().zip(published) {
        assert_close(value, wanted, name);
    }
    assert_eq!(evaluation.images, 100);
}

#[test]
fn written_results_measure_the_same_as_those_in_memory() {
    let (ground_truth, results) = crooked_set();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("results.json");
    sedet::eval::write_results(&path, &results).unwrap();
    let read = read_results(&path).unwrap();
    assert_eq!(read, results);
    assert_eq!(
        evaluate(&ground_truth, &read).unwrap(),
        evaluate(&ground_truth, &results).unwrap()
    );
}

/// The crooked set with its ties broken, which leaves the order no say.
fn distinct_scores() -> (GroundTruth, Vec<ResultRow>, CocoEvaluation) {
    let (ground_truth, mut results) = crooked_set();
    for (position, row) in results.iter_mut().enumerate() {
        row.score += position as f64 * 1e-6;
    }
    let evaluation = evaluate(&ground_truth, &results).unwrap();
    (ground_truth, results, evaluation)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_order_of_rows_with_distinct_scores_does_not_matter(
        order in Just((0..645usize).collect::<Vec<_>>()).prop_shuffle()
    ) {
        let (ground_truth, results, evaluation) = distinct_scores();
        prop_assert_eq!(results.len(), order.len());
        let shuffled: Vec<_> = order.iter().map(|&at| results[at]).collect();
        prop_assert_eq!(evaluate(&ground_truth, &shuffled).unwrap(), evaluation);
    }
}
