//! Documents that nobody may act on.

use schemas::{
    announcement::{Announcement, AnnouncementError},
    codec,
    id::{Digest, GroupId, PublicKey, Revision},
    mandate::Mandate,
    order::Order,
    reason::Reason,
    record::Record,
    release::Release,
    report::Report,
    rollout::Planned,
    root::{Role, RoleKeys, Root, RootError, Trust},
    seal::{Document, Head, SecretKey, Signed},
};
use serde::{Deserialize, Serialize};

use crate::sample::{
    announcement, head, key, mandate, mandated, order, planned, release, report, root, trust,
};

fn reason(signed: &Signed<Order>) -> Reason {
    signed.verify(&trust()).unwrap_err().reason()
}

fn verify(announcement: &Announcement) -> Result<(), AnnouncementError> {
    announcement.verify(&trust(), &"canary".parse().unwrap(), &"web".parse().unwrap()).map(drop)
}

#[test]
fn an_order_needs_the_ops_key() {
    assert!(Signed::seal(&order(), &[key(3)]).verify(&trust()).is_ok());
    assert_eq!(reason(&Signed::seal(&order(), &[])), Reason::BadSignature);
    for other_role in [1, 2, 9] {
        assert_eq!(reason(&Signed::seal(&order(), &[key(other_role)])), Reason::BadSignature);
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let bytes = Signed::seal(&order(), &[key(3)]).to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let verified =
            Signed::<Order>::from_bytes(&changed).is_ok_and(|signed| signed.verify(&trust()).is_ok());
        assert!(!verified, "byte {at}");
    }
}

