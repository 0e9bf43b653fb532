//! `sedet data check`.

mod list;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::anchors::AnchorCoverage;
use crate::cli::dataset_argument;
use crate::cli::hints::{advise, of_check, usage_with_hint};
use crate::cli::progress::{Meter, Unit};
use crate::cli::terminal::{continued, width};
use crate::cli::{
    check_data_dir, has_json_extension, is_json_file, print_out, problem, quoted, status,
};
use report::{Counted, Report};
use sedet_data::annotations::coco_directory::CocoFormat;
use sedet_data::annotations::format::{DatasetFiles, SplitFiles};
use sedet_data::annotations::layout::Split;
use sedet_data::curation::check::{
    CheckOptions, CheckProgress, CheckedSplit, Diagnostic, Diagnostics, FixSummary, Kind, Obstacle,
    Severity, check_dataset, check_hold_out, check_split, compare_splits,
};
use sedet_data::curation::statistics::Statistics;
use sedet_data::datasets::detection::{DetectionDataset, TargetFilter};
use sedet_data::datasets::registry::{AnyDatasetName, DatasetName, Recognition, RegistryError};
use sedet_data::text::printable;

const EXAMPLES: &str = "\
Examples:
  sedet data check photos/
  sedet data check annotations.json --image-dir photos/ --fix fixed.json";

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {
    /// Directory with box annotations, an annotation file, or several of these, separated by commas; or
    /// blood-cells or coco
    dataset: String,
    /// Directory of the named datasets [default: $SEDET_DATA]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Image directory, if DATASET is an annotation file
    #[arg(long, value_name = "DIR")]
    image_dir: Option<PathBuf>,
    /// Check this split only: train, val or test
    #[arg(long)]
    split: Option<Split>,
    /// Skip image decoding; check annotations only
    #[arg(long)]
    skip_images: bool,
    /// Recipe whose anchors and input sizes are compared with the boxes [default: depends on the dataset]
    #[arg(long, value_name = "RECIPE")]
    config: Option<String>,
    /// Print JSON with every diagnostic instead of the summary
    #[arg(long)]
    json: bool,
    /// Write a corrected copy of the annotations; refuses to overwrite
    #[arg(long, value_name = "OUT.json")]
    fix: Option<PathBuf>,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    check(args).map_err(of_check)
}

fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    // A single path may have a comma in its name.
    if args.dataset.contains(',') && !Path::new(&args.dataset).exists() {
        let dataset = DatasetName::parse(&args.dataset)?;
        if let DatasetName::List(paths) = &dataset {
            return list::check(args, &dataset, paths);
        }
    }
    let target = find(args)?;
    if let Some(out) = &args.fix
        && let Some((problem, hint)) = cannot_fix(out, &target.files, &target.splits)
    {
        return Err(usage_with_hint(problem, hint));
    }
    let roles = target.files.split_names();
    if !args.has_one_file() && roles.contains(&Split::Train) && !roles.contains(&Split::Val) {
        status!("no val annotations: training holds out a tenth of the train images");
    }
    let mut found = checked(args, &target)?;
    // With one split of several, the images of the others would seem to be in no list.
    if args.split.is_none() {
        found.compare(&[]);
    }
    if !roles.contains(&Split::Val) && target.dataset != DatasetName::Coco {
        found.check_hold_out();
    }
    let files = target.files.splits.iter().find(|of| {
        let name = of.split.to_string();
        found.splits.first().is_some_and(|split| split.name == name)
    });
    let obstacle = found.obstacle();
    let fixed = match (&args.fix, files, found.splits.first()) {
        (Some(_), _, _) if obstacle.is_some() => None,
        (Some(out), Some(files), Some(split)) => Some(fix(out, files, split)?),
        _ => None,
    };
    let report = found.report(args, &target, fixed.as_ref());
    if args.json {
        print_out(&serde_json::to_string_pretty(&report.json())?)?;
    } else {
        print_out(&report.text())?;
    }
    if let (Some(out), Some(obstacle)) = (&args.fix, obstacle) {
        let out = out.display();
        problem!("{out}: no corrected copy is written while {obstacle}");
    }
    if let (Some(fixed), Some(split)) = (&fixed, found.splits.first()) {
        print_next_step(fixed, split, &target.files);
    }
    let is_clean = match &fixed {
        Some(fixed) => fixed.left.is_empty(),
        None => found.diagnostics.count(Severity::Error) == 0,
    };
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is checked.
struct Target {
    dataset: DatasetName,
    files: DatasetFiles,
    splits: Vec<Split>,
}

