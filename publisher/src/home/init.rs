//! `publisher init`: a new fleet in one go, on one machine, with nothing asked.

use std::{collections::BTreeMap, fs, os::unix::fs::DirBuilderExt as _, path::Path};

use anyhow::{Context as _, Result};
use bus_client::{bus::BusUrl, store::StoreUrl};
use schemas::{
    id::FleetId,
    root::{Role, RoleKeys, Root},
    seal::{Head, SecretKey, Signed},
    time::UnixTime,
};

use super::{
    CA, Settings,
    ca::Ca,
    files,
    keys::{self, Passphrase},
    users::{self, Secret, User, UserRole},
};
use crate::problem::{Advise as _, problem};

/// A root that expires stops new installs for good when nobody is left who can sign the next one, so a small fleet's
/// root outlives the hardware: 10 years. A stolen key is answered by the next root, not by waiting.
pub(super) const ROOT_LIFETIME_SECS: u64 = 10 * 365 * 86_400;
/// Everything in a home is for its owner: it holds keys and passwords.
const FOLDER_MODE: u32 = 0o700;

/// Who this home logs in as.
const OWN_USER: &str = "publisher";
/// Who may look on from the first minute; `watcher.password` is its secret.
pub(super) const WATCHER: &str = "watcher";

/// What a new fleet is called and where its broker will be.
pub(crate) struct NewFleet {
    pub(crate) fleet: FleetId,
    pub(crate) bus: BusUrl,
    pub(crate) store: StoreUrl,
    /// What the broker's machine is called besides.
    pub(crate) names: Vec<String>,
    /// CAs of the broker that is there already and is to be the bus, as PEM.
    pub(crate) ca: Option<String>,
    /// What the keys are encrypted with.
    pub(crate) passphrase: Option<Passphrase>,
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
    for folder in ["", "keys", "broker", "broker/tls", "nodes"] {
        fs::DirBuilder::new().mode(FOLDER_MODE).create(draft.join(folder))?;
    }
    let signed = make_keys(draft, &new, now)?;
    files::create(&draft.join("root.cbor"), &signed.to_bytes(), files::PUBLIC)?;

    let (own, watcher) = (Secret::new_token()?, Secret::new_token()?);
    let users = users::with_user(users::HEADING, &User::new(OWN_USER, UserRole::Publisher, &own))?;
    let users = users::with_user(&users, &User::new(WATCHER, UserRole::Watcher, &watcher))?;
    let ca = Ca::new(&new.fleet, broker_names(&new), now)?;
    let certificates = ca.certificate + new.ca.as_deref().unwrap_or_default();
    let watcher = format!("{}\n", watcher.text());
    let broker_toml = broker_toml(&new, &ca.names);
    let is_tls = new.bus.is_tls() || new.store.is_tls();
    let NewFleet { fleet, bus, store, .. } = new;
    let settings = Settings {
        fleet,
        bus,
        store,
        ca: is_tls.then(|| CA.into()),
        user: OWN_USER.to_owned(),
        password: own.text().to_owned(),
    };
    files::create(&draft.join("broker/root.cbor"), &signed.to_bytes(), files::PUBLIC)?;
    for (name, text, mode) in [
        ("keys/ca.key", ca.key, files::PRIVATE),
        (CA, certificates, files::PUBLIC),
        ("broker/tls/issuer.key", ca.issuer_key, files::PRIVATE),
        ("broker/tls/issuer.pem", ca.issuer_certificate, files::PUBLIC),
        ("broker/users", users, files::PRIVATE),
        ("broker/broker.toml", broker_toml, files::PUBLIC),
        ("watcher.password", watcher, files::PRIVATE),
        ("fleet.toml", toml::to_string(&settings)?, files::PRIVATE),
    ] {
        files::create(&draft.join(name), text.as_bytes(), mode)?;
    }
    for folder in ["keys", "broker/tls", "broker", ""] {
        files::sync_folder(&draft.join(folder))?;
    }
    Ok(())
}

