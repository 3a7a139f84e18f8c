//! How long a process waits for its database, and when it throws its connections away.
//!
//! A connection can go silent without ever failing: the server lost its power, a firewall forgot the flow. The system
//! reports nothing, because nobody closes anything. So every statement has a deadline here. When one is missed, the
//! whole pool is replaced: its other connections led to the same place, and the driver's pool waits without a limit for
//! an answer on each connection that comes back to it.
//!
//! The pools of a process share this state. A silence that one of them meets replaces them all.

use std::{
    future::Future,
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::{DbErr, RuntimeErr, sqlx};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    ACQUIRE_TIMEOUT,
    fault::{ends_session, is_full, is_pool_timeout},
};

/// How long statements on replaced connections may still take: a healthy one is answered by then.
const LAST_CHANCE: Duration = Duration::from_secs(2);
/// Connections are replaced at most once in this time, however many statements fail.
const RENEW_PAUSE: Duration = Duration::from_secs(1);

/// Which generation of connections is in use, and how the present one is doing.
#[derive(Debug)]
pub(super) struct Sessions {
    /// How long a statement may take, the wait for a connection included. None: as long as it takes.
    patience: Option<Duration>,
    generation: watch::Sender<u64>,
    renewed: Mutex<Option<Instant>>,
    started: Instant,
    /// When a statement was last answered, in ms since `started`.
    answered: AtomicU64,
}

impl Sessions {
    pub(super) fn new(patience: Option<Duration>) -> Self {
        Self {
            patience,
            generation: watch::Sender::new(0),
            renewed: Mutex::new(None),
            started: Instant::now(),
            answered: AtomicU64::new(0),
        }
    }

    pub(super) fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// How long to wait for a free or a new connection. With the limit of a statement in the server it stays below the
    /// deadline here: only a server that is silent misses that one.
    pub(super) fn acquire_timeout(&self) -> Duration {
        self.patience
            .map_or(ACQUIRE_TIMEOUT, |patience| patience.mul_f32(0.3))
    }

    /// After how long the server itself ends a statement.
    pub(super) fn statement_timeout(&self) -> Option<Duration> {
        self.patience.map(|patience| patience.mul_f32(0.65))
    }

    /// After how long the server ends a session that leaves a transaction open without a word: one whose client went
    /// silent would keep its locks. It ends before a statement that waits for such a lock does.
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        self.patience.map(|patience| patience / 2)
    }

    pub(super) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Waits for a statement on a connection of `generation`, up to its deadline.
    pub(super) async fn within<T>(
        &self,
        generation: u64,
        statement: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        let Some(patience) = self.patience else {
            let result = statement.await;
            self.note(generation, result.as_ref().err());
            return result;
        };
        tokio::select! {
            biased;
            result = statement => {
                self.note(generation, result.as_ref().err());
                result
            }
            () = self.missed(generation, patience) => {
                self.renew(generation, "the database did not answer in time");
                Err(no_answer(patience))
            }
        }
    }

    /// Returns when a statement that begins now has missed its deadline. It comes earlier when the connections are
    /// replaced meanwhile.
    async fn missed(&self, generation: u64, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut generations = self.generation.subscribe();
        let replaced = generations.wait_for(|now| *now != generation);
        if timeout_at(deadline, replaced).await.is_ok() {
            sleep_until(deadline.min(Instant::now() + LAST_CHANCE)).await;
        }
    }

    /// Learns from the end of a statement.
    fn note(&self, generation: u64, error: Option<&DbErr>) {
        let now = self.started.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let Some(error) = error else {
            self.answered.store(now, Ordering::Relaxed);
            return;
        };
        if is_full(error) {
            self.renew(generation, "the disk of the database is full");
        } else if ends_session(error) {
            self.renew(generation, "the database refused the session");
        } else if is_pool_timeout(error) {
            let silence = now.saturating_sub(self.answered.load(Ordering::Relaxed));
            // No free connection, and none that was answered for a while: they are not busy, they are lost.
            if self
                .patience
                .is_some_and(|patience| u128::from(silence) > patience.as_millis())
            {
                self.renew(generation, "no connection to the database came free");
            }
        } else if !matches!(error, DbErr::Conn(_) | DbErr::ConnectionAcquire(_)) {
            self.answered.store(now, Ordering::Relaxed);
        }
    }

    /// Replaces the connections of `generation`, unless that has been done.
    pub(super) fn renew(&self, generation: u64, reason: &'static str) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let resting = renewed.is_some_and(|at| at.elapsed() < RENEW_PAUSE);
        if resting || self.generation() != generation {
            return;
        }
        *renewed = Some(Instant::now());
        tracing::warn!(reason, "replacing the database connections");
        self.generation.send_modify(|generation| *generation += 1);
    }
}

fn no_answer(patience: Duration) -> DbErr {
    let text = format!("no answer from the database in {} ms", patience.as_millis());
    let error = sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text));
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_statement_without_an_answer_ends_at_its_deadline_and_replaces_the_connections() {
        let sessions = Sessions::new(Some(PATIENCE));
        let begun = Instant::now();
        let result = sessions.within(0, pending::<Result<(), DbErr>>()).await;
        assert_eq!(
            result.unwrap_err().to_string(),
            "Connection Error: error communicating with database: no answer from the database in 10000 ms"
        );
        assert_eq!(begun.elapsed(), PATIENCE);
        assert_eq!(sessions.generation(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_on_one_connection_shortens_the_wait_on_the_others() {
        let sessions = Sessions::new(Some(PATIENCE));
        let (first, late) = (sessions.within(0, pending::<Result<(), DbErr>>()), async {
            sleep_until(Instant::now() + PATIENCE / 2).await;
            let begun = Instant::now();
            let lost = sessions.within(0, pending::<Result<(), DbErr>>()).await;
            (lost, begun.elapsed())
        });
        let (_, (lost, waited)) = tokio::join!(first, late);
        lost.unwrap_err();
        assert_eq!(waited, PATIENCE / 2 + LAST_CHANCE);
        assert_eq!(sessions.generation(), 1, "one silence is one replacement");
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_that_is_answered_shortly_after_the_replacement_is_not_cut_off() {
        let sessions = Sessions::new(Some(PATIENCE));
        let slow = async {
            sleep_until(Instant::now() + Duration::from_secs(3)).await;
            Ok(7)
        };
        let (answer, ()) = tokio::join!(sessions.within(0, slow), async {
            sleep_until(Instant::now() + Duration::from_secs(2)).await;
            sessions.renew(0, "a test");
        });
        assert_eq!(answer.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_never_come_back_are_replaced_once_nothing_else_is_answered() {
        let sessions = Sessions::new(Some(PATIENCE));
        let busy = || {
            let error = sqlx::Error::PoolTimedOut;
            DbErr::Conn(RuntimeErr::SqlxError(error.into()))
        };
        let full = |error| async { Err::<(), _>(error) };
        sessions.within(0, async { Ok(()) }).await.unwrap();
        sessions.within(0, full(busy())).await.unwrap_err();
        assert_eq!(sessions.generation(), 0, "busy is not lost");
        sleep_until(Instant::now() + PATIENCE * 2).await;
        sessions.within(0, full(busy())).await.unwrap_err();
        assert_eq!(sessions.generation(), 1);
    }
}
