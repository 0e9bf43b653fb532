//! Size of the network's input and interpolation, as in the reference implementations.
//! Normalization is in [`crate::loading::transforms::preprocess`].

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};
use image::RgbImage;

use crate::boxes::ImageSize;

/// The reference implementation whose resizing is reproduced: target size and interpolation
/// together, because weights are trained with both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMethod {
    /// `GeneralizedRCNNTransform`: sides rounded down; bilinear between the four nearest pixels
    /// (no antialiasing) on normalized `f32`.
    Torchvision,
    /// `ResizeShortestEdge`: sides rounded to nearest; Pillow's antialiased bilinear filter on
    /// 8-bit pixels, before normalizing.
    Detectron2,
    /// mmdetection's `Resize`: sides rounded to nearest; OpenCV's bilinear interpolation (between
    /// the four nearest pixels) on 8-bit pixels, before normalizing. OpenCV uses fixed-point
    /// arithmetic, so a value can differ by one level.
    Mmdetection,
    /// torchvision's `transforms.Resize(min_size, max_size=max_size)` of a PIL image: the short
    /// side exactly, the long side rounded down; Pillow's antialiased bilinear filter on 8-bit
    /// pixels. Used to train and evaluate ImageNet classifiers.
    Pillow,
    /// As the PIL method, with Pillow's bicubic filter (`a = -0.5`), also antialiased.
    PillowBicubic,
}

impl ResizeMethod {
    /// Returns the size of the input for an image: the short side becomes `min_size`, unless the
    /// long side would exceed `max_size`; then the long side becomes `max_size`. No side is below 1
    /// pixel (the references fail on such extremely long images).
    pub fn input_size(self, image: ImageSize, min_size: usize, max_size: usize) -> ImageSize {
        let (height, width) = (image.height as f64, image.width as f64);
        let (short, long) = (height.min(width), height.max(width));
        let (min, max) = (min_size as f64, max_size as f64);
        let (new_height, new_width) = match self {
            Self::Torchvision => {
                let scale = (min / short).min(max / long);
                ((height * scale).floor(), (width * scale).floor())
            }
            Self::Detectron2 => {
                let scale = min / short;
                let (mut new_height, mut new_width) = if height < width {
                    (min, scale * width)
                } else {
                    (scale * height, min)
                };
                let new_long = new_height.max(new_width);
                if new_long > max {
                    let shrink = max / new_long;
                    new_height *= shrink;
                    new_width *= shrink;
                }
                ((new_height + 0.5).floor(), (new_width + 0.5).floor())
            }
            Self::Mmdetection => {
                let scale = (min / short).min(max / long);
                (
                    (height * scale + 0.5).floor(),
                    (width * scale + 0.5).floor(),
                )
            }
            Self::Pillow | Self::PillowBicubic => {
                let (mut new_short, mut new_long) = (min, (min * long / short).floor());
                if new_long > max {
                    (new_short, new_long) = ((max * new_short / new_long).floor(), max);
                }
                if width <= height {
                    (new_long, new_short)
                } else {
                    (new_short, new_long)
                }
            }
        };
        ImageSize::new((new_height as usize).max(1), (new_width as usize).max(1))
    }
}

/// Values of an image's channels at one place; the fourth fills a vector register.
pub(crate) type Pixel = [f32; 4];

/// Resizes an image bilinearly without antialiasing, row by row, equal to torch's
/// `interpolate(mode="bilinear", align_corners=False)` on `f32`.
///
/// `read` is called for the source rows that are needed, each once and in ascending order, and fills
/// a buffer of `from.width` pixels. `write` is called for each row of the result and each of its three channels.
///
/// The three channels of a source row are looked up and widened together: 1.2 ms instead of 1.7 for 480x640 to 800x1066, one
/// channel of the whole image after the other.
pub(crate) fn resize_bilinear(
    from: ImageSize,
    to: ImageSize,
    mut read: impl FnMut(usize, &mut [Pixel]),
    mut write: impl FnMut(usize, usize, MixedRow<'_>),
) {
    let columns: Vec<Neighbors> = (0..to.width)
        .map(|x| Neighbors::of(x, from.width, to.width))
        .collect();
    let mut source = vec![Pixel::default(); from.width];
    // The two source rows in use, already at the target's width.
    let widened = || [(); 3].map(|()| vec![0.0f32; to.width]);
    let mut upper = (usize::MAX, widened());
    let mut lower = (usize::MAX, widened());
    for y in 0..to.height {
        let rows = Neighbors::of(y, from.height, to.height);
        if upper.0 != rows.first {
            std::mem::swap(&mut upper, &mut lower);
        }
        for (wanted, held) in [(rows.first, &mut upper), (rows.second, &mut lower)] {
            if held.0 != wanted {
                read(wanted, &mut source);
                widen(&source, &columns, &mut held.1);
                held.0 = wanted;
            }
        }
        for (channel, (upper, lower)) in upper.1.iter().zip(&lower.1).enumerate() {
            write(y, channel, MixedRow { rows, upper, lower });
        }
    }
}

/// Interpolates a row of pixels to the width of `columns`, and divides it into channels.
fn widen(source: &[Pixel], columns: &[Neighbors], planes: &mut [Vec<f32>; 3]) {
    let [a, b, c] = planes;
    for (((a, b), c), column) in a.iter_mut().zip(b).zip(c).zip(columns) {
        let (first, second) = (source[column.first], source[column.second]);
        *a = column.mix(first[0], second[0]);
        *b = column.mix(first[1], second[1]);
        *c = column.mix(first[2], second[2]);
    }
}

/// A row between two source rows.
pub(crate) struct MixedRow<'a> {
    rows: Neighbors,
    upper: &'a [f32],
    lower: &'a [f32],
}

