//! From the order to a slot that is ready: nothing that runs is touched here.

use std::collections::BTreeSet;

use schemas::{id::Digest, reason::Reason, report::Verdict, status::EventType};

use crate::{
    effect::Effect,
    input::{Fault, Now, Yield},
    journal::Change,
    machine::Machine,
    offers::Choice,
    outbox::Flight,
    outcome::{Failure, Subject},
    retry::{PREPARE_LIMIT_MS, pause_ms, spread_ms},
    saved::{Slot, Spent},
    state::{Deferral, Job, Prep, Stage, State},
};

/// An order that got no further for so long has failed.
const NO_PROGRESS_MS: u64 = 15 * 60_000;
/// The others of a joint release may take longer: the build of an image alone may take 45 minutes.
const OTHERS_MS: u64 = 60 * 60_000;
/// They are asked again after so long.
const OTHERS_PAUSE_MS: u64 = 500;

impl Machine {
    /// Nothing is under way: tells the verdict, tidies up, then looks for an order to carry out.
    pub(crate) fn rest(&mut self, now: Now) {
        if self.journal.has_news() {
            self.persist_notes(now);
        }
        if !self.outbox.is_free() {
            return;
        }
        if let Some(tree) = self.tidy.take() {
            let keep: BTreeSet<Digest> = self.journal.named().chain([tree]).collect();
            return self.outbox.ask(Effect::Prune { keep: keep.into_iter().collect() }, Flight::Prune);
        }
        if let Some(slot) = self.take_asked(now) {
            return self.begin(*slot, now);
        }
        match self.choose(None, now) {
            Choice::Begin(slot) => self.begin(*slot, now),
            Choice::Installed(subject) => self.already_installed(subject, now),
            Choice::Wait(deferral) => self.defer(deferral),
            Choice::Nothing | Choice::Withdrawn(_) => self.back_to_idle(),
        }
    }

    /// Gives the order under way up when a higher one applies now.
    pub(crate) fn reconsider(&mut self, now: Now) {
        let State::Preparing(job, prep) = &self.state else { return };
        if prep.dropped.is_some() {
            return;
        }
        let choice = self.choose(Some(job.slot.revision), now);
        let Some(revision) = choice.revision() else { return };
        self.drop_prepared(match choice {
            Choice::Withdrawn(_) => {
                Failure::new(Reason::Withdrawn, "the order was withdrawn before the switch")
            }
            _ => Failure::new(Reason::Superseded, format!("order {revision} took its place")),
        });
    }

    /// Gives what is prepared up as soon as the effect in flight has ended: it never runs.
    pub(crate) fn drop_prepared(&mut self, why: Failure) {
        let State::Preparing(_, prep) = &mut self.state else { return };
        if prep.dropped.is_some() {
            return;
        }
        prep.dropped = Some(why);
        if matches!(self.outbox.flight(), Some(Flight::Fetch | Flight::Stage | Flight::PreCheck)) {
            self.outbox.say(Effect::Cancel);
        }
    }

    /// Asks for the next effect of the order under way, when it is time.
    pub(crate) fn prepare(&mut self, now: Now) {
        let State::Preparing(job, prep) = &mut self.state else { return };
        if let Some(why) = prep.dropped.take() {
            self.end_untouched(Verdict::Superseded, why, now);
            return self.rest(now);
        }
        if prep.pause.as_ref().is_some_and(|(until_ms, _)| *until_ms > now.mono_ms) {
            return;
        }
        prep.pause = None;
        let slot = Box::new(job.slot.clone());
        match prep.stage {
            Stage::Accepting => self.persist(Change::Accept(slot.revision)),
            Stage::Fetching => self.outbox.ask(Effect::Fetch(slot), Flight::Fetch),
            Stage::Staging => self.outbox.ask(Effect::Stage(slot), Flight::Stage),
            Stage::Staged if slot.part.pre_check.is_some() || slot.part.joint.is_some() => {
                self.outbox.ask(Effect::PreCheck(slot), Flight::PreCheck);
            }
            Stage::Staged => self.hand_over(now),
        }
    }

    /// The acceptance was stored, or not.
    pub(crate) fn accepted(&mut self, result: Result<(), Fault>, now: Now) {
        let State::Preparing(job, _) = &self.state else { return self.unexpected("acceptance stored") };
        match result {
            Ok(()) => {
                let (event, to, revision) = (EventType::Started, job.slot.version.clone(), job.slot.revision);
                self.outbox.say(Effect::Tell { event, to, reason: None });
                self.supersede_waiting_below(revision, now);
                self.go_to(Stage::Fetching, now);
            }
            Err(fault) => self.fail(fault.into(), now),
        }
    }

