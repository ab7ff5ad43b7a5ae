//! From a folder with a Dockerfile to a container that has proven itself.

use std::time::Duration;

use e2e::wait_until;
use schemas::{build::Strategy, reason::Reason, report::Verdict};

use super::world::{KEPT, NOT_KEPT, Shore};

#[test]
fn an_image_is_built_on_the_node_and_its_container_proves_what_it_is() {
    let Some(shore) = Shore::serving() else { return };
    let built = shore.built("1.0.0");
    assert_eq!((built.strategy, built.steps > 5, built.reused), (Strategy::Full, true, 0), "{built:?}");
    assert!(built.image_bytes > 0 && built.took_ms > 0, "{built:?}");
    let engine = &shore.engine;
    assert_eq!(engine.containers().unwrap(), ["web"]);
    assert_eq!(engine.inspect("web", "{{.HostConfig.RestartPolicy.Name}}").unwrap(), "unless-stopped");
    let [image] = engine.images().unwrap().try_into().unwrap();
    let tree = engine.inspect(&image, "{{index .Config.Labels \"io.deploybus.signature\"}}").unwrap();
    assert!(image.starts_with("deploybus/web:") && image.ends_with(&tree[..16]), "{image} {tree}");
}

#[test]
fn one_changed_line_is_built_on_the_layers_of_the_dependencies() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.app.edit_file("app.sh", "says hello", "says good day").unwrap();
    let outcome = shore.deploy("1.1.0", KEPT);
    let built = shore.built("1.1.0");
    assert_eq!(built.strategy, Strategy::Incremental, "{built:?}");
    assert!(built.reused >= 2 && built.reused < built.steps, "{built:?}");
    assert!(built.why.contains("app.sh"), "{}", built.why);
    assert!(outcome.requests <= 3, "only what changed is fetched: {outcome:?}");
    shore.serves("1.1.0");
    // The one before is kept, stopped, for a way back.
    assert_eq!(shore.engine.containers().unwrap(), ["web", "web.previous"]);
    assert_eq!(shore.engine.inspect("web.previous", "{{.State.Running}}").unwrap(), "false");

    std::fs::write(shore.app.folder().join("requirements.txt"), "nothing==2.0\n").unwrap();
    shore.deploy("1.2.0", KEPT);
    let built = shore.built("1.2.0");
    assert_eq!((built.strategy, built.why.as_str()), (Strategy::Full, "requirements.txt changed"));
    shore.serves("1.2.0");
    let two_are_kept = || (shore.engine.images().ok()?.len() == 2).then_some(());
    wait_until("the image before the one before to be gone", Duration::from_secs(20), two_are_kept).unwrap();
    shore.tidy();
}

#[test]
fn a_build_shows_how_far_it_is_and_what_it_says() {
    let Some(shore) = Shore::serving() else { return };
    let mut bus = shore.world.raw_publisher().unwrap();
    bus.subscribe("deploybus/v1/node/pi-1/log").unwrap();
    bus.subscribe("deploybus/v1/node/pi-1/app/web/status").unwrap();
    let copy = "COPY requirements.txt /app/\n";
    shore.app.edit_file("Dockerfile", copy, &format!("{copy}RUN echo compiling; sleep 2\n")).unwrap();
    shore.deploy("1.1.0", KEPT);
    let (mut said, mut shares) = (Vec::new(), Vec::new());
    while let Some((topic, payload, _)) = bus.next(Duration::from_millis(500)).unwrap() {
        let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        if topic.ends_with("/log") {
            assert_eq!(payload["source"], "build", "{payload}");
            said.extend(
                payload["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()),
            );
        } else if payload["phase"] == "staging" {
            shares.push(payload["progress_ratio"].as_f64().unwrap());
        }
    }
    assert!(said.iter().any(|line| line == "compiling"), "{said:?}");
    assert!(shares.iter().any(|share| *share > 0.6 && *share < 0.85), "{shares:?}");
    // The container's own words, and the images that there are.
    let logs = shore.world.publisher(&["logs", "pi-1"]).unwrap().expect(0).unwrap().stdout;
    assert!(logs.contains("web 1.1.0 at commit"), "{logs}");
    let images = shore.world.publisher(&["images", "pi-1", "--json"]).unwrap().expect(0).unwrap().stdout;
    let images: serde_json::Value = serde_json::from_str(&images).unwrap();
    let states: Vec<_> =
        images.as_array().unwrap().iter().map(|image| (&image["version"], &image["state"])).collect();
    assert_eq!(states, [(&"1.1.0".into(), &"in_use".into()), (&"1.0.0".into(), &"kept".into())]);
}

#[test]
fn a_release_that_was_there_before_is_hot_and_builds_nothing() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.app.edit_file("app.sh", "says hello", "says good day").unwrap();
    shore.deploy("1.1.0", KEPT);
    shore.world.publisher(&["rollback", "--group", "canary"]).unwrap().expect(0).unwrap();
    shore.serves("1.0.0");
    let built = shore.built("1.0.0");
    assert_eq!((built.strategy, built.steps), (Strategy::Hot, 0), "{built:?}");
    assert!(built.took_ms < 1_000, "{built:?}");
}

