//! What the bus says of rollouts: what people want, what has become of it, who carries it out.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{
    id::{AppId, FleetId, KeyId, PublicKey, Revision},
    mandate::{MAX_CONTROLLERS, Mandate},
    rollout::{Controller, Course, Planned, Plans},
    root::Trust,
    seal::{Signed, Verified},
    time::UnixTime,
};

use crate::fleet::Belief;

/// Terms rise by a few in years: a higher one is somebody's who wants to be the last.
const MAX_TERM: u64 = 1 << 48;

/// What was said of rollouts, and what of it is believed.
#[derive(Debug, Clone, Default)]
pub struct Rollouts {
    plans: BTreeMap<AppId, Belief<Wanted>>,
    plan_bytes: BTreeMap<AppId, Vec<u8>>,
    /// Why something that came in the place of a plan that is believed is not: the plan stays, for anybody may write rubbish or
    /// nothing there.
    plan_doubts: BTreeMap<AppId, String>,
    courses: BTreeMap<AppId, Belief<Verified<Course>>>,
    /// As they came: a course may come before the plan that proves it.
    course_bytes: BTreeMap<AppId, Vec<u8>>,
    /// Apps of which the bus has an older course.
    stale: BTreeSet<AppId>,
    controllers: BTreeMap<KeyId, Verified<Controller>>,
}

/// A rollout that people want, as it came and as it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// As it came.
    pub planned: Planned,
    /// What it says.
    pub plans: Plans,
}

/// The lease of a rollout that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The controller that has it.
    pub key: PublicKey,
    /// The term.
    pub term: u64,
    /// Until when.
    pub until: UnixTime,
}

impl Rollouts {
    /// The rollouts that people want, by app.
    pub fn plans(&self) -> &BTreeMap<AppId, Belief<Wanted>> {
        &self.plans
    }

    /// The rollout of an app that people want, when it is believed.
    pub fn plan(&self, app: &AppId) -> Option<&Wanted> {
        self.plans.get(app)?.believed()
    }

    /// What has become of the rollout of an app that people want now.
    pub fn course(&self, app: &AppId) -> Option<&Verified<Course>> {
        self.courses.get(app)?.believed()
    }

    /// Why the plan of an app that came last is not believed.
    pub fn plan_disbelief(&self, app: &AppId) -> Option<&str> {
        match self.plans.get(app)? {
            Belief::NotBelieved(text) => Some(text),
            Belief::Believed(_) => self.plan_doubts.get(app).map(String::as_str),
        }
    }

    /// Whether the bus has an older course of an app than was seen before.
    pub fn is_course_stale(&self, app: &AppId) -> bool {
        self.stale.contains(app)
    }

    /// Why the plan or the course of an app is not believed.
    pub fn disbelief(&self, app: &AppId) -> Option<&str> {
        match (self.plans.get(app), self.courses.get(app)) {
            (Some(Belief::NotBelieved(text)), _) | (_, Some(Belief::NotBelieved(text))) => Some(text),
            _ => None,
        }
    }

    /// Who says, or has said, that it carries rollouts out.
    pub fn controllers(&self) -> &BTreeMap<KeyId, Verified<Controller>> {
        &self.controllers
    }

    /// The leases of the rollout of `app` that people want now, as those controllers say that it was given to. Anybody else's counts for
    /// nothing.
    pub fn leases(&self, app: &AppId) -> impl Iterator<Item = Held> {
        let mandate = self.plan(app).map(|wanted| &wanted.plans.mandate);
        self.controllers.values().filter_map(move |of| {
            let mandate = mandate?;
            let place = mandate.place(&of.key)?;
            let mut leases = of.leases.iter();
            let lease = leases.find(|lease| lease.app == mandate.app && lease.first == mandate.first)?;
            let is_its_own = lease.term < MAX_TERM && lease.term % MAX_CONTROLLERS as u64 == place as u64;
            is_its_own.then_some(Held { key: of.key, term: lease.term, until: of.until })
        })
    }

    /// The one that counts: it has the highest term.
    pub fn lease(&self, app: &AppId) -> Option<Held> {
        self.leases(app).max_by_key(|held| held.term)
    }

    /// The highest term that was ever used for the rollout of `app` that people want now, as far as the bus says.
    pub fn term(&self, app: &AppId) -> u64 {
        let of_course = self.course(app).map(|course| course.term);
        self.lease(app).map(|held| held.term).max(of_course).unwrap_or_default()
    }

    /// The highest revision that is set aside for a controller.
    pub(crate) fn highest_revision(&self) -> Option<Revision> {
        self.plans.values().filter_map(Belief::believed).map(|wanted| wanted.plans.mandate.last).max()
    }

    pub(crate) fn take_plan(&mut self, app: &AppId, payload: &[u8], trust: &Trust) {
        let judged = match payload {
            [] => Belief::NotBelieved("somebody has cleared it".to_owned()),
            payload => judge_plan(payload, trust, app),
        };
        match (self.plan(app), &judged) {
            (Some(known), Belief::Believed(new)) if !new.plans.may_replace(&known.plans) => return,
            (Some(_), Belief::NotBelieved(text)) => {
                self.plan_doubts.insert(app.clone(), text.clone());
                return;
            }
            (None, _) if payload.is_empty() => {
                self.plans.remove(app);
                self.plan_bytes.remove(app);
            }
            _ => {
                self.plan_doubts.remove(app);
                self.plan_bytes.insert(app.clone(), payload.to_vec());
                self.plans.insert(app.clone(), judged);
            }
        }
        self.judge_course(app, trust.fleet());
    }

