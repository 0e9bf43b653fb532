//! Categories, images and boxes in columns.
//!
//! The whole COCO training set has 118 thousand images and 860 thousand boxes. One object per
//! annotation would take gigabytes; columns take about 60 MB, loaded once and shared by all
//! threads. Reading is by image: [`AnnotationStore::image`] and [`AnnotationStore::annotations`].
//!
//! Images are ordered by id (as torchvision and pycocotools order them), categories too: the
//! position of a category in that order is its contiguous class index `0..C-1`, the only id that
//! the network uses. The original ids stay available through [`AnnotationStore::categories`].
//!
//! Training reads boxes as `f32`. A store that was read from COCO JSON keeps the `f64` numbers of the
//! file, because the metrics depend on them: an area next to 32 x 32 pixels or an IoU next to a
//! threshold may be rounded to the other side.

use crate::annotations::category_shift::{CategoryShift, shift_of};
use std::collections::{BTreeMap, HashMap};

use sha2::{Digest as _, Sha256};

use crate::boxes::{BoxXyxy, ImageSize, MIN_TARGET_SIDE};

/// A hash of numbers and strings.
#[derive(Debug, Default)]
pub(crate) struct Fingerprint(Sha256);

impl Fingerprint {
    pub(crate) fn number(&mut self, value: u64) {
        self.0.update(value.to_le_bytes());
    }

    /// Adds a string with its length, so that two consecutive strings differ from their
    /// concatenation.
    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text);
    }

    /// Returns 16 hexadecimal digits, enough to notice a change.
    pub(crate) fn finish(self) -> String {
        let digest = self.0.finalize();
        digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// The largest number of images or annotations; more are refused before they fill the memory. It is
/// twice the number of the largest public dataset (Objects365, 27 million boxes). In columns they
/// take about 5 GB.
pub const MAX_ANNOTATIONS: usize = 50_000_000;

/// A category with the id and the name that the dataset gives it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Category {
    /// The original id; any number, with any gaps.
    pub id: u64,
    /// The name.
    pub name: String,
}

/// Errors of annotations that are incomplete or contradict themselves.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AnnotationError {
    /// Two categories share an id.
    #[error("category id {id} appears twice (`{first}` and `{second}`)")]
    DuplicateCategory {
        /// The id.
        id: u64,
        /// Name of the first.
        first: String,
        /// Name of the second.
        second: String,
    },
    /// Two images share an id.
    #[error("image id {id} appears twice (`{first}` and `{second}`)")]
    DuplicateImage {
        /// The id.
        id: u64,
        /// File name of the first.
        first: String,
        /// File name of the second.
        second: String,
    },
    /// Two annotations share an id.
    #[error("annotation id {id} appears twice")]
    DuplicateAnnotation {
        /// The id.
        id: u64,
    },
    /// An annotation belongs to an image that is not listed.
    #[error("annotation {annotation} refers to image {image}, which is not in `images`")]
    UnknownImage {
        /// Annotation id.
        annotation: u64,
        /// The image id it refers to.
        image: u64,
    },
    /// An annotation has a category that is not listed.
    #[error(
        "annotation {annotation} refers to category {category}, which is not in `categories`{}",
        shift.map_or_else(String::new, |shift| format!("; of the category ids of the annotations, {shift}"))
    )]
    UnknownCategory {
        /// Annotation id.
        annotation: u64,
        /// The category id it refers to.
        category: u64,
        /// How the ids of all annotations seem to be shifted.
        shift: Option<CategoryShift>,
    },
    /// An image with a side of zero.
    #[error("image {id} (`{file_name}`) is {width}x{height}: both sides must be at least 1")]
    EmptyImage {
        /// Image id.
        id: u64,
        /// File name.
        file_name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// An entry of a COCO list has a missing or wrong field.
    #[error("{list}[{position}]{}: {problem}", of_id(*.id))]
    Entry {
        /// The list: `images`, `annotations` or `categories`.
        list: &'static str,
        /// The position in the list, from zero.
        position: usize,
        /// The entry's id, if it has one.
        id: Option<u64>,
        /// The field and what is wrong with it.
        problem: String,
    },
    /// A COCO document lacks a list.
    #[error("there is no `{list}` list")]
    ListMissing {
        /// The list's key.
        list: &'static str,
    },
    /// A COCO document has a list twice.
    #[error("`{list}` appears twice")]
    ListTwice {
        /// The list's key.
        list: &'static str,
    },
    /// There are no categories.
    #[error("there are no categories")]
    NoCategories,
    /// There are more entries than the columns can hold.
    #[error("{count} {what} exceed the limit of {limit}")]
    TooMany {
        /// The list or column.
        what: &'static str,
        /// The number of its entries.
        count: usize,
        /// The largest possible number.
        limit: usize,
    },
}

