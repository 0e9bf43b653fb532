//! The options of the subcommands that load a model.

use std::path::{Path, PathBuf};

use super::hints::usage_with_hint;
use super::weights::ThirdPartyArgs;
use super::{DeviceArgs, status};
use sedet_core::device::{Backend, WorkingDevice};
use sedet_core::model::Model;
use sedet_nn::kernels::bf16::ComputePrecision;

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
    #[command(flatten)]
    pub(super) precision: PrecisionArgs,
}

impl ModelArgs {
    /// Loads a model on the device.
    pub(super) fn load(&self, checkpoint: &Path) -> anyhow::Result<(Model, WorkingDevice)> {
        let device = self.device.resolve()?;
        let precision = self.precision.resolve(&device)?;
        let weights = self.third_party.load(checkpoint)?;
        let model = Model::from_weights(weights, checkpoint, &device.device)?;
        if precision == ComputePrecision::Bf16 && !model.has_precision() {
            status!("note: the convolutions of this backbone are computed in f32");
        }
        Ok((model.with_precision(precision), device))
    }
}

/// The precision of every subcommand that runs a model without training it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PrecisionArgs {
    /// Precision of multiplications: bf16 is faster on a CPU with AVX512-BF16 instructions [default: f32]
    #[arg(long, value_enum, value_name = "PRECISION", help_heading = "Device")]
    precision: Option<PrecisionName>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PrecisionName {
    F32,
    Bf16,
}

impl PrecisionArgs {
    /// Returns whether the option is given.
    pub(super) const fn is_given(&self) -> bool {
        self.precision.is_some()
    }

    /// Returns the precision for a device. A CPU without bf16 computes in f32, and a line states it.
    pub(super) fn resolve(&self, device: &WorkingDevice) -> anyhow::Result<ComputePrecision> {
        match self.precision {
            None | Some(PrecisionName::F32) => Ok(ComputePrecision::F32),
            Some(PrecisionName::Bf16) if device.backend != Backend::Cpu => Err(usage_with_hint(
                format!(
                    "--precision bf16 requires the CPU, but the device is {}",
                    device.name
                ),
                "add --device cpu, or omit --precision",
            )),
            Some(PrecisionName::Bf16) => {
                if !ComputePrecision::Bf16.is_available() {
                    status!(
                        "note: computing in f32: bf16 needs a CPU with AVX512-BF16 instructions (see `sedet doctor`)"
                    );
                }
                Ok(ComputePrecision::Bf16.or_f32())
            }
        }
    }
}
