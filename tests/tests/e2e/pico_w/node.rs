//! A Pico W as a node of its own: what is announced comes over the bus, proves itself, and is reported signed.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, process::Stdio};

use e2e::{Forge, now};
use schemas::{
    announcement::Announcement,
    id::{AppId, Digest, GroupId, Revision},
    mandate::Mandate,
    order::Order,
    reason::Reason,
    report::Verdict,
    seal::{Head, SecretKey, Signed},
    time::UnixTime,
};

use super::world::{LOOP, PicoWorld};

#[test]
fn what_is_announced_is_kept_and_only_what_changed_is_fetched() {
    let Some(pico) = PicoWorld::new() else { return };
    let sounds = vec![7; 50_000];
    let more: &[(&str, &[u8])] = &[("lib/x.py", b"x = 1\n"), ("sounds.bin", &sounds), ("empty/.keep", b"")];
    let (code, told) = pico.announce(&pico.app("1.0.0", LOOP, more), "canary");
    assert_eq!(code, Some(0), "{told}\n{}", pico.said());
    assert!(told["nodes"][0]["fetched_bytes"].as_u64() > Some(50_000), "{told}");
    let first = pico.report("what it runs", |report| report.apps[0].installed.clone());
    assert_eq!(
        (first.version.as_str(), first.tree_hash.to_string()),
        ("1.0.0", told["tree_hash"].as_str().unwrap().into())
    );

    let changed = format!("{LOOP}# another\n");
    let (code, told) = pico.announce(&pico.app("2.0.0", &changed, more), "canary");
    assert_eq!(code, Some(0), "{told}\n{}", pico.said());
    assert!(told["nodes"][0]["fetched_bytes"].as_u64() < Some(2_000), "{told}");
    let previous = pico.report("what it ran", |report| report.apps[0].previous.clone());
    assert_eq!(previous.version, "1.0.0");

    // The same announcement after a restart is nothing new.
    let before = pico.said().matches("fetching").count();
    let mut pico = pico;
    pico.power_off();
    pico.power_on();
    pico.report("a report of the next boot", |report| (report.boot >= 4).then_some(()));
    assert_eq!(pico.said().matches("fetching").count(), before, "{}", pico.said());
}

#[test]
fn what_crashes_or_hangs_or_loses_the_bus_is_rolled_back() {
    let Some(pico) = PicoWorld::new() else { return };
    assert_eq!(pico.announce(&pico.app("1.0.0", LOOP, &[]), "canary").0, Some(0), "{}", pico.said());
    let lost = LOOP.replace("while", "deploy_guard.works.clear()\nwhile");
    for (version, main, reason, says) in [
        ("2.0.0", "raise ValueError('no sensor')\n", Reason::Exited, "no sensor"),
        ("3.0.0", "while True:\n    pass\n", Reason::TriesUsedUp, "no sign of life"),
        ("4.0.0", &lost, Reason::BusLost, "not back on the bus"),
    ] {
        let (code, told) = pico.announce(&pico.app(version, main, &[]), "canary");
        assert_ne!(code, Some(0), "{told}");
        let outcome = pico.outcome(version);
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::RolledBack, Some(reason)), "{outcome:?}");
        assert!(outcome.text.contains(says), "{outcome:?}");
        assert_eq!(pico.installed(), "1.0.0");
    }
    assert_eq!(
        pico.announce(&pico.app("5.0.0", LOOP, &[("x", b"")]), "canary").0,
        Some(0),
        "{}",
        pico.said()
    );
}

