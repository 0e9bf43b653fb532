//! Division of a dataset into train, val and test.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::annotations::coco::copy::{Copied, copy_coco};
use crate::annotations::coco::{Entry, List, read_coco};
use crate::annotations::format::{
    AnnotatedDataset, DatasetFiles, Dropped, Output, SplitAnnotations, Written, WrittenSplit,
};
use crate::annotations::image_files::first_few;
use crate::annotations::joining::{JoinedIds, check_hold_out, join_with_ids};
use crate::annotations::layout::{CannotHoldOut, Split};
use crate::annotations::reading::DecodeProgress;
use crate::annotations::same_content::first_with_content;
use crate::annotations::stratified::stratified;
use crate::curation::convert::{
    ConvertError, Images, Place, put_all, refuse_input, write_amended, write_directory,
};
use crate::curation::image_names::{joined, names_within, paths_to};
use crate::images::OnBadImage;
use crate::{ChangedMeanwhile, DataError};

/// All images of a dataset as one split.
#[derive(Debug)]
pub struct Whole {
    /// The annotations.
    pub annotations: SplitAnnotations,
    /// The ids of the splits that were joined; empty if there was only one.
    joined: Vec<JoinedIds>,
}

impl Whole {
    /// Reads all splits of a dataset with their images and joins them. An image that cannot be used is an error, or is
    /// skipped with a note. `progress` is that of [`DatasetFiles::read_with_images`].
    ///
    /// # Errors
    /// A file is wrong; the class names of the splits differ, or an image of two splits has other boxes in each.
    pub fn read(
        files: &DatasetFiles,
        on_bad_image: OnBadImage,
        progress: &DecodeProgress<'_>,
    ) -> Result<Self, DataError> {
        let mut read = files.read_with_images(on_bad_image, progress)?.splits;
        if read.len() == 1 {
            return Ok(Self::of_one(read.remove(0)));
        }
        let names: Vec<String> = read.iter().map(|part| part.split.to_string()).collect();
        let parts: Vec<(&str, &SplitAnnotations)> =
            names.iter().map(String::as_str).zip(&read).collect();
        let (annotations, joined) = join_with_ids(Split::Train, &parts)?;
        Ok(Self {
            annotations,
            joined,
        })
    }

    /// Wraps the annotations of the only split.
    pub fn of_one(annotations: SplitAnnotations) -> Self {
        Self {
            annotations,
            joined: Vec::new(),
        }
    }
}

/// A division of images into splits.
#[derive(Debug, Clone, PartialEq)]
pub struct Division {
    /// The splits with their shares of the images, which need not sum to one.
    pub shares: Vec<(Split, f64)>,
    /// The position of the split of each image in `shares`.
    pub part_of: Vec<usize>,
    /// The number of images with the content of another, which are in the split of that.
    pub copies: usize,
    /// Whether all images have the same content, so that copies had to be divided.
    pub are_all_the_same: bool,
}

impl Division {
    /// Divides images at random, stratified by class; the same for the same seed. Images with the same content stay in
    /// one split.
    pub fn new(whole: &SplitAnnotations, shares: Vec<(Split, f64)>, seed: u64) -> Self {
        let numbers: Vec<f64> = shares.iter().map(|(_, share)| *share).collect();
        let mut first_of = first_with_content(&whole.image_paths());
        let copies = first_of
            .iter()
            .enumerate()
            .filter(|(at, first)| at != *first);
        let copies = copies.count();
        // Images that are all the same are divided like any others.
        let are_all_the_same = copies > 0 && copies + 1 == first_of.len();
        if are_all_the_same {
            first_of = (0..first_of.len()).collect();
        }
        Self {
            copies,
            are_all_the_same,
            part_of: stratified(&whole.store, &first_of, &numbers, seed),
            shares,
        }
    }

    /// Returns a split that gets no image, if there is one.
    pub fn empty_split(&self) -> Option<Split> {
        let parts = self.shares.iter().enumerate();
        let mut empty = parts.filter(|(part, _)| !self.part_of.contains(part));
        empty.next().map(|(_, (split, _))| *split)
    }

