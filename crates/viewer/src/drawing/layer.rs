//! An image composed with its boxes and labels on the CPU, for software rendering.
//!
//! Mesa's llvmpipe shades blocks of 4 by 4 pixels, those along the diagonal of a rectangle twice: outlines
//! of 1,000 boxes take two thirds of a frame. It also evaluates both texture filters, magnification and
//! minification, for every pixel. Drawing the image and a second texture of its boxes took 6 to 8 of 20 ms
//! of CPU time. So the image is scaled here when its position changes, boxes and labels are filled into it
//! when they change, and the result is drawn as one texture at its own resolution.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use egui::emath::GuiRounding as _;
use egui::epaint::text::Glyph;
use egui::{Color32, ColorImage, FontId, Galley, Painter, Pos2, Rect, Shape, Stroke};
use egui::{TextureHandle, TextureOptions};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

use super::outlines::{Outlines, Text};
use crate::style::WHOLE_TEXTURE;

/// The image under the boxes and the rectangle that all of it would cover on the screen.
#[derive(Clone)]
pub struct Background {
    pub image: Arc<ColorImage>,
    pub rect: Rect,
}

impl PartialEq for Background {
    fn eq(&self, other: &Self) -> bool {
        self.rect == other.rect && Arc::ptr_eq(&self.image, &other.image)
    }
}

/// A colored feature map over the image.
#[derive(Clone)]
pub struct Overlay {
    /// A pixel for each cell.
    pub image: Arc<ColorImage>,
    /// The rectangle of all cells on the screen.
    pub rect: Rect,
    /// The part of the screen that is covered.
    pub clip: Rect,
    /// The opacity, 0 to 1.
    pub opacity: f32,
}

impl PartialEq for Overlay {
    fn eq(&self, other: &Self) -> bool {
        (self.rect, self.clip, self.opacity) == (other.rect, other.clip, other.opacity)
            && Arc::ptr_eq(&self.image, &other.image)
    }
}

/// The content of a layer.
#[derive(PartialEq)]
struct Shown {
    /// The part of the screen that is covered.
    bounds: Rect,
    pixels_per_point: f32,
    /// The image and the visible part of its rectangle.
    background: Option<(Background, Rect)>,
    /// With software rendering, a feature map in the window is a texture of its own under the layer.
    overlay: Option<Overlay>,
    fills: Vec<(Rect, Color32)>,
    texts: Vec<Text>,
}

impl Shown {
    /// Returns the content and the lines of a part of the screen; `None` if nothing is in it.
    fn new(
        painter: &Painter,
        background: Option<Background>,
        outlines: Outlines,
    ) -> Option<(Self, Vec<Shape>)> {
        let pixels_per_point = painter.pixels_per_point();
        let clip = painter.clip_rect().round_to_pixels(pixels_per_point);
        let (fills, texts, lines) = outlines.into_parts();
        let background = background.map(|background| {
            let part = background.rect.round_to_pixels(pixels_per_point);
            (background, part.intersect(clip))
        });
        let background = background.filter(|(_, part)| part.is_positive());
        let rects = fills.iter().map(|(rect, _)| *rect);
        let rects = rects.chain(background.iter().map(|(_, part)| *part));
        let bounds = rects.fold(Rect::NOTHING, Rect::union).intersect(clip);
        let shown = Self {
            bounds,
            pixels_per_point,
            background,
            overlay: None,
            fills,
            texts,
        };
        bounds.is_positive().then_some((shown, lines))
    }
}

/// A texture of an image with boxes and labels, composed again when any of them changes.
#[derive(Default)]
pub struct Layer {
    shown: Option<Shown>,
    scaled: Scaled,
    glyphs: Glyphs,
    image: Arc<ColorImage>,
    texture: Option<TextureHandle>,
}

impl Layer {
    /// Draws boxes over an image, or over what has been drawn already.
    pub fn draw(&mut self, painter: &Painter, background: Option<Background>, outlines: Outlines) {
        self.glyphs.begin_frame(painter);
        let Some((shown, lines)) = Shown::new(painter, background, outlines) else {
            return;
        };
        let bounds = shown.bounds;
        if self.shown.as_ref() != Some(&shown) {
            self.compose(&shown);
            let (image, options) = (self.image.clone(), TextureOptions::NEAREST);
            match &mut self.texture {
                Some(texture) => texture.set(image, options),
                None => self.texture = Some(painter.ctx().load_texture("boxes", image, options)),
            }
            self.shown = Some(shown);
        }
        if let Some(texture) = &self.texture {
            painter.image(texture.id(), bounds, WHOLE_TEXTURE, Color32::WHITE);
        }
        painter.extend(lines);
    }

