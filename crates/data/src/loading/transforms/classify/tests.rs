use super::*;
use crate::boxes::ImageSize;
use crate::loading::transforms::geometry::Window;
use crate::loading::transforms::resize::{ResizeMethod, resize_rgb8};
use crate::loading::transforms::{normalize, prepare, prepare_ten_crops};
use crop::{fallback_window, resized_crop, window_size};
use mix::{MixedPart, cutmix, mixup};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_augment::Operation;
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;

/// Made by `tests/oracle/classify_transforms.py` with torchvision on PIL images.
const FIXTURE: &[u8] =
    include_bytes!("../../../../../../tests/fixtures/classify_transforms.safetensors");

fn fixture() -> SafeTensors<'static> {
    SafeTensors::deserialize(FIXTURE).unwrap()
}

/// A tensor `[height, width, 3]` as an image.
fn test_image(name: &str) -> RgbImage {
    let fixture = fixture();
    let view = fixture.tensor(name).unwrap();
    let [height, width, 3] = *view.shape() else {
        panic!("{name}: {:?}", view.shape());
    };
    RgbImage::from_raw(width as u32, height as u32, view.data().to_vec()).unwrap()
}

fn numbers(name: &str) -> Vec<f64> {
    let fixture = fixture();
    let view = fixture.tensor(name).unwrap();
    match view.dtype() {
        safetensors::Dtype::F64 => view
            .data()
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
            .collect(),
        _ => view
            .data()
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
    }
}

/// The cases `kind/A-B-..`: their names and the numbers in these.
fn cases(kind: &str) -> Vec<(String, Vec<f64>)> {
    let cases: Vec<_> = fixture()
        .names()
        .into_iter()
        .filter_map(|name| {
            let rest = name.strip_prefix(kind)?.strip_prefix('/')?;
            let values = rest.split('-').map(|n| n.parse().ok());
            Some((name.to_owned(), values.collect::<Option<Vec<f64>>>()?))
        })
        .collect();
    assert!(!cases.is_empty(), "{kind}");
    cases
}

/// All values within one level, and at most `per_mille` of a thousand different.
fn assert_alike(name: &str, actual: &RgbImage, expected: &RgbImage, per_mille: usize) {
    assert_eq!(actual.dimensions(), expected.dimensions(), "{name}");
    let differences = actual
        .iter()
        .zip(expected.iter())
        .map(|(a, b)| a.abs_diff(*b));
    let (off, worst) = differences.fold((0, 0), |(off, worst), d| {
        (off + usize::from(d > 0), worst.max(d))
    });
    assert!(
        worst <= 1 && off * 1000 <= per_mille * actual.len(),
        "{name}: {off} of {} differ, by up to {worst}",
        actual.len()
    );
}

/// The levels that a prepared image shows, so that it can be compared with an image.
fn levels(
    prepared: &crate::loading::transforms::PreparedImage,
    preprocess: &Preprocess,
) -> RgbImage {
    let ImageSize { height, width } = prepared.input_size;
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        image::Rgb([0, 1, 2].map(|c| {
            let value = prepared.pixels[(c * height + y as usize) * width + x as usize];
            let level = (value * preprocess.std[c] + preprocess.mean[c]) / preprocess.scale;
            assert!((level - level.round()).abs() < 1e-2, "{level} is no level");
            level.round() as u8
        }))
    })
}

/// Shares of values that may differ by one level from Pillow, whose weights have more bits.
const RESIZED_PER_MILLE: usize = 20;

fn with_side(side: usize) -> Preprocess {
    Preprocess {
        min_size: 37,
        center_crop: Some(side),
        ..Preprocess::imagenet_eval()
    }
}

#[test]
fn resizing_equals_torchvision_on_pil_images() {
    let image = test_image("image");
    for (kind, method) in [
        ("pillow", ResizeMethod::Pillow),
        ("pillow_bicubic", ResizeMethod::PillowBicubic),
        ("pillow_limited", ResizeMethod::Pillow),
    ] {
        for (name, sizes) in cases(kind) {
            let preprocess = Preprocess {
                min_size: sizes[0] as usize,
                max_size: sizes.get(1).map_or(1000, |&limit| limit as usize),
                resize_method: method,
                center_crop: None,
                ..Preprocess::imagenet_eval()
            };
            let actual = levels(&prepare(&image, &preprocess), &preprocess);
            assert_alike(&name, &actual, &test_image(&name), RESIZED_PER_MILLE);
        }
    }
}

