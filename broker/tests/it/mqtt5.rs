//! What MQTT 5 adds, by rumqttc's codec for it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{
        ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectProperties,
        DisconnectReasonCode, Filter, LastWill, LastWillProperties, Login, Packet, PubAck, PubAckReason,
        Publish, PublishProperties, RetainForwardRule, Subscribe, SubscribeProperties, SubscribeReasonCode,
    },
};

use crate::bus::Bus;

/// Longer than anything should take, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

/// A blocking client of MQTT 5.
pub(crate) struct Client5 {
    stream: TcpStream,
    input: BytesMut,
    pub(crate) welcome: ConnAck,
}

/// What it says first.
pub(crate) struct Hello5 {
    connect: Connect,
    properties: ConnectProperties,
    pub(crate) will: Option<LastWill>,
    login: Option<Login>,
}

impl Hello5 {
    pub(crate) fn new(id: &str) -> Self {
        let connect =
            Connect { keep_alive: 60, client_id: id.to_owned(), clean_start: true, properties: None };
        Self { connect, properties: ConnectProperties::new(), will: None, login: None }
    }

    pub(crate) fn user(mut self, name: &str) -> Self {
        self.login = Some(Login::new(name, format!("{name}-secret")));
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut ConnectProperties)) -> Self {
        change(&mut self.properties);
        self
    }

    pub(crate) fn resume(mut self) -> Self {
        self.connect.clean_start = false;
        self
    }

    pub(crate) fn keep(self, secs: u32) -> Self {
        self.with(|properties| properties.session_expiry_interval = Some(secs))
    }

    pub(crate) fn will(self, topic: &str, delay_secs: u32) -> Self {
        self.will_of(topic, "gone", delay_secs)
    }

    pub(crate) fn will_of(mut self, topic: &str, payload: &str, delay_secs: u32) -> Self {
        let properties = LastWillProperties {
            delay_interval: Some(delay_secs),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: Some("x/gone".into()),
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        self.will = Some(LastWill::new(topic, payload.to_owned(), QoS::AtLeastOnce, false, Some(properties)));
        self
    }
}

