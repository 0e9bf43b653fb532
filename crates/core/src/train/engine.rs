//! The training loop, one for every task.
//!
//! All randomness of an iteration is a function of the seed and the iteration; the whole state of a run
//! is in its last checkpoint. So an interrupted and resumed run equals one that was
//! never interrupted, bit for bit on the CPU.

use std::ops::ControlFlow;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::ema::Ema;
use super::events::{EventKind, EventLog};
use super::observer::{Notice, Observer};
use super::optimizer::{Optimizer, average_and_clip};
use super::progress::{EpochEvaluation, EpochReport, StepReport};
use super::run_dir::{RunDir, RunDirError};
use crate::config::training::EngineConfig;
use crate::distributed::gradients::GradientSum;
use crate::distributed::norms::{NormSync, add_statistics, has_trained_norms};
use crate::distributed::{DistributedError, Ranks};
use crate::spec::{ModelSpec, TrainingFacts};
use crate::weights::checkpoint::{Checkpoint, CheckpointError, Precision};
use crate::weights::parameters::{ParameterError, checksums, load_named_tensors, named_tensors};
use crate::weights::progress::TrainingProgress;
use sedet_data::loading::{Shard, SkippedImage};
use sedet_nn::kernels::batch_norm::Processes;
use sedet_nn::kernels::bf16::autocast;
use sedet_nn::nn::norm::{BatchStatistics, keeping_statistics};

/// The losses of one batch.
#[derive(Debug, Clone)]
pub struct Losses {
    /// The total loss, a scalar.
    pub total: Tensor<1>,
    /// The parts of the loss by name, scalars.
    pub parts: Vec<(&'static str, Tensor<1>)>,
}

impl Losses {
    /// Computes the gradients with the usual backward pass through the kept graph.
    pub fn backward<'m>(&self, model: &'m impl Module) -> BackwardPass<'m> {
        let total = self.total.clone();
        Box::new(move || GradientsParams::from_grads(total.backward(), model))
    }
}

/// The batches of one epoch that are of one process, and the time spent waiting for them.
pub trait Batches<B, E> {
    /// Returns the next batch, or `None` in its place if all its images were skipped.
    fn next(&mut self) -> Option<Result<Option<B>, E>>;
    /// Returns the time spent waiting for data so far.
    fn waited(&self) -> Duration;
}

/// The batches of an epoch, or an error.
pub type OpenedEpoch<B, E> = Result<Box<dyn Batches<B, E>>, E>;

/// A function that computes the gradients of a batch's losses.
pub type BackwardPass<'m> = Box<dyn FnOnce() -> GradientsParams + 'm>;

/// A training task.
pub trait TrainTask {
    /// The network.
    type Model: Module;
    /// The data of a step.
    type Batch;
    /// The error of data or evaluation.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Returns the number of batches per epoch.
    fn batches_per_epoch(&self) -> usize;
    /// Returns the batches of a share of an epoch from number `first` on.
    ///
    /// # Errors
    /// The error of the task.
    fn batches(
        &self,
        epoch: usize,
        first: usize,
        shard: Shard,
    ) -> OpenedEpoch<Self::Batch, Self::Error>;
    /// Returns the number of images in a batch.
    fn batch_len(&self, batch: &Self::Batch) -> usize;
    /// Returns the images of a batch, for messages.
    fn describe(&self, batch: &Self::Batch) -> Vec<String>;
    /// Computes the losses. All randomness is derived from `seed`.
    fn losses(&self, model: &Self::Model, batch: Self::Batch, seed: u64) -> Losses;
    /// Computes the losses, and returns the function that computes their gradients, for tasks with
    /// their own backward pass.
    fn losses_and_backward<'m>(
        &self,
        model: &'m Self::Model,
        batch: Self::Batch,
        seed: u64,
    ) -> (Losses, BackwardPass<'m>) {
        let losses = self.losses(model, batch, seed);
        let backward = losses.backward(model);
        (losses, backward)
    }
    /// Evaluates a model in evaluation mode. `progress` receives the numbers of finished and of all
    /// images. Returns `None` if `stop` was set meanwhile.
    ///
    /// # Errors
    /// The error of the task.
    fn evaluate(
        &self,
        model: &Self::Model,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<EpochEvaluation>, Self::Error>;
    /// Returns the images that were skipped so far because they cannot be read.
    fn skipped(&self) -> Vec<SkippedImage> {
        Vec::new()
    }
    /// Returns whether the cause is a single image, so that the run could continue without it.
    fn is_about_one_image(_error: &Self::Error) -> bool {
        false
    }
    /// Returns the description of the model that checkpoints store.
    fn spec(&self) -> &ModelSpec;
}

