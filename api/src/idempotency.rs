//! `Idempotency-Key`: a request that creates something can be sent again without creating it twice. The row that
//! remembers the answer is written in the transaction that does the work, so that there is never one without the other.

use std::collections::HashMap;

use bytes::Bytes;
use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaParamIn, MetaSchema, MetaSchemaRef},
};
use relaypost_shared::{
    clock::Timestamp, db::begin_write, entities::idempotency_key as table, ids::TenantId,
    settings::Settings,
};
use sea_orm::{
    ColumnTrait as _, Condition, DatabaseTransaction, DbErr, EntityTrait as _, ExprTrait as _,
    IntoActiveModel as _, QueryFilter as _,
    sea_query::{Expr, OnConflict},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    Services,
    http::{ApiError, Code},
};

const HEADER: &str = "idempotency-key";
const MAX_LEN: usize = 255;

/// The request's `Idempotency-Key`, if it has one.
#[derive(Debug)]
pub(crate) struct IdempotencyKey(Option<String>);

/// A key with the request that it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    /// The operation and the key: `POST /v1/messages order-42`.
    key: String,
    /// SHA-256 of the request's body.
    fingerprint: [u8; 32],
}

/// The answer to a request that creates something.
#[derive(Clone, Debug)]
pub(crate) enum Accepted {
    /// The body of the first answer, for which the work was done.
    First(Bytes),
    /// The body of the first answer again.
    Again(Bytes),
}

/// Another request took the same key while this one was at work.
#[derive(Debug)]
pub(crate) struct Raced;

impl IdempotencyKey {
    /// Ties the key to an operation (`POST /v1/messages`) and a body.
    pub(crate) fn of(self, operation: &str, body: &[u8]) -> Option<Keyed> {
        self.0.map(|key| Keyed {
            key: format!("{operation} {key}"),
            fingerprint: Sha256::digest(body).into(),
        })
    }
}

impl<'a> ApiExtractor<'a> for IdempotencyKey {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = false;
    type ParamType = String;
    type ParamRawType = String;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema {
            min_length: Some(1),
            max_length: Some(MAX_LEN),
            example: Some(json!("order-42")),
            ..MetaSchema::new("string")
        })))
    }

    // Not the framework's header parameter: that one takes a header that it cannot read for one that is not there.
    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<String>,
    ) -> poem::Result<Self> {
        let mut sent = request.headers().get_all(HEADER).iter();
        let (first, second) = (sent.next(), sent.next());
        let Some(value) = first else {
            return Ok(Self(None));
        };
        let bytes = value.as_bytes();
        let usable = second.is_none()
            && (1..=MAX_LEN).contains(&bytes.len())
            && bytes.iter().all(u8::is_ascii_graphic);
        match value.to_str() {
            Ok(key) if usable => Ok(Self(Some(key.to_owned()))),
            _ => {
                let detail = format!(
                    "Idempotency-Key: expected one of 1 to {MAX_LEN} visible ASCII characters"
                );
                Err(ApiError::new(Code::InvalidParameter, detail).into())
            }
        }
    }
}

/// The answers that are remembered for some keys.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<(TenantId, String), (Vec<u8>, Bytes)>);

impl Known {
    /// Loads what is remembered for these keys and has not expired.
    pub(crate) async fn load(
        tx: &DatabaseTransaction,
        keys: impl Iterator<Item = (TenantId, &Keyed)>,
        now: Timestamp,
    ) -> Result<Self, DbErr> {
        let mut any = Condition::any();
        for (tenant, keyed) in keys {
            let same_tenant = table::Column::TenantId.eq(tenant);
            any = any.add(same_tenant.and(table::Column::Key.eq(&keyed.key)));
        }
        if any.is_empty() {
            return Ok(Self::default());
        }
        let rows = table::Entity::find()
            .filter(any)
            .filter(table::Column::ExpiresAt.gt(now))
            .all(tx)
            .await?;
        let known = rows.into_iter().map(|row| {
            (
                (row.tenant_id, row.key),
                (row.fingerprint, row.response.into()),
            )
        });
        Ok(Self(known.collect()))
    }

    /// The remembered answer, if there is one.
    ///
    /// # Errors
    /// 409 when the key was used with another body.
    pub(crate) fn answer(
        &self,
        tenant: TenantId,
        keyed: &Keyed,
    ) -> Result<Option<Accepted>, ApiError> {
        match self.0.get(&(tenant, keyed.key.clone())) {
            None => Ok(None),
            Some((fingerprint, body)) if *fingerprint == keyed.fingerprint => {
                Ok(Some(Accepted::Again(body.clone())))
            }
            Some(_) => Err(ApiError::new(
                Code::IdempotencyKeyReused,
                "this `Idempotency-Key` was used with another body",
            )),
        }
    }

    /// Learns an answer that is about to be remembered.
    pub(crate) fn learn(&mut self, tenant: TenantId, keyed: &Keyed, body: &Bytes) {
        let answer = (keyed.fingerprint.to_vec(), body.clone());
        self.0.insert((tenant, keyed.key.clone()), answer);
    }
}

/// The row that remembers an answer.
pub(crate) fn row(
    settings: &Settings,
    tenant: TenantId,
    keyed: &Keyed,
    body: &Bytes,
    now: Timestamp,
) -> table::Model {
    table::Model {
        tenant_id: tenant,
        key: keyed.key.clone(),
        fingerprint: keyed.fingerprint.to_vec(),
        response: body.to_vec(),
        created_at: now,
        expires_at: now + settings.idempotency_ttl,
    }
}

/// Remembers answers; expired ones are overwritten.
///
/// Who loses the race for a key waits here for the winner's commit.
pub(crate) async fn remember(
    tx: &DatabaseTransaction,
    mut rows: Vec<table::Model>,
    now: Timestamp,
) -> Result<Result<(), Raced>, DbErr> {
    let count = rows.len() as u64;
    if count == 0 {
        return Ok(Ok(()));
    }
    // In one order everywhere, so that two transactions that want the same keys cannot wait for each other.
    rows.sort_unstable_by(|a, b| (a.tenant_id, &a.key).cmp(&(b.tenant_id, &b.key)));
    let mut overwrite = OnConflict::columns([table::Column::TenantId, table::Column::Key]);
    overwrite
        .update_columns([
            table::Column::Fingerprint,
            table::Column::Response,
            table::Column::CreatedAt,
            table::Column::ExpiresAt,
        ])
        .action_and_where(Expr::col((table::Entity, table::Column::ExpiresAt)).lte(now));
    let rows = rows.into_iter().map(|row| row.into_active_model());
    let stored = table::Entity::insert_many(rows)
        .on_conflict(overwrite)
        .exec_without_returning(tx)
        .await?;
    Ok(if stored == count { Ok(()) } else { Err(Raced) })
}

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
            if let Some(accepted) = known.answer(tenant, keyed)? {
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
        let Some(keyed) = self.keyed else {
            self.tx.commit().await?;
            return Ok(Accepted::First(body));
        };
        let row = row(
            &self.services.settings,
            self.tenant,
            &keyed,
            &body,
            self.now,
        );
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
