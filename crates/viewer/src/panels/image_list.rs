//! The images as a list: search, order and filters, and what is known about each of them. The gallery and the grid
//! share it.

use egui::{Color32, ComboBox, PopupCloseBehavior, Response, RichText, ScrollArea, TextEdit, Ui};

use crate::state::{Compare, Pane, SortBy, ViewerState};
use crate::style::{CORRECT, MISSED, WRONG, count, hint, named_text, verdict_text};
use sedet_data::eval::matching::MatchCounts;

/// The maximum width of the list of classes, in points.
const MAX_POPUP: f32 = 260.0;
/// The maximum height of the list of classes, in points.
const POPUP_HEIGHT: f32 = 320.0;
/// The number of classes up to which their list needs no search.
const UNSEARCHED_CLASSES: usize = 20;
/// Width of the lists, in points.
const FIELD: f32 = 130.0;

/// Draws search, order and filters, and the number of images that they list.
pub(super) fn controls(ui: &mut Ui, state: &mut ViewerState) {
    let Some(collection) = state.collection.clone() else {
        return;
    };
    ui.add(egui::Label::new(RichText::new(collection.title()).strong()).truncate());
    let search = TextEdit::singleline(&mut state.query.search)
        .hint_text("part of a file name")
        .desired_width(f32::INFINITY);
    let search = ui.add(search);
    search.widget_info(|| named_text("Search"));
    let order = egui::Grid::new("order and class").num_columns(2);
    order.show(ui, |ui| {
        let name = ui.label("Order");
        let order = ComboBox::from_id_salt("order")
            .selected_text(state.query.sort.name())
            .width(FIELD)
            .show_ui(ui, |ui| {
                for sort in SortBy::ALL {
                    if state.can_sort(sort) {
                        ui.selectable_value(&mut state.query.sort, sort, sort.name());
                    }
                }
            });
        order.response.labelled_by(name.id);
        ui.end_row();
        if !state.classes.is_empty() {
            let name = ui.label("Class");
            let name = name.on_hover_text("images with this class");
            class_choice(ui, state).labelled_by(name.id);
            ui.end_row();
        }
    });
    ui.horizontal(|ui| {
        if state.has_verdicts_of_boxes() {
            ui.checkbox(&mut state.query.errors_only, "errors only")
                .on_hover_text("images with wrong or missed boxes, among those processed");
        } else if state.judges_classes(Pane::First) {
            ui.checkbox(&mut state.query.errors_only, "errors only")
                .on_hover_text("images with a wrong class, among those processed");
        }
    });
    if let Some(picked) = &state.query.picked {
        let text = format!("{} ✖", picked.label);
        let chip = egui::Button::new(text).truncate();
        if ui.add(chip).on_hover_text("show all images").clicked() {
            state.query.picked = None;
        }
    }
    hint(
        ui,
        format!(
            "{} of {}",
            state.order.len(),
            count(collection.len(), "image")
        ),
    );
    if state.compare == Compare::Network {
        hint(ui, "order and filters are those of the first network");
    }
}

fn class_choice(ui: &mut Ui, state: &mut ViewerState) -> Response {
    let shown = state
        .query
        .class
        .map_or("any class", |c| state.classes.name(c));
    ComboBox::from_id_salt("class")
        .selected_text(shown)
        .width(FIELD)
        .height(POPUP_HEIGHT)
        .truncate()
        .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
        .show_ui(ui, |ui| {
            ui.set_min_width(MAX_POPUP);
            ui.set_max_width(MAX_POPUP);
            ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Truncate);
            if class_list(ui, state) {
                ui.close();
            }
        })
        .response
}

/// The classes to choose from, with a search field where there are many. Returns whether one was chosen.
fn class_list(ui: &mut Ui, state: &mut ViewerState) -> bool {
    let mut is_chosen = false;
    let choice = ui.selectable_label(state.query.class.is_none(), "any class");
    if choice.clicked() {
        (state.query.class, is_chosen) = (None, true);
    }
    let memory = ui.scope_id().with("class search");
    let mut search: String = ui.data(|data| data.get_temp(memory)).unwrap_or_default();
    if state.classes.len() > UNSEARCHED_CLASSES {
        let field = TextEdit::singleline(&mut search)
            .hint_text("part of a class name")
            .desired_width(f32::INFINITY);
        ui.add(field).widget_info(|| named_text("Search classes"));
        ui.data_mut(|data| data.insert_temp(memory, search.clone()));
    }
    let search = search.to_lowercase();
    let classes = state.classes.iter().enumerate();
    let found: Vec<usize> = classes
        .filter(|(_, class)| class.name.to_lowercase().contains(&search))
        .map(|(at, _)| at)
        .collect();
    let height = ui.spacing().interact_size.y;
    ScrollArea::vertical()
        .id_salt("classes of the gallery")
        .max_height(POPUP_HEIGHT - 3.0 * height)
        .auto_shrink([false, true])
        .show_rows(ui, height, found.len(), |ui, rows| {
            for &class in found.get(rows).unwrap_or_default() {
                let name = state.classes.name(class);
                let choice = ui.selectable_label(state.query.class == Some(class), name);
                if choice.on_hover_text(name).clicked() {
                    (state.query.class, is_chosen) = (Some(class), true);
                }
            }
        });
    is_chosen
}

/// What is known about an image of the list.
pub(super) enum ImageResult<'a> {
    /// The true class, and whether the predicted one is the same, as far as that is known.
    Class(&'a str, Option<bool>),
    /// The counts of its boxes.
    Counts(MatchCounts),
}

impl<'a> ImageResult<'a> {
    /// Returns what is known about an image by the results of a network.
    pub fn of(state: &'a ViewerState, index: usize, network: Pane) -> Option<Self> {
        let counts = state.tallies[network.index()].as_ref();
        let counts = counts.and_then(|t| t.images.get(index).copied().flatten());
        let label = state.collection.as_ref().and_then(|c| c.label(index));
        match label {
            Some(class) => Some(Self::Class(
                state.classes.name(class),
                counts.map(|counts| counts.correct > 0),
            )),
            None => counts.map(Self::Counts),
        }
    }

    /// Returns the texts with their colors, in the order of reading.
    pub fn parts(&self, ui: &Ui) -> Vec<(String, Color32)> {
        match *self {
            Self::Class(name, is_right) => {
                let (mark, color) = match is_right {
                    Some(true) => ("✔ ", verdict_text(ui, CORRECT)),
                    Some(false) => ("✖ ", verdict_text(ui, WRONG)),
                    None => ("", ui.visuals().weak_text_color()),
                };
                vec![(format!("{mark}{name}"), color)]
            }
            Self::Counts(counts) => {
                let each = [
                    (counts.correct, CORRECT),
                    (counts.wrong, WRONG),
                    (counts.missed, MISSED),
                ];
                let part = |(count, verdict)| {
                    let text = match count {
                        0 => "·".to_owned(),
                        count => count.to_string(),
                    };
                    (text, verdict_text(ui, verdict))
                };
                each.map(part).into()
            }
        }
    }

    /// Returns the same in words.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Class(name, is_right) => {
                let word = match is_right {
                    Some(true) => "right: ",
                    Some(false) => "wrong: ",
                    None => "",
                };
                vec![format!("{word}{name}")]
            }
            Self::Counts(counts) => vec![
                format!("{} correct", counts.correct),
                format!("{} wrong", counts.wrong),
                format!("{} missed", counts.missed),
            ],
        }
    }
}
