//! `publisher watch` on a terminal: rollouts with their waves, nodes, and what happened last, in as many lines as there are. Pure.

use rollout::{Fleet, Node};
use schemas::{
    id::{AppId, NodeId},
    report::AppReport,
    time::UnixTime,
};

use super::{
    clean,
    rollout::{self as rollouts, RolloutView},
    status, table,
};

/// So many lines at least for what happened last, where there is room for anything beside it.
const LEAST_EVENTS: usize = 3;
/// SGR codes (ECMA-48, 8.3.117): what needs a person, and titles.
const PERSON: u8 = 31;
const TITLE: u8 = 1;

/// How much there is to draw on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters of a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// What is to be shown.
#[derive(Debug, Clone, Copy)]
pub struct Board<'a> {
    /// What is believed.
    pub fleet: &'a Fleet,
    /// What happened, the newest last.
    pub events: &'a [String],
    /// Only this app.
    pub app: Option<&'a AppId>,
    /// The time.
    pub now: UnixTime,
    /// Whether colours are wanted.
    pub paints: bool,
}

/// How much a row has to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Person,
    OnTheWay,
    Calm,
}

impl Board<'_> {
    /// The lines: never more, and never longer, than `size` says.
    pub fn lines(&self, size: Size) -> Vec<String> {
        let mut lines = vec![self.head()];
        let rollouts = self.rollouts(size.rows / 2);
        let (nodes, asking) = (self.nodes(), self.asking());
        let room = size.rows.saturating_sub(lines.len() + rollouts.len() + asking.len() + 1);
        // What the nodes leave over; a few lines at least, of which one is blank and one the title.
        let events = room.saturating_sub(nodes.len() + 2).max(LEAST_EVENTS.min(room.saturating_sub(5)));
        let events = self.last(events);
        lines.extend(rollouts);
        lines.extend(asking);
        lines.push(String::new());
        lines.extend(within(nodes, room - events.len().min(room), "nodes"));
        lines.extend(events);
        lines.truncate(size.rows);
        lines.iter().map(|line| fit(line, size.columns)).collect()
    }

    fn head(&self) -> String {
        let members = || self.fleet.nodes().values().filter(|node| !node.is_retired());
        let online = members().filter(|node| node.online() == Some(true)).count();
        let (fleet, total) = (self.fleet.trust().fleet(), members().count());
        self.paint(TITLE, format!("{fleet}: {online} of {total} nodes online, {}", self.now))
    }

    /// Those that are on, each with its waves; who has too many waves shows those that are open.
    fn rollouts(&self, most: usize) -> Vec<String> {
        let views = rollouts::views(self.fleet, self.now).into_iter();
        let on = views.filter(|view| !matches!(view.state, "completed" | "aborted" | "superseded"));
        let wanted = on.filter(|view| self.app.is_none_or(|app| view.app == *app));
        let lines = wanted.flat_map(|view| self.rollout(&view)).collect();
        within(lines, most, "lines of rollouts")
    }

    fn rollout(&self, view: &RolloutView) -> Vec<String> {
        let why = if view.text.is_empty() { String::new() } else { format!(": {}", view.text) };
        let head = format!("{} {}: {}{why}", view.app, view.version, rollouts::state(view));
        let is_stopped = view.state == "paused";
        let mut lines = vec![String::new(), if is_stopped { self.paint(PERSON, head) } else { head }];
        if !view.advice.is_empty() {
            lines.push(format!("what to do: {}", view.advice));
        }
        lines.extend(view.waves.iter().map(|wave| rollouts::wave_line(view, wave, self.paints)));
        lines
    }

    /// A title and a row for each app of each node: first what needs a person, then what is on its way.
    fn nodes(&self) -> Vec<String> {
        let members = self.fleet.nodes().iter().filter(|(_, node)| !node.is_retired());
        let mut rows: Vec<(Rank, Vec<String>)> =
            members.flat_map(|(name, node)| self.rows(name, node)).collect();
        rows.sort_by_key(|(rank, _)| *rank);
        let (ranks, rows): (Vec<Rank>, Vec<Vec<String>>) = rows.into_iter().unzip();
        let header = ["NODE", "APP", "ONLINE", "VERSION", "PHASE", "HEALTH", "LAST VERDICT", "AGE"];
        let text = table(&header, &rows);
        let ranks = [Rank::Calm].into_iter().chain(ranks);
        let painted = text.lines().zip(ranks).map(|(line, rank)| match rank {
            Rank::Person => self.paint(PERSON, line.to_owned()),
            Rank::OnTheWay | Rank::Calm => line.to_owned(),
        });
        painted.collect()
    }

    fn rows(&self, name: &NodeId, node: &Node) -> Vec<(Rank, Vec<String>)> {
        let row = |app: &str, cells: [String; 5]| {
            let head = [name.to_string(), app.to_owned(), status::online(node).to_owned()];
            head.into_iter().chain(cells).collect::<Vec<_>>()
        };
        if let Some(reason) = node.disbelief() {
            let reason = format!("NOT BELIEVED: {}", clean(reason));
            return vec![(
                Rank::Person,
                row("-", ["-".into(), "-".into(), "-".into(), reason, String::new()]),
            )];
        }
        let apps = node.report().map(|report| report.apps.as_slice()).unwrap_or_default();
        let wanted = apps.iter().filter(|app| self.app.is_none_or(|wanted| app.app == *wanted));
        let rows: Vec<_> =
            wanted.map(|app| (rank(app), row(app.app.as_str(), status::app_cells(app, self.now)))).collect();
        if rows.is_empty() && self.app.is_none() {
            return vec![(Rank::Calm, row("-", ["-", "-", "-", "-", ""].map(str::to_owned)))];
        }
        rows
    }

    fn asking(&self) -> Vec<String> {
        let requests = self.fleet.requests().values().take(LEAST_EVENTS);
        let line = |request: &schemas::enroll::Request| {
            format!("{} asks to be let in and says: {}", request.node, self.fleet.words(request))
        };
        let lines = requests.map(|request| self.paint(PERSON, line(request)));
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() { lines } else { [vec![String::new()], lines].concat() }
    }

    /// What happened last, below a blank line and a title, in so many lines.
    fn last(&self, most: usize) -> Vec<String> {
        let newest = self.events.len().saturating_sub(most.saturating_sub(2));
        if self.events.is_empty() || most < LEAST_EVENTS {
            return Vec::new();
        }
        let title = ["", "LAST"].map(str::to_owned).into_iter();
        title.chain(self.events[newest..].iter().cloned()).collect()
    }

    fn paint(&self, code: u8, text: String) -> String {
        if self.paints { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
    }
}

