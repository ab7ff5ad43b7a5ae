//! What a person should do about the error that ended a command. Each error says it of itself; here they are asked.

use agent::SettingsError;

use crate::{commands::run::CannotRun, nodes::NodesError, simulate::SimulateError};

/// What to do about it.
pub(super) fn of(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let of = [
            cause.downcast_ref().map(SettingsError::advice),
            cause.downcast_ref().map(NodesError::advice),
            cause.downcast_ref().map(CannotRun::advice),
            cause.downcast_ref().map(SimulateError::advice),
        ];
        of.into_iter().flatten().next()
    })
}

/// Whether the settings make no sense.
pub(super) fn is_about_settings(error: &anyhow::Error) -> bool {
    error.is::<SettingsError>() || matches!(error.downcast_ref(), Some(NodesError::Names { .. }))
}
