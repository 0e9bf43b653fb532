//! The call that builds a network in timm, for exported weights.

use crate::backbones::BackboneConfig;
use crate::backbones::resnet::{BlockKind, ResNetConfig, Shortcut, Stem, StemPooling};
use crate::classification::classifier::ClassifierConfig;
use sedet_nn::nn::se::SeConfig;

/// Channels of the stem in all of timm's ResNets with one convolution there.
const STEM_CHANNELS: usize = 64;

/// The ratio of timm's SE units.
const REDUCTION: usize = 16;

/// The multiple that timm rounds the hidden layers of SE units to.
const ROUNDED_TO: usize = 8;

/// timm's networks without SE units that are named by depth, groups and stem.
const PLAIN: [&str; 19] = [
    "resnet18",
    "resnet18d",
    "resnet26",
    "resnet26d",
    "resnet34",
    "resnet34d",
    "resnet50",
    "resnet50d",
    "resnet101",
    "resnet101d",
    "resnet152",
    "resnet152d",
    "resnext50_32x4d",
    "resnext50d_32x4d",
    "resnext101_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
];

/// timm's networks with SE units.
const WITH_UNITS: [&str; 12] = [
    "seresnet18",
    "seresnet34",
    "seresnet50",
    "seresnet101",
    "seresnet152",
    "seresnet152d",
    "seresnext26d_32x4d",
    "seresnext50_32x4d",
    "seresnext101_32x4d",
    "seresnext101_32x8d",
    "seresnext101d_32x8d",
    "seresnext101_64x4d",
];

/// Returns the Python expression that builds the network in timm, whose `load_state_dict` then accepts the
/// exported weights. It needs `import functools, timm`.
///
/// # Errors
/// The reason why timm has no such network.
pub fn timm_constructor(network: &ClassifierConfig) -> Result<String, String> {
    let BackboneConfig::Resnet(backbone) = &network.backbone else {
        let title = network.backbone.family_title();
        return Err(format!(
            "this network is {title}, of which sedet knows no names in timm"
        ));
    };
    let (name, options) = if backbone.stem_pooling == StemPooling::CeilMode {
        legacy(backbone)?
    } else {
        modern(backbone)?
    };
    let classes = format!("num_classes={}", network.num_classes);
    let arguments: Vec<String> = [format!("\"{name}\""), classes]
        .into_iter()
        .chain(options)
        .collect();
    Ok(format!("timm.create_model({})", arguments.join(", ")))
}

/// Returns the usual number in the name of a network with these blocks.
fn depth(backbone: &ResNetConfig) -> Option<usize> {
    Some(match (backbone.block, backbone.layers) {
        (BlockKind::Basic, [2, 2, 2, 2]) => 18,
        (BlockKind::Basic, [3, 4, 6, 3]) => 34,
        (BlockKind::Basic, _) => return None,
        (_, [2, 2, 2, 2]) => 26,
        (_, [3, 4, 6, 3]) => 50,
        (_, [3, 4, 23, 3]) => 101,
        (_, [3, 8, 36, 3]) => 152,
        _ => return None,
    })
}

fn check_width(backbone: &ResNetConfig) -> Result<(), String> {
    let channels = backbone.base_channels as f64 * backbone.width_multiplier;
    if channels == STEM_CHANNELS as f64 {
        Ok(())
    } else {
        Err(format!(
            "its networks have {STEM_CHANNELS} channels after the stem, this one has {channels}"
        ))
    }
}

/// Returns a name of `timm/models/resnet.py` and the arguments in which the network differs.
fn modern(backbone: &ResNetConfig) -> Result<(String, Vec<String>), String> {
    check_width(backbone)?;
    if backbone.shortcut == Shortcut::Conv3x3 || backbone.block == BlockKind::WideBottleneck {
        return Err("its networks with 3x3 shortcuts or wide bottlenecks are other ones".into());
    }
    let plain = plain_name(backbone).filter(|name| PLAIN.contains(&name.as_str()));
    let units = backbone.se.as_ref();
    let with_units = plain_name(backbone)
        .map(|name| format!("se{name}"))
        .filter(|name| units.is_some() && WITH_UNITS.contains(&name.as_str()));
    let (name, mut options) = match (&with_units, plain) {
        (Some(name), _) => (name.clone(), Vec::new()),
        (None, Some(plain)) => (plain, Vec::new()),
        (None, None) => {
            let base = match backbone.block {
                BlockKind::Basic => "resnet18",
                _ => "resnet50",
            };
            (base.to_string(), structure(backbone)?)
        }
    };
    if let Some(units) = units {
        let attention = attention(units, backbone)?;
        // The networks that have units have timm's usual ones.
        if with_units.is_none() || attention != "\"se\"" {
            options.push(format!("block_args=dict(attn_layer={attention})"));
        }
    }
    Ok((name, options))
}

