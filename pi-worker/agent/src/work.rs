//! Work that blocks, such as hashing and writing: beside the loop, which is a single thread.

/// What `work` gives.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down; nobody waits any more.
            Err(_) => std::future::pending().await,
        },
    }
}
