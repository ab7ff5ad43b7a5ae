//! The release: an immutable signed statement of which code there is and how it is run and proved.

pub mod container;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::container::Container;
use crate::{
    id::{AppId, Counter, Digest},
    root::Role,
    seal::{Document, Head, RoleDocument},
    time::UnixTime,
};

/// Which code there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// What every document has in common.
    pub head: Head,
    /// What is released.
    pub app: AppId,
    /// The version as people say it; nothing compares it.
    pub version: String,
    /// Rises with every release of the app.
    pub counter: Counter,
    /// Nodes that have kept this release take none with a lower counter any more.
    #[serde(default)]
    pub min_counter: Counter,
    /// What is installed, by platform.
    pub parts: Vec<Part>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// What changed, for people.
    #[serde(default)]
    pub notes: String,
}

/// Where a release comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The commit, or empty.
    pub commit: String,
    /// Whether the folder differed from that commit.
    pub dirty: bool,
    /// The program that packed it.
    pub builder: String,
    /// When it was packed.
    pub built_at: UnixTime,
}

/// What one platform installs of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `any`, or `<os>/<architecture>` as in `linux/aarch64`.
    pub platform: String,
    /// What it is.
    pub kind: PartKind,
    /// Names the manifest, and with it every file.
    pub tree_hash: Digest,
    /// Sum of the sizes of its files.
    pub size_bytes: u64,
    /// Size of the plain manifest.
    pub manifest_bytes: u64,
    /// How it is run.
    pub run: Run,
    /// How the image is built and run, where it is a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<Container>>,
    /// Whether firmware may be flashed that nothing can replace without a hand on the Pico.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_way: bool,
    /// Environment of the app and of its hooks; the node's own settings win.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Asked in the new slot before anything is stopped.
    #[serde(default)]
    pub pre_check: Option<Hook>,
    /// What healthy means; all of them must say so.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// How the running code says what it is.
    #[serde(default)]
    pub proof: Proof,
    /// How long it has to prove itself.
    #[serde(default)]
    pub trial: Trial,
    /// Who takes over first, where a Pi and the Picos on its USB keep the release together or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joint: Option<First>,
}

/// Who takes over first of those that keep a joint release together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum First {
    /// The Picos, while the Pi still runs what it ran before.
    Pico,
    /// The Pi, while its Picos still run what they ran before.
    Pi,
}

/// The platform that every node takes.
pub const ANY_PLATFORM: &str = "any";

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// Files of an app.
    Tree,
    /// What an image is built of, on the node.
    Container,
    /// A container whose image was saved, and is only loaded on the node.
    Image,
    /// Files of a MicroPython app, for a Pico; its `main.py` is what is run.
    #[serde(rename = "micropython")]
    MicroPython,
    /// Firmware for a Pico: one UF2 file.
    Uf2,
    /// A kind of a newer version; never installed.
    #[serde(other)]
    Unknown,
}

/// How an app is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// The worker starts and supervises it.
    Process {
        /// Program and arguments; the slot is the working folder.
        command: Vec<String>,
        /// From SIGTERM to SIGKILL.
        stop_timeout_ms: u64,
    },
    /// A systemd unit of the node, restarted over D-Bus.
    Systemd {
        /// The unit, as in `web.service`.
        unit: String,
    },
    /// Nothing runs: the files are the app.
    None,
}

/// A command of the release itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Program and arguments; the slot is the working folder.
    pub command: Vec<String>,
    /// It is killed after that.
    pub timeout_ms: u64,
}

/// One health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked.
    pub probe: Probe,
    /// From one asking to the next.
    pub interval_ms: u64,
    /// No answer by then is a bad answer.
    pub timeout_ms: u64,
    /// So many good answers in a row make it healthy.
    pub healthy_after: u32,
    /// So many bad answers in a row make it unhealthy.
    pub unhealthy_after: u32,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Any 2xx status.
    Http {
        /// An `http://` address as seen from the node.
        url: String,
    },
    /// A connection is accepted.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// Exit code 0.
    Exec {
        /// Program and arguments; the slot is the working folder.
        command: Vec<String>,
    },
    /// The unit is active and was not restarted.
    SystemdActive {
        /// The unit.
        unit: String,
    },
}

/// How the running code says what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It does not: the files on the disk are the only proof.
    #[default]
    None,
    /// A value in a JSON answer.
    Http {
        /// An `http://` address as seen from the node.
        url: String,
        /// RFC 6901 pointer to the value, as in `/commit`.
        pointer: String,
        /// What the value must be.
        expect: Expect,
    },
    /// The trimmed output of a command.
    Exec {
        /// Program and arguments; the slot is the working folder.
        command: Vec<String>,
        /// What the output must be.
        expect: Expect,
    },
}

/// What the running code must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// The commit of the release's provenance.
    Commit,
    /// The version of the release.
    Version,
    /// The tree hash of the part.
    TreeHash,
}

/// The time between the switch and the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// So long it must be healthy without a break.
    pub min_healthy_ms: u64,
    /// Not proven by then is rolled back.
    pub deadline_ms: u64,
    /// So many starts of the node or the worker it may take.
    pub tries: u32,
}

impl Default for Trial {
    fn default() -> Self {
        Self { min_healthy_ms: 5_000, deadline_ms: 120_000, tries: 3 }
    }
}

impl Document for Release {
    const TYPE: &'static str = "release";
    const MAX_BYTES: usize = 64 * 1024;

    fn head(&self) -> &Head {
        &self.head
    }
}

impl RoleDocument for Release {
    const ROLE: Role = Role::Release;
}

impl Part {
    /// How it is built and run, if it is a container.
    pub fn container(&self) -> Option<&Container> {
        self.container.as_deref().filter(|_| matches!(self.kind, PartKind::Container | PartKind::Image))
    }

    /// Whether it is kept when the Pi says so, that its Pico is plugged into.
    pub fn waits_for_pi(&self) -> bool {
        self.joint.is_some() && self.kind == PartKind::MicroPython
    }

    /// Whether nothing says if it is well: a container at least runs or does not, and a Pico says what it runs.
    pub fn is_unchecked(&self) -> bool {
        self.checks.is_empty()
            && self.container().is_none()
            && !matches!(self.kind, PartKind::MicroPython | PartKind::Uf2)
    }
}

impl Release {
    /// The part that a node of `platform` installs: its own platform's before the one for any.
    pub fn part_for(&self, platform: &str, kinds: &[PartKind]) -> Option<&Part> {
        let of = |wanted: &str| self.parts.iter().find(|p| p.platform == wanted && kinds.contains(&p.kind));
        of(platform).or_else(|| of(ANY_PLATFORM))
    }
}
