use super::*;

/// Sunday, 2027-01-03 12:00:00 UTC.
const SUNDAY: UnixTime = UnixTime(1_798_977_600);

#[test]
fn nothing_holds_a_node_that_sets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut judge = judge(folder.path(), HoldSettings::default());
    assert!(!judge.is_any() && judge.look(SUNDAY).is_empty());
}

#[test]
fn a_lock_file_holds_while_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("hold");
    let mut judge = judge(folder.path(), HoldSettings { lock: Some(lock.clone()), ..Default::default() });
    assert_eq!(codes(&mut judge), []);
    fs::write(&lock, "").unwrap();
    assert_eq!(codes(&mut judge), [Lock]);
    fs::remove_file(&lock).unwrap();
    assert_eq!(codes(&mut judge), []);
    // What cannot be looked for may be there.
    fs::write(&lock, "").unwrap();
    judge.settings.lock = Some(lock.join("below a file"));
    assert!(judge.look(SUNDAY).iter().all(|hold| hold.text.contains("readable")));
    assert_eq!(codes(&mut judge), [Lock]);
}

#[test]
fn a_hot_processor_must_be_cooler_by_five_degrees_before_anything_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let zone = folder.path().join("sys/class/thermal/thermal_zone0");
    fs::create_dir_all(&zone).unwrap();
    let mut judge = judge(folder.path(), HoldSettings { max_temperature_c: Some(75), ..Default::default() });
    assert_eq!(codes(&mut judge), [], "without a sensor nothing is known");
    let mut is_held_at = |millidegrees: u32| {
        fs::write(zone.join("temp"), format!("{millidegrees}\n")).unwrap();
        codes(&mut judge) == [Temperature]
    };
    let seen = [75_000, 75_100, 74_000, 70_100, 70_000, 74_900, 75_200].map(&mut is_held_at);
    assert_eq!(seen, [false, true, true, true, false, false, true]);
}

#[test]
fn a_low_voltage_is_found_among_the_sensors() {
    let folder = tempfile::tempdir().unwrap();
    let sensor = |number: u8, name: &str, alarm: &str| {
        let sensor = folder.path().join(format!("sys/class/hwmon/hwmon{number}"));
        fs::create_dir_all(&sensor).unwrap();
        fs::write(sensor.join("name"), format!("{name}\n")).unwrap();
        fs::write(sensor.join("in0_lcrit_alarm"), format!("{alarm}\n")).unwrap();
    };
    let mut judge = judge(folder.path(), HoldSettings { undervoltage: true, ..Default::default() });
    assert_eq!(codes(&mut judge), []);
    sensor(0, "cpu_thermal", "1");
    sensor(1, "rpi_volt", "0");
    assert_eq!(codes(&mut judge), []);
    sensor(1, "rpi_volt", "1");
    assert_eq!(codes(&mut judge), [Undervoltage]);
}

#[test]
fn a_disk_with_too_little_room_holds() {
    let folder = tempfile::tempdir().unwrap();
    let mut judge = judge(folder.path(), HoldSettings { min_free_bytes: Some(1), ..Default::default() });
    assert_eq!(codes(&mut judge), []);
    judge.settings.min_free_bytes = Some(u64::MAX);
    assert_eq!(codes(&mut judge), [Disk]);
    judge.data = folder.path().join("gone");
    assert_eq!(codes(&mut judge), [Disk]);
}

#[test]
fn a_closed_window_says_when_it_opens_and_an_unset_clock_that_nobody_knows() {
    let folder = tempfile::tempdir().unwrap();
    let windows = Windows::try_from(vec!["Mon 02:00-05:00".to_owned()]).unwrap();
    let judge = judge(folder.path(), HoldSettings { windows, consent: true, ..Default::default() });
    let hold = judge.window(SUNDAY, false, &TimeZone::UTC).unwrap();
    assert_eq!((hold.code, hold.until), (Window, Some(SUNDAY.plus_secs(14 * 3_600))));
    assert_eq!(hold.text, "its maintenance window (Mon 02:00-05:00)");
    let opened = SUNDAY.plus_secs(15 * 3_600);
    assert_eq!(judge.window(opened, false, &TimeZone::UTC), None);
    assert_eq!(judge.window(opened, true, &TimeZone::UTC).unwrap().until, None);
    assert_eq!(judge.consent().unwrap().text, "a yes: `publisher request pi-1 install`");
}

fn judge(folder: &Path, settings: HoldSettings) -> Judge {
    let judge = Judge::new(settings, "pi-1".parse().unwrap(), folder.to_owned());
    Judge { root: folder.to_owned(), ..judge }
}

fn codes(judge: &mut Judge) -> Vec<HoldCode> {
    judge.look(SUNDAY).iter().map(|hold| hold.code).collect()
}
