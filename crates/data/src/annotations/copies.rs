//! Comparison of two annotations of the same image.

/// The largest difference of an edge, in pixels, that rounding explains: four digits of a fraction of a side of 5000
/// pixels are half a pixel.
pub(crate) const ROUNDING: f64 = 1.0;

/// Returns whether two lists have the same boxes, in any order: the same class, and edges that differ by at most
/// [`ROUNDING`]. Boxes are `[x, y, width, height]` in pixels.
pub(crate) fn are_same_but_for_rounding<C: PartialEq>(
    first: &[(C, [f64; 4])],
    second: &[(C, [f64; 4])],
) -> bool {
    /// Pairs of more boxes would take minutes; no image has as many.
    const MOST: usize = 10_000;
    if first.len() != second.len() {
        return false;
    }
    let difference = |(class, a): &(C, [f64; 4]), (other_class, b): &(C, [f64; 4])| {
        let edges = |[x, y, w, h]: [f64; 4]| [x, y, x + w, y + h];
        let (a, b) = (edges(*a), edges(*b));
        let by_edge: [f64; 4] = std::array::from_fn(|edge| (a[edge] - b[edge]).abs());
        // Not a number is no small difference.
        let is_small = by_edge.iter().all(|difference| *difference <= ROUNDING);
        (class == other_class && is_small).then(|| by_edge.iter().sum::<f64>())
    };
    // Most copies are in the same order.
    let mut pairs = first.iter().zip(second);
    if pairs.all(|(a, b)| difference(a, b).is_some()) {
        return true;
    }
    if first.len() > MOST {
        return false;
    }
    let mut free: Vec<&(C, [f64; 4])> = second.iter().collect();
    first.iter().all(|a| {
        let near = free.iter().enumerate();
        let near = near.filter_map(|(at, b)| Some((at, difference(a, b)?)));
        let nearest = near.min_by(|(_, a), (_, b)| a.total_cmp(b));
        nearest.map(|(at, _)| free.swap_remove(at)).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_within_a_pixel_are_the_same_in_any_order() {
        let a = [(0, [10.0, 20.0, 30.0, 40.0]), (1, [50.0, 5.0, 8.0, 8.0])];
        let near = [(1, [50.4, 5.4, 8.5, 8.5]), (0, [9.1, 20.0, 31.8, 40.0])];
        assert!(are_same_but_for_rounding(&a, &near));
        for (other, why) in [
            (
                [(1, [50.0, 5.0, 8.0, 8.0]), (0, [11.1, 20.0, 30.0, 40.0])],
                "an edge",
            ),
            (
                [(0, [50.0, 5.0, 8.0, 8.0]), (0, [10.0, 20.0, 30.0, 40.0])],
                "a class",
            ),
            ([(0, [10.0, 20.0, 30.0, 40.0]); 2], "one box twice"),
            ([(1, [f64::NAN, 5.0, 8.0, 8.0]), a[0]], "not a number"),
        ] {
            assert!(!are_same_but_for_rounding(&a, &other), "{why}");
        }
        assert!(!are_same_but_for_rounding(&a, &a[..1]));
    }
}
