//! The small networks of `cifar_networks.safetensors`.

use sedet::backbones::preact_resnet::{PreactBlockKind, PreactResNetConfig};
use sedet::backbones::resnet::ResNetConfig;
use sedet::backbones::shake_shake::{ShakeBlockKind, ShakeShakeConfig};
use sedet::nn::se::SeConfig;

pub fn resnet(se: Option<SeConfig>) -> ResNetConfig {
    ResNetConfig {
        layers: [2, 1, 1, 0],
        base_channels: 4,
        se,
        ..ResNetConfig::cifar(1)
    }
}

pub fn preact_bottleneck(se: Option<SeConfig>) -> PreactResNetConfig {
    PreactResNetConfig {
        layers: [2, 1, 1],
        base_channels: 2,
        se,
        ..PreactResNetConfig::resnet164()
    }
}

pub fn wide(se: Option<SeConfig>) -> PreactResNetConfig {
    PreactResNetConfig {
        block: PreactBlockKind::Basic,
        widen: 2,
        ..preact_bottleneck(se)
    }
}

pub fn shake_preact(se: Option<SeConfig>) -> ShakeShakeConfig {
    ShakeShakeConfig {
        layers: [2, 1, 1],
        stem_channels: 3,
        base_channels: 4,
        se,
        ..ShakeShakeConfig::shake_shake_26_2x96d()
    }
}

pub fn shake_resnext(se: Option<SeConfig>) -> ShakeShakeConfig {
    ShakeShakeConfig {
        block: ShakeBlockKind::Resnext {
            groups: 2,
            width_per_group: 64,
        },
        layers: [2, 1, 1],
        stem_channels: 4,
        base_channels: 2,
        se,
        ..ShakeShakeConfig::shake_even_29_2x4x64d()
    }
}
