//! Gate statistics over a dataset: class curves, channel histograms, dead and saturated channels.

use egui::{ComboBox, RichText, ScrollArea, Slider, Ui};
use egui_extras::{Column, TableBuilder};
use egui_plot::{Bar, BarChart, HoverPosition, Plot};

use super::axes;
use super::gate_difference;
use super::heat_map::HeatMap;
use super::line_chart::{ChartLine, LineChart};
use super::{Panel, PanelContext};
use crate::chrome::open_menu::start_page;
use crate::state::export::{Export, ExportFiles};
use crate::state::{NetworkInfo, PanelId, Request, StatisticsSource, ViewerState};
use crate::style::{class_on, count, hint, named_field, named_number, number, part_of_window};
use crate::textures::Textures;
use sedet_core::excitation::blocks::default_blocks;
use sedet_core::excitation::selection::{default_classes, short_name, spread};
use sedet_core::excitation::statistics::{BINS, gate_range};
use sedet_core::excitation::{BlockStatistics, Excitation, Selection};
use sedet_core::render::save_excitation_figures;
use sedet_data::annotations::layout::Split;

/// The number of images of a quick measurement.
const QUICK: usize = 100;
/// Width of the table of blocks with all its columns, in points.
const BLOCKS: f32 = 500.0;

/// Gate statistics over a dataset.
pub(crate) struct GateStatisticsPanel;

impl Panel for GateStatisticsPanel {
    fn id(&self) -> PanelId {
        PanelId::GATES
    }

    fn show(&self, ui: &mut Ui, context: &mut PanelContext<'_>) {
        show(ui, context.state, context.textures);
    }

    fn before_export(&self, state: &ViewerState) -> Vec<Request> {
        let has_units = |network: &NetworkInfo| !network.blocks.is_empty();
        let measures =
            state.statistics.is_none() && state.networks[0].as_ref().is_some_and(has_units);
        measures
            .then_some(Request::MeasureGates(None))
            .into_iter()
            .collect()
    }

    fn exports(&self) -> &'static [Export] {
        EXPORTS
    }
}

static EXPORTS: &[Export] = &[Export {
    name: "Figures 6 and 7, heat map, table, excitation file",
    write: export_statistics,
}];

fn export_statistics(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    let excitation = state.statistics.as_ref();
    let excitation = excitation.ok_or("no gate statistics are open")?;
    let choice = &state.statistics_choice;
    let blocks: Vec<_> = excitation.blocks.iter().map(|b| b.block.clone()).collect();
    let mut blocks = default_blocks(&blocks);
    if !blocks.contains(&choice.block) {
        blocks.push(choice.block);
        blocks.sort_unstable();
    }
    let classes = if choice.classes.is_empty() {
        default_classes(excitation.class_counts())
    } else {
        choice.classes.clone()
    };
    let selection = Selection {
        blocks,
        classes,
        channels: choice.channels,
    };
    const FILES: [&str; 2] = ["excitation.safetensors", "class-activations.svg"];
    let directory = files.directory_for("gate-statistics", &FILES)?;
    let figures = save_excitation_figures(excitation, &selection, &directory, files.figure_scale());
    files.add(figures.map_err(|e| e.to_string())?);
    files.text("statistics.csv", &excitation.to_csv())?;
    let path = directory.join(FILES[0]);
    excitation.save(&path).map_err(|e| e.to_string())?;
    files.add([path]);
    Ok(())
}

fn show(ui: &mut Ui, state: &mut ViewerState, textures: &mut Textures) {
    let Some(excitation) = state.statistics.clone() else {
        start_page(
            ui,
            state,
            "No gate statistics are open",
            "Open an excitation file, or open a network with SE blocks and a dataset and measure its gates here.",
        );
        ui.vertical_centered(|ui| measure(ui, state));
        return;
    };
    ui.horizontal(|ui| measure(ui, state));
    source(ui, state, &excitation);
    let choice = &mut state.statistics_choice;
    choice.block = choice.block.min(excitation.blocks.len() - 1);
    egui::Panel::left("blocks")
        .resizable(true)
        .default_size(BLOCKS.min(ui.available_width() * 0.45))
        .show(ui, |ui| {
            blocks(ui, state, &excitation);
        });
    egui::CentralPanel::default().show(ui, |ui| {
        ScrollArea::vertical()
            .id_salt("gates page")
            .auto_shrink([false, false])
            .show(ui, |ui| {
                curves(ui, state, &excitation);
                gate_difference::show(ui, state);
                heat_map(ui, state, &excitation, textures);
                channel(ui, state, &excitation);
            });
    });
}

/// States which network and images the numbers are of.
fn source(ui: &mut Ui, state: &ViewerState, excitation: &Excitation) {
    let origin = &excitation.origin;
    let images = count(origin.images as usize, "image");
    let images = format!("{images} of {} {}", origin.dataset, origin.split);
    let text = match &state.statistics_source {
        StatisticsSource::Network { title, .. } => format!("{images}, measured with {title}"),
        StatisticsSource::File(name) => format!("{images}, from {name}"),
        StatisticsSource::None => images,
    };
    hint(ui, text);
    if let Some(network) = &state.networks[0]
        && !state.has_own_statistics()
    {
        ui.label(format!(
            "These are the gates of another network than {}, so its gates are not compared with them.",
            network.title
        ));
    }
}

