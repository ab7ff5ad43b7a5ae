//! Maintenance windows: times of the week, in the node's own time zone, in which it may begin with an order.

use std::{fmt, str::FromStr};

use jiff::{
    Timestamp, ZonedDateTime,
    civil::{DateTime, Weekday},
    tz::TimeZone,
};
use schemas::time::UnixTime;
use serde::Deserialize;

const MINUTES_PER_DAY: u16 = 24 * 60;
/// A window comes every week; one that a change of the clocks skips comes a week later.
const DAYS_AHEAD: usize = 15;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Windows as settings list them; the node may begin in any of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Windows(Vec<Window>);

/// The same hours on some days of the week; hours over midnight belong to the day on which they begin.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    text: String,
    /// From Monday.
    days: [bool; 7],
    from_minute: u16,
    to_minute: u16,
}

/// Why a text is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no window: {why}; write it as \"Mon-Fri 02:00-05:00\", \"Sat,Sun\" or \"22:00-04:00\"")]
pub struct WindowError {
    text: String,
    why: String,
}

impl Windows {
    /// Whether there are none, so that every time is good.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next window opens; nothing while one is open.
    pub(crate) fn opens(&self, now: UnixTime, zone: &TimeZone) -> Result<(), Option<UnixTime>> {
        let now = at(now, zone).ok_or(None)?;
        if self.is_open(now.datetime()) {
            return Ok(());
        }
        let dates = now.date().series(jiff::Span::new().days(1)).take(DAYS_AHEAD);
        let openings = dates.flat_map(|date| {
            let of_day = self.0.iter().filter(move |window| window.is_of(date.weekday()));
            of_day.filter_map(move |window| {
                let (hour, minute) = (window.from_minute / 60, window.from_minute % 60);
                date.at(hour as i8, minute as i8, 0, 0).to_zoned_datetime(zone.clone()).ok()
            })
        });
        // At a time that the clocks skip nothing opens.
        let next = openings.filter(|opening| *opening > now && self.is_open(opening.datetime())).min();
        Err(next.and_then(|next| u64::try_from(next.timestamp().as_second()).ok()).map(UnixTime))
    }

    fn is_open(&self, now: DateTime) -> bool {
        let minute = u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs());
        self.0.iter().any(|window| window.has(now.weekday(), minute))
    }
}

impl TryFrom<Vec<String>> for Windows {
    type Error = WindowError;

    fn try_from(texts: Vec<String>) -> Result<Self, WindowError> {
        texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(|window| window.text.as_str()).collect();
        f.write_str(&texts.join(", "))
    }
}

impl Window {
    fn is_of(&self, day: Weekday) -> bool {
        self.days[index(day)]
    }

    fn has(&self, day: Weekday, minute: u16) -> bool {
        let (from, to) = (self.from_minute, self.to_minute);
        if from < to {
            return self.is_of(day) && (from..to).contains(&minute);
        }
        self.is_of(day) && minute >= from || self.is_of(day.previous()) && minute < to
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let fail = |why: String| WindowError { text: text.to_owned(), why };
        let joined = text.replace(", ", ",");
        let words: Vec<&str> = joined.split_whitespace().collect();
        let (days, hours) = match words.as_slice() {
            [hours] if hours.contains(':') => (None, Some(*hours)),
            [days] => (Some(*days), None),
            [days, hours] => (Some(*days), Some(*hours)),
            [] => return Err(fail("it is empty".into())),
            _ => return Err(fail("it has more than days and hours".into())),
        };
        let days = days.map_or(Ok([true; 7]), parse_days).map_err(fail)?;
        let (from_minute, to_minute) = hours.map_or(Ok((0, MINUTES_PER_DAY)), parse_hours).map_err(fail)?;
        Ok(Self { text: words.join(" "), days, from_minute, to_minute })
    }
}

fn parse_days(text: &str) -> Result<[bool; 7], String> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (parse_day(first)?, parse_day(last)?);
        while day != last {
            days[day] = true;
            day = (day + 1) % 7;
        }
        days[last] = true;
    }
    Ok(days)
}

fn parse_day(text: &str) -> Result<usize, String> {
    let found = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("`{text}` is none of {}", DAYS.join(", ")))
}

fn parse_hours(text: &str) -> Result<(u16, u16), String> {
    let (from, to) = text.split_once('-').ok_or_else(|| format!("`{text}` has no end"))?;
    let (from_minute, to_minute) = (parse_time(from)?, parse_time(to)?);
    if from_minute == MINUTES_PER_DAY {
        return Err("24:00 is the end of a day, no beginning".into());
    }
    if from_minute == to_minute {
        return Err(format!("it ends when it begins, at {from}"));
    }
    Ok((from_minute, to_minute))
}

fn parse_time(text: &str) -> Result<u16, String> {
    let digits = |text: &str| {
        let good = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        good.then(|| text.parse::<u16>().ok()).flatten()
    };
    let time = text.split_once(':').and_then(|(hour, minute)| {
        let minute = digits(minute).filter(|at| *at < 60 && minute.len() == 2)?;
        Some(digits(hour)? * 60 + minute)
    });
    time.filter(|time| *time <= MINUTES_PER_DAY)
        .ok_or_else(|| format!("`{text}` is no time from 00:00 to 24:00"))
}

fn at(time: UnixTime, zone: &TimeZone) -> Option<ZonedDateTime> {
    let seconds = i64::try_from(time.0).ok()?;
    Some(Timestamp::from_second(seconds).ok()?.to_zoned_datetime(zone.clone()))
}

fn index(day: Weekday) -> usize {
    usize::from(day.to_monday_zero_offset().unsigned_abs())
}

#[cfg(test)]
mod tests;
