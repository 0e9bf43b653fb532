//! The Errors page, on results files over generated scenes: every error is known.

use std::collections::BTreeMap;
use std::process::Command;

use egui::{Key, PointerButton};
use egui_kittest::kittest::Queryable as _;
use sedet::eval::matching::ErrorType;
use sedet::viewer::Opening;
use sedet::viewer::state::{BoxRef, ErrorChoice, ErrorKind, ErrorSubject, PanelId, ViewerState};
use serde_json::{Value, json};

use super::{Scenes, Viewer, click, errors, press, settle};

/// Type, classes and number of errors.
type Groups = BTreeMap<(String, String), usize>;

impl Scenes {
    /// Returns the annotation file of the validation split.
    pub fn annotations(&self) -> Value {
        let path = self.at("scenes/annotations/instances_val2017.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Writes a results file: `rows` returns class shift, box and score of the detections of an annotation, given its
    /// position.
    fn results(&self, rows: impl Fn(usize, [f64; 4]) -> Vec<(usize, [f64; 4], f64)>) -> Opening {
        let truth = self.annotations();
        let categories = truth["categories"].as_array().unwrap().iter();
        let ids: Vec<&Value> = categories.map(|category| &category["id"]).collect();
        let objects = truth["annotations"].as_array().unwrap().iter().enumerate();
        let rows: Vec<Value> = objects
            .flat_map(|(at, object)| {
                let place: [f64; 4] = serde_json::from_value(object["bbox"].clone()).unwrap();
                let class = ids.iter().position(|id| **id == object["category_id"]);
                let ids = &ids;
                let rows = rows(at, place).into_iter();
                rows.map(move |(shift, bbox, score)| {
                    let shifted = ids[(class.unwrap() + shift) % ids.len()];
                    json!({
                        "image_id": object["image_id"], "category_id": shifted, "bbox": bbox, "score": score,
                    })
                })
                .collect::<Vec<_>>()
            })
            .collect();
        let path = self.at("results.json");
        std::fs::write(&path, json!(rows).to_string()).unwrap();
        Opening {
            dataset: Some(self.text("scenes")),
            results: Some(path),
            ..Opening::default()
        }
    }

    /// Writes a results file with errors of every kind.
    pub fn all_errors(&self) -> Opening {
        self.results(|at, place| {
            let [x, y, width, height] = place;
            let shifted = |share: f64| [x + width * share, y, width, height];
            let score = 0.6 + 0.001 * at as f64;
            match at % 6 {
                0 => vec![(0, place, 0.9)],
                1 => vec![(1, place, score)],
                2 => vec![(0, shifted(0.45), score), (2, shifted(0.5), score - 0.05)],
                3 => vec![],
                4 => vec![(0, place, 0.95), (0, shifted(0.1), score)],
                _ => vec![
                    (0, place, 0.9),
                    (0, [1.0, 1.0, 4.0, 4.0], score),
                    (0, place, 0.3),
                ],
            }
        })
    }

    /// Returns the rows of `boxes.csv` of `sedet eval` with errors.
    fn evaluated_errors(&self) -> Vec<Vec<String>> {
        let output = self.at("evaluated");
        let run = Command::new(env!("CARGO_BIN_EXE_sedet"))
            .arg("eval")
            .arg("--results")
            .arg(self.at("results.json"))
            .arg("--annotations")
            .arg(self.at("scenes/annotations/instances_val2017.json"))
            .arg("--output")
            .arg(&output)
            .output()
            .unwrap();
        assert!(run.status.success(), "{run:?}");
        let rows = rows(&std::fs::read_to_string(output.join("boxes.csv")).unwrap());
        let is_error = |row: &Vec<String>| {
            ["Cls", "Loc", "Both", "Dupe", "Bkg", "missed"].contains(&row[8].as_str())
        };
        rows.into_iter().filter(is_error).collect()
    }
}

/// Returns the rows of a CSV file without quotes.
fn rows(csv: &str) -> Vec<Vec<String>> {
    let lines = csv.lines().skip(1);
    lines
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect()
}

fn state(viewer: &Viewer) -> &ViewerState {
    viewer.state().state()
}

/// Counts the errors of the viewer by type and the class of the box itself.
fn groups(viewer: &Viewer) -> Groups {
    let state = state(viewer);
    let mut groups = Groups::new();
    for (group, count) in &state.errors.list().unwrap().groups {
        let class = group.found.or(group.truth).unwrap();
        let key = (
            group.kind.name().to_owned(),
            state.classes.name(class).to_owned(),
        );
        *groups.entry(key).or_default() += count;
    }
    groups
}

#[test]
fn the_errors_page_lists_the_errors_of_an_evaluation() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.all_errors());
    press(&mut viewer, Key::F6);
    assert_eq!(errors(&viewer), [""; 0]);
    viewer.get_by_label_contains("6 of 6 images processed");
    let evaluated = scenes.evaluated_errors();
    let mut expected = Groups::new();
    for row in &evaluated {
        let key = (row[8].clone(), row[2].clone());
        *expected.entry(key).or_default() += 1;
    }
    assert_eq!(groups(&viewer), expected);
    for name in ["Cls", "Loc", "Both", "Dupe", "Bkg", "missed"] {
        assert!(expected.keys().any(|(kind, _)| kind == name), "no {name}");
    }

