//! The networks equal their references: backbones, detectors, optimizer, third-party weights.
//!
//! One binary for many files, because linking each file separately takes longer than running it.

mod common;

mod backbones;
mod cifar_networks;
mod detection_components;
mod faster_rcnn;
mod faster_rcnn_v2;
mod grafting;
mod layouts;
mod onnx;
mod optimizer;
mod se_variants;
