//! Comparison of every operation of a network on a device with the CPU, forward and backward.
//!
//! Each operation gets the inputs that the CPU computed, so that a wrong one does not spread to those after it and is
//! found by its name. Weights and images are random numbers; no norm is the identity.

use std::ops::ControlFlow;

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use serde::Serialize;

use crate::backbones::BackboneConfig;
use crate::backbones::summary::{Node, Operation, Tracer};
use crate::backbones::zoo::{self, ZooError};
use crate::classification::classifier::{Classifier, ClassifierConfig};
use crate::detection::faster_rcnn::{FasterRcnn, FasterRcnnConfig, Preset};
use crate::detection::roi_heads::{BoxHeadOutput, TrainingSample, roi_losses};
use crate::detection::rpn::{RpnOutput, rpn_losses};
use crate::detection::sampler::SampleOrder;
use crate::device::Backend;
use crate::read_back::host;
use crate::weights::parameters::{NamedTensors, named_gradients};
use crate::weights::random::RandomNumbers;
use sedet_data::boxes::{BoxXyxy, ImageSize};
use sedet_nn::nn::norm::NormKind;

/// Images of a batch.
const BATCH: usize = 2;
/// Height and width of the images of classifiers: every network accepts it, and no side of a feature map is even throughout.
const CLASSIFIER_SIZE: [usize; 2] = [91, 107];
/// Height and width of the images of detectors: all five levels have several rows and columns.
const DETECTOR_SIZE: ImageSize = ImageSize {
    height: 136,
    width: 184,
};
/// COCO's classes would make the last layers the largest ones.
const DETECTOR_CLASSES: usize = 7;

/// The networks whose operations are compared.
#[derive(Debug, Clone)]
pub struct CheckedNetwork {
    classifier: ClassifierConfig,
    detector: Option<FasterRcnnConfig>,
}

impl CheckedNetwork {
    /// Describes a published network by its name: its layers as a classifier, and if there are detectors with this
    /// backbone, the operations of detection. Norms follow the batch in training.
    ///
    /// # Errors
    /// [`ZooError::Unknown`].
    pub fn of_name(name: &str) -> Result<Self, ZooError> {
        let network = zoo::network(name)?;
        let detector = zoo::backbone(name).ok();
        Ok(Self::new(network.backbone, network.num_classes, detector))
    }

    fn new(
        backbone: BackboneConfig,
        num_classes: usize,
        of_detector: Option<BackboneConfig>,
    ) -> Self {
        let detector = of_detector.map(|mut backbone| {
            backbone.common_mut().norm.kind = NormKind::Batch;
            FasterRcnnConfig::new(Preset::Torchvision, backbone, DETECTOR_CLASSES)
        });
        Self {
            classifier: ClassifierConfig::new(backbone, num_classes),
            detector,
        }
    }
}

/// The largest difference between a device and the CPU that rounding explains, as a share of the largest number of a
/// tensor.
///
/// CUDA multiplies matrices of 32-bit floats with 10 bits (TF32) on cards since Ampere, and burn has no switch for it.
pub fn tolerance(backend: Backend) -> f32 {
    match backend {
        Backend::Cpu | Backend::Wgpu => 2e-4,
        Backend::Cuda => 1e-2,
    }
}

/// The differences of one operation, each as a share of the largest number that the CPU computed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperationCheck {
    /// Its path in the network.
    pub name: String,
    /// Its kind, such as `conv`.
    pub kind: &'static str,
    /// The difference of its outputs in inference.
    pub inference: f32,
    /// The difference of its outputs in training.
    pub training: f32,
    /// The largest difference of its gradients; 0 where none are compared.
    pub gradient: f32,
    /// The input or parameter with this gradient; empty for an operation of several layers, which are compared one by one.
    pub gradient_of: String,
}

impl OperationCheck {
    /// Describes the first value that differs by more than the tolerance; none if all are equal. What is not a number
    /// differs.
    pub fn problem(&self, tolerance: f32) -> Option<String> {
        let of_gradient = format!("the gradient of {}", self.gradient_of);
        let values = [
            ("the output in inference", self.inference),
            ("the output in training", self.training),
            (&*of_gradient, self.gradient),
        ];
        let (what, difference) = values
            .into_iter()
            .find(|(_, difference)| difference.is_nan() || *difference > tolerance)?;
        Some(if difference.is_finite() {
            format!("{what} differs by {difference:.1e} of its largest number")
        } else {
            format!("{what} is not finite, or of another shape")
        })
    }
}

