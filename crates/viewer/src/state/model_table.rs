//! The layers of a network with parameters and multiply-adds.

use sedet_core::backbones::summary::{LayerKind, Summary};

/// The layers of a network.
#[derive(Debug, Clone)]
pub struct ModelTable {
    /// [`NetworkInfo::id`](super::NetworkInfo::id).
    pub network: u64,
    /// A title such as `Faster R-CNN with se-resnet18, 6 classes`.
    pub title: String,
    /// The layers.
    pub summary: Summary,
    /// Side of the square input that the costs are of.
    pub side: usize,
}

impl ModelTable {
    /// Returns the shares of parameters and of multiply-adds that belong to SE blocks, 0 to 1.
    pub(crate) fn se_share(&self) -> [f64; 2] {
        let units = || {
            self.summary
                .layers
                .iter()
                .filter(|l| l.kind == LayerKind::Se)
        };
        let share = |part: u64, all: u64| part as f64 / all.max(1) as f64;
        [
            share(
                units().map(|l| l.parameters).sum(),
                self.summary.parameters(),
            ),
            share(units().map(|l| l.macs).sum(), self.summary.macs()),
        ]
    }

    /// Returns the layers as CSV.
    pub fn to_csv(&self) -> String {
        self.summary.to_csv()
    }
}
