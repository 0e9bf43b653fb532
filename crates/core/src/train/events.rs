//! The logs of a run: `events.jsonl`, and the same scalars for TensorBoard.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The log of a run in its directory, one JSON object per line.
pub const EVENTS: &str = "events.jsonl";

/// The moment of an [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// After an optimizer step.
    Train,
    /// After an evaluation of the validation split.
    Eval,
}

impl EventKind {
    /// Returns the name in the logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Eval => "eval",
        }
    }
}

/// A line of [`EVENTS`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The moment.
    #[serde(rename = "event")]
    pub kind: EventKind,
    /// The number of optimizer steps.
    pub iteration: usize,
    /// Seconds since 1970.
    pub time: f64,
    /// The values by name; none for a value that is not finite.
    #[serde(flatten)]
    pub values: BTreeMap<String, Option<f64>>,
}

/// Both logs of a run.
#[derive(Debug)]
pub(crate) struct EventLog {
    jsonl: BufWriter<File>,
    tensorboard: TensorBoardWriter,
}

impl EventLog {
    /// Opens the logs of a run directory. On resuming at `iteration`, lines of work that will be
    /// repeated after a crash are removed first, so that none is duplicated: those of later
    /// iterations, and the evaluation after this iteration unless it is already `evaluated`.
    ///
    /// # Errors
    /// The system error.
    pub fn open(directory: &Path, iteration: usize, evaluated: bool) -> io::Result<Self> {
        let path = directory.join(EVENTS);
        let resumed = path.exists();
        if resumed {
            let kept: String = fs::read_to_string(&path)?
                .lines()
                .filter(|line| {
                    let Ok(event) = serde_json::from_str::<Event>(line) else {
                        return false; // truncated by a crash
                    };
                    match event.kind {
                        EventKind::Eval if !evaluated => event.iteration < iteration,
                        EventKind::Eval | EventKind::Train => event.iteration <= iteration,
                    }
                })
                .map(|line| format!("{line}\n"))
                .collect();
            sedet_data::atomic::write_atomically(&path, |out| out.write_all(kept.as_bytes()))?;
        }
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        let mut tensorboard = TensorBoardWriter::create(directory)?;
        if resumed {
            tensorboard.restart(iteration)?;
        }
        Ok(Self {
            jsonl: BufWriter::new(file),
            tensorboard,
        })
    }

    /// Writes one event: a kind, the iteration, and numbers by name.
    ///
    /// # Errors
    /// The system error.
    pub fn write(
        &mut self,
        kind: EventKind,
        iteration: usize,
        values: &[(String, f64)],
    ) -> io::Result<()> {
        for (name, value) in values {
            self.tensorboard
                .scalar(&format!("{}/{name}", kind.name()), iteration, *value)?;
        }
        let finite = |value: f64| value.is_finite().then_some(value);
        let event = Event {
            kind,
            iteration,
            time: seconds_since_1970(),
            values: values
                .iter()
                .map(|(name, value)| (name.clone(), finite(*value)))
                .collect(),
        };
        writeln!(self.jsonl, "{}", serde_json::to_string(&event)?)?;
        self.jsonl.flush()?;
        self.tensorboard.out.flush()
    }
}

/// Returns the name of a new file for TensorBoard, which reads all files of a directory with
/// `tfevents` in their name, in the order of their names. The name contains the current time, or
/// one second after the latest existing file if the clock was set back.
fn file_name(directory: &Path, now: u64) -> io::Result<String> {
    const START: &str = "events.out.tfevents.";
    const END: &str = ".sedet";
    let mut seconds = now;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let earlier = name.to_str().and_then(|name| {
            let digits = name.strip_prefix(START)?.strip_suffix(END)?;
            digits.parse::<u64>().ok()
        });
        if let Some(earlier) = earlier {
            seconds = seconds.max(earlier.saturating_add(1));
        }
    }
    Ok(format!("{START}{seconds:010}{END}"))
}

fn seconds_since_1970() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

/// Scalars in TensorBoard's file format: TFRecord frames around `Event` messages, encoded without a
/// protobuf library.
#[derive(Debug)]
struct TensorBoardWriter {
    out: BufWriter<File>,
}

impl TensorBoardWriter {
    fn create(directory: &Path) -> io::Result<Self> {
        let seconds = seconds_since_1970();
        let name = file_name(directory, seconds as u64)?;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(directory.join(name))?;
        let mut writer = Self {
            out: BufWriter::new(file),
        };
        let mut event = double_field(1, seconds);
        event.extend(bytes_field(3, b"brain.Event:2"));
        writer.record(&event)?;
        Ok(writer)
    }

