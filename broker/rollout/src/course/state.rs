//! What a node does about a rollout, as far as its signed report and its silence say.

use schemas::{
    id::{AppId, Digest, GroupId, NodeId},
    mandate::Mandate,
    reason::Reason,
    release::Release,
    report::{AppReport, Outcome, Verdict},
    rollout::Standing,
    status::Phase,
};

use crate::fleet::{Fleet, Node};

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;

/// A node that is there says within so long that it has heard of an order (design: rollouts, "silence is not success").
pub(super) const ACK_LIMIT_MS: u64 = 5 * MINUTE_MS;
/// So long it may get no further before the switch. It gives up by itself after 15 minutes; the rest is for its report to come.
pub(super) const INSTALL_LIMIT_MS: u64 = 20 * MINUTE_MS;
/// So much longer than the trial of the release a node may take from the switch to its verdict: time to go back and to come
/// back onto the bus.
pub(super) const TRIAL_SLACK_MS: u64 = 5 * MINUTE_MS;
/// So long a node that has the release may be away before that counts as its end.
pub(super) const SILENCE_LIMIT_MS: u64 = 5 * MINUTE_MS;

/// What a node does about a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// It has not got the order.
    Waiting,
    /// It has got the order and is there, and has not answered.
    Offered,
    /// It holds itself back, and says why.
    Deferred(String),
    /// It is on the way to the switch.
    Installing {
        /// The step it is at.
        phase: Phase,
        /// How much of the step is done.
        permille: u16,
        /// Which attempt it is, from 1.
        attempt: u32,
    },
    /// It has switched, and must prove itself; or goes back.
    Trial,
    /// It had begun, and says nothing of it any more.
    Silent,
    /// It keeps the release, and is away.
    Away,
    /// It keeps the release and is well.
    Good,
    /// It is told to go back and has not; why, or nothing while it may be about to.
    Stays(String),
    /// It went back by itself.
    RolledBack(Failure),
    /// It did not get as far as the switch, or refused.
    Failed(Failure),
    /// It keeps the release and is not well.
    Unwell,
    /// It fell silent after it had begun, or never answered.
    Lost(&'static str),
    /// It is away and has not begun: it catches up when it is back.
    Excused,
    /// The release is not for it, or it runs it already, or it obeys another order.
    Skipped(Skip),
}

/// Why something did not work, with the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub reason: Option<Reason>,
    /// The sentence.
    pub text: String,
}

/// Why nothing is expected of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// It ran the release before it was offered.
    Already,
    /// The release has nothing for its platform.
    NotForIt,
    /// It obeys a newer order by now.
    OtherOrder,
    /// It had the release and went back, as somebody wanted.
    WentBack,
    /// It has left the group, or the fleet.
    Gone,
}

/// What a state is to the count of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Nothing is known yet.
    Pending,
    /// It is well with the release.
    Good,
    /// It is not.
    Failure,
    /// It does not count.
    Excused,
    /// It never will.
    Skipped,
}

/// Where a node is counted when people are told how a wave stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Well with the release.
    Good,
    /// Not well with it.
    Failed,
    /// It has the order, and may be about to install, or does.
    OnTheWay,
    /// It is not there.
    Away,
    /// It has not got the order, or holds itself back.
    Waiting,
    /// Nothing is expected of it.
    Skipped,
}

