//! The errors of signing in, and of what people do with their own account.

use crate::http::failures;

failures! {
    /// The address or the password is wrong; the answer does not tell which.
    InvalidCredentials = InvalidCredentials;
    /// Too many sign-ins with this address have failed: it is locked until `Retry-After`, whatever the password.
    SignInLocked = SignInLocked;
    /// The user is disabled.
    UserDisabled = UserDisabled;
    /// The user has to verify their address first.
    EmailNotVerified = EmailNotVerified;
    /// The refresh token is unknown or used, or its session is over; sign in again.
    SessionOver = Unauthorized;
    /// The user was deleted just now.
    UserGone = NotFound;
    /// Demo mode is off.
    NoDemo = RouteNotFound;
}

/// Why a user who has shown who they are is not let in.
pub(crate) type NotLetIn = (UserDisabled, EmailNotVerified);
