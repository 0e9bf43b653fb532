//! Messages of the worker threads and their effect on the state.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use egui::ColorImage;
use image::RgbImage;

use super::{Requested, Workers};
use crate::state::{
    ApChange, BlockMaps, Chart, Collection, Comparison, Crop, ErrorList, ExplainedScore,
    GalleryQuery, Inference, Mistake, ModelTable, NetworkInfo, Pane, PanelId, Predictions, Request,
    RunLog, ScoreExplanation, ScoreWithout, StatisticsChoice, StatisticsSource, TaskProgress,
    Unmatched, ViewerState, charts,
};
use sedet_core::excitation::{Excitation, selection::default_classes};
use sedet_core::model::ImageDetection;
use sedet_data::boxes::BoxXyxy;
use sedet_data::eval::classification::ClassificationEvaluation;
use sedet_data::eval::confusion::Confusion;
use sedet_data::eval::matching::FoundBox;
use sedet_data::eval::{CocoEvaluation, ResultRow};

/// Called after each message, to wake the viewer.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// A message of a worker thread.
pub(super) enum Message {
    /// A dataset, directory or file was opened.
    Collection(Arc<Collection>),
    /// What a user has asked for was opened.
    Opened(String),
    /// A network was loaded.
    Network(Pane, Box<NetworkInfo>),
    /// A network cannot be loaded, with the reason.
    NotLoaded(Pane, String),
    /// The layers of the first network.
    Model(Arc<ModelTable>),
    /// A results file was read.
    Results(String, Vec<ResultRow>),
    /// An excitation file was read, or gates were measured.
    Statistics(Arc<Excitation>, StatisticsSource),
    /// The gates of the second network were measured; the number identifies it.
    SecondStatistics(u64, Arc<Excitation>),
    /// A training run was opened or has written events.
    Run(RunLog),
    /// A run whose curves are drawn beside others, when it was opened or has written events.
    ComparedRun(RunLog),
    /// The run that is followed has written this checkpoint.
    RunCheckpoint(PathBuf),
    /// A result for the collection of this generation.
    OfCollection(u64, CollectionMessage),
    /// The files or the directory that were chosen in a dialog.
    Chosen(Vec<PathBuf>),
    /// An image for the clipboard.
    Copied(Arc<ColorImage>),
    /// A background task has made progress.
    Progress(TaskProgress),
    /// The background task with this label has ended.
    Finished(String),
    /// A task has succeeded, with a message.
    Done(String),
    /// A task has failed, with a message.
    Failed(String),
}

/// A result for the open collection.
pub(super) enum CollectionMessage {
    /// The pixels of an image, and its texture of at most the maximum size.
    Pixels(usize, Arc<RgbImage>, Arc<ColorImage>),
    /// An image cannot be read, with the reason.
    BadImage(usize, String),
    /// An image cannot be read; a notice says why or counts it.
    Skipped(usize),
    /// The thumbnail of an image; `None` if the image cannot be read.
    Thumbnail(usize, Option<ColorImage>),
    /// A part of an image; `None` if the image cannot be read.
    Crop(Crop, Option<CroppedImage>),
    /// The inference result of an image, by the network of this pane.
    Inference(Pane, Box<Inference>, Found),
    /// The logits of images, by the classifier of this pane.
    Logits(Pane, Vec<(usize, Vec<f32>)>),
    /// Feature maps of some channels.
    Maps(BlockMaps),
    /// The explanation of a score, or why there is none.
    Explained(ExplainedScore, Result<Box<ScoreExplanation>, String>),
    /// A score with other gates, or why it cannot be computed.
    Without(ScoreWithout, Option<String>),
    /// Histograms of the dataset.
    Charts(Vec<Chart>),
    /// Counts of both networks over all images, and the order of the gallery for a query.
    Counted {
        tallies: [Option<Arc<Confusion>>; 2],
        /// While the Data page is open.
        unmatched: Option<Arc<Unmatched>>,
        /// While the Errors page is open.
        errors: Option<Arc<ErrorList>>,
        query: GalleryQuery,
        order: Vec<u32>,
        mistakes: [Arc<Vec<Mistake>>; 2],
        /// While the Data page is open.
        accuracies: [Option<Arc<ClassificationEvaluation>>; 2],
        /// While two networks are compared.
        comparison: Option<Arc<Comparison>>,
    },
    /// COCO metrics of both networks over the same images.
    EvaluatedBoth(Box<ApChange>),
    /// The score threshold that reaches a recall at an IoU threshold.
    Recall {
        recall: f64,
        iou: f32,
        score: Option<f32>,
    },
    /// COCO metrics of the network of this pane.
    Evaluated(Pane, Arc<CocoEvaluation>),
}

