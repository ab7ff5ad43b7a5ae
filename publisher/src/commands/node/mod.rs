//! `publisher node`: making, listing and publishing. Who makes its own key comes in through [`enroll`].

pub(super) mod change;
pub(super) mod enroll;
mod retire;

use std::path::Path;

use anyhow::Result;
use rollout::{Fleet, Node};
use schemas::{
    record::RecordStatus,
    root::Role,
    topic::{Kind, NodeTopic},
};
use serde::Serialize;

use self::enroll::{admit_invited, clear_requests};
use super::block_on;
use crate::{
    cli::{NodeAdd, NodeCommand},
    exit::Exit,
    home::{
        Home,
        init::is_loopback,
        nodes::{KnownNode, NewNode, copy_folder, prepare_copy},
    },
    screen::Screen,
    session::Session,
    show::table,
};

/// Carries out one of the node commands.
pub(super) fn run(home: &Home, command: NodeCommand, screen: &Screen) -> Result<Exit> {
    match command {
        NodeCommand::Add(add) => block_on(run_add(home, add, screen)),
        NodeCommand::Approve(approve) => block_on(enroll::approve(home, approve, screen)),
        NodeCommand::Change(change) => block_on(change::run(home, &change, screen)),
        NodeCommand::Retire { name, yes } => block_on(retire::retire(home, &name, yes, screen)),
        NodeCommand::Show { name } => block_on(retire::show(home, &name, screen)),
        NodeCommand::List => list(home, screen),
        NodeCommand::Sync => block_on(run_sync(home, screen)),
    }
}

async fn run_add(home: &Home, arguments: NodeAdd, screen: &Screen) -> Result<Exit> {
    let new = NewNode {
        name: arguments.name,
        groups: arguments.membership.groups(),
        labels: arguments.membership.labels.into_iter().collect(),
        env: arguments.env.into_iter().collect(),
        data: arguments.data,
        replace: arguments.force,
    };
    if let Some(out) = &arguments.out {
        prepare_copy(out, new.replace)?;
    }
    if arguments.invite {
        warn_of_loopback(home, screen);
        return enroll::invite(home, &new, arguments.out.as_deref(), !arguments.no_wait, screen).await;
    }
    let folder = home.add_node(&new, home.signing_time()?)?;
    if let Some(out) = &arguments.out {
        copy_folder(&folder, out)?;
    }
    let folder = arguments.out.unwrap_or(folder);
    warn_of_loopback(home, screen);
    let needed = home.trust.keys(Role::Ops).threshold();
    if needed > 1 {
        let record = home.path("nodes").join(new.name.as_str()).join("record.cbor");
        screen.warn(&format!(
            "its record needs {needed} signatures: let others `publisher sign {}`, then `publisher node sync`",
            record.display()
        ));
    } else if let Err(error) = publish_all(home).await {
        screen.note(&format!("its record is not on the bus yet, so the broker does not let it in ({error:#}): the next `publisher announce` or `publisher node sync` publishes it"));
    }
    show_added(&new, &folder, screen)
}

fn warn_of_loopback(home: &Home, screen: &Screen) {
    if is_loopback(home.settings.bus.first().host()) {
        screen.warn(&format!(
            "the bus is at {}, which only this machine reaches: for other machines make the fleet with --host",
            home.settings.bus
        ));
    }
}

fn show_added(new: &NewNode, folder: &Path, screen: &Screen) -> Result<Exit> {
    if screen.is_json() {
        let groups: Vec<_> = new.groups.iter().map(schemas::id::GroupId::as_str).collect();
        screen.json(&serde_json::json!({ "node": new.name, "groups": groups, "folder": folder }))?;
        return Ok(Exit::Done);
    }
    screen.say(&format!("node {} is in {}\n\n{}", new.name, folder.display(), next_steps(folder)));
    Ok(Exit::Done)
}

/// What is to be done with a node's folder.
fn next_steps(folder: &Path) -> String {
    format!(
        "next:\n  \
           copy {folder} to the node as /etc/deploybus\n  \
           on the node: pi-worker run --config /etc/deploybus/pi-worker.toml",
        folder = folder.display(),
    )
}

/// Publishes the records that the bus lacks.
pub(super) async fn publish_all(home: &Home) -> Result<Vec<String>> {
    Session::with(home, async |session| {
        let mut fleet = session.read_fleet(home).await?;
        sync(home, session, &mut fleet).await
    })
    .await
}

async fn run_sync(home: &Home, screen: &Screen) -> Result<Exit> {
    let published = publish_all(home).await?;
    if screen.is_json() {
        screen.json(&serde_json::json!({ "published": published }))?;
    } else if published.is_empty() {
        screen.say("the bus has all records");
    } else {
        screen.say(&format!("published the records of {}", published.join(", ")));
    }
    Ok(Exit::Done)
}

/// Publishes the records that the bus lacks or has in an older form, and names the nodes.
pub(super) async fn sync(home: &Home, session: &Session, fleet: &mut Fleet) -> Result<Vec<String>> {
    home.settle_drafts()?;
    admit_invited(home, fleet)?;
    let mut published = Vec::new();
    for KnownNode { signed, record } in home.nodes()? {
        let there = fleet.nodes().get(&record.node).and_then(Node::record);
        if there.is_some_and(|there| there.seq >= record.seq) {
            continue;
        }
        let topic = Kind::Node(record.node.clone(), NodeTopic::Record).of(&home.settings.fleet);
        session.publish(topic.clone(), signed.to_bytes()).await?;
        fleet.take(&topic, &signed.to_bytes());
        published.push(record.node.to_string());
    }
    clear_requests(home, session, fleet).await?;
    Ok(published)
}

#[derive(Serialize)]
struct Listed {
    node: String,
    groups: Vec<String>,
    labels: Vec<String>,
    status: RecordStatus,
    since: String,
}

fn list(home: &Home, screen: &Screen) -> Result<Exit> {
    let listed: Vec<Listed> = home.nodes()?.iter().map(listed).collect();
    if screen.is_json() {
        screen.json(&listed)?;
        return Ok(Exit::Done);
    }
    if listed.is_empty() {
        screen.say("no nodes yet: add one with `publisher node add NAME --group canary`");
        return Ok(Exit::Done);
    }
    let row = |node: Listed| {
        let status = if node.status == RecordStatus::Active { "active" } else { "retired" };
        vec![node.node, node.groups.join(","), node.labels.join(","), status.to_owned(), node.since]
    };
    let rows: Vec<_> = listed.into_iter().map(row).collect();
    screen.say(&table(&["NODE", "GROUPS", "LABELS", "STATUS", "SINCE"], &rows));
    Ok(Exit::Done)
}

fn listed(KnownNode { record, .. }: &KnownNode) -> Listed {
    Listed {
        node: record.node.to_string(),
        groups: record.groups.iter().map(ToString::to_string).collect(),
        labels: record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        status: record.status,
        since: record.head.issued_at.to_string(),
    }
}
