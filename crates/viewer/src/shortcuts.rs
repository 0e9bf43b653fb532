//! Keyboard shortcuts: those of the whole viewer here, those of a panel from the panel.

use egui::text::{CCursor, CCursorRange};
use egui::text_edit::TextEditState;
use egui::{Context, Event, Id, Key, Modifiers, Popup};

use super::panels::{self, FrameCache, Input, KeyShortcut, PANELS};
use super::state::{PanelId, Request, ViewerState};

/// The id of the path field, so that a shortcut can focus it.
pub(crate) const PATH_FIELD: &str = "path field";

/// The shortcuts that also work while a text field has the focus.
static WHILE_TYPING: &[KeyShortcut] = &[
    KeyShortcut {
        keys: "Ctrl+O",
        action: "focus the path field",
        bindings: &[(Modifiers::COMMAND, Key::O, |input| {
            let field = Id::unique(PATH_FIELD);
            input
                .context
                .memory_mut(|memory| memory.request_focus(field));
            // What is typed replaces the path before.
            let mut edited = TextEditState::load(input.context, field).unwrap_or_default();
            let all = CCursorRange::two(
                CCursor::default(),
                CCursor::new(input.state.path.chars().count()),
            );
            edited.cursor.set_char_range(Some(all));
            edited.store(input.context, field);
        })],
    },
    KeyShortcut {
        keys: "Ctrl+S",
        action: "first export of the panel",
        bindings: &[(Modifiers::COMMAND, Key::S, |input| {
            let export = panels::by_id(input.state.tab).exports().first();
            input.state.requests.extend(export.map(Request::Export));
        })],
    },
];

static GLOBAL: &[KeyShortcut] = &[
    KeyShortcut {
        keys: "Shift+← →",
        action: "previous, next weights that the run has kept",
        bindings: &[
            (Modifiers::SHIFT, Key::ArrowLeft, |input| {
                input.state.step_weights(-1);
            }),
            (Modifiers::SHIFT, Key::ArrowRight, |input| {
                input.state.step_weights(1);
            }),
        ],
    },
    KeyShortcut {
        keys: "?",
        action: "show keyboard shortcuts",
        bindings: &[],
    },
    KeyShortcut {
        keys: "Alt+← →",
        action: "back to the page and image before, forward",
        bindings: &[
            (Modifiers::ALT, Key::ArrowLeft, |input| {
                input.state.go_back(false)
            }),
            (Modifiers::ALT, Key::ArrowRight, |input| {
                input.state.go_back(true)
            }),
        ],
    },
    KeyShortcut {
        keys: "Ctrl+Z, Ctrl+Shift+Z",
        action: "undo, redo a change of thresholds, of what is drawn or of labels",
        bindings: &[
            (Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::Z, |input| {
                input.state.undo(true)
            }),
            (Modifiers::COMMAND, Key::Z, |input| input.state.undo(false)),
        ],
    },
    KeyShortcut {
        keys: "F11",
        action: "nothing but the image, on, off",
        bindings: &[(Modifiers::NONE, Key::F11, |input| {
            input.state.full_image = !input.state.full_image;
            input.state.tab = PanelId::IMAGE;
        })],
    },
    KeyShortcut {
        keys: "Ctrl+C",
        action: "copy the first image of the page to the clipboard",
        bindings: &[],
    },
    KeyShortcut {
        keys: "Esc",
        action: "close a menu or window, cancel a background task, clear the selection, hide the feature map",
        bindings: &[(Modifiers::NONE, Key::Escape, |input| {
            let state = &mut *input.state;
            // The shortcut takes the key, so menus and lists do not see it.
            if state.shows_error() {
                state.close_error();
            } else if Popup::is_any_open(input.context) {
                Popup::close_all(input.context);
            } else if state.show_help {
                state.show_help = false;
            } else if state.full_image {
                state.full_image = false;
            } else if state.show_corrections {
                state.show_corrections = false;
            } else if state.redraws.take().is_some() {
                // The box stays as it is.
            } else if state.show_notices {
                state.show_notices = false;
            } else if !state.progress.is_empty() {
                state.requests.push(Request::Cancel);
            } else if state.selected.is_some() {
                state.selected = None;
            } else if state.gates.channel.is_some() {
                state.gates.channel = None;
            } else {
                state.explanation.hides_map = true;
            }
        })],
    },
];

/// The keys of the first panels, in their order.
const PANEL_KEYS: [Key; 8] = [
    Key::F1,
    Key::F2,
    Key::F3,
    Key::F4,
    Key::F5,
    Key::F6,
    Key::F7,
    Key::F8,
];

