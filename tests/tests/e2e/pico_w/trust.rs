//! What a Pico W believes is what every other node believes: its verifier beside that of `schemas`.

use std::{collections::BTreeMap, fmt::Write as _, fs, io::Write as _, path::Path, process::Stdio};

use e2e::micropython_program;
use schemas::{
    announcement::Announcement,
    codec,
    id::{AppId, Digest, GroupId, PublicKey, Revision, Signature},
    mandate::Mandate,
    manifest::{Entry, Manifest, Node},
    order::{Audience, Order, OrderState, Policy},
    record::{Record, RecordStatus},
    release::{Provenance, Release},
    root::{Role, RoleKeys, Root, RootChain, Trust},
    seal::{Head, SecretKey, Signed},
    time::UnixTime,
};

/// The order of the curve's base point, as its 32 bytes.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// What makes another order or mandate of a good one.
type Change = fn(&mut Order, &mut Mandate);

/// Questions for the Pico's verifier, one a line.
#[derive(Default)]
struct Questions(String);

impl Questions {
    fn ask(&mut self, what: &str, args: &[&[u8]]) {
        self.0.push_str(what);
        for arg in args {
            self.0.push_str(" x");
            arg.iter().for_each(|byte| write!(self.0, "{byte:02x}").unwrap());
        }
        self.0.push('\n');
    }

    /// The answers in their order; nothing where MicroPython is missing.
    fn answers(&self) -> Option<Vec<String>> {
        let Some(mut python) = micropython_program("verify.py") else {
            println!("skipped: needs MicroPython's unix port");
            return None;
        };
        let mut asked = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, text) = (asked.stdin.take().unwrap(), self.0.clone());
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let output = asked.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
    }
}

#[test]
fn signatures_are_those_of_rfc_8032() {
    // RFC 8032, 7.1: seed, public key, message, signature of tests 1, 2, 3 and SHA(abc).
    let vectors = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
        (
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
        ),
    ];
    let mut questions = Questions::default();
    for (seed, key, message, signature) in vectors {
        writeln!(questions.0, "sign x{seed} x{message}\ned x{key} x{message} x{signature}").unwrap();
    }
    let Some(answers) = questions.answers() else { return };
    for ((_, key, _, signature), answers) in vectors.iter().zip(answers.chunks(2)) {
        assert_eq!(answers, [format!("{key} {signature}"), "yes".to_owned()]);
    }
}

/// What `schemas` says of a signature under the order `p`.
fn is_believed(p: &[u8], key: PublicKey, signature: [u8; 64]) -> bool {
    // { "p": p, "s": [[key id, signature]] }
    let len = u16::try_from(p.len()).unwrap().to_be_bytes();
    let head = [&[0xa2, 0x61, b'p', 0x59][..], &len, p, &[0x61, b's', 0x81, 0x82, 0x48]].concat();
    let envelope = [&head[..], &key.id().0, &[0x58, 0x40], &signature].concat();
    let signed = Signed::<Order>::from_bytes(&envelope).unwrap();
    signed.verify_by(&key, &"home".parse().unwrap()).is_ok()
}

