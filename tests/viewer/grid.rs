//! The grid, on results files over generated scenes: every box is known.

use egui::Key;
use egui::accesskit::Role;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use sedet::viewer::Opening;
use sedet::viewer::state::{PanelId, Settings, ViewerState};

use super::{
    CORRECT, MISSED, Scenes, Viewer, WRONG, click, count_color, press, settle, two_detectors,
    viewer_of_size,
};

fn state(viewer: &Viewer) -> &ViewerState {
    viewer.state().state()
}

/// Returns the images of the grid as screen readers name them, in the order of reading.
fn tiles(viewer: &Viewer) -> Vec<String> {
    let collection = state(viewer).collection.clone().unwrap();
    let titles: Vec<String> = (0..collection.len())
        .map(|index| collection.image_title(index))
        .collect();
    let nodes = viewer.root().children_recursive();
    let buttons = nodes.filter(|node| node.accesskit_node().role() == Role::Button);
    let labels = buttons.filter_map(|node| node.accesskit_node().label());
    labels
        .filter(|label| titles.iter().any(|title| label.starts_with(title.as_str())))
        .collect()
}

#[test]
fn every_image_of_the_list_is_drawn_with_its_boxes_and_leads_to_its_page() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.all_errors());
    press(&mut viewer, Key::F7);
    assert_eq!(state(&viewer).tab, PanelId::GRID);
    let of = |index: usize, viewer: &Viewer| {
        let state = state(viewer);
        let counts = state.tallies[0].as_ref().unwrap().images[index].unwrap();
        let title = state.collection.as_ref().unwrap().image_title(index);
        format!(
            "{title}, {} correct, {} wrong, {} missed",
            counts.correct, counts.wrong, counts.missed
        )
    };
    let all = state(&viewer).image_count();
    let expected: Vec<String> = (0..all).map(|index| of(index, &viewer)).collect();
    assert_eq!(tiles(&viewer), expected);

    // Higher thresholds leave fewer boxes in the same images.
    let correct = |viewer: &Viewer| state(viewer).tallies[0].as_ref().unwrap().total.correct;
    let before = correct(&viewer);
    viewer.state_mut().state_mut().settings.filter.score = 0.92;
    settle(&mut viewer);
    assert!(correct(&viewer) < before);
    let expected: Vec<String> = (0..all).map(|index| of(index, &viewer)).collect();
    assert_eq!(tiles(&viewer), expected);
    viewer.state_mut().state_mut().settings.filter.score = 0.5;

    // The list has the order and filters of the gallery.
    viewer.state_mut().state_mut().query.search = "000000000003".into();
    settle(&mut viewer);
    let listed = state(&viewer).order.clone();
    assert_eq!(tiles(&viewer).len(), listed.len());
    press(&mut viewer, Key::Backspace);
    assert_eq!(tiles(&viewer).len(), all);

    // A click and a key open an image.
    let label = of(2, &viewer);
    click(&mut viewer, &label);
    assert_eq!(
        (state(&viewer).tab, state(&viewer).current),
        (PanelId::IMAGE, 2)
    );
    press(&mut viewer, Key::F7);
    press(&mut viewer, Key::ArrowRight);
    assert_eq!(
        (state(&viewer).tab, state(&viewer).current),
        (PanelId::GRID, 3)
    );
    press(&mut viewer, Key::Home);
    press(&mut viewer, Key::ArrowDown);
    let columns = state(&viewer).grid.columns;
    assert!(columns > 1);
    assert_eq!(state(&viewer).current, columns.min(all - 1));
    press(&mut viewer, Key::Enter);
    assert_eq!(state(&viewer).tab, PanelId::IMAGE);
}

#[test]
fn counts_and_boxes_of_a_comparison_are_those_of_the_network_in_focus() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(two_detectors(&scenes));
    click(&mut viewer, "Run both networks on all 6 images");
    press(&mut viewer, Key::F7);
    let counts = |viewer: &Viewer, network: usize| {
        let images = &state(viewer).tallies[network].as_ref().unwrap().images;
        let [correct, wrong] = images
            .iter()
            .map(|counts| counts.unwrap())
            .fold([0, 0], |sum, counts| {
                [sum[0] + counts.correct, sum[1] + counts.wrong]
            });
        [correct, wrong]
    };
    let shown = |viewer: &Viewer| {
        let words = tiles(viewer).into_iter();
        words.fold([0, 0], |sum, words| {
            let number = |of: &str| -> usize {
                let part = words.split(", ").find_map(|part| part.strip_suffix(of));
                part.unwrap().parse().unwrap()
            };
            [sum[0] + number(" correct"), sum[1] + number(" wrong")]
        })
    };
    let [first, second] = [0, 1].map(|network| counts(&viewer, network));
    assert_ne!(first, second);
    click(&mut viewer, "second network");
    assert_eq!(shown(&viewer), second);
    click(&mut viewer, "first network");
    assert_eq!(shown(&viewer), first);
}

