//! The convolution on an autodiff backend: what is kept for the backward pass, and its gradients.
//!
//! Feature maps are most of the memory of a training step, so nothing is kept that can be
//! recomputed for less: the product of a norm's scale and the weights is computed again (88 MB for
//! ResNet-50), and the gradient of the gates does not need the feature map before them.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::Shape;

use super::super::autodiff::{into_optional_parts, needs_gradient, tracked};
use super::super::bf16::ComputePrecision;
use super::super::saved::{SaveOps, image_of};
use super::{Conv2dInputs, Conv2dOps, Conv2dOptions, SavedConv2dOps, scale_filters};

/// The inputs of the backward pass; those that no gradient depends on are not kept.
#[derive(Clone, Debug)]
struct Conv2dState<B: SaveOps> {
    x: Option<B::Saved>,
    weight: Option<FloatTensor<B>>,
    scale: Option<FloatTensor<B>>,
    gated: Option<Gated<B>>,
    /// Of the output, with ReLU.
    signs: Option<B::Signs>,
    input_shape: [usize; 4],
    weight_shape: [usize; 4],
    options: Conv2dOptions,
    precision: ComputePrecision,
}

#[derive(Clone, Debug)]
struct Gated<B: Backend> {
    /// `[batch, filters, 1, 1]`.
    gates: FloatTensor<B>,
    /// `[filters]`.
    bias: Option<FloatTensor<B>>,
}

/// The parents that need a gradient.
struct Parents {
    x: Option<NodeId>,
    weight: Option<NodeId>,
    bias: Option<NodeId>,
    residual: Option<NodeId>,
    gates: Option<NodeId>,
}

impl<B: SavedConv2dOps> Conv2dState<B> {
    /// Registers the gradients of all parents that need one.
    fn register(
        mut self,
        mut output_gradient: FloatTensor<B>,
        parents: Parents,
        grads: &mut Gradients,
    ) {
        if let Some(signs) = self.signs.take() {
            output_gradient = B::gradient_of_relu(signs, output_gradient);
        }
        if let Some(node) = parents.residual {
            grads.register::<B>(node, output_gradient.clone());
        }
        match self.gated.take() {
            Some(gated) => self.register_gated(output_gradient, gated, parents, grads),
            None => self.register_plain(output_gradient, parents, grads),
        }
    }

    fn register_plain(
        self,
        output_gradient: FloatTensor<B>,
        parents: Parents,
        grads: &mut Gradients,
    ) {
        if let Some(node) = parents.bias {
            let gradient = B::sum_per_channel(output_gradient.clone());
            grads.register::<B>(node, gradient);
        }
        if let (Some(node), Some(weight)) = (parents.x, self.weight) {
            let weight = match self.scale.clone() {
                Some(scale) => scale_filters::<B>(weight, scale),
                None => weight,
            };
            let gradient = B::conv2d_input_gradient(
                output_gradient.clone(),
                weight,
                self.input_shape,
                self.options,
                self.precision,
            );
            grads.register::<B>(node, gradient);
        }
        if let (Some(node), Some(x)) = (parents.weight, self.x) {
            let gradient = B::weight_gradient_of_saved(
                x,
                output_gradient,
                self.weight_shape,
                self.options,
                self.precision,
            );
            let gradient = match self.scale {
                Some(scale) => scale_filters::<B>(gradient, scale),
                None => gradient,
            };
            grads.register::<B>(node, gradient);
        }
    }

