//! The networks equal their references: backbones, detectors, optimizer, weights of other programs.
//!
//! One binary for many files: linking each by itself costs more than running them.

mod common;

mod backbones;
mod cifar_networks;
mod detection_components;
mod faster_rcnn;
mod layouts;
mod onnx;
mod optimizer;
mod se_variants;
