//! The image, its boxes, a channel's map over it, and the comparison with another one.

use egui::emath::GuiRounding as _;
use egui::{Align2, Color32, FontId, Painter, Pos2, Rect, Response, Sense, Stroke, Ui};
use egui::{pos2, vec2};

use super::FrameInfo;
use super::layer::Under;
use super::outlines::Outlines;
use crate::keys::toggle_compare;
use crate::labels::LabelPlacer;
use crate::state::{BoxRef, Compare, CurrentBoxes, MapSide, Request, Side, ViewerState};
use crate::style::{POINTED, box_color, box_text, empty_page, hint, named_number, named_text};
use crate::textures::Textures;
use sedet_data::boxes::BoxXyxy;

const LABEL_SIZE: f32 = 12.0;
/// Left and right of a label's text together.
const LABEL_MARGIN: f32 = 6.0;
/// Labels at once: more can't be read, and take long to draw. What is pointed at has one first.
const MOST_LABELS: usize = 200;
/// How close the pointer must be to the seam of a comparison, in points.
const SEAM_REACH: f32 = 8.0;

/// Draw the page.
pub fn show(ui: &mut Ui, state: &mut ViewerState, info: &mut FrameInfo, textures: &mut Textures) {
    if state.image_count() == 0 {
        let (title, hint) = match state.collection {
            Some(_) => ("This dataset has no images", "Open another one."),
            None => (
                "Nothing is open",
                "Write a path into the field above, drop a file here, or start with sedet view PATH.",
            ),
        };
        empty_page(ui, title, hint);
        return;
    }
    headline(ui, state);
    let (rect, response) = ui.allocate_exact_size(ui.available_size(), Sense::click_and_drag());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, "image with boxes"));
    let painter = ui.painter_at(rect);
    let sides_by_side = matches!(state.compare, Compare::Image(_));
    let frame = match sides_by_side {
        true => Rect::from_min_size(rect.min, vec2(rect.width() / 2.0 - 1.0, rect.height())),
        false => rect,
    };
    info.frame = Some([frame.width(), frame.height()]);
    let seam = rect.left() + rect.width() * state.wipe;
    navigate(ui, state, info, &response, frame, rect);
    match state.compare {
        Compare::Off => half(ui, &painter, state, info, textures, Side::A, frame),
        Compare::Image(_) => {
            half(
                ui,
                &ui.painter_at(frame),
                state,
                info,
                textures,
                Side::A,
                frame,
            );
            let other = frame.translate(vec2(frame.width() + 2.0, 0.0));
            half(
                ui,
                &ui.painter_at(other),
                state,
                info,
                textures,
                Side::B,
                other,
            );
        }
        Compare::Network => {
            let left = Rect::from_min_max(rect.min, pos2(seam, rect.bottom()));
            let right = Rect::from_min_max(pos2(seam, rect.top()), rect.max);
            half(
                ui,
                &ui.painter_at(left),
                state,
                info,
                textures,
                Side::A,
                frame,
            );
            half(
                ui,
                &ui.painter_at(right),
                state,
                info,
                textures,
                Side::B,
                frame,
            );
            painter.vline(seam, rect.y_range(), Stroke::new(2.0, POINTED));
        }
    }
    pointed(ui, state, info, &response, frame);
}

