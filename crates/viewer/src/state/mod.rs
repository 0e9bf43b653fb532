//! The state of the viewer, without widgets: panels draw and change it, worker threads send it
//! messages, tests read it.

mod boxes;
mod charts;
mod classes;
mod classified;
mod collection;
mod compare;
mod comparison;
mod correction_store;
mod corrections;
mod errors;
mod explanation;
pub(crate) mod export;
mod filter;
mod gallery;
mod gates;
mod grid;
mod history;
mod kept_results;
mod kept_weights;
mod model_table;
mod predictions;
mod run_log;
mod settings;
mod shown;
mod tally;
mod typed_path;
mod zoom;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;

pub use boxes::{BoxRef, CurrentBoxes};
pub use charts::{Chart, ChartBar, charts};
pub use classes::{ClassTable, ShownClass};
pub(crate) use classified::tally_classes;
pub use classified::{
    Classifications, ClassifiedImage, ClassifierClasses, Mistake, TrueClass, mistakes,
};
pub use collection::{Collection, ShownImages};
pub use compare::{Compare, Pane};
pub use comparison::{
    ApChange, BlockDifference, Change, ClassChange, ComparedItem, Comparison, gate_differences,
};
pub(crate) use comparison::{compare_boxes, compare_classes, difference};
pub use correction_store::CorrectionStore;
pub use corrections::Redraw;
pub(crate) use corrections::numbers;
pub use errors::{
    Crop, ErrorChoice, ErrorGroup, ErrorItem, ErrorKind, ErrorList, ErrorSubject, ErrorWall,
};
pub(crate) use explanation::is_same;
pub use explanation::{ExplainedScore, ExplanationChoice, OffGate, ScoreExplanation, ScoreWithout};
pub use filter::BoxFilter;
pub(crate) use filter::short_score;
pub use gallery::{GalleryQuery, ImageFacts, Picked, SortBy, order};
pub use gates::{
    BlockGates, BlockMaps, GateChoice, GateSort, Inference, MapStage, StatisticsChoice,
    StatisticsSource,
};
pub(crate) use gates::{cells_in_image, sorted_channels, top_channels};
pub use grid::GridView;
pub use history::History;
pub use kept_results::{KeptResults, WeightsFile};
pub use model_table::ModelTable;
pub use predictions::{Detections, Predictions};
pub(crate) use run_log::run_name;
pub use run_log::{Curves, RunLog, smoothed};
pub use settings::{MatrixScale, Settings};
pub use tally::{Unmatched, tally};
pub(crate) use tally::{class_counts, score_at_recall, unmatched};
pub(crate) use typed_path::typed_path;
pub use zoom::Zoom;

use export::Export;
use sedet_core::excitation::Excitation;
use sedet_core::model::NetworkConfig;
use sedet_data::annotations::Category;
use sedet_data::annotations::layout::Split;
use sedet_data::boxes::BoxXyxy;
use sedet_data::eval::CocoEvaluation;
use sedet_data::eval::classification::ClassificationEvaluation;
use sedet_data::eval::confusion::Confusion;

/// Identifies a panel by its name, which the tab shows.
///
/// The constants name the panels that the state itself switches to. Another panel makes its id in its
/// own file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PanelId(pub &'static str);

impl PanelId {
    /// One image with its boxes and gates.
    pub const IMAGE: Self = Self("Image");
    /// Many images with their boxes.
    pub const GRID: Self = Self("Grid");
    /// Gate statistics over a dataset.
    pub const GATES: Self = Self("Gates");
    /// Dataset histograms, confusion matrix and metrics.
    pub(crate) const DATA: Self = Self("Data");
    /// The boxes that are wrong.
    pub const ERRORS: Self = Self("Errors");
    /// Curves of a training run.
    pub const TRAINING: Self = Self("Training");
    /// Layers with parameters and multiply-adds.
    pub const MODEL: Self = Self("Model");
}

impl Default for PanelId {
    fn default() -> Self {
        Self::IMAGE
    }
}

