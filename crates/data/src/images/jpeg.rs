//! Whether the data of a JPEG is complete.
//!
//! The decoder fills the rest of an image with gray when its data ends early, and reports no error if an
//! end marker follows, as recovery programs and some cameras write one. This module reads the Huffman codes
//! of every scan, which takes a fraction of the time of decoding, and counts the units that have data
//! (ITU-T T.81, sections F.2 and G.2).

use std::collections::BTreeSet;
use std::fmt;

/// The missing part of a JPEG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JpegDamage {
    /// There is no end marker.
    NoEndMarker,
    /// There is an end marker, but the data of a scan ends before the image does.
    EndsEarly,
    /// The data contains bits that are no code; the decoder leaves the rest of the image gray.
    InvalidCode,
}

impl fmt::Display for JpegDamage {
    /// Writes a predicate of "the JPEG".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEndMarker => "has no end marker",
            Self::EndsEarly => "has the data of a part of the image only",
            Self::InvalidCode => "has damaged data, which hides the rest of the image",
        })
    }
}

/// Returns what is missing in a JPEG. Files that this module cannot judge, such as arithmetic-coded ones,
/// are left to the decoder.
pub(super) fn find_damage(bytes: &[u8]) -> Option<JpegDamage> {
    if !has_end_marker(bytes) {
        return Some(JpegDamage::NoEndMarker);
    }
    match Reader::new(bytes).read() {
        Ok(()) | Err(Stop::Unsupported) => None,
        Err(Stop::EndsEarly) => Some(JpegDamage::EndsEarly),
        Err(Stop::InvalidCode) => Some(JpegDamage::InvalidCode),
    }
}

/// Returns whether an end-of-image marker (`FF D9`) follows the first start of scan.
///
/// Entropy-coded data never contains `FF D9` (an `FF` in it is followed by `00` or a restart
/// marker), so a match is the real marker. The search begins after the header because an embedded
/// EXIF thumbnail has its own end marker; it accepts data after the marker because cameras append
/// data there.
fn has_end_marker(bytes: &[u8]) -> bool {
    let mut at = 2; // behind the start-of-image marker
    loop {
        match bytes.get(at..at + 2) {
            Some([0xFF, 0xFF]) => at += 1, // fill byte
            Some([0xFF, START_OF_SCAN]) => break,
            // markers without a length: restart 0..7 and TEM
            Some([0xFF, 0xD0..=0xD7 | 0x01]) => at += 2,
            Some([0xFF, _]) => match bytes.get(at + 2..at + 4) {
                Some(length) => at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
            // stray bytes between segments, which decoders skip
            Some(_) => at += 1,
            None => return false,
        }
    }
    // From the end, where the marker is: forwards, the search took 5 % of the time of loading.
    bytes[at..]
        .windows(2)
        .rev()
        .any(|pair| pair == [0xFF, END_OF_IMAGE])
}

/// Returns which kind of JPEG a file is, as words behind `a JPEG`, if it is one that is not decoded. The kind is that of
/// the first frame header (ITU-T T.81, table B.1; ITU-T T.87 for JPEG-LS).
pub(super) fn unsupported_kind(bytes: &[u8]) -> Option<String> {
    let mut at = 2; // behind the start-of-image marker
    loop {
        let marker = match bytes.get(at..at + 2)? {
            [0xFF, 0xFF] => {
                at += 1; // fill byte
                continue;
            }
            // markers without a length: restart 0..7 and TEM
            [0xFF, 0xD0..=0xD7 | 0x01] => {
                at += 2;
                continue;
            }
            [0xFF, marker] => *marker,
            // stray bytes between segments
            _ => {
                at += 1;
                continue;
            }
        };
        let segment = bytes.get(at + 2..)?;
        let kind = match marker {
            0xC0..=0xC2 => match segment.get(2)? {
                8 => return None,
                bits => format!("with {bits} bits per channel"),
            },
            0xC3 => "with lossless coding".to_owned(),
            0xC9 | 0xCA => "with arithmetic coding".to_owned(),
            0xCB => "with lossless arithmetic coding".to_owned(),
            0xC5..=0xC7 | 0xCD..=0xCF => "of several frames (hierarchical)".to_owned(),
            0xF7 => "in the JPEG-LS format".to_owned(),
            START_OF_SCAN | END_OF_IMAGE => return None,
            _ => {
                let length = segment.first_chunk()?;
                at += 2 + usize::from(u16::from_be_bytes(*length));
                continue;
            }
        };
        return Some(kind);
    }
}

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

/// The reason why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    EndsEarly,
    InvalidCode,
    Unsupported,
}

