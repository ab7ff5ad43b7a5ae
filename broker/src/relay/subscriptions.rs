//! Who wants which topics: a tree of the filters' levels.

use std::{collections::BTreeMap, num::NonZeroU32};

use super::{
    message::{Grant, SubscriptionIds},
    registry::ClientKey,
    topic::Filter,
};

/// How a client wants the messages of one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscription {
    /// At most at this quality.
    pub(super) grant: Grant,
    /// Not what it published itself (MQTT-3.8.3-3).
    pub(super) no_local: bool,
    /// With the publisher's retain flag (MQTT-3.3.1-12, -13).
    pub(super) retain_as_published: bool,
    /// What the client calls it.
    pub(super) id: Option<NonZeroU32>,
}

/// How a client wants one message: what its matching subscriptions say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// MQTT-3.3.4-2: "the maximum QoS of all the matching subscriptions" (v3: MQTT-3.3.5-1).
    pub(super) grant: Grant,
    /// Whether one of them wants the publisher's retain flag.
    pub(super) retain_as_published: bool,
    /// MQTT-3.3.4-4: "the Subscription Identifiers for all matching subscriptions which have" one.
    pub(super) ids: SubscriptionIds,
}

/// All subscriptions of all sessions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    root: Level,
}

#[derive(Debug, Default)]
struct Level {
    below: BTreeMap<Box<str>, Level>,
    here: BTreeMap<ClientKey, Subscription>,
}

impl Wish {
    /// What one subscription says.
    pub(super) fn of(subscription: Subscription) -> Self {
        Self {
            grant: subscription.grant,
            retain_as_published: subscription.retain_as_published,
            ids: SubscriptionIds::of(subscription.id),
        }
    }

    /// What several subscriptions say together; `None` without any.
    pub(super) fn of_all<'a>(subscriptions: impl Iterator<Item = &'a Subscription> + Clone) -> Option<Self> {
        Some(Self {
            grant: subscriptions.clone().map(|subscription| subscription.grant).max()?,
            retain_as_published: subscriptions.clone().any(|subscription| subscription.retain_as_published),
            ids: SubscriptionIds::collect(subscriptions.filter_map(|subscription| subscription.id).collect()),
        })
    }
}

impl Subscriptions {
    /// Adds or replaces the subscription of `client` to `filter`.
    pub(super) fn insert(&mut self, filter: &Filter, client: ClientKey, subscription: Subscription) {
        let mut level = &mut self.root;
        for name in filter.levels() {
            level = level.below.entry(name.into()).or_default();
        }
        level.here.insert(client, subscription);
    }

    /// Ends the subscription of `client` to `filter`.
    pub(super) fn remove(&mut self, filter: &Filter, client: ClientKey) {
        remove(&mut self.root, &mut filter.levels(), client);
    }

    /// Gives everybody who wants a message on `topic` to `deliver`, each once. MQTT-3.8.3-3: `publisher` gets it only
    /// through subscriptions that want what it published itself.
    pub(super) fn each_match(
        &self,
        topic: &str,
        publisher: Option<ClientKey>,
        mut deliver: impl FnMut(ClientKey, &Wish),
    ) {
        let mut levels = Vec::new();
        collect(&self.root, Some(topic), topic.starts_with('$'), &mut levels);
        let is_wanted = |client: ClientKey, subscription: &Subscription| {
            !(subscription.no_local && publisher == Some(client))
        };
        if let [level] = levels[..] {
            for (client, subscription) in &level.here {
                if is_wanted(*client, subscription) {
                    deliver(*client, &Wish::of(*subscription));
                }
            }
            return;
        }
        let matching = levels.iter().flat_map(|level| &level.here);
        let mut found: Vec<_> =
            matching.filter(|(client, subscription)| is_wanted(**client, subscription)).collect();
        found.sort_by_key(|(client, _)| **client);
        for of_client in found.chunk_by(|a, b| a.0 == b.0) {
            if let Some(wish) = Wish::of_all(of_client.iter().map(|(_, subscription)| *subscription)) {
                deliver(*of_client[0].0, &wish);
            }
        }
    }
}

/// Walks along `topic`, of which `rest` is yet to come, and collects where somebody is subscribed.
fn collect<'a>(level: &'a Level, rest: Option<&str>, internal: bool, found: &mut Vec<&'a Level>) {
    let mut add = |level: &'a Level| {
        if !level.here.is_empty() {
            found.push(level);
        }
    };
    if !internal && let Some(all) = level.below.get("#") {
        add(all);
    }
    let Some(rest) = rest else {
        return add(level);
    };
    let (name, rest) = match rest.split_once('/') {
        Some((name, rest)) => (name, Some(rest)),
        None => (rest, None),
    };
    if let Some(below) = level.below.get(name) {
        collect(below, rest, false, found);
    }
    // MQTT-4.7.2-1: no wildcard in the first place takes a topic of the broker itself.
    if !internal && let Some(below) = level.below.get("+") {
        collect(below, rest, false, found);
    }
}

