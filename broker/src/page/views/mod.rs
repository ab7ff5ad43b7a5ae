//! What is on each page: texts that are ready to be shown, in the words of the crate `show`. The templates escape them.

mod log;
mod node;
mod overview;
mod rollout;

use askama::{Template, filters::HtmlSafe};
use schemas::{id::FleetId, time::UnixTime};
use show::{
    amount,
    rollout::{Counts, WaveView, times},
};

pub(super) use self::{
    log::{LogPage, Wanted},
    node::{Beside, NodePage, asks},
    overview::{Find, Overview},
    rollout::RolloutPage,
};
use super::visit::{Visit, encoded};

/// What is around every page.
#[derive(Debug)]
pub(super) struct Frame {
    fleet: String,
    title: String,
    user: Option<String>,
    /// What forms have in them.
    form: String,
    /// The way back after a log-in.
    path: String,
    at: String,
}

impl Frame {
    /// The frame of a page for that visitor.
    pub(super) fn new(fleet: &FleetId, visit: &Visit, title: &str, now: UnixTime) -> Self {
        Self {
            fleet: fleet.to_string(),
            title: title.to_owned(),
            user: visit.name().map(show::clean),
            form: visit.form.clone(),
            path: encoded(&visit.path),
            at: now.to_string(),
        }
    }
}

/// A sentence in which commands stand in backticks.
#[derive(Debug, Clone, Template)]
#[template(
    source = "{% for piece in pieces %}{% if piece.0 %}<code>{{ piece.1 }}</code>{% else %}{{ piece.1 }}{% endif %}{% endfor %}",
    ext = "html"
)]
pub(super) struct Advice {
    pieces: Vec<(bool, String)>,
}

/// Its template escapes what is in it.
impl HtmlSafe for Advice {}

impl Advice {
    /// Nothing when there is nothing to do.
    fn new(text: &str) -> Option<Self> {
        let pieces = text.split('`').enumerate().map(|(at, piece)| (at % 2 == 1, piece.to_owned()));
        (!text.is_empty()).then(|| Self { pieces: pieces.filter(|(_, piece)| !piece.is_empty()).collect() })
    }
}

/// A wave of a rollout, as `bar.html` draws it.
#[derive(Debug)]
struct Wave {
    number: usize,
    group: String,
    state: &'static str,
    times: String,
    parts: Vec<Part>,
    counts: String,
}

impl Wave {
    fn new(wave: &WaveView, now: UnixTime) -> Self {
        Self {
            number: wave.number,
            group: wave.group.as_ref().map(ToString::to_string).unwrap_or_default(),
            state: wave.state,
            times: times(wave, now),
            parts: parts(&wave.counts),
            counts: wave.counts.text(),
        }
    }
}

/// A part of a bar, in percent of it.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    name: &'static str,
    from: String,
    width: String,
}

/// How many nodes of a wave are how far, as a bar in the order of the command line's.
fn parts(counts: &Counts) -> Vec<Part> {
    let parts = [
        (counts.good, "good"),
        (counts.failed, "failed"),
        (counts.on_the_way, "on-the-way"),
        (counts.away, "away"),
        (counts.waiting, "waiting"),
    ];
    let total: usize = parts.iter().map(|(count, _)| count).sum();
    let percent = |count: usize| count as f64 * 100.0 / total.max(1) as f64;
    let mut before = 0;
    let mut drawn = Vec::new();
    for (count, name) in parts.into_iter().filter(|(count, _)| *count > 0) {
        let (from, width) = (format!("{:.2}", percent(before)), format!("{:.2}", percent(count)));
        drawn.push(Part { name, from, width });
        before += count;
    }
    drawn
}

/// How long ago that was.
fn age(at: UnixTime, now: UnixTime) -> String {
    amount::age(now.0.saturating_sub(at.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_an_advice_are_code_and_everything_in_it_is_escaped() {
        let advice = Advice::new("mend <it>; or `publisher rollout resume <b>`, or abort").unwrap();
        assert_eq!(
            advice.to_string(),
            "mend &#60;it&#62;; or <code>publisher rollout resume &#60;b&#62;</code>, or abort"
        );
        assert!(Advice::new("").is_none());
    }

    #[test]
    fn a_bar_is_full_and_has_a_part_for_whoever_is_there() {
        let counts = Counts { good: 1, failed: 1, waiting: 2, skipped: 9, ..Counts::default() };
        let drawn: Vec<_> =
            parts(&counts).into_iter().map(|part| (part.name, part.from, part.width)).collect();
        let expected =
            [("good", "0.00", "25.00"), ("failed", "25.00", "25.00"), ("waiting", "50.00", "50.00")];
        assert_eq!(drawn, expected.map(|(name, from, width)| (name, from.to_owned(), width.to_owned())));
        assert!(parts(&Counts::default()).is_empty());
    }
}
