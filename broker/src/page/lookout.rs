//! What the page sees, and how it is heard: the controller follows the bus, and shows the page what it knows when that asks.
//!
//! Nothing is drawn for nobody: a [`Picture`] is made only when somebody looks, and is shared by all who do at the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rollout::{Fleet, NotPaused};
use schemas::{
    hold::Ask,
    id::{AppId, FleetId, KeyId, NodeId},
    status::{Health, Info},
    topic::{Filter, Kind, NodeTopic, Topic},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    time::{Instant, timeout},
};

use crate::nodes::WAITING_LIMIT;

/// What is asked for and was not answered yet; more people than that wait for their turn.
const MAX_WAITING: usize = 64;
/// So long somebody waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A picture is shown to everybody who looks within so long, so that many people cost no more than one; where it takes the controller
/// long, as with thousands of nodes, for so many times as long, so that pages take no more than a tenth of its time.
const FRESH: Duration = Duration::from_millis(250);
const FRESH_TIMES: u32 = 10;
const MAX_FRESH: Duration = Duration::from_secs(5);
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
    last: Mutex<Last>,
    fresh_ms: AtomicU64,
}

/// What was seen last, and when it was looked in vain.
#[derive(Debug, Default)]
struct Last {
    seen: Option<Seen>,
    in_vain: Option<Instant>,
}

#[derive(Debug)]
struct Seen {
    picture: Arc<Picture>,
    version: u64,
    at: Instant,
    fresh: Duration,
}

/// Why there is nothing to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unseen {
    /// Nobody follows the bus any more.
    #[error("the broker is about to stop")]
    Closed,
    /// Who follows the bus reads it, or waits for it to be there.
    #[error("the bus is away, or is being read: try again in a moment")]
    Busy,
}

/// A page's window, and who shows something in it.
pub(crate) fn lookout() -> (Lookout, Window) {
    let (send, errands) = mpsc::channel(MAX_WAITING);
    let (tell, news) = watch::channel(0);
    let lookout = Lookout { errands, news: tell, told: BTreeMap::new(), asking: BTreeMap::new() };
    (lookout, Window { errands: send, news, last: Mutex::default(), fresh_ms: AtomicU64::new(0) })
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
        // Of devices of others, too; nothing of it is shown.
        if matches!(topic.kind, Kind::Assistant(_)) {
            return;
        }
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
    /// So long a picture is shown to everybody.
    pub(super) fn fresh(&self) -> Duration {
        FRESH.max(Duration::from_millis(self.fresh_ms.load(Ordering::Relaxed)))
    }

    /// The fleet, as it was [`Self::fresh`] ago at the earliest.
    pub(super) async fn look(&self) -> Result<Arc<Picture>, Unseen> {
        let mut last = self.last.lock().await;
        let version = *self.news.borrow();
        if let Some(seen) = &last.seen
            && (seen.version == version || seen.at.elapsed() < seen.fresh)
        {
            return Ok(Arc::clone(&seen.picture));
        }
        // Else everybody who waits for this would wait for their own turn as well.
        if last.in_vain.is_some_and(|at| at.elapsed() < PATIENCE) {
            return Err(Unseen::Busy);
        }
        let (send, picture) = oneshot::channel();
        let begin = Instant::now();
        let looked = self.ask(Errand::Look(Looking(send)), picture).await;
        last.in_vain = looked.is_err().then(Instant::now);
        let picture = Arc::new(looked?);
        let fresh = (begin.elapsed() * FRESH_TIMES).clamp(FRESH, MAX_FRESH);
        self.fresh_ms.store(u64::try_from(fresh.as_millis()).unwrap_or_default(), Ordering::Relaxed);
        last.seen = Some(Seen { picture: Arc::clone(&picture), version, at: Instant::now(), fresh });
        Ok(picture)
    }

    /// Changes whenever something was said on the bus; ends with the controller.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.clone()
    }

    /// Begins nothing new of a rollout; `text` says whose wish that is.
    pub(super) async fn pause(&self, app: AppId, text: String) -> Result<Result<(), NotPaused>, Unseen> {
        let (send, answer) = oneshot::channel();
        self.ask(Errand::Pause(app, text, send), answer).await
    }

    /// Asks something of a node, which decides by itself.
    pub(super) async fn request(&self, node: NodeId, ask: Ask) -> Result<(), Unseen> {
        self.errands.send(Errand::Request(node, ask)).await.map_err(|_| Unseen::Closed)
    }

    async fn ask<T>(&self, errand: Errand, answer: oneshot::Receiver<T>) -> Result<T, Unseen> {
        let asked = async {
            self.errands.send(errand).await.map_err(|_| Unseen::Closed)?;
            answer.await.map_err(|_| Unseen::Closed)
        };
        timeout(PATIENCE, asked).await.unwrap_or(Err(Unseen::Busy))
    }
}

#[cfg(test)]
mod tests {
    use rollout::samples::Sample;

    use super::*;

    /// Answers whoever looks, and counts them.
    async fn serve(mut lookout: Lookout, fleet: Fleet, mut stop: oneshot::Receiver<()>) -> usize {
        let mut looked = 0;
        loop {
            tokio::select! {
                errand = lookout.next() => if let Errand::Look(looking) = errand {
                    looked += 1;
                    lookout.show(looking, &fleet);
                },
                _ = &mut stop => return looked,
            }
        }
    }

    #[tokio::test]
    async fn who_looks_at_the_same_shares_a_picture() {
        let (lookout, window) = lookout();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(lookout, Sample::new().empty_fleet(), stopped));
        for _ in 0..5 {
            window.look().await.unwrap();
        }
        stop.send(()).unwrap();
        assert_eq!(served.await.unwrap(), 1);
        // The same as long as nothing is said; and whoever wants more hears that nobody is there.
        assert!(window.look().await.is_ok());
        assert_eq!(window.request("pi-1".parse().unwrap(), ask()).await, Err(Unseen::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn who_looks_while_the_bus_is_read_is_not_kept_waiting() {
        let (_lookout, window) = lookout();
        let begin = tokio::time::Instant::now();
        let all = futures_util::future::join_all((0..9).map(|_| window.look())).await;
        assert!(all.iter().all(|seen| matches!(seen, Err(Unseen::Busy))));
        assert_eq!(begin.elapsed(), PATIENCE);
    }

    #[test]
    fn what_a_node_says_of_another_or_at_length_is_not_taken() {
        let (mut lookout, _window) = lookout();
        let topic = Kind::Node("pi-1".parse().unwrap(), NodeTopic::Info).of(&"home".parse().unwrap());
        let info = |node: &str, model: &str| {
            format!(
                r#"{{"node":"{node}","kind":"pi","model":"{model}","serial":"","via":"","groups":[],"agent":"","at":""}}"#
            )
        };
        let long = "x".repeat(MAX_TOLD_BYTES);
        for (payload, is_taken) in [
            (info("pi-1", "Pi 4"), true),
            (info("pi-2", "Pi 4"), false),
            (info("pi-1", &long), false),
            (String::new(), false),
        ] {
            lookout.hear(&topic, payload.as_bytes());
            assert_eq!(lookout.told.len(), usize::from(is_taken), "{payload:.80}");
        }
    }

    fn ask() -> Ask {
        Ask::new(schemas::hold::AskKind::Install, "web".parse().unwrap())
    }
}
