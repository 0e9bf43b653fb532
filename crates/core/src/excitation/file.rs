//! Gate statistics as a safetensors file.
//!
//! The header entry [`KEY`] is JSON: format, origin, gate, range of the histogram, thresholds and
//! blocks. Each block has tensors under its name (`SE_2_3.mean`); `docs/excitation.md` lists them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, View};
use safetensors::{SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};

use super::blocks::SeBlock;
use super::statistics::{
    BINS, BlockStatistics, ChannelStatistics, EXTREME_IMAGES, Excitation, Origin, Thresholds,
    gate_range,
};
use sedet_data::atomic::replace_atomically;
use sedet_nn::nn::se::{Gate, GateFunction, SeStart};

/// The header entry with the JSON description.
pub const KEY: &str = "sedet-excitation";
/// The version of the format.
const FORMAT: u32 = 2;
/// Fills up lists of fewer than [`EXTREME_IMAGES`] images.
const NO_IMAGE: u32 = u32::MAX;

/// An error while reading or writing an excitation file.
#[derive(Debug, thiserror::Error)]
pub enum ExcitationFileError {
    /// The file cannot be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is damaged or not an excitation file.
    #[error("{}: not an excitation file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    origin: Origin,
    gate: Gate,
    /// Omitted for the paper's, so that files of networks without grafted units stay the same.
    #[serde(default, skip_serializing_if = "is_of_the_paper")]
    start: SeStart,
    histogram_range: [f32; 2],
    thresholds: Thresholds,
    blocks: Vec<SeBlock>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes references
fn is_of_the_paper(start: &SeStart) -> bool {
    *start == SeStart::Paper
}

/// A tensor to be written.
struct Stored<'a> {
    shape: Vec<usize>,
    values: Values<'a>,
}

