//! The weights that a run has kept: a position for each of them, and a last one for the best.

use std::path::{Path, PathBuf};

use super::{RunLog, ViewerState};

impl ViewerState {
    /// Returns the open run if it has kept weights and the first network is of it.
    pub(crate) fn run_with_kept_weights(&self) -> Option<&RunLog> {
        let run = self
            .run
            .as_ref()
            .filter(|run| !run.checkpoints.is_empty())?;
        let network = self.networks[0].as_ref()?;
        network.path.starts_with(&run.directory).then_some(run)
    }

    /// Returns the position of the weights that are chosen; that of the best is the number of kept ones.
    pub(crate) fn weights_position(&self) -> usize {
        let checkpoints = self.run.as_ref().map_or(&[][..], |run| &run.checkpoints);
        let chosen = self.kept_iteration.and_then(|iteration| {
            let mut kept = checkpoints.iter();
            kept.position(|(known, _)| *known == iteration)
        });
        chosen.unwrap_or(checkpoints.len())
    }

    /// Chooses the weights at a position, unless a task on many images is running: it is finished with the
    /// network that it began with.
    pub fn choose_weights(&mut self, position: usize) {
        let Some(run) = self.run_with_kept_weights() else {
            return;
        };
        if self.progress.is_empty() {
            let kept = run.checkpoints.get(position);
            self.kept_iteration = kept.map(|(iteration, _)| *iteration);
        }
    }

    /// Chooses the previous or next weights of the run.
    pub(crate) fn step_weights(&mut self, by: isize) {
        let position = self.weights_position().saturating_add_signed(by);
        self.choose_weights(position);
    }

    /// Returns the file of the weights that are chosen, where it is not the open one. `best`: the file of the best.
    pub(crate) fn weights_to_open(&self, best: impl FnOnce(&Path) -> PathBuf) -> Option<PathBuf> {
        let run = self.run_with_kept_weights()?;
        let open = &self.networks[0].as_ref()?.path;
        let is_kept = |path: &Path| run.checkpoints.iter().any(|(_, kept)| kept == path);
        let wanted = match run.checkpoints.get(self.weights_position()) {
            Some((_, path)) => path.clone(),
            None if is_kept(open) => best(&run.directory),
            None => return None,
        };
        (wanted != *open).then_some(wanted)
    }
}
