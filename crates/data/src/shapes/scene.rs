//! Composition: positions of objects, occlusion and annotations.

use crate::boxes::{BoxXyxy, ImageSize};

use crate::annotations::Split;
use crate::shapes::background::{Setting, defocus, paint_background};
use crate::shapes::canvas::Canvas;
use crate::shapes::clutter::{Stroke, paint_clutter};
use crate::shapes::material::{Lighting, Material};
use crate::shapes::math::{Vec3, mix};
use crate::shapes::noise::Noise;
use crate::shapes::rng::{Purpose, Rng};
use crate::shapes::solids::Solid;
use crate::shapes::sprite::{Shadow, Sprite, View};
use crate::shapes::{CLASS_NAMES, SceneObject, ShapesConfig};

/// Maximum number of annotated objects in a scene; a crowd counts as one.
pub(super) const MAX_OBJECTS: usize = 10;
/// Minimum visible share of an object's silhouette, for a new object and those that it occludes.
pub(super) const MIN_VISIBLE: f32 = 0.5;
/// Minimum share of an object inside the image; below, its class would be ambiguous.
const MIN_INSIDE: f32 = 0.55;
/// Minimum visible share that is required for most objects.
const MOSTLY_VISIBLE: f32 = 0.85;
/// Share of scenes without any object.
const EMPTY_SHARE: f32 = 0.04;
/// Share of scenes with a crowd.
const CROWD_SHARE: f32 = 0.06;
/// Smallest and largest diameter of an object's bounding sphere, over the image's long side.
const DIAMETERS: (f32, f32) = (0.14, 0.65);
/// Share of objects below that range, and their smallest diameter.
const TINY: (f32, f32) = (0.03, 0.06);
/// Minimum side of a visible box in pixels; smaller objects are not placed.
pub(super) const MIN_SIDE: usize = 7;

/// A traced object at its position.
#[derive(Debug)]
struct Actor {
    instance: u8,
    sprite: Sprite,
    left: i32,
    top: i32,
}

/// Objects that share one annotation.
#[derive(Debug)]
struct Instance {
    class_index: usize,
    iscrowd: bool,
    /// Number of pixels of the whole silhouette, including the part outside the image.
    silhouette: usize,
    visible: usize,
}

/// The geometry of a scene: all data that annotations need.
#[derive(Debug)]
pub(super) struct Composition {
    pub(super) width: usize,
    pub(super) height: usize,
    setting: Setting,
    instances: Vec<Instance>,
    /// Objects from back to front.
    actors: Vec<Actor>,
    /// Lines in front of all objects.
    foreground: Vec<Stroke>,
    /// The owner of each pixel: instance index plus one, or [`NO_OWNER`].
    owner: Vec<u8>,
}

const NO_OWNER: u8 = 0;

impl Composition {
    pub(super) fn new(config: &ShapesConfig, split: Split, index: usize) -> Self {
        let mut rng = Rng::new(config.seed, split, index, Purpose::Composition);
        let rng = &mut rng;
        let long = config.drawn_long_side();
        let short = (long as f32 * rng.range(0.625, 1.0) + 0.5) as usize;
        let (width, height) = if rng.chance(0.6) {
            (long, short)
        } else {
            (short, long)
        };
        let setting = if rng.chance(0.55) {
            Setting::Floor {
                horizon: rng.range(0.2, 0.42),
            }
        } else {
            Setting::Flat
        };
        let mut scene = Self {
            width,
            height,
            setting,
            instances: Vec::new(),
            actors: Vec::new(),
            foreground: Vec::new(),
            owner: vec![NO_OWNER; width * height],
        };
        if rng.chance(EMPTY_SHARE) {
            return scene;
        }
        if rng.chance(CROWD_SHARE) {
            scene.place_crowd(rng);
        }
        let most = MAX_OBJECTS - scene.instances.len();
        let mut count = 2 + rng.below(5) as usize;
        if rng.chance(0.35) {
            count += 1 + rng.below(4) as usize;
        }
        scene.place_objects(count.min(most), rng);
        if rng.chance(0.12) {
            scene.place_foreground(rng);
        }
        scene
    }

    fn long_side(&self) -> f32 {
        self.width.max(self.height) as f32
    }

