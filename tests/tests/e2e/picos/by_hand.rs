//! What people do with a Pico beside deploying to it.

use std::time::Duration;

use e2e::{App, Bridge, World, wait_until};
use schemas::{reason::Reason, report::Verdict};

use super::{SERIAL, announce, desk};

#[test]
fn a_pico_with_a_program_of_its_own_is_left_alone_until_somebody_wants_it_otherwise() {
    let mut world = World::new().unwrap();
    let Some(mut bridge) = Bridge::new(&mut world, "pi-1").unwrap() else {
        println!("skipped: needs MicroPython's unix port");
        return;
    };
    let app = App::copy("pico-app", &world.folder().join("blink")).unwrap();
    let pico = bridge.plug_in(&world, "pico-desk", SERIAL, &["desk"]).unwrap();
    let own = "f = open('/main.py', 'w'); f.write('print(1)'); f.close()";
    if pico.mpremote(&["exec", own]).unwrap().is_none_or(|output| output.code != Some(0)) {
        println!("skipped: needs mpremote");
        return;
    }
    bridge.start().unwrap();
    announce(&world, &app, "1.0.0", Verdict::Failed);
    assert_eq!(world.wait_outcome("pico-desk", "1.0.0").unwrap().reason, Some(Reason::NotProvisioned));

    let listed = world.publisher(&["pico", "list"]).unwrap().expect(0).unwrap().stdout;
    assert!(listed.contains("pico-desk  online") && listed.contains(SERIAL), "{listed}");
    world.publisher(&["pico", "provision", "pico-desk"]).unwrap().expect(0).unwrap();
    bridge.wait_said("Guard is on the Pico", 1).unwrap();
    announce(&world, &app, "1.0.0", Verdict::Kept);

    world.publisher(&["pico", "release", "pico-desk"]).unwrap().expect(0).unwrap();
    bridge.wait_said("Port is let go of", 1).unwrap();
    let read = bridge.pico().unwrap().mpremote(&["fs", "cat", ":/main.before.py"]).unwrap().unwrap();
    assert_eq!(read.expect(0).unwrap().stdout.trim(), "print(1)");
    world.publisher(&["pico", "take", "pico-desk"]).unwrap().expect(0).unwrap();
    bridge.wait_said("Port is taken again", 1).unwrap();
    assert_eq!(world.publisher(&["pico", "release", "pi-1"]).unwrap().code, Some(1), "it is no Pico");
}

#[test]
fn a_pico_that_nobody_knows_asks_to_be_let_in_and_is_not_touched_before() {
    let Some((world, mut bridge, _app)) = desk() else { return };
    bridge.plug_in_stranger("e661410300000007").unwrap();
    let asks = || {
        let status = world.publisher(&["status"]).ok()?.stdout;
        status.contains("pico-00000007").then_some(())
    };
    wait_until("the stranger to ask", Duration::from_secs(40), asks).unwrap();
    world
        .publisher(&["node", "approve", "pico-00000007", "--group", "desk", "--yes"])
        .unwrap()
        .expect(0)
        .unwrap();
    bridge.wait_said("Node is there node=pico-00000007", 1).unwrap();
}