    // The same boxes, whatever the order.
    click(&mut viewer, "Export");
    click(&mut viewer, "Errors (CSV)");
    let csv = String::from_utf8(scenes.exported("errors.csv")).unwrap();
    assert!(csv.starts_with("image,type,class,true class,score,IoU,x,y,width,height\n"));
    let exported = rows(&csv);
    let mut listed: Vec<Vec<String>> = exported
        .iter()
        .map(|row| {
            let class = if row[2].is_empty() { &row[3] } else { &row[2] };
            let mut of = vec![
                row[0].clone(),
                row[1].clone(),
                class.clone(),
                row[4].clone(),
            ];
            of.extend_from_slice(&row[6..10]);
            of
        })
        .collect();
    let mut evaluated: Vec<Vec<String>> = evaluated
        .iter()
        .map(|row| {
            let mut of = vec![
                row[0].clone(),
                row[8].clone(),
                row[2].clone(),
                row[3].clone(),
            ];
            of.extend_from_slice(&row[4..8]);
            of
        })
        .collect();
    let scores: Vec<f32> = exported
        .iter()
        .filter_map(|row| row[4].parse().ok())
        .collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert!(
        exported[..scores.len()]
            .iter()
            .all(|row| row[1] != "missed")
    );
    listed.sort();
    evaluated.sort();
    assert_eq!(listed, evaluated);

    // A group alone; a second export does not replace the first.
    let list = state(&viewer).errors.list().unwrap().clone();
    let (group, count) = list.groups[0];
    assert!(list.groups.iter().all(|(_, other)| *other <= count));
    let entry = format!("{}: {count}", group.name(&state(&viewer).classes));
    click(&mut viewer, &entry);
    assert_eq!(state(&viewer).errors.choice(), ErrorChoice::Group(group));
    click(&mut viewer, "Export");
    click(&mut viewer, "Errors (CSV)");
    let of_group = rows(&String::from_utf8(scenes.exported("errors-2.csv")).unwrap());
    assert_eq!(of_group.len(), count);
    assert!(of_group.iter().all(|row| row[1] == group.kind.name()));
    assert_eq!(scenes.exported("errors.csv"), csv.as_bytes());

    // Other thresholds, other errors.
    viewer.state_mut().state_mut().settings.filter.score = 0.92;
    settle(&mut viewer);
    let kinds = state(&viewer).errors.list().unwrap().groups.iter();
    let kinds: Vec<ErrorKind> = kinds.map(|(group, _)| group.kind).collect();
    assert!(
        kinds.iter().all(|kind| *kind == ErrorKind::Missed),
        "{kinds:?}"
    );
}

#[test]
fn a_click_on_a_crop_leads_to_its_box_and_back_to_the_same_place() {
    let scenes = Scenes::new();
    // Rows of background boxes: more than fit on the page.
    let opening = scenes.results(|at, _| {
        let row = |n: usize| {
            let [x, y] = [n % 10, n / 10].map(|step| 6.0 * step as f64);
            (0, [x, y, 5.0, 5.0], 0.9 - 0.001 * (at * 20 + n) as f64)
        };
        (0..20).map(row).collect()
    });
    let mut viewer = scenes.open(opening);
    press(&mut viewer, Key::F6);
    assert_eq!(state(&viewer).errors.in_sight.start, 0);
    let first = viewer.get_by_label_contains("error 1: ").rect();
    viewer.hover_at(first.center());
    for _ in 0..10 {
        viewer.event(egui::Event::MouseWheel {
            unit: egui::MouseWheelUnit::Point,
            delta: egui::vec2(0.0, -120.0),
            phase: egui::TouchPhase::Move,
            source: egui::MouseWheelSource::Unknown,
            modifiers: egui::Modifiers::NONE,
        });
        settle(&mut viewer);
    }
    let in_sight = state(&viewer).errors.in_sight.clone();
    assert!(in_sight.start > 0 && in_sight.len() < 60, "{in_sight:?}");
    // One in the middle of the page.
    let at = in_sight.start + 2 * state(&viewer).errors.columns;
    let wall = &state(&viewer).errors;
    let item = wall.list().unwrap().items[wall.shown()[at] as usize];
    let label = format!("error {}: ", at + 1);
    viewer.get_by_label_contains(&label).click();
    settle(&mut viewer);
    let shown = state(&viewer);
    assert_eq!(shown.tab, PanelId::IMAGE);
    assert_eq!(shown.current, item.image as usize);
    assert_eq!(shown.selected, item.subject.box_ref());
    let boxes = shown.boxes(sedet::viewer::state::Pane::First);
    let of = boxes.box_of(item.subject.box_ref().unwrap()).unwrap();
    assert_eq!(Some(of), item.subject.box_in_image());
    assert!(matches!(item.subject, ErrorSubject::Detection(..)));
    let zoomed = shown.zoom;
    assert!(zoomed.scale.is_some_and(|scale| scale > 1.0), "{zoomed:?}");
    click(&mut viewer, "Back to errors");
    assert_eq!(state(&viewer).tab, PanelId::ERRORS);
    assert_eq!(state(&viewer).errors.in_sight, in_sight);

    // Z shows the selected box again after the image was fitted.
    press(&mut viewer, Key::F1);
    press(&mut viewer, Key::Num0);
    assert_eq!(state(&viewer).zoom.scale, None);
    press(&mut viewer, Key::Z);
    assert_eq!(state(&viewer).zoom, zoomed);
    press(&mut viewer, Key::ArrowRight);
    assert!(
        viewer.query_by_label("Back to errors").is_none(),
        "another image"
    );
    assert_eq!(state(&viewer).zoom.scale, None);
}

