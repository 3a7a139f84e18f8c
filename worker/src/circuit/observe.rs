//! Takes what attempts said into their circuits, in the transaction that records the attempts.

use std::collections::{BTreeMap, BTreeSet};

use relaypost_shared::{
    circuit::{Notice, Report, Signal},
    clock::Timestamp,
    db::Transaction,
    ids::TenantId,
    settings,
    store::{Circuit, circuits},
};
use sea_orm::DbErr;
use uuid::Uuid;

/// One attempt's report, as it is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// What it says.
    pub(crate) report: Report,
    /// Whose endpoint it went to; none for a mail provider.
    pub(crate) owner: Option<TenantId>,
    /// When it ended.
    pub(crate) at: Timestamp,
    /// Whether it delivered an operator event, about which operators hear nothing.
    pub(crate) silent: bool,
}

/// The circuits of a slice, locked until its transaction ends.
pub(crate) struct Observed {
    pub(crate) circuits: BTreeMap<Uuid, Circuit>,
    before: BTreeMap<Uuid, Circuit>,
    /// What operators are to hear, and of which circuit.
    pub(crate) notices: Vec<(Uuid, Notice)>,
}

/// Locks the circuits of the reports, and those of `besides`, and applies the reports in their order. Costs no statement
/// when nothing is reported.
pub(crate) async fn observe(
    tx: &Transaction,
    policy: &settings::Circuit,
    told: &[Told],
    besides: impl IntoIterator<Item = Uuid>,
    now: Timestamp,
) -> Result<Observed, DbErr> {
    let mut ids: BTreeSet<Uuid> = told.iter().map(|one| one.report.circuit).collect();
    ids.extend(besides);
    if ids.is_empty() {
        return Ok(Observed::of(BTreeMap::new()));
    }
    let failing = told
        .iter()
        .filter(|one| one.report.signal != Signal::Success)
        .map(|one| (one.report.circuit, one.owner));
    circuits::create_missing(tx, failing.collect::<BTreeMap<_, _>>(), now).await?;
    let mut observed = Observed::of(circuits::lock(tx, ids).await?);
    for one in told {
        let Some(circuit) = observed.circuits.get_mut(&one.report.circuit) else {
            continue;
        };
        let notices = circuit.observe(policy, one.report, one.at);
        // To be disabled is more than news.
        let heard = notices
            .into_iter()
            .filter(|notice| !one.silent || *notice == Notice::Disable);
        observed
            .notices
            .extend(heard.map(|notice| (one.report.circuit, notice)));
    }
    Ok(observed)
}

impl Observed {
    fn of(circuits: BTreeMap<Uuid, Circuit>) -> Self {
        Self {
            before: circuits.clone(),
            circuits,
            notices: Vec::new(),
        }
    }

    /// Writes the circuits that have changed.
    pub(crate) async fn write(self, tx: &Transaction, now: Timestamp) -> Result<(), DbErr> {
        circuits::save_changed(tx, &self.before, self.circuits, now).await
    }
}
