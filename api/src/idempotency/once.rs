//! One thing created in a transaction of its own.

use std::sync::Arc;

use bytes::Bytes;
use relaypost_shared::{
    clock::Timestamp,
    db::{Transaction, begin_write},
    entities::idempotency_key,
    ids::TenantId,
    store::accept::keys,
};

use super::{
    Accepted, Held, Keyed, Place,
    answer::{Holding, hold, seal, settled},
    in_flight::in_use,
};
use crate::{Services, http::ApiError};

/// A request that creates one thing in a transaction of its own.
#[derive(Debug)]
pub(crate) struct Once<'a> {
    services: &'a Services,
    tenant: TenantId,
    held: Option<Arc<Held>>,
    now: Timestamp,
    // Before the place is given back, the transaction is at an end.
    tx: Transaction,
    _place: Option<Place>,
}

/// How such a request begins.
#[derive(Debug)]
pub(crate) enum Begun<'a> {
    /// There is work to do, in the transaction of [`Once`].
    Work(Once<'a>),
    /// It was done before: the answer again.
    Done(Accepted),
}

impl<'a> Once<'a> {
    /// Begins the transaction and looks whether the work was done before.
    ///
    /// # Errors
    /// 409 when the key was used with another body or its first request is still running, 429 when the tenant has too
    /// many in flight, and when the database fails.
    pub(crate) async fn begin(
        services: &'a Services,
        tenant: TenantId,
        keyed: Option<Keyed>,
    ) -> Result<Begun<'a>, ApiError> {
        let place = keyed.as_ref();
        let place = place
            .map(|_| services.in_flight.place(tenant))
            .transpose()?;
        let held = match hold(services, tenant, keyed.as_ref()).await? {
            Holding::Work(held) => held,
            Holding::Again(answer) => return Ok(Begun::Done(answer)),
        };
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let once = Self {
            services,
            tenant,
            held,
            now,
            tx,
            _place: place,
        };
        match once.known().await {
            Ok(None) => Ok(Begun::Work(once)),
            Ok(Some(again)) => {
                once.tx.rollback().await?;
                Ok(Begun::Done(again))
            }
            Err(error) => Err(once.refuse(error).await),
        }
    }

    async fn known(&self) -> Result<Option<Accepted>, ApiError> {
        let Some(held) = &self.held else {
            return Ok(None);
        };
        let keyed = held.keyed();
        let name = keyed.name(self.tenant);
        let standing = keys::claim(&self.tx, &[name], self.now).await?;
        let keys = &self.services.settings.keyring;
        let standing = standing.first();
        standing.map_or(Ok(None), |standing| settled(keyed, standing, keys))
    }

    /// When the request began.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// The transaction in which the work is done.
    pub(crate) fn tx(&self) -> &Transaction {
        &self.tx
    }

    /// Takes back what was done, and returns the error. A transaction that is only dropped ends a moment later, and until
    /// then its key would be in use.
    pub(crate) async fn refuse(self, error: ApiError) -> ApiError {
        // Without its connection it ends by itself; the error that came first says more.
        let _ = self.tx.rollback().await;
        error
    }

    /// Remembers `body` as the answer and commits.
    ///
    /// # Errors
    /// 409 when the answer to this key came from elsewhere meanwhile, and when the database fails: then nothing was done.
    pub(crate) async fn finish(self, body: Bytes) -> Result<Accepted, ApiError> {
        self.finish_as(body, false).await
    }

    /// [`Once::finish`] for an answer that holds a secret: it is remembered sealed.
    ///
    /// # Errors
    /// As [`Once::finish`], and when it cannot be sealed.
    pub(crate) async fn finish_sealed(self, body: Bytes) -> Result<Accepted, ApiError> {
        self.finish_as(body, true).await
    }

    async fn finish_as(self, body: Bytes, secret: bool) -> Result<Accepted, ApiError> {
        if let Some(held) = &self.held {
            let mut row = self.row(held.keyed(), &body);
            let keyring = &self.services.settings.keyring;
            if secret && let Err(error) = seal(keyring, &mut row) {
                return Err(self.refuse(error.into()).await);
            }
            match keys::remember(&self.tx, &[row], self.now).await {
                Ok(remembered) if remembered.is_empty() => {
                    return Err(self.refuse(in_use()).await);
                }
                Ok(_) => {}
                Err(error) => return Err(self.refuse(error.into()).await),
            }
        }
        self.tx.commit().await?;
        Ok(Accepted::First(body))
    }

    fn row(&self, keyed: &Keyed, body: &Bytes) -> idempotency_key::Model {
        idempotency_key::Model {
            tenant_id: self.tenant,
            key: keyed.key.clone(),
            fingerprint: keyed.fingerprint.to_vec(),
            sealed: false,
            response: body.to_vec(),
            created_at: self.now,
            expires_at: self.now + self.services.settings.idempotency.ttl,
        }
    }
}