#[test]
fn forged_foreign_and_replayed_orders_change_nothing() {
    let Some(pico) = PicoWorld::new() else { return };
    let world = &pico.world;
    assert_eq!(pico.announce(&pico.app("1.0.0", LOOP, &[]), "canary").0, Some(0), "{}", pico.said());
    let (forge, mut bus) = (world.forge().unwrap(), world.raw_publisher().unwrap());
    let topic = format!("{}/v1/release/canary/blink", forge.trust.fleet());
    let genuine = bus.retained(&topic, std::time::Duration::from_millis(300)).unwrap()[&topic].clone();

    // Signed by nobody of the fleet.
    let (app, group) = ("blink".parse().unwrap(), "canary".parse().unwrap());
    let release = forge.release(&app, Digest::of(b"evil"), 10, 10);
    let mut forged =
        forge.announcement(&forge.order(&group, &app, Digest::of(b""), Revision(u64::MAX / 2)), &release);
    let order = forge.order(&group, &app, forged.release.digest(), Revision(u64::MAX / 2));
    forged.order = Signed::seal(&order, &[SecretKey::from_seed(&[7; 32])]);
    bus.publish(&topic, &forged.to_bytes(), true).unwrap();
    let refusal = |reason| {
        pico.report(&format!("the refusal {reason}"), |report| {
            report.refusals.iter().find(|refusal| refusal.reason == reason).cloned()
        })
    };
    assert!(refusal(Reason::BadSignature).attack);

    // An older one than it has seen.
    assert_eq!(pico.announce(&pico.app("2.0.0", LOOP, &[]), "canary").0, Some(0), "{}", pico.said());
    bus.publish(&topic, &genuine, true).unwrap();
    assert!(refusal(Reason::Replayed).attack);
    // Rubbish.
    bus.publish(&topic, &[0xff; 500], true).unwrap();
    refusal(Reason::Malformed);
    bus.publish(&topic, &vec![0; 60_000], true).unwrap();
    refusal(Reason::TooLarge);
    // A byte where the root documents are does not keep it off the bus: it is asked for at each connecting.
    let trust = format!("{}/v1/trust", forge.trust.fleet());
    bus.publish(&trust, &[0xff], true).unwrap();
    pico.report("the refusal of a byte", |report| {
        report.refusals.iter().any(|refusal| refusal.topic == trust).then_some(())
    });
    // What a controller says of the time counts for nothing, or nothing later would be believed again.
    bus.publish(&topic, &of_another_century(&forge, &genuine).to_bytes(), true).unwrap();
    let (code, told) = pico.announce(&pico.app("2.1.0", LOOP, &[]), "canary");
    assert_eq!(code, Some(0), "{told}\n{}", pico.said());

    // For another kind of device; and for a group that it is not in.
    let (code, told) = pico.announce(&pico.app_for("linux/aarch64", "3.0.0", LOOP, &[]), "canary");
    assert_ne!(code, Some(0), "{told}");
    assert_eq!(told["nodes"][0]["reason"], "no-part", "{told}");
    pico.announce_only(&pico.app("4.0.0", LOOP, &[]), "barn");
    assert_eq!(pico.installed(), "2.1.0");
    assert!(!pico.said().contains("4.0.0"), "{}", pico.said());
}

/// An order for what was released, within a mandate, whose controller says that it is the year 2100.
fn of_another_century(forge: &Forge, genuine: &[u8]) -> Announcement {
    let genuine = Announcement::from_bytes(genuine).unwrap();
    let controller = SecretKey::from_seed(&[9; 32]);
    let (app, group) = ("blink".parse::<AppId>().unwrap(), "canary".parse::<GroupId>().unwrap());
    // Above all that was ordered, and below what is announced next.
    let revision = Revision(now().0 * 1_000);
    let order = forge.order(&group, &app, genuine.release.digest(), revision);
    let mandate = Mandate {
        head: forge.head(),
        app,
        groups: vec![group],
        release: order.release,
        keys: vec![controller.public()],
        first: Revision(revision.0 - 1),
        last: revision,
        expires: order.expires,
    };
    let head = Head { issued_at: UnixTime(4_102_444_800), ..forge.head() };
    let order = Order { head, continues: Some(mandate.first), ..order };
    Announcement {
        order: Signed::seal(&order, &[controller]),
        release: genuine.release,
        mandate: Some(Signed::seal(&mandate, std::slice::from_ref(&forge.ops_key))),
    }
}

