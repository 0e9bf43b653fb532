//! Everything the window knows, without a single widget: panels draw it and change it, threads send
//! messages to it, tests ask it.

mod charts;
mod classes;
mod collection;
mod filter;
mod gallery;
mod gates;
mod model_table;
mod predictions;
mod run_log;
mod tally;
mod zoom;

use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;
use serde::{Deserialize, Serialize};

pub use charts::{Chart, ChartBar, charts};
pub use classes::{ClassTable, ShownClass};
pub use collection::{Collection, Images};
pub use filter::BoxFilter;
pub use gallery::{GalleryQuery, Picked, SortBy, order};
pub use gates::{
    BlockGates, BlockMaps, GateChoice, GateSort, Looked, MapSide, sorted_channels, top_channels,
};
pub use model_table::ModelTable;
pub use predictions::{Found, Predictions};
pub use run_log::{Curves, RunLog, smoothed};
pub use tally::{score_at_recall, tally};
pub use zoom::Zoom;

use sedet_core::excitation::Excitation;
use sedet_data::annotations::Category;
use sedet_data::boxes::BoxXyxy;
use sedet_data::csv::to_csv;
use sedet_data::eval::CocoEvaluation;
use sedet_data::eval::confusion::{Confusion, VERDICT_COLUMNS, verdict_rows};
use sedet_data::eval::matching::{FoundBox, ImageMatches, TruthBox, Verdict, match_image};

/// The pages of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub enum Tab {
    /// One image, its boxes and gates.
    #[default]
    Image,
    /// Gates over a dataset.
    Gates,
    /// Histograms, confusion matrix, metrics.
    Data,
    /// Curves of a run.
    Training,
    /// Layers and costs.
    Model,
}

impl Tab {
    /// All, in the order of the bar.
    pub const ALL: [Self; 5] = [
        Self::Image,
        Self::Gates,
        Self::Data,
        Self::Training,
        Self::Model,
    ];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "Image",
            Self::Gates => "Gates",
            Self::Data => "Data",
            Self::Training => "Training",
            Self::Model => "Model",
        }
    }
}

/// What the second half of the image shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compare {
    /// Nothing.
    #[default]
    Off,
    /// Another image through the same network.
    Image(usize),
    /// The same image through the second network.
    Network,
}

/// One of two: the network or image itself, or what it is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The one.
    A,
    /// What it is compared with.
    B,
}

impl Side {
    /// Place in an array of two.
    pub const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

/// A box of the image on show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BoxRef {
    /// An annotation.
    Truth(usize),
    /// A detection; best first.
    Found(usize),
}

/// What is known of a loaded network.
#[derive(Debug, Clone)]
pub struct NetworkInfo {
    /// Its file.
    pub path: PathBuf,
    /// For people: `shapes-se-resnet18.safetensors: detector, 6 classes`.
    pub title: String,
    /// Its classes.
    pub categories: Vec<Category>,
    /// Whether it finds boxes.
    pub is_detector: bool,
    /// Names of its SE units.
    pub blocks: Vec<String>,
}

/// Something that the user has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// One line that names the thing.
    pub text: String,
    /// Whether something failed.
    pub is_error: bool,
}

/// A long piece of work and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is done.
    pub label: String,
    /// Images done.
    pub done: usize,
    /// Of how many; 0 when nobody knows.
    pub total: usize,
}

/// What is remembered from one start to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How boxes are shown.
    pub filter: BoxFilter,
    /// Dark, or else light.
    pub dark: bool,
    /// Whether the gallery shows small images.
    pub thumbnails: bool,
    /// Smoothing of training curves, 0 to 1; off at first, so that nothing is hidden.
    pub smoothing: f64,
    /// Where exports go.
    pub export_directory: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            filter: BoxFilter::default(),
            dark: true,
            thumbnails: true,
            smoothing: 0.0,
            export_directory: PathBuf::from("sedet-exports"),
        }
    }
}

/// What can be had as a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Export {
    /// The image with its boxes, as PNG.
    ImagePng,
    /// The image with its boxes, as SVG.
    ImageSvg,
    /// Every box of the image with its verdict, as CSV.
    BoxesCsv,
    /// The gates of the image, as CSV.
    GatesCsv,
    /// The gates of the image as a heat map, PNG and SVG.
    GatesFigure,
    /// The maps of the most open channels over the image, as PNG.
    ChannelGrid,
    /// Figures 6 and 7, the heat map (PNG and SVG) and the table (CSV) of a dataset's gates.
    Statistics,
    /// Histograms and confusion matrix, as CSV.
    DataCsv,
    /// Precision and recall (PNG and SVG) and the metrics (JSON).
    Metrics,
    /// Curves of a run, PNG, SVG and CSV.
    Training,
    /// Layers, as CSV.
    ModelCsv,
}

