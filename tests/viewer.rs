//! The viewer, driven by the accessibility labels of its widgets. Screenshots are compared on Mesa's lavapipe;
//! the tests fail without a Vulkan device.
#![cfg(feature = "viewer")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use egui_kittest::{Harness, SnapshotOptions};
use sedet::shapes::{ShapesConfig, write_dataset};
use sedet::viewer::state::{BoxRef, Compare, MapStage, PanelId, Request, Settings, SortBy};
use sedet::viewer::{Opening, ViewerApp};

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
    let mut viewer = Harness::builder()
        .with_size(size)
        .with_max_steps(200)
        .build_eframe(|creation| {
            ViewerApp::with_settings(&creation.egui_ctx, settings, opening, Device::flex().into())
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
    // The masks have fixed widths, whatever the text.
    let changing: Vec<egui::Rect> = [(" ms", 60.0), (directory.as_str(), 260.0)]
        .into_iter()
        .flat_map(|(text, width)| {
            let nodes = viewer.query_all_by_label_contains(text);
            nodes.map(move |node| {
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
    viewer.get_by_label_contains("right: blood-cells-se-resnet18");
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
    let image = image::load_from_memory(&scenes.exported(&format!("{stem}.png"))).unwrap();
    let (_, pixels) = viewer.state().state().pixels[0].clone().unwrap();
    assert_eq!(image.width(), pixels.width());
    assert_ne!(image.to_rgb8(), *pixels, "boxes are drawn");
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
}

#[test]
fn bars_list_their_images_and_metrics_are_computed_and_exported() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.opening());
    press(&mut viewer, Key::D);
    assert!(viewer.state().state().predictions[0].is_complete());
    click(&mut viewer, "Data");
    click(&mut viewer, "Evaluate");
    let evaluation = viewer.state().state().evaluation.clone().unwrap();
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
    state.requests.push(Request::ShowRecall(0.5));
    settle(&mut viewer);
    let state = viewer.state().state();
    let recall = state.tallies[0].as_ref().unwrap().total.recall().unwrap();
    assert!((0.5..0.6).contains(&recall), "{recall}");
    assert_eq!(state.tab, PanelId::IMAGE);
    let query = &mut viewer.state_mut().state_mut().query;
    (query.errors_only, query.sort) = (false, SortBy::Position);
    click(&mut viewer, "Data");

    let bars = viewer.state().state().charts[0].bars.clone();
    let bar = bars.iter().find(|bar| bar.count > 0).unwrap();
    click(&mut viewer, &format!("{}: {}", bar.label, bar.count));
    let state = viewer.state().state();
    assert_eq!(state.tab, PanelId::IMAGE);
    assert_eq!(*state.order, bar.images);
    press(&mut viewer, Key::Backspace);
    assert_eq!(viewer.state().state().order.len(), 6);
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
    let run = scenes.at("run");
    std::fs::create_dir_all(&run).unwrap();
    let launch = serde_json::json!({ "dataset": scenes.text("scenes"), "pretrained": false });
    std::fs::write(run.join("launch.json"), launch.to_string()).unwrap();
    let line = |iteration: usize, loss: f64| {
        format!("{{\"event\":\"train\",\"iteration\":{iteration},\"time\":1,\"loss\":{loss}}}\n")
    };
    let events = run.join("events.jsonl");
    std::fs::write(&events, line(10, 3.0)).unwrap();
    let mut viewer = scenes.open(Opening::of(&run.display().to_string()));
    let state = viewer.state().state();
    assert_eq!(state.image_count(), 6, "the dataset of the run");
    viewer.state_mut().state_mut().tab = PanelId::TRAINING;
    settle(&mut viewer);
    viewer.get_by_label_contains("iteration 10");
    std::fs::write(&events, line(10, 3.0) + &line(20, 2.0)).unwrap();
    let start = Instant::now();
    while viewer.state().state().run.as_ref().unwrap().train["loss"].len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "never grows");
        std::thread::sleep(Duration::from_millis(50));
        viewer.step();
    }
    settle(&mut viewer);
    viewer.get_by_label_contains("iteration 20");
    click(&mut viewer, "Export");
    click(&mut viewer, "Curves (PNG, SVG, CSV)");
    let csv = String::from_utf8(scenes.exported("training.csv")).unwrap();
    assert!(csv.contains("train,loss,20,2\n"));
}

#[test]
fn a_results_file_is_shown_on_its_dataset_and_rejected_on_another() {
    let scenes = Scenes::new();
    let truth = scenes.at("scenes/annotations/instances_val2017.json");
    let truth: serde_json::Value = serde_json::from_slice(&std::fs::read(truth).unwrap()).unwrap();
    let object = &truth["annotations"][0];
    let row = serde_json::json!({
        "image_id": object["image_id"],
        "category_id": object["category_id"],
        "bbox": object["bbox"],
        "score": 0.75,
    });
    let results = scenes.at("results.json");
    std::fs::write(&results, serde_json::json!([row]).to_string()).unwrap();
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

#[test]
fn errors_are_shown_as_notices_and_do_not_stop_the_viewer() {
    let scenes = Scenes::new();
    let photos = scenes.at("photos");
    std::fs::create_dir_all(&photos).unwrap();
    std::fs::write(photos.join("a-broken.jpg"), b"\xff\xd8\xff\xe0 no more").unwrap();
    image::RgbImage::from_pixel(40, 30, image::Rgb([90, 160, 90]))
        .save(photos.join("b-good.png"))
        .unwrap();
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

    let viewer = scenes.open(Opening::of("no-such-thing"));
    let said = errors(&viewer).join("\n");
    assert!(
        said.contains("no-such-thing: no such file or directory"),
        "{said}"
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
    let path = scenes.at("dropped.png");
    image::RgbImage::new(20, 10).save(&path).unwrap();
    let mut viewer = scenes.open(scenes.opening());
    viewer
        .input_mut()
        .dropped_files
        .push(std::sync::Arc::new(Dropped(path)) as _);
    settle(&mut viewer);
    let state = viewer.state().state();
    assert_eq!(state.image_count(), 1);
    // The open network runs on it.
    assert!(state.predictions[0].get(0).is_some());
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
    viewer
        .query_all_by_label_contains("detection 1: ")
        .next()
        .unwrap()
        .click();
    settle(&mut viewer);
    save(&mut viewer, "view-image.jpg");
    click(&mut viewer, "Data");
    click(&mut viewer, "Evaluate");
    save(&mut viewer, "view-data.jpg");
}

#[test]
#[cfg(target_os = "linux")]
fn without_a_display_the_error_has_a_hint() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sedet"))
        .args(["view", "--device", "cpu"])
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .env_remove("WAYLAND_SOCKET")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines[0].starts_with("error: no display"), "{stderr}");
    assert!(lines[1].starts_with("hint: sedet predict"), "{stderr}");
}
