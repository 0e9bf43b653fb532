//! CSV: a table with a row for each box.
//!
//! ```text
//! filename,width,height,class,xmin,ymin,xmax,ymax
//! a.jpg,640,480,cat,10,20,110,220
//! ```
//!
//! The layout of TensorFlow's object detection API and of Roboflow's `_annotations.csv`. Columns are found
//! by the header, in any order; `width` and `height` may be missing, and further columns are dropped.
//! An image without boxes has a row with an empty class and box. The split follows from the file's
//! name (`train_labels.csv`) or directory (`train/_annotations.csv`). The images are looked for as for
//! COCO JSON, and names in the directories of several splits divide a table whose own name denotes none.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use csv::StringRecord;
use rayon::prelude::*;

use crate::DataError;
use crate::annotations::ObjectFlags;
use crate::annotations::format::{
    AnnotationFormat, BoxEntry, DatasetFiles, Dropped, EntryProblem, FoundSplits, ListedImage,
    Output, PlacedSplit, Reader, SplitEntries, SplitFiles, SplitImage, StoredBox,
};
use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::annotations::layout::{LayoutError, Split, join};
use crate::annotations::locations::FoundFiles;
use crate::boxes::ImageSize;
use crate::csv::to_csv;
use crate::images::decode::image_size;
use crate::text::count;
use crate::text_file::{beginning, read_text};

/// CSV: `SPLIT/_annotations.csv` or `SPLIT_labels.csv`.
#[derive(Debug)]
pub(crate) struct CsvFormat;

/// The columns of a written file.
const COLUMNS: [&str; 8] = [
    "filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax",
];

impl AnnotationFormat for CsvFormat {
    fn key(&self) -> &'static str {
        "csv"
    }

    fn name(&self) -> &'static str {
        "CSV"
    }

    fn files(&self) -> String {
        format!("a CSV file with {}", COLUMNS.join(","))
    }

    fn find(&self, path: &Path) -> Result<Option<FoundSplits>, DataError> {
        if path.is_file() {
            if !is_table(path) {
                return Ok(None);
            }
            return Ok(Some(FoundSplits {
                splits: vec![SplitFiles::of_file(&Self, path, None)],
                reason: "a CSV file of boxes".to_owned(),
                unused: Vec::new(),
                lists: Vec::new(),
            }));
        }
        Ok(FoundSplits::of_files(&Self, path, tables(path)?))
    }

    fn annotation_extension(&self) -> &'static str {
        "csv"
    }

    fn dataset_extensions(&self) -> &'static [&'static str] {
        &["csv"]
    }

    fn describe_unread(&self, path: &Path) -> Option<String> {
        unread_table(path)
    }

    fn images_listed_in(&self, annotations: &Path) -> Option<Vec<ListedImage>> {
        // An image has a row for each box.
        let names: BTreeSet<String> = names_in(&read_text(annotations).ok()?)?
            .into_iter()
            .collect();
        let names = names.into_iter();
        let listed = names.map(|name| ListedImage {
            name,
            ..ListedImage::default()
        });
        Some(listed.collect())
    }

    fn reader(&self) -> Reader {
        Reader::Entries(collect)
    }

    fn stored_box(&self, found: &StoredBox) -> Result<[f64; 4], &'static str> {
        found.of_one_object()
    }

    fn image_path(&self, split: Split, file_name: &str) -> String {
        format!("{split}/{file_name}")
    }

    fn stored_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        Cow::Borrowed(name.trim())
    }

    fn lists_classes(&self) -> bool {
        false
    }

    fn names_lead_anywhere(&self) -> bool {
        true
    }

    fn write(&self, splits: &[PlacedSplit], output: &Output) -> Result<(), DataError> {
        for placed in splits {
            let store = &placed.annotations.store;
            let split = placed.annotations.split;
            let mut rows = vec![COLUMNS.map(str::to_owned)];
            for (index, (path, boxes)) in placed.image_paths.iter().zip(&placed.boxes).enumerate() {
                let ImageSize { width, height } = store.image(index).size;
                let name = path.strip_prefix(&format!("{split}/")).unwrap_or(path);
                let row = |class: &str, corners: [String; 4]| {
                    let [xmin, ymin, xmax, ymax] = corners;
                    let (width, height) = (width.to_string(), height.to_string());
                    let (name, class) = (name.to_owned(), class.to_owned());
                    [name, width, height, class, xmin, ymin, xmax, ymax]
                };
                if boxes.is_empty() {
                    rows.push(row("", Default::default()));
                }
                for found in boxes {
                    let [x, y, w, h] = found.xywh;
                    let corners = [x, y, x + w, y + h].map(decimal);
                    rows.push(row(&store.categories()[found.class].name, corners));
                }
            }
            output.file(&format!("{split}/_annotations.csv"), &to_csv(rows))?;
        }
        Ok(())
    }
}

