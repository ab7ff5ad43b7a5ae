//! What a client of the bus must know before it can connect.

use std::{fmt, net::Ipv6Addr, ops::RangeInclusive, str::FromStr, time::Duration};

use rumqttc::{LastWill, MqttOptions, QoS};
use schemas::id::NodeId;
use serde::{Deserialize, Serialize};

use super::message::{MAX_PACKET_BYTES, Message};
use crate::Credentials;

/// The port that MQTT without TLS is registered for.
const DEFAULT_PORT: u16 = 1883;
/// Longest name that DNS takes.
const MAX_HOST_BYTES: usize = 253;
/// Longest client id: what the relay and all brokers that we know take.
const MAX_CLIENT_ID_BYTES: usize = 128;
/// A silent link is noticed after one to two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How often subscriptions are renewed: a SUBACK and silence prove nothing, on any broker.
const RESUBSCRIBE_EVERY: RangeInclusive<Duration> = Duration::from_mins(10)..=Duration::from_mins(30);
/// A connection that ends sooner counts as a failure, so that what ends it at once each time (a message that is too
/// large, a second machine with the same client id) does not make us connect in a tight loop.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Longer than a broker on an SD card takes to make the last messages durable.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Packets that may wait for their acknowledgement; packet ids go round within it.
pub(super) const INFLIGHT: u16 = 100;

/// Why a text is not the address of a bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBusUrl {
    /// Well formed, but not supported.
    #[error(
        "`{0}` asks for TLS, which the bus does not speak yet: use mqtt:// inside a network that you trust, or a VPN"
    )]
    Tls(String),
    /// A name or password does not belong into an address, where logs would show it.
    #[error(
        "bus address contains user or password: write mqtt://HOST:PORT and give them as `user` and `password`"
    )]
    Credentials,
    /// Anything else.
    #[error("`{0}` is not the address of a bus: write mqtt://HOST or mqtt://HOST:PORT")]
    Malformed(String),
}

/// Where the bus is: `mqtt://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BusUrl {
    host: String,
    port: u16,
}

impl BusUrl {
    /// Name or address of the broker's machine; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port of the broker.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for BusUrl {
    type Err = InvalidBusUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBusUrl> {
        if text.contains('@') {
            return Err(InvalidBusUrl::Credentials);
        }
        let shown = || text.chars().take(200).collect::<String>();
        let malformed = || InvalidBusUrl::Malformed(shown());
        if text.starts_with("mqtts://") {
            return Err(InvalidBusUrl::Tls(shown()));
        }
        let rest = text.strip_prefix("mqtt://").ok_or_else(malformed)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(rest).ok_or_else(malformed)?;
        if is_host(host) { Ok(Self { host: host.to_owned(), port }) } else { Err(malformed()) }
    }
}

fn split_port(authority: &str) -> Option<(&str, u16)> {
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[after_brackets..].find(':') else {
        return Some((authority, DEFAULT_PORT));
    };
    let (host, port) = authority.split_at(after_brackets + colon);
    let digits = &port[1..];
    let port = digits.parse().ok().filter(|port| *port != 0)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then_some((host, port))
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (1..=MAX_HOST_BYTES).contains(&host.len()) && host.bytes().all(fits)
}

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt://{}:{}", self.host, self.port)
    }
}

impl From<BusUrl> for String {
    fn from(url: BusUrl) -> Self {
        url.to_string()
    }
}

impl TryFrom<String> for BusUrl {
    type Error = InvalidBusUrl;

    fn try_from(text: String) -> Result<Self, InvalidBusUrl> {
        text.parse()
    }
}

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
    /// What the broker says for us when we are gone without a word.
    pub will: Option<Message>,
    /// Said after every connect, and at once when a will of an earlier connection comes late.
    pub greeting: Vec<Message>,
    /// A silent link is noticed after one to two of these; whole seconds.
    pub keep_alive: Duration,
    /// Subscriptions are renewed after a time drawn from this range.
    pub resubscribe_every: RangeInclusive<Duration>,
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
            will: None,
            greeting: Vec::new(),
            keep_alive: KEEP_ALIVE,
            resubscribe_every: RESUBSCRIBE_EVERY,
            stable_after: STABLE_AFTER,
            close_limit: CLOSE_LIMIT,
        }
    }

    /// The same in the words of the MQTT client.
    pub(super) fn to_mqtt(&self) -> MqttOptions {
        let mut mqtt = MqttOptions::new(self.client_id.to_string(), self.url.host(), self.url.port());
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
    fn an_address_may_leave_out_the_port() {
        for (text, shown) in [
            ("mqtt://pi", "mqtt://pi:1883"),
            ("mqtt://pi.local:1884/", "mqtt://pi.local:1884"),
            ("mqtt://127.0.0.1:41883", "mqtt://127.0.0.1:41883"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
            ("mqtt://[::1]:99", "mqtt://[::1]:99"),
        ] {
            assert_eq!(text.parse::<BusUrl>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for text in [
            "",
            "pi",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://pi:",
            "mqtt://pi:0",
            "mqtt://pi:+1",
            "mqtt://pi:70000",
            "mqtt://pi/x",
            "mqtt://p i",
            "mqtt://[::1",
            "mqtt://::1",
            "http://pi",
            "mqtt://pi?x",
        ] {
            let error = text.parse::<BusUrl>().unwrap_err();
            assert_eq!(error, InvalidBusUrl::Malformed(text.to_owned()));
        }
    }

    #[test]
    fn tls_is_refused_with_what_to_do_instead() {
        let error = "mqtts://pi".parse::<BusUrl>().unwrap_err().to_string();
        assert!(error.contains("yet") && error.contains("use mqtt://"), "{error}");
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let error = "mqtt://anna:hunter2@pi".parse::<BusUrl>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

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
            assert_eq!(options.to_mqtt().keep_alive().as_secs(), got);
        }
    }
}