#[test]
fn the_center_equals_torchvision_with_its_rounding_and_its_padding() {
    let image = test_image("image");
    for (name, side) in cases("center_crop") {
        let preprocess = with_side(side[0] as usize);
        preprocess.validate().unwrap();
        let actual = levels(&prepare(&image, &preprocess), &preprocess);
        assert_alike(&name, &actual, &test_image(&name), 0);
        let trained =
            TrainCrop::Center {}.apply(&image, &preprocess, &mut ChaCha8Rng::seed_from_u64(0));
        assert_alike(&name, &trained, &test_image(&name), 0);
    }
}

#[test]
fn ten_crops_equal_torchvision_in_its_order() {
    let image = test_image("image");
    for (name, side) in cases("ten_crop") {
        let side = side[0] as usize;
        let preprocess = with_side(side);
        let fixture = fixture();
        let expected = fixture.tensor(&name).unwrap().data();
        let actual = prepare_ten_crops(&image, &preprocess).unwrap();
        assert_eq!(actual.len(), 10);
        for (index, crop) in actual.iter().enumerate() {
            let length = side * side * 3;
            let expected = &expected[index * length..(index + 1) * length];
            assert_eq!(
                levels(crop, &preprocess).as_raw(),
                expected,
                "{name}: {index}"
            );
        }
    }
    let message = |preprocess| {
        prepare_ten_crops(&image, &preprocess)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        message(with_side(38)),
        "center_crop: ten crops of 38 pixels don't fit into an image resized to 53x37"
    );
    assert!(message(Preprocess::torchvision()).contains("need the side"));
}

#[test]
fn a_stretched_window_equals_torchvision() {
    let image = test_image("image");
    for (kind, resize_method) in [
        ("resized_crop", ResizeMethod::Pillow),
        ("resized_crop_bicubic", ResizeMethod::PillowBicubic),
    ] {
        for (name, values) in cases(kind) {
            let [x, y, width, height, side] = values[..].try_into().unwrap();
            let window = Window {
                x: x as u32,
                y: y as u32,
                width: width as u32,
                height: height as u32,
            };
            let preprocess = Preprocess {
                resize_method,
                ..with_side(side as usize)
            };
            let actual = resized_crop(&image, window, &preprocess);
            assert_alike(&name, &actual, &test_image(&name), RESIZED_PER_MILLE);
        }
    }
}

#[test]
fn windows_of_a_drawn_area_and_ratio_equal_torchvision() {
    let rows = numbers("windows");
    let mut fallbacks = 0;
    for row in rows.chunks_exact(11) {
        let size = ImageSize::new(row[0] as usize, row[1] as usize);
        let expected = ImageSize::new(row[5] as usize, row[6] as usize);
        let drawn = window_size(size, row[2], row[3]);
        if row[4] == 1.0 {
            assert_eq!(drawn, Some(expected), "{row:?}");
        } else {
            assert_eq!(drawn, None, "{row:?}");
            let window = fallback_window(size, [row[7], row[8]]);
            assert_eq!(
                [window.height, window.width, window.y, window.x].map(f64::from),
                [row[5], row[6], row[9], row[10]],
                "{row:?}"
            );
            fallbacks += 1;
        }
    }
    assert!(fallbacks > 10);
}

/// Soft labels as torchvision's rows of shares, five classes.
fn one_hot(labels: &[SoftLabel]) -> Vec<f64> {
    let mut rows = vec![0.0; 5 * labels.len()];
    for (row, soft) in rows.chunks_exact_mut(5).zip(labels) {
        let (other, share) = soft.other.unwrap();
        row[soft.label] += 1.0 - f64::from(share);
        row[other] += f64::from(share);
    }
    rows
}

fn assert_close(name: &str, actual: impl IntoIterator<Item = f64>, expected: &[f64]) {
    let worst = actual
        .into_iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    assert!(worst < 1e-6, "{name}: {worst}");
}

