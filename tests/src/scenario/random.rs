//! Random scenarios: what follows from a seed, as text that people can read, cut short by hand, and play again.

use std::fmt::Write as _;

use crate::simulator::rng::Rng;

/// How a random scenario is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The release is good, and all that goes wrong are messages and the controller, or a node waits for a while: it ends as if nothing
    /// had gone wrong.
    Gentle,
    /// The same, and people do one thing after the other when all is at rest: each time it stands as if nothing had gone wrong.
    Steady,
    /// Whatever may happen.
    Wild,
}

/// Ways in which a release may be bad for some nodes.
const WAYS: [&str; 6] = ["unhealthy", "exits", "stale", "wont-start", "cuts-off", "silent"];
/// After these effects the power is cut.
const STEPS: [&str; 6] = ["persist", "fetch", "stage", "switch", "start", "prove"];
/// From one thing that happens by chance to the next: a moment, a trial, longer than any limit.
const PAUSES_SECS: [u64; 5] = [2, 20, 90, 400, 1_500];

/// The scenario of `seed`.
pub fn script(kind: Kind, seed: u64) -> String {
    let mut author = Author {
        rng: Rng::new(seed ^ 0x5ca1_ab1e),
        text: String::new(),
        nodes: Vec::new(),
        versions: 1,
        apps: 1,
    };
    author.line(&format!("seed {seed}"));
    match kind {
        Kind::Gentle => {
            author.begin(kind);
            author.gentle();
        }
        Kind::Steady => author.steady(),
        Kind::Wild => {
            author.begin(kind);
            author.wild();
        }
    }
    author.text
}

struct Author {
    rng: Rng,
    text: String,
    nodes: Vec<String>,
    /// Releases of `web`: 1.1.0 is the first that is rolled out.
    versions: u64,
    apps: u64,
}

