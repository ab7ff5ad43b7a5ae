//! What a client of the bus must know before it can connect.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use rumqttc::{LastWill, MqttOptions, QoS, TlsConfiguration, Transport};
use schemas::{id::NodeId, time::UnixTime};

use super::{
    address::{BusUrl, Server},
    message::{MAX_PACKET_BYTES, Message},
};
use crate::{Credentials, Tls};

/// Longest client id: what the relay and all brokers that we know take.
const MAX_CLIENT_ID_BYTES: usize = 128;
/// A silent link is noticed after one to two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How often subscriptions are renewed: a SUBACK and silence prove nothing, on any broker.
const RESUBSCRIBE_EVERY: RangeInclusive<Duration> = Duration::from_mins(10)..=Duration::from_mins(30);
/// The first time after a connect to a server of a cluster: a message between SUBSCRIBE and the moment when all servers know
/// of it is lost (seen with NATS 2.9).
const CLUSTER_SETTLES_IN: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(10);
/// A connection that ends sooner counts as a failure, so that what ends it at once each time (a message that is too
/// large, a second machine with the same client id) does not make us connect in a tight loop.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Longer than a broker on an SD card takes to make the last messages durable.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Packets that may wait for their acknowledgement; packet ids go round within it.
pub(super) const INFLIGHT: u16 = 100;

/// A text that is no client id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid client id: use 1 to {MAX_CLIENT_ID_BYTES} of A-Z, a-z, 0-9, `.`, `_` and `-`")]
pub struct InvalidClientId(String);

/// By what the broker tells connections apart: stable over restarts, and never the same on two machines.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientId(String);

impl FromStr for ClientId {
    type Err = InvalidClientId;

    fn from_str(text: &str) -> Result<Self, InvalidClientId> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if (1..=MAX_CLIENT_ID_BYTES).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidClientId(text.chars().take(200).collect()))
        }
    }
}

impl From<&NodeId> for ClientId {
    fn from(node: &NodeId) -> Self {
        Self(node.to_string())
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How to connect, and what to say when connected and when lost.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the bus is.
    pub url: BusUrl,
    /// The broker keeps a session under it.
    pub client_id: ClientId,
    /// Who we are; `None` where the broker lets anybody in.
    pub credentials: Option<Credentials>,
    /// Whom TLS believes where the URL asks for it: those that browsers believe when it is none.
    pub tls: Option<Tls>,
    /// What the broker says for us when we are gone without a word.
    pub will: Option<Message>,
    /// Said after every connect, and at once when a will of an earlier connection comes late.
    pub greeting: Vec<Message>,
    /// A silent link is noticed after one to two of these; whole seconds.
    pub keep_alive: Duration,
    /// What was not acknowledged when the connection is lost is not said on the next one: for whoever has something to say only
    /// while it hears the others.
    pub forgets_when_lost: bool,
    /// Subscriptions are renewed after a time drawn from this range.
    pub resubscribe_every: RangeInclusive<Duration>,
    /// The same for the first time after a connect, where the bus has several servers.
    pub(super) cluster_settles_in: RangeInclusive<Duration>,
    /// Only connections that lived this long make the next reconnect a quick one.
    pub(super) stable_after: Duration,
    /// How long closing waits for acknowledgements.
    pub(super) close_limit: Duration,
}

impl Options {
    /// Options that suit nodes and services; change what differs.
    pub fn new(url: BusUrl, client_id: ClientId) -> Self {
        Self {
            url,
            client_id,
            credentials: None,
            tls: None,
            will: None,
            greeting: Vec::new(),
            keep_alive: KEEP_ALIVE,
            forgets_when_lost: false,
            resubscribe_every: RESUBSCRIBE_EVERY,
            cluster_settles_in: CLUSTER_SETTLES_IN,
            stable_after: STABLE_AFTER,
            close_limit: CLOSE_LIMIT,
        }
    }

    /// The same in the words of the MQTT client, to connect to `server`.
    pub(super) fn to_mqtt(&self, server: &Server) -> MqttOptions {
        let mut mqtt = MqttOptions::new(self.client_id.to_string(), server.bare_host(), server.port());
        if self.url.is_tls() {
            let tls = self.tls.clone().unwrap_or_else(|| Tls::public(UnixTime(0)));
            mqtt.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls.config())));
        }
        let keep_alive_secs = self.keep_alive.as_secs().clamp(1, u64::from(u16::MAX));
        mqtt.set_clean_session(false)
            .set_keep_alive(Duration::from_secs(keep_alive_secs))
            .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES)
            .set_inflight(INFLIGHT);
        if let Some(Credentials { user, password }) = &self.credentials {
            mqtt.set_credentials(user, password.reveal());
        }
        if let Some(Message { topic, payload }) = &self.will {
            let retain = topic.is_retained();
            mqtt.set_last_will(LastWill::new(topic.to_string(), payload.to_vec(), QoS::AtLeastOnce, retain));
        }
        mqtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_short_and_plain() {
        for good in ["pi-kitchen", "pi-kitchen.status", "A_1", &"x".repeat(128)] {
            assert_eq!(good.parse::<ClientId>().unwrap().to_string(), good);
        }
        for bad in ["", "a/b", "a b", "ä", "a+", "#", &"x".repeat(129)] {
            assert!(bad.parse::<ClientId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_keep_alive_that_mqtt_cannot_say_is_brought_into_its_range() {
        let mut options = Options::new("mqtt://pi".parse().unwrap(), "a".parse().unwrap());
        for (asked, got) in [(0, 1), (30, 30), (1 << 20, 65535)] {
            options.keep_alive = Duration::from_secs(asked);
            assert_eq!(options.to_mqtt(options.url.first()).keep_alive().as_secs(), got);
        }
    }
}