    /// Returns the splits in which no image has a box that can be trained or evaluated.
    pub fn splits_without_boxes(&self, whole: &SplitAnnotations) -> Vec<Split> {
        let parts = self.shares.iter().enumerate();
        let has_boxes = |part: usize| {
            let mut images = self.part_of.iter().enumerate();
            images.any(|(image, found)| *found == part && whole.store.has_target(image))
        };
        parts
            .filter(|(part, _)| !has_boxes(*part))
            .map(|(_, (split, _))| *split)
            .collect()
    }

    /// Returns a note about the classes with boxes of which train has no image, if there are any.
    pub fn untrained_classes(&self, whole: &SplitAnnotations) -> Option<String> {
        let train = self
            .shares
            .iter()
            .position(|(split, _)| *split == Split::Train);
        let store = &whole.store;
        let (mut exists, mut is_trained) = (
            vec![false; store.class_count()],
            vec![false; store.class_count()],
        );
        for (image, &part) in self.part_of.iter().enumerate() {
            for annotation in store.annotations(image) {
                exists[annotation.class] = true;
                is_trained[annotation.class] |= Some(part) == train;
            }
        }
        let classes = store.categories().iter().enumerate();
        let untrained: Vec<&str> = classes
            .filter(|(class, _)| exists[*class] && !is_trained[*class])
            .map(|(_, category)| category.name.as_str())
            .collect();
        (!untrained.is_empty()).then(|| {
            let them = if untrained.len() == 1 { "it" } else { "them" };
            let names = first_few(untrained);
            format!("train has no image of {names}, so that a detector cannot learn {them}")
        })
    }

