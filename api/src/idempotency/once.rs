//! One thing created in a transaction of its own.

use std::sync::Arc;

use bytes::Bytes;
use relaypost_shared::{
    clock::Timestamp,
    db::{Transaction, begin_write},
    ids::TenantId,
};

use super::{
    Accepted, Held, Keyed, Known, Place, Raced, Stage, in_flight::in_use, known::seal, remember,
    row,
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
        let (mut held, mut place) = (None, None);
        if let Some(keyed) = keyed {
            place = Some(services.in_flight.place(tenant)?);
            held = Some(services.in_flight.hold(tenant, keyed).await?);
        }
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
        let key = std::iter::once((self.tenant, keyed));
        let known = Known::claim(&self.tx, key, self.now).await?;
        let keys = &self.services.settings.keyring;
        let answer = known.answer(self.tenant, keyed, keys);
        held.is(Stage::of(&answer));
        answer
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
            let settings = &self.services.settings;
            let mut row = row(settings, self.tenant, held.keyed(), &body, self.now);
            if secret && let Err(error) = seal(&settings.keyring, &mut row) {
                return Err(self.refuse(error.into()).await);
            }
            match remember(&self.tx, vec![row], self.now).await {
                Ok(Ok(())) => {}
                Ok(Err(Raced)) => return Err(self.refuse(in_use()).await),
                Err(error) => return Err(self.refuse(error.into()).await),
            }
        }
        self.tx.commit().await?;
        Ok(Accepted::First(body))
    }
}