    /// Registers the gradients of a convolution with gates, image by image.
    ///
    /// Let `d` be the gradient of an image's output behind the ReLU. The gradient of the weights
    /// without gates is `M[f, k] = sum over pixels of d[f] x[k]`. The gradient of gate `f`,
    /// `sum of d[f] (w[f] x + bias[f])`, equals `sum over k of w[f, k] M[f, k] + bias[f] sum of d[f]`,
    /// so no feature map before the gates is needed. As gates multiply whole filters, the product of
    /// `d` and the gates is not needed either.
    fn register_gated(
        self,
        output_gradient: FloatTensor<B>,
        gated: Gated<B>,
        parents: Parents,
        grads: &mut Gradients,
    ) {
        let (Some(x), Some(weight)) = (self.x, self.weight) else {
            // Both are kept whenever there are gates.
            return;
        };
        let [batch, channels, height, width] = self.input_shape;
        let filters = self.weight_shape[0];
        let per_filter = Shape::from([filters]);
        let weight = match self.scale.clone() {
            Some(scale) => scale_filters::<B>(weight, scale),
            None => weight,
        };
        let (mut x_gradients, mut gates_gradients) = (Vec::new(), Vec::new());
        let (mut weight_gradient, mut bias_gradient) = (None, None);
        for image in 0..batch {
            let gradient = image_of::<B>(output_gradient.clone(), image);
            let gates = image_of::<B>(gated.gates.clone(), image);
            let gates = B::float_reshape(gates, per_filter.clone());
            if let Some(node) = parents.x {
                let x_gradient = B::conv2d_input_gradient(
                    gradient.clone(),
                    scale_filters::<B>(weight.clone(), gates.clone()),
                    [1, channels, height, width],
                    self.options,
                    self.precision,
                );
                if batch == 1 {
                    grads.register::<B>(node, x_gradient);
                } else {
                    x_gradients.push(x_gradient);
                }
            }
            let sums = B::sum_per_channel(gradient.clone());
            let products = B::weight_gradient_of_saved(
                <B as SaveOps>::image_of(&x, image),
                gradient,
                self.weight_shape,
                self.options,
                self.precision,
            );
            if parents.gates.is_some() {
                let along = Shape::from([1, filters, weight.shape().num_elements() / filters, 1]);
                let dot = B::dot_per_plane(
                    B::float_reshape(weight.clone(), along.clone()),
                    B::float_reshape(products.clone(), along),
                );
                let dot = B::float_reshape(dot, per_filter.clone());
                gates_gradients.push(match gated.bias.clone() {
                    Some(bias) => B::float_add(dot, B::float_mul(bias, sums.clone())),
                    None => dot,
                });
            }
            if parents.bias.is_some() {
                add_to::<B>(&mut bias_gradient, B::float_mul(sums, gates.clone()));
            }
            if parents.weight.is_some() {
                let factors = match self.scale.clone() {
                    Some(scale) => B::float_mul(gates, scale),
                    None => gates,
                };
                add_to::<B>(&mut weight_gradient, scale_filters::<B>(products, factors));
            }
        }
        let zeros = |shape: Shape| {
            let dtype = output_gradient.dtype().into();
            B::float_zeros(shape, &output_gradient.device(), dtype)
        };
        // An empty batch has gradients too.
        let joined = |images: Vec<FloatTensor<B>>, shape: Shape| {
            if images.is_empty() {
                zeros(shape)
            } else {
                B::float_reshape(B::float_cat(images, 0), shape)
            }
        };
        if let (Some(node), false) = (parents.x, batch == 1) {
            let shape = Shape::from(self.input_shape);
            grads.register::<B>(node, joined(x_gradients, shape));
        }
        if let Some(node) = parents.weight {
            let gradient = weight_gradient.unwrap_or_else(|| zeros(Shape::from(self.weight_shape)));
            grads.register::<B>(node, gradient);
        }
        if let Some(node) = parents.bias {
            let gradient = bias_gradient.unwrap_or_else(|| zeros(per_filter));
            grads.register::<B>(node, gradient);
        }
        if let Some(node) = parents.gates {
            let shape = Shape::from([batch, filters, 1, 1]);
            grads.register::<B>(node, joined(gates_gradients, shape));
        }
    }
}

fn add_to<B: Backend>(sum: &mut Option<FloatTensor<B>>, more: FloatTensor<B>) {
    *sum = Some(match sum.take() {
        Some(sum) => B::float_add(sum, more),
        None => more,
    });
}

/// The parents are input, weight, bias, residual and gates.
#[derive(Debug)]
struct Conv2d;

impl<B: SavedConv2dOps> Backward<B, 5> for Conv2d {
    type State = Conv2dState<B>;

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let [x, weight, bias, residual, gates] =
            ops.parents.map(|parent| parent.map(|node| node.id));
        let parents = Parents {
            x,
            weight,
            bias,
            residual,
            gates,
        };
        ops.state.register(output_gradient, parents, grads);
    }
}

impl<B: SavedConv2dOps, C: CheckpointStrategy> Conv2dOps for Autodiff<B, C> {
    fn fused_conv2d(inputs: Conv2dInputs<Self>, options: Conv2dOptions) -> FloatTensor<Self> {
        let is_gated = inputs.gates.as_ref().is_some();
        let keeps_x = is_gated || needs_gradient::<B, C>(&inputs.weight);
        let keeps_weight = is_gated || needs_gradient::<B, C>(&inputs.x);
        let (x, x_node) = inputs.x.into_parts();
        let (weight, weight_node) = inputs.weight.into_parts();
        let (scale, _) = into_optional_parts::<B, C>(inputs.scale, &x);
        let (bias, bias_node) = into_optional_parts::<B, C>(inputs.bias, &x);
        let (residual, residual_node) = into_optional_parts::<B, C>(inputs.residual, &x);
        let (gates, gates_node) = into_optional_parts::<B, C>(inputs.gates, &x);
        let mut state = Conv2dState {
            input_shape: x.shape().dims::<4>(),
            weight_shape: weight.shape().dims::<4>(),
            x: keeps_x.then(|| B::save(x.clone(), inputs.precision)),
            weight: keeps_weight.then(|| weight.clone()),
            scale: scale.clone(),
            gated: gates.clone().map(|gates| Gated {
                gates,
                bias: bias.clone(),
            }),
            signs: None,
            options,
            precision: inputs.precision,
        };
        let inner = Conv2dInputs {
            x,
            weight,
            scale: scale.into(),
            bias: bias.into(),
            gates: gates.into(),
            residual: residual.into(),
            relu: inputs.relu,
            // The weights change from step to step.
            packed: None,
            precision: inputs.precision,
        };
        let precision = state.precision;
        let output = B::fused_conv2d(inner, options);
        state.signs = inputs
            .relu
            .then(|| B::save_signs(output.clone(), precision));
        let nodes = [x_node, weight_node, bias_node, residual_node, gates_node];
        tracked::<B, C, _, _>(Conv2d, state, output, nodes)
    }
}
