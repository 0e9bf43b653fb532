//! Precision-recall curves.

use plotters::prelude::*;

use super::page::{Axes, BEHIND, Bounds, Drawn, Entry, Line, Page, entry, line_color};
use super::{Figure, FigureFile, save};
use crate::render::RenderError;
use sedet_data::eval::coco::{ClassMetrics, CocoEvaluation, PrecisionRecall};

/// The number of classes with a color and a legend entry.
const NAMED_CLASSES: usize = 12;
/// Plots precision-recall curves: over all classes at IoU 0.50, 0.75 and the mean of 0.50 to 0.95, and for each
/// class at IoU 0.50. Of more than twelve classes, the six best and the six worst are in the legend and the others
/// are gray.
///
/// # Errors
/// No class has objects; the extension is not `.svg`, `.png`, `.jpg` or `.jpeg`; the file cannot be
/// written.
pub fn save_precision_recall<'a>(
    evaluation: &CocoEvaluation,
    file: impl Into<FigureFile<'a>>,
) -> Result<(), RenderError> {
    save(&PrecisionRecallFigure::new(evaluation)?, file)
}

struct PrecisionRecallFigure<'a> {
    overall: &'a PrecisionRecall,
    evaluation: &'a CocoEvaluation,
}

impl<'a> PrecisionRecallFigure<'a> {
    fn new(evaluation: &'a CocoEvaluation) -> Result<Self, RenderError> {
        let overall = evaluation
            .curves
            .as_ref()
            .ok_or_else(|| RenderError::Nothing("no class has objects".into()))?;
        Ok(Self {
            overall,
            evaluation,
        })
    }
}

fn curve(precision: &[f64]) -> Vec<(f64, f64)> {
    PrecisionRecall::recalls()
        .zip(precision.iter().copied())
        .collect()
}

impl Figure for PrecisionRecallFigure<'_> {
    fn size(&self) -> (u32, u32) {
        (1180, 470)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B> {
        const PANEL: i32 = 440;
        const LEGEND_LEFT: i32 = 2 * PANEL + 40;
        let bounds = |left| Bounds {
            left,
            top: 14,
            width: PANEL,
            height: 446,
        };
        let axes = |title| Axes {
            title,
            x_name: "recall",
            y_name: "precision",
            x: 0.0..1.0,
            // Slightly more than 1, so that a perfect curve is not on the frame.
            y: 0.0..1.02,
            ..Axes::default()
        };
        let metrics = &self.evaluation.metrics;
        let of_all = [
            ("IoU 0.50", &self.overall.at_iou_50, metrics.ap50, 7),
            ("IoU 0.75", &self.overall.at_iou_75, metrics.ap75, 0),
            ("mean 0.50:0.95", &self.overall.mean_over_iou, metrics.ap, 3),
        ];
        let lines: Vec<_> = of_all
            .iter()
            .map(|(_, precision, _, color)| Line {
                points: curve(precision),
                color: line_color(*color),
                opacity: 1.0,
                width: 3,
                dots: false,
            })
            .collect();
        page.panel(bounds(10), &axes("All classes"), &lines)?;

        let (named, others) = split_classes(&self.evaluation.per_class);
        let mut lines: Vec<_> = others
            .iter()
            .map(|(_, curves)| Line {
                points: curve(&curves.at_iou_50),
                color: BEHIND,
                opacity: 0.6,
                width: 1,
                dots: false,
            })
            .collect();
        lines.extend(named.iter().map(|named| Line {
            points: curve(&named.curves.at_iou_50),
            color: named.color,
            opacity: 1.0,
            width: 2,
            dots: false,
        }));
        page.panel(bounds(10 + PANEL), &axes("Each class at IoU 0.50"), &lines)?;

        let mut column = Bounds {
            left: LEGEND_LEFT,
            top: 22,
            width: 1180 - LEGEND_LEFT - 18,
            height: 0,
        };
        let entries: Vec<_> = of_all
            .iter()
            .map(|(name, _, ap, color)| entry(line_color(*color), name, *ap))
            .collect();
        column.top += page.legend(column, "All classes, AP", &entries)? + 12;
        let entries: Vec<_> = named
            .iter()
            .map(|named| entry(named.color, &named.class.name, named.class.ap50))
            .collect();
        if others.is_empty() {
            page.legend(column, "Classes, AP50", &entries)?;
        } else {
            let (best, worst) = entries.split_at(NAMED_CLASSES / 2);
            column.top += page.legend(column, "Best classes, AP50", best)? + 6;
            column.top += page.legend(column, "Worst classes, AP50", worst)? + 6;
            let rest = Entry {
                color: BEHIND,
                name: format!("{} other classes", others.len()),
                value: String::new(),
            };
            page.legend(column, "", &[rest])?;
        }
        Ok(())
    }
}

struct NamedClass<'a> {
    class: &'a ClassMetrics,
    curves: &'a PrecisionRecall,
    color: RGBColor,
}