    /// A fetch, a stage or a pre-check ended.
    pub(crate) fn prepared(&mut self, result: Result<Yield, Fault>, now: Now) {
        let State::Preparing(job, prep) = &mut self.state else {
            return self.unexpected("preparation step ended");
        };
        let interrupted = std::mem::take(&mut prep.interrupted);
        match result {
            Ok(done) => {
                job.spent.fetched_bytes += done.fetched_bytes;
                job.spent.requests += done.requests;
                job.spent.built = done.built.or(job.spent.built.take());
                match prep.stage {
                    Stage::Accepting | Stage::Fetching => self.go_to(Stage::Staging, now),
                    Stage::Staging => self.go_to(Stage::Staged, now),
                    Stage::Staged if prep.dropped.is_none() => self.hand_over(now),
                    Stage::Staged => {}
                }
            }
            Err(_) if interrupted || prep.dropped.is_some() => {}
            Err(fault) => self.prepare_failed(fault, now),
        }
    }

    /// How far the effect in flight is.
    pub(crate) fn progressed(&mut self, permille: u16, now: Now) {
        let State::Preparing(_, prep) = &mut self.state else { return };
        let permille = permille.min(1_000);
        if matches!(self.outbox.flight(), Some(Flight::Fetch | Flight::Stage))
            && permille > prep.progress_permille
        {
            prep.progress_permille = permille;
            prep.progress_ms = now.mono_ms;
            prep.failures = 0;
        }
    }

    /// Ends the order before anything was touched.
    pub(crate) fn fail(&mut self, failure: Failure, now: Now) {
        self.end_untouched(Verdict::Failed, failure, now);
    }

    fn begin(&mut self, slot: Slot, now: Now) {
        if self.journal.saved().is_endless() {
            let subject = Subject::from(&slot);
            let outcome = subject.ended(Verdict::Failed, Failure::endless(), Spent::default(), now.wall);
            return self.journal.note_outcome(outcome);
        }
        self.stand_for_series(slot.revision);
        let job = Job { slot, spent: Spent::default(), since_ms: now.mono_ms, attempt: 1 };
        self.enter(State::Preparing(Box::new(job), Prep::new(now.mono_ms)));
        self.prepare(now);
    }

    fn already_installed(&mut self, subject: Subject, now: Now) {
        let revision = subject.revision;
        self.journal.note(|saved| saved.obeyed = saved.obeyed.max(revision));
        self.stand_for_series(revision);
        self.supersede_waiting_below(revision, now);
        self.journal.note_outcome(subject.kept("already installed", Spent::default(), now.wall));
        self.back_to_idle();
    }

    fn defer(&mut self, deferral: Deferral) {
        match &mut self.state {
            State::Deferred(before) => *before = deferral,
            _ => self.enter(State::Deferred(deferral)),
        }
    }

    fn back_to_idle(&mut self) {
        if !matches!(self.state, State::Idle) {
            self.enter(State::Idle);
        }
    }

    fn go_to(&mut self, stage: Stage, now: Now) {
        let State::Preparing(job, prep) = &self.state else { return };
        let (dropped, torn) = (prep.dropped.clone(), prep.torn);
        let next = Prep { stage, dropped, torn, ..Prep::new(now.mono_ms) };
        let job = job.clone();
        self.enter(State::Preparing(job, next));
    }

    fn prepare_failed(&mut self, fault: Fault, now: Now) {
        let State::Preparing(job, prep) = &mut self.state else { return };
        let mismatch = matches!(fault.reason, Reason::DigestMismatch | Reason::SlotMismatch);
        let stands_ms = now.mono_ms.saturating_sub(prep.progress_ms);
        if mismatch && !prep.torn && prep.stage != Stage::Staged {
            prep.torn = true;
            job.attempt += 1;
            if prep.stage != Stage::Fetching {
                self.go_to(Stage::Fetching, now);
            }
        } else if fault.transient && fault.reason == Reason::JointApart && stands_ms < OTHERS_MS {
            prep.pause = Some((now.mono_ms + OTHERS_PAUSE_MS, fault.into()));
        } else if fault.transient && stands_ms < NO_PROGRESS_MS {
            prep.failures = prep.failures.saturating_add(1);
            job.attempt += 1;
            let pause_ms = pause_ms(prep.failures, PREPARE_LIMIT_MS);
            let pause_ms = spread_ms(pause_ms, &self.setup.node, job.slot.revision, prep.failures);
            prep.pause = Some((now.mono_ms + pause_ms, fault.into()));
        } else {
            self.fail(fault.into(), now);
        }
    }

    fn end_untouched(&mut self, verdict: Verdict, failure: Failure, now: Now) {
        let Some(job) = self.state.job() else { return };
        let outcome =
            Subject::from(&job.slot).ended(verdict, failure, job.spent_until(now.mono_ms), now.wall);
        let tree = job.slot.tree();
        self.journal.note_outcome(outcome);
        self.tidy = Some(tree);
        self.enter(State::Idle);
    }
}

impl Prep {
    fn new(mono_ms: u64) -> Self {
        Self {
            stage: Stage::Accepting,
            dropped: None,
            interrupted: false,
            torn: false,
            progress_permille: 0,
            progress_ms: mono_ms,
            failures: 0,
            pause: None,
        }
    }
}

#[cfg(test)]
mod tests;
