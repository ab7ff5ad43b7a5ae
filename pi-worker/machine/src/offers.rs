//! Which order a node obeys: of the newest orders of all its groups, the highest one that applies now.
//!
//! What it should do follows from the set of those orders and the time, so that lost, doubled and reordered messages
//! lead to the same end.

use schemas::{
    announcement::Announced,
    hold::HoldCode,
    id::{Counter, Digest, GroupId, Revision},
    order::OrderState,
    reason::Reason,
    report::Verdict,
    time::UnixTime,
};

use crate::{
    effect::{Effect, Refused},
    input::{Keys, Now},
    machine::{Machine, Setup},
    outcome::{Failure, Subject},
    retry::place_ms,
    saved::{Saved, Seen, Slot, Spent},
    state::Deferral,
};

/// Most characters of a release's notes that are kept: what Home Assistant shows.
const MAX_NOTES_CHARS: usize = 255;
/// A waiting order is looked at so often, for the wall clock may be set meanwhile.
const LOOK_AGAIN_MS: u64 = 60_000;

/// The newest order of a group's topic, if this node is in its audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    subject: Subject,
    /// The first order of its series.
    first: Revision,
    counter: Counter,
    state: OrderState,
    urgent: bool,
    expires: UnixTime,
    issued_at: UnixTime,
    not_before: UnixTime,
    /// The node's place within the order's jitter.
    place_ms: u64,
    /// When its time comes, as far as is known.
    due_ms: Option<u64>,
    /// Its time had not come when it was last looked at.
    waits: bool,
    /// What would be installed; nothing when the release has no part for this node.
    slot: Option<Box<Slot>>,
}

/// What is to be done about the orders, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    Nothing,
    Wait(Deferral),
    Installed(Subject),
    Withdrawn(Revision),
    Begin(Box<Slot>),
}

/// What is to be done about one order.
pub(crate) enum Judgement {
    Nothing,
    Later { due_ms: u64, hold: Option<HoldCode>, until: Option<UnixTime>, text: String },
    Refuse(Failure),
    Choose(Choice),
}

impl Choice {
    /// The order that it is about, unless that only waits.
    pub(crate) fn revision(&self) -> Option<Revision> {
        match self {
            Self::Nothing | Self::Wait(_) => None,
            Self::Installed(subject) => Some(subject.revision),
            Self::Withdrawn(revision) => Some(*revision),
            Self::Begin(slot) => Some(slot.revision),
        }
    }
}

impl Judgement {
    /// The slot that it begins with.
    pub(crate) fn begins(&self) -> Option<&Slot> {
        match self {
            Self::Choose(Choice::Begin(slot)) => Some(slot),
            _ => None,
        }
    }
}

impl Machine {
    /// Takes note of a verified announcement.
    pub(crate) fn announced(&mut self, announced: &Announced, now: Now) {
        let order = &announced.order;
        if order.app != self.setup.app {
            return;
        }
        let (group, digest) = (order.group.clone(), order.digest());
        match self.journal.saved().seen.get(&group) {
            Some(seen) if order.revision < seen.revision => {
                let text = format!("order {} came after order {}", order.revision, seen.revision);
                return self.refuse_trace(group, digest, Reason::Replayed, text);
            }
            Some(seen) if order.revision == seen.revision && digest != seen.order => {
                let text = format!("two different orders carry revision {}", order.revision);
                return self.refuse_trace(group, digest, Reason::RevisionConflict, text);
            }
            Some(seen) if order.revision == seen.revision => {}
            _ => {
                let (first, release) = (order.first(), Some(order.release));
                let seen = Seen { revision: order.revision, order: digest, first, release };
                self.journal.note_seen(group.clone(), seen);
            }
        }
        let mut offer = order.audience.includes(&self.setup.node).then(|| Offer::new(announced, &self.setup));
        if let (Some(offer), Some(before)) = (&mut offer, self.offers.get_mut(&group)) {
            offer.take_over(before);
        }
        let newer = order.revision;
        if let Some(before) = self.replace_offer(group, offer) {
            self.supersede_waiting(before, newer, now);
        }
    }

