//! The delivery worker: takes due deliveries from the queue, sends them, and records what came of it.
//!
//! One delivery passes through five steps, each a module: [`load`] → [`guard`] → [`send`] → [`decide`] → [`record`].
//! [`pipeline`] ties them together, [`handover`] keeps a mail from being sent twice, [`circuit`] holds back what its endpoint cannot take, [`dispatch`] and [`sweep`] keep
//! the queue filled from the database, [`replay`] carries out replay jobs, [`prune`] removes what has expired,
//! [`threshold`] watches the dead-letter queue, and [`run`] starts it all.

mod abandoned;
mod background;
pub mod circuit;
pub mod decide;
pub mod dispatch;
pub mod guard;
pub mod handover;
mod lanes;
pub mod load;
pub mod pipeline;
pub mod probes;
pub mod prune;
pub mod record;
pub mod replay;
mod restart;
pub mod retry;
pub mod run;
pub mod send;
pub mod sign;
pub mod sweep;
pub mod threshold;
mod unreadable;

pub use run::{Services, run};
