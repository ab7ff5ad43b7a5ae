//! Why something was refused or failed: a stable code for machines, a sentence for people.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $advice:literal;)*) => {
        /// A stable code that reports, events and logs carry.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
            /// A code of a newer version than this one.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl Reason {
            /// Every code that this version gives.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code, as reports carry it.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                    Self::Unknown => "unknown",
                }
            }

            /// What a person should do about it.
            pub fn advice(self) -> &'static str {
                match self {
                    $(Self::$name => $advice,)*
                    Self::Unknown => "update this program: the node speaks a newer version",
                }
            }
        }
    };
}

reasons! {
    // What a document can be refused for.
    /// Bytes that are no document of this kind.
    Malformed = "malformed", "publish it again with `publisher announce`; if it comes back, look for who else writes to this topic";
    /// More bytes than this kind of document may have.
    TooLarge = "too-large", "shorten the notes or the list of nodes";
    /// No valid signature of the keys that the role asks for.
    BadSignature = "bad-signature", "sign with the keys of this fleet; if you did not publish this, change the bus password of the publisher";
    /// Signed, but by fewer keys than the role's threshold.
    TooFewSignatures = "too-few-signatures", "let another key holder sign it too";
    /// A key that signs anything.
    WeakKey = "weak-key", "make new keys with `publisher init`";
    /// The document belongs to another fleet.
    WrongFleet = "wrong-fleet", "check the fleet in fleet.toml and in the node's settings";
    /// The document was published on a topic that it does not belong to.
    WrongTopic = "wrong-topic", "publish with `publisher announce`, which picks the topic";
    /// The order names another release than the one beside it.
    WrongRelease = "wrong-release", "publish it again with `publisher announce`";
    /// The document's major version is newer than this node understands.
    SpecTooNew = "spec-too-new", "update the worker of this node first";
    /// A field marked as critical is unknown to this node.
    UnknownCritical = "unknown-critical-field", "update the worker of this node first";
    /// The root documents on the bus begin after those that this node can verify.
    RootGap = "root-gap", "the node missed too many changes of the keys: copy root.cbor of the publisher's home to it";
    /// Another root document of a version that was accepted already.
    RootFork = "root-fork", "somebody else signs root documents for this fleet: compare the fingerprint in `publisher keys list` with the node's";
    /// A controller ordered more than ops has allowed it.
    BeyondMandate = "beyond-mandate", "somebody has the key of the broker's controller: stop the rollout with `publisher rollout abort`, then look at the broker's machine";
    /// Its time to be accepted is over.
    Expired = "expired", "announce it again";
    /// An older document than one that was already accepted here.
    Replayed = "replayed", "nothing to do if a broker was restored from a backup: announce again; else somebody replays old messages";
    /// Two different orders carry the same revision.
    RevisionConflict = "revision-conflict", "two publishers announced at once: announce again";
    /// The release is older than the floor that a security release has set.
    BelowFloor = "below-floor", "announce a release that is not older than the last security release";
    /// The release has nothing for this kind of node.
    NoPart = "no-part", "build a release with a part for this platform";

    // What can go wrong on the way to a slot.
    /// The store cannot be reached or answers with errors.
    StoreUnreachable = "store-unreachable", "check that the broker's HTTP port is reachable from the node";
    /// The store does not have an object.
    ObjectMissing = "object-missing", "announce again from the folder: missing objects are uploaded";
    /// Bytes from the store are not those that were signed.
    DigestMismatch = "digest-mismatch", "the store or the network changes bytes: check the store's disk, then announce again";
    /// The manifest breaks a rule.
    BadManifest = "bad-manifest", "pack the folder again with `publisher pack`";
    /// The disk of the node is full.
    DiskFull = "disk-full", "free space on the node, then announce again";
    /// The disk of the node does not do what it should.
    DiskError = "disk-error", "look at the node's disk: it may be dying or mounted read-only";
    /// What lies in the slot is not what was signed.
    SlotMismatch = "slot-mismatch", "look at the node's disk: bytes changed after they were written";
    /// The release's own pre-check said no.
    PreCheckFailed = "pre-check-failed", "read the log lines below and mend the release";
    /// A hook did not end in time.
    HookTimeout = "hook-timeout", "make the hook faster or raise its timeout in deploybus.toml";

    // What can go wrong with the image of a container.
    /// There is no engine on this node.
    EngineMissing = "engine-missing", "install one on the node, as in `apt install docker.io`, or name its socket under [container] in pi-worker.toml";
    /// The engine does not answer.
    EngineDown = "engine-down", "start it on the node, as in `systemctl start docker`, and see `journalctl -u docker`";
    /// A step of the Dockerfile failed, or it cannot be read.
    BuildFailed = "build-failed", "read the log lines below and mend the Dockerfile";
    /// An image that the Dockerfile begins with is not there and cannot be pulled.
    BaseImageMissing = "base-image-missing", "pull or load the image of FROM on the node, or let the node reach its registry";
    /// The build was not done in time.
    BuildTimeout = "build-timeout", "look at the log lines below for the step that takes so long";
    /// There is too little memory for a build.
    MemoryLow = "memory-low", "stop something on the node, or lower `free_memory_bytes` under [container] in pi-worker.toml";

    // What can go wrong with a Pico.
    /// The Pico was unplugged, or does not answer.
    DeviceGone = "device-gone", "plug the Pico in again: what has come already is not sent again";
    /// Another program has the Pico's serial port.
    DeviceBusy = "device-busy", "close what has the Pico's port (Thonny, mpremote, a terminal)";
    /// The Pico does something else than it was asked to.
    DeviceFault = "device-fault", "read the text below; if it stays so, unplug the Pico and plug it in again, or provision it again with `publisher pico provision NODE`";
    /// The flash of the Pico is full.
    DeviceFull = "device-full", "make the release smaller, or remove files from the Pico with `mpremote rm` after `publisher pico release NODE`";
    /// The guard that goes back by itself is not on the Pico, which has a program of its own.
    NotProvisioned = "not-provisioned", "bring the guard onto the Pico with `publisher pico provision NODE`: its main.py is kept as main.before.py";
    /// The file is no firmware that this Pico can boot.
    BadFirmware = "bad-firmware", "build the firmware for this Pico's chip, as one UF2 file that begins at the beginning of flash";
    /// With this firmware nothing but a hand on the Pico could bring another one.
    OneWay = "one-way", "release firmware with MicroPython, or say `allow_one_way = true` under [pico] if somebody will hold the button the next time";
    /// The Pico cannot be brought into BOOTSEL from here.
    NeedsButton = "needs-button", "hold the Pico's BOOTSEL button while you plug it in, at the same USB port: what waits for that is flashed then";
    /// Firmware was flashed and read back, and the Pico did not come up with it.
    FirmwareSilent = "firmware-silent", "if the Pico does not come back by itself, hold its BOOTSEL button while you plug it in, at the same USB port: what ran before is flashed then";
    /// A Pico runs one app, and this one runs another.
    OneAppOnly = "one-app-only", "take the Pico out of the groups of one of the two apps";
    /// The release failed on this Pico too often.
    Quarantined = "quarantined", "mend the release and announce another version: this one is not tried again on this Pico";

    // What can go wrong where a Pi and its Picos keep a release together.
    /// Not all of them keep it, so none does.
    JointApart = "joint-apart", "see what the Pi and its Picos say with `publisher status`: all of them must be in the group, the Picos plugged in, and `pico-bridge` running";

    // What can go wrong once it runs.
    /// The app could not be started.
    StartFailed = "start-failed", "see `run` in deploybus.toml: a program of the folder is `./name`, and executable; another must be installed on the node";
    /// A port that it needs belongs to another program.
    PortTaken = "port-taken", "stop what has the port on the node, or take another one in deploybus.toml";
    /// The app ended during its trial.
    Exited = "exited", "read the log lines below and mend the release";
    /// The app did not get healthy in time.
    Unhealthy = "unhealthy", "see what its check answered, above, and what the app said, below";
    /// The code that answers is not the release's.
    StaleCode = "stale-code", "something serves old code: compare the expected and the answered value";
    /// The running code could not be asked what it is.
    NoProof = "no-proof", "make the proof URL or command of deploybus.toml answer the commit";
    /// The bus could not be reached any more after the switch.
    BusLost = "bus-lost", "the release cuts the node off the network: mend it";
    /// The power or the worker failed too often during the trial.
    TriesUsedUp = "tries-used-up", "the node or the worker went down during the trial: look at its log before announcing again";
    /// The machine went round in circles.
    Endless = "endless", "look at the node's log, then announce again";
    /// Not even the release that ran before could be brought back.
    RollbackFailed = "rollback-failed", "look at the node now: the release before does not run either";

    // What is nobody's fault.
    /// A newer order took its place.
    Superseded = "superseded", "nothing: a newer order is carried out";
    /// The order was taken back.
    Withdrawn = "withdrawn", "nothing: the order was withdrawn";
}

impl Reason {
    /// Whether an honest bus never shows this: somebody may be attacking.
    pub fn is_attack(self) -> bool {
        matches!(
            self,
            Self::BadSignature
                | Self::TooFewSignatures
                | Self::WeakKey
                | Self::WrongFleet
                | Self::WrongTopic
                | Self::WrongRelease
                | Self::BeyondMandate
                | Self::RootFork
                | Self::Replayed
                | Self::DigestMismatch
                | Self::BelowFloor
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable_distinct_and_read_back() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let json = serde_json::to_string(reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.code()));
            assert_eq!(serde_json::from_str::<Reason>(&json).unwrap(), *reason);
            assert!(!reason.advice().is_empty());
        }
    }

    #[test]
    fn a_code_of_a_newer_version_is_read_as_unknown() {
        assert_eq!(serde_json::from_str::<Reason>("\"moon-phase\"").unwrap(), Reason::Unknown);
        assert_eq!(
            crate::codec::decode::<Reason>(&crate::codec::encode(&"moon-phase"), 99).unwrap(),
            Reason::Unknown
        );
    }
}
