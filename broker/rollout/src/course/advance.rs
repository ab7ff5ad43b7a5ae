//! How a rollout gets from one state to the next.

use std::time::Duration;

use schemas::{
    hold::BusAskKind,
    id::{GroupId, NodeId},
    rollout::{CourseState, Pause, PauseReason, WaveState, Wish},
};

use super::{
    Changed, Conductor, Dirt, Now, Seat, Weight,
    judge::{Judgement, judge, stops},
};
use crate::{Fleet, MilestoneKind, plan::OnFailure};

/// How much of a soak was watched is written down so often, and not more often than that.
const SOAK_NOTES: u32 = 10;
const SOAK_NOTE: Duration = Duration::from_secs(30);
/// Names of nodes in a sentence.
pub(super) const MAX_NAMES: usize = 5;

/// Why a rollout is paused that somebody without a key has halted: by this text such a pause is known again, also by another controller.
const HALTED: &str = "somebody has halted it by a request, without a key";

impl Conductor {
    /// Takes note of what people want, once.
    pub(super) fn heed(&mut self, now: Now) {
        let (seq, digest) = (self.rollout.seq, self.rollout.digest());
        // Of two people with the same number, both are heard.
        let is_known = seq == self.course.heeded && digest == self.course.heeded_rollout;
        if seq < self.course.heeded || is_known {
            return;
        }
        (self.course.heeded, self.course.heeded_rollout) = (seq, digest);
        self.changed = Dirt::Hard;
        if self.course.state.is_over() {
            return;
        }
        let cause = |text: &str| Pause { why: PauseReason::Operator, text: text.to_owned(), at: now.wall };
        match self.rollout.wish {
            Wish::Run => {
                if matches!(self.course.state, CourseState::Paused(_)) {
                    self.go_on("somebody lets it go on", now);
                }
            }
            Wish::Pause => {
                self.stop("somebody has paused it".to_owned(), now);
            }
            // Whoever is told to go back goes back.
            Wish::Abort { .. } if matches!(self.course.state, CourseState::Reverting { .. }) => {}
            Wish::Abort { revert } => self.abort(cause("somebody has ended it"), revert, now),
        }
    }

    /// Somebody without a key asks for a halt, or for the end of one.
    ///
    /// A controller may always order less than it is allowed to, so anybody who is let in may have it begin nothing new. What people
    /// with keys, or on the page, want, or failures have stopped, does not go on by that: only a halt ends, which is a pause by a person while the last
    /// wish that was signed is that it runs. It is written into the course as any other pause, so it outlives the controller.
    pub(crate) fn ask(&mut self, ask: BusAskKind, now: Now) {
        match (ask, &self.course.state) {
            (BusAskKind::Halt, _) => {
                self.stop(HALTED.to_owned(), now);
            }
            (BusAskKind::Resume, CourseState::Paused(pause))
                if (pause.why, pause.text.as_str()) == (PauseReason::Operator, HALTED)
                    && self.rollout.wish == Wish::Run =>
            {
                self.go_on("somebody has ended the halt by a request, without a key", now);
            }
            _ => {}
        }
    }

    fn go_on(&mut self, text: &str, now: Now) {
        let has_begun = self.course.started_at.0 > 0;
        self.becomes(if has_begun { CourseState::Running } else { CourseState::Scheduled });
        self.reopen(now);
        self.tell(MilestoneKind::Resumed, text.to_owned());
    }

    /// Begins nothing new, by somebody's wish. Not where nothing new begins anyway; says whether.
    pub(crate) fn stop(&mut self, text: String, now: Now) -> bool {
        let is_still = matches!(self.course.state, CourseState::Paused(_) | CourseState::Reverting { .. });
        if is_still || self.course.state.is_over() {
            return false;
        }
        self.pause(Pause { why: PauseReason::Operator, text, at: now.wall });
        true
    }

    /// Does what follows from what is known, until nothing more does.
    pub(super) fn advance(&mut self, fleet: &Fleet, now: Now) {
        // A wave opens, its nodes are looked at, and some of it may be over already.
        while self.advance_once(fleet, now) {
            if self.looks_at_all {
                self.look(fleet, Changed::All, now);
            }
        }
    }

    fn advance_once(&mut self, fleet: &Fleet, now: Now) -> bool {
        match &self.course.state {
            CourseState::Scheduled if now.wall >= self.rollout.not_before => {
                self.becomes(CourseState::Running);
                true
            }
            CourseState::AwaitingApproval if self.is_approved() => {
                self.becomes(CourseState::Running);
                true
            }
            CourseState::Running => self.run(fleet, now),
            CourseState::Reverting { .. } => self.go_back(fleet, now),
            _ => false,
        }
    }

