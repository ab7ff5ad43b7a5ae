//! The broker's users file: who may log in, as what. Written here, read by the broker. Pure: text in, text out.

use std::{collections::BTreeSet, fmt};

use schemas::id::{Digest, GroupId};

/// What a user may do; the broker knows what that means for each topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserRole {
    Node,
    Publisher,
    Watcher,
}

impl UserRole {
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Publisher => "publisher",
            Self::Watcher => "watcher",
        }
    }
}

/// One line of the file.
pub(super) struct User<'a> {
    pub(super) name: &'a str,
    pub(super) role: UserRole,
    pub(super) password: &'a str,
    pub(super) groups: &'a BTreeSet<GroupId>,
}

impl fmt::Display for User<'_> {
    /// Passwords are 256 random bits, so a plain digest cannot be guessed and log-ins stay cheap.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = Digest::of(self.password.as_bytes());
        write!(f, "{:<20} {:<10} sha256:{secret}", self.name, self.role.name())?;
        if !self.groups.is_empty() {
            let groups: Vec<_> = self.groups.iter().map(GroupId::as_str).collect();
            write!(f, "  groups={}", groups.join(","))?;
        }
        Ok(())
    }
}

/// The first lines of a new file.
pub(super) const HEADING: &str = "# Who may log in to the broker. Written by `publisher`; the broker reads it again when it changes.\n\
                                  # name               role       secret\n";

/// The role of a user, as the file spells it.
pub(super) fn role_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .map(str::split_whitespace)
        .find_map(|mut words| (words.next()? == name).then(|| words.next())?)
}

/// The text with a line for `user`, in the place of the line that it had.
pub(super) fn with_user(text: &str, user: &User<'_>) -> String {
    let is_users = |line: &&str| line.split_whitespace().next() == Some(user.name);
    let has_line = text.lines().any(|line| is_users(&line));
    let line = user.to_string();
    let mut lines: Vec<&str> =
        text.lines().map(|old| if is_users(&old) { line.as_str() } else { old }).collect();
    if !has_line {
        lines.push(&line);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_keeps_its_place_and_others_their_lines() {
        let groups = ["all", "canary"].map(|group| group.parse().unwrap()).into();
        let node = |password| User { name: "pi", role: UserRole::Node, password, groups: &groups };
        let none = BTreeSet::new();
        let watcher = User { name: "watcher", role: UserRole::Watcher, password: "w", groups: &none };
        let one = with_user(&with_user(HEADING, &node("a")), &watcher);
        let two = with_user(&one, &node("b"));
        assert_eq!(two.lines().count(), 4);
        assert_ne!(one, two);
        assert_eq!(with_user(&two, &node("a")), one);
        assert_eq!(
            (role_of(&two, "pi"), role_of(&two, "pi2"), role_of(&two, "watcher")),
            (Some("node"), None, Some("watcher"))
        );
        assert!(one.lines().nth(2).unwrap().ends_with("  groups=all,canary"));
    }
}