/// Formats pixels to a ten-thousandth, without zeros at the end.
fn decimal(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Finds the tables of a directory: in the directory of each split, in the directory itself, and in
/// `annotations` or `data`.
fn tables(root: &Path) -> Result<FoundFiles, LayoutError> {
    let listing = DirectoryListing::of(root);
    let mut candidates: Vec<(Option<Split>, PathBuf)> = Vec::new();
    for split in Split::ALL {
        let directory = listing.split_directory(split);
        let files = directory.iter().flat_map(|path| {
            let listing = DirectoryListing::of(path);
            listing.files_with("csv").collect::<Vec<_>>()
        });
        candidates.extend(files.map(|file| (Some(split), file)));
    }
    let others = [
        listing.directory(&["annotations"]),
        listing.directory(&["data"]),
    ];
    let others = others
        .into_iter()
        .flatten()
        .map(|path| DirectoryListing::of(&path));
    for listing in others.chain([DirectoryListing::of(root)]) {
        let files: Vec<PathBuf> = listing.files_with("csv").collect();
        candidates.extend(files.into_iter().map(|file| {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            (Split::in_name(&stem), file)
        }));
    }
    candidates.retain(|(_, file)| is_table(file));
    if candidates.iter().all(|(split, _)| split.is_none()) {
        for (split, _) in &mut candidates {
            *split = Some(Split::Train);
        }
    }
    let mut found = FoundFiles::default();
    for split in Split::ALL {
        let of_split = candidates.iter().filter(|(of, _)| *of == Some(split));
        let files = of_split.map(|(_, file)| file.clone());
        found.add_only(root, split, files.collect())?;
    }
    let unnamed = candidates.into_iter().filter(|(split, _)| split.is_none());
    found.unused.extend(unnamed.map(|(_, file)| file));
    Ok(found)
}

/// Returns whether a CSV file has the columns of boxes.
fn is_table(path: &Path) -> bool {
    columns_of(path).is_some_and(|columns| columns.is_ok())
}

/// Describes a CSV file without the columns of boxes, by those that are missing; None for any other file.
fn unread_table(path: &Path) -> Option<String> {
    let missing = columns_of(path)?.err()?;
    if path.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        return Some(format!("{}: the file is empty", path.display()));
    }
    let missing = join(missing.iter().map(|column| format!("`{column}`")));
    Some(format!("{}: the header lacks {missing}", path.display()))
}

/// Returns the columns of a CSV file, or the names of those that are missing; None if it is unreadable or no
/// CSV file.
fn columns_of(path: &Path) -> Option<Result<Columns, Vec<&'static str>>> {
    const BEGINNING: u64 = 4096;
    if !has_extension(path, "csv") {
        return None;
    }
    let text = beginning(path, BEGINNING)?;
    let line = text.lines().next().unwrap_or_default();
    let header = header_of(line).ok()?;
    Some(Columns::of(&header))
}

fn header_of(line: &str) -> Result<StringRecord, csv::Error> {
    let line = line.trim_start_matches('\u{feff}');
    let mut reader = reader_of(line);
    reader.headers().cloned()
}

