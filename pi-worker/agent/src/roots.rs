//! Whom the node believes: the root document that it was given, and those that followed it over the bus.

use machine::Keys;
use schemas::{
    root::{Role, Root, RootChain, RootError, Trust},
    seal::{RoleDocument, SealError, Signed, Verified},
};

/// Root documents that follow each other; the last one counts.
#[derive(Debug)]
pub(crate) struct Roots {
    first: Trust,
    /// What followed, each verified by the one before.
    followed: Vec<(Trust, Signed<Root>)>,
}

impl Roots {
    /// Begins with the root that the node was given, and goes on with `remembered` ones as far as they follow it. Those
    /// that it has overtaken, because a person has put a newer one in its place, are passed over.
    pub(crate) fn new(first: Trust, remembered: &[Signed<Root>]) -> Self {
        let mut roots = Self { first, followed: Vec::new() };
        for signed in remembered {
            if let Ok(next) = roots.current().next(signed) {
                roots.followed.push((next, signed.clone()));
            }
        }
        roots
    }

    /// The keys that count.
    pub(crate) fn current(&self) -> &Trust {
        self.followed.last().map_or(&self.first, |(trust, _)| trust)
    }

    /// What followed, to be remembered.
    pub(crate) fn followed(&self) -> impl Iterator<Item = &Signed<Root>> {
        self.followed.iter().map(|(_, signed)| signed)
    }

    /// Follows a chain as far as it can be; whether that was anywhere.
    ///
    /// # Errors
    /// When the chain cannot be followed to its end. What could be followed before counts.
    pub(crate) fn follow(&mut self, chain: &RootChain) -> Result<bool, RootError> {
        let mut is_newer = false;
        while let Some(next) = self.current().follow(chain)? {
            self.followed.push(next);
            is_newer = true;
        }
        Ok(is_newer)
    }

    /// Verifies a document of the node's own disk, which was accepted in the time of any of these roots; and in whose.
    ///
    /// # Errors
    /// When it verifies by none of them, as it does by the last.
    pub(crate) fn verify<T: RoleDocument>(
        &self,
        signed: &Signed<T>,
    ) -> Result<(Verified<T>, u64), SealError> {
        let by = |trust: &Trust| signed.verify(trust).map(|document| (document, trust.version()));
        let newest = by(self.current());
        newest.or_else(|error| self.all().rev().skip(1).find_map(|trust| by(trust).ok()).ok_or(error))
    }

    /// The last root with which the counters of `role` are forgotten; 0 for none.
    pub(crate) fn reset_of(&self, role: Role) -> u64 {
        let resets = self.all().filter(|trust| trust.reset().contains(&role));
        resets.map(Trust::version).max().unwrap_or_default()
    }

    /// What the machines must know of it.
    pub(crate) fn keys(&self) -> Keys {
        let current = self.current();
        Keys {
            root: current.version(),
            expires: current.expires(),
            orders_reset: self.reset_of(Role::Ops),
            floor_reset: self.reset_of(Role::Release),
        }
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = &Trust> {
        std::iter::once(&self.first).chain(self.followed.iter().map(|(trust, _)| trust))
    }
}

#[cfg(test)]
mod tests {
    use schemas::{reason::Reason, record::Record, seal::Signed};

    use super::*;
    use crate::testing::{self, Home};

    #[test]
    fn follows_over_the_bus_and_again_after_a_restart() {
        let mut roots = Roots::new(first(), &[]);
        let chain = RootChain::new(1, testing::roots(4, &[]));
        assert!(roots.follow(&chain).unwrap());
        assert!(!roots.follow(&chain).unwrap());
        assert_eq!(roots.current().version(), 4);
        let remembered: Vec<_> = roots.followed().cloned().collect();
        assert_eq!(Roots::new(first(), &remembered).current().version(), 4);
        // A person puts a newer root in the place of the first: what it overtook is passed over.
        let third = Trust::first(&testing::roots(3, &[])[2]).unwrap();
        let again = Roots::new(third, &remembered);
        assert_eq!((again.current().version(), again.followed().count()), (4, 1));
    }

    #[test]
    fn what_could_be_followed_counts_when_the_rest_is_forged() {
        let mut documents = testing::roots(3, &[]);
        documents[2] = Signed::seal(&documents_of_a_stranger(), &[testing::node_key()]);
        let mut roots = Roots::new(first(), &[]);
        let error = roots.follow(&RootChain::new(1, documents)).unwrap_err();
        assert_eq!((error.reason(), roots.current().version()), (Reason::BadSignature, 2));
    }

    #[test]
    fn a_record_of_the_disk_is_believed_by_the_keys_of_its_time() {
        let mut roots = Roots::new(first(), &[]);
        let home = Home::new();
        let record = home.record(1, &["all"], schemas::record::RecordStatus::Active);
        let record: Signed<Record> = Signed::from_bytes(&record).unwrap();
        assert_eq!(roots.verify(&record).unwrap().1, 1);
        roots.follow(&RootChain::new(1, testing::roots(3, &[]))).unwrap();
        assert_eq!(roots.verify(&record).unwrap().1, 1);
        assert!(record.verify(roots.current()).is_err());
    }

    #[test]
    fn the_newest_reset_of_each_role_counts() {
        let mut roots = Roots::new(first(), &[]);
        assert_eq!((roots.keys().orders_reset, roots.keys().floor_reset), (0, 0));
        roots
            .follow(&RootChain::new(
                1,
                testing::roots(4, &[(2, Role::Ops), (3, Role::Ops), (3, Role::Release)]),
            ))
            .unwrap();
        let keys = roots.keys();
        assert_eq!((keys.root, keys.orders_reset, keys.floor_reset), (4, 3, 3));
    }

    fn first() -> Trust {
        Trust::first(&testing::roots(1, &[])[0]).unwrap()
    }

    fn documents_of_a_stranger() -> Root {
        testing::root(3, &testing::node_key(), &[])
    }
}
