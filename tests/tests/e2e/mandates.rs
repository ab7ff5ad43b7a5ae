//! The key of the broker's controller in wrong hands: what it can, within a mandate, and what it cannot.

use std::{fs, time::Duration};

use e2e::{Mqtt, World, now, wait_until};
use schemas::{
    announcement::Announcement,
    id::Revision,
    mandate::Mandate,
    order::{Audience, Order, OrderState},
    reason::Reason,
    seal::{SecretKey, Signed, Verified},
};

const RELEASE: &str = "deploybus/v1/release/canary/web";
const QUIET: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_mins(1);

/// What a thief of the controller's key has while a rollout goes on: the key, and what the bus shows everybody.
struct Thief {
    key: SecretKey,
    bus: Mqtt,
    shown: Announcement,
    mandate: Verified<Mandate>,
    order: Verified<Order>,
}

impl Thief {
    fn of(world: &World) -> Self {
        let seed = fs::read(world.broker_data().join("controller.key")).unwrap();
        let key = SecretKey::from_seed(seed.as_slice().try_into().unwrap());
        let (mut bus, trust) = (world.raw_publisher().unwrap(), world.forge().unwrap().trust);
        let bytes = bus.retained(RELEASE, QUIET).unwrap().remove(RELEASE).unwrap();
        let shown = Announcement::from_bytes(&bytes).unwrap();
        let announced = shown.verify(&trust, &"canary".parse().unwrap(), &"web".parse().unwrap()).unwrap();
        Self { key, bus, shown, mandate: announced.mandate.unwrap(), order: announced.order }
    }

    /// Publishes the present order with a change, signed by the stolen key, with the mandate that is there.
    fn orders(&mut self, change: impl FnOnce(&mut Order)) {
        let mut order = (*self.order).clone();
        order.revision = Revision(order.revision.0 + 50);
        change(&mut order);
        let order = Signed::seal(&order, std::slice::from_ref(&self.key));
        self.bus.publish(RELEASE, &Announcement { order, ..self.shown.clone() }.to_bytes(), true).unwrap();
    }
}

fn wait_refused(world: &World, reason: Reason, text: &str) {
    world
        .wait_report("pi-1", &format!("a refusal for {reason} {text}"), |report| {
            let mut refusals = report.refusals.iter();
            refusals.any(|refusal| refusal.reason == reason && refusal.text.contains(text)).then_some(())
        })
        .unwrap();
}

#[test]
fn who_has_the_controllers_key_stays_within_the_mandate_of_a_running_rollout() {
    let (mut world, app) = World::serving().unwrap();
    world.add_node("pi-2", &["canary"]).unwrap();
    world.wait_outcome("pi-2", "1.0.0").unwrap();
    let before = {
        let mut bus = world.raw_publisher().unwrap();
        Announcement::from_bytes(&bus.retained(RELEASE, QUIET).unwrap()[RELEASE]).unwrap()
    };
    app.commit("1.1.0").unwrap();
    let plan = world.folder().join("plan.toml");
    let stage = "[[stage]]\ngroup = \"canary\"\nwaves = [\"1\", \"100%\"]\nsoak = \"1h\"\n";
    fs::write(&plan, format!("app = \"web\"\n{stage}")).unwrap();
    let folder = app.folder().display().to_string();
    let start = ["rollout", "start", &folder, "--plan", plan.to_str().unwrap(), "--yes", "--detach"];
    world.publisher(&start).unwrap().expect(0).unwrap();
    let served = |world: &World| world.nodes().filter(|n| n.serves().as_deref() == Some("1.1.0")).count();
    wait_until("a canary with 1.1.0", PATIENCE, || (served(&world) == 1).then_some(())).unwrap();

    let mut thief = Thief::of(&world);
    let last = thief.mandate.last;
    // Another release, though it was validly signed once.
    let (old, older) = (before.release.digest(), before.release.clone());
    let shown = std::mem::replace(&mut thief.shown.release, older);
    thief.orders(|order| order.release = old);
    wait_refused(&world, Reason::BeyondMandate, "another release");
    thief.shown.release = shown;
    // A number above those of the rollout, which no order of a person could overtake.
    thief.orders(|order| order.revision = Revision(last.0 + 1));
    wait_refused(&world, Reason::BeyondMandate, "a revision outside its range");
    // For longer than ops has said.
    thief.orders(|order| order.expires = order.expires.plus_secs(1));
    wait_refused(&world, Reason::BeyondMandate, "it lasts longer");
    // With a mandate of its own making.
    let genuine = thief.shown.mandate.clone();
    let forged = Mandate { expires: now().plus_secs(1_000_000_000), ..(*thief.mandate).clone() };
    thief.shown.mandate = Some(Signed::seal(&forged, std::slice::from_ref(&thief.key)));
    thief.orders(|_| {});
    wait_refused(&world, Reason::BadSignature, "mandate");
    thief.shown.mandate = genuine;
    assert_eq!(served(&world), 1, "the second wave has not opened");

    // What it can: open the next wave of this rollout before its time.
    thief.orders(|order| order.audience = Audience::All);
    wait_until("both nodes with 1.1.0", PATIENCE, || (served(&world) == 2).then_some(())).unwrap();

    // And no longer than until a person orders something else.
    app.commit("1.2.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, Some(0));
    thief.orders(|order| order.state = OrderState::Withdrawn { revert: true });
    wait_refused(&world, Reason::Replayed, "");
    for node in world.nodes() {
        assert_eq!(node.serves().as_deref(), Some("1.2.0"), "{}", node.name());
    }
}
