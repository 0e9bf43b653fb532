//! A Faster R-CNN as nodes: feature pyramid, proposals, box head and detections.
//!
//! The nodes follow [`FasterRcnn::detect`] for one image. Two properties of ONNX's operators make the
//! order of boxes that of sedet: `TopK` puts the lower index first among equal values, and
//! `NonMaxSuppression` suppresses a box whose IoU is above the threshold, not equal to it. Levels and
//! classes are separate calls and separate batch entries of the latter, not boxes moved apart: an
//! offset would cost the coordinates precision.

use super::graph::{GraphBuilder, INPUT, float, int, ints, string};
use super::messages::DataType;
use crate::detection::anchors::AnchorConfig;
use crate::detection::box_coder::{BoxCoder, MAX_LOG_SCALE};
use crate::detection::faster_rcnn::{FasterRcnn, FasterRcnnConfig};
use crate::detection::fpn::Fpn;
use crate::detection::roi_heads::{BoxHead, RoiHeadsConfig};
use crate::detection::roi_pooler::RoiPooler;
use crate::detection::rpn::{ProposalRank, RpnConfig, RpnHead};
use sedet_nn::nn::conv::Conv2d;
use sedet_nn::nn::norm::Norm;

/// Name of the output with boxes.
pub(super) const BOXES: &str = "boxes";
/// Name of the output with classes.
pub(super) const LABELS: &str = "labels";
/// Name of the output with scores.
pub(super) const SCORES: &str = "scores";

/// The input of a detector.
struct Input {
    /// Pixels with zeros below and at the right.
    padded: String,
    /// Width, height, width and height without them, as floats.
    limits: String,
}

/// Boxes and the scores of their classes, for every proposal.
struct ScoredBoxes {
    /// `[proposals, classes, 4]`.
    boxes: String,
    /// `[proposals, classes]`.
    scores: String,
}

impl GraphBuilder {
    /// Returns the graph from [`INPUT`], one image without padding, to [`BOXES`], [`LABELS`] and
    /// [`SCORES`]; `is_raw` ends with the boxes and scores of every proposal and class.
    pub(super) fn detector(model: &FasterRcnn, size_divisor: usize, is_raw: bool) -> Self {
        let mut graph = Self::default();
        let config = model.config();
        let input = graph.padded(size_divisor);
        let parts = graph.backbone("backbone", &model.backbone, &input.padded);
        let maps = model
            .pyramid_parts()
            .iter()
            .map(|&part| parts[part].clone());
        let levels = graph.feature_pyramid("fpn", &model.fpn, &maps.collect::<Vec<_>>());
        let proposals = graph.proposals(config, &model.rpn, &levels, &input);
        let pooled_levels = &levels[..model.pyramid_parts().len()];
        let (pooled, order) =
            graph.pooled_boxes(&config.roi_heads.pooler, pooled_levels, &proposals);
        let hidden = graph.hidden_layers("box_head", &model.box_head, &pooled);
        let hidden = graph.node("box_head.hidden", "Gather", &[&hidden, &order], vec![]);
        let classes = config.num_classes;
        let found =
            graph.scored_boxes(&model.box_head, classes, &hidden, &proposals, &input.limits);
        if is_raw {
            for (name, output) in [(BOXES, &found.boxes), (SCORES, &found.scores)] {
                graph.node(name, "Identity", &[output], vec![]);
            }
        } else {
            graph.detections(&config.roi_heads, classes, &found);
        }
        graph
    }

    /// Adds the padding to a multiple of `divisor` that the network was trained with.
    fn padded(&mut self, divisor: usize) -> Input {
        let size = self.shape("image_size", INPUT, 2..4);
        // Left, top, right and bottom are limited by width, height, width, height.
        let order = self.constant("width_height_twice", &[1, 0, 1, 0]);
        let limits = self.node("image_limits.int", "Gather", &[&size, &order], vec![]);
        let limits = self.cast("image_limits", DataType::Float, &limits);
        if divisor <= 1 {
            return Input {
                padded: INPUT.to_owned(),
                limits,
            };
        }
        let negative = self.node("border.negative", "Neg", &[&size], vec![]);
        let multiple = self.constant("size_divisor", &[divisor as i64]);
        // The sign of a remainder is that of the divisor.
        let border = self.node("border", "Mod", &[&negative, &multiple], vec![]);
        let none = self.constant("no_border", &[0; 6]);
        let pads = self.concat("border.pads", 0, &[none, border]);
        Input {
            padded: self.node("padded", "Pad", &[INPUT, &pads], vec![]),
            limits,
        }
    }

