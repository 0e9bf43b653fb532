//! A detection dataset in another layout: COCO, Pascal VOC and YOLO, each into each.
//!
//! What both sides can say is kept: images, splits, classes by name, boxes (to a thousandth of a
//! pixel), images without boxes. What the other side has no words for is counted and said, see
//! [`Conversion::lost`]. Ids are COCO's alone: from the others images, boxes and classes are numbered
//! from 1.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::AnnotationStore;
use crate::annotations::coco::write_coco_to;
use crate::annotations::layout::{Split, find_directory};
use crate::annotations::voc_to_coco::{
    StatedSize, VocDirectory, VocOptions, VocToCocoError, classes_of, convert_names, find_splits,
    is_voc,
};
use crate::annotations::yolo::{YoloDirectory, data_yaml, labels_of};
use crate::atomic::write_atomically;
use crate::datasets::detection::check_same_categories;

/// A layout of a detection dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `annotations/instances_SPLIT.json` and directories of images.
    Coco,
    /// `Annotations/NAME.xml`, `JPEGImages/`, `ImageSets/Main/SPLIT.txt`.
    Voc,
    /// `data.yaml`, `images/SPLIT/`, `labels/SPLIT/`.
    Yolo,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coco => "COCO",
            Self::Voc => "Pascal VOC",
            Self::Yolo => "YOLO",
        })
    }
}

/// What becomes of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    /// They are copied.
    Copy,
    /// They are linked (hard links, which need no space; on one file system only).
    Link,
    /// They stay where they are, and only annotations are written.
    Leave,
}

/// Why a dataset was not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The source.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A VOC source.
    #[error(transparent)]
    Voc(#[from] VocToCocoError),
    /// The directory is in no layout that is known.
    #[error(
        "{}: neither COCO (annotations/*.json), nor Pascal VOC (Annotations/*.xml), nor YOLO (data.yaml or classes.txt, images/, labels/)",
        root.display()
    )]
    Unknown {
        /// The directory.
        root: PathBuf,
    },
    /// On request.
    #[error("stopped; nothing was written")]
    Stopped,
    /// The output is there already.
    #[error("{}: is there already and not empty; give another --output", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// Two images would get one name.
    #[error(
        "{first} and {second} would both become {name}, since {layout} keeps all images in one directory; rename one"
    )]
    SameName {
        /// An image.
        first: String,
        /// Another.
        second: String,
        /// What both would be called.
        name: String,
        /// The target.
        layout: Layout,
    },
    /// A name that leads out of the dataset.
    #[error(
        "`{name}`: an image's name must stay inside of its directory, without .. and not absolute"
    )]
    Outside {
        /// The file name.
        name: String,
    },
    /// Writing failed.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// One split, read from any layout.
#[derive(Debug)]
pub struct ReadSplit {
    /// Which part of the dataset.
    pub split: Split,
    /// Categories, images, boxes.
    pub store: AnnotationStore,
    /// What file names are relative to.
    pub images: PathBuf,
}

