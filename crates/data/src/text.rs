//! Counts, durations, names and suggestions in messages.

use std::borrow::Cow;

/// Formats a count with its noun: `1 image`, `2 images`, `3 categories`.
///
/// # Examples
/// ```
/// use sedet_data::text::count;
///
/// assert_eq!(count(1, "image"), "1 image");
/// assert_eq!(count(0, "box"), "0 boxes");
/// assert_eq!(count(2, "category"), "2 categories");
/// ```
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {}", plural(noun))
    }
}

/// Returns the regular English plural of a noun.
pub(crate) fn plural(noun: &str) -> String {
    let vowel_before_y = ["ay", "ey", "oy", "uy"]
        .iter()
        .any(|end| noun.ends_with(end));
    if let Some(stem) = noun.strip_suffix('y')
        && !vowel_before_y
    {
        return format!("{stem}ies");
    }
    // The end of `epoch` is a k.
    let hisses =
        ["s", "x", "ch", "sh"].iter().any(|end| noun.ends_with(end)) && !noun.ends_with("epoch");
    format!("{noun}{}", if hisses { "es" } else { "s" })
}

/// Formats a duration as `1 h 05 min`, `12 min 30 s` or `40 s`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

/// Returns a name as it can be printed in a line of text: control characters, line breaks and characters
/// that change the direction of text are escaped.
///
/// # Examples
/// ```
/// use sedet_data::text::printable;
///
/// assert_eq!(printable("traffic light"), "traffic light");
/// assert_eq!(printable("ca\nt\u{202e}"), "ca\\nt\\u{202e}");
/// ```
pub fn printable(name: &str) -> Cow<'_, str> {
    let is_special = |character: char| {
        character.is_control()
            || matches!(
                character,
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            )
    };
    if !name.contains(is_special) {
        return Cow::Borrowed(name);
    }
    let mut escaped = String::with_capacity(name.len() + 8);
    for character in name.chars() {
        if is_special(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Formats numbers as a list: `[1, 2.5, NaN, 4]`.
///
/// # Examples
/// ```
/// use sedet_data::text::numbers;
///
/// assert_eq!(numbers(&[1.0, 2.5, f64::NAN, 1e200]), "[1, 2.5, NaN, 1e200]");
/// ```
pub fn numbers(values: &[f64]) -> String {
    let values = values.iter().map(|value| match value.abs() {
        // Without an exponent, this many digits hide the other numbers.
        1e15.. | 1e-300..1e-9 => format!("{value:e}"),
        _ => value.to_string(),
    });
    let values: Vec<String> = values.collect();
    format!("[{}]", values.join(", "))
}

/// Returns ` (did you mean 'NAME'?)` for the known name that is most similar to `name`, or nothing if none is
/// similar. Capitals make no difference.
///
/// # Examples
/// ```
/// use sedet_data::text::did_you_mean;
///
/// assert_eq!(did_you_mean("coc", &["shapes", "coco"]), " (did you mean 'coco'?)");
/// assert_eq!(did_you_mean("COCO", &["shapes", "coco"]), " (did you mean 'coco'?)");
/// assert_eq!(did_you_mean("abc", &["shapes", "coco"]), "");
/// ```
pub fn did_you_mean<S: AsRef<str>>(name: &str, known: &[S]) -> String {
    match nearest(name, known) {
        Some(known) => format!(" (did you mean '{known}'?)"),
        None => String::new(),
    }
}

/// Returns the known name that is most similar to `name`, if it is similar enough for a typing error.
pub(crate) fn nearest<'a, S: AsRef<str>>(name: &str, known: &'a [S]) -> Option<&'a str> {
    /// Jaro-Winkler similarity above which a name is treated as a typing error.
    const SIMILAR: f64 = 0.85;
    let name = name.to_lowercase();
    let known = known.iter().map(AsRef::as_ref);
    let similar = known.map(|known| {
        let similarity = strsim::jaro_winkler(&name, &known.to_lowercase());
        (similarity, known)
    });
    let (similarity, best) = similar.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (similarity >= SIMILAR).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_follow_the_spelling_of_the_noun() {
        for (noun, expected) in [
            ("image", "images"),
            ("class", "classes"),
            ("box", "boxes"),
            ("batch", "batches"),
            ("epoch", "epochs"),
            ("directory", "directories"),
            ("key", "keys"),
            ("image id", "image ids"),
        ] {
            assert_eq!(plural(noun), expected);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        assert_eq!(duration(39.6), "40 s");
        assert_eq!(duration(750.0), "12 min 30 s");
        assert_eq!(duration(3900.0), "1 h 05 min");
    }

    #[test]
    fn only_one_is_singular() {
        let counts = [0, 1, 2].map(|number| count(number, "tensor"));
        assert_eq!(counts, ["0 tensors", "1 tensor", "2 tensors"]);
    }
}