#[test]
fn a_signature_that_others_refuse_is_refused() {
    let p = codec::encode(&order(7));
    let message = [&b"deploybus/1\0order\0"[..], &(p.len() as u64).to_be_bytes(), &p].concat();
    let key = key(3).public();
    let good = signature_of(&Signed::seal(&order(7), &[self::key(3)]));
    let mut cases = vec![(key, good)];
    for bit in (0..512).step_by(37) {
        let mut changed = good;
        changed[bit / 8] ^= 1 << (bit % 8);
        cases.push((key, changed));
    }
    // S + L is the same number to who does not look (RFC 8032, 5.1.7: "0 <= s < L").
    let mut malleable = good;
    let mut carry = 0;
    for (byte, l) in malleable[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(l) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    cases.push((key, malleable));
    // Points of small order, in all their forms, as key and as R; with them an S of zero signs anything.
    for point in small_order() {
        let mut nothing = [0; 64];
        nothing[..32].copy_from_slice(&point);
        let mut moved = good;
        moved[..32].copy_from_slice(&point);
        cases.extend([(PublicKey(point), nothing), (PublicKey(point), good), (key, moved), (key, nothing)]);
    }
    // No point at all.
    cases.push((PublicKey([2; 32]), good));
    cases.push((PublicKey([0xff; 32]), good));
    let mut questions = Questions::default();
    for (key, signature) in &cases {
        questions.ask("ed", &[&key.0, &message, signature]);
    }
    let Some(answers) = questions.answers() else { return };
    for ((key, signature), answer) in cases.iter().zip(&answers) {
        let expected = if is_believed(&p, *key, *signature) { "yes" } else { "no" };
        assert_eq!(answer, expected, "{key} {}", Signature(*signature));
    }
    assert_eq!(answers.iter().filter(|answer| *answer == "yes").count(), 1);
}

#[test]
fn a_document_is_believed_where_others_believe_it() {
    let trust = Trust::first(&root(1, &[])).unwrap();
    let (group, app): (GroupId, AppId) = ("canary".parse().unwrap(), "web".parse().unwrap());
    let mut cases = Vec::new();
    let mut case = |order: Order, change: fn(&mut Announcement)| {
        let mut announcement = announcement(&order);
        change(&mut announcement);
        cases.push(announcement.to_bytes());
    };
    case(order(7), |_| {});
    case(order(7), |it| it.order = Signed::seal(&order(7), &[key(2)]));
    case(order(7), |it| it.order = Signed::seal(&order(7), &[]));
    case(order(7), |it| it.release = Signed::seal(&Release { notes: "x".into(), ..release() }, &[key(2)]));
    case(order(7), |it| it.release = Signed::seal(&release(), &[key(3)]));
    case(Order { group: "all".parse().unwrap(), ..order(7) }, |_| {});
    case(Order { head: Head { spec: 2, ..head() }, ..order(7) }, |_| {});
    case(Order { head: Head { crit: vec!["moon".into()], ..head() }, ..order(7) }, |_| {});
    case(Order { head: Head { fleet: "others".parse().unwrap(), ..head() }, ..order(7) }, |_| {});
    case(Order { policy: Policy { urgent: true, jitter_ms: 9 }, ..order(7) }, |_| {});
    let changes: [Change; 7] = [
        |_, _| {},
        |order, _| order.revision = Revision(99),
        |order, _| order.policy.urgent = true,
        |order, _| order.continues = None,
        |_, mandate| mandate.groups.clear(),
        |_, mandate| mandate.release = Digest::of(b"another"),
        |_, mandate| mandate.keys.clear(),
    ];
    for change in changes {
        let mut order =
            Order { continues: Some(Revision(5)), release: signed_release().digest(), ..order(7) };
        let mut mandate = mandate();
        change(&mut order, &mut mandate);
        let announcement = Announcement {
            order: Signed::seal(&order, &[key(8)]),
            release: signed_release(),
            mandate: Some(Signed::seal(&mandate, &[key(3)])),
        };
        cases.push(announcement.to_bytes());
    }
    let good = announcement(&order(7)).to_bytes();
    for at in (0..good.len()).step_by(29) {
        let mut changed = good.clone();
        changed[at] ^= 1;
        cases.push(changed);
        cases.push(good[..at].to_vec());
    }
    cases.push([&good[..], &[0]].concat());
    let mut questions = Questions::default();
    let first = root(1, &[]).to_bytes();
    for bytes in &cases {
        questions.ask("announce", &[&first, b"canary", b"web", bytes]);
    }
    let Some(answers) = questions.answers() else { return };
    let mut believed = 0;
    for (bytes, answer) in cases.iter().zip(&answers) {
        let verified = Announcement::from_bytes(bytes).and_then(|it| it.verify(&trust, &group, &app));
        let expected = verified.map_or_else(|error| error.reason().code(), |_| "yes");
        // Where a changed byte breaks the form as well as the signature, either is said.
        let same = answer == expected || ![answer.as_str(), expected].contains(&"yes");
        assert!(same, "{answer} instead of {expected}");
        believed += usize::from(answer == "yes");
    }
    assert_eq!(believed, 3);
    let named = ["yes", "bad-signature", "bad-signature", "wrong-release", "bad-signature", "wrong-topic"];
    assert_eq!(answers[..6], named);
    assert_eq!(answers[6..9], ["spec-too-new", "unknown-critical-field", "wrong-fleet"]);
    assert_eq!(answers[11..16], ["beyond-mandate"; 5]);
}

#[test]
fn roots_and_records_are_followed_as_others_do() {
    let two = root(2, &[1]);
    let three = root(3, &[]);
    let forged = Signed::seal(&Root { version: 2, ..root_document(&[]) }, &[key(9)]);
    let chain = |first, roots: &[&Signed<Root>]| {
        RootChain::new(first, roots.iter().map(|root| (*root).clone()).collect()).to_bytes()
    };
    let one = root(1, &[]);
    let chains = [
        chain(1, &[&one, &two, &three]),
        chain(2, &[&two]),
        chain(1, &[&one]),
        chain(1, &[&one, &forged]),
        chain(1, &[&two]),
        chain(3, &[&three]),
        chain(0, &[&one]),
        b"junk".to_vec(),
    ];
    let mut questions = Questions::default();
    for bytes in &chains {
        questions.ask("follow", &[&one.to_bytes(), bytes]);
    }
    let record = |node: &str, signer: u8| {
        let record = Record {
            head: head(),
            node: node.parse().unwrap(),
            seq: schemas::id::Seq(1),
            key: key(9).public(),
            groups: ["canary".parse().unwrap()].into(),
            labels: BTreeMap::new(),
            status: RecordStatus::Active,
            login: None,
            env: BTreeMap::new(),
        };
        Signed::seal(&record, &[key(signer)]).to_bytes()
    };
    for bytes in [record("pico", 3), record("pico", 2), record("other", 3)] {
        questions.ask("record", &[&one.to_bytes(), b"pico", &bytes]);
    }
    let Some(answers) = questions.answers() else { return };
    let expected = ["3", "2", "1", "bad-signature", "root-fork", "root-gap", "replayed", "malformed"];
    assert_eq!(answers[..8], expected);
    assert_eq!(answers[8..], ["yes", "bad-signature", "wrong-topic"]);
}

#[test]
fn hostile_bytes_end_as_a_refusal_and_take_no_memory() {
    let document = codec::encode(&order(7));
    let file = |path: &str, size| Entry {
        path: path.into(),
        node: Node::File { executable: false, size, digest: Digest::of(b"x") },
    };
    let tree = Manifest::new(vec![file("main.py", 3), file("x.py", 4)]).unwrap().encode();
    let link = Entry { path: "l".into(), node: Node::Symlink { target: "x".into() } };
    let linked = Manifest::new(vec![link]).unwrap().encode();
    let outside = tree.iter().map(|byte| if *byte == b'm' { b'/' } else { *byte }).collect::<Vec<_>>();
    let mut questions = Questions::default();
    questions.ask("cbor", &[&document]);
    let announced = [0x5b, 0x7b, 0x9b, 0xbb].map(|head| [&[head, 0x10][..], &[0; 7]].concat());
    let nested = vec![0x81; 20_000];
    let hostile =
        [&nested[..], &[0xff], &[0x1c], &[0xf9, 0x3c, 0], &[0xc1, 1], &[0x61, 0xff], &[0xa2, 1, 1, 1, 1]];
    for bytes in
        hostile.into_iter().chain(announced.iter().map(Vec::as_slice)).chain([&[][..], &[0x9f, 0xff]])
    {
        questions.ask("cbor", &[bytes]);
    }
    for (size, bytes) in [(7, &tree), (8, &tree), (0, &linked), (7, &outside)] {
        questions.ask("manifest", &[&[size], bytes]);
    }
    let Some(answers) = questions.answers() else { return };
    assert_eq!(answers[0], "yes");
    assert!(answers[1..14].iter().all(|answer| answer == "no"), "{answers:?}");
    assert_eq!(answers[14..], ["yes", "no", "no", "no"]);
}

#[test]
fn what_was_written_once_is_read_on_a_pico_too_and_the_corpus_of_attackers_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/testdata");
    let read = |path: &Path| {
        let digits: Vec<u8> = fs::read(path).unwrap().into_iter().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect::<Vec<u8>>()
    };
    let golden = |name: &str| read(&folder.join(format!("v1/{name}.hex")));
    let root = golden("root");
    let mut questions = Questions::default();
    questions.ask("announce", &[&root, b"canary", b"web", &golden("announcement")]);
    questions.ask("announce", &[&root, b"canary", b"web", &golden("mandated")]);
    questions.ask("follow", &[&root, &golden("chain")]);
    for name in ["piece", "want", "report", "record"] {
        questions.ask("cbor", &[&golden(name)]);
    }
    let corpus = fs::read_dir(folder.join("hostile")).unwrap();
    let hostile: Vec<_> = corpus.map(|file| read(&file.unwrap().path())).collect();
    for bytes in &hostile {
        questions.ask("announce", &[&root, b"canary", b"web", bytes]);
    }
    let Some(answers) = questions.answers() else { return };
    assert_eq!(answers[..7], ["yes", "yes", "1", "yes", "yes", "yes", "yes"]);
    assert!(hostile.len() >= 10 && answers[7..].iter().all(|answer| answer == "malformed"), "{answers:?}");
}

