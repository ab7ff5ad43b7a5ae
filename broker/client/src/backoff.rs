//! How long to wait before trying again. Pure: randomness comes in as an argument, except in [`random`].

use std::time::Duration;

/// Delays that double up to a limit, each drawn at random from the upper half of its range.
///
/// The first is drawn from all of its range: after a broker's restart ten thousand clients come back spread evenly,
/// and each within a moment.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Delays from zero to `first`, then doubling up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The delay after one more failure.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let ceiling = self.first.saturating_mul(1_u32 << self.failures.min(20)).min(self.longest);
        let floor = if self.failures == 0 { Duration::ZERO } else { ceiling / 2 };
        self.failures = self.failures.saturating_add(1);
        between(floor, ceiling, random)
    }

    /// Forgets the failures.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The duration that `random` picks out of a range.
pub(crate) fn between(shortest: Duration, longest: Duration, random: u64) -> Duration {
    let share = random as f64 / u64::MAX as f64;
    shortest + longest.saturating_sub(shortest).mul_f64(share)
}

/// A random number for jitter; the middle when the system has none to give.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(300);
    const LONGEST: Duration = Duration::from_mins(1);

    #[test]
    fn the_first_delay_is_anything_up_to_its_ceiling() {
        assert_eq!(Backoff::new(FIRST, LONGEST).next(0), Duration::ZERO);
        assert_eq!(Backoff::new(FIRST, LONGEST).next(u64::MAX), FIRST);
    }

    #[test]
    fn delays_double_up_to_the_longest_and_stay_there() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let ceilings: Vec<u128> = (0..40).map(|_| backoff.next(u64::MAX).as_millis()).collect();
        assert_eq!(ceilings[..4], [300, 600, 1200, 2400]);
        assert!(ceilings[8..].iter().all(|millis| *millis == 60_000), "{ceilings:?}");
    }

    #[test]
    fn later_delays_are_never_below_half_of_their_ceiling() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let floors: Vec<u128> = (0..4).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(floors, [0, 300, 600, 1200]);
    }

    #[test]
    fn a_reset_makes_the_next_delay_short_again() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        for _ in 0..10 {
            backoff.next(7);
        }
        backoff.reset();
        assert!(backoff.next(u64::MAX) <= FIRST);
    }
}
