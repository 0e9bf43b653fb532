//! The errors of a network over all images, as the Errors page lists them.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::{
    BoxFilter, BoxRef, ClassTable, Collection, Compare, Mistake, Pane, PanelId, Predictions,
    ViewerState,
};
use sedet_data::boxes::BoxXyxy;
use sedet_data::csv::to_csv;
use sedet_data::eval::confusion::Cell;
use sedet_data::eval::matching::{ErrorType, FoundBox, TruthBox, Verdict, match_image};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// A detection, with the type of its error.
    Wrong(ErrorType),
    /// An annotation that no detection matches.
    Missed,
    /// An image that a classifier has taken for one of another class.
    WrongClass,
}

impl ErrorKind {
    /// Returns the name that the table of an image shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wrong(error) => error.short_name(),
            Self::Missed => "missed",
            Self::WrongClass => "wrong",
        }
    }
}

/// Errors of one kind with the same classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorGroup {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The class of the annotation; `None` on background.
    pub truth: Option<usize>,
    /// The class of the detection; `None` for a missed annotation.
    pub found: Option<usize>,
}

impl ErrorGroup {
    /// Returns the classes, such as `RBC as WBC`, or `RBC` where there is no other one.
    pub fn classes(&self, classes: &ClassTable) -> String {
        match (self.truth, self.found) {
            (Some(truth), Some(found)) if truth != found => {
                format!("{} as {}", classes.name(truth), classes.name(found))
            }
            (truth, found) => classes
                .name(found.or(truth).unwrap_or(usize::MAX))
                .to_owned(),
        }
    }

    /// Returns kind and classes, such as `Cls RBC as WBC`.
    pub fn name(&self, classes: &ClassTable) -> String {
        format!("{} {}", self.kind.name(), self.classes(classes))
    }
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ErrorSubject {
    /// A detection: its index by descending score, and its box in pixels of the image.
    Detection(usize, BoxXyxy),
    /// An annotation: its index, and its box in pixels of the image.
    Annotation(usize, BoxXyxy),
    /// The whole image.
    Image,
}

impl ErrorSubject {
    /// Returns the box among those of its image, if it is one.
    pub fn box_ref(&self) -> Option<BoxRef> {
        match *self {
            Self::Detection(at, _) => Some(BoxRef::Detection(at)),
            Self::Annotation(at, _) => Some(BoxRef::GroundTruth(at)),
            Self::Image => None,
        }
    }

    /// Returns the coordinates of the box in pixels of the image.
    pub fn box_in_image(&self) -> Option<BoxXyxy> {
        match *self {
            Self::Detection(_, place) | Self::Annotation(_, place) => Some(place),
            Self::Image => None,
        }
    }
}

/// An error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorItem {
    /// The index of the image.
    pub image: u32,
    /// What is wrong.
    pub subject: ErrorSubject,
    /// Kind and classes.
    pub group: ErrorGroup,
    /// The score of a detection, or the probability of the class of an image.
    pub score: Option<f32>,
    /// The annotation that explains the error of a detection, and the IoU with it.
    pub partner: Option<(BoxXyxy, f32)>,
}

impl ErrorItem {
    fn of_detection(
        (image, at): (u32, usize),
        found: &FoundBox,
        verdict: &Verdict,
        truth: &[TruthBox],
    ) -> Option<Self> {
        let Verdict::Wrong { error, nearest } = *verdict else {
            return None;
        };
        let nearest = nearest.and_then(|(at, iou)| Some((truth.get(at)?, iou)));
        // On background, the nearest annotation is not what was detected.
        let is_related = error != ErrorType::Background;
        Some(Self {
            image,
            subject: ErrorSubject::Detection(at, found.box_in_image),
            group: ErrorGroup {
                kind: ErrorKind::Wrong(error),
                truth: nearest.filter(|_| is_related).map(|(truth, _)| truth.class),
                found: Some(found.class),
            },
            score: Some(found.score),
            partner: nearest.map(|(truth, iou)| (truth.box_in_image, iou)),
        })
    }

    fn of_annotation((image, at): (u32, usize), truth: &TruthBox) -> Self {
        Self {
            image,
            subject: ErrorSubject::Annotation(at, truth.box_in_image),
            group: ErrorGroup {
                kind: ErrorKind::Missed,
                truth: Some(truth.class),
                found: None,
            },
            score: None,
            partner: None,
        }
    }

