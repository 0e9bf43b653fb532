//! The thread that owns the networks. The visible image is processed before batch work, which is
//! done one image at a time.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use image::RgbImage;
use rayon::prelude::*;

use super::messages::Found;
use super::{Busy, CollectionMessage, Mailbox, Message};
use crate::state::{
    BlockGates, BlockMaps, Collection, ExplainedScore, Inference, ModelTable, NetworkInfo, Pane,
    ScoreExplanation, ScoreWithout, ShownImages, StatisticsSource, TaskProgress, WeightsFile,
    run_name,
};
use sedet_core::device::{Backend, Execution};
use sedet_core::excitation::Excitation;
use sedet_core::model::{
    Dataset, ExplainedImage, ImageChoice, Model, Recording, ReplacedGate, Task, trained_layers,
};
use sedet_core::train::run_dir::RunDir;
use sedet_core::weights::load::weights_file;
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::registry::OpenedSplit;
use sedet_data::images::OnBadImage;
use sedet_data::text::count;
use sedet_nn::nn::recording::Depth;

/// The detector that is shown at the first start, embedded in the program.
const SHIPPED: &[u8] = include_bytes!("../../assets/shapes-se-resnet18.safetensors");
/// The detector's name.
const SHIPPED_NAME: &str = "shapes-se-resnet18 (shipped)";
/// Input size for which layers and costs are listed if a network does not specify one.
const TABLE_SIDE: usize = 224;

/// Work on many images.
pub(super) enum LongWork {
    /// Detection in every image without a result, or its classification.
    DetectAll {
        pane: Pane,
        generation: u64,
        collection: Arc<Collection>,
        known: Vec<bool>,
    },
    /// Statistics of the SE gates.
    Measure {
        pane: Pane,
        collection: Arc<Collection>,
        limit: Option<usize>,
    },
}

enum Source {
    File(PathBuf),
    Shipped,
}

struct InferenceJob {
    /// The pane that requests it.
    pane: Pane,
    /// The pane whose network runs.
    network: Pane,
    generation: u64,
    image: usize,
    pixels: Arc<RgbImage>,
    busy: Busy,
}

struct MapsJob {
    generation: u64,
    image: usize,
    block: usize,
    channels: Vec<usize>,
    busy: Busy,
}

/// What is computed for an explanation.
pub(super) enum ExplanationTask {
    /// The explanation; with statistics, gates are compared with their means.
    Explain(Option<Arc<Excitation>>),
    /// The score with these gates.
    Score(Vec<ReplacedGate>),
}

struct ExplanationJob {
    generation: u64,
    of: ExplainedScore,
    pixels: Arc<RgbImage>,
    task: ExplanationTask,
    busy: Busy,
}

#[derive(Default)]
struct Queue {
    loads: VecDeque<(Pane, Source, Busy)>,
    /// The latest requests, one per pane.
    inferences: [Option<InferenceJob>; 2],
    maps: Option<MapsJob>,
    /// The latest request.
    explanation: Option<ExplanationJob>,
    long: VecDeque<(LongWork, Busy)>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    canceled: AtomicBool,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }
}

#[derive(Clone)]
pub(super) struct NetworkThread {
    shared: Arc<Shared>,
    mailbox: Mailbox,
}