    fn place_objects(&mut self, count: usize, rng: &mut Rng) {
        // Far objects first. On a floor, near objects are lower and larger.
        let mut depths: Vec<f32> = (0..count).map(|_| rng.unit()).collect();
        depths.sort_by(f32::total_cmp);
        for near in depths {
            let class_index = rng.below(CLASS_NAMES.len() as u32) as usize;
            let u = rng.unit();
            let mut diameter = mix(DIAMETERS.0, DIAMETERS.1, u * u);
            let upright = match self.setting {
                Setting::Floor { .. } => {
                    diameter = (diameter * (0.55 + 0.6 * near)).max(DIAMETERS.0);
                    rng.chance(0.85)
                }
                Setting::Flat => false,
            };
            if rng.chance(TINY.0) {
                diameter = rng.range(TINY.1, DIAMETERS.0);
            }
            diameter *= self.long_side();
            // An object larger than the image has no position where enough of it is visible.
            diameter = diameter.min(0.95 * self.width.min(self.height) as f32);
            let solid = Solid::sample(class_index, rng);
            let view = View {
                pose: solid.sample_pose(upright, rng),
                scale: 0.5 * diameter,
                distance: rng.range(3.0, 9.0),
                subpixel: (rng.unit(), rng.unit()),
            };
            let wanted = if rng.chance(0.75) {
                MOSTLY_VISIBLE
            } else {
                MIN_VISIBLE
            };
            let Some(sprite) = Sprite::trace(&solid, &view) else {
                continue;
            };
            let (sw, sh) = (sprite.width as f32, sprite.height as f32);
            for _ in 0..10 {
                let left = rng.range(-0.3 * sw, self.width as f32 - 0.7 * sw);
                let top = match self.setting {
                    Setting::Floor { horizon } => {
                        let start = horizon * self.height as f32;
                        let reach = self.height as f32 * 1.04 - start;
                        let jitter = rng.range(-0.03, 0.03) * reach;
                        start + reach * (0.08 + 0.92 * near) + jitter - sh
                    }
                    Setting::Flat => rng.range(-0.3 * sh, self.height as f32 - 0.7 * sh),
                };
                let at = (left as i32, top as i32);
                if self.fits(&sprite, at, wanted) {
                    let instance = self.add_instance(class_index, false);
                    self.stamp(instance, sprite, at);
                    break;
                }
            }
        }
    }

    /// Places a dense group of one class, annotated as one region.
    fn place_crowd(&mut self, rng: &mut Rng) {
        let class_index = rng.below(CLASS_NAMES.len() as u32) as usize;
        let diameter = self.long_side() * rng.range(0.07, 0.11);
        let (columns, rows) = (4 + rng.below(4), 2 + rng.below(3));
        let spacing = diameter * rng.range(0.6, 0.75);
        let (w, h) = (self.width as f32, self.height as f32);
        let group = (spacing * columns as f32, spacing * rows as f32);
        let left = rng.range(0.0, (w - group.0).max(1.0));
        let top = match self.setting {
            Setting::Floor { horizon } => {
                let start = horizon * h;
                rng.range(start, (h - group.1).max(start + 1.0))
            }
            Setting::Flat => rng.range(0.0, (h - group.1).max(1.0)),
        };
        let upright = matches!(self.setting, Setting::Floor { .. });
        let instance = self.add_instance(class_index, true);
        for row in 0..rows {
            for column in 0..columns {
                let solid = Solid::sample(class_index, rng);
                let view = View {
                    pose: solid.sample_pose(upright, rng),
                    scale: 0.5 * diameter * rng.range(0.85, 1.15),
                    distance: rng.range(4.0, 9.0),
                    subpixel: (rng.unit(), rng.unit()),
                };
                let x = left + spacing * (column as f32 + rng.range(-0.2, 0.2));
                let y = top + spacing * (row as f32 + rng.range(-0.2, 0.2));
                if let Some(sprite) = Sprite::trace(&solid, &view) {
                    self.stamp(instance, sprite, (x as i32, y as i32));
                }
            }
        }
    }

    /// Draws a cable or a blade of grass in front of the objects.
    fn place_foreground(&mut self, rng: &mut Rng) {
        for _ in 0..1 + rng.below(2) {
            let half_width = self.long_side() * rng.range(0.004, 0.01);
            let stroke = Stroke::sample(self.width as f32, self.height as f32, half_width, rng);
            let mut pixels = Vec::new();
            stroke.rasterize(self.width, self.height, |index, coverage, _| {
                if coverage >= 0.5 {
                    pixels.push(index);
                }
            });
            pixels.sort_unstable();
            pixels.dedup();
            if self.keeps_others_visible(&pixels, MIN_VISIBLE) {
                self.take(NO_OWNER, &pixels);
                self.foreground.push(stroke);
            }
        }
    }

    fn add_instance(&mut self, class_index: usize, iscrowd: bool) -> u8 {
        self.instances.push(Instance {
            class_index,
            iscrowd,
            silhouette: 0,
            visible: 0,
        });
        self.instances.len() as u8
    }

