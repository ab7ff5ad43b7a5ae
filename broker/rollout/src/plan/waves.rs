//! Which nodes a wave has: exact, by rank, so that the same plan for the same release is the same for everybody.

use std::collections::BTreeSet;

use schemas::{
    id::{Counter, GroupId, NodeId},
    order::{Audience, place_in_share},
};

use super::{Plan, Stage};

/// An order names so many nodes at most; larger waves are shares of their group.
pub const MAX_NAMED: usize = 2_000;

/// A node that a rollout may be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its groups.
    pub groups: BTreeSet<GroupId>,
    /// Whether it is there now.
    pub online: bool,
    /// Whether people have said that it goes first (label `canary=true`).
    pub goes_first: bool,
    /// What hardware it is, where that is known (label `model`).
    pub model: Option<String>,
}

/// Nodes that get a release together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// The stage, from 0.
    pub stage: usize,
    /// Its nodes, those that go first at the front.
    pub nodes: Vec<NodeId>,
    /// Whom an order is for that is for this wave and those of its stage before, where they are too many to be named.
    pub audience: Option<Audience>,
}

/// The waves of `plan` for a release with `counter`: each target is in one of them at most, and none is empty.
pub fn lay_out(plan: &Plan, members: &[Member], counter: Counter) -> Vec<Wave> {
    let mut taken = BTreeSet::new();
    let mut waves = Vec::new();
    for (stage, wanted) in plan.stages.iter().enumerate() {
        let ranked = ranked(wanted, members, &taken, counter);
        let mut begin = 0;
        for share in &wanted.waves {
            let mut end = share.of(ranked.len()).min(ranked.len());
            let audience = (end > MAX_NAMED).then(|| audience(end, ranked.len(), counter));
            if let Some(share @ Audience::Share { .. }) = &audience {
                end = ranked.iter().rposition(|node| share.includes(node)).map_or(end, |last| last + 1);
            }
            if end > begin {
                waves.push(Wave { stage, nodes: ranked[begin..end].to_vec(), audience });
                begin = end;
            }
        }
        // Those that no wave of this stage has may be in one of a later stage.
        taken.extend(ranked[..begin].iter().cloned());
    }
    waves
}

fn audience(end: usize, total: usize, counter: Counter) -> Audience {
    if end == total {
        return Audience::All;
    }
    let permille = u16::try_from(end * 1_000 / total).unwrap_or(1_000);
    Audience::Share { permille, salt: counter.to_string() }
}