#[test]
fn mixing_with_a_given_draw_equals_torchvision() {
    let batch: Vec<f32> = numbers("mix/batch").iter().map(|&v| v as f32).collect();
    let shape = [3, 3, 7, 9];
    let labels = [4, 0, 2];
    let shared = |name: &str, mixed: &[f32], other_share: f32| {
        assert_close(name, mixed.iter().map(|&v| f64::from(v)), &numbers(name));
        let soft = mix::soft_labels(&labels, Some(other_share));
        assert_close(name, one_hot(&soft), &numbers(&format!("{name}/labels")));
    };
    let mut mixed = batch.clone();
    mixup(&mut mixed, shape, 0.3);
    shared("mixup/0.3", &mixed, 0.7);
    for (name, values) in cases("cutmix") {
        let part = MixedPart::around((values[1] as usize, values[2] as usize), [7, 9], values[0]);
        let mut mixed = batch.clone();
        cutmix(&mut mixed, shape, &part);
        shared(&name, &mixed, part.share([7, 9]));
    }
}

#[test]
fn mixing_draws_its_shares_as_the_beta_distribution_and_its_kind_by_coin() {
    let both = LabeledAugmentation {
        mixup: 0.2,
        cutmix: 1.0,
        ..LabeledAugmentation::none()
    };
    let (mut by_mixup, mut extreme, mut cut) = (0, 0, Vec::new());
    for seed in 0..600 {
        // Black and white: only mixup makes grays.
        let mut pixels = [vec![0.0f32; 3 * 64], vec![1.0; 3 * 64]].concat();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let soft = both.mix(&mut pixels, [2, 3, 8, 8], &[7, 9], &mut rng);
        assert_eq!([soft[0].label, soft[1].label], [7, 9]);
        let (other, share) = soft[0].other.unwrap();
        assert_eq!((other, soft[1].other), (9, Some((7, share))));
        // The share of white in the black image is the share of its label.
        let white = pixels[..192].iter().sum::<f32>() / 192.0;
        assert!((white - share).abs() < 1e-5, "{white} {share}");
        if pixels[..192].iter().all(|&v| v == pixels[0]) && !(share == 0.0 || share == 1.0) {
            by_mixup += 1;
            extreme += usize::from(!(0.1..0.9).contains(&share));
        } else {
            cut.push(share);
        }
    }
    assert!((250..350).contains(&by_mixup), "{by_mixup}");
    // Beta(0.2, 0.2) has 0.66 of its mass outside 0.1..0.9.
    let outside = extreme as f32 / by_mixup as f32;
    assert!((0.56..0.76).contains(&outside), "{outside}");
    // Beta(1, 1) is even; clipping at the border takes part of it away.
    let mean = cut.iter().sum::<f32>() / cut.len() as f32;
    assert!((0.2..0.45).contains(&mean), "{mean}");
}

#[test]
fn without_mixing_labels_are_whole_and_nothing_is_drawn() {
    let mut pixels = vec![0.5f32; 2 * 3 * 4];
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let soft = LabeledAugmentation::none().mix(&mut pixels, [2, 3, 2, 2], &[1, 2], &mut rng);
    assert_eq!(soft, [1, 2].map(|label| SoftLabel { label, other: None }));
    assert_eq!(pixels, vec![0.5; 24]);
    assert_eq!(
        rng.random::<u64>(),
        ChaCha8Rng::seed_from_u64(1).random::<u64>()
    );
}

#[test]
fn any_concentration_gives_a_share_between_nothing_and_all() {
    for alpha in [1e-30f32, 1e-4, 0.01, 0.2, 1.0, 50.0, 1e6, f32::MAX] {
        let augmentation = LabeledAugmentation {
            mixup: alpha,
            ..LabeledAugmentation::none()
        };
        augmentation.validate().unwrap();
        for seed in 0..50 {
            let mut pixels = [0.0f32, 1.0];
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let soft = augmentation.mix(&mut pixels, [2, 1, 1, 1], &[0, 1], &mut rng);
            let share = soft[0].other.unwrap().1;
            assert!((0.0..=1.0).contains(&share), "{alpha}: {share}");
            assert!(pixels.iter().all(|v| v.is_finite()));
        }
    }
}

