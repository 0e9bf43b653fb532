//! Formatting of counts in messages.

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
pub fn plural(noun: &str) -> String {
    let vowel_before_y = ["ay", "ey", "oy", "uy"]
        .iter()
        .any(|end| noun.ends_with(end));
    if let Some(stem) = noun.strip_suffix('y')
        && !vowel_before_y
    {
        return format!("{stem}ies");
    }
    let hisses = ["s", "x", "ch", "sh"].iter().any(|end| noun.ends_with(end));
    format!("{noun}{}", if hisses { "es" } else { "s" })
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
            ("directory", "directories"),
            ("key", "keys"),
            ("image id", "image ids"),
        ] {
            assert_eq!(plural(noun), expected);
        }
    }

    #[test]
    fn only_one_is_singular() {
        let counts = [0, 1, 2].map(|number| count(number, "tensor"));
        assert_eq!(counts, ["0 tensors", "1 tensor", "2 tensors"]);
    }
}
