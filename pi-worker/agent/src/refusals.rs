//! The last documents that were refused before they reached an app, as reports carry them.

use schemas::{
    id::Digest,
    reason::Reason,
    report::{MAX_REFUSALS, Refusal},
    time::UnixTime,
    topic::Topic,
};

/// Longest sentence of a refusal: it may quote what a stranger sent.
const MAX_TEXT_CHARS: usize = 300;

/// The last refusals, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Vec<Refusal>);

impl Refusals {
    /// Notes one more. The same again is counted, not listed twice. Gives it back when the log should say it:
    /// the first, second, fourth … time, so that a flood does not fill the log.
    pub(crate) fn note(
        &mut self,
        topic: &Topic,
        reason: Reason,
        text: &str,
        order: Option<Digest>,
        at: UnixTime,
    ) -> Option<&Refusal> {
        let topic = topic.to_string();
        let same = |refusal: &Refusal| refusal.topic == topic && refusal.reason == reason;
        let before = self.0.iter().position(same).map(|place| self.0.remove(place));
        let times = before.map_or(0, |refusal| refusal.times).saturating_add(1);
        if self.0.len() == MAX_REFUSALS {
            self.0.remove(0);
        }
        let text = text.chars().take(MAX_TEXT_CHARS).collect();
        self.0.push(Refusal { topic, reason, text, order, attack: reason.is_attack(), times, at });
        self.0.last().filter(|refusal| refusal.times.is_power_of_two())
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> &[Refusal] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_again_is_counted_and_said_ever_more_rarely() {
        let mut refusals = Refusals::default();
        let said = (1..=100_u64)
            .filter(|at| {
                refusals.note(&topic("web"), Reason::BadSignature, "no", None, UnixTime(*at)).is_some()
            })
            .count();
        assert_eq!(said, 7);
        let [refusal] = refusals.list() else { panic!("{refusals:?}") };
        assert_eq!((refusal.times, refusal.at, refusal.attack), (100, UnixTime(100), true));
    }

    #[test]
    fn only_the_newest_are_kept() {
        let mut refusals = Refusals::default();
        for app in 0..20 {
            refusals.note(
                &topic(&format!("app{app}")),
                Reason::Malformed,
                &"x".repeat(9_999),
                None,
                UnixTime(1),
            );
        }
        assert_eq!(refusals.list().len(), MAX_REFUSALS);
        assert!(refusals.list()[0].topic.ends_with("app12") && refusals.list()[7].topic.ends_with("app19"));
        assert!(refusals.list().iter().all(|refusal| refusal.text.len() == MAX_TEXT_CHARS));
    }

    fn topic(app: &str) -> Topic {
        format!("home/v1/release/all/{app}").parse().unwrap()
    }
}
