//! How a client leaves: in order, with nothing left unsaid, and for good.

use std::time::Duration;

use rumqttc::Packet;

use super::{
    Bus, Message, eager, event_topic, info_topic, publish_numbers,
    scripted::{Reserved, Scripted, text},
    until_connected, within,
};
use crate::bus::Undelivered;

#[tokio::test]
async fn closing_waits_for_acknowledgements_and_then_says_disconnect() {
    let broker = Scripted::bind().await;
    let (bus, mut events) = Bus::connect(eager(broker.url(), "pi"));
    let deliveries = publish_numbers(&bus, 0..200);
    let mut peer = broker.let_in().await;
    let closing = tokio::spawn({
        let bus = bus.clone();
        async move { bus.close().await }
    });
    for n in 0..200 {
        let publish = peer.read_publish().await;
        assert_eq!(text(&publish), n.to_string());
        peer.ack(&publish).await;
    }
    assert!(matches!(peer.read().await, Some(Packet::Disconnect)));
    assert!(peer.read().await.is_none());
    within("the end", closing).await.unwrap();
    for delivery in deliveries {
        assert_eq!(delivery.await, Ok(()));
    }
    until_connected(&mut events).await;
    assert!(within("the end", events.next()).await.is_none());
}

#[tokio::test]
async fn closing_gives_up_on_a_broker_that_does_not_acknowledge() {
    let broker = Scripted::bind().await;
    let mut options = eager(broker.url(), "pi");
    options.close_limit = Duration::from_millis(50);
    let (bus, _events) = Bus::connect(options);
    let delivery = bus.publish(Message::new(event_topic(), "1"));
    let mut peer = broker.let_in().await;
    peer.read_publish().await;
    within("the end", bus.close()).await;
    assert_eq!(delivery.await, Err(Undelivered::Closed { topic: event_topic() }));
    assert!(matches!(peer.read().await, Some(Packet::Disconnect)));
}

#[tokio::test]
async fn closing_does_not_wait_for_a_broker_that_is_not_needed_any_more() {
    let nobody = Reserved::new();
    let mut options = eager(nobody.url(), "pi");
    options.close_limit = Duration::from_hours(1);
    let (bus, _events) = Bus::connect(options);
    within("the end", bus.close()).await;
}

#[tokio::test]
async fn after_closing_nothing_is_taken_any_more() {
    let nobody = Reserved::new();
    let (bus, mut events) = Bus::connect(eager(nobody.url(), "pi"));
    bus.close().await;
    bus.close().await;
    let late = bus.set_retained(Message::new(info_topic(), "1")).await;
    assert_eq!(late, Err(Undelivered::Closed { topic: info_topic() }));
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn dropping_the_last_handle_leaves_in_order_too() {
    let broker = Scripted::bind().await;
    let (bus, mut events) = Bus::connect(eager(broker.url(), "pi"));
    let mut peer = broker.let_in().await;
    until_connected(&mut events).await;
    let delivery = bus.publish(Message::new(event_topic(), "last words"));
    drop(bus);
    let publish = peer.read_publish().await;
    peer.ack(&publish).await;
    assert!(matches!(peer.read().await, Some(Packet::Disconnect)));
    assert_eq!(delivery.await, Ok(()));
    assert!(within("the end", events.next()).await.is_none());
}