#[test]
fn without_changes_training_images_are_those_of_the_evaluation() {
    let image = test_image("image");
    for preprocess in [
        with_side(24),
        Preprocess {
            min_size: 29,
            resize_method: ResizeMethod::PillowBicubic,
            ..with_side(41)
        },
    ] {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let changed = LabeledAugmentation::none().apply(image.clone(), &preprocess, &mut rng);
        assert_eq!(
            normalize(&changed, &preprocess).pixels,
            prepare(&image, &preprocess).pixels
        );
    }
}

#[test]
fn padded_crops_are_drawn_evenly_from_all_places() {
    // The position of a marked pixel tells the place: 4 x 4 in a border of 1 has 3 x 3 places.
    let image = RgbImage::from_fn(4, 4, |x, y| image::Rgb([1 + (x + 4 * y) as u8, 9, 9]));
    let crop = TrainCrop::Padded { padding: 1 };
    let preprocess = Preprocess::torchvision().with_sizes(4, 4);
    let mut counts = std::collections::BTreeMap::new();
    for seed in 0..900 {
        let cut = crop.apply(&image, &preprocess, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(cut.dimensions(), (4, 4));
        // The pixel (1, 1) is always inside, one step around its place.
        let inner = cut.get_pixel(1, 1).0[0];
        *counts.entry(inner).or_insert(0) += 1;
        if inner == 1 {
            assert_eq!(cut.get_pixel(0, 0).0, [0, 0, 0]);
            assert_eq!(cut.get_pixel(3, 3).0[0], 1 + 2 + 4 * 2);
        }
    }
    assert_eq!(counts.len(), 9, "{counts:?}");
    assert!(counts.values().all(|n| (60..150).contains(n)), "{counts:?}");
}

#[test]
fn random_windows_have_areas_and_ratios_in_their_bounds() {
    // Each pixel's colors tell its place, so that the corners of an unstretched window tell it.
    let (width, height) = (200u32, 150u32);
    let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 0]));
    let crop = TrainCrop::inception();
    let preprocess = Preprocess {
        center_crop: Some(400),
        ..Preprocess::imagenet_eval()
    };
    let (mut small, mut wide, mut left) = (0, 0, 0);
    for seed in 0..300 {
        let cut = crop.apply(&image, &preprocess, &mut ChaCha8Rng::seed_from_u64(seed));
        let (first, last) = (cut.get_pixel(0, 0).0, cut.get_pixel(399, 399).0);
        let side = |axis: usize| f64::from(last[axis] - first[axis] + 1);
        let area = side(0) * side(1) / f64::from(width * height);
        let ratio = side(0) / side(1);
        assert!((0.076..=1.0).contains(&area), "{area}");
        assert!((0.72..=1.39).contains(&ratio), "{ratio}");
        small += usize::from(area < 0.5);
        wide += usize::from(ratio > 1.0);
        left += usize::from(u32::from(first[0]) < (width - side(0) as u32) / 2);
    }
    // Large windows fit less often, above all with a ratio far from the image's.
    assert!((140..230).contains(&small), "{small}");
    assert!((140..230).contains(&wide), "{wide}");
    assert!((110..190).contains(&left), "{left}");
}

#[test]
fn each_operation_of_rand_augment_equals_torchvision_on_pil_images() {
    let fixture = fixture();
    let mut compared = Vec::new();
    for name in fixture.names() {
        let Some((operation, amount)) = name
            .strip_prefix("rand_augment/")
            .and_then(|rest| rest.split_once('='))
        else {
            continue;
        };
        let operation = Operation::ALL
            .into_iter()
            .find(|actual| format!("{actual:?}") == operation)
            .unwrap();
        let source = match operation {
            Operation::AutoContrast | Operation::Equalize => "flat",
            _ => "image",
        };
        let actual = operation.apply(test_image(source), amount.parse().unwrap());
        assert_alike(name, &actual, &test_image(name), 0);
        compared.push(operation);
    }
    assert!(Operation::ALL.iter().all(|o| compared.contains(o)));
}

