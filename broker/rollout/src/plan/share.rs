//! How much of a stage: `10%` or `3`.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// From 1 to 100 hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

/// So many nodes, or so much of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many nodes.
    Count(u32),
    /// So much of the stage.
    Percent(Percent),
}

/// Why a text is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a share like \"10%\" nor a number of nodes like \"3\"")]
pub struct InvalidShare(String);

/// Why a text is no part of the whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no share like \"10%\", from 1% to 100%")]
pub struct InvalidPercent(String);

impl Percent {
    /// Everything.
    pub const ALL: Self = Self(100);

    /// From 1 to 100.
    pub fn new(value: u8) -> Option<Self> {
        (1..=100).contains(&value).then_some(Self(value))
    }

    /// Whether `part` of `whole` is as much as this.
    pub fn is_reached_by(self, part: usize, whole: usize) -> bool {
        part * 100 >= whole * usize::from(self.0)
    }

    /// Whether `part` of `whole` is more than this.
    pub fn is_exceeded_by(self, part: usize, whole: usize) -> bool {
        part * 100 > whole * usize::from(self.0)
    }
}

impl Share {
    /// How many of `total` that is: at least one, at most all.
    pub fn of(self, total: usize) -> usize {
        let count = match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
            Self::Percent(Percent(percent)) => (total * usize::from(percent)).div_ceil(100),
        };
        count.clamp(1, total.max(1))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Percent(percent) => percent.fmt(f),
        }
    }
}

impl FromStr for Percent {
    type Err = InvalidPercent;

    fn from_str(text: &str) -> Result<Self, InvalidPercent> {
        let digits = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
        digits.and_then(Self::new).ok_or_else(|| InvalidPercent(text.to_owned()))
    }
}

impl FromStr for Share {
    type Err = InvalidShare;

    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        let percent = || text.parse().map(Self::Percent).ok();
        let count = text.parse::<NonZeroU32>().map(|count| Self::Count(count.get()));
        count.ok().or_else(percent).ok_or_else(|| InvalidShare(text.to_owned()))
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_nobody_and_never_more_than_there_are() {
        let of = |share: &str, total| share.parse::<Share>().unwrap().of(total);
        assert_eq!([of("10%", 1), of("10%", 10), of("10%", 11), of("100%", 7)], [1, 1, 2, 7]);
        assert_eq!([of("3", 2), of("3", 9)], [2, 3]);
        assert_eq!(of("50%", 0), 1);
    }

    #[test]
    fn what_is_no_share_is_said_to_be_none() {
        let said = |text: &str| text.parse::<Percent>().unwrap_err().to_string();
        assert_eq!(
            ["10", "0%", "101%", "ten"].map(said)[1],
            "`0%` is no share like \"10%\", from 1% to 100%"
        );
        for text in ["0", "0%", "101%", "-3", "half"] {
            assert!(text.parse::<Share>().unwrap_err().to_string().contains("nor a number"), "{text}");
        }
    }

    #[test]
    fn a_rate_is_exceeded_by_more_than_itself() {
        let ten = Percent::new(10).unwrap();
        assert!(!ten.is_exceeded_by(1, 10) && ten.is_exceeded_by(1, 9) && !ten.is_exceeded_by(0, 0));
    }
}