impl NetworkThread {
    pub(super) fn start(
        mailbox: Mailbox,
        generation: Arc<AtomicU64>,
        execution: Execution,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let mut owner = Owner {
            shared: shared.clone(),
            mailbox: mailbox.clone(),
            generation,
            execution,
            networks: [None, None],
            last: None,
            explained: None,
        };
        std::thread::spawn(move || {
            loop {
                owner.wait();
                let work = || {
                    owner.urgent();
                    owner.long();
                };
                // A panic in a network must not leave the viewer without responses.
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    let text = "inference stopped at an image because of a bug in sedet; the terminal has \
                                the details, and the next image is tried";
                    owner.mailbox.send(Message::Failed(text.to_owned()));
                }
            }
        });
        Self { shared, mailbox }
    }

    pub(super) fn load(&self, pane: Pane, path: PathBuf) {
        self.push_load(pane, Source::File(path));
    }

    pub(super) fn load_shipped(&self) {
        self.push_load(Pane::First, Source::Shipped);
    }

    fn push_load(&self, pane: Pane, source: Source) {
        let busy = self.mailbox.begin();
        self.shared
            .change(|queue| queue.loads.push_back((pane, source, busy)));
    }

    pub(super) fn infer(
        &self,
        pane: Pane,
        network: Pane,
        generation: u64,
        image: usize,
        pixels: Arc<RgbImage>,
    ) {
        let job = InferenceJob {
            pane,
            network,
            generation,
            image,
            pixels,
            busy: self.mailbox.begin(),
        };
        self.shared
            .change(|queue| queue.inferences[pane.index()] = Some(job));
    }

    pub(super) fn maps(&self, generation: u64, image: usize, block: usize, channels: Vec<usize>) {
        let job = MapsJob {
            generation,
            image,
            block,
            channels,
            busy: self.mailbox.begin(),
        };
        self.shared.change(|queue| queue.maps = Some(job));
    }

    pub(super) fn explain(
        &self,
        generation: u64,
        of: ExplainedScore,
        pixels: Arc<RgbImage>,
        task: ExplanationTask,
    ) {
        let job = ExplanationJob {
            generation,
            of,
            pixels,
            task,
            busy: self.mailbox.begin(),
        };
        self.shared.change(|queue| queue.explanation = Some(job));
    }

    /// Drops a request for an explanation that is no longer shown.
    pub(super) fn drop_explanation(&self) {
        self.shared.change(|queue| queue.explanation = None);
    }

    pub(super) fn long(&self, work: LongWork) {
        let busy = self.mailbox.begin();
        self.shared
            .change(|queue| queue.long.push_back((work, busy)));
    }

    /// Stops the batch work in progress and drops waiting requests.
    pub(super) fn cancel(&self) {
        self.shared.change(|queue| queue.long.clear());
        self.shared.canceled.store(true, Ordering::SeqCst);
    }

    /// Drops the requests for closed images; the networks are kept.
    pub(super) fn forget_images(&self) {
        self.shared.change(|queue| {
            queue.inferences = [None, None];
            queue.maps = None;
            queue.explanation = None;
        });
        self.cancel();
    }
}

/// A network with what identifies it.
#[derive(Clone)]
struct Loaded {
    model: Arc<Model>,
    id: u64,
    title: String,
}

/// The state of the thread.
struct Owner {
    shared: Arc<Shared>,
    mailbox: Mailbox,
    generation: Arc<AtomicU64>,
    execution: Execution,
    networks: [Option<Loaded>; 2],
    /// The latest input of the first pane, with its feature maps.
    last: Option<(u64, usize, Recording)>,
    /// Generation, image and network of the latest explanation, with the forward pass that further ones begin with.
    explained: Option<(u64, usize, u64, ExplainedImage)>,
}

