//! The layers of a network and what they cost.

use sedet_core::backbones::summary::{LayerKind, Summary};

/// A network as a table.
#[derive(Debug, Clone)]
pub struct ModelTable {
    /// The file or the name of the network.
    pub name: String,
    /// For people: `Faster R-CNN with se-resnet18, 6 classes`.
    pub title: String,
    /// Its layers.
    pub summary: Summary,
    /// Side of the square input that the costs are of.
    pub side: usize,
}

impl ModelTable {
    /// Share of the SE units of parameters and multiply-adds, 0 to 1.
    pub fn se_share(&self) -> [f64; 2] {
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

    /// As comma-separated values, as `sedet models NAME --csv` prints them.
    pub fn to_csv(&self) -> String {
        self.summary.to_csv()
    }
}
