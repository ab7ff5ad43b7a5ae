//! Who may connect, and what they may publish, subscribe to and upload. Deny by default.

mod permissions;
mod users;

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use schemas::id::FleetId;
use tracing::{info, warn};

use self::users::{InvalidUsers, Users};
pub(crate) use self::{
    permissions::Action,
    users::{Role, User},
};

/// Why a log-in is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// No user name was given.
    #[error("no user name and password")]
    Anonymous,
    /// There is no such user, or the password is another one.
    #[error("wrong user name or password")]
    WrongPassword,
    /// The certificate names nobody who may log in, or somebody else than CONNECT does.
    #[error("certificate is not this user's")]
    Certificate,
    /// The client id is for somebody else.
    #[error("client id is not this user's")]
    ClientId,
}

/// Why the users are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersError {
    /// The file cannot be read.
    #[error("cannot read users file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is wrong.
    #[error("users file {path} is not valid")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: InvalidUsers,
    },
    /// Nobody is in the file: an editor or a copy has only begun to write it.
    #[error("users file {0} names nobody")]
    Nobody(PathBuf),
}

/// Decides about every client.
#[derive(Debug)]
pub(crate) enum Access {
    /// Everybody may do everything.
    Open(Arc<User>),
    /// Only the users of a file.
    Users(UsersFile),
}

/// A file of users that is read again when it has changed.
#[derive(Debug)]
pub(crate) struct UsersFile {
    path: PathBuf,
    fleet: FleetId,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    stamp: Option<Stamp>,
    users: Arc<Users>,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl Access {
    /// Lets everybody do everything.
    pub(crate) fn open(fleet: &FleetId) -> Self {
        Self::Open(Arc::new(User::anybody(fleet)))
    }

    /// Lets the users of the file at `path` do what their roles allow.
    pub(crate) fn users(path: PathBuf, fleet: FleetId) -> Result<Self, UsersError> {
        let (stamp, users) = read(&path, &fleet)?;
        let known = Mutex::new(Known { stamp: Some(stamp), users: Arc::new(users) });
        Ok(Self::Users(UsersFile { path, fleet, known }))
    }

    /// The user with this name and password.
    pub(crate) fn log_in(&self, login: Option<(&str, &[u8])>) -> Result<Arc<User>, Denied> {
        match self {
            Self::Open(anybody) => Ok(Arc::clone(anybody)),
            Self::Users(file) => {
                let (name, password) = login.ok_or(Denied::Anonymous)?;
                file.current().log_in(name, password).ok_or(Denied::WrongPassword)
            }
        }
    }

    /// The user that a verified certificate names; who says another name beside it is refused.
    pub(crate) fn log_in_certified(&self, certified: &str, name: Option<&str>) -> Result<Arc<User>, Denied> {
        match self {
            Self::Open(anybody) => Ok(Arc::clone(anybody)),
            Self::Users(file) => {
                let user = file.current().get(certified).ok_or(Denied::Certificate)?;
                let is_same = name.is_none_or(|name| name == certified);
                if is_same { Ok(user) } else { Err(Denied::Certificate) }
            }
        }
    }

    /// Reads the users again.
    pub(crate) fn reload(&self) {
        if let Self::Users(file) = self {
            file.current();
        }
    }

    /// Whether `user` may call itself `client_id` on the bus. A node's sessions are its own; nobody takes them over.
    pub(crate) fn check_client_id(&self, user: &User, client_id: &str) -> Result<(), Denied> {
        let Self::Users(file) = self else { return Ok(()) };
        let is_allowed = user.owns(client_id)
            || (user.role() != Role::Node && !file.current().has_node(users::owner(client_id)));
        if is_allowed { Ok(()) } else { Err(Denied::ClientId) }
    }
}

impl UsersFile {
    /// The users as the file has them now. A file that became unreadable changes nothing: a half-copied file must
    /// not lock everybody out.
    fn current(&self) -> Arc<Users> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = fs::metadata(&self.path).ok().map(|metadata| Stamp::of(&metadata));
        if stamp != known.stamp {
            known.stamp = stamp;
            match read(&self.path, &self.fleet) {
                Ok((_, users)) => {
                    info!(path = %self.path.display(), users = users.len(), "users file read again");
                    known.users = Arc::new(users);
                }
                Err(err) => {
                    if matches!(err, UsersError::Read { .. }) {
                        // The file may be fine, and out of reach only now: try again at the next log-in.
                        known.stamp = None;
                    }
                    warn!(error = %crate::chain(&err), "the users stay as they were");
                }
            }
        }
        Arc::clone(&known.users)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), size: metadata.len(), inode: metadata.ino() }
    }
}

/// The stamp is taken before the content: a change in between is found at the next log-in.
fn read(path: &std::path::Path, fleet: &FleetId) -> Result<(Stamp, Users), UsersError> {
    let failed = |source| UsersError::Read { path: path.to_owned(), source };
    let stamp = Stamp::of(&fs::metadata(path).map_err(failed)?);
    let text = fs::read_to_string(path).map_err(failed)?;
    let users =
        Users::parse(&text, fleet).map_err(|source| UsersError::Invalid { path: path.to_owned(), source })?;
    if users.len() == 0 {
        return Err(UsersError::Nobody(path.to_owned()));
    }
    Ok((stamp, users))
}

#[cfg(test)]
mod tests {
    use schemas::id::Digest;

    use super::*;

    #[test]
    fn a_changed_file_counts_from_the_next_log_in_and_a_broken_one_does_not() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("users");
        let line = |name: &str| format!("{name} watcher sha256:{}\n", Digest::of(b"secret"));
        fs::write(&path, line("anna")).unwrap();
        let access = Access::users(path.clone(), "home".parse().unwrap()).unwrap();
        assert_eq!(access.log_in(None).unwrap_err(), Denied::Anonymous);
        assert_eq!(access.log_in(Some(("bert", b"secret"))).unwrap_err(), Denied::WrongPassword);

        fs::write(&path, line("anna") + &line("bert")).unwrap();
        assert_eq!(access.log_in(Some(("bert", b"secret"))).unwrap().name(), "bert");

        for broken in ["bert emperor x", "", "# begun\n"] {
            fs::write(&path, broken).unwrap();
            assert!(access.log_in(Some(("bert", b"secret"))).is_ok(), "{broken}");
        }
        fs::remove_file(&path).unwrap();
        assert!(access.log_in(Some(("anna", b"secret"))).is_ok());
    }

    #[test]
    fn client_ids_of_nodes_are_theirs_alone() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("users");
        let secret = Digest::of(b"secret");
        fs::write(&path, format!("pi-1 node sha256:{secret}\nanna watcher sha256:{secret}\n")).unwrap();
        let access = Access::users(path, "home".parse().unwrap()).unwrap();
        let allowed = |name: &str, id: &str| {
            let user = access.log_in(Some((name, b"secret"))).unwrap();
            access.check_client_id(&user, id).is_ok()
        };
        assert!(allowed("pi-1", "pi-1") && allowed("pi-1", "pi-1.web"));
        assert!(!allowed("pi-1", "pi-10") && !allowed("pi-1", "anything"));
        assert!(allowed("anna", "anything") && allowed("anna", "pi-2"));
        assert!(!allowed("anna", "pi-1") && !allowed("anna", "pi-1.web"));
    }
}
