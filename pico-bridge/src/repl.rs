//! The raw REPL of a device on a port: code is run there, with a limit of time for each answer.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::{
    port::{Port, PortError},
    raw_paste::{Event, RawPaste},
};

/// What runs is interrupted again after so long without an answer.
const ENTER_AGAIN: Duration = Duration::from_millis(800);
/// A device whose program does not hear Ctrl-C is restarted by its watchdog within 8 s; so long it is waited for.
const ENTER_PATIENCE: Duration = Duration::from_secs(12);
/// A device compiles what is pasted as it comes.
const PASTE_PATIENCE: Duration = Duration::from_secs(8);
/// Silence after which no more of what was said before is expected.
const QUIET: Duration = Duration::from_millis(30);

/// Why the device did not do what it was to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplError {
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("it does not answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("its MicroPython has no raw paste mode: it is older than 1.17, or it is another program")]
    Unsupported,
    #[error("it has too little memory for the code")]
    GaveUp,
    #[error("it answers with an error: {0}")]
    Failed(String),
    #[error("it answers something that was not asked: {0}")]
    Unexpected(String),
}

/// A device that is at its raw REPL.
#[derive(Debug)]
pub(crate) struct Repl<'a> {
    port: &'a Port,
    talk: RawPaste,
}

impl<'a> Repl<'a> {
    /// Interrupts what runs.
    ///
    /// # Errors
    /// When the device is gone or does not answer.
    pub(crate) async fn enter(port: &'a Port) -> Result<Self, ReplError> {
        let mut repl = Self { port, talk: RawPaste::new() };
        let until = Instant::now() + ENTER_PATIENCE;
        while Instant::now() < until {
            repl.talk.enter();
            match timeout(ENTER_AGAIN, repl.next()).await {
                Ok(Ok(Event::Ready)) => {
                    // The answers to earlier interrupts, if several were needed.
                    while let Ok(read) = timeout(QUIET, port.read()).await {
                        read?;
                    }
                    return Ok(repl);
                }
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
        Err(ReplError::Silent(ENTER_PATIENCE))
    }

    /// Runs code to its end, and gives what it printed.
    ///
    /// # Errors
    /// When it raises, when the device is gone, or when it takes longer than `limit`.
    pub(crate) async fn run(&mut self, code: &str, limit: Duration) -> Result<String, ReplError> {
        self.begin(code).await?;
        self.end(limit).await
    }

    /// Has code run, which may be talked to when this returns: what is given before that would be taken for code.
    ///
    /// # Errors
    /// When the device is gone, or does not take the code.
    pub(crate) async fn begin(&mut self, code: &str) -> Result<(), ReplError> {
        self.talk.run(code.as_bytes());
        match timeout(PASTE_PATIENCE, self.next()).await.map_err(|_| ReplError::Silent(PASTE_PATIENCE))?? {
            Event::Running => Ok(()),
            Event::GaveUp => Err(ReplError::GaveUp),
            Event::Unsupported => Err(ReplError::Unsupported),
            other => Err(ReplError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Gives bytes to the code that runs.
    ///
    /// # Errors
    /// When the device is gone.
    pub(crate) async fn give(&mut self, bytes: &[u8]) -> Result<(), ReplError> {
        self.talk.give(bytes);
        self.send().await
    }

    /// What the running code prints next; nothing when it has ended well.
    ///
    /// # Errors
    /// When it raises, when the device is gone, or when it takes longer than `limit`.
    pub(crate) async fn printed(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, ReplError> {
        match timeout(limit, self.next()).await.map_err(|_| ReplError::Silent(limit))?? {
            Event::Printed(bytes) => Ok(Some(bytes)),
            Event::Ended(error) if error.is_empty() => Ok(None),
            Event::Ended(error) => Err(ReplError::Failed(last_line(&error))),
            other => Err(ReplError::Unexpected(format!("{other:?}"))),
        }
    }

    /// What the running code prints until its end.
    ///
    /// # Errors
    /// As of [`Repl::printed`].
    pub(crate) async fn end(&mut self, limit: Duration) -> Result<String, ReplError> {
        /// More is no answer to anything that is asked here.
        const MAX_ANSWER_BYTES: usize = 256 * 1024;
        let (mut said, until) = (Vec::new(), Instant::now() + limit);
        while let Some(bytes) = self.printed(until.saturating_duration_since(Instant::now())).await? {
            said.extend(bytes);
            if said.len() > MAX_ANSWER_BYTES {
                return Err(ReplError::Unexpected("it does not stop printing".to_owned()));
            }
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// Has the device boot; its port goes away then.
    pub(crate) async fn reset(mut self) {
        /// The answer to this is that the port is gone.
        const PATIENCE: Duration = Duration::from_secs(2);
        // Whatever comes, the device boots, or it has gone before.
        let _ = self.run("import machine\nmachine.reset()", PATIENCE).await;
    }

    async fn next(&mut self) -> Result<Event, ReplError> {
        loop {
            self.send().await?;
            if let Some(event) = self.talk.poll_event() {
                return Ok(event);
            }
            let bytes = self.port.read().await?;
            self.talk.receive(&bytes);
        }
    }

    async fn send(&mut self) -> Result<(), ReplError> {
        while let Some(bytes) = self.talk.poll_send() {
            self.port.write(&bytes).await?;
        }
        Ok(())
    }
}

/// The last line of a traceback: it names the exception.
fn last_line(traceback: &[u8]) -> String {
    let text = String::from_utf8_lossy(traceback);
    text.trim().lines().last().unwrap_or_default().to_owned()
}