impl Client5 {
    /// Connects; the relay's answer may be a refusal.
    pub(crate) fn say(address: SocketAddr, hello: Hello5) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let welcome =
            ConnAck { session_present: false, code: ConnectReturnCode::UnspecifiedError, properties: None };
        let mut client = Self { stream, input: BytesMut::new(), welcome };
        let connect = Connect { properties: Some(hello.properties), ..hello.connect };
        client.send(&Packet::Connect(connect, hello.will, hello.login));
        match client.packet() {
            Packet::ConnAck(ack) => client.welcome = ack,
            other => panic!("expected CONNACK, got {other:?}"),
        }
        client
    }

    pub(crate) fn connect(bus: &Bus, hello: Hello5) -> Self {
        let client = Self::say(bus.mqtt(), hello);
        assert_eq!(client.welcome.code, ConnectReturnCode::Success);
        client
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet; `None` when the relay has hung up.
    pub(crate) fn try_packet(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.input, None) {
                Ok(packet) => return Some(packet),
                Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(err) => panic!("the relay sent nonsense: {err}"),
            }
            let mut buffer = [0; 16384];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                // The relay hung up on something that it had not read.
                Err(err) if err.kind() == io::ErrorKind::ConnectionReset => return None,
                read => self.input.extend_from_slice(&buffer[..read.unwrap()]),
            }
        }
    }

    pub(crate) fn packet(&mut self) -> Packet {
        self.try_packet().expect("the relay should not hang up")
    }

    /// Reads until the end and answers nothing.
    pub(crate) fn only_read(mut self) -> JoinHandle<()> {
        thread::spawn(move || {
            let mut buffer = [0; 16384];
            while matches!(self.stream.read(&mut buffer), Ok(1..)) {}
        })
    }

    /// The next message, acknowledged.
    pub(crate) fn message(&mut self) -> Publish {
        match self.packet() {
            Packet::Publish(publish) => {
                if publish.qos == QoS::AtLeastOnce {
                    self.send(&Packet::PubAck(PubAck::new(publish.pkid, None)));
                }
                publish
            }
            other => panic!("expected a message, got {other:?}"),
        }
    }

    pub(crate) fn subscribe(&mut self, filter: Filter, id: Option<usize>) -> SubscribeReasonCode {
        let properties = id.map(|id| SubscribeProperties { id: Some(id), user_properties: Vec::new() });
        let mut subscribe = Subscribe::new(filter, properties);
        subscribe.pkid = 7;
        self.send(&Packet::Subscribe(subscribe));
        match self.packet() {
            Packet::SubAck(ack) => ack.return_codes[0],
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    pub(crate) fn publish(&mut self, publish: Publish) -> PubAckReason {
        self.send(&Packet::Publish(publish));
        match self.packet() {
            Packet::PubAck(ack) => ack.reason,
            other => panic!("expected PUBACK, got {other:?}"),
        }
    }

    /// Why the relay ends the connection.
    pub(crate) fn end(mut self) -> DisconnectReasonCode {
        match self.packet() {
            Packet::Disconnect(good_bye) => {
                assert!(self.try_packet().is_none());
                good_bye.reason_code
            }
            other => panic!("expected DISCONNECT, got {other:?}"),
        }
    }

    /// Fails when anything is on its way.
    pub(crate) fn assert_nothing_comes(&mut self) {
        self.send_bytes(&[0xc0, 0]);
        let next = self.packet();
        assert!(matches!(next, Packet::PingResp(_)), "{next:?}");
    }
}

pub(crate) fn message(topic: &str, payload: &str) -> Publish {
    Publish { pkid: 1, ..Publish::new(topic, QoS::AtLeastOnce, payload.to_owned(), None) }
}

pub(crate) fn retained(topic: &str, payload: &str) -> Publish {
    Publish { retain: true, ..message(topic, payload) }
}

pub(crate) fn filter(path: &str) -> Filter {
    Filter::new(path, QoS::AtLeastOnce)
}

#[test]
fn the_welcome_says_what_the_relay_takes() {
    let bus = Bus::with(|settings| settings.limits.session_expiry_secs = 1000);
    let client = Client5::connect(&bus, Hello5::new("").keep(u32::MAX));
    let told = client.welcome.properties.unwrap();
    assert_eq!((told.max_qos, told.shared_subscription_available), (Some(1), Some(0)));
    assert_eq!((told.receive_max, told.topic_alias_max), (Some(1024), Some(16)));
    assert_eq!(told.max_packet_size, Some(1024 * 1024));
    assert_eq!(told.session_expiry_interval, Some(1000));
    assert!(told.assigned_client_identifier.unwrap().starts_with("auto-"));
    assert_eq!(told.server_keep_alive, None);

    let mut silent = Hello5::new("silent");
    silent.connect.keep_alive = 0;
    let told = Client5::connect(&bus, silent).welcome.properties.unwrap();
    assert_eq!((told.server_keep_alive, told.assigned_client_identifier), (Some(3600), None));
}

#[test]
fn properties_reach_the_subscriber_unaltered_and_later_ones_too() {
    let mut bus = Bus::open();
    let mut client = Client5::connect(&bus, Hello5::new("a"));
    client.subscribe(filter("a/#"), Some(42));
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(600),
        topic_alias: None,
        response_topic: Some("answer/here".into()),
        correlation_data: Some("4711".into()),
        user_properties: vec![("b".into(), "2".into()), ("a".into(), "1".into()), ("b".into(), "3".into())],
        subscription_identifiers: Vec::new(),
        content_type: Some("application/json".into()),
    };
    let sent = Publish { properties: Some(properties.clone()), ..retained("a/b", "{}") };
    Client5::connect(&bus, Hello5::new("publisher")).publish(sent);
    let live = client.message();
    bus.restart();
    let mut late = Client5::connect(&bus, Hello5::new("late"));
    late.subscribe(filter("a/b"), None);
    for (received, id) in [(live, vec![42]), (late.message(), vec![])] {
        let mut got = received.properties.unwrap();
        assert_eq!(got.subscription_identifiers, id);
        got.subscription_identifiers.clear();
        let left = got.message_expiry_interval.unwrap();
        assert!((570..=600).contains(&left), "{left}");
        got.message_expiry_interval = Some(600);
        assert_eq!(got, properties);
    }
}

