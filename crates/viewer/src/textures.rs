//! Images on the GPU: the most recent ones are kept.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use egui::{ColorImage, Context, TextureHandle, TextureOptions};
use image::RgbImage;

use super::drawing::layer::Layer;
use super::state::{BlockMaps, Crop, Pane, ScoreExplanation};
use super::work::{CroppedImage, TextureUpdate};
use sedet_core::model::ChannelMap;
use sedet_core::render::palette::viridis;
use sedet_data::boxes::BoxXyxy;

/// The maximum number of images: those of both panes and their neighbors.
const MAX_IMAGES: usize = 6;
/// The memory of thumbnails, in bytes: more than 1000 of them.
const MAX_THUMBNAILS: usize = 36 << 20;
/// The memory of crops, in bytes: 4 times what a screen of 3840 by 2160 pixels shows.
const MAX_CROPS: usize = 128 << 20;
/// Bytes of a pixel.
const PIXEL: usize = 4;

/// A small texture that worker threads deliver on request.
pub(crate) enum Delivered<T> {
    /// Not requested yet.
    Missing,
    /// Requested.
    Requested,
    /// The image cannot be read.
    Unreadable,
    /// Available.
    Ready(T),
}

/// The textures that worker threads deliver on request, in at most this number of bytes; the oldest are dropped.
struct Deliveries<K, T, const MOST: usize> {
    /// `None` for images that cannot be read; with the number of bytes.
    known: HashMap<K, (Option<T>, usize)>,
    /// In the order of insertion.
    age: VecDeque<K>,
    /// Of all that are known.
    bytes: usize,
    requested: HashSet<K>,
}

impl<K, T, const MOST: usize> Default for Deliveries<K, T, MOST> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            age: VecDeque::new(),
            bytes: 0,
            requested: HashSet::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, T: Clone, const MOST: usize> Deliveries<K, T, MOST> {
    fn insert(&mut self, key: K, texture: Option<T>, bytes: usize) {
        // An image that cannot be read needs a place, too.
        let bytes = bytes.max(PIXEL);
        self.requested.remove(&key);
        match self.known.insert(key, (texture, bytes)) {
            Some((_, before)) => self.bytes -= before,
            None => self.age.push_back(key),
        }
        self.bytes += bytes;
        while self.bytes > MOST
            && self.age.len() > 1
            && let Some(oldest) = self.age.pop_front()
        {
            let dropped = self.known.remove(&oldest);
            self.bytes -= dropped.map_or(0, |(_, bytes)| bytes);
        }
    }

    fn get(&mut self, key: K, may_request: bool) -> Delivered<T> {
        match self.known.get(&key) {
            Some((Some(texture), _)) => Delivered::Ready(texture.clone()),
            Some((None, _)) => Delivered::Unreadable,
            None if may_request && self.requested.insert(key) => Delivered::Missing,
            None => Delivered::Requested,
        }
    }
}

/// An image at full size.
struct Image {
    index: usize,
    /// With software rendering.
    pixels: Option<Arc<ColorImage>>,
    /// With software rendering only once it is needed.
    texture: Option<TextureHandle>,
}

/// All textures.
#[derive(Default)]
pub(crate) struct Textures {
    images: VecDeque<Image>,
    bad: HashSet<usize>,
    thumbnails: Deliveries<usize, TextureHandle, MAX_THUMBNAILS>,
    /// Parts of images, with their places in pixels of the image.
    crops: Deliveries<Crop, (TextureHandle, BoxXyxy), MAX_CROPS>,
    /// Feature maps before and after scaling, by channel.
    maps: BTreeMap<usize, [TextureHandle; 2]>,
    /// Image, block and address of the values that the feature maps are of.
    maps_of: Option<(usize, usize, usize)>,
    /// The map of a layer of an explanation, with what it is of: holding it keeps its address from being reused.
    layer_map: Option<(Arc<ScoreExplanation>, usize, TextureHandle)>,
    /// Generated images by name, with the key of their content.
    generated: HashMap<&'static str, (u64, TextureHandle)>,
    /// The layers of both panes; only with software rendering.
    layers: Option<[Layer; 2]>,
}

