//! Topic names and topic filters of foreign clients: what is well-formed, and which filter takes which topic.
//!
//! The project's own topics are [`schemas::topic`]; a relay carries any well-formed one.

use std::{fmt, sync::Arc};

/// Longest topic or filter; far above our own (at most 8 levels of 63 bytes), far below MQTT's 65,535.
const MAX_BYTES: usize = 1024;
/// Most levels of a topic or filter: bounds the depth of the filter tree.
const MAX_LEVELS: usize = 32;

/// A topic or a filter that MQTT 3.1.1 (4.7) or our limits do not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// MQTT-4.7.3-1.
    #[error("topic is empty")]
    Empty,
    /// MQTT-4.7.3-2.
    #[error("topic contains a null character")]
    Null,
    /// MQTT-3.3.2-2: a published topic has no wildcards; MQTT-4.7.1-1, -2: in a filter they stand alone.
    #[error("topic has a misplaced wildcard")]
    Wildcard,
    /// Beyond our limits.
    #[error("topic is longer than {MAX_BYTES} bytes or {MAX_LEVELS} levels")]
    TooLong,
}

/// A topic that a message is published to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicName(Arc<str>);

/// What a subscription asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Filter(Arc<str>);

impl TopicName {
    /// Checks `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidTopic> {
        check(text)?;
        if text.contains(['+', '#']) {
            return Err(InvalidTopic::Wildcard);
        }
        Ok(Self(text.into()))
    }

    /// The topic as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the topic is the broker's own: `$SYS/…`.
    pub(crate) fn is_internal(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl Filter {
    /// Checks `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidTopic> {
        check(text)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            let stands_alone = match level {
                "#" => levels.peek().is_none(),
                "+" => true,
                literal => !literal.contains(['+', '#']),
            };
            if !stands_alone {
                return Err(InvalidTopic::Wildcard);
            }
        }
        Ok(Self(text.into()))
    }

    /// The filter as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels of the filter.
    pub(crate) fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The text that every matching topic starts with; the whole filter when it has no wildcard.
    pub(crate) fn literal_prefix(&self) -> &str {
        let end = self.0.find(['+', '#']).unwrap_or(self.0.len());
        // `a/#` takes `a` too (MQTT 5, 4.7.1.2), so the separator before `#` is not part of what all share.
        if self.0[end..].starts_with('#') { self.0[..end].trim_end_matches('/') } else { &self.0[..end] }
    }

    /// Whether the filter is of a shared subscription (MQTT 5, 4.8.2).
    pub(crate) fn is_shared(&self) -> bool {
        self.0.starts_with("$share/")
    }

    /// Whether the filter has a wildcard.
    pub(crate) fn is_wild(&self) -> bool {
        self.0.contains(['+', '#'])
    }

    /// Whether a message on `topic` is for this filter.
    pub(crate) fn takes(&self, topic: &str) -> bool {
        // MQTT-4.7.2-1: a wildcard in the first place does not take topics of the broker itself.
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut topic = topic.split('/');
        for level in self.levels() {
            match (level, topic.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (literal, Some(found)) if literal == found => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}

impl Filter {
    /// Whether everything that `target` takes, a topic or a filter, is taken by this filter too.
    pub(crate) fn covers(&self, target: &str) -> bool {
        if target.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut target = target.split('/');
        for level in self.levels() {
            match (level, target.next()) {
                ("#", _) => return true,
                (_, None | Some("#")) => return false,
                ("+", Some(_)) => {}
                (literal, Some(found)) if literal == found => {}
                _ => return false,
            }
        }
        target.next().is_none()
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn check(text: &str) -> Result<(), InvalidTopic> {
    if text.is_empty() {
        Err(InvalidTopic::Empty)
    } else if text.len() > MAX_BYTES || text.split('/').count() > MAX_LEVELS {
        Err(InvalidTopic::TooLong)
    } else if text.contains('\0') {
        Err(InvalidTopic::Null)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_no_wildcards_no_null_and_an_end() {
        for good in ["a", "/", "a//b", "ärger/x", "a b"] {
            assert!(TopicName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a/+/b", "a/#", "a\0b", &"x".repeat(1025), &"/".repeat(32)] {
            assert!(TopicName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wildcards_of_a_filter_stand_alone() {
        for good in ["#", "+", "a/#", "+/+", "/+", "a/+/b"] {
            assert!(Filter::parse(good).is_ok(), "{good}");
        }
        for bad in ["a#", "a/#/b", "a+", "+a/b", "##"] {
            assert_eq!(Filter::parse(bad), Err(InvalidTopic::Wildcard), "{bad}");
        }
    }

    #[test]
    fn filters_take_what_the_standard_says() {
        let takes = |filter: &str, topic: &str| Filter::parse(filter).unwrap().takes(topic);
        for (filter, topic) in
            [("a/#", "a"), ("a/#", "a/b/c"), ("#", "a"), ("+/+", "/a"), ("/+", "/a"), ("a/+", "a/")]
        {
            assert!(takes(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [("a/+", "a"), ("+", "/a"), ("#", "$SYS/x"), ("+/x", "$SYS/x"), ("a", "a/b")] {
            assert!(!takes(filter, topic), "{filter} {topic}");
        }
        assert!(takes("$SYS/#", "$SYS/x"));
    }

    #[test]
    fn a_filter_covers_what_takes_nothing_beyond_it() {
        let covers = |filter: &str, target: &str| Filter::parse(filter).unwrap().covers(target);
        for (filter, target) in
            [("a/#", "a"), ("a/#", "a/#"), ("a/#", "a/+/b"), ("a/+", "a/+"), ("#", "+/b"), ("a/b", "a/b")]
        {
            assert!(covers(filter, target), "{filter} {target}");
        }
        for (filter, target) in [
            ("a/+", "a/#"),
            ("a/+", "a"),
            ("a/b", "a/+"),
            ("+/b", "#"),
            ("a/#", "#"),
            ("#", "$SYS/x"),
            ("+/#", "$SYS/#"),
        ] {
            assert!(!covers(filter, target), "{filter} {target}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_topic_of_a_covered_filter_is_outside(
            filter in "[ab+]?(/[ab+]){0,3}(/#)?", target in "[ab+]?(/[ab+]){0,3}(/#)?", topic in "[ab$]?(/[ab]){0,3}",
        ) {
            let (Ok(filter), Ok(target)) = (Filter::parse(&filter), Filter::parse(&target)) else { return Ok(()) };
            if filter.covers(target.as_str()) && target.takes(&topic) {
                proptest::prop_assert!(filter.takes(&topic), "{filter} {target} {topic}");
            }
        }
    }

    #[test]
    fn the_literal_prefix_is_shared_by_all_matching_topics() {
        for (filter, prefix) in [("a/b/+/c", "a/b/"), ("a/#", "a"), ("#", ""), ("a/b", "a/b")] {
            assert_eq!(Filter::parse(filter).unwrap().literal_prefix(), prefix);
        }
    }
}
