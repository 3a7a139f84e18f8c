//! What the signature of an operation declares beside its parameters and its body: who may call it, and what an
//! `Idempotency-Key` means to it.
//!
//! The framework's model of an operation has one field in which an extractor can leave a word of its own: the names of
//! security schemes. Extractors leave their marks there, [`Declared::of`] reads them, and `http::document` puts the
//! scheme that the document shows in their place. Time-outs need no mark: [`super::limits::OwnDeadline`] acts by itself.

use std::collections::HashMap;

use poem_openapi::registry::MetaOperation;

use crate::auth::Access;

/// The mark of [`crate::idempotency::IdempotencyKey`].
pub(crate) const TAKES_KEY: &str = "takes an idempotency key";
/// The mark of [`crate::idempotency::SafeToRepeat`].
pub(crate) const SAFE_TO_REPEAT: &str = "safe to repeat";

/// Who may call an operation for programs that watch the service. They need no API key, and do not count as somebody who
/// tries to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watcher {
    /// Anybody; what they are shown depends on who they are.
    Anybody,
    /// Callers that `METRICS_GUARD` lets in: others get 401 or 403.
    Guarded,
}

impl Watcher {
    const ALL: [Self; 2] = [Self::Anybody, Self::Guarded];

    /// The mark that its extractor leaves.
    pub(crate) const fn marker(self) -> &'static str {
        match self {
            Self::Anybody => "watched by anybody",
            Self::Guarded => "watched by guarded callers",
        }
    }
}

/// What one operation declares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared {
    /// What it asks of a caller who has signed in: [`crate::auth::Authorized`].
    pub(crate) access: Option<Access>,
    /// It is for programs that watch the service.
    pub(crate) watcher: Option<Watcher>,
    /// It takes an `Idempotency-Key`: [`crate::idempotency::IdempotencyKey`].
    pub(crate) takes_key: bool,
    /// Done twice it is done once: [`crate::idempotency::SafeToRepeat`].
    pub(crate) safe_to_repeat: bool,
}

impl Declared {
    /// Reads the marks that the extractors of an operation have left.
    pub(crate) fn of(operation: &MetaOperation) -> Self {
        let has = |mark: &str| operation.security.iter().any(|at| at.contains_key(mark));
        Self {
            access: Access::ALL.iter().copied().find(|one| has(one.marker())),
            watcher: Watcher::ALL.into_iter().find(|one| has(one.marker())),
            takes_key: has(TAKES_KEY),
            safe_to_repeat: has(SAFE_TO_REPEAT),
        }
    }

    /// Takes the marks out of an operation and leaves the scheme that the document shows, if it asks for one.
    pub(super) fn take(operation: &mut MetaOperation, scheme: &'static str) -> Self {
        let declared = Self::of(operation);
        let scheme = declared.access.map(|_| HashMap::from([(scheme, vec![])]));
        operation.security = scheme.into_iter().collect();
        declared
    }
}
