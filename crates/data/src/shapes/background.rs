//! Backgrounds: rooms, tables, cloth, gardens, blurred lights.

use crate::shapes::canvas::{Canvas, bell_kernel};
use crate::shapes::material::Lighting;
use crate::shapes::math::{Vec3, cos_turns, floor, fraction, mix, sin_turns, smoothstep};
use crate::shapes::noise::Noise;
use crate::shapes::rng::Rng;

/// The setting of a scene.
#[derive(Debug, Clone, Copy)]
pub(super) enum Setting {
    /// Objects are on a floor; the floor begins at `horizon`, a share of the height.
    Floor { horizon: f32 },
    /// Objects are on, or hang in front of, a surface seen from the front.
    Flat,
}

/// Paints the empty background of a setting.
pub(super) fn paint_background(
    (width, height): (usize, usize),
    setting: Setting,
    light: &Lighting,
    noise: &Noise,
    rng: &mut Rng,
) -> Canvas {
    let mut canvas = match setting {
        Setting::Floor { horizon } => {
            let wall = Wall::sample(rng);
            let floor = Floor::sample(rng);
            let (w, h) = (width as f32, height as f32);
            let line = horizon * h;
            // A skirting board, or none.
            let board = if rng.chance(0.4) { 0.02 * h } else { 0.0 };
            let board_color = rng.color((0.0, 0.3), (0.2, 0.9));
            let wall_light = light.diffuse(Vec3::new(0.0, 0.2, 0.98));
            let floor_light = light.diffuse(Vec3::new(0.0, 0.9, 0.43));
            Canvas::from_fn(width, height, |x, y| {
                let below = y - line;
                if below < -board {
                    wall.color(x / h, y / h, noise).tint(wall_light)
                } else if below < 0.0 {
                    board_color.tint(wall_light)
                } else {
                    let depth = 1.0 / (below / h + 0.07);
                    let (u, v) = ((x - 0.5 * w) / h * depth, depth);
                    // Fine patterns fade into the distance instead of flickering.
                    let near = 1.0 - smoothstep(4.0, 11.0, depth);
                    floor.color(u, v, near, noise).tint(floor_light)
                }
            })
        }
        Setting::Flat => {
            let surface = Surface::sample(rng);
            let turn = rng.unit();
            let (c, s) = (cos_turns(turn), sin_turns(turn));
            let zoom = rng.range(0.8, 2.5) / width.max(height) as f32;
            let offset = (rng.range(0.0, 64.0), rng.range(0.0, 64.0));
            let lit = light.diffuse(Vec3::new(0.0, 0.1, 0.99));
            Canvas::from_fn(width, height, |x, y| {
                let u = (c * x - s * y) * zoom + offset.0;
                let v = (s * x + c * y) * zoom + offset.1;
                surface.color(u, v, noise).tint(lit)
            })
        }
    };
    light_pool(&mut canvas, rng);
    canvas
}

/// Paints an out-of-focus background, in some images.
pub(super) fn defocus(canvas: &mut Canvas, rng: &mut Rng) {
    if rng.chance(0.4) {
        canvas.blur(&bell_kernel(rng.range(0.8, 2.6)));
    }
}

/// Applies uneven light: brighter on one side, with a soft pool around some point.
fn light_pool(canvas: &mut Canvas, rng: &mut Rng) {
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    let slope = (rng.range(-0.35, 0.35), rng.range(-0.35, 0.35));
    let center = (rng.unit() * w, rng.unit() * h);
    let radius2 = {
        let r = rng.range(0.3, 0.9) * w.max(h);
        r * r
    };
    let pool = if rng.chance(0.5) {
        rng.range(-0.35, 0.5)
    } else {
        0.0
    };
    for y in 0..canvas.height {
        for x in 0..canvas.width {
            let (px, py) = (x as f32, y as f32);
            let q = (px - center.0) * (px - center.0) + (py - center.1) * (py - center.1);
            let near = 1.0 / (1.0 + 3.0 * q / radius2);
            let gain = 1.0 + slope.0 * (px / w - 0.5) + slope.1 * (py / h - 0.5) + pool * near;
            let index = y * canvas.width + x;
            canvas.pixels[index] = canvas.pixels[index] * gain;
        }
    }
}

/// Draws a muted color, or occasionally a saturated one.
fn muted(rng: &mut Rng) -> Vec3 {
    if rng.chance(0.75) {
        rng.color((0.0, 0.4), (0.25, 0.9))
    } else {
        rng.color((0.4, 0.85), (0.3, 0.9))
    }
}