#[test]
fn overlapping_subscriptions_give_one_copy_with_all_their_ids() {
    let bus = Bus::open();
    let mut client = Client5::connect(&bus, Hello5::new("a"));
    client.subscribe(filter("a/#"), Some(1));
    client.subscribe(filter("a/+"), Some(200));
    client.subscribe(filter("a/b"), None);
    let mut other = Client5::connect(&bus, Hello5::new("b"));
    assert_eq!(other.publish(message("a/b", "x")), PubAckReason::Success);
    let mut ids = client.message().properties.unwrap().subscription_identifiers;
    ids.sort_unstable();
    assert_eq!(ids, [1, 200]);
    client.assert_nothing_comes();
}

#[test]
fn options_of_a_subscription_are_kept_to() {
    let bus = Bus::open();
    let mut client = Client5::connect(&bus, Hello5::new("a"));
    assert_eq!(client.publish(retained("s/1", "old")), PubAckReason::Success);

    client.subscribe(Filter { nolocal: true, preserve_retain: true, ..filter("s/#") }, None);
    assert_eq!((client.message().retain, bus.client("x").session_present), (true, false));
    assert_eq!(client.publish(retained("s/1", "own")), PubAckReason::Success);
    let mut other = Client5::connect(&bus, Hello5::new("b"));
    other.publish(retained("s/1", "foreign"));
    let foreign = client.message();
    assert_eq!((&foreign.payload[..], foreign.retain), (&b"foreign"[..], true));
    other.publish(message("s/1", "event"));
    assert!(!client.message().retain);

    // Not once more; never; and without its flag, which is the default.
    let not_again = |rule| Filter { retain_forward_rule: rule, ..filter("s/#") };
    client.subscribe(not_again(RetainForwardRule::OnNewSubscribe), None);
    client.assert_nothing_comes();
    let mut third = Client5::connect(&bus, Hello5::new("c"));
    third.subscribe(not_again(RetainForwardRule::Never), None);
    third.assert_nothing_comes();
    third.publish(retained("s/1", "own"));
    assert!(!third.message().retain);
}

#[test]
fn a_message_that_has_expired_reaches_nobody() {
    let bus = Bus::open();
    let mut client = Client5::connect(&bus, Hello5::new("a").keep(600));
    client.subscribe(filter("e/#"), None);
    drop(client);
    let expiring = |secs| {
        let properties =
            PublishProperties { message_expiry_interval: Some(secs), ..PublishProperties::default() };
        Publish { properties: Some(properties), ..retained("e/short", "x") }
    };
    let mut publisher = Client5::connect(&bus, Hello5::new("publisher"));
    publisher.publish(expiring(1));
    publisher.publish(retained("e/long", "x"));
    // It is gone when a new subscriber does not get it any more.
    let begin = std::time::Instant::now();
    loop {
        let mut late = Client5::connect(&bus, Hello5::new("late"));
        late.subscribe(filter("e/short"), None);
        late.send_bytes(&[0xc0, 0]);
        if matches!(late.packet(), Packet::PingResp(_)) {
            break;
        }
        assert!(begin.elapsed() < PATIENCE);
    }
    let mut client = Client5::connect(&bus, Hello5::new("a").resume());
    assert!(client.welcome.session_present);
    assert_eq!(client.message().topic, "e/long");
    client.assert_nothing_comes();
}

