//! A node: what it is, what it runs and could go back to, how its last orders ended, and why it has what it has.

use askama::Template;
use rollout::{Fleet, Node};
use schemas::{
    deploy_log::Chained,
    hold::{Ask, AskKind, HoldCode},
    id::NodeId,
    reason::Reason,
    report::{AppReport, Installed, Outcome, Refusal},
    status::{Health, Info},
    time::UnixTime,
};
use show::{amount, clean, status, why};

use super::{Advice, Frame, age, log::Entries};
use crate::page::lookout::{Picture, Told};

/// A fact about a node, with its name.
type Fact = (&'static str, String);

#[derive(Debug, Template)]
#[template(path = "node.html")]
pub(in crate::page) struct NodePage {
    frame: Frame,
    name: String,
    online: &'static str,
    seen: String,
    not_believed: Option<String>,
    facts: Vec<Fact>,
    /// What it says in plain JSON.
    told: Vec<Fact>,
    rules: Vec<Rule>,
    apps: Vec<App>,
    refusals: Vec<RefusalRow>,
    log: Option<Entries>,
}

#[derive(Debug)]
struct Rule {
    name: &'static str,
    text: String,
    holds: bool,
    advice: Option<Advice>,
}

#[derive(Debug)]
struct App {
    name: String,
    runs_it: bool,
    slots: Vec<SlotRow>,
    rules: Vec<Rule>,
    outcomes: Vec<OutcomeRow>,
    /// What the node may be asked for here.
    may_install: bool,
    /// Where that is done otherwise.
    command: Option<Fact>,
}

#[derive(Debug)]
struct SlotRow {
    what: &'static str,
    version: String,
    counter: String,
    tree_hash: String,
    commit: String,
    group: String,
    since: String,
}

#[derive(Debug)]
struct OutcomeRow {
    version: String,
    verdict: String,
    revision: String,
    took: String,
    fetched: String,
    age: String,
    went_wrong: bool,
    why: String,
    advice: Option<Advice>,
    log_tail: Vec<String>,
}

#[derive(Debug)]
struct RefusalRow {
    topic: String,
    why: String,
    text: String,
    times: u32,
    age: String,
}

/// What the page needs to know beside the picture.
#[derive(Debug)]
pub(in crate::page) struct Beside {
    /// When the broker has seen it last.
    pub(in crate::page) seen: Option<UnixTime>,
    /// The newest entries of the log about it.
    pub(in crate::page) log: Vec<Chained>,
    /// Who looks may ask it, and it would hear that.
    pub(in crate::page) may_ask: bool,
}

impl NodePage {
    /// Nothing when nobody has heard of the node.
    pub(in crate::page) fn new(
        frame: Frame,
        picture: &Picture,
        name: &NodeId,
        beside: &Beside,
        now: UnixTime,
    ) -> Option<Self> {
        let fleet = &picture.fleet;
        let node = fleet.nodes().get(name)?;
        let why = why::why(fleet, name, None, now)?;
        let apps = why.apps.iter().map(|of| app(fleet, (name, node), of, beside.may_ask, now)).collect();
        let is_away = node.online() != Some(true);
        let seen = beside.seen.filter(|_| is_away).map(|at| format!("for {}", age(at, now)));
        let refusals = node.report().map(|report| report.refusals.as_slice()).unwrap_or_default();
        Some(Self {
            frame,
            name: name.to_string(),
            online: status::online(node),
            seen: seen.unwrap_or_default(),
            not_believed: node.disbelief().map(clean),
            facts: facts(node, now),
            told: picture.told.get(name).map(|told| of_told(told, now)).unwrap_or_default(),
            rules: why.rules.iter().map(rule).collect(),
            apps,
            refusals: refusals.iter().rev().map(|refusal| refusal_row(refusal, now)).collect(),
            log: Entries::of(&beside.log),
        })
    }
}

/// What an app may be asked for now, by everybody who may ask.
pub(in crate::page) fn asks(app: &AppReport) -> Option<Ask> {
    let target = app.target.as_ref()?;
    (target.hold == Some(HoldCode::Consent)).then(|| Ask::new(AskKind::Install, app.app.clone()))
}

fn facts(node: &Node, now: UnixTime) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(record) = node.record() {
        let groups: Vec<_> = record.groups.iter().map(ToString::to_string).collect();
        facts.push(("groups", groups.join(", ")));
        let labels: Vec<_> =
            record.labels.iter().map(|(key, value)| clean(&format!("{key}={value}"))).collect();
        facts.push(("labels", labels.join(", ")));
    }
    if let Some(report) = node.report() {
        facts.push(("last report", format!("{} ago", age(report.head.issued_at, now))));
        facts.push(("root", format!("version {}", report.root_version)));
        facts.push(("clock", if report.clock_unset { "was never set" } else { "" }.to_owned()));
    }
    facts.retain(|(_, text)| !text.is_empty());
    facts
}