/// The area behind a floor: a wall, or the open air.
enum Wall {
    Plaster {
        color: Vec3,
        rough: f32,
    },
    Paper {
        first: Vec3,
        second: Vec3,
        count: f32,
    },
    Bricks {
        brick: Vec3,
        mortar: Vec3,
        rows: f32,
    },
    Sky {
        zenith: Vec3,
        haze: Vec3,
        cloud: f32,
        trees: Vec3,
        tree_line: f32,
    },
    Lights {
        dark: Vec3,
        lights: Vec<(f32, f32, f32, Vec3)>,
    },
}

impl Wall {
    fn sample(rng: &mut Rng) -> Self {
        match rng.below(9) {
            0..=2 => Self::Plaster {
                color: muted(rng),
                rough: rng.range(0.05, 0.4),
            },
            3 => {
                let first = muted(rng);
                let second = if rng.chance(0.6) {
                    first * rng.range(0.6, 0.9)
                } else {
                    muted(rng)
                };
                Self::Paper {
                    first,
                    second,
                    count: rng.range(6.0, 24.0),
                }
            }
            4 => Self::Bricks {
                brick: rng.color((0.2, 0.7), (0.3, 0.75)),
                mortar: rng.color((0.0, 0.15), (0.4, 0.85)),
                rows: rng.range(10.0, 26.0),
            },
            5 | 6 => Self::Sky {
                zenith: Vec3::new(0.1, 0.25, 0.6) * rng.range(0.6, 1.4),
                haze: Vec3::new(0.6, 0.7, 0.8) * rng.range(0.6, 1.2),
                cloud: rng.range(0.0, 1.0),
                trees: Vec3::new(0.08, 0.16, 0.05) * rng.range(0.4, 1.6),
                tree_line: rng.range(0.0, 0.14),
            },
            _ => Self::Lights {
                dark: muted(rng) * 0.4,
                lights: (0..6 + rng.below(14))
                    .map(|_| {
                        let at = (rng.range(0.0, 1.6), rng.range(0.0, 0.7));
                        let color = rng.color((0.0, 0.7), (0.3, 0.8)) * 0.6;
                        (at.0, at.1, rng.range(0.02, 0.1), color)
                    })
                    .collect(),
            },
        }
    }

    /// Returns the color at `x` and `y`, in image heights.
    fn color(&self, x: f32, y: f32, noise: &Noise) -> Vec3 {
        match self {
            Self::Plaster { color, rough } => {
                *color * (1.0 + rough * (noise.fractal(6.0 * x, 6.0 * y, 3) - 0.5) * 2.0)
            }
            Self::Paper {
                first,
                second,
                count,
            } => {
                let v = fraction(x * count);
                let stripe = smoothstep(0.0, 0.12, v) - smoothstep(0.5, 0.62, v);
                let motif = smoothstep(0.6, 0.7, noise.plane(x * count, y * count));
                first.mix(*second, (stripe + 0.4 * motif).min(1.0))
            }
            Self::Bricks {
                brick,
                mortar,
                rows,
            } => {
                let row = floor(y * rows);
                let u = x * rows * 0.4 + 0.5 * (row & 1) as f32;
                let (fx, fy) = (fraction(u), fraction(y * rows));
                let joint = smoothstep(0.02, 0.06, fx.min(1.0 - fx) * 2.0)
                    * smoothstep(0.05, 0.15, fy.min(1.0 - fy) * 2.0);
                let own = 0.6 + 0.6 * noise.cell(floor(u), row);
                let rough = 0.7 + 0.6 * noise.plane(x * 60.0, y * 60.0);
                mortar.mix(*brick * (own * rough), joint)
            }
            Self::Sky {
                zenith,
                haze,
                cloud,
                trees,
                tree_line,
            } => {
                // The horizon hides everything below 0.42 at most.
                let lowest = 0.42 - 1.5 * tree_line;
                let green = if y < lowest {
                    0.0
                } else {
                    let crown = noise.fractal(9.0 * x, 2.0, 3);
                    let edge = 0.42 - tree_line * (0.5 + crown);
                    smoothstep(edge - 0.01, edge + 0.01, y)
                };
                let trees = *trees * (0.5 + noise.plane(40.0 * x, 40.0 * y));
                if green >= 1.0 {
                    return trees;
                }
                let up = (1.0 - 1.6 * y).clamp(0.0, 1.0);
                let sky = haze.mix(*zenith, up * up);
                let white = smoothstep(0.5, 0.75, noise.fractal(3.0 * x, 7.0 * y, 4));
                sky.mix(Vec3::splat(0.85), cloud * white).mix(trees, green)
            }
            Self::Lights { dark, lights } => {
                let mut color = *dark * (0.7 + 0.6 * noise.plane(3.0 * x, 3.0 * y));
                for &(cx, cy, r, light) in lights {
                    let d2 = (x - cx) * (x - cx) + (y - cy) * (y - cy);
                    let disc = 1.0 - smoothstep(0.25, 1.6, d2 / (r * r));
                    if disc > 0.0 {
                        color = color + light * (0.7 * disc);
                    }
                }
                color
            }
        }
    }
}

