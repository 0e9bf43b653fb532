//! Serialization of scores as text: serde_json does not always restore the last bit of a number,
//! and an equal score must stay equal after resuming.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) fn serialize<S: Serializer>(score: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    score.map(|score| score.to_string()).serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    Option::<String>::deserialize(from)?
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}