/// What the panels ask the threads for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Open whatever is at this path or has this name.
    Open(String),
    /// Load a network to compare with.
    OpenSecond(String),
    /// Find the boxes of every image.
    DetectAll(Side),
    /// Measure the gates over every image, or so many of them.
    MeasureGates(Option<usize>),
    /// COCO's metrics of what was found.
    Evaluate,
    /// Lower or raise the score until this share of the objects is found, and list the images.
    ShowRecall(f64),
    /// Stop the long piece of work.
    Cancel,
    /// Write a file.
    Export(Export),
}

/// What the curves of classes show.
#[derive(Debug, Clone, PartialEq)]
pub struct StatisticsChoice {
    /// Position of the block.
    pub block: usize,
    /// Labels of the classes.
    pub classes: Vec<usize>,
    /// Channels in the curves, evenly spread.
    pub channels: usize,
    /// The band of one standard deviation around each mean.
    pub band: bool,
    /// The channel whose histogram is shown.
    pub channel: usize,
    /// Draw the difference of the first two classes instead.
    pub difference: bool,
}

impl Default for StatisticsChoice {
    fn default() -> Self {
        Self {
            block: 0,
            classes: Vec::new(),
            channels: 50,
            band: false,
            channel: 0,
            difference: false,
        }
    }
}

/// The boxes of the image on show and how they match.
#[derive(Debug, Clone, Default)]
pub struct CurrentBoxes {
    /// Annotations.
    pub truth: Vec<TruthBox>,
    /// Detections with enough score, best first; nothing while nobody has looked.
    pub found: Option<Vec<FoundBox>>,
    /// What became of them.
    pub matches: Option<ImageMatches>,
}

/// The whole state.
#[derive(Debug, Clone, Default)]
pub struct ViewerState {
    /// The images.
    pub collection: Option<Arc<Collection>>,
    /// The classes of everything on show.
    pub classes: ClassTable,
    /// The network, and the one it is compared with.
    pub networks: [Option<NetworkInfo>; 2],
    /// What each says.
    pub predictions: [Predictions; 2],
    /// Whether the predictions of the first come from a results file: the network then adds none.
    pub from_results: bool,
    /// The image on show.
    pub current: usize,
    /// The pixels of the image on show and of the other one, once they are read.
    pub pixels: [Option<(usize, Arc<RgbImage>)>; 2],
    /// What the networks made of them.
    pub looked: [Option<Looked>; 2],
    /// Maps of channels of the image on show.
    pub maps: Option<BlockMaps>,
    /// The box that was clicked.
    pub selected: Option<BoxRef>,
    /// The box under the pointer, in the image or the table.
    pub hovered: Option<BoxRef>,
    /// The same, as this frame finds it; becomes `hovered` at its end.
    pub pointing: Option<BoxRef>,
    /// Where the image lies; of both halves of a comparison.
    pub zoom: Zoom,
    /// The comparison.
    pub compare: Compare,
    /// Where the two halves of a comparison meet, 0 to 1.
    pub wipe: f32,
    /// What the gallery lists.
    pub query: GalleryQuery,
    /// The images of the gallery.
    pub order: Arc<Vec<u32>>,
    /// Counts over all images, and of the second network.
    pub tallies: [Option<Arc<Confusion>>; 2],
    /// Histograms of the dataset.
    pub charts: Arc<Vec<Chart>>,
    /// COCO's metrics.
    pub evaluation: Option<Arc<CocoEvaluation>>,
    /// Gates over a dataset.
    pub statistics: Option<Arc<Excitation>>,
    /// What is shown of them.
    pub statistics_choice: StatisticsChoice,
    /// The panel of gates.
    pub gates: GateChoice,
    /// The run that is watched.
    pub run: Option<RunLog>,
    /// The layers of the network.
    pub model: Option<Arc<ModelTable>>,
    /// The page.
    pub tab: Tab,
    /// What the user has to know, oldest first.
    pub notices: Vec<Notice>,
    /// The long pieces of work.
    pub progress: Vec<Progress>,
    /// For the threads; the window hands them over after each frame.
    pub requests: Vec<Request>,
    /// The path field.
    pub path: String,
    /// Whether the sheet of keys is open.
    pub show_help: bool,
    /// Whether the list of notices is open.
    pub show_notices: bool,
    /// What is remembered.
    pub settings: Settings,
}

