//! An object as seen by the camera: its silhouette and the surface points of each pixel.

use std::ops::Range;

use crate::shapes::canvas::Canvas;
use crate::shapes::material::{Lighting, Material};
use crate::shapes::math::{Rotation, Vec3};
use crate::shapes::noise::Noise;
use crate::shapes::solids::{Hit, Solid};

/// Number of samples of a supersampled pixel (two by two).
const SUBSAMPLES: u8 = 4;

/// A surface point that contributes to a pixel.
#[derive(Debug, Clone)]
struct SurfaceSample {
    /// Index in the sprite's raster.
    pixel: u32,
    /// Share of the pixel, in quarters.
    quarters: u8,
    hit: Hit,
}

/// A ray-traced object in its own raster.
#[derive(Debug, Clone)]
pub(super) struct Sprite {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Covered quarters of each pixel, 0 to 4.
    coverage: Vec<u8>,
    samples: Vec<SurfaceSample>,
    pose: Rotation,
    /// Position of the camera, as in [`View`].
    distance: f32,
}

/// The camera's view of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) pose: Rotation,
    /// Pixels per unit of the object (the bounding sphere has radius one).
    pub(super) scale: f32,
    /// Distance of the camera from the object's center, in units; small means strong perspective.
    pub(super) distance: f32,
    /// Position of the center in its pixel, 0 to 1.
    pub(super) subpixel: (f32, f32),
}

/// Casts one ray through the center of each pixel of some columns of each row. Returns the faces that they
/// intersect (counted from 1, 0 is none), and the hits in scan order.
fn through_centers(
    side: usize,
    columns: impl Fn(usize) -> Range<usize>,
    cast: impl Fn(f32, f32) -> Option<Hit>,
) -> (Vec<u8>, Vec<Hit>) {
    let mut faces = vec![0u8; side * side];
    let mut hits = Vec::new();
    for y in 0..side {
        for x in columns(y) {
            if let Some(hit) = cast(x as f32 + 0.5, y as f32 + 0.5) {
                faces[y * side + x] = hit.face + 1;
                hits.push(hit);
            }
        }
    }
    (faces, hits)
}