/// Compares every operation of a network on a device with the CPU. `progress` receives the numbers of compared and of all
/// operations, and decides whether the comparison continues; what was compared until then is returned.
pub fn check(
    network: &CheckedNetwork,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Vec<OperationCheck> {
    let cpu = Device::flex();
    let classifier = Sides::of(|on| network.classifier.init(on), device);
    let detector = network.detector.as_ref();
    let detector = detector.map(|config| Sides::of(|on| config.init(on), device));
    let mut numbers = RandomNumbers::new(3);
    let [height, width] = CLASSIFIER_SIZE;
    let pixels = numbers.tensor([BATCH, 3, height, width], -2.0..2.0, &cpu);
    let classifier = classifier.map(of_classifier);
    let planned = detector.as_ref().map(|sides| {
        let ImageSize { height, width } = DETECTOR_SIZE;
        let pixels = numbers.tensor([BATCH, 3, height, width], -2.0..2.0, &cpu);
        DetectionPlan::of(&sides.cpu_inference, pixels)
    });
    let detection = detector.as_ref().zip(planned.as_ref());
    let detection = detection.map(|(sides, plan)| {
        [
            (
                sides.map(|network| of_detector(network, plan)),
                plan.maps.clone(),
            ),
            (
                sides.map(|network| of_heads(network, plan)),
                plan.levels_and_pooled.clone(),
            ),
        ]
    });
    let mut parts = vec![(classifier, vec![Value::of(pixels)])];
    parts.extend(detection.into_iter().flatten());
    let subjects = parts.iter().flat_map(|(sides, _)| &sides.cpu_inference);
    let all = subjects.filter(|subject| !subject.is_input()).count();
    let mut checked = Vec::new();
    for (sides, inputs) in parts {
        let compared = compare(&sides, inputs, device, &mut |found| {
            checked.push(found);
            progress(checked.len(), all)
        });
        // What was compared until a stop is returned.
        if compared.is_break() {
            break;
        }
    }
    checked
}

/// The same network on the CPU and on the device, for inference and for training.
struct Sides<T> {
    cpu_inference: T,
    cpu_training: T,
    device_inference: T,
    device_training: T,
}

impl<M: Module> Sides<M> {
    /// Builds the network twice with the same numbers: a copy would share the running statistics of its norms, which
    /// training moves.
    fn of(init: impl Fn(&Device) -> M, device: &Device) -> Self {
        let [cpu_training, device_training] = [&Device::flex(), device].map(|on| {
            let network = init(&on.clone().autodiff());
            network.map(&mut RandomNumbers::new(1))
        });
        Self {
            cpu_inference: cpu_training.valid(),
            device_inference: device_training.valid(),
            cpu_training,
            device_training,
        }
    }
}

impl<T> Sides<T> {
    fn map<'a, U>(&'a self, of: impl Fn(&'a T) -> U) -> Sides<U> {
        Sides {
            cpu_inference: of(&self.cpu_inference),
            cpu_training: of(&self.cpu_training),
            device_inference: of(&self.device_inference),
            device_training: of(&self.device_training),
        }
    }
}

/// A tensor of any rank.
#[derive(Debug, Clone)]
struct AnyTensor {
    flat: Tensor<1>,
    shape: Vec<usize>,
}

impl AnyTensor {
    fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        let shape = tensor.dims();
        Self {
            flat: tensor.reshape([shape.iter().product::<usize>()]),
            shape: shape.to_vec(),
        }
    }

    fn shaped<const D: usize>(&self) -> Tensor<D> {
        let mut shape = [1; D];
        shape.copy_from_slice(&self.shape);
        self.flat.clone().reshape(shape)
    }
}

/// The numbers of a tensor on the host.
#[derive(Debug, Clone)]
struct Value {
    numbers: Vec<f32>,
    shape: Vec<usize>,
}

