//! Class colors and the color scale of values.

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// White, for text and outlines on dark colors.
pub(crate) const LIGHT: Rgb = [255, 255, 255];
/// Near black, for text and outlines on light colors.
pub(crate) const DARK: Rgb = [18, 20, 24];

/// The colors of the first classes: bright enough to be visible on photographs, each different from its neighbors
/// in the list, in hues that are rare in photographs.
const FIRST: [Rgb; 12] = [
    [255, 64, 84],   // red
    [30, 200, 255],  // sky
    [255, 196, 0],   // amber
    [176, 112, 255], // violet
    [64, 224, 96],   // green
    [255, 118, 220], // pink
    [255, 128, 0],   // orange
    [88, 134, 255],  // blue
    [200, 240, 40],  // lime
    [0, 216, 180],   // teal
    [230, 60, 190],  // magenta
    [240, 160, 120], // apricot
];

/// Returns the color of a class by its contiguous index, the same in every image and plot.
pub fn class_color(class_index: usize) -> Rgb {
    match FIRST.get(class_index) {
        Some(&color) => color,
        None => {
            // Steps of the golden angle keep hues apart; three levels of saturation and lightness separate
            // those that are still close.
            let further = class_index - FIRST.len();
            let hue = (further as f64 * 137.507_764 + 15.0) % 360.0;
            let (saturation, lightness) = [(0.95, 0.62), (0.70, 0.74), (0.85, 0.50)][further % 3];
            bright(from_hsl(hue, saturation, lightness))
        }
    }
}

/// Mixes a color with white until it is visible on the dark parts of a photograph; pure blue is not.
fn bright(color: Rgb) -> Rgb {
    const LUMINANCE: f64 = 0.24;
    let mut brighter = color;
    while luminance(brighter) < LUMINANCE {
        brighter = brighter.map(|channel| channel + (255 - channel).div_ceil(12));
    }
    brighter
}

/// Returns the color of a value from 0 to 1 in viridis, from dark violet to yellow. The scale is perceptually
/// uniform, also in grayscale and for color-blind users.
pub fn viridis(share: f32) -> Rgb {
    let share = if share.is_nan() {
        0.0
    } else {
        f64::from(share.clamp(0.0, 1.0))
    };
    colorous::VIRIDIS.eval_continuous(share).as_array()
}

/// Returns the dark or the light color of text, whichever has the higher contrast to a background.
pub fn text_color_on(background: Rgb) -> Rgb {
    if contrast(background, DARK) >= contrast(background, LIGHT) {
        DARK
    } else {
        LIGHT
    }
}

/// Returns the contrast ratio of two colors, 1 to 21 (WCAG 2.1).
pub fn contrast(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// Darkens a color until it is readable on white, for lines and text in plots.
pub fn on_white(color: Rgb) -> Rgb {
    const READABLE: f64 = 3.0;
    let mut darker = color;
    while contrast(darker, LIGHT) < READABLE {
        darker = darker.map(|channel| (f64::from(channel) * 0.95) as u8);
    }
    darker
}

/// Returns the relative luminance (WCAG 2.1).
fn luminance(color: Rgb) -> f64 {
    let [r, g, b] = color.map(|channel| {
        let value = f64::from(channel) / 255.0;
        if value <= 0.03928 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

/// Converts hue in degrees, saturation and lightness from 0 to 1.
fn from_hsl(hue: f64, saturation: f64, lightness: f64) -> Rgb {
    let amplitude = saturation * lightness.min(1.0 - lightness);
    [0.0, 8.0, 4.0].map(|offset| {
        let k = (offset + hue / 30.0) % 12.0;
        let value = lightness - amplitude * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (value * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_first_hundred_classes_have_different_colors() {
        let colors: HashSet<_> = (0..100).map(class_color).collect();
        assert_eq!(colors.len(), 100);
        assert_eq!(class_color(0), FIRST[0]);
        assert_eq!(class_color(4711), class_color(4711));
    }

    #[test]
    fn text_is_readable_on_every_class_color() {
        for class in 0..500 {
            let color = class_color(class);
            assert!(
                contrast(color, text_color_on(color)) >= 4.4,
                "class {class}"
            );
        }
    }

    #[test]
    fn plot_colors_are_visible_on_white() {
        for class in 0..500 {
            assert!(contrast(on_white(class_color(class)), LIGHT) >= 3.0);
        }
        assert_eq!(on_white([0, 0, 90]), [0, 0, 90]);
    }

    #[test]
    fn black_and_white_have_the_highest_contrast() {
        assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 1e-9);
        assert!((contrast([7; 3], [7; 3]) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn larger_values_are_brighter() {
        let steps: Vec<f64> = (0..=50u8)
            .map(|step| luminance(viridis(f32::from(step) / 50.0)))
            .collect();
        assert!(steps.is_sorted());
        assert!(contrast(viridis(0.0), viridis(1.0)) > 10.0);
        let ends = [-1.0, f32::NAN, 7.0, f32::INFINITY].map(viridis);
        let (low, high) = (viridis(0.0), viridis(1.0));
        assert_eq!(ends, [low, low, high, high]);
    }

    #[test]
    fn hsl_converts_the_primary_colors() {
        assert_eq!(from_hsl(0.0, 1.0, 0.5), [255, 0, 0]);
        assert_eq!(from_hsl(120.0, 1.0, 0.5), [0, 255, 0]);
        assert_eq!(from_hsl(240.0, 1.0, 0.5), [0, 0, 255]);
    }
}
