//! Deliveries that are held back, as they stand in bodies.

use std::collections::HashMap;

use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    clock::Timestamp,
    delivery::ParkedReason,
    store::{self, circuits},
};
use sea_orm::{ConnectionTrait, DbErr};
use serde::Serialize;
use uuid::Uuid;

use super::Delivery;
use crate::http::{Moment, Text, example_time};

/// Why a delivery is held back, and for how long. It uses up no attempt meanwhile.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(crate) struct Parked {
    /// Why it was held back: its circuit was not closed, its endpoint was paused, or another message went first
    /// (`ordering: "fifo"`).
    reason: Text<ParkedReason>,
    /// Since when it has been held back.
    since: Moment,
    /// When its circuit lets the next deliveries through, to try whether the receiver works again. Only with the reason
    /// `circuit_open`, and not while the circuit is closed or was opened by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Moment>,
}

impl Parked {
    /// The state of a row, without `until`.
    pub(super) fn of(row: &store::Delivery) -> Option<Self> {
        let (reason, since) = row.parked()?;
        Some(Self {
            reason: reason.into(),
            since: since.into(),
            until: None,
        })
    }
}

impl Example for Parked {
    fn example() -> Self {
        Self {
            reason: Text(ParkedReason::CircuitOpen),
            since: example_time().into(),
            until: Some(example_time().into()),
        }
    }
}

/// The times until when deliveries are held back, by the circuits that they wait for.
pub(crate) struct HeldUntil(HashMap<Uuid, Timestamp>);

impl HeldUntil {
    /// Reads the times for these deliveries: one query, and none when nothing is held back.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn of(
        db: &impl ConnectionTrait,
        rows: impl IntoIterator<Item = &store::Delivery>,
    ) -> Result<Self, DbErr> {
        let circuits = rows.into_iter().filter_map(waits_for).collect();
        Ok(Self(circuits::retry_times(db, circuits).await?))
    }

    /// Shows one of these deliveries.
    pub(crate) fn show(&self, row: store::Delivery) -> Delivery {
        let until = waits_for(&row).and_then(|circuit| self.0.get(&circuit).copied());
        let mut shown = Delivery::from(row);
        if let Some(parked) = &mut shown.parked {
            parked.until = until.map(Text);
        }
        shown
    }

    /// Shows these deliveries, in their order.
    pub(crate) fn show_all(&self, rows: Vec<store::Delivery>) -> Vec<Delivery> {
        rows.into_iter().map(|row| self.show(row)).collect()
    }
}

/// The circuit that a delivery is held back by, unless it is held back for another reason.
fn waits_for(row: &store::Delivery) -> Option<Uuid> {
    let (reason, _) = row.parked()?;
    row.parked_for
        .filter(|_| reason == ParkedReason::CircuitOpen)
}