/// An error that ended training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError<E: std::error::Error + 'static> {
    /// A setting is invalid.
    #[error("train.{field} is 0; it must be at least 1")]
    Config {
        /// The setting.
        field: &'static str,
    },
    /// No norm of the network depends on the batch.
    #[error("train.sync_norms has no effect: the norms of this network are frozen")]
    NothingToSync,
    /// An error of data or evaluation.
    #[error(transparent)]
    Task(E),
    /// All images of an epoch were skipped.
    #[error(
        "no image of epoch {epoch} could be used{}",
        first.as_ref().map_or(String::new(), |reason| format!(" ({reason})"))
    )]
    NothingToLearnFrom {
        /// The epoch, from 1.
        epoch: usize,
        /// Why one of them could not be used.
        first: Option<String>,
    },
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An error of the run's directory.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The checkpoint is of another network.
    #[error("{}: {source}", path.display())]
    OtherNetwork {
        /// The checkpoint.
        path: PathBuf,
        /// The tensors that do not match.
        source: ParameterError,
    },
    /// The logs cannot be written.
    #[error("{}: events not written: {source}", path.display())]
    Events {
        /// The directory of the run.
        path: PathBuf,
        /// The system error.
        source: std::io::Error,
    },
    /// The processes that train together.
    #[error(transparent)]
    Ranks(#[from] DistributedError),
    /// The checkpoint has no training state.
    #[error("{}: has no training state; resuming requires the run's last.safetensors", path.display())]
    NotResumable {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The loss or the gradient is not finite.
    #[error(
        "the loss is not finite at iteration {iteration} (epoch {epoch}): {parts}; learning rate \
         {learning_rate:.2e}, gradient norm {gradient_norm:.3e}, images {}. Nothing was updated; \
         {} is the last good checkpoint", images.join(", "), last_good.display()
    )]
    NonFinite {
        /// The number of completed optimizer steps.
        iteration: usize,
        /// The epoch, from 1.
        epoch: usize,
        /// The parts of the loss.
        parts: String,
        /// The learning rate at this step.
        learning_rate: f64,
        /// The norm of the gradients, if it was computed.
        gradient_norm: f64,
        /// The images of the batch.
        images: Vec<String>,
        /// The last checkpoint.
        last_good: PathBuf,
    },
}

impl<E: std::error::Error + 'static> TrainError<E> {
    /// Returns whether the run can be resumed from its last checkpoint after the cause is fixed.
    pub fn can_be_resumed(&self) -> bool {
        match self {
            Self::Task(_)
            | Self::NothingToLearnFrom { .. }
            | Self::Checkpoint(CheckpointError::Write { .. })
            | Self::RunDir(RunDirError::Io { .. })
            | Self::Events { .. } => true,
            Self::Ranks(DistributedError::Closed { failure, .. }) => failure.can_be_resumed,
            _ => false,
        }
    }
}

impl<E: std::error::Error + 'static> TrainError<E> {
    /// Returns whether the run could continue without one image.
    pub fn is_about_one_image<T: TrainTask<Error = E>>(&self) -> bool {
        match self {
            Self::Task(error) => T::is_about_one_image(error),
            Self::Ranks(DistributedError::Closed { failure, .. }) => failure.is_about_one_image,
            _ => false,
        }
    }
}

/// The outcome of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are complete.
    Finished,
    /// The score no longer improves.
    StoppedEarly,
    /// The time limit `max_minutes` is reached. The run was evaluated and can be resumed.
    TimeUp,
    /// Training was stopped on request and can be resumed.
    Interrupted,
}

/// The reason why training paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stretch {
    EpochDone,
    IterationsDone,
    TimeUp,
    Interrupted,
}

/// Sums over the steps of an epoch.
#[derive(Debug, Default)]
struct EpochSums {
    steps: usize,
    losses: Vec<(String, f64)>,
    learning_rate: f64,
    seconds: f64,
    images: usize,
}

impl EpochSums {
    fn add(&mut self, losses: &[(String, f64)], learning_rate: f64, seconds: f64, images: usize) {
        if self.losses.is_empty() {
            self.losses = losses.iter().map(|(name, _)| (name.clone(), 0.0)).collect();
        }
        for (sum, (_, value)) in self.losses.iter_mut().zip(losses) {
            sum.1 += value;
        }
        self.steps += 1;
        self.learning_rate = learning_rate;
        self.seconds += seconds;
        self.images += images;
    }

    fn report<'a>(
        self,
        epoch: usize,
        epochs: usize,
        evaluation: Option<(&'a EpochEvaluation, bool)>,
    ) -> EpochReport<'a> {
        let mut losses = self.losses;
        for (_, sum) in &mut losses {
            *sum /= self.steps as f64;
        }
        EpochReport {
            epoch,
            epochs,
            losses,
            learning_rate: self.learning_rate,
            seconds: self.seconds,
            images: self.images,
            evaluation,
        }
    }
}

