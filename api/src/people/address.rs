//! The address by which somebody is known.

use relaypost_shared::entities::user;
use sea_orm::{ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _};

use crate::{emails::bare_address, http::ApiError};

/// An address in lower case: the form in which it is stored and compared.
///
/// # Errors
/// 422 when it is none.
pub(crate) fn parse(path: &str, text: &str) -> Result<String, ApiError> {
    let bare = if text.contains('<') {
        Err("expected an address alone, like a@example.com".to_owned())
    } else {
        bare_address(text)
    };
    let address = bare.map_err(|message| ApiError::field(path, message))?;
    Ok(address.to_ascii_lowercase())
}

/// The user with this address.
///
/// # Errors
/// When the database fails.
pub(crate) async fn user_of(
    db: &impl ConnectionTrait,
    address: &str,
) -> Result<Option<user::Model>, DbErr> {
    user::Entity::find()
        .filter(user::Column::Email.eq(address))
        .one(db)
        .await
}
