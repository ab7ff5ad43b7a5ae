//! The first page: what needs a person, rollouts, and all nodes, Picos under the Pi that they are plugged into.

use std::collections::BTreeMap;

use askama::Template;
use rollout::Node;
use schemas::{
    hold::HoldCode,
    id::NodeId,
    report::{AppReport, Verdict},
    time::UnixTime,
};
use serde::Deserialize;
use show::{clean, rollout as rollouts, rollout::RolloutView, status};

use super::{Advice, Frame, Wave, age};
use crate::page::lookout::{Picture, Told};

/// More nodes than that are found by name: a page with all of a large fleet is of no use.
const MAX_NODES: usize = 500;
/// So much that needs a person is more than one person reads.
const MAX_MATTERS: usize = 50;
/// A text that is looked for.
const MAX_FIND_CHARS: usize = 100;

/// Which nodes are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::page) struct Find {
    find: String,
}

#[derive(Debug, Template)]
#[template(path = "overview.html")]
pub(in crate::page) struct Overview {
    frame: Frame,
    matters: Vec<Matter>,
    more_matters: usize,
    rollouts: Vec<RolloutCard>,
    find: String,
    nodes: Vec<NodeRow>,
    total: usize,
    more_nodes: usize,
    asking: Vec<Asking>,
}

/// Something that a person should look at.
#[derive(Debug, Clone)]
struct Matter {
    /// The page with more of it.
    link: String,
    name: String,
    text: String,
    advice: Option<Advice>,
}

#[derive(Debug)]
struct RolloutCard {
    app: String,
    version: String,
    state: String,
    since: String,
    waves: String,
    bars: Vec<Wave>,
}

#[derive(Debug)]
struct NodeRow {
    name: String,
    /// It is reached through the one above.
    is_child: bool,
    what: String,
    groups: String,
    online: &'static str,
    seen: String,
    is_away: bool,
    not_believed: Option<String>,
    apps: Vec<AppRow>,
}

#[derive(Debug)]
struct AppRow {
    app: String,
    version: String,
    phase: String,
    health: String,
    is_unwell: bool,
    last: String,
    went_wrong: bool,
    age: String,
}

/// A node that asks to be let in.
#[derive(Debug)]
struct Asking {
    node: String,
    words: String,
    age: String,
    command: String,
}

impl Overview {
    pub(in crate::page) fn new(
        frame: Frame,
        picture: &Picture,
        seen: &BTreeMap<String, UnixTime>,
        find: &Find,
        now: UnixTime,
    ) -> Self {
        let fleet = &picture.fleet;
        let views = rollouts::views(fleet, now);
        let mut matters: Vec<Matter> = views.iter().filter_map(of_rollout).collect();
        matters.extend(fleet.nodes().iter().filter(|(_, node)| !node.is_retired()).flat_map(of_node));
        let more_matters = matters.len().saturating_sub(MAX_MATTERS);
        matters.truncate(MAX_MATTERS);
        let find: String = find.find.trim().chars().take(MAX_FIND_CHARS).collect();
        let mut order = in_order(picture);
        let total = order.len();
        if !find.is_empty() {
            order.retain(|(name, _)| is_found(&fleet.nodes()[*name], name, &find));
        }
        let more_nodes = order.len().saturating_sub(MAX_NODES);
        order.truncate(MAX_NODES);
        let row = |(name, is_child): &(&NodeId, bool)| {
            let told = picture.told.get(*name);
            let child = *is_child && find.is_empty();
            node_row(name, (&fleet.nodes()[*name], told), child, seen.get(name.as_str()).copied(), now)
        };
        Self {
            frame,
            matters,
            more_matters,
            rollouts: views.iter().map(|view| card(view, now)).collect(),
            nodes: order.iter().map(row).collect(),
            find,
            total,
            more_nodes,
            asking: asking(picture, now),
        }
    }
}

/// Nodes by name, each followed by those that are reached through it.
fn in_order(picture: &Picture) -> Vec<(&NodeId, bool)> {
    let nodes = picture.fleet.nodes();
    let members = || nodes.iter().filter(|(_, node)| !node.is_retired()).map(|(name, _)| name);
    let via = |name: &NodeId| {
        let via: NodeId = picture.told.get(name)?.info.as_ref()?.via.parse().ok()?;
        (via != *name && nodes.get(&via).is_some_and(|node| !node.is_retired())).then_some(via)
    };
    let mut children: BTreeMap<NodeId, Vec<&NodeId>> = BTreeMap::new();
    for name in members() {
        if let Some(via) = via(name) {
            children.entry(via).or_default().push(name);
        }
    }
    // One level: a bridge is a Pi. Whoever says to be behind somebody who is behind somebody stands alone.
    let is_child = |name: &NodeId| via(name).is_some_and(|over| via(&over).is_none());
    let mut order = Vec::with_capacity(nodes.len());
    for name in members().filter(|name| !is_child(name)) {
        order.push((name, false));
        let below = children.get(name).into_iter().flatten().copied();
        order.extend(below.filter(|child| is_child(child)).map(|child| (child, true)));
    }
    order
}

