//! The users file: one line a user, `name role secret [groups=a,b] [publish=filter,…] [subscribe=filter,…]`.

use std::{collections::HashMap, str::FromStr, sync::Arc};

use schemas::{
    id::{Digest, FleetId, GroupId, InvalidId, NodeId},
    record::{Record, RecordStatus},
};

use super::{
    permissions::Action,
    secret::{self, InvalidSecret, Secret},
};
use crate::relay::{Filter, InvalidTopic};

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
    #[error("`{0}` is not a role: use node, publisher, controller, watcher, home-assistant, guest or admin")]
    Role(String),
    #[error("the secret is neither `sha256:` and 64 hexadecimal digits nor `argon2:` and a hash of argon2")]
    Secret,
    #[error("the argon2 hash costs more than 256 MiB or 16 rounds")]
    TooCostly,
    #[error("`{0}` is not a topic filter")]
    Filter(String, #[source] InvalidTopic),
    #[error("only a guest has `publish=` and `subscribe=`: the other roles have permissions of their own")]
    NotAGuest,
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
    /// Another client on the same bus: may do what its line says.
    Guest,
    /// May do everything.
    Admin,
}

/// Somebody who may log in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct User {
    name: Arc<str>,
    role: Role,
    secret: Secret,
    groups: Box<[GroupId]>,
    publish: Box<[Filter]>,
    subscribe: Box<[Filter]>,
    fleet: FleetId,
}

/// All users of a file.
#[derive(Debug)]
pub(super) struct Users {
    by_name: HashMap<Arc<str>, Arc<User>>,
    /// Some hash of a chosen password, if there are any.
    sample: Option<Arc<str>>,
}

/// What comes of a name and a password.
#[derive(Debug)]
pub(super) enum Checked {
    /// They are right.
    Right(Arc<User>),
    /// They are wrong.
    Wrong,
    /// It takes computing to tell, with this hash. Without a user it is wrong all the same: a stranger is not to learn
    /// by the time that it takes who exists.
    Slow(Arc<str>, Option<Arc<User>>),
}

impl User {
    /// Whoever comes where no users are asked for.
    pub(super) fn anybody(fleet: &FleetId) -> Self {
        Self {
            name: "anybody".into(),
            role: Role::Admin,
            secret: Secret::Token(Digest([0; 32])),
            groups: Box::default(),
            publish: Box::default(),
            subscribe: Box::default(),
            fleet: fleet.clone(),
        }
    }

    /// Somebody of this name, who may do everything.
    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.into(), ..Self::anybody(&"home".parse().expect("it is a fleet id")) }
    }

    /// The node that a record lets in; none when it has no token, or was retired.
    pub(crate) fn of_record(record: &Record) -> Option<Self> {
        if record.status != RecordStatus::Active {
            return None;
        }
        Some(Self {
            name: record.node.as_str().into(),
            role: Role::Node,
            secret: Secret::Token(record.login?),
            groups: record.groups.iter().cloned().collect(),
            publish: Box::default(),
            subscribe: Box::default(),
            fleet: record.head.fleet.clone(),
        })
    }

    /// Whether `token` is what this user logs in with; false where that takes computing.
    pub(super) fn has_token(&self, token: &[u8]) -> bool {
        matches!(&self.secret, Secret::Token(digest) if secret::is_token(digest, token))
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

    /// Whether this user may read what happened to all nodes.
    pub(crate) fn may_read_log(&self) -> bool {
        matches!(self.role, Role::Publisher | Role::Controller | Role::Watcher | Role::Admin)
    }

    /// The groups whose releases this user may read.
    pub(super) fn groups(&self) -> &[GroupId] {
        &self.groups
    }

    /// The filters that a guest's line has for `action`.
    pub(super) fn filters(&self, action: Action) -> &[Filter] {
        match action {
            Action::Publish => &self.publish,
            Action::Subscribe => &self.subscribe,
        }
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
        let secret = Secret::parse(secret).map_err(|invalid| match invalid {
            InvalidSecret::Malformed => InvalidLine::Secret,
            InvalidSecret::TooCostly => InvalidLine::TooCostly,
        })?;
        let (mut groups, mut publish, mut subscribe) = (Vec::new(), Vec::new(), Vec::new());
        for word in words {
            let unknown = || InvalidLine::Unknown(word.to_owned());
            let (key, list) = word.split_once('=').ok_or_else(unknown)?;
            match key {
                "groups" => {
                    for group in list.split(',') {
                        groups.push(group.parse().map_err(InvalidLine::Group)?);
                    }
                }
                "publish" | "subscribe" if role != Role::Guest => return Err(InvalidLine::NotAGuest),
                "publish" => publish.extend(filters(list)?),
                "subscribe" => subscribe.extend(filters(list)?),
                _ => return Err(unknown()),
            }
        }
        Ok(Self {
            name: name.into(),
            role,
            secret,
            groups: groups.into(),
            publish: publish.into(),
            subscribe: subscribe.into(),
            fleet: fleet.clone(),
        })
    }
}

fn filters(list: &str) -> Result<Vec<Filter>, InvalidLine> {
    let parse = |text: &str| Filter::parse(text).map_err(|err| InvalidLine::Filter(text.to_owned(), err));
    list.split(',').map(parse).collect()
}