/// Makes a key for each role, and the root that names them.
fn make_keys(draft: &Path, new: &NewFleet, now: UnixTime) -> Result<Signed<Root>> {
    let secrets = Role::ALL.map(|role| keys::new_key().map(|key| (role, key)));
    let secrets: BTreeMap<Role, SecretKey> = secrets.into_iter().collect::<Result<_>>()?;
    for (role, key) in &secrets {
        keys::store(&draft.join(format!("keys/{}.key", role.name())), key, new.passphrase.as_ref())?;
    }
    let root = root(new.fleet.clone(), &secrets, now);
    Ok(Signed::seal(&root, &[secrets[&Role::Root].clone()]))
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

/// The names and addresses by which others reach the broker.
fn broker_names(new: &NewFleet) -> Vec<String> {
    let of_urls = [new.bus.first().host().to_owned(), new.store.host().to_owned()];
    let bare = |host: String| host.trim_matches(['[', ']']).to_owned();
    of_urls.into_iter().map(bare).chain(new.names.iter().cloned()).collect()
}

/// On a loopback address the broker listens there only; else on all addresses, at the port that nodes will use. Where a
/// broker of others is the bus, ours has the store alone.
fn broker_toml(new: &NewFleet, names: &[String]) -> String {
    let server = new.bus.first();
    let relay = match &new.ca {
        Some(_) => format!("bus = \"{}\"\n", new.bus),
        None => listener(("mqtt", "mqtts"), new.bus.is_tls(), server.host(), server.port()),
    };
    let store = listener(("http", "https"), new.store.is_tls(), new.store.host(), new.store.port());
    format!(
        "# The broker of fleet {fleet}. Copy this folder to the machine that is always on, then there:\n\
         #   broker run --config broker.toml --data DIR\n\
         fleet = \"{fleet}\"\n\
         {relay}{store}users = \"users\"\n\
         # Nodes log in by their signed records, which these keys have signed, or those that follow them.\n\
         root = \"root.cbor\"\n\
         \n\
         # An issuer of the fleet's CA: the broker makes its certificates for these names by itself.\n\
         [tls]\n\
         cert = \"tls/issuer.pem\"\n\
         key = \"tls/issuer.key\"\n\
         names = {names:?}\n",
        fleet = new.fleet,
    )
}

/// The lines for one port, of which the setting without TLS is `plain`.
fn listener((plain, tls): (&str, &str), is_tls: bool, host: &str, port: u16) -> String {
    let address = if is_loopback(host) { "127.0.0.1" } else { "0.0.0.0" };
    if is_tls {
        format!("{plain} = \"off\"\n{tls} = \"{address}:{port}\"\n")
    } else {
        format!("{plain} = \"{address}:{port}\"\n")
    }
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
            names: Vec::new(),
            ca: None,
            passphrase: None,
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
        let lines = |new: &NewFleet| broker_toml(new, &["bus.lan".to_owned()]);
        let local = lines(&new_fleet("127.0.0.1"));
        assert!(local.contains("mqtt = \"127.0.0.1:1883\"\nhttp = \"127.0.0.1:8080\""), "{local}");
        let open = lines(&new_fleet("bus.lan"));
        assert!(open.contains("mqtt = \"0.0.0.0:1883\"\nhttp = \"0.0.0.0:8080\""), "{open}");
        let (bus, store) = ("mqtts://bus.lan".parse().unwrap(), "https://bus.lan:8443".parse().unwrap());
        let mut secret = NewFleet { bus, store, ..new_fleet("bus.lan") };
        let text = lines(&secret);
        let expected = "mqtt = \"off\"\nmqtts = \"0.0.0.0:8883\"\nhttp = \"off\"\nhttps = \"0.0.0.0:8443\"";
        assert!(text.contains(expected), "{text}");
        assert!(text.ends_with("names = [\"bus.lan\"]\n"), "{text}");
        secret.ca = Some(String::new());
        assert!(lines(&secret).contains("bus = \"mqtts://bus.lan:8883\"\nhttp = \"off\""));
    }

    #[test]
    fn the_ca_is_believed_by_who_speaks_tls_and_its_key_stays_here() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let bus = "mqtts://bus.lan".parse().unwrap();
        init(&home, NewFleet { bus, ..new_fleet("bus.lan") }, UnixTime(1_800_000_000)).unwrap();
        assert!(Home::open(&home).unwrap().tls().unwrap().is_some());
        let mode = |name: &str| fs::metadata(home.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(["keys/ca.key", "broker/tls/issuer.key"].map(mode), [0o600; 2]);
        let plain = dir.path().join("plain");
        init(&plain, new_fleet("127.0.0.1"), UnixTime(1_800_000_000)).unwrap();
        assert!(Home::open(&plain).unwrap().tls().unwrap().is_none());
    }
}
