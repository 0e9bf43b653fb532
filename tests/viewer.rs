//! The viewer, driven by the accessibility labels of its widgets. Screenshots are compared on Mesa's lavapipe;
//! the tests fail without a Vulkan device.
#![cfg(feature = "viewer")]

#[path = "viewer/corrections.rs"]
mod corrections;
#[path = "viewer/errors.rs"]
mod errors_page;
#[path = "viewer/grid.rs"]
mod grid;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::{Device, TensorData};
use egui::accesskit::{Action, Role};
use egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use egui_kittest::{Harness, SnapshotOptions};
use sedet::backbones::zoo;
use sedet::classification::classifier::ClassifierConfig;
use sedet::device::Execution;
use sedet::eval::matching::{ErrorType, match_image};
use sedet::eval::{CocoEvaluation, GroundTruth, evaluate, read_results};
use sedet::explanation::{GateEffect, Neutral, effects_csv, strongest};
use sedet::images::OnBadImage;
use sedet::kernels::bf16::ComputePrecision;
use sedet::loading::transforms::Preprocess;
use sedet::model::{ExplainedImage, Explanation, Model, ModelSpec, ReplacedGate, Subject};
use sedet::shapes::{ShapesConfig, write_dataset};
use sedet::viewer::state::{
    BoxRef, Change, Compare, MapStage, OffGate, Pane, PanelId, Picked, Request, Settings,
    ShownImages, SortBy, TaskProgress, ViewerState, gate_differences,
};
use sedet::viewer::{Opening, ViewerApp};
use sedet::weights::checkpoint::{Checkpoint, Precision};
use sedet::weights::parameters::named_tensors;

/// Saves a narrow SE-ResNet-18 with random weights and this many classes, and returns its path.
fn classifier(scenes: &Scenes, classes: usize) -> PathBuf {
    classifier_with(scenes, "se-resnet18", classes)
}

/// Saves a narrow classifier with the backbone of this name.
fn classifier_with(scenes: &Scenes, backbone: &str, classes: usize) -> PathBuf {
    let device = Device::flex();
    device.seed(7);
    let mut network = zoo::network(backbone).unwrap();
    *network.backbone.common_mut().width_multiplier = 0.25;
    let network = ClassifierConfig::new(network.backbone, classes);
    let preprocess = Preprocess {
        min_size: 32,
        max_size: 32,
        size_divisor: 1,
        ..Preprocess::torchvision()
    };
    let names = (0..classes).map(|class| format!("class {class}"));
    let checkpoint = Checkpoint {
        spec: ModelSpec::classifier(network.clone(), preprocess, names),
        progress: None,
        weights: named_tensors(&network.init(&device)),
        optimizer: Default::default(),
        ema: Default::default(),
    };
    let path = scenes.at("classifier.safetensors");
    checkpoint.save(&path, Precision::Full).unwrap();
    path
}

type Viewer = Harness<'static, ViewerApp>;

/// A dataset of six generated scenes, and a directory for exports.
struct Scenes {
    directory: tempfile::TempDir,
}

impl Scenes {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = ShapesConfig {
            train_images: 1,
            val_images: 6,
            ..ShapesConfig::default()
        };
        write_dataset(&config, &directory.path().join("scenes"), &mut |_, _| {}).unwrap();
        Self { directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn opening(&self) -> Opening {
        Opening {
            dataset: Some(self.text("scenes")),
            checkpoint: Some(shipped("shapes-se-resnet18")),
            ..Opening::default()
        }
    }

    /// Writes a results file with the first annotated box as a detection.
    fn results_of_one_object(&self) -> PathBuf {
        let truth = self.at("scenes/annotations/instances_val2017.json");
        let truth: serde_json::Value =
            serde_json::from_slice(&std::fs::read(truth).unwrap()).unwrap();
        let object = &truth["annotations"][0];
        let row = serde_json::json!({
            "image_id": object["image_id"],
            "category_id": object["category_id"],
            "bbox": object["bbox"],
            "score": 0.75,
        });
        let results = self.at("results.json");
        std::fs::write(&results, serde_json::json!([row]).to_string()).unwrap();
        results
    }

    fn exported(&self, name: &str) -> Vec<u8> {
        let path = self.at("out").join(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    fn open(&self, opening: Opening) -> Viewer {
        let settings = Settings {
            export_directory: self.at("out"),
            ..Settings::default()
        };
        viewer(settings, opening)
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("assets/{name}.safetensors"))
}

fn viewer(settings: Settings, opening: Opening) -> Viewer {
    viewer_of_size([1280.0, 860.0], settings, opening)
}

fn viewer_of_size(size: [f32; 2], settings: Settings, opening: Opening) -> Viewer {
    viewer_with(size, settings, opening, Device::flex().into())
}

fn viewer_with(
    size: [f32; 2],
    settings: Settings,
    opening: Opening,
    execution: Execution,
) -> Viewer {
    let mut viewer = Harness::builder()
        .with_size(size)
        .with_max_steps(200)
        .build_eframe(|creation| {
            ViewerApp::with_settings(&creation.egui_ctx, settings, opening, execution)
        });
    settle(&mut viewer);
    viewer
}

/// Draws frames until all worker threads are idle and their messages have been applied.
fn settle(viewer: &mut Viewer) {
    let start = Instant::now();
    let mut quiet = 0;
    while quiet < 6 {
        viewer.step();
        quiet = if viewer.state().is_busy() {
            0
        } else {
            quiet + 1
        };
        if quiet == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(start.elapsed() < Duration::from_secs(120), "never settles");
    }
}

fn click(viewer: &mut Viewer, label: &str) {
    viewer.get_by_label(label).click();
    settle(viewer);
}

fn press(viewer: &mut Viewer, key: Key) {
    viewer.key_press(key);
    settle(viewer);
}

fn errors(viewer: &Viewer) -> Vec<String> {
    let notices = viewer.state().state().notices.iter();
    notices
        .filter(|n| n.is_error)
        .map(|n| n.text.clone())
        .collect()
}

/// Compares a screenshot with an image in `tests/snapshots`, if wgpu is there to draw it. The duration of inference and the
/// temporary directory are masked.
fn compare(viewer: &mut Viewer, name: &str) {
    viewer.hover_at(egui::pos2(2.0, 2.0));
    settle(viewer);
    let directory = std::env::temp_dir().display().to_string();
    // The masks have fixed widths, whatever the text. Words after the directory move with its width; the line that says
    // what is shown and the last notice are masked to their ends.
    const STATUS_BOTTOM: f32 = 52.0;
    const NOTICE_TOP: f32 = 836.0;
    let changing: Vec<egui::Rect> = [(" ms", 60.0), (directory.as_str(), 260.0)]
        .into_iter()
        .flat_map(|(text, width)| {
            let nodes = viewer.query_all_by_label_contains(text);
            nodes.map(move |node| {
                let rect = node.rect();
                let is_line = rect.top() < STATUS_BOTTOM || rect.top() > NOTICE_TOP;
                let width = if is_line {
                    1280.0 - rect.left()
                } else if rect.width() > width + 40.0 {
                    660.0
                } else {
                    width
                };
                let size = egui::vec2(width, node.rect().height() + 4.0);
                egui::Rect::from_min_size(node.rect().left_top().round(), size)
            })
        })
        .collect();
    for rect in changing {
        viewer.mask(rect);
    }
    // Versions of Mesa differ in the antialiasing of edges.
    let options = SnapshotOptions::new()
        .threshold(1.5)
        .max_failed_pixels(400usize);
    if cfg!(feature = "wgpu") {
        viewer.snapshot_options(name, &options);
    } else {
        eprintln!("{name}: screenshot not compared without --features wgpu");
    }
}

#[test]
fn the_first_start_runs_the_shipped_detector() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening::default());
    assert_eq!(errors(&viewer), [""; 0]);
    let state = viewer.state().state();
    assert_eq!(state.image_count(), 200);
    assert!(
        state.networks[0]
            .as_ref()
            .unwrap()
            .title
            .contains("6 classes")
    );
    let found = state.predictions[0].get(0).expect("inference has run");
    assert!(found.iter().filter(|b| b.score > 0.9).count() >= 2);
    assert_eq!(state.inference[0].as_ref().unwrap().blocks.len(), 8);
    compare(&mut viewer, "first-start");
}

#[test]
fn selecting_a_box_in_the_table_explains_its_match() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    let row = viewer
        .query_all_by_label_contains("detection 1: ")
        .next()
        .expect("a row for each detection");
    row.click();
    settle(&mut viewer);
    assert_eq!(viewer.state().state().selected, Some(BoxRef::Detection(0)));
    viewer.get_by_label_contains("Correct: right class and sufficient IoU. IoU ");
    press(&mut viewer, Key::M);
    assert!(matches!(
        viewer.state().state().selected,
        Some(BoxRef::GroundTruth(_))
    ));
    press(&mut viewer, Key::M);
    assert_eq!(viewer.state().state().selected, Some(BoxRef::Detection(0)));
    press(&mut viewer, Key::Tab);
    assert_eq!(viewer.state().state().selected, Some(BoxRef::Detection(1)));
    viewer.key_press_modifiers(Modifiers::SHIFT, Key::Tab);
    settle(&mut viewer);
    assert_eq!(viewer.state().state().selected, Some(BoxRef::Detection(0)));
}

#[test]
fn hiding_boxes_does_not_filter_images_and_filtering_images_does_not_hide_boxes() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    let rows = |viewer: &Viewer| viewer.query_all_by_label_contains("annotation ").count();
    let before = rows(&viewer);
    assert!(before > 0);
    viewer.query_all_by_label("Classes").next().unwrap().click();
    settle(&mut viewer);
    click(&mut viewer, "only ring");
    let state = viewer.state().state();
    assert_eq!(state.order.len(), 6);
    assert!(state.filter().shows_class(3) && !state.filter().shows_class(0));
    assert!(rows(&viewer) < before);
    press(&mut viewer, Key::F);
    assert_eq!(rows(&viewer), before);
    press(&mut viewer, Key::G);
    assert_eq!(rows(&viewer), 0);

    let name = viewer
        .state()
        .state()
        .collection
        .as_ref()
        .unwrap()
        .image_title(4);
    viewer
        .get_by_role_and_label(Role::TextInput, "Search")
        .focus();
    settle(&mut viewer);
    viewer
        .get_by_role_and_label(Role::TextInput, "Search")
        .type_text(&name);
    settle(&mut viewer);
    assert_eq!(**viewer.state().state().order, [4]);
    viewer.get_by_role_and_label(Role::Button, &name).click();
    settle(&mut viewer);
    assert_eq!(viewer.state().state().current, 4);
}

#[test]
fn keyboard_shortcuts_page_zoom_and_toggle_boxes() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    press(&mut viewer, Key::ArrowRight);
    assert_eq!(viewer.state().state().current, 1);
    press(&mut viewer, Key::End);
    assert_eq!(viewer.state().state().current, 5);
    press(&mut viewer, Key::Home);
    assert_eq!(viewer.state().state().current, 0);
    press(&mut viewer, Key::Num1);
    assert_eq!(viewer.state().state().zoom.scale, Some(1.0));
    press(&mut viewer, Key::Plus);
    assert_eq!(viewer.state().state().zoom.scale, Some(1.25));
    press(&mut viewer, Key::Num0);
    assert_eq!(viewer.state().state().zoom.scale, None);
    let score = viewer.state().state().filter().score;
    press(&mut viewer, Key::CloseBracket);
    assert!((viewer.state().state().filter().score - score - 0.05).abs() < 1e-6);
    press(&mut viewer, Key::Period);
    assert!((viewer.state().state().filter().iou - 0.55).abs() < 1e-6);
    viewer.key_down(Key::H);
    settle(&mut viewer);
    assert!(viewer.state().state().filter().hide_all);
    viewer.key_up(Key::H);
    settle(&mut viewer);
    assert!(!viewer.state().state().filter().hide_all);
    press(&mut viewer, Key::Questionmark);
    viewer.get_by_label("previous, next SE block");
    press(&mut viewer, Key::Escape);
    assert!(viewer.query_by_label("previous, next SE block").is_none());
    press(&mut viewer, Key::F5);
    assert_eq!(viewer.state().state().tab, PanelId::MODEL);
    viewer.get_by_label_contains("SE blocks account for");
}

/// What a user acts on in the accessibility tree, with its role, name and place. Panics at a control without
/// a name or an action.
fn controls(viewer: &Viewer, page: &str) -> Vec<(Role, String, egui::Rect)> {
    const ROLES: [Role; 12] = [
        Role::Button,
        Role::CheckBox,
        Role::ComboBox,
        Role::Link,
        Role::MenuItem,
        Role::RadioButton,
        Role::Slider,
        Role::SpinButton,
        Role::Switch,
        Role::Tab,
        Role::TextInput,
        Role::MultilineTextInput,
    ];
    let mut controls = Vec::new();
    for node in viewer.root().children_recursive() {
        let known = node.accesskit_node();
        let role = known.role();
        if !ROLES.contains(&role) || known.is_disabled() {
            continue;
        }
        let name = known.label().unwrap_or_default();
        assert!(
            !name.trim().is_empty(),
            "{page}: {role:?} at {:?} without a name",
            node.rect()
        );
        let acts = [
            Action::Click,
            Action::Focus,
            Action::SetValue,
            Action::Increment,
        ];
        let acts = acts.iter().any(|act| known.data().supports_action(*act));
        assert!(acts, "{page}: {role:?} {name} does nothing");
        controls.push((role, name, node.rect()));
    }
    controls
}

#[test]
fn every_control_has_a_name_and_an_action_and_fields_take_clicks() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening {
        compare: Some(shipped("blood-cells-se-resnet18")),
        ..scenes.opening()
    });
    // Everything that pages can show: counts, metrics, gates, curves, a feature map.
    press(&mut viewer, Key::D);
    viewer
        .state_mut()
        .state_mut()
        .requests
        .push(Request::Evaluate);
    let measure = Request::MeasureGates(None);
    viewer.state_mut().state_mut().requests.push(measure);
    settle(&mut viewer);
    press(&mut viewer, Key::F1);
    press(&mut viewer, Key::Tab);
    press(&mut viewer, Key::W);
    assert!(viewer.state().state().current_explanation().is_some());
    let event = "{\"event\":\"train\",\"iteration\":1,\"time\":1,\"loss\":2.0}\n";
    let run = write_run(&scenes, "run", event);
    for weights in ["best", "iteration-00000001"] {
        let weights = run.join(format!("checkpoints/{weights}.safetensors"));
        std::fs::copy(shipped("shapes-se-resnet18"), weights).unwrap();
    }
    let open = Request::Open(run.display().to_string());
    viewer.state_mut().state_mut().requests.push(open);
    settle(&mut viewer);
    let pages = [
        (Key::F1, "Image"),
        (Key::F2, "Gates"),
        (Key::F3, "Data"),
        (Key::F4, "Training"),
        (Key::F5, "Model"),
        (Key::F6, "Errors"),
        (Key::F7, "Grid"),
    ];
    for (key, page) in pages {
        press(&mut viewer, key);
        assert_eq!(viewer.state().state().tab, PanelId(page));
        let shown = controls(&viewer, page);
        assert!(shown.len() > 5, "{page}: {shown:?}");
        // Fields keep the focus when they are clicked, in pages and in menus.
        for (role, name, _) in &shown {
            if *role == Role::TextInput {
                viewer.get_by_role_and_label(*role, name).click();
                settle(&mut viewer);
                let field = viewer.get_by_role_and_label(*role, name);
                assert!(field.is_focused(), "{page}: {name}");
                press(&mut viewer, Key::Escape);
            }
        }
        for menu in ["Export", "Compare"] {
            click(&mut viewer, menu);
            let with_menu = controls(&viewer, &format!("{page}, {menu}"));
            let field = with_menu.iter().find(|(role, name, _)| {
                *role == Role::TextInput && !shown.iter().any(|(_, known, _)| known == name)
            });
            let (role, name, _) = field.unwrap_or_else(|| panic!("{page}: no menu {menu}"));
            viewer.get_by_role_and_label(*role, name).click();
            settle(&mut viewer);
            let field = viewer.query_by_role_and_label(*role, name);
            let field = field.unwrap_or_else(|| panic!("{page}: a click closes {menu}"));
            assert!(field.is_focused(), "{page}: {name}");
            press(&mut viewer, Key::Escape);
            press(&mut viewer, Key::Escape);
            if viewer.query_by_role_and_label(*role, name).is_some() {
                click(&mut viewer, menu);
            }
        }
        // Lists open and close.
        let lists = shown.iter().filter(|(role, ..)| *role == Role::ComboBox);
        for (role, name, _) in lists {
            let list = viewer.query_all_by_role_and_label(*role, name).next();
            let Some(list) = list else { continue };
            list.click();
            settle(&mut viewer);
            let with_list = controls(&viewer, &format!("{page}, {name}"));
            assert!(
                with_list.len() > shown.len(),
                "{page}: {name} opens nothing"
            );
            press(&mut viewer, Key::Escape);
        }
    }
    assert_eq!(errors(&viewer), [""; 0]);
    press(&mut viewer, Key::F1);
    press(&mut viewer, Key::Questionmark);
    controls(&viewer, "help");
}