/// What a network finds in an image.
pub(super) enum Found {
    /// The detections of a detector.
    Boxes(Vec<ImageDetection>),
    /// The logits of a classifier.
    Logits(Vec<f32>),
}

/// A change of the textures.
pub(crate) enum TextureUpdate {
    /// All images are replaced.
    NewCollection,
    /// An image was decoded.
    Image(usize, Arc<ColorImage>),
    /// An image cannot be read.
    Bad(usize),
    /// A thumbnail was decoded; `None` if the image cannot be read.
    Thumbnail(usize, Option<ColorImage>),
    /// A part of an image was decoded; `None` if the image cannot be read.
    Crop(Crop, Option<CroppedImage>),
}

/// A part of an image, reduced.
pub(crate) struct CroppedImage {
    /// The part, in pixels of the image.
    pub region: BoxXyxy,
    pub pixels: ColorImage,
}

/// Sends the messages of a worker thread.
#[derive(Clone)]
pub(super) struct Mailbox {
    sender: Sender<Message>,
    wake: Wake,
    /// The number of tasks that have not ended.
    busy: Arc<AtomicUsize>,
}

impl Mailbox {
    pub(super) fn new(sender: Sender<Message>, wake: Wake) -> Self {
        Self {
            sender,
            wake,
            busy: Arc::default(),
        }
    }

    pub(super) fn send(&self, message: Message) {
        // The receiver is dropped when the viewer is closed.
        if self.sender.send(message).is_ok() {
            self.wake();
        }
    }

    pub(super) fn send_result(&self, generation: u64, result: CollectionMessage) {
        self.send(Message::OfCollection(generation, result));
    }

    pub(super) fn wake(&self) {
        (self.wake)();
    }

    /// Counts a task as running until the guard is dropped.
    pub(super) fn begin(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::SeqCst);
        Busy(self.clone())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::SeqCst) > 0
    }

    /// Runs a task on a thread of its own and sends its result.
    pub(super) fn spawn(&self, task: impl FnOnce() -> Message + Send + 'static) {
        let (mailbox, busy) = (self.clone(), self.begin());
        std::thread::spawn(move || {
            mailbox.send(task());
            drop(busy);
        });
    }
}

/// A running task.
pub(super) struct Busy(Mailbox);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
        self.0.wake();
    }
}

impl Workers {
    /// Applies the messages of the worker threads to the state and passes changes of textures to
    /// `textures`. A frame applies a limited number of messages, so that it does not take long.
    pub(crate) fn apply_messages(
        &mut self,
        state: &mut ViewerState,
        textures: &mut dyn FnMut(TextureUpdate),
    ) {
        const MAX_MESSAGES: usize = 64;
        for _ in 0..MAX_MESSAGES {
            let Ok(message) = self.messages.try_recv() else {
                return;
            };
            self.apply(message, state, textures);
        }
        // The next frame applies the rest.
        self.mailbox.wake();
    }

