//! Backbones: networks from pixels to feature maps, chosen by name.
//!
//! - [`resnet`]: ResNet, ResNeXt, SENet-154 and their SE forms, one module by configuration.
//! - [`preact_resnet`]: ResNet-164 and wide residual networks. - [`shake_shake`]: Shake-Shake.
//! - [`vgg`], [`bn_inception`], [`inception_resnet_v2`], [`mobilenet`], [`shufflenet`]: the other
//!   networks of the SENet paper, plain and with SE units.
//! - [`zoo`]: the one table from a name to a configuration.
//! - [`summary`]: parameters, multiplications and sizes without running a network.
//! - [`validation`]: which configurations can't be.

pub mod bn_inception;
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

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use bn_inception::{BnInception, BnInceptionConfig};
use inception_resnet_v2::{InceptionResnetV2, InceptionResnetV2Config};
use mobilenet::{Mobilenet, MobilenetConfig};
use preact_resnet::{PreactResNet, PreactResNetConfig};
use resnet::{BlockKind, ResNet, ResNetConfig};
use sedet_nn::nn::norm::NormConfig;
use sedet_nn::nn::se::{SeConfig, SePosition};
use shake_shake::{ShakeShake, ShakeShakeConfig};
use shufflenet::{Shufflenet, ShufflenetConfig};
use summary::Tracer;
use validation::BackboneConfigError;
use vgg::{Vgg, VggConfig};

/// The published width of a network.
const fn full_width() -> f64 {
    1.0
}

/// So many channels at a width multiplier, at least one.
fn scaled(channels: usize, width_multiplier: f64) -> usize {
    ((channels as f64 * width_multiplier).round() as usize).max(1)
}

/// What stands between a backbone's last map and the class scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Side of the map that the last map is averaged to before it is flattened: 1 is the mean of
    /// each channel.
    #[serde(deserialize_with = "at_least_one")]
    pub pooled_size: usize,
    /// Units of hidden layers, each with ReLU and dropout.
    #[serde(default, deserialize_with = "each_at_least_one")]
    pub hidden: Vec<usize>,
    /// Share of the values that are set to zero while training: after every hidden layer, or
    /// before the last layer when there is none. At least 0, less than 1.
    #[serde(default, deserialize_with = "share")]
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
    match units.contains(&0) {
        true => Err(serde::de::Error::custom(
            "hidden layers have at least 1 unit",
        )),
        false => Ok(units),
    }
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    match (0.0..1.0).contains(&share) {
        true => Ok(share),
        false => Err(serde::de::Error::custom(
            "dropout must be at least 0 and less than 1",
        )),
    }
}

impl Default for HeadConfig {
    /// The mean of each channel, one linear layer, no dropout.
    fn default() -> Self {
        Self {
            pooled_size: 1,
            hidden: Vec::new(),
            dropout: 0.0,
        }
    }
}

/// Any backbone's configuration. Written with the key `family` beside those of the family; without
/// that key (checkpoints from before there were others) it is a ResNet's. A written one that
/// [`validate`](Self::validate) refuses is refused in reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case", remote = "Self")]
#[allow(clippy::large_enum_variant)] // one of these exists per network
pub enum BackboneConfig {
    /// ResNet, ResNeXt, SENet-154.
    Resnet(ResNetConfig),
    /// VGG with batch norm.
    Vgg(VggConfig),
    /// BN-Inception.
    BnInception(BnInceptionConfig),
    /// Inception-ResNet-v2.
    InceptionResnetV2(InceptionResnetV2Config),
    /// MobileNet v1.
    Mobilenet(MobilenetConfig),
    /// ShuffleNet v1.
    Shufflenet(ShufflenetConfig),
    /// ResNet-164 and wide residual networks.
    PreactResnet(PreactResNetConfig),
    /// Shake-Shake and Shake-Even.
    ShakeShake(ShakeShakeConfig),
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

/// What all families let one choose.
#[derive(Debug)]
pub struct CommonConfig<'a> {
    /// Multiplies all channel counts.
    pub width_multiplier: &'a mut f64,
    /// The SE units; none makes the plain network.
    pub se: &'a mut Option<SeConfig>,
    /// Norm layers, trained or frozen.
    pub norm: &'a mut NormConfig,
}

