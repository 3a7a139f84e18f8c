//! The tables that the store alone reads and writes. Each file is one table.

pub mod attempt;
pub mod circuit;
pub mod delivery;
pub mod email;
pub mod email_body;
pub mod message;
pub mod payload;
pub mod replay;
