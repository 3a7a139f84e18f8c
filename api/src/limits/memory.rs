//! Limits of this process alone.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::{Claim, gcra::Level};

/// Limits in use at most. An unused one takes no room: it is as good as one that never was.
const MOST: usize = 100_000;
/// With fewer than this there is nothing to tidy up.
const FEW: usize = 1_024;

/// The arrival time (µs since 1970) of each limit in use.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    arrivals: HashMap<String, u64>,
    /// With how many it is tidied up next.
    tidy_at: usize,
}

impl Memory {
    /// Takes from every limit, or from none of them when one is used up. `now` is in µs since 1970.
    pub(super) fn claim(&self, claims: &[Claim], now: u64) -> Vec<Level> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reckoned: Vec<_> = claims
            .iter()
            .map(|claim| {
                let arrival = table.arrivals.get(&claim.key).copied().unwrap_or(0);
                claim.pace.reckon(arrival, now, claim.cost, claim.paid)
            })
            .collect();
        let refused = reckoned.iter().any(|limit| limit.wait > 0);
        let mut levels = Vec::with_capacity(claims.len());
        for (claim, limit) in claims.iter().zip(reckoned) {
            let arrival = if refused { limit.kept } else { limit.taken };
            table.put(&claim.key, arrival, now);
            levels.push(Level {
                ahead: arrival - now,
                wait: limit.wait,
            });
        }
        levels
    }
}

impl Table {
    fn put(&mut self, key: &str, arrival: u64, now: u64) {
        if arrival <= now {
            self.arrivals.remove(key);
        } else if let Some(known) = self.arrivals.get_mut(key) {
            *known = arrival;
        } else {
            if self.arrivals.len() >= self.tidy_at.max(FEW) {
                self.tidy(now);
            }
            self.arrivals.insert(key.to_owned(), arrival);
        }
    }

    /// Drops what is unused again and, if that does not make room, the half that is nearest to it: those who have come
    /// most often, whom the limits are about, stay.
    fn tidy(&mut self, now: u64) {
        self.arrivals.retain(|_, arrival| *arrival > now);
        if self.arrivals.len() >= MOST {
            let mut all: Vec<u64> = self.arrivals.values().copied().collect();
            let (_, middle, _) = all.select_nth_unstable(MOST / 2);
            let middle = *middle;
            self.arrivals.retain(|_, arrival| *arrival > middle);
        }
        self.tidy_at = (self.arrivals.len() * 2).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Kind, gcra::Pace};

    const NOW: u64 = 1_000_000_000;

    fn claim(key: String, cost: u32) -> Claim {
        Claim {
            kind: Kind::SignIn,
            pace: Pace {
                step: 1_000_000,
                burst: 10,
            },
            key,
            cost,
            paid: 0,
        }
    }

    #[test]
    fn ever_new_addresses_take_a_bounded_room_and_drive_out_nobody_who_is_held_up() {
        let memory = Memory::default();
        memory.claim(&[claim("greedy".to_owned(), 10)], NOW);
        for n in 0..3 * MOST {
            memory.claim(&[claim(n.to_string(), 1)], NOW);
        }
        assert!(memory.0.lock().unwrap().arrivals.len() <= MOST);
        assert!(memory.claim(&[claim("greedy".to_owned(), 1)], NOW)[0].wait > 0);
        // A minute later nobody is held up, and the next one to come finds room.
        for n in 0..=2 * FEW {
            memory.claim(&[claim(n.to_string(), 1)], NOW + 60_000_000);
        }
        let left = memory.0.lock().unwrap().arrivals.len();
        assert!(left <= MOST, "{left}");
    }

    #[test]
    fn a_limit_that_is_unused_again_leaves_nothing_behind() {
        let memory = Memory::default();
        for second in 0..10_u64 {
            for n in 0..FEW {
                let key = format!("{second} {n}");
                memory.claim(&[claim(key, 1)], NOW + second * 2_000_000);
            }
        }
        let left = memory.0.lock().unwrap().arrivals.len();
        assert!(left <= 2 * FEW, "{left}");
    }
}
