//! Names and numbers that identify things. Each is a type of its own, so that none passes for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// Longest id: what Home Assistant, DNS labels and file systems all take.
pub const MAX_ID_BYTES: usize = 63;

/// An id that is not `[a-z0-9_-]{1,63}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid {1}: use 1 to 63 of a-z, 0-9, _ and -")]
pub struct InvalidId(String, &'static str);

fn check_id(text: &str, what: &'static str) -> Result<(), InvalidId> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(fits) {
        Ok(())
    } else {
        Err(InvalidId(shown(text, 80), what))
    }
}

/// What was refused as an error may say it: not endless, and without characters that steer a terminal or end a line.
pub(crate) fn shown(text: &str, most_chars: usize) -> String {
    let show = |c: char| if c.is_control() { c.escape_default().collect() } else { String::from(c) };
    text.chars().take(most_chars).map(show).collect()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check_id(text, $what)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

id!(
    /// All nodes that trust the same root document; the first level of every topic.
    FleetId,
    "fleet id"
);
id!(
    /// Whatever has an identity on the bus: a Pi or a Pico.
    NodeId,
    "node name"
);
id!(
    /// A rollout group: a topic level that nodes subscribe to.
    GroupId,
    "group name"
);
id!(
    /// What is deployed; a node may run several.
    AppId,
    "app name"
);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The lowest number above `self` that is not below `at_least`.
            #[must_use]
            pub fn next(self, at_least: u64) -> Self {
                Self(self.0.saturating_add(1).max(at_least))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Orders the releases of one app; what nodes compare instead of version texts.
    Counter
);
number!(
    /// Orders the orders of one fleet: the highest one that applies is what a node runs.
    Revision
);
number!(
    /// Orders the documents of one node: its reports within a boot, the records about it.
    Seq
);

/// Text that is not the hexadecimal form of the expected bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not {1} hexadecimal digits")]
pub struct InvalidHex(String, usize);

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidHex;

            fn from_str(text: &str) -> Result<Self, InvalidHex> {
                let invalid = || InvalidHex(shown(text, 160), $len * 2);
                let digits = text.as_bytes();
                if digits.len() != $len * 2 || !digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(invalid());
                }
                let mut bytes = [0; $len];
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
                    let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    return String::deserialize(deserializer)?.parse().map_err(de::Error::custom);
                }
                let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
                let bytes: [u8; $len] = bytes.as_slice().try_into().map_err(|_| {
                    de::Error::invalid_length(bytes.len(), &concat!($len, " bytes"))
                })?;
                Ok(Self(bytes))
            }
        }
    };
}

byte_id!(
    /// A SHA-256 digest.
    Digest,
    32
);
byte_id!(
    /// The first 8 bytes of the SHA-256 of a public key.
    KeyId,
    8
);
byte_id!(
    /// An ed25519 public key as it is stored; it is checked where it is used.
    PublicKey,
    32
);
byte_id!(
    /// An ed25519 signature.
    Signature,
    64
);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl PublicKey {
    /// The id under which signatures name this key.
    pub fn id(&self) -> KeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&Digest::of(&self.0).0[..8]);
        KeyId(id)
    }
}

/// A digest that is computed from bytes as they pass by.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything that was taken.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_only_the_bus_alphabet() {
        for good in ["a", "pi-kitchen", "node_7", &"x".repeat(63)] {
            assert_eq!(good.parse::<NodeId>().unwrap().as_str(), good);
        }
        for bad in ["", "Pi", "a b", "a/b", "ä", "+", "#", "a.b", &"x".repeat(64)] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_say_what_was_refused_on_one_line_of_plain_text() {
        let hostile = format!("pi\n\u{1b}[2Jä{}", "x".repeat(9_999));
        let of_id = hostile.parse::<NodeId>().unwrap_err().to_string();
        assert!(of_id.starts_with(r"`pi\n\u{1b}[2Jäxxx"), "{of_id}");
        let of_hex = hostile.parse::<Digest>().unwrap_err().to_string();
        let of_topic = format!("a/v1/{hostile}").parse::<crate::topic::Topic>().unwrap_err().to_string();
        for text in [of_id, of_hex, of_topic] {
            assert!(text.len() < 300 && !text.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn a_digest_is_hex_for_people_and_bytes_on_the_wire() {
        let digest = Digest::of(b"abc");
        assert!(digest.to_string().starts_with("ba7816bf8f01cfea"));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(serde_json::to_string(&digest).unwrap().len(), 66);
        assert_eq!(crate::codec::encode(&digest).len(), 34);
        assert!("zz".repeat(32).parse::<Digest>().is_err());
        assert!("+1".repeat(32).parse::<Digest>().is_err());
        assert!("ABCD".repeat(16).parse::<Digest>().is_err());
    }

    #[test]
    fn the_next_number_rises_and_follows_the_clock() {
        assert_eq!(Revision(5).next(0), Revision(6));
        assert_eq!(Revision(5).next(900), Revision(900));
        assert_eq!(Counter(u64::MAX).next(0), Counter(u64::MAX));
    }
}
