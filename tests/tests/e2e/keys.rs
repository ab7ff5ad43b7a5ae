//! Keys that are changed while a fleet is online.

use e2e::World;
use schemas::id::{Digest, Revision};
use serde_json::Value;

const KEPT: Option<i32> = Some(0);

#[test]
fn every_node_stays_installable_when_each_key_is_changed() {
    let (mut world, app) = World::serving().unwrap();
    // It sleeps through all of it.
    world.add_node("pi-2", &["canary"]).unwrap();
    world.wait_outcome("pi-2", "1.0.0").unwrap();
    world.node("pi-2").unwrap().stop().unwrap();
    for (root_version, role) in [(2, "release"), (3, "ops"), (4, "root"), (5, "release")] {
        let told = rotate(&world, &[role]);
        assert_eq!(told["root_version"], root_version);
        let signed_again = if role == "root" { Vec::new() } else { vec!["canary/web"] };
        assert_eq!(
            (&told["signed_again"], &told["taken_off"]),
            (&signed_again.into(), &Vec::<Value>::new().into())
        );
        let follows = world.wait_report("pi-1", "the new root", |report| {
            (report.root_version == root_version).then(|| format!("{:?}", report.refusals))
        });
        assert_eq!(follows.unwrap(), "[]", "{role}: nobody attacked anybody");
    }
    // Who was away, and who is new, take what was announced before by keys that are gone.
    world.node("pi-2").unwrap().start().unwrap();
    world.add_node("pi-3", &["canary"]).unwrap();
    world.wait_outcome("pi-3", "1.0.0").unwrap();
    app.commit("1.1.0").unwrap();
    let (code, told) = world.announce(&app, "canary").unwrap();
    assert_eq!((code, told["nodes"].as_array().unwrap().len()), (KEPT, 3), "{told}");
    let listed = world.publisher(&["keys", "list", "--json"]).unwrap().expect(0).unwrap();
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed["root_version"], 5);
    assert!(listed["keys"].as_array().unwrap().iter().all(|key| key["is_here"] == true), "{listed}");
}

#[test]
fn numbers_that_a_stolen_key_has_used_up_begin_anew() {
    let (world, app) = World::serving().unwrap();
    let thief = world.forge().unwrap();
    let mut bus = world.raw_publisher().unwrap();
    let topic = "deploybus/v1/release/canary/web";
    let genuine = bus.retained(topic, std::time::Duration::from_millis(300)).unwrap().remove(topic).unwrap();
    let release = schemas::announcement::Announcement::from_bytes(&genuine).unwrap().release;
    let order = thief.order(
        &"canary".parse().unwrap(),
        &"web".parse().unwrap(),
        release.digest(),
        Revision(u64::MAX),
    );
    let order = schemas::seal::Signed::seal(&order, std::slice::from_ref(&thief.ops_key));
    let announcement = schemas::announcement::Announcement { order, release, mandate: None }.to_bytes();
    world.raw_publisher().unwrap().publish(topic, &announcement, true).unwrap();
    world
        .wait_report("pi-1", "the highest number", |report| {
            (report.apps[0].revision.0 == u64::MAX).then_some(())
        })
        .unwrap();
    app.commit("1.1.0").unwrap();
    let folder = app.folder().to_str().unwrap();
    let used_up =
        world.publisher(&["announce", folder, "--group", "canary"]).unwrap().expect(1).unwrap().stderr;
    assert!(used_up.contains("used up") && used_up.contains("rotate ops --lost"), "{used_up}");
    rotate(&world, &["ops", "--lost"]);
    let (code, told) = world.announce(&app, "canary").unwrap();
    assert_eq!((code, &told["nodes"][0]["state"]), (KEPT, &"kept".into()), "{told}");
    world.wait_outcome("pi-1", "1.1.0").unwrap();
}

#[test]
fn two_changes_at_once_are_one_after_the_other() {
    let (world, app) = World::serving().unwrap();
    let both: Vec<_> = (0..2)
        .map(|_| {
            world
                .publisher_command(&["keys", "rotate", "ops"])
                .unwrap()
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut one in both {
        one.wait().unwrap();
    }
    let listed = world.publisher(&["keys", "list", "--json"]).unwrap().expect(0).unwrap();
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert!(listed["keys"].as_array().unwrap().iter().all(|key| key["is_here"] == true), "{listed}");
    app.commit("1.1.0").unwrap();
    let (code, told) = world.announce(&app, "canary").unwrap();
    assert_eq!(code, KEPT, "{told}");
}

#[test]
fn a_stolen_ops_key_is_worth_nothing_once_it_is_changed() {
    let (world, app) = World::serving().unwrap();
    // What the thief has copied.
    let thief = world.forge().unwrap();
    let told = rotate(&world, &["ops", "--lost"]);
    assert_eq!(
        (&told["taken_off"], &told["signed_again"]),
        (&vec!["canary/web"].into(), &Vec::<Value>::new().into())
    );
    world.wait_report("pi-1", "the new root", |report| (report.root_version == 2).then_some(())).unwrap();
    // The thief orders the highest number that there is.
    let mut bus = world.raw_publisher().unwrap();
    let (group, web) = ("canary".parse().unwrap(), "web".parse().unwrap());
    let release = thief.release(&web, Digest::of(b"evil"), 1, 1);
    let order = thief.order(&group, &web, Digest::of(b"evil"), Revision(u64::MAX));
    let announcement = thief.announcement(&order, &release).to_bytes();
    bus.publish("deploybus/v1/release/canary/web", &announcement, true).unwrap();
    let refused =
        world.wait_report("pi-1", "the forged order refused", |report| report.refusals.first().cloned());
    assert_eq!(refused.unwrap().reason.code(), "bad-signature");
    app.commit("1.1.0").unwrap();
    let (code, told) = world.announce(&app, "canary").unwrap();
    assert_eq!(code, KEPT, "{told}");
}

fn rotate(world: &World, args: &[&str]) -> Value {
    let told = world.publisher(&[&["keys", "rotate", "--json"], args].concat()).unwrap().expect(0).unwrap();
    serde_json::from_str(&told.stdout).unwrap()
}