/// Removes and prunes; says whether `level` is of no more use.
fn remove<'a>(level: &mut Level, names: &mut impl Iterator<Item = &'a str>, client: ClientKey) -> bool {
    match names.next() {
        None => {
            level.here.remove(&client);
        }
        Some(name) => {
            if level.below.get_mut(name).is_some_and(|below| remove(below, names, client)) {
                level.below.remove(name);
            }
        }
    }
    level.here.is_empty() && level.below.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Subscription =
        Subscription { grant: Grant::AtMostOnce, no_local: false, retain_as_published: false, id: None };

    fn tree(filters: &[(&str, u32, Subscription)]) -> Subscriptions {
        let mut tree = Subscriptions::default();
        for (filter, client, subscription) in filters {
            tree.insert(&Filter::parse(filter).unwrap(), ClientKey(*client), *subscription);
        }
        tree
    }

    fn matching(tree: &Subscriptions, topic: &str, publisher: Option<u32>) -> Vec<(u32, Wish)> {
        let mut found = Vec::new();
        tree.each_match(topic, publisher.map(ClientKey), |client, wish| found.push((client.0, wish.clone())));
        found.sort_by_key(|(client, _)| *client);
        found
    }

    #[test]
    fn agrees_with_the_filters_themselves() {
        let filters = ["a/#", "a/+/c", "#", "+/b", "a/b/c", "+", "a//c", "/+", "$SYS/#", "$SYS/+"];
        let all: Vec<_> = (0..).zip(filters).map(|(key, filter)| (filter, key, PLAIN)).collect();
        let tree = tree(&all);
        for topic in ["a", "a/b", "a/b/c", "x", "/", "/a", "a//c", "$SYS/up", "$SYS", "x/b"] {
            let found: Vec<u32> = matching(&tree, topic, None).into_iter().map(|(key, _)| key).collect();
            let expected: Vec<u32> =
                all.iter().filter(|f| Filter::parse(f.0).unwrap().takes(topic)).map(|f| f.1).collect();
            assert_eq!(found, expected, "{topic}");
        }
    }

    #[test]
    fn overlapping_filters_give_one_copy_with_all_that_they_ask_for() {
        let (seven, nine) = (NonZeroU32::new(7), NonZeroU32::new(9));
        let tree = tree(&[
            ("a/#", 1, Subscription { id: seven, ..PLAIN }),
            ("a/b", 1, Subscription { grant: Grant::AtLeastOnce, id: nine, ..PLAIN }),
            ("a/+", 1, Subscription { retain_as_published: true, ..PLAIN }),
        ]);
        let found = matching(&tree, "a/b", None);
        let [(1, wish)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((wish.grant, wish.retain_as_published), (Grant::AtLeastOnce, true));
        let SubscriptionIds::Many(ids) = &wish.ids else { panic!("{wish:?}") };
        assert_eq!(ids.iter().map(|id| id.get()).sum::<u32>(), 16);
    }

    #[test]
    fn who_wants_nothing_of_its_own_gets_nothing_of_its_own() {
        let no_local = Subscription { no_local: true, ..PLAIN };
        let tree = tree(&[("a/#", 1, no_local), ("a/b", 2, no_local), ("a/c", 1, PLAIN)]);
        let clients = |topic, publisher| {
            matching(&tree, topic, publisher).into_iter().map(|(client, _)| client).collect::<Vec<_>>()
        };
        assert_eq!(clients("a/b", Some(1)), [2]);
        assert_eq!(clients("a/b", Some(3)), [1, 2]);
        assert_eq!(clients("a/c", Some(1)), [1]);
        assert_eq!(clients("a/d", Some(1)), [0; 0]);
    }

    #[test]
    fn nothing_remains_of_removed_subscriptions() {
        let mut tree = tree(&[("a/b/c", 1, PLAIN), ("a/#", 2, PLAIN)]);
        tree.remove(&Filter::parse("a/b/c").unwrap(), ClientKey(1));
        tree.remove(&Filter::parse("never/there").unwrap(), ClientKey(1));
        assert_eq!(matching(&tree, "a/b/c", None), [(2, Wish::of(PLAIN))]);
        tree.remove(&Filter::parse("a/#").unwrap(), ClientKey(2));
        assert!(tree.root.below.is_empty());
    }
}
