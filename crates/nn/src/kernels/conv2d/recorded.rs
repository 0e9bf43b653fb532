//! Convolution on an autodiff backend: what is kept of the forward pass, and the gradients made of it.
//!
//! Maps are most of what a training step holds, so nothing is kept that can be had again for less: a
//! norm's scale is multiplied into the weights once more instead of keeping the product (88 MB of
//! ResNet-50), and the gradient of the gates does without the map before them.

use burn::backend::TensorMetadata;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};
use burn::tensor::{Shape, Slice};

use super::super::{Kernels, needs_gradient, tracked};
use super::Conv2dOptions;

/// What a convolution is made of; see [`super::conv2d_fused`] and [`super::conv2d_gated`].
pub(in super::super) struct Inputs<B: Backend> {
    pub(in super::super) x: FloatTensor<B>,
    pub(in super::super) weight: FloatTensor<B>,
    pub(in super::super) scale: Option<FloatTensor<B>>,
    pub(in super::super) bias: Option<FloatTensor<B>>,
    /// Only with a bias.
    pub(in super::super) residual: Option<FloatTensor<B>>,
    /// Only with a bias and a residual.
    pub(in super::super) gates: Option<FloatTensor<B>>,
}

impl<B: Backend> Inputs<B> {
    /// A convolution and nothing else.
    pub(in super::super) fn new(x: FloatTensor<B>, weight: FloatTensor<B>) -> Self {
        Self {
            x,
            weight,
            scale: None,
            bias: None,
            residual: None,
            gates: None,
        }
    }
}

/// `weight` with each filter multiplied by its `scale`, `[filters]`.
pub(in super::super) fn scaled<B: Kernels>(
    weight: FloatTensor<B>,
    scale: FloatTensor<B>,
) -> FloatTensor<B> {
    let shape = weight.shape();
    let [filters, channels, height, width] = shape.dims::<4>();
    // Each filter as a plane of one image: burn's product with a broadcast scale is slower.
    let planes = Shape::from([1, filters, channels * height, width]);
    let zeros = B::float_zeros(
        Shape::from([filters]),
        &weight.device(),
        weight.dtype().into(),
    );
    let planes = B::float_reshape(weight, planes);
    B::float_reshape(B::affine_forward(planes, scale, zeros, None, false), shape)
}

/// What the backward pass needs; inputs that no gradient asks for are not kept.
#[derive(Clone, Debug)]
pub(in super::super) struct Conv2dState<B: Backend> {
    x: Option<FloatTensor<B>>,
    weight: Option<FloatTensor<B>>,
    scale: Option<FloatTensor<B>>,
    gated: Option<Gated<B>>,
    /// With ReLU.
    output: Option<FloatTensor<B>>,
    input_shape: [usize; 4],
    weight_shape: [usize; 4],
    options: Conv2dOptions,
}

#[derive(Clone, Debug)]
struct Gated<B: Backend> {
    /// `[batch, filters, 1, 1]`.
    gates: FloatTensor<B>,
    /// `[filters]`.
    bias: FloatTensor<B>,
}

/// The nodes that ask for a gradient.
struct Parents {
    x: Option<NodeId>,
    weight: Option<NodeId>,
    bias: Option<NodeId>,
    residual: Option<NodeId>,
    gates: Option<NodeId>,
}

