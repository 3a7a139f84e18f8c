//! Two API processes, two workers, PostgreSQL and Redis under load, and a plan of faults drawn from a seed. At the end
//! every message that was acknowledged has been delivered or is in the dead-letter queue, and what was sent twice is
//! bounded by what was in flight. `scripts/faults` starts the services and builds the binaries.
//!
//! `SEED` repeats a plan; `FAULTS_SECONDS` (120) says how long the load lasts, `FAULTS_RATE` (120) how many requests it
//! has a second.

mod broken;
mod check;
mod duplicates;
mod fleet;
mod load;
mod plan;
mod receivers;
mod report;

use std::{
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use relaypost_testkit::{Backend, Tenant, WorldOptions};

use crate::{
    broken::Broken,
    check::{Evidence, drain},
    fleet::Fleet,
    load::{Counts, Load},
    receivers::{endpoints, go_away, tenants},
    report::Report,
};

/// Webhooks that one worker has in flight, and mails: few, so that the bound on duplicates says something.
pub(crate) const SLOTS: usize = 32;
pub(crate) const MAIL_SLOTS: usize = 4;
/// After the load everything has to be settled within this time. A retry whose job was lost takes a minute.
const DRAIN: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let seed = given("SEED")?.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
    let load = Duration::from_secs(given("FAULTS_SECONDS")?.unwrap_or(120));
    let rate = given("FAULTS_RATE")?.unwrap_or(120.0);
    let plan = plan::draw(seed, load);
    report::print_plan(seed, load, rate, &plan);

    let broken = Broken::default();
    let fleet = Fleet::start(options()?, broken.clone()).await?;
    let tenants = tenants(&fleet.world).await;
    let endpoints = endpoints(&tenants, seed).await;
    let publishers = Load {
        tenants: tenants.clone().into(),
        urls: fleet.api_urls().into(),
        counts: Arc::new(Counts::default()),
        broken: broken.clone(),
        seed,
    };
    let began = Instant::now();
    let (acknowledged, struck, ()) = futures::join!(
        publishers.run(rate, load),
        fleet.suffer(began, &plan),
        go_away(&endpoints, began, load),
    );

    let tenants = on_first_api(&tenants, &publishers);
    let drained = drain(&tenants, DRAIN, &broken).await;
    // What they have begun may still arrive a second time; after this it does not.
    fleet.stop_workers().await;
    let mails = fleet.world.smtp.mails();
    let evidence = Evidence {
        tenants: &tenants,
        endpoints: &endpoints,
        acknowledged: &acknowledged,
        mails: &mails,
        broken: &broken,
    };
    let settled = evidence.check().await;
    fleet.end().await;
    let report = Report {
        began,
        struck: &struck,
        acknowledged: acknowledged.len(),
        counts: &publishers.counts,
        drained,
        settled,
        webhooks: duplicates::of_webhooks(&endpoints),
        mails: duplicates::of_mails(&mails),
    };
    report.print(&broken);
    if broken.count() == 0 {
        println!("\nevery guarantee held (SEED={seed})");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "\n{} times a guarantee was broken; `SEED={seed} make test-faults` repeats the plan",
        broken.count()
    );
    Ok(ExitCode::FAILURE)
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

fn options() -> Result<WorldOptions> {
    let program = std::env::current_exe()?;
    let folder = program.parent().map(PathBuf::from);
    let options = WorldOptions {
        backend: Backend::Stack,
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
        ("CIRCUIT_FAILURE_THRESHOLD", "60".to_owned()),
        ("CIRCUIT_OPEN_SECONDS", "1".to_owned()),
        ("CIRCUIT_OPEN_MAX_SECONDS", "4".to_owned()),
    ];
    let options = options.apis(plan::FLEET).workers(plan::FLEET);
    Ok(settings
        .iter()
        .fold(options, |options, (name, value)| options.env(name, value)))
}

/// The tenants' clients at an API process that runs now.
fn on_first_api(tenants: &[Tenant], load: &Load) -> Vec<Tenant> {
    let url = load.urls[0].borrow().clone();
    let moved = tenants.iter().map(|tenant| Tenant {
        id: tenant.id.clone(),
        api: tenant.api.with_base(&url),
    });
    moved.collect()
}
