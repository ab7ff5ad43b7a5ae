//! Passwords that people choose: which are too weak, and the hash that the broker keeps.

use anyhow::{Context as _, Result, anyhow};
use argon2::{Argon2, PasswordHasher as _, password_hash::SaltString};

use crate::problem::problem;

/// Shortest password: what can be reached over the network only, and slowly, needs no more.
const MIN_CHARS: usize = 12;
/// Longest one: a CONNECT has room for far more, a person does not.
const MAX_BYTES: usize = 256;
/// `aaaaaaaaaaaa` and `abababababab` are no passwords.
const MIN_DIFFERENT: usize = 5;

/// A password that is not too weak. Printed nowhere.
pub(crate) struct Password(String);

impl Password {
    /// Takes what `user` chose.
    pub(crate) fn new(text: String, user: &str) -> Result<Self> {
        match weakness(&text, user) {
            None => Ok(Self(text)),
            Some(why) => Err(problem(
                format!("this password is too weak: {why}"),
                "choose another one, or leave --password away and get a token that nobody can guess",
            )),
        }
    }

    /// The password itself.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

fn weakness(text: &str, user: &str) -> Option<String> {
    let mut different: Vec<char> = text.to_lowercase().chars().collect();
    different.sort_unstable();
    different.dedup();
    // Digits or letters that follow each other are one choice, not many.
    let steps = text
        .chars()
        .zip(text.chars().skip(1))
        .map(|(a, b)| i64::from(u32::from(b)) - i64::from(u32::from(a)));
    let followers = steps.filter(|step| step.abs() <= 1).count();
    if text.chars().count() < MIN_CHARS {
        Some(format!("it has less than {MIN_CHARS} characters"))
    } else if text.len() > MAX_BYTES {
        Some(format!("it has more than {MAX_BYTES} bytes"))
    } else if text.chars().any(char::is_control) {
        Some("it has control characters".to_owned())
    } else if different.len() < MIN_DIFFERENT {
        Some(format!("it has less than {MIN_DIFFERENT} different characters"))
    } else if followers * 2 > text.chars().count() {
        Some("most of its characters follow each other".to_owned())
    } else if user.len() * 2 >= text.len() && text.to_lowercase().contains(&user.to_lowercase()) {
        Some("it is little more than the user's name".to_owned())
    } else {
        None
    }
}

/// The PHC string of a password: argon2id with 19 MiB, 2 rounds, 1 lane, as OWASP's cheat sheet on password storage
/// recommends and a Pi can pay. Those are the library's defaults; a test holds them.
pub(super) fn hash(password: &Password) -> Result<String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).context("cannot get random numbers from the system")?;
    let failed = |err: argon2::password_hash::Error| anyhow!("cannot hash the password: {err}");
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    let hash = Argon2::default().hash_password(password.0.as_bytes(), &salt).map_err(failed)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHash, PasswordVerifier as _};

    use super::*;

    #[test]
    fn weak_passwords_are_refused_and_never_quoted() {
        for weak in
            ["short", "abababababab", "123456789012", "abcdefghijklmn", "annaannaanna1", "a\tbcxyzw123q9"]
        {
            let err = Password::new(weak.to_owned(), "annaannaanna").err().unwrap().to_string();
            assert!(err.starts_with("this password is too weak: ") && !err.contains(weak), "{err}");
        }
        assert!(Password::new("x".repeat(300), "anna").is_err());
        assert!(Password::new("correct horse battery".to_owned(), "anna").is_ok());
    }

    #[test]
    fn the_hash_has_the_recommended_cost_and_its_own_salt() {
        let password = Password::new("correct horse battery".to_owned(), "anna").unwrap();
        let (one, two) = (hash(&password).unwrap(), hash(&password).unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, two);
        let parsed = PasswordHash::new(&one).unwrap();
        assert!(Argon2::default().verify_password(b"correct horse battery", &parsed).is_ok());
    }
}
