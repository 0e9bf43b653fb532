//! Strict reading of splits in any format.

use std::collections::HashSet;
use std::path::PathBuf;

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::box_convention::{FEWEST_BOXES, check_box_convention};
use crate::annotations::coco::read_coco_json;
use crate::annotations::format::{
    AnnotatedDataset, DatasetFiles, Dropped, EntryProblem, Reader, SplitAnnotations, SplitEntries,
    SplitFiles,
};
use crate::annotations::image_files::first_few;
use crate::annotations::layout::{LayoutError, Split};
use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};
use crate::boxes::ImageSize;
use crate::images::OnBadImage;
use crate::images::decode::{DecodeError, decode_image, image_size};
use crate::text::{count, numbers};

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

    /// Reads all splits to write their images somewhere else. Images that training and evaluation skip are skipped with a
    /// note: those that cannot be decoded, or have another size than annotated. If they are errors, only the sizes are
    /// compared: copying the images reports what is missing.
    ///
    /// # Errors
    /// As [`Self::read`]; an image has another size; no image can be used.
    pub fn read_with_images(
        &self,
        on_bad_image: OnBadImage,
    ) -> Result<AnnotatedDataset, DataError> {
        let mut splits = self.read_splits(&self.split_names(), on_bad_image)?;
        for split in &mut splits {
            match on_bad_image {
                OnBadImage::Skip => split.skip_bad_images()?,
                // The other formats were read with the sizes of the images.
                OnBadImage::Error if matches!(self.format.reader(), Reader::CocoJson) => {
                    split.check_sizes()?;
                }
                OnBadImage::Error => {}
            }
        }
        Ok(AnnotatedDataset {
            format: self.format,
            splits,
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
        let files: Vec<&SplitFiles> = splits
            .iter()
            .map(|split| self.split(*split))
            .collect::<Result<_, _>>()?;
        match self.format.reader() {
            Reader::CocoJson => files
                .into_iter()
                .map(|files| files.read_json(on_bad_image))
                .collect(),
            Reader::Entries(collect) => collect(self, splits)?
                .into_iter()
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
            Reader::Entries(collect) => collect(self, splits).map(Some),
        }
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
            let found = Vec::new();
            LayoutError::NoSplit {
                root,
                format,
                split,
                found,
            }
            .into()
        })
    }

    /// Reads COCO JSON. A size that the file lacks is that of the image.
    fn read_json(&self, on_bad_image: OnBadImage) -> Result<SplitAnnotations, DataError> {
        let mut json = read_coco_json(&self.annotations)?;
        let names = json.names();
        let Some(first) = names.first() else {
            let annotations = self.annotations.clone();
            return Err(LayoutError::NoImages { annotations }.into());
        };
        let Some(found) = self.find_images(&names) else {
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
        let mut bad_images = BadImages::default();
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
        json.set_sizes(&sizes);
        let skipped = json.ids_of_unsized(&without_size);
        // Until they are removed.
        let any_size = without_size.iter().map(|at| (*at, ImageSize::new(1, 1)));
        json.set_sizes(&any_size.collect::<Vec<_>>());
        let mut notes = found.notes;
        if !sizes.is_empty() {
            let images = count(sizes.len(), "image");
            notes.push(format!(
                "{images} without a size in the annotations: that of the file is used"
            ));
        }
        let mut besides_boxes = Dropped::default();
        for (what, number) in json.extras() {
            besides_boxes.add(what, "object", number);
        }
        let mut read = SplitAnnotations {
            split: self.split,
            store: json.build(&self.annotations)?,
            image_root: directory,
            dropped: Dropped::default(),
            besides_boxes,
            notes,
        };
        let skipped = skipped.iter();
        let skipped: HashSet<usize> = skipped
            .filter_map(|id| read.store.index_of_image(*id))
            .collect();
        if !skipped.is_empty() {
            read.skip(&skipped, bad_images)?;
            // The boxes of the others were counted with theirs.
            check_box_convention(&read.store, &self.annotations, self.format.box_numbers())?;
        }
        Ok(read)
    }
}

impl SplitEntries {
    /// Checks that the boxes do not have width and height in the place of their second corner.
    fn check_corners(&self, files: &SplitFiles) -> Result<(), DataError> {
        let named = self.images.iter().flat_map(|image| {
            let boxes = image.boxes.iter().filter_map(|found| found.xywh);
            boxes.map(|xywh| (&image.file_name, xywh))
        });
        let is_reversed = |[_, _, width, height]: [f32; 4]| width < 0.0 || height < 0.0;
        let boxes = named.clone().count();
        let mut reversed = named.filter(|(_, xywh)| is_reversed(*xywh));
        let Some((file_name, [x, y, width, height])) = reversed.next() else {
            return Ok(());
        };
        let number = 1 + reversed.count();
        // Of widths and heights of objects all over their images, most are smaller than x or y.
        if boxes < FEWEST_BOXES || number * 3 < boxes {
            return Ok(());
        }
        Err(DataError::labels(
            &files.annotations,
            format!(
                "{number} of {} end before they begin, such as {} of {file_name}: their last two numbers are \
                 probably width and height, not a corner",
                count(boxes, "box"),
                numbers(&[x, y, x + width, y + height].map(f64::from))
            ),
        ))
    }