    /// Adds P2..P6 over C2..C5.
    fn feature_pyramid(&mut self, at: &str, fpn: &Fpn, maps: &[String]) -> Vec<String> {
        let mut levels = Vec::with_capacity(maps.len() + 1);
        let mut top_down: Option<String> = None;
        let blocks = fpn.inner_blocks.iter().zip(&fpn.layer_blocks);
        for (n, (map, (inner, layer))) in maps.iter().zip(blocks).enumerate().rev() {
            let name = format!("{at}.inner_blocks.{n}");
            let norm = format!("{at}.inner_norms.{n}");
            let mut merged =
                self.optionally_normed([&name, &norm], inner, fpn.inner_norms.get(n), map);
            if let Some(coarser) = top_down {
                // Nearest neighbors at the exact size of the finer feature map.
                let size = self.shape(&format!("{at}.size.{n}"), &merged, 0..4);
                let nearest = vec![
                    string("mode", "nearest"),
                    string("coordinate_transformation_mode", "asymmetric"),
                    string("nearest_mode", "floor"),
                ];
                let inputs = [coarser.as_str(), "", "", &size];
                let coarser = self.node(&format!("{at}.top_down.{n}"), "Resize", &inputs, nearest);
                let sum = format!("{at}.merged.{n}");
                merged = self.node(&sum, "Add", &[&merged, &coarser], vec![]);
            }
            let name = format!("{at}.layer_blocks.{n}");
            let norm = format!("{at}.layer_norms.{n}");
            let level =
                self.optionally_normed([&name, &norm], layer, fpn.layer_norms.get(n), &merged);
            levels.push(level);
            top_down = Some(merged);
        }
        levels.reverse();
        // P6: every second pixel of P5.
        if let Some(last) = levels.last().cloned() {
            let every_second = vec![ints("kernel_shape", &[1, 1]), ints("strides", &[2, 2])];
            levels.push(self.node(&format!("{at}.p6"), "MaxPool", &[&last], every_second));
        }
        levels
    }

    /// Adds the proposals `[proposals, 4]` by decreasing score.
    fn proposals(
        &mut self,
        config: &FasterRcnnConfig,
        head: &RpnHead,
        levels: &[String],
        input: &Input,
    ) -> String {
        let limits = config.rpn.test_limits;
        let (mut boxes, mut scores) = (Vec::new(), Vec::new());
        for (level, map) in levels.iter().enumerate() {
            let at = format!("rpn.p{}", level + 2);
            let anchors = self.anchors(&at, &config.anchors, level, map, &input.padded);
            let found = self.rpn_level(&at, &config.rpn, head, map, &anchors, &input.limits);
            boxes.push(found.boxes);
            scores.push(found.scores);
        }
        let boxes = self.concat("rpn.boxes", 0, &boxes);
        let scores = self.concat("rpn.scores", 0, &scores);
        let [_, best] = self.best("rpn.best", &scores, limits.post_nms);
        self.node("proposals", "Gather", &[&boxes, &best], vec![])
    }