    fn of_mistake(mistake: &Mistake) -> Self {
        Self {
            image: mistake.image as u32,
            subject: ErrorSubject::Image,
            group: ErrorGroup {
                kind: ErrorKind::WrongClass,
                truth: Some(mistake.truth),
                found: Some(mistake.predicted),
            },
            score: Some(mistake.probability),
            partner: None,
        }
    }

    /// Returns the part of the image that shows the error.
    pub(crate) fn crop(&self) -> Crop {
        let image = self.image as usize;
        match self.subject.box_in_image() {
            Some(of) => Crop::around(image, of),
            None => Crop::whole(image, Crop::PIXELS),
        }
    }

    /// Returns a line such as `Cls RBC as WBC 0.87`.
    pub fn text(&self, classes: &ClassTable) -> String {
        let name = self.group.name(classes);
        match self.score {
            Some(score) => format!("{name} {score:.2}"),
            None => name,
        }
    }

    /// Compares two errors by their place in the list: detections by descending score, then missed annotations by
    /// descending area. Ties keep the order of the images.
    fn before(&self, other: &Self) -> Ordering {
        let area = |item: &Self| item.subject.box_in_image().map_or(0.0, |of| of.area());
        match (self.score, other.score) {
            (Some(a), Some(b)) => b.total_cmp(&a),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => area(other).total_cmp(&area(self)),
        }
    }
}

/// The errors over all processed images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ErrorList {
    /// Detections by descending score, then missed annotations by descending area.
    pub items: Vec<ErrorItem>,
    /// The groups and their numbers of errors, the largest first.
    pub groups: Vec<(ErrorGroup, usize)>,
}

impl ErrorList {
    /// Matches detections with annotations in all processed images and lists the errors. Call it on worker threads
    /// only.
    pub(crate) fn of(
        collection: &Collection,
        predictions: &Predictions,
        filter: &BoxFilter,
    ) -> Self {
        let each = (0..collection.len()).into_par_iter().map(|index| {
            let Some(found) = predictions.get(index) else {
                return Vec::new();
            };
            let found = filter.above_threshold(found);
            errors_of_image(
                index as u32,
                &collection.ground_truth(index),
                found,
                filter.iou,
            )
        });
        Self::sorted(each.flatten_iter().collect())
    }

    /// Lists the mistakes of a classifier.
    pub(crate) fn of_mistakes(mistakes: &[Mistake]) -> Self {
        Self::sorted(mistakes.iter().map(ErrorItem::of_mistake).collect())
    }

    fn sorted(mut items: Vec<ErrorItem>) -> Self {
        items.sort_by(ErrorItem::before);
        let mut counts = std::collections::BTreeMap::new();
        for item in &items {
            *counts.entry(item.group).or_insert(0) += 1;
        }
        let mut groups: Vec<(ErrorGroup, usize)> = counts.into_iter().collect();
        groups.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Self { items, groups }
    }

    /// Formats some of the errors as CSV; boxes are in pixels of the image.
    pub fn to_csv(&self, shown: &[u32], collection: &Collection, classes: &ClassTable) -> String {
        const COLUMNS: [&str; 10] = [
            "image",
            "type",
            "class",
            "true class",
            "score",
            "IoU",
            "x",
            "y",
            "width",
            "height",
        ];
        let mut rows = vec![COLUMNS.map(str::to_owned)];
        let items = shown.iter().filter_map(|at| self.items.get(*at as usize));
        rows.extend(items.map(|item| {
            let name = |class: Option<usize>| class.map_or("", |class| classes.name(class));
            let number = |value: Option<f32>| value.map_or_else(String::new, |v| v.to_string());
            let place = item.subject.box_in_image().map(|of| of.to_xywh());
            let [x, y, width, height] = [0, 1, 2, 3].map(|side| number(place.map(|of| of[side])));
            [
                collection.image_title(item.image as usize),
                item.group.kind.name().to_owned(),
                name(item.group.found).to_owned(),
                name(item.group.truth).to_owned(),
                number(item.score),
                number(item.partner.map(|(_, iou)| iou)),
                x,
                y,
                width,
                height,
            ]
        }));
        to_csv(&rows)
    }
}

