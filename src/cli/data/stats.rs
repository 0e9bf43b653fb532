//! `sedet data stats`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::anchors::AnchorCoverage;
use super::print_kind;
use crate::cli::progress::while_decoding;
use crate::cli::terminal::{continued, fitted, hanging, width};
use crate::cli::{check_data_dir, check_on_bad_image, on_bad_image, print_out, status};
use sedet_core::render::plots::{Bars, save_bars};
use sedet_data::annotations::layout::Split;
use sedet_data::atomic::write_atomically;
use sedet_data::csv::to_csv;
use sedet_data::curation::statistics::{Histogram, Statistics};
use sedet_data::datasets::registry::DatasetName;
use sedet_data::directory::create_directory;
use sedet_data::eval::table::Side;
use sedet_data::images::OnBadImage;
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet data stats photos/
  sedet data stats photos/ --split val --output statistics/";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatsArgs {
    /// Dataset: shapes, blood-cells, coco, or a directory with box annotations
    dataset: String,
    /// Decode all images; stop at unreadable ones, or skip them [default: images are not decoded]
    #[arg(long, value_parser = on_bad_image())]
    on_bad_image: Option<OnBadImage>,
    /// Directory of the named datasets [default: $SEDET_DATA]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Split: train, val or test
    #[arg(long, default_value_t = Split::Train)]
    split: Split,
    /// Recipe whose anchors are compared with the boxes [default: depends on the dataset]
    #[arg(long, value_name = "RECIPE")]
    config: Option<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Output directory for statistics.json, .csv, .png and .svg
    #[arg(long)]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &StatsArgs) -> anyhow::Result<ExitCode> {
    check_data_dir(&args.dataset, args.data_dir.as_deref())?;
    check_on_bad_image(&args.dataset, args.on_bad_image)?;
    let dataset = DatasetName::parse(&args.dataset)?;
    print_kind(&args.dataset, &dataset, args.data_dir.as_deref())?;
    let (split, data_dir) = (args.split, args.data_dir.as_deref());
    let opened = match args.on_bad_image {
        Some(on_bad_image) => while_decoding(|progress| {
            dataset.open_decoded(split, data_dir, on_bad_image, progress)
        })?,
        None => dataset.open_whole(split, data_dir)?,
    };
    for note in opened.dataset.notes() {
        let line = format!("{}: {note}", args.dataset);
        status!("{}", continued(&line, width()));
    }
    let store = opened.dataset.store();
    let statistics = Statistics::of(store);
    let anchors = AnchorCoverage::of(store, args.config.as_deref(), &dataset)?;
    let report = json!({
        "dataset": args.dataset,
        "split": args.split,
        "statistics": statistics,
        "anchors": anchors,
    });
    if let Some(output) = &args.output {
        write_files(args, output, &statistics, &report)?;
    }
    if args.json {
        print_out(&serde_json::to_string_pretty(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = width();
    print_out(&text(&statistics, width))?;
    if let Some(anchors) = anchors {
        print_out(&hanging("", &anchors.line(), width))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_files(
    args: &StatsArgs,
    output: &std::path::Path,
    statistics: &Statistics,
    report: &Value,
) -> anyhow::Result<()> {
    create_directory(output).with_context(|| output.display().to_string())?;
    for (name, text) in [
        ("statistics.json", format!("{report:#}\n")),
        ("statistics.csv", to_csv(rows(statistics))),
    ] {
        let path = output.join(name);
        write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .with_context(|| path.display().to_string())?;
    }
    let title = format!("{} ({})", args.dataset, args.split);
    for name in ["statistics.png", "statistics.svg"] {
        save_bars(&title, &charts(statistics), &output.join(name))?;
    }
    status!(
        "wrote statistics.json, .csv, .png and .svg to {}",
        output.display()
    );
    Ok(())
}

/// Returns each histogram with its name, and whether its values are integers.
fn histograms(statistics: &Statistics) -> [(&'static str, &Histogram, bool); 5] {
    [
        ("boxes per image", &statistics.boxes_per_image, true),
        ("box side (pixels)", &statistics.box_sides, false),
        ("width / height", &statistics.box_aspects, false),
        ("share of the image", &statistics.box_shares, false),
        ("longer side (pixels)", &statistics.image_sides, false),
    ]
}

/// Returns the classes, those with most boxes first.
fn classes(statistics: &Statistics) -> Vec<&sedet_data::curation::statistics::ClassCount> {
    let mut classes: Vec<_> = statistics.classes.iter().collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.boxes));
    classes
}

fn text(statistics: &Statistics, width: usize) -> String {
    let contents = format!(
        "{} ({} empty), {}, {}, {}",
        count(statistics.images, "image"),
        statistics.empty_images,
        count(statistics.boxes, "box"),
        count(statistics.crowd_regions, "crowd region"),
        count(statistics.classes.len(), "class"),
    );
    let mut text = hanging("", &contents, width) + "\n";
    use Side::{Left, Right};
    let share =
        |count: usize, of: usize| format!("{:.1} %", 100.0 * count as f64 / of.max(1) as f64);
    let mut table = vec![
        ["class", "id", "boxes", "share", "images", "crowd regions"]
            .map(String::from)
            .to_vec(),
    ];
    table.extend(classes(statistics).into_iter().map(|class| {
        vec![
            class.name.clone(),
            class.id.to_string(),
            class.boxes.to_string(),
            share(class.boxes, statistics.boxes),
            class.images.to_string(),
            class.crowd_regions.to_string(),
        ]
    }));
    text += &fitted(&table, &[Left, Right, Right, Right, Right, Right], width);
    let sizes = statistics.sizes;
    let mut table = vec![
        ["size", "area", "boxes", "share"]
            .map(String::from)
            .to_vec(),
    ];
    for (name, area, count) in [
        ("small", "below 32x32", sizes.small),
        ("medium", "to 96x96", sizes.medium),
        ("large", "from 96x96 on", sizes.large),
    ] {
        let cells = [
            name.to_owned(),
            area.to_owned(),
            count.to_string(),
            share(count, statistics.boxes),
        ];
        table.push(cells.to_vec());
    }
    text += "\n";
    text += &fitted(&table, &[Left, Left, Right, Right], width);
    // The other columns have up to 50.
    let longest = width.saturating_sub(50).clamp(5, 30);
    for (name, histogram, whole) in histograms(statistics) {
        let all = histogram.counts.iter().sum();
        let most = histogram.counts.iter().copied().max().unwrap_or(0).max(1);
        let what = match name {
            "boxes per image" | "longer side (pixels)" => "images",
            _ => "boxes",
        };
        let mut table = vec![vec![
            name.to_owned(),
            what.to_owned(),
            "share".to_owned(),
            String::new(),
        ]];
        for (label, count) in histogram.labels(whole).into_iter().zip(&histogram.counts) {
            if *count > 0 {
                let bar = "█".repeat((count * longest).div_ceil(most));
                table.push(vec![label, count.to_string(), share(*count, all), bar]);
            }
        }
        text += "\n";
        text += &fitted(&table, &[Right, Right, Right, Left], width);
    }
    text
}

/// Returns all counts as rows `what, of, count`.
fn rows(statistics: &Statistics) -> Vec<Vec<String>> {
    let mut rows = vec![["what", "of", "count"].map(String::from).to_vec()];
    let mut add = |what: &str, of: &str, count: usize| {
        rows.push(vec![what.to_owned(), of.to_owned(), count.to_string()]);
    };
    for (what, count) in [
        ("images", statistics.images),
        ("empty images", statistics.empty_images),
        ("boxes", statistics.boxes),
        ("crowd regions", statistics.crowd_regions),
    ] {
        add(what, "all", count);
    }
    for class in &statistics.classes {
        add("boxes of class", &class.name, class.boxes);
        add("images of class", &class.name, class.images);
    }
    let sizes = statistics.sizes;
    for (size, count) in [
        ("small", sizes.small),
        ("medium", sizes.medium),
        ("large", sizes.large),
    ] {
        add("boxes of size", size, count);
    }
    for (name, histogram, whole) in histograms(statistics) {
        for (label, count) in histogram.labels(whole).iter().zip(&histogram.counts) {
            add(name, label, *count);
        }
    }
    rows
}

fn charts(statistics: &Statistics) -> Vec<Bars> {
    /// More names would not be legible.
    const SHOWN: usize = 16;
    let classes = classes(statistics);
    let mut bars: Vec<(String, usize)> = classes
        .iter()
        .take(SHOWN)
        .map(|class| (class.name.clone(), class.boxes))
        .collect();
    let rest: usize = classes.iter().skip(SHOWN).map(|class| class.boxes).sum();
    if classes.len() > SHOWN {
        bars.push((format!("{} others", classes.len() - SHOWN), rest));
    }
    let mut charts = vec![Bars {
        title: "boxes of each class".into(),
        bars,
    }];
    charts.extend(
        histograms(statistics)
            .into_iter()
            .map(|(name, histogram, whole)| {
                let labels = histogram.labels(whole).into_iter();
                let bars: Vec<(String, usize)> =
                    labels.zip(histogram.counts.iter().copied()).collect();
                let is_filled = |(_, count): &(String, usize)| *count > 0;
                // The empty bins at both ends are cut.
                let first = bars.iter().position(is_filled).unwrap_or(0);
                let end = bars.iter().rposition(is_filled).map_or(0, |last| last + 1);
                Bars {
                    title: name.to_owned(),
                    bars: bars[first.min(end)..end].to_vec(),
                }
            }),
    );
    charts
}
