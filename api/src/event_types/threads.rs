//! The threads that schemas are compiled and larger payloads are checked on, apart from those that answer requests.
//!
//! Tenants take turns, and each has one piece of work running at most: while one tenant's checks cost as much as they
//! may, another tenant waits for the piece that is running and not for those that wait. The threads run at a lower
//! priority than those that answer requests, and on a stack that the deepest check fits.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use relaypost_shared::ids::TenantId;
use tokio::sync::oneshot;

/// How many threads there are, so that many tenants get their work done at once.
const THREADS: usize = 2;
/// Bytes of their stacks, and what a check may use of it; memory is taken only as far as it is used.
const STACK: usize = 32 << 20;
pub(super) const STACK_OF_CHECK: usize = 24 << 20;
/// How much lower their priority is. On Linux it holds for one thread alone.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// How many pieces of work of one tenant wait at most.
const WAITING: usize = 64;

type Work = Box<dyn FnOnce() + Send>;

/// The threads. Clones share them; they end with the last one.
#[derive(Clone, Debug)]
pub(super) struct Threads(Arc<Owner>);

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undone {
    /// Too much of this tenant's work waits already.
    Busy,
    /// It panicked.
    Failed,
}

#[derive(Debug)]
struct Owner(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: HashMap<TenantId, VecDeque<Work>>,
    /// Tenants whose work is running.
    running: HashSet<TenantId>,
    /// Tenants with work that waits and none that runs, in the order of their turns.
    turns: VecDeque<TenantId>,
    closed: bool,
}

impl Threads {
    /// Starts the threads.
    #[expect(clippy::expect_used, reason = "start-up")]
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        for _ in 0..THREADS {
            let shared = shared.clone();
            thread::Builder::new()
                .name("schema-checks".to_owned())
                .stack_size(STACK)
                .spawn(move || shared.work())
                .expect("a thread can be started");
        }
        Self(Arc::new(Owner(shared)))
    }

    /// Does work of a tenant when its turn comes. Work that nobody waits for any more is not begun.
    ///
    /// # Errors
    /// When it was not done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        tenant: TenantId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Undone> {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move || {
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        });
        self.0.0.add(tenant, work)?;
        answered.await.map_err(|_| Undone::Failed)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.more.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, tenant: TenantId, work: Work) -> Result<(), Undone> {
        let mut queue = self.queue();
        let waiting = queue.waiting.entry(tenant).or_default();
        if waiting.len() >= WAITING {
            return Err(Undone::Busy);
        }
        waiting.push_back(work);
        if waiting.len() == 1 && !queue.running.contains(&tenant) {
            queue.turns.push_back(tenant);
            self.more.notify_one();
        }
        Ok(())
    }

    fn work(&self) {
        // Where it is refused the checks run at the usual priority.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICE);
        while let Some((tenant, work)) = self.next() {
            // One that panics answers nobody, which is what tells the one that waits; the hook has logged it.
            let _ = catch_unwind(AssertUnwindSafe(work));
            self.done(tenant);
        }
    }

    /// The next piece of work; nothing when no more will come.
    fn next(&self) -> Option<(TenantId, Work)> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(tenant) = queue.turns.pop_front() {
                let work = queue.waiting.get_mut(&tenant)?.pop_front()?;
                queue.running.insert(tenant);
                return Some((tenant, work));
            }
            queue = self
                .more
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, tenant: TenantId) {
        let mut queue = self.queue();
        queue.running.remove(&tenant);
        if queue.waiting.get(&tenant).is_some_and(VecDeque::is_empty) {
            queue.waiting.remove(&tenant);
        } else {
            queue.turns.push_back(tenant);
            self.more.notify_one();
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("turns", &self.turns.len())
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::future::join_all;
    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn a_tenant_has_one_piece_of_work_running_and_a_bounded_number_waiting() {
        let threads = Threads::start();
        let (busy, other) = (tenant(1), tenant(2));
        let (go_on, held) = mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let first = tokio::spawn({
            let threads = threads.clone();
            async move {
                let work = move || {
                    let _ = begun.send(());
                    let _ = held.recv();
                };
                threads.run(busy, work).await
            }
        });
        begins.await.unwrap();
        // There is a second thread, but not for the same tenant.
        let mut waiting: Vec<_> = (0..WAITING)
            .map(|number| Box::pin(threads.run(busy, move || number)))
            .collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        assert_eq!(threads.run(busy, || ()).await, Err(Undone::Busy));
        assert_eq!(threads.run(other, || 7).await, Ok(7));
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        go_on.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(()));
        let done = join_all(waiting).await;
        assert!(done.into_iter().eq((0..WAITING).map(Ok)));
    }

    #[tokio::test]
    async fn work_that_panics_is_told_and_the_thread_goes_on() {
        let threads = Threads::start();
        for _ in 0..2 * THREADS {
            let failed: Result<(), _> = threads.run(tenant(1), || panic!("on purpose")).await;
            assert_eq!(failed, Err(Undone::Failed));
        }
        assert_eq!(threads.run(tenant(1), || 1).await, Ok(1));
    }
}
