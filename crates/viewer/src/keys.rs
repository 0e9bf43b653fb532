//! The keyboard.

use egui::{Context, Key, Modifiers};

use super::panels::FrameInfo;
use super::state::{BoxRef, Compare, Export, Request, Side, Tab, ViewerState};

/// What the sheet of keys lists.
pub const SHEET: [(&str, &str); 27] = [
    ("← →", "previous, next image of the gallery"),
    ("Page Up, Page Down", "ten images back, ahead"),
    ("Home, End", "first, last image"),
    ("Tab, Shift+Tab", "next, previous box"),
    ("M", "the other box of the pair"),
    ("Wheel, + −", "zoom at the pointer, in the middle"),
    ("0, 1", "fit, true size"),
    ("Drag", "move the image"),
    ("H (hold)", "hide all boxes"),
    ("G", "annotations on, off"),
    ("P", "detections on, off"),
    ("L, S", "labels, scores on, off"),
    ("V", "colors by verdict or by class"),
    ("F", "class filter on, off"),
    ("[ ]", "lower, raise the score"),
    (", .", "lower, raise the IoU"),
    ("E", "only images with errors"),
    ("Backspace", "all images again"),
    ("C", "compare on, off"),
    ("B, N", "previous, next SE block"),
    ("J, K", "previous, next channel"),
    ("X", "the map before or after scaling"),
    ("T", "the most open channels"),
    ("D", "detect in all images"),
    ("Ctrl+S", "export the image as PNG"),
    ("F1 to F5", "the pages; Ctrl+O the path field"),
    ("?, Esc", "this sheet; close it, stop long work"),
];

/// The identity of the path field, so that a key can jump there.
pub const PATH_FIELD: &str = "path field";

/// Do what the keys say, unless somebody types.
pub fn handle(context: &Context, state: &mut ViewerState, info: &FrameInfo) {
    let pressed = |modifiers: Modifiers, key: Key| {
        context.input_mut(|input| input.consume_key(modifiers, key))
    };
    if pressed(Modifiers::COMMAND, Key::O) {
        context.memory_mut(|memory| memory.request_focus(egui::Id::unique(PATH_FIELD)));
    }
    if pressed(Modifiers::COMMAND, Key::S) {
        state.requests.push(Request::Export(Export::ImagePng));
    }
    for (key, tab) in [Key::F1, Key::F2, Key::F3, Key::F4, Key::F5]
        .into_iter()
        .zip(Tab::ALL)
    {
        if pressed(Modifiers::NONE, key) {
            state.tab = tab;
        }
    }
    if context.egui_wants_keyboard_input() {
        state.settings.filter.hide_all = false;
        return;
    }
    let plain = |key: Key| pressed(Modifiers::NONE, key);
    // The character, however a keyboard gets it.
    let typed = |text: &str| {
        context.input(|input| {
            let mut events = input.events.iter();
            events.any(|event| matches!(event, egui::Event::Text(t) if t == text))
        })
    };
    if plain(Key::Questionmark) || pressed(Modifiers::SHIFT, Key::Questionmark) || typed("?") {
        state.show_help = !state.show_help;
    }
    if plain(Key::Escape) {
        match (state.show_help, state.show_notices) {
            (true, _) => state.show_help = false,
            (_, true) => state.show_notices = false,
            _ if !state.progress.is_empty() => state.requests.push(Request::Cancel),
            _ => state.selected = None,
        }
    }
    if state.tab != Tab::Image {
        return;
    }
    state.settings.filter.hide_all = context.input(|input| input.key_down(Key::H));
    let steps = [
        (Key::ArrowRight, 1),
        (Key::ArrowLeft, -1),
        (Key::PageDown, 10),
        (Key::PageUp, -10),
        (Key::End, isize::MAX / 2),
        (Key::Home, isize::MIN / 2),
    ];
    for (key, by) in steps {
        if plain(key) {
            state.step(by);
        }
    }
    let backwards = pressed(Modifiers::SHIFT, Key::Tab);
    if backwards || plain(Key::Tab) {
        // Otherwise the focus moves too.
        context.memory_mut(|memory| memory.move_focus(egui::FocusDirection::None));
        state.next_box(info.boxes(Side::A), backwards);
    }
    if plain(Key::M)
        && let Some((partner, _)) = state.selected.and_then(|b| info.boxes(Side::A).partner(b))
    {
        state.selected = Some(partner);
    }
    zoom_keys(context, state, info, &plain);
    let filter = &mut state.settings.filter;
    let switches = [
        (Key::G, &mut filter.show_truth),
        (Key::P, &mut filter.show_found),
        (Key::L, &mut filter.show_labels),
        (Key::S, &mut filter.show_scores),
        (Key::V, &mut filter.color_by_verdict),
        (Key::F, &mut filter.class_filter_off),
        (Key::E, &mut state.query.errors_only),
        (Key::T, &mut state.gates.show_grid),
    ];
    for (key, switch) in switches {
        if plain(key) {
            *switch = !*switch;
        }
    }
    let stepped = |value: f32, by: f32| ((value + by) * 20.0).round() / 20.0;
    for (key, by) in [(Key::OpenBracket, -0.05), (Key::CloseBracket, 0.05)] {
        if plain(key) {
            filter.score = stepped(filter.score, by).clamp(0.0, 1.0);
        }
    }
    for (key, by) in [(Key::Comma, -0.05), (Key::Period, 0.05)] {
        if plain(key) {
            filter.iou = stepped(filter.iou, by).clamp(0.5, 0.95);
        }
    }
    if plain(Key::Backspace) {
        state.query.picked = None;
        state.query.class = None;
        state.query.search.clear();
    }
    if plain(Key::C) {
        toggle_compare(state);
    }
    if plain(Key::D) {
        state.requests.push(Request::DetectAll(Side::A));
    }
    gate_keys(state, &plain);
    // Something that is hidden is not selected.
    if let Some(selected) = state.selected
        && !info.exists(selected)
    {
        state.selected = None;
    }
}

