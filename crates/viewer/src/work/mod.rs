//! Worker threads for operations that take longer than a frame.
//!
//! After each frame `Workers::update` handles the [`Request`]s of the panels and requests what the state
//! lacks: pixels, detections, counts. Results come back as `Message`s. Those that belong to a collection
//! carry its generation, so that late results for a closed collection are dropped.

mod counting;
mod images;
mod messages;
mod network;
mod opening;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use messages::{CroppedImage, TextureUpdate};
pub use opening::{Content, Opening};

use super::state::export::Export;
use super::state::{
    Browse, Collection, Compare, Crop, ExplainedScore, Pane, PanelId, Request, ShownImages,
    ViewerState, is_same, score_at_recall, top_channels,
};
use super::textures::color_image;
use counting::{Counter, CountingJob};
use images::ImageThreads;
use messages::{Busy, CollectionMessage, Mailbox, Message, Wake};
use network::{ExplanationTask, LongWork, NetworkThread};
use sedet_core::device::Execution;
use sedet_core::excitation::Excitation;
use sedet_core::model::ReplacedGate;
use sedet_core::train::run_dir::RunDir;
use sedet_data::annotations::layout::Split;
use sedet_data::loading::decode::has_image_extension;

/// A dialog that returns faster was not shown: nobody closes one so fast.
const NO_DIALOG: Duration = Duration::from_millis(400);

/// The name of a dataset, and the directory of the named ones.
type OpenedDataset = Arc<Mutex<Option<(String, Option<PathBuf>)>>>;

/// All worker threads.
pub(crate) struct Workers {
    mailbox: Mailbox,
    messages: Receiver<Message>,
    images: ImageThreads,
    network: NetworkThread,
    counter: Counter,
    /// The generation of the open collection; threads drop work for others.
    generation: Arc<AtomicU64>,
    /// Identifies the training run that is followed; a new number stops following the previous one.
    watch: Arc<AtomicU64>,
    /// The name of the dataset that was opened last, and the directory of the named ones.
    dataset: OpenedDataset,
    /// The runs whose curves are drawn beside those of the run that is followed.
    compared: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// A checkpoint of the run that is followed, written since it was loaded.
    written: Option<PathBuf>,
    /// Whether the network that is being loaded is a checkpoint that the run has written.
    is_reload: bool,
    requested: Requested,
}

/// The latest requests, so that they are not repeated in every frame.
#[derive(Default)]
struct Requested {
    inferences: [Option<(u64, usize)>; 2],
    maps: Option<(usize, usize, Vec<usize>)>,
    explanation: Option<(ExplainedScore, Option<Arc<Excitation>>)>,
    without: Option<(ExplainedScore, Vec<ReplacedGate>)>,
    counted: Option<CountingJob>,
    pixels: [Option<(u64, usize)>; 2],
    /// The weights of a run that are being loaded, or that could not be.
    weights: Option<PathBuf>,
    /// Whether they are being loaded.
    loads_weights: bool,
}

impl Workers {
    /// Starts the threads. `execution` is that of the networks.
    pub fn new(execution: Execution, wake: Wake) -> Self {
        let (sender, messages) = channel();
        let mailbox = Mailbox::new(sender, wake);
        let generation = Arc::new(AtomicU64::new(0));
        Self {
            images: ImageThreads::start(mailbox.clone(), generation.clone()),
            network: NetworkThread::start(mailbox.clone(), generation.clone(), execution),
            counter: Counter::start(mailbox.clone()),
            mailbox,
            messages,
            generation,
            watch: Arc::default(),
            dataset: Arc::default(),
            compared: Arc::default(),
            written: None,
            is_reload: false,
            requested: Requested::default(),
        }
    }

    /// Returns whether a task is running or waiting. Following a training run does not count.
    pub fn is_busy(&self) -> bool {
        self.mailbox.is_busy()
    }

    /// Sets the maximum width and height of a texture.
    pub(crate) fn set_max_texture_side(&self, side: usize) {
        self.images.set_max_texture_side(side);
    }

