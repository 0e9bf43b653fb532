//! Vectors, rotations and smooth steps, built only from operations that IEEE 754 rounds exactly
//! (`+ - * / sqrt`), so that scenes do not depend on a platform's math library.

use std::ops::{Add, Mul, Neg, Sub};

/// A point, a direction, or a color in linear light.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Vec3 {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) z: f32,
}

impl Vec3 {
    pub(super) const fn new(x: f32, y: f32, z: f32) -> Self {
        Self { x, y, z }
    }

    pub(super) const fn splat(v: f32) -> Self {
        Self::new(v, v, v)
    }

    pub(super) fn dot(self, o: Self) -> f32 {
        self.x * o.x + self.y * o.y + self.z * o.z
    }

    pub(super) fn cross(self, o: Self) -> Self {
        Self::new(
            self.y * o.z - self.z * o.y,
            self.z * o.x - self.x * o.z,
            self.x * o.y - self.y * o.x,
        )
    }

    pub(super) fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    /// Normalizes to unit length; the null vector is unchanged.
    pub(super) fn normalized(self) -> Self {
        let length = self.length();
        if length > 0.0 {
            self * (1.0 / length)
        } else {
            self
        }
    }

    /// Multiplies component by component, for light on paint.
    pub(super) fn tint(self, o: Self) -> Self {
        Self::new(self.x * o.x, self.y * o.y, self.z * o.z)
    }

    pub(super) fn mix(self, o: Self, t: f32) -> Self {
        self + (o - self) * t
    }
}

impl Add for Vec3 {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self::new(self.x + o.x, self.y + o.y, self.z + o.z)
    }
}

impl Sub for Vec3 {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self::new(self.x - o.x, self.y - o.y, self.z - o.z)
    }
}

impl Mul<f32> for Vec3 {
    type Output = Self;
    fn mul(self, k: f32) -> Self {
        Self::new(self.x * k, self.y * k, self.z * k)
    }
}

impl Neg for Vec3 {
    type Output = Self;
    fn neg(self) -> Self {
        self * -1.0
    }
}

/// Returns the sine of an angle in full turns, to about 4e-6.
pub(super) fn sin_turns(turns: f32) -> f32 {
    let x = turns - floor(turns + 0.5) as f32;
    // Fold the half turns outside a quarter back: sin(pi - y) = sin(y).
    let x = if x > 0.25 {
        0.5 - x
    } else if x < -0.25 {
        -0.5 - x
    } else {
        x
    };
    let y = x * std::f32::consts::TAU;
    let q = y * y;
    y * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0 + q * (1.0 / 362_880.0)))))
}

/// Returns the cosine of an angle in full turns.
pub(super) fn cos_turns(turns: f32) -> f32 {
    sin_turns(turns + 0.25)
}

/// Returns the largest integer not above `x`, for moderate `x`; `f32::floor` is a library call on
/// plain x86-64.
pub(super) fn floor(x: f32) -> i32 {
    let i = x as i32;
    i - i32::from((i as f32) > x)
}

/// Returns the fractional part, in `[0, 1)`.
pub(super) fn fraction(x: f32) -> f32 {
    x - floor(x) as f32
}

/// Rises smoothly from 0 at `low` to 1 at `high`.
pub(super) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Interpolates linearly between two numbers.
pub(super) fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// The rotation of an object: its axes in view space (x right, y up, z towards the camera).
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation {
    x: Vec3,
    y: Vec3,
    z: Vec3,
}

impl Rotation {
    /// Creates a rotation: about the vertical axis by `yaw`, the top towards the camera by `pitch`,
    /// then in the image plane by `roll`. All angles are in full turns.
    pub(super) fn from_turns(yaw: f32, pitch: f32, roll: f32) -> Self {
        let turn = |v: Vec3| {
            let (s, c) = (sin_turns(yaw), cos_turns(yaw));
            let v = Vec3::new(c * v.x + s * v.z, v.y, c * v.z - s * v.x);
            let (s, c) = (sin_turns(pitch), cos_turns(pitch));
            let v = Vec3::new(v.x, c * v.y - s * v.z, s * v.y + c * v.z);
            let (s, c) = (sin_turns(roll), cos_turns(roll));
            Vec3::new(c * v.x - s * v.y, s * v.x + c * v.y, v.z)
        };
        Self {
            x: turn(Vec3::new(1.0, 0.0, 0.0)),
            y: turn(Vec3::new(0.0, 1.0, 0.0)),
            z: turn(Vec3::new(0.0, 0.0, 1.0)),
        }
    }

    /// Converts from view space to the object's axes.
    pub(super) fn to_object(self, v: Vec3) -> Vec3 {
        Vec3::new(v.dot(self.x), v.dot(self.y), v.dot(self.z))
    }

    /// Converts from the object's axes to view space.
    pub(super) fn to_view(self, v: Vec3) -> Vec3 {
        self.x * v.x + self.y * v.y + self.z * v.z
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_and_cosine_match_the_standard_library() {
        for i in -400..400 {
            let turns = i as f32 * 0.0137;
            let radians = f64::from(turns) * std::f64::consts::TAU;
            assert!((f64::from(sin_turns(turns)) - radians.sin()).abs() < 1e-5);
            assert!((f64::from(cos_turns(turns)) - radians.cos()).abs() < 1e-5);
        }
    }

    #[test]
    fn a_rotation_keeps_lengths_and_is_undone_by_its_inverse() {
        let rotation = Rotation::from_turns(0.13, -0.31, 0.77);
        let v = Vec3::new(0.3, -1.2, 2.0);
        let back = rotation.to_object(rotation.to_view(v));
        assert!((back - v).length() < 1e-4);
        assert!((rotation.to_view(v).length() - v.length()).abs() < 1e-4);
    }

    #[test]
    fn floor_rounds_down_on_both_sides_of_zero() {
        assert_eq!(
            [-1.5, -1.0, -0.2, 0.0, 0.9, 2.0, 65_537.75].map(floor),
            [-2, -1, -1, 0, 0, 2, 65_537]
        );
    }
}
