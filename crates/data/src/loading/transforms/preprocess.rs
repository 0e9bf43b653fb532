//! Preprocessing of images to model input: resizing, normalization and the network's channel order.
//! Training, evaluation and prediction share [`prepare`].

use image::RgbImage;

use crate::DataError;
use crate::boxes::{BoxXyxy, ImageSize};

use crate::loading::transforms::resize::{Pixel, ResizeMethod, resize_bilinear, resize_rgb8};

/// A limit of the long side that only images of extreme aspect ratio reach: 256 times a short side
/// of 256 pixels. It bounds the memory of such an image.
pub(crate) const NO_LONG_SIDE_LIMIT: usize = 1 << 16;

/// Order of the channels that a network was trained with.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red first.
    Rgb,
    /// Blue first, as in OpenCV, Caffe and detectron2's published weights.
    Bgr,
}

/// The preprocessing that a model expects; part of a checkpoint.
///
/// A value of 0 to 255 becomes `(value * scale - mean) / std`, with `mean` and `std` in
/// `channel_order`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Order of the channels.
    pub channel_order: ChannelOrder,
    /// Scale factor, applied first: 1/255 for means on a scale of 1, 1 for means on a scale of 255.
    pub scale: f32,
    /// Mean per channel, subtracted.
    pub mean: [f32; 3],
    /// Standard deviation per channel, divided by.
    pub std: [f32; 3],
    /// Length of the input's short side in pixels.
    pub min_size: usize,
    /// Upper limit of the long side in pixels.
    pub max_size: usize,
    /// Resize method.
    pub resize_method: ResizeMethod,
    /// Side in pixels of the center crop after resizing, padded with black where the image is
    /// smaller (torchvision's `CenterCrop`). Classifiers only: a detector must see the whole image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub center_crop: Option<usize>,
    /// Batches are padded with zeros to a multiple of this in height and width.
    pub size_divisor: usize,
}

impl Preprocess {
    /// Returns the preprocessing of torchvision's detectors: RGB, ImageNet mean and standard
    /// deviation, 800/1333 pixels.
    pub const fn torchvision() -> Self {
        Self {
            channel_order: ChannelOrder::Rgb,
            scale: 1.0 / 255.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            min_size: 800,
            max_size: 1333,
            resize_method: ResizeMethod::Torchvision,
            center_crop: None,
            size_divisor: 32,
        }
    }

    /// Returns the preprocessing of detectron2's detectors on Caffe weights: BGR, mean on a scale
    /// of 255, no standard deviation.
    pub const fn detectron2() -> Self {
        Self {
            channel_order: ChannelOrder::Bgr,
            scale: 1.0,
            mean: [103.53, 116.28, 123.675],
            std: [1.0, 1.0, 1.0],
            min_size: 800,
            max_size: 1333,
            resize_method: ResizeMethod::Detectron2,
            center_crop: None,
            size_divisor: 32,
        }
    }

    /// Returns the preprocessing of mmdetection's detectors of style `pytorch`: RGB, ImageNet mean
    /// and standard deviation on a scale of 255.
    pub const fn mmdetection() -> Self {
        Self {
            channel_order: ChannelOrder::Rgb,
            mean: [123.675, 116.28, 103.53],
            std: [58.395, 57.12, 57.375],
            resize_method: ResizeMethod::Mmdetection,
            ..Self::detectron2()
        }
    }

    /// Returns the evaluation preprocessing of ImageNet classifiers: RGB, ImageNet mean and
    /// standard deviation, the center crop of 224 pixels of an image whose short side is 256
    /// (torchvision's `ImageClassification` preset).
    pub const fn imagenet_eval() -> Self {
        Self {
            min_size: 256,
            max_size: NO_LONG_SIDE_LIMIT,
            resize_method: ResizeMethod::Pillow,
            center_crop: Some(224),
            size_divisor: 1,
            ..Self::torchvision()
        }
    }

    /// Returns this preprocessing with other side lengths, in pixels.
    pub const fn with_sizes(self, min_size: usize, max_size: usize) -> Self {
        Self {
            min_size,
            max_size,
            ..self
        }
    }

