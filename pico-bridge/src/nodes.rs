//! The nodes of a bridge: one for each Pico, with a name, a folder and a key of its own.
//!
//! ```text
//! <data>/picos/<node>/        root.cbor record.cbor node.key password [invitation]: as `publisher node add` writes them
//! <config folder>/picos.toml  names: serial = "name"
//! ```

use std::{collections::BTreeMap, fs, io, path::Path};

use agent::{Joint, Settings};
use schemas::id::NodeId;

use crate::firmware::keep::Keep;

/// The file of names, beside the settings.
const NAMES: &str = "picos.toml";
/// As many digits of a serial number as tell Picos of one home apart.
const SHORT: usize = 8;

/// Why there are no nodes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodesError {
    /// The names cannot be used.
    #[error("cannot use the names in {path}")]
    Names {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The folder of a node cannot be made.
    #[error("cannot make folder {path}")]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

impl NodesError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Names { .. } => "write a line for each Pico, as in: e6614103e7452b2f = \"pico-desk\"",
            Self::Folder { .. } => {
                "let the user that the bridge runs as write there, and see that the disk has space"
            }
        }
    }
}

/// Which Pico is which node.
#[derive(Debug, Clone)]
pub(crate) struct Nodes {
    /// Those of the Pi: where the bus and the store are, and whose keys count.
    pi: Settings,
    names: BTreeMap<String, NodeId>,
}

impl Nodes {
    /// Reads the names beside the settings file of the Pi, if there are some.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn open(pi: Settings, config: &Path) -> Result<Self, NodesError> {
        let path = config.with_file_name(NAMES);
        let wrong = |source| NodesError::Names { path: path.clone(), source };
        let names = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| wrong(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(wrong(error.into())),
        };
        Ok(Self { pi, names })
    }

    /// The Pi that the Picos are plugged into.
    pub(crate) fn via(&self) -> &NodeId {
        &self.pi.node
    }

    /// What a Pico's node knows of the Pi and the other Picos that keep a joint release with it.
    pub(crate) fn joint(&self, pico: &NodeId) -> Joint {
        Joint::of_pico(&self.pi.data, &self.pi.node, pico)
    }

    /// The name of the node with this serial number: the one that people gave it, else one that follows from the number.
    pub(crate) fn name(&self, serial: &str) -> Option<NodeId> {
        let serial = serial.to_ascii_lowercase();
        let short = serial.get(serial.len().saturating_sub(SHORT)..)?;
        self.names.get(&serial).cloned().or_else(|| format!("pico-{short}").parse().ok())
    }

    /// The Picos that may wait in BOOTSEL for the rest of their firmware, where they have no name of their own.
    pub(crate) fn in_flash(&self) -> Vec<(String, NodeId)> {
        let folders = fs::read_dir(self.pi.data.join("picos")).into_iter().flatten().flatten();
        let waits = |folder: fs::DirEntry| {
            let node: NodeId = folder.file_name().to_str()?.parse().ok()?;
            let known = Keep::new(self.of(&node)).load();
            known.under_way.is_some().then_some((known.serial, node))
        };
        folders.filter_map(waits).collect()
    }

    /// The settings of the node, whose folder is there then.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn settings(&self, node: &NodeId) -> Result<Settings, NodesError> {
        let settings = self.of(node);
        let data = settings.data.clone();
        let failed = |source| NodesError::Folder { path: data.clone(), source };
        fs::create_dir_all(&data).map_err(failed)?;
        if !settings.root.exists() && self.pi.root.exists() {
            let bytes = fs::read(&self.pi.root).map_err(failed)?;
            agent::replace_file(&settings.root, &bytes).map_err(failed)?;
        }
        Ok(settings)
    }

    fn of(&self, node: &NodeId) -> Settings {
        let data = self.pi.data.join("picos").join(node.as_str());
        Settings {
            node: node.clone(),
            root: data.join("root.cbor"),
            record: data.join("record.cbor"),
            key: data.join("node.key"),
            password: data.join("password"),
            invitation: data.join("invitation"),
            env: BTreeMap::new(),
            data,
            ..self.pi.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pico_has_the_name_that_people_gave_it_or_one_of_its_serial_number() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pi-worker.toml");
        fs::write(&config, "node = \"pi-1\"\nfleet = \"home\"\nbus = \"mqtt://h:1\"\nstore = [\"http://h:2\"]\ndata = \"d\"\n").unwrap();
        let open = || Nodes::open(Settings::load(&config).unwrap(), &config);
        assert_eq!(open().unwrap().name("E6614103E7452B2F").unwrap().as_str(), "pico-e7452b2f");
        fs::write(config.with_file_name(NAMES), "e6614103e7452b2f = \"pico-desk\"\n").unwrap();
        let nodes = open().unwrap();
        assert_eq!(nodes.name("E6614103E7452B2F").unwrap().as_str(), "pico-desk");
        let settings = nodes.settings(&nodes.name("E6614103E7452B2F").unwrap()).unwrap();
        assert_eq!((nodes.via().as_str(), settings.node.as_str()), ("pi-1", "pico-desk"));
        assert!(settings.data.ends_with("d/picos/pico-desk") && settings.data.is_dir());
        fs::write(config.with_file_name(NAMES), "e6614103e7452b2f = \"Pico Desk\"\n").unwrap();
        assert!(open().is_err());
    }
}
