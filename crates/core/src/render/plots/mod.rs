//! Precision-recall curves, training curves, confusion matrices, reliability diagrams and gates of SE blocks as
//! PNG, JPEG or SVG.
//!
//! Text uses an embedded font, so a plot looks the same on every machine. Pixel images are drawn at twice their
//! size and averaged, because plotters draws thick lines without antialiasing.

mod bars;
mod classification;
mod excitation;
mod page;
mod precision_recall;
mod training;

use std::path::Path;

use image::RgbImage;
use plotters::prelude::*;

pub use bars::{Bars, save_bars};
pub use classification::{save_confusion, save_reliability};
pub use excitation::{MAX_PANELS, save_excitation_figures, save_gates};
pub use precision_recall::save_precision_recall;
pub use training::{Series, TrainingChart, TrainingCurves, save_training_curves};

use super::save::{
    IMAGES_AND_SVG, RenderError, is_image_extension, lower_extension, save_image, save_svg,
    wrong_extension,
};
use page::{Drawn, Page, register_fonts};

/// The factor by which pixel images are enlarged while drawing.
const SUPERSAMPLING: u32 = 2;

/// The file of a figure.
#[derive(Debug, Clone, Copy)]
pub struct FigureFile<'a> {
    /// The path, whose extension is the format.
    pub path: &'a Path,
    /// The number of pixels for each unit of length, at least 1. A vector graphic has no pixels.
    pub scale: u32,
}

impl<'a, P: AsRef<Path> + ?Sized> From<&'a P> for FigureFile<'a> {
    fn from(path: &'a P) -> Self {
        Self {
            path: path.as_ref(),
            scale: 1,
        }
    }
}

/// A figure that can be drawn at any scale on any backend.
trait Figure {
    /// Returns width and height in pixels at scale 1.
    fn size(&self) -> (u32, u32);

    /// Draws the figure.
    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B>;
}

fn save<'a>(figure: &impl Figure, file: impl Into<FigureFile<'a>>) -> Result<(), RenderError> {
    let FigureFile { path, scale } = file.into();
    let extension = lower_extension(path);
    if extension == "svg" {
        save_svg(&vectorize(figure)?, path)
    } else if is_image_extension(&extension) {
        save_image(&rasterize(figure, scale.max(1))?, path)
    } else {
        Err(wrong_extension(path, IMAGES_AND_SVG))
    }
}

fn vectorize(figure: &impl Figure) -> Result<String, RenderError> {
    let mut text = String::new();
    draw_on(SVGBackend::with_string(&mut text, figure.size()), figure, 1)?;
    Ok(text)
}

fn rasterize(figure: &impl Figure, scale: u32) -> Result<RgbImage, RenderError> {
    let (width, height) = figure.size();
    let (width, height) = (width * scale, height * scale);
    let size = (width * SUPERSAMPLING, height * SUPERSAMPLING);
    let mut pixels = vec![0; size.0 as usize * size.1 as usize * 3];
    draw_on(
        BitMapBackend::with_buffer(&mut pixels, size),
        figure,
        SUPERSAMPLING * scale,
    )?;
    let row = size.0 as usize * 3;
    Ok(RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|channel| {
            let mut sum = 0;
            for dy in 0..SUPERSAMPLING {
                for dx in 0..SUPERSAMPLING {
                    let (x, y) = (x * SUPERSAMPLING + dx, y * SUPERSAMPLING + dy);
                    sum += u32::from(pixels[y as usize * row + x as usize * 3 + channel]);
                }
            }
            let count = SUPERSAMPLING * SUPERSAMPLING;
            ((sum + count / 2) / count) as u8
        }))
    }))
}

fn draw_on<B: DrawingBackend>(
    backend: B,
    figure: &impl Figure,
    scale: u32,
) -> Result<(), RenderError> {
    register_fonts();
    let area = backend.into_drawing_area();
    let to_error = |error: DrawingAreaErrorKind<B::ErrorType>| RenderError::Plot(error.to_string());
    area.fill(&WHITE).map_err(to_error)?;
    figure
        .draw(&Page {
            area: &area,
            scale: scale as i32,
        })
        .map_err(to_error)?;
    area.present().map_err(to_error)
}
