//! Backbones: networks from pixels to feature maps, chosen by name.
//!
//! - [`resnet`]: ResNet, ResNeXt and their SE forms, one module by configuration.
//! - [`zoo`]: the one table from a name to a configuration.

pub mod resnet;
pub mod zoo;