impl Sprite {
    /// Traces the solid. The raster is cropped to the silhouette; `None` if no pixel is covered.
    pub(super) fn trace(solid: &Solid, view: &View) -> Option<Self> {
        let d = view.distance;
        // The projection of a sphere in perspective is larger than its radius.
        let reach = (view.scale * d / (d * d - 1.0).sqrt()) as usize + 2;
        let side = 2 * reach;
        let eye = Vec3::new(0.0, 0.0, d);
        let origin = view.pose.to_object(eye);
        let solid = solid.seen_from(origin);
        // The direction of a ray is affine in the pixel's position: corner + x * right + y * down.
        let to_plane = |px: f32, py: f32| {
            let x = (px - reach as f32 - view.subpixel.0) / view.scale;
            let y = (reach as f32 + view.subpixel.1 - py) / view.scale;
            (x, y)
        };
        let (x0, y0) = to_plane(0.0, 0.0);
        let corner = view.pose.to_object(Vec3::new(x0, y0, -d));
        let right = view.pose.to_object(Vec3::new(1.0 / view.scale, 0.0, 0.0));
        let down = view.pose.to_object(Vec3::new(0.0, -1.0 / view.scale, 0.0));
        let cast = |px: f32, py: f32| solid.hit(corner + right * px + down * py);
        // Outside this radius in the plane through the center, no ray intersects the unit sphere.
        let radius2 = d * d / (d * d - 1.0);

        let columns = |y: usize| {
            let dy = to_plane(0.0, y as f32 + 0.5).1;
            let half_chord = (radius2 - dy * dy).max(0.0).sqrt() * view.scale;
            let middle = reach as f32 + view.subpixel.0;
            let from = (middle - half_chord).max(0.0) as usize;
            from..((middle + half_chord) as usize + 1).min(side)
        };
        let (faces, center_hits) = through_centers(side, columns, cast);
        // A texture on a small object is finer than its pixels.
        let small = view.scale < 12.0;
        let is_edge = |x: usize, y: usize| {
            let face = faces[y * side + x];
            (small && face != 0)
                || (x > 0 && faces[y * side + x - 1] != face)
                || (x + 1 < side && faces[y * side + x + 1] != face)
                || (y > 0 && faces[(y - 1) * side + x] != face)
                || (y + 1 < side && faces[(y + 1) * side + x] != face)
        };

        let mut coverage = vec![0u8; side * side];
        let mut samples = Vec::with_capacity(2 * center_hits.len());
        let mut center_hits = center_hits.into_iter();
        let (mut left, mut right, mut top, mut bottom) = (side, 0, side, 0);
        for y in 0..side {
            for x in 0..side {
                let pixel = y * side + x;
                let mut add = |quarters: u8, hit: Hit| {
                    coverage[pixel] += quarters;
                    samples.push(SurfaceSample {
                        pixel: pixel as u32,
                        quarters,
                        hit,
                    });
                };
                let center = if faces[pixel] == 0 {
                    None
                } else {
                    center_hits.next()
                };
                if is_edge(x, y) {
                    for (dx, dy) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
                        if let Some(hit) = cast(x as f32 + dx, y as f32 + dy) {
                            add(1, hit);
                        }
                    }
                } else if let Some(hit) = center {
                    add(SUBSAMPLES, hit);
                }
                if coverage[pixel] > 0 {
                    (left, right) = (left.min(x), right.max(x + 1));
                    (top, bottom) = (top.min(y), bottom.max(y + 1));
                }
            }
        }
        let whole = Self {
            width: side,
            height: side,
            coverage,
            samples,
            pose: view.pose,
            distance: d,
        };
        (left < right).then(|| whole.cropped(left..right, top..bottom))
    }

    /// Returns the part with these columns and rows, which contain all covered pixels.
    fn cropped(mut self, columns: Range<usize>, rows: Range<usize>) -> Self {
        let (side, left, top) = (self.width, columns.start, rows.start);
        let (width, height) = (columns.len(), rows.len());
        let kept = rows.flat_map(|y| {
            let start = y * side + left;
            self.coverage[start..start + width].iter().copied()
        });
        let coverage = kept.collect();
        for sample in &mut self.samples {
            let (x, y) = (sample.pixel as usize % side, sample.pixel as usize / side);
            sample.pixel = ((y - top) * width + (x - left)) as u32;
        }
        Self {
            width,
            height,
            coverage,
            ..self
        }
    }

    /// Returns the pixels of the silhouette as `(x, y)` in the sprite: those at least half covered.
    pub(super) fn silhouette(&self) -> impl Iterator<Item = (usize, usize)> {
        self.coverage
            .iter()
            .enumerate()
            .filter(|(_, c)| **c >= SUBSAMPLES / 2)
            .map(|(i, _)| (i % self.width, i / self.width))
    }

    /// Blends the lit object over the canvas with its top left corner at `(left, top)`.
    pub(super) fn paint(
        &self,
        (left, top): (i32, i32),
        material: &Material,
        light: &Lighting,
        noise: &Noise,
        canvas: &mut Canvas,
    ) {
        let (w, h) = (canvas.width as i32, canvas.height as i32);
        let eye = Vec3::new(0.0, 0.0, self.distance);
        // The first sample of a pixel first blends the whole object.
        let mut last = u32::MAX;
        for sample in &self.samples {
            let x = left + (sample.pixel as usize % self.width) as i32;
            let y = top + (sample.pixel as usize / self.width) as i32;
            if x < 0 || y < 0 || x >= w || y >= h {
                continue;
            }
            let index = (y * w + x) as usize;
            if sample.pixel != last {
                let covered = f32::from(self.coverage[sample.pixel as usize]);
                let free = 1.0 - covered / f32::from(SUBSAMPLES);
                canvas.pixels[index] = canvas.pixels[index] * free;
                last = sample.pixel;
            }
            let normal = self.pose.to_view(sample.hit.normal);
            let to_camera = (eye - self.pose.to_view(sample.hit.position)).normalized();
            let color = material.shade(sample.hit.position, normal, to_camera, light, noise);
            let share = f32::from(sample.quarters) / f32::from(SUBSAMPLES);
            canvas.pixels[index] = canvas.pixels[index] + color * share;
        }
    }

    /// Darkens the canvas where the object blocks the light.
    pub(super) fn cast_shadow(&self, shadow: &Shadow, canvas: &mut Canvas) {
        let mask = SoftMask::new(self, shadow.softness);
        let (x0, y0, x1, y1) = shadow.bounds(self, mask.margin, canvas);
        for y in y0..y1 {
            for x in x0..x1 {
                let (u, v) = shadow.to_sprite(x as f32 + 0.5, y as f32 + 0.5);
                let shade = mask.at(u, v);
                if shade > 0.0 {
                    let index = y * canvas.width + x;
                    canvas.pixels[index] = canvas.pixels[index] * (1.0 - shadow.strength * shade);
                }
            }
        }
    }
}

