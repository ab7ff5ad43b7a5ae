//! Somebody who watches the bus, in a thread of its own, and notes when what came.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use schemas::topic::{Kind, Topic};

use crate::client::{Client, runtime};

/// No fleet on no machine should take longer for anything here.
const PATIENCE: Duration = Duration::from_mins(2);

/// What came.
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) at_wall: SystemTime,
    pub(crate) kind: Kind,
    pub(crate) payload: Vec<u8>,
}

/// The other end of the thread.
pub(crate) struct Watcher(Receiver<Heard>);

impl Watcher {
    /// Subscribes to these filters, which the broker has when this returns.
    pub(crate) fn start(port: u16, filters: Vec<String>) -> Result<Self> {
        let (sink, heard) = channel();
        let (ready, is_ready) = channel();
        thread::spawn(move || -> Result<()> {
            runtime()?.block_on(async {
                let mut client = Client::connect(port, "watcher").await?;
                for filter in filters {
                    client.subscribe(&filter, 0).await?;
                }
                ready.send(())?;
                watch(client, &sink).await
            })
        });
        is_ready.recv().context("the watcher could not subscribe")?;
        Ok(Self(heard))
    }

    /// What came next.
    pub(crate) fn next(&self) -> Result<Heard> {
        self.0.recv_timeout(PATIENCE).context("nothing more came")
    }
}

/// Until the connection ends, or nobody wants to know any more.
async fn watch(mut client: Client, sink: &Sender<Heard>) -> Result<()> {
    loop {
        client.next().await?;
        let (at, at_wall) = (Instant::now(), SystemTime::now());
        let (topic, payload) = client.heard();
        if let Ok(Topic { kind, .. }) = topic.parse() {
            sink.send(Heard { at, at_wall, kind, payload: payload.to_vec() })?;
        }
    }
}
