//! The layers of the network and what they cost.

use egui::Ui;
use egui_extras::{Column, TableBuilder};

use crate::state::ViewerState;
use crate::style::{CORRECT, empty_page, hint};
use sedet_core::backbones::summary::LayerKind;

/// Draw the page.
pub fn show(ui: &mut Ui, state: &ViewerState) {
    let Some(model) = &state.model else {
        empty_page(
            ui,
            "No network is open",
            "Open a checkpoint to see its layers.",
        );
        return;
    };
    let summary = &model.summary;
    ui.strong(&model.title);
    let [parameters, macs] = model.se_share().map(|share| share * 100.0);
    ui.label(format!(
        "{:.3} M parameters, {:.3} G multiply-adds at {}×{}; SE units are {parameters:.2} % of the \
         parameters and {macs:.2} % of the multiply-adds",
        summary.parameters() as f64 / 1e6,
        summary.macs() as f64 / 1e9,
        model.side,
        model.side,
    ));
    hint(ui, format!("{} layers", summary.layers.len()));
    let height = ui.text_style_height(&egui::TextStyle::Body) + 3.0;
    TableBuilder::new(ui)
        .id_salt("layers")
        .striped(true)
        .cell_layout(egui::Layout::left_to_right(egui::Align::Center))
        .column(Column::remainder().at_least(200.0).clip(true))
        .columns(Column::exact(110.0), 4)
        .header(height, |mut header| {
            for title in ["layer", "kind", "output", "parameters", "MACs"] {
                header.col(|ui| {
                    ui.strong(title);
                });
            }
        })
        .body(|body| {
            body.rows(height, summary.layers.len(), |mut row| {
                let layer = &summary.layers[row.index()];
                row.col(|ui| {
                    match layer.kind == LayerKind::Se {
                        true => ui.colored_label(CORRECT, &layer.name),
                        false => ui.label(&layer.name),
                    };
                });
                let cells = [
                    layer.kind.name().to_owned(),
                    layer.shape(),
                    layer.parameters.to_string(),
                    layer.macs.to_string(),
                ];
                for cell in cells {
                    row.col(|ui| {
                        ui.label(cell);
                    });
                }
            });
        });
}