impl Value {
    fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        Self::of_any(&AnyTensor::of(tensor))
    }

    fn of_any(tensor: &AnyTensor) -> Self {
        Self {
            numbers: host(tensor.flat.clone()),
            shape: tensor.shape.clone(),
        }
    }

    fn of_data(data: TensorData) -> Self {
        Self {
            shape: data.shape().to_vec(),
            numbers: data.iter().collect(),
        }
    }

    fn on(&self, device: &Device) -> AnyTensor {
        let data = TensorData::new(self.numbers.clone(), [self.numbers.len()]);
        AnyTensor {
            flat: Tensor::from_data(data, device),
            shape: self.shape.clone(),
        }
    }

    /// Returns the largest difference as a share of the largest number; infinity for another shape and for numbers that are
    /// not finite.
    fn difference(&self, other: &Self) -> f32 {
        if self.shape != other.shape || other.numbers.iter().any(|x| !x.is_finite()) {
            return f32::INFINITY;
        }
        let largest = self.numbers.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let pairs = self.numbers.iter().zip(&other.numbers);
        let difference = pairs.fold(0.0f32, |a, (x, y)| a.max((x - y).abs()));
        // All zero, as the gradients of units that are not active, up to rounding.
        const ZERO: f32 = 1e-6;
        difference / largest.max(ZERO)
    }
}

type Run<'a> = Box<dyn Fn(&[AnyTensor]) -> Vec<AnyTensor> + 'a>;
type ReadGradients<'a> = Box<dyn Fn(&Gradients) -> NamedTensors + 'a>;

/// An operation of a network on one device.
struct Subject<'a> {
    name: String,
    kind: &'static str,
    inputs: Vec<Source>,
    run: Run<'a>,
    /// Returns the gradients of the parameters.
    parameters: ReadGradients<'a>,
    /// Whether gradients are compared. Where a ReLU comes after another operation, rounding decides about the gradient of
    /// some units; such operations are compared one by one, too.
    has_gradients: bool,
}

/// Where an input comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// The images, or the feature maps that detection begins with.
    External(usize),
    /// An output of an operation.
    Output { operation: usize, output: usize },
}

/// The outputs of an operation in training, and its gradients by the name of input or parameter.
struct Trained {
    outputs: Vec<Value>,
    gradients: Vec<(String, Value)>,
}

impl Subject<'_> {
    /// Returns whether it passes on what comes from outside.
    fn is_input(&self) -> bool {
        matches!(self.inputs.as_slice(), [Source::External(_)])
            && self.kind == Operation::Input.kind()
    }

    fn infer(&self, inputs: &[Value], device: &Device) -> Vec<Value> {
        let inputs: Vec<AnyTensor> = inputs.iter().map(|input| input.on(device)).collect();
        (self.run)(&inputs).iter().map(Value::of_any).collect()
    }

    /// Computes the gradients of the sum of all outputs, each multiplied by a random number.
    fn train(&self, inputs: &[Value], device: &Device) -> Trained {
        let device = device.clone().autodiff();
        let inputs: Vec<AnyTensor> = inputs
            .iter()
            .map(|input| AnyTensor {
                flat: input.on(&device).flat.require_grad(),
                shape: input.shape.clone(),
            })
            .collect();
        let outputs = (self.run)(&inputs);
        let mut numbers = RandomNumbers::new(2);
        let weighted = outputs.iter().map(|output| {
            let count = output.shape.iter().product();
            let weights: Tensor<1> = numbers.tensor([count], -1.0..1.0, &device);
            (output.flat.clone() * weights).sum()
        });
        let sum = weighted.reduce(|a, b| a + b);
        let outputs = outputs.iter().map(Value::of_any).collect();
        let Some(sum) = sum.filter(|_| self.has_gradients) else {
            return Trained {
                outputs,
                gradients: Vec::new(),
            };
        };
        let gradients = sum.backward();
        let of_parameters = (self.parameters)(&gradients).into_iter();
        let mut found: Vec<(String, Value)> = of_parameters
            .map(|(name, gradient)| (name, Value::of_data(gradient)))
            .collect();
        for (index, input) in inputs.iter().enumerate() {
            if let Some(gradient) = input.flat.grad(&gradients) {
                let name = match inputs.len() {
                    1 => "the input".to_string(),
                    _ => format!("input {index}"),
                };
                found.push((name, Value::of(gradient)));
            }
        }
        Trained {
            outputs,
            gradients: found,
        }
    }
}