fn of_id(id: Option<u64>) -> String {
    id.map_or_else(String::new, |id| format!(" (id {id})"))
}

/// An annotation to add to an [`AnnotationStoreBuilder`]; `T` is the type of its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewAnnotation<T = f32> {
    /// The id, unique in the dataset.
    pub id: u64,
    /// Id of the image.
    pub image_id: u64,
    /// Original category id.
    pub category_id: u64,
    /// `[x, y, width, height]` in pixels of the image.
    pub xywh: [T; 4],
    /// Area in square pixels (COCO: of the segmentation); width times height when `None`.
    pub area: Option<T>,
    /// COCO's `iscrowd`: the box covers a group that was not annotated one by one.
    pub is_crowd: bool,
}

/// The flags of an object, as Pascal VOC has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectFlags {
    /// Whether the object is hard to recognize; VOC's evaluation ignores such objects.
    pub difficult: bool,
    /// Whether the box does not contain the whole object.
    pub truncated: bool,
}

impl ObjectFlags {
    /// Returns the names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let flags = [("difficult", self.difficult), ("truncated", self.truncated)];
        let set = flags.into_iter().filter(|(_, is_set)| *is_set);
        set.map(|(name, _)| name)
    }
}

/// An image as described by the annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnnotatedImage<'a> {
    /// Original id.
    pub id: u64,
    /// File name as in the annotations, relative to the image directory.
    pub file_name: &'a str,
    /// Size as in the annotations, which the boxes refer to.
    pub size: ImageSize,
}

/// An annotation read from the store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Annotation {
    /// Original annotation id.
    pub id: u64,
    /// The box, neither clipped nor validated.
    pub box_in_image: BoxXyxy,
    /// Contiguous class index.
    pub class: usize,
    /// Area in square pixels.
    pub area: f32,
    /// COCO's `iscrowd`.
    pub is_crowd: bool,
}

/// Images and annotations in columns; see the [module](self).
#[derive(Debug, Clone, PartialEq)]
pub struct AnnotationStore {
    categories: Vec<Category>,
    images: ImageColumns,
    /// Annotations of image `i` are `first_annotation[i]..first_annotation[i + 1]`.
    first_annotation: Vec<u32>,
    annotation_ids: Vec<u64>,
    boxes: BoxColumns,
    classes: Vec<u16>,
    crowd: BitColumn,
    /// The flags of the annotations that have any, by id. Training does not use them.
    flags: BTreeMap<u64, ObjectFlags>,
}

impl AnnotationStore {
    /// Returns the categories ordered by original id; the position is the contiguous class index.
    pub fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// Returns the number of classes, background not counted.
    pub fn class_count(&self) -> usize {
        self.categories.len()
    }

    /// Returns the contiguous class index of an original category id.
    pub fn class_of_category(&self, category_id: u64) -> Option<usize> {
        self.categories
            .binary_search_by_key(&category_id, |category| category.id)
            .ok()
    }

    /// Returns the number of images, those without annotations included.
    pub fn image_count(&self) -> usize {
        self.images.ids.len()
    }

    /// Returns the number of annotations of all images.
    pub fn annotation_count(&self) -> usize {
        self.annotation_ids.len()
    }

