//! Who may connect, and what they may publish, subscribe to and upload. Deny by default.

mod file;
mod penalties;
mod permissions;
mod secret;
mod users;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, sync::Arc};

use schemas::id::FleetId;

pub(crate) use self::{
    file::UsersError,
    permissions::Action,
    users::{Role, User},
};
use self::{file::UsersFile, penalties::Penalties, secret::Passwords, users::Checked};
use crate::nodes::Nodes;

/// Why a log-in is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// No user name was given.
    #[error("no user name and password")]
    Anonymous,
    /// There is no such user, or the password is another one.
    #[error("wrong user name or password")]
    WrongPassword,
    /// So many from there failed that no passwords are looked at.
    #[error("too many failed log-ins from this address")]
    Busy,
    /// The certificate names nobody who may log in, or somebody else than CONNECT does.
    #[error("certificate is not this user's")]
    Certificate,
    /// The client id is for somebody else.
    #[error("client id is not this user's")]
    ClientId,
}

/// Decides about every client.
#[derive(Debug)]
pub(crate) enum Access {
    /// Everybody may do everything.
    Open(Arc<User>),
    /// Only the users of a file.
    Users(Box<Gate>),
}

/// Where users of a file log in.
#[derive(Debug)]
pub(crate) struct Gate {
    file: UsersFile,
    nodes: Option<Arc<Nodes>>,
    passwords: Passwords,
    penalties: Penalties,
}

impl Access {
    /// Lets everybody do everything.
    pub(crate) fn open(fleet: &FleetId) -> Self {
        Self::Open(Arc::new(User::anybody(fleet)))
    }

    /// Lets the users of the file at `path` do what their roles allow, and `nodes` by their records.
    pub(crate) fn users(
        path: PathBuf,
        fleet: FleetId,
        nodes: Option<Arc<Nodes>>,
    ) -> Result<Self, UsersError> {
        let file = UsersFile::open(path, fleet)?;
        let passwords = Passwords::new().map_err(UsersError::Start)?;
        Ok(Self::Users(Box::new(Gate { file, nodes, passwords, penalties: Penalties::default() })))
    }

    /// The user with this name and password. The answer to wrong ones takes its time.
    pub(crate) async fn log_in(
        &self,
        login: Option<(&str, &[u8])>,
        from: IpAddr,
    ) -> Result<Arc<User>, Denied> {
        match self {
            Self::Open(anybody) => Ok(Arc::clone(anybody)),
            Self::Users(gate) => gate.log_in(login.ok_or(Denied::Anonymous)?, from).await,
        }
    }

    /// The user that a verified certificate names; who says another name beside it is refused.
    pub(crate) fn log_in_certified(&self, certified: &str, name: Option<&str>) -> Result<Arc<User>, Denied> {
        match self {
            Self::Open(anybody) => Ok(Arc::clone(anybody)),
            Self::Users(gate) => {
                let user = gate.get(certified).ok_or(Denied::Certificate)?;
                let is_same = name.is_none_or(|name| name == certified);
                if is_same { Ok(user) } else { Err(Denied::Certificate) }
            }
        }
    }

    /// Whether `user` may call itself `client_id` on the bus. A node's sessions are its own; nobody takes them over.
    pub(crate) fn check_client_id(&self, user: &User, client_id: &str) -> Result<(), Denied> {
        let Self::Users(gate) = self else { return Ok(()) };
        let is_allowed =
            user.owns(client_id) || (user.role() != Role::Node && !gate.has_node(users::owner(client_id)));
        if is_allowed { Ok(()) } else { Err(Denied::ClientId) }
    }

    /// Whether the file, as it was read last, or the node's record still has this user unchanged.
    pub(crate) fn is_current(&self, user: &User) -> bool {
        match self {
            Self::Open(_) => true,
            Self::Users(gate) => gate.get(user.name()).is_some_and(|known| *known == *user),
        }
    }

    /// Reads the users again if their file has changed, and names those who are gone or have another line since it was
    /// asked last: what they do now, they would perhaps not be allowed to.
    pub(crate) fn take_changed(&self) -> BTreeSet<Arc<str>> {
        match self {
            Self::Open(_) => BTreeSet::new(),
            Self::Users(gate) => gate.file.take_changed(),
        }
    }
}

impl Gate {
    fn node(&self, name: &str) -> Option<Arc<User>> {
        self.nodes.as_ref()?.user(name)
    }

    /// Whether a record says what this name may do: one that came before a line that somebody wrote for a node, and never in
    /// the place of a person.
    fn has_record(&self, name: &str) -> bool {
        let is_person = |user: Arc<User>| user.role() != Role::Node;
        self.nodes.as_ref().is_some_and(|nodes| nodes.knows(name))
            && !self.file.current().get(name).is_some_and(is_person)
    }

    /// Who has this name.
    fn get(&self, name: &str) -> Option<Arc<User>> {
        if self.has_record(name) { self.node(name) } else { self.file.current().get(name) }
    }

    fn has_node(&self, name: &str) -> bool {
        self.file.current().has_node(name) || self.node(name).is_some()
    }