    fn apply(
        &mut self,
        message: Message,
        state: &mut ViewerState,
        textures: &mut dyn FnMut(TextureUpdate),
    ) {
        match message {
            Message::Collection(collection) => {
                textures(TextureUpdate::NewCollection);
                self.show_collection(collection, state);
            }
            Message::Network(pane, network) => {
                if pane == Pane::First {
                    self.requested.loads_weights = false;
                    if std::mem::take(&mut self.is_reload) {
                        state.notify(format!(
                            "the run has written a checkpoint; boxes, gates and counts are now of {}",
                            network.title
                        ));
                    }
                }
                state.open_network(pane, *network);
                self.requested.inferences[pane.index()] = None;
                self.requested.maps = None;
            }
            Message::NotLoaded(pane, error) => {
                if pane == Pane::First {
                    (self.requested.loads_weights, self.is_reload) = (false, false);
                }
                // What cannot be opened is not offered again.
                let name = error.split(": ").next().unwrap_or_default();
                let is_named = |path: &String| Path::new(path).ends_with(name);
                state.settings.recent.retain(|path| !is_named(path));
                state.report_error(error);
            }
            Message::Opened(text) => state.settings.add_recent(&text),
            Message::Model(model) => {
                let network = state.networks[0].as_ref();
                if network.is_some_and(|network| network.id == model.network) {
                    state.model = Some(model);
                }
            }
            Message::Results(source, rows) => show_results(&source, &rows, state),
            Message::Statistics(excitation, source) => show_statistics(excitation, source, state),
            Message::SecondStatistics(network, excitation) => {
                state.second_gates = Some((network, excitation));
            }
            Message::Run(run) => {
                let known = state.run.as_ref();
                if known.is_none_or(|known| known.directory != run.directory) {
                    state.tab = PanelId::TRAINING;
                    state.kept_iteration = None;
                }
                state.run = Some(run);
            }
            Message::ComparedRun(run) => {
                // It may have been removed from the comparison since.
                if self.compared().contains(&run.directory) {
                    let mut known = state.compared_runs.iter_mut();
                    match known.find(|known| known.directory == run.directory) {
                        Some(known) => *known = run,
                        None => state.compared_runs.push(run),
                    }
                }
            }
            Message::RunCheckpoint(path) => self.written = Some(path),
            // Results for a closed collection are dropped.
            Message::OfCollection(generation, result) => {
                if generation == self.generation() {
                    self.apply_result(result, state, textures);
                }
            }
            Message::Progress(progress) => {
                let known = state.progress.iter_mut();
                match known.into_iter().find(|p| p.label == progress.label) {
                    Some(known) => *known = progress,
                    None => state.progress.push(progress),
                }
            }
            Message::Chosen(paths) => state.requests.push(match paths.as_slice() {
                [path] => Request::Open(path.display().to_string()),
                _ => Request::OpenFiles(paths),
            }),
            Message::Copied(image) => {
                let [width, height] = image.size;
                state.notify(format!("copied an image of {width}x{height} pixels"));
                state.copied = Some(image);
            }
            Message::Finished(label) => state.progress.retain(|p| p.label != label),
            Message::Done(text) => state.notify(text),
            Message::Failed(text) => state.report_error(text),
        }
    }

    fn apply_result(
        &mut self,
        result: CollectionMessage,
        state: &mut ViewerState,
        textures: &mut dyn FnMut(TextureUpdate),
    ) {
        match result {
            CollectionMessage::Pixels(index, pixels, texture) => {
                if self.show_pixels(index, &pixels, state) {
                    textures(TextureUpdate::Image(index, texture));
                }
            }
            CollectionMessage::BadImage(index, error) => {
                state.unreadable.insert(index);
                state.report_error(error);
                textures(TextureUpdate::Bad(index));
            }
            CollectionMessage::Skipped(index) => {
                state.unreadable.insert(index);
            }
            CollectionMessage::Thumbnail(index, thumbnail) => {
                textures(TextureUpdate::Thumbnail(index, thumbnail));
            }
            CollectionMessage::Crop(crop, pixels) => textures(TextureUpdate::Crop(crop, pixels)),
            CollectionMessage::Inference(pane, inference, found) => {
                show_inference(pane, &inference, found, state);
            }
            CollectionMessage::Logits(pane, images) => state.add_logits(pane, &images),
            CollectionMessage::Maps(maps) => state.maps = Some(maps),
            CollectionMessage::Explained(of, computed) => {
                // The selection has changed since, and its own explanation is known or requested.
                if state.score_to_explain() != Ok(of) {
                    return;
                }
                if let Err(error) = &computed {
                    state.report_error(error);
                }
                state.explanation.set(of, computed.map(Arc::from));
            }
            CollectionMessage::Without(without, error) => {
                if let Some(error) = error {
                    state.report_error(error);
                }
                state.explanation.without = Some(without);
            }
            CollectionMessage::Charts(charts) => state.charts = Arc::new(charts),
            CollectionMessage::Counted {
                tallies,
                unmatched,
                errors,
                query,
                order,
                mistakes,
                accuracies,
                comparison,
            } => {
                state.comparison = comparison;
                state.tallies = tallies;
                state.mistakes = mistakes;
                state.accuracies = accuracies;
                state.unmatched = unmatched.unwrap_or_default();
                // The list is kept while an image is looked at: the page shows it again at once.
                if let Some(errors) = errors {
                    state.errors.set_list(errors);
                }
                state.set_order(order, &query);
            }
            CollectionMessage::Evaluated(network, evaluation) => {
                state.evaluations[network.index()] = Some(evaluation);
            }
            CollectionMessage::EvaluatedBoth(change) => {
                state.ap_change = Some(Arc::from(change));
            }
            CollectionMessage::Recall { recall, iou, score } => {
                state.show_recall(recall, iou, score);
            }
        }
    }