/// Properties of a loaded network.
#[derive(Debug, Clone)]
pub struct NetworkInfo {
    /// Identifies this network among all that have been loaded, also if a file is loaded again.
    pub id: u64,
    /// The checkpoint.
    pub path: PathBuf,
    /// The file of its weights; none if it is embedded in the program or was replaced while it was loaded.
    pub file: Option<WeightsFile>,
    /// The configuration.
    pub config: NetworkConfig,
    /// A title such as `shapes-se-resnet18.safetensors: detector, 6 classes`.
    pub title: String,
    /// The classes of a detector.
    pub categories: Vec<Category>,
    /// The names of its classes by label.
    pub class_names: Vec<String>,
    /// Whether these names are its own, and not only numbers.
    pub has_class_names: bool,
    /// Whether it is a detector; otherwise a classifier.
    pub is_detector: bool,
    /// Names of its SE blocks.
    pub blocks: Vec<String>,
}

/// A message for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewerNotice {
    /// One line that names the file or object.
    pub text: String,
    /// Whether it reports an error.
    pub is_error: bool,
}

/// Progress of a background task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskProgress {
    /// The task; identifies it.
    pub label: String,
    /// Processed images.
    pub done: usize,
    /// All images of the task; 0 if unknown.
    pub total: usize,
}