impl ViewerState {
    /// Nothing open.
    pub fn new(settings: Settings) -> Self {
        Self {
            wipe: 0.5,
            settings,
            ..Self::default()
        }
    }

    /// How boxes are shown.
    pub fn filter(&self) -> &BoxFilter {
        &self.settings.filter
    }

    /// How many images are open.
    pub fn image_count(&self) -> usize {
        self.collection.as_ref().map_or(0, |c| c.len())
    }

    /// Tell the user that something was done.
    pub fn tell(&mut self, text: impl Into<String>) {
        self.notices.push(Notice {
            text: text.into(),
            is_error: false,
        });
    }

    /// Tell the user that something failed.
    pub fn complain(&mut self, text: impl Into<String>) {
        self.notices.push(Notice {
            text: text.into(),
            is_error: true,
        });
    }

    /// Show other images; what belongs to the old ones goes.
    pub fn open_collection(&mut self, collection: Arc<Collection>) {
        self.classes = collection.classes();
        let images = collection.len();
        self.predictions = [0, 1].map(|side| {
            let title = self.networks[side].as_ref().map(|n| n.title.clone());
            Predictions::unknown(title.unwrap_or_default(), images)
        });
        self.from_results = false;
        self.current = 0;
        self.pixels = [None, None];
        self.looked = [None, None];
        self.maps = None;
        (self.selected, self.hovered) = (None, None);
        self.zoom.fit();
        if let Compare::Image(_) = self.compare {
            self.compare = Compare::Off;
        }
        self.query = GalleryQuery {
            sort: self.query.sort,
            ..GalleryQuery::default()
        };
        if !collection.has_truth() && self.query.sort != SortBy::Name {
            self.query.sort = SortBy::Position;
        }
        self.settings.filter.hidden_classes.clear();
        self.order = Arc::new((0..images as u32).collect());
        self.tallies = [None, None];
        self.charts = Arc::default();
        self.evaluation = None;
        self.tab = Tab::Image;
        self.collection = Some(collection);
    }

    /// Use another network; what the old one said goes. Boxes of a results file stay.
    pub fn open_network(&mut self, side: Side, network: NetworkInfo) {
        let at = side.index();
        if side == Side::A {
            self.gates.block = network.blocks.len().saturating_sub(1);
            self.gates.channel = None;
            self.maps = None;
        }
        if side == Side::B || !self.from_results {
            self.predictions[at] = Predictions::unknown(network.title.clone(), self.image_count());
            self.tallies[at] = None;
            if side == Side::A {
                self.evaluation = None;
            }
        }
        self.looked[at] = None;
        if side == Side::B {
            self.compare = Compare::Network;
        }
        self.networks[at] = Some(network);
    }

    /// The second network goes.
    pub fn close_second(&mut self) {
        self.networks[1] = None;
        self.predictions[1] = Predictions::default();
        self.looked[1] = None;
        self.tallies[1] = None;
        self.compare = Compare::Off;
    }

    /// Show another image.
    pub fn go_to(&mut self, index: usize) {
        if index < self.image_count() && index != self.current {
            self.current = index;
            (self.selected, self.hovered) = (None, None);
            self.maps = None;
            self.zoom.fit();
        }
    }

    /// The image so many places further in the gallery; stays at its ends.
    pub fn step(&mut self, by: isize) {
        let place = self.order.iter().position(|&i| i as usize == self.current);
        let last = self.order.len().saturating_sub(1) as isize;
        let next = match place {
            Some(place) => (place as isize + by).clamp(0, last),
            None => 0,
        };
        if let Some(&index) = self.order.get(next as usize) {
            self.go_to(index as usize);
        }
    }

    /// List the images that a chart's bar or cell stands for, and show the first.
    pub fn pick(&mut self, label: impl Into<String>, images: Vec<u32>) {
        if let Some(&first) = images.first() {
            self.query.picked = Some(Picked {
                label: label.into(),
                images: Arc::new(images),
            });
            self.tab = Tab::Image;
            self.go_to(first as usize);
        }
    }

    /// From this score on so many objects are found: list what is wrong there, most missed first.
    pub fn show_recall(&mut self, recall: f64, score: Option<f32>) {
        let Some(score) = score else {
            self.tell(format!("a recall of {recall:.2} is reached at no score"));
            return;
        };
        self.settings.filter.score = score;
        self.query.errors_only = true;
        self.query.sort = SortBy::MostMissed;
        self.tab = Tab::Image;
        self.tell(format!(
            "from score {score:.3} on {recall:.2} of the objects are found; listed are the images \
             with errors, most missed first"
        ));
    }

