//! Explanations of detections and classes: forward and backward passes of a trained network.
//!
//! A gradient is that of the probability: for a detection the softmax of the box head for its class and its proposal.
//! Proposals are constants, as in torchvision and detectron2, which detach them. The gradient passes through RoIAlign, the
//! pyramid and the backbone, not through the RPN: the score does not say where the detector looked.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Gradients, Tensor};
use image::RgbImage;

use super::{ImageDetection, Model, ModelError, Network, to_device};
use crate::backbones::summary::NOMINAL_SIZE;
use crate::backbones::{AnyBackbone, Part};
use crate::detection::{Detection, ImageBatch};
use crate::excitation::SeBlock;
use crate::excitation::channel_map::Placement;
use crate::excitation::collector::gate_rows;
use crate::explanation::cam::layer_cam;
use crate::explanation::{ExplanationError, GateEffect, GateGradients, LayerCam, Neutral};
use crate::read_back::host;
use sedet_data::boxes::{BoxXyxy, ImageSize};
use sedet_data::loading::batch::pad_images;
use sedet_data::loading::transforms::prepare;
use sedet_nn::kernels::bf16::ComputePrecision;
use sedet_nn::nn::recording::{Depth, edit_gates, on_thread_pool, record};

/// The explanation of one score.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The class.
    pub label: usize,
    /// Its probability, 0 to 1.
    pub score: f32,
    /// The detection; none for a classifier.
    pub detection: Option<ImageDetection>,
    /// The name of the layer that the proposal of the detection is pooled from, such as `P3`. The maps of the other levels
    /// of the pyramid are zero: the score does not depend on them.
    pub pooled_from: Option<String>,
    /// One map for each of C2..C5 and, for a detector, P2..P5. For a classifier without feature maps of these strides,
    /// the last part of each stride.
    pub cams: Vec<LayerCam>,
    /// The SE units in the order of the forward pass; empty for a plain network.
    pub units: Vec<GateGradients>,
    /// The part of the image that the network receives, in pixels of the image.
    pub seen: BoxXyxy,
}

impl Explanation {
    /// Returns the effects of all gates, unit by unit.
    pub fn effects(&self, neutral: &Neutral) -> Vec<GateEffect> {
        let units = self.units.iter().enumerate();
        units
            .flat_map(|(at, unit)| unit.effects(at, &neutral.of(at, &unit.gates)))
            .collect()
    }
}

/// The score that is explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Index of a detection by descending score, as [`Model::detect`] returns them.
    Detection(usize),
    /// Label of a classifier's class.
    Class(usize),
}

/// A gate that a forward pass applies in place of the network's own, in all pixels of its channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReplacedGate {
    /// Index of the SE unit in the order of the forward pass.
    pub unit: usize,
    /// The channel.
    pub channel: usize,
    /// The new gate.
    pub gate: f32,
}

/// The forward pass of one image, which all its explanations share.
#[derive(Debug, Clone)]
pub struct ExplainedImage {
    /// The input of each part of the backbone, and the output of the last.
    inputs: Vec<Tensor<4>>,
    /// The number of SE units before each part.
    units_before: Vec<usize>,
    blocks: Vec<SeBlock>,
    layers: Vec<Layer>,
    found: Found,
    placement: Placement,
    seen: BoxXyxy,
}

/// What the network finds in the image.
#[derive(Debug, Clone)]
enum Found {
    /// Each detection with its proposal in input pixels.
    Detections(Vec<(ImageDetection, BoxXyxy)>),
    /// The number of classes.
    Classes(usize),
}

/// A feature map of the backbone that has a class activation map.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layer {
    name: String,
    /// The part of the backbone that computes it.
    part: usize,
}

/// A feature map or the gates of a unit in a forward pass with gradients.
struct Tracked {
    value: Tensor<4>,
    /// Zeros that were added to the value: their gradient is its gradient. The value itself cannot be asked for it, since it
    /// is no leaf of the graph.
    zeros: Tensor<4>,
}