#[test]
fn typing_into_a_field_runs_no_shortcut() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    viewer.key_press_modifiers(Modifiers::COMMAND, Key::O);
    settle(&mut viewer);
    let field = viewer.get_by_role_and_label(Role::TextInput, "Path");
    field.type_text("gl");
    settle(&mut viewer);
    press(&mut viewer, Key::G);
    let state = viewer.state().state();
    assert!(state.filter().show_annotations && state.filter().show_labels);
    assert_eq!(state.path, "gl");
}

#[test]
fn gates_and_the_feature_map_of_a_channel_are_shown() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    press(&mut viewer, Key::K);
    let state = viewer.state().state();
    let maps = state.maps.as_ref().expect("maps of the channel");
    assert_eq!((maps.block, maps.channels[0].0), (7, 0));
    let gate = state.inference[0].as_ref().unwrap().blocks[7].gates[0];
    let (_, before, after) = &maps.channels[0];
    for (before, after) in before.values.iter().zip(&after.values) {
        assert!((before * gate - after).abs() < 1e-5);
    }
    viewer.get_by_label_contains(&format!("channel 0: gate {gate:.4}"));
    press(&mut viewer, Key::B);
    assert_eq!(viewer.state().state().gates.block, 6);
    click(&mut viewer, "most active");
    let state = viewer.state().state();
    assert_eq!(state.maps.as_ref().unwrap().channels.len(), 8);
    let captions = viewer
        .query_all_by_label_contains(": before, after scaling")
        .count();
    assert!((1..=8).contains(&captions), "{captions} in sight");
    press(&mut viewer, Key::X);
    assert_eq!(viewer.state().state().gates.stage, MapStage::Before);
}

#[test]
fn two_images_and_two_networks_are_compared() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening {
        compare: Some(shipped("blood-cells-se-resnet18")),
        ..scenes.opening()
    });
    assert_eq!(viewer.state().state().compare, Compare::Network);
    viewer.get_by_label_contains("second (right): blood-cells-se-resnet18");
    let state = viewer.state().state();
    assert!(state.predictions[1].get(0).is_some());
    assert!(state.classes.iter().any(|class| class.name == "Platelets"));
    click(&mut viewer, "Compare");
    click(&mut viewer, "With another image");
    assert_eq!(viewer.state().state().compare, Compare::Image(1));
    click(&mut viewer, "by difference");
    press(&mut viewer, Key::K);
    viewer.get_by_label_contains(" relative to the second pane");
    let inference = viewer.state().state().inference[1].as_ref().unwrap();
    assert_eq!(inference.image, 1);
    compare(&mut viewer, "compare");
}

/// Types into a field that is clicked first.
fn fill(viewer: &mut Viewer, field: &str, text: &str) {
    let clicked = viewer.get_by_role_and_label(Role::TextInput, field);
    clicked.click();
    settle(viewer);
    let open = viewer.query_by_role_and_label(Role::TextInput, field);
    let field = open.unwrap_or_else(|| panic!("{field} closes when it is clicked"));
    assert!(field.is_focused());
    field.type_text(text);
    settle(viewer);
}

#[test]
fn fields_in_menus_can_be_clicked_and_typed_into() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    click(&mut viewer, "Compare");
    let second = shipped("blood-cells-se-resnet18").display().to_string();
    fill(&mut viewer, "Second network", &second);
    click(&mut viewer, "Load");
    assert_eq!(errors(&viewer), [""; 0]);
    let state = viewer.state().state();
    assert!(state.networks[1].is_some());
    assert_eq!(state.compare, Compare::Network);
    // No letter of the path was taken for a shortcut.
    assert_eq!(*state.filter(), Settings::default().filter);
    assert!(viewer.query_by_label("Second network").is_none(), "closed");

    click(&mut viewer, "Export");
    fill(&mut viewer, "Export directory", "/deeper");
    let directory = viewer.state().state().settings.export_directory.clone();
    let directory = directory.display().to_string();
    assert!(directory.contains("/deeper"), "{directory}");
}

#[test]
fn gates_are_compared_only_with_the_mean_of_the_same_network() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    click(&mut viewer, "Gates");
    click(&mut viewer, "Measure all 6 images");
    viewer.get_by_label_contains("measured with shapes-se-resnet18");
    click(&mut viewer, "Image");
    press(&mut viewer, Key::K);
    viewer.get_by_label_contains(" relative to the mean over ");
    // The other network has blocks of the same names.
    let other = shipped("blood-cells-se-resnet18").display().to_string();
    let state = viewer.state_mut().state_mut();
    state.requests.push(Request::Open(other));
    settle(&mut viewer);
    press(&mut viewer, Key::K);
    viewer.get_by_label_contains("channel 0: gate ");
    assert!(viewer.query_by_label_contains(" relative to ").is_none());
    click(&mut viewer, "Gates");
    viewer.get_by_label_contains("the gates of another network than blood-cells-se-resnet18");
}

#[test]
fn a_classifier_has_no_controls_of_boxes() {
    let scenes = Scenes::new();
    let classifier = classifier(&scenes, 12);
    let mut viewer = scenes.open(Opening {
        checkpoint: Some(classifier),
        ..scenes.opening()
    });
    assert_eq!(errors(&viewer), [""; 0]);
    assert!(
        viewer
            .query_by_label_contains("running inference")
            .is_none()
    );
    let classes = viewer.query_all_by_label_contains(" %").count();
    assert_eq!(classes, 5, "the most probable classes");
    for control in [
        "score threshold",
        "IoU threshold",
        "detections",
        "scores",
        "color by verdict",
    ] {
        assert!(viewer.query_by_label(control).is_none(), "{control}");
    }
    viewer.get_by_label("annotations");
    click(&mut viewer, "Model");
    let state = viewer.state().state();
    assert!(state.model.is_some());
}

/// The classes of [`Photos`]; the network has them in the opposite order.
const KINDS: usize = 12;

fn kind(class: usize) -> String {
    format!("kind {class:02}")
}

/// Saves a narrow classifier with random weights and classes of these names.
fn classifier_named(path: &Path, seed: u64, names: &[String]) -> Model {
    let device = Device::flex();
    device.seed(seed);
    let mut network = zoo::network("se-resnet18").unwrap();
    *network.backbone.common_mut().width_multiplier = 0.25;
    let network = ClassifierConfig::new(network.backbone, names.len());
    let preprocess = Preprocess {
        min_size: 32,
        max_size: 32,
        size_divisor: 1,
        ..Preprocess::torchvision()
    };
    let checkpoint = Checkpoint {
        spec: ModelSpec::classifier(network.clone(), preprocess, names.to_vec()),
        progress: None,
        weights: named_tensors(&network.init(&device)),
        optimizer: Default::default(),
        ema: Default::default(),
    };
    checkpoint.save(path, Precision::Full).unwrap();
    Model::load(path, &device).unwrap()
}

/// A directory of class directories with 18 images of a known classifier: it is right in every third image.
struct Photos {
    scenes: Scenes,
    checkpoint: PathBuf,
    model: Model,
}

impl Photos {
    fn new() -> Self {
        let scenes = Scenes::new();
        let checkpoint = scenes.at("kinds.safetensors");
        let names: Vec<String> = (0..KINDS).rev().map(kind).collect();
        let model = classifier_named(&checkpoint, 3, &names);
        for class in 0..KINDS {
            for split in ["train", "val"] {
                std::fs::create_dir_all(scenes.at("photos").join(split).join(kind(class))).unwrap();
            }
        }
        for number in 0..18u32 {
            let image = image::RgbImage::from_fn(40, 32, |x, y| {
                let wave = |by: u32| ((x * by + y * (number % 5 + 1) + number * 37) % 256) as u8;
                image::Rgb([wave(number % 7 + 1), wave(3), wave(number * 11 % 13)])
            });
            let ranked = model.classify(&image, KINDS).unwrap();
            // Mistakes have the second or the last class.
            let place = [0, 1, KINDS - 1][number as usize % 3];
            let directory = scenes.at("photos/val").join(&ranked[place].name);
            image
                .save(directory.join(format!("{number:02}.png")))
                .unwrap();
            let train = scenes
                .at("photos/train")
                .join(kind(number as usize % KINDS));
            image.save(train.join(format!("{number:02}.png"))).unwrap();
        }
        Self {
            scenes,
            checkpoint,
            model,
        }
    }

    fn opening(&self) -> Opening {
        Opening {
            dataset: Some(self.scenes.text("photos")),
            checkpoint: Some(self.checkpoint.clone()),
            ..Opening::default()
        }
    }

    fn open(&self) -> Viewer {
        self.scenes.open(self.opening())
    }
}

/// The number in the name of an image of [`Photos`].
fn number_of(viewer: &Viewer, image: usize) -> usize {
    let collection = viewer.state().state().collection.clone().unwrap();
    let title = collection.image_title(image);
    title.trim_end_matches(".png").parse().unwrap()
}

#[test]
fn a_classifier_is_run_on_all_images_and_judged_by_their_labels() {
    let photos = Photos::new();
    let mut viewer = photos.open();
    assert_eq!(errors(&viewer), [""; 0]);
    let state = viewer.state().state();
    assert_eq!(state.image_count(), 18);
    assert_eq!(state.processed(Pane::First), 1, "the visible image");
    viewer.get_by_label("Classify all 18 images");
    press(&mut viewer, Key::D);
    assert_eq!(viewer.state().state().processed(Pane::First), 18);
    let button = viewer.get_by_label("Classify all 18 images");
    assert!(
        button.accesskit_node().is_disabled(),
        "it keeps its place when nothing is left"
    );
    viewer.get_by_label("6 right");
    viewer.get_by_label("12 wrong");
    viewer.get_by_label("top-1 33.33 %");

    // Every image has the verdict that its number gives it, in the gallery and beside the image.
    for image in 0..18 {
        viewer.state_mut().state_mut().query.sort = SortBy::Position;
        let is_right = number_of(&viewer, image).is_multiple_of(3);
        let known = viewer.state().state().classified[0]
            .get(image)
            .cloned()
            .unwrap();
        assert_eq!(known.is_right(), Some(is_right));
        assert_eq!(known.top.len(), 5);
    }
    press(&mut viewer, Key::E);
    let listed = viewer.state().state().order.clone();
    assert_eq!(listed.len(), 12);
    let mut images = listed.iter().copied().map(|image| image as usize);
    let last = images.find(|&image| number_of(&viewer, image) % 3 == 2);
    let last = last.unwrap();
    viewer.get_by_label("errors only");
    let truth = viewer
        .state()
        .state()
        .collection
        .as_ref()
        .unwrap()
        .label(last)
        .unwrap();
    let truth = viewer.state().state().classes.name(truth).to_owned();
    assert!(
        viewer
            .query_all_by_label(&format!("wrong: {truth}"))
            .next()
            .is_some()
    );

    // The true class is listed with its rank although it is the last of twelve.
    let title = viewer
        .state()
        .state()
        .collection
        .as_ref()
        .unwrap()
        .image_title(last);
    viewer.get_by_role_and_label(Role::Button, &title).click();
    settle(&mut viewer);
    let (_, image) = viewer.state().state().pixels[0].clone().unwrap();
    let ranked = photos.model.classify(&image, KINDS).unwrap();
    let (first, worst) = (&ranked[0], &ranked[KINDS - 1]);
    assert_eq!(worst.name, truth);
    viewer.get_by_label(&format!("✖ wrong: {truth} predicted as {}", first.name));
    let row = format!(
        "rank 12: {truth} {:.1} %, true class",
        worst.probability * 100.0
    );
    click(&mut viewer, &row);
    // It can be explained like the others.
    press(&mut viewer, Key::W);
    let explained = viewer.state().state().current_explanation().unwrap();
    assert_eq!(explained.of.subject, Subject::Class(worst.label));

    // A class lists its images.
    press(&mut viewer, Key::Backspace);
    let class = viewer
        .state()
        .state()
        .collection
        .as_ref()
        .unwrap()
        .label(last);
    viewer.state_mut().state_mut().query.class = class;
    settle(&mut viewer);
    let state = viewer.state().state();
    let collection = state.collection.clone().unwrap();
    let own = (0..18).filter(|&image| collection.label(image as usize) == class);
    assert_eq!(**state.order, own.collect::<Vec<u32>>());
    assert_eq!(errors(&viewer), [""; 0]);
}

#[test]
fn the_surest_mistakes_come_first() {
    let photos = Photos::new();
    let mut viewer = photos.open();
    press(&mut viewer, Key::D);
    let state = viewer.state().state();
    let mistakes = state.mistakes[0].clone();
    assert_eq!(mistakes.len(), 12);
    assert!(mistakes.is_sorted_by(|a, b| a.probability >= b.probability));
    let collection = state.collection.clone().unwrap();
    for mistake in mistakes.iter() {
        let image = collection.load(mistake.image).unwrap();
        let ranked = photos.model.classify(&image, 1).unwrap();
        assert_eq!(state.classes.name(mistake.predicted), ranked[0].name);
        assert_eq!(Some(mistake.truth), collection.label(mistake.image));
        assert!((mistake.probability - ranked[0].probability).abs() < 1e-6);
    }
    viewer.state_mut().state_mut().query.sort = SortBy::SurestMistake;
    settle(&mut viewer);
    let order = viewer.state().state().order.clone();
    let images: Vec<u32> = mistakes.iter().map(|m| m.image as u32).collect();
    assert_eq!(order[..12], images);
    assert_eq!(order.len(), 18);

    // The Data page lists them too, and a click shows the image.
    press(&mut viewer, Key::F3);
    viewer.get_by_label("Surest mistakes of 12");
    let second = mistakes[1];
    let row = format!(
        "{:.1} % {} for {}, {}",
        second.probability * 100.0,
        viewer.state().state().classes.name(second.predicted),
        viewer.state().state().classes.name(second.truth),
        collection.image_title(second.image)
    );
    click(&mut viewer, &row);
    let state = viewer.state().state();
    assert_eq!((state.tab, state.current), (PanelId::IMAGE, second.image));
    assert_eq!(**state.order, images);
}

#[test]
fn the_accuracy_of_a_classifier_is_that_of_the_command_and_its_parts_list_their_images() {
    let photos = Photos::new();
    let mut viewer = photos.open();
    click(&mut viewer, "Data");
    click(&mut viewer, "Classify all 18 images");
    let report = photos.scenes.at("report");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sedet"))
        .args(["eval", "--device", "cpu", "--json", "--checkpoint"])
        .arg(&photos.checkpoint)
        .arg("--dataset")
        .arg(photos.scenes.at("photos"))
        .arg("--output")
        .arg(&report)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for export in [
        "Metrics (JSON, PNG, SVG)",
        "Histograms and confusion matrix (CSV)",
        "Predicted classes (CSV)",
    ] {
        click(&mut viewer, "Export");
        click(&mut viewer, export);
    }
    assert_eq!(errors(&viewer), [""; 0]);
    let json = |bytes: &[u8]| -> serde_json::Value { serde_json::from_slice(bytes).unwrap() };
    let of_command = json(&std::fs::read(report.join("metrics.json")).unwrap());
    let exported = json(&photos.scenes.exported("metrics.json"));
    for (name, value) in of_command.as_object().unwrap() {
        match name.as_str() {
            // Sums over the images of other batches.
            "loss" | "calibration_error" => {
                let difference = value.as_f64().unwrap() - exported[name].as_f64().unwrap();
                assert!(difference.abs() < 1e-5, "{name}: {difference}");
            }
            "reliability" => {
                let counts = |bins: &serde_json::Value| -> Vec<serde_json::Value> {
                    let bins = bins.as_array().unwrap().iter();
                    bins.map(|bin| bin["images"].clone()).collect()
                };
                assert_eq!(counts(value), counts(&exported[name]));
            }
            _ => assert_eq!(*value, exported[name], "{name}"),
        }
    }
    assert_eq!(exported["top1"].as_f64().unwrap(), 100.0 / 3.0);
    let confusion = std::fs::read(report.join("confusion.csv")).unwrap();
    assert_eq!(photos.scenes.exported("confusion.csv"), confusion);
    for name in ["confusion.png", "confusion.svg", "reliability.png"] {
        assert!(!photos.scenes.exported(name).is_empty());
    }
    let predictions = String::from_utf8(photos.scenes.exported("predictions.csv")).unwrap();
    let of_command = std::fs::read_to_string(report.join("predictions.csv")).unwrap();
    for (own, other) in predictions.lines().zip(of_command.lines()) {
        for (own, other) in own.split(',').zip(other.split(',')) {
            // Probabilities of other batches may differ in their last digits.
            match (own.parse::<f64>(), other.parse::<f64>()) {
                (Ok(own), Ok(other)) => assert!((own - other).abs() < 1e-6),
                _ => assert_eq!(own, other),
            }
        }
    }
    assert_eq!(of_command.lines().count(), 19);
    assert_eq!(predictions.lines().count(), 19);
    let collection = viewer.state().state().collection.clone().unwrap();
    let image = collection.load(0).unwrap();
    let best = &photos.model.classify(&image, 1).unwrap()[0];
    let truth = viewer
        .state()
        .state()
        .classes
        .name(collection.label(0).unwrap())
        .to_owned();
    let line = predictions.lines().nth(1).unwrap();
    let start = format!("{},{truth},{},", collection.describe(0), best.name);
    assert!(line.starts_with(&start), "{line}");

    // The page has the numbers, and what it shows leads to images.
    viewer.get_by_label("top-1 33.33 %");
    let top5 = exported["top5"].as_f64().unwrap();
    viewer.get_by_label(&format!("top-5 {top5:.2} %"));
    let of_class = exported["classes"].as_array().unwrap().iter();
    let of_class = of_class.filter(|class| class["images"].as_u64() > Some(0));
    let of_class: Vec<f64> = of_class
        .map(|class| class["top1"].as_f64().unwrap())
        .collect();
    let mean = of_class.iter().sum::<f64>() / of_class.len() as f64;
    viewer.get_by_label(&format!("mean per class {mean:.2} %"));
    viewer.get_by_role_and_label(Role::Image, "confusion matrix");
    assert!(viewer.query_by_label_contains("box size").is_none());
    let bins = exported["reliability"].as_array().unwrap();
    let bin = &bins[bins.len() - 1];
    let images = bin["images"].as_u64().unwrap() as usize;
    let name = format!("to {:.2}: ", bin["to"].as_f64().unwrap());
    viewer.get_by_label_contains(&name).click();
    settle(&mut viewer);
    assert_eq!(viewer.state().state().order.len(), images);
    click(&mut viewer, "Data");
    let cells = viewer.state().state().tallies[0].clone().unwrap();
    let (cell, (number, listed)) = cells.cells.iter().find(|((a, b), _)| a != b).unwrap();
    let [truth, found] = [cell.0, cell.1].map(|class| {
        viewer
            .state()
            .state()
            .classes
            .name(class.unwrap())
            .to_owned()
    });
    click(
        &mut viewer,
        &format!("{truth} predicted as {found}: {number}"),
    );
    assert_eq!(**viewer.state().state().order, *listed);
    // So does the class that one is taken for most often.
    click(&mut viewer, "Data");
    let mut classes = exported["classes"].as_array().unwrap().iter();
    let worst = classes.find(|class| class["top1"] == 0.0 && class["images"] != 0);
    let other = &worst.unwrap()["confused_with"];
    let name = other["name"].as_str().unwrap();
    let text = format!("{name} ({})", other["images"]);
    let mut buttons = viewer.query_all_by_role_and_label(Role::Button, &text);
    buttons.next().unwrap().click();
    drop(buttons);
    settle(&mut viewer);
    let state = viewer.state().state();
    assert_eq!(state.order.len() as u64, other["images"].as_u64().unwrap());
    let picked = state.query.picked.clone().unwrap().label;
    assert!(
        picked.ends_with(&format!("predicted as {name}")),
        "{picked}"
    );
}

