//! sedet: Squeeze-and-Excitation backbones inside a Faster R-CNN, trained and measured on COCO.
//!
//! The rooms of the house, from the bottom up. Imports run one way only: a room uses those
//! above it in this list, never those below.
//!
//! - `talk`: words for a person.
//! - [`boxes`]: the one box type and the image size, shared by everything.
//! - [`atomic`]: files that appear complete or not at all.
//! - [`memory`]: an allocator that keeps large buffers.
//! - [`pickle`]: Python's pickles, parsed and never executed.
//! - [`kernels`]: our own differentiable operations (convolution, batch norm, RoIAlign).
//! - [`nn`]: layers that all networks share: the SE unit, norms, initialisation.
//! - [`backbones`]: ResNet, VGG, Inception, MobileNet, ShuffleNet, CIFAR's and their SE forms; the zoo table.
//! - [`classification`]: the classifier.
//! - [`detection`]: anchors, matcher, RPN, RoI heads, FPN, Faster R-CNN.
//! - [`data`]: files to pixels and annotations; data sets, augmentations, the loader. Knows no model.
//! - [`eval`]: COCO metrics. - [`excitation`]: what SE units do over a data set. - [`render`]: boxes on pictures, plots.
//! - [`weights`]: modules as named tensors, checkpoints, the files of other programs. - [`predict`]: using a detector.
//! - [`train`]: the engine, optimisers, schedules, checkpoints, events.
//! - [`config`]: the typed run configuration.
//! - [`device`]: which backend runs the tensors.
//! - `viewer`: the window of `sedet view` (feature `viewer`).
//! - [`cli`]: one file per verb of the `sedet` command.

// See `talk` for why.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

pub mod atomic;
pub mod backbones;
pub mod boxes;
pub mod classification;
pub mod cli;
pub mod config;
pub mod data;
pub mod detection;
pub mod device;
pub mod eval;
pub mod excitation;
pub mod kernels;
pub mod memory;
pub mod nn;
pub mod pickle;
pub mod predict;
pub mod render;
mod talk;
pub mod train;
#[cfg(feature = "viewer")]
pub mod viewer;
pub mod weights;
