//! `sedet explain`.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use image::RgbImage;
use serde_json::{Value, json};

use super::hints::{advise, usage, usage_with_hint};
use super::model::ModelArgs;
use super::progress::{Unit, with_bar_of};
use super::terminal::{fitted, width};
use super::{number, output_directory, print_out, report_other_files, status, whole_number};
use sedet_core::excitation::selection::{SelectionError, choose_classes};
use sedet_core::excitation::{ChannelMap, Excitation};
use sedet_core::explanation::{
    ExplanationError, GateEffect, LayerCam, Neutral, effects_csv, strongest,
};
use sedet_core::model::{
    ExplainedImage, Explanation, ImageDetection, Model, ReplacedGate, Subject, Task,
};
use sedet_core::render::explanation::{ShownMap, channel_figure, map_figure, map_summary};
use sedet_core::render::{DrawnBox, save_image};
use sedet_core::report::write_text;
use sedet_data::eval::confusion::DEFAULT_SCORE;
use sedet_data::eval::table::Side;
use sedet_data::loading::decode::decode_image;
use sedet_data::text::{count, did_you_mean, printable};
use sedet_nn::nn::recording::Depth;

/// Gates that are shown on either side.
const SHOWN: usize = 10;

const SUMMARY: &str = "cams.png";
const CHANNELS: &str = "channels.png";
const EFFECTS: &str = "effects.csv";
const EXPLANATION: &str = "explanation.json";

const EXAMPLES: &str = "\
Examples:
  sedet explain --checkpoint runs/shapes --image photo.jpg --output why/
  sedet explain --checkpoint runs/shapes --image a.jpg --box 3 --output why/
  sedet explain --checkpoint runs/pets --image a.jpg --class pug --output why/";

/// The neutral gate of channels, where no statistics are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum NeutralName {
    /// The mean gate of the unit in this image
    #[default]
    Unit,
    /// 0: the whole channel
    Zero,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = EXAMPLES,
    mut_arg("json", |json| json.help("Print explanation.json instead of tables"))
)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Image
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// Detectors: number of the detection in the order of `sedet predict`, from 1 [default: 1]
    #[arg(long = "box", value_name = "N", value_parser = whole_number::<usize>)]
    position: Option<usize>,
    /// Detectors: minimum score of the detections that are numbered [default: 0.5]
    #[arg(long, value_parser = number::<f32>, allow_negative_numbers = true)]
    score: Option<f32>,
    /// Classifiers: class to explain, by name or label [default: the most probable]
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// Statistics of `sedet excite` (excitation.safetensors): a gate is compared with its mean over the dataset
    #[arg(long, value_name = "FILE", conflicts_with = "neutral")]
    gates: Option<PathBuf>,
    /// What a gate is compared with: the mean gate of its unit in this image, or zero [default: unit]
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "unit|zero"
    )]
    neutral: Option<NeutralName>,
    /// Also print the score with these channels switched off together: SE_2_1:12,...
    #[arg(long, value_delimiter = ',', value_name = "BLOCK:CHANNEL,...")]
    without: Vec<String>,
    /// Directory for cams.png, a figure of each layer, channels.png, effects.csv and explanation.json
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

/// An effect and what a forward pass without the gate measures.
struct Measured {
    found: GateEffect,
    /// What the score loses with the neutral gate.
    effect: f32,
    /// What the score loses with a gate of 0.
    removal: f32,
}

/// Everything that is written.
struct Report<'a> {
    args: &'a ExplainArgs,
    model: &'a Model,
    /// The numbered detections.
    detections: Vec<ImageDetection>,
    explanation: Explanation,
    effects: Vec<GateEffect>,
    /// For and against.
    measured: [Vec<Measured>; 2],
    /// The score without the channels of `--without`.
    without: Option<f32>,
}