/// The name of the image, and of what it is compared with.
fn headline(ui: &mut Ui, state: &mut ViewerState) {
    let Some(collection) = state.collection.clone() else {
        return;
    };
    ui.horizontal(|ui| {
        ui.label(collection.image_title(state.current))
            .on_hover_text(collection.describe(state.current));
        if let Some((_, image)) = state.pixels[0]
            .as_ref()
            .filter(|(of, _)| *of == state.current)
        {
            hint(ui, format!("{}×{}", image.width(), image.height()));
        }
        if let Some(looked) = state.looked[0]
            .as_ref()
            .filter(|l| l.image == state.current)
        {
            hint(ui, format!("{:.0} ms", looked.milliseconds));
        }
    });
    match state.compare {
        Compare::Off => {}
        Compare::Image(other) => {
            ui.horizontal(|ui| {
                ui.label("compared with");
                let mut position = other;
                let last = state.image_count() - 1;
                let field = ui.add(egui::DragValue::new(&mut position).range(0..=last));
                field.widget_info(|| named_number("other image"));
                hint(ui, collection.image_title(other.min(last)));
                if position != other {
                    state.compare = Compare::Image(position);
                }
            });
        }
        Compare::Network => {
            ui.horizontal(|ui| {
                let name = |side: usize| {
                    let network = state.networks[side].as_ref();
                    network.map_or("nothing", |n| n.title.as_str()).to_owned()
                };
                ui.label(format!("left: {}   right: {}", name(0), name(1)));
                ui.add(
                    egui::Slider::new(&mut state.wipe, 0.0..=1.0)
                        .show_value(false)
                        .text("wipe"),
                );
            });
        }
    }
}

/// Zoom, move, select; drag the seam of a comparison.
fn navigate(
    ui: &Ui,
    state: &mut ViewerState,
    info: &FrameInfo,
    response: &Response,
    frame: Rect,
    whole: Rect,
) {
    let Some(size) = info.image_size(state) else {
        return;
    };
    let in_frame = [frame.width(), frame.height()];
    if let Some(pointer) = response.hover_pos() {
        let (scroll, pinch) = ui.input(|i| (i.smooth_scroll_delta().y, i.zoom_delta()));
        let factor = pinch * (scroll * 0.005).exp();
        if factor != 1.0 {
            let at = in_half(pointer, frame, whole);
            state.zoom.zoom_at([at.x, at.y], factor, in_frame, size);
        }
    }
    if response.dragged() {
        let seam = whole.left() + whole.width() * state.wipe;
        let origin = ui.input(|i| i.pointer.press_origin());
        let on_seam = origin.is_some_and(|at| (at.x - seam).abs() < SEAM_REACH);
        let dragging = response.id.with("seam");
        if response.drag_started() {
            ui.data_mut(|data| data.insert_temp(dragging, on_seam));
        }
        let by = response.drag_delta();
        let moves_seam = ui.data(|data| data.get_temp(dragging)) == Some(true);
        match state.compare {
            Compare::Network if moves_seam => {
                state.wipe = (state.wipe + by.x / whole.width()).clamp(0.0, 1.0);
            }
            _ => state.zoom.pan([by.x, by.y], in_frame, size),
        }
    }
    if response.double_clicked() {
        state.zoom.fit();
    }
}

/// A position relative to the half that it lies in.
fn in_half(at: Pos2, frame: Rect, whole: Rect) -> Pos2 {
    let x = at.x - whole.left();
    let second = frame.width() + 2.0;
    let x = match frame.width() < whole.width() && x > second {
        true => x - second,
        false => x,
    };
    pos2(x, at.y - whole.top())
}

/// Where the image lies on the screen, and points for each pixel.
fn placed(state: &ViewerState, frame: Rect, size: [f32; 2]) -> (Pos2, f32) {
    let in_frame = [frame.width(), frame.height()];
    let [x, y] = state.zoom.corner(in_frame, size);
    (frame.min + vec2(x, y), state.zoom.scale_in(in_frame, size))
}

fn on_screen(of: BoxXyxy, corner: Pos2, scale: f32) -> Rect {
    Rect::from_min_max(
        corner + vec2(of.x1, of.y1) * scale,
        corner + vec2(of.x2, of.y2) * scale,
    )
}