fn rank(app: &AppReport) -> Rank {
    if app.healthy == Some(false) || app.outcomes.last().is_some_and(|last| last.reason.is_some()) {
        Rank::Person
    } else if app.target.is_some() {
        Rank::OnTheWay
    } else {
        Rank::Calm
    }
}

/// So many of the lines; the last one says how many are missing.
fn within(mut lines: Vec<String>, most: usize, what: &str) -> Vec<String> {
    if lines.len() > most {
        let shown = most.saturating_sub(1);
        let missing = lines.len() - shown;
        lines.truncate(shown);
        if most > 0 {
            lines.push(format!("and {missing} more {what}"));
        }
    }
    lines
}

/// As much of a line as fits; colours have no width.
fn fit(line: &str, columns: usize) -> String {
    let (mut fitted, mut left, mut rest) = (String::with_capacity(line.len()), columns, line);
    let mut is_painted = false;
    while let Some(c) = rest.chars().next() {
        let colour = rest.strip_prefix("\x1b[").and_then(|code| code.find('m')).map(|end| &rest[..end + 3]);
        if let Some(colour) = colour {
            fitted.push_str(colour);
            is_painted = colour != "\x1b[0m";
            rest = &rest[colour.len()..];
            continue;
        }
        if left == 0 {
            break;
        }
        fitted.push(c);
        left -= 1;
        rest = &rest[c.len_utf8()..];
    }
    if is_painted && !rest.is_empty() {
        fitted.push_str("\x1b[0m");
    }
    fitted
}

#[cfg(test)]
mod tests {
    use ::rollout::samples::{NOW, Sample, ended, outcome, working};
    use schemas::{
        reason::Reason,
        report::{Outcome, Verdict},
        status::Phase,
        topic::NodeTopic,
    };

    use super::*;

    fn fleet() -> Fleet {
        let sample = Sample::new();
        let failed = Outcome { reason: Some(Reason::Unhealthy), ..outcome(50, Verdict::RolledBack) };
        let mut fleet = sample.fleet(&[
            ("pi-attic", Some(ended(outcome(50, Verdict::Kept)))),
            ("pi-barn", Some(working(50, Phase::Fetching, 410))),
            ("pi-hall", Some(ended(failed))),
            ("pi-roof", None),
        ]);
        fleet.take(&sample.topic("pi-roof", NodeTopic::Availability), b"offline");
        fleet
    }

    fn board(fleet: &Fleet, events: &[String], size: (usize, usize), paints: bool) -> String {
        let board = Board { fleet, events, app: None, now: NOW.plus_secs(90), paints };
        board.lines(Size { columns: size.0, rows: size.1 }).join("\n")
    }

    fn events() -> Vec<String> {
        (1..=9).map(|n| format!("2026-11-21T05:47:0{n}Z pi-barn web 1.1.0: fetching, {n}0 %")).collect()
    }

    #[test]
    fn what_needs_a_person_comes_first_and_what_happened_last_below() {
        insta::assert_snapshot!(board(&fleet(), &events(), (100, 16), false));
    }

    #[test]
    fn a_small_terminal_shows_what_fits_and_says_how_much_more_there_is() {
        let drawn = [(60, 10), (40, 6), (20, 3), (0, 1)]
            .map(|size| format!("{size:?}\n{}", board(&fleet(), &events(), size, false)));
        insta::assert_snapshot!(drawn.join("\n\n"));
    }

    #[test]
    fn no_size_is_too_small_and_nothing_is_longer_than_it() {
        let (fleet, events) = (fleet(), events());
        for rows in 0..30 {
            for columns in [0, 1, 7, 80] {
                let board = Board { fleet: &fleet, events: &events, app: None, now: NOW, paints: true };
                let lines = board.lines(Size { columns, rows });
                assert!(lines.len() <= rows);
                for line in lines {
                    let plain = line.split("\x1b[").map(|part| {
                        part.split_once('m').map_or(part, |(code, text)| {
                            if code.bytes().all(|b| b.is_ascii_digit()) { text } else { part }
                        })
                    });
                    assert!(
                        plain.collect::<String>().chars().count() <= columns,
                        "{rows} {columns} {line:?}"
                    );
                    let last_code = line.rfind("\x1b[").map(|at| &line[at..]);
                    assert!(last_code.is_none_or(|code| code.starts_with("\x1b[0m")), "{line:?}");
                }
            }
        }
    }
}