    /// Adds the proposals of one level: boxes `[n, 4]` and scores `[n]`.
    fn rpn_level(
        &mut self,
        at: &str,
        config: &RpnConfig,
        head: &RpnHead,
        map: &str,
        anchors: &str,
        limits: &str,
    ) -> ScoredBoxes {
        let of = |part: &str| format!("{at}.{part}");
        let hidden = self.rpn_hidden(at, head, map);
        let logits = self.conv(
            &of("cls_logits"),
            "rpn.cls_logits",
            &head.cls_logits,
            &hidden,
        );
        let deltas = self.conv(&of("bbox_pred"), "rpn.bbox_pred", &head.bbox_pred, &hidden);
        // Row by row, then by anchor.
        let perm = vec![ints("perm", &[0, 2, 3, 1])];
        let logits = self.node(&of("logits.nhwc"), "Transpose", &[&logits], perm);
        let flat = self.constant("flat", &[-1]);
        let logits = self.node(&of("logits"), "Reshape", &[&logits, &flat], vec![]);
        let [per_location, _, _, _] = head.cls_logits.weight.lazy_shape().dims();
        let by_anchor = self.constant("deltas_by_anchor", &[per_location as i64, 4, -1]);
        let deltas = self.node(
            &of("deltas.planes"),
            "Reshape",
            &[&deltas, &by_anchor],
            vec![],
        );
        let perm = vec![ints("perm", &[2, 0, 1])];
        let deltas = self.node(&of("deltas.nhwc"), "Transpose", &[&deltas], perm);
        let rows = self.constant("rows_of_four", &[-1, 4]);
        let deltas = self.node(&of("deltas"), "Reshape", &[&deltas, &rows], vec![]);

        let [logits, best] = self.best(&of("best"), &logits, config.test_limits.pre_nms);
        let anchors = self.node(&of("anchors.best"), "Gather", &[anchors, &best], vec![]);
        let deltas = self.node(&of("deltas.best"), "Gather", &[&deltas, &best], vec![]);
        let boxes = self.decoded(&of("decoded"), BoxCoder::RPN, &anchors, &deltas, limits);
        let scores = match config.rank {
            ProposalRank::Logit => logits,
            ProposalRank::Probability => self.probability(&of("probability"), &logits),
        };
        let is_large = self.has_sides_of(&of("large"), config.min_side, &boxes);
        let compress = |graph: &mut Self, name: &str, x: &str| {
            graph.node(&of(name), "Compress", &[x, &is_large], vec![int("axis", 0)])
        };
        let boxes = compress(self, "boxes.large", &boxes);
        let scores = compress(self, "scores.large", &scores);

        let first = self.constant("first_axis", &[0]);
        let one_image = of("boxes.batch");
        let one_image = self.node(&one_image, "Unsqueeze", &[&boxes, &first], vec![]);
        let first_two = self.constant("first_two_axes", &[0, 1]);
        let one_class = of("scores.batch");
        let one_class = self.node(&one_class, "Unsqueeze", &[&scores, &first_two], vec![]);
        let most = self.constant("rpn.most", &[config.test_limits.post_nms as i64]);
        let threshold = self.floats("rpn.nms_threshold", vec![1], &[config.nms_threshold]);
        let inputs = [one_image.as_str(), &one_class, &most, &threshold];
        let kept = self.node(&of("nms"), "NonMaxSuppression", &inputs, vec![]);
        let kept = self.column(&of("nms.boxes"), 2, &kept);
        ScoredBoxes {
            boxes: self.node(&of("boxes"), "Gather", &[&boxes, &kept], vec![]),
            scores: self.node(&of("scores"), "Gather", &[&scores, &kept], vec![]),
        }
    }

    /// Adds the hidden layers of the RPN's head.
    fn rpn_hidden(&mut self, at: &str, head: &RpnHead, map: &str) -> String {
        let name = format!("{at}.conv");
        let hidden = self.conv(&name, "rpn.conv", &head.conv, map);
        let mut hidden = self.relu(&name, &hidden);
        for (n, conv) in head.further_convs.iter().enumerate() {
            let name = format!("{at}.further_convs.{n}");
            hidden = self.conv(&name, &format!("rpn.further_convs.{n}"), conv, &hidden);
            hidden = self.relu(&name, &hidden);
        }
        hidden
    }

    /// Adds `1 / (1 + exp(-x))`. Runtimes approximate `Sigmoid`: ONNX Runtime's has the same value for all
    /// logits below -18, so that the best of several levels would not be the best.
    fn probability(&mut self, at: &str, x: &str) -> String {
        let negative = self.node(&format!("{at}.negative"), "Neg", &[x], vec![]);
        let odds = self.node(&format!("{at}.exp"), "Exp", &[&negative], vec![]);
        let one = self.floats("one", vec![], &[1.0]);
        let sum = self.node(&format!("{at}.sum"), "Add", &[&odds, &one], vec![]);
        self.node(at, "Reciprocal", &[&sum], vec![])
    }

