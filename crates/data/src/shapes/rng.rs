//! The seeded random number generator of a scene.
//!
//! The distributions are written here instead of taken from `rand` so that a later version of that
//! crate cannot change a published dataset.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;

use crate::annotations::Split;
use crate::rng::stream;
use crate::shapes::math::Vec3;

/// The purpose of a random number stream. Each purpose has its own stream, so annotations can be
/// computed without drawing the numbers for paint and camera.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Composition,
    Materials,
    Background,
    Camera,
}

/// A random number stream which depends only on (seed, split, index, purpose).
#[derive(Debug, Clone)]
pub(super) struct Rng(ChaCha8Rng);

impl Rng {
    pub(super) fn new(seed: u64, split: Split, index: usize, purpose: Purpose) -> Self {
        let split = match split {
            Split::Train => 1,
            Split::Val => 2,
            Split::Test => 3,
        };
        let mut rng = stream([seed, split, index as u64, u64::from_le_bytes(*b"shapes/1")]);
        rng.set_stream(purpose as u64);
        Self(rng)
    }

    /// Returns 32 random bits.
    pub(super) fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Draws uniformly from `[0, 1)`.
    pub(super) fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Draws uniformly from `[low, high)`.
    pub(super) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Draws uniformly from `0..count`; `count` must be positive.
    pub(super) fn below(&mut self, count: u32) -> u32 {
        ((u64::from(self.bits()) * u64::from(count)) >> 32) as u32
    }

    /// Returns true with this probability.
    pub(super) fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// Returns plus or minus one.
    pub(super) fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// Fills with approximately normal numbers (each the sum of four bytes), mean 0, standard
    /// deviation 1.
    pub(super) fn fill_normal(&mut self, out: &mut [f32], bytes: &mut Vec<u8>) {
        bytes.resize(4 * out.len(), 0);
        self.0.fill_bytes(bytes);
        for (v, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
            let sum = i32::from(b[0]) + i32::from(b[1]) + i32::from(b[2]) + i32::from(b[3]);
            // Four uniform bytes: mean 510, variance 4 * (256^2 - 1) / 12.
            *v = (sum - 510) as f32 * (1.0 / 147.8);
        }
    }

    /// Draws a color in linear light with a uniform hue.
    pub(super) fn color(&mut self, saturation: (f32, f32), value: (f32, f32)) -> Vec3 {
        let hue = self.range(0.0, 6.0);
        let saturation = self.range(saturation.0, saturation.1);
        let value = self.range(value.0, value.1);
        let channel = |shift: f32| {
            let k = (hue + shift) % 6.0;
            let ramp = ((k - 3.0).abs() - 1.0).clamp(0.0, 1.0);
            let display = value * (1.0 - saturation + saturation * ramp);
            display * display
        };
        Vec3::new(channel(0.0), channel(4.0), channel(2.0))
    }
}
