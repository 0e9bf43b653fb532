//! Backbones: networks from pixels to feature maps, chosen by name.
//!
//! - [`resnet`]: ResNet, ResNeXt, SENet-154 and their SE variants.
//! - [`preact_resnet`]: ResNet-164 and wide residual networks; [`shake_shake`]: Shake-Shake.
//! - [`vgg`], [`bn_inception`], [`inception_resnet_v2`], [`mobilenet`], [`shufflenet`]: the other
//!   networks of the SENet paper, with and without SE units.
//! - [`family`]: the traits that a family implements. The list of families is in this file.
//! - [`zoo`]: published networks by name.
//! - [`summary`]: parameters, multiply-adds and sizes without running a network.
//! - [`validation`]: checks of configurations.
//!
//! CONTRIBUTING.md describes how to add a backbone.

pub mod bn_inception;
pub mod family;
pub mod inception_resnet_v2;
pub mod mobilenet;
pub mod preact_resnet;
pub mod resnet;
pub mod shake_shake;
pub mod shufflenet;
pub mod summary;
pub mod validation;
pub mod vgg;
pub mod zoo;

use std::borrow::Cow;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

pub(crate) use family::PYRAMID_STRIDES;
pub use family::{Backbone, BackboneFamily, Part};
use sedet_nn::kernels::bf16::ComputePrecision;
use sedet_nn::nn::norm::NormConfig;
use sedet_nn::nn::se::SeConfig;
use summary::Tracer;
use validation::BackboneConfigError;

/// The width multiplier of a published network.
const fn full_width() -> f64 {
    1.0
}

/// Returns whether a count is zero; such counts are not written to checkpoints.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes references
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Returns a number of channels at a width multiplier, at least 1.
fn scaled(channels: usize, width_multiplier: f64) -> usize {
    ((channels as f64 * width_multiplier).round() as usize).max(1)
}

/// The layers between a backbone's last feature map and the class scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Height and width that the last feature map is average-pooled to before it is flattened: 1
    /// is global average pooling.
    #[serde(deserialize_with = "at_least_one")]
    pub pooled_size: usize,
    /// Units of the hidden layers, each followed by ReLU and dropout.
    #[serde(default, deserialize_with = "each_at_least_one")]
    pub hidden: Vec<usize>,
    /// Dropout probability in training: after every hidden layer, or before the last layer if there
    /// are none. At least 0, less than 1.
    #[serde(default, deserialize_with = "probability")]
    pub dropout: f64,
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => Err(serde::de::Error::custom("pooled_size must be at least 1")),
        size => Ok(size),
    }
}

fn each_at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    let units = Vec::<usize>::deserialize(deserializer)?;
    if units.contains(&0) {
        return Err(serde::de::Error::custom(
            "hidden layers have at least 1 unit",
        ));
    }
    Ok(units)
}

fn probability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let probability = f64::deserialize(deserializer)?;
    if !(0.0..1.0).contains(&probability) {
        return Err(serde::de::Error::custom(
            "dropout must be at least 0 and less than 1",
        ));
    }
    Ok(probability)
}

impl Default for HeadConfig {
    /// Global average pooling and one linear layer, without dropout.
    fn default() -> Self {
        Self {
            pooled_size: 1,
            hidden: Vec::new(),
            dropout: 0.0,
        }
    }
}

/// The options that all families share.
#[derive(Debug)]
pub struct CommonConfig<'a> {
    /// Multiplies all channel counts.
    pub width_multiplier: &'a mut f64,
    /// The SE units; none in the plain network.
    pub se: &'a mut Option<SeConfig>,
    /// Norm layers: trained, or frozen.
    pub norm: &'a mut NormConfig,
    /// Number of leading parts that keep their weights.
    pub frozen_stages: &'a mut usize,
}

