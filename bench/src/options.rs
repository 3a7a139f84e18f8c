//! What to measure, and how much of it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The table of the product's figures.
    Throughput,
    /// Only the pass that counts statements, and the longest of them.
    Statements,
    /// What one delays another.
    Engine,
    /// What a delivery costs with few and with many of them stored.
    Growth,
    /// The receiver checks every signature.
    Signatures,
    /// The memory of a worker with a large backlog and with thousands of receivers that hang.
    Backlog,
    /// What a user would otherwise write.
    Bullmq,
    /// The queue of apalis-redis as it comes, and ours on its layout of keys.
    Apalis,
}

/// The command line and the environment.
pub(crate) struct Options {
    pub(crate) mode: Mode,
    /// `BENCH_QUICK=1`: a fraction of everything, once.
    pub(crate) quick: bool,
    /// Where the product's binaries lie: beside this program.
    pub(crate) bin_dir: PathBuf,
    /// Where the JSON goes.
    pub(crate) out: PathBuf,
}

impl Options {
    pub(crate) fn read() -> Result<Self> {
        let named = std::env::args().nth(1);
        let mode = match named.as_deref() {
            None | Some("throughput") => Mode::Throughput,
            Some("statements") => Mode::Statements,
            Some("engine") => Mode::Engine,
            Some("growth") => Mode::Growth,
            Some("signatures") => Mode::Signatures,
            Some("backlog") => Mode::Backlog,
            Some("bullmq") => Mode::Bullmq,
            Some("apalis") => Mode::Apalis,
            Some(other) => bail!(
                "there is no mode `{other}`: throughput, statements, engine, growth, signatures, backlog, bullmq, apalis"
            ),
        };
        let program = std::env::current_exe()?;
        let bin_dir = program
            .parent()
            .context("the benchmark lies in no folder")?;
        let out = match std::env::var_os("BENCH_OUT").filter(|path| !path.is_empty()) {
            Some(path) => path.into(),
            None if mode == Mode::Throughput => "bench.json".into(),
            None => format!("bench-{}.json", named.unwrap_or_default()).into(),
        };
        Ok(Self {
            mode,
            quick: std::env::var("BENCH_QUICK").is_ok_and(|value| value == "1"),
            bin_dir: bin_dir.to_owned(),
            out,
        })
    }

    pub(crate) fn sizes(&self) -> Sizes {
        if self.quick {
            Sizes::QUICK
        } else {
            Sizes::FULL
        }
    }

    /// How often everything is measured; the median is printed.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }
}

/// A number from the environment.
pub(crate) fn given(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value.parse().with_context(|| format!("{name}={value}")),
        _ => Ok(default),
    }
}

/// Counts of messages and lengths of time of one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Requests of one measurement of the bare rate.
    pub(crate) bare: usize,
    /// Single-row commits, one after the other.
    pub(crate) commits: usize,
    /// Connections, and the messages that they publish with delivery off. All of them together are the backlog that
    /// one worker drains, and then two.
    pub(crate) ingest_off: [(usize, usize); 3],
    /// Messages that have an idempotency key each, with delivery off. They belong to the backlog too.
    pub(crate) keyed: usize,
    /// The same with delivery on, before the run of 64 connections that is measured from end to end.
    pub(crate) ingest_on: [(usize, usize); 2],
    /// Messages of a run from end to end.
    pub(crate) end_to_end: usize,
    /// Messages of the run in which each goes to five endpoints.
    pub(crate) fan_out: usize,
    /// Seconds of steady traffic.
    pub(crate) steady_seconds: u64,
    /// Seconds of steady traffic without, and again with, an endpoint that hangs.
    pub(crate) hanging_seconds: u64,
    /// Seconds of load before a worker is killed.
    pub(crate) recovery_seconds: u64,
    /// Messages of the pass that counts statements.
    pub(crate) counted: usize,
}

impl Sizes {
    const FULL: Self = Self {
        bare: 40_000,
        commits: 500,
        ingest_off: [(1, 2_000), (16, 8_000), (64, 40_000)],
        keyed: 40_000,
        ingest_on: [(1, 1_000), (16, 5_000)],
        end_to_end: 20_000,
        fan_out: 20_000,
        steady_seconds: 20,
        hanging_seconds: 10,
        recovery_seconds: 3,
        counted: 20_000,
    };
    const QUICK: Self = Self {
        bare: 20_000,
        commits: 200,
        ingest_off: [(1, 500), (16, 2_000), (64, 9_500)],
        keyed: 9_500,
        ingest_on: [(1, 200), (16, 1_500)],
        end_to_end: 8_000,
        fan_out: 2_000,
        steady_seconds: 6,
        hanging_seconds: 5,
        recovery_seconds: 2,
        counted: 5_000,
    };

    /// How many messages wait for a worker after [`Sizes::ingest_off`].
    pub(crate) fn backlog(&self) -> usize {
        let without: usize = self.ingest_off.iter().map(|(_, count)| count).sum();
        without + self.keyed
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "bare_requests": self.bare,
            "commits": self.commits,
            "ingest_delivery_off": self.ingest_off,
            "ingest_with_keys": self.keyed,
            "ingest_delivery_on": self.ingest_on,
            "end_to_end_messages": self.end_to_end,
            "five_endpoints_messages": self.fan_out,
            "drained_messages": self.backlog(),
            "latency_seconds": self.steady_seconds,
            "hanging_seconds": self.hanging_seconds,
            "recovery_load_seconds": self.recovery_seconds,
            "statements_counted_over_messages": self.counted,
        })
    }
}
