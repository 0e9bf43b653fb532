//! The difference of the mean gates of two networks over the same images.

use egui::{ScrollArea, Ui};
use egui_extras::{Column, TableBuilder};

use crate::state::{BlockDifference, Request, ViewerState, gate_differences};
use crate::style::hint;

/// Draws the section, if there is a second network.
pub(super) fn show(ui: &mut Ui, state: &mut ViewerState) {
    let Some(second) = state.networks[1].clone() else {
        return;
    };
    ui.strong("Difference to the second network");
    let Some(first) = state.own_statistics().cloned() else {
        hint(
            ui,
            "measure the gates of the first network, then those of the second",
        );
        return;
    };
    let Some(measured) = state.second_statistics() else {
        if second.blocks.is_empty() {
            hint(ui, "the second network has no SE blocks");
        } else if state.progress.is_empty() {
            let text = "Measure the second network on the same images";
            if ui.button(text).clicked() {
                state.requests.push(Request::MeasureSecondGates);
            }
        }
        return;
    };
    match gate_differences(&first, measured) {
        Err(reason) => hint(ui, reason),
        Ok((blocks, left_out)) => {
            hint(
                ui,
                format!(
                    "mean gates of the first network minus those of {}, over the same {} images",
                    second.title, first.origin.images
                ),
            );
            if let Some(left_out) = left_out {
                hint(ui, format!("not compared: {left_out}"));
            }
            ui.horizontal_top(|ui| {
                table(ui, state, &blocks);
                let chosen = state.statistics_choice.block;
                if let Some(block) = blocks.iter().find(|block| block.index == chosen) {
                    channels(ui, state, block);
                }
            });
        }
    }
}

/// A row for each block.
fn table(ui: &mut Ui, state: &mut ViewerState, blocks: &[BlockDifference]) {
    let height = ui.text_style_height(&egui::TextStyle::Body) + 4.0;
    ui.vertical(|ui| {
        ui.set_max_width(300.0);
        TableBuilder::new(ui)
            .id_salt("gate differences")
            .striped(true)
            .cell_layout(egui::Layout::left_to_right(egui::Align::Center))
            .max_scroll_height(200.0)
            .column(Column::exact(120.0).clip(true))
            .column(Column::exact(150.0))
            .header(height, |mut header| {
                for title in ["block", "mean |difference|"] {
                    header.col(|ui| {
                        ui.strong(title);
                    });
                }
            })
            .body(|body| {
                body.rows(height, blocks.len(), |mut row| {
                    let block = &blocks[row.index()];
                    let mean = block.mean_absolute();
                    let is_chosen = state.statistics_choice.block == block.index;
                    row.set_selected(is_chosen);
                    row.col(|ui| {
                        let response = ui.selectable_label(is_chosen, &block.block);
                        response.widget_info(|| {
                            let label = format!("{}: mean difference {mean:.4}", block.block);
                            egui::WidgetInfo::selected(egui::Role::Button, true, is_chosen, label)
                        });
                        if response.clicked() {
                            state.statistics_choice.block = block.index;
                            let first = block.channels().first().copied();
                            state.statistics_choice.channel = first.unwrap_or_default();
                        }
                    });
                    row.col(|ui| {
                        ui.label(format!("{mean:.4}"));
                    });
                });
            });
    });
}

/// The channels of the chosen block, the largest difference first.
fn channels(ui: &mut Ui, state: &mut ViewerState, block: &BlockDifference) {
    let channels = block.channels();
    let height = ui.spacing().interact_size.y;
    ui.vertical(|ui| {
        ui.strong(format!("channels of {}", block.block));
        ScrollArea::vertical()
            .id_salt("channels by difference")
            .max_height(180.0)
            .auto_shrink([false, true])
            .show_rows(ui, height, channels.len(), |ui, rows| {
                for &channel in channels.get(rows).unwrap_or_default() {
                    let by = block.differences[channel];
                    let text = format!("channel {channel}: {by:+.4}");
                    let is_chosen = state.statistics_choice.channel == channel;
                    if ui.selectable_label(is_chosen, text).clicked() {
                        state.statistics_choice.channel = channel;
                    }
                }
            });
    });
}
