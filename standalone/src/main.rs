//! `relaypost`: everything in one process, on SQLite, with nothing to install.

mod demo;
mod embedded;

use clap::{Parser, Subcommand};
use relaypost_migration as migration;
use relaypost_shared::{settings::Settings, shutdown, telemetry};
use relaypost_worker::send::choose_tls_provider;

#[derive(Parser)]
#[command(
    name = "relaypost",
    version,
    about = "Relaypost in one process: API, workers and database"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop (the default).
    Serve,
    /// Seal every stored secret under the newest of ENCRYPTION_KEYS, while the service runs; afterwards the others can be
    /// dropped. Exit 1 if something is left.
    Reseal,
    /// Play the main job, from the first key to the attempts, and print the proof.
    Demo,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    choose_tls_provider();
    match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::Demo => demo::play().await,
        Command::Reseal => {
            let settings = Settings::from_env_or_exit();
            telemetry::start(&settings);
            let db = migration::open_current(&settings).await?;
            migration::sealed::reseal(&db, &settings.keyring).await
        }
        Command::Serve => {
            let settings = Settings::from_env_or_exit();
            telemetry::start(&settings);
            let stop = shutdown::signal();
            let relaypost = embedded::Embedded::start(settings).await?;
            relaypost.greet();
            relaypost.run(stop).await
        }
    }
}