#[test]
fn a_classifier_without_labels_has_classes_but_no_verdicts() {
    let photos = Photos::new();
    let directories = (0..KINDS).map(|class| photos.scenes.at("photos/val").join(kind(class)));
    let files = |directory: &Path| -> Vec<PathBuf> {
        let entries = directory.read_dir().unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut directories = directories.filter(|directory| !files(directory).is_empty());
    let directory = directories.next().unwrap();
    std::fs::copy(&files(&directory)[0], directory.join("z.png")).unwrap();
    let mut viewer = photos.scenes.open(Opening {
        dataset: None,
        what: Some(directory.display().to_string()),
        ..photos.opening()
    });
    press(&mut viewer, Key::D);
    let state = viewer.state().state();
    let count = state.image_count();
    assert_eq!(state.processed(Pane::First), count);
    assert!(state.tallies[0].is_none() && state.mistakes[0].is_empty());
    assert!(!state.judges_classes(Pane::First));
    for absent in [
        " right",
        " wrong",
        "errors only",
        "score threshold",
        "annotations",
        "labels",
    ] {
        assert!(viewer.query_by_label_contains(absent).is_none(), "{absent}");
    }
    // The keys of boxes change no setting.
    let before = viewer.state().state().settings.filter.clone();
    for key in [
        Key::G,
        Key::P,
        Key::L,
        Key::S,
        Key::V,
        Key::F,
        Key::CloseBracket,
        Key::Period,
    ] {
        press(&mut viewer, key);
    }
    assert_eq!(viewer.state().state().settings.filter, before);
    press(&mut viewer, Key::F3);
    viewer.get_by_label("accuracy requires images with classes");
    click(&mut viewer, "Export");
    click(&mut viewer, "Predicted classes (CSV)");
    let csv = String::from_utf8(photos.scenes.exported("predictions.csv")).unwrap();
    assert_eq!(csv.lines().count(), count + 1);
    assert!(csv.lines().nth(1).unwrap().contains(".png,,kind "), "{csv}");
    // Without labels, a class lists the images that are given it.
    let best = viewer.state().state().classified[0]
        .get(0)
        .unwrap()
        .predicted();
    viewer.state_mut().state_mut().query.class = best;
    settle(&mut viewer);
    assert!(viewer.state().state().order.contains(&0));
}

#[test]
fn classification_of_all_images_is_cancelled_and_goes_on_where_it_stopped() {
    const IMAGES: usize = 700;
    let photos = Photos::new();
    let directory = photos.scenes.at("many");
    std::fs::create_dir_all(&directory).unwrap();
    for number in 0..IMAGES {
        let shade = image::Rgb([(number % 256) as u8, (number / 256) as u8, 90]);
        let image = image::RgbImage::from_pixel(8, 8, shade);
        image.save(directory.join(format!("{number}.png"))).unwrap();
    }
    let mut viewer = photos.scenes.open(Opening {
        dataset: None,
        what: Some(directory.display().to_string()),
        ..photos.opening()
    });
    viewer.key_press(Key::D);
    let start = Instant::now();
    while viewer.state().state().progress.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "never starts");
        viewer.step();
    }
    viewer.get_by_label("Cancel").click();
    settle(&mut viewer);
    let state = viewer.state().state();
    assert!(state.progress.is_empty());
    let done = state.processed(Pane::First);
    assert!(done < IMAGES, "{done}");
    let known = state.classified[0].get(0).cloned().unwrap();
    press(&mut viewer, Key::D);
    let state = viewer.state().state();
    assert_eq!(state.processed(Pane::First), IMAGES);
    assert_eq!(*state.classified[0].get(0).unwrap(), known);
    assert_eq!(errors(&viewer), [""; 0]);
}

#[test]
fn classes_that_differ_from_the_dataset_are_named_instead_of_counted_as_wrong() {
    let photos = Photos::new();
    let other = photos.scenes.at("other.safetensors");
    let names: Vec<String> = (0..4).map(|class| format!("thing {class}")).collect();
    classifier_named(&other, 5, &names);
    let mut viewer = photos.scenes.open(Opening {
        checkpoint: Some(other),
        ..photos.opening()
    });
    press(&mut viewer, Key::D);
    viewer.get_by_label_contains("no verdicts, since the classes differ: only in the checkpoint");
    assert!(viewer.state().state().tallies[0].is_none());
    press(&mut viewer, Key::F3);
    viewer.get_by_label_contains("no accuracy, since the classes differ: ");
}

#[test]
fn a_thousand_classes_with_long_names_are_searched_and_do_not_widen_the_panels() {
    let photos = Photos::new();
    let view = |viewer: &Viewer| viewer.get_by_label("image with boxes").rect();
    let before = view(&photos.open());
    let large = photos.scenes.at("large.safetensors");
    let long = "common ringed seal, sea dog, fur seal with many synonyms";
    let names = (0..1000).map(|class| match class {
        class if class < KINDS => kind(class),
        class => format!("{class} {long}"),
    });
    classifier_named(&large, 9, &names.collect::<Vec<_>>());
    let mut viewer = photos.scenes.open(Opening {
        checkpoint: Some(large),
        ..photos.opening()
    });
    assert_eq!(view(&viewer), before);
    press(&mut viewer, Key::D);
    assert_eq!(viewer.state().state().classes.len(), 1000);
    assert!(viewer.state().state().judges_classes(Pane::First));
    viewer
        .get_by_role_and_label(Role::ComboBox, "Class")
        .click();
    settle(&mut viewer);
    assert_eq!(view(&viewer), before);
    fill(&mut viewer, "Search classes", "kind 07");
    assert!(viewer.query_by_label("kind 06").is_none());
    click(&mut viewer, "kind 07");
    assert_eq!(viewer.state().state().query.class, Some(7));
    assert!(viewer.query_by_label("Search classes").is_none(), "closed");
    press(&mut viewer, Key::F3);
    viewer.get_by_label_contains("classes that are confused most often; ");
    viewer.get_by_role_and_label(Role::Image, "confusion matrix");
    assert!(controls(&viewer, "Data of a classifier").len() > 10);
    assert_eq!(errors(&viewer), [""; 0]);
}

#[test]
fn every_control_of_a_classifier_has_a_name_and_an_action() {
    let photos = Photos::new();
    let second = photos.scenes.at("second.safetensors");
    let names: Vec<String> = (0..KINDS).map(kind).collect();
    classifier_named(&second, 11, &names);
    let mut viewer = photos.scenes.open(Opening {
        compare: Some(second),
        ..photos.opening()
    });
    press(&mut viewer, Key::D);
    for (page, key) in [("Image", Key::F1), ("Gates", Key::F2), ("Data", Key::F3)] {
        press(&mut viewer, key);
        assert!(controls(&viewer, page).len() > 5);
        click(&mut viewer, "Compare");
        controls(&viewer, &format!("{page}, Compare"));
        press(&mut viewer, Key::Escape);
    }
    assert_eq!(errors(&viewer), [""; 0]);
}

#[test]
fn images_in_which_only_the_first_network_is_correct_are_found() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening {
        compare: Some(shipped("blood-cells-se-resnet18")),
        ..scenes.opening()
    });
    press(&mut viewer, Key::D);
    click(&mut viewer, "Compare");
    click(&mut viewer, "Detect in all images with it");
    let state = viewer.state().state();
    assert!(state.predictions.iter().all(|p| p.is_complete()));
    let tally = state.tallies[1].as_ref().unwrap();
    assert_eq!(tally.total.correct, 0, "it was trained on other images");
    let wrong = |t: &sedet::eval::matching::MatchCounts| t.wrong + t.missed;
    let first = state.tallies[0].as_ref().unwrap();
    let expected: Vec<u32> = (0..6)
        .filter(|&i| {
            let [a, b] = [first, tally].map(|t| wrong(&t.images[i as usize].unwrap()));
            a == 0 && b > 0
        })
        .collect();
    assert_eq!(state.only_first_correct(), expected);
}

/// Writes a results file that has the first object right, mistakes the second for another class, and has a box on the
/// background of the last image.
fn results_with_errors(scenes: &Scenes) -> PathBuf {
    let truth = scenes.at("scenes/annotations/instances_val2017.json");
    let truth: serde_json::Value = serde_json::from_slice(&std::fs::read(truth).unwrap()).unwrap();
    let object = |at: usize| truth["annotations"][at].clone();
    let row = |image: &serde_json::Value, class: &serde_json::Value, of: &serde_json::Value| serde_json::json!({"image_id": image, "category_id": class, "bbox": of, "score": 0.75});
    let (right, mistaken) = (object(0), object(1));
    let categories = truth["categories"].as_array().unwrap().iter();
    let mut others = categories.filter(|class| class["id"] != mistaken["category_id"]);
    let other = &others.next().unwrap()["id"];
    let last = &truth["images"].as_array().unwrap().last().unwrap()["id"];
    let rows = [
        row(&right["image_id"], &right["category_id"], &right["bbox"]),
        row(&mistaken["image_id"], other, &mistaken["bbox"]),
        row(last, other, &serde_json::json!([0, 0, 3, 3])),
    ];
    let results = scenes.at("results.json");
    std::fs::write(&results, serde_json::json!(rows).to_string()).unwrap();
    results
}

/// A results file and the shipped detector on the scenes.
fn two_detectors(scenes: &Scenes) -> Opening {
    Opening {
        dataset: Some(scenes.text("scenes")),
        results: Some(results_with_errors(scenes)),
        compare: Some(shipped("shapes-se-resnet18")),
        ..Opening::default()
    }
}

#[test]
fn objects_that_a_second_network_fixes_and_breaks_are_counted_and_selected_one_after_the_other() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(two_detectors(&scenes));
    click(&mut viewer, "Run both networks on all 6 images");
    assert_eq!(errors(&viewer), [""; 0]);
    assert!(
        viewer
            .query_by_label_contains("Run both networks")
            .is_none()
    );
    let state = viewer.state().state();
    let collection = state.collection.clone().unwrap();
    let (mut expected, mut both_right) = (Vec::new(), 0);
    for image in 0..6 {
        let truth = collection.ground_truth(image);
        let found = [0, 1].map(|network| {
            let found = state.predictions[network].get(image).unwrap().iter();
            let found = found.filter(|found| found.score >= 0.5);
            found.copied().collect::<Vec<_>>()
        });
        let matches = found
            .each_ref()
            .map(|found| match_image(&truth, found, 0.5));
        for at in 0..truth.len() {
            let change = match matches
                .each_ref()
                .map(|matches| matches.truth[at].is_some())
            {
                [true, true] => {
                    both_right += 1;
                    continue;
                }
                [true, false] => Change::Broken,
                [false, true] => Change::Fixed,
                [false, false] => Change::BothWrong,
            };
            expected.push((image, BoxRef::GroundTruth(at), change));
        }
        let is_wrong = |network: usize, at: usize| {
            matches!(
                matches[network].found[at],
                sedet::eval::Verdict::Wrong { .. }
            )
        };
        for (network, change) in [(0, Change::OnlyFirst), (1, Change::OnlySecond)] {
            for (at, own) in found[network].iter().enumerate() {
                let other = found[1 - network].iter().enumerate();
                let mut same = other.filter(|(other, known)| {
                    is_wrong(1 - network, *other)
                        && known.class == own.class
                        && known.box_in_image.iou(own.box_in_image) >= 0.5
                });
                if is_wrong(network, at) && same.next().is_none() {
                    expected.push((image, BoxRef::Detection(at), change));
                }
            }
        }
    }
    let comparison = state.comparison.clone().unwrap();
    let items = comparison.items.iter();
    let listed: Vec<_> = items
        .map(|item| (item.image, item.of.unwrap().0, item.change))
        .collect();
    assert_eq!(listed, expected);
    assert_eq!((comparison.images, comparison.both_right), (6, both_right));
    let count = |change: Change| listed.iter().filter(|(.., of)| *of == change).count();
    let [first, second] = [0, 1].map(|at| state.tallies[at].as_ref().unwrap().total);
    assert_eq!((first.correct, first.wrong), (1, 2));
    assert_eq!(count(Change::Fixed) + both_right, second.correct);
    assert_eq!(count(Change::Broken) + both_right, 1);
    assert!(count(Change::Fixed) > 2);
    assert!((1..=2).contains(&count(Change::OnlyFirst)));
    // The mistaken object has the class that the file gives it.
    let mistaken = &comparison.items.iter().find(|item| {
        item.found[0].is_some_and(|(class, _)| {
            class != item.class && matches!(item.of, Some((BoxRef::GroundTruth(_), _)))
        })
    });
    assert_eq!(mistaken.unwrap().found[0].unwrap().1, 0.75);

    viewer.get_by_label_contains(&format!(
        "6 of 6 images processed by both; of {} objects the first finds 1, the second {}; ",
        first.correct + first.missed,
        second.correct
    ));

    // A click goes through them.
    let fixed: Vec<_> = listed
        .iter()
        .filter(|(.., of)| *of == Change::Fixed)
        .collect();
    let name = format!("fixed: {}", fixed.len());
    for (image, of, _) in [fixed[0], fixed[1], fixed[2]] {
        click(&mut viewer, &name);
        let state = viewer.state().state();
        assert_eq!((state.current, state.selected), (*image, Some(*of)));
    }
    viewer.get_by_label(&format!("3 of {}", fixed.len()));
    click(&mut viewer, "previous: fixed");
    assert_eq!(viewer.state().state().selected, Some(fixed[1].1));
    let mut images: Vec<u32> = fixed.iter().map(|(image, ..)| *image as u32).collect();
    images.dedup();
    assert_eq!(**viewer.state().state().order, images);
    let own: Vec<_> = listed
        .iter()
        .filter(|(.., of)| *of == Change::OnlyFirst)
        .collect();
    viewer.state_mut().state_mut().focus = Pane::Second;
    // All lists of the side panel are in sight.
    viewer.set_size(egui::vec2(1280.0, 1000.0));
    settle(&mut viewer);
    click(
        &mut viewer,
        &format!("wrong in the first only: {}", own.len()),
    );
    let state = viewer.state().state();
    assert_eq!((state.current, state.selected), (own[0].0, Some(own[0].1)));
    assert_eq!(state.focused(), Pane::First);

    // The Data page has the same numbers, and its export every item.
    press(&mut viewer, Key::F3);
    viewer.get_by_label(&name);
    click(&mut viewer, "Export");
    click(&mut viewer, "Differences of two networks (CSV)");
    assert_eq!(errors(&viewer), [""; 0]);
    let csv = String::from_utf8(scenes.exported("comparison.csv")).unwrap();
    assert!(csv.starts_with("image,kind,class,status,first_class,first_score,second_class,"));
    assert_eq!(csv.lines().count(), listed.len() + 1);
    assert_eq!(csv.matches(",fixed,").count(), fixed.len());
}

