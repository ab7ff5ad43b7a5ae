//! Reading any document of the bus for people. Pure: bytes and the keys that are known in, a [`Decoded`] out.

mod rollouts;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
};

use schemas::{
    announcement::Announcement,
    id::{KeyId, NodeId, PublicKey},
    mandate::Mandate,
    manifest::{self, Entry, Manifest, Node},
    order::Order,
    record::Record,
    release::Release,
    report::Report,
    rollout::{Controller, Rollout},
    root::{Root, Trust},
    seal::{Document, RoleDocument, SPEC, SealError, Signed},
    time::UnixTime,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{cli::DocumentKind, show::clean};

/// What a zstd frame begins with (RFC 8878, 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Kinds in the order in which they are tried. No document of one kind has all the keys of another.
const KINDS: [DocumentKind; 13] = [
    DocumentKind::Announcement,
    DocumentKind::Plan,
    DocumentKind::Root,
    DocumentKind::Release,
    DocumentKind::Order,
    DocumentKind::Record,
    DocumentKind::Report,
    DocumentKind::Mandate,
    DocumentKind::Rollout,
    DocumentKind::Course,
    DocumentKind::Controller,
    DocumentKind::Manifest,
    DocumentKind::Json,
];

/// The keys by which signatures are judged.
pub(crate) struct Judge {
    pub(crate) trust: Trust,
    /// The keys of the nodes that are known.
    pub(crate) keys: BTreeMap<NodeId, PublicKey>,
    /// The controllers that were believed before.
    pub(crate) controllers: BTreeSet<KeyId>,
}

/// A document as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Decoded {
    kind: &'static str,
    pub(crate) signatures: Signatures,
    document: Value,
}

/// What is known about a document's signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "why")]
pub(crate) enum Signatures {
    /// Those of the fleet's keys.
    Right,
    /// Not what the fleet's keys would have signed.
    Wrong(String),
    /// Nobody here knows the keys.
    NotChecked(String),
    /// This kind has none.
    None,
}

/// Bytes that are no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// None of the kinds fits.
    #[error("it is none of the documents of the bus")]
    Unknown,
    /// Written by a newer version.
    #[error("it is a document of version {0}, this program reads up to {SPEC}")]
    TooNew(u32),
    /// The kind that was asked for does not fit.
    #[error("it is not what --kind says")]
    NotThisKind(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Compressed, and broken or too long.
    #[error("it is compressed and cannot be unpacked")]
    Compressed(#[source] std::io::Error),
}

impl DecodeError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Unknown | Self::NotThisKind(_) => "say what it is with --kind, or fetch it again",
            Self::TooNew(_) => "update this program: a newer one has written it",
            Self::Compressed(_) => "fetch it again",
        }
    }
}

type Attempt = Result<Decoded, Box<dyn std::error::Error + Send + Sync>>;

/// Keys whose numbers are Unix seconds.
const TIMES: [&str; 8] =
    ["issued_at", "expires", "not_before", "built_at", "since", "at", "started_at", "until"];

/// Reads a document of `kind`, or of the one that fits.
pub(crate) fn decode(
    bytes: &[u8],
    kind: Option<DocumentKind>,
    judge: Option<&Judge>,
) -> Result<Decoded, DecodeError> {
    let unpacked = unpack(bytes)?;
    if let Some(kind) = kind {
        return attempt(&unpacked, kind, judge).map_err(DecodeError::NotThisKind);
    }
    let mut failure = DecodeError::Unknown;
    for kind in KINDS {
        match attempt(&unpacked, kind, judge) {
            Ok(decoded) => return Ok(decoded),
            Err(error) => {
                if let Some(SealError::SpecTooNew { spec, .. }) = error.downcast_ref() {
                    failure = DecodeError::TooNew(*spec);
                }
            }
        }
    }
    Err(failure)
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if !bytes.starts_with(&ZSTD_MAGIC) {
        return Ok(bytes.to_vec());
    }
    let mut plain = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(bytes).map_err(DecodeError::Compressed)?;
    decoder.take(manifest::MAX_BYTES as u64).read_to_end(&mut plain).map_err(DecodeError::Compressed)?;
    Ok(plain)
}

