//! The stack under load while a plan comes true.

use std::time::Duration;

use anyhow::Result;
use relaypost_testkit::Backend;

use crate::{
    Run,
    fleet::Fleet,
    options,
    plan::{self, Planned},
    report,
    scene::Scene,
};

/// Lets this plan come true while the load lasts, and checks what it came to.
pub(crate) async fn run(run: &Run, load: Duration, plan: &[Planned]) -> Result<()> {
    report::print_plan(run.seed, load, run.rate, plan);
    let options = options(Backend::Stack)?;
    let options = options.apis(plan::FLEET).workers(plan::FLEET);
    let fleet = Fleet::start(options, run.broken.clone()).await?;
    let scene = Scene::set(run, &fleet.world, fleet.api_urls()).await;
    let loaded = scene
        .load(run.rate, load, |began| fleet.suffer(began, plan))
        .await;
    let drained = scene.drain().await;
    // What they have begun may still arrive a second time; after this it does not.
    fleet.stop_workers().await;
    let mails = fleet.world.smtp.mails();
    scene.report(loaded, drained, &mails).await;
    fleet.end().await;
    Ok(())
}
