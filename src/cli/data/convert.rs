//! `sedet data convert`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::cli::dataset_argument;
use crate::cli::hints::advise;
use crate::cli::progress::{while_decoding, with_bar};
use crate::cli::{check_data_dir, on_bad_image, print_out, problem, status};
use sedet_data::annotations::format::{DatasetFiles, Format, LeftImages};
use sedet_data::annotations::formats::{FORMATS, format_of_key};
use sedet_data::curation::convert::{Images, refuse_input, write_dataset};
use sedet_data::datasets::registry::{DatasetName, Recognition};
use sedet_data::images::OnBadImage;
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet data convert photos/ --to coco --output photos-coco/
  sedet data convert photos/ --to yolo --images link --output photos-yolo/";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ConvertArgs {
    /// Directory with box annotations, an annotation file, or blood-cells
    source: String,
    /// Annotation format to read [default: detected from the files]
    #[arg(long, value_parser = format())]
    from: Option<Format>,
    /// Annotation format to write
    #[arg(long, value_parser = format())]
    to: Format,
    /// Output directory, outside the source; must be empty or not exist
    #[arg(long)]
    output: PathBuf,
    /// How to place images: copy, hard-link, or leave (annotations only)
    #[arg(long, default_value = "copy")]
    images: Placement,
    /// What to do with unreadable images: stop, or skip them
    #[arg(long, default_value = "error", value_parser = on_bad_image())]
    on_bad_image: OnBadImage,
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

/// The values of `--images`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Placement {
    Copy,
    Link,
    Leave,
}

impl From<Placement> for Images {
    fn from(placement: Placement) -> Self {
        match placement {
            Placement::Copy => Self::Copy,
            Placement::Link => Self::Link,
            Placement::Leave => Self::Leave,
        }
    }
}

/// Finds the files of the only source.
fn source(args: &ConvertArgs, dataset: &DatasetName) -> anyhow::Result<DatasetFiles> {
    let data_dir = args.data_dir.as_deref();
    let paths = dataset.paths(data_dir)?;
    match (paths.as_slice(), args.from) {
        ([path], Some(format)) => Ok(DatasetFiles::of_format(format, path)?),
        ([_], None) => Ok(dataset.files(data_dir)?.remove(0)),
        ([], _) => Err(advise(
            format!("the scenes of {} are generated, not files", args.source),
            "write them with `sedet data shapes` and convert the output directory",
        )),
        _ => Err(advise(
            format!("{}: several datasets", args.source),
            "convert each of them on its own",
        )),
    }
}

/// Reports images that were copied instead of linked, which needs space.
pub(super) fn report_copies(copied: usize) {
    if copied > 0 {
        problem!(
            "--images link: {} copied: hard links need source and output on one file system that supports them",
            count(copied, "image")
        );
    }
}

/// Prints what comes after a dataset was written; `left_images` describes where its images belong, if it has none.
pub(super) fn print_next(output: &Path, left_images: Option<&LeftImages>) {
    match left_images {
        None => status!("next: sedet data check {}", dataset_argument(output)),
        Some(LeftImages::Directory { from, to }) => status!(
            "annotations only: put the images of {} into {}",
            from.display(),
            output.join(to).display()
        ),
        Some(LeftImages::List {
            file,
            first: (from, to),
        }) => status!(
            "annotations only: put the images in their places, which {} lists, such as {} in {}",
            output.join(file).display(),
            from.display(),
            output.join(to).display()
        ),
    }
}

pub(super) fn run(args: &ConvertArgs) -> anyhow::Result<ExitCode> {
    let images = Images::from(args.images);
    check_data_dir(&args.source, args.data_dir.as_deref())?;
    let dataset = DatasetName::parse(&args.source)?;
    let files = source(args, &dataset)?;
    let root = files.root.display();
    // One file of several splits becomes a file for each.
    let is_divided = files.splits.iter().any(|split| split.is_part);
    if files.format == args.to && !is_divided {
        return Err(advise(
            format!("{root}: already in the format {}", args.to),
            "choose another --to; to have it elsewhere, copy the directory",
        ));
    }
    refuse_input(&args.output, &files.root)?;
    let recognized = Recognition::of_files(std::slice::from_ref(&files));
    status!("{root}: {}", recognized.kind());
    let read = while_decoding(|progress| files.read_with_images(args.on_bad_image, progress))?;
    status!(
        "{root}: {}",
        recognized.with_annotations(&read.splits).contents()
    );
    for split in &read.splits {
        if images != Images::Leave {
            refuse_input(&args.output, &split.image_root)?;
        }
        for note in &split.notes {
            problem!("{root}: {}: {note}", split.split);
        }
    }
    let written = with_bar("converting", |progress| {
        write_dataset(&read, args.to, images, &args.output, progress)
    })??;
    for line in written.dropped.lines() {
        problem!("dropped: {line}");
    }
    report_copies(written.copied_instead);
    for split in &written.splits {
        print_out(&format!(
            "{}: {}, {}",
            split.split,
            count(split.images, "image"),
            count(split.boxes, "box")
        ))?;
    }
    status!("read again and compared: no difference");
    print_next(&args.output, written.left_images.as_ref());
    Ok(ExitCode::SUCCESS)
}
