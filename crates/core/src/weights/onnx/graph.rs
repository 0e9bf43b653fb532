//! Conversion of a classifier's layers to ONNX nodes.
//!
//! Every node has the name of its layer, and its single output has the name of the node. Weights
//! are inputs with their native names. No value is changed or reordered: ONNX's `Conv`,
//! `BatchNormalization` and `Gemm` use the native layout.
//!
//! Batch norms are separate nodes and not folded into the convolutions: the file has the weights of
//! the checkpoint, and runtimes fold them at load time.

use burn::nn::Linear;

use super::messages::{AttributeProto, AttributeType, DataType, NodeProto, TensorProto};
use crate::backbones::AnyBackbone;
use crate::backbones::resnet::{ResNet, Reshape, ResidualBlock};
use crate::classification::classifier::Classifier;
use sedet_nn::nn::conv::Conv2d;
use sedet_nn::nn::norm::Norm;
use sedet_nn::nn::pool::{Pool2d, PoolKind, Rounding};
use sedet_nn::nn::se::{SeStart, SeUnit};

/// The operator set version of the nodes.
pub(super) const OPSET: i64 = 17;
/// Name of the graph's input.
pub(super) const INPUT: &str = "pixels";
/// Name of the graph's output.
pub(super) const OUTPUT: &str = "logits";

/// The nodes of a graph, and their constants apart from the weights.
#[derive(Debug, Default)]
pub(super) struct GraphBuilder {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
}

impl GraphBuilder {
    /// Returns the graph from [`INPUT`] to [`OUTPUT`]; `None` for a network other than a ResNet
    /// with one linear layer on the mean of its last feature map.
    pub(super) fn classifier(model: &Classifier) -> Option<Self> {
        let AnyBackbone::Resnet(backbone) = &model.backbone else {
            return None;
        };
        if !model.hidden.is_empty() || model.pooled_size() != 1 {
            return None;
        }
        let mut graph = Self::default();
        let maps = graph.backbone("backbone", backbone, INPUT);
        let features = graph.spatial_mean("features", &maps);
        graph.linear(OUTPUT, "fc", &model.fc, &features);
        Some(graph)
    }

    fn backbone(&mut self, at: &str, network: &ResNet, x: &str) -> String {
        let (conv1, bn1) = (format!("{at}.conv1"), format!("{at}.bn1"));
        let mut x = self.conv_norm([&conv1, &bn1], &network.conv1, &network.bn1, x);
        x = self.relu(&bn1, &x);
        let rest = network.stem_convs.iter().zip(&network.stem_norms);
        for (n, (conv, norm)) in rest.enumerate() {
            let names = [
                format!("{at}.stem_convs.{n}"),
                format!("{at}.stem_norms.{n}"),
            ];
            x = self.conv_norm([&names[0], &names[1]], conv, norm, &x);
            x = self.relu(&names[1], &x);
        }
        for (n, pool) in network.pools().iter().enumerate() {
            let name = match n {
                0 => format!("{at}.pooling"),
                n => format!("{at}.pooling.{n}"),
            };
            x = self.pool(&name, *pool, &x);
        }
        let stages = [
            &network.layer1,
            &network.layer2,
            &network.layer3,
            &network.layer4,
        ];
        for (stage, blocks) in stages.into_iter().enumerate() {
            for (n, block) in blocks.iter().enumerate() {
                x = self.block(&format!("{at}.layer{}.{n}", stage + 1), block, &x);
            }
        }
        x
    }

    fn block(&mut self, at: &str, block: &ResidualBlock, x: &str) -> String {
        let mut shortcut = self.reshape(&format!("{at}.shortcut"), block.reshape(), x);
        if let Some(downsample) = &block.downsample {
            let names = [
                format!("{at}.downsample.conv"),
                format!("{at}.downsample.norm"),
            ];
            let names = [names[0].as_str(), names[1].as_str()];
            shortcut = self.conv_norm(names, &downsample.conv, &downsample.norm, &shortcut);
        }
        let clamped_before_se = block.se.as_ref().is_some_and(|se| se.config().after_relu);
        let mut branch = x.to_owned();
        for (n, (conv, norm)) in block.convs.iter().zip(&block.norms).enumerate() {
            let names = [format!("{at}.convs.{n}"), format!("{at}.norms.{n}")];
            branch = self.conv_norm([&names[0], &names[1]], conv, norm, &branch);
            if n + 1 < block.convs.len() || clamped_before_se {
                branch = self.relu(&names[1], &branch);
            }
            if let Some(pool) = block.pool_after(n) {
                branch = self.pool(&format!("{at}.anti_alias"), pool, &branch);
            }
        }
        if let Some(se) = &block.se {
            branch = self.se_unit(&format!("{at}.se"), se, &branch);
        }
        let sum = self.node(&format!("{at}.sum"), "Add", &[&branch, &shortcut], vec![]);
        self.relu(at, &sum)
    }