/// Returns the wrong detections and missed annotations of an image.
fn errors_of_image(image: u32, truth: &[TruthBox], found: &[FoundBox], iou: f32) -> Vec<ErrorItem> {
    let matches = match_image(truth, found, iou);
    let wrong = found.iter().zip(&matches.found).enumerate();
    let wrong = wrong.filter_map(|(at, (found, verdict))| {
        ErrorItem::of_detection((image, at), found, verdict, truth)
    });
    let missed = truth.iter().zip(&matches.truth).enumerate();
    let missed = missed.filter(|(_, (truth, by))| by.is_none() && !truth.is_crowd);
    let missed = missed.map(|(at, (truth, _))| ErrorItem::of_annotation((image, at), truth));
    wrong.chain(missed).collect()
}

/// The errors that the page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum ErrorChoice {
    /// All.
    #[default]
    All,
    /// Those of a group.
    Group(ErrorGroup),
    /// Those of a cell of the confusion matrix.
    Cell(Cell),
    /// Detections of a class with an error of this type.
    Found(usize, ErrorType),
}

impl ErrorChoice {
    /// Returns whether the errors of a group are shown.
    ///
    /// A cell of two classes shows the detections of these classes whether their place is right (Cls) or not (Both); the
    /// last row of the matrix shows all detections that it counts.
    pub fn includes(&self, group: &ErrorGroup) -> bool {
        let is = |error| group.kind == ErrorKind::Wrong(error);
        match *self {
            Self::All => true,
            Self::Group(chosen) => *group == chosen,
            Self::Cell((None, found)) => {
                group.found == found && found.is_some() && !is(ErrorType::Classification)
            }
            Self::Cell((truth, None)) => group.kind == ErrorKind::Missed && group.truth == truth,
            Self::Cell((truth, found)) => {
                let mixes_up = is(ErrorType::Classification)
                    || is(ErrorType::Both)
                    || group.kind == ErrorKind::WrongClass;
                mixes_up && (group.truth, group.found) == (truth, found)
            }
            Self::Found(class, error) => is(error) && group.found == Some(class),
        }
    }

    /// Returns a description for the list of groups.
    pub(crate) fn name(&self, classes: &ClassTable) -> String {
        match *self {
            Self::All => "all".to_owned(),
            Self::Group(group) => group.name(classes),
            Self::Cell((None, found)) => {
                let found = classes.name(found.unwrap_or(usize::MAX));
                format!("{found} matching no annotation")
            }
            Self::Cell((Some(truth), found)) => match found {
                Some(found) => {
                    format!("{} as {}", classes.name(truth), classes.name(found))
                }
                None => format!("missed {}", classes.name(truth)),
            },
            Self::Found(class, error) => {
                format!("{} {}", error.short_name(), classes.name(class))
            }
        }
    }
}

/// The state of the Errors page.
#[derive(Debug, Clone, Default)]
pub struct ErrorWall {
    /// `None` before the errors have been listed.
    list: Option<Arc<ErrorList>>,
    choice: ErrorChoice,
    /// The indices of the chosen errors.
    shown: Arc<Vec<u32>>,
    /// The positions among the shown errors that were in sight when the page was last drawn.
    pub in_sight: Range<usize>,
    /// The number of crops in a row when the page was last drawn.
    pub columns: usize,
    /// The error that was opened last.
    pub opened: Option<ErrorItem>,
}

impl ErrorWall {
    /// Returns the errors, once they have been listed.
    pub fn list(&self) -> Option<&Arc<ErrorList>> {
        self.list.as_ref()
    }

    /// Returns which of the errors are shown.
    pub fn choice(&self) -> ErrorChoice {
        self.choice
    }

    /// Returns the indices of the errors that are shown.
    pub fn shown(&self) -> &Arc<Vec<u32>> {
        &self.shown
    }

    pub(crate) fn set_list(&mut self, list: Arc<ErrorList>) {
        self.list = Some(list);
        self.choose(self.choice);
    }

    /// Shows some of the errors.
    pub fn choose(&mut self, choice: ErrorChoice) {
        self.choice = choice;
        let items = self.list.as_ref().map(|list| list.items.as_slice());
        let items = items.unwrap_or_default().iter().enumerate();
        let chosen = items.filter(|(_, item)| choice.includes(&item.group));
        self.shown = Arc::new(chosen.map(|(at, _)| at as u32).collect());
    }
}

