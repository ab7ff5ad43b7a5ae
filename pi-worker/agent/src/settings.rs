//! The settings of a node: a file, with the environment above it. `publisher node add` writes the file.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    error::Error,
    fs, io,
    num::{NonZeroU8, NonZeroU64},
    path::{Path, PathBuf},
};

use bus_client::{bus::BusUrl, store::StoreUrl};
use config::{Config, ConfigError, Environment, FileFormat};
use schemas::{
    hold::AskKind,
    id::{AppId, FleetId, NodeId},
};
use serde::Deserialize;

use crate::{durable::DurableError, hold::HoldSettings, installer::AppDirs};

/// Environment variables with this prefix go above the file, as in `DEPLOYBUS_FETCH__PARALLEL=2`.
const ENV_PREFIX: &str = "DEPLOYBUS";
/// The keys that the environment may set; the publisher and the apps have variables of the same prefix.
const ENV_KEYS: [&str; 12] = [
    "node",
    "fleet",
    "bus",
    "store",
    "data",
    "root",
    "record",
    "key",
    "password",
    "ca",
    "fetch__parallel",
    "fetch__bandwidth_bytes_per_s",
];

/// What a node is told before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The node's name.
    pub node: NodeId,
    /// The fleet that it belongs to.
    pub fleet: FleetId,
    /// Where the bus is.
    pub bus: BusUrl,
    /// Where objects come from, tried in turn.
    pub store: Vec<StoreUrl>,
    /// The folder of everything that the node writes.
    pub data: PathBuf,
    /// The root document that the node trusts from the beginning.
    #[serde(default = "beside::root")]
    pub root: PathBuf,
    /// The record about the node that it has from the beginning.
    #[serde(default = "beside::record")]
    pub record: PathBuf,
    /// The secret key that signs reports.
    #[serde(default = "beside::key")]
    pub key: PathBuf,
    /// The file with the node's password on the bus.
    #[serde(default = "beside::password")]
    pub password: PathBuf,
    /// The file with the one-time token of an invitation, until the node has come.
    #[serde(default = "beside::invitation")]
    pub invitation: PathBuf,
    /// The only CA that bus and store are believed by, as PEM; those that browsers believe when there is none.
    pub ca: Option<PathBuf>,
    /// How objects are fetched.
    #[serde(default)]
    pub fetch: FetchSettings,
    /// What may hold the node back from beginning with an order.
    #[serde(default)]
    pub hold: HoldSettings,
    /// What people and tools may ask of the node on its topic `request`, which nobody signs.
    #[serde(default = "everything")]
    pub requests: BTreeSet<AskKind>,
    /// The engine that runs containers, and what it must leave free.
    #[serde(default)]
    pub container: ContainerSettings,
    /// The environment of apps, checks and hooks on this node; above what a release says.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// How objects are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FetchSettings {
    /// So many at a time.
    pub parallel: NonZeroU8,
    /// So many bytes a second at most.
    pub bandwidth_bytes_per_s: Option<NonZeroU64>,
}

impl Default for FetchSettings {
    fn default() -> Self {
        /// Enough to fill the wire with small files, few enough for the memory of the smallest Pi.
        const PARALLEL: NonZeroU8 = NonZeroU8::new(8).expect("8 is not 0");
        Self { parallel: PARALLEL, bandwidth_bytes_per_s: None }
    }
}

/// The engine that runs containers, and what it must leave free.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerSettings {
    /// Where it listens, as in `unix:///var/run/docker.sock`.
    pub engine: Option<String>,
    /// No build is begun with less free on the engine's disk.
    pub free_disk_bytes: u64,
    /// No build is begun with less memory available.
    pub free_memory_bytes: u64,
}

impl Default for ContainerSettings {
    /// A build of a Python app was seen to take 1 GB at its peak, and 64 MB beside what pip takes.
    fn default() -> Self {
        Self { engine: None, free_disk_bytes: 1_000_000_000, free_memory_bytes: 64_000_000 }
    }
}

fn everything() -> BTreeSet<AskKind> {
    AskKind::ALL.into()
}

/// Where the files are unless the settings say so: beside them.
mod beside {
    use std::path::PathBuf;

    pub(super) fn root() -> PathBuf {
        "root.cbor".into()
    }

    pub(super) fn record() -> PathBuf {
        "record.cbor".into()
    }

    pub(super) fn key() -> PathBuf {
        "node.key".into()
    }

    pub(super) fn password() -> PathBuf {
        "password".into()
    }

    pub(super) fn invitation() -> PathBuf {
        "invitation".into()
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read settings file {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("cannot use settings file {path}")]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<ConfigError>,
    },
    /// A key is missing, unknown, or has a value that it cannot have.
    #[error("settings file {path} (or a variable {ENV_PREFIX}_…) is wrong at `{key}`")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The key, or `.` for the whole.
        key: String,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No store is named.
    #[error("settings file {path} names no `store`")]
    NoStore {
        /// The file.
        path: PathBuf,
    },
}

