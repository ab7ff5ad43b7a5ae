//! Root documents that follow each other, from the one that is trusted to the newest.

use serde::{Deserialize, Serialize};

use super::{Root, RootError, Trust};
use crate::{codec, seal::Signed};

/// Root documents that follow each other, as the trust topic retains them: whoever trusts one of them, or the one before
/// the first, can follow it to the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootChain {
    /// The version of the first one. Nobody signed this number: it only says where to begin to verify.
    first: u64,
    roots: Vec<Signed<Root>>,
}

impl RootChain {
    /// Most bytes of a chain: what every node and every broker takes in one message.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// The newest of `roots`, which follow each other and of which the first has the version `first`: as many as one
    /// message takes, which are dozens. Nodes that missed more than those need a new root file.
    pub fn new(first: u64, roots: Vec<Signed<Root>>) -> Self {
        let mut chain = Self { first, roots };
        while chain.to_bytes().len() > Self::MAX_BYTES && chain.roots.len() > 1 {
            chain.roots.remove(0);
            chain.first += 1;
        }
        chain
    }

    /// Reads a chain; its documents stay closed until they are verified.
    ///
    /// # Errors
    /// When the bytes are too many or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RootError> {
        codec::decode(bytes, Self::MAX_BYTES).map_err(RootError::Chain)
    }

    /// The chain as it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The version of the last one, as far as the chain can be believed.
    pub fn last(&self) -> u64 {
        self.first.saturating_add(self.roots.len() as u64).saturating_sub(1)
    }

    /// The last one, not verified: for who asks to be let in and compares what it makes of it with people.
    pub fn newest(&self) -> Option<&Signed<Root>> {
        self.roots.last()
    }

    fn get(&self, version: u64) -> Option<&Signed<Root>> {
        self.roots.get(usize::try_from(version.checked_sub(self.first)?).ok()?)
    }
}

impl Trust {
    /// The successor of this root in `chain`, verified (TUF 5.3: one version at a time); `None` when this root is the last.
    ///
    /// # Errors
    /// When the chain is an older one, belongs to another root, leaves out the successor, or that does not verify.
    pub fn follow(&self, chain: &RootChain) -> Result<Option<(Self, Signed<Root>)>, RootError> {
        let (have, last) = (self.version(), chain.last());
        if last < have || chain.roots.is_empty() {
            return Err(RootError::Version { have, got: last });
        }
        if chain.get(have).is_some_and(|same| same.digest() != self.digest()) {
            return Err(RootError::Fork { version: have });
        }
        if last == have {
            return Ok(None);
        }
        let next = have.checked_add(1).and_then(|version| chain.get(version));
        let next = next.ok_or(RootError::Gap { have, first: chain.first })?;
        Ok(Some((self.next(next)?, next.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::samples::{key, root},
        *,
    };
    use crate::reason::Reason;

    /// Roots 1 to 4 of one key after the other: each is signed by its own key and the one before.
    fn chain() -> RootChain {
        let of = |n: u8| {
            let id = key(n).public().id();
            let next = root(n.into(), vec![key(n).public()], &[id], 1);
            Signed::seal(&next, &[key(n.max(2) - 1), key(n)])
        };
        RootChain::new(1, (1..=4).map(of).collect())
    }

    #[test]
    fn a_chain_is_followed_one_root_at_a_time() {
        let chain = RootChain::from_bytes(&chain().to_bytes()).unwrap();
        let mut trust = Trust::first(&chain.roots[1]).unwrap();
        let mut versions = Vec::new();
        while let Some((next, signed)) = trust.follow(&chain).unwrap() {
            assert_eq!(next.digest(), signed.digest());
            versions.push(next.version());
            trust = next;
        }
        assert_eq!(versions, [3, 4]);
    }

    #[test]
    fn a_chain_that_is_not_ours_is_not_followed() {
        let whole = chain();
        let last = Trust::first(&whole.roots[3]).unwrap();
        let first = Trust::first(&whole.roots[0]).unwrap();
        let refused = |trust: &Trust, chain: &RootChain| trust.follow(chain).unwrap_err().reason();
        let older = RootChain { first: 1, roots: whole.roots[..3].to_vec() };
        assert_eq!(refused(&last, &older), Reason::Replayed);
        let later = RootChain { first: 3, roots: whole.roots[2..].to_vec() };
        assert_eq!(refused(&first, &later), Reason::RootGap);
        let stranger = Signed::seal(&root(1, vec![key(9).public()], &[key(9).public().id()], 1), &[key(9)]);
        assert_eq!(refused(&first, &RootChain { first: 1, roots: vec![stranger.clone()] }), Reason::RootFork);
        let forged = RootChain { first: 1, roots: vec![whole.roots[0].clone(), stranger] };
        assert_eq!(refused(&first, &forged), Reason::BadSignature);
        // Whoever lies about the number gets no further.
        let shifted = RootChain { first: 0, ..whole.clone() };
        assert_eq!(refused(&first, &shifted), Reason::RootFork);
        let none = RootChain { first: 1, roots: Vec::new() };
        assert_eq!(refused(&first, &none), Reason::Replayed);
        assert_eq!(RootChain::from_bytes(b"junk").unwrap_err().reason(), Reason::Malformed);
        assert!(RootChain { first: u64::MAX, ..whole }.last() > 4);
    }

    #[test]
    fn a_chain_that_is_too_long_loses_its_oldest() {
        let one = Signed::seal(&root(1, vec![key(1).public()], &[key(1).public().id()], 1), &[key(1)]);
        let long = RootChain::new(1, vec![one; 300]);
        assert!(long.to_bytes().len() <= RootChain::MAX_BYTES && long.first > 1);
        assert_eq!(long.last(), 300);
    }
}
