//! Opening of a path or a dataset.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::network::NetworkThread;
use super::{Mailbox, Message, OpenedDataset};
use crate::state::{Collection, Pane, RunLog, ShownImages, StatisticsSource, WeightsFile};
use sedet_core::excitation::Excitation;
use sedet_core::excitation::file::KEY as EXCITATION_KEY;
use sedet_core::model::Dataset;
use sedet_core::train::events::EVENTS;
use sedet_core::train::run_dir::RunDir;
use sedet_data::DataError;
use sedet_data::annotations::format::{DatasetFiles, SplitFiles};
use sedet_data::annotations::formats::{is_dataset_file, recognize};
use sedet_data::annotations::layout::{LayoutError, Split};
use sedet_data::datasets::detection::DetectionDataset;
use sedet_data::datasets::registry::{AnyDatasetName, RegistryError};
use sedet_data::eval::read_results;
use sedet_data::loading::decode::{decode_image, has_image_extension};

/// The items that the viewer opens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opening {
    /// A run, checkpoint, image, directory, dataset, results or excitation file; None opens the shipped
    /// detector on generated scenes.
    pub what: Option<String>,
    /// The dataset to show with it.
    pub dataset: Option<String>,
    /// The split of the dataset.
    pub split: Option<Split>,
    /// The directory of the named datasets.
    pub data_dir: Option<PathBuf>,
    /// The model to run on it.
    pub checkpoint: Option<PathBuf>,
    /// A model to compare with.
    pub compare: Option<PathBuf>,
    /// Results to show on the dataset.
    pub results: Option<PathBuf>,
}

impl Opening {
    /// Opens a single path or name.
    pub fn of(what: &str) -> Self {
        Self {
            what: Some(what.trim().to_owned()),
            ..Self::default()
        }
    }

    /// Returns the weight files that are named, so that they can be checked before a window opens.
    pub fn checkpoints(&self) -> Vec<PathBuf> {
        let named = match self.kind() {
            Some(Kind::Checkpoint(path)) => Some(path),
            _ => None,
        };
        let given = [&self.checkpoint, &self.compare];
        given.into_iter().flatten().cloned().chain(named).collect()
    }

    /// Returns whether a dataset is opened by its name or path, of which a split is read.
    pub fn opens_dataset(&self) -> bool {
        let is_dataset = |kind: &Kind| match kind {
            Kind::Run(_) | Kind::Dataset(_) => true,
            Kind::Results(path) => path.ancestors().skip(1).any(RunDir::is_run),
            _ => false,
        };
        self.dataset.is_some() || self.kind().is_some_and(|kind| is_dataset(&kind))
    }

    /// Returns whether images with annotations are opened, to which results can belong.
    pub fn opens_annotations(&self) -> bool {
        self.opens_dataset() || matches!(self.kind(), Some(Kind::Annotations(_)))
    }

    /// Returns what the path is.
    pub fn content(&self) -> Option<Content> {
        Some(match self.kind()? {
            Kind::Run(directory) => Content::Run(directory),
            Kind::Dataset(name) => Content::Dataset(name),
            Kind::ImageDirectory(..) | Kind::Image(_) | Kind::Annotations(_) => Content::Images,
            Kind::Checkpoint(_) => Content::Model,
            Kind::Results(_) => Content::Results,
            Kind::Excitation(_) => Content::Excitation,
        })
    }

    /// Returns whether a model is opened.
    pub fn opens_model(&self) -> bool {
        let named = self.kind();
        self.checkpoint.is_some() || matches!(named, Some(Kind::Checkpoint(_) | Kind::Run(_)))
    }

    /// Returns the kind of the path; an error is reported where it is opened.
    fn kind(&self) -> Option<Kind> {
        self.what.as_deref().and_then(|what| kind_of(what).ok())
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn split(&self) -> Split {
        self.split.unwrap_or(Split::Val)
    }
}

/// The content of a path that the viewer opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A run, by its directory.
    Run(PathBuf),
    /// A dataset, by its name or path.
    Dataset(String),
    /// Images, or annotations with their images.
    Images,
    /// A checkpoint.
    Model,
    /// Detections of a dataset.
    Results,
    /// The statistics of SE gates.
    Excitation,
}