fn half(
    ui: &Ui,
    painter: &Painter,
    state: &mut ViewerState,
    info: &FrameInfo,
    textures: &mut Textures,
    side: Side,
    frame: Rect,
) {
    let picture = state.image_of(side);
    let pixels = state.pixels[side.index()]
        .as_ref()
        .filter(|(of, _)| *of == picture);
    let Some((_, image)) = pixels.filter(|_| textures.has_image(picture)) else {
        let text = match textures.is_bad(picture) {
            true => "this image can't be read; see the notices",
            false => "reading …",
        };
        background(ui, painter, Rect::NOTHING, textures);
        let middle = painter.clip_rect().center();
        let color = ui.visuals().weak_text_color();
        painter.text(
            middle,
            Align2::CENTER_CENTER,
            text,
            FontId::proportional(16.0),
            color,
        );
        return;
    };
    let size = [image.width() as f32, image.height() as f32];
    let (corner, scale) = placed(state, frame, size);
    let all = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
    let rect = Rect::from_min_size(corner, vec2(size[0], size[1]) * scale);
    background(ui, painter, rect, textures);
    let map = match side {
        Side::A => chosen_map(ui, state, textures),
        Side::B => None,
    };
    // A map lies between the image and its boxes.
    let under = match (&map, textures.pixels(picture)) {
        (None, Some(image)) => Some(Under { image, rect }),
        _ => None,
    };
    if under.is_none()
        && let Some(texture) = textures.image(ui.ctx(), picture)
    {
        painter.image(texture.id(), rect, all, Color32::WHITE);
    }
    if let Some(map) = map {
        let opacity = (state.gates.opacity * 255.0) as u8;
        let tint = Color32::from_white_alpha(opacity);
        // Padding is no part of the image.
        let seen = on_screen(map.seen, corner, scale).intersect(painter.clip_rect());
        let painter = painter.with_clip_rect(seen);
        painter.image(map.texture, on_screen(map.of, corner, scale), all, tint);
    }
    let outlines = outlines(painter, state, info.boxes(side), side, corner, scale);
    match textures.layer(side) {
        Some(layer) => layer.draw(painter, under, outlines),
        None => outlines.draw(painter),
    }
}

/// Fill what the image leaves free. Where the CPU draws, the window's own color stays, which is
/// there already: to fill half of a window takes two milliseconds.
fn background(ui: &Ui, painter: &Painter, picture: Rect, textures: &mut Textures) {
    if textures.layer(Side::A).is_some() {
        return;
    }
    let whole = painter.clip_rect();
    let color = ui.visuals().extreme_bg_color;
    for rect in around(whole, picture) {
        painter.rect_filled(rect, 0.0, color);
    }
}

/// What is left of `whole` around `hole`: up to four rectangles that do not overlap.
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

/// A channel's map over the image.
struct ShownMap {
    texture: egui::TextureId,
    /// The part of the image that it covers, and that which the network saw.
    of: BoxXyxy,
    seen: BoxXyxy,
}

/// The map that was chosen, if it is there.
fn chosen_map(ui: &Ui, state: &ViewerState, textures: &mut Textures) -> Option<ShownMap> {
    let (channel, maps, looked) = (
        state.gates.channel?,
        state.maps.as_ref()?,
        state.looked[0].as_ref()?,
    );
    if maps.image != state.current || maps.block != state.gates.block || state.filter().hide_all {
        return None;
    }
    let [before, after] = textures.channel(ui.ctx(), maps, channel)?;
    let texture = match state.gates.side {
        MapSide::Before => before,
        MapSide::After => after,
    };
    Some(ShownMap {
        texture: texture.id(),
        of: maps.box_in_image(looked.seen)?,
        seen: looked.seen,
    })
}

