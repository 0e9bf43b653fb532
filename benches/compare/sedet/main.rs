//! sedet's side of `benches/compare`: one measuring process, one JSON line.
//!
//! `python benches/compare` builds and calls it, alternating with the reference on the same weights
//! and inputs. By hand:
//!
//! ```console
//! $ cargo bench --bench compare -- --kind detect --weights F --inputs F --warmup 1 --iterations 5
//! ```
//!
//! Kinds: `classify`, `detect`, `predict`, `train`, `recipe`, `load`, `evaluate`; `idle` does nothing, `scenes` writes
//! the images that `load` and `recipe` read, and `export` the ONNX file of other runtimes. Threads are
//! rayon's: `RAYON_NUM_THREADS`.

mod arguments;
mod evaluation;
mod loading;
mod measure;
mod network;
mod recipe;
mod tensors;
mod training;

use anyhow::{Context as _, bail};
use sedet::shapes::{ShapesConfig, write_dataset};
use serde_json::{Map, Value, json};

use arguments::Arguments;
use sedet::memory::KeepLarge;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: KeepLarge = KeepLarge::new();

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let found = match arguments.kind.as_str() {
        "idle" => json!({ "peak_rss_mb": measure::peak_rss_mb()? }),
        "scenes" => return write_scenes(&arguments),
        "export" => return network::export(&arguments),
        "classify" => network::classify(&arguments)?,
        "detect" => network::detect(&arguments)?,
        "predict" => network::predict(&arguments)?,
        "train" => training::train(&arguments)?,
        "recipe" => recipe::steps(&arguments)?,
        "load" => loading::epochs(&arguments)?,
        "evaluate" => evaluation::evaluations(&arguments)?,
        other => bail!("unknown kind '{other}'"),
    };
    let mut line = Map::from_iter([
        ("case".to_string(), json!(arguments.case)),
        ("threads".to_string(), json!(rayon::current_num_threads())),
    ]);
    if let Value::Object(found) = found {
        line.extend(found);
    }
    println!("{}", Value::Object(line));
    Ok(())
}

fn write_scenes(arguments: &Arguments) -> anyhow::Result<()> {
    let config = ShapesConfig {
        seed: arguments.seed,
        train_images: arguments.images,
        val_images: 1,
        long_side: arguments.side,
    };
    write_dataset(&config, arguments.data()?, &mut |_, _| {}).context("scenes")
}
