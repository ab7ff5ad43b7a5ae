//! What a person should do about the error that ended the program. Each error says it of itself; here they are asked.

use std::io;

use bus_client::problem;

use crate::{
    access::UsersError,
    controller::{KeyError, WireError},
    folder::FolderError,
    log::LogError,
    nodes::NodesError,
    notify::NotifyError,
    relay::RelayError,
    settings::SettingsError,
    store::StoreError,
    tls::TlsError,
};

/// Where the disk does not do what is asked for.
pub(crate) const DISK: &str =
    "see that this user may write to the data folder, and that its disk has space and is well";
/// Where the system has no more.
pub(crate) const SYSTEM: &str = "see that this machine has memory and threads left";

/// The error as it is printed.
pub(crate) fn render(error: &anyhow::Error) -> String {
    let advice = error.chain().find_map(|cause| {
        let of = [
            cause.downcast_ref().map(SettingsError::advice),
            cause.downcast_ref().map(FolderError::advice),
            cause.downcast_ref().map(UsersError::advice),
            cause.downcast_ref().map(NodesError::advice),
            cause.downcast_ref().map(TlsError::advice),
            cause.downcast_ref().map(KeyError::advice),
            cause.downcast_ref().map(WireError::advice),
            cause.downcast_ref().map(RelayError::advice),
            cause.downcast_ref().map(LogError::advice),
            cause.downcast_ref().map(NotifyError::advice),
            cause.downcast_ref().map(StoreError::advice),
        ];
        of.into_iter().flatten().next()
    });
    problem::render(format!("{error:#}"), advice)
}

/// Of an address at which nobody can listen.
pub(crate) fn of_address(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "stop the program that listens there (`ss -ltnp` names it), or choose another port in the settings"
        }
        io::ErrorKind::AddrNotAvailable => {
            "choose an address of this machine in the settings (`ip address` shows them)"
        }
        io::ErrorKind::PermissionDenied => {
            "choose a port above 1023 in the settings, or let systemd start it"
        }
        _ => "choose another address in the settings",
    }
}
