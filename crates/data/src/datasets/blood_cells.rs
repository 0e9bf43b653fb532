//! BCCD: 364 microscope photographs of blood with red cells, white cells and platelets (MIT).
//!
//! From <https://github.com/Shenggan/BCCD_Dataset> at a fixed commit, with that repository's own
//! split, converted from Pascal VOC to COCO. The bytes of the archive may differ from one day to
//! the next, because it is packed on request, so the unpacked contents are checked instead of the
//! archive: every image byte and every box.

use crate::DataError;
use crate::annotations::coco::{read_coco, write_coco_to};
use crate::annotations::voc;
use crate::annotations::voc_lists::listed;
use crate::annotations::{AnnotationStore, AnnotationStoreBuilder, NewAnnotation};
use crate::atomic::write_atomically;
use crate::datasets::download::{Download, sha256_hex};
use crate::datasets::sources::FetchError;
use crate::images::decode::image_size_of_bytes;
use crate::text::printable;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// Base URL of GitHub repository archives.
pub const BASE_URL: &str = "https://codeload.github.com";
/// The commit, of 2019-11-21.
const COMMIT: &str = "d272fb14cdff6e473fafeeeba32aba5f560e9e43";
const SPLITS: [&str; 3] = ["train", "val", "test"];
/// The archive's VOC directory.
const VOC_ROOT: &str = "BCCD";
/// The category names; ids are counted from 1 in this order.
const CATEGORIES: [&str; 3] = ["RBC", "WBC", "Platelets"];
/// Minimum side in pixels; boxes with a shorter side are degenerate for training.
const MIN_SIDE: f32 = 1.0;
/// Hash of the sorted lines `SHA-256 FILE` of all images.
const IMAGES_SHA256: &str = "f7dc9f06dd91b5cfc8c8a4ee7b0a8c8c85864c73ad588e07772c30ee595364dd";
/// Hash of the sorted lines `SPLIT FILE CLASS X Y WIDTH HEIGHT` of all boxes.
const BOXES_SHA256: &str = "3136ba2208e8f819add83487c7a315444d09e6b473b65def92c87fa639288a87";
/// Size limit of the archive, which has about 8 MiB; a much larger file is something else.
const MAX_BYTES: u64 = 64 << 20;
const ARCHIVE: &str = "bccd.tar.gz";
const SOURCE_FILE: &str = "SOURCE.txt";
const SOURCE_TITLE: &str = "BCCD: blood cell count and detection";

/// The content of the directory after [`download_blood_cells`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BloodCellsSummary {
    /// The directory: `images/`, `train.json`, `val.json`, `test.json`, `LICENSE`, `SOURCE.txt`.
    pub directory: PathBuf,
    /// Images in train, val and test.
    pub images: [usize; 3],
    /// Boxes in train, val and test.
    pub boxes: [usize; 3],
    /// Boxes of the source that were skipped because a side is under one pixel; unknown for a
    /// directory that was complete before (see its `SOURCE.txt`).
    pub degenerate_boxes: Option<usize>,
    /// Whether the directory was already complete and nothing was fetched.
    pub already_there: bool,
}