impl Textures {
    /// Stores the result of a worker thread.
    pub fn apply(&mut self, context: &Context, update: TextureUpdate) {
        match update {
            TextureUpdate::NewCollection => {
                let generated = std::mem::take(&mut self.generated);
                let layers = self.layers.take();
                *self = Self {
                    generated,
                    layers,
                    ..Self::default()
                };
            }
            TextureUpdate::Bad(index) => {
                self.bad.insert(index);
            }
            TextureUpdate::Image(index, image) => {
                let (pixels, texture) = match self.layers {
                    Some(_) => (Some(image), None),
                    None => (None, Some(image_texture(context, image))),
                };
                self.images.retain(|known| known.index != index);
                self.images.push_back(Image {
                    index,
                    pixels,
                    texture,
                });
                if self.images.len() > MAX_IMAGES {
                    self.images.pop_front();
                }
            }
            TextureUpdate::Thumbnail(index, image) => {
                let bytes = image.as_ref().map_or(0, bytes_of);
                let texture = image
                    .map(|image| context.load_texture("thumbnail", image, TextureOptions::LINEAR));
                self.thumbnails.insert(index, texture, bytes);
            }
            TextureUpdate::Crop(crop, image) => {
                let bytes = image.as_ref().map_or(0, |image| bytes_of(&image.pixels));
                let texture = image.map(|CroppedImage { region, pixels }| {
                    let options = TextureOptions::LINEAR;
                    (context.load_texture("crop", pixels, options), region)
                });
                self.crops.insert(crop, texture, bytes);
            }
        }
    }

    /// Switches to software rendering: see [`Layer`].
    pub(crate) fn use_software_layer(&mut self) {
        self.layers = Some(Default::default());
    }

    /// Returns the layer that composes image and boxes of a pane; `None` without software rendering.
    pub fn layer(&mut self, pane: Pane) -> Option<&mut Layer> {
        self.layers.as_mut().map(|layers| &mut layers[pane.index()])
    }

    /// Returns whether an image has been decoded.
    pub(crate) fn has_image(&self, index: usize) -> bool {
        self.images.iter().any(|known| known.index == index)
    }

    /// Returns the pixels of an image; `None` without software rendering.
    pub fn pixels(&self, index: usize) -> Option<Arc<ColorImage>> {
        let known = self.images.iter().find(|known| known.index == index)?;
        known.pixels.clone()
    }

    /// Returns the texture of an image that has been decoded.
    pub fn image(&mut self, context: &Context, index: usize) -> Option<TextureHandle> {
        let mut known = self.images.iter_mut();
        let known = known.find(|known| known.index == index)?;
        if known.texture.is_none() {
            let pixels = known.pixels.clone()?;
            known.texture = Some(image_texture(context, pixels));
        }
        known.texture.clone()
    }

    /// Returns whether an image could not be read.
    pub(crate) fn is_bad(&self, index: usize) -> bool {
        self.bad.contains(&index)
    }

    /// Returns a thumbnail. The caller has to request one that is [`Delivered::Missing`]; afterwards it
    /// counts as requested. Without `may_request` none is reported as missing.
    pub fn thumbnail(&mut self, index: usize, may_request: bool) -> Delivered<TextureHandle> {
        self.thumbnails.get(index, may_request)
    }

    /// Returns a part of an image and its place in pixels of the image, as [`thumbnail`](Self::thumbnail) does.
    pub(crate) fn crop(
        &mut self,
        crop: Crop,
        may_request: bool,
    ) -> Delivered<(TextureHandle, BoxXyxy)> {
        self.crops.get(crop, may_request)
    }

    /// Allows crops whose requests were dropped to be requested again.
    pub(crate) fn forget_crops(&mut self, dropped: &[Crop]) {
        for crop in dropped {
            self.crops.requested.remove(crop);
        }
    }

    /// Allows all missing thumbnails to be requested again: the queue drops the oldest requests.
    pub(crate) fn forget_requests(&mut self) {
        self.thumbnails.requested.clear();
    }

    /// Returns the feature map of a channel before and after scaling.
    pub fn channel(
        &mut self,
        context: &Context,
        maps: &BlockMaps,
        channel: usize,
    ) -> Option<[TextureHandle; 2]> {
        let (_, before, after) = maps.channels.iter().find(|(known, ..)| *known == channel)?;
        // Maps of another network or image are no longer needed.
        let shown = (maps.image, maps.block, Arc::as_ptr(&maps.channels) as usize);
        if self.maps_of != Some(shown) {
            self.maps_of = Some(shown);
            self.maps.clear();
        }
        let textures = self.maps.entry(channel).or_insert_with(|| {
            let range = maps.range(channel);
            let texture = |map| {
                let image = map_image(map, range);
                context.load_texture("map", image, TextureOptions::LINEAR)
            };
            [texture(before), texture(after)]
        });
        Some(textures.clone())
    }

