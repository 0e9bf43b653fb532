//! The view of the image: boxes, a feature map over it, and the comparison with another image or network.

use std::sync::Arc;

use egui::emath::GuiRounding as _;
use egui::{
    Align, Align2, Color32, FontId, Label, Layout, Painter, Pos2, Rect, Response, RichText, Sense,
    Stroke, Ui,
};
use egui::{TextureId, pos2, vec2};

use crate::chrome::open_menu::start_page;
use crate::drawing::layer::Background;
use crate::drawing::outlines::Outlines;
use crate::panels::box_labels::{LABEL_MARGIN, LABEL_SIZE, Labels};
use crate::panels::{FrameCache, PanelContext, corrections, legend};
use crate::state::{
    BlockMaps, BoxRef, Compare, MapStage, Pane, PanelId, ScoreExplanation, ViewerState,
    cells_in_image, numbers,
};
use crate::style::{
    CORRECTED, HIGHLIGHT, WHOLE_TEXTURE, box_stroke, box_text, color, elided, foreign_classes,
    hint, named_field, named_number,
};
use crate::textures::Textures;
use sedet_core::model::ChannelMap;
use sedet_core::render::explanation::limit_text;
use sedet_core::render::palette::{text_color_on, viridis};
use sedet_data::boxes::{BoxXyxy, ImageSize};
use sedet_data::curation::check::LabelChange;

/// The maximum number of labels: more are unreadable and slow to draw. Highlighted boxes come first.
const MAX_LABELS: usize = 200;
/// Maximum distance of the pointer from the divider of a comparison to drag it, in points.
const DIVIDER_REACH: f32 = 8.0;
/// Width of the scale of a feature map's colors, in points.
const BAR_WIDTH: f32 = 12.0;
/// Width and height of a feature map that the scale has a place in, in points.
const MIN_BAR: f32 = 80.0;
/// Gap between two panes side by side, in points.
const PANE_GAP: f32 = 2.0;

/// What to do while a box is drawn again.
const REDRAW: &str =
    "drag the right box of the annotation from corner to corner; Esc keeps it as it is";

/// Draws the view.
pub fn show(ui: &mut Ui, context: &mut PanelContext<'_>) {
    let state = &mut *context.state;
    if state.image_count() == 0 {
        let (title, hint) = if state.collection.is_some() {
            ("This dataset has no images", "Open another one.")
        } else {
            (
                "Nothing is open",
                "Enter a path above, drop a file here, or start with sedet view PATH.",
            )
        };
        start_page(ui, state, title, hint);
        return;
    }
    headline(ui, state, context.cache);
    let (rect, response) = ui.allocate_exact_size(ui.available_size(), Sense::click_and_drag());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, "image with boxes"));
    let view = View::new(rect, state);
    context.cache.frame = Some([view.frame.width(), view.frame.height()]);
    state.view_size = [rect.width(), rect.height()];
    let is_moved = view.show_requested_box(state);
    view.reveal_selected(ui, state, context.cache, is_moved);
    view.navigate(ui, state, &response);
    let panes = view.panes(state);
    for pane in &panes {
        draw_pane(
            ui,
            &ui.painter_at(pane.visible),
            context,
            pane.pane,
            pane.frame,
        );
    }
    view.draw_new_box(ui, context.state, &response);
    if context.state.has_divider() {
        let divider = view.divider(context.state);
        let stroke = Stroke::new(2.0, HIGHLIGHT);
        ui.painter_at(rect).vline(divider, rect.y_range(), stroke);
    }
    inspect_pointer(ui, context.state, context.cache, &response, &panes);
    box_menu(context.state, context.cache, &response);
}