fn reader_of(text: &str) -> csv::Reader<&[u8]> {
    // Spreadsheets of some languages separate by semicolons.
    let header = text.lines().next().unwrap_or_default();
    let separators = [b',', b';', b'\t'];
    let count = |separator: &u8| header.bytes().filter(|byte| byte == separator).count();
    let most = separators.iter().map(count).max();
    let separator = separators
        .iter()
        .find(|separator| Some(count(separator)) == most);
    csv::ReaderBuilder::new()
        .delimiter(separator.copied().unwrap_or(b','))
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes())
}

/// The positions of the columns.
struct Columns {
    name: usize,
    class: usize,
    corners: [usize; 4],
    size: Option<[usize; 2]>,
    /// Positions and names of the columns that are not read.
    others: Vec<(usize, String)>,
}

impl Columns {
    /// Finds the columns; the error lists the names of those that are missing.
    fn of(header: &StringRecord) -> Result<Self, Vec<&'static str>> {
        let find = |names: &[&str]| {
            let mut columns = header.iter();
            columns.position(|column| names.contains(&column.to_lowercase().as_str()))
        };
        const NEEDED: [&[&str]; 6] = [
            &[
                "filename",
                "file_name",
                "image",
                "image_name",
                "image_path",
                "path",
            ],
            &["class", "label", "class_name", "category", "name"],
            &["xmin", "x_min", "x1", "left"],
            &["ymin", "y_min", "y1", "top"],
            &["xmax", "x_max", "x2", "right"],
            &["ymax", "y_max", "y2", "bottom"],
        ];
        let found = NEEDED.map(find);
        let [
            Some(name),
            Some(class),
            Some(x1),
            Some(y1),
            Some(x2),
            Some(y2),
        ] = found
        else {
            let missing = NEEDED.iter().zip(found);
            let missing = missing.filter(|(_, found)| found.is_none());
            return Err(missing.map(|(names, _)| names[0]).collect());
        };
        let corners = [x1, y1, x2, y2];
        let width = find(&["width", "image_width", "img_width"]);
        let height = find(&["height", "image_height", "img_height"]);
        let size = width.zip(height).map(|(width, height)| [width, height]);
        let read: Vec<usize> = [name, class]
            .into_iter()
            .chain(corners)
            .chain(size.into_iter().flatten())
            .collect();
        let others = header.iter().enumerate();
        let others = others.filter(|(at, _)| !read.contains(at));
        let others = others.map(|(at, column)| (at, column.to_owned()));
        Ok(Self {
            name,
            class,
            corners,
            size,
            others: others.collect(),
        })
    }
}

impl Columns {
    /// Returns the number of rows of a table if the columns of the image size are the sides of the box in each of them.
    ///
    /// The box of a whole image has the size of the image.
    fn rows_with_sides_of_boxes(&self, text: &str) -> Option<usize> {
        /// Fewer may be so by chance.
        const FEWEST: usize = 3;
        /// Sides in whole pixels may count both edges.
        const TOLERANCE: f64 = 1.0;
        let (mut rows, mut inside) = (0, 0);
        for record in reader_of(text).records() {
            let record = record.ok()?;
            let number = |column: usize| record.get(column)?.parse::<f64>().ok();
            let [x1, y1, x2, y2] = self.corners.map(number);
            let [width, height] = self.size?.map(number);
            let (x1, y1) = (x1?, y1?);
            if (x2? - x1 - width?).abs() > TOLERANCE || (y2? - y1 - height?).abs() > TOLERANCE {
                return None;
            }
            rows += 1;
            inside += usize::from(x1.max(y1) > TOLERANCE);
        }
        (inside >= FEWEST).then_some(rows)
    }
}

/// A table before its images are found.
struct Table {
    /// File names in order of appearance, with the size in the table.
    images: Vec<(String, Option<ImageSize>)>,
    /// Class and `[x, y, width, height]` of the boxes of each image.
    boxes: Vec<Vec<(String, [f32; 4])>>,
    problems: Vec<EntryProblem>,
    dropped: Dropped,
}