    /// Validates the values.
    ///
    /// # Errors
    /// A size is zero, `max_size` is below `min_size`, a standard deviation is zero, or a value is not finite.
    pub fn validate(&self) -> Result<(), DataError> {
        let wrong = |setting, problem: String| Err(DataError::Setting { setting, problem });
        if self.min_size == 0 {
            return wrong("min_size", "must be at least 1 pixel".to_owned());
        }
        if self.max_size < self.min_size {
            return wrong(
                "max_size",
                format!("{} is below min_size {}", self.max_size, self.min_size),
            );
        }
        if self.center_crop == Some(0) {
            return wrong("center_crop", "must be at least 1 pixel".to_owned());
        }
        if self.size_divisor == 0 {
            return wrong("size_divisor", "must be at least 1".to_owned());
        }
        if !(self.scale.is_finite() && self.mean.iter().all(|v| v.is_finite())) {
            return wrong("scale, mean", "must be finite numbers".to_owned());
        }
        if !self.std.iter().all(|v| v.is_finite() && *v != 0.0) {
            return wrong("std", "must be finite numbers other than 0".to_owned());
        }
        Ok(())
    }

    /// Returns the side in pixels of a classifier's square input: that of the center crop, or else
    /// the short side.
    pub fn input_side(&self) -> usize {
        self.center_crop.unwrap_or(self.min_size)
    }

    /// Returns the size of the input for an image of this size, before padding.
    pub fn input_size(&self, image: ImageSize) -> ImageSize {
        match self.center_crop {
            Some(side) => ImageSize::new(side, side),
            None => self.resized_size(image),
        }
    }

    /// Returns the part of an image that becomes the input, in the image's pixels: the whole image,
    /// or the center crop, which exceeds the image if the resized image is smaller.
    pub fn input_box(&self, image: ImageSize) -> BoxXyxy {
        let Some(side) = self.center_crop else {
            return BoxXyxy::new(0.0, 0.0, image.width as f32, image.height as f32);
        };
        let resized = self.resized_size(image);
        let left = center_offset(resized.width, side) as f32;
        let top = center_offset(resized.height, side) as f32;
        let (x, y) = ratios(resized, image);
        BoxXyxy::from_xywh([left, top, side as f32, side as f32]).scale(x, y)
    }

    fn resized_size(&self, image: ImageSize) -> ImageSize {
        self.resize_method
            .input_size(image, self.min_size, self.max_size)
    }

    /// Returns the normalized value of each 8-bit level in one of the network's channels.
    fn levels(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|level| self.normalized(level as f32, channel))
    }

    fn normalized(&self, level: f32, channel: usize) -> f32 {
        (level * self.scale - self.mean[channel]) / self.std[channel]
    }

    /// Returns the 8-bit RGB color that is nearest to zero after normalization.
    pub(crate) fn mean_color(&self) -> [u8; 3] {
        let mut color = [0; 3];
        for (channel, mean) in self.mean.iter().enumerate() {
            // the cast saturates: a float above 255 becomes 255, NaN becomes 0
            color[self.rgb_channel(channel)] = (mean / self.scale).round() as u8;
        }
        color
    }

    /// Converts a network's input back to an image: `planes` are `[3, height, width]` of size
    /// `frame`, of which the top left part of size `shown` is used. Inverts [`normalize`] exactly.
    ///
    /// # Panics
    /// `planes` has fewer values than `frame` needs, or `shown` is larger than `frame`.
    pub fn image(&self, planes: &[f32], frame: ImageSize, shown: ImageSize) -> RgbImage {
        let plane = frame.height * frame.width;
        RgbImage::from_fn(shown.width as u32, shown.height as u32, |x, y| {
            let at = y as usize * frame.width + x as usize;
            let mut color = [0; 3];
            for channel in 0..3 {
                let value = planes[channel * plane + at];
                let level = (value * self.std[channel] + self.mean[channel]) / self.scale;
                // the cast saturates outside of 0 to 255
                color[self.rgb_channel(channel)] = level.round() as u8;
            }
            image::Rgb(color)
        })
    }

    /// Returns the index in RGB of one of the network's channels.
    fn rgb_channel(&self, channel: usize) -> usize {
        match self.channel_order {
            ChannelOrder::Rgb => channel,
            ChannelOrder::Bgr => 2 - channel,
        }
    }
}

/// An image prepared for a network, not yet padded.
#[derive(Debug, Clone, PartialEq)]
pub struct PreparedImage {
    /// `[3, height, width]` of `input_size`, in the network's channel order, normalized.
    pub pixels: Vec<f32>,
    /// Size of the image.
    pub image_size: ImageSize,
    /// Size after resizing.
    pub input_size: ImageSize,
}

