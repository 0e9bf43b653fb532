//! The threads behind the window: whatever takes longer than a frame happens here.
//!
//! The window hands over [`Request`]s and, after each frame, shows its state to [`Workers::follow`],
//! which asks for what the state lacks: pixels, detections, counts. Answers come back as
//! [`Message`]s. Those that belong to a collection carry its generation, so that late answers for
//! one that was closed are dropped.

mod counting;
mod exporting;
mod images;
mod network;
mod opening;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use burn::tensor::Device;
use egui::ColorImage;
use image::RgbImage;

pub use opening::Opening;

use super::state::{
    BlockMaps, Chart, Collection, Compare, Images, Looked, ModelTable, NetworkInfo, Progress,
    Request, RunLog, Side, ViewerState, top_channels,
};
use counting::{Counter, CountingJob};
use images::ImageThreads;
use network::{LongWork, NetworkThread};
use sedet_core::excitation::Excitation;
use sedet_core::model::ImageDetection;
use sedet_data::eval::confusion::Confusion;
use sedet_data::eval::matching::FoundBox;
use sedet_data::eval::{CocoEvaluation, ResultRow};

/// Called when a message waits: wakes a window that sleeps.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What a thread has to tell the window.
pub enum Message {
    /// Images were opened.
    Collection(Arc<Collection>),
    /// A network was loaded, with its layers where they can be listed.
    Network(Side, Box<NetworkInfo>, Option<Arc<ModelTable>>),
    /// A results file was read.
    Results(String, Vec<ResultRow>),
    /// A file of `sedet excite` was read, or gates were measured.
    Statistics(Arc<Excitation>),
    /// A run was opened or has grown.
    Run(RunLog),
    /// Pixels of an image, and as a texture of at most the largest side.
    Pixels(u64, usize, Arc<RgbImage>, Arc<ColorImage>),
    /// An image that can't be read.
    BadImage(u64, usize, String),
    /// A small image for the gallery.
    Thumbnail(u64, usize, Option<ColorImage>),
    /// What a network made of an image.
    Looked(u64, Side, Box<Looked>, Vec<ImageDetection>),
    /// Maps of some channels.
    Maps(u64, BlockMaps),
    /// Histograms of the dataset.
    Charts(u64, Arc<Vec<Chart>>),
    /// Counts over all images, and the order of the gallery.
    Counted(u64, [Option<Arc<Confusion>>; 2], Arc<Vec<u32>>),
    /// A share of the objects, and the score that finds it.
    Recall(u64, f64, Option<f32>),
    /// COCO's metrics.
    Evaluated(u64, Arc<CocoEvaluation>),
    /// A long piece of work goes on.
    Progress(Progress),
    /// It is over.
    Finished(String),
    /// Something was done.
    Done(String),
    /// Something failed.
    Failed(String),
}

/// The way of a thread to the window.
#[derive(Clone)]
pub(super) struct Mailbox {
    sender: Sender<Message>,
    wake: Wake,
    /// Pieces of work that will still send something.
    busy: Arc<AtomicUsize>,
}

impl Mailbox {
    fn send(&self, message: Message) {
        // Without a window there is nobody to tell.
        if self.sender.send(message).is_ok() {
            (self.wake)();
        }
    }

    /// Work that is under way until the guard goes.
    fn begin(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::SeqCst);
        Busy(self.clone())
    }
}

/// A piece of work under way.
struct Busy(Mailbox);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
        (self.0.wake)();
    }
}

/// All threads.
pub struct Workers {
    mailbox: Mailbox,
    messages: Receiver<Message>,
    images: ImageThreads,
    network: NetworkThread,
    counter: Counter,
    /// Of the collection; the images' threads look at it.
    generation: Arc<AtomicU64>,
    /// The run that is watched; another number ends an older watch.
    watch: Arc<AtomicU64>,
    asked: Asked,
}

/// What was asked for last, so that nothing is asked for in every frame.
#[derive(Default)]
struct Asked {
    looks: [Option<(u64, usize)>; 2],
    maps: Option<(usize, usize, Vec<usize>)>,
    counted: Option<CountingJob>,
    pixels: [Option<(u64, usize)>; 2],
}

