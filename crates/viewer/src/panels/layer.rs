//! An image with its boxes and labels, put together here, where the CPU draws.
//!
//! OpenGL on the CPU shades blocks of 4 by 4 pixels, twice along the diagonal of each rectangle:
//! outlines of 1,000 boxes take two thirds of a frame. It also computes both ways to read a texture, that
//! for large pixels and that for small ones, for every pixel of the image. An image, and a second one of
//! its boxes over it, took 6 to 8 of 20 ms of CPU time. So the image is scaled here when its place
//! changes, boxes and labels are filled into it when they change, and the whole is drawn as one, pixel by
//! pixel.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use egui::emath::GuiRounding as _;
use egui::epaint::text::Glyph;
use egui::{Color32, ColorImage, FontId, Galley, Painter, Pos2, Rect, pos2};
use egui::{TextureHandle, TextureOptions};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

use super::outlines::{Outlines, Text};

/// What lies under the boxes: an image, and where all of it would be on the screen.
#[derive(Clone)]
pub struct Under {
    pub image: Arc<ColorImage>,
    pub rect: Rect,
}

impl PartialEq for Under {
    fn eq(&self, other: &Self) -> bool {
        self.rect == other.rect && Arc::ptr_eq(&self.image, &other.image)
    }
}

/// What a layer shows.
#[derive(PartialEq)]
struct Shown {
    /// The part of the screen that is covered.
    bounds: Rect,
    pixels_per_point: f32,
    /// The image, and the part of the screen on which it is.
    under: Option<(Under, Rect)>,
    fills: Vec<(Rect, Color32)>,
    texts: Vec<Text>,
}

/// An image of boxes, made again when they or what is under them change.
#[derive(Default)]
pub struct Layer {
    shown: Option<Shown>,
    scaled: Scaled,
    glyphs: Glyphs,
    image: Arc<ColorImage>,
    texture: Option<TextureHandle>,
}

impl Layer {
    /// Draw boxes, over an image or over what is drawn already.
    pub fn draw(&mut self, painter: &Painter, under: Option<Under>, outlines: Outlines) {
        self.glyphs.begin_frame(painter);
        let pixels_per_point = painter.pixels_per_point();
        let clip = painter.clip_rect().round_to_pixels(pixels_per_point);
        let (fills, texts, lines) = outlines.into_parts();
        let under = under.map(|under| {
            let part = under.rect.round_to_pixels(pixels_per_point);
            (under, part.intersect(clip))
        });
        let under = under.filter(|(_, part)| part.is_positive());
        let rects = fills.iter().map(|(rect, _)| *rect);
        let rects = rects.chain(under.iter().map(|(_, part)| *part));
        let bounds = rects.fold(Rect::NOTHING, Rect::union).intersect(clip);
        if !bounds.is_positive() {
            return;
        }
        let shown = Shown {
            bounds,
            pixels_per_point,
            under,
            fills,
            texts,
        };
        if self.shown.as_ref() != Some(&shown) {
            self.make(&shown);
            let (image, options) = (self.image.clone(), TextureOptions::NEAREST);
            match &mut self.texture {
                Some(texture) => texture.set(image, options),
                None => self.texture = Some(painter.ctx().load_texture("boxes", image, options)),
            }
            self.shown = Some(shown);
        }
        if let Some(texture) = &self.texture {
            let all = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            painter.image(texture.id(), bounds, all, Color32::WHITE);
        }
        painter.extend(lines);
    }

    /// Put it together.
    fn make(&mut self, shown: &Shown) {
        // The memory of the last one, which OpenGL has copied by now: fresh memory costs as much as all
        // the rest.
        let image = Arc::make_mut(&mut self.image);
        let mut canvas = Canvas::new(shown.bounds, shown.pixels_per_point, image);
        if let Some((under, part)) = &shown.under {
            let scaled = self.scaled.get(under, *part, shown.pixels_per_point);
            canvas.paste(*part, scaled);
        }
        for (rect, color) in &shown.fills {
            canvas.fill(*rect, *color);
        }
        for text in &shown.texts {
            canvas.text(text, &mut self.glyphs);
        }
    }
}

/// A part of an image at the size that it has on the screen.
#[derive(Default)]
struct Scaled {
    of: Option<(Under, Rect, f32)>,
    image: ColorImage,
    resizer: Resizer,
}