#[test]
fn a_will_waits_for_its_client_to_come_back() {
    let bus = Bus::open();
    let mut watcher = Client5::connect(&bus, Hello5::new("watcher"));
    watcher.subscribe(filter("will/#"), None);
    let mortal = |topic: &str, delay| Hello5::new(topic).keep(600).will(&format!("will/{topic}"), delay);

    // Comes back in time; says good-bye; has a session that ends before the will is due; wants its will.
    drop(Client5::connect(&bus, mortal("back", 600)));
    Client5::connect(&bus, mortal("back", 600).resume()).send_bytes(&[0xe0, 0]);
    drop(Client5::connect(&bus, Hello5::new("short").keep(1).will("will/short", 600)));
    let gone = watcher.message();
    assert_eq!(
        (&gone.topic[..], gone.properties.unwrap().content_type.as_deref()),
        (&b"will/short"[..], Some("x/gone"))
    );
    drop(Client5::connect(&bus, mortal("late", 1)));
    assert_eq!(watcher.message().topic, "will/late");
    Client5::connect(&bus, mortal("wanted", 0)).send_bytes(&[0xe0, 1, 4]);
    assert_eq!(watcher.message().topic, "will/wanted");
    // A clean start ends the session, and with it the wait.
    drop(Client5::connect(&bus, mortal("clean", 600)));
    let _again = Client5::connect(&bus, Hello5::new("clean"));
    assert_eq!(watcher.message().topic, "will/clean");
    watcher.assert_nothing_comes();
}

#[test]
fn a_session_ends_when_it_was_said_to() {
    let bus = Bus::open();
    let present = |client: &Client5| client.welcome.session_present;
    drop(Client5::connect(&bus, Hello5::new("a").keep(600)));
    let mut again = Client5::connect(&bus, Hello5::new("a").resume().keep(600));
    assert!(present(&again));
    // At the good-bye it may change its mind.
    let properties = DisconnectProperties {
        session_expiry_interval: Some(0),
        reason_string: None,
        user_properties: Vec::new(),
        server_reference: None,
    };
    again.send(&Packet::Disconnect(Disconnect {
        reason_code: DisconnectReasonCode::NormalDisconnection,
        properties: Some(properties.clone()),
    }));
    assert!(again.try_packet().is_none());
    assert!(!present(&Client5::connect(&bus, Hello5::new("a").resume())));

    let mut short = Client5::connect(&bus, Hello5::new("b"));
    short.send(&Packet::Disconnect(Disconnect {
        reason_code: DisconnectReasonCode::NormalDisconnection,
        properties: Some(DisconnectProperties { session_expiry_interval: Some(9), ..properties }),
    }));
    assert_eq!(short.end(), DisconnectReasonCode::ProtocolError);
}

#[test]
fn what_the_client_takes_is_all_that_it_gets() {
    let bus = Bus::open();
    let hello = Hello5::new("small").with(|properties| {
        properties.receive_maximum = Some(2);
        properties.max_packet_size = Some(100);
        properties.topic_alias_max = Some(1);
    });
    let mut small = Client5::connect(&bus, hello);
    small.subscribe(filter("a/rather/long/topic/#"), None);
    let mut publisher = Client5::connect(&bus, Hello5::new("publisher"));
    let topic = "a/rather/long/topic/1";
    publisher.publish(message(topic, &"x".repeat(200)));
    for n in 1..=4 {
        publisher.publish(message(topic, &n.to_string()));
    }
    let next = |client: &mut Client5| match client.packet() {
        Packet::Publish(publish) => publish,
        other => panic!("{other:?}"),
    };
    // The large one is left out; the topic is said once; and two is the most that wait for their PUBACK.
    let (first, second) = (next(&mut small), next(&mut small));
    assert_eq!((&first.topic[..], &first.payload[..]), (topic.as_bytes(), &b"1"[..]));
    assert_eq!((&second.topic[..], &second.payload[..]), (&b""[..], &b"2"[..]));
    assert_eq!(second.properties.unwrap().topic_alias, first.properties.unwrap().topic_alias);
    small.assert_nothing_comes();
    small.send(&Packet::PubAck(PubAck::new(first.pkid, None)));
    assert_eq!(next(&mut small).payload, "3");
    small.assert_nothing_comes();
}