    fn show_collection(&mut self, collection: Arc<Collection>, state: &mut ViewerState) {
        let generation = self.next_generation();
        self.network.forget_images();
        self.requested = Requested::default();
        state.open_collection(collection.clone());
        self.mailbox.spawn(move || {
            let charts = CollectionMessage::Charts(charts(&collection));
            Message::OfCollection(generation, charts)
        });
    }

    /// Returns whether a pane shows the image.
    fn show_pixels(
        &mut self,
        index: usize,
        pixels: &Arc<RgbImage>,
        state: &mut ViewerState,
    ) -> bool {
        let request = Some((self.generation(), index));
        let mut is_shown = false;
        for pane in [Pane::First, Pane::Second] {
            let at = pane.index();
            if state.image_of(pane) == index {
                state.pixels[at] = Some((index, pixels.clone()));
                is_shown = true;
            } else if self.requested.pixels[at] == request {
                // The user has moved on; if the image is shown again, it is decoded again.
                self.requested.pixels[at] = None;
            }
        }
        is_shown
    }
}

/// Stores the inference result of an image. Detections are stored unless they come from a results file.
fn show_inference(pane: Pane, inference: &Inference, found: Found, state: &mut ViewerState) {
    let at = pane.index();
    let detections = match found {
        Found::Boxes(detections) => detections,
        Found::Logits(logits) => {
            state.add_logits(pane, &[(inference.image, logits)]);
            Vec::new()
        }
    };
    if let Some(network) = &state.networks[at]
        && network.is_detector
        && !(pane == Pane::First && state.from_results)
    {
        let classes = state.classes.merge(&network.categories);
        let boxes = detections.iter().map(|detection| FoundBox {
            box_in_image: detection.box_in_image,
            class: classes
                .get(detection.label)
                .copied()
                .unwrap_or(detection.label),
            score: detection.score,
        });
        state.predictions[at].set(inference.image, boxes.collect());
    }
    for shown in [Pane::First, Pane::Second] {
        if state.network_of(shown) == pane && state.image_of(shown) == inference.image {
            state.inference[shown.index()] = Some(inference.clone());
        }
    }
}

fn show_statistics(excitation: Arc<Excitation>, source: StatisticsSource, state: &mut ViewerState) {
    state.statistics_source = source;
    state.statistics_choice = StatisticsChoice {
        block: excitation.blocks.len() - 1,
        classes: default_classes(excitation.class_counts()),
        channel: 0,
        ..state.statistics_choice.clone()
    };
    state.statistics = Some(excitation);
    state.tab = PanelId::GATES;
}

fn show_results(source: &str, rows: &[ResultRow], state: &mut ViewerState) {
    let Some(collection) = state.collection.clone().filter(|c| c.has_boxes()) else {
        state.report_error(format!(
            "{source}: a results file refers to images by id; open its detection dataset first"
        ));
        return;
    };
    let mut classes = state.classes.clone();
    match Predictions::from_results(source, rows, &collection, &mut classes) {
        Ok(predictions) => {
            state.classes = classes;
            state.predictions[0] = predictions;
            state.from_results = true;
            state.evaluations[0] = None;
            state.forget_comparison();
        }
        Err(error) => state.report_error(error),
    }
}