    /// Returns the image at a position `0..image_count()`.
    ///
    /// # Panics
    /// The position is out of range.
    pub fn image(&self, index: usize) -> AnnotatedImage<'_> {
        self.images.get(index)
    }

    /// Returns the position of an original image id.
    pub fn index_of_image(&self, image_id: u64) -> Option<usize> {
        self.images.ids.binary_search(&image_id).ok()
    }

    /// Returns the annotations of the image at a position, in the order in which they were listed.
    ///
    /// # Panics
    /// The position is out of range.
    pub fn annotations(&self, index: usize) -> impl ExactSizeIterator<Item = Annotation> + '_ {
        self.range(index).map(|at| Annotation {
            id: self.annotation_ids[at],
            box_in_image: BoxXyxy::from_xywh(self.boxes.xywh(at)),
            class: usize::from(self.classes[at]),
            area: self.boxes.area(at),
            is_crowd: self.crowd.get(at),
        })
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        self.first_annotation[index] as usize..self.first_annotation[index + 1] as usize
    }

    /// Returns the boxes of an image as COCO's `[x, y, width, height]`, parallel to
    /// [`Self::annotations`]; unlike corners they are free of rounding.
    ///
    /// # Panics
    /// The position is out of range.
    pub fn boxes_xywh(&self, index: usize) -> impl ExactSizeIterator<Item = [f32; 4]> + '_ {
        self.range(index).map(|at| self.boxes.xywh(at))
    }

    /// Returns whether an image has a box that can be trained and evaluated: no crowd, and more than a pixel wide and
    /// high within the image.
    ///
    /// # Panics
    /// The position is out of range.
    pub fn has_target(&self, index: usize) -> bool {
        let size = self.image(index).size;
        self.annotations(index).any(|annotation| {
            let in_image = annotation.box_in_image.clip(size);
            !annotation.is_crowd && in_image.exceeds_sides_of(MIN_TARGET_SIDE)
        })
    }

    /// Returns the boxes and areas of an image in the precision of their source, parallel to
    /// [`Self::annotations`].
    pub(crate) fn numbers(&self, index: usize) -> impl ExactSizeIterator<Item = BoxNumbers> + '_ {
        self.range(index).map(|at| self.boxes.numbers(at))
    }

    /// Returns the flags of an annotation, by its id.
    pub fn flags(&self, annotation_id: u64) -> ObjectFlags {
        let flags = self.flags.get(&annotation_id).copied();
        flags.unwrap_or_default()
    }

    /// Returns the flags of the annotations that have any.
    pub(crate) fn all_flags(&self) -> impl Iterator<Item = ObjectFlags> {
        self.flags.values().copied()
    }

    /// Returns how many annotations of an image come from COCO JSON without an `area` and have the
    /// area of their box.
    pub(crate) fn derived_areas(&self, index: usize) -> usize {
        self.range(index)
            .filter(|at| self.boxes.is_derived(*at))
            .count()
    }

    /// Computes a hash of everything that training uses: categories, images and boxes. Two stores
    /// with the same fingerprint give the same batches in the same order.
    pub fn fingerprint(&self) -> String {
        let mut hash = Fingerprint::default();
        for category in &self.categories {
            hash.number(category.id);
            hash.text(&category.name);
        }
        for index in 0..self.image_count() {
            let image = self.image(index);
            hash.number(image.id);
            hash.text(image.file_name);
            hash.number(image.size.width as u64);
            hash.number(image.size.height as u64);
            for (annotation, xywh) in self.annotations(index).zip(self.boxes_xywh(index)) {
                for side in xywh {
                    hash.number(u64::from(side.to_bits()));
                }
                hash.number(annotation.class as u64);
                hash.number(u64::from(annotation.is_crowd));
            }
        }
        hash.finish()
    }

    /// Returns the same annotations with other file names, one for each image.
    ///
    /// # Panics
    /// The number of names is not the number of images.
    pub(crate) fn with_file_names(&self, names: &[&str]) -> Self {
        assert_eq!(names.len(), self.image_count(), "one name for each image");
        let mut images = ImageColumns::default();
        for (index, name) in names.iter().enumerate() {
            let image = self.image(index);
            images.push(image.id, name, image.size);
        }
        Self {
            images,
            ..self.clone()
        }
    }

    /// Returns the images at these positions with their annotations, and all categories.
    ///
    /// # Panics
    /// A position is out of range.
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut indices = indices.to_vec();
        indices.sort_unstable();
        indices.dedup();
        let mut images = ImageColumns::default();
        let mut first_annotation = vec![0];
        let mut order = Vec::new();
        for index in indices {
            let image = self.image(index);
            images.push(image.id, image.file_name, image.size);
            order.extend(self.range(index).map(|at| at as u32));
            first_annotation.push(order.len() as u32);
        }
        let annotation_ids: Vec<u64> = order
            .iter()
            .map(|&at| self.annotation_ids[at as usize])
            .collect();
        let flagged = annotation_ids
            .iter()
            .filter_map(|id| Some((*id, *self.flags.get(id)?)));
        Self {
            categories: self.categories.clone(),
            images,
            first_annotation,
            flags: flagged.collect(),
            annotation_ids,
            boxes: self.boxes.clone().reordered(&order),
            classes: order.iter().map(|&at| self.classes[at as usize]).collect(),
            crowd: self.crowd.reordered(&order),
        }
    }
}

