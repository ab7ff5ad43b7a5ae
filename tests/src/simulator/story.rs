//! A history in words: one short line for each thing that happens.

use machine::{Effect, Input, Saved, Slot, Step};

/// An effect that the machine asks for.
pub(crate) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Persist(saved) => format!("  persist {}", journal(saved)),
        Effect::Fetch(slot) => format!("  fetch {}", name(slot)),
        Effect::Stage(slot) => format!("  stage {}", name(slot)),
        Effect::PreCheck(slot) => format!("  pre-check {}", name(slot)),
        Effect::Stop(slot) => format!("  stop {}", name(slot)),
        Effect::Switch(slot) => format!("  switch to {}", slot.as_deref().map_or("nothing".into(), name)),
        Effect::Start(slot) => format!("  start {}", name(slot)),
        Effect::Prove(slot) => format!("  prove {}", name(slot)),
        Effect::Watch(slot) => format!("  watch {}", name(slot)),
        Effect::Prune { keep } => format!("  prune, {} stay", keep.len()),
        other => format!("  {other:?}"),
    }
}

/// What the machine is told.
pub(crate) fn input(input: &Input) -> String {
    match input {
        Input::Announced(announced) => {
            let order = &announced.order;
            let version = &announced.release.version;
            format!("order {} {}: {:?} {version}", order.group, order.revision, order.state)
        }
        Input::Done(Ok(_)) => "done".to_owned(),
        Input::Done(Err(fault)) => format!("failed: {}", fault.reason),
        Input::Health(health) => format!("healthy: {}", health.ok),
        Input::Exited(_) => "the app ends by itself".to_owned(),
        other => format!("{other:?}"),
    }
}

/// What a journal says.
fn journal(saved: &Saved) -> String {
    let slot = |slot: &Option<Slot>| slot.as_ref().map_or("nothing".to_owned(), name);
    let step = match &saved.step {
        Step::Idle => "idle".to_owned(),
        Step::Trying { slot, tries_left, .. } => format!("trying {}, {tries_left} tries left", name(slot)),
        Step::RollingBack { slot, reason, .. } => format!("rolling back {} for {reason}", name(slot)),
    };
    let verdicts: Vec<String> =
        saved.outcomes.iter().map(|o| format!("{} {}", o.revision, o.verdict.name())).collect();
    format!(
        "[{step}; runs {}, before {}; obeyed {}, floor {}; {}]",
        slot(&saved.current),
        slot(&saved.previous),
        saved.obeyed,
        saved.floor,
        verdicts.join(", ")
    )
}

fn name(slot: &Slot) -> String {
    format!("{} of order {}", slot.version, slot.revision)
}
