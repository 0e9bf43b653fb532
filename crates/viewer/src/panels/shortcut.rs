//! A keyboard shortcut, and the objects that it acts on.

use egui::{Context, Key, Modifiers};

use super::FrameCache;
use crate::state::ViewerState;

/// A shortcut, or two opposite ones, as one line of the help.
pub(crate) struct KeyShortcut {
    /// The keys as the help shows them.
    pub keys: &'static str,
    /// The action as the help shows it.
    pub action: &'static str,
    /// The keys with their actions; empty for mouse gestures and keys that are handled elsewhere. A
    /// binding without modifiers also matches with Shift, so one with Shift has to come before it.
    pub bindings: &'static [Binding],
}

/// Modifiers, key and action.
pub(crate) type Binding = (Modifiers, Key, fn(&mut Input<'_>));

/// The objects that a shortcut acts on.
pub struct Input<'a> {
    /// The input of the frame.
    pub context: &'a Context,
    /// The state of the viewer.
    pub state: &'a mut ViewerState,
    /// The boxes of the frame.
    pub cache: &'a FrameCache,
}