/// A request of a panel to the worker threads.
#[derive(Debug, Clone)]
pub enum Request {
    /// Open a path or a named dataset.
    Open(String),
    /// Open files that were dropped together: images are listed together, other files opened one by one.
    OpenFiles(Vec<PathBuf>),
    /// Choose what to open in a dialog of the system.
    Browse(Browse),
    /// Open the shipped detector on generated scenes.
    OpenShipped,
    /// Open another split of the dataset.
    OpenSplit(Split),
    /// Load the second network of a comparison from this path.
    OpenSecond(String),
    /// Draw the curves of another run, too.
    CompareRun(PathBuf),
    /// Draw the curves of another run no longer.
    ForgetRun(PathBuf),
    /// Run the network on every image.
    DetectAll(Pane),
    /// Measure the gates over every image, or over this many.
    MeasureGates(Option<usize>),
    /// Measure the gates of the second network over the images that those of the first were measured on.
    MeasureSecondGates,
    /// Compute COCO metrics of the detections.
    Evaluate,
    /// Compute COCO metrics of both networks over the images that both have processed.
    EvaluateBoth,
    /// Set the IoU threshold, and the score threshold that reaches a recall at it, and list the images with
    /// errors.
    ShowRecall {
        /// The recall.
        recall: f64,
        /// The IoU threshold.
        iou: f32,
    },
    /// Cancel the background tasks.
    Cancel,
    /// Write the files of an export.
    Export(&'static Export),
    /// Copy the first image that these exports write to the clipboard.
    Copy(&'static [Export]),
}

/// What a dialog of the system chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Browse {
    /// One or several files.
    Files,
    /// A directory.
    Directory,
}

/// The whole state.
#[derive(Debug, Clone, Default)]
pub struct ViewerState {
    /// The images.
    pub collection: Option<Arc<Collection>>,
    /// The classes of everything shown.
    pub classes: ClassTable,
    /// The network, and the one it is compared with.
    pub networks: [Option<NetworkInfo>; 2],
    /// The predictions of each network.
    pub predictions: [Predictions; 2],
    /// The classes of the images, for each network that is a classifier.
    pub classified: [Classifications; 2],
    /// The classes of each network that is a classifier among those shown.
    pub classifiers: [Option<Arc<ClassifierClasses>>; 2],
    /// The images that each classifier gives a wrong class, the most confident mistakes first.
    pub mistakes: [Arc<Vec<Mistake>>; 2],
    /// The metrics of each classifier over its processed images; computed while the Data page is open.
    pub accuracies: [Option<Arc<ClassificationEvaluation>>; 2],
    /// The images that cannot be read, as far as that is known.
    pub unreadable: BTreeSet<usize>,
    /// The results of other weights of the same training as the first network's.
    pub kept_results: Vec<KeptResults>,
    /// Whether the first predictions come from a results file; inference then adds no boxes.
    pub from_results: bool,
    /// The index of the current image.
    pub current: usize,
    /// The index and the pixels of the image in each pane, once decoded.
    pub pixels: [Option<(usize, Arc<RgbImage>)>; 2],
    /// The inference result of the image in each pane.
    pub inference: [Option<Inference>; 2],
    /// Feature maps of the current image.
    pub maps: Option<BlockMaps>,
    /// The pane of a comparison that the selected box, the table and the counts are of.
    pub focus: Pane,
    /// The selected box, in the pane of the focus.
    pub selected: Option<BoxRef>,
    /// The box under the pointer, in the image or in the table, and its pane.
    pub hovered: Option<(Pane, BoxRef)>,
    /// The box under the pointer found while drawing; becomes `hovered` at the end of the frame.
    pub hovered_next: Option<(Pane, BoxRef)>,
    /// Width and height of the view of the image as last drawn, in points.
    pub view_size: [f32; 2],
    /// Zoom and position of the image, shared by both panes.
    pub zoom: Zoom,
    /// The box that the image is zoomed to once it has been decoded, in pixels of the image.
    pub zoom_to: Option<BoxXyxy>,
    /// The comparison.
    pub compare: Compare,
    /// The position of the divider between two networks' panes, 0 to 1.
    pub wipe: f32,
    /// Filter and order of the gallery.
    pub query: GalleryQuery,
    /// Whether the first image of the next order will be shown.
    pub shows_first: bool,
    /// The images that the gallery lists.
    pub order: Arc<Vec<u32>>,
    /// Correct, wrong and missed boxes over all images, for each network.
    pub tallies: [Option<Arc<Confusion>>; 2],
    /// The detections of the network in focus that match no annotation; counted while the Data page is open.
    pub unmatched: Arc<Unmatched>,
    /// The errors of the network in focus; listed while their page is open.
    pub errors: ErrorWall,
    /// The images that the grid has drawn last.
    pub grid: GridView,
    /// Histograms of the dataset.
    pub charts: Arc<Vec<Chart>>,
    /// COCO metrics of each network.
    pub evaluations: [Option<Arc<CocoEvaluation>>; 2],
    /// What differs between both networks, while they are compared.
    pub comparison: Option<Arc<Comparison>>,
    /// The item of the comparison that was shown last: its kind, and its position among those of the kind.
    pub walked: Option<(Change, usize)>,
    /// The metrics of both networks over the same images.
    pub ap_change: Option<Arc<ApChange>>,
    /// The gate statistics of the second network, and which network that was.
    pub second_gates: Option<(u64, Arc<Excitation>)>,
    /// Gate statistics over a dataset.
    pub statistics: Option<Arc<Excitation>>,
    /// The origin of the gate statistics.
    pub statistics_source: StatisticsSource,
    /// The selection in the gate statistics.
    pub statistics_choice: StatisticsChoice,
    /// The selection among the gates of the current image.
    pub gates: GateChoice,
    /// The explanation of the selected box or class.
    pub explanation: ExplanationChoice,
    /// The training run that is followed.
    pub run: Option<RunLog>,
    /// Other runs, whose curves are drawn beside those of the run.
    pub compared_runs: Vec<RunLog>,
    /// The iteration of the run whose kept weights are shown; otherwise the best ones, also when they change.
    pub kept_iteration: Option<usize>,
    /// The lines that are hidden in the charts of the Training page: chart and line.
    pub hidden_curves: BTreeSet<(String, String)>,
    /// Whether the run has written a checkpoint since the open one, which waits for a task to end.
    pub is_outdated: bool,
    /// The layers of the network.
    pub model: Option<Arc<ModelTable>>,
    /// An image on its way to the clipboard.
    pub copied: Option<Arc<egui::ColorImage>>,
    /// The visible panel.
    pub tab: PanelId,
    /// Messages for the user, oldest first.
    pub notices: Vec<ViewerNotice>,
    /// The number of errors among the notices that the user has closed.
    pub closed_errors: usize,
    /// The corrections of labels.
    pub correction_store: CorrectionStore,
    /// When the error that is shown over the content was first drawn, in seconds.
    pub error_since: Option<f64>,
    /// The pages, images and thresholds before.
    pub history: History,
    /// Whether nothing but the image is shown.
    pub full_image: bool,
    /// The running background tasks.
    pub progress: Vec<TaskProgress>,
    /// Requests to the worker threads; handed over after each frame.
    pub requests: Vec<Request>,
    /// The text of the path field.
    pub path: String,
    /// Whether the keyboard shortcuts are shown.
    pub show_help: bool,
    /// Whether the list of corrected labels is shown.
    pub show_corrections: bool,
    /// The annotation whose box is drawn again.
    pub redraws: Option<Redraw>,
    /// Whether the list of notices is shown.
    pub show_notices: bool,
    /// Settings that are kept between sessions.
    pub settings: Settings,
}

impl ViewerState {
    /// Creates a state without images or networks.
    pub fn new(settings: Settings) -> Self {
        Self {
            wipe: 0.5,
            settings,
            ..Self::default()
        }
    }

