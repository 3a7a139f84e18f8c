//! Accepting a message: which endpoints get it, and what is written.

use std::{collections::HashMap, sync::Arc};

use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    entities::Texts,
    ids::{MessageId, TenantId},
    queue::{Job, Lane},
    store::{self, accept::to_endpoint},
};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr};

use super::{
    body::{Message, NewMessage},
    catalog::{Catalog, Catalogs, Lookup},
};
use crate::{
    accept::{Context, Intake, Plan, Plans, Settled, Submission},
    deliveries,
    event_types::{Checked, Registered},
    http::{ApiError, to_bytes},
};

/// A message whose fields were checked.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(super) message: Arc<NewMessage>,
    /// The result of checking its payload against the schema of its event type, if one is known.
    pub(super) checked: Option<Checked>,
}

/// Plans and stores messages.
#[derive(Clone, Debug)]
pub(crate) struct Messages {
    context: Context,
    catalogs: Catalogs,
}

impl Messages {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context,
            catalogs: Catalogs::default(),
        }
    }

    /// Plans and stores in a transaction, by what is in force in it.
    async fn store_in_transaction(
        &self,
        batch: &[&Submission<Publish>],
    ) -> Result<Vec<Settled>, DbErr> {
        let tx = begin_write(&self.context.db).await?;
        let tenants = batch.iter().map(|one| one.tenant);
        let tenants = tenants.chain([TenantId::OWN]).collect();
        let names = batch
            .iter()
            .map(|one| one.command.message.event_type.as_str());
        let lookup = Catalog::load(&tx, tenants, Some(names.collect()), &HashMap::new()).await?;
        let now = self.context.clock.now();
        let plans = Plans::of(&self.context, batch, now, |one| plan(one, &lookup, now));
        plans.store_in(&self.context, tx).await
    }
}

impl Intake for Messages {
    type Command = Publish;
    const LANE: Lane = Lane::Webhooks;

    fn context(&self) -> &Context {
        &self.context
    }

    fn size(command: &Publish) -> usize {
        command.message.size()
    }

    /// Plans by the catalogs that this process keeps, and stores in one statement, which checks their editions. Where that is
    /// not possible it is a transaction.
    async fn store(
        &self,
        batch: &[&Submission<Publish>],
        last: bool,
    ) -> Result<Vec<Settled>, DbErr> {
        let Context { db, clock, .. } = &self.context;
        // SQLite counts no editions.
        if last || db.get_database_backend() != DbBackend::Postgres {
            return self.store_in_transaction(batch).await;
        }
        let tenants = batch.iter().map(|one| one.tenant);
        let lookup = self.catalogs.of(db, tenants).await?;
        let editions: Vec<(TenantId, Option<i64>)> = lookup
            .iter()
            .map(|(tenant, catalog)| (*tenant, catalog.edition))
            .collect();
        let now = clock.now();
        let plans = Plans::of(&self.context, batch, now, |one| plan(one, &lookup, now));
        let Some(settled) = plans.store_at_once(&self.context, &editions).await? else {
            return self.store_in_transaction(batch).await;
        };
        for (one, settled) in batch.iter().zip(&settled) {
            if matches!(settled, Settled::Stale) {
                // The platform's too: it is not said which of the two has changed.
                self.catalogs.forget(one.tenant);
                self.catalogs.forget(TenantId::OWN);
            }
        }
        Ok(settled)
    }
}

fn plan(
    submission: &Submission<Publish>,
    lookup: &Lookup,
    now: Timestamp,
) -> Result<Plan<store::Message>, ApiError> {
    let Publish { message, checked } = &submission.command;
    let new = message.as_ref();
    let catalog = lookup.get(&submission.tenant);
    let platforms = lookup.get(&TenantId::OWN);
    Registered::admit(
        catalog.map(|catalog| &catalog.registered),
        platforms.map(|catalog| &catalog.registered),
        &new.event_type,
        checked.as_ref(),
    )?;
    let row = store::Message {
        id: MessageId::generate(now),
        tenant_id: submission.tenant,
        event_type: new.event_type.clone(),
        channels: Texts(new.channels.clone()),
        metadata: new.metadata_json(),
        request_id: submission.request_id.to_string(),
        created_at: now,
        deliver_at: new.deliver_at(),
        expires_at: new.expires_at(),
        cancelled_at: None,
        ordering_key: None,
        traceparent: None,
    };
    let endpoints = catalog.into_iter().flat_map(|catalog| &catalog.endpoints);
    let (mut deliveries, mut jobs) = (Vec::new(), Vec::new());
    for (endpoint, limits) in endpoints.filter(|(one, _)| one.wants(&new.event_type, &new.channels))
    {
        let delivery = to_endpoint(&row, endpoint.id);
        jobs.extend(Job::if_due(&delivery, Some(*limits)));
        deliveries.push(delivery);
    }
    let shown = deliveries.iter().cloned();
    let shown = shown.map(deliveries::Delivery::from).collect();
    Ok(Plan {
        answer: to_bytes(&Message::new(&row, shown))?,
        body: store::Payload {
            message_id: row.id,
            payload: new.payload.get().into(),
        },
        row,
        deliveries,
        jobs,
    })
}
