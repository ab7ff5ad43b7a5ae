//! The text of the users file, line by line. Pure: text in, text out; what is not asked for stays as it was.

use serde::Serialize;

use super::User;

/// Who is in the file.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Listed<'a> {
    #[serde(rename = "user")]
    pub(crate) name: &'a str,
    pub(crate) role: &'a str,
    /// `token` or `password`.
    pub(crate) secret: &'static str,
    /// `groups=…`, `publish=…`, `subscribe=…`.
    #[serde(rename = "may")]
    pub(crate) rest: Vec<&'a str>,
}

/// The users of the file, in its order.
pub(crate) fn listed(text: &str) -> impl Iterator<Item = Listed<'_>> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next().filter(|name| !name.starts_with('#'))?;
        let (role, secret) = (words.next()?, words.next()?);
        let secret = if secret.starts_with("argon2:") { "password" } else { "token" };
        Some(Listed { name, role, secret, rest: words.collect() })
    })
}

/// The role of a user, as the file spells it.
pub(crate) fn role_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    listed(text).find(|user| user.name == name).map(|user| user.role)
}

/// The text with a line for `user`, in the place of the line that it had.
pub(crate) fn with_user(text: &str, user: &User<'_>) -> anyhow::Result<String> {
    let line = user.line()?;
    Ok(if role_of(text, user.name).is_some() {
        replaced(text, user.name, |_| Some(line.clone()))
    } else {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        format!("{text}{end}{line}\n")
    })
}

/// The text without the user's line.
pub(super) fn without_user(text: &str, name: &str) -> String {
    replaced(text, name, |_| None)
}

/// The text with another secret in the user's line.
pub(super) fn with_secret(text: &str, name: &str, secret: &str) -> String {
    replaced(text, name, |line| {
        let old = line.split_whitespace().nth(2)?;
        // The third word: a name or a role never contains the `:` of a secret.
        Some(line.replacen(old, secret, 1))
    })
}

fn replaced(text: &str, name: &str, with: impl Fn(&str) -> Option<String>) -> String {
    let is_users = |line: &str| line.split_whitespace().next() == Some(name);
    let lines =
        text.lines().filter_map(|line| if is_users(line) { with(line) } else { Some(line.to_owned()) });
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{HEADING, Secret, UserRole},
        *,
    };

    #[test]
    fn a_user_keeps_its_place_and_others_their_lines() {
        let token = |token: &str| Secret::Token(token.to_owned());
        let guest = |text: &str, secret: &str| {
            let secret = token(secret);
            let publish = ["pi/#", "log/pi"].map(|filter| filter.parse().unwrap());
            let user = User { publish: &publish, ..User::new("pi", UserRole::Guest, &secret) };
            with_user(text, &user).unwrap()
        };
        let secret = token("w");
        let watcher = User::new("watcher", UserRole::Watcher, &secret);
        let one = with_user(&guest(HEADING, "a"), &watcher).unwrap();
        let two = guest(&one, "b");
        assert_eq!(two.lines().count(), 4);
        assert_ne!(one, two);
        assert_eq!(guest(&two, "a"), one);
        assert_eq!(
            (role_of(&two, "pi"), role_of(&two, "pi2"), role_of(&two, "watcher")),
            (Some("guest"), None, Some("watcher"))
        );
        assert!(one.lines().nth(2).unwrap().ends_with("  publish=pi/#,log/pi"));
    }

    #[test]
    fn only_what_is_asked_for_changes() {
        let text = "# mine\n\ncam  guest sha256:00  publish=cam/#\nanna admin argon2:$x  # not a comment";
        assert_eq!(without_user(text, "cam"), "# mine\n\nanna admin argon2:$x  # not a comment\n");
        assert_eq!(
            with_secret(text, "cam", "argon2:$y"),
            "# mine\n\ncam  guest argon2:$y  publish=cam/#\nanna admin argon2:$x  # not a comment\n"
        );
        assert_eq!(with_secret(text, "nobody", "x"), text.to_owned() + "\n");
        let users: Vec<_> = listed(text).collect();
        assert_eq!(
            users[0],
            Listed { name: "cam", role: "guest", secret: "token", rest: vec!["publish=cam/#"] }
        );
        assert_eq!((users[1].name, users[1].secret, users.len()), ("anna", "password", 2));
    }
}
