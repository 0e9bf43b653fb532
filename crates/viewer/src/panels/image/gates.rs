//! The SE gates of the image: which channels the network amplifies or suppresses.

use egui::{Color32, ComboBox, Rect, RichText, Sense, Slider, Ui, vec2};
use egui_plot::{Bar, BarChart, HoverPosition, Plot};

use crate::panels::axes;
use crate::panels::heat_map::HeatMap;
use crate::state::{
    BlockGates, Compare, GateSort, Inference, MapStage, ViewerState, sorted_channels, top_channels,
};
use crate::style::{WHOLE_TEXTURE, WRONG, color, hint, named_field, named_number};
use crate::textures::Textures;
use sedet_core::render::palette::viridis;
use sedet_data::boxes::BoxXyxy;

/// Height of the bar chart in points.
const BARS: f32 = 130.0;

/// Draws the section.
pub fn show(ui: &mut Ui, state: &mut ViewerState, textures: &mut Textures) {
    let Some(inference) = state.current_inference().cloned() else {
        if state.networks[0].is_none() {
            hint(ui, "Open a checkpoint with SE blocks to see its gates.");
        }
        return;
    };
    let Some(last) = inference.blocks.len().checked_sub(1) else {
        hint(ui, "This network has no SE blocks.");
        return;
    };
    state.gates.block = state.gates.block.min(last);
    controls(ui, state, &inference);
    let block = &inference.blocks[state.gates.block];
    let (reference, name) = reference(state, block).unzip();
    let name = name.unwrap_or_default();
    bars(ui, state, block, reference.as_deref());
    if let Some(channel) = state.gates.channel {
        let gate = block.gates.get(channel).copied().unwrap_or_default();
        let difference = reference.as_ref().and_then(|r| r.get(channel));
        let difference = difference.map_or(String::new(), |other| {
            format!(", {:+.4} relative to {name}", gate - other)
        });
        ui.label(format!("channel {channel}: gate {gate:.4}{difference}"));
    } else {
        hint(
            ui,
            "click a bar or a cell to draw its feature map over the image",
        );
    }
    heat_map(ui, state, &inference, textures);
    if state.gates.show_grid {
        grid(ui, state, &inference, textures);
    }
}

fn controls(ui: &mut Ui, state: &mut ViewerState, inference: &Inference) {
    let gates = &mut state.gates;
    ui.horizontal_wrapped(|ui| {
        let before = gates.block;
        named_field(ui, "block", |ui| {
            ComboBox::from_id_salt("block")
                .selected_text(&inference.blocks[gates.block].name)
                .width(110.0)
                .show_ui(ui, |ui| {
                    for (at, block) in inference.blocks.iter().enumerate() {
                        ui.selectable_value(&mut gates.block, at, &block.name);
                    }
                })
                .response
        });
        if before != gates.block {
            gates.channel = None;
        }
        for (sort, name) in [
            (GateSort::Channel, "by channel"),
            (GateSort::Value, "by value"),
            (GateSort::Difference, "by difference"),
        ] {
            ui.selectable_value(&mut gates.sort, sort, name);
        }
    });
    ui.horizontal_wrapped(|ui| {
        for stage in [MapStage::Before, MapStage::After] {
            ui.selectable_value(&mut gates.stage, stage, stage.name());
        }
        ui.checkbox(&mut gates.show_grid, "most active");
        if gates.show_grid {
            ui.add(egui::DragValue::new(&mut gates.top).range(1..=32))
                .widget_info(|| named_number("number of channels"));
        }
        if gates.channel.is_some() && ui.button("hide feature map").clicked() {
            gates.channel = None;
        }
    });
    // In a row of its own: a slider and its label are not wrapped, and would widen a narrow panel.
    named_field(ui, "opacity", |ui| {
        ui.add(Slider::new(&mut gates.opacity, 0.0..=1.0).show_value(false))
    });
}

/// Returns the gates to compare with and their name: those of the second pane, or the mean of this network
/// over a dataset.
fn reference(state: &ViewerState, block: &BlockGates) -> Option<(Vec<f32>, String)> {
    if state.compare != Compare::Off
        && let Some(other) = &state.inference[1]
        && let Some(other) = other.blocks.iter().find(|b| b.name == block.name)
        && other.gates.len() == block.gates.len()
    {
        return Some((other.gates.clone(), "the second pane".to_owned()));
    }
    let (mean, name) = state.mean_gates(block)?;
    Some((mean.to_vec(), name))
}

