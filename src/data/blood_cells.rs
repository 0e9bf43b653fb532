//! BCCD: 364 microscope photographs of blood with red cells, white cells and platelets (MIT).
//!
//! From <https://github.com/Shenggan/BCCD_Dataset> at a fixed commit, with that repository's own
//! split, converted from Pascal VOC to COCO. The bytes of the archive may differ from one day to
//! the next, because it is packed on request, so not the archive but what comes out of it is
//! checked: every image byte and every box.

use super::download::{Download, DownloadError, sha256_hex};
use super::formats::voc::{self, VocError, VocObject};
use crate::atomic::write_atomically;
use crate::boxes::ImageSize;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// Where archives of GitHub repositories are served.
pub const BASE_URL: &str = "https://codeload.github.com";
/// The commit of 2019-11-21.
const COMMIT: &str = "d272fb14cdff6e473fafeeeba32aba5f560e9e43";
const SPLITS: [&str; 3] = ["train", "val", "test"];
/// In the order of their category ids, from 1.
const CATEGORIES: [&str; 3] = ["RBC", "WBC", "Platelets"];
/// Of the sorted lines `SHA-256 FILE` of all images.
const IMAGES_SHA256: &str = "f7dc9f06dd91b5cfc8c8a4ee7b0a8c8c85864c73ad588e07772c30ee595364dd";
/// Of the sorted lines `SPLIT FILE CLASS X Y WIDTH HEIGHT` of all boxes.
const BOXES_SHA256: &str = "3136ba2208e8f819add83487c7a315444d09e6b473b65def92c87fa639288a87";
/// The archive holds about 8 MiB; anything far above is something else.
const MAX_BYTES: u64 = 64 << 20;
const SOURCE_FILE: &str = "SOURCE.txt";
const SOURCE_TITLE: &str = "BCCD: blood cell count and detection";

/// What lies in the folder after [`download_blood_cells`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BloodCellsSummary {
    /// The folder: `images/`, `train.json`, `val.json`, `test.json`, `LICENSE`, `SOURCE.txt`.
    pub directory: PathBuf,
    /// Images in train, val and test.
    pub images: [usize; 3],
    /// Boxes in train, val and test.
    pub boxes: [usize; 3],
    /// The folder was complete before, and nothing was fetched.
    pub already_there: bool,
}