    pub(crate) fn take_course(&mut self, app: &AppId, payload: &[u8], fleet: &FleetId) {
        if payload.is_empty() {
            if self.course(app).is_some() {
                // Whoever cleared it is not its controller, which puts it there again.
                self.stale.insert(app.clone());
            }
        } else {
            self.course_bytes.insert(app.clone(), payload.to_vec());
            self.judge_course(app, fleet);
        }
    }

    pub(crate) fn take_controller(&mut self, key: KeyId, payload: &[u8], fleet: &FleetId) {
        let controller =
            Signed::<Controller>::from_bytes(payload).and_then(|signed| signed.verify_own(fleet));
        // Rubbish or nothing in its place says nothing of it.
        if let Some(controller) = controller.ok().filter(|controller| controller.key.id() == key) {
            self.controllers.insert(key, controller);
        }
    }

    /// By other keys.
    pub(crate) fn judge_again(&mut self, trust: &Trust) {
        for (app, bytes) in &self.plan_bytes {
            self.plans.insert(app.clone(), judge_plan(bytes, trust, app));
        }
        let apps: Vec<AppId> = self.course_bytes.keys().cloned().collect();
        for app in &apps {
            self.judge_course(app, trust.fleet());
        }
    }

    fn judge_course(&mut self, app: &AppId, fleet: &FleetId) {
        let Some(bytes) = self.course_bytes.get(app) else { return };
        let judged = match self.plan(app) {
            None => Belief::NotBelieved("no plan says which controller signs it".to_owned()),
            Some(wanted) => judge_course(bytes, &wanted.plans.mandate, fleet),
        };
        if let (Some(known), Belief::Believed(new)) = (self.course(app), &judged)
            && known.first == new.first
            && (known.term, known.seq) > (new.term, new.seq)
        {
            self.stale.insert(app.clone());
            return;
        }
        let first = self.plan(app).map(|wanted| wanted.plans.mandate.first);
        if matches!(judged, Belief::NotBelieved(_))
            && self.course(app).map(|known| known.first) == first
            && first.is_some()
        {
            self.stale.insert(app.clone());
            return;
        }
        self.stale.remove(app);
        self.courses.insert(app.clone(), judged);
    }
}

fn judge_plan(bytes: &[u8], trust: &Trust, app: &AppId) -> Belief<Wanted> {
    let judged = Planned::from_bytes(bytes)
        .and_then(|planned| planned.verify(trust, app).map(|plans| Wanted { planned, plans }));
    match judged {
        Ok(wanted) => Belief::Believed(wanted),
        Err(error) => Belief::NotBelieved(error.to_string()),
    }
}

fn judge_course(bytes: &[u8], mandate: &Mandate, fleet: &FleetId) -> Belief<Verified<Course>> {
    match Signed::<Course>::from_bytes(bytes).and_then(|signed| mandate.open(&signed, fleet)) {
        Ok(course) if course.first != mandate.first || course.app != mandate.app => {
            Belief::NotBelieved("it is about an earlier rollout".to_owned())
        }
        Ok(course) if course.term >= MAX_TERM => {
            Belief::NotBelieved(format!("its term {} cannot have come to pass", course.term))
        }
        Ok(course) => Belief::Believed(course),
        Err(error) => Belief::NotBelieved(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use schemas::{rollout::Wish, topic::Kind};

    use super::*;
    use crate::{Fleet, samples::Sample};

    const PLAN: &str = "[[stage]]\ngroup = \"all\"";

    /// A fleet that believes a rollout that somebody has paused.
    fn paused() -> (Sample, Fleet, AppId) {
        let sample = Sample::new();
        let (mut fleet, app) = (sample.empty_fleet(), "web".parse().unwrap());
        let planned = sample.planned(PLAN, 2, |rollout| rollout.wish = Wish::Pause);
        fleet.take(&Kind::Plan("web".parse().unwrap()).of(sample.trust.fleet()), &planned.to_bytes());
        (sample, fleet, app)
    }

    #[test]
    fn what_people_want_stays_when_rubbish_nothing_or_an_older_wish_comes_in_its_place() {
        let (sample, mut fleet, app) = paused();
        let topic = Kind::Plan(app.clone()).of(sample.trust.fleet());
        let older = sample.planned(PLAN, 1, |_| {}).to_bytes();
        for payload in [&b"rubbish"[..], b"", &older] {
            fleet.take(&topic, payload);
            assert_eq!(fleet.rollouts().plan(&app).unwrap().plans.rollout.wish, Wish::Pause);
        }
        assert_eq!(fleet.rollouts().plan_disbelief(&app), Some("somebody has cleared it"));
        let later = sample.planned(PLAN, 3, |_| {}).to_bytes();
        fleet.take(&topic, &later);
        assert_eq!(fleet.rollouts().plan(&app).unwrap().plans.rollout.wish, Wish::Run);
        assert_eq!(fleet.rollouts().plan_disbelief(&app), None);
    }

    #[test]
    fn a_wish_does_not_alter_the_plan_of_a_rollout() {
        let (sample, mut fleet, app) = paused();
        let other = format!("{PLAN}\nwaves = [\"1\"]");
        let altered = sample.planned(&other, 3, |_| {}).to_bytes();
        fleet.take(&Kind::Plan(app.clone()).of(sample.trust.fleet()), &altered);
        assert_eq!(fleet.rollouts().plan(&app).unwrap().plans.rollout.wish, Wish::Pause);
    }
}