/// Does the same with whichever variant there is.
macro_rules! each_family {
    ($value:expr, $inner:ident => $result:expr) => {
        match $value {
            Self::Resnet($inner) => $result,
            Self::Vgg($inner) => $result,
            Self::BnInception($inner) => $result,
            Self::InceptionResnetV2($inner) => $result,
            Self::Mobilenet($inner) => $result,
            Self::Shufflenet($inner) => $result,
            Self::PreactResnet($inner) => $result,
            Self::ShakeShake($inner) => $result,
        }
    };
}

impl BackboneConfig {
    /// The network with fresh weights on a device.
    pub fn init(&self, device: &Device) -> Backbone {
        match self {
            Self::Resnet(config) => Backbone::Resnet(config.init(device)),
            Self::Vgg(config) => Backbone::Vgg(config.init(device)),
            Self::BnInception(config) => Backbone::BnInception(config.init(device)),
            Self::InceptionResnetV2(config) => Backbone::InceptionResnetV2(config.init(device)),
            Self::Mobilenet(config) => Backbone::Mobilenet(config.init(device)),
            Self::Shufflenet(config) => Backbone::Shufflenet(config.init(device)),
            Self::PreactResnet(config) => Backbone::PreactResnet(config.init(device)),
            Self::ShakeShake(config) => Backbone::ShakeShake(config.init(device)),
        }
    }

    /// Channels of the last map.
    pub fn channels(&self) -> usize {
        match self {
            Self::Resnet(config) => {
                let [.., channels] = config.stage_channels();
                channels
            }
            Self::Vgg(config) => config.channels(),
            Self::BnInception(config) => config.channels(),
            Self::InceptionResnetV2(config) => config.channels(),
            Self::Mobilenet(config) => config.channels(),
            Self::Shufflenet(config) => config.channels(),
            Self::PreactResnet(config) => config.channels(),
            Self::ShakeShake(config) => config.channels(),
        }
    }

    /// What all families let one choose, to change it.
    pub fn common_mut(&mut self) -> CommonConfig<'_> {
        each_family!(self, config => CommonConfig {
            width_multiplier: &mut config.width_multiplier,
            se: &mut config.se,
            norm: &mut config.norm,
        })
    }

    /// The SE units; none in a plain network.
    pub fn se(&self) -> Option<&SeConfig> {
        each_family!(self, config => config.se.as_ref())
    }

    /// The key `family` of its written form.
    pub const fn family(&self) -> &'static str {
        match self {
            Self::Resnet(_) => "resnet",
            Self::Vgg(_) => "vgg",
            Self::BnInception(_) => "bn_inception",
            Self::InceptionResnetV2(_) => "inception_resnet_v2",
            Self::Mobilenet(_) => "mobilenet",
            Self::Shufflenet(_) => "shufflenet",
            Self::PreactResnet(_) => "preact_resnet",
            Self::ShakeShake(_) => "shake_shake",
        }
    }

    /// Check what no type excludes: counts of nothing, SE units that this family has no place for.
    /// [`init`](Self::init) may panic for a configuration that is refused here.
    ///
    /// # Errors
    /// See [`BackboneConfigError`].
    pub fn validate(&self) -> Result<(), BackboneConfigError> {
        each_family!(self, config => config.validate())
    }

    /// Where the SE units sit, for people; none in a plain network.
    pub fn se_place(&self) -> Option<&'static str> {
        self.se().map(|se| match self {
            Self::Resnet(config) => match (se.position, config.block) {
                (SePosition::Standard, _) if se.after_relu => {
                    "end of each residual branch after a ReLU"
                }
                (SePosition::Standard, _) => "end of each residual branch",
                (SePosition::Pre, _) => "start of each residual branch",
                (SePosition::Post, _) => "after the ReLU of each block's sum",
                (SePosition::Identity, _) => "end of each shortcut",
                (SePosition::Conv3x3, BlockKind::Basic) => {
                    "between the two convolutions of each residual branch"
                }
                (SePosition::Conv3x3, _) => "after the 3x3 convolution of each residual branch",
            },
            Self::Vgg(_) => "after each convolution's ReLU",
            Self::BnInception(_) => "output of each Inception module",
            Self::InceptionResnetV2(_) => "end of each residual branch before its scaling",
            Self::Mobilenet(_) => "after each pointwise convolution's ReLU",
            Self::Shufflenet(_) => "end of each unit's branch",
            Self::PreactResnet(_) => "end of each residual branch",
            Self::ShakeShake(_) => "mixture of each block's two branches",
        })
    }

    /// The head of the published network: VGG's two hidden layers on a map of 7x7; dropout of 0.5
    /// in VGG, 0.2 in SENet-154 (appendix of the SENet paper) and Inception-ResNet-v2 (keep 0.8,
    /// figure 9 of its paper). The others average the map and have one linear layer.
    pub fn head(&self) -> HeadConfig {
        match self {
            Self::Vgg(config) => HeadConfig {
                pooled_size: 7,
                hidden: vec![config.hidden_units(); 2],
                dropout: 0.5,
            },
            Self::Resnet(config) if config.block == BlockKind::WideBottleneck => HeadConfig {
                dropout: 0.2,
                ..HeadConfig::default()
            },
            Self::InceptionResnetV2(_) => HeadConfig {
                dropout: 0.2,
                ..HeadConfig::default()
            },
            _ => HeadConfig::default(),
        }
    }
}

