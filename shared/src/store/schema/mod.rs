//! The tables that a message goes through. Each file is one table.

pub mod attempt;
pub mod circuit;
pub mod delivery;
pub mod email;
pub mod message;
pub mod replay;
