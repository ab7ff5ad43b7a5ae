//! How a rollout begins, and how a controller that was started again takes it up.

use std::collections::BTreeSet;

use schemas::{
    codec,
    id::{Digest, GroupId, NodeId, Revision, Seq},
    order::Order,
    rollout::{Course, CourseState, CourseWave, Pause, PauseReason, Planned, Plans, Standing, WaveState},
    seal::{Document as _, Head, Signed},
    time::UnixTime,
};

use super::{Changed, Conductor, Dirt, Given, NodeState, Now, Seat, Subject};
use crate::{
    Fleet, MilestoneKind, Node,
    plan::{MAX_NAMED, Plan, Wave, lay_out, members},
};

/// So many numbers are left out when another controller takes over. Whoever is cut off may give as many orders until it notices.
const TERM_GAP: u64 = 100;
/// So much of a course an order takes beside the nodes that it names.
const ORDER_BYTES: usize = 1024;

impl Conductor {
    /// A rollout that nobody has begun, unless the bus says that it was, or what would have to be remembered of it is more than one
    /// message holds.
    pub(crate) fn begin(planned: &Planned, plans: Plans, fleet: &Fleet, term: u64, now: Now) -> Self {
        let mut conductor = Self::lay_out(planned, plans, fleet, term, now);
        if fleet.believed_orders().any(|there| conductor.is_of_mandate(there)) {
            conductor.doubt("its course is not on the bus any more: waves were laid out anew", now);
        }
        if codec::encode(&conductor.course()).len() + conductor.room_for_orders() > Course::MAX_BYTES {
            let nodes = conductor.seats.len();
            let text = format!("{nodes} nodes are too many for one rollout: plan it for smaller groups");
            conductor.decline(text, now);
        }
        conductor
    }

    /// So much of its course may be orders, one for each group, by and by.
    fn room_for_orders(&self) -> usize {
        let of_group = |group: &GroupId| {
            let named = self.seats.iter().filter(|seat| self.group_of(seat.wave) == Some(group));
            // With up to two bytes for its length.
            let mut names: Vec<usize> = named.map(|seat| seat.node.as_str().len() + 2).collect();
            names.sort_unstable_by_key(|bytes| std::cmp::Reverse(*bytes));
            ORDER_BYTES + names.iter().take(MAX_NAMED).sum::<usize>()
        };
        self.mandate.groups.iter().map(of_group).sum()
    }

    /// Its waves are laid out over the fleet as it is, however large it is.
    pub fn lay_out(planned: &Planned, plans: Plans, fleet: &Fleet, term: u64, now: Now) -> Self {
        let (plan, waves, state) = match lay(&plans, fleet) {
            Ok((plan, waves)) => (plan, waves, CourseState::Scheduled),
            Err(text) => {
                let cause = Pause { why: PauseReason::Plan, text, at: now.wall };
                let state = CourseState::Aborted { cause, reverted: false };
                (Plan::nothing(&plans.mandate.app), Vec::new(), state)
            }
        };
        let course = Course {
            head: Head::new(plans.mandate.head.fleet.clone(), now.wall),
            app: plans.mandate.app.clone(),
            first: plans.mandate.first,
            seq: Seq(0),
            term,
            heeded: Seq(0),
            heeded_rollout: Digest([0; 32]),
            state,
            revision: Revision(plans.mandate.first.0.saturating_sub(1)),
            waves: waves.into_iter().map(|wave| closed(wave, now.wall)).collect(),
            orders: Vec::new(),
            started_at: UnixTime(0),
        };
        let mut conductor = Self::new(planned, plans, plan, course, fleet, now);
        conductor.changed = Dirt::Hard;
        if let CourseState::Aborted { cause, .. } = &conductor.course.state {
            let text = cause.text.clone();
            conductor.tell(MilestoneKind::Aborted, text);
        }
        conductor
    }

    /// Ends a rollout that cannot be carried out here.
    fn decline(&mut self, text: String, now: Now) {
        self.course.waves.clear();
        self.seats.clear();
        self.index.clear();
        if !self.course.state.is_over() {
            let cause = Pause { why: PauseReason::Plan, text: text.clone(), at: now.wall };
            self.becomes(CourseState::Aborted { cause, reverted: false });
            self.tell(MilestoneKind::Aborted, text);
        }
    }

    /// Nobody knows any more what had become of it: people decide.
    fn doubt(&mut self, text: &str, now: Now) {
        if self.course.state.is_over() {
            return;
        }
        let cause = Pause { why: PauseReason::Unknown, text: text.to_owned(), at: now.wall };
        (self.course.heeded, self.course.heeded_rollout) = (self.rollout.seq, self.rollout.digest());
        if self.course.started_at.0 == 0 {
            self.course.started_at = now.wall;
        }
        self.pause(cause);
    }