fn measure(ui: &mut Ui, state: &mut ViewerState) {
    let has_blocks = state.networks[0]
        .as_ref()
        .is_some_and(|n| !n.blocks.is_empty());
    let images = state.image_count();
    if !has_blocks || images == 0 || !state.progress.is_empty() {
        return;
    }
    if images > QUICK && ui.button(format!("Measure {QUICK} images")).clicked() {
        state.requests.push(Request::MeasureGates(Some(QUICK)));
    }
    let all = format!("Measure all {}", count(images, "image"));
    if ui.button(all).clicked() {
        state.requests.push(Request::MeasureGates(None));
    }
}

/// A row for each block.
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
                    "block",
                    "mean",
                    "std",
                    "dead",
                    "saturated",
                    "low var.",
                    "selectivity",
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
                        number(summary.std),
                        summary.dead.to_string(),
                        summary.saturated.to_string(),
                        match summary.low_variance {
                            Some(channels) => channels.to_string(),
                            None => number(None),
                        },
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
    flagged_channels(ui, state, excitation);
}

/// Lists the channels that are dead, saturated or of low variance.
fn flagged_channels(ui: &mut Ui, state: &mut ViewerState, excitation: &Excitation) {
    let at = state.statistics_choice.block;
    let block = &excitation.blocks[at];
    let flagged: Vec<(usize, &str)> = excitation
        .channel_flags(at)
        .into_iter()
        .enumerate()
        .filter_map(|(channel, flags)| Some((channel, flags.name()?)))
        .collect();
    ui.separator();
    ui.strong(format!(
        "{}: {} dead, saturated or of low variance",
        block.block.name,
        count(flagged.len(), "channel")
    ));
    let height = ui.spacing().interact_size.y;
    ScrollArea::vertical()
        .id_salt("flagged channels")
        .auto_shrink([false, true])
        .show_rows(ui, height, flagged.len(), |ui, rows| {
            for &(channel, kind) in flagged.get(rows).unwrap_or_default() {
                let mean = block.all.mean[channel];
                let text = format!("channel {channel}: {kind}, mean {mean:.3}");
                let chosen = state.statistics_choice.channel == channel;
                if ui.selectable_label(chosen, text).clicked() {
                    state.statistics_choice.channel = channel;
                }
            }
        });
}

