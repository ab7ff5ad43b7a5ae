//! Brokers that cut, refuse, forget and flood.

use std::{collections::BTreeSet, time::Duration};

use futures_util::FutureExt as _;
use rumqttc::{ConnectReturnCode, Packet, Publish, QoS, SubscribeReasonCode};
use tokio::time::Instant;

use super::{
    Bus, Event, Filter, Message, availability_topic, eager, event_topic, fleet, info_topic, next_event,
    next_message, numbers, publish_numbers,
    scripted::{Reserved, Scripted, text},
    until_connected, until_delivered, until_subscribed,
};
use crate::{
    Credentials,
    bus::{Lost, Undelivered},
};

#[tokio::test]
async fn all_messages_arrive_over_five_cuts_by_a_broker_that_forgets_sessions() {
    let broker = Scripted::bind().await;
    let (bus, _events) = Bus::connect(eager(broker.url(), "pi"));
    let deliveries = publish_numbers(&bus, 0..400);
    let served = tokio::spawn(async move {
        let mut arrived = BTreeSet::new();
        for _ in 0..5 {
            // Half of what came in is taken and acknowledged, the rest is lost with the connection.
            let mut peer = broker.let_in().await;
            for n in 0..60 {
                let publish = peer.read_publish().await;
                if n % 2 == 0 {
                    arrived.insert(text(&publish));
                    peer.ack(&publish).await;
                }
            }
        }
        let mut peer = broker.let_in().await;
        while arrived.len() < 400 {
            let publish = peer.read_publish().await;
            arrived.insert(text(&publish));
            peer.ack(&publish).await;
        }
        (arrived, peer)
    });
    until_delivered(deliveries).await;
    let (arrived, _peer) = served.await.unwrap();
    assert_eq!(arrived, numbers(0..400));
}

#[tokio::test]
async fn a_delivery_waits_for_the_acknowledgement_and_not_for_the_packet() {
    let broker = Scripted::bind().await;
    let (bus, _events) = Bus::connect(eager(broker.url(), "pi"));
    let mut delivery = bus.publish(Message::new(event_topic(), "1"));
    let first = broker.let_in().await.read_publish().await;
    assert_eq!(text(&first), "1");
    let mut peer = broker.let_in().await;
    let again = peer.read_publish().await;
    assert_eq!(text(&again), "1");
    assert_eq!((&mut delivery).now_or_never(), None);
    peer.ack(&again).await;
    until_delivered([delivery]).await;
}

#[tokio::test]
async fn subscriptions_and_own_state_are_said_on_every_connect_even_with_a_session() {
    let broker = Scripted::bind().await;
    let mut options = eager(broker.url(), "pi");
    options.greeting = vec![Message::new(availability_topic(), "online")];
    let (bus, _events) = Bus::connect(options);
    bus.subscribe([Filter::everything(&fleet())]);
    drop(bus.set_retained(Message::new(info_topic(), "old")));
    drop(bus.set_retained(Message::new(info_topic(), "new")));
    for session_present in [false, true, true] {
        let (mut peer, connect) = broker.answer(ConnectReturnCode::Success, session_present).await;
        assert!(!connect.clean_session);
        let greeting = peer.read_publish().await;
        assert_eq!((text(&greeting).as_str(), greeting.retain), ("online", true));
        assert_eq!(peer.read_subscribe().await.filters[0].path, "test/v1/#");
        let state = peer.read_publish().await;
        assert_eq!((text(&state).as_str(), state.retain), ("new", true));
        peer.ack(&greeting).await;
        peer.ack(&state).await;
    }
}

