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

/// What a controller knows of the lease. It works while the bus shows a lease of its own, and no longer: whoever is cut off
/// cannot renew it, hears nothing of the nodes, and must not take their silence for theirs.
#[derive(Debug)]
pub(super) struct Terms {
    fleet: FleetId,
    own: PublicKey,
    epoch: Option<u64>,
    said_ms: Option<u64>,
}

impl Terms {
    pub(super) fn new(fleet: FleetId, own: PublicKey) -> Self {
        Self { fleet, own, epoch: None, said_ms: None }
    }

    /// The term in which this controller works; nothing while another one does, or none.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// What is to be published, `there` being the lease on the bus.
    pub(super) fn look(&mut self, there: Option<&Lease>, now: Now) -> Option<Lease> {
        let own = there.filter(|there| there.key == self.own);
        self.epoch = own.filter(|own| now.wall <= own.until).map(|own| own.epoch);
        if self.said_ms.is_some_and(|said_ms| now.mono_ms.saturating_sub(said_ms) < RENEW_MS) {
            return None;
        }
        let epoch = match there {
            None => 1,
            Some(there) if there.key == self.own => there.epoch,
            Some(there) if now.wall > there.until.plus_secs(SLACK_SECS) => there.epoch.saturating_add(1),
            // A clock that was wrong once must not keep everybody out for ever.
            Some(there) if there.until > now.wall.plus_secs(TERM_SECS + 2 * SLACK_SECS) => {
                there.epoch.saturating_add(1)
            }
            Some(_) => return None,
        };
        self.said_ms = Some(now.mono_ms);
        let head = Head::new(self.fleet.clone(), now.wall);
        Some(Lease { head, key: self.own, epoch, until: now.wall.plus_secs(TERM_SECS) })
    }
}

#[cfg(test)]
mod tests {
    use schemas::{seal::SecretKey, time::UnixTime};

    use super::*;

    fn terms(n: u8) -> Terms {
        Terms::new("home".parse().unwrap(), SecretKey::from_seed(&[n; 32]).public())
    }

    fn at(secs: u64) -> Now {
        Now { mono_ms: secs * 1_000, wall: UnixTime(1_000_000 + secs) }
    }

    #[test]
    fn it_works_once_the_bus_shows_its_lease_and_renews_that_again_and_again() {
        let mut terms = terms(1);
        let lease = terms.look(None, at(1)).unwrap();
        assert_eq!((lease.epoch, lease.until, terms.epoch()), (1, UnixTime(1_000_021), None));
        assert_eq!((terms.look(Some(&lease), at(7)), terms.epoch()), (None, Some(1)));
        assert_eq!(terms.look(Some(&lease), at(8)).unwrap().until, UnixTime(1_000_028));
    }

    #[test]
    fn another_one_waits_until_the_term_is_over_and_then_begins_a_new_one() {
        let (mut first, mut second) = (terms(1), terms(2));
        let lease = first.look(None, at(0)).unwrap();
        assert_eq!((second.look(Some(&lease), at(30)), second.epoch()), (None, None));
        let next = second.look(Some(&lease), at(31)).unwrap();
        second.look(Some(&next), at(32));
        assert_eq!((next.epoch, second.epoch()), (2, Some(2)));
        // The first one was only asleep.
        assert_eq!((first.look(Some(&next), at(32)), first.epoch()), (None, None));
    }

    #[test]
    fn who_is_cut_off_stops_working_and_goes_on_when_its_lease_gets_through() {
        let mut terms = terms(1);
        let lease = terms.look(None, at(0)).unwrap();
        terms.look(Some(&lease), at(1));
        assert_eq!(terms.epoch(), Some(1));
        let unheard = terms.look(Some(&lease), at(21)).unwrap();
        assert_eq!(terms.epoch(), None);
        terms.look(Some(&unheard), at(22));
        assert_eq!((unheard.epoch, terms.epoch()), (1, Some(1)));
    }

    #[test]
    fn of_two_that_begin_at_once_the_one_works_whose_lease_is_on_the_bus() {
        let (mut one, mut two) = (terms(1), terms(2));
        let (_, last) = (one.look(None, at(0)).unwrap(), two.look(None, at(0)).unwrap());
        one.look(Some(&last), at(1));
        two.look(Some(&last), at(1));
        assert_eq!((one.epoch(), two.epoch()), (None, Some(1)));
    }

    #[test]
    fn a_lease_from_the_far_future_counts_for_nothing() {
        let lease = Lease { until: UnixTime(u64::MAX), ..terms(1).look(None, at(0)).unwrap() };
        assert_eq!(terms(2).look(Some(&lease), at(1)).unwrap().epoch, 2);
    }
}