/// Shows the name of the image, and what it is compared with.
fn headline(ui: &mut Ui, state: &mut ViewerState, cache: &FrameCache) {
    let Some(collection) = state.collection.clone() else {
        return;
    };
    // Right to left: a long name is cut where the other values begin, and does not widen the panel.
    let size = vec2(ui.available_width(), ui.spacing().interact_size.y);
    let layout = Layout::right_to_left(Align::Center);
    ui.allocate_ui_with_layout(size, layout, |ui| {
        let opened = state.errors.opened.as_ref();
        if opened.is_some_and(|item| item.image as usize == state.current)
            && ui.button("Back to errors").clicked()
        {
            state.tab = PanelId::ERRORS;
        }
        if let Some(inference) = state.current_inference() {
            hint(ui, format!("{:.0} ms", inference.milliseconds));
        }
        if let Some(image) = state.current_pixels() {
            hint(ui, format!("{}×{}", image.width(), image.height()));
        }
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            if state.redraws.is_some() {
                // In place of the name, so that the image stays where it is.
                let text = RichText::new(REDRAW).color(ui.visuals().warn_fg_color);
                ui.add(Label::new(text).truncate()).on_hover_text(REDRAW);
                return;
            }
            let name = elided(ui, &collection.image_title(state.current));
            ui.label(name)
                .on_hover_text(collection.describe(state.current));
        });
    });
    if state.is_outdated {
        let text =
            "these boxes are of an older checkpoint; the new one is loaded after the running task";
        ui.colored_label(ui.visuals().warn_fg_color, text);
    }
    let shown = cache.boxes(state.focused());
    let has_crowds = shown.ground_truth.iter().any(|truth| truth.is_crowd);
    legend::show(ui, state, has_crowds);
    foreign_classes(ui, state);
    hidden_boxes(ui, state, cache);
    match state.compare {
        Compare::Off => {}
        Compare::Image(other) => {
            ui.horizontal(|ui| {
                ui.label("compared with");
                let mut index = other;
                let last = state.image_count() - 1;
                let field = ui.add(egui::DragValue::new(&mut index).range(0..=last));
                field.widget_info(|| named_number("other image"));
                hint(ui, collection.image_title(other.min(last)));
                if index != other {
                    state.compare = Compare::Image(index);
                }
            });
        }
        Compare::Network => {
            ui.horizontal(|ui| {
                let name = |pane: Pane| {
                    let network = state.networks[pane.index()].as_ref();
                    network
                        .map_or("no network", |n| n.title.as_str())
                        .to_owned()
                };
                let [first, second] = [Pane::First, Pane::Second].map(name);
                let split = &mut state.settings.side_by_side;
                ui.selectable_value(split, true, "side by side");
                ui.selectable_value(split, false, "with divider");
                if state.has_divider() {
                    let divider = egui::Slider::new(&mut state.wipe, 0.0..=1.0).show_value(false);
                    named_field(ui, "divider", |ui| ui.add(divider));
                }
                let names = format!("first (left): {first}   second (right): {second}");
                ui.add(Label::new(names).truncate());
            });
        }
    }
}

/// States that the class filter hides boxes of the image: without a word, an image whose boxes are hidden
/// looks like one without any.
fn hidden_boxes(ui: &mut Ui, state: &mut ViewerState, cache: &FrameCache) {
    let filter = state.filter();
    if filter.hidden_classes.is_empty() || filter.class_filter_off {
        return;
    }
    let boxes = cache.boxes(state.focused());
    let found = boxes.detections.iter().flatten().map(|found| found.class);
    let found = found.filter(|_| filter.show_detections);
    let annotated = boxes.ground_truth.iter().map(|truth| truth.class);
    let annotated = annotated.filter(|_| filter.show_annotations);
    let all = found.chain(annotated);
    let hidden = all
        .filter(|class| filter.hidden_classes.contains(class))
        .count();
    if hidden == 0 {
        return;
    }
    ui.horizontal(|ui| {
        let text = match hidden {
            1 => "the class filter hides 1 box".to_owned(),
            hidden => format!("the class filter hides {hidden} boxes"),
        };
        ui.colored_label(ui.visuals().warn_fg_color, text);
        if ui.button("Show all classes").clicked() {
            state.settings.filter.hidden_classes.clear();
        }
    });
}

