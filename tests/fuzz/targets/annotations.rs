//! All readers of annotations and labels. The first byte selects the reader.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sedet::annotations::coco_directory::CocoFormat;
use sedet::annotations::format::{DatasetFiles, SplitFiles};
use sedet::annotations::{coco, voc, yolo};
use sedet::curation::check::{CheckOptions, Diagnostics, Kind, check_split};
use sedet::eval::{GroundTruth, evaluate, read_results};
use sedet::pickle::Pickle;

fuzz_target!(|data: &[u8]| {
    let Some((&reader, bytes)) = data.split_first() else {
        return;
    };
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let path = dir.path().join("instances_train.json");
    let written = || std::fs::write(&path, bytes).expect("room in memory");
    match reader % 9 {
        0 => {
            if let Ok(store) = coco::read_coco_from(bytes, Path::new("fuzz.json")) {
                let mut text = Vec::new();
                coco::write_coco_to(&store, &mut text).expect("a vector takes all");
                let again = coco::read_coco_from(text.as_slice(), Path::new("again.json"));
                assert_eq!(again.expect("what was written is read"), store);
            }
        }
        1 => {
            let _ = voc::parse(&String::from_utf8_lossy(bytes), Path::new("fuzz.xml"));
        }
        2 => {
            written();
            for line in String::from_utf8_lossy(bytes).lines() {
                let _ = yolo::parse_line(line, 3);
            }
        }
        3 => {
            written();
            let mut diagnostics = Diagnostics::default();
            let files = SplitFiles::of_file(&CocoFormat, &path, None);
            let options = CheckOptions { images: false };
            let checked = check_split("train", &files, options, &mut diagnostics, &|_| {});
            // Problems without an automatic fix are unchanged and reported.
            if let Ok(checked) = checked
                && checked.sound_part().is_ok()
                && diagnostics.of(Kind::ListMissing).is_none()
                && diagnostics.of(Kind::BoxesAreFractions).is_none()
                && diagnostics.of(Kind::BoxesAreUnclearFractions).is_none()
            {
                let fixed = dir.path().join("fixed.json");
                if checked.write_fixed(&fixed).is_ok() {
                    coco::read_coco(&fixed).expect("a fixed file is sound");
                }
            }
        }
        4 => {
            written();
            if let Ok(truth) = GroundTruth::from_file(&path) {
                let _ = evaluate(&truth, &[]);
            }
        }
        5 => {
            written();
            let _ = read_results(&path);
        }
        6 => {
            // Found and read as a dataset: CSV, YAML or JSON, by the second byte.
            let extension = ["csv", "yaml", "json", "data"]
                [usize::from(bytes.first().copied().unwrap_or(0) % 4)];
            let path = dir.path().join("train").with_extension(extension);
            std::fs::write(&path, bytes.get(1..).unwrap_or_default()).expect("room in memory");
            let _ = DatasetFiles::find(&path).and_then(|files| files.read());
            let _ = DatasetFiles::find(dir.path());
        }
        7 => {
            // Class names, labels and the text of another program, in any encoding.
            let at = bytes.iter().position(|byte| *byte == b'|');
            let (names, labels) = bytes.split_at(at.unwrap_or(bytes.len()));
            for (name, content) in [
                ("a.png", &b""[..]),
                ("classes.txt", names),
                ("a.txt", labels.get(1..).unwrap_or_default()),
                ("a.json", labels),
            ] {
                std::fs::write(dir.path().join(name), content).expect("room in memory");
            }
            let _ = DatasetFiles::find(dir.path()).and_then(|files| files.read());
        }
        _ => {
            let _ = Pickle::read(bytes, bytes.len() as u64);
        }
    }
});
