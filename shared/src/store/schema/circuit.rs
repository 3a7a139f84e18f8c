//! `circuits`: the circuit breaker of an endpoint or of a mail provider, and what is held back behind it. A row exists
//! only for what has had trouble, is paused or delivers in order: none means closed.

use sea_orm::{FromJsonQueryResult, entity::prelude::*};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    delivery::CircuitState,
    ids::{DeliveryId, TenantId},
};

/// One circuit.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "circuits")]
pub struct Model {
    /// The endpoint's id, or one derived from the mail provider's address.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose endpoint it is; none for a mail provider.
    pub tenant_id: Option<TenantId>,
    /// Where it stands.
    pub state: CircuitState,
    /// Failed attempts in a row.
    pub failures: i32,
    /// Counts the times that it began to let something through: what was released in an earlier epoch says nothing
    /// about this one.
    pub epoch: i32,
    /// How long it was open last, or is, in seconds. It grows while probes fail.
    pub open_seconds: i32,
    /// When it was opened; none while it is closed.
    pub opened_at: Option<Timestamp>,
    /// When it lets probes through next; none while it is closed, and when somebody opened it by hand.
    pub retry_at: Option<Timestamp>,
    /// How many probes this epoch has.
    pub probes: i32,
    /// How many of them have succeeded.
    pub successes: i32,
    /// Since when every attempt has failed.
    pub failing_since: Option<Timestamp>,
    /// When an attempt failed last.
    pub failed_at: Option<Timestamp>,
    /// At which percentage of the time until it is disabled its operators were last told: 0, 50 or 90.
    pub warned: i32,
    /// How many requests a second it gets for now; none: as many as its limits allow.
    pub pace: Option<i32>,
    /// When the pace was last changed.
    pub pace_at: Option<Timestamp>,
    /// When something is to be released next; none when nothing is held back.
    pub release_at: Option<Timestamp>,
    /// With `ordering: fifo`: the delivery whose turn it is.
    pub head: Option<DeliveryId>,
    /// With `ordering: fifo`: everything up to this delivery has had its turn.
    pub settled: Option<DeliveryId>,
    /// The last changes of its state, the newest last.
    pub history: History,
    /// When the row was last written.
    pub updated_at: Timestamp,
}

/// Changes of state in a JSON column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct History(pub Vec<Change>);

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// The state from then on, as a word of [`CircuitState`].
    pub state: String,
    /// Why: `failures`, `probe_due`, `probe_failed`, `probes_succeeded`, `by_hand`.
    pub why: String,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
