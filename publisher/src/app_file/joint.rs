//! `[joint]`: where the part for the Picos of a Pi is, and who takes over first.

use std::path::{Component, Path};

use schemas::release::First;
use serde::Deserialize;

/// What a Pi and the Picos on its USB keep together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joint {
    /// The Picos' folder, below that of the app.
    pub(crate) pico: String,
    /// Who takes over first.
    pub(crate) first: First,
}

#[derive(Deserialize)]
#[serde(try_from = "RawJoint")]
pub(super) struct JointTable(pub(super) Joint);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJoint {
    pico: String,
    #[serde(default = "pico_first")]
    first: First,
}

/// A Pico is slower to bring something to, and quicker to bring back.
fn pico_first() -> First {
    First::Pico
}

impl TryFrom<RawJoint> for JointTable {
    type Error = String;

    fn try_from(raw: RawJoint) -> Result<Self, String> {
        let pico = raw.pico.trim_end_matches('/').to_owned();
        let mut components = Path::new(&pico).components();
        let is_below = components.by_ref().all(|component| matches!(component, Component::Normal(_)));
        if pico.is_empty() || !is_below {
            return Err(format!("`pico = {:?}` is no folder below this one", raw.pico));
        }
        Ok(Self(Joint { pico, first: raw.first }))
    }
}
