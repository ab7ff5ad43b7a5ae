//! Keeping the committed release up: it is started with the worker, and again after it ended by itself.

use crate::{
    effect::Effect,
    input::{Fault, Now},
    machine::Machine,
    outbox::Flight,
    retry::{START_LIMIT_MS, pause_ms},
    saved::Slot,
    state::{RollbackStep, Stage, State},
};

/// Up so long, an app counts as stable and its next end as the first one.
const STABLE_MS: u64 = 60_000;

/// What is known about the committed release's process.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    start_ms: Option<u64>,
    up_since_ms: Option<u64>,
    failures: u32,
    /// `current` points nowhere: it is pointed to the slot before that is started.
    pub(crate) unpointed: bool,
    /// It ended by itself before the answer to its start came.
    exited: bool,
}

impl Keeper {
    /// Has it started as soon as possible.
    pub(crate) fn start(&mut self, now: Now) {
        *self = Self { start_ms: Some(now.mono_ms), unpointed: self.unpointed, ..Self::default() };
    }

    /// It is stopped on purpose, or another one runs.
    pub(crate) fn rest(&mut self) {
        *self = Self::default();
    }

    /// Whether it runs or will be started.
    pub(crate) fn is_tended(&self) -> bool {
        self.start_ms.is_some() || self.up_since_ms.is_some()
    }

    /// Whether it runs.
    pub(crate) fn is_up(&self) -> bool {
        self.up_since_ms.is_some()
    }

    /// It runs.
    pub(crate) fn up(&mut self, now: Now) {
        self.start_ms = None;
        self.up_since_ms = Some(now.mono_ms);
    }

    /// It does not run, and nobody wanted that.
    pub(crate) fn down(&mut self, now: Now) {
        if self.up_since_ms.take().is_some_and(|up| now.mono_ms.saturating_sub(up) >= STABLE_MS) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.start_ms = Some(now.mono_ms + pause_ms(self.failures, START_LIMIT_MS));
    }
}

impl Machine {
    /// Whether the committed release is what runs, or should.
    pub(crate) fn keeps(&self) -> bool {
        match &self.state {
            State::Idle | State::Deferred(_) | State::Preparing(..) => true,
            State::RollingBack(_, rollback) => matches!(
                rollback.at,
                RollbackStep::SwitchAgain { .. } | RollbackStep::Watch { .. } | RollbackStep::End
            ),
            State::Switching(..) | State::Trial(..) => false,
        }
    }

    /// When the committed release is to be started.
    pub(crate) fn start_ms(&self) -> Option<u64> {
        self.journal.saved().current.as_ref()?;
        self.keeper.start_ms.filter(|_| self.keeps())
    }

    /// Starts the committed release if it is time. A fetch is interrupted for that: it may take hours.
    pub(crate) fn keep(&mut self, now: Now) {
        self.start_anew(now);
        if self.start_ms().is_none_or(|ms| ms > now.mono_ms) {
            return;
        }
        if self.outbox.is_free() {
            let Some(current) = self.current() else { return };
            if self.keeper.unpointed {
                self.outbox.ask(Effect::Switch(Some(current)), Flight::Switch);
            } else {
                self.keeper.exited = false;
                self.outbox.ask(Effect::Start(current), Flight::Start);
            }
        } else if let State::Preparing(_, prep) = &mut self.state
            && prep.stage == Stage::Fetching
            && !prep.interrupted
            && self.outbox.flight() == Some(&Flight::Fetch)
        {
            prep.interrupted = true;
            self.outbox.say(Effect::Cancel);
        }
    }

    /// Has what runs started anew, with the environment that counts now. Whatever that leaves over is tidied up.
    fn start_anew(&mut self, now: Now) {
        if self.keeper_is_stale && self.keeps() && self.keeper.is_up() {
            self.keeper_is_stale = false;
            self.keeper.start(now);
            self.tidy = self.tidy.or(self.current().map(|current| current.tree()));
        }
    }

    /// `current` was pointed to the committed release again, or not.
    pub(crate) fn kept_switched(&mut self, result: &Result<(), Fault>, now: Now) {
        if result.is_err() {
            return self.keeper.down(now);
        }
        self.keeper.unpointed = false;
    }

    /// The committed release was started, or not.
    pub(crate) fn kept_started(&mut self, result: &Result<(), Fault>, now: Now) {
        if result.is_err() {
            return self.keeper.down(now);
        }
        self.keeper.up(now);
        if let Some(current) = self.current() {
            self.watch(*current);
        }
        if self.keeper.exited {
            self.kept_exited(now);
        }
    }

    /// The committed release ended by itself.
    pub(crate) fn kept_exited(&mut self, now: Now) {
        if self.outbox.flight() == Some(&Flight::Start) {
            self.keeper.exited = true;
            return;
        }
        self.set_unhealthy();
        if self.keeper.up_since_ms.is_some() {
            self.keeper.down(now);
        }
    }

    pub(crate) fn current(&self) -> Option<Box<Slot>> {
        self.journal.saved().current.clone().map(Box::new)
    }
}

#[cfg(test)]
mod tests;
