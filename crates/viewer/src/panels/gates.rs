//! The gates of the image: which channels the network turned up or down.

use egui::{Color32, ColorImage, ComboBox, RichText, Sense, Slider, Ui, vec2};
use egui_plot::{Bar, BarChart, HoverPosition, Plot};

use crate::state::{
    BlockGates, Compare, GateSort, Looked, MapSide, ViewerState, sorted_channels, top_channels,
};
use crate::style::{color, hint, named_number};
use crate::textures::Textures;
use sedet_core::render::maps::map_color;
use sedet_data::boxes::BoxXyxy;

/// Height of the bars in points.
const BARS: f32 = 130.0;
/// Height of a row of the heat map in points.
const ROW: f32 = 9.0;

/// Draw the panel.
pub fn show(ui: &mut Ui, state: &mut ViewerState, textures: &mut Textures) {
    let current = state.current;
    let looked = state.looked[0].clone().filter(|l| l.image == current);
    let Some(looked) = looked else {
        if state.networks[0].is_none() {
            hint(ui, "Open a checkpoint to see what its SE units do.");
        }
        return;
    };
    let Some(last) = looked.blocks.len().checked_sub(1) else {
        hint(ui, "This network has no SE units.");
        return;
    };
    state.gates.block = state.gates.block.min(last);
    controls(ui, state, &looked);
    let block = &looked.blocks[state.gates.block];
    let (reference, name) = reference(state, block);
    bars(ui, state, block, reference.as_deref());
    if let Some(channel) = state.gates.channel {
        let gate = block.gates.get(channel).copied().unwrap_or_default();
        let difference = reference.as_ref().and_then(|r| r.get(channel));
        let difference = difference.map_or(String::new(), |other| {
            format!(", {:+.4} against {name}", gate - other)
        });
        ui.label(format!("channel {channel}: gate {gate:.4}{difference}"));
    } else {
        hint(ui, "click a bar or a cell: its map lies over the image");
    }
    heat_map(ui, state, &looked, textures);
    if state.gates.show_grid {
        grid(ui, state, &looked, textures);
    }
}

fn controls(ui: &mut Ui, state: &mut ViewerState, looked: &Looked) {
    let gates = &mut state.gates;
    ui.horizontal_wrapped(|ui| {
        let before = gates.block;
        ComboBox::from_label("block")
            .selected_text(&looked.blocks[gates.block].name)
            .width(110.0)
            .show_ui(ui, |ui| {
                for (at, block) in looked.blocks.iter().enumerate() {
                    ui.selectable_value(&mut gates.block, at, &block.name);
                }
            });
        if before != gates.block {
            gates.channel = None;
        }
        for (sort, name) in [
            (GateSort::Channel, "by channel"),
            (GateSort::Value, "by value"),
            (GateSort::Difference, "by standard deviation"),
        ] {
            ui.selectable_value(&mut gates.sort, sort, name);
        }
    });
    ui.horizontal_wrapped(|ui| {
        ui.selectable_value(&mut gates.side, MapSide::Before, "before scaling");
        ui.selectable_value(&mut gates.side, MapSide::After, "after");
        ui.add(
            Slider::new(&mut gates.opacity, 0.0..=1.0)
                .show_value(false)
                .text("opacity"),
        );
        ui.checkbox(&mut gates.show_grid, "most open");
        if gates.show_grid {
            ui.add(egui::DragValue::new(&mut gates.top).range(1..=32))
                .widget_info(|| named_number("how many"));
        }
        if gates.channel.is_some() && ui.button("map off").clicked() {
            gates.channel = None;
        }
    });
}

/// What the gates are compared with, and its name: the other half, or the mean over a dataset.
fn reference(state: &ViewerState, block: &BlockGates) -> (Option<Vec<f32>>, &'static str) {
    if state.compare != Compare::Off
        && let Some(other) = &state.looked[1]
        && let Some(other) = other.blocks.iter().find(|b| b.name == block.name)
        && other.gates.len() == block.gates.len()
    {
        return (Some(other.gates.clone()), "the other half");
    }
    let statistics = state.statistics.as_ref();
    let known = statistics.and_then(|s| s.blocks.iter().find(|b| b.block.name == block.name));
    let mean = known.map(|block| block.all.mean.clone());
    (
        mean.filter(|m| m.len() == block.gates.len()),
        "the dataset's mean",
    )
}

fn bars(ui: &mut Ui, state: &mut ViewerState, block: &BlockGates, reference: Option<&[f32]>) {
    let channels = sorted_channels(&block.gates, reference, state.gates.sort);
    let shows_difference = state.gates.sort == GateSort::Difference && reference.is_some();
    let value = |channel: usize| match (shows_difference, reference) {
        (true, Some(reference)) => block.gates[channel] - reference[channel],
        _ => block.gates[channel],
    };
    let chosen = state.gates.channel;
    let bars = channels.iter().enumerate().map(|(place, &channel)| {
        let fill = match chosen == Some(channel) {
            true => ui.visuals().selection.bg_fill,
            false => color(map_color(block.gates[channel])),
        };
        Bar::new(place as f64, f64::from(value(channel)))
            .width(1.0)
            .fill(fill)
    });
    let chart = BarChart::new("gates", bars.collect()).allow_hover(false);
    let label_channels = channels.clone();
    let gates = block.gates.clone();
    let response = Plot::new("gates")
        .height(BARS)
        .allow_scroll(false)
        .allow_drag(false)
        .allow_zoom(false)
        .show_x(false)
        .show_axes([false, true])
        .y_axis_min_width(32.0)
        .include_y(0.0)
        .label_formatter(move |at| {
            let (HoverPosition::NearDataPoint { position, .. }
            | HoverPosition::Elsewhere { position }) = at;
            let place = position.x.round().max(0.0) as usize;
            let channel = label_channels.get(place)?;
            Some(format!("channel {channel}: {:.4}", gates.get(*channel)?))
        })
        .show(ui, |plot| {
            plot.bar_chart(chart);
            plot.pointer_coordinate()
        });
    if response.response.clicked()
        && let Some(at) = response.inner
        && at.x > -0.5
    {
        let place = at.x.round() as usize;
        state.gates.channel = channels.get(place).copied().or(state.gates.channel);
    }
    if state.gates.sort == GateSort::Difference && reference.is_none() {
        hint(
            ui,
            "nothing to deviate from: compare with an image, or measure the dataset's gates",
        );
    }
}