/// The ground under the objects, in perspective.
enum Floor {
    Planks {
        wood: Vec3,
        width: f32,
    },
    Tiles {
        first: Vec3,
        second: Vec3,
        size: f32,
        grout: Vec3,
    },
    Grass {
        dark: Vec3,
        bright: Vec3,
    },
    Carpet {
        color: Vec3,
        other: Vec3,
    },
    Concrete {
        color: Vec3,
    },
}

impl Floor {
    fn sample(rng: &mut Rng) -> Self {
        match rng.below(5) {
            0 => Self::Planks {
                wood: wood(rng),
                width: rng.range(1.2, 3.0),
            },
            1 => {
                let first = muted(rng);
                let second = if rng.chance(0.5) {
                    first * rng.range(0.75, 1.0)
                } else {
                    muted(rng)
                };
                Self::Tiles {
                    first,
                    second,
                    size: rng.range(0.8, 2.0),
                    grout: rng.color((0.0, 0.1), (0.2, 0.7)),
                }
            }
            2 => Self::Grass {
                dark: Vec3::new(0.05, 0.12, 0.02) * rng.range(0.6, 1.6),
                bright: Vec3::new(0.3, 0.4, 0.12) * rng.range(0.6, 1.3),
            },
            3 => Self::Carpet {
                color: muted(rng),
                other: muted(rng),
            },
            _ => Self::Concrete {
                color: rng.color((0.0, 0.2), (0.35, 0.8)),
            },
        }
    }

    /// Returns the color at `u` across and `v` into the image; `near` is 1 at the camera and 0 far
    /// away.
    fn color(&self, u: f32, v: f32, near: f32, noise: &Noise) -> Vec3 {
        match self {
            Self::Planks { wood, width } => {
                let plank = floor(u * width);
                let joint = fraction(u * width);
                let gap = smoothstep(0.0, 0.05, joint.min(1.0 - joint));
                let own = 0.75 + 0.5 * noise.cell(plank, 3);
                let grain = noise.fractal(u * 22.0, v * 1.5 + 9.0 * own, 3);
                *wood
                    * (own * mix(1.0, 0.65 + 0.7 * grain, near) * mix(1.0, 0.45 + 0.55 * gap, near))
            }
            Self::Tiles {
                first,
                second,
                size,
                grout,
            } => {
                let (a, b) = (u * size, v * size);
                let (i, j) = (floor(a), floor(b));
                let (fa, fb) = (fraction(a), fraction(b));
                let tile = first.mix(*second, ((i + j) & 1) as f32);
                let mean = first.mix(*second, 0.5);
                let own = 0.85 + 0.3 * noise.cell(i, j);
                let vein = 0.8 + 0.4 * noise.fractal(a * 2.0, b * 2.0, 2);
                let line = smoothstep(0.0, 0.05, fa.min(1.0 - fa))
                    * smoothstep(0.0, 0.05, fb.min(1.0 - fb));
                mean.mix(grout.mix(tile * own, line), near) * vein
            }
            Self::Grass { dark, bright } => {
                let blades = noise.fractal(u * 26.0, v * 9.0, 3);
                let patch = noise.plane(u * 1.5, v * 1.5);
                let t = mix(0.5, smoothstep(0.25, 0.8, blades), 0.25 + 0.75 * near);
                dark.mix(*bright, t * (0.6 + 0.4 * patch))
            }
            Self::Carpet { color, other } => {
                let pile = noise.plane(u * 45.0, v * 30.0);
                let motif = smoothstep(0.5, 0.56, noise.plane(u * 1.8, v * 1.8));
                color.mix(*other, 0.7 * motif) * mix(1.0, 0.7 + 0.6 * pile, near)
            }
            Self::Concrete { color } => {
                let stain = noise.fractal(u * 1.6, v * 1.6, 3);
                let grit = noise.plane(u * 50.0, v * 40.0);
                *color * (0.6 + 0.8 * stain) * mix(1.0, 0.9 + 0.2 * grit, near)
            }
        }
    }
}