/// The rectangles of the view.
pub(super) struct View {
    /// The frame of the first pane.
    frame: Rect,
    /// Both panes.
    whole: Rect,
}

/// The rectangles of a pane.
pub(super) struct PaneFrame {
    pub pane: Pane,
    /// The frame that the image is fitted into.
    pub frame: Rect,
    /// The visible part of the frame.
    pub visible: Rect,
}

impl View {
    /// Divides the view between the panes.
    pub fn new(whole: Rect, state: &ViewerState) -> Self {
        let frame = if state.compare != Compare::Off && !state.has_divider() {
            let width = (whole.width() - PANE_GAP) / 2.0;
            Rect::from_min_size(whole.min, vec2(width, whole.height()))
        } else {
            whole
        };
        Self { frame, whole }
    }

    /// Returns the panes.
    pub fn panes(&self, state: &ViewerState) -> Vec<PaneFrame> {
        let of = |pane, frame, visible| PaneFrame {
            pane,
            frame,
            visible,
        };
        let (frame, divider) = (self.frame, self.divider(state));
        match state.compare {
            Compare::Off => vec![of(Pane::First, frame, frame)],
            Compare::Image(_) | Compare::Network if !state.has_divider() => {
                let second = frame.translate(vec2(frame.width() + PANE_GAP, 0.0));
                vec![
                    of(Pane::First, frame, frame),
                    of(Pane::Second, second, second),
                ]
            }
            Compare::Image(_) | Compare::Network => vec![
                of(Pane::First, frame, self.whole.with_max_x(divider)),
                of(Pane::Second, frame, self.whole.with_min_x(divider)),
            ],
        }
    }

    /// Returns the x coordinate of the divider between the panes of two networks.
    pub fn divider(&self, state: &ViewerState) -> f32 {
        self.whole.left() + self.whole.width() * state.wipe
    }

    /// Zooms to a box once its image has been decoded, and returns whether it has.
    fn show_requested_box(&self, state: &mut ViewerState) -> bool {
        let size = state.current_pixels();
        let size = size.map(|image| [image.width() as f32, image.height() as f32]);
        if let Some(size) = size
            && let Some(of) = state.zoom_to.take()
        {
            let frame = [self.frame.width(), self.frame.height()];
            state.zoom.show_box(of, frame, size);
            return true;
        }
        false
    }

    /// Moves the divider of a comparison off a box that has just been selected, or has been `moved` with the image:
    /// the other pane would cover it.
    fn reveal_selected(&self, ui: &Ui, state: &mut ViewerState, cache: &FrameCache, moved: bool) {
        let memory = ui.scope_id().with("revealed");
        let pane = state.focused();
        let selected = state.selected.map(|of| (state.current, pane, of));
        let known: Option<Option<(usize, Pane, BoxRef)>> = ui.data(|data| data.get_temp(memory));
        ui.data_mut(|data| data.insert_temp(memory, selected));
        let is_new = moved || known != Some(selected);
        let image = state.current_pixels();
        let (Some((.., of)), Some(image)) = (selected.filter(|_| is_new), image) else {
            return;
        };
        if !state.has_divider() {
            return;
        }
        let size = [image.width() as f32, image.height() as f32];
        let Some(place) = cache.boxes(pane).box_of(of) else {
            return;
        };
        let rect = Transform::new(state, self.frame, size).rect(place);
        let wipe_at = |x: f32| ((x - self.whole.left()) / self.whole.width()).clamp(0.0, 1.0);
        state.wipe = match pane {
            Pane::First => state.wipe.max(wipe_at(rect.right() + DIVIDER_REACH)),
            Pane::Second => state.wipe.min(wipe_at(rect.left() - DIVIDER_REACH)),
        };
    }

