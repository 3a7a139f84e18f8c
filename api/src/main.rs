//! `relaypost-api`: serves the HTTP API, or prints what there is to know about it.

use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use relaypost_api::Services;
use relaypost_migration as migration;
use relaypost_shared::{
    clock::Clock, queue::Queue, serve, settings::Settings, shutdown, telemetry,
};

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
    /// Print the OpenAPI document.
    Openapi,
    /// Print the settings, without secrets; exit 2 if one is wrong.
    CheckConfig,
    /// Print what every setting is for, as Markdown.
    SettingsDoc,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => run(Settings::from_env_or_exit()).await?,
        Command::Openapi => print!("{}", relaypost_api::openapi()),
        Command::CheckConfig => println!("{:#?}", Settings::from_env_or_exit()),
        Command::SettingsDoc => print!("{}", Settings::documentation()),
    }
    Ok(())
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let Some(redis_url) = &settings.redis_url else {
        eprintln!(
            "1 setting wrong or missing:\n  REDIS_URL: without it the queue would live in this process, where no worker \
             finds it; set it, or use `relaypost`, which is API and worker in one"
        );
        std::process::exit(2);
    };
    telemetry::start(&settings);
    let db = migration::open_current(&settings).await?;
    let queue =
        Queue::open(Some(redis_url)).context("REDIS_URL: not the address of a Redis server")?;
    let listener = serve::bind(settings.bind_addr)
        .with_context(|| format!("BIND_ADDR: cannot listen on {}", settings.bind_addr))?;
    let services = Services::new(db, queue, Clock::system(), Arc::new(settings));
    if let Some(key) = services.first_key().await? {
        eprintln!("Platform key, shown this one time: {key}");
    }
    relaypost_api::serve(services, listener, shutdown::signal()).await?;
    Ok(())
}
