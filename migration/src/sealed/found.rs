//! Reading sealed texts from the database.

use relaypost_shared::{
    db::Database,
    entities::Pairs,
    secrets::{OpenError, SealError},
};
use sea_orm_migration::sea_orm::{ConnectionTrait as _, DbErr, Statement, Value};
use uuid::Uuid;

use super::columns::{Column, Form};

/// A text, or several in one.
pub(super) struct Found {
    pub(super) row: Uuid,
    pub(super) part: String,
    /// As the database has it.
    pub(super) text: String,
}

/// Why a text cannot be opened, or sealed anew.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("it is not what the column holds")]
    Malformed,
}

impl Found {
    /// The texts of a column of headers, each with its name.
    pub(super) fn headers(&self) -> Result<Pairs, Fault> {
        serde_json::from_str(&self.text).map_err(|_| Fault::Malformed)
    }
}

/// The texts of a column in the rows for which `condition` holds, an SQL expression that may end with an order and a limit.
pub(super) async fn find(
    db: &Database,
    column: &Column,
    condition: &str,
    values: Vec<Value>,
) -> Result<Vec<Found>, DbErr> {
    let Column {
        table,
        column: name,
        row,
        part,
        form,
        ..
    } = column;
    let part = part.unwrap_or("''");
    let shown = match form {
        Form::Bytes => (*name).to_owned(),
        Form::Text | Form::Headers => format!("CAST({name} AS TEXT)"),
    };
    let sql = format!(
        "SELECT {row} AS row_id, {part} AS part, {shown} AS shown FROM {table} WHERE {condition}"
    );
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let rows = db.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| {
            let text = match form {
                Form::Bytes => {
                    let bytes: Vec<u8> = row.try_get("", "shown")?;
                    String::from_utf8_lossy(&bytes).into_owned()
                }
                Form::Text | Form::Headers => row.try_get("", "shown")?,
            };
            Ok(Found {
                row: row.try_get("", "row_id")?,
                part: row.try_get("", "part")?,
                text,
            })
        })
        .collect()
}
