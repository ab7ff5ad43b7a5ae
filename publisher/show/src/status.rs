//! `publisher status`: nodes and apps, the orders of each group, and what was refused.

mod builds;
mod json;

use jiff::tz::TimeZone;
use rollout::{Belief, Fleet, Node, Ordered};
use schemas::{
    enroll::Request,
    id::{AppId, GroupId, NodeId},
    order::OrderState,
    report::{AppReport, Refusal},
    time::UnixTime,
};

pub use self::json::json;
use super::{amount, clean, phase_name, table, until};

/// What is to be done about what is not believed.
const DISBELIEF: &str = "\
what is NOT BELIEVED is not signed by keys of this fleet. After a new `publisher init` that is what the fleet before has left: an
order goes when the group is given another, a node is made anew with `publisher node add NAME --force` and an empty data folder.
Otherwise somebody forges: see who logs in with `publisher user list`";

/// The whole view as text.
pub fn text(fleet: &Fleet, now: UnixTime) -> String {
    let mut parts = Vec::new();
    let members = || fleet.nodes().iter().filter(|(_, node)| !node.is_retired());
    if members().next().is_none() {
        parts.push("no nodes yet: add one with `publisher node add NAME --group canary`".to_owned());
    } else {
        let header = ["NODE", "APP", "ONLINE", "VERSION", "PHASE", "HEALTH", "LAST VERDICT", "AGE"];
        let rows: Vec<_> = members().flat_map(|(name, node)| node_rows(name, node, now)).collect();
        parts.push(table(&header, &rows));
    }
    parts.extend(builds::text(fleet, members()));
    if !fleet.requests().is_empty() {
        let rows: Vec<_> =
            fleet.requests().values().map(|request| request_row(fleet, request, now)).collect();
        parts.push(table(&["ASKS TO BE LET IN", "SAYS", "KEY", "AGE"], &rows));
        parts.push(
            "compare what it says with what the node shows, then `publisher node approve NAME --group GROUP`"
                .to_owned(),
        );
    }
    if !fleet.orders().is_empty() {
        let rows: Vec<_> = fleet.orders().iter().map(|(topic, order)| order_row(topic, order, now)).collect();
        parts.push(table(&["GROUP", "APP", "ORDERED", "STATE", "AGE"], &rows));
    }
    let is_doubtful = |belief: &Belief<Ordered>| belief.believed().is_none();
    if members().any(|(_, node)| node.disbelief().is_some()) || fleet.orders().values().any(is_doubtful) {
        parts.push(DISBELIEF.to_owned());
    }
    let refusals: Vec<_> =
        fleet.nodes().iter().flat_map(|(name, node)| refusal_rows(name, node, now)).collect();
    if !refusals.is_empty() {
        parts.push(table(&["NODE", "REFUSED", "WHY", "TIMES", "AGE"], &refusals));
    }
    parts.join("\n\n")
}

fn node_rows(name: &NodeId, node: &Node, now: UnixTime) -> Vec<Vec<String>> {
    let row = |app: &str, cells: [String; 5]| {
        let mut row = vec![name.to_string(), app.to_owned(), online(node).to_owned()];
        row.extend(cells);
        row
    };
    if let Some(reason) = node.disbelief() {
        let reason = format!("NOT BELIEVED: {}", clean(reason));
        return vec![row("-", ["-".into(), "-".into(), "-".into(), reason, String::new()])];
    }
    let apps = node.report().map(|report| report.apps.as_slice()).unwrap_or_default();
    if apps.is_empty() {
        return vec![row("-", ["-", "-", "-", "-", ""].map(str::to_owned))];
    }
    apps.iter().map(|app| row(app.app.as_str(), app_cells(app, now))).collect()
}

/// Whether it is there, in words.
pub fn online(node: &Node) -> &'static str {
    match node.online() {
        Some(true) => "online",
        Some(false) => "offline",
        None => "never seen",
    }
}

fn request_row(fleet: &Fleet, request: &Request, now: UnixTime) -> Vec<String> {
    let (words, key) = (fleet.words(request), request.key.id().to_string());
    vec![request.node.to_string(), words, key, age(request.head.issued_at, now)]
}

