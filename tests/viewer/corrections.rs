//! Corrections of labels: made on boxes, listed, kept, and written as a copy of the annotation file.

use egui::{Key, Modifiers, PointerButton};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use sedet::annotations::coco::read_coco;
use sedet::boxes::BoxXyxy;
use sedet::curation::check::{Correction, LabelChange};
use sedet::eval::matching::ErrorType;
use sedet::viewer::Opening;
use sedet::viewer::state::{
    BoxRef, ErrorItem, ErrorKind, Pane, PanelId, Request, Settings, ViewerState,
};
use serde_json::{Value, json};

use super::{Scenes, Viewer, click, errors, press, settle};

fn state(viewer: &Viewer) -> &ViewerState {
    viewer.state().state()
}

/// Opens the image of the first error of a kind by its crop, with the box selected.
fn open_error(viewer: &mut Viewer, kind: ErrorKind) -> ErrorItem {
    press(viewer, Key::F6);
    let list = state(viewer).errors.list().unwrap().clone();
    let at = list.items.iter().position(|item| item.group.kind == kind);
    let at = at.unwrap();
    // Crops of other groups may be out of sight.
    let group = list.items[at].group;
    let count = list.groups.iter().find(|(known, _)| *known == group);
    let entry = format!(
        "{}: {}",
        group.name(&state(viewer).classes),
        count.unwrap().1
    );
    click(viewer, &entry);
    viewer.get_by_label_contains("error 1: ").click();
    settle(viewer);
    assert_eq!(state(viewer).tab, PanelId::IMAGE);
    list.items[at]
}

/// Returns id and category id of the annotation that an error is about.
fn annotation_of(viewer: &Viewer, item: &ErrorItem) -> (u64, u64) {
    let boxes = state(viewer).boxes(Pane::First);
    let at = match item.subject.box_ref().unwrap() {
        BoxRef::GroundTruth(at) => at,
        of @ BoxRef::Detection(_) => match boxes.partner(of).unwrap().0 {
            BoxRef::GroundTruth(at) => at,
            BoxRef::Detection(_) => panic!("a detection of a detection"),
        },
    };
    let collection = state(viewer).collection.as_ref().unwrap();
    let sedet::viewer::state::ShownImages::Boxes(dataset) = &collection.images else {
        panic!("no boxes");
    };
    let store = dataset.store();
    let annotation = store.annotations(item.image as usize).nth(at).unwrap();
    (annotation.id, store.categories()[annotation.class].id)
}

fn wrong(error: ErrorType) -> ErrorKind {
    ErrorKind::Wrong(error)
}

