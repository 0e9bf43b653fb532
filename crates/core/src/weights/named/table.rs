//! The table of named weights.

use super::{EvaluationInput, NamedWeights, PublishedResult, Publisher, Source};
use crate::weights::layouts::Layout;

/// Releases of timm's repository, which bear its owner's former name or its present one.
const WEIGHTS: &str = "rwightman/pytorch-image-models/releases/download/v0.1-weights";
const TPU_WEIGHTS: &str = "rwightman/pytorch-image-models/releases/download/v0.1-tpu-weights";
const CADENE: &str = "rwightman/pytorch-image-models/releases/download/v0.1-cadene";
const RSB_WEIGHTS: &str = "huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights";
const GLUON: &str = "rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1";

/// The published weights that can be named.
///
/// Origin of the facts: torchvision's `WeightsEnum` classes (0.27); timm's `default_cfgs` (1.0.31), with
/// the size and crop that its `results/results-imagenet.csv` states beside the accuracy; detectron2's
/// `MODEL_ZOO.md`. A test compares them with the installed packages where these have them.
pub(super) const TABLE: [NamedWeights; 42] = [
    NamedWeights {
        name: "fasterrcnn-resnet50-fpn-coco",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth")],
        megabytes: 168,
        layout: Layout::TorchvisionDetectorV1,
        input: None,
        result: PublishedResult::BoxAp(37.0),
    },
    NamedWeights {
        name: "fasterrcnn-resnet50-fpn-v2-coco",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch(
            "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        )],
        megabytes: 175,
        layout: Layout::TorchvisionDetector,
        input: None,
        result: PublishedResult::BoxAp(46.7),
    },
    NamedWeights {
        name: "detectron2-r50-fpn-1x",
        publisher: Publisher::Detectron2,
        sources: &[Source::detectron2(
            "faster_rcnn_R_50_FPN_1x/137257794",
            "model_final_b275ba.pkl",
        )],
        megabytes: 167,
        layout: Layout::Detectron2,
        input: None,
        result: PublishedResult::BoxAp(37.9),
    },
    NamedWeights {
        name: "detectron2-r50-fpn-3x",
        publisher: Publisher::Detectron2,
        sources: &[Source::detectron2(
            "faster_rcnn_R_50_FPN_3x/137849458",
            "model_final_280758.pkl",
        )],
        megabytes: 167,
        layout: Layout::Detectron2,
        input: None,
        result: PublishedResult::BoxAp(40.2),
    },
    NamedWeights {
        name: "detectron2-r101-fpn-3x",
        publisher: Publisher::Detectron2,
        sources: &[Source::detectron2(
            "faster_rcnn_R_101_FPN_3x/137851257",
            "model_final_f6e8b1.pkl",
        )],
        megabytes: 243,
        layout: Layout::Detectron2,
        input: None,
        result: PublishedResult::BoxAp(42.0),
    },
    NamedWeights {
        name: "detectron2-x101-fpn-3x",
        publisher: Publisher::Detectron2,
        sources: &[Source::detectron2(
            "faster_rcnn_X_101_32x8d_FPN_3x/139173657",
            "model_final_68b088.pkl",
        )],
        megabytes: 418,
        layout: Layout::Detectron2,
        input: None,
        result: PublishedResult::BoxAp(43.0),
    },
    NamedWeights {
        name: "resnet18-imagenet-v1",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnet18-f37072fd.pth")],
        megabytes: 47,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 69.758,
            top5: 89.078,
        },
    },
    NamedWeights {
        name: "resnet34-imagenet-v1",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnet34-b627a593.pth")],
        megabytes: 87,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 73.314,
            top5: 91.42,
        },
    },
    NamedWeights {
        name: "resnet50-imagenet-v1",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnet50-0676ba61.pth")],
        megabytes: 103,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 76.13,
            top5: 92.862,
        },
    },
    NamedWeights {
        name: "resnet50-imagenet-v2",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnet50-11ad3fa6.pth")],
        megabytes: 103,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(232, 224)),
        result: PublishedResult::Accuracy {
            top1: 80.858,
            top5: 95.434,
        },
    },
    NamedWeights {
        name: "resnet101-imagenet-v1",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnet101-63fe2227.pth")],
        megabytes: 179,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 77.374,
            top5: 93.546,
        },
    },
    NamedWeights {
        name: "resnet101-imagenet-v2",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnet101-cd907fc2.pth")],
        megabytes: 179,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(232, 224)),
        result: PublishedResult::Accuracy {
            top1: 81.886,
            top5: 95.78,
        },
    },
    NamedWeights {
        name: "resnet152-imagenet-v1",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnet152-394f9c45.pth")],
        megabytes: 242,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 78.312,
            top5: 94.046,
        },
    },
    NamedWeights {
        name: "resnet152-imagenet-v2",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnet152-f82ba261.pth")],
        megabytes: 242,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(232, 224)),
        result: PublishedResult::Accuracy {
            top1: 82.284,
            top5: 96.002,
        },
    },
    NamedWeights {
        name: "resnext50-32x4d-imagenet-v1",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnext50_32x4d-7cdf4587.pth")],
        megabytes: 100,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 77.618,
            top5: 93.698,
        },
    },
    NamedWeights {
        name: "resnext50-32x4d-imagenet-v2",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnext50_32x4d-1a0047aa.pth")],
        megabytes: 100,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(232, 224)),
        result: PublishedResult::Accuracy {
            top1: 81.198,
            top5: 95.34,
        },
    },
    NamedWeights {
        name: "resnext101-32x8d-imagenet-v1",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnext101_32x8d-8ba56ff5.pth")],
        megabytes: 356,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 79.312,
            top5: 94.526,
        },
    },
    NamedWeights {
        name: "resnext101-32x8d-imagenet-v2",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnext101_32x8d-110c445d.pth")],
        megabytes: 356,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(232, 224)),
        result: PublishedResult::Accuracy {
            top1: 82.834,
            top5: 96.228,
        },
    },
    NamedWeights {
        name: "resnext101-64x4d-imagenet-v1",
        publisher: Publisher::Torchvision,
        sources: &[Source::pytorch("resnext101_64x4d-173b62eb.pth")],
        megabytes: 335,
        layout: Layout::Torchvision,
        input: Some(EvaluationInput::bilinear(232, 224)),
        result: PublishedResult::Accuracy {
            top1: 83.246,
            top5: 96.454,
        },
    },
    NamedWeights {
        name: "seresnet50-a1",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(RSB_WEIGHTS, "seresnet50_a1_0-ffa00869.pth"),
            Source::hugging_face("seresnet50.a1_in1k"),
        ],
        megabytes: 113,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(288, 288)),
        result: PublishedResult::Accuracy {
            top1: 81.102,
            top5: 95.12,
        },
    },
    NamedWeights {
        name: "seresnet50-a2",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(RSB_WEIGHTS, "seresnet50_a2_0-850de0d9.pth"),
            Source::hugging_face("seresnet50.a2_in1k"),
        ],
        megabytes: 113,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(288, 288)),
        result: PublishedResult::Accuracy {
            top1: 81.106,
            top5: 95.222,
        },
    },
    NamedWeights {
        name: "seresnet50-a3",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(RSB_WEIGHTS, "seresnet50_a3_0-317ecd56.pth"),
            Source::hugging_face("seresnet50.a3_in1k"),
        ],
        megabytes: 113,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(235, 224)),
        result: PublishedResult::Accuracy {
            top1: 77.028,
            top5: 93.074,
        },
    },
    NamedWeights {
        name: "seresnet50-ra2",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(WEIGHTS, "seresnet50_ra_224-8efdb4bb.pth"),
            Source::hugging_face("seresnet50.ra2_in1k"),
        ],
        megabytes: 113,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(303, 288)),
        result: PublishedResult::Accuracy {
            top1: 81.284,
            top5: 95.652,
        },
    },
    NamedWeights {
        name: "seresnet152d-ra2",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(WEIGHTS, "seresnet152d_ra2-04464dd2.pth"),
            Source::hugging_face("seresnet152d.ra2_in1k"),
        ],
        megabytes: 268,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(320, 320)),
        result: PublishedResult::Accuracy {
            top1: 84.36,
            top5: 97.04,
        },
    },
    NamedWeights {
        name: "seresnext26d-32x4d-bt",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(WEIGHTS, "seresnext26d_32x4d-80fa48a3.pth"),
            Source::hugging_face("seresnext26d_32x4d.bt_in1k"),
        ],
        megabytes: 67,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(303, 288)),
        result: PublishedResult::Accuracy {
            top1: 78.814,
            top5: 94.24,
        },
    },
    NamedWeights {
        name: "seresnext26t-32x4d-bt",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(WEIGHTS, "seresnext26tn_32x4d-569cb627.pth"),
            Source::hugging_face("seresnext26t_32x4d.bt_in1k"),
        ],
        megabytes: 67,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(303, 288)),
        result: PublishedResult::Accuracy {
            top1: 78.744,
            top5: 94.312,
        },
    },
    NamedWeights {
        name: "seresnext50-32x4d-gluon",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(GLUON, "gluon_seresnext50_32x4d-90cf2d6e.pth"),
            Source::hugging_face("seresnext50_32x4d.gluon_in1k"),
        ],
        megabytes: 111,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 79.91,
            top5: 94.824,
        },
    },
    NamedWeights {
        name: "seresnext50-32x4d-racm",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(WEIGHTS, "seresnext50_32x4d_racm-a304a460.pth"),
            Source::hugging_face("seresnext50_32x4d.racm_in1k"),
        ],
        megabytes: 111,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(303, 288)),
        result: PublishedResult::Accuracy {
            top1: 82.196,
            top5: 96.148,
        },
    },
    NamedWeights {
        name: "seresnext101-32x4d-gluon",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(GLUON, "gluon_seresnext101_32x4d-cf52900d.pth"),
            Source::hugging_face("seresnext101_32x4d.gluon_in1k"),
        ],
        megabytes: 197,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 80.892,
            top5: 95.296,
        },
    },
    NamedWeights {
        name: "seresnext101-32x8d-ah",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(TPU_WEIGHTS, "seresnext101_32x8d_ah-e6bc4c0a.pth"),
            Source::hugging_face("seresnext101_32x8d.ah_in1k"),
        ],
        megabytes: 375,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(288, 288)),
        result: PublishedResult::Accuracy {
            top1: 84.186,
            top5: 96.874,
        },
    },
    NamedWeights {
        name: "seresnext101-64x4d-gluon",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(GLUON, "gluon_seresnext101_64x4d-f9926f93.pth"),
            Source::hugging_face("seresnext101_64x4d.gluon_in1k"),
        ],
        megabytes: 354,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 80.896,
            top5: 95.296,
        },
    },
    NamedWeights {
        name: "seresnext101d-32x8d-ah",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(TPU_WEIGHTS, "seresnext101d_32x8d_ah-191d7b94.pth"),
            Source::hugging_face("seresnext101d_32x8d.ah_in1k"),
        ],
        megabytes: 375,
        layout: Layout::Timm,
        input: Some(EvaluationInput::bicubic(288, 288)),
        result: PublishedResult::Accuracy {
            top1: 84.358,
            top5: 96.92,
        },
    },
    NamedWeights {
        name: "seresnextaa101d-32x8d-ah",
        publisher: Publisher::Timm,
        sources: &[
            Source::github(TPU_WEIGHTS, "seresnextaa101d_32x8d_ah-83c8ae12.pth"),
            Source::hugging_face("seresnextaa101d_32x8d.ah_in1k"),
        ],
        megabytes: 375,
        layout: Layout::TimmAa,
        input: Some(EvaluationInput::bicubic(288, 288)),
        result: PublishedResult::Accuracy {
            top1: 84.566,
            top5: 97.076,
        },
    },
    NamedWeights {
        name: "legacy-seresnet18",
        publisher: Publisher::Timm,
        sources: &[Source::github(WEIGHTS, "seresnet18-4bb0ce65.pth")],
        megabytes: 47,
        layout: Layout::Cadene,
        input: Some(EvaluationInput::bicubic(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 71.766,
            top5: 90.332,
        },
    },
    NamedWeights {
        name: "legacy-seresnet34",
        publisher: Publisher::Timm,
        sources: &[Source::github(WEIGHTS, "seresnet34-a4004e63.pth")],
        megabytes: 88,
        layout: Layout::Cadene,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 74.808,
            top5: 92.126,
        },
    },
    NamedWeights {
        name: "legacy-seresnet50",
        publisher: Publisher::Timm,
        sources: &[Source::github(CADENE, "se_resnet50-ce0d4300.pth")],
        megabytes: 113,
        layout: Layout::Cadene,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 77.644,
            top5: 93.758,
        },
    },
    NamedWeights {
        name: "legacy-seresnet101",
        publisher: Publisher::Timm,
        sources: &[Source::github(CADENE, "se_resnet101-7e38fcc6.pth")],
        megabytes: 198,
        layout: Layout::Cadene,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 78.386,
            top5: 94.262,
        },
    },
    NamedWeights {
        name: "legacy-seresnet152",
        publisher: Publisher::Timm,
        sources: &[Source::github(CADENE, "se_resnet152-d17c99b7.pth")],
        megabytes: 268,
        layout: Layout::Cadene,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 78.66,
            top5: 94.37,
        },
    },
    NamedWeights {
        name: "legacy-seresnext26-32x4d",
        publisher: Publisher::Timm,
        sources: &[Source::github(WEIGHTS, "seresnext26_32x4d-65ebdb501.pth")],
        megabytes: 67,
        layout: Layout::Cadene,
        input: Some(EvaluationInput::bicubic(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 77.108,
            top5: 93.314,
        },
    },
    NamedWeights {
        name: "legacy-seresnext50-32x4d",
        publisher: Publisher::Timm,
        sources: &[Source::github(
            WEIGHTS,
            "legacy_se_resnext50_32x4d-f3651bad.pth",
        )],
        megabytes: 111,
        layout: Layout::Cadene,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 79.076,
            top5: 94.432,
        },
    },
    NamedWeights {
        name: "legacy-seresnext101-32x4d",
        publisher: Publisher::Timm,
        sources: &[Source::github(
            WEIGHTS,
            "legacy_se_resnext101_32x4d-37725eac.pth",
        )],
        megabytes: 197,
        layout: Layout::Cadene,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 80.23,
            top5: 95.026,
        },
    },
    NamedWeights {
        name: "legacy-senet154",
        publisher: Publisher::Timm,
        sources: &[Source::github(WEIGHTS, "legacy_senet154-e9eb9fe6.pth")],
        megabytes: 461,
        layout: Layout::Cadene,
        input: Some(EvaluationInput::bilinear(256, 224)),
        result: PublishedResult::Accuracy {
            top1: 81.308,
            top5: 95.492,
        },
    },
];
