//! How long work is told that nobody waits for its result any more.

use tokio::sync::watch;

/// Tells long work to end early; its result is not wanted any more.
#[derive(Debug, Clone)]
pub struct Cancel(watch::Receiver<bool>);

/// The other end of a [`Cancel`]. Dropping it cancels nothing.
#[derive(Debug)]
pub struct Canceller(watch::Sender<bool>);

impl Cancel {
    /// Both ends.
    pub fn pair() -> (Canceller, Self) {
        let (sender, receiver) = watch::channel(false);
        (Canceller(sender), Self(receiver))
    }

    /// One that never cancels.
    pub fn never() -> Self {
        Self::pair().1
    }

    /// Whether the work should end.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the work should end, for ever if it never should.
    pub async fn cancelled(&self) {
        if self.0.clone().wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Canceller {
    /// Tells the work to end.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_cancelled_work_hears_it_now_and_later() {
        let (canceller, cancel) = Cancel::pair();
        let other = cancel.clone();
        assert!(!cancel.is_cancelled() && cancel.cancelled().now_or_never().is_none());
        canceller.cancel();
        drop(canceller);
        assert!(cancel.is_cancelled());
        other.cancelled().await;
    }

    #[tokio::test]
    async fn a_dropped_canceller_cancels_nothing() {
        let cancel = Cancel::never();
        assert!(!cancel.is_cancelled() && cancel.cancelled().now_or_never().is_none());
    }
}
