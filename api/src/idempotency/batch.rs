//! A batch with a key. Each of its items is kept from being done twice by a key of its own, so that a batch that was cut off
//! half-way can go on; the key of the batch ties it to its body, and remembers the whole answer once nothing of it can come
//! out better.

use bytes::Bytes;
use relaypost_shared::{entities::idempotency_key as table, ids::TenantId};
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{Accepted, Begun, IdempotencyKey, Keyed, Once};
use crate::{Services, http::ApiError};

/// A batch that is about to be worked on.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    services: &'a Services,
    tenant: TenantId,
    keyed: Option<Keyed>,
}

/// How it begins.
#[derive(Debug)]
pub(crate) enum BatchBegun<'a> {
    /// There may be work to do.
    Work(Batch<'a>),
    /// It was done before: the answer again.
    Done(Bytes),
}

impl<'a> Batch<'a> {
    /// Ties the key to `operation` and to the body, as it came.
    ///
    /// # Errors
    /// 409 when the key was used with another body, and as [`Once::begin`].
    pub(crate) async fn begin(
        services: &'a Services,
        tenant: TenantId,
        key: &IdempotencyKey,
        operation: &str,
        body: &[u8],
    ) -> Result<BatchBegun<'a>, ApiError> {
        // The items have keys of the same operation; no key has a space in it.
        let keyed = key.clone().of(&format!("{operation} as a whole"), body);
        if keyed.is_some() {
            let accepted = match Once::begin(services, tenant, keyed.clone()).await? {
                Begun::Done(accepted) => accepted,
                Begun::Work(once) => once.finish(Bytes::new()).await?,
            };
            let (Accepted::First(answer) | Accepted::Again(answer)) = accepted;
            if !answer.is_empty() {
                return Ok(BatchBegun::Done(answer));
            }
        }
        Ok(BatchBegun::Work(Self {
            services,
            tenant,
            keyed,
        }))
    }

    /// Remembers the answer. If this fails the items are known all the same, and the batch is put together from them.
    pub(crate) async fn remember(&self, answer: &Bytes) {
        if let Some(keyed) = &self.keyed
            && let Err(error) = self.write(keyed, answer).await
        {
            tracing::warn!(%error, "the answer to a batch was not remembered");
        }
    }

    async fn write(&self, keyed: &Keyed, answer: &Bytes) -> Result<(), DbErr> {
        table::Entity::update_many()
            .col_expr(table::Column::Response, Expr::value(answer.to_vec()))
            .filter(table::Column::TenantId.eq(self.tenant))
            .filter(table::Column::Key.eq(&keyed.key))
            .filter(table::Column::Fingerprint.eq(keyed.fingerprint.to_vec()))
            .exec(&self.services.db)
            .await
            .map(|_| ())
    }
}