impl Workers {
    /// Start the threads. Networks compute on `device`.
    pub fn new(device: Device, wake: Wake) -> Self {
        let (sender, messages) = channel();
        let mailbox = Mailbox {
            sender,
            wake,
            busy: Arc::default(),
        };
        let generation = Arc::new(AtomicU64::new(0));
        Self {
            images: ImageThreads::start(mailbox.clone(), generation.clone()),
            network: NetworkThread::start(mailbox.clone(), generation.clone(), device),
            counter: Counter::start(mailbox.clone()),
            mailbox,
            messages,
            generation,
            watch: Arc::default(),
            asked: Asked::default(),
        }
    }

    /// Whether something is under way or waits to be taken in. A run that is watched does not count.
    pub fn is_busy(&self) -> bool {
        self.mailbox.busy.load(Ordering::SeqCst) > 0
    }

    /// The largest side of a texture, once the window knows it.
    pub fn set_largest_side(&self, side: usize) {
        self.images.set_largest_side(side);
    }

    /// Open something, as the command line says.
    pub fn open(&self, opening: Opening) {
        opening::open(opening, &self.mailbox, &self.network, &self.watch);
    }

    /// A small image for the gallery, when there is time.
    pub fn want_thumbnail(&self, state: &ViewerState, picture: usize) {
        if let Some(collection) = &state.collection {
            self.images
                .want_thumbnail(self.generation(), collection, picture);
        }
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Take in what the threads have to tell, for at most a few milliseconds' worth of messages.
    /// Textures are handed to `textures`.
    pub fn take_in(&mut self, state: &mut ViewerState, textures: &mut dyn FnMut(TextureNews)) {
        const MOST: usize = 64;
        for _ in 0..MOST {
            let Ok(message) = self.messages.try_recv() else {
                return;
            };
            self.apply(message, state, textures);
        }
        // The rest comes with the next frame.
        (self.mailbox.wake)();
    }

    fn apply(
        &mut self,
        message: Message,
        state: &mut ViewerState,
        textures: &mut dyn FnMut(TextureNews),
    ) {
        let current = self.generation();
        match message {
            Message::Collection(collection) => {
                self.generation.fetch_add(1, Ordering::SeqCst);
                self.network.forget_images();
                self.asked = Asked::default();
                textures(TextureNews::NewCollection);
                state.open_collection(collection.clone());
                for network in state.networks.iter().flatten() {
                    state.classes.take_in(&network.categories);
                }
                let (mailbox, generation) = (self.mailbox.clone(), self.generation());
                let busy = mailbox.begin();
                std::thread::spawn(move || {
                    let charts = super::state::charts(&collection);
                    mailbox.send(Message::Charts(generation, Arc::new(charts)));
                    drop(busy);
                });
            }
            Message::Network(side, network, model) => {
                state.classes.take_in(&network.categories);
                state.open_network(side, *network);
                if side == Side::A {
                    state.model = model;
                }
                self.asked.looks[side.index()] = None;
                self.asked.maps = None;
            }
            Message::Results(source, rows) => self.show_results(&source, &rows, state),
            Message::Statistics(excitation) => {
                state.statistics_choice = super::state::StatisticsChoice {
                    block: excitation.blocks.len() - 1,
                    classes: sedet_core::excitation::selection::default_classes(
                        excitation.class_counts(),
                    ),
                    ..state.statistics_choice.clone()
                };
                state.statistics_choice.channel = 0;
                state.statistics = Some(excitation);
                state.tab = super::state::Tab::Gates;
            }
            Message::Run(run) => {
                if state
                    .run
                    .as_ref()
                    .is_none_or(|r| r.directory != run.directory)
                {
                    state.tab = super::state::Tab::Training;
                }
                state.run = Some(run);
            }
            Message::Pixels(generation, picture, image, texture) if generation == current => {
                let shown = [Side::A, Side::B].map(|side| state.image_of(side) == picture);
                for (at, is_shown) in shown.into_iter().enumerate() {
                    if is_shown {
                        state.pixels[at] = Some((picture, image.clone()));
                    } else if self.asked.pixels[at] == Some((generation, picture)) {
                        // It was left meanwhile, and is read again when it is wanted again.
                        self.asked.pixels[at] = None;
                    }
                }
                if shown.contains(&true) {
                    textures(TextureNews::Image(picture, texture));
                }
            }
            Message::BadImage(generation, picture, error) if generation == current => {
                state.complain(error);
                textures(TextureNews::Bad(picture));
            }
            Message::Thumbnail(generation, picture, image) if generation == current => {
                textures(TextureNews::Thumbnail(picture, image));
            }
            Message::Looked(generation, side, looked, found) if generation == current => {
                let at = side.index();
                if let Some(network) = &state.networks[at]
                    && network.is_detector
                    && !(side == Side::A && state.from_results)
                {
                    let places = state.classes.take_in(&network.categories.clone());
                    let boxes = found.iter().map(|d| FoundBox {
                        box_in_image: d.box_in_image,
                        class: places.get(d.label).copied().unwrap_or(d.label),
                        score: d.score,
                    });
                    state.predictions[at].set(looked.image, boxes.collect());
                }
                let shown = [Side::A, Side::B];
                for half in shown {
                    if state.network_of(half) == side && state.image_of(half) == looked.image {
                        state.looked[half.index()] = Some((*looked).clone());
                    }
                }
            }
            Message::Maps(generation, maps) if generation == current => state.maps = Some(maps),
            Message::Charts(generation, charts) if generation == current => state.charts = charts,
            Message::Counted(generation, tallies, order) if generation == current => {
                state.tallies = tallies;
                state.order = order;
            }
            Message::Evaluated(generation, evaluation) if generation == current => {
                state.evaluation = Some(evaluation);
            }
            Message::Recall(generation, recall, score) if generation == current => {
                state.show_recall(recall, score);
            }
            Message::Progress(progress) => {
                let known = state.progress.iter_mut();
                match known.into_iter().find(|p| p.label == progress.label) {
                    Some(known) => *known = progress,
                    None => state.progress.push(progress),
                }
            }
            Message::Finished(label) => state.progress.retain(|p| p.label != label),
            Message::Done(text) => state.tell(text),
            Message::Failed(text) => state.complain(text),
            Message::Pixels(..)
            | Message::BadImage(..)
            | Message::Thumbnail(..)
            | Message::Looked(..)
            | Message::Maps(..)
            | Message::Charts(..)
            | Message::Counted(..)
            | Message::Recall(..)
            | Message::Evaluated(..) => {} // for a collection that was closed
        }
    }

    fn show_results(&mut self, source: &str, rows: &[ResultRow], state: &mut ViewerState) {
        let Some(collection) = state.collection.clone().filter(|c| c.has_truth()) else {
            state.complain(format!(
                "{source}: results name images by number only; open their dataset first (sedet \
                 view RESULTS --dataset NAME)"
            ));
            return;
        };
        let mut classes = state.classes.clone();
        match super::state::Predictions::of_results(source, rows, &collection, &mut classes) {
            Ok(predictions) => {
                state.classes = classes;
                state.predictions[0] = predictions;
                state.from_results = true;
                state.evaluation = None;
            }
            Err(error) => state.complain(error),
        }
    }

    /// Do what the panels asked for, and ask for what the state lacks.
    pub fn follow(&mut self, state: &mut ViewerState) {
        for request in std::mem::take(&mut state.requests) {
            self.serve(request, state);
        }
        let Some(collection) = state.collection.clone().filter(|c| !c.is_empty()) else {
            return;
        };
        let generation = self.generation();
        let mut sides = vec![Side::A];
        if state.compare != Compare::Off {
            sides.push(Side::B);
        }
        for &side in &sides {
            self.want_image(state, &collection, side);
        }
        self.want_maps(state);
        let query = state.query.clone();
        let job = CountingJob {
            generation,
            collection,
            query,
            predictions: state.predictions.clone(),
            score: state.filter().score,
            iou: state.filter().iou,
        };
        if self.asked.counted.as_ref() != Some(&job) {
            self.asked.counted = Some(job.clone());
            self.counter.want(job);
        }
    }

    /// Pixels of one half, and what its network makes of them.
    fn want_image(&mut self, state: &mut ViewerState, collection: &Arc<Collection>, side: Side) {
        let (generation, at) = (self.generation(), side.index());
        let picture = state.image_of(side);
        let ready = state.pixels[at].as_ref().filter(|(of, _)| *of == picture);
        let Some((_, image)) = ready else {
            if self.asked.pixels[at] != Some((generation, picture)) {
                self.asked.pixels[at] = Some((generation, picture));
                self.images
                    .want_image(generation, collection, picture, side);
            }
            return;
        };
        let by = state.network_of(side);
        if state.networks[by.index()].is_none() {
            return;
        }
        let has_looked = state.looked[at]
            .as_ref()
            .is_some_and(|l| l.image == picture);
        if !has_looked && self.asked.looks[at] != Some((generation, picture)) {
            self.asked.looks[at] = Some((generation, picture));
            self.network
                .look(side, by, generation, picture, image.clone());
        }
    }

    /// The maps that the panel of gates shows.
    fn want_maps(&mut self, state: &mut ViewerState) {
        let Some(looked) = state.looked[0].as_ref() else {
            return;
        };
        let Some(block) = looked.blocks.get(state.gates.block) else {
            return;
        };
        let mut channels = match state.gates.show_grid {
            true => top_channels(&block.gates, state.gates.top),
            false => Vec::new(),
        };
        channels.extend(state.gates.channel.filter(|c| *c < block.gates.len()));
        channels.sort_unstable();
        channels.dedup();
        if channels.is_empty() {
            return;
        }
        let wanted = (looked.image, state.gates.block, channels);
        if self.asked.maps.as_ref() != Some(&wanted) {
            self.network
                .maps(self.generation(), wanted.0, wanted.1, wanted.2.clone());
            self.asked.maps = Some(wanted);
        }
    }

    fn serve(&mut self, request: Request, state: &mut ViewerState) {
        let generation = self.generation();
        match request {
            Request::Open(text) => self.open(Opening::of(&text)),
            Request::OpenSecond(text) => self.network.load(Side::B, PathBuf::from(text)),
            Request::Cancel => self.network.cancel(),
            Request::DetectAll(side) => {
                let (Some(collection), Some(_)) =
                    (&state.collection, &state.networks[side.index()])
                else {
                    state.complain("open images and a detector first");
                    return;
                };
                let known = (0..collection.len())
                    .map(|i| state.predictions[side.index()].get(i).is_some())
                    .collect();
                self.network.long(LongWork::DetectAll {
                    side,
                    generation,
                    collection: collection.clone(),
                    known,
                });
            }
            Request::MeasureGates(limit) => {
                let collection = state.collection.as_ref();
                match collection.map(|c| (c, &c.images)) {
                    Some((collection, Images::Boxes(_) | Images::Labeled(_))) => {
                        self.network.long(LongWork::Measure {
                            collection: collection.clone(),
                            limit,
                        });
                    }
                    _ => state.complain(
                        "gates are measured over a dataset, whose images have classes; open one",
                    ),
                }
            }
            Request::Evaluate => match &state.collection {
                Some(collection) if collection.has_truth() => counting::evaluate(
                    self.mailbox.clone(),
                    generation,
                    collection.clone(),
                    state.predictions[0].clone(),
                    &state.classes,
                ),
                _ => state.complain("metrics need a dataset with boxes; open one"),
            },
            Request::ShowRecall(recall) => {
                let Some(collection) = state.collection.clone() else {
                    return;
                };
                let predictions = state.predictions[0].clone();
                let (iou, mailbox) = (state.filter().iou, self.mailbox.clone());
                let busy = mailbox.begin();
                std::thread::spawn(move || {
                    let score =
                        super::state::score_at_recall(&collection, &predictions, iou, recall);
                    mailbox.send(Message::Recall(generation, recall, score));
                    drop(busy);
                });
            }
            Request::Export(export) => {
                exporting::export(export, state, self.mailbox.clone());
            }
        }
    }
}

/// News for those who hold the textures.
pub enum TextureNews {
    /// Nothing of the old images is of use.
    NewCollection,
    /// An image to show.
    Image(usize, Arc<ColorImage>),
    /// An image that can't be read.
    Bad(usize),
    /// A small one; nothing if it can't be read.
    Thumbnail(usize, Option<ColorImage>),
}
