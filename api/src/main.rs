//! `relaypost-api`: serves the HTTP API, or prints what there is to know about it.

use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use relaypost_api::Services;
use relaypost_migration as migration;
use relaypost_shared::{
    db,
    health::ask::ask,
    queue::Queue,
    serve,
    settings::{Program, Settings},
    shutdown, telemetry,
};

/// See `Cargo.toml`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "relaypost-api", version, about = "Relaypost's HTTP API")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API (the default).
    Serve,
    /// Ask the API on BIND_ADDR whether it is ready; exit 1 if not.
    Health {
        /// Ask whether its loops turn instead.
        #[arg(long)]
        live: bool,
    },
    /// Print the OpenAPI document.
    Openapi,
    /// Print every setting and where it comes from, without secrets; exit 2 if one is wrong.
    CheckConfig,
    /// Print what every setting is for, as Markdown.
    SettingsDoc,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => run(Settings::from_env_or_exit(Program::Api)).await?,
        Command::Health { live } => {
            let settings = Settings::from_env_quietly_or_exit(Program::Api);
            let well = ask(settings.bind_addr, live).await;
            std::process::exit(i32::from(!well))
        }
        Command::Openapi => print!("{}", relaypost_api::openapi()),
        Command::CheckConfig => Settings::print_or_exit(Program::Api),
        Command::SettingsDoc => print!("{}", Settings::documentation()),
    }
    Ok(())
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    telemetry::start(&settings);
    let db = migration::open_current(&settings).await?;
    migration::sealed::keys_or_exit(&db, &settings.keyring).await?;
    let queue = Queue::open(settings.redis_url.as_deref())
        .context("REDIS_URL: not the address of a Redis server")?;
    let listener = serve::bind(settings.bind_addr)
        .with_context(|| format!("BIND_ADDR: cannot listen on {}", settings.bind_addr))?;
    let clock = db::clock(&db)
        .await
        .context("DATABASE_URL: the database's time cannot be read")?;
    let services = Services::new(db, queue, clock, Arc::new(settings));
    if let Some(key) = services.first_key().await? {
        eprintln!("Platform key, shown this one time: {key}");
    }
    relaypost_api::serve(services, listener, shutdown::signal()).await?;
    Ok(())
}
