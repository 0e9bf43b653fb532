//! Images with the names of those that are used, in another directory and with another content: the annotations may be meant
//! for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::annotations::format::DatasetFiles;
use crate::annotations::image_files::DirectoryListing;
use crate::annotations::same_content::are_all_the_same;
use crate::text::count;

/// Describes the directories of a dataset whose images have the names of annotated ones in another directory, unless these are
/// copies, masks or small views of them.
pub(super) fn images_of_same_names(files: &DatasetFiles) -> Vec<String> {
    /// The first images of a directory show whether all are copies.
    const COMPARED: usize = 20;
    let root = &files.root;
    let places: Vec<(PathBuf, Vec<String>)> = directories_of_images(root).into_iter().collect();
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, (_, names)) in places.iter().enumerate() {
        for name in names {
            by_name.entry(name).or_default().push(at);
        }
    }
    // Most datasets have no such names, or the directories of their splits do: nothing more is read for these.
    let first = first_directories(files);
    let is_of_first = |at: usize| first.iter().any(|first| places[at].0.starts_with(first));
    let may_be_other = |at: &usize| !is_of_first(*at);
    let is_repeated = |found: &Vec<usize>| found.len() > 1 && found.iter().any(may_be_other);
    if !by_name.values().any(is_repeated) {
        return Vec::new();
    }
    let used: BTreeSet<PathBuf> = if files.format.takes_all_images() {
        let own = places.iter().filter(|(place, _)| {
            let mut own = files.image_directories();
            own.any(|own| place.starts_with(own))
        });
        own.flat_map(|(place, names)| names.iter().map(|name| place.join(name)))
            .collect()
    } else {
        files.listed_images().unwrap_or_default()
    };
    let mut used_of: HashMap<&std::ffi::OsStr, Vec<&PathBuf>> = HashMap::new();
    for path in &used {
        if let Some(name) = path.file_name() {
            used_of.entry(name).or_default().push(path);
        }
    }
    let mut described = Vec::new();
    for (place, names) in &places {
        if names.iter().any(|name| used.contains(&place.join(name))) {
            continue;
        }
        let twins = names.iter().filter_map(|name| {
            let used = used_of.get(std::ffi::OsStr::new(name.as_str()))?;
            let own = place.join(name);
            Some((used, own))
        });
        let twins: Vec<_> = twins.collect();
        let differs = |(used, own): &(&Vec<&PathBuf>, PathBuf)| {
            let mut used = used.iter();
            !used.any(|used| are_all_the_same(&[used.as_path(), own.as_path()]))
        };
        let below = |path: &Path| {
            let below = path.strip_prefix(root).unwrap_or(path);
            if below.as_os_str().is_empty() {
                "the directory itself".to_owned()
            } else {
                below.display().to_string()
            }
        };
        if let Some((first, _)) = twins.first()
            && twins.iter().take(COMPARED).any(differs)
        {
            let images = count(twins.len(), "image");
            let around = first[0].parent().unwrap_or(root);
            described.push(format!(
                "{} ({images} with other content than those of the same names in {}, which are used)",
                below(place),
                below(around)
            ));
        }
    }
    described
}

/// Returns the first directory of each split that has images: where they are found, nearly always.
fn first_directories(files: &DatasetFiles) -> BTreeSet<PathBuf> {
    let of_splits = files.splits.iter().filter_map(|split| {
        let mut places = split.image_directories.iter();
        places.find(|place| place.is_dir() && **place != files.root)
    });
    of_splits.cloned().collect()
}

