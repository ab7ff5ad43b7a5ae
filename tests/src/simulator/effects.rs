//! How long effects take in the model, and how they end.

use machine::{Effect, Fault, Slot, Yield};
use schemas::reason::Reason;

use super::{
    apps::{Behaviour, Behaviours},
    node::{Evidence, Flight, Node, Running},
    rng::Rng,
};

impl Flight {
    /// Begins `effect`; of a thousand, `faults` end badly for no fault of the release.
    pub(crate) fn new(
        effect: Effect,
        now_ms: u64,
        faults: u64,
        apps: &dyn Behaviours,
        rng: &mut Rng,
    ) -> Self {
        let ends_ms = now_ms + longest_ms(&effect).map_or(0, |ms| rng.between(1, ms));
        let own = own_fault(&effect, apps);
        let fault = own.or_else(|| rng.permille(faults).then(|| outer_fault(&effect, rng)).flatten());
        // A bad result does not say that nothing was written.
        let both = matches!(effect, Effect::Persist(_) | Effect::Switch(_)) && rng.permille(200);
        let writes = fault.is_none() || both;
        let done = Yield { fetched_bytes: 1, requests: 1, built: None };
        Self { effect, ends_ms, result: fault.map_or(Ok(done), Err), writes }
    }
}

impl Node {
    /// The effect in flight has its consequences.
    pub(crate) fn carry_out(
        &mut self,
        flight: &Flight,
        now_ms: u64,
        apps: &dyn Behaviours,
    ) -> Result<(), String> {
        if flight.writes {
            if matches!(flight.effect, Effect::Persist(_)) {
                self.torn = flight.result.is_err();
                self.was_torn |= self.torn;
            }
            self.disk.write(&flight.effect);
            self.note_ended();
        }
        match &flight.effect {
            Effect::Stop(slot) => self.stop(slot),
            Effect::Start(slot) if flight.result.is_ok() => self.start(slot, now_ms, apps)?,
            Effect::Prove(_) if flight.result.is_ok() => {
                if let Some(evidence) = &mut self.evidence {
                    evidence.proved = evidence.healthy_since_ms.is_some();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn stop(&mut self, slot: &Slot) {
        if self.running.as_ref().is_some_and(|running| running.slot.tree() == slot.tree()) {
            self.running = None;
        }
        (self.watch, self.evidence) = (None, None);
    }

    fn start(&mut self, slot: &Slot, now_ms: u64, apps: &dyn Behaviours) -> Result<(), String> {
        match &self.running {
            Some(running) if running.slot.tree() != slot.tree() => {
                return Err(format!("{} is started while {} runs", slot.version, running.slot.version));
            }
            Some(_) => {}
            None => self.running = Some(Running::new(slot.clone(), now_ms, apps)),
        }
        self.evidence = Some(Evidence::new(slot, now_ms));
        Ok(())
    }
}

/// The longest that an effect takes; nothing for those that are not answered.
fn longest_ms(effect: &Effect) -> Option<u64> {
    match effect {
        Effect::Fetch(_) => Some(20_000),
        Effect::Stage(_) => Some(5_000),
        Effect::PreCheck(_) | Effect::Stop(_) => Some(1_000),
        Effect::Start(_) | Effect::Prove(_) => Some(300),
        Effect::Persist(_) | Effect::Switch(_) | Effect::Prune { .. } => Some(50),
        Effect::Watch(_) | Effect::Cancel | Effect::Tell { .. } | Effect::Refuse(_) => None,
    }
}

/// What goes wrong with a release wherever it is installed.
fn own_fault(effect: &Effect, apps: &dyn Behaviours) -> Option<Fault> {
    let (slot, behaviour, reason) = match effect {
        Effect::Start(slot) => (slot, Behaviour::WontStart, Reason::StartFailed),
        Effect::Prove(slot) => match apps.behaviour(&slot.release) {
            Behaviour::Stale => (slot, Behaviour::Stale, Reason::StaleCode),
            _ => (slot, Behaviour::Mute, Reason::NoProof),
        },
        _ => return None,
    };
    (apps.behaviour(&slot.release) == behaviour).then(|| fault(reason, false))
}

/// What goes wrong with the node or the network.
fn outer_fault(effect: &Effect, rng: &mut Rng) -> Option<Fault> {
    let (reason, transient) = match effect {
        Effect::Fetch(_) if rng.permille(950) => (Reason::StoreUnreachable, true),
        Effect::Fetch(_) => rng.pick(&[(Reason::DigestMismatch, false), (Reason::DiskFull, false)]),
        Effect::Stage(_) => rng.pick(&[(Reason::SlotMismatch, false), (Reason::DiskFull, false)]),
        Effect::PreCheck(_) => (Reason::HookTimeout, false),
        Effect::Persist(_) => (Reason::DiskFull, false),
        Effect::Stop(_) | Effect::Switch(_) | Effect::Prune { .. } => (Reason::DiskError, false),
        Effect::Start(_) => (Reason::StartFailed, false),
        Effect::Prove(_) => (Reason::NoProof, true),
        Effect::Watch(_) | Effect::Cancel | Effect::Tell { .. } | Effect::Refuse(_) => return None,
    };
    Some(fault(reason, transient))
}

pub(crate) fn fault(reason: Reason, transient: bool) -> Fault {
    Fault { reason, text: reason.code().to_owned(), log_tail: Vec::new(), transient }
}
