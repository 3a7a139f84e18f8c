//! Reading for those who ask through the API: lists, details and counts.
//!
//! Nothing here writes or locks. A tenant is part of every finder, so that no question reaches another tenant's rows; the
//! circuits of mail providers, which belong to no tenant, are found by their ids. Lists are read by the page, newest first.
//! Counts cover a span of time or stop at a limit, so that they cost no more when more is stored.

pub mod attempts;
pub mod circuits;
pub mod counts;
pub mod dead_letters;
pub mod deliveries;
pub mod emails;
pub mod messages;
pub mod replays;
