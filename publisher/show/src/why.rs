//! `publisher why`: the chain of rules that a node goes through to a release, and which of them holds it back. Pure.

use std::collections::BTreeSet;

use rollout::{Belief, Fleet, Node, Ordered, course::explain};
use schemas::{
    id::{AppId, GroupId, NodeId},
    order::{Order, OrderState},
    reason::Reason,
    record::RecordStatus,
    report::{AppReport, Outcome, Verdict},
    rollout::CourseState,
    status::Phase,
    time::UnixTime,
    topic::Kind,
};
use serde::Serialize;

use super::{amount, clean, doing, rollout as rollouts, status::state_name};

/// Why a node has, or has not, what is ordered.
#[derive(Debug, Clone, Serialize)]
pub struct Why {
    /// When.
    pub at: String,
    /// The node.
    pub node: NodeId,
    /// The rules of the node itself.
    pub rules: Vec<Rule>,
    /// And those of each app.
    pub apps: Vec<AppWhy>,
}

/// The rules of one app.
#[derive(Debug, Clone, Serialize)]
pub struct AppWhy {
    /// The app.
    pub app: AppId,
    /// Whether it runs what is ordered.
    pub runs_it: bool,
    /// Its rules, in the order in which they are asked.
    pub rules: Vec<Rule>,
}

/// One rule, and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// What is asked.
    pub name: &'static str,
    /// Whether it holds the node back.
    pub holds: bool,
    /// The code of why.
    pub reason: Option<&'static str>,
    /// What is so.
    pub text: String,
    /// What people can do about it.
    pub advice: Option<&'static str>,
}

impl Rule {
    /// With what to do about it.
    fn advise(self, advice: &'static str) -> Self {
        Self { advice: Some(advice), ..self }
    }

    /// With a code, and what to do about it.
    fn because(self, reason: Option<Reason>) -> Self {
        Self { reason: reason.map(Reason::code), advice: reason.map(Reason::advice), ..self }
    }
}

fn rule(name: &'static str, text: impl Into<String>, holds: bool) -> Rule {
    Rule { name, holds, reason: None, text: text.into(), advice: None }
}

/// The rules of `name`, for `app` or all of its apps; nothing when nobody has heard of the node.
pub fn why(fleet: &Fleet, name: &NodeId, app: Option<&AppId>, now: UnixTime) -> Option<Why> {
    let node = fleet.nodes().get(name)?;
    let apps: BTreeSet<AppId> = match app {
        Some(app) => [app.clone()].into(),
        None => apps(fleet, node),
    };
    let apps = apps.into_iter().map(|app| app_why(fleet, (name, node), app, now)).collect();
    Some(Why { at: now.to_string(), node: name.clone(), rules: of_node(node, now), apps })
}

fn groups(node: &Node) -> BTreeSet<GroupId> {
    node.record().map(|record| record.groups.clone()).unwrap_or_default()
}

/// What is ordered for it, and what it has.
fn apps(fleet: &Fleet, node: &Node) -> BTreeSet<AppId> {
    let groups = groups(node);
    let ordered = fleet.orders().keys().filter(|(group, _)| groups.contains(group)).map(|(_, app)| app);
    let reported = node.report().into_iter().flat_map(|report| &report.apps).map(|app| &app.app);
    let wanted = fleet.rollouts().plans().values().filter_map(Belief::believed);
    let planned = wanted.map(|wanted| &wanted.plans.mandate);
    let planned = planned.filter(|mandate| mandate.groups.iter().any(|group| groups.contains(group)));
    ordered.chain(reported).chain(planned.map(|mandate| &mandate.app)).cloned().collect()
}

fn of_node(node: &Node, now: UnixTime) -> Vec<Rule> {
    let record = match (node.disbelief(), node.record()) {
        (Some(reason), _) => rule("record", format!("NOT BELIEVED: {}", clean(reason)), true),
        (None, None) => rule("record", "there is none: nobody has let it in", true)
            .advise("`publisher node approve` lets a node in that asks, `publisher node add` makes one"),
        (None, Some(record)) if record.status == RecordStatus::Revoked => {
            rule("record", "it is retired", true)
        }
        (None, Some(record)) => {
            let groups: Vec<_> = record.groups.iter().map(GroupId::as_str).collect();
            rule("record", format!("active, in {}", groups.join(", ")), groups.is_empty())
        }
    };
    let said = node.report().map_or("it has never reported".to_owned(), |report| {
        format!("last report {} ago", amount::age(now.0.saturating_sub(report.head.issued_at.0)))
    });
    let online = match node.online() {
        Some(true) => rule("online", format!("online, {said}"), node.report().is_none()),
        Some(false) => rule("online", format!("offline, {said}"), true)
            .advise("see that it has power and network; on the node, `pi-worker status` says how it is"),
        None => rule("online", "it was never there", true)
            .advise("start `pi-worker run` there, with the folder that `publisher node add` has made"),
    };
    vec![record, online]
}

