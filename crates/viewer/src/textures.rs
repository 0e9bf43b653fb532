//! Images on the graphics device: the newest stay, old ones go.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use egui::{ColorImage, Context, TextureHandle, TextureOptions};

use super::panels::layer::Layer;
use super::state::{BlockMaps, Side};
use super::work::TextureNews;
use sedet_core::model::ChannelMap;
use sedet_core::render::maps::map_color;

/// Full images that are kept: both halves and their neighbors.
const MOST_IMAGES: usize = 6;
/// Small images that are kept, about 36 KiB each.
const MOST_THUMBNAILS: usize = 1024;

/// An image of the gallery.
pub enum Thumbnail {
    /// Nobody has asked for it yet.
    Unknown,
    /// Asked for.
    Awaited,
    /// It can't be read.
    Unreadable,
    /// Here.
    Ready(TextureHandle),
}

/// A full image.
struct Image {
    number: usize,
    /// Where the CPU draws.
    pixels: Option<Arc<ColorImage>>,
    /// Where the CPU draws only if it is needed.
    texture: Option<TextureHandle>,
}

/// All textures.
#[derive(Default)]
pub struct Textures {
    images: VecDeque<Image>,
    bad: HashSet<usize>,
    /// Nothing for images that can't be read.
    thumbnails: HashMap<usize, Option<TextureHandle>>,
    /// In the order of their arrival.
    thumbnail_age: VecDeque<usize>,
    wanted: HashSet<usize>,
    /// Of channels over the image on show: image, block and channel; before and after.
    maps: BTreeMap<(usize, usize, usize), [TextureHandle; 2]>,
    /// Of the maps: their largest value decides the colors.
    maps_range: [f32; 2],
    named: HashMap<&'static str, (u64, TextureHandle)>,
    /// Of both sides, where the CPU draws.
    layers: Option<[Layer; 2]>,
}

impl Textures {
    /// Take in what a thread made.
    pub fn take_in(&mut self, context: &Context, news: TextureNews) {
        match news {
            TextureNews::NewCollection => {
                let named = std::mem::take(&mut self.named);
                let layers = self.layers.take();
                *self = Self {
                    named,
                    layers,
                    ..Self::default()
                };
            }
            TextureNews::Bad(picture) => {
                self.bad.insert(picture);
            }
            TextureNews::Image(number, image) => {
                let (pixels, texture) = match self.layers {
                    Some(_) => (Some(image), None),
                    None => (None, Some(image_texture(context, image))),
                };
                self.images.retain(|known| known.number != number);
                self.images.push_back(Image {
                    number,
                    pixels,
                    texture,
                });
                if self.images.len() > MOST_IMAGES {
                    self.images.pop_front();
                }
            }
            TextureNews::Thumbnail(picture, image) => {
                self.wanted.remove(&picture);
                let texture =
                    image.map(|image| context.load_texture("small", image, TextureOptions::LINEAR));
                if self.thumbnails.insert(picture, texture).is_none() {
                    self.thumbnail_age.push_back(picture);
                }
                if self.thumbnail_age.len() > MOST_THUMBNAILS
                    && let Some(oldest) = self.thumbnail_age.pop_front()
                {
                    self.thumbnails.remove(&oldest);
                }
            }
        }
    }

    /// From now on the CPU draws: see [`Layer`].
    pub fn draw_on_processor(&mut self) {
        self.layers = Some(Default::default());
    }

    /// Where the CPU draws: what puts a side's image and boxes together.
    pub fn layer(&mut self, side: Side) -> Option<&mut Layer> {
        self.layers.as_mut().map(|layers| &mut layers[side.index()])
    }

    /// Whether an image was read.
    pub fn has_image(&self, picture: usize) -> bool {
        self.images.iter().any(|known| known.number == picture)
    }

    /// The pixels of an image, where the CPU draws.
    pub fn pixels(&self, picture: usize) -> Option<Arc<ColorImage>> {
        let known = self.images.iter().find(|known| known.number == picture)?;
        known.pixels.clone()
    }

    /// An image, if it was read.
    pub fn image(&mut self, context: &Context, picture: usize) -> Option<TextureHandle> {
        let mut known = self.images.iter_mut();
        let known = known.find(|known| known.number == picture)?;
        if known.texture.is_none() {
            let pixels = known.pixels.clone()?;
            known.texture = Some(image_texture(context, pixels));
        }
        known.texture.clone()
    }

    /// Whether an image turned out to be unreadable.
    pub fn is_bad(&self, picture: usize) -> bool {
        self.bad.contains(&picture)
    }

    /// A small image. One that is [`Thumbnail::Unknown`] has to be asked for; from then on it
    /// counts as asked for. Without `may_ask` there is none such.
    pub fn thumbnail(&mut self, picture: usize, may_ask: bool) -> Thumbnail {
        match self.thumbnails.get(&picture) {
            Some(Some(texture)) => Thumbnail::Ready(texture.clone()),
            Some(None) => Thumbnail::Unreadable,
            None if may_ask && self.wanted.insert(picture) => Thumbnail::Unknown,
            None => Thumbnail::Awaited,
        }
    }

    /// Small images that were asked for long ago and never came (the queue forgets the oldest)
    /// may be asked for again.
    pub fn forget_wanted(&mut self) {
        self.wanted.clear();
    }

    /// A channel's map before and after scaling.
    pub fn channel(
        &mut self,
        context: &Context,
        maps: &BlockMaps,
        channel: usize,
    ) -> Option<[TextureHandle; 2]> {
        let range = maps.range();
        if self.maps_range != range {
            self.maps_range = range;
            self.maps.clear();
        }
        let key = (maps.image, maps.block, channel);
        let (_, before, after) = maps.channels.iter().find(|(known, ..)| *known == channel)?;
        let textures = self.maps.entry(key).or_insert_with(|| {
            let texture = |map| {
                let image = map_image(map, range);
                context.load_texture("map", image, TextureOptions::LINEAR)
            };
            [texture(before), texture(after)]
        });
        Some(textures.clone())
    }

    /// An image that is made from numbers; made again when their key changes.
    pub fn made(
        &mut self,
        context: &Context,
        name: &'static str,
        key: u64,
        make: impl FnOnce() -> ColorImage,
    ) -> TextureHandle {
        if let Some((known, texture)) = self.named.get(name)
            && *known == key
        {
            return texture.clone();
        }
        let texture = context.load_texture(name, make(), TextureOptions::NEAREST);
        self.named.insert(name, (key, texture.clone()));
        texture
    }
}

fn image_texture(context: &Context, image: Arc<ColorImage>) -> TextureHandle {
    // Single pixels can be told apart when they are large.
    let options = TextureOptions {
        magnification: egui::TextureFilter::Nearest,
        minification: egui::TextureFilter::Linear,
        ..TextureOptions::default()
    };
    context.load_texture("image", image, options)
}

/// A map in colors of a range.
fn map_image(map: &ChannelMap, [low, high]: [f32; 2]) -> ColorImage {
    let share = |value: &f32| (value - low) / (high - low);
    let pixels = map.values.iter().map(|value| {
        let [r, g, b] = map_color(share(value));
        egui::Color32::from_rgb(r, g, b)
    });
    ColorImage::new([map.width, map.height], pixels.collect())
}
