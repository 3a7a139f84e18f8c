//! `relaypost-worker`: delivers. Any number of them run side by side.

use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use poem::{
    Server,
    listener::{Acceptor as _, Listener as _, TcpListener},
};
use relaypost_migration as migration;
use relaypost_shared::{
    clock::Clock,
    queue::Queue,
    settings::{Program, Settings},
    shutdown, telemetry,
};
use relaypost_worker::{Services, probes, run};

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
        Command::Serve => serve(Settings::from_env_or_exit(Program::Worker)).await,
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    telemetry::start(&settings);
    let settings = Arc::new(settings);
    let db = migration::open_current(&settings).await?;
    let queue = Queue::open(settings.redis_url.as_deref()).context("REDIS_URL")?;
    let services = Services {
        db,
        queue,
        clock: Clock::system(),
        settings: settings.clone(),
    };
    let listener = TcpListener::bind(settings.worker_bind_addr)
        .into_acceptor()
        .await;
    let acceptor = listener.with_context(|| {
        format!(
            "WORKER_BIND_ADDR: cannot listen on {}",
            settings.worker_bind_addr
        )
    })?;
    let stop = shutdown::signal();
    if let Some(address) = acceptor
        .local_addr()
        .first()
        .and_then(|address| address.as_socket_addr())
    {
        println!("listening on http://{address}");
    }
    // The probes answer until the work is done, so that a stopping worker still shows as alive.
    let probes =
        tokio::spawn(Server::new_with_acceptor(acceptor).run(probes::app(services.clone())));
    run(services, stop).await?;
    probes.abort();
    Ok(())
}
