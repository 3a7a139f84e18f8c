//! Sealing everything under the newest key, while the service runs.

use anyhow::ensure;
use relaypost_shared::{
    db::{
        Database,
        rows::{self, Kind},
    },
    entities::Pairs,
    secrets::{Keyring, Place},
};
use sea_orm_migration::sea_orm::{ConnectionTrait as _, DbErr, Value};
use uuid::Uuid;

use super::{
    columns::{COLUMNS, Column, Form},
    found::{Fault, Found, find},
};

/// How many rows one statement reads or writes.
const BATCH: usize = 200;

/// What became of the texts of one column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    resealed: u64,
    /// Written by somebody else meanwhile, who has sealed them.
    overtaken: u64,
    unreadable: u64,
}

/// Seals every secret of the database that is not sealed under the newest key, and prints how many there were. It may be
/// cut off at any point and run again: what is done is done. A text is only replaced if it is still the one that was
/// read, so nothing that the service writes meanwhile is lost.
///
/// # Errors
/// When the database fails, or when a text cannot be opened: all others are sealed then.
pub async fn reseal(db: &Database, keys: &Keyring) -> anyhow::Result<()> {
    let mut left = 0;
    for column in &COLUMNS {
        let count = reseal_column(db, keys, column).await?;
        println!(
            "{}.{}: {} sealed under the newest key, {} changed meanwhile, {} cannot be opened",
            column.table, column.column, count.resealed, count.overtaken, count.unreadable
        );
        left += count.unreadable;
    }
    ensure!(
        left == 0,
        "{left} texts cannot be opened and stay as they are (see above): keep every key"
    );
    println!(
        "nothing needs the older keys any more: once every process runs with the newest one in front, the others can go"
    );
    Ok(())
}

async fn reseal_column(db: &Database, keys: &Keyring, column: &Column) -> Result<Count, DbErr> {
    let mut count = Count::default();
    let mut last = (Uuid::nil(), String::new());
    loop {
        let batch = stale(db, keys, column, &last).await?;
        let Some(end) = batch.last() else {
            return Ok(count);
        };
        last = (end.row, end.part.clone());
        let mut changes = Vec::with_capacity(batch.len());
        for found in batch {
            match found.resealed(keys, column) {
                Ok(new) => changes.push(found.change(column, new)),
                Err(why) => {
                    count.unreadable += 1;
                    eprintln!("{}.{} of {}: {why}", column.table, column.column, found.row);
                }
            }
        }
        let asked = changes.len() as u64;
        let written = replace(db, column, changes).await?;
        count.resealed += written;
        count.overtaken += asked - written;
    }
}

impl Found {
    /// What takes its place.
    fn resealed(&self, keys: &Keyring, column: &Column) -> Result<String, Fault> {
        if column.form != Form::Headers {
            return reseal_text(keys, (column.place)(self.row, &self.part), &self.text);
        }
        let headers = self.headers()?;
        let headers = headers.0.into_iter().map(|(name, text)| {
            let value = reseal_text(keys, (column.place)(self.row, &name), &text)?;
            Ok((name, value))
        });
        let headers = headers.collect::<Result<_, Fault>>().map(Pairs)?;
        serde_json::to_string(&headers).map_err(|_| Fault::Malformed)
    }

    /// The row of the statement that replaces it.
    fn change(self, column: &Column, new: String) -> Vec<Value> {
        let new = match column.form {
            // In the type of the column, which PostgreSQL is strict about.
            Form::Headers => serde_json::from_str(&new)
                .map_or(Value::Json(None), |new| Value::Json(Some(Box::new(new)))),
            form => form.value(new),
        };
        vec![
            self.row.into(),
            self.part.into(),
            column.form.value(self.text),
            new,
        ]
    }
}

fn reseal_text(keys: &Keyring, place: Place<'_>, text: &str) -> Result<String, Fault> {
    let secret = keys.open(place, text)?;
    Ok(keys.seal(place, &secret)?)
}

