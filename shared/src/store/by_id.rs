//! Rows of one table by their ids.
//!
//! The statement joins the ids instead of listing them: on a partitioned table `id = ANY(…)` looks into every partition, and
//! a join only into those that hold one of the ids.

use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, FromQueryResult, IdenStatic as _, Iterable as _, Value,
};
use uuid::Uuid;

use crate::db::rows::{self, Column, Kind};

/// The ids that a statement joins with.
pub(super) const GIVEN: [Column; 1] = [Column::new("given_id", Kind::Uuid)];

/// Ids as rows of [`GIVEN`].
pub(super) fn given(ids: impl IntoIterator<Item = impl Into<Value>>) -> Vec<Vec<Value>> {
    ids.into_iter().map(|id| vec![id.into()]).collect()
}

/// Reads the rows with these ids, in no particular order. The id is the first column of each of these tables. An id that is given twice comes twice. Without ids no statement is
/// made.
///
/// # Errors
/// When the database fails.
pub(super) async fn find<E>(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<Vec<E::Model>, DbErr>
where
    E: EntityTrait,
    E::Model: FromQueryResult,
{
    find_where::<E>(db, ids, "TRUE").await
}

/// As [`find`], but only the rows that fit `condition`.
///
/// # Errors
/// When the database fails.
pub(super) async fn find_where<E>(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = Uuid>,
    condition: &str,
) -> Result<Vec<E::Model>, DbErr>
where
    E: EntityTrait,
    E::Model: FromQueryResult,
{
    let ids = given(ids);
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let columns: Vec<&str> = E::Column::iter().map(|column| column.as_str()).collect();
    let select = format!(
        "SELECT {} FROM given JOIN {} ON {} = given_id WHERE {condition}",
        columns.join(", "),
        E::default().as_str(),
        columns.first().unwrap_or(&"id"),
    );
    let statement = rows::given(db.get_database_backend(), &GIVEN, ids, Vec::new(), &select)?;
    E::find().from_raw_sql(statement).all(db).await
}
