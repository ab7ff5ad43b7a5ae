//! What somebody with a bus password, or with the broker itself, tries to have installed.

use std::{fs, time::Duration};

use e2e::{App, Forge, Mqtt, World, now, wait_until};
use schemas::{
    announcement::Announcement,
    codec,
    id::{AppId, Digest, GroupId, Revision},
    order::Order,
    reason::Reason,
    release::Release,
    report::Verdict,
    seal::{SecretKey, Signed},
    time::UnixTime,
};

const TOPIC: &str = "deploybus/v1/release/canary/web";
/// Higher than the clock's milliseconds that `publisher` uses.
const FUTURE: Revision = Revision(9_000_000_000_000_000);

struct Attack {
    world: World,
    forge: Forge,
    bus: Mqtt,
    genuine: Vec<u8>,
    _app: App,
}

impl Attack {
    /// A node that runs 1.0.0, and an attacker with the publisher's bus password.
    fn prepare() -> Self {
        let mut world = World::new().unwrap();
        world.add_node("pi-1", &["canary"]).unwrap();
        let app = world.app().unwrap();
        assert_eq!(world.announce(&app, "canary").unwrap().0, Some(0));
        let mut bus = world.raw_publisher().unwrap();
        let genuine =
            bus.retained(TOPIC, std::time::Duration::from_millis(300)).unwrap().remove(TOPIC).unwrap();
        let bus = world.raw_publisher().unwrap();
        Self { forge: world.forge().unwrap(), world, bus, genuine, _app: app }
    }

    fn order(&self) -> Order {
        self.forge.order(&group(), &app(), Digest::of(b"none"), FUTURE)
    }

    fn release(&self) -> Release {
        self.forge.release(&app(), Digest::of(b"none"), 10, 10)
    }

    /// Publishes, and waits until the node says that it refused it for `reason`: in its report, and as an event.
    fn refused(&mut self, topic: &str, payload: &[u8], reason: Reason) {
        let before = self.times(topic, reason);
        let mut watcher = self.world.raw_publisher().unwrap();
        watcher.subscribe("deploybus/v1/node/pi-1/event").unwrap();
        self.bus.publish(topic, payload, true).unwrap();
        let refusal = self.world.wait_report("pi-1", &format!("refusal for {reason}"), |report| {
            let of =
                |r: &&schemas::report::Refusal| r.topic == topic && r.reason == reason && r.times > before;
            report.refusals.iter().find(of).cloned()
        });
        let refusal = refusal.unwrap();
        assert_eq!(refusal.attack, reason.is_attack());
        assert!(!refusal.text.is_empty());
        if refusal.times.is_power_of_two() {
            // That of the attack before may come after it was reported.
            let is_told = || {
                let (_, event, _) = watcher.next(Duration::from_secs(1)).ok()??;
                let event: serde_json::Value = serde_json::from_slice(&event).ok()?;
                (event["event_type"] == "refused" && event["reason"] == reason.code()).then_some(())
            };
            wait_until("the event of the refusal", Duration::from_secs(30), is_told).unwrap();
        }
        assert_eq!(self.world.node("pi-1").unwrap().serves().as_deref(), Some("1.0.0"), "{reason}");
    }

    fn times(&self, topic: &str, reason: Reason) -> u32 {
        let times = self.world.wait_report("pi-1", "any report", |report| {
            let of = |r: &&schemas::report::Refusal| r.topic == topic && r.reason == reason;
            Some(report.refusals.iter().find(of).map_or(0, |refusal| refusal.times))
        });
        times.unwrap()
    }
}

#[test]
fn documents_that_are_not_signed_as_they_must_be_are_refused() {
    let mut attack = Attack::prepare();
    let forge = |attack: &Attack, order: &Order, release: &Release, keys: [&SecretKey; 2]| {
        let release = Signed::seal(release, std::slice::from_ref(keys[1]));
        let order = Order { release: release.digest(), ..order.clone() };
        let _ = attack;
        Announcement { order: Signed::seal(&order, std::slice::from_ref(keys[0])), release, mandate: None }
            .to_bytes()
    };
    let (order, release) = (attack.order(), attack.release());
    let stranger = SecretKey::from_seed(&[7; 32]);
    let (ops, code) = (attack.forge.ops_key.clone(), attack.forge.release_key.clone());

    let by_stranger = forge(&attack, &order, &release, [&stranger, &stranger]);
    attack.refused(TOPIC, &by_stranger, Reason::BadSignature);
    let ops_key_ships_code = forge(&attack, &order, &release, [&ops, &ops]);
    attack.refused(TOPIC, &ops_key_ships_code, Reason::BadSignature);
    let release_key_orders = forge(&attack, &order, &release, [&code, &code]);
    attack.refused(TOPIC, &release_key_orders, Reason::BadSignature);

    let mut flipped = attack.genuine.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    attack.bus.publish(TOPIC, &flipped, true).unwrap();
    let half = attack.genuine[..middle].to_vec();
    attack.refused(TOPIC, &half, Reason::Malformed);
    attack.refused(TOPIC, &vec![0xa1; 80_000], Reason::TooLarge);
    let report = Signed::<Order>::seal(&order, &[ops]).to_bytes();
    attack.refused(TOPIC, &report, Reason::Malformed);
}