    /// Zooms, moves the image and drags the divider of a comparison.
    fn navigate(&self, ui: &Ui, state: &mut ViewerState, response: &Response) {
        let Some((_, image)) = &state.pixels[0] else {
            return;
        };
        let size = [image.width() as f32, image.height() as f32];
        let frame_size = [self.frame.width(), self.frame.height()];
        if let Some(pointer) = response.hover_pos() {
            let (scroll, pinch) = ui.input(|i| (i.smooth_scroll_delta().y, i.zoom_delta()));
            let factor = pinch * (scroll * 0.005).exp();
            if factor != 1.0 {
                let at = self.in_pane(pointer);
                state.zoom.zoom_at(at, factor, frame_size, size);
            }
        }
        if response.dragged() && state.redraws.is_none() {
            let divider = self.divider(state);
            let origin = ui.input(|i| i.pointer.press_origin());
            let on_divider = origin.is_some_and(|at| (at.x - divider).abs() < DIVIDER_REACH);
            let memory = response.id.with("divider");
            if response.drag_started() {
                ui.data_mut(|data| data.insert_temp(memory, on_divider));
            }
            let by = response.drag_delta();
            let moves_divider = ui.data(|data| data.get_temp(memory)) == Some(true);
            if state.has_divider() && moves_divider {
                state.wipe = (state.wipe + by.x / self.whole.width()).clamp(0.0, 1.0);
            } else {
                state.zoom.pan([by.x, by.y], frame_size, size);
            }
        }
        if response.double_clicked() {
            state.zoom.fit();
        }
    }

    /// Draws the box of an annotation again by dragging, in the first pane.
    fn draw_new_box(&self, ui: &Ui, state: &mut ViewerState, response: &Response) {
        let (Some(redraw), Some(image)) = (state.redraws, state.current_pixels()) else {
            return;
        };
        if redraw.image != state.current {
            return;
        }
        let size = [image.width() as f32, image.height() as f32];
        let transform = Transform::new(state, self.frame, size);
        let (from, to) = ui.input(|i| (i.pointer.press_origin(), i.pointer.interact_pos()));
        let memory = response.id.with("corner");
        if response.drag_started()
            && let Some(from) = from
        {
            ui.data_mut(|data| data.insert_temp(memory, from));
        }
        let from: Option<Pos2> = ui.data(|data| data.get_temp(memory));
        let Some((from, to)) = from
            .zip(to)
            .filter(|_| response.dragged() || response.drag_stopped())
        else {
            return;
        };
        let drawn = Rect::from_two_pos(from, to);
        let stroke = Stroke::new(2.0, CORRECTED);
        let painter = ui.painter_at(self.frame);
        painter.rect_stroke(drawn, 0.0, stroke, egui::StrokeKind::Middle);
        if response.drag_stopped() {
            ui.data_mut(|data| data.remove::<Pos2>(memory));
            let corner = |at: Pos2| (at - transform.corner) / transform.scale;
            let (min, max) = (corner(drawn.min), corner(drawn.max));
            let image_size = ImageSize::new(size[1] as usize, size[0] as usize);
            let place = BoxXyxy::new(min.x.round(), min.y.round(), max.x.round(), max.y.round());
            let place = place.clip(image_size);
            // A click is no box.
            if place.width() >= 1.0
                && place.height() >= 1.0
                && let Some(annotation_id) = state.annotation_id(redraw.image, redraw.annotation)
            {
                let xywh = numbers(place);
                let change = LabelChange::Place {
                    annotation_id,
                    xywh,
                };
                state.correct(redraw.image, change);
                state.redraws = None;
            }
        }
    }

    /// Returns a position relative to the frame of the pane under it.
    fn in_pane(&self, at: Pos2) -> [f32; 2] {
        let x = at.x - self.whole.left();
        let second = self.frame.width() + PANE_GAP;
        let is_second = self.frame.width() < self.whole.width() && x > second;
        [
            if is_second { x - second } else { x },
            at.y - self.whole.top(),
        ]
    }
}

/// The mapping from pixels of the image to points of the screen.
#[derive(Clone, Copy)]
pub(super) struct Transform {
    corner: Pos2,
    /// Points per pixel.
    pub scale: f32,
}