/// The boxes of a half and their labels.
fn outlines(
    painter: &Painter,
    state: &ViewerState,
    boxes: &CurrentBoxes,
    side: Side,
    corner: Pos2,
    scale: f32,
) -> Outlines {
    let clip = painter.clip_rect();
    let mut labels = Labels::new(painter);
    let is_first = side == Side::A;
    let pointed = [state.hovered, state.selected].map(|b| b.filter(|_| is_first));
    let partner = pointed
        .into_iter()
        .flatten()
        .find_map(|b| boxes.partner(b))
        .map(|(partner, _)| partner);
    let mut outlines = Outlines::new(painter.pixels_per_point(), clip);
    let mut texts = Vec::new();
    // What is pointed at lies on top and has the first choice of a place for its label.
    let mut shown = state.shown_boxes(boxes);
    let rank = |of: &BoxRef| match pointed.contains(&Some(*of)) {
        true => 0,
        false if partner == Some(*of) => 1,
        false => 2,
    };
    shown.sort_by_key(rank);
    for &of in shown.iter().rev() {
        let Some(box_in_image) = boxes.box_of(of) else {
            continue;
        };
        let rect = on_screen(box_in_image, corner, scale);
        if !rect.intersects(clip) {
            continue;
        }
        // What was found is drawn once, by its detection.
        let is_found = matches!(of, BoxRef::Truth(at)
            if boxes.matches.is_some() && !boxes.is_missed(at) && !boxes.truth[at].is_crowd);
        let is_pointed = rank(&of) == 0;
        let color = match is_pointed {
            true => POINTED,
            false => box_color(state, boxes, of),
        };
        let width = match (is_pointed, is_found && rank(&of) == 2) {
            (true, _) => 3.0,
            (_, true) => 1.0,
            _ => 2.0,
        };
        let stroke = Stroke::new(width, color);
        match of {
            BoxRef::Truth(at) if boxes.truth[at].is_crowd => outlines.dashed(rect, stroke),
            _ => outlines.solid(rect, stroke),
        }
        if !is_found || is_pointed {
            texts.push((of, rect, color));
        }
    }
    if let Some((one, (other, iou))) = pointed
        .into_iter()
        .flatten()
        .find_map(|b| boxes.partner(b).map(|partner| (b, partner)))
        && let (Some(a), Some(b)) = (boxes.box_of(one), boxes.box_of(other))
    {
        let [a, b] = [a, b].map(|of| on_screen(of, corner, scale));
        let stroke = Stroke::new(1.5, POINTED);
        outlines.connect(a.left_top(), b.left_top(), stroke);
        outlines.connect(a.right_bottom(), b.right_bottom(), stroke);
        let text = format!("IoU {iou:.2}");
        labels.add(&mut outlines, a.union(b), text, POINTED);
    }
    for (of, rect, color) in texts.into_iter().rev() {
        if labels.count >= MOST_LABELS {
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
    outlines
}

/// Labels of boxes. They go with the outlines: backgrounds with smooth, rounded corners would be many
/// small triangles for each.
struct Labels<'a> {
    painter: &'a Painter,
    placer: LabelPlacer,
    count: usize,
}

impl<'a> Labels<'a> {
    fn new(painter: &'a Painter) -> Self {
        Self {
            painter,
            placer: LabelPlacer::new(painter.clip_rect(), LABEL_SIZE + 4.0),
            count: 0,
        }
    }

    /// Whether there may be room at this box.
    fn may_add(&self, around: Rect) -> bool {
        self.placer.may_place(around, LABEL_MARGIN)
    }

    /// At this box, if there is room.
    fn add(&mut self, outlines: &mut Outlines, around: Rect, text: String, color: Color32) {
        let [r, g, b, _] = color.to_array();
        let [r, g, b] = sedet_core::render::palette::text_color_on([r, g, b]);
        let ink = Color32::from_rgb(r, g, b);
        let font = FontId::proportional(LABEL_SIZE);
        let galley = self.painter.layout_no_wrap(text, font, ink);
        if let Some(place) = self.placer.place(around, galley.size().x + LABEL_MARGIN) {
            let place = place.round_to_pixels(self.painter.pixels_per_point());
            outlines.fill(place, color);
            let at = place.min + vec2(LABEL_MARGIN / 2.0, 1.0);
            outlines.text(at, galley, ink);
            self.count += 1;
        }
    }
}

/// The box and the pixel under the pointer.
fn pointed(ui: &Ui, state: &mut ViewerState, info: &FrameInfo, response: &Response, frame: Rect) {
    let Some(pointer) = response.hover_pos().filter(|at| frame.contains(*at)) else {
        return;
    };
    let Some((_, image)) = state.pixels[0]
        .clone()
        .filter(|(of, _)| *of == state.current)
    else {
        return;
    };
    let size = [image.width() as f32, image.height() as f32];
    let (corner, scale) = placed(state, frame, size);
    let boxes = info.boxes(Side::A);
    // The smallest box: of nested ones it can't be reached otherwise.
    let under = state.shown_boxes(boxes).into_iter().filter_map(|of| {
        let rect = on_screen(boxes.box_of(of)?, corner, scale).expand(2.0);
        rect.contains(pointer).then_some((of, rect.area()))
    });
    let hovered = under.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(of, _)| of);
    if hovered.is_some() {
        state.pointing = hovered;
    }
    if response.clicked() {
        state.selected = hovered;
    }
    let at = (pointer - corner) / scale;
    if at.x >= 0.0 && at.y >= 0.0 && at.x < size[0] && at.y < size[1] {
        let (x, y) = (at.x as u32, at.y as u32);
        let [r, g, b] = image.get_pixel(x, y).0;
        let text = format!(" {x}, {y}: {r} {g} {b} ");
        let ink = ui.visuals().text_color();
        let galley = ui
            .painter()
            .layout_no_wrap(text, FontId::monospace(11.0), ink);
        let place = Rect::from_min_size(frame.left_bottom() - vec2(0.0, 16.0), galley.size());
        let painter = ui.painter_at(frame);
        painter.rect_filled(place, 0.0, ui.visuals().window_fill());
        painter.galley(place.min, galley, ink);
    }
}

