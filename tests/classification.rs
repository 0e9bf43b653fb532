//! Loss and metrics of a classifier compared with torch, scikit-learn and torchmetrics, and
//! training on a learnable dataset.

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use common::{Fixture, assert_close, device, values};
use image::RgbImage;
use sedet::DataError;
use sedet::classification::losses::{soft_cross_entropy, soft_targets};
use sedet::config::{ClassificationConfig, Recipe as _};
use sedet::datasets::labeled::LabeledDataset;
use sedet::distributed::Ranks;
use sedet::eval::classification::{ClassificationScores, ImageScore};
use sedet::images::ImageSource;
use sedet::loading::{LabeledLoader, LoaderOptions, Views};
use sedet::model::{Model, ModelSpec};
use sedet::train::classification::ClassificationTask;
use sedet::train::engine::{Engine, Outcome};
use sedet::train::observer::{Notice, Observer};
use sedet::train::progress::{EpochEvaluation, StepReport};
use sedet::train::run_dir::RunDir;
use sedet::weights::checkpoint::Checkpoint;
use sedet::weights::load::LoadedWeights;
use sedet::weights::parameters::named_tensors;

#[test]
fn the_loss_and_its_gradient_equal_torch_s_with_smoothing_and_mixed_labels() {
    let fixture = Fixture::open("classification.safetensors");
    let device = device();
    let autodiff = device.clone().autodiff();
    let labels = fixture.ints("loss.labels");
    let others = fixture.ints("loss.others");
    let shares = fixture.floats("loss.shares");
    for smoothing in ["0.0", "0.1"] {
        for (kind, mixed) in [("hard", false), ("mixed", true)] {
            let key = format!("loss.{kind}_{smoothing}");
            let labels: Vec<_> = labels
                .iter()
                .zip(others.iter().zip(&shares))
                .map(|(&label, (&other, &share))| {
                    (label as usize, mixed.then_some((other as usize, share)))
                })
                .collect();
            let logits = TensorData::new(fixture.floats("loss.logits"), [7, 5]);
            let logits = Tensor::<2>::from_data(logits, &autodiff).require_grad();
            let targets = soft_targets(&labels, 5, smoothing.parse().unwrap(), &device);
            let loss = soft_cross_entropy(logits.clone(), Tensor::from_inner(targets));
            let gradients = loss.backward();
            let gradient = logits.grad(&gradients).unwrap();
            assert_close(&key, &values(loss), &fixture.floats(&key), 1e-5);
            let reference = fixture.floats(&format!("{key}_grad"));
            assert_close(&key, &values(gradient), &reference, 1e-5);
        }
    }
}

#[test]
fn accuracy_confusion_and_calibration_equal_the_references() {
    let fixture = Fixture::open("classification.safetensors");
    let logits = fixture.floats("metrics.logits");
    let labels = fixture.ints("metrics.labels");
    let mut scores = ClassificationScores::new(12);
    for (row, &label) in logits.chunks(12).zip(&labels) {
        scores.add(&ImageScore::of(row, label as usize));
    }
    let names: Vec<String> = (0..12).map(|class| format!("class, {class}")).collect();
    let found = scores.evaluation(&names);
    let native = [found.top1, found.top5, found.loss, found.calibration_error];
    let reference = fixture.floats("metrics.values");
    assert_close("metrics", &native.map(|v| v as f32), &reference, 1e-6);
    let confusion: Vec<i64> = found.confusion.concat().iter().map(|&n| n.into()).collect();
    assert_eq!(confusion, fixture.ints("metrics.confusion"));
    let csv = found.confusion_csv();
    assert_eq!(csv.lines().count(), 13);
    assert!(csv.starts_with("class,\"class, 0\","));
}

/// A dataset in which the class of an image is the corner with a bright square; the rest is noise.
struct Corners {
    /// The corner of each image.
    corners: Vec<u32>,
}

impl Corners {
    fn dataset(count: u32) -> Arc<LabeledDataset> {
        Self::in_order(count, [0, 1, 2, 3])
    }

    /// Returns the dataset with the corners as classes in this order.
    fn in_order(count: u32, order: [u32; 4]) -> Arc<LabeledDataset> {
        let names = ["top left", "top right", "bottom left", "bottom right"];
        let names = order.map(|corner| names[corner as usize].to_string());
        let corners: Vec<u32> = (0..count).map(|i| i % 4).collect();
        let label = |corner: &u32| order.iter().position(|own| own == corner).unwrap() as u32;
        let labels = corners.iter().map(label).collect();
        let source = Self { corners };
        Arc::new(LabeledDataset::new("corners", names.to_vec(), labels, source).unwrap())
    }
}

impl ImageSource for Corners {
    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        let label = self.corners[index];
        Ok(RgbImage::from_fn(32, 32, |x, y| {
            let noise = (x * 31 + y * 17 + index as u32 * 57) % 97;
            let inside = (x / 16, y / 16) == (label % 2, label / 2);
            let value = noise as u8 + if inside { 120 } else { 0 };
            image::Rgb([value, value / 2, 255 - value])
        }))
    }

    fn describe(&self, index: usize) -> String {
        format!("corner {index}")
    }
}

fn config(settings: &[&str]) -> ClassificationConfig {
    let mut all = vec![
        "loader.batch_size=8",
        "train.epochs=4",
        "augment.horizontal_flip=0",
        "augment.crop={kind=\"center\"}",
        "train.learning_rate=0.05",
    ];
    all.extend(settings);
    let all: Vec<String> = all.iter().map(|s| s.to_string()).collect();
    ClassificationConfig::load("cifar-short", &all).unwrap()
}

