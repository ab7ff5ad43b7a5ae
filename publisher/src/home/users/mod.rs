//! The broker's users file: who may log in, as what. Written here, read by the broker.

mod file;
mod lines;
mod password;

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use schemas::id::Digest;

use self::password::hash;
pub(super) use self::{
    file::HEADING,
    lines::{role_of, with_user},
};
pub(crate) use self::{
    file::{UsersFile, listed},
    lines::Listed,
    password::Password,
};
use super::keys;

/// The role of a device. Those that were added have no line: their signed records let them in.
pub(crate) const NODE: &str = "node";

/// Longest name: the broker says it in every log line about the user.
const MAX_NAME_BYTES: usize = 63;

/// What a user may do; the broker knows what that means for each topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserRole {
    Publisher,
    Controller,
    Watcher,
    HomeAssistant,
    Guest,
    Admin,
}

impl UserRole {
    /// The roles that people and tools may have.
    const CHOSEN: [Self; 6] =
        [Self::Publisher, Self::Controller, Self::Watcher, Self::HomeAssistant, Self::Guest, Self::Admin];

    /// As the users file and the command line spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Controller => "controller",
            Self::Watcher => "watcher",
            Self::HomeAssistant => "home-assistant",
            Self::Guest => "guest",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for UserRole {
    type Err = String;

    /// Reads one of the roles that people and tools may have.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == NODE {
            return Err("nodes have keys and records beside: add them with `publisher node add`".to_owned());
        }
        Self::CHOSEN.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            let names = Self::CHOSEN.map(Self::name);
            format!("use one of {}", names.join(", "))
        })
    }
}

/// A name that the users file takes and logs show as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserName(String);

impl UserName {
    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UserName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins_well && text.len() <= MAX_NAME_BYTES && text.chars().all(is_good) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "use 1 to {MAX_NAME_BYTES} of a-z, A-Z, 0-9, `-`, `_`, `.`, `@`, a letter or digit first"
        ))
    }
}

/// A topic filter that a guest's line can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestFilter(String);

impl FromStr for GuestFilter {
    type Err = &'static str;

    /// MQTT-4.7.1-2 and -3: wildcards stand alone, `#` at the end. The line is split at spaces and commas.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',') {
            return Err("a filter is not empty and has no space or comma");
        }
        let levels: Vec<_> = text.split('/').collect();
        let is_well_placed = |(at, level): (usize, &&str)| match *level {
            "#" => at + 1 == levels.len(),
            "+" => true,
            literal => !literal.contains(['+', '#']),
        };
        if text.len() > 1024 || levels.len() > 32 {
            return Err("a filter has at most 1024 bytes and 32 levels");
        }
        if levels.iter().enumerate().all(is_well_placed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("`+` and `#` stand alone in a level, and `#` in the last one")
        }
    }
}

/// What a user proves itself with.
pub(crate) enum Secret {
    /// 256 random bits: their plain digest cannot be guessed, and log-ins stay cheap.
    Token(String),
    /// Chosen by a person, so that each guess has to cost.
    Password(Password),
}

impl Secret {
    /// A token that nobody has seen.
    pub(crate) fn new_token() -> anyhow::Result<Self> {
        keys::new_token().map(Self::Token)
    }

    /// As the users file has it: nothing that lets anybody in.
    fn stored(&self) -> anyhow::Result<String> {
        match self {
            Self::Token(token) => Ok(format!("sha256:{}", Digest::of(token.as_bytes()))),
            Self::Password(password) => Ok(format!("argon2:{}", hash(password)?)),
        }
    }

    /// SHA-256 of a token: who has it learns nothing of the token.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Token(token) => Some(Digest::of(token.as_bytes())),
            Self::Password(_) => None,
        }
    }

    /// What is typed or configured to log in.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Token(token) => token,
            Self::Password(password) => password.text(),
        }
    }
}

/// One line of the file.
pub(crate) struct User<'a> {
    pub(crate) name: &'a str,
    pub(crate) role: UserRole,
    pub(crate) secret: &'a Secret,
    /// Of a guest.
    pub(crate) publish: &'a [GuestFilter],
    /// Of a guest.
    pub(crate) subscribe: &'a [GuestFilter],
}

impl<'a> User<'a> {
    /// A user whose role says everything.
    pub(crate) fn new(name: &'a str, role: UserRole, secret: &'a Secret) -> Self {
        Self { name, role, secret, publish: &[], subscribe: &[] }
    }

    fn line(&self) -> anyhow::Result<String> {
        let mut line = format!("{:<20} {:<14} {}", self.name, self.role.name(), self.secret.stored()?);
        let mut push = |key: &str, values: Vec<&str>| {
            if !values.is_empty() {
                let _ = write!(line, "  {key}={}", values.join(","));
            }
        };
        push("publish", self.publish.iter().map(|filter| filter.0.as_str()).collect());
        push("subscribe", self.subscribe.iter().map(|filter| filter.0.as_str()).collect());
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_named_and_a_node_is_sent_elsewhere() {
        for role in UserRole::CHOSEN {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("node".parse::<UserRole>().unwrap_err().contains("publisher node add"));
        assert!("king".parse::<UserRole>().unwrap_err().contains("home-assistant"));
    }

    #[test]
    fn names_that_would_break_a_line_are_refused() {
        for good in ["anna", "Anna-2", "anna@home.lan", "a"] {
            assert!(good.parse::<UserName>().is_ok(), "{good}");
        }
        for bad in ["", "#anna", "an na", "-anna", "an\nna", "ännä", &"a".repeat(64)] {
            assert!(bad.parse::<UserName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_that_the_broker_would_refuse_are_refused_here() {
        for good in ["#", "cam/#", "+/a", "/", "cam/+/x"] {
            assert!(good.parse::<GuestFilter>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a,b", "a#", "#/a", "a+/b", "a\0", &"a/".repeat(40)] {
            assert!(bad.parse::<GuestFilter>().is_err(), "{bad}");
        }
    }
}