    /// Returns the sprite's pixels inside the image.
    fn pixels_at(&self, sprite: &Sprite, (left, top): (i32, i32)) -> Vec<usize> {
        let (w, h) = (self.width as i32, self.height as i32);
        sprite
            .silhouette()
            .filter_map(|(x, y)| {
                let (x, y) = (left + x as i32, top + y as i32);
                (x >= 0 && y >= 0 && x < w && y < h).then_some((y * w + x) as usize)
            })
            .collect()
    }

    /// Returns whether the new object, and every object that it occludes, would have at least this
    /// visible share.
    fn fits(&self, sprite: &Sprite, at: (i32, i32), wanted: f32) -> bool {
        let pixels = self.pixels_at(sprite, at);
        let whole = sprite.silhouette().count();
        if (pixels.len() as f32) < wanted.max(MIN_INSIDE) * whole as f32 {
            return false;
        }
        let Some(visible) = bounds(self.width, pixels.iter().copied()) else {
            return false;
        };
        visible.width().min(visible.height()) >= MIN_SIDE as f32
            && self.keeps_others_visible(&pixels, wanted)
    }

    fn keeps_others_visible(&self, pixels: &[usize], wanted: f32) -> bool {
        let mut stolen = [0usize; MAX_OBJECTS + 1];
        for &pixel in pixels {
            stolen[usize::from(self.owner[pixel])] += 1;
        }
        self.instances
            .iter()
            .zip(&stolen[1..])
            .all(|(instance, &stolen)| {
                // The occlusion allowed to an earlier object does not count against this one, but
                // the limit for all objects holds.
                let left = instance.visible - stolen;
                stolen == 0
                    || (left as f32 >= MIN_VISIBLE * instance.silhouette as f32
                        && left as f32 >= wanted * instance.visible as f32)
            })
    }

    fn stamp(&mut self, instance: u8, sprite: Sprite, at: (i32, i32)) {
        let pixels = self.pixels_at(&sprite, at);
        let whole = sprite.silhouette().count();
        self.instances[usize::from(instance) - 1].silhouette += whole;
        self.take(instance, &pixels);
        self.actors.push(Actor {
            instance,
            sprite,
            left: at.0,
            top: at.1,
        });
    }

    /// Assigns pixels to a new owner.
    fn take(&mut self, owner: u8, pixels: &[usize]) {
        for &pixel in pixels {
            let before = std::mem::replace(&mut self.owner[pixel], owner);
            if before != NO_OWNER {
                self.instances[usize::from(before) - 1].visible -= 1;
            }
            if owner != NO_OWNER {
                self.instances[usize::from(owner) - 1].visible += 1;
            }
        }
    }

    pub(super) fn size(&self) -> ImageSize {
        ImageSize::new(self.height, self.width)
    }

    /// Returns an annotation for every instance with a visible pixel, in the order of placement.
    pub(super) fn objects(&self) -> Vec<SceneObject> {
        self.annotated().map(|(_, object)| object).collect()
    }

    /// Returns the annotations with their owner numbers.
    pub(super) fn annotated(&self) -> impl Iterator<Item = (u8, SceneObject)> {
        self.instances
            .iter()
            .zip(1u8..)
            .filter_map(|(instance, owner)| {
                let box_in_image = bounds(self.width, self.pixels_of(owner))?;
                let object = SceneObject {
                    class_index: instance.class_index,
                    box_in_image,
                    area: instance.visible as f32,
                    iscrowd: instance.iscrowd,
                };
                Some((owner, object))
            })
    }

    /// Returns the visible share of each annotated instance's silhouette; `None` for crowds.
    #[cfg(test)]
    pub(super) fn visible_shares(&self) -> Vec<Option<f32>> {
        self.instances
            .iter()
            .map(|i| (!i.iscrowd).then(|| i.visible as f32 / i.silhouette as f32))
            .collect()
    }

    /// Returns the visible pixels of an owner, ascending, row by row.
    pub(super) fn pixels_of(&self, owner: u8) -> impl Iterator<Item = usize> {
        self.owner
            .iter()
            .enumerate()
            .filter(move |(_, o)| **o == owner)
            .map(|(i, _)| i)
    }

    /// Returns COCO's uncompressed run lengths of an owner's mask: column by column, the first run
    /// is of pixels outside the mask.
    pub(super) fn run_lengths(&self, owner: u8) -> Vec<u32> {
        let (mut counts, mut inside, mut run) = (Vec::new(), false, 0);
        for x in 0..self.width {
            for y in 0..self.height {
                if (self.owner[y * self.width + x] == owner) != inside {
                    counts.push(run);
                    (inside, run) = (!inside, 0);
                }
                run += 1;
            }
        }
        counts.push(run);
        counts
    }