    fn run(&mut self, fleet: &Fleet, now: Now) -> bool {
        if let Some(text) = self.is_used_up(now) {
            self.pause(Pause { why: PauseReason::Deadline, text, at: now.wall });
            return true;
        }
        if let Some(text) = self.too_many_failures() {
            self.fail(&text, now);
            return true;
        }
        let open = self.course.waves.iter().position(|wave| wave.state != WaveState::Passed);
        match open {
            None => {
                self.becomes(CourseState::Completed);
                self.tell(MilestoneKind::Completed, format!("{} is everywhere", self.version));
                true
            }
            Some(wave) if self.course.waves[wave].state == WaveState::Closed => self.open(wave, fleet, now),
            Some(wave) => self.weigh(wave, now),
        }
    }

    fn is_used_up(&self, now: Now) -> Option<String> {
        if now.wall > self.mandate.expires {
            return Some("the mandate of the controller is over".to_owned());
        }
        (!self.may_let_begin()).then(|| "the numbers of the controller's orders are used up".to_owned())
    }

    fn too_many_failures(&self) -> Option<String> {
        self.plan.stages.iter().enumerate().find_map(|(at, stage)| {
            let of_stage = |wave: usize| self.course.waves[wave].stage as usize == at;
            stops(&self.count(|seat| of_stage(seat.wave)), stage)
        })
    }

    /// Opens a wave, unless somebody has to approve.
    fn open(&mut self, wave: usize, fleet: &Fleet, now: Now) -> bool {
        if !self.is_approved() {
            self.becomes(CourseState::AwaitingApproval);
            return true;
        }
        if self.course.started_at.0 == 0 {
            self.course.started_at = now.wall;
            self.tell(
                MilestoneKind::Started,
                format!("{} in {} waves", self.version, self.course.waves.len()),
            );
        }
        self.wave_is(wave, WaveState::Open, now);
        let nodes: Vec<usize> = (0..self.seats.len()).filter(|at| self.seats[*at].wave == wave).collect();
        let text = format!("wave {} of {}: {}", wave + 1, self.course.waves.len(), self.names(&nodes));
        self.tell(MilestoneKind::WaveOpened, text);
        for at in nodes {
            self.look_at(at, fleet, now);
        }
        self.offer(fleet, now);
        true
    }

    /// What an open wave comes to.
    fn weigh(&mut self, wave: usize, now: Now) -> bool {
        let Some(stage) = self.plan.stages.get(self.course.waves[wave].stage as usize) else { return false };
        let waited = Duration::from_millis(now.mono_ms.saturating_sub(self.wave_since_ms));
        let tally = self.tally(wave);
        let soak = stage.soak;
        match (judge(&tally, stage, wave == 0, waited), self.course.waves[wave].state) {
            (Judgement::Wait, _) => false,
            (Judgement::TooFew, _) => {
                let text = format!("{} of {} that reported are well", tally.good, tally.reports());
                self.fail(&text, now);
                true
            }
            (Judgement::Inconclusive, _) => {
                let (why, text) = if tally.excused == 0 {
                    let text = format!("the release is not for anybody of wave {}", wave + 1);
                    (PauseReason::NotForAnybody, text)
                } else {
                    let text =
                        format!("nobody of wave {} was there for {}", wave + 1, minutes(stage.deadline));
                    (PauseReason::Inconclusive, text)
                };
                self.pause(Pause { why, text, at: now.wall });
                true
            }
            (Judgement::Well, WaveState::Soaking) if waited < soak => {
                self.note_soak(wave, waited, soak);
                false
            }
            (Judgement::Well, WaveState::Soaking) => {
                self.pass(wave, now);
                true
            }
            (Judgement::Well, _) if soak.is_zero() => {
                self.pass(wave, now);
                true
            }
            (Judgement::Well, _) => {
                self.wave_is(wave, WaveState::Soaking, now);
                true
            }
        }
    }

    /// What was watched of a soak is written down now and then, so that a controller that goes on from there need not begin anew.
    fn note_soak(&mut self, wave: usize, waited: Duration, soak: Duration) {
        let watched = Duration::from_secs(self.course.waves[wave].watched_secs);
        if waited.saturating_sub(watched) >= (soak / SOAK_NOTES).max(SOAK_NOTE) {
            self.changed = self.changed.max(Dirt::Soft);
        }
    }

    fn pass(&mut self, wave: usize, now: Now) {
        self.wave_is(wave, WaveState::Passed, now);
        let good = self.tally(wave).good;
        let text = format!("wave {} of {}: {good} well", wave + 1, self.course.waves.len());
        self.tell(MilestoneKind::WavePassed, text);
    }

