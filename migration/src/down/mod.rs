//! `relaypost-migrate down`: names the data that it would delete, and deletes it only with consent.

mod consent;
mod losses;
mod plan;
mod sessions;

use std::io::{self, BufRead, IsTerminal as _};

use anyhow::{Context as _, Result, bail};
use relaypost_shared::{
    db::{Database, Hold},
    settings::AppEnv,
};
use sea_orm_migration::sea_orm::{DatabaseConnection, DbBackend};

use crate::run;
pub use consent::Refused;
use plan::Plan;
use sessions::Sessions;

/// The options of `down`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many migrations to take back, the newest first.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Print what would be deleted and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Delete the data without a question. Required without a terminal and in production.
    #[arg(long)]
    pub yes_delete_data: bool,
    /// The name of the database, as `--dry-run` prints it. In production it is required beside `--yes-delete-data`, so
    /// that a command meant for another database does nothing.
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
}

/// Prints which data the newest migrations would take with them, asks, and takes them back.
///
/// With no migration applied it says so and succeeds.
///
/// # Errors
/// When the database fails; when consent is missing ([`Refused`]); when other sessions of Relaypost use the database; when
/// fewer migrations are applied than `steps`, or the newest ones are of a newer version. Nothing is changed then.
pub async fn command(db: &Database, env: AppEnv, options: &Options) -> Result<()> {
    let db = &db.connection();
    let Some(plan) = Plan::make(db, options.steps).await? else {
        println!("no migration is applied; there is nothing to take back");
        return Ok(());
    };
    print!("{plan}");
    if options.dry_run {
        println!("dry run: nothing was changed");
        return Ok(());
    }
    if plan.sessions.is_of_relaypost() {
        bail!(
            "stop every process of Relaypost that uses {} first (the sessions are listed above); nothing was changed",
            plan.database
        );
    }
    let _hold = hold(db)?;
    let is_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    let mut input = io::stdin().lock();
    let terminal = is_terminal.then_some(&mut input as &mut dyn BufRead);
    consent::ask(&plan.database, env, options, terminal)?;
    drop(input);
    if Sessions::read(db).await?.is_of_relaypost() {
        bail!(
            "a process of Relaypost has started in the meantime; stop it first; nothing was changed"
        );
    }
    run::take_back(db, &plan.steps).await?;
    for name in &plan.steps {
        println!("took back {name}");
    }
    Ok(())
}

/// Keeps processes that serve from an SQLite file away from it, or finds that there is one.
fn hold(db: &DatabaseConnection) -> Result<Option<Hold>> {
    if db.get_database_backend() == DbBackend::Postgres {
        return Ok(None);
    }
    let options = db.get_sqlite_connection_pool().connect_options();
    let hold = Hold::take(options.get_filename());
    Ok(Some(hold.context("nothing was changed")?))
}
