//! The window of `sedet view`, driven by the names that a screen reader says. Images of it are
//! compared on Mesa's software Vulkan; without a device that draws, those tests fail.
#![cfg(feature = "viewer")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use egui_kittest::{Harness, SnapshotOptions};
use sedet::shapes::{ShapesConfig, write_dataset};
use sedet::viewer::state::{BoxRef, Compare, MapSide, Request, Settings, SortBy, Tab};
use sedet::viewer::{Opening, ViewerApp};

type Window = Harness<'static, ViewerApp>;

/// Six generated scenes as files, and a directory for exports.
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

    fn open(&self, opening: Opening) -> Window {
        let settings = Settings {
            export_directory: self.at("out"),
            ..Settings::default()
        };
        window(settings, opening)
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("assets/{name}.safetensors"))
}

fn window(settings: Settings, opening: Opening) -> Window {
    let mut window = Harness::builder()
        .with_size([1280.0, 860.0])
        .with_max_steps(200)
        .build_eframe(|creation| {
            ViewerApp::with_settings(&creation.egui_ctx, settings, opening, Device::flex())
        });
    settle(&mut window);
    window
}

/// Frames until no thread works any more and everything that they said was taken in.
fn settle(window: &mut Window) {
    let start = Instant::now();
    let mut quiet = 0;
    while quiet < 6 {
        window.step();
        quiet = match window.state().is_busy() {
            true => 0,
            false => quiet + 1,
        };
        if quiet == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(start.elapsed() < Duration::from_secs(120), "never settles");
    }
}

fn click(window: &mut Window, label: &str) {
    window.get_by_label(label).click();
    settle(window);
}

fn press(window: &mut Window, key: Key) {
    window.key_press(key);
    settle(window);
}

fn errors(window: &Window) -> Vec<String> {
    let notices = window.state().state().notices.iter();
    notices
        .filter(|n| n.is_error)
        .map(|n| n.text.clone())
        .collect()
}

/// Compare with an image in `tests/snapshots`. How long a network takes and where the files of the
/// test lie are no part of it.
fn compare(window: &mut Window, name: &str) {
    window.hover_at(egui::pos2(2.0, 2.0));
    settle(window);
    let directory = std::env::temp_dir().display().to_string();
    // Of one width, whatever stands there.
    let changing: Vec<egui::Rect> = [(" ms", 60.0), (directory.as_str(), 260.0)]
        .into_iter()
        .flat_map(|(text, width)| {
            let nodes = window.query_all_by_label_contains(text);
            nodes.map(move |node| {
                let size = egui::vec2(width, node.rect().height() + 4.0);
                egui::Rect::from_min_size(node.rect().left_top().round(), size)
            })
        })
        .collect();
    for rect in changing {
        window.mask(rect);
    }
    // Other versions of Mesa round the edges of shapes in another way.
    let options = SnapshotOptions::new()
        .threshold(1.5)
        .max_failed_pixels(400usize);
    window.snapshot_options(name, &options);
}

#[test]
fn the_first_start_shows_the_shipped_detector_at_work() {
    let scenes = Scenes::new();
    let mut window = scenes.open(Opening::default());
    assert_eq!(errors(&window), [""; 0]);
    let state = window.state().state();
    assert_eq!(state.image_count(), 200);
    assert!(
        state.networks[0]
            .as_ref()
            .unwrap()
            .title
            .contains("6 classes")
    );
    let found = state.predictions[0].get(0).expect("the network has looked");
    assert!(found.iter().filter(|b| b.score > 0.9).count() >= 2);
    assert_eq!(state.looked[0].as_ref().unwrap().blocks.len(), 8);
    compare(&mut window, "first-start");
}

#[test]
fn a_box_is_selected_in_the_table_and_its_pair_explained() {
    let scenes = Scenes::new();
    let mut window = scenes.open(scenes.opening());
    let row = window
        .query_all_by_label_contains("detection 1: ")
        .next()
        .expect("a row for each detection");
    row.click();
    settle(&mut window);
    assert_eq!(window.state().state().selected, Some(BoxRef::Found(0)));
    window.get_by_label_contains("Found: right class, enough overlap. With the annotation of ");
    press(&mut window, Key::M);
    assert!(matches!(
        window.state().state().selected,
        Some(BoxRef::Truth(_))
    ));
    press(&mut window, Key::M);
    assert_eq!(window.state().state().selected, Some(BoxRef::Found(0)));
    press(&mut window, Key::Tab);
    assert_eq!(window.state().state().selected, Some(BoxRef::Found(1)));
    window.key_press_modifiers(Modifiers::SHIFT, Key::Tab);
    settle(&mut window);
    assert_eq!(window.state().state().selected, Some(BoxRef::Found(0)));
}

