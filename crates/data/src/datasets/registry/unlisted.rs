//! Images beside those of a dataset that its annotation files do not list.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use crate::annotations::format::{DatasetFiles, SplitAnnotations};
use crate::annotations::image_files::DirectoryListing;
use crate::text::count;

/// Describes the images in the directories of listed ones that no annotation file lists. Formats that take all images of a
/// directory have none, and those with a file for each image count them.
pub(super) fn images_in_no_list(
    files: &DatasetFiles,
    train: &SplitAnnotations,
    val: &SplitAnnotations,
) -> Option<String> {
    if files.format.takes_all_images() || files.format.has_lists() {
        return None;
    }
    let of_splits = [train.image_paths(), val.image_paths()];
    let used: HashSet<PathBuf> = of_splits.into_iter().flatten().collect();
    let directories: BTreeSet<&Path> = used.iter().filter_map(|path| path.parent()).collect();
    let beside = directories.into_iter().flat_map(|directory| {
        let images = DirectoryListing::of(directory);
        let images: Vec<PathBuf> = images.images().map(|name| directory.join(name)).collect();
        images
    });
    let mut beside: Vec<PathBuf> = beside.filter(|path| !used.contains(path)).collect();
    if beside.is_empty() {
        return None;
    }
    // Those of test, and those that were skipped.
    let last = |name: &str| {
        name.rsplit(['/', '\\'])
            .next()
            .unwrap_or(name)
            .trim()
            .to_lowercase()
    };
    let annotations: BTreeSet<&PathBuf> = files
        .splits
        .iter()
        .map(|split| &split.annotations)
        .collect();
    let listed = annotations
        .into_iter()
        .flat_map(|path| files.format.images_listed_in(path).unwrap_or_default());
    let listed: HashSet<String> = listed.map(|image| last(&image.name)).collect();
    beside.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        !listed.contains(&name.to_string_lossy().to_lowercase())
    });
    let first = beside.first()?.display();
    let images = count(beside.len(), "image");
    Some(format!(
        "not used: {images} that the annotations do not list, such as {first}"
    ))
}

#[cfg(test)]
mod tests {
    use crate::datasets::registry::DatasetName;

    #[test]
    fn images_that_no_annotation_file_lists_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::RgbImage::new(9, 9).save(path).unwrap();
        };
        for (file, image) in [
            ("train.json", "a.png"),
            ("val.json", "b.png"),
            ("test.json", "c.png"),
        ] {
            put(&format!("images/{image}"));
            let text = format!(
                r#"{{"images":[{{"id":1,"file_name":"{image}","width":9,"height":9}}],
                "annotations":[{{"id":1,"image_id":1,"category_id":1,"bbox":[1,1,3,3]}}],"categories":[{{"id":1,"name":"cat"}}]}}"#
            );
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let notes = || {
            let name = DatasetName::Directory(dir.path().to_owned());
            let (train, _) = name.open(None).unwrap();
            let notes = train
                .dataset
                .notes()
                .iter()
                .filter(|note| note.contains("do not list"));
            notes.cloned().collect::<Vec<_>>()
        };
        assert_eq!(notes(), [""; 0]);
        put("images/d.png");
        put("other/e.png");
        let first = dir.path().join("images/d.png");
        let expected = format!(
            "not used: 1 image that the annotations do not list, such as {}",
            first.display()
        );
        let found = notes();
        assert!(found[0].ends_with(&expected), "{found:?}");
    }
}