/// A dataset, read from any layout.
#[derive(Debug)]
pub struct ReadDataset {
    /// Where it came from.
    pub layout: Layout,
    /// Its splits.
    pub splits: Vec<ReadSplit>,
    /// What was said and can't be kept, and how often.
    pub lost: BTreeMap<String, usize>,
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conversion {
    /// Splits with images and boxes written.
    pub splits: Vec<(Split, usize, usize)>,
    /// What the target has no words for, and how often it was said.
    pub lost: BTreeMap<String, usize>,
}

impl Layout {
    /// The layout of a directory.
    ///
    /// # Errors
    /// None is recognized, or a description of one is wrong.
    pub fn of(root: &Path) -> Result<Self, ConvertError> {
        if is_voc(root) {
            Ok(Self::Voc)
        } else if find_directory(root).is_ok() {
            Ok(Self::Coco)
        } else if YoloDirectory::find(root)?.is_some() {
            Ok(Self::Yolo)
        } else {
            Err(ConvertError::Unknown {
                root: root.to_owned(),
            })
        }
    }
}

impl ReadDataset {
    /// Reads all splits of a directory.
    ///
    /// # Errors
    /// The layout is unknown, or a file is wrong; it is named.
    pub fn open(root: &Path) -> Result<Self, ConvertError> {
        match Layout::of(root)? {
            Layout::Coco => read_coco(root),
            Layout::Voc => read_voc(root),
            Layout::Yolo => read_yolo(root),
        }
    }
}

fn read_coco(root: &Path) -> Result<ReadDataset, ConvertError> {
    let mut splits = Vec::new();
    for files in find_directory(root).map_err(DataError::from)?.splits {
        let (store, pictures) = files.read()?;
        splits.push(ReadSplit {
            split: files.split,
            store,
            images: pictures,
        });
    }
    Ok(ReadDataset {
        layout: Layout::Coco,
        splits,
        lost: BTreeMap::new(),
    })
}

fn read_voc(root: &Path) -> Result<ReadDataset, ConvertError> {
    let found = find_splits(root)?;
    let classes = classes_of(root, found.iter().flat_map(|(_, names)| names))?;
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    let directory = VocDirectory::OnDisk(root);
    let options = VocOptions {
        stated_size: StatedSize::MustMatch,
        min_side: f32::MIN_POSITIVE,
    };
    let (mut splits, mut lost) = (Vec::new(), BTreeMap::new());
    for (split, names) in found {
        let converted = convert_names(directory, &split.to_string(), &names, &classes, options)?;
        for (what, count) in converted.lost {
            *lost.entry(format!("`{what}` of objects")).or_default() += count;
        }
        count(
            &mut lost,
            "boxes without extent",
            converted.degenerate_boxes,
        );
        let store = converted.coco.to_store();
        splits.push(ReadSplit {
            split,
            store: store.map_err(|source| DataError::Annotations {
                path: root.to_owned(),
                source,
            })?,
            images: root.join(directory.images()),
        });
    }
    Ok(ReadDataset {
        layout: Layout::Voc,
        splits,
        lost,
    })
}

fn read_yolo(root: &Path) -> Result<ReadDataset, ConvertError> {
    let Some(directory) = YoloDirectory::find(root)? else {
        return Err(ConvertError::Unknown {
            root: root.to_owned(),
        });
    };
    let (mut splits, mut lost) = (Vec::new(), BTreeMap::new());
    for (split, _) in &directory.splits {
        let read = directory.read(*split)?;
        count(&mut lost, "outlines (their boxes are kept)", read.outlines);
        splits.push(ReadSplit {
            split: *split,
            store: read.store,
            images: read.root,
        });
    }
    Ok(ReadDataset {
        layout: Layout::Yolo,
        splits,
        lost,
    })
}

fn count(lost: &mut BTreeMap<String, usize>, what: &str, how_often: usize) {
    if how_often > 0 {
        *lost.entry(what.to_owned()).or_default() += how_often;
    }
}

/// Writes a dataset in a layout. `output` appears with everything in it, or not at all. `progress`
/// is told how many of all images are done, and may break it off.
///
/// # Errors
/// `output` is there and not empty, names collide or lead out of the directory, writing fails, or it was
/// broken off.
pub fn write_dataset(
    dataset: &ReadDataset,
    layout: Layout,
    images: Images,
    output: &Path,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Conversion, ConvertError> {
    let is_there = output.symlink_metadata().is_ok();
    let is_empty = fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_none());
    if is_there && !is_empty {
        return Err(ConvertError::Exists {
            path: output.to_owned(),
        });
    }
    if let Some((first, others)) = dataset.splits.split_first() {
        for other in others {
            check_same_categories(
                (&first.split.to_string(), &first.store),
                (&other.split.to_string(), &other.store),
            )?;
        }
    }
    let placed = place_images(dataset, layout)?;
    let unfinished = unfinished(output);
    let mut writing = Writing {
        root: &unfinished,
        conversion: Conversion {
            splits: Vec::new(),
            lost: dataset.lost.clone(),
        },
    };
    let written = (|| {
        make_directory(&unfinished)?;
        writing.images(dataset, &placed, images, progress)?;
        match layout {
            Layout::Coco => writing.coco(dataset, &placed)?,
            Layout::Voc => writing.voc(dataset, &placed)?,
            Layout::Yolo => writing.yolo(dataset, &placed)?,
        }
        if is_there {
            fs::remove_dir(output).map_err(|source| write_error(output, source))?;
        }
        fs::rename(&unfinished, output).map_err(|source| write_error(output, source))
    })();
    if let Err(error) = written {
        // The first error is the one to report; a leftover is only untidy.
        let _ = fs::remove_dir_all(&unfinished);
        return Err(error);
    }
    Ok(writing.conversion)
}

fn unfinished(output: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(output.file_name().unwrap_or("converted".as_ref()));
    name.push(format!(".unfinished-{}", std::process::id()));
    output.with_file_name(name)
}

fn write_error(path: &Path, source: io::Error) -> ConvertError {
    ConvertError::Write {
        path: path.to_owned(),
        source,
    }
}

fn make_directory(path: &Path) -> Result<(), ConvertError> {
    fs::create_dir_all(path).map_err(|source| write_error(path, source))
}

/// For each split the place of each image in the output, relative to it.
type Placed = Vec<Vec<String>>;

fn place_images(dataset: &ReadDataset, layout: Layout) -> Result<Placed, ConvertError> {
    // Of what an image is known by in the target: its path, or in VOC its bare name.
    let mut taken: HashMap<String, String> = HashMap::new();
    let mut placed = Vec::new();
    for read in &dataset.splits {
        let mut of_split = Vec::new();
        for index in 0..read.store.image_count() {
            let name = read.store.image(index).file_name;
            let within = inside(name)?;
            let place = match layout {
                Layout::Coco => format!("{}/{within}", read.split),
                Layout::Yolo => format!("images/{}/{within}", read.split),
                // Its lists of names end a name at a space.
                Layout::Voc => {
                    format!(
                        "JPEGImages/{}",
                        last_part(&within).replace(char::is_whitespace, "_")
                    )
                }
            };
            let key = match layout {
                Layout::Coco => place.clone(),
                Layout::Voc | Layout::Yolo => without_extension(&place).to_owned(),
            };
            let shown = read.images.join(name).display().to_string();
            if let Some(first) = taken.insert(key.clone(), shown.clone()) {
                return Err(ConvertError::SameName {
                    first,
                    second: shown,
                    name: key,
                    layout,
                });
            }
            of_split.push(place);
        }
        placed.push(of_split);
    }
    Ok(placed)
}

/// A relative path with `/` between its parts.
fn inside(name: &str) -> Result<String, ConvertError> {
    use std::path::Component;
    let mut parts = Vec::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::CurDir => {}
            _ => {
                return Err(ConvertError::Outside {
                    name: name.to_owned(),
                });
            }
        }
    }
    Ok(parts.join("/"))
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn without_extension(path: &str) -> &str {
    let start = path.len() - last_part(path).len();
    match path[start..].rfind('.') {
        Some(at) if at > 0 => &path[..start + at],
        _ => path,
    }
}

