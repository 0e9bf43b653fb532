//! (room under construction)

pub mod shapes;
