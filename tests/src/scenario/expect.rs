//! What a scenario expects, and what must be so when everything is repaired.

use rollout::course::{Conductor, NodeState};
use schemas::{
    id::{AppId, NodeId},
    report::Verdict,
    rollout::{CourseState, PauseReason},
    status::Phase,
};

use super::{
    command::{Count, Expected, Nodes, Wished},
    play::Play,
};
use crate::simulator::fleet::{device::Device, world::Step};

/// When nothing goes wrong any more, everything has come to its end after so long.
const CALM_MS: u64 = 2 * 3_600_000;
/// So often somebody lets it go on that has stopped.
const MAX_RESUMES: usize = 16;

impl Play {
    pub(super) fn expect(&self, expected: &Expected) -> Step {
        match expected {
            Expected::Rollout { state, why } => {
                let is = self.state().ok_or("there is no rollout, or no controller")?;
                let is_why = is.cause().map(|cause| cause.why.name());
                let text = is.cause().map(|cause| format!(": {}", cause.text)).unwrap_or_default();
                let fits = is.name() == state && why.as_deref().is_none_or(|why| is_why == Some(why));
                fits.then_some(()).ok_or_else(|| {
                    format!("the rollout is {} {}{text}", is.name(), is_why.unwrap_or_default())
                })
            }
            Expected::Wave { wave, state } => {
                let waves = self.conductor()?.waves();
                let of = wave.checked_sub(1).and_then(|at| waves.get(at)).ok_or("there is no such wave")?;
                let is = of.state.name();
                (is == state).then_some(()).ok_or_else(|| format!("wave {wave} is {is}"))
            }
            Expected::Node { node, state } => {
                let (_, is) = self.conductor()?.seat(node).ok_or_else(|| format!("{node} is in no wave"))?;
                let text = is.text();
                (is.name() == state).then_some(()).ok_or_else(|| format!("{node} is {} ({text})", is.name()))
            }
            Expected::Installed { version, on } => self.expect_installed(version, on),
            Expected::Order { group, says } => {
                let is = self.world.rules.newest(group, &self.app).unwrap_or_else(|| "nothing".to_owned());
                (is == *says).then_some(()).ok_or_else(|| format!("the order for {group} is `{is}`"))
            }
        }
    }

    fn expect_installed(&self, version: &str, on: &Count) -> Step {
        let digest = self.digest(version)?;
        let has = |device: &usize| self.world.installed(*device, &self.app) == Some(digest);
        match on {
            Count::So(count) => {
                let have = (0..self.world.devices.len()).filter(has).count();
                (have == *count).then_some(()).ok_or_else(|| format!("{version} is on {have} nodes"))
            }
            Count::Nodes(nodes) => match self.places(nodes)?.into_iter().find(|device| !has(device)) {
                None => Ok(()),
                Some(device) => Err(format!("{version} is not on {}", self.world.devices[device].name)),
            },
        }
    }

    fn conductor(&self) -> Result<&Conductor, String> {
        self.conductor_of(&self.app)
    }

    /// With everything repaired, nothing hangs, and every node has what it is to have.
    pub(super) fn check_end(&self) -> Step {
        for device in &self.world.devices {
            device.apps.keys().try_for_each(|app| check_rest(device, app))?;
        }
        self.check_rollouts()?;
        for app in self.rollouts() {
            let served = |device| match self.conductor_of(&app)?.state() {
                CourseState::Completed => self.check_served(device, &app),
                CourseState::Aborted { reverted: true, .. } => self.check_reverted(device, &app),
                _ => Ok(()),
            };
            self.world.devices.iter().try_for_each(served)?;
        }
        Ok(())
    }

    fn rollouts(&self) -> Vec<AppId> {
        let conductors = self.world.controller.iter().flat_map(|of| of.desk.conductors());
        conductors.map(|conductor| conductor.app().clone()).collect()
    }

    fn conductor_of(&self, app: &AppId) -> Result<&Conductor, String> {
        let controller = self.world.controller.as_ref().ok_or("there is no controller")?;
        controller.desk.conductor(app).ok_or_else(|| format!("there is no rollout of {app}"))
    }

    /// Whoever is away, broken or slow: no rollout hangs. It only waits for nodes that hold themselves back.
    pub(super) fn check_rollouts(&self) -> Step {
        for app in self.rollouts() {
            let conductor = self.conductor_of(&app)?;
            let state = conductor.state();
            let is_on = match state {
                CourseState::Running | CourseState::Reverting { .. } => true,
                // By a clock that was put back, its time has not come.
                CourseState::Scheduled => self.world.ahead_secs >= 0,
                _ => false,
            };
            let waits = conductor.seats().any(|(.., state)| matches!(state, NodeState::Deferred(_)));
            if is_on && !waits {
                let say = |(node, wave, state): (&NodeId, usize, &NodeState)| {
                    format!("{node} of {} {}", wave + 1, state.name())
                };
                let seats: Vec<String> = conductor.seats().map(say).collect();
                return Err(format!("the rollout of {app} hangs: {}: {}", state.name(), seats.join(", ")));
            }
        }
        Ok(())
    }

