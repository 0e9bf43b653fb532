//! The operations of a traced network as nodes.

use super::graph::{GraphBuilder, SPATIAL_AXES, ints};
use crate::backbones::AnyBackbone;
use crate::backbones::summary::{NOMINAL_SIZE, Node, Operation, Tracer};

impl GraphBuilder {
    /// Adds a backbone and returns the output of each of its parts.
    pub(super) fn backbone(&mut self, at: &str, network: &AnyBackbone, x: &str) -> Vec<String> {
        let mut tracer = Tracer::new(NOMINAL_SIZE);
        let mut ends = Vec::with_capacity(network.parts());
        tracer.within(at, |tracer| {
            for part in 0..network.parts() {
                network.trace_part(part, tracer);
                ends.push(tracer.current().node);
            }
        });
        let outputs = self.traced(tracer.nodes(), x);
        ends.into_iter().map(|node| outputs[node].clone()).collect()
    }

    /// Adds the operations of a trace of the input `x` and returns the output of each.
    pub(super) fn traced(&mut self, nodes: &[Node<'_>], x: &str) -> Vec<String> {
        let mut outputs: Vec<String> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let inputs: Vec<String> = node.inputs.iter().map(|&at| outputs[at].clone()).collect();
            // An input of the trace has no inputs of its own.
            let first = inputs.first().map_or(x, String::as_str);
            let name = node.name.as_str();
            let output = match node.operation {
                Operation::Input => x.to_owned(),
                Operation::Conv(conv) => self.conv(name, name, conv, first),
                Operation::Norm(norm) => self.norm(name, norm, first),
                Operation::Relu => self.node(name, "Relu", &inputs, vec![]),
                Operation::Pool(pool) => self.pool(name, pool, first),
                Operation::PoolTo(1) => self.pooled_globally(name, "GlobalAveragePool", first),
                Operation::PoolTo(side) => self.pooled_to(name, side, first),
                Operation::Se(unit) => self.se_unit(name, unit, first),
                Operation::Linear(layer) => self.linear(name, name, layer, first),
                Operation::Subsample(stride) => self.subsampled(name, stride, first),
                Operation::PadChannels(zeros) => self.channels_padded(name, zeros, first),
                Operation::Shuffle { channels, groups } => {
                    self.shuffled(name, channels, groups, first)
                }
                Operation::Shift(by) => self.shifted(name, by, first),
                Operation::Scale(factor) => self.with_scalar(name, "Mul", first, factor as f32),
                Operation::Sum if inputs.len() == 2 => self.node(name, "Add", &inputs, vec![]),
                Operation::Sum => self.node(name, "Sum", &inputs, vec![]),
                Operation::Concat => self.concat(name, 1, &inputs),
            };
            outputs.push(output);
        }
        outputs
    }

    /// Adds the selection of every `stride`-th row and column.
    fn subsampled(&mut self, at: &str, stride: usize, x: &str) -> String {
        let stride = stride as i64;
        let start = self.constant("slice_start", &[0, 0]);
        // The largest integer is ONNX's "to the end" of an axis of unknown length.
        let end = self.constant("slice_end", &[i64::MAX, i64::MAX]);
        let axes = self.constant(SPATIAL_AXES.0, &SPATIAL_AXES.1);
        let steps = self.constant(&format!("slice_steps_{stride}"), &[stride, stride]);
        let inputs = [x, &start, &end, &axes, &steps];
        self.node(at, "Slice", &inputs, vec![])
    }

    /// Adds zero channels before and after.
    fn channels_padded(&mut self, at: &str, zeros: [usize; 2], x: &str) -> String {
        let [before, after] = zeros.map(|count| count as i64);
        let pads = [0, before, 0, 0, 0, after, 0, 0];
        let pads = self.constant(&format!("pads_{before}_{after}"), &pads);
        self.node(at, "Pad", &[x, &pads], vec![])
    }

    /// Interleaves the channels of all groups.
    fn shuffled(&mut self, at: &str, channels: usize, groups: usize, x: &str) -> String {
        let each = channels / groups;
        // A zero keeps the size of the axis.
        let split = [0, groups as i64, each as i64, -1];
        let split = self.constant(&format!("groups_{groups}_{each}"), &split);
        let shape = self.shape(&format!("{at}.shape"), x, 0..4);
        let grouped = format!("{at}.grouped");
        let grouped = self.node(&grouped, "Reshape", &[x, &split], vec![]);
        let swapped = format!("{at}.swapped");
        let perm = vec![ints("perm", &[0, 2, 1, 3])];
        let swapped = self.node(&swapped, "Transpose", &[&grouped], perm);
        self.node(at, "Reshape", &[&swapped, &shape], vec![])
    }

    /// Shifts a feature map right and down by a number of pixels and fills with zeros.
    fn shifted(&mut self, at: &str, by: usize, x: &str) -> String {
        // Negative padding removes pixels.
        let by = by as i64;
        let pads = [0, 0, by, by, 0, 0, -by, -by];
        let pads = self.constant(&format!("shift_{by}"), &pads);
        self.node(at, "Pad", &[x, &pads], vec![])
    }
}
