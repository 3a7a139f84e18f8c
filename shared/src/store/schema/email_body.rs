//! `email_bodies`: the texts of each email, apart from the email's row, because they are kept for a shorter time.

use sea_orm::entity::prelude::*;

use crate::ids::EmailId;

/// The texts of one email.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "email_bodies")]
pub struct Model {
    /// The email that they belong to.
    #[sea_orm(primary_key, auto_increment = false)]
    pub email_id: EmailId,
    /// Whether `text` and `html` are sealed ([`crate::secrets`]), because they contain a secret.
    pub sealed: bool,
    /// The plain text.
    #[sea_orm(column_type = "Text", nullable)]
    pub text: Option<String>,
    /// The HTML.
    #[sea_orm(column_type = "Text", nullable)]
    pub html: Option<String>,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
