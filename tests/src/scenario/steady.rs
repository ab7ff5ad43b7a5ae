//! Whatever happens to messages and to the controller, it leads to the same end: a scenario whose deeds come when all is at rest is
//! compared with its twin, to which nothing happens.

use std::collections::BTreeSet;

use schemas::rollout::CourseState;

use super::{
    Failed, Scenario,
    command::{Command, TroubleKind},
    play::Play,
    script::is_deed,
};

/// Compares how it stood at each rest, as `disturbed` shows it, with how it would have stood.
///
/// # Errors
/// Names the rest at which it differs, or a deed that does not wait for one.
pub(super) fn compare(scenario: &Scenario, disturbed: &Play) -> Result<(), Failed> {
    let mut twin = Play::default();
    for (at, (.., command)) in scenario.lines.iter().enumerate() {
        if disturbs(command) {
            continue;
        }
        if is_deed(command) {
            let check = twin.check_end();
            check.map_err(|what| scenario.failed(at, format!("it is not at rest here: {what}"), &[]))?;
        }
        let rest = twin.rests.len();
        scenario.perform(at, &mut twin)?;
        if let Some(was) = twin.rests.get(rest).filter(|was| disturbed.rests[rest] != **was) {
            let is = &disturbed.rests[rest];
            let only = |some: &BTreeSet<String>, others: &BTreeSet<String>| {
                some.difference(others).cloned().collect::<Vec<_>>().join(", ")
            };
            let (is, was) = (only(is, was), only(was, is));
            let what = format!("it stands otherwise than undisturbed: {is} instead of {was}");
            return Err(scenario.failed(at, what, &disturbed.world.timeline));
        }
    }
    Ok(())
}

/// Whether a line is nothing but a disturbance.
fn disturbs(command: &Command) -> bool {
    matches!(
        command,
        Command::Messages { .. }
            | Command::Replay
            | Command::Controller(_)
            | Command::Link { .. }
            | Command::Trouble { what: TroubleKind::Lock(_), .. }
    )
}

impl Play {
    /// What every node runs, and how every rollout and every node of it stands.
    pub(super) fn standing(&self) -> BTreeSet<String> {
        let mut standing = BTreeSet::new();
        for device in &self.world.devices {
            for (app, node) in &device.apps {
                let slot = node.machine.saved().current.as_ref();
                let version = slot.map_or("nothing", |slot| slot.version.as_str());
                standing.insert(format!("{} runs {app} {version}", device.name));
            }
        }
        for conductor in self.world.controller.iter().flat_map(|of| of.desk.conductors()) {
            let (app, version) = (conductor.app(), conductor.version());
            standing.insert(format!("{app} {version} is {}", conductor.state().name()));
            // Nobody looks any more at the nodes of one whose place another order has taken.
            let is_looked_at = *conductor.state() != CourseState::Superseded;
            for (node, wave, state) in conductor.seats().filter(|_| is_looked_at) {
                let (wave, state) = (wave + 1, state.name());
                standing.insert(format!("{node} of wave {wave} of {app} {version} is {state}"));
            }
        }
        standing
    }
}