fn app_why(fleet: &Fleet, (name, node): (&NodeId, &Node), app: AppId, now: UnixTime) -> AppWhy {
    let groups = groups(node);
    let orders: Vec<(&GroupId, &Belief<Ordered>)> = groups
        .iter()
        .filter_map(|group| Some((group, fleet.orders().get(&(group.clone(), app.clone()))?)))
        .collect();
    let applies = applying(&orders, name, now);
    let mut rules: Vec<Rule> =
        orders.iter().map(|(group, order)| order_rule(group, order, name, applies, now)).collect();
    if orders.is_empty() {
        let advice = "order it with `publisher announce` or `publisher rollout start`";
        rules.push(rule("order", "nothing is ordered for its groups", true).advise(advice));
    }
    rules.extend(of_rollout(fleet, name, &app, now));
    let report = node.app(&app);
    rules.extend(says(report, applies));
    rules.extend(refusals(fleet, node, &groups, &app, applies));
    let runs_it = applies.is_some_and(|ordered| {
        let installed = report.and_then(|report| report.installed.as_ref());
        installed.is_some_and(|installed| installed.release == ordered.announced.order.release)
    });
    if runs_it {
        rules.iter_mut().filter(|rule| rule.name != "health").for_each(|rule| rule.holds = false);
    }
    AppWhy { app, runs_it, rules }
}

/// The order that it obeys: of those that are for it now, the one with the highest revision.
fn applying<'a>(
    orders: &[(&GroupId, &'a Belief<Ordered>)],
    name: &NodeId,
    now: UnixTime,
) -> Option<&'a Ordered> {
    let believed = orders.iter().filter_map(|(_, order)| order.believed());
    let applying = believed.filter(|ordered| obstacle(&ordered.announced.order, name, now).is_none());
    applying.max_by_key(|ordered| ordered.announced.order.revision)
}

/// Why an order is nothing to a node now.
fn obstacle(order: &Order, name: &NodeId, now: UnixTime) -> Option<String> {
    if !order.audience.includes(name) {
        return Some("it is not for this node".to_owned());
    }
    if order.is_expired(now) {
        return Some("it is expired".to_owned());
    }
    if order.not_before > now {
        return Some(format!("its time comes {}", order.not_before));
    }
    match order.state {
        OrderState::Active => None,
        OrderState::Paused => Some("nothing new begins while it is paused".to_owned()),
        OrderState::Withdrawn { revert: false } => Some("it was withdrawn".to_owned()),
        OrderState::Withdrawn { revert: true } => Some("it was withdrawn: who has it goes back".to_owned()),
    }
}

fn order_rule(
    group: &GroupId,
    order: &Belief<Ordered>,
    name: &NodeId,
    applies: Option<&Ordered>,
    now: UnixTime,
) -> Rule {
    let ordered = match order {
        Belief::Believed(ordered) => ordered,
        Belief::NotBelieved(reason) => {
            return rule("order", format!("{group}: NOT BELIEVED: {}", clean(reason)), true);
        }
    };
    let (order, release) = (&ordered.announced.order, &ordered.announced.release);
    let by = if ordered.announced.mandate.is_some() { ", by the rollout" } else { "" };
    let text = format!(
        "{group}: {} (counter {}), revision {}, {}, for {}{by}, until {}",
        clean(&release.version),
        release.counter,
        order.revision,
        state_name(order.state),
        rollouts::audience(&order.audience),
        order.expires,
    );
    let (end, holds) = match (obstacle(order, name, now), applies) {
        (Some(obstacle), applies) => (obstacle, applies.is_none()),
        (None, Some(applies)) if applies.announced.order.revision > order.revision => {
            ("a newer order applies".to_owned(), false)
        }
        (None, _) => ("this one applies".to_owned(), false),
    };
    rule("order", format!("{text}; {end}"), holds)
}

