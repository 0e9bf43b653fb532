//! Export of the dataset in COCO's layout.

use std::fs;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::annotations::Split;
use crate::atomic::write_atomically;
use crate::shapes::scene::Composition;
use crate::shapes::{
    CATEGORY_IDS, CLASS_NAMES, ShapesConfig, ShapesError, annotation_id, file_name, photograph,
};

/// Number of scenes rendered between two rounds of writing and progress.
const ROUND: usize = 32;

#[derive(Serialize)]
struct Instances<'a> {
    info: Info,
    licenses: [(); 0],
    images: &'a [Image],
    annotations: &'a [Annotation],
    categories: Vec<Category>,
}

#[derive(Serialize)]
struct Info {
    description: String,
    version: &'static str,
}

#[derive(Serialize)]
struct Image {
    id: u64,
    file_name: String,
    width: usize,
    height: usize,
}

#[derive(Serialize)]
struct Annotation {
    id: u64,
    image_id: u64,
    category_id: u64,
    bbox: [f32; 4],
    area: f32,
    iscrowd: u8,
    segmentation: RunLengths,
}

/// COCO's uncompressed run-length mask.
#[derive(Serialize)]
struct RunLengths {
    /// Height and width.
    size: [usize; 2],
    counts: Vec<u32>,
}

#[derive(Serialize)]
struct Category {
    id: u64,
    name: &'static str,
    supercategory: &'static str,
}

/// Writes both splits to `directory` in COCO's layout:
///
/// ```text
/// train2017/000000000001.jpg ...
/// val2017/000000006001.jpg ...
/// annotations/instances_train2017.json
/// annotations/instances_val2017.json
/// ```
///
/// The images decode to the pixels of [`crate::shapes::generate_scene`]. Image and annotation ids
/// are unique over both splits; category ids are [`CATEGORY_IDS`]; every annotation carries its
/// visible mask as uncompressed run lengths. Existing files of the same names are replaced. An
/// annotation file is written only after all images of its split, so an interrupted run can be
/// detected.
///
/// `progress` is called with the number of images done and the total.
///
/// # Errors
/// [`ShapesError::LongSide`] and [`ShapesError::NoImages`] for an invalid configuration,
/// [`ShapesError::Write`] if writing fails.
pub fn write_dataset(
    config: &ShapesConfig,
    directory: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), ShapesError> {
    config.validate()?;
    let total = config.train_images + config.val_images;
    let mut before = 0;
    for split in [Split::Train, Split::Val] {
        let (images, annotations) = write_split(config, split, directory, &mut |done| {
            progress(before + done, total);
        })?;
        before += images.len();
        let path = directory.join(format!("annotations/instances_{split}2017.json"));
        write_annotations(config, &images, &annotations, &path)?;
    }
    Ok(())
}

/// Writes the images of one split.
fn write_split(
    config: &ShapesConfig,
    split: Split,
    directory: &Path,
    progress: &mut dyn FnMut(usize),
) -> Result<(Vec<Image>, Vec<Annotation>), ShapesError> {
    let directory = directory.join(format!("{split}2017"));
    create_directory(&directory)?;
    let count = config.image_count(split);
    let (mut images, mut annotations) = (Vec::with_capacity(count), Vec::new());
    let mut start = 0;
    while start < count {
        let end = (start + ROUND).min(count);
        let scenes: Vec<(Composition, Vec<u8>)> = (start..end)
            .into_par_iter()
            .map(|index| {
                let composition = Composition::new(config, split, index);
                let jpeg = photograph(&composition, config, split, index);
                (composition, jpeg)
            })
            .collect();
        for (index, (composition, jpeg)) in (start..end).zip(scenes) {
            let image_id = config.image_id(split, index);
            let image = Image {
                id: image_id,
                file_name: file_name(image_id),
                width: composition.width,
                height: composition.height,
            };
            write_file(&directory.join(&image.file_name), &jpeg)?;
            images.push(image);
            for (place, (owner, object)) in composition.annotated().enumerate() {
                annotations.push(Annotation {
                    id: annotation_id(image_id, place),
                    image_id,
                    category_id: CATEGORY_IDS[object.class_index],
                    bbox: object.box_in_image.to_xywh(),
                    area: object.area,
                    iscrowd: u8::from(object.iscrowd),
                    segmentation: RunLengths {
                        size: [composition.height, composition.width],
                        counts: composition.run_lengths(owner),
                    },
                });
            }
        }
        progress(end);
        start = end;
    }
    Ok((images, annotations))
}

