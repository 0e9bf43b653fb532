//! Smooth random fields for textures: value noise on a repeating lattice.

use crate::shapes::math::{floor, mix};
use crate::shapes::rng::Rng;

/// A lattice of 4096 random values, read as 64 x 64 or as 16 x 16 x 16.
#[derive(Debug, Clone)]
pub(super) struct Noise {
    lattice: Box<[f32; CELLS]>,
}

const CELLS: usize = 4096;

impl Noise {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            lattice: Box::new(std::array::from_fn(|_| rng.unit())),
        }
    }

    fn at2(&self, x: i32, y: i32) -> f32 {
        self.lattice[((x & 63) | ((y & 63) << 6)) as usize]
    }

    fn at3(&self, x: i32, y: i32, z: i32) -> f32 {
        self.lattice[((x & 15) | ((y & 15) << 4) | ((z & 15) << 8)) as usize]
    }

    /// Returns one random value per unit cell, in `[0, 1)`.
    pub(super) fn cell(&self, x: i32, y: i32) -> f32 {
        self.at2(x, y)
    }

    /// Returns smooth noise in the plane, in `[0, 1)`, with features one unit wide.
    pub(super) fn plane(&self, x: f32, y: f32) -> f32 {
        let (ix, iy) = (floor(x), floor(y));
        let (fx, fy) = (ease(x - ix as f32), ease(y - iy as f32));
        mix(
            mix(self.at2(ix, iy), self.at2(ix + 1, iy), fx),
            mix(self.at2(ix, iy + 1), self.at2(ix + 1, iy + 1), fx),
            fy,
        )
    }

    /// Returns smooth noise in space, in `[0, 1)`.
    pub(super) fn space(&self, x: f32, y: f32, z: f32) -> f32 {
        let (ix, iy, iz) = (floor(x), floor(y), floor(z));
        let fx = ease(x - ix as f32);
        let fy = ease(y - iy as f32);
        let fz = ease(z - iz as f32);
        let layer = |k: i32| {
            mix(
                mix(self.at3(ix, iy, k), self.at3(ix + 1, iy, k), fx),
                mix(self.at3(ix, iy + 1, k), self.at3(ix + 1, iy + 1, k), fx),
                fy,
            )
        };
        mix(layer(iz), layer(iz + 1), fz)
    }

    /// Sums `octaves` planes, each twice as fine and half as strong, in `[0, 1)`.
    pub(super) fn fractal(&self, mut x: f32, mut y: f32, octaves: u32) -> f32 {
        let (mut sum, mut weight, mut total) = (0.0, 0.5, 0.0);
        for _ in 0..octaves {
            sum += weight * self.plane(x, y);
            total += weight;
            weight *= 0.5;
            // Rotate by the 3-4-5 angle so that the lattices of the octaves are not aligned.
            let (nx, ny) = (1.6 * x - 1.2 * y + 17.3, 1.2 * x + 1.6 * y + 5.7);
            (x, y) = (nx, ny);
        }
        sum / total
    }
}

fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}