#[test]
fn hiding_boxes_leaves_the_gallery_alone_and_filtering_images_leaves_the_boxes() {
    let scenes = Scenes::new();
    let mut window = scenes.open(scenes.opening());
    let rows = |window: &Window| window.query_all_by_label_contains("annotation ").count();
    let before = rows(&window);
    assert!(before > 0);
    window.query_all_by_label("Classes").next().unwrap().click();
    settle(&mut window);
    click(&mut window, "only ring");
    let state = window.state().state();
    assert_eq!(state.order.len(), 6);
    assert!(state.filter().shows_class(3) && !state.filter().shows_class(0));
    assert!(rows(&window) < before);
    press(&mut window, Key::F);
    assert_eq!(rows(&window), before);
    press(&mut window, Key::G);
    assert_eq!(rows(&window), 0);

    let name = window
        .state()
        .state()
        .collection
        .as_ref()
        .unwrap()
        .image_title(4);
    window
        .get_by_role_and_label(Role::TextInput, "Search")
        .focus();
    settle(&mut window);
    window
        .get_by_role_and_label(Role::TextInput, "Search")
        .type_text(&name);
    settle(&mut window);
    assert_eq!(**window.state().state().order, [4]);
    window.get_by_role_and_label(Role::Button, &name).click();
    settle(&mut window);
    assert_eq!(window.state().state().current, 4);
}

#[test]
fn keys_page_zoom_and_switch_what_is_drawn() {
    let scenes = Scenes::new();
    let mut window = scenes.open(scenes.opening());
    press(&mut window, Key::ArrowRight);
    assert_eq!(window.state().state().current, 1);
    press(&mut window, Key::End);
    assert_eq!(window.state().state().current, 5);
    press(&mut window, Key::Home);
    assert_eq!(window.state().state().current, 0);
    press(&mut window, Key::Num1);
    assert_eq!(window.state().state().zoom.scale, Some(1.0));
    press(&mut window, Key::Plus);
    assert_eq!(window.state().state().zoom.scale, Some(1.25));
    press(&mut window, Key::Num0);
    assert_eq!(window.state().state().zoom.scale, None);
    let score = window.state().state().filter().score;
    press(&mut window, Key::CloseBracket);
    assert!((window.state().state().filter().score - score - 0.05).abs() < 1e-6);
    press(&mut window, Key::Period);
    assert!((window.state().state().filter().iou - 0.55).abs() < 1e-6);
    window.key_down(Key::H);
    settle(&mut window);
    assert!(window.state().state().filter().hide_all);
    window.key_up(Key::H);
    settle(&mut window);
    assert!(!window.state().state().filter().hide_all);
    press(&mut window, Key::Questionmark);
    window.get_by_label("previous, next SE block");
    press(&mut window, Key::Escape);
    assert!(window.query_by_label("previous, next SE block").is_none());
    press(&mut window, Key::F5);
    assert_eq!(window.state().state().tab, Tab::Model);
    window.get_by_label_contains("SE units are");
}

#[test]
fn typing_into_a_field_is_no_command() {
    let scenes = Scenes::new();
    let mut window = scenes.open(scenes.opening());
    window.key_press_modifiers(Modifiers::COMMAND, Key::O);
    settle(&mut window);
    let field = window.get_by_role_and_label(Role::TextInput, "Path");
    field.type_text("gl");
    settle(&mut window);
    press(&mut window, Key::G);
    let state = window.state().state();
    assert!(state.filter().show_truth && state.filter().show_labels);
    assert_eq!(state.path, "gl");
}

#[test]
fn gates_are_shown_and_a_channel_s_map_lies_over_the_image() {
    let scenes = Scenes::new();
    let mut window = scenes.open(scenes.opening());
    press(&mut window, Key::K);
    let state = window.state().state();
    let maps = state.maps.as_ref().expect("maps of the channel");
    assert_eq!((maps.block, maps.channels[0].0), (7, 0));
    let gate = state.looked[0].as_ref().unwrap().blocks[7].gates[0];
    let (_, before, after) = &maps.channels[0];
    for (before, after) in before.values.iter().zip(&after.values) {
        assert!((before * gate - after).abs() < 1e-5);
    }
    window.get_by_label_contains(&format!("channel 0: gate {gate:.4}"));
    press(&mut window, Key::B);
    assert_eq!(window.state().state().gates.block, 6);
    click(&mut window, "most open");
    let state = window.state().state();
    assert_eq!(state.maps.as_ref().unwrap().channels.len(), 8);
    let captions = window
        .query_all_by_label_contains(": before, after")
        .count();
    assert!((1..=8).contains(&captions), "{captions} in sight");
    press(&mut window, Key::X);
    assert_eq!(window.state().state().gates.side, MapSide::Before);
}