    /// Builds the store of a strict read; boxes without area are dropped and counted.
    fn into_annotations(
        mut self,
        files: &SplitFiles,
        on_bad_image: OnBadImage,
    ) -> Result<SplitAnnotations, DataError> {
        let all = self.images.len();
        let mut bad_images = BadImages::default();
        let mut skipped: HashSet<usize> = HashSet::new();
        for EntryProblem { image, error } in std::mem::take(&mut self.problems) {
            if on_bad_image == OnBadImage::Error || !error.is_about_one_image() {
                return Err(error);
            }
            if skipped.insert(image) {
                bad_images.add(&self.images[image].file_name, error);
            }
        }
        self.notes.extend(bad_images.finish(all)?);
        self.check_corners(files)?;
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
                    self.dropped.add("boxes without area", "object", 1);
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
        check_box_convention(&store, &files.annotations, files.format.box_numbers())?;
        Ok(SplitAnnotations {
            split: files.split,
            store,
            image_root: self.image_root,
            dropped: self.dropped,
            besides_boxes: Dropped::default(),
            notes: self.notes,
        })
    }
}

/// The images of a split that cannot be used.
#[derive(Debug, Default)]
struct BadImages {
    names: Vec<String>,
    /// The error of the first of them.
    first: Option<DataError>,
}

impl BadImages {
    fn add(&mut self, name: &str, error: DataError) {
        self.names.push(name.to_owned());
        self.first.get_or_insert(error);
    }

    /// Returns the note on the images that were skipped of `all`, if there are any.
    ///
    /// # Errors
    /// None is left; the error has that of the first.
    fn finish(self, all: usize) -> Result<Option<String>, DataError> {
        let Some(first) = self.first else {
            return Ok(None);
        };
        if self.names.len() == all {
            let (images, first) = (all, Box::new(first));
            return Err(DataError::NoUsableImage { images, first });
        }
        let names = first_few(self.names.iter().map(String::as_str));
        Ok(Some(format!(
            "skipped {} of {} that cannot be used: {names} ({first})",
            self.names.len(),
            count(all, "image")
        )))
    }
}

impl SplitAnnotations {
    /// Removes the images at some positions and notes it.
    fn skip(&mut self, positions: &HashSet<usize>, bad_images: BadImages) -> Result<(), DataError> {
        let images = self.store.image_count();
        self.notes.extend(bad_images.finish(images)?);
        if !positions.is_empty() {
            let kept: Vec<usize> = (0..images).filter(|at| !positions.contains(at)).collect();
            self.store = self.store.select(&kept);
        }
        Ok(())
    }

    /// Removes the images that cannot be decoded or have another size than annotated, and notes it.
    ///
    /// # Errors
    /// None is left; the error has that of the first.
    fn skip_bad_images(&mut self) -> Result<(), DataError> {
        let images = (0..self.store.image_count()).into_par_iter();
        let read: Vec<Result<(), DataError>> = images
            .map(|index| {
                let image = decode_image(&self.path_of(index))?;
                let decoded = ImageSize::new(image.height() as usize, image.width() as usize);
                self.check_size(index, decoded)
            })
            .collect();
        let mut bad_images = BadImages::default();
        let mut skipped = HashSet::new();
        for (index, outcome) in read.into_iter().enumerate() {
            if let Err(error) = outcome {
                bad_images.add(self.store.image(index).file_name, error);
                skipped.insert(index);
            }
        }
        self.skip(&skipped, bad_images)
    }

    /// Checks that no image that can be read has another size than annotated.
    fn check_sizes(&self) -> Result<(), DataError> {
        let images = (0..self.store.image_count()).into_par_iter();
        let differing = images.filter_map(|index| {
            let size = image_size(&self.path_of(index)).ok()?;
            self.check_size(index, size).err()
        });
        // The first one, whichever thread is faster.
        differing.find_first(|_| true).map_or(Ok(()), Err)
    }

    fn path_of(&self, index: usize) -> PathBuf {
        self.image_root.join(self.store.image(index).file_name)
    }

    fn check_size(&self, index: usize, decoded: ImageSize) -> Result<(), DataError> {
        let annotated = self.store.image(index).size;
        if decoded == annotated {
            return Ok(());
        }
        Err(DataError::SizeMismatch {
            image: self.path_of(index).display().to_string(),
            decoded,
            annotated,
        })
    }
}