impl Scaled {
    fn get(&mut self, under: &Under, part: Rect, pixels_per_point: f32) -> &ColorImage {
        let of = (under.clone(), part, pixels_per_point);
        if self.of.as_ref() != Some(&of) {
            let size = part.size() * pixels_per_point;
            let [width, height] = [size.x, size.y].map(|side| side.round().max(1.0) as usize);
            let whole = under.rect;
            let pixels = under.image.size.map(|side| side as f64);
            let share = |at: f32, from: f32, all: f32| f64::from((at - from) / all).clamp(0.0, 1.0);
            let columns = [part.left(), part.right()]
                .map(|x| share(x, whole.left(), whole.width()) * pixels[0]);
            let rows = [part.top(), part.bottom()]
                .map(|y| share(y, whole.top(), whole.height()) * pixels[1]);
            self.image.size = [width, height];
            self.image.source_size = size;
            self.image.pixels.resize(width * height, Color32::BLACK);
            let is_larger = columns[1] - columns[0] < width as f64;
            if is_larger || self.shrink(&under.image, columns, rows).is_none() {
                self.sample(&under.image, columns, rows);
            }
            self.of = Some(of);
        }
        &self.image
    }

    /// Between the nearest four pixels, as a GPU does.
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

    /// The nearest pixel, so that single pixels can be told apart.
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

/// An image of a part of the screen.
struct Canvas<'a> {
    corner: Pos2,
    pixels_per_point: f32,
    image: &'a mut ColorImage,
}

impl<'a> Canvas<'a> {
    /// Transparent, in the memory of `image`.
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

    /// The pixel at a place of the screen.
    fn pixel(&self, at: Pos2) -> [i64; 2] {
        let at = (at - self.corner) * self.pixels_per_point;
        [at.x.round() as i64, at.y.round() as i64]
    }

    /// The columns and rows of a part of the screen, as far as they are in the image.
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

    /// An opaque image that has the pixels of this part of the screen.
    fn paste(&mut self, part: Rect, picture: &ColorImage) {
        let width = self.image.width();
        let [columns, rows] = self.within(part);
        for (y, row) in rows.zip(picture.pixels.chunks_exact(picture.width().max(1))) {
            let count = columns.len().min(row.len());
            self.image.pixels[y * width + columns.start..][..count].copy_from_slice(&row[..count]);
        }
    }

    /// As egui puts it on the screen: every glyph on whole pixels.
    fn text(&mut self, text: &Text, glyphs: &mut Glyphs) {
        let scale = self.pixels_per_point;
        for row in &text.galley.rows {
            let at = text.at.round_to_pixels(scale) + row.pos.to_vec2();
            for glyph in &row.glyphs {
                if glyph.uv_rect.is_nothing() {
                    continue;
                }
                let within = (glyph.pos + glyph.uv_rect.offset).round_to_pixels(scale);
                let tint = match glyph.is_color {
                    true => Color32::WHITE,
                    false => text.ink,
                };
                let corner = self.pixel(at + within.to_vec2());
                self.blend(corner, glyphs.bitmap(glyph), tint);
            }
        }
    }

    /// An image in an opaque color over what is there, with its left top corner at a pixel.
    fn blend(&mut self, corner: [i64; 2], picture: &ColorImage, tint: Color32) {
        // What of the image is inside, by axis: first and last pixel, and where the first one goes.
        let [across, down] = [0, 1].map(|axis| {
            let (at, size) = (corner[axis], picture.size[axis] as i64);
            let first = (-at).clamp(0, size);
            let last = (self.image.size[axis] as i64 - at).clamp(first, size);
            (first as usize, last as usize, (at + first).max(0) as usize)
        });
        let width = self.image.width();
        for y in down.0..down.1 {
            let from = &picture.pixels[y * picture.width()..][across.0..across.1];
            let to = &mut self.image.pixels[(down.2 + y - down.0) * width + across.2..];
            for (under, pixel) in to.iter_mut().zip(from).filter(|(_, pixel)| pixel.a() > 0) {
                *under = over(*under, *pixel, tint);
            }
        }
    }
}

/// A pixel in an opaque color over another one.
fn over(under: Color32, pixel: Color32, tint: Color32) -> Color32 {
    let left = 255 - u32::from(pixel.a());
    let [r, g, b, a] = std::array::from_fn(|channel| {
        let [under, pixel, tint] = [under, pixel, tint].map(|color| u32::from(color[channel]));
        ((pixel * tint + under * left + 127) / 255) as u8
    });
    Color32::from_rgba_premultiplied(r, g, b, a)
}

