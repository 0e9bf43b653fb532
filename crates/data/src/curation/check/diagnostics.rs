//! The kinds of problems of a dataset, and the collection of those found.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::system_errors::plain;

/// The severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Training or evaluation would fail or give wrong results.
    Error,
    /// No action is required.
    Warning,
}

/// A problem at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The split.
    pub split: String,
    /// The image's file name in the annotations, or the annotation file.
    pub file: Option<String>,
    /// The image's id.
    pub image_id: Option<u64>,
    /// The annotation's id.
    pub annotation_id: Option<u64>,
    /// The details.
    pub detail: String,
}

impl Diagnostic {
    /// Describes a problem of a dataset as a whole.
    pub fn on_dataset(detail: &str) -> Self {
        Self {
            split: "dataset".to_owned(),
            file: None,
            image_id: None,
            annotation_id: None,
            detail: detail.to_owned(),
        }
    }
}

macro_rules! kinds {
    ($($variant:ident $severity:ident $key:literal [$one:literal $many:literal] $advice:literal $(fix $fix:literal)?;)*) => {
        /// A kind of problem. The order is the order of reports.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $many] $variant,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns the stable key for programs.
            pub fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)* }
            }

            /// Returns the severity.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// Returns the description for a number of problems.
            pub fn title(self, count: usize) -> &'static str {
                match self { $(Self::$variant => if count == 1 { $one } else { $many },)* }
            }

            /// Returns the recommended action, or why none is required.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }

            /// Returns the correction applied in the corrected copy; None if the problem must be
            /// resolved manually.
            pub fn fix(self) -> Option<&'static str> {
                match self { $(Self::$variant => fix!($($fix)?),)* }
            }
        }
    };
}

macro_rules! fix {
    () => {
        None
    };
    ($fix:literal) => {
        Some($fix)
    };
}

