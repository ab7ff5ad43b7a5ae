//! Where the bus is.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The ports that MQTT is registered for: plain, and over TLS.
const PLAIN_PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;
/// Longest name that DNS takes.
const MAX_HOST_BYTES: usize = 253;
/// Most servers of one bus: more than any cluster that we know lets clients choose from.
const MAX_SERVERS: usize = 16;

/// Why a text is not the address of a bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBusUrl {
    /// A name or password does not belong into an address, where logs would show it.
    #[error(
        "bus address contains user or password: write mqtts://HOST:PORT and give them as `user` and `password`"
    )]
    Credentials,
    /// Anything else.
    #[error(
        "`{0}` is not the address of a bus: write mqtts://HOST:PORT, or mqtt://HOST:PORT without TLS; several \
         servers of one cluster as mqtts://HOST:PORT,HOST:PORT"
    )]
    Malformed(String),
}

/// One server of a bus.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    is_tls: bool,
    host: String,
    port: u16,
}

impl Server {
    /// Name or address of the broker's machine; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port of the broker.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Name or address as TLS and DNS take it: IPv6 without brackets.
    pub(super) fn bare_host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    fn parse(is_tls: bool, text: &str) -> Option<Self> {
        let (host, port) = split_port(text)?;
        let port = port.unwrap_or(if is_tls { TLS_PORT } else { PLAIN_PORT });
        is_host(host).then(|| Self { is_tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", scheme(self.is_tls), self.host, self.port)
    }
}

/// Where the bus is: `mqtts://HOST[:PORT][,HOST[:PORT]…]`, or `mqtt://…` without TLS. Several servers are those of one
/// cluster: which of them one talks to makes no difference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BusUrl {
    first: Server,
    others: Vec<Server>,
}

impl BusUrl {
    /// The server that is named first.
    pub fn first(&self) -> &Server {
        &self.first
    }

    /// Whether it is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.first.is_tls
    }

    /// All servers, as they are named.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The server to try after `failures` failed connections.
    pub(super) fn server_after(&self, failures: usize) -> &Server {
        match failures % (self.others.len() + 1) {
            0 => &self.first,
            other => &self.others[other - 1],
        }
    }
}

impl FromStr for BusUrl {
    type Err = InvalidBusUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBusUrl> {
        if text.contains('@') {
            return Err(InvalidBusUrl::Credentials);
        }
        let malformed = || InvalidBusUrl::Malformed(text.chars().take(200).collect());
        let (is_tls, rest) = [true, false]
            .into_iter()
            .find_map(|is_tls| Some((is_tls, text.strip_prefix(scheme(is_tls))?)))
            .ok_or_else(malformed)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let servers: Option<Vec<_>> = rest.split(',').map(|server| Server::parse(is_tls, server)).collect();
        let mut servers = servers.filter(|servers| servers.len() <= MAX_SERVERS).ok_or_else(malformed)?;
        let first = servers.remove(0);
        Ok(Self { first, others: servers })
    }
}

fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "mqtts://" } else { "mqtt://" }
}

fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[after_brackets..].find(':') else {
        return Some((authority, None));
    };
    let (host, port) = authority.split_at(after_brackets + colon);
    let digits = &port[1..];
    let port = digits.parse().ok().filter(|port| *port != 0)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then_some((host, Some(port)))
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
        write!(f, "{}", self.first)?;
        self.others.iter().try_for_each(|Server { host, port, .. }| write!(f, ",{host}:{port}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_the_port_and_name_several_servers() {
        for (text, shown) in [
            ("mqtt://pi", "mqtt://pi:1883"),
            ("mqtts://pi", "mqtts://pi:8883"),
            ("mqtt://pi.local:1884/", "mqtt://pi.local:1884"),
            ("mqtt://127.0.0.1:41883", "mqtt://127.0.0.1:41883"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
            ("mqtts://[::1]:99", "mqtts://[::1]:99"),
            ("mqtts://a,b:1,[::1]", "mqtts://a:8883,b:1,[::1]:8883"),
        ] {
            assert_eq!(text.parse::<BusUrl>().unwrap().to_string(), shown);
            assert_eq!(shown.parse::<BusUrl>().unwrap(), text.parse().unwrap());
        }
    }

    #[test]
    fn servers_are_tried_in_turn() {
        let url: BusUrl = "mqtt://a,b,c".parse().unwrap();
        let tried: String = (0..7).map(|failures| url.server_after(failures).host()).collect();
        assert_eq!(tried, "abcabca");
        assert_eq!(url.servers().count(), 3);
        assert_eq!("mqtt://[::1]".parse::<BusUrl>().unwrap().server_after(5).bare_host(), "::1");
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
            "mqtt://a,,b",
            "mqtt://a,",
            "mqtt://a,mqtt://b",
            &format!("mqtt://{}", ["a"; 17].join(",")),
        ] {
            let error = text.parse::<BusUrl>().unwrap_err();
            assert_eq!(error, InvalidBusUrl::Malformed(text.to_owned()));
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let error = "mqtt://anna:hunter2@pi".parse::<BusUrl>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