fn wood(rng: &mut Rng) -> Vec3 {
    let tone = rng.range(0.25, 1.0);
    Vec3::new(0.55, 0.32, 0.15 + rng.range(0.0, 0.1)) * tone
}

/// A surface seen from the front: a table top, cloth, pebbles.
enum Surface {
    Wood {
        wood: Vec3,
        stretch: f32,
    },
    Cloth {
        first: Vec3,
        second: Vec3,
        warp: f32,
        plaid: bool,
    },
    Stone {
        first: Vec3,
        second: Vec3,
    },
    Blobs {
        colors: [Vec3; 3],
        scale: f32,
    },
    Gradient {
        first: Vec3,
        second: Vec3,
        rough: f32,
    },
    Sand {
        color: Vec3,
    },
}

impl Surface {
    fn sample(rng: &mut Rng) -> Self {
        match rng.below(6) {
            0 => Self::Wood {
                wood: wood(rng),
                stretch: rng.range(0.6, 1.6),
            },
            1 => Self::Cloth {
                first: muted(rng),
                second: muted(rng),
                warp: rng.range(5.0, 14.0),
                plaid: rng.chance(0.5),
            },
            2 => Self::Stone {
                first: muted(rng),
                second: muted(rng),
            },
            3 => Self::Blobs {
                colors: [muted(rng), muted(rng), muted(rng)],
                scale: rng.range(2.0, 8.0),
            },
            4 => Self::Gradient {
                first: muted(rng),
                second: muted(rng),
                rough: rng.range(0.0, 0.3),
            },
            _ => Self::Sand {
                color: rng.color((0.1, 0.4), (0.4, 0.9)),
            },
        }
    }

    /// Returns the color at `u` and `v`; one unit is about half to one image side.
    fn color(&self, u: f32, v: f32, noise: &Noise) -> Vec3 {
        match self {
            Self::Wood { wood, stretch } => {
                let bend = noise.plane(u * 1.3, v * 1.3);
                let ring = fraction(7.0 * v * stretch + 3.0 * bend);
                let fibre = noise.fractal(u * 6.0, v * 60.0, 2);
                let dark = smoothstep(0.0, 0.75, ring) - smoothstep(0.8, 1.0, ring);
                *wood * ((1.0 - 0.4 * dark) * (0.7 + 0.6 * fibre))
            }
            Self::Cloth {
                first,
                second,
                warp,
                plaid,
            } => {
                let fold = 0.12 * noise.plane(u * 2.0, v * 2.0);
                let band = |t: f32| {
                    let f = fraction(t);
                    smoothstep(0.0, 0.06, f) - smoothstep(0.5, 0.56, f)
                };
                let a = band((u + fold) * warp);
                let t = if *plaid {
                    0.5 * (a + band((v + fold) * warp))
                } else {
                    a
                };
                let weave = 0.85 + 0.3 * noise.plane(u * 90.0, v * 90.0);
                let crease = 0.7 + 0.6 * noise.plane(u * 2.0 + 7.0, v * 2.0);
                first.mix(*second, t) * (weave * crease)
            }
            Self::Stone { first, second } => {
                let n = noise.fractal(u * 3.0, v * 3.0, 3);
                let vein = (2.0 * fraction(2.0 * n + u) - 1.0).abs();
                first.mix(*second, vein * vein) * (0.75 + 0.5 * n)
            }
            Self::Blobs { colors, scale } => {
                let a = smoothstep(0.45, 0.55, noise.plane(u * scale, v * scale));
                let b = smoothstep(0.5, 0.6, noise.plane(u * scale + 31.0, v * scale + 11.0));
                let fine = 0.85 + 0.3 * noise.plane(u * 40.0, v * 40.0);
                colors[0].mix(colors[1], a).mix(colors[2], 0.8 * b) * fine
            }
            Self::Gradient {
                first,
                second,
                rough,
            } => {
                let t = smoothstep(0.1, 0.9, noise.plane(u * 0.8, v * 0.8));
                let fine = 1.0 + 2.0 * rough * (noise.fractal(u * 12.0, v * 12.0, 3) - 0.5);
                first.mix(*second, t) * fine
            }
            Self::Sand { color } => {
                let grain = noise.fractal(u * 70.0, v * 70.0, 2);
                let ripple = noise.fractal(u * 4.0, v * 9.0, 2);
                *color * (0.35 + 0.7 * grain + 0.6 * ripple)
            }
        }
    }
}
