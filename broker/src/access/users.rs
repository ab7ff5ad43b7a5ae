//! The users file: one line a user, `name role sha256:<hex> [groups=a,b]`.
//!
//! Passwords are generated and have 256 random bits, so a plain SHA-256 of them gives nothing away, and a storm of
//! reconnects stays cheap.

use std::{collections::HashMap, str::FromStr, sync::Arc};

use schemas::id::{Digest, FleetId, GroupId, InvalidId, NodeId};
use subtle::ConstantTimeEq;

/// What is wrong with a users file.
#[derive(Debug, thiserror::Error)]
#[error("line {line}")]
pub(crate) struct InvalidUsers {
    line: usize,
    source: InvalidLine,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidLine {
    #[error("a user needs a name, a role and a secret")]
    Incomplete,
    #[error("`{0}` is not a role: use node, publisher, controller, watcher, home-assistant or admin")]
    Role(String),
    #[error("the secret is not `sha256:` and 64 hexadecimal digits")]
    Secret,
    #[error("the name of a node is its node name")]
    Node(#[source] InvalidId),
    #[error("a group is not valid")]
    Group(#[source] InvalidId),
    #[error("`{0}` is not known here")]
    Unknown(String),
    #[error("user `{0}` is there twice")]
    Twice(String),
}

/// What a user is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A device.
    Node,
    /// Announces releases.
    Publisher,
    /// Carries out rollouts.
    Controller,
    /// Reads.
    Watcher,
    /// Reads, and asks nodes.
    HomeAssistant,
    /// May do everything.
    Admin,
}

/// Somebody who may log in.
#[derive(Debug)]
pub(crate) struct User {
    name: Arc<str>,
    role: Role,
    secret: Digest,
    groups: Box<[GroupId]>,
    fleet: FleetId,
}

/// All users of a file.
#[derive(Debug)]
pub(super) struct Users(HashMap<Arc<str>, Arc<User>>);

impl User {
    /// Whoever comes where no users are asked for.
    pub(super) fn anybody(fleet: &FleetId) -> Self {
        let (name, secret) = ("anybody".into(), Digest([0; 32]));
        Self { name, role: Role::Admin, secret, groups: Box::default(), fleet: fleet.clone() }
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name, shared.
    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// The role.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Whether `client_id` is meant for this user: its name, or its name, a dot and more.
    pub(crate) fn owns(&self, client_id: &str) -> bool {
        self.name() == owner(client_id)
    }

    /// Whether this user may put objects into the store.
    pub(crate) fn may_upload(&self) -> bool {
        matches!(self.role, Role::Publisher | Role::Admin)
    }

    /// The groups whose releases this user may read.
    pub(super) fn groups(&self) -> &[GroupId] {
        &self.groups
    }

    /// The fleet whose topics these are.
    pub(super) fn fleet(&self) -> &FleetId {
        &self.fleet
    }

    fn parse(line: &str, fleet: &FleetId) -> Result<Self, InvalidLine> {
        let mut words = line.split_whitespace();
        let (Some(name), Some(role), Some(secret)) = (words.next(), words.next(), words.next()) else {
            return Err(InvalidLine::Incomplete);
        };
        let role: Role = role.parse()?;
        if role == Role::Node {
            name.parse::<NodeId>().map_err(InvalidLine::Node)?;
        }
        // Not even the cause is told: whoever wrote a password there by mistake must not find it in the log.
        let secret = secret.strip_prefix("sha256:").and_then(|secret| secret.parse().ok());
        let secret = secret.ok_or(InvalidLine::Secret)?;
        let mut groups = Vec::new();
        for word in words {
            let list = word.strip_prefix("groups=").ok_or_else(|| InvalidLine::Unknown(word.to_owned()))?;
            for group in list.split(',') {
                groups.push(group.parse().map_err(InvalidLine::Group)?);
            }
        }
        Ok(Self { name: name.into(), role, secret, groups: groups.into(), fleet: fleet.clone() })
    }
}

impl Users {
    /// Reads the lines of `text`; empty ones and those that start with `#` say nothing.
    pub(super) fn parse(text: &str, fleet: &FleetId) -> Result<Self, InvalidUsers> {
        let mut users = HashMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            let invalid = |source| InvalidUsers { line, source };
            if text.trim().is_empty() || text.trim_start().starts_with('#') {
                continue;
            }
            let user = User::parse(text, fleet).map_err(invalid)?;
            let name = user.shared_name();
            if users.insert(Arc::clone(&name), Arc::new(user)).is_some() {
                return Err(invalid(InvalidLine::Twice(name.to_string())));
            }
        }
        Ok(Self(users))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The user with this name and password. Compares in constant time.
    pub(super) fn log_in(&self, name: &str, password: &[u8]) -> Option<Arc<User>> {
        let given = Digest::of(password);
        let user = self.0.get(name)?;
        bool::from(user.secret.0.ct_eq(&given.0)).then(|| Arc::clone(user))
    }

    /// The user of this name.
    pub(super) fn get(&self, name: &str) -> Option<Arc<User>> {
        self.0.get(name).cloned()
    }

    /// Whether there is a node of this name.
    pub(super) fn has_node(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|user| user.role == Role::Node)
    }
}

/// The user that a client id names.
pub(super) fn owner(client_id: &str) -> &str {
    client_id.split_once('.').map_or(client_id, |(owner, _)| owner)
}

impl FromStr for Role {
    type Err = InvalidLine;

    fn from_str(text: &str) -> Result<Self, InvalidLine> {
        Ok(match text {
            "node" => Self::Node,
            "publisher" => Self::Publisher,
            "controller" => Self::Controller,
            "watcher" => Self::Watcher,
            "home-assistant" => Self::HomeAssistant,
            "admin" => Self::Admin,
            other => return Err(InvalidLine::Role(other.to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Users, InvalidUsers> {
        Users::parse(text, &"home".parse().unwrap())
    }

    #[test]
    fn a_users_file_is_read() {
        let secret = Digest::of(b"p");
        let text =
            format!("# people\n\npi-1  node  sha256:{secret}  groups=canary,all\nanna admin sha256:{secret}");
        let users = parse(&text).unwrap();
        let node = users.log_in("pi-1", b"p").unwrap();
        assert_eq!(node.groups().iter().map(GroupId::as_str).collect::<Vec<_>>(), ["canary", "all"]);
        assert!(users.log_in("anna", b"q").is_none() && users.log_in("bert", b"p").is_none());
        assert!(users.log_in("anna", b"p").unwrap().may_upload() && !node.may_upload());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let secret = format!("sha256:{}", Digest::of(b"p"));
        for (text, expected) in [
            ("anna".to_owned(), "a user needs a name, a role and a secret"),
            (format!("anna queen {secret}"), "`queen` is not a role"),
            ("anna admin plain".to_owned(), "the secret is not"),
            ("anna admin sha256:plain".to_owned(), "the secret is not"),
            (format!("Pi! node {secret}"), "the name of a node is its node name"),
            (format!("pi node {secret} groups=A"), "a group is not valid"),
            (format!("pi node {secret} color=red"), "`color=red` is not known here"),
            (format!("a admin {secret}\na admin {secret}"), "user `a` is there twice"),
        ] {
            let err = parse(&text).unwrap_err();
            assert!(err.source.to_string().starts_with(expected), "{}", err.source);
            assert_eq!(err.line, text.lines().count());
            assert!(!crate::chain(&err).contains("plain"), "a secret is told");
        }
    }
}
