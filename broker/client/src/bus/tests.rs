//! The client against brokers that behave, and brokers that do not.

mod cluster;
mod faults;
mod leaving;
mod mosquitto;
mod scripted;

use std::{collections::BTreeSet, future::Future, time::Duration};

use schemas::{
    id::FleetId,
    topic::{Filter, Kind, NodeTopic, Topic},
};

use super::{Bus, BusUrl, Delivery, Event, Events, Incoming, Message, Options};

/// Longer than anything here takes on a slow machine under load.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// Options that make a client come back at once however often it is cut off.
fn eager(url: BusUrl, client_id: &str) -> Options {
    let mut options = Options::new(url, client_id.parse().unwrap());
    options.stable_after = Duration::ZERO;
    options
}

async fn next_event(events: &mut Events) -> Event {
    within("an event", events.next()).await.expect("the client is not closed")
}

async fn until_connected(events: &mut Events) {
    while !matches!(next_event(events).await, Event::Connected) {}
}

async fn until_subscribed(events: &mut Events, filter: &Filter) {
    while !matches!(next_event(events).await, Event::Subscribed(of) if of == *filter) {}
}

async fn next_message(events: &mut Events) -> Incoming {
    loop {
        if let Event::Message(message) = next_event(events).await {
            return message;
        }
    }
}

async fn until_delivered(deliveries: impl IntoIterator<Item = Delivery>) {
    for delivery in deliveries {
        within("a delivery", delivery).await.unwrap();
    }
}

fn publish_numbers(bus: &Bus, numbers: impl IntoIterator<Item = u32>) -> Vec<Delivery> {
    numbers.into_iter().map(|n| bus.publish(Message::new(event_topic(), n.to_string()))).collect()
}

fn numbers(range: std::ops::Range<u32>) -> BTreeSet<String> {
    range.map(|n| n.to_string()).collect()
}

fn fleet() -> FleetId {
    "test".parse().unwrap()
}

fn node_topic(topic: NodeTopic) -> Topic {
    Kind::Node("pi".parse().unwrap(), topic).of(&fleet())
}

fn event_topic() -> Topic {
    node_topic(NodeTopic::Event)
}

fn info_topic() -> Topic {
    node_topic(NodeTopic::Info)
}

fn availability_topic() -> Topic {
    node_topic(NodeTopic::Availability)
}
