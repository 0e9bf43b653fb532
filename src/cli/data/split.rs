//! `sedet data split`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::convert::{Placement, print_next, report_copies};
use crate::cli::hints::{advise, usage, usage_with_hint};
use crate::cli::progress::{while_decoding, with_bar};
use crate::cli::{check_data_dir, on_bad_image, print_out, problem, quoted, status, whole_number};
use sedet_data::DataError;
use sedet_data::annotations::AnnotationStore;
use sedet_data::annotations::coco::read_coco;
use sedet_data::annotations::format::{DatasetFiles, SplitAnnotations};
use sedet_data::annotations::layout::{LayoutError, Split};
use sedet_data::curation::convert::Images;
use sedet_data::curation::split::{Division, Whole, write_division};
use sedet_data::datasets::registry::{DatasetName, Recognition};
use sedet_data::eval::table::{Side, aligned};
use sedet_data::images::OnBadImage;
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet data split annotations.json --val 0.2 --output splits/";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SplitArgs {
    /// Directory with box annotations, or an annotation file; remains unchanged
    source: String,
    /// Fraction of the images for validation, from 0 to 1
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    val: f64,
    /// Fraction of the images for testing
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    test: f64,
    /// Random seed [default: 0]
    #[arg(long, value_parser = whole_number::<u64>)]
    seed: Option<u64>,
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

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("expected a fraction from 0 to below 1, such as 0.2".into()),
    }
}

pub(super) fn run(args: &SplitArgs) -> anyhow::Result<ExitCode> {
    if args.val + args.test >= 1.0 {
        return Err(usage(format!(
            "--val {} and --test {} leave no images for training",
            args.val, args.test
        )));
    }
    if args.val + args.test == 0.0 && args.seed.is_some() {
        return Err(usage_with_hint(
            "--seed has no effect: with --val 0, all images are in train",
            "omit --seed",
        ));
    }
    let files = find(args)?;
    let images = Images::from(args.images);
    let whole = read_whole(&files, images, args.on_bad_image)?;
    for note in &whole.annotations.notes {
        status!("{}: {note}", args.source);
    }
    let store = &whole.annotations.store;
    let division = Division::new(&whole.annotations, args.shares(), args.seed.unwrap_or(0));
    check_no_split_is_empty(args, store, &division)?;
    let is_usable = report_copies_and_boxes(&args.source, &whole.annotations, &division);
    let written = with_bar("splitting", |progress| {
        write_division(&files, &whole, &division, images, &args.output, progress)
    })??;
    for line in written.dropped.lines() {
        problem!("dropped: {line}");
    }
    report_copies(written.copied_instead);
    print_out(&table(store, &division))?;
    status!(
        "wrote {}; read again and compared: no difference",
        args.output.display()
    );
    // The next command would fail.
    if is_usable || written.left_images.is_some() {
        print_next(&args.output, written.left_images.as_ref());
    }
    Ok(ExitCode::SUCCESS)
}

impl SplitArgs {
    /// Returns the splits to write with their shares of the images.
    fn shares(&self) -> Vec<(Split, f64)> {
        let shares = [
            (Split::Train, 1.0 - self.val - self.test),
            (Split::Val, self.val),
            (Split::Test, self.test),
        ];
        let mut shares = shares.to_vec();
        shares.retain(|(_, share)| *share > 0.0);
        shares
    }
}

/// Finds the annotations to divide.
fn find(args: &SplitArgs) -> anyhow::Result<DatasetFiles> {
    check_data_dir(&args.source, args.data_dir.as_deref())?;
    let dataset = DatasetName::parse(&args.source)?;
    let mut found = dataset.files(args.data_dir.as_deref())?;
    let files = match (found.pop(), found.is_empty()) {
        (Some(files), true) => files,
        (Some(_), false) => {
            return Err(advise(
                format!("{}: several datasets", args.source),
                format!(
                    "split each of them on its own; `sedet train --dataset {}` joins them and holds out a tenth if \
                     none has val annotations",
                    quoted(&args.source)
                ),
            ));
        }
        (None, _) => {
            return Err(advise(
                format!("the scenes of {} are generated, not files", args.source),
                "they have train and val; `sedet data shapes` writes them",
            ));
        }
    };
    let recognized = Recognition::of_files(std::slice::from_ref(&files));
    status!("{}: {}", args.source, recognized.kind());
    Ok(files)
}