/// Compares the operations in their order; `found` receives each comparison.
fn compare(
    sides: &Sides<Vec<Subject<'_>>>,
    external: Vec<Value>,
    device: &Device,
    found: &mut dyn FnMut(OperationCheck) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let cpu = Device::flex();
    let mut outputs: Vec<Vec<Value>> = Vec::new();
    for (at, subject) in sides.cpu_inference.iter().enumerate() {
        let inputs: Vec<Value> = subject
            .inputs
            .iter()
            .map(|source| match *source {
                Source::External(index) => external[index].clone(),
                Source::Output { operation, output } => outputs[operation][output].clone(),
            })
            .collect();
        if subject.is_input() {
            outputs.push(inputs);
            continue;
        }
        let expected = subject.infer(&inputs, &cpu);
        let inferred = sides.device_inference[at].infer(&inputs, device);
        let on_cpu = sides.cpu_training[at].train(&inputs, &cpu);
        let on_device = sides.device_training[at].train(&inputs, device);
        let (gradient, gradient_of) = worst_gradient(&on_cpu, &on_device);
        let checked = OperationCheck {
            name: subject.name.clone(),
            kind: subject.kind,
            inference: largest_difference(&expected, &inferred),
            training: largest_difference(&on_cpu.outputs, &on_device.outputs),
            gradient,
            gradient_of,
        };
        outputs.push(expected);
        found(checked)?;
    }
    ControlFlow::Continue(())
}

fn largest_difference(expected: &[Value], found: &[Value]) -> f32 {
    if expected.len() != found.len() {
        return f32::INFINITY;
    }
    let differences = expected.iter().zip(found).map(|(a, b)| a.difference(b));
    differences.fold(0.0, f32::max)
}

fn worst_gradient(expected: &Trained, found: &Trained) -> (f32, String) {
    let mut worst = (0.0, String::new());
    for (name, gradient) in &expected.gradients {
        let other = found.gradients.iter().find(|(other, _)| other == name);
        let difference = other.map_or(f32::INFINITY, |(_, other)| gradient.difference(other));
        if difference > worst.0 || worst.1.is_empty() {
            worst = (difference, name.clone());
        }
    }
    worst
}

/// Returns the operations of a classifier.
fn of_classifier(network: &Classifier) -> Vec<Subject<'_>> {
    let mut tracer = Tracer::new(CLASSIFIER_SIZE);
    network.trace(&mut tracer);
    tracer.nodes().iter().map(of_node).collect()
}

fn of_node<'a>(node: &Node<'a>) -> Subject<'a> {
    let operation = node.operation;
    let outputs = node.inputs.iter().map(|&operation| Source::Output {
        operation,
        output: 0,
    });
    Subject {
        name: node.name.clone(),
        kind: operation.kind(),
        inputs: match operation {
            Operation::Input => vec![Source::External(0)],
            _ => outputs.collect(),
        },
        run: Box::new(move |inputs| {
            let inputs = inputs.iter().map(AnyTensor::shaped).collect();
            vec![AnyTensor::of(operation.compute(inputs))]
        }),
        parameters: Box::new(move |gradients| match operation {
            Operation::Conv(layer) => named_gradients(layer, gradients),
            Operation::Norm(layer) => named_gradients(layer, gradients),
            Operation::Se(layer) => named_gradients(layer, gradients),
            Operation::Linear(layer) => named_gradients(layer, gradients),
            _ => NamedTensors::new(),
        }),
        has_gradients: true,
    }
}

/// What the operations of detection need besides the outputs of others.
struct DetectionPlan {
    /// The feature maps of the backbone.
    maps: Vec<Value>,
    /// The levels of the pyramid, and the pooled boxes of all images.
    levels_and_pooled: Vec<Value>,
    /// The anchors of all levels.
    anchors: Vec<Vec<BoxXyxy>>,
    ground_truth: Vec<Vec<BoxXyxy>>,
    samples: Vec<TrainingSample>,
}