/// Describes in one line how two category tables differ; `None` when they are equal.
pub(crate) fn category_difference(first: &[Category], second: &[Category]) -> Option<String> {
    const SHOWN: usize = 8;
    let mut differences = category_differences(first, second, ("the first", "the second"));
    if differences.is_empty() {
        return None;
    }
    let hidden = differences.len().saturating_sub(SHOWN);
    differences.truncate(SHOWN);
    let mut text = differences.join(", ");
    if hidden > 0 {
        text += &format!(", and {hidden} more");
    }
    Some(text)
}

/// Lists the differences of two category tables, one category each; `names` are those of the
/// tables.
pub(crate) fn category_differences(
    first: &[Category],
    second: &[Category],
    names: (&str, &str),
) -> Vec<String> {
    let mut differences = Vec::new();
    let by_id = |table: &'_ [Category]| -> HashMap<u64, String> {
        let entries = table.iter().map(|c| (c.id, c.name.clone()));
        entries.collect()
    };
    let (in_first, in_second) = (by_id(first), by_id(second));
    for a in first {
        match in_second.get(&a.id) {
            None => differences.push(format!("{} `{}` only in {}", a.id, a.name, names.0)),
            Some(name) if *name != a.name => {
                differences.push(format!("{} `{}` / `{name}`", a.id, a.name));
            }
            Some(_) => {}
        }
    }
    for b in second {
        if !in_first.contains_key(&b.id) {
            differences.push(format!("{} `{}` only in {}", b.id, b.name, names.1));
        }
    }
    differences
}

/// Builder of an [`AnnotationStore`]: collects images, categories and annotations in any order,
/// then validates and sorts them.
#[derive(Debug, Default)]
pub struct AnnotationStoreBuilder {
    categories: Vec<Category>,
    images: ImageColumns,
    annotation_ids: Vec<u64>,
    image_ids: Vec<u64>,
    category_ids: Vec<u64>,
    boxes: BoxColumns,
    crowd: BitColumn,
    flags: BTreeMap<u64, ObjectFlags>,
}

impl AnnotationStoreBuilder {
    /// Creates an empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a category.
    pub fn add_category(&mut self, id: u64, name: impl Into<String>) {
        self.categories.push(Category {
            id,
            name: name.into(),
        });
    }

    /// Adds an image; `size` is that of the image with its EXIF rotation applied.
    pub fn add_image(&mut self, id: u64, file_name: &str, size: ImageSize) {
        self.images.push(id, file_name, size);
    }

    /// Returns the file names of the images in the order in which they were added.
    pub(crate) fn image_names(&self) -> impl Iterator<Item = &str> {
        (0..self.images.ids.len()).map(|index| self.images.get(index).file_name)
    }

    /// Returns the ids of the images in the order in which they were added.
    pub(crate) fn image_ids(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.images.ids.iter().copied()
    }

    /// Changes the size of an image, by its position in the order in which they were added.
    pub(crate) fn set_image_size(&mut self, index: usize, size: ImageSize) {
        self.images.set_size(index, size);
    }

    /// Replaces the file names, one for each image in the order in which they were added.
    pub(crate) fn set_image_names(&mut self, names: &[String]) {
        let mut images = ImageColumns::default();
        for (index, name) in names.iter().enumerate().take(self.images.ids.len()) {
            let image = self.images.get(index);
            images.push(image.id, name, image.size);
        }
        self.images = images;
    }

    /// Adds an annotation; its image and category may follow later.
    pub fn add_annotation(&mut self, annotation: NewAnnotation) {
        self.boxes.push_single(annotation.xywh, annotation.area);
        self.add_references(&annotation);
    }

    /// Adds an annotation with the numbers of a COCO file.
    pub(crate) fn add_exact_annotation(&mut self, annotation: NewAnnotation<f64>) {
        self.boxes.push_double(annotation.xywh, annotation.area);
        self.add_references(&annotation);
    }

    /// Sets the flags of an annotation.
    pub(crate) fn set_flags(&mut self, annotation_id: u64, flags: ObjectFlags) {
        if flags != ObjectFlags::default() {
            self.flags.insert(annotation_id, flags);
        }
    }

    fn add_references<T>(&mut self, annotation: &NewAnnotation<T>) {
        self.annotation_ids.push(annotation.id);
        self.image_ids.push(annotation.image_id);
        self.category_ids.push(annotation.category_id);
        self.crowd.push(annotation.is_crowd);
    }