    /// Adds pooling over windows.
    fn pool(&mut self, at: &str, pool: Pool2d, x: &str) -> String {
        let (kernel, stride) = ([pool.kernel; 2], [pool.stride; 2]);
        let padding = [(pool.padding, pool.padding); 2];
        let mut attributes = window(kernel, stride, padding);
        attributes.push(int("ceil_mode", (pool.rounding != Rounding::Down).into()));
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
        let reflect = AttributeProto {
            name: "mode".into(),
            r#type: AttributeType::String.into(),
            s: Some(b"reflect".to_vec()),
            ..Default::default()
        };
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

    /// Adds the part of a shortcut that has no weights.
    fn reshape(&mut self, at: &str, reshape: Reshape, x: &str) -> String {
        let mut x = x.to_owned();
        if let Some(options) = reshape.pooling() {
            let mut attributes = window(options.kernel_size, options.stride, options.padding);
            attributes.push(int("ceil_mode", options.ceil_mode.into()));
            attributes.push(int("count_include_pad", options.count_include_pad.into()));
            x = self.node(&format!("{at}.pool"), "AveragePool", &[&x], attributes);
        }
        if reshape.stride != 1 {
            let stride = reshape.stride as i64;
            let start = self.constant("slice_start", &[0, 0]);
            // The largest integer is ONNX's "to the end" of an axis of unknown length.
            let end = self.constant("slice_end", &[i64::MAX, i64::MAX]);
            let axes = self.constant(SPATIAL_AXES.0, &SPATIAL_AXES.1);
            let steps = self.constant(&format!("slice_steps_{stride}"), &[stride, stride]);
            let inputs = [x.as_str(), &start, &end, &axes, &steps];
            x = self.node(&format!("{at}.slice"), "Slice", &inputs, vec![]);
        }
        let [before, after] = reshape.zero_channels().map(|count| count as i64);
        if [before, after] != [0, 0] {
            let pads = [0, before, 0, 0, 0, after, 0, 0];
            let pads = self.constant(&format!("pads_{before}_{after}"), &pads);
            x = self.node(&format!("{at}.pad"), "Pad", &[&x, &pads], vec![]);
        }
        x
    }

    fn se_unit(&mut self, at: &str, se: &SeUnit, x: &str) -> String {
        let squeezed = self.spatial_mean(&format!("{at}.squeezed"), x);
        let (fc1, fc2) = (format!("{at}.fc1"), format!("{at}.fc2"));
        let hidden = self.linear(&fc1, &fc1, &se.fc1, &squeezed);
        let hidden = self.relu(&fc1, &hidden);
        let scores = self.linear(&fc2, &fc2, &se.fc2, &hidden);
        let gates = match se.config().start {
            SeStart::Paper => self.node(&format!("{at}.gates"), "Sigmoid", &[&scores], vec![]),
            SeStart::Identity => {
                let half = self.node(&format!("{at}.gates.half"), "Sigmoid", &[&scores], vec![]);
                let factor = self.scalar("grafted_gate_factor", 2.0);
                self.node(&format!("{at}.gates"), "Mul", &[&half, &factor], vec![])
            }
        };
        let axes = self.constant(SPATIAL_AXES.0, &SPATIAL_AXES.1);
        let maps = format!("{at}.gates.maps");
        let gates = self.node(&maps, "Unsqueeze", &[&gates, &axes], vec![]);
        self.node(at, "Mul", &[x, &gates], vec![])
    }

    /// Adds global average pooling from `[batch, channels, height, width]` to `[batch, channels]`.
    fn spatial_mean(&mut self, name: &str, x: &str) -> String {
        let pooled = self.node(&format!("{name}.maps"), "GlobalAveragePool", &[x], vec![]);
        self.node(name, "Flatten", &[&pooled], vec![int("axis", 1)])
    }

    /// Adds a linear layer; the weight is `[in, out]`, as in `Gemm`.
    fn linear(&mut self, name: &str, layer_name: &str, layer: &Linear, x: &str) -> String {
        let mut inputs = vec![x.to_owned(), format!("{layer_name}.weight")];
        if layer.bias.is_some() {
            inputs.push(format!("{layer_name}.bias"));
        }
        self.node(name, "Gemm", &inputs, vec![])
    }

    /// Adds a convolution and its norm, with these two names.
    fn conv_norm(
        &mut self,
        [conv_name, norm_name]: [&str; 2],
        conv: &Conv2d,
        norm: &Norm,
        x: &str,
    ) -> String {
        let convolved = self.conv(conv_name, conv, x);
        let tensors = ["weight", "bias", "running_mean", "running_var"];
        let mut inputs = vec![convolved];
        inputs.extend(tensors.map(|tensor| format!("{norm_name}.{tensor}")));
        let epsilon = AttributeProto {
            name: "epsilon".into(),
            r#type: AttributeType::Float.into(),
            f: Some(norm.epsilon() as f32),
            ..Default::default()
        };
        self.node(norm_name, "BatchNormalization", &inputs, vec![epsilon])
    }

    fn conv(&mut self, name: &str, conv: &Conv2d, x: &str) -> String {
        let mut inputs = vec![x.to_owned(), format!("{name}.weight")];
        if conv.bias.is_some() {
            inputs.push(format!("{name}.bias"));
        }
        let [_, _, height, width] = conv.weight.lazy_shape().dims();
        let options = conv.options();
        let padding = options.padding.map(|side| (side, side));
        let mut attributes = window([height, width], options.stride, padding);
        attributes.push(ints("dilations", &options.dilation));
        attributes.push(int("group", options.groups as i64));
        self.node(name, "Conv", &inputs, attributes)
    }

    fn relu(&mut self, at: &str, x: &str) -> String {
        self.node(&format!("{at}.relu"), "Relu", &[x], vec![])
    }

    /// Adds a node with one output and returns the output's name.
    fn node(
        &mut self,
        name: &str,
        operator: &str,
        inputs: &[impl AsRef<str>],
        attribute: Vec<AttributeProto>,
    ) -> String {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|i| i.as_ref().to_owned()).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: operator.to_owned(),
            attribute,
        });
        name.to_owned()
    }

    /// Adds a constant number. A name that already exists refers to the same constant.
    fn scalar(&mut self, name: &str, value: f32) -> String {
        if !self.constants.iter().any(|known| known.name == name) {
            self.constants.push(TensorProto {
                dims: vec![],
                data_type: DataType::Float.into(),
                name: name.to_owned(),
                raw_data: value.to_le_bytes().to_vec(),
            });
        }
        name.to_owned()
    }

    /// Adds a constant vector of integers. A name that already exists refers to the same constant.
    fn constant(&mut self, name: &str, values: &[i64]) -> String {
        if !self.constants.iter().any(|known| known.name == name) {
            self.constants.push(TensorProto {
                dims: vec![values.len() as i64],
                data_type: DataType::Int64.into(),
                name: name.to_owned(),
                raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            });
        }
        name.to_owned()
    }
}

/// Height and width of `[batch, channels, height, width]`: name and value of the constant.
const SPATIAL_AXES: (&str, [i64; 2]) = ("spatial_axes", [2, 3]);

/// Returns the attributes of a convolution or pooling. `padding` is before and after, for each
/// dimension.
fn window(
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [(usize, usize); 2],
) -> Vec<AttributeProto> {
    let [(top, bottom), (left, right)] = padding;
    vec![
        ints("kernel_shape", &kernel),
        ints("strides", &stride),
        ints("pads", &[top, left, bottom, right]),
    ]
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int.into(),
        i: Some(value),
        ..Default::default()
    }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints.into(),
        ints: values.iter().map(|&v| v as i64).collect(),
        ..Default::default()
    }
}