#[test]
fn amounts_of_all_magnitudes_equal_torchvision() {
    let amounts = numbers("rand_augment_amounts");
    let signs = numbers("rand_augment_signs");
    let size = ImageSize::new(37, 53);
    for (index, operation) in Operation::ALL.into_iter().enumerate() {
        assert_eq!(operation.has_sign(), signs[index] == 1.0, "{operation:?}");
        for magnitude in 0..31 {
            let actual = f64::from(operation.amount(magnitude as f32, size));
            let expected = amounts[31 * index + magnitude];
            assert!(
                (actual - expected).abs() < 1e-5 * (1.0 + expected),
                "{operation:?} {magnitude}: {actual} {expected}"
            );
        }
    }
}

#[test]
fn rand_augment_draws_all_operations_and_both_signs_alike() {
    // Of one operation, because the brightness of a gray image tells amount and sign.
    let image = RgbImage::from_pixel(9, 9, image::Rgb([103; 3]));
    let rand_augment = RandAugment {
        operations: 1,
        magnitude: 15.0,
        ..RandAugment::default()
    };
    rand_augment.validate().unwrap();
    let brightness = |rand_augment: RandAugment| {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..2800 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let changed = rand_augment.apply(image.clone(), &mut rng);
            *counts.entry(changed.get_pixel(4, 4).0[0]).or_insert(0) += 1;
        }
        counts
    };
    let counts = brightness(rand_augment);
    // A fourteenth each, that is 200: brightness, half of it darker; posterize to six bits.
    for (level, expected) in [(149, 100), (56, 100), (100, 200)] {
        let count = counts[&level];
        assert!(
            (expected * 7 / 10..expected * 13 / 10).contains(&count),
            "{level}: {count}"
        );
    }
    let seldom = brightness(RandAugment {
        probability: 0.25,
        ..rand_augment
    });
    assert!((30..70).contains(&seldom[&100]), "{}", seldom[&100]);
    // Drawn magnitudes spread the levels of the brightness.
    let spread = brightness(RandAugment {
        magnitude_std: 5.0,
        ..rand_augment
    });
    assert!(
        counts.len() < 8 && spread.len() > 20,
        "{counts:?} {spread:?}"
    );
}

#[test]
fn shifts_and_squares_equal_their_formulas() {
    let mut actual = test_image("image");
    levels::shift(&mut actual, levels::lighting_shift([0.15, -0.3, 0.7]));
    assert_alike("lighting", &actual, &test_image("lighting"), 0);
    let mut actual = test_image("image");
    levels::shift(&mut actual, [-13.3; 3]);
    assert_alike("pixel_jitter", &actual, &test_image("pixel_jitter"), 0);
    let mut actual = test_image("image");
    for center in [(30, 20), (50, 1)] {
        levels::fill_square(
            &mut actual,
            center,
            9,
            Preprocess::imagenet_eval().mean_color(),
        );
    }
    assert_alike("cutout", &actual, &test_image("cutout"), 0);
    // Blue first and on a scale of 255, the same color stands the other way round.
    assert_eq!(Preprocess::imagenet_eval().mean_color(), [124, 116, 104]);
    assert_eq!(Preprocess::detectron2().mean_color(), [124, 116, 104]);
}

