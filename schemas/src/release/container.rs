//! A part that is a container: how its image is built of the part's tree, and how the container runs.
//!
//! Ports, volumes and devices are kept as they are written, as in `${PORT}:8000`, for the node replaces `${NAME}`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::id::Digest;

/// How an image is built of a part's tree, and how the container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Path of the Dockerfile in the tree.
    pub dockerfile: String,
    /// The stage of it that is run; the last one when empty.
    #[serde(default)]
    pub target: String,
    /// Build arguments, beside GIT_COMMIT and CODE_SIGNATURE.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// Patterns of files whose change asks for a full build, beside the Dockerfile and those known to hold dependencies.
    #[serde(default)]
    pub full_on: Vec<String>,
    /// Another number than the last one asks for a build without any cache.
    #[serde(default)]
    pub forced: u64,
    /// Where files of the tree are in the image: path in the tree to absolute path. They are read back from there.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Program and arguments in place of the image's.
    #[serde(default)]
    pub command: Vec<String>,
    /// See [`Port`].
    #[serde(default)]
    pub ports: Vec<String>,
    /// See [`Volume`].
    #[serde(default)]
    pub volumes: Vec<String>,
    /// See [`Device`].
    #[serde(default)]
    pub devices: Vec<String>,
    /// Groups that its processes are in as well, as in `audio`.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Networks that it is in, or `host` or `none` alone; the engine's own bridge when there are none.
    #[serde(default)]
    pub networks: Vec<String>,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// How much of what it says is kept.
    #[serde(default)]
    pub log: LogLimits,
    /// When the engine restarts it by itself, once the release is kept.
    #[serde(default)]
    pub restart: Restart,
    /// Whether the new one is started before the old one is stopped.
    #[serde(default)]
    pub start_first: bool,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout_ms: u64,
    /// The image itself, where none is built; the part is of [`super::PartKind::Image`] then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<Saved>,
}

/// An image that `docker save` has written into a file of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Path of the file in the tree.
    pub file: String,
    /// Digests of the image's layers as they are unpacked, the lowest first: the same on every engine.
    pub layers: Vec<Digest>,
}

/// What a container may use; 0 for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory.
    pub memory_bytes: u64,
    /// Thousandths of a processor.
    pub cpu_permille: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// How much of what a container says is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Size of one file.
    pub file_bytes: u64,
    /// So many files.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { file_bytes: 1024 * 1024, files: 2 }
    }
}

/// When the engine restarts a container by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never: only the worker does.
    No,
    /// When it failed.
    OnFailure,
    /// Unless the worker stopped it.
    #[default]
    UnlessStopped,
    /// Always.
    Always,
}

impl Restart {
    /// The policy as the engine spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure => "on-failure",
            Self::UnlessStopped => "unless-stopped",
            Self::Always => "always",
        }
    }
}

/// A text that is no port, volume or device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not like `{like}`")]
pub struct NotLike {
    text: String,
    like: &'static str,
}

fn not_like(text: &str, like: &'static str) -> NotLike {
    NotLike { text: text.chars().take(200).collect(), like }
}

/// A port of the node that leads into the container: `[address:]port:port[/udp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The node's address on which it is open; every one when empty.
    pub address: String,
    /// The node's port.
    pub host: u16,
    /// The container's port.
    pub container: u16,
    /// Whether it is UDP; TCP otherwise.
    pub udp: bool,
}

impl FromStr for Port {
    type Err = NotLike;

    fn from_str(text: &str) -> Result<Self, NotLike> {
        let wrong = || not_like(text, "8080:80` or `127.0.0.1:8080:80/udp");
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (host, container) = ports.rsplit_once(':').ok_or_else(wrong)?;
        let (address, host) = host.rsplit_once(':').unwrap_or(("", host));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        if !matches!(protocol, "tcp" | "udp") {
            return Err(wrong());
        }
        let address = address.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { address, host: port(host)?, container: port(container)?, udp: protocol == "udp" })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, if self.udp { "udp" } else { "tcp" })
    }
}

/// A folder of the node, or a volume of the engine, in the container: `source:/path[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// An absolute path of the node, or the name of a volume.
    pub source: String,
    /// Where it is in the container.
    pub target: String,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

impl FromStr for Volume {
    type Err = NotLike;

    fn from_str(text: &str) -> Result<Self, NotLike> {
        let wrong = || not_like(text, "/srv/web:/data` or `web-data:/data:ro");
        let (text, read_only) = match text.strip_suffix(":ro") {
            Some(text) => (text, true),
            None => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        let (source, target) = text.split_once(':').ok_or_else(wrong)?;
        let is_name = source.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if source.is_empty() || !(source.starts_with('/') || is_name) || !is_path(target) {
            return Err(wrong());
        }
        Ok(Self { source: source.to_owned(), target: target.to_owned(), read_only })
    }
}

/// A device of the node: `/dev/ttyACM0[:/dev/modem][:rwm]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its path on the node.
    pub host: String,
    /// Its path in the container.
    pub container: String,
    /// What may be done with it: of `r`, `w` and `m`.
    pub permissions: String,
}

impl FromStr for Device {
    type Err = NotLike;

    fn from_str(text: &str) -> Result<Self, NotLike> {
        let wrong = || not_like(text, "/dev/ttyACM0` or `/dev/snd:/dev/snd:rw");
        let mut words = text.split(':');
        let host = words.next().filter(|host| is_path(host)).ok_or_else(wrong)?;
        let (mut container, mut permissions) = (host, "rwm");
        for word in words {
            if is_path(word) {
                container = word;
            } else if !word.is_empty() && word.bytes().all(|b| b"rwm".contains(&b)) {
                permissions = word;
            } else {
                return Err(wrong());
            }
        }
        Ok(Self { host: host.into(), container: container.into(), permissions: permissions.into() })
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_leads_from_the_node_into_the_container() {
        let port = |text: &str| text.parse::<Port>().unwrap();
        assert_eq!(port("8080:80"), Port { address: String::new(), host: 8080, container: 80, udp: false });
        let udp = port("127.0.0.1:53:5353/udp");
        assert_eq!((udp.address.as_str(), udp.host, udp.to_string().as_str()), ("127.0.0.1", 53, "5353/udp"));
        assert_eq!(port("[::1]:8080:80").address, "::1");
        for wrong in ["80", "80:", ":80", "0:80", "a:80", "80:80/sctp", "99999:80"] {
            assert!(wrong.parse::<Port>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_volume_is_a_folder_or_a_name() {
        let volume = |text: &str| text.parse::<Volume>().unwrap();
        assert!(volume("/srv/web:/data:ro").read_only);
        assert_eq!(volume("web-data:/data").source, "web-data");
        for wrong in ["/data", "a b:/data", "./x:/data", "web:data", ":/data", "web:/a:/b"] {
            assert!(wrong.parse::<Volume>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_device_is_where_it_is_on_the_node_unless_said_otherwise() {
        let device = |text: &str| text.parse::<Device>().unwrap();
        let plain = device("/dev/ttyACM0");
        assert_eq!((plain.container.as_str(), plain.permissions.as_str()), ("/dev/ttyACM0", "rwm"));
        let other = device("/dev/snd:/dev/audio:rw");
        assert_eq!((other.container.as_str(), other.permissions.as_str()), ("/dev/audio", "rw"));
        for wrong in ["ttyACM0", "/dev/snd:snd", "/dev/snd:/dev/snd:x", ""] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }
}
