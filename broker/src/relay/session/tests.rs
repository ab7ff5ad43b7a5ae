use std::sync::Arc;

use bytes::Bytes;

use super::{queue::MAX_MISSED, *};
use crate::relay::{
    codec::Reason,
    message::{Message, SubscriptionIds},
    outgoing::{MAX_SLICES, Terms},
    topic::TopicName,
};

const LIMITS: QueueLimits = QueueLimits { messages: 10, bytes: 1000 };

#[test]
fn the_oldest_events_give_way_and_are_counted() {
    let session = attached();
    let dropped: u64 = (0..15).map(|n| session.publish(event(&format!("e/{n}"), Grant::AtMostOnce))).sum();
    assert_eq!(dropped, 5);
    assert_eq!(sent(&session), (5..15).map(|n| format!("e/{n}")).collect::<Vec<_>>());
}

#[test]
fn the_newest_state_gives_way_and_is_remembered_as_missed() {
    let session = attached();
    for n in 0..12 {
        session.publish(state(&format!("s/{n}")));
    }
    let mut out = out();
    assert_eq!(session.take(&mut out), Taken::Lagged);
    let Missed::Topics(topics) = session.take_missed() else { panic!() };
    assert_eq!(topics.iter().map(TopicName::as_str).collect::<Vec<_>>(), ["s/10", "s/11"]);
    assert_eq!(session.take(&mut out), Taken::All);
}

#[test]
fn what_is_missed_is_bounded() {
    let session = attached();
    for n in 0..=MAX_MISSED + LIMITS.messages {
        session.publish(state(&format!("s/{n}")));
    }
    assert!(matches!(session.take_missed(), Missed::Everything));
}

#[test]
fn replayed_messages_keep_their_place_among_the_live_ones() {
    let session = attached();
    session.publish(event("1", Grant::AtMostOnce));
    assert!(session.replay(state("2")) && session.replay(state("3")));
    session.publish(event("4", Grant::AtMostOnce));
    assert!(session.replay(state("5")));
    assert_eq!(sent(&session), ["1", "2", "3", "4", "5"]);
}

#[test]
fn the_hub_is_asked_for_more_when_what_it_gave_is_taken() {
    let session = attached();
    let given = (0..20).take_while(|n| session.replay(state(&format!("s/{n}")))).count();
    assert_eq!(given, LIMITS.messages);
    session.expect_more();
    let mut out = out();
    assert_eq!(session.take(&mut out), Taken::Lagged);
    assert_eq!(session.take(&mut out), Taken::All, "it was told once");
    assert!(matches!(session.take_missed(), Missed::Nothing));
    assert_eq!(session.take(&mut out), Taken::All, "there is nothing more");
}

#[test]
fn a_resumed_session_sends_again_what_was_not_acknowledged() {
    let session = attached();
    for n in 0..3 {
        session.publish(event(&format!("e/{n}"), Grant::AtLeastOnce));
    }
    assert_eq!(sent(&session), ["e/0", "e/1", "e/2"]);
    session.acknowledged(id(2));
    session.detach();
    session.publish(event("e/3", Grant::AtLeastOnce));
    session.publish(event("lost", Grant::AtMostOnce));
    session.attach(Attachment(2));
    assert_eq!(sent(&session), ["e/0", "e/2", "e/3"]);
}

#[test]
fn the_window_opens_with_each_acknowledgement() {
    let session = Session::new(QueueLimits { messages: 1000, bytes: 1 << 20 });
    session.attach(Attachment(1));
    for _ in 0..WINDOW + 2 {
        session.publish(event("e", Grant::AtLeastOnce));
    }
    assert_eq!(sent(&session).len(), WINDOW);
    session.acknowledged(id(5));
    assert_eq!(sent(&session).len(), 1);
}

#[test]
fn what_is_not_acknowledged_is_bounded_in_bytes_too() {
    let session = Session::new(QueueLimits { messages: 1000, bytes: 1000 });
    session.attach(Attachment(1));
    let large = |size: usize| {
        let Delivery { message, .. } = event("e", Grant::AtLeastOnce);
        let message = Message { payload: vec![b'.'; size].into(), ..Message::clone(&message) };
        Delivery { message: Arc::new(message), ..event("e", Grant::AtLeastOnce) }
    };
    // One always goes, however large.
    for (size, sent_at_once) in [(5000, 1), (400, 0), (400, 0)] {
        session.publish(large(size));
        assert_eq!(sent(&session).len(), sent_at_once, "{size}");
    }
    session.acknowledged(id(1));
    assert_eq!(sent(&session).len(), 2);
    session.publish(large(400));
    assert_eq!(sent(&session).len(), 0);
    // A client that takes less now gives the room back.
    session.detach();
    session.attach(Attachment(2));
    let mut small = out_that_takes(100);
    assert_eq!(session.take(&mut small), Taken::All);
    assert!(small.is_empty());
    session.publish(large(400));
    assert_eq!(sent(&session).len(), 1);
}