#[test]
fn corrections_by_key_are_listed_kept_and_written_as_a_copy() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.all_errors());
    let original = scenes.annotations();
    let file = scenes.at("kept/corrections.json");
    let kept = viewer
        .state_mut()
        .state_mut()
        .keep_corrections_in(file.clone());
    kept.unwrap();

    let mixed_up = open_error(&mut viewer, wrong(ErrorType::Classification));
    let (class_id, old_category) = annotation_of(&viewer, &mixed_up);
    press(&mut viewer, Key::Y);
    let moved = open_error(&mut viewer, wrong(ErrorType::Localization));
    let (moved_id, _) = annotation_of(&viewer, &moved);
    press(&mut viewer, Key::U);
    let new = open_error(&mut viewer, wrong(ErrorType::Background));
    press(&mut viewer, Key::A);
    press(&mut viewer, Key::A);
    let corrections = state(&viewer).corrections().to_vec();
    assert_eq!(
        corrections.len(),
        3,
        "one object is added once: {corrections:?}"
    );
    let LabelChange::Class {
        annotation_id,
        category_id,
    } = corrections[0].change
    else {
        panic!("{corrections:?}");
    };
    assert_eq!(annotation_id, class_id);
    assert_ne!(category_id, old_category);

    // An annotation that is removed needs no class.
    press(&mut viewer, Key::F6);
    let missed = state(&viewer).errors.list().unwrap().clone();
    let missed = missed.items.iter().find(|item| {
        item.group.kind == ErrorKind::Missed && annotation_at(&viewer, item) == class_id
    });
    let missed = *missed.expect("found as another class, so missed");
    let viewer_state = viewer.state_mut().state_mut();
    viewer_state.current = missed.image as usize;
    viewer_state.tab = PanelId::IMAGE;
    settle(&mut viewer);
    viewer.state_mut().state_mut().selected = missed.subject.box_ref();
    press(&mut viewer, Key::R);
    let removed = LabelChange::Remove {
        annotation_id: class_id,
    };
    assert_eq!(state(&viewer).corrections().last().unwrap().change, removed);
    assert_eq!(state(&viewer).corrections().len(), 3);

    // The list leads to the box, and takes a correction back.
    click(&mut viewer, "3 corrections");
    viewer.get_by_label_contains("go to correction 1: ").click();
    settle(&mut viewer);
    assert_eq!(state(&viewer).current, moved.image as usize);
    assert!(matches!(
        state(&viewer).selected,
        Some(BoxRef::GroundTruth(_))
    ));
    viewer
        .get_by_label_contains("take back correction 3: ")
        .click();
    settle(&mut viewer);
    assert_eq!(state(&viewer).corrections().len(), 2);
    let shift = Modifiers::COMMAND | Modifiers::SHIFT;
    for (modifiers, left) in [(Modifiers::COMMAND, 3), (shift, 2)] {
        viewer.key_press_modifiers(modifiers, Key::Z);
        settle(&mut viewer);
        assert_eq!(state(&viewer).corrections().len(), left);
    }
    viewer.state_mut().state_mut().selected = None;
    super::controls(&viewer, "corrections");

    // The next start of the viewer has them.
    let mut next = super::viewer(Settings::default(), Opening::default());
    let kept = next
        .state_mut()
        .state_mut()
        .keep_corrections_in(file.clone());
    kept.unwrap();
    let request = Request::Open(scenes.text("scenes"));
    next.state_mut().state_mut().requests.push(request);
    settle(&mut next);
    assert_eq!(state(&next).corrections(), &corrections[1..]);
    next.get_by_label("2 corrections");
    let notices = state(&next).notices.iter();
    assert!(
        notices
            .map(|n| &n.text)
            .any(|text| text.starts_with("2 corrections"))
    );

    // Another dataset and back: nothing is lost.
    let open = |viewer: &mut Viewer, what: String| {
        let state = viewer.state_mut().state_mut();
        state.requests.push(Request::Open(what));
        settle(viewer);
    };
    open(&mut viewer, "shapes".into());
    assert_eq!(state(&viewer).corrections(), []);
    open(&mut viewer, scenes.text("scenes"));
    let kept = state(&viewer).corrections().to_vec();
    assert_eq!(kept, corrections[1..]);

    click(&mut viewer, "2 corrections");
    if viewer
        .query_by_label("Export corrected annotations")
        .is_none()
    {
        click(&mut viewer, "2 corrections");
    }
    click(&mut viewer, "Export corrected annotations");
    assert_eq!(errors(&viewer), [""; 0]);
    let written = scenes.at("out/corrected_val.json");
    let document: Value = serde_json::from_slice(&std::fs::read(&written).unwrap()).unwrap();
    let find = |document: &Value, id: u64| {
        let objects = document["annotations"].as_array().unwrap();
        objects.iter().find(|object| object["id"] == id).cloned()
    };
    let objects = |document: &Value| document["annotations"].as_array().unwrap().len();
    assert_eq!(objects(&document), objects(&original) + 1);
    let [x, y, width, height] = moved.subject.box_in_image().unwrap().to_xywh();
    let place = find(&document, moved_id).unwrap()["bbox"].clone();
    let place: [f32; 4] = serde_json::from_value(place).unwrap();
    assert_eq!(place, [x, y, width, height]);
    let ids = original["annotations"].as_array().unwrap().iter();
    let new_id = ids
        .map(|object| object["id"].as_u64().unwrap())
        .max()
        .unwrap()
        + 1;
    let added = find(&document, new_id).unwrap();
    assert_eq!(added["bbox"], json!([1.0, 1.0, 4.0, 4.0]));
    assert_eq!(added["area"], json!(16.0));
    // The reader of the project agrees, and all other labels are the same.
    let store = read_coco(&written).unwrap();
    let index = new.image as usize;
    let mut read = store.annotations(index);
    let added = read.find(|object| object.id == new_id).unwrap();
    assert_eq!(added.box_in_image, BoxXyxy::new(1.0, 1.0, 5.0, 5.0));
    let class = new.group.found.unwrap();
    assert_eq!(
        store.categories()[added.class].name,
        state(&viewer).classes.name(class)
    );
    for object in original["annotations"].as_array().unwrap() {
        let id = object["id"].as_u64().unwrap();
        if id != moved_id {
            assert_eq!(find(&document, id).as_ref(), Some(object));
        }
    }
    assert_eq!(scenes.annotations(), original, "the dataset is not changed");
    // A second export has a name of its own.
    click(&mut viewer, "Export corrected annotations");
    assert!(scenes.at("out/corrected_val-2.json").is_file());
}

