//! Who gets in, and what they may do.

use rumqttc::{ConnectReturnCode, QoS, SubscribeReasonCode};

use crate::{
    bus::{Bus, user_line},
    client::{Client, Hello},
};

const USERS: [&str; 4] =
    ["pi-1 node groups=canary,all", "pi-2 node groups=all", "anna publisher", "screen watcher"];

#[test]
fn refusals_say_why() {
    let bus = Bus::with_users(&USERS);
    let refused = |hello: Hello| Client::connect(bus.mqtt(), &hello).err();
    assert_eq!(refused(Hello::new("x")), Some(ConnectReturnCode::NotAuthorized));
    let wrong = Some(ConnectReturnCode::BadUserNamePassword);
    assert_eq!(refused(Hello::new("x").password("anna", "guess")), wrong);
    assert_eq!(refused(Hello::new("x").password("nobody", "anna-secret")), wrong);
    assert_eq!(refused(Hello::new("anything").user("pi-1")), Some(ConnectReturnCode::BadClientId));
    assert_eq!(refused(Hello::new("pi-1").user("anna")), Some(ConnectReturnCode::BadClientId));
    assert_eq!(refused(Hello::new("pi-1").user("pi-1")), None);
    assert_eq!(refused(Hello::new("pi-1.web").user("pi-1")), None);
}

#[test]
fn a_will_is_checked_like_a_publish() {
    let bus = Bus::with_users(&USERS);
    let hello = |topic: &str| Hello::new("pi-1").user("pi-1").will(topic, "x", true);
    let forged = Client::connect(bus.mqtt(), &hello("deploybus/v1/node/pi-2/availability"));
    assert_eq!(forged.err(), Some(ConnectReturnCode::NotAuthorized));
    assert!(Client::connect(bus.mqtt(), &hello("deploybus/v1/node/pi-1/availability")).is_ok());
}

#[test]
fn a_denied_publish_is_acknowledged_and_reaches_nobody() {
    let bus = Bus::with_users(&USERS);
    let mut screen = bus.user("screen", "screen");
    screen.subscribe("deploybus/v1/#", 1);
    let mut node = bus.user("pi-1", "pi-1");
    for qos in 0..3 {
        node.publish("deploybus/v1/release/canary/web", "forged", qos, true);
        node.publish("deploybus/v1/node/pi-2/report", "forged", qos, true);
        node.publish("deploybus/v1/node/pi-1/command", "forged", qos, true);
    }
    node.publish("deploybus/v1/node/pi-1/report", "true", 1, true);
    assert_eq!(screen.messages(1), ["deploybus/v1/node/pi-1/report=true q1"]);
    assert_eq!(screen.pending(), [""; 0]);
}

#[test]
fn a_denied_subscription_fails_and_the_others_of_its_packet_do_not() {
    let bus = Bus::with_users(&USERS);
    let mut node = bus.user("pi-2", "pi-2");
    let codes = node.subscribe_all(&[
        ("deploybus/v1/release/all/+", 1),
        ("deploybus/v1/release/canary/+", 1),
        ("#", 1),
        ("$SYS/#", 0),
        ("deploybus/v1/trust", 0),
    ]);
    let (denied, granted) = (SubscribeReasonCode::Failure, SubscribeReasonCode::Success);
    assert_eq!(codes, [granted(QoS::AtLeastOnce), denied, denied, denied, granted(QoS::AtMostOnce)]);
    let mut anna = bus.user("anna", "laptop");
    anna.publish("deploybus/v1/release/canary/web", "1", 1, true);
    anna.publish("deploybus/v1/release/all/web", "1", 1, true);
    assert_eq!(node.messages(1), ["deploybus/v1/release/all/web=1 q1"]);
}

#[test]
fn a_session_belongs_to_its_user() {
    let bus = Bus::with_users(&USERS);
    let kept = Client::connect(bus.mqtt(), &Hello::new("shared").user("anna").keep()).unwrap();
    kept.disconnect();
    let stolen = Client::connect(bus.mqtt(), &Hello::new("shared").user("screen").keep());
    assert_eq!(stolen.err(), Some(ConnectReturnCode::BadClientId));
}

#[test]
fn a_user_that_is_taken_out_is_cut_off_and_leaves_no_session() {
    let bus = Bus::with_users(&["anna admin", "pi-1 node groups=all"]);
    let mut staying = bus.user("anna", "staying");
    staying.subscribe("#", 0);
    drop(Client::connect(bus.mqtt(), &Hello::new("pi-1.kept").user("pi-1").keep()).unwrap());
    let hello =
        Hello::new("pi-1").user("pi-1").keep().will("deploybus/v1/node/pi-1/state", "a last word", true);
    let mut gone = Client::connect(bus.mqtt(), &hello).unwrap();
    std::fs::write(bus.folder().join("users"), user_line("anna admin")).unwrap();
    gone.wait_for_end();
    staying.publish("still/there", "x", 1, false);
    assert_eq!(staying.message().text(), "still/there=x", "there is no last word of who is out");

    std::fs::write(bus.folder().join("users"), user_line("anna admin") + &user_line("pi-1 node")).unwrap();
    for id in ["pi-1", "pi-1.kept"] {
        let hello = Hello::new(id).user("pi-1").keep();
        assert!(!Client::connect(bus.mqtt(), &hello).unwrap().session_present, "{id}");
    }
}
