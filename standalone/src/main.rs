//! `relaypost`: everything in one process, on SQLite, with nothing to install.

mod demo;
mod embedded;

use clap::{Parser, Subcommand};
use relaypost_migration as migration;
use relaypost_shared::{
    files,
    health::ask::ask,
    settings::{Program, Settings},
    shutdown, telemetry,
};
use relaypost_worker::send::choose_tls_provider;

/// See `Cargo.toml`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// Ask the process on BIND_ADDR whether it is ready; exit 1 if not.
    Health {
        /// Ask whether its loops turn instead.
        #[arg(long)]
        live: bool,
    },
    /// Print every setting and where it comes from, without secrets; exit 2 if one is wrong.
    CheckConfig,
    /// Seal every stored secret under the newest of ENCRYPTION_KEYS, while the service runs; afterwards the others can be
    /// dropped. Exit 1 if something is left.
    Reseal,
    /// Play the main job, from the first key to the attempts, and print the proof.
    Demo,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    files::keep_private();
    match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::CheckConfig => {
            Settings::print_or_exit(Program::Standalone);
            Ok(())
        }
        Command::Health { live } => {
            let settings = Settings::from_env_quietly_or_exit(Program::Standalone);
            let well = ask(settings.bind_addr, live).await;
            std::process::exit(i32::from(!well))
        }
        Command::Demo => {
            choose_tls_provider();
            demo::play().await
        }
        Command::Reseal => {
            let settings = Settings::from_env_or_exit(Program::Standalone);
            telemetry::start(&settings);
            let db = migration::open_current(&settings).await?;
            migration::sealed::reseal(&db, &settings.keyring).await
        }
        Command::Serve => {
            let settings = Settings::from_env_or_exit(Program::Standalone);
            choose_tls_provider();
            telemetry::start(&settings);
            let stop = shutdown::signal();
            let relaypost = embedded::Embedded::start(settings).await?;
            relaypost.greet();
            relaypost.run(stop).await
        }
    }
}
