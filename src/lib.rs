//! Object detection with Faster R-CNN and Squeeze-and-Excitation (SE) backbones: training, evaluation on COCO,
//! prediction and the analysis of SE gates. Classification uses the same backbones and the same training
//! engine.
//!
//! # Examples
//! Detect the objects in an image with the shipped checkpoint:
//!
//! ```
//! use sedet::{DeviceChoice, Model, resolve_device};
//! # use sedet::{Split, shapes::{ShapesConfig, generate_scene}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let image = generate_scene(&ShapesConfig::default(), Split::Val, 0).image;
//! let device = resolve_device(DeviceChoice::Auto)?.device;
//! let model = Model::load("assets/shapes-se-resnet18.safetensors", &device)?;
//! // `sedet::decode_image(path)` reads an image file.
//! for found in model.detect(&image)? {
//!     println!("{} {:.2} {:?}", model.spec.class_name(found.label), found.score, found.box_in_image);
//! }
//! # assert!(model.detect(&image)?.iter().any(|found| found.score > 0.9));
//! # Ok(())
//! # }
//! ```
//!
//! The directory `examples/` of the repository contains four programs that need no data: `detect_image`,
//! `evaluate_results`, `train_coco_directory` and `record_gates`.
//!
//! # Modules
//! Using models:
//! - [`model`]: [`Model`] loads a checkpoint or a third-party weights file, predicts, evaluates and records SE gates.
//! - [`weights`]: checkpoints, import of third-party files, export to other libraries and to ONNX.
//! - [`excitation`]: statistics of SE gates. [`explanation`]: why a detection or a class has its score. [`render`]: annotated images, charts and figures. [`report`]: the files of
//!   an evaluation.
//! - [`device`]: CPU, wgpu and CUDA devices. [`mod@bench`]: time and memory of a network on this machine.
//!
//! Training:
//! - [`train`]: the training loop, optimizers, schedules, run directories and events.
//! - [`config`]: recipes in TOML and their fields.
//!
//! Networks:
//! - [`detection`]: Faster R-CNN. [`classification`]: classifiers. [`backbones`]: backbones of both.
//! - [`nn`]: layers, among them SE units. [`kernels`]: differentiable operations for CPU and GPU.
//!
//! Data, without tensors:
//! - [`datasets`]: datasets by name or directory, downloads. [`annotations`]: the annotation store and its formats.
//! - [`loading`]: decoding, augmentation, batches. [`curation`]: check, fix, convert, split, statistics.
//! - [`eval`]: COCO and classification metrics. [`shapes`]: the generator of scenes. [`boxes`]: box types.
//! - [`images`]: image decoding and the sources of images.
//!
//! Features: `viewer` (default) builds the viewer, `wgpu` and `cuda` build GPU support, `mpi` training by
//! several processes.

pub use sedet_core::{
    backbones, bench, classification, config, detection, device, distributed, excitation,
    explanation, memory, model, read_back, render, report, train, weights,
};
pub use sedet_data::{
    DataError, annotations, atomic, boxes, curation, datasets, eval, images, loading, pickle,
    shapes, text, text_file,
};
pub use sedet_nn::{kernels, nn};
#[cfg(feature = "viewer")]
pub use sedet_viewer as viewer;

pub use burn::tensor::Device;
pub use sedet_core::device::{DeviceChoice, resolve as resolve_device};
pub use sedet_core::model::{
    Dataset, ImageDetection, Model, ModelError, ModelSpec, Prediction, RankedClass, Recording, Task,
};
pub use sedet_data::annotations::{AnnotationStore, Category, Split};
pub use sedet_data::boxes::BoxXyxy;
pub use sedet_data::eval::{CocoEvaluation, GroundTruth, evaluate, read_results};
pub use sedet_data::loading::decode::decode_image;