/// The interval at which a run is read again.
const WATCH_INTERVAL: Duration = Duration::from_millis(700);

/// Opens the items on a separate thread; errors are sent as messages.
pub(super) fn open(
    opening: Opening,
    mailbox: &Mailbox,
    network: &NetworkThread,
    watch: &Arc<AtomicU64>,
    dataset: &OpenedDataset,
) {
    let opener = Opener {
        mailbox: mailbox.clone(),
        network: network.clone(),
        watch: watch.clone(),
        dataset: dataset.clone(),
    };
    let busy = mailbox.begin();
    std::thread::spawn(move || {
        let result = match (opener.open(&opening), opening.what) {
            (Err(error), _) => Some(Message::Failed(error)),
            (Ok(()), Some(what)) => Some(Message::Opened(what)),
            (Ok(()), None) => None,
        };
        if let Some(result) = result {
            opener.mailbox.send(result);
        }
        drop(busy);
    });
}

/// Why labels of images without annotated boxes cannot be corrected.
const NO_BOXES: &str = "these images have no annotated boxes to correct";

/// Lists image files without annotations.
///
/// # Errors
/// None of them can be read: they do not replace what is open.
pub(super) fn list_of_images(name: String, files: Vec<PathBuf>) -> Result<Message, String> {
    let mut unreadable = None;
    let is_readable = |path: &PathBuf| match decode_image(path) {
        Ok(_) => true,
        Err(error) => {
            unreadable.get_or_insert(error);
            false
        }
    };
    if files.iter().any(is_readable) {
        return Ok(Message::Collection(Arc::new(Collection {
            name,
            split: None,
            images: ShownImages::Files(files),
            annotation_file: Err(NO_BOXES.to_owned()),
        })));
    }
    let error = unreadable.map_or_else(|| format!("{name}: no image"), |error| error.to_string());
    Err(match files.len() {
        0 | 1 => error,
        images => format!("{name}: none of {images} images can be read, the first: {error}"),
    })
}

struct Opener {
    mailbox: Mailbox,
    network: NetworkThread,
    watch: Arc<AtomicU64>,
    dataset: OpenedDataset,
}

/// The kind of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Run(PathBuf),
    Dataset(String),
    /// Images without annotations in a known format, and why other annotations are not read.
    ImageDirectory(PathBuf, Option<String>),
    Image(PathBuf),
    Annotations(PathBuf),
    Results(PathBuf),
    Excitation(PathBuf),
    Checkpoint(PathBuf),
}

impl Opener {
    fn open(&self, opening: &Opening) -> Result<(), String> {
        if opening.is_empty() {
            self.network.load_shipped();
            return self.open_dataset("shapes", opening);
        }
        if let Some(checkpoint) = &opening.checkpoint {
            self.network.load(Pane::First, checkpoint.clone());
        }
        if let Some(checkpoint) = &opening.compare {
            self.network.load(Pane::Second, checkpoint.clone());
        }
        if let Some(dataset) = &opening.dataset {
            self.open_dataset(dataset, opening)?;
        }
        if let Some(results) = &opening.results {
            self.open_results(results)?;
        }
        let Some(what) = &opening.what else {
            return Ok(());
        };
        match kind_of(what)? {
            Kind::Run(directory) => self.open_run(&directory, opening),
            Kind::Dataset(name) => self
                .open_dataset(&name, opening)
                .map_err(|error| about_json(Path::new(&name), error)),
            Kind::ImageDirectory(directory, unread) => {
                let mut files = match (images_in(&directory), unread) {
                    (Ok(files), None) => files,
                    (Ok(files), Some(unread)) => {
                        self.mailbox.send(Message::Done(unread));
                        files
                    }
                    (Err(_), Some(unread)) => return Err(unread),
                    (Err(error), None) => return Err(error),
                };
                files.sort();
                let name = directory.display().to_string();
                self.mailbox.send(list_of_images(name, files)?);
                Ok(())
            }
            Kind::Image(path) => {
                let name = path.display().to_string();
                self.mailbox.send(list_of_images(name, vec![path])?);
                Ok(())
            }
            Kind::Annotations(path) => self.open_annotations(&path, opening),
            Kind::Results(path) => {
                // The launch file of a run names the dataset of its results.
                if opening.dataset.is_none()
                    && let Some(run) = path.ancestors().skip(1).find(|p| RunDir::is_run(p))
                {
                    self.open_data_of_run(run, opening)?;
                }
                self.open_results(&path)
            }
            Kind::Excitation(path) => {
                let excitation = Excitation::load(&path).map_err(|e| e.to_string())?;
                let name = path.file_name().unwrap_or(path.as_os_str());
                let source = StatisticsSource::File(name.to_string_lossy().into_owned());
                self.mailbox
                    .send(Message::Statistics(Arc::new(excitation), source));
                Ok(())
            }
            Kind::Checkpoint(path) => {
                self.network.load(Pane::First, path);
                Ok(())
            }
        }
    }

