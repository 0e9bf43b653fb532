//! Builder of ONNX graphs from the layers of sedet's modules.
//!
//! Every node has the name of its layer, and an output of this name. Weights are inputs with their
//! native names. No value is changed or reordered: ONNX's `Conv`, `BatchNormalization` and `Gemm`
//! use the native layout.
//!
//! Batch norms are separate nodes and not folded into the convolutions: the file has the weights of
//! the checkpoint, and runtimes fold them at load time.

use burn::nn::Linear;

use super::messages::{AttributeProto, AttributeType, DataType, NodeProto, TensorProto};
use crate::backbones::summary::{NOMINAL_SIZE, Tracer};
use crate::classification::classifier::Classifier;
use sedet_nn::nn::conv::Conv2d;
use sedet_nn::nn::norm::Norm;
use sedet_nn::nn::pool::{Pool2d, PoolKind, Rounding};
use sedet_nn::nn::se::{Gate, SeStart, SeUnit, Squeeze};

/// The operator set version of the nodes.
pub(super) const OPSET: i64 = 17;
/// Name of the graph's input.
pub(super) const INPUT: &str = "pixels";
/// Name of a classifier's output.
pub(super) const LOGITS: &str = "logits";

/// The nodes of a graph, and their constants apart from the weights.
#[derive(Debug, Default)]
pub(super) struct GraphBuilder {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
}

impl GraphBuilder {
    /// Returns the graph from [`INPUT`] to [`LOGITS`].
    pub(super) fn classifier(model: &Classifier) -> Self {
        let mut graph = Self::default();
        let mut tracer = Tracer::new(NOMINAL_SIZE);
        model.trace(&mut tracer);
        graph.traced(tracer.nodes(), INPUT);
        if let Some(last) = graph.nodes.last_mut() {
            last.output = vec![LOGITS.to_owned()];
        }
        graph
    }

    /// Adds pooling over windows.
    pub(super) fn pool(&mut self, at: &str, pool: Pool2d, x: &str) -> String {
        let (kernel, stride) = ([pool.kernel; 2], [pool.stride; 2]);
        // With this border behind the input, whole windows are as many as a strided convolution has.
        let behind = match pool.rounding {
            Rounding::Convolution => pool.kernel - 1,
            Rounding::Down | Rounding::Up => pool.padding,
        };
        let mut attributes = window(kernel, stride, [(pool.padding, behind); 2]);
        attributes.push(int("ceil_mode", (pool.rounding == Rounding::Up).into()));
        match pool.kind {
            PoolKind::Max => self.node(at, "MaxPool", &[x], attributes),
            PoolKind::Average | PoolKind::AverageInside => {
                let includes_border = pool.kind == PoolKind::Average;
                attributes.push(int("count_include_pad", includes_border.into()));
                self.node(at, "AveragePool", &[x], attributes)
            }
            PoolKind::Blur => self.blur(at, pool, x),
        }
    }

    /// Adds blur pooling as in [`Pool2d::forward`]: the binomial filter is a mean of pairs, repeated.
    fn blur(&mut self, at: &str, pool: Pool2d, x: &str) -> String {
        let border = pool.padding as i64;
        let pads = [0, 0, border, border, 0, 0, border, border];
        let pads = self.constant(&format!("border_{border}"), &pads);
        let reflect = string("mode", "reflect");
        let padded = self.node(&format!("{at}.pad"), "Pad", &[x, &pads], vec![reflect]);
        (1..pool.kernel).fold(padded, |x, pass| {
            let (name, stride) = if pass + 1 == pool.kernel {
                (at.to_owned(), pool.stride)
            } else {
                (format!("{at}.pass{pass}"), 1)
            };
            let attributes = window([2; 2], [stride; 2], [(0, 0); 2]);
            self.node(&name, "AveragePool", &[&x], attributes)
        })
    }

