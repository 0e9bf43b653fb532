//! Backbones: networks from pixels to feature maps, chosen by name.
//!
//! - [`resnet`]: ResNet, ResNeXt and their SE forms, one module by configuration.
//! - [`preact_resnet`]: ResNet-164 and wide residual networks. - [`shake_shake`]: Shake-Shake.
//! - [`zoo`]: the one table from a name to a configuration.

pub mod preact_resnet;
pub mod resnet;
pub mod shake_shake;
pub mod zoo;