#[test]
fn pixel_jitter_lighting_rotation_and_cutout_draw_what_they_say() {
    let image = RgbImage::from_pixel(33, 33, image::Rgb([128, 128, 128]));
    let preprocess = Preprocess::torchvision().with_sizes(33, 33);
    let draws = |augmentation: LabeledAugmentation| {
        augmentation.validate().unwrap();
        (0..400)
            .map(|seed| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                augmentation.apply(image.clone(), &preprocess, &mut rng)
            })
            .collect::<Vec<_>>()
    };
    let none = LabeledAugmentation::none;
    let jittered = draws(LabeledAugmentation {
        pixel_jitter: 20.0,
        ..none()
    });
    let shifts: Vec<f64> = jittered
        .iter()
        .map(|image| f64::from(image.get_pixel(3, 3).0[0]) - 128.0)
        .collect();
    assert!(shifts.iter().all(|s| s.abs() <= 20.0));
    assert!(shifts.iter().any(|&s| s > 17.0) && shifts.iter().any(|&s| s < -17.0));
    assert!(
        jittered
            .iter()
            .all(|i| i.iter().all(|v| v == &i.as_raw()[0]))
    );
    let lit = draws(LabeledAugmentation {
        lighting: 0.1,
        ..none()
    });
    // Red's standard deviation: 25.5 * sqrt((0.5675 * 0.2175)^2 + (0.7192 * 0.0188)^2 + ..) = 3.17
    let square = |image: &RgbImage| (f64::from(image.get_pixel(0, 0).0[0]) - 128.0).powi(2);
    let deviation = (lit.iter().map(square).sum::<f64>() / 400.0).sqrt();
    assert!((2.7..3.7).contains(&deviation), "{deviation}");
    let black = |image: &RgbImage| image.pixels().filter(|p| p.0 == [0; 3]).count();
    let turned = draws(LabeledAugmentation {
        rotation: 45.0,
        ..none()
    });
    // The corners of a turned square: at 45 degrees 17 % of it.
    assert!(turned.iter().all(|i| black(i) < 230));
    assert!(turned.iter().any(|i| black(i) > 180) && turned.iter().any(|i| black(i) < 40));
    let hidden = draws(LabeledAugmentation {
        cutout: Some(Cutout { side: 8, count: 1 }),
        ..none()
    });
    let sizes: Vec<usize> = hidden
        .iter()
        .map(|image| image.pixels().filter(|p| p.0 != [128; 3]).count())
        .collect();
    assert!(sizes.iter().all(|n| (16..=64).contains(n)), "{sizes:?}");
    let whole = sizes.iter().filter(|&&n| n == 64).count();
    // Centers at which it is not clipped: (26 / 33)^2 = 0.62.
    assert!((210..290).contains(&whole), "{whole}");
}

#[test]
fn the_flip_happens_as_often_as_asked() {
    let image = test_image("image");
    let augmentation = LabeledAugmentation {
        horizontal_flip: 0.25,
        ..LabeledAugmentation::none()
    };
    let apply = |augmentation: &LabeledAugmentation, seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        augmentation.apply(image.clone(), &with_side(20), &mut rng)
    };
    let plain = apply(&LabeledAugmentation::none(), 0);
    let mirrored = imageops::flip_horizontal(&plain);
    let mut flips = 0;
    for seed in 0..400 {
        let actual = apply(&augmentation, seed);
        assert!(actual == plain || actual == mirrored);
        flips += usize::from(actual == mirrored);
    }
    assert!((70..130).contains(&flips), "{flips}");
}

