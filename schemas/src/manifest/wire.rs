//! How a manifest is spelled in CBOR.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
    ser::{SerializeMap as _, SerializeSeq as _},
};

use super::{Entry, MAX_ENTRIES, Node};

/// The version that this program writes and reads.
const SPEC: u8 = 1;

const MODE_PLAIN: u16 = 0o644;
const MODE_EXECUTABLE: u16 = 0o755;

/// What was read; no rule was checked but the number of entries.
pub(super) struct Wire(pub(super) Vec<Entry>);

/// What is written.
pub(super) struct WireRef<'a>(pub(super) &'a [Entry]);

/// Counted while they are read: an entry takes many times more memory than the bytes that ask for it.
struct Entries(Vec<Entry>);

impl Serialize for WireRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(&1, &SPEC)?;
        map.serialize_entry(&2, self.0)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;

        impl<'de> Visitor<'de> for MapVisitor {
            type Value = Wire;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a manifest")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Wire, A::Error> {
                let Some((1, SPEC)) = map.next_entry::<u8, u8>()? else {
                    return Err(de::Error::custom("not a manifest of version 1"));
                };
                let Some((2, Entries(entries))) = map.next_entry()? else {
                    return Err(de::Error::custom("no entries"));
                };
                if map.next_key::<u8>()?.is_some() {
                    return Err(de::Error::custom("unknown key"));
                }
                Ok(Wire(entries))
            }
        }
        deserializer.deserialize_map(MapVisitor)
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_ENTRIES} entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    if entries.len() == MAX_ENTRIES {
                        return Err(de::Error::invalid_length(MAX_ENTRIES + 1, &self));
                    }
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_seq(EntriesVisitor)
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let len = match self.node {
            Node::File { .. } => 5,
            Node::Symlink { .. } => 3,
            Node::Directory => 2,
        };
        let mut seq = serializer.serialize_seq(Some(len))?;
        match &self.node {
            Node::File { executable, size, digest } => {
                seq.serialize_element(&0)?;
                seq.serialize_element(&self.path)?;
                seq.serialize_element(if *executable { &MODE_EXECUTABLE } else { &MODE_PLAIN })?;
                seq.serialize_element(size)?;
                seq.serialize_element(digest)?;
            }
            Node::Symlink { target } => {
                seq.serialize_element(&1)?;
                seq.serialize_element(&self.path)?;
                seq.serialize_element(target)?;
            }
            Node::Directory => {
                seq.serialize_element(&2)?;
                seq.serialize_element(&self.path)?;
            }
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a manifest entry")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entry, A::Error> {
                let kind: u8 = element(&mut seq)?;
                let path: String = element(&mut seq)?;
                let node = match kind {
                    0 => Node::File {
                        executable: match element::<_, u16>(&mut seq)? {
                            MODE_PLAIN => false,
                            MODE_EXECUTABLE => true,
                            _ => return Err(de::Error::custom("a mode is neither 0644 nor 0755")),
                        },
                        size: element(&mut seq)?,
                        digest: element(&mut seq)?,
                    },
                    1 => Node::Symlink { target: element(&mut seq)? },
                    2 => Node::Directory,
                    _ => return Err(de::Error::custom("unknown kind of entry")),
                };
                Ok(Entry { path, node })
            }
        }
        deserializer.deserialize_seq(EntryVisitor)
    }
}

fn element<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(seq: &mut A) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| de::Error::custom("entry is too short"))
}

#[cfg(test)]
mod tests {
    use crate::{codec, manifest::MAX_BYTES};

    use super::*;

    #[test]
    fn reading_stops_at_the_first_entry_too_many() {
        // A list that announces four billion entries and is cut short behind the first one too many.
        let list = |len: u32| [&[0xa2, 1, 1, 2, 0x9a][..], &len.to_be_bytes()].concat();
        let entry = [0x82, 2, 0x61, b'a'];
        let most = u32::try_from(MAX_ENTRIES).unwrap();
        let read = |bytes: &[u8]| codec::decode::<Wire>(bytes, MAX_BYTES).map(|wire| wire.0.len());
        assert_eq!(read(&[list(most), entry.repeat(MAX_ENTRIES)].concat()).unwrap(), MAX_ENTRIES);
        let cut = read(&[list(u32::MAX), entry.repeat(MAX_ENTRIES + 1)].concat()).unwrap_err();
        let codec::CodecError::Malformed(cause) = cut else { panic!("{cut}") };
        assert!(cause.to_string().contains("200001"), "{cause}");
    }
}