impl Owner {
    /// Waits until there is work.
    fn wait(&self) {
        let mut queue = self
            .shared
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while queue.loads.is_empty()
            && queue.inferences.iter().all(Option::is_none)
            && queue.maps.is_none()
            && queue.explanation.is_none()
            && queue.long.is_empty()
        {
            let woken = self.shared.changed.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take<T>(&self, take: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self
            .shared
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        take(&mut queue)
    }

    /// Processes requests whose results are visible at once.
    fn urgent(&mut self) {
        loop {
            if let Some((pane, source, _busy)) = self.take(|queue| queue.loads.pop_front()) {
                self.load(pane, source);
            } else if let Some(job) = self.take(|queue| {
                queue.inferences[0]
                    .take()
                    .or_else(|| queue.inferences[1].take())
            }) {
                self.infer(job);
            } else if let Some(job) = self.take(|queue| queue.maps.take()) {
                self.maps(&job);
            } else if let Some(job) = self.take(|queue| queue.explanation.take()) {
                self.explain(job);
            } else {
                return;
            }
        }
    }

    fn load(&mut self, pane: Pane, source: Source) {
        let Execution { device, precision } = &self.execution;
        let (name, written, network) = match source {
            Source::Shipped => (
                PathBuf::from(SHIPPED_NAME),
                None,
                Model::from_bytes(SHIPPED, SHIPPED_NAME, device),
            ),
            Source::File(path) => {
                // The directory of a run denotes one of its checkpoints, which is shown.
                let file = weights_file(&path).unwrap_or(path);
                let written = WeightsFile::at(file.clone());
                let network = Model::load(&file, device);
                // A run may have replaced it meanwhile.
                let is_same =
                    |written: &WeightsFile| WeightsFile::at(file.clone()).as_ref() == Some(written);
                let written = written.filter(is_same);
                (file, written, network)
            }
        };
        match network.map(|network| network.with_precision(*precision)) {
            Ok(network) => {
                let info = info(&network, &name, written);
                let crop = network.spec.preprocess.center_crop;
                let described = info.clone();
                self.networks[pane.index()] = Some(Loaded {
                    model: Arc::new(network),
                    id: info.id,
                    title: info.title.clone(),
                });
                self.mailbox.send(Message::Network(pane, Box::new(info)));
                if pane == Pane::First {
                    (self.last, self.explained) = (None, None);
                    self.list_layers(described, crop.unwrap_or(TABLE_SIDE));
                }
            }
            Err(error) => self
                .mailbox
                .send(Message::NotLoaded(pane, error.to_string())),
        }
    }

    /// Lists the layers on a thread of its own: the network is built once more for it.
    fn list_layers(&self, network: NetworkInfo, side: usize) {
        let (mailbox, busy) = (self.mailbox.clone(), self.mailbox.begin());
        std::thread::spawn(move || {
            if let Some(table) = model_table(&network, side) {
                mailbox.send(Message::Model(Arc::new(table)));
            }
            drop(busy);
        });
    }

    fn infer(&mut self, job: InferenceJob) {
        let is_current = job.generation == self.generation.load(Ordering::SeqCst);
        let Some(network) = self.networks[job.network.index()]
            .clone()
            .filter(|_| is_current)
        else {
            return;
        };
        // Only the first pane shows feature maps.
        let depth = match job.pane {
            Pane::First => Depth::GatesAndFeatureMaps,
            Pane::Second => Depth::Gates,
        };
        let start = Instant::now();
        match network.model.record(&job.pixels, depth) {
            Ok(recording) => {
                let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
                let inference = inference_of(&recording, job.image, milliseconds);
                let found = found_in(&recording, &network.model);
                if job.pane == Pane::First {
                    self.last = Some((job.generation, job.image, recording));
                    // Its feature maps are those of an image that is no longer shown.
                    self.explained = None;
                }
                let result = CollectionMessage::Inference(job.network, Box::new(inference), found);
                self.mailbox.send_result(job.generation, result);
            }
            Err(error) => self.mailbox.send(Message::Failed(error.to_string())),
        }
        drop(job.busy);
    }

    fn maps(&self, job: &MapsJob) {
        let Some((_, _, recording)) = self
            .last
            .as_ref()
            .filter(|(generation, image, _)| (*generation, *image) == (job.generation, job.image))
        else {
            return;
        };
        let Some(block) = recording.blocks.get(job.block) else {
            return;
        };
        let channels = job.channels.iter().filter_map(|&channel| {
            let (before, after) = block.channel(channel)?;
            Some((channel, before, after))
        });
        let maps = BlockMaps {
            image: job.image,
            block: job.block,
            channels: Arc::new(channels.collect()),
        };
        let _until_sent = &job.busy;
        let result = CollectionMessage::Maps(maps);
        self.mailbox.send_result(job.generation, result);
    }

    /// Explains a score of the first network, or computes it with other gates.
    fn explain(&mut self, job: ExplanationJob) {
        let ExplanationJob {
            generation,
            of,
            pixels,
            task,
            busy: _until_sent,
        } = job;
        let is_current = generation == self.generation.load(Ordering::SeqCst);
        let network = self.networks[0].clone();
        let Some(network) = network.filter(|network| is_current && network.id == of.network) else {
            return;
        };
        let model = &network.model;
        let key = (generation, of.image, of.network);
        let known = self.explained.take();
        let known =
            known.filter(|(generation, image, network, _)| (*generation, *image, *network) == key);
        let pass = match known {
            Some((.., pass)) => Ok(pass),
            None => model.explained_image(&pixels),
        };
        let pass = match pass {
            Ok(pass) => pass,
            Err(error) => {
                let result = CollectionMessage::Explained(of, Err(error.to_string()));
                self.mailbox.send_result(generation, result);
                return;
            }
        };
        let result = match task {
            ExplanationTask::Explain(statistics) => {
                let explanation = model.explain(&pass, of.subject).map_err(|e| e.to_string());
                let explained = explanation.and_then(|explanation| {
                    let explained = ScoreExplanation::new(of, explanation, statistics);
                    explained.map(Box::new).map_err(|e| e.to_string())
                });
                CollectionMessage::Explained(of, explained)
            }
            ExplanationTask::Score(replaced) => {
                let score = model.score_with(&pass, of.subject, &replaced);
                let (score, error) = match score {
                    Ok(score) => (Some(score), None),
                    Err(error) => (None, Some(error.to_string())),
                };
                let without = ScoreWithout {
                    of,
                    replaced,
                    score,
                };
                CollectionMessage::Without(without, error)
            }
        };
        self.explained = Some((key.0, key.1, key.2, pass));
        self.mailbox.send_result(generation, result);
    }

    /// Processes one item of batch work and checks for urgent requests.
    fn long(&mut self) {
        let Some((work, _busy)) = self.take(|queue| queue.long.pop_front()) else {
            return;
        };
        self.shared.canceled.store(false, Ordering::SeqCst);
        match work {
            LongWork::DetectAll {
                pane,
                generation,
                collection,
                known,
            } => {
                let network = self.networks[pane.index()].as_ref();
                let task = network.map(|network| network.model.task());
                match task {
                    Some(Task::Classification) => {
                        self.classify_all(pane, generation, &collection, &known);
                    }
                    Some(Task::Detection) | None => {
                        self.detect_all(pane, generation, &collection, &known);
                    }
                }
            }
            LongWork::Measure {
                pane,
                collection,
                limit,
            } => self.measure(pane, &collection, limit),
        }
    }

    fn is_canceled(&self) -> bool {
        self.shared.canceled.load(Ordering::SeqCst)
    }

    fn detect_all(&mut self, pane: Pane, generation: u64, collection: &Collection, known: &[bool]) {
        let label = match pane {
            Pane::First => "detecting".to_owned(),
            Pane::Second => "detecting with the second network".to_owned(),
        };
        let mut unreadable = 0;
        for index in 0..collection.len() {
            self.urgent();
            let is_current = generation == self.generation.load(Ordering::SeqCst);
            let network = self.networks[pane.index()].clone();
            let Some(network) = network.filter(|_| is_current && !self.is_canceled()) else {
                break;
            };
            let progress = TaskProgress {
                label: label.clone(),
                done: index,
                total: collection.len(),
            };
            self.mailbox.send(Message::Progress(progress));
            if known.get(index) == Some(&true) {
                continue;
            }
            let image = match collection.load(index) {
                Ok(image) => image,
                Err(error) => {
                    unreadable += 1;
                    self.skip(generation, index, (unreadable == 1).then_some(error));
                    continue;
                }
            };
            let start = Instant::now();
            match network.model.record(&image, Depth::Gates) {
                Ok(recording) => {
                    let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
                    let inference = Box::new(inference_of(&recording, index, milliseconds));
                    let found = found_in(&recording, &network.model);
                    let result = CollectionMessage::Inference(pane, inference, found);
                    self.mailbox.send_result(generation, result);
                }
                Err(error) => {
                    self.mailbox.send(Message::Failed(error.to_string()));
                    break;
                }
            }
        }
        self.report_unreadable(unreadable, collection);
        self.mailbox.send(Message::Finished(label));
    }

    /// Classifies all images in the batches of an evaluation, without gates and feature maps.
    fn classify_all(
        &mut self,
        pane: Pane,
        generation: u64,
        collection: &Collection,
        known: &[bool],
    ) {
        let label = match pane {
            Pane::First => "classifying".to_owned(),
            Pane::Second => "classifying with the second network".to_owned(),
        };
        let remaining: Vec<usize> = (0..collection.len())
            .filter(|&index| known.get(index) != Some(&true))
            .collect();
        let started_with = self.networks[pane.index()].as_ref().map(|known| known.id);
        let (mut done, mut unreadable) = (collection.len() - remaining.len(), 0);
        let mut remaining = remaining.as_slice();
        while !remaining.is_empty() {
            self.urgent();
            let is_current = generation == self.generation.load(Ordering::SeqCst);
            let network = self.networks[pane.index()].clone();
            let network = network.filter(|known| is_current && Some(known.id) == started_with);
            let Some(network) = network.filter(|_| !self.is_canceled()) else {
                break;
            };
            self.mailbox.send(Message::Progress(TaskProgress {
                label: label.clone(),
                done,
                total: collection.len(),
            }));
            // Also on a GPU the small batches of a CPU, between which the visible image is processed.
            let size = network.model.batch_size(Backend::Cpu).max(1);
            let (batch, others) = remaining.split_at(size.min(remaining.len()));
            remaining = others;
            done += batch.len();
            let decoded: Vec<_> = batch
                .par_iter()
                .map(|&index| (index, collection.load(index)))
                .collect();
            let (mut places, mut images) = (Vec::new(), Vec::new());
            for (index, image) in decoded {
                match image {
                    Ok(image) => {
                        places.push(index);
                        images.push(image);
                    }
                    Err(error) => {
                        unreadable += 1;
                        self.skip(generation, index, (unreadable == 1).then_some(error));
                    }
                }
            }
            match network.model.logits(&images) {
                Ok(logits) => {
                    let found = places.into_iter().zip(logits).collect();
                    let result = CollectionMessage::Logits(pane, found);
                    self.mailbox.send_result(generation, result);
                }
                Err(error) => {
                    self.mailbox.send(Message::Failed(error.to_string()));
                    break;
                }
            }
        }
        self.report_unreadable(unreadable, collection);
        self.mailbox.send(Message::Finished(label));
    }

    /// Records an image that cannot be read; only the first of a task is reported by its error.
    fn skip(&self, generation: u64, index: usize, error: Option<String>) {
        let skipped = CollectionMessage::Skipped(index);
        self.mailbox.send_result(generation, skipped);
        if let Some(error) = error {
            self.mailbox.send(Message::Failed(error));
        }
    }

    fn report_unreadable(&self, unreadable: usize, collection: &Collection) {
        if unreadable > 1 {
            let text = format!(
                "{unreadable} images of {} cannot be read",
                collection.title()
            );
            self.mailbox.send(Message::Failed(text));
        }
    }

    fn measure(&mut self, pane: Pane, collection: &Collection, limit: Option<usize>) {
        let label = match pane {
            Pane::First => "measuring gates".to_owned(),
            Pane::Second => "measuring gates of the second network".to_owned(),
        };
        let Some(network) = self.networks[pane.index()].clone() else {
            let text = "open a network first: gates are measured of one".to_owned();
            self.mailbox.send(Message::Failed(text));
            return;
        };
        let images = match &collection.images {
            ShownImages::Boxes(dataset) => Dataset::Detection(OpenedSplit {
                dataset: dataset.clone(),
            }),
            ShownImages::Labeled(dataset) => Dataset::Classification(dataset.clone()),
            ShownImages::Files(_) => return,
        };
        let choice = ImageChoice {
            dataset: collection.name.clone(),
            // An annotation file has no splits.
            split: collection.split.unwrap_or(Split::Val),
            limit,
            on_bad_image: OnBadImage::Error,
        };
        let measured = network
            .model
            .record_excitation(&images, &choice, &mut |done, total| {
                self.urgent();
                self.mailbox.send(Message::Progress(TaskProgress {
                    label: label.clone(),
                    done,
                    total,
                }));
                if self.is_canceled() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        match measured {
            Ok(Some(measured)) => {
                let excitation = Arc::new(measured.excitation);
                if pane == Pane::Second {
                    let measured = Message::SecondStatistics(network.id, excitation);
                    self.mailbox.send(measured);
                    self.mailbox.send(Message::Finished(label));
                    return;
                }
                let source = StatisticsSource::Network {
                    id: network.id,
                    title: network.title,
                };
                self.mailbox.send(Message::Statistics(excitation, source));
            }
            Ok(None) => {}
            Err(error) => self.mailbox.send(Message::Failed(error.to_string())),
        }
        self.mailbox.send(Message::Finished(label));
    }
}

/// Returns what a model found in an image.
fn found_in(recording: &Recording, model: &Model) -> Found {
    match model.task() {
        Task::Detection => Found::Boxes(recording.prediction.detections().to_vec()),
        Task::Classification => Found::Logits(recording.logits.clone()),
    }
}

fn inference_of(recording: &Recording, image: usize, milliseconds: f64) -> Inference {
    let gates = recording
        .gate_rows()
        .into_iter()
        .map(|(name, gates)| BlockGates { name, gates });
    Inference {
        image,
        blocks: gates.collect(),
        classes: recording.prediction.classes().to_vec(),
        input_region: recording.seen,
        milliseconds,
    }
}

/// Returns a number that no other network has.
fn new_id() -> u64 {
    static IDS: AtomicU64 = AtomicU64::new(1);
    IDS.fetch_add(1, Ordering::Relaxed)
}

/// Returns the name of a checkpoint; that of a training run begins with the name of the run, as the best weights of all
/// runs have the same file name.
fn shown_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    let within = path.parent().filter(|at| at.ends_with("checkpoints"));
    let run = within
        .and_then(Path::parent)
        .filter(|run| RunDir::is_run(run));
    match (run, path.file_stem()) {
        (Some(run), Some(weights)) => format!("{}/{}", run_name(run), weights.to_string_lossy()),
        _ => name.to_string_lossy().into_owned(),
    }
}

fn info(network: &Model, path: &Path, file: Option<WeightsFile>) -> NetworkInfo {
    let name = shown_name(path);
    let kind = network.task().model_name();
    let classes = network.spec.num_classes();
    let is_detector = network.task() == Task::Detection;
    // A network without SE units has none to list.
    let blocks = network.se_blocks().unwrap_or_default();
    let trained = network.spec.trained.as_ref();
    let trained = trained.map(|facts| format!(", iteration {}", facts.iterations));
    NetworkInfo {
        id: new_id(),
        path: path.to_path_buf(),
        file,
        config: network.spec.network.clone(),
        title: format!(
            "{}: {kind}, {}{}",
            name,
            count(classes, "class"),
            trained.unwrap_or_default()
        ),
        categories: if is_detector {
            network.spec.categories.clone()
        } else {
            Vec::new()
        },
        class_names: network.spec.class_names(),
        has_class_names: network.spec.has_class_names(),
        is_detector,
        blocks: blocks.into_iter().map(|block| block.name).collect(),
    }
}

/// Returns the layers of a classifier, or of a detector's backbone.
fn model_table(network: &NetworkInfo, side: usize) -> Option<ModelTable> {
    let part = if network.is_detector {
        " (backbone only; FPN, RPN and heads are not listed)"
    } else {
        ""
    };
    Some(ModelTable {
        network: network.id,
        title: format!("{}{part}", network.title),
        summary: trained_layers(&network.config, [side; 2]).ok()?,
        side,
    })
}