    /// The highest order above `above` that applies now. Orders that never will are refused on the way.
    pub(crate) fn choose(&mut self, above: Option<Revision>, now: Now) -> Choice {
        self.wake_ms = None;
        let mut waits = Choice::Nothing;
        let mut groups: Vec<(Revision, GroupId)> =
            self.offers.iter().map(|(group, offer)| (offer.subject.revision, group.clone())).collect();
        groups.sort_unstable();
        for (revision, group) in groups.into_iter().rev() {
            if above.is_some_and(|above| revision <= above) || !self.is_open(revision) {
                continue;
            }
            let Some(mut offer) = self.offers.remove(&group) else { continue };
            let judgement = self.judge(&mut offer, now);
            offer.waits = matches!(judgement, Judgement::Later { .. });
            let takes_back = matches!(offer.state, OrderState::Withdrawn { .. });
            let subject = offer.subject.clone();
            let notes = offer.slot.as_ref().map(|slot| slot.notes.clone()).unwrap_or_default();
            self.offers.insert(group, offer);
            match judgement {
                Judgement::Nothing => {}
                // What cannot be gone back from yet is taken back all the same.
                Judgement::Later { .. } if takes_back && above.is_some() => {
                    return Choice::Withdrawn(revision);
                }
                Judgement::Later { due_ms, hold, until, text } => {
                    let look_ms = due_ms.min(now.mono_ms + LOOK_AGAIN_MS);
                    self.wake_ms = Some(self.wake_ms.map_or(look_ms, |ms: u64| ms.min(look_ms)));
                    if waits == Choice::Nothing {
                        let Subject { revision, version, .. } = subject;
                        waits = Choice::Wait(Deferral { revision, version, notes, text, hold, until });
                    }
                }
                Judgement::Refuse(failure) => {
                    self.end_offer(subject, Verdict::Refused, failure, now);
                    // What cannot be gone back from is taken back all the same.
                    if takes_back && above.is_some() {
                        return Choice::Withdrawn(revision);
                    }
                }
                Judgement::Choose(Choice::Withdrawn(_)) if above.is_none() => {}
                Judgement::Choose(choice) => return choice,
            }
        }
        waits
    }

    /// Ends the orders that waited while a higher one is begun.
    pub(crate) fn supersede_waiting_below(&mut self, revision: Revision, now: Now) {
        let below = |offer: &&Offer| offer.subject.revision < revision;
        let waiting: Vec<Offer> = self.offers.values().filter(below).cloned().collect();
        for offer in waiting {
            self.supersede_waiting(offer, revision, now);
        }
    }

    /// Whether something may still have to be done about an order.
    fn is_open(&self, revision: Revision) -> bool {
        revision >= self.journal.saved().obeyed && !self.journal.has_outcome(revision)
    }

    fn judge(&mut self, offer: &mut Offer, now: Now) -> Judgement {
        let saved = self.journal.saved();
        let accepted = offer.subject.revision == saved.obeyed;
        let expired = if accepted { None } else { self.expiry(offer, now) };
        match offer.state {
            OrderState::Paused => Judgement::Nothing,
            OrderState::Active if self.has_ended(offer) => Judgement::Nothing,
            OrderState::Active if self.is_under_way(offer) => Judgement::Choose(Choice::Nothing),
            OrderState::Active if let Some(expired) = expired => Judgement::Refuse(expired),
            OrderState::Active if accepted => judge_active(saved, offer, accepted, now),
            OrderState::Active => {
                let judgement = judge_active(saved, offer, accepted, now);
                self.hold_back(offer, judgement)
            }
            OrderState::Withdrawn { revert } => {
                let revision = offer.subject.revision;
                let runs = saved.current.as_ref().is_some_and(|slot| slot.release == offer.subject.release);
                let judgement = match (revert && runs, expired) {
                    (true, Some(expired)) => Judgement::Refuse(expired),
                    (true, None) => self.hold_back(offer, judge_revert(saved, offer)),
                    (false, _) => Judgement::Choose(Choice::Withdrawn(revision)),
                };
                if !accepted {
                    self.journal.note(|saved| saved.obeyed = saved.obeyed.max(revision));
                }
                judgement
            }
        }
    }

    /// What would be done about an order if it had not ended.
    pub(crate) fn judge_again(&self, offer: &mut Offer, now: Now) -> Judgement {
        judge_active(self.saved(), offer, true, now)
    }

    /// Why it is too late to begin with an order: its own time is over, or that of the keys that signed it.
    pub(crate) fn expiry(&self, offer: &Offer, now: Now) -> Option<Failure> {
        let is_over = |end: UnixTime| now.wall > end.plus_secs(schemas::order::CLOCK_SLACK_SECS);
        let revision = offer.subject.revision;
        let text = match self.keys {
            _ if is_over(offer.expires) => format!("order {revision} expired at {}", offer.expires),
            Some(Keys { root, expires, .. }) if is_over(expires) => {
                format!(
                    "root document {root}, which lists the keys of order {revision}, expired at {expires}"
                )
            }
            _ => return None,
        };
        Some(Failure::new(Reason::Expired, text))
    }

    fn replace_offer(&mut self, group: GroupId, offer: Option<Offer>) -> Option<Offer> {
        let same = |before: &Offer, offer: &Offer| before.subject.revision == offer.subject.revision;
        match (self.offers.get(&group), offer) {
            (Some(before), Some(offer)) if same(before, &offer) => None,
            (_, Some(offer)) => self.offers.insert(group, offer),
            (_, None) => self.offers.remove(&group),
        }
    }

    /// An order that only waited gets its verdict when another takes its place; anything else has or gets its own.
    fn supersede_waiting(&mut self, offer: Offer, by: Revision, now: Now) {
        if offer.waits && !self.journal.has_outcome(offer.subject.revision) {
            let failure = Failure::new(Reason::Superseded, format!("order {by} took its place"));
            self.end_offer(offer.subject, Verdict::Superseded, failure, now);
        }
    }

