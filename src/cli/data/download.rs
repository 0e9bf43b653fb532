//! `sedet data download`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use indicatif::DecimalBytes;

use crate::cli::hints::usage;
use crate::cli::print_out;
use crate::cli::progress::{Meter, Unit};
use crate::cli::{quoted, status};
use sedet_data::datasets::blood_cells::{BASE_URL, download_blood_cells};
use sedet_data::datasets::registry::data_dir_of_user;
use sedet_data::datasets::sources::{DataSource, FetchStep, data_source, data_sources};
use sedet_data::directory::create_directory;

const EXAMPLES: &str = "\
Examples:
  sedet data download blood-cells --data-dir data
  sedet data download coco --only annotations,val2017 --data-dir data";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DownloadArgs {
    /// Dataset; for imagenet (account required) prints instructions
    #[arg(value_parser = PossibleValuesParser::new(downloadable()))]
    name: String,
    /// Directory of the named datasets [default: $SEDET_DATA, or data/]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Download these parts only, separated by commas; coco: annotations, val2017, train2017;
    /// places365: lists, val, train
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<String>,
    /// Download from a mirror with the same files
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

const BLOOD_CELLS: &str = "blood-cells";
const IMAGENET: &str = "imagenet";

fn downloadable() -> Vec<&'static str> {
    let table = data_sources().into_iter().map(|source| source.name);
    table.chain([IMAGENET, BLOOD_CELLS]).collect()
}

pub(super) fn run(args: &DownloadArgs) -> anyhow::Result<ExitCode> {
    let base = args
        .data_dir
        .clone()
        .or_else(data_dir_of_user)
        .unwrap_or_else(|| "data".into());
    match data_source(&args.name) {
        Some(source) => download_from_table(source, &base, args),
        None if args.name == IMAGENET => explain_imagenet(&base, args),
        None => download_bccd(&base, args),
    }
}

fn download_from_table(
    mut source: DataSource,
    base: &Path,
    args: &DownloadArgs,
) -> anyhow::Result<ExitCode> {
    if let Some(mirror) = &args.mirror {
        source.base_url.clone_from(mirror);
    }
    let parts = source.select(&args.only)?;
    let bytes = parts.iter().map(|part| part.bytes).sum();
    status!("{}; {} in all", source.terms, DecimalBytes(bytes));
    let meter = Meter::new("connecting", Unit::Bytes);
    let fetched = source.fetch(base, &args.only, &mut |progress| {
        let doing = match progress.step {
            FetchStep::Fetching => "downloading",
            FetchStep::Unpacking => "unpacking",
        };
        // What an earlier run downloaded does not count for the speed.
        meter.begin(
            &format!("{doing} {}", progress.part),
            Unit::Bytes,
            progress.done,
        );
        meter.show(progress.done, progress.total);
    })?;
    drop(meter);
    for (parts, note) in [
        (&fetched.already_there, " (already there)"),
        (&fetched.new, ""),
    ] {
        if !parts.is_empty() {
            status!(
                "{}: {}{note}",
                fetched.directory.display(),
                parts.join(", ")
            );
        }
    }
    status!(
        "next: {} --data-dir {}",
        next_command(&source),
        quoted(base.display())
    );
    Ok(ExitCode::SUCCESS)
}

/// Returns a command that uses a downloaded dataset, without its data directory.
fn next_command(source: &DataSource) -> String {
    match source.name {
        "coco" => "sedet train --backbone se-resnet50 --dataset coco".to_owned(),
        _ => format!("sedet eval --weights FILE --dataset {}", source.directory),
    }
}

/// Prints instructions to stdout and fails, since nothing was downloaded.
fn explain_imagenet(base: &Path, args: &DownloadArgs) -> anyhow::Result<ExitCode> {
    if args.mirror.is_some() || !args.only.is_empty() {
        return Err(usage(
            "--mirror and --only do not apply to imagenet, which is not downloaded",
        ));
    }
    print_out(&imagenet_instructions(base))?;
    status!("nothing was downloaded");
    Ok(ExitCode::FAILURE)
}

fn download_bccd(base: &Path, args: &DownloadArgs) -> anyhow::Result<ExitCode> {
    if !args.only.is_empty() {
        return Err(usage(format!(
            "--only does not apply to {BLOOD_CELLS}, which has no parts"
        )));
    }
    let directory = base.join(BLOOD_CELLS);
    create_directory(base).with_context(|| base.display().to_string())?;
    status!("BCCD blood cells, MIT license, (c) 2017 shenggan; about 8 MB");
    let meter = Meter::new("downloading", Unit::Bytes);
    let mirror = args.mirror.as_deref().unwrap_or(BASE_URL);
    let summary = download_blood_cells(&directory, mirror, &mut |done, total| {
        meter.begin("downloading", Unit::Bytes, done);
        meter.show(done, total);
    })?;
    drop(meter);
    let [train, val, test] = summary.images;
    status!(
        "{}{}: {train} train, {val} val, {test} test images\nnext: sedet train --dataset blood-cells --data-dir {}",
        directory.display(),
        if summary.already_there {
            " (already there)"
        } else {
            ""
        },
        quoted(base.display())
    );
    Ok(ExitCode::SUCCESS)
}

/// Returns instructions for downloading the images of ImageNet, which require an account, into a
/// data directory.
fn imagenet_instructions(data_dir: &Path) -> String {
    let (base, directory) = (data_dir.display(), data_dir.join("imagenet"));
    let directory = directory.display();
    format!(
        r#"The images of ImageNet (ILSVRC 2012) need an account and consent to their terms (non-commercial
research and education), so sedet cannot download them. To obtain them:

1. Ask for access at https://image-net.org/download.php and download
     ILSVRC2012_img_train.tar    138 GB     MD5 1d675b47d978889d74fa0da5fadfb00e
     ILSVRC2012_img_val.tar      6.3 GB     MD5 29b22e2961454d5413ddabcf34fc5622
2. Unpack them (training images are archives within the archive):
     mkdir -p "{directory}/train" "{directory}/val"
     tar -xf ILSVRC2012_img_val.tar -C "{directory}/val"
     tar -xf ILSVRC2012_img_train.tar -C "{directory}/train"
     for f in "{directory}"/train/*.tar; do mkdir "${{f%.tar}}" && tar -xf "$f" -C "${{f%.tar}}" && rm "$f"; done
3. Get the labels of the val images:
     sedet data download imagenet-val-list --data-dir "{base}"
4. Use them:
     sedet eval --weights FILE --dataset imagenet --data-dir "{base}"

Kaggle's "imagenet-object-localization-challenge" does as well: unpack it so that "{directory}"
has ILSVRC/Data/CLS-LOC/ and LOC_val_solution.csv, and go on with step 4.
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use sedet_data::datasets::registry::AnyDatasetName;

    #[test]
    fn the_next_command_of_every_source_names_a_known_dataset() {
        for source in data_sources() {
            let command = next_command(&source);
            let (_, dataset) = command.rsplit_once("--dataset ").unwrap();
            assert!(AnyDatasetName::is_named(dataset), "{command}");
        }
    }
}
