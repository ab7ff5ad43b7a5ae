//! How the apps of the simulator behave once they are started.

use schemas::id::Digest;

/// Who knows how releases behave on a node.
pub(crate) trait Behaviours {
    /// How a release behaves.
    fn behaviour(&self, release: &Digest) -> Behaviour;
}

/// What an app does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Healthy after a second, and says what it is.
    Good,
    /// Ends by itself after so long.
    Exits { after_ms: u64 },
    /// Its checks are never good.
    Sick,
    /// Its checks never answer.
    Silent,
    /// Its checks are good and bad in turn, too short for any trial.
    Flaps,
    /// Another release answers when it is asked what it is.
    Stale,
    /// Nothing answers when it is asked what it is.
    Mute,
    /// The bus cannot be reached while it runs.
    CutsOff,
    /// It cannot be started.
    WontStart,
}

/// From a start to the first good answer.
const BOOT_MS: u64 = 1_000;
/// From good to bad and back.
const FLAP_MS: u64 = 3_000;

impl Behaviour {
    /// Whether it runs for as long as it is wanted, once it was started.
    pub(crate) fn stays_up(self) -> bool {
        !matches!(self, Self::Exits { .. } | Self::WontStart)
    }

    /// What the checks say so long after the start; nothing while there was no answer.
    pub(crate) fn health(self, up_ms: u64) -> Option<bool> {
        match self {
            Self::Silent => None,
            _ if up_ms < BOOT_MS => None,
            Self::Sick => Some(false),
            Self::Flaps => Some(((up_ms - BOOT_MS) / FLAP_MS).is_multiple_of(2)),
            _ => Some(true),
        }
    }

    /// When the checks may say something else than so long after the start.
    pub(crate) fn next_health_ms(self, up_ms: u64) -> Option<u64> {
        match self {
            Self::Silent => None,
            _ if up_ms < BOOT_MS => Some(BOOT_MS),
            Self::Flaps => Some(BOOT_MS + ((up_ms - BOOT_MS) / FLAP_MS + 1) * FLAP_MS),
            _ => None,
        }
    }

    /// When it ends by itself, counted from its start.
    pub(crate) fn exit_ms(self) -> Option<u64> {
        match self {
            Self::Exits { after_ms } => Some(after_ms),
            _ => None,
        }
    }
}