#[test]
fn the_change_of_ap_is_that_of_the_library_over_the_images_that_both_have_processed() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(two_detectors(&scenes));
    press(&mut viewer, Key::F3);
    click(&mut viewer, "Evaluate both");
    let change = viewer.state().state().ap_change.clone().unwrap();
    assert_eq!(change.images(), 1, "the second has seen one image");
    viewer.get_by_label("over the 1 image that both had processed");
    click(&mut viewer, "Run both networks on all 6 images");
    click(&mut viewer, "Evaluate both");
    assert_eq!(errors(&viewer), [""; 0]);
    let change = viewer.state().state().ap_change.clone().unwrap();
    assert_eq!(change.images(), 6);

    let truth = scenes.at("scenes/annotations/instances_val2017.json");
    let truth = GroundTruth::from_file(&truth).unwrap();
    let model = Model::load(shipped("shapes-se-resnet18"), &Device::flex()).unwrap();
    let collection = viewer.state().state().collection.clone().unwrap();
    let ShownImages::Boxes(dataset) = &collection.images else {
        panic!("a detection dataset");
    };
    let go_on = &mut |_: usize, _: usize| std::ops::ControlFlow::Continue(());
    let second = model.detect_dataset(dataset, OnBadImage::Error, go_on);
    let rows = [
        read_results(&scenes.at("results.json")).unwrap(),
        second.unwrap().unwrap().rows,
    ];
    let expected = rows.map(|rows| evaluate(&truth, &rows).unwrap());
    for (found, expected) in change.evaluations.iter().zip(&expected) {
        assert_eq!(found.metrics, expected.metrics);
        let ap = |evaluation: &CocoEvaluation| -> Vec<[f64; 2]> {
            let classes = evaluation.per_class.iter();
            classes.map(|class| [class.ap, class.ap50]).collect()
        };
        assert_eq!(ap(found), ap(expected));
    }
    let [first, second] = expected.each_ref().map(|found| found.metrics.ap);
    assert!(second > first + 0.3);
    viewer.get_by_label(&format!(
        "mean AP {first:.3} -> {second:.3} ({:+.3})",
        second - first
    ));
    let classes = change.classes();
    let by = classes
        .iter()
        .filter_map(|class| Some(class.ap[1]? - class.ap[0]?));
    assert!(by.is_sorted(), "the largest loss first");
    click(&mut viewer, "Export");
    click(&mut viewer, "Change of AP (CSV)");
    let csv = String::from_utf8(scenes.exported("ap_change.csv")).unwrap();
    assert_eq!(csv.lines().count(), classes.len() + 2);
    let means = csv.lines().nth(1).unwrap();
    let start = format!("(mean),{first},{second},{},", second - first);
    assert!(means.starts_with(&start), "{means}");
    // A class lists its images.
    let names = viewer.query_all_by_role_and_label(Role::Button, &classes[0].name);
    names.last().unwrap().click();
    settle(&mut viewer);
    let state = viewer.state().state();
    let class = state.query.class.unwrap();
    assert_eq!(state.classes.name(class), classes[0].name);
    assert_eq!(state.tab, PanelId::IMAGE);
}

#[test]
fn two_classifiers_are_compared_by_image() {
    let photos = Photos::new();
    let path = photos.scenes.at("second.safetensors");
    let names: Vec<String> = (0..KINDS).map(kind).collect();
    let second = classifier_named(&path, 11, &names);
    let mut viewer = photos.scenes.open(Opening {
        compare: Some(path),
        ..photos.opening()
    });
    press(&mut viewer, Key::D);
    let state = viewer.state().state();
    assert!(
        [Pane::First, Pane::Second]
            .iter()
            .all(|pane| state.processed(*pane) == 18)
    );
    let collection = state.collection.clone().unwrap();
    let expected: Vec<(usize, Change)> = (0..18)
        .filter_map(|image| {
            let pixels = collection.load(image).unwrap();
            let truth = state.classes.name(collection.label(image).unwrap());
            let is_right = [&photos.model, &second].map(|model| {
                let best = &model.classify(&pixels, 1).unwrap()[0];
                best.name == truth
            });
            let change = match is_right {
                [true, true] => return None,
                [true, false] => Change::Broken,
                [false, true] => Change::Fixed,
                [false, false] => Change::BothWrong,
            };
            Some((image, change))
        })
        .collect();
    let comparison = state.comparison.clone().unwrap();
    let items = comparison.items.iter();
    let listed: Vec<_> = items.map(|item| (item.image, item.change)).collect();
    assert_eq!(listed, expected);
    let broken: Vec<_> = listed
        .iter()
        .filter(|(_, of)| *of == Change::Broken)
        .collect();
    assert!(!broken.is_empty());
    assert!(
        viewer
            .query_by_label_contains("wrong in the first only")
            .is_none()
    );
    click(&mut viewer, &format!("broken: {}", broken.len()));
    assert_eq!(viewer.state().state().current, broken[0].0);
    press(&mut viewer, Key::F3);
    click(&mut viewer, "Export");
    click(&mut viewer, "Differences of two networks (CSV)");
    let csv = String::from_utf8(photos.scenes.exported("comparison.csv")).unwrap();
    assert_eq!(csv.lines().count(), listed.len() + 1);
    assert_eq!(csv.matches(",image,").count(), listed.len());
    assert_eq!(errors(&viewer), [""; 0]);
}

#[test]
fn the_mean_gates_of_two_networks_are_compared_on_the_same_images() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening {
        compare: Some(shipped("blood-cells-se-resnet18")),
        ..scenes.opening()
    });
    click(&mut viewer, "Gates");
    click(&mut viewer, "Measure all 6 images");
    click(&mut viewer, "Measure the second network on the same images");
    assert_eq!(errors(&viewer), [""; 0]);
    let state = viewer.state().state();
    let first = state.statistics.clone().unwrap();
    let second = state.second_statistics().cloned().unwrap();
    assert_eq!(second.origin.images, 6);
    assert_ne!(first.blocks[0].all.mean, second.blocks[0].all.mean);
    let (blocks, left_out) = gate_differences(&first, &second).unwrap();
    assert_eq!((blocks.len(), left_out), (first.blocks.len(), None));
    for (at, block) in blocks.iter().enumerate() {
        let means = first.blocks[at]
            .all
            .mean
            .iter()
            .zip(&second.blocks[at].all.mean);
        let expected: Vec<f32> = means.map(|(a, b)| a - b).collect();
        assert_eq!(block.differences, expected);
        let mean = expected.iter().map(|d| f64::from(d.abs())).sum::<f64>() / expected.len() as f64;
        assert!((block.mean_absolute() - mean).abs() < 1e-12);
    }
    let block = &blocks[0];
    let mean = block.mean_absolute();
    click(
        &mut viewer,
        &format!("{}: mean difference {mean:.4}", block.block),
    );
    let largest = block.channels()[0];
    assert!(
        block
            .differences
            .iter()
            .all(|d| d.abs() <= block.differences[largest].abs())
    );
    let by = block.differences[largest];
    viewer.get_by_label(&format!("channel {largest}: {by:+.4}"));
    let choice = &viewer.state().state().statistics_choice;
    assert_eq!((choice.block, choice.channel), (0, largest));
    assert!(controls(&viewer, "Gates of two networks").len() > 10);

    // A network with other blocks is not compared, and a line says so.
    let other = classifier_with(&scenes, "se-resnet50", 3);
    let open = Request::OpenSecond(other.display().to_string());
    viewer.state_mut().state_mut().requests.push(open);
    settle(&mut viewer);
    assert!(viewer.state().state().second_statistics().is_none());
    click(&mut viewer, "Measure the second network on the same images");
    let second = viewer.state().state().second_statistics().cloned().unwrap();
    let channels = [&first, &second].map(|of| of.blocks[0].all.mean.len());
    viewer.get_by_label(&format!(
        "no block can be compared: {} has {} channels in the first network and {} in the second, and {} more \
         blocks differ",
        block.block,
        channels[0],
        channels[1],
        first.blocks.len() - 1
    ));
    assert_eq!(errors(&viewer), [""; 0]);
}

#[test]
fn two_networks_are_compared_with_a_divider_or_side_by_side() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening {
        compare: Some(shipped("blood-cells-se-resnet18")),
        ..scenes.opening()
    });
    let stem = viewer
        .state()
        .state()
        .collection
        .as_ref()
        .unwrap()
        .image_title(0);
    let stem = stem.trim_end_matches(".jpg").to_owned();
    let ratio = |viewer: &mut Viewer, name: &str| {
        viewer.key_press_modifiers(Modifiers::COMMAND, Key::S);
        settle(viewer);
        let image = image::load_from_memory(&scenes.exported(name)).unwrap();
        f64::from(image.width()) / f64::from(image.height())
    };
    viewer.get_by_role_and_label(Role::Slider, "divider");
    let one = ratio(&mut viewer, &format!("{stem}.png"));
    click(&mut viewer, "side by side");
    assert!(
        viewer
            .query_by_role_and_label(Role::Slider, "divider")
            .is_none()
    );
    let two = ratio(&mut viewer, &format!("{stem}-2.png"));
    assert!(two > 1.5 * one, "{one} {two}");
    // The right half answers for the second network.
    let view = viewer.get_by_label("image with boxes").rect();
    let place = view.right_center() - egui::vec2(view.width() / 4.0, 0.0);
    viewer.drag_at(place);
    viewer.drop_at(place);
    settle(&mut viewer);
    assert_eq!(viewer.state().state().focused(), Pane::Second);
    click(&mut viewer, "with divider");
    viewer.get_by_role_and_label(Role::Slider, "divider");
    assert_eq!(errors(&viewer), [""; 0]);
}

#[test]
fn the_image_panel_exports_its_content() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    press(&mut viewer, Key::K);
    for name in [
        "Image with boxes (PNG)",
        "Image with boxes (SVG)",
        "Boxes and verdicts (CSV)",
        "Gates of this image (CSV)",
        "Gates of this image (PNG, SVG)",
        "Feature maps of the selected channels (PNG)",
    ] {
        click(&mut viewer, "Export");
        click(&mut viewer, name);
    }
    assert_eq!(errors(&viewer), [""; 0]);
    let stem = viewer
        .state()
        .state()
        .collection
        .as_ref()
        .unwrap()
        .image_title(0);
    let stem = stem.trim_end_matches(".jpg").to_owned();
    let svg = String::from_utf8(scenes.exported(&format!("{stem}.svg"))).unwrap();
    assert!(svg.contains("<svg") && svg.contains("<rect"));
    let boxes = String::from_utf8(scenes.exported(&format!("{stem}-boxes.csv"))).unwrap();
    assert!(boxes.starts_with("kind,class,score,x,y,width,height,verdict,iou\n"));
    assert!(boxes.contains(",correct,"));
    let gates = String::from_utf8(scenes.exported(&format!("{stem}-gates.csv"))).unwrap();
    let channels: usize = viewer.state().state().inference[0]
        .iter()
        .flat_map(|l| &l.blocks)
        .map(|b| b.gates.len())
        .sum();
    assert_eq!(gates.lines().count(), channels + 1);
    for name in ["gates.png", "gates.svg", "channels-SE_5_2.png"] {
        assert!(!scenes.exported(&format!("{stem}-{name}")).is_empty());
    }
    // The box that the pointer happens to be over does not stand out.
    viewer.get_by_label_contains("detection 1: ").hover();
    settle(&mut viewer);
    assert!(viewer.state().state().hovered.is_some());
    viewer.key_press_modifiers(Modifiers::COMMAND, Key::S);
    settle(&mut viewer);
    let hovered = scenes.exported(&format!("{stem}-2.png"));
    assert!(hovered == scenes.exported(&format!("{stem}.png")));
}

#[test]
fn images_of_which_none_can_be_read_do_not_replace_what_is_open() {
    let scenes = Scenes::new();
    let broken = scenes.at("broken");
    std::fs::create_dir_all(&broken).unwrap();
    for name in ["a.jpg", "b.jpg"] {
        std::fs::write(broken.join(name), b"\xff\xd8\xff\xe0 no more").unwrap();
    }
    let mut viewer = scenes.open(scenes.opening());
    let title = |viewer: &Viewer| viewer.state().state().collection.as_ref().unwrap().title();
    let before = title(&viewer);
    let files = [broken.join("a.jpg"), broken.join("b.jpg")];
    let path = |path: &std::path::Path| path.display().to_string();
    for (request, said) in [
        (Request::Open(path(&files[0])), "a.jpg"),
        (
            Request::Open(path(&broken)),
            "broken: none of 2 images can be read, the first: ",
        ),
        (Request::OpenFiles(files.to_vec()), "a.jpg and 1 more: none"),
    ] {
        viewer.state_mut().state_mut().requests.push(request);
        settle(&mut viewer);
        let errors = errors(&viewer);
        assert!(errors.last().unwrap().contains(said), "{errors:?}");
        assert_eq!(title(&viewer), before);
    }
    assert!(viewer.state().state().processed(Pane::First) > 0);
}

/// The colors of verdicts.
const CORRECT: [u8; 3] = [0, 158, 115];
const WRONG: [u8; 3] = [213, 94, 0];
const MISSED: [u8; 3] = [86, 180, 233];

/// Returns how many pixels have a color.
fn count_color(image: &image::RgbImage, color: [u8; 3]) -> usize {
    image.pixels().filter(|pixel| pixel.0 == color).count()
}

#[test]
fn an_exported_image_is_what_the_window_shows() {
    let (green, red, blue) = (CORRECT, WRONG, MISSED);
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    let collection = viewer.state().state().collection.clone().unwrap();
    let stem = collection.image_title(0);
    let stem = stem.trim_end_matches(".jpg").to_owned();
    let exported = |viewer: &mut Viewer, name: &str| {
        viewer.key_press_modifiers(Modifiers::COMMAND, Key::S);
        settle(viewer);
        assert_eq!(errors(viewer), [""; 0]);
        image::load_from_memory(&scenes.exported(name))
            .unwrap()
            .to_rgb8()
    };
    let threshold = |viewer: &mut Viewer, score: f32| {
        viewer.state_mut().state_mut().settings.filter.score = score;
        settle(viewer);
    };
    // With the lowest score threshold some detections are wrong, with the highest all objects are missed.
    threshold(&mut viewer, 0.0);
    let all = exported(&mut viewer, &format!("{stem}.png"));
    assert!(count_color(&all, green) > 100 && count_color(&all, red) > 100);
    threshold(&mut viewer, 1.0);
    let missed = exported(&mut viewer, &format!("{stem}-2.png"));
    assert!(count_color(&missed, blue) > 100, "missed objects are drawn");
    assert_eq!(count_color(&missed, green), 0);
    // The verdict is a part of the label.
    threshold(&mut viewer, 0.0);
    click(&mut viewer, "Export");
    click(&mut viewer, "Image with boxes (SVG)");
    let svg = String::from_utf8(scenes.exported(&format!("{stem}.svg"))).unwrap();
    let named = ["Cls<", "Loc<", "Bkg<", "Dupe<", "Both<"];
    assert!(named.iter().any(|error| svg.contains(error)), "no verdict");

    // Feature map, zoom and comparison are in the exported image.
    threshold(&mut viewer, 0.5);
    let plain = exported(&mut viewer, &format!("{stem}-3.png"));
    press(&mut viewer, Key::K);
    let mapped = exported(&mut viewer, &format!("{stem}-4.png"));
    assert_eq!(plain.dimensions(), mapped.dimensions());
    let changed = plain.pixels().zip(mapped.pixels()).filter(|(a, b)| a != b);
    assert!(changed.count() > (plain.width() * plain.height() / 2) as usize);
    press(&mut viewer, Key::Escape);
    let channel = viewer.state().state().gates.channel;
    assert_eq!(channel, None, "Esc hides the map");
    for _ in 0..8 {
        press(&mut viewer, Key::Plus);
    }
    let zoomed = exported(&mut viewer, &format!("{stem}-5.png"));
    assert_ne!(zoomed, plain);
    press(&mut viewer, Key::Num0);
    press(&mut viewer, Key::C);
    let both = exported(&mut viewer, &format!("{stem}-6.png"));
    let ratio = |image: &image::RgbImage| f64::from(image.width()) / f64::from(image.height());
    assert!(
        ratio(&both) > 1.5 * ratio(&plain),
        "two images side by side"
    );
}

#[test]
fn an_exported_or_copied_image_has_the_chosen_scale() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    click(&mut viewer, "Export");
    click(&mut viewer, "3x");
    click(&mut viewer, "Image with boxes (PNG)");
    click(&mut viewer, "Export");
    click(&mut viewer, "1x");
    click(&mut viewer, "Image with boxes (PNG)");
    click(&mut viewer, "Export");
    click(&mut viewer, "Gates of this image (PNG, SVG)");
    viewer.state_mut().state_mut().settings.export_scale = Some(2);
    click(&mut viewer, "Export");
    click(&mut viewer, "Gates of this image (PNG, SVG)");
    let stem = exported_stem(&viewer);
    let image = |name: &str| {
        let bytes = scenes.exported(&format!("{stem}{name}.png"));
        image::load_from_memory(&bytes).unwrap().into_rgb8()
    };
    let (large, small) = (image(""), image("-2"));
    for (large, small) in [
        (large.width(), small.width()),
        (large.height(), small.height()),
    ] {
        assert!(large.abs_diff(3 * small) <= 3, "{large} {small}");
    }
    let (plain, double) = (image("-gates"), image("-gates-2"));
    assert_eq!(double.width(), 2 * plain.width());
    // Ctrl+C copies the view, at the scale of exports.
    viewer.state_mut().state_mut().settings.export_scale = Some(1);
    viewer.event(egui::Event::Copy);
    let mut copied = None;
    let start = Instant::now();
    while copied.is_none() {
        assert!(start.elapsed() < Duration::from_secs(20), "never copied");
        viewer.step();
        let commands = viewer.output().platform_output.commands.iter();
        copied = commands
            .filter_map(|command| match command {
                egui::OutputCommand::CopyImage(image) => Some(image.clone()),
                _ => None,
            })
            .next();
    }
    let copied = copied.unwrap();
    let pixels = copied
        .pixels
        .iter()
        .flat_map(|pixel| [pixel.r(), pixel.g(), pixel.b()]);
    assert_eq!(
        copied.size,
        [small.width() as usize, small.height() as usize]
    );
    assert!(pixels.eq(small.into_raw()));
    // The Model page has no image.
    press(&mut viewer, Key::F5);
    viewer.event(egui::Event::Copy);
    settle(&mut viewer);
    assert_eq!(errors(&viewer), ["this page has no image to copy"]);
}

