//! The layers of the network with parameters and multiply-adds.

use egui::Ui;
use egui_extras::{Column, TableBuilder};

use super::{Panel, PanelContext};
use crate::chrome::open_menu::start_page;
use crate::state::export::Export;
use crate::state::{PanelId, ViewerState};
use crate::style::{CORRECT, count, hint, verdict_text};
use sedet_core::backbones::summary::LayerKind;

/// The layers of the network.
pub(crate) struct ModelPanel;

impl Panel for ModelPanel {
    fn id(&self) -> PanelId {
        PanelId::MODEL
    }

    fn show(&self, ui: &mut Ui, context: &mut PanelContext<'_>) {
        show(ui, context.state);
    }

    fn exports(&self) -> &'static [Export] {
        EXPORTS
    }
}

static EXPORTS: &[Export] = &[Export {
    name: "Layers (CSV)",
    write: |state, files| {
        let model = state.model.as_ref().ok_or("no network is open")?;
        files.text("model.csv", &model.to_csv())
    },
}];

fn show(ui: &mut Ui, state: &mut ViewerState) {
    let Some(model) = state.model.clone() else {
        start_page(
            ui,
            state,
            "No network is open",
            "Open a checkpoint to see its layers.",
        );
        return;
    };
    let summary = &model.summary;
    ui.strong(&model.title);
    let [parameters, macs] = model.se_share().map(|share| share * 100.0);
    ui.label(format!(
        "{:.3} M parameters, {:.3} G multiply-adds at {}×{}; SE blocks account for {parameters:.2} % of the \
         parameters and {macs:.2} % of the multiply-adds",
        summary.parameters() as f64 / 1e6,
        summary.macs() as f64 / 1e9,
        model.side,
        model.side,
    ));
    hint(ui, count(summary.layers.len(), "layer"));
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
                    if layer.kind == LayerKind::Se {
                        ui.colored_label(verdict_text(ui, CORRECT), &layer.name);
                    } else {
                        ui.label(&layer.name);
                    }
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