    /// A rollout that goes on where `course` says that it was.
    pub(crate) fn resume(
        planned: &Planned,
        plans: Plans,
        course: &Course,
        fleet: &Fleet,
        term: u64,
        now: Now,
    ) -> Self {
        let mut conductor = Self::restore(planned, plans, course, fleet, now);
        if conductor.is_behind(fleet) {
            conductor.doubt("orders of it are on the bus that its course knows nothing of", now);
        }
        if conductor.course.term != term {
            conductor.begin_term(term);
        }
        conductor
    }

    /// What a controller of an earlier term has on its way is to come too late: its numbers are lower than all that follow.
    fn begin_term(&mut self, term: u64) {
        self.course.term = term;
        self.changed = Dirt::Hard;
        if !self.course.state.is_over() {
            let revision = self.course.revision.0.saturating_add(TERM_GAP);
            self.course.revision = Revision(revision.min(self.mandate.last.0));
            self.orders.values_mut().for_each(|given| given.is_of_earlier_term = true);
        }
    }

    /// Whether orders of this rollout were given that its course knows nothing of: it is published before them, so this one is old.
    fn is_behind(&self, fleet: &Fleet) -> bool {
        let of_mandate = fleet.believed_orders().filter(|there| self.is_of_mandate(there));
        of_mandate.map(|there| there.announced.order.revision).max() > Some(self.course.revision)
    }

    /// The rollout as `course` says that it stands, with its nodes as they are: to be shown, not to be carried out.
    pub fn view(planned: &Planned, plans: Plans, course: &Course, fleet: &Fleet, now: Now) -> Self {
        let mut conductor = Self::restore(planned, plans, course, fleet, now);
        conductor.look(fleet, Changed::All, now);
        conductor
    }

    fn restore(planned: &Planned, plans: Plans, course: &Course, fleet: &Fleet, now: Now) -> Self {
        let plan = Plan::parse(&plans.rollout.plan).unwrap_or_else(|_| Plan::nothing(&plans.mandate.app));
        let misfit = misfit(course, &plan);
        let mut conductor = Self::new(planned, plans, plan, course.clone(), fleet, now);
        if let Some(text) = misfit {
            conductor.decline(format!("this controller cannot read how it stands: {text}"), now);
        }
        conductor
    }

    fn new(planned: &Planned, plans: Plans, plan: Plan, mut course: Course, fleet: &Fleet, now: Now) -> Self {
        let Plans { rollout, mandate, release } = plans;
        let open = |signed: &Signed<Order>| {
            let order = mandate.verify(signed, &mandate.head.fleet).ok()?;
            let given = Given { order, signed: signed.clone(), at_ms: 0, is_of_earlier_term: false };
            Some((given.order.group.clone(), given))
        };
        let orders = course.orders.iter().filter_map(open).collect();
        let seats = seats(&mut course, fleet, now);
        let index = seats.iter().enumerate().map(|(at, seat)| (seat.node.clone(), at)).collect();
        // What nobody has watched does not count, whatever clocks say of it.
        let open = course.waves.iter().rfind(|wave| wave.state != WaveState::Closed);
        let open = open.filter(|_| course.state == CourseState::Running);
        let watched_ms = open.map_or(0, |wave| wave.watched_secs.saturating_mul(1_000));
        let mut conductor = Self {
            planned: planned.clone(),
            version: release.version.clone(),
            subject: Subject::new(&mandate, &release),
            rollout,
            mandate,
            plan,
            course,
            seats,
            index,
            orders,
            wave_since_ms: now.mono_ms.saturating_sub(watched_ms),
            published_ms: 0,
            changed: Dirt::None,
            looks_at_all: true,
            has_told_used_up: false,
            deeds: Vec::new(),
            #[cfg(test)]
            arrows: Vec::new(),
        };
        conductor.restore_offers();
        conductor
    }
}

/// The plan and its waves, or why there are none.
fn lay(plans: &Plans, fleet: &Fleet) -> Result<(Plan, Vec<Wave>), String> {
    let plan = Plan::parse(&plans.rollout.plan).map_err(|error| error.to_string())?;
    if plan.app != plans.mandate.app {
        return Err(format!("the plan is for {}", plan.app));
    }
    if let Some(group) = plan.groups().iter().find(|group| !plans.mandate.groups.contains(group)) {
        return Err(format!("the mandate does not name group {group}"));
    }
    let waves = lay_out(&plan, &members(fleet), plans.release.counter);
    if waves.is_empty() {
        return Err("nobody is in its groups".to_owned());
    }
    Ok((plan, waves))
}