/// Returns the stem of the files that the image page exports.
fn exported_stem(viewer: &Viewer) -> String {
    let state = viewer.state().state();
    let title = state
        .collection
        .as_ref()
        .unwrap()
        .image_title(state.current);
    let stem = Path::new(&title).file_stem().unwrap();
    stem.to_string_lossy().into_owned()
}

#[test]
fn exports_without_a_window_are_those_of_the_window() {
    use sedet::viewer::headless::{PageExport, export};
    let scenes = Scenes::new();
    let page = |page: &str, image: Option<&str>| {
        let wanted = PageExport {
            page: page.into(),
            image: image.map(Into::into),
            settings: Settings {
                export_directory: scenes.at("headless"),
                ..Settings::default()
            },
            corrections: None,
        };
        let mut seen = 0;
        let mut progress = |progress: &TaskProgress| seen = seen.max(progress.total);
        let exported = export(
            scenes.opening(),
            Device::flex().into(),
            &wanted,
            &mut progress,
        );
        (exported.map_err(|error| error.to_string()), seen)
    };
    let (exported, seen) = page("data", None);
    let exported = exported.unwrap();
    assert_eq!((exported.errors.len(), seen), (0, 6));

    let mut viewer = scenes.open(scenes.opening());
    press(&mut viewer, Key::D);
    press(&mut viewer, Key::F3);
    click(&mut viewer, "Evaluate");
    for name in [
        "Histograms and confusion matrix (CSV)",
        "Metrics (JSON, PNG, SVG)",
    ] {
        click(&mut viewer, "Export");
        click(&mut viewer, name);
    }
    for name in ["confusion.csv", "metrics.json", "precision-recall.png"] {
        let path = scenes.at("headless").join(name);
        assert!(exported.files.contains(&path), "{name}");
        assert!(
            std::fs::read(path).unwrap() == scenes.exported(name),
            "{name}"
        );
    }
    let state = viewer.state().state();
    let title = state.collection.as_ref().unwrap().image_title(2);
    let (errors, _) = page("errors", None);
    let crops = scenes.at("headless/errors.png");
    assert!(errors.unwrap().files.contains(&crops) && image::open(crops).is_ok());
    let (exported, _) = page("Image", Some(&title));
    let stem = Path::new(&title)
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let exported = exported.unwrap();
    let csv = scenes.at("headless").join(format!("{stem}-boxes.csv"));
    assert!(exported.files.contains(&csv));
    viewer.state_mut().state_mut().tab = PanelId::IMAGE;
    press(&mut viewer, Key::Home);
    press(&mut viewer, Key::ArrowRight);
    press(&mut viewer, Key::ArrowRight);
    click(&mut viewer, "Export");
    click(&mut viewer, "Boxes and verdicts (CSV)");
    let of_window = scenes.exported(&format!("{stem}-boxes.csv"));
    assert!(std::fs::read(csv).unwrap() == of_window);
    // What has nothing to write says so.
    assert!(
        exported
            .notes
            .iter()
            .any(|note| note.starts_with("Effects of the explanation (CSV): "))
    );
    let (nothing, _) = page("training", None);
    let nothing = nothing.unwrap_err();
    assert!(nothing.contains("no training run is open"), "{nothing}");
    // A part of a name that no other has, and one that several have.
    let (part, _) = page("image", Some(&stem[stem.len() - 3..]));
    let parts = part.unwrap().files;
    let is_of_image = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(&stem)
    };
    assert!(parts.iter().any(is_of_image), "{parts:?}");
    let (several, _) = page("image", Some("0000"));
    let several = several.unwrap_err();
    assert!(several.contains("several images are called"), "{several}");
    let (unknown, _) = page("image", Some("nowhere.jpg"));
    let unknown = unknown.unwrap_err();
    assert!(
        unknown.starts_with("no image is called \"nowhere.jpg\"; the first is "),
        "{unknown}"
    );
}

#[test]
fn metrics_of_fewer_images_than_are_processed_say_so() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    press(&mut viewer, Key::F3);
    click(&mut viewer, "Evaluate");
    viewer.get_by_label("over 1 image");
    // Undefined metrics are not numbers.
    assert!(viewer.query_by_label_contains(" -1.0").is_none());
    press(&mut viewer, Key::F1);
    press(&mut viewer, Key::D);
    press(&mut viewer, Key::F3);
    viewer.get_by_label("over 1 image; 6 are processed now: evaluate again");
    click(&mut viewer, "Evaluate");
    viewer.get_by_label("over 6 images");
}

#[test]
fn the_right_half_of_a_comparison_answers_for_its_own_boxes() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening {
        compare: Some(shipped("blood-cells-se-resnet18")),
        ..scenes.opening()
    });
    viewer.state_mut().state_mut().settings.filter.score = 0.05;
    settle(&mut viewer);
    let view = viewer.get_by_label("image with boxes").rect();
    // Some position of the right half is over a box of the second network.
    let places = (0..400).map(|at| {
        let share = egui::vec2(
            0.51 + 0.48 * (at % 20) as f32 / 20.0,
            (at / 20) as f32 / 20.0,
        );
        view.min + share * view.size()
    });
    let mut found = None;
    for place in places {
        viewer.hover_at(place);
        viewer.step();
        viewer.step();
        if let Some((pane, of)) = viewer.state().state().hovered {
            assert_eq!(pane, Pane::Second);
            found = Some((place, of));
            break;
        }
    }
    let (place, of) = found.expect("a box in the right half");
    viewer.drag_at(place);
    viewer.drop_at(place);
    settle(&mut viewer);
    let state = viewer.state().state();
    assert_eq!((state.focused(), state.selected), (Pane::Second, Some(of)));
    press(&mut viewer, Key::Tab);
    assert_eq!(viewer.state().state().focused(), Pane::Second);
    // The table has the class names of the second network, and the selected box is in sight.
    let boxes = viewer.state().state().boxes(Pane::Second);
    let Some(selected @ BoxRef::Detection(at)) = viewer.state().state().selected else {
        panic!("no detection is selected");
    };
    let class = boxes.class_of(selected).unwrap();
    let name = viewer.state().state().classes.name(class).to_owned();
    viewer.get_by_label_contains(&format!("detection {}: {name}", at + 1));
    click(&mut viewer, "first network");
    assert_eq!(viewer.state().state().focused(), Pane::First);
    assert_eq!(viewer.state().state().selected, None);
    // The Data page follows: matrix and metrics are of the chosen network.
    press(&mut viewer, Key::D);
    click(&mut viewer, "Data");
    click(&mut viewer, "second network");
    viewer.get_by_label("Evaluate").scroll_to_me();
    settle(&mut viewer);
    click(&mut viewer, "Evaluate");
    let state = viewer.state().state();
    assert!(state.evaluations[0].is_none() && state.evaluations[1].is_some());
}

#[test]
fn bars_list_their_images_and_metrics_are_computed_and_exported() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    press(&mut viewer, Key::D);
    assert!(viewer.state().state().predictions[0].is_complete());
    click(&mut viewer, "Data");
    click(&mut viewer, "Evaluate");
    let evaluation = viewer.state().state().evaluation().cloned().unwrap();
    assert_eq!(evaluation.images, 6);
    assert!(evaluation.metrics.ap50 > 0.7, "{:?}", evaluation.metrics);
    compare(&mut viewer, "data");
    click(&mut viewer, "Export");
    click(&mut viewer, "Metrics (JSON, PNG, SVG)");
    click(&mut viewer, "Export");
    click(&mut viewer, "Histograms and confusion matrix (CSV)");
    assert_eq!(errors(&viewer), [""; 0]);
    let metrics: serde_json::Value =
        serde_json::from_slice(&scenes.exported("metrics.json")).unwrap();
    assert!(metrics.is_object());
    let confusion = String::from_utf8(scenes.exported("confusion.csv")).unwrap();
    assert!(confusion.starts_with("annotated,ball,box,"));

    let state = viewer.state_mut().state_mut();
    // A list that was picked before does not narrow the new one.
    state.query.picked = Some(Picked {
        label: "one".into(),
        images: std::sync::Arc::new(vec![5]),
    });
    let recall = Request::ShowRecall {
        recall: 0.5,
        iou: 0.75,
    };
    state.requests.push(recall);
    settle(&mut viewer);
    let state = viewer.state().state();
    assert_eq!(state.filter().iou, 0.75);
    assert_eq!(state.order.len(), tally_wrong(&viewer));
    assert_eq!(state.current, state.order[0] as usize);
    let recall = state.tallies[0].as_ref().unwrap().total.recall().unwrap();
    assert!((0.5..0.6).contains(&recall), "{recall}");
    assert_eq!(state.tab, PanelId::IMAGE);
    viewer.state_mut().state_mut().query.sort = SortBy::Position;
    // Bars list all of their images, whatever was listed before.
    click(&mut viewer, "Data");

    // Detections that match no annotation are listed by the type of their error.
    viewer.state_mut().state_mut().settings.filter.score = 0.05;
    settle(&mut viewer);
    let unmatched = viewer.state().state().unmatched.clone();
    let ((class, _), (count, images)) = unmatched
        .iter()
        .filter(|((_, error), _)| *error == ErrorType::Background)
        .max_by_key(|(_, (count, _))| *count)
        .expect("detections on background");
    let name = viewer.state().state().classes.name(*class).to_owned();
    let sum: usize = unmatched
        .iter()
        .map(|((c, _), (n, _))| if c == class { *n } else { 0 })
        .sum();
    let cells = &viewer.state().state().tallies[0].as_ref().unwrap().cells;
    assert_eq!(cells[&(None, Some(*class))].0, sum);
    click(&mut viewer, &format!("{name} on background: {count}"));
    let mut listed = viewer.state().state().order.to_vec();
    listed.sort_unstable();
    assert_eq!(listed, *images);
    viewer.state_mut().state_mut().settings.filter.score = 0.5;
    click(&mut viewer, "Data");

    let bars = viewer.state().state().charts[0].bars.clone();
    let bar = bars.iter().find(|bar| bar.count > 0).unwrap();
    click(&mut viewer, &format!("{}: {}", bar.label, bar.count));
    let state = viewer.state().state();
    assert_eq!(state.tab, PanelId::IMAGE);
    assert_eq!(*state.order, bar.images);
    press(&mut viewer, Key::E);
    press(&mut viewer, Key::Backspace);
    assert_eq!(viewer.state().state().order.len(), 6);

    // A class is listed by its own errors, and the first image of the list is shown.
    click(&mut viewer, "Data");
    let class = evaluation.per_class[2].name.clone();
    let names = viewer.query_all_by_role_and_label(Role::Button, &class);
    names.last().expect("a row of the metrics").click();
    settle(&mut viewer);
    let state = viewer.state().state();
    assert_eq!((state.query.class, state.tab), (Some(2), PanelId::IMAGE));
    assert_eq!(state.current, state.order[0] as usize);
}

#[test]
fn the_gallery_sorts_by_errors() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    press(&mut viewer, Key::D);
    viewer.state_mut().state_mut().query.sort = SortBy::WorstF1;
    settle(&mut viewer);
    let state = viewer.state().state();
    let tally = state.tallies[0].as_ref().unwrap();
    let f1: Vec<f64> = state
        .order
        .iter()
        .map(|&i| tally.images[i as usize].unwrap().f1().unwrap_or(2.0))
        .collect();
    assert!(f1.is_sorted(), "{f1:?}");
    press(&mut viewer, Key::E);
    let state = viewer.state().state();
    let wrong = tally_wrong(&viewer);
    assert_eq!(state.order.len(), wrong);
}

fn tally_wrong(viewer: &Viewer) -> usize {
    let tally = viewer.state().state().tallies[0].clone().unwrap();
    let images = tally.images.iter().flatten();
    images.filter(|c| c.wrong + c.missed > 0).count()
}

#[test]
fn gate_statistics_of_a_dataset_are_measured_shown_and_exported() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    click(&mut viewer, "Gates");
    click(&mut viewer, "Measure all 6 images");
    assert_eq!(errors(&viewer), [""; 0]);
    let excitation = viewer.state().state().statistics.clone().unwrap();
    assert_eq!(excitation.origin.images, 6);
    viewer.get_by_label("SE_2_1").click();
    settle(&mut viewer);
    assert_eq!(viewer.state().state().statistics_choice.block, 0);
    // The axis is the number of the channel, also where only some channels are drawn, and the band of a class
    // has no entry of its own in the legend.
    viewer.state_mut().state_mut().statistics_choice.channels = 4;
    click(&mut viewer, "± std");
    let chart = viewer
        .get_by_role_and_label(Role::Image, "class curves")
        .rect();
    let last = excitation.blocks[0].all.mean.len() - 1;
    viewer.get_by_label(&format!("4 of {} channels, evenly spread", last + 1));
    viewer.hover_at(chart.right_center() - egui::vec2(30.0, 0.0));
    viewer.step();
    viewer.step();
    let drawn = (last + 1) / 4 * 3;
    viewer.get_by_label(&format!("channel {drawn}"));
    let place = chart.right_center() - egui::vec2(30.0, 0.0);
    viewer.drag_at(place);
    viewer.drop_at(place);
    settle(&mut viewer);
    assert_eq!(viewer.state().state().statistics_choice.channel, drawn);
    let label = viewer.state().state().statistics_choice.classes[0];
    let class = excitation.origin.classes[label].clone();
    let entries = viewer.query_all_by_role_and_label(Role::Button, &class);
    assert_eq!(entries.count(), 1, "{class}");
    let choice = &mut viewer.state_mut().state_mut().statistics_choice;
    (choice.channels, choice.band, choice.channel) = (50, false, 0);
    settle(&mut viewer);
    compare(&mut viewer, "gates");
    click(&mut viewer, "Export");
    click(
        &mut viewer,
        "Figures 6 and 7, heat map, table, excitation file",
    );
    assert_eq!(errors(&viewer), [""; 0]);
    let saved = sedet::excitation::Excitation::load(&scenes.at("out/excitation.safetensors"));
    assert_eq!(saved.unwrap().blocks, excitation.blocks);
    for name in ["class-activations.svg", "class-std.png", "mean-gates.png"] {
        assert!(!scenes.exported(name).is_empty());
    }
    // A click on an image with an extreme gate shows it.
    let index = excitation.blocks[0].highest[0][0] as usize;
    let title = viewer
        .state()
        .state()
        .collection
        .as_ref()
        .unwrap()
        .image_title(index);
    viewer.query_all_by_label(&title).next().unwrap().click();
    settle(&mut viewer);
    let state = viewer.state().state();
    assert_eq!((state.tab, state.gates.channel), (PanelId::IMAGE, Some(0)));
    assert_eq!(state.gates.block, 0);

    let mut viewer = scenes.open(Opening::of(&scenes.text("out/excitation.safetensors")));
    assert_eq!(viewer.state().state().tab, PanelId::GATES);
    viewer.get_by_label_contains("6 images of ");
    settle(&mut viewer);
}

