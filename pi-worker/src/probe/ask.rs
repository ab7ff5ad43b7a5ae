//! Asking one check once.

use std::{sync::Arc, time::Duration};

use schemas::{id::AppId, release::Probe};
use tokio::{net::TcpStream, time::timeout};

use super::http::{self, Url};
use crate::{container::Containers, fault::chain, program, surroundings::Surroundings, systemd::Units};

/// Everything that checks of a slot need.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) surroundings: Surroundings,
    pub(crate) units: Arc<Units>,
    /// Where commands run, if not on the node itself.
    pub(crate) inside: Option<Inside>,
}

/// The container that serves an app.
#[derive(Debug, Clone)]
pub(crate) struct Inside {
    pub(crate) containers: Arc<Containers>,
    pub(crate) app: AppId,
}

/// What a check remembers from one asking to the next.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How often systemd had restarted the unit when it was first looked at.
    restarts: Option<u32>,
}

impl Asker {
    /// Asks; no answer within `limit` is a bad answer. What was bad is a fragment that names what was asked.
    pub(super) async fn ask(&self, probe: &Probe, limit: Duration, seen: &mut Seen) -> Result<(), String> {
        match probe {
            Probe::Http { url } => self.http(url, limit).await,
            Probe::Tcp { address } => self.tcp(address, limit).await,
            Probe::Exec { command } => self.exec(command, limit).await,
            Probe::SystemdActive { unit } => self.active(unit, limit, seen).await,
        }
    }

    async fn http(&self, url: &str, limit: Duration) -> Result<(), String> {
        let url = self.expand(url)?;
        let parsed: Url = url.parse().map_err(chain)?;
        match timeout(limit, http::get(&parsed)).await {
            Ok(Ok(answer)) if answer.is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("{url} answered {}", answer.status)),
            Ok(Err(err)) => Err(format!("{url}: {}", chain(err))),
            Err(_) => Err(late(&url, limit)),
        }
    }

    async fn tcp(&self, address: &str, limit: Duration) -> Result<(), String> {
        let address = self.expand(address)?;
        match timeout(limit, TcpStream::connect(&address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(err)) => Err(format!("{address}: {err}")),
            Err(_) => Err(late(&address, limit)),
        }
    }

    /// Whether the container itself is well; what is none always is.
    pub(super) async fn ask_container(&self, limit: Duration) -> Result<(), String> {
        let Some(inside) = &self.inside else { return Ok(()) };
        match timeout(limit, inside.containers.serves_well(&inside.app)).await {
            Ok(answer) => answer,
            Err(_) => Err(late("the engine", limit)),
        }
    }

    async fn exec(&self, words: &[String], limit: Duration) -> Result<(), String> {
        if let Some(inside) = &self.inside {
            return self.exec_inside(inside, words, limit).await;
        }
        let command = self.surroundings.command(words).map_err(chain)?;
        let name = words.join(" ");
        match program::run(command, limit).await {
            Ok(ended) if ended.status.success() => Ok(()),
            Ok(ended) => {
                let said = ended.log_tail.last().map(|line| format!(": {line}")).unwrap_or_default();
                Err(format!("`{name}` ended with {}{said}", ended.status))
            }
            Err(err) => Err(format!("`{name}`: {}", chain(err))),
        }
    }

    async fn exec_inside(&self, inside: &Inside, words: &[String], limit: Duration) -> Result<(), String> {
        let name = words.join(" ");
        let words = words.iter().map(|word| self.expand(word)).collect::<Result<Vec<_>, _>>()?;
        match inside.containers.exec(&inside.app, (&words, &name), limit).await {
            Ok(ended) if ended.code == 0 => Ok(()),
            Ok(ended) => {
                let said = ended.log_tail.last().map(|line| format!(": {line}")).unwrap_or_default();
                Err(format!("`{name}` ended with exit code {}{said}", ended.code))
            }
            Err(fault) => Err(fault.text),
        }
    }

    async fn active(&self, unit: &str, limit: Duration, seen: &mut Seen) -> Result<(), String> {
        let unit = self.expand(unit)?;
        match timeout(limit, self.units.state(&unit)).await {
            Ok(Ok(state)) => {
                let restarts = *seen.restarts.get_or_insert(state.restarts());
                state.trouble(&unit, restarts).map_or(Ok(()), Err)
            }
            Ok(Err(fault)) => Err(fault.text),
            Err(_) => Err(late(&unit, limit)),
        }
    }

    pub(super) fn expand(&self, text: &str) -> Result<String, String> {
        self.surroundings.environment().expand(text).map_err(|err| err.to_string())
    }
}

fn late(what: &str, limit: Duration) -> String {
    format!("{what}: no answer within {} ms", limit.as_millis())
}