    /// Adds the anchors `[anchors, 4]` of a level.
    fn anchors(
        &mut self,
        at: &str,
        config: &AnchorConfig,
        level: usize,
        map: &str,
        padded: &str,
    ) -> String {
        let of = |part: &str| format!("{at}.anchors.{part}");
        let grid = self.shape(&of("grid"), map, 2..4);
        let fixed = config.strides.as_ref().and_then(|s| s.get(level));
        let strides = match fixed {
            Some(&stride) => self.floats(&of("strides"), vec![2], &[stride as f32; 2]),
            None => {
                let size = self.shape(&of("padded_size"), padded, 2..4);
                let quotient = of("strides.int");
                let quotient = self.node(&quotient, "Div", &[&size, &grid], vec![]);
                self.cast(&of("strides"), DataType::Float, &quotient)
            }
        };
        // One axis of the grid: name, index, axes of length 1 in `[rows, columns, anchors, 4]`, and
        // the coordinates that it moves.
        let sides: [(&str, i64, [i64; 3], [f32; 4]); 2] = [
            ("rows", 0, [1, 2, 3], [0.0, 1.0, 0.0, 1.0]),
            ("columns", 1, [0, 2, 3], [1.0, 0.0, 1.0, 0.0]),
        ];
        let mut shifts = Vec::with_capacity(2);
        for (side, index, axes, moved) in sides {
            let of = |part: &str| of(&format!("{side}.{part}"));
            let index = self.constant(&format!("index_{index}"), &[index]);
            let length = self.node(&of("length"), "Gather", &[&grid, &index], vec![]);
            let stride = self.node(&of("stride"), "Gather", &[&strides, &index], vec![]);
            let positions = self.range(&of("positions"), &length);
            let positions = self.cast(&of("positions.float"), DataType::Float, &positions);
            let offsets = self.node(&of("offsets"), "Mul", &[&positions, &stride], vec![]);
            let axes = self.constant(&format!("axes_of_{side}"), &axes);
            let offsets = self.node(&of("offsets.grid"), "Unsqueeze", &[&offsets, &axes], vec![]);
            let moved = self.floats(&format!("moved_by_{side}"), vec![4], &moved);
            shifts.push(self.node(&of("shifts"), "Mul", &[&offsets, &moved], vec![]));
        }
        let shifts = self.node(&of("shifts"), "Sum", &shifts, vec![]);
        let cell = config.cell_anchors(level);
        let corners: Vec<f32> = cell.iter().flat_map(|a| [a.x1, a.y1, a.x2, a.y2]).collect();
        let cell = self.floats(&of("cell"), vec![cell.len() as i64, 4], &corners);
        let grid = self.node(&of("all"), "Add", &[&shifts, &cell], vec![]);
        let rows = self.constant("rows_of_four", &[-1, 4]);
        self.node(&format!("{at}.anchors"), "Reshape", &[&grid, &rows], vec![])
    }

    /// Adds RoIAlign of every proposal on the level of its size. Returns the pooled feature maps, level
    /// by level, and their positions in the order of the proposals.
    fn pooled_boxes(
        &mut self,
        pooler: &RoiPooler,
        levels: &[String],
        proposals: &str,
    ) -> (String, String) {
        let sides = self.sides("roi.sides", proposals);
        let last = || vec![ints("axes", &[-1]), int("keepdims", 1)];
        let area = self.node("roi.area", "ReduceProd", &[&sides], last());
        let root = self.node("roi.area.root", "Sqrt", &[&area], vec![]);
        let scale = self.floats("roi.canonical_scale", vec![], &[pooler.canonical_scale]);
        let ratio = self.node("roi.ratio", "Div", &[&root, &scale], vec![]);
        let thresholds = pooler.level_thresholds(levels.len());
        let count = thresholds.len() as i64;
        let thresholds = self.floats("roi.level_thresholds", vec![count], &thresholds);
        let inputs = [ratio.as_str(), &thresholds];
        let above = self.node("roi.levels.above", "GreaterOrEqual", &inputs, vec![]);
        let above = self.cast("roi.levels.above.int", DataType::Int64, &above);
        let second = self.constant("second_axis", &[1]);
        let inputs = [above.as_str(), &second];
        let level_of = self.node("roi.levels", "ReduceSum", &inputs, vec![int("keepdims", 0)]);
        let first = self.constant("first_axis", &[0]);
        let (mut pooled, mut rows) = (Vec::new(), Vec::new());
        for (level, map) in levels.iter().enumerate() {
            let at = format!("roi.p{}", level + 2);
            let of = |part: &str| format!("{at}.{part}");
            let number = self.integers(&of("number"), vec![], &[level as i64]);
            let is_here = self.node(&of("is_here"), "Equal", &[&level_of, &number], vec![]);
            let found = self.node(&of("found"), "NonZero", &[&is_here], vec![]);
            let found = self.node(&of("rows"), "Squeeze", &[&found, &first], vec![]);
            let boxes = self.node(&of("boxes"), "Gather", &[proposals, &found], vec![]);
            // All boxes are of image 0.
            let image = self.node(&of("image"), "Sub", &[&found, &found], vec![]);
            let size = pooler.output_size as i64;
            let mode = if pooler.aligned {
                "half_pixel"
            } else {
                "output_half_pixel"
            };
            let attributes = vec![
                string("mode", "avg"),
                string("coordinate_transformation_mode", mode),
                int("output_height", size),
                int("output_width", size),
                int("sampling_ratio", pooler.sampling_ratio as i64),
                float("spatial_scale", 0.25 / (1 << level) as f32),
            ];
            let inputs = [map.as_str(), &boxes, &image];
            pooled.push(self.node(&of("pooled"), "RoiAlign", &inputs, attributes));
            rows.push(found);
        }
        let pooled = self.concat("roi.pooled", 0, &pooled);
        let rows = self.concat("roi.rows", 0, &rows);
        let [_, order] = self.ascending("roi.order", &rows);
        (pooled, order)
    }