/// A dataset that was checked.
struct Checked {
    splits: Vec<CheckedSplit>,
    diagnostics: Diagnostics,
    counted: Vec<Counted>,
}

impl Checked {
    /// Compares the splits. `others` are those of other datasets, whose images may be in the same directories.
    fn compare(&mut self, others: &[&CheckedSplit]) {
        compare_splits(&self.splits, others, &mut self.diagnostics);
    }

    /// Checks that training can hold out validation images, if train is the only split.
    fn check_hold_out(&mut self) {
        if let [only] = self.splits.as_slice()
            && only.name == Split::Train.to_string()
        {
            check_hold_out(only, &mut self.diagnostics);
        }
    }

    /// Returns what keeps a corrected copy from being written, if anything does.
    fn obstacle(&self) -> Option<Obstacle> {
        self.splits.iter().find_map(|split| split.obstacle)
    }

    fn report<'a>(
        &'a self,
        args: &'a CheckArgs,
        target: &Target,
        fixed: Option<&'a Fixed>,
    ) -> Report<'a> {
        Report {
            dataset: &args.dataset,
            splits: &self.splits,
            diagnostics: &self.diagnostics,
            counted: &self.counted,
            fixed,
            images: !args.skip_images,
            has_train: target.files.split_names().contains(&Split::Train),
            cannot_fix: manual_hint(&target.files).or_else(|| {
                let obstacle = self.obstacle()?;
                Some(format!("no corrected copy is written while {obstacle}"))
            }),
            width: width(),
        }
    }
}

/// Checks each split of a dataset on its own.
fn checked(args: &CheckArgs, target: &Target) -> anyhow::Result<Checked> {
    let mut diagnostics = Diagnostics::default();
    let options = CheckOptions {
        images: !args.skip_images,
    };
    let meter = Meter::new("reading annotations", Unit::Bytes);
    let splits = check_dataset(
        &target.files,
        &target.splits,
        options,
        &mut diagnostics,
        &|split, step| match step {
            CheckProgress::Reading(done, all) => {
                meter.begin(&format!("{split}: reading annotations"), Unit::Bytes, 0);
                meter.show(done, Some(all));
            }
            CheckProgress::Images(done, all) => {
                meter.begin(&format!("{split}: decoding images"), Unit::Images, 0);
                meter.show(done, Some(all));
            }
        },
    );
    drop(meter);
    let splits = splits?;
    for unused in &target.files.unused {
        diagnostics.add(Kind::AnnotationsNotUsed, Diagnostic::on_dataset(unused));
    }
    let mut counted = Vec::new();
    for split in &splits {
        counted.push(match split.sound_part() {
            Err(error) => Err(error.to_string()),
            Ok(store) => {
                let anchors = AnchorCoverage::of(&store, args.config.as_deref(), &target.dataset)?;
                Ok((Statistics::of(&store), anchors))
            }
        });
    }
    Ok(Checked {
        splits,
        diagnostics,
        counted,
    })
}

impl CheckArgs {
    /// Returns whether the dataset is one annotation file of COCO.
    fn has_one_file(&self) -> bool {
        is_json_file(Path::new(&self.dataset))
    }
}