impl Transform {
    pub fn new(state: &ViewerState, frame: Rect, size: [f32; 2]) -> Self {
        let frame_size = [frame.width(), frame.height()];
        let [x, y] = state.zoom.corner(frame_size, size);
        Self {
            corner: frame.min + vec2(x, y),
            scale: state.zoom.scale_in(frame_size, size),
        }
    }

    pub fn rect(self, of: BoxXyxy) -> Rect {
        Rect::from_min_max(
            self.corner + vec2(of.x1, of.y1) * self.scale,
            self.corner + vec2(of.x2, of.y2) * self.scale,
        )
    }
}

fn draw_pane(ui: &Ui, painter: &Painter, context: &mut PanelContext<'_>, pane: Pane, frame: Rect) {
    let (state, textures) = (&*context.state, &mut *context.textures);
    let index = state.image_of(pane);
    let pixels = state.pixels[pane.index()].as_ref();
    let pixels = pixels.filter(|(of, _)| *of == index && textures.has_image(index));
    let Some((_, image)) = pixels else {
        draw_placeholder(ui, painter, textures, index);
        return;
    };
    let size = [image.width() as f32, image.height() as f32];
    let transform = Transform::new(state, frame, size);
    let rect = transform.rect(BoxXyxy::new(0.0, 0.0, size[0], size[1]));
    fill_background(ui, painter, rect, textures);
    let map = selected_map(state, pane);
    let map = map.and_then(|map| Some((map.texture(ui, state, textures)?, map)));
    // A feature map is drawn between the image and its boxes.
    let background = match (&map, textures.pixels(index)) {
        (None, Some(image)) => Some(Background { image, rect }),
        _ => None,
    };
    if background.is_none()
        && let Some(texture) = textures.image(ui.ctx(), index)
    {
        painter.image(texture.id(), rect, WHOLE_TEXTURE, Color32::WHITE);
    }
    if let Some((texture, map)) = map {
        let tint = Color32::from_white_alpha((state.gates.opacity * 255.0) as u8);
        // Cells over padding are outside the image.
        let visible = transform
            .rect(map.input_region)
            .intersect(painter.clip_rect());
        let painter = painter.with_clip_rect(visible);
        painter.image(texture, transform.rect(map.cells), WHOLE_TEXTURE, tint);
    }
    let outlines = outlines(painter, state, context.cache, pane, transform);
    match textures.layer(pane) {
        Some(layer) => layer.draw(painter, background, outlines),
        None => outlines.draw(painter),
    }
}

/// States that an image is being decoded or cannot be decoded.
fn draw_placeholder(ui: &Ui, painter: &Painter, textures: &mut Textures, index: usize) {
    fill_background(ui, painter, Rect::NOTHING, textures);
    let text = if textures.is_bad(index) {
        "this image cannot be read; see the notices"
    } else {
        "loading …"
    };
    painter.text(
        painter.clip_rect().center(),
        Align2::CENTER_CENTER,
        text,
        FontId::proportional(16.0),
        ui.visuals().weak_text_color(),
    );
}

/// Fills what the image does not cover. With software rendering the clear color stays, because filling
/// half of the window takes 2 ms.
fn fill_background(ui: &Ui, painter: &Painter, covered: Rect, textures: &mut Textures) {
    if textures.layer(Pane::First).is_some() {
        return;
    }
    let color = ui.visuals().extreme_bg_color;
    for rect in around(painter.clip_rect(), covered) {
        painter.rect_filled(rect, 0.0, color);
    }
}

/// Returns the parts of `whole` around `hole`: up to four rectangles without overlaps.
fn around(whole: Rect, hole: Rect) -> Vec<Rect> {
    let hole = hole.intersect(whole);
    if !hole.is_positive() {
        return vec![whole];
    }
    let (x, y) = (hole.x_range(), hole.y_range());
    let parts = [
        Rect::from_x_y_ranges(whole.x_range(), whole.top()..=y.min),
        Rect::from_x_y_ranges(whole.x_range(), y.max..=whole.bottom()),
        Rect::from_x_y_ranges(whole.left()..=x.min, y),
        Rect::from_x_y_ranges(x.max..=whole.right(), y),
    ];
    parts.into_iter().filter(Rect::is_positive).collect()
}

