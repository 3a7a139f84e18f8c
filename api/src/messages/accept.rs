//! Taking in a message: which endpoints get it, and what is written.

use std::collections::HashMap;

use relaypost_shared::{
    clock::Timestamp,
    delivery::DeliveryKind,
    entities::{Texts, delivery, endpoint, message},
    ids::{MessageId, TenantId},
    queue::Lane,
};
use sea_orm::{DatabaseTransaction, DbErr, IntoActiveModel as _};

use super::body::{Message, NewMessage};
use crate::{
    accept::{Intake, Plan, Submission, new_delivery},
    deliveries::Delivery,
    endpoints,
    http::{ApiError, to_bytes},
};

/// A message whose fields were checked.
#[derive(Debug)]
pub(crate) struct Publish(pub(super) NewMessage);

impl Intake for Publish {
    type Row = message::ActiveModel;
    /// The active endpoints of every tenant of the batch.
    type Lookup = HashMap<TenantId, Vec<endpoint::Model>>;
    const LANE: Lane = Lane::Webhooks;

    async fn look_up(
        tx: &DatabaseTransaction,
        batch: &[Submission<Self>],
    ) -> Result<Self::Lookup, DbErr> {
        let mut tenants: Vec<TenantId> = batch.iter().map(|one| one.tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        let mut endpoints = Self::Lookup::new();
        for row in endpoints::active_of(tenants).all(tx).await? {
            endpoints.entry(row.tenant_id).or_default().push(row);
        }
        Ok(endpoints)
    }

    fn plan(
        submission: &Submission<Self>,
        endpoints: &Self::Lookup,
        now: Timestamp,
    ) -> Result<Plan<Self::Row>, ApiError> {
        let new = &submission.command.0;
        let row = message::Model {
            id: MessageId::generate(now),
            tenant_id: submission.tenant,
            event_type: new.event_type.clone(),
            channels: Texts(new.channels.clone()),
            payload: new.payload.get().into(),
            metadata: new.metadata_json(),
            request_id: submission.request_id.to_string(),
            created_at: now,
            deliver_at: new.deliver_at(),
        };
        let endpoints = endpoints.get(&submission.tenant).into_iter().flatten();
        let deliveries: Vec<delivery::Model> = endpoints
            .filter(|endpoint| endpoint.wants(&new.event_type, &new.channels))
            .map(|endpoint| delivery::Model {
                message_id: Some(row.id),
                endpoint_id: Some(endpoint.id),
                ..new_delivery(DeliveryKind::Webhook, row.tenant_id, now, row.deliver_at)
            })
            .collect();
        let shown = deliveries.iter().cloned().map(Delivery::from).collect();
        Ok(Plan {
            body: to_bytes(&Message::new(&row, shown))?,
            row: row.into_active_model(),
            deliveries,
        })
    }
}
