//! Sign-ins on their way: what is remembered between sending a browser to a provider and its coming back, and between
//! its coming back and the exchange of the code that it was given.
//!
//! The database keeps hashes of what the browser holds, and what the provider must not learn is sealed. Whoever takes a
//! row out of the table has the sign-in; nobody else can.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    entities::oauth_state::{Column, Entity, Model},
    ids::{OauthStateId, UserId},
    people::SignInMethod,
    secrets::{Keyring, Place},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QuerySelect as _,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::http::{ApiError, Code};

/// How long somebody may take at the provider.
pub(super) const SIGN_IN: TimeDelta = TimeDelta::minutes(10);
/// How long the code of a redirect is good for.
pub(super) const EXCHANGE: TimeDelta = TimeDelta::seconds(60);
/// How many rows that mean nothing any more go with each new one: more than come.
const PRUNED: u64 = 100;

/// What must be presented to go on: two random texts of 256 bits.
#[derive(Debug)]
pub(super) struct Tickets {
    /// What travels in addresses: the `state`, or the code.
    pub(super) text: String,
    /// What the browser keeps as a cookie.
    pub(super) browser: String,
}

impl Tickets {
    pub(super) fn generate() -> Self {
        Self {
            text: random(),
            browser: random(),
        }
    }
}

/// What the provider sees only in part, or at the end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Secrets {
    /// The PKCE code verifier (RFC 7636, section 4.1).
    pub(super) verifier: String,
    /// What the ID token has to repeat.
    pub(super) nonce: String,
}

impl Secrets {
    pub(super) fn generate() -> Self {
        Self {
            verifier: random(),
            nonce: random(),
        }
    }
}

/// 256 random bits as 43 characters: the shortest that a PKCE verifier may be.
fn random() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

fn hash(text: &str) -> Vec<u8> {
    Sha256::digest(text).to_vec()
}

fn place(id: OauthStateId) -> Place<'static> {
    Place {
        column: "oauth_states.secrets",
        row: id.uuid(),
        part: "",
    }
}

/// What is remembered.
#[derive(Debug)]
pub(super) struct New<'a> {
    pub(super) method: SignInMethod,
    pub(super) secrets: &'a Secrets,
    pub(super) return_to: Option<String>,
    /// Who has signed in and will exchange the code; nobody while a provider is being asked.
    pub(super) user: Option<UserId>,
    pub(super) lasts: TimeDelta,
}

/// Remembers a sign-in, and forgets some whose time is over.
///
/// # Errors
/// When the database fails, or the system gives no randomness.
pub(super) async fn remember(
    db: &impl ConnectionTrait,
    keyring: &Keyring,
    tickets: &Tickets,
    new: New<'_>,
    now: Timestamp,
) -> Result<(), ApiError> {
    prune(db, now).await?;
    let id = OauthStateId::generate(now);
    let secrets =
        serde_json::to_vec(new.secrets).map_err(|error| ApiError::caused(Code::Internal, error))?;
    let row = Model {
        id,
        state_hash: hash(&tickets.text),
        browser_hash: Some(hash(&tickets.browser)),
        provider: new.method,
        secrets: keyring
            .seal(place(id), &secrets)
            .map_err(|error| ApiError::caused(Code::Internal, error))?,
        return_to: new.return_to,
        user_id: new.user,
        created_at: now,
        expires_at: now + new.lasts,
    };
    Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

async fn prune(db: &impl ConnectionTrait, now: Timestamp) -> Result<(), DbErr> {
    let over: Vec<OauthStateId> = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::ExpiresAt.lte(now))
        .limit(PRUNED)
        .into_tuple()
        .all(db)
        .await?;
    if !over.is_empty() {
        let over = Entity::delete_many().filter(Column::Id.is_in(over));
        over.exec(db).await?;
    }
    Ok(())
}

/// Takes a sign-in out of the table: whoever gets it is the only one. From another browser it is not taken, so that
/// whoever saw an address cannot spoil it either.
///
/// # Errors
/// When the database fails.
pub(super) async fn take(
    db: &impl ConnectionTrait,
    text: &str,
    browser: Option<&str>,
    now: Timestamp,
) -> Result<Option<Model>, DbErr> {
    let Some(browser) = browser else {
        return Ok(None);
    };
    let found = Entity::find()
        .filter(Column::StateHash.eq(hash(text)))
        .filter(Column::BrowserHash.eq(hash(browser)))
        .one(db)
        .await?;
    let Some(row) = found else { return Ok(None) };
    // Of several that have found it, one deletes it.
    let deleted = Entity::delete_by_id(row.id).exec(db).await?;
    Ok((deleted.rows_affected == 1 && row.expires_at > now).then_some(row))
}

/// What was sealed with a sign-in.
///
/// # Errors
/// When it does not open: the key is gone or the row was changed. The log says which; to the browser the sign-in is over.
pub(super) fn open(keyring: &Keyring, row: &Model) -> Result<Secrets, ApiError> {
    let over = |cause: std::sync::Arc<dyn std::error::Error + Send + Sync>| {
        let mut error = over();
        error.cause = Some(cause);
        error
    };
    let opened = keyring
        .open(place(row.id), &row.secrets)
        .map_err(|error| over(std::sync::Arc::new(error)))?;
    serde_json::from_slice(&opened).map_err(|error| over(std::sync::Arc::new(error)))
}

/// There is no such sign-in, or no longer, or it is another browser's: which of these it is, nobody learns.
pub(super) fn over() -> ApiError {
    ApiError::new(
        Code::SignInOver,
        "this sign-in is over, was ended before, or began in another browser; begin it again",
    )
}
