//! The boxes of an image match as in pycocotools, and wrong ones have the error types of TIDE's own
//! program: images made by `tests/oracle/matching.py`.

use std::path::Path;

use sedet::boxes::BoxXyxy;
use sedet::eval::matching::{FoundBox, TruthBox, Verdict, match_image};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    images: Vec<Image>,
    thresholds: Vec<f32>,
    /// By threshold and image.
    matches: Vec<Vec<Matches>>,
}

/// Boxes are `[x, y, width, height]`, then the class, then crowd (0 or 1) or score.
#[derive(Deserialize)]
struct Image {
    truth: Vec<[f32; 6]>,
    found: Vec<[f32; 6]>,
}

#[derive(Deserialize)]
struct Matches {
    /// The truth of each detection, or -1.
    found: Vec<isize>,
    /// The detection of each truth, or -1.
    truth: Vec<isize>,
    /// Empty for those that are not wrong; nothing where TIDE matches otherwise.
    errors: Option<Vec<String>>,
}

fn fixture() -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/matching.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

impl Image {
    fn truth(&self) -> Vec<TruthBox> {
        let truth = self.truth.iter();
        let truth = truth.map(|&[x, y, width, height, class, crowd]| TruthBox {
            box_in_image: BoxXyxy::from_xywh([x, y, width, height]),
            class: class as usize,
            is_crowd: crowd == 1.0,
        });
        truth.collect()
    }

    fn found(&self) -> Vec<FoundBox> {
        let found = self.found.iter();
        let found = found.map(|&[x, y, width, height, class, score]| FoundBox {
            box_in_image: BoxXyxy::from_xywh([x, y, width, height]),
            class: class as usize,
            score,
        });
        found.collect()
    }
}

/// What a test looks at in an image: threshold, image, what the references say.
fn each_image(mut check: impl FnMut(f32, &Image, &Matches, String)) {
    let fixture = fixture();
    for (&threshold, matches) in fixture.thresholds.iter().zip(&fixture.matches) {
        for (number, (image, expected)) in fixture.images.iter().zip(matches).enumerate() {
            let place = format!("image {number} at IoU {threshold}");
            check(threshold, image, expected, place);
        }
    }
}

#[test]
fn the_same_boxes_match_as_in_pycocotools() {
    let (mut correct, mut ignored) = (0, 0);
    each_image(|threshold, image, expected, place| {
        let truth = image.truth();
        let matches = match_image(&truth, &image.found(), threshold);
        let found = matches.found.iter().map(|verdict| match *verdict {
            Verdict::Correct { truth: at, .. } => {
                assert!(!truth[at].is_crowd, "{place}");
                correct += 1;
                at as isize
            }
            Verdict::Ignored { truth: at } => {
                assert!(truth[at].is_crowd, "{place}");
                ignored += 1;
                at as isize
            }
            Verdict::Wrong { .. } => -1,
        });
        assert_eq!(found.collect::<Vec<_>>(), expected.found, "{place}");
        let back = matches.truth.iter();
        let back: Vec<isize> = back.map(|at| at.map_or(-1, |at| at as isize)).collect();
        assert_eq!(back, expected.truth, "{place}");
    });
    assert!(correct > 300 && ignored > 30, "{correct} {ignored}");
}

#[test]
fn wrong_boxes_have_the_error_types_of_tide() {
    let mut compared = 0;
    each_image(|threshold, image, expected, place| {
        let Some(errors) = &expected.errors else {
            return;
        };
        let matches = match_image(&image.truth(), &image.found(), threshold);
        for (verdict, expected) in matches.found.iter().zip(errors) {
            let name = match verdict {
                Verdict::Wrong { error, .. } => error.short_name(),
                Verdict::Correct { .. } | Verdict::Ignored { .. } => "",
            };
            assert_eq!(name, expected, "{place}");
            compared += 1;
        }
    });
    assert!(compared > 2000, "{compared}");
}
