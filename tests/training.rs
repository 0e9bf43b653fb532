//! The training engine on a small network: resuming bit for bit, stopping, failing.

use std::cell::Cell;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sedet::backbones::zoo::network;
use sedet::classification::classifier::ClassifierConfig;
use sedet::config::training::{Decay, EngineConfig, OptimizerConfig, ScheduleConfig};
use sedet::distributed::Ranks;
use sedet::loading::Shard;
use sedet::loading::transforms::Preprocess;
use sedet::model::{ModelSpec, NetworkConfig};
use sedet::train::engine::{Batches, Engine, Losses, Outcome, TrainError, TrainTask};
use sedet::train::observer::{Notice, Observer};
use sedet::train::progress::{EpochEvaluation, StepReport};
use sedet::train::run_dir::RunDir;
use sedet::weights::checkpoint::Checkpoint;
use sedet_nn::kernels::bf16::ComputePrecision;
use sedet_nn::nn::conv::{Conv2d, Conv2dConfig};
use sedet_nn::nn::init::WeightInit;
use serde_json::Value;

const BATCHES: usize = 5;

/// Convolution and batch norm, so that running statistics are part of the resumed state.
#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    head: Linear,
}

impl Net {
    /// Returns a network with the same weights in every process and test.
    fn new(device: &Device) -> Self {
        // The seed is shared by the whole process and weights are drawn lazily: tests on other
        // threads must not draw in between.
        static DRAWING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _alone = DRAWING.lock().unwrap();
        device.seed(7);
        let net = Self {
            conv: Conv2dConfig::new(1, 3, 3)
                .without_padding()
                .with_bias(WeightInit::PytorchDefault)
                .init(device),
            norm: BatchNormConfig::new(3).init(device),
            head: LinearConfig::new(3, 2).init(device),
        };
        drop(sedet::weights::parameters::named_tensors(&net));
        net
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = activation::relu(self.norm.forward(self.conv.forward(x)));
        let x: Tensor<3> = x.flatten::<3>(2, 3).mean_dim(2);
        self.head.forward(x.flatten(1, 2))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the plug was pulled")]
struct Unplugged;

struct Batch {
    index: usize,
    pixels: TensorData,
    targets: TensorData,
}

fn random_batch(seed: u64, index: usize) -> Batch {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut numbers = |n: usize| {
        (0..n)
            .map(|_| rng.random::<f32>() - 0.5)
            .collect::<Vec<_>>()
    };
    Batch {
        index,
        pixels: TensorData::new(numbers(4 * 36), [4, 1, 6, 6]),
        targets: TensorData::new(numbers(8), [4, 2]),
    }
}

/// Returns the model description in the checkpoints; it is not that of the toy network.
static TOY_SPEC: LazyLock<ModelSpec> = LazyLock::new(|| {
    let network = ClassifierConfig::new(network("resnet20").unwrap().backbone, 2);
    let preprocess = Preprocess::torchvision().with_sizes(32, 32);
    ModelSpec::new(NetworkConfig::Classification(network), preprocess)
});

/// A task with configurable faults.
#[derive(Default)]
struct Toy {
    /// The data thread panics before this batch of this epoch.
    dies_at: Cell<Option<(usize, usize)>>,
    /// The next evaluation fails.
    evaluation_fails: Cell<bool>,
    /// Ctrl-C in the middle of the next evaluation.
    stopped_in_evaluation: Cell<bool>,
    /// The loss of this batch in epoch 1 is not a number.
    poisoned: Option<usize>,
    /// Batches that are skipped in every epoch, as if all their images were damaged.
    vanished: Vec<usize>,
    /// Scores to return in turn; otherwise they are computed.
    scores: Vec<f64>,
    evaluations: Cell<usize>,
}

struct Epoch {
    batches: std::vec::IntoIter<Result<Option<Batch>, Unplugged>>,
}

impl Batches<Batch, Unplugged> for Epoch {
    fn next(&mut self) -> Option<Result<Option<Batch>, Unplugged>> {
        self.batches.next()
    }

    fn waited(&self) -> Duration {
        Duration::ZERO
    }
}

impl TrainTask for Toy {
    type Model = Net;
    type Batch = Batch;
    type Error = Unplugged;

    fn batches_per_epoch(&self) -> usize {
        BATCHES
    }

    fn batches(
        &self,
        epoch: usize,
        first: usize,
        shard: Shard,
    ) -> Result<Box<dyn Batches<Batch, Unplugged>>, Unplugged> {
        let batches: Vec<_> = (first..BATCHES)
            .filter(|index| shard.has(*index))
            .map(|index| {
                if self.vanished.contains(&index) {
                    return Ok(None);
                }
                if self.dies_at.get() == Some((epoch, index)) {
                    return Err(Unplugged);
                }
                let mut batch = random_batch((epoch * 100 + index) as u64, index);
                if epoch == 1 && self.poisoned == Some(index) {
                    batch.targets = TensorData::new(vec![f32::NAN; 8], [4, 2]);
                }
                Ok(Some(batch))
            })
            .collect();
        Ok(Box::new(Epoch {
            batches: batches.into_iter(),
        }))
    }

    fn batch_len(&self, _: &Batch) -> usize {
        4
    }

    fn describe(&self, batch: &Batch) -> Vec<String> {
        (0..4)
            .map(|i| format!("image-{}-{i}", batch.index))
            .collect()
    }

    fn losses(&self, model: &Net, batch: Batch, seed: u64) -> Losses {
        let device = device();
        // Noise represents all randomness of a step.
        let noise = random_batch(seed, 0).pixels;
        let x = Tensor::<4>::from_data(batch.pixels, &device)
            + Tensor::<4>::from_data(noise, &device) * 0.1;
        let error = model.forward(x) - Tensor::<2>::from_data(batch.targets, &device);
        let square = error.clone().powi_scalar(2).mean();
        let absolute = error.abs().mean() * 0.1;
        Losses {
            total: square.clone() + absolute.clone(),
            parts: vec![("loss_square", square), ("loss_absolute", absolute)],
        }
    }

    fn evaluate(
        &self,
        model: &Net,
        stop: &AtomicBool,
        _progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<EpochEvaluation>, Unplugged> {
        if self.stopped_in_evaluation.replace(false) {
            stop.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        if self.evaluation_fails.replace(false) {
            return Err(Unplugged);
        }
        let turn = self.evaluations.get();
        self.evaluations.set(turn + 1);
        let batch = random_batch(9999, 0);
        let device = Device::flex();
        let out = model.forward(Tensor::from_data(batch.pixels, &device));
        assert!(!out.is_autodiff());
        let error = out - Tensor::from_data(batch.targets, &device);
        let error: f32 = error.powi_scalar(2).mean().into_scalar();
        let score = self.scores.get(turn).copied().unwrap_or(-f64::from(error));
        Ok(Some(EpochEvaluation {
            score,
            loss: None,
            metrics: vec![("score".into(), score)],
        }))
    }

    fn spec(&self) -> &ModelSpec {
        &TOY_SPEC
    }
}

/// Sets the stop flag every `every` steps, like Ctrl-C.
struct Watcher<'a> {
    stop: &'a AtomicBool,
    every: Option<usize>,
    steps: usize,
    evaluated: Vec<(usize, f64, bool)>,
    recovered: Option<String>,
}

impl Observer for Watcher<'_> {
    fn step(&mut self, report: &StepReport<'_>) {
        assert!((0.0..=1.0).contains(&report.data_wait));
        assert_eq!(report.losses[0].0, "loss");
        self.steps += 1;
        if self
            .every
            .is_some_and(|every| self.steps.is_multiple_of(every))
        {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn evaluating(&mut self, _: usize) {}

    fn notice(&mut self, notice: &Notice) {
        if let Notice::Recovered { damage, from } = notice {
            self.recovered = Some(format!("{damage}; {}", from.display()));
        }
    }

    fn evaluated(&mut self, epoch: usize, evaluation: &EpochEvaluation, is_best: bool) {
        self.evaluated.push((epoch, evaluation.score, is_best));
    }
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn sgd() -> EngineConfig {
    EngineConfig {
        epochs: 3,
        max_iterations: None,
        max_minutes: None,
        accumulate: 1,
        learning_rate: 0.1,
        optimizer: OptimizerConfig::Sgd {
            momentum: 0.9,
            weight_decay: 1e-3,
            nesterov: true,
        },
        decay_norms: true,
        decay_biases: None,
        bias_learning_rate_factor: 1.0,
        schedule: ScheduleConfig {
            warmup_iterations: 3,
            warmup_epochs: None,
            warmup_factor: 0.1,
            decay: Decay::MultiStep {
                milestones: vec![2.0],
                gamma: 0.1,
            },
        },
        clip_norm: Some(0.5),
        ema_decay: Some(0.9),
        evaluate_every: 1,
        keep_checkpoints: None,
        patience: None,
        log_every: 1,
        save_minutes: 1e9,
        precision: ComputePrecision::F32,
        sync_norms: None,
        seed: 3,
        check_memory: true,
    }
}

/// Five batches in groups of two: the last group of an epoch is smaller.
fn adamw() -> EngineConfig {
    EngineConfig {
        accumulate: 2,
        learning_rate: 0.01,
        optimizer: OptimizerConfig::Adamw {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.05,
        },
        decay_norms: false,
        schedule: ScheduleConfig {
            warmup_iterations: 2,
            warmup_epochs: None,
            warmup_factor: 0.5,
            decay: Decay::Cosine { floor: 0.1 },
        },
        clip_norm: None,
        ema_decay: None,
        evaluate_every: 2,
        ..sgd()
    }
}

/// On a CPU without bf16, this is the same in 32-bit floats.
fn bf16() -> EngineConfig {
    EngineConfig {
        precision: ComputePrecision::Bf16,
        ..adamw()
    }
}

/// One session of a run: started if the directory is new, else resumed.
struct Session {
    result: Result<Outcome, TrainError<Unplugged>>,
    evaluated: Vec<(usize, f64, bool)>,
    steps: usize,
    recovered: Option<String>,
}

fn session(task: &Toy, config: &EngineConfig, path: &Path, stop_every: Option<usize>) -> Session {
    let stop = AtomicBool::new(false);
    let resumes = RunDir::open(path).is_ok();
    let run = if resumes {
        RunDir::reopen(path)
    } else {
        RunDir::create(path)
    }
    .unwrap();
    let engine = Engine {
        task,
        config: config.clone(),
        run,
        device: device(),
        stop: &stop,
        ranks: Ranks::alone(),
    };
    let mut watcher = Watcher {
        stop: &stop,
        every: stop_every,
        steps: 0,
        evaluated: Vec::new(),
        recovered: None,
    };
    let model = Net::new(&device());
    let result = if resumes {
        engine.resume(model, &mut watcher)
    } else {
        engine.train(model, &mut watcher)
    };
    Session {
        result,
        evaluated: watcher.evaluated,
        steps: watcher.steps,
        recovered: watcher.recovered,
    }
}

/// Returns what must not depend on interruptions: both checkpoints and the log, without times.
fn outcome_of(path: &Path) -> (Checkpoint, Checkpoint, Vec<Value>) {
    let load = |name: &str| {
        let mut checkpoint = Checkpoint::load(&path.join("checkpoints").join(name)).unwrap();
        if let Some(progress) = &mut checkpoint.progress {
            progress.seconds = 0.0;
        }
        if let Some(trained) = &mut checkpoint.spec.trained {
            trained.seconds = 0.0;
        }
        checkpoint
    };
    let events = std::fs::read_to_string(path.join("events.jsonl")).unwrap();
    let events = events
        .lines()
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            for part in ["time", "images_per_second", "data_wait"] {
                event.as_object_mut().unwrap().remove(part);
            }
            event
        })
        .collect();
    (load("last.safetensors"), load("best.safetensors"), events)
}

fn uninterrupted(config: &EngineConfig) -> (Checkpoint, Checkpoint, Vec<Value>) {
    let dir = tempfile::tempdir().unwrap();
    let session = session(&Toy::default(), config, dir.path(), None);
    assert_eq!(session.result.unwrap(), Outcome::Finished);
    outcome_of(dir.path())
}

#[test]
fn training_learns_and_writes_its_log() {
    let (last, best, events) = uninterrupted(&sgd());
    let losses: Vec<f64> = events
        .iter()
        .filter(|e| e["event"] == "train")
        .map(|e| e["loss"].as_f64().unwrap())
        .collect();
    assert_eq!(losses.len(), 3 * BATCHES);
    assert!(losses[10..].iter().sum::<f64>() < losses[..5].iter().sum::<f64>());
    assert_eq!(events.iter().filter(|e| e["event"] == "eval").count(), 3);
    assert_eq!(last.progress.as_ref().unwrap().iteration, 15);
    assert_eq!(best.spec.network, TOY_SPEC.network);
    assert!(best.progress.is_none());
    assert!(best.optimizer.is_empty() && best.ema.is_empty());
    assert!(!last.optimizer.is_empty() && !last.ema.is_empty());
    assert!(last.weights.contains_key("norm.running_mean"));
}

#[test]
fn the_precision_changes_the_losses_by_its_rounding() {
    let losses = [adamw(), bf16()].map(|config| {
        let (_, _, events) = uninterrupted(&config);
        let losses = events.iter().filter_map(|event| event["loss"].as_f64());
        losses.collect::<Vec<_>>()
    });
    let [f32, bf16] = &losses;
    for (f32, bf16) in f32.iter().zip(bf16) {
        assert!((f32 - bf16).abs() < 0.01 * f32, "{f32} {bf16}");
    }
    assert_eq!(f32 != bf16, ComputePrecision::Bf16.is_available());
}

#[test]
fn a_run_stopped_after_every_step_equals_an_uninterrupted_one() {
    for config in [sgd(), adamw(), bf16()] {
        let dir = tempfile::tempdir().unwrap();
        let mut sessions = 0;
        loop {
            let session = session(&Toy::default(), &config, dir.path(), Some(1));
            sessions += 1;
            match session.result.unwrap() {
                Outcome::Interrupted => assert!(session.steps <= 1),
                Outcome::Finished => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(sessions > 9, "{sessions}");
        assert_eq!(outcome_of(dir.path()), uninterrupted(&config));
    }
}

#[test]
fn a_run_that_crashed_equals_an_uninterrupted_one() {
    for (config, save_minutes) in [(sgd(), 1e9), (sgd(), 0.0), (adamw(), 1e9), (adamw(), 0.0)] {
        let config = EngineConfig {
            save_minutes,
            ..config
        };
        let dir = tempfile::tempdir().unwrap();
        for crash in [(0, 3), (1, 1), (2, 4)] {
            let task = Toy::default();
            task.dies_at.set(Some(crash));
            let error = session(&task, &config, dir.path(), None)
                .result
                .unwrap_err();
            assert_eq!(error.to_string(), "the plug was pulled");
        }
        session(&Toy::default(), &config, dir.path(), None)
            .result
            .unwrap();
        assert_eq!(outcome_of(dir.path()), uninterrupted(&config));
    }
}

#[test]
fn a_crash_in_an_evaluation_costs_no_training() {
    let dir = tempfile::tempdir().unwrap();
    let task = Toy::default();
    task.evaluation_fails.set(true);
    assert!(session(&task, &sgd(), dir.path(), None).result.is_err());
    let second = session(&task, &sgd(), dir.path(), None);
    assert_eq!(second.result.unwrap(), Outcome::Finished);
    assert_eq!((second.steps, second.evaluated.len()), (2 * BATCHES, 3));
    assert_eq!(outcome_of(dir.path()), uninterrupted(&sgd()));
}

#[test]
fn an_evaluation_can_be_stopped_and_costs_no_training() {
    let dir = tempfile::tempdir().unwrap();
    let task = Toy::default();
    task.stopped_in_evaluation.set(true);
    let first = session(&task, &sgd(), dir.path(), None);
    assert_eq!(first.result.unwrap(), Outcome::Interrupted);
    assert_eq!((first.steps, first.evaluated.len()), (BATCHES, 0));
    let second = session(&task, &sgd(), dir.path(), None);
    assert_eq!(second.result.unwrap(), Outcome::Finished);
    assert_eq!(second.steps, 2 * BATCHES);
    assert_eq!(outcome_of(dir.path()), uninterrupted(&sgd()));
}

/// The checkpoint is damaged in several ways, or missing.
#[test]
fn a_damaged_last_checkpoint_is_replaced_by_the_previous_one() {
    let config = EngineConfig {
        save_minutes: 0.0,
        ..sgd()
    };
    let expected = uninterrupted(&config);
    let damage: [fn(&Path); 3] = [
        |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let at = bytes.len() - 50;
            bytes[at] ^= 4;
            std::fs::write(path, bytes).unwrap();
        },
        |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
        |path| std::fs::remove_file(path).unwrap(),
    ];
    for damage in damage {
        let dir = tempfile::tempdir().unwrap();
        let task = Toy::default();
        task.dies_at.set(Some((1, 3)));
        assert!(session(&task, &config, dir.path(), None).result.is_err());
        let checkpoints = dir.path().join("checkpoints");
        damage(&checkpoints.join("last.safetensors"));
        task.dies_at.set(None);
        let mended = session(&task, &config, dir.path(), None);
        assert_eq!(mended.result.unwrap(), Outcome::Finished);
        let said = mended.recovered.unwrap();
        assert!(
            said.contains("last.safetensors: ") && said.contains("previous.safetensors"),
            "{said}"
        );
        assert_eq!(outcome_of(dir.path()), expected);

        for name in ["last", "previous"] {
            std::fs::write(checkpoints.join(format!("{name}.safetensors")), "x").unwrap();
        }
        let session = session(&task, &config, dir.path(), None);
        let message = session.result.unwrap_err().to_string();
        assert!(
            message.contains("last.safetensors: not a sedet"),
            "{message}"
        );
    }
}

#[test]
fn an_epoch_without_a_usable_image_is_an_error_and_not_a_success() {
    let dir = tempfile::tempdir().unwrap();
    let task = Toy {
        vanished: (0..BATCHES).collect(),
        ..Toy::default()
    };
    let error = session(&task, &sgd(), dir.path(), None).result.unwrap_err();
    assert!(error.can_be_resumed());
    assert!(error.to_string().contains("no image of epoch 1"), "{error}");
    let again = session(&Toy::default(), &sgd(), dir.path(), None);
    assert_eq!(again.result.unwrap(), Outcome::Finished);
    assert_eq!(outcome_of(dir.path()), uninterrupted(&sgd()));
}

#[test]
fn resuming_a_finished_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    session(&Toy::default(), &sgd(), dir.path(), None)
        .result
        .unwrap();
    let before = outcome_of(dir.path());
    let again = session(&Toy::default(), &sgd(), dir.path(), None);
    assert_eq!((again.result.unwrap(), again.steps), (Outcome::Finished, 0));
    assert_eq!(outcome_of(dir.path()), before);
}

#[test]
fn a_loss_that_is_not_finite_stops_before_anything_is_updated() {
    let dir = tempfile::tempdir().unwrap();
    let task = Toy {
        poisoned: Some(2),
        ..Toy::default()
    };
    let error = session(&task, &sgd(), dir.path(), None).result.unwrap_err();
    let text = error.to_string();
    for part in [
        "iteration 7",
        "epoch 2",
        "loss_square NaN",
        "image-2-3",
        "last.safetensors",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\n'));
    let dump = std::fs::read_to_string(dir.path().join("nonfinite.json")).unwrap();
    let dump: Value = serde_json::from_str(&dump).unwrap();
    assert_eq!(dump["images"][0], "image-2-0");
    let last = Checkpoint::load(&dir.path().join("checkpoints/last.safetensors")).unwrap();
    assert_eq!(last.progress.as_ref().unwrap().iteration, BATCHES);
    for (name, tensor) in &last.weights {
        assert!(tensor.iter::<f32>().all(f32::is_finite), "{name}");
    }
}

#[test]
fn the_best_weights_are_those_of_the_best_score() {
    let dir = tempfile::tempdir().unwrap();
    let task = Toy {
        scores: vec![0.1, 0.3, 0.2],
        ..Toy::default()
    };
    let session = session(&task, &sgd(), dir.path(), None);
    let best: Vec<bool> = session.evaluated.iter().map(|e| e.2).collect();
    assert_eq!(best, [true, true, false]);
    let (_, best, _) = outcome_of(dir.path());
    assert_eq!(best.spec.trained.unwrap().iterations, 2 * BATCHES);
    assert_eq!(best.spec.metrics["score"], Some(0.3));
}

#[test]
fn the_weights_of_evaluations_at_equal_distances_are_kept() {
    let scores = vec![0.1, 0.7, 0.3, 0.4, 0.5, 0.2, 0.6];
    let of = |keep: usize, every: usize, stop_every: Option<usize>| {
        let dir = tempfile::tempdir().unwrap();
        let task = Toy {
            scores: scores.clone(),
            ..Toy::default()
        };
        let config = EngineConfig {
            epochs: 7,
            evaluate_every: every,
            keep_checkpoints: Some(keep),
            ..sgd()
        };
        while session(&task, &config, dir.path(), stop_every)
            .result
            .unwrap()
            == Outcome::Interrupted
        {}
        let kept = RunDir::at(dir.path()).kept_checkpoints();
        let kept = kept.into_iter().map(|(iteration, path)| {
            let checkpoint = Checkpoint::load(&path).unwrap();
            assert_eq!(checkpoint.spec.trained.unwrap().iterations, iteration);
            assert!(checkpoint.optimizer.is_empty() && checkpoint.progress.is_none());
            let score = checkpoint.spec.metrics["score"].unwrap();
            (iteration / BATCHES, score, checkpoint.weights)
        });
        kept.collect::<Vec<_>>()
    };
    let kept = of(3, 1, None);
    let scored: Vec<_> = kept
        .iter()
        .map(|(epoch, score, _)| (*epoch, *score))
        .collect();
    assert_eq!(scored, [(1, 0.1), (4, 0.4), (7, 0.6)]);
    assert_ne!(kept[0].2, kept[1].2);
    // An interruption changes neither which are kept nor their weights.
    assert!(of(3, 1, Some(8)) == kept);
    let epochs = |kept: Vec<(usize, f64, _)>| -> Vec<usize> {
        kept.into_iter().map(|(epoch, ..)| epoch).collect()
    };
    assert_eq!(epochs(of(1, 1, None)), [7]);
    assert_eq!(epochs(of(99, 1, None)), [1, 2, 3, 4, 5, 6, 7]);
    // Evaluated are epochs 2, 4, 6 and the last.
    assert_eq!(epochs(of(2, 2, None)), [4, 7]);
}

#[test]
fn a_score_that_is_not_a_number_is_never_the_best() {
    let dir = tempfile::tempdir().unwrap();
    let task = Toy {
        scores: vec![f64::NAN, 0.2, f64::NAN],
        ..Toy::default()
    };
    let session = session(&task, &sgd(), dir.path(), None);
    session.result.unwrap();
    let best: Vec<bool> = session.evaluated.iter().map(|e| e.2).collect();
    assert_eq!(best, [false, true, false]);
}

#[test]
fn training_stops_when_the_score_no_longer_rises() {
    let dir = tempfile::tempdir().unwrap();
    let task = Toy {
        scores: vec![0.5, 0.5, 0.4, 0.9],
        ..Toy::default()
    };
    let config = EngineConfig {
        epochs: 9,
        patience: Some(2),
        ..sgd()
    };
    let session = session(&task, &config, dir.path(), None);
    assert_eq!(session.result.unwrap(), Outcome::StoppedEarly);
    assert_eq!(session.steps, 3 * BATCHES);
}

#[test]
fn iterations_can_be_limited_inside_an_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        max_iterations: Some(7),
        ..sgd()
    };
    let first = session(&Toy::default(), &config, dir.path(), None);
    assert_eq!((first.result.unwrap(), first.steps), (Outcome::Finished, 7));
    assert_eq!(first.evaluated.len(), 2);
    let again = session(&Toy::default(), &config, dir.path(), None);
    assert_eq!((again.result.unwrap(), again.steps), (Outcome::Finished, 0));
    assert!(again.evaluated.is_empty());
}

#[test]
fn a_run_at_its_time_limit_is_evaluated_and_can_resume() {
    let dir = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        max_minutes: Some(0.0),
        ..sgd()
    };
    let first = session(&Toy::default(), &config, dir.path(), None);
    assert_eq!(first.result.unwrap(), Outcome::TimeUp);
    assert_eq!((first.steps, first.evaluated.len()), (0, 1));
    let rest = session(&Toy::default(), &sgd(), dir.path(), None);
    assert_eq!(rest.result.unwrap(), Outcome::Finished);
    let (last, _, _) = outcome_of(dir.path());
    assert_eq!(last.weights, uninterrupted(&sgd()).0.weights);
}

#[test]
fn skipped_batches_do_not_change_the_weight_of_others() {
    // Groups of two out of three remaining batches: the second group has one batch.
    let dir = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        accumulate: 2,
        clip_norm: None,
        ..sgd()
    };
    let task = Toy {
        vanished: vec![3, 4],
        ..Toy::default()
    };
    session(&task, &config, dir.path(), None).result.unwrap();
    let (_, _, events) = outcome_of(dir.path());
    let (_, _, whole) = uninterrupted(&config);
    // Batches 0 to 3 form two groups there. Here the second group lacks its second batch, so its
    // loss is that of batch 2 alone and not half of it.
    let loss = |events: &[Value], i: usize| events[i]["loss"].as_f64().unwrap();
    assert_eq!(loss(&events, 0), loss(&whole, 0));
    assert!(loss(&events, 1) > 0.6 * loss(&whole, 1));
}