#[test]
fn the_curves_of_a_run_in_progress_are_updated() {
    let scenes = Scenes::new();
    let line = |iteration: usize, loss: f64| {
        format!("{{\"event\":\"train\",\"iteration\":{iteration},\"time\":1,\"loss\":{loss}}}\n")
    };
    let run = write_run(&scenes, "run", &line(10, 3.0));
    let events = run.join("events.jsonl");
    let parts = "{\"event\":\"train\",\"iteration\":10,\"time\":1,\"objectness\":0.25}\n\
                 {\"event\":\"eval\",\"iteration\":10,\"time\":1,\"AP\":0.1789,\"val_loss\":1.5}\n";
    let mut viewer = scenes.open(Opening::of(&run.display().to_string()));
    let state = viewer.state().state();
    assert_eq!(state.image_count(), 6, "the dataset of the run");
    viewer.state_mut().state_mut().tab = PanelId::TRAINING;
    settle(&mut viewer);
    viewer.get_by_label_contains("iteration 10");
    std::fs::write(&events, line(10, 3.0) + parts + &line(20, 2.0)).unwrap();
    let start = Instant::now();
    while viewer.state().state().run.as_ref().unwrap().train["loss"].len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "never grows");
        std::thread::sleep(Duration::from_millis(50));
        viewer.step();
    }
    settle(&mut viewer);
    viewer.get_by_label_contains("iteration 20");
    // Parts of the loss and the loss of evaluations are drawn with the loss, metrics beside them.
    let chart = |name: &str| viewer.get_by_role_and_label(Role::Image, name).rect();
    let (losses, metrics) = (chart("losses"), chart("metrics"));
    for (name, chart) in [
        ("objectness", losses),
        ("val_loss", losses),
        ("AP", metrics),
    ] {
        let toggle = viewer.get_by_role_and_label(Role::Button, name).rect();
        let is_left = |rect: egui::Rect| rect.left() < 640.0;
        assert_eq!(is_left(toggle), is_left(chart), "{name}");
        assert!(
            toggle.bottom() <= chart.top(),
            "{name}: the legend is not over the curves"
        );
    }
    // The values under the pointer.
    viewer.hover_at(losses.center());
    viewer.step();
    viewer.step();
    viewer.get_by_label_contains("val_loss 1.5");
    viewer.hover_at(egui::pos2(2.0, 2.0));
    settle(&mut viewer);

    // The first checkpoint is loaded when it is there, and again when it is replaced.
    assert!(viewer.state().state().networks[0].is_none());
    let best = run.join("checkpoints/best.safetensors");
    let mut known = 0;
    for asset in ["blood-cells-se-resnet18", "shapes-se-resnet18"] {
        let written = run.join("checkpoints/written");
        std::fs::copy(shipped(asset), &written).unwrap();
        std::fs::rename(&written, &best).unwrap();
        let start = Instant::now();
        let is_new = |viewer: &Viewer| {
            let network = viewer.state().state().networks[0].as_ref();
            network.is_some_and(|network| network.id != known)
        };
        while !is_new(&viewer) {
            assert!(start.elapsed() < Duration::from_secs(20), "never loaded");
            std::thread::sleep(Duration::from_millis(50));
            viewer.step();
        }
        settle(&mut viewer);
        known = viewer.state().state().networks[0].as_ref().unwrap().id;
    }
    let state = viewer.state().state();
    assert_eq!(state.networks[0].as_ref().unwrap().categories.len(), 6);
    assert!(state.predictions[0].get(0).is_some(), "its boxes are shown");
    // While a task runs with the open checkpoint, a newer one waits, and the image says so.
    viewer.state_mut().state_mut().progress = vec![TaskProgress {
        label: "detecting".into(),
        done: 1,
        total: 6,
    }];
    let written = run.join("checkpoints/written");
    std::fs::copy(shipped("blood-cells-se-resnet18"), &written).unwrap();
    std::fs::rename(&written, &best).unwrap();
    let wait = |viewer: &mut Viewer, until: &dyn Fn(&ViewerState) -> bool| {
        let start = Instant::now();
        while !until(viewer.state().state()) {
            assert!(start.elapsed() < Duration::from_secs(20), "never happens");
            std::thread::sleep(Duration::from_millis(50));
            viewer.step();
        }
    };
    wait(&mut viewer, &|state| state.is_outdated);
    viewer.state_mut().state_mut().tab = PanelId::IMAGE;
    viewer.step();
    viewer.get_by_label_contains("these boxes are of an older checkpoint");
    viewer.state_mut().state_mut().progress.clear();
    let is_new = move |state: &ViewerState| {
        let network = state.networks[0].as_ref();
        network.is_some_and(|network| network.id != known)
    };
    wait(&mut viewer, &is_new);
    assert!(!viewer.state().state().is_outdated);
    viewer.state_mut().state_mut().tab = PanelId::TRAINING;
    settle(&mut viewer);
    click(&mut viewer, "Export");
    click(&mut viewer, "Curves (PNG, SVG, CSV)");
    let csv = String::from_utf8(scenes.exported("training.csv")).unwrap();
    assert!(csv.contains("train,loss,20,2\n"));
}

/// Writes the files of a run that has no checkpoint: its start on the scenes, and its log.
fn write_run(scenes: &Scenes, name: &str, events: &str) -> PathBuf {
    let run = scenes.at(name);
    std::fs::create_dir_all(run.join("checkpoints")).unwrap();
    let launch = serde_json::json!({ "dataset": scenes.text("scenes"), "pretrained": false });
    std::fs::write(run.join("launch.json"), launch.to_string()).unwrap();
    std::fs::write(run.join("events.jsonl"), events).unwrap();
    run
}

/// Steps until the state is as wanted.
fn wait_until(viewer: &mut Viewer, wanted: impl Fn(&ViewerState) -> bool) {
    let start = Instant::now();
    while !wanted(viewer.state().state()) {
        assert!(start.elapsed() < Duration::from_secs(20), "never happens");
        std::thread::sleep(Duration::from_millis(20));
        viewer.step();
    }
    settle(viewer);
}

#[test]
fn the_weights_that_a_run_has_kept_are_shown_in_turn() {
    let scenes = Scenes::new();
    let events = "{\"event\":\"eval\",\"iteration\":10,\"time\":1,\"AP\":0.125,\"val_loss\":1.5}\n\
                  {\"event\":\"eval\",\"iteration\":20,\"time\":2,\"AP\":0.5,\"val_loss\":0.75}\n";
    let run = write_run(&scenes, "run", events);
    let weights = run.join("checkpoints");
    let best = weights.join("best.safetensors");
    std::fs::copy(shipped("shapes-se-resnet18"), &best).unwrap();
    std::fs::copy(&best, weights.join("iteration-00000020.safetensors")).unwrap();
    // With weights of 0, every gate is 0.5 and no class is more probable than the others.
    let mut untrained = Checkpoint::load(&best).unwrap();
    for tensor in untrained.weights.values_mut() {
        *tensor = TensorData::zeros::<f32, _>(tensor.shape().clone());
    }
    let first = weights.join("iteration-00000010.safetensors");
    untrained.save(&first, Precision::Full).unwrap();

    let mut viewer = scenes.open(Opening::of(&run.display().to_string()));
    viewer.state_mut().state_mut().tab = PanelId::IMAGE;
    settle(&mut viewer);
    viewer.get_by_label("best, iteration 20");
    viewer.get_by_label("AP 0.5000");
    viewer.get_by_role_and_label(Role::Slider, "Weights of the run");
    let gates = |state: &ViewerState| {
        let inference = state.inference[0].as_ref();
        inference.map(|inference| inference.blocks[0].gates.clone())
    };
    let of_best = gates(viewer.state().state());
    press(&mut viewer, Key::Tab);
    let is_detection = |state: &ViewerState| matches!(state.selected, Some(BoxRef::Detection(_)));
    assert!(is_detection(viewer.state().state()));
    for (iteration, title) in [(20, "iteration 20, 2 of 2"), (10, "iteration 10, 1 of 2")] {
        viewer.key_press_modifiers(Modifiers::SHIFT, Key::ArrowLeft);
        viewer.step();
        let name = format!("{iteration:08}.safetensors");
        wait_until(&mut viewer, |state| {
            let network = state.networks[0].as_ref();
            network.is_some_and(|network| network.path.to_string_lossy().ends_with(&name))
                && state.inference[0].is_some()
        });
        viewer.get_by_label(title);
        if iteration == 20 {
            press(&mut viewer, Key::D);
            settle(&mut viewer);
        }
    }
    viewer.get_by_label("AP 0.1250");
    assert_eq!(viewer.state().state().processed(Pane::First), 1);
    let state = viewer.state().state();
    assert!(
        gates(state)
            .unwrap()
            .iter()
            .all(|gate| (gate - 0.5).abs() < 1e-6)
    );
    assert!(
        !is_detection(state),
        "the box that was selected is of other weights"
    );
    let shown = state.boxes(Pane::First);
    let score = state.settings.filter.score;
    let mut found = shown.detections.iter().flat_map(|found| found.iter());
    assert!(found.all(|found| found.score < score));
    // A newer best checkpoint does not replace what the user looks at.
    let written = weights.join("written");
    std::fs::copy(shipped("shapes-se-resnet18"), &written).unwrap();
    std::fs::rename(&written, &best).unwrap();
    std::thread::sleep(Duration::from_millis(1600));
    settle(&mut viewer);
    viewer.get_by_label("iteration 10, 1 of 2");
    assert_eq!(viewer.state().state().kept_iteration, Some(10));
    for file in ["iteration-00000020", "best"] {
        viewer.key_press_modifiers(Modifiers::SHIFT, Key::ArrowRight);
        viewer.step();
        let file = format!("{file}.safetensors");
        wait_until(&mut viewer, |state| {
            let network = state.networks[0].as_ref();
            network.is_some_and(|network| network.path.ends_with(&file))
                && state.inference[0].is_some()
        });
        // The detections of weights that were shown before are not lost.
        let state = viewer.state().state();
        let all = state.image_count();
        let known = if file.starts_with("best") { 1 } else { all };
        assert_eq!((state.processed(Pane::First), all > 1), (known, true));
    }
    viewer.get_by_label("best, iteration 20");
    assert_eq!(gates(viewer.state().state()), of_best);
    assert_eq!(errors(&viewer), Vec::<String>::new());
    // Weights that cannot be read are named, once.
    std::fs::write(weights.join("iteration-00000030.safetensors"), "damaged").unwrap();
    wait_until(&mut viewer, |state| {
        state.run.as_ref().unwrap().checkpoints.len() == 3
    });
    click(&mut viewer, "Previous weights");
    wait_until(&mut viewer, |state| {
        state.notices.iter().any(|notice| notice.is_error)
    });
    viewer.step();
    settle(&mut viewer);
    let errors = errors(&viewer);
    assert!(
        errors.len() == 1 && errors[0].contains("iteration-00000030"),
        "{errors:?}"
    );
}

#[test]
fn the_curves_of_several_runs_are_drawn_together_on_chosen_axes() {
    let scenes = Scenes::new();
    let events = |loss: f64, ap: f64| {
        format!(
            "{{\"event\":\"train\",\"iteration\":10,\"time\":1,\"loss\":{loss}}}\n\
             {{\"event\":\"train\",\"iteration\":20,\"time\":2,\"loss\":0}}\n\
             {{\"event\":\"eval\",\"iteration\":20,\"time\":2,\"AP\":{ap}}}\n"
        )
    };
    let run = write_run(&scenes, "runs/first", &events(3.0, 0.25));
    let other = write_run(&scenes, "runs/second", &events(2.0, 0.375));
    let elsewhere = write_run(&scenes, "elsewhere/first", &events(1.0, 0.75));
    let mut viewer = scenes.open(Opening::of(&run.display().to_string()));
    viewer.state_mut().state_mut().tab = PanelId::TRAINING;
    settle(&mut viewer);
    click(&mut viewer, "Compare runs");
    viewer
        .get_by_role_and_label(Role::CheckBox, "second")
        .click();
    wait_until(&mut viewer, |state| state.compared_runs.len() == 1);
    fill(&mut viewer, "Other run", &elsewhere.display().to_string());
    click(&mut viewer, "Add");
    wait_until(&mut viewer, |state| state.compared_runs.len() == 2);
    fill(&mut viewer, "Other run", &scenes.text("scenes"));
    click(&mut viewer, "Add");
    assert!(errors(&viewer)[0].ends_with("scenes: not the directory of a training run"));
    press(&mut viewer, Key::Escape);
    let chart = viewer.get_by_role_and_label(Role::Image, "loss").rect();
    viewer.hover_at(chart.left_center() + egui::vec2(chart.width() * 0.3, 0.0));
    viewer.step();
    viewer.step();
    viewer.get_by_label("iteration 10");
    viewer.get_by_label("second 2");
    // Runs of one name are told apart by their paths.
    viewer.get_by_label(&format!("{} 1", elsewhere.display()));
    viewer.hover_at(egui::pos2(2.0, 2.0));
    click(&mut viewer, "log values");
    viewer.get_by_label("3 values at or below 0 not on the logarithmic axis");
    click(&mut viewer, "Export");
    click(&mut viewer, "Curves (PNG, SVG, CSV)");
    let csv = String::from_utf8(scenes.exported("training.csv")).unwrap();
    assert!(csv.contains("first,train,loss,10,3\n") && csv.contains("second,eval,AP,20,0.375\n"));
    let figure = String::from_utf8(scenes.exported("training.svg")).unwrap();
    assert!(figure.contains("second") && figure.contains("AP"));
    // A hidden line is hidden in the figure, too.
    for name in ["loss", "AP"] {
        let legend = viewer.get_all_by_role_and_label(Role::Button, "second");
        let chart = viewer.get_by_role_and_label(Role::Image, name).rect();
        let near = legend.min_by(|a, b| {
            let distance = |rect: egui::Rect| rect.center().distance(chart.center_top());
            distance(a.rect()).total_cmp(&distance(b.rect()))
        });
        near.unwrap().click();
        viewer.step();
    }
    settle(&mut viewer);
    click(&mut viewer, "Export");
    click(&mut viewer, "Curves (PNG, SVG, CSV)");
    let figure = String::from_utf8(scenes.exported("training-2.svg")).unwrap();
    assert!(!figure.contains("second"));
    viewer.state_mut().state_mut().requests = vec![Request::ForgetRun(other)];
    viewer.step();
    assert_eq!(viewer.state().state().compared_runs.len(), 1);
}

#[test]
fn a_results_file_is_shown_on_its_dataset_and_rejected_on_another() {
    let scenes = Scenes::new();
    let results = scenes.results_of_one_object();
    let mut viewer = scenes.open(Opening {
        results: Some(results.clone()),
        ..scenes.opening()
    });
    let state = viewer.state().state();
    assert!(state.predictions[0].is_complete());
    assert!(state.inference[0].is_some(), "inference shows the gates");
    let total = state.tallies[0].as_ref().unwrap().total;
    assert_eq!((total.correct, total.wrong), (1, 0));
    assert!(total.missed > 0);

    let strange =
        serde_json::json!([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]);
    std::fs::write(&results, strange.to_string()).unwrap();
    viewer
        .get_by_role_and_label(Role::TextInput, "Path")
        .focus();
    settle(&mut viewer);
    let field = viewer.get_by_role_and_label(Role::TextInput, "Path");
    field.type_text(&scenes.text("results.json"));
    settle(&mut viewer);
    press(&mut viewer, Key::Enter);
    let said = errors(&viewer).join("\n");
    assert!(said.contains("no row belongs to an image of"), "{said}");

    let alone = scenes.open(Opening::of(&scenes.text("results.json")));
    let said = errors(&alone).join("\n");
    assert!(said.contains("open its detection dataset first"), "{said}");
}

/// What the library says about a score of the current image.
struct Expected {
    model: Model,
    pass: ExplainedImage,
    subject: Subject,
    explanation: Explanation,
}

impl Expected {
    fn of(viewer: &Viewer, checkpoint: &Path, subject: Subject) -> Self {
        let (_, image) = viewer.state().state().pixels[0].clone().unwrap();
        let model = Model::load(checkpoint, &Device::flex()).unwrap();
        let pass = model.explained_image(&image).unwrap();
        let explanation = model.explain(&pass, subject).unwrap();
        Self {
            model,
            pass,
            subject,
            explanation,
        }
    }

    fn strongest(&self, neutral: &Neutral) -> [Vec<GateEffect>; 2] {
        strongest(&self.explanation.effects(neutral), 10)
    }

    fn name(&self, found: &GateEffect) -> String {
        let block = &self.explanation.units[found.unit].block.name;
        format!("{block} {}", found.channel)
    }

    /// The score with another gate in each of these channels.
    fn score_with(&self, gates: &[(GateEffect, f32)]) -> f32 {
        let replaced = gates.iter().map(|&(found, gate)| ReplacedGate {
            unit: found.unit,
            channel: found.channel,
            gate,
        });
        let replaced: Vec<ReplacedGate> = replaced.collect();
        let score = self.model.score_with(&self.pass, self.subject, &replaced);
        score.unwrap()
    }

    /// The line of the viewer about such a score.
    fn change(&self, without: f32) -> String {
        let score = self.explanation.score;
        format!("{score:.3} -> {without:.3} ({:+.3})", without - score)
    }
}

/// Opens the scenes, selects the detection at this position and asks why it was found.
fn explained(scenes: &Scenes, position: usize) -> (Viewer, Expected) {
    // High enough for all rows to be in sight.
    let settings = Settings {
        export_directory: scenes.at("out"),
        ..Settings::default()
    };
    let mut viewer = viewer_of_size([1280.0, 1800.0], settings, scenes.opening());
    let row = format!("detection {}: ", position + 1);
    let row = viewer.query_all_by_label_contains(&row).next().unwrap();
    row.click();
    settle(&mut viewer);
    click(&mut viewer, "Why this box?");
    let checkpoint = shipped("shapes-se-resnet18");
    let expected = Expected::of(&viewer, &checkpoint, Subject::Detection(position));
    (viewer, expected)
}

