//! What the page sees, and how it is heard: the controller follows the bus, and shows the page what it knows when that asks.
//!
//! Nothing is drawn for nobody: a [`Picture`] is made only when somebody looks, and is shared by all who do at the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rollout::{Fleet, NotPaused};
use schemas::{
    hold::Ask,
    id::{AppId, FleetId, KeyId, NodeId},
    status::{Health, Info},
    topic::{Filter, Kind, NodeTopic, Topic},
};
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::nodes::WAITING_LIMIT;

/// What is asked for and was not answered yet; more people than that wait for their turn.
const MAX_WAITING: usize = 64;
/// A picture is shown to everybody who looks within so long, so that many people cost no more than one.
pub(super) const FRESH: Duration = Duration::from_millis(250);
/// The JSON topics are a few hundred bytes; what is larger was written by somebody else.
const MAX_TOLD_BYTES: usize = 16 * 1024;

/// What a node says of itself in plain JSON: nobody has signed that.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// What it is.
    pub(super) info: Option<Info>,
    /// How it is.
    pub(super) health: Option<Health>,
}

/// The fleet at one moment.
#[derive(Debug)]
pub(super) struct Picture {
    /// What is believed.
    pub(super) fleet: Fleet,
    /// What is only said.
    pub(super) told: BTreeMap<NodeId, Told>,
    /// The nodes that still ask to be let in, by their keys.
    pub(super) asking: BTreeSet<KeyId>,
}

/// What the page wants.
#[derive(Debug)]
pub(crate) enum Errand {
    /// To see the fleet.
    Look(Looking),
    /// To begin nothing new of a rollout, because of this.
    Pause(AppId, String, oneshot::Sender<Result<(), NotPaused>>),
    /// To ask something of a node.
    Request(NodeId, Ask),
}

/// Somebody who waits for a picture.
#[derive(Debug)]
pub(crate) struct Looking(oneshot::Sender<Picture>);

/// The controller's side.
#[derive(Debug)]
pub(crate) struct Lookout {
    errands: mpsc::Receiver<Errand>,
    news: watch::Sender<u64>,
    told: BTreeMap<NodeId, Told>,
    /// When each was heard last: the bus forgets them, and says nothing of that.
    asking: BTreeMap<KeyId, Instant>,
}

/// The page's side.
#[derive(Debug)]
pub(crate) struct Window {
    errands: mpsc::Sender<Errand>,
    news: watch::Receiver<u64>,
    last: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    picture: Arc<Picture>,
    version: u64,
    at: Instant,
}

/// The service stops, so that nobody follows the bus any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker is about to stop")]
pub(super) struct Closed;

/// A page's window, and who shows something in it.
pub(crate) fn lookout() -> (Lookout, Window) {
    let (send, errands) = mpsc::channel(MAX_WAITING);
    let (tell, news) = watch::channel(0);
    let lookout = Lookout { errands, news: tell, told: BTreeMap::new(), asking: BTreeMap::new() };
    (lookout, Window { errands: send, news, last: Mutex::default() })
}

impl Lookout {
    /// What has to be read on the bus of `fleet` beside what rollouts are decided on.
    pub(crate) fn filters(fleet: &FleetId) -> [Filter; 3] {
        let all_nodes = |topic| Filter::all_nodes(fleet, &topic);
        [all_nodes(NodeTopic::Info), all_nodes(NodeTopic::Health), Filter::enrollments(fleet)]
    }

    /// What the page wants next; never, once it is gone. May be cancelled at any time.
    pub(crate) async fn next(&mut self) -> Errand {
        match self.errands.recv().await {
            Some(errand) => errand,
            None => std::future::pending().await,
        }
    }

    /// Something was said on the bus.
    pub(crate) fn hear(&mut self, topic: &Topic, payload: &[u8]) {
        if let Kind::Node(node, of @ (NodeTopic::Info | NodeTopic::Health)) = &topic.kind {
            let told = self.told.entry(node.clone()).or_default();
            match of {
                NodeTopic::Info => told.info = read(payload).filter(|info: &Info| info.node == *node),
                _ => told.health = read(payload).filter(|health: &Health| health.node == *node),
            }
            if told.info.is_none() && told.health.is_none() {
                self.told.remove(node);
            }
        }
        if let Kind::Enroll(key) = &topic.kind {
            self.asking.retain(|_, heard| heard.elapsed() < WAITING_LIMIT);
            match payload {
                [] => drop(self.asking.remove(key)),
                _ => drop(self.asking.insert(*key, Instant::now())),
            }
        }
        self.news.send_modify(|version| *version += 1);
    }

    /// Shows the fleet to somebody.
    pub(crate) fn show(&self, looking: Looking, fleet: &Fleet) {
        let asking = self.asking.iter().filter(|(_, heard)| heard.elapsed() < WAITING_LIMIT);
        let asking = asking.map(|(key, _)| *key).collect();
        // Who has gone away meanwhile needs none.
        let _ = looking.0.send(Picture { fleet: fleet.clone(), told: self.told.clone(), asking });
    }
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    (payload.len() <= MAX_TOLD_BYTES).then(|| serde_json::from_slice(payload).ok())?
}

impl Window {
    /// The fleet, as it was [`FRESH`] ago at the earliest.
    pub(super) async fn look(&self) -> Result<Arc<Picture>, Closed> {
        let mut last = self.last.lock().await;
        let version = *self.news.borrow();
        if let Some(seen) = &*last
            && (seen.version == version || seen.at.elapsed() < FRESH)
        {
            return Ok(Arc::clone(&seen.picture));
        }
        let (send, picture) = oneshot::channel();
        self.send(Errand::Look(Looking(send))).await?;
        let picture = Arc::new(picture.await.map_err(|_| Closed)?);
        *last = Some(Seen { picture: Arc::clone(&picture), version, at: Instant::now() });
        Ok(picture)
    }

    /// Changes whenever something was said on the bus; ends with the controller.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.clone()
    }

    /// Begins nothing new of a rollout; `text` says whose wish that is.
    pub(super) async fn pause(&self, app: AppId, text: String) -> Result<Result<(), NotPaused>, Closed> {
        let (send, answer) = oneshot::channel();
        self.send(Errand::Pause(app, text, send)).await?;
        answer.await.map_err(|_| Closed)
    }

    /// Asks something of a node, which decides by itself.
    pub(super) async fn request(&self, node: NodeId, ask: Ask) -> Result<(), Closed> {
        self.send(Errand::Request(node, ask)).await
    }

    async fn send(&self, errand: Errand) -> Result<(), Closed> {
        self.errands.send(errand).await.map_err(|_| Closed)
    }
}
