//! Since when nothing is away. Only from then on can everything be expected to work again.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep_until};

/// What is away just now, and the last moment at which anything happened.
#[derive(Clone, Copy, Debug)]
struct State {
    away: usize,
    since: Instant,
}

/// Keeps count of what is away.
#[derive(Debug)]
pub(crate) struct Calm(watch::Sender<State>);

/// Something that is away.
#[derive(Debug)]
pub(crate) struct Away<'a>(&'a Calm);

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| {
            state.away -= 1;
            state.since = Instant::now();
        });
    }
}

impl Calm {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State {
            away: 0,
            since: Instant::now(),
        }))
    }

    /// Something is away until the answer is dropped.
    pub(crate) fn away(&self) -> Away<'_> {
        self.0.send_modify(|state| state.away += 1);
        Away(self)
    }

    /// Waits until nothing has been away for this long.
    pub(crate) async fn lasts(&self, long: Duration) {
        let mut states = self.0.subscribe();
        loop {
            let State { away, since } = *states.borrow_and_update();
            let calm = async {
                match away {
                    0 => sleep_until((since + long).into()).await,
                    _ => pending().await,
                }
            };
            tokio::select! {
                () = calm => return,
                _ = states.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn calm_begins_when_the_last_that_was_away_is_back() {
        let calm = Calm::new();
        let short = Duration::from_millis(20);
        let (one, other) = (calm.away(), calm.away());
        drop(one);
        assert!(timeout(short * 5, calm.lasts(short)).await.is_err());
        let back = Instant::now();
        drop(other);
        calm.lasts(short).await;
        assert!(back.elapsed() >= short);
    }
}
