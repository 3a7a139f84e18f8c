//! `relaypost-worker`: delivers. Any number of them run side by side.

use std::{future::pending, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use relaypost_migration as migration;
use relaypost_shared::{
    db,
    health::ask::ask,
    queue::Queue,
    serve,
    settings::{Program, Settings},
    shutdown, telemetry,
};
use relaypost_worker::{Services, probes, run};

/// See `Cargo.toml`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "relaypost-worker",
    version,
    about = "Relaypost's delivery worker"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Deliver until told to stop (the default).
    Serve,
    /// Ask the worker on WORKER_BIND_ADDR whether it is ready; exit 1 if not.
    Health {
        /// Ask whether its loops turn instead.
        #[arg(long)]
        live: bool,
    },
    /// Print every setting and where it comes from, without secrets; exit 2 if one is wrong.
    CheckConfig,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::CheckConfig => {
            Settings::print_or_exit(Program::Worker);
            Ok(())
        }
        Command::Health { live } => {
            let settings = Settings::from_env_quietly_or_exit(Program::Worker);
            let well = ask(settings.worker_bind_addr, live).await;
            std::process::exit(i32::from(!well))
        }
        Command::Serve => start(Settings::from_env_or_exit(Program::Worker)).await,
    }
}

async fn start(settings: Settings) -> anyhow::Result<()> {
    telemetry::start(&settings);
    let settings = Arc::new(settings);
    let db = migration::open_current(&settings).await?;
    migration::sealed::keys_or_exit(&db, &settings.keyring).await?;
    let queue = Queue::open(settings.redis_url.as_deref()).context("REDIS_URL")?;
    let clock = db::clock(&db)
        .await
        .context("DATABASE_URL: the database's time cannot be read")?;
    let health = migration::health(&db, &queue);
    // A worker can do nothing without its queue.
    health.needs_queue();
    let services = Services {
        db,
        queue,
        clock,
        settings: settings.clone(),
        health,
    };
    let listener = serve::bind(settings.worker_bind_addr).with_context(|| {
        format!(
            "WORKER_BIND_ADDR: cannot listen on {}",
            settings.worker_bind_addr
        )
    })?;
    let stop = shutdown::signal();
    println!("listening on http://{}", listener.local_addr()?);
    // The probes answer until the work is done, so that a stopping worker still shows as alive.
    let app = probes::app(services.clone());
    let probes = tokio::spawn(async move {
        serve::serve(listener, app, &settings.http, pending(), Duration::ZERO).await;
    });
    run(services, stop).await?;
    probes.abort();
    Ok(())
}