impl PreparedImage {
    /// Creates an image of `input_size` from what `fill` writes.
    fn filled(
        image_size: ImageSize,
        input_size: ImageSize,
        fill: impl FnOnce(&mut Planes<'_>),
    ) -> Self {
        let mut pixels = vec![0.0f32; 3 * input_size.height * input_size.width];
        fill(&mut Planes::new(&mut pixels, input_size));
        Self {
            pixels,
            image_size,
            input_size,
        }
    }

    /// Returns the scale factors `(x, y)`, the exact ratios of the sides.
    pub fn ratios(&self) -> (f32, f32) {
        ratios(self.image_size, self.input_size)
    }

    /// Maps a box from the image to the input.
    pub fn to_input(&self, box_in_image: BoxXyxy) -> BoxXyxy {
        let (x, y) = self.ratios();
        box_in_image.scale(x, y)
    }

    /// Maps a box from the input to the image.
    pub fn to_image(&self, box_in_input: BoxXyxy) -> BoxXyxy {
        let (x, y) = ratios(self.input_size, self.image_size);
        box_in_input.scale(x, y)
    }
}

/// Returns the ratio of the new to the old size per axis `(x, y)`, as torchvision's `resize_boxes`
/// in `f32`.
pub fn ratios(old: ImageSize, new: ImageSize) -> (f32, f32) {
    (
        new.width as f32 / old.width as f32,
        new.height as f32 / old.height as f32,
    )
}

/// The place of an image in a larger tensor: the top left of three planes.
pub(crate) struct Planes<'a> {
    values: &'a mut [f32],
    frame: ImageSize,
}

impl<'a> Planes<'a> {
    /// Wraps the values of a tensor `[3, height, width]` of size `frame`.
    pub(crate) fn new(values: &'a mut [f32], frame: ImageSize) -> Self {
        Self { values, frame }
    }

    /// Returns the first `width` values of a row.
    fn row(&mut self, channel: usize, y: usize, width: usize) -> &mut [f32] {
        let at = (channel * self.frame.height + y) * self.frame.width;
        &mut self.values[at..at + width]
    }

    /// Copies a prepared image.
    pub(crate) fn copy(&mut self, image: &PreparedImage) {
        let ImageSize { height, width } = image.input_size;
        for (at, row) in image.pixels.chunks_exact(width.max(1)).enumerate() {
            let (channel, y) = (at / height, at % height);
            self.row(channel, y, width).copy_from_slice(row);
        }
    }
}

/// Resizes and normalizes an image, and applies the center crop if there is one.
pub fn prepare(image: &RgbImage, preprocess: &Preprocess) -> PreparedImage {
    let resized = resized(image, preprocess);
    match preprocess.center_crop {
        Some(side) => center(&resized, side, preprocess),
        None => resized,
    }
}

/// Prepares an image as [`prepare`], in its place in a batch.
pub(crate) fn prepare_into(image: &RgbImage, preprocess: &Preprocess, mut planes: Planes<'_>) {
    match preprocess.center_crop {
        Some(_) => planes.copy(&prepare(image, preprocess)),
        None => resize_into(image, preprocess, &mut planes),
    }
}

/// Prepares the ten views of multi-crop evaluation (torchvision's `TenCrop`), whose scores are
/// averaged: squares of side `center_crop` at the top left, top right, bottom left, bottom right
/// and in the center of the resized image, then the same five of the mirrored image.
///
/// # Errors
/// There is no `center_crop`, or the resized image is smaller.
pub(crate) fn prepare_ten_crops(
    image: &RgbImage,
    preprocess: &Preprocess,
) -> Result<Vec<PreparedImage>, DataError> {
    let wrong = |problem: String| DataError::Setting {
        setting: "center_crop",
        problem,
    };
    let side = preprocess
        .center_crop
        .ok_or_else(|| wrong("ten crops need the side of the crop".to_owned()))?;
    let whole = resized(image, preprocess);
    let size = whole.input_size;
    if size.height < side || size.width < side {
        return Err(wrong(format!(
            "ten crops of {side} pixels don't fit into an image resized to {size}"
        )));
    }
    let (bottom, right) = ((size.height - side) as isize, (size.width - side) as isize);
    let corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)];
    let five = |image: &PreparedImage| {
        let mut crops: Vec<PreparedImage> = corners
            .iter()
            .map(|&(top, left)| square(image, top, left, side, preprocess))
            .collect();
        crops.push(center(image, side, preprocess));
        crops
    };
    let mut crops = five(&whole);
    // Mirrored before cropping: the center crop of an odd remainder is not symmetric.
    crops.extend(five(&mirrored(whole)));
    Ok(crops)
}