/// What of a course has no place in the plan that it is to be about.
fn misfit(course: &Course, plan: &Plan) -> Option<String> {
    let stages = plan.stages.len();
    let mut seen = BTreeSet::new();
    for (at, wave) in course.waves.iter().enumerate() {
        if wave.stage as usize >= stages {
            return Some(format!("wave {} is of stage {}, and its plan has {stages}", at + 1, wave.stage));
        }
        if let Some((node, _)) = wave.seats.iter().find(|(node, _)| !seen.insert(node)) {
            return Some(format!("{node} is in two waves"));
        }
    }
    match course.state {
        CourseState::Reverting { wave, .. } if wave as usize >= course.waves.len() => {
            Some(format!("wave {wave} goes back, and there are {}", course.waves.len()))
        }
        _ => None,
    }
}

fn closed(wave: Wave, now: UnixTime) -> CourseWave {
    CourseWave {
        stage: u32::try_from(wave.stage).unwrap_or(u32::MAX),
        state: WaveState::Closed,
        since: now,
        watched_secs: 0,
        seats: wave.nodes.into_iter().map(|node| (node, Standing::None)).collect(),
        audience: wave.audience,
    }
}

/// Takes the seats out of a course.
fn seats(course: &mut Course, fleet: &Fleet, now: Now) -> Vec<Seat> {
    let site = |node: &NodeId| {
        let record = fleet.nodes().get(node).and_then(Node::record)?;
        record.labels.get("site").cloned()
    };
    let mut seats = Vec::new();
    for (wave, of) in course.waves.iter_mut().enumerate() {
        let is_open = of.state != WaveState::Closed;
        for (node, standing) in std::mem::take(&mut of.seats) {
            // Who had begun had the order; of the others the last order says it.
            let offered = is_open && standing != Standing::None;
            let (state, since_ms, site) = (NodeState::Waiting, now.mono_ms, site(&node));
            seats.push(Seat { node, wave, standing, state, since_ms, offered, site });
        }
    }
    seats
}

#[cfg(test)]
mod tests {
    use schemas::{
        report::{Outcome, Verdict},
        topic::Kind,
    };

    use super::*;
    use crate::{
        Deed,
        samples::{NOW, Sample, at, controller_key, ended, idle, node, outcome},
    };

    #[test]
    fn a_plan_of_many_groups_is_not_too_large_by_itself() {
        let sample = Sample::new();
        let fleet = sample.fleet(&[("pi-1", Some(idle(1)))]);
        let groups = ["all", "g1", "g2", "g3", "g4", "g5", "g6", "g7"];
        let plan = groups.map(|group| format!("[[stage]]\ngroup = \"{group}\"\n")).concat();
        let planned = sample.planned(&plan, 1, |_| {});
        let plans = planned.verify(&sample.trust, &"web".parse().unwrap()).unwrap();
        let conductor = Conductor::begin(&planned, plans, &fleet, 1, at(0));
        assert_eq!(*conductor.state(), CourseState::Scheduled);
    }

    #[test]
    fn a_view_shows_nodes_as_they_are_and_not_as_the_course_remembers_them() {
        let sample = Sample::new();
        let mut fleet = sample.fleet(&[("pi-1", Some(idle(1)))]);
        let planned = sample.planned("[[stage]]\ngroup = \"all\"", 1, |_| {});
        let app = "web".parse().unwrap();
        let plans = || planned.verify(&sample.trust, &app).unwrap();
        fleet.take(&Kind::Plan(app.clone()).of(sample.trust.fleet()), &planned.to_bytes());
        let now = at(0);
        let mut conductor = Conductor::begin(&planned, plans(), &fleet, 1, now);
        for deed in conductor.step(&fleet, Changed::All, now, &controller_key()) {
            if let Deed::Publish(topic, payload) = deed {
                fleet.take(&topic, &payload);
            }
        }
        let view = |fleet: &Fleet| {
            let course = fleet.rollouts().course(&app).unwrap().clone();
            let later = Now { wall: NOW.plus_secs(86_400), ..now };
            let view = Conductor::view(&planned, plans(), &course, fleet, later);
            (view.seat(&node("pi-1")).unwrap().1.name(), view.course())
        };
        let remembered = conductor.course();
        assert_eq!(view(&fleet), ("offered", remembered.clone()), "nobody gives a node up by looking at it");
        let kept = Outcome { release: planned.release.digest(), ..outcome(100, Verdict::Kept) };
        sample.says(&mut fleet, "pi-1", 2, Some(ended(kept)));
        let (state, course) = view(&fleet);
        assert_eq!((state, &course.state, course.seq), ("good", &CourseState::Running, remembered.seq));
    }
}
