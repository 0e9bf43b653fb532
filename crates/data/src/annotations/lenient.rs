//! Numbers and flags as COCO files in the wild spell them.

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// The largest float below which every integer is exact.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// A non-negative integer, also when written `7.0` (as tables exported through pandas do).
/// A string, a fraction or a negative number is an error.
#[derive(Clone, Copy)]
pub struct Id(pub u64);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = Id;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a non-negative integer")
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Id, E> {
                Ok(Id(value))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Id, E> {
                if value.fract() == 0.0 && (0.0..=EXACT_INTEGERS).contains(&value) {
                    Ok(Id(value as u64))
                } else {
                    Err(E::custom(format!("{value} is not a non-negative integer")))
                }
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// `0`, `1`, `false` or `true`.
#[derive(Clone, Copy, Default)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;
        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("0, 1, false or true")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Flag, E> {
                match value {
                    0 | 1 => Ok(Flag(value == 1)),
                    _ => Err(E::custom(format!("{value} is not 0 or 1"))),
                }
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Flag, E> {
                match value {
                    0.0 => Ok(Flag(false)),
                    1.0 => Ok(Flag(true)),
                    _ => Err(E::custom(format!("{value} is not 0 or 1"))),
                }
            }
        }
        deserializer.deserialize_any(FlagVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Option<u64> {
        serde_json::from_str::<Id>(text).ok().map(|id| id.0)
    }

    #[test]
    fn ids_are_read_as_integers_also_when_written_as_floats() {
        assert_eq!(id("7"), Some(7));
        assert_eq!(id("7.0"), Some(7));
        assert_eq!(id("18446744073709551615"), Some(u64::MAX));
        for wrong in ["7.5", "-1", "\"7\"", "null", "1e300"] {
            assert_eq!(id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn flags_are_zero_one_or_boolean() {
        let flag = |text| serde_json::from_str::<Flag>(text).ok().map(|flag| flag.0);
        assert_eq!(flag("1"), Some(true));
        assert_eq!(flag("0.0"), Some(false));
        assert_eq!(flag("true"), Some(true));
        assert_eq!(flag("2"), None);
    }
}