    /// Returns what the window shows as an image, and the part of the screen that it is of: without text and
    /// boxes, if `only_image`.
    pub fn render(
        painter: &Painter,
        background: Background,
        overlay: Option<Overlay>,
        outlines: Outlines,
        only_image: bool,
    ) -> Option<(Rect, ColorImage)> {
        let mut layer = Self::default();
        layer.glyphs.begin_frame(painter);
        let (mut shown, lines) = Shown::new(painter, Some(background), outlines)?;
        shown.overlay = overlay;
        if only_image {
            shown.fills.clear();
            shown.texts.clear();
        }
        layer.compose(&shown);
        let mut image = Arc::unwrap_or_clone(layer.image);
        if !only_image {
            let mut canvas = Canvas {
                corner: shown.bounds.min,
                pixels_per_point: shown.pixels_per_point,
                image: &mut image,
            };
            for line in lines {
                if let Shape::LineSegment { points, stroke } = line {
                    canvas.line(points, stroke);
                }
            }
        }
        Some((shown.bounds, image))
    }

    /// Returns an image with a feature map over it, at its own size.
    pub fn tile(image: Arc<ColorImage>, overlay: Overlay) -> ColorImage {
        let [width, height] = image.size.map(|side| side as f32);
        let rect = Rect::from_min_size(Pos2::ZERO, egui::vec2(width, height));
        let mut layer = Self::default();
        layer.compose(&Shown {
            bounds: rect,
            pixels_per_point: 1.0,
            background: Some((Background { image, rect }, rect)),
            overlay: Some(overlay),
            fills: Vec::new(),
            texts: Vec::new(),
        });
        Arc::unwrap_or_clone(layer.image)
    }

    /// Composes the image.
    fn compose(&mut self, shown: &Shown) {
        // Reuse the memory of the previous image, which OpenGL has copied by now: allocating it costs as
        // much as composing.
        let image = Arc::make_mut(&mut self.image);
        let mut canvas = Canvas::new(shown.bounds, shown.pixels_per_point, image);
        if let Some((background, part)) = &shown.background {
            let scaled = self.scaled.get(background, *part, shown.pixels_per_point);
            canvas.paste(*part, scaled);
        }
        if let Some(overlay) = &shown.overlay {
            canvas.overlay(overlay);
        }
        for (rect, color) in &shown.fills {
            canvas.fill(*rect, *color);
        }
        for text in &shown.texts {
            canvas.text(text, &mut self.glyphs);
        }
    }
}

/// A part of an image scaled to its size on the screen.
#[derive(Default)]
struct Scaled {
    of: Option<(Background, Rect, f32)>,
    image: ColorImage,
    resizer: Resizer,
}

impl Scaled {
    fn get(&mut self, background: &Background, part: Rect, pixels_per_point: f32) -> &ColorImage {
        let of = (background.clone(), part, pixels_per_point);
        if self.of.as_ref() != Some(&of) {
            let size = part.size() * pixels_per_point;
            let [width, height] = [size.x, size.y].map(|side| side.round().max(1.0) as usize);
            let whole = background.rect;
            let pixels = background.image.size.map(|side| side as f64);
            let share = |at: f32, from: f32, all: f32| f64::from((at - from) / all).clamp(0.0, 1.0);
            let columns = [part.left(), part.right()]
                .map(|x| share(x, whole.left(), whole.width()) * pixels[0]);
            let rows = [part.top(), part.bottom()]
                .map(|y| share(y, whole.top(), whole.height()) * pixels[1]);
            self.image.size = [width, height];
            self.image.source_size = size;
            self.image.pixels.resize(width * height, Color32::BLACK);
            let is_larger = columns[1] - columns[0] < width as f64;
            if is_larger || self.shrink(&background.image, columns, rows).is_none() {
                self.sample(&background.image, columns, rows);
            }
            self.of = Some(of);
        }
        &self.image
    }

