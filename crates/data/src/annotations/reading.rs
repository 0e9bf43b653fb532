//! Strict reading of splits in any format.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::box_convention::BoxFit;
use crate::annotations::boxes_on_images::{BoxesOnImage, judge_on_images};
use crate::annotations::class_numbers::NumberedClasses;
use crate::annotations::coco::{CocoJson, read_coco_json, read_coco_without};
use crate::annotations::format::{
    AnnotatedDataset, DatasetFiles, Dropped, EntryProblem, Reader, SplitAnnotations, SplitEntries,
    SplitFiles,
};
use crate::annotations::image_files::first_few;
use crate::annotations::layout::{LayoutError, Split};
use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};
use crate::box_conventions::BoxConvention;
use crate::boxes::{ImageSize, described_rotated};
use crate::images::OnBadImage;
use crate::images::decode::{DecodeError, decode_image, image_size};
use crate::text::count;

impl DatasetFiles {
    /// Reads all splits.
    ///
    /// # Errors
    /// A file is wrong; the error names it.
    pub fn read(&self) -> Result<AnnotatedDataset, DataError> {
        Ok(AnnotatedDataset {
            format: self.format,
            splits: self.read_splits(&self.split_names(), OnBadImage::Error)?,
        })
    }

    /// Reads all splits and decodes all images. An image that cannot be decoded, or has another size than annotated, is
    /// an error, or is skipped with a note.
    ///
    /// `progress` receives the number of decoded images and of all images of a split.
    ///
    /// # Errors
    /// As [`Self::read`]; an image cannot be used; no image can be used.
    pub fn read_with_images(
        &self,
        on_bad_image: OnBadImage,
        progress: &DecodeProgress<'_>,
    ) -> Result<AnnotatedDataset, DataError> {
        Ok(AnnotatedDataset {
            format: self.format,
            splits: self.read_splits_decoded(&self.split_names(), on_bad_image, progress)?,
        })
    }

    /// Reads some splits strictly, each annotation file once. Images whose size has to be read from their file, or
    /// differs from the annotated one, are errors or are skipped with a note; no other images are opened.
    ///
    /// # Errors
    /// The dataset has no such split, an annotation is wrong, the images are not found, or none is left.
    pub(crate) fn read_splits(
        &self,
        splits: &[Split],
        on_bad_image: OnBadImage,
    ) -> Result<Vec<SplitAnnotations>, DataError> {
        let read = self.read_parts(splits, on_bad_image)?.into_iter();
        read.map(ReadSplit::finish).collect()
    }

    /// Reads some splits as [`Self::read_splits`] and decodes their images as [`Self::read_with_images`].
    ///
    /// # Errors
    /// As both.
    pub(crate) fn read_splits_decoded(
        &self,
        splits: &[Split],
        on_bad_image: OnBadImage,
        progress: &DecodeProgress<'_>,
    ) -> Result<Vec<SplitAnnotations>, DataError> {
        let read = self.read_parts(splits, on_bad_image)?.into_iter();
        read.map(|read| read.decode(on_bad_image, progress)?.finish())
            .collect()
    }

    fn read_parts(
        &self,
        splits: &[Split],
        on_bad_image: OnBadImage,
    ) -> Result<Vec<ReadSplit>, DataError> {
        let files: Vec<&SplitFiles> = splits
            .iter()
            .map(|split| self.split(*split))
            .collect::<Result<_, _>>()?;
        match self.format.reader() {
            Reader::CocoJson => files
                .into_iter()
                .map(|files| files.read_json(on_bad_image))
                .collect(),
            Reader::Entries(_) => self
                .entries(splits)?
                .into_iter()
                .flatten()
                .zip(files)
                .map(|(entries, files)| entries.into_annotations(files, on_bad_image))
                .collect(),
        }
    }

    /// Collects the entries of some splits with their problems; None for COCO JSON.
    ///
    /// # Errors
    /// The description of the dataset is wrong.
    pub(crate) fn entries(&self, splits: &[Split]) -> Result<Option<Vec<SplitEntries>>, DataError> {
        match self.format.reader() {
            Reader::CocoJson => Ok(None),
            Reader::Entries(collect) => {
                let mut entries = collect(self, splits)?;
                self.name_classes(&mut entries);
                Ok(Some(entries))
            }
        }
    }
}

impl DatasetFiles {
    /// Gives classes that are numbers the names of a list beside the annotations. A format that lists classes names them
    /// itself.
    fn name_classes(&self, splits: &mut [SplitEntries]) {
        if self.format.lists_classes() {
            return;
        }
        let directory = if self.root.is_dir() {
            &self.root
        } else {
            self.root.parent().unwrap_or(&self.root)
        };
        let classes = splits.first().map(|split| split.categories.clone());
        let found = NumberedClasses::find(directory, &classes.unwrap_or_default());
        if let Some(names) = found.names {
            for split in splits.iter_mut() {
                split.categories.clone_from(&names);
            }
        }
        if let Some(first) = splits.first_mut() {
            first.notes.extend(found.note);
        }
    }