kinds! {
    FileBroken Error "file-broken"
        ["annotation file cannot be read to its end" "annotation files cannot be read to their end"]
        "write or download it again; entries after the error were not checked";
    FileEncoding Error "file-encoding"
        ["annotation file is in another encoding" "annotation files are in another encoding"]
        "save as UTF-8 text: in another encoding, class names would be other words";
    ListMissing Error "list-missing"
        ["list is missing or empty" "lists are missing or empty"]
        "a COCO file needs `images`, `annotations` and `categories`, each once";
    NoBoxes Error "no-boxes"
        ["split has no box" "splits have no box"]
        "nothing can be trained or evaluated: check that the labels belong to these images";
    CannotHoldOut Error "cannot-hold-out"
        ["split of which no validation images can be held out" "splits of which no validation images can be held out"]
        "training needs validation images: annotate more images, or annotate some as val";
    CategoriesDiffer Error "categories-differ"
        ["difference between the category tables of the splits" "differences between the category tables of the splits"]
        "give all splits the same ids and names; otherwise a class is trained under one id and evaluated under another";
    LeakSameSplit Error "leak-same-split"
        ["split with the images of another (leak)" "splits with the images of another (leak)"]
        "give the split images of its own, or leave it out: without val, a tenth of train is held out";
    LeakSameFile Error "leak-same-file"
        ["image in two splits (leak)" "images in two splits (leak)"]
        "keep each image in one split: metrics on training images are too high";
    EntryMalformed Error "entry-malformed"
        ["entry lacks a field or has one of a wrong type" "entries lack a field or have one of a wrong type"]
        "correct the program that wrote the file"
        fix "numbers written as strings become numbers, annotations without an id get one; other such entries are dropped";
    Contradiction Error "contradiction"
        ["file contradicts another" "files contradict others"]
        "correct, rename or remove the wrong file: sedet cannot know which it is";
    CategoryIdTwice Error "category-id-twice"
        ["duplicate category id" "duplicate category ids"]
        "give each category an id of its own"
        fix "duplicates with the same name are dropped; different names must be resolved manually";
    CategoryNameTwice Error "category-name-twice"
        ["duplicate category name" "duplicate category names"]
        "a class under two ids is trained as two; use one id"
        fix "boxes move to the first id";
    ImageIdTwice Error "image-id-twice"
        ["duplicate image id" "duplicate image ids"]
        "give each image an id of its own"
        fix "duplicates of the same file are dropped; different files are all dropped, with their boxes, since the boxes cannot be assigned";
    AnnotationIdTwice Error "annotation-id-twice"
        ["duplicate annotation id" "duplicate annotation ids"]
        "renumber the annotations"
        fix "duplicates get a new id";
    ImageListedTwice Error "image-listed-twice"
        ["image is listed under two ids" "images are listed under two ids"]
        "list it once: the objects of each entry are background for the other"
        fix "boxes move to the first id";
    ImageNameOfTwo Error "image-name-of-two"
        ["image name is that of two entries with different boxes" "image names are those of two entries with different boxes"]
        "if they are two images, write the directory of each into `file_name`; if it is one image, list it once with all its boxes: sedet cannot know which";
    ImageMissing Error "image-missing"
        ["image is missing" "images are missing"]
        "copy or download the missing files, or correct the names in the annotations"
        fix "such images are dropped, with their boxes";
    ImageAmbiguous Error "image-ambiguous"
        ["image name matches several files" "image names match several files"]
        "rename or remove the files that are not meant, or write the exact name: sedet cannot know which is meant"
        fix "such images are dropped, with their boxes";
    ImageUnreadable Error "image-unreadable"
        ["unreadable image file" "unreadable image files"]
        "check permissions and the disk"
        fix "such images are dropped, with their boxes";
    ImageTruncated Error "image-truncated"
        ["truncated image" "truncated images"]
        "copy or download again: most programs show truncated images partly gray without a warning"
        fix "such images are dropped, with their boxes";
    ImageBroken Error "image-broken"
        ["image cannot be decoded" "images cannot be decoded"]
        "save again as JPEG or PNG"
        fix "such images are dropped, with their boxes";
    SizeMissing Error "size-missing"
        ["image has no width and height" "images have no width and height"]
        "write the image's size into the annotations"
        fix "the decoded image's size";
    SizeIgnoresExif Error "size-ignores-exif"
        ["image with size and boxes that ignore the EXIF rotation" "images with sizes and boxes that ignore the EXIF rotation"]
        "rotate the boxes, or remove the EXIF rotation from the images: sedet applies it, as image viewers do"
        fix "sizes and boxes are rotated; outlines (`segmentation`) are dropped";
    SizeDiffers Error "size-differs"
        ["image size differs from the annotations" "image sizes differ from the annotations"]
        "the boxes do not fit: use the images that were annotated, or scale the boxes"
        fix "such images are dropped, with their boxes";
    SizesUnclear Error "sizes-unclear"
        ["image has exchanged width and height in the annotations" "images have exchanged width and height in the annotations"]
        "look at the boxes on some of these images: where they are right, exchange width and height; where they are not, rotate the boxes with the image"
        fix "such images are dropped, with their boxes";
    SizesExchanged Error "sizes-exchanged"
        ["split has images with exchanged width and height" "splits have images with exchanged width and height"]
        "exchange `width` and `height` of these images in the annotations: their boxes fit the images"
        fix "width and height are exchanged; the boxes stay as they are";
    UnknownImage Error "unknown-image"
        ["box refers to an image that is not listed" "boxes refer to images that are not listed"]
        "add the image, or remove the boxes"
        fix "such boxes are dropped";
    CategoriesShifted Error "categories-shifted"
        ["split has category ids of boxes that seem to be shifted" "splits have category ids of boxes that seem to be shifted"]
        "compare the classes of some boxes with their images: if they are those of their neighbors, correct `category_id`; no corrected copy is written, which would drop a class and keep the others under wrong names";
    UnknownCategory Error "unknown-category"
        ["box refers to a category that is not listed" "boxes refer to categories that are not listed"]
        "add the category, or correct `category_id`"
        fix "such boxes are dropped";
    BoxesAreCorners Error "boxes-are-corners"
        ["file has boxes that look like corners" "files have boxes that look like corners"]
        "COCO's `bbox` is [x, y, width, height]; these fit the images as [x1, y1, x2, y2]"
        fix "boxes become [x, y, width, height]";
    BoxesAreNoSizes Error "boxes-are-no-sizes"
        ["file has boxes that are not [x, y, width, height]" "files have boxes that are not [x, y, width, height]"]
        "COCO's `bbox` is [x, y, width, height] in pixels: the upper left point of the box and its size"
        fix "boxes become [x, y, width, height]";
    BoxesAreTransposed Error "boxes-are-transposed"
        ["file has boxes with exchanged axes" "files have boxes with exchanged axes"]
        "show some boxes on their images: if x and y are exchanged, export them again in the order of the format; if the images were rotated after they were annotated, or have an EXIF rotation that the annotations ignore, rotate the boxes or use the original images";
    BoxesIgnoreExif Error "boxes-ignore-exif"
        ["split has boxes that ignore the EXIF rotation" "splits have boxes that ignore the EXIF rotation"]
        "rotate these boxes as the EXIF orientation of their images does, or remove it from the images; no corrected copy is written";
    BoxesAreMixed Error "boxes-are-mixed"
        ["file has boxes in two orders" "files have boxes in two orders"]
        "correct the program that wrote the file: all boxes have to be [x, y, width, height]"
        fix "boxes whose `area` is that of the other order become [x, y, width, height]";
    BoxesMayBeNoSizes Error "boxes-may-be-no-sizes"
        ["file has boxes that may not be [x, y, width, height]" "files have boxes that may not be [x, y, width, height]"]
        "show some boxes on their images: if they are displaced, export them again as [x, y, width, height]; otherwise correct those beyond the image bounds, which are not clipped here";
    BoxesAreFractions Error "boxes-are-fractions"
        ["file has boxes that look like fractions" "files have boxes that look like fractions"]
        "boxes are in pixels; multiply x and width by the width of the image, y and height by its height"
        fix "boxes are multiplied by the size of the image; outlines (`segmentation`) are dropped";
    BoxesAreUnclearFractions Error "boxes-are-unclear-fractions"
        ["file has boxes that look like fractions of an unclear form" "files have boxes that look like fractions of an unclear form"]
        "export the boxes again, in pixels: sizes, corners and centers all fit these numbers, so sedet cannot know which they are";
    BoxesArePercentages Error "boxes-are-percentages"
        ["split has boxes that look like percentages" "splits have boxes that look like percentages"]
        "export the boxes again, in pixels: sedet cannot know whether percentages are sizes, corners or centers";
    BoxesAreNoCorners Error "boxes-are-no-corners"
        ["split has boxes that are not two corners" "splits have boxes that are not two corners"]
        "`xmax` and `ymax` are the second corner of a box, not its size, and not smaller than `xmin` and `ymin`";
    BoxesAreNoCenters Error "boxes-are-no-centers"
        ["dataset has boxes that are not centers and sizes" "splits have boxes that are not centers and sizes"]
        "a line is `class cx cy width height` in fractions of the image: the center of the box and its size";
    BoxesMayBeMisread Error "boxes-may-be-misread"
        ["split has boxes that may be in another order than that of the format" "splits have boxes that may be in another order than that of the format"]
        "show some boxes on their images: if they are displaced, export them again in the order of the format; otherwise correct those beyond the image bounds";
    BoxesDoNotFit Error "boxes-do-not-fit"
        ["split has many boxes that do not fit their images" "splits have many boxes that do not fit their images"]
        "compare some boxes with their images: they may be those of other images or of another size of the images; no corrected copy is written, which would lack these boxes";
    BoxNotFinite Error "box-not-finite"
        ["box contains NaN or infinity" "boxes contain NaN or infinity"]
        "the loss would become NaN"
        fix "such boxes are dropped";
    BoxHuge Error "box-huge"
        ["box has implausible coordinates" "boxes have implausible coordinates"]
        "no image has more than 1,000,000 pixels on a side"
        fix "such boxes are dropped";
    BoxNegative Error "box-negative"
        ["box has a negative side" "boxes have a negative side"]
        "width and height are measured from the top left corner"
        fix "such boxes are dropped";
    BoxZero Error "box-zero"
        ["box without area" "boxes without area"]
        "no detection can match such a box, so it lowers the recall"
        fix "such boxes are dropped";
    BoxOutside Error "box-outside"
        ["box is outside its image" "boxes are outside their images"]
        "often boxes of another image, or of another size of the image"
        fix "such boxes are dropped";
    BoxOverEdge Error "box-over-edge"
        ["box exceeds the image bounds" "boxes exceed the image bounds"]
        "training clips such boxes, evaluation does not: a perfect detection would not reach IoU 1"
        fix "such boxes are clipped to the image";
    BoxTwice Error "box-twice"
        ["duplicate box" "duplicate boxes"]
        "a duplicate cannot be matched and counts as missed"
        fix "the duplicates are dropped";
    AreaWrong Error "area-wrong"
        ["area is negative, zero or not a number" "areas are negative, zero or not a number"]
        "the area decides which objects count as small, medium and large"
        fix "width times height of the box";
    BoxesMayBePercentages Warning "boxes-may-be-percentages"
        ["split has boxes that may be percentages" "splits have boxes that may be percentages"]
        "boxes are in pixels: show some on their images, and export them again if all are in the upper left";
    ImageNamesRead Warning "image-names-read"
        ["annotation file names images in another way" "annotation files name images in another way"]
        "no action is required; other programs may need the names of the files";
    SizeFromImage Warning "size-from-image"
        ["image has no width and height in the annotations" "images have no width and height in the annotations"]
        "that of the file is used";
    FoundElsewhere Warning "found-elsewhere"
        ["note on how the dataset was read" "notes on how the dataset was read"]
        "no action is required if this is what you expect";
    TestWithoutLabels Warning "test-without-labels"
        ["test split has no labels" "test splits have no labels"]
        "training does without it; it cannot be evaluated, converted or split";
    TestIsVal Warning "test-is-val"
        ["test split has the images of val" "test splits have the images of val"]
        "leave test out: its scores would be those of val, by which the checkpoint is chosen";
    TestInVal Warning "test-in-val"
        ["image in val and test" "images in val and test"]
        "keep each image in one of the two: the checkpoint is chosen by val, so that the scores of test are too high";
    AnnotationsNotUsed Warning "annotations-not-used"
        ["further source of annotations is not used" "further sources of annotations are not used"]
        "if they are meant, give them as the dataset, alone or joined with others in a list (a.json,b.json), or name them in its data.yaml";
    NotUsed Warning "not-used"
        ["kind of content that is not used" "kinds of content that are not used"]
        "sedet trains on boxes of single objects in images that can be read";
    LeakNearDuplicate Warning "leak-near-duplicate"
        ["near-duplicate of an image in another split" "near-duplicates of images in another split"]
        "inspect each pair: copies, other sizes or frames of one video should be in one split";
    HeldOutCopies Warning "held-out-copies"
        ["split whose images all have the same content" "splits whose images all have the same content"]
        "training holds out copies of its own images: the metrics will be those of training images; add other images";
    CopiesDiffer Warning "copies-differ"
        ["duplicate image with other boxes" "duplicate images with other boxes"]
        "the labels contradict each other: the objects of one are background for the other; keep the image whose boxes are right";
    ImageTwice Warning "image-twice"
        ["duplicate image" "duplicate images"]
        "duplicates are weighted accordingly";
    ImageNotListed Warning "image-not-listed"
        ["image in the directory is not listed" "images in the directory are not listed"]
        "images that are not listed are not used; list those that are meant, and as background those without objects";
    ImageUnsupported Warning "image-unsupported"
        ["image in a format that is not supported" "images in formats that are not supported"]
        "not used; save such images as JPEG or PNG";
    ImageRotated Warning "image-rotated"
        ["image is stored rotated or mirrored (EXIF)" "images are stored rotated or mirrored (EXIF)"]
        "sedet applies the EXIF orientation, and boxes refer to the upright image; other programs may differ";
    ImageWrongExtension Warning "image-wrong-extension"
        ["image format differs from the extension" "image formats differ from the extensions"]
        "sedet detects the format from the content; other programs may not";
    BoxUnderPixel Warning "box-under-pixel"
        ["box has a side of one pixel or less" "boxes have a side of one pixel or less"]
        "ignored in training; counted in evaluation";
    BoxTwoClasses Warning "box-two-classes"
        ["box with two classes" "boxes with two classes"]
        "correct if an object may have two classes; otherwise remove one";
    AreaMissing Warning "area-missing"
        ["box has no `area`" "boxes have no `area`"]
        "width times height is used";
    AreaOverBox Warning "area-over-box"
        ["area is larger than its box" "areas are larger than their boxes"]
        "an outline is inside its box, so one of the two is wrong";
    Crowd Warning "crowd"
        ["crowd region (`iscrowd`)" "crowd regions (`iscrowd`)"]
        "ignored in training; in evaluation, detections inside are neither true nor false positives";
    ImageEmpty Warning "image-empty"
        ["image has no box" "images have no box"]
        "evaluated as images without objects, and in training skipped or used as such (loader.keep_empty of the recipe)";
    CategoryUnused Warning "category-unused"
        ["category has no box in its split" "categories have no box in their split"]
        "the AP of such a category cannot be measured";
    CategoryNotTrained Warning "category-not-trained"
        ["category has boxes in another split but none in train" "categories have boxes in another split but none in train"]
        "such a category cannot be learned: its AP will be 0";
    CategoryNamesAlike Warning "category-names-alike"
        ["category name differs from another only by case or spaces" "category names differ from others only by case or spaces"]
        "if they are one class, use one id";
}