fn attempt(bytes: &[u8], kind: DocumentKind, judge: Option<&Judge>) -> Attempt {
    match kind {
        DocumentKind::Announcement => announcement(bytes, judge),
        DocumentKind::Plan => rollouts::planned(bytes, judge),
        DocumentKind::Root => root(bytes, judge),
        DocumentKind::Release => role_document::<Release>(bytes, judge),
        DocumentKind::Order => role_document::<Order>(bytes, judge),
        DocumentKind::Record => role_document::<Record>(bytes, judge),
        DocumentKind::Report => report(bytes, judge),
        DocumentKind::Mandate => role_document::<Mandate>(bytes, judge),
        DocumentKind::Rollout => role_document::<Rollout>(bytes, judge),
        DocumentKind::Course => rollouts::course(bytes),
        DocumentKind::Controller => rollouts::own::<Controller>(bytes, judge),
        DocumentKind::Manifest => manifest(bytes),
        DocumentKind::Json => {
            let document = serde_json::from_slice(bytes)?;
            Ok(Decoded { kind: "json", signatures: Signatures::None, document })
        }
    }
}

fn announcement(bytes: &[u8], judge: Option<&Judge>) -> Attempt {
    let announcement = Announcement::from_bytes(bytes)?;
    let (order, release) = (announcement.order.peek()?, announcement.release.peek()?);
    let release_digest = announcement.release.digest();
    let mut document = json!({ "order": order, "release": release, "release_digest": release_digest });
    if let Some(mandate) = &announcement.mandate {
        document["mandate"] = json!(mandate.peek()?);
    }
    let topic = (document["order"]["group"].as_str(), document["order"]["app"].as_str());
    let signatures = match (judge, topic) {
        (Some(judge), (Some(group), Some(app))) => {
            judged(announcement.verify(&judge.trust, &group.parse()?, &app.parse()?))
        }
        _ => no_root(),
    };
    let document = readable(document);
    Ok(Decoded { kind: "announcement", signatures, document })
}

fn root(bytes: &[u8], judge: Option<&Judge>) -> Attempt {
    let signed = Signed::<Root>::from_bytes(bytes)?;
    let document = readable(serde_json::to_value(signed.peek()?)?);
    let signatures = match (Trust::first(&signed), judge) {
        (Err(error), _) => Signatures::Wrong(error.to_string()),
        (Ok(_), None) => no_root(),
        (Ok(trust), Some(judge)) if trust.digest() == judge.trust.digest() => Signatures::Right,
        (Ok(_), Some(judge)) => judged(judge.trust.next(&signed)),
    };
    Ok(Decoded { kind: Root::TYPE, signatures, document })
}

fn role_document<T: RoleDocument>(bytes: &[u8], judge: Option<&Judge>) -> Attempt {
    let signed = Signed::<T>::from_bytes(bytes)?;
    let document = readable(serde_json::to_value(signed.peek()?)?);
    let signatures = judge.map_or_else(no_root, |judge| judged(signed.verify(&judge.trust)));
    Ok(Decoded { kind: T::TYPE, signatures, document })
}

fn report(bytes: &[u8], judge: Option<&Judge>) -> Attempt {
    let signed = Signed::<Report>::from_bytes(bytes)?;
    let document = readable(serde_json::to_value(signed.peek()?)?);
    let node = document["node"].as_str().and_then(|name| name.parse::<NodeId>().ok());
    let signatures = match (judge, node) {
        (Some(judge), Some(node)) => match judge.keys.get(&node) {
            Some(key) => judged(signed.verify_by(key, judge.trust.fleet())),
            None => Signatures::NotChecked(format!(
                "node {node} was not added from here, so its key is not known"
            )),
        },
        _ => no_root(),
    };
    Ok(Decoded { kind: Report::TYPE, signatures, document })
}