    /// The image that a half shows: of a comparison of images the other one.
    pub fn image_of(&self, side: Side) -> usize {
        match (side, self.compare) {
            (Side::B, Compare::Image(other)) => other,
            _ => self.current,
        }
    }

    /// Which network's predictions a half shows.
    pub fn network_of(&self, side: Side) -> Side {
        match (side, self.compare) {
            (Side::B, Compare::Network) => Side::B,
            _ => Side::A,
        }
    }

    /// The boxes of one half.
    pub fn boxes(&self, side: Side) -> CurrentBoxes {
        let Some(collection) = self.collection.as_ref().filter(|c| !c.is_empty()) else {
            return CurrentBoxes::default();
        };
        let picture = self.image_of(side).min(collection.len() - 1);
        let truth = collection.truth(picture);
        let found = self.predictions[self.network_of(side).index()].get(picture);
        let found = found.map(|found| self.filter().counted(found).to_vec());
        let matches = match (&found, collection.has_truth()) {
            (Some(found), true) => Some(match_image(&truth, found, self.filter().iou)),
            _ => None,
        };
        CurrentBoxes {
            truth,
            found,
            matches,
        }
    }

    /// The next shown box of the image, in the order of the table; the first after the last.
    pub fn next_box(&mut self, boxes: &CurrentBoxes, backwards: bool) {
        let shown = self.shown_boxes(boxes);
        let Some(last) = shown.len().checked_sub(1) else {
            self.selected = None;
            return;
        };
        let place = shown.iter().position(|b| Some(*b) == self.selected);
        let next = match (place, backwards) {
            (None, false) => 0,
            (None, true) => last,
            (Some(place), false) => (place + 1) % shown.len(),
            (Some(place), true) => (place + last) % shown.len(),
        };
        self.selected = Some(shown[next]);
    }

    /// The boxes that are not hidden, in the order of the table: detections, then what was missed
    /// or, without detections, all annotations.
    pub fn shown_boxes(&self, boxes: &CurrentBoxes) -> Vec<BoxRef> {
        let filter = self.filter();
        let found = boxes.found.iter().flatten().enumerate();
        let found = found.filter(|(_, b)| filter.shows_found(b));
        let truth = boxes.truth.iter().enumerate();
        let truth = truth.filter(|(_, b)| filter.shows_truth(b));
        found
            .map(|(at, _)| BoxRef::Found(at))
            .chain(truth.map(|(at, _)| BoxRef::Truth(at)))
            .collect()
    }

    /// Images that the first network gets right and the second wrong: it has more wrong or missed
    /// boxes there. Both must have looked.
    pub fn only_first_right(&self) -> Vec<u32> {
        let [Some(a), Some(b)] = &self.tallies else {
            return Vec::new();
        };
        let pairs = a.images.iter().zip(&b.images).enumerate();
        let better = pairs.filter_map(|(index, pair)| match pair {
            (Some(a), Some(b)) if a.wrong + a.missed == 0 && b.wrong + b.missed > 0 => {
                Some(index as u32)
            }
            _ => None,
        });
        better.collect()
    }
}

impl CurrentBoxes {
    /// Where a box lies in the image.
    pub fn box_of(&self, of: BoxRef) -> Option<BoxXyxy> {
        match of {
            BoxRef::Truth(at) => self.truth.get(at).map(|b| b.box_in_image),
            BoxRef::Found(at) => self.found.as_ref()?.get(at).map(|b| b.box_in_image),
        }
    }

    /// The class of a box.
    pub fn class_of(&self, of: BoxRef) -> Option<usize> {
        match of {
            BoxRef::Truth(at) => self.truth.get(at).map(|b| b.class),
            BoxRef::Found(at) => self.found.as_ref()?.get(at).map(|b| b.class),
        }
    }

    /// What became of a detection.
    pub fn verdict(&self, found: usize) -> Option<&Verdict> {
        self.matches.as_ref().and_then(|m| m.found.get(found))
    }

    /// Whether an annotation was not found, if detections are known. A crowd is never missed.
    pub fn is_missed(&self, truth: usize) -> bool {
        let unmatched = |m: &ImageMatches| m.truth.get(truth).is_some_and(Option::is_none);
        self.matches.as_ref().is_some_and(unmatched) && !self.truth[truth].is_crowd
    }

