//! What came in and was not yet read, within bounds. Pure.
//!
//! Whoever polls the connection must never wait for whoever reads, else keep-alives stop; and a reader that is slow or
//! stuck must not make memory grow. What the broker keeps is state, so of each such topic only the newest value waits.
//! What it does not keep (events, log lines, commands) waits in order, up to a limit, beyond which it is dropped and
//! counted. When something was dropped, everything is subscribed to again as soon as the reader has caught up, and the
//! broker says the state once more.

use std::collections::{HashMap, VecDeque};

use schemas::topic::Topic;

use super::{events::Event, message::Incoming};

/// Messages of topics that are not kept, waiting to be read.
const MAX_PASSING: usize = 1024;
/// Payload bytes of all waiting messages: twice the reports of ten thousand nodes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Events that wait to be read.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// About the connection and subscriptions: the newest on each.
    news: VecDeque<Event>,
    letters: VecDeque<Incoming>,
    /// How many letters were taken out so far; the place of a letter minus this is its index.
    taken: u64,
    /// Place of the waiting letter of each retained topic.
    places: HashMap<Topic, u64>,
    passing: usize,
    bytes: usize,
    dropped: u64,
}

impl Mailbox {
    /// Adds what is known about the connection or a subscription, in place of what was known before.
    pub(super) fn tell(&mut self, news: Event) {
        self.news.retain(|known| !known.is_about_the_same(&news));
        self.news.push_back(news);
    }

    /// Adds a message. False when there was no room for it, for the first time since the reader was up to date.
    pub(super) fn deliver(&mut self, letter: Incoming) -> bool {
        let is_state = letter.topic.is_retained();
        let place = self.places.get(&letter.topic).copied();
        let replaced = place.and_then(|place| self.letters.get_mut((place - self.taken) as usize));
        let replaced_bytes = replaced.as_ref().map_or(0, |letter| letter.payload.len());
        let bytes = self.bytes - replaced_bytes + letter.payload.len();
        if bytes > MAX_BYTES || (!is_state && self.passing >= MAX_PASSING) {
            self.dropped += 1;
            return self.dropped > 1;
        }
        self.bytes = bytes;
        if let Some(replaced) = replaced {
            *replaced = letter;
            return true;
        }
        if is_state {
            self.places.insert(letter.topic.clone(), self.taken + self.letters.len() as u64);
        } else {
            self.passing += 1;
        }
        self.letters.push_back(letter);
        true
    }

    /// Takes the next event; news go before messages.
    pub(super) fn take(&mut self) -> Option<Event> {
        self.news.pop_front().or_else(|| self.take_letter().map(Event::Message))
    }

    fn take_letter(&mut self) -> Option<Incoming> {
        let letter = self.letters.pop_front()?;
        self.taken += 1;
        self.bytes -= letter.payload.len();
        if self.places.remove(&letter.topic).is_none() {
            self.passing -= 1;
        }
        Some(letter)
    }

    /// How many messages were dropped; asked once the reader is up to date, and then forgotten.
    pub(super) fn take_dropped(&mut self) -> u64 {
        if self.letters.is_empty() { std::mem::take(&mut self.dropped) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use schemas::topic::NodeTopic;

    use super::*;

    #[test]
    fn of_a_retained_topic_only_the_newest_value_waits_in_the_place_of_the_first() {
        let mut mailbox = Mailbox::default();
        for (node, payload) in [("a", "1"), ("b", "1"), ("a", "2"), ("b", "2"), ("a", "3")] {
            assert!(mailbox.deliver(letter(node, NodeTopic::Report, payload)));
        }
        assert_eq!(read(&mut mailbox), ["a 3", "b 2"]);
        assert!(mailbox.deliver(letter("a", NodeTopic::Report, "4")));
        assert_eq!(read(&mut mailbox), ["a 4"]);
        assert_eq!((mailbox.bytes, mailbox.places.len(), mailbox.passing), (0, 0, 0));
    }

    #[test]
    fn what_is_not_retained_waits_in_order() {
        let mut mailbox = Mailbox::default();
        for n in 0..5 {
            assert!(mailbox.deliver(letter("a", NodeTopic::Event, &n.to_string())));
        }
        assert_eq!(read(&mut mailbox), ["a 0", "a 1", "a 2", "a 3", "a 4"]);
    }

    #[test]
    fn a_reader_that_is_stuck_costs_a_bounded_number_of_events_and_is_told_once() {
        let mut mailbox = Mailbox::default();
        let refusals = (0..3000).filter(|_| !mailbox.deliver(letter("a", NodeTopic::Event, "x"))).count();
        assert_eq!((mailbox.letters.len(), refusals), (MAX_PASSING, 1));
        assert_eq!(mailbox.take_dropped(), 0);
        assert_eq!(read(&mut mailbox).len(), MAX_PASSING);
        assert_eq!(mailbox.take_dropped(), 3000 - MAX_PASSING as u64);
        assert_eq!(mailbox.take_dropped(), 0);
    }

    #[test]
    fn state_still_gets_in_when_there_is_no_room_for_events() {
        let mut mailbox = Mailbox::default();
        for _ in 0..2 * MAX_PASSING {
            mailbox.deliver(letter("a", NodeTopic::Event, "x"));
        }
        mailbox.deliver(letter("a", NodeTopic::Report, "state"));
        assert_eq!(read(&mut mailbox).last().unwrap(), "a state");
    }

    #[test]
    fn waiting_bytes_are_bounded_and_a_replaced_value_gives_its_room_back() {
        let mut mailbox = Mailbox::default();
        let large = "x".repeat(MAX_BYTES / 4);
        for node in ["a", "b", "c", "d"] {
            assert!(mailbox.deliver(letter(node, NodeTopic::Report, &large)));
        }
        assert!(mailbox.deliver(letter("a", NodeTopic::Report, &large)));
        assert!(!mailbox.deliver(letter("e", NodeTopic::Report, "x")));
        assert!(mailbox.deliver(letter("a", NodeTopic::Report, "small")));
        assert!(mailbox.deliver(letter("e", NodeTopic::Report, "x")));
    }

    #[test]
    fn of_news_about_the_same_only_the_newest_waits() {
        let mut mailbox = Mailbox::default();
        let filter = schemas::topic::Filter::everything(&"test".parse().unwrap());
        for news in
            [Event::Connected, Event::Subscribed(filter.clone()), Event::Connected, Event::Denied(filter)]
        {
            mailbox.tell(news);
        }
        assert!(matches!(mailbox.take(), Some(Event::Connected)));
        assert!(matches!(mailbox.take(), Some(Event::Denied(_))));
        assert!(mailbox.take().is_none());
    }

    fn letter(node: &str, topic: NodeTopic, payload: &str) -> Incoming {
        let topic = schemas::topic::Kind::Node(node.parse().unwrap(), topic).of(&"test".parse().unwrap());
        Incoming { topic, payload: payload.to_owned().into(), retained: false }
    }

    fn read(mailbox: &mut Mailbox) -> Vec<String> {
        let events = std::iter::from_fn(|| mailbox.take());
        events
            .map(|event| match event {
                Event::Message(Incoming { topic, payload, .. }) => {
                    let topic = topic.to_string();
                    let node = topic.split('/').nth(3).unwrap().to_owned();
                    format!("{node} {}", String::from_utf8_lossy(&payload))
                }
                other => format!("{other:?}"),
            })
            .collect()
    }
}
