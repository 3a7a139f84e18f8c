//! Puts jobs onto the queue beside the requests. Requests never wait for Redis and never fail for it: what cannot be
//! pushed is left to the workers' sweep.

use std::time::{Duration, Instant};

use relaypost_shared::{
    health::{LONGEST_TURN, Loops},
    queue::{Job, Lane, Queue},
};
use tokio::sync::mpsc::{self, error::TrySendError};

/// How many batches may wait for the queue.
const WAITING: usize = 1_000;
/// How many batches one push takes together.
const TOGETHER: usize = 50;
/// At most one warning in this time.
const QUIET: Duration = Duration::from_secs(10);

/// A handle on the task that pushes.
#[derive(Clone, Debug)]
pub(crate) struct Pusher(mpsc::Sender<(Lane, Vec<Job>)>);

impl Pusher {
    /// Starts the task.
    pub(crate) fn start(queue: Queue, loops: &Loops) -> Self {
        let turn = loops.add("push jobs", LONGEST_TURN);
        let (sender, mut inbox) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let mut given_up = GivenUp::default();
            let mut waiting = Vec::with_capacity(TOGETHER);
            while inbox.recv_many(&mut waiting, TOGETHER).await > 0 {
                turn.turns();
                for lane in Lane::ALL {
                    let of_lane = waiting.iter().filter(|(of, _)| *of == lane);
                    let jobs: Vec<Job> = of_lane.flat_map(|(_, jobs)| jobs).copied().collect();
                    if jobs.is_empty() {
                        continue;
                    }
                    if let Err(error) = queue.push(lane, &jobs).await {
                        given_up.note(jobs.len(), &error.to_string());
                    }
                }
                waiting.clear();
                turn.idles();
            }
        });
        Self(sender)
    }

    /// Hands jobs over without waiting.
    pub(crate) fn push(&self, lane: Lane, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        if let Err(TrySendError::Full((_, jobs))) = self.0.try_send((lane, jobs)) {
            // The task itself warns that the queue is down; this many more are only worth a word to who looks closely.
            tracing::debug!(
                jobs = jobs.len(),
                "too many jobs wait for the queue: left to the sweep"
            );
        }
    }
}

/// What was left to the sweep since the last warning.
#[derive(Debug, Default)]
struct GivenUp {
    jobs: usize,
    warned: Option<Instant>,
}

impl GivenUp {
    fn note(&mut self, jobs: usize, error: &str) {
        self.jobs += jobs;
        if self.warned.is_none_or(|at| at.elapsed() >= QUIET) {
            tracing::warn!(
                jobs = self.jobs,
                error,
                "the queue is out of reach: jobs are left to the sweep"
            );
            self.jobs = 0;
            self.warned = Some(Instant::now());
        }
    }
}