    fn end_offer(&mut self, subject: Subject, verdict: Verdict, failure: Failure, now: Now) {
        self.journal.note_outcome(subject.ended(verdict, failure, Spent::default(), now.wall));
    }

    fn refuse_trace(&mut self, group: GroupId, order: Digest, reason: Reason, text: String) {
        self.outbox.say(Effect::Refuse(Refused { group, order, reason, text }));
    }
}

impl Offer {
    fn new(announced: &Announced, setup: &Setup) -> Self {
        let (order, release) = (&announced.order, &announced.release);
        let first = order.first();
        Self {
            first,
            subject: Subject {
                revision: order.revision,
                release: order.release,
                version: release.version.clone(),
            },
            counter: release.counter,
            state: order.state,
            urgent: order.policy.urgent,
            expires: order.expires,
            issued_at: order.head.issued_at,
            not_before: order.not_before,
            place_ms: place_ms(&setup.node, &first.to_string(), order.policy.jitter_ms),
            due_ms: None,
            waits: false,
            slot: Slot::of(announced, setup).map(Box::new),
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.subject.revision
    }

    pub(crate) fn release(&self) -> Digest {
        self.subject.release
    }

    /// Whether it continues the order of this revision and release.
    pub(crate) fn continues(&self, revision: Revision, release: Digest) -> bool {
        self.release() == release && (self.first..self.revision()).contains(&revision)
    }

    pub(crate) fn state(&self) -> OrderState {
        self.state
    }

    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Another order speaks for it.
    pub(crate) fn wait_no_more(&mut self) {
        self.waits = false;
    }

    /// Takes the place of an order that it continues: what waited goes on waiting, and not for longer.
    fn take_over(&mut self, before: &mut Self) {
        if !self.continues(before.revision(), before.release()) {
            return;
        }
        before.wait_no_more();
        self.due_ms = before.due_ms.filter(|_| self.not_before <= before.not_before);
    }

    /// When its time comes. Only ever moves closer, so that a coarse wall clock does not put it off.
    fn due_ms(&mut self, now: Now) -> u64 {
        let until_begin_ms = self.not_before.0.saturating_sub(now.wall.0).saturating_mul(1_000);
        let since_begin_ms =
            now.wall.0.saturating_sub(self.not_before.max(self.issued_at).0).saturating_mul(1_000);
        let wait_ms = until_begin_ms.saturating_add(self.place_ms.saturating_sub(since_begin_ms));
        let due_ms = now.mono_ms.saturating_add(wait_ms);
        let due_ms = self.due_ms.map_or(due_ms, |before| before.min(due_ms));
        self.due_ms = Some(due_ms);
        due_ms
    }
}

impl Slot {
    fn of(announced: &Announced, setup: &Setup) -> Option<Self> {
        let (order, release) = (&announced.order, &announced.release);
        let part = release.part_for(&setup.platform, &setup.kinds)?;
        Some(Self {
            release: order.release,
            version: release.version.clone(),
            counter: release.counter,
            min_counter: release.min_counter,
            commit: release.provenance.commit.clone(),
            notes: release.notes.chars().take(MAX_NOTES_CHARS).collect(),
            revision: order.revision,
            group: order.group.clone(),
            part: part.clone(),
            since: UnixTime::default(),
        })
    }
}

fn judge_active(saved: &Saved, offer: &mut Offer, accepted: bool, now: Now) -> Judgement {
    let Some(slot) = offer.slot.clone() else {
        let text = format!("release {} has no part for this node", offer.subject.version);
        return Judgement::Refuse(Failure::new(Reason::NoPart, text));
    };
    if offer.counter < saved.floor {
        return Judgement::Refuse(below_floor(&slot, saved.floor));
    }
    let due_ms = offer.due_ms(now);
    if !accepted && due_ms > now.mono_ms {
        let until = Some(offer.not_before).filter(|time| *time > now.wall);
        let text = match until {
            Some(time) => format!("not before {time}"),
            None => "its place among the nodes of the order".to_owned(),
        };
        return Judgement::Later { due_ms, hold: None, until, text };
    }
    let installed = saved.current.as_ref().is_some_and(|current| current.release == slot.release);
    Judgement::Choose(if installed { Choice::Installed(offer.subject.clone()) } else { Choice::Begin(slot) })
}

/// Going back needs neither the bus nor a release: the slot still stands on the disk.
fn judge_revert(saved: &Saved, offer: &Offer) -> Judgement {
    match &saved.previous {
        None => Judgement::Refuse(Failure::new(Reason::Withdrawn, "there is no release to go back to")),
        Some(previous) if previous.counter < saved.floor => {
            Judgement::Refuse(below_floor(previous, saved.floor))
        }
        Some(previous) => Judgement::Choose(Choice::Begin(Box::new(Slot {
            revision: offer.subject.revision,
            ..previous.clone()
        }))),
    }
}

fn below_floor(slot: &Slot, floor: Counter) -> Failure {
    let text = format!("release {} has counter {}, the floor is {floor}", slot.version, slot.counter);
    Failure::new(Reason::BelowFloor, text)
}

#[cfg(test)]
mod tests;
