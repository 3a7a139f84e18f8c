//! People who sign in: their roles, how their sessions begin and end, and what a mailed token is for.

words! {
    /// What a user may do in a tenant. Roles are sets of an API key's scopes, so that both ask the same table.
    Role {
        /// Sees everything but secrets.
        Viewer = "viewer",
        /// Sees, sends, manages endpoints, replays.
        Operator = "operator",
        /// Everything within the tenant, its members and API keys included.
        Admin = "admin",
    }

    /// How somebody signed in.
    SignInMethod {
        /// With email address and password.
        Password = "password",
        /// Through GitHub.
        Github = "github",
        /// Through Google.
        Google = "google",
        /// Through the OpenID Connect issuer of the settings.
        Oidc = "oidc",
        /// As a user of the demo, in development.
        Demo = "demo",
    }

    /// Why a session ended before its time.
    SessionEnd {
        /// Its user signed out.
        SignedOut = "signed_out",
        /// A refresh token came a second time: somebody has a copy.
        TokenReused = "token_reused",
        /// The password was changed.
        PasswordChanged = "password_changed",
        /// The user was disabled.
        UserDisabled = "user_disabled",
        /// An administrator ended it.
        Revoked = "revoked",
    }

    /// What a token in a mail is for.
    TokenPurpose {
        /// To show that the address is the user's own.
        VerifyEmail = "verify_email",
        /// To choose a new password.
        ResetPassword = "reset_password",
    }
}