fn bars(ui: &mut Ui, state: &mut ViewerState, block: &BlockGates, reference: Option<&[f32]>) {
    let channels = sorted_channels(&block.gates, reference, state.gates.sort);
    let shows_difference = state.gates.sort == GateSort::Difference && reference.is_some();
    let value = |channel: usize| match (shows_difference, reference) {
        (true, Some(reference)) => block.gates[channel] - reference[channel],
        _ => block.gates[channel],
    };
    let selected = state.gates.channel;
    // ReLU gates and those of added units can be above 1.
    let largest = block.gates.iter().copied().fold(1.0, f32::max);
    let bars = channels.iter().enumerate().map(|(position, &channel)| {
        let fill = if selected == Some(channel) {
            // The color that no gate has.
            WRONG
        } else {
            color(viridis(block.gates[channel] / largest))
        };
        Bar::new(position as f64, f64::from(value(channel)))
            .width(1.0)
            .fill(fill)
    });
    let chart = BarChart::new("gates", bars.collect()).allow_hover(false);
    let label_channels = channels.clone();
    let gates = block.gates.clone();
    let response = axes::with_marks(Plot::new("gates"), [false, false])
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
            let position = position.x.round().max(0.0) as usize;
            let channel = label_channels.get(position)?;
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
        let position = at.x.round() as usize;
        state.gates.channel = channels.get(position).copied().or(state.gates.channel);
    }
    if state.gates.sort == GateSort::Difference && reference.is_none() {
        hint(
            ui,
            "no reference: compare with an image or measure the gates of the dataset",
        );
    }
}

/// A row for each block, a cell for each channel.
fn heat_map(ui: &mut Ui, state: &mut ViewerState, inference: &Inference, textures: &mut Textures) {
    let blocks = inference.blocks.iter();
    let heat_map = HeatMap {
        name: "gates of all blocks",
        key: content_key(inference),
        rows: blocks
            .map(|b| (b.name.as_str(), b.gates.as_slice()))
            .collect(),
        selected: state.gates.block,
    };
    if let Some((block, channel)) = heat_map.show(ui, textures) {
        state.gates.block = block;
        state.gates.channel = Some(channel);
    }
}

/// Returns a hash of the image and its gates.
fn content_key(inference: &Inference) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    inference.image.hash(&mut hasher);
    for block in &inference.blocks {
        for gate in &block.gates {
            gate.to_bits().hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Feature maps of the most active channels over small copies of the image, before and after scaling.
fn grid(ui: &mut Ui, state: &mut ViewerState, inference: &Inference, textures: &mut Textures) {
    let (Some(maps), Some((_, image))) = (state.maps.clone(), state.pixels[0].clone()) else {
        return;
    };
    if maps.image != state.current || maps.block != state.gates.block {
        return;
    }
    let gates = &inference.blocks[maps.block].gates;
    let width = ((ui.available_width() - 8.0) / 2.0).max(40.0);
    let height = width * image.height() as f32 / image.width().max(1) as f32;
    for channel in top_channels(gates, state.gates.top) {
        let Some(both) = textures.channel(ui.ctx(), &maps, channel) else {
            continue;
        };
        let [low, high] = maps.range(channel);
        let title = format!(
            "channel {channel}, gate {:.3}, values {low:.2} to {high:.2}: before, after scaling",
            gates[channel]
        );
        ui.label(RichText::new(title).size(11.0));
        ui.horizontal(|ui| {
            for texture in both {
                let (rect, response) = ui.allocate_exact_size(vec2(width, height), Sense::click());
                let painter = ui.painter_at(rect);
                if let Some(image_texture) = textures.image(ui.ctx(), state.current) {
                    painter.image(image_texture.id(), rect, WHOLE_TEXTURE, Color32::WHITE);
                }
                let scale = width / image.width().max(1) as f32;
                let on_screen = |of: BoxXyxy| {
                    Rect::from_min_max(
                        rect.min + vec2(of.x1, of.y1) * scale,
                        rect.min + vec2(of.x2, of.y2) * scale,
                    )
                };
                let opacity = (state.gates.opacity * 255.0) as u8;
                let tint = Color32::from_white_alpha(opacity);
                if let Some(of) = maps.box_in_image(inference.input_region) {
                    let visible = on_screen(inference.input_region).intersect(rect);
                    let painter = painter.with_clip_rect(visible);
                    painter.image(texture.id(), on_screen(of), WHOLE_TEXTURE, tint);
                }
                if response.clicked() {
                    state.gates.channel = Some(channel);
                }
            }
        });
    }
}
