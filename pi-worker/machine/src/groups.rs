//! The node leaves groups: what was ordered for them counts no more. What runs, or is on its trial, is left as it is.

use std::collections::BTreeSet;

use schemas::{id::GroupId, reason::Reason};

use crate::{machine::Machine, outcome::Failure, state::State};

impl Machine {
    /// Goes by the orders of `groups` alone from now on. What waits is forgotten, and counts again when the node comes back
    /// to its group; what is prepared is dropped, unless an order of another group continues it.
    ///
    /// The numbers that were seen stay: an older order of a group is a replay also after the node was away from it.
    pub(crate) fn regroup(&mut self, groups: &BTreeSet<GroupId>) {
        let under_way = match &self.state {
            State::Preparing(job, _) => Some(job.clone()),
            _ => None,
        };
        let was_ordered = under_way.as_ref().is_some_and(|job| self.is_ordered(job));
        self.offers.retain(|group, _| groups.contains(group));
        let Some(job) = under_way.filter(|job| !self.is_ordered(job)) else { return };
        // Its order may be gone already, as that of a rollout which was paused meanwhile.
        if was_ordered || !groups.contains(&job.slot.group) {
            let text = format!("this node left the group {} of the order", job.slot.group);
            self.drop_prepared(Failure::new(Reason::Withdrawn, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::{order::OrderState, report::Verdict};

    use super::*;
    use crate::{
        Input, Yield,
        testing::{Node, WALL, group, order},
    };

    fn regroup(node: &mut Node, groups: &[&str]) {
        node.input(Input::Groups(groups.iter().map(|name| group(name)).collect()));
    }

    #[test]
    fn an_order_that_waits_is_forgotten_and_counts_again_when_the_node_comes_back() {
        let mut node = Node::running(5);
        let later = order(6, 6).group("canary").with(|order| order.not_before = WALL.plus_secs(300));
        node.announce(later.clone());
        assert_eq!(node.state(), "deferred");
        regroup(&mut node, &["all"]);
        assert_eq!((node.state(), node.machine.poll_timeout()), ("idle", None));
        node.wait(600_000);
        assert_eq!((node.version(), node.verdict().0), ("5.0".into(), 5));
        regroup(&mut node, &["all", "canary"]);
        node.install(later);
        assert_eq!(node.version(), "6.0");
    }

    #[test]
    fn what_is_prepared_never_runs_and_what_runs_is_not_touched() {
        let mut node = Node::running(5);
        node.hold("fetch");
        node.announce(order(6, 6).group("canary"));
        node.names();
        regroup(&mut node, &["all"]);
        assert_eq!(node.names(), ["cancel"]);
        node.release_stored();
        assert_eq!(node.verdict(), (6, Verdict::Superseded, Some(Reason::Withdrawn)));
        assert_eq!(node.last().text, "this node left the group canary of the order");
        assert_eq!((node.version(), node.state()), ("5.0".into(), "idle"));
        assert!(!node.names().iter().any(|name| ["stop", "switch", "start"].contains(name)));
    }

    #[test]
    fn what_is_on_its_trial_goes_on_to_its_end() {
        let mut node = Node::running(5);
        node.announce(order(6, 6).group("canary"));
        regroup(&mut node, &[]);
        assert_eq!(node.state(), "trial");
        node.healthy();
        node.wait(6_000);
        assert_eq!((node.verdict(), node.version()), ((6, Verdict::Kept, None), "6.0".into()));
    }

    #[test]
    fn what_another_group_orders_too_goes_on() {
        let mut node = Node::running(5);
        node.hold("fetch");
        node.announce(order(6, 6).group("canary"));
        node.announce(order(7, 6).with(|order| order.continues = Some(schemas::id::Revision(6))));
        regroup(&mut node, &["all"]);
        node.release(Ok(Yield::default()));
        assert_eq!(node.state(), "trial");
    }

    #[test]
    fn what_has_begun_under_an_order_that_was_paused_ends_with_its_group() {
        let mut node = Node::running(5);
        node.hold("fetch");
        node.announce(order(6, 6).group("canary"));
        node.announce(order(7, 6).group("canary").state(OrderState::Paused));
        regroup(&mut node, &["all", "canary"]);
        assert_eq!(node.state(), "fetching");
        regroup(&mut node, &["all"]);
        node.release_stored();
        assert_eq!(node.verdict(), (6, Verdict::Superseded, Some(Reason::Withdrawn)));
    }

    #[test]
    fn the_order_of_a_group_that_stays_is_taken_next() {
        let mut node = Node::running(5);
        let later = |draft: crate::testing::Draft| draft.with(|order| order.not_before = WALL.plus_secs(300));
        node.announce(later(order(6, 6)));
        node.announce(later(order(7, 7).group("canary")));
        regroup(&mut node, &["all"]);
        assert_eq!(node.machine.report().target.unwrap().revision.0, 6);
        node.wait(310_000);
        node.healthy();
        node.wait(6_000);
        assert_eq!(node.version(), "6.0");
    }
}