impl NodeState {
    /// The state in one word, as people and JSON see it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Offered => "offered",
            Self::Deferred(_) => "deferred",
            Self::Installing { .. } => "installing",
            Self::Trial => "trial",
            Self::Silent => "silent",
            Self::Away => "away",
            Self::Good => "good",
            Self::Stays(_) => "stays",
            Self::RolledBack(_) => "rolled_back",
            Self::Failed(_) => "failed",
            Self::Unwell => "unwell",
            Self::Lost(_) => "lost",
            Self::Excused => "excused",
            Self::Skipped(_) => "skipped",
        }
    }

    /// Why, for people; empty where the name says it all.
    pub fn text(&self) -> String {
        match self {
            Self::Deferred(text) => text.clone(),
            Self::Stays(why) if why.is_empty() => "it is told to go back".to_owned(),
            Self::Stays(why) => format!("it is told to go back: {why}"),
            Self::Installing { phase, permille, attempt: 0 | 1 } => {
                format!("{} {} %", phase.name(), permille / 10)
            }
            Self::Installing { phase, permille, attempt } => {
                format!("{} {} %, attempt {attempt}", phase.name(), permille / 10)
            }
            Self::RolledBack(failure) | Self::Failed(failure) => match failure.reason {
                None => failure.text.clone(),
                reason => schemas::status::error_text(reason, &failure.text),
            },
            Self::Unwell => "keeps the release, and its checks say that it is not well".to_owned(),
            Self::Lost(text) => (*text).to_owned(),
            Self::Excused => "offline; it catches up".to_owned(),
            Self::Skipped(skip) => skip.text().to_owned(),
            _ => String::new(),
        }
    }

    /// What it is to the count of its wave.
    pub fn weight(&self) -> Weight {
        match self {
            Self::Good | Self::Skipped(Skip::Already) => Weight::Good,
            Self::RolledBack(_) | Self::Failed(_) | Self::Unwell | Self::Lost(_) => Weight::Failure,
            Self::Stays(why) if !why.is_empty() => Weight::Failure,
            Self::Excused => Weight::Excused,
            Self::Skipped(_) => Weight::Skipped,
            _ => Weight::Pending,
        }
    }

    /// Where it is counted for people.
    pub fn bucket(&self) -> Bucket {
        match (self.weight(), self) {
            (Weight::Good, _) => Bucket::Good,
            (Weight::Failure, _) => Bucket::Failed,
            (Weight::Skipped, _) => Bucket::Skipped,
            (Weight::Excused, _) | (_, Self::Away) => Bucket::Away,
            (_, Self::Waiting | Self::Deferred(_)) => Bucket::Waiting,
            _ => Bucket::OnTheWay,
        }
    }

    /// Whether it may be about to install, or does.
    pub fn is_in_flight(&self) -> bool {
        matches!(self, Self::Offered | Self::Installing { .. } | Self::Trial | Self::Silent)
    }

    /// How long it may last, and what is said when it lasts longer.
    pub(super) fn limit(&self, trial_ms: u64) -> Option<(u64, &'static str)> {
        match self {
            Self::Offered => Some((ACK_LIMIT_MS, "it is there and has not answered")),
            Self::Installing { .. } | Self::Silent => {
                Some((INSTALL_LIMIT_MS, "it had begun and got no further"))
            }
            Self::Trial => Some((trial_ms, "it gave no verdict after the switch")),
            Self::Away => Some((SILENCE_LIMIT_MS, "it has the release and is not there any more")),
            _ => None,
        }
    }

    /// What has to be remembered of it, when reports do not say it any more.
    pub(super) fn standing(&self, before: Standing) -> Standing {
        match self {
            Self::Installing { .. } | Self::Trial => Standing::Begun,
            Self::Good | Self::Away => Standing::Kept,
            Self::RolledBack(_) => Standing::RolledBack,
            Self::Failed(_) => Standing::Failed,
            Self::Unwell => Standing::Unwell,
            Self::Lost(_) => Standing::Lost,
            _ => before,
        }
    }

    /// Whether both are the same step with the same progress, for the time that it may last.
    pub(super) fn is_as_far_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Installing { .. }, Self::Installing { .. }) => self == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Skip {
    fn text(self) -> &'static str {
        match self {
            Self::Already => "ran the release already",
            Self::NotForIt => "the release has nothing for its platform",
            Self::OtherOrder => "obeys another order by now",
            Self::WentBack => "went back to what it ran before",
            Self::Gone => "is not in the group any more",
        }
    }
}

/// What a rollout is about, when nodes are looked at.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) app: AppId,
    pub(super) release: Digest,
    pub(super) mandate: Mandate,
    /// So long a trial may last.
    pub(super) trial_ms: u64,
}

impl Subject {
    pub(super) fn new(mandate: &Mandate, release: &Release) -> Self {
        let longest_ms = release.parts.iter().map(|part| part.trial.deadline_ms).max().unwrap_or_default();
        Self {
            app: mandate.app.clone(),
            release: mandate.release,
            mandate: mandate.clone(),
            trial_ms: longest_ms.saturating_add(TRIAL_SLACK_MS),
        }
    }

    /// What `name` of `group` does. `offered`: its order is on the bus; `orders`: the digests of ours.
    pub(super) fn look(
        &self,
        fleet: &Fleet,
        (name, group): (&NodeId, &GroupId),
        (standing, offered): (Standing, bool),
        is_ours: impl Fn(&Digest) -> bool,
    ) -> NodeState {
        let Some(node) = fleet.nodes().get(name).filter(|node| node.is_in(group)) else {
            return NodeState::Skipped(Skip::Gone);
        };
        let said = node.app(&self.app).and_then(|app| self.said(app, node, standing));
        if let Some(state) = said.or_else(|| refused(node, is_ours)) {
            return state;
        }
        match (standing, node.online() == Some(true)) {
            (Standing::Begun, _) => NodeState::Silent,
            (Standing::Lost, _) => NodeState::Lost("it fell silent after it had begun"),
            (Standing::Kept | Standing::Unwell, _) => NodeState::Skipped(Skip::OtherOrder),
            (Standing::RolledBack, _) => NodeState::RolledBack(Failure::forgotten()),
            (Standing::Failed, _) => NodeState::Failed(Failure::forgotten()),
            (Standing::None, true) if !offered => NodeState::Waiting,
            (Standing::None, true) => NodeState::Offered,
            (Standing::None, false) => NodeState::Excused,
        }
    }