impl Table {
    fn read(files: &SplitFiles) -> Result<Self, DataError> {
        let text = read_text(&files.annotations)?;
        let mut others = HashSet::new();
        if files.is_part
            && let Some(names) = names_in(&text)
            && let Some(own) = files.own_images(&names)
        {
            let is_other = names.into_iter().zip(own).filter(|(_, is_own)| !is_own);
            others.extend(is_other.map(|(name, _)| name));
        }
        Self::parse(&text, &files.annotations, &others)
    }

    /// Parses a table without the rows of some images; `path` is used in error messages only.
    fn parse(text: &str, path: &Path, without: &HashSet<String>) -> Result<Self, DataError> {
        let wrong =
            |line: u64, problem: String| DataError::labels(path, format!("line {line}: {problem}"));
        let mut reader = reader_of(text);
        let header = reader
            .headers()
            .map_err(|error| wrong(1, error.to_string()))?;
        let columns = Columns::of(header).map_err(|_| {
            let expected = COLUMNS.join(",");
            wrong(1, format!("the columns {expected} are expected"))
        })?;
        if let Some(rows) = columns.rows_with_sides_of_boxes(text) {
            let rows = count(rows, "row");
            let problem = format!(
                "`width` and `height` of all {rows} are those of the boxes, not of the images"
            );
            return Err(wrong(1, problem));
        }
        let mut table = Self {
            images: Vec::new(),
            boxes: Vec::new(),
            problems: Vec::new(),
            dropped: Dropped::default(),
        };
        let mut positions: HashMap<String, usize> = HashMap::new();
        for (at, record) in (2..).zip(reader.records()) {
            let record = match record {
                Ok(record) => record,
                Err(error) => return Err(wrong(at, error.to_string())),
            };
            let line = record.position().map_or(at, csv::Position::line);
            let field = |column: usize| record.get(column).unwrap_or_default();
            let name = field(columns.name);
            if name.is_empty() {
                return Err(wrong(line, "the file name is empty".to_owned()));
            }
            if without.contains(name) {
                continue;
            }
            let image = *positions.entry(name.to_owned()).or_insert_with(|| {
                table.images.push((name.to_owned(), None));
                table.boxes.push(Vec::new());
                table.images.len() - 1
            });
            let mut problem = |problem: String| {
                let error = wrong(line, problem);
                table.problems.push(EntryProblem { image, error });
            };
            if let Some(size) = columns.size {
                match size.map(|column| whole(field(column))) {
                    [Some(width), Some(height)] => {
                        let size = ImageSize::new(height, width);
                        let known = table.images[image].1.get_or_insert(size);
                        if *known != size {
                            problem(format!("the image is {size} here and {known} above"));
                        }
                    }
                    _ if size.iter().all(|column| field(*column).is_empty()) => {}
                    _ => problem("the image size is not two positive integers".to_owned()),
                }
            }
            let class = field(columns.class);
            let corners = columns.corners.map(field);
            if class.is_empty() && corners.iter().all(|corner| corner.is_empty()) {
                continue;
            }
            let numbers =
                corners.map(|corner| corner.parse::<f32>().ok().filter(|n| n.is_finite()));
            match numbers {
                _ if class.is_empty() => problem("the class is empty".to_owned()),
                [Some(x1), Some(y1), Some(x2), Some(y2)] => {
                    let xywh = [x1, y1, x2 - x1, y2 - y1];
                    table.boxes[image].push((class.to_owned(), xywh));
                    for (at, column) in &columns.others {
                        let what = match column.as_str() {
                            // A comma at the end of each line makes an empty column.
                            "" if field(*at).is_empty() => continue,
                            "" => "columns without a name".to_owned(),
                            column => format!("`{column}` columns"),
                        };
                        table.dropped.add(what, "object", 1);
                    }
                }
                _ => problem(format!("{} are not four finite numbers", corners.join(","))),
            }
        }
        Ok(table)
    }
}