/// Normalizes an image that already has the size of the network's input, such as an augmented
/// training image.
pub fn normalize(image: &RgbImage, preprocess: &Preprocess) -> PreparedImage {
    let size = size_of(image);
    let fill = |planes: &mut Planes<'_>| normalize_into(image, preprocess, planes);
    PreparedImage::filled(size, size, fill)
}

fn normalize_into(image: &RgbImage, preprocess: &Preprocess, planes: &mut Planes<'_>) {
    let width = image.width() as usize;
    let rows = image.as_raw().chunks_exact((3 * width).max(1));
    for channel in 0..3 {
        let levels = preprocess.levels(channel);
        let rgb_channel = preprocess.rgb_channel(channel);
        for (y, row) in rows.clone().enumerate() {
            let out = planes.row(channel, y, width);
            for (value, pixel) in out.iter_mut().zip(row.chunks_exact(3)) {
                *value = levels[usize::from(pixel[rgb_channel])];
            }
        }
    }
}

fn size_of(image: &RgbImage) -> ImageSize {
    ImageSize::new(image.height() as usize, image.width() as usize)
}

/// Returns the start of a centered span of length `inner` in one of length `outer`, negative if it
/// is longer: for cropping, halves are rounded to even, as in Python; for padding, rounded down
/// (torchvision's `center_crop`).
pub(crate) fn center_offset(outer: usize, inner: usize) -> isize {
    if outer >= inner {
        ((outer - inner) as f64 / 2.0).round_ties_even() as isize
    } else {
        -(((inner - outer) / 2) as isize)
    }
}

/// Resizes and normalizes, without cropping.
fn resized(image: &RgbImage, preprocess: &Preprocess) -> PreparedImage {
    let image_size = size_of(image);
    let fill = |planes: &mut Planes<'_>| resize_into(image, preprocess, planes);
    PreparedImage::filled(image_size, preprocess.resized_size(image_size), fill)
}

fn resize_into(image: &RgbImage, preprocess: &Preprocess, planes: &mut Planes<'_>) {
    let from = size_of(image);
    let to = preprocess.resized_size(from);
    match preprocess.resize_method {
        // Interpolates normalized values; the other methods round to 8 bits before normalization.
        ResizeMethod::Torchvision if from != to => {
            interpolate_normalized(image, from, to, preprocess, planes);
        }
        ResizeMethod::Torchvision => normalize_into(image, preprocess, planes),
        method => normalize_into(&resize_rgb8(image, to, method), preprocess, planes),
    }
}

fn interpolate_normalized(
    image: &RgbImage,
    from: ImageSize,
    to: ImageSize,
    preprocess: &Preprocess,
    planes: &mut Planes<'_>,
) {
    let stride = 3 * from.width;
    let levels = [0, 1, 2].map(|channel| preprocess.levels(channel));
    let [a, b, c] = [0, 1, 2].map(|channel| preprocess.rgb_channel(channel));
    let read = |y: usize, row: &mut [Pixel]| {
        let rgb = image.as_raw()[y * stride..][..stride].chunks_exact(3);
        for (pixel, rgb) in row.iter_mut().zip(rgb) {
            let rgb = [rgb[0], rgb[1], rgb[2]].map(usize::from);
            *pixel = [levels[0][rgb[a]], levels[1][rgb[b]], levels[2][rgb[c]], 0.0];
        }
    };
    resize_bilinear(from, to, read, |y, channel, row| {
        let out = planes.row(channel, y, to.width);
        for (out, value) in out.iter_mut().zip(row.values()) {
            *out = value;
        }
    });
}

fn center(image: &PreparedImage, side: usize, preprocess: &Preprocess) -> PreparedImage {
    let size = image.input_size;
    let top = center_offset(size.height, side);
    let left = center_offset(size.width, side);
    square(image, top, left, side, preprocess)
}

/// Crops a square; pixels outside the image are black.
fn square(
    image: &PreparedImage,
    top: isize,
    left: isize,
    side: usize,
    preprocess: &Preprocess,
) -> PreparedImage {
    let ImageSize { height, width } = image.input_size;
    // The columns of the square that the image covers.
    let first = (-left).clamp(0, side as isize) as usize;
    let last = (width as isize - left).clamp(first as isize, side as isize) as usize;
    let source_first = (left + first as isize) as usize;
    let mut pixels = Vec::with_capacity(3 * side * side);
    for (channel, plane) in image.pixels.chunks_exact(height * width).enumerate() {
        let black = preprocess.normalized(0.0, channel);
        for y in 0..side {
            let row_start = pixels.len();
            pixels.resize(row_start + side, black);
            let source_y = top + y as isize;
            if (0..height as isize).contains(&source_y) {
                let source = &plane[source_y as usize * width..][..width];
                pixels[row_start + first..row_start + last]
                    .copy_from_slice(&source[source_first..source_first + (last - first)]);
            }
        }
    }
    PreparedImage {
        pixels,
        image_size: image.image_size,
        input_size: ImageSize::new(side, side),
    }
}

