//! The scenarios that are marked `# real`, with real processes: what the simulator shows is what happens.

use std::{collections::BTreeSet, fs, path::Path};

use e2e::scenario::Scenario;

/// A test for each story.
macro_rules! stories {
    ($($test:ident $name:literal)*) => {
        const STORIES: &[&str] = &[$($name),*];
        $(
            #[test]
            fn $test() {
                play($name);
            }
        )*
    };
}

stories! {
    abort_and_keep "abort-and-keep"
    all_well "all-well"
    approval_between_stages "approval-between-stages"
    back_after_three_releases "back-after-three-releases"
    bad_canary "bad-canary"
    deferred_by_a_lock "deferred-by-a-lock"
    every_way_to_break "every-way-to-break"
    late_joiner_after "late-joiner-after"
    max_parallel "max-parallel"
    one_bad_in_wave_two "one-bad-in-wave-two"
    one_per_site "one-per-site"
    paused_by_hand "paused-by-hand"
    resume_knowing_who_failed "resume-knowing-who-failed"
    revert_half_done "revert-half-done"
    superseded_by_a_rollout "superseded-by-a-rollout"
    superseded_by_an_announcement "superseded-by-an-announcement"
}

#[test]
fn every_story_that_is_marked_real_has_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|of| of == "scn"));
    let marked = files.filter(|file| Scenario::parse(&fs::read_to_string(file).unwrap()).unwrap().is_real);
    let marked: BTreeSet<String> =
        marked.map(|file| file.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(marked, STORIES.iter().map(|name| (*name).to_owned()).collect());
}

fn play(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/{name}.scn"));
    let scenario = Scenario::parse(&fs::read_to_string(file).unwrap()).unwrap();
    if let Err(failed) = scenario.play_for_real(|_| {}) {
        panic!("{name}.scn: {failed}\n  {}", failed.timeline.join("\n  "));
    }
}
