//! What a named backbone takes from the weights that training starts from.

use toml::{Table, Value};

use super::ConfigError;
use crate::backbones::BackboneConfig;
use sedet_nn::nn::se::SeConfig;

/// Returns the details of given weights that no tensor shape shows
/// ([`WEIGHT_DETAILS`](crate::backbones::BackboneFamily::WEIGHT_DETAILS)), for a named backbone of the same family.
pub(super) fn details(
    named: &BackboneConfig,
    given: &BackboneConfig,
) -> Result<Table, ConfigError> {
    if named.family() != given.family() {
        return Ok(Table::new());
    }
    let fields = Table::try_from(given).map_err(|error| unwritable(&error))?;
    let is_detail = |key: &String| named.weight_details().contains(&key.as_str());
    Ok(fields
        .into_iter()
        .filter(|(key, _)| is_detail(key))
        .collect())
}

/// Completes the settings of a named backbone's SE units by those of given weights. Units that the weights have
/// compute as they do there. Units that the weights do not have start as identity, so that the network computes
/// what it computed without them. Keys that `is_set` or that `settings` has stay as they are.
pub(super) fn adopt_units(
    settings: &mut Table,
    named: &BackboneConfig,
    given: &BackboneConfig,
    is_set: impl Fn(&str) -> bool,
) -> Result<(), ConfigError> {
    let Some(own) = named.se().filter(|_| named.family() == given.family()) else {
        return Ok(());
    };
    let fields = |units: &SeConfig| Table::try_from(units).map_err(|error| unwritable(&error));
    let adopted = match given.se() {
        Some(units) => {
            let own = fields(own)?;
            let differs = |(key, value): &(String, Value)| own.get(key) != Some(value);
            fields(units)?.into_iter().filter(differs).collect()
        }
        // With a ReLU before the units no gate gives the outputs of the plain network.
        None if settings.get("after_relu") == Some(&Value::Boolean(true)) => Table::new(),
        None => Table::from_iter([("start".to_string(), Value::String("identity".into()))]),
    };
    for (key, value) in adopted {
        if !is_set(&key) {
            settings.entry(key).or_insert(value);
        }
    }
    Ok(())
}

fn unwritable(error: &toml::ser::Error) -> ConfigError {
    ConfigError::Invalid {
        origin: "the backbone of the weights".to_string(),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::zoo::network;

    fn backbone(name: &str) -> BackboneConfig {
        network(name).unwrap().backbone
    }

    fn adopted(settings: &str, named: &str, given: &BackboneConfig) -> Table {
        let mut settings: Table = toml::from_str(settings).unwrap();
        adopt_units(&mut settings, &backbone(named), given, |key| key == "bias").unwrap();
        settings
    }

    #[test]
    fn units_that_the_weights_do_not_have_start_as_identity_unless_it_is_set() {
        let plain = backbone("resnet50");
        let identity: Table = toml::from_str("start = \"identity\"").unwrap();
        assert_eq!(adopted("", "se-resnet50", &plain), identity);
        for set in ["start = \"paper\"", "after_relu = true"] {
            let settings: Table = toml::from_str(set).unwrap();
            assert_eq!(adopted(set, "se-resnet18", &plain), settings);
        }
        // Nothing is loaded from another family, and a plain network has no units.
        assert!(adopted("", "se-vgg16-bn", &plain).is_empty());
        assert!(adopted("", "resnet50", &plain).is_empty());
    }

    #[test]
    fn units_that_the_weights_have_compute_as_they_do_there() {
        let mut given = backbone("se-resnet18");
        assert!(adopted("", "se-resnet18", &given).is_empty());
        *given.common_mut().se = Some(SeConfig {
            round_to: 8,
            after_relu: true,
            bias: false,
            ..SeConfig::new(4)
        });
        let expected = "reduction = 2\nround_to = 8\nafter_relu = true";
        let expected: Table = toml::from_str(expected).unwrap();
        assert_eq!(adopted("reduction = 2", "se-resnet18", &given), expected);
    }

    #[test]
    fn details_of_weights_are_those_that_no_shape_shows() {
        let given = backbone("senet154");
        let found = details(&backbone("se-resnet50"), &given).unwrap();
        assert_eq!(found["stem_pooling"], Value::String("ceil_mode".into()));
        assert!(!found.contains_key("layers") && !found.contains_key("se"));
        assert!(details(&backbone("vgg16-bn"), &given).unwrap().is_empty());
    }
}