/// Finds the dataset and the splits to check.
fn find(args: &CheckArgs) -> anyhow::Result<Target> {
    check_data_dir(&args.dataset, args.data_dir.as_deref())?;
    let path = Path::new(&args.dataset);
    let is_named = AnyDatasetName::is_named(&args.dataset);
    if !path.exists() && !is_named && (has_json_extension(path) || args.image_dir.is_some()) {
        return Err(RegistryError::unknown(&args.dataset).into());
    }
    if args.has_one_file() {
        // A damaged file is found, too: the check reports what is wrong with it.
        let mut files = DatasetFiles::find(path)?;
        if let Some(directory) = &args.image_dir {
            files = files.with_image_directory(directory);
        }
        if args.split.is_some() {
            return Err(usage_with_hint(
                format!(
                    "--split has no effect: {} is one annotation file",
                    args.dataset
                ),
                "omit --split",
            ));
        }
        let splits = files.split_names();
        return Ok(Target {
            dataset: DatasetName::Directory(path.to_owned()),
            files,
            splits,
        });
    }
    if args.image_dir.is_some() {
        return Err(usage_with_hint(
            format!(
                "--image-dir has no effect on {}: it applies to one COCO JSON file; the images of others are found",
                printable(&args.dataset)
            ),
            "omit --image-dir, or give the JSON file",
        ));
    }
    let dataset = DatasetName::parse(&args.dataset)?;
    let mut found = dataset.files(args.data_dir.as_deref())?;
    let files = match (found.pop(), found.is_empty()) {
        (Some(files), true) => files,
        (Some(_), false) => {
            return Err(advise(
                format!("{}: several datasets", args.dataset),
                "check each of them on its own",
            ));
        }
        (None, _) => {
            return Err(advise(
                format!("the scenes of {} are generated, not files", args.dataset),
                "write them with `sedet data shapes` and check the output directory",
            ));
        }
    };
    let recognized = Recognition::of_files(std::slice::from_ref(&files));
    let line = format!("{}: {}", args.dataset, recognized.kind());
    status!("{}", continued(&line, width()));
    let mut splits = files.split_names();
    splits.retain(|split| args.split.is_none_or(|wanted| wanted == *split));
    match (splits.is_empty(), args.split) {
        (true, Some(split)) => {
            let found = files.split_names();
            let found: Vec<String> = found.iter().map(Split::to_string).collect();
            Err(advise(
                format!("{}: no {split} annotations", args.dataset),
                format!("use --split {}, or omit --split", found.join(" or ")),
            ))
        }
        _ => Ok(Target {
            dataset,
            files,
            splits,
        }),
    }
}

/// Returns what to do about errors in annotations that `--fix` cannot correct; None if it can.
fn manual_hint(files: &DatasetFiles) -> Option<String> {
    let is_json = files.splits.iter().all(|files| files.coco_json().is_some());
    if files.splits.iter().any(|files| files.is_part) {
        return Some(format!("correct the file named above: {NO_FIX_OF_PARTS}"));
    }
    (!is_json).then(|| {
        format!(
            "correct the files named above: there is no automatic fix for {} annotations",
            files.format
        )
    })
}

/// Why a corrected copy of one file with several splits is not written.
const NO_FIX_OF_PARTS: &str = "there is no automatic fix for one file of several splits; `sedet data convert DATASET --to \
     coco --output DIRECTORY` writes a file for each";

/// Returns why a corrected copy cannot be written, with a hint; known before anything is read.
fn cannot_fix(out: &Path, files: &DatasetFiles, splits: &[Split]) -> Option<(String, String)> {
    if let Some(part) = files.splits.iter().find(|files| files.is_part) {
        let file = part.annotations.display();
        return Some((
            format!(
                "{file}: the directories in the names of its images divide it into splits, and --fix writes one"
            ),
            NO_FIX_OF_PARTS.into(),
        ));
    }
    if files.splits.iter().any(|files| files.coco_json().is_none()) {
        return Some((
            format!(
                "--fix writes COCO JSON and cannot correct {} annotations",
                files.format
            ),
            "correct the files that the check without --fix names; annotations that can be read are converted by \
             `sedet data convert DATASET --to coco --output DIRECTORY` (--on-bad-image skip leaves unreadable images \
             out), and --fix corrects that copy"
                .into(),
        ));
    }
    if splits.len() > 1 {
        let names: Vec<String> = splits.iter().map(Split::to_string).collect();
        return Some((
            format!("--fix writes one file, but there are {}", names.join(", ")),
            format!("add --split {}", names[0]),
        ));
    }
    if out.symlink_metadata().is_ok() {
        return Some((
            format!("{} already exists", out.display()),
            "choose another file for --fix".into(),
        ));
    }
    let directory = out.parent().filter(|path| !path.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|path| !path.is_dir()) {
        return Some((
            format!(
                "--fix {}: the directory {} does not exist",
                out.display(),
                directory.display()
            ),
            "create the directory, or choose another file for --fix".into(),
        ));
    }
    // Training takes the copy of val for val by its name alone.
    if let [role] = splits
        && let of_name = SplitFiles::of_file(&CocoFormat, out, None).split
        && of_name != *role
    {
        return Some((
            format!(
                "--fix {}: training takes a file of this name for {of_name}, but the annotations are those of {role}",
                out.display()
            ),
            format!("choose another name, such as fixed_{role}.json"),
        ));
    }
    (!has_json_extension(out)).then(|| {
        (
            format!("--fix {}: not the name of a JSON file", out.display()),
            format!("write {}", out.with_extension("json").display()),
        )
    })
}

