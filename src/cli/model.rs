//! The options of the subcommands that load a model.

use std::path::{Path, PathBuf};

use super::DeviceArgs;
use super::weights::ThirdPartyArgs;
use sedet_core::device::WorkingDevice;
use sedet_core::model::Model;

/// Options of every subcommand that loads a model and prints what it computes. A subcommand with other JSON
/// describes it with `mut_arg`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ModelArgs {
    /// Model: a sedet checkpoint, a run, a file from torchvision, timm, detectron2, ..., or the name of
    /// published weights (see `sedet weights list`)
    #[arg(long, visible_alias = "weights", value_name = "FILE")]
    pub(super) checkpoint: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) third_party: ThirdPartyArgs,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
}

impl ModelArgs {
    /// Loads a model on the device.
    pub(super) fn load(&self, checkpoint: &Path) -> anyhow::Result<(Model, WorkingDevice)> {
        let device = self.device.resolve()?;
        let weights = self.third_party.load(checkpoint)?;
        let model = Model::from_weights(weights, checkpoint, &device.device)?;
        Ok((model, device))
    }
}