/// What a node says of an app: version, phase, health, last verdict and how long ago that was.
pub fn app_cells(app: &AppReport, now: UnixTime) -> [String; 5] {
    let version = app.installed.as_ref().map_or("-".to_owned(), |installed| clean(&installed.version));
    let phase = match &app.target {
        Some(target) => {
            let until = until((target.hold, target.until), &TimeZone::system());
            format!("{} {}{until}", phase_name(app.phase, target.hold), clean(&target.version))
        }
        None => phase_name(app.phase, None),
    };
    let health = match app.healthy {
        Some(true) => "healthy",
        Some(false) => "UNHEALTHY",
        None => "-",
    };
    let (last, age) = match app.outcomes.last() {
        Some(outcome) => {
            let why = outcome.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let verdict = outcome.verdict.name().replace('_', " ");
            (format!("{verdict} {}{why}", clean(&outcome.version)), age(outcome.at, now))
        }
        None => ("-".to_owned(), String::new()),
    };
    [version, phase, health.to_owned(), last, age]
}

fn order_row((group, app): &(GroupId, AppId), order: &Belief<Ordered>, now: UnixTime) -> Vec<String> {
    let (version, state, age) = match order {
        Belief::Believed(Ordered { announced, .. }) => {
            let is_expired = announced.order.is_expired(now);
            let state = if is_expired { "expired" } else { state_name(announced.order.state) };
            (clean(&announced.release.version), state.to_owned(), age(announced.order.head.issued_at, now))
        }
        Belief::NotBelieved(reason) => {
            ("-".to_owned(), format!("NOT BELIEVED: {}", clean(reason)), String::new())
        }
    };
    vec![group.to_string(), app.to_string(), version, state, age]
}

fn refusal_rows(name: &NodeId, node: &Node, now: UnixTime) -> Vec<Vec<String>> {
    let row = |refusal: &Refusal| {
        let mark = if refusal.attack { " (attack?)" } else { "" };
        let why = format!("{}{mark}", refusal.reason);
        vec![name.to_string(), clean(&refusal.topic), why, refusal.times.to_string(), age(refusal.at, now)]
    };
    node.report().map(|report| report.refusals.iter().map(row).collect()).unwrap_or_default()
}

fn age(at: UnixTime, now: UnixTime) -> String {
    amount::age(now.0.saturating_sub(at.0))
}

/// The state of an order in one word.
pub(super) fn state_name(state: OrderState) -> &'static str {
    match state {
        OrderState::Active => "active",
        OrderState::Paused => "paused",
        OrderState::Withdrawn { .. } => "withdrawn",
    }
}

#[cfg(test)]
mod tests {
    use schemas::{
        build::{Built, Strategy},
        reason::Reason,
        report::{Outcome, Verdict},
        status::Phase,
        topic::{Kind, NodeTopic},
    };

    use super::*;
    use ::rollout::samples::{NOW, Sample, ended, outcome, working};

    #[test]
    fn shows_how_images_were_built_and_which_commit_runs() {
        let sample = Sample::new();
        let built = Built {
            strategy: Strategy::Incremental,
            why: "app.py changed".into(),
            took_ms: 2_100,
            steps: 7,
            reused: 4,
            image_bytes: 192_000_000,
        };
        let kept = Outcome { built: Some(Box::new(built)), ..outcome(50, Verdict::Kept) };
        let fleet = sample.fleet(&[("pi-kitchen", Some(ended(kept)))]);
        insta::assert_snapshot!(text(&fleet, NOW.plus_secs(90)));
    }

    fn story() -> Fleet {
        let sample = Sample::new();
        let failed = Outcome { reason: Some(Reason::StaleCode), ..outcome(50, Verdict::RolledBack) };
        let mut fleet = sample.fleet(&[
            ("pi-kitchen", Some(ended(outcome(50, Verdict::Kept)))),
            ("pi-barn", Some(ended(failed))),
            ("pi-hall", Some(working(50, Phase::Trial, 1_000))),
            ("pi-roof", None),
        ]);
        fleet.take(&sample.topic("pi-barn", NodeTopic::Availability), b"offline");
        fleet.take(&sample.topic("pi-evil", NodeTopic::Report), b"rubbish");
        for (group, sample) in [("canary", &sample), ("kitchen", &Sample::of("stranger"))] {
            let kind = Kind::Release(group.parse().unwrap(), "web".parse().unwrap());
            fleet.take(&kind.of(sample.trust.fleet()), &sample.announcement(50, 9, "1.1.0").to_bytes());
        }
        fleet
    }

    #[test]
    fn shows_nodes_orders_and_what_is_not_believed() {
        insta::assert_snapshot!(text(&story(), NOW.plus_secs(90)));
    }

    #[test]
    fn says_how_to_begin_when_there_is_nothing() {
        insta::assert_snapshot!(text(&Sample::new().empty_fleet(), NOW));
    }

    #[test]
    fn the_json_has_the_same() {
        let fleet = story();
        insta::assert_json_snapshot!(json(&fleet, NOW));
    }
}