enum Values<'a> {
    /// Concatenated parts.
    Floats(Vec<&'a [f32]>),
    Counts(&'a [u32]),
    /// Lists for each channel, filled up with [`NO_IMAGE`].
    Images(&'a [Vec<u32>]),
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::Floats(_) => Dtype::F32,
            Values::Counts(_) | Values::Images(_) => Dtype::U32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match &self.values {
            Values::Floats(parts) => parts
                .iter()
                .flat_map(|part| part.iter().flat_map(|v| v.to_le_bytes()))
                .collect(),
            Values::Counts(counts) => counts.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::Images(channels) => {
                let padded = channels.iter().flat_map(|images| {
                    let rest = std::iter::repeat(&NO_IMAGE);
                    images.iter().chain(rest).take(EXTREME_IMAGES)
                });
                padded.flat_map(|image| image.to_le_bytes()).collect()
            }
        })
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

/// The name of a statistic and its values.
type Part = (&'static str, fn(&ChannelStatistics) -> &Vec<f32>);

const PARTS: [Part; 4] = [
    ("mean", |s| &s.mean),
    ("std", |s| &s.std),
    ("minimum", |s| &s.minimum),
    ("maximum", |s| &s.maximum),
];

fn tensors(block: &BlockStatistics) -> Vec<(String, Stored<'_>)> {
    let (channels, classes) = (block.block.channels, block.classes.len());
    let name = |part: &str| format!("{}.{part}", block.block.name);
    let counts = |part, shape, counts| {
        let values = Values::Counts(counts);
        (name(part), Stored { shape, values })
    };
    let mut tensors = vec![
        counts("histogram", vec![channels, BINS], &block.histogram),
        counts("class_count", vec![classes], &block.class_count),
    ];
    for (part, images) in [
        ("lowest_images", &block.lowest),
        ("highest_images", &block.highest),
    ] {
        let shape = vec![channels, EXTREME_IMAGES];
        let values = Values::Images(images);
        tensors.push((name(part), Stored { shape, values }));
    }
    for (part, values) in PARTS {
        let all = Values::Floats(vec![values(&block.all)]);
        let of_classes = block.classes.iter().map(|class| values(class).as_slice());
        let of_classes = Values::Floats(of_classes.collect());
        for (part, shape, values) in [
            (part.to_string(), vec![channels], all),
            (format!("class_{part}"), vec![classes, channels], of_classes),
        ] {
            tensors.push((name(&part), Stored { shape, values }));
        }
    }
    tensors
}

impl Excitation {
    /// Writes the statistics atomically as a safetensors file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ExcitationFileError> {
        let header = Header {
            format: FORMAT,
            origin: self.origin.clone(),
            gate: self.gate.activation,
            start: self.gate.start,
            histogram_range: gate_range(self.gate),
            thresholds: self.thresholds,
            blocks: self.blocks.iter().map(|b| b.block.clone()).collect(),
        };
        replace_atomically(path, |unfinished| {
            let text = serde_json::to_string(&header)?;
            let header = HashMap::from([(KEY.to_string(), text)]);
            let tensors = self.blocks.iter().flat_map(tensors);
            safetensors::serialize_to_file(tensors, Some(header), unfinished).map_err(|error| {
                match error {
                    SafeTensorError::IoError(source) => source,
                    other => std::io::Error::other(other),
                }
            })
        })
        .map_err(|source| ExcitationFileError::Write {
            path: path.to_path_buf(),
            source,
        })
    }

    /// Reads a file written by [`save`](Self::save).
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or has another format version.
    pub fn load(path: &Path) -> Result<Self, ExcitationFileError> {
        let bytes = std::fs::read(path).map_err(|source| ExcitationFileError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        parse(&bytes).map_err(|reason| ExcitationFileError::Format {
            path: path.to_path_buf(),
            reason,
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Excitation, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let entries = metadata.metadata().as_ref();
    let text = entries.and_then(|entries| entries.get(KEY));
    let text = text.ok_or_else(|| format!("the header has no entry {KEY}"))?;
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    // Checked first, because other versions may differ in the rest.
    if value["format"] != FORMAT {
        return Err(format!(
            "format version {}, expected {FORMAT}",
            value["format"]
        ));
    }
    let header: Header = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let gate = GateFunction {
        activation: header.gate,
        start: header.start,
    };
    if header.histogram_range != gate_range(gate) {
        return Err(format!(
            "the histogram range {} to {} does not match the gate function",
            header.histogram_range[0], header.histogram_range[1]
        ));
    }
    if header.blocks.is_empty() {
        return Err("there are no blocks".into());
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let classes = header.origin.classes.len();
    let block = |block| read_block(&tensors, block, classes);
    Ok(Excitation {
        blocks: header
            .blocks
            .into_iter()
            .map(block)
            .collect::<Result<_, _>>()?,
        origin: header.origin,
        gate,
        thresholds: header.thresholds,
    })
}

fn read_block(
    tensors: &SafeTensors<'_>,
    block: SeBlock,
    classes: usize,
) -> Result<BlockStatistics, String> {
    let channels = block.channels;
    let words = |part: &str, dtype: Dtype, shape: &[usize]| {
        let name = format!("{}.{part}", block.name);
        let tensor = tensors.tensor(&name).map_err(|e| format!("{name}: {e}"))?;
        if tensor.dtype() != dtype || tensor.shape() != shape {
            return Err(format!(
                "{name} is {} {:?}, expected {dtype} {shape:?}",
                tensor.dtype(),
                tensor.shape()
            ));
        }
        Ok(tensor.data().as_chunks::<4>().0.to_vec())
    };
    let floats = |part: &str, shape: &[usize]| -> Result<Vec<f32>, String> {
        let words = words(part, Dtype::F32, shape)?;
        Ok(words.into_iter().map(f32::from_le_bytes).collect())
    };
    let counts = |part: &str, shape: &[usize]| -> Result<Vec<u32>, String> {
        let words = words(part, Dtype::U32, shape)?;
        Ok(words.into_iter().map(u32::from_le_bytes).collect())
    };
    let images = |part: &str| -> Result<Vec<Vec<u32>>, String> {
        let images = counts(part, &[channels, EXTREME_IMAGES])?;
        let of_channel = |row: &[u32]| {
            let there = row.iter().copied().take_while(|&image| image != NO_IMAGE);
            there.collect()
        };
        Ok(images.chunks(EXTREME_IMAGES).map(of_channel).collect())
    };
    let [mean, std, minimum, maximum] =
        PARTS.map(|(part, _)| floats(&format!("class_{part}"), &[classes, channels]));
    let (mean, std, minimum, maximum) = (mean?, std?, minimum?, maximum?);
    let row = |values: &[f32], class: usize| values[class * channels..][..channels].to_vec();
    let of_class = |class| ChannelStatistics {
        mean: row(&mean, class),
        std: row(&std, class),
        minimum: row(&minimum, class),
        maximum: row(&maximum, class),
    };
    Ok(BlockStatistics {
        all: ChannelStatistics {
            mean: floats("mean", &[channels])?,
            std: floats("std", &[channels])?,
            minimum: floats("minimum", &[channels])?,
            maximum: floats("maximum", &[channels])?,
        },
        histogram: counts("histogram", &[channels, BINS])?,
        lowest: images("lowest_images")?,
        highest: images("highest_images")?,
        class_count: counts("class_count", &[classes])?,
        classes: (0..classes).map(of_class).collect(),
        block,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::excitation::collector::tests::gathered;

    fn sample() -> Excitation {
        let rows = [vec![0.25, 0.5], vec![0.75, 0.5], vec![1.0, 0.0]];
        gathered(Gate::Sigmoid, &rows, &[vec![0], vec![0, 2], vec![]], 3, 2)
    }

    #[test]
    fn saved_statistics_are_read_back_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.safetensors");
        sample().save(&path).unwrap();
        assert_eq!(Excitation::load(&path).unwrap(), sample());
    }

    #[test]
    fn errors_of_damaged_and_other_files_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.safetensors");
        let message = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Excitation::load(&path).unwrap_err().to_string()
        };
        sample().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 7, 30, bytes.len() - 1] {
            assert!(message(&bytes[..cut]).contains("a.safetensors: not an excitation file"));
        }
        let changed = |from: &str, to: &str| {
            let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
            let mut changed = bytes.clone();
            changed[at.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
            changed
        };
        for (from, to, part) in [
            (r#"\"format\":2"#, r#"\"format\":7"#, "format version 7"),
            (r#"\"channels\":2"#, r#"\"channels\":3"#, "[3, 3]"),
            ("sedet-excitation", "sedet-excitatiox", "no entry sedet-ex"),
            ("SE_2_1.maximum", "SE_2_1.maxixum", "SE_2_1.maximum"),
            (r#"\"pets\""#, r#"\"pets:x"#, "a.safetensors"),
        ] {
            let message = message(&changed(from, to));
            assert!(message.contains(part), "{message}");
        }
        let gone = Excitation::load(&directory.path().join("gone")).unwrap_err();
        assert!(gone.to_string().contains("gone: cannot be read"));
        let nowhere = sample()
            .save(&directory.path().join("no/where"))
            .unwrap_err();
        assert!(nowhere.to_string().contains("where: cannot be written"));
    }
}
