//! The bar with tabs, path field, exports, comparison, theme and help.

use egui::containers::menu::{MenuButton, MenuConfig};
use egui::{Id, Key, PopupCloseBehavior, TextEdit, Ui};

use super::open_menu;
use crate::panels::{self, PANELS};
use crate::shortcuts::PATH_FIELD;
use crate::state::{Compare, Pane, Request, ViewerState, typed_path};
use crate::style::{hint, named_text};

/// Width in points of the buttons beside the path field.
const BUTTONS: f32 = 360.0;

/// The width from which the bar has one row, in points.
const ONE_ROW: f32 = 900.0;

/// The scales of exported PNG images, with their names.
const SCALES: [(Option<u32>, &str); 5] = [
    (None, "auto"),
    (Some(1), "1x"),
    (Some(2), "2x"),
    (Some(3), "3x"),
    (Some(4), "4x"),
];

/// Draws the bar.
pub fn show(ui: &mut Ui, state: &mut ViewerState) {
    if ui.available_width() < ONE_ROW {
        ui.horizontal_wrapped(|ui| content(ui, state));
    } else {
        ui.horizontal(|ui| content(ui, state));
    }
}

fn content(ui: &mut Ui, state: &mut ViewerState) {
    for panel in PANELS {
        ui.selectable_value(&mut state.tab, panel.id(), panel.id().0);
    }
    ui.separator();
    path_field(ui, state);
    menu(ui, "Export", "Export", |ui| export_menu(ui, state));
    menu(ui, "Compare", "Compare", |ui| compare_menu(ui, state));
    let theme = if state.settings.dark { "Light" } else { "Dark" };
    let button = ui.button(theme).on_hover_text("switch the theme");
    if button.clicked() {
        state.settings.dark = !state.settings.dark;
    }
    let button = ui.button("?").on_hover_text("keyboard shortcuts");
    if button.clicked() {
        state.show_help = !state.show_help;
    }
}

/// Draws a button with a menu that has text fields: a click inside leaves it open, and entries that act
/// close it themselves.
fn menu(ui: &mut Ui, label: &str, name: &str, content: impl FnOnce(&mut Ui)) {
    let config = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let (button, _) = MenuButton::new(label).config(config).ui(ui, content);
    button.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, name));
}

fn path_field(ui: &mut Ui, state: &mut ViewerState) {
    let width = (ui.available_width() - BUTTONS).max(120.0);
    let field = TextEdit::singleline(&mut state.path)
        .id(Id::unique(PATH_FIELD))
        .hint_text("image, directory, dataset, run, checkpoint, results file or excitation file")
        .desired_width(width);
    let field = ui.add(field);
    field.widget_info(|| named_text("Path"));
    let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
    menu(ui, "▾", "Recent files and dialogs", |ui| {
        open_menu::show(ui, state)
    });
    let open = ui.button("Open").clicked() || entered;
    if open && !state.path.trim().is_empty() {
        state.requests.push(Request::Open(typed_path(&state.path)));
    }
}

fn export_menu(ui: &mut Ui, state: &mut ViewerState) {
    for export in panels::by_id(state.tab).exports() {
        if ui.button(export.name).clicked() {
            state.requests.push(Request::Export(export));
            ui.close();
        }
    }
    let exports = panels::by_id(state.tab).exports();
    let copy = ui.button("Copy image (Ctrl+C)");
    let copy = copy.on_hover_text("the first image of the page, to the clipboard");
    if copy.clicked() {
        state.requests.push(Request::Copy(exports));
        ui.close();
    }
    ui.separator();
    ui.label("Directory");
    let mut directory = state.settings.export_directory.display().to_string();
    let field = ui.add(TextEdit::singleline(&mut directory).desired_width(240.0));
    field.widget_info(|| named_text("Export directory"));
    if field.changed() {
        state.settings.export_directory = directory.into();
    }
    let scale = &mut state.settings.export_scale;
    ui.horizontal(|ui| {
        ui.label("Scale of PNG");
        for (choice, name) in SCALES {
            if ui.selectable_label(*scale == choice, name).clicked() {
                *scale = choice;
            }
        }
    });
}

fn compare_menu(ui: &mut Ui, state: &mut ViewerState) {
    let entry = |ui: &mut Ui, enabled: bool, label: &str| {
        let clicked = ui.add_enabled(enabled, egui::Button::new(label)).clicked();
        if clicked {
            ui.close();
        }
        clicked
    };
    if entry(ui, state.image_count() > 1, "With another image") {
        state.compare = Compare::Image((state.current + 1) % state.image_count().max(1));
    }
    if entry(ui, state.networks[1].is_some(), "With the second network") {
        state.compare = Compare::Network;
    }
    if entry(ui, state.compare != Compare::Off, "Off") {
        state.compare = Compare::Off;
    }
    ui.separator();
    ui.label("Second network");
    let memory = Id::unique("second network");
    let mut path: String = ui.data(|data| data.get_temp(memory)).unwrap_or_default();
    let field = TextEdit::singleline(&mut path).hint_text("checkpoint or run");
    let field = ui.add(field);
    field.widget_info(|| named_text("Second network"));
    let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
    ui.data_mut(|data| data.insert_temp(memory, path.clone()));
    let load = ui.button("Load").clicked() || entered;
    if load && !path.trim().is_empty() {
        state.requests.push(Request::OpenSecond(typed_path(&path)));
        ui.close();
    }
    let Some(second) = state.networks[1].clone() else {
        return;
    };
    hint(ui, second.title);
    if entry(ui, true, "Remove") {
        state.close_second();
    }
    let run = if second.is_detector {
        "Detect in all images with it"
    } else {
        "Classify all images with it"
    };
    if entry(ui, true, run) {
        state.requests.push(Request::DetectAll(Pane::Second));
    }
    let better = state.only_first_correct();
    let images = crate::style::count(better.len(), "image");
    let label = format!("First correct, second wrong: {images}");
    if entry(ui, !better.is_empty(), &label) {
        state.pick("first correct, second wrong", better);
        state.compare = Compare::Network;
    }
}
