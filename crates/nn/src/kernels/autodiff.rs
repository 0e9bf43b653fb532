//! Recording of gradients, shared by all operations.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

use super::optional::OptionalTensor;

/// Returns whether the backward pass will compute a gradient of this tensor.
///
/// burn reveals this only to an operation in preparation, so this prepares one and drops it.
/// Operations call it to keep an input for the backward pass only when a gradient depends on it.
pub(super) fn needs_gradient<B: Backend, C: CheckpointStrategy>(
    tensor: &FloatTensor<Autodiff<B, C>>,
) -> bool {
    #[derive(Debug)]
    struct Probe;

    impl<B: Backend> Backward<B, 1> for Probe {
        type State = ();

        fn backward(self, _: Ops<(), 1>, _: &mut Gradients, _: &mut Checkpointer) {
            // Never registered, so never called.
        }
    }

    let preparation = Backward::<B, 1>::prepare::<C>(Probe, [tensor.node()])
        .compute_bound()
        .stateful();
    matches!(preparation, OpsKind::Tracked(_))
}

/// Records that `operation` computes the gradients of `parents` from `state`, unless no parent
/// needs one, and returns `output` as the result.
pub(super) fn tracked<B: Backend, C: CheckpointStrategy, O: Backward<B, N>, const N: usize>(
    operation: O,
    state: O::State,
    output: FloatTensor<B>,
    parents: [NodeGuard; N],
) -> FloatTensor<Autodiff<B, C>> {
    match operation.prepare::<C>(parents).compute_bound().stateful() {
        OpsKind::Tracked(preparation) => preparation.finish(state, output),
        OpsKind::UnTracked(preparation) => preparation.finish(output),
    }
}

/// Splits an optional input into its tensor and its node in the graph.
///
/// An absent input gets the node of a constant, so that an operation has the same number of
/// parents with and without it. `like` is any tensor of the backend; nothing is copied.
pub(super) fn into_optional_parts<B: Backend, C: CheckpointStrategy>(
    input: OptionalTensor<Autodiff<B, C>>,
    like: &FloatTensor<B>,
) -> (Option<FloatTensor<B>>, NodeGuard) {
    match input {
        OptionalTensor::Present(tensor) => {
            let (tensor, node) = tensor.into_parts();
            (Some(tensor), node)
        }
        OptionalTensor::Absent => {
            let constant = <Autodiff<B, C> as AutodiffBackend>::from_inner(like.clone());
            (None, constant.node())
        }
    }
}