/// A run: a task, its directory and its settings.
#[derive(Debug)]
pub struct Engine<'a, T: TrainTask> {
    /// A training task.
    pub task: &'a T,
    /// The settings.
    pub config: EngineConfig,
    /// The directory.
    pub run: RunDir,
    /// The device of the training tensors, with autodiff.
    pub device: Device,
    /// Stops training at the next step when set.
    pub stop: &'a AtomicBool,
    /// The processes that train together. Rank 0 writes to the directory.
    pub ranks: Ranks,
}

struct State<M> {
    model: M,
    optimizer: Optimizer,
    ema: Option<Ema>,
    progress: TrainingProgress,
}

/// What a rank has found out about one of its batches.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct PartFacts {
    /// Whether there was a batch.
    is_present: bool,
    /// The losses by name, as bits: text would round them.
    losses: Vec<(String, u64)>,
    /// The images.
    images: Vec<String>,
}

impl PartFacts {
    fn losses(&self) -> impl Iterator<Item = (String, f64)> {
        let losses = self.losses.iter();
        losses.map(|(name, bits)| (name.clone(), f64::from_bits(*bits)))
    }
}

/// The gradients of one optimizer step.
struct Step {
    /// Mean losses over the batches.
    losses: Vec<(String, f64)>,
    /// Norm of the gradients before clipping.
    norm: f64,
    gradients: GradientsParams,
}

/// Why training should stop, the batches of a process for one optimizer step, and the number of images of all
/// processes in it.
type Loaded<B> = (Option<Stretch>, Vec<Option<B>>, usize);

/// Optimizer steps between two comparisons of the weights of all ranks.
const STEPS_BETWEEN_CHECKS: usize = 200;

/// The state after a part of training, and the reason why it ended.
type Stretched<M, E> = Result<(State<M>, Stretch), TrainError<E>>;

