//! Bytes of attackers: a corpus that is replayed, and genuine documents with changes, by thousands (millions with `PROPTEST_CASES`).
//! Whatever comes, no reader panics, and nothing is believed that was not signed.

use proptest::{collection::vec, prelude::*};
use schemas::{
    announcement::Announcement,
    enroll::{Request, Welcome, is_proven},
    mandate::Mandate,
    manifest::Manifest,
    order::Order,
    record::Record,
    release::Release,
    report::Report,
    rollout::{Controller, Course, Planned, Rollout},
    root::{Root, RootChain, Trust},
    seal::{Document, RoleDocument, Signed},
};

use crate::{
    golden::{golden, hex},
    sample::{key, trust},
};

/// A change of some bytes.
#[derive(Debug, Clone)]
enum Change {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    /// Puts a piece of another document there.
    Splice(usize, usize, usize),
    /// A head of CBOR that announces more than there is.
    Announce(usize, u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        any::<usize>().prop_map(Change::Remove),
        (any::<usize>(), any::<usize>(), 1..64_usize)
            .prop_map(|(at, from, len)| Change::Splice(at, from, len)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Announce(at, byte)),
    ]
}

fn changed(bytes: &[u8], other: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        let len = bytes.len().max(1);
        match *change {
            Change::Set(at, byte) if !bytes.is_empty() => bytes[at % len] = byte,
            Change::Insert(at, byte) => bytes.insert(at % len, byte),
            Change::Remove(at) if !bytes.is_empty() => drop(bytes.remove(at % len)),
            Change::Splice(at, from, count) if !other.is_empty() => {
                let from = from % other.len();
                let piece = other[from..other.len().min(from + count)].to_vec();
                bytes.splice(at % len..at % len, piece);
            }
            Change::Announce(at, byte) => {
                let head = [0x1b | (byte & 0xe0), 0x7f, 0xff, 0xff, 0xff, byte, 0xff, 0xff, 0xff];
                bytes.splice(at % len..at % len, head);
            }
            _ => {}
        }
    }
    bytes
}

/// Everything that reads what comes over the network. Says whether something was believed.
fn read(bytes: &[u8]) -> bool {
    fn signed<T: RoleDocument>(bytes: &[u8]) -> bool {
        let Ok(signed) = Signed::<T>::from_bytes(bytes) else { return false };
        let _ = signed.peek();
        signed.verify(&trust()).is_ok()
    }
    let (group, app) = ("canary".parse().unwrap(), "web".parse().unwrap());
    let announced = Announcement::from_bytes(bytes).is_ok_and(|it| it.verify(&trust(), &group, &app).is_ok());
    let reported = Signed::<Report>::from_bytes(bytes)
        .is_ok_and(|signed| signed.verify_by(&key(9).public(), trust().fleet()).is_ok());
    let asked = Signed::<Request>::from_bytes(bytes).is_ok_and(|signed| {
        let request = signed.verify_own(trust().fleet());
        request.is_ok_and(|request| request.key == key(9).public() || is_proven(&request, "invitation"))
    });
    let rooted = Signed::<Root>::from_bytes(bytes).is_ok_and(|signed| {
        let _ = Trust::first(&signed);
        trust().next(&signed).is_ok()
    });
    let chained =
        RootChain::from_bytes(bytes).is_ok_and(|chain| matches!(trust().follow(&chain), Ok(Some(_))));
    let planned = Planned::from_bytes(bytes).is_ok_and(|it| it.verify(&trust(), &app).is_ok());
    let courses = Signed::<Course>::from_bytes(bytes)
        .is_ok_and(|signed| signed.verify_by(&key(8).public(), trust().fleet()).is_ok());
    let _ = Signed::<Controller>::from_bytes(bytes).map(|signed| signed.verify_own(trust().fleet()));
    let _ = Welcome::from_bytes(bytes);
    let _ = Manifest::parse(bytes, 1000);
    let documents = signed::<Order>(bytes)
        || signed::<Release>(bytes)
        || signed::<Record>(bytes)
        || signed::<Mandate>(bytes)
        || signed::<Rollout>(bytes);
    announced || reported || asked || rooted || chained || planned || courses || documents
}