    /// Validates all references and sorts everything.
    ///
    /// # Errors
    /// Duplicate ids, annotations of unknown images or categories, empty images, no categories, or
    /// more than 65 535 categories or [`MAX_ANNOTATIONS`] annotations.
    pub fn build(mut self) -> Result<AnnotationStore, AnnotationError> {
        check_count("categories", self.categories.len(), usize::from(u16::MAX))?;
        check_count("images", self.images.ids.len(), MAX_ANNOTATIONS)?;
        check_count("annotations", self.annotation_ids.len(), MAX_ANNOTATIONS)?;
        check_count(
            "bytes of file names",
            self.images.file_names.len(),
            u32::MAX as usize,
        )?;
        self.sort_categories()?;
        self.images.sort_by_id()?;
        self.check_annotation_ids()?;
        let classes = self.resolve_classes()?;
        let image_of = self.resolve_images()?;

        // Counting sort by image; stable, so the order within an image is the order of the file.
        let mut first_annotation = vec![0u32; self.images.ids.len() + 1];
        for &image in &image_of {
            first_annotation[image as usize + 1] += 1;
        }
        for i in 1..first_annotation.len() {
            first_annotation[i] += first_annotation[i - 1];
        }
        let mut next = first_annotation.clone();
        let mut order = vec![0u32; image_of.len()];
        for (at, &image) in image_of.iter().enumerate() {
            let slot = &mut next[image as usize];
            order[*slot as usize] = at as u32;
            *slot += 1;
        }
        drop((next, image_of));

        Ok(AnnotationStore {
            categories: self.categories,
            images: self.images,
            first_annotation,
            annotation_ids: reorder(self.annotation_ids, &order),
            boxes: self.boxes.reordered(&order),
            classes: reorder(classes, &order),
            crowd: self.crowd.reordered(&order),
            flags: self.flags,
        })
    }

    fn sort_categories(&mut self) -> Result<(), AnnotationError> {
        if self.categories.is_empty() {
            return Err(AnnotationError::NoCategories);
        }
        self.categories.sort_by_key(|category| category.id);
        match self.categories.windows(2).find(|w| w[0].id == w[1].id) {
            None => Ok(()),
            Some(pair) => Err(AnnotationError::DuplicateCategory {
                id: pair[0].id,
                first: pair[0].name.clone(),
                second: pair[1].name.clone(),
            }),
        }
    }

    fn check_annotation_ids(&self) -> Result<(), AnnotationError> {
        let mut sorted = self.annotation_ids.clone();
        sorted.sort_unstable();
        match sorted.windows(2).find(|w| w[0] == w[1]) {
            None => Ok(()),
            Some(pair) => Err(AnnotationError::DuplicateAnnotation { id: pair[0] }),
        }
    }

    fn resolve_classes(&mut self) -> Result<Vec<u16>, AnnotationError> {
        let ids = std::mem::take(&mut self.category_ids);
        let position = |category: u64| self.categories.binary_search_by_key(&category, |c| c.id);
        let pairs = ids.iter().zip(&self.annotation_ids);
        pairs
            .map(|(&category, &annotation)| {
                let class = position(category).map(|class| class as u16);
                class.map_err(|_| AnnotationError::UnknownCategory {
                    annotation,
                    category,
                    shift: shift_of(
                        &ids.iter().copied().collect(),
                        &self.categories.iter().map(|c| c.id).collect(),
                    ),
                })
            })
            .collect()
    }

    fn resolve_images(&mut self) -> Result<Vec<u32>, AnnotationError> {
        let ids = std::mem::take(&mut self.image_ids);
        ids.into_iter()
            .zip(&self.annotation_ids)
            .map(|(image, &annotation)| {
                self.images
                    .ids
                    .binary_search(&image)
                    .map(|index| index as u32)
                    .map_err(|_| AnnotationError::UnknownImage { annotation, image })
            })
            .collect()
    }
}

/// Checks that a count is at most `limit`.
pub(crate) fn check_count(
    what: &'static str,
    count: usize,
    limit: usize,
) -> Result<(), AnnotationError> {
    if count > limit {
        return Err(AnnotationError::TooMany { what, count, limit });
    }
    Ok(())
}

/// Reorders a column. It takes ownership of the column, so that its memory is freed before the next
/// one is reordered.
fn reorder<T: Copy>(column: Vec<T>, order: &[u32]) -> Vec<T> {
    order.iter().map(|&from| column[from as usize]).collect()
}

/// The box and the area of one annotation in the precision of their source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum BoxNumbers {
    /// `[x, y, width, height]` and the area.
    Single([f32; 4], f32),
    /// `[x, y, width, height]` and the area.
    Double([f64; 4], f64),
}

