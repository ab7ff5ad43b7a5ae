//! `pi-worker enroll`: a node makes its own key and asks to be let into the fleet.

use std::{fs, path::Path, process::ExitCode};

use agent::{
    Settings,
    enroll::{self, News},
};
use anyhow::{Context as _, ensure};
use tokio::runtime;
use tracing::{info, warn};

use super::{EnrollArgs, say};
use crate::data;

pub(super) fn run(config: &Path, arguments: &EnrollArgs) -> anyhow::Result<ExitCode> {
    if !config.exists() {
        write_settings(config, arguments)?;
    } else if arguments.node.is_some() || arguments.bus.is_some() || arguments.store.is_some() {
        anyhow::bail!("{} says these things already: correct it there, or delete it", config.display());
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
    ensure!(
        !settings.record.exists(),
        "this node is in the fleet already: {} says so",
        settings.record.display()
    );
    runtime.block_on(enroll::enroll(&settings, teller()))?;
    say(&format!("{} is let in; next: pi-worker run --config {}", settings.node, config.display()));
    Ok(ExitCode::SUCCESS)
}

/// Before the node itself, where it was invited: it asks until it is let in.
pub(super) async fn first(settings: &Settings) -> anyhow::Result<()> {
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
fn write_settings(config: &Path, arguments: &EnrollArgs) -> anyhow::Result<()> {
    let EnrollArgs { node, fleet, bus, store, ca, root, data, .. } = arguments;
    let (Some(node), Some(bus), Some(store)) = (node, bus, store) else {
        anyhow::bail!(
            "there is no settings file {}: say --node, --bus and --store to make one",
            config.display()
        );
    };
    let folder = config.parent().context("the settings file lies in no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let ca = match ca {
        Some(ca) => {
            let copy = folder.join("ca.pem");
            fs::copy(ca, &copy)
                .with_context(|| format!("cannot copy {} to {}", ca.display(), copy.display()))?;
            "ca = \"ca.pem\"\n"
        }
        None => "",
    };
    if let Some(root) = root {
        let copy = folder.join("root.cbor");
        fs::copy(root, &copy)
            .with_context(|| format!("cannot copy {} to {}", root.display(), copy.display()))?;
    }
    let data = toml_text(&data.to_string_lossy());
    let (bus, store) = (toml_text(bus), toml_text(store));
    let text = format!(
        "node = \"{node}\"\nfleet = \"{fleet}\"\nbus = {bus}\nstore = [{store}]\n{ca}data = {data}\n"
    );
    agent::replace_file(config, text.as_bytes()).with_context(|| format!("cannot write {}", config.display()))
}

/// A basic string of TOML: its escapes are those of JSON for what is no control character.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
