//! The view of the image, rendered for exports: composed from the same boxes, labels, feature map and panes
//! as the window.

use std::sync::Arc;

use egui::{Color32, ColorImage, Painter, Pos2, Rect, Stroke, vec2};
use image::RgbImage;

use super::view::{PaneFrame, Transform, View, outlines, selected_map};
use crate::drawing::layer::{Background, Layer, Overlay};
use crate::drawing::offscreen::offscreen;
use crate::panels::FrameCache;
use crate::state::ViewerState;
use crate::style::HIGHLIGHT;
use crate::textures::{color_image, map_image};
use sedet_core::render::DrawnShape;
use sedet_data::boxes::BoxXyxy;

/// The least and the largest number of pixels per point of the window. Text stays sharp with the least, and
/// large images get more until the largest.
const DENSITIES: [f32; 2] = [2.0, 4.0];
/// The size of the view before the window has drawn it, in points.
const UNSEEN: [f32; 2] = [960.0, 720.0];
/// The font size below which no text is.
const SMALLEST_TEXT: f32 = 1.0;

/// What the view shows.
pub(super) struct RenderedView {
    /// The pixels: everything, or the images and feature maps alone if boxes and labels are shapes.
    pub image: RgbImage,
    /// Boxes, labels and lines.
    pub shapes: Vec<DrawnShape>,
}

/// Composes what the window shows, cropped to the images and labels: with boxes and labels as pixels, or, if
/// `as_shapes`, as shapes.
///
/// # Errors
/// An image has not been decoded.
pub(super) fn compose(state: &ViewerState, as_shapes: bool) -> Result<RenderedView, String> {
    // The pointer is on its way to the menu: what it is over by chance does not belong to the image.
    let state = &ViewerState {
        hovered: None,
        ..state.clone()
    };
    let mut cache = FrameCache::default();
    cache.update(state);
    let size = if state.view_size[0] >= 1.0 && state.view_size[1] >= 1.0 {
        state.view_size
    } else {
        UNSEEN
    };
    let whole = Rect::from_min_size(Pos2::ZERO, vec2(size[0], size[1]));
    let density = density(state, whole);
    let rendered = offscreen(whole.size(), density, |painter| {
        of_panes(state, &cache, whole, as_shapes, painter)
    });
    rendered.unwrap_or_else(|| Err("nothing is shown".to_owned()))
}

/// Returns the pixels per point of the settings, or those at which no pixel of the image is lost, within
/// [`DENSITIES`].
fn density(state: &ViewerState, whole: Rect) -> f32 {
    if let Some(scale) = state.settings.export_scale {
        return scale as f32;
    }
    let view = View::new(whole, state);
    let frame = view.panes(state).first().map(|pane| pane.frame);
    let image = state.pixels[0].as_ref();
    let scale = frame.zip(image).map_or(1.0, |(frame, (_, image))| {
        let size = [image.width() as f32, image.height() as f32];
        Transform::new(state, frame, size).scale
    });
    (1.0 / scale).clamp(DENSITIES[0], DENSITIES[1])
}

fn of_panes(
    state: &ViewerState,
    cache: &FrameCache,
    whole: Rect,
    as_shapes: bool,
    painter: &dyn Fn(Rect) -> Painter,
) -> Result<RenderedView, String> {
    let view = View::new(whole, state);
    let mut parts = Vec::new();
    let mut shapes = Vec::new();
    let mut density = DENSITIES[0];
    for frame in view.panes(state) {
        let painter = painter(frame.visible);
        density = painter.pixels_per_point();
        if !frame.visible.is_positive() {
            continue;
        }
        let (background, transform) = background(state, &frame)?;
        let outlined = || outlines(&painter, state, cache, frame.pane, transform);
        let overlay = overlay(state, &frame, transform);
        let part = Layer::render(&painter, background, overlay, outlined(), as_shapes);
        parts.extend(part);
        if as_shapes {
            shapes.extend(vectors(outlined(), frame.visible));
        }
    }
    let bounds = parts.iter().map(|(bounds, _)| *bounds);
    let bounds = bounds.fold(Rect::NOTHING, Rect::union);
    if !bounds.is_positive() {
        return Err("nothing of the image is in sight".to_owned());
    }
    let pixels = |points: f32| (points * density).round().max(0.0) as u32;
    let mut image = RgbImage::new(pixels(bounds.width()), pixels(bounds.height()));
    for (part, colors) in &parts {
        let [left, top] = [part.left() - bounds.left(), part.top() - bounds.top()].map(pixels);
        paste(&mut image, colors, [left, top]);
    }
    if state.has_divider() {
        let x = view.divider(state);
        let ends = [x, x].map(|x| Pos2::new(x, bounds.top()));
        let ends = [ends[0], Pos2::new(ends[1].x, bounds.bottom())];
        let stroke = Stroke::new(2.0, HIGHLIGHT);
        if as_shapes {
            shapes.push(line(ends, stroke));
        } else {
            let half = stroke.width / 2.0;
            let columns = pixels(x - half - bounds.left())..pixels(x + half - bounds.left());
            let (width, height) = image.dimensions();
            for x in columns.filter(|x| *x < width) {
                for y in 0..height {
                    image.put_pixel(x, y, image::Rgb([255; 3]));
                }
            }
        }
    }
    let shapes = shapes.into_iter();
    Ok(RenderedView {
        image,
        shapes: shapes
            .map(|shape| moved(shape, bounds.min, density))
            .collect(),
    })
}