/// Why the data set could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum BloodCellsError {
    /// The archive could not be fetched.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The archive could not be unpacked or lacks something.
    #[error("{url}: the archive is broken ({reason}); it was removed, run again to fetch it anew")]
    Archive {
        /// The address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// An annotation in the archive could not be read.
    #[error(transparent)]
    Annotation(#[from] VocError),
    /// What came out is not the data set that was expected.
    #[error(
        "{url}: the {what} are not those of BCCD at commit {COMMIT} (SHA-256 {found}, expected {expected}); the archive was removed, run again, or fetch from {BASE_URL}"
    )]
    Content {
        /// The address.
        url: String,
        /// `images` or `boxes`.
        what: &'static str,
        /// In hexadecimal.
        found: String,
        /// In hexadecimal.
        expected: &'static str,
    },
    /// The folder holds another data set.
    #[error(
        "{} already exists and is not from BCCD; choose an empty folder", path.display()
    )]
    Occupied {
        /// The file or folder in the way.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}; check free space and permissions", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Fetch BCCD from `base_url` ([`BASE_URL`] unless a mirror is wanted) into `directory`, check it
/// and convert it to COCO. A complete folder is recognised by its content and kept; an interrupted
/// run goes on where it can. `progress` hears the bytes in hand and the length if known.
///
/// # Errors
/// See [`BloodCellsError`]. Nothing but the archive is written before its content has been checked.
pub fn download_blood_cells(
    directory: &Path,
    base_url: &str,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<BloodCellsSummary, BloodCellsError> {
    if let Some(there) = BloodCells::from_folder(directory)
        && there.images_sha256() == IMAGES_SHA256
        && there.boxes_sha256() == BOXES_SHA256
    {
        return Ok(there.summary(directory, true));
    }
    refuse_another_data_set(directory)?;
    let url = format!(
        "{}/Shenggan/BCCD_Dataset/tar.gz/{COMMIT}",
        base_url.trim_end_matches('/')
    );
    let archive = directory.join("bccd.tar.gz");
    Download {
        url: url.clone(),
        destination: archive.clone(),
        sha256: None,
        max_bytes: Some(MAX_BYTES),
    }
    .run(progress)?;
    let cells = fs::read(&archive)
        .map_err(|source| BloodCellsError::Disk {
            path: archive.clone(),
            source,
        })
        .and_then(|bytes| checked(&bytes, &url));
    let cells = match cells {
        Ok(cells) => cells,
        Err(error) => {
            // Or the next run would take the bad archive for a finished download.
            let _ = fs::remove_file(&archive);
            return Err(error);
        }
    };
    cells.write(directory)?;
    let _ = fs::remove_file(&archive);
    Ok(cells.summary(directory, false))
}

/// Files of ours beside our `SOURCE.txt` may be replaced, those of another data set never.
fn refuse_another_data_set(directory: &Path) -> Result<(), BloodCellsError> {
    let ours = fs::read_to_string(directory.join(SOURCE_FILE))
        .is_ok_and(|text| text.starts_with(SOURCE_TITLE));
    let mut names = SPLITS.map(|split| format!("{split}.json")).to_vec();
    names.extend(["images", "LICENSE", SOURCE_FILE].map(str::to_owned));
    let in_the_way = names
        .iter()
        .map(|name| directory.join(name))
        .find(|path| path.exists());
    match in_the_way {
        Some(path) if !ours => Err(BloodCellsError::Occupied { path }),
        _ => Ok(()),
    }
}

fn checked(archive: &[u8], url: &str) -> Result<BloodCells, BloodCellsError> {
    let broken = |reason: String| BloodCellsError::Archive {
        url: url.to_owned(),
        reason,
    };
    let files = unpack(archive).map_err(|error| broken(error.to_string()))?;
    let cells = BloodCells::from_files(files, &broken)?;
    for (what, found, expected) in [
        ("images", cells.images_sha256(), IMAGES_SHA256),
        ("boxes", cells.boxes_sha256(), BOXES_SHA256),
    ] {
        if found != expected {
            return Err(BloodCellsError::Content {
                url: url.to_owned(),
                what,
                found,
                expected,
            });
        }
    }
    Ok(cells)
}

/// The wanted files of the archive, by their path below its one folder. They stay in memory: no
/// path of the archive ever reaches the disk unchecked.
fn unpack(archive: &[u8]) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let plain = flate2::read::GzDecoder::new(archive).take(2 * MAX_BYTES);
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(plain).entries()? {
        let mut entry = entry?;
        let Some(name) = wanted(&entry.path()?) else {
            continue;
        };
        if entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            files.insert(name, bytes);
        }
    }
    Ok(files)
}

/// `BCCD/JPEGImages/a.jpg` of `ANYTHING/BCCD/JPEGImages/a.jpg`; `None` for files that are not
/// needed and for paths that leave the archive's folder.
fn wanted(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    match parts.get(1..)? {
        ["LICENSE"]
        | ["BCCD", "Annotations" | "JPEGImages", _]
        | ["BCCD", "ImageSets", "Main", _] => Some(parts[1..].join("/")),
        _ => None,
    }
}

/// The whole data set: annotations per split in the order of [`SPLITS`], and the image files.
struct BloodCells {
    splits: [CocoFile; 3],
    images: BTreeMap<String, Vec<u8>>,
    license: Vec<u8>,
}

impl BloodCells {
    fn from_files(
        mut files: BTreeMap<String, Vec<u8>>,
        broken: &dyn Fn(String) -> BloodCellsError,
    ) -> Result<Self, BloodCellsError> {
        let mut take = |name: &str| {
            files
                .remove(name)
                .ok_or_else(|| broken(format!("{name} is missing")))
        };
        let mut take_text = |name: &str| {
            String::from_utf8(take(name)?).map_err(|_| broken(format!("{name} is not text")))
        };
        let mut annotated: [Vec<(String, voc::VocImage)>; 3] = Default::default();
        for (split, images) in SPLITS.iter().zip(&mut annotated) {
            let list = take_text(&format!("BCCD/ImageSets/Main/{split}.txt"))?;
            let mut names: Vec<&str> = list
                .lines()
                .filter_map(|line| line.split_whitespace().next())
                .collect();
            names.sort_unstable();
            for name in names {
                let path = format!("BCCD/Annotations/{name}.xml");
                let image = voc::parse(&take_text(&path)?, Path::new(&path))?;
                images.push((format!("{name}.jpg"), image));
            }
        }
        let license = take("LICENSE")?;
        let mut images = BTreeMap::new();
        let mut splits: [CocoFile; 3] = Default::default();
        for ((split, annotated), coco) in SPLITS.iter().zip(annotated).zip(&mut splits) {
            *coco = CocoFile::new(split);
            for (file_name, image) in annotated {
                let bytes = take(&format!("BCCD/JPEGImages/{file_name}"))?;
                // From the picture itself: some annotation tools write 0 for the size.
                let size = image_size(&bytes)
                    .map_err(|error| broken(format!("{file_name} is not a picture ({error})")))?;
                coco.push(&file_name, size, &image.objects)
                    .map_err(broken)?;
                images.insert(file_name, bytes);
            }
        }
        Ok(Self {
            splits,
            images,
            license,
        })
    }