    /// Adds a squeeze-and-excitation unit.
    pub(super) fn se_unit(&mut self, at: &str, se: &SeUnit, x: &str) -> String {
        let (fc1, fc2) = (format!("{at}.fc1"), format!("{at}.fc2"));
        let config = se.config();
        let squeezed = match config.squeeze {
            Squeeze::Average => Some("GlobalAveragePool"),
            Squeeze::Max => Some("GlobalMaxPool"),
            Squeeze::None => None,
        }
        .map(|operator| self.pooled_globally(&format!("{at}.squeezed"), operator, x));
        let scores = match &squeezed {
            Some(squeezed) => {
                let hidden = self.linear(&fc1, &fc1, &se.fc1, squeezed);
                let hidden = self.relu(&fc1, &hidden);
                self.linear(&fc2, &fc2, &se.fc2, &hidden)
            }
            None => {
                let hidden = self.pointwise(&fc1, &se.fc1, x);
                let hidden = self.relu(&fc1, &hidden);
                self.pointwise(&fc2, &se.fc2, &hidden)
            }
        };
        let gate = match config.gate {
            Gate::Sigmoid => "Sigmoid",
            Gate::Tanh => "Tanh",
            Gate::Relu => "Relu",
        };
        // Where units start as identity, the activation is shifted or scaled so that it is 1 at 0.
        let is_grafted = config.start == SeStart::Identity;
        let scores = match config.gate {
            Gate::Relu if is_grafted => {
                self.with_scalar(&format!("{at}.scores"), "Add", &scores, 1.0)
            }
            _ => scores,
        };
        let mut gates = self.node(&format!("{at}.gates"), gate, &[&scores], vec![]);
        if is_grafted {
            let name = format!("{at}.gates.grafted");
            gates = match config.gate {
                Gate::Sigmoid => self.with_scalar(&name, "Mul", &gates, 2.0),
                Gate::Tanh => self.with_scalar(&name, "Add", &gates, 1.0),
                Gate::Relu => gates,
            };
        }
        if squeezed.is_some() {
            let axes = self.constant(SPATIAL_AXES.0, &SPATIAL_AXES.1);
            let maps = format!("{at}.gates.maps");
            gates = self.node(&maps, "Unsqueeze", &[&gates, &axes], vec![]);
        }
        self.node(at, "Mul", &[x, &gates], vec![])
    }

    /// Adds a linear layer at every pixel of `[batch, channels, height, width]`.
    fn pointwise(&mut self, name: &str, layer: &Linear, x: &str) -> String {
        let weight = format!("{name}.weight");
        let transposed = format!("{name}.filters.transposed");
        let rows = self.node(
            &transposed,
            "Transpose",
            &[&weight],
            vec![ints("perm", &[1, 0])],
        );
        let axes = self.constant(SPATIAL_AXES.0, &SPATIAL_AXES.1);
        let filters = format!("{name}.filters");
        let filters = self.node(&filters, "Unsqueeze", &[&rows, &axes], vec![]);
        let mut inputs = vec![x.to_owned(), filters];
        if layer.bias.is_some() {
            inputs.push(format!("{name}.bias"));
        }
        self.node(name, "Conv", &inputs, vec![])
    }

    /// Adds global pooling from `[batch, channels, height, width]` to `[batch, channels]`.
    pub(super) fn pooled_globally(&mut self, name: &str, operator: &str, x: &str) -> String {
        let pooled = self.node(&format!("{name}.maps"), operator, &[x], vec![]);
        self.node(name, "Flatten", &[&pooled], vec![int("axis", 1)])
    }

    /// Adds average pooling to `side` rows and columns (PyTorch's `AdaptiveAvgPool2d`), flattened.
    ///
    /// ONNX has no such operator. The mean of a bin is a product with a matrix of one row per bin,
    /// which is computed from the size of the feature map.
    pub(super) fn pooled_to(&mut self, name: &str, side: usize, x: &str) -> String {
        let rows = self.bins(&format!("{name}.rows"), side, 2, x);
        let columns = self.bins(&format!("{name}.columns"), side, 3, x);
        let columns = self.node(
            &format!("{name}.columns.transposed"),
            "Transpose",
            &[&columns],
            vec![ints("perm", &[1, 0])],
        );
        let by_row = self.node(&format!("{name}.by_row"), "MatMul", &[&rows, x], vec![]);
        let pooled = format!("{name}.pooled");
        let pooled = self.node(&pooled, "MatMul", &[&by_row, &columns], vec![]);
        self.node(name, "Flatten", &[&pooled], vec![int("axis", 1)])
    }

