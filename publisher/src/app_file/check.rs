//! `[[check]]` and `[proof]`.

use schemas::release::{Check, Expect, Probe, Proof};
use serde::Deserialize;

use super::{Command, Period, exactly_one, run::UnitName};

/// Often enough that a trial of five seconds sees several answers.
const INTERVAL_MS: u64 = 1_000;
/// A healthy small app answers in milliseconds; a Pi under load may need seconds.
const TIMEOUT_MS: u64 = 3_000;
/// One good answer is an answer.
const HEALTHY_AFTER: u32 = 1;
/// One bad answer may be a hiccup, three in a row are none.
const UNHEALTHY_AFTER: u32 = 3;

/// An entry as it is written. It is turned into a [`Check`] by the reader, which knows the line of each entry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckEntry {
    http: Option<HttpUrl>,
    tcp: Option<TcpAddress>,
    exec: Option<Command>,
    unit: Option<UnitName>,
    interval: Option<Period>,
    timeout: Option<Period>,
    healthy_after: Option<u32>,
    unhealthy_after: Option<u32>,
}

impl TryFrom<CheckEntry> for Check {
    type Error = String;

    fn try_from(raw: CheckEntry) -> Result<Self, String> {
        let probe = exactly_one(
            "[[check]]",
            vec![
                ("http", raw.http.map(|url| Probe::Http { url: url.0 })),
                ("tcp", raw.tcp.map(|address| Probe::Tcp { address: address.0 })),
                ("exec", raw.exec.map(|command| Probe::Exec { command: command.0 })),
                ("unit", raw.unit.map(|unit| Probe::SystemdActive { unit: unit.0 })),
            ],
        )?;
        let check = Self {
            probe,
            interval_ms: raw.interval.map_or(INTERVAL_MS, |period| period.0),
            timeout_ms: raw.timeout.map_or(TIMEOUT_MS, |period| period.0),
            healthy_after: raw.healthy_after.unwrap_or(HEALTHY_AFTER),
            unhealthy_after: raw.unhealthy_after.unwrap_or(UNHEALTHY_AFTER),
        };
        if check.healthy_after == 0 || check.unhealthy_after == 0 {
            return Err("`healthy_after` and `unhealthy_after` must be at least 1".to_owned());
        }
        Ok(check)
    }
}

#[derive(Deserialize)]
#[serde(try_from = "RawProof")]
pub(super) struct ProofTable(pub(super) Proof);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProof {
    http: Option<HttpUrl>,
    pointer: Option<String>,
    exec: Option<Command>,
    expect: ExpectWord,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ExpectWord {
    Commit,
    Version,
    TreeHash,
}

impl TryFrom<RawProof> for ProofTable {
    type Error = String;

    fn try_from(raw: RawProof) -> Result<Self, String> {
        let expect = match raw.expect {
            ExpectWord::Commit => Expect::Commit,
            ExpectWord::Version => Expect::Version,
            ExpectWord::TreeHash => Expect::TreeHash,
        };
        let has_pointer = raw.pointer.is_some();
        let pointer = raw.pointer.unwrap_or_default();
        let exec = raw.exec.map(|command| Proof::Exec { command: command.0, expect });
        let is_exec = exec.is_some();
        let http = raw.http.map(|url| Proof::Http { url: url.0, pointer: pointer.clone(), expect });
        let proof = exactly_one("[proof]", vec![("http", http), ("exec", exec)])?;
        if is_exec && has_pointer {
            return Err("`pointer` is for `http`; of a command the whole output counts".to_owned());
        }
        if !is_exec && !pointer.starts_with('/') {
            return Err("`pointer` must name the value in the JSON answer, as in `/commit`".to_owned());
        }
        Ok(Self(proof))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct HttpUrl(String);

impl TryFrom<String> for HttpUrl {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        let host = url.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or_default());
        match host {
            Some(host) if !host.is_empty() && !url.contains(char::is_whitespace) => Ok(Self(url)),
            _ => Err(format!("`{url}` is not an http:// address as seen from the node")),
        }
    }
}

/// `host:port`; as in all addresses, the node replaces `${NAME}`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct TcpAddress(String);

impl TryFrom<String> for TcpAddress {
    type Error = String;

    fn try_from(address: String) -> Result<Self, String> {
        let good = address.rsplit_once(':').is_some_and(|(host, port)| {
            let is_variable = port.starts_with("${") && port.ends_with('}');
            let is_port = is_variable || port.parse::<u16>().is_ok_and(|port| port > 0);
            !host.is_empty() && !host.contains(['/', ' ']) && is_port
        });
        if good { Ok(Self(address)) } else { Err(format!("`{address}` is not like `127.0.0.1:8000`")) }
    }
}