/// The same with times as people read them.
fn readable(mut document: Value) -> Value {
    match &mut document {
        Value::Object(entries) => {
            for (key, value) in entries.iter_mut() {
                let secs = value.as_u64().filter(|_| TIMES.contains(&key.as_str()));
                *value = match secs {
                    Some(secs) => UnixTime(secs).to_string().into(),
                    None => readable(value.take()),
                };
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = readable(value.take())),
        _ => {}
    }
    document
}

fn manifest(bytes: &[u8]) -> Attempt {
    // How large the files are together stands in the release alone.
    let manifest = match Manifest::parse(bytes, 0) {
        Err(manifest::ManifestError::Size { got, .. }) => Manifest::parse(bytes, got)?,
        other => other?,
    };
    let entries: Vec<String> = manifest.entries().iter().map(entry_line).collect();
    let document = json!({
        "tree_hash": manifest.tree_hash(),
        "size_bytes": manifest.size_bytes(),
        "entries": entries,
    });
    Ok(Decoded { kind: "manifest", signatures: Signatures::None, document })
}

fn entry_line(entry: &Entry) -> String {
    match &entry.node {
        Node::File { executable, size, digest } => {
            let mode = if *executable { "0755" } else { "0644" };
            format!("{mode} {} {size:>10} {}", digest.short(), entry.path)
        }
        Node::Symlink { target } => format!("link {} -> {target}", entry.path),
        Node::Directory => format!("folder {}", entry.path),
    }
}

fn judged<T, E: std::error::Error>(verified: Result<T, E>) -> Signatures {
    match verified {
        Ok(_) => Signatures::Right,
        Err(error) => Signatures::Wrong(error.to_string()),
    }
}

fn no_root() -> Signatures {
    Signatures::NotChecked("there is no fleet here: give its home with --home".to_owned())
}

impl Decoded {
    /// The document for people: kind and signatures first, then every value.
    pub(crate) fn text(&self) -> serde_json::Result<String> {
        let signatures = match &self.signatures {
            Signatures::Right => "signatures: right".to_owned(),
            Signatures::Wrong(why) => format!("signatures: WRONG, do not believe it: {why}"),
            Signatures::NotChecked(why) => format!("signatures: NOT CHECKED: {why}"),
            Signatures::None => "signatures: none, this kind has none".to_owned(),
        };
        let body = serde_json::to_string_pretty(&self.document)?;
        let body: Vec<String> = body.lines().map(clean).collect();
        Ok(format!("{}\n{signatures}\n{}", self.kind, body.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use rollout::samples::controller_key;
    use schemas::seal::Head;

    use super::*;
    use crate::samples::{NOW, Sample, node_key};

    fn judge(sample: &Sample) -> Judge {
        let keys = [("pi-1".parse().unwrap(), node_key("pi-1").public())].into();
        let controllers = [controller_key().public().id()].into();
        Judge { trust: sample.home.trust.clone(), keys, controllers }
    }

    fn documents(sample: &Sample) -> Vec<(&'static str, Vec<u8>)> {
        let announcement = sample.announcement(50, 9, "1.1.0");
        let planned = sample.planned("[[stage]]\ngroup = \"all\"", 1, |_| {});
        let (head, key) = (Head::new("deploybus".parse().unwrap(), NOW), controller_key().public());
        let program = "broker 1.0.0".into();
        let controller = Controller { head, key, program, until: NOW, leases: Vec::new() };
        vec![
            ("announcement", announcement.to_bytes()),
            ("release", announcement.release.to_bytes()),
            ("order", announcement.order.to_bytes()),
            ("record", sample.record("pi-1", &["all"])),
            ("report", sample.report("pi-1", 3, vec![])),
            ("root", std::fs::read(sample.home.path("root.cbor")).unwrap()),
            ("plan", planned.to_bytes()),
            ("rollout", planned.rollout.to_bytes()),
            ("mandate", planned.mandate.to_bytes()),
            ("controller", Signed::seal(&controller, &[controller_key()]).to_bytes()),
        ]
    }

    #[test]
    fn every_document_is_recognised_and_judged() {
        let (sample, other) = (Sample::new(), Sample::new());
        for (kind, bytes) in documents(&sample) {
            let decoded = decode(&bytes, None, Some(&judge(&sample))).unwrap();
            assert_eq!((decoded.kind, &decoded.signatures), (kind, &Signatures::Right));
            assert!(
                matches!(decode(&bytes, None, None).unwrap().signatures, Signatures::NotChecked(_)),
                "{kind}"
            );
            if !["report", "controller"].contains(&kind) {
                let foreign = decode(&bytes, None, Some(&judge(&other))).unwrap();
                assert!(matches!(foreign.signatures, Signatures::Wrong(_)), "{kind}");
                assert!(foreign.text().unwrap().contains("signatures: WRONG"));
            }
        }
    }

    #[test]
    fn the_text_of_an_order_reads_well() {
        let sample = Sample::new();
        let order = sample.announcement(50, 9, "1.1.0").order.to_bytes();
        insta::assert_snapshot!(decode(&order, None, Some(&judge(&sample))).unwrap().text().unwrap());
    }

    #[test]
    fn manifests_are_read_plain_and_as_stored() {
        let entries = vec![Entry { path: "d".into(), node: Node::Directory }];
        let plain = Manifest::new(entries).unwrap().encode();
        for bytes in [plain.clone(), crate::stored::compress(&plain).unwrap()] {
            let decoded = decode(&bytes, None, None).unwrap();
            assert_eq!((decoded.kind, &decoded.document["entries"][0]), ("manifest", &json!("folder d")));
        }
        assert!(matches!(decode(&ZSTD_MAGIC, None, None), Err(DecodeError::Compressed(_))));
    }

    #[test]
    fn another_kind_than_asked_for_is_refused_with_the_cause() {
        let sample = Sample::new();
        let error = decode(&sample.record("pi-1", &[]), Some(DocumentKind::Order), None).unwrap_err();
        assert!(matches!(error, DecodeError::NotThisKind(_)));
        assert_eq!(decode(b"{\"a\":1}", None, None).unwrap().kind, "json");
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = decode(&bytes, None, None);
        }
    }
}
