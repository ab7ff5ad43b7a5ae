//! What a person should do about the error that ended a command. Each error says it of itself; here they are asked.

use agent::{
    IdentityError, RunError, SettingsError, enroll::EnrollError, journal::JournalError,
    status_file::StatusFileError,
};

use super::enroll::NotAsked;
use crate::{data::DataError, fault::Failed};

/// What to do about it.
pub(super) fn of(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let of = [
            cause.downcast_ref().map(SettingsError::advice),
            cause.downcast_ref().map(DataError::advice),
            cause.downcast_ref().map(RunError::advice),
            cause.downcast_ref().map(IdentityError::advice),
            cause.downcast_ref().map(EnrollError::advice),
            cause.downcast_ref().map(JournalError::advice),
            cause.downcast_ref().map(StatusFileError::advice),
            cause.downcast_ref().map(NotAsked::advice),
            cause.downcast_ref().map(Failed::advice),
        ];
        of.into_iter().flatten().next()
    })
}

/// Whether the settings make no sense.
pub(super) fn is_about_settings(error: &anyhow::Error) -> bool {
    error.is::<SettingsError>() || matches!(error.downcast_ref(), Some(DataError::Settings(_)))
}