#[test]
fn a_download_goes_on_after_the_broker_and_the_pico_were_cut_off() {
    let Some(mut pico) = PicoWorld::new() else { return };
    let large: Vec<u8> = (0..100_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let questions = pico.questions();
    pico.announce_only(&pico.app("1.0.0", LOOP, &[("large.bin", &large)]), "canary");
    pico.wait_questions(questions, 30);
    pico.world.kill_broker().unwrap();
    pico.wait_said("offline");
    pico.world.start_broker().unwrap();
    let questions = pico.questions();
    pico.wait_questions(questions, 40);
    pico.power_off();
    pico.power_on();
    let outcome = pico.outcome("1.0.0");
    assert_eq!(outcome.verdict, Verdict::Kept, "{outcome:?}\n{}", pico.said());
    // Each time from where it was: 30 pieces of 4 KiB, and of 40 those that had been flushed.
    assert!(outcome.fetched_bytes < 220_000, "{outcome:?}");
}

#[test]
fn without_a_time_server_it_comes_in_by_what_was_signed_and_says_so() {
    let Some(mut pico) = PicoWorld::new() else { return };
    assert!(!pico.report("a report", |report| Some(report.clock_unset)));
    pico.power_off();
    pico.power_on_with(&[("PICO_RTC", "1")]);
    pico.report("a report that says so", |report| report.clock_unset.then_some(()));
    assert!(pico.said().contains("clock (20"), "{}", pico.said());
}

#[test]
fn an_update_goes_on_wherever_the_power_fails() {
    let Some(mut pico) = PicoWorld::new() else { return };
    assert_eq!(pico.announce(&pico.app("1.0.0", LOOP, &[]), "canary").0, Some(0), "{}", pico.said());
    pico.power_off();
    let flash = pico.flash();
    let before = fs::read(&flash).unwrap();
    pico.announce_only(&pico.app("2.0.0", LOOP, &[("x.py", &[b'#'; 9_000])]), "canary");
    // All of them were tried by hand: from the first write of the boot counter to the last one before the reset.
    for (number, cut) in ["2", "7", "13", "19"].iter().enumerate() {
        fs::write(&flash, &before).unwrap();
        pico.power_on_with(&[("PICO_CUT", cut)]);
        pico.wait_said_times("ended: cut", number + 1);
        pico.wait_said_times("\"state\": \"kept\"", number + 2);
        pico.power_off();
    }
}

#[test]
fn secrets_of_a_pico_are_written_for_the_owner_and_printed_nowhere() {
    let Some(pico) = PicoWorld::new() else { return };
    let tree = pico.tree();
    let config = fs::read_to_string(tree.join("deploy/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let mode = fs::metadata(tree.join("deploy/config.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    pico.report("a report", |report| Some(report.boot));
    for secret in ["key", "password"] {
        assert!(!pico.said().contains(config[secret].as_str().unwrap()));
    }
    // The password of the Wi-Fi comes on standard input, goes into the file and nowhere else.
    let out = pico.world.folder().join("again");
    let command = ["pico", "config", "pico-w", "--wifi-ssid", "Garden", "--wifi-password-stdin", "--out"];
    let mut publisher = pico.world.publisher_command(&command).unwrap();
    let mut asked = { publisher.arg(&out) }.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    asked.stdin.take().unwrap().write_all(b"roses are red\n").unwrap();
    let told = String::from_utf8(asked.wait_with_output().unwrap().stdout).unwrap();
    let config = fs::read_to_string(out.join("deploy/config.json")).unwrap();
    assert!(
        config.contains("roses are red") && told.contains("mpremote cp") && !told.contains("roses"),
        "{told}"
    );
    let plain = [&command[..4], &["Garden", "--wifi-open", "--bus", "mqtt://bus.lan", "--out", "y"]].concat();
    let refused = pico.world.publisher(&plain).unwrap();
    assert!(refused.stderr.contains("over TLS alone"), "{}", refused.stderr);
    let refused =
        pico.world.publisher(&["pico", "config", "pico-w", "--wifi-ssid", "x", "--out", "y"]).unwrap();
    assert!(refused.stderr.contains("--wifi-password-stdin"), "{}", refused.stderr);
}

#[test]
fn a_broker_with_a_certificate_of_another_ca_is_told_nothing() {
    let Some(mut pico) = PicoWorld::new() else { return };
    pico.report("a report", |report| Some(report.boot));
    pico.power_off();
    let stranger = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    fs::write(pico.tree().join("deploy/ca.der"), stranger.cert.der()).unwrap();
    fs::remove_file(pico.flash()).unwrap();
    pico.power_on();
    pico.wait_said("The certificate is not correctly signed by the trusted CA");
}
