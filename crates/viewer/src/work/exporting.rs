//! What is seen as files.

use std::path::{Path, PathBuf};

use super::{Mailbox, Message};
use crate::state::{BoxRef, CurrentBoxes, Curves, Export, MapSide, Side, ViewerState};
use sedet_core::excitation::{Selection, selection};
use sedet_core::model::gates_csv;
use sedet_core::render::boxes::save_boxes;
use sedet_core::render::maps::{Tile, grid, overlay, tile_sized};
use sedet_core::render::{
    DrawnBox, Series, TrainingCurves, save_class_activations, save_class_deviations, save_gates,
    save_image, save_mean_gates, save_precision_recall, save_training_curves,
};
use sedet_data::atomic::write_atomically;

/// Write what the state shows, on a thread of its own; a message says where it is.
pub(super) fn export(export: Export, state: &ViewerState, mailbox: Mailbox) {
    let busy = mailbox.begin();
    // Images and statistics are shared, not copied.
    let state = state.clone();
    std::thread::spawn(move || {
        let directory = state.settings.export_directory.clone();
        let done = std::fs::create_dir_all(&directory)
            .map_err(|e| format!("{}: {e}", directory.display()))
            .and_then(|()| write(export, &state, &directory));
        mailbox.send(match done {
            Ok(files) => {
                let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
                Message::Done(format!("wrote {}", names.join(", ")))
            }
            Err(error) => Message::Failed(error),
        });
        drop(busy);
    });
}

fn write(export: Export, state: &ViewerState, directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut out = Written {
        directory,
        files: Vec::new(),
    };
    let stem = image_stem(state);
    match export {
        Export::ImagePng | Export::ImageSvg => {
            let extension = match export {
                Export::ImagePng => "png",
                _ => "svg",
            };
            let (_, image) = state.pixels[0].as_ref().ok_or("no image is open")?;
            let boxes = drawn_boxes(state, &state.boxes(Side::A));
            out.with(&format!("{stem}.{extension}"), |path| {
                save_boxes(image, &boxes, path).map_err(|e| e.to_string())
            })?;
        }
        Export::BoxesCsv => {
            out.text(
                &format!("{stem}-boxes.csv"),
                &state.boxes(Side::A).to_csv(&state.classes),
            )?;
        }
        Export::GatesCsv => {
            let looked = state.looked[0]
                .as_ref()
                .ok_or("no network has looked yet")?;
            out.text(
                &format!("{stem}-gates.csv"),
                &gates_csv(&looked.gate_rows()),
            )?;
        }
        Export::GatesFigure => {
            let looked = state.looked[0]
                .as_ref()
                .ok_or("no network has looked yet")?;
            let rows = looked.gate_rows();
            for extension in ["png", "svg"] {
                out.with(&format!("{stem}-gates.{extension}"), |path| {
                    save_gates(&rows, path).map_err(|e| e.to_string())
                })?;
            }
        }
        Export::ChannelGrid => {
            let picture = channel_grid(state)?;
            let block = &state.looked[0]
                .as_ref()
                .ok_or("no network has looked yet")?
                .blocks;
            let name = block.get(state.gates.block).map_or("", |b| b.name.as_str());
            out.with(&format!("{stem}-channels-{name}.png"), |path| {
                save_image(&picture, path).map_err(|e| e.to_string())
            })?;
        }
        Export::Statistics => write_statistics(state, &mut out)?,
        Export::DataCsv => {
            for (number, chart) in state.charts.iter().enumerate() {
                let name = chart.title.split(' ').next().unwrap_or("chart");
                out.text(&format!("data-{}-{name}.csv", number + 1), &chart.to_csv())?;
            }
            if let Some(tally) = &state.tallies[0] {
                let names: Vec<String> = state.classes.iter().map(|c| c.name.clone()).collect();
                out.text("confusion.csv", &tally.to_csv(&names))?;
            }
        }
        Export::Metrics => {
            let evaluation = state.evaluation.as_ref().ok_or("measure first")?;
            out.text("metrics.json", &evaluation.to_json())?;
            if evaluation.curves.is_some() {
                for extension in ["png", "svg"] {
                    out.with(&format!("precision-recall.{extension}"), |path| {
                        save_precision_recall(evaluation, path).map_err(|e| e.to_string())
                    })?;
                }
            }
        }
        Export::Training => {
            let run = state.run.as_ref().ok_or("no run is open")?;
            out.text("training.csv", &run.to_csv())?;
            let curves = TrainingCurves {
                losses: series(&run.train, |name| name.contains("loss")),
                metrics: series(&run.eval, |name| !name.contains("loss")),
            };
            for extension in ["png", "svg"] {
                out.with(&format!("training.{extension}"), |path| {
                    save_training_curves(&curves, path).map_err(|e| e.to_string())
                })?;
            }
        }
        Export::ModelCsv => {
            let model = state.model.as_ref().ok_or("no network is open")?;
            out.text("model.csv", &model.to_csv())?;
        }
    }
    Ok(out.files)
}

/// Files of one export.
struct Written<'a> {
    directory: &'a Path,
    files: Vec<PathBuf>,
}

