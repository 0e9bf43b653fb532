//! Clutter that belongs to no class: cables, sticks, paper scraps. It must not be detected.

use crate::shapes::canvas::Canvas;
use crate::shapes::material::Lighting;
use crate::shapes::math::{Vec3, cos_turns, mix, sin_turns, smoothstep};
use crate::shapes::noise::Noise;
use crate::shapes::rng::Rng;

/// A curved line with a width, such as a cable, a stick or a pen stroke.
#[derive(Debug, Clone)]
pub(super) struct Stroke {
    points: Vec<(f32, f32)>,
    half_width: f32,
}

impl Stroke {
    /// Draws a random quadratic curve in an image of this size.
    pub(super) fn sample(width: f32, height: f32, half_width: f32, rng: &mut Rng) -> Self {
        let start = (rng.range(-0.1, 1.1) * width, rng.range(-0.1, 1.1) * height);
        let length = rng.range(0.15, 0.7) * width.max(height);
        let turn = rng.unit();
        let bend = if rng.chance(0.4) {
            0.0
        } else {
            rng.range(-0.5, 0.5)
        };
        let along = (cos_turns(turn) * length, sin_turns(turn) * length);
        let middle = (
            start.0 + 0.5 * along.0 - bend * along.1,
            start.1 + 0.5 * along.1 + bend * along.0,
        );
        let end = (start.0 + along.0, start.1 + along.1);
        let steps = if bend == 0.0 { 1 } else { 14 };
        let points = (0..=steps)
            .map(|i| {
                let t = i as f32 / steps as f32;
                let (a, b, c) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
                (
                    a * start.0 + b * middle.0 + c * end.0,
                    a * start.1 + b * middle.1 + c * end.1,
                )
            })
            .collect();
        Self { points, half_width }
    }

    /// Calls `visit(pixel index, coverage 0 to 1, position across -1 to 1)` for the pixels under
    /// the line; pixels near a joint are visited twice.
    pub(super) fn rasterize(
        &self,
        width: usize,
        height: usize,
        mut visit: impl FnMut(usize, f32, f32),
    ) {
        let reach = self.half_width + 1.0;
        for pair in self.points.windows(2) {
            let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
            let (dx, dy) = (bx - ax, by - ay);
            let length = (dx * dx + dy * dy).sqrt();
            if length == 0.0 {
                continue;
            }
            let (ux, uy) = (dx / length, dy / length);
            let cut = |v: f32, end: usize| (v.max(0.0) as usize).min(end);
            for y in cut(ay.min(by) - reach, height)..cut(ay.max(by) + reach + 1.0, height) {
                for x in cut(ax.min(bx) - reach, width)..cut(ax.max(bx) + reach + 1.0, width) {
                    let (px, py) = (x as f32 + 0.5 - ax, y as f32 + 0.5 - ay);
                    let along = px * ux + py * uy;
                    if along < 0.0 || along > length {
                        continue;
                    }
                    let across = py * ux - px * uy;
                    let coverage = (self.half_width + 0.5 - across.abs()).clamp(0.0, 1.0);
                    if coverage > 0.0 {
                        visit(y * width + x, coverage, across / self.half_width);
                    }
                }
            }
        }
    }

    /// Draws the line; a `round` one is shaded as a thin tube.
    pub(super) fn paint(&self, color: Vec3, round: bool, light: &Lighting, canvas: &mut Canvas) {
        let (w, h) = (canvas.width, canvas.height);
        self.rasterize(w, h, |index, coverage, across| {
            let shade = if round {
                let n = across.clamp(-1.0, 1.0);
                0.35 + 0.65 * (1.0 - n * n).sqrt() - 0.25 * n
            } else {
                1.0
            };
            let lit = color.tint(light.diffuse(Vec3::new(0.0, 0.3, 0.95))) * shade;
            canvas.blend(index, lit, coverage);
        });
    }
}

