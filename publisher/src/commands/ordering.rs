//! Ordering a release: sign, publish, read back, and follow every node to its verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use rollout::{Belief, Fleet, Follow, Node};
use schemas::{
    announcement::{Announced, Announcement},
    id::{GroupId, NodeId, Revision},
    order::{Audience, Order, OrderState, Policy},
    record::RecordStatus,
    release::Release,
    root::Role,
    seal::{Head, Signed, Verified},
    time::UnixTime,
    topic::Kind,
};
use tokio::{
    signal,
    time::{Duration, Instant, interval},
};

use crate::{
    cli::Following,
    clock,
    exit::Exit,
    home::{Home, history::Kept},
    problem::{Advise as _, problem},
    screen::Screen,
    session::{News, Session, until},
    show::follow as show,
    upload::Uploaded,
};

/// How often it is looked whether waiting for nodes that are offline is over.
const TICK: Duration = Duration::from_millis(250);

/// A release that is to be ordered for a group.
pub(super) struct Ordering<'a> {
    pub(super) group: &'a GroupId,
    pub(super) release: &'a Kept<Release>,
    pub(super) following: &'a Following,
    /// What is said about it: run it, or do not begin with it.
    pub(super) state: OrderState,
    /// Nodes wait neither for their window nor for consent.
    pub(super) urgent: bool,
    pub(super) uploaded: Uploaded,
}

impl Ordering<'_> {
    /// Signs the order, publishes and follows it.
    pub(super) async fn run(
        &self,
        home: &Home,
        session: &mut Session,
        fleet: &mut Fleet,
        screen: &Screen,
    ) -> Result<Exit> {
        let announcement = self.sign(home, fleet)?;
        self.publish(home, session, fleet, &announcement, screen).await
    }

    /// Publishes an order that is signed, and follows it.
    pub(super) async fn publish(
        &self,
        home: &Home,
        session: &mut Session,
        fleet: &mut Fleet,
        announcement: &Announcement,
        screen: &Screen,
    ) -> Result<Exit> {
        let announced = self.check(home, announcement)?;
        let topic = Kind::Release(self.group.clone(), announced.order.app.clone()).of(&home.settings.fleet);
        let mut follow = Follow::new(&announced.order, announced.order.digest(), fleet);
        let started = Instant::now();
        let bytes = announcement.to_bytes();
        session.publish(topic.clone(), bytes.clone()).await?;
        session.read_back(fleet, &topic, &bytes).await?;
        home.remember(announcement, &announced.order, &announced.release)?;
        let done = if self.state == OrderState::Active { "announced to" } else { "withdrawn from" };
        screen.say(&format!("{done} {}, revision {}", self.group, announced.order.revision));
        let exit = if self.following.is_wanted() {
            let mut live = Live { follow: &mut follow, fleet, screen, started, lines: BTreeMap::new() };
            live.run(session, self.following).await
        } else {
            Exit::Done
        };
        self.show(&follow, &announced, exit, screen)?;
        if follow.nodes().is_empty() && !screen.is_json() {
            warn_of_nobody(self.group, fleet, screen);
        }
        Ok(exit)
    }

    /// The announcement, signed by the ops key that is here.
    pub(super) fn sign(&self, home: &Home, fleet: &Fleet) -> Result<Announcement> {
        let (key, now) = (home.key(Role::Ops)?, home.signing_time()?);
        let _lock = home.lock()?;
        let revision = next_revision(home, fleet, 0)?;
        let release = &self.release.document;
        let order = Order {
            head: Head::new(home.settings.fleet.clone(), now),
            app: release.app.clone(),
            group: self.group.clone(),
            revision,
            release: release.digest(),
            audience: Audience::All,
            state: self.state,
            policy: Policy { urgent: self.urgent, ..Policy::default() },
            not_before: UnixTime(0),
            expires: now.plus_secs(self.following.expires.as_secs()),
            continues: None,
        };
        Ok(Announcement {
            order: Signed::seal(&order, &[key]),
            release: self.release.signed.clone(),
            mandate: None,
        })
    }

    /// Verifies as nodes will: better to hear here than from them what is wrong with it.
    fn check(&self, home: &Home, announcement: &Announcement) -> Result<Announced> {
        let len = announcement.to_bytes().len();
        if len > Announcement::MAX_BYTES {
            return Err(problem(
                format!("the announcement has {len} bytes, {} are allowed", Announcement::MAX_BYTES),
                "shorten --notes, or [env] and the commands in deploybus.toml",
            ));
        }
        announcement.verify(&home.trust, self.group, &self.release.document.app).advise(
            "what was signed here would not be believed",
            "the files in the folder `keys` are not those of root.cbor: bring them back from a backup",
        )
    }

    fn show(&self, follow: &Follow, announced: &Announced, exit: Exit, screen: &Screen) -> Result<()> {
        let Announced { order, release, .. } = announced;
        if screen.is_json() {
            return screen.json(&show::Outcomes {
                app: order.app.clone(),
                group: order.group.clone(),
                version: release.version.clone(),
                counter: release.counter,
                revision: order.revision,
                release: release.digest(),
                tree_hash: tree_hash(release),
                uploaded_objects: self.uploaded.objects,
                uploaded_bytes: self.uploaded.bytes,
                exit_code: exit.code(),
                exit_meaning: exit.meaning(),
                nodes: show::outcomes(follow),
            });
        }
        if !follow.nodes().is_empty() && self.following.is_wanted() {
            screen.say(&show::summary(follow, &order.app, &release.version, exit));
        }
        Ok(())
    }
}

