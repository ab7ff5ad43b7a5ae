//! What a node, a controller or a signer puts into its texts reaches a terminal as text, wherever it is shown.

use rollout::{
    Change, Desk, Event, Fleet, Follow,
    samples::{at, controller_key, desk, installed, look},
};
use schemas::{
    deploy_log::{Entry, Head as LogHead, What},
    id::{AppId, Digest},
    reason::Reason,
    report::{AppReport, Outcome, Refusal, Report, Target, Verdict},
    rollout::Controller,
    seal::{Head, Signed},
    status::Phase,
    topic::{Kind, NodeTopic},
};

use super::{
    follow, log, rollout as rollouts, status,
    watch::{Line, Watcher},
    why,
};
use crate::{
    exit::Exit,
    samples::{NOW, Sample, ended, node, node_key, outcome, working},
};

/// A title for the terminal, a cleared screen, a line that looks like ours, colours by C1, text that runs backwards.
const EVIL: &str = "=cmd\x1b]0;pwned\x07\x1b[2J\r\npi-9  web  1.1.0  good\u{9b}32m\u{202e}\u{7f}";
const PLAN: &str = "[[stage]]\ngroup = \"all\"\nwaves = [\"2\", \"100%\"]";

/// Everything that is shown of a fleet whose nodes, controller and signers write `text` wherever they can.
fn shown(text: &str) -> Vec<(&'static str, String)> {
    let sample = Sample::new();
    let mut fleet = sample.fleet(&[("pi-1", None), ("pi-2", None), ("pi-3", None)]);
    let planned = sample.planned(PLAN, 1, |_| {});
    let release = planned.release.digest();
    let (app, group): (AppId, _) = ("web".parse().unwrap(), "canary".parse().unwrap());
    let announcement = sample.announcement(50, 9, text);
    let topic = Kind::Release(group, "web".parse().unwrap()).of(sample.trust.fleet());
    fleet.take(&topic, &announcement.to_bytes());
    controller(&sample, &mut fleet, text);
    fleet.take(&Kind::Plan("web".parse().unwrap()).of(sample.trust.fleet()), &planned.to_bytes());
    let mut desk = desk(fleet);
    let mut lines = Vec::new();
    let mut watcher = Watcher::default();
    for round in 0..3 {
        look(&mut desk, at(0));
        for (at, name) in ["pi-1", "pi-2", "pi-3"].into_iter().enumerate() {
            let apps = match (at + round) % 3 {
                0 => waits(text),
                1 => failed(text, release),
                _ => runs(text),
            };
            report(&sample, &mut desk, (name, 2 + round as u64), apps, text);
            lines.extend(watcher.lines(desk.fleet(), &Change::Report(node(name))).iter().map(Line::plain));
        }
        lines.extend(watcher.lines(desk.fleet(), &Change::Course(app.clone())).iter().map(Line::plain));
    }
    let fleet = desk.fleet();
    let view = rollouts::views(fleet, NOW).remove(0);
    let follow = Follow::new(&sample.order(101, release), Digest::of(b"order"), fleet);
    let followed = follow.nodes().iter().map(|(name, progress)| follow::line(name, 4, progress));
    let whys = ["pi-1", "pi-2", "pi-3"].map(|name| why::why(fleet, &node(name), None, NOW).unwrap());
    vec![
        ("watch", lines.join("\n")),
        ("status", status::text(fleet, NOW)),
        ("why", whys.iter().map(why::text).collect::<Vec<_>>().join("\n")),
        ("rollout status", rollouts::text(&view, NOW, false)),
        ("follow", followed.collect::<Vec<_>>().join("\n")),
        ("summary", follow::summary(&follow, &app, text, Exit::NotKept)),
        ("log", logged(text)),
    ]
}

fn controller(sample: &Sample, fleet: &mut Fleet, program: &str) {
    let (head, key) = (Head::new(sample.trust.fleet().clone(), NOW), controller_key());
    let (until, leases) = (NOW, Vec::new());
    let controller = Controller { head, key: key.public(), program: program.into(), until, leases };
    let topic = Kind::Controller(key.public().id()).of(sample.trust.fleet());
    fleet.take(&topic, &Signed::seal(&controller, &[key]).to_bytes());
}

fn report(sample: &Sample, desk: &mut Desk, (name, seq): (&str, u64), app: AppReport, text: &str) {
    let refusal = Refusal {
        topic: text.into(),
        reason: Reason::BadSignature,
        text: text.into(),
        order: None,
        attack: true,
        times: 1,
        at: NOW,
    };
    let report = Report {
        head: Head::new(sample.trust.fleet().clone(), NOW),
        node: node(name),
        boot: 1,
        seq: schemas::id::Seq(seq),
        root_version: 1,
        clock_unset: false,
        apps: vec![app],
        refusals: vec![refusal],
    };
    let payload = Signed::seal(&report, &[node_key(name)]).to_bytes();
    desk.handle(Event::Message(&sample.topic(name, NodeTopic::Report), &payload), at(0));
}

fn waits(text: &str) -> AppReport {
    let report = working(101, Phase::Deferred, 0);
    let target = report.target.clone().unwrap();
    AppReport { target: Some(Target { waits_for: text.into(), version: text.into(), ..target }), ..report }
}

fn failed(text: &str, release: Digest) -> AppReport {
    ended(Outcome {
        release,
        version: text.into(),
        reason: Some(Reason::Unhealthy),
        text: text.into(),
        log_tail: vec![text.into(), text.into()],
        ..outcome(101, Verdict::RolledBack)
    })
}

fn runs(text: &str) -> AppReport {
    let kept = ended(outcome(50, Verdict::Kept));
    AppReport { installed: Some(installed(Digest::of(b"other"), text)), ..kept }
}

fn logged(text: &str) -> String {
    let entry = Entry {
        what: What::RolledBack,
        at: NOW,
        node: Some(node("pi-1")),
        version: text.into(),
        commit: text.into(),
        strategy: text.into(),
        reason: Some(Reason::Unhealthy),
        text: text.into(),
        log_tail: vec![text.into(), text.into()],
        ..Entry::default()
    };
    let link = LogHead::BEGIN.next(entry);
    [log::text(std::slice::from_ref(&link)), log::line(&link.entry), log::csv(&link.into())].join("\n")
}

#[test]
fn nothing_that_a_stranger_writes_steers_the_terminal_or_makes_a_line() {
    for ((command, harmless), (_, evil)) in shown("harmless").into_iter().zip(shown(EVIL)) {
        assert!(harmless.contains("harmless"), "{command} shows nothing of a stranger: {harmless}");
        let steers = evil.chars().find(|c| *c != '\n' && (c.is_control() || *c == '\u{202e}'));
        assert_eq!(steers, None, "{command}: {evil:?}");
        let lines = |text: &str| text.lines().count();
        assert_eq!(lines(&harmless), lines(&evil), "{command}:\n{harmless}\n{evil}");
    }
}
