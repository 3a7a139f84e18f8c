//! Taking in a message: which endpoints get it, and what is written.

use std::{collections::HashMap, sync::Arc};

use relaypost_shared::{
    clock::Timestamp,
    db::{Postgres, Transaction},
    delivery::DeliveryKind,
    entities::{Texts, delivery, message},
    ids::MessageId,
    queue::Lane,
};
use sea_orm::DbErr;

use super::{
    body::{Message, NewMessage},
    catalog::{Catalog, Lookup},
    insert::insert,
};
use crate::{
    accept::{Intake, Plan, Plans, Store, Submission, Written, new_delivery},
    deliveries::Delivery,
    event_types::Checked,
    http::{ApiError, to_bytes},
};

/// A message whose fields were checked.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(super) message: Arc<NewMessage>,
    /// What the schema of its event type says about its payload, as far as one is known.
    pub(super) checked: Option<Checked>,
}

/// How often a batch is planned anew because the catalog of one of its tenants has changed meanwhile.
const TRIES: usize = 3;
/// How many deliveries one statement takes; more go in several, in a transaction.
const AT_ONCE: usize = 20_000;

impl Intake for Publish {
    type Entity = message::Entity;
    type Lookup = Lookup;
    const LANE: Lane = Lane::Webhooks;

    fn size(&self) -> usize {
        self.message.size()
    }

    async fn look_up(tx: &Transaction, batch: &[&Submission<Self>]) -> Result<Self::Lookup, DbErr> {
        let tenants = batch.iter().map(|one| one.tenant);
        let names = batch
            .iter()
            .map(|one| one.command.message.event_type.as_str());
        Catalog::load(
            tx,
            tenants.collect(),
            Some(names.collect()),
            &HashMap::new(),
        )
        .await
    }

    async fn write_at_once(
        store: &Store,
        postgres: &Postgres,
        batch: &[&Submission<Self>],
    ) -> Result<Option<Written>, DbErr> {
        let catalogs = &store.catalogs;
        for _ in 0..TRIES {
            let tenants = batch.iter().map(|one| one.tenant);
            let lookup = catalogs.of(&store.db, tenants).await?;
            let now = store.clock.now();
            let plans = Plans::of(batch, &lookup, now);
            if plans.deliveries.len() > AT_ONCE {
                return Ok(None);
            }
            let stale = insert(postgres, &lookup, &plans.rows, &plans.deliveries, now).await?;
            if stale.is_empty() {
                let due_now = plans.due_now();
                return Ok(Some((plans.answers, due_now)));
            }
            catalogs.forget(&stale);
        }
        Ok(None)
    }

    fn plan(
        submission: &Submission<Self>,
        lookup: &Lookup,
        now: Timestamp,
    ) -> Result<Plan<message::Model>, ApiError> {
        let Publish { message, checked } = &submission.command;
        let new = message.as_ref();
        let catalog = lookup.get(&submission.tenant);
        if let Some(catalog) = catalog {
            let event_type = &new.event_type;
            catalog.registered.admit(event_type, checked.as_ref())?;
        }
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
        let deliveries: Vec<delivery::Model> = catalog
            .into_iter()
            .flat_map(|catalog| &catalog.endpoints)
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