#[test]
fn two_images_and_two_networks_are_compared() {
    let scenes = Scenes::new();
    let mut window = scenes.open(Opening {
        compare: Some(shipped("blood-cells-se-resnet18")),
        ..scenes.opening()
    });
    assert_eq!(window.state().state().compare, Compare::Network);
    window.get_by_label_contains("right: blood-cells-se-resnet18");
    let state = window.state().state();
    assert!(state.predictions[1].get(0).is_some());
    assert!(state.classes.iter().any(|class| class.name == "Platelets"));
    click(&mut window, "Compare");
    click(&mut window, "With another image");
    assert_eq!(window.state().state().compare, Compare::Image(1));
    click(&mut window, "by standard deviation");
    press(&mut window, Key::K);
    window.get_by_label_contains(" against the other half");
    let looked = window.state().state().looked[1].as_ref().unwrap();
    assert_eq!(looked.image, 1);
    compare(&mut window, "compare");
}

#[test]
fn a_second_network_tells_where_only_the_first_is_right() {
    let scenes = Scenes::new();
    let mut window = scenes.open(Opening {
        compare: Some(shipped("blood-cells-se-resnet18")),
        ..scenes.opening()
    });
    press(&mut window, Key::D);
    click(&mut window, "Compare");
    click(&mut window, "Detect in all images with it");
    let state = window.state().state();
    assert!(state.predictions.iter().all(|p| p.is_complete()));
    let tally = state.tallies[1].as_ref().unwrap();
    assert_eq!(tally.total.correct, 0, "it knows no scenes");
    let wrong = |t: &sedet::eval::matching::MatchCounts| t.wrong + t.missed;
    let first = state.tallies[0].as_ref().unwrap();
    let expected: Vec<u32> = (0..6)
        .filter(|&i| {
            let [a, b] = [first, tally].map(|t| wrong(&t.images[i as usize].unwrap()));
            a == 0 && b > 0
        })
        .collect();
    assert_eq!(state.only_first_right(), expected);
}

