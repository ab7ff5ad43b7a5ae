//! Sessions, take-over and wills.

use rumqttc::{ConnectReturnCode, Packet, PubAck, SubscribeReasonCode};

use crate::{
    bus::Bus,
    client::{Client, Hello},
};

#[test]
fn a_kept_session_queues_while_its_client_is_away() {
    let bus = Bus::open();
    let hello = Hello::new("away").keep();
    let mut away = Client::connect(bus.mqtt(), &hello).unwrap();
    assert!(!away.session_present);
    away.subscribe("a/#", 1);
    away.disconnect();
    let mut publisher = bus.client("publisher");
    publisher.publish("a/1", "x", 1, false);
    publisher.publish("a/2", "x", 0, false);
    publisher.publish("a/3", "x", 1, false);

    let mut back = Client::connect(bus.mqtt(), &hello).unwrap();
    assert!(back.session_present);
    assert_eq!(back.messages(2), ["a/1=x q1", "a/3=x q1"]);
    publisher.publish("a/4", "x", 1, false);
    assert_eq!(back.messages(1), ["a/4=x q1"]);
}

#[test]
fn what_was_not_acknowledged_comes_again_marked_as_such() {
    let bus = Bus::open();
    let hello = Hello::new("forgetful").keep();
    let mut client = Client::connect(bus.mqtt(), &hello).unwrap();
    client.subscribe("a", 1);
    client.acknowledges = false;
    let mut publisher = bus.client("publisher");
    for n in 0..3 {
        publisher.publish("a", &n.to_string(), 1, false);
    }
    let ids: Vec<u16> = (0..3).map(|_| client.message().0.pkid).collect();
    client.send(&Packet::PubAck(PubAck::new(ids[1])));
    client.disconnect();
    let mut client = Client::connect(bus.mqtt(), &hello).unwrap();
    let again: Vec<_> = (0..2).map(|_| client.message()).collect();
    assert_eq!(again.iter().map(|m| m.0.pkid).collect::<Vec<_>>(), [ids[0], ids[2]]);
    assert!(again.iter().all(|message| message.0.dup));
    client.disconnect();
    assert_eq!(Client::connect(bus.mqtt(), &hello).unwrap().pending(), [""; 0]);
}

#[test]
fn kept_sessions_lock_nobody_out() {
    let bus = Bus::with_users_and(&["pi-1 node groups=all", "screen watcher"], |settings| {
        settings.limits.sessions = 3;
    });
    let node = Hello::new("pi-1").user("pi-1").keep();
    Client::connect(bus.mqtt(), &node).unwrap().disconnect();
    for n in 0..9 {
        let left_behind = Hello::new(&format!("screen-{n}")).user("screen").keep();
        Client::connect(bus.mqtt(), &left_behind).unwrap().disconnect();
    }
    let node = Client::connect(bus.mqtt(), &node).unwrap();
    assert!(node.session_present, "a user's own sessions go first");
    let _others: Vec<_> = (0..2).map(|n| bus.user("screen", &format!("screen.{n}"))).collect();
    let full = Client::connect(bus.mqtt(), &Hello::new("screen.3").user("screen")).err();
    assert_eq!(full, Some(ConnectReturnCode::ServiceUnavailable), "nobody who is connected has to go");
}

#[test]
fn one_user_has_so_many_sessions_and_no_more() {
    let bus = Bus::with_users_and(&["pi-1 node groups=all", "screen watcher"], |settings| {
        settings.limits.sessions_per_user = 3;
    });
    let kept = |n: u32| Hello::new(&format!("pi-1.{n}")).user("pi-1").keep();
    for n in 0..5 {
        Client::connect(bus.mqtt(), &kept(n)).unwrap().disconnect();
    }
    let back: Vec<_> = (2..5).map(|n| Client::connect(bus.mqtt(), &kept(n)).unwrap()).collect();
    assert!(back.iter().all(|client| client.session_present), "the oldest goes first");
    let full = Client::connect(bus.mqtt(), &kept(5)).err();
    assert_eq!(full, Some(ConnectReturnCode::ServiceUnavailable), "nobody who is connected has to go");
    let _other = bus.user("screen", "screen");
}

#[test]
fn filters_of_one_user_have_so_many_levels_and_no_more() {
    let bus = Bus::with_users_and(&["anna watcher", "bert watcher"], |settings| {
        settings.limits.filter_levels_per_user = 10;
    });
    let filter = |n: u32| format!("deploybus/v1/node/{n}/report");
    let (mut one, mut two) = (bus.user("anna", "one"), bus.user("anna", "two"));
    let granted = |client: &mut Client, n| client.subscribe(&filter(n), 0) != SubscribeReasonCode::Failure;
    assert!(granted(&mut one, 1) && granted(&mut two, 1) && !granted(&mut two, 2));
    assert!(granted(&mut two, 1), "what it has it may have again");
    assert!(granted(&mut bus.user("bert", "three"), 2));
    one.unsubscribe(&filter(1));
    assert!(granted(&mut two, 2) && !granted(&mut one, 1));
    two.disconnect();
    assert!(granted(&mut one, 1) && granted(&mut one, 2) && !granted(&mut one, 3));
}

