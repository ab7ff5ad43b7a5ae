//! `publisher init`: a new fleet in one go, on one machine, with nothing asked.

use std::{collections::BTreeMap, fs, os::unix::fs::DirBuilderExt as _, path::Path};

use anyhow::{Context as _, Result};
use schemas::{
    id::FleetId,
    root::{Role, RoleKeys, Root},
    seal::{Head, SecretKey, Signed},
    time::UnixTime,
};

use super::{
    Settings, files, keys,
    users::{self, Secret, User, UserRole},
};
use crate::problem::{Advise as _, problem};

/// A root that expires stops new installs for good when nobody is left who can sign the next one, so a small fleet's
/// root outlives the hardware: 10 years. A stolen key is answered by the next root, not by waiting.
const ROOT_LIFETIME_SECS: u64 = 10 * 365 * 86_400;
/// Everything in a home is for its owner: it holds keys and passwords.
const FOLDER_MODE: u32 = 0o700;

/// Who this home logs in as.
const OWN_USER: &str = "publisher";
/// Who may look on from the first minute; `watcher.password` is its secret.
pub(super) const WATCHER: &str = "watcher";

/// What a new fleet is called and where its broker will be.
pub(crate) struct NewFleet {
    pub(crate) fleet: FleetId,
    pub(crate) bus: bus_client::bus::BusUrl,
    pub(crate) store: bus_client::store::StoreUrl,
}

/// Makes a home in `dir`: complete or not at all.
pub(crate) fn init(dir: &Path, new: NewFleet, now: UnixTime) -> Result<()> {
    refuse_to_overwrite(dir)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = dir.file_name().with_context(|| format!("{} cannot be a home", dir.display()))?;
    let draft = parent.join(format!(".{}.new-{}", name.to_string_lossy(), std::process::id()));
    let what = || format!("cannot make {}", dir.display());
    let advice = "choose a folder that you may write to with --home";
    fs::create_dir_all(parent).advise(what(), advice)?;
    let written = fill(&draft, new, now).and_then(|()| {
        fs::rename(&draft, dir)?;
        Ok(files::sync_folder(parent)?)
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&draft);
    }
    written.advise(what(), advice)
}

fn refuse_to_overwrite(dir: &Path) -> Result<()> {
    let is_free = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if is_free {
        return Ok(());
    }
    Err(problem(
        format!("{} is there already", dir.display()),
        "its keys cannot be made again: move it away yourself, or choose another folder with --home",
    ))
}

fn fill(draft: &Path, new: NewFleet, now: UnixTime) -> Result<()> {
    for folder in ["", "keys", "broker", "nodes"] {
        fs::DirBuilder::new().mode(FOLDER_MODE).create(draft.join(folder))?;
    }
    let secrets = Role::ALL.map(|role| keys::new_key().map(|key| (role, key)));
    let secrets: BTreeMap<Role, SecretKey> = secrets.into_iter().collect::<Result<_>>()?;
    for (role, key) in &secrets {
        keys::store(&draft.join(format!("keys/{}.key", role.name())), key)?;
    }
    let root = root(new.fleet.clone(), &secrets, now);
    let signed = Signed::seal(&root, &[secrets[&Role::Root].clone()]);
    files::create(&draft.join("root.cbor"), &signed.to_bytes(), files::PUBLIC)?;

    let (own, watcher) = (Secret::new_token()?, Secret::new_token()?);
    let users = users::with_user(users::HEADING, &User::new(OWN_USER, UserRole::Publisher, &own))?;
    let users = users::with_user(&users, &User::new(WATCHER, UserRole::Watcher, &watcher))?;
    files::create(&draft.join("broker/users"), users.as_bytes(), files::PRIVATE)?;
    files::create(&draft.join("broker/broker.toml"), broker_toml(&new).as_bytes(), files::PUBLIC)?;
    files::create(
        &draft.join("watcher.password"),
        format!("{}\n", watcher.text()).as_bytes(),
        files::PRIVATE,
    )?;

    let NewFleet { fleet, bus, store } = new;
    let settings =
        Settings { fleet, bus, store, ca: None, user: OWN_USER.to_owned(), password: own.text().to_owned() };
    files::create(&draft.join("fleet.toml"), toml::to_string(&settings)?.as_bytes(), files::PRIVATE)?;
    for folder in ["keys", "broker", ""] {
        files::sync_folder(&draft.join(folder))?;
    }
    Ok(())
}