    /// Returns which boxes are drawn, and the thresholds.
    pub fn filter(&self) -> &BoxFilter {
        &self.settings.filter
    }

    /// Returns the number of open images.
    pub fn image_count(&self) -> usize {
        self.collection.as_ref().map_or(0, |c| c.len())
    }

    /// Returns the pane that table, counts and keys are about.
    pub fn focused(&self) -> Pane {
        match self.compare {
            Compare::Off => Pane::First,
            Compare::Image(_) | Compare::Network => self.focus,
        }
    }

    /// Returns the network that counts and metrics are about.
    pub(crate) fn network_in_focus(&self) -> Pane {
        self.network_of(self.focused())
    }

    /// Returns the COCO metrics of the network in focus.
    pub fn evaluation(&self) -> Option<&Arc<CocoEvaluation>> {
        self.evaluations[self.network_in_focus().index()].as_ref()
    }

    /// Returns whether there are or will be detections: from a detector or a results file. Thresholds,
    /// verdicts and counts of errors are about detections.
    pub(crate) fn finds_boxes(&self) -> bool {
        let is_detector = |at: usize| self.networks[at].as_ref().is_some_and(|n| n.is_detector);
        let is_compared = self.compare == Compare::Network;
        self.from_results || is_detector(0) || (is_compared && is_detector(1))
    }

    /// Returns whether boxes are right or wrong: there are annotations and detections.
    pub(crate) fn has_verdicts_of_boxes(&self) -> bool {
        self.finds_boxes() && self.collection.as_ref().is_some_and(|c| c.has_boxes())
    }

    /// Returns whether the images can be listed in an order.
    pub(crate) fn can_sort(&self, by: SortBy) -> bool {
        match by {
            SortBy::Position | SortBy::Name => true,
            SortBy::SurestMistake => self.judges_classes(Pane::First),
            SortBy::MostObjects => self.collection.as_ref().is_some_and(|c| c.has_boxes()),
            SortBy::WorstF1 | SortBy::MostWrong | SortBy::MostMissed => {
                self.has_verdicts_of_boxes()
            }
        }
    }

    /// Returns whether there are boxes of any kind: annotations or detections. Box controls and their keys are about
    /// them.
    pub(crate) fn shows_boxes(&self) -> bool {
        self.finds_boxes() || self.collection.as_ref().is_some_and(|c| c.has_boxes())
    }

    /// Returns the inference result of the current image.
    pub(crate) fn current_inference(&self) -> Option<&Inference> {
        let inference = self.inference[0].as_ref();
        inference.filter(|inference| inference.image == self.current)
    }

    /// Returns the number of images that a network could still be run on.
    pub(crate) fn remaining(&self, network: Pane) -> usize {
        let unreadable = self.unreadable.iter();
        let unreadable = unreadable.filter(|&&index| !self.is_processed(network, index));
        self.image_count()
            .saturating_sub(self.processed(network) + unreadable.count())
    }

    /// Returns the pixels of the current image.
    pub(crate) fn current_pixels(&self) -> Option<&Arc<RgbImage>> {
        let (index, pixels) = self.pixels[0].as_ref()?;
        (*index == self.current).then_some(pixels)
    }