/// Projection of an object's silhouette onto the surface behind it: canvas point `(x, y)` is in
/// shadow when the sprite covers `(x - left - skew * rise, base - rise / stretch)`, `rise` being
/// the height of `y` above the line where the object touches the floor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shadow {
    /// Canvas x of the sprite's left edge, shifted by the shadow's offset.
    pub(super) left: f32,
    /// Canvas y of the line from which the shadow is stretched.
    pub(super) base: f32,
    /// Sprite y of that line.
    pub(super) sprite_base: f32,
    /// Sideways shift per pixel of rise.
    pub(super) skew: f32,
    /// Height of the shadow over height of the object; negative falls towards the camera.
    pub(super) stretch: f32,
    pub(super) softness: f32,
    /// Opacity, 0 to 1.
    pub(super) strength: f32,
}

impl Shadow {
    fn to_sprite(self, x: f32, y: f32) -> (f32, f32) {
        let rise = self.base - y;
        (
            x - self.left - self.skew * rise,
            self.sprite_base - rise / self.stretch,
        )
    }

    /// Returns the canvas pixels that the shadow can reach: `x0, y0, x1, y1`.
    fn bounds(self, sprite: &Sprite, margin: f32, canvas: &Canvas) -> (usize, usize, usize, usize) {
        let mut low = (f32::INFINITY, f32::INFINITY);
        let mut high = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for u in [-margin, sprite.width as f32 + margin] {
            for v in [-margin, sprite.height as f32 + margin] {
                let rise = (self.sprite_base - v) * self.stretch;
                let (x, y) = (u + self.left + self.skew * rise, self.base - rise);
                low = (low.0.min(x), low.1.min(y));
                high = (high.0.max(x), high.1.max(y));
            }
        }
        let cut = |v: f32, end: usize| (v.max(0.0) as usize).min(end);
        (
            cut(low.0, canvas.width),
            cut(low.1, canvas.height),
            cut(high.0 + 1.0, canvas.width),
            cut(high.1 + 1.0, canvas.height),
        )
    }
}

/// A blurred copy of a silhouette at a lower resolution.
struct SoftMask {
    width: usize,
    height: usize,
    cell: f32,
    margin: f32,
    values: Vec<f32>,
}

impl SoftMask {
    fn new(sprite: &Sprite, softness: f32) -> Self {
        let cell = (softness * 0.5).max(1.0) as usize;
        // Two cells of blur on each side, and an empty rim.
        let pad = 3 + (softness / cell as f32) as usize;
        let width = sprite.width.div_ceil(cell) + 2 * pad;
        let height = sprite.height.div_ceil(cell) + 2 * pad;
        let mut values = vec![0.0f32; width * height];
        let weight = 1.0 / (f32::from(SUBSAMPLES) * (cell * cell) as f32);
        for y in 0..sprite.height {
            let row = (y / cell + pad) * width + pad;
            for x in 0..sprite.width {
                values[row + x / cell] += f32::from(sprite.coverage[y * sprite.width + x]) * weight;
            }
        }
        for _ in 0..2 {
            for y in 0..height {
                box3(&mut values[y * width..(y + 1) * width], 1);
            }
            for x in 0..width {
                box3(&mut values[x..], width);
            }
        }
        Self {
            width,
            height,
            cell: cell as f32,
            margin: (pad * cell) as f32,
            values,
        }
    }