#[test]
fn answers_reach_only_the_connection_that_asked() {
    let session = attached();
    session.attach(Attachment(2));
    session.reply(Attachment(1), Reply::PubAck(id(1), Reason::Success));
    let mut out = out();
    assert_eq!(session.take(&mut out), Taken::All);
    assert!(out.is_empty());
}

#[test]
fn a_publish_at_qos_2_is_new_once_until_it_is_released() {
    let session = attached();
    assert_eq!(session.receive_once(id(1)), Some(Once::New));
    assert_eq!(session.receive_once(id(1)), Some(Once::Pending));
    session.received_once(id(1));
    assert_eq!(session.receive_once(id(1)), Some(Once::Received));
    session.release(id(1));
    assert_eq!(session.receive_once(id(1)), Some(Once::New));
    assert!((2..=MAX_UNRELEASED as u16).all(|n| session.receive_once(id(n)) == Some(Once::New)));
    assert_eq!(session.receive_once(id(9999)), None);
}

#[test]
fn a_publish_at_qos_2_is_answered_when_it_is_safe_whichever_connection_there_is_then() {
    let session = attached();
    session.receive_once(id(1));
    session.receive_once(id(2));
    session.detach();
    session.attach(Attachment(2));
    let mut out = out();
    assert_eq!((session.take(&mut out), out.is_empty()), (Taken::All, true));
    session.received_once(id(1));
    session.take(&mut out);
    assert!(!out.is_empty());
    session.failed_once(id(2), End::NotStored);
    assert_eq!(session.take(&mut out), Taken::Ended(End::NotStored));
}

#[test]
fn a_shutdown_leaves_room_for_what_waits_and_nothing_else_that_ends_a_connection_does() {
    for (end, is_empty) in [(End::Shutdown, false), (End::NotAuthorized, true), (End::TakenOver, true)] {
        let session = attached();
        session.publish(event("a", Grant::AtLeastOnce));
        session.end(Attachment(1), end);
        let mut out = out();
        assert_eq!((session.take(&mut out), out.is_empty()), (Taken::Ended(end), is_empty));
    }
}

fn attached() -> Session {
    let session = Session::new(LIMITS);
    session.attach(Attachment(1));
    session
}

fn event(topic: &str, grant: Grant) -> Delivery {
    delivery(topic, grant, false)
}

fn state(topic: &str) -> Delivery {
    delivery(topic, Grant::AtMostOnce, true)
}

fn delivery(topic: &str, grant: Grant, retain: bool) -> Delivery {
    let topic = TopicName::parse(topic).unwrap();
    let message = Message { payload: Bytes::from_static(b"x"), grant, retain, ..Message::clearing(topic) };
    Delivery { message: Arc::new(message), grant, retain: false, subscriptions: SubscriptionIds::None }
}

fn id(id: u16) -> PacketId {
    PacketId(NonZeroU16::new(id).unwrap())
}

fn out() -> Outgoing {
    out_with_window(WINDOW)
}

fn out_with_window(window: usize) -> Outgoing {
    Outgoing::new(Terms { window, ..Terms::UNKNOWN })
}

fn out_that_takes(maximum_packet_bytes: usize) -> Outgoing {
    Outgoing::new(Terms { window: WINDOW, maximum_packet_bytes, ..Terms::UNKNOWN })
}

/// The topics of everything that the session now sends.
fn sent(session: &Session) -> Vec<String> {
    let mut wire = bytes::BytesMut::new();
    loop {
        let mut out = out();
        let taken = session.take(&mut out);
        while !out.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); MAX_SLICES];
            let filled = out.slices(&mut slices);
            let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            out.written(bytes.len());
            wire.extend_from_slice(&bytes);
        }
        if taken != Taken::Congested {
            break;
        }
    }
    let mut topics = Vec::new();
    while !wire.is_empty() {
        let rumqttc::Packet::Publish(publish) = rumqttc::Packet::read(&mut wire, 1 << 20).unwrap() else {
            panic!()
        };
        topics.push(publish.topic);
    }
    topics
}