#[test]
fn aliases_of_a_client_stand_for_its_topics() {
    let bus = Bus::open();
    let mut client = Client5::connect(&bus, Hello5::new("a"));
    client.subscribe(Filter::new("#", QoS::AtMostOnce), None);
    let aliased = |topic: &str, alias| {
        let properties = PublishProperties { topic_alias: Some(alias), ..PublishProperties::default() };
        Packet::Publish(Publish::new(topic, QoS::AtMostOnce, "x", Some(properties)))
    };
    for (topic, alias, expected) in
        [("one", 1, "one"), ("two", 16, "two"), ("", 1, "one"), ("three", 1, "three"), ("", 1, "three")]
    {
        client.send(&aliased(topic, alias));
        assert_eq!(client.message().topic, expected);
    }
    for (topic, alias, reason) in [
        ("x", 17, DisconnectReasonCode::TopicAliasInvalid),
        ("x", 0, DisconnectReasonCode::TopicAliasInvalid),
        ("", 2, DisconnectReasonCode::ProtocolError),
    ] {
        let mut client = Client5::connect(&bus, Hello5::new("b"));
        client.send(&aliased(topic, alias));
        assert_eq!(client.end(), reason);
    }
}

#[test]
fn what_goes_wrong_has_its_reason() {
    let bus = Bus::with(|settings| settings.limits.retained_topics_per_user = 1);
    let mut client = Client5::connect(&bus, Hello5::new("a"));
    assert_eq!(client.publish(retained("one", "x")), PubAckReason::Success);
    assert_eq!(client.publish(retained("two", "x")), PubAckReason::QuotaExceeded);
    assert_eq!(client.publish(message("$SYS/x", "x")), PubAckReason::NotAuthorized);
    assert_eq!(client.subscribe(filter("a/#/b"), None), SubscribeReasonCode::TopicFilterInvalid);
    assert_eq!(
        client.subscribe(filter("$share/a/b"), None),
        SubscribeReasonCode::SharedSubscriptionsNotSupported
    );
    for (bytes, reason) in [
        (&[0x10, 0][..], DisconnectReasonCode::ProtocolError),
        (&[0xf0, 0], DisconnectReasonCode::ProtocolError),
        (&[0xc1, 0], DisconnectReasonCode::MalformedPacket),
        (&[0x30, 4, 0, 1, b'#', 0], DisconnectReasonCode::TopicNameInvalid),
        (&[0x34, 6, 0, 1, b'a', 0, 1, 0], DisconnectReasonCode::QoSNotSupported),
        (&[0x30, 0xff, 0xff, 0xff, 0x7f], DisconnectReasonCode::PacketTooLarge),
    ] {
        let mut client = Client5::connect(&bus, Hello5::new("b"));
        client.send_bytes(bytes);
        assert_eq!(client.end(), reason, "{bytes:?}");
    }
    let taken_over = Client5::connect(&bus, Hello5::new("c"));
    let _other = Client5::connect(&bus, Hello5::new("c"));
    assert_eq!(taken_over.end(), DisconnectReasonCode::SessionTakenOver);
    let hello = Hello5::new("d").with(|properties| properties.authentication_method = Some("SCRAM".into()));
    let refused = Client5::say(bus.mqtt(), hello).welcome;
    assert_eq!(refused.code, ConnectReturnCode::BadAuthenticationMethod);
}
