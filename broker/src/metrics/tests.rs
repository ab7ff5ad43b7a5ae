use std::collections::BTreeSet;

use rollout::samples::{self, Sample};
use schemas::{
    deploy_log::{Entry, What},
    id::Digest,
    reason::Reason,
    topic::NodeTopic,
};

use super::*;
use crate::mirrors::{
    Mirrors,
    tests::{health, info, rollout, topic, version},
};

/// What a fleet of two nodes says, one of which is away and has said nothing yet.
fn facts() -> FleetFacts {
    let sample = Sample::new();
    let mut fleet = sample.fleet(&[("pi-1", Some(samples::idle(1))), ("pi-2", None)]);
    fleet.take(&sample.topic("pi-2", NodeTopic::Availability), b"offline");
    fleet.take(
        &"deploybus/v1/release/canary/web".parse().unwrap(),
        &sample.announcement(1, 1, "1.0.0").to_bytes(),
    );
    let mut mirrors = Mirrors::default();
    let status = r#"{"node":"pi-1","app":"web","phase":"fetching","progress_ratio":0.25,"target":"1.1.0","attempt":1,"strategy":"","last_result":"","last_error":"","at":"2026-11-21T02:00:00Z"}"#;
    for (rest, payload) in [
        ("node/pi-1/info", info("pi-1", "pi", "")),
        (
            "node/pi-1/health",
            health(
                "pi-1",
                r#""temperature_c":48.3,"engine_used_bytes":52000000,"engine_free_bytes":3200000000,"#,
            ),
        ),
        ("node/pi-1/app/web/version", version("pi-1", "web", "1.0.0")),
        ("node/pi-1/app/web/status", status.to_owned()),
        ("node/stranger/health", health("stranger", "")),
        ("rollout/all/web", rollout("paused", 4)),
    ] {
        mirrors.take(&topic(rest), payload.as_bytes(), None);
    }
    FleetFacts::of(&fleet, &mirrors)
}

fn ended(what: What, reason: Option<Reason>) -> Entry {
    Entry {
        what,
        app: Some("web".parse().unwrap()),
        group: Some("all".parse().unwrap()),
        release: Some(Digest([1; 32])),
        took_ms: 1_500,
        fetched_bytes: 100,
        reason,
        ..Entry::default()
    }
}

fn written(tallies: &Tallies, facts: &FleetFacts) -> Vec<String> {
    let folder = tempfile::TempDir::new().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("a/b"), "four").unwrap();
    let (metrics, _) = Metrics::new(tallies.clone(), None, folder.path().to_owned());
    metrics.write(facts).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn what_is_told_of_a_fleet() {
    let tallies = Tallies::default();
    tallies.count(&ended(What::Installed, None));
    tallies.count(&ended(What::RolledBack, Some(Reason::Unhealthy)));
    tallies.count(&Entry { what: What::Refused, reason: Some(Reason::BadSignature), ..Entry::default() });
    let mut lines = written(&tallies, &facts());
    // The order within one name is any.
    lines.sort();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn all_that_may_be_counted_is_there_before_it_happens() {
    let lines = written(&Tallies::default(), &facts());
    for reason in Reason::ALL.iter().filter(|reason| reason.is_attack()) {
        let line = format!("deploybus_verify_failures_total{{reason=\"{reason}\"}} 0");
        assert!(lines.contains(&line), "{line}");
    }
    let line = "deploybus_updates_total{app=\"web\",group=\"canary\",result=\"rolled_back\"} 0".to_owned();
    assert!(lines.contains(&line), "{lines:?}");
}

#[test]
fn names_that_somebody_makes_up_do_not_fill_the_memory() {
    let tallies = Tallies::default();
    for n in 0..2_000 {
        let entry = Entry { app: Some(format!("app-{n}").parse().unwrap()), ..ended(What::Installed, None) };
        tallies.count(&entry);
    }
    let lines = written(&tallies, &FleetFacts::default());
    let apps: BTreeSet<&String> =
        lines.iter().filter(|line| line.starts_with("deploybus_updates_total{")).collect();
    assert_eq!(apps.len(), 1_001);
}

#[tokio::test(start_paused = true)]
async fn without_a_controller_the_rest_is_told_all_the_same() {
    let folder = tempfile::TempDir::new().unwrap();
    let (metrics, questions) = Metrics::new(Tallies::default(), None, folder.path().to_owned());
    drop(questions);
    let text = Arc::new(metrics).render().await.unwrap();
    assert!(text.contains("deploybus_build_info{version="), "{text}");
    let (metrics, _questions) = Metrics::new(Tallies::default(), None, folder.path().to_owned());
    assert!(Arc::new(metrics).render().await.unwrap().contains("deploybus_store_bytes 0.0"));
}
