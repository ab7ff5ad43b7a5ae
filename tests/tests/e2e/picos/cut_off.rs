//! Picos that are unplugged and bridges that die: the Pico itself says where to go on.

use schemas::report::Verdict;

use super::{announce, desk, release};

/// Bytes of each of the files that a release is made larger by.
const LARGE: usize = 20_000;
/// That many of them.
const FILES: usize = 5;

#[test]
fn a_pico_that_is_unplugged_in_the_middle_is_gone_on_with_when_it_is_back() {
    let Some((world, mut bridge, app)) = desk() else { return };
    announce(&world, &app, "1.0.0", Verdict::Kept);
    make_large(&app);
    release(&app, "1.0.0", "1.1.0");
    bridge.pico().unwrap().tell(&format!("unplug-after {}", 3 * LARGE)).unwrap();
    world.announce_only(&app, "desk").unwrap();
    bridge.pico().unwrap().wait_said("unplugged", 1).unwrap();
    bridge.wait_said("Pico is not there any more", 1).unwrap();
    bridge.pico().unwrap().tell("plug").unwrap();
    assert_eq!(world.wait_outcome("pico-desk", "1.1.0").unwrap().verdict, Verdict::Kept);
    assert!(sent_last(&bridge.said()) < FILES * LARGE, "{}", bridge.said());
}

#[test]
fn a_bridge_that_is_killed_in_the_middle_goes_on_when_it_is_back() {
    let Some((world, mut bridge, app)) = desk() else { return };
    announce(&world, &app, "1.0.0", Verdict::Kept);
    make_large(&app);
    release(&app, "1.0.0", "1.1.0");
    let pico = bridge.pico().unwrap();
    pico.tell(&format!("stall-after {}", 3 * LARGE)).unwrap();
    world.announce_only(&app, "desk").unwrap();
    bridge.pico().unwrap().wait_said("stalled", 1).unwrap();
    bridge.kill().unwrap();
    // Nobody feeds its watchdog: it starts what it ran before.
    bridge.pico().unwrap().wait_said("watchdog", 1).unwrap();
    bridge.start().unwrap();
    assert_eq!(world.wait_outcome("pico-desk", "1.1.0").unwrap().verdict, Verdict::Kept);
    assert!(sent_last(&bridge.said()) < FILES * LARGE, "{}", bridge.said());
}

fn make_large(app: &e2e::App) {
    for number in 0..FILES {
        // None is like another, and all have what would mean something at a prompt: 3, 4 and their like.
        let bytes: Vec<u8> = (0..LARGE).map(|at| (at * (number + 1) % 251) as u8).collect();
        std::fs::write(app.folder().join(format!("data{number}.bin")), bytes).unwrap();
    }
}

/// How many bytes the last upload took.
fn sent_last(said: &str) -> usize {
    let last = said.lines().rfind(|line| line.contains("Release is on the Pico")).unwrap();
    let bytes = last.split("bytes=").nth(1).unwrap();
    bytes.split_whitespace().next().unwrap().parse().unwrap()
}
