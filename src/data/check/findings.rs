//! The kinds of problems that a data set can have, and the list of those that it has.

use std::collections::BTreeMap;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Training or evaluation would fail or be wrong.
    Error,
    /// Worth knowing; nothing has to be done.
    Remark,
}

/// One problem at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The split it is in.
    pub split: String,
    /// The picture's file, as the annotations name it, or the annotation file.
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
        ["picture lies in two splits" "pictures lie in two splits"]
        "take it out of one of them: measured on pictures it was trained on, a network looks better than it is";
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
    PictureListedTwice Error "picture-listed-twice"
        ["picture is listed under two ids" "pictures are listed under two ids"]
        "list it once: under each id the other's objects count as background"
        fix "boxes move to the first id";
    PictureMissing Error "picture-missing"
        ["picture is missing" "pictures are missing"]
        "copy or download them, or correct `file_name`"
        fix "the images are left out, with their boxes";
    PictureUnreadable Error "picture-unreadable"
        ["picture can't be read" "pictures can't be read"]
        "check permissions and the disk"
        fix "the images are left out, with their boxes";
    PictureTruncated Error "picture-truncated"
        ["picture is cut off (truncated)" "pictures are cut off (truncated)"]
        "copy or download them again: most programs show them half grey and say nothing"
        fix "the images are left out, with their boxes";
    PictureBroken Error "picture-broken"
        ["picture can't be decoded" "pictures can't be decoded"]
        "save them again as JPEG or PNG"
        fix "the images are left out, with their boxes";
    SizeMissing Error "size-missing"
        ["image has no width and height" "images have no width and height"]
        "write the picture's size into the annotations"
        fix "the decoded picture's size";
    SizeIgnoresExif Error "size-ignores-exif"
        ["image's size and boxes ignore the EXIF rotation" "images' sizes and boxes ignore the EXIF rotation"]
        "turn the boxes, or take the EXIF rotation out of the pictures: sedet shows them upright, as people see them"
        fix "sizes and boxes are turned upright; outlines (`segmentation`) are left out";
    SizeDiffers Error "size-differs"
        ["picture has another size than the annotations say" "pictures have another size than the annotations say"]
        "the boxes would lie elsewhere: get the pictures that were annotated, or scale the boxes"
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
        "COCO's `bbox` is [x, y, width, height]; these fit the pictures as [x1, y1, x2, y2]";
    BoxesAreFractions Error "boxes-are-fractions"
        ["file has boxes that look like fractions" "files have boxes that look like fractions"]
        "COCO's `bbox` is in pixels; multiply by the picture's width and height";
    BoxNotFinite Error "box-not-finite"
        ["box has NaN or infinity in it" "boxes have NaN or infinity in them"]
        "the loss would become NaN"
        fix "the boxes are left out";
    BoxHuge Error "box-huge"
        ["box has coordinates of no picture" "boxes have coordinates of no picture"]
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
        ["box lies outside of its picture" "boxes lie outside of their pictures"]
        "often the boxes of another picture, or of another size of it"
        fix "the boxes are left out";
    BoxOverEdge Error "box-over-edge"
        ["box reaches over its picture's edge" "boxes reach over their picture's edge"]
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
    LeakNearDuplicate Remark "leak-near-duplicate"
        ["picture looks the same as one of another split" "pictures look the same as one of another split"]
        "look at them: copies, other sizes or frames of one film do not belong into two splits";
    PictureTwice Remark "picture-twice"
        ["picture has the content of another in its split" "pictures have the content of another in their split"]
        "each counts as often as it is there";
    PictureNotListed Remark "picture-not-listed"
        ["picture in the folder is in no list" "pictures in the folder are in no list"]
        "they are not used; if they show nothing to find, list them without boxes";
    PictureTurned Remark "picture-turned"
        ["picture is stored turned or mirrored (EXIF)" "pictures are stored turned or mirrored (EXIF)"]
        "sedet turns them upright and takes the boxes as they are seen upright; other programs may not";
    PictureWrongExtension Remark "picture-wrong-extension"
        ["picture is of another format than its name says" "pictures are of another format than their names say"]
        "sedet reads the content; other programs may not";
    BoxUnderPixel Remark "box-under-pixel"
        ["box has a side of one pixel or less" "boxes have a side of one pixel or less"]
        "training leaves them out; evaluation counts them";
    BoxTwoClasses Remark "box-two-classes"
        ["box is there with two classes" "boxes are there with two classes"]
        "right if an object may have two classes; else one of them is a slip";
    AreaMissing Remark "area-missing"
        ["box has no `area`" "boxes have no `area`"]
        "width times height is used";
    AreaOverBox Remark "area-over-box"
        ["area is larger than its box" "areas are larger than their boxes"]
        "an object's outline lies inside of its box, so one of the two is wrong";
    Crowd Remark "crowd"
        ["crowd region (`iscrowd`)" "crowd regions (`iscrowd`)"]
        "not trained on; in evaluation detections inside of them count neither for nor against";
    ImageEmpty Remark "image-empty"
        ["image has no box" "images have no box"]
        "not trained on unless loader.keep_empty=true; measured as pictures with nothing to find";
    CategoryUnused Remark "category-unused"
        ["category has no box in its split" "categories have no box in their split"]
        "its AP can't be measured";
    CategoryNotTrained Remark "category-not-trained"
        ["category has boxes in another split but none in train" "categories have boxes in another split but none in train"]
        "it can't be learnt: its AP will be 0";
    CategoryNamesAlike Remark "category-names-alike"
        ["category is named like another but for capitals or spaces" "categories are named like another but for capitals or spaces"]
        "if they are one class, use one id";
}