impl Author {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{line}");
    }

    fn node(&mut self) -> String {
        let at = self.rng.below(self.nodes.len() as u64) as usize;
        self.nodes[at].clone()
    }

    fn begin(&mut self, kind: Kind) {
        // Small fleets are more frequent: they show the same in less time.
        let count = 1 + self.rng.below(8).min(self.rng.below(8));
        let canaries = if self.rng.permille(400) { self.rng.below(count.min(3)) } else { 0 };
        if canaries > 0 {
            self.line(&format!("fleet {canaries} cn in all, canary"));
            self.nodes.extend((1..=canaries).map(|n| format!("cn-{n}")));
        }
        self.line(&format!("fleet {} pi in all", count - canaries));
        self.nodes.extend((1..=count - canaries).map(|n| format!("pi-{n}")));
        if self.rng.permille(300) {
            for node in self.nodes.clone() {
                let site = self.rng.pick(&["barn", "field"]);
                self.line(&format!("label {node} site={site}"));
            }
        }
        if self.rng.permille(900) {
            self.line("runs 1.0.0");
        } else {
            self.line("release 1.0.0");
        }
        self.line("release 1.1.0");
        if kind == Kind::Wild {
            self.break_some("1.1.0");
        }
        if self.rng.permille(700) {
            let (lose, double) = (self.rng.pick(&[0, 5, 20]), self.rng.pick(&[0, 10, 30]));
            let delay = self.rng.pick(&[1, 5, 20]);
            self.line(&format!("messages lose {lose}% double {double}% delay {delay}s"));
        }
        self.plan(kind, canaries > 0);
        let later = if self.rng.permille(100) { " in 3m" } else { "" };
        self.line(&format!("start 1.1.0{later}"));
    }

    fn break_some(&mut self, version: &str) {
        for _ in 0..self.rng.pick(&[0, 0, 1, 1, 2, 4]) {
            let (node, way) = (self.node(), self.rng.pick(&WAYS));
            self.line(&format!("breaks {version} on {node} {way}"));
        }
    }

    fn plan(&mut self, kind: Kind, has_canaries: bool) {
        if kind == Kind::Wild && self.rng.permille(200) {
            self.line("plan on-failure revert");
        }
        if self.rng.permille(350) {
            let most = 1 + self.rng.below(3);
            self.line(&format!("plan max-parallel {most}"));
        }
        if self.rng.permille(150) {
            self.line("plan max-parallel-per-site 1");
        }
        if has_canaries {
            let rules = self.rules(kind);
            self.line(&format!("plan canary{rules}"));
        }
        let waves = self.rng.pick(&["100%", "1, 100%", "1, 50%, 100%", "1, 2, 3, 100%", "10%, 30%, 100%"]);
        let rules = self.rules(kind);
        self.line(&format!("plan all waves {waves}{rules}"));
    }

    fn rules(&mut self, kind: Kind) -> String {
        let mut rules = String::new();
        if self.rng.permille(500) {
            rules.push_str(self.rng.pick(&[" soak 30s", " soak 2m"]));
        }
        if self.rng.permille(300) {
            rules.push_str(self.rng.pick(&[" max-parallel 1", " max-parallel 2"]));
        }
        if kind == Kind::Wild {
            rules.push_str(self.rng.pick(&[
                "",
                "",
                " max-failures 2",
                " max-failure-rate 30%",
                " max-failure-rate 50% min-reports 2",
            ]));
            rules.push_str(self.rng.pick(&["", "", " success 50%", " deadline 10m"]));
            rules.push_str(self.rng.pick(&["", "", "", "", " approval"]));
        }
        rules
    }

    fn pause(&mut self, longest: usize) {
        let most = PAUSES_SECS[..longest][self.rng.below(longest as u64) as usize];
        let secs = 1 + self.rng.below(most);
        self.line(&format!("after {secs}s"));
    }

    fn gentle(&mut self) {
        for _ in 0..self.rng.between(1, 8) {
            self.pause(3);
            self.disturb();
        }
        self.line("repair");
        self.line("after 2h");
        self.line("check-end");
        self.line("expect rollout completed");
        self.line("expect installed 1.1.0 on all");
    }

    /// Nothing by which it could end in another way.
    fn disturb(&mut self) {
        match self.rng.below(7) {
            0 | 1 => {
                let deeds = self.rng.below(3);
                self.line(&format!("kill controller after {deeds}"));
                self.pause(3);
                self.line("kill controller");
                self.pause(3);
                self.line("restart controller");
            }
            2 => self.line("replay"),
            3 => {
                let node = self.node();
                self.line(&format!("cut-network {node}"));
                let secs = 1 + self.rng.below(45);
                self.line(&format!("after {secs}s"));
                self.line(&format!("online {node}"));
            }
            4 => {
                self.line("kill controller");
                self.pause(2);
                self.line("restart controller");
            }
            5 => {
                let node = self.node();
                self.line(&format!("lock {node}"));
                self.pause(5);
                self.line(&format!("unlock {node}"));
            }
            _ => {}
        }
    }

    fn steady(&mut self) {
        let count = 2 + self.rng.below(6);
        self.versions = 0;
        self.line("# steady");
        self.line(&format!("fleet {count} pi in all"));
        self.nodes.extend((1..=count).map(|n| format!("pi-{n}")));
        self.line("runs 1.0.0");
        self.line("after 2h");
        self.start_in_steps();
        for _ in 0..self.rng.between(1, 5) {
            for _ in 0..self.rng.below(5) {
                self.pause(3);
                self.disturb();
            }
            self.line("repair");
            self.line("after 2h");
            self.line("check-end");
            let (lose, double) = (self.rng.pick(&[0, 5, 20]), self.rng.pick(&[0, 10, 30]));
            let delay = self.rng.pick(&[1, 5, 20]);
            self.line(&format!("messages lose {lose}% double {double}% delay {delay}s"));
            self.step();
        }
        self.line("repair");
        self.line("after 2h");
        self.line("check-end");
    }

    /// What people do when all is at rest.
    fn step(&mut self) {
        let version = format!("1.{}.0", self.rng.below(self.versions + 1));
        match self.rng.below(12) {
            0..5 => self.line("approve"),
            5 => self.line("pause"),
            6 | 7 => self.line("resume acknowledging all"),
            8 => {
                let how = self.rng.pick(&["keep", "revert"]);
                self.line(&format!("abort {how}"));
            }
            9 => self.line(&format!("announce {version} to all")),
            10 => {
                let revert = self.rng.pick(&["", " revert"]);
                self.line(&format!("withdraw {version} from all{revert}"));
            }
            _ => self.start_in_steps(),
        }
    }

    /// A rollout that waits for people again and again, and that failures do not stop: how many there are is a matter of time.
    fn start_in_steps(&mut self) {
        self.versions += 1;
        let version = format!("1.{}.0", self.versions);
        self.line(&format!("release {version}"));
        self.break_some(&version);
        for waves in ["1", "1, 50%", "100%"] {
            let approval = self.rng.pick(&["", " approval"]);
            self.line(&format!("plan all waves {waves} max-failures 99 success 1%{approval}"));
        }
        self.line(&format!("start {version}"));
    }

    fn wild(&mut self) {
        for _ in 0..self.rng.between(2, 14) {
            self.pause(PAUSES_SECS.len());
            match self.rng.below(20) {
                0..2 => self.kill(),
                2..9 => self.harm_node(),
                9..14 => self.person(),
                14 => self.line("replay"),
                15 => {
                    let node = self.node();
                    let group = self.rng.pick(&["all", "canary"]);
                    let verb = self.rng.pick(&["join", "leave"]);
                    self.line(&format!("{verb} {node} {group}"));
                }
                16 if self.nodes.len() < 10 => {
                    let name = format!("late-{}", self.nodes.len());
                    let groups = self.rng.pick(&["all", "all, canary"]);
                    self.line(&format!("arrive {name} in {groups}"));
                    self.nodes.push(name);
                }
                16 | 17 => {
                    let back = self.rng.pick(&["", "back "]);
                    let time = self.rng.pick(&["90s", "2h", "40d"]);
                    self.line(&format!("clock controller {back}{time}"));
                }
                18 => self.other_app(),
                _ => {
                    let node = self.node();
                    self.line(&format!("retire {node}"));
                }
            }
        }
        if self.rng.permille(400) {
            self.line("messages well");
            self.line("restart controller");
            self.line("after 3h");
            self.line("check-rollouts");
        }
        self.line("repair");
        self.line("after 2h");
        self.line("check-end");
        self.line("finish");
    }

    fn kill(&mut self) {
        if self.rng.permille(500) {
            let deeds = self.rng.below(4);
            self.line(&format!("kill controller after {deeds}"));
            self.pause(3);
        }
        self.line("kill controller");
        self.pause(4);
        self.line("restart controller");
    }

    fn harm_node(&mut self) {
        let node = self.node();
        match self.rng.below(14) {
            0..2 => self.line(&format!("offline {node}")),
            2..4 => self.line(&format!("cut-network {node}")),
            4..7 => self.line(&format!("online {node}")),
            7 => {
                let step = self.rng.pick(&STEPS);
                self.line(&format!("cut-power {node} after {step}"));
                self.pause(4);
                self.line(&format!("power {node}"));
            }
            8 => {
                self.line(&format!("cut-power {node}"));
                self.pause(5);
                self.line(&format!("power {node}"));
            }
            9 => {
                let trouble = self.rng.pick(&["store-down", "store-up", "disk-full", "disk-free"]);
                self.line(&format!("{trouble} {node}"));
            }
            10 => self.line(&format!("slow {node} 20m")),
            11 | 12 => {
                let verb = self.rng.pick(&["lock", "unlock"]);
                self.line(&format!("{verb} {node}"));
            }
            _ => {
                let time = self.rng.pick(&["20s", "3m", "20m"]);
                self.line(&format!("ill {node} for {time}"));
            }
        }
    }

    fn person(&mut self) {
        match self.rng.below(14) {
            0..2 => self.line("pause"),
            2..6 => {
                let known = self.rng.pick(&["", " acknowledging all"]);
                self.line(&format!("resume{known}"));
            }
            6..8 => self.line("approve"),
            8 => {
                let how = self.rng.pick(&["keep", "revert"]);
                self.line(&format!("abort {how}"));
            }
            9 => {
                let version = self.rng.pick(&["1.0.0", "1.1.0"]);
                self.line(&format!("announce {version} to all"));
            }
            10 => {
                let revert = self.rng.pick(&["", " revert"]);
                self.line(&format!("withdraw 1.1.0 from all{revert}"));
            }
            _ => {
                self.versions += 1;
                let version = format!("1.{}.0", self.versions);
                self.line(&format!("release {version}"));
                self.break_some(&version);
                self.plan(Kind::Wild, false);
                self.line(&format!("start {version}"));
            }
        }
    }

    /// A rollout of another app on the same nodes.
    fn other_app(&mut self) {
        self.apps += 1;
        let app = format!("app-{}", self.apps);
        self.line(&format!("app {app}"));
        self.line("release 1.0.0");
        self.plan(Kind::Wild, false);
        self.line("start 1.0.0");
        self.line("app web");
    }
}
