use super::*;

/// Monday, 2027-01-04 00:00:00 UTC.
const MONDAY: u64 = 1_799_020_800;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

#[test]
fn every_day_of_the_week_has_its_window_and_no_other() {
    for (day, name) in DAYS.iter().enumerate() {
        let windows = windows(&[&format!("{name} 02:00-05:00")]);
        for at in 0..7 {
            let at_night = MONDAY + at * DAY + 3 * HOUR;
            assert_eq!(windows.opens(UnixTime(at_night), &TimeZone::UTC).is_ok(), at == day as u64, "{name}");
        }
        let opens = MONDAY + day as u64 * DAY + 2 * HOUR;
        assert_eq!(next(&windows, opens - 1), Some(opens));
        assert_eq!(next(&windows, opens + 3 * HOUR), Some(opens + 7 * DAY));
    }
}

#[test]
fn a_window_begins_with_its_first_minute_and_ends_before_its_last() {
    let windows = windows(&["Mon-Fri 02:00-05:00", "Sat,Sun"]);
    let is_open = |secs| windows.opens(UnixTime(MONDAY + secs), &TimeZone::UTC).is_ok();
    assert!(!is_open(2 * HOUR - 1) && is_open(2 * HOUR) && is_open(5 * HOUR - 1) && !is_open(5 * HOUR));
    assert!(!is_open(5 * DAY - 1) && is_open(5 * DAY) && is_open(7 * DAY - 1) && !is_open(7 * DAY));
    assert_eq!(next(&windows, MONDAY + 4 * DAY + 6 * HOUR), Some(MONDAY + 5 * DAY));
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    let windows = windows(&["Sun 22:00-04:00"]);
    let is_open = |secs| windows.opens(UnixTime(MONDAY + secs), &TimeZone::UTC).is_ok();
    assert!(is_open(0) && is_open(4 * HOUR - 1) && !is_open(4 * HOUR));
    assert!(!is_open(6 * DAY) && !is_open(6 * DAY + 22 * HOUR - 1) && is_open(6 * DAY + 22 * HOUR));
    assert!(windows.opens(UnixTime(MONDAY + 7 * DAY + HOUR), &TimeZone::UTC).is_ok());
}

#[test]
fn days_may_go_round_the_week_and_hours_without_days_are_for_every_day() {
    let round = windows(&["fri-MON 01:00-02:00"]);
    let open: Vec<u64> = (0..7)
        .filter(|day| round.opens(UnixTime(MONDAY + day * DAY + HOUR), &TimeZone::UTC).is_ok())
        .collect();
    assert_eq!(open, [0, 4, 5, 6]);
    let daily = windows(&["1:00-24:00"]);
    assert_eq!(next(&daily, MONDAY), Some(MONDAY + HOUR));
    assert_eq!(daily.to_string(), "1:00-24:00");
}

#[test]
fn hours_are_those_of_the_node_also_when_its_clocks_change() {
    // Berlin without a database of zones: CET, summer time from the last Sunday of March to that of October.
    let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let opens = |text: &str, now: &str| {
        let now: Timestamp = now.parse().unwrap();
        let now = UnixTime(u64::try_from(now.as_second()).unwrap());
        windows(&[text]).opens(now, &berlin).map_err(|time| time.unwrap().to_string())
    };
    assert_eq!(opens("Mon 02:00-05:00", "2027-01-10T12:00:00Z"), Err("2027-01-11T01:00:00Z".into()));
    assert_eq!(opens("Mon 02:00-05:00", "2027-07-11T12:00:00Z"), Err("2027-07-12T00:00:00Z".into()));
    // 02:00 to 03:00 does not exist on 2027-03-28: what lies within is left out, what goes on behind it opens late.
    assert_eq!(opens("Sun 02:00-02:30", "2027-03-28T00:00:00Z"), Err("2027-04-04T00:00:00Z".into()));
    assert_eq!(opens("Sun 02:00-05:00", "2027-03-28T00:59:00Z"), Err("2027-03-28T01:00:00Z".into()));
    // 02:00 to 03:00 comes twice on 2027-10-31: the window is open both times.
    assert_eq!(opens("Sun 02:00-03:00", "2027-10-31T00:30:00Z"), Ok(()));
    assert_eq!(opens("Sun 02:00-03:00", "2027-10-31T01:30:00Z"), Ok(()));
}

#[test]
fn what_is_no_window_says_why() {
    for (text, why) in [
        ("", "it is empty"),
        ("Mon Tue 02:00-03:00", "more than days and hours"),
        ("Moon", "`Moon` is none of Mon, Tue"),
        ("Mon-", "`` is none of"),
        ("Mon,", "`` is none of"),
        ("Mon 02:00", "`02:00` has no end"),
        ("Mon 25:00-26:00", "`25:00` is no time"),
        ("Mon 02:60-03:00", "`02:60` is no time"),
        ("Mon 2:0-3:00", "`2:0` is no time"),
        ("Mon -1:00-3:00", "`` is no time"),
        ("Mon 24:00-03:00", "no beginning"),
        ("Mon 02:00-02:00", "it ends when it begins, at 02:00"),
        ("Mon 02:00-99999999999:00", "is no time"),
        ("Mon ä:ü-ö:ß", "is no time"),
    ] {
        let error = text.parse::<Window>().unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("Mon-Fri 02:00-05:00"), "{text}: {error}");
    }
}

fn windows(texts: &[&str]) -> Windows {
    Windows::try_from(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn next(windows: &Windows, now: u64) -> Option<u64> {
    windows.opens(UnixTime(now), &TimeZone::UTC).unwrap_err().map(|time| time.0)
}
