//! Tidying up the engine's disk, because somebody asks for it: what no release needs any more goes.

use std::sync::Arc;

use schemas::{
    hold::{Ask, MAX_ASK_ID_BYTES},
    id::AppId,
    prune::{MAX_NAMES, Pruned},
    status::Phase,
};
use tracing::{error, info, warn};

use super::{App, Event, Installer, Node};
use crate::{
    chain::chain,
    installer::{Tidied, Tidying},
};

/// More of what went wrong is in the worker's log.
const MAX_ERROR_CHARS: usize = 500;

impl<I: Installer> Node<I> {
    /// Begins to, unless it does so already: nobody signed the ask, and many of them are no more than one.
    pub(super) fn tidy(&mut self, ask: &Ask) {
        if self.state.tidies || ask.id.len() > MAX_ASK_ID_BYTES {
            return;
        }
        let on_disk = match self.settings.apps() {
            Ok(apps) => apps,
            Err(error) => return error!(error = %chain(&error), "What apps need cannot be known"),
        };
        self.state.tidies = true;
        let (wanted, answers) = (self.wanted(on_disk, ask.dry_run), ask.id.clone());
        let (installer, events) = (Arc::clone(&self.hands.installer), self.hands.events.clone());
        tokio::spawn(async move {
            let tidied = installer.tidy(wanted.clone()).await;
            events.send(Event::Tidied(wanted, answers, tidied)).ok();
        });
    }

    /// What every app needs: what runs, and what it would go back to.
    fn wanted(&self, on_disk: Vec<AppId>, dry_run: bool) -> Tidying {
        let (resting, busy): (Vec<_>, Vec<_>) = self.state.apps.iter().partition(|(_, app)| rests(app));
        let needs = |app: &App| {
            let report = app.machine().report();
            let slots = report.installed.into_iter().chain(report.previous);
            slots.map(|slot| slot.tree_hash).collect::<Vec<_>>()
        };
        let active = |name| self.hands.installer.active(name).map(|slot| slot.tree());
        let keep = resting
            .into_iter()
            .map(|(name, app)| (name.clone(), needs(app).into_iter().chain(active(name)).collect()));
        // An app that is on the disk and could not be opened is no app that is gone.
        let unopened = on_disk.into_iter().filter(|name| !self.state.apps.contains_key(name));
        Tidying {
            keep: keep.collect(),
            busy: busy.into_iter().map(|(name, _)| name.clone()).chain(unopened).collect(),
            dry_run,
        }
    }

    pub(super) fn on_tidied(&mut self, wanted: &Tidying, answers: String, tidied: Tidied) {
        self.state.tidies = false;
        let (count, freed_bytes) = (tidied.removed.len(), tidied.freed_bytes);
        info!(count, freed_bytes, wanted.dry_run, "The engine's disk was tidied up");
        for problem in &tidied.problems {
            warn!(problem, "Something stays on the engine's disk");
        }
        self.speaker.answer(&Pruned {
            node: self.identity.node.clone(),
            answers,
            dry_run: wanted.dry_run,
            count: count as u64,
            removed: tidied.removed.into_iter().take(MAX_NAMES).collect(),
            freed_bytes,
            error: tidied.problems.join("; ").chars().take(MAX_ERROR_CHARS).collect(),
            at: self.clock.now().wall.into(),
        });
        self.look();
    }
}

/// Whether nothing of an app is under way.
pub(super) fn rests(app: &App) -> bool {
    !app.is_busy() && matches!(app.machine().report().phase, Phase::Idle | Phase::Deferred)
}
