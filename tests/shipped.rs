//! The checkpoints in `assets/` have the metrics of the table in that directory.

use crate::common::real_data;
use std::process::Command;

/// Returns the `AP` and `AP50` that `sedet eval` prints.
fn measured(checkpoint: &str, dataset: &str) -> (f64, f64) {
    let output = Command::new(env!("CARGO_BIN_EXE_sedet"))
        .args(["eval", "--json", "--device", "cpu", "--dataset", dataset])
        .arg("--checkpoint")
        .arg(format!(
            "{}/assets/{checkpoint}",
            env!("CARGO_MANIFEST_DIR")
        ))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    (json["AP"].as_f64().unwrap(), json["AP50"].as_f64().unwrap())
}

/// Other CPUs sum in another order, which can change single detections but not the table.
fn assert_near(found: (f64, f64), table: (f64, f64)) {
    let far = |a: f64, b: f64| (a - b).abs() > 0.003;
    assert!(
        !far(found.0, table.0) && !far(found.1, table.1),
        "{found:?} instead of {table:?}"
    );
}

#[test]
fn the_shapes_detector_has_its_published_ap_on_generated_scenes() {
    let found = measured("shapes-se-resnet18.safetensors", "shapes");
    assert_near(found, (0.666, 0.914));
}

#[test]
#[ignore = "needs SEDET_REAL_DATA"]
fn the_blood_cell_detector_has_its_ap_on_real_data() {
    let directory = real_data("bccd");
    let found = measured(
        "blood-cells-se-resnet18.safetensors",
        &directory.display().to_string(),
    );
    assert_near(found, (0.587, 0.911));
}