#[test]
fn documents_of_others_and_of_other_times_are_refused() {
    let mut attack = Attack::prepare();
    let (order, release) = (attack.order(), attack.release());
    let seal = |attack: &Attack, order: &Order, release: &Release| {
        attack.forge.announcement(order, release).to_bytes()
    };

    let mut of_others = order.clone();
    of_others.head.fleet = "others".parse().unwrap();
    let of_others = seal(&attack, &of_others, &release);
    attack.refused(TOPIC, &of_others, Reason::WrongFleet);

    let elsewhere = Order { group: "all".parse().unwrap(), ..order.clone() };
    let elsewhere = seal(&attack, &elsewhere, &release);
    attack.refused(TOPIC, &elsewhere, Reason::WrongTopic);

    let mut mixed = attack.forge.announcement(&order, &release);
    mixed.release = Signed::seal(
        &Release { notes: "other".into(), ..release.clone() },
        &[attack.forge.release_key.clone()],
    );
    attack.refused(TOPIC, &mixed.to_bytes(), Reason::WrongRelease);

    let old = Order { revision: Revision(1), ..order.clone() };
    let old = seal(&attack, &old, &release);
    attack.refused(TOPIC, &old, Reason::Replayed);

    let expired = Order { expires: UnixTime(now().0 - 86_400), ..order };
    let expired = seal(&attack, &expired, &release);
    attack.bus.publish(TOPIC, &expired, true).unwrap();
    let outcome = attack.world.wait_outcome("pi-1", "6.6.6").unwrap();
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Refused, Some(Reason::Expired)));
    assert_eq!(attack.world.node("pi-1").unwrap().serves().as_deref(), Some("1.0.0"));
}

#[test]
fn the_same_announcement_again_changes_nothing() {
    let mut attack = Attack::prepare();
    let outcomes = |attack: &Attack| {
        attack.world.wait_report("pi-1", "a report", |report| Some(report.apps[0].outcomes.len())).unwrap()
    };
    let before = outcomes(&attack);
    let genuine = attack.genuine.clone();
    attack.bus.publish(TOPIC, &genuine, true).unwrap();
    attack.bus.publish(TOPIC, &genuine, true).unwrap();
    // The refusal that follows shows that the two before it were read.
    attack.refused(TOPIC, b"end", Reason::Malformed);
    assert_eq!(outcomes(&attack), before);
}

#[test]
fn hostile_manifests_of_a_stolen_release_key_are_refused() {
    let manifests = [
        ("parent", vec![file("../evil")]),
        ("absolute", vec![file("/etc/evil")]),
        ("twice", vec![file("a"), file("a")]),
        ("below a file", vec![file("a"), file("a/b")]),
        ("link out", vec![codec::encode(&(1u8, "a", "../../etc/passwd"))]),
    ];
    let mut attack = Attack::prepare();
    for (at, (name, entries)) in manifests.iter().enumerate() {
        let manifest = manifest(entries);
        let tree = Digest::of(&manifest);
        store(&attack.world, &format!("manifests/{tree}"), &manifest);
        let release = Release {
            version: format!("hostile-{at}"),
            ..attack.forge.release(&app(), tree, manifest.len() as u64, 3)
        };
        let order = Order { revision: Revision(FUTURE.0 + at as u64), ..attack.order() };
        let announcement = attack.forge.announcement(&order, &release).to_bytes();
        attack.bus.publish(TOPIC, &announcement, true).unwrap();
        let outcome = attack.world.wait_outcome("pi-1", &release.version).unwrap();
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Failed, Some(Reason::BadManifest)),
            "{name}: {}",
            outcome.text
        );
    }
    assert_eq!(attack.world.node("pi-1").unwrap().serves().as_deref(), Some("1.0.0"));
}

#[test]
fn a_broker_that_swaps_or_lengthens_objects_is_found_out() {
    let (mut world, app) = World::serving().unwrap();
    for (version, evil) in [("1.1.0", "1.1.0 with a surprise\n"), ("1.1.1", "X.X.X\n")] {
        app.commit(version).unwrap();
        // The objects come to the store while the node is away; then the store is changed.
        world.node("pi-1").unwrap().kill().unwrap();
        world.announce_only(&app, "canary").unwrap();
        let digest = Digest::of(format!("{version}\n").as_bytes()).to_string();
        store(&world, &format!("objects/{}/{digest}", &digest[..2]), evil.as_bytes());
        world.node("pi-1").unwrap().start().unwrap();
        let outcome = world.wait_outcome("pi-1", version).unwrap();
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Failed, Some(Reason::DigestMismatch)),
            "{}",
            outcome.text
        );
        world.node("pi-1").unwrap().wait_serves("1.0.0").unwrap();
    }
}

/// Writes into the broker's store past all its checks, as its owner can.
fn store(world: &World, name: &str, plain: &[u8]) {
    let path = world.broker_data().join("store/v1").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, zstd::encode_all(plain, 3).unwrap()).unwrap();
}

/// A manifest with these entries, whatever they are.
fn manifest(entries: &[Vec<u8>]) -> Vec<u8> {
    let head = [0xa2, 1, 1, 2, 0x80 + u8::try_from(entries.len()).unwrap()];
    [&head[..], &entries.concat()].concat()
}

fn file(path: &str) -> Vec<u8> {
    codec::encode(&(0u8, path, 0o644u16, 3u64, Digest::of(b"abc")))
}

fn group() -> GroupId {
    "canary".parse().unwrap()
}

fn app() -> AppId {
    "web".parse().unwrap()
}
