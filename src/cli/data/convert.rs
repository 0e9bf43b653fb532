//! `sedet data convert`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::dataset_argument;
use crate::cli::hints::advise;
use crate::cli::print_out;
use crate::cli::report::with_bar;
use crate::cli::{problem, status};
use sedet_data::annotations::format::{DatasetFiles, FORMATS, Format, format_of_key};
use sedet_data::curation::convert::{Images, write_dataset};
use sedet_data::datasets::registry::DatasetName;
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet data convert photos/ --to coco --output photos-coco/
  sedet data convert photos/ --to yolo --images link --output photos-yolo/";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ConvertArgs {
    /// Directory with annotations of boxes, or blood-cells
    source: String,
    /// Annotation format to read [default: recognized by the files]
    #[arg(long, value_parser = format())]
    from: Option<Format>,
    /// Annotation format to write
    #[arg(long, value_parser = format())]
    to: Format,
    /// Output directory; must be empty or not exist
    #[arg(long)]
    output: PathBuf,
    /// How to place images: copy, hard-link, or leave (annotations only)
    #[arg(long, default_value = "copy")]
    images: Placement,
    /// Directory of the named datasets [default: $SEDET_DATA]
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// The values of `--from` and `--to`.
fn format() -> impl TypedValueParser<Value = Format> {
    let keys = FORMATS.iter().map(|format| format.key());
    PossibleValuesParser::new(keys)
        .try_map(|key| format_of_key(&key).ok_or("no such annotation format"))
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Placement {
    Copy,
    Link,
    Leave,
}

pub(super) fn run(args: &ConvertArgs) -> anyhow::Result<ExitCode> {
    let images = match args.images {
        Placement::Copy => Images::Copy,
        Placement::Link => Images::Link,
        Placement::Leave => Images::Leave,
    };
    let dataset = DatasetName::parse(&args.source)?;
    let Some(root) = dataset.directory(args.data_dir.as_deref())? else {
        return Err(advise(
            format!("the scenes of {} are generated, not files", args.source),
            "write them with `sedet data shapes` and convert the output directory",
        ));
    };
    let files = match args.from {
        Some(format) => DatasetFiles::of_format(format, &root)?,
        None => DatasetFiles::find(&root)?,
    };
    if files.format == args.to {
        anyhow::bail!("{}: already in the format {}", root.display(), args.to);
    }
    status!("{}: {} annotations", root.display(), files.format);
    let read = files.read()?;
    let written = with_bar("converting", |progress| {
        write_dataset(&read, args.to, images, &args.output, progress)
    })??;
    for line in written.dropped.lines() {
        problem!("dropped: {line}");
    }
    for split in &written.splits {
        print_out(&format!(
            "{}: {}, {}",
            split.split,
            count(split.images, "image"),
            count(split.boxes, "box")
        ))?;
    }
    if images != Images::Leave {
        status!("next: sedet data check {}", dataset_argument(&args.output));
    }
    Ok(ExitCode::SUCCESS)
}
