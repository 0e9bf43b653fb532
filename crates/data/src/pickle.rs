//! A parser of Python's pickle format.
//!
//! A pickle is a program for a small stack machine. This parser supports the instructions that
//! build plain data; functions are never called. Only calls that create a NumPy array or its type
//! are interpreted; the result of any other call is an opaque value.
//!
//! All values are in one list and refer to each other by position, so that neither deep nor
//! circular structures can exhaust the call stack. The bytes of arrays are not copied.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

/// Maximum number of values, more than in any weights file or label file; bounds the memory for a
/// hostile file.
const MAX_VALUES: usize = 4_000_000;
/// Maximum length of a name; longer strings are not names.
const MAX_TEXT: u64 = 4096;

/// An error in a pickle; it does not name the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PickleError(String);

/// A NumPy array whose bytes remain in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PickledArray {
    /// Shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// NumPy's code of the element type without the byte order, such as `f4` or `u1`.
    pub element_code: String,
    /// The range of its bytes, relative to the pickle's start.
    pub data: Range<u64>,
    /// Whether the bytes are encoded as a UTF-8 string of the same code points, as Python 3 does in
    /// old protocols.
    pub is_text: bool,
    /// Whether the elements are big-endian.
    pub is_big_endian: bool,
    /// Whether the values are stored column by column (Fortran order).
    pub is_fortran: bool,
}

/// The values built by a pickle.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
    not_called: Option<String>,
}

impl Pickle {
    /// Parses a pickle of the given length in bytes.
    ///
    /// # Errors
    /// An instruction is unknown or damaged, the data is truncated, or there are more than four
    /// million values.
    pub fn read(input: impl Read, size: u64) -> Result<Self, PickleError> {
        let mut machine = Machine {
            input,
            position: 0,
            size,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            not_called: None,
        };
        let root = machine.run().map_err(PickleError)?;
        Ok(Self {
            values: machine.values,
            root,
            not_called: machine.not_called,
        })
    }

    /// Returns the pickled value.
    pub fn root(&self) -> Node<'_> {
        Node {
            pickle: self,
            id: self.root,
        }
    }

    /// Returns the first function that the pickle would call and that is unrelated to arrays.
    pub fn not_called(&self) -> Option<&str> {
        self.not_called.as_deref()
    }
}

/// A value of a [`Pickle`]. Values may contain themselves: limit the depth of a walk.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    pickle: &'a Pickle,
    id: Id,
}

impl<'a> Node<'a> {
    fn value(self) -> &'a Value {
        &self.pickle.values[self.id]
    }

    fn other(self, id: Id) -> Self {
        Self { id, ..self }
    }

    /// Returns a string of up to 4096 bytes.
    pub fn text(self) -> Option<&'a str> {
        match self.value() {
            Value::String(text, _) => Some(text),
            _ => None,
        }
    }

    /// Returns an integer or boolean.
    pub fn number(self) -> Option<i64> {
        match self.value() {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the items of a list, tuple or set; `None` for anything else.
    pub fn items(self) -> impl Iterator<Item = Node<'a>> {
        let items: &[Id] = match self.value() {
            Value::Sequence(items) => items,
            _ => &[],
        };
        items.iter().map(move |id| self.other(*id))
    }

    /// Returns the keys and values of a dictionary; `None` for anything else.
    pub fn entries(self) -> impl Iterator<Item = (Node<'a>, Node<'a>)> {
        let entries: &[(Id, Id)] = match self.value() {
            Value::Dictionary(entries) => entries,
            _ => &[],
        };
        entries
            .iter()
            .map(move |(key, value)| (self.other(*key), self.other(*value)))
    }

    /// Returns the value of a dictionary's key, stored as a string or as bytes.
    pub fn get(self, key: &str) -> Option<Node<'a>> {
        self.entries()
            .find(|(name, _)| name.text() == Some(key))
            .map(|(_, value)| value)
    }

    /// Returns whether it is an array, usable or not.
    pub fn is_array(self) -> bool {
        matches!(self.value(), Value::Array(_))
    }

    /// Returns a usable array.
    pub fn array(self) -> Option<&'a PickledArray> {
        match self.value() {
            Value::Array(array) => array.as_ref(),
            _ => None,
        }
    }
}

/// Position of a value in the machine's list.
type Id = usize;

#[derive(Debug, Clone)]
enum Value {
    Nothing,
    Number(i64),
    /// A short string.
    String(String, Range<u64>),
    /// Bytes, or a string too long to be a name.
    Bytes {
        data: Range<u64>,
        is_text: bool,
    },
    Sequence(Vec<Id>),
    Dictionary(Vec<(Id, Id)>),
    /// A class or function: `module name`.
    Global(String),
    ElementType {
        code: String,
        is_big_endian: bool,
    },
    /// An array, complete once its state is set.
    Array(Option<PickledArray>),
    /// The result of a call that is not made.
    NotCalled,
}

