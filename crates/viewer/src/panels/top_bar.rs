//! Pages, the path field, exports, help.

use egui::{Id, Key, TextEdit, Ui};

use crate::keys::PATH_FIELD;
use crate::state::{Export, Request, Tab, ViewerState};
use crate::style::named_text;

/// What each page can write, by name.
const EXPORTS: [(Tab, Export, &str); 11] = [
    (Tab::Image, Export::ImagePng, "Image with boxes (PNG)"),
    (Tab::Image, Export::ImageSvg, "Image with boxes (SVG)"),
    (Tab::Image, Export::BoxesCsv, "Boxes and verdicts (CSV)"),
    (Tab::Image, Export::GatesCsv, "Gates of this image (CSV)"),
    (
        Tab::Image,
        Export::GatesFigure,
        "Gates of this image (PNG, SVG)",
    ),
    (
        Tab::Image,
        Export::ChannelGrid,
        "Maps of the shown channels (PNG)",
    ),
    (
        Tab::Gates,
        Export::Statistics,
        "Figures 6 and 7, heat map, table, file",
    ),
    (Tab::Data, Export::DataCsv, "Histograms and confusion (CSV)"),
    (Tab::Data, Export::Metrics, "Metrics (JSON, PNG, SVG)"),
    (Tab::Training, Export::Training, "Curves (PNG, SVG, CSV)"),
    (Tab::Model, Export::ModelCsv, "Layers (CSV)"),
];

/// Draw the bar.
pub fn show(ui: &mut Ui, state: &mut ViewerState) {
    ui.horizontal(|ui| {
        for tab in Tab::ALL {
            if ui.selectable_label(state.tab == tab, tab.name()).clicked() {
                state.tab = tab;
            }
        }
        ui.separator();
        let right = 330.0;
        let width = (ui.available_width() - right).max(120.0);
        let field = TextEdit::singleline(&mut state.path)
            .id(Id::unique(PATH_FIELD))
            .hint_text("an image, directory, dataset, run, checkpoint, results or excitation file")
            .desired_width(width);
        let field = ui.add(field);
        field.widget_info(|| named_text("Path"));
        let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        let open = ui.button("Open").clicked() || entered;
        if open && !state.path.trim().is_empty() {
            state
                .requests
                .push(Request::Open(state.path.trim().to_owned()));
        }
        ui.menu_button("Export", |ui| exports(ui, state));
        ui.menu_button("Compare", |ui| super::image::compare_menu(ui, state));
        let theme = match state.settings.dark {
            true => "Light",
            false => "Dark",
        };
        if ui
            .button(theme)
            .on_hover_text("light or dark window")
            .clicked()
        {
            state.settings.dark = !state.settings.dark;
        }
        if ui.button("?").on_hover_text("the keys").clicked() {
            state.show_help = !state.show_help;
        }
    });
}

fn exports(ui: &mut Ui, state: &mut ViewerState) {
    for (tab, export, name) in EXPORTS {
        if tab == state.tab && ui.button(name).clicked() {
            state.requests.push(Request::Export(export));
            ui.close();
        }
    }
    ui.separator();
    ui.label("Directory");
    let mut directory = state.settings.export_directory.display().to_string();
    let field = ui.add(TextEdit::singleline(&mut directory).desired_width(240.0));
    field.widget_info(|| named_text("Export directory"));
    if field.changed() {
        state.settings.export_directory = directory.into();
    }
}