/// Generates [`BackboneConfig`] and [`AnyBackbone`] from the list of families.
macro_rules! families {
    // `$d` is a dollar sign, which the macro generated below needs.
    ($d:tt $($variant:ident $name:literal $title:literal $module:ident::{$config:ident, $network:ident};)+) => {
        /// The configuration of a backbone of any family.
        ///
        /// It is written with the key `family` beside those of the family. Without that key it is
        /// read as a ResNet, the only family that the first checkpoints had. A configuration that
        /// [`validate`](Self::validate) refuses is refused when it is read.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "family", remote = "Self")]
        #[allow(clippy::large_enum_variant)] // one of these exists per network
        pub enum BackboneConfig {
            $(
                #[doc = concat!("See [`", stringify!($module), "`].")]
                #[serde(rename = $name)]
                $variant($module::$config),
            )+
        }

        /// A backbone of any family.
        ///
        /// Some families draw random numbers in the forward pass on an autodiff device: the mixing
        /// coefficients of Shake-Shake, and dropout inside blocks where a configuration asks for
        /// it. They come from the device: a training step that must be repeatable seeds it first
        /// ([`Device::seed`]).
        #[derive(Module, Debug)]
        #[allow(clippy::large_enum_variant)] // one of these exists per network
        pub enum AnyBackbone {
            $(
                #[doc = concat!("See [`", stringify!($module), "`].")]
                $variant($module::$network),
            )+
        }

        $(
            impl From<$module::$config> for BackboneConfig {
                fn from(config: $module::$config) -> Self {
                    Self::$variant(config)
                }
            }
        )+

        /// Evaluates an expression on the value of whichever variant there is.
        macro_rules! each_family {
            ($d value:expr, $d inner:ident => $d result:expr) => {
                match $d value {
                    $(Self::$variant($d inner) => $d result,)+
                }
            };
        }

        impl BackboneConfig {
            /// Builds the network with newly initialized parameters.
            ///
            /// # Panics
            /// For some configurations that [`validate`](Self::validate) refuses.
            pub fn init(&self, device: &Device) -> AnyBackbone {
                match self {
                    $(Self::$variant(config) => AnyBackbone::$variant(config.init(device)),)+
                }
            }

            /// Returns the value of the key `family`.
            pub const fn family(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)+
                }
            }

            /// Returns the published name of the family, for messages.
            pub(crate) const fn family_title(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $title,)+
                }
            }

            /// Returns the configuration as detectors use it. It has the same parameters.
            #[must_use]
            pub fn for_detection(self) -> Self {
                match self {
                    $(Self::$variant(config) => Self::$variant(config.for_detection()),)+
                }
            }

            /// Returns the keys that are imported with weights even where the user names the
            /// backbone; see [`BackboneFamily::WEIGHT_DETAILS`].
            pub(crate) const fn weight_details(&self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant(_) => <$module::$config as BackboneFamily>::WEIGHT_DETAILS,)+
                }
            }
        }

        impl AnyBackbone {
            /// Returns the network for inference; see [`Backbone::folded`].
            #[must_use]
            pub fn folded(self, precision: ComputePrecision) -> Self {
                match self {
                    $(Self::$variant(network) => Self::$variant(network.folded(precision)),)+
                }
            }

            /// Returns whether [`folded`](Self::folded) applies the precision.
            pub const fn has_precision(&self) -> bool {
                match self {
                    $(Self::$variant(_) => <$module::$network as Backbone>::FOLDS,)+
                }
            }

            /// Returns the number of parts.
            pub const fn parts(&self) -> usize {
                match self {
                    $(Self::$variant(_) => <$module::$network as Backbone>::PARTS,)+
                }
            }
        }

        impl JsonSchema for BackboneConfig {
            fn schema_name() -> Cow<'static, str> {
                "BackboneConfig".into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let families = [
                    $(family_schema($name, $title, <$module::$config>::json_schema(generator)),)+
                ];
                json_schema!({
                    "description": "The fields of the backbone, which depend on its family.",
                    "oneOf": families,
                })
            }
        }

        /// Lists the published networks of all families, in the order of the families.
        fn published_networks() -> Vec<zoo::PublishedNetwork> {
            let mut networks = Vec::new();
            $(
                for published in <$module::$config as BackboneFamily>::PUBLISHED {
                    networks.extend(published.networks());
                }
            )+
            networks
        }
    };
}

// The list of families: the variant, the key `family`, the published name, and the module with configuration and network.
families! { $
    Resnet "resnet" "ResNet" resnet::{ResNetConfig, ResNet};
    Vgg "vgg" "VGG" vgg::{VggConfig, Vgg};
    BnInception "bn_inception" "BN-Inception" bn_inception::{BnInceptionConfig, BnInception};
    InceptionResnetV2 "inception_resnet_v2" "Inception-ResNet-v2" inception_resnet_v2::{InceptionResnetV2Config, InceptionResnetV2};
    Mobilenet "mobilenet" "MobileNet" mobilenet::{MobilenetConfig, Mobilenet};
    Shufflenet "shufflenet" "ShuffleNet" shufflenet::{ShufflenetConfig, Shufflenet};
    PreactResnet "preact_resnet" "pre-activation ResNet" preact_resnet::{PreactResNetConfig, PreactResNet};
    ShakeShake "shake_shake" "Shake-Shake" shake_shake::{ShakeShakeConfig, ShakeShake};
}

/// Adds the key `family` to the schema of a family's configuration.
fn family_schema(name: &str, title: &str, schema: Schema) -> Value {
    let mut schema = schema.to_value();
    schema["description"] = title.into();
    schema["properties"]["family"] = serde_json::json!({ "const": name });
    schema
}

