//! Group commit: items that arrive at the same time from many tasks share one call of a batch function, so that one
//! database round trip serves them all.
//!
//! The first item of a quiet moment goes out alone and at once; while its call runs, later items gather and go out
//! together as the next batch. No item waits for a timer.
//!
//! Batches follow one another, so a call that never returned would hold up every item after it. Each call has a limit.

use std::{fmt, future::Future, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// A handle through which tasks hand in items. Clones share one queue.
pub struct Batcher<T, R> {
    items: mpsc::Sender<(T, oneshot::Sender<R>)>,
}

/// The batch function was cut off before it answered: it took longer than its limit, or panicked.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the batch ended before this item was answered")]
pub struct BatchLost;

impl<T: Send + 'static, R: Send + 'static> Batcher<T, R> {
    /// Starts the task that runs `work` on up to `max` items at a time, for up to `limit`. `work` answers each item, in the
    /// order given. At most `4 × max` items wait; beyond that [`Batcher::call`] waits for room, which is the back-pressure.
    ///
    /// The waits inside `work` have deadlines of their own; `limit` is for the case that one of them has not.
    pub fn start<F, W>(max: usize, limit: Duration, mut work: F) -> Self
    where
        F: FnMut(Vec<T>) -> W + Send + 'static,
        W: Future<Output = Vec<R>> + Send + 'static,
    {
        let (items, mut inbox) = mpsc::channel::<(T, oneshot::Sender<R>)>(max * 4);
        tokio::spawn(async move {
            let mut waiting = Vec::with_capacity(max);
            while inbox.recv_many(&mut waiting, max).await > 0 {
                let (batch, replies): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
                // A task of its own, so that a panic costs one batch and not every batch after it.
                let mut call = tokio::spawn(work(batch));
                let Ok(ended) = timeout(limit, &mut call).await else {
                    call.abort();
                    tracing::error!(?limit, "a batch took too long and was cut off");
                    continue;
                };
                match ended {
                    Ok(answers) => {
                        for (reply, answer) in replies.into_iter().zip(answers) {
                            // A caller that went away does not need its answer.
                            let _ = reply.send(answer);
                        }
                    }
                    Err(error) => tracing::error!(%error, "a batch ended unexpectedly"),
                }
            }
        });
        Self { items }
    }

    /// Hands in one item and waits for its answer.
    ///
    /// # Errors
    /// [`BatchLost`] when the batch task is gone; the item may or may not have been worked on.
    pub async fn call(&self, item: T) -> Result<R, BatchLost> {
        let (reply, answer) = oneshot::channel();
        self.items
            .send((item, reply))
            .await
            .map_err(|_| BatchLost)?;
        answer.await.map_err(|_| BatchLost)
    }
}

impl<T, R> Clone for Batcher<T, R> {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
        }
    }
}

impl<T, R> fmt::Debug for Batcher<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn items_that_arrive_together_share_a_call_and_each_gets_its_own_answer() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let gate = Arc::new(Semaphore::new(0));
        let (seen, door) = (sizes.clone(), gate.clone());
        let batcher = Batcher::start(64, LIMIT, move |items: Vec<u32>| {
            let (seen, door) = (seen.clone(), door.clone());
            async move {
                seen.lock().unwrap().push(items.len());
                door.acquire().await.unwrap().forget();
                items.into_iter().map(|item| item * 2).collect()
            }
        });
        gate.add_permits(10);
        let answers = join_all((0..100).map(|item| batcher.call(item))).await;
        let answers: Vec<u32> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (0..100).map(|item| item * 2).collect::<Vec<_>>());
        let sizes = sizes.lock().unwrap();
        assert_eq!(sizes.iter().sum::<usize>(), 100);
        assert!(
            sizes.len() <= 10 && sizes.iter().all(|size| *size <= 64),
            "{sizes:?}"
        );
    }

    #[tokio::test]
    async fn a_batch_that_panics_is_lost_and_the_next_one_is_not() {
        let batcher = Batcher::start(8, LIMIT, |items: Vec<u32>| async move {
            assert!(items.iter().all(|item| *item > 0), "zero");
            items
        });
        assert!(batcher.call(0).await.is_err());
        assert_eq!(batcher.call(1).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_never_ends_holds_up_the_next_one_only_for_its_limit() {
        let batcher = Batcher::start(8, LIMIT, |items: Vec<u32>| async move {
            if items.contains(&0) {
                std::future::pending::<()>().await;
            }
            items
        });
        assert!(batcher.call(0).await.is_err());
        assert_eq!(batcher.call(1).await.unwrap(), 1);
    }
}