/// Returns the directories directly in which there are images, with the names of these. Such as are called after masks and the
/// like are left out: their images have the names of others on purpose.
fn directories_of_images(root: &Path) -> BTreeMap<PathBuf, Vec<String>> {
    /// Images of a split, below a directory of images.
    const DEPTH: usize = 3;
    /// A dataset with a directory for each video has more, and they are alike.
    const DIRECTORIES: usize = 200;
    let mut found = BTreeMap::new();
    let mut level = if root.is_dir() {
        vec![root.to_owned()]
    } else {
        Vec::new()
    };
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for directory in level.into_iter().take(DIRECTORIES) {
            let listing = DirectoryListing::of(&directory);
            let names: Vec<String> = listing.images().cloned().collect();
            let inner = listing.directories.iter().filter(|name| !is_of_views(name));
            next.extend(inner.map(|name| directory.join(name)));
            if !names.is_empty() {
                found.insert(directory, names);
            }
        }
        level = next;
    }
    found
}

/// Returns whether a directory has other views of the images of a dataset by its name.
fn is_of_views(name: &str) -> bool {
    const PARTS: [&str; 22] = [
        "mask",
        "seg",
        "label",
        "annot",
        "instance",
        "depth",
        "disparity",
        "thumb",
        "preview",
        "vis",
        "viz",
        "overlay",
        "pred",
        "result",
        "output",
        "debug",
        "heatmap",
        "edge",
        "normal",
        "flow",
        "gt",
        "truth",
    ];
    let name = name.to_lowercase();
    PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use crate::annotations::format::DatasetFiles;
    use image::{Rgb, RgbImage};

    fn unused(files: &[&str], images: &[(&str, u8)]) -> Vec<String> {
        const JSON: &str = r#"{"images":[{"id":1,"file_name":"a.png","width":9,"height":9}],
            "annotations":[{"id":1,"image_id":1,"category_id":1,"bbox":[1,1,3,3]}],"categories":[{"id":1,"name":"cat"}]}"#;
        const XML: &str = "<annotation><filename>a.png</filename><object><name>cat</name><bndbox><xmin>1</xmin>\
            <ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></object></annotation>";
        const CSV: &str = "filename,class,xmin,ymin,xmax,ymax\na.png,cat,1,1,4,4\n";
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        for name in files {
            let text = match name.rsplit('.').next() {
                Some("json") => JSON,
                Some("xml") => XML,
                Some("csv") => CSV,
                Some("yaml") => "train: images\nnames: [cat]\n",
                _ => "0 0.5 0.5 0.2 0.2\n",
            };
            std::fs::write(put(name), text).unwrap();
        }
        for (name, gray) in images {
            RgbImage::from_pixel(9, 9, Rgb([*gray; 3]))
                .save(put(name))
                .unwrap();
        }
        DatasetFiles::find(dir.path()).unwrap().unused
    }

    #[test]
    fn other_images_under_the_names_of_those_that_are_used_are_named() {
        let described = |place: &str, used: &str| {
            format!(
                "{place} (1 image with other content than those of the same names in {used}, which are used)"
            )
        };
        for (files, images, place, used) in [
            (
                &["all.json"][..],
                ["images/a.png", "flipped/a.png"],
                "flipped",
                "images",
            ),
            (
                &["Annotations/a.xml"],
                ["JPEGImages/a.png", "images/a.png"],
                "images",
                "JPEGImages",
            ),
            (
                &["boxes.csv"],
                ["images/a.png", "raw/x/a.png"],
                "raw/x",
                "images",
            ),
            (
                &["data.yaml", "labels/a.txt"],
                ["images/a.png", "aug/a.png"],
                "aug",
                "images",
            ),
        ] {
            let [first, second] = images;
            let found = unused(files, &[(first, 0), (second, 9)]);
            assert!(
                found.contains(&described(place, used)),
                "{files:?}: {found:?}"
            );
            // A copy, a mask and another image.
            for (other, gray) in [(second, 0), ("masks/a.png", 9), ("other/b.png", 9)] {
                let found = unused(files, &[(first, 0), (other, gray)]);
                let is_described = found.iter().any(|found| found.contains("other content"));
                assert!(!is_described, "{files:?}: {found:?}");
            }
        }
    }
}