    /// Returns why training could not hold out validation images of train, where no split is for validation.
    pub fn cannot_hold_out(&self, whole: &SplitAnnotations) -> Option<CannotHoldOut> {
        if self.shares.iter().any(|(split, _)| *split == Split::Val) {
            return None;
        }
        let parts = self.apply(whole).into_iter();
        let mut train = parts.filter(|part| part.split == Split::Train);
        train.find_map(|part| check_hold_out(&part).err())
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
/// The entries of COCO JSON files are copied with all their fields, as `train.json`, `val.json` and `test.json`; the
/// images are placed in `images/`. Entries of a single file are copied byte by byte; those of several get new ids.
/// Everything else in the annotations is copied where the format can: YOLO's label files with outlines.
///
/// # Errors
/// `output` is in the input or contains it; see also [`write_dataset`](crate::curation::convert::write_dataset).
pub fn write_division(
    files: &DatasetFiles,
    whole: &Whole,
    division: &Division,
    images: Images,
    output: &Path,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Written, ConvertError> {
    let parts = division.apply(&whole.annotations);
    let json = files.splits.iter().map(|files| files.coco_json());
    if let Some(json) = json.collect::<Option<Vec<&Path>>>() {
        let source = CocoSource {
            files: json,
            joined: &whole.joined,
            annotations: &whole.annotations,
        };
        return source.write(files, division, &parts, images, output, progress);
    }
    refuse_input(output, &files.root)?;
    let dataset = AnnotatedDataset {
        format: files.format,
        splits: parts,
    };
    let mut kept = Dropped::default();
    let mut written = write_amended(
        &dataset,
        files.format,
        images,
        output,
        &mut |placed, written| {
            kept = files.format.keep_dropped(files, placed, written)?;
            Ok(())
        },
        progress,
    )?;
    written.dropped.merge(&whole.annotations.dropped);
    written.dropped.subtract(&kept);
    if files.format.stores_flags() {
        written.dropped.remove_flags(&whole.annotations.store);
    }
    Ok(written)
}

/// COCO JSON files whose entries are copied.
struct CocoSource<'a> {
    files: Vec<&'a Path>,
    /// The new ids of each file; empty for a single file, which keeps its ids.
    joined: &'a [JoinedIds],
    annotations: &'a SplitAnnotations,
}

impl CocoSource<'_> {
    /// Writes the parts of a division.
    fn write(
        &self,
        files: &DatasetFiles,
        division: &Division,
        parts: &[SplitAnnotations],
        images: Images,
        output: &Path,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Written, ConvertError> {
        let store = &self.annotations.store;
        for json in &self.files {
            refuse_input(output, json)?;
        }
        if self.files.len() > 1 {
            refuse_input(output, &files.root)?;
        }
        let place = match images {
            Images::Copy => Some(Place::Copy),
            Images::Link => Some(Place::Link),
            Images::Leave => None,
        };
        if place.is_some() {
            refuse_input(output, &self.annotations.image_root)?;
        }
        let mut dropped = self.annotations.dropped.clone();
        // Fields of entries, which are copied.
        dropped.remove_flags(store);
        let mut copied_instead = 0;
        write_directory(output, &mut |unfinished| {
            let directory = Output::new(unfinished);
            let paths = self.annotations.image_paths();
            let names = match place {
                Some(place) => {
                    let names = names_within(self.annotations);
                    let places = names.iter().map(|name| format!("images/{name}"));
                    let images: Vec<(PathBuf, String)> = paths.into_iter().zip(places).collect();
                    let copied = put_all(place, &images, directory, progress)?;
                    if place == Place::Link {
                        copied_instead = copied;
                    }
                    names
                }
                None => self.names_from(unfinished, &paths),
            };
            let is_named_as_before = (names.iter().enumerate())
                .all(|(index, name)| store.image(index).file_name == name);
            let (others, not_kept) = self.other_fields()?;
            dropped.merge(&not_kept);
            for (part, expected) in parts.iter().enumerate() {
                let path = unfinished.join(format!("{}.json", expected.split));
                let is_in = |id: u64| {
                    let index = store.index_of_image(id);
                    index.map(|index| division.part_of[index]) == Some(part)
                };
                let name = format!("{}.json", expected.split);
                directory.write(&name, |out| match self.files.as_slice() {
                    // Without notes, the names and sizes are those in the file.
                    [json] if self.annotations.notes.is_empty() && is_named_as_before => {
                        copy_part(json, out, &is_in)
                    }
                    _ => self.write_part(&others, &names, out, &is_in),
                })?;
                let read = read_coco(&path)?;
                let of_part = names.iter().zip(&division.part_of);
                let of_part = of_part.filter(|(_, found)| **found == part);
                let of_part: Vec<&str> = of_part.map(|(name, _)| name.as_str()).collect();
                if read != expected.store.with_file_names(&of_part) {
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
            dropped,
            left_images: None,
            copied_instead,
        })
    }

    /// Returns the names by which the images are found from a directory; those of the files if they are not there.
    fn names_from(&self, directory: &Path, paths: &[PathBuf]) -> Vec<String> {
        let store = &self.annotations.store;
        let names = (0..store.image_count()).map(|index| store.image(index).file_name);
        let are_there = paths.iter().any(|path| path.is_file());
        let prefix = paths_to(directory, &self.annotations.image_root);
        match prefix.first().filter(|_| are_there) {
            Some(prefix) => names.map(|name| joined(prefix, name)).collect(),
            None => names.map(str::to_owned).collect(),
        }
    }

    /// Returns the fields of the first document besides the three lists, and counts those of the others that differ.
    fn other_fields(&self) -> Result<(Map<String, Value>, Dropped), DataError> {
        let mut dropped = Dropped::default();
        let mut first: Option<Map<String, Value>> = None;
        for json in &self.files {
            let fields = other_fields_of(json).map_err(|source| DataError::io(json, source))?;
            let Some(first) = &first else {
                first = Some(fields);
                continue;
            };
            for (key, value) in fields {
                if first.get(&key) != Some(&value) {
                    let what = format!("`{key}` of files besides the first");
                    dropped.add(what, "file", 1);
                }
            }
        }
        Ok((first.unwrap_or_default(), dropped))
    }

    /// Writes the entries of the selected images with their new ids, names and sizes, and all their other fields.
    fn write_part(
        &self,
        others: &Map<String, Value>,
        names: &[String],
        out: &mut dyn Write,
        is_in: &dyn Fn(u64) -> bool,
    ) -> io::Result<()> {
        write!(out, "{{")?;
        for (key, value) in others {
            serde_json::to_writer(&mut *out, key)?;
            write!(out, ":")?;
            serde_json::to_writer(&mut *out, value)?;
            writeln!(out, ",")?;
        }
        for list in List::ALL {
            write!(out, "\"{}\":[", list.name())?;
            let mut comma = "";
            for (at, json) in self.files.iter().enumerate() {
                // The categories of all files are the same but for their ids.
                if at > 0 && list == List::Categories {
                    continue;
                }
                let ids = self.joined.get(at);
                copy_coco(
                    File::open(json)?,
                    &mut io::sink(),
                    &mut |entry, _, bytes| {
                        if entry.list() == list
                            && let Some(entry) = self.moved(ids, names, (entry, bytes), is_in)?
                        {
                            writeln!(out, "{comma}")?;
                            out.write_all(&entry)?;
                            comma = ",";
                        }
                        Ok(Copied::Drop)
                    },
                )?;
            }
            writeln!(out, "{}", if list == List::Categories { "]" } else { "]," })?;
        }
        write!(out, "}}")
    }

    /// Returns an entry as it is written, or None if it belongs to an image that is not selected.
    fn moved(
        &self,
        ids: Option<&JoinedIds>,
        names: &[String],
        (entry, bytes): (&Entry, &[u8]),
        is_in: &dyn Fn(u64) -> bool,
    ) -> io::Result<Option<Vec<u8>>> {
        let list = entry.list();
        let new_id = |of: fn(&JoinedIds) -> &HashMap<u64, u64>, id: u64| match ids {
            None => Some(id),
            Some(ids) => of(ids).get(&id).copied(),
        };
        let mut fields: Map<String, Value> = serde_json::from_slice(bytes)?;
        if list == List::Categories {
            return Ok(Some(serde_json::to_vec(&fields)?));
        }
        let image = entry.image_id().ok_or(ChangedMeanwhile)?;
        // An image that an earlier file has, too, is taken from there.
        let Some(image) = new_id(|ids| &ids.images, image).filter(|image| is_in(*image)) else {
            return Ok(None);
        };
        match list {
            List::Images => {
                let index = self.annotations.store.index_of_image(image);
                let index = index.ok_or(ChangedMeanwhile)?;
                let known = self.annotations.store.image(index);
                fields.insert("id".into(), image.into());
                fields.insert("file_name".into(), names[index].as_str().into());
                fields.insert("width".into(), known.size.width.into());
                fields.insert("height".into(), known.size.height.into());
            }
            _ => {
                let Entry::Annotation(annotation) = entry else {
                    return Ok(None);
                };
                let id = annotation
                    .id
                    .and_then(|id| new_id(|ids| &ids.annotations, id));
                let category = annotation.category_id;
                let category = category.and_then(|id| new_id(|ids| &ids.categories, id));
                fields.insert("id".into(), id.ok_or(ChangedMeanwhile)?.into());
                fields.insert("image_id".into(), image.into());
                fields.insert(
                    "category_id".into(),
                    category.ok_or(ChangedMeanwhile)?.into(),
                );
            }
        }
        Ok(Some(serde_json::to_vec(&fields)?))
    }
}

/// Returns the fields of a document besides the three lists.
fn other_fields_of(json: &Path) -> io::Result<Map<String, Value>> {
    let mut rest = Vec::new();
    copy_coco(File::open(json)?, &mut rest, &mut |_, _, _| {
        Ok(Copied::Drop)
    })?;
    let mut fields: Map<String, Value> = serde_json::from_slice(&rest)?;
    for list in List::ALL {
        fields.remove(list.name());
    }
    Ok(fields)
}

/// Copies byte by byte the entries of the selected images and everything that belongs to no image.
fn copy_part(from: &Path, out: &mut dyn Write, is_in: &dyn Fn(u64) -> bool) -> io::Result<()> {
    let input = File::open(from)?;
    copy_coco(input, out, &mut |entry, _, _| {
        if entry.list() == List::Categories {
            return Ok(Copied::Keep);
        }
        let id = entry.image_id().ok_or(ChangedMeanwhile)?;
        Ok(if is_in(id) {
            Copied::Keep
        } else {
            Copied::Drop
        })
    })
}