impl<B: Kernels> Conv2dState<B> {
    /// Registers the gradients of all parents that ask for one.
    fn register(
        mut self,
        mut output_gradient: FloatTensor<B>,
        parents: Parents,
        grads: &mut Gradients,
    ) {
        if let Some(output) = self.output.take() {
            output_gradient = B::relu_gradient(output, output_gradient);
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
                Some(scale) => scaled::<B>(weight, scale),
                None => weight,
            };
            let gradient = B::conv2d_input_gradient(
                output_gradient.clone(),
                weight,
                self.input_shape,
                self.options,
            );
            grads.register::<B>(node, gradient);
        }
        if let (Some(node), Some(x)) = (parents.weight, self.x) {
            let gradient =
                B::conv2d_weight_gradient(x, output_gradient, self.weight_shape, self.options);
            let gradient = match self.scale {
                Some(scale) => scaled::<B>(gradient, scale),
                None => gradient,
            };
            grads.register::<B>(node, gradient);
        }
    }

    /// Of an image, with `d` the gradient of the output behind the ReLU: the gradient of a weight
    /// without its gate is `M[f, k] = sum over pixels of d[f] x[k]`, and that of a gate, `sum of d[f]
    /// (w[f] x + bias[f])`, is `sum over k of w[f, k] M[f, k] + bias[f] sum of d[f]`. So the gates
    /// need no map of their own, and as they multiply whole filters, `d` times the gates is not made
    /// either.
    fn register_gated(
        self,
        output_gradient: FloatTensor<B>,
        gated: Gated<B>,
        parents: Parents,
        grads: &mut Gradients,
    ) {
        let (Some(x), Some(weight)) = (self.x, self.weight) else {
            // With gates both are kept.
            return;
        };
        let [batch, channels, height, width] = self.input_shape;
        let filters = self.weight_shape[0];
        let per_filter = Shape::from([filters]);
        let weight = match self.scale.clone() {
            Some(scale) => scaled::<B>(weight, scale),
            None => weight,
        };
        let (mut of_x, mut of_gates) = (Vec::new(), Vec::new());
        let (mut of_weight, mut of_bias) = (None, None);
        for image in 0..batch {
            let gradient = image_of::<B>(output_gradient.clone(), image);
            let gates = image_of::<B>(gated.gates.clone(), image);
            let gates = B::float_reshape(gates, per_filter.clone());
            if let Some(node) = parents.x {
                let found = B::conv2d_input_gradient(
                    gradient.clone(),
                    scaled::<B>(weight.clone(), gates.clone()),
                    [1, channels, height, width],
                    self.options,
                );
                match batch {
                    1 => grads.register::<B>(node, found),
                    _ => of_x.push(found),
                }
            }
            let sums = B::sum_per_channel(gradient.clone());
            let products = B::conv2d_weight_gradient(
                image_of::<B>(x.clone(), image),
                gradient,
                self.weight_shape,
                self.options,
            );
            if parents.gates.is_some() {
                let along = Shape::from([1, filters, weight.shape().num_elements() / filters, 1]);
                let dot = B::dot_per_plane(
                    B::float_reshape(weight.clone(), along.clone()),
                    B::float_reshape(products.clone(), along),
                );
                let of_bias = B::float_mul(gated.bias.clone(), sums.clone());
                let dot = B::float_reshape(dot, per_filter.clone());
                of_gates.push(B::float_add(dot, of_bias));
            }
            if parents.bias.is_some() {
                add_to::<B>(&mut of_bias, B::float_mul(sums, gates.clone()));
            }
            if parents.weight.is_some() {
                let factors = match self.scale.clone() {
                    Some(scale) => B::float_mul(gates, scale),
                    None => gates,
                };
                add_to::<B>(&mut of_weight, scaled::<B>(products, factors));
            }
        }
        let zeros = |shape: Shape| {
            let dtype = output_gradient.dtype().into();
            B::float_zeros(shape, &output_gradient.device(), dtype)
        };
        // An empty batch has gradients too.
        let joined = |images: Vec<FloatTensor<B>>, shape: Shape| match images.is_empty() {
            true => zeros(shape),
            false => B::float_reshape(B::float_cat(images, 0), shape),
        };
        if let (Some(node), false) = (parents.x, batch == 1) {
            let shape = Shape::from(self.input_shape);
            grads.register::<B>(node, joined(of_x, shape));
        }
        if let Some(node) = parents.weight {
            let gradient = of_weight.unwrap_or_else(|| zeros(Shape::from(self.weight_shape)));
            grads.register::<B>(node, gradient);
        }
        if let Some(node) = parents.bias {
            let gradient = of_bias.unwrap_or_else(|| zeros(per_filter));
            grads.register::<B>(node, gradient);
        }
        if let Some(node) = parents.gates {
            let shape = Shape::from([batch, filters, 1, 1]);
            grads.register::<B>(node, joined(of_gates, shape));
        }
    }
}

