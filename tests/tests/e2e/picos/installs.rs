//! What comes onto a Pico, and what goes back by itself.

use schemas::{reason::Reason, report::Verdict};

use super::{SERIAL, announce, desk, release, retained};

#[test]
fn a_pico_takes_what_is_good_and_goes_back_from_what_is_not() {
    let Some((world, mut bridge, app)) = desk() else { return };
    announce(&world, &app, "1.0.0", Verdict::Kept);
    release(&app, "1.0.0", "1.1.0");
    announce(&world, &app, "1.1.0", Verdict::Kept);

    app.edit_file("main.py", "print(\"app\", VERSION)", "raise ValueError(\"no sensor\")").unwrap();
    release(&app, "1.1.0", "1.2.0");
    announce(&world, &app, "1.2.0", Verdict::RolledBack);
    let crashed = world.wait_outcome("pico-desk", "1.2.0").unwrap();
    assert_eq!(crashed.reason, Some(Reason::Exited));
    assert!(crashed.text.contains("ValueError: no sensor"), "{crashed:#?}");
    assert!(crashed.log_tail.iter().any(|line| line.contains("main.py\", line 9")), "{crashed:#?}");

    app.edit_file("main.py", "raise ValueError(\"no sensor\")", "while True:\n    pass").unwrap();
    release(&app, "1.2.0", "1.3.0");
    announce(&world, &app, "1.3.0", Verdict::RolledBack);
    let hung = world.wait_outcome("pico-desk", "1.3.0").unwrap();
    assert!(hung.text.contains("no sign of life"), "{hung:#?}");

    let report = world.wait_report("pico-desk", "its report", |report| report.apps.first().cloned()).unwrap();
    assert_eq!(report.installed.unwrap().version, "1.1.0");
    let info = retained(&world, "info");
    assert_eq!(
        (&info["kind"], &info["via"], &info["serial"]),
        (&"pico".into(), &"pi-1".into(), &SERIAL.into())
    );

    let pico = bridge.pico().unwrap();
    if let Some(kept_out) = pico.mpremote(&["fs", "cat", ":/deploy/slots"]).unwrap() {
        assert_ne!(kept_out.code, Some(0), "the bridge has the port: {kept_out:?}");
    }
    assert_eq!(bridge.stop().unwrap(), Some(0));
    let Some(read) = bridge.pico().unwrap().mpremote(&["fs", "cat", ":/deploy/slots"]).unwrap() else {
        println!("skipped: needs mpremote");
        return;
    };
    let tree = retained(&world, "app/blink/version")["tree_hash"].as_str().unwrap()[..16].to_owned();
    assert!(read.stdout.contains(&format!("\"cur\": \"{tree}\"")), "{read:?}");
}

#[test]
fn what_fails_three_times_is_not_tried_again_and_what_is_not_for_a_pico_is_refused() {
    let Some((mut world, _bridge, app)) = desk() else { return };
    announce(&world, &app, "1.0.0", Verdict::Kept);
    app.edit_file("main.py", "print(\"app\", VERSION)", "raise ValueError(\"no sensor\")").unwrap();
    app.edit_file("deploybus.toml", "tries = 2", "tries = 1").unwrap();
    release(&app, "1.0.0", "1.1.0");
    for _ in 0..3 {
        announce(&world, &app, "1.1.0", Verdict::RolledBack);
    }
    announce(&world, &app, "1.1.0", Verdict::Failed);
    assert_eq!(world.wait_outcome("pico-desk", "1.1.0").unwrap().reason, Some(Reason::Quarantined));

    let web = world.app().unwrap();
    world.announce_only(&web, "desk").unwrap();
    let refused = world.wait_outcome("pico-desk", "1.0.0").unwrap();
    assert_eq!(refused.reason, Some(Reason::NoPart));
    world.add_node("pi-2", &["desk"]).unwrap();
    assert_eq!(world.wait_outcome("pi-2", "1.1.0").unwrap().reason, Some(Reason::NoPart));
    assert_eq!(world.wait_outcome("pi-2", "1.0.0").unwrap().verdict, Verdict::Kept);
}
