//! Tenants with their endpoints and publishers: the load, and what is compared at its end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use relaypost_testkit::{Mail, Tenant, World};
use tokio::sync::watch;

use crate::{
    DRAIN, Run,
    check::{Evidence, drain},
    duplicates,
    load::{Acknowledged, Counts, Load},
    receivers::{Endpoint, endpoints, go_away, tenants},
    report::Report,
    struck::Struck,
};

/// What publishes to the product, and what receives from it.
pub(crate) struct Scene {
    endpoints: Vec<Endpoint>,
    publishers: Load,
}

/// What was acknowledged, and what went wrong meanwhile.
pub(crate) struct Loaded {
    began: Instant,
    acknowledged: Vec<Acknowledged>,
    pub(crate) struck: Vec<Struck>,
}

impl Scene {
    /// Creates the tenants and the endpoints. `urls` says where the API processes listen, now and later.
    pub(crate) async fn set(run: &Run, world: &World, urls: Vec<watch::Receiver<String>>) -> Self {
        let tenants = tenants(world).await;
        Self {
            endpoints: endpoints(&tenants, run.seed).await,
            publishers: Load {
                tenants: tenants.into(),
                urls: urls.into(),
                counts: Arc::new(Counts::default()),
                broken: run.broken.clone(),
                seed: run.seed,
            },
        }
    }

    /// Publishes `rate` requests a second for this long, while `suffer` happens.
    pub(crate) async fn load<F>(
        &self,
        rate: f64,
        load: Duration,
        suffer: impl FnOnce(Instant) -> F,
    ) -> Loaded
    where
        F: Future<Output = Vec<Struck>>,
    {
        let began = Instant::now();
        let (acknowledged, struck, ()) = futures::join!(
            self.publishers.run(rate, load),
            suffer(began),
            go_away(&self.endpoints, began, load),
        );
        Loaded {
            began,
            acknowledged,
            struck,
        }
    }

    /// Waits until nothing is pending, and returns how long that took.
    pub(crate) async fn drain(&self) -> Duration {
        drain(&self.tenants(), DRAIN, &self.publishers.broken).await
    }

    /// Compares everything, prints the figures, and notes what is broken.
    pub(crate) async fn report(&self, loaded: Loaded, drained: Duration, mails: &[Mail]) {
        let broken = &self.publishers.broken;
        let evidence = Evidence {
            tenants: &self.tenants(),
            endpoints: &self.endpoints,
            acknowledged: &loaded.acknowledged,
            mails,
            broken,
        };
        let report = Report {
            began: loaded.began,
            struck: &loaded.struck,
            acknowledged: loaded.acknowledged.len(),
            counts: &self.publishers.counts,
            drained,
            settled: evidence.check().await,
            webhooks: duplicates::of_webhooks(&self.endpoints),
            mails: duplicates::of_mails(mails),
        };
        report.print(broken);
    }

    /// The tenants' clients at an API process that runs now.
    fn tenants(&self) -> Vec<Tenant> {
        let url = self.publishers.urls[0].borrow().clone();
        let moved = self.publishers.tenants.iter().map(|tenant| Tenant {
            id: tenant.id.clone(),
            api: tenant.api.with_base(&url),
        });
        moved.collect()
    }
}