    fn show(
        &self,
        name: String,
        split: Option<Split>,
        images: ShownImages,
        annotation_file: Result<SplitFiles, String>,
    ) {
        let collection = Arc::new(Collection {
            name,
            split,
            images,
            annotation_file,
        });
        self.mailbox.send(Message::Collection(collection));
    }

    fn open_dataset(&self, name: &str, opening: &Opening) -> Result<(), String> {
        let split = opening.split();
        let parsed = AnyDatasetName::parse(name).map_err(|e| e.to_string())?;
        let opened = Dataset::open(&parsed, split, opening.data_dir.as_deref())
            .map_err(|e| e.to_string())?;
        for note in opened.notes() {
            self.mailbox.send(Message::Done(format!("{name}: {note}")));
        }
        let images = match opened {
            Dataset::Detection(split) => ShownImages::Boxes(split.dataset),
            Dataset::Classification(dataset) => ShownImages::Labeled(dataset),
        };
        let mut last = self.dataset.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((name.to_owned(), opening.data_dir.clone()));
        drop(last);
        let annotation_file = match &parsed {
            AnyDatasetName::Detection(name) => {
                let files = name.files(opening.data_dir.as_deref());
                files
                    .map_err(|e| e.to_string())
                    .and_then(|files| one_file(&files, split))
            }
            AnyDatasetName::Classification(_) => Err(NO_BOXES.to_owned()),
        };
        self.show(name.to_owned(), Some(split), images, annotation_file);
        Ok(())
    }

    fn open_annotations(&self, path: &Path, opening: &Opening) -> Result<(), String> {
        let files =
            DatasetFiles::find(path).map_err(|error| about_json(path, error.to_string()))?;
        let wanted = files.split(opening.split());
        // Most files are one split, which is shown whatever its role is.
        let split = match (wanted, files.splits.first()) {
            (Ok(split), _) | (Err(_), Some(split)) => split,
            (Err(error), None) => return Err(error.to_string()),
        };
        let read = split.read().map_err(|e| e.to_string())?;
        for note in read.lines() {
            let name = path.display();
            self.mailbox.send(Message::Done(format!("{name}: {note}")));
        }
        let dataset = DetectionDataset::in_directory(read.store, read.image_root);
        self.show(
            path.display().to_string(),
            None,
            ShownImages::Boxes(Arc::new(dataset)),
            corrected_file(split),
        );
        Ok(())
    }

    fn open_results(&self, path: &Path) -> Result<(), String> {
        let rows = read_results(path).map_err(|e| e.to_string())?;
        let name = path.display().to_string();
        self.mailbox.send(Message::Results(name, rows));
        Ok(())
    }

    /// Opens the curves, the best model and the dataset of a run.
    fn open_run(&self, directory: &Path, opening: &Opening) -> Result<(), String> {
        let checkpoint = opening.checkpoint.is_none().then(|| RunDir::at(directory));
        let checkpoint = checkpoint.map(|run| WrittenCheckpoint::of(&run));
        if let Some(path) = checkpoint.as_ref().and_then(|known| known.path()) {
            self.network.load(Pane::First, path.to_path_buf());
        }
        self.watch(directory, checkpoint);
        if opening.dataset.is_some() {
            return Ok(());
        }
        self.open_data_of_run(directory, opening)
    }

