//! Detects the objects in one image and writes an annotated copy.
//!
//! ```console
//! $ cargo run --release --example detect_image -- photo.jpg model.safetensors
//! ```
//! Without arguments it uses a generated scene and the shipped checkpoint.

use std::error::Error;
use std::path::Path;

use sedet::render::{DrawnBox, save_boxes};
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

    // The fastest device that works. `Model::load` also reads files from torchvision, timm, detectron2 and others.
    let device = resolve_device(DeviceChoice::Auto)?.device;
    let model = Model::load(checkpoint, &device)?;

    // Detections are sorted by score. Boxes are in pixels of the image, whatever the input size of the model is.
    let mut detections = model.detect(&image)?;
    detections.retain(|detection| detection.score >= 0.5);
    for detection in &detections {
        let [x, y, width, height] = detection.box_in_image.to_xywh();
        println!(
            "{:<10} {:.2}  {x:.0}, {y:.0}, {width:.0} x {height:.0}",
            model.spec.class_name(detection.label),
            detection.score,
        );
    }

    let boxes: Vec<DrawnBox> = detections
        .iter()
        .map(|detection| DrawnBox {
            box_in_image: detection.box_in_image,
            label: model.spec.class_name(detection.label),
            class_index: detection.label,
            score: Some(detection.score),
            dashed: false,
        })
        .collect();
    let output = std::env::temp_dir().join("sedet-detections.png");
    save_boxes(&image, &boxes, &output)?;
    println!("wrote {}", output.display());
    Ok(())
}
