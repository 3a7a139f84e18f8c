//! Two API processes, two workers, PostgreSQL and Redis under load, and a plan of faults drawn from a seed; then the
//! embedded process on a disk that gets full. At the end every message that was acknowledged has been delivered or is in
//! the dead-letter queue, and what was sent twice is bounded by what was in flight. `scripts/faults` starts the services
//! and builds the binaries.
//!
//! `SEED` repeats a plan; `FAULTS` picks one kind, or `all` of them one after the other; `FAULTS_SECONDS` says how long the
//! load lasts (120 for a plan, 40 for a kind alone), `FAULTS_RATE` (120) how many requests it has a second.

mod broken;
mod calm;
mod check;
mod choice;
mod duplicates;
mod embedded;
mod fleet;
mod load;
mod plan;
mod probe;
mod receivers;
mod report;
mod scene;
mod stack;
mod struck;

use std::{
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, Result};
use relaypost_testkit::{Backend, WorldOptions};

use crate::{broken::Broken, choice::Choice};

/// Webhooks that one worker has in flight, and mails: few, so that the bound on duplicates says something.
pub(crate) const SLOTS: usize = 32;
pub(crate) const MAIL_SLOTS: usize = 4;
/// After the load everything has to be settled within this time. A retry whose job was lost takes a minute.
pub(crate) const DRAIN: Duration = Duration::from_secs(120);
/// How long the load lasts, in seconds: of a plan, and of a kind alone.
const LOAD: u64 = 120;
const LOAD_ALONE: u64 = 40;

/// What every part of a run shares.
pub(crate) struct Run {
    pub(crate) seed: u64,
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) broken: Broken,
    /// Seconds of load, when they are given.
    load: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let run = Run {
        seed: given("SEED")?.unwrap_or_else(|| RandomState::new().hash_one(std::process::id())),
        rate: given("FAULTS_RATE")?.unwrap_or(120.0),
        broken: Broken::default(),
        load: given("FAULTS_SECONDS")?,
    };
    let name: Option<String> = given("FAULTS")?;
    let choice = match Choice::of(name.as_deref()) {
        Ok(choice) => choice,
        Err(why) => {
            eprintln!("{why}");
            return Ok(ExitCode::from(2));
        }
    };
    match choice {
        Choice::Plan => {
            let load = run.load(LOAD);
            stack::run(&run, load, &plan::draw(run.seed, load)).await?;
            embedded::run(&run).await?;
        }
        Choice::Alone(name) => run.alone(name).await?,
        Choice::Each => {
            for name in choice::names() {
                println!("\n## {name}\n");
                run.alone(name).await?;
            }
        }
    }
    let (seed, broken) = (run.seed, run.broken.count());
    if broken == 0 {
        println!("\nevery guarantee held (SEED={seed})");
        return Ok(ExitCode::SUCCESS);
    }
    let faults = name.map_or_else(String::new, |name| format!("FAULTS={name} "));
    println!(
        "\n{broken} times a guarantee was broken; `{faults}SEED={seed} make test-faults` repeats the plan"
    );
    Ok(ExitCode::FAILURE)
}

impl Run {
    fn load(&self, usual: u64) -> Duration {
        Duration::from_secs(self.load.unwrap_or(usual))
    }

    /// Lets one kind strike, again and again.
    async fn alone(&self, name: &str) -> Result<()> {
        let load = self.load(LOAD_ALONE);
        match plan::draw_alone(self.seed, load, name) {
            Some(plan) => stack::run(self, load, &plan).await,
            None => embedded::run(self).await,
        }
    }
}

/// The value of an environment variable, if it has one.
fn given<T: FromStr>(name: &str) -> Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => {
            let parsed = value.parse();
            parsed.map(Some).with_context(|| format!("{name}={value}"))
        }
        _ => Ok(None),
    }
}

fn options(backend: Backend) -> Result<WorldOptions> {
    let program = std::env::current_exe()?;
    let folder = program.parent().map(PathBuf::from);
    let options = WorldOptions {
        backend,
        ..WorldOptions::new(folder.context("the program lies in no folder")?)
    };
    let settings = [
        ("WEBHOOK_CONCURRENCY", SLOTS.to_string()),
        ("EMAIL_CONCURRENCY", MAIL_SLOTS.to_string()),
        ("WEBHOOK_TIMEOUT_MS", "5000".to_owned()),
        // Longer, all in all, than the endpoint that goes away is away, and short enough for the end to come soon.
        (
            "RETRY_SCHEDULE",
            "1,1,1,2,2,2,3,3,3,4,4,4,5,5,5,5,5,5,5,5".to_owned(),
        ),
        // The endpoint that goes away opens its circuit; one that refuses some of what it gets does not.
        ("CIRCUIT_FAILURE_THRESHOLD", "200".to_owned()),
        ("CIRCUIT_OPEN_SECONDS", "1".to_owned()),
        ("CIRCUIT_OPEN_MAX_SECONDS", "4".to_owned()),
    ];
    Ok(settings
        .iter()
        .fold(options, |options, (name, value)| options.env(name, value)))
}