/// Returns the file names in a table, once for each row; None if it has no columns of boxes.
fn names_in(text: &str) -> Option<Vec<String>> {
    let mut reader = reader_of(text.trim_start_matches('\u{feff}'));
    let columns = Columns::of(reader.headers().ok()?).ok()?;
    // A row that cannot be read is reported with the table.
    let rows = reader.records().flatten();
    let names = rows.filter_map(|row| row.get(columns.name).map(str::to_owned));
    Some(names.filter(|name| !name.is_empty()).collect())
}

/// Parses a positive integer, also when written `640.0`.
fn whole(text: &str) -> Option<usize> {
    let number: f64 = text.parse().ok()?;
    let is_whole = number >= 1.0 && number.fract() == 0.0 && number <= f64::from(u32::MAX);
    is_whole.then_some(number as usize)
}

/// Collects some splits. Their categories are the classes of all splits, sorted, so that they agree.
fn collect(files: &DatasetFiles, wanted: &[Split]) -> Result<Vec<SplitEntries>, DataError> {
    let mut tables = BTreeMap::new();
    let mut classes = BTreeSet::new();
    for split in &files.splits {
        let table = Table::read(split)?;
        let boxes = table.boxes.iter().flatten();
        classes.extend(boxes.map(|(class, _)| class.clone()));
        tables.insert(split.split as usize, table);
    }
    let classes: Vec<String> = classes.into_iter().collect();
    wanted
        .iter()
        .map(|split| {
            let files = files.split(*split)?;
            let table = match tables.remove(&(*split as usize)) {
                Some(table) => table,
                None => Table::read(files)?,
            };
            entries(files, table, &classes)
        })
        .collect()
}

