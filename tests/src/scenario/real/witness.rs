//! Who reads the bus while real processes play, and says what happens in the words of the simulator.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use schemas::{
    announcement::{Announced, Announcement},
    id::{AppId, GroupId, NodeId, Revision},
    root::Trust,
    status::{BusEvent, Event},
    topic::{BusTopic, Kind, NodeTopic, Topic},
};

use crate::{
    Mqtt, World,
    timeline::{self, Line, Voice},
};

/// What is retained comes in one burst; after so long a silence it is over.
const QUIET: Duration = Duration::from_millis(300);

/// A reader of everything on the bus.
pub(super) struct Witness {
    bus: Mqtt,
    trust: Trust,
    since: Instant,
    /// The highest revision that was ordered before the story.
    pub(super) before: Revision,
    /// Everything so far.
    pub(super) timeline: Vec<Line>,
}

/// What the witness hears.
pub(super) enum Heard {
    /// Something happened.
    Line(Line),
    /// The controller has said again that it is there.
    Controller,
}

impl Witness {
    /// Reads from now on. What is retained already was said before.
    pub(super) fn of(world: &World) -> Result<Self> {
        let (mut bus, trust) = (world.raw_publisher()?, world.forge()?.trust);
        let orders = bus.retained(&format!("{}/v1/release/+/+", trust.fleet()), QUIET)?;
        // One subscription: with several, what was said first might come last.
        let mut bus = world.raw_publisher()?;
        bus.subscribe(&format!("{}/v1/#", trust.fleet()))?;
        let mut witness =
            Self { bus, trust, since: Instant::now(), before: Revision(0), timeline: Vec::new() };
        for (topic, payload) in orders {
            let Kind::Release(group, app) = topic.parse::<Topic>()?.kind else { continue };
            witness.before = witness.before.max(witness.order(&group, &app, &payload)?.order.revision);
        }
        Ok(witness)
    }

    /// What comes next, or nothing when it does not come within `patience`.
    pub(super) fn next(&mut self, patience: Duration) -> Result<Option<Heard>> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some((topic, payload, is_old)) = self.bus.next(left)? else { return Ok(None) };
            let topic: Topic = topic.parse().with_context(|| format!("nobody knows the topic {topic}"))?;
            if is_old {
                continue;
            }
            if matches!(topic.kind, Kind::Controller(_)) {
                return Ok(Some(Heard::Controller));
            }
            if let Some((voice, text)) = self.read(&topic, &payload)? {
                return Ok(Some(Heard::Line(self.tell(voice, text))));
            }
        }
    }

    /// Something happened just now.
    pub(super) fn tell(&mut self, voice: Voice, text: String) -> Line {
        let at_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let line = Line { at_ms, voice, text };
        self.timeline.push(line.clone());
        line
    }

    fn read(&self, topic: &Topic, payload: &[u8]) -> Result<Option<(Voice, String)>> {
        Ok(match &topic.kind {
            Kind::Bus(BusTopic::Event) => {
                let BusEvent { event_type, app, version, text, .. } = serde_json::from_slice(payload)?;
                Some((Voice::Rollout(app, version), timeline::of_rollout(&event_type, &text)))
            }
            Kind::Release(group, app) => {
                let announced = self.order(group, app, payload)?;
                let text = timeline::of_order(&announced.order, &announced.release.version);
                Some((Voice::Order(group.clone()), text))
            }
            Kind::Node(node, NodeTopic::Event) => Some(of_node(node, payload)?),
            _ => None,
        })
    }

    fn order(&self, group: &GroupId, app: &AppId, payload: &[u8]) -> Result<Announced> {
        Ok(Announcement::from_bytes(payload)?.verify(&self.trust, group, app)?)
    }
}

fn of_node(node: &NodeId, payload: &[u8]) -> Result<(Voice, String)> {
    let Event { event_type, app, to, reason, .. } = serde_json::from_slice(payload)?;
    Ok((Voice::Node(node.clone()), timeline::of_node(node, &app, &to, event_type, &reason)))
}
