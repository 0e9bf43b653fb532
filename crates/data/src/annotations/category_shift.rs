//! Category ids of boxes that are one too high or too low, as of programs that count classes from 0.

use std::collections::BTreeSet;
use std::fmt;

/// By how much the category ids of boxes differ from those that are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CategoryShift {
    /// They are one too low.
    TooLow,
    /// They are one too high.
    TooHigh,
}

impl fmt::Display for CategoryShift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, how) = match self {
            Self::TooLow => ("higher", "low"),
            Self::TooHigh => ("lower", "high"),
        };
        write!(
            f,
            "all would be listed if they were one {by}, so they seem to be one too {how}"
        )
    }
}

/// Returns by how much the ids of boxes seem to be shifted: some are not listed, but all would be.
///
/// Ids that are all listed may be shifted, too, which nothing shows.
pub(crate) fn shift_of(used: &BTreeSet<u64>, listed: &BTreeSet<u64>) -> Option<CategoryShift> {
    if used.is_subset(listed) {
        return None;
    }
    let all_listed = |shifted: &dyn Fn(u64) -> Option<u64>| {
        used.iter()
            .all(|id| shifted(*id).is_some_and(|id| listed.contains(&id)))
    };
    if all_listed(&|id| id.checked_add(1)) {
        Some(CategoryShift::TooLow)
    } else if all_listed(&|id| id.checked_sub(1)) {
        Some(CategoryShift::TooHigh)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shifted_if_all_would_be_listed_and_some_are_not() {
        let shift = |used: &[u64], listed: &[u64]| {
            let set = |ids: &[u64]| ids.iter().copied().collect();
            shift_of(&set(used), &set(listed))
        };
        assert_eq!(shift(&[0, 1, 2], &[1, 2, 3]), Some(CategoryShift::TooLow));
        assert_eq!(shift(&[1, 3], &[0, 1, 2]), Some(CategoryShift::TooHigh));
        assert_eq!(shift(&[0], &[1]), Some(CategoryShift::TooLow));
        // All are listed, or one of them is another mistake.
        assert_eq!(shift(&[1, 2], &[1, 2, 3]), None);
        assert_eq!(shift(&[0, 1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(shift(&[1, 2, 90], &[1, 2, 3]), None);
        assert_eq!(shift(&[], &[1]), None);
        assert_eq!(shift(&[u64::MAX], &[0]), None);
    }
}