/// A Huffman table. Codes of up to [`SHORT`](Self::SHORT) bits are looked up.
struct HuffmanTable {
    /// Length and symbol of the code at the start of each sequence of bits; a length of zero is no short
    /// code.
    short: Vec<(u8, u8)>,
    symbols: Vec<u8>,
    /// For each length: the first code and the one behind the last, both extended to 16 bits by zeros, and
    /// the position of the first symbol.
    codes: [(usize, usize, usize); 17],
}

impl HuffmanTable {
    const SHORT: u8 = 10;

    /// Builds the table from the number of codes of each length and the symbols (section C.2).
    fn new(counts: &[u8], symbols: &[u8]) -> Result<Self, Stop> {
        let mut table = Self {
            short: vec![(0, 0); 1 << Self::SHORT],
            symbols: symbols.to_vec(),
            codes: [(0, 0, 0); 17],
        };
        let (mut from, mut position) = (0, 0);
        for (length, &count) in (1_u8..).zip(counts) {
            let width = 1_usize << (16 - length);
            let end = from + usize::from(count) * width;
            if end > 1 << 16 {
                return Err(Stop::Unsupported);
            }
            table.codes[usize::from(length)] = (from, end, position);
            if length <= Self::SHORT {
                let unused = 16 - Self::SHORT;
                let codes = table.short[from >> unused..end >> unused].chunks_mut(width >> unused);
                for (codes, symbol) in codes.zip(&symbols[position..]) {
                    codes.fill((length, *symbol));
                }
            }
            from = end;
            position += usize::from(count);
        }
        Ok(table)
    }

    /// Returns length and symbol of the code at the start of 16 bits; a length of zero if there is none.
    fn find(&self, bits: usize) -> (u8, u8) {
        let (length, symbol) = self.short[bits >> (16 - Self::SHORT)];
        if length > 0 {
            return (length, symbol);
        }
        for length in Self::SHORT + 1..=16 {
            let (first, end, position) = self.codes[usize::from(length)];
            if bits < end {
                let code = (bits - first) >> (16 - length);
                return (length, self.symbols[position + code]);
            }
        }
        (0, 0)
    }
}

/// The bits of a scan, without the zeros after `FF` bytes. Behind the last bit there are zeros.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    /// Number of bits in the buffer.
    count: u32,
    /// How many of them, and of those taken before, are behind the last bit.
    behind: u32,
}

impl<'a> Bits<'a> {
    const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            buffer: 0,
            count: 0,
            behind: 0,
        }
    }

    /// Fills the buffer to at least 32 bits: a code of 16 bits and a value of 15.
    fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        // Mostly, none of the next four bytes is FF.
        let next = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk);
        if let Some(next) = next
            && !next.contains(&0xFF)
        {
            self.buffer = self.buffer << 32 | u64::from(u32::from_be_bytes(*next));
            self.count += 32;
            self.at += 4;
            return;
        }
        while self.count <= 48 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.at += 2;
                    0xFF
                }
                (Some(0xFF), _) | (None, _) => {
                    // Beyond this, the number is not needed.
                    self.behind = (self.behind + 8).min(1 << 20);
                    0
                }
                (Some(byte), _) => {
                    self.at += 1;
                    *byte
                }
            };
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    /// Returns whether more bits were taken than there are.
    const fn has_ended(&self) -> bool {
        self.behind > self.count
    }

    /// Takes up to 16 bits; at most 32 after each [`refill`](Self::refill).
    fn take(&mut self, bits: u8) -> u64 {
        self.count -= u32::from(bits);
        self.buffer >> self.count & ((1 << bits) - 1)
    }

    fn bit(&mut self) -> bool {
        self.refill();
        self.take(1) == 1
    }

    /// Decodes a symbol.
    fn symbol(&mut self, table: &HuffmanTable) -> Result<u8, Stop> {
        self.refill();
        let next = self.buffer >> (self.count - 16) & 0xFFFF;
        let (length, symbol) = table.find(next as usize);
        self.take(length);
        match length {
            // The zeros behind the data need not be a code.
            0 if self.behind > 0 => Err(Stop::EndsEarly),
            0 => Err(Stop::InvalidCode),
            _ => Ok(symbol),
        }
    }

    /// Moves to the next marker, behind the data that was read.
    fn next_marker(&mut self) -> Option<u8> {
        while let Some(pair) = self.bytes.get(self.at..self.at + 2) {
            match pair {
                [0xFF, 0] => self.at += 2,
                [0xFF, marker] if *marker != 0xFF => return Some(*marker),
                _ => self.at += 1,
            }
        }
        None
    }
}

