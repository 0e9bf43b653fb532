//! Gates over a dataset: curves of classes, histograms of channels, what is dead or always open.

use egui::{Color32, ColorImage, ComboBox, RichText, ScrollArea, Sense, Slider, Ui, vec2};
use egui_extras::{Column, TableBuilder};
use egui_plot::{Bar, BarChart, FilledArea, Legend, Line, Plot, PlotPoints};

use crate::state::{Request, ViewerState};
use crate::style::{class_on, color, empty_page, hint, named_number, number};
use crate::textures::Textures;
use sedet_core::excitation::selection::{short_name, spread};
use sedet_core::excitation::statistics::{BINS, gate_range};
use sedet_core::excitation::{BlockStatistics, Excitation};
use sedet_core::render::maps::map_color;
use sedet_data::annotations::layout::Split;

/// Images that a quick measurement looks at.
const QUICK: usize = 100;
/// Height of a row of the heat map in points.
const ROW: f32 = 10.0;

/// Draw the page.
pub fn show(ui: &mut Ui, state: &mut ViewerState, textures: &mut Textures) {
    measure(ui, state);
    let Some(excitation) = state.statistics.clone() else {
        empty_page(
            ui,
            "No gates of a dataset yet",
            "Open a file of sedet excite, or a network with SE units and a dataset, and measure here.",
        );
        return;
    };
    let origin = &excitation.origin;
    hint(
        ui,
        format!(
            "{} images of {} {}",
            origin.images, origin.dataset, origin.split
        ),
    );
    let choice = &mut state.statistics_choice;
    choice.block = choice.block.min(excitation.blocks.len() - 1);
    egui::Panel::left("blocks")
        .resizable(true)
        .default_size(380.0)
        .show(ui, |ui| {
            blocks(ui, state, &excitation);
        });
    egui::CentralPanel::default().show(ui, |ui| {
        ScrollArea::vertical()
            .auto_shrink([false, false])
            .show(ui, |ui| {
                curves(ui, state, &excitation);
                heat_map(ui, state, &excitation, textures);
                channel(ui, state, &excitation);
            });
    });
}

fn measure(ui: &mut Ui, state: &mut ViewerState) {
    let has_units = state.networks[0]
        .as_ref()
        .is_some_and(|n| !n.blocks.is_empty());
    let count = state.image_count();
    if !has_units || count == 0 || !state.progress.is_empty() {
        return;
    }
    ui.horizontal(|ui| {
        if count > QUICK && ui.button(format!("Measure {QUICK} images")).clicked() {
            state.requests.push(Request::MeasureGates(Some(QUICK)));
        }
        if ui.button(format!("Measure all {count} images")).clicked() {
            state.requests.push(Request::MeasureGates(None));
        }
    });
}

/// A row for each block, as `sedet excite` prints them.
fn blocks(ui: &mut Ui, state: &mut ViewerState, excitation: &Excitation) {
    let summaries = excitation.summaries();
    let height = ui.text_style_height(&egui::TextStyle::Body) + 4.0;
    ScrollArea::horizontal().show(ui, |ui| {
        TableBuilder::new(ui)
            .id_salt("statistics")
            .striped(true)
            .cell_layout(egui::Layout::left_to_right(egui::Align::Center))
            .cell_layout(egui::Layout::left_to_right(egui::Align::Center))
            .column(Column::auto().at_least(80.0))
            .columns(Column::auto().at_least(40.0), 6)
            .header(height, |mut header| {
                for title in [
                    "block", "mean", "std", "dead", "open", "low var.", "select.",
                ] {
                    header.col(|ui| {
                        ui.strong(title);
                    });
                }
            })
            .body(|body| {
                body.rows(height, summaries.len(), |mut row| {
                    let at = row.index();
                    let summary = &summaries[at];
                    row.set_selected(state.statistics_choice.block == at);
                    row.col(|ui| {
                        let chosen = state.statistics_choice.block == at;
                        if ui.selectable_label(chosen, &summary.block).clicked() {
                            state.statistics_choice.block = at;
                            state.statistics_choice.channel = 0;
                        }
                    });
                    let cells = [
                        number(Some(summary.mean)),
                        number(Some(summary.std)),
                        summary.dead.to_string(),
                        summary.saturated.to_string(),
                        summary.low_variance.to_string(),
                        number(summary.selectivity),
                    ];
                    for cell in cells {
                        row.col(|ui| {
                            ui.label(cell);
                        });
                    }
                });
            });
    });
    special_channels(ui, state, excitation);
}