impl ViewerState {
    /// Shows some of the errors on their page.
    pub(crate) fn show_errors(&mut self, choice: ErrorChoice) {
        self.errors.choose(choice);
        self.tab = PanelId::ERRORS;
    }

    /// Shows the image of an error, with its box, if it has one, selected and enlarged. Filters that hide the box are
    /// cleared.
    pub(crate) fn open_error(&mut self, item: ErrorItem) {
        if let Compare::Image(_) = self.compare {
            self.focus = Pane::First;
        }
        self.go_to(item.image as usize);
        self.errors.opened = Some(item);
        let of = item.subject.box_ref();
        let (group, filter) = (item.group, &mut self.settings.filter);
        match of {
            Some(BoxRef::Detection(_)) => filter.show_detections = true,
            Some(BoxRef::GroundTruth(_)) => filter.show_annotations = true,
            None => {}
        }
        if let Some(class) = group.found.or(group.truth) {
            filter.hidden_classes.remove(&class);
        }
        self.selected = of;
        self.zoom_to = item.subject.box_in_image();
        self.tab = PanelId::IMAGE;
    }
}

/// A square part of an image around a box, or the whole image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Crop {
    /// The index of the image.
    pub image: usize,
    left: i32,
    top: i32,
    side: u32,
    /// The longer side of the decoded part, in pixels; a smaller part is not enlarged.
    pub(crate) pixels: u32,
}

impl Crop {
    /// The share of the longer side of the box on each side of it.
    const MARGIN: f32 = 0.35;
    /// The least width and height, in pixels of the image: a smaller part has nothing to recognize.
    const MIN_SIDE: f32 = 40.0;
    /// The longer side of the crop of an error, in pixels: that of its place on the page.
    pub(crate) const PIXELS: u32 = 160;

    /// Returns the crop around a box with a margin.
    pub(crate) fn around(image: usize, of: BoxXyxy) -> Self {
        let longer = of.width().max(of.height());
        let side = (longer * (1.0 + 2.0 * Self::MARGIN)).max(Self::MIN_SIDE);
        let corner = |from: f32, to: f32| ((from + to - side) / 2.0).round() as i32;
        Self {
            image,
            left: corner(of.x1, of.x2),
            top: corner(of.y1, of.y2),
            side: side.round() as u32,
            pixels: Self::PIXELS,
        }
    }

    /// Returns the crop that is the whole image, whatever its size, decoded with this longer side.
    pub(crate) const fn whole(image: usize, pixels: u32) -> Self {
        Self {
            image,
            left: 0,
            top: 0,
            side: u32::MAX,
            pixels,
        }
    }