#[test]
fn truncated_and_extended_envelopes_are_malformed() {
    let bytes = Signed::seal(&order(), &[key(3)]).to_bytes();
    for len in 0..bytes.len() {
        assert!(Signed::<Order>::from_bytes(&bytes[..len]).is_err(), "{len} bytes");
    }
    assert!(Signed::<Order>::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn a_document_does_not_pass_for_another_kind() {
    #[derive(Serialize, Deserialize)]
    struct Alias(Order);
    impl Document for Alias {
        const TYPE: &'static str = "release";
        const MAX_BYTES: usize = 65_536;
        fn head(&self) -> &Head {
            &self.0.head
        }
    }
    let as_release = Signed::seal(&Alias(order()), &[key(3)]).to_bytes();
    assert_eq!(reason(&Signed::from_bytes(&as_release).unwrap()), Reason::BadSignature);
}

#[test]
fn oversized_documents_are_refused_before_they_are_decoded() {
    let mut release = release();
    release.notes = "x".repeat(Release::MAX_BYTES);
    let signed = Signed::seal(&release, &[key(2)]);
    assert_eq!(signed.verify(&trust()).unwrap_err().reason(), Reason::TooLarge);
    let huge = vec![0; Signed::<Release>::MAX_BYTES + 1];
    assert_eq!(Signed::<Release>::from_bytes(&huge).unwrap_err().reason(), Reason::TooLarge);
}

#[test]
fn another_fleet_a_newer_spec_and_an_unknown_critical_field_are_refused() {
    let mut of_others = order();
    of_others.head.fleet = "others".parse().unwrap();
    assert_eq!(reason(&Signed::seal(&of_others, &[key(3)])), Reason::WrongFleet);

    let mut newer = order();
    newer.head.spec = 2;
    assert_eq!(reason(&Signed::seal(&newer, &[key(3)])), Reason::SpecTooNew);

    let mut critical = order();
    critical.head.crit = vec!["moon_phase".into()];
    assert_eq!(reason(&Signed::seal(&critical, &[key(3)])), Reason::UnknownCritical);
}

#[test]
fn a_newer_spec_is_named_even_when_its_shape_is_unknown() {
    #[derive(Serialize, Deserialize)]
    struct OrderOfTomorrow {
        head: Head,
        everything: u8,
    }
    impl Document for OrderOfTomorrow {
        const TYPE: &'static str = "order";
        const MAX_BYTES: usize = 99;
        fn head(&self) -> &Head {
            &self.head
        }
    }
    let document = OrderOfTomorrow { head: Head { spec: 2, ..head() }, everything: 1 };
    let bytes = Signed::seal(&document, &[key(3)]).to_bytes();
    assert_eq!(reason(&Signed::from_bytes(&bytes).unwrap()), Reason::SpecTooNew);
}

#[test]
fn unknown_fields_are_ignored() {
    #[derive(Serialize)]
    struct Extended {
        head: Head,
        node: &'static str,
        seq: u64,
        key: PublicKey,
        groups: [&'static str; 1],
        status: &'static str,
        later: &'static str,
    }
    let extended = Extended {
        head: head(),
        node: "pi-1",
        seq: 1,
        key: key(9).public(),
        groups: ["all"],
        status: "active",
        later: "unknown today",
    };
    assert!(codec::decode::<Record>(&codec::encode(&extended), 9_999).is_ok());
}

#[test]
fn a_weak_key_signs_nothing() {
    #[derive(Serialize)]
    struct Envelope {
        p: serde_bytes::ByteBuf,
        s: Vec<(schemas::id::KeyId, schemas::id::Signature)>,
    }

    // The identity point: an all-zero signature with R = identity verifies under it for every message.
    let mut weak = [0; 32];
    weak[0] = 1;
    let weak = PublicKey(weak);
    let mut signature = [0; 64];
    signature[0] = 1;
    let forged = Envelope {
        p: serde_bytes::ByteBuf::from(codec::encode(&report())),
        s: vec![(weak.id(), schemas::id::Signature(signature))],
    };
    let forged = Signed::<Report>::from_bytes(&codec::encode(&forged)).unwrap();
    assert_eq!(forged.verify_by(&weak, trust().fleet()).unwrap_err().reason(), Reason::WeakKey);
}

#[test]
fn each_key_counts_once_toward_the_threshold() {
    let mut root = root();
    root.keys.push(key(4).public());
    let keys = vec![key(3).public().id(), key(4).public().id()];
    root.roles.insert(Role::Ops, RoleKeys { keys, threshold: 2 });
    let trust = Trust::first(&Signed::seal(&root, &[key(1)])).unwrap();
    let verify = |keys: &[SecretKey]| Signed::seal(&order(), keys).verify(&trust).map_err(|e| e.reason());
    assert_eq!(verify(&[key(3), key(3)]).unwrap_err(), Reason::TooFewSignatures);
    assert!(verify(&[key(3), key(4)]).is_ok());
}

#[test]
fn order_and_release_belong_together_and_to_their_topic() {
    assert!(verify(&announcement()).is_ok());

    let mut other = release();
    other.notes = "another".into();
    let swapped = Announcement { release: Signed::seal(&other, &[key(2)]), ..announcement() };
    assert_eq!(verify(&swapped).unwrap_err().reason(), Reason::WrongRelease);

    let mut unsigned = announcement();
    unsigned.release = Signed::seal(&release(), &[key(3)]);
    assert_eq!(verify(&unsigned).unwrap_err().reason(), Reason::BadSignature);

    let elsewhere: GroupId = "all".parse().unwrap();
    let moved = announcement().verify(&trust(), &elsewhere, &"web".parse().unwrap());
    assert_eq!(moved.unwrap_err().reason(), Reason::WrongTopic);
}

#[test]
fn a_controller_orders_within_its_mandate_and_no_further() {
    let may = |change: fn(&mut Order), bound: fn(&mut Mandate)| {
        let (mut order, mut mandate) = (order(), mandate());
        change(&mut order);
        bound(&mut mandate);
        verify(&mandated(&order, &mandate)).map_err(|error| error.reason())
    };
    assert!(may(|_| {}, |_| {}).is_ok());
    let beyond = [
        may(|order| order.revision = Revision(39), |_| {}),
        may(|order| order.revision = Revision(50), |_| {}),
        may(|order| order.expires = order.expires.plus_secs(1), |_| {}),
        may(|order| order.policy.urgent = true, |_| {}),
        may(|_| {}, |mandate| mandate.groups = vec!["all".parse().unwrap()]),
        may(|_| {}, |mandate| mandate.app = "db".parse().unwrap()),
        may(|_| {}, |mandate| mandate.release = Digest::of(b"another")),
    ];
    for refused in beyond {
        assert_eq!(refused.unwrap_err(), Reason::BeyondMandate);
    }
    assert_eq!(may(|_| {}, |mandate| mandate.keys.clear()).unwrap_err(), Reason::BadSignature);
    // The mandate itself is signed by ops; the controller's key alone counts for nothing.
    let own =
        Announcement { mandate: Some(Signed::seal(&mandate(), &[key(8)])), ..mandated(&order(), &mandate()) };
    assert_eq!(verify(&own).unwrap_err().reason(), Reason::BadSignature);
    let bare = Announcement { mandate: None, ..own };
    assert_eq!(verify(&bare).unwrap_err().reason(), Reason::BadSignature);
}

#[test]
fn documents_of_a_rollout_belong_together() {
    let app = "web".parse().unwrap();
    assert!(planned().verify(&trust(), &app).is_ok());
    let refused = |planned: &Planned| Reason::from(&planned.verify(&trust(), &app).unwrap_err());
    let other = Mandate { first: Revision(41), ..mandate() };
    let mixed = Planned { mandate: Signed::seal(&other, &[key(3)]), ..planned() };
    assert_eq!(refused(&mixed), Reason::WrongRelease);
    let forged = Planned { mandate: Signed::seal(&mandate(), &[key(8)]), ..planned() };
    assert_eq!(refused(&forged), Reason::BadSignature);
    assert!(planned().verify(&trust(), &"db".parse().unwrap()).is_err());
}

#[test]
fn a_report_counts_only_with_the_key_of_its_node() {
    let signed = Signed::seal(&report(), &[key(9)]);
    assert!(signed.verify_by(&key(9).public(), trust().fleet()).is_ok());
    assert!(signed.verify_by(&key(8).public(), trust().fleet()).is_err());
    assert!(codec::encode(&report()).len() < Report::MAX_BYTES);
}

#[test]
fn a_root_is_followed_only_by_its_successor_signed_by_both() {
    let mut two = Root { version: 2, ..root() };
    two.keys.push(key(11).public());
    two.roles.insert(Role::Root, RoleKeys { keys: vec![key(11).public().id()], threshold: 1 });
    let next = |root: &Root, keys: &[SecretKey]| trust().next(&Signed::seal(root, keys));
    assert_eq!(next(&two, &[key(1), key(11)]).unwrap().version(), 2);
    assert!(next(&two, &[key(1)]).is_err(), "the new key has not signed");
    assert!(next(&two, &[key(11)]).is_err(), "the old key has not signed");
    let three = Root { version: 3, ..two };
    assert!(matches!(next(&three, &[key(1), key(11)]), Err(RootError::Version { have: 1, got: 3 })));
}

#[test]
fn a_root_without_usable_roles_is_refused() {
    let mut none = root();
    none.roles.remove(&Role::Ops);
    assert!(matches!(
        Trust::first(&Signed::seal(&none, &[key(1)])),
        Err(RootError::Role { role: "ops", .. })
    ));
    let mut zero = root();
    zero.roles.insert(Role::Ops, RoleKeys { keys: vec![key(3).public().id()], threshold: 0 });
    assert!(Trust::first(&Signed::seal(&zero, &[key(1)])).is_err());
}

proptest::proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let _ = Announcement::from_bytes(&bytes);
        let _ = Signed::<Root>::from_bytes(&bytes).map(|signed| Trust::first(&signed));
        let _ = codec::decode::<Report>(&bytes, 400);
        let _ = codec::decode::<Release>(&bytes, 400);
    }
}