/// Returns the id of the annotation of a missed object.
fn annotation_at(viewer: &Viewer, item: &ErrorItem) -> u64 {
    let Some(BoxRef::GroundTruth(at)) = item.subject.box_ref() else {
        panic!("not missed");
    };
    let collection = state(viewer).collection.as_ref().unwrap();
    let sedet::viewer::state::ShownImages::Boxes(dataset) = &collection.images else {
        panic!("no boxes");
    };
    let mut known = dataset.store().annotations(item.image as usize);
    known.nth(at).unwrap().id
}

#[test]
fn the_menu_of_a_box_corrects_its_label_and_its_box_can_be_drawn_again() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.all_errors());
    let row = viewer.query_all_by_label_contains("annotation 1: ").next();
    row.unwrap().click_secondary();
    settle(&mut viewer);
    assert_eq!(state(&viewer).selected, Some(BoxRef::GroundTruth(0)));
    viewer
        .get_by_label_contains("There is no such object")
        .click();
    settle(&mut viewer);
    let corrections = state(&viewer).corrections().to_vec();
    assert!(
        matches!(
            corrections[..],
            [Correction {
                change: LabelChange::Remove { .. },
                ..
            }]
        ),
        "{corrections:?}"
    );

    // Drawing it again replaces the removal.
    press(&mut viewer, Key::O);
    viewer.get_by_label_contains("drag the right box of the annotation");
    let view = viewer.get_by_label("image with boxes").rect();
    let pixels = state(&viewer).pixels[0].as_ref().unwrap().1.clone();
    let size = [pixels.width() as f32, pixels.height() as f32];
    let frame = [view.width(), view.height()];
    let corner = state(&viewer).zoom.corner(frame, size);
    let scale = (frame[0] / size[0]).min(frame[1] / size[1]);
    let at =
        |x: f32, y: f32| view.min + (egui::vec2(corner[0], corner[1]) + egui::vec2(x, y) * scale);
    let (from, to) = (at(10.0, 20.0), at(50.0, 45.0));
    viewer.drag_at(from);
    viewer.step();
    for share in [0.3, 0.7, 1.0] {
        viewer.hover_at(from + (to - from) * share);
        viewer.step();
    }
    viewer.event(egui::Event::PointerButton {
        pos: to,
        button: PointerButton::Primary,
        pressed: false,
        modifiers: egui::Modifiers::NONE,
    });
    settle(&mut viewer);
    let corrections = state(&viewer).corrections().to_vec();
    let [
        Correction {
            change: LabelChange::Place { xywh, .. },
            ..
        },
    ] = corrections[..]
    else {
        panic!("{corrections:?}");
    };
    assert_eq!(xywh, [10.0, 20.0, 40.0, 25.0]);
    assert_eq!(state(&viewer).redraws, None);
    assert_eq!(state(&viewer).zoom.scale, None, "the image did not move");

    // Escape leaves the box as it is.
    press(&mut viewer, Key::O);
    press(&mut viewer, Key::Escape);
    assert_eq!(state(&viewer).redraws, None);
    assert_eq!(state(&viewer).corrections(), corrections);
}

#[test]
fn labels_without_a_coco_file_cannot_be_corrected_and_the_viewer_says_why() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening::default());
    press(&mut viewer, Key::Tab);
    press(&mut viewer, Key::U);
    assert_eq!(state(&viewer).corrections(), []);
    let row = viewer.query_all_by_label_contains("annotation 1: ").next();
    row.unwrap().click_secondary();
    settle(&mut viewer);
    let entry = viewer.get_by_label_contains("There is no such object");
    assert!(entry.accesskit_node().is_disabled());
    viewer.hover_at(entry.rect().center());
    for _ in 0..60 {
        viewer.step();
    }
    let reason = "generated images have no annotation file to correct";
    let said = viewer.query_all_by_label(reason).count();
    assert_eq!(said, 2, "by the notice of the key and by the tooltip");
    assert_eq!(
        errors(&viewer),
        ["generated images have no annotation file to correct"]
    );
}