/// Figure 6 of the SENet paper, optionally with the bands of figure 7, or the difference of two classes.
fn curves(ui: &mut Ui, state: &mut ViewerState, excitation: &Excitation) {
    let classes = &excitation.origin.classes;
    let counts = excitation.class_counts();
    let choice = &mut state.statistics_choice;
    ui.horizontal_wrapped(|ui| {
        let chosen = choice.classes.len();
        named_field(ui, "classes", |ui| {
            ComboBox::from_id_salt("classes")
                .selected_text(format!("{chosen} selected"))
                .close_behavior(egui::PopupCloseBehavior::CloseOnClickOutside)
                .show_ui(ui, |ui| {
                    for (label, name) in classes.iter().enumerate().filter(|(l, _)| counts[*l] > 0)
                    {
                        let mut on = choice.classes.contains(&label);
                        let text = format!("{} ({})", short_name(name), counts[label]);
                        if ui.checkbox(&mut on, text).changed() {
                            if on {
                                choice.classes.push(label);
                            } else {
                                choice.classes.retain(|c| *c != label);
                            }
                        }
                    }
                })
                .response
        });
        named_field(ui, "channels", |ui| {
            ui.add(Slider::new(&mut choice.channels, 4..=512).logarithmic(true))
        });
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
    ui.strong(if shows_difference {
        let [a, b] = [choice.classes[0], choice.classes[1]].map(name);
        format!("{}: {a} minus {b}", block.block.name)
    } else {
        format!("{}: mean gates", block.block.name)
    });
    if channels.len() < block.all.mean.len() {
        hint(
            ui,
            format!(
                "{} of {} channels, evenly spread",
                channels.len(),
                block.all.mean.len()
            ),
        );
    }
    let lines = if shows_difference {
        let [a, b] = [choice.classes[0], choice.classes[1]];
        vec![difference_line(ui, block, &channels, [a, b])]
    } else {
        class_lines(ui, block, &channels, &choice.classes, choice.band, name)
    };
    let chart = LineChart {
        name: "class curves",
        x: "channel",
        y: "gate",
        height: part_of_window(ui, 260.0, 0.3),
        include: if shows_difference { &[[0.0, 0.0]] } else { &[] },
        lines,
        ..LineChart::default()
    };
    if let Some(at) = chart.show(ui) {
        // The channel that is drawn nearest to the click.
        let distance = |channel: &&usize| (**channel as f64 - at.x).abs();
        let nearest = channels
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        choice.channel = nearest.copied().unwrap_or(choice.channel);
    }
}

/// Returns the difference of the mean gates of two classes.
fn difference_line(
    ui: &Ui,
    block: &BlockStatistics,
    channels: &[usize],
    [a, b]: [usize; 2],
) -> ChartLine {
    let [a, b] = [a, b].map(|label| &block.classes[label].mean);
    let points = channels.iter();
    ChartLine {
        name: "difference".to_owned(),
        points: points
            .map(|&channel| [channel as f64, f64::from(a[channel] - b[channel])])
            .collect(),
        color: class_on(ui, 0),
        width: 1.5,
        band: None,
    }
}

/// Returns the mean gates of all classes and of the chosen ones, at their channels.
fn class_lines(
    ui: &Ui,
    block: &BlockStatistics,
    channels: &[usize],
    classes: &[usize],
    band: bool,
    name: impl Fn(usize) -> String,
) -> Vec<ChartLine> {
    let points = |values: &[f32]| -> Vec<[f64; 2]> {
        let points = channels.iter();
        points
            .map(|&channel| [channel as f64, f64::from(values[channel])])
            .collect()
    };
    let all = ChartLine {
        name: "all classes".to_owned(),
        points: points(&block.mean_of_classes()),
        color: ui.visuals().text_color(),
        width: 2.5,
        band: None,
    };
    let classes = classes.iter().map(|&label| {
        let statistics = &block.classes[label];
        let std = || {
            channels
                .iter()
                .map(|&channel| f64::from(statistics.std[channel]))
        };
        ChartLine {
            name: name(label),
            points: points(&statistics.mean),
            color: class_on(ui, label),
            width: 1.5,
            band: band.then(|| std().collect()),
        }
    });
    std::iter::once(all).chain(classes).collect()
}

/// The mean over all images: a row for each block, a cell for each channel.
fn heat_map(
    ui: &mut Ui,
    state: &mut ViewerState,
    excitation: &Excitation,
    textures: &mut Textures,
) {
    ui.strong("mean gates, blocks by channels");
    let blocks = excitation.blocks.iter();
    let heat_map = HeatMap {
        name: "mean gates of all blocks",
        key: std::ptr::from_ref(excitation) as u64,
        rows: blocks
            .map(|b| (b.block.name.as_str(), b.all.mean.as_slice()))
            .collect(),
        selected: state.statistics_choice.block,
    };
    if let Some((block, channel)) = heat_map.show(ui, textures) {
        state.statistics_choice.block = block;
        state.statistics_choice.channel = channel;
    }
}

/// The histogram of a channel and the images with its smallest and largest gates.
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
    let chart = BarChart::new("images", bars.collect()).allow_hover(false);
    let of_bins = counts.to_vec();
    axes::with_marks(Plot::new("channel histogram"), [false, false])
        .label_formatter(move |at| {
            let (HoverPosition::NearDataPoint { position, .. }
            | HoverPosition::Elsewhere { position }) = at;
            let bin = ((position.x - start) / width).floor();
            let count = of_bins.get(bin.max(0.0) as usize).filter(|_| bin >= 0.0)?;
            let from = start + bin * width;
            Some(format!(
                "gate {from:.3} to {:.3}: {count} images",
                from + width
            ))
        })
        .height(140.0)
        .allow_scroll(false)
        .x_axis_label("gate")
        .y_axis_label("images")
        .show(ui, |plot| plot.bar_chart(chart));
    extremes(ui, state, excitation, block, channel);
}

/// Lists the images with the smallest and the largest gates, if their dataset is open.
fn extremes(
    ui: &mut Ui,
    state: &mut ViewerState,
    excitation: &Excitation,
    block: &BlockStatistics,
    channel: usize,
) {
    let Some(collection) = state.collection.clone() else {
        hint(
            ui,
            "open the dataset to see the images with the smallest and largest gates",
        );
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
    for (name, images) in [("smallest", &block.lowest), ("largest", &block.highest)] {
        let images = images.get(channel).cloned().unwrap_or_default();
        ui.horizontal_wrapped(|ui| {
            ui.label(format!("{name}:"));
            for &index in &images {
                if (index as usize) < collection.len()
                    && ui.button(collection.image_title(index as usize)).clicked()
                {
                    let label = format!("{name} gates of {} {channel}", block.block.name);
                    state.pick(label, images.clone());
                    state.shows_first = false;
                    state.go_to(index as usize);
                    state.gates.channel = Some(channel);
                    let names = state.networks[0].iter().flat_map(|n| n.blocks.iter());
                    let at = names.into_iter().position(|n| *n == block.block.name);
                    state.gates.block = at.unwrap_or(state.gates.block);
                }
            }
        });
    }
    ui.label(
        RichText::new("click an image to show it with the feature map of this channel")
            .weak()
            .size(11.0),
    );
}
