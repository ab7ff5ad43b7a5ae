//! What holds the node back, and what people ask of it.

use machine::{Hold, Input};
use schemas::{
    hold::{Ask, AskKind, MAX_ASK_ID_BYTES, MAX_ASKED_LINES},
    status::Phase,
};
use tracing::{debug, info};

use super::{App, Installer, Node, Urgency};

/// So often the node is looked at while nothing waits: every order looks anew.
const JUDGE_EVERY_MS: u64 = 30_000;
/// So often while something waits, so that it goes on soon after nothing holds it any more.
const JUDGE_WAITING_MS: u64 = 2_000;

/// What held the node back when it was looked at last.
#[derive(Debug, Default)]
pub(super) struct Holds {
    now: Vec<Hold>,
    judged_ms: u64,
}

impl Holds {
    /// What a machine has to know at its start.
    pub(super) fn input(&self) -> Input {
        Input::Holds(self.now.clone())
    }
}

impl<I: Installer> Node<I> {
    /// Looks at what holds the node back, and tells the machines when that changed.
    pub(super) fn judge(&mut self) {
        if !self.judge.is_any() {
            return;
        }
        let now = self.clock.now();
        self.state.holds.judged_ms = now.mono_ms;
        let holds = self.judge.look(now.wall);
        if holds == self.state.holds.now {
            return;
        }
        let codes = |holds: &[Hold]| holds.iter().map(|hold| hold.code).collect::<Vec<_>>();
        let (before, after) = (codes(&self.state.holds.now), codes(&holds));
        if before != after {
            debug!(?before, ?after, "What holds the node back changed");
        }
        self.state.holds.now = holds;
        self.feed_all(&self.state.holds.input());
    }

    /// When the node is to be looked at again.
    pub(super) fn judge_ms(&self) -> Option<u64> {
        let waits = self.state.apps.values().any(waits);
        let every_ms = if waits { JUDGE_WAITING_MS } else { JUDGE_EVERY_MS };
        self.judge.is_any().then_some(self.state.holds.judged_ms + every_ms)
    }

    /// Does what somebody asks for. Nobody signed it, so it only chooses among what was verified.
    pub(super) fn on_ask(&mut self, Ask { what, app, lines, id }: &Ask) {
        match what {
            AskKind::Install => {
                info!(%app, waits = self.state.apps.get(app).is_some_and(waits), "Somebody says yes");
                self.feed(app, Input::Consent, Urgency::Change);
            }
            AskKind::Logs if id.len() <= MAX_ASK_ID_BYTES => {
                debug!(%app, lines, "Somebody asks for the log");
                let installer = &self.hands.installer;
                let Some(slot) = self.state.apps.get(app).and_then(|_| installer.active(app)) else { return };
                installer.listen(app, &slot, usize::from(*lines.min(&MAX_ASKED_LINES)), id.clone());
            }
            AskKind::Logs => {}
        }
    }
}

fn waits(app: &App) -> bool {
    app.machine().report().phase == Phase::Deferred
}