/// The next texts after `last`, in the order of the primary key, that the newest key has not sealed.
async fn stale(
    db: &Database,
    keys: &Keyring,
    column: &Column,
    last: &(Uuid, String),
) -> Result<Vec<Found>, DbErr> {
    let Column {
        row,
        part,
        secret,
        text,
        form,
        ..
    } = column;
    let newest = keys.newest_prefix();
    let (length, (after_row, after_part)) = (newest.len(), last.clone());
    let mut values = vec![form.value(newest), after_row.into()];
    let (key, after) = match part {
        Some(part) => {
            values.push(after_part.into());
            (format!("{row}, {part}"), "($2, $3)")
        }
        None => ((*row).to_owned(), "($2)"),
    };
    let rest = format!(
        "{secret} AND substr({text}, 1, {length}) <> $1 AND ({key}) > {after} ORDER BY {key} LIMIT {BATCH}"
    );
    find(db, column, &rest, values).await
}

/// Replaces texts that are still as they were read, and returns how many.
async fn replace(db: &Database, column: &Column, changes: Vec<Vec<Value>>) -> Result<u64, DbErr> {
    if changes.is_empty() {
        return Ok(0);
    }
    let Column {
        table,
        column: name,
        row,
        part,
        form,
        ..
    } = column;
    let part = part.unwrap_or("''");
    let now = match form {
        Form::Headers => format!("CAST({name} AS TEXT)"),
        Form::Text | Form::Bytes => (*name).to_owned(),
    };
    let update = format!(
        "UPDATE {table} SET {name} = new_text FROM given \
         WHERE {row} = given_row AND {part} = given_part AND {now} = old_text"
    );
    let (old, new) = match form {
        Form::Text => (Kind::Text, Kind::Text),
        Form::Bytes => (Kind::Bytes, Kind::Bytes),
        Form::Headers => (Kind::Text, Kind::Json),
    };
    let columns = [
        rows::Column::new("given_row", Kind::Uuid),
        rows::Column::new("given_part", Kind::Text),
        rows::Column::new("old_text", old),
        rows::Column::new("new_text", new),
    ];
    let backend = db.get_database_backend();
    let statement = rows::given(backend, &columns, changes, Vec::new(), &update)?;
    Ok(db.execute_raw(statement).await?.rows_affected())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use relaypost_shared::{db, entities::oauth_state, ids::OauthStateId, people::SignInMethod};
    use relaypost_testkit::TestDatabase;
    use sea_orm_migration::sea_orm::{
        ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _,
    };

    use super::*;

    #[tokio::test]
    async fn a_text_that_was_written_between_reading_and_replacing_stays() {
        let database = TestDatabase::sqlite();
        let url = database.url().parse().unwrap();
        let db = db::connect(&url, 1, None).await.unwrap();
        crate::up(&db).await.unwrap();
        let old: Keyring = "0f".repeat(32).parse().unwrap();
        let keys: Keyring = format!("{},{}", "aa".repeat(32), "0f".repeat(32))
            .parse()
            .unwrap();
        let now = DateTime::default();
        let id = OauthStateId::generate(now);
        let row = oauth_state::Model {
            id,
            state_hash: vec![1],
            browser_hash: None,
            provider: SignInMethod::Oidc,
            secrets: old.seal(Place::oauth_secrets(id), b"older").unwrap(),
            return_to: None,
            user_id: None,
            created_at: now,
            expires_at: now,
        };
        row.into_active_model().insert(&db).await.unwrap();
        let column = COLUMNS.last().unwrap();
        let nowhere = (Uuid::nil(), String::new());
        let found = stale(&db, &keys, column, &nowhere).await.unwrap().remove(0);
        let ours = found.resealed(&keys, column).unwrap();

        let theirs = keys.seal(Place::oauth_secrets(id), b"newer").unwrap();
        let statement = format!("UPDATE oauth_states SET secrets = '{theirs}'");
        db.execute_unprepared(&statement).await.unwrap();
        let written = replace(&db, column, vec![found.change(column, ours)]).await;
        assert_eq!(written.unwrap(), 0);
        let row = oauth_state::Entity::find_by_id(id).one(&db).await.unwrap();
        assert_eq!(row.unwrap().secrets, theirs);
    }
}