impl<T: TrainTask> Engine<'_, T> {
    /// Trains from a model's current weights.
    ///
    /// # Errors
    /// See [`TrainError`].
    pub fn train(
        &self,
        model: T::Model,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError<T::Error>> {
        let state = State {
            model,
            optimizer: Optimizer::of(&self.config),
            ema: self.config.ema_decay.map(Ema::new),
            progress: TrainingProgress::default(),
        };
        self.check_config(&state.model)?;
        self.check_same_weights(&state.model)?;
        self.save(&state)?;
        self.run(state, observer)
    }

    /// Resumes from the run's last checkpoint, or from the previous one if that is damaged. `model`
    /// provides the structure.
    ///
    /// # Errors
    /// See [`TrainError`].
    pub fn resume(
        &self,
        model: T::Model,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError<T::Error>> {
        self.check_config(&model)?;
        let (path, checkpoint) = self.last_checkpoint(observer)?;
        let progress = checkpoint
            .progress
            .ok_or_else(|| TrainError::NotResumable { path: path.clone() })?;
        let other_network = |source| TrainError::OtherNetwork {
            path: path.clone(),
            source,
        };
        let model = load_named_tensors(model, &checkpoint.weights).map_err(other_network)?;
        let plain = self.device.clone().inner();
        let mut optimizer = Optimizer::of(&self.config);
        optimizer
            .import(&checkpoint.optimizer, &model)
            .map_err(other_network)?;
        let ema = self.config.ema_decay.map(|decay| {
            let mut ema = Ema::new(decay);
            ema.import(progress.ema_updates, &checkpoint.ema, &plain);
            ema
        });
        self.check_same_weights(&model)?;
        if progress.epoch >= self.config.epochs {
            observer.notice(&Notice::AlreadyTrained {
                run: self.run.path.clone(),
                epochs: progress.epoch,
                configured: self.config.epochs,
            });
        }
        self.run(
            State {
                model,
                optimizer,
                ema,
                progress,
            },
            observer,
        )
    }

    /// Returns the last undamaged checkpoint and its path.
    fn last_checkpoint(
        &self,
        observer: &mut dyn Observer,
    ) -> Result<(PathBuf, Checkpoint), CheckpointError> {
        let (last, previous) = (self.run.last_checkpoint(), self.run.previous_checkpoint());
        match Checkpoint::load(&last) {
            Ok(checkpoint) => Ok((last, checkpoint)),
            Err(damage) => match Checkpoint::load(&previous) {
                Ok(checkpoint) => {
                    observer.notice(&Notice::Recovered {
                        damage: damage.to_string(),
                        from: previous.clone(),
                    });
                    // A damaged checkpoint must not become the previous one.
                    if self.ranks.is_first() {
                        checkpoint.save(&last, Precision::Full)?;
                    }
                    Ok((previous, checkpoint))
                }
                Err(_) => Err(damage),
            },
        }
    }

    fn check_config(&self, model: &T::Model) -> Result<(), TrainError<T::Error>> {
        let config = &self.config;
        let fields = [
            ("epochs", config.epochs),
            ("accumulate", config.accumulate),
            ("evaluate_every", config.evaluate_every),
            ("keep_checkpoints", config.keep_checkpoints.unwrap_or(1)),
            ("log_every", config.log_every),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, value)| *value == 0) {
            return Err(TrainError::Config { field });
        }
        if config.sync_norms.is_some() && !has_trained_norms(model) {
            return Err(TrainError::NothingToSync);
        }
        Ok(())
    }

    fn steps_per_epoch(&self) -> usize {
        self.task
            .batches_per_epoch()
            .div_ceil(self.config.accumulate)
            .max(1)
    }

    fn total_iterations(&self) -> usize {
        let all = self.steps_per_epoch() * self.config.epochs;
        self.config.max_iterations.map_or(all, |max| max.min(all))
    }

    /// Returns whether the weights of the evaluation at an iteration are kept: of the planned evaluations at most
    /// `keep_checkpoints`, at equal distances from the last one, which is among them.
    fn is_kept(&self, iteration: usize) -> bool {
        let Some(count) = self.config.keep_checkpoints else {
            return false;
        };
        let total = self.total_iterations();
        let every = self.steps_per_epoch() * self.config.evaluate_every;
        // A limit of time leads to evaluations between those.
        let is_planned = iteration == total || iteration.is_multiple_of(every);
        let planned = total.div_ceil(every);
        let later = planned.saturating_sub(iteration.div_ceil(every));
        is_planned && later.is_multiple_of(planned.div_ceil(count.max(1)))
    }

    fn run(
        &self,
        mut state: State<T::Model>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError<T::Error>> {
        let started = Instant::now();
        let is_done = state.progress.epoch >= self.config.epochs;
        // Of a run without epochs left, the final evaluation needs the best weights.
        let is_evaluated = state.progress.evaluated_at == Some(state.progress.iteration)
            && (!is_done || self.has_best()?);
        let mut log = if self.ranks.is_first() {
            let log = EventLog::open(&self.run.path, state.progress.iteration, is_evaluated);
            Some(log.map_err(|e| self.events_error(e))?)
        } else {
            None
        };
        // A run that was shortened to the epochs that it has finished ends like one that was as short from the
        // beginning: with an evaluation.
        if is_done && !is_evaluated {
            let last = self.config.epochs.saturating_sub(1);
            let found = self.evaluate_epoch(&mut state, last, &mut log, observer)?;
            let Some((evaluation, is_best)) = found else {
                return Ok(Outcome::Interrupted);
            };
            let evaluated = Some((&evaluation, is_best));
            observer.epoch(&EpochSums::default().report(last, self.config.epochs, evaluated));
            self.save(&state)?;
        }
        while state.progress.epoch < self.config.epochs {
            let end;
            let mut sums = EpochSums::default();
            (state, end) = self.epoch(state, started, &mut sums, &mut log, observer)?;
            let epoch = state.progress.epoch;
            let due = end != Stretch::EpochDone
                || epoch + 1 == self.config.epochs
                || (epoch + 1).is_multiple_of(self.config.evaluate_every);
            let due = due && state.progress.evaluated_at != Some(state.progress.iteration);
            if due || end == Stretch::Interrupted {
                // An evaluation takes long. If the process is killed meanwhile, all training is
                // saved.
                self.save(&state)?;
            }
            if due {
                self.check_same_weights(&state.model)?;
            }
            if end == Stretch::Interrupted
                || (due && self.ranks.any(self.stop.load(Ordering::Relaxed))?)
            {
                return Ok(Outcome::Interrupted);
            }
            let mut stop_early = false;
            let mut evaluated = None;
            if due {
                let found = self.evaluate_epoch(&mut state, epoch, &mut log, observer)?;
                let Some((evaluation, is_best)) = found else {
                    return Ok(Outcome::Interrupted);
                };
                if !is_best && end == Stretch::EpochDone {
                    // A time limit in the middle of an epoch does not indicate a plateau.
                    state.progress.evaluations_without_gain += 1;
                }
                let patience = self.config.patience.unwrap_or(usize::MAX);
                stop_early = state.progress.evaluations_without_gain >= patience;
                evaluated = Some((evaluation, is_best));
            }
            let evaluated = evaluated.as_ref().map(|(found, is_best)| (found, *is_best));
            if sums.steps > 0 || evaluated.is_some() {
                observer.epoch(&sums.report(epoch, self.config.epochs, evaluated));
            }
            if end == Stretch::EpochDone {
                state.progress.epoch += 1;
                state.progress.batch = 0;
            }
            self.save(&state)?;
            match end {
                Stretch::TimeUp => return Ok(Outcome::TimeUp),
                Stretch::IterationsDone => return Ok(Outcome::Finished),
                _ if stop_early => return Ok(Outcome::StoppedEarly),
                _ => {}
            }
        }
        Ok(Outcome::Finished)
    }

    /// Evaluates after an epoch, and records the result in the state and in the log. Returns `None` if it was stopped;
    /// the state is then unchanged.
    fn evaluate_epoch(
        &self,
        state: &mut State<T::Model>,
        epoch: usize,
        log: &mut Option<EventLog>,
        observer: &mut dyn Observer,
    ) -> Result<Option<(EpochEvaluation, bool)>, TrainError<T::Error>> {
        observer.evaluating(epoch);
        let Some((evaluation, is_best)) = self.evaluate(state, observer)? else {
            return Ok(None);
        };
        let iteration = state.progress.iteration;
        self.write_event(log, EventKind::Eval, iteration, &evaluation.metrics)?;
        observer.evaluated(epoch, &evaluation, is_best);
        state.progress.plateau.observe(
            evaluation.loss.unwrap_or(-evaluation.score),
            &self.config.schedule.decay,
        );
        if is_best {
            state.progress.evaluations_without_gain = 0;
        }
        Ok(Some((evaluation, is_best)))
    }

    /// Returns the reason why training stops before the next step, if it does.
    fn stop_reason(
        &self,
        progress: &TrainingProgress,
        total: usize,
        session: Instant,
    ) -> Option<Stretch> {
        let max_seconds = self.config.max_minutes.map_or(f64::INFINITY, |m| m * 60.0);
        if self.stop.load(Ordering::Relaxed) {
            Some(Stretch::Interrupted)
        } else if progress.iteration >= total {
            Some(Stretch::IterationsDone)
        } else if session.elapsed().as_secs_f64() >= max_seconds {
            Some(Stretch::TimeUp)
        } else {
            None
        }
    }

    /// Returns the share of the batches that this process computes.
    fn shard(&self) -> Shard {
        Shard {
            rank: self.ranks.rank(),
            size: self.ranks.size(),
            group: self.config.accumulate,
        }
    }

    /// Trains to the end of the epoch, or until a limit or an interruption.
    fn epoch(
        &self,
        mut state: State<T::Model>,
        session: Instant,
        sums: &mut EpochSums,
        log: &mut Option<EventLog>,
        observer: &mut dyn Observer,
    ) -> Stretched<T::Model, T::Error> {
        let total = self.total_iterations();
        let batch_count = self.task.batches_per_epoch();
        if state.progress.batch >= batch_count {
            // The process was killed while this epoch was evaluated.
            return Ok((state, Stretch::EpochDone));
        }
        let shard = self.shard();
        let mut batches = self
            .task
            .batches(state.progress.epoch, state.progress.batch, shard)
            .map_err(TrainError::Task)?;
        let mut last_save = Instant::now();
        let mut meter = Meter::new();
        let (first_batch, first_iteration) = (state.progress.batch, state.progress.iteration);
        while state.progress.batch < batch_count {
            let reason = self.stop_reason(&state.progress, total, session);
            let started = Instant::now();
            let group = state.progress.batch
                ..batch_count.min(state.progress.batch + self.config.accumulate);
            let loaded = self.load_and_agree(batches.as_mut(), group.clone(), reason);
            let (reason, own, images) = match loaded {
                Ok(loaded) => loaded,
                Err(error) => {
                    // The steps since the last save are complete and must not be lost because of a
                    // bad image.
                    self.save(&state)?;
                    return Err(error);
                }
            };
            if let Some(reason) = reason {
                return Ok((state, reason));
            }
            if images == 0 {
                // All images of the group were skipped.
                state.progress.batch = group.end;
                continue;
            }
            meter.images += images;
            let learning_rate = self.learning_rate(&state.progress, total);
            let step = self.gradients(&state, own, group.len(), learning_rate)?;
            state.model = state
                .optimizer
                .step(state.model, step.gradients, learning_rate);
            if let Some(ema) = &mut state.ema {
                ema.update(&state.model);
            }
            state.progress.iteration += 1;
            state.progress.batch = group.end;
            let seconds = started.elapsed().as_secs_f64();
            state.progress.seconds += seconds;
            sums.add(&step.losses, learning_rate, seconds, images);
            let report = StepReport {
                iteration: state.progress.iteration,
                iterations: total,
                epoch: state.progress.epoch,
                losses: &step.losses,
                learning_rate,
                images_per_second: meter.images_per_second(),
                data_wait: meter.wait_share(batches.waited()),
            };
            observer.step(&report);
            if state.progress.iteration % self.config.log_every == 0 {
                self.log_step(log, &report, step.norm)?;
                meter = Meter::after(batches.waited());
            }
            if state.progress.iteration % STEPS_BETWEEN_CHECKS == 0 {
                self.check_same_weights(&state.model)?;
            }
            if last_save.elapsed().as_secs_f64() > self.config.save_minutes * 60.0 {
                self.save(&state)?;
                last_save = Instant::now();
            }
        }
        if first_batch == 0 && state.progress.iteration == first_iteration {
            return Err(TrainError::NothingToLearnFrom {
                epoch: state.progress.epoch + 1,
                first: self
                    .task
                    .skipped()
                    .into_iter()
                    .next()
                    .map(|image| image.reason),
            });
        }
        Ok((state, Stretch::EpochDone))
    }

    /// Loads the batches of this process in a group, unless there is a `reason` to stop, and agrees with the other
    /// ranks whether to stop. Returns the reason of the first of them that has one, the batches, none where all images
    /// were skipped, and the number of images of all ranks.
    ///
    /// All batches are loaded before any is used: a checkpoint must not be taken within a step.
    fn load_and_agree(
        &self,
        batches: &mut dyn Batches<T::Batch, T::Error>,
        group: Range<usize>,
        reason: Option<Stretch>,
    ) -> Result<Loaded<T::Batch>, TrainError<T::Error>> {
        let shard = self.shard();
        let count = group.filter(|number| shard.has(*number)).count();
        let count = if reason.is_some() { 0 } else { count };
        let own: Result<Vec<Option<T::Batch>>, T::Error> =
            std::iter::from_fn(|| batches.next()).take(count).collect();
        let own = own.map_err(TrainError::Task)?;
        let images = own.iter().flatten().map(|b| self.task.batch_len(b)).sum();
        let all: Vec<(Option<Stretch>, usize)> = self.ranks.gather((reason, images))?;
        let reason = all.iter().find_map(|(reason, _)| *reason);
        let images = all.iter().map(|(_, images)| images).sum();
        Ok((reason, own, images))
    }

    fn learning_rate(&self, progress: &TrainingProgress, total: usize) -> f64 {
        let drops = progress.plateau.drops;
        let per_epoch = self.steps_per_epoch();
        let schedule = &self.config.schedule;
        self.config.learning_rate * schedule.factor(progress.iteration, per_epoch, total, drops)
    }

    /// Computes the mean gradients of the batches of one optimizer step. `own` has those of this process, of `group`
    /// in all.
    ///
    /// # Errors
    /// A loss or a gradient that is not finite, or a rank that failed.
    fn gradients(
        &self,
        state: &State<T::Model>,
        own: Vec<Option<T::Batch>>,
        group: usize,
        learning_rate: f64,
    ) -> Result<Step, TrainError<T::Error>> {
        let mut sum = GradientSum::new(&self.ranks);
        let mut losses: Vec<(String, f64)> = Vec::new();
        let mut images = Vec::new();
        let mut batches = 0;
        let mut own = own.into_iter();
        for first in (0..group).step_by(self.ranks.size()) {
            let part = first + self.ranks.rank();
            let batch = if part < group {
                own.next().flatten()
            } else {
                None
            };
            let (facts, gradients) = self.part(state, batch, part)?;
            for (rank, facts) in self.ranks.gather(facts)?.into_iter().enumerate() {
                if !facts.is_present {
                    continue;
                }
                batches += 1;
                images.extend(facts.images.iter().map(|image| {
                    if self.ranks.is_alone() {
                        image.clone()
                    } else {
                        format!("{image} on rank {rank}")
                    }
                }));
                if losses.is_empty() {
                    losses = facts.losses().map(|(name, _)| (name, 0.0)).collect();
                }
                for (sum, (_, value)) in losses.iter_mut().zip(facts.losses()) {
                    sum.1 += value;
                }
                if facts.losses().any(|(_, value)| !value.is_finite()) {
                    let values: Vec<_> = facts.losses().collect();
                    return Err(self.non_finite(state, &values, learning_rate, f64::NAN, images));
                }
            }
            sum.add(&state.model, gradients)?;
        }
        for (_, sum) in &mut losses {
            *sum /= batches.max(1) as f64;
        }
        let (norm, gradients) = average_and_clip(
            &state.model,
            sum.finish(&state.model)?,
            batches,
            self.config.clip_norm,
        );
        if !norm.is_finite() {
            return Err(self.non_finite(state, &losses, learning_rate, norm, images));
        }
        Ok(Step {
            losses,
            norm,
            gradients,
        })
    }

    /// Computes losses and gradients of the batch with number `part` in its step, if there is one. Gradients are not
    /// computed if a loss is not finite.
    fn part(
        &self,
        state: &State<T::Model>,
        batch: Option<T::Batch>,
        part: usize,
    ) -> Result<(PartFacts, Option<GradientsParams>), TrainError<T::Error>> {
        let precision = self.config.precision;
        let begin = |_| Arc::new(NormSync::new(&self.ranks));
        let sync = self.config.sync_norms.map(begin);
        let finish = |statistics: &[BatchStatistics]| {
            if let Some(sync) = &sync {
                sync.finish()?;
            }
            add_statistics(&self.ranks, &state.model, statistics, sync.is_some())
        };
        let Some(batch) = batch else {
            finish(&[])?;
            return Ok((PartFacts::default(), None));
        };
        let images = self.task.describe(&batch);
        let seed = mix(
            self.config.seed,
            state.progress.iteration as u64,
            part as u64,
        );
        let forward = || {
            autocast(precision, || {
                self.task.losses_and_backward(&state.model, batch, seed)
            })
        };
        let ((found, backward), statistics) = if self.ranks.is_alone() {
            (forward(), Vec::new())
        } else {
            let processes = sync.clone().map(|sync| sync as Arc<dyn Processes>);
            keeping_statistics(processes, forward)
        };
        let values = loss_values(&found);
        let is_finite = values.iter().all(|(_, value)| value.is_finite());
        let losses = values.into_iter();
        let facts = PartFacts {
            is_present: true,
            losses: losses.map(|(name, v)| (name, v.to_bits())).collect(),
            images,
        };
        // The backward pass owns the graph of the losses and frees it.
        drop(found);
        // A backward pass may compute parts of the forward pass again.
        let gradients = is_finite.then(|| autocast(precision, backward));
        if !self.ranks.is_alone() {
            finish(&statistics)?;
        }
        Ok((facts, gradients))
    }

    /// Checks that all ranks have the same weights.
    fn check_same_weights(&self, model: &T::Model) -> Result<(), TrainError<T::Error>> {
        if !self.ranks.is_alone() {
            let checksums = checksums(&named_tensors(model));
            self.ranks.check_same("tensor (checksum)", checksums)?;
        }
        Ok(())
    }

    /// Returns whether rank 0 sees a best checkpoint; files appear later elsewhere on some network file systems.
    fn has_best(&self) -> Result<bool, DistributedError> {
        self.ranks.of_first(self.run.best_checkpoint().exists())
    }

    fn log_step(
        &self,
        log: &mut Option<EventLog>,
        report: &StepReport<'_>,
        gradient_norm: f64,
    ) -> Result<(), TrainError<T::Error>> {
        let mut values = report.losses.to_vec();
        values.push(("learning_rate".into(), report.learning_rate));
        values.push(("gradient_norm".into(), gradient_norm));
        values.push(("images_per_second".into(), report.images_per_second));
        values.push(("data_wait".into(), report.data_wait));
        self.write_event(log, EventKind::Train, report.iteration, &values)
    }

    /// Writes an event where this process has the logs.
    fn write_event(
        &self,
        log: &mut Option<EventLog>,
        kind: EventKind,
        iteration: usize,
        values: &[(String, f64)],
    ) -> Result<(), TrainError<T::Error>> {
        match log {
            Some(log) => log
                .write(kind, iteration, values)
                .map_err(|e| self.events_error(e)),
            None => Ok(()),
        }
    }

    /// Evaluates (the EMA weights if there are any) and saves the weights if they are the best so
    /// far, which the returned flag indicates, or kept. A NaN score is never the best. Returns `None`
    /// if it was stopped; the state is then unchanged.
    fn evaluate(
        &self,
        state: &mut State<T::Model>,
        observer: &mut dyn Observer,
    ) -> Result<Option<(EpochEvaluation, bool)>, TrainError<T::Error>> {
        let other_network = |source| TrainError::OtherNetwork {
            path: self.run.path.clone(),
            source,
        };
        let model = match &state.ema {
            Some(ema) if !ema.is_empty() => {
                ema.apply_to(state.model.valid()).map_err(other_network)?
            }
            _ => state.model.valid(),
        };
        let evaluation = self.task.evaluate(&model, self.stop, &mut |done, all| {
            observer.evaluated_images(done, all);
        });
        let Some(evaluation) = evaluation.map_err(TrainError::Task)? else {
            return Ok(None);
        };
        state.progress.evaluated_at = Some(state.progress.iteration);
        // A score whose weights are gone is not comparable with anything.
        let has_best = self.has_best()?;
        let best = state.progress.best_score.filter(|_| has_best);
        let is_best = evaluation.score > best.unwrap_or(f64::NEG_INFINITY);
        if is_best {
            state.progress.best_score = Some(evaluation.score);
        }
        let iteration = state.progress.iteration;
        let is_kept = self.is_kept(iteration);
        if (is_best || is_kept) && self.ranks.is_first() {
            let epochs = state.progress.epoch as f64
                + state.progress.batch as f64 / self.task.batches_per_epoch().max(1) as f64;
            let finite = |value: f64| value.is_finite().then_some(value);
            let metrics = evaluation.metrics.iter();
            let spec = ModelSpec {
                metrics: metrics
                    .map(|(name, value)| (name.clone(), finite(*value)))
                    .collect(),
                trained: Some(TrainingFacts {
                    epochs,
                    iterations: state.progress.iteration,
                    seconds: state.progress.seconds.round(),
                    seed: self.config.seed,
                }),
                ..self.task.spec().clone()
            };
            let evaluated = Checkpoint {
                spec,
                progress: None,
                weights: named_tensors(&model),
                optimizer: Default::default(),
                ema: Default::default(),
            };
            if is_best {
                evaluated.save(&self.run.best_checkpoint(), Precision::Full)?;
            }
            match (is_kept, is_best) {
                (true, true) => self.run.keep_best_checkpoint(iteration)?,
                (true, false) => {
                    evaluated.save(&self.run.kept_checkpoint(iteration), Precision::Full)?;
                }
                (false, _) => {}
            }
        }
        Ok(Some((evaluation, is_best)))
    }

    fn save(&self, state: &State<T::Model>) -> Result<(), TrainError<T::Error>> {
        if !self.ranks.is_first() {
            return Ok(());
        }
        let (ema_updates, ema) = state.ema.as_ref().map(Ema::export).unwrap_or_default();
        let progress = TrainingProgress {
            ema_updates,
            ..state.progress.clone()
        };
        let checkpoint = Checkpoint {
            spec: self.task.spec().clone(),
            progress: Some(progress),
            weights: named_tensors(&state.model),
            optimizer: state.optimizer.export(),
            ema,
        };
        self.run.keep_last_checkpoint()?;
        Ok(checkpoint.save(&self.run.last_checkpoint(), Precision::Full)?)
    }

    fn events_error(&self, source: std::io::Error) -> TrainError<T::Error> {
        TrainError::Events {
            path: self.run.path.clone(),
            source,
        }
    }

    /// Returns the error, and writes a file with all details to the directory of the logs.
    fn non_finite(
        &self,
        state: &State<T::Model>,
        losses: &[(String, f64)],
        learning_rate: f64,
        gradient_norm: f64,
        images: Vec<String>,
    ) -> TrainError<T::Error> {
        let parts = losses
            .iter()
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect::<Vec<_>>()
            .join(", ");
        let record = NonFiniteStep {
            iteration: state.progress.iteration,
            epoch: state.progress.epoch + 1,
            losses: &parts,
            learning_rate,
            gradient_norm: gradient_norm.to_string(),
            images: &images,
        };
        if self.ranks.is_first() {
            // The run has already failed; a second error must not hide the first.
            let _ = self.run.write_json("nonfinite.json", &record);
        }
        TrainError::NonFinite {
            iteration: state.progress.iteration,
            epoch: state.progress.epoch + 1,
            parts,
            learning_rate,
            gradient_norm,
            images,
            last_good: self.run.last_checkpoint(),
        }
    }
}

/// The content of `nonfinite.json`: the step whose loss or gradient is not finite.
#[derive(Serialize)]
struct NonFiniteStep<'a> {
    iteration: usize,
    /// From 1 on.
    epoch: usize,
    /// The loss and its parts, with their names.
    losses: &'a str,
    learning_rate: f64,
    /// In words, because JSON has no NaN.
    gradient_norm: String,
    /// The files of the batch.
    images: &'a [String],
}