pub(super) fn run(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let Some(checkpoint) = &args.model.checkpoint else {
        return Err(usage_with_hint(
            "no model is given",
            "--checkpoint runs/NAME for a model of your own; `sedet weights list` lists published weights",
        ));
    };
    if let Some(score) = args.score
        && !(0.0..=1.0).contains(&score)
    {
        return Err(usage(format!(
            "--score {score}: a value from 0 to 1 is required"
        )));
    }
    check_output(&args)?;
    let image = decode_image(&args.image)?;
    let (model, _) = args.model.load(checkpoint)?;
    check_task(&args, checkpoint, model.task())?;
    let pass = model.explained_image(&image)?;
    check_gates(&args, checkpoint, &pass)?;
    let neutral = neutral(&args, &model, &pass)?;
    let switched_off = switched_off(&args, &pass)?;
    let (detections, subject) = choose(&args, &model, &pass, &image)?;

    let explanation = model.explain(&pass, subject)?;
    if explanation.units.is_empty() {
        status!("note: the network has no SE units, so there are no gates to explain");
    }
    let effects = explanation.effects(&neutral);
    let strongest = strongest(&effects, SHOWN);
    let measured = with_bar_of(Unit::Channels, "measuring", |progress| {
        measure(&model, &pass, subject, &strongest, progress)
    })??;
    let Some(measured) = measured else {
        bail!("interrupted before all channels were measured");
    };
    let without = match switched_off.as_slice() {
        [] => None,
        gates => Some(model.score_with(&pass, subject, gates)?),
    };
    let report = Report {
        args: &args,
        model: &model,
        detections,
        explanation,
        effects,
        measured,
        without,
    };
    output_directory(&args.output)?;
    report.write(&image)?;
    if args.model.json {
        print_out(&report.json()?)?;
    } else {
        print_out(&report.tables())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures the effects of gates for and against by a forward pass each; none if `progress` stopped it.
fn measure(
    model: &Model,
    pass: &ExplainedImage,
    subject: Subject,
    sides: &[Vec<GateEffect>; 2],
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> anyhow::Result<Option<[Vec<Measured>; 2]>> {
    let unchanged = model.score_with(pass, subject, &[])?;
    let lost = |found: &GateEffect, gate: f32| {
        let replaced = ReplacedGate {
            unit: found.unit,
            channel: found.channel,
            gate,
        };
        let score = model.score_with(pass, subject, &[replaced])?;
        anyhow::Ok(unchanged - score)
    };
    let all = sides.iter().map(Vec::len).sum();
    let mut measured = [Vec::new(), Vec::new()];
    let mut done = 0;
    for (side, measured) in sides.iter().zip(&mut measured) {
        for &found in side {
            let removal = lost(&found, 0.0)?;
            let effect = if found.neutral == 0.0 {
                removal
            } else {
                lost(&found, found.neutral)?
            };
            measured.push(Measured {
                found,
                effect,
                removal,
            });
            done += 1;
            if progress(done, all).is_break() {
                return Ok(None);
            }
        }
    }
    Ok(Some(measured))
}

/// Refuses an image that a figure would replace.
fn check_output(args: &ExplainArgs) -> anyhow::Result<()> {
    let is_ours = args.image.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name == SUMMARY || name == CHANNELS || name.starts_with("cam-")
    });
    let directory = match args.image.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let is_within = match (directory.canonicalize(), args.output.canonicalize()) {
        (Ok(directory), Ok(output)) => directory == output,
        _ => false,
    };
    if is_ours && is_within {
        return Err(usage_with_hint(
            format!(
                "--output: {} is in this directory, and a figure could replace it",
                args.image.display()
            ),
            "choose another --output",
        ));
    }
    Ok(())
}

/// Refuses options that the model has no use for.
fn check_task(args: &ExplainArgs, checkpoint: &Path, task: Task) -> anyhow::Result<()> {
    let (wrong, required) = match task {
        Task::Detection => (args.class.as_ref().map(|_| "--class"), "classifier"),
        Task::Classification => {
            let position = args.position.map(|_| "--box");
            (position.or(args.score.map(|_| "--score")), "detector")
        }
    };
    match wrong {
        Some(option) => Err(usage_with_hint(
            format!(
                "{option} requires a {required}; {} is a {}",
                checkpoint.display(),
                task.model_name()
            ),
            format!("omit {option}"),
        )),
        None => Ok(()),
    }
}

/// Refuses options about gates that the network does not have.
fn check_gates(args: &ExplainArgs, checkpoint: &Path, pass: &ExplainedImage) -> anyhow::Result<()> {
    let options = [
        ("--gates", args.gates.is_some()),
        ("--neutral", args.neutral.is_some()),
        ("--without", !args.without.is_empty()),
    ];
    let given = options.into_iter().find(|(_, is_given)| *is_given);
    match given {
        Some((option, _)) if pass.blocks().is_empty() => Err(usage_with_hint(
            format!(
                "{option} requires SE units, and the network of {} has none",
                checkpoint.display()
            ),
            format!("omit {option}"),
        )),
        _ => Ok(()),
    }
}

fn neutral(args: &ExplainArgs, model: &Model, pass: &ExplainedImage) -> anyhow::Result<Neutral> {
    Ok(match (&args.gates, args.neutral.unwrap_or_default()) {
        (Some(file), _) => {
            let statistics = Excitation::load(file)?;
            let measured = statistics.origin.network.as_ref();
            if let Some(other) = measured.and_then(|network| model.spec.difference(network)) {
                return Err(ExplanationError::OtherNetwork(other).into());
            }
            Neutral::of_dataset(&statistics, pass.blocks())?
        }
        (None, NeutralName::Unit) => Neutral::UnitMean,
        (None, NeutralName::Zero) => Neutral::Zero,
    })
}

/// Returns the channels of `--without`, with a gate of 0.
fn switched_off(args: &ExplainArgs, pass: &ExplainedImage) -> anyhow::Result<Vec<ReplacedGate>> {
    let parse = |text: &String| {
        let text = text.trim();
        let wrong = |problem: String| {
            let hint = "a block and a channel, as in SE_2_1:12; effects.csv lists all";
            usage_with_hint(format!("--without {}: {problem}", printable(text)), hint)
        };
        if text.is_empty() {
            return Err(wrong("an empty entry in the list".into()));
        }
        let parts = text.split_once(':');
        let parts = parts.and_then(|(name, channel)| Some((name, channel.parse::<usize>().ok()?)));
        let (name, channel) = parts.ok_or_else(|| wrong("not a channel of a block".into()))?;
        let mut blocks = pass.blocks().iter();
        let unit = blocks.position(|block| block.name.eq_ignore_ascii_case(name));
        let unit = unit.ok_or_else(|| {
            let known: Vec<&str> = pass.blocks().iter().map(|b| b.name.as_str()).collect();
            wrong(format!(
                "the network has no such block{}",
                did_you_mean(name, &known)
            ))
        })?;
        let channels = pass.blocks()[unit].channels;
        if channel >= channels {
            return Err(wrong(format!(
                "the block has channels 0 to {}",
                channels - 1
            )));
        }
        Ok(ReplacedGate {
            unit,
            channel,
            gate: 0.0,
        })
    };
    let gates: Vec<ReplacedGate> = args.without.iter().map(parse).collect::<Result<_, _>>()?;
    let mut seen = HashSet::new();
    let twice = gates.iter().zip(&args.without);
    let mut twice = twice.filter(|(gate, _)| !seen.insert((gate.unit, gate.channel)));
    match twice.next() {
        Some((_, text)) => Err(usage(format!(
            "--without {}: the channel is listed twice",
            printable(text.trim())
        ))),
        None => Ok(gates),
    }
}

/// Returns the numbered detections and the score to explain.
fn choose(
    args: &ExplainArgs,
    model: &Model,
    pass: &ExplainedImage,
    image: &RgbImage,
) -> anyhow::Result<(Vec<ImageDetection>, Subject)> {
    if model.task() == Task::Classification {
        return Ok((Vec::new(), Subject::Class(class(args, model, image)?)));
    }
    let least = args.score.unwrap_or(DEFAULT_SCORE);
    let all = pass.detections();
    // Sorted by score: the numbers do not depend on the least one.
    let found: Vec<ImageDetection> = all.iter().copied().filter(|d| d.score >= least).collect();
    let file = args.image.display();
    if found.is_empty() {
        let error = format!("{file}: no detection with a score of at least {least}");
        return match all.first() {
            Some(best) => Err(advise(
                error,
                format!(
                    "the most certain one has {:.2}: add --score {:.2}",
                    best.score,
                    (best.score * 100.0).floor() / 100.0
                ),
            )),
            None => bail!(error),
        };
    }
    let position = args.position.unwrap_or(1);
    if !(1..=found.len()).contains(&position) {
        return Err(usage_with_hint(
            format!(
                "--box {position}: {file} has {} with a score of at least {least}",
                count(found.len(), "detection")
            ),
            "the boxes are numbered from 1; a lower --score has more",
        ));
    }
    Ok((found, Subject::Detection(position - 1)))
}

/// Returns the label of `--class`, or of the most probable class.
fn class(args: &ExplainArgs, model: &Model, image: &RgbImage) -> anyhow::Result<usize> {
    let Some(name) = &args.class else {
        let best = model.classify(image, 1)?;
        return Ok(best.first().map_or(0, |class| class.label));
    };
    let known: Vec<String> = (0..model.spec.num_classes())
        .map(|label| model.spec.class_name(label))
        .collect();
    match choose_classes(&known, std::slice::from_ref(name)) {
        Ok(labels) => Ok(labels.first().copied().unwrap_or_default()),
        Err(error @ SelectionError::Ambiguous { .. }) => Err(usage_with_hint(
            format!("--class: {error}"),
            "give the whole name, or the label",
        )),
        Err(_) => Err(usage(format!(
            "--class {}: the model has no such class{}",
            printable(name),
            did_you_mean(name, &known)
        ))),
    }
}

impl Report<'_> {
    /// Writes all files.
    fn write(&self, image: &RgbImage) -> anyhow::Result<()> {
        let (explanation, output) = (&self.explanation, &self.args.output);
        let mut written = HashSet::from([SUMMARY, EXPLANATION].map(str::to_owned));
        let drawn = explanation.detection.map(|found| DrawnBox {
            box_in_image: found.box_in_image,
            label: self.model.spec.class_name(found.label),
            class_index: found.label,
            score: Some(found.score),
            dashed: false,
        });
        let (drawn, seen) = (drawn.as_ref(), explanation.seen);
        for cam in &explanation.cams {
            let name = format!("cam-{}.png", cam.layer);
            let figure = map_figure(image, &cam.map, seen, drawn);
            save_image(&figure, &output.join(&name))?;
            written.insert(name);
        }
        let maps = explanation.cams.iter().map(|cam| ShownMap {
            map: &cam.map,
            caption: match self.share_inside(cam) {
                Some(share) => format!("{}: {:.0} % in the box", cam.layer, 100.0 * share),
                None if cam.largest() > 0.0 => cam.layer.clone(),
                None => format!("{}: no part in the score", cam.layer),
            },
        });
        let summary = map_summary(image, &maps.collect::<Vec<_>>(), seen, drawn);
        save_image(&summary, &output.join(SUMMARY))?;
        if let Some(figure) = self.channels(image)? {
            save_image(&figure, &output.join(CHANNELS))?;
            written.insert(CHANNELS.to_owned());
        }
        if !explanation.units.is_empty() {
            let csv = effects_csv(&explanation.units, &self.effects);
            write_text(&output.join(EFFECTS), &csv)?;
            written.insert(EFFECTS.to_owned());
        }
        write_text(&output.join(EXPLANATION), &self.json()?)?;
        report_other_files(output, &written);
        Ok(())
    }

    /// Draws the feature maps of the shown channels, before their gates; none without SE units.
    fn channels(&self, image: &RgbImage) -> anyhow::Result<Option<RgbImage>> {
        if self.explanation.units.is_empty() {
            return Ok(None);
        }
        let recording = self.model.record(image, Depth::GatesAndFeatureMaps)?;
        let shown = self.measured.iter().flatten();
        let maps: Vec<(ChannelMap, String)> = shown
            .filter_map(|Measured { found, .. }| {
                let block = recording.blocks.get(found.unit)?;
                let (before, _) = block.channel(found.channel)?;
                let caption = format!(
                    "{} {}: {:+.1e}",
                    block.block.name, found.channel, found.effect
                );
                Some((before, caption))
            })
            .collect();
        let maps = maps.iter().map(|(map, caption)| ShownMap {
            map,
            caption: caption.clone(),
        });
        let in_box = self.explanation.detection.map(|found| found.box_in_image);
        let seen = self.explanation.seen;
        let maps: Vec<ShownMap<'_>> = maps.collect();
        Ok(Some(channel_figure(image, &maps, seen, in_box)))
    }

    /// Returns the share of a map in the box; none for a classifier or a map of zeros.
    fn share_inside(&self, cam: &LayerCam) -> Option<f64> {
        let found = self.explanation.detection?;
        cam.share_inside(found.box_in_image, self.explanation.seen)
    }

    /// Returns what gates are compared with.
    fn neutral(&self) -> String {
        match (&self.args.gates, self.args.neutral.unwrap_or_default()) {
            (Some(file), _) => format!("mean over the dataset of {}", file.display()),
            (None, NeutralName::Unit) => "mean gate of the unit in this image".to_owned(),
            (None, NeutralName::Zero) => "0".to_owned(),
        }
    }

    fn json(&self) -> anyhow::Result<String> {
        let explanation = &self.explanation;
        let name = |label: usize| self.model.spec.class_name(label);
        let detections = self.detections.iter().zip(1..).map(|(found, number)| {
            json!({
                "box": number,
                "category_name": name(found.label),
                "score": found.score,
                "bbox": found.box_in_image.to_xywh(),
            })
        });
        let cams = explanation.cams.iter().map(|cam| {
            json!({
                "layer": cam.layer,
                "largest": cam.largest(),
                "share_inside": self.share_inside(cam),
            })
        });
        let side = |measured: &[Measured]| -> Vec<Value> {
            let rows = measured.iter().map(|row| {
                json!({
                    "block": explanation.units[row.found.unit].block.name,
                    "channel": row.found.channel,
                    "gate": row.found.gate,
                    "neutral": row.found.neutral,
                    "effect": row.found.effect,
                    "measured_effect": row.effect,
                    "removal": row.found.removal,
                    "measured_removal": row.removal,
                })
            });
            rows.collect()
        };
        let position = explanation
            .detection
            .map(|_| self.args.position.unwrap_or(1));
        let document = json!({
            "file_name": self.args.image.display().to_string(),
            "box": position,
            "category_name": name(explanation.label),
            "score": explanation.score,
            "pooled_from": explanation.pooled_from,
            "cams": cams.collect::<Vec<_>>(),
            "neutral": self.neutral(),
            "for": side(&self.measured[0]),
            "against": side(&self.measured[1]),
            "score_without": self.without,
            "detections": detections.collect::<Vec<_>>(),
        });
        Ok(serde_json::to_string_pretty(&document)?)
    }

    fn tables(&self) -> String {
        let (explanation, width) = (&self.explanation, width());
        let mut text = String::new();
        if !self.detections.is_empty() {
            let mut rows = vec![["box", "class", "score", "x, y, width, height"].map(String::from)];
            rows.extend(self.detections.iter().zip(1..).map(|(found, number)| {
                let [x, y, w, h] = found.box_in_image.to_xywh();
                [
                    number.to_string(),
                    self.model.spec.class_name(found.label),
                    format!("{:.3}", found.score),
                    format!("{x:.1}, {y:.1}, {w:.1}, {h:.1}"),
                ]
            }));
            let sides = [Side::Right, Side::Left, Side::Right, Side::Left];
            text += &table(rows, &sides, width);
            text.push('\n');
        }
        text += &self.headline();
        text.push('\n');
        let mut rows = vec![["layer", "largest", "in the box"].map(String::from)];
        rows.extend(explanation.cams.iter().map(|cam| {
            let share = self.share_inside(cam);
            [
                cam.layer.clone(),
                format!("{:.2e}", cam.largest()),
                share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share)),
            ]
        }));
        let sides = [Side::Left, Side::Right, Side::Right];
        text += &table(rows, &sides, width);
        if explanation.units.is_empty() {
            return text + "\nno gates: the network has no SE units\n";
        }
        if self.measured.iter().all(Vec::is_empty) {
            return text + "\nno gate changes the score, to first order\n";
        }
        let head = [
            "block", "channel", "gate", "neutral", "effect", "measured", "removed",
        ];
        let mut rows = vec![head.map(String::from)];
        rows.extend(self.measured.iter().flatten().map(|row| {
            let found = &row.found;
            [
                explanation.units[found.unit].block.name.clone(),
                found.channel.to_string(),
                format!("{:.3}", found.gate),
                format!("{:.3}", found.neutral),
                format!("{:+.2e}", found.effect),
                format!("{:+.2e}", row.effect),
                format!("{:+.2e}", row.removal),
            ]
        }));
        let mut sides = [Side::Right; 7];
        sides[0] = Side::Left;
        text.push('\n');
        text += &table(rows, &sides, width);
        text += &format!(
            "neutral: {}\nmeasured, removed: what the score loses with the neutral gate, and with 0\n",
            self.neutral()
        );
        if let Some(score) = self.without {
            let channels = self.args.without.join(", ");
            text += &format!("score without {channels}: {score:.4}\n");
        }
        text
    }

    /// Returns the line with the score.
    fn headline(&self) -> String {
        let explanation = &self.explanation;
        let name = self.model.spec.class_name(explanation.label);
        let score = explanation.score;
        match (&explanation.pooled_from, explanation.detection) {
            (Some(level), Some(_)) => format!(
                "box {}: {name} {score:.4}, pooled from {level}",
                self.args.position.unwrap_or(1)
            ),
            _ => format!("{name} {score:.4}"),
        }
    }
}

/// Formats a table of fixed columns.
fn table<const N: usize>(rows: Vec<[String; N]>, sides: &[Side; N], width: usize) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    fitted(&rows, sides, width)
}