/// Returns the help: for each group its title and its keys with their actions.
pub fn help() -> Vec<(String, Vec<(String, &'static str)>)> {
    let lines = |shortcuts: &'static [KeyShortcut]| {
        let lines = shortcuts.iter();
        lines.map(|shortcut| (shortcut.keys.to_owned(), shortcut.action))
    };
    let with_key = PANELS.iter().zip(PANEL_KEYS);
    let panel_keys = with_key.map(|(panel, key)| (key.name().to_owned(), panel.id().0));
    let global = lines(GLOBAL).chain(lines(WHILE_TYPING)).chain(panel_keys);
    let mut groups = vec![("Viewer".to_owned(), global.collect())];
    let mut known: Vec<&'static [KeyShortcut]> = Vec::new();
    for list in PANELS.iter().flat_map(|panel| panel.shortcuts()) {
        let is = |other: &&'static [KeyShortcut]| std::ptr::eq(*other, *list);
        if known.iter().any(is) {
            continue;
        }
        known.push(*list);
        let panels = PANELS.iter();
        let panels = panels.filter(|panel| panel.shortcuts().iter().any(is));
        let names: Vec<&str> = panels.map(|panel| panel.id().0).collect();
        groups.push((names.join(" and "), lines(list).collect()));
    }
    groups
}

/// Runs the shortcuts whose keys were pressed. While a text field has the focus, most keys are text.
pub fn handle(context: &Context, state: &mut ViewerState, cache: &FrameCache) {
    let mut input = Input {
        context,
        state,
        cache,
    };
    input.run(WHILE_TYPING);
    for (panel, key) in PANELS.iter().zip(PANEL_KEYS) {
        if input.pressed(Modifiers::NONE, key) {
            input.state.tab = panel.id();
        }
    }
    let is_typing = context.egui_wants_keyboard_input();
    if !is_typing {
        if input.asks_for_copy() {
            let exports = panels::by_id(input.state.tab).exports();
            input.state.requests.push(Request::Copy(exports));
        }
        if input.asks_for_help() {
            input.state.show_help = !input.state.show_help;
        }
        input.run(GLOBAL);
        for shortcuts in panels::by_id(input.state.tab).shortcuts() {
            input.run(shortcuts);
        }
    }
    panels::by_id(input.state.tab).update(&mut input, is_typing);
}

impl Input<'_> {
    fn run(&mut self, shortcuts: &'static [KeyShortcut]) {
        for (modifiers, key, action) in shortcuts.iter().flat_map(|shortcut| shortcut.bindings) {
            if self.pressed(*modifiers, *key) {
                action(self);
            }
        }
    }

    fn pressed(&self, modifiers: Modifiers, key: Key) -> bool {
        let consume = |input: &mut egui::InputState| input.consume_key(modifiers, key);
        self.context.input_mut(consume)
    }

    /// The keys for copying differ between systems, which egui reports as an event of its own.
    fn asks_for_copy(&self) -> bool {
        let is_copy = |event: &Event| matches!(event, Event::Copy);
        self.context.input(|input| input.events.iter().any(is_copy))
    }

    /// Some keyboard layouts report `?` as a key, others only as text.
    fn asks_for_help(&self) -> bool {
        let is_typed = |event: &Event| matches!(event, Event::Text(text) if text == "?");
        let typed = || {
            self.context
                .input(|input| input.events.iter().any(is_typed))
        };
        self.pressed(Modifiers::NONE, Key::Questionmark) || typed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_lists_every_shortcut() {
        let guide = include_str!("../../../docs/viewer.md");
        for (group, lines) in help() {
            for (keys, action) in lines {
                let line = format!("| {keys} | {action} |");
                assert!(guide.contains(&line), "{group}: {line}");
            }
        }
    }

    #[test]
    fn no_key_has_two_actions_in_one_panel() {
        for panel in PANELS {
            let shortcuts = panel.shortcuts().iter().copied().flatten();
            let shortcuts = shortcuts.chain(GLOBAL).chain(WHILE_TYPING);
            let bindings = shortcuts.flat_map(|shortcut| shortcut.bindings);
            let mut keys: Vec<(Modifiers, Key)> = bindings.map(|(m, key, _)| (*m, *key)).collect();
            keys.extend(PANEL_KEYS.map(|key| (Modifiers::NONE, key)));
            for (at, pressed) in keys.iter().enumerate() {
                assert!(!keys[..at].contains(pressed), "{pressed:?}");
            }
        }
    }
}
