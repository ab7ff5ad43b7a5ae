//! `deploybus.toml`: what of a folder is deployed, how it is run and how it proves itself. Pure: text in, [`AppFile`] out.
//!
//! What a key may say is checked while it is read, so that each error comes with its line.

mod check;
mod container;
mod joint;
mod pico;
mod run;

use std::{collections::BTreeMap, time::Duration};

use schemas::{
    id::AppId,
    release::{ANY_PLATFORM, Check, Hook, Proof, Run, Trial, container::Container},
};
use serde::Deserialize;
use toml::Spanned;

use self::{
    check::{CheckEntry, ProofTable},
    container::ContainerTable,
    joint::JointTable,
    pico::PicoTable,
    run::{HooksTable, RunTable, TrialTable},
};
pub(crate) use self::{joint::Joint, pico::Pico};

/// The file's name; it lies in the folder that is deployed and is itself left out.
pub(crate) const NAME: &str = "deploybus.toml";

/// The least that a file needs, shown to those who have none.
pub(crate) const EXAMPLE: &str = "[app]\nname = \"web\"\n\n[run]\ncommand = [\"python3\", \"app.py\"]";

/// The settings of an app, in the words of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppFile {
    pub(crate) name: AppId,
    pub(crate) version: Option<Version>,
    pub(crate) platform: String,
    pub(crate) files: FileRules,
    pub(crate) run: Run,
    pub(crate) container: Option<Box<Container>>,
    /// What of it a Pico gets, where it is for Picos.
    pub(crate) pico: Option<Pico>,
    /// What its Picos keep together with a Pi.
    pub(crate) joint: Option<Joint>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) pre_check: Option<Hook>,
    pub(crate) checks: Vec<Check>,
    pub(crate) proof: Proof,
    pub(crate) trial: Trial,
}

/// Which files belong to the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRules {
    /// Patterns as in .gitignore; when there are any, nothing else is taken.
    pub(crate) include: Vec<String>,
    /// Patterns as in .gitignore of what is left out.
    pub(crate) ignore: Vec<String>,
    /// Whether .gitignore files count.
    pub(crate) gitignore: bool,
}

/// A version text: it stands in file names, topics' payloads and tables, so it has no spaces and no slashes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Version(String);

/// A text that is no version.
#[derive(Debug, thiserror::Error)]
#[error("version `{0}` is not 1 to 64 of letters, digits and . _ + ~ -")]
pub(crate) struct InvalidVersion(String);

impl TryFrom<String> for Version {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._+~-".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text))
        } else {
            Err(InvalidVersion(text.chars().take(80).collect()))
        }
    }
}

