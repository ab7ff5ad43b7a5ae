//! The JSON topics of a node, computed from what its machines report and what its hardware says.
//!
//! Pure; the payloads and their rules are those of [`schemas::status`].

use std::collections::BTreeSet;

use machine::Latest;
use schemas::{
    hold::HoldCode,
    id::{AppId, GroupId, NodeId},
    reason::Reason,
    report::{AppReport, Verdict},
    status::{self, EventType, Timestamp, error_text},
    time::UnixTime,
    topic::{Kind, Topic},
};

use crate::{
    facts::{Facts, Hardware},
    installer::About,
};

/// Longest text that Home Assistant takes as a summary.
const MAX_SUMMARY_CHARS: usize = 255;
/// Longest text that Home Assistant takes as a sensor's state.
const MAX_ERROR_CHARS: usize = 255;

/// What a node is that is this machine.
pub(crate) fn pi(hardware: Hardware) -> About {
    About {
        kind: "pi".into(),
        model: hardware.model,
        serial: hardware.serial,
        via: String::new(),
        agent: concat!("pi-worker ", env!("CARGO_PKG_VERSION")).into(),
    }
}

/// `node/<n>/info`
pub(crate) fn info(node: &NodeId, about: &About, groups: BTreeSet<GroupId>, at: Timestamp) -> status::Info {
    let About { kind, model, serial, via, agent } = about.clone();
    status::Info {
        node: node.clone(),
        kind,
        model,
        serial,
        via,
        groups: groups.into_iter().collect(),
        agent,
        at,
    }
}

/// `node/<n>/health`
pub(crate) fn health(
    node: &NodeId,
    facts: Facts,
    problem: String,
    started_at: UnixTime,
    at: Timestamp,
) -> status::Health {
    status::Health {
        node: node.clone(),
        ok: problem.is_empty(),
        reason: problem,
        started_at: started_at.into(),
        uptime_s: facts.uptime_s,
        disk_free_bytes: facts.disk_free_bytes,
        temperature_c: facts.temperature_c,
        engine_used_bytes: facts.engine.map(|engine| engine.used_bytes),
        engine_free_bytes: facts.engine.and_then(|engine| engine.free_bytes),
        memory_free_bytes: facts.memory_free_bytes,
        at,
    }
}

/// What is wrong with the node's apps, or empty.
pub(crate) fn problem<'a>(apps: impl Iterator<Item = &'a AppReport>) -> String {
    let bad: Vec<_> =
        apps.filter(|report| report.healthy == Some(false)).map(|report| report.app.as_str()).collect();
    if bad.is_empty() { String::new() } else { format!("unhealthy: {}", bad.join(", ")) }
}

/// `node/<n>/app/<app>/version`
pub(crate) fn version(node: &NodeId, report: &AppReport, at: Timestamp) -> status::Version {
    let installed = report.installed.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    status::Version {
        node: node.clone(),
        app: report.app.clone(),
        installed: text(installed.map(|installed| &installed.version)),
        previous: text(report.previous.as_ref().map(|previous| &previous.version)),
        group: installed.map(|installed| installed.group.to_string()).unwrap_or_default(),
        tree_hash: installed.map(|installed| installed.tree_hash.to_string()).unwrap_or_default(),
        commit: text(installed.map(|installed| &installed.commit)),
        since: installed.map_or(UnixTime(0), |installed| installed.since).into(),
        at,
    }
}

/// `node/<n>/app/<app>/update`
pub(crate) fn update(report: &AppReport, latest: &Latest) -> status::Update {
    status::Update {
        installed_version: report.installed.as_ref().map(|slot| slot.version.clone()).unwrap_or_default(),
        latest_version: latest.version.clone(),
        title: report.app.to_string(),
        release_summary: latest.notes.chars().take(MAX_SUMMARY_CHARS).collect(),
        release_url: link(&latest.notes),
        entity_picture: None,
        in_progress: latest.in_progress,
        update_percentage: latest.percent.filter(|_| latest.in_progress).map(|percent| percent.min(100)),
    }
}

/// The first address in a release's notes, where people read more of it. Home Assistant drops the whole message for one that is none, so
/// only what is beyond doubt counts.
fn link(notes: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#@!$&'*+,;=%".contains(c);
    let links = notes.split_whitespace().filter_map(|word| {
        let word =
            word.trim_start_matches(['(', '<']).trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '>']);
        let rest = word.strip_prefix("https://").or_else(|| word.strip_prefix("http://"))?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (name, port) = host.split_once(':').unwrap_or((host, "80"));
        let is_host = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
            && port.parse::<u16>().is_ok();
        (is_host && word.chars().all(is_plain)).then(|| word.to_owned())
    });
    { links }.next()
}

