//! The fleet's keys change: what the old ones signed and nobody began counts no more, and numbers may begin anew.

use schemas::{
    id::{Counter, Revision},
    reason::Reason,
};

use crate::{input::Keys, machine::Machine, outcome::Failure};

impl Machine {
    /// Goes by `keys` from now on. What has begun goes on, unless the numbers of orders begin anew: that is the answer to
    /// a stolen key, which may have signed what is being prepared.
    ///
    /// The same keys again change nothing, so that a power cut between the new root and this costs nothing.
    pub(crate) fn renew(&mut self, keys: Keys) {
        if self.keys.is_some_and(|before| before.root != keys.root) {
            // They come again from the bus, signed by keys that count.
            self.offers.clear();
        }
        self.keys = Some(keys);
        let saved = self.journal.saved();
        let resets = (saved.orders_reset < keys.orders_reset, saved.floor_reset < keys.floor_reset);
        if let (true, _) = resets {
            self.journal.note(|saved| {
                saved.seen.clear();
                saved.obeyed = Revision::default();
                saved.orders_reset = keys.orders_reset;
            });
            let text = "the keys that signed the order count no more";
            self.drop_prepared(Failure::new(Reason::Withdrawn, text));
        }
        if let (_, true) = resets {
            self.journal.note(|saved| {
                saved.floor = Counter::default();
                saved.floor_reset = keys.floor_reset;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::{report::Verdict, time::UnixTime};

    use super::*;
    use crate::{
        Input,
        testing::{Node, WALL, order},
    };

    const KEYS: Keys = Keys { root: 1, expires: UnixTime(u64::MAX / 2), orders_reset: 0, floor_reset: 0 };

    #[test]
    fn nothing_new_is_begun_under_a_root_that_has_expired() {
        let mut node = Node::running(5);
        node.input(Input::Keys(Keys { expires: WALL.minus_secs(700), ..KEYS }));
        node.announce(order(6, 6));
        let outcome = node.last();
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Refused, Some(Reason::Expired)));
        assert!(outcome.text.starts_with("root document 1"), "{}", outcome.text);
        assert_eq!(node.version(), "5.0");
    }

    #[test]
    fn numbers_begin_anew_with_a_root_that_says_so() {
        let mut node = Node::running(5);
        node.input(Input::Keys(KEYS));
        node.announce(order(u64::MAX, 5));
        node.input(Input::Keys(Keys { root: 2, orders_reset: 2, floor_reset: 2, ..KEYS }));
        node.install(order(6, 6));
        assert_eq!((node.version(), node.machine.report().revision.0), ("6.0".into(), 6));
        // The same keys again, as after a restart, forget nothing.
        node.input(Input::Keys(Keys { root: 2, orders_reset: 2, floor_reset: 2, ..KEYS }));
        node.announce(order(4, 4));
        assert_eq!(node.version(), "6.0");
    }

    #[test]
    fn what_a_stolen_key_ordered_is_dropped_before_it_runs() {
        let mut node = Node::running(5);
        node.input(Input::Keys(KEYS));
        node.hold("fetch");
        node.announce(order(6, 6));
        node.input(Input::Keys(Keys { root: 2, orders_reset: 2, ..KEYS }));
        node.release_stored();
        let outcome = node.last();
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Superseded, Some(Reason::Withdrawn)));
        assert_eq!((node.version(), node.state()), ("5.0".into(), "idle"));
    }

    #[test]
    fn an_order_that_waits_is_forgotten_with_the_key_that_signed_it() {
        let mut node = Node::running(5);
        node.input(Input::Keys(KEYS));
        node.announce(order(6, 6).with(|order| order.not_before = WALL.plus_secs(3_600)));
        assert_eq!(node.state(), "deferred");
        node.input(Input::Keys(Keys { root: 2, ..KEYS }));
        node.wait(4_000_000);
        assert_eq!((node.version(), node.state()), ("5.0".into(), "idle"));
    }
}