impl BoxNumbers {
    /// Returns `[x, y, width, height]` and the area.
    pub(crate) fn as_f64(self) -> ([f64; 4], f64) {
        match self {
            Self::Single(xywh, area) => (xywh.map(f64::from), f64::from(area)),
            Self::Double(xywh, area) => (xywh, area),
        }
    }
}

/// Boxes and areas in the precision of their source.
#[derive(Debug, Clone)]
enum BoxColumns {
    Single {
        xywh: Vec<[f32; 4]>,
        areas: Vec<f32>,
    },
    Double {
        xywh: Vec<[f64; 4]>,
        areas: Vec<f64>,
        /// Whether the area is that of the box, because the source has none.
        derived: BitColumn,
    },
}

impl Default for BoxColumns {
    fn default() -> Self {
        Self::Single {
            xywh: Vec::new(),
            areas: Vec::new(),
        }
    }
}

impl BoxColumns {
    fn len(&self) -> usize {
        match self {
            Self::Single { areas, .. } => areas.len(),
            Self::Double { areas, .. } => areas.len(),
        }
    }

    fn xywh(&self, at: usize) -> [f32; 4] {
        match self {
            Self::Single { xywh, .. } => xywh[at],
            Self::Double { xywh, .. } => xywh[at].map(|value| value as f32),
        }
    }

    fn area(&self, at: usize) -> f32 {
        match self {
            Self::Single { areas, .. } => areas[at],
            Self::Double { areas, .. } => areas[at] as f32,
        }
    }

    fn numbers(&self, at: usize) -> BoxNumbers {
        match self {
            Self::Single { xywh, areas } => BoxNumbers::Single(xywh[at], areas[at]),
            Self::Double { xywh, areas, .. } => BoxNumbers::Double(xywh[at], areas[at]),
        }
    }

    fn is_derived(&self, at: usize) -> bool {
        match self {
            Self::Single { .. } => false,
            Self::Double { derived, .. } => derived.get(at),
        }
    }

    fn push_single(&mut self, new: [f32; 4], area: Option<f32>) {
        match self {
            Self::Single { xywh, areas } => {
                xywh.push(new);
                areas.push(area.unwrap_or(new[2] * new[3]));
            }
            Self::Double { .. } => self.push_double(new.map(f64::from), area.map(f64::from)),
        }
    }

    fn push_double(&mut self, new: [f64; 4], area: Option<f64>) {
        match self {
            Self::Single { xywh, areas } => {
                *self = Self::Double {
                    xywh: xywh.iter().map(|xywh| xywh.map(f64::from)).collect(),
                    areas: areas.iter().copied().map(f64::from).collect(),
                    derived: areas.iter().map(|_| false).collect(),
                };
                self.push_double(new, area);
            }
            Self::Double {
                xywh,
                areas,
                derived,
            } => {
                xywh.push(new);
                areas.push(area.unwrap_or(new[2] * new[3]));
                derived.push(area.is_none());
            }
        }
    }

    fn reordered(self, order: &[u32]) -> Self {
        match self {
            Self::Single { xywh, areas } => Self::Single {
                xywh: reorder(xywh, order),
                areas: reorder(areas, order),
            },
            Self::Double {
                xywh,
                areas,
                derived,
            } => Self::Double {
                xywh: reorder(xywh, order),
                areas: reorder(areas, order),
                derived: derived.reordered(order),
            },
        }
    }
}

/// Compares as `f32`, which is what training sees: a store and its copy through a file are equal
/// whatever their precision.
impl PartialEq for BoxColumns {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && (0..self.len())
                .all(|at| self.xywh(at) == other.xywh(at) && self.area(at) == other.area(at))
    }
}

/// Image ids, names and sizes; all names are in one string, one after the other.
#[derive(Debug, Clone, PartialEq, Default)]
struct ImageColumns {
    ids: Vec<u64>,
    file_names: String,
    /// The end of each name in `file_names`.
    name_ends: Vec<usize>,
    widths: Vec<u32>,
    heights: Vec<u32>,
}

impl ImageColumns {
    fn push(&mut self, id: u64, file_name: &str, size: ImageSize) {
        self.ids.push(id);
        self.file_names.push_str(file_name);
        self.name_ends.push(self.file_names.len());
        // A side beyond u32 can't belong to an image; it will be reported as a size mismatch.
        self.widths
            .push(u32::try_from(size.width).unwrap_or(u32::MAX));
        self.heights
            .push(u32::try_from(size.height).unwrap_or(u32::MAX));
    }