#[test]
fn a_name_is_found_in_the_answer_to_its_question_alone() {
    let question = b"\x03bus\x03lan\x00\x00\x01\x00\x01";
    let head = b"\x12\x34\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00";
    let alias = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01a\xc0\x0c";
    let address = b"\x01a\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\xa8\x01\x0a";
    let whole = [&head[..], question, alias, address].concat();
    let mut questions = Questions::default();
    questions.ask("dns", &[b"bus.lan", &whole]);
    questions.ask("dns", &[b"bus.lam", &whole]);
    questions.ask("dns", &[b"bus.lan", &[&[0x12, 0x35], &whole[2..]].concat()]);
    for len in 0..whole.len() {
        questions.ask("dns", &[b"bus.lan", &whole[..len]]);
    }
    let Some(answers) = questions.answers() else { return };
    assert_eq!(answers[0], "192.168.1.10");
    assert!(answers[1..].iter().all(|answer| answer == "no"), "{answers:?}");
}

#[test]
fn verifying_and_signing_take_little_time_and_memory() {
    let mut questions = Questions::default();
    questions.ask("time", &[]);
    let Some(answers) = questions.answers() else { return };
    println!("microseconds of a verification and a signature, bytes of heap: {}", answers[0]);
    let figures: Vec<u64> = answers[0].split(' ').map(|figure| figure.parse().unwrap()).collect();
    assert!(figures[2] < 16 * 1024, "{figures:?}");
}

