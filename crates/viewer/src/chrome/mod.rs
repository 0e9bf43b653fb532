//! The parts of the window around the panels: bars, notices, keyboard shortcuts, corrected labels.

pub mod bottom_bar;
pub mod corrections;
pub mod help;
pub mod notices;
pub mod open_menu;
pub mod run_bar;
pub mod status_line;
pub mod toast;
pub mod top_bar;