    /// Returns left, top, width and height of the crop in an image of this width and height: it is moved into the
    /// image, and not larger.
    pub(crate) fn inside(&self, [width, height]: [u32; 2]) -> [u32; 4] {
        let along = |from: i32, length: u32| {
            let side = self.side.min(length);
            let last = i64::from(length - side);
            (i64::from(from).clamp(0, last) as u32, side)
        };
        let (left, width) = along(self.left, width);
        let (top, height) = along(self.top, height);
        [left, top, width, height]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{found, two_images};
    use crate::state::{Settings, tally};

    /// Detections of `a.png`: correct, a duplicate, badly located, on background, of another class.
    fn all_errors() -> (Collection, Predictions) {
        let mut predictions = Predictions::empty("test", 2);
        let boxes = vec![
            found(0.0, 0, 0.9),
            found(1.0, 0, 0.8),
            found(6.0, 0, 0.7),
            found(45.0, 0, 0.6),
            found(20.0, 0, 0.65),
        ];
        predictions.set(0, boxes);
        (two_images(), predictions)
    }

    #[test]
    fn errors_are_listed_by_score_and_missed_annotations_last() {
        let (collection, predictions) = all_errors();
        let filter = BoxFilter::default();
        let list = ErrorList::of(&collection, &predictions, &filter);
        let classes = collection.classes();
        let lines: Vec<String> = list.items.iter().map(|item| item.text(&classes)).collect();
        assert_eq!(
            lines,
            [
                "Dupe round 0.80",
                "Loc round 0.70",
                "Cls flat, long as round 0.65",
                "Bkg round 0.60",
                "missed flat, long",
            ]
        );
        let total = tally(&collection, &predictions, &filter).total;
        assert_eq!(list.items.len(), total.wrong + total.missed);
        assert_eq!(
            list.groups.iter().map(|(_, count)| count).sum::<usize>(),
            list.items.len()
        );
        let shown: Vec<u32> = (0..5).collect();
        let csv = list.to_csv(&shown, &collection, &classes);
        let mut lines = csv.lines();
        assert_eq!(
            lines.next(),
            Some("image,type,class,true class,score,IoU,x,y,width,height")
        );
        assert_eq!(
            lines.nth(2),
            Some("a.png,Cls,round,\"flat, long\",0.65,1,20,0,10,10")
        );
        assert_eq!(lines.next(), Some("a.png,Bkg,round,,0.6,,45,0,10,10"));
        assert_eq!(
            lines.next(),
            Some("a.png,missed,,\"flat, long\",,,20,0,10,10")
        );
    }

    #[test]
    fn a_cell_of_the_confusion_matrix_shows_its_boxes() {
        let (collection, predictions) = all_errors();
        let filter = BoxFilter::default();
        let mut wall = ErrorWall::default();
        wall.set_list(Arc::new(ErrorList::of(&collection, &predictions, &filter)));
        let cells = tally(&collection, &predictions, &filter).cells;
        for (cell, (count, _)) in cells {
            wall.choose(ErrorChoice::Cell(cell));
            // Correct boxes are no errors.
            let expected = if cell.0 == cell.1 { 0 } else { count };
            assert_eq!(wall.shown().len(), expected, "{cell:?}");
        }
        wall.choose(ErrorChoice::Cell((Some(1), None)));
        assert_eq!(**wall.shown(), [4], "missed, and found as another class");
        wall.choose(ErrorChoice::Found(0, ErrorType::Localization));
        assert_eq!(**wall.shown(), [1]);
        wall.choose(ErrorChoice::All);
        assert_eq!(wall.shown().len(), 5);
    }

    #[test]
    fn opening_an_error_selects_its_box_and_shows_it() {
        let (collection, predictions) = all_errors();
        let filter = BoxFilter::default();
        let list = ErrorList::of(&collection, &predictions, &filter);
        let mut state = ViewerState::new(Settings::default());
        state.open_collection(Arc::new(collection));
        state.predictions[0] = predictions;
        state.settings.filter.show_annotations = false;
        state.settings.filter.hidden_classes = [0, 1].into();
        state.current = 1;
        state.tab = PanelId::ERRORS;
        let missed = list.items[4];
        state.open_error(missed);
        assert_eq!((state.current, state.tab), (0, PanelId::IMAGE));
        assert_eq!(state.selected, Some(BoxRef::GroundTruth(1)));
        assert_eq!(state.zoom_to, Some(BoxXyxy::new(20.0, 0.0, 30.0, 10.0)));
        let boxes = state.boxes(Pane::First);
        assert!(
            state
                .visible_boxes(&boxes)
                .contains(&BoxRef::GroundTruth(1))
        );
    }

    #[test]
    fn a_crop_is_moved_into_the_image_and_never_larger() {
        let of = |x1, y1, x2, y2| Crop::around(3, BoxXyxy::new(x1, y1, x2, y2));
        let middle = of(100.0, 100.0, 200.0, 150.0);
        assert_eq!(middle.inside([640, 480]), [65, 40, 170, 170]);
        let corner = of(0.0, 0.0, 100.0, 50.0);
        assert_eq!(corner.inside([640, 480]), [0, 0, 170, 170]);
        let edge = of(600.0, 470.0, 640.0, 480.0);
        assert_eq!(edge.inside([640, 480]), [572, 412, 68, 68]);
        assert_eq!(middle.inside([120, 90]), [0, 0, 120, 90]);
        let tiny = of(50.0, 50.0, 52.0, 53.0);
        assert_eq!(tiny.inside([640, 480]), [31, 32, 40, 40]);
        let broken = of(f32::NAN, 0.0, f32::INFINITY, 1e30);
        assert_eq!(broken.inside([64, 48]), [0, 0, 64, 48]);
    }
}
