//! The menu of a box with the corrections of its label, and their export.

use egui::{Button, ScrollArea, Ui};

use super::Input;
use crate::state::export::{Export, ExportFiles};
use crate::state::{BoxRef, CurrentBoxes, PanelId, Redraw, ViewerState};
use crate::style::count;
use sedet_data::curation::check::{CheckOptions, Diagnostics, LabelChange, check_split};

/// The greatest height of the list of classes, in points.
const CLASSES_HEIGHT: f32 = 240.0;

/// Draws the menu of a box of an image.
pub(crate) fn menu(
    ui: &mut Ui,
    state: &mut ViewerState,
    (image, boxes): (usize, &CurrentBoxes),
    of: BoxRef,
) {
    let reason = state.annotation_file().err();
    let is_enabled = reason.is_none();
    let reason = reason.unwrap_or_default();
    let class = boxes
        .class_of(of)
        .map_or("?", |class| state.classes.name(class));
    ui.strong(match of {
        BoxRef::Detection(_) => format!("detected {class}"),
        BoxRef::GroundTruth(_) => format!("annotated {class}"),
    });
    let mut chosen = None;
    for change in state.suggestions(image, boxes, of) {
        let (text, key) = described(state, &change, of);
        let entry = Button::new(text).shortcut_text(key);
        let entry = ui.add_enabled(is_enabled, entry);
        if entry.on_disabled_hover_text(&reason).clicked() {
            chosen = Some(change);
        }
    }
    if let BoxRef::GroundTruth(annotation) = of
        && let Some(annotation_id) = state.annotation_id(image, annotation)
    {
        let entry = Button::new("Draw the right box").shortcut_text("O");
        let entry = ui.add_enabled(is_enabled, entry);
        if entry.on_disabled_hover_text(&reason).clicked() {
            state.redraws = Some(Redraw { image, annotation });
            if state.current != image {
                state.go_to(image);
            }
            state.tab = PanelId::IMAGE;
            ui.close();
        }
        ui.add_enabled_ui(is_enabled, |ui| {
            ui.menu_button("The right class", |ui| {
                chosen = classes(ui, state, annotation_id).or(chosen);
            });
        });
    }
    if let Some(change) = chosen {
        state.correct(image, change);
        ui.close();
    }
}

/// Draws the classes of the dataset and returns the correction with the clicked one.
fn classes(ui: &mut Ui, state: &ViewerState, annotation_id: u64) -> Option<LabelChange> {
    let mut chosen = None;
    ScrollArea::vertical()
        .max_height(CLASSES_HEIGHT)
        .show(ui, |ui| {
            for (at, class) in state.classes.iter().enumerate() {
                let Some(category_id) = state.category_id(at) else {
                    continue;
                };
                if ui.button(&class.name).clicked() {
                    chosen = Some(LabelChange::Class {
                        annotation_id,
                        category_id,
                    });
                }
            }
        });
    chosen
}

/// Returns a correction as an entry of the menu, with its key.
fn described(state: &ViewerState, change: &LabelChange, of: BoxRef) -> (String, &'static str) {
    let subject = match of {
        BoxRef::Detection(_) => "The annotation",
        BoxRef::GroundTruth(_) => "It",
    };
    match change {
        LabelChange::Class { category_id, .. } => {
            let name = state.category_name(*category_id);
            (format!("{subject} is a {name}"), "Y")
        }
        LabelChange::Place { .. } => (format!("{subject} has the box of the detection"), "U"),
        LabelChange::Remove { .. } => ("There is no such object".to_owned(), "R"),
        LabelChange::Add { .. } => ("This object is not annotated".to_owned(), "A"),
    }
}

/// Says that a key has nothing to correct.
const NOT_SUGGESTED: &str =
    "this correction does not fit the selected box; its menu (right button) has those that do";

impl Input<'_> {
    /// Makes the correction of a kind that the selected box suggests.
    pub(crate) fn correct(&mut self, is_wanted: fn(&LabelChange) -> bool) {
        let state = &mut *self.state;
        let Some(selected) = state.selected else {
            state.notify("select the box to correct first");
            return;
        };
        if let Err(reason) = state.annotation_file() {
            state.report_error(reason);
            return;
        }
        let pane = state.focused();
        let image = state.image_of(pane);
        let suggestions = state.suggestions(image, self.cache.boxes(pane), selected);
        match suggestions.into_iter().find(is_wanted) {
            Some(change) => state.correct(image, change),
            None => state.notify(NOT_SUGGESTED),
        }
    }

    /// Begins to draw the box of the selected annotation again.
    pub(crate) fn redraw(&mut self) {
        let state = &mut *self.state;
        let Some(BoxRef::GroundTruth(annotation)) = state.selected else {
            state.notify("select the annotation whose box is to be drawn first; M goes to it from a detection");
            return;
        };
        match state.annotation_file() {
            Ok(_) => {
                state.redraws = Some(Redraw {
                    image: state.image_of(state.focused()),
                    annotation,
                });
            }
            Err(reason) => state.report_error(reason),
        }
    }
}

/// The export of the annotations with the corrections.
pub(crate) const EXPORT: Export = Export {
    name: "Corrected annotations (COCO JSON)",
    write: export,
};

/// Writes a copy of the annotation file as `sedet data check --fix` does, with the corrections.
fn export(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    let of = state.annotation_file()?;
    let corrections = state.corrections();
    if corrections.is_empty() {
        return Err("no label has been corrected yet".to_owned());
    }
    let mut diagnostics = Diagnostics::default();
    let options = CheckOptions { images: false };
    let name = of.split.to_string();
    let mut split = check_split(&name, of, options, &mut diagnostics, &|_| {})
        .map_err(|error| error.to_string())?;
    let checked = split.summary();
    split
        .correct(corrections)
        .map_err(|error| format!("{}: {error}", of.annotations.display()))?;
    files.file(&format!("corrected_{name}.json"), |path| {
        let written = split.write_fixed(path);
        written.map(drop).map_err(|error| error.to_string())
    })?;
    let others = [
        (checked.images_dropped, "image", "dropped"),
        (checked.annotations_dropped, "annotation", "dropped"),
        (checked.images_changed, "image", "corrected"),
        (checked.annotations_changed, "annotation", "corrected"),
    ];
    for (number, what, done) in others.into_iter().filter(|(number, ..)| *number > 0) {
        files.note(format!(
            "{} {done} as by sedet data check --fix",
            count(number, what)
        ));
    }
    Ok(())
}