/// Refuses a division with a split that has no images.
fn check_no_split_is_empty(
    args: &SplitArgs,
    store: &AnnotationStore,
    division: &Division,
) -> anyhow::Result<()> {
    let Some(empty) = division.empty_split() else {
        return Ok(());
    };
    let images = count(store.image_count(), "image");
    let (why, which) = match division.copies {
        0 => (String::new(), ""),
        copies => (
            format!(
                " ({} with the content of another, in the same split)",
                count(copies, "image")
            ),
            "other ",
        ),
    };
    let fewer = if args.test > 0.0 && args.val > 0.0 {
        ", or create only two splits: omit --test"
    } else {
        ""
    };
    Err(advise(
        format!(
            "{}: {images}{why} cannot be split: none is left for {empty}",
            args.source
        ),
        format!("add {which}images{fewer}"),
    ))
}

/// Prints what is unusual about a division: images with the content of another, and splits without boxes. Returns
/// whether `sedet data check` accepts what is written.
fn report_copies_and_boxes(
    source: &str,
    annotations: &SplitAnnotations,
    division: &Division,
) -> bool {
    let store = &annotations.store;
    let mut is_usable = true;
    if division.are_all_the_same && division.shares.len() > 1 {
        is_usable = false;
        problem!(
            "{source}: all {} have the same content, so that copies are in different splits: the metrics will be \
             those of training images",
            count(store.image_count(), "image")
        );
        problem!("hint: add other images; `sedet data check` refuses the same image in two splits");
    } else if division.copies > 0 {
        status!(
            "{source}: {} with the content of another: in the same split",
            count(division.copies, "image")
        );
    }
    for split in division.splits_without_boxes(annotations) {
        let with_boxes = (0..store.image_count()).filter(|at| store.has_target(*at));
        let (have, purpose) = (
            match with_boxes.count() {
                1 => "only 1 image has boxes".to_owned(),
                images => format!("{images} images have boxes"),
            },
            if split == Split::Train {
                "trained on"
            } else {
                "evaluated"
            },
        );
        problem!(
            "{source}: {split} has no image with boxes and cannot be {purpose}: {have} of {}",
            store.image_count()
        );
        problem!("hint: {ANNOTATE}");
        is_usable = false;
    }
    if let Some(note) = division.untrained_classes(annotations) {
        problem!("{source}: {note}");
        problem!("hint: {ANNOTATE}");
    }
    if let Some(why) = division.cannot_hold_out(annotations) {
        problem!("{source}: training cannot hold out validation images: {why}");
        problem!("hint: {ANNOTATE}");
        is_usable = false;
    }
    is_usable
}

/// What to do about too few images with boxes.
const ANNOTATE: &str = "annotate more images, then split again";

/// Reads all images of a dataset as one split; splits that exist are joined.
fn read_whole(
    files: &DatasetFiles,
    images: Images,
    on_bad_image: OnBadImage,
) -> anyhow::Result<Whole> {
    let names: Vec<String> = files.split_names().iter().map(Split::to_string).collect();
    if names.len() > 1 {
        status!("{} are joined and split again", names.join(", "));
    }
    let read = while_decoding(|progress| Whole::read(files, on_bad_image, progress));
    match (read, files.splits.as_slice()) {
        // For annotations only, the images need not be there.
        (Err(DataError::Layout(LayoutError::NoImageFiles { .. })), [single])
            if images == Images::Leave && single.coco_json().is_some() =>
        {
            let json = &single.annotations;
            status!(
                "{}: images not found: the annotations are split without them",
                json.display()
            );
            Ok(Whole::of_one(SplitAnnotations {
                split: Split::Train,
                store: read_coco(json)?,
                image_root: json.parent().unwrap_or(Path::new("")).to_owned(),
                dropped: Default::default(),
                besides_boxes: Default::default(),
                notes: Vec::new(),
            }))
        }
        (read, _) => Ok(read?),
    }
}

/// Tabulates the images and the boxes of each class in each part.
fn table(store: &AnnotationStore, division: &Division) -> String {
    let (parts, part_of) = (&division.shares, &division.part_of);
    let mut images = vec![0usize; parts.len()];
    let mut boxes = vec![vec![0usize; parts.len()]; store.class_count()];
    for (index, &part) in part_of.iter().enumerate() {
        images[part] += 1;
        for annotation in store.annotations(index) {
            boxes[annotation.class][part] += 1;
        }
    }
    let row = |name: &str, counts: &[usize]| -> Vec<String> {
        let counts = counts.iter().map(usize::to_string);
        std::iter::once(name.to_owned()).chain(counts).collect()
    };
    let head = parts.iter().map(|(split, _)| split.to_string());
    let mut rows = vec![std::iter::once("boxes".to_owned()).chain(head).collect()];
    let classes = store.categories().iter().zip(&boxes);
    rows.extend(classes.map(|(category, counts)| row(&category.name, counts)));
    rows.push(row("images", &images));
    let mut sides = vec![Side::Right; parts.len() + 1];
    sides[0] = Side::Left;
    aligned(&rows, &sides)
}