/// Reads a document that a thief has signed with the right key.
fn read_as_signed<T: RoleDocument>(payload: &[u8], by: u8) {
    let Ok(mut signed) = Signed::<T>::from_bytes(&envelope(payload)) else { return };
    signed.sign(&[key(by)]);
    let _ = signed.verify(&trust());
    let _ = signed.peek();
}

/// `{ p: payload, s: [] }`
fn envelope(payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let [high, low] = len.to_be_bytes();
    [&[0xa2, 0x61, b'p', 0x59, high, low], &payload[..usize::from(len)], &[0x61, b's', 0x80]].concat()
}

fn payload_of<T: Document>(signed: &Signed<T>) -> Vec<u8> {
    // The payload is the byte string behind the first key.
    let bytes = signed.to_bytes();
    let start = bytes.windows(2).position(|pair| pair == [0x61, b'p']).unwrap() + 2;
    let (head, len) = match bytes[start] {
        0x58 => (2, usize::from(bytes[start + 1])),
        0x59 => (3, usize::from(u16::from_be_bytes([bytes[start + 1], bytes[start + 2]]))),
        other => panic!("a head {other:x} that no document has"),
    };
    bytes[start + head..start + head + len].to_vec()
}

#[test]
fn the_corpus_is_read_by_everything_and_believed_by_nothing() {
    for (name, bytes) in golden("hostile") {
        assert!(!read(&bytes), "{name}");
        read_as_signed::<Order>(&bytes, 3);
        read_as_signed::<Release>(&bytes, 2);
        read_as_signed::<Record>(&bytes, 3);
    }
}

#[test]
fn the_payload_of_a_sample_is_what_is_signed() {
    let payload = payload_of(&Signed::seal(&crate::sample::order(), &[key(3)]));
    let mut again = Signed::<Order>::from_bytes(&envelope(&payload)).unwrap();
    again.sign(&[key(3)]);
    assert_eq!(again.verify(&trust()).unwrap().into_inner(), crate::sample::order());
}

/// As many as the environment says, and never few.
fn many() -> ProptestConfig {
    const LEAST: u32 = 4_000;
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(LEAST), ..config }
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn genuine_documents_with_changes_are_not_believed(
        which in any::<usize>(),
        other in any::<usize>(),
        changes in vec(change(), 1..8),
    ) {
        let all: Vec<_> = golden("v1").into_values().collect();
        let genuine = &all[which % all.len()];
        let bytes = changed(genuine, &all[other % all.len()], &changes);
        // What differs in a signature alone may still be one: a key's id or a list that is longer.
        let believed = read(&bytes);
        prop_assert!(!believed || says_the_same(&bytes, &all), "{}", hex(&bytes));
    }

    #[test]
    fn what_a_thief_signs_is_read_without_a_panic(
        changes in vec(change(), 0..8),
        other in any::<usize>(),
    ) {
        let all: Vec<_> = golden("v1").into_values().collect();
        let other = &all[other % all.len()];
        let order = payload_of(&Signed::seal(&crate::sample::order(), &[key(3)]));
        read_as_signed::<Order>(&changed(&order, other, &changes), 3);
        let record = payload_of(&Signed::seal(&crate::sample::record(), &[key(3)]));
        read_as_signed::<Record>(&changed(&record, other, &changes), 3);
        let release = payload_of(&Signed::seal(&crate::sample::release(), &[key(2)]));
        read_as_signed::<Release>(&changed(&release, other, &changes), 2);
    }
}

/// Whether a believed envelope carries the very document that one of `genuine` carries.
fn says_the_same(bytes: &[u8], genuine: &[Vec<u8>]) -> bool {
    let digest = |bytes: &[u8]| Signed::<Order>::from_bytes(bytes).map(|signed| signed.digest()).ok();
    let announced = |bytes: &[u8]| {
        Announcement::from_bytes(bytes).map(|it| (it.order.digest(), it.release.digest())).ok()
    };
    let planned = |bytes: &[u8]| {
        Planned::from_bytes(bytes)
            .map(|it| (it.rollout.digest(), it.mandate.digest(), it.release.digest()))
            .ok()
    };
    genuine.iter().any(|genuine| {
        digest(bytes).is_some() && digest(bytes) == digest(genuine)
            || announced(bytes).is_some() && announced(bytes) == announced(genuine)
            || planned(bytes).is_some() && planned(bytes) == planned(genuine)
    })
}