#[test]
fn everything_on_the_page_can_be_had_as_a_file() {
    let scenes = Scenes::new();
    let mut window = scenes.open(scenes.opening());
    press(&mut window, Key::K);
    for name in [
        "Image with boxes (PNG)",
        "Image with boxes (SVG)",
        "Boxes and verdicts (CSV)",
        "Gates of this image (CSV)",
        "Gates of this image (PNG, SVG)",
        "Maps of the shown channels (PNG)",
    ] {
        click(&mut window, "Export");
        click(&mut window, name);
    }
    assert_eq!(errors(&window), [""; 0]);
    let stem = window
        .state()
        .state()
        .collection
        .as_ref()
        .unwrap()
        .image_title(0);
    let stem = stem.trim_end_matches(".jpg").to_owned();
    let picture = image::load_from_memory(&scenes.exported(&format!("{stem}.png"))).unwrap();
    let (_, pixels) = window.state().state().pixels[0].clone().unwrap();
    assert_eq!(picture.width(), pixels.width());
    assert_ne!(picture.to_rgb8(), *pixels, "it has boxes");
    let svg = String::from_utf8(scenes.exported(&format!("{stem}.svg"))).unwrap();
    assert!(svg.contains("<svg") && svg.contains("<rect"));
    let boxes = String::from_utf8(scenes.exported(&format!("{stem}-boxes.csv"))).unwrap();
    assert!(boxes.starts_with("kind,class,score,x,y,width,height,verdict,iou\n"));
    assert!(boxes.contains(",correct,"));
    let gates = String::from_utf8(scenes.exported(&format!("{stem}-gates.csv"))).unwrap();
    let channels: usize = window.state().state().looked[0]
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
fn a_bar_and_a_cell_lead_to_their_images_and_metrics_are_those_of_eval() {
    let scenes = Scenes::new();
    let mut window = scenes.open(scenes.opening());
    press(&mut window, Key::D);
    assert!(window.state().state().predictions[0].is_complete());
    click(&mut window, "Data");
    click(&mut window, "Measure");
    let evaluation = window.state().state().evaluation.clone().unwrap();
    assert_eq!(evaluation.images, 6);
    assert!(evaluation.metrics.ap50 > 0.7, "{:?}", evaluation.metrics);
    compare(&mut window, "data");
    click(&mut window, "Export");
    click(&mut window, "Metrics (JSON, PNG, SVG)");
    click(&mut window, "Export");
    click(&mut window, "Histograms and confusion (CSV)");
    assert_eq!(errors(&window), [""; 0]);
    let metrics: serde_json::Value =
        serde_json::from_slice(&scenes.exported("metrics.json")).unwrap();
    assert!(metrics.is_object());
    let confusion = String::from_utf8(scenes.exported("confusion.csv")).unwrap();
    assert!(confusion.starts_with("annotated,ball,box,"));

    let state = window.state_mut().state_mut();
    state.requests.push(Request::ShowRecall(0.5));
    settle(&mut window);
    let state = window.state().state();
    let recall = state.tallies[0].as_ref().unwrap().total.recall().unwrap();
    assert!((0.5..0.6).contains(&recall), "{recall}");
    assert_eq!(state.tab, Tab::Image);
    let query = &mut window.state_mut().state_mut().query;
    (query.errors_only, query.sort) = (false, SortBy::Position);
    click(&mut window, "Data");

    let bars = window.state().state().charts[0].bars.clone();
    let bar = bars.iter().find(|bar| bar.count > 0).unwrap();
    click(&mut window, &format!("{}: {}", bar.label, bar.count));
    let state = window.state().state();
    assert_eq!(state.tab, Tab::Image);
    assert_eq!(*state.order, bar.images);
    press(&mut window, Key::Backspace);
    assert_eq!(window.state().state().order.len(), 6);
}

#[test]
fn the_gallery_sorts_by_errors() {
    let scenes = Scenes::new();
    let mut window = scenes.open(scenes.opening());
    press(&mut window, Key::D);
    window.state_mut().state_mut().query.sort = SortBy::WorstF1;
    settle(&mut window);
    let state = window.state().state();
    let tally = state.tallies[0].as_ref().unwrap();
    let f1: Vec<f64> = state
        .order
        .iter()
        .map(|&i| tally.images[i as usize].unwrap().f1().unwrap_or(2.0))
        .collect();
    assert!(f1.is_sorted(), "{f1:?}");
    press(&mut window, Key::E);
    let state = window.state().state();
    let wrong = tally_wrong(&window);
    assert_eq!(state.order.len(), wrong);
}

fn tally_wrong(window: &Window) -> usize {
    let tally = window.state().state().tallies[0].clone().unwrap();
    let pictures = tally.images.iter().flatten();
    pictures.filter(|c| c.wrong + c.missed > 0).count()
}

#[test]
fn gates_of_a_data_set_are_measured_shown_and_saved() {
    let scenes = Scenes::new();
    let mut window = scenes.open(scenes.opening());
    click(&mut window, "Gates");
    click(&mut window, "Measure all 6 images");
    assert_eq!(errors(&window), [""; 0]);
    let excitation = window.state().state().statistics.clone().unwrap();
    assert_eq!(excitation.origin.images, 6);
    window.get_by_label("SE_2_1").click();
    settle(&mut window);
    assert_eq!(window.state().state().statistics_choice.block, 0);
    compare(&mut window, "gates");
    click(&mut window, "Export");
    click(&mut window, "Figures 6 and 7, heat map, table, file");
    assert_eq!(errors(&window), [""; 0]);
    let saved = sedet::excitation::Excitation::load(&scenes.at("out/excitation.safetensors"));
    assert_eq!(saved.unwrap().blocks, excitation.blocks);
    for name in [
        "class-activations.svg",
        "class-standard deviations.png",
        "mean-gates.png",
    ] {
        assert!(!scenes.exported(name).is_empty());
    }
    // An image at the end of a channel's range is a click away.
    let picture = excitation.blocks[0].highest[0][0] as usize;
    let title = window
        .state()
        .state()
        .collection
        .as_ref()
        .unwrap()
        .image_title(picture);
    window.query_all_by_label(&title).next().unwrap().click();
    settle(&mut window);
    let state = window.state().state();
    assert_eq!((state.tab, state.gates.channel), (Tab::Image, Some(0)));
    assert_eq!(state.gates.block, 0);

    let mut window = scenes.open(Opening::of(&scenes.text("out/excitation.safetensors")));
    assert_eq!(window.state().state().tab, Tab::Gates);
    window.get_by_label_contains("6 images of ");
    settle(&mut window);
}

#[test]
fn a_running_training_is_watched() {
    let scenes = Scenes::new();
    let run = scenes.at("run");
    std::fs::create_dir_all(&run).unwrap();
    let launch = serde_json::json!({ "dataset": scenes.text("scenes") });
    std::fs::write(run.join("launch.json"), launch.to_string()).unwrap();
    let line = |iteration: usize, loss: f64| {
        format!("{{\"event\":\"train\",\"iteration\":{iteration},\"time\":1,\"loss\":{loss}}}\n")
    };
    let events = run.join("events.jsonl");
    std::fs::write(&events, line(10, 3.0)).unwrap();
    let mut window = scenes.open(Opening::of(&run.display().to_string()));
    let state = window.state().state();
    assert_eq!(state.image_count(), 6, "the run's dataset");
    window.state_mut().state_mut().tab = Tab::Training;
    settle(&mut window);
    window.get_by_label_contains("iteration 10");
    std::fs::write(&events, line(10, 3.0) + &line(20, 2.0)).unwrap();
    let start = Instant::now();
    while window.state().state().run.as_ref().unwrap().train["loss"].len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "never grows");
        std::thread::sleep(Duration::from_millis(50));
        window.step();
    }
    settle(&mut window);
    window.get_by_label_contains("iteration 20");
    click(&mut window, "Export");
    click(&mut window, "Curves (PNG, SVG, CSV)");
    let csv = String::from_utf8(scenes.exported("training.csv")).unwrap();
    assert!(csv.contains("train,loss,20,2\n"));
}

