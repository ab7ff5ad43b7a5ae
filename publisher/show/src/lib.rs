//! How a fleet reads, on the command line and on the broker's page: the same words, tables, lines, amounts and JSON.
//!
//! Pure but for the time zone of the machine, so that tests compare whole outputs. What only one of them shows is there.

pub mod amount;
pub mod board;
mod clean;
pub mod log;
pub mod rollout;
pub mod status;
pub mod watch;
pub mod why;

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};
use schemas::{hold::HoldCode, status::Phase, time::UnixTime};

pub use self::clean::{clean, json, printable};

/// Columns as wide as their widest cell, two spaces apart.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|name| name.len())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = line(header.to_vec());
    for row in rows {
        let _ = write!(text, "\n{}", line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// What holds a node back, and until when where that is known.
pub type Held = (Option<HoldCode>, Option<UnixTime>);

/// What a node does now, as in `fetching, 41 %` or `deferred (window) until Mon 02:00, waits for its window`.
pub fn doing(phase: Phase, percent: u16, waits_for: &str, held: Held) -> String {
    let mut text = phase_name(phase, held.0);
    match phase {
        Phase::Trial => text.push_str(&until_time(held.1, "%H:%M:%S", &TimeZone::system())),
        _ => text.push_str(&until(held, &TimeZone::system())),
    }
    // Elsewhere the share is a guess and says nothing.
    if matches!(phase, Phase::Fetching | Phase::Staging) && (1..100).contains(&percent) {
        let _ = write!(text, ", {percent} %");
    }
    if !waits_for.is_empty() {
        let _ = write!(text, ", waits for {}", clean(waits_for));
    }
    text
}

/// The phase as people read it, as in `rolling back` or `deferred (lock)`.
pub fn phase_name(phase: Phase, hold: Option<HoldCode>) -> String {
    let name = phase.name().replace('_', " ");
    hold.map_or_else(|| name.clone(), |hold| format!("{name} ({hold})"))
}

/// ` until Mon 02:00`, in local time; a window is never further away than a week. Empty where it is not known.
pub fn until((hold, until): Held, zone: &TimeZone) -> String {
    let form = if hold == Some(HoldCode::Window) { "%a %H:%M" } else { "%Y-%m-%d %H:%M" };
    until_time(until, form, zone)
}

fn until_time(until: Option<UnixTime>, form: &str, zone: &TimeZone) -> String {
    let time = until.and_then(|time| Timestamp::from_second(i64::try_from(time.0).ok()?).ok());
    let local = time.map(|time| time.to_zoned_datetime(zone.clone()).strftime(form).to_string());
    local.map(|time| format!(" until {time}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_have_no_tail() {
        let rows = [
            vec!["a".to_owned(), "ünï".to_owned(), String::new()],
            vec!["long".to_owned(), "b".to_owned(), "c".to_owned()],
        ];
        assert_eq!(table(&["ONE", "TWO", "X"], &rows), "ONE   TWO  X\na     ünï\nlong  b    c");
    }

    #[test]
    fn what_holds_a_node_back_is_said_with_its_local_time() {
        let monday = Some(UnixTime(1_799_020_800 + 3_600));
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(until((Some(HoldCode::Window), monday), &berlin), " until Mon 02:00");
        assert_eq!(until((None, monday), &berlin), " until 2027-01-04 02:00");
        assert_eq!(until((Some(HoldCode::Lock), Some(UnixTime(u64::MAX))), &berlin), "");
        let locked = doing(Phase::Deferred, 0, "the lock file", (Some(HoldCode::Lock), None));
        assert_eq!(locked, "deferred (lock), waits for the lock file");
    }
}