impl DetectionPlan {
    fn of(detector: &FasterRcnn, pixels: Tensor<4>) -> Self {
        let maps = detector.feature_maps(pixels);
        let levels = detector.fpn.forward(maps.clone());
        let grids = levels.iter().map(|level| {
            let [_, _, height, width] = level.dims();
            ImageSize::new(height, width)
        });
        let grids: Vec<ImageSize> = grids.collect();
        // Of every size, also across the edges, so that each level pools some.
        let boxes = |image: usize| -> Vec<BoxXyxy> {
            let sides = [9.0, 30.0, 61.0, 118.0, 240.0, 470.0, 3.0];
            (0..28)
                .map(|n| {
                    let side = sides[n % sides.len()];
                    let x = (n * 37 + image * 11) as f32 % 150.0 - 12.5;
                    let y = (n * 23 + image * 7) as f32 % 110.0 - 8.25;
                    BoxXyxy::new(x, y, x + side, y + side * (0.5 + 0.1 * (n % 9) as f32))
                })
                .collect()
        };
        let moved = |b: &BoxXyxy| {
            let (dx, dy) = (0.1 * b.width(), 0.07 * b.height());
            BoxXyxy::new(b.x1 + dx, b.y1 - dy, b.x2 + 2.0 * dx, b.y2 - 0.5 * dy)
        };
        let samples: Vec<TrainingSample> = (0..BATCH)
            .map(|image| {
                let proposals = boxes(image);
                TrainingSample {
                    labels: (0..proposals.len())
                        .map(|n| n % (DETECTOR_CLASSES + 1))
                        .collect(),
                    ground_truth: proposals.iter().map(moved).collect(),
                    proposals,
                }
            })
            .collect();
        let config = detector.config();
        let boxes: Vec<Vec<BoxXyxy>> = (0..BATCH).map(boxes).collect();
        let pooled = config
            .roi_heads
            .pooler
            .forward(&levels[..maps.len()], &boxes);
        let levels_and_pooled = levels.into_iter().chain([pooled]);
        Self {
            maps: maps.into_iter().map(Value::of).collect(),
            levels_and_pooled: levels_and_pooled.map(Value::of).collect(),
            anchors: config.anchors.grid(DETECTOR_SIZE, &grids),
            ground_truth: samples
                .iter()
                .map(|sample| sample.ground_truth[..6].to_vec())
                .collect(),
            samples,
        }
    }
}