impl MixedRow<'_> {
    /// Returns the values of the row.
    pub(crate) fn values(self) -> impl Iterator<Item = f32> {
        let both = self.upper.iter().zip(self.lower);
        both.map(move |(&upper, &lower)| self.rows.mix(upper, lower))
    }
}

/// The two source positions around a target position along one axis, and their weights.
#[derive(Clone, Copy)]
struct Neighbors {
    first: usize,
    second: usize,
    first_weight: f32,
    second_weight: f32,
}

impl Neighbors {
    /// Computes the positions and weights in `f32`, so that the weights are rounded as in torch.
    ///
    /// torch's compiled code rounds once after multiplying and subtracting (a fused instruction). Two
    /// roundings change the weights by up to 3e-5 near pixel 1000, and normalized pixels by 1e-4.
    fn of(target: usize, from: usize, to: usize) -> Self {
        let scale = from as f32 / to as f32;
        let position = scale.mul_add(target as f32 + 0.5, -0.5).max(0.0);
        let first = (position as usize).min(from - 1);
        let second_weight = (position - first as f32).clamp(0.0, 1.0);
        Self {
            first,
            second: (first + 1).min(from - 1),
            first_weight: 1.0 - second_weight,
            second_weight,
        }
    }

    fn mix(self, first: f32, second: f32) -> f32 {
        first * self.first_weight + second * self.second_weight
    }
}

/// Resizes 8-bit pixels with a method's interpolation; values are rounded to 8 bits.
///
/// [`ResizeMethod::Torchvision`] itself interpolates normalized values without rounding; here they
/// are rounded to the nearest level.
pub(crate) fn resize_rgb8(image: &RgbImage, to: ImageSize, method: ResizeMethod) -> RgbImage {
    let from = ImageSize::new(image.height() as usize, image.width() as usize);
    if from == to {
        return image.clone();
    }
    let pixels = match method {
        ResizeMethod::Detectron2 | ResizeMethod::Pillow => {
            resize_antialiased(image.as_raw(), from, to, FilterType::Bilinear)
        }
        // Catmull and Rom's spline is the bicubic filter with a = -0.5.
        ResizeMethod::PillowBicubic => {
            resize_antialiased(image.as_raw(), from, to, FilterType::CatmullRom)
        }
        ResizeMethod::Torchvision | ResizeMethod::Mmdetection => {
            resize_between_neighbors(image.as_raw(), from, to)
        }
    };
    RgbImage::from_raw(to.width as u32, to.height as u32, pixels)
        .expect("every pixel of the target has three values")
}

/// Resizes interleaved RGB bilinearly between the four nearest pixels, rounded to 8 bits.
fn resize_between_neighbors(pixels: &[u8], from: ImageSize, to: ImageSize) -> Vec<u8> {
    let mut out = vec![0u8; 3 * to.height * to.width];
    let (from_stride, to_stride) = (3 * from.width, 3 * to.width);
    let read = |y: usize, row: &mut [Pixel]| {
        let rgb = pixels[y * from_stride..][..from_stride].chunks_exact(3);
        for (pixel, rgb) in row.iter_mut().zip(rgb) {
            *pixel = [rgb[0].into(), rgb[1].into(), rgb[2].into(), 0.0];
        }
    };
    resize_bilinear(from, to, read, |y, channel, row| {
        let pixels = out[y * to_stride..][..to_stride].chunks_exact_mut(3);
        for (pixel, value) in pixels.zip(row.values()) {
            pixel[channel] = (value + 0.5) as u8;
        }
    });
    out
}

