//! The errors that an operation declares in its signature: `Result<Reply<T>, FailsWith<(AlreadyCancelled, TooLate)>>`.
//!
//! Errors that follow from what an operation takes (a path, a body, a scope, an `Idempotency-Key`) are not declared:
//! [`super::document`] adds them. Every other error is declared with [`failures!`] beside the code that answers with it, and
//! each operation that can answer with it names it. The integration tests compare every answer, status and code, with the
//! document.

use std::{
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
    sync::{Mutex, PoisonError},
};

use poem_openapi::{
    ApiResponse,
    registry::{MetaResponses, Registry},
    types::Type as _,
};

use super::{
    document::problem,
    problem::{ApiError, Code, Problem},
};

/// One error that operations declare, as a type. [`failures!`] makes them.
pub(crate) trait Failure {
    /// Its code, which decides the status.
    const CODE: Code;
    /// When an operation answers with it.
    const WHY: &'static str;
}

/// Errors that operations declare: one [`Failure`], or a tuple of several.
pub(crate) trait Failures {
    /// Each code with its reason.
    fn list() -> Vec<(Code, &'static str)>;
}

impl<F: Failure> Failures for F {
    fn list() -> Vec<(Code, &'static str)> {
        vec![(F::CODE, F::WHY.trim_start())]
    }
}

macro_rules! several_failures {
    ($($($name:ident)+;)+) => {$(
        impl<$($name: Failures),+> Failures for ($($name),+) {
            fn list() -> Vec<(Code, &'static str)> {
                [$($name::list()),+].concat()
            }
        }
    )+};
}
several_failures! { A B; A B C; A B C D; }

/// Declares errors: a name that stands in signatures, the [`Code`] of the answer, and above it when an operation answers so,
/// which the document repeats.
macro_rules! failures {
    ($($(#[doc = $why:literal])+ $name:ident = $code:ident;)+) => {$(
        $(#[doc = $why])+
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl $crate::http::failures::Failure for $name {
            const CODE: $crate::http::Code = $crate::http::Code::$code;
            const WHY: &'static str = concat!($($why),+);
        }
    )+};
}
pub(crate) use failures;

/// The error of an operation that declares `F`. Every [`ApiError`], and whatever becomes one, becomes this by `?`.
#[derive(Debug)]
pub(crate) struct FailsWith<F>(ApiError, PhantomData<fn() -> F>);

impl<F, E: Into<ApiError>> From<E> for FailsWith<F> {
    fn from(error: E) -> Self {
        Self(error.into(), PhantomData)
    }
}

impl<F> From<FailsWith<F>> for poem::Error {
    fn from(failure: FailsWith<F>) -> Self {
        failure.0.into()
    }
}

impl<F: Failures> ApiResponse for FailsWith<F> {
    fn meta() -> MetaResponses {
        let mut reasons = BTreeMap::<u16, Vec<String>>::new();
        for (code, why) in F::list() {
            let reason = format!("`{}`: {why}", code.as_str());
            let of_status = reasons.entry(code.status().as_u16()).or_default();
            of_status.push(reason);
        }
        let responses = reasons
            .into_iter()
            .map(|(status, reasons)| problem(Some(status), kept(reasons.join(" "))));
        MetaResponses {
            responses: responses.collect(),
        }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}

/// A description for the document. The framework takes only texts that live as long as the program, so each is kept once,
/// however often the document is made.
pub(super) fn kept(text: String) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.get(text.as_str()) {
        return known;
    }
    let text: &'static str = text.leak();
    kept.insert(text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    failures! {
        /// It is gone
        /// for good.
        Gone = TooLate;
        /// It was cancelled.
        Cancelled = AlreadyCancelled;
        /// It is locked.
        Locked = SignInLocked;
    }

    #[test]
    fn errors_of_one_status_are_one_response_that_names_each_code() {
        let meta = FailsWith::<(Locked, (Gone, Cancelled))>::meta();
        let responses = meta.responses.iter();
        let responses: Vec<_> = responses.map(|one| (one.status, one.description)).collect();
        let conflict = "`too_late`: It is gone for good. `already_cancelled`: It was cancelled.";
        assert_eq!(
            responses,
            [
                (Some(409), conflict),
                (Some(429), "`sign_in_locked`: It is locked.")
            ]
        );
    }

    #[test]
    fn a_description_is_kept_once() {
        let (one, other) = (kept("a reason".to_owned()), kept("a reason".to_owned()));
        assert!(std::ptr::eq(one, other));
    }
}
