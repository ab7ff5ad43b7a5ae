//! `publisher watch`: a line for each thing that changes. Pure: the fleet before and after in, lines out.

use std::collections::BTreeMap;

use rollout::{Belief, Change, Fleet, Node, Ordered};
use schemas::{
    enroll::Request,
    id::{AppId, NodeId},
    report::{AppReport, Refusal},
    rollout::WaveState,
};
use serde::Serialize;

use super::{amount, clean, doing};

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// To which node.
    pub node: Option<NodeId>,
    /// To which app.
    pub app: Option<AppId>,
    /// What.
    pub text: String,
}

impl Line {
    /// The line as people read it, without the time.
    pub fn plain(&self) -> String {
        let node = self.node.iter().map(NodeId::as_str);
        let words = node.chain(self.app.iter().map(AppId::as_str)).chain([self.text.as_str()]);
        words.collect::<Vec<_>>().join(" ")
    }
}

/// What was shown last of each node and app, so that nothing is shown twice.
#[derive(Debug, Default)]
pub struct Watcher {
    availability: BTreeMap<NodeId, Option<bool>>,
    disbelief: BTreeMap<NodeId, String>,
    apps: BTreeMap<(NodeId, AppId), Vec<String>>,
    refusals: BTreeMap<NodeId, Vec<Refusal>>,
    orders: BTreeMap<(schemas::id::GroupId, AppId), String>,
    courses: BTreeMap<AppId, String>,
}

impl Watcher {
    /// A watcher that takes `fleet` as known.
    pub fn of(fleet: &Fleet) -> Self {
        let mut watcher = Self::default();
        let orders = fleet.orders().keys().map(|(group, app)| Change::Order(group.clone(), app.clone()));
        let nodes = fleet.nodes().keys().map(|name| Change::Report(name.clone()));
        let courses = fleet.rollouts().plans().keys().map(|app| Change::Course(app.clone()));
        for change in orders.chain(nodes).chain(courses) {
            watcher.lines(fleet, &change);
        }
        watcher
    }

    /// The lines for a change that was just taken into `fleet`.
    pub fn lines(&mut self, fleet: &Fleet, change: &Change) -> Vec<Line> {
        match change {
            Change::Order(group, app) => {
                let key = (group.clone(), app.clone());
                let text = order_text(fleet.orders().get(&key), group.as_str());
                let is_new = self.orders.insert(key, text.clone()).as_ref() != Some(&text);
                let line = Line { node: None, app: Some(app.clone()), text };
                is_new.then_some(line).into_iter().collect()
            }
            Change::Request(key) => {
                let request = fleet.requests().get(key);
                request.map(|request| request_line(fleet, request)).into_iter().collect()
            }
            // A course is believed by its plan, whichever comes first.
            Change::Plan(app) | Change::Course(app) => self.course_line(fleet, app).into_iter().collect(),
            Change::Controller(_) => Vec::new(),
            Change::Record(name) | Change::Report(name) | Change::Availability(name) => {
                fleet.nodes().get(name).map(|node| self.node_lines(name, node)).unwrap_or_default()
            }
        }
    }

    fn course_line(&mut self, fleet: &Fleet, app: &AppId) -> Option<Line> {
        let text = course_text(fleet, app)?;
        let is_new = self.courses.insert(app.clone(), text.clone()).as_ref() != Some(&text);
        is_new.then_some(Line { node: None, app: Some(app.clone()), text })
    }

    fn node_lines(&mut self, name: &NodeId, node: &Node) -> Vec<Line> {
        let line =
            |app: Option<&AppId>, text: String| Line { node: Some(name.clone()), app: app.cloned(), text };
        let mut lines = Vec::new();
        let before = self.availability.insert(name.clone(), node.online());
        if let Some(online) = node.online().filter(|online| before.flatten() != Some(*online)) {
            lines.push(line(None, if online { "is online" } else { "is offline" }.to_owned()));
        }
        let disbelief = node.disbelief().unwrap_or_default().to_owned();
        let before = self.disbelief.insert(name.clone(), disbelief.clone()).unwrap_or_default();
        if !disbelief.is_empty() && disbelief != before {
            lines.push(line(None, format!("is NOT BELIEVED: {}", clean(&disbelief))));
        }
        let Some(report) = node.report() else { return lines };
        for app in &report.apps {
            let now = app_texts(app);
            let before = self.apps.insert((name.clone(), app.app.clone()), now.clone()).unwrap_or_default();
            let new = now.into_iter().filter(|text| !before.contains(text));
            lines.extend(new.map(|text| line(Some(&app.app), text)));
        }
        let before = self.refusals.insert(name.clone(), report.refusals.clone()).unwrap_or_default();
        let new = report.refusals.iter().filter(|refusal| !before.contains(refusal));
        lines.extend(new.map(|refusal| line(None, refusal_text(refusal))));
        lines
    }
}

