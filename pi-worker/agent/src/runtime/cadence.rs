//! When the node speaks: at once where somebody waits for it, else not too often.

/// Between two reports: several effects that end together give one.
const CHANGE_MS: u64 = 100;
/// Between two reports that differ in nothing but progress: each is retained, which costs the broker a write.
const PROGRESS_MS: u64 = 500;

/// Why there is something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Something is further than it was.
    Progress,
    /// Something changed.
    Change,
    /// Somebody waits for this.
    Verdict,
}

/// When the node speaks next, on the clock that never jumps.
#[derive(Debug, Default)]
pub(super) struct Cadence {
    spoke_ms: Option<u64>,
    due_ms: Option<u64>,
}

impl Cadence {
    /// There is something to say.
    pub(super) fn ask(&mut self, urgency: Urgency, now_ms: u64) {
        let after = |pause_ms| self.spoke_ms.map_or(now_ms, |spoke_ms| now_ms.max(spoke_ms + pause_ms));
        let at_ms = match urgency {
            Urgency::Progress => after(PROGRESS_MS),
            Urgency::Change => after(CHANGE_MS),
            Urgency::Verdict => now_ms,
        };
        self.due_ms = Some(self.due_ms.map_or(at_ms, |due_ms| due_ms.min(at_ms)));
    }

    /// When to speak, if there is something to say.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Whether it is time to speak; if so, everything is taken as said.
    pub(super) fn take(&mut self, now_ms: u64) -> bool {
        let is_due = self.due_ms.is_some_and(|due_ms| due_ms <= now_ms);
        if is_due {
            *self = Self { spoke_ms: Some(now_ms), due_ms: None };
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_said_at_once_and_the_next_are_gathered() {
        let mut cadence = Cadence::default();
        cadence.ask(Urgency::Change, 1_000);
        assert!(cadence.take(1_000) && !cadence.take(1_000));
        cadence.ask(Urgency::Change, 1_010);
        cadence.ask(Urgency::Change, 1_050);
        assert!(!cadence.take(1_099) && cadence.take(1_100));
    }

    #[test]
    fn progress_is_said_more_rarely() {
        let mut cadence = Cadence::default();
        cadence.ask(Urgency::Progress, 0);
        assert!(cadence.take(0));
        cadence.ask(Urgency::Progress, 200);
        assert_eq!(cadence.due_ms(), Some(500));
        cadence.ask(Urgency::Change, 250);
        assert_eq!(cadence.due_ms(), Some(250));
    }

    #[test]
    fn a_verdict_waits_for_nothing() {
        let mut cadence = Cadence::default();
        cadence.ask(Urgency::Change, 0);
        assert!(cadence.take(0));
        cadence.ask(Urgency::Progress, 5);
        cadence.ask(Urgency::Verdict, 10);
        assert!(cadence.take(10));
        assert_eq!(cadence.due_ms(), None);
    }
}
