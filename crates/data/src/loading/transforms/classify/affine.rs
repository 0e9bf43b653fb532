//! Rotation, shear and translation of images, pixel for pixel as in Pillow: nearest neighbor, black
//! outside of the source.

use image::RgbImage;

/// Maps a position in the result to its source: `x' = a x + b y + c`, `y' = d x + e y + f`, in
/// pixels from the top left corner.
pub(crate) type Inverse = [f64; 6];

/// Transforms an image as Pillow's `transform(AFFINE, NEAREST)`: sources are computed from the
/// pixel's center, in 16.16 fixed point.
pub fn transform(image: &RgbImage, inverse: Inverse) -> RgbImage {
    let (width, height) = image.dimensions();
    let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let [a, b, c, d, e, f] = inverse;
    let first_x = fixed(c + a * 0.5 + b * 0.5);
    let first_y = fixed(f + d * 0.5 + e * 0.5);
    let [a, b, d, e] = [a, b, d, e].map(fixed);
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (i64::from(x), i64::from(y));
        let source_x = (first_x + a * x + b * y) >> 16;
        let source_y = (first_y + d * x + e * y) >> 16;
        // a negative number is no `u32`
        let source = u32::try_from(source_x)
            .ok()
            .zip(u32::try_from(source_y).ok());
        source
            .and_then(|(x, y)| image.get_pixel_checked(x, y))
            .copied()
            .unwrap_or(image::Rgb([0; 3]))
    })
}

/// Rotates counter-clockwise around the image's center.
pub(crate) fn rotate(image: &RgbImage, degrees: f64) -> RgbImage {
    let (sine, cosine) = (-degrees.to_radians()).sin_cos();
    let x = f64::from(image.width()) / 2.0;
    let y = f64::from(image.height()) / 2.0;
    let inverse = [
        cosine,
        sine,
        x - cosine * x - sine * y,
        -sine,
        cosine,
        y + sine * x - cosine * y,
    ];
    transform(image, inverse)
}