/// Channels that are dead, saturated or hardly move.
fn special_channels(ui: &mut Ui, state: &mut ViewerState, excitation: &Excitation) {
    let block = &excitation.blocks[state.statistics_choice.block];
    let limits = &excitation.thresholds;
    let kind = |channel: usize| {
        if block.is_dead(channel, limits) {
            Some("dead")
        } else if block.is_saturated(channel, excitation.gate, limits) {
            Some("saturated")
        } else if block.has_low_variance(channel, limits) {
            Some("low variance")
        } else {
            None
        }
    };
    let special: Vec<(usize, &str)> = (0..block.all.mean.len())
        .filter_map(|channel| Some((channel, kind(channel)?)))
        .collect();
    ui.separator();
    ui.strong(format!(
        "{}: {} channels stand out",
        block.block.name,
        special.len()
    ));
    let height = ui.spacing().interact_size.y;
    ScrollArea::vertical()
        .id_salt("special")
        .auto_shrink([false, true])
        .show_rows(ui, height, special.len(), |ui, rows| {
            for &(channel, kind) in special.get(rows).unwrap_or_default() {
                let mean = block.all.mean[channel];
                let text = format!("channel {channel}: {kind}, mean {mean:.3}");
                let chosen = state.statistics_choice.channel == channel;
                if ui.selectable_label(chosen, text).clicked() {
                    state.statistics_choice.channel = channel;
                }
            }
        });
}

/// Figure 6 of the paper, with figure 7's bands on request; or the difference of two classes.
fn curves(ui: &mut Ui, state: &mut ViewerState, excitation: &Excitation) {
    let classes = &excitation.origin.classes;
    let counts = excitation.class_counts();
    let choice = &mut state.statistics_choice;
    ui.horizontal_wrapped(|ui| {
        let chosen = choice.classes.len();
        ComboBox::from_label("classes")
            .selected_text(format!("{chosen} chosen"))
            .close_behavior(egui::PopupCloseBehavior::CloseOnClickOutside)
            .show_ui(ui, |ui| {
                for (label, name) in classes.iter().enumerate().filter(|(l, _)| counts[*l] > 0) {
                    let mut on = choice.classes.contains(&label);
                    let text = format!("{} ({})", short_name(name), counts[label]);
                    if ui.checkbox(&mut on, text).changed() {
                        match on {
                            true => choice.classes.push(label),
                            false => choice.classes.retain(|c| *c != label),
                        }
                    }
                }
            });
        ui.add(
            Slider::new(&mut choice.channels, 4..=512)
                .logarithmic(true)
                .text("channels"),
        );
        ui.checkbox(&mut choice.band, "± std");
        ui.add_enabled(
            choice.classes.len() >= 2,
            egui::Checkbox::new(&mut choice.difference, "difference of the first two"),
        );
    });
    let block = &excitation.blocks[choice.block];
    let channels = spread(block.all.mean.len(), choice.channels);
    let name = |label: usize| short_name(&classes[label]).to_owned();
    let shows_difference = choice.difference && choice.classes.len() >= 2;
    ui.strong(match shows_difference {
        true => {
            let [a, b] = [choice.classes[0], choice.classes[1]].map(name);
            format!("{}: {a} less {b}", block.block.name)
        }
        false => format!("{}: mean gates", block.block.name),
    });
    let plot = Plot::new("class curves")
        .height(260.0)
        .legend(Legend::default())
        .allow_scroll(false)
        .x_axis_label("channel");
    let response = match shows_difference {
        true => {
            let [a, b] =
                [choice.classes[0], choice.classes[1]].map(|label| &block.classes[label].mean);
            let bars = channels.iter().enumerate().map(|(at, &channel)| {
                Bar::new(at as f64, f64::from(a[channel] - b[channel])).width(0.8)
            });
            let chart = BarChart::new("difference", bars.collect());
            plot.show(ui, |plot| {
                plot.bar_chart(chart);
                plot.pointer_coordinate()
            })
        }
        false => {
            let lines = class_lines(ui, block, &channels, &choice.classes, choice.band, name);
            plot.show(ui, |plot| {
                for (line, band) in lines {
                    if let Some(band) = band {
                        plot.add(band);
                    }
                    plot.line(line);
                }
                plot.pointer_coordinate()
            })
        }
    };
    if response.response.clicked()
        && let Some(at) = response.inner
        && let Some(&channel) = channels.get(at.x.round().max(0.0) as usize)
    {
        choice.channel = channel;
    }
}