/// Any backbone.
///
/// Some have random numbers in their forward pass on an autodiff device: the shares of Shake-Shake's
/// branches, and dropout inside of blocks where a configuration asks for it. They are drawn from the
/// device: a trainer seeds it before each step ([`Device::seed`]), so that the step can be repeated.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one of these exists per network
pub enum Backbone {
    /// ResNet, ResNeXt, SENet-154.
    Resnet(ResNet),
    /// VGG with batch norm.
    Vgg(Vgg),
    /// BN-Inception.
    BnInception(BnInception),
    /// Inception-ResNet-v2.
    InceptionResnetV2(InceptionResnetV2),
    /// MobileNet v1.
    Mobilenet(Mobilenet),
    /// ShuffleNet v1.
    Shufflenet(Shufflenet),
    /// ResNet-164 and wide residual networks.
    PreactResnet(PreactResNet),
    /// Shake-Shake and Shake-Even.
    ShakeShake(ShakeShake),
}

impl Backbone {
    /// Pixels `[batch, 3, height, width]` to the last map, `[batch, channels, height', width']`.
    pub fn forward_features(&self, pixels: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Resnet(network) => {
                let [.., last] = network.forward(pixels);
                last
            }
            Self::Vgg(network) => network.forward(pixels),
            Self::BnInception(network) => network.forward(pixels),
            Self::InceptionResnetV2(network) => network.forward(pixels),
            Self::Mobilenet(network) => network.forward(pixels),
            Self::Shufflenet(network) => network.forward(pixels),
            Self::PreactResnet(network) => network.forward(pixels),
            Self::ShakeShake(network) => network.forward(pixels),
        }
    }

    /// The network for inference: norms are inside the convolutions before them. The other families
    /// than these multiply the scales in as they compute, which costs a pass over the weights.
    pub fn folded(self) -> Self {
        match self {
            Self::Resnet(network) => Self::Resnet(network.folded()),
            Self::Vgg(network) => Self::Vgg(network.folded()),
            Self::Mobilenet(network) => Self::Mobilenet(network.folded()),
            Self::Shufflenet(network) => Self::Shufflenet(network.folded()),
            other => other,
        }
    }

    /// Note the layers.
    pub(crate) fn trace(&self, tracer: &mut Tracer) {
        each_family!(self, network => network.trace(tracer));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_names_its_family_and_without_one_is_a_resnet_s() {
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

    /// As it may stand in a crafted checkpoint: whatever number of a configuration is made zero, or
    /// larger than any network, an error says so, or a network comes out.
    #[test]
    fn numbers_that_make_no_network_are_refused_and_never_a_panic() {
        for name in zoo::known_names() {
            let mut config = zoo::network(&name).unwrap().backbone;
            // Numbers that are accepted make small networks.
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
                    // What may be zero or large: stages without blocks, and what is no count.
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

    /// Where numbers stand in a written configuration, as JSON pointers.
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