/// Returns the operations of detection, from the feature maps of the backbone to the losses.
fn of_detector<'a>(network: &'a FasterRcnn, plan: &'a DetectionPlan) -> Vec<Subject<'a>> {
    const FPN: usize = 0;
    const RPN: usize = 1;
    const ROI_ALIGN: usize = 3;
    const BOX_HEAD: usize = 4;
    let config = network.config();
    let outputs = |operation: usize, count: usize| -> Vec<Source> {
        let outputs = 0..count;
        outputs
            .map(|output| Source::Output { operation, output })
            .collect()
    };
    let maps =
        |inputs: &[AnyTensor]| -> Vec<Tensor<4>> { inputs.iter().map(AnyTensor::shaped).collect() };
    let levels = config.anchors.sizes.len();
    let without_parameters = || -> ReadGradients<'a> { Box::new(|_| NamedTensors::new()) };
    vec![
        Subject {
            name: "fpn".into(),
            kind: "pyramid",
            inputs: (0..levels - 1).map(Source::External).collect(),
            run: Box::new(move |inputs| {
                let levels = network.fpn.forward(maps(inputs)).into_iter();
                levels.map(AnyTensor::of).collect()
            }),
            parameters: Box::new(|gradients| named_gradients(&network.fpn, gradients)),
            has_gradients: true,
        },
        Subject {
            name: "rpn".into(),
            kind: "head",
            inputs: outputs(FPN, levels),
            run: Box::new(move |inputs| {
                let output = network.rpn.forward(&maps(inputs));
                vec![
                    AnyTensor::of(output.objectness),
                    AnyTensor::of(output.box_deltas),
                ]
            }),
            parameters: without_parameters(),
            has_gradients: false,
        },
        Subject {
            name: "rpn.losses".into(),
            kind: "losses",
            inputs: outputs(RPN, 2),
            run: Box::new(move |inputs| {
                let output = RpnOutput {
                    objectness: inputs[0].shaped(),
                    box_deltas: inputs[1].shaped(),
                    anchors_of_level: plan.anchors.iter().map(Vec::len).collect(),
                };
                let losses = rpn_losses(
                    &config.rpn,
                    &output,
                    &plan.anchors.concat(),
                    &[DETECTOR_SIZE; BATCH],
                    &plan.ground_truth,
                    &mut SampleOrder::shuffled(0),
                );
                vec![
                    AnyTensor::of(losses.objectness),
                    AnyTensor::of(losses.box_deltas),
                ]
            }),
            parameters: without_parameters(),
            has_gradients: true,
        },
        Subject {
            name: "roi_align".into(),
            kind: "pooling",
            inputs: outputs(FPN, levels - 1),
            run: Box::new(move |inputs| {
                let boxes = plan.samples.iter().map(|sample| sample.proposals.clone());
                let boxes: Vec<Vec<BoxXyxy>> = boxes.collect();
                let pooled = config.roi_heads.pooler.forward(&maps(inputs), &boxes);
                vec![AnyTensor::of(pooled)]
            }),
            parameters: without_parameters(),
            has_gradients: true,
        },
        Subject {
            name: "box_head".into(),
            kind: "head",
            inputs: outputs(ROI_ALIGN, 1),
            run: Box::new(move |inputs| {
                let output = network.box_head.forward(inputs[0].shaped());
                vec![
                    AnyTensor::of(output.class_logits),
                    AnyTensor::of(output.box_deltas),
                ]
            }),
            parameters: without_parameters(),
            has_gradients: false,
        },
        Subject {
            name: "box_head.losses".into(),
            kind: "losses",
            inputs: outputs(BOX_HEAD, 2),
            run: Box::new(move |inputs| {
                let output = BoxHeadOutput {
                    class_logits: inputs[0].shaped(),
                    box_deltas: inputs[1].shaped(),
                };
                let losses = roi_losses(&config.roi_heads, output, &plan.samples);
                vec![
                    AnyTensor::of(losses.classifier),
                    AnyTensor::of(losses.box_deltas),
                ]
            }),
            parameters: without_parameters(),
            has_gradients: true,
        },
    ]
}