struct Writing<'a> {
    root: &'a Path,
    conversion: Conversion,
}

impl Writing<'_> {
    fn images(
        &self,
        dataset: &ReadDataset,
        placed: &Placed,
        placement: Images,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(), ConvertError> {
        if placement == Images::Leave {
            return Ok(());
        }
        let all = placed.iter().map(Vec::len).sum();
        let mut done = 0;
        for (read, placed) in dataset.splits.iter().zip(placed) {
            for (index, place) in placed.iter().enumerate() {
                let from = read.images.join(read.store.image(index).file_name);
                let to = self.root.join(place);
                if let Some(directory) = to.parent() {
                    make_directory(directory)?;
                }
                let linked = placement == Images::Link && fs::hard_link(&from, &to).is_ok();
                if !linked {
                    fs::copy(&from, &to).map_err(|source| write_error(&from, source))?;
                }
                done += 1;
                if progress(done, all).is_break() {
                    return Err(ConvertError::Stopped);
                }
            }
        }
        Ok(())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<(), ConvertError> {
        let path = self.root.join(name);
        if let Some(directory) = path.parent() {
            make_directory(directory)?;
        }
        let written = fs::File::create(&path).and_then(|mut file| file.write_all(bytes));
        written.map_err(|source| write_error(&path, source))
    }

    fn wrote(&mut self, split: Split, images: usize, boxes: usize) {
        self.conversion.splits.push((split, images, boxes));
    }

    fn coco(&mut self, dataset: &ReadDataset, placed: &Placed) -> Result<(), ConvertError> {
        for (read, placed) in dataset.splits.iter().zip(placed) {
            let prefix = format!("{}/", read.split);
            let names: Vec<&str> = placed
                .iter()
                .map(|place| place.strip_prefix(&prefix).unwrap_or(place))
                .collect();
            let store = read.store.with_file_names(&names);
            let path = self
                .root
                .join(format!("annotations/instances_{}.json", read.split));
            make_directory(&self.root.join("annotations"))?;
            write_atomically(&path, |mut out| write_coco_to(&store, &mut out))
                .map_err(|source| write_error(&path, source))?;
            self.wrote(read.split, store.image_count(), store.annotation_count());
        }
        Ok(())
    }

    /// What COCO says and the others can't.
    fn lose_coco(&mut self, dataset: &ReadDataset) {
        if dataset.layout != Layout::Coco {
            return;
        }
        let lost = &mut self.conversion.lost;
        for read in &dataset.splits {
            for index in 0..read.store.image_count() {
                let boxes = read.store.boxes_xywh(index);
                for (annotation, [_, _, w, h]) in read.store.annotations(index).zip(boxes) {
                    count(
                        lost,
                        "crowd regions, left out",
                        usize::from(annotation.is_crowd),
                    );
                    let of_box = w * h;
                    let differs = (annotation.area - of_box).abs() > 1e-3 * of_box.abs();
                    let is_lost = differs && !annotation.is_crowd;
                    count(
                        lost,
                        "areas (and outlines) that are not the box's",
                        usize::from(is_lost),
                    );
                }
            }
        }
    }

    fn yolo(&mut self, dataset: &ReadDataset, placed: &Placed) -> Result<(), ConvertError> {
        self.lose_coco(dataset);
        let mut cut = 0;
        for (read, placed) in dataset.splits.iter().zip(placed) {
            let mut boxes = 0;
            for (index, place) in placed.iter().enumerate() {
                let (text, cut_here) = labels_of(&read.store, index);
                cut += cut_here;
                boxes += text.lines().count();
                let stem = without_extension(place);
                let within = stem.strip_prefix("images/").unwrap_or(stem);
                self.file(&format!("labels/{within}.txt"), text.as_bytes())?;
            }
            self.wrote(read.split, read.store.image_count(), boxes);
        }
        count(
            &mut self.conversion.lost,
            "boxes over the edge, cut there",
            cut,
        );
        let splits: Vec<Split> = dataset.splits.iter().map(|read| read.split).collect();
        self.file(
            "data.yaml",
            data_yaml(&class_names(dataset), &splits).as_bytes(),
        )
    }

    fn voc(&mut self, dataset: &ReadDataset, placed: &Placed) -> Result<(), ConvertError> {
        self.lose_coco(dataset);
        let mut used = vec![false; class_names(dataset).len()];
        for (read, placed) in dataset.splits.iter().zip(placed) {
            let (mut list, mut boxes) = (String::new(), 0);
            for (index, place) in placed.iter().enumerate() {
                let name = last_part(without_extension(place));
                let text = voc_annotation(&read.store, index, last_part(place));
                for annotation in read.store.annotations(index) {
                    boxes += usize::from(!annotation.is_crowd);
                    if let Some(used) = used.get_mut(annotation.class) {
                        *used |= !annotation.is_crowd;
                    }
                }
                self.file(&format!("Annotations/{name}.xml"), text.as_bytes())?;
                list += name;
                list.push('\n');
            }
            self.file(
                &format!("ImageSets/Main/{}.txt", read.split),
                list.as_bytes(),
            )?;
            self.wrote(read.split, read.store.image_count(), boxes);
        }
        let unused = used.iter().filter(|used| !**used).count();
        count(
            &mut self.conversion.lost,
            "classes without a box (VOC lists no classes)",
            unused,
        );
        Ok(())
    }
}

fn class_names(dataset: &ReadDataset) -> Vec<String> {
    let first = dataset.splits.first();
    let categories = first.map_or(&[][..], |read| read.store.categories());
    categories
        .iter()
        .map(|category| category.name.clone())
        .collect()
}

/// The XML of an image; corners to a ten-thousandth of a pixel.
fn voc_annotation(store: &AnnotationStore, index: usize, file_name: &str) -> String {
    let size = store.image(index).size;
    let mut text = format!(
        "<annotation>\n\t<folder>JPEGImages</folder>\n\t<filename>{}</filename>\n\t<size>\n\t\t<width>{}</width>\n\t\t<height>{}</height>\n\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n",
        xml_text(file_name),
        size.width,
        size.height,
    );
    for (annotation, xywh) in store.annotations(index).zip(store.boxes_xywh(index)) {
        if annotation.is_crowd {
            continue;
        }
        let [x, y, w, h] = xywh.map(f64::from);
        text += &format!(
            "\t<object>\n\t\t<name>{}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>{}</xmin>\n\t\t\t<ymin>{}</ymin>\n\t\t\t<xmax>{}</xmax>\n\t\t\t<ymax>{}</ymax>\n\t\t</bndbox>\n\t</object>\n",
            xml_text(&store.categories()[annotation.class].name),
            pixels(x),
            pixels(y),
            pixels(x + w),
            pixels(y + h),
        );
    }
    text + "</annotation>\n"
}

fn pixels(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn xml_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // XML has no words for control characters.
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}