/// What can be compared.
pub fn compare_menu(ui: &mut Ui, state: &mut ViewerState) {
    let more = state.image_count() > 1;
    if ui
        .add_enabled(more, egui::Button::new("With another image"))
        .clicked()
    {
        let next = (state.current + 1) % state.image_count().max(1);
        state.compare = Compare::Image(next);
        ui.close();
    }
    let second = state.networks[1].clone();
    if ui
        .add_enabled(
            second.is_some(),
            egui::Button::new("With the second network"),
        )
        .clicked()
    {
        state.compare = Compare::Network;
        ui.close();
    }
    if ui.button("Off").clicked() {
        if state.compare != Compare::Off {
            toggle_compare(state);
        }
        ui.close();
    }
    ui.separator();
    ui.label("Second network");
    let memory = egui::Id::unique("second network");
    let mut path: String = ui.data(|data| data.get_temp(memory)).unwrap_or_default();
    let field = egui::TextEdit::singleline(&mut path).hint_text("checkpoint");
    ui.add(field).widget_info(|| named_text("Second"));
    ui.data_mut(|data| data.insert_temp(memory, path.clone()));
    if ui.button("Load").clicked() && !path.trim().is_empty() {
        state
            .requests
            .push(Request::OpenSecond(path.trim().to_owned()));
        ui.close();
    }
    if let Some(second) = second {
        hint(ui, second.title);
        if ui.button("Remove").clicked() {
            state.close_second();
            ui.close();
        }
        if second.is_detector && ui.button("Detect in all images with it").clicked() {
            state.requests.push(Request::DetectAll(Side::B));
            ui.close();
        }
        let better = state.only_first_right();
        let text = format!("Left right, right wrong: {} images", better.len());
        if ui
            .add_enabled(!better.is_empty(), egui::Button::new(text))
            .clicked()
        {
            state.pick("left right, right wrong", better);
            state.compare = Compare::Network;
            ui.close();
        }
    }
}