/// What the map over the image is of.
enum MapSource<'a> {
    /// A channel.
    Channel(&'a BlockMaps, usize),
    /// An explanation, and the index of one of its layers.
    Layer(&'a Arc<ScoreExplanation>, usize),
}

/// The feature map of a channel over the image, or the class activation map of a layer.
pub(super) struct SelectedMap<'a> {
    source: MapSource<'a>,
    /// The values, those of a channel before or after scaling, whichever are shown.
    pub values: &'a ChannelMap,
    /// The value range of the colors.
    pub range: [f32; 2],
    /// The box of its cells, in pixels of the image.
    pub cells: BoxXyxy,
    /// The part of the image that is the input of the network.
    pub input_region: BoxXyxy,
}

impl SelectedMap<'_> {
    fn texture(&self, ui: &Ui, state: &ViewerState, textures: &mut Textures) -> Option<TextureId> {
        match self.source {
            MapSource::Channel(maps, channel) => {
                let [before, after] = textures.channel(ui.ctx(), maps, channel)?;
                Some(match state.gates.stage {
                    MapStage::Before => before.id(),
                    MapStage::After => after.id(),
                })
            }
            MapSource::Layer(of, layer) => {
                let texture = textures.layer_map(ui.ctx(), of, layer, self.values, self.range);
                Some(texture.id())
            }
        }
    }

    /// Returns the texts at both ends of the scale of the colors.
    fn limits(&self) -> [String; 2] {
        self.range.map(|value| match self.source {
            MapSource::Channel(..) => format!("{value:.2}"),
            // Evidence in units of the score can be small.
            MapSource::Layer(..) => limit_text(value),
        })
    }
}

/// Returns the map over the image of the first pane, once it has been computed: the feature map of the selected
/// channel, or without one that of the layer of the explanation.
pub(super) fn selected_map(state: &ViewerState, pane: Pane) -> Option<SelectedMap<'_>> {
    if pane != Pane::First || state.filter().hide_all {
        return None;
    }
    match state.gates.channel {
        Some(channel) => channel_map(state, channel),
        None => layer_map(state),
    }
}

fn channel_map(state: &ViewerState, channel: usize) -> Option<SelectedMap<'_>> {
    let (maps, inference) = (state.maps.as_ref()?, state.inference[0].as_ref()?);
    if maps.image != state.current || maps.block != state.gates.block {
        return None;
    }
    let (_, before, after) = maps.channels.iter().find(|(known, ..)| *known == channel)?;
    Some(SelectedMap {
        source: MapSource::Channel(maps, channel),
        values: match state.gates.stage {
            MapStage::Before => before,
            MapStage::After => after,
        },
        range: maps.range(channel),
        cells: maps.box_in_image(inference.input_region)?,
        input_region: inference.input_region,
    })
}

fn layer_map(state: &ViewerState) -> Option<SelectedMap<'_>> {
    let of = state.current_explanation()?;
    if state.explanation.hides_map {
        return None;
    }
    let layer = of.layer(state.explanation.layer.as_deref())?;
    let values = &of.explanation.cams.get(layer)?.map;
    Some(SelectedMap {
        source: MapSource::Layer(of, layer),
        values,
        range: ChannelMap::common_range([values]),
        cells: cells_in_image(values, of.explanation.seen),
        input_region: of.explanation.seen,
    })
}