#[test]
fn a_results_file_is_shown_on_its_data_set_and_refused_on_another() {
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
    let mut window = scenes.open(Opening {
        results: Some(results.clone()),
        ..scenes.opening()
    });
    let state = window.state().state();
    assert!(state.predictions[0].is_complete());
    assert!(state.looked[0].is_some(), "the network shows its gates");
    let total = state.tallies[0].as_ref().unwrap().total;
    assert_eq!((total.correct, total.wrong), (1, 0));
    assert!(total.missed > 0);

    let strange =
        serde_json::json!([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]);
    std::fs::write(&results, strange.to_string()).unwrap();
    window
        .get_by_role_and_label(Role::TextInput, "Path")
        .focus();
    settle(&mut window);
    let field = window.get_by_role_and_label(Role::TextInput, "Path");
    field.type_text(&scenes.text("results.json"));
    settle(&mut window);
    press(&mut window, Key::Enter);
    let said = errors(&window).join("\n");
    assert!(
        said.contains("none of its 1 rows is of an image of"),
        "{said}"
    );

    let alone = scenes.open(Opening::of(&scenes.text("results.json")));
    let said = errors(&alone).join("\n");
    assert!(said.contains("open their dataset first"), "{said}");
}

#[test]
fn mistakes_are_named_in_the_window_and_the_rest_goes_on() {
    let scenes = Scenes::new();
    let photos = scenes.at("photos");
    std::fs::create_dir_all(&photos).unwrap();
    std::fs::write(photos.join("a-broken.jpg"), b"\xff\xd8\xff\xe0 no more").unwrap();
    image::RgbImage::from_pixel(40, 30, image::Rgb([90, 160, 90]))
        .save(photos.join("b-good.png"))
        .unwrap();
    let mut window = scenes.open(Opening {
        checkpoint: Some(scenes.at("missing.safetensors")),
        ..Opening::of(&photos.display().to_string())
    });
    let said = errors(&window);
    assert!(
        said.iter().any(|e| e.contains("missing.safetensors")),
        "{said:?}"
    );
    assert!(said.iter().any(|e| e.contains("a-broken.jpg")), "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");
    window.get_by_label("unreadable image");
    press(&mut window, Key::ArrowRight);
    let state = window.state().state();
    assert!(
        state.pixels[0]
            .as_ref()
            .is_some_and(|(picture, _)| *picture == 1)
    );
    click(&mut window, "2 errors");
    window.get_by_label("Notices");

    let window = scenes.open(Opening::of("no-such-thing"));
    let said = errors(&window).join("\n");
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
    let picture = scenes.at("dropped.png");
    image::RgbImage::new(20, 10).save(&picture).unwrap();
    let mut window = scenes.open(scenes.opening());
    window
        .input_mut()
        .dropped_files
        .push(std::sync::Arc::new(Dropped(picture)) as _);
    settle(&mut window);
    let state = window.state().state();
    assert_eq!(state.image_count(), 1);
    // The network of before looks at it.
    assert!(state.predictions[0].get(0).is_some());
}

#[test]
fn light_and_dark_windows_are_both_readable() {
    let scenes = Scenes::new();
    let mut window = scenes.open(Opening {
        dataset: Some(scenes.text("scenes")),
        ..Opening::default()
    });
    click(&mut window, "Light");
    assert!(!window.state().state().settings.dark);
    compare(&mut window, "light");
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