    /// What lies in the folder, `None` if anything is missing or unreadable.
    fn from_folder(directory: &Path) -> Option<Self> {
        fs::metadata(directory.join(SOURCE_FILE)).ok()?;
        let license = fs::read(directory.join("LICENSE")).ok()?;
        let mut splits: [CocoFile; 3] = Default::default();
        let mut images = BTreeMap::new();
        for (split, coco) in SPLITS.iter().zip(&mut splits) {
            let text = fs::read(directory.join(format!("{split}.json"))).ok()?;
            *coco = serde_json::from_slice(&text).ok()?;
            for image in &coco.images {
                let path = directory.join("images").join(&image.file_name);
                images.insert(image.file_name.clone(), fs::read(path).ok()?);
            }
        }
        Some(Self {
            splits,
            images,
            license,
        })
    }

    fn images_sha256(&self) -> String {
        let lines = self.images.iter();
        sha256_of_sorted(lines.map(|(name, bytes)| format!("{} {name}\n", sha256_hex(bytes))))
    }

    fn boxes_sha256(&self) -> String {
        let lines = SPLITS.iter().zip(&self.splits);
        sha256_of_sorted(lines.flat_map(|(split, coco)| coco.lines(split)))
    }

    fn summary(&self, directory: &Path, already_there: bool) -> BloodCellsSummary {
        BloodCellsSummary {
            directory: directory.to_owned(),
            images: self.splits.each_ref().map(|coco| coco.images.len()),
            boxes: self.splits.each_ref().map(|coco| coco.annotations.len()),
            already_there,
        }
    }

    fn write(&self, directory: &Path) -> Result<(), BloodCellsError> {
        // First, so that a run that is cut off here knows its own files again.
        write_whole(&directory.join(SOURCE_FILE), source_text().as_bytes())?;
        write_whole(&directory.join("LICENSE"), &self.license)?;
        for (name, bytes) in &self.images {
            write_whole(&directory.join("images").join(name), bytes)?;
        }
        for (split, coco) in SPLITS.iter().zip(&self.splits) {
            let path = directory.join(format!("{split}.json"));
            let text = serde_json::to_vec(coco).map_err(|error| BloodCellsError::Disk {
                path: path.clone(),
                source: error.into(),
            })?;
            write_whole(&path, &text)?;
        }
        Ok(())
    }
}

/// From the header of an encoded picture.
fn image_size(bytes: &[u8]) -> image::ImageResult<ImageSize> {
    let reader = image::ImageReader::new(io::Cursor::new(bytes)).with_guessed_format()?;
    let (width, height) = reader.into_dimensions()?;
    Ok(ImageSize::new(height as usize, width as usize))
}

fn sha256_of_sorted(lines: impl Iterator<Item = String>) -> String {
    let mut lines: Vec<String> = lines.collect();
    lines.sort_unstable();
    sha256_hex(lines.concat().as_bytes())
}

/// Whole or not at all; makes the folder.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BloodCellsError> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        write_atomically(path, |out| out.write_all(bytes))
    };
    write().map_err(|source| BloodCellsError::Disk {
        path: path.to_owned(),
        source,
    })
}

fn source_text() -> String {
    format!(
        "{SOURCE_TITLE} (microscope photographs, JPEG)
from     https://github.com/Shenggan/BCCD_Dataset, commit {COMMIT} (2019-11-21)
licence  MIT, see LICENSE
changed  images untouched; Pascal VOC turned into COCO: box = [xmin, ymin, xmax - xmin, ymax - ymin],
         area = width * height; boxes with a side under 1 px left out
note     not every red cell is annotated, so the precision of RBC cannot reach 1
"
    )
}

/// The parts of a COCO instances file that BCCD needs.
#[derive(Default, Serialize, Deserialize)]
struct CocoFile {
    info: CocoInfo,
    licenses: Vec<String>,
    images: Vec<CocoImage>,
    annotations: Vec<CocoAnnotation>,
    categories: Vec<CocoCategory>,
}

#[derive(Default, Serialize, Deserialize)]
struct CocoInfo {
    description: String,
}

#[derive(Serialize, Deserialize)]
struct CocoImage {
    id: u64,
    file_name: String,
    width: usize,
    height: usize,
}