impl Tracked {
    /// Returns the value to go on with, and what is kept of it.
    fn new(value: Tensor<4>) -> (Tensor<4>, Self) {
        let zeros = Tensor::zeros(value.dims(), &value.device()).require_grad();
        let tracked = Self {
            value: value.clone().inner(),
            zeros: zeros.clone(),
        };
        (value + zeros, tracked)
    }

    /// Returns the gradient; zeros if the score does not depend on the value.
    fn gradient(&self, gradients: &Gradients) -> Tensor<4> {
        let found = self.zeros.grad(gradients);
        found.unwrap_or_else(|| self.value.zeros_like())
    }
}

impl ExplainedImage {
    /// Returns the detections by descending score, those of [`Model::detect`]; none for a classifier.
    pub fn detections(&self) -> Vec<ImageDetection> {
        match &self.found {
            Found::Detections(found) => found.iter().map(|(found, _)| *found).collect(),
            Found::Classes(_) => Vec::new(),
        }
    }

    /// Returns the SE units in the order of the forward pass.
    pub fn blocks(&self) -> &[SeBlock] {
        &self.blocks
    }

    /// Checks a subject; for a detection, returns it with its proposal.
    fn check(
        &self,
        subject: Subject,
    ) -> Result<Option<(ImageDetection, BoxXyxy)>, ExplanationError> {
        match (subject, &self.found) {
            (Subject::Detection(position), Found::Detections(found)) => {
                let missing = ExplanationError::NoDetection {
                    position,
                    found: found.len(),
                };
                found.get(position).copied().map(Some).ok_or(missing)
            }
            (Subject::Class(label), &Found::Classes(classes)) if label < classes => Ok(None),
            (Subject::Class(label), &Found::Classes(classes)) => {
                Err(ExplanationError::NoClass { label, classes })
            }
            _ => Err(ExplanationError::OtherTask),
        }
    }

    /// Returns the part of the backbone that has an SE unit.
    fn part_of(&self, unit: usize) -> usize {
        let after = self.units_before.partition_point(|&before| before <= unit);
        after.saturating_sub(1)
    }
}

impl Model {
    /// Runs the network on an image, for [`explain`](Self::explain) and [`score_with`](Self::score_with). The outputs of all
    /// parts of the backbone stay in memory as long as the result does.
    ///
    /// # Errors
    /// The SE units cannot be listed.
    pub fn explained_image(&self, image: &RgbImage) -> Result<ExplainedImage, ModelError> {
        let blocks = self.se_blocks_or_none()?;
        let prepared = [prepare(image, &self.spec.preprocess)];
        let (pixels, shape) = pad_images(&prepared, self.spec.size_divisor().max(1));
        let pixels = to_device(pixels, shape, &self.device);
        let backbone = self.backbone();
        let layers = self.layers();
        let (inputs, units_before, detections) = on_thread_pool(&self.device, || {
            let (mut inputs, mut units_before) = (vec![pixels.clone()], vec![0]);
            for part in 0..backbone.parts() {
                let x = inputs[part].clone();
                let (output, units) = record(Depth::Gates, || backbone.forward_part(part, x));
                inputs.push(output);
                units_before.push(units_before[part] + units.len());
            }
            let detections = match &self.network {
                Network::Classifier(_) => Vec::new(),
                Network::Detector(network) => {
                    let maps = layers.iter().map(|layer| inputs[layer.part + 1].clone());
                    let batch = ImageBatch {
                        pixels,
                        input_sizes: vec![prepared[0].input_size],
                    };
                    network.detections_of_maps(maps.collect(), &batch)
                }
            };
            (inputs, units_before, detections)
        });
        let found = match &self.network {
            Network::Classifier(network) => Found::Classes(network.num_classes()),
            Network::Detector(_) => {
                let found = detections.into_iter().flatten();
                let found = found.map(|(found, proposal): (Detection, BoxXyxy)| {
                    let found = ImageDetection {
                        box_in_image: prepared[0].to_image(found.box_in_input),
                        label: found.label,
                        score: found.score,
                    };
                    (found, proposal)
                });
                Found::Detections(found.collect())
            }
        };
        let image_size = ImageSize::new(image.height() as usize, image.width() as usize);
        let input_box = self.spec.preprocess.input_box(image_size);
        Ok(ExplainedImage {
            inputs,
            units_before,
            blocks,
            layers,
            found,
            placement: self.placement(image_size),
            seen: input_box.clip(image_size),
        })
    }