impl SettingsError {
    /// What a person should do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "let the user that the worker runs as read it, with `chown` and `chmod`"
            }
            Self::Unreadable { .. } => {
                "`publisher node add NAME` makes a folder with it: copy that here as /etc/deploybus, or say with --config where it is; `pi-worker enroll` makes one, too"
            }
            Self::NotToml { .. } => "correct the line that is shown",
            Self::Wrong { .. } => "correct what is named; docs/settings.md has every key",
            Self::NoStore { .. } => {
                "write where the broker's store is, as in store = [\"http://192.168.1.10:8080\"]"
            }
        }
    }
}

impl Settings {
    /// Reads the settings of the file, with the environment above them. Paths in them start at the file's folder.
    ///
    /// # Errors
    /// When the file cannot be read or a setting is wrong.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        let text = fs::read_to_string(file)
            .map_err(|source| SettingsError::Unreadable { path: file.to_owned(), source })?;
        Self::parse(
            file,
            &text,
            std::env::vars_os()
                .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// The folders of an app.
    pub fn app_dirs(&self, app: &AppId) -> AppDirs {
        let root = self.apps_folder().join(app.as_str());
        AppDirs { data: root.join("data"), objects: root.join("objects"), root }
    }

    /// Every app that has a folder on this node.
    ///
    /// # Errors
    /// When the disk refuses to list them.
    pub fn apps(&self) -> Result<Vec<AppId>, DurableError> {
        let path = self.apps_folder();
        let failed = |source| DurableError::Io { action: "list the apps in", path: path.clone(), source };
        let folders = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            folders => folders.map_err(failed)?,
        };
        let mut apps = Vec::new();
        for folder in folders {
            let folder = folder.map_err(failed)?;
            apps.extend(folder.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        apps.sort();
        Ok(apps)
    }

    /// What the node said last, for people who are on the node itself.
    pub fn status_file(&self) -> PathBuf {
        self.data.join("status.json")
    }

    /// What the node remembers about itself.
    pub(crate) fn memory_file(&self) -> PathBuf {
        self.data.join("node.cbor")
    }

    fn apps_folder(&self) -> PathBuf {
        self.data.join("apps")
    }

    fn parse(
        file: &Path,
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let path = || file.to_owned();
        let layered = Config::builder()
            .add_source(config::File::from_str(text, FileFormat::Toml))
            .add_source(environment(variables))
            .build()
            .map_err(|source| SettingsError::NotToml { path: path(), source: Box::new(source) })?;
        let wrong = |key: &str, source| SettingsError::Wrong { path: path(), key: key.to_owned(), source };
        let mut settings: Self = serde_path_to_error::deserialize(layered)
            .map_err(|error| wrong(&error.path().to_string(), Box::new(keyless(error.into_inner()))))?;
        settings.env = names_as_written(text).map_err(|error| wrong("env", Box::new(error)))?;
        if settings.store.is_empty() {
            return Err(SettingsError::NoStore { path: path() });
        }
        let folder = file.parent().unwrap_or(Path::new(""));
        let Self { data, root, record, key, password, invitation, ca, hold, .. } = &mut settings;
        let set = [data, root, record, key, password, invitation];
        for relative in set.into_iter().chain(ca).chain(&mut hold.lock) {
            *relative = folder.join(&*relative);
        }
        Ok(settings)
    }
}

/// Without the key, which is named beside it.
fn keyless(error: ConfigError) -> ConfigError {
    match error {
        ConfigError::Type { unexpected, expected, .. } => {
            ConfigError::Type { origin: None, unexpected, expected, key: None }
        }
        error => error,
    }
}

/// The table `env`, once more: `config` makes all keys lower-case, but the names of variables are the user's.
fn names_as_written(text: &str) -> Result<BTreeMap<String, String>, toml::de::Error> {
    #[derive(Deserialize)]
    struct OnlyEnv {
        #[serde(default)]
        env: BTreeMap<String, String>,
    }
    toml::from_str(text).map(|OnlyEnv { env }| env)
}

fn environment(variables: impl Iterator<Item = (String, String)>) -> Environment {
    let ours = |(name, _): &(String, String)| {
        let key = name.strip_prefix(ENV_PREFIX).and_then(|rest| rest.strip_prefix('_'));
        key.is_some_and(|key| ENV_KEYS.contains(&key.to_ascii_lowercase().as_str()))
    };
    let variables: HashMap<_, _> = variables.filter(ours).collect();
    Environment::with_prefix(ENV_PREFIX)
        .prefix_separator("_")
        .separator("__")
        .list_separator(",")
        .with_list_parse_key("store")
        .try_parsing(true)
        .source(Some(variables))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::chain;

    const FILE: &str = r#"
        node = "pi-kitchen"
        fleet = "deploybus"
        bus = "mqtt://192.168.1.10:1883"
        store = ["http://192.168.1.10:8080"]
        data = "/var/lib/deploybus"
    "#;

    #[test]
    fn the_file_of_node_add_is_enough() {
        let settings = load(FILE, &[]).unwrap();
        assert_eq!(settings.node.as_str(), "pi-kitchen");
        assert_eq!(settings.data, Path::new("/var/lib/deploybus"));
        assert_eq!(settings.key, Path::new("/etc/deploybus/node.key"));
        assert_eq!(settings.fetch.parallel.get(), 8);
        let dirs = settings.app_dirs(&"web".parse().unwrap());
        assert_eq!(dirs.objects, Path::new("/var/lib/deploybus/apps/web/objects"));
    }

    #[test]
    fn the_environment_goes_above_the_file() {
        let env = [
            ("DEPLOYBUS_NODE", "pi-attic"),
            ("DEPLOYBUS_STORE", "http://a:1,http://b:2"),
            ("DEPLOYBUS_FETCH__PARALLEL", "2"),
            ("DEPLOYBUS_HOME", "/somewhere"),
            ("DEPLOYBUS_APP", "web"),
        ];
        let settings = load(&format!("{FILE}\nca = \"ca.pem\""), &env).unwrap();
        assert_eq!(settings.ca.as_deref(), Some(Path::new("/etc/deploybus/ca.pem")));
        assert_eq!(settings.node.as_str(), "pi-attic");
        assert_eq!(settings.store.len(), 2);
        assert_eq!(settings.fetch.parallel.get(), 2);
    }

    #[test]
    fn what_holds_the_node_back_is_set_in_a_section() {
        let hold = "[hold]\nwindows = [\"Mon-Fri 02:00-05:00\", \"Sat,Sun\"]\nlock = \"hold\"\nconsent = true\n\
            min_free_bytes = 500_000_000\nmax_temperature_c = 75\nundervoltage = true";
        let hold = load(&format!("{FILE}\n{hold}"), &[]).unwrap().hold;
        assert_eq!(hold.windows.to_string(), "Mon-Fri 02:00-05:00, Sat,Sun");
        assert_eq!(hold.lock.as_deref(), Some(Path::new("/etc/deploybus/hold")));
        assert_eq!((hold.min_free_bytes, hold.max_temperature_c), (Some(500_000_000), Some(75)));
        assert!(hold.consent && hold.undervoltage && !load(FILE, &[]).unwrap().hold.is_any());
    }

    #[test]
    fn variables_of_the_node_keep_their_names() {
        let settings = load(&format!("{FILE}\n[env]\nWEB_PORT = \"8081\"\nLang = \"de\""), &[]).unwrap();
        let env: Vec<_> = settings.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(env, [("Lang", "de"), ("WEB_PORT", "8081")]);
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_file() {
        for (wrong, key) in [
            (FILE.replace("pi-kitchen", "Pi Kitchen"), "`node`: `Pi Kitchen`"),
            (FILE.replace("data", "dta"), "dta"),
            (FILE.replace("mqtt://192.168.1.10:1883", "ftp://x"), "ftp://x"),
            (FILE.replace("fleet = \"deploybus\"", ""), "fleet"),
            (format!("{FILE}\n[fetch]\nparallel = 0"), "parallel"),
            (format!("{FILE}\n[fetch]\nparallel = \"many\""), "`fetch.parallel`"),
            (format!("{FILE}\n[hold]\nwindows = [\"Moon\"]"), "`hold.windows`: `Moon` is no window"),
            (format!("{FILE}\n[hold]\nlocks = \"x\""), "locks"),
            (format!("{FILE}\n[env]\nPORT = 80"), "PORT = 80"),
            (FILE.replace("\"http://192.168.1.10:8080\"", ""), "store"),
            (FILE.replace("node =", "node"), "line 2"),
        ] {
            let text = chain(&load(&wrong, &[]).unwrap_err());
            assert!(text.contains("/etc/deploybus/pi-worker.toml") && text.contains(key), "{text}");
        }
    }

    #[test]
    fn every_key_is_in_the_reference() {
        let reference = include_str!("../../../docs/settings.md");
        let (reference, _) = reference.split_once("## broker.toml").unwrap();
        for section in ["", "[fetch]", "[hold]", "[container]"] {
            // It names all that there are.
            let wrong = match section {
                "" => format!("colour = 1\n{FILE}"),
                _ => format!("{FILE}\n{section}\ncolour = 1"),
            };
            let said = chain(&load(&wrong, &[]).unwrap_err());
            for key in said.split_once("expected ").unwrap().1.split('`').skip(1).step_by(2) {
                let section = reference.split_once(section).unwrap().1;
                assert!(section.contains(&format!("| `{key}` |")), "no `{key}` in docs/settings.md");
            }
        }
    }

    #[test]
    fn only_folders_named_like_apps_are_apps() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = load(FILE, &[]).unwrap();
        settings.data = folder.path().to_owned();
        assert!(settings.apps().unwrap().is_empty());
        for name in ["web", "api", "Lost+Found"] {
            fs::create_dir_all(folder.path().join("apps").join(name)).unwrap();
        }
        let names: Vec<_> = settings.apps().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["api", "web"]);
    }

    fn load(text: &str, env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Settings::parse(Path::new("/etc/deploybus/pi-worker.toml"), text, env)
    }
}