fn task(config: &ClassificationConfig) -> ClassificationTask {
    let dataset = Corners::dataset(64);
    let spec = ModelSpec::classifier(
        config.classifier(4).unwrap(),
        config.preprocess().unwrap(),
        dataset.class_names().to_vec(),
    );
    let options = LoaderOptions {
        batch_size: config.loader.batch_size,
        seed: config.train.seed,
        ..LoaderOptions::default()
    };
    ClassificationTask {
        train: LabeledLoader::training(
            dataset,
            spec.preprocess,
            config.augment.clone(),
            options.clone(),
        )
        .unwrap(),
        val: Corners::dataset(20),
        spec,
        results: PathBuf::new(),
        label_smoothing: config.loss.label_smoothing,
        evaluation: options,
        device: device(),
        ranks: Ranks::alone(),
    }
}

#[test]
fn a_classifier_is_evaluated_by_the_names_of_classes_in_any_order() {
    let _alone = alone();
    let config = config(&[]);
    let device = device();
    device.seed(3);
    let network = config.classifier(4).unwrap().init(&device);
    let weights = LoadedWeights {
        spec: task(&config).spec,
        weights: named_tensors(&network),
        report: None,
    };
    let model = Model::from_weights(weights, Path::new("corners"), &device).unwrap();
    let evaluate = |dataset: Arc<LabeledDataset>| {
        let options = LoaderOptions::default();
        let mut go_on = |_, _| ControlFlow::Continue(());
        let found = model.classify_dataset(&dataset, Views::One, &options, &mut go_on);
        found.unwrap().unwrap().evaluation
    };
    let expected = evaluate(Corners::dataset(20));
    let found = evaluate(Corners::in_order(20, [2, 0, 3, 1]));
    assert_eq!(found.classes[0].name, "bottom left");
    assert_eq!((found.images, found.top1), (20, expected.top1));
    assert!((found.loss - expected.loss).abs() < 1e-6);
    for class in &expected.classes {
        let same = found.classes.iter().find(|other| other.name == class.name);
        let same = same.unwrap();
        assert_eq!((same.images, same.top1), (5, class.top1), "{}", class.name);
    }
    let others: Vec<String> = ["top left", "center"].map(String::from).to_vec();
    let error = model.match_classes(&others).unwrap_err().to_string();
    assert!(error.contains("only in the dataset: center"), "{error}");
}

struct StopAfter<'a> {
    stop: &'a AtomicBool,
    steps: usize,
}

impl Observer for StopAfter<'_> {
    fn step(&mut self, report: &StepReport<'_>) {
        if report.iteration == self.steps {
            self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn notice(&mut self, notice: &Notice) {
        panic!("{notice}");
    }

    fn evaluating(&mut self, _epoch: usize) {}

    fn evaluated(&mut self, _epoch: usize, _evaluation: &EpochEvaluation, _is_best: bool) {}
}

/// The lock of tests that create or train networks: the random number generator is shared by the
/// whole process.
static RANDOM_NUMBERS: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    RANDOM_NUMBERS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Trains in a directory, with an optional interruption after a number of steps. The caller must
/// hold the lock of [`alone`].
fn train(config: &ClassificationConfig, directory: &Path, pause: Option<usize>) {
    let task = task(config);
    let stop = AtomicBool::new(false);
    let engine = Engine {
        task: &task,
        config: config.train.clone(),
        run: RunDir::create(directory).unwrap(),
        device: task.device.clone().autodiff(),
        stop: &stop,
        ranks: Ranks::alone(),
    };
    let untrained = || {
        engine.device.seed(config.train.seed);
        let model = config.classifier(4).unwrap().init(&engine.device);
        drop(named_tensors(&model));
        model
    };
    let mut observer = StopAfter {
        stop: &stop,
        steps: pause.unwrap_or(usize::MAX),
    };
    let mut outcome = engine.train(untrained(), &mut observer).unwrap();
    if pause.is_some() {
        assert_eq!(outcome, Outcome::Interrupted);
        stop.store(false, std::sync::atomic::Ordering::Relaxed);
        outcome = engine.resume(untrained(), &mut observer).unwrap();
    }
    assert_eq!(outcome, Outcome::Finished);
}

#[test]
fn a_small_network_learns_the_corner_of_the_square_and_its_checkpoint_restores_it() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let config = config(&["model.width=0.5"]);
    train(&config, directory.path(), None);
    let best = directory.path().join("checkpoints/best.safetensors");
    let classifier = Model::load(&best, &Device::flex()).unwrap();
    let unseen = Corners::dataset(88);
    let right = (64..88)
        .filter(|&index| {
            let image = unseen.load_image(index).unwrap();
            let ranked = classifier.classify(&image, 2).unwrap();
            assert_eq!(ranked.len(), 2);
            assert!(ranked[0].probability >= ranked[1].probability);
            ranked[0].name == unseen.class_names()[unseen.label(index)]
        })
        .count();
    assert!(right >= 20, "{right} of 24, by chance 6");
}

#[test]
fn an_interrupted_run_equals_an_uninterrupted_one_including_dropout() {
    let _alone = alone();
    let (whole, paused) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = config(&[
        "model.width=0.25",
        "model.overrides.head.dropout=0.3",
        "train.epochs=2",
        "augment.horizontal_flip=0.5",
        "train.ema_decay=0.9",
    ]);
    train(&config, whole.path(), None);
    train(&config, paused.path(), Some(11));
    let load = |directory: &Path| {
        let last = directory.join("checkpoints/last.safetensors");
        Checkpoint::load(&last).unwrap()
    };
    let (whole, paused) = (load(whole.path()), load(paused.path()));
    assert_eq!(whole.weights, paused.weights);
    assert_eq!(whole.optimizer, paused.optimizer);
    assert_eq!(whole.ema, paused.ema);
}