#[test]
fn cells_of_the_confusion_matrix_lead_to_their_boxes() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.all_errors());
    press(&mut viewer, Key::F3);
    let tally = state(&viewer).tallies[0].clone().unwrap();
    let classes = state(&viewer).classes.clone();
    let mixed_up = tally
        .cells
        .iter()
        .find(|((truth, found), _)| truth.is_some() && found.is_some() && truth != found);
    let (&cell, _) = mixed_up.unwrap();
    let (Some(truth), Some(found)) = cell else {
        panic!("{cell:?}")
    };
    let name = format!(
        "{} predicted as {}",
        classes.name(truth),
        classes.name(found)
    );
    click(&mut viewer, &format!("boxes: {name}"));
    assert_eq!(state(&viewer).tab, PanelId::ERRORS);
    assert_eq!(state(&viewer).errors.choice(), ErrorChoice::Cell(cell));
    let list = state(&viewer).errors.list().unwrap().clone();
    let expected = list.items.iter().filter(|item| {
        let wrong = [ErrorType::Classification, ErrorType::Both].map(ErrorKind::Wrong);
        wrong.contains(&item.group.kind)
            && (item.group.truth, item.group.found) == (Some(truth), Some(found))
    });
    let expected = expected.count();
    assert!(expected >= tally.cells[&cell].0);
    assert_eq!(state(&viewer).errors.shown().len(), expected);

    // The right button on the last row, the left button for the images.
    let no_truth = tally.cells.keys().find(|(truth, _)| truth.is_none());
    let last_row = *no_truth.unwrap();
    for (button, tab) in [
        (PointerButton::Secondary, PanelId::ERRORS),
        (PointerButton::Primary, PanelId::IMAGE),
    ] {
        press(&mut viewer, Key::F3);
        let matrix = viewer.get_by_label("confusion matrix").rect();
        let sides = classes.len() + 1;
        let step = matrix.width() / sides as f32;
        let column = last_row.1.unwrap() as f32 + 0.5;
        let at = matrix.min + egui::vec2(column, sides as f32 - 0.5) * step;
        viewer.hover_at(at);
        settle(&mut viewer);
        for pressed in [true, false] {
            viewer.event(egui::Event::PointerButton {
                pos: at,
                button,
                pressed,
                modifiers: egui::Modifiers::NONE,
            });
        }
        settle(&mut viewer);
        assert_eq!(state(&viewer).tab, tab, "{button:?}");
    }
    let wall = &state(&viewer).errors;
    assert_eq!(wall.choice(), ErrorChoice::Cell(last_row));
    assert_eq!(wall.shown().len(), tally.cells[&last_row].0);
    assert!(state(&viewer).query.picked.is_some());
}

#[test]
fn the_crops_in_sight_are_exported_with_their_boxes() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.all_errors());
    press(&mut viewer, Key::F6);
    let wall = &state(&viewer).errors;
    let (in_sight, columns) = (wall.in_sight.len(), wall.columns);
    click(&mut viewer, "Export");
    click(&mut viewer, "Crops in sight (PNG)");
    assert_eq!(errors(&viewer), [""; 0]);
    let page = image::load_from_memory(&scenes.exported("errors.png")).unwrap();
    let page = page.to_rgb8();
    let rows = in_sight.div_ceil(columns) as u32;
    assert!(page.width() >= 320 * columns as u32 && page.height() >= 320 * rows);
    assert!(super::count_color(&page, super::WRONG) > 100, "wrong");
}

