//! Putting a node out, and looking at one.

use anyhow::Result;
use rollout::{Fleet, Node};
use schemas::{
    id::{GroupId, NodeId},
    record::{Record, RecordStatus},
    topic::{Kind, NodeTopic},
};
use serde_json::json;

use super::{enroll::waits, sync};
use crate::{
    exit::Exit,
    home::{Home, nodes::Kept},
    problem::problem,
    screen::Screen,
    session::Session,
    show::clean,
};

/// Says that a node is out, and sees that the bus has that. Our relay cuts it off and clears what it said; another broker lets it
/// in until its own user list says otherwise.
pub(super) async fn retire(home: &Home, name: &NodeId, yes: bool, screen: &Screen) -> Result<Exit> {
    let question = format!("{name} cannot come back with the key that it has. Retire it?");
    let is_known = home.nodes()?.iter().any(|known| known.record.node == *name);
    if is_known && !yes && !screen.confirm(&question, "say --yes when it is meant")? {
        screen.say("nothing was changed");
        return Ok(Exit::Failed);
    }
    if let Kept::Waits(file) = home.retire_node(name, home.signing_time()?)? {
        return Err(problem("its record has too few signatures", waits(name, &file)));
    }
    Session::with(home, async |session| {
        let mut fleet = session.read_fleet(home).await?;
        sync(home, session, &mut fleet).await?;
        let record = home.nodes()?.into_iter().find(|known| known.record.node == *name);
        let bytes = record.map(|known| known.signed.to_bytes()).unwrap_or_default();
        let topic = Kind::Node(name.clone(), NodeTopic::Record).of(&home.settings.fleet);
        session.read_back(&mut fleet, &topic, &bytes).await
    })
    .await?;
    if screen.is_json() {
        screen.json(&json!({ "node": name, "status": "retired" }))?;
    } else {
        screen.say(&format!("{name} is retired: the bus lets it in no more, and nobody believes it"));
    }
    Ok(Exit::Done)
}

/// Shows a node's record, and what the bus knows of it.
pub(super) async fn show(home: &Home, name: &NodeId, screen: &Screen) -> Result<Exit> {
    let known = home.nodes()?.into_iter().find(|known| known.record.node == *name);
    let (fleet, unreachable) = match Session::with(home, async |session| session.read_fleet(home).await).await
    {
        Ok(fleet) => (fleet, None),
        Err(error) => (Fleet::new(home.trust.clone()), Some(format!("{error:#}"))),
    };
    let node = fleet.nodes().get(name);
    let record = node.and_then(Node::record).or(known.as_ref().map(|known| &known.record));
    let Some(record) = record else {
        return Err(problem(
            format!("no node {name} is known here or on the bus"),
            "see the nodes with `publisher status` and `publisher node list`",
        ));
    };
    let report = node.and_then(Node::report);
    if screen.is_json() {
        let report = report.map(|report| &**report);
        let online = node.and_then(Node::online);
        let trouble = unreachable.as_deref().or(node.and_then(Node::disbelief));
        screen
            .json(&json!({ "record": &**record, "online": online, "report": report, "trouble": trouble }))?;
        return Ok(Exit::Done);
    }
    screen.say(&of_record(record));
    match (unreachable, node.and_then(Node::disbelief), report) {
        (Some(why), ..) => screen.warn(&format!("what it says is not known: {why}")),
        (_, Some(why), _) => screen.warn(&format!("what it says is not believed: {why}")),
        (.., Some(report)) => {
            let online = if node.and_then(Node::online) == Some(true) { "online" } else { "offline" };
            screen.say(&format!("{:<8} {online}, root {}", "is", report.root_version));
            for app in &report.apps {
                let version =
                    app.installed.as_ref().map_or("nothing yet".to_owned(), |slot| clean(&slot.version));
                screen.say(&format!(
                    "{:<8} {} {version}, {}",
                    "runs",
                    app.app,
                    app.phase.name().replace('_', " ")
                ));
            }
        }
        _ => screen.say(&format!("{:<8} has never said anything", "is")),
    }
    Ok(Exit::Done)
}

fn of_record(record: &Record) -> String {
    let groups: Vec<_> = record.groups.iter().map(GroupId::as_str).collect();
    let labels: Vec<_> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let status = if record.status == RecordStatus::Active { "active" } else { "retired" };
    let since = record.head.issued_at;
    let mut lines = vec![
        format!("{:<8} {}", "node", record.node),
        format!("{:<8} {status} since {since}, record {}", "status", record.seq),
        format!("{:<8} {}", "key", record.key.id()),
        format!("{:<8} {}", "groups", groups.join(", ")),
    ];
    if !labels.is_empty() {
        lines.push(format!("{:<8} {}", "labels", clean(&labels.join(", "))));
    }
    lines.join("\n")
}
