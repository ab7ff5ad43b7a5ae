//! A controller that drives the conductor of `rollout` over the real bus, in the place of the broker's.

use std::{fs, time::Instant};

use bus_client::bus::{Bus, ClientId, Event, Events, Message, Options};
use rollout::{
    Deed, Fleet,
    course::{Changed, Conductor, Now},
};
use schemas::{
    id::{AppId, Digest},
    rollout::{Controller, Lease},
    root::{Root, Trust},
    seal::{Head, SecretKey, Signed},
    time::UnixTime,
    topic::{Filter, Kind},
};
use tokio::{
    runtime::Runtime,
    time::{Duration, interval},
};

use crate::world::World;

/// A controller that works; it is away when it is dropped.
pub(crate) struct FakeController {
    _runtime: Runtime,
}

struct Work {
    key: SecretKey,
    fleet: Fleet,
    bus: Bus,
    started: Instant,
    conductor: Option<Conductor>,
}

impl FakeController {
    /// A controller whose key follows from `name`.
    pub(crate) fn start(world: &World, name: &str) -> Self {
        let root = fs::read(world.path("home/.deploybus/root.cbor")).unwrap();
        let trust = Trust::first(&Signed::<Root>::from_bytes(&root).unwrap()).unwrap();
        let url = format!("mqtt://127.0.0.1:{}", world.bus_port).parse().unwrap();
        let mut options = Options::new(url, name.parse::<ClientId>().unwrap());
        options.credentials = Some(bus_client::Credentials::new("controller", "x"));
        let runtime = Runtime::new().unwrap();
        let (bus, events) = runtime.block_on(async { Bus::connect(options) });
        bus.subscribe([Filter::everything(trust.fleet())]);
        let key = SecretKey::from_seed(&Digest::of(name.as_bytes()).0);
        let fleet = Fleet::new(trust);
        let work = Work { key, fleet, bus, started: Instant::now(), conductor: None };
        runtime.block_on(work.is_there(Vec::new()));
        runtime.spawn(work.work(events));
        Self { _runtime: runtime }
    }
}

impl Work {
    fn head(&self) -> Head {
        Head::new(self.fleet.trust().fleet().clone(), now())
    }

    async fn retain(&self, kind: Kind, payload: Vec<u8>) {
        let topic = kind.of(self.fleet.trust().fleet());
        self.bus.publish(Message::new(topic, payload)).await.unwrap();
    }

    /// Says who it is, and what it carries out.
    async fn is_there(&self, leases: Vec<Lease>) {
        let (key, until) = (self.key.public(), now().plus_secs(600));
        let said = Controller { head: self.head(), key, program: "fake".to_owned(), until, leases };
        let signed = Signed::seal(&said, std::slice::from_ref(&self.key));
        self.retain(Kind::Controller(key.id()), signed.to_bytes()).await;
    }

    async fn work(mut self, mut events: Events) {
        let mut tick = interval(Duration::from_millis(50));
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::Message(message)) => {
                        self.fleet.take(&message.topic, &message.payload);
                    }
                    Some(_) => continue,
                    None => return,
                },
                _ = tick.tick() => {}
            }
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let app: AppId = "web".parse().unwrap();
        let Some(wanted) = self.fleet.rollouts().plan(&app).cloned() else { return };
        let at = Now::new(self.started.elapsed(), now());
        let is_this = |conductor: &Conductor| conductor.first() == wanted.plans.mandate.first;
        let mut conductor = if let Some(conductor) = self.conductor.take().filter(is_this) {
            conductor
        } else {
            self.is_there(vec![Lease { app, first: wanted.plans.mandate.first, term: 4 }]).await;
            Conductor::begin(&wanted.planned, wanted.plans.clone(), &self.fleet, 4, at)
        };
        conductor.renew(&wanted.planned, &wanted.plans);
        for deed in conductor.step(&self.fleet, Changed::All, at, &self.key) {
            if let Deed::Publish(topic, payload) = deed {
                self.fleet.take(&topic, &payload);
                self.bus.publish(Message::new(topic, payload)).await.unwrap();
            }
        }
        self.conductor = Some(conductor);
    }
}

fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixTime(since.unwrap().as_secs())
}
