//! What a Pico prints, for whoever asks: the last lines, and for a minute those that come.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent::{Notice, Notices, Said};
use schemas::{id::AppId, status::LogSource};
use tokio::{sync::broadcast::error::RecvError, task::AbortHandle, time::timeout};

use crate::device::Device;

/// Whoever asks goes on listening by asking again.
const LISTEN_FOR: Duration = Duration::from_mins(1);

/// Listens to one Pico.
#[derive(Debug)]
pub(crate) struct Listening {
    device: Arc<Device>,
    notices: Notices,
    task: Mutex<Option<AbortHandle>>,
}

impl Listening {
    pub(crate) fn new(device: Arc<Device>, notices: Notices) -> Self {
        Self { device, notices, task: Mutex::default() }
    }

    /// Tells the last `lines` as the answer to `id`, then what comes, in place of what was listened to before.
    pub(crate) fn begin(&self, app: &AppId, lines: usize, id: String) {
        let (notices, app) = (self.notices.clone(), app.clone());
        let tell = move |lines: Vec<String>, answers: String| {
            let lines = lines.iter().map(|line| shown(line)).collect();
            notices.send((app.clone(), Notice::Said(Said { source: LogSource::App, lines, answers }))).is_ok()
        };
        let mut coming = self.device.lines();
        let mut tail = self.device.tail();
        tail.drain(..tail.len().saturating_sub(lines));
        let listening = tokio::spawn(async move {
            let follow = async {
                let mut listens = tell(tail, id);
                while listens {
                    match coming.recv().await {
                        Ok(line) => listens = tell(vec![line], String::new()),
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return,
                    }
                }
            };
            // That the time is over is the usual end.
            let _ = timeout(LISTEN_FOR, follow).await;
        });
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = task.replace(listening.abort_handle()) {
            before.abort();
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(AbortHandle::abort);
    }
}

/// Without what a terminal would take for more than text.
fn shown(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}