/// A row for each block, a cell for each channel.
fn heat_map(ui: &mut Ui, state: &mut ViewerState, looked: &Looked, textures: &mut Textures) {
    let rows = looked.blocks.len();
    let columns = looked
        .blocks
        .iter()
        .map(|b| b.gates.len())
        .max()
        .unwrap_or(1);
    let columns = columns.min(ui.input(|input| input.max_texture_side));
    let key = heat_key(looked);
    let texture = textures.made(ui.ctx(), "gates", key, || {
        heat_image(&looked.blocks, columns)
    });
    let size = vec2(ui.available_width(), rows as f32 * ROW);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    response
        .widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, "gates of all blocks"));
    let all = egui::Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0));
    ui.painter().image(texture.id(), rect, all, Color32::WHITE);
    let row = rect.top() + state.gates.block as f32 * ROW;
    let frame = egui::Rect::from_min_size(egui::pos2(rect.left(), row), vec2(rect.width(), ROW));
    let stroke = egui::Stroke::new(1.0, ui.visuals().strong_text_color());
    ui.painter()
        .rect_stroke(frame, 0.0, stroke, egui::StrokeKind::Inside);
    let Some(pointer) = response.hover_pos() else {
        return;
    };
    let block = (((pointer.y - rect.top()) / ROW) as usize).min(rows - 1);
    let gates = &looked.blocks[block].gates;
    let share = ((pointer.x - rect.left()) / rect.width()).clamp(0.0, 0.999_9);
    let channel = (share * gates.len() as f32) as usize;
    let text = format!(
        "{} channel {channel}: {:.4}",
        looked.blocks[block].name,
        gates.get(channel).copied().unwrap_or_default()
    );
    if response.clicked() {
        state.gates.block = block;
        state.gates.channel = Some(channel);
    }
    response.on_hover_text(text);
}

/// Changes with the image and the network.
fn heat_key(looked: &Looked) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    looked.image.hash(&mut hasher);
    for block in &looked.blocks {
        for gate in &block.gates {
            gate.to_bits().hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Each block fills its row, however many channels it has.
fn heat_image(blocks: &[BlockGates], columns: usize) -> ColorImage {
    let pixels = blocks.iter().flat_map(|block| {
        (0..columns).map(|column| {
            let channel = column * block.gates.len() / columns;
            color(map_color(
                block.gates.get(channel).copied().unwrap_or_default(),
            ))
        })
    });
    ColorImage::new([columns, blocks.len()], pixels.collect())
}

/// The most open channels over small images, before and after scaling.
fn grid(ui: &mut Ui, state: &mut ViewerState, looked: &Looked, textures: &mut Textures) {
    let (Some(maps), Some((_, image))) = (state.maps.clone(), state.pixels[0].clone()) else {
        return;
    };
    if maps.image != state.current || maps.block != state.gates.block {
        return;
    }
    let gates = &looked.blocks[maps.block].gates;
    let width = ((ui.available_width() - 8.0) / 2.0).max(40.0);
    let height = width * image.height() as f32 / image.width().max(1) as f32;
    for channel in top_channels(gates, state.gates.top) {
        let Some(both) = textures.channel(ui.ctx(), &maps, channel) else {
            continue;
        };
        let title = format!(
            "channel {channel}, gate {:.3}: before, after",
            gates[channel]
        );
        ui.label(RichText::new(title).size(11.0));
        ui.horizontal(|ui| {
            for texture in both {
                let (rect, response) = ui.allocate_exact_size(vec2(width, height), Sense::click());
                let all = egui::Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0));
                let painter = ui.painter_at(rect);
                if let Some(picture) = textures.image(ui.ctx(), state.current) {
                    painter.image(picture.id(), rect, all, Color32::WHITE);
                }
                let scale = width / image.width().max(1) as f32;
                let place = |of: BoxXyxy| {
                    egui::Rect::from_min_max(
                        rect.min + vec2(of.x1, of.y1) * scale,
                        rect.min + vec2(of.x2, of.y2) * scale,
                    )
                };
                let opacity = (state.gates.opacity * 255.0) as u8;
                let tint = Color32::from_white_alpha(opacity);
                if let Some(of) = maps.box_in_image(looked.seen) {
                    let seen = place(looked.seen).intersect(rect);
                    let painter = painter.with_clip_rect(seen);
                    painter.image(texture.id(), place(of), all, tint);
                }
                if response.clicked() {
                    state.gates.channel = Some(channel);
                }
            }
        });
    }
}
