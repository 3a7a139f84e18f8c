//! Taking in a message: which endpoints get it, and what is written.

use std::{collections::HashMap, sync::Arc};

use relaypost_shared::{
    clock::Timestamp,
    delivery::DeliveryKind,
    entities::{Texts, delivery, endpoint, message},
    ids::{MessageId, TenantId},
    queue::Lane,
};
use sea_orm::{DatabaseTransaction, DbErr};

use super::body::{Message, NewMessage};
use crate::{
    accept::{Intake, Plan, Submission, new_delivery},
    deliveries::Delivery,
    endpoints,
    event_types::{Checked, Registered},
    http::{ApiError, to_bytes},
};

/// A message whose fields were checked.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(super) message: Arc<NewMessage>,
    /// What the schema of its event type says about its payload, as far as one is known.
    pub(super) checked: Option<Checked>,
}

/// What decides about the messages of a batch.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// The active endpoints of every tenant.
    endpoints: HashMap<TenantId, Vec<endpoint::Model>>,
    /// The event types that were registered.
    registered: Registered,
}

impl Intake for Publish {
    type Entity = message::Entity;
    type Lookup = Lookup;
    const LANE: Lane = Lane::Webhooks;

    async fn look_up(
        tx: &DatabaseTransaction,
        batch: &[Submission<Self>],
    ) -> Result<Self::Lookup, DbErr> {
        let mut tenants: Vec<TenantId> = batch.iter().map(|one| one.tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        let names = batch
            .iter()
            .map(|one| one.command.message.event_type.as_str());
        let registered = Registered::load(tx, &tenants, names.collect()).await?;
        let mut endpoints: HashMap<TenantId, Vec<endpoint::Model>> = HashMap::new();
        for row in endpoints::active_of(tenants).all(tx).await? {
            endpoints.entry(row.tenant_id).or_default().push(row);
        }
        Ok(Lookup {
            endpoints,
            registered,
        })
    }

    fn plan(
        submission: &Submission<Self>,
        lookup: &Lookup,
        now: Timestamp,
    ) -> Result<Plan<message::Model>, ApiError> {
        let Publish { message, checked } = &submission.command;
        let new = message.as_ref();
        let event_type = &new.event_type;
        lookup
            .registered
            .admit(submission.tenant, event_type, checked.as_ref())?;
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
            expires_at: new.expires_at(),
            cancelled_at: None,
        };
        let endpoints = lookup
            .endpoints
            .get(&submission.tenant)
            .into_iter()
            .flatten();
        let deliveries: Vec<delivery::Model> = endpoints
            .filter(|endpoint| endpoint.wants(&new.event_type, &new.channels))
            .map(|endpoint| delivery::Model {
                message_id: Some(row.id),
                endpoint_id: Some(endpoint.id),
                expires_at: row.expires_at,
                ..new_delivery(DeliveryKind::Webhook, row.tenant_id, now, row.deliver_at)
            })
            .collect();
        let shown = deliveries.iter().cloned().map(Delivery::from).collect();
        Ok(Plan {
            body: to_bytes(&Message::new(&row, shown))?,
            row,
            deliveries,
        })
    }
}
