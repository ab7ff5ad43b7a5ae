//! The trial: the new release must be healthy, prove what it is, and not have cut the node off.

use schemas::{reason::Reason, release::Part, time::UnixTime};

use crate::{
    effect::Effect,
    input::{Bus, Fault, Health, Now},
    journal::Change,
    machine::Machine,
    outbox::Flight,
    outcome::{Failure, Subject},
    retry::JOURNAL_PAUSE_MS,
    state::{State, Trial},
};

/// From one asking for proof to the next.
const PROOF_PAUSE_MS: u64 = 1_000;
/// The bus may be gone for so long after the switch: longer than a Pi's Wi-Fi takes to come back.
const CUT_OFF_LIMIT_MS: u64 = 60_000;

/// What a trial asks for now.
enum Weighed {
    Wait,
    Prove,
    Commit,
    RollBack(Failure),
}

impl Machine {
    /// The new slot was started.
    pub(crate) fn begin_trial(&mut self, now: Now) {
        let State::Switching(job, handover) = &mut self.state else { return self.unexpected("trial begins") };
        let part = &job.slot.part;
        let trial = Trial {
            deadline_ms: now.mono_ms.saturating_add(part.trial.deadline_ms),
            ends_at: now.wall.plus_secs(part.trial.deadline_ms.div_ceil(1_000)),
            healthy_since_ms: part.is_unchecked().then_some(now.mono_ms),
            bad: None,
            proven: false,
            no_proof: None,
            not_before_ms: now.mono_ms,
            connected: handover.connected,
            cut_off_since_ms: None,
            exited: handover.exited.take(),
        };
        let (job, slot) = (job.clone(), job.slot.clone());
        self.enter(State::Trial(job, trial));
        self.watch(slot);
    }

    /// The checks of the slot on trial changed their mind.
    pub(crate) fn trial_health(&mut self, health: Health, now: Now) {
        let State::Trial(_, trial) = &mut self.state else { return };
        if health.ok {
            trial.healthy_since_ms.get_or_insert(now.mono_ms);
        } else {
            trial.healthy_since_ms = None;
            trial.proven = false;
            trial.bad = Some(health);
        }
    }

    /// Asks for the next effect of the trial, when it is time.
    pub(crate) fn weigh(&mut self, now: Now) {
        let State::Trial(job, trial) = &mut self.state else { return };
        match trial.weigh(&job.slot.part, self.bus, now) {
            Weighed::Wait => self.make_way(now),
            Weighed::Prove => {
                let slot = Box::new(job.slot.clone());
                self.outbox.ask(Effect::Prove(slot), Flight::Prove);
            }
            Weighed::Commit => {
                let (slot, spent) = (job.slot.clone(), job.spent_until(now.mono_ms));
                let outcome = Subject::from(&slot).kept("", spent, now.wall);
                self.persist(Change::Keep { slot, since: now.wall, outcome });
            }
            Weighed::RollBack(failure) => {
                let job = job.clone();
                self.roll_back(job, failure, false, now);
            }
        }
    }

    /// The running code said what it is, or something else.
    pub(crate) fn proved(&mut self, result: Result<(), Fault>, now: Now) {
        let State::Trial(_, trial) = &mut self.state else { return self.unexpected("proved") };
        match result {
            Ok(()) => trial.proven = trial.healthy_since_ms.is_some(),
            Err(fault) => {
                trial.no_proof = Some(fault);
                trial.not_before_ms = now.mono_ms + PROOF_PAUSE_MS;
            }
        }
    }

    /// The commit was stored, or not.
    pub(crate) fn keep_stored(&mut self, result: &Result<(), Fault>, now: Now) {
        let State::Trial(job, trial) = &mut self.state else { return self.unexpected("commit stored") };
        if result.is_err() {
            trial.not_before_ms = now.mono_ms + JOURNAL_PAUSE_MS;
            return;
        }
        let (tree, exited) = (job.slot.tree(), trial.exited.is_some());
        self.tidy = Some(tree);
        self.enter(State::Idle);
        self.keeper.up(now);
        if exited {
            self.kept_exited(now);
        }
    }

    /// When the trial must be looked at again.
    pub(crate) fn trial_ms(&self) -> Option<u64> {
        let State::Trial(job, trial) = &self.state else { return None };
        let Some(healthy_since_ms) = trial.healthy_since_ms else { return Some(trial.deadline_ms) };
        let long_enough_ms = healthy_since_ms.saturating_add(job.slot.part.trial.min_healthy_ms);
        let next_ms = long_enough_ms.max(trial.not_before_ms);
        let part = &job.slot.part;
        Some(match trial.cut_off_since_ms {
            Some(since_ms) if !trial.proven => (since_ms + CUT_OFF_LIMIT_MS).min(trial.deadline_ms),
            None if !trial.proven && trial.waits_for_others(part) => next_ms,
            None if !trial.proven => next_ms.min(trial.deadline_ms),
            Some(since_ms) => since_ms + CUT_OFF_LIMIT_MS,
            None if trial.waits_for_bus(part, self.bus) => return None,
            None => next_ms,
        })
    }

    /// What the trial waits for, for people.
    pub(crate) fn trial_waits_for(&self) -> String {
        let State::Trial(job, trial) = &self.state else { return String::new() };
        let with = |what: &str, answer: Option<&str>| match answer {
            Some(answer) => format!("{what}: {answer}"),
            None => what.to_owned(),
        };
        if trial.proven && trial.waits_for_bus(&job.slot.part, self.bus) {
            "the bus".to_owned()
        } else if trial.healthy_since_ms.is_none() {
            with("its health checks", trial.bad.as_ref().map(|health| health.text.as_str()))
        } else if let (Some(fault), false) = (&trial.no_proof, trial.proven) {
            with("its proof", Some(&fault.text))
        } else {
            String::new()
        }
    }