    fn get(&self, index: usize) -> AnnotatedImage<'_> {
        let start = if index == 0 {
            0
        } else {
            self.name_ends[index - 1]
        };
        AnnotatedImage {
            id: self.ids[index],
            file_name: &self.file_names[start..self.name_ends[index]],
            size: ImageSize::new(self.heights[index] as usize, self.widths[index] as usize),
        }
    }

    fn set_size(&mut self, index: usize, size: ImageSize) {
        self.widths[index] = u32::try_from(size.width).unwrap_or(u32::MAX);
        self.heights[index] = u32::try_from(size.height).unwrap_or(u32::MAX);
    }

    fn sort_by_id(&mut self) -> Result<(), AnnotationError> {
        let mut order: Vec<u32> = (0..self.ids.len() as u32).collect();
        order.sort_by_key(|&i| self.ids[i as usize]);
        let mut sorted = Self::default();
        for &i in &order {
            let image = self.get(i as usize);
            if image.size.width == 0 || image.size.height == 0 {
                return Err(AnnotationError::EmptyImage {
                    id: image.id,
                    file_name: image.file_name.to_owned(),
                    width: self.widths[i as usize],
                    height: self.heights[i as usize],
                });
            }
            if sorted.ids.last() == Some(&image.id) {
                return Err(AnnotationError::DuplicateImage {
                    id: image.id,
                    first: sorted.get(sorted.ids.len() - 1).file_name.to_owned(),
                    second: image.file_name.to_owned(),
                });
            }
            sorted.push(image.id, image.file_name, image.size);
        }
        *self = sorted;
        Ok(())
    }
}

/// A column of booleans, one bit per value.
#[derive(Debug, Clone, PartialEq, Default)]
struct BitColumn {
    words: Vec<u64>,
    length: usize,
}

impl BitColumn {
    fn push(&mut self, bit: bool) {
        if self.length.is_multiple_of(64) {
            self.words.push(0);
        }
        self.words[self.length / 64] |= u64::from(bit) << (self.length % 64);
        self.length += 1;
    }

    fn get(&self, index: usize) -> bool {
        self.words[index / 64] >> (index % 64) & 1 == 1
    }

    fn reordered(&self, order: &[u32]) -> Self {
        order.iter().map(|&from| self.get(from as usize)).collect()
    }
}

