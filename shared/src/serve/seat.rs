//! Which connections wait for their clients, since when and until when, so that a full house still has a seat for
//! whoever comes with a request.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// How long a client may take nothing of an answer that waits for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long clients may keep a connection waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the head of a request, or for anything at all on a new connection.
    pub(super) head: Duration,
    /// For the next request.
    pub(super) next: Duration,
}

/// The seats that wait for their clients. Who came to wait first leaves first.
#[derive(Debug, Default)]
pub(super) struct House(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    seats: BTreeMap<u64, Arc<Notify>>,
    last: u64,
    /// Somebody stands at the door: the next one that begins to wait leaves instead.
    wanted: bool,
}

impl House {
    /// Closes the connection that has waited for its client for longest, at once or as soon as there is one.
    pub(super) fn make_way(&self) {
        let mut waiting = lock(&self.0);
        match waiting.seats.pop_first() {
            Some((_, leave)) => leave.notify_one(),
            None => waiting.wanted = true,
        }
    }

    /// Nobody stands at the door any more.
    pub(super) fn no_hurry(&self) {
        lock(&self.0).wanted = false;
    }

    fn number(&self) -> u64 {
        let mut waiting = lock(&self.0);
        waiting.last += 1;
        waiting.last
    }

    fn wait(&self, number: u64, leave: &Arc<Notify>) {
        let mut waiting = lock(&self.0);
        if std::mem::take(&mut waiting.wanted) {
            leave.notify_one();
        } else {
            waiting.seats.insert(number, leave.clone());
        }
    }

    fn work(&self, number: u64) {
        lock(&self.0).seats.remove(&number);
    }
}

/// One connection.
#[derive(Debug)]
pub struct Seat {
    house: Arc<House>,
    patience: Patience,
    leave: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Its place among those that wait, which it keeps while one request comes in.
    number: u64,
    phase: Phase,
    /// The body of the request does not come.
    awaits_body: bool,
    /// When an answer that the client does not take is given up.
    write_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No request has begun.
    Idle(Instant),
    /// A request has begun and its head is not complete.
    Head(Instant),
    /// A request is at work, or its body is on its way, whose reader keeps the time.
    Request,
}

impl Seat {
    pub(super) fn new(house: Arc<House>, patience: Patience) -> Arc<Self> {
        let (number, leave) = (house.number(), Arc::new(Notify::new()));
        house.wait(number, &leave);
        let state = State {
            number,
            phase: Phase::Head(Instant::now() + patience.head),
            awaits_body: false,
            write_until: None,
        };
        Arc::new(Self {
            house,
            patience,
            leave,
            state: Mutex::new(state),
        })
    }

    /// The body of the request does not come: until [`Seat::body_came`] somebody else may have the seat.
    pub fn awaits_body(&self) {
        let mut state = lock(&self.state);
        if !state.awaits_body {
            state.awaits_body = true;
            self.house.wait(state.number, &self.leave);
        }
    }

