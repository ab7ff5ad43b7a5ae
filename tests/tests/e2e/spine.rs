//! From `publisher announce` to a proven release.

use std::{collections::BTreeSet, process::Command, time::Duration};

use e2e::{BusKind, Output, World, wait_until};
use schemas::{
    reason::Reason,
    report::{AppReport, Report, Verdict},
};

/// The exit codes of `publisher announce` that are used here.
const KEPT: Option<i32> = Some(0);
const NOT_KEPT: Option<i32> = Some(3);

/// Each scenario is a test on each bus: on our own relay, also over TLS, and on the brokers of others.
macro_rules! on_each_bus {
    ($($scenario:ident)*) => {
        on_each_bus! { @ relay Relay $($scenario)* }
        on_each_bus! { @ tls Tls $($scenario)* }
        on_each_bus! { @ mosquitto Mosquitto $($scenario)* }
        on_each_bus! { @ nats Nats $($scenario)* }
    };
    (@ $bus:ident $kind:ident $($scenario:ident)*) => {
        mod $bus {
            $(#[test]
            fn $scenario() {
                super::on(e2e::BusKind::$kind, super::$scenario);
            })*
        }
    };
}

on_each_bus! {
    a_canary_takes_a_release_before_the_others_do
    an_unhealthy_release_goes_back_by_itself_and_says_why
    a_process_that_still_answers_the_old_commit_is_caught
    an_app_that_exits_at_once_is_rolled_back_with_its_last_words
    rollback_goes_back_and_comes_forward_again
    a_node_runs_several_apps
    the_same_release_again_restarts_nothing
    two_publishers_at_once_end_with_one_of_the_two
    the_json_topics_show_everything_to_a_watcher
    a_node_that_dies_is_said_to_be_offline
}

fn on(bus: BusKind, scenario: fn(World)) {
    match bus.missing() {
        Some(program) => println!("skipped: needs {program}"),
        None => scenario(World::on(bus).unwrap()),
    }
}

fn a_canary_takes_a_release_before_the_others_do(mut world: World) {
    world.add_node("pi-canary", &["canary"]).unwrap();
    world.add_node("pi-barn", &["all"]).unwrap();
    let app = world.app().unwrap();
    let (code, told) = world.announce(&app, "all").unwrap();
    assert_eq!(code, KEPT, "{told}");
    for node in world.nodes() {
        node.wait_serves("1.0.0").unwrap();
    }

    let commit = app.commit("1.1.0").unwrap();
    let (code, told) = world.announce(&app, "canary").unwrap();
    assert_eq!(code, KEPT, "{told}");
    assert_eq!(world.node("pi-canary").unwrap().serves().as_deref(), Some("1.1.0"));
    assert_eq!(world.node("pi-barn").unwrap().serves().as_deref(), Some("1.0.0"));
    let (installed, outcome) = world
        .wait_report("pi-canary", "1.1.0 installed", |report| {
            let app = web(report)?;
            let installed = app.installed.clone().filter(|installed| installed.version == "1.1.0")?;
            Some((installed, app.outcomes.last()?.clone()))
        })
        .unwrap();
    assert_eq!((installed.commit, outcome.verdict), (commit, Verdict::Kept));
    // One changed file and the manifest; the rest is linked from the slot before.
    assert_eq!(outcome.requests, 2);
    assert!(outcome.fetched_bytes < 1_000, "{} bytes", outcome.fetched_bytes);

    let (code, told) = world.announce(&app, "all").unwrap();
    assert_eq!(code, KEPT, "{told}");
    assert_eq!(world.node("pi-barn").unwrap().serves().as_deref(), Some("1.1.0"));
}

