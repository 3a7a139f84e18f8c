//! Mails that are held back wait for one mail provider, and any other that works can send them.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    delivery::CircuitState,
    settings::Settings,
    store::{Circuit, circuits},
};
use sea_orm::{ConnectionTrait, DbErr};
use uuid::Uuid;

/// Circuits that are looked at this soon anyway are not woken.
const SOON: TimeDelta = TimeDelta::seconds(1);

/// The pace of another mail provider that could send what is held back behind this circuit, if there is one and this one
/// cannot. Behind a provider that has left the settings everything is let go: nobody will probe it again.
pub(super) async fn pace_of_another(
    db: &impl ConnectionTrait,
    settings: &Settings,
    circuit: &Circuit,
) -> Result<Option<u32>, DbErr> {
    if circuit.tenant_id.is_some() || circuit.state == CircuitState::Closed {
        return Ok(None);
    }
    let known = ids(settings);
    if !known.contains(&circuit.id) {
        return Ok(Some(u32::MAX));
    }
    let rows = circuits::of(db, known.iter().copied()).await?;
    // One without a row has never had trouble.
    if known.iter().any(|id| rows.iter().all(|row| row.id != *id)) {
        return Ok(Some(u32::MAX));
    }
    let closed = rows
        .iter()
        .filter(|row| row.state == CircuitState::Closed)
        .map(Circuit::release_pace);
    Ok(closed.max())
}

/// Has the circuits of the other providers looked at: one is back, and can send what they hold back.
pub(super) async fn wake_others(
    db: &impl ConnectionTrait,
    settings: &Settings,
    now: Timestamp,
) -> Result<(), DbErr> {
    circuits::wake_open(db, ids(settings), SOON, now).await
}

fn ids(settings: &Settings) -> Vec<Uuid> {
    let providers = settings.emails.providers.iter();
    providers.map(|provider| provider.circuit()).collect()
}