fn entries(
    files: &SplitFiles,
    table: Table,
    classes: &[String],
) -> Result<SplitEntries, DataError> {
    let names: Vec<&str> = table.images.iter().map(|(name, _)| name.as_str()).collect();
    let Some(first) = names.first() else {
        let annotations = files.annotations.clone();
        return Err(LayoutError::NoImages { annotations }.into());
    };
    let Some(found) = files.find_images(&names)? else {
        return Err(files.images_not_found(first).into());
    };
    let numbers: HashMap<&str, usize> = (0..)
        .zip(classes)
        .map(|(number, class)| (class.as_str(), number))
        .collect();
    let directory = found.directory;
    let read: Vec<_> = found
        .matched
        .names
        .into_par_iter()
        .map(|name| {
            let size = image_size(&directory.join(&name));
            (name, size)
        })
        .collect();
    // Before the problems of the same image, which follow from it.
    let ambiguous = found.matched.ambiguous.into_iter();
    let mut problems: Vec<EntryProblem> = ambiguous
        .map(|(image, error)| EntryProblem { image, error })
        .collect();
    problems.extend(table.problems);
    let mut images = Vec::new();
    let stated = table.images.iter().map(|(_, size)| *size);
    for (image, (((file_name, size), stated), boxes)) in
        read.into_iter().zip(stated).zip(table.boxes).enumerate()
    {
        let mut problem = |error| problems.push(EntryProblem { image, error });
        let mut size = size.map_err(|error| problem(error.into())).ok();
        if let Some(stated) = stated {
            let differing = size.replace(stated).filter(|actual| *actual != stated);
            if let Some(decoded) = differing {
                let path = directory.join(&file_name).display().to_string();
                problem(DataError::size_mismatch(path, decoded, stated));
            }
        }
        let boxes = boxes.into_iter().filter_map(|(class, xywh)| {
            Some(BoxEntry {
                class: *numbers.get(class.as_str())?,
                xywh: Some(xywh),
                flags: ObjectFlags::default(),
            })
        });
        images.push(SplitImage {
            file_name,
            size,
            boxes: boxes.collect(),
        });
    }
    problems.sort_by_key(|problem| problem.image);
    Ok(SplitEntries {
        image_root: directory,
        list: None,
        categories: classes.to_vec(),
        images,
        problems,
        dropped: table.dropped,
        notes: found.notes.into_iter().chain(found.other_images).collect(),
        left_out: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(text: &str) -> Result<Table, DataError> {
        Table::parse(
            text.trim_start_matches('\u{feff}'),
            Path::new("a.csv"),
            &HashSet::new(),
        )
    }

    proptest! {
        #[test]
        fn tables_of_any_content_never_panic(rows in proptest::collection::vec("[-a-z0-9.,\"\n ]{0,40}", 0..6)) {
            let _ = table(&format!("{}\n{}", COLUMNS.join(","), rows.join("\n")));
        }
    }

    #[test]
    fn columns_are_found_by_their_names_in_any_order() {
        let text = "\u{feff}label,score,image_path,ymax,xmax,ymin,xmin\r\ncat,1,a.jpg,30,20,10,5.5\r\n\r\n,,b.jpg,,,,\r\n";
        let table = table(text).unwrap();
        assert!(table.problems.is_empty());
        assert_eq!(
            table.images,
            [("a.jpg".into(), None), ("b.jpg".into(), None)]
        );
        assert_eq!(table.boxes[0], [("cat".into(), [5.5, 10.0, 14.5, 20.0])]);
        assert!(table.boxes[1].is_empty());
        let dropped: Vec<String> = table.dropped.lines().collect();
        assert_eq!(dropped, ["`score` columns (1 object)"]);
    }

    #[test]
    fn a_comma_at_the_end_of_each_line_is_no_column() {
        let header = format!("{},", COLUMNS.join(","));
        for (rows, expected) in [
            ("a.jpg,64,48,cat,1,2,30,40,\nb.jpg,64,48,,,,,,\n", None),
            (
                "a.jpg,64,48,cat,1,2,30,40,x\nb.jpg,64,48,cat,1,2,30,40\n",
                Some("columns without a name (1 object)"),
            ),
        ] {
            let table = table(&format!("{header}\n{rows}")).unwrap();
            assert!(table.problems.is_empty());
            assert_eq!(table.dropped.lines().next().as_deref(), expected, "{rows}");
        }
    }

    #[test]
    fn wrong_rows_are_named_by_their_line() {
        let header = COLUMNS.join(",");
        for (row, expected) in [
            (
                "a.jpg,64,48,cat,1,2,x,4",
                "line 2: 1,2,x,4 are not four finite numbers",
            ),
            ("a.jpg,64,48,cat,1,2,nan,4", "not four finite numbers"),
            ("a.jpg,64,48,cat,1,2,3", "not four finite numbers"),
            ("a.jpg,64,48,,1,2,3,4", "the class is empty"),
            ("a.jpg,64,0,cat,1,2,3,4", "not two positive integers"),
        ] {
            let table = table(&format!("{header}\n{row}\n")).unwrap();
            let message = table.problems[0].error.to_string();
            assert!(message.contains(expected), "{row}: {message}");
        }
        let error = table(&format!("{header}\n,64,48,cat,1,2,3,4\n")).map(|_| ());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("the file name is empty")
        );
        let rows = "a.jpg,64,48,cat,1,2,3,4\na.jpg,65,48,cat,1,2,3,4\n";
        let table = table(&format!("{header}\n{rows}")).unwrap();
        let message = table.problems[0].error.to_string();
        assert!(
            message.contains("line 3: the image is 65x48 here and 64x48 above"),
            "{message}"
        );
    }

    #[test]
    fn images_in_other_capitals_are_found_unless_several_are_meant() {
        let dir = tempfile::tempdir().unwrap();
        let image = |name: &str| {
            let path = dir.path().join(name);
            image::RgbImage::new(64, 48)
                .save_with_format(path, image::ImageFormat::Png)
                .unwrap();
        };
        let rows = "IMG0.JPG,64,48,cat,1,2,30,40\nIMG1.JPG,64,48,cat,1,2,30,40\n";
        let table = format!("{}\n{rows}", COLUMNS.join(","));
        std::fs::write(dir.path().join("_annotations.csv"), table).unwrap();
        image("img0.jpg");
        image("img1.jpg");
        let read = || DatasetFiles::find(dir.path()).and_then(|files| files.read());
        let split = read().unwrap().splits.remove(0);
        assert_eq!(split.store.image(1).file_name, "img1.jpg");
        assert_eq!(
            split.notes,
            [
                "2 images found by a name in other capitals than that in the annotations, such as img0.jpg for IMG0.JPG"
            ]
        );
        image("Img1.jpg");
        let message = read().unwrap_err().to_string();
        assert!(
            message.ends_with(
                "IMG1.JPG: no such file; Img1.jpg and img1.jpg differ from it in capitals only"
            ),
            "{message}"
        );
        for name in ["img0.jpg", "img1.jpg", "Img1.jpg"] {
            std::fs::rename(dir.path().join(name), dir.path().join(format!("x{name}"))).unwrap();
        }
        let message = read().unwrap_err().to_string();
        assert!(
            message.contains("images not found; expected `IMG0.JPG` in"),
            "{message}"
        );
    }

    #[test]
    fn tables_of_other_contents_are_not_recognized() {
        let dir = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("filename,width,height,class,xmin,ymin,xmax,ymax\n", true),
            ("Filename,Class,XMin,YMin,XMax,YMax\n", true),
            ("filename;class;xmin;ymin;xmax;ymax\n", true),
            ("id,label\n1,cat\n", false),
            ("#filename,file_size,file_attributes,region_count\n", false),
            ("", false),
        ] {
            let path = dir.path().join("a.csv");
            std::fs::write(&path, text).unwrap();
            assert_eq!(is_table(&path), expected, "{text}");
        }
    }

    #[test]
    fn sides_of_boxes_in_the_columns_of_the_image_size_are_named() {
        let table = |rows: &str| {
            let text = format!("filename,width,height,class,xmin,ymin,xmax,ymax\n{rows}");
            Table::parse(&text, Path::new("a.csv"), &HashSet::new())
                .map_err(|error| error.to_string())
        };
        let row = |name: &str, [w, h]: [u32; 2], [x, y]: [u32; 2]| {
            format!("{name}.jpg,{w},{h},cat,{x},{y},{},{}\n", x + w, y + h)
        };
        let wrong =
            row("a", [20, 10], [5, 5]) + &row("a", [8, 9], [40, 2]) + &row("b", [7, 7], [3, 9]);
        let message = table(&wrong).err().unwrap();
        assert!(
            message.ends_with(
                "`width` and `height` of all 3 rows are those of the boxes, not of the images"
            ),
            "{message}"
        );
        // Boxes of whole images.
        let whole =
            row("a", [20, 10], [0, 0]) + &row("b", [8, 9], [0, 0]) + &row("c", [7, 7], [0, 0]);
        assert!(table(&whole).is_ok());
    }

    #[test]
    fn names_in_the_directories_of_splits_divide_the_only_table() {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = "filename,class,xmin,ymin,xmax,ymax,more\n".to_owned();
        for (name, class) in [
            ("train/0.png", "cat"),
            ("val/8.png", "dog"),
            ("train/1.png", "cat"),
            ("val/8.png", "dog"),
        ] {
            let path = dir.path().join("images").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::RgbImage::new(9, 9).save(path).unwrap();
            rows += &format!("{name},{class},1,1,5,5,x\n");
        }
        std::fs::write(dir.path().join("labels.csv"), rows).unwrap();
        let found = DatasetFiles::find(dir.path()).unwrap();
        let read = found.read().unwrap().splits;
        let counts = read.iter().map(|read| {
            let store = &read.store;
            let dropped: Vec<String> = read.dropped.lines().collect();
            (
                read.split,
                store.image_count(),
                store.annotation_count(),
                dropped.join("; "),
            )
        });
        let more = "`more` columns (2 objects)".to_owned();
        let expected = [(Split::Train, 2, 2, more.clone()), (Split::Val, 1, 2, more)];
        assert_eq!(counts.collect::<Vec<_>>(), expected);
        assert!(read.iter().all(|read| read.store.class_count() == 2));
    }
}