/// Returns the total loss and its parts as numbers, with one read from the device.
fn loss_values(losses: &Losses) -> Vec<(String, f64)> {
    let mut tensors = vec![losses.total.clone().detach()];
    tensors.extend(losses.parts.iter().map(|(_, t)| t.clone().detach()));
    let values = crate::read_back::host(Tensor::cat(tensors, 0));
    std::iter::once("loss")
        .chain(losses.parts.iter().map(|(name, _)| *name))
        .map(str::to_string)
        .zip(values.into_iter().map(f64::from))
        .collect()
}

/// Returns `Break` if `stop` is set, else `Continue`; for loops that report progress.
pub fn goes_on(stop: &AtomicBool) -> ControlFlow<()> {
    if stop.load(Ordering::Relaxed) {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

/// Returns a seed derived from three numbers (the finalizer of SplitMix64).
fn mix(seed: u64, iteration: u64, part: u64) -> u64 {
    let mut z = seed
        .wrapping_add(iteration.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add(part.wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Measures the speed since the last event.
struct Meter {
    start: Instant,
    images: usize,
    waited_before: Duration,
}

impl Meter {
    fn new() -> Self {
        Self::after(Duration::ZERO)
    }

    fn after(waited_before: Duration) -> Self {
        Self {
            start: Instant::now(),
            images: 0,
            waited_before,
        }
    }

    fn images_per_second(&self) -> f64 {
        self.images as f64 / self.start.elapsed().as_secs_f64().max(1e-9)
    }

    fn wait_share(&self, waited: Duration) -> f64 {
        let waited = waited.saturating_sub(self.waited_before).as_secs_f64();
        (waited / self.start.elapsed().as_secs_f64().max(1e-9)).min(1.0)
    }
}
