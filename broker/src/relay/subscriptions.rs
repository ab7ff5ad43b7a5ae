//! Who wants which topics: a tree of the filters' levels.

use std::collections::BTreeMap;

use super::{message::Grant, registry::ClientKey, topic::Filter};

/// All subscriptions of all sessions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    root: Level,
}

#[derive(Debug, Default)]
struct Level {
    below: BTreeMap<Box<str>, Level>,
    here: BTreeMap<ClientKey, Grant>,
}

impl Subscriptions {
    /// Adds or replaces the subscription of `client` to `filter`.
    pub(super) fn insert(&mut self, filter: &Filter, client: ClientKey, grant: Grant) {
        let mut level = &mut self.root;
        for name in filter.levels() {
            level = level.below.entry(name.into()).or_default();
        }
        level.here.insert(client, grant);
    }

    /// Ends the subscription of `client` to `filter`.
    pub(super) fn remove(&mut self, filter: &Filter, client: ClientKey) {
        remove(&mut self.root, &mut filter.levels(), client);
    }

    /// Everybody who wants `topic`, each once, with the highest grant of all matching filters.
    pub(super) fn matching(&self, topic: &str) -> Vec<(ClientKey, Grant)> {
        let mut found = Vec::new();
        let mut hits = 0;
        collect(&self.root, Some(topic), topic.starts_with('$'), &mut found, &mut hits);
        if hits > 1 {
            found.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            found.dedup_by_key(|(client, _)| *client);
        }
        found
    }
}

/// Walks along `topic`, of which `rest` is yet to come; `hits` counts the filters that had subscribers.
fn collect(
    level: &Level,
    rest: Option<&str>,
    internal: bool,
    found: &mut Vec<(ClientKey, Grant)>,
    hits: &mut u32,
) {
    let mut add = |level: &Level| {
        *hits += u32::from(!level.here.is_empty());
        found.extend(level.here.iter().map(|(client, grant)| (*client, *grant)));
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
        collect(below, rest, false, found, hits);
    }
    // MQTT-4.7.2-1: no wildcard in the first place takes a topic of the broker itself.
    if !internal && let Some(below) = level.below.get("+") {
        collect(below, rest, false, found, hits);
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

    fn tree(filters: &[(&str, u32, Grant)]) -> Subscriptions {
        let mut tree = Subscriptions::default();
        for (filter, client, grant) in filters {
            tree.insert(&Filter::parse(filter).unwrap(), ClientKey(*client), *grant);
        }
        tree
    }

    #[test]
    fn agrees_with_the_filters_themselves() {
        let filters = ["a/#", "a/+/c", "#", "+/b", "a/b/c", "+", "a//c", "/+", "$SYS/#", "$SYS/+"];
        let all: Vec<_> = (0..).zip(filters).map(|(key, filter)| (filter, key, Grant::AtMostOnce)).collect();
        let tree = tree(&all);
        for topic in ["a", "a/b", "a/b/c", "x", "/", "/a", "a//c", "$SYS/up", "$SYS", "x/b"] {
            let mut found: Vec<u32> = tree.matching(topic).into_iter().map(|(key, _)| key.0).collect();
            found.sort_unstable();
            let expected: Vec<u32> =
                all.iter().filter(|f| Filter::parse(f.0).unwrap().takes(topic)).map(|f| f.1).collect();
            assert_eq!(found, expected, "{topic}");
        }
    }

    #[test]
    fn overlapping_filters_give_one_copy_at_the_highest_grant() {
        let tree = tree(&[("a/#", 1, Grant::AtMostOnce), ("a/b", 1, Grant::AtLeastOnce)]);
        assert_eq!(tree.matching("a/b"), [(ClientKey(1), Grant::AtLeastOnce)]);
    }

    #[test]
    fn nothing_remains_of_removed_subscriptions() {
        let mut tree = tree(&[("a/b/c", 1, Grant::AtMostOnce), ("a/#", 2, Grant::AtMostOnce)]);
        tree.remove(&Filter::parse("a/b/c").unwrap(), ClientKey(1));
        tree.remove(&Filter::parse("never/there").unwrap(), ClientKey(1));
        assert_eq!(tree.matching("a/b/c"), [(ClientKey(2), Grant::AtMostOnce)]);
        tree.remove(&Filter::parse("a/#").unwrap(), ClientKey(2));
        assert!(tree.root.below.is_empty());
    }
}