/// A component of the image.
struct Component {
    id: u8,
    horizontal: usize,
    vertical: usize,
    /// Blocks in a row, and in a column, of a scan of this component alone.
    blocks: [usize; 2],
    /// Blocks in a row, in a scan of several components.
    padded_blocks: usize,
    /// Whether a scan contained the component.
    is_read: bool,
    /// The coefficients of each block that are not zero, as bits; for progressive images.
    nonzero: Vec<u64>,
}

struct Frame {
    is_progressive: bool,
    components: Vec<Component>,
    /// Columns and rows of units in a scan of several components.
    units: [usize; 2],
}

/// The coefficients that a scan contains.
#[derive(Clone, Copy)]
struct Band {
    first: usize,
    last: usize,
    /// Whether the scan adds a bit to coefficients of an earlier one.
    refines: bool,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    dc_tables: [Option<HuffmanTable>; 4],
    ac_tables: [Option<HuffmanTable>; 4],
    frame: Option<Frame>,
    restart_interval: usize,
}

impl<'a> Reader<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 2,
            dc_tables: [const { None }; 4],
            ac_tables: [const { None }; 4],
            frame: None,
            restart_interval: 0,
        }
    }

    /// Reads all scans up to the end marker.
    fn read(mut self) -> Result<(), Stop> {
        loop {
            let mut bits = Bits::new(self.bytes, self.at);
            let marker = bits.next_marker().ok_or(Stop::Unsupported)?;
            self.at = bits.at + 2;
            match marker {
                END_OF_IMAGE => break,
                0x01 | 0xD0..=0xD8 => continue,
                _ => {}
            }
            let segment = self.segment()?;
            match marker {
                0xC4 => self.huffman_tables(segment)?,
                0xC0..=0xC2 => self.frame = Some(frame(segment, marker == 0xC2)?),
                // Lossless, hierarchical or arithmetic coding.
                0xC3 | 0xC5..=0xCF => return Err(Stop::Unsupported),
                0xDD => {
                    let [high, low] = *segment else {
                        return Err(Stop::Unsupported);
                    };
                    self.restart_interval = u16::from_be_bytes([high, low]).into();
                }
                START_OF_SCAN => self.scan(segment)?,
                _ => {}
            }
        }
        let frame = self.frame.ok_or(Stop::Unsupported)?;
        if frame.components.iter().all(|component| component.is_read) {
            Ok(())
        } else {
            Err(Stop::EndsEarly)
        }
    }

    /// Returns the contents of the segment at the current position and moves behind it.
    fn segment(&mut self) -> Result<&'a [u8], Stop> {
        let length = self.bytes.get(self.at..self.at + 2);
        let length = length.ok_or(Stop::Unsupported)?;
        let end = self.at + usize::from(u16::from_be_bytes([length[0], length[1]]));
        let segment = self.bytes.get(self.at + 2..end);
        self.at = end;
        segment.ok_or(Stop::Unsupported)
    }

    fn huffman_tables(&mut self, mut segment: &[u8]) -> Result<(), Stop> {
        while let Some((&class_and_id, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_at_checked(16).ok_or(Stop::Unsupported)?;
            let symbols = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(symbols).ok_or(Stop::Unsupported)?;
            let tables = match class_and_id >> 4 {
                0 => &mut self.dc_tables,
                _ => &mut self.ac_tables,
            };
            let table = tables.get_mut(usize::from(class_and_id & 15));
            *table.ok_or(Stop::Unsupported)? = Some(HuffmanTable::new(counts, symbols)?);
            segment = rest;
        }
        Ok(())
    }

    /// Reads a scan.
    fn scan(&mut self, header: &[u8]) -> Result<(), Stop> {
        let frame = self.frame.as_mut().ok_or(Stop::Unsupported)?;
        let (&count, header) = header.split_first().ok_or(Stop::Unsupported)?;
        let (selectors, band) = header
            .split_at_checked(2 * usize::from(count))
            .ok_or(Stop::Unsupported)?;
        let &[first, last, approximation] = band else {
            return Err(Stop::Unsupported);
        };
        let band = Band {
            first: first.into(),
            last: usize::from(last).min(63),
            refines: frame.is_progressive && approximation >> 4 != 0,
        };
        // The component, and its tables, of each part of the scan.
        let mut parts = Vec::new();
        for selector in selectors.chunks_exact(2) {
            let at = frame.components.iter().position(|c| c.id == selector[0]);
            let at = at.ok_or(Stop::Unsupported)?;
            let [dc, ac] = [selector[1] >> 4, selector[1] & 15];
            let needs_dc = band.first == 0 && !band.refines;
            let needs_ac = !frame.is_progressive || band.first > 0;
            let tables = (table(&self.dc_tables, dc), table(&self.ac_tables, ac));
            if needs_dc && tables.0.is_none() || needs_ac && tables.1.is_none() {
                return Err(Stop::Unsupported);
            }
            parts.push((at, tables));
        }
        let [columns, rows] = match parts.as_slice() {
            [] => return Err(Stop::Unsupported),
            [(only, _)] => frame.components[*only].blocks,
            _ => frame.units,
        };
        if frame.is_progressive && band.first > 0 && parts.len() > 1 {
            return Err(Stop::Unsupported);
        }
        let is_alone = parts.len() == 1;
        let mut bits = Bits::new(self.bytes, self.at);
        let mut run = 0;
        for unit in 0..columns * rows {
            if self.restart_interval > 0 && unit > 0 && unit % self.restart_interval == 0 {
                match bits.next_marker() {
                    Some(0xD0..=0xD7) => bits = Bits::new(self.bytes, bits.at + 2),
                    _ => return Err(Stop::EndsEarly),
                }
                run = 0;
            }
            let (column, row) = (unit % columns, unit / columns);
            for &(at, tables) in &parts {
                let component = &mut frame.components[at];
                let [wide, high] = if is_alone {
                    [1, 1]
                } else {
                    [component.horizontal, component.vertical]
                };
                for block in 0..wide * high {
                    if !frame.is_progressive {
                        sequential_block(&mut bits, tables)?;
                        continue;
                    }
                    let x = column * wide + block % wide;
                    let y = row * high + block / wide;
                    let nonzero = &mut component.nonzero[y * component.padded_blocks + x];
                    progressive_block(&mut bits, tables, band, nonzero, &mut run)?;
                }
            }
            if bits.has_ended() {
                // Between two restart markers, data that is too short was damaged, not cut.
                match bits.next_marker() {
                    Some(0xD0..=0xD7) => return Err(Stop::Unsupported),
                    // Some encoders drop the last bits.
                    _ if unit + 1 == columns * rows => break,
                    _ => return Err(Stop::EndsEarly),
                }
            }
        }
        for (at, _) in parts {
            frame.components[at].is_read = true;
        }
        self.at = bits.at;
        Ok(())
    }
}