    /// Adds a notice.
    pub(crate) fn notify(&mut self, text: impl Into<String>) {
        self.notices.push(ViewerNotice {
            text: text.into(),
            is_error: false,
        });
    }

    /// Adds a notice that reports an error. One that is known already moves to the end: the view, the gallery
    /// and tasks on all images can meet the same broken file.
    pub(crate) fn report_error(&mut self, text: impl Into<String>) {
        let notice = ViewerNotice {
            text: text.into(),
            is_error: true,
        };
        // An error that is known already is shown again.
        if self.notices.contains(&notice) {
            self.closed_errors = self.closed_errors.saturating_sub(1);
        }
        self.error_since = None;
        self.notices.retain(|known| *known != notice);
        self.notices.push(notice);
    }

    /// Replaces the images and discards everything computed for the old ones.
    pub fn open_collection(&mut self, collection: Arc<Collection>) {
        self.classes = collection.classes();
        let images = collection.len();
        self.predictions = [0, 1].map(|at| {
            let title = self.networks[at].as_ref().map(|n| n.title.clone());
            Predictions::empty(title.unwrap_or_default(), images)
        });
        self.kept_results.clear();
        self.unreadable.clear();
        self.from_results = false;
        // What is opened is of the first network.
        self.focus = Pane::First;
        self.current = 0;
        self.pixels = [None, None];
        self.inference = [None, None];
        self.maps = None;
        (self.selected, self.hovered) = (None, None);
        self.zoom.fit();
        self.zoom_to = None;
        if let Compare::Image(_) = self.compare {
            self.compare = Compare::Off;
        }
        self.query = GalleryQuery {
            sort: self.query.sort,
            ..GalleryQuery::default()
        };
        if !collection.has_boxes() && self.query.sort != SortBy::Name {
            self.query.sort = SortBy::Position;
        }
        self.settings.filter.hidden_classes.clear();
        self.order = Arc::new((0..images as u32).collect());
        self.tallies = [None, None];
        self.unmatched = Arc::default();
        self.errors = ErrorWall::default();
        self.charts = Arc::default();
        self.evaluations = [None, None];
        self.forget_comparison();
        self.tab = PanelId::IMAGE;
        self.redraws = None;
        self.collection = Some(collection);
        self.forget_history();
        for network in [Pane::First, Pane::Second] {
            let known = self.networks[network.index()].as_ref();
            let categories = known.map(|network| network.categories.clone());
            self.classes.merge(&categories.unwrap_or_default());
            self.match_classifier(network);
        }
        self.note_foreign_classes();
        if let Err(error) = self.correction_store.refresh() {
            self.report_error(error);
        }
        let corrections = self.corrections().len();
        if corrections > 0 {
            let corrections = sedet_data::text::count(corrections, "correction");
            self.notify(format!("{corrections} of labels from before"));
        }
    }

    /// Closes the error that is shown over the content, and those before it.
    pub(crate) fn close_error(&mut self) {
        let errors = self.notices.iter().filter(|notice| notice.is_error);
        self.closed_errors = errors.count();
        self.error_since = None;
    }

    /// Returns whether an error is shown over the content.
    pub(crate) fn shows_error(&self) -> bool {
        let errors = self.notices.iter().filter(|notice| notice.is_error);
        errors.count() > self.closed_errors
    }

    /// Shows another image. An index out of range is ignored.
    pub(crate) fn go_to(&mut self, index: usize) {
        if index < self.image_count() && index != self.current {
            self.current = index;
            (self.selected, self.hovered) = (None, None);
            self.maps = None;
            self.zoom.fit();
            (self.zoom_to, self.redraws) = (None, None);
        }
    }

    /// Moves by this many images in the gallery and stops at its ends.
    pub fn step(&mut self, by: isize) {
        let position = self.order.iter().position(|&i| i as usize == self.current);
        let last = self.order.len().saturating_sub(1) as isize;
        let next = position.map_or(0, |position| (position as isize + by).clamp(0, last));
        if let Some(&index) = self.order.get(next as usize) {
            self.go_to(index as usize);
        }
    }