/// Paints a flat scrap with straight edges: four to seven irregular corners, a slight gradient, a
/// texture and a soft shadow.
fn paint_scrap(light: &Lighting, noise: &Noise, canvas: &mut Canvas, rng: &mut Rng) {
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    let size = w.max(h) * mix(0.05, 0.22, rng.unit() * rng.unit());
    let center = (rng.unit() * w, rng.unit() * h);
    let corners = 4 + rng.below(4);
    let start = rng.unit();
    let squash = rng.range(0.35, 1.0);
    let points: Vec<(f32, f32)> = (0..corners)
        .map(|k| {
            let turns = start + (k as f32 + rng.range(-0.3, 0.3)) / corners as f32;
            let r = size * rng.range(0.6, 1.0);
            (r * cos_turns(turns), r * squash * sin_turns(turns))
        })
        .collect();
    let color = rng.color((0.0, 0.8), (0.15, 0.95));
    let other = rng.color((0.0, 0.8), (0.15, 0.95));
    let stripes = rng.chance(0.3);
    let tilt = Vec3::new(rng.range(-0.3, 0.3), rng.range(-0.2, 0.5), 0.8).normalized();
    let lit = light.diffuse(tilt);
    let gradient = rng.range(-0.4, 0.4);
    let lift = size * rng.range(0.02, 0.12);
    let shadow_shift = (-light.direction.x * lift, light.direction.y * lift);

    // Signed distance to the outline, negative inside; exact enough near the edges.
    let distance = |x: f32, y: f32| {
        let mut nearest = f32::INFINITY;
        let mut inside = false;
        for i in 0..points.len() {
            let ((ax, ay), (bx, by)) = (points[i], points[(i + 1) % points.len()]);
            let (ex, ey) = (bx - ax, by - ay);
            let (px, py) = (x - ax, y - ay);
            let t = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
            let (qx, qy) = (px - t * ex, py - t * ey);
            nearest = nearest.min(qx * qx + qy * qy);
            if (ay > y) != (by > y) && x < ex * (y - ay) / ey + ax {
                inside = !inside;
            }
        }
        let d = nearest.sqrt();
        if inside { -d } else { d }
    };
    let reach = size + 2.0 * lift + 2.0;
    let cut = |v: f32, end: usize| (v.max(0.0) as usize).min(end);
    for y in cut(center.1 - reach, canvas.height)..cut(center.1 + reach, canvas.height) {
        for x in cut(center.0 - reach, canvas.width)..cut(center.0 + reach, canvas.width) {
            let (px, py) = (x as f32 + 0.5 - center.0, y as f32 + 0.5 - center.1);
            let index = y * canvas.width + x;
            let edge = distance(px, py);
            let coverage = (0.5 - edge).clamp(0.0, 1.0);
            if coverage < 1.0 {
                let far = distance(px - shadow_shift.0, py - shadow_shift.1);
                let dark = 1.0 - smoothstep(-lift, lift.max(1.0), far);
                canvas.pixels[index] = canvas.pixels[index] * (1.0 - 0.8 * light.shadow * dark);
            }
            if coverage > 0.0 {
                let v = noise.plane(px * 0.15 + 9.0, py * 0.15);
                let share = if stripes {
                    smoothstep(0.4, 0.6, noise.plane(0.5, (px + py) * 0.25))
                } else {
                    0.4 * v
                };
                let gain = 1.0 + gradient * px / size + 0.2 * (v - 0.5);
                canvas.blend(index, color.mix(other, share).tint(lit) * gain, coverage);
            }
        }
    }
}

/// Scatters clutter over a background.
pub(super) fn paint_clutter(light: &Lighting, noise: &Noise, canvas: &mut Canvas, rng: &mut Rng) {
    if rng.chance(0.2) {
        return;
    }
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    for _ in 0..1 + rng.below(7) {
        if rng.chance(0.55) {
            paint_scrap(light, noise, canvas, rng);
        } else {
            let half_width = w.max(h) * mix(0.003, 0.018, rng.unit());
            let stroke = Stroke::sample(w, h, half_width, rng);
            let color = rng.color((0.0, 0.8), (0.1, 0.9));
            let round = rng.chance(0.6);
            stroke.paint(color, round, light, canvas);
        }
    }
}