#[test]
fn a_build_that_is_forced_uses_no_cache() {
    let Some(mut shore) = Shore::serving() else { return };
    let folder = shore.app.folder().to_str().unwrap();
    let args = ["announce", folder, "--group", "canary", "--version", "1.0.0-anew", "--force-build"];
    shore.world.publisher(&args).unwrap().expect(0).unwrap();
    let built = shore.built("1.0.0-anew");
    assert_eq!((built.strategy, built.reused), (Strategy::Full, 0), "{built:?}");
    shore.serves("1.0.0");
}

#[test]
fn what_no_image_needs_changes_no_layer_of_the_code() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.app.edit_file("NOTES.md", "no image", "nobody").unwrap();
    let args =
        ["announce", shore.app.folder().to_str().unwrap(), "--group", "canary", "--version", "1.0.0-notes"];
    shore.world.publisher(&args).unwrap().expect(0).unwrap();
    let built = shore.built("1.0.0-notes");
    assert_eq!(built.strategy, Strategy::Cached, "{built:?}");
    shore.serves("1.0.0");
}

#[test]
fn where_no_port_is_bound_the_new_container_starts_before_the_old_one_stops() {
    let Some(shore) = Shore::new() else { return };
    let settings = "[app]\nname = \"web\"\n[container]\nstart_first = true\nstop_timeout = \"2s\"\n\
        files = { \"app.sh\" = \"/app/\" }\n[trial]\nmin_healthy = \"500ms\"\ndeadline = \"10s\"\n";
    std::fs::write(shore.app.folder().join("deploybus.toml"), settings).unwrap();
    shore.deploy("1.0.0", KEPT);
    shore.deploy("1.1.0", KEPT);
    let at = |name: &str, field: &str| shore.engine.inspect(name, field).unwrap();
    let (started, stopped) = (at("web", "{{.State.StartedAt}}"), at("web.previous", "{{.State.FinishedAt}}"));
    assert!(started < stopped, "{started} {stopped}");

    // One that ends at once never takes over: the old one is not even stopped.
    shore.app.edit_file("app.sh", "HEALTHY=yes", "exit 3").unwrap();
    let outcome = shore.deploy("1.2.0", NOT_KEPT);
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::RolledBack, Some(Reason::Exited)), "{outcome:?}");
    assert_eq!(at("web", "{{.State.StartedAt}}"), started);
    shore.tidy();
}