// `remote = "Self"` makes the derived code plain functions of the type, which these call.
impl Serialize for BackboneConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for BackboneConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields: Map<String, Value> = Deserialize::deserialize(deserializer)?;
        fields
            .entry("family")
            .or_insert_with(|| Value::from("resnet"));
        let config = Self::deserialize(Value::Object(fields)).map_err(serde::de::Error::custom)?;
        config.validate().map_err(serde::de::Error::custom)?;
        Ok(config)
    }
}

impl BackboneConfig {
    /// Checks what the types do not exclude: counts of zero, SE units at positions that the family
    /// does not have.
    ///
    /// # Errors
    /// See [`BackboneConfigError`].
    pub fn validate(&self) -> Result<(), BackboneConfigError> {
        each_family!(self, config => config.validate())
    }

    /// Returns the parts of the network in forward order.
    pub fn parts(&self) -> Vec<Part> {
        each_family!(self, config => config.parts())
    }

    /// Returns the number of channels of the last feature map.
    pub fn channels(&self) -> usize {
        self.parts().last().map_or(0, |part| part.channels)
    }

    /// Returns the indices of the parts whose outputs are C2..C5: for each of
    /// [`PYRAMID_STRIDES`], the last part of that stride, as in the FPN paper (Lin et al. 2016,
    /// section 3).
    ///
    /// # Errors
    /// [`BackboneConfigError::NoPyramid`] if the network has no feature map of one of the strides.
    pub(crate) fn pyramid_parts(&self) -> Result<[usize; 4], BackboneConfigError> {
        let parts = self.parts();
        let mut found = [0; 4];
        for (found, stride) in found.iter_mut().zip(PYRAMID_STRIDES) {
            *found = parts
                .iter()
                .rposition(|part| part.stride == stride)
                .ok_or(BackboneConfigError::NoPyramid(stride))?;
        }
        Ok(found)
    }

    /// Returns the options that all families share, to change them.
    pub fn common_mut(&mut self) -> CommonConfig<'_> {
        each_family!(self, config => CommonConfig {
            width_multiplier: &mut config.width_multiplier,
            se: &mut config.se,
            norm: &mut config.norm,
            frozen_stages: &mut config.frozen_stages,
        })
    }

    /// Returns the multiplier of all channel counts.
    pub fn width_multiplier(&self) -> f64 {
        each_family!(self, config => config.width_multiplier)
    }

    /// Returns the configuration of the SE units; none in a plain network.
    pub fn se(&self) -> Option<&SeConfig> {
        each_family!(self, config => config.se.as_ref())
    }

    /// Returns the configuration of the norm layers.
    pub fn norm(&self) -> NormConfig {
        each_family!(self, config => config.norm)
    }

    /// Returns the number of leading parts that keep their weights in training.
    pub fn frozen_stages(&self) -> usize {
        each_family!(self, config => config.frozen_stages)
    }

    /// Describes the position of the SE units; none in a plain network.
    pub fn se_position(&self) -> Option<&'static str> {
        self.se()?;
        Some(each_family!(self, config => config.se_position()))
    }

    /// Returns the classification head of the published network.
    pub fn head(&self) -> HeadConfig {
        each_family!(self, config => config.head())
    }
}

impl AnyBackbone {
    /// Computes one part; see [`Backbone::forward_part`].
    pub(crate) fn forward_part(&self, part: usize, x: Tensor<4>) -> Tensor<4> {
        each_family!(self, network => network.forward_part(part, x))
    }

    /// Computes the output of every part; see [`Backbone::part_outputs`].
    pub fn part_outputs(&self, pixels: Tensor<4>, frozen: usize) -> Vec<Tensor<4>> {
        each_family!(self, network => network.part_outputs(pixels, frozen))
    }

    /// Computes the last feature map; see [`Backbone::forward_features`].
    ///
    /// # Shapes
    /// `[batch, 3, height, width]` to `[batch, channels, height', width']`.
    pub fn forward_features(&self, pixels: Tensor<4>, frozen: usize) -> Tensor<4> {
        each_family!(self, network => network.forward_features(pixels, frozen))
    }

