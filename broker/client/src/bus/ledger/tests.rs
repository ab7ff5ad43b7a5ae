//! What is said, and what is said again.

use futures_util::FutureExt as _;
use schemas::{
    id::{FleetId, NodeId},
    topic::{Kind, NodeTopic},
};

use super::*;
use crate::bus::message::Delivery;

#[test]
fn nothing_is_handed_over_without_a_connection() {
    let mut ledger = Ledger::default();
    let _delivery = publish(&mut ledger, event("a"), "1");
    ledger.subscribe(&[filter("a")]);
    assert_eq!(ledger.next(), None);
}

#[test]
fn a_connect_greets_subscribes_says_what_waits_and_ends_with_own_state() {
    let mut ledger = Ledger::new(None, vec![message(availability(), "online")]);
    ledger.subscribe(&[filter("a")]);
    let _state = set(&mut ledger, info("a"), "state");
    let _event = publish(&mut ledger, event("a"), "1");
    for _ in 0..2 {
        ledger.connected();
        let expected = [
            Request::Publish(message(availability(), "online")),
            Request::Subscribe(vec![filter("a")]),
            Request::Publish(message(event("a"), "1")),
            Request::Publish(message(info("a"), "state")),
        ];
        assert_eq!(hand_over(&mut ledger), expected);
        ledger.lost();
    }
}

#[test]
fn a_delivery_resolves_with_the_acknowledgement_of_its_own_packet() {
    let mut ledger = online();
    let mut first = publish(&mut ledger, event("a"), "1");
    let mut second = publish(&mut ledger, event("a"), "2");
    send_all(&mut ledger, 10);
    ledger.acked(11);
    assert_eq!((fate(&mut first), fate(&mut second)), (None, Some(Ok(()))));
    ledger.acked(10);
    assert_eq!(fate(&mut first), Some(Ok(())));
}

#[test]
fn who_forgets_says_nothing_on_a_connection_that_was_meant_for_another() {
    let mut ledger = Ledger::new(None, Vec::new()).that_forgets();
    let mut before = publish(&mut ledger, event("a"), "1");
    ledger.connected();
    let mut unacknowledged = publish(&mut ledger, event("a"), "2");
    send_all(&mut ledger, 1);
    let mut unsent = publish(&mut ledger, event("a"), "3");
    ledger.lost();
    let mut away = publish(&mut ledger, event("a"), "4");
    ledger.connected();
    assert_eq!(hand_over(&mut ledger), []);
    for delivery in [&mut before, &mut unacknowledged, &mut unsent, &mut away] {
        assert_eq!(fate(delivery), Some(Err(Undelivered::Lost { topic: event("a") })));
    }
    let _delivery = publish(&mut ledger, event("a"), "5");
    assert_eq!(hand_over(&mut ledger).len(), 1);
}

#[test]
fn what_was_not_acknowledged_is_said_again_in_its_order() {
    let mut ledger = online();
    let _deliveries: Vec<_> = (0..200).map(|n| publish(&mut ledger, event("a"), &n.to_string())).collect();
    send_all(&mut ledger, 1);
    ledger.acked(3);
    let _late = publish(&mut ledger, event("a"), "200");
    ledger.lost();
    ledger.connected();
    let mut said = Vec::new();
    loop {
        let requests = hand_over(&mut ledger);
        if requests.is_empty() {
            break;
        }
        for (packet_id, request) in (1..).zip(requests) {
            said.push(text(&request));
            ledger.sent(packet_id);
            ledger.acked(packet_id);
        }
    }
    let expected: Vec<String> = (0..=200).filter(|n| *n != 2).map(|n| n.to_string()).collect();
    assert_eq!(said, expected);
    assert!(ledger.is_settled());
}

#[test]
fn the_order_stays_when_packet_ids_have_gone_round() {
    let mut ledger = online();
    let _deliveries: Vec<_> = (0..4).map(|n| publish(&mut ledger, event("a"), &n.to_string())).collect();
    hand_over(&mut ledger);
    for packet_id in [99, 100, 1, 2] {
        ledger.sent(packet_id);
    }
    ledger.lost();
    ledger.connected();
    let said: Vec<String> = hand_over(&mut ledger).iter().map(text).collect();
    assert_eq!(said, ["0", "1", "2", "3"]);
}

#[test]
fn the_window_bounds_what_the_client_holds() {
    let mut ledger = online();
    let _deliveries: Vec<_> = (0..200).map(|_| publish(&mut ledger, event("a"), "x")).collect();
    assert_eq!(hand_over(&mut ledger).len(), WINDOW);
    ledger.sent(1);
    assert_eq!(ledger.next(), None);
    ledger.acked(1);
    assert_eq!(hand_over(&mut ledger).len(), 1);
}

