//! Guard and upload helper on a littlefs in a file: nothing that happens to a Pico leaves it without a whole release.

use super::run;

macro_rules! stories {
    ($($story:ident)*) => {
        $(
            #[test]
            fn $story() {
                if run("lives.py", stringify!($story)).is_none() {
                    println!("skipped: needs MicroPython's unix port");
                }
            }
        )*
    };
}

stories! {
    a_normal_boot_writes_nothing
    what_crashes_three_times_is_rolled_back
    what_hangs_is_rolled_back
    what_is_no_code_is_rolled_back
    a_rolled_back_release_may_be_tried_again
    an_app_of_timers_lives_and_is_kept
    what_was_kept_and_crashes_leaves_time_to_reach_it
    an_upload_that_is_cut_goes_on_where_it_was
    what_came_wrong_is_not_kept
    what_ran_before_goes_when_room_is_needed
}

#[test]
fn the_power_may_fail_at_every_write() {
    cuts("clean");
}

#[test]
fn the_power_may_fail_in_the_middle_of_every_write() {
    cuts("torn");
}

/// The control shows that there is something to be seen: replaced in place, releases are torn.
fn cuts(kind: &str) {
    let Some(said) = run("cuts.py", kind) else {
        println!("skipped: needs MicroPython's unix port");
        return;
    };
    println!("{said}");
    let stories: serde_json::Value = serde_json::from_str(&said).unwrap();
    for (story, least) in [("kept", 35), ("rolled_back", 40)] {
        let (cuts, bad) = (stories[story]["cuts"].as_u64(), stories[story]["bad"].as_u64());
        assert!(cuts >= Some(least), "{story}: {said}");
        assert_eq!(bad, Some(0), "{story}: {said}");
    }
    assert!(stories["overwritten"]["bad"].as_u64() >= Some(3), "{said}");
}
