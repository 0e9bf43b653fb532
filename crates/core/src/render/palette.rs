//! One stable color per class, and the colors of values.

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// Near white, for text and outlines on dark colors.
pub const LIGHT: Rgb = [255, 255, 255];
/// Near black, for text and outlines on light colors.
pub const DARK: Rgb = [18, 20, 24];

/// Hand-picked: bright enough to stand out on photographs, each far from its neighbors in the list,
/// and in hues that photographs seldom fill.
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

/// The color of a class, by its contiguous index; the same in every image and plot.
pub fn class_color(class_index: usize) -> Rgb {
    match FIRST.get(class_index) {
        Some(&color) => color,
        None => {
            // The golden angle never comes back near an earlier hue; three levels of lightness and
            // strength keep those apart that are close after all.
            let further = class_index - FIRST.len();
            let hue = (further as f64 * 137.507_764 + 15.0) % 360.0;
            let (saturation, lightness) = [(0.95, 0.62), (0.70, 0.74), (0.85, 0.50)][further % 3];
            bright(from_hsl(hue, saturation, lightness))
        }
    }
}

/// A color mixed with white until it stands out on the dark parts of a photograph: pure blue does
/// not.
fn bright(color: Rgb) -> Rgb {
    const LUMINANCE: f64 = 0.24;
    let mut brighter = color;
    while luminance(brighter) < LUMINANCE {
        brighter = brighter.map(|channel| channel + (255 - channel).div_ceil(12));
    }
    brighter
}

/// The color of a value from 0 to 1, from dark violet over green to yellow: viridis, whose steps look
/// equal to the eye, also to those that do not tell red from green, and in gray.
pub fn map_color(share: f32) -> Rgb {
    let share = match share.is_nan() {
        true => 0.0,
        false => f64::from(share.clamp(0.0, 1.0)),
    };
    colorous::VIRIDIS.eval_continuous(share).as_array()
}

/// Dark or light, whichever is easier to read on this background.
pub fn text_color_on(background: Rgb) -> Rgb {
    if contrast(background, DARK) >= contrast(background, LIGHT) {
        DARK
    } else {
        LIGHT
    }
}

/// Contrast ratio of two colors, 1 to 21 (WCAG 2.1).
pub fn contrast(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// A color made darker until it can be read on white, for lines and text in plots.
pub fn on_white(color: Rgb) -> Rgb {
    const READABLE: f64 = 3.0;
    let mut darker = color;
    while contrast(darker, LIGHT) < READABLE {
        darker = darker.map(|channel| (f64::from(channel) * 0.95) as u8);
    }
    darker
}

/// Relative luminance (WCAG 2.1).
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

/// Hue in degrees, the rest from 0 to 1.
fn from_hsl(hue: f64, saturation: f64, lightness: f64) -> Rgb {
    let strength = saturation * lightness.min(1.0 - lightness);
    [0.0, 8.0, 4.0].map(|offset| {
        let k = (offset + hue / 30.0) % 12.0;
        let value = lightness - strength * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (value * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_first_hundred_classes_have_colors_of_their_own() {
        let colors: HashSet<_> = (0..100).map(class_color).collect();
        assert_eq!(colors.len(), 100);
        assert_eq!(class_color(0), FIRST[0]);
        assert_eq!(class_color(4711), class_color(4711));
    }

    #[test]
    fn text_can_be_read_on_every_class_color() {
        for class in 0..500 {
            let color = class_color(class);
            assert!(
                contrast(color, text_color_on(color)) >= 4.4,
                "class {class}"
            );
        }
    }

    #[test]
    fn plot_colors_can_be_seen_on_white() {
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
            .map(|step| luminance(map_color(f32::from(step) / 50.0)))
            .collect();
        assert!(steps.is_sorted());
        assert!(contrast(map_color(0.0), map_color(1.0)) > 10.0);
        let ends = [-1.0, f32::NAN, 7.0, f32::INFINITY].map(map_color);
        let (low, high) = (map_color(0.0), map_color(1.0));
        assert_eq!(ends, [low, low, high, high]);
    }

    #[test]
    fn hsl_hits_the_primaries() {
        assert_eq!(from_hsl(0.0, 1.0, 0.5), [255, 0, 0]);
        assert_eq!(from_hsl(120.0, 1.0, 0.5), [0, 255, 0]);
        assert_eq!(from_hsl(240.0, 1.0, 0.5), [0, 0, 255]);
    }
}