    /// Returns the paths of the images that the annotation files list; None if one cannot be read, or the images are not
    /// found, which is reported when the dataset is read.
    pub(crate) fn listed_images(&self) -> Option<BTreeSet<PathBuf>> {
        if let Some(splits) = self.entries(&self.split_names()).ok()? {
            let paths = splits.into_iter().flat_map(|split| {
                let SplitEntries {
                    image_root, images, ..
                } = split;
                let images = images.into_iter();
                images.map(move |image| image_root.join(image.file_name))
            });
            return Some(paths.collect());
        }
        let mut paths = BTreeSet::new();
        for split in &self.splits {
            let names = split.read_coco().ok()?.names();
            let found = split.find_images(&names).ok()??;
            let names = found.matched.names.iter();
            paths.extend(names.map(|name| found.directory.join(name)));
        }
        Some(paths)
    }
}

impl SplitFiles {
    /// Reads the annotations strictly and finds the directory of the images.
    ///
    /// # Errors
    /// An annotation is wrong, or the images are not found.
    pub fn read(&self) -> Result<SplitAnnotations, DataError> {
        let files = DatasetFiles::of_split(self.clone());
        let mut read = files.read_splits(&[self.split], OnBadImage::Error)?;
        read.pop().ok_or_else(|| {
            let root = self.annotations.clone();
            let (format, split) = (self.format.name(), self.split);
            LayoutError::NoSplit {
                root,
                format,
                split,
                found: Vec::new(),
                unused: Vec::new(),
            }
            .into()
        })
    }

    /// Reads the entries of this split in a COCO file.
    fn read_coco(&self) -> Result<CocoJson, DataError> {
        let json = read_coco_json(&self.annotations)?;
        if !self.is_part {
            return Ok(json);
        }
        read_coco_without(&self.annotations, self.ids_of_others(&json.images()))
    }

    /// Reads COCO JSON. A size that the file lacks is that of the image.
    fn read_json(&self, on_bad_image: OnBadImage) -> Result<ReadSplit, DataError> {
        let mut json = self.read_coco()?;
        let names = json.names();
        let Some(first) = names.first() else {
            let annotations = self.annotations.clone();
            return Err(LayoutError::NoImages { annotations }.into());
        };
        let Some(found) = self.find_images(&names)? else {
            return Err(self.images_not_found(first).into());
        };
        let mut matched = found.matched;
        if !matched.ambiguous.is_empty() {
            return Err(matched.ambiguous.swap_remove(0).1);
        }
        let directory = found.directory;
        if matched.names != names {
            json.set_names(&matched.names);
        }
        let names = matched.names;
        let unsized_images = json.unsized_images();
        let read: Vec<(usize, Result<ImageSize, DecodeError>)> = unsized_images
            .par_iter()
            .map(|&index| (index, image_size(&directory.join(&names[index]))))
            .collect();
        let mut bad_images = BadImages::of(names.len());
        let (mut sizes, mut without_size) = (Vec::new(), Vec::new());
        for (index, size) in read {
            match size {
                Ok(size) => sizes.push((index, size)),
                Err(error) if on_bad_image == OnBadImage::Skip => {
                    bad_images.add(&names[index], error.into());
                    without_size.push(index);
                }
                Err(error) => return Err(error.into()),
            }
        }
        bad_images.check()?;
        json.set_sizes(&sizes);
        let skipped = json.ids_of_unsized(&without_size);
        // Until they are removed.
        let any_size = without_size.iter().map(|at| (*at, ImageSize::new(1, 1)));
        json.set_sizes(&any_size.collect::<Vec<_>>());
        let mut notes = found.notes;
        notes.extend(found.other_images);
        if !sizes.is_empty() {
            let images = count(sizes.len(), "image");
            notes.push(format!(
                "{images} without a size in the annotations: that of the file is used"
            ));
        }
        notes.extend(described_rotated(json.rotated_boxes()));
        if !self.is_part {
            notes.extend(json.unused_division(self.split));
        }
        let mut besides_boxes = Dropped::default();
        for (what, number) in json.extras() {
            besides_boxes.add(what, "object", number);
        }
        let store = json.build(&self.annotations)?;
        let mut annotations = SplitAnnotations {
            split: self.split,
            store,
            image_root: directory,
            dropped: Dropped::default(),
            besides_boxes,
            notes,
        };
        let skipped = skipped.iter();
        let skipped: HashSet<usize> = skipped
            .filter_map(|id| annotations.store.index_of_image(*id))
            .collect();
        annotations.remove(&skipped);
        for flags in annotations.store.all_flags() {
            annotations.dropped.add_flags(flags);
        }
        let convention = annotations.check_coco_boxes(&self.annotations)?;
        annotations.notes.extend(convention.map(in_doubt));
        Ok(ReadSplit {
            annotations,
            bad_images,
        })
    }
}

