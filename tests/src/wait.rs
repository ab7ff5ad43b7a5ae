//! Waiting for a condition, never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// From one question to the next: twice as long as the question took, so that who waits leaves the processors to who works.
const POLL_EVERY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Asks until there is an answer, at most so long; `what` is for the error.
///
/// # Errors
/// When there was no answer in time.
pub fn wait_until<T>(what: &str, at_most: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        let asked = Instant::now();
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if start.elapsed() > at_most {
            bail!("waited {} s in vain for {what}", at_most.as_secs());
        }
        thread::sleep((asked.elapsed() * 2).clamp(POLL_EVERY.0, POLL_EVERY.1));
    }
}
