//! Files that are written in their own time, the newest value only. Losing the last of it must cost nothing.

use std::{error::Error, sync::Arc};

use tokio::{sync::watch, task::JoinHandle};
use tracing::warn;

use crate::{chain::chain, work::blocking};

/// Keeps the newest value of `T` on the disk.
pub(crate) struct Keeper<T> {
    newest: watch::Sender<T>,
    task: JoinHandle<()>,
}

impl<T: Clone + Send + Sync + 'static> Keeper<T> {
    /// One whose disk has `present` already, and which writes by `write`.
    pub(crate) fn start<E: Error + Send + 'static>(
        present: T,
        write: impl Fn(&T) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        let (newest, mut changes) = watch::channel(present);
        let write = Arc::new(write);
        let task = tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let value = changes.borrow_and_update().clone();
                let write = Arc::clone(&write);
                if let Err(error) = blocking(move || write(&value)).await {
                    warn!(error = %chain(&error), "What the node says of itself is not kept on its disk");
                }
            }
        });
        Self { newest, task }
    }

    /// Keeps `value` in place of what was kept before.
    pub(crate) fn keep(&self, value: T) {
        self.newest.send_replace(value);
    }

    /// Ends once the newest is on the disk.
    pub(crate) async fn finish(self) {
        drop(self.newest);
        // It only fails when it panicked, which was said already.
        self.task.await.ok();
    }
}
