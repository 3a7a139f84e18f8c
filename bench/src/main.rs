//! Measures Relaypost on PostgreSQL and Redis beside a bare HTTP client at the same receiver, in one run on one machine.
//! `scripts/bench` starts the services and builds the binaries; `docs/performance.md` tells how it is measured.

mod apalis;
mod backlog;
mod bare;
mod bullmq;
mod cpu;
mod engine;
mod fill;
mod growth;
mod latency;
mod load;
mod machine;
mod options;
mod postgres;
mod recovery;
mod redis;
mod report;
mod signatures;
mod stack;
mod statements;
mod steady;
mod throughput;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    bare::Bare,
    options::{Mode, Options, Sizes},
    report::Report,
    stack::Stack,
};

/// Connections that publish at the same time, and that the bare client has.
pub(crate) const CONNECTIONS: usize = 64;
/// Nothing measured here takes this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(600);

/// One run.
pub(crate) struct Bench {
    pub(crate) bin_dir: PathBuf,
    pub(crate) sizes: Sizes,
    pub(crate) quick: bool,
    pub(crate) bare: Bare,
    pub(crate) report: Report,
    /// The statements that took longest, with what a delivery takes of each.
    pub(crate) top_statements: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::read()?;
    let began = Instant::now();
    if options.mode == Mode::Engine {
        let (seconds, backlog) = if options.quick {
            (5, 10_000)
        } else {
            (30, 100_000)
        };
        return engine::run(&options.bin_dir, seconds, backlog).await;
    }
    let sizes = options.sizes();
    let mut bench = Bench {
        bin_dir: options.bin_dir.clone(),
        sizes,
        quick: options.quick,
        bare: Bare::new(sizes.bare).await,
        report: Report::default(),
        top_statements: Vec::new(),
    };
    let mut about = json!({ "mode": format!("{:?}", options.mode).to_lowercase(), "machine": machine(&bench).await? });
    match options.mode {
        Mode::Throughput => {
            about["rounds"] = options.rounds().into();
            about["sizes"] = sizes.json();
            throughput(&mut bench, options.rounds()).await?;
        }
        Mode::Statements => {
            statements::count(&mut bench).await?;
            bench
                .top_statements
                .iter()
                .for_each(|statement| println!("{statement}"));
        }
        Mode::Growth => growth::run(&mut bench, options.rounds()).await?,
        Mode::Signatures => signatures::run(&mut bench, options.rounds()).await?,
        Mode::Backlog => backlog::run(&mut bench).await?,
        Mode::Bullmq => bullmq::run(&mut bench, options.rounds()).await?,
        Mode::Apalis => about["stops"] = apalis::run(&mut bench, options.rounds()).await?.into(),
        Mode::Engine => {}
    }
    if !bench.top_statements.is_empty() {
        about["longest_statements_per_delivery"] = bench.top_statements.clone().into();
    }
    about["seconds"] = began.elapsed().as_secs().into();
    bench.report.finish(about, &options.out)
}

/// The table of the product's figures.
async fn throughput(bench: &mut Bench, rounds: usize) -> Result<()> {
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        // First of all, so that what follows is known not to be limited by it.
        bench.bare.measure().await?;
        bench.bare.report(&mut bench.report).await?;
        throughput::backlog(bench).await?;
        throughput::delivering(bench).await?;
        latency::steady_traffic(bench).await?;
        latency::hanging(bench).await?;
        recovery::kill(bench).await?;
        bench.bare.report(&mut bench.report).await?;
    }
    statements::count(bench).await
}

async fn machine(bench: &Bench) -> Result<Value> {
    let mut stack = Stack::start(&bench.bin_dir, 0).await?;
    let facts = machine::facts(&mut stack).await?;
    stack.stop().await?;
    Ok(facts)
}