/// One image of a batch of at least one, as a batch of one.
fn image_of<B: Backend>(batch: FloatTensor<B>, image: usize) -> FloatTensor<B> {
    match batch.shape()[0] {
        1 => batch,
        _ => B::float_slice(batch, &[Slice::from(image..image + 1)]),
    }
}

fn add_to<B: Backend>(sum: &mut Option<FloatTensor<B>>, more: FloatTensor<B>) {
    *sum = Some(match sum.take() {
        Some(sum) => B::float_add(sum, more),
        None => more,
    });
}

/// The parents are input, weight, bias, residual and gates, or the first of them.
#[derive(Debug)]
struct Conv2d;

impl<B: Kernels, const N: usize> Backward<B, N> for Conv2d {
    type State = Conv2dState<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let mut nodes = ops.parents.into_iter();
        let mut next = || nodes.next().flatten().map(|node| node.id);
        let parents = Parents {
            x: next(),
            weight: next(),
            bias: next(),
            residual: next(),
            gates: next(),
        };
        ops.state.register(output_gradient, parents, grads);
    }
}

/// The output, with its gradients recorded.
pub(in super::super) fn recorded<B: Kernels, C: CheckpointStrategy>(
    inputs: Inputs<Autodiff<B, C>>,
    relu: bool,
    options: Conv2dOptions,
) -> FloatTensor<Autodiff<B, C>> {
    let mut state = Conv2dState {
        x: None,
        weight: None,
        scale: None,
        gated: None,
        output: None,
        input_shape: inputs.x.shape().dims::<4>(),
        weight_shape: inputs.weight.shape().dims::<4>(),
        options,
    };
    let is_gated = inputs.gates.is_some();
    let of_x = is_gated || needs_gradient::<B, C>(&inputs.x);
    let of_weight = is_gated || needs_gradient::<B, C>(&inputs.weight);

    let (x, x_node) = inputs.x.into_parts();
    let (weight, weight_node) = inputs.weight.into_parts();
    let scale = inputs.scale.map(|scale| scale.into_parts().0);
    let (bias, bias_node) = parts::<B, C>(inputs.bias);
    let (residual, residual_node) = parts::<B, C>(inputs.residual);
    let (gates, gates_node) = parts::<B, C>(inputs.gates);

    state.x = of_weight.then(|| x.clone());
    state.weight = of_x.then(|| weight.clone());
    let to_use = match scale.clone() {
        Some(scale) => scaled::<B>(weight, scale),
        None => weight,
    };
    state.scale = scale;
    let output = match (gates, bias, residual) {
        (Some(gates), Some(bias), Some(residual)) => {
            state.gated = Some(Gated {
                gates: gates.clone(),
                bias: bias.clone(),
            });
            B::conv2d_gated_forward(x, to_use, bias, gates, residual, options)
        }
        (_, bias, residual) => B::conv2d_forward(x, to_use, bias, residual, relu, options),
    };
    state.output = (relu || is_gated).then(|| output.clone());
    match (bias_node, residual_node, gates_node) {
        (Some(bias), Some(residual), Some(gates)) => {
            let nodes = [x_node, weight_node, bias, residual, gates];
            tracked::<B, C, _, _>(Conv2d, state, output, nodes)
        }
        (Some(bias), Some(residual), None) => {
            tracked::<B, C, _, _>(Conv2d, state, output, [x_node, weight_node, bias, residual])
        }
        (Some(bias), ..) => {
            tracked::<B, C, _, _>(Conv2d, state, output, [x_node, weight_node, bias])
        }
        (None, ..) => tracked::<B, C, _, _>(Conv2d, state, output, [x_node, weight_node]),
    }
}

fn parts<B: Backend, C: CheckpointStrategy>(
    tensor: Option<FloatTensor<Autodiff<B, C>>>,
) -> (Option<FloatTensor<B>>, Option<NodeGuard>) {
    tensor.map(|tensor| tensor.into_parts()).unzip()
}