    /// Adds the matrix `[side, length]` that averages an axis of `x` to `side` bins: bin `i` is from
    /// `floor(i * length / side)` to `ceil((i + 1) * length / side)`.
    fn bins(&mut self, at: &str, side: usize, axis: i64, x: &str) -> String {
        let count = side as i64;
        let bounds: Vec<i64> = (0..=count).collect();
        let first = self.integers("bins.first", vec![count, 1], &bounds[..side]);
        let next = self.integers("bins.next", vec![count, 1], &bounds[1..]);
        let side = self.constant("bins.count", &[count]);
        let round_up = self.constant("bins.round_up", &[count - 1]);
        let of = |part: &str| format!("{at}.{part}");
        let length = self.shape(&of("length"), x, axis..axis + 1);
        let scaled = self.node(&of("first"), "Mul", &[&first, &length], vec![]);
        let starts = self.node(&of("starts"), "Div", &[&scaled, &side], vec![]);
        let scaled = self.node(&of("next"), "Mul", &[&next, &length], vec![]);
        let raised = self.node(&of("raised"), "Add", &[&scaled, &round_up], vec![]);
        let ends = self.node(&of("ends"), "Div", &[&raised, &side], vec![]);
        let positions = self.range(&of("positions"), &length);
        let from = [positions.as_str(), &starts];
        let after_start = self.node(&of("after_start"), "GreaterOrEqual", &from, vec![]);
        let to = [positions.as_str(), &ends];
        let before_end = self.node(&of("before_end"), "Less", &to, vec![]);
        let inside = self.node(&of("inside"), "And", &[&after_start, &before_end], vec![]);
        let inside = self.cast(&of("inside.float"), DataType::Float, &inside);
        let counts = self.node(&of("counts"), "Sub", &[&ends, &starts], vec![]);
        let counts = self.cast(&of("counts.float"), DataType::Float, &counts);
        self.node(at, "Div", &[&inside, &counts], vec![])
    }

    /// Adds a linear layer; the weight is `[in, out]`, as in `Gemm`.
    pub(super) fn linear(
        &mut self,
        name: &str,
        layer_name: &str,
        layer: &Linear,
        x: &str,
    ) -> String {
        let mut inputs = vec![x.to_owned(), format!("{layer_name}.weight")];
        if layer.bias.is_some() {
            inputs.push(format!("{layer_name}.bias"));
        }
        self.node(name, "Gemm", &inputs, vec![])
    }

    /// Adds a convolution and its norm, with these two names.
    pub(super) fn normed(
        &mut self,
        [conv_name, norm_name]: [&str; 2],
        conv: &Conv2d,
        norm: &Norm,
        x: &str,
    ) -> String {
        let convolved = self.conv(conv_name, conv_name, conv, x);
        self.norm(norm_name, norm, &convolved)
    }

    /// Adds a batch norm with its running statistics.
    pub(super) fn norm(&mut self, name: &str, norm: &Norm, x: &str) -> String {
        let tensors = ["weight", "bias", "running_mean", "running_var"];
        let mut inputs = vec![x.to_owned()];
        inputs.extend(tensors.map(|tensor| format!("{name}.{tensor}")));
        let epsilon = float("epsilon", norm.epsilon() as f32);
        self.node(name, "BatchNormalization", &inputs, vec![epsilon])
    }

    /// Adds a convolution; `layer_name` is the name of its weights.
    pub(super) fn conv(&mut self, name: &str, layer_name: &str, conv: &Conv2d, x: &str) -> String {
        let mut inputs = vec![x.to_owned(), format!("{layer_name}.weight")];
        if conv.bias.is_some() {
            inputs.push(format!("{layer_name}.bias"));
        }
        let [_, _, height, width] = conv.weight.lazy_shape().dims();
        let options = conv.options();
        let padding = options.padding.map(|side| (side, side));
        let mut attributes = window([height, width], options.stride, padding);
        attributes.push(sizes("dilations", &options.dilation));
        attributes.push(int("group", options.groups as i64));
        self.node(name, "Conv", &inputs, attributes)
    }

    pub(super) fn relu(&mut self, at: &str, x: &str) -> String {
        self.node(&format!("{at}.relu"), "Relu", &[x], vec![])
    }

    /// Adds the concatenation along an axis.
    pub(super) fn concat(&mut self, name: &str, axis: i64, parts: &[String]) -> String {
        self.node(name, "Concat", parts, vec![int("axis", axis)])
    }

    /// Adds the sizes of some axes of `x`, a vector of integers.
    pub(super) fn shape(&mut self, name: &str, x: &str, axes: std::ops::Range<i64>) -> String {
        let attributes = vec![int("start", axes.start), int("end", axes.end)];
        self.node(name, "Shape", &[x], attributes)
    }

