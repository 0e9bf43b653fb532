//! The report of a check as text and as JSON.

use serde_json::{Value, json};

use super::{AnchorCoverage, Fixed};
use crate::cli::terminal::{fitted, hanging};
use sedet_data::curation::check::diagnostics::{Group, KEPT_PER_KIND};
use sedet_data::curation::check::{CheckedSplit, Diagnostic, Diagnostics, Kind, Severity};
use sedet_data::curation::statistics::Statistics;
use sedet_data::eval::table::Side;
use sedet_data::text::count;

/// The statistics of the sound part of a split, or why there are none.
pub(super) type Counted = Result<(Statistics, Option<AnchorCoverage>), String>;

pub(super) struct Report<'a> {
    pub dataset: &'a str,
    pub splits: &'a [CheckedSplit],
    pub diagnostics: &'a Diagnostics,
    pub counted: &'a [Counted],
    pub fixed: Option<&'a Fixed>,
    pub images: bool,
    /// Whether the dataset has a split to train on.
    pub has_train: bool,
    /// What keeps a corrected copy from being written, if anything does.
    pub cannot_fix: Option<String>,
    /// The number of columns of the text.
    pub width: usize,
}

/// Number of examples of a kind in the summary.
const ERROR_EXAMPLES: usize = 3;
const WARNING_EXAMPLES: usize = 1;
/// Number of classes in the summary.
const SHOWN_CLASSES: usize = 10;