    /// Adds the hidden layers of the box head.
    fn hidden_layers(&mut self, at: &str, head: &BoxHead, pooled: &str) -> String {
        let mut maps = pooled.to_owned();
        for (n, conv) in head.convs.iter().enumerate() {
            let (name, norm) = (format!("{at}.convs.{n}"), format!("{at}.norms.{n}"));
            maps = self.optionally_normed([&name, &norm], conv, head.norms.get(n), &maps);
            maps = self.relu(&name, &maps);
        }
        let flat = format!("{at}.flat");
        let mut x = self.node(&flat, "Flatten", &[&maps], vec![int("axis", 1)]);
        let layers = [("fc6", Some(&head.fc6)), ("fc7", head.fc7.as_ref())];
        for (name, layer) in layers
            .into_iter()
            .filter_map(|(name, layer)| Some((name, layer?)))
        {
            let name = format!("{at}.{name}");
            x = self.linear(&name, &name, layer, &x);
            x = self.relu(&name, &x);
        }
        x
    }

    /// Adds the probability and the box of every class, without the background.
    fn scored_boxes(
        &mut self,
        head: &BoxHead,
        classes: usize,
        hidden: &str,
        proposals: &str,
        limits: &str,
    ) -> ScoredBoxes {
        let logits = "box_head.cls_score";
        let logits = self.linear(logits, logits, &head.cls_score, hidden);
        let scores = "box_head.softmax";
        let scores = self.node(scores, "Softmax", &[&logits], vec![int("axis", 1)]);
        let scores = self.foreground("box_head.scores", &scores);
        let deltas = "box_head.bbox_pred";
        let deltas = self.linear(deltas, deltas, &head.bbox_pred, hidden);
        let [_, deltas_of_row] = head.bbox_pred.weight.lazy_shape().dims();
        let is_class_agnostic = deltas_of_row == 4;
        let regressors = if is_class_agnostic {
            1
        } else {
            classes as i64 + 1
        };
        // A zero keeps the number of proposals.
        let by_class = self.constant("deltas_by_class", &[0, regressors, 4]);
        let all = "box_head.deltas.all";
        let all = self.node(all, "Reshape", &[&deltas, &by_class], vec![]);
        let deltas = if is_class_agnostic {
            all
        } else {
            self.foreground("box_head.deltas", &all)
        };
        let second = self.constant("second_axis", &[1]);
        let inputs = [proposals, second.as_str()];
        let reference = self.node("proposals.by_class", "Unsqueeze", &inputs, vec![]);
        let mut boxes = self.decoded("box_head.boxes", BoxCoder::ROI, &reference, &deltas, limits);
        if is_class_agnostic {
            let every_class = self.constant("every_class", &[1, classes as i64, 1]);
            let name = "box_head.boxes.by_class";
            boxes = self.node(name, "Expand", &[&boxes, &every_class], vec![]);
        }
        ScoredBoxes { boxes, scores }
    }

    /// Adds `x` without its first column, the background.
    fn foreground(&mut self, name: &str, x: &str) -> String {
        let start = self.constant("foreground.start", &[1]);
        let end = self.constant("foreground.end", &[i64::MAX]);
        let axis = self.constant("second_axis", &[1]);
        self.node(name, "Slice", &[x, &start, &end, &axis], vec![])
    }

