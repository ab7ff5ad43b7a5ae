//! Which release a rollback goes back to. Pure.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{
    id::{Counter, Digest, Revision},
    release::Release,
    seal::Verified,
};

use crate::home::history::Kept;

/// What is known when a release is chosen.
pub(crate) struct Past<'a> {
    /// What is ordered now.
    pub(crate) present: &'a Verified<Release>,
    /// What was ordered before for this group and app.
    pub(crate) orders: &'a [(Revision, Digest)],
    /// Every release of the app that is known, by its digest.
    pub(crate) releases: &'a BTreeMap<Digest, Kept<Release>>,
    /// Releases that some node says it kept; nodes remember the last few.
    pub(crate) kept: &'a BTreeSet<Digest>,
    /// Releases that some node did not keep.
    pub(crate) unfit: &'a BTreeSet<Digest>,
    /// Nodes take nothing below this.
    pub(crate) floor: Counter,
}

/// Why there is nothing to go back to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoWayBack {
    /// No older release was ordered before.
    #[error("nothing older than {0} was ordered before that nodes kept")]
    NothingOlder(String),
    /// No release has the wanted version.
    #[error("no release has version {wanted}; known are {known}")]
    UnknownVersion { wanted: String, known: String },
    /// A security release forbids it.
    #[error("{version} (counter {counter}) is below the floor {floor} that a release on the nodes has set")]
    BelowFloor { version: String, counter: Counter, floor: Counter },
}

impl Past<'_> {
    /// The release to go back to: the wanted version, else the one ordered last among those older than the present one,
    /// and kept by a node, where one is known. Going back twice goes further back; it never alternates between two.
    pub(crate) fn choose(&self, wanted: Option<&str>) -> Result<&Kept<Release>, NoWayBack> {
        let chosen = match wanted {
            Some(version) => self.of_version(version)?,
            None => self.before().ok_or_else(|| NoWayBack::NothingOlder(self.present.version.clone()))?,
        };
        let release = &chosen.document;
        if release.counter < self.floor {
            let (version, counter) = (release.version.clone(), release.counter);
            return Err(NoWayBack::BelowFloor { version, counter, floor: self.floor });
        }
        Ok(chosen)
    }

    /// What nodes kept comes before what no node has said anything about.
    fn before(&self) -> Option<&Kept<Release>> {
        let is_unknown = |release: &Digest| !self.unfit.contains(release);
        self.last_ordered(|release| self.kept.contains(release)).or_else(|| self.last_ordered(is_unknown))
    }

    fn last_ordered(&self, is_fit: impl Fn(&Digest) -> bool) -> Option<&Kept<Release>> {
        let mut orders: Vec<_> = self.orders.iter().filter(|(_, release)| is_fit(release)).collect();
        orders.sort_unstable();
        let releases = orders.into_iter().rev().filter_map(|(_, release)| self.releases.get(release));
        releases.into_iter().find(|release| release.document.counter < self.present.counter)
    }

    fn of_version(&self, wanted: &str) -> Result<&Kept<Release>, NoWayBack> {
        let fitting = self.releases.values().filter(|release| release.document.version == wanted);
        fitting.max_by_key(|release| release.document.counter).ok_or_else(|| self.unknown(wanted))
    }

    fn unknown(&self, wanted: &str) -> NoWayBack {
        let mut known: Vec<_> = self.releases.values().map(|release| &release.document).collect();
        known.sort_by_key(|release| release.counter);
        let known: Vec<&str> = known.iter().map(|release| release.version.as_str()).collect();
        NoWayBack::UnknownVersion { wanted: wanted.to_owned(), known: known.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Sample;

    /// Releases by version; their counters are 10, 20, 30 …
    struct Story {
        releases: BTreeMap<Digest, Kept<Release>>,
        digests: BTreeMap<&'static str, Digest>,
    }

    impl Story {
        fn of(versions: &[&'static str]) -> Self {
            let sample = Sample::new();
            let (mut releases, mut digests) = (BTreeMap::new(), BTreeMap::new());
            for (version, counter) in versions.iter().zip((10..).step_by(10)) {
                let signed = sample.announcement(1, counter, version).release;
                let document = signed.verify(&sample.home.trust).unwrap();
                digests.insert(*version, document.digest());
                releases.insert(document.digest(), Kept { signed, document });
            }
            Self { releases, digests }
        }

        fn choose(
            &self,
            orders: &[&str],
            (kept, unfit): (&[&str], &[&str]),
            floor: u64,
            wanted: Option<&str>,
        ) -> Result<String, NoWayBack> {
            let present = &self.releases[&self.digests[orders.last().unwrap()]].document;
            let orders: Vec<_> =
                (1..).map(Revision).zip(orders.iter().map(|version| self.digests[version])).collect();
            let [kept, unfit] =
                [kept, unfit].map(|of| of.iter().map(|version| self.digests[version]).collect());
            let (releases, floor) = (&self.releases, Counter(floor));
            let past = Past { present, orders: &orders, releases, kept: &kept, unfit: &unfit, floor };
            past.choose(wanted).map(|release| release.document.version.clone())
        }
    }

    #[test]
    fn goes_back_to_what_was_ordered_before_and_twice_goes_further() {
        let story = Story::of(&["1.0", "1.1", "1.2"]);
        let back = |orders: &[&str]| story.choose(orders, (&[], &[]), 0, None);
        assert_eq!(back(&["1.0", "1.1", "1.2"]).unwrap(), "1.1");
        assert_eq!(back(&["1.0", "1.1", "1.2", "1.1"]).unwrap(), "1.0");
        assert_eq!(back(&["1.0", "1.2"]).unwrap(), "1.0");
        assert_eq!(back(&["1.1", "1.0"]), Err(NoWayBack::NothingOlder("1.0".into())));
    }

    #[test]
    fn passes_over_what_nodes_did_not_keep() {
        let story = Story::of(&["1.0", "1.1", "1.2"]);
        let orders = ["1.0", "1.1", "1.2"];
        assert_eq!(story.choose(&orders, (&[], &["1.1"]), 0, None).unwrap(), "1.0");
        assert_eq!(story.choose(&orders, (&[], &["1.1"]), 0, Some("1.1")).unwrap(), "1.1");
    }

    #[test]
    fn prefers_what_a_node_kept_to_what_nobody_tried() {
        let story = Story::of(&["1.0", "1.1", "1.2"]);
        let orders = ["1.0", "1.1", "1.2"];
        assert_eq!(story.choose(&orders, (&["1.0"], &[]), 0, None).unwrap(), "1.0");
        assert_eq!(story.choose(&orders, (&["1.1", "1.0"], &["1.1"]), 0, None).unwrap(), "1.1");
        assert_eq!(story.choose(&orders, (&["1.2"], &[]), 0, None).unwrap(), "1.1");
    }

    #[test]
    fn never_goes_below_the_floor_and_says_what_is_known() {
        let story = Story::of(&["1.0", "1.1"]);
        let error =
            |wanted, floor| story.choose(&["1.0", "1.1"], (&[], &[]), floor, wanted).unwrap_err().to_string();
        assert_eq!(
            error(None, 15),
            "1.0 (counter 10) is below the floor 15 that a release on the nodes has set"
        );
        assert_eq!(error(Some("3"), 0), "no release has version 3; known are 1.0, 1.1");
        assert_eq!(story.choose(&["1.0", "1.1"], (&[], &[]), 0, Some("1.1")).unwrap(), "1.1");
    }
}