impl SplitEntries {
    /// Checks that the boxes of the images that are not skipped are in the convention of the format. Returns a note if
    /// they may be in another.
    fn check_box_convention(
        &self,
        files: &SplitFiles,
        skipped: &HashSet<usize>,
    ) -> Result<Option<String>, DataError> {
        let mut fit = BoxFit::new(files.format.box_numbers());
        for (at, image) in self.images.iter().enumerate() {
            let Some(size) = image.size.filter(|_| !skipped.contains(&at)) else {
                continue;
            };
            for xywh in image.boxes.iter().filter_map(|found| found.xywh) {
                fit.add(size, xywh.map(f64::from), None);
            }
        }
        let image = |at: usize| {
            let image = self.images.get(at).filter(|_| !skipped.contains(&at))?;
            let boxes = image.boxes.iter().filter_map(|found| found.xywh);
            Some(BoxesOnImage {
                path: self.image_root.join(&image.file_name),
                size: image.size?,
                boxes: boxes.map(|xywh| xywh.map(f64::from)).collect(),
            })
        };
        judge_on_images(&fit, self.images.len(), &image, &files.annotations)
    }

    /// Builds the store of a strict read; boxes without area are dropped and counted.
    fn into_annotations(
        mut self,
        files: &SplitFiles,
        on_bad_image: OnBadImage,
    ) -> Result<ReadSplit, DataError> {
        if self.images.is_empty() {
            let annotations = self.list.unwrap_or_else(|| files.annotations.clone());
            return Err(LayoutError::NoImages { annotations }.into());
        }
        let mut bad_images = BadImages::of(self.images.len());
        let mut skipped: HashSet<usize> = HashSet::new();
        let missing = self
            .problems
            .iter()
            .filter(|found| found.error.is_missing_image());
        if missing.count() == self.images.len()
            && let Some(first) = self.images.first()
        {
            return Err(files.images_not_found(&first.file_name).into());
        }
        for EntryProblem { image, error } in std::mem::take(&mut self.problems) {
            if on_bad_image == OnBadImage::Error || !error.is_about_one_image() {
                return Err(error);
            }
            if skipped.insert(image) {
                bad_images.add(&self.images[image].file_name, error);
            }
        }
        bad_images.check()?;
        let convention = self.check_box_convention(files, &skipped)?;
        self.notes.extend(convention.map(in_doubt));
        let mut builder = AnnotationStoreBuilder::new();
        for (id, name) in (1..).zip(self.categories) {
            builder.add_category(id, name);
        }
        let mut id = 0;
        for (at, image) in self.images.into_iter().enumerate() {
            if skipped.contains(&at) {
                continue;
            }
            let image_id = at as u64 + 1;
            let Some(size) = image.size else {
                let path = self.image_root.join(image.file_name);
                return Err(DataError::labels(&path, "the size of the image is unknown"));
            };
            builder.add_image(image_id, &image.file_name, size);
            for found in image.boxes {
                let Some(xywh @ [_, _, width, height]) = found.xywh else {
                    continue;
                };
                if !(width > 0.0 && height > 0.0) {
                    let what = if width < 0.0 || height < 0.0 {
                        "boxes with a negative side"
                    } else {
                        "boxes without area"
                    };
                    self.dropped.add(what, "object", 1);
                    continue;
                }
                id += 1;
                builder.set_flags(id, found.flags);
                builder.add_annotation(NewAnnotation {
                    id,
                    image_id,
                    category_id: found.class as u64 + 1,
                    xywh,
                    area: None,
                    is_crowd: false,
                });
            }
        }
        let store = builder.build().map_err(|source| DataError::Annotations {
            path: files.annotations.clone(),
            source,
        })?;
        Ok(ReadSplit {
            annotations: SplitAnnotations {
                split: files.split,
                store,
                image_root: self.image_root,
                dropped: self.dropped,
                besides_boxes: Dropped::default(),
                notes: self.notes,
            },
            bad_images,
        })
    }
}

/// Receives the number of decoded images and of all images of a split.
pub type DecodeProgress<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A split without the images that were skipped so far.
struct ReadSplit {
    annotations: SplitAnnotations,
    bad_images: BadImages,
}