impl std::str::FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        text.to_owned().try_into()
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a `deploybus.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppFileError {
    /// No TOML, or a key that is unknown, missing, or says something that cannot be meant.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// A check whose keys do not go together.
    #[error("line {line}: {text}")]
    Check {
        /// Where the check begins.
        line: usize,
        /// What is wrong.
        text: String,
    },
    /// A container is run by the engine, and by nothing else.
    #[error("a file has either [run] or [container]")]
    RunAndContainer,
    /// A Pico runs `main.py`, and its guard says how that is.
    #[error(
        "a file with [pico] has no [{0}]: a Pico runs main.py of the folder, or the firmware, and the bridge watches it"
    )]
    PicoAnd(&'static str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    app: AppTable,
    run: Option<RunTable>,
    container: Option<ContainerTable>,
    pico: Option<PicoTable>,
    joint: Option<JointTable>,
    #[serde(default)]
    env: EnvTable,
    #[serde(default)]
    check: Vec<Spanned<CheckEntry>>,
    proof: Option<ProofTable>,
    #[serde(default)]
    hooks: HooksTable,
    #[serde(default)]
    trial: TrialTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppTable {
    name: AppId,
    version: Option<Version>,
    #[serde(default)]
    platform: Platform,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    ignore: Vec<String>,
    #[serde(default = "yes")]
    gitignore: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Platform(String);

impl Default for Platform {
    fn default() -> Self {
        Self(ANY_PLATFORM.to_owned())
    }
}

impl TryFrom<String> for Platform {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let is_pair = text.split_once('/').is_some_and(|(os, arch)| plain(os) && plain(arch));
        if text == ANY_PLATFORM || is_pair {
            Ok(Self(text))
        } else {
            Err(format!("platform `{text}` is neither `any` nor like `linux/aarch64`"))
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
struct EnvTable(BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, String>> for EnvTable {
    type Error = String;

    fn try_from(env: BTreeMap<String, String>) -> Result<Self, String> {
        for (name, value) in &env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(format!("`{name}` cannot be set as an environment variable"));
            }
            if name.starts_with("DEPLOYBUS_") {
                return Err(format!("`{name}` is set by the worker itself"));
            }
        }
        Ok(Self(env))
    }
}

/// Reads the text of a `deploybus.toml`.
///
/// # Errors
/// When it is no TOML, or a key is unknown, missing or says something that cannot be meant; with line and column.
pub(crate) fn parse(text: &str) -> Result<AppFile, AppFileError> {
    let file: File = toml::from_str(text)?;
    if file.run.is_some() && file.container.is_some() {
        return Err(AppFileError::RunAndContainer);
    }
    if let Some(table) = of_no_pico(&file).filter(|_| file.pico.is_some()) {
        return Err(AppFileError::PicoAnd(table));
    }
    let pico = file.pico.map(|pico| pico.0);
    let checks = file.check.into_iter().map(|entry| check(text, entry)).collect::<Result<_, _>>()?;
    let files = match &pico {
        Some(Pico::Firmware { file, .. }) => pico::alone(file),
        _ => FileRules { include: file.app.include, ignore: file.app.ignore, gitignore: file.app.gitignore },
    };
    Ok(AppFile {
        name: file.app.name,
        version: file.app.version,
        platform: file.app.platform.0,
        files,
        run: file.run.map_or(Run::None, |run| run.0),
        container: file.container.map(|container| Box::new(container.0)),
        pico,
        joint: file.joint.map(|joint| joint.0),
        env: file.env.0,
        pre_check: file.hooks.0,
        checks,
        proof: file.proof.map_or(Proof::None, |proof| proof.0),
        trial: file.trial.0,
    })
}

/// A table of the file that says nothing to a Pico.
fn of_no_pico(file: &File) -> Option<&'static str> {
    let tables = [
        ("run", file.run.is_some()),
        ("container", file.container.is_some()),
        ("joint", file.joint.is_some()),
        ("env", !file.env.0.is_empty()),
        ("check", !file.check.is_empty()),
        ("proof", file.proof.is_some()),
        ("hooks", file.hooks.0.is_some()),
    ];
    tables.into_iter().find_map(|(table, is_there)| is_there.then_some(table))
}

fn check(text: &str, entry: Spanned<CheckEntry>) -> Result<Check, AppFileError> {
    let line = 1 + text[..entry.span().start].matches('\n').count();
    entry.into_inner().try_into().map_err(|text| AppFileError::Check { line, text })
}

/// Program and arguments.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<String>")]
struct Command(Vec<String>);

impl TryFrom<Vec<String>> for Command {
    type Error = &'static str;

    fn try_from(words: Vec<String>) -> Result<Self, &'static str> {
        match words.first() {
            None => Err("a command needs a program"),
            Some(program) if program.is_empty() => Err("the program of a command is empty"),
            Some(_) if words.iter().any(|word| word.contains('\0')) => Err("a command has a NUL character"),
            Some(_) => Ok(Self(words)),
        }
    }
}

/// A duration such as `"500ms"`; never zero, for a timeout of nothing is no timeout.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "AnyPeriod")]
struct Period(u64);

#[derive(Deserialize)]
#[serde(transparent)]
struct AnyPeriod(#[serde(with = "humantime_serde")] Duration);

impl TryFrom<AnyPeriod> for Period {
    type Error = &'static str;

    fn try_from(AnyPeriod(duration): AnyPeriod) -> Result<Self, &'static str> {
        match u64::try_from(duration.as_millis()) {
            Ok(0) => Err("a duration must be at least 1ms"),
            Ok(ms) => Ok(Self(ms)),
            Err(_) => Err("a duration is too long"),
        }
    }
}

/// The one of several keys that is set; exactly one must be.
fn exactly_one<T>(what: &str, choices: Vec<(&str, Option<T>)>) -> Result<T, String> {
    let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
    let mut set: Vec<T> = choices.into_iter().filter_map(|(_, value)| value).collect();
    match (set.pop(), set.is_empty()) {
        (Some(value), true) => Ok(value),
        (_, _) => Err(format!("{what} needs exactly one of {}", names.join(", "))),
    }
}

#[cfg(test)]
mod tests;
