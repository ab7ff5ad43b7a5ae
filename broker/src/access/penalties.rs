//! Failed log-ins are slowed down by where they come from: each costs the guesser a little more time.
//!
//! Only the answer to a wrong password waits. Whoever knows the right one is let in at once, so that a fleet behind one
//! address goes on when one of its devices has an old password.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::places::network;

/// So many mistakes cost nothing: people mistype.
const FREE: u32 = 3;
/// What the next one costs; each after it twice as much.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The most that one costs: less than the time that a client has for its CONNECT.
const MAX_DELAY: Duration = Duration::from_secs(3);
/// After so long without another one, all is forgotten.
const MEMORY: Duration = Duration::from_mins(10);
/// How many may wait at a time from one place.
const MAX_WAITING: u32 = 16;
/// How many places are kept in mind.
const MAX_PLACES: usize = 10_000;

/// Who failed how often.
#[derive(Debug, Default)]
pub(super) struct Penalties(Mutex<HashMap<IpAddr, Failures>>);

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
    waiting: u32,
}

impl Failures {
    fn none() -> Self {
        Self { count: 0, last: Instant::now(), waiting: 0 }
    }
}

impl Penalties {
    /// A password that takes time is to be checked; `None` when so many wait from this place, for that or for the answer
    /// to a failure, that no more are.
    pub(super) fn attempt(&self, from: IpAddr) -> Option<Waiting<'_>> {
        let place = network(from);
        let mut places = self.lock();
        let failures = places.entry(place).or_insert(Failures::none());
        if failures.waiting >= MAX_WAITING {
            return None;
        }
        failures.waiting += 1;
        Some(Waiting { penalties: self, place })
    }

    /// Counts a failure, and waits for what it costs. Beyond the number that may wait, the answer comes at once: their
    /// passwords were tokens, which nobody guesses.
    pub(super) async fn fail(&self, from: IpAddr) {
        let place = network(from);
        let delay = self.count(place);
        if delay.is_zero() {
            return;
        }
        let _waiting = Waiting { penalties: self, place };
        sleep(delay).await;
    }

    /// Counts, and gives how long to wait; if so, one more waits.
    fn count(&self, place: IpAddr) -> Duration {
        let now = Instant::now();
        let mut places = self.lock();
        if places.len() >= MAX_PLACES && !places.contains_key(&place) {
            let is_fresh = |failures: &Failures| failures.last + MEMORY > now || failures.waiting > 0;
            places.retain(|_, failures| is_fresh(failures));
            if places.len() >= MAX_PLACES {
                // More places than a fleet has: an attack, in which a failure costs the same for all.
                return MAX_DELAY / 2;
            }
        }
        let failures = places.entry(place).or_insert(Failures::none());
        if failures.last + MEMORY <= now {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        if failures.count <= FREE || failures.waiting >= MAX_WAITING {
            return Duration::ZERO;
        }
        failures.waiting += 1;
        let doublings = (failures.count - FREE - 1).min(10);
        (FIRST_DELAY * 2_u32.pow(doublings)).min(MAX_DELAY)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Failures>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits, until it does not, however that comes.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    penalties: &'a Penalties,
    place: IpAddr,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut places = self.penalties.lock();
        let Some(failures) = places.get_mut(&self.place) else { return };
        failures.waiting = failures.waiting.saturating_sub(1);
        if failures.waiting == 0 && failures.count == 0 {
            places.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_failure_costs_more_up_to_a_limit_and_is_forgotten() {
        let (penalties, address) = (Penalties::default(), IpAddr::from([10, 0, 0, 1]));
        let mut costs = Vec::new();
        for _ in 0..10 {
            let begin = Instant::now();
            penalties.fail(address).await;
            costs.push(begin.elapsed().as_millis());
        }
        // Timers have a grain of one millisecond.
        let expected = [0, 0, 0, 100, 200, 400, 800, 1600, 3000, 3000];
        assert!(costs.iter().zip(expected).all(|(cost, expected)| cost.abs_diff(expected) <= 1), "{costs:?}");
        let begin = Instant::now();
        penalties.fail(IpAddr::from([10, 0, 0, 2])).await;
        tokio::time::advance(MEMORY).await;
        penalties.fail(address).await;
        assert_eq!(begin.elapsed(), MEMORY);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_wait_and_no_more() {
        let (penalties, address) = (Arc::new(Penalties::default()), IpAddr::from([10, 0, 0, 1]));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let penalties = Arc::clone(&penalties);
                tokio::spawn(async move { penalties.fail(address).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let other = IpAddr::from([10, 0, 0, 2]);
        assert!(penalties.attempt(address).is_none() && penalties.attempt(other).is_some());
        for task in tasks {
            task.await.unwrap();
        }
        let attempts: Vec<_> = std::iter::from_fn(|| penalties.attempt(address)).collect();
        assert_eq!(attempts.len(), MAX_WAITING as usize);
        drop(attempts);
        assert!(penalties.attempt(address).is_some() && !penalties.lock().contains_key(&other));
    }
}
