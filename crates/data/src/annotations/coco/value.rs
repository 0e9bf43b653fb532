//! JSON values of a COCO document, read without expecting a type.
//!
//! A typed reader stops at the first wrong type and cannot name the entry. Here the parser
//! accepts every value, and [`super::entry`] validates it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::annotations::json_guard::not_finite;

/// The largest float below which every integer is exact.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// A JSON value; for lists and objects only the type is kept.
#[derive(Debug, Default)]
pub(super) enum Scalar {
    #[default]
    Null,
    Bool(bool),
    Integer(u64),
    Number(f64),
    String(Box<str>),
    Other(&'static str),
}

impl Scalar {
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Returns the value as a non-negative integer, also when written `7.0`, as tables exported
    /// through pandas do.
    pub(super) fn as_id(&self) -> Option<u64> {
        match *self {
            Self::Integer(id) => Some(id),
            Self::Number(number)
                if number.fract() == 0.0 && (0.0..=EXACT_INTEGERS).contains(&number) =>
            {
                Some(number as u64)
            }
            _ => None,
        }
    }

    /// Returns the value of a number.
    fn as_number(&self) -> Option<f64> {
        match *self {
            Self::Integer(number) => Some(number as f64),
            Self::Number(number) => Some(number),
            _ => None,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 40;
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::String(string) if string.chars().count() > SHOWN => {
                let start: String = string.chars().take(SHOWN).collect();
                write!(f, "\"{start}...\"")
            }
            Self::String(string) => write!(f, "\"{string}\""),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Integer(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value as f64))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(match not_finite(value) {
            Some(number) => Scalar::Number(number),
            None => Scalar::String(value.into()),
        })
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("a list"))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an object"))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// What is known of a field that is not read.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Whether it has a value: anything but `null`, `false`, and empty strings, lists and objects.
    pub(super) has_value: bool,
    /// The number `rotation` of an object.
    pub(super) rotation: Option<f64>,
}

impl Unread {
    fn of(has_value: bool) -> Self {
        Self {
            has_value,
            rotation: None,
        }
    }
}

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnreadVisitor)
    }
}

struct UnreadVisitor;

impl<'de> Visitor<'de> for UnreadVisitor {
    type Value = Unread;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<Unread, E> {
        Ok(Unread::of(false))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Unread, E> {
        Ok(Unread::of(value))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Unread, E> {
        Ok(Unread::of(true))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Unread, E> {
        Ok(Unread::of(true))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Unread, E> {
        Ok(Unread::of(true))
    }
    fn visit_str<E>(self, value: &str) -> Result<Unread, E> {
        Ok(Unread::of(!value.is_empty()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unread, A::Error> {
        let mut has_value = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            has_value = true;
        }
        Ok(Unread::of(has_value))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unread, A::Error> {
        let mut found = Unread::default();
        while let Some(key) = map.next_key()? {
            found.has_value = true;
            match key {
                Key::Rotation => found.rotation = map.next_value::<Scalar>()?.as_number(),
                Key::Other => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(found)
    }
}

/// A key of an object that is not read.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Rotation,
    #[serde(other)]
    Other,
}

/// A non-negative integer, also when written `7.0`. A string, a fraction or a negative number is an
/// error.
#[derive(Clone, Copy)]
pub(crate) struct Id(pub(crate) u64);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Scalar::deserialize(deserializer)?;
        value
            .as_id()
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("{value} is not a non-negative integer")))
    }
}

/// The value of a `bbox` field.
#[derive(Debug)]
pub(super) enum BoxValue {
    /// A list of numbers.
    Numbers {
        /// The first four numbers; `null` and non-finite numbers are NaN.
        values: [f64; 4],
        /// The length.
        count: usize,
        /// Whether some numbers are written as strings.
        has_strings: bool,
    },
    /// Any other value, as named in a message.
    Other(String),
}

impl<'de> Deserialize<'de> for BoxValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BoxVisitor)
    }
}

struct BoxVisitor;

impl<'de> Visitor<'de> for BoxVisitor {
    type Value = BoxValue;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<BoxValue, A::Error> {
        let (mut values, mut count, mut has_strings) = ([0.0; 4], 0, false);
        let mut other = None;
        while let Some(value) = seq.next_element::<Scalar>()? {
            let number = match &value {
                Scalar::Integer(number) => Some(*number as f64),
                Scalar::Number(number) => Some(*number),
                // Exported tables write `null` for a missing number.
                Scalar::Null => Some(f64::NAN),
                Scalar::String(string) => {
                    let number = string.trim().parse().ok();
                    has_strings |= number.is_some();
                    number
                }
                _ => None,
            };
            if number.is_none() {
                other.get_or_insert_with(|| format!("a list that contains {value}"));
            }
            if let Some(slot) = values.get_mut(count) {
                *slot = number.unwrap_or_default();
            }
            count += 1;
        }
        Ok(match other {
            Some(other) => BoxValue::Other(other),
            None => BoxValue::Numbers {
                values,
                count,
                has_strings,
            },
        })
    }
    fn visit_unit<E>(self) -> Result<BoxValue, E> {
        Ok(BoxValue::Other("null".into()))
    }
    fn visit_bool<E>(self, value: bool) -> Result<BoxValue, E> {
        Ok(BoxValue::Other(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<BoxValue, E> {
        Ok(BoxValue::Other(value.to_string()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<BoxValue, E> {
        Ok(BoxValue::Other(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<BoxValue, E> {
        Ok(BoxValue::Other(value.to_string()))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<BoxValue, E> {
        let value = ScalarVisitor.visit_str::<E>(value)?;
        Ok(BoxValue::Other(value.to_string()))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BoxValue, A::Error> {
        ScalarVisitor.visit_map(map)?;
        Ok(BoxValue::Other("an object".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_integers_also_when_written_as_floats() {
        let id = |json| serde_json::from_str::<Id>(json).ok().map(|id| id.0);
        assert_eq!(id("7"), Some(7));
        assert_eq!(id("7.0"), Some(7));
        assert_eq!(id("18446744073709551615"), Some(u64::MAX));
        for wrong in ["7.5", "-1", "\"7\"", "null", "1e300", "[7]"] {
            assert_eq!(id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn long_strings_are_cut_in_messages() {
        let value = Scalar::String("x".repeat(100).into());
        assert_eq!(value.to_string(), format!("\"{}...\"", "x".repeat(40)));
    }
}