    /// The nodes that would stop it again at once if it went on without anybody knowing of them.
    pub fn in_the_way(&self) -> Vec<NodeId> {
        let open = self.last_open();
        let is_not_for_anybody =
            self.course.state.cause().is_some_and(|cause| cause.why == PauseReason::NotForAnybody);
        let stops_stage = |seat: &Seat| {
            let at = self.course.waves[seat.wave].stage as usize;
            let stage = self.plan.stages.get(at)?;
            let tally = self.count(|of| self.course.waves[of.wave].stage as usize == at);
            let too_few = || {
                let tally = self.tally(seat.wave);
                let is_judged = tally.pending == 0 && open == Some(seat.wave);
                is_judged && judge(&tally, stage, seat.wave == 0, stage.deadline) == Judgement::TooFew
            };
            Some(stops(&tally, stage).is_some() || too_few())
        };
        let is_in_the_way = |seat: &&Seat| match seat.state.weight() {
            Weight::Failure => stops_stage(seat) == Some(true),
            Weight::Skipped => is_not_for_anybody && open == Some(seat.wave),
            _ => false,
        };
        let unknown = self.seats.iter().filter(|seat| !self.is_acknowledged(&seat.node));
        unknown.filter(is_in_the_way).map(|seat| seat.node.clone()).collect()
    }

    /// Stops by failures, as the plan says.
    fn fail(&mut self, text: &str, now: Now) {
        let failed: Vec<usize> = (0..self.seats.len())
            .filter(|at| {
                let seat = &self.seats[*at];
                seat.state.weight() == Weight::Failure && !self.is_acknowledged(&seat.node)
            })
            .collect();
        let text = format!("{text}: {}", self.names(&failed));
        let cause = Pause { why: PauseReason::Failures, text, at: now.wall };
        if let Some(wave) = self.last_open() {
            self.wave_is(wave, WaveState::Failed, now);
        }
        match self.plan.on_failure {
            OnFailure::Pause => self.pause(cause),
            OnFailure::Revert => self.abort(cause, true, now),
        }
    }

    pub(super) fn pause(&mut self, cause: Pause) {
        self.tell(MilestoneKind::Stopped, cause.text.clone());
        self.becomes(CourseState::Paused(cause));
    }

    fn abort(&mut self, cause: Pause, revert: bool, now: Now) {
        let was_stopped = matches!(self.course.state, CourseState::Paused(_) | CourseState::Reverting { .. });
        if let Some(wave) = self.last_begun().filter(|_| revert) {
            let wave = u32::try_from(wave).unwrap_or(u32::MAX);
            if !was_stopped {
                self.tell(MilestoneKind::Stopped, cause.text.clone());
            }
            self.becomes(CourseState::Reverting { cause, wave });
            self.wave_since_ms = now.mono_ms;
        } else {
            let text = cause.text.clone();
            self.becomes(CourseState::Aborted { cause, reverted: false });
            self.tell(MilestoneKind::Aborted, text);
        }
    }

    /// A wave that had stopped goes on where it was.
    fn reopen(&mut self, now: Now) {
        if let Some(wave) = self.last_open() {
            self.wave_is(wave, WaveState::Open, now);
        }
        for seat in &mut self.seats {
            seat.since_ms = now.mono_ms;
        }
    }

    /// Whether the stage of the next wave may open.
    fn is_approved(&self) -> bool {
        let next = self.course.waves.iter().find(|wave| wave.state == WaveState::Closed);
        let Some(next) = next else { return true };
        let asking = |stage: &&crate::plan::Stage| stage.approval;
        let so_far = self.plan.stages.iter().take(next.stage as usize + 1).filter(asking).count();
        so_far <= self.rollout.approved as usize
    }

    /// The wave that is open, or was when it stopped.
    pub(super) fn last_open(&self) -> Option<usize> {
        let is_open = |state| matches!(state, WaveState::Open | WaveState::Soaking | WaveState::Failed);
        self.course.waves.iter().rposition(|wave| is_open(wave.state))
    }

    fn last_begun(&self) -> Option<usize> {
        self.course.waves.iter().rposition(|wave| wave.state != WaveState::Closed)
    }

    fn wave_is(&mut self, wave: usize, state: WaveState, now: Now) {
        let of = &mut self.course.waves[wave];
        (of.state, of.since, of.watched_secs) = (state, now.wall, 0);
        self.wave_since_ms = now.mono_ms;
        self.changed = Dirt::Hard;
    }

    fn names(&self, seats: &[usize]) -> String {
        let names: Vec<&str> = seats.iter().take(MAX_NAMES).map(|at| self.seats[*at].node.as_str()).collect();
        match seats.len().saturating_sub(MAX_NAMES) {
            0 => names.join(", "),
            more => format!("{} and {more} more", names.join(", ")),
        }
    }

    /// The group of a wave.
    pub(super) fn group_of(&self, wave: usize) -> Option<&GroupId> {
        self.plan.stages.get(self.course.waves[wave].stage as usize).map(|stage| &stage.group)
    }
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        secs if secs < 120 => format!("{secs} s"),
        secs => format!("{} min", secs / 60),
    }
}