    fn open_data_of_run(&self, directory: &Path, opening: &Opening) -> Result<(), String> {
        let launch = RunDir::at(directory).launch().map_err(|error| {
            format!("{error}; the dataset of this run is unknown, open it first")
        })?;
        let opening = Opening {
            data_dir: opening.data_dir.clone().or(launch.data_dir),
            ..opening.clone()
        };
        self.open_dataset(&launch.dataset, &opening)
    }

    /// Sends the curves now and whenever they grow, and checkpoints that are written after the `known` one,
    /// until another run is opened.
    fn watch(&self, directory: &Path, mut known: Option<WrittenCheckpoint>) {
        let ticket = self.watch.fetch_add(1, Ordering::SeqCst) + 1;
        let mut log = FollowedLog::of(directory.to_path_buf());
        log.update(&self.mailbox, true, Message::Run);
        let (mailbox, watch) = (self.mailbox.clone(), self.watch.clone());
        let run = RunDir::at(directory);
        std::thread::spawn(move || {
            while watch.load(Ordering::SeqCst) == ticket {
                std::thread::sleep(WATCH_INTERVAL);
                log.update(&mailbox, false, Message::Run);
                if let Some(known) = &mut known
                    && let Some(path) = known.update(&run)
                {
                    mailbox.send(Message::RunCheckpoint(path));
                }
            }
        });
    }
}

/// Sends the curves of a run now and whenever they grow, as long as it is among the compared ones.
pub(super) fn follow_compared(
    directory: PathBuf,
    mailbox: &Mailbox,
    compared: &Arc<Mutex<BTreeSet<PathBuf>>>,
) {
    let (mailbox, compared) = (mailbox.clone(), compared.clone());
    let busy = mailbox.begin();
    std::thread::spawn(move || {
        let is_compared = |directory: &Path| {
            let compared = compared.lock().unwrap_or_else(PoisonError::into_inner);
            compared.contains(directory)
        };
        let mut log = FollowedLog::of(directory.clone());
        log.update(&mailbox, true, Message::ComparedRun);
        drop(busy);
        while is_compared(&directory) {
            std::thread::sleep(WATCH_INTERVAL);
            log.update(&mailbox, false, Message::ComparedRun);
        }
    });
}

/// The log of a run that is read again and again.
struct FollowedLog {
    run: RunLog,
    last_error: Option<String>,
}

impl FollowedLog {
    fn of(directory: PathBuf) -> Self {
        Self {
            run: RunLog::new(directory),
            last_error: None,
        }
    }

    /// Sends the log if it has grown, or in any case at the `first` time; the same error is sent once.
    fn update(&mut self, mailbox: &Mailbox, first: bool, message: fn(RunLog) -> Message) {
        match self.run.update() {
            Ok(grew) => {
                self.last_error = None;
                if grew || first {
                    mailbox.send(message(self.run.clone()));
                }
            }
            Err(error) => {
                let path = self.run.directory.join(EVENTS);
                let error = format!("{}: {error}", path.display());
                if self.last_error.as_ref() != Some(&error) {
                    self.last_error = Some(error.clone());
                    mailbox.send(Message::Failed(error));
                }
            }
        }
    }
}

/// The best checkpoint of a run, or its last one while there is no best, as it was last seen. Runs replace
/// their checkpoints atomically, so a file with another time is complete.
#[derive(Debug, PartialEq)]
struct WrittenCheckpoint(Option<WeightsFile>);

impl WrittenCheckpoint {
    fn of(run: &RunDir) -> Self {
        let checkpoints = [run.best_checkpoint(), run.last_checkpoint()];
        Self(checkpoints.into_iter().find_map(WeightsFile::at))
    }

    fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|file| file.path.as_path())
    }

    /// Returns the checkpoint if it has been written since the last call.
    fn update(&mut self, run: &RunDir) -> Option<PathBuf> {
        let now = Self::of(run);
        let is_written = now.0.is_some() && now != *self;
        *self = now;
        let path = self.path().filter(|_| is_written);
        path.map(Path::to_path_buf)
    }
}