    /// Adds score threshold, non-maximum suppression within each class, and the best of all classes.
    fn detections(&mut self, config: &RoiHeadsConfig, classes: usize, found: &ScoredBoxes) {
        let is_large = self.has_sides_of("detections.large", config.min_side, &found.boxes);
        // No score is below 0, so 0 is never above the threshold.
        let zero = self.floats("zero", vec![], &[0.0]);
        let inputs = [is_large.as_str(), &found.scores, &zero];
        let scores = self.node("detections.scores", "Where", &inputs, vec![]);

        let by_class = vec![ints("perm", &[1, 0, 2])];
        let name = "detections.boxes.by_class";
        let boxes = self.node(name, "Transpose", &[&found.boxes], by_class);
        let by_class = vec![ints("perm", &[1, 0])];
        let name = "detections.scores.by_class";
        let class_scores = self.node(name, "Transpose", &[&scores], by_class);
        let second = self.constant("second_axis", &[1]);
        let name = "detections.scores.batch";
        let class_scores = self.node(name, "Unsqueeze", &[&class_scores, &second], vec![]);
        let most = self.constant("detections.most", &[config.max_detections as i64]);
        let iou = self.floats("detections.nms_threshold", vec![1], &[config.nms_threshold]);
        let least = self.floats("score_threshold", vec![1], &[config.score_threshold]);
        let inputs = [boxes.as_str(), &class_scores, &most, &iou, &least];
        let kept = self.node("detections.nms", "NonMaxSuppression", &inputs, vec![]);

        // Row in `[proposals * classes]` of each kept box, in this order: it decides among equal scores.
        let class = self.column("detections.nms.class", 0, &kept);
        let proposal = self.column("detections.nms.proposal", 2, &kept);
        let count = self.integers("classes", vec![], &[classes as i64]);
        let first = "detections.rows.first";
        let first = self.node(first, "Mul", &[&proposal, &count], vec![]);
        let rows = self.node("detections.rows.all", "Add", &[&first, &class], vec![]);
        let [rows, _] = self.ascending("detections.rows.sorted", &rows);
        let flat = self.constant("flat", &[-1]);
        let name = "detections.scores.flat";
        let scores = self.node(name, "Reshape", &[&scores, &flat], vec![]);
        let name = "detections.scores.kept";
        let scores = self.node(name, "Gather", &[&scores, &rows], vec![]);
        let best = self.limited("detections.best", &scores, config.max_detections);
        let inputs = [scores.as_str(), &best];
        let outputs = [SCORES, "detections.best.rows"];
        let [_, best] = self.node_with_outputs("detections.best", "TopK", &inputs, vec![], outputs);
        let rows = self.node("detections.rows", "Gather", &[&rows, &best], vec![]);
        let four = self.constant("rows_of_four", &[-1, 4]);
        let name = "detections.boxes.flat";
        let boxes = self.node(name, "Reshape", &[&found.boxes, &four], vec![]);
        self.node(BOXES, "Gather", &[&boxes, &rows], vec![]);
        self.node(LABELS, "Mod", &[&rows, &count], vec![]);
    }

    /// Adds the boxes at `deltas` from `reference`, clipped to the image; both `[.., 4]`.
    fn decoded(
        &mut self,
        at: &str,
        coder: BoxCoder,
        reference: &str,
        deltas: &str,
        limits: &str,
    ) -> String {
        let of = |part: &str| format!("{at}.{part}");
        let [low, high] = self.halves(&of("reference"), reference);
        let size = self.node(&of("reference.size"), "Sub", &[&high, &low], vec![]);
        let half = self.floats("half", vec![], &[0.5]);
        let half_size = self.node(&of("reference.half"), "Mul", &[&size, &half], vec![]);
        let center = of("reference.center");
        let center = self.node(&center, "Add", &[&low, &half_size], vec![]);
        let deltas = if coder.weights == [1.0; 4] {
            deltas.to_owned()
        } else {
            let weights = self.floats("roi.delta_weights", vec![4], &coder.weights);
            self.node(&of("deltas"), "Div", &[deltas, &weights], vec![])
        };
        let [shift, scale] = self.halves(&of("deltas"), &deltas);
        let most = self.floats("largest_log_scale", vec![], &[MAX_LOG_SCALE]);
        let scale = self.node(&of("scale.clamped"), "Min", &[&scale, &most], vec![]);
        let scale = self.node(&of("scale"), "Exp", &[&scale], vec![]);
        let shift = self.node(&of("shift"), "Mul", &[&shift, &size], vec![]);
        let center = self.node(&of("center"), "Add", &[&shift, &center], vec![]);
        let size = self.node(&of("size"), "Mul", &[&scale, &size], vec![]);
        let half_size = self.node(&of("half"), "Mul", &[&size, &half], vec![]);
        let corners = [("low", "Sub"), ("high", "Add")]
            .map(|(name, operator)| self.node(&of(name), operator, &[&center, &half_size], vec![]));
        let boxes = self.concat(&of("unclipped"), -1, &corners);
        let zero = self.floats("zero", vec![], &[0.0]);
        let boxes = self.node(&of("not_negative"), "Max", &[&boxes, &zero], vec![]);
        self.node(at, "Min", &[boxes.as_str(), limits], vec![])
    }

