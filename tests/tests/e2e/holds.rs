//! What holds a node back from beginning, and how it goes on.

use std::fs;

use e2e::{App, World};
use schemas::{hold::HoldCode, report::Verdict, status::Phase};

/// A fleet whose node `pi-1` serves 1.0.0 and has these settings by now, and 1.1.0 ready to be announced.
fn with_settings(hold: &str) -> (World, App) {
    let (mut world, app) = World::serving().unwrap();
    let node = world.node("pi-1").unwrap();
    let file = node.folder().join("pi-worker.toml");
    let settings = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{settings}\n[hold]\n{hold}\n")).unwrap();
    node.stop().unwrap();
    node.start().unwrap();
    app.commit("1.1.0").unwrap();
    (world, app)
}

/// Waits until the node says that it is held back by `code`.
fn wait_held(world: &World, code: HoldCode) {
    let held = |report: &schemas::report::Report| {
        let app = report.apps.iter().find(|app| app.phase == Phase::Deferred)?;
        (app.target.as_ref()?.hold == Some(code)).then_some(())
    };
    world.wait_report("pi-1", &format!("the hold {code}"), held).unwrap();
}

#[test]
fn a_lock_file_holds_a_node_until_it_is_removed() {
    let (mut world, app) = with_settings("lock = \"hold\"");
    let lock = world.node("pi-1").unwrap().folder().join("hold");
    fs::write(&lock, "").unwrap();
    world.announce_only(&app, "canary").unwrap();
    wait_held(&world, HoldCode::Lock);
    let said = world.publisher(&["status"]).unwrap().expect(0).unwrap().stdout;
    assert!(said.contains("deferred (lock) 1.1.0"), "{said}");
    let said = world.publisher(&["status", "--json"]).unwrap().expect(0).unwrap().stdout;
    assert!(said.contains("\"lock\"") && said.contains(lock.to_str().unwrap()), "{said}");
    let node = world.node("pi-1").unwrap();
    let status = node.status().unwrap();
    assert_eq!(status["status"]["apps"]["web"]["status"]["hold"], "lock", "{status}");
    assert_eq!(node.serves().as_deref(), Some("1.0.0"));
    fs::remove_file(&lock).unwrap();
    assert_eq!(world.wait_outcome("pi-1", "1.1.0").unwrap().verdict, Verdict::Kept);
}

#[test]
fn a_release_waits_for_a_yes_and_an_urgent_one_does_not() {
    let (world, app) = with_settings("consent = true");
    world.announce_only(&app, "canary").unwrap();
    wait_held(&world, HoldCode::Consent);
    let asked = world.publisher(&["request", "pi-1", "install"]).unwrap().expect(0).unwrap().stdout;
    assert!(asked.contains("asked pi-1 to install web 1.1.0"), "{asked}");
    assert_eq!(world.wait_outcome("pi-1", "1.1.0").unwrap().verdict, Verdict::Kept);

    app.commit("1.2.0").unwrap();
    world.announce_only(&app, "canary").unwrap();
    wait_held(&world, HoldCode::Consent);
    // Going back asks nobody, and what waited has nothing more to wait for.
    world.publisher(&["rollback", "--group", "canary", "--to", "1.0.0"]).unwrap().expect(0).unwrap();
    app.commit("1.3.0").unwrap();
    let folder = app.folder().to_str().unwrap();
    world.publisher(&["announce", folder, "--group", "canary", "--urgent"]).unwrap().expect(0).unwrap();
    let said = world.publisher(&["request", "pi-1", "install"]).unwrap().expect(1).unwrap().stderr;
    assert!(said.contains("nothing waits on pi-1"), "{said}");
}

#[test]
fn a_closed_window_holds_and_says_when_it_opens() {
    let day = far_day();
    let (mut world, app) = with_settings(&format!("windows = [\"{day} 03:07-05:00\"]"));
    world.announce_only(&app, "canary").unwrap();
    wait_held(&world, HoldCode::Window);
    let said = world.publisher(&["status"]).unwrap().expect(0).unwrap().stdout;
    assert!(said.contains(&format!("deferred (window) 1.1.0 until {day} 03:07")), "{said}");
    let node = world.node("pi-1").unwrap();
    let on_node = e2e::Output::of(&mut node.command("status").unwrap()).unwrap().expect(0).unwrap().stdout;
    let expected = format!("deferred (window) until {day} 03:07: 1.1.0 waits for its maintenance window");
    assert!(on_node.contains(&expected), "{on_node}");
    node.wait_serves("1.0.0").unwrap();
}

/// A day of the week that is far from today, whatever the time zone.
fn far_day() -> &'static str {
    // 1970 began on a Thursday.
    let days = e2e::now().0 / 86_400 + 3;
    ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from(days % 7).unwrap()]
}
