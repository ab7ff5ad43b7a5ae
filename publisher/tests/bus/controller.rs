//! A controller at a real desk, over the real bus, in the place of the broker's.

use std::{fs, time::Instant};

use bus_client::bus::{self, Bus, ClientId, Events, Message, Options};
use rollout::{Deed, Desk, Event, Pace, course::Now};
use schemas::{
    id::Digest,
    root::{Root, Trust},
    seal::{SecretKey, Signed},
    time::UnixTime,
    topic::Filter,
};
use tokio::{runtime::Runtime, time::sleep};

use crate::world::World;

/// A controller that works; it is away when it is dropped.
pub(crate) struct FakeController {
    _runtime: Runtime,
}

struct Work {
    desk: Desk,
    bus: Bus,
    started: Instant,
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
        let desk = Desk::new(trust, key, "fake".to_owned(), Pace::LIVE);
        let mut work = Work { desk, bus, started: Instant::now() };
        // It is there when this returns; what the bus keeps comes meanwhile.
        work.desk.handle(Event::Back, work.now());
        runtime.block_on(work.look());
        runtime.spawn(work.work(events));
        Self { _runtime: runtime }
    }
}

impl Work {
    async fn work(mut self, mut events: Events) {
        loop {
            let now = self.now();
            tokio::select! {
                event = events.next() => match event {
                    Some(bus::Event::Message(message)) => {
                        self.desk.handle(Event::Message(&message.topic, &message.payload), now);
                    }
                    Some(_) => {}
                    None => return,
                },
                () = sleep(now.until(self.desk.poll_timeout())) => self.look().await,
            }
        }
    }

    async fn look(&mut self) {
        self.desk.handle_timeout(self.now());
        while let Some(deed) = self.desk.poll_deed() {
            if let Deed::Publish(topic, payload) = deed {
                self.bus.publish(Message::new(topic, payload)).await.unwrap();
            }
        }
    }

    fn now(&self) -> Now {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Now::new(self.started.elapsed(), UnixTime(wall.as_secs()))
    }
}