/// Number of diagnostics of one kind that are stored with their locations. Further ones are only
/// counted, which bounds the memory for a dataset where everything is wrong.
pub const KEPT_PER_KIND: usize = 100_000;

/// Diagnostics by kind, errors first.
#[derive(Debug, Default)]
pub struct Diagnostics {
    by_kind: BTreeMap<Kind, Group>,
}

/// All diagnostics of one kind.
#[derive(Debug, Default)]
pub struct Group {
    /// Total number.
    pub count: usize,
    /// Number in each split, in the order in which the splits were checked.
    pub by_split: Vec<(String, usize)>,
    /// The first [`KEPT_PER_KIND`] of them.
    pub kept: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds a diagnostic.
    pub fn add(&mut self, kind: Kind, mut diagnostic: Diagnostic) {
        diagnostic.detail = plain(&diagnostic.detail);
        let group = self.by_kind.entry(kind).or_default();
        group.count += 1;
        match group
            .by_split
            .iter_mut()
            .find(|(split, _)| *split == diagnostic.split)
        {
            Some((_, count)) => *count += 1,
            None => group.by_split.push((diagnostic.split.clone(), 1)),
        }
        if group.kept.len() < KEPT_PER_KIND {
            group.kept.push(diagnostic);
        }
    }

    /// Returns the kinds that were found with their diagnostics, in the order of [`Kind`].
    pub fn groups(&self) -> impl Iterator<Item = (Kind, &Group)> {
        self.by_kind.iter().map(|(kind, group)| (*kind, group))
    }