/// Returns the image of a pane.
fn background(state: &ViewerState, frame: &PaneFrame) -> Result<(Background, Transform), String> {
    let index = state.image_of(frame.pane);
    let pixels = state.pixels[frame.pane.index()].as_ref();
    let pixels = pixels.filter(|(of, _)| *of == index);
    let (_, image) = pixels.ok_or("the image has not been read")?;
    let size = [image.width() as f32, image.height() as f32];
    let transform = Transform::new(state, frame.frame, size);
    let rect = transform.rect(BoxXyxy::new(0.0, 0.0, size[0], size[1]));
    let background = Background {
        image: Arc::new(color_image(image)),
        rect,
    };
    Ok((background, transform))
}

/// Returns the feature map that is shown over a pane.
fn overlay(state: &ViewerState, frame: &PaneFrame, transform: Transform) -> Option<Overlay> {
    let map = selected_map(state, frame.pane)?;
    Some(Overlay {
        image: Arc::new(map_image(map.values, map.range)),
        rect: transform.rect(map.cells),
        clip: transform.rect(map.input_region).intersect(frame.visible),
        opacity: state.gates.opacity,
    })
}

/// Returns outlines as shapes in points of the window, clipped to the pane.
fn vectors(outlines: crate::drawing::outlines::Outlines, clip: Rect) -> Vec<DrawnShape> {
    let (fills, texts, lines) = outlines.into_parts();
    let fills = fills.into_iter().filter_map(|(rect, color)| {
        let rect = rect.intersect(clip);
        let sides = [rect.left(), rect.top(), rect.width(), rect.height()];
        rect.is_positive()
            .then(|| DrawnShape::Fill(sides, rgb(color)))
    });
    let texts = texts.into_iter().flat_map(|text| {
        let size = text.galley.job.sections.first();
        let size = size.map_or(SMALLEST_TEXT, |section| section.format.font_id.size);
        let rows = text.galley.rows.iter().filter_map(|row| {
            let first = row.glyphs.first()?;
            let at = text.at + row.pos.to_vec2() + first.pos.to_vec2();
            Some(DrawnShape::Text {
                at: [at.x, at.y],
                width: row.size.x,
                size,
                color: rgb(text.ink),
                text: row.text(),
            })
        });
        rows.collect::<Vec<_>>()
    });
    let lines = lines.into_iter().filter_map(|shape| match shape {
        egui::Shape::LineSegment { points, stroke } => Some(line(points, stroke)),
        _ => None,
    });
    fills.chain(texts).chain(lines).collect()
}

fn line(ends: [Pos2; 2], stroke: Stroke) -> DrawnShape {
    let ends = ends.map(|end| [end.x, end.y]);
    DrawnShape::Line(ends, stroke.width, rgb(stroke.color))
}

/// Returns a shape in pixels of the rendered image.
fn moved(shape: DrawnShape, corner: Pos2, density: f32) -> DrawnShape {
    let place = |[x, y]: [f32; 2]| [(x - corner.x) * density, (y - corner.y) * density];
    match shape {
        DrawnShape::Fill([left, top, width, height], color) => {
            let [left, top] = place([left, top]);
            DrawnShape::Fill([left, top, width * density, height * density], color)
        }
        DrawnShape::Line(ends, width, color) => {
            DrawnShape::Line(ends.map(place), width * density, color)
        }
        DrawnShape::Text {
            at,
            width,
            size,
            color,
            text,
        } => DrawnShape::Text {
            at: place(at),
            width: width * density,
            size: size * density,
            color,
            text,
        },
    }
}

fn rgb(color: Color32) -> [u8; 3] {
    [color.r(), color.g(), color.b()]
}

/// Copies an image to a place in another one, over black where it is transparent.
fn paste(into: &mut RgbImage, from: &ColorImage, [left, top]: [u32; 2]) {
    let width = from.width().max(1);
    for (at, pixel) in from.pixels.iter().enumerate() {
        let (x, y) = (left + (at % width) as u32, top + (at / width) as u32);
        if x < into.width() && y < into.height() {
            into.put_pixel(x, y, image::Rgb(rgb(*pixel)));
        }
    }
}