    /// Samples bilinearly, in sprite coordinates.
    fn at(&self, u: f32, v: f32) -> f32 {
        let x = (u + self.margin) / self.cell - 0.5;
        let y = (v + self.margin) / self.cell - 0.5;
        if x < 0.0 || y < 0.0 {
            return 0.0;
        }
        let (ix, iy) = (x as usize, y as usize);
        if ix + 1 >= self.width || iy + 1 >= self.height {
            return 0.0;
        }
        let (fx, fy) = (x - ix as f32, y - iy as f32);
        let i = iy * self.width + ix;
        let v = &self.values;
        let upper = v[i] + (v[i + 1] - v[i]) * fx;
        let lower = v[i + self.width] + (v[i + self.width + 1] - v[i + self.width]) * fx;
        upper + (lower - upper) * fy
    }
}

/// Averages three neighbors along a line with this stride; the ends keep their values.
fn box3(line: &mut [f32], stride: usize) {
    let count = line.len().div_ceil(stride);
    let mut before = line[0];
    for i in 1..count.saturating_sub(1) {
        let here = line[i * stride];
        line[i * stride] = (before + here + line[(i + 1) * stride]) * (1.0 / 3.0);
        before = here;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::Split;
    use crate::shapes::rng::{Purpose, Rng};

    fn ball(scale: f32) -> Sprite {
        let view = View {
            pose: Rotation::from_turns(0.1, 0.2, 0.3),
            scale,
            distance: 5.0,
            subpixel: (0.3, 0.6),
        };
        Sprite::trace(&Solid::Ball, &view).unwrap()
    }

    #[test]
    fn the_silhouette_of_a_ball_has_the_area_of_its_disc_in_perspective() {
        for scale in [6.0f32, 20.0, 70.0] {
            let sprite = ball(scale);
            let radius2 = scale * scale * 25.0 / 24.0;
            let expected = std::f32::consts::PI * radius2;
            let covered: f32 = sprite.coverage.iter().map(|&c| f32::from(c) / 4.0).sum();
            assert!(
                (covered / expected - 1.0).abs() < 0.02,
                "{covered} {expected}"
            );
            // Whole pixels round the outline by a quarter of a pixel at most.
            let pixels = sprite.silhouette().count() as f32;
            let outline = std::f32::consts::TAU * radius2.sqrt();
            assert!(
                (pixels - expected).abs() < 0.25 * outline,
                "{pixels} {expected}"
            );
        }
    }

    #[test]
    fn paint_lands_exactly_on_the_covered_pixels() {
        let mut rng = Rng::new(1, Split::Train, 0, Purpose::Materials);
        let light = Lighting::sample(&mut rng);
        let noise = Noise::new(&mut rng);
        let material = Material::sample_against(0, Vec3::default(), &light, &mut rng);
        let sprite = ball(15.0);
        let mut canvas = Canvas::from_fn(60, 50, |_, _| Vec3::default());
        // Partly outside, at the top left.
        let (left, top) = (-8i32, -5i32);
        sprite.paint((left, top), &material, &light, &noise, &mut canvas);
        let mut covered = 0;
        for (i, pixel) in canvas.pixels.iter().enumerate() {
            let x = (i % 60) as i32 - left;
            let y = (i / 60) as i32 - top;
            let inside = x < sprite.width as i32
                && y < sprite.height as i32
                && sprite.coverage[y as usize * sprite.width + x as usize] > 0;
            assert_eq!(pixel.length() > 0.0, inside, "at {x}, {y}");
            covered += usize::from(inside);
        }
        assert!(covered > 200);
    }

    #[test]
    fn a_shadow_darkens_beside_the_object_and_nothing_far_away() {
        let sprite = ball(15.0);
        let mut canvas = Canvas::from_fn(120, 80, |_, _| Vec3::splat(1.0));
        let shadow = Shadow {
            left: 20.0,
            base: 30.0,
            sprite_base: 0.0,
            skew: 0.0,
            stretch: 1.0,
            softness: 2.0,
            strength: 0.5,
        };
        sprite.cast_shadow(&shadow, &mut canvas);
        let at = |x: usize, y: usize| canvas.pixels[y * 120 + x].x;
        let middle = sprite.width / 2;
        assert!((at(20 + middle, 30 + middle) - 0.5).abs() < 0.02);
        assert_eq!(at(100, 40), 1.0);
        assert_eq!(at(5, 5), 1.0);
        assert!(canvas.pixels.iter().all(|p| (0.49..=1.0).contains(&p.x)));
    }
}