    /// Explains a score: the LayerCAM of each layer and the gradient of each gate, by one forward and one backward pass.
    ///
    /// Nothing but feature maps and gates is tracked, and the network is in evaluation mode, also where training would
    /// use batch statistics or dropout.
    ///
    /// # Errors
    /// There is no such detection or class, the weights are in bf16, or a gradient is not finite.
    pub fn explain(
        &self,
        image: &ExplainedImage,
        subject: Subject,
    ) -> Result<Explanation, ModelError> {
        if self.precision == ComputePrecision::Bf16 {
            return Err(ExplanationError::Reduced.into());
        }
        let detection = image.check(subject)?;
        let gates = Arc::new(Mutex::new(Vec::new()));
        let seen_gates = gates.clone();
        let track_gates = move |_, value| {
            let (value, tracked) = Tracked::new(value);
            // Another thread can't have panicked: all units run on this one.
            let mut gates = seen_gates.lock().unwrap_or_else(PoisonError::into_inner);
            gates.push(tracked);
            value
        };
        let mut maps: Vec<(String, Tracked)> = Vec::new();
        let pixels = Tensor::from_inner(image.inputs[0].clone());
        let proposal = detection.map(|(_, proposal)| proposal);
        let logits = edit_gates(track_gates, || {
            self.logits_from(image, 0, pixels, proposal, |name, value| {
                let (value, tracked) = Tracked::new(value);
                maps.push((name.to_owned(), tracked));
                value
            })
        });
        let output = output_of(subject, detection);
        let ClassScore {
            probability,
            slope,
            log_odds,
        } = ClassScore::of(logits, output);
        let gradients = log_odds.backward();
        let gradient_of = |tracked: &Tracked| tracked.gradient(&gradients) * slope;

        let cams: Vec<LayerCam> = maps
            .into_iter()
            .map(|(layer, tracked)| {
                let map = layer_cam(tracked.value.clone(), gradient_of(&tracked));
                let map = image.placement.cut(map);
                LayerCam { layer, map }
            })
            .collect();
        let gates = std::mem::take(&mut *gates.lock().unwrap_or_else(PoisonError::into_inner));
        let units: Vec<GateGradients> = image
            .blocks
            .iter()
            .zip(&gates)
            .map(|(block, tracked)| {
                let (gradient, values) = (gradient_of(tracked), tracked.value.clone());
                GateGradients {
                    block: block.clone(),
                    gates: gate_rows(values.clone()),
                    gradients: sum_per_channel(gradient.clone()),
                    products: sum_per_channel(gradient * values),
                }
            })
            .collect();
        let mut numbers = cams.iter().flat_map(|cam| &cam.map.values);
        let mut products = units
            .iter()
            .flat_map(|unit| unit.gradients.iter().chain(&unit.products));
        let is_finite = |value: &f32| value.is_finite();
        if !(probability.is_finite() && numbers.all(is_finite) && products.all(is_finite)) {
            return Err(ExplanationError::NotFinite.into());
        }
        let pooled_from = match (&self.network, proposal) {
            (Network::Detector(network), Some(proposal)) => {
                Some(level_name(network.level_of(proposal)))
            }
            _ => None,
        };
        let detection = detection.map(|(found, _)| found);
        Ok(Explanation {
            label: detection.map_or(output, |found| found.label),
            score: probability,
            detection,
            pooled_from,
            cams,
            units,
            seen: image.seen,
        })
    }

