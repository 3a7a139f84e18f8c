//! Settings that the tests of several crates need.

use std::collections::HashMap;

/// Settings with which production starts, and no more than it requires. The secrets are good, and known to everybody who
/// reads this.
pub fn production() -> HashMap<String, String> {
    let settings = [
        ("APP_ENV", "production"),
        (
            "DATABASE_URL",
            "postgres://relaypost@db.example.com/relaypost",
        ),
        (
            "ENCRYPTION_KEYS",
            "9f2c7d81e05b4a36c8e1d7f04b92a65338cd0f71be469a25d71c83f5e20b9a64",
        ),
        (
            "JWT_SECRET",
            "Qm7vX2pLr9KtZ4wHd8NcY6sBj3GfUa5eRkTq1WxVzM0yhPio",
        ),
        ("CORS_ORIGINS", "https://app.example.com"),
        ("PUBLIC_URL", "https://relaypost.example.com"),
    ];
    let owned = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    owned.into()
}