#[test]
fn the_gates_for_and_against_a_selected_box_are_those_of_the_library() {
    let scenes = Scenes::new();
    let (mut viewer, expected) = explained(&scenes, 1);
    assert_eq!(errors(&viewer), [""; 0]);
    let found = &expected.explanation;
    let shown = viewer.state().state().current_explanation().unwrap();
    assert_eq!(shown.explanation.detection, found.detection);
    assert_eq!(shown.explanation.cams, found.cams);
    let selected = viewer.state().state().predictions[0].get(0).unwrap()[1];
    let detection = found.detection.unwrap();
    assert_eq!(detection.box_in_image, selected.box_in_image);
    assert_eq!(detection.score, selected.score);
    let level = found.pooled_from.as_deref().unwrap();
    viewer.get_by_label_contains(&format!(": {:.4}, pooled from {level}", found.score));
    let listed = expected.strongest(&Neutral::UnitMean);
    for effect in listed.iter().flatten() {
        let (gate, size) = (effect.gate, effect.effect);
        let name = expected.name(effect);
        viewer.get_by_label(&format!("{name}: gate {gate:.3}, effect {size:+.2e}"));
    }
    assert_eq!(listed.map(|side| side.len()), [10, 10]);
    viewer.get_by_label_contains("the mean of its unit in this image");

    click(&mut viewer, "Export");
    click(&mut viewer, "Effects of the explanation (CSV)");
    let collection = viewer.state().state().collection.clone().unwrap();
    let stem = collection.image_title(0);
    let stem = stem.trim_end_matches(".jpg");
    let csv = String::from_utf8(scenes.exported(&format!("{stem}-effects.csv"))).unwrap();
    let effects = found.effects(&Neutral::UnitMean);
    assert_eq!(csv, effects_csv(&found.units, &effects));

    // Another box has another explanation; without a box there is none, and the key closes the section.
    let row = viewer.query_all_by_label_contains("detection 1: ").next();
    row.unwrap().click();
    settle(&mut viewer);
    let shown = viewer.state().state().current_explanation().unwrap();
    assert_eq!(shown.of.subject, Subject::Detection(0));
    // A result that arrives after the selection has changed back does not replace the shown one.
    viewer.state_mut().state_mut().selected = Some(BoxRef::Detection(2));
    viewer.step();
    viewer.state_mut().state_mut().selected = Some(BoxRef::Detection(0));
    settle(&mut viewer);
    let shown = viewer.state().state().current_explanation().unwrap();
    assert_eq!(shown.of.subject, Subject::Detection(0));
    // A request for a score that is dropped when the section closes is repeated when it opens again.
    let name = shown.channel_name((0, 0));
    viewer.state_mut().state_mut().explanation.off = vec![(0, 0)];
    viewer.step();
    viewer.state_mut().state_mut().explanation.is_open = false;
    viewer.step();
    viewer.state_mut().state_mut().explanation.is_open = true;
    settle(&mut viewer);
    viewer.get_by_label(&format!("off: {name}"));
    let measured = viewer.state().state().score_without().unwrap().score;
    assert!(measured.is_some());

    press(&mut viewer, Key::Escape);
    viewer.get_by_label("select a detection first");
    assert!(viewer.state().state().current_explanation().is_none());
    press(&mut viewer, Key::W);
    assert!(viewer.query_by_label("select a detection first").is_none());
    press(&mut viewer, Key::Tab);
    press(&mut viewer, Key::W);
    assert!(viewer.state().state().current_explanation().is_some());
}

#[test]
fn switching_channels_off_shows_the_score_that_is_measured_without_them() {
    let scenes = Scenes::new();
    // A wrong detection of background: a certain one would hardly change.
    let (mut viewer, expected) = explained(&scenes, 2);
    assert!((0.5..0.9).contains(&expected.explanation.score));
    let [supporting, _] = expected.strongest(&Neutral::UnitMean);
    let channels = [supporting[0], supporting[1]];
    click(&mut viewer, &format!("{} off", expected.name(&channels[0])));
    let one = expected.score_with(&[(channels[0], 0.0)]);
    let measured = viewer.state().state().score_without().unwrap().score;
    assert_eq!(measured, Some(one));
    assert_ne!(one, expected.explanation.score);
    let shown = viewer.state().state().gates.channel;
    assert_eq!(shown, None, "a check box is not a click on its row");
    viewer.get_by_label(&expected.change(one));

    click(&mut viewer, &format!("{} off", expected.name(&channels[1])));
    let both = expected.score_with(&channels.map(|found| (found, 0.0)));
    viewer.get_by_label(&expected.change(both));
    let names = channels.map(|found| expected.name(&found)).join(", ");
    viewer.get_by_label(&format!("off: {names}"));

    click(&mut viewer, "off means neutral");
    let choice = &viewer.state().state().explanation;
    assert_eq!(choice.off_gate, OffGate::Neutral);
    let neutral = expected.score_with(&channels.map(|found| (found, found.neutral)));
    assert_ne!(neutral, both);
    viewer.get_by_label(&expected.change(neutral));

    click(&mut viewer, "all on");
    assert!(viewer.state().state().explanation.off.is_empty());
    assert_eq!(viewer.query_all_by_label_contains(" -> ").count(), 0);
    // The channels of one box are not those of another.
    click(&mut viewer, &format!("{} off", expected.name(&channels[0])));
    press(&mut viewer, Key::Tab);
    assert!(viewer.state().state().explanation.off.is_empty());
}

#[test]
fn the_map_of_a_layer_or_channel_of_the_explanation_is_drawn_and_exported() {
    let scenes = Scenes::new();
    let (mut viewer, expected) = explained(&scenes, 0);
    let collection = viewer.state().state().collection.clone().unwrap();
    let stem = collection.image_title(0);
    let stem = stem.trim_end_matches(".jpg").to_owned();
    let mut images = 0;
    let mut exported = |viewer: &mut Viewer| {
        viewer.key_press_modifiers(Modifiers::COMMAND, Key::S);
        settle(viewer);
        images += 1;
        let number = match images {
            1 => String::new(),
            number => format!("-{number}"),
        };
        let image = scenes.exported(&format!("{stem}{number}.png"));
        image::load_from_memory(&image).unwrap().to_rgb8()
    };
    let changed = |a: &image::RgbImage, b: &image::RgbImage| {
        assert_eq!(a.dimensions(), b.dimensions());
        let pixels = a.pixels().zip(b.pixels()).filter(|(a, b)| a != b).count();
        pixels as f64 / f64::from(a.width() * a.height())
    };
    let found = &expected.explanation;
    let pooled = found.pooled_from.clone().unwrap();
    let other_level = ["P2", "P3", "P4", "P5"].map(String::from);
    let other_level = other_level.iter().find(|level| **level != pooled).unwrap();
    assert!(
        viewer
            .get_by_label(other_level)
            .accesskit_node()
            .is_disabled(),
        "it has no part in the score"
    );
    let level = exported(&mut viewer);
    click(&mut viewer, "C4");
    let stage = exported(&mut viewer);
    // Both are 0 in most of the image.
    let share = changed(&level, &stage);
    assert!(share > 0.05, "the map of another layer: {share}");
    // Another click hides the map.
    click(&mut viewer, "C4");
    let plain = exported(&mut viewer);
    assert!(changed(&level, &plain) > 0.5 && changed(&stage, &plain) > 0.5);
    click(&mut viewer, &pooled);
    assert_eq!(exported(&mut viewer), level);

    // A click on a channel draws its feature map in place of the layer's, and another click the layer's again.
    let channel = expected.strongest(&Neutral::UnitMean)[1][0];
    let row = format!("{}: gate ", expected.name(&channel));
    let row_of = |viewer: &Viewer| viewer.get_by_label_contains(&row).click();
    row_of(&viewer);
    settle(&mut viewer);
    let gates = &viewer.state().state().gates;
    let shown = (gates.block, gates.channel);
    assert_eq!(shown, (channel.unit, Some(channel.channel)));
    assert!(changed(&exported(&mut viewer), &level) > 0.5);
    // The whole row takes clicks, here at its effect.
    let name = viewer.get_by_label_contains(&row).rect();
    let effect = egui::pos2(name.left() + 150.0, name.center().y);
    viewer.drag_at(effect);
    viewer.drop_at(effect);
    settle(&mut viewer);
    assert_eq!(viewer.state().state().gates.channel, None);
    assert_eq!(exported(&mut viewer), level);

    // The color bar ends at the largest value of the map.
    click(&mut viewer, "Export");
    click(&mut viewer, "Image with boxes (SVG)");
    let svg = String::from_utf8(scenes.exported(&format!("{stem}.svg"))).unwrap();
    let cam = found.cams.iter().find(|cam| cam.layer == pooled).unwrap();
    let largest = sedet::render::explanation::limit_text(cam.largest());
    assert!(svg.contains(&format!(">{largest}<")), "{largest}");
    assert_eq!(errors(&viewer), [""; 0]);
}

#[test]
fn gates_are_explained_relative_to_measured_statistics_once_there_are_some() {
    let scenes = Scenes::new();
    let (mut viewer, expected) = explained(&scenes, 2);
    let measure = Request::MeasureGates(None);
    viewer.state_mut().state_mut().requests.push(measure);
    settle(&mut viewer);
    press(&mut viewer, Key::F1);
    viewer.get_by_label_contains("if the gate were the mean over ");
    let statistics = viewer.state().state().statistics.clone().unwrap();
    let means = Neutral::of_dataset(&statistics, expected.pass.blocks()).unwrap();
    let listed = expected.strongest(&means);
    assert_ne!(listed, expected.strongest(&Neutral::UnitMean));
    let shown = viewer.state().state().current_explanation().unwrap();
    assert_eq!(shown.strongest, listed);
    let found = listed[0][0];
    click(&mut viewer, "off means neutral");
    click(&mut viewer, &format!("{} off", expected.name(&found)));
    let without = expected.score_with(&[(found, found.neutral)]);
    viewer.get_by_label(&expected.change(without));
}

#[test]
fn the_most_probable_class_or_the_clicked_one_is_explained() {
    let scenes = Scenes::new();
    let checkpoint = classifier(&scenes, 12);
    let mut viewer = scenes.open(Opening {
        checkpoint: Some(checkpoint.clone()),
        ..scenes.opening()
    });
    press(&mut viewer, Key::W);
    let classes = viewer.state().state().inference[0].clone().unwrap().classes;
    for (position, class) in classes[..2].iter().enumerate() {
        if position > 0 {
            let row = format!("{} {:.1} %", class.name, class.probability * 100.0);
            click(&mut viewer, &row);
        }
        let expected = Expected::of(&viewer, &checkpoint, Subject::Class(class.label));
        let score = expected.explanation.score;
        viewer.get_by_label(&format!("{}: {score:.4}", class.name));
        let shown = viewer.state().state().current_explanation().unwrap();
        assert_eq!(shown.explanation.cams, expected.explanation.cams);
        assert_eq!(shown.strongest, expected.strongest(&Neutral::UnitMean));
    }
    assert_eq!(errors(&viewer), [""; 0]);
    // Another image has a most probable class of its own.
    press(&mut viewer, Key::ArrowRight);
    let state = viewer.state().state();
    let best = state.inference[0].as_ref().unwrap().classes[0].label;
    let shown = state.current_explanation().unwrap();
    assert_eq!(shown.of.subject, Subject::Class(best));
    assert_eq!(shown.of.image, 1);
}

#[test]
fn a_network_without_se_units_is_explained_by_maps_alone() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening {
        checkpoint: Some(classifier_with(&scenes, "resnet18", 3)),
        ..scenes.opening()
    });
    click(&mut viewer, "Why this class?");
    viewer.get_by_label("no gates: the network has no SE units");
    viewer.get_by_label("C5");
    assert!(viewer.query_by_label("off means 0").is_none());
    assert_eq!(errors(&viewer), [""; 0]);
}

#[test]
fn an_explanation_that_fails_says_why_in_its_place_and_as_a_notice() {
    let scenes = Scenes::new();
    let execution = Execution {
        precision: ComputePrecision::Bf16,
        ..Device::flex().into()
    };
    let (size, settings) = ([1280.0, 860.0], Settings::default());
    let mut viewer = viewer_with(size, settings, scenes.opening(), execution);
    press(&mut viewer, Key::Tab);
    press(&mut viewer, Key::W);
    let said = errors(&viewer).join("\n");
    if ComputePrecision::Bf16.is_available() {
        assert!(said.contains("the model was reduced to bf16"), "{said}");
        assert!(viewer.query_all_by_label(&said).next().is_some());
    } else {
        assert!(viewer.state().state().current_explanation().is_some());
    }
    assert!(viewer.query_by_label("computing …").is_none());
}

#[test]
fn boxes_of_a_results_file_are_not_explained_and_the_key_says_why() {
    let scenes = Scenes::new();
    let results = scenes.results_of_one_object();
    for (checkpoint, reason) in [
        (None, "boxes of a results file have no network"),
        (
            scenes.opening().checkpoint,
            "these boxes are of a results file",
        ),
    ] {
        let mut viewer = scenes.open(Opening {
            results: Some(results.clone()),
            checkpoint,
            ..scenes.opening()
        });
        press(&mut viewer, Key::Tab);
        assert!(viewer.state().state().selected.is_some());
        let button = viewer.get_by_label("Why this box?");
        assert!(button.accesskit_node().is_disabled());
        press(&mut viewer, Key::W);
        let notices = &viewer.state().state().notices;
        assert!(notices.last().unwrap().text.starts_with(reason));
        assert!(viewer.state().state().current_explanation().is_none());
    }
}

#[test]
fn errors_are_shown_as_notices_and_do_not_stop_the_viewer() {
    let scenes = Scenes::new();
    let photos = scenes.at("photos");
    std::fs::create_dir_all(&photos).unwrap();
    std::fs::write(photos.join("a-broken.jpg"), b"\xff\xd8\xff\xe0 no more").unwrap();
    for name in ["b-good.png", "c-good.png"] {
        image::RgbImage::from_pixel(40, 30, image::Rgb([90, 160, 90]))
            .save(photos.join(name))
            .unwrap();
    }
    let mut viewer = scenes.open(Opening {
        checkpoint: Some(scenes.at("missing.safetensors")),
        ..Opening::of(&photos.display().to_string())
    });
    let said = errors(&viewer);
    assert!(
        said.iter().any(|e| e.contains("missing.safetensors")),
        "{said:?}"
    );
    assert!(said.iter().any(|e| e.contains("a-broken.jpg")), "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");
    viewer.get_by_label("unreadable image");
    press(&mut viewer, Key::ArrowRight);
    let state = viewer.state().state();
    assert!(
        state.pixels[0]
            .as_ref()
            .is_some_and(|(index, _)| *index == 1)
    );
    click(&mut viewer, "2 errors");
    viewer.get_by_label("Notices");

    // A file that two tasks meet is reported once, and images that cannot be read do not remain to be done.
    let path = viewer.get_by_role_and_label(Role::TextInput, "Path");
    path.focus();
    settle(&mut viewer);
    let path = viewer.get_by_role_and_label(Role::TextInput, "Path");
    let quoted = format!("'{}'", shipped("shapes-se-resnet18").display());
    path.type_text(&quoted);
    settle(&mut viewer);
    press(&mut viewer, Key::Enter);
    assert!(
        viewer.state().state().networks[0].is_some(),
        "a quoted path"
    );
    click(&mut viewer, "Detect in all 3 images");
    assert_eq!(errors(&viewer).len(), 2, "{:?}", errors(&viewer));
    let button = viewer.get_by_label("Detect in all 3 images");
    assert!(button.accesskit_node().is_disabled());

    let viewer = scenes.open(Opening::of("no-such-thing"));
    let said = errors(&viewer).join("\n");
    assert!(
        said.contains("no-such-thing: no such file or directory"),
        "{said}"
    );
}

#[test]
fn a_line_says_what_is_shown_and_switches_the_split() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    let line = |viewer: &Viewer, parts: &[&str]| {
        let labels = viewer.get_all_by_role(Role::Label);
        let labels: Vec<String> = labels.filter_map(|node| node.value()).collect();
        let found = labels
            .iter()
            .find(|label| parts.iter().all(|part| label.contains(part)));
        assert!(found.is_some(), "{parts:?} in {labels:?}");
    };
    line(
        &viewer,
        &[
            "scenes val",
            "boxes of shapes-se-resnet18",
            "score from 0.50, IoU from 0.50",
            "1 of 6 images",
        ],
    );
    viewer.get_by_role_and_label(Role::Button, "train").click();
    settle(&mut viewer);
    assert_eq!(viewer.state().state().image_count(), 1);
    line(&viewer, &["scenes train", "1 of 1 image processed"]);
    // A split that is not there says so, and nothing is closed.
    viewer.get_by_role_and_label(Role::Button, "test").click();
    settle(&mut viewer);
    assert_eq!(viewer.state().state().image_count(), 1);
    assert!(errors(&viewer)[0].contains("test"), "{:?}", errors(&viewer));
    // The error is over the content until it is closed.
    let error = errors(&viewer)[0].clone();
    viewer.get_by_label(&error);
    assert!(
        viewer
            .state()
            .state()
            .notices
            .iter()
            .any(|notice| notice.is_error)
    );
    press(&mut viewer, Key::Escape);
    assert!(viewer.query_by_label("Close the error").is_none());
    // It comes again when it happens again.
    viewer.get_by_role_and_label(Role::Button, "test").click();
    settle(&mut viewer);
    click(&mut viewer, "Close the error");
    assert!(viewer.query_by_label("Close the error").is_none());
    // A results file without its network says where its boxes are from.
    let opening = Opening {
        checkpoint: None,
        results: Some(scenes.results_of_one_object()),
        ..scenes.opening()
    };
    line(&scenes.open(opening), &["boxes of ", "results.json"]);
}