fn write_annotations(
    config: &ShapesConfig,
    images: &[Image],
    annotations: &[Annotation],
    path: &Path,
) -> Result<(), ShapesError> {
    let document = Instances {
        info: Info {
            description: format!("sedet shapes, seed {}", config.seed),
            version: "1",
        },
        licenses: [],
        images,
        annotations,
        categories: CATEGORY_IDS
            .iter()
            .zip(CLASS_NAMES)
            .map(|(&id, name)| Category {
                id,
                name,
                supercategory: "shape",
            })
            .collect(),
    };
    let json = serde_json::to_vec(&document).map_err(|source| ShapesError::Write {
        path: path.to_path_buf(),
        source: source.into(),
    })?;
    if let Some(directory) = path.parent() {
        create_directory(directory)?;
    }
    write_atomically(path, |out| out.write_all(&json)).map_err(|source| ShapesError::Write {
        path: path.to_path_buf(),
        source,
    })
}

fn create_directory(path: &Path) -> Result<(), ShapesError> {
    crate::directory::create_directory(path).map_err(|source| ShapesError::Write {
        path: path.to_path_buf(),
        source,
    })
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ShapesError> {
    fs::write(path, bytes).map_err(|source| ShapesError::Write {
        path: path.to_path_buf(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::shapes::{camera, generate_scene};

    #[test]
    fn a_written_data_set_reads_back_as_the_generated_scenes() {
        let config = ShapesConfig {
            train_images: 35,
            val_images: 8,
            ..ShapesConfig::default()
        };
        let directory = tempfile::tempdir().unwrap();
        let mut calls = Vec::new();
        write_dataset(&config, directory.path(), &mut |done, total| {
            calls.push((done, total));
        })
        .unwrap();
        assert_eq!(calls, [(32, 43), (35, 43), (43, 43)]);

        let (mut image_ids, mut annotation_ids) = (HashSet::new(), HashSet::new());
        for split in [Split::Train, Split::Val] {
            let path = format!("annotations/instances_{split}2017.json");
            let json = fs::read(directory.path().join(path)).unwrap();
            let document: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let ids: Vec<u64> = document["categories"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| c["id"].as_u64().unwrap())
                .collect();
            assert_eq!(ids, CATEGORY_IDS);
            let images = document["images"].as_array().unwrap();
            assert_eq!(images.len(), config.image_count(split));
            let annotations = document["annotations"].as_array().unwrap();
            let mut described = 0;
            for (index, image) in images.iter().enumerate() {
                let id = image["id"].as_u64().unwrap();
                assert!(image_ids.insert(id));
                let name = image["file_name"].as_str().unwrap();
                let file = directory.path().join(format!("{split}2017")).join(name);
                let pixels = camera::decode(&fs::read(file).unwrap());
                let scene = generate_scene(&config, split, index);
                assert_eq!(pixels, scene.image);
                assert_eq!(image["width"], scene.image.width());
                assert_eq!(image["height"], scene.image.height());

                let own: Vec<_> = annotations
                    .iter()
                    .filter(|a| a["image_id"].as_u64() == Some(id))
                    .collect();
                assert_eq!(own.len(), scene.objects.len());
                for (annotation, object) in own.iter().zip(&scene.objects) {
                    assert!(annotation_ids.insert(annotation["id"].as_u64().unwrap()));
                    assert_eq!(annotation["category_id"], CATEGORY_IDS[object.class_index]);
                    assert_eq!(annotation["iscrowd"], u8::from(object.iscrowd));
                    assert_eq!(annotation["area"], object.area);
                    let bbox: [f32; 4] =
                        serde_json::from_value(annotation["bbox"].clone()).unwrap();
                    assert_eq!(bbox, object.box_in_image.to_xywh());
                }
                described += own.len();
            }
            assert_eq!(described, annotations.len());
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let blocked = directory.path().join("taken");
        fs::write(&blocked, b"a file").unwrap();
        let config = ShapesConfig {
            train_images: 1,
            val_images: 1,
            ..ShapesConfig::default()
        };
        let error = write_dataset(&config, &blocked, &mut |_, _| {}).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("taken"), "{message}");
    }
}
