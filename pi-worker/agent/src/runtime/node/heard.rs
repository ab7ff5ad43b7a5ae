//! What a node hears on the bus: orders, its record, the fleet's keys, what people ask of it; and what it listens to for that.

use bus_client::bus::Incoming;
use machine::Input;
use schemas::{
    announcement::Announced,
    id::{AppId, GroupId},
    time::UnixTime,
    topic::{Filter, Kind, NodeTopic, Topic},
};
use tracing::{error, info, warn};

use super::{Installer, Node, Urgency};
use crate::{
    chain::chain,
    fault,
    inbound::{self, Inbound, Refused},
    mirror,
    runtime::speaker,
};

impl<I: Installer> Node<I> {
    pub(super) fn on_message(&mut self, message: &Incoming) {
        match inbound::read(&mut self.identity, &message.topic, &message.payload) {
            Ok(Inbound::Announced(app, announced)) => self.on_announced(&message.topic, &app, announced),
            Ok(Inbound::Record) => self.on_record(&message.payload),
            Ok(Inbound::Keys(refused)) => self.on_keys(&message.topic, refused),
            // One that the broker kept was meant for what waited then.
            Ok(Inbound::Ask(_)) if message.retained => {}
            Ok(Inbound::Ask(ask)) => self.on_ask(&ask),
            Ok(Inbound::Nothing) => {}
            Err(refused) => self.refuse(&message.topic, &refused),
        }
    }

    fn on_announced(&mut self, topic: &Topic, app: &AppId, announced: Box<Announced>) {
        // What a controller says of the time counts for nothing: its key is not the fleet's.
        let mandate = announced.mandate.as_ref().map(|mandate| mandate.head.issued_at);
        let ordered_at = mandate.unwrap_or(announced.order.head.issued_at);
        self.has_seen(ordered_at.max(announced.release.head.issued_at));
        if let Err(error) = self.open_app(app) {
            error!(%app, error = %chain(&error), "App cannot be opened");
            let fault = fault::durable(&error);
            let order = Some(announced.order.digest());
            return self.refuse(topic, &Refused { reason: fault.reason, text: fault.text, order });
        }
        self.judge();
        self.feed(app, Input::Announced(announced), Urgency::Change);
    }

    fn on_record(&mut self, payload: &[u8]) {
        let record = self.identity.record();
        info!(record = %record.seq, status = ?record.status, "Record of this node changed");
        let issued_at = record.head.issued_at;
        self.memory.record = Some(payload.to_vec().into());
        self.keeper.keep(self.memory.clone());
        self.has_seen(issued_at);
        self.follow_groups();
        self.feed_all(&Input::Groups(self.state.groups.clone()));
        self.follow_env();
        self.say(Urgency::Change);
    }

    /// Has apps started anew when the record says another environment than before.
    fn follow_env(&mut self) {
        let env = &self.identity.record().env;
        if *env == self.state.env {
            return;
        }
        info!(variables = env.len(), "Environment of apps changed");
        self.hands.installer.set_env(env);
        self.state.env = env.clone();
        self.feed_all(&Input::Environment);
    }

    /// Goes by the new keys, and asks again for everything that was signed by the old ones or refused for their sake.
    fn on_keys(&mut self, topic: &Topic, refused: Option<Refused>) {
        let keys = self.identity.roots.keys();
        info!(root = keys.root, expires = %keys.expires, "Keys of the fleet changed");
        self.memory.roots = self.identity.roots.followed().cloned().collect();
        self.keeper.keep(self.memory.clone());
        if let Some(refused) = refused {
            self.refuse(topic, &refused);
        }
        self.feed_all(&Input::Keys(keys));
        self.follow_own();
        self.bus.subscribe(self.state.groups.iter().map(|group| self.releases(group)));
        self.say(Urgency::Change);
    }

    /// Remembers the newest signed time: the clock is never before it.
    fn has_seen(&mut self, issued_at: UnixTime) {
        if self.clock.raise(issued_at, self.identity.trust().expires()) {
            self.memory.floor = issued_at;
            self.keeper.keep(self.memory.clone());
        }
    }

    /// Subscribes to whose keys count, and to what is said about this node and asked of it: keys first, since they prove the rest.
    pub(super) fn follow_own(&self) {
        let fleet = &self.identity.fleet;
        let own = |topic| Filter::from(&speaker::topic(fleet, &self.identity.node, topic));
        let trust = Filter::from(&Kind::Trust.of(fleet));
        self.bus.subscribe([trust, own(NodeTopic::Record), own(NodeTopic::Request)]);
    }

    fn releases(&self, group: &GroupId) -> Filter {
        Filter::releases(&self.identity.fleet, group)
    }

    /// Subscribes to the releases of the node's groups, and to no others.
    pub(super) fn follow_groups(&mut self) {
        let groups = self.identity.groups();
        let filter = |group: &GroupId| self.releases(group);
        self.bus.unsubscribe(self.state.groups.difference(&groups).map(filter));
        self.bus.subscribe(groups.difference(&self.state.groups).map(filter));
        self.state.groups = groups;
    }

    pub(super) fn refuse(&mut self, topic: &Topic, refused: &Refused) {
        let now = self.clock.now().wall;
        // A flood is logged ever more rarely, and reported no faster than progress is.
        let Refused { reason, text, order } = refused;
        let Some(refusal) = self.state.refusals.note(topic, *reason, text, *order, now) else {
            return self.say(Urgency::Progress);
        };
        // The refusal's own text is of bounded length.
        let (text, times, attack) = (&refusal.text, refusal.times, refusal.attack);
        warn!(%topic, %reason, text, times, attack, hint = reason.advice(), "Document was refused");
        self.speaker.tell(&mirror::refusal(&self.identity.node, topic, *reason, now.into()));
        self.say(Urgency::Change);
    }
}
