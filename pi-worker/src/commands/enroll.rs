//! `pi-worker enroll`: a node makes its own key and asks to be let into the fleet.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use agent::{
    Settings,
    enroll::{self, News},
    program::say,
};
use anyhow::{Context as _, Result};
use tokio::runtime;
use tracing::{info, warn};

use super::EnrollArgs;
use crate::data;

/// Why the command does not begin to ask.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAsked {
    /// Nothing says where to ask.
    #[error("there is no settings file {0}")]
    NoSettings(PathBuf),
    /// Both the command line and the file say where to ask.
    #[error("settings file {0} is there already, and the command line has settings too")]
    SaidTwice(PathBuf),
    /// There is nothing to ask for.
    #[error("this node is in the fleet already: {0} says so")]
    IsIn(PathBuf),
    /// A file cannot be written.
    #[error("cannot {doing} {path}")]
    Write {
        /// What was tried.
        doing: String,
        /// The file or folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

impl NotAsked {
    /// What a person should do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::NoSettings(_) => {
                "say --node, --bus and --store to make one, or say with --config where it is"
            }
            Self::SaidTwice(_) => "correct it there and leave --node, --bus and --store out, or delete it",
            Self::IsIn(_) => "start it with `pi-worker run`; another token comes with --renew",
            Self::Write { .. } => "see that both files are there, and that this user may write to the folder",
        }
    }
}

pub(super) fn run(config: &Path, arguments: &EnrollArgs) -> Result<ExitCode> {
    if !config.exists() {
        write_settings(config, arguments)?;
    } else if arguments.node.is_some() || arguments.bus.is_some() || arguments.store.is_some() {
        return Err(NotAsked::SaidTwice(config.to_owned()).into());
    }
    let settings = data::load(config)?;
    if arguments.offline {
        let listed = enroll::make_keys(&settings)?;
        say(&format!("{} {} {}", settings.node, listed.key, listed.login));
        return Ok(ExitCode::SUCCESS);
    }
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    if arguments.renew {
        runtime.block_on(enroll::renew(&settings, teller()))?;
        say("the fleet knows the new token: restart the worker");
        return Ok(ExitCode::SUCCESS);
    }
    if settings.record.exists() {
        return Err(NotAsked::IsIn(settings.record).into());
    }
    runtime.block_on(enroll::enroll(&settings, teller()))?;
    say(&format!("{} is let in; next: pi-worker run --config {}", settings.node, config.display()));
    Ok(ExitCode::SUCCESS)
}

/// Before the node itself, where it was invited: it asks until it is let in.
pub(super) async fn first(settings: &Settings) -> Result<()> {
    enroll::finish_renewal(settings).await?;
    if !enroll::is_invited(settings) {
        return Ok(());
    }
    info!(node = %settings.node, "asking to be let in, as invited");
    enroll::enroll(settings, teller()).await?;
    info!(node = %settings.node, "let in");
    Ok(())
}

/// Says what is new once.
fn teller() -> impl FnMut(&News) {
    let mut last = None;
    move |news| {
        if last.as_ref() == Some(news) {
            return;
        }
        match news {
            News::Waiting { words, key } => {
                say(&format!(
                    "waiting to be let in; compare these words with those of `publisher status`:\n  {words}"
                ));
                info!(%key, "waiting to be let in");
            }
            News::Full => warn!("too many nodes wait to be let in: asking again"),
            News::Unreachable(why) => warn!("asking again: {why}"),
        }
        last = Some(news.clone());
    }
}

/// The settings that the command line says, as a file.
fn write_settings(config: &Path, arguments: &EnrollArgs) -> Result<(), NotAsked> {
    let EnrollArgs { node, fleet, bus, store, ca, root, data, .. } = arguments;
    let (Some(node), Some(bus), Some(store)) = (node, bus, store) else {
        return Err(NotAsked::NoSettings(config.to_owned()));
    };
    let folder = config.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(failed("make", folder))?;
    let ca = match ca {
        Some(ca) => {
            let copy = folder.join("ca.pem");
            fs::copy(ca, &copy).map_err(failed(&format!("copy {} to", ca.display()), &copy))?;
            "ca = \"ca.pem\"\n"
        }
        None => "",
    };
    if let Some(root) = root {
        let copy = folder.join("root.cbor");
        fs::copy(root, &copy).map_err(failed(&format!("copy {} to", root.display()), &copy))?;
    }
    let data = toml_text(&data.to_string_lossy());
    let (bus, store) = (toml_text(bus), toml_text(store));
    let text = format!(
        "node = \"{node}\"\nfleet = \"{fleet}\"\nbus = {bus}\nstore = [{store}]\n{ca}data = {data}\n"
    );
    agent::replace_file(config, text.as_bytes()).map_err(failed("write", config))
}

fn failed(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> NotAsked {
    move |source| NotAsked::Write { doing: doing.to_owned(), path: path.to_owned(), source }
}

/// A basic string of TOML: its escapes are those of JSON for what is no control character.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