fn of_rollout(fleet: &Fleet, name: &NodeId, app: &AppId, now: UnixTime) -> Vec<Rule> {
    let Some(wanted) = fleet.rollouts().plan(app) else { return Vec::new() };
    let carrier = rollouts::carrier(fleet, wanted, now);
    let carried = rule("controller", carrier.text(now), !carrier.works);
    let Some(conductor) = rollouts::conductor(fleet, wanted, now) else {
        let text = format!(
            "{} is planned, and no controller has taken note of it",
            clean(&wanted.plans.release.version)
        );
        return vec![carried, rule("rollout", text, true)];
    };
    let state = conductor.state();
    if *state == CourseState::Superseded {
        return Vec::new();
    }
    let mut rules = Vec::new();
    if !state.is_over() && !carrier.works {
        rules.push(carried);
    }
    let lines = explain(&conductor, name).into_iter();
    rules.extend(lines.map(|line| rule(line.rule, clean(&line.text), line.holds)));
    let of_node = rules.iter_mut().find(|rule| rule.name == "node");
    if let (Some(of_node), Some((_, state))) = (of_node, conductor.seat(name)) {
        of_node.reason = rollouts::reason(state).map(Reason::code);
        of_node.advice = rollouts::advice(state);
    }
    rules
}

/// What the node says itself.
fn says(report: Option<&AppReport>, applies: Option<&Ordered>) -> Vec<Rule> {
    let Some(report) = report else { return vec![rule("says", "nothing of this app", false)] };
    let runs = match &report.installed {
        Some(installed) => format!("runs {} (counter {})", clean(&installed.version), installed.counter),
        None => "runs nothing".to_owned(),
    };
    let mut rules = vec![match &report.target {
        Some(target) => {
            let is_waiting = report.phase == Phase::Deferred || !target.waits_for.is_empty();
            let held = (target.hold, target.until);
            let doing = doing(report.phase, target.progress_permille / 10, &target.waits_for, held);
            let (version, attempt) = (clean(&target.version), target.attempt);
            rule("says", format!("{version}: {doing}, attempt {attempt}; {runs}"), is_waiting)
        }
        None => rule("says", format!("{}; {runs}", report.phase.name().replace('_', " ")), false),
    }];
    if report.healthy == Some(false) {
        rules.push(rule("health", "what runs says that it is not well", true));
    }
    let release = applies.map(|ordered| ordered.announced.order.release);
    if let Some(last) = report.outcomes.last() {
        let holds = Some(last.release) == release && last.verdict != Verdict::Kept;
        rules.push(outcome(last, holds).because(last.reason));
    }
    rules
}

fn outcome(last: &Outcome, holds: bool) -> Rule {
    let why = last.reason.map(|reason| format!(": {reason}, {}", clean(&last.text))).unwrap_or_default();
    let verdict = last.verdict.name().replace('_', " ");
    rule("last", format!("{verdict} {} (revision {}){why}", clean(&last.version), last.revision), holds)
}

/// What it refused on the topics of its groups.
fn refusals(
    fleet: &Fleet,
    node: &Node,
    groups: &BTreeSet<GroupId>,
    app: &AppId,
    applies: Option<&Ordered>,
) -> Vec<Rule> {
    let topics: BTreeSet<String> = groups
        .iter()
        .map(|group| Kind::Release(group.clone(), app.clone()).of(fleet.trust().fleet()).to_string())
        .collect();
    let order = applies.map(|ordered| ordered.announced.order.digest());
    let refusals = node.report().into_iter().flat_map(|report| &report.refusals);
    let rules = refusals.filter(|refusal| topics.contains(&refusal.topic)).map(|refusal| {
        let text = format!("{}: {}, {} times", refusal.reason, clean(&refusal.text), refusal.times);
        let holds = refusal.order.is_some() && refusal.order == order;
        rule("refused", text, holds).because(Some(refusal.reason))
    });
    rules.collect()
}

/// The rules as people read them; what holds the node back has a mark.
pub fn text(why: &Why) -> String {
    let mut parts = vec![part(why.node.as_str(), &why.rules)];
    if why.apps.is_empty() {
        parts.push("no app is ordered for its groups, and it reports none".to_owned());
    }
    for app in &why.apps {
        let runs_it = if app.runs_it { ": it runs what is ordered" } else { "" };
        parts.push(part(&format!("{}{runs_it}", app.app), &app.rules));
    }
    parts.join("\n\n")
}

fn part(title: &str, rules: &[Rule]) -> String {
    let mut lines = vec![title.to_owned()];
    for rule in rules {
        let mark = if rule.holds { ">" } else { " " };
        lines.push(format!("  {mark} {:<10}  {}", rule.name, rule.text));
        if let Some(advice) = rule.advice.filter(|_| rule.holds) {
            lines.push(format!("    {:<10}  what to do: {advice}", ""));
        }
    }
    lines.join("\n")
}