fn of_told(told: &Told, now: UnixTime) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(Info { kind, model, serial, via, agent, .. }) = &told.info {
        let named =
            [("kind", kind), ("model", model), ("serial", serial), ("through", via), ("worker", agent)];
        let said = named.into_iter().filter(|(_, text)| !text.is_empty() && *text != "unknown");
        facts.extend(said.map(|(name, text)| (name, clean(text))));
    }
    if let Some(Health {
        ok,
        reason,
        uptime_s,
        disk_free_bytes,
        temperature_c,
        engine_used_bytes,
        engine_free_bytes,
        memory_free_bytes,
        at,
        ..
    }) = &told.health
    {
        let health = if *ok { "well".to_owned() } else { clean(reason) };
        facts.push(("health", health));
        facts.push(("free on the disk", amount::bytes(*disk_free_bytes)));
        facts.extend(engine_used_bytes.map(|used| ("images", amount::bytes(used))));
        facts.extend(engine_free_bytes.map(|free| ("free for images", amount::bytes(free))));
        facts.push(("free memory", amount::bytes(*memory_free_bytes)));
        facts.extend(temperature_c.map(|degrees| ("temperature", format!("{degrees:.1} °C"))));
        facts.push(("up for", amount::age(*uptime_s)));
        let at = serde_json::to_value(at).ok().and_then(|at| at.as_str()?.parse().ok());
        facts.extend(at.map(|at| ("said", format!("{} ago", age(at, now)))));
    }
    facts
}

fn rule(rule: &why::Rule) -> Rule {
    let advice = rule.advice.filter(|_| rule.holds).and_then(Advice::new);
    Rule { name: rule.name, text: rule.text.clone(), holds: rule.holds, advice }
}

fn app(
    fleet: &Fleet,
    (name, node): (&NodeId, &Node),
    why: &why::AppWhy,
    may_ask: bool,
    now: UnixTime,
) -> App {
    let report = node.app(&why.app);
    let course = fleet.rollouts().course(&why.app);
    let has_rollout = course.is_some_and(|course| !course.state.is_over());
    let ask = report.and_then(asks).filter(|_| node.online() == Some(true));
    let outcomes = report.map(|report| report.outcomes.as_slice()).unwrap_or_default();
    let slots = report.map(|report| [("current", &report.installed), ("before it", &report.previous)]);
    App {
        name: why.app.to_string(),
        runs_it: why.runs_it,
        slots: slots.into_iter().flatten().filter_map(|(what, of)| Some(slot(what, of.as_ref()?))).collect(),
        rules: why.rules.iter().map(rule).collect(),
        outcomes: outcomes.iter().rev().map(|of| outcome(of, now)).collect(),
        may_install: ask.is_some() && may_ask,
        command: match ask {
            Some(_) if may_ask => None,
            Some(_) => {
                let command = format!("publisher request {name} install --app {}", why.app);
                Some(("to install the release that waits here", command))
            }
            None => report.and_then(|report| going_back(report, has_rollout)),
        },
    }
}

/// What takes the ops key: all that are in the group go back. A rollout that is on has its own page for that.
fn going_back(report: &AppReport, has_rollout: bool) -> Option<Fact> {
    let installed = report.installed.as_ref().filter(|_| report.previous.is_some() && !has_rollout)?;
    let command = format!("publisher rollback --group {} --app {}", installed.group, report.app);
    Some(("to order the release before it for the whole group", command))
}

fn slot(what: &'static str, installed: &Installed) -> SlotRow {
    SlotRow {
        what,
        version: clean(&installed.version),
        counter: installed.counter.to_string(),
        tree_hash: installed.tree_hash.short(),
        commit: clean(&installed.commit).chars().take(12).collect(),
        group: installed.group.to_string(),
        since: installed.since.to_string(),
    }
}

fn outcome(outcome: &Outcome, now: UnixTime) -> OutcomeRow {
    let why = outcome.reason.map(|reason| format!("{reason}, {}", clean(&outcome.text)));
    OutcomeRow {
        version: clean(&outcome.version),
        verdict: outcome.verdict.name().replace('_', " "),
        revision: outcome.revision.to_string(),
        took: amount::duration(outcome.took_ms),
        fetched: amount::bytes(outcome.fetched_bytes),
        age: age(outcome.at, now),
        went_wrong: outcome.reason.is_some(),
        why: why.unwrap_or_default(),
        advice: outcome.reason.map(Reason::advice).and_then(Advice::new),
        log_tail: outcome.log_tail.iter().map(|line| clean(line)).collect(),
    }
}

fn refusal_row(refusal: &Refusal, now: UnixTime) -> RefusalRow {
    let mark = if refusal.attack { " (attack?)" } else { "" };
    RefusalRow {
        topic: clean(&refusal.topic),
        why: format!("{}{mark}", refusal.reason),
        text: clean(&refusal.text),
        times: refusal.times,
        age: age(refusal.at, now),
    }
}
