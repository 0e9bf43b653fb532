//! A COCO file copied entry by entry: what is kept is kept byte by byte, with every field that sedet
//! does not know.

use std::io::{self, Read, Write};

use crate::annotations::coco::List;

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Copied {
    /// It stays as it is.
    Keep,
    /// It is left out.
    Drop,
    /// It is replaced by this JSON.
    Replace(Vec<u8>),
}

/// A longer entry is no annotation.
const LONGEST_ENTRY: usize = 256 << 20;

/// Says what becomes of an entry: of which list, at which position, its bytes.
type Decide<'a> = dyn FnMut(List, usize, &[u8]) -> io::Result<Copied> + 'a;

/// Copies valid JSON; `decide` is called for each entry of the three lists with its position in the
/// list and its bytes. Everything else is copied.
///
/// # Errors
/// Reading, writing, or `decide` fails; an entry of more than 256 MiB.
pub fn copy_coco(
    mut input: impl Read,
    output: &mut dyn Write,
    decide: &mut Decide<'_>,
) -> io::Result<()> {
    let mut copying = Copying {
        output,
        decide,
        depth: 0,
        in_text: false,
        escaped: false,
        key: Vec::new(),
        list: None,
        entry: Vec::new(),
        positions: [0; 3],
        wrote_entry: false,
    };
    let mut chunk = vec![0; 1 << 16];
    loop {
        let count = match input.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for &byte in &chunk[..count] {
            copying.byte(byte)?;
        }
    }
}

struct Copying<'a> {
    output: &'a mut dyn Write,
    decide: &'a mut Decide<'a>,
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// The last text of the outer object: before a bracket it is the list's name.
    key: Vec<u8>,
    list: Option<List>,
    entry: Vec<u8>,
    positions: [usize; 3],
    wrote_entry: bool,
}

/// Depth inside of the outer object, and inside of a list in it.
const OUTER: usize = 1;
const INSIDE_LIST: usize = 2;

impl Copying<'_> {
    fn byte(&mut self, byte: u8) -> io::Result<()> {
        if self.list.is_none() {
            self.outside(byte)
        } else {
            self.inside(byte)
        }
    }

    /// Follows brackets and texts; true where the byte is part of a text.
    fn follow(&mut self, byte: u8) -> bool {
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return true;
        }
        match byte {
            b'"' => self.in_text = true,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }

    fn outside(&mut self, byte: u8) -> io::Result<()> {
        let was_text = self.follow(byte);
        if self.depth == OUTER {
            if was_text && self.in_text {
                // No list has a long name.
                if self.key.len() < 64 {
                    self.key.push(byte);
                }
            } else if !was_text && byte == b'"' {
                self.key.clear();
            }
        } else if !was_text && byte == b'[' && self.depth == INSIDE_LIST {
            self.list = std::str::from_utf8(&self.key).ok().and_then(List::named);
            self.entry.clear();
            self.wrote_entry = false;
        }
        self.output.write_all(&[byte])
    }

    fn inside(&mut self, byte: u8) -> io::Result<()> {
        let was_text = self.follow(byte);
        let is_end = !was_text && byte == b']' && self.depth == OUTER;
        let is_border = !was_text && byte == b',' && self.depth == INSIDE_LIST;
        if is_end || is_border {
            self.finish_entry()?;
            if is_end {
                self.list = None;
                if self.wrote_entry {
                    self.output.write_all(b"\n")?;
                }
                self.output.write_all(b"]")?;
            }
            return Ok(());
        }
        if self.entry.len() >= LONGEST_ENTRY {
            let message = "an entry of more than 256 MiB";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if !(self.entry.is_empty() && byte.is_ascii_whitespace()) {
            self.entry.push(byte);
        }
        Ok(())
    }

    fn finish_entry(&mut self) -> io::Result<()> {
        let (Some(list), false) = (self.list, self.entry.is_empty()) else {
            return Ok(());
        };
        let position = &mut self.positions[list as usize];
        let entry = self.entry.trim_ascii_end();
        let copied = (self.decide)(list, *position, entry)?;
        *position += 1;
        let bytes = match &copied {
            Copied::Keep => entry,
            Copied::Drop => &[],
            Copied::Replace(bytes) => bytes,
        };
        if !bytes.is_empty() {
            let border: &[u8] = if self.wrote_entry { b",\n" } else { b"\n" };
            self.output.write_all(border)?;
            self.output.write_all(bytes)?;
            self.wrote_entry = true;
        }
        self.entry.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn copied(json: &str, decide: impl Fn(List, usize, &[u8]) -> Copied) -> Value {
        let mut out = Vec::new();
        copy_coco(json.as_bytes(), &mut out, &mut |list, at, entry| {
            Ok(decide(list, at, entry))
        })
        .unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn entries_are_dropped_and_replaced_and_all_else_stays() {
        let json = r#"{"info": {"images": [1, 2], "x": "]}, \"annotations\": ["}, "annotations" : [ {"id": 1, "t": "a,]\\"},
            {"id": 2, "nested": [[1, 2], {"b": [3]}]} , {"id": 3}],
            "images":[],"categories": [{"id": 7}]}"#;
        let kept = copied(json, |_, _, _| Copied::Keep);
        assert_eq!(kept, serde_json::from_str::<Value>(json).unwrap());
        let changed = copied(json, |list, at, entry| match (list, at) {
            (List::Annotations, 1) => Copied::Drop,
            (List::Annotations, 2) => Copied::Replace(br#"{"id":30}"#.to_vec()),
            (List::Categories, 0) => {
                assert_eq!(entry, br#"{"id": 7}"#);
                Copied::Drop
            }
            _ => Copied::Keep,
        });
        assert_eq!(
            changed["annotations"],
            json!([{"id": 1, "t": "a,]\\"}, {"id": 30}])
        );
        assert_eq!(changed["categories"], json!([]));
        assert_eq!(changed["info"]["images"], json!([1, 2]));
    }

    proptest! {
        #[test]
        fn whatever_entries_hold_they_are_told_apart(
            entries in proptest::collection::vec((".{0,12}", proptest::collection::vec(any::<i32>(), 0..4)), 0..12),
            pretty in any::<bool>(),
        ) {
            let list: Vec<Value> = entries
                .iter()
                .map(|(text, numbers)| json!({ "text": text, "numbers": numbers, (text.clone()): [[text]] }))
                .collect();
            let value = json!({ "images": list, "annotations": list, "other": [list], "categories": [1, "a,b", null, [2]] });
            let json = if pretty { format!("{value:#}") } else { value.to_string() };
            prop_assert_eq!(&copied(&json, |_, _, _| Copied::Keep), &value);
            let odd = copied(&json, |_, at, _| match at % 2 { 0 => Copied::Drop, _ => Copied::Keep });
            let expected: Vec<Value> = list.iter().skip(1).step_by(2).cloned().collect();
            prop_assert_eq!(&odd["images"], &json!(expected));
            prop_assert_eq!(&odd["categories"], &json!(["a,b", [2]]));
        }
    }
}