    /// A part of the body has come, or nobody waits for it any more.
    pub fn body_came(&self) {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.awaits_body) {
            self.house.work(state.number);
        }
    }

    /// Completes when somebody else gets the seat.
    pub(super) async fn left(&self) {
        loop {
            self.leave.notified().await;
            let state = lock(&self.state);
            if state.phase != Phase::Request || state.awaits_body {
                return;
            }
            // Its request has come in the meantime: let it be another.
            self.house.make_way();
        }
    }

    /// Until when the client may keep it waiting; nothing while it is at work.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = lock(&self.state);
        let waits = match state.phase {
            Phase::Idle(until) | Phase::Head(until) => Some(until),
            Phase::Request => None,
        };
        [waits, state.write_until].into_iter().flatten().min()
    }

    /// The head of a request is complete.
    pub(super) fn requested(&self) {
        let mut state = lock(&self.state);
        state.phase = Phase::Request;
        self.house.work(state.number);
    }

    /// The answer is complete, or given up.
    pub(super) fn answered(&self) {
        let mut state = lock(&self.state);
        state.phase = Phase::Idle(Instant::now() + self.patience.next);
        state.awaits_body = false;
        self.house.work(state.number);
        state.number = self.house.number();
        self.house.wait(state.number, &self.leave);
    }

    /// Bytes have come in.
    pub(super) fn read(&self) {
        let mut state = lock(&self.state);
        if let Phase::Idle(_) = state.phase {
            state.phase = Phase::Head(Instant::now() + self.patience.head);
        }
    }

    /// Bytes have gone out.
    pub(super) fn written(&self) {
        let mut state = lock(&self.state);
        state.write_until = None;
        if let Phase::Idle(until) = &mut state.phase {
            *until = Instant::now() + self.patience.next;
        }
    }

    /// Bytes cannot go out.
    pub(super) fn stalled(&self) {
        let mut state = lock(&self.state);
        let until = || Instant::now() + WRITE_TIMEOUT;
        state.write_until.get_or_insert_with(until);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.house.work(lock(&self.state).number);
    }
}

/// Nothing panics while it holds one of these locks; if it did, what they guard would still be right.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(10),
        next: Duration::from_secs(75),
    };

    fn has_to_leave(seat: &Seat) -> bool {
        seat.left().now_or_never().is_some()
    }

    #[test]
    fn who_came_to_wait_first_leaves_first_and_who_works_stays() {
        let house = Arc::new(House::default());
        let [a, b, c] = std::array::from_fn(|_| Seat::new(house.clone(), PATIENCE));
        a.requested();
        house.make_way();
        assert_eq!(
            [&a, &b, &c].map(|seat| has_to_leave(seat)),
            [false, true, false]
        );
        a.answered();
        house.make_way();
        assert_eq!([&a, &c].map(|seat| has_to_leave(seat)), [false, true]);
    }

    #[test]
    fn when_all_work_the_first_that_waits_again_leaves() {
        let house = Arc::new(House::default());
        let [a, b] = std::array::from_fn(|_| Seat::new(house.clone(), PATIENCE));
        a.requested();
        b.requested();
        house.make_way();
        b.awaits_body();
        a.answered();
        assert_eq!([&a, &b].map(|seat| has_to_leave(seat)), [false, true]);
    }

    #[test]
    fn a_body_in_small_parts_makes_its_connection_no_younger() {
        let house = Arc::new(House::default());
        let [slow, other] = std::array::from_fn(|_| Seat::new(house.clone(), PATIENCE));
        slow.requested();
        slow.awaits_body();
        slow.body_came();
        slow.awaits_body();
        house.make_way();
        assert_eq!(
            [&slow, &other].map(|seat| has_to_leave(seat)),
            [true, false]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_for_a_head_begins_with_its_first_byte_and_no_byte_prolongs_it() {
        let seat = Seat::new(Arc::default(), PATIENCE);
        let came = Instant::now();
        seat.read();
        tokio::time::advance(Duration::from_secs(5)).await;
        seat.read();
        assert_eq!(seat.deadline(), Some(came + PATIENCE.head));
        seat.requested();
        assert_eq!(seat.deadline(), None);
        seat.answered();
        let idle = Instant::now();
        assert_eq!(seat.deadline(), Some(idle + PATIENCE.next));
        tokio::time::advance(Duration::from_secs(70)).await;
        seat.read();
        assert_eq!(seat.deadline(), Some(Instant::now() + PATIENCE.head));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
        let seat = Seat::new(Arc::default(), PATIENCE);
        seat.requested();
        seat.stalled();
        let until = seat.deadline();
        tokio::time::advance(Duration::from_secs(5)).await;
        seat.stalled();
        assert_eq!((seat.deadline(), until.is_some()), (until, true));
        seat.written();
        assert_eq!(seat.deadline(), None);
    }
}