impl ReadSplit {
    /// Decodes the images. Those that cannot be decoded or have another size than annotated are removed, or are errors.
    ///
    /// # Errors
    /// An image cannot be used and is not to be skipped, or none is left.
    fn decode(
        mut self,
        on_bad_image: OnBadImage,
        progress: &DecodeProgress<'_>,
    ) -> Result<Self, DataError> {
        let read = &self.annotations;
        let all = read.store.image_count();
        let done = AtomicUsize::new(0);
        let outcomes = (0..all).into_par_iter().map(|index| {
            let outcome = read.decode(index);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, all);
            outcome
        });
        if on_bad_image == OnBadImage::Error {
            // The first one, whichever thread is faster.
            let first = outcomes.find_first(Result::is_err);
            return first.unwrap_or(Ok(())).map(|()| self);
        }
        let outcomes: Vec<Result<(), DataError>> = outcomes.collect();
        let mut skipped = HashSet::new();
        for (index, outcome) in outcomes.into_iter().enumerate() {
            if let Err(error) = outcome {
                self.bad_images
                    .add(read.store.image(index).file_name, error);
                skipped.insert(index);
            }
        }
        self.bad_images.check()?;
        self.annotations.remove(&skipped);
        Ok(self)
    }

    /// Returns the annotations with the note on the images that were skipped.
    ///
    /// # Errors
    /// None is left.
    fn finish(self) -> Result<SplitAnnotations, DataError> {
        let mut annotations = self.annotations;
        annotations.notes.extend(self.bad_images.finish()?);
        Ok(annotations)
    }
}

/// The images of a split that cannot be used.
#[derive(Debug)]
pub(crate) struct BadImages {
    /// The number of all images of the split.
    all: usize,
    names: Vec<String>,
    /// The error of the first of them.
    first: Option<DataError>,
}

impl BadImages {
    /// Returns the list for a split of some images, with none of them.
    pub(crate) fn of(all: usize) -> Self {
        Self {
            all,
            names: Vec::new(),
            first: None,
        }
    }

    pub(crate) fn add(&mut self, name: &str, error: DataError) {
        self.names.push(name.to_owned());
        self.first.get_or_insert(error);
    }

    /// Checks that an image is left.
    ///
    /// # Errors
    /// None is; the error has that of the first.
    pub(crate) fn check(&mut self) -> Result<(), DataError> {
        match self.first.take_if(|_| self.names.len() == self.all) {
            Some(first) => Err(DataError::NoUsableImage {
                images: self.all,
                first: Box::new(first),
            }),
            None => Ok(()),
        }
    }

    /// Returns the note on the images that were skipped, if there are any.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn finish(mut self) -> Result<Option<String>, DataError> {
        self.check()?;
        let names = first_few(self.names.iter().map(String::as_str));
        Ok(self.first.map(|first| {
            format!(
                "skipped {} of {} that cannot be used: {names} ({first})",
                self.names.len(),
                count(self.all, "image")
            )
        }))
    }
}

/// Describes boxes that may be in another convention, for a note.
fn in_doubt(mismatch: String) -> String {
    format!("the boxes may be misread: {mismatch}")
}

impl SplitAnnotations {
    /// Checks that the boxes of COCO JSON are in its convention. Returns a note if they may be in another.
    fn check_coco_boxes(&self, path: &Path) -> Result<Option<String>, DataError> {
        let fit = BoxFit::of(&self.store, BoxConvention::SIZES);
        let image = |index: usize| {
            let numbers = self.store.numbers(index);
            Some(BoxesOnImage {
                path: self.path_of(index),
                size: self.store.image(index).size,
                boxes: numbers.map(|numbers| numbers.as_f64().0).collect(),
            })
        };
        judge_on_images(&fit, self.store.image_count(), &image, path)
    }

    /// Removes the images at some positions.
    pub(super) fn remove(&mut self, positions: &HashSet<usize>) {
        if !positions.is_empty() {
            let images = 0..self.store.image_count();
            let kept: Vec<usize> = images.filter(|at| !positions.contains(at)).collect();
            self.store = self.store.select(&kept);
        }
    }

    /// Decodes an image and compares its size with the annotated one.
    pub(super) fn decode(&self, index: usize) -> Result<(), DataError> {
        let image = decode_image(&self.path_of(index))?;
        let decoded = ImageSize::new(image.height() as usize, image.width() as usize);
        self.check_size(index, decoded)
    }

    fn path_of(&self, index: usize) -> PathBuf {
        self.image_root.join(self.store.image(index).file_name)
    }

    fn check_size(&self, index: usize, decoded: ImageSize) -> Result<(), DataError> {
        let annotated = self.store.image(index).size;
        if decoded == annotated {
            return Ok(());
        }
        let path = self.path_of(index).display().to_string();
        Err(DataError::size_mismatch(path, decoded, annotated))
    }
}
