//! Materials and lighting: the color of a surface point as seen by the camera.

use crate::shapes::math::{Vec3, floor, fraction, smoothstep};
use crate::shapes::noise::Noise;
use crate::shapes::rng::Rng;

/// The light of one scene, in view space and linear light.
#[derive(Debug, Clone)]
pub(super) struct Lighting {
    /// Unit vector towards the lamp.
    pub(super) direction: Vec3,
    /// The lamp's color times its intensity.
    pub(super) lamp: Vec3,
    /// Ambient light from above.
    pub(super) sky: Vec3,
    /// Ambient light from below.
    pub(super) ground: Vec3,
    /// Share of light that a cast shadow removes, 0 to 1.
    pub(super) shadow: f32,
}

impl Lighting {
    pub(super) fn sample(rng: &mut Rng) -> Self {
        let direction = Vec3::new(
            rng.range(-0.9, 0.9),
            rng.range(0.25, 1.0),
            rng.range(0.25, 0.9),
        )
        .normalized();
        let warmth = rng.range(-0.12, 0.16);
        let lamp = Vec3::new(1.0 + warmth, 1.0, 1.0 - warmth) * rng.range(0.55, 1.15);
        let ambient = rng.range(0.18, 0.5);
        Self {
            direction,
            lamp,
            sky: Vec3::new(1.0 - 0.8 * warmth, 1.0, 1.0 + 0.8 * warmth) * ambient,
            ground: rng.color((0.0, 0.35), (0.5, 0.8)) * ambient,
            shadow: rng.range(0.3, 0.75),
        }
    }

    /// Returns the light on a surface with this normal in view space.
    pub(super) fn diffuse(&self, normal: Vec3) -> Vec3 {
        let ambient = self.ground.mix(self.sky, 0.5 + 0.5 * normal.y);
        ambient + self.lamp * normal.dot(self.direction).max(0.0)
    }
}

/// Target distance between paint and surroundings, in display RGB of 0 to 1 each.
const MIN_CONTRAST: f32 = 0.3;

#[derive(Debug, Clone, Copy)]
enum Pattern {
    Plain,
    Stripes,
    Rings,
    Checks,
    Spots,
    Marble,
    Speckle,
    /// Eight wedges about the y axis, as on a beach ball.
    Wedges,
    /// One strip along the z axis, as adhesive tape on a carton.
    Tape,
    /// The middle of the y axis, as the label of a tin.
    Label,
    /// Four patches about the z axis, as on a life buoy.
    Patches,
    /// Bands across the y axis, as on a traffic cone.
    Bands,
}

/// Paint of an object: two colors in a solid pattern, and gloss.
#[derive(Debug, Clone)]
pub(super) struct Material {
    pattern: Pattern,
    first: Vec3,
    second: Vec3,
    /// Direction of stripes, in the object's axes.
    axis: Vec3,
    frequency: f32,
    offset: f32,
    highlight: f32,
    /// The exponent of the highlight, `cos^(2^tightness)`.
    tightness: u32,
    mirror: f32,
    grain: f32,
}

/// Share of objects with the usual paint of their class; the others have any paint, so that color
/// alone does not determine the class.
const USUAL_SHARE: f32 = 0.85;

impl Material {
    /// Draws paint for an object of a class of [`crate::shapes::CLASS_NAMES`].
    pub(super) fn sample(class_index: usize, rng: &mut Rng) -> Self {
        let mut paint = Self::any(rng);
        if rng.chance(USUAL_SHARE) {
            paint.wear_usual(class_index, rng);
        }
        paint
    }

