//! What the programs of a release find around them: folders, environment, and which file a command means.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use machine::{Fault, Slot};
use schemas::id::{AppId, Digest};
use tokio::process::Command;

use crate::{
    environment::{Environment, ExpandError},
    fault::OnPath as _,
    slots::Places,
};

/// Why a command of a release cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// There are no words in it.
    #[error("command is empty")]
    Empty,
    /// It needs what nobody says.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// There is no such program.
    #[error("program `{program}` is not in PATH ({path})")]
    NotInPath {
        /// The program.
        program: String,
        /// Where it was looked for.
        path: String,
    },
}

/// What the programs of one slot find around them.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    slot: PathBuf,
    work: PathBuf,
    data: PathBuf,
    environment: Environment,
}

impl Surroundings {
    pub(crate) fn new(places: &Places, app: &AppId, slot: &Slot, node: &BTreeMap<String, String>) -> Self {
        let tree = slot.tree();
        let (folder, work, data) = (places.slot(tree), places.work(tree), places.data().to_owned());
        let text = |path: &Path| path.display().to_string();
        // A slot is read-only, so Python could not keep what it compiles there.
        let defaults = [("PYTHONPYCACHEPREFIX", text(&places.pycache()))];
        let own = [
            ("DEPLOYBUS_APP", app.to_string()),
            ("DEPLOYBUS_VERSION", slot.version.clone()),
            ("DEPLOYBUS_COMMIT", slot.commit.clone()),
            ("DEPLOYBUS_TREE_HASH", tree.to_string()),
            (SLOT_VARIABLE, text(&folder)),
            ("DEPLOYBUS_DATA", text(&data)),
            ("DEPLOYBUS_WORK", text(&work)),
        ];
        let environment = Environment::merge([&layer(defaults), &slot.part.env, node, &layer(own)]);
        Self { slot: folder, work, data, environment }
    }

    /// The merged environment.
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Makes the folders that programs may write to.
    pub(crate) fn make_folders(&self) -> Result<(), Fault> {
        for folder in [&self.work, &self.data] {
            fs::create_dir_all(folder).on_path("create", folder)?;
        }
        Ok(())
    }

    /// Names what would be run, so that a running process can be told from another release's.
    pub(crate) fn launch(&self, words: &[String]) -> Digest {
        Digest::of(&schemas::codec::encode(&(words, self.environment.values())))
    }

    /// A command of the release: in a process group of its own, in the slot, without standard input.
    ///
    /// A program with a `/` is a path, relative to the slot; one without is looked for in `PATH` alone.
    pub(crate) fn command(&self, words: &[String]) -> Result<Command, CommandError> {
        let words: Vec<_> =
            words.iter().map(|word| self.environment.expand(word)).collect::<Result<_, _>>()?;
        let (program, arguments) = words.split_first().ok_or(CommandError::Empty)?;
        let environment = self.environment.for_program(|name| std::env::var(name).ok());
        let path = environment.get("PATH").map_or("", String::as_str);
        let mut command = Command::new(self.program(program, path)?);
        command.args(arguments).env_clear().envs(&environment);
        command.current_dir(&self.slot).process_group(0).stdin(Stdio::null());
        Ok(command)
    }

    fn program(&self, program: &str, path: &str) -> Result<PathBuf, CommandError> {
        if program.contains('/') {
            return Ok(self.slot.join(program));
        }
        let mut places = path.split(':').filter(|folder| folder.starts_with('/'));
        places
            .find_map(|folder| Some(Path::new(folder).join(program)).filter(|file| is_program(file)))
            .ok_or_else(|| CommandError::NotInPath { program: program.to_owned(), path: path.to_owned() })
    }
}

/// Every process of an app has it, so that one whose pid was lost can be found.
pub(crate) const SLOT_VARIABLE: &str = "DEPLOYBUS_SLOT";

/// Paths of the node, which mean nothing inside a container.
pub(crate) const HOST_ONLY: [&str; 4] =
    [SLOT_VARIABLE, "DEPLOYBUS_DATA", "DEPLOYBUS_WORK", "PYTHONPYCACHEPREFIX"];

fn layer<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::fixture::Fixture;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_path_is_relative_to_the_slot_and_a_name_is_looked_for_in_path() {
        let node = Fixture::new();
        let app = node.install("1", &[("bin/run", "#!/bin/sh", true), ("sh", "evil", true)]);
        let around = Surroundings::new(node.places(), &"web".parse().unwrap(), &app.slot, &BTreeMap::new());
        let slot = node.places().slot(app.slot.tree());
        let program = |first: &str| {
            around.command(&words(&[first])).map(|command| PathBuf::from(command.as_std().get_program()))
        };
        assert_eq!(program("bin/run").unwrap(), slot.join("bin/run"));
        assert_eq!(program("./sh").unwrap(), slot.join("./sh"));
        assert_eq!(program("/bin/true").unwrap(), Path::new("/bin/true"));
        assert!(!program("sh").unwrap().starts_with(&slot));
        let missing = program("pyhton3").unwrap_err().to_string();
        assert!(missing.starts_with("program `pyhton3` is not in PATH (/"), "{missing}");
        assert!(matches!(around.command(&[]), Err(CommandError::Empty)));
        assert!(matches!(program("${NOPE}"), Err(CommandError::Expand(_))));
    }

    #[test]
    fn another_environment_or_command_is_another_launch() {
        let node = Fixture::new();
        let app = node.install("1", &[("a", "1", false)]);
        let around = |port: &str| {
            let env = BTreeMap::from([("PORT".to_owned(), port.to_owned())]);
            Surroundings::new(node.places(), &"web".parse().unwrap(), &app.slot, &env)
        };
        let launch = |port: &str, command: &[&str]| around(port).launch(&words(command));
        assert_eq!(launch("1", &["a"]), launch("1", &["a"]));
        assert_ne!(launch("1", &["a"]), launch("2", &["a"]));
        assert_ne!(launch("1", &["a"]), launch("1", &["a", "b"]));
    }
}
