//! The address by which somebody is known.

use relaypost_shared::{entities::user, mail_address::bare_address};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
};

use crate::http::ApiError;

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

/// The user with this address, or else one beside it in the order of addresses: whose password costs what users' passwords
/// cost to check, also after the settings have changed, and always the same for one address.
///
/// # Errors
/// When the database fails.
pub(crate) async fn user_near(
    db: &impl ConnectionTrait,
    address: &str,
) -> Result<Option<user::Model>, DbErr> {
    let from_here = user::Entity::find()
        .filter(user::Column::Email.gte(address))
        .order_by_asc(user::Column::Email)
        .one(db)
        .await?;
    if from_here.is_some() {
        return Ok(from_here);
    }
    user::Entity::find()
        .filter(user::Column::Email.lt(address))
        .order_by_desc(user::Column::Email)
        .one(db)
        .await
}
