//! Trains a detector on a directory with COCO annotations and evaluates it.
//!
//! ```console
//! $ cargo run --release --example train_coco_directory -- photos/
//! ```
//! The directory contains `train.json` and `val.json` with their images, or another common layout. Without an argument
//! the program generates a few scenes and trains a tiny model for some steps, to show the calls.

use std::error::Error;
use std::path::PathBuf;

use sedet::shapes::{ShapesConfig, write_dataset};
use sedet::train::observer::{Notice, Observer};
use sedet::train::progress::{EpochEvaluation, StepReport};
use sedet::train::{RecipeOptions, Start, TrainRequest, run};
use sedet::{DeviceChoice, resolve_device};

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let mut recipe = RecipeOptions {
        recipe: Some("small".to_string()),
        ..RecipeOptions::default()
    };
    let (dataset, output) = match std::env::args().nth(1) {
        Some(directory) => (directory, PathBuf::from("runs/example")),
        None => {
            let scenes = temporary.path().join("scenes");
            let config = ShapesConfig {
                train_images: 8,
                val_images: 2,
                long_side: 96,
                ..ShapesConfig::default()
            };
            write_dataset(&config, &scenes, &mut |_, _| ())?;
            // Settings have the keys of the recipes in `configs/detection/`.
            let settings = [
                "model.width=0.0625",
                "input.min_size=64",
                "input.max_size=96",
                "train.log_every=1",
            ];
            recipe.settings = settings.map(String::from).to_vec();
            recipe.epochs = Some(1);
            (scenes.display().to_string(), temporary.path().join("run"))
        }
    };

    let request = TrainRequest {
        start: Start::New {
            dataset,
            seed: Some(0),
            output,
        },
        recipe,
        device: resolve_device(DeviceChoice::Auto)?,
        // Setting this flag from another thread stops the run after the current step; `Start::Resume` continues it.
        ranks: sedet::distributed::Ranks::alone(),
        stop: Default::default(),
    };
    let report = run(&request, &mut Printer)?;

    // None if the run was stopped.
    if let Some(result) = report.result {
        println!("{}", result.evaluation.to_text());
        println!("checkpoint: {}", report.run.best_checkpoint().display());
    }
    Ok(())
}

/// Prints the progress of a run. The library itself prints nothing.
struct Printer;

impl Observer for Printer {
    fn step(&mut self, report: &StepReport<'_>) {
        for (name, loss) in report.losses {
            print!("{name} {loss:.3}  ");
        }
        println!("(step {} of {})", report.iteration, report.iterations);
    }

    fn evaluating(&mut self, epoch: usize) {
        println!("evaluating epoch {epoch}");
    }

    fn evaluated(&mut self, epoch: usize, evaluation: &EpochEvaluation, is_best: bool) {
        let best = if is_best { " (best)" } else { "" };
        println!("epoch {epoch}: score {:.3}{best}", evaluation.score);
    }

    fn notice(&mut self, notice: &Notice) {
        println!("{notice}");
    }
}