    /// Paints the scene in linear light.
    pub(super) fn paint(&self, config: &ShapesConfig, split: Split, index: usize) -> Canvas {
        let mut rng = Rng::new(config.seed, split, index, Purpose::Background);
        let rng = &mut rng;
        let light = Lighting::sample(rng);
        let noise = Noise::new(rng);
        let size = (self.width, self.height);
        let mut canvas = paint_background(size, self.setting, &light, &noise, rng);
        paint_clutter(&light, &noise, &mut canvas, rng);
        defocus(&mut canvas, rng);

        let mut rng = Rng::new(config.seed, split, index, Purpose::Materials);
        let rng = &mut rng;
        let mut crowd_paint: Option<Material> = None;
        for actor in &self.actors {
            let behind = self.mean_around(actor, &canvas);
            let instance = &self.instances[usize::from(actor.instance) - 1];
            let mut sample = || Material::sample_against(instance.class_index, behind, &light, rng);
            let paint = if instance.iscrowd {
                crowd_paint.get_or_insert_with(sample).variation(rng)
            } else {
                sample()
            };
            for shadow in self.shadows(actor, &light) {
                actor.sprite.cast_shadow(&shadow, &mut canvas);
            }
            let at = (actor.left, actor.top);
            actor.sprite.paint(at, &paint, &light, &noise, &mut canvas);
        }
        for stroke in &self.foreground {
            let color = rng.color((0.0, 0.7), (0.1, 0.8));
            stroke.paint(color, true, &light, &mut canvas);
        }
        canvas
    }

    /// Computes the mean color of the canvas in and slightly around an object's bounding box, from
    /// every third pixel.
    fn mean_around(&self, actor: &Actor, canvas: &Canvas) -> Vec3 {
        let margin = 2 + actor.sprite.width.max(actor.sprite.height) as i32 / 8;
        let span = |start: i32, length: usize, end: usize| {
            let from = (start - margin).clamp(0, end as i32 - 1) as usize;
            let to = (start + length as i32 + margin).clamp(1, end as i32) as usize;
            (from..to.max(from + 1)).step_by(3)
        };
        let (mut sum, mut count) = (Vec3::default(), 0.0f32);
        for y in span(actor.top, actor.sprite.height, self.height) {
            for x in span(actor.left, actor.sprite.width, self.width) {
                sum = sum + canvas.pixels[y * self.width + x];
                count += 1.0;
            }
        }
        sum * (1.0 / count)
    }

    /// Paints a cast shadow, and on a floor a dark contact line.
    fn shadows(&self, actor: &Actor, light: &Lighting) -> Vec<Shadow> {
        let (left, top) = (actor.left as f32, actor.top as f32);
        let size = actor.sprite.width.max(actor.sprite.height) as f32;
        let to_light = light.direction;
        match self.setting {
            Setting::Flat => {
                let shift = 0.18 * size;
                vec![Shadow {
                    left: left - to_light.x * shift,
                    base: top + to_light.y * shift,
                    sprite_base: 0.0,
                    skew: 0.0,
                    stretch: 1.0,
                    softness: 0.06 * size,
                    strength: light.shadow,
                }]
            }
            Setting::Floor { .. } => {
                let foot = actor.sprite.height as f32;
                // Light from the front casts the shadow to the back, up in the image.
                let stretch = 0.25 + 0.35 * to_light.z;
                let lift = 0.06 * foot;
                vec![
                    Shadow {
                        left,
                        base: top + foot - lift,
                        sprite_base: foot,
                        skew: -1.6 * to_light.x,
                        stretch,
                        softness: 0.05 * size,
                        strength: light.shadow,
                    },
                    Shadow {
                        left,
                        base: top + foot + 0.3 * lift,
                        sprite_base: foot,
                        skew: 0.0,
                        stretch: 0.16,
                        softness: 0.08 * size,
                        strength: 0.5 * light.shadow,
                    },
                ]
            }
        }
    }
}

/// Returns the tightest box around pixels given as indices into rows of `width`.
fn bounds(width: usize, pixels: impl Iterator<Item = usize>) -> Option<BoxXyxy> {
    let mut any = false;
    let (mut x1, mut y1, mut x2, mut y2) = (usize::MAX, usize::MAX, 0, 0);
    for pixel in pixels {
        let (x, y) = (pixel % width, pixel / width);
        (x1, y1) = (x1.min(x), y1.min(y));
        (x2, y2) = (x2.max(x + 1), y2.max(y + 1));
        any = true;
    }
    any.then(|| BoxXyxy::new(x1 as f32, y1 as f32, x2 as f32, y2 as f32))
}
