//! The plan and the figures, as Markdown.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crate::{
    MAIL_SLOTS, SLOTS, broken::Broken, check::Settled, duplicates::Duplicate, load::Counts,
    plan::Planned, struck::Struck,
};

/// Prints what is going to happen.
pub(crate) fn print_plan(seed: u64, load: Duration, rate: f64, plan: &[Planned]) {
    println!(
        "SEED={seed}, {} s of load, {rate} requests a second\n\n| at s | planned fault | away s |\n|---|---|---|",
        load.as_secs()
    );
    for planned in plan {
        println!(
            "| {:.1} | {} | {:.1} |",
            planned.at.as_secs_f64(),
            planned.fault,
            planned.away.as_secs_f64()
        );
    }
    println!();
}

/// What a run came to.
pub(crate) struct Report<'a> {
    pub(crate) began: Instant,
    pub(crate) struck: &'a [Struck],
    pub(crate) acknowledged: usize,
    pub(crate) counts: &'a Counts,
    pub(crate) drained: Duration,
    pub(crate) settled: Settled,
    pub(crate) webhooks: Vec<Duplicate>,
    pub(crate) mails: Vec<Duplicate>,
}

impl Report<'_> {
    /// Prints the figures, and notes duplicates that no fault explains or that are more than the faults explain.
    pub(crate) fn print(&self, broken: &Broken) {
        self.print_figures();
        let webhooks = self.blame(&self.webhooks, broken);
        let mails = self.blame(&self.mails, broken);
        println!(
            "\n| at s | fault | until s | webhooks sent again | at most | mails sent again | at most |\n|---|---|---|---|---|---|---|"
        );
        let since = |at: Instant| at.saturating_duration_since(self.began).as_secs_f64();
        for (place, one) in self.struck.iter().enumerate() {
            let workers = one.workers_concerned;
            println!(
                "| {:.1} | {} | {:.1} | {} | {} | {} | {} |",
                since(one.from),
                one.what,
                since(one.until),
                webhooks[place],
                workers * SLOTS,
                mails[place],
                workers * MAIL_SLOTS
            );
        }
        let workers: usize = self.struck.iter().map(|one| one.workers_concerned).sum();
        let (webhooks, mails) = (self.webhooks.len(), self.mails.len());
        let (at_most, mails_at_most) = (workers * SLOTS, workers * MAIL_SLOTS);
        println!("| | all | | {webhooks} | {at_most} | {mails} | {mails_at_most} |");
        // Faults that overlap share the blame, so that only the sum can be held against the bound.
        if webhooks > at_most || mails > mails_at_most {
            broken.note("more was sent again than was in flight");
        }
    }

    fn print_figures(&self) {
        let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::Relaxed);
        println!("\n| figure | count |\n|---|---|");
        println!("| requests acknowledged | {} |", self.acknowledged);
        println!(
            "| tries without an answer | {} |",
            count(&self.counts.unanswered)
        );
        println!(
            "| tries answered with \"try again\" | {} |",
            count(&self.counts.unavailable)
        );
        println!(
            "| first answer lost, replayed | {} |",
            count(&self.counts.replayed)
        );
        println!(
            "| sent once more on purpose, replayed | {} |",
            count(&self.counts.once_more)
        );
        for (end, times) in &self.settled.ends {
            println!("| {end} | {times} |");
        }
        println!(
            "| seconds from the end of the load until all was settled | {:.1} |",
            self.drained.as_secs_f64()
        );
    }

    fn row(&self, duplicate: &Duplicate) -> String {
        let row = self.settled.rows.get(&duplicate.row);
        row.map_or("no such delivery".to_owned(), ToString::to_string)
    }

    /// How many of the duplicates each fault is to blame for.
    fn blame(&self, duplicates: &[Duplicate], broken: &Broken) -> Vec<usize> {
        let mut blamed = vec![0; self.struck.len()];
        for duplicate in duplicates {
            match duplicate.cause(self.struck) {
                Some(place) => blamed[place] += 1,
                None => broken.note(format!(
                    "{} was sent again, and no fault explains it: {}; {}",
                    duplicate.what,
                    duplicate.when(self.began),
                    self.row(duplicate)
                )),
            }
        }
        blamed
    }
}
