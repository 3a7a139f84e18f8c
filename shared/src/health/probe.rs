//! One look at something, shared by everybody who asks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};

use crate::batch::Batcher;

/// How long an answer is given again.
const FRESH: Duration = Duration::from_secs(1);
/// How many may ask at a time. More wait.
const ASKERS: usize = 256;

/// What a look found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Nothing, or why it does not work.
    pub result: Result<(), String>,
    /// How long the look took.
    pub took: Duration,
}

/// Looks at most once at a time and once a second, however many ask.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    looks: Batcher<(), Found>,
    limit: Duration,
}

impl Probe {
    /// Starts the task that looks. A look that takes longer than `limit` has failed.
    pub(super) fn start(
        limit: Duration,
        look: impl Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) -> Self {
        let (look, last) = (
            Arc::new(look),
            Arc::<Mutex<Option<(Instant, Found)>>>::default(),
        );
        let looks = Batcher::start(ASKERS, limit * 2, move |askers: Vec<()>| {
            let (look, last) = (look.clone(), last.clone());
            async move {
                let kept = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let fresh = kept.filter(|(at, _)| at.elapsed() < FRESH);
                let found = match fresh {
                    Some((_, found)) => found,
                    None => {
                        let found = time(look(), limit).await;
                        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                        *last = Some((Instant::now(), found.clone()));
                        found
                    }
                };
                vec![found; askers.len()]
            }
        });
        Self { looks, limit }
    }

    /// What it looks like now, or did a moment ago.
    pub(super) async fn ask(&self) -> Found {
        // One look may be under way that began before this question.
        let answer = timeout(self.limit * 2, self.looks.call(())).await;
        match answer {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => failed("the check ended unexpectedly", self.limit),
            Err(_) => failed(&too_long(self.limit), self.limit),
        }
    }
}

async fn time(look: BoxFuture<'static, Result<(), String>>, limit: Duration) -> Found {
    let began = Instant::now();
    let result = timeout(limit, look).await;
    Found {
        result: result.unwrap_or_else(|_| Err(too_long(limit))),
        took: began.elapsed(),
    }
}

fn too_long(limit: Duration) -> String {
    format!("no answer in {:.1} s", limit.as_secs_f32())
}

fn failed(why: &str, took: Duration) -> Found {
    Found {
        result: Err(why.to_owned()),
        took,
    }
}