#[test]
fn what_was_under_way_when_a_connection_ended_takes_no_room_in_the_next() {
    let mut ledger =
        Ledger::new(Some(message(availability(), "offline")), vec![message(availability(), "online")]);
    for first in 0..2 * WINDOW as u16 {
        ledger.connected();
        send_all(&mut ledger, 10 * first + 1);
        ledger.lost();
    }
    ledger.connected();
    assert_eq!(hand_over(&mut ledger).len(), 2);
}

#[test]
fn of_own_state_only_the_newest_is_said_and_it_settles_all_before() {
    let mut ledger = Ledger::default();
    let mut old = set(&mut ledger, info("a"), "old");
    let mut new = set(&mut ledger, info("a"), "new");
    ledger.connected();
    assert_eq!(hand_over(&mut ledger), [Request::Publish(message(info("a"), "new"))]);
    ledger.sent(1);
    ledger.acked(1);
    assert_eq!((fate(&mut old), fate(&mut new)), (Some(Ok(())), Some(Ok(()))));
}

#[test]
fn an_acknowledgement_of_older_own_state_does_not_settle_the_newer() {
    let mut ledger = online();
    let mut old = set(&mut ledger, info("a"), "old");
    send_all(&mut ledger, 1);
    let mut new = set(&mut ledger, info("a"), "new");
    ledger.acked(1);
    assert_eq!((fate(&mut old), fate(&mut new)), (Some(Ok(())), None));
    assert!(!ledger.is_settled());
}

#[test]
fn own_state_that_nobody_awaits_takes_no_room_while_the_bus_is_away() {
    let mut ledger = Ledger::default();
    for n in 0..1000 {
        drop(set(&mut ledger, info("a"), &n.to_string()));
    }
    assert_eq!(ledger.own[&info("a")].awaited.len(), 1);
}

#[test]
fn a_cleared_topic_is_said_until_acknowledged_and_then_forgotten() {
    let mut ledger = online();
    let _state = set(&mut ledger, info("a"), "state");
    let mut clear = set(&mut ledger, info("a"), "");
    assert_eq!(hand_over(&mut ledger), [Request::Publish(message(info("a"), ""))]);
    ledger.lost();
    ledger.connected();
    send_all(&mut ledger, 1);
    ledger.acked(1);
    assert_eq!(fate(&mut clear), Some(Ok(())));
    ledger.lost();
    ledger.connected();
    assert_eq!(ledger.next(), None);
}

#[test]
fn an_older_announcement_is_not_said_again_after_a_newer_one_was_acknowledged() {
    let mut ledger = online();
    let mut old = publish(&mut ledger, Kind::Trust.of(&fleet()), "old");
    let mut new = publish(&mut ledger, Kind::Trust.of(&fleet()), "new");
    send_all(&mut ledger, 1);
    ledger.acked(2);
    ledger.lost();
    assert_eq!((fate(&mut old), fate(&mut new)), (Some(Ok(())), Some(Ok(()))));
    ledger.connected();
    assert_eq!(ledger.next(), None);
}

#[test]
fn when_too_much_waits_a_message_is_refused_and_there_is_room_again_later() {
    let mut ledger = Ledger::default();
    let _waiting: Vec<_> = (0..MAX_WAITING).map(|_| publish(&mut ledger, event("a"), "x")).collect();
    let mut refused = publish(&mut ledger, event("a"), "y");
    assert_eq!(fate(&mut refused), Some(Err(Undelivered::QueueFull { topic: event("a") })));
    ledger.connected();
    send_all(&mut ledger, 1);
    ledger.acked(1);
    assert_eq!(fate(&mut publish(&mut ledger, event("a"), "z")), None);
}

#[test]
fn waiting_messages_are_bounded_in_bytes_too() {
    let mut ledger = Ledger::default();
    let large = "x".repeat(200 * 1024);
    let deliveries: Vec<_> = (0..100).map(|_| publish(&mut ledger, event("a"), &large)).collect();
    let refused = deliveries.into_iter().filter_map(|mut delivery| fate(&mut delivery)).count();
    assert!((18..=20).contains(&refused), "{refused}");
}

#[test]
fn a_late_will_is_answered_with_the_greeting() {
    let mut ledger = with_will();
    ledger.overhear(&heard(availability(), "offline"));
    assert_eq!(hand_over(&mut ledger), [Request::Publish(message(availability(), "online"))]);
    ledger.overhear(&heard(availability(), "online"));
    assert_eq!(ledger.next(), None);
}