    /// Interpolates bilinearly, as a GPU does.
    fn shrink(&mut self, from: &ColorImage, columns: [f64; 2], rows: [f64; 2]) -> Option<()> {
        let [width, height] = from.size.map(|side| side as u32);
        let source = images::ImageRef::new(width, height, from.as_raw(), PixelType::U8x4).ok()?;
        let [width, height] = self.image.size.map(|side| side as u32);
        let pixels = self.image.as_raw_mut();
        let mut target =
            images::Image::from_slice_u8(width, height, pixels, PixelType::U8x4).ok()?;
        let options = ResizeOptions::new()
            .crop(
                columns[0],
                rows[0],
                columns[1] - columns[0],
                rows[1] - rows[0],
            )
            .resize_alg(ResizeAlg::Interpolation(FilterType::Bilinear))
            .use_alpha(false);
        self.resizer.resize(&source, &mut target, &options).ok()
    }

    /// Takes the nearest pixel, so that single pixels are visible.
    fn sample(&mut self, from: &ColorImage, columns: [f64; 2], rows: [f64; 2]) {
        let nearest = |[first, last]: [f64; 2], count: usize, most: usize| -> Vec<usize> {
            let step = (last - first) / count as f64;
            let at = |place: usize| (first + (place as f64 + 0.5) * step) as usize;
            let last = most.saturating_sub(1);
            (0..count).map(|place| at(place).min(last)).collect()
        };
        let [width, height] = self.image.size;
        let columns = nearest(columns, width, from.width());
        let rows = nearest(rows, height, from.height());
        for (target, y) in self.image.pixels.chunks_exact_mut(width).zip(rows) {
            let source = &from.pixels[y * from.width()..];
            for (pixel, &x) in target.iter_mut().zip(&columns) {
                *pixel = source[x];
            }
        }
    }
}

/// The pixels of a part of the screen.
struct Canvas<'a> {
    corner: Pos2,
    pixels_per_point: f32,
    image: &'a mut ColorImage,
}

impl<'a> Canvas<'a> {
    /// Creates a transparent canvas in the memory of `image`.
    fn new(bounds: Rect, pixels_per_point: f32, image: &'a mut ColorImage) -> Self {
        let pixels = |points: f32| (points * pixels_per_point).round().max(0.0) as usize;
        image.size = [pixels(bounds.width()), pixels(bounds.height())];
        image.source_size = bounds.size() * pixels_per_point;
        image.pixels.clear();
        let count = image.width() * image.height();
        image.pixels.resize(count, Color32::TRANSPARENT);
        Self {
            corner: bounds.min,
            pixels_per_point,
            image,
        }
    }

    /// Returns the pixel at a position of the screen.
    fn pixel(&self, at: Pos2) -> [i64; 2] {
        let at = (at - self.corner) * self.pixels_per_point;
        [at.x.round() as i64, at.y.round() as i64]
    }

    /// Returns the columns and rows of a rectangle that are inside the canvas.
    fn within(&self, rect: Rect) -> [Range<usize>; 2] {
        let (from, to) = (self.pixel(rect.min), self.pixel(rect.max));
        [0, 1].map(|axis| {
            let inside = |at: i64| (at.max(0) as usize).min(self.image.size[axis]);
            inside(from[axis])..inside(to[axis])
        })
    }

    fn fill(&mut self, rect: Rect, color: Color32) {
        let width = self.image.width();
        let [columns, rows] = self.within(rect);
        for y in rows {
            self.image.pixels[y * width..][columns.clone()].fill(color);
        }
    }

