//! All readers of weights: sedet checkpoints, PyTorch's three file formats, NumPy, safetensors, and
//! excitation files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sedet::excitation::Excitation;
use sedet::weights::checkpoint::Checkpoint;
use sedet::weights::load::load_weights;

fuzz_target!(|bytes: &[u8]| {
    let _ = Checkpoint::from_bytes(bytes, "fuzz.safetensors");
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let path = dir.path().join("fuzz.pth");
    std::fs::write(&path, bytes).expect("room in memory");
    let _ = load_weights(&path, None);
    let _ = Excitation::load(&path);
});
