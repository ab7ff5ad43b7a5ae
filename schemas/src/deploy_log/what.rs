//! What can happen, a closed list.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::report::Verdict;

macro_rules! whats {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum What {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
            /// Something that a newer version than this one writes.
            #[default]
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl What {
            /// Everything that this version writes.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As the log spells it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unknown => "unknown",
                }
            }
        }
    };
}

whats! {
    /// A release proved itself on a node and stays.
    Installed = "installed";
    /// A release did not prove itself on a node; the one before runs again.
    RolledBack = "rolled_back";
    /// Nothing was switched, or not even going back worked.
    Failed = "failed";
    /// A node did not begin with an order, or did not take a document at all.
    Refused = "refused";
    /// A newer order took its place on a node, or it was withdrawn.
    Superseded = "superseded";
    /// A rollout began.
    RolloutStarted = "rollout_started";
    /// A rollout opens no more waves until somebody resumes it.
    RolloutStopped = "rollout_stopped";
    /// A rollout goes on.
    RolloutResumed = "rollout_resumed";
    /// Every wave of a rollout passed.
    RolloutCompleted = "rollout_completed";
    /// A rollout was given up.
    RolloutAborted = "rollout_aborted";
    /// Another rollout of the app took its place.
    RolloutSuperseded = "rollout_superseded";
    /// A node belongs to the fleet now.
    NodeAdded = "node_added";
    /// A node belongs to it no more.
    NodeRetired = "node_retired";
}

/// Text that names nothing that the log has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is none of {}", names())]
pub struct UnknownWhat;

fn names() -> String {
    What::ALL.iter().map(|what| what.name()).collect::<Vec<_>>().join(", ")
}

impl From<Verdict> for What {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Kept => Self::Installed,
            Verdict::RolledBack => Self::RolledBack,
            Verdict::Failed => Self::Failed,
            Verdict::Refused => Self::Refused,
            Verdict::Superseded => Self::Superseded,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for What {
    type Err = UnknownWhat;

    fn from_str(text: &str) -> Result<Self, UnknownWhat> {
        Self::ALL.iter().copied().find(|what| what.name() == text).ok_or(UnknownWhat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_stable_name() {
        for what in What::ALL {
            assert_eq!(serde_json::to_string(what).unwrap(), format!("\"{what}\""));
            assert_eq!(what.name().parse(), Ok(*what));
        }
        assert_eq!(serde_json::from_str::<What>("\"moon_phase\"").unwrap(), What::Unknown);
        assert!(
            "moon_phase".parse::<What>().unwrap_err().to_string().starts_with("it is none of installed, ")
        );
    }
}