fn class_lines<'a>(
    ui: &Ui,
    block: &BlockStatistics,
    channels: &[usize],
    classes: &[usize],
    band: bool,
    name: impl Fn(usize) -> String,
) -> Vec<(Line<'a>, Option<FilledArea>)> {
    let points = |values: &[f32]| -> PlotPoints<'a> {
        let points = channels.iter().enumerate();
        points
            .map(|(at, &channel)| [at as f64, f64::from(values[channel])])
            .collect()
    };
    let all = block.mean_of_classes();
    let ink = ui.visuals().text_color();
    let all = Line::new("all classes", points(&all)).color(ink).width(2.5);
    let mut lines = vec![(all, None)];
    for &label in classes {
        let statistics = &block.classes[label];
        let color = class_on(ui, label);
        let line = Line::new(name(label), points(&statistics.mean))
            .color(color)
            .width(1.5);
        let area = band.then(|| {
            let xs: Vec<f64> = (0..channels.len()).map(|at| at as f64).collect();
            let edge = |sign: f32| -> Vec<f64> {
                let value = |&c: &usize| f64::from(statistics.mean[c] + sign * statistics.std[c]);
                channels.iter().map(value).collect()
            };
            FilledArea::new(name(label), &xs, &edge(-1.0), &edge(1.0))
                .fill_color(color.gamma_multiply(0.2))
        });
        lines.push((line, area));
    }
    lines
}

/// The mean over all images: a row for each block, a cell for each channel.
fn heat_map(
    ui: &mut Ui,
    state: &mut ViewerState,
    excitation: &Excitation,
    textures: &mut Textures,
) {
    let rows = excitation.blocks.len();
    let columns = excitation
        .blocks
        .iter()
        .map(|b| b.all.mean.len())
        .max()
        .unwrap_or(1);
    let columns = columns.min(ui.input(|input| input.max_texture_side));
    ui.strong("mean gates, blocks by channels");
    let key = std::ptr::from_ref(excitation) as u64;
    let texture = textures.made(ui.ctx(), "statistics", key, || {
        let pixels = excitation.blocks.iter().flat_map(|block| {
            (0..columns).map(|column| {
                let channel = column * block.all.mean.len() / columns;
                color(map_color(block.all.mean[channel]))
            })
        });
        ColorImage::new([columns, rows], pixels.collect())
    });
    let size = vec2(ui.available_width(), rows as f32 * ROW);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    response.widget_info(|| {
        egui::WidgetInfo::labeled(egui::Role::Image, true, "mean gates of all blocks")
    });
    let all = egui::Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0));
    ui.painter().image(texture.id(), rect, all, Color32::WHITE);
    if let Some(pointer) = response.hover_pos() {
        let block = (((pointer.y - rect.top()) / ROW) as usize).min(rows - 1);
        let mean = &excitation.blocks[block].all.mean;
        let share = ((pointer.x - rect.left()) / rect.width()).clamp(0.0, 0.999_9);
        let channel = (share * mean.len() as f32) as usize;
        if response.clicked() {
            state.statistics_choice.block = block;
            state.statistics_choice.channel = channel;
        }
        let name = &excitation.blocks[block].block.name;
        response.on_hover_text(format!("{name} channel {channel}: {:.4}", mean[channel]));
    }
}