struct Machine<R> {
    input: R,
    position: u64,
    size: u64,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    not_called: Option<String>,
}

const ENDS: &str = "it ends too early";
const UNDERFLOW: &str = "it is damaged: an instruction has no operand";

impl<R: Read> Machine<R> {
    /// Executes the instructions to the end; the result is the value on top.
    fn run(&mut self) -> Result<Id, String> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                instruction => self.step(instruction)?,
            }
        }
    }

    fn step(&mut self, instruction: u8) -> Result<(), String> {
        match instruction {
            // Protocol and frame: ignored.
            0x80 => self.byte().map(drop),
            0x95 => self.fixed::<8>().map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' | b'G' | b'F' => {
                match instruction {
                    b'G' => drop(self.fixed::<8>()?),
                    b'F' => drop(self.line()?),
                    _ => {}
                }
                self.push(Value::Nothing)
            }
            0x88 => self.push(Value::Number(1)),
            0x89 => self.push(Value::Number(0)),
            b'J' => {
                let number = i32::from_le_bytes(self.fixed()?);
                self.push(Value::Number(number.into()))
            }
            b'K' | b'M' | 0x8A => self.whole_number(instruction),
            b'I' | b'L' => {
                let line = self.line()?;
                let number = line.trim_end_matches('L').parse();
                self.push(Value::Number(number.map_err(|_| "a number is damaged")?))
            }
            b'X' | 0x8C | 0x8D => self.counted(instruction, true),
            b'B' | b'C' | 0x8E | 0x96 | b'T' | b'U' => self.counted(instruction, false),
            b'V' | b'S' => {
                let start = self.position;
                let line = self.line()?;
                let text = line.trim_matches(['\'', '"']).to_string();
                self.push(Value::String(text, start..self.position))
            }
            b'c' => {
                let name = format!("{} {}", self.line()?, self.line()?);
                self.push(Value::Global(name))
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.push(Value::Global(format!("{module} {name}")))
            }
            b'}' => self.push(Value::Dictionary(Vec::new())),
            b']' | b')' | 0x8F => self.push(Value::Sequence(Vec::new())),
            0x85..=0x87 => {
                let at = self.height_below(usize::from(instruction - 0x84))?;
                let items = self.stack.split_off(at);
                self.push(Value::Sequence(items))
            }
            b't' | b'l' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.push(Value::Sequence(items))
            }
            b'd' => {
                let pairs = pairs(&self.pop_to_mark()?);
                self.push(Value::Dictionary(pairs))
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_sequence(&[item])
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.extend_sequence(&items)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dictionary(&[key, value])
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.extend_dictionary(&items)
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_to_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            b'q' | b'r' | b'p' | 0x94 => {
                let key = self.memo_key(instruction)?;
                let top = self.top()?;
                self.memo.insert(key, top);
                Ok(())
            }
            b'h' | b'j' | b'g' => {
                let key = self.memo_key(instruction)?;
                let id = self
                    .memo
                    .get(&key)
                    .ok_or("it is damaged: it refers to a value that was not stored")?;
                self.stack.push(*id);
                Ok(())
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.call(function, arguments)
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.top()?);
                self.set_state(object, state)
            }
            b'P' | b'Q' => Err("it refers to data outside itself".into()),
            other => Err(format!("its instruction {other:#04x} is not known")),
        }
    }

    // Reading.

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|_| ENDS)?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    /// Reads text to the end of the line, without the line break.
    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                _ if line.len() as u64 >= MAX_TEXT => return Err("a line is too long".into()),
                byte => line.push(byte),
            }
        }
        String::from_utf8(line).map_err(|_| "a string is damaged".into())
    }

    fn whole_number(&mut self, instruction: u8) -> Result<(), String> {
        let number = match instruction {
            b'K' => self.byte()?.into(),
            b'M' => u16::from_le_bytes(self.fixed()?).into(),
            _ => {
                let count = usize::from(self.byte()?);
                let mut bytes = [0; 8];
                if count > bytes.len() {
                    return Err("a number is too large".into());
                }
                for byte in &mut bytes[..count] {
                    *byte = self.byte()?;
                }
                // Converts two's complement of this length in bytes.
                let unused = 64 - 8 * count as u32;
                match count {
                    0 => 0,
                    _ => i64::from_le_bytes(bytes) << unused >> unused,
                }
            }
        };
        self.push(Value::Number(number))
    }

    /// Reads bytes or a string after their length.
    fn counted(&mut self, instruction: u8, is_text: bool) -> Result<(), String> {
        let length = match instruction {
            0x8C | b'C' | b'U' => self.byte()?.into(),
            b'X' | b'B' | b'T' => u32::from_le_bytes(self.fixed()?).into(),
            _ => u64::from_le_bytes(self.fixed()?),
        };
        if length > self.size.saturating_sub(self.position) {
            return Err(ENDS.into());
        }
        let data = self.position..self.position + length;
        self.position = data.end;
        let is_short = length <= MAX_TEXT;
        let mut bytes = Vec::new();
        let mut counted = self.input.by_ref().take(length);
        if is_short {
            counted.read_to_end(&mut bytes).map(|n| n as u64)
        } else {
            std::io::copy(&mut counted, &mut std::io::sink())
        }
        .ok()
        .filter(|read| *read == length)
        .ok_or(ENDS)?;
        // Python 2 wrote names as bytes, and some still do.
        let value = match String::from_utf8(bytes) {
            Ok(text) if is_short && (is_text || matches!(instruction, b'U' | b'C')) => {
                Value::String(text, data)
            }
            _ => Value::Bytes { data, is_text },
        };
        self.push(value)
    }

    fn memo_key(&mut self, instruction: u8) -> Result<u64, String> {
        Ok(match instruction {
            b'q' | b'h' => self.byte()?.into(),
            b'r' | b'j' => u32::from_le_bytes(self.fixed()?).into(),
            0x94 => self.memo.len() as u64,
            _ => self.line()?.parse().map_err(|_| "a number is damaged")?,
        })
    }

    // The stack.

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("it has more than {MAX_VALUES} values"));
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or(UNDERFLOW.into())
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or(UNDERFLOW.into())
    }

    fn pop_text(&mut self) -> Result<String, String> {
        let id = self.pop()?;
        match &self.values[id] {
            Value::String(text, _) => Ok(text.clone()),
            _ => Err("it is damaged: a name is not a string".into()),
        }
    }

    fn height_below(&self, count: usize) -> Result<usize, String> {
        self.stack.len().checked_sub(count).ok_or(UNDERFLOW.into())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or(UNDERFLOW)?;
        if mark <= self.stack.len() {
            Ok(self.stack.split_off(mark))
        } else {
            Err(UNDERFLOW.into())
        }
    }

    // Values built from others.

    fn extend_sequence(&mut self, more: &[Id]) -> Result<(), String> {
        let id = self.top()?;
        if let Value::Sequence(items) = &mut self.values[id] {
            items.extend(more);
        }
        Ok(())
    }

    fn extend_dictionary(&mut self, more: &[Id]) -> Result<(), String> {
        let id = self.top()?;
        if let Value::Dictionary(items) = &mut self.values[id] {
            items.extend(pairs(more));
        }
        Ok(())
    }

    fn items(&self, id: Id) -> &[Id] {
        match &self.values[id] {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    fn number(&self, id: Id) -> Option<i64> {
        match self.values[id] {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Interprets the calls that create arrays and their types; records the first other one.
    fn call(&mut self, function: Id, arguments: Id) -> Result<(), String> {
        let Value::Global(name) = &self.values[function] else {
            return self.push(Value::NotCalled);
        };
        let arguments = self.items(arguments);
        let value = match name.as_str() {
            "numpy.core.multiarray _reconstruct" | "numpy._core.multiarray _reconstruct" => {
                Value::Array(None)
            }
            "numpy.core.numeric _frombuffer" | "numpy._core.numeric _frombuffer" => {
                Value::Array(self.array(arguments))
            }
            "numpy dtype" => self.element_type(arguments),
            // `codecs.encode(text, 'latin1')`: bytes, as Python 3 writes them in protocol 2.
            "_codecs encode" => match arguments.first().map(|id| &self.values[*id]) {
                Some(Value::String(text, data)) if text.is_ascii() => {
                    Value::String(text.clone(), data.clone())
                }
                Some(Value::String(_, data) | Value::Bytes { data, .. }) => Value::Bytes {
                    data: data.clone(),
                    is_text: true,
                },
                _ => Value::NotCalled,
            },
            // `bytes()`: none.
            "__builtin__ bytes" | "builtins bytes" => Value::Bytes {
                data: 0..0,
                is_text: false,
            },
            "collections OrderedDict" | "collections defaultdict" | "builtins dict" => {
                Value::Dictionary(Vec::new())
            }
            // A NumPy scalar is not a weight.
            "numpy.core.multiarray scalar" | "numpy._core.multiarray scalar" => Value::Nothing,
            other => {
                let function = other.replace(' ', ".");
                self.not_called.get_or_insert(function);
                Value::NotCalled
            }
        };
        self.push(value)
    }

    /// Interprets `dtype('f4', ...)`.
    fn element_type(&self, arguments: &[Id]) -> Value {
        let code = match arguments.first().map(|id| &self.values[*id]) {
            Some(Value::String(code, _)) => code.clone(),
            _ => String::new(),
        };
        Value::ElementType {
            is_big_endian: code.starts_with('>'),
            code: code.trim_start_matches(['<', '>', '=', '|']).to_string(),
        }
    }

    /// Sets the state of an array or of an element type.
    fn set_state(&mut self, object: Id, state: Id) -> Result<(), String> {
        // Only the first items count; a state may be set several times.
        let state: Vec<Id> = self.items(state).iter().copied().take(6).collect();
        let new = match &self.values[object] {
            // version, shape, type, whether column by column, bytes
            Value::Array(None) => match state.as_slice() {
                [_, shape, element, fortran, data] => {
                    Value::Array(self.array(&[*data, *element, *shape, *fortran]))
                }
                _ => return Ok(()),
            },
            // version, order, ...
            Value::ElementType { code, .. } => Value::ElementType {
                code: code.clone(),
                is_big_endian: state.get(1).is_some_and(
                    |id| matches!(&self.values[*id], Value::String(order, _) if order == ">"),
                ),
            },
            _ => return Ok(()),
        };
        self.values[object] = new;
        Ok(())
    }

    /// Builds an array from bytes, type, shape and order; `None` if one of them is invalid.
    fn array(&self, parts: &[Id]) -> Option<PickledArray> {
        let &[data, element, shape, order] = parts else {
            return None;
        };
        let (data, is_text) = match &self.values[data] {
            Value::Bytes { data, is_text } => (data.clone(), *is_text),
            // Bytes that happen to be a string, and the empty array.
            Value::String(_, data) => (data.clone(), false),
            _ => return None,
        };
        let Value::ElementType {
            code,
            is_big_endian,
        } = &self.values[element]
        else {
            return None;
        };
        let shape = self
            .items(shape)
            .iter()
            .map(|&id| self.number(id).and_then(|n| usize::try_from(n).ok()))
            .collect::<Option<Vec<usize>>>()?;
        let is_fortran = match &self.values[order] {
            Value::String(order, _) => order == "F",
            Value::Number(number) => *number != 0,
            _ => false,
        };
        Some(PickledArray {
            shape,
            element_code: code.clone(),
            data,
            is_text,
            is_big_endian: *is_big_endian,
            is_fortran,
        })
    }
}

fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items
        .as_chunks::<2>()
        .0
        .iter()
        .map(|&[k, v]| (k, v))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A dictionary of two NumPy arrays and a list, in protocol 2.
    const ARRAYS: &[u8] = include_bytes!("../../../tests/fixtures/layouts/arrays_protocol2.pkl");

    fn read(bytes: &[u8]) -> Result<Pickle, PickleError> {
        Pickle::read(bytes, bytes.len() as u64)
    }

    /// Visits all values up to a depth.
    fn walk(node: Node<'_>, depth: usize) -> usize {
        if depth == 0 {
            return 1;
        }
        let entries = node.entries().flat_map(|(key, value)| [key, value]);
        let inner = node.items().chain(entries);
        1 + inner.map(|node| walk(node, depth - 1)).sum::<usize>()
    }

    #[test]
    fn dictionaries_lists_and_numbers_are_read() {
        // pickle.dumps({"a": [1, -2], "b": "c"}, protocol=2)
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffeX\x01\x00\x00\x00bq\x03X\x01\x00\x00\x00cq\x04u.";
        let pickle = read(bytes).unwrap();
        let numbers = pickle.root().get("a").unwrap().items();
        assert_eq!(
            numbers.filter_map(Node::number).collect::<Vec<_>>(),
            [1, -2]
        );
        assert_eq!(pickle.root().get("b").unwrap().text(), Some("c"));
        assert_eq!(pickle.not_called(), None);
    }

    #[test]
    fn a_file_that_is_longer_than_its_declared_size_is_read_to_that_size() {
        assert!(Pickle::read(ARRAYS, 20).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn damaged_pickles_never_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
            cut in any::<prop::sample::Index>(),
            shorten in any::<bool>(),
        ) {
            let mut bytes = ARRAYS.to_vec();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if shorten {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(pickle) = read(&bytes) {
                prop_assert!(walk(pickle.root(), 6) > 0);
            }
        }

        #[test]
        fn random_instructions_never_panic(
            // The instructions that build values, and any bytes as their operands.
            bytes in proptest::collection::vec(
                prop_oneof![
                    prop::sample::select(b"(}])tld0125aesuNKMJXUBCcRbqrhj.\x80\x85\x86\x87\x88\x8a\x8c\x90\x93\x94".to_vec()),
                    any::<u8>(),
                ],
                0..80,
            ),
        ) {
            if let Ok(pickle) = read(&bytes) {
                prop_assert!(walk(pickle.root(), 6) > 0);
            }
        }
    }
}