/// Returns a table that was defined.
fn table(tables: &[Option<HuffmanTable>; 4], id: u8) -> Option<&HuffmanTable> {
    tables.get(usize::from(id))?.as_ref()
}

/// The tables for DC and AC coefficients.
type Tables<'a> = (Option<&'a HuffmanTable>, Option<&'a HuffmanTable>);

/// Reads a block of a sequential image (section F.2.2).
fn sequential_block(bits: &mut Bits<'_>, (dc, ac): Tables<'_>) -> Result<(), Stop> {
    let (dc, ac) = (dc.ok_or(Stop::Unsupported)?, ac.ok_or(Stop::Unsupported)?);
    let size = bits.symbol(dc)?;
    bits.take(size.min(16));
    let mut at = 1;
    while at < 64 {
        let symbol = bits.symbol(ac)?;
        let (zeros, size) = (usize::from(symbol >> 4), symbol & 15);
        bits.take(size);
        if size == 0 && zeros < 15 {
            break;
        }
        at += zeros + 1;
    }
    Ok(())
}

/// Reads the part of a block of a progressive image that a scan contains (section G.2). `run` is the number
/// of further blocks without coefficients in the band.
fn progressive_block(
    bits: &mut Bits<'_>,
    (dc, ac): Tables<'_>,
    band: Band,
    nonzero: &mut u64,
    run: &mut u32,
) -> Result<(), Stop> {
    if band.first == 0 {
        if band.refines {
            bits.bit();
        } else {
            let size = bits.symbol(dc.ok_or(Stop::Unsupported)?)?;
            bits.take(size.min(16));
        }
        return Ok(());
    }
    let ac = ac.ok_or(Stop::Unsupported)?;
    let mut at = band.first;
    while *run == 0 && at <= band.last {
        let symbol = bits.symbol(ac)?;
        let (mut zeros, size) = (symbol >> 4, symbol & 15);
        if size == 0 && zeros < 15 {
            *run = (1 << zeros) + bits.take(zeros) as u32;
            break;
        }
        bits.take(size);
        // Zeros are skipped; a refining scan has a bit for each coefficient that is not zero already.
        while at <= band.last {
            if band.refines && *nonzero >> at & 1 == 1 {
                bits.bit();
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            at += 1;
        }
        if size > 0 && at <= band.last {
            *nonzero |= 1 << at;
        }
        at += 1;
    }
    if *run > 0 {
        if band.refines {
            for at in at..=band.last {
                if *nonzero >> at & 1 == 1 {
                    bits.bit();
                }
            }
        }
        *run -= 1;
    }
    Ok(())
}

/// Reads a frame header (section B.2.2).
fn frame(segment: &[u8], is_progressive: bool) -> Result<Frame, Stop> {
    /// More blocks than in the largest image that is decoded.
    const MAX_BLOCKS: usize = 1 << 23;
    let &[_, h1, h0, w1, w0, count, ref components @ ..] = segment else {
        return Err(Stop::Unsupported);
    };
    let height = usize::from(u16::from_be_bytes([h1, h0]));
    let width = usize::from(u16::from_be_bytes([w1, w0]));
    if components.len() != 3 * usize::from(count) || width == 0 || height == 0 {
        return Err(Stop::Unsupported);
    }
    let factors = || components.chunks_exact(3).map(|c| [c[1] >> 4, c[1] & 15]);
    let ids: BTreeSet<u8> = components.chunks_exact(3).map(|c| c[0]).collect();
    if ids.len() != usize::from(count) {
        return Err(Stop::Unsupported);
    }
    if count == 0 || factors().flatten().any(|factor| !(1..=4).contains(&factor)) {
        return Err(Stop::Unsupported);
    }
    let largest = |side: usize| usize::from(factors().map(|f| f[side]).max().unwrap_or(1));
    let most = [largest(0), largest(1)];
    let units = [width.div_ceil(8 * most[0]), height.div_ceil(8 * most[1])];
    let component = |c: &[u8]| {
        let [horizontal, vertical] = [usize::from(c[1] >> 4), usize::from(c[1] & 15)];
        let padded_blocks = units[0] * horizontal;
        let blocks = padded_blocks * units[1] * vertical;
        if blocks > MAX_BLOCKS {
            return Err(Stop::Unsupported);
        }
        Ok(Component {
            id: c[0],
            horizontal,
            vertical,
            blocks: [
                (width * horizontal).div_ceil(8 * most[0]),
                (height * vertical).div_ceil(8 * most[1]),
            ],
            padded_blocks,
            is_read: false,
            nonzero: vec![0; if is_progressive { blocks } else { 0 }],
        })
    };
    Ok(Frame {
        is_progressive,
        components: components
            .chunks_exact(3)
            .map(component)
            .collect::<Result<_, Stop>>()?,
        units,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of `tests/oracle/jpegs.py`.
    const KINDS: [(&str, &[u8]); 7] = [
        (
            "plain",
            include_bytes!("../../../../tests/fixtures/jpegs/plain.jpg"),
        ),
        (
            "subsampled",
            include_bytes!("../../../../tests/fixtures/jpegs/subsampled.jpg"),
        ),
        (
            "restarts",
            include_bytes!("../../../../tests/fixtures/jpegs/restarts.jpg"),
        ),
        (
            "progressive",
            include_bytes!("../../../../tests/fixtures/jpegs/progressive.jpg"),
        ),
        (
            "progressive_restarts",
            include_bytes!("../../../../tests/fixtures/jpegs/progressive_restarts.jpg"),
        ),
        (
            "gray",
            include_bytes!("../../../../tests/fixtures/jpegs/gray.jpg"),
        ),
        (
            "gray_progressive",
            include_bytes!("../../../../tests/fixtures/jpegs/gray_progressive.jpg"),
        ),
    ];

    /// Returns the positions at which a file can be cut inside the data of its scans.
    fn cuts(bytes: &[u8]) -> Vec<usize> {
        let mut reader = Reader::new(bytes);
        let mut cuts = Vec::new();
        loop {
            let mut bits = Bits::new(bytes, reader.at);
            let marker = bits.next_marker().unwrap();
            reader.at = bits.at + 2;
            if marker == END_OF_IMAGE {
                return cuts;
            }
            reader.segment().unwrap();
            if marker != START_OF_SCAN {
                continue;
            }
            let start = reader.at;
            let mut end = Bits::new(bytes, start);
            while let Some(0xD0..=0xD7) = end.next_marker() {
                end.at += 2;
            }
            // A cut between an FF and its zero would leave a marker; what is missing of the last unit is not
            // noticed.
            let inside = start..end.at.saturating_sub(64);
            cuts.extend(inside.filter(|&at| bytes[at - 1] != 0xFF && bytes[at] != 0xFF));
            reader.at = end.at;
        }
    }

    #[test]
    fn a_complete_jpeg_of_any_kind_has_no_damage() {
        for (name, bytes) in KINDS {
            assert_eq!(find_damage(bytes), None, "{name}");
            let judged = Reader::new(bytes).read();
            assert_eq!(judged, Ok(()), "{name}");
            // Bytes after the end are no part of the image.
            assert_eq!(
                find_damage(&[bytes, &[0xFF, 0xD8, 7]].concat()),
                None,
                "{name}"
            );
        }
    }

    #[test]
    fn a_jpeg_that_was_cut_anywhere_in_its_data_and_closed_is_noticed() {
        for (name, bytes) in KINDS {
            let cuts = cuts(bytes);
            assert!(cuts.len() > 150, "{name}: {}", cuts.len());
            for at in cuts {
                let closed = [&bytes[..at], &[0xFF, END_OF_IMAGE]].concat();
                let damage = find_damage(&closed);
                assert!(
                    matches!(
                        damage,
                        Some(JpegDamage::EndsEarly | JpegDamage::InvalidCode)
                    ),
                    "{name}: {at} of {} bytes: {damage:?}",
                    bytes.len()
                );
            }
        }
    }

    #[test]
    fn changed_bytes_never_panic() {
        for (name, bytes) in KINDS {
            let mut changed = bytes.to_vec();
            for at in 2..bytes.len() {
                for value in [0, 0x11, 0xFF] {
                    changed[at] = value;
                    let _ = find_damage(&changed);
                }
                changed[at] = bytes[at];
            }
            assert_eq!(changed, bytes, "{name}");
        }
    }
}
