//! Published weights by name: `sedet weights list`, `sedet weights download`, and names in place of files.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use super::hints::{hint_for, usage_with_hint};
use super::progress::{Meter, Unit};
use super::terminal::{fitted, width};
use super::{message, print_out, problem, status};
use sedet_core::weights::named::{
    Downloaded, FileOrigin, NamedError, NamedWeights, Presence, PublishedResult, Source, Store,
    UnknownWeights,
};
use sedet_data::eval::table::Side;
use sedet_data::loading::transforms::{Preprocess, ResizeMethod};
use sedet_data::text::count;

/// The detector that examples and hints name.
pub(super) const USUAL_DETECTOR: &str = "fasterrcnn-resnet50-fpn-coco";

const LIST_EXAMPLES: &str = "\
Examples:
  sedet weights list
  sedet weights list --json";

#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(super) struct ListArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

const DOWNLOAD_EXAMPLES: &str = "\
Examples:
  sedet weights download fasterrcnn-resnet50-fpn-coco
  sedet weights download seresnet50-a1 seresnet50-ra2 --yes";

#[derive(Debug, clap::Args)]
#[command(after_help = DOWNLOAD_EXAMPLES)]
pub(super) struct NamedDownloadArgs {
    /// Names of published weights, such as fasterrcnn-resnet50-fpn-coco (see `sedet weights list`)
    #[arg(required = true, value_name = "NAME", value_parser = weights_of_name)]
    names: Vec<&'static NamedWeights>,
    /// Download from a mirror with the same paths or, where file names contain checksums, the same file names
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Download without asking
    #[arg(long, short)]
    yes: bool,
}

fn weights_of_name(name: &str) -> Result<&'static NamedWeights, UnknownWeights> {
    NamedWeights::of_name(name)
}

