//! The keyboard shortcuts of the image panel.

use egui::{FocusDirection, Key, Modifiers};

use crate::panels::list_shortcuts::toggle;
use crate::panels::{Input, KeyShortcut};
use crate::state::MapStage;
use sedet_data::curation::check::LabelChange;

const NONE: Modifiers = Modifiers::NONE;

pub(crate) static SHORTCUTS: &[KeyShortcut] = &[
    KeyShortcut {
        keys: "← →",
        action: "previous, next image",
        bindings: &[
            (NONE, Key::ArrowLeft, |input| input.state.step(-1)),
            (NONE, Key::ArrowRight, |input| input.state.step(1)),
        ],
    },
    KeyShortcut {
        keys: "Page Up, Page Down",
        action: "10 images back, forward",
        bindings: &[
            (NONE, Key::PageUp, |input| input.state.step(-10)),
            (NONE, Key::PageDown, |input| input.state.step(10)),
        ],
    },
    KeyShortcut {
        keys: "Home, End",
        action: "first, last image",
        bindings: &[
            (NONE, Key::Home, |input| input.state.step(isize::MIN / 2)),
            (NONE, Key::End, |input| input.state.step(isize::MAX / 2)),
        ],
    },
    KeyShortcut {
        keys: "Tab, Shift+Tab",
        action: "next, previous box",
        bindings: &[
            (Modifiers::SHIFT, Key::Tab, |input| input.next_box(true)),
            (NONE, Key::Tab, |input| input.next_box(false)),
        ],
    },
    KeyShortcut {
        keys: "M",
        action: "select the matching box",
        bindings: &[(NONE, Key::M, |input| {
            let boxes = input.cache.boxes(input.state.focused());
            let partner = input.state.selected.and_then(|of| boxes.partner(of));
            if let Some((partner, _)) = partner {
                input.state.selected = Some(partner);
            }
        })],
    },
    KeyShortcut {
        keys: "Wheel, + −",
        action: "zoom at the pointer, at the center",
        bindings: &[
            (NONE, Key::Plus, |input| input.zoom(1.25)),
            (NONE, Key::Equals, |input| input.zoom(1.25)),
            (NONE, Key::Minus, |input| input.zoom(0.8)),
        ],
    },
    KeyShortcut {
        keys: "0, 1",
        action: "fit the image, actual size",
        bindings: &[
            (NONE, Key::Num0, |input| input.state.zoom.fit()),
            (NONE, Key::Num1, |input| {
                let pixels_per_point = input.context.pixels_per_point();
                input.state.zoom.true_size(pixels_per_point);
            }),
        ],
    },
    KeyShortcut {
        keys: "Z",
        action: "zoom to the selected box",
        bindings: &[(NONE, Key::Z, |input| {
            let boxes = input.cache.boxes(input.state.focused());
            let selected = input.state.selected.and_then(|of| boxes.box_of(of));
            input.state.zoom_to = selected.or(input.state.zoom_to);
        })],
    },
    KeyShortcut {
        keys: "Drag",
        action: "move the image",
        bindings: &[],
    },
    KeyShortcut {
        keys: "H (hold)",
        action: "hide all boxes",
        bindings: &[],
    },
    KeyShortcut {
        keys: "C",
        action: "comparison on, off",
        bindings: &[(NONE, Key::C, |input| input.state.toggle_compare())],
    },
    KeyShortcut {
        keys: "W",
        action: "why this box or class, on, off",
        bindings: &[(NONE, Key::W, |input| input.state.toggle_explanation())],
    },
    KeyShortcut {
        keys: "Y, U",
        action: "the annotation has the class, the box of the detection",
        bindings: &[
            (NONE, Key::Y, |input| {
                input.correct(|change| matches!(change, LabelChange::Class { .. }));
            }),
            (NONE, Key::U, |input| {
                input.correct(|change| matches!(change, LabelChange::Place { .. }));
            }),
        ],
    },
    KeyShortcut {
        keys: "A, R",
        action: "the detection is not annotated, the annotation is no object",
        bindings: &[
            (NONE, Key::A, |input| {
                input.correct(|change| matches!(change, LabelChange::Add { .. }));
            }),
            (NONE, Key::R, |input| {
                input.correct(|change| matches!(change, LabelChange::Remove { .. }));
            }),
        ],
    },
    KeyShortcut {
        keys: "O, Q",
        action: "draw the box of the annotation, list of corrections",
        bindings: &[
            (NONE, Key::O, |input| input.redraw()),
            (NONE, Key::Q, |input| {
                toggle(&mut input.state.show_corrections);
            }),
        ],
    },
    KeyShortcut {
        keys: "B, N",
        action: "previous, next SE block",
        bindings: &[
            (NONE, Key::B, |input| input.change_block(-1)),
            (NONE, Key::N, |input| input.change_block(1)),
        ],
    },
    KeyShortcut {
        keys: "J, K",
        action: "previous, next channel",
        bindings: &[
            (NONE, Key::J, |input| input.change_channel(-1)),
            (NONE, Key::K, |input| input.change_channel(1)),
        ],
    },
    KeyShortcut {
        keys: "X, T",
        action: "feature map before or after scaling, most active channels",
        bindings: &[
            (NONE, Key::X, |input| {
                let stage = &mut input.state.gates.stage;
                *stage = match *stage {
                    MapStage::Before => MapStage::After,
                    MapStage::After => MapStage::Before,
                };
            }),
            (NONE, Key::T, |input| {
                toggle(&mut input.state.gates.show_grid);
            }),
        ],
    },
];

impl Input<'_> {
    fn next_box(&mut self, backwards: bool) {
        // Otherwise egui moves the focus as well.
        let keep_focus = |memory: &mut egui::Memory| memory.move_focus(FocusDirection::None);
        self.context.memory_mut(keep_focus);
        let boxes = self.cache.boxes(self.state.focused());
        self.state.next_box(boxes, backwards);
    }

    fn zoom(&mut self, factor: f32) {
        let pixels = self.state.pixels[0].as_ref();
        if let (Some(frame), Some((_, image))) = (self.cache.frame, pixels) {
            let size = [image.width() as f32, image.height() as f32];
            let center = frame.map(|side| side / 2.0);
            self.state.zoom.zoom_at(center, factor, frame, size);
        }
    }

    fn change_block(&mut self, by: isize) {
        let inference = self.state.inference[0].as_ref();
        let blocks = inference.map_or(0, |inference| inference.blocks.len());
        if let Some(last) = blocks.checked_sub(1) {
            let gates = &mut self.state.gates;
            gates.block = gates.block.saturating_add_signed(by).min(last);
            gates.channel = None;
        }
    }

    /// Selects the first channel if none is selected.
    fn change_channel(&mut self, by: isize) {
        let inference = self.state.inference[0].as_ref();
        let gates = &mut self.state.gates;
        let block = inference.and_then(|inference| {
            let last = inference.blocks.len().checked_sub(1)?;
            inference.blocks.get(gates.block.min(last))
        });
        if let Some(block) = block {
            let next = gates.channel.map_or(0, |at| at.saturating_add_signed(by));
            gates.channel = Some(next.min(block.gates.len().saturating_sub(1)));
        }
    }
}
