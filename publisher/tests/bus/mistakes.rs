//! What is said to people who begin, and get something wrong: what happened, where, and what to do.

use std::{fmt::Write as _, net::TcpListener};

use schemas::report::Verdict;

use crate::{controller::FakeController, node::FakeNode, world::World};

/// A stage that nobody has approved yet, so that the rollout goes on.
const PLAN: &str = "app = \"web\"\n[[stage]]\ngroup = \"canary\"\napproval = true\n";

/// Commands, and what they say when they fail, with what differs from run to run made stable.
struct Told<'a> {
    world: &'a World,
    text: String,
}

impl Told<'_> {
    fn tell(&mut self, line: &str) {
        let ran = self.world.run(&line.split_whitespace().collect::<Vec<_>>());
        assert!(matches!(ran.code, Some(1 | 2)), "{line}: {}", ran.stdout);
        let (folder, code) = (self.world.path(""), ran.code.unwrap_or_default());
        let said = ran.stderr.replace(folder.to_str().unwrap(), "~/");
        let begin = said.find("error: ").unwrap_or_else(|| panic!("{line}: {said}"));
        writeln!(self.text, "$ publisher {line}   → {code}\n{}", &said[begin..]).unwrap();
    }

    fn plan(&mut self, text: &str) {
        std::fs::write(self.world.path("plan.toml"), text).unwrap();
    }
}

/// A port on which nobody listens.
fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

#[test]
fn every_mistake_of_a_newcomer_is_answered_with_what_to_do() {
    let Some(world) = World::start() else { return };
    let (bus, store) = (closed_port(), closed_port());
    let (bus_url, store_url) = (format!("mqtt://127.0.0.1:{bus}"), format!("http://127.0.0.1:{store}"));
    let init = ["init", "--home", "down", "--bus", &bus_url, "--store", &store_url];
    assert_eq!(world.run(&init).code, Some(0));
    world.app("1.0.0");
    let mut told = Told { world: &world, text: String::new() };
    told.tell("rollout status --home nowhere");
    told.tell("rollout status --home down");
    told.tell("log --home down");
    told.tell("rollout start");
    told.tell("rollout start app --timeout soon");
    told.tell("rollout start --release 9.9 --app web");
    told.tell("rollout simulate");
    told.tell("rollout pause web");
    told.tell("why pi-1");

    world.add_node("pi-1");
    let _node = FakeNode::start(&world, "pi-1", Verdict::Kept, None);
    let _controller = FakeController::start(&world, "controller-1");
    told.tell("request pi-1 install");
    told.tell("rollout start app --group kitchen");
    told.plan(&PLAN.replace("approval = true", "soak = \"10\""));
    told.tell("rollout start app --plan plan.toml");
    told.plan(PLAN);
    let ran = world.run(&["rollout", "start", "app", "--plan", "plan.toml", "--detach"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    told.tell("rollout start app --plan plan.toml");
    told.tell("rollout pause api");
    let text = told.text.replace(&bus, "<bus>").replace(&store, "<store>");
    insta::assert_snapshot!(text);
}