fn is_found(node: &Node, name: &NodeId, find: &str) -> bool {
    let groups = node.record().map(|record| &record.groups);
    name.as_str().contains(find)
        || groups.is_some_and(|groups| groups.iter().any(|group| group.as_str() == find))
}

fn node_row(
    name: &NodeId,
    (node, told): (&Node, Option<&Told>),
    is_child: bool,
    seen: Option<UnixTime>,
    now: UnixTime,
) -> NodeRow {
    let info = told.and_then(|told| told.info.as_ref());
    let groups =
        node.record().map(|record| record.groups.iter().map(ToString::to_string).collect::<Vec<_>>());
    let apps = node.report().map(|report| report.apps.as_slice()).unwrap_or_default();
    let online = node.online() == Some(true);
    NodeRow {
        name: name.to_string(),
        is_child,
        what: info.filter(|info| info.model != "unknown").map(|info| clean(&info.model)).unwrap_or_default(),
        groups: groups.unwrap_or_default().join(", "),
        online: status::online(node),
        seen: seen.filter(|_| !online).map(|at| format!("for {}", age(at, now))).unwrap_or_default(),
        is_away: !online,
        not_believed: node.disbelief().map(|reason| format!("NOT BELIEVED: {}", clean(reason))),
        apps: apps.iter().map(|app| app_row(app, now)).collect(),
    }
}

fn app_row(app: &AppReport, now: UnixTime) -> AppRow {
    let [version, phase, health, last, age] = status::app_cells(app, now);
    let (is_unwell, went_wrong) = (app.healthy == Some(false), went_wrong(app));
    AppRow { app: app.app.to_string(), version, phase, health, is_unwell, last, went_wrong, age }
}

/// Whether the last order ended otherwise than somebody wanted.
fn went_wrong(app: &AppReport) -> bool {
    app.outcomes
        .last()
        .is_some_and(|last| matches!(last.verdict, Verdict::RolledBack | Verdict::Failed | Verdict::Refused))
}

fn of_rollout(view: &RolloutView) -> Option<Matter> {
    let is_over = is_over(view);
    let waits = matches!(view.state, "paused" | "awaiting_approval") || !(is_over || view.controller.works);
    (waits && !view.advice.is_empty()).then(|| Matter {
        link: format!("/rollout/{}", view.app),
        name: format!("rollout of {} {}", view.app, view.version),
        text: [rollouts::state(view), view.text.clone()]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join(": "),
        advice: Advice::new(&view.advice),
    })
}

fn of_node((name, node): (&NodeId, &Node)) -> Vec<Matter> {
    let matter = |text: String, advice: &str| Matter {
        link: format!("/node/{name}"),
        name: name.to_string(),
        text,
        advice: Advice::new(advice),
    };
    let mut matters = Vec::new();
    if let Some(reason) = node.disbelief() {
        matters.push(matter(format!("NOT BELIEVED: {}", clean(reason)), ""));
    }
    let Some(report) = node.report() else { return matters };
    for app in &report.apps {
        if app.healthy == Some(false) {
            matters.push(matter(format!("{} is UNHEALTHY", app.app), ""));
        }
        if let Some(last) = app.outcomes.last().filter(|_| went_wrong(app)) {
            let why =
                last.reason.map(|reason| format!(": {reason}, {}", clean(&last.text))).unwrap_or_default();
            let (verdict, version) = (last.verdict.name().replace('_', " "), clean(&last.version));
            let advice = last.reason.map(schemas::reason::Reason::advice).unwrap_or_default();
            matters.push(matter(format!("{} {version} {verdict}{why}", app.app), advice));
        }
        if let Some(target) = app.target.as_ref().filter(|target| target.hold == Some(HoldCode::Consent)) {
            let advice = format!("`publisher request {name} install --app {}`", app.app);
            matters.push(matter(
                format!("{} {} waits for somebody to ask for it", app.app, clean(&target.version)),
                &advice,
            ));
        }
    }
    if let Some(refusal) = report.refusals.iter().rfind(|refusal| refusal.attack) {
        let text = format!("refused what came on {}: {} (attack?)", clean(&refusal.topic), refusal.reason);
        matters.push(matter(text, refusal.reason.advice()));
    }
    matters
}

pub(super) fn is_over(view: &RolloutView) -> bool {
    matches!(view.state, "completed" | "aborted" | "superseded")
}

fn card(view: &RolloutView, now: UnixTime) -> RolloutCard {
    RolloutCard {
        app: view.app.to_string(),
        version: view.version.clone(),
        state: rollouts::state(view),
        since: view.since.map(|since| format!("for {}", age(since, now))).unwrap_or_default(),
        waves: format!("{} of {} waves passed", view.waves_passed, view.waves_total),
        bars: view.waves.iter().filter(|_| !is_over(view)).map(|wave| Wave::new(wave, now)).collect(),
    }
}

