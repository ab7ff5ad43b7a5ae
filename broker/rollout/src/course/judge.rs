//! What a wave comes to, and when a rollout stops: from counts alone.

use std::time::Duration;

use super::state::Weight;
use crate::plan::{Percent, Stage};

/// The first wave is well when all are that are there; of later ones nine in ten are enough.
const SUCCESS: [u8; 2] = [100, 90];

/// How many nodes of a wave are how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub total: usize,
    /// Nothing is known yet.
    pub pending: usize,
    /// Well with the release.
    pub good: usize,
    /// Not well with it.
    pub failures: usize,
    /// Away, and not begun.
    pub excused: usize,
    /// Nothing is expected of them.
    pub skipped: usize,
    /// Not well with it, as somebody knows.
    pub acknowledged: usize,
}

/// What a wave comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Not all is known.
    Wait,
    /// It is well.
    Well,
    /// Too few are well.
    TooFew,
    /// Nothing is known, and will not be.
    Inconclusive,
}

impl Tally {
    /// Counts one node more.
    pub fn add(&mut self, weight: Weight) {
        self.total += 1;
        match weight {
            Weight::Pending => self.pending += 1,
            Weight::Good => self.good += 1,
            Weight::Failure => self.failures += 1,
            Weight::Excused => self.excused += 1,
            Weight::Skipped => self.skipped += 1,
        }
    }

    /// Nodes that said how it ended.
    pub fn reports(&self) -> usize {
        self.good + self.failures
    }
}

/// What a wave comes to that has been open for `waited`.
pub fn judge(tally: &Tally, stage: &Stage, is_first: bool, waited: Duration) -> Judgement {
    let usual = Percent::new(SUCCESS[usize::from(!is_first)]).unwrap_or(Percent::ALL);
    match tally {
        Tally { pending: 1.., .. } => Judgement::Wait,
        // Somebody has looked at it, and wants it to go on.
        Tally { good: 0, failures: 0, excused: 0, acknowledged: 1.., .. } => Judgement::Well,
        // Whom it is not for teaches nothing, however long one waits.
        Tally { good: 0, failures: 0, excused: 0, .. } => Judgement::Inconclusive,
        Tally { good: 0, failures: 0, .. } if waited < stage.deadline => Judgement::Wait,
        Tally { good: 0, failures: 0, .. } => Judgement::Inconclusive,
        Tally { good: 0, .. } => Judgement::TooFew,
        _ if stage.success.unwrap_or(usual).is_reached_by(tally.good, tally.reports()) => Judgement::Well,
        _ => Judgement::TooFew,
    }
}

/// Why a rollout stops in the middle of a stage whose nodes, in all of its open waves, are so far. The share is of those that
/// reported: of all targets it would never be reached while most of them are away.
pub fn stops(tally: &Tally, stage: &Stage) -> Option<String> {
    let Tally { failures, .. } = *tally;
    let reports = tally.reports();
    if let Some(limit) = stage.failure_limit()
        && failures >= limit as usize
    {
        return Some(format!("{}, it stops at {limit}", failed(failures)));
    }
    let rate = stage.max_failure_rate?;
    let is_enough = reports >= stage.min_reports.get() as usize;
    (is_enough && rate.is_exceeded_by(failures, reports))
        .then(|| format!("{} of {reports} that reported, more than {rate}", failed(failures)))
}

fn failed(failures: usize) -> String {
    if failures == 1 { "1 node failed".to_owned() } else { format!("{failures} nodes failed") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn stage(rules: &str) -> Stage {
        let plan = Plan::parse(&format!("app = \"web\"\n[[stage]]\ngroup = \"all\"\n{rules}")).unwrap();
        plan.stages.into_iter().next().unwrap()
    }

    fn tally(good: usize, failures: usize, excused: usize, pending: usize) -> Tally {
        let total = good + failures + excused + pending;
        Tally { total, pending, good, failures, excused, ..Tally::default() }
    }

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn hundred_nodes_ten_online_all_ten_fail_and_it_stops() {
        let stage = stage("max_failure_rate = \"30%\"");
        assert_eq!(stops(&tally(0, 2, 90, 8), &stage), None, "too few have said anything");
        let text = stops(&tally(0, 3, 90, 7), &stage).unwrap();
        assert_eq!(text, "3 nodes failed of 3 that reported, more than 30%");
        assert!(stops(&tally(0, 10, 90, 0), &stage).is_some());
    }

    #[test]
    fn without_a_rule_the_first_failure_stops_it() {
        assert_eq!(stops(&tally(50, 1, 0, 3), &stage("")).unwrap(), "1 node failed, it stops at 1");
        assert_eq!(stops(&tally(50, 0, 0, 3), &stage("")), None);
        assert_eq!(stops(&tally(50, 5, 0, 0), &stage("max_failure_rate = \"10%\"")), None);
        assert!(stops(&tally(2, 2, 0, 0), &stage("max_failures = 2\nmax_failure_rate = \"99%\"")).is_some());
    }

    #[test]
    fn a_wave_is_well_when_all_is_known_and_enough_are_well() {
        let (first, later) = (|t| judge(&t, &stage(""), true, HOUR), |t| judge(&t, &stage(""), false, HOUR));
        assert_eq!(first(tally(1, 0, 0, 0)), Judgement::Well);
        assert_eq!(first(tally(1, 0, 0, 1)), Judgement::Wait);
        assert_eq!(first(tally(1, 0, 5, 0)), Judgement::Well);
        assert_eq!(first(tally(9, 1, 0, 0)), Judgement::TooFew);
        assert_eq!(later(tally(9, 1, 0, 0)), Judgement::Well);
        assert_eq!(later(tally(8, 1, 0, 0)), Judgement::TooFew);
        assert_eq!(judge(&tally(1, 1, 0, 0), &stage("success = \"50%\""), true, HOUR), Judgement::Well);
    }

    #[test]
    fn no_news_is_never_good_news() {
        let stage = stage("deadline = \"10m\"");
        let at = |minutes| judge(&tally(0, 0, 2, 0), &stage, true, Duration::from_mins(minutes));
        assert_eq!((at(9), at(10)), (Judgement::Wait, Judgement::Inconclusive));
        assert_eq!(judge(&tally(0, 2, 0, 0), &stage, false, Duration::ZERO), Judgement::TooFew);
        let not_for_them = Tally { skipped: 2, ..tally(0, 0, 0, 0) };
        assert_eq!(judge(&not_for_them, &stage, true, Duration::ZERO), Judgement::Inconclusive);
        let known = Tally { acknowledged: 2, ..tally(0, 0, 0, 0) };
        assert_eq!(judge(&known, &stage, true, Duration::ZERO), Judgement::Well);
    }
}