impl FromIterator<bool> for BitColumn {
    fn from_iter<I: IntoIterator<Item = bool>>(bits: I) -> Self {
        let mut column = Self::default();
        bits.into_iter().for_each(|bit| column.push(bit));
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn annotation(id: u64, image_id: u64, category_id: u64) -> NewAnnotation {
        NewAnnotation {
            id,
            image_id,
            category_id,
            xywh: [id as f32, 2.0, 3.0, 4.0],
            area: None,
            is_crowd: id.is_multiple_of(2),
        }
    }

    fn builder() -> AnnotationStoreBuilder {
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(90, "toothbrush");
        builder.add_category(1, "person");
        builder.add_category(44, "bottle");
        builder.add_image(900, "c.jpg", ImageSize::new(10, 20));
        builder.add_image(5, "a.jpg", ImageSize::new(30, 40));
        builder.add_image(70, "bé.jpg", ImageSize::new(50, 60));
        builder
    }

    #[test]
    fn ids_with_gaps_become_contiguous_classes_and_back() {
        let mut builder = builder();
        builder.add_annotation(annotation(11, 900, 90));
        builder.add_annotation(annotation(12, 5, 44));
        builder.add_annotation(annotation(13, 900, 1));
        let store = builder.build().unwrap();
        assert_eq!(
            store.categories().iter().map(|c| c.id).collect::<Vec<_>>(),
            [1, 44, 90]
        );
        assert_eq!(store.class_of_category(44), Some(1));
        assert_eq!(store.class_of_category(2), None);
        assert_eq!(
            (0..3)
                .map(|i| (store.image(i).id, store.image(i).file_name))
                .collect::<Vec<_>>(),
            [(5, "a.jpg"), (70, "bé.jpg"), (900, "c.jpg")]
        );
        assert_eq!(store.image(1).size, ImageSize::new(50, 60));
        let last: Vec<_> = store.annotations(2).collect();
        assert_eq!(last.iter().map(|a| a.id).collect::<Vec<_>>(), [11, 13]);
        assert_eq!(last.iter().map(|a| a.class).collect::<Vec<_>>(), [2, 0]);
        assert_eq!(last[0].area, 12.0);
        assert_eq!(last[0].box_in_image, BoxXyxy::new(11.0, 2.0, 14.0, 6.0));
        assert!(!last[0].is_crowd);
        assert!(store.annotations(0).next().unwrap().is_crowd);
        assert_eq!(store.annotations(1).len(), 0);
        assert_eq!(store.index_of_image(70), Some(1));
        assert_eq!(store.index_of_image(71), None);
    }

    #[test]
    fn dangling_references_name_the_annotation_and_what_is_missing() {
        let mut unknown_image = builder();
        unknown_image.add_annotation(annotation(11, 6, 1));
        assert_eq!(
            unknown_image.build().unwrap_err().to_string(),
            "annotation 11 refers to image 6, which is not in `images`"
        );
        let mut unknown_category = builder();
        unknown_category.add_annotation(annotation(12, 5, 9));
        assert_eq!(
            unknown_category.build().unwrap_err().to_string(),
            "annotation 12 refers to category 9, which is not in `categories`"
        );
    }

    #[test]
    fn duplicate_ids_are_errors() {
        let mut images = builder();
        images.add_image(5, "again.jpg", ImageSize::new(1, 1));
        assert_eq!(
            images.build().unwrap_err().to_string(),
            "image id 5 appears twice (`a.jpg` and `again.jpg`)"
        );
        let mut categories = builder();
        categories.add_category(44, "jar");
        assert!(matches!(
            categories.build().unwrap_err(),
            AnnotationError::DuplicateCategory { id: 44, .. }
        ));
        let mut annotations = builder();
        annotations.add_annotation(annotation(3, 5, 1));
        annotations.add_annotation(annotation(3, 70, 1));
        assert_eq!(
            annotations.build().unwrap_err(),
            AnnotationError::DuplicateAnnotation { id: 3 }
        );
    }

    #[test]
    fn images_with_a_side_of_zero_and_datasets_without_categories_are_errors() {
        let mut empty = builder();
        empty.add_image(1000, "flat.jpg", ImageSize::new(0, 7));
        assert!(
            empty
                .build()
                .unwrap_err()
                .to_string()
                .contains("`flat.jpg`) is 7x0")
        );
        assert_eq!(
            AnnotationStoreBuilder::new().build().unwrap_err(),
            AnnotationError::NoCategories
        );
    }

    #[test]
    fn selected_images_form_a_store() {
        let mut builder = builder();
        for (id, image) in [(1, 900), (2, 5), (3, 70), (4, 5)] {
            builder.add_annotation(annotation(id, image, 1));
        }
        let store = builder.build().unwrap();
        let part = store.select(&[2, 0]);
        assert_eq!(part.image_count(), 2);
        assert_eq!(part.annotation_count(), 3);
        assert_eq!(part.image(1), store.image(2));
        assert!(part.annotations(1).eq(store.annotations(2)));
        let all: Vec<usize> = (0..store.image_count()).collect();
        assert_eq!(store.select(&all), store);
    }

    #[test]
    fn differences_between_category_tables_are_listed() {
        let table = |entries: &[(u64, &str)]| -> Vec<Category> {
            entries
                .iter()
                .map(|&(id, name)| Category {
                    id,
                    name: name.into(),
                })
                .collect()
        };
        let train = table(&[(1, "cat"), (2, "dog"), (3, "cow")]);
        assert_eq!(category_difference(&train, &train), None);
        let val = table(&[(1, "cat"), (2, "hound"), (4, "owl")]);
        assert_eq!(
            category_difference(&train, &val).unwrap(),
            "2 `dog` / `hound`, 3 `cow` only in the first, 4 `owl` only in the second"
        );
    }

    proptest! {
        #[test]
        fn every_annotation_belongs_to_its_image_in_file_order(
            images in proptest::collection::vec(0u64..3, 0..200),
        ) {
            let mut builder = builder();
            let ids = [5, 70, 900];
            for (id, image) in images.iter().enumerate() {
                builder.add_annotation(annotation(id as u64, ids[*image as usize], 44));
            }
            let store = builder.build().unwrap();
            prop_assert_eq!(store.annotation_count(), images.len());
            for at in 0..3u64 {
                let expected: Vec<u64> =
                    (0..images.len() as u64).filter(|&i| images[i as usize] == at).collect();
                let found: Vec<_> = store.annotations(at as usize).collect();
                prop_assert_eq!(found.iter().map(|a| a.id).collect::<Vec<_>>(), expected);
                prop_assert!(found.iter().all(|a| a.is_crowd == a.id.is_multiple_of(2)));
            }
        }
    }
}
