//! What a rollout is to be: stages, one after the other, each with waves that grow.
//!
//! ```toml
//! app = "greenhouse"
//! on_failure = "pause"            # or "revert"
//! [[stage]]
//! group = "canary"
//! soak = "10m"
//! max_failures = 1
//! [[stage]]
//! group = "all"
//! waves = ["10%", "50%", "100%"]  # so much of the stage is to have it then; "3" = three nodes
//! soak = "2m"
//! max_failure_rate = "10%"        # of those that reported, from min_reports on
//! max_parallel = 20
//! ```

mod forecast;
mod share;
mod waves;

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use schemas::id::{AppId, GroupId};
use serde::{Deserialize, Serialize};

pub use self::{
    forecast::{BAD_SHARE, ForecastWave, forecast, members},
    share::{InvalidPercent, InvalidShare, Percent, Share},
    waves::{MAX_NAMED, Member, Wave, lay_out},
};

/// A plan has at most so many stages, and a stage so many waves: far more than anybody can follow.
const MAX_STEPS: usize = 50;

/// What a rollout is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The app.
    pub app: AppId,
    /// What happens to those that have the release when it stops by failures.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// So many nodes install at the same time, in all stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<NonZeroU32>,
    /// So many nodes with the same label `site`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel_per_site: Option<NonZeroU32>,
    /// One after the other.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
}

/// What happens when a rollout stops by failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nodes that have the release keep it; people decide.
    #[default]
    Pause,
    /// They go back to what they ran before.
    Revert,
}

/// A group of nodes, in waves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Whose nodes it is about, but for those of earlier stages.
    pub group: GroupId,
    /// How much of the stage has the release after each wave.
    #[serde(default = "all_at_once")]
    pub waves: Vec<Share>,
    /// How long the nodes of a wave must be well before the next one opens.
    #[serde(default, with = "span")]
    pub soak: Duration,
    /// It stops at so many failures; at the first one when neither this nor `max_failure_rate` is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<NonZeroU32>,
    /// It stops when more than this share of those that reported failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failure_rate: Option<Percent>,
    /// From so many reports on.
    #[serde(default = "three")]
    pub min_reports: NonZeroU32,
    /// So much of a wave must be well, of those that are there: 100 % of the first wave and 90 % of the others when it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<Percent>,
    /// So many nodes install at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<NonZeroU32>,
    /// So long a wave waits for nodes that are not there; when none was well by then, it stops as inconclusive.
    #[serde(default = "an_hour", with = "span")]
    pub deadline: Duration,
    /// It does not open before somebody approves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approval: bool,
}

/// How long something lasts, as people write it.
mod span {
    use std::time::Duration;

    use serde::{Deserializer, de::Error as _};

    pub(super) use humantime_serde::serialize;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let how = |_| D::Error::custom("a time is written with its unit, like \"30s\", \"10m\" or \"2h\"");
        humantime_serde::deserialize(deserializer).map_err(how)
    }
}

fn an_hour() -> Duration {
    Duration::from_hours(1)
}

fn all_at_once() -> Vec<Share> {
    vec![Share::Percent(Percent::ALL)]
}

fn three() -> NonZeroU32 {
    NonZeroU32::new(3).expect("3 is not 0")
}

/// Why a text is no plan.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPlan {
    /// No TOML, or keys and values that a plan does not have.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// Nothing would happen.
    #[error("a plan has from 1 to {MAX_STEPS} stages ([[stage]]), and this one has {0}")]
    Stages(usize),
    /// Nothing would happen in a stage.
    #[error("stage {group} has {count} waves: from 1 to {MAX_STEPS} are possible")]
    Waves {
        /// Of this group.
        group: GroupId,
        /// So many.
        count: usize,
    },
    /// Waves that do not grow.
    #[error("stage {group} goes from {before} to {after}: each wave is as large as those before it and more")]
    NotGrowing {
        /// Of this group.
        group: GroupId,
        /// A wave.
        before: Share,
        /// The one behind it.
        after: Share,
    },
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// Says what is wrong, with the line where that is known.
    pub fn parse(text: &str) -> Result<Self, InvalidPlan> {
        let plan: Self = toml::from_str(text)?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan for a group of `size` nodes when nobody says another one: the more nodes there are, the smaller the share that
    /// a bad release can hurt before it is found out.
    pub fn by_size(app: AppId, group: GroupId, size: usize) -> Self {
        const MINUTE: Duration = Duration::from_mins(1);
        let percent = |value| Share::Percent(Percent::new(value).unwrap_or(Percent::ALL));
        let waves = match size {
            0 | 1 => vec![Share::Count(1)],
            2..=5 => vec![Share::Count(1), percent(100)],
            6..=50 => vec![Share::Count(1), percent(10), percent(50), percent(100)],
            51..=500 => vec![Share::Count(2), percent(5), percent(25), percent(100)],
            _ => vec![Share::Count(2), percent(1), percent(10), percent(50), percent(100)],
        };
        let stage = Stage {
            group,
            waves,
            soak: 2 * MINUTE,
            max_failures: Some(NonZeroU32::MIN),
            max_failure_rate: None,
            min_reports: three(),
            success: None,
            max_parallel: None,
            deadline: an_hour(),
            approval: false,
        };
        Self {
            app,
            on_failure: OnFailure::default(),
            max_parallel: None,
            max_parallel_per_site: None,
            stages: vec![stage],
        }
    }

    /// Of nothing: what stands in the place of a plan that cannot be read.
    pub(crate) fn nothing(app: &AppId) -> Self {
        Self {
            app: app.clone(),
            on_failure: OnFailure::default(),
            max_parallel: None,
            max_parallel_per_site: None,
            stages: Vec::new(),
        }
    }

    /// The plan as a person would write it.
    ///
    /// # Errors
    /// Never for a plan that was parsed or made here.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// The groups that it is about, each once.
    pub fn groups(&self) -> BTreeSet<GroupId> {
        self.stages.iter().map(|stage| stage.group.clone()).collect()
    }

    fn check(&self) -> Result<(), InvalidPlan> {
        if !(1..=MAX_STEPS).contains(&self.stages.len()) {
            return Err(InvalidPlan::Stages(self.stages.len()));
        }
        self.stages.iter().try_for_each(Stage::check)
    }
}