/// Findings of one kind that are kept with their places; beyond that they are only counted, so that a
/// data set with everything wrong does not fill the memory.
pub const KEPT_PER_KIND: usize = 100_000;

/// Findings by kind, errors first.
#[derive(Debug, Default)]
pub struct Findings {
    by_kind: BTreeMap<Kind, Group>,
}

/// All findings of one kind.
#[derive(Debug, Default)]
pub struct Group {
    /// How many there are.
    pub count: usize,
    /// How many there are in each split, in the order in which splits were checked.
    pub by_split: Vec<(String, usize)>,
    /// Where; the first [`KEPT_PER_KIND`].
    pub kept: Vec<Finding>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, kind: Kind, finding: Finding) {
        let group = self.by_kind.entry(kind).or_default();
        group.count += 1;
        match group
            .by_split
            .iter_mut()
            .find(|(split, _)| *split == finding.split)
        {
            Some((_, count)) => *count += 1,
            None => group.by_split.push((finding.split.clone(), 1)),
        }
        if group.kept.len() < KEPT_PER_KIND {
            group.kept.push(finding);
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

    /// How many findings of this severity there are.
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
    fn keys_are_unique_and_errors_come_before_remarks() {
        let mut keys: Vec<_> = Kind::ALL.iter().map(|kind| kind.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), Kind::ALL.len());
        let severities: Vec<_> = Kind::ALL.iter().map(|kind| kind.severity()).collect();
        assert!(severities.is_sorted());
    }

    #[test]
    fn only_so_many_places_are_kept_but_all_are_counted() {
        let mut findings = Findings::default();
        for id in 0..KEPT_PER_KIND as u64 + 5 {
            let finding = Finding {
                split: "train".into(),
                file: None,
                image_id: None,
                annotation_id: Some(id),
                detail: String::new(),
            };
            findings.add(Kind::BoxZero, finding);
        }
        let group = findings.of(Kind::BoxZero).unwrap();
        assert_eq!(group.count, KEPT_PER_KIND + 5);
        assert_eq!(group.kept.len(), KEPT_PER_KIND);
        assert_eq!(findings.count(Severity::Error), KEPT_PER_KIND + 5);
        assert_eq!(findings.count(Severity::Remark), 0);
    }
}