    /// Adds the first two and the last two values of rows of four.
    fn halves(&mut self, at: &str, x: &str) -> [String; 2] {
        let two = self.constant("two_and_two", &[2, 2]);
        let outputs = [format!("{at}.first"), format!("{at}.second")];
        let outputs = [outputs[0].as_str(), &outputs[1]];
        let name = format!("{at}.halves");
        self.node_with_outputs(&name, "Split", &[x, &two], vec![int("axis", -1)], outputs)
    }

    /// Adds width and height of boxes `[.., 4]`.
    fn sides(&mut self, at: &str, boxes: &str) -> String {
        let [low, high] = self.halves(at, boxes);
        self.node(at, "Sub", &[&high, &low], vec![])
    }

    /// Adds a convolution with its norm, if it has one.
    fn optionally_normed(
        &mut self,
        [conv_name, norm_name]: [&str; 2],
        conv: &Conv2d,
        norm: Option<&Norm>,
        x: &str,
    ) -> String {
        match norm {
            Some(norm) => self.normed([conv_name, norm_name], conv, norm, x),
            None => self.conv(conv_name, conv_name, conv, x),
        }
    }

    /// Adds whether both sides of boxes `[.., 4]` are at least `min_side`.
    fn has_sides_of(&mut self, at: &str, min_side: f32, boxes: &str) -> String {
        let sides = self.sides(&format!("{at}.sides"), boxes);
        let last = vec![ints("axes", &[-1]), int("keepdims", 0)];
        let shortest = format!("{at}.shortest");
        let shortest = self.node(&shortest, "ReduceMin", &[&sides], last);
        let least = self.floats(&format!("{at}.least"), vec![], &[min_side]);
        self.node(at, "GreaterOrEqual", &[&shortest, &least], vec![])
    }

    /// Adds a column of the indices that `NonMaxSuppression` selects.
    fn column(&mut self, name: &str, column: i64, indices: &str) -> String {
        let column = self.integers(&format!("column_{column}"), vec![], &[column]);
        self.node(name, "Gather", &[indices, &column], vec![int("axis", 1)])
    }

    /// Adds the number of values in `x`, at most `most`.
    fn limited(&mut self, at: &str, x: &str, most: usize) -> String {
        let all = self.shape(&format!("{at}.all"), x, 0..1);
        let most = self.constant(&format!("at_most_{most}"), &[most as i64]);
        self.node(&format!("{at}.count"), "Min", &[&all, &most], vec![])
    }

    /// Adds the largest values of a vector in decreasing order, at most `most`, and their positions.
    fn best(&mut self, at: &str, x: &str, most: usize) -> [String; 2] {
        let count = self.limited(at, x, most);
        self.top(at, x, &count, 1)
    }

    /// Adds all values of a vector in increasing order, and their positions.
    fn ascending(&mut self, at: &str, x: &str) -> [String; 2] {
        let count = self.shape(&format!("{at}.count"), x, 0..1);
        self.top(at, x, &count, 0)
    }

    fn top(&mut self, at: &str, x: &str, count: &str, largest: i64) -> [String; 2] {
        let outputs = [format!("{at}.values"), format!("{at}.positions")];
        let outputs = [outputs[0].as_str(), &outputs[1]];
        let attributes = vec![int("largest", largest)];
        self.node_with_outputs(at, "TopK", &[x, count], attributes, outputs)
    }
}
