//! Optional tensor inputs of operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};

/// A tensor that an operation can do without.
///
/// burn's derive of `ExtensionType` translates tensors and nested types between backends, but
/// leaves any other field as it is, so that an `Option<FloatTensor<B>>` in a struct does not
/// compile (burn-backend-extension 0.22.1). Variants of an enum are translated; hence this type.
#[derive(Clone, Debug, ExtensionType)]
pub(super) enum OptionalTensor<B: Backend> {
    Absent,
    Present(FloatTensor<B>),
}

impl<B: Backend> OptionalTensor<B> {
    pub(super) fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Present(tensor) => Some(tensor),
        }
    }

    pub(super) fn as_ref(&self) -> Option<&FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Present(tensor) => Some(tensor),
        }
    }
}

impl<B: Backend> From<Option<FloatTensor<B>>> for OptionalTensor<B> {
    fn from(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::Absent, Self::Present)
    }
}
