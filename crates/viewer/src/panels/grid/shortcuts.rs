//! The keyboard shortcuts of the grid.

use egui::{Key, Modifiers};

use crate::panels::{Input, KeyShortcut};

const NONE: Modifiers = Modifiers::NONE;
/// The factor by which a key changes the size of the images.
const LARGER: f32 = 1.25;

pub(super) static SHORTCUTS: &[KeyShortcut] = &[
    KeyShortcut {
        keys: "← → ↑ ↓",
        action: "previous, next image, image above, below",
        bindings: &[
            (NONE, Key::ArrowLeft, |input| input.state.step(-1)),
            (NONE, Key::ArrowRight, |input| input.state.step(1)),
            (NONE, Key::ArrowUp, |input| input.state.step_rows(-1)),
            (NONE, Key::ArrowDown, |input| input.state.step_rows(1)),
        ],
    },
    KeyShortcut {
        keys: "Page Up, Page Down, Home, End",
        action: "a page back, forward, first, last image",
        bindings: &[
            (NONE, Key::PageUp, |input| {
                input.state.step_rows(-(page(input)));
            }),
            (NONE, Key::PageDown, |input| {
                input.state.step_rows(page(input));
            }),
            (NONE, Key::Home, |input| input.state.step(isize::MIN / 2)),
            (NONE, Key::End, |input| input.state.step(isize::MAX / 2)),
        ],
    },
    KeyShortcut {
        keys: "Enter",
        action: "show the image alone",
        bindings: &[(NONE, Key::Enter, |input| {
            let image = input.state.current;
            input.state.open_from_grid(image);
        })],
    },
    KeyShortcut {
        keys: "+ −",
        action: "larger, smaller images",
        bindings: &[
            (NONE, Key::Plus, |input| input.state.scale_grid(LARGER)),
            (NONE, Key::Equals, |input| input.state.scale_grid(LARGER)),
            (NONE, Key::Minus, |input| {
                input.state.scale_grid(LARGER.recip());
            }),
        ],
    },
];

/// Returns the rows of a page.
fn page(input: &Input<'_>) -> isize {
    (input.state.grid.rows() as isize - 1).max(1)
}