#[derive(Serialize, Deserialize)]
struct CocoAnnotation {
    id: u64,
    image_id: u64,
    category_id: u64,
    bbox: [f32; 4],
    area: f32,
    iscrowd: u8,
    segmentation: Vec<Vec<f32>>,
}

#[derive(Serialize, Deserialize)]
struct CocoCategory {
    id: u64,
    name: String,
    supercategory: String,
}

impl CocoFile {
    fn new(split: &str) -> Self {
        Self {
            info: CocoInfo {
                description: format!("BCCD {split}"),
            },
            categories: (1..)
                .zip(CATEGORIES)
                .map(|(id, name)| CocoCategory {
                    id,
                    name: name.into(),
                    supercategory: "none".into(),
                })
                .collect(),
            ..Self::default()
        }
    }

    /// Add an image with its objects; an unknown class is an error.
    fn push(
        &mut self,
        file_name: &str,
        size: ImageSize,
        objects: &[VocObject],
    ) -> Result<(), String> {
        let image_id = self.images.len() as u64 + 1;
        self.images.push(CocoImage {
            id: image_id,
            file_name: file_name.to_owned(),
            width: size.width,
            height: size.height,
        });
        for object in objects {
            let category_id = (1..)
                .zip(CATEGORIES)
                .find_map(|(id, name)| (name == object.name).then_some(id))
                .ok_or_else(|| format!("{file_name} has an unknown class {:?}", object.name))?;
            if object.box_in_image.has_sides_of(1.0) {
                self.annotations.push(CocoAnnotation {
                    id: self.annotations.len() as u64 + 1,
                    image_id,
                    category_id,
                    bbox: object.box_in_image.to_xywh(),
                    area: object.box_in_image.area(),
                    iscrowd: 0,
                    segmentation: Vec::new(),
                });
            }
        }
        Ok(())
    }

    /// `SPLIT FILE CLASS X Y WIDTH HEIGHT` of each box.
    fn lines(&self, split: &str) -> Vec<String> {
        let files: BTreeMap<u64, &str> = self
            .images
            .iter()
            .map(|image| (image.id, image.file_name.as_str()))
            .collect();
        let classes: BTreeMap<u64, &str> = self
            .categories
            .iter()
            .map(|category| (category.id, category.name.as_str()))
            .collect();
        self.annotations
            .iter()
            .map(|annotation| {
                let file = files.get(&annotation.image_id).unwrap_or(&"?");
                let class = classes.get(&annotation.category_id).unwrap_or(&"?");
                let [x, y, width, height] = annotation.bbox;
                format!("{split} {file} {class} {x} {y} {width} {height}\n")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_needed_files_below_the_archives_own_folder_are_wanted() {
        for (path, expected) in [
            ("x/LICENSE", Some("LICENSE")),
            ("x/BCCD/JPEGImages/a.jpg", Some("BCCD/JPEGImages/a.jpg")),
            ("x/./BCCD/Annotations/a.xml", Some("BCCD/Annotations/a.xml")),
            (
                "x/BCCD/ImageSets/Main/val.txt",
                Some("BCCD/ImageSets/Main/val.txt"),
            ),
            ("x/BCCD/JPEGImages/../../../etc/passwd", None),
            ("../BCCD/JPEGImages/a.jpg", None),
            ("/BCCD/JPEGImages/a.jpg", None),
            ("x/BCCD/JPEGImages/deep/a.jpg", None),
            ("x/README.md", None),
            ("LICENSE", None),
        ] {
            assert_eq!(wanted(Path::new(path)).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn boxes_keep_their_order_and_those_under_one_pixel_are_left_out() {
        let xml = "<annotation><filename>a</filename>
            <size><width>64</width><height>48</height></size>
            <object><name>Platelets</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>8</ymax></bndbox></object>
            <object><name>RBC</name><bndbox><xmin>5</xmin><ymin>2</ymin><xmax>5</xmax><ymax>8</ymax></bndbox></object>
            <object><name>WBC</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></object>
            </annotation>";
        let image = voc::parse(xml, Path::new("a.xml")).unwrap();
        let mut coco = CocoFile::new("val");
        coco.push("a.jpg", image.size, &image.objects).unwrap();
        assert_eq!(
            coco.lines("val"),
            ["val a.jpg Platelets 1 2 3 6\n", "val a.jpg WBC 0 0 1 1\n"]
        );
        let unknown = voc::parse(&xml.replace("WBC", "Cat"), Path::new("a.xml")).unwrap();
        assert!(
            coco.push("b.jpg", unknown.size, &unknown.objects)
                .unwrap_err()
                .contains("\"Cat\"")
        );
    }
}