#[test]
fn saying_the_same_as_the_will_on_purpose_is_not_answered() {
    let mut ledger = with_will();
    let _state = set(&mut ledger, availability(), "offline");
    send_all(&mut ledger, 1);
    ledger.overhear(&heard(availability(), "offline"));
    assert_eq!(ledger.next(), None);
}

#[test]
fn a_subscription_tells_which_filters_were_granted() {
    let mut ledger = online();
    ledger.subscribe(&[filter("a"), filter("b")]);
    send_all(&mut ledger, 7);
    assert_eq!(ledger.subscribed(7, &[true, false]), [(filter("a"), true), (filter("b"), false)]);
    assert_eq!(ledger.subscribed(7, &[true]), []);
}

#[test]
fn what_was_unsubscribed_is_not_renewed() {
    let mut ledger = online();
    ledger.subscribe(&[filter("a"), filter("b")]);
    ledger.unsubscribe(vec![filter("a")]);
    let both = Request::Subscribe(vec![filter("a"), filter("b")]);
    assert_eq!(hand_over(&mut ledger), [both, Request::Unsubscribe(filter("a"))]);
    ledger.renew();
    assert_eq!(hand_over(&mut ledger), [Request::Subscribe(vec![filter("b")])]);
}

#[test]
fn what_was_unsubscribed_is_unsubscribed_from_the_session_on_each_connect() {
    let mut ledger = Ledger::default();
    ledger.subscribe(&[filter("a")]);
    ledger.unsubscribe(vec![filter("a"), filter("b")]);
    ledger.subscribe(&[filter("b")]);
    for _ in 0..2 {
        ledger.connected();
        let expected = [Request::Unsubscribe(filter("a")), Request::Subscribe(vec![filter("b")])];
        assert_eq!(hand_over(&mut ledger), expected);
        ledger.lost();
    }
}

#[test]
fn many_filters_are_spread_over_packets() {
    let mut ledger = online();
    let filters: Vec<_> = (0..150).map(|n| filter(&format!("g{n}"))).collect();
    ledger.subscribe(&filters);
    assert_eq!(hand_over(&mut ledger).len(), 3);
}

#[test]
fn acknowledgements_of_nothing_are_ignored() {
    let mut ledger = online();
    ledger.sent(1);
    ledger.acked(1);
    ledger.acked(9);
    assert!(ledger.is_settled());
}

fn online() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.connected();
    ledger
}

fn with_will() -> Ledger {
    let will = message(availability(), "offline");
    let mut ledger = Ledger::new(Some(will), vec![message(availability(), "online")]);
    ledger.connected();
    send_all(&mut ledger, 1);
    ledger.acked(1);
    ledger
}

fn publish(ledger: &mut Ledger, topic: Topic, payload: &str) -> Delivery {
    let (ticket, delivery) = Delivery::new(topic.clone());
    ledger.publish(message(topic, payload), ticket);
    delivery
}

fn set(ledger: &mut Ledger, topic: Topic, payload: &str) -> Delivery {
    let (ticket, delivery) = Delivery::new(topic.clone());
    ledger.set_retained(message(topic, payload), ticket);
    delivery
}

fn hand_over(ledger: &mut Ledger) -> Vec<Request> {
    std::iter::from_fn(|| ledger.next()).collect()
}

/// Everything that waits goes out, under packet ids from `first` on.
fn send_all(ledger: &mut Ledger, first: u16) {
    for (packet_id, _) in (first..).zip(hand_over(ledger)) {
        ledger.sent(packet_id);
    }
}

fn fate(delivery: &mut Delivery) -> Option<Result<(), Undelivered>> {
    delivery.now_or_never()
}

fn text(request: &Request) -> String {
    match request {
        Request::Publish(message) => String::from_utf8_lossy(&message.payload).into_owned(),
        other => format!("{other:?}"),
    }
}

fn message(topic: Topic, payload: &str) -> Message {
    Message::new(topic, payload.to_owned())
}

fn heard(topic: Topic, payload: &str) -> Incoming {
    Incoming { topic, payload: payload.to_owned().into(), retained: false }
}

fn filter(group: &str) -> Filter {
    Filter::releases(&fleet(), &group.parse().unwrap())
}

fn fleet() -> FleetId {
    "test".parse().unwrap()
}

fn node(name: &str, topic: NodeTopic) -> Topic {
    Kind::Node(name.parse::<NodeId>().unwrap(), topic).of(&fleet())
}

fn event(name: &str) -> Topic {
    node(name, NodeTopic::Event)
}

fn info(name: &str) -> Topic {
    node(name, NodeTopic::Info)
}

fn availability() -> Topic {
    node("a", NodeTopic::Availability)
}
