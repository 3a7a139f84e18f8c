//! Mails that are held back wait for one mail provider, and any other that works can send them.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp, delivery::CircuitState, entities::circuit, settings::Settings,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    sea_query::{Expr, ExprTrait as _},
};
use uuid::Uuid;

/// Circuits that are looked at this soon anyway are not woken.
const SOON: TimeDelta = TimeDelta::seconds(1);

/// The pace of another mail provider that could send what is held back behind this circuit, if there is one and this one
/// cannot. Behind a provider that has left the settings everything is let go: nobody will probe it again.
pub(super) async fn pace_of_another(
    db: &impl ConnectionTrait,
    settings: &Settings,
    circuit: &circuit::Model,
) -> Result<Option<u32>, DbErr> {
    if circuit.tenant_id.is_some() || circuit.state == CircuitState::Closed {
        return Ok(None);
    }
    let known = ids(settings);
    if !known.contains(&circuit.id) {
        return Ok(Some(u32::MAX));
    }
    let rows = circuit::Entity::find()
        .filter(circuit::Column::Id.is_in(known.iter().copied()))
        .all(db)
        .await?;
    // One without a row has never had trouble.
    if known.iter().any(|id| rows.iter().all(|row| row.id != *id)) {
        return Ok(Some(u32::MAX));
    }
    let closed = rows
        .iter()
        .filter(|row| row.state == CircuitState::Closed)
        .map(circuit::Model::release_pace);
    Ok(closed.max())
}

/// Has the circuits of the other providers looked at: one is back, and can send what they hold back.
pub(super) async fn wake_others(
    db: &impl ConnectionTrait,
    settings: &Settings,
    now: Timestamp,
) -> Result<(), DbErr> {
    use circuit::Column;
    let asleep = Column::ReleaseAt
        .is_null()
        .or(Column::ReleaseAt.gt(now + SOON));
    circuit::Entity::update_many()
        .col_expr(Column::ReleaseAt, Expr::value(now))
        .filter(Column::Id.is_in(ids(settings)))
        .filter(Column::State.ne(CircuitState::Closed))
        .filter(asleep)
        .exec(db)
        .await
        .map(|_| ())
}

fn ids(settings: &Settings) -> Vec<Uuid> {
    let providers = settings.emails.providers.iter();
    providers.map(|provider| provider.circuit()).collect()
}
