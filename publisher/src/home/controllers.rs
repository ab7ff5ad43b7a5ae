//! What this home thinks of controllers: a file with a key id on each line. The first ones are believed as they come, since
//! nobody else can say which they are; who has the broker could put its own key there later, so another one is asked about.

use std::{collections::BTreeSet, fmt::Write as _, fs, io};

use anyhow::Result;
use schemas::id::{InvalidHex, KeyId};

use super::{Home, WRITABLE, files};
use crate::problem::Advise as _;

const HEADER: &str = "# Controllers that rollouts of this fleet were given to, by the ids of their keys, and forgotten ones that get none.\n";
const FORGOTTEN: &str = "forgotten ";

/// Controllers on which somebody has decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Controllers {
    /// Rollouts are given to them.
    pub(crate) known: BTreeSet<KeyId>,
    /// No rollout is given to them.
    pub(crate) forgotten: BTreeSet<KeyId>,
}

impl Controllers {
    /// Whether nobody has decided on any.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.forgotten.is_empty()
    }

    /// Rollouts are given to it from now on.
    pub(crate) fn know(&mut self, key: KeyId) {
        self.forgotten.remove(&key);
        self.known.insert(key);
    }

    /// No rollout is given to it any more.
    pub(crate) fn forget(&mut self, key: KeyId) {
        self.known.remove(&key);
        self.forgotten.insert(key);
    }

    fn parse(text: &str) -> Result<Self, InvalidHex> {
        let mut controllers = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix(FORGOTTEN) {
                Some(key) => controllers.forgotten.insert(key.trim().parse()?),
                None => controllers.known.insert(line.parse()?),
            };
        }
        Ok(controllers)
    }

    fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        for key in &self.known {
            let _ = writeln!(text, "{key}");
        }
        for key in &self.forgotten {
            let _ = writeln!(text, "{FORGOTTEN}{key}");
        }
        text
    }
}

impl Home {
    /// The controllers on which somebody has decided before.
    pub(crate) fn controllers(&self) -> Result<Controllers> {
        let path = self.path("controllers");
        let what = || format!("cannot read {}", path.display());
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Controllers::default()),
            text => text.advise(what(), "make it readable for you")?,
        };
        Controllers::parse(&text).advise(
            what(),
            "delete the line that is shown, or the file: controllers are asked about again then",
        )
    }

    /// Keeps what was decided.
    pub(crate) fn keep_controllers(&self, controllers: &Controllers) -> Result<()> {
        if *controllers == self.controllers()? {
            return Ok(());
        }
        let path = self.path("controllers");
        files::replace(&path, controllers.text().as_bytes(), files::PUBLIC)
            .advise(format!("cannot write {}", path.display()), WRITABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Sample, node_key};

    #[test]
    fn controllers_are_remembered_and_rubbish_is_named() {
        let sample = Sample::new();
        let home = &sample.home;
        let [first, second] = ["a", "b"].map(|name| node_key(name).public().id());
        let mut controllers = home.controllers().unwrap();
        assert!(controllers.is_empty());
        controllers.know(first);
        controllers.know(second);
        controllers.forget(first);
        home.keep_controllers(&controllers).unwrap();
        assert_eq!(home.controllers().unwrap(), controllers);
        assert_eq!((controllers.known, controllers.forgotten), ([second].into(), [first].into()));
        fs::write(home.path("controllers"), "rubbish\n").unwrap();
        assert!(format!("{:#}", home.controllers().unwrap_err()).contains("`rubbish`"));
    }
}
