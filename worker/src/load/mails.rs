//! What of a delivery and its tenant only mails need.

use std::collections::HashMap;

use relaypost_shared::{
    clock::Timestamp,
    db::rows::{self, Column, Kind},
    delivery::{DeliveryKind, EmailOnUncertain},
    entities::delivery,
    ids::DeliveryId,
};
use sea_orm::{ConnectionTrait, DbErr, TryGetable as _};
use uuid::Uuid;

const GIVEN: [Column; 1] = [Column::new("delivery_id", Kind::Uuid)];

const SELECT: &str = "SELECT id, sending_token, sending_at, \
     COALESCE((SELECT email_on_uncertain FROM tenants WHERE tenants.id = tenant_id), 'hold') AS email_on_uncertain \
     FROM given JOIN deliveries ON id = delivery_id";

/// The mark of a mail whose content is being handed over, or was when its worker died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// What only that attempt marks the delivery with.
    pub token: Uuid,
    /// When its worker last said that it waits for the mail server's answer, by the database's time.
    pub at: Timestamp,
}

/// What sending a mail goes by besides its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handling {
    pub(super) sending: Option<Sending>,
    pub(super) on_uncertain: EmailOnUncertain,
}

/// The handling of the mails among `deliveries`.
pub(super) async fn handling(
    db: &impl ConnectionTrait,
    deliveries: &[delivery::Model],
) -> Result<HashMap<DeliveryId, Handling>, DbErr> {
    let mails = deliveries
        .iter()
        .filter(|delivery| delivery.kind == DeliveryKind::Email);
    let ids: Vec<Vec<sea_orm::Value>> = mails.map(|delivery| vec![delivery.id.into()]).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = rows::given(db.get_database_backend(), &GIVEN, ids, Vec::new(), SELECT)?;
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