/// Returns the annotation file of a split, if its labels can be corrected.
fn one_file(datasets: &[DatasetFiles], split: Split) -> Result<SplitFiles, String> {
    match datasets {
        [] => Err("generated images have no annotation file to correct".to_owned()),
        [dataset] => match (dataset.split(split), dataset.splits.as_slice()) {
            // Images were held out of the only file.
            (Ok(files), _) | (Err(_), [files]) => corrected_file(files),
            (Err(error), _) => Err(error.to_string()),
        },
        _ => {
            Err("labels of several datasets cannot be corrected together; open one of them".into())
        }
    }
}

fn corrected_file(files: &SplitFiles) -> Result<SplitFiles, String> {
    if files.coco_json().is_none() {
        return Err(format!(
            "only labels in COCO JSON can be corrected, not {} annotations; `sedet data convert` writes COCO JSON",
            files.format
        ));
    }
    let annotations = std::path::absolute(&files.annotations);
    Ok(SplitFiles {
        annotations: annotations.map_err(|error| error.to_string())?,
        ..files.clone()
    })
}

/// Extensions of texts, which are never weights.
const TEXTS: [&str; 8] = ["txt", "csv", "tsv", "md", "log", "toml", "yaml", "yml"];

/// Determines the kind of a path or name.
pub(super) fn kind_of(what: &str) -> Result<Kind, String> {
    let path = PathBuf::from(what);
    if path.is_dir() {
        return Ok(if RunDir::is_run(&path) {
            Kind::Run(path)
        } else {
            kind_of_directory(path, what)
        });
    }
    if !path.exists() {
        return match AnyDatasetName::parse(what) {
            Ok(_) => Ok(Kind::Dataset(what.to_owned())),
            Err(error @ RegistryError::Unknown { .. }) => {
                Err(format!("{what}: no such file or directory; {error}"))
            }
            Err(error) => Err(error.to_string()),
        };
    }
    if path.file_name().is_some_and(|name| name == EVENTS) {
        let directory = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        return Ok(Kind::Run(directory));
    }
    if has_image_extension(&path) {
        return Ok(Kind::Image(path));
    }
    // Datasets even if their content is wrong, so that the message is about a dataset.
    if is_dataset_file(&path) {
        return Ok(Kind::Dataset(what.to_owned()));
    }
    let start = first_bytes(&path).map_err(|error| format!("{what}: {error}"))?;
    let text = String::from_utf8_lossy(&start);
    let is_recognized = matches!(recognize(&path), Ok(Some(_)));
    match (text.trim_start().chars().next(), is_recognized) {
        (Some('['), false) => return Ok(Kind::Results(path)),
        // What is wrong with an object in no format is reported where it is opened.
        (Some('['), true) | (Some('{'), _) => return Ok(Kind::Annotations(path)),
        (_, true) => return Ok(Kind::Dataset(what.to_owned())),
        _ => {}
    }
    if text.contains(EXCITATION_KEY) {
        return Ok(Kind::Excitation(path));
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    if TEXTS.contains(&extension.to_lowercase().as_str()) {
        return Err(format!(
            "{what}: no image, dataset, training run, weights, detections or gate statistics"
        ));
    }
    // The reader of checkpoints reports what is wrong with anything else.
    Ok(Kind::Checkpoint(path))
}

/// Says what a JSON file is opened as, after what is wrong with it as that: it may be of another kind.
fn about_json(path: &Path, error: String) -> String {
    if path.extension().is_some_and(|name| name == "json") {
        return format!(
            "{error} (a JSON object is opened as COCO annotations, a JSON list as detections)"
        );
    }
    error
}

/// Determines whether a directory is a dataset, as training recognizes it, or has only images.
fn kind_of_directory(path: PathBuf, what: &str) -> Kind {
    // A directory with the name of a known dataset denotes itself.
    let name = if AnyDatasetName::is_named(what) {
        Path::new(".").join(what).display().to_string()
    } else {
        what.to_owned()
    };
    let recognized = AnyDatasetName::parse(&name).and_then(|dataset| dataset.recognize(None));
    let error = match recognized {
        Ok(_) => return Kind::Dataset(name),
        Err(error) => error,
    };
    let has_no_annotations = match &error {
        RegistryError::Data { source, .. } => matches!(
            source.as_ref(),
            DataError::Layout(LayoutError::Unrecognized { .. } | LayoutError::ClassesBelow { .. })
        ),
        _ => false,
    };
    Kind::ImageDirectory(path, (!has_no_annotations).then(|| error.to_string()))
}

/// Reads enough of a file to determine its kind. The header of an excitation file may begin with its
/// tensors, so all of the header is read.
fn first_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    const SNIFFED: u64 = 1 << 16;
    const LONGEST_HEADER: u64 = 16 << 20;
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    file.by_ref().take(SNIFFED).read_to_end(&mut start)?;
    if let [a, b, c, d, e, f, g, h, b'{', ..] = start.as_slice() {
        let length = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
        if length <= LONGEST_HEADER {
            let rest = (length + 8).saturating_sub(start.len() as u64);
            file.take(rest).read_to_end(&mut start)?;
            // In a safetensors file only the header is text.
            start.truncate(length as usize + 8);
            start.drain(..8);
            start.insert(0, b' ');
            let is_excitation = String::from_utf8_lossy(&start).contains(EXCITATION_KEY);
            return Ok(if is_excitation {
                EXCITATION_KEY.into()
            } else {
                Vec::new()
            });
        }
    }
    Ok(start)
}