/// Downloads BCCD from `base_url` ([`BASE_URL`], or a mirror) into `directory`, verifies it and
/// converts it to COCO. A complete directory is recognized by its content and kept; an interrupted
/// download is resumed where possible. `progress` receives the number of bytes received and the
/// total length, if known.
///
/// # Errors
/// See [`FetchError`]. Nothing but the archive is written before its content has been checked.
pub fn download_blood_cells(
    directory: &Path,
    base_url: &str,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<BloodCellsSummary, FetchError> {
    if let Some(there) = BloodCells::from_directory(directory)
        && there.images_sha256() == IMAGES_SHA256
        && there.boxes_sha256() == BOXES_SHA256
    {
        // Left over from a run that was interrupted just before its end.
        let _ = fs::remove_file(directory.join(ARCHIVE));
        return Ok(there.summary(directory, true));
    }
    refuse_another_dataset(directory)?;
    let url = format!(
        "{}/Shenggan/BCCD_Dataset/tar.gz/{COMMIT}",
        base_url.trim_end_matches('/')
    );
    let archive = directory.join(ARCHIVE);
    Download {
        max_bytes: Some(MAX_BYTES),
        ..Download::new(&url, &archive)
    }
    .run(progress)?;
    let cells = fs::read(&archive)
        .map_err(|source| FetchError::Disk {
            path: archive.clone(),
            source,
        })
        .and_then(|bytes| checked(&bytes, &archive));
    let cells = match cells {
        Ok(cells) => cells,
        Err(error) => {
            // Otherwise the next run would treat the bad archive as a finished download.
            let _ = fs::remove_file(&archive);
            return Err(error);
        }
    };
    cells.write(directory)?;
    let _ = fs::remove_file(&archive);
    Ok(cells.summary(directory, false))
}

/// Fails if the directory contains files that are not from BCCD (according to its `SOURCE.txt`);
/// only files of an earlier download may be replaced.
fn refuse_another_dataset(directory: &Path) -> Result<(), FetchError> {
    let is_bccd = fs::read_to_string(directory.join(SOURCE_FILE))
        .is_ok_and(|text| text.starts_with(SOURCE_TITLE));
    let mut names = SPLITS.map(|split| format!("{split}.json")).to_vec();
    names.extend(["images", "LICENSE", SOURCE_FILE].map(str::to_owned));
    let in_the_way = names
        .iter()
        .map(|name| directory.join(name))
        .find(|path| path.exists());
    match in_the_way {
        Some(path) if !is_bccd => Err(FetchError::OtherDataset { path, name: "BCCD" }),
        _ => Ok(()),
    }
}

/// Unpacks the bytes of the archive in `file`, and compares the contents with those that are expected.
fn checked(bytes: &[u8], file: &Path) -> Result<BloodCells, FetchError> {
    let unusable = |reason: String| FetchError::Archive {
        archive: file.to_owned(),
        reason,
    };
    let broken = |reason: String| unusable(format!("the archive is broken ({reason})"));
    let files = unpack(bytes).map_err(|error| broken(error.to_string()))?;
    let cells = BloodCells::from_files(files, &broken)?;
    for (what, found, expected) in [
        ("images", cells.images_sha256(), IMAGES_SHA256),
        ("boxes", cells.boxes_sha256(), BOXES_SHA256),
    ] {
        if found != expected {
            return Err(unusable(format!(
                "the {what} are not those of BCCD at commit {COMMIT} (SHA-256 {found}, expected {expected})"
            )));
        }
    }
    Ok(cells)
}

/// Reads the required files of the archive, by their path below its top directory. They stay in
/// memory, so that no unchecked path of the archive is written to disk.
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

/// Returns `BCCD/JPEGImages/a.jpg` for `ANYTHING/BCCD/JPEGImages/a.jpg`; `None` for files that are
/// not needed and for paths that leave the archive's directory.
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

/// The whole dataset: annotations per split in the order of [`SPLITS`], and the image files.
struct BloodCells {
    splits: [AnnotationStore; 3],
    images: BTreeMap<String, Vec<u8>>,
    license: Vec<u8>,
    degenerate_boxes: Option<usize>,
}

impl BloodCells {
    fn from_files(
        mut files: BTreeMap<String, Vec<u8>>,
        broken: &dyn Fn(String) -> FetchError,
    ) -> Result<Self, FetchError> {
        let mut degenerate_boxes = 0;
        let mut read = |split| {
            let (store, degenerate) =
                read_split(&files, split).map_err(|error| broken(error.to_string()))?;
            degenerate_boxes += degenerate;
            Ok::<_, FetchError>(store)
        };
        let [train, val, test] = SPLITS;
        let splits = [read(train)?, read(val)?, read(test)?];
        let mut take = |name: &str| {
            files
                .remove(name)
                .ok_or_else(|| broken(format!("{name} is missing")))
        };
        let license = take("LICENSE")?;
        let names: BTreeSet<&str> = splits.iter().flat_map(file_names).collect();
        let images = names
            .into_iter()
            .map(|name| {
                let bytes = take(&format!("{VOC_ROOT}/JPEGImages/{name}"))?;
                Ok((name.to_owned(), bytes))
            })
            .collect::<Result<_, FetchError>>()?;
        Ok(Self {
            splits,
            images,
            license,
            degenerate_boxes: Some(degenerate_boxes),
        })
    }

    /// Reads the directory; `None` if anything is missing or unreadable.
    fn from_directory(directory: &Path) -> Option<Self> {
        fs::metadata(directory.join(SOURCE_FILE)).ok()?;
        let license = fs::read(directory.join("LICENSE")).ok()?;
        let read = |split| read_coco(&directory.join(format!("{split}.json"))).ok();
        let [train, val, test] = SPLITS;
        let splits = [read(train)?, read(val)?, read(test)?];
        let mut images = BTreeMap::new();
        for name in splits.iter().flat_map(file_names) {
            let path = directory.join("images").join(name);
            images.insert(name.to_owned(), fs::read(path).ok()?);
        }
        Some(Self {
            splits,
            images,
            license,
            degenerate_boxes: None,
        })
    }

    fn images_sha256(&self) -> String {
        let lines = self.images.iter();
        sha256_of_sorted(lines.map(|(name, bytes)| format!("{} {name}\n", sha256_hex(bytes))))
    }

    fn boxes_sha256(&self) -> String {
        let lines = SPLITS.iter().zip(&self.splits);
        sha256_of_sorted(lines.flat_map(|(split, store)| box_lines(split, store)))
    }

    fn summary(&self, directory: &Path, already_there: bool) -> BloodCellsSummary {
        BloodCellsSummary {
            directory: directory.to_owned(),
            images: self.splits.each_ref().map(AnnotationStore::image_count),
            boxes: self
                .splits
                .each_ref()
                .map(AnnotationStore::annotation_count),
            degenerate_boxes: self.degenerate_boxes,
            already_there,
        }
    }

    fn write(&self, directory: &Path) -> Result<(), FetchError> {
        // Written first, so that the next run recognizes the files of an interrupted one.
        write_whole(
            &directory.join(SOURCE_FILE),
            source_text(self.degenerate_boxes).as_bytes(),
        )?;
        write_whole(&directory.join("LICENSE"), &self.license)?;
        for (name, bytes) in &self.images {
            write_whole(&directory.join("images").join(name), bytes)?;
        }
        for (split, store) in SPLITS.iter().zip(&self.splits) {
            let path = directory.join(format!("{split}.json"));
            write_atomically(&path, |mut out| write_coco_to(store, &mut out))
                .map_err(|source| FetchError::Disk { path, source })?;
        }
        Ok(())
    }
}

fn sha256_of_sorted(lines: impl Iterator<Item = String>) -> String {
    let mut lines: Vec<String> = lines.collect();
    lines.sort_unstable();
    sha256_hex(lines.concat().as_bytes())
}

/// Writes a file atomically and creates its directory.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    let write = || {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        write_atomically(path, |out| out.write_all(bytes))
    };
    write().map_err(|source| FetchError::Disk {
        path: path.to_owned(),
        source,
    })
}

