//! Ctrl-C that ends with everything cleaned up.

use anyhow::Result;

/// Returns when the user presses Ctrl-C or the process is asked to end.
///
/// # Errors
/// When signals cannot be watched.
pub fn wait_for_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted?,
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}