/// Resizes interleaved 8-bit RGB `[height, width, 3]` with Pillow's antialiasing filter.
///
/// Width first, then height, as Pillow up to version 12 (13 sometimes begins with the height) and
/// as two calls: each pass rounds to 8 bits, and by default the crate begins with the height;
/// either changes up to a quarter of the values by one level. Its weights are 16-bit fixed point
/// where Pillow's have 22 fractional bits: a few values still differ by one level.
fn resize_antialiased(
    pixels: &[u8],
    from: ImageSize,
    to: ImageSize,
    filter: FilterType,
) -> Vec<u8> {
    let narrowed = ImageSize::new(from.height, to.width);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    let pass = |pixels: &[u8], from: ImageSize, to: ImageSize| {
        let rgb8 = PixelType::U8x3;
        let source = images::ImageRef::new(from.width as u32, from.height as u32, pixels, rgb8)
            .expect("an RGB image has three bytes a pixel");
        let mut target = images::Image::new(to.width as u32, to.height as u32, rgb8);
        Resizer::new()
            .resize(&source, &mut target, &options)
            .expect("both images have the same pixel type");
        target.into_vec()
    };
    pass(&pass(pixels, from, narrowed), narrowed, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_those_of_the_references() {
        // torchvision: floor(side * scale); detectron2: int(side * scale + 0.5)
        // mmdetection: int(side * scale + 0.5) of one scale for both limits
        for (height, width, torchvision, detectron2) in [
            (480, 640, (800, 1066), (800, 1067)),
            (640, 480, (1066, 800), (1067, 800)),
            (427, 640, (800, 1199), (800, 1199)),
            (333, 500, (800, 1201), (800, 1201)),
            (200, 1000, (266, 1333), (267, 1333)),
            (800, 800, (800, 800), (800, 800)),
            (1, 10_000, (1, 1333), (1, 1333)),
        ] {
            let size = ImageSize::new(height, width);
            let actual = |method: ResizeMethod| {
                let s = method.input_size(size, 800, 1333);
                (s.height, s.width)
            };
            assert_eq!(actual(ResizeMethod::Torchvision), torchvision, "{size}");
            assert_eq!(actual(ResizeMethod::Detectron2), detectron2, "{size}");
            assert_eq!(actual(ResizeMethod::Mmdetection), detectron2, "{size}");
        }
    }

    proptest! {
        #[test]
        fn inputs_never_exceed_the_limits(
            height in 1usize..3000, width in 1usize..3000, min in 1usize..1000, extra in 0usize..800,
        ) {
            let max = min + extra;
            for method in [
                ResizeMethod::Torchvision,
                ResizeMethod::Detectron2,
                ResizeMethod::Mmdetection,
                ResizeMethod::Pillow,
            ] {
                let size = method.input_size(ImageSize::new(height, width), min, max);
                prop_assert!(size.height.min(size.width) >= 1);
                prop_assert!(size.height.min(size.width) <= min);
                prop_assert!(size.height.max(size.width) <= max);
            }
        }

        #[test]
        fn resizing_keeps_a_constant_and_the_range(
            fh in 1usize..12, fw in 1usize..12, th in 1usize..24, tw in 1usize..24,
            seed in proptest::collection::vec(-2.0f32..2.0, 144),
        ) {
            let (from, to) = (ImageSize::new(fh, fw), ImageSize::new(th, tw));
            let resize = |read: &dyn Fn(usize, &mut [Pixel])| {
                let mut out = vec![[0.0; 3]; th * tw];
                resize_bilinear(from, to, read, |y, channel, row| {
                    for (pixel, value) in out[y * tw..][..tw].iter_mut().zip(row.values()) {
                        pixel[channel] = value;
                    }
                });
                out
            };
            let constant = resize(&|_, row| row.fill([1.25, -0.5, 2.0, 0.0]));
            for pixel in constant {
                for (actual, expected) in pixel.into_iter().zip([1.25, -0.5, 2.0]) {
                    prop_assert!((actual - expected).abs() < 1e-6);
                }
            }
            let source = &seed[..fh * fw];
            let channels = |value: f32| [value, 2.0 * value, -value, 0.0];
            let out = resize(&|y, row| {
                for (pixel, &value) in row.iter_mut().zip(&source[y * fw..][..fw]) {
                    *pixel = channels(value);
                }
            });
            let (min, max) = source.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            for [a, b, c] in out {
                prop_assert!((min - 1e-5..=max + 1e-5).contains(&a));
                prop_assert!(b == 2.0 * a && c == -a);
            }
        }
    }
}