#[test]
fn larger_images_leave_fewer_in_sight_and_the_current_one_stays_among_them() {
    let scenes = Scenes::new();
    let size = [900.0, 520.0];
    let mut viewer = viewer_of_size(size, Settings::default(), scenes.all_errors());
    press(&mut viewer, Key::F7);
    let all = state(&viewer).image_count();
    assert_eq!(state(&viewer).grid.in_sight, 0..all);
    press(&mut viewer, Key::End);
    for _ in 0..6 {
        press(&mut viewer, Key::Plus);
    }
    let grid = state(&viewer).grid.clone();
    assert!(grid.in_sight.len() < all, "{grid:?}");
    assert!(grid.in_sight.contains(&(all - 1)), "{grid:?}");
    press(&mut viewer, Key::Home);
    assert_eq!(state(&viewer).grid.in_sight.start, 0);
    for _ in 0..12 {
        press(&mut viewer, Key::Minus);
    }
    assert_eq!(state(&viewer).grid.in_sight, 0..all);
    assert_eq!(state(&viewer).settings.grid_side, 80.0);
}

#[test]
fn the_grid_is_exported_as_it_is_shown() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.all_errors());
    press(&mut viewer, Key::F7);
    for name in ["Images in sight (PNG)", "Images of the list (CSV)"] {
        click(&mut viewer, "Export");
        click(&mut viewer, name);
    }
    let page = image::open(scenes.at("out/grid.png")).unwrap().to_rgb8();
    for color in [CORRECT, WRONG, MISSED] {
        assert!(count_color(&page, color) > 100, "{color:?}");
    }
    let csv = String::from_utf8(scenes.exported("images.csv")).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("image,class,correct,wrong,missed"));
    let tally = state(&viewer).tallies[0].clone().unwrap();
    let mut sum = [0; 3];
    for (line, counts) in lines.zip(&tally.images) {
        let counts = counts.unwrap();
        let numbers = [counts.correct, counts.wrong, counts.missed];
        let end = numbers.map(|number| number.to_string()).join(",");
        assert!(line.ends_with(&format!(",,{end}")), "{line}");
        for (sum, number) in sum.iter_mut().zip(numbers) {
            *sum += number;
        }
    }
    assert_eq!(
        sum,
        [tally.total.correct, tally.total.wrong, tally.total.missed]
    );

    // What the viewer hides is hidden in the file.
    viewer
        .state_mut()
        .state_mut()
        .settings
        .filter
        .show_detections = false;
    settle(&mut viewer);
    click(&mut viewer, "Export");
    click(&mut viewer, "Images in sight (PNG)");
    let page = image::open(scenes.at("out/grid-2.png")).unwrap().to_rgb8();
    assert_eq!(count_color(&page, WRONG), 0);
    assert!(count_color(&page, MISSED) > 100);
}

#[test]
fn images_without_boxes_and_unreadable_ones_have_their_places() {
    let scenes = Scenes::new();
    let directory = scenes.at("photographs");
    std::fs::create_dir(&directory).unwrap();
    image::RgbImage::from_pixel(900, 20, image::Rgb([200, 30, 30]))
        .save(directory.join("a wide one.png"))
        .unwrap();
    std::fs::write(directory.join("broken.png"), "no image").unwrap();
    let mut viewer = scenes.open(Opening {
        what: Some(directory.display().to_string()),
        ..Opening::default()
    });
    press(&mut viewer, Key::F7);
    assert_eq!(tiles(&viewer), ["a wide one.png", "broken.png"]);
    assert!(viewer.query_by_label("annotations").is_none());
    click(&mut viewer, "broken.png");
    assert_eq!(
        (state(&viewer).tab, state(&viewer).current),
        (PanelId::IMAGE, 1)
    );
}

#[test]
fn a_legend_says_what_the_colors_of_boxes_mean() {
    let scenes = Scenes::new();
    let mut viewer = scenes.open(scenes.all_errors());
    for key in [Key::F1, Key::F7] {
        press(&mut viewer, key);
        for name in ["correct", "its annotation", "wrong", "missed"] {
            let mut named = viewer.query_all_by_label(name);
            assert!(named.next().is_some(), "{key:?} {name}");
        }
        press(&mut viewer, Key::V);
        assert!(viewer.query_by_label("its annotation").is_none());
        viewer.get_by_label("colors are those of the classes");
        press(&mut viewer, Key::V);
    }
    let viewer = scenes.open(Opening {
        dataset: Some(scenes.text("scenes")),
        ..Opening::default()
    });
    assert!(viewer.query_all_by_label("annotation").next().is_some());
    assert!(viewer.query_by_label("wrong").is_none());
}