    /// Blends a feature map over the image, interpolated bilinearly as a GPU does.
    fn overlay(&mut self, overlay: &Overlay) {
        let [columns, rows] = self.within(overlay.clip);
        let (cells, width) = (&*overlay.image, self.image.width());
        if cells.pixels.is_empty() || !overlay.rect.is_positive() {
            return;
        }
        let scale = self.pixels_per_point;
        // The cells beside a pixel and the share of the second one, along an axis.
        let beside = |pixel: usize, corner: f32, from: f32, length: f32, count: usize| {
            let point = corner + (pixel as f32 + 0.5) / scale;
            let last = (count - 1) as f32;
            let at = ((point - from) / length * count as f32 - 0.5).clamp(0.0, last);
            let first = at as usize;
            (first, (first + 1).min(count - 1), at - at.floor())
        };
        let (corner, rect) = (self.corner, overlay.rect);
        for y in rows {
            let (top, bottom, down) =
                beside(y, corner.y, rect.top(), rect.height(), cells.height());
            for x in columns.clone() {
                let (left, right, across) =
                    beside(x, corner.x, rect.left(), rect.width(), cells.width());
                let row = |y: usize| {
                    let at = |x: usize| cells.pixels[y * cells.width() + x];
                    at(left).lerp_to_gamma(at(right), across)
                };
                let color = row(top).lerp_to_gamma(row(bottom), down);
                let pixel = &mut self.image.pixels[y * width + x];
                *pixel = pixel.lerp_to_gamma(color, overlay.opacity);
            }
        }
    }

    /// Draws an antialiased line.
    fn line(&mut self, ends: [Pos2; 2], stroke: Stroke) {
        let scale = self.pixels_per_point;
        let [from, to] = ends.map(|at| (at - self.corner) * scale);
        let half = stroke.width * scale / 2.0;
        let around = Rect::from_two_pos(ends[0], ends[1]).expand(stroke.width + 1.0);
        let [columns, rows] = self.within(around);
        let (along, width) = (to - from, self.image.width());
        for y in rows {
            for x in columns.clone() {
                let at = egui::vec2(x as f32 + 0.5, y as f32 + 0.5) - from;
                let share = (at.dot(along) / along.length_sq().max(1e-6)).clamp(0.0, 1.0);
                let distance = (at - along * share).length();
                let cover = (half + 0.5 - distance).clamp(0.0, 1.0);
                let pixel = &mut self.image.pixels[y * width + x];
                *pixel = pixel.lerp_to_gamma(stroke.color, cover);
            }
        }
    }

    /// Copies an opaque image of the size of this rectangle.
    fn paste(&mut self, part: Rect, source: &ColorImage) {
        let width = self.image.width();
        let [columns, rows] = self.within(part);
        for (y, row) in rows.zip(source.pixels.chunks_exact(source.width().max(1))) {
            let count = columns.len().min(row.len());
            self.image.pixels[y * width + columns.start..][..count].copy_from_slice(&row[..count]);
        }
    }

    /// Draws text as egui does, with every glyph aligned to pixels.
    fn text(&mut self, text: &Text, glyphs: &mut Glyphs) {
        let scale = self.pixels_per_point;
        for row in &text.galley.rows {
            let at = text.at.round_to_pixels(scale) + row.pos.to_vec2();
            for glyph in &row.glyphs {
                if glyph.uv_rect.is_nothing() {
                    continue;
                }
                let within = (glyph.pos + glyph.uv_rect.offset).round_to_pixels(scale);
                let tint = if glyph.is_color {
                    Color32::WHITE
                } else {
                    text.ink
                };
                let corner = self.pixel(at + within.to_vec2());
                self.blend(corner, glyphs.bitmap(glyph), tint);
            }
        }
    }

    /// Blends an image, multiplied by an opaque color, over the canvas with its top left corner at a pixel.
    fn blend(&mut self, corner: [i64; 2], source: &ColorImage, tint: Color32) {
        // For each axis: the first and last visible pixel of the source, and the destination of the first.
        let [columns, rows] = [0, 1].map(|axis| {
            let (at, size) = (corner[axis], source.size[axis] as i64);
            let first = (-at).clamp(0, size);
            let last = (self.image.size[axis] as i64 - at).clamp(first, size);
            (first as usize, last as usize, (at + first).max(0) as usize)
        });
        let width = self.image.width();
        for y in rows.0..rows.1 {
            let from = &source.pixels[y * source.width()..][columns.0..columns.1];
            let to = &mut self.image.pixels[(rows.2 + y - rows.0) * width + columns.2..];
            for (below, pixel) in to.iter_mut().zip(from).filter(|(_, pixel)| pixel.a() > 0) {
                *below = over(*below, *pixel, tint);
            }
        }
    }
}

