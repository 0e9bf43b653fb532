//! A COCO JSON file from a Pascal VOC archive, as the blood cells dataset is distributed.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::annotations::format::SplitEntries;
use crate::annotations::voc_directory::{StatedSize, VocDirectory, entries_of};
use crate::atomic::write_atomically;

/// Minimum side in pixels; boxes with a shorter side are degenerate for training.
pub const MIN_SIDE: f32 = 1.0;

/// Converts the images that `ImageSets/Main/SPLIT.txt` lists. A name listed twice counts once.
///
/// Categories get the ids 1, 2, ... in the order of `categories`. Images are sorted by file name,
/// boxes are in the order of their annotation; ids count from 1. Image sizes are read from the
/// images, not from the annotations. Returns the file and the number of boxes that were dropped
/// because a side is shorter than [`MIN_SIDE`].
///
/// # Errors
/// An annotation, a list or an image is missing or wrong.
pub fn convert_split(
    directory: VocDirectory,
    split: &str,
    categories: &[&str],
) -> Result<(CocoFile, usize), DataError> {
    let names = directory.listed(split)?;
    let classes = categories.iter().map(|name| (*name).to_owned()).collect();
    let mut entries = entries_of(directory, &names, classes, StatedSize::Ignored);
    if !entries.problems.is_empty() {
        return Err(entries.problems.swap_remove(0).error);
    }
    Ok(CocoFile::of(split, &entries))
}

/// A COCO JSON file with the fields that VOC provides.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CocoFile {
    /// Information about the file.
    pub info: CocoInfo,
    /// Empty: VOC has no licenses.
    pub licenses: Vec<String>,
    /// The images.
    pub images: Vec<CocoImage>,
    /// The boxes.
    pub annotations: Vec<CocoAnnotation>,
    /// The classes.
    pub categories: Vec<CocoCategory>,
}

/// Information about a [`CocoFile`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CocoInfo {
    /// The split.
    pub description: String,
}

/// An image of a [`CocoFile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CocoImage {
    /// The id, counted from 1.
    pub id: u64,
    /// The file name without its directory.
    pub file_name: String,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

/// A box of a [`CocoFile`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CocoAnnotation {
    /// The id, counted from 1.
    pub id: u64,
    /// The image's id.
    pub image_id: u64,
    /// The class's id.
    pub category_id: u64,
    /// `[x, y, width, height]` in pixels of the image.
    pub bbox: [f32; 4],
    /// Width times height, in square pixels.
    pub area: f32,
    /// Always 0: a single object.
    pub iscrowd: u8,
    /// Empty: VOC has boxes only.
    pub segmentation: Vec<Vec<f32>>,
}

/// A class of a [`CocoFile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CocoCategory {
    /// The id, counted from 1.
    pub id: u64,
    /// The class name.
    pub name: String,
    /// `none`: VOC has no groups of classes.
    pub supercategory: String,
}

impl CocoFile {
    fn of(description: &str, entries: &SplitEntries) -> (Self, usize) {
        let categories = (1..).zip(&entries.categories);
        let mut coco = Self {
            info: CocoInfo {
                description: description.to_owned(),
            },
            categories: categories
                .map(|(id, name)| CocoCategory {
                    id,
                    name: name.clone(),
                    supercategory: "none".to_owned(),
                })
                .collect(),
            ..Self::default()
        };
        let mut degenerate = 0;
        for (image_id, image) in (1..).zip(&entries.images) {
            for found in &image.boxes {
                let Some(bbox @ [_, _, width, height]) = found.xywh else {
                    continue;
                };
                if !(width >= MIN_SIDE && height >= MIN_SIDE) {
                    degenerate += 1;
                    continue;
                }
                coco.annotations.push(CocoAnnotation {
                    id: coco.annotations.len() as u64 + 1,
                    image_id,
                    category_id: found.class as u64 + 1,
                    bbox,
                    area: width * height,
                    iscrowd: 0,
                    segmentation: Vec::new(),
                });
            }
            coco.images.extend(image.size.map(|size| CocoImage {
                id: image_id,
                file_name: image.file_name.clone(),
                width: size.width,
                height: size.height,
            }));
        }
        (coco, degenerate)
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_atomically(path, |out| Ok(serde_json::to_writer(out, self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_archive_in_memory_becomes_coco_without_its_degenerate_boxes() {
        let mut image = io::Cursor::new(Vec::new());
        image::RgbImage::new(12, 9)
            .write_to(&mut image, image::ImageFormat::Jpeg)
            .unwrap();
        // The annotation states another size.
        let annotation = "<annotation><filename>a</filename>
            <size><width>9</width><height>12</height></size>
            <object><name>cat</name>
            <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>8</ymax></bndbox></object>
            <object><name>dog</name>
            <bndbox><xmin>5</xmin><ymin>2</ymin><xmax>5.9</xmax><ymax>8</ymax></bndbox></object>
            <object><name>dog</name>
            <bndbox><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></object>
            </annotation>";
        let mut files = BTreeMap::new();
        files.insert(
            "VOC/ImageSets/Main/val.txt".to_owned(),
            b"a\r\na 1\n".to_vec(),
        );
        files.insert("VOC/Annotations/a.xml".to_owned(), annotation.into());
        files.insert("VOC/JPEGImages/a.jpg".to_owned(), image.into_inner());
        let convert = |categories: &[&str]| {
            let directory = VocDirectory::InMemory {
                files: &files,
                root: "VOC",
            };
            convert_split(directory, "val", categories)
        };
        let (coco, degenerate) = convert(&["dog", "cat"]).unwrap();
        assert_eq!(degenerate, 1);
        let [image] = coco.images.as_slice() else {
            panic!("{:?}", coco.images);
        };
        assert_eq!(
            (image.file_name.as_str(), image.width, image.height),
            ("a.jpg", 12, 9)
        );
        let boxes: Vec<_> = coco
            .annotations
            .iter()
            .map(|a| (a.id, a.image_id, a.category_id, a.bbox, a.area))
            .collect();
        assert_eq!(
            boxes,
            [
                (1, 1, 2, [1.0, 2.0, 3.0, 6.0], 18.0),
                (2, 1, 1, [0.0, 0.0, 1.0, 1.0], 1.0)
            ]
        );
        let written = tempfile::tempdir().unwrap();
        let path = written.path().join("val.json");
        coco.write(&path).unwrap();
        let read: CocoFile = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(read, coco);

        let message = convert(&["dog"]).unwrap_err().to_string();
        assert!(
            message.starts_with("VOC/Annotations/a.xml: unknown class"),
            "{message}"
        );
    }
}
