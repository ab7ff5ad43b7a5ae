//! How what the bus retains is believed after a change of keys: announcements, and rollouts with the mandates of their controllers.

use rollout::{Belief, Fleet, Ordered, Wanted};
use schemas::{
    announcement::Announcement,
    rollout::Planned,
    root::{Role, Trust},
    seal::{RoleDocument, Signed},
    topic::{Kind, Topic},
};

use crate::home::roots::Change;

/// A change of keys.
pub(super) struct Again<'a> {
    pub(super) change: &'a Change,
    pub(super) old: &'a Trust,
}

/// A message that the bus retains, as it is to be.
pub(super) struct Retained {
    pub(super) topic: Topic,
    /// What people call it.
    pub(super) name: String,
    /// Nothing when it would not be believed any more.
    pub(super) payload: Option<Vec<u8>>,
}

impl Again<'_> {
    /// Everything that a change of release or ops keys concerns.
    pub(super) fn all(&self, fleet: &Fleet) -> Vec<Retained> {
        if self.change.roles().all(|role| role == Role::Root) {
            return Vec::new();
        }
        let id = fleet.trust().fleet();
        // Plans first: a controller that hears of one orders by its mandate from then on.
        let plans = fleet.rollouts().plans().values().filter_map(Belief::believed).map(|wanted| {
            let app = &wanted.plans.mandate.app;
            let (topic, name) = (Kind::Plan(app.clone()).of(id), format!("plan/{app}"));
            Retained { topic, name, payload: self.plan(wanted) }
        });
        let orders = fleet.believed_orders().map(|ordered| {
            let order = &ordered.announced.order;
            let topic = Kind::Release(order.group.clone(), order.app.clone()).of(id);
            Retained { topic, name: format!("{}/{}", order.group, order.app), payload: self.order(ordered) }
        });
        plans.chain(orders).collect()
    }

    /// The same announcement with the signatures of the new keys, if that makes it believed.
    fn order(&self, ordered: &Ordered) -> Option<Vec<u8>> {
        let mut announcement = ordered.announcement.clone();
        self.add_to(&mut announcement.release);
        match &mut announcement.mandate {
            // The order has the signature of a controller, by right of the mandate.
            Some(mandate) => self.add_to(mandate),
            None => self.add_to(&mut announcement.order),
        }
        let (bytes, order) = (announcement.to_bytes(), &ordered.announced.order);
        let is_believed = announcement.verify(&self.change.trust, &order.group, &order.app).is_ok();
        (is_believed && bytes.len() <= Announcement::MAX_BYTES).then_some(bytes)
    }

    fn plan(&self, wanted: &Wanted) -> Option<Vec<u8>> {
        let mut planned = wanted.planned.clone();
        self.add_to(&mut planned.rollout);
        self.add_to(&mut planned.mandate);
        self.add_to(&mut planned.release);
        let bytes = planned.to_bytes();
        let is_believed = planned.verify(&self.change.trust, &wanted.plans.mandate.app).is_ok();
        (is_believed && bytes.len() <= Planned::MAX_BYTES).then_some(bytes)
    }

    /// Nodes that do not know the new root yet believe it as well.
    fn add_to<T: RoleDocument>(&self, document: &mut Signed<T>) {
        let Some(keys) = self.change.signs_again(T::ROLE) else { return };
        let old = self.old.keys(T::ROLE).keys();
        document.retain_signatures(|id| old.iter().any(|key| key.id() == id));
        document.sign(keys);
    }
}

#[cfg(test)]
mod tests {
    use rollout::samples::{at, desk, look};

    use super::*;
    use crate::{
        home::roots::Wish,
        samples::{NOW, Sample, idle},
    };

    /// A fleet with a rollout that has begun.
    fn rolling(sample: &Sample) -> Fleet {
        let mut fleet = sample.fleet(&[("pi-1", Some(idle(1)))]);
        let planned = sample.planned("[[stage]]\ngroup = \"all\"", 1, |_| {});
        fleet.take(&Kind::Plan("web".parse().unwrap()).of(sample.trust.fleet()), &planned.to_bytes());
        let mut desk = desk(fleet);
        look(&mut desk, at(0));
        desk.fleet().clone()
    }

    fn change(sample: &Sample, role: Role, lost: bool) -> Change {
        let key = sample.home.make_next_key(role).unwrap();
        let wish = Wish { role, keys: vec![key.public()], threshold: 1, lost };
        let root = sample.home.next_root(&wish, std::slice::from_ref(&key), NOW).unwrap();
        sample.home.prepare(root, &[]).unwrap()
    }

    #[test]
    fn a_rollout_and_what_its_controller_ordered_outlive_a_change_of_keys() {
        for role in [Role::Ops, Role::Release] {
            let sample = Sample::new();
            let fleet = rolling(&sample);
            let change = change(&sample, role, false);
            let retained = Again { change: &change, old: &sample.home.trust }.all(&fleet);
            let names: Vec<_> = retained.iter().map(|retained| retained.name.as_str()).collect();
            assert_eq!(names, ["plan/web", "all/web"]);
            // Nodes that have heard of the new keys believe it, and so do those that have not.
            for trust in [&sample.home.trust, &change.trust] {
                let mut fleet = Fleet::new(trust.clone());
                for message in &retained {
                    fleet.take(&message.topic, message.payload.as_ref().unwrap());
                }
                assert!(fleet.rollouts().plan(&"web".parse().unwrap()).is_some());
                assert_eq!(fleet.believed_orders().count(), 1);
            }
        }
    }

    #[test]
    fn a_rollout_that_a_lost_key_may_have_signed_is_taken_off() {
        let sample = Sample::new();
        let fleet = rolling(&sample);
        let change = change(&sample, Role::Ops, true);
        let retained = Again { change: &change, old: &sample.home.trust }.all(&fleet);
        assert_eq!(retained.len(), 2);
        assert!(retained.iter().all(|message| message.payload.is_none()));
    }
}