/// Blends a premultiplied pixel, multiplied by an opaque color, over another one.
fn over(below: Color32, pixel: Color32, tint: Color32) -> Color32 {
    let left = 255 - u32::from(pixel.a());
    let [r, g, b, a] = std::array::from_fn(|channel| {
        let [below, pixel, tint] = [below, pixel, tint].map(|color| u32::from(color[channel]));
        ((pixel * tint + below * left + 127) / 255) as u8
    });
    Color32::from_rgba_premultiplied(r, g, b, a)
}

/// Bitmaps of glyphs from egui's font atlas. egui only returns a copy of the whole atlas, which takes
/// longer than drawing 200 labels, so the bitmaps are cached.
#[derive(Default)]
struct Glyphs {
    /// By their rectangles in the atlas.
    bitmaps: HashMap<[[u16; 2]; 2], ColorImage>,
    /// A cached layout that egui drops when it rebuilds the atlas and glyphs may move.
    witness: Option<Arc<Galley>>,
    /// A copy of the atlas for the glyphs of this frame that are not cached.
    atlas: Option<ColorImage>,
    context: egui::Context,
}

impl Glyphs {
    /// Clears the cache if egui has rebuilt the atlas. Called in every frame, so that egui keeps the witness.
    fn begin_frame(&mut self, painter: &Painter) {
        let (text, font) = ("i".to_owned(), FontId::proportional(12.0));
        let witness = painter.layout_no_wrap(text, font, Color32::PLACEHOLDER);
        let is_same = |known: &Arc<Galley>| Arc::ptr_eq(known, &witness);
        if !self.witness.as_ref().is_some_and(is_same) {
            self.bitmaps.clear();
            self.witness = Some(witness);
        }
        self.atlas = None;
        self.context = painter.ctx().clone();
    }