fn root(fleet: FleetId, secrets: &BTreeMap<Role, SecretKey>, now: UnixTime) -> Root {
    let one = |key: &SecretKey| RoleKeys { keys: vec![key.public().id()], threshold: 1 };
    Root {
        head: Head::new(fleet, now),
        version: 1,
        keys: secrets.values().map(SecretKey::public).collect(),
        roles: secrets.iter().map(|(role, key)| (*role, one(key))).collect(),
        reset: Vec::new(),
        expires: now.plus_secs(ROOT_LIFETIME_SECS),
    }
}

/// On a loopback address the broker listens there only; else on all addresses, at the port that nodes will use.
fn broker_toml(new: &NewFleet) -> String {
    let store = new.store.to_string();
    let authority = store.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "8080"));
    format!(
        "# The broker of fleet {fleet}. Copy this folder to the machine that is always on, then there:\n\
         #   broker run --config broker.toml --data DIR\n\
         fleet = \"{fleet}\"\n\
         mqtt = \"{mqtt}:{mqtt_port}\"\n\
         http = \"{http}:{port}\"\n\
         users = \"users\"\n",
        fleet = new.fleet,
        mqtt = listen_address(new.bus.first().host()),
        mqtt_port = new.bus.first().port(),
        http = listen_address(host),
    )
}

fn listen_address(host: &str) -> &'static str {
    if is_loopback(host) { "127.0.0.1" } else { "0.0.0.0" }
}

/// Whether only this machine reaches `host`.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "[::1]" || host == "::1" || host.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::home::Home;

    fn new_fleet(host: &str) -> NewFleet {
        NewFleet {
            fleet: "deploybus".parse().unwrap(),
            bus: format!("mqtt://{host}:1883").parse().unwrap(),
            store: format!("http://{host}:8080").parse().unwrap(),
        }
    }

    #[test]
    fn a_new_home_opens_and_its_secrets_are_for_the_owner() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("deep/home");
        init(&home, new_fleet("127.0.0.1"), UnixTime(1_000)).unwrap();
        let open = Home::open(&home).unwrap();
        assert_eq!(open.trust.version(), 1);
        for role in Role::ALL {
            let record = open.key(role).unwrap();
            assert_eq!(record.seed().len(), 32);
        }
        let mode = |name: &str| fs::metadata(home.join(name)).unwrap().permissions().mode() & 0o777;
        for secret in ["fleet.toml", "keys/root.key", "broker/users", "watcher.password"] {
            assert_eq!(mode(secret), 0o600, "{secret}");
        }
        assert_eq!((mode(""), mode("keys")), (0o700, 0o700));
    }

    #[test]
    fn never_overwrites_and_leaves_nothing_half_made() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        init(&home, new_fleet("127.0.0.1"), UnixTime(1)).unwrap();
        let before = fs::read(home.join("keys/ops.key")).unwrap();
        let error = init(&home, new_fleet("127.0.0.1"), UnixTime(1)).unwrap_err();
        assert!(error.to_string().ends_with("home is there already"), "{error}");
        assert_eq!(fs::read(home.join("keys/ops.key")).unwrap(), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(init(Path::new("/proc/home"), new_fleet("127.0.0.1"), UnixTime(1)).is_err());
    }

    #[test]
    fn the_broker_listens_where_nodes_can_reach_it() {
        assert!(
            broker_toml(&new_fleet("127.0.0.1"))
                .contains("mqtt = \"127.0.0.1:1883\"\nhttp = \"127.0.0.1:8080\"")
        );
        assert!(
            broker_toml(&new_fleet("bus.lan")).contains("mqtt = \"0.0.0.0:1883\"\nhttp = \"0.0.0.0:8080\"")
        );
    }
}