/// Images of glyphs, out of egui's atlas of all of them. That can only be had as a copy, which takes
/// longer than 200 labels; so glyphs are kept.
#[derive(Default)]
struct Glyphs {
    /// By their places in the atlas.
    bitmaps: HashMap<[[u16; 2]; 2], ColorImage>,
    /// egui lets go of it when it clears the atlas, after which a glyph may lie elsewhere.
    witness: Option<Arc<Galley>>,
    /// Where those that are new come from.
    atlas: Option<ColorImage>,
    context: egui::Context,
}

impl Glyphs {
    /// Once for each frame, so that egui keeps the witness. Glyphs of an atlas that is no more go.
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

    /// The image of a glyph that was laid out in this frame.
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
    use egui::{Shape, Stroke, vec2};

    const BOUNDS: Rect = Rect {
        min: pos2(0.0, 0.0),
        max: pos2(100.0, 100.0),
    };

    #[test]
    fn boxes_have_their_pixels_and_no_others() {
        for density in [1.0, 1.5, 2.0] {
            let mut outlines = Outlines::new(density, BOUNDS);
            let rect = Rect::from_min_max(pos2(10.3, 20.4), pos2(40.2, 60.6));
            outlines.solid(rect, Stroke::new(2.0, Color32::RED));
            // Half of it is out of sight.
            let beyond = Rect::from_min_max(pos2(90.0, 70.0), pos2(110.0, 90.0));
            outlines.fill(beyond, Color32::BLUE);
            let mut layer = Layer::default();
            let (fills, texts, _) = outlines.into_parts();
            let all: f32 = fills.iter().map(|(rect, _)| rect.area()).sum();
            layer.make(&Shown {
                bounds: BOUNDS,
                pixels_per_point: density,
                under: None,
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

    /// Two by two pixels: black, red, green, blue.
    fn four_pixels() -> Arc<ColorImage> {
        let colors = [Color32::BLACK, Color32::RED, Color32::GREEN, Color32::BLUE];
        Arc::new(ColorImage::new([2, 2], colors.to_vec()))
    }

    #[test]
    fn a_image_is_enlarged_to_squares_and_cut_where_it_ends() {
        let rect = Rect::from_min_size(pos2(-10.0, -10.0), vec2(40.0, 40.0));
        let image = four_pixels();
        let mut scaled = Scaled::default();
        let part = rect.intersect(BOUNDS);
        let seen = scaled.get(&Under { image, rect }, part, 2.0);
        assert_eq!(seen.size, [60, 60]);
        let at = |x: usize, y: usize| seen.pixels[y * 60 + x];
        assert_eq!([at(19, 19), at(20, 19)], [Color32::BLACK, Color32::RED]);
        assert_eq!([at(19, 20), at(20, 20)], [Color32::GREEN, Color32::BLUE]);
    }

    #[test]
    fn a_image_shrinks_to_the_mean_of_its_pixels() {
        let rect = Rect::from_min_size(pos2(0.0, 0.0), vec2(1.0, 1.0));
        let image = four_pixels();
        let mut scaled = Scaled::default();
        let seen = scaled.get(&Under { image, rect }, rect, 1.0);
        assert_eq!(seen.size, [1, 1]);
        for channel in 0..3 {
            assert!(seen.pixels[0][channel].abs_diff(64) <= 1, "{seen:?}");
        }
    }

    /// A text as egui's own tessellator puts it on white, and as a layer does.
    #[test]
    fn a_label_has_the_pixels_that_egui_gives_it() {
        let context = egui::Context::default();
        let mut layer = Layer::default();
        let mut mesh = egui::Mesh::default();
        let _ = context.run_ui(egui::RawInput::default(), |ui| {
            let painter = ui.painter();
            let (font, ink) = (FontId::proportional(12.0), Color32::BLACK);
            let galley = painter.layout_no_wrap("zebra 0.87".to_owned(), font, ink);
            let at = pos2(8.3, 9.6);
            layer.glyphs.begin_frame(painter);
            layer.make(&Shown {
                bounds: BOUNDS,
                pixels_per_point: 1.0,
                under: None,
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
        let places: Vec<Pos2> = dark
            .map(|(at, _)| pos2((at % 100) as f32 + 0.5, (at / 100) as f32 + 0.5))
            .collect();
        assert!(places.len() > 100);
        let glyphs: Vec<Rect> = mesh
            .vertices
            .chunks_exact(4)
            .map(|corners| Rect::from_points(&[corners[0].pos, corners[3].pos]))
            .collect();
        assert_eq!(glyphs.len(), 9);
        for place in &places {
            assert!(glyphs.iter().any(|glyph| glyph.contains(*place)));
        }
        for glyph in glyphs {
            assert!(places.iter().any(|place| glyph.contains(*place)));
        }
    }
}
