//! Opening a sample of the sealed texts, for a restored backup.

use anyhow::ensure;
use relaypost_shared::{db::Database, secrets::Keyring};

use super::{
    columns::{COLUMNS, Column, Form, INDEXED, Indexed},
    found::{Fault, Found, find},
    lost, next_key,
};

/// How many texts of one column are opened for each key.
const SAMPLE: usize = 20;

/// Opens up to 20 texts of each column under each key, and prints how many there were. The cost follows the number of
/// columns and keys, not that of rows.
///
/// # Errors
/// When the database fails; when a key is missing, which is named; when a text cannot be opened. Each is printed first.
pub async fn check(db: &Database, keys: &Keyring) -> anyhow::Result<()> {
    let (mut opened, mut unreadable) = (0, 0);
    for column in &COLUMNS {
        let of_table = |indexed: &&Indexed| indexed.table == column.table;
        let Some(indexed) = INDEXED.iter().find(of_table) else {
            continue;
        };
        let mut key = String::new();
        while let Some(next) = next_key(db, indexed, &key).await? {
            key = next;
            let sample = sample(db, column, indexed, &key).await?;
            let mut good = 0;
            for found in &sample {
                match open(found, keys, column) {
                    Ok(()) => good += 1,
                    Err(why) => {
                        eprintln!("{}.{} of {}: {why}", column.table, column.column, found.row)
                    }
                }
            }
            if !sample.is_empty() {
                println!(
                    "{}.{}: {good} of {} texts opened with the key {key}",
                    column.table,
                    column.column,
                    sample.len()
                );
            }
            opened += good;
            unreadable += sample.len() - good;
        }
    }
    let lost = lost(db, keys).await?;
    ensure!(lost.0.is_empty(), "{lost}");
    ensure!(
        unreadable == 0,
        "{unreadable} sealed texts cannot be opened (see above)"
    );
    println!("sealed texts opened: {opened}");
    Ok(())
}

async fn sample(
    db: &Database,
    column: &Column,
    indexed: &Indexed,
    key: &str,
) -> Result<Vec<Found>, sea_orm_migration::DbErr> {
    let condition = format!(
        "{} AND {} = $1 AND {} IS NOT NULL LIMIT {SAMPLE}",
        indexed.is_sealed, indexed.key, column.column
    );
    let key = indexed.form.value(key.to_owned());
    find(db, column, &condition, vec![key]).await
}

fn open(found: &Found, keys: &Keyring, column: &Column) -> Result<(), Fault> {
    if column.form != Form::Headers {
        keys.open((column.place)(found.row, &found.part), &found.text)?;
        return Ok(());
    }
    for (name, text) in found.headers()?.0 {
        keys.open((column.place)(found.row, &name), &text)?;
    }
    Ok(())
}
