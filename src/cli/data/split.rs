//! `sedet data split`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::cli::hints::advise;
use crate::cli::print_out;
use crate::cli::status;
use sedet_data::annotations::AnnotationStore;
use sedet_data::annotations::coco::copy::{Copied, copy_coco};
use sedet_data::annotations::coco::{List, read_coco};
use sedet_data::atomic::write_atomically;
use sedet_data::curation::split::stratified;
use sedet_data::directory::create_directory;
use sedet_data::eval::table::{Side, aligned};
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet data split annotations.json --val 0.2 --output splits/";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SplitArgs {
    /// COCO JSON annotations, such as instances_all.json; not changed
    annotations: PathBuf,
    /// Share of the images for validation, from 0 to 1
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    val: f64,
    /// Share of the images for testing
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    test: f64,
    /// Random seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Output directory for train.json, val.json and test.json; refuses to overwrite
    #[arg(long)]
    output: PathBuf,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to below 1, such as 0.2".into()),
    }
}

pub(super) fn run(args: &SplitArgs) -> anyhow::Result<ExitCode> {
    if args.val + args.test >= 1.0 {
        bail!(
            "--val {} and --test {} leave no images for training",
            args.val,
            args.test
        );
    }
    let store = read_coco(&args.annotations)?;
    let parts: Vec<(&str, f64)> = [
        ("train", 1.0 - args.val - args.test),
        ("val", args.val),
        ("test", args.test),
    ]
    .into_iter()
    .filter(|(_, share)| *share > 0.0)
    .collect();
    let shares: Vec<f64> = parts.iter().map(|(_, share)| *share).collect();
    let part_of = stratified(&store, &shares, args.seed);
    let paths: Vec<PathBuf> = parts
        .iter()
        .map(|(name, _)| args.output.join(format!("{name}.json")))
        .collect();
    for (part, path) in paths.iter().enumerate() {
        if path.symlink_metadata().is_ok() {
            return Err(advise(
                format!("{} already exists", path.display()),
                "choose another --output",
            ));
        }
        if !part_of.contains(&part) {
            bail!(
                "{} cannot be split: none is left for {}",
                count(store.image_count(), "image"),
                parts[part].0
            );
        }
    }
    create_directory(&args.output).with_context(|| args.output.display().to_string())?;
    for (part, path) in paths.iter().enumerate() {
        let is_in = |image: u64| store.index_of_image(image).map(|at| part_of[at]) == Some(part);
        write_part(&args.annotations, path, is_in)?;
        status!("wrote {}", path.display());
    }
    print_out(&table(&store, &parts, &part_of))?;
    Ok(ExitCode::SUCCESS)
}

/// Copies byte by byte the entries of the selected images and everything that belongs to no image.
fn write_part(from: &Path, to: &Path, is_in: impl Fn(u64) -> bool) -> anyhow::Result<()> {
    let input = File::open(from).with_context(|| from.display().to_string())?;
    write_atomically(to, |out| {
        copy_coco(input, out, &mut |entry, _, _| {
            if entry.list() == List::Categories {
                return Ok(Copied::Keep);
            }
            let Some(id) = entry.image_id() else {
                let message = "the annotations changed while they were read; run again";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            };
            Ok(if is_in(id) {
                Copied::Keep
            } else {
                Copied::Drop
            })
        })
    })
    .with_context(|| to.display().to_string())
}

/// Tabulates the images and the boxes of each class in each part.
fn table(store: &AnnotationStore, parts: &[(&str, f64)], part_of: &[usize]) -> String {
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
    let head = parts.iter().map(|(name, _)| (*name).to_owned());
    let mut rows = vec![std::iter::once("boxes".to_owned()).chain(head).collect()];
    let classes = store.categories().iter().zip(&boxes);
    rows.extend(classes.map(|(category, counts)| row(&category.name, counts)));
    rows.push(row("images", &images));
    let mut sides = vec![Side::Right; parts.len() + 1];
    sides[0] = Side::Left;
    aligned(&rows, &sides)
}
