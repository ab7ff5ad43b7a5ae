//! `publisher status --json`: the same view for scripts. Every key is always there.

use rollout::{Belief, Fleet, Node, Ordered};
use schemas::{
    enroll::Request,
    hold::HoldCode,
    id::{AppId, Counter, Digest, GroupId, KeyId, NodeId, Revision},
    report::{AppReport, Installed, Refusal},
    time::UnixTime,
};
use serde::Serialize;

use super::{builds::built, state_name};

/// The whole view for `--json`.
#[derive(Debug, Serialize)]
pub struct StatusJson<'a> {
    at: String,
    nodes: Vec<NodeJson<'a>>,
    orders: Vec<OrderJson<'a>>,
    requests: Vec<RequestJson<'a>>,
}

#[derive(Debug, Serialize)]
struct RequestJson<'a> {
    node: &'a NodeId,
    key: KeyId,
    words: String,
    at: String,
}

#[derive(Debug, Serialize)]
struct NodeJson<'a> {
    node: &'a NodeId,
    online: bool,
    groups: Vec<&'a GroupId>,
    not_believed: Option<&'a str>,
    apps: Vec<AppJson<'a>>,
    refusals: Vec<RefusalJson<'a>>,
}

#[derive(Debug, Serialize)]
struct AppJson<'a> {
    app: &'a AppId,
    phase: &'static str,
    revision: Revision,
    installed: Option<InstalledJson<'a>>,
    previous: Option<InstalledJson<'a>>,
    target: Option<&'a str>,
    hold: Option<&'static str>,
    waits_for: &'a str,
    until: Option<String>,
    progress_ratio: f64,
    healthy: Option<bool>,
    last_verdict: Option<&'static str>,
    last_version: Option<&'a str>,
    last_reason: Option<&'static str>,
    last_text: &'a str,
    last_at: Option<String>,
    built: Option<BuiltJson<'a>>,
}

/// How the image of a container was built.
#[derive(Debug, Serialize)]
struct BuiltJson<'a> {
    version: &'a str,
    strategy: &'static str,
    why: &'a str,
    took_ms: u64,
    steps: u32,
    reused: u32,
    image_bytes: u64,
}

#[derive(Debug, Serialize)]
struct InstalledJson<'a> {
    release: Digest,
    version: &'a str,
    counter: Counter,
    commit: &'a str,
    tree_hash: Digest,
    group: &'a GroupId,
    since: String,
}

#[derive(Debug, Serialize)]
struct RefusalJson<'a> {
    topic: &'a str,
    reason: &'static str,
    text: &'a str,
    attack: bool,
    times: u32,
    at: String,
}

#[derive(Debug, Serialize)]
struct OrderJson<'a> {
    group: &'a GroupId,
    app: &'a AppId,
    not_believed: Option<&'a str>,
    version: Option<&'a str>,
    counter: Option<Counter>,
    revision: Option<Revision>,
    release: Option<Digest>,
    state: Option<&'static str>,
    issued_at: Option<String>,
    expires: Option<String>,
}

/// The whole view for `--json`.
pub fn json(fleet: &Fleet, now: UnixTime) -> StatusJson<'_> {
    let members = fleet.nodes().iter().filter(|(_, node)| !node.is_retired());
    StatusJson {
        at: now.to_string(),
        nodes: members.map(|(name, node)| node_json(name, node)).collect(),
        orders: fleet.orders().iter().map(|((group, app), order)| order_json(group, app, order)).collect(),
        requests: fleet.requests().values().map(|request| request_json(fleet, request)).collect(),
    }
}

fn request_json<'a>(fleet: &Fleet, request: &'a Request) -> RequestJson<'a> {
    let words = fleet.words(request);
    RequestJson { node: &request.node, key: request.key.id(), words, at: request.head.issued_at.to_string() }
}

fn node_json<'a>(name: &'a NodeId, node: &'a Node) -> NodeJson<'a> {
    NodeJson {
        node: name,
        online: node.online() == Some(true),
        groups: node.record().map(|record| record.groups.iter().collect()).unwrap_or_default(),
        not_believed: node.disbelief(),
        apps: node.report().map(|report| report.apps.iter().map(app_json).collect()).unwrap_or_default(),
        refusals: node
            .report()
            .map(|report| report.refusals.iter().map(refusal_json).collect())
            .unwrap_or_default(),
    }
}

fn app_json(app: &AppReport) -> AppJson<'_> {
    let last = app.outcomes.last();
    let target = app.target.as_ref();
    let progress = target.map_or(0, |target| target.progress_permille);
    AppJson {
        app: &app.app,
        phase: app.phase.name(),
        revision: app.revision,
        installed: app.installed.as_ref().map(installed_json),
        previous: app.previous.as_ref().map(installed_json),
        target: target.map(|target| target.version.as_str()),
        hold: target.and_then(|target| target.hold).map(HoldCode::name),
        waits_for: target.map(|target| target.waits_for.as_str()).unwrap_or_default(),
        until: target.and_then(|target| target.until).map(|time| time.to_string()),
        progress_ratio: f64::from(progress) / 1_000.0,
        healthy: app.healthy,
        last_verdict: last.map(|outcome| outcome.verdict.name()),
        last_version: last.map(|outcome| outcome.version.as_str()),
        last_reason: last.and_then(|outcome| outcome.reason).map(schemas::reason::Reason::code),
        last_text: last.map(|outcome| outcome.text.as_str()).unwrap_or_default(),
        last_at: last.map(|outcome| outcome.at.to_string()),
        built: built(app).map(|(outcome, built)| BuiltJson {
            version: &outcome.version,
            strategy: built.strategy.name(),
            why: &built.why,
            took_ms: built.took_ms,
            steps: built.steps,
            reused: built.reused,
            image_bytes: built.image_bytes,
        }),
    }
}

fn installed_json(installed: &Installed) -> InstalledJson<'_> {
    InstalledJson {
        release: installed.release,
        version: &installed.version,
        counter: installed.counter,
        commit: &installed.commit,
        tree_hash: installed.tree_hash,
        group: &installed.group,
        since: installed.since.to_string(),
    }
}

fn refusal_json(refusal: &Refusal) -> RefusalJson<'_> {
    RefusalJson {
        topic: &refusal.topic,
        reason: refusal.reason.code(),
        text: &refusal.text,
        attack: refusal.attack,
        times: refusal.times,
        at: refusal.at.to_string(),
    }
}

fn order_json<'a>(group: &'a GroupId, app: &'a AppId, order: &'a Belief<Ordered>) -> OrderJson<'a> {
    let announced = order.believed().map(|ordered| &ordered.announced);
    OrderJson {
        group,
        app,
        not_believed: match order {
            Belief::Believed(_) => None,
            Belief::NotBelieved(reason) => Some(reason),
        },
        version: announced.map(|announced| announced.release.version.as_str()),
        counter: announced.map(|announced| announced.release.counter),
        revision: announced.map(|announced| announced.order.revision),
        release: announced.map(|announced| announced.release.digest()),
        state: announced.map(|announced| state_name(announced.order.state)),
        issued_at: announced.map(|announced| announced.order.head.issued_at.to_string()),
        expires: announced.map(|announced| announced.order.expires.to_string()),
    }
}