/// Returns the name of the network without SE units, whether or not timm has it.
fn plain_name(backbone: &ResNetConfig) -> Option<String> {
    if backbone.stem_pooling != StemPooling::Padded {
        return None;
    }
    let stem = match (backbone.stem, backbone.shortcut) {
        (Stem::Conv7x7, Shortcut::Conv1x1) => "",
        (
            Stem::Deep {
                channels: [32, 32, 64],
            },
            Shortcut::AveragePool,
        ) => "d",
        _ => return None,
    };
    let depth = depth(backbone)?;
    match (backbone.groups, backbone.width_per_group) {
        (1, 64) => Some(format!("resnet{depth}{stem}")),
        (1, 128) if stem.is_empty() => Some(format!("wide_resnet{depth}_2")),
        (1, _) => None,
        (groups, width) => Some(format!("resnext{depth}{stem}_{groups}x{width}d")),
    }
}

/// Returns the arguments that describe a network without a name.
fn structure(backbone: &ResNetConfig) -> Result<Vec<String>, String> {
    let mut options = vec![format!("layers={:?}", backbone.layers)];
    if backbone.groups != 1 {
        options.push(format!("cardinality={}", backbone.groups));
    }
    if backbone.block != BlockKind::Basic && backbone.width_per_group != 64 {
        options.push(format!("base_width={}", backbone.width_per_group));
    }
    if let Stem::Deep { channels } = backbone.stem {
        let kind = match channels {
            [first, width, last] if last != 2 * width || width == 0 || first == 0 => None,
            [first, width, _] if first == width => Some(("deep", width)),
            [first, width, _] if first == width / 4 * 3 => Some(("deep_tiered", width)),
            _ => None,
        };
        let (kind, width) =
            kind.ok_or_else(|| format!("its stems have other channels than {channels:?}"))?;
        options.push(format!("stem_type=\"{kind}\", stem_width={width}"));
    }
    if backbone.shortcut == Shortcut::AveragePool {
        options.push("avg_down=True".into());
    }
    if backbone.stem_pooling == StemPooling::Conv3x3 {
        options.push("replace_stem_pool=True".into());
    }
    Ok(options)
}

/// Returns timm's SE unit with the hidden layers of a network.
fn attention(units: &SeConfig, backbone: &ResNetConfig) -> Result<String, String> {
    let has_hidden_layers_of = |reduction: usize, step: usize| {
        let other = SeConfig {
            round_to: step,
            ..SeConfig::new(reduction)
        };
        let mut channels = backbone.stage_channels().into_iter();
        channels.all(|channels| units.hidden(channels) == other.hidden(channels))
    };
    if has_hidden_layers_of(REDUCTION, ROUNDED_TO) {
        return Ok("\"se\"".into());
    }
    let step = units.round_to.max(1);
    // Without rounding, timm rounds to the nearest integer.
    let is_whole = |channels: usize| step > 1 || channels.is_multiple_of(units.reduction);
    if !backbone.stage_channels().into_iter().all(is_whole) {
        return Err(format!(
            "its SE units round hidden layers to the nearest integer, which differs for a reduction of {}",
            units.reduction
        ));
    }
    Ok(format!(
        "functools.partial(timm.layers.SEModule, rd_ratio=1/{}, rd_divisor={step})",
        units.reduction
    ))
}

