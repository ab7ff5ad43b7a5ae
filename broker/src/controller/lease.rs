//! Which of several controllers works: the one that holds the lease. Pure: leases and the time in, a lease to publish out.

use rollout::course::Now;
use schemas::{
    id::{FleetId, PublicKey},
    rollout::Lease,
    seal::Head,
};

/// Nobody else works for so long after it was renewed.
const TERM_SECS: u64 = 20;
/// It is renewed after so long.
const RENEW_MS: u64 = 7_000;
/// The clocks of two controllers may differ so much.
const SLACK_SECS: u64 = 10;

/// What a controller knows of the lease.
#[derive(Debug)]
pub(super) struct Terms {
    fleet: FleetId,
    own: PublicKey,
    /// The term in which it works.
    epoch: Option<u64>,
    renewed_ms: u64,
}

impl Terms {
    pub(super) fn new(fleet: FleetId, own: PublicKey) -> Self {
        Self { fleet, own, epoch: None, renewed_ms: 0 }
    }

    /// The term in which this controller works; nothing while another one does.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// What is to be published, `there` being the lease on the bus.
    pub(super) fn look(&mut self, there: Option<&Lease>, now: Now) -> Option<Lease> {
        let epoch = match (self.epoch, there) {
            // Of two that began at once, the later term counts, and of equal ones the lower key.
            (Some(own), Some(there)) if there.key != self.own && rank(there) > (own, !id(&self.own)) => {
                self.epoch = None;
                return None;
            }
            (Some(_), _) if now.mono_ms.saturating_sub(self.renewed_ms) < RENEW_MS => return None,
            (Some(own), _) => own,
            (None, None) => 1,
            (None, Some(there)) if there.key == self.own => there.epoch,
            (None, Some(there)) if now.wall > there.until.plus_secs(SLACK_SECS) => {
                there.epoch.saturating_add(1)
            }
            // A clock that was wrong once must not keep everybody out for ever.
            (None, Some(there)) if there.until > now.wall.plus_secs(TERM_SECS + 2 * SLACK_SECS) => {
                there.epoch.saturating_add(1)
            }
            (None, Some(_)) => return None,
        };
        self.epoch = Some(epoch);
        self.renewed_ms = now.mono_ms;
        let head = Head::new(self.fleet.clone(), now.wall);
        Some(Lease { head, key: self.own, epoch, until: now.wall.plus_secs(TERM_SECS) })
    }
}

fn rank(lease: &Lease) -> (u64, u64) {
    (lease.epoch, !id(&lease.key))
}

fn id(key: &PublicKey) -> u64 {
    u64::from_be_bytes(key.id().0)
}

#[cfg(test)]
mod tests {
    use schemas::{seal::SecretKey, time::UnixTime};

    use super::*;

    fn key(n: u8) -> PublicKey {
        SecretKey::from_seed(&[n; 32]).public()
    }

    fn terms(n: u8) -> Terms {
        Terms::new("home".parse().unwrap(), key(n))
    }

    fn at(secs: u64) -> Now {
        Now { mono_ms: secs * 1_000, wall: UnixTime(1_000_000 + secs) }
    }

    #[test]
    fn the_first_one_works_and_says_so_again_and_again() {
        let mut terms = terms(1);
        let lease = terms.look(None, at(1)).unwrap();
        assert_eq!((lease.epoch, lease.until, terms.epoch()), (1, UnixTime(1_000_021), Some(1)));
        assert_eq!(terms.look(Some(&lease), at(7)), None);
        assert_eq!(terms.look(Some(&lease), at(8)).unwrap().until, UnixTime(1_000_028));
    }

    #[test]
    fn another_one_waits_until_the_term_is_over_and_then_begins_a_new_one() {
        let (mut first, mut second) = (terms(1), terms(2));
        let lease = first.look(None, at(0)).unwrap();
        assert_eq!((second.look(Some(&lease), at(30)), second.epoch()), (None, None));
        let next = second.look(Some(&lease), at(31)).unwrap();
        assert_eq!((next.epoch, second.epoch()), (2, Some(2)));
        // The first one was only asleep.
        assert_eq!((first.look(Some(&next), at(32)), first.epoch()), (None, None));
    }

    #[test]
    fn who_was_started_again_goes_on_with_its_term() {
        let lease = terms(1).look(None, at(0)).unwrap();
        let mut again = terms(1);
        assert_eq!(again.look(Some(&lease), at(3)).unwrap().epoch, 1);
    }

    #[test]
    fn of_two_that_begin_at_once_one_gives_way() {
        let (mut one, mut two) = (terms(1), terms(2));
        let (of_one, of_two) = (one.look(None, at(0)).unwrap(), two.look(None, at(0)).unwrap());
        one.look(Some(&of_two), at(1));
        two.look(Some(&of_one), at(1));
        assert!(one.epoch().is_some() != two.epoch().is_some());
    }

    #[test]
    fn a_lease_from_the_far_future_counts_for_nothing() {
        let lease = Lease { until: UnixTime(u64::MAX), ..terms(1).look(None, at(0)).unwrap() };
        assert_eq!(terms(2).look(Some(&lease), at(1)).unwrap().epoch, 2);
    }
}