fn an_unhealthy_release_goes_back_by_itself_and_says_why(world: World) {
    let (mut world, app) = world.into_serving().unwrap();

    app.edit("HEALTHY = True", "HEALTHY = False").unwrap();
    app.edit_file("deploybus.toml", "deadline = \"10s\"", "deadline = \"2s\"").unwrap();
    app.commit("1.2.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, NOT_KEPT);
    let outcome = world.wait_outcome("pi-1", "1.2.0").unwrap();
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::RolledBack, Some(Reason::Unhealthy)));
    assert!(outcome.text.contains("500"), "{}", outcome.text);
    assert!(outcome.log_tail.iter().any(|line| line.contains("web 1.2.0")), "{:?}", outcome.log_tail);
    world.node("pi-1").unwrap().wait_serves("1.0.0").unwrap();
}

fn a_process_that_still_answers_the_old_commit_is_caught(world: World) {
    let (mut world, app) = world.into_serving().unwrap();
    let old = world.node("pi-1").unwrap().ask("/version").unwrap().text("commit").unwrap();

    // The classic: a cache outside the release that nobody cleared.
    app.edit("COMMIT = os.environ.get(\"DEPLOYBUS_COMMIT\", \"\")", &format!("COMMIT = \"{old}\"")).unwrap();
    let commit = app.commit("1.3.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, NOT_KEPT);
    let outcome = world.wait_outcome("pi-1", "1.3.0").unwrap();
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::RolledBack, Some(Reason::StaleCode)));
    assert!(outcome.text.contains(&old) && outcome.text.contains(&commit), "both values: {}", outcome.text);
    world.node("pi-1").unwrap().wait_serves("1.0.0").unwrap();
}

fn an_app_that_exits_at_once_is_rolled_back_with_its_last_words(world: World) {
    let (mut world, app) = world.into_serving().unwrap();

    app.edit("HEALTHY = True", "raise SystemExit('the config is missing')").unwrap();
    app.commit("1.2.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, NOT_KEPT);
    let outcome = world.wait_outcome("pi-1", "1.2.0").unwrap();
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::RolledBack, Some(Reason::Exited)));
    assert!(
        outcome.log_tail.iter().any(|line| line.contains("the config is missing")),
        "{:?}",
        outcome.log_tail
    );
    world.node("pi-1").unwrap().wait_serves("1.0.0").unwrap();
}

