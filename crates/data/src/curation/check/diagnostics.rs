//! The kinds of problems that a dataset can have, and the list of those that it has.

use std::collections::BTreeMap;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Training or evaluation would fail or be wrong.
    Error,
    /// Worth knowing; nothing has to be done.
    Warning,
}

/// One problem at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The split it is in.
    pub split: String,
    /// The image's file, as the annotations name it, or the annotation file.
    pub file: Option<String>,
    /// The image's id.
    pub image_id: Option<u64>,
    /// The annotation's id.
    pub annotation_id: Option<u64>,
    /// What exactly.
    pub detail: String,
}

macro_rules! kinds {
    ($($variant:ident $severity:ident $key:literal [$one:literal $many:literal] $advice:literal $(fix $fix:literal)?;)*) => {
        /// What can be wrong. The order is the order of reports.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $many] $variant,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// How programs call it; never changes.
            pub fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)* }
            }

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// What it is, for a count of them.
            pub fn title(self, count: usize) -> &'static str {
                match self { $(Self::$variant => if count == 1 { $one } else { $many },)* }
            }

            /// What a person can do, or why nothing has to be done.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }

            /// What the clean copy has instead; none where only a person can decide.
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
        ["annotation file can't be read to its end" "annotation files can't be read to their end"]
        "write or download it again; what lies behind the broken place was not checked";
    ListMissing Error "list-missing"
        ["list is missing or empty" "lists are missing or empty"]
        "a COCO file needs `images`, `annotations` and `categories`, each once";
    CategoriesDiffer Error "categories-differ"
        ["difference between the category tables of two splits" "differences between the category tables of the splits"]
        "give all splits the same ids and names: else a class is learnt under one id and measured under another";
    LeakSameFile Error "leak-same-file"
        ["image lies in two splits" "images lie in two splits"]
        "take it out of one of them: measured on images it was trained on, a network looks better than it is";
    EntryMalformed Error "entry-malformed"
        ["entry lacks a field or has one of a wrong kind" "entries lack a field or have one of a wrong kind"]
        "correct the program that wrote the file"
        fix "numbers written as texts become numbers; the other entries are left out";
    CategoryIdTwice Error "category-id-twice"
        ["category id is used twice" "category ids are used twice"]
        "give each category an id of its own"
        fix "a repetition with the same name is left out; different names stay, and must be decided by you";
    CategoryNameTwice Error "category-name-twice"
        ["category has the name of another" "categories have the name of another"]
        "one class under two ids is learnt as two; use one id"
        fix "boxes move to the first id";
    ImageIdTwice Error "image-id-twice"
        ["image id is used twice" "image ids are used twice"]
        "give each image an id of its own"
        fix "a repetition of the same file is left out; of different files all are, with their boxes, since nobody can tell whose they are";
    AnnotationIdTwice Error "annotation-id-twice"
        ["annotation id is used again" "annotation ids are used again"]
        "number the annotations anew"
        fix "a repetition gets a new id";
    ImageListedTwice Error "image-listed-twice"
        ["image is listed under two ids" "images are listed under two ids"]
        "list it once: under each id the other's objects count as background"
        fix "boxes move to the first id";
    ImageMissing Error "image-missing"
        ["image is missing" "images are missing"]
        "copy or download them, or correct `file_name`"
        fix "the images are left out, with their boxes";
    ImageUnreadable Error "image-unreadable"
        ["image can't be read" "images can't be read"]
        "check permissions and the disk"
        fix "the images are left out, with their boxes";
    ImageTruncated Error "image-truncated"
        ["image is cut off (truncated)" "images are cut off (truncated)"]
        "copy or download them again: most programs show them half gray and say nothing"
        fix "the images are left out, with their boxes";
    ImageBroken Error "image-broken"
        ["image can't be decoded" "images can't be decoded"]
        "save them again as JPEG or PNG"
        fix "the images are left out, with their boxes";
    SizeMissing Error "size-missing"
        ["image has no width and height" "images have no width and height"]
        "write the image's size into the annotations"
        fix "the decoded image's size";
    SizeIgnoresExif Error "size-ignores-exif"
        ["image's size and boxes ignore the EXIF rotation" "images' sizes and boxes ignore the EXIF rotation"]
        "turn the boxes, or take the EXIF rotation out of the images: sedet shows them upright, as people see them"
        fix "sizes and boxes are turned upright; outlines (`segmentation`) are left out";
    SizeDiffers Error "size-differs"
        ["image has another size than the annotations say" "images have another size than the annotations say"]
        "the boxes would lie elsewhere: get the images that were annotated, or scale the boxes"
        fix "the images are left out, with their boxes";
    UnknownImage Error "unknown-image"
        ["box lies on an image that is not listed" "boxes lie on images that are not listed"]
        "add the image, or take the boxes out"
        fix "the boxes are left out";
    UnknownCategory Error "unknown-category"
        ["box is of a category that is not listed" "boxes are of categories that are not listed"]
        "add the category, or correct `category_id`"
        fix "the boxes are left out";
    BoxesAreCorners Error "boxes-are-corners"
        ["file has boxes that look like corners" "files have boxes that look like corners"]
        "COCO's `bbox` is [x, y, width, height]; these fit the images as [x1, y1, x2, y2]";
    BoxesAreFractions Error "boxes-are-fractions"
        ["file has boxes that look like fractions" "files have boxes that look like fractions"]
        "COCO's `bbox` is in pixels; multiply by the image's width and height";
    BoxNotFinite Error "box-not-finite"
        ["box has NaN or infinity in it" "boxes have NaN or infinity in them"]
        "the loss would become NaN"
        fix "the boxes are left out";
    BoxHuge Error "box-huge"
        ["box has coordinates of no image" "boxes have coordinates of no image"]
        "nothing above 1,000,000 pixels can be right"
        fix "the boxes are left out";
    BoxNegative Error "box-negative"
        ["box has a negative side" "boxes have a negative side"]
        "width and height count from the top left corner"
        fix "the boxes are left out";
    BoxZero Error "box-zero"
        ["box has a side of zero" "boxes have a side of zero"]
        "no detector can find them, so they lower the recall"
        fix "the boxes are left out";
    BoxOutside Error "box-outside"
        ["box lies outside of its image" "boxes lie outside of their images"]
        "often the boxes of another image, or of another size of it"
        fix "the boxes are left out";
    BoxOverEdge Error "box-over-edge"
        ["box reaches over its image's edge" "boxes reach over their image's edge"]
        "training cuts them, evaluation does not: a perfect detection would not overlap them wholly"
        fix "the boxes are cut at the edge";
    BoxTwice Error "box-twice"
        ["box is there twice" "boxes are there twice"]
        "the second can never be found and counts as missed"
        fix "the repetitions are left out";
    AreaWrong Error "area-wrong"
        ["area is negative, zero or no number" "areas are negative, zero or no number"]
        "it decides which objects count as small, medium and large"
        fix "width times height of the box";
    LeakNearDuplicate Warning "leak-near-duplicate"
        ["image looks the same as one of another split" "images look the same as one of another split"]
        "look at them: copies, other sizes or frames of one film do not belong into two splits";
    ImageTwice Warning "image-twice"
        ["image has the content of another in its split" "images have the content of another in their split"]
        "each counts as often as it is there";
    ImageNotListed Warning "image-not-listed"
        ["image in the directory is in no list" "images in the directory are in no list"]
        "they are not used; if they show nothing to find, list them without boxes";
    ImageTurned Warning "image-turned"
        ["image is stored turned or mirrored (EXIF)" "images are stored turned or mirrored (EXIF)"]
        "sedet turns them upright and takes the boxes as they are seen upright; other programs may not";
    ImageWrongExtension Warning "image-wrong-extension"
        ["image is of another format than its name says" "images are of another format than their names say"]
        "sedet reads the content; other programs may not";
    BoxUnderPixel Warning "box-under-pixel"
        ["box has a side of one pixel or less" "boxes have a side of one pixel or less"]
        "training leaves them out; evaluation counts them";
    BoxTwoClasses Warning "box-two-classes"
        ["box is there with two classes" "boxes are there with two classes"]
        "right if an object may have two classes; else one of them is a slip";
    AreaMissing Warning "area-missing"
        ["box has no `area`" "boxes have no `area`"]
        "width times height is used";
    AreaOverBox Warning "area-over-box"
        ["area is larger than its box" "areas are larger than their boxes"]
        "an object's outline lies inside of its box, so one of the two is wrong";
    Crowd Warning "crowd"
        ["crowd region (`iscrowd`)" "crowd regions (`iscrowd`)"]
        "not trained on; in evaluation detections inside of them count neither for nor against";
    ImageEmpty Warning "image-empty"
        ["image has no box" "images have no box"]
        "not trained on unless loader.keep_empty=true; measured as images with nothing to find";
    CategoryUnused Warning "category-unused"
        ["category has no box in its split" "categories have no box in their split"]
        "its AP can't be measured";
    CategoryNotTrained Warning "category-not-trained"
        ["category has boxes in another split but none in train" "categories have boxes in another split but none in train"]
        "it can't be learnt: its AP will be 0";
    CategoryNamesAlike Warning "category-names-alike"
        ["category is named like another but for capitals or spaces" "categories are named like another but for capitals or spaces"]
        "if they are one class, use one id";
}