    /// Whether the node runs the release.
    pub(super) fn is_installed(&self, node: &Node) -> bool {
        let installed = node.app(&self.app).and_then(|app| app.installed.as_ref());
        installed.is_some_and(|installed| installed.release == self.release)
    }

    /// Whether the node is on its way to the release, by an order of this rollout.
    pub(super) fn is_under_way(&self, node: &Node) -> bool {
        node.app(&self.app).is_some_and(|app| self.under_way(app, true).is_some())
    }

    fn said(&self, app: &AppReport, node: &Node, standing: Standing) -> Option<NodeState> {
        let online = node.online() == Some(true);
        let runs_it = self.is_installed(node);
        if let Some(state) = self.under_way(app, online) {
            return Some(state);
        }
        if let Some(outcome) = app.outcomes.iter().rfind(|outcome| self.is_about(outcome)) {
            return match outcome.verdict {
                Verdict::Kept if runs_it => Some(kept(app, online)),
                Verdict::Kept => Some(NodeState::Skipped(Skip::OtherOrder)),
                Verdict::RolledBack => Some(NodeState::RolledBack(outcome.into())),
                Verdict::Refused if outcome.reason == Some(Reason::NoPart) => {
                    Some(NodeState::Skipped(Skip::NotForIt))
                }
                Verdict::Failed | Verdict::Refused => Some(NodeState::Failed(outcome.into())),
                // By another order of this rollout, which it will say more of; or by somebody else's.
                Verdict::Superseded if app.revision > self.mandate.last => {
                    Some(NodeState::Skipped(Skip::OtherOrder))
                }
                Verdict::Superseded => None,
            };
        }
        match standing {
            _ if app.revision > self.mandate.last => Some(NodeState::Skipped(Skip::OtherOrder)),
            Standing::None if runs_it => match kept(app, online) {
                NodeState::Good => Some(NodeState::Skipped(Skip::Already)),
                // It is away, and was not asked for anything.
                NodeState::Away => Some(NodeState::Excused),
                state => Some(state),
            },
            _ if runs_it => Some(kept(app, online)),
            _ => None,
        }
    }

    fn under_way(&self, app: &AppReport, online: bool) -> Option<NodeState> {
        let target = app.target.as_ref().filter(|target| self.mandate.covers(target.revision))?;
        Some(match app.phase {
            Phase::Deferred if online => NodeState::Deferred(target.waits_for.clone()),
            Phase::Deferred => NodeState::Excused,
            Phase::Idle => return None,
            Phase::Fetching | Phase::Staging | Phase::Staged => NodeState::Installing {
                phase: app.phase,
                permille: target.progress_permille,
                attempt: target.attempt,
            },
            Phase::Switching | Phase::Trial | Phase::RollingBack => NodeState::Trial,
        })
    }

    fn is_about(&self, outcome: &Outcome) -> bool {
        outcome.release == self.release && self.mandate.covers(outcome.revision)
    }
}

impl Failure {
    /// Somebody has given it another order, or taken it out of the group.
    pub(super) fn taken_away() -> Self {
        let text = "it had begun, and was given another order or taken out of the group".to_owned();
        Self { reason: None, text }
    }

    /// The node's report has it no more.
    fn forgotten() -> Self {
        Self { reason: None, text: String::new() }
    }
}

impl From<&Outcome> for Failure {
    fn from(outcome: &Outcome) -> Self {
        Self { reason: outcome.reason, text: outcome.text.clone() }
    }
}

fn kept(app: &AppReport, online: bool) -> NodeState {
    match app.healthy {
        Some(false) => NodeState::Unwell,
        _ if online => NodeState::Good,
        _ => NodeState::Away,
    }
}

/// Whether it did not accept one of our orders.
fn refused(node: &Node, is_ours: impl Fn(&Digest) -> bool) -> Option<NodeState> {
    let refusals = &node.report()?.refusals;
    let refusal = refusals.iter().rfind(|refusal| refusal.order.as_ref().is_some_and(&is_ours))?;
    Some(NodeState::Failed(Failure { reason: Some(refusal.reason), text: refusal.text.clone() }))
}