/// Adds the scale of the colors of a map at the top right, with the texts at its lower and upper end.
fn color_bar(outlines: &mut Outlines, painter: &Painter, around: Rect, [low, high]: [String; 2]) {
    const STEPS: u8 = 32;
    let clip = around.intersect(painter.clip_rect());
    if clip.height() < MIN_BAR || clip.width() < MIN_BAR {
        return;
    }
    let size = vec2(BAR_WIDTH, 120.0_f32.min(clip.height() * 0.4));
    let corner = pos2(clip.right() - size.x - 8.0, clip.top() + 24.0);
    let bar = Rect::from_min_size(corner, size).round_to_pixels(painter.pixels_per_point());
    for step in 0..STEPS {
        let share = |step: u8| f32::from(step) / f32::from(STEPS);
        let [top, bottom] = [step, step + 1].map(|at| bar.top() + share(at) * bar.height());
        let part = Rect::from_x_y_ranges(bar.x_range(), top..=bottom);
        outlines.fill(part, color(viridis(1.0 - share(step))));
    }
    let ink = color(text_color_on([0; 3]));
    for (text, y) in [(high, bar.top()), (low, bar.bottom())] {
        let font = FontId::proportional(LABEL_SIZE);
        let galley = painter.layout_no_wrap(text, font, ink);
        let size = galley.size() + vec2(LABEL_MARGIN, 2.0);
        let top = if y == bar.top() { y - size.y } else { y };
        let label = Rect::from_min_size(pos2(bar.right() - size.x, top), size);
        let label = label.round_to_pixels(painter.pixels_per_point());
        outlines.fill(label, Color32::BLACK);
        outlines.text(label.min + vec2(LABEL_MARGIN / 2.0, 1.0), galley, ink);
    }
}

/// The emphasis of a box; also the order in which labels are placed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Emphasis {
    /// Hovered or selected.
    Highlighted,
    /// The partner of a highlighted box.
    Partner,
    Normal,
}

/// Returns the outlines and labels of the boxes of a pane, and the scale of its feature map.
pub(super) fn outlines(
    painter: &Painter,
    state: &ViewerState,
    cache: &FrameCache,
    pane: Pane,
    transform: Transform,
) -> Outlines {
    let boxes = cache.boxes(pane);
    let clip = painter.clip_rect();
    let hovered = state.hovered.filter(|(of, _)| *of == pane);
    let selected = state.selected.filter(|_| pane == state.focused());
    let highlighted = [hovered.map(|(_, of)| of), selected];
    let pair = highlighted
        .into_iter()
        .flatten()
        .find_map(|of| Some((of, boxes.partner(of)?)));
    let emphasis = |of: BoxRef| {
        if highlighted.contains(&Some(of)) {
            Emphasis::Highlighted
        } else if pair.is_some_and(|(_, (partner, _))| partner == of) {
            Emphasis::Partner
        } else {
            Emphasis::Normal
        }
    };
    let mut outlines = Outlines::new(painter.pixels_per_point(), clip);
    let mut labeled = Vec::new();
    let mut visible = state.visible_boxes(boxes);
    visible.sort_by_key(|of| emphasis(*of));
    // The most emphasized boxes are drawn last, on top.
    for of in visible.into_iter().rev() {
        let Some(rect) = boxes.box_of(of).map(|of| transform.rect(of)) else {
            continue;
        };
        if !rect.intersects(clip) {
            continue;
        }
        let is_matched = boxes.is_matched_annotation(of);
        let normal = box_stroke(state, boxes, of);
        let stroke = match emphasis(of) {
            Emphasis::Highlighted => Stroke::new(3.0, HIGHLIGHT),
            Emphasis::Partner => Stroke::new(2.0, normal.color),
            Emphasis::Normal => normal,
        };
        outlines.of_box(boxes, of, rect, stroke);
        if !is_matched || emphasis(of) == Emphasis::Highlighted {
            labeled.push((of, rect, stroke.color));
        }
    }
    let mut labels = Labels::new(painter);
    let corrected = if state.filter().hide_all {
        Vec::new()
    } else {
        state.corrected_boxes(state.image_of(pane))
    };
    for (place, text) in corrected {
        let rect = transform.rect(place);
        if rect.intersects(clip) {
            outlines.dashed(rect, Stroke::new(4.0, CORRECTED));
            labels.add(&mut outlines, rect, text, CORRECTED);
        }
    }
    if let Some((of, (partner, iou))) = pair
        && let (Some(a), Some(b)) = (boxes.box_of(of), boxes.box_of(partner))
    {
        let [a, b] = [a, b].map(|of| transform.rect(of));
        let stroke = Stroke::new(1.5, HIGHLIGHT);
        outlines.connect(a.left_top(), b.left_top(), stroke);
        outlines.connect(a.right_bottom(), b.right_bottom(), stroke);
        let text = format!("IoU {iou:.2}");
        labels.add(&mut outlines, a.union(b), text, HIGHLIGHT);
    }
    for (of, rect, color) in labeled.into_iter().rev() {
        if labels.count >= MAX_LABELS {
            break;
        }
        if !labels.may_add(rect) {
            continue;
        }
        let text = box_text(state, boxes, of);
        if !text.is_empty() {
            labels.add(&mut outlines, rect, text, color);
        }
    }
    if let Some(map) = selected_map(state, pane) {
        let around = transform.rect(map.input_region);
        color_bar(&mut outlines, painter, around, map.limits());
    }
    outlines
}

