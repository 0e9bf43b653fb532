//! Division of a dataset into train, val and test.

use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::annotations::coco::copy::{Copied, copy_coco};
use crate::annotations::coco::{List, read_coco};
use crate::annotations::format::{
    AnnotatedDataset, DatasetFiles, Output, SplitAnnotations, Written, WrittenSplit,
};
use crate::annotations::layout::Split;
use crate::annotations::stratified::stratified;
use crate::curation::convert::{
    ConvertError, Images, Place, inside, put_all, refuse_input, write_dataset, write_directory,
};

/// A division of images into splits.
#[derive(Debug, Clone, PartialEq)]
pub struct Division {
    /// The splits with their shares of the images, which need not sum to one.
    pub shares: Vec<(Split, f64)>,
    /// The position of the split of each image in `shares`.
    pub part_of: Vec<usize>,
}

impl Division {
    /// Divides images at random, stratified by class; the same for the same seed.
    pub fn new(whole: &SplitAnnotations, shares: Vec<(Split, f64)>, seed: u64) -> Self {
        let numbers: Vec<f64> = shares.iter().map(|(_, share)| *share).collect();
        Self {
            part_of: stratified(&whole.store, &numbers, seed),
            shares,
        }
    }

    /// Returns a split that gets no image, if there is one.
    pub fn empty_split(&self) -> Option<Split> {
        let parts = self.shares.iter().enumerate();
        let mut empty = parts.filter(|(part, _)| !self.part_of.contains(part));
        empty.next().map(|(_, (split, _))| *split)
    }

    /// Returns the annotations of each split.
    pub fn apply(&self, whole: &SplitAnnotations) -> Vec<SplitAnnotations> {
        let parts = self.shares.iter().enumerate();
        parts
            .map(|(part, (split, _))| {
                let images = self.part_of.iter().enumerate();
                let indices: Vec<usize> = images
                    .filter(|(_, found)| **found == part)
                    .map(|(index, _)| index)
                    .collect();
                SplitAnnotations {
                    split: *split,
                    store: whole.store.select(&indices),
                    image_root: whole.image_root.clone(),
                    dropped: Default::default(),
                    besides_boxes: Default::default(),
                    notes: Vec::new(),
                }
            })
            .collect()
    }
}

/// Writes the splits of a dataset into a directory of the same format. The write is atomic, and what was
/// written is read again and compared.
///
/// The entries of a single COCO JSON file are copied byte by byte with all their fields, as `train.json`,
/// `val.json` and `test.json`; the images are placed in `images/`.
///
/// # Errors
/// `output` is in the input or contains it; see also [`write_dataset`].
pub fn write_division(
    files: &DatasetFiles,
    whole: &SplitAnnotations,
    division: &Division,
    images: Images,
    output: &Path,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Written, ConvertError> {
    let parts = division.apply(whole);
    if let ([single], true) = (files.splits.as_slice(), whole.notes.is_empty())
        && let Some(json) = single.coco_json()
    {
        return copy_entries(json, whole, division, &parts, images, output, progress);
    }
    refuse_input(output, &files.root)?;
    let dataset = AnnotatedDataset {
        format: files.format,
        splits: parts,
    };
    let mut written = write_dataset(&dataset, files.format, images, output, progress)?;
    written.dropped.merge(&whole.dropped);
    written.dropped.merge(&whole.besides_boxes);
    Ok(written)
}

fn copy_entries(
    json: &Path,
    whole: &SplitAnnotations,
    division: &Division,
    parts: &[SplitAnnotations],
    images: Images,
    output: &Path,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Written, ConvertError> {
    let store = &whole.store;
    refuse_input(output, json)?;
    let place = match images {
        Images::Copy => Some(Place::Copy),
        Images::Link => Some(Place::Link),
        Images::Leave => None,
    };
    if place.is_some() {
        refuse_input(output, &whole.image_root)?;
    }
    write_directory(output, &mut |unfinished| {
        let directory = Output::new(unfinished);
        let count = store.image_count();
        if let Some(place) = place {
            let images: Vec<(PathBuf, String)> = (0..count)
                .map(|index| {
                    let name = inside(store.image(index).file_name)?;
                    Ok((whole.image_root.join(&name), format!("images/{name}")))
                })
                .collect::<Result<_, ConvertError>>()?;
            put_all(place, &images, directory, progress)?;
        }
        for (part, expected) in parts.iter().enumerate() {
            let path = unfinished.join(format!("{}.json", expected.split));
            let is_in = |id: u64| {
                let index = store.index_of_image(id);
                index.map(|index| division.part_of[index]) == Some(part)
            };
            let name = format!("{}.json", expected.split);
            directory.write(&name, |out| copy_part(json, out, &is_in))?;
            let read = read_coco(&path)?;
            if read != expected.store {
                return Err(ConvertError::NotTheSame {
                    output: output.to_owned(),
                    difference: format!("{}: other images or boxes", expected.split),
                });
            }
        }
        Ok(())
    })?;
    let splits = parts.iter().map(|part| WrittenSplit {
        split: part.split,
        images: part.store.image_count(),
        boxes: part.store.annotation_count(),
    });
    Ok(Written {
        splits: splits.collect(),
        dropped: whole.dropped.clone(),
    })
}

/// Copies byte by byte the entries of the selected images and everything that belongs to no image.
fn copy_part(from: &Path, out: &mut dyn Write, is_in: &dyn Fn(u64) -> bool) -> io::Result<()> {
    let input = File::open(from)?;
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
}
