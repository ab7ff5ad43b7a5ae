//! Who we are to the bus and to the store.

use std::fmt;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// User and password, the same for the bus and for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name of the user; of a node, its node name.
    pub user: String,
    /// Proof of being that user.
    pub password: Password,
}

impl Credentials {
    /// The credentials of `user`.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: Password(password.into()) }
    }
}

/// A password, which never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password in clear, for the one place that sends it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Keeps keys and passwords of this process out of core dumps, and from whoever else has its account and a debugger. Programs
/// that it starts are not concerned.
pub fn keep_out_of_core_dumps() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        // Kernels without prctl(2) do not exist; the program works all the same.
        tracing::debug!(%error, "Core dumps cannot be switched off");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn a_process_with_secrets_leaves_no_core_dump() {
        keep_out_of_core_dumps();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }

    #[test]
    fn a_password_never_shows_in_debug_output() {
        let shown = format!("{:?}", Credentials::new("anna", "hunter2"));
        assert!(shown.contains("anna") && !shown.contains("hunter2"), "{shown}");
    }
}
