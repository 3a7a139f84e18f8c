//! `relaypost-migrate`: brings the schema up to date, takes the newest step back, says where it stands, or seals
//! every stored secret anew.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use relaypost_migration as migration;
use relaypost_shared::{
    db,
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
    /// Take back the newest migration.
    Down,
    /// List the migrations and whether each is applied; exit 1 if one is pending.
    Status,
    /// Seal every stored secret under the newest of ENCRYPTION_KEYS, while the service runs; afterwards the others can be
    /// dropped. Exit 1 if something is left.
    Reseal,
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
        Command::Up => migration::up(&db).await?,
        Command::Down => migration::down(&db).await?,
        Command::Reseal => migration::sealed::reseal(&db, &settings.keyring).await?,
        Command::Status => {
            let status = migration::status(&db).await?;
            for (name, applied) in &status {
                println!("{} {name}", if *applied { "applied" } else { "pending" });
            }
            if status.iter().any(|(_, applied)| !applied) {
                std::process::exit(1);
            }
        }
    }
    Ok(())
}