/// `node/<n>/app/<app>/status`
pub(crate) fn status(node: &NodeId, report: &AppReport, at: Timestamp) -> status::Status {
    let (target, last) = (report.target.as_ref(), report.outcomes.last());
    let error = last.map(|outcome| error_text(outcome.reason, &outcome.text)).unwrap_or_default();
    status::Status {
        node: node.clone(),
        app: report.app.clone(),
        phase: report.phase,
        progress_ratio: target.map_or(0.0, |target| f64::from(target.progress_permille.min(1_000)) / 1_000.0),
        target: target.map(|target| target.version.clone()).unwrap_or_default(),
        hold: target.and_then(|target| target.hold).map_or("", HoldCode::name).to_owned(),
        until: target.and_then(|target| target.until).unwrap_or_default().into(),
        attempt: target.map_or(0, |target| target.attempt),
        strategy: last
            .and_then(|outcome| outcome.built.as_ref())
            .map_or("", |built| built.strategy.name())
            .to_owned(),
        last_result: last.map(|outcome| outcome.verdict.name().to_owned()).unwrap_or_default(),
        last_error: error.chars().take(MAX_ERROR_CHARS).collect(),
        at,
    }
}

/// `node/<n>/event`
pub(crate) fn event(
    node: &NodeId,
    app: &AppId,
    report: &AppReport,
    (event_type, to, reason): (EventType, String, Option<Reason>),
    at: Timestamp,
) -> status::Event {
    // Once it is kept, what ran before is the previous one.
    let before =
        if event_type == EventType::from(Verdict::Kept) { &report.previous } else { &report.installed };
    status::Event {
        event_type,
        node: node.clone(),
        app: app.to_string(),
        version: before.as_ref().map(|slot| slot.version.clone()).unwrap_or_default(),
        to,
        reason: reason.map(|reason| reason.code().to_owned()).unwrap_or_default(),
        at,
    }
}

/// The same for a document on `topic` that was refused before it came to an app's machine.
pub(crate) fn refusal(node: &NodeId, topic: &Topic, reason: Reason, at: Timestamp) -> status::Event {
    let app = match &topic.kind {
        Kind::Release(_, app) => app.to_string(),
        _ => String::new(),
    };
    status::Event {
        event_type: EventType::Refused,
        node: node.clone(),
        app,
        version: String::new(),
        to: String::new(),
        reason: reason.code().to_owned(),
        at,
    }
}

#[cfg(test)]
mod tests {
    use schemas::{
        id::{Counter, Digest, Revision},
        report::{Installed, Outcome, Target},
        status::Phase,
    };
    use serde_json::Value;

    use super::*;
    use crate::installer::EngineDisk;

    const AT: UnixTime = UnixTime(1_800_000_000);

    #[test]
    fn every_payload_has_exactly_its_keys() {
        let report = on_the_way();
        let keys = |value: Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        let facts = Facts { temperature_c: Some(51.5), ..Facts::default() };
        let engine = Some(EngineDisk { used_bytes: 1, free_bytes: Some(2) });
        let groups = ["all".parse().unwrap()].into();
        for (payload, expected) in [
            (
                json(info(&node(), &pi(Hardware::default()), groups, AT.into())),
                "agent at groups kind model node serial via",
            ),
            (
                json(health(&node(), facts, String::new(), AT, AT.into())),
                "at disk_free_bytes memory_free_bytes node ok reason started_at temperature_c uptime_s",
            ),
            (
                json(health(&node(), Facts { engine, ..Facts::default() }, String::new(), AT, AT.into())),
                "at disk_free_bytes engine_free_bytes engine_used_bytes memory_free_bytes node ok reason started_at uptime_s",
            ),
            (
                json(version(&node(), &report, AT.into())),
                "app at commit group installed node previous since tree_hash",
            ),
            (
                json(update(&report, &latest("1.1.0", "faster", Some(42)))),
                "in_progress installed_version latest_version release_summary title update_percentage",
            ),
            (
                json(status(&node(), &report, AT.into())),
                "app at attempt hold last_error last_result node phase progress_ratio strategy target until",
            ),
            (
                json(event(
                    &node(),
                    &report.app,
                    &report,
                    (EventType::Started, "1.1.0".into(), None),
                    AT.into(),
                )),
                "app at event_type node reason to version",
            ),
        ] {
            assert_eq!(keys(payload), expected);
        }
    }

    #[test]
    fn keys_and_types_are_the_same_for_an_app_that_was_never_installed() {
        let (full, empty) = (on_the_way(), nothing());
        for (full, empty) in [
            (json(version(&node(), &full, AT.into())), json(version(&node(), &empty, AT.into()))),
            (json(status(&node(), &full, AT.into())), json(status(&node(), &empty, AT.into()))),
        ] {
            let types = |value: &Value| {
                let kind = |value: &Value| std::mem::discriminant(value);
                value
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(|(key, value)| (key.clone(), kind(value)))
                    .collect::<Vec<_>>()
            };
            assert_eq!(types(&full), types(&empty));
            assert!(!empty.to_string().contains("null"));
        }
    }