    /// Returns the bitmap of a glyph laid out in this frame.
    fn bitmap(&mut self, glyph: &Glyph) -> &ColorImage {
        let (from, to) = (glyph.uv_rect.min, glyph.uv_rect.max);
        self.bitmaps.entry([from, to]).or_insert_with(|| {
            let copy = || self.context.fonts(|fonts| fonts.image());
            let atlas = self.atlas.get_or_insert_with(copy);
            let [corner, size] = [from, [to[0] - from[0], to[1] - from[1]]];
            atlas.region_by_pixels(corner.map(usize::from), size.map(usize::from))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::{pos2, vec2};

    const BOUNDS: Rect = Rect {
        min: pos2(0.0, 0.0),
        max: pos2(100.0, 100.0),
    };

    #[test]
    fn boxes_fill_their_pixels_and_no_others() {
        for density in [1.0, 1.5, 2.0] {
            let mut outlines = Outlines::new(density, BOUNDS);
            let rect = Rect::from_min_max(pos2(10.3, 20.4), pos2(40.2, 60.6));
            outlines.solid(rect, Stroke::new(2.0, Color32::RED));
            // Half of it is outside the bounds.
            let beyond = Rect::from_min_max(pos2(90.0, 70.0), pos2(110.0, 90.0));
            outlines.fill(beyond, Color32::BLUE);
            let mut layer = Layer::default();
            let (fills, texts, _) = outlines.into_parts();
            let all: f32 = fills.iter().map(|(rect, _)| rect.area()).sum();
            layer.compose(&Shown {
                bounds: BOUNDS,
                pixels_per_point: density,
                background: None,
                overlay: None,
                fills,
                texts,
            });
            let pixels = &layer.image.pixels;
            let count = |color| pixels.iter().filter(|p| **p == color).count() as f32;
            let red = all - beyond.area();
            assert!((count(Color32::RED) - red * density * density).abs() < 0.5);
            assert_eq!(count(Color32::BLUE), 200.0 * density * density);
        }
    }

    /// An image of 2 by 2 pixels: black, red, green, blue.
    fn four_pixels() -> Arc<ColorImage> {
        let colors = [Color32::BLACK, Color32::RED, Color32::GREEN, Color32::BLUE];
        Arc::new(ColorImage::new([2, 2], colors.to_vec()))
    }

    #[test]
    fn an_enlarged_image_has_square_pixels_and_is_cropped_to_the_visible_part() {
        let rect = Rect::from_min_size(pos2(-10.0, -10.0), vec2(40.0, 40.0));
        let image = four_pixels();
        let mut scaled = Scaled::default();
        let part = rect.intersect(BOUNDS);
        let seen = scaled.get(&Background { image, rect }, part, 2.0);
        assert_eq!(seen.size, [60, 60]);
        let at = |x: usize, y: usize| seen.pixels[y * 60 + x];
        assert_eq!([at(19, 19), at(20, 19)], [Color32::BLACK, Color32::RED]);
        assert_eq!([at(19, 20), at(20, 20)], [Color32::GREEN, Color32::BLUE]);
    }

    #[test]
    fn a_reduced_image_is_the_mean_of_its_pixels() {
        let rect = Rect::from_min_size(pos2(0.0, 0.0), vec2(1.0, 1.0));
        let image = four_pixels();
        let mut scaled = Scaled::default();
        let seen = scaled.get(&Background { image, rect }, rect, 1.0);
        assert_eq!(seen.size, [1, 1]);
        for channel in 0..3 {
            assert!(seen.pixels[0][channel].abs_diff(64) <= 1, "{seen:?}");
        }
    }

    #[test]
    fn a_feature_map_is_smooth_and_covers_only_its_part() {
        let image = Arc::new(ColorImage::filled([40, 20], Color32::BLACK));
        let cells = ColorImage::new([2, 1], vec![Color32::BLACK, Color32::WHITE]);
        let tile = Layer::tile(
            image,
            Overlay {
                image: Arc::new(cells),
                rect: Rect::from_min_size(pos2(0.0, 0.0), vec2(40.0, 20.0)),
                clip: Rect::from_min_size(pos2(0.0, 0.0), vec2(40.0, 10.0)),
                opacity: 0.5,
            },
        );
        let row: Vec<u8> = (0..40).map(|x| tile.pixels[5 * 40 + x].r()).collect();
        assert!(row.is_sorted(), "{row:?}");
        let steps = row.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(steps.max() <= Some(8), "no square cells: {row:?}");
        assert_eq!([row[0], row[39]], [0, 128]);
        assert!(
            tile.pixels[10 * 40..]
                .iter()
                .all(|pixel| *pixel == Color32::BLACK)
        );
    }

    /// Compares the pixels of a text with the glyph rectangles of egui's tessellator.
    #[test]
    fn a_label_covers_the_glyphs_that_egui_would_draw() {
        let context = egui::Context::default();
        let mut layer = Layer::default();
        let mut mesh = egui::Mesh::default();
        let _ = context.run_ui(egui::RawInput::default(), |ui| {
            let painter = ui.painter();
            let (font, ink) = (FontId::proportional(12.0), Color32::BLACK);
            let galley = painter.layout_no_wrap("zebra 0.87".to_owned(), font, ink);
            let at = pos2(8.3, 9.6);
            layer.glyphs.begin_frame(painter);
            layer.compose(&Shown {
                bounds: BOUNDS,
                pixels_per_point: 1.0,
                background: None,
                overlay: None,
                fills: vec![(BOUNDS, Color32::WHITE)],
                texts: vec![Text {
                    at,
                    galley: galley.clone(),
                    ink,
                }],
            });
            let shape = Shape::galley(at, galley, ink);
            let clipped = egui::epaint::ClippedShape::new(BOUNDS, shape);
            for primitive in context.tessellate(vec![clipped], 1.0) {
                if let egui::epaint::Primitive::Mesh(part) = primitive.primitive {
                    mesh.append(part);
                }
            }
        });
        let dark = layer.image.pixels.iter().enumerate();
        let dark = dark.filter(|(_, pixel)| **pixel != Color32::WHITE);
        let covered: Vec<Pos2> = dark
            .map(|(at, _)| pos2((at % 100) as f32 + 0.5, (at / 100) as f32 + 0.5))
            .collect();
        assert!(covered.len() > 100);
        let glyphs: Vec<Rect> = mesh
            .vertices
            .chunks_exact(4)
            .map(|corners| Rect::from_points(&[corners[0].pos, corners[3].pos]))
            .collect();
        assert_eq!(glyphs.len(), 9);
        for pixel in &covered {
            assert!(glyphs.iter().any(|glyph| glyph.contains(*pixel)));
        }
        for glyph in glyphs {
            assert!(covered.iter().any(|pixel| glyph.contains(*pixel)));
        }
    }
}