/// The histogram of a channel and the images at its ends.
fn channel(ui: &mut Ui, state: &mut ViewerState, excitation: &Excitation) {
    let block = &excitation.blocks[state.statistics_choice.block];
    let last = block.all.mean.len() - 1;
    let choice = &mut state.statistics_choice;
    choice.channel = choice.channel.min(last);
    ui.horizontal(|ui| {
        ui.strong(format!("{} channel", block.block.name));
        ui.add(egui::DragValue::new(&mut choice.channel).range(0..=last))
            .widget_info(|| named_number("channel"));
        let channel = choice.channel;
        let all = &block.all;
        hint(
            ui,
            format!(
                "mean {:.4}, std {:.4}, {:.4} to {:.4}",
                all.mean[channel], all.std[channel], all.minimum[channel], all.maximum[channel]
            ),
        );
    });
    let channel = choice.channel;
    let counts = &block.histogram[channel * BINS..(channel + 1) * BINS];
    let [start, end] = gate_range(excitation.gate).map(f64::from);
    let width = (end - start) / BINS as f64;
    let bars = counts.iter().enumerate().map(|(bin, &count)| {
        Bar::new(start + (bin as f64 + 0.5) * width, f64::from(count)).width(width * 0.95)
    });
    let chart = BarChart::new("images", bars.collect());
    Plot::new("channel histogram")
        .height(140.0)
        .allow_scroll(false)
        .x_axis_label("gate")
        .y_axis_label("images")
        .show(ui, |plot| plot.bar_chart(chart));
    extremes(ui, state, excitation, block, channel);
}

/// Images with the smallest and the largest gates, if the dataset is the one on show.
fn extremes(
    ui: &mut Ui,
    state: &mut ViewerState,
    excitation: &Excitation,
    block: &BlockStatistics,
    channel: usize,
) {
    let Some(collection) = state.collection.clone() else {
        hint(ui, "open the dataset to see the images at the ends");
        return;
    };
    let origin = &excitation.origin;
    let split = collection.split.unwrap_or(Split::Val).to_string();
    if (&collection.name, &split) != (&origin.dataset, &origin.split) {
        hint(
            ui,
            format!(
                "measured on {} {}; open it to see the images",
                origin.dataset, origin.split
            ),
        );
        return;
    }
    for (name, pictures) in [("smallest", &block.lowest), ("largest", &block.highest)] {
        let pictures = pictures.get(channel).cloned().unwrap_or_default();
        ui.horizontal_wrapped(|ui| {
            ui.label(format!("{name}:"));
            for &picture in &pictures {
                if (picture as usize) < collection.len()
                    && ui
                        .button(collection.image_title(picture as usize))
                        .clicked()
                {
                    let label = format!("{name} gates of {} {channel}", block.block.name);
                    state.pick(label, pictures.clone());
                    state.go_to(picture as usize);
                    state.gates.channel = Some(channel);
                    let names = state.networks[0].iter().flat_map(|n| n.blocks.iter());
                    let at = names.into_iter().position(|n| *n == block.block.name);
                    state.gates.block = at.unwrap_or(state.gates.block);
                }
            }
        });
    }
    ui.label(
        RichText::new("a click shows the image with this channel's map")
            .weak()
            .size(11.0),
    );
}
