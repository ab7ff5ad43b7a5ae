//! Passphrases of key files: where they come from.

use std::{
    env, fmt, fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use zeroize::Zeroizing;

use crate::problem::{Advise as _, problem};

/// The passphrase itself, and the file that has it, for machines where nobody types.
const VARIABLE: &str = "DEPLOYBUS_PASSPHRASE";
const FILE_VARIABLE: &str = "DEPLOYBUS_PASSPHRASE_FILE";
/// Shortest passphrase: whoever has the file can try as fast as they can compute.
const MIN_CHARS: usize = 12;

/// What opens a key file. Printed nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes `text` as it is.
    pub(super) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// A new one for a key file: typed twice, or from the environment.
    pub(crate) fn choose() -> Result<Self> {
        let chosen = match from_environment()? {
            Some(passphrase) => passphrase,
            None => type_twice()?,
        };
        if chosen.0.chars().count() < MIN_CHARS {
            return Err(problem(
                format!("this passphrase has less than {MIN_CHARS} characters"),
                "choose a longer one: five words that nobody says together are good",
            ));
        }
        Ok(chosen)
    }

    /// The passphrase itself.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// Asks for passphrases, once for all files that have the same one.
#[derive(Debug, Default)]
pub(crate) struct Asker(Mutex<Option<Passphrase>>);

impl Asker {
    /// Opens the file at `path` with `open`, which is tried with the passphrase that opened another file first.
    pub(super) fn open<T>(
        &self,
        path: &Path,
        open: impl Fn(&Passphrase) -> Result<T>,
    ) -> Result<(T, Passphrase)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(passphrase) = known.clone()
            && let Ok(opened) = open(&passphrase)
        {
            return Ok((opened, passphrase));
        }
        let passphrase = match from_environment()? {
            Some(passphrase) => passphrase,
            None => type_once(path)?,
        };
        let opened = open(&passphrase)?;
        *known = Some(passphrase.clone());
        Ok((opened, passphrase))
    }
}

fn from_environment() -> Result<Option<Passphrase>> {
    if let Ok(text) = env::var(VARIABLE) {
        return Ok(Some(Passphrase::new(text)));
    }
    let Some(path) = env::var_os(FILE_VARIABLE).map(PathBuf::from) else { return Ok(None) };
    let text = fs::read_to_string(&path)
        .advise(format!("cannot read {}", path.display()), format!("see what {FILE_VARIABLE} says"))?;
    Ok(Some(Passphrase::new(text.lines().next().unwrap_or_default().to_owned())))
}

fn type_once(path: &Path) -> Result<Passphrase> {
    has_terminal(&format!("key file {} has a passphrase", path.display()))?;
    prompt(&format!("passphrase of {}: ", path.display()))
}

fn type_twice() -> Result<Passphrase> {
    has_terminal("a passphrase is to be typed")?;
    let (first, again) = (prompt("new passphrase: ")?, prompt("the same again: ")?);
    if first != again {
        return Err(problem("the two are not the same", "type it again: nothing was changed"));
    }
    Ok(first)
}

fn has_terminal(what: &str) -> Result<()> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(problem(
        format!("{what}, and there is no terminal"),
        format!("give it in the environment, as {VARIABLE} or as a file that {FILE_VARIABLE} names"),
    ))
}

fn prompt(text: &str) -> Result<Passphrase> {
    rpassword::prompt_password(text).map(Passphrase::new).context("cannot read the passphrase")
}