/// The nodes of a stage, in the order in which they get the release: those that people chose, then one of each hardware
/// model, then the others; of those that are equal, who is online, and then by a digest that differs from release to release.
fn ranked(stage: &Stage, members: &[Member], taken: &BTreeSet<NodeId>, counter: Counter) -> Vec<NodeId> {
    let mut targets: Vec<&Member> = members
        .iter()
        .filter(|member| member.groups.contains(&stage.group) && !taken.contains(&member.node))
        .collect();
    // What is a share of the group cannot depend on who is there.
    let is_named = targets.len() <= MAX_NAMED;
    targets.sort_by_cached_key(|member| {
        let is_away = is_named && !member.online;
        (!member.goes_first, is_away, place_in_share(&counter.to_string(), &member.node))
    });
    let mut models = BTreeSet::new();
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for member in targets {
        let is_new_model = is_named && member.online && models.insert(member.model.clone());
        let list = if member.goes_first || is_new_model { &mut first } else { &mut later };
        list.push(member.node.clone());
    }
    first.append(&mut later);
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(name: &str, groups: &[&str]) -> Member {
        Member {
            node: name.parse().unwrap(),
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
            online: true,
            goes_first: false,
            model: None,
        }
    }

    fn fleet(count: usize) -> Vec<Member> {
        (0..count).map(|n| member(&format!("pi-{n}"), &["all"])).collect()
    }

    fn plan(text: &str) -> Plan {
        Plan::parse(&format!("app = \"web\"\n{text}")).unwrap()
    }

    fn sizes(plan: &Plan, members: &[Member]) -> Vec<usize> {
        lay_out(plan, members, Counter(7)).iter().map(|wave| wave.nodes.len()).collect()
    }

    #[test]
    fn waves_have_exactly_the_nodes_that_their_shares_say() {
        let plan = plan("[[stage]]\ngroup = \"all\"\nwaves = [\"1\", \"10%\", \"50%\", \"100%\"]");
        assert_eq!(sizes(&plan, &fleet(100)), [1, 9, 40, 50]);
        assert_eq!(sizes(&plan, &fleet(6)), [1, 2, 3]);
        assert_eq!(sizes(&plan, &fleet(1)), [1]);
        assert_eq!(sizes(&plan, &fleet(0)), [0; 0]);
    }

    #[test]
    fn a_wave_of_too_many_nodes_is_a_share_of_the_group() {
        let plan = plan("[[stage]]\ngroup = \"all\"\nwaves = [\"2\", \"10%\", \"50%\", \"100%\"]");
        let waves = lay_out(&plan, &fleet(10_000), Counter(7));
        let audiences: Vec<_> = waves.iter().map(|wave| wave.audience.clone()).collect();
        let half = Audience::Share { permille: 500, salt: "7".to_owned() };
        assert_eq!(audiences, [None, None, Some(half.clone()), Some(Audience::All)]);
        assert!(waves[..3].iter().flat_map(|wave| &wave.nodes).all(|node| half.includes(node)));
        assert!(!waves[3].nodes.iter().any(|node| half.includes(node)));
        assert!((3_700..4_300).contains(&waves[2].nodes.len()), "{}", waves[2].nodes.len());
    }

    #[test]
    fn a_node_of_an_earlier_stage_is_not_in_a_later_one() {
        let plan = plan("[[stage]]\ngroup = \"canary\"\n[[stage]]\ngroup = \"all\"");
        let mut members = fleet(3);
        members.push(member("pi-c", &["all", "canary"]));
        let waves = lay_out(&plan, &members, Counter(7));
        assert_eq!(waves[0].nodes, ["pi-c".parse().unwrap()]);
        assert_eq!((waves.len(), waves[1].nodes.len(), waves[1].stage), (2, 3, 1));
    }

    #[test]
    fn who_was_left_over_by_a_stage_comes_in_a_later_one() {
        let plan = plan("[[stage]]\ngroup = \"all\"\nwaves = [\"3\"]\n[[stage]]\ngroup = \"all\"");
        assert_eq!(sizes(&plan, &fleet(10)), [3, 7]);
    }

    #[test]
    fn first_go_the_chosen_then_one_of_each_model_that_is_online() {
        let plan = plan("[[stage]]\ngroup = \"all\"\nwaves = [\"3\", \"100%\"]");
        let mut members = fleet(20);
        for (n, member) in members.iter_mut().enumerate() {
            member.model = Some(if n % 2 == 0 { "Pi 4" } else { "Zero 2" }.to_owned());
            member.online = n != 5;
        }
        members[5].model = Some("Pi 5".to_owned());
        members[9].goes_first = true;
        let first = |counter| lay_out(&plan, &members, Counter(counter))[0].nodes.clone();
        let nodes = first(1);
        assert_eq!(nodes[0].as_str(), "pi-9");
        let models: BTreeSet<_> = nodes
            .iter()
            .map(|node| members.iter().find(|member| member.node == *node).unwrap().model.clone().unwrap())
            .collect();
        assert_eq!(models, BTreeSet::from(["Pi 4".to_owned(), "Zero 2".to_owned()]));
        let canaries: BTreeSet<_> = (1..20).flat_map(first).collect();
        assert!(canaries.len() > 5, "not always the same nodes have to go first: {canaries:?}");
    }

    proptest! {
        #[test]
        fn waves_are_disjoint_never_empty_and_together_the_targets(
            count in 0..200_usize,
            online in proptest::collection::vec(any::<bool>(), 200),
            canaries in 0..5_usize,
            first in 1..9_u32,
            percent in 1..100_u8,
            counter in any::<u64>(),
        ) {
            let plan = plan(&format!(
                "[[stage]]\ngroup = \"canary\"\n[[stage]]\ngroup = \"all\"\nwaves = [\"{first}\", \"{percent}%\", \"100%\"]"
            ));
            let mut members = fleet(count);
            for (member, online) in members.iter_mut().zip(online) {
                member.online = online;
            }
            for member in members.iter_mut().take(canaries) {
                member.groups.insert("canary".parse().unwrap());
            }
            let waves = lay_out(&plan, &members, Counter(counter));
            let all: Vec<_> = waves.iter().flat_map(|wave| &wave.nodes).collect();
            let distinct: BTreeSet<_> = all.iter().collect();
            prop_assert_eq!(all.len(), count);
            prop_assert_eq!(distinct.len(), count);
            prop_assert!(waves.iter().all(|wave| !wave.nodes.is_empty()));
        }
    }
}
