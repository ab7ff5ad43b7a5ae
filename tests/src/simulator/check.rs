//! What must hold after every step, whatever happened before.

use machine::{Bus, Effect, Saved, Slot, Step};
use schemas::{id::Digest, status::Phase};

use super::node::Node;

/// Releases of the model must be healthy for so long.
const MIN_HEALTHY_MS: u64 = 5_000;

impl Node {
    /// Whether the node is sound as it stands.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_link()?;
        self.check_committed()?;
        self.check_running()?;
        self.check_report()
    }

    /// Whether the machine may ask for `effect` now.
    pub(crate) fn check_effect(&self, effect: &Effect, now_ms: u64) -> Result<(), String> {
        if effect.is_answered() && self.flight.is_some() {
            return Err("two effects are in flight".into());
        }
        match effect {
            Effect::Persist(saved) => self.check_journal(saved, now_ms),
            Effect::Stage(slot) => {
                let there = self.disk.objects.contains(&slot.tree()) || self.is_complete(slot);
                there.then_some(()).ok_or_else(|| format!("{} is staged without its objects", slot.version))
            }
            Effect::PreCheck(slot) | Effect::Start(slot) if !self.is_complete(slot) => {
                Err(format!("{} is used before its slot is complete", slot.version))
            }
            Effect::Start(slot) => self.check_known(slot, "started"),
            Effect::Switch(Some(slot)) if !self.is_complete(slot) => {
                Err(format!("current is pointed to {}, which is not complete", slot.version))
            }
            Effect::Switch(Some(slot)) => self.check_known(slot, "switched to"),
            Effect::Stop(slot) => self.check_stop(slot),
            Effect::Prune { keep } => self.check_prune(keep),
            _ => Ok(()),
        }
    }

    /// The symlink points to a complete slot, or to nothing before anything was committed.
    fn check_link(&self) -> Result<(), String> {
        match self.disk.link {
            Some(link) if !self.disk.slots.contains_key(&link) => {
                Err(format!("current points to {}, which is not complete", link.short()))
            }
            None if !self.was_torn
                && !self.disk.link_lost
                && self.journal().is_some_and(|saved| saved.current.is_some()) =>
            {
                Err("current points to nothing although something is committed".into())
            }
            _ => Ok(()),
        }
    }

    /// What is committed, and what was before, stand on the disk.
    fn check_committed(&self) -> Result<(), String> {
        let on_disk = self.journal().into_iter().chain([self.machine.saved()]);
        let slots = on_disk.flat_map(|saved| saved.current.iter().chain(&saved.previous));
        match slots.into_iter().find(|slot| !self.is_complete(slot)) {
            Some(lost) => Err(format!("committed release {} is not on the disk", lost.version)),
            None => Ok(()),
        }
    }

    /// What runs is committed, or on its trial.
    fn check_running(&self) -> Result<(), String> {
        match &self.running {
            Some(running) => self.check_known(&running.slot, "running"),
            None => Ok(()),
        }
    }

    /// At rest, what is reported is what runs and what `current` points to.
    fn check_report(&self) -> Result<(), String> {
        let report = self.machine.report();
        if matches!(report.phase, Phase::Switching | Phase::Trial | Phase::RollingBack) {
            return Ok(());
        }
        let installed = report.installed.as_ref();
        if !self.disk.link_lost && self.disk.link != installed.map(|installed| installed.tree_hash) {
            return Err(format!(
                "at rest with {installed:?} installed, current points to {:?}",
                self.disk.link
            ));
        }
        match &self.running {
            Some(running) if installed.map(|installed| installed.release) != Some(running.slot.release) => {
                Err(format!("{} runs, {installed:?} is reported", running.slot.version))
            }
            _ => Ok(()),
        }
    }

    fn check_known(&self, slot: &Slot, what: &str) -> Result<(), String> {
        let Some(saved) = self.journal() else { return Ok(()) };
        let before = saved.previous.as_ref().filter(|_| self.was_torn);
        let known = saved.current.iter().chain(under_way(saved)).chain(before);
        let holds = known.into_iter().any(|known| known.release == slot.release);
        holds
            .then_some(())
            .ok_or_else(|| format!("{} is {what}, neither committed nor on trial", slot.version))
    }

    /// The committed release is stopped for a trial and for nothing else.
    fn check_stop(&self, slot: &Slot) -> Result<(), String> {
        let Some(saved) = self.journal() else { return Ok(()) };
        let committed = saved.current.as_ref().is_some_and(|current| current.release == slot.release);
        if committed && saved.step == Step::Idle && !self.was_torn {
            return Err(format!("committed release {} is stopped for nothing", slot.version));
        }
        Ok(())
    }

    fn check_prune(&self, keep: &[Digest]) -> Result<(), String> {
        let Some(saved) = self.journal() else { return Ok(()) };
        let needed = saved.current.iter().chain(&saved.previous).chain(under_way(saved));
        match needed.into_iter().find(|slot| !keep.contains(&slot.tree())) {
            Some(lost) => Err(format!("{} is pruned, the journal names it", lost.version)),
            None => Ok(()),
        }
    }

    /// What the next journal may say after the one on the disk.
    fn check_journal(&self, next: &Saved, now_ms: u64) -> Result<(), String> {
        let Some(last) = self.journal() else { return Ok(()) };
        let last = if self.torn { self.machine.saved() } else { last };
        if next.floor < last.floor {
            return Err(format!("the floor falls from {} to {}", last.floor, next.floor));
        }
        if next.obeyed < last.obeyed {
            return Err(format!("the obeyed order falls from {} to {}", last.obeyed, next.obeyed));
        }
        let mut revisions: Vec<_> = next.outcomes.iter().map(|outcome| outcome.revision).collect();
        revisions.sort_unstable();
        if revisions.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!("two verdicts about one order: {revisions:?}"));
        }
        self.check_trial_begins(last, next)?;
        self.check_series(last, next)?;
        self.check_commit(last, next, now_ms)
    }

    fn check_trial_begins(&self, last: &Saved, next: &Saved) -> Result<(), String> {
        match (&last.step, &next.step) {
            // Nobody orders what somebody asks for.
            (Step::Idle, Step::Trying { slot, .. }) if self.is_asked_for(slot) => Ok(()),
            (Step::Idle, Step::Trying { slot, .. })
                if slot.revision < last.obeyed || self.stands_under(slot) < self.withdrawn() =>
            {
                Err(format!("order {} is begun after a higher one was accepted", slot.revision))
            }
            (Step::Trying { tries_left: last, slot: old, .. }, Step::Trying { tries_left, slot, .. })
                if tries_left > last && old.revision == slot.revision =>
            {
                Err(format!("tries rise from {last} to {tries_left}"))
            }
            _ => Ok(()),
        }
    }

    /// What an order of a series brought to its end is not begun again by a later one.
    fn check_series(&self, last: &Saved, next: &Saved) -> Result<(), String> {
        let (Step::Idle, Step::Trying { slot, .. }) = (&last.step, &next.step) else { return Ok(()) };
        // Going back is tried again by each order that wants it.
        if self.goes_back(slot.revision) || self.is_asked_for(slot) {
            return Ok(());
        }
        let series = self.first(slot.revision)..slot.revision;
        match self.ended.iter().find(|(at, of)| series.contains(at) && *of == slot.release) {
            Some((at, _)) => Err(format!("order {} tries again what ended with order {at}", slot.revision)),
            None => Ok(()),
        }
    }

    /// What becomes committed was healthy for long enough, proved itself, and did not cut the node off.
    fn check_commit(&self, last: &Saved, next: &Saved, now_ms: u64) -> Result<(), String> {
        let release = |saved: &Saved| saved.current.as_ref().map(|slot| slot.release);
        if release(last) == release(next) {
            return Ok(());
        }
        let Step::Trying { slot, connected, .. } = &last.step else {
            let adopted = self.was_torn && next.current.as_ref().map(Slot::tree) == self.disk.link;
            return adopted.then_some(()).ok_or_else(|| "something is committed without a trial".into());
        };
        if release(next) != Some(slot.release) {
            return Err("another release than the one on trial is committed".into());
        }
        let evidence = self.evidence.as_ref().filter(|evidence| evidence.release == slot.release);
        let healthy_ms = evidence.and_then(|evidence| evidence.healthy_since_ms).map(|since| now_ms - since);
        if healthy_ms.is_none_or(|ms| ms < MIN_HEALTHY_MS) {
            return Err(format!("{} is committed, healthy for {healthy_ms:?} ms", slot.version));
        }
        if evidence.is_none_or(|evidence| !evidence.proved) {
            return Err(format!("{} is committed without proof", slot.version));
        }
        if *connected && self.bus != Some(Bus::Connected) {
            return Err(format!("{} is committed without the bus", slot.version));
        }
        let before = (next.previous.as_ref().map(|slot| slot.release), release(last));
        (before.0 == before.1).then_some(()).ok_or_else(|| "what ran before is forgotten".into())
    }

    fn journal(&self) -> Option<&Saved> {
        self.disk.journal.as_ref()
    }

    fn is_complete(&self, slot: &Slot) -> bool {
        self.disk.slots.contains_key(&slot.tree())
    }
}

/// The slot that a journal has on trial, or going.
fn under_way(saved: &Saved) -> Option<&Slot> {
    match &saved.step {
        Step::Idle => None,
        Step::Trying { slot, .. } | Step::RollingBack { slot, .. } => Some(slot),
    }
}