impl Users {
    /// Reads the lines of `text`; empty ones and those that start with `#` say nothing.
    pub(super) fn parse(text: &str, fleet: &FleetId) -> Result<Self, InvalidUsers> {
        let mut by_name = HashMap::new();
        let mut sample = None;
        for (line, text) in (1..).zip(text.lines()) {
            let invalid = |source| InvalidUsers { line, source };
            if text.trim().is_empty() || text.trim_start().starts_with('#') {
                continue;
            }
            let user = User::parse(text, fleet).map_err(invalid)?;
            let name = user.shared_name();
            if let Secret::Password(phc) = &user.secret {
                sample.get_or_insert_with(|| Arc::clone(phc));
            }
            if by_name.insert(Arc::clone(&name), Arc::new(user)).is_some() {
                return Err(invalid(InvalidLine::Twice(name.to_string())));
            }
        }
        Ok(Self { by_name, sample })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// What comes of this name and password.
    pub(super) fn check(&self, name: &str, password: &[u8]) -> Checked {
        let user = self.get(name);
        match user.as_ref().map(|user| &user.secret) {
            Some(Secret::Token(digest)) if secret::is_token(digest, password) => {
                user.map_or(Checked::Wrong, Checked::Right)
            }
            Some(Secret::Password(phc)) => Checked::Slow(Arc::clone(phc), user),
            Some(Secret::Token(_)) => Checked::Wrong,
            None => self.sample.clone().map_or(Checked::Wrong, |phc| Checked::Slow(phc, None)),
        }
    }

    /// Whose lines are not the same in `newer`.
    pub(super) fn changed(&self, newer: &Self) -> impl Iterator<Item = Arc<str>> {
        let is_changed = |name: &Arc<str>, user: &Arc<User>| newer.by_name.get(name) != Some(user);
        self.by_name
            .iter()
            .filter(move |(name, user)| is_changed(name, user))
            .map(|(name, _)| Arc::clone(name))
    }

    /// The user of this name.
    pub(super) fn get(&self, name: &str) -> Option<Arc<User>> {
        self.by_name.get(name).cloned()
    }

    /// Whether there is a node of this name.
    pub(super) fn has_node(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|user| user.role == Role::Node)
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
            "guest" => Self::Guest,
            "admin" => Self::Admin,
            other => return Err(InvalidLine::Role(other.to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::secret::HORSE, *};

    fn parse(text: &str) -> Result<Users, InvalidUsers> {
        Users::parse(text, &"home".parse().unwrap())
    }

    #[test]
    fn a_users_file_is_read() {
        let secret = Digest::of(b"p");
        let text = format!(
            "# people\n\npi-1  node  sha256:{secret}  groups=canary,all\nanna admin sha256:{secret}\n\
             cam guest sha256:{secret} publish=cam/# subscribe=cam/cmd,time"
        );
        let users = parse(&text).unwrap();
        let node = users.get("pi-1").unwrap();
        assert_eq!(node.groups().iter().map(GroupId::as_str).collect::<Vec<_>>(), ["canary", "all"]);
        assert!(matches!(users.check("pi-1", b"p"), Checked::Right(_)));
        assert!(matches!(users.check("anna", b"q"), Checked::Wrong));
        assert!(matches!(users.check("bert", b"p"), Checked::Wrong));
        assert!(users.get("anna").unwrap().may_upload() && !node.may_upload());
        let texts = |action| {
            users.get("cam").unwrap().filters(action).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(texts(Action::Subscribe), ["cam/cmd", "time"]);
    }

    #[test]
    fn with_chosen_passwords_a_stranger_takes_as_long_as_anybody() {
        let users = parse(&format!("anna admin argon2:{HORSE}")).unwrap();
        assert!(matches!(users.check("anna", b"x"), Checked::Slow(_, Some(_))));
        assert!(matches!(users.check("bert", b"x"), Checked::Slow(_, None)));
    }

    #[test]
    fn changed_lines_are_told_and_new_ones_are_not() {
        let secret = Digest::of(b"p");
        let old =
            parse(&format!("a admin sha256:{secret}\nb admin sha256:{secret}\nc watcher sha256:{secret}"))
                .unwrap();
        let new =
            parse(&format!("b  admin  sha256:{secret}\nc admin sha256:{secret}\nd admin sha256:{secret}"))
                .unwrap();
        let mut changed: Vec<_> = old.changed(&new).map(|name| name.to_string()).collect();
        changed.sort();
        assert_eq!(changed, ["a", "c"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let secret = format!("sha256:{}", Digest::of(b"p"));
        for (text, expected) in [
            ("anna".to_owned(), "a user needs a name, a role and a secret"),
            (format!("anna queen {secret}"), "`queen` is not a role"),
            ("anna admin plain".to_owned(), "the secret is neither"),
            ("anna admin sha256:plain".to_owned(), "the secret is neither"),
            (format!("Pi! node {secret}"), "the name of a node is its node name"),
            (format!("pi node {secret} groups=A"), "a group is not valid"),
            (format!("anna admin {secret} publish=a"), "only a guest has"),
            (format!("cam guest {secret} publish=a#"), "`a#` is not a topic filter"),
            (format!("pi node {secret} bare"), "`bare` is not known here"),
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