    /// Computes a score with other gates in some channels, exactly: the layers from the first of their units on run again,
    /// and later units compute their gates from what they receive. Without replaced gates, it is the score itself, whose
    /// last digit may differ from that of a detection that was computed together with others.
    ///
    /// # Errors
    /// There is no such detection, class or channel.
    pub fn score_with(
        &self,
        image: &ExplainedImage,
        subject: Subject,
        replaced: &[ReplacedGate],
    ) -> Result<f32, ModelError> {
        let detection = image.check(subject)?;
        let missing = replaced.iter().find(|gate| {
            let block = image.blocks.get(gate.unit);
            block.is_none_or(|block| gate.channel >= block.channels)
        });
        if let Some(&ReplacedGate { unit, channel, .. }) = missing {
            return Err(ExplanationError::NoGate { unit, channel }.into());
        }
        let output = output_of(subject, detection);
        let first = replaced.iter().map(|gate| image.part_of(gate.unit)).min();
        let first = first.unwrap_or(self.backbone().parts());
        let before = image.units_before[first];
        let edits = replaced.to_vec();
        let edit = move |unit, mut gates: Tensor<4>| {
            let [batch, _, height, width] = gates.dims();
            for edit in edits.iter().filter(|edit| edit.unit == before + unit) {
                let place = [
                    0..batch,
                    edit.channel..edit.channel + 1,
                    0..height,
                    0..width,
                ];
                let shape = [batch, 1, height, width];
                let value = Tensor::full(shape, edit.gate, &gates.device());
                gates = gates.slice_assign(place, value);
            }
            gates
        };
        let proposal = detection.map(|(_, proposal)| proposal);
        let logits = edit_gates(edit, || {
            on_thread_pool(&self.device, || {
                let x = image.inputs[first].clone();
                self.logits_from(image, first, x, proposal, |_, value| value)
            })
        });
        Ok(ClassScore::of(logits, output).probability)
    }

    fn backbone(&self) -> &AnyBackbone {
        match &self.network {
            Network::Classifier(network) => &network.backbone,
            Network::Detector(network) => &network.backbone,
        }
    }

    /// Returns C2..C5, or for a network without all of them the last part of each stride.
    fn layers(&self) -> Vec<Layer> {
        if let Network::Detector(network) = &self.network {
            return pyramid(network.pyramid_parts());
        }
        let backbone = self.spec.backbone();
        if let Ok(parts) = backbone.pyramid_parts() {
            return pyramid(&parts);
        }
        let layers = self.backbone().layers_of_parts(NOMINAL_SIZE);
        // A part without layers, such as stage 5 of a CIFAR network, passes its input on.
        let is_empty = |part: usize| match &layers {
            Ok(layers) => layers.get(part).is_some_and(Vec::is_empty),
            Err(_) => false,
        };
        let parts = backbone.parts().into_iter().enumerate();
        let parts: Vec<(usize, Part)> = parts.filter(|(part, _)| !is_empty(*part)).collect();
        let is_last = |at: usize| {
            let next = parts.get(at + 1).map(|(_, next)| next.stride);
            next != Some(parts[at].1.stride)
        };
        let last = (0..parts.len()).filter(|&at| is_last(at));
        last.map(|at| Layer {
            name: parts[at].1.name.to_owned(),
            part: parts[at].0,
        })
        .collect()
    }