    /// When nodes went back, none of those that could runs the release; unless it ran it before, or obeys somebody else.
    fn check_reverted(&self, device: &Device, app: &AppId) -> Step {
        let conductor = self.conductor_of(app)?;
        // By the group through which it got the release.
        let wave = conductor.seat(&device.name).map(|(wave, _)| conductor.waves()[wave].stage as usize);
        let stage = wave.and_then(|stage| conductor.plan().stages.get(stage));
        let is_in = stage.is_some_and(|stage| device.groups.contains(&stage.group));
        let (true, true, Some(node)) = (is_in, device.record.is_active, device.apps.get(app)) else {
            return Ok(());
        };
        let saved = node.machine.saved();
        let digest = self.world.office.made(app, conductor.version()).ok_or("no release")?.signed.digest();
        let of_rollout = |revision: u64| {
            (conductor.first().0..=conductor.first().0 + schemas::mandate::REVISIONS).contains(&revision)
        };
        let stays = saved.current.as_ref().is_some_and(|slot| {
            let later = saved.obeyed.0 > conductor.first().0 + schemas::mandate::REVISIONS;
            slot.release == digest && of_rollout(slot.revision.0) && !later
        });
        let tried = saved.outcomes.iter().any(|outcome| {
            of_rollout(outcome.revision.0)
                && outcome.verdict != Verdict::Kept
                && outcome.verdict != Verdict::Superseded
        });
        if stays && !tried && saved.previous.is_some() {
            return Err(format!("all went back from {}, and {} did not", conductor.version(), device.name));
        }
        Ok(())
    }

    /// When a rollout is complete, every node has it, or has said why not.
    fn check_served(&self, device: &Device, app: &AppId) -> Step {
        let conductor = self.conductor_of(app)?;
        let is_in = conductor.plan().groups().iter().any(|group| device.groups.contains(group));
        if !is_in || !device.record.is_active || device.cut_off {
            return Ok(());
        }
        let Some(node) = device.apps.get(app) else {
            return Err(format!("{} has never heard of {app}", device.name));
        };
        let saved = node.machine.saved();
        let made = self.world.office.made(app, conductor.version()).ok_or("no release")?;
        let digest = made.signed.digest();
        let runs_it = saved.current.as_ref().is_some_and(|slot| slot.release == digest);
        let ended = saved
            .outcomes
            .iter()
            .any(|outcome| outcome.release == digest && outcome.verdict != Verdict::Superseded);
        let other = saved.obeyed.0 > conductor.first().0 + schemas::mandate::REVISIONS;
        if runs_it || ended || other {
            return Ok(());
        }
        Err(format!(
            "{} of {app} is completed, {} has it not: {:?}",
            conductor.version(),
            device.name,
            saved.outcomes
        ))
    }

    /// People let it go on until it is over.
    pub(super) fn finish(&mut self) -> Step {
        for app in self.rollouts() {
            self.app = app;
            for _ in 0..MAX_RESUMES {
                let wished = match self.state() {
                    Some(CourseState::Paused(_)) => Wished::Resume { acknowledged: Some(Nodes::All) },
                    Some(CourseState::AwaitingApproval) => Wished::Approve,
                    _ => break,
                };
                self.wish(&wished)?;
                self.world.live_until(self.world.now_ms + CALM_MS)?;
                self.check_end()?;
            }
            // A wave whose nodes are cut off for good, or that the release is not for, teaches nothing, and it says so.
            let is_said = |state: &CourseState| {
                let why = state.cause().map(|cause| cause.why);
                let teaches_nothing =
                    matches!(why, Some(PauseReason::Inconclusive | PauseReason::NotForAnybody));
                state.is_over() || teaches_nothing
            };
            if let Some(state) = self.state().filter(|state| !is_said(state)) {
                return Err(format!("the rollout of {} does not end: {}", self.app, state.name()));
            }
        }
        Ok(())
    }
}

/// At rest, and running what is committed.
fn check_rest(device: &Device, app: &AppId) -> Step {
    let node = &device.apps[app];
    let report = node.machine.report();
    if !matches!(report.phase, Phase::Idle | Phase::Deferred) {
        return Err(format!("{} {app} does not come to rest: {:?}", device.name, report.target));
    }
    if node.disk.journal.as_ref() != Some(node.machine.saved()) {
        return Err(format!("{} {app}: the journal at rest is not on the disk", device.name));
    }
    match (&node.machine.saved().current, &node.running) {
        (Some(_), None) => Err(format!("{} {app}: what is committed does not run", device.name)),
        _ => Ok(()),
    }
}