    /// Opens a dataset, run, checkpoint or other file.
    pub fn open(&self, opening: Opening) {
        opening::open(
            opening,
            &self.mailbox,
            &self.network,
            &self.watch,
            &self.dataset,
        );
    }

    /// Requests a thumbnail with low priority.
    pub(crate) fn request_thumbnail(&self, state: &ViewerState, index: usize) {
        if let Some(collection) = &state.collection {
            self.images
                .request_thumbnail(self.generation(), collection, index);
        }
    }

    /// Requests crops and drops waiting ones that are no longer in sight. Returns those that were dropped.
    pub(crate) fn request_crops(
        &self,
        state: &ViewerState,
        missing: &[Crop],
        in_sight: &[Crop],
    ) -> Vec<Crop> {
        let collection = state.collection.as_ref();
        collection.map_or_else(Vec::new, |collection| {
            let generation = self.generation();
            self.images
                .request_crops(generation, collection, missing, in_sight)
        })
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Handles the requests of the panels, and requests what the state lacks.
    pub fn update(&mut self, state: &mut ViewerState) {
        for request in std::mem::take(&mut state.requests) {
            self.handle(request, state);
        }
        self.reload_checkpoint(state);
        self.load_kept_weights(state);
        let Some(collection) = state.collection.clone().filter(|c| !c.is_empty()) else {
            return;
        };
        let generation = self.generation();
        self.request_image(state, &collection, Pane::First);
        if state.compare != Compare::Off {
            self.request_image(state, &collection, Pane::Second);
        }
        self.request_maps(state);
        self.request_explanation(state);
        let query = state.query.clone();
        let job = CountingJob {
            generation,
            collection,
            query,
            predictions: state.predictions.clone(),
            classified: state.classified.clone(),
            classifiers: state.classifiers.clone(),
            score: state.filter().score,
            iou: state.filter().iou,
            divided: (state.tab == PanelId::DATA).then(|| state.network_in_focus()),
            listed: (state.tab == PanelId::ERRORS).then(|| state.network_in_focus()),
            compares: state.compare == Compare::Network,
        };
        if self.requested.counted.as_ref() != Some(&job) {
            self.requested.counted = Some(job.clone());
            self.counter.request(job);
        }
    }

    /// Loads a checkpoint that the run has written, so that boxes and curves are of the same training. A task
    /// on many images is finished with the network that it began with.
    fn reload_checkpoint(&mut self, state: &mut ViewerState) {
        let open = state.networks[0].as_ref().map(|network| &network.path);
        let run = state.run.as_ref().map(|run| &run.directory);
        let shows_run = open
            .zip(run)
            .is_none_or(|(open, run)| open.starts_with(run));
        state.is_outdated = self.written.is_some() && shows_run;
        if !state.progress.is_empty() {
            return;
        }
        let Some(written) = self.written.take() else {
            return;
        };
        let run = state.run.as_ref();
        let is_of_run = |path: &Path| run.is_some_and(|run| path.starts_with(&run.directory));
        // Another network that was opened since then is kept.
        let network = state.networks[0].as_ref();
        // The best weights are loaded when the user leaves the kept ones.
        if state.kept_iteration.is_none()
            && is_of_run(&written)
            && network.is_none_or(|network| is_of_run(&network.path))
        {
            self.is_reload = true;
            self.network.load(Pane::First, written);
        }
    }

    /// Loads the weights of the run that are chosen. Those that a slider has left meanwhile are passed over.
    fn load_kept_weights(&mut self, state: &ViewerState) {
        if self.requested.loads_weights || !state.progress.is_empty() {
            return;
        }
        let wanted = state.weights_to_open(|run| {
            let run = RunDir::at(run);
            let best = Some(run.best_checkpoint()).filter(|best| best.is_file());
            best.unwrap_or_else(|| run.last_checkpoint())
        });
        let Some(wanted) = wanted else {
            self.requested.weights = None;
            return;
        };
        if self.requested.weights.as_ref() != Some(&wanted) {
            self.requested.loads_weights = true;
            self.requested.weights = Some(wanted.clone());
            self.network.load(Pane::First, wanted);
        }
    }

    /// Requests the pixels of a pane, and then their inference.
    fn request_image(&mut self, state: &ViewerState, collection: &Arc<Collection>, pane: Pane) {
        let (generation, at) = (self.generation(), pane.index());
        let index = state.image_of(pane);
        let ready = state.pixels[at].as_ref().filter(|(of, _)| *of == index);
        let Some((_, image)) = ready else {
            if self.requested.pixels[at] != Some((generation, index)) {
                self.requested.pixels[at] = Some((generation, index));
                self.images
                    .request_image(generation, collection, index, pane);
            }
            return;
        };
        let network = state.network_of(pane);
        if state.networks[network.index()].is_none() {
            return;
        }
        let is_done = state.inference[at]
            .as_ref()
            .is_some_and(|l| l.image == index);
        if !is_done && self.requested.inferences[at] != Some((generation, index)) {
            self.requested.inferences[at] = Some((generation, index));
            self.network
                .infer(pane, network, generation, index, image.clone());
        }
    }

    /// Requests the feature maps of the selected channels.
    fn request_maps(&mut self, state: &ViewerState) {
        let Some(inference) = state.inference[0].as_ref() else {
            return;
        };
        let Some(block) = inference.blocks.get(state.gates.block) else {
            return;
        };
        let mut channels = if state.gates.show_grid {
            top_channels(&block.gates, state.gates.top)
        } else {
            Vec::new()
        };
        channels.extend(state.gates.channel.filter(|c| *c < block.gates.len()));
        channels.sort_unstable();
        channels.dedup();
        if channels.is_empty() {
            return;
        }
        let request = (inference.image, state.gates.block, channels);
        if self.requested.maps.as_ref() != Some(&request) {
            self.network
                .maps(self.generation(), request.0, request.1, request.2.clone());
            self.requested.maps = Some(request);
        }
    }

    /// Requests the explanation that is shown, and then the score with the channels that are switched off. A request
    /// replaces the one before, and a selection that has changed since has no use for its result.
    fn request_explanation(&mut self, state: &ViewerState) {
        let generation = self.generation();
        let of = state.score_to_explain().ok();
        let (Some(of), Some(pixels)) = (
            of.filter(|_| state.explanation.is_open),
            state.current_pixels(),
        ) else {
            if self.requested.explanation.take().is_some() {
                self.requested.without = None;
                self.network.drop_explanation();
            }
            return;
        };
        let statistics = state.own_statistics();
        let computed = state.explanation.computed.as_ref();
        let computed = computed.and_then(|(_, computed)| computed.as_ref().ok());
        let Some(explanation) = computed.filter(|known| known.answers(of, statistics)) else {
            let requested = self.requested.explanation.as_ref();
            let is_requested = requested
                .is_some_and(|(known, with)| *known == of && is_same(with.as_ref(), statistics));
            if !is_requested {
                let task = ExplanationTask::Explain(statistics.cloned());
                self.network.explain(generation, of, pixels.clone(), task);
                self.requested.explanation = Some((of, statistics.cloned()));
                self.requested.without = None;
            }
            return;
        };
        self.requested.explanation = Some((of, statistics.cloned()));
        let request = (of, state.explanation.replaced(explanation));
        let known = state.explanation.without.as_ref();
        let is_known = known.is_some_and(|known| known.of == of && known.replaced == request.1);
        if request.1.is_empty() || is_known || self.requested.without.as_ref() == Some(&request) {
            return;
        }
        let task = ExplanationTask::Score(request.1.clone());
        self.network.explain(generation, of, pixels.clone(), task);
        self.requested.without = Some(request);
    }

    fn handle(&self, request: Request, state: &mut ViewerState) {
        match request {
            Request::Open(text) => self.open(Opening::of(&text)),
            Request::Browse(what) => self.browse(what),
            Request::OpenShipped => self.open(Opening::default()),
            Request::OpenSplit(split) => match self.dataset() {
                Some((dataset, data_dir)) => self.open(Opening {
                    dataset: Some(dataset),
                    data_dir,
                    split: Some(split),
                    ..Opening::default()
                }),
                None => state.report_error("no dataset with splits is open"),
            },
            Request::OpenFiles(files) => {
                let (images, others): (Vec<_>, Vec<_>) = files
                    .into_iter()
                    .partition(|path| has_image_extension(path));
                for path in &others {
                    self.open(Opening::of(&path.display().to_string()));
                }
                self.open_images(images);
            }
            Request::OpenSecond(text) => self.network.load(Pane::Second, PathBuf::from(text)),
            Request::CompareRun(directory) => {
                if self.compared().insert(directory.clone()) {
                    opening::follow_compared(directory, &self.mailbox, &self.compared);
                }
            }
            Request::ForgetRun(directory) => {
                self.compared().remove(&directory);
                let runs = &mut state.compared_runs;
                runs.retain(|run| run.directory != directory);
            }
            Request::Cancel => self.network.cancel(),
            Request::DetectAll(pane) => self.detect_all(pane, state),
            Request::MeasureGates(limit) => self.measure_gates(limit, state),
            Request::MeasureSecondGates => self.measure_second_gates(state),
            Request::Evaluate => self.evaluate(state),
            Request::EvaluateBoth => self.evaluate_both(state),
            Request::ShowRecall { recall, iou } => self.find_recall(recall, iou, state),
            Request::Export(export) => {
                // Images and statistics are shared, so cloning the state is cheap.
                let state = state.clone();
                self.mailbox.spawn(move || match export.run(&state) {
                    Ok(files) => Message::Done(files.message()),
                    Err(error) => Message::Failed(error),
                });
            }
            Request::Copy(exports) => {
                let state = state.clone();
                self.mailbox
                    .spawn(move || match Export::first_image(exports, &state) {
                        Ok(image) => Message::Copied(Arc::new(color_image(&image))),
                        Err(error) => Message::Failed(error),
                    });
            }
        }
    }

    fn dataset(&self) -> Option<(String, Option<PathBuf>)> {
        let dataset = self.dataset.lock();
        dataset.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows a dialog of the system, and opens what is chosen in it.
    fn browse(&self, what: Browse) {
        // Some systems want a dialog to begin on the thread of the window.
        let dialog = rfd::AsyncFileDialog::new();
        let files = (what == Browse::Files).then(|| dialog.clone().pick_files());
        let directory = (what == Browse::Directory).then(|| dialog.pick_folder());
        let begun = Instant::now();
        let busy = self.mailbox.begin();
        let mailbox = self.mailbox.clone();
        std::thread::spawn(move || {
            let chosen = match (files, directory) {
                (Some(files), _) => pollster::block_on(files).unwrap_or_default(),
                (None, Some(directory)) => pollster::block_on(directory).into_iter().collect(),
                (None, None) => Vec::new(),
            };
            if !chosen.is_empty() {
                let paths = chosen.iter().map(|file| file.path().to_path_buf());
                mailbox.send(Message::Chosen(paths.collect()));
            } else if begun.elapsed() < NO_DIALOG {
                mailbox.send(Message::Failed(
                    "the system has no dialog for files (install xdg-desktop-portal or zenity); enter the path \
                     above or drop the files here"
                        .to_owned(),
                ));
            }
            drop(busy);
        });
    }

    fn compared(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists image files together.
    fn open_images(&self, images: Vec<PathBuf>) {
        let Some((first, others)) = images.split_first() else {
            return;
        };
        let name = match others.len() {
            0 => first.display().to_string(),
            others => format!("{} and {others} more", first.display()),
        };
        self.mailbox
            .spawn(move || opening::list_of_images(name, images).unwrap_or_else(Message::Failed));
    }

    fn detect_all(&self, pane: Pane, state: &mut ViewerState) {
        let at = pane.index();
        let (Some(collection), Some(_)) = (&state.collection, &state.networks[at]) else {
            state.report_error("this requires images and a network; open both first");
            return;
        };
        let known = (0..collection.len()).map(|index| state.is_processed(pane, index));
        self.network.long(LongWork::DetectAll {
            pane,
            generation: self.generation(),
            collection: collection.clone(),
            known: known.collect(),
        });
    }

    fn measure_gates(&self, limit: Option<usize>, state: &mut ViewerState) {
        let has_classes = |c: &&Arc<Collection>| {
            matches!(c.images, ShownImages::Boxes(_) | ShownImages::Labeled(_))
        };
        if let Some(collection) = state.collection.as_ref().filter(has_classes) {
            self.network.long(LongWork::Measure {
                pane: Pane::First,
                collection: collection.clone(),
                limit,
            });
        } else {
            state.report_error("gate statistics require a dataset with classes; open one first");
        }
    }

    /// Measures the second network on the images that the gate statistics are of.
    fn measure_second_gates(&self, state: &mut ViewerState) {
        let collection = state.collection.clone();
        let statistics = state.own_statistics().cloned();
        let (Some(collection), Some(statistics)) = (collection, statistics) else {
            state.report_error("measure the gates of the first network first");
            return;
        };
        let origin = &statistics.origin;
        let split = collection.split.unwrap_or(Split::Val).to_string();
        if (&collection.name, &split) != (&origin.dataset, &origin.split) {
            state.report_error(format!(
                "the gates of the first network are of {} {}; open it to measure the second network on it",
                origin.dataset, origin.split
            ));
            return;
        }
        let images = origin.images as usize;
        self.network.long(LongWork::Measure {
            pane: Pane::Second,
            limit: (images < collection.len()).then_some(images),
            collection,
        });
    }

    fn evaluate_both(&self, state: &mut ViewerState) {
        let images = state.processed_by_both();
        let Some(collection) = state.collection.clone().filter(|c| c.has_boxes()) else {
            state.report_error("metrics require a detection dataset; open one first");
            return;
        };
        if images.is_empty() {
            state.report_error("no image has been processed by both networks");
            return;
        }
        let predictions = state.predictions.clone();
        let (generation, classes) = (self.generation(), state.classes.clone());
        self.mailbox.spawn(move || {
            match counting::evaluate_both(&collection, &predictions, &classes, &images) {
                Ok(change) => {
                    let evaluated = CollectionMessage::EvaluatedBoth(Box::new(change));
                    Message::OfCollection(generation, evaluated)
                }
                Err(error) => Message::Failed(format!("{}: {error}", collection.title())),
            }
        });
    }

    fn evaluate(&self, state: &mut ViewerState) {
        let Some(collection) = state.collection.clone().filter(|c| c.has_boxes()) else {
            state.report_error("metrics require a detection dataset; open one first");
            return;
        };
        let network = state.network_in_focus();
        let predictions = state.predictions[network.index()].clone();
        let (generation, classes) = (self.generation(), state.classes.clone());
        let images: Vec<usize> = predictions.iter().map(|(index, _)| index).collect();
        self.mailbox.spawn(move || {
            match counting::evaluate(&collection, &predictions, &classes, &images) {
                Ok(evaluation) => {
                    let evaluated = CollectionMessage::Evaluated(network, Arc::new(evaluation));
                    Message::OfCollection(generation, evaluated)
                }
                Err(error) => Message::Failed(format!("{}: {error}", collection.title())),
            }
        });
    }

    fn find_recall(&self, recall: f64, iou: f32, state: &ViewerState) {
        let Some(collection) = state.collection.clone() else {
            return;
        };
        let generation = self.generation();
        let predictions = state.predictions[state.network_in_focus().index()].clone();
        self.mailbox.spawn(move || {
            let score = score_at_recall(&collection, &predictions, iou, recall);
            let found = CollectionMessage::Recall { recall, iou, score };
            Message::OfCollection(generation, found)
        });
    }
}
