//! Records the gates of the SE units of a model for one image.
//!
//! ```console
//! $ cargo run --release --example record_gates -- photo.jpg model.safetensors
//! ```
//! Without arguments it uses a generated scene and the shipped checkpoint.

use std::error::Error;
use std::path::Path;

use sedet::nn::recording::Depth;
use sedet::render::save_gates;
use sedet::shapes::{ShapesConfig, generate_scene};
use sedet::{DeviceChoice, Model, Split, decode_image, resolve_device};

const CHECKPOINT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/assets/shapes-se-resnet18.safetensors"
);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let image = match arguments.next() {
        Some(path) => decode_image(Path::new(&path))?,
        None => generate_scene(&ShapesConfig::default(), Split::Val, 0).image,
    };
    let checkpoint = arguments.next().unwrap_or_else(|| CHECKPOINT.to_string());
    let device = resolve_device(DeviceChoice::Auto)?.device;
    let model = Model::load(checkpoint, &device)?;

    // One forward pass gives the prediction and the gates. `Depth::GatesAndFeatureMaps` also keeps the feature maps before
    // and after scaling, for `BlockRecording::channel`.
    let recording = model.record(&image, Depth::Gates)?;
    println!("{} detections", recording.prediction.detections().len());
    for block in &recording.blocks {
        let mean = block.gates.iter().sum::<f32>() / block.gates.len() as f32;
        println!(
            "{:<8} {:>4} channels, mean gate {mean:.3}, most active {:?}",
            block.block.name,
            block.gates.len(),
            block.most_active(3),
        );
    }

    // The same as a table for other programs, and as a figure.
    let directory = std::env::temp_dir();
    let csv = directory.join("sedet-gates.csv");
    std::fs::write(&csv, recording.gates_csv())?;
    let figure = directory.join("sedet-gates.png");
    save_gates(&recording.gate_rows(), &figure)?;
    println!("wrote {} and {}", csv.display(), figure.display());
    Ok(())
}