    /// Computes logits from the input `x` of a part of the backbone; earlier feature maps are those of the image. `track`
    /// receives the name and the value of each later feature map and returns what the network goes on with.
    ///
    /// # Shapes
    /// The result is `[1, outputs]`.
    fn logits_from(
        &self,
        image: &ExplainedImage,
        first: usize,
        x: Tensor<4>,
        proposal: Option<BoxXyxy>,
        mut track: impl FnMut(&str, Tensor<4>) -> Tensor<4>,
    ) -> Tensor<2> {
        let backbone = self.backbone();
        let earlier = image.layers.iter().filter(|layer| layer.part < first);
        let mut maps: Vec<Tensor<4>> = earlier
            .map(|layer| image.inputs[layer.part + 1].clone())
            .collect();
        let mut x = x;
        for part in first..backbone.parts() {
            x = backbone.forward_part(part, x);
            if let Some(layer) = image.layers.iter().find(|layer| layer.part == part) {
                x = track(&layer.name, x);
                maps.push(x.clone());
            }
        }
        match (&self.network, proposal) {
            (Network::Detector(network), Some(proposal)) => {
                let levels = network.fpn.forward(maps).into_iter();
                let levels = levels.take(image.layers.len()).enumerate();
                let levels: Vec<Tensor<4>> = levels
                    .map(|(level, map)| track(&level_name(level), map))
                    .collect();
                network.class_logits(&levels, proposal)
            }
            (Network::Classifier(network), _) => network.logits_of_map(x),
            // A subject that was checked has a proposal.
            (Network::Detector(_), None) => Tensor::zeros([1, 1], &x.device()),
        }
    }
}

/// Returns the layers C2..C5 that these parts compute.
fn pyramid(parts: &[usize]) -> Vec<Layer> {
    let parts = parts.iter().enumerate();
    parts
        .map(|(level, &part)| Layer {
            name: format!("C{}", level + 2),
            part,
        })
        .collect()
}

/// Returns the output of the network that has the score. The first output of a box head is the background.
fn output_of(subject: Subject, detection: Option<(ImageDetection, BoxXyxy)>) -> usize {
    match (subject, detection) {
        (_, Some((found, _))) => found.label + 1,
        (Subject::Class(label) | Subject::Detection(label), None) => label,
    }
}

/// Returns the name of a level of the pyramid, 0 for P2.
fn level_name(level: usize) -> String {
    format!("P{}", level + 2)
}

/// The probability of a class.
struct ClassScore {
    probability: f32,
    /// The derivative of the probability for the log-odds, `p (1 - p)`.
    slope: f32,
    /// The logarithm of `p / (1 - p)`, of one element.
    ///
    /// The gradient is computed for it and multiplied by the slope: where the softmax of 32-bit floats rounds to 1, its own
    /// gradient vanishes.
    log_odds: Tensor<1>,
}

impl ClassScore {
    /// `logits` is `[1, outputs]`, and `class` one of the outputs.
    fn of(logits: Tensor<2>, class: usize) -> Self {
        let [_, outputs] = logits.dims();
        let values: Vec<f64> = host(logits.clone()).into_iter().map(f64::from).collect();
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weight = |output: usize| (values[output] - largest).exp();
        let others = (0..outputs).filter(|&other| other != class);
        let others: f64 = others.map(weight).sum();
        let all = weight(class) + others;
        let probability = weight(class) / all;
        let own = logits.clone().slice([0..1, class..class + 1]);
        let rest: Vec<Tensor<2>> = [0..class, class + 1..outputs]
            .into_iter()
            .filter(|columns| !columns.is_empty())
            .map(|columns| logits.clone().slice([0..1, columns]))
            .collect();
        let log_odds = if rest.is_empty() {
            // The only class: its probability is 1, and the slope 0.
            own
        } else {
            let rest = Tensor::cat(rest, 1);
            let shift = rest.clone().detach().max_dim(1);
            let sum = (rest - shift.clone()).exp().sum_dim(1);
            own - (sum.log() + shift)
        };
        Self {
            probability: probability as f32,
            slope: (probability * others / all) as f32,
            log_odds: log_odds.reshape([1]),
        }
    }
}

/// Sums `[1, channels, height, width]` over space.
fn sum_per_channel(map: Tensor<4>) -> Vec<f32> {
    let [_, channels, height, width] = map.dims();
    host(map.reshape([channels, height * width]).sum_dim(1))
}