    /// Records the operations of all parts.
    pub(crate) fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        each_family!(self, network => network.trace(tracer));
    }

    /// Records the operations of one part; see [`Backbone::trace_part`].
    pub(crate) fn trace_part<'a>(&'a self, part: usize, tracer: &mut Tracer<'a>) {
        each_family!(self, network => network.trace_part(part, tracer));
    }

    /// Lists the layers of each part; see [`Backbone::layers_of_parts`].
    ///
    /// # Errors
    /// The image is too small for the network.
    pub fn layers_of_parts(
        &self,
        size: [usize; 2],
    ) -> Result<Vec<Vec<summary::LayerSummary>>, summary::TooSmall> {
        each_family!(self, network => network.layers_of_parts(size))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_without_a_family_is_read_as_a_resnet() {
        for name in zoo::known_names() {
            let config = zoo::network(&name).unwrap().backbone;
            let value = serde_json::to_value(&config).unwrap();
            assert_eq!(value["family"], config.family(), "{name}");
            let back: BackboneConfig = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(back, config, "{name}");
            let toml = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<BackboneConfig>(&toml).unwrap(), config);
            if let BackboneConfig::Resnet(resnet) = &config {
                let old = serde_json::to_value(resnet).unwrap();
                let read: BackboneConfig = serde_json::from_value(old).unwrap();
                assert_eq!(read, config, "{name}");
            }
        }
    }

    /// A crafted checkpoint may contain any number: each is either refused with an error or gives a
    /// network that can be built.
    #[test]
    fn numbers_that_make_no_network_are_refused_without_a_panic() {
        for name in zoo::known_names() {
            let mut config = zoo::network(&name).unwrap().backbone;
            // So that accepted numbers make small networks.
            *config.common_mut().width_multiplier = 0.5;
            assert_eq!(config.validate(), Ok(()), "{name}");
            let value = serde_json::to_value(&config).unwrap();
            for pointer in numbers_of(&value) {
                for number in [json!(0), json!(u64::MAX)] {
                    let mut crafted = value.clone();
                    *crafted.pointer_mut(&pointer).unwrap() = number.clone();
                    let Ok(crafted) = serde_json::from_value::<BackboneConfig>(crafted) else {
                        continue;
                    };
                    crafted.init(&Device::flex());
                    // Allowed: stages without blocks, and numbers that are no counts.
                    let harmless = ["/norm/", "/residual_scales/", "/dropout", "/frozen_stages"];
                    let harmless = harmless.iter().any(|part| pointer.starts_with(part))
                        || pointer == "/se/round_to" && number == 0
                        || pointer == "/se/reduction" && number != 0
                        || config.family() == "resnet"
                            && pointer.starts_with("/layers/")
                            && number == 0;
                    assert!(harmless, "{name}: {pointer} = {number}");
                }
            }
        }
    }

    /// Returns JSON pointers to all numbers of a value.
    fn numbers_of(value: &Value) -> Vec<String> {
        let below = |key: String, value: &Value| {
            let within = |rest| format!("/{key}{rest}");
            numbers_of(value)
                .into_iter()
                .map(within)
                .collect::<Vec<_>>()
        };
        match value {
            Value::Number(_) => vec![String::new()],
            Value::Array(values) => {
                let indexed = values.iter().enumerate();
                indexed.flat_map(|(i, v)| below(i.to_string(), v)).collect()
            }
            Value::Object(map) => map.iter().flat_map(|(k, v)| below(k.clone(), v)).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_network_has_as_many_parts_as_its_configuration_lists() {
        for name in zoo::known_names() {
            let mut config = zoo::network(&name).unwrap().backbone;
            *config.common_mut().width_multiplier = 0.5;
            let network = config.init(&Device::flex());
            assert_eq!(network.parts(), config.parts().len(), "{name}");
            let layers = network.layers_of_parts([256, 320]).unwrap();
            for (part, layers) in config.parts().iter().zip(layers) {
                // A part without layers passes its input on.
                let Some(last) = layers.last() else { continue };
                let [_, height, width] = last.output;
                // Unpadded convolutions and pooling may lose some rows and columns.
                let about = |size: usize, full: usize| {
                    size <= full.div_ceil(part.stride) && size + 7 >= full / part.stride
                };
                assert!(
                    about(height, 256) && about(width, 320),
                    "{name} {}: {height}x{width} at stride {}",
                    part.name,
                    part.stride
                );
            }
        }
    }

    #[test]
    fn an_unknown_key_or_family_is_refused() {
        let text = r#"{"family": "mobilenet", "widht_multiplier": 0.5}"#;
        let message = serde_json::from_str::<BackboneConfig>(text).unwrap_err();
        assert!(
            message.to_string().contains("widht_multiplier"),
            "{message}"
        );
        for (text, part) in [
            (r#"{"pooled_size": 1, "dropout": 1.0}"#, "less than 1"),
            (r#"{"pooled_size": 0}"#, "at least 1"),
            (r#"{"pooled_size": 1, "hidden": [8, 0]}"#, "at least 1"),
        ] {
            let message = serde_json::from_str::<HeadConfig>(text).unwrap_err();
            assert!(message.to_string().contains(part), "{message}");
        }
        let text = r#"{"family": "alexnet"}"#;
        let message = serde_json::from_str::<BackboneConfig>(text).unwrap_err();
        assert!(message.to_string().contains("alexnet"), "{message}");
    }
}