/// Draws the menu of the box that was clicked with the right button.
fn box_menu(state: &mut ViewerState, cache: &FrameCache, response: &Response) {
    let Some(of) = state.selected else { return };
    let pane = state.focused();
    let (image, boxes) = (state.image_of(pane), cache.boxes(pane));
    response.context_menu(|ui| corrections::menu(ui, state, (image, boxes), of));
}

/// Finds the box under the pointer in the pane under it, selects it on a click, and shows the value of the
/// pixel.
fn inspect_pointer(
    ui: &Ui,
    state: &mut ViewerState,
    cache: &FrameCache,
    response: &Response,
    panes: &[PaneFrame],
) {
    let Some(pointer) = response.hover_pos() else {
        return;
    };
    let under = panes.iter().find(|pane| pane.visible.contains(pointer));
    let Some(&PaneFrame {
        pane,
        frame,
        visible,
    }) = under
    else {
        return;
    };
    let index = state.image_of(pane);
    let pixels = state.pixels[pane.index()].as_ref();
    let Some((_, image)) = pixels.filter(|(of, _)| *of == index).cloned() else {
        return;
    };
    let size = [image.width() as f32, image.height() as f32];
    let transform = Transform::new(state, frame, size);
    let boxes = cache.boxes(pane);
    // The smallest box, or one inside another could not be selected.
    let under = state.visible_boxes(boxes).into_iter().filter_map(|of| {
        let rect = transform.rect(boxes.box_of(of)?).expand(2.0);
        rect.contains(pointer).then_some((of, rect.area()))
    });
    let under: Vec<(BoxRef, f32)> = under.collect();
    let smallest = under.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let hovered = smallest.map(|(of, _)| {
        // A detection represents the annotation that it matches: it has a score to explain.
        let partner = boxes.partner(*of).map(|(partner, _)| partner);
        let partner = partner.filter(|_| boxes.is_matched_annotation(*of));
        let is_under = |of: &BoxRef| under.iter().any(|(other, _)| other == of);
        partner.filter(is_under).unwrap_or(*of)
    });
    if let Some(hovered) = hovered {
        state.hovered_next = Some((pane, hovered));
    }
    if response.clicked() || response.secondary_clicked() {
        (state.focus, state.selected) = (pane, hovered);
    }
    let at = (pointer - transform.corner) / transform.scale;
    if at.x >= 0.0 && at.y >= 0.0 && at.x < size[0] && at.y < size[1] {
        let (x, y) = (at.x as u32, at.y as u32);
        let [r, g, b] = image.get_pixel(x, y).0;
        let text = format!(" {x}, {y}: {r} {g} {b} ");
        let ink = ui.visuals().text_color();
        let font = FontId::monospace(11.0);
        let galley = ui.painter().layout_no_wrap(text, font, ink);
        let rect = Rect::from_min_size(visible.left_bottom() - vec2(0.0, 16.0), galley.size());
        let painter = ui.painter_at(visible);
        painter.rect_filled(rect, 0.0, ui.visuals().window_fill());
        painter.galley(rect.min, galley, ink);
    }
}