    /// Draws the paint of typical objects: beach balls, cartons, tins, life buoys, gold stars,
    /// traffic cones.
    fn wear_usual(&mut self, class_index: usize, rng: &mut Rng) {
        let white = Vec3::splat(rng.range(0.65, 0.9));
        let tint = |color: (f32, f32, f32), rng: &mut Rng| {
            let gain = rng.range(0.75, 1.2);
            let mut channel = |v: f32| v * gain * rng.range(0.9, 1.1);
            Vec3::new(channel(color.0), channel(color.1), channel(color.2))
        };
        let (pattern, first, second) = match class_index {
            0 => (Pattern::Wedges, rng.color((0.6, 0.95), (0.6, 0.95)), white),
            1 => (
                Pattern::Tape,
                tint((0.42, 0.26, 0.12), rng),
                tint((0.62, 0.5, 0.3), rng),
            ),
            2 => (
                Pattern::Label,
                tint((0.5, 0.52, 0.55), rng),
                rng.color((0.6, 0.95), (0.4, 0.9)),
            ),
            3 => (Pattern::Patches, tint((0.75, 0.1, 0.05), rng), white),
            4 => (Pattern::Plain, tint((0.8, 0.5, 0.06), rng), white),
            _ => (Pattern::Bands, tint((0.85, 0.25, 0.03), rng), white),
        };
        (self.pattern, self.first, self.second) = (pattern, first, second);
        if matches!(pattern, Pattern::Label) {
            self.mirror = rng.range(0.2, 0.45);
        }
    }

    fn any(rng: &mut Rng) -> Self {
        let pattern = match rng.below(12) {
            0..=3 => Pattern::Plain,
            4 => Pattern::Stripes,
            5 => Pattern::Rings,
            6 => Pattern::Checks,
            7 => Pattern::Spots,
            8 | 9 => Pattern::Marble,
            _ => Pattern::Speckle,
        };
        let first = rng.color((0.1, 0.9), (0.25, 0.95));
        let second = if rng.chance(0.5) {
            // A shade of the first color.
            first * rng.range(0.3, 0.7)
        } else {
            rng.color((0.0, 0.8), (0.15, 0.95))
        };
        Self {
            pattern,
            first,
            second,
            axis: Vec3::new(
                rng.range(-1.0, 1.0),
                rng.range(-1.0, 1.0),
                rng.range(-1.0, 1.0),
            )
            .normalized(),
            frequency: rng.range(1.2, 3.2),
            offset: rng.range(0.0, 16.0),
            highlight: if rng.chance(0.6) {
                rng.range(0.1, 0.9)
            } else {
                0.0
            },
            tightness: 2 + rng.below(5),
            mirror: if rng.chance(0.35) {
                rng.range(0.1, 0.5)
            } else {
                0.03
            },
            grain: rng.range(0.0, 0.25),
        }
    }

    /// Draws paint that contrasts with `behind`, the mean color around the object, so that no
    /// object is camouflaged.
    pub(super) fn sample_against(
        class_index: usize,
        behind: Vec3,
        light: &Lighting,
        rng: &mut Rng,
    ) -> Self {
        let lit = light.diffuse(Vec3::new(0.0, 0.5, 0.87));
        let display = |c: Vec3| Vec3::new(c.x.sqrt(), c.y.sqrt(), c.z.sqrt());
        let mut best: Option<(f32, Self)> = None;
        for _ in 0..6 {
            let candidate = Self::sample(class_index, rng);
            let share = match candidate.pattern {
                Pattern::Plain => 0.0,
                _ => 0.4,
            };
            let mean = candidate.first.mix(candidate.second, share).tint(lit);
            let contrast = (display(mean) - display(behind)).length();
            if contrast >= MIN_CONTRAST {
                return candidate;
            }
            if best.as_ref().is_none_or(|(most, _)| contrast > *most) {
                best = Some((contrast, candidate));
            }
        }
        best.map_or_else(
            || Self::sample(class_index, rng),
            |(_, candidate)| candidate,
        )
    }

    /// Returns the same paint with a slightly different brightness, for the members of a crowd.
    pub(super) fn variation(&self, rng: &mut Rng) -> Self {
        let gain = rng.range(0.75, 1.25);
        Self {
            first: self.first * gain,
            second: self.second * gain,
            offset: rng.range(0.0, 16.0),
            ..self.clone()
        }
    }