    /// When the trial ends, if nothing gets better until then.
    pub(crate) fn trial_ends_at(&self) -> Option<UnixTime> {
        match &self.state {
            State::Trial(_, trial) if trial.healthy_since_ms.is_none() => Some(trial.ends_at),
            _ => None,
        }
    }

    /// A release that its checks call bad does not keep a newer order waiting until its deadline.
    fn make_way(&mut self, now: Now) {
        let State::Trial(job, trial) = &self.state else { return };
        let Some(bad) = trial.bad.clone().filter(|_| trial.is_bad()) else { return };
        let job = job.clone();
        let Some(newer) = self.choose(Some(job.slot.revision), now).revision() else { return };
        let text = format!("order {newer} came before it was healthy: {}", bad.text);
        let failure = Failure { reason: Reason::Superseded, text, log_tail: bad.log_tail };
        self.roll_back(job, failure, false, now);
    }
}

impl Trial {
    /// Its checks call it bad; not the same as having said nothing yet.
    pub(crate) fn is_bad(&self) -> bool {
        self.healthy_since_ms.is_none() && self.bad.is_some()
    }

    fn weigh(&mut self, part: &Part, bus: Option<Bus>, now: Now) -> Weighed {
        if let Some(fault) = self.exited.take() {
            return Weighed::RollBack(Failure { reason: Reason::Exited, ..fault.into() });
        }
        let is_final = |fault: &mut Fault| match fault.reason {
            Reason::StaleCode => true,
            Reason::JointApart => !fault.transient,
            _ => false,
        };
        if let Some(fault) = self.no_proof.take_if(is_final) {
            return Weighed::RollBack(fault.into());
        }
        let late = now.mono_ms >= self.deadline_ms;
        let healthy_ms = self.healthy_since_ms.map(|since| now.mono_ms.saturating_sub(since));
        let healthy = healthy_ms.is_some_and(|ms| ms >= part.trial.min_healthy_ms);
        let soon = now.mono_ms < self.not_before_ms;
        match (healthy, self.proven) {
            (false, _) if late => Weighed::RollBack(self.unhealthy(part, healthy_ms)),
            (true, false) if late && !self.waits_for_others(part) => Weighed::RollBack(self.unproven(part)),
            // What is decided with others does not wait for the bus afterwards.
            (true, false) if !soon && part.joint.is_some() => match self.pass_gate(part, bus, soon, now) {
                Weighed::Commit => Weighed::Prove,
                not_yet => not_yet,
            },
            (true, false) if !soon => Weighed::Prove,
            (true, true) => self.pass_gate(part, bus, soon, now),
            _ => Weighed::Wait,
        }
    }

    /// A release after which the bus is gone goes back; a broker that is down is nobody's fault here.
    fn pass_gate(&mut self, part: &Part, bus: Option<Bus>, soon: bool, now: Now) -> Weighed {
        if !self.waits_for_bus(part, bus) || bus == Some(Bus::BrokerDown) {
            self.cut_off_since_ms = None;
        }
        if !self.waits_for_bus(part, bus) {
            return if soon { Weighed::Wait } else { Weighed::Commit };
        }
        if bus == Some(Bus::BrokerDown) {
            return Weighed::Wait;
        }
        let since_ms = *self.cut_off_since_ms.get_or_insert(now.mono_ms);
        if now.mono_ms - since_ms < CUT_OFF_LIMIT_MS {
            return Weighed::Wait;
        }
        let text = "the bus was there before the switch and cannot be reached since";
        Weighed::RollBack(Failure::new(Reason::BusLost, text))
    }

    /// Others wait for this node in a joint release: it does not wait for a broker that is down, and a Pico for its Pi alone.
    fn waits_for_bus(&self, part: &Part, bus: Option<Bus>) -> bool {
        let is_enough = match part.joint {
            _ if part.waits_for_pi() => true,
            Some(_) => bus == Some(Bus::BrokerDown),
            None => false,
        };
        self.connected && bus != Some(Bus::Connected) && !is_enough
    }

    /// Only its Pi knows how long a Pico that is well waits for it; what is kept there must not go back here.
    fn waits_for_others(&self, part: &Part) -> bool {
        let waits = |fault: &Fault| fault.reason == Reason::JointApart && fault.transient;
        part.waits_for_pi() && self.no_proof.as_ref().is_some_and(waits)
    }

    fn unhealthy(&mut self, part: &Part, healthy_ms: Option<u64>) -> Failure {
        let (deadline_ms, min_ms) = (part.trial.deadline_ms, part.trial.min_healthy_ms);
        match (healthy_ms, self.bad.take()) {
            (Some(ms), _) => Failure::new(
                Reason::Unhealthy,
                format!("healthy for {ms} ms only after {deadline_ms} ms, {min_ms} ms are asked for"),
            ),
            (None, Some(Health { text, log_tail, .. })) => {
                Failure { reason: Reason::Unhealthy, text, log_tail }
            }
            (None, None) => {
                Failure::new(Reason::Unhealthy, format!("no health check answered within {deadline_ms} ms"))
            }
        }
    }

    fn unproven(&mut self, part: &Part) -> Failure {
        if let Some(fault) = self.no_proof.take() {
            let reason = if fault.reason == Reason::JointApart { fault.reason } else { Reason::NoProof };
            return Failure { reason, ..fault.into() };
        }
        let deadline_ms = part.trial.deadline_ms;
        Failure::new(Reason::NoProof, format!("healthy too late to be asked within {deadline_ms} ms"))
    }
}

#[cfg(test)]
mod tests;