    /// Returns the diagnostics of a kind.
    pub fn of(&self, kind: Kind) -> Option<&Group> {
        self.by_kind.get(&kind)
    }

    /// Returns the number of diagnostics of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.groups()
            .filter(|(kind, _)| kind.severity() == severity)
            .map(|(_, group)| group.count)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_errors_come_before_warnings() {
        let mut keys: Vec<_> = Kind::ALL.iter().map(|kind| kind.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), Kind::ALL.len());
        let severities: Vec<_> = Kind::ALL.iter().map(|kind| kind.severity()).collect();
        assert!(severities.is_sorted());
    }

    #[test]
    fn a_limited_number_of_places_is_kept_but_all_are_counted() {
        let mut diagnostics = Diagnostics::default();
        for id in 0..KEPT_PER_KIND as u64 + 5 {
            let diagnostic = Diagnostic {
                split: "train".into(),
                file: None,
                image_id: None,
                annotation_id: Some(id),
                detail: String::new(),
            };
            diagnostics.add(Kind::BoxZero, diagnostic);
        }
        let group = diagnostics.of(Kind::BoxZero).unwrap();
        assert_eq!(group.count, KEPT_PER_KIND + 5);
        assert_eq!(group.kept.len(), KEPT_PER_KIND);
        assert_eq!(diagnostics.count(Severity::Error), KEPT_PER_KIND + 5);
        assert_eq!(diagnostics.count(Severity::Warning), 0);
    }
}