    fn albedo(&self, p: Vec3, noise: &Noise) -> Vec3 {
        let f = self.frequency;
        let q = p * f + Vec3::splat(self.offset);
        let share = match self.pattern {
            Pattern::Plain => 0.0,
            Pattern::Stripes => {
                let v = fraction(p.dot(self.axis) * f + self.offset);
                smoothstep(0.0, 0.08, v) - smoothstep(0.5, 0.58, v)
            }
            Pattern::Rings => {
                let wobble = 0.3 * noise.space(q.x, q.y, q.z);
                let around = p - self.axis * p.dot(self.axis);
                let v = fraction(around.length() * f + wobble + self.offset);
                smoothstep(0.0, 0.7, v) - smoothstep(0.8, 1.0, v)
            }
            Pattern::Checks => {
                let s = floor(q.x) + floor(q.y) + floor(q.z);
                (s & 1) as f32
            }
            Pattern::Spots => smoothstep(0.58, 0.66, noise.space(q.x * 1.6, q.y * 1.6, q.z * 1.6)),
            Pattern::Marble => {
                let n = noise.space(q.x, q.y, q.z)
                    + 0.5 * noise.space(2.0 * q.x + 5.0, 2.0 * q.y, 2.0 * q.z);
                let v = fraction(p.dot(self.axis) * 1.3 + 1.6 * n);
                let ridge = (2.0 * v - 1.0).abs();
                ridge * ridge
            }
            Pattern::Speckle => {
                let k = 7.0;
                smoothstep(0.35, 0.75, noise.space(q.x * k, q.y * k, q.z * k))
            }
            Pattern::Wedges => {
                let odd = (p.x > 0.0) ^ (p.z > 0.0) ^ (p.x.abs() > p.z.abs());
                f32::from(u8::from(odd))
            }
            Pattern::Tape => f32::from(u8::from(p.x.abs() < 0.13)),
            Pattern::Label => f32::from(u8::from(p.y.abs() < 0.42)),
            Pattern::Patches => {
                let (near, far) = (p.x.abs().min(p.y.abs()), p.x.abs().max(p.y.abs()));
                f32::from(u8::from(near < 0.36 * far))
            }
            Pattern::Bands => {
                let v = fraction(p.y * 1.6 + 0.3);
                smoothstep(0.0, 0.06, v) - smoothstep(0.42, 0.48, v)
            }
        };
        let mut color = self.first.mix(self.second, share);
        if self.grain > 0.01 {
            let n = noise.space(q.x * 4.0, q.y * 4.0, q.z * 4.0) - 0.5;
            color = color * (1.0 + 2.0 * self.grain * n);
        }
        color
    }

    /// Returns the color of a surface point as seen by the camera. `position` is in the object's
    /// axes, `normal` and `to_camera` in view space, both of unit length.
    pub(super) fn shade(
        &self,
        position: Vec3,
        normal: Vec3,
        to_camera: Vec3,
        light: &Lighting,
        noise: &Noise,
    ) -> Vec3 {
        let albedo = self.albedo(position, noise);
        let mut color = albedo.tint(light.diffuse(normal));
        let facing = normal.dot(to_camera).clamp(0.0, 1.0);
        // Schlick's approximation of the Fresnel reflection.
        let edge = 1.0 - facing;
        let edge5 = edge * edge * edge * edge * edge;
        let fresnel = self.mirror + (1.0 - self.mirror) * edge5 * 0.5;
        let bounce = normal * (2.0 * facing) - to_camera;
        let horizon = smoothstep(-0.25, 0.25, bounce.y + 0.2 * bounce.x);
        let surroundings = light.ground.mix(light.sky * 1.6, horizon);
        color = color.mix(surroundings, fresnel);
        if self.highlight > 0.0 {
            let half = (light.direction + to_camera).normalized();
            let mut s = normal.dot(half).max(0.0);
            for _ in 0..self.tightness {
                s *= s;
            }
            color = color + light.lamp * (self.highlight * s);
        }
        color
    }
}
