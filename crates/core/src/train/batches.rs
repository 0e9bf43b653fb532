//! The batches of the loaders of both tasks.

use std::time::Duration;

use super::engine::Batches;
use crate::model::ModelError;
use sedet_data::DataError;
use sedet_data::loading::EpochBatches;

/// The batches of a loader, with the error of the tasks.
pub(super) struct LoaderBatches<B>(pub(super) EpochBatches<B>);

impl<B> Iterator for LoaderBatches<B>
where
    EpochBatches<B>: Iterator<Item = Result<B, DataError>>,
{
    type Item = Result<B, ModelError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map_err(ModelError::from))
    }
}

impl<B> Batches<B, ModelError> for LoaderBatches<B>
where
    EpochBatches<B>: Iterator<Item = Result<B, DataError>>,
{
    fn waited(&self) -> Duration {
        self.0.wait_time()
    }

    fn next_batch(&self) -> usize {
        self.0.next_batch()
    }
}