    /// Returns the map of a layer of an explanation, by the index of the layer.
    pub fn layer_map(
        &mut self,
        context: &Context,
        of: &Arc<ScoreExplanation>,
        layer: usize,
        map: &ChannelMap,
        range: [f32; 2],
    ) -> TextureHandle {
        if let Some((known, at, texture)) = &self.layer_map
            && Arc::ptr_eq(known, of)
            && *at == layer
        {
            return texture.clone();
        }
        let image = map_image(map, range);
        let texture = context.load_texture("layer map", image, TextureOptions::LINEAR);
        self.layer_map = Some((of.clone(), layer, texture.clone()));
        texture
    }

    /// Returns a generated image, which is generated again when its key changes.
    pub(crate) fn cached(
        &mut self,
        context: &Context,
        name: &'static str,
        key: u64,
        generate: impl FnOnce() -> ColorImage,
    ) -> TextureHandle {
        if let Some((known, texture)) = self.generated.get(name)
            && *known == key
        {
            return texture.clone();
        }
        let texture = context.load_texture(name, generate(), TextureOptions::NEAREST);
        self.generated.insert(name, (key, texture.clone()));
        texture
    }
}

/// Returns the number of bytes of the texture of an image.
fn bytes_of(image: &ColorImage) -> usize {
    image.pixels.len() * PIXEL
}

fn image_texture(context: &Context, image: Arc<ColorImage>) -> TextureHandle {
    // Single pixels stay visible when they are enlarged.
    let options = TextureOptions {
        magnification: egui::TextureFilter::Nearest,
        minification: egui::TextureFilter::Linear,
        ..TextureOptions::default()
    };
    context.load_texture("image", image, options)
}

/// Colors a feature map within a value range.
pub(crate) fn map_image(map: &ChannelMap, [low, high]: [f32; 2]) -> ColorImage {
    let share = |value: &f32| (value - low) / (high - low);
    let pixels = map.values.iter().map(|value| {
        let [r, g, b] = viridis(share(value));
        egui::Color32::from_rgb(r, g, b)
    });
    ColorImage::new([map.width, map.height], pixels.collect())
}
/// Converts an image to the pixels of egui.
pub(crate) fn color_image(image: &RgbImage) -> ColorImage {
    let size = [image.width() as usize, image.height() as usize];
    ColorImage::from_rgb(size, image.as_raw())
}

/// Converts pixels of egui to an image, over black where they are transparent.
pub(crate) fn rgb_image(pixels: &ColorImage) -> RgbImage {
    let (width, height) = (pixels.width() as u32, pixels.height() as u32);
    RgbImage::from_fn(width, height, |x, y| {
        let color = pixels[(x as usize, y as usize)];
        image::Rgb([color.r(), color.g(), color.b()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_textures_are_dropped_beyond_the_memory_but_the_last_one_is_kept() {
        let mut kept = Deliveries::<u32, &str, 100>::default();
        let known = |kept: &mut Deliveries<u32, &str, 100>, key| {
            matches!(kept.get(key, false), Delivered::Ready(_))
        };
        for key in 1..=3 {
            assert!(matches!(kept.get(key, true), Delivered::Missing));
            assert!(matches!(kept.get(key, true), Delivered::Requested));
            kept.insert(key, Some("image"), 40);
        }
        assert_eq!(
            [1, 2, 3].map(|key| known(&mut kept, key)),
            [false, true, true]
        );
        // Delivered again, larger: the one before is not counted.
        kept.insert(3, Some("image"), 60);
        assert_eq!([2, 3].map(|key| known(&mut kept, key)), [true, true]);
        kept.insert(4, Some("image"), 1000);
        assert_eq!(
            [2, 3, 4].map(|key| known(&mut kept, key)),
            [false, false, true]
        );
        kept.insert(5, None, 0);
        assert!(matches!(kept.get(5, true), Delivered::Unreadable));
        assert!(!known(&mut kept, 4));
    }
}