fn asking(picture: &Picture, now: UnixTime) -> Vec<Asking> {
    let fleet = &picture.fleet;
    let requests = fleet.requests().iter().filter(|(key, _)| picture.asking.contains(key));
    requests
        .map(|(_, request)| request)
        .take(MAX_MATTERS)
        .map(|request| Asking {
            node: request.node.to_string(),
            words: fleet.words(request),
            age: age(request.head.issued_at, now),
            command: format!("publisher node approve {} --group GROUP", request.node),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use askama::Template as _;
    use rollout::samples::{NOW, Sample, ended, outcome};
    use schemas::{
        reason::Reason,
        report::Outcome,
        status::{Info, Timestamp},
    };

    use super::*;

    fn picture(names: &[String], via: &[(&str, &str)]) -> Picture {
        let sample = Sample::new();
        let kept = ended(outcome(50, Verdict::Kept));
        let nodes: Vec<_> = names.iter().map(|name| (name.as_str(), Some(kept.clone()))).collect();
        let info = |(name, via): &(&str, &str)| {
            let info = Info {
                node: name.parse().unwrap(),
                kind: "pico".into(),
                model: "Raspberry Pi Pico".into(),
                serial: "unknown".into(),
                via: (*via).to_owned(),
                groups: Vec::new(),
                agent: String::new(),
                at: Timestamp::never(),
            };
            (name.parse().unwrap(), Told { info: Some(info), health: None })
        };
        let told = via.iter().map(info).collect();
        Picture { fleet: sample.fleet(&nodes), told, asking: BTreeSet::new() }
    }

    fn page(picture: &Picture, find: &str) -> Overview {
        let frame = Frame {
            fleet: "home".into(),
            title: "Fleet".into(),
            user: None,
            form: String::new(),
            path: "/".into(),
            at: NOW.to_string(),
        };
        Overview::new(frame, picture, &BTreeMap::new(), &Find { find: find.to_owned() }, NOW.plus_secs(90))
    }

    fn names(picture: &Picture, find: &str) -> Vec<String> {
        let mark = |node: &NodeRow| format!("{}{}", if node.is_child { "- " } else { "" }, node.name);
        page(picture, find).nodes.iter().map(mark).collect()
    }

    #[test]
    fn picos_come_below_their_pi_whatever_they_say_of_each_other() {
        let all = ["a-pi", "b-pico", "c-pico", "d-loop", "e-loop", "f-self", "g-lost"].map(str::to_owned);
        let via = [
            ("b-pico", "a-pi"),
            ("c-pico", "a-pi"),
            ("d-loop", "e-loop"),
            ("e-loop", "d-loop"),
            ("f-self", "f-self"),
            ("g-lost", "nobody"),
        ];
        let picture = picture(&all, &via);
        let expected = ["a-pi", "- b-pico", "- c-pico", "d-loop", "e-loop", "f-self", "g-lost"];
        assert_eq!(names(&picture, ""), expected);
        assert_eq!(names(&picture, "pico"), ["b-pico", "c-pico"]);
        assert_eq!(names(&picture, "canary").len(), all.len());
        assert!(names(&picture, "nothing").is_empty());
    }

    #[test]
    fn a_large_fleet_is_shown_in_part_and_found_by_name() {
        let all: Vec<String> = (0..MAX_NODES + 20).map(|n| format!("pi-{n:04}")).collect();
        let picture = picture(&all, &[]);
        let shown = page(&picture, "");
        assert_eq!((shown.nodes.len(), shown.more_nodes, shown.total), (MAX_NODES, 20, MAX_NODES + 20));
        assert!(shown.render().unwrap().contains("and 20 more: find them by name or group"));
        assert_eq!(names(&picture, "pi-0519"), ["pi-0519"]);
    }

    #[test]
    fn what_went_wrong_needs_a_person_and_says_what_to_do() {
        let sample = Sample::new();
        let failed = Outcome {
            reason: Some(Reason::Unhealthy),
            text: "it answered 500".into(),
            ..outcome(50, Verdict::RolledBack)
        };
        let fleet =
            sample.fleet(&[("pi-1", Some(ended(failed))), ("pi-2", Some(ended(outcome(50, Verdict::Kept))))]);
        let shown = page(&Picture { fleet, told: BTreeMap::new(), asking: BTreeSet::new() }, "");
        let matters: Vec<_> = shown.matters.iter().map(|of| (of.name.as_str(), of.text.as_str())).collect();
        assert_eq!(matters, [("pi-1", "web 1.1.0 rolled back: unhealthy, it answered 500")]);
        assert!(shown.matters[0].advice.is_some());
    }
}
