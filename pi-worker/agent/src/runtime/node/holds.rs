//! What holds the node back, and what people ask of it.

use machine::{Hold, Input};
use schemas::{
    hold::{Ask, AskKind, MAX_ASK_ID_BYTES, MAX_ASKED_LINES},
    id::AppId,
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
    pub(super) fn on_ask(&mut self, ask: &Ask) {
        let Ask { what, app, lines, id, .. } = ask;
        if !self.settings.requests.contains(what) {
            info!(?app, %what, "Somebody asks for what `requests` of the settings does not allow");
            return;
        }
        let waits = app.as_ref().and_then(|app| self.state.apps.get(app)).is_some_and(waits);
        info!(?app, %what, waits, "Somebody asks for something");
        let input = match what {
            AskKind::Install => Input::Consent,
            AskKind::Hold => Input::HoldByHand,
            AskKind::Retry => Input::Retry,
            AskKind::Rollback => Input::GoBack,
            AskKind::Logs => {
                let app = app.as_ref().filter(|_| id.len() <= MAX_ASK_ID_BYTES);
                return app.into_iter().for_each(|app| self.tell_log(app, *lines, id));
            }
            AskKind::Prune => return self.tidy(ask),
            AskKind::Release | AskKind::Take | AskKind::Provision => {
                return self.hands.installer.asked(*what);
            }
        };
        if let Some(app) = app {
            self.feed(app, input, Urgency::Change);
        }
    }

    fn tell_log(&self, app: &AppId, lines: u16, id: &str) {
        let installer = &self.hands.installer;
        if let Some(slot) = self.state.apps.get(app).and_then(|_| installer.active(app)) {
            installer.listen(app, &slot, usize::from(lines.min(MAX_ASKED_LINES)), id.to_owned());
        }
    }
}

fn waits(app: &App) -> bool {
    app.machine().report().phase == Phase::Deferred
}