fn warn_of_nobody(group: &GroupId, fleet: &Fleet, screen: &Screen) {
    let records = fleet.nodes().values().filter_map(Node::record);
    let active = records.filter(|record| record.status == RecordStatus::Active);
    let groups: BTreeSet<&str> = active.flat_map(|record| &record.groups).map(GroupId::as_str).collect();
    let groups = groups.into_iter().collect::<Vec<_>>().join(", ");
    let others =
        if groups.is_empty() { "no group has any".to_owned() } else { format!("{groups} have some") };
    screen.warn(&format!("group {group} has no nodes yet; those that are added take it ({others})"));
}

/// A number for an order that none has, with `more` behind it; taken under the lock of the home.
pub(super) fn next_revision(home: &Home, fleet: &Fleet, more: u64) -> Result<Revision> {
    let seen = fleet.highest_revision().max(home.highest_revision()?);
    let revision = seen.next(clock::now_ms());
    if revision <= seen || revision.0.checked_add(more).is_none() {
        return Err(problem(
            "the numbers of orders are used up",
            "somebody else has the ops key: `publisher keys rotate ops --lost`, then order again",
        ));
    }
    Ok(revision)
}

fn tree_hash(release: &Verified<Release>) -> Option<schemas::id::Digest> {
    release.parts.first().map(|part| part.tree_hash)
}

/// Following on the screen: lines that change in place for a person, one line for each change otherwise.
struct Live<'a> {
    follow: &'a mut Follow,
    fleet: &'a mut Fleet,
    screen: &'a Screen,
    started: Instant,
    lines: BTreeMap<NodeId, ProgressBar>,
}

impl Live<'_> {
    async fn run(&mut self, session: &mut Session, following: &Following) -> Exit {
        let limit = self.started.checked_add(following.timeout());
        let mut tick = interval(TICK);
        // Made once: a Ctrl-C between two rounds is not lost.
        let mut interrupted = pin!(signal::ctrl_c());
        for name in self.follow.nodes().keys().cloned().collect::<Vec<_>>() {
            self.show(&name);
        }
        let exit = loop {
            let now_ms = self.update();
            if self.follow.is_over(now_ms) {
                break self.follow.ending(following.ignore_offline).into();
            }
            tokio::select! {
                news = session.next(self.fleet) => match news {
                    Some(News::Changed(_)) => {}
                    Some(News::Lost(lost)) => self.screen.note(&format!("bus: {lost}; connecting again")),
                    Some(News::Back) => self.screen.note("bus: connected again"),
                    None => break Exit::Failed,
                },
                _ = tick.tick() => {}
                () = until(limit) => break self.follow.ending(following.ignore_offline).into(),
                _ = &mut interrupted => break Exit::Interrupted,
            }
        };
        self.settle();
        exit
    }

    fn update(&mut self) -> u64 {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        for name in self.follow.update(self.fleet, now_ms) {
            self.show(&name);
        }
        now_ms
    }

    /// The last state of each node as a line that stays.
    fn settle(&mut self) {
        for (name, line) in std::mem::take(&mut self.lines) {
            line.finish_and_clear();
            self.screen.say(&self.line(&name).unwrap_or_default());
        }
    }

    fn line(&self, name: &NodeId) -> Option<String> {
        let progress = self.follow.nodes().get(name)?;
        Some(show::line(name, show::width(self.follow), progress))
    }

    fn show(&mut self, name: &NodeId) {
        let Some(text) = self.line(name) else { return };
        if self.screen.is_live() {
            let line = self.lines.entry(name.clone()).or_insert_with(|| self.screen.live_line());
            line.set_message(text);
        } else {
            self.screen.say(&text);
        }
    }
}

/// Keeps what others announced, so that a rollback from here knows it.
pub(super) fn learn(home: &Home, fleet: &Fleet) -> Result<()> {
    for ordered in fleet.believed_orders() {
        let Announced { order, release, .. } = &ordered.announced;
        home.remember(&ordered.announcement, order, release).context("cannot keep what is on the bus")?;
    }
    for wanted in fleet.rollouts().plans().values().filter_map(Belief::believed) {
        home.remember_rollout(&wanted.planned, &wanted.plans).context("cannot keep what is on the bus")?;
    }
    Ok(())
}
