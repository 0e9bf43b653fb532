//! The batches of the loaders of both tasks.

use std::time::Duration;

use super::engine::Batches;
use crate::model::ModelError;
use sedet_data::loading::EpochBatches;

/// The batches of a loader, with the error of the tasks.
pub(super) struct LoaderBatches<B>(pub(super) EpochBatches<B>);

impl<B> Batches<B, ModelError> for LoaderBatches<B> {
    fn next(&mut self) -> Option<Result<Option<B>, ModelError>> {
        Some(self.0.next_or_skipped()?.map_err(ModelError::from))
    }

    fn waited(&self) -> Duration {
        self.0.wait_time()
    }
}