    /// Adds the vector 0, 1, ... `length - 1`; `length` is a vector with one integer.
    pub(super) fn range(&mut self, name: &str, length: &str) -> String {
        let first = self.constant("first_axis", &[0]);
        let limit = format!("{name}.limit");
        let limit = self.node(&limit, "Squeeze", &[length, &first], vec![]);
        let start = self.integers("range_start", vec![], &[0]);
        let step = self.integers("range_step", vec![], &[1]);
        self.node(name, "Range", &[&start, &limit, &step], vec![])
    }

    pub(super) fn cast(&mut self, name: &str, to: DataType, x: &str) -> String {
        self.nodes.push(cast(name, to, x));
        name.to_owned()
    }

    /// Adds a node with one output and returns the output's name.
    pub(super) fn node(
        &mut self,
        name: &str,
        operator: &str,
        inputs: &[impl AsRef<str>],
        attribute: Vec<AttributeProto>,
    ) -> String {
        let [output] = self.node_with_outputs(name, operator, inputs, attribute, [name]);
        output
    }

    /// Adds a node and returns the names of its outputs.
    pub(super) fn node_with_outputs<const N: usize>(
        &mut self,
        name: &str,
        operator: &str,
        inputs: &[impl AsRef<str>],
        attribute: Vec<AttributeProto>,
        outputs: [&str; N],
    ) -> [String; N] {
        let outputs = outputs.map(str::to_owned);
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|i| i.as_ref().to_owned()).collect(),
            output: outputs.to_vec(),
            name: name.to_owned(),
            op_type: operator.to_owned(),
            attribute,
        });
        outputs
    }

    /// Adds an operation of a tensor and a number.
    pub(super) fn with_scalar(
        &mut self,
        name: &str,
        operator: &str,
        x: &str,
        value: f32,
    ) -> String {
        let constant = self.floats(&format!("scalar_{value}"), vec![], &[value]);
        self.node(name, operator, &[x, &constant], vec![])
    }

    /// Adds a constant vector of integers. A name that already exists refers to the same constant.
    pub(super) fn constant(&mut self, name: &str, values: &[i64]) -> String {
        self.integers(name, vec![values.len() as i64], values)
    }

    /// Adds a constant tensor of integers; without dimensions it is a scalar.
    pub(super) fn integers(&mut self, name: &str, dims: Vec<i64>, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(name, dims, DataType::Int64, bytes)
    }

    /// Adds a constant tensor of floats.
    pub(super) fn floats(&mut self, name: &str, dims: Vec<i64>, values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(name, dims, DataType::Float, bytes)
    }

    fn initializer(
        &mut self,
        name: &str,
        dims: Vec<i64>,
        data_type: DataType,
        raw_data: Vec<u8>,
    ) -> String {
        if !self.constants.iter().any(|known| known.name == name) {
            self.constants.push(TensorProto {
                dims,
                data_type: data_type.into(),
                name: name.to_owned(),
                raw_data,
            });
        }
        name.to_owned()
    }
}

/// Returns a conversion to another element type; its output has the name of the node.
pub(super) fn cast(name: &str, to: DataType, x: &str) -> NodeProto {
    NodeProto {
        input: vec![x.to_owned()],
        output: vec![name.to_owned()],
        name: name.to_owned(),
        op_type: "Cast".to_owned(),
        attribute: vec![int("to", i32::from(to).into())],
    }
}

/// Height and width of `[batch, channels, height, width]`: name and value of the constant.
pub(super) const SPATIAL_AXES: (&str, [i64; 2]) = ("spatial_axes", [2, 3]);

/// Returns the attributes of a convolution or pooling. `padding` is before and after, for each
/// dimension.
pub(super) fn window(
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [(usize, usize); 2],
) -> Vec<AttributeProto> {
    let [(top, bottom), (left, right)] = padding;
    vec![
        sizes("kernel_shape", &kernel),
        sizes("strides", &stride),
        sizes("pads", &[top, left, bottom, right]),
    ]
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int.into(),
        i: Some(value),
        ..Default::default()
    }
}

pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints.into(),
        ints: values.to_vec(),
        ..Default::default()
    }
}

fn sizes(name: &str, values: &[usize]) -> AttributeProto {
    let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
    ints(name, &values)
}

pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Float.into(),
        f: Some(value),
        ..Default::default()
    }
}

pub(super) fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::String.into(),
        s: Some(value.into()),
        ..Default::default()
    }
}