#[test]
fn the_errors_page_says_why_it_is_empty() {
    let scenes = Scenes::new();
    // Nothing is wrong.
    let mut viewer = scenes.open(scenes.results(|_, place| vec![(0, place, 0.9)]));
    press(&mut viewer, Key::F6);
    viewer.get_by_label_contains("No box of the processed images is wrong or missed");
    // No detections.
    let only_data = Opening {
        dataset: Some(scenes.text("scenes")),
        ..Opening::default()
    };
    let mut viewer = scenes.open(only_data);
    press(&mut viewer, Key::F6);
    viewer.get_by_label_contains("Open a detector or a results file");
    // Not all images have been processed.
    let mut viewer = scenes.open(scenes.opening());
    press(&mut viewer, Key::F6);
    viewer.get_by_label_contains("1 of 6 images processed");
    click(&mut viewer, "Detect in all 6 images");
    viewer.get_by_label_contains("6 of 6 images processed");
    let total = state(&viewer).tallies[0].as_ref().unwrap().total;
    let list = state(&viewer).errors.list().unwrap();
    assert_eq!(list.items.len(), total.wrong + total.missed);
    // No annotations.
    let image = scenes.at("one.png");
    image::RgbImage::new(32, 32).save(&image).unwrap();
    let open = sedet::viewer::state::Request::Open(image.display().to_string());
    viewer.state_mut().state_mut().requests.push(open);
    settle(&mut viewer);
    press(&mut viewer, Key::F6);
    viewer.get_by_label("No annotations");
    assert!(
        state(&viewer)
            .errors
            .list()
            .is_none_or(|list| list.items.is_empty())
    );
}

#[test]
fn errors_of_the_shipped_detector_lead_to_their_images() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    press(&mut viewer, Key::D);
    // Every detection with a low score counts.
    viewer.state_mut().state_mut().settings.filter.score = 0.01;
    press(&mut viewer, Key::F6);
    let wall = &state(&viewer).errors;
    let item = wall.list().unwrap().items[0];
    viewer.get_by_label_contains("error 1: ").click();
    settle(&mut viewer);
    assert_eq!(state(&viewer).current, item.image as usize);
    let Some(BoxRef::Detection(at)) = state(&viewer).selected else {
        panic!("{:?}", state(&viewer).selected);
    };
    let found = &state(&viewer).predictions[0]
        .get(item.image as usize)
        .unwrap()[at];
    assert_eq!(Some(found.score), item.score);
    assert_eq!(Some(found.class), item.group.found);
}

#[test]
fn the_mistakes_of_a_classifier_are_whole_images_grouped_by_classes() {
    let photos = super::Photos::new();
    let (mut viewer, scenes) = (photos.open(), &photos.scenes);
    press(&mut viewer, Key::F6);
    click(&mut viewer, "Classify all 18 images");
    let state = viewer.state().state();
    let mistakes = state.mistakes[0].clone();
    assert!(!mistakes.is_empty());
    let list = state.errors.list().unwrap().clone();
    assert_eq!(list.items.len(), mistakes.len());
    for (item, mistake) in list.items.iter().zip(mistakes.iter()) {
        assert_eq!(item.image as usize, mistake.image);
        assert_eq!(item.subject, ErrorSubject::Image);
        assert_eq!(item.group.kind, ErrorKind::WrongClass);
        let classes = (item.group.truth, item.group.found);
        assert_eq!(classes, (Some(mistake.truth), Some(mistake.predicted)));
        assert_eq!(item.score, Some(mistake.probability));
    }
    let first = list.items[0];
    let text = first.text(&state.classes);
    assert!(
        text.starts_with("wrong ") && text.contains(" as "),
        "{text}"
    );
    let image = state
        .collection
        .as_ref()
        .unwrap()
        .image_title(first.image as usize);
    click(&mut viewer, &format!("error 1: {text}, {image}"));
    let state = viewer.state().state();
    assert_eq!(
        (state.tab, state.current),
        (PanelId::IMAGE, first.image as usize)
    );
    press(&mut viewer, Key::F6);
    for name in ["Errors (CSV)", "Crops in sight (PNG)"] {
        click(&mut viewer, "Export");
        click(&mut viewer, name);
    }
    let csv = String::from_utf8(scenes.exported("errors.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + mistakes.len());
    assert!(
        csv.lines()
            .nth(1)
            .unwrap()
            .starts_with(&format!("{image},wrong,")),
        "{csv}"
    );
    assert!(csv.lines().nth(1).unwrap().ends_with(",,,,,"), "{csv}");
    assert!(!scenes.exported("errors.png").is_empty());
    assert_eq!(errors(&viewer), [""; 0]);
}