/// Diagnostics of one kind that are kept with their places; beyond that they are only counted, so that a
/// dataset with everything wrong does not fill the memory.
pub const KEPT_PER_KIND: usize = 100_000;

/// Diagnostics by kind, errors first.
#[derive(Debug, Default)]
pub struct Diagnostics {
    by_kind: BTreeMap<Kind, Group>,
}

/// All diagnostics of one kind.
#[derive(Debug, Default)]
pub struct Group {
    /// How many there are.
    pub count: usize,
    /// How many there are in each split, in the order in which splits were checked.
    pub by_split: Vec<(String, usize)>,
    /// Where; the first [`KEPT_PER_KIND`].
    pub kept: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds one.
    pub fn add(&mut self, kind: Kind, diagnostic: Diagnostic) {
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

    /// Kinds that were found, with what was found, in the order of [`Kind`].
    pub fn groups(&self) -> impl Iterator<Item = (Kind, &Group)> {
        self.by_kind.iter().map(|(kind, group)| (*kind, group))
    }

    /// Those of one kind.
    pub fn of(&self, kind: Kind) -> Option<&Group> {
        self.by_kind.get(&kind)
    }

    /// How many diagnostics of this severity there are.
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
    fn only_so_many_places_are_kept_but_all_are_counted() {
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
