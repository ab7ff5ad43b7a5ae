//! Asking a Pico who it is and what is on it: its own state decides, never what is remembered of it.

use std::time::Duration;

use crate::{
    guard::{PROBE, Probed},
    repl::{Repl, ReplError},
};

/// It reads a few small files.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks a Pico that was interrupted.
///
/// # Errors
/// When it does not answer what was asked.
pub(crate) async fn probe(repl: &mut Repl<'_>) -> Result<Probed, ReplError> {
    let said = repl.run(PROBE, PATIENCE).await?;
    serde_json::from_str(said.trim()).map_err(|error| ReplError::Unexpected(error.to_string()))
}
