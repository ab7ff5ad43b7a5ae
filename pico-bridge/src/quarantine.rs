//! Releases that failed on a Pico again and again are not tried any more: each try wears its flash out and stops what runs.

use std::{collections::BTreeMap, fs, path::PathBuf};

use agent::replace_file;
use machine::Fault;
use schemas::{id::Digest, reason::Reason};

use crate::fault;

/// So often a release may fail on one Pico.
const MOST_FAILURES: u32 = 3;
/// More releases than that do not fail on one Pico: the count of the one that failed least is forgotten for another.
const MOST_RELEASES: usize = 32;

/// The tries of one Pico that did not end well, in a file.
#[derive(Debug)]
pub(crate) struct Quarantine(PathBuf);

impl Quarantine {
    pub(crate) fn at(file: PathBuf) -> Self {
        Self(file)
    }

    /// Whether the release may be tried.
    ///
    /// # Errors
    /// When it failed too often.
    pub(crate) fn admit(&self, tree: Digest) -> Result<(), Fault> {
        match self.load().get(&tree.to_string()) {
            Some(failures) if *failures >= MOST_FAILURES => {
                let text = format!("failed {failures} times on this Pico and is not tried any more");
                Err(fault::permanent(Reason::Quarantined, text))
            }
            _ => Ok(()),
        }
    }

    /// A try begins: it counts as a failure until it has ended well, whatever happens in between.
    pub(crate) fn begin(&self, tree: Digest) {
        let mut failures = self.load();
        let tree = tree.to_string();
        while failures.len() >= MOST_RELEASES && !failures.contains_key(&tree) {
            let least = failures.iter().min_by_key(|(_, count)| **count).map(|(tree, _)| tree.clone());
            least.map(|least| failures.remove(&least));
        }
        *failures.entry(tree).or_default() += 1;
        self.store(&failures);
    }

    /// It has ended well.
    pub(crate) fn end(&self, tree: Digest) {
        let mut failures = self.load();
        if failures.remove(&tree.to_string()).is_some() {
            self.store(&failures);
        }
    }

    fn load(&self) -> BTreeMap<String, u32> {
        fs::read(&self.0).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn store(&self, failures: &BTreeMap<String, u32>) {
        let stored = serde_json::to_vec(failures)
            .map_err(std::io::Error::from)
            .and_then(|bytes| replace_file(&self.0, &bytes));
        if let Err(error) = stored {
            // Nothing is worth more than the release that is under way.
            tracing::warn!(file = %self.0.display(), %error, "Failures are not counted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_is_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let (bad, good) = (Digest::of(b"bad"), Digest::of(b"good"));
        for _ in 0..3 {
            // The count outlives the bridge.
            let quarantine = Quarantine::at(folder.path().join("failures.json"));
            for tree in [bad, good] {
                quarantine.admit(tree).unwrap();
                quarantine.begin(tree);
            }
            quarantine.end(good);
        }
        let quarantine = Quarantine::at(folder.path().join("failures.json"));
        assert_eq!(quarantine.admit(bad).unwrap_err().reason, Reason::Quarantined);
        quarantine.admit(good).unwrap();
        // However many others fail once.
        for other in 0..100_u8 {
            quarantine.begin(Digest::of(&[other]));
            quarantine.begin(bad);
        }
        assert_eq!(quarantine.admit(bad).unwrap_err().reason, Reason::Quarantined);
    }
}