impl Written<'_> {
    fn with(
        &mut self,
        name: &str,
        save: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), String> {
        let path = self.directory.join(name);
        save(&path)?;
        self.files.push(path);
        Ok(())
    }

    fn text(&mut self, name: &str, text: &str) -> Result<(), String> {
        self.with(name, |path| {
            write_atomically(path, |out| out.write_all(text.as_bytes()))
                .map_err(|e| format!("{}: {e}", path.display()))
        })
    }
}

/// The name of the image without directories and extension.
fn image_stem(state: &ViewerState) -> String {
    let title = state.collection.as_ref().filter(|c| !c.is_empty());
    let title = title.map_or_else(String::new, |c| c.image_title(state.current));
    let stem = Path::new(&title).file_stem().unwrap_or_default();
    match stem.to_string_lossy() {
        stem if stem.is_empty() => "image".to_owned(),
        stem => stem.into_owned(),
    }
}

/// The boxes that the window shows, for [`draw_boxes`](sedet_core::render::draw_boxes).
fn drawn_boxes(state: &ViewerState, boxes: &CurrentBoxes) -> Vec<DrawnBox> {
    let filter = state.filter();
    let shown = state.shown_boxes(boxes).into_iter();
    shown
        .filter_map(|shown| {
            let (box_in_image, class, score, is_crowd) = match shown {
                BoxRef::Found(at) => {
                    let found = boxes.found.as_ref()?.get(at)?;
                    (found.box_in_image, found.class, Some(found.score), false)
                }
                // What was found stands there once, under its detection.
                BoxRef::Truth(at) => {
                    let truth = boxes.truth.get(at)?;
                    if boxes.matches.is_some() && !boxes.is_missed(at) && !truth.is_crowd {
                        return None;
                    }
                    (truth.box_in_image, truth.class, None, true)
                }
            };
            let label = match filter.show_labels {
                true => state.classes.name(class).to_owned(),
                false => String::new(),
            };
            Some(DrawnBox {
                box_in_image,
                label,
                class_index: class,
                score: score.filter(|_| filter.show_scores),
                dashed: is_crowd,
            })
        })
        .collect()
}

/// The channels of the grid over the image, before and after.
fn channel_grid(state: &ViewerState) -> Result<image::RgbImage, String> {
    let maps = state
        .maps
        .as_ref()
        .ok_or("choose a channel or the grid first")?;
    let (_, image) = state.pixels[0].as_ref().ok_or("no image is open")?;
    let looked = state.looked[0]
        .as_ref()
        .ok_or("no network has looked yet")?;
    let block = looked.blocks.get(maps.block).ok_or("no such block")?;
    let range = maps.range();
    let small = tile_sized(image);
    let seen = looked.seen.scale(
        small.width() as f32 / image.width() as f32,
        small.height() as f32 / image.height() as f32,
    );
    let tiles = maps.channels.iter().flat_map(|(channel, before, after)| {
        let gate = block.gates.get(*channel).copied().unwrap_or_default();
        [(MapSide::Before, before), (MapSide::After, after)].map(|(side, map)| {
            let side = match side {
                MapSide::Before => "before",
                MapSide::After => "after",
            };
            Tile {
                image: overlay(&small, map, seen, range, state.gates.opacity),
                caption: format!("{} channel {channel}, gate {gate:.3}, {side}", block.name),
            }
        })
    });
    Ok(grid(&tiles.collect::<Vec<_>>(), 2))
}

fn write_statistics(state: &ViewerState, out: &mut Written) -> Result<(), String> {
    let excitation = state.statistics.as_ref().ok_or("no statistics are open")?;
    let chosen = &state.statistics_choice;
    let blocks: Vec<_> = excitation.blocks.iter().map(|b| b.block.clone()).collect();
    let mut shown = sedet_core::excitation::blocks::default_blocks(&blocks);
    if !shown.contains(&chosen.block) {
        shown.push(chosen.block);
        shown.sort_unstable();
    }
    let classes = match chosen.classes.is_empty() {
        true => selection::default_classes(excitation.class_counts()),
        false => chosen.classes.clone(),
    };
    let selection = Selection {
        blocks: shown,
        classes,
        channels: chosen.channels,
    };
    for extension in ["png", "svg"] {
        if !selection.classes.is_empty() {
            out.with(&format!("class-activations.{extension}"), |path| {
                save_class_activations(excitation, &selection, path).map_err(|e| e.to_string())
            })?;
            out.with(&format!("class-standard deviations.{extension}"), |path| {
                save_class_deviations(excitation, &selection, path).map_err(|e| e.to_string())
            })?;
        }
        out.with(&format!("mean-gates.{extension}"), |path| {
            save_mean_gates(excitation, path).map_err(|e| e.to_string())
        })?;
    }
    out.text("statistics.csv", &excitation.to_csv())?;
    out.with("excitation.safetensors", |path| {
        excitation.save(path).map_err(|e| e.to_string())
    })
}

fn series(curves: &Curves, wanted: impl Fn(&str) -> bool) -> Vec<Series> {
    let curves = curves.iter().filter(|(name, _)| wanted(name));
    curves
        .map(|(name, points)| Series {
            name: name.clone(),
            points: points.iter().map(|[x, y]| (*x, *y)).collect(),
        })
        .collect()
}