/// A corrected copy that was written.
pub(super) struct Fixed {
    path: PathBuf,
    summary: FixSummary,
    /// Kinds and numbers of the errors that are left.
    left: Vec<(&'static str, usize)>,
}

/// Writes the corrected copy and checks it like any file.
fn fix(out: &Path, files: &SplitFiles, split: &CheckedSplit) -> anyhow::Result<Fixed> {
    let summary = split.write_fixed(out)?;
    let mut again = Diagnostics::default();
    let written = if summary.names_changed {
        SplitFiles {
            split: files.split,
            ..SplitFiles::of_file(&CocoFormat, out, None)
        }
    } else {
        SplitFiles {
            annotations: out.to_owned(),
            ..files.clone()
        }
    };
    let options = CheckOptions { images: false };
    check_split(&split.name, &written, options, &mut again, &|_| {})
        .with_context(|| format!("the copy {}", out.display()))?;
    let left = again
        .groups()
        .filter(|(kind, _)| kind.severity() == Severity::Error)
        .map(|(kind, group)| (kind.key(), group.count))
        .collect();
    Ok(Fixed {
        path: out.to_owned(),
        summary,
        left,
    })
}

/// Prints a command that uses the corrected copy, with the user's own other split; none if the copy has errors, or not
/// enough for a training.
fn print_next_step(fixed: &Fixed, split: &CheckedSplit, files: &DatasetFiles) {
    if !fixed.left.is_empty() {
        return;
    }
    let copy = dataset_argument(&fixed.path);
    let Some(parts) = parts_with(&fixed.path, split, files) else {
        status!("next: sedet data check {copy}");
        return;
    };
    if let [_] = parts.as_slice() {
        if can_be_divided(split) {
            status!("next: sedet train --dataset {copy}");
        }
        return;
    }
    let parts: Vec<String> = parts
        .iter()
        .map(|part| part.display().to_string())
        .collect();
    let list = parts.join(",");
    let opened = DatasetName::parse(&list).and_then(|dataset| dataset.open(None));
    match opened {
        Ok(_) => status!("next: sedet train --dataset {}", quoted(list)),
        Err(error) => problem!("{list}: cannot be trained on together: {error}"),
    }
}

/// Returns the annotation files of a training with the corrected copy: that of train, and that of val if there is one.
/// None if the copy is of neither, or of val and its name does not show it.
fn parts_with(copy: &Path, split: &CheckedSplit, files: &DatasetFiles) -> Option<Vec<PathBuf>> {
    let role = files.splits.iter().map(|files| files.split);
    let role = role
        .into_iter()
        .find(|role| role.to_string() == split.name)?;
    if SplitFiles::of_file(&CocoFormat, copy, None).split != role {
        return None;
    }
    let of = |wanted: Split| match files.splits.iter().find(|files| files.split == wanted) {
        Some(_) if wanted == role => Some(copy.to_owned()),
        found => found.map(|files| files.annotations.clone()),
    };
    let train = of(Split::Train).or_else(|| train_beside(files));
    let parts = [train, of(Split::Val)];
    let is_trained = role != Split::Test && parts[0].is_some();
    is_trained.then(|| parts.into_iter().flatten().collect())
}

/// Returns the train annotations of the directory of an annotation file that was given on its own.
fn train_beside(files: &DatasetFiles) -> Option<PathBuf> {
    let [given] = files.splits.as_slice() else {
        return None;
    };
    let directory = given.annotations.parent()?;
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let all = DatasetFiles::find(directory).ok()?;
    let is_given = |path: &Path| path.canonicalize().ok() == given.annotations.canonicalize().ok();
    let mut splits = all.splits.iter().filter_map(SplitFiles::coco_json);
    splits.find(|path| is_given(path))?;
    let train = all.split(Split::Train).ok()?;
    train.coco_json().map(Path::to_owned)
}

/// Returns whether the images can be divided into train and val: one image cannot.
fn can_be_divided(split: &CheckedSplit) -> bool {
    let (Some(images), Ok(store)) = (&split.image_directory, split.sound_part()) else {
        return false;
    };
    let dataset = DetectionDataset::in_directory(store, images);
    let usable = dataset.training_images(TargetFilter::default());
    usable.is_ok_and(|(usable, _)| usable.len() > 1)
}