fn zoom_keys(
    context: &Context,
    state: &mut ViewerState,
    info: &FrameInfo,
    plain: &impl Fn(Key) -> bool,
) {
    let (Some(frame), Some(image)) = (info.frame, info.image_size(state)) else {
        return;
    };
    let middle = frame.map(|side| side / 2.0);
    for (keys, factor) in [
        ([Key::Plus, Key::Equals], 1.25),
        ([Key::Minus, Key::Minus], 0.8),
    ] {
        if keys.into_iter().any(plain) {
            state.zoom.zoom_at(middle, factor, frame, image);
        }
    }
    if plain(Key::Num0) {
        state.zoom.fit();
    }
    if plain(Key::Num1) {
        state.zoom.true_size(context.pixels_per_point());
    }
}

fn gate_keys(state: &mut ViewerState, plain: &impl Fn(Key) -> bool) {
    let Some(looked) = &state.looked[0] else {
        return;
    };
    let Some(last) = looked.blocks.len().checked_sub(1) else {
        return;
    };
    let gates = &mut state.gates;
    if plain(Key::B) {
        gates.block = gates.block.saturating_sub(1);
        gates.channel = None;
    }
    if plain(Key::N) {
        gates.block = (gates.block + 1).min(last);
        gates.channel = None;
    }
    let channels = looked.blocks[gates.block.min(last)].gates.len();
    if plain(Key::J) {
        gates.channel = Some(gates.channel.map_or(0, |channel| channel.saturating_sub(1)));
    }
    if plain(Key::K) {
        let next = gates.channel.map_or(0, |channel| channel + 1);
        gates.channel = Some(next.min(channels.saturating_sub(1)));
    }
    if plain(Key::X) {
        use super::state::MapSide::{After, Before};
        gates.side = match gates.side {
            Before => After,
            After => Before,
        };
    }
}

/// Compare with the second network, or else with the next image.
pub fn toggle_compare(state: &mut ViewerState) {
    state.compare = match state.compare {
        Compare::Off if state.networks[1].is_some() => Compare::Network,
        Compare::Off if state.image_count() > 1 => {
            Compare::Image((state.current + 1) % state.image_count())
        }
        _ => Compare::Off,
    };
}

impl FrameInfo {
    fn exists(&self, of: BoxRef) -> bool {
        let boxes = self.boxes(Side::A);
        match of {
            BoxRef::Truth(at) => at < boxes.truth.len(),
            BoxRef::Found(at) => boxes.found.as_ref().is_some_and(|f| at < f.len()),
        }
    }
}