    #[test]
    fn payloads_are_flat_and_have_no_null_but_the_percentage() {
        let idle = AppReport { target: None, phase: Phase::Idle, ..on_the_way() };
        let payload = json(update(&idle, &latest("1.0.0", "", None)));
        assert_eq!(
            (&payload["in_progress"], &payload["update_percentage"]),
            (&Value::Bool(false), &Value::Null)
        );
        assert_eq!(payload["latest_version"], payload["installed_version"]);
        let others = [
            json(version(&node(), &idle, AT.into())),
            json(status(&node(), &idle, AT.into())),
            json(health(&node(), Facts::default(), "unhealthy: web".into(), AT, AT.into())),
        ];
        for payload in others {
            assert!(
                payload.as_object().unwrap().values().all(|v| !v.is_null() && !v.is_object()),
                "{payload}"
            );
            assert_eq!(payload["at"], "2027-01-15T08:00:00Z");
        }
    }

    #[test]
    fn progress_is_said_in_percent_and_as_a_ratio() {
        let report = on_the_way();
        let payload = json(update(&report, &latest("1.1.0", &"n".repeat(999), Some(142))));
        assert_eq!((&payload["in_progress"], &payload["update_percentage"]), (&true.into(), &100.into()));
        assert_eq!(payload["release_summary"].as_str().unwrap().len(), MAX_SUMMARY_CHARS);
        let payload = json(status(&node(), &report, AT.into()));
        assert_eq!((&payload["progress_ratio"], &payload["target"]), (&0.425.into(), &"1.1.0".into()));
        assert_eq!(payload["phase"], "fetching");
    }

    #[test]
    fn the_first_address_in_the_notes_is_where_to_read_more() {
        for (notes, expected) in [
            (
                "Fixes pump drift (https://git.home/pump/releases/1.1).",
                Some("https://git.home/pump/releases/1.1"),
            ),
            ("http://a.b/c?d=e#f and https://other", Some("http://a.b/c?d=e#f")),
            ("https://git.home:3000/x", Some("https://git.home:3000/x")),
            ("https:// https://-x https://u:p@host https://h:x https://ho\"st ftp://a https://\u{e4}", None),
            ("no address", None),
        ] {
            let payload = json(update(&on_the_way(), &latest("1.1.0", notes, None)));
            assert_eq!(payload.get("release_url").and_then(Value::as_str), expected, "{notes}");
        }
    }

    #[test]
    fn the_last_failure_is_said_with_its_code() {
        let mut report = nothing();
        report.outcomes = vec![Outcome {
            revision: Revision(1),
            release: Digest::of(b""),
            version: "1.0.0".into(),
            verdict: Verdict::RolledBack,
            reason: Some(Reason::StaleCode),
            text: "answered old".into(),
            log_tail: Vec::new(),
            took_ms: 0,
            fetched_bytes: 0,
            requests: 0,
            built: None,
            at: AT,
        }];
        let payload = json(status(&node(), &report, AT.into()));
        assert_eq!(payload["last_result"], "rolled_back");
        assert_eq!(payload["last_error"], "stale-code: answered old");
    }

    #[test]
    fn an_event_names_what_ran_before() {
        let report = on_the_way();
        let before = |event_type| {
            event(&node(), &report.app, &report, (event_type, "2".into(), None), AT.into()).version
        };
        assert_eq!((before(EventType::Started), before(EventType::Kept)), ("1.0.0".into(), "0.9.0".into()));
    }

    #[test]
    fn unhealthy_apps_are_the_problem_of_the_node() {
        let bad = AppReport { healthy: Some(false), ..nothing() };
        assert_eq!(problem([&nothing(), &bad].into_iter()), "unhealthy: web");
        assert_eq!(problem([&nothing()].into_iter()), "");
    }

    fn node() -> NodeId {
        "pi-1".parse().unwrap()
    }

    fn json(payload: impl serde::Serialize) -> Value {
        serde_json::to_value(payload).unwrap()
    }

    fn latest(version: &str, notes: &str, percent: Option<u8>) -> Latest {
        Latest { version: version.into(), notes: notes.into(), in_progress: percent.is_some(), percent }
    }

    fn nothing() -> AppReport {
        AppReport {
            app: "web".parse().unwrap(),
            phase: Phase::Idle,
            revision: Revision(0),
            installed: None,
            previous: None,
            target: None,
            healthy: None,
            outcomes: Vec::new(),
        }
    }

    fn on_the_way() -> AppReport {
        let slot = |version: &str| Installed {
            release: Digest::of(b"release"),
            version: version.into(),
            counter: Counter(1),
            commit: "abc".into(),
            tree_hash: Digest::of(b"tree"),
            group: "all".parse().unwrap(),
            since: AT,
        };
        let target = Target {
            revision: Revision(2),
            version: "1.1.0".into(),
            progress_permille: 425,
            attempt: 1,
            waits_for: String::new(),
            hold: None,
            until: None,
        };
        AppReport {
            phase: Phase::Fetching,
            installed: Some(slot("1.0.0")),
            previous: Some(slot("0.9.0")),
            target: Some(target),
            ..nothing()
        }
    }
}