    /// Lists the images of a query in place of those of the previous one, and shows the first as soon as their
    /// order is known.
    pub(crate) fn list(&mut self, query: GalleryQuery) {
        self.query = query;
        self.shows_first = true;
        self.tab = PanelId::IMAGE;
    }

    /// Lists the images behind a bar or cell of a chart, all of them, and shows the first.
    pub(crate) fn pick(&mut self, label: impl Into<String>, images: Vec<u32>) {
        if let Some(&first) = images.first() {
            let label = label.into();
            self.go_to(first as usize);
            self.list(GalleryQuery {
                picked: Some(Picked {
                    label,
                    images: Arc::new(images),
                }),
                sort: self.query.sort,
                ..GalleryQuery::default()
            });
        }
    }

    /// Sets the thresholds of a recall and lists the images with errors, most missed first.
    pub(crate) fn show_recall(&mut self, recall: f64, iou: f32, score: Option<f32>) {
        let Some(score) = score else {
            self.notify(format!(
                "no score threshold reaches a recall of {recall:.2} at IoU {iou:.2}"
            ));
            return;
        };
        (self.settings.filter.score, self.settings.filter.iou) = (score, iou);
        self.list(GalleryQuery {
            errors_only: true,
            sort: SortBy::MostMissed,
            ..GalleryQuery::default()
        });
        self.notify(format!(
            "score threshold {score:.3} for a recall of {recall:.2} at IoU {iou:.2}; listing the images \
             with errors, most missed first"
        ));
    }

