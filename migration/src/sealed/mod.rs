//! The secrets at rest ([`relaypost_shared::secrets`]) as a whole: whether the keys of all of them are at hand, opening a
//! sample of them, and sealing all of them under the newest.

mod check;
mod columns;
mod found;
mod reseal;

use std::{collections::BTreeMap, fmt};

use relaypost_shared::{db::Database, secrets::Keyring};
use sea_orm_migration::sea_orm::{ConnectionTrait as _, DbErr, Statement};

use columns::{Form, INDEXED, Indexed};

pub use check::check;
pub use reseal::reseal;

/// How many lost keys are named at most. A few say enough.
const NAMED: usize = 10;

/// Keys that have sealed something and are not at hand, each with the places of what it has sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost(pub BTreeMap<String, Vec<&'static str>>);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_development = Keyring::of_development();
        for (id, places) in &self.0 {
            let places = places.join(", ");
            writeln!(
                f,
                "ENCRYPTION_KEYS: the key {id} is missing, under which the database holds secrets ({places})"
            )?;
            if of_development.ids().any(|known| known == id) {
                writeln!(
                    f,
                    "  {id} is the key that development uses without ENCRYPTION_KEYS"
                )?;
            }
        }
        write!(
            f,
            "Put it back, at any place in the list; only after `reseal` is an old key dropped. \
             Without it those secrets are lost (docs/secrets.md)."
        )
    }
}

/// Ends the process with code 2, and says why, when a key is missing that the database needs. For a `main`, before
/// anything starts.
///
/// # Errors
/// When the database cannot be asked.
pub async fn keys_or_exit(db: &Database, keys: &Keyring) -> Result<(), DbErr> {
    let lost = lost(db, keys).await?;
    if lost.0.is_empty() {
        return Ok(());
    }
    eprintln!("{lost}");
    std::process::exit(2)
}

/// The keys that the database needs and the keyring lacks. Each key costs one step in an index, however much it has
/// sealed.
///
/// # Errors
/// When the database cannot be asked.
pub async fn lost(db: &Database, keys: &Keyring) -> Result<Lost, DbErr> {
    let mut lost = Lost::default();
    for column in &INDEXED {
        let mut last = String::new();
        while let Some(id) = next_key(db, column, &last).await? {
            // What is no id of a key is the damage of one row, of which its reader tells.
            let is_id = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_id && keys.ids().all(|known| known != id) {
                lost.0.entry(id.clone()).or_default().push(column.name);
            }
            if lost.0.len() >= NAMED {
                return Ok(lost);
            }
            last = id;
        }
    }
    Ok(lost)
}

/// The next key after `last` that has sealed something in this column: a loose scan of the column's index.
async fn next_key(db: &Database, column: &Indexed, last: &str) -> Result<Option<String>, DbErr> {
    let Indexed {
        table,
        key,
        is_sealed,
        ..
    } = column;
    let sql = format!(
        "SELECT {key} AS key_id FROM {table} WHERE {is_sealed} AND {key} > $1 ORDER BY {key} LIMIT 1"
    );
    let last = column.form.value(last.to_owned());
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [last]);
    let Some(row) = db.query_one_raw(statement).await? else {
        return Ok(None);
    };
    match column.form {
        Form::Bytes => {
            let id: Vec<u8> = row.try_get("", "key_id")?;
            Ok(Some(String::from_utf8_lossy(&id).into_owned()))
        }
        Form::Text | Form::Headers => row.try_get("", "key_id"),
    }
}