#[tokio::test]
async fn a_refused_log_in_is_told_once_with_what_to_do_and_tried_again() {
    let broker = Scripted::bind().await;
    let mut options = eager(broker.url(), "pi");
    options.credentials = Some(Credentials::new("pi", "wrong"));
    let (_bus, mut events) = Bus::connect(options);
    broker.answer(ConnectReturnCode::BadUserNamePassword, false).await;
    broker.answer(ConnectReturnCode::NotAuthorized, false).await;
    let (_peer, connect) = broker.answer(ConnectReturnCode::Success, false).await;
    let login = connect.login.unwrap();
    assert_eq!((login.username.as_str(), login.password.as_str()), ("pi", "wrong"));
    // News of the connection replace each other, so what is read depends on when; the refusal comes at most once.
    let mut refusals = 0;
    loop {
        match next_event(&mut events).await {
            Event::Connected => break,
            Event::Disconnected(lost @ Lost::Refused { .. }) => {
                refusals += 1;
                assert!(lost.to_string().ends_with("does not let user `pi` in"), "{lost}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(refusals <= 1, "{refusals}");
}

#[tokio::test]
async fn a_broker_that_is_not_there_yet_is_told_and_found_when_it_comes() {
    let reserved = Reserved::new();
    let (_bus, mut events) = Bus::connect(eager(reserved.url(), "pi"));
    let event = next_event(&mut events).await;
    assert!(matches!(event, Event::Disconnected(Lost::BrokerDown { .. })), "{event:?}");
    let broker = reserved.listen();
    let _peer = broker.let_in().await;
    until_connected(&mut events).await;
}

#[tokio::test]
async fn a_broker_that_cuts_each_connection_at_once_is_not_hammered() {
    let broker = Scripted::bind().await;
    let mut options = eager(broker.url(), "pi");
    options.stable_after = Duration::from_secs(10);
    let (_bus, _events) = Bus::connect(options);
    let began = Instant::now();
    for _ in 0..4 {
        broker.let_in().await;
    }
    // The shortest delays that can be drawn: 0, 300 and 600 ms.
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_link_that_has_gone_silent_is_given_up() {
    let broker = Scripted::bind().await;
    let mut options = eager(broker.url(), "pi");
    options.keep_alive = Duration::from_secs(1);
    let (_bus, mut events) = Bus::connect(options);
    let _silent = broker.let_in().await;
    until_connected(&mut events).await;
    let event = next_event(&mut events).await;
    assert!(matches!(event, Event::Disconnected(Lost::Unreachable { .. })), "{event:?}");
    let _peer = broker.let_in().await;
    until_connected(&mut events).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_to_take_is_told_as_that() {
    let broker = Scripted::bind().await;
    let (_bus, mut events) = Bus::connect(eager(broker.url(), "pi"));
    let mut peer = broker.let_in().await;
    until_connected(&mut events).await;
    peer.say(&info_topic(), vec![b'x'; 300 * 1024]).await;
    let event = next_event(&mut events).await;
    assert!(matches!(event, Event::Disconnected(Lost::TooLarge { .. })), "{event:?}");
}

#[tokio::test]
async fn a_message_that_is_too_large_to_send_is_refused_at_once_and_harms_nothing() {
    let broker = Scripted::bind().await;
    let (bus, _events) = Bus::connect(eager(broker.url(), "pi"));
    let mut peer = broker.let_in().await;
    let large = vec![b'x'; 256 * 1024];
    for delivery in [
        bus.publish(Message::new(info_topic(), large.clone())),
        bus.set_retained(Message::new(info_topic(), large)),
    ] {
        assert!(matches!(delivery.await, Err(Undelivered::TooLarge { .. })));
    }
    let not_retained = bus.set_retained(Message::new(event_topic(), "1")).await;
    assert_eq!(not_retained, Err(Undelivered::NotRetained { topic: event_topic() }));
    let largest = vec![b'x'; 256 * 1024 - 9 - info_topic().to_string().len()];
    let delivery = bus.publish(Message::new(info_topic(), largest));
    let publish = peer.read_publish().await;
    peer.ack(&publish).await;
    until_delivered([delivery]).await;
}

#[tokio::test]
async fn what_was_said_just_before_a_cut_is_heard() {
    let broker = Scripted::bind().await;
    let (_bus, mut events) = Bus::connect(eager(broker.url(), "pi"));
    for n in 0..10 {
        // Dropped at once, so that the client mostly reads the last word and the end together.
        broker.let_in().await.say(&event_topic(), n.to_string()).await;
        assert_eq!(next_message(&mut events).await.payload, n.to_string());
    }
}

#[tokio::test]
async fn a_client_that_only_talks_works_without_anybody_to_read_its_events() {
    let broker = Scripted::bind().await;
    let (bus, events) = Bus::connect(eager(broker.url(), "pi"));
    drop(events);
    let mut peer = broker.let_in().await;
    peer.say(&event_topic(), "unheard").await;
    let delivery = bus.publish(Message::new(event_topic(), "heard"));
    let publish = peer.read_publish().await;
    peer.ack(&publish).await;
    until_delivered([delivery]).await;
}

#[tokio::test]
async fn a_denied_subscription_is_told() {
    let broker = Scripted::bind().await;
    let (bus, mut events) = Bus::connect(eager(broker.url(), "pi"));
    bus.subscribe([Filter::everything(&fleet())]);
    let mut peer = broker.let_in().await;
    let subscribe = peer.read_subscribe().await;
    peer.grant(&subscribe, SubscribeReasonCode::Failure).await;
    until_connected(&mut events).await;
    let event = next_event(&mut events).await;
    assert!(matches!(&event, Event::Denied(filter) if *filter == Filter::everything(&fleet())), "{event:?}");
}

#[tokio::test]
async fn subscriptions_are_renewed_while_connected() {
    let broker = Scripted::bind().await;
    let mut options = eager(broker.url(), "pi");
    options.resubscribe_every = Duration::from_millis(10)..=Duration::from_millis(20);
    let (bus, _events) = Bus::connect(options);
    bus.subscribe([Filter::everything(&fleet())]);
    let mut peer = broker.let_in().await;
    for _ in 0..3 {
        let subscribe = peer.read_subscribe().await;
        assert_eq!(subscribe.filters[0].path, "test/v1/#");
        peer.grant(&subscribe, SubscribeReasonCode::Success(QoS::AtLeastOnce)).await;
    }
}

#[tokio::test]
async fn a_will_that_comes_late_is_answered_with_the_greeting() {
    let broker = Scripted::bind().await;
    let mut options = eager(broker.url(), "pi");
    options.will = Some(Message::new(availability_topic(), "offline"));
    options.greeting = vec![Message::new(availability_topic(), "online")];
    let (_bus, _events) = Bus::connect(options);
    let (mut peer, connect) = broker.answer(ConnectReturnCode::Success, false).await;
    let will = connect.last_will.unwrap();
    assert_eq!((will.topic, will.retain), (availability_topic().to_string(), true));
    assert_eq!(text(&peer.read_publish().await), "online");
    assert_eq!(peer.read_subscribe().await.filters[0].path, availability_topic().to_string());
    peer.say(&availability_topic(), "offline").await;
    assert_eq!(text(&peer.read_publish().await), "online");
}

#[tokio::test]
async fn foreign_topics_are_not_delivered() {
    let broker = Scripted::bind().await;
    let (_bus, mut events) = Bus::connect(eager(broker.url(), "pi"));
    let mut peer = broker.let_in().await;
    for topic in ["", "x", "test/v9/trust", "ärger/x", "test/v1/node/pi/info/x"] {
        peer.write(Packet::Publish(Publish::new(topic, QoS::AtMostOnce, "x"))).await;
    }
    peer.say(&info_topic(), "ours").await;
    assert_eq!(next_message(&mut events).await.topic, info_topic());
}

#[tokio::test]
async fn a_reader_that_was_slow_gets_the_state_again_once_it_has_caught_up() {
    let broker = Scripted::bind().await;
    let filter = Filter::everything(&fleet());
    let (bus, mut events) = Bus::connect(eager(broker.url(), "pi"));
    bus.subscribe([filter.clone()]);
    let mut peer = broker.let_in().await;
    let subscribe = peer.read_subscribe().await;
    for n in 0..3000 {
        peer.say(&event_topic(), n.to_string()).await;
    }
    peer.grant(&subscribe, SubscribeReasonCode::Success(QoS::AtLeastOnce)).await;
    // The client goes on although nobody reads: this is acknowledged after all of the flood was taken in.
    let delivery = bus.publish(Message::new(event_topic(), "alive"));
    let publish = peer.read_publish().await;
    peer.ack(&publish).await;
    until_delivered([delivery]).await;
    until_subscribed(&mut events, &filter).await;
    for n in 0..1024 {
        assert_eq!(next_message(&mut events).await.payload, n.to_string());
    }
    let renewed = async { peer.read_subscribe().await };
    tokio::select! {
        event = next_event(&mut events) => panic!("{event:?}"),
        subscribe = renewed => assert_eq!(subscribe.filters[0].path, filter.as_str()),
    }
}