fn mirrored(mut image: PreparedImage) -> PreparedImage {
    for row in image.pixels.chunks_exact_mut(image.input_size.width) {
        row.reverse();
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use safetensors::SafeTensors;

    /// Fixture generated by `tests/oracle/resize.py` with torchvision and Pillow.
    const FIXTURE: &[u8] = include_bytes!("../../../../../tests/fixtures/resize.safetensors");

    fn floats(fixture: &SafeTensors, name: &str) -> (Vec<f32>, Vec<usize>) {
        let view = fixture.tensor(name).unwrap();
        let values = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        (values, view.shape().to_vec())
    }

    fn image_of(fixture: &SafeTensors, name: &str) -> RgbImage {
        let view = fixture.tensor(name).unwrap(); // [height, width, 3] u8
        let [height, width, _] = view.shape() else {
            panic!("{name}: {:?}", view.shape());
        };
        RgbImage::from_raw(*width as u32, *height as u32, view.data().to_vec()).unwrap()
    }

    fn largest_difference(actual: &[f32], expected: &[f32]) -> f32 {
        assert_eq!(actual.len(), expected.len());
        let differences = actual.iter().zip(expected).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f32::max)
    }

    /// Calls `check` for each size of a kind, such as `torchvision/40-80`.
    fn each_case(kind: &str, check: impl Fn(&str, &RgbImage, usize, usize, &[f32], &[usize])) {
        let fixture = SafeTensors::deserialize(FIXTURE).unwrap();
        let image = image_of(&fixture, "image");
        let mut checked = 0;
        for name in fixture.names() {
            let Some(rest) = name.strip_prefix(kind) else {
                continue;
            };
            let (min, max) = rest.split_once('-').unwrap();
            let (expected, shape) = floats(&fixture, name);
            check(
                name,
                &image,
                min.parse().unwrap(),
                max.parse().unwrap(),
                &expected,
                &shape,
            );
            checked += 1;
        }
        assert!(checked >= 3, "{kind}: {checked} cases");
    }

    #[test]
    fn the_image_of_a_normalized_input_is_the_image() {
        let image = RgbImage::from_fn(7, 5, |x, y| image::Rgb([x as u8 * 36, y as u8 * 50, 255]));
        let size = ImageSize::new(5, 7);
        for preprocess in [
            Preprocess::torchvision(),
            Preprocess::detectron2(),
            Preprocess::mmdetection(),
        ] {
            let input = normalize(&image, &preprocess);
            assert_eq!(preprocess.image(&input.pixels, size, size), image);
            let corner = preprocess.image(&input.pixels, size, ImageSize::new(2, 3));
            assert_eq!(
                corner,
                image::imageops::crop_imm(&image, 0, 0, 3, 2).to_image()
            );
        }
    }

    #[test]
    fn pixels_equal_torchvision() {
        each_case("torchvision/", |name, image, min, max, expected, shape| {
            let actual = prepare(image, &Preprocess::torchvision().with_sizes(min, max));
            assert_eq!(
                [3, actual.input_size.height, actual.input_size.width],
                shape,
                "{name}"
            );
            let worst = largest_difference(&actual.pixels, expected);
            assert!(worst < 1e-5, "{name}: {worst}");
        });
    }

    /// With the source positions rounded twice, the row is off by 9e-5.
    #[test]
    fn positions_in_large_images_are_rounded_as_in_torch() {
        let fixture = SafeTensors::deserialize(FIXTURE).unwrap();
        for name in ["row", "column"] {
            let preprocess = Preprocess::torchvision().with_sizes(800, 1066);
            let actual = prepare(&image_of(&fixture, name), &preprocess);
            let (expected, shape) = floats(&fixture, &format!("{name}/torchvision"));
            assert_eq!(
                shape[1..],
                [actual.input_size.height, actual.input_size.width]
            );
            let worst = largest_difference(&actual.pixels, &expected);
            assert!(worst < 2e-6, "{name}: {worst}");
        }
    }

    #[test]
    fn pixels_equal_detectron2_within_one_level_of_255() {
        each_case("detectron2/", |name, image, min, max, expected, shape| {
            let actual = prepare(image, &Preprocess::detectron2().with_sizes(min, max));
            assert_eq!(
                [3, actual.input_size.height, actual.input_size.width],
                shape,
                "{name}"
            );
            let (mut worst, mut off) = (0.0f32, 0);
            for (a, b) in actual.pixels.iter().zip(expected) {
                worst = worst.max((a - b).abs());
                off += usize::from((a - b).abs() > 1e-3);
            }
            assert!(worst < 1.001, "{name}: {worst}");
            assert!(off * 50 < expected.len(), "{name}: {off} values differ");
        });
    }

    #[test]
    fn blue_comes_first_when_the_network_wants_it_so() {
        let image = RgbImage::from_pixel(4, 4, image::Rgb([10, 20, 30]));
        let plain = Preprocess {
            mean: [0.0; 3],
            ..Preprocess::detectron2().with_sizes(4, 4)
        };
        let planes = |order| {
            let prepared = prepare(
                &image,
                &Preprocess {
                    channel_order: order,
                    ..plain
                },
            );
            [0, 16, 32].map(|at| prepared.pixels[at])
        };
        assert_eq!(planes(ChannelOrder::Bgr), [30.0, 20.0, 10.0]);
        assert_eq!(planes(ChannelOrder::Rgb), [10.0, 20.0, 30.0]);
    }

    #[test]
    fn settings_survive_json_and_mistakes_in_them_are_named() {
        for preprocess in [Preprocess::torchvision(), Preprocess::detectron2()] {
            let json = serde_json::to_string(&preprocess).unwrap();
            assert_eq!(
                serde_json::from_str::<Preprocess>(&json).unwrap(),
                preprocess
            );
            preprocess.validate().unwrap();
        }
        let message = Preprocess::torchvision()
            .with_sizes(800, 600)
            .validate()
            .unwrap_err()
            .to_string();
        assert_eq!(message, "max_size: 600 is below min_size 800");
        let no_std = Preprocess {
            std: [1.0, 0.0, 1.0],
            ..Preprocess::torchvision()
        };
        assert!(no_std.validate().is_err());
    }

    #[test]
    fn a_crop_is_written_only_where_there_is_one() {
        let plain = serde_json::to_string(&Preprocess::torchvision()).unwrap();
        assert!(!plain.contains("center_crop"), "{plain}");
        assert_eq!(
            serde_json::from_str::<Preprocess>(&plain).unwrap(),
            Preprocess::torchvision()
        );
        let cropped = serde_json::to_string(&Preprocess::imagenet_eval()).unwrap();
        assert_eq!(
            serde_json::from_str::<Preprocess>(&cropped).unwrap(),
            Preprocess::imagenet_eval()
        );
        let nothing = Preprocess {
            center_crop: Some(0),
            ..Preprocess::imagenet_eval()
        };
        assert!(nothing.validate().is_err());
    }

    proptest! {
        #[test]
        fn a_box_comes_back_from_the_input(
            height in 1usize..2000, width in 1usize..2000, min in 1usize..900,
            b in (0.0f32..1.0, 0.0f32..1.0, 0.0f32..1.0, 0.0f32..1.0),
        ) {
            let preprocess = Preprocess::torchvision().with_sizes(min, min * 5 / 3);
            let image_size = ImageSize::new(height, width);
            let input_size = preprocess.input_size(image_size);
            let prepared = PreparedImage { pixels: Vec::new(), image_size, input_size };
            let (w, h) = (width as f32, height as f32);
            let box_in_image = BoxXyxy::new(b.0 * w, b.1 * h, (b.0 + b.2) * w, (b.1 + b.3) * h);
            let back = prepared.to_image(prepared.to_input(box_in_image));
            let tolerance = 1e-5 * (w + h);
            prop_assert!((back.x1 - box_in_image.x1).abs() <= tolerance);
            prop_assert!((back.y2 - box_in_image.y2).abs() <= tolerance);
            // the whole image is the whole input, exactly up to rounding
            let whole = prepared.to_input(BoxXyxy::new(0.0, 0.0, w, h));
            prop_assert!((whole.x2 - input_size.width as f32).abs() < 1e-2);
            prop_assert!((whole.y2 - input_size.height as f32).abs() < 1e-2);
        }
    }
}
