//! What was written once is read for ever, and is still written the same.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use schemas::{
    announcement::Announcement,
    chunk::{Piece, Want},
    codec,
    deploy_log::{self, Entry},
    enroll::Request,
    id::Digest,
    manifest::Manifest,
    record::Record,
    report::Report,
    rollout::{Controller, Course, Planned},
    root::{Root, RootChain, Trust},
    seal::Signed,
};

use crate::sample::{
    announcement, chain, controller, course, key, log_entry, mandate, mandated, manifest, order, piece,
    planned, record, report, request, root, trust, want,
};

/// The bytes that this version writes, by the name of their golden file.
fn written() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        ("announcement", announcement().to_bytes()),
        ("chain", chain().to_bytes()),
        ("controller", Signed::seal(&controller(), &[key(8)]).to_bytes()),
        ("course", Signed::seal(&course(), &[key(8)]).to_bytes()),
        ("deploy_log", codec::encode(&log_entry())),
        ("enroll", Signed::seal(&request(), &[key(9)]).to_bytes()),
        ("mandated", mandated(&order(), &mandate()).to_bytes()),
        ("manifest", manifest().encode()),
        ("piece", piece().to_bytes()),
        ("planned", planned().to_bytes()),
        ("record", Signed::seal(&record(), &[key(3)]).to_bytes()),
        ("report", Signed::seal(&report(), &[key(9)]).to_bytes()),
        ("root", Signed::seal(&root(), &[key(1)]).to_bytes()),
        ("want", codec::encode(&want())),
    ])
}

#[test]
fn this_version_writes_v1_to_the_byte() {
    let golden = golden("v1");
    for (name, bytes) in written() {
        assert_eq!(golden.get(name).map(|bytes| hex(bytes)), Some(hex(&bytes)), "testdata/v1/{name}.hex");
    }
    assert_eq!(golden.len(), written().len(), "every golden file is listed here");
}

#[test]
fn every_released_version_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut versions: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    versions.sort();
    assert_eq!(versions, ["hostile", "v1"], "a new version needs a reader here");

    let v1 = golden("v1");
    let (group, app) = ("canary".parse().unwrap(), "web".parse().unwrap());
    let read = Announcement::from_bytes(&v1["announcement"]).unwrap().verify(&trust(), &group, &app).unwrap();
    assert_eq!(read.release.into_inner(), crate::sample::release());
    assert_eq!(read.order.into_inner(), crate::sample::order());
    assert_eq!(Manifest::parse(&v1["manifest"], manifest().size_bytes()).unwrap(), manifest());
    let read = Signed::<Record>::from_bytes(&v1["record"]).unwrap().verify(&trust()).unwrap();
    assert_eq!(read.into_inner(), record());
    let read = Signed::<Request>::from_bytes(&v1["enroll"]).unwrap();
    assert_eq!(read.verify_own(trust().fleet()).unwrap().into_inner(), request());
    let read = Signed::<Report>::from_bytes(&v1["report"]).unwrap();
    assert_eq!(read.verify_by(&key(9).public(), trust().fleet()).unwrap().into_inner(), report());
    let read = Planned::from_bytes(&v1["planned"]).unwrap().verify(&trust(), &app).unwrap();
    let read_course = Signed::<Course>::from_bytes(&v1["course"]).unwrap();
    assert_eq!(read.mandate.open(&read_course, trust().fleet()).unwrap().into_inner(), course());
    let read = Announcement::from_bytes(&v1["mandated"]).unwrap().verify(&trust(), &group, &app).unwrap();
    assert_eq!(read.mandate.unwrap().into_inner(), mandate());
    let read = Signed::<Controller>::from_bytes(&v1["controller"]).unwrap();
    assert_eq!(read.verify_own(trust().fleet()).unwrap().into_inner(), controller());
    assert_eq!(Trust::first(&Signed::<Root>::from_bytes(&v1["root"]).unwrap()).unwrap(), trust());
    assert_eq!(codec::decode::<Entry>(&v1["deploy_log"], 999).unwrap(), log_entry());
    assert_eq!(Want::from_bytes(&v1["want"]).unwrap(), want());
    assert_eq!(codec::decode::<Piece>(&v1["piece"], 999).unwrap(), piece());
    let read = RootChain::from_bytes(&v1["chain"]).unwrap();
    assert_eq!((read.last(), trust().follow(&read).unwrap()), (1, None));
}

#[test]
fn the_digest_of_a_log_entry_never_changes() {
    let digest = deploy_log::digest(&Digest::of(b"the entry before"), &log_entry());
    assert_eq!(digest.to_string(), "e1a166800d4eca7b48897bcf0a15dc33dffa536282941e728050b14d545fd8be");
}

pub(crate) fn golden(version: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(version);
    let read = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let digits: Vec<_> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), digits.chunks(2).map(byte).collect())
    };
    fs::read_dir(folder).unwrap().map(|entry| read(&entry.unwrap().path())).collect()
}

/// 60 bytes a line, as the golden files hold them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        let line_end = if at > 0 && at % 60 == 0 { "\n" } else { "" };
        write!(text, "{line_end}{byte:02x}").expect("a string takes all text");
    }
    text
}
