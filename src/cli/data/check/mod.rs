//! `sedet data check`.

mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::anchors::AnchorCoverage;
use crate::cli::eval::parse_split;
use crate::cli::print_out;
use report::Report;
use sedet_core::config::recipe_for;
use sedet_core::status;
use sedet_data::annotations::layout::{Split, SplitFiles, find_directory};
use sedet_data::annotations::yolo::YoloDirectory;
use sedet_data::curation::check::{
    CheckOptions, CheckedSplit, Diagnostics, FixSummary, Progress, Severity, Source, check_split,
    compare_splits,
};
use sedet_data::datasets::registry::DatasetName;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// A directory with COCO-format annotations or in YOLO's layout, one annotation file, blood-cells, or coco
    dataset: String,
    /// Directory that holds the named datasets [default: $SEDET_DATA]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Directory of the images, where DATASET is one annotation file
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,
    /// Only this split: train, val or test
    #[arg(long, value_parser = parse_split)]
    split: Option<Split>,
    /// Leave the images alone: only the annotations are checked, in seconds
    #[arg(long)]
    no_images: bool,
    /// Recipe whose anchors and input sizes are compared with the boxes [default: chosen by the dataset]
    #[arg(long, value_name = "RECIPE")]
    config: Option<String>,
    /// Print JSON with every finding instead of the summary
    #[arg(long)]
    json: bool,
    /// Write a copy of the annotations without what is wrong; never over a file that is there
    #[arg(long, value_name = "OUT.json")]
    fix: Option<PathBuf>,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (dataset, sources) = find(args)?;
    if let Some(out) = &args.fix
        && let Some(problem) = cannot_fix(out, &sources)
    {
        status!("error: {problem}");
        return Ok(ExitCode::from(2));
    }
    let mut diagnostics = Diagnostics::default();
    let mut splits = Vec::new();
    let options = CheckOptions {
        images: !args.no_images,
    };
    for (name, source) in &sources {
        splits.push(with_bar(name, |progress| {
            check_split(name, source, options, &mut diagnostics, progress)
        })?);
    }
    // With one split of several, its neighbors' images would seem to be in no list.
    if args.split.is_none() {
        compare_splits(&splits, &mut diagnostics);
    }
    let fixed = match (&args.fix, sources.first(), splits.first()) {
        (Some(out), Some((_, Source::Coco(files))), Some(split)) => Some(fix(out, files, split)?),
        _ => None,
    };
    let recipe = args.config.as_deref().unwrap_or(recipe_for(&dataset));
    let mut counted = Vec::new();
    for split in &splits {
        counted.push(match split.sound_part() {
            Err(error) => Err(error.to_string()),
            Ok(store) => {
                let anchors = AnchorCoverage::of(&store, recipe, &[])?;
                Ok((
                    sedet_data::curation::statistics::Statistics::of(&store),
                    anchors,
                ))
            }
        });
    }
    let report = Report {
        dataset: &args.dataset,
        splits: &splits,
        diagnostics: &diagnostics,
        counted: &counted,
        fixed: fixed.as_ref(),
        images: options.images,
    };
    match args.json {
        true => print_out(&serde_json::to_string_pretty(&report.json())?)?,
        false => print_out(&report.text())?,
    }
    let is_clean = match &fixed {
        Some(fixed) => fixed.left.is_empty(),
        None => diagnostics.count(Severity::Error) == 0,
    };
    Ok(match is_clean {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The splits to check, each with its name.
fn find(args: &CheckArgs) -> anyhow::Result<(DatasetName, Vec<(String, Source)>)> {
    let path = Path::new(&args.dataset);
    if path.is_file() {
        let files = SplitFiles::of_file(path, args.images.as_deref());
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let around = path.parent().unwrap_or(Path::new("")).to_owned();
        return Ok((
            DatasetName::Directory(around),
            vec![(name.into_owned(), Source::Coco(files))],
        ));
    }
    if args.images.is_some() {
        anyhow::bail!("--images is for one annotation file; in a directory the images are found");
    }
    let dataset = DatasetName::parse(&args.dataset)?;
    let sources = match &dataset {
        DatasetName::Directory(root) if find_directory(root).is_err() => yolo(root)?,
        _ => Vec::new(),
    };
    let sources = match sources.is_empty() {
        false => sources,
        true => {
            let splits = dataset.splits(args.data_dir.as_deref())?.into_iter();
            splits
                .map(|files| (files.split, Source::Coco(files)))
                .collect()
        }
    };
    if sources.is_empty() {
        anyhow::bail!(
            "the scenes of {} are generated when they are needed; write them with `sedet data shapes` to check files",
            args.dataset
        );
    }
    let sources: Vec<_> = sources
        .into_iter()
        .filter(|(split, _)| args.split.is_none_or(|wanted| wanted == *split))
        .map(|(split, source)| (split.to_string(), source))
        .collect();
    match (sources.is_empty(), args.split) {
        (true, Some(split)) => anyhow::bail!("{}: no {split} annotations", args.dataset),
        _ => Ok((dataset, sources)),
    }
}

/// The splits of a directory in YOLO's layout; none if it is in another.
fn yolo(root: &Path) -> anyhow::Result<Vec<(Split, Source)>> {
    let Some(directory) = YoloDirectory::find(root)? else {
        return Ok(Vec::new());
    };
    let splits = directory.splits.iter();
    Ok(splits
        .map(|(split, _)| (*split, Source::Yolo(directory.clone(), *split)))
        .collect())
}

/// Why the clean copy can't be written; known before anything is read.
fn cannot_fix(out: &Path, files: &[(String, Source)]) -> Option<String> {
    if files
        .iter()
        .any(|(_, source)| matches!(source, Source::Yolo(..)))
    {
        return Some("--fix writes COCO annotations; `sedet data convert` first".into());
    }
    if files.len() > 1 {
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        return Some(format!(
            "--fix writes one file, and there are {}: add --split {}",
            names.join(", "),
            names[0]
        ));
    }
    out.symlink_metadata().is_ok().then(|| {
        format!(
            "{} is there already and nothing is overwritten; give --fix another name",
            out.display()
        )
    })
}

/// A clean copy that was written.
pub(super) struct Fixed {
    path: PathBuf,
    summary: FixSummary,
    /// What is wrong with it still.
    left: Vec<(&'static str, usize)>,
}

/// Writes the clean copy and checks it like any file.
fn fix(out: &Path, files: &SplitFiles, split: &CheckedSplit) -> anyhow::Result<Fixed> {
    let summary = split.write_fixed(out)?;
    let mut again = Diagnostics::default();
    let written = Source::Coco(SplitFiles {
        annotations: out.to_owned(),
        ..files.clone()
    });
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

/// A bar for reading, then for the images.
fn with_bar<T>(name: &str, work: impl FnOnce(&(dyn Fn(Progress) + Sync)) -> T) -> T {
    let style = |template: &str| {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    };
    let bar = ProgressBar::no_length().with_message(name.to_owned());
    let reading = style("{msg}: reading annotations {wide_bar} {bytes}/{total_bytes}");
    let pictures = style("{msg}: decoding images {wide_bar} {pos}/{len} {eta}");
    bar.set_style(reading);
    let is_reading = std::sync::Once::new();
    let done = work(&|progress| match progress {
        Progress::Reading(done, all) => {
            bar.set_length(all);
            bar.set_position(done);
        }
        Progress::Images(done, all) => {
            is_reading.call_once(|| {
                bar.set_style(pictures.clone());
                bar.reset();
                bar.set_length(all);
            });
            bar.set_position(done);
        }
    });
    bar.finish_and_clear();
    done
}
