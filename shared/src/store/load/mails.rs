//! The columns of a delivery and its tenant that only mails need.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DbErr, TryGetable as _};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    db::rows,
    delivery::{DeliveryKind, EmailOnUncertain},
    ids::DeliveryId,
    store::{Delivery, by_id, mark::Sending},
};

const SELECT: &str = "SELECT id, sending_token, sending_at, \
     COALESCE((SELECT email_on_uncertain FROM tenants WHERE tenants.id = tenant_id), 'hold') AS email_on_uncertain \
     FROM given JOIN deliveries ON id = given_id";

/// The facts that decide how a mail is sent, besides its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handling {
    pub(super) sending: Option<Sending>,
    pub(super) on_uncertain: EmailOnUncertain,
}

/// Reads the handling of the mails among `deliveries`.
pub(super) async fn handling(
    db: &impl ConnectionTrait,
    deliveries: &[Delivery],
) -> Result<HashMap<DeliveryId, Handling>, DbErr> {
    let mails = deliveries
        .iter()
        .filter(|delivery| delivery.kind == DeliveryKind::Email);
    let ids = by_id::given(mails.map(|delivery| delivery.id));
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let backend = db.get_database_backend();
    let statement = rows::given(backend, &by_id::GIVEN, ids, Vec::new(), SELECT)?;
    let rows = db.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| {
            let token: Option<Uuid> = row.try_get("", "sending_token")?;
            let at: Option<Timestamp> = row.try_get("", "sending_at")?;
            let handling = Handling {
                sending: token.zip(at).map(|(token, at)| Sending { token, at }),
                on_uncertain: row.try_get("", "email_on_uncertain")?,
            };
            Ok((DeliveryId::try_get(row, "", "id")?, handling))
        })
        .collect()
}