/// Prints the table of named weights.
pub(super) fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    // Without a directory for downloads the table is of use, too.
    let store = Store::of_user().ok();
    let presence = |weights| {
        let store = store.as_ref();
        store.map_or(Presence::Absent, |store| store.presence(weights))
    };
    if args.json {
        let rows: Vec<Value> = NamedWeights::all()
            .iter()
            .map(|weights| facts(weights, presence(weights)))
            .collect();
        print_out(&serde_json::to_string_pretty(&rows)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut wrong = Vec::new();
    let mut rows = vec![
        ["name", "size", "result", "input", "license", "local"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(NamedWeights::all().iter().map(|weights| {
        let result = match weights.result {
            PublishedResult::Accuracy { top1, .. } => format!("top-1 {top1:.2}"),
            PublishedResult::BoxAp(ap) => format!("box AP {ap:.1}"),
        };
        let presence = presence(weights);
        if presence == Presence::Changed {
            wrong.push(weights.name);
        }
        vec![
            weights.name.to_string(),
            size(weights),
            result,
            input_side(weights).to_string(),
            weights.publisher.license().to_string(),
            local_words(presence).to_string(),
        ]
    }));
    let sides = [
        Side::Left,
        Side::Right,
        Side::Left,
        Side::Right,
        Side::Left,
        Side::Left,
    ];
    print_out(&fitted(&rows, &sides, width()))?;
    status!(
        "{}; results in percent: box AP on COCO val2017, top-1 on ImageNet",
        count(rows.len() - 1, "file")
    );
    if !wrong.is_empty() {
        problem!(
            "warning: wrong, not the downloaded or published file: {}",
            wrong.join(", ")
        );
        problem!(
            "hint: replace by the published file: sedet weights download {}",
            wrong.join(" ")
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the word for whether weights are on this machine. Longer words would not fit 80 columns.
const fn local_words(presence: Presence) -> &'static str {
    match presence {
        Presence::Absent => "",
        Presence::Verified => "yes",
        Presence::Unverified => "yes?",
        Presence::Changed => "wrong",
        Presence::Unreadable => "error",
    }
}

/// Returns the short side of a detector's images, or the side of a classifier's.
fn input_side(weights: &NamedWeights) -> usize {
    // That of detectron2's detectors is the same.
    let of_detectors = Preprocess::torchvision().min_size;
    weights.input.map_or(of_detectors, |input| input.crop)
}

fn size(weights: &NamedWeights) -> String {
    format!("{} MB", weights.megabytes)
}

/// Returns the entry of the table as JSON.
fn facts(weights: &NamedWeights, presence: Presence) -> Value {
    let source = |source: &Source| {
        let checksum = source.checksum();
        json!({
            "url": source.url(),
            "checksum": checksum.map(|checksum| json!({
                "algorithm": checksum.algorithm(),
                "first_digits": checksum.digits(),
            })),
        })
    };
    let sources: Vec<Value> = weights.sources.iter().map(source).collect();
    let result = match weights.result {
        PublishedResult::Accuracy { top1, top5 } => {
            json!({"dataset": "ImageNet", "top1": top1, "top5": top5})
        }
        PublishedResult::BoxAp(ap) => json!({"dataset": "COCO val2017", "box_ap": ap}),
    };
    let input = weights.input.map(|input| {
        let interpolation = match input.method {
            ResizeMethod::PillowBicubic => "bicubic",
            _ => "bilinear",
        };
        json!({
            "resize": input.resize,
            "center_crop": input.crop,
            "interpolation": interpolation,
        })
    });
    json!({
        "name": weights.name,
        "publisher": weights.publisher.name(),
        "license": weights.publisher.license(),
        "megabytes": weights.megabytes,
        "layout": weights.layout.key(),
        "input": input,
        "result": result,
        "sources": sources,
        "local": matches!(presence, Presence::Verified | Presence::Unverified),
        "changed": presence == Presence::Changed,
    })
}

/// Downloads named weights. One that fails does not keep the others from being downloaded.
pub(super) fn download(args: &NamedDownloadArgs) -> anyhow::Result<ExitCode> {
    let store = Store::of_user()?;
    let mut failures = Vec::new();
    for &weights in &args.names {
        match download_one(weights, args, &store) {
            Ok(()) => {}
            Err(error) if args.names.len() == 1 => return Err(error),
            Err(error) => {
                problem!("error: {}", message(&error));
                if let Some(hint) = hint_for(&error) {
                    problem!("hint: {hint}");
                }
                failures.push(weights.name);
            }
        }
    }
    if !failures.is_empty() {
        bail!("not downloaded: {}", failures.join(", "));
    }
    if let Some(weights) = args.names.last() {
        status!("next: sedet predict IMAGE... --weights {}", weights.name);
    }
    Ok(ExitCode::SUCCESS)
}

fn download_one(
    weights: &'static NamedWeights,
    args: &NamedDownloadArgs,
    store: &Store,
) -> anyhow::Result<()> {
    match store.find(weights) {
        Ok(found) => {
            report_adopted(&found);
            status!("{} (already there)", found.path.display());
            return Ok(());
        }
        Err(NamedError::NotDownloaded { .. }) => {}
        Err(error) if error.is_settled_by_download() => {
            problem!("warning: {error}; a download replaces it");
        }
        Err(error) => return Err(error.into()),
    }
    describe(weights);
    if let Some(mirror) = &args.mirror {
        status!("from the mirror {mirror}");
    }
    if !args.yes && is_terminal() && !confirm(weights, store)? {
        bail!("{}: nothing was downloaded", weights.name);
    }
    fetch(weights, store, args.mirror.as_deref())?;
    Ok(())
}

/// Returns the file that an argument denotes: a path as it is, or the download of the weights of this name,
/// after a question whether to download them. A file or directory of that name is preferred.
///
/// # Errors
/// The weights are not there, and there is no terminal for the question; or no weights have this name.
pub(super) fn path_or_named(argument: &Path) -> anyhow::Result<PathBuf> {
    if argument.exists() {
        return Ok(argument.to_path_buf());
    }
    let Some(name) = as_name(argument) else {
        return Ok(argument.to_path_buf());
    };
    match NamedWeights::of_name(name) {
        Ok(weights) => file_of(weights),
        // The name of a file that does not exist, which its reader reports.
        Err(_) if argument.extension().is_some() => Ok(argument.to_path_buf()),
        Err(error) => Err(usage_with_hint(
            format!("{name}: file not found; {error}"),
            "`sedet weights list` lists the published weights by name",
        )),
    }
}

/// Returns an argument that can be a name: one component of a path.
fn as_name(argument: &Path) -> Option<&str> {
    let mut components = argument.components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) => name.to_str(),
        _ => None,
    }
}

/// Returns the file of named weights, which are downloaded if the user agrees.
fn file_of(weights: &'static NamedWeights) -> anyhow::Result<PathBuf> {
    let store = Store::of_user()?;
    let found = match store.find(weights) {
        Err(NamedError::NotDownloaded { .. }) if is_terminal() => {
            describe(weights);
            if !confirm(weights, &store)? {
                return Err(NamedError::NotDownloaded { weights }.into());
            }
            fetch(weights, &store, None)?
        }
        found => found?,
    };
    report_adopted(&found);
    Ok(found.path)
}

/// Prints that a file without a record was taken for the weights whose name it has.
fn report_adopted(found: &Downloaded) {
    if found.origin != FileOrigin::Adopted {
        return;
    }
    match &found.published {
        Some(_) => status!("{}: {}", found.path.display(), comparison(found)),
        // Nothing shows that it is the right one.
        None => problem!("warning: {}: {}", found.path.display(), comparison(found)),
    }
}

/// Describes what the SHA-256 of a file was compared with.
fn comparison(found: &Downloaded) -> String {
    let compared = match &found.published {
        Some(published) => format!(
            "published {} {}... confirmed",
            published.algorithm(),
            published.digits()
        ),
        None => "none is published; later uses are compared with this one".to_string(),
    };
    format!("SHA-256 {} ({compared})", found.sha256)
}

/// Prints license and origin.
fn describe(weights: &NamedWeights) {
    status!("{}: {}", weights.name, weights.terms());
    if let Some(source) = weights.sources.first() {
        status!("published at {}", source.url());
    }
}

/// Downloads weights with a progress bar, and prints the checksum.
fn fetch(
    weights: &'static NamedWeights,
    store: &Store,
    mirror: Option<&str>,
) -> anyhow::Result<Downloaded> {
    let doing = format!("downloading {}", weights.name);
    let meter = Meter::new("connecting", Unit::Bytes);
    let found = store.download(weights, mirror, &mut |done, total| {
        // What an earlier run downloaded does not count for the speed.
        meter.begin(&doing, Unit::Bytes, done);
        meter.show(done, total);
    })?;
    drop(meter);
    if let Some(address) = &found.other_address {
        status!("another file of the same weights: that of {address}");
    }
    status!("{}: {}", found.path.display(), comparison(&found));
    Ok(found)
}

/// Returns whether a question can be asked and answered.
fn is_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks whether to download. The question is shown also with `--quiet`.
fn confirm(weights: &NamedWeights, store: &Store) -> anyhow::Result<bool> {
    let mut err = std::io::stderr().lock();
    write!(
        err,
        "download {} to {}? [Y/n] ",
        size(weights),
        store.directory().display()
    )?;
    err.flush()?;
    let mut answer = String::new();
    let is_answered = std::io::stdin().read_line(&mut answer)? > 0;
    if !answer.ends_with('\n') {
        // At the end of the input, Ctrl-D, the terminal stays in the line of the question.
        writeln!(err)?;
    }
    Ok(is_answered && is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::hints::hint_for;

    #[test]
    fn an_empty_answer_and_yes_agree() {
        for (answer, agrees) in [
            ("\n", true),
            ("Y\r\n", true),
            ("yes\n", true),
            ("n\n", false),
            ("what\n", false),
        ] {
            assert_eq!(is_yes(answer), agrees, "{answer:?}");
        }
    }

    #[test]
    fn only_one_component_without_a_known_extension_is_a_name() {
        for path in [
            "runs/seresnet50-a1",
            "./gone",
            "..",
            "/seresnet50-a1",
            "gone.pth",
        ] {
            let path = Path::new(path);
            assert_eq!(path_or_named(path).unwrap(), path);
        }
        let error = path_or_named(Path::new("seresnet50-b1")).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("seresnet50-b1: file not found; "),
            "{message}"
        );
        assert!(
            message.contains("did you mean 'seresnet50-a1'?"),
            "{message}"
        );
        assert!(hint_for(&error).unwrap().contains("sedet weights list"));
    }

    #[test]
    fn the_usual_detector_is_in_the_table() {
        let weights = NamedWeights::of_name(USUAL_DETECTOR).unwrap();
        assert!(matches!(weights.result, PublishedResult::BoxAp(_)));
    }
}