fn rollback_goes_back_and_comes_forward_again(world: World) {
    let (mut world, app) = world.into_serving().unwrap();
    app.commit("1.1.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, KEPT);
    world.publisher(&["rollback", "--group", "canary"]).unwrap().expect(0).unwrap();
    world.node("pi-1").unwrap().wait_serves("1.0.0").unwrap();
    world.publisher(&["rollback", "--group", "canary", "--to", "1.1.0"]).unwrap().expect(0).unwrap();
    world.node("pi-1").unwrap().wait_serves("1.1.0").unwrap();
}

fn a_node_runs_several_apps(world: World) {
    let (mut world, _app) = world.into_serving().unwrap();

    let settings = world.folder().join("settings");
    std::fs::create_dir(&settings).unwrap();
    std::fs::write(settings.join("deploybus.toml"), "[app]\nname = \"settings\"\nversion = \"5\"\n").unwrap();
    std::fs::write(settings.join("house.ini"), "warm = yes\n").unwrap();
    world
        .publisher(&["announce", settings.to_str().unwrap(), "--group", "canary"])
        .unwrap()
        .expect(0)
        .unwrap();
    let current = world.node("pi-1").unwrap().data().join("apps/settings/current/house.ini");
    assert_eq!(std::fs::read_to_string(current).unwrap(), "warm = yes\n");
    assert_eq!(world.node("pi-1").unwrap().serves().as_deref(), Some("1.0.0"));
    let apps =
        world.wait_report("pi-1", "two apps", |report| (report.apps.len() == 2).then_some(report.apps.len()));
    assert_eq!(apps.unwrap(), 2);
}

fn the_same_release_again_restarts_nothing(world: World) {
    let (mut world, _app) = world.into_serving().unwrap();
    let pid_file = world.node("pi-1").unwrap().data().join("apps/web/run/app.pid");
    let pid = std::fs::read(&pid_file).unwrap();
    world.publisher(&["rollback", "--group", "canary", "--to", "1.0.0"]).unwrap().expect(0).unwrap();
    assert_eq!(std::fs::read(&pid_file).unwrap(), pid);
}

fn two_publishers_at_once_end_with_one_of_the_two(world: World) {
    let (world, app) = world.into_serving().unwrap();
    let folder = app.folder().to_str().unwrap();
    let announce = |version: &str| {
        let args = ["announce", folder, "--group", "canary", "--version", version, "--no-wait"];
        world.publisher_command(&args).unwrap().spawn().unwrap()
    };
    for mut publisher in [announce("2.0.0"), announce("2.0.1")] {
        publisher.wait().unwrap();
    }
    let settled = world.wait_report("pi-1", "one of the two", |report| {
        let app = web(report)?;
        let installed = app.installed.as_ref()?;
        (installed.version.starts_with("2.0.") && app.target.is_none()).then(|| installed.version.clone())
    });
    assert!(["2.0.0", "2.0.1"].contains(&settled.unwrap().as_str()));
}

fn the_json_topics_show_everything_to_a_watcher(world: World) {
    if Command::new("mosquitto_sub").arg("--help").output().is_err() {
        println!("skipped: needs mosquitto_sub");
        return;
    }
    let (world, _app) = world.into_serving().unwrap();
    let password = std::fs::read_to_string(world.home().join("watcher.password")).unwrap();
    let port = world.ports().0.to_string();
    let listen = || {
        let mut watcher = Command::new("mosquitto_sub");
        watcher.args([
            "-p",
            &port,
            "-u",
            "watcher",
            "-P",
            password.trim(),
            "-t",
            "deploybus/v1/#",
            "-F",
            "%t %r %p",
        ]);
        Output::of(watcher.args(["-W", "1"])).unwrap().stdout
    };
    let topics = ["availability", "info", "health", "app/web/version", "app/web/update", "app/web/status"];
    let said = wait_until("all topics", Duration::from_secs(10), || {
        let said = listen();
        topics
            .iter()
            .all(|topic| said.contains(&format!("deploybus/v1/node/pi-1/{topic} 1 ")))
            .then_some(said)
    })
    .unwrap();
    let payload = |topic: &str| {
        let line =
            said.lines().find(|line| line.starts_with(&format!("deploybus/v1/node/pi-1/{topic} "))).unwrap();
        line.splitn(3, ' ').nth(2).unwrap().to_owned()
    };
    assert_eq!(payload("availability"), "online");
    let update: serde_json::Value = serde_json::from_str(&payload("app/web/update")).unwrap();
    let keys: BTreeSet<_> = update.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "installed_version",
        "latest_version",
        "title",
        "release_summary",
        "in_progress",
        "update_percentage",
    ];
    assert_eq!(keys, BTreeSet::from(expected));
    assert_eq!((&update["installed_version"], &update["in_progress"]), (&"1.0.0".into(), &false.into()));
    let status: serde_json::Value = serde_json::from_str(&payload("app/web/status")).unwrap();
    assert_eq!((&status["phase"], &status["last_result"]), (&"idle".into(), &"kept".into()));
}

fn a_node_that_dies_is_said_to_be_offline(mut world: World) {
    world.add_node("pi-1", &["canary"]).unwrap();
    let availability = |world: &World| {
        let mut bus = world.raw_publisher().unwrap();
        let topic = "deploybus/v1/node/pi-1/availability";
        bus.retained(topic, Duration::from_millis(200)).unwrap().remove(topic)
    };
    let wait = |world: &World, wanted: &str| {
        wait_until(wanted, Duration::from_secs(10), || {
            (availability(world)? == wanted.as_bytes()).then_some(())
        })
        .unwrap();
    };
    wait(&world, "online");
    world.node("pi-1").unwrap().kill().unwrap();
    wait(&world, "offline");
    world.node("pi-1").unwrap().start().unwrap();
    wait(&world, "online");
}

fn web(report: &Report) -> Option<&AppReport> {
    report.apps.iter().find(|app| app.app.as_str() == "web")
}