#[test]
fn skipped_batches_do_not_shift_the_position_to_resume_at() {
    for vanished in [vec![1], vec![0, 3], vec![2, 4]] {
        let task = || Toy {
            vanished: vanished.clone(),
            ..Toy::default()
        };
        let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        session(&task(), &adamw(), whole.path(), None)
            .result
            .unwrap();
        while session(&task(), &adamw(), broken.path(), Some(1))
            .result
            .unwrap()
            == Outcome::Interrupted
        {}
        assert_eq!(
            outcome_of(broken.path()),
            outcome_of(whole.path()),
            "{vanished:?}"
        );
    }
}

#[test]
fn resuming_with_another_optimizer_names_the_mismatch() {
    let dir = tempfile::tempdir().unwrap();
    session(&Toy::default(), &sgd(), dir.path(), Some(2))
        .result
        .unwrap();
    let error = session(&Toy::default(), &adamw(), dir.path(), None)
        .result
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("last.safetensors") && text.contains("velocity/conv.weight"),
        "{text}"
    );
}

#[test]
fn settings_of_zero_are_rejected_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        accumulate: 0,
        ..sgd()
    };
    let error = session(&Toy::default(), &config, dir.path(), None)
        .result
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "train.accumulate is 0; it must be at least 1"
    );
}