/// Returns a name of `timm/models/senet.py` and the arguments in which the network differs.
fn legacy(backbone: &ResNetConfig) -> Result<(String, Vec<String>), String> {
    let senet154 = Stem::Deep {
        channels: [64, 64, 128],
    };
    let depth = depth(backbone);
    let (base, name) = match (backbone.block, backbone.groups, backbone.stem) {
        (BlockKind::Basic, 1, Stem::Conv7x7) => ("legacy_seresnet18", "legacy_seresnet{}"),
        (BlockKind::Bottleneck, 1, Stem::Conv7x7) => ("legacy_seresnet50", "legacy_seresnet{}"),
        (BlockKind::Bottleneck, 32, Stem::Conv7x7) if backbone.width_per_group == 4 => {
            ("legacy_seresnext50_32x4d", "legacy_seresnext{}_32x4d")
        }
        (BlockKind::WideBottleneck, 64, stem) if stem == senet154 => {
            ("legacy_senet154", "legacy_senet154")
        }
        _ => return Err("its legacy networks have other groups or another stem".into()),
    };
    check_width(backbone)?;
    let units = backbone.se.as_ref();
    let reduction = units.map_or(REDUCTION, |units| units.reduction);
    if units.is_some_and(|units| units.round_to > 1) {
        return Err("the SE units of its legacy networks are not rounded".into());
    }
    // ResNeXt-26 and -50, -101; ResNet-50, -101, -152: the names that exist.
    let published = match (backbone.block, backbone.groups, depth) {
        (BlockKind::Basic, _, Some(depth @ (18 | 34)))
        | (BlockKind::Bottleneck, 1, Some(depth @ (50 | 101 | 152)))
        | (BlockKind::Bottleneck, 32, Some(depth @ (26 | 50 | 101)))
        | (BlockKind::WideBottleneck, _, Some(depth @ 152)) => Some(depth),
        _ => None,
    };
    let mut options = Vec::new();
    let name = match published {
        Some(depth) => name.replace("{}", &depth.to_string()),
        None => {
            options.push(format!("layers={:?}", backbone.layers));
            base.to_string()
        }
    };
    if reduction != REDUCTION {
        options.push(format!("reduction={reduction}"));
    }
    Ok((name, options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::resnet::StridePlace;
    use crate::backbones::zoo::network;

    fn of(backbone: ResNetConfig) -> Result<String, String> {
        let call = timm_constructor(&ClassifierConfig::new(backbone.into(), 7))?;
        let rest = call.strip_prefix("timm.create_model(").unwrap();
        Ok(rest
            .strip_suffix(')')
            .unwrap()
            .replace(", num_classes=7", ""))
    }

    fn published(name: &str) -> ResNetConfig {
        let BackboneConfig::Resnet(found) = network(name).unwrap().backbone else {
            panic!("{name} is no ResNet");
        };
        found
    }

    // tests/oracle/timm_constructors.py builds these and others in timm, and loads exported files.
    #[test]
    fn published_networks_have_their_names_in_timm() {
        for (name, expected) in [
            ("resnet50", "\"resnet50\""),
            ("se-resnet50", "\"seresnet50\""),
            ("resnext101-32x4d", "\"resnext101_32x4d\""),
            ("se-resnext50-32x4d", "\"seresnext50_32x4d\""),
            (
                "se-resnet18",
                "\"seresnet18\", block_args=dict(attn_layer=functools.partial(timm.layers.SEModule, \
                 rd_ratio=1/16, rd_divisor=1))",
            ),
        ] {
            assert_eq!(of(published(name)).as_deref(), Ok(expected), "{name}");
        }
    }

    #[test]
    fn networks_without_a_name_are_described_by_arguments() {
        let deep = ResNetConfig {
            stem: Stem::Deep {
                channels: [24, 32, 64],
            },
            shortcut: Shortcut::AveragePool,
            ..ResNetConfig::new(BlockKind::Bottleneck, [1, 2, 1, 1])
        };
        let expected = "\"resnet50\", layers=[1, 2, 1, 1], stem_type=\"deep_tiered\", stem_width=32, avg_down=True";
        assert_eq!(of(deep.clone()).as_deref(), Ok(expected));
        let units = ResNetConfig {
            se: Some(SeConfig::new(4)),
            ..deep
        };
        let text = of(units).unwrap();
        assert!(text.ends_with("rd_ratio=1/4, rd_divisor=1))"), "{text}");
        let legacy = ResNetConfig {
            stem_pooling: StemPooling::CeilMode,
            stride_place: StridePlace::Conv1x1,
            ..published("se-resnet101")
        };
        assert_eq!(of(legacy.clone()).as_deref(), Ok("\"legacy_seresnet101\""));
        let shallow = ResNetConfig {
            layers: [1, 1, 1, 1],
            ..legacy
        };
        let expected = "\"legacy_seresnet50\", layers=[1, 1, 1, 1]";
        assert_eq!(of(shallow).as_deref(), Ok(expected));
    }

    #[test]
    fn a_narrow_network_has_no_counterpart_in_timm() {
        let narrow = ResNetConfig {
            width_multiplier: 0.25,
            ..published("resnet18")
        };
        let reason = of(narrow).unwrap_err();
        assert!(
            reason.contains("64 channels") && reason.contains("16"),
            "{reason}"
        );
        let other = network("mobilenet-v1").unwrap().backbone;
        let reason = timm_constructor(&ClassifierConfig::new(other, 7)).unwrap_err();
        assert!(reason.contains("MobileNet"), "{reason}");
    }
}