impl Report<'_> {
    /// Returns everything, with stable keys.
    pub(super) fn json(&self) -> Value {
        let splits: Vec<Value> = self
            .splits
            .iter()
            .zip(self.counted)
            .map(|(split, counted)| {
                let (statistics, anchors, problem) = match counted {
                    Ok((statistics, anchors)) => (Some(statistics), anchors.as_ref(), None),
                    Err(problem) => (None, None, Some(problem)),
                };
                json!({
                    "split": split.name,
                    "annotations": split.annotations,
                    "image_directory": split.image_directory,
                    "images": split.image_count(),
                    "boxes": split.annotation_count(),
                    "categories": split.category_count(),
                    "statistics": statistics,
                    "statistics_error": problem,
                    "anchors": anchors,
                })
            })
            .collect();
        let diagnostics: Vec<Value> = self
            .diagnostics
            .groups()
            .map(|(kind, group)| {
                json!({
                    "kind": kind.key(),
                    "severity": kind.severity(),
                    "count": group.count,
                    "what": kind.title(group.count),
                    "advice": kind.advice(),
                    "fix": kind.fix(),
                    "places": group.kept,
                    "places_omitted": group.count.saturating_sub(KEPT_PER_KIND),
                })
            })
            .collect();
        json!({
            "dataset": self.dataset,
            "images_checked": self.images,
            "errors": self.diagnostics.count(Severity::Error),
            "warnings": self.diagnostics.count(Severity::Warning),
            "splits": splits,
            "diagnostics": diagnostics,
            "fixed": self.fixed.map(|fixed| json!({
                "path": fixed.path,
                "summary": fixed.summary,
                "errors_left": fixed.left.iter().map(|(kind, count)| json!({
                    "kind": kind,
                    "count": count,
                })).collect::<Vec<_>>(),
            })),
        })
    }

    /// Formats the summary: contents, problems with advice, classes and sizes, verdict.
    pub(super) fn text(&self) -> String {
        let mut text = self.contents();
        for severity in [Severity::Error, Severity::Warning] {
            for (kind, group) in self.diagnostics.groups() {
                if kind.severity() == severity {
                    text += "\n";
                    text += &self.group(kind, group);
                }
            }
        }
        text += "\n";
        text += &self.classes();
        text += &self.sizes_and_anchors();
        text += "\n";
        text += &self.verdict();
        text
    }

    fn contents(&self) -> String {
        let mut rows = vec![
            ["split", "images", "boxes", "classes", "annotations"]
                .map(String::from)
                .to_vec(),
        ];
        rows.extend(self.splits.iter().map(|split| {
            vec![
                split.name.clone(),
                split.image_count().to_string(),
                split.annotation_count().to_string(),
                split.category_count().to_string(),
                split.annotations.display().to_string(),
            ]
        }));
        use Side::{Left, Right};
        fitted(&rows, &[Left, Right, Right, Right, Left], self.width)
    }

    fn group(&self, kind: Kind, group: &Group) -> String {
        let (word, examples) = match kind.severity() {
            Severity::Error => ("error", ERROR_EXAMPLES),
            Severity::Warning => ("warning", WARNING_EXAMPLES),
        };
        let title = format!(
            "{} {} [{}]",
            group.count,
            kind.title(group.count),
            kind.key()
        );
        let mut text = hanging(&format!("{word}: "), &title, self.width);
        for diagnostic in group.kept.iter().take(examples) {
            text += &hanging("  ", &place(diagnostic), self.width);
        }
        let more = group.count.saturating_sub(examples);
        if more > 0 {
            let by_split: Vec<String> = group
                .by_split
                .iter()
                .map(|(split, count)| format!("{count} in {split}"))
                .collect();
            let more = format!("... and {more} more ({})", by_split.join(", "));
            text += &hanging("  ", &more, self.width);
        }
        text += &hanging("  -> ", kind.advice(), self.width);
        if let (Severity::Error, Some(fix), None) = (kind.severity(), kind.fix(), &self.cannot_fix)
        {
            text += &hanging("     --fix: ", fix, self.width);
        }
        text
    }

    fn statistics(&self) -> impl Iterator<Item = (&CheckedSplit, &Statistics)> {
        self.splits
            .iter()
            .zip(self.counted)
            .filter_map(|(split, counted)| Some((split, &counted.as_ref().ok()?.0)))
    }

    /// Tabulates the boxes of each class in each split, most frequent first.
    fn classes(&self) -> String {
        let mut head = vec!["class".to_owned()];
        let mut sides = vec![Side::Left];
        let mut by_class: Vec<(u64, String, Vec<usize>)> = Vec::new();
        let splits = self.statistics().count();
        for (column, (split, statistics)) in self.statistics().enumerate() {
            head.push(format!("boxes in {}", split.name));
            sides.push(Side::Right);
            for class in &statistics.classes {
                let known = by_class
                    .iter_mut()
                    .find(|(id, name, _)| *id == class.id && *name == class.name);
                let counts = match known {
                    Some((_, _, counts)) => counts,
                    None => {
                        by_class.push((class.id, class.name.clone(), vec![0; splits]));
                        match by_class.last_mut() {
                            Some((_, _, counts)) => counts,
                            None => continue,
                        }
                    }
                };
                counts[column] = class.boxes;
            }
        }
        if by_class.is_empty() {
            return String::new();
        }
        by_class.sort_by_key(|(_, _, counts)| std::cmp::Reverse(counts.iter().sum::<usize>()));
        let mut rows = vec![head];
        let row = |(_, name, counts): &(u64, String, Vec<usize>)| {
            let counts = counts.iter().map(usize::to_string);
            std::iter::once(name.clone()).chain(counts).collect()
        };
        rows.extend(by_class.iter().take(SHOWN_CLASSES).map(row));
        let hidden = by_class.len().saturating_sub(SHOWN_CLASSES);
        let mut text = fitted(&rows, &sides, self.width);
        if hidden > 0 {
            text += &format!(
                "and {} with fewer boxes (`sedet data stats` shows all)\n",
                count(hidden, "class")
            );
        }
        text
    }

    fn sizes_and_anchors(&self) -> String {
        let mut text = String::new();
        for (split, counted) in self.splits.iter().zip(self.counted) {
            let (statistics, anchors) = match counted {
                Ok(counted) => counted,
                Err(problem) => {
                    let problem = format!("{}: no statistics: {problem}", split.name);
                    text += &hanging("", &problem, self.width);
                    continue;
                }
            };
            let share = |count: usize| 100.0 * count as f64 / statistics.boxes.max(1) as f64;
            let sizes = statistics.sizes;
            let name = format!("{}: ", split.name);
            let sizes = format!(
                "{:.1} % of the boxes small (below 32x32), {:.1} % medium, {:.1} % large (96x96 and more)",
                share(sizes.small),
                share(sizes.medium),
                share(sizes.large),
            );
            text += &hanging(&name, &sizes, self.width);
            if let Some(anchors) = anchors {
                text += &hanging(&name, &anchors.line(), self.width);
            }
        }
        text
    }

    fn verdict(&self) -> String {
        let errors = self.diagnostics.count(Severity::Error);
        let warnings = self.diagnostics.count(Severity::Warning);
        let mut text = format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
        if !self.images {
            text += "; images were not decoded, and their sizes not compared";
        }
        if let Some(fixed) = self.fixed {
            return hanging("", &text, self.width) + &self.fixed_text(fixed);
        }
        if errors == 0 {
            text += if self.has_train {
                ": ready for training"
            } else {
                ": ready for evaluation; training needs train annotations"
            };
        } else {
            let kinds = self.diagnostics.groups().map(|(kind, _)| kind);
            let (fixable, manual): (Vec<Kind>, Vec<Kind>) = kinds
                .filter(|kind| kind.severity() == Severity::Error)
                .partition(|kind| kind.fix().is_some());
            text += &match (&self.cannot_fix, fixable.is_empty()) {
                (Some(hint), _) => format!("; {hint}"),
                (None, true) => "; no automatic fix: resolve manually".to_owned(),
                (None, false) => {
                    "; --fix OUT.json writes a corrected copy of the annotations".to_owned()
                }
            };
            if self.cannot_fix.is_none() && !fixable.is_empty() && !manual.is_empty() {
                let manual: Vec<&str> = manual.iter().map(|kind| kind.key()).collect();
                text += &format!("; resolve manually: {}", manual.join(", "));
            }
        }
        hanging("", &text, self.width)
    }

    /// Describes the corrected copy.
    fn fixed_text(&self, fixed: &Fixed) -> String {
        let done = &fixed.summary;
        let mut text = hanging("", &format!("wrote {}:", fixed.path.display()), self.width);
        let mut contents = format!(
            "{} ({} dropped, {} changed), {} ({} dropped, {} changed)",
            count(done.images, "image"),
            done.images_dropped,
            done.images_changed,
            count(done.annotations, "box"),
            done.annotations_dropped,
            done.annotations_changed,
        );
        if done.categories_dropped > 0 {
            let dropped = count(done.categories_dropped, "category");
            contents += &format!(", {dropped} dropped");
        }
        text += &hanging("  ", &contents, self.width);
        if done.names_changed {
            let changed = "image names lead from this file to the images";
            text += &hanging("  ", changed, self.width);
        }
        let left = if fixed.left.is_empty() {
            "checked again: 0 errors".to_owned()
        } else {
            let left = fixed.left.iter();
            let left: Vec<String> = left
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect();
            format!("resolve manually: {}", left.join(", "))
        };
        text + &hanging("  ", &left, self.width)
    }
}

/// Formats where a problem is: `train images/a.jpg (image 17, annotation 3): detail`.
fn place(diagnostic: &Diagnostic) -> String {
    let mut ids = Vec::new();
    ids.extend(diagnostic.image_id.map(|id| format!("image {id}")));
    ids.extend(
        diagnostic
            .annotation_id
            .map(|id| format!("annotation {id}")),
    );
    let mut parts = vec![diagnostic.split.clone()];
    parts.extend(diagnostic.file.clone());
    if !ids.is_empty() {
        parts.push(format!("({})", ids.join(", ")));
    }
    let place = parts.join(" ");
    match diagnostic.detail.as_str() {
        "" => place,
        detail => format!("{place}: {detail}"),
    }
}