/// Returns the layers of the heads, each on its own: those of the RPN on every level, then those of the boxes.
fn of_heads<'a>(network: &'a FasterRcnn, plan: &DetectionPlan) -> Vec<Subject<'a>> {
    let mut tracer = Tracer::new(CLASSIFIER_SIZE);
    let shape_of = |value: &Value| [value.shape[1], value.shape[2], value.shape[3]];
    let Some((pooled, levels)) = plan.levels_and_pooled.split_last() else {
        return Vec::new();
    };
    // The first input of a trace, an image, is not used.
    for (level, value) in levels.iter().enumerate() {
        tracer.enter(shape_of(value));
        tracer.within(format_args!("rpn.level{level}"), |tracer| {
            let convs = std::iter::once(&network.rpn.conv).chain(&network.rpn.further_convs);
            for (index, conv) in convs.enumerate() {
                let name = format!("convs.{index}");
                tracer.conv(&name, conv);
                tracer.relu(&name);
            }
            let hidden = tracer.current();
            tracer.conv("cls_logits", &network.rpn.cls_logits);
            tracer.resume(hidden);
            tracer.conv("bbox_pred", &network.rpn.bbox_pred);
        });
    }
    tracer.enter(shape_of(pooled));
    tracer.within("box_head", |tracer| {
        let hidden = std::iter::once(&network.box_head.fc6).chain(&network.box_head.fc7);
        for (layer, name) in hidden.zip(["fc6", "fc7"]) {
            tracer.linear(name, layer);
            tracer.relu(name);
        }
        let hidden = tracer.current();
        tracer.linear("cls_score", &network.box_head.cls_score);
        tracer.resume(hidden);
        tracer.linear("bbox_pred", &network.box_head.bbox_pred);
    });
    let (image, nodes) = (1, tracer.nodes());
    let mut inputs = 0;
    let mut subjects = Vec::new();
    for node in nodes.iter().skip(image) {
        let mut subject = of_node(node);
        for source in &mut subject.inputs {
            match source {
                Source::External(index) => {
                    *index = inputs;
                    inputs += 1;
                }
                Source::Output { operation, .. } => *operation -= image,
            }
        }
        subjects.push(subject);
    }
    subjects
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(name: &str) -> CheckedNetwork {
        let mut network = zoo::network(name).unwrap();
        let mut detector = zoo::backbone(name).ok();
        for backbone in detector.iter_mut().chain([&mut network.backbone]) {
            *backbone.common_mut().width_multiplier = 0.125;
        }
        CheckedNetwork::new(network.backbone, 5, detector)
    }

    fn checked(network: &CheckedNetwork) -> Vec<OperationCheck> {
        check(network, &Device::flex(), &mut |_, _| {
            ControlFlow::Continue(())
        })
    }

    #[test]
    fn every_operation_of_the_cpu_equals_itself_and_has_gradients() {
        let found = checked(&narrow("se-resnet18"));
        for operation in &found {
            assert_eq!(operation.problem(0.0), None, "{operation:?}");
            let is_compound = ["rpn", "box_head"].contains(&&*operation.name);
            assert_eq!(
                operation.gradient_of.is_empty(),
                is_compound,
                "{operation:?}"
            );
        }
        let has = |name: &str| found.iter().any(|operation| operation.name == name);
        for name in [
            "backbone.layer2.0.convs.0",
            "backbone.layer4.1.se",
            "fc",
            "fpn",
            "roi_align",
            "box_head.losses",
            "rpn.level4.bbox_pred",
            "box_head.fc7",
        ] {
            assert!(has(name), "{name}: {found:?}");
        }
    }

    #[test]
    fn a_comparison_can_be_stopped() {
        let mut calls = Vec::new();
        let found = check(&narrow("se-resnet18"), &Device::flex(), &mut |done, all| {
            calls.push((done, all));
            match done {
                3 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        assert_eq!(found.len(), 3);
        assert_eq!(calls.last().map(|(done, _)| *done), Some(3));
        assert!(calls.iter().all(|(_, all)| *all == calls[0].1 && *all > 50));
    }

    /// One operation: the product of the input with a number.
    fn scaling(factor: f32) -> Vec<Subject<'static>> {
        vec![Subject {
            name: "scaling".into(),
            kind: "scale",
            inputs: vec![Source::External(0)],
            run: Box::new(move |inputs| {
                vec![AnyTensor {
                    flat: inputs[0].flat.clone() * factor,
                    shape: inputs[0].shape.clone(),
                }]
            }),
            parameters: Box::new(|_| NamedTensors::new()),
            has_gradients: true,
        }]
    }

    #[test]
    fn a_wrong_output_a_wrong_gradient_and_numbers_that_are_not_finite_are_named() {
        let input = vec![Value {
            numbers: vec![1.0, -2.0],
            shape: vec![2],
        }];
        for (inference, training, expected) in [
            (2.0, 2.0, None),
            (
                2.5,
                2.0,
                Some("the output in inference differs by 2.5e-1 of its largest number"),
            ),
            (
                2.0,
                1.9,
                Some("the output in training differs by 5.0e-2 of its largest number"),
            ),
            (
                f32::NAN,
                2.0,
                Some("the output in inference is not finite, or of another shape"),
            ),
        ] {
            let sides = Sides {
                cpu_inference: scaling(2.0),
                cpu_training: scaling(2.0),
                device_inference: scaling(inference),
                device_training: scaling(training),
            };
            let mut found = Vec::new();
            let _ = compare(&sides, input.clone(), &Device::flex(), &mut |operation| {
                found.push(operation);
                ControlFlow::Continue(())
            });
            assert_eq!(found[0].problem(1e-3).as_deref(), expected);
        }
        let of_gradient = OperationCheck {
            name: "conv1".into(),
            kind: "conv",
            inference: 0.0,
            training: 0.0,
            gradient: 0.08,
            gradient_of: "weight".into(),
        };
        assert_eq!(
            of_gradient.problem(2e-4).as_deref(),
            Some("the gradient of weight differs by 8.0e-2 of its largest number")
        );
    }
}
