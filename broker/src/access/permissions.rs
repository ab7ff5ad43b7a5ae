//! What each role may publish and subscribe to, as patterns of topic levels.

use schemas::{id::GroupId, topic::MAJOR};

use super::users::{Role, User};

/// What somebody wants to do with a topic or filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Publish to a topic.
    Publish,
    /// Subscribe to a filter.
    Subscribe,
}

/// One level of a pattern.
#[derive(Debug, Clone, Copy)]
enum Level {
    /// The fleet's id.
    Fleet,
    /// The wire major.
    Major,
    /// The user's own name.
    Own,
    /// One of the user's groups.
    Group,
    /// This text.
    Is(&'static str),
    /// Any one level.
    Any,
    /// Everything from here on.
    Rest,
}

use Level::{Any, Fleet, Group, Is, Major, Own, Rest};

type Pattern = &'static [Level];

const RELEASES: Pattern = &[Fleet, Major, Is("release"), Rest];
const TRUST: Pattern = &[Fleet, Major, Is("trust")];
const RECORDS: Pattern = &[Fleet, Major, Is("node"), Any, Is("record")];
const COMMANDS: Pattern = &[Fleet, Major, Is("node"), Any, Is("command")];
const REQUESTS: Pattern = &[Fleet, Major, Is("node"), Any, Is("request")];
const ENROLLMENTS: Pattern = &[Fleet, Major, Is("enroll"), Is("request"), Any];
const ROLLOUTS: Pattern = &[Fleet, Major, Is("rollout"), Rest];
const PLANS: Pattern = &[Fleet, Major, Is("plan"), Any];
const COURSES: Pattern = &[Fleet, Major, Is("course"), Any];
const CONTROLLERS: Pattern = &[Fleet, Major, Is("controller"), Any];
const BUS_REQUESTS: Pattern = &[Fleet, Major, Is("bus"), Is("request")];
const BUS: Pattern = &[Fleet, Major, Is("bus"), Rest];
const ALL_OF_THE_FLEET: Pattern = &[Fleet, Major, Rest];
const SYS: Pattern = &[Is("$SYS"), Rest];
const DISCOVERY: Pattern = &[Is("homeassistant"), Rest];
const OWN_RELEASES: Pattern = &[Fleet, Major, Is("release"), Group, Any];
const OWN: Pattern = &[Fleet, Major, Is("node"), Own, Rest];
const OWN_COMMAND: Pattern = &[Fleet, Major, Is("node"), Own, Is("command"), Rest];
const OWN_RECORD: Pattern = &[Fleet, Major, Is("node"), Own, Is("record"), Rest];
const OWN_WANT: Pattern = &[Fleet, Major, Is("chunk"), Is("want"), Own];
const OWN_PIECE: Pattern = &[Fleet, Major, Is("chunk"), Is("data"), Own];
const OWN_REQUEST: Pattern = &[Fleet, Major, Is("node"), Own, Is("request"), Rest];

/// What a role may do, and what it may not all the same.
struct Rule {
    allowed: &'static [Pattern],
    excepted: &'static [Pattern],
}

const fn only(allowed: &'static [Pattern]) -> Rule {
    Rule { allowed, excepted: &[] }
}

impl User {
    /// Whether this user may do `action` with `target`, a well-formed topic or filter.
    pub(crate) fn may(&self, action: Action, target: &str) -> bool {
        if self.role() == Role::Admin {
            // Topics of the broker itself are for reading.
            return action == Action::Subscribe || !target.starts_with('$');
        }
        if self.role() == Role::Guest {
            return self.filters(action).iter().any(|filter| filter.covers(target));
        }
        let rule = rule(self.role(), action);
        let covers = |pattern: &Pattern| covers(pattern, self, target);
        rule.allowed.iter().any(covers) && !rule.excepted.iter().any(covers)
    }
}

fn rule(role: Role, action: Action) -> Rule {
    match (role, action) {
        (Role::Node, Action::Publish) => {
            Rule { allowed: &[OWN, OWN_WANT], excepted: &[OWN_COMMAND, OWN_RECORD, OWN_REQUEST] }
        }
        (Role::Node, Action::Subscribe) => only(&[TRUST, OWN_RELEASES, OWN, OWN_PIECE]),
        (Role::Publisher, Action::Publish) => {
            only(&[RELEASES, PLANS, TRUST, RECORDS, ENROLLMENTS, COMMANDS, REQUESTS, BUS_REQUESTS])
        }
        (Role::Controller, Action::Publish) => {
            only(&[RELEASES, ROLLOUTS, COURSES, CONTROLLERS, BUS, DISCOVERY])
        }
        (Role::Watcher | Role::Guest, Action::Publish) | (Role::Guest, Action::Subscribe) => only(&[]),
        (Role::HomeAssistant, Action::Publish) => only(&[REQUESTS, BUS_REQUESTS, DISCOVERY]),
        (Role::HomeAssistant | Role::Controller, Action::Subscribe) => {
            only(&[ALL_OF_THE_FLEET, DISCOVERY, SYS])
        }
        (Role::Publisher | Role::Watcher, Action::Subscribe) => only(&[ALL_OF_THE_FLEET, SYS]),
        (Role::Admin, _) => only(&[&[Rest]]),
    }
}

/// Whether every topic that `target` can stand for is one of `pattern`'s.
fn covers(pattern: Pattern, user: &User, target: &str) -> bool {
    let mut target = target.split('/');
    for level in pattern {
        let found = target.next();
        let is_covered = match (level, found) {
            // `a/#` takes `a` too (MQTT 5, 4.7.1.2), so the end of the target is covered as well.
            (Rest, _) => return true,
            (_, None | Some("#")) => false,
            (Any, Some(_)) => true,
            (_, Some("+")) => false,
            (Fleet, Some(found)) => found == user.fleet().as_str(),
            (Major, Some(found)) => found == MAJOR,
            (Own, Some(found)) => found == user.name(),
            (Group, Some(found)) => user.groups().iter().map(GroupId::as_str).any(|group| group == found),
            (Is(text), Some(found)) => found == *text,
        };
        if !is_covered {
            return false;
        }
    }
    target.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use schemas::id::Digest;

    use super::{super::users::Users, *};

    #[test]
    fn a_node_writes_below_its_own_name_only() {
        let node = user("pi-1 node", "groups=canary,all");
        for good in
            ["home/v1/node/pi-1/report", "home/v1/node/pi-1/app/web/status", "home/v1/chunk/want/pi-1"]
        {
            assert!(node.may(Action::Publish, good), "{good}");
        }
        for bad in [
            "home/v1/node/pi-1/command",
            "home/v1/node/pi-1/record",
            "home/v1/node/pi-1/request",
            "home/v1/node/pi-1/record/x",
            "home/v1/node/pi-2/report",
            "home/v1/node/pi-10/report",
            "home/v1/chunk/want/pi-2",
            "home/v1/chunk/data/pi-1",
            "home/v1/release/canary/web",
            "home/v1/trust",
            "other/v1/node/pi-1/report",
            "home/v2/node/pi-1/report",
            "$SYS/x",
        ] {
            assert!(!node.may(Action::Publish, bad), "{bad}");
        }
    }

    #[test]
    fn a_node_reads_its_groups_and_what_is_said_to_it() {
        let node = user("pi-1 node", "groups=canary,all");
        for good in [
            "home/v1/trust",
            "home/v1/release/canary/+",
            "home/v1/release/all/web",
            "home/v1/node/pi-1/#",
            "home/v1/node/pi-1/command",
            "home/v1/node/pi-1",
            "home/v1/chunk/data/pi-1",
        ] {
            assert!(node.may(Action::Subscribe, good), "{good}");
        }
        for bad in [
            "#",
            "home/#",
            "home/v1/release/+/web",
            "home/v1/release/canary/#",
            "home/v1/release/kitchen/web",
            "home/v1/node/+/command",
            "home/v1/node/#",
            "home/v1/chunk/data/+",
            "home/v1/chunk/want/pi-1",
            "+/v1/trust",
            "$SYS/#",
        ] {
            assert!(!node.may(Action::Subscribe, bad), "{bad}");
        }
    }

    #[test]
    fn the_other_roles_do_what_they_are_for() {
        let may = |role: &str, action, target: &str| user(&format!("x {role}"), "").may(action, target);
        let (publish, subscribe) = (Action::Publish, Action::Subscribe);
        assert!(may("publisher", publish, "home/v1/release/all/web"));
        assert!(may("publisher", publish, "home/v1/node/pi-1/command"));
        assert!(!may("publisher", publish, "home/v1/node/pi-1/report"));
        assert!(!may("publisher", publish, "home/v1/rollout/all/web"));
        assert!(may("controller", publish, "home/v1/rollout/all/web"));
        assert!(may("controller", publish, "home/v1/controller/0123456789abcdef"));
        assert!(may("controller", publish, "home/v1/course/web"));
        assert!(
            may("publisher", publish, "home/v1/plan/web") && !may("controller", publish, "home/v1/plan/web")
        );
        assert!(!may("publisher", publish, "home/v1/course/web"));
        assert!(!may("controller", publish, "home/v1/node/pi-1/record"));
        assert!(may("controller", publish, "homeassistant/device/home_pi-1/config"));
        assert!(may("home-assistant", publish, "home/v1/bus/request"));
        assert!(!may("home-assistant", publish, "home/v1/bus/availability"));
        assert!(!may("watcher", publish, "home/v1/bus/request"));
        assert!(may("watcher", subscribe, "home/v1/#"));
        assert!(!may("watcher", subscribe, "#"));
        assert!(!may("watcher", publish, "home/v1/node/pi-1/request"));
        assert!(may("home-assistant", publish, "home/v1/node/pi-1/request"));
        assert!(may("home-assistant", publish, "homeassistant/update/x/config"));
        assert!(may("home-assistant", subscribe, "homeassistant/#"));
        assert!(!may("home-assistant", publish, "home/v1/node/pi-1/command"));
        assert!(may("watcher", subscribe, "$SYS/#") && !may("watcher", subscribe, "+/broker/#"));
        let guest = user("cam guest", "publish=cam/# subscribe=cam/cmd/+,time");
        assert!(
            guest.may(publish, "cam/1") && guest.may(subscribe, "cam/cmd/x") && guest.may(subscribe, "time")
        );
        assert!(!guest.may(publish, "time") && !guest.may(subscribe, "cam/#") && !guest.may(subscribe, "#"));
        assert!(!user("cam guest", "").may(subscribe, "cam/cmd/x"));
        assert!(may("admin", publish, "anything") && may("admin", subscribe, "$SYS/#"));
        assert!(!may("admin", publish, "$SYS/x"));
    }

    fn user(name_and_role: &str, rest: &str) -> Arc<User> {
        let line = format!("{name_and_role} sha256:{} {rest}", Digest::of(b"p"));
        let users = Users::parse(&line, &"home".parse().unwrap()).unwrap();
        users.get(name_and_role.split(' ').next().unwrap()).unwrap()
    }
}
