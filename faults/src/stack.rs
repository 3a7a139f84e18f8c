//! The stack under load while a plan comes true, and what has to be true at its end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use relaypost_testkit::Backend;

use crate::{
    DRAIN, Run,
    check::{Evidence, drain},
    duplicates,
    fleet::Fleet,
    load::{Counts, Load},
    on_first_api, options,
    plan::{self, Planned},
    receivers::{endpoints, go_away, tenants},
    report::{self, Report},
};

/// Lets this plan come true while the load lasts.
pub(crate) async fn run(run: &Run, load: Duration, plan: &[Planned]) -> Result<()> {
    let (seed, rate, broken) = (run.seed, run.rate, &run.broken);
    report::print_plan(seed, load, rate, plan);
    let options = options(Backend::Stack)?;
    let options = options.apis(plan::FLEET).workers(plan::FLEET);
    let fleet = Fleet::start(options, broken.clone()).await?;
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
        fleet.suffer(began, plan),
        go_away(&endpoints, began, load),
    );

    let tenants = on_first_api(&tenants, &publishers);
    let drained = drain(&tenants, DRAIN, broken).await;
    // What they have begun may still arrive a second time; after this it does not.
    fleet.stop_workers().await;
    let mails = fleet.world.smtp.mails();
    let evidence = Evidence {
        tenants: &tenants,
        endpoints: &endpoints,
        acknowledged: &acknowledged,
        mails: &mails,
        broken,
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
    report.print(broken);
    Ok(())
}
