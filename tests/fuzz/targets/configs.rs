//! Recipes of both tasks, including the networks that they describe.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sedet::config::{ClassificationConfig, DetectionConfig, Recipe};

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let path = dir.path().join("recipe.toml");
    std::fs::write(&path, bytes).expect("room in memory");
    let name = path.to_str().expect("a plain name");
    if let Ok(config) = DetectionConfig::load(name, &[]) {
        let again = config.to_toml().expect("what was read can be written");
        std::fs::write(&path, again).expect("room in memory");
        assert_eq!(DetectionConfig::load(name, &[]).expect("and read"), config);
        let _ = config.detector(3, false);
        let _ = config.preprocess().validate();
    }
    if let Ok(config) = ClassificationConfig::load(name, &[]) {
        let _ = config.classifier(10);
        let _ = config.preprocess();
    }
});
