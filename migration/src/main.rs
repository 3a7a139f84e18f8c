//! `relaypost-migrate`: applies migrations, takes them back and lists them; seals every stored secret anew, or opens a
//! sample of them.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use relaypost_migration::{self as migration, Up, down};
use relaypost_shared::{
    db::{self, Database},
    settings::{Program, Settings},
    telemetry,
};

#[derive(Parser)]
#[command(
    name = "relaypost-migrate",
    version,
    about = "Relaypost's database schema"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Apply every pending migration (the default).
    Up,
    /// Take back the newest migration and delete what its tables and columns hold, after a question.
    Down(down::Options),
    /// List the migrations and whether each is applied; exit 1 if one is pending.
    Status,
    /// Seal every stored secret under the newest of ENCRYPTION_KEYS, while the service runs; afterwards the others can be
    /// dropped. Exit 1 if something is left.
    Reseal,
    /// Open a sample of the stored secrets with ENCRYPTION_KEYS, as after a restore. Exit 1 and the id of the key if one
    /// is missing.
    CheckSealed,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let settings = Settings::from_env_or_exit(Program::Migrate);
    telemetry::start(&settings);
    let db = db::connect(&settings.database_url, 1, None)
        .await
        .context("DATABASE_URL: the database cannot be reached")?;
    match cli.command.unwrap_or(Command::Up) {
        Command::Up => up(&db).await?,
        Command::Down(options) => down::command(&db, settings.env, &options).await?,
        Command::Reseal => migration::sealed::reseal(&db, &settings.keyring).await?,
        Command::CheckSealed => migration::sealed::check(&db, &settings.keyring).await?,
        Command::Status => {
            let status = migration::status(&db).await?;
            for (name, applied) in &status {
                println!("{} {name}", if *applied { "applied" } else { "pending" });
            }
            let newer = migration::newer(&db).await?;
            for name in &newer {
                println!("newer {name}");
            }
            if !newer.is_empty() {
                say_newer();
            }
            if status.iter().any(|(_, applied)| !applied) {
                std::process::exit(1);
            }
        }
    }
    Ok(())
}

async fn up(db: &Database) -> anyhow::Result<()> {
    match migration::up(db).await? {
        Up::Applied(names) if names.is_empty() => println!("the schema is up to date"),
        Up::Applied(names) => names.iter().for_each(|name| println!("applied {name}")),
        Up::Newer(names) => {
            names.iter().for_each(|name| println!("newer {name}"));
            say_newer();
        }
    }
    Ok(())
}

fn say_newer() {
    println!(
        "a newer version of Relaypost has migrated this database; version {} changes nothing",
        env!("CARGO_PKG_VERSION")
    );
}