#[test]
fn another_environment_makes_another_container_of_the_same_image_and_builds_nothing() {
    let Some(mut shore) = Shore::serving() else { return };
    let image = shore.engine.inspect("web", "{{.Image}}").unwrap();
    shore.world.publisher(&["env", "set", "pi-1", "CAMPAIGN_NAME=turboship"]).unwrap().expect(0).unwrap();
    shore.serves_campaign("turboship");
    assert_eq!(shore.engine.inspect("web", "{{.Image}}").unwrap(), image);
    let is_handed_over = || {
        let policy = shore.engine.inspect("web", "{{.HostConfig.RestartPolicy.Name}}").ok()?;
        (policy == "unless-stopped").then_some(())
    };
    wait_until("the engine to keep it up", Duration::from_secs(20), is_handed_over).unwrap();
    let listed = shore.world.publisher(&["env", "list", "pi-1"]).unwrap().expect(0).unwrap().stdout;
    assert!(listed.contains("CAMPAIGN_NAME") && listed.contains("turboship"), "{listed}");

    // It lasts over a restart of the worker, and goes when it is taken back; for a whole group as well.
    let node = shore.world.node("pi-1").unwrap();
    node.kill().unwrap();
    node.start().unwrap();
    shore
        .world
        .publisher(&["env", "unset", "--group", "canary", "CAMPAIGN_NAME"])
        .unwrap()
        .expect(0)
        .unwrap();
    shore.serves_campaign("");
    assert_eq!(shore.outcome("1.0.0").verdict, Verdict::Kept);
    shore.tidy();
}

#[test]
fn a_release_that_ends_at_once_goes_back_to_the_container_that_was_kept() {
    let Some(mut shore) = Shore::serving() else { return };
    let before = shore.engine.inspect("web", "{{.Id}}").unwrap();
    shore.app.edit_file("app.sh", "HEALTHY=yes", "echo the config is missing >&2; exit 3").unwrap();
    let outcome = shore.deploy("1.1.0", NOT_KEPT);
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::RolledBack, Some(Reason::Exited)), "{outcome:?}");
    assert!(outcome.text.contains("exit code 3"), "{}", outcome.text);
    assert!(outcome.log_tail.iter().any(|line| line.contains("the config is missing")), "{outcome:?}");
    shore.serves("1.0.0");
    assert_eq!(shore.engine.inspect("web", "{{.Id}}").unwrap(), before, "the very container");
    shore.tidy();
    assert_eq!(shore.engine.inspect("web", "{{.HostConfig.RestartPolicy.Name}}").unwrap(), "unless-stopped");
}

#[test]
fn a_release_that_is_never_healthy_goes_back() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.app.edit_file("app.sh", "HEALTHY=yes", "HEALTHY=no").unwrap();
    shore.app.edit_file("deploybus.toml", "deadline = \"10s\"", "deadline = \"3s\"").unwrap();
    let outcome = shore.deploy("1.1.0", NOT_KEPT);
    assert_eq!(
        (outcome.verdict, outcome.reason),
        (Verdict::RolledBack, Some(Reason::Unhealthy)),
        "{outcome:?}"
    );
    assert!(outcome.text.contains("404"), "{}", outcome.text);
    shore.serves("1.0.0");
}

#[test]
fn code_that_says_another_commit_than_it_was_built_for_is_caught() {
    let Some(mut shore) = Shore::serving() else { return };
    let old = shore.world.node("pi-1").unwrap().ask("/version").unwrap().text("commit").unwrap();
    shore
        .app
        .edit_file("Dockerfile", "ENV GIT_COMMIT=$GIT_COMMIT", &format!("ENV GIT_COMMIT={old}"))
        .unwrap();
    let commit = shore.app.commit("1.1.0").unwrap();
    shore.announce(NOT_KEPT);
    let outcome = shore.outcome("1.1.0");
    assert_eq!(
        (outcome.verdict, outcome.reason),
        (Verdict::RolledBack, Some(Reason::StaleCode)),
        "{outcome:?}"
    );
    assert!(outcome.text.contains(&old) && outcome.text.contains(&commit), "both values: {}", outcome.text);
    shore.serves("1.0.0");
}

#[test]
fn files_of_the_image_that_are_not_the_release_s_are_caught_before_anything_is_stopped() {
    let Some(mut shore) = Shore::serving() else { return };
    let copy = "COPY app.sh VERSION /app/";
    shore.app.edit_file("Dockerfile", copy, &format!("{copy}\nRUN : > /app/VERSION")).unwrap();
    let outcome = shore.deploy("1.1.0", NOT_KEPT);
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Failed, Some(Reason::StaleCode)), "{outcome:?}");
    assert!(outcome.text.contains("/app/VERSION has 0 bytes"), "{}", outcome.text);
    shore.serves("1.0.0");
    assert_eq!(shore.engine.containers().unwrap(), ["web"]);
}