    /// Sets the order of the images of a query, and shows the first where that was asked for.
    pub(crate) fn set_order(&mut self, order: Vec<u32>, of: &GalleryQuery) {
        self.order = Arc::new(order);
        if *of == self.query
            && std::mem::take(&mut self.shows_first)
            && let Some(&first) = self.order.first()
        {
            self.go_to(first as usize);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sedet_data::annotations::{AnnotationStoreBuilder, NewAnnotation};
    use sedet_data::boxes::ImageSize;
    use sedet_data::datasets::detection::DetectionDataset;
    use sedet_data::eval::matching::FoundBox;

    /// Two images: `a.png` with a "round" object at x = 0..10 and a "flat, long" one at 20..30, `b.png` without
    /// objects.
    pub(crate) fn two_images() -> Collection {
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(3, "round");
        builder.add_category(5, "flat, long");
        for (id, name) in [(11, "a.png"), (12, "b.png")] {
            builder.add_image(id, name, ImageSize::new(64, 96));
        }
        for (id, category_id, x) in [(1, 3, 0.0), (2, 5, 20.0)] {
            builder.add_annotation(NewAnnotation {
                id,
                image_id: 11,
                category_id,
                xywh: [x, 0.0, 10.0, 10.0],
                area: None,
                is_crowd: false,
            });
        }
        let store = builder.build().unwrap();
        Collection {
            name: "two".into(),
            split: None,
            images: ShownImages::Boxes(Arc::new(DetectionDataset::in_directory(store, "nowhere"))),
            annotation_file: Err("a test".into()),
        }
    }

    fn opened() -> ViewerState {
        let mut state = ViewerState::new(Settings::default());
        state.open_collection(Arc::new(two_images()));
        state
    }

    /// A detection of 10 by 10 pixels at the top of an image.
    pub(crate) fn found(x: f32, class: usize, score: f32) -> FoundBox {
        FoundBox {
            box_in_image: BoxXyxy::new(x, 0.0, x + 10.0, 10.0),
            class,
            score,
        }
    }

    #[test]
    fn paging_follows_the_gallery_and_stops_at_its_ends() {
        let mut state = opened();
        state.step(1);
        assert_eq!(state.current, 1);
        state.step(1);
        assert_eq!(state.current, 1);
        state.order = Arc::new(vec![1, 0]);
        state.step(1);
        assert_eq!(state.current, 0);
        state.go_to(7);
        assert_eq!(state.current, 0);
    }

    #[test]
    fn a_detection_and_its_annotation_are_partners_of_each_other() {
        let mut state = opened();
        state.predictions[0].set(0, vec![found(1.0, 0, 0.9), found(20.0, 0, 0.8)]);
        let boxes = state.boxes(Pane::First);
        let (partner, iou) = boxes.partner(BoxRef::Detection(0)).unwrap();
        assert_eq!(partner, BoxRef::GroundTruth(0));
        assert!((iou - 90.0 / 110.0).abs() < 1e-5);
        assert_eq!(
            boxes.partner(BoxRef::GroundTruth(0)).unwrap().0,
            BoxRef::Detection(0)
        );
        assert_eq!(boxes.verdict(1).unwrap().name(), "Cls");
        assert!(boxes.is_missed(1) && !boxes.is_missed(0));
        let csv = boxes.to_csv(&state.classes);
        assert!(
            csv.contains("detection,round,0.8,20,0,10,10,Cls,1\n"),
            "{csv}"
        );
        assert!(
            csv.contains("annotation,\"flat, long\",,20,0,10,10,missed,\n"),
            "{csv}"
        );
    }

    #[test]
    fn tab_cycles_through_the_visible_boxes() {
        let mut state = opened();
        state.predictions[0].set(0, vec![found(0.0, 0, 0.9), found(20.0, 0, 0.2)]);
        let boxes = state.boxes(Pane::First);
        let mut seen = Vec::new();
        for _ in 0..4 {
            state.next_box(&boxes, false);
            seen.extend(state.selected);
        }
        let (a, b, c) = (
            BoxRef::Detection(0),
            BoxRef::GroundTruth(0),
            BoxRef::GroundTruth(1),
        );
        assert_eq!(seen, [a, b, c, a]);
        state.next_box(&boxes, true);
        assert_eq!(state.selected, Some(c));
        state.settings.filter.show_only(0, 2);
        state.next_box(&boxes, false);
        assert_eq!(state.selected, Some(a));
    }

    #[test]
    fn opening_a_dataset_discards_the_state_of_the_previous_one() {
        let mut state = opened();
        state.predictions[0].set(0, vec![found(0.0, 0, 0.9)]);
        state.selected = Some(BoxRef::Detection(0));
        state.compare = Compare::Image(1);
        state.focus = Pane::Second;
        state.pick("x", vec![1]);
        assert_eq!((state.current, state.tab), (1, PanelId::IMAGE));
        state.open_collection(Arc::new(two_images()));
        assert_eq!(state.predictions[0].image_count(), 0);
        assert_eq!((state.current, state.selected), (0, None));
        assert_eq!((state.compare, state.focus), (Compare::Off, Pane::First));
        assert!(state.query.picked.is_none());
    }

    #[test]
    fn results_of_another_dataset_are_rejected() {
        use sedet_data::eval::ResultRow;
        let collection = two_images();
        let row = |image_id, category_id| ResultRow {
            image_id,
            category_id,
            bbox: [0.0, 0.0, 10.0, 10.0],
            score: 0.5,
        };
        let read = |rows: &[ResultRow]| {
            let mut classes = collection.classes();
            let read = Predictions::from_results("r.json", rows, &collection, &mut classes);
            (read, classes)
        };
        let (read_right, classes) = read(&[row(11, 3), row(12, 9)]);
        let predictions = read_right.unwrap();
        assert_eq!(predictions.get(0).unwrap()[0].class, 0);
        assert_eq!(
            classes.name(predictions.get(1).unwrap()[0].class),
            "category 9"
        );
        assert!(predictions.is_complete());
        let message = read(&[row(1, 3)]).0.unwrap_err();
        assert!(
            message.starts_with("r.json: no row belongs to an image of two"),
            "{message}"
        );
    }

    #[test]
    fn images_in_which_only_the_first_network_is_correct_are_listed() {
        let mut state = opened();
        let tally = |wrong| {
            let counts = |wrong| sedet_data::eval::matching::MatchCounts {
                correct: 1,
                wrong,
                missed: 0,
            };
            Some(Arc::new(Confusion {
                images: vec![Some(counts(0)), Some(counts(wrong))],
                ..Confusion::default()
            }))
        };
        assert!(state.only_first_correct().is_empty());
        state.tallies = [tally(0), tally(2)];
        assert_eq!(state.only_first_correct(), [1]);
    }
}