fn source_text(degenerate_boxes: Option<usize>) -> String {
    let skipped = degenerate_boxes.map_or("boxes".into(), |count| format!("{count} boxes"));
    format!(
        "{SOURCE_TITLE} (microscope photographs, JPEG)
from     https://github.com/Shenggan/BCCD_Dataset, commit {COMMIT} (2019-11-21)
license  MIT, see LICENSE
changed  images unchanged; Pascal VOC converted to COCO: box = [xmin, ymin, xmax - xmin, ymax - ymin],
         area = width * height; {skipped} with a side under 1 px skipped
note     not every red cell is annotated, so the precision of RBC cannot reach 1
"
    )
}

fn file_names(store: &AnnotationStore) -> impl Iterator<Item = &str> {
    (0..store.image_count()).map(|index| store.image(index).file_name)
}

/// Reads the images that `ImageSets/Main/SPLIT.txt` lists. Images are sorted by name; ids count from 1.
/// Sizes are read from the images: some annotations state others. Returns also the number of boxes that
/// were dropped because a side is shorter than [`MIN_SIDE`].
fn read_split(
    files: &BTreeMap<String, Vec<u8>>,
    split: &str,
) -> Result<(AnnotationStore, usize), DataError> {
    let file = |name: String| {
        let path = format!("{VOC_ROOT}/{name}");
        let missing = || DataError::labels(Path::new(&path), "missing");
        let bytes = files.get(&path).ok_or_else(missing)?;
        Ok::<_, DataError>((bytes, PathBuf::from(path)))
    };
    let mut builder = AnnotationStoreBuilder::new();
    for (id, name) in (1..).zip(CATEGORIES) {
        builder.add_category(id, name);
    }
    let (list, list_path) = file(format!("ImageSets/Main/{split}.txt"))?;
    let list = String::from_utf8_lossy(list);
    let (mut boxes, mut degenerate) = (0, 0);
    for (image_id, name) in (1..).zip(listed(&list)) {
        let (image, image_path) = file(format!("JPEGImages/{name}.jpg"))?;
        let size = image_size_of_bytes(image, &image_path)?;
        builder.add_image(image_id, &format!("{name}.jpg"), size);
        let (xml, path) = file(format!("Annotations/{name}.xml"))?;
        for object in voc::parse(&String::from_utf8_lossy(xml), &path)?.objects {
            let class = CATEGORIES.iter().position(|known| *known == object.name);
            let class = class.ok_or_else(|| {
                DataError::labels(
                    &path,
                    format!("unknown class `{}`", printable(&object.name)),
                )
            })?;
            let xywh = object.box_in_image.to_xywh();
            if !(xywh[2] >= MIN_SIDE && xywh[3] >= MIN_SIDE) {
                degenerate += 1;
                continue;
            }
            boxes += 1;
            builder.add_annotation(NewAnnotation {
                id: boxes,
                image_id,
                category_id: class as u64 + 1,
                xywh,
                area: None,
                is_crowd: false,
            });
        }
    }
    let store = builder.build().map_err(|source| DataError::Annotations {
        path: list_path,
        source,
    })?;
    Ok((store, degenerate))
}

/// Formats `SPLIT FILE CLASS X Y WIDTH HEIGHT` for each box.
fn box_lines(split: &str, store: &AnnotationStore) -> Vec<String> {
    let images = 0..store.image_count();
    let lines = images.flat_map(|index| {
        let file = store.image(index).file_name;
        let boxes = store.annotations(index).zip(store.boxes_xywh(index));
        boxes.map(move |(annotation, [x, y, width, height])| {
            let class = &store.categories()[annotation.class].name;
            format!("{split} {file} {class} {x} {y} {width} {height}\n")
        })
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_needed_files_below_the_archives_own_directory_are_wanted() {
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
}