    /// Makes TensorBoard discard the values of earlier files from `step` on.
    fn restart(&mut self, step: usize) -> io::Result<()> {
        let mut event = double_field(1, seconds_since_1970());
        event.push(0x10); // field 2 (step), varint
        event.extend(varint(step as u64 + 1));
        event.extend(bytes_field(7, &[0x08, 1])); // session_log { status: START }
        self.record(&event)
    }

    fn scalar(&mut self, tag: &str, step: usize, value: f64) -> io::Result<()> {
        let mut entry = bytes_field(1, tag.as_bytes());
        entry.push(0x15); // field 2 (simple_value), 32 bits
        entry.extend((value as f32).to_le_bytes());
        let summary = bytes_field(1, &entry);
        let mut event = double_field(1, seconds_since_1970());
        event.push(0x10); // field 2 (step), varint
        event.extend(varint(step as u64));
        event.extend(bytes_field(5, &summary));
        self.record(&event)
    }

    /// Writes length, its checksum, data, its checksum.
    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        self.out.write_all(&length)?;
        self.out.write_all(&masked_crc(&length))?;
        self.out.write_all(data)?;
        self.out.write_all(&masked_crc(data))
    }
}

fn masked_crc(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xA282_EAD8)
        .to_le_bytes()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn bytes_field(field: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    bytes.extend(varint(data.len() as u64));
    bytes.extend_from_slice(data);
    bytes
}

fn double_field(field: u8, value: f64) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 1];
    bytes.extend(value.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(directory: &Path) -> Vec<Event> {
        fs::read_to_string(directory.join(EVENTS))
            .unwrap()
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }

    #[test]
    fn an_evaluation_that_will_be_made_again_and_half_a_line_are_taken_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = EventLog::open(dir.path(), 0, false).unwrap();
        let (train, eval) = (EventKind::Train, EventKind::Eval);
        for (kind, iteration) in [(train, 1), (eval, 1), (train, 2), (eval, 2)] {
            let not_a_number = [("loss".into(), f64::NAN)];
            log.write(kind, iteration, &not_a_number).unwrap();
        }
        log.jsonl.write_all(b"{\"event\":\"tra").unwrap();
        drop(log);
        EventLog::open(dir.path(), 2, true).unwrap();
        assert_eq!(lines(dir.path()).len(), 4);
        EventLog::open(dir.path(), 2, false).unwrap();
        let left = lines(dir.path());
        assert_eq!(left.len(), 3);
        assert_eq!(left[2].kind, train);
        assert_eq!(left[2].values["loss"], None);
    }

    #[test]
    fn resuming_takes_out_what_came_after_the_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = EventLog::open(dir.path(), 0, false).unwrap();
        for iteration in [1, 2, 3] {
            log.write(EventKind::Train, iteration, &[("loss".into(), 0.5)])
                .unwrap();
        }
        drop(log);
        EventLog::open(dir.path(), 2, true).unwrap();
        let left: Vec<usize> = lines(dir.path()).iter().map(|e| e.iteration).collect();
        assert_eq!(left, [1, 2]);
    }

    #[test]
    fn a_line_is_one_flat_json_object() {
        let event = Event {
            kind: EventKind::Eval,
            iteration: 30,
            time: 1.5,
            values: [("AP".to_string(), Some(0.25)), ("APl".to_string(), None)].into(),
        };
        let line = r#"{"event":"eval","iteration":30,"time":1.5,"AP":0.25,"APl":null}"#;
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
        assert_eq!(serde_json::from_str::<Event>(line).unwrap(), event);
    }

    #[test]
    fn a_clock_that_was_put_back_does_not_mix_up_the_order() {
        let dir = tempfile::tempdir().unwrap();
        let first = file_name(dir.path(), 2_000).unwrap();
        fs::write(dir.path().join(&first), "").unwrap();
        let later = file_name(dir.path(), 1_000).unwrap();
        assert!(later > first, "{later}");
        // Two sessions in one second have separate files.
        assert!(file_name(dir.path(), 2_000).unwrap() > first);
        assert_eq!(
            file_name(dir.path(), 3_000).unwrap(),
            "events.out.tfevents.0000003000.sedet"
        );
    }

    #[test]
    fn tensorboard_frames_have_the_right_lengths_and_checksums() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = EventLog::open(dir.path(), 0, false).unwrap();
        log.write(EventKind::Train, 300, &[("loss".into(), 0.25)])
            .unwrap();
        let path = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| p.to_string_lossy().contains("tfevents"))
            .unwrap();
        let bytes = fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut records = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked_crc(&rest[..8]));
            let data = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked_crc(data));
            records.push(data.to_vec());
            rest = &rest[16 + length..];
        }
        assert_eq!(records.len(), 2);
        // Step 300 as a varint behind the 9 bytes of the time, and the tag in plain text.
        assert_eq!(records[1][9..12], [0x10, 0xAC, 0x02]);
        assert!(records[1].windows(10).any(|w| w == b"train/loss"));
    }
}