    /// The other box of a pair and their overlap: the annotation that a detection matched or that
    /// explains its error, the detection that matched an annotation.
    pub fn partner(&self, of: BoxRef) -> Option<(BoxRef, f32)> {
        match of {
            BoxRef::Found(at) => {
                let verdict = self.verdict(at)?;
                let iou = verdict.overlap(self.found.as_ref()?.get(at)?, &self.truth)?;
                Some((BoxRef::Truth(verdict.about()?), iou))
            }
            BoxRef::Truth(at) => {
                let found = (*self.matches.as_ref()?.truth.get(at)?)?;
                let found = BoxRef::Found(found);
                let iou = self.box_of(found)?.iou(self.box_of(of)?);
                Some((found, iou))
            }
        }
    }

    /// Every box with its verdict as comma-separated values; boxes in pixels of the image.
    pub fn to_csv(&self, classes: &ClassTable) -> String {
        let mut rows = vec![VERDICT_COLUMNS.map(str::to_owned).into()];
        let found = self.found.as_deref().unwrap_or_default();
        let name = |class| classes.name(class).to_owned();
        rows.extend(verdict_rows(
            &self.truth,
            found,
            self.matches.as_ref(),
            name,
        ));
        to_csv(&rows)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sedet_data::annotations::{AnnotationStoreBuilder, NewAnnotation};
    use sedet_data::boxes::ImageSize;
    use sedet_data::datasets::detection::DetectionDataset;

    /// `a.png` with a round thing at 0..10 and a flat, long one at 20..30; `b.png` with nothing.
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
            images: Images::Boxes(Arc::new(DetectionDataset::in_directory(store, "nowhere"))),
        }
    }

    fn opened() -> ViewerState {
        let mut state = ViewerState::new(Settings::default());
        state.open_collection(Arc::new(two_images()));
        state
    }

    fn found(x: f32, class: usize, score: f32) -> FoundBox {
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
    fn a_detection_knows_its_annotation_and_the_other_way_round() {
        let mut state = opened();
        state.predictions[0].set(0, vec![found(1.0, 0, 0.9), found(20.0, 0, 0.8)]);
        let boxes = state.boxes(Side::A);
        let (partner, iou) = boxes.partner(BoxRef::Found(0)).unwrap();
        assert_eq!(partner, BoxRef::Truth(0));
        assert!((iou - 90.0 / 110.0).abs() < 1e-5);
        assert_eq!(boxes.partner(BoxRef::Truth(0)).unwrap().0, BoxRef::Found(0));
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
    fn tab_goes_through_the_boxes_that_are_shown() {
        let mut state = opened();
        state.predictions[0].set(0, vec![found(0.0, 0, 0.9), found(20.0, 0, 0.2)]);
        let boxes = state.boxes(Side::A);
        let mut seen = Vec::new();
        for _ in 0..4 {
            state.next_box(&boxes, false);
            seen.extend(state.selected);
        }
        let (a, b, c) = (BoxRef::Found(0), BoxRef::Truth(0), BoxRef::Truth(1));
        assert_eq!(seen, [a, b, c, a]);
        state.next_box(&boxes, true);
        assert_eq!(state.selected, Some(c));
        state.settings.filter.solo(0, 2);
        state.next_box(&boxes, false);
        assert_eq!(state.selected, Some(a));
    }

    #[test]
    fn another_data_set_forgets_what_belonged_to_the_old_one() {
        let mut state = opened();
        state.predictions[0].set(0, vec![found(0.0, 0, 0.9)]);
        state.selected = Some(BoxRef::Found(0));
        state.compare = Compare::Image(1);
        state.pick("x", vec![1]);
        assert_eq!((state.current, state.tab), (1, Tab::Image));
        state.open_collection(Arc::new(two_images()));
        assert_eq!(state.predictions[0].known(), 0);
        assert_eq!((state.current, state.selected), (0, None));
        assert_eq!(state.compare, Compare::Off);
        assert!(state.query.picked.is_none());
    }

    #[test]
    fn results_of_another_data_set_are_refused() {
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
            let read = Predictions::of_results("r.json", rows, &collection, &mut classes);
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
            message.starts_with("r.json: none of its 1 rows"),
            "{message}"
        );
    }

    #[test]
    fn images_that_only_the_first_network_gets_right_are_listed() {
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
        assert!(state.only_first_right().is_empty());
        state.tallies = [tally(0), tally(2)];
        assert_eq!(state.only_first_right(), [1]);
    }
}
