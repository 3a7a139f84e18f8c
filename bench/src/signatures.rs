//! From end to end with a receiver that checks the signature of each webhook, as a receiver should.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Result, ensure};
use relaypost_testkit::{Hit, Reply};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use standardwebhooks::Webhook;

use crate::{
    Bench, DEADLINE,
    report::{SHARE, Target},
    stack::{Sink, Stack},
    throughput::end_to_end,
};

/// A secret that nothing here was signed with.
const ANOTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What the checks gave.
#[derive(Default)]
struct Checked {
    right: AtomicUsize,
    wrong: AtomicUsize,
    /// Also right under another secret: the check would check nothing.
    blind: AtomicUsize,
}

pub(crate) async fn run(bench: &mut Bench, rounds: usize) -> Result<()> {
    let mut stack = Stack::start(&bench.bin_dir, 1).await?;
    let tenant = stack.world.tenant("signatures").await;
    let sink = Sink::start(1).await;
    let (_, secret) = tenant
        .endpoint(&sink.receiver.url("/hook"), &["bench"])
        .await;
    let checked = Arc::new(Checked::default());
    check(&sink, &secret, &checked)?;
    let count = bench.sizes.end_to_end;
    for round in 0..rounds {
        bench.bare.measure().await?;
        let run = end_to_end(&mut stack, &tenant, &sink, round * count, count).await?;
        stack.postgres.settled(DEADLINE).await?;
        bench.bare.measure().await?;
        let what = "end to end, 1 endpoint, each signature checked";
        bench.report.add(what, "deliveries/s", run.per_second);
        bench
            .report
            .add(what, SHARE, run.per_second / bench.bare.around());
    }
    let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    ensure!(
        of(&checked.right) + of(&checked.wrong) == rounds * count,
        "not every signature was checked"
    );
    ensure!(of(&checked.blind) == 0, "the check takes any signature");
    bench
        .report
        .add("signatures checked", "", of(&checked.right) as f64);
    bench.report.judge(
        "wrong signatures",
        "",
        of(&checked.wrong) as f64,
        Target::at_most(0.0, 0.0),
    );
    bench.bare.report(&mut bench.report).await?;
    stack.stop().await
}

/// Has the receiver check everything under this secret; a wrong signature is counted and answered with 200, so that it is
/// counted once.
fn check(sink: &Sink, secret: &str, checked: &Arc<Checked>) -> Result<()> {
    let (secret, another) = (Webhook::new(secret)?, Webhook::new(ANOTHER)?);
    let checked = checked.clone();
    sink.receiver.respond(Reply::func(move |hit| {
        let headers = headers(hit);
        let right = secret.verify(&hit.body, &headers).is_ok();
        let counter = if right {
            &checked.right
        } else {
            &checked.wrong
        };
        // The first ones show that the check can tell a wrong secret.
        if counter.fetch_add(1, Ordering::Relaxed) < 100
            && another.verify(&hit.body, &headers).is_ok()
        {
            checked.blind.fetch_add(1, Ordering::Relaxed);
        }
        (200, Vec::new(), Vec::new())
    }));
    Ok(())
}

fn headers(hit: &Hit) -> HeaderMap {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let found = names.into_iter().filter_map(|name| {
        let value = HeaderValue::from_str(hit.header(name)?).ok()?;
        Some((HeaderName::from_static(name), value))
    });
    found.collect()
}
