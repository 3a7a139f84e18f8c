//! One thing created in a transaction of its own.

use bytes::Bytes;
use relaypost_shared::{clock::Timestamp, db::begin_write, ids::TenantId};
use sea_orm::DatabaseTransaction;

use super::{Accepted, Keyed, Known, Raced, known::seal, remember, row};
use crate::{
    Services,
    http::{ApiError, Code},
};

/// A request that creates one thing in a transaction of its own.
#[derive(Debug)]
pub(crate) struct Once<'a> {
    services: &'a Services,
    tenant: TenantId,
    keyed: Option<Keyed>,
    now: Timestamp,
    tx: DatabaseTransaction,
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
    /// 409 when the key was used with another body, and when the database fails.
    pub(crate) async fn begin(
        services: &'a Services,
        tenant: TenantId,
        keyed: Option<Keyed>,
    ) -> Result<Begun<'a>, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        if let Some(keyed) = &keyed {
            let known = Known::load(&tx, std::iter::once((tenant, keyed)), now).await?;
            if let Some(accepted) = known.answer(tenant, keyed, &services.settings.keyring)? {
                return Ok(Begun::Done(accepted));
            }
        }
        Ok(Begun::Work(Self {
            services,
            tenant,
            keyed,
            now,
            tx,
        }))
    }

    /// When the request began.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// The transaction in which the work is done.
    pub(crate) fn tx(&self) -> &DatabaseTransaction {
        &self.tx
    }

    /// Remembers `body` as the answer and commits.
    ///
    /// # Errors
    /// 409 when the key was meanwhile used with another body, and when the database fails: then nothing was done.
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
        let Some(keyed) = self.keyed else {
            self.tx.commit().await?;
            return Ok(Accepted::First(body));
        };
        let mut row = row(
            &self.services.settings,
            self.tenant,
            &keyed,
            &body,
            self.now,
        );
        if secret {
            seal(&self.services.settings.keyring, &mut row)?;
        }
        match remember(&self.tx, vec![row], self.now).await? {
            Ok(()) => {
                self.tx.commit().await?;
                Ok(Accepted::First(body))
            }
            Err(Raced) => {
                self.tx.rollback().await?;
                match Self::begin(self.services, self.tenant, Some(keyed)).await? {
                    Begun::Done(accepted) => Ok(accepted),
                    Begun::Work(_) => Err(ApiError::new(
                        Code::Unavailable,
                        "another request with this key was at work; try again",
                    )),
                }
            }
        }
    }
}