fn images_in(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let named = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(named)? {
        let path = entry.map_err(named)?.path();
        if has_image_extension(&path) {
            files.push(path);
        }
    }
    if files.is_empty() {
        let directory = directory.display();
        return Err(format!(
            "{directory}: no image, dataset or run in this directory"
        ));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_path_is_determined() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let kind = |path: &Path| kind_of(&path.display().to_string());
        assert_eq!(kind_of("shapes"), Ok(Kind::Dataset("shapes".into())));
        let results = at("r.json", " [\n{}]");
        assert_eq!(kind(&results), Ok(Kind::Results(results.clone())));
        let annotations = at("a.json", "{\"images\": []}");
        assert_eq!(
            kind(&annotations),
            Ok(Kind::Annotations(annotations.clone()))
        );
        let image = at("photos/p.jpg", "");
        assert_eq!(kind(&image), Ok(Kind::Image(image.clone())));
        let photos = image.parent().unwrap();
        let images = Kind::ImageDirectory(photos.into(), None);
        assert_eq!(kind(photos), Ok(images));
        let events = at("run/events.jsonl", "");
        let run = events.parent().unwrap();
        assert_eq!(kind(run), Ok(Kind::Run(run.into())));
        assert_eq!(kind(&events), Ok(Kind::Run(run.into())));
        let weights = at("w.pth", "PK");
        assert_eq!(kind(&weights), Ok(Kind::Checkpoint(weights.clone())));
        let text = kind(&at("notes.TXT", "nothing to see")).unwrap_err();
        assert!(
            text.contains("notes.TXT: no image, dataset, training run"),
            "{text}"
        );
        let missing = kind(&directory.path().join("nothing")).unwrap_err();
        assert!(missing.contains("no such file or directory"), "{missing}");
    }

    #[test]
    fn directories_are_recognized_as_training_recognizes_them() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let at = |name: &str| directory.path().join(name).display().to_string();
        put("classes/cat/a.jpg", "");
        put("classes/dog/b.jpg", "");
        put("cifar/cifar-10-python.tar.gz", "");
        put("two/a/Annotations/1.xml", "<annotation/>");
        put("two/b/Annotations/1.xml", "<annotation/>");
        let list = [at("two/a"), at("two/b")].join(",");
        for name in [at("classes"), at("cifar"), at("two/a"), list] {
            assert_eq!(kind_of(&name), Ok(Kind::Dataset(name.clone())));
        }
        match kind_of(&at("two")) {
            Ok(Kind::ImageDirectory(_, Some(unread))) => {
                assert!(unread.contains("two: several datasets: "), "{unread}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_shipped_checkpoint_is_a_checkpoint() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../assets/shapes-se-resnet18.safetensors");
        let name = shipped.display().to_string();
        assert_eq!(kind_of(&name), Ok(Kind::Checkpoint(shipped)));
    }
}