fn request_line(fleet: &Fleet, request: &Request) -> Line {
    let words = fleet.words(request);
    let text = format!("asks to be let in and says: {words}");
    Line { node: Some(request.node.clone()), app: None, text }
}

/// How the rollout of an app stands: its state, and its newest wave.
fn course_text(fleet: &Fleet, app: &AppId) -> Option<String> {
    let (wanted, course) = (fleet.rollouts().plan(app)?, fleet.rollouts().course(app)?);
    let (version, state) = (clean(&wanted.plans.release.version), course.state.name().replace('_', " "));
    let why = course.state.cause().map(|cause| format!(": {}", clean(&cause.text))).unwrap_or_default();
    let newest = course.waves.iter().rposition(|wave| wave.state != WaveState::Closed);
    let wave = newest.map(|at| {
        format!(", wave {} of {} is {}", at + 1, course.waves.len(), course.waves[at].state.name())
    });
    Some(format!("rollout of {version} is {state}{}{why}", wave.unwrap_or_default()))
}

fn order_text(order: Option<&Belief<Ordered>>, group: &str) -> String {
    match order {
        Some(Belief::Believed(ordered)) => {
            let (order, release) = (&ordered.announced.order, &ordered.announced.release);
            format!("{} is ordered for {group}, revision {}", clean(&release.version), order.revision)
        }
        Some(Belief::NotBelieved(reason)) => format!("order for {group} is NOT BELIEVED: {}", clean(reason)),
        None => format!("order for {group} was cleared"),
    }
}

/// Everything worth a line about an app, each as a text of its own.
fn app_texts(app: &AppReport) -> Vec<String> {
    let mut texts = Vec::new();
    if let Some(target) = &app.target {
        let tens = target.progress_permille / 100 * 10;
        let does = doing(app.phase, tens, &target.waits_for, (target.hold, target.until));
        texts.push(format!("{}: {does}", clean(&target.version)));
    }
    if let Some(outcome) = app.outcomes.last() {
        let verdict = outcome.verdict.name().replace('_', " ");
        let why =
            outcome.reason.map(|reason| format!(": {reason}, {}", clean(&outcome.text))).unwrap_or_default();
        let (version, after) = (clean(&outcome.version), amount::duration(outcome.took_ms));
        texts.push(format!("{verdict} {version} after {after} (revision {}){why}", outcome.revision));
    }
    if let (Some(healthy), Some(installed)) = (app.healthy, &app.installed) {
        let word = if healthy { "healthy" } else { "UNHEALTHY" };
        texts.push(format!("{} is {word}", clean(&installed.version)));
    }
    texts
}

fn refusal_text(refusal: &Refusal) -> String {
    let mark = if refusal.attack { " (attack?)" } else { "" };
    format!("refused what came on {}: {}{mark}", clean(&refusal.topic), refusal.reason)
}

#[cfg(test)]
mod tests {
    use schemas::{
        report::Verdict,
        status::Phase,
        topic::{Kind, NodeTopic},
    };

    use super::*;
    use ::rollout::samples::{Sample, ended, node, outcome, working};

    #[test]
    fn tells_each_change_once() {
        let sample = Sample::new();
        let mut fleet = sample.fleet(&[("pi-1", None)]);
        let (mut watcher, mut told) = (Watcher::default(), Vec::new());
        let mut tell = |fleet: &Fleet, change: &Change| {
            told.extend(watcher.lines(fleet, change).iter().map(Line::plain));
        };
        let report = Change::Report(node("pi-1"));
        tell(&fleet, &report);
        let kind = Kind::Release("canary".parse().unwrap(), "web".parse().unwrap());
        let announcement = sample.announcement(50, 9, "1.1.0").to_bytes();
        for _ in 0..2 {
            let change = fleet.take(&kind.clone().of(sample.trust.fleet()), &announcement).unwrap();
            tell(&fleet, &change);
        }
        let steps = [
            working(50, Phase::Fetching, 412),
            working(50, Phase::Fetching, 430),
            working(50, Phase::Trial, 1_000),
            ended(outcome(50, Verdict::Kept)),
            ended(outcome(50, Verdict::Kept)),
        ];
        for (seq, step) in (2..).zip(steps) {
            sample.says(&mut fleet, "pi-1", seq, Some(step));
            tell(&fleet, &report);
        }
        fleet.take(&sample.topic("pi-1", NodeTopic::Availability), b"offline");
        tell(&fleet, &Change::Availability(node("pi-1")));
        insta::assert_snapshot!(told.join("\n"));
    }
}