impl Stage {
    /// At so many failures it stops.
    pub(crate) fn failure_limit(&self) -> Option<u32> {
        let first = self.max_failure_rate.is_none().then_some(NonZeroU32::MIN);
        self.max_failures.or(first).map(NonZeroU32::get)
    }

    fn check(&self) -> Result<(), InvalidPlan> {
        let group = || self.group.clone();
        if !(1..=MAX_STEPS).contains(&self.waves.len()) {
            return Err(InvalidPlan::Waves { group: group(), count: self.waves.len() });
        }
        // A count and a share may be in any order: which one is larger depends on the fleet.
        let shrinks = |pair: &&[Share]| match pair {
            [Share::Count(before), Share::Count(after)] => before >= after,
            [Share::Percent(before), Share::Percent(after)] => before >= after,
            _ => false,
        };
        match self.waves.windows(2).find(shrinks) {
            Some(pair) => Err(InvalidPlan::NotGrowing { group: group(), before: pair[0], after: pair[1] }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
        app = "greenhouse"
        on_failure = "revert"
        [[stage]]
        group = "canary"
        soak = "10m"
        max_failures = 1
        [[stage]]
        group = "all"
        waves = ["3", "10%", "50%", "100%"]
        soak = "2m"
        max_failure_rate = "10%"
        min_reports = 5
        max_parallel = 20
    "#;

    #[test]
    fn a_plan_is_read_with_its_defaults() {
        let plan = Plan::parse(FULL).unwrap();
        assert_eq!((plan.on_failure, plan.stages.len()), (OnFailure::Revert, 2));
        let [canary, all] = &plan.stages[..] else { panic!() };
        assert_eq!(canary.waves, [Share::Percent(Percent::ALL)]);
        assert_eq!((canary.soak, canary.min_reports.get()), (Duration::from_mins(10), 3));
        assert_eq!(all.waves[0], Share::Count(3));
        assert_eq!(all.max_failure_rate, Percent::new(10));
    }

    #[test]
    fn a_plan_is_written_as_it_is_read() {
        let usual = Plan::by_size("web".parse().unwrap(), "all".parse().unwrap(), 30);
        for plan in [Plan::parse(FULL).unwrap(), usual] {
            assert_eq!(Plan::parse(&plan.to_toml().unwrap()).unwrap(), plan);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        let error = |from: &str, to: &str| Plan::parse(&FULL.replace(from, to)).unwrap_err().to_string();
        assert!(error("greenhouse", "Green House").contains("Green House"));
        assert!(error("soak = \"10m\"", "soak = \"soon\"").contains("line 6"));
        assert!(error("min_reports", "min_report").contains("unknown field `min_report`"));
        assert!(error("\"10%\", \"50%\"", "\"50%\", \"10%\"").contains("from 50% to 10%"));
        assert!(error("\"3\", \"10%\"", "\"3\", \"3\"").contains("from 3 to 3"));
        assert!(error("\"3\", \"10%\", \"50%\", \"100%\"", "").contains("0 waves"));
        assert!(error("max_failures = 1", "max_failures = 0").contains("nonzero"));
        for share in ["0", "0%", "101%", "-1", "x", "1.5%", ""] {
            assert!(error("\"3\"", &format!("\"{share}\"")).contains("10%"), "{share}");
        }
        assert!(Plan::parse("app = \"web\"\nstage = []").unwrap_err().to_string().contains("this one has 0"));
    }

    #[test]
    fn the_usual_plan_grows_with_the_fleet() {
        let waves = |size| {
            let plan = Plan::by_size("web".parse().unwrap(), "all".parse().unwrap(), size);
            plan.check().unwrap();
            plan.stages[0].waves.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            [1, 3, 6, 51, 1000].map(waves),
            ["1", "1 100%", "1 10% 50% 100%", "2 5% 25% 100%", "2 1% 10% 50% 100%"]
        );
    }
}
