//! Which controllers this home has believed: a file with a key id on each line. The first ones are believed as they come, since
//! nobody else can say which they are; who has the broker could put its own key there later, so another one is asked about.

use std::{collections::BTreeSet, fs, io};

use anyhow::Result;
use schemas::id::KeyId;

use super::{Home, WRITABLE, files};
use crate::problem::Advise as _;

const HEADER: &str = "# Controllers that rollouts of this fleet were given to, by the ids of their keys.\n";

impl Home {
    /// The controllers that were believed before.
    pub(crate) fn known_controllers(&self) -> Result<BTreeSet<KeyId>> {
        let path = self.path("controllers");
        let what = || format!("cannot read {}", path.display());
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            text => text.advise(what(), "make it readable for you")?,
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let ids: std::result::Result<_, _> = lines.map(str::parse).collect();
        ids.advise(
            what(),
            "delete the line that is shown, or the file: controllers are asked about again then",
        )
    }

    /// Believes these, too, from now on.
    pub(crate) fn know_controllers(&self, new: impl IntoIterator<Item = KeyId>) -> Result<()> {
        let path = self.path("controllers");
        let mut ids = self.known_controllers()?;
        let before = ids.len();
        ids.extend(new);
        if ids.len() == before {
            return Ok(());
        }
        let lines = ids.iter().map(|id| format!("{id}\n"));
        let text: String = std::iter::once(HEADER.to_owned()).chain(lines).collect();
        files::replace(&path, text.as_bytes(), files::PUBLIC)
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
        assert!(home.known_controllers().unwrap().is_empty());
        home.know_controllers([first]).unwrap();
        home.know_controllers([second, first]).unwrap();
        assert_eq!(home.known_controllers().unwrap(), BTreeSet::from([first, second]));
        fs::write(home.path("controllers"), "rubbish").unwrap();
        assert!(format!("{:#}", home.known_controllers().unwrap_err()).contains("`rubbish`"));
    }
}