#[test]
fn settings_survive_toml_and_mistakes_in_them_are_named() {
    let read = |text: &str| toml::from_str::<LabeledAugmentation>(text);
    let augmentation = read(
        "horizontal_flip = 0.5\nmixup = 0.2\n[crop]\nkind = \"random_resized\"\nscale = [0.2, 1.0]",
    )
    .unwrap();
    assert_eq!(
        augmentation.crop,
        TrainCrop::RandomResized {
            scale: [0.2, 1.0],
            ratio: [0.75, 4.0 / 3.0]
        }
    );
    augmentation.validate().unwrap();
    assert_eq!(
        read(&toml::to_string(&augmentation).unwrap()).unwrap(),
        augmentation
    );
    assert_eq!(read("").unwrap(), LabeledAugmentation::none());
    for unknown in [
        "flip = 1",
        "crop = { kind = \"center\", padding = 4 }",
        "crop = { kind = \"padded\", padding = 4, scale = [0.1, 1.0] }",
        "crop = { kind = \"resized\" }",
    ] {
        assert!(read(unknown).is_err(), "{unknown}");
    }
    for (text, message) in [
        (
            "horizontal_flip = 1.5",
            "horizontal_flip: 1.5 is not between 0 and 1",
        ),
        ("rotation = 181", "rotation: 181 is not between 0 and 180"),
        (
            "pixel_jitter = -1",
            "pixel_jitter: -1 is not between 0 and 255",
        ),
        (
            "lighting = nan",
            "lighting: NaN is not a number of 0 or more",
        ),
        ("cutout = { side = 1 }", "cutout.side: 1 is below 2"),
        (
            "rand_augment = { magnitude = 31 }",
            "rand_augment.magnitude: 31 is not between 0 and 30",
        ),
        (
            "rand_augment = { operations = 0 }",
            "rand_augment.operations: must be at least 1",
        ),
        ("cutmix = -1", "cutmix: -1 is not a number of 0 or more"),
        (
            "crop = { kind = \"random_resized\", scale = [0.0, 1.0] }",
            "crop.scale: [0, 1]: must be 0 < lower <= upper <= 1",
        ),
        (
            "crop = { kind = \"random_resized\", ratio = [2.0, 1.0] }",
            "crop.ratio: [2, 1]: must be 0 < lower <= upper",
        ),
    ] {
        let error = read(text).unwrap().validate().unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

fn crops() -> impl Strategy<Value = TrainCrop> {
    prop_oneof![
        Just(TrainCrop::Center {}),
        Just(TrainCrop::inception()),
        Just(TrainCrop::RandomResized {
            scale: [0.9, 1.0],
            ratio: [3.0, 4.0]
        }),
        (0usize..9).prop_map(|padding| TrainCrop::Padded { padding }),
    ]
}

fn preprocesses() -> impl Strategy<Value = Preprocess> {
    let methods = [
        ResizeMethod::Torchvision,
        ResizeMethod::Detectron2,
        ResizeMethod::Mmdetection,
        ResizeMethod::Pillow,
        ResizeMethod::PillowBicubic,
    ];
    (
        1usize..30,
        0usize..30,
        proptest::option::of(1usize..30),
        proptest::sample::select(methods.to_vec()),
    )
        .prop_map(|(min_size, extra, center_crop, resize_method)| Preprocess {
            center_crop,
            resize_method,
            ..Preprocess::imagenet_eval().with_sizes(min_size, min_size + extra)
        })
}

proptest! {
    #[test]
    fn whatever_is_drawn_the_output_is_the_input_square_and_reproducible(
        (width, height) in (1u32..60, 1u32..60),
        crop in crops(),
        preprocess in preprocesses(),
        seed in any::<u64>(),
    ) {
        let augmentation = LabeledAugmentation {
            crop,
            horizontal_flip: 0.5,
            color_jitter: Some(ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }),
            rotation: 30.0,
            pixel_jitter: 20.0,
            lighting: 0.1,
            rand_augment: Some(RandAugment { operations: 3, magnitude: 20.0, magnitude_std: 10.0, probability: 0.8 }),
            cutout: Some(Cutout { side: 8, count: 2 }),
            ..LabeledAugmentation::none()
        };
        augmentation.validate().unwrap();
        preprocess.validate().unwrap();
        let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 200]));
        let run = || {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            augmentation.apply(image.clone(), &preprocess, &mut rng)
        };
        let side = preprocess.input_side() as u32;
        prop_assert_eq!(run().dimensions(), (side, side));
        prop_assert_eq!(run(), run());
        let evaluated = prepare(&image, &preprocess);
        prop_assert_eq!(evaluated.input_size, preprocess.input_size(evaluated.image_size));
        prop_assert_eq!(evaluated.pixels.len(), 3 * evaluated.input_size.height * evaluated.input_size.width);
    }

    #[test]
    fn a_wide_image_never_asks_for_all_memory(width in 1u32..400, tall in any::<bool>()) {
        let (width, height) = if tall { (1, 100 * width) } else { (100 * width, 1) };
        let image = RgbImage::new(width, height);
        let size = Preprocess::imagenet_eval().resize_method.input_size(
            ImageSize::new(height as usize, width as usize), 256, Preprocess::imagenet_eval().max_size,
        );
        prop_assert!(size.height * size.width <= 256 << 16);
        let tiny = Preprocess { min_size: 2, max_size: 50, ..with_side(2) };
        prop_assert_eq!(prepare(&image, &tiny).input_size, ImageSize::new(2, 2));
        prop_assert_eq!(resize_rgb8(&image, ImageSize::new(2, 2), ResizeMethod::Pillow).dimensions(), (2, 2));
    }
}