    async fn log_in(&self, (name, password): (&str, &[u8]), from: IpAddr) -> Result<Arc<User>, Denied> {
        let users = self.file.current();
        if self.has_record(name) {
            return match self.node(name).filter(|node| node.has_token(password)) {
                Some(node) => Ok(node),
                None => self.deny(from).await,
            };
        }
        let (phc, user) = match users.check(name, password) {
            Checked::Right(user) => return Ok(user),
            Checked::Wrong => return self.deny(from).await,
            Checked::Slow(phc, user) => (phc, user),
        };
        if let Some(user) = &user
            && self.passwords.is_remembered(&phc, password)
        {
            return Ok(Arc::clone(user));
        }
        let attempt = self.penalties.attempt(from).ok_or(Denied::Busy)?;
        let is_right = self.passwords.check(&phc, password).await;
        drop(attempt);
        match user.filter(|_| is_right) {
            Some(user) => Ok(user),
            None => self.deny(from).await,
        }
    }

    async fn deny(&self, from: IpAddr) -> Result<Arc<User>, Denied> {
        self.penalties.fail(from).await;
        Err(Denied::WrongPassword)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use schemas::id::Digest;
    use tempfile::TempDir;

    use super::{secret::HORSE, *};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn access(text: &str) -> (TempDir, PathBuf, Access) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, text).unwrap();
        let access = Access::users(path.clone(), "home".parse().unwrap(), None).unwrap();
        (folder, path, access)
    }

    fn line(name_and_role: &str) -> String {
        format!("{name_and_role} sha256:{}\n", Digest::of(b"secret"))
    }

    #[tokio::test]
    async fn a_changed_file_counts_from_the_next_log_in_and_a_broken_one_does_not() {
        let (_folder, path, access) = access(&line("anna watcher"));
        let log_in = async |name| access.log_in(Some((name, b"secret")), HERE).await;
        assert_eq!(access.log_in(None, HERE).await.unwrap_err(), Denied::Anonymous);
        assert_eq!(log_in("bert").await.unwrap_err(), Denied::WrongPassword);

        fs::write(&path, line("anna watcher") + &line("bert watcher")).unwrap();
        assert_eq!(log_in("bert").await.unwrap().name(), "bert");

        for broken in ["bert emperor x", "", "# begun\n"] {
            fs::write(&path, broken).unwrap();
            assert!(log_in("bert").await.is_ok(), "{broken}");
        }
        fs::remove_file(&path).unwrap();
        assert!(log_in("anna").await.is_ok() && access.take_changed().is_empty());
    }

    #[tokio::test]
    async fn who_is_gone_or_has_another_line_is_told_once() {
        let (_folder, path, access) = access(&(line("anna watcher") + &line("bert watcher")));
        let bert = access.log_in(Some(("bert", b"secret")), HERE).await.unwrap();
        assert!(access.is_current(&bert) && access.take_changed().is_empty());
        fs::write(&path, line("anna  watcher")).unwrap();
        assert_eq!(access.take_changed(), BTreeSet::from(["bert".into()]));
        assert!(!access.is_current(&bert) && access.take_changed().is_empty());
    }

    #[tokio::test]
    async fn client_ids_of_nodes_are_theirs_alone() {
        let (_folder, _, access) = access(&(line("pi-1 node") + &line("anna watcher")));
        let allowed = async |name: &str, id: &str| {
            let user = access.log_in(Some((name, b"secret")), HERE).await.unwrap();
            access.check_client_id(&user, id).is_ok()
        };
        assert!(allowed("pi-1", "pi-1").await && allowed("pi-1", "pi-1.web").await);
        assert!(!allowed("pi-1", "pi-10").await && !allowed("pi-1", "anything").await);
        assert!(allowed("anna", "anything").await && allowed("anna", "pi-2").await);
        assert!(!allowed("anna", "pi-1").await && !allowed("anna", "pi-1.web").await);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_wait_and_right_ones_from_the_same_place_do_not() {
        let text = line("pi-1 node") + &format!("anna admin argon2:{HORSE}\n");
        let (_folder, _, access) = access(&text);
        let access = Arc::new(access);
        let log_in = async |name, password: &[u8]| access.log_in(Some((name, password)), HERE).await;
        let guesses: Vec<_> = (0..40_u8)
            .map(|guess| {
                let access = Arc::clone(&access);
                tokio::spawn(async move { access.log_in(Some(("pi-1", &[guess])), HERE).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let begin = tokio::time::Instant::now();
        assert!(log_in("pi-1", b"secret").await.is_ok());
        assert_eq!(log_in("anna", b"correct horse").await.unwrap_err(), Denied::Busy);
        assert!(begin.elapsed().is_zero());
        for guess in guesses {
            assert_eq!(guess.await.unwrap().unwrap_err(), Denied::WrongPassword);
        }
        assert!(log_in("anna", b"correct horse").await.is_ok());
        assert_eq!(log_in("nobody", b"correct horse").await.unwrap_err(), Denied::WrongPassword);
    }
}
