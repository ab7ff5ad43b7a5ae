//! rumqttc's client of MQTT 3.1.1.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rumqttc::{AsyncClient, Event, Incoming, LastWill, MqttOptions, QoS};
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

use super::Bus;

const PATIENCE: Duration = Duration::from_secs(20);

/// A client with a task that polls it, which comes back by itself when its line breaks.
struct Runner {
    client: AsyncClient,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    break_line: Arc<Notify>,
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_their_order_at_every_quality() {
    let bus = Bus::start();
    let (mut reader, mut writer) = (Runner::start(options(&bus, "reader")), writer(&bus));
    reader.subscribe("order").await;
    let sending = tokio::spawn(async move {
        for n in 0..3000 {
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][n % 3];
            writer.client.publish("order", qos, false, n.to_string()).await.unwrap();
        }
        let mut answers = 0;
        while answers < 2000 {
            let packet = writer.next().await;
            answers += usize::from(matches!(packet, Incoming::PubAck(_) | Incoming::PubComp(_)));
        }
    });
    for n in 0..3000 {
        assert_eq!(reader.payload().await, n.to_string());
    }
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_a_broken_line() {
    let bus = Bus::start();
    let mut keep = options(&bus, "keeper");
    keep.set_clean_session(false);
    let (mut keeper, writer) = (Runner::start(keep), writer(&bus));
    keeper.subscribe("kept").await;
    keeper.break_line.notify_one();
    for n in 0..10 {
        writer.client.publish("kept", QoS::AtLeastOnce, false, n.to_string()).await.unwrap();
    }
    // Some may still come over the old line, and again when they were not acknowledged there.
    let (mut payloads, mut session_present) = (BTreeSet::new(), false);
    while payloads.len() < 10 || !session_present {
        match keeper.next().await {
            Incoming::ConnAck(ack) => session_present = ack.session_present,
            Incoming::Publish(publish) => drop(payloads.insert(publish.payload)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(payloads, (0..10).map(|n| n.to_string().into()).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_is_published_and_retained() {
    let bus = Bus::start();
    let mut watcher = Runner::start(options(&bus, "watcher"));
    watcher.subscribe("will").await;
    let mut mortal = options(&bus, "mortal");
    mortal.set_last_will(LastWill::new("will", "gone", QoS::AtLeastOnce, true));
    let mut mortal = Runner::start(mortal);
    assert!(matches!(mortal.next().await, Incoming::ConnAck(_)));
    mortal.break_line.notify_one();
    assert_eq!(watcher.payload().await, "gone");
    watcher.subscribe("will").await;
    let Incoming::Publish(will) = watcher.next().await else { panic!() };
    assert!(will.retain);
}

fn options(bus: &Bus, id: &str) -> MqttOptions {
    MqttOptions::new(id, "127.0.0.1", bus.port())
}

fn writer(bus: &Bus) -> Runner {
    Runner::start(options(bus, "writer"))
}

impl Runner {
    fn start(options: MqttOptions) -> Self {
        let (client, mut polled) = AsyncClient::new(options, 10);
        let (tell, incoming) = mpsc::unbounded_channel();
        let break_line = Arc::new(Notify::new());
        let broken = Arc::clone(&break_line);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = polled.poll() => match event {
                        Ok(Event::Incoming(packet)) => if tell.send(packet).is_err() { return },
                        Ok(Event::Outgoing(_)) => {}
                        Err(err) => panic!("{err}"),
                    },
                    () = broken.notified() => polled.clean(),
                }
            }
        });
        Self { client, incoming, break_line }
    }

    async fn next(&mut self) -> Incoming {
        timeout(PATIENCE, self.incoming.recv()).await.unwrap().unwrap()
    }

    async fn subscribe(&mut self, filter: &str) {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        while !matches!(self.next().await, Incoming::SubAck(_)) {}
    }

    async fn payload(&mut self) -> String {
        loop {
            if let Incoming::Publish(publish) = self.next().await {
                return String::from_utf8(publish.payload.to_vec()).unwrap();
            }
        }
    }
}