/// Sorts the classes with objects by AP50 and splits them into those in the legend (all, or the best and the
/// worst) and the others.
fn split_classes(
    classes: &[ClassMetrics],
) -> (Vec<NamedClass<'_>>, Vec<(&ClassMetrics, &PrecisionRecall)>) {
    let mut ranked: Vec<_> = classes
        .iter()
        .enumerate()
        .filter_map(|(index, class)| Some((index, class, class.curves.as_ref()?)))
        .collect();
    // Of equal AP50 the class with more objects comes first.
    ranked.sort_by(|(_, a, _), (_, b, _)| {
        let by_ap = b.ap50.total_cmp(&a.ap50);
        by_ap.then(b.ground_truths.cmp(&a.ground_truths))
    });
    let all_named = ranked.len() <= NAMED_CLASSES;
    let middle = if all_named {
        0..0
    } else {
        NAMED_CLASSES / 2..ranked.len() - NAMED_CLASSES / 2
    };
    let others = ranked
        .drain(middle)
        .map(|(_, class, curves)| (class, curves))
        .collect();
    let named = ranked
        .into_iter()
        .enumerate()
        .map(|(rank, (index, class, curves))| NamedClass {
            class,
            curves,
            // Few classes keep their color of images. Of many, those in the legend get the first colors,
            // which are the most different.
            color: line_color(if all_named && classes.len() <= NAMED_CLASSES {
                index
            } else {
                rank
            }),
        })
        .collect();
    (named, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::render::plots::{rasterize, vectorize};
    use image::RgbImage;
    use sedet_data::eval::coco::evaluate;
    use sedet_data::eval::ground_truth::{GroundTruth, GtAnnotation, GtCategory, GtImage};
    use sedet_data::eval::results::ResultRow;

    fn draw_precision_recall(evaluation: &CocoEvaluation) -> Result<RgbImage, RenderError> {
        rasterize(&PrecisionRecallFigure::new(evaluation)?, 1)
    }

    /// Evaluates an image with an object of each class, of which every second one is detected.
    fn evaluation(classes: u64) -> CocoEvaluation {
        let image = GtImage {
            id: 1,
            file_name: String::new(),
            width: 640,
            height: 480,
        };
        let bbox = [10.0, 10.0, 50.0, 50.0];
        let categories = (1..=classes)
            .map(|id| GtCategory {
                id,
                name: format!("class <{id}>"),
            })
            .collect();
        let objects = (1..=classes)
            .map(|id| GtAnnotation {
                id,
                image_id: 1,
                category_id: id,
                bbox,
                area: 2500.0,
                iscrowd: false,
            })
            .collect();
        let rows: Vec<_> = (1..=classes)
            .step_by(2)
            .map(|category_id| ResultRow {
                image_id: 1,
                category_id,
                bbox,
                score: 0.5,
            })
            .collect();
        let gt = GroundTruth::new(vec![image], categories, objects).unwrap();
        evaluate(&gt, &rows).unwrap()
    }

    #[test]
    fn plots_are_saved_in_the_format_of_their_extension() {
        let directory = tempfile::tempdir().unwrap();
        let evaluation = evaluation(3);
        for (name, start) in [
            ("pr.svg", b"<svg".as_slice()),
            ("pr.png", b"\x89PNG"),
            ("pr.jpg", b"\xFF\xD8"),
        ] {
            let path = directory.path().join(name);
            save_precision_recall(&evaluation, &path).unwrap();
            assert!(std::fs::read(&path).unwrap().starts_with(start), "{name}");
        }
        let message = save_precision_recall(&evaluation, Path::new("/tmp/pr.pdf"))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("/tmp/pr.pdf") && message.contains(".svg"),
            "{message}"
        );
    }

    #[test]
    fn the_svg_contains_the_escaped_names_of_its_curves() {
        let evaluation = evaluation(2);
        let text = vectorize(&PrecisionRecallFigure::new(&evaluation).unwrap()).unwrap();
        for part in [
            "recall",
            "precision",
            "IoU 0.75",
            "class &lt;1&gt;",
            "1.000",
            "0.000",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn of_many_classes_the_best_and_the_worst_are_in_the_legend() {
        let evaluation = evaluation(40);
        let (named, others) = split_classes(&evaluation.per_class);
        assert_eq!((named.len(), others.len()), (12, 28));
        assert!(named[..6].iter().all(|named| named.class.ap50 > 0.9));
        assert!(named[6..].iter().all(|named| named.class.ap50 == 0.0));
        let text = vectorize(&PrecisionRecallFigure::new(&evaluation).unwrap()).unwrap();
        assert!(text.contains("28 other classes"));
        let (named, others) = split_classes(&evaluation.per_class[..12]);
        assert_eq!((named.len(), others.len()), (12, 0));
    }

    #[test]
    fn the_image_contains_the_colors_of_the_curves() {
        let image = draw_precision_recall(&evaluation(2)).unwrap();
        assert_eq!((image.width(), image.height()), (1180, 470));
        let RGBColor(r, g, b) = line_color(0);
        assert!(image.pixels().any(|pixel| pixel.0 == [r, g, b]));
        assert_eq!(image.get_pixel(0, 0).0, [255; 3]);
    }

    #[test]
    fn an_evaluation_without_objects_has_no_curves() {
        let mut without_objects = evaluation(1);
        without_objects.curves = None;
        let error = draw_precision_recall(&without_objects).unwrap_err();
        assert!(error.to_string().starts_with("nothing to plot"), "{error}");
    }
}