fn signature_of(signed: &Signed<Order>) -> [u8; 64] {
    let bytes = signed.to_bytes();
    bytes[bytes.len() - 64..].try_into().unwrap()
}

/// The eight points of small order, and the other forms in which some of them can be written.
fn small_order() -> Vec<[u8; 32]> {
    let hex = |text: &str| text.parse::<Digest>().unwrap().0;
    let points = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        // The same numbers with the prime added.
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ]
    .map(hex);
    let with_sign = points.map(|mut point| {
        point[31] |= 0x80;
        point
    });
    points.into_iter().chain(with_sign).collect()
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn head() -> Head {
    Head::new("home".parse().unwrap(), UnixTime(1_700_000_000))
}

/// A root in which key 1 signs roots, key 2 releases and key 3 orders; the numbers of roles in `reset` begin anew.
fn root_document(reset: &[u8]) -> Root {
    let role = |role, n| (role, RoleKeys { keys: vec![key(n).public().id()], threshold: 1 });
    Root {
        head: head(),
        version: 1,
        keys: [1, 2, 3].map(|n| key(n).public()).into(),
        roles: [role(Role::Root, 1), role(Role::Release, 2), role(Role::Ops, 3)].into(),
        reset: reset.iter().map(|_| Role::Ops).collect(),
        expires: UnixTime(2_000_000_000),
    }
}

fn root(version: u64, reset: &[u8]) -> Signed<Root> {
    Signed::seal(&Root { version, ..root_document(reset) }, &[key(1)])
}

fn release() -> Release {
    Release {
        head: head(),
        app: "web".parse().unwrap(),
        version: "1.0.0".into(),
        counter: schemas::id::Counter(1),
        min_counter: schemas::id::Counter(0),
        parts: Vec::new(),
        provenance: Provenance::default(),
        notes: String::new(),
    }
}

fn signed_release() -> Signed<Release> {
    Signed::seal(&release(), &[key(2)])
}

fn order(revision: u64) -> Order {
    Order {
        head: head(),
        app: "web".parse().unwrap(),
        group: "canary".parse().unwrap(),
        revision: Revision(revision),
        release: signed_release().digest(),
        audience: Audience::All,
        state: OrderState::Active,
        policy: Policy::default(),
        not_before: UnixTime(0),
        expires: UnixTime(1_800_000_000),
        continues: None,
    }
}

fn mandate() -> Mandate {
    Mandate {
        head: head(),
        app: "web".parse().unwrap(),
        groups: vec!["canary".parse().unwrap()],
        release: signed_release().digest(),
        keys: vec![key(8).public()],
        first: Revision(5),
        last: Revision(50),
        expires: UnixTime(1_900_000_000),
    }
}

fn announcement(order: &Order) -> Announcement {
    Announcement { order: Signed::seal(order, &[key(3)]), release: signed_release(), mandate: None }
}