#[test]
fn a_client_id_that_names_a_user_is_kept_free_for_it() {
    let bus = Bus::with_users(&["anna publisher", "bert watcher"]);
    let squatter = Hello::new("anna.desk").user("bert").keep();
    let mut squatter = Client::connect(bus.mqtt(), &squatter).unwrap();
    squatter.subscribe("deploybus/v1/#", 1);

    let anna = Client::connect(bus.mqtt(), &Hello::new("anna.desk").user("anna").keep()).unwrap();

    assert!(!anna.session_present);
    squatter.wait_for_end();
    let back = Client::connect(bus.mqtt(), &Hello::new("anna.desk").user("bert").keep());
    assert_eq!(back.err(), Some(ConnectReturnCode::BadClientId));
}

#[test]
fn a_clean_session_forgets_a_kept_one() {
    let bus = Bus::open();
    let mut client = Client::connect(bus.mqtt(), &Hello::new("a").keep()).unwrap();
    client.subscribe("a", 1);
    client.disconnect();
    let mut clean = bus.client("a");
    assert!(!clean.session_present);
    bus.client("publisher").publish("a", "x", 1, false);
    assert_eq!(clean.pending(), [""; 0]);
    clean.disconnect();
    assert!(!Client::connect(bus.mqtt(), &Hello::new("a").keep()).unwrap().session_present);
}

#[test]
fn the_queue_of_an_absent_client_keeps_the_newest() {
    let bus = Bus::with(|settings| settings.limits.queue_messages = 10);
    let hello = Hello::new("away").keep();
    let mut away = Client::connect(bus.mqtt(), &hello).unwrap();
    away.subscribe("a", 1);
    away.disconnect();
    let mut publisher = bus.client("publisher");
    for n in 0..25 {
        publisher.publish("a", &n.to_string(), 1, false);
    }
    let mut back = Client::connect(bus.mqtt(), &hello).unwrap();
    assert_eq!(back.messages(10), (15..25).map(|n| format!("a={n} q1")).collect::<Vec<_>>());
}

#[test]
fn a_will_is_published_for_who_is_lost_and_not_for_who_says_good_bye() {
    let bus = Bus::open();
    let mut watcher = bus.client("watcher");
    watcher.subscribe("will/#", 1);
    let mortal = |name: &str| {
        Client::connect(bus.mqtt(), &Hello::new(name).will(&format!("will/{name}"), "gone", false)).unwrap()
    };
    mortal("polite").disconnect();
    mortal("reset").reset();
    assert_eq!(watcher.messages(1), ["will/reset=gone q1"]);
    let closing = mortal("closing");
    closing.shut_down_writing();
    assert_eq!(watcher.messages(1), ["will/closing=gone q1"]);
    let mut offender = mortal("offender");
    offender.send_bytes(&[0xf0, 0]);
    assert_eq!(watcher.messages(1), ["will/offender=gone q1"]);
    let silent = Hello::new("silent").keep_alive(1).will("will/silent", "gone", false);
    let _silent = Client::connect(bus.mqtt(), &silent).unwrap();
    assert_eq!(watcher.messages(1), ["will/silent=gone q1"]);
}

#[test]
fn a_take_over_publishes_the_old_will_before_the_new_client_begins() {
    let bus = Bus::open();
    let mut watcher = bus.client("watcher");
    watcher.subscribe("state", 1);
    let hello = |will: &str| Hello::new("node").will("state", will, true);
    let mut old = Client::connect(bus.mqtt(), &hello("old is gone")).unwrap();
    let mut new = Client::connect(bus.mqtt(), &hello("new is gone")).unwrap();
    new.publish("state", "new is here", 1, true);
    old.wait_for_end();
    assert_eq!(watcher.messages(2), ["state=old is gone q1", "state=new is here q1"]);
    new.reset();
    assert_eq!(watcher.messages(1), ["state=new is gone q1"]);
}

#[test]
fn many_take_overs_at_once_leave_one_connection() {
    let bus = Bus::open();
    let address = bus.mqtt();
    let connect = move || Client::connect_or_hang_up(address, &Hello::new("same").keep());
    let threads: Vec<_> = (0..20).map(|_| std::thread::spawn(connect)).collect();
    let mut clients: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
    let mut last = connect().unwrap();
    clients.iter_mut().for_each(Client::wait_for_end);
    assert_eq!(last.pending(), [""; 0]);
}
