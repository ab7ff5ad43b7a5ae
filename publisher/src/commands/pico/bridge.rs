//! `publisher pico`: which Picos there are, and what is asked of the bridge that has one.

use anyhow::{Context as _, Result};
use rollout::{Fleet, Node};
use schemas::{
    hold::{Ask, AskKind},
    id::NodeId,
    status::Info,
    topic::{Kind, NodeTopic},
};
use serde_json::json;

use crate::{
    exit::Exit,
    home::Home,
    problem::problem,
    screen::Screen,
    session::Session,
    show::{clean, table},
};

/// How the topics of information name a Pico.
const KINDS: [&str; 2] = ["pico", "pico_w"];

/// Asks the bridge that has a Pico for something.
pub(super) async fn ask(home: &Home, node: &NodeId, what: AskKind, screen: &Screen) -> Result<Exit> {
    Session::with(home, async |session| {
        let fleet = session.read_fleet(home).await?;
        let infos = session.read_infos(home).await?;
        if !infos.iter().any(|info| info.node == *node && is_on_usb(info)) {
            return Err(problem(
                format!("{node} is no Pico that a bridge has"),
                "see those that there are with `publisher pico list`",
            ));
        }
        // What is asked for is not kept anywhere.
        if !is_online(&fleet, node) {
            return Err(problem(
                format!("{node} is offline and would not hear it"),
                "plug it in, or start the bridge on its Pi, and ask again",
            ));
        }
        let ask = Ask::of_node(what);
        let topic = Kind::Node(node.clone(), NodeTopic::Request).of(&home.settings.fleet);
        session.publish(topic, serde_json::to_vec(&ask).context("cannot write the request")?).await?;
        if screen.is_json() {
            screen.json(&ask)?;
        } else {
            screen.say(&told(node, what));
        }
        Ok(Exit::Done)
    })
    .await
}

fn told(node: &NodeId, what: AskKind) -> String {
    match what {
        AskKind::Release => {
            format!("asked for the port of {node}: it is free for ten minutes, with the app stopped")
        }
        AskKind::Take => format!("asked the bridge to take {node} again"),
        AskKind::Provision => format!("asked the bridge to bring the guard onto {node}"),
        _ => format!("asked {node} to {what}"),
    }
}

/// Shows the Picos.
pub(super) async fn list(home: &Home, screen: &Screen) -> Result<Exit> {
    Session::with(home, async |session| {
        let fleet = session.read_fleet(home).await?;
        let mut infos = session.read_infos(home).await?;
        infos.retain(|info| KINDS.contains(&info.kind.as_str()));
        infos.sort_by(|one, other| one.node.cmp(&other.node));
        if screen.is_json() {
            let row = |info: &Info| json!({ "online": is_online(&fleet, &info.node), "info": info });
            screen.json(&infos.iter().map(row).collect::<Vec<_>>())?;
        } else if infos.is_empty() {
            screen.say("no Pico is a node yet: plug one into a Pi on which `pico-bridge run` runs");
        } else {
            screen.say(&rows(&fleet, &infos));
        }
        Ok(Exit::Done)
    })
    .await
}

fn rows(fleet: &Fleet, infos: &[Info]) -> String {
    let row = |info: &Info| {
        let state = if is_online(fleet, &info.node) { "online" } else { "offline" };
        let via = if info.via.is_empty() { "-".to_owned() } else { clean(&info.via) };
        vec![
            info.node.to_string(),
            state.to_owned(),
            via,
            clean(&info.serial),
            clean(&info.model),
            clean(&info.agent),
        ]
    };
    let rows: Vec<_> = infos.iter().map(row).collect();
    table(&["PICO", "STATE", "VIA", "SERIAL", "MODEL", "BY"], &rows)
}

fn is_online(fleet: &Fleet, node: &NodeId) -> bool {
    fleet.nodes().get(node).and_then(Node::online) == Some(true)
}

/// One on Wi-Fi has no port that a bridge could let go of.
fn is_on_usb(info: &Info) -> bool {
    info.kind == KINDS[0] && !info.via.is_empty()
}

#[cfg(test)]
mod tests {
    use schemas::status::Timestamp;

    use super::*;
    use crate::samples::{Sample, idle};

    #[test]
    fn each_pico_has_a_row_and_what_it_says_of_itself_steers_no_terminal() {
        let sample = Sample::new();
        let mut fleet = sample.fleet(&[("pi-1", Some(idle(1))), ("pi-2", Some(idle(1)))]);
        fleet.take(&sample.topic("pi-2", NodeTopic::Availability), b"offline");
        let info = |node: &str, via: &str, model: &str| Info {
            node: node.parse().unwrap(),
            kind: "pico".into(),
            model: model.into(),
            serial: "e6614103e7452b2f".into(),
            via: via.into(),
            groups: Vec::new(),
            agent: "pico-bridge 0.1.0".into(),
            at: Timestamp::never(),
        };
        let infos = [info("pi-1", "pi-kitchen", "Pico"), info("pi-2", "", "\u{1b}[31mPico")];
        let shown = rows(&fleet, &infos);
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[1].starts_with("pi-1  online") && lines[1].contains("pi-kitchen"), "{shown}");
        assert!(lines[2].starts_with("pi-2  offline") && !shown.contains('\u{1b}'), "{shown}");
        assert!(is_on_usb(&infos[0]) && !is_on_usb(&infos[1]));
    }
}