#[test]
fn thresholds_are_undone_and_pages_and_images_gone_back_to() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    let wait = |viewer: &mut Viewer| {
        // Changes that follow at once are one step.
        for _ in 0..8 {
            viewer.step();
        }
    };
    let score = |viewer: &Viewer| viewer.state().state().settings.filter.score;
    let first = score(&viewer);
    wait(&mut viewer);
    press(&mut viewer, Key::CloseBracket);
    let second = score(&viewer);
    assert!(second > first);
    wait(&mut viewer);
    press(&mut viewer, Key::G);
    wait(&mut viewer);
    let undo = |viewer: &mut Viewer, modifiers: Modifiers| {
        viewer.key_press_modifiers(modifiers, Key::Z);
        wait(viewer);
    };
    undo(&mut viewer, Modifiers::COMMAND);
    assert!(viewer.state().state().settings.filter.show_annotations);
    assert_eq!(score(&viewer), second);
    undo(&mut viewer, Modifiers::COMMAND);
    assert_eq!(score(&viewer), first);
    undo(&mut viewer, Modifiers::COMMAND | Modifiers::SHIFT);
    assert_eq!(score(&viewer), second);

    press(&mut viewer, Key::End);
    wait(&mut viewer);
    press(&mut viewer, Key::F3);
    wait(&mut viewer);
    let place = |viewer: &Viewer| {
        let state = viewer.state().state();
        (state.tab.0, state.current)
    };
    click(&mut viewer, "Back");
    assert_eq!(place(&viewer), ("Image", 5));
    viewer.key_press_modifiers(Modifiers::ALT, Key::ArrowLeft);
    wait(&mut viewer);
    assert_eq!(place(&viewer), ("Image", 0));
    for _ in 0..2 {
        viewer.key_press_modifiers(Modifiers::ALT, Key::ArrowRight);
        wait(&mut viewer);
    }
    assert_eq!(place(&viewer), ("Data", 5));
    // Of another dataset there is nothing to go back to.
    let request = Request::Open(scenes.text("scenes"));
    viewer.state_mut().state_mut().requests.push(request);
    settle(&mut viewer);
    viewer.key_press_modifiers(Modifiers::ALT, Key::ArrowLeft);
    wait(&mut viewer);
    assert_eq!(place(&viewer), ("Image", 0));
}

#[test]
fn what_was_opened_is_offered_again_and_empty_pages_have_ways_to_open_something() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening::of("/nowhere.jpg"));
    viewer.get_by_label("Nothing is open");
    viewer.get_by_role_and_label(Role::Button, "Open files …");
    viewer.get_by_role_and_label(Role::Button, "Open a directory …");
    let request = Request::Open(scenes.text("scenes"));
    viewer.state_mut().state_mut().requests.push(request);
    settle(&mut viewer);
    let recent = viewer.state().state().settings.recent.clone();
    assert_eq!(recent, [scenes.text("scenes")]);
    press(&mut viewer, Key::Escape);
    press(&mut viewer, Key::F5);
    viewer.get_by_label("No network is open");
    press(&mut viewer, Key::F4);
    click(&mut viewer, "Recent files and dialogs");
    let directory = scenes.at("scenes");
    let parent = directory
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_string_lossy();
    click(&mut viewer, &format!("{parent}/scenes"));
    assert_eq!(viewer.state().state().tab, PanelId::IMAGE);
    // A path that cannot be opened is not offered.
    let request = Request::Open("/nowhere/at/all".into());
    viewer.state_mut().state_mut().requests.push(request);
    settle(&mut viewer);
    let recent = &viewer.state().state().settings.recent;
    assert_eq!(*recent, [scenes.text("scenes")]);
    // The shipped detector, from an empty viewer.
    let mut viewer = scenes.open(Opening::of("/nowhere.jpg"));
    press(&mut viewer, Key::Escape);
    click(&mut viewer, "Show the shipped detector on generated scenes");
    assert!(viewer.state().state().networks[0].is_some());
}

#[test]
fn the_image_has_room_in_windows_of_any_size_and_scale() {
    let scenes = Scenes::new();
    for (size, pixels_per_point) in [
        ([800.0f32, 600.0], 1.0),
        ([1280.0, 720.0], 1.0),
        ([1920.0, 1080.0], 2.0),
        ([3840.0, 2160.0], 3.0),
        ([3840.0, 2160.0], 1.0),
    ] {
        let mut viewer = viewer_of_size(size, Settings::default(), scenes.opening());
        viewer.set_pixels_per_point(pixels_per_point);
        let size = size.map(|side| side / pixels_per_point);
        settle(&mut viewer);
        let room = |viewer: &Viewer| viewer.state().state().view_size;
        let [width, height] = room(&viewer);
        assert!(
            width >= size[0] * 0.3 && height >= size[1] * 0.6,
            "{size:?}: {width}x{height}"
        );
        // The image is beside the panels, not under them.
        let image = viewer
            .get_by_role_and_label(Role::Image, "image with boxes")
            .rect();
        let gates = viewer
            .get_by_role_and_label(Role::Image, "gates of all blocks")
            .rect();
        assert!(
            image.right() <= gates.left(),
            "{size:?}: {image:?} {gates:?}"
        );
        assert!(gates.right() <= size[0], "{size:?}: {gates:?}");
        // Every control is in the window.
        for key in [
            Key::F1,
            Key::F2,
            Key::F3,
            Key::F4,
            Key::F5,
            Key::F6,
            Key::F7,
        ] {
            press(&mut viewer, key);
            for (role, name, rect) in controls(&viewer, "any") {
                let is_right = rect.left() >= 0.0 && rect.left() < size[0];
                assert!(is_right, "{size:?} {key:?}: {role:?} {name:?} at {rect:?}");
            }
        }
        press(&mut viewer, Key::F1);
        click(&mut viewer, "Tables");
        let [without_tables, _] = room(&viewer);
        assert!(
            without_tables > width + 200.0,
            "{size:?}: {without_tables} {width}"
        );
        click(&mut viewer, "Gallery");
        let [without_both, _] = room(&viewer);
        assert!(without_both > without_tables + 150.0);
        press(&mut viewer, Key::F11);
        let [full_width, full_height] = room(&viewer);
        assert!(
            full_width > size[0] - 20.0 && full_height > height + 40.0,
            "{full_width}x{full_height}"
        );
        press(&mut viewer, Key::Escape);
        viewer.get_by_label("Export");
    }
}

#[test]
fn panels_get_their_width_back_after_the_window_was_small() {
    let scenes = Scenes::new();
    let mut viewer = viewer_of_size([1280.0, 860.0], Settings::default(), scenes.opening());
    let width = |viewer: &Viewer| viewer.state().state().view_size[0];
    let before = width(&viewer);
    viewer.set_size(egui::vec2(800.0, 600.0));
    settle(&mut viewer);
    assert!(width(&viewer) < before);
    viewer.set_size(egui::vec2(1280.0, 860.0));
    settle(&mut viewer);
    assert_eq!(width(&viewer), before);
}

#[test]
fn a_detector_that_knows_none_of_the_classes_says_so() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening {
        checkpoint: Some(shipped("blood-cells-se-resnet18")),
        ..scenes.opening()
    });
    let text = "knows none of the classes of ";
    assert!(viewer.query_all_by_label_contains(text).next().is_some());
    let notices = &viewer.state().state().notices;
    assert!(notices.iter().any(|notice| notice.text.contains(text)));
    press(&mut viewer, Key::F3);
    assert!(viewer.query_all_by_label_contains(text).next().is_some());
    let viewer = scenes.open(scenes.opening());
    assert_eq!(viewer.state().state().foreign_classes(Pane::First), None);
}

#[test]
fn a_click_selects_the_detection_rather_than_the_annotation_that_it_matches() {
    let scenes = Scenes::new();
    let opening = Opening {
        dataset: Some(scenes.text("scenes")),
        results: Some(scenes.results_of_one_object()),
        ..Opening::default()
    };
    let mut viewer = scenes.open(opening);
    let state = viewer.state().state();
    let place = state.boxes(Pane::First).detections.unwrap()[0].box_in_image;
    let (_, image) = state.pixels[0].clone().unwrap();
    let frame = viewer
        .get_by_role_and_label(Role::Image, "image with boxes")
        .rect();
    let size = egui::vec2(image.width() as f32, image.height() as f32);
    let scale = (frame.width() / size.x).min(frame.height() / size.y);
    let corner = frame.center() - size * scale / 2.0;
    let middle = egui::vec2(place.x1 + place.x2, place.y1 + place.y2) / 2.0;
    viewer.hover_at(corner + middle * scale);
    settle(&mut viewer);
    viewer.drag_at(corner + middle * scale);
    viewer.drop_at(corner + middle * scale);
    settle(&mut viewer);
    assert_eq!(viewer.state().state().selected, Some(BoxRef::Detection(0)));
    press(&mut viewer, Key::M);
    assert_eq!(
        viewer.state().state().selected,
        Some(BoxRef::GroundTruth(0))
    );
    // A key that does not fit says so.
    press(&mut viewer, Key::A);
    let notices = &viewer.state().state().notices;
    assert!(
        notices
            .iter()
            .any(|n| n.text.starts_with("this correction does not fit"))
    );
}

#[test]
fn a_dropped_file_is_opened() {
    #[derive(Debug)]
    struct Dropped(PathBuf);
    impl egui::DroppedFile for Dropped {
        fn path(&self) -> &Path {
            &self.0
        }
        fn bytes(&self) -> Result<Vec<u8>, String> {
            std::fs::read(&self.0).map_err(|e| e.to_string())
        }
    }
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    for names in [&["dropped.png"][..], &["a.png", "b.png", "c.png"]] {
        for name in names {
            let path = scenes.at(name);
            image::RgbImage::new(20, 10).save(&path).unwrap();
            let file = std::sync::Arc::new(Dropped(path));
            viewer.input_mut().dropped_files.push(file as _);
        }
        settle(&mut viewer);
        let state = viewer.state().state();
        assert_eq!(state.image_count(), names.len(), "all of them are listed");
        let title = state.collection.as_ref().unwrap().image_title(0);
        assert_eq!(title, names[0]);
        // The open network runs on it.
        assert!(state.predictions[0].get(0).is_some());
    }
}

/// Opens an image directory whose only file has this name.
fn with_image_named(scenes: &Scenes, name: &str) -> Opening {
    let directory = scenes.at("named");
    std::fs::create_dir_all(&directory).unwrap();
    let image = image::RgbImage::from_pixel(64, 48, image::Rgb([90, 160, 90]));
    image.save(directory.join(name)).unwrap();
    Opening::of(&directory.display().to_string())
}

#[test]
fn long_names_neither_widen_the_panels_nor_cover_the_image() {
    let scenes = Scenes::new();
    let view = |viewer: &Viewer| viewer.get_by_label("image with boxes").rect();
    let viewer = scenes.open(with_image_named(&scenes, "a.png"));
    let with_short_name = view(&viewer);
    std::fs::remove_dir_all(scenes.at("named")).unwrap();
    let long = format!("{}.png", "long-name-".repeat(20));
    let viewer = scenes.open(with_image_named(&scenes, &long));
    assert_eq!(view(&viewer), with_short_name);

    // A class with a long name, as in ImageNet.
    let truth = scenes.at("scenes/annotations/instances_val2017.json");
    let text = std::fs::read_to_string(&truth).unwrap();
    let name = "common ringed seal, sea dog, fur seal with many synonyms, ".repeat(3);
    let name = name.trim();
    std::fs::write(&truth, text.replace("\"ring\"", &format!("\"{name}\""))).unwrap();
    let mut viewer = scenes.open(scenes.opening());
    let before = view(&viewer);
    viewer.query_all_by_label("Classes").next().unwrap().click();
    settle(&mut viewer);
    viewer.get_by_label(&format!("only {name}"));
    assert_eq!(view(&viewer), before, "open");
    viewer.query_all_by_label("Classes").next().unwrap().click();
    settle(&mut viewer);
    assert_eq!(view(&viewer), before, "closed");
}

#[test]
fn boxes_that_the_class_filter_hides_are_mentioned_above_the_image() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    viewer.query_all_by_label("Classes").next().unwrap().click();
    settle(&mut viewer);
    click(&mut viewer, "None");
    viewer.get_by_label_contains("the class filter hides ");
    click(&mut viewer, "Show all classes");
    let mention = viewer.query_by_label_contains("the class filter hides ");
    assert!(mention.is_none());
    assert!(viewer.state().state().filter().hidden_classes.is_empty());
}

#[test]
fn the_counts_of_the_gallery_are_beside_its_scroll_bar() {
    let scenes = Scenes::new();
    let mut viewer = viewer_of_size([1280.0, 400.0], Settings::default(), scenes.opening());
    press(&mut viewer, Key::D);
    let view = viewer.get_by_label("image with boxes").rect();
    let badges = viewer.query_all_by_label_contains(" missed");
    let badges = badges.map(|node| node.rect());
    let badges: Vec<egui::Rect> = badges.filter(|rect| rect.right() < view.left()).collect();
    assert!(!badges.is_empty());
    // The bar takes 10 points.
    for badge in badges {
        assert!(badge.right() + 10.0 <= view.left(), "{badge:?} {view:?}");
    }
}

#[test]
fn a_threshold_has_no_tooltip_over_the_counts() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    let slider = viewer.get_by_role_and_label(Role::Slider, "score threshold");
    let place = slider.rect().center();
    viewer.hover_at(place);
    for _ in 0..90 {
        viewer.step();
    }
    let tooltip = "detections below this score are ignored everywhere";
    assert!(viewer.query_by_label(tooltip).is_none());
    // Its name, at the left, has one.
    let slider = viewer.get_by_role_and_label(Role::Slider, "score threshold");
    let name = slider.rect().left_center() - egui::vec2(30.0, 0.0);
    viewer.hover_at(name);
    for _ in 0..90 {
        viewer.step();
    }
    viewer.get_by_label(tooltip);
}

#[test]
#[cfg_attr(not(feature = "wgpu"), ignore = "needs --features wgpu")]
fn the_light_theme_is_readable() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(Opening {
        dataset: Some(scenes.text("scenes")),
        ..Opening::default()
    });
    click(&mut viewer, "Light");
    assert!(!viewer.state().state().settings.dark);
    compare(&mut viewer, "light");
}

/// `cargo test --release --features wgpu --test viewer guides -- --ignored`, after a change of what they show.
#[test]
#[cfg(feature = "wgpu")]
#[ignore = "writes the screenshots of the guides"]
fn the_screenshots_of_the_guides_are_renewed() {
    let opening = Opening::default();
    let mut viewer = viewer_of_size([1440.0, 900.0], Settings::default(), opening);
    let save = |viewer: &mut Viewer, name: &str| {
        viewer.hover_at(egui::pos2(2.0, 890.0));
        settle(viewer);
        let image = image::DynamicImage::from(viewer.render().unwrap()).to_rgb8();
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("assets")
            .join(name);
        let file = std::fs::File::create(path).unwrap();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(file, 85);
        encoder.encode_image(&image).unwrap();
    };
    press(&mut viewer, Key::D);
    for _ in 0..4 {
        press(&mut viewer, Key::ArrowRight);
    }
    // The units from the last to SE_3_1, and its fifth channel.
    for _ in 0..5 {
        press(&mut viewer, Key::B);
    }
    for _ in 0..5 {
        press(&mut viewer, Key::K);
    }
    let select = |viewer: &mut Viewer, number: usize| {
        let name = format!("detection {number}: ");
        let mut found = viewer.query_all_by_label_contains(&name);
        found.next().unwrap().click();
    };
    select(&mut viewer, 1);
    settle(&mut viewer);
    save(&mut viewer, "view-image.jpg");
    // A wrong one.
    select(&mut viewer, 5);
    settle(&mut viewer);
    press(&mut viewer, Key::W);
    settle(&mut viewer);
    save(&mut viewer, "view-why.jpg");
    press(&mut viewer, Key::W);
    click(&mut viewer, "Data");
    viewer.get_by_label("Evaluate").scroll_to_me();
    settle(&mut viewer);
    click(&mut viewer, "Evaluate");
    save(&mut viewer, "view-data.jpg");
    press(&mut viewer, Key::F6);
    click(&mut viewer, "Cls cylinder as cone: 12");
    save(&mut viewer, "view-errors.jpg");
    press(&mut viewer, Key::F7);
    press(&mut viewer, Key::Home);
    save(&mut viewer, "view-grid.jpg");
}

#[test]
#[cfg(target_os = "linux")]
fn without_a_display_the_error_has_a_hint_that_works() {
    let run = |arguments: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_sedet"))
            .args(["view", "--device", "cpu"])
            .args(arguments)
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .env_remove("WAYLAND_SOCKET")
            .output()
            .unwrap()
    };
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines[0].starts_with("error: no display"), "{stderr}");
    assert!(lines[1].contains("--export DIR"), "{stderr}");
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().display().to_string();
    let output = run(&["--export", &directory, "--page", "model"]);
    assert!(output.status.success(), "{output:?}");
    let written = String::from_utf8(output.stdout).unwrap();
    let table = std::fs::read_to_string(written.trim_end()).unwrap();
    assert!(table.contains("conv1"), "{table}");
    for (arguments, expected) in [
        (
            ["--export", &directory, "--page", "errata"],
            "hint: pages are image, ",
        ),
        (
            ["--export", &directory, "--score", "1.5"],
            "--score 1.5: a value from 0 to 1",
        ),
        (
            ["--export", &directory, "--renderer", "opengl"],
            "cannot be used with",
        ),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(expected), "{stderr}");
    }
}
