//! `publisher env`: the environment of nodes' apps, in their signed records.

use std::collections::BTreeMap;

use anyhow::Result;
use schemas::{
    id::{GroupId, NodeId},
    record::{RecordStatus, loads_code},
};
use serde_json::json;

use super::{
    block_on,
    node::{change::change_record, publish_all},
};
use crate::{
    cli::{EnvCommand, EnvList, EnvSet},
    exit::Exit,
    home::{Home, nodes::KnownNode},
    problem::problem,
    screen::Screen,
    show::{clean, table},
};

/// Carries out one of the commands.
pub(super) fn run(home: &Home, command: EnvCommand, screen: &Screen) -> Result<Exit> {
    match command {
        EnvCommand::Set(set) => {
            let (nodes, words) = nodes_and_words(home, set)?;
            let pairs = words.iter().map(|word| pair(word)).collect::<Result<BTreeMap<_, _>>>()?;
            change(home, &nodes, |env| env.extend(pairs.clone()), screen)
        }
        EnvCommand::Unset(unset) => {
            let (nodes, names) = nodes_and_words(home, unset)?;
            change(home, &nodes, |env| env.retain(|name, _| !names.contains(name)), screen)
        }
        EnvCommand::List(which) => list(home, &which, screen),
    }
}

fn change(
    home: &Home,
    nodes: &[NodeId],
    change: impl Fn(&mut BTreeMap<String, String>),
    screen: &Screen,
) -> Result<Exit> {
    let mut changed = Vec::new();
    for node in nodes {
        if change_record(home, node, |record| change(&mut record.env))? {
            changed.push(node);
        }
    }
    block_on(async {
        publish_all(home).await?;
        Ok(Exit::Done)
    })?;
    if screen.is_json() {
        screen.json(&json!({ "changed": changed }))?;
    } else if changed.is_empty() {
        screen.say("nothing changes");
    } else {
        for node in changed {
            screen.say(&format!("{node}: its apps start anew with it, nothing is built"));
        }
    }
    Ok(Exit::Done)
}

fn list(home: &Home, which: &EnvList, screen: &Screen) -> Result<Exit> {
    let nodes = home.nodes()?;
    let is_wanted = |node: &&KnownNode| match (&which.node, &which.group) {
        (Some(name), _) => node.record.node == *name,
        (None, Some(group)) => is_in(node, group),
        (None, None) => node.record.status == RecordStatus::Active,
    };
    let wanted: Vec<_> = nodes.iter().filter(is_wanted).collect();
    if screen.is_json() {
        let env: BTreeMap<_, _> =
            wanted.iter().map(|node| (node.record.node.as_str(), &node.record.env)).collect();
        screen.json(&env)?;
        return Ok(Exit::Done);
    }
    let of_node = |node: &&KnownNode| -> Vec<Vec<String>> {
        let row =
            |(name, value): (&String, &String)| vec![node.record.node.to_string(), clean(name), clean(value)];
        node.record.env.iter().map(row).collect()
    };
    let rows: Vec<_> = wanted.iter().flat_map(of_node).collect();
    if rows.is_empty() {
        screen.say("nothing is set: `publisher env set NODE NAME=VALUE` does");
    } else {
        screen.say(&table(&["NODE", "NAME", "VALUE"], &rows));
    }
    Ok(Exit::Done)
}

/// The nodes that are meant, and the variables.
fn nodes_and_words(home: &Home, arguments: EnvSet) -> Result<(Vec<NodeId>, Vec<String>)> {
    let EnvSet { mut words, group } = arguments;
    let nodes = if let Some(group) = group {
        nodes_of(home, &group)?
    } else {
        let first = words.remove(0);
        let node = first.parse().map_err(|_| {
            problem(format!("`{first}` is not the name of a node"), "write NODE or --group GROUP first")
        })?;
        vec![node]
    };
    if words.is_empty() {
        return Err(problem(
            "no variable is named",
            "write it behind the node, as in CAMPAIGN_NAME=turboship",
        ));
    }
    Ok((nodes, words))
}

fn nodes_of(home: &Home, group: &GroupId) -> Result<Vec<NodeId>> {
    let nodes = home.nodes()?;
    let names: Vec<_> =
        nodes.iter().filter(|node| is_in(node, group)).map(|node| node.record.node.clone()).collect();
    if names.is_empty() {
        return Err(problem(format!("no node was added here to {group}"), "see `publisher node list`"));
    }
    Ok(names)
}

fn is_in(node: &KnownNode, group: &GroupId) -> bool {
    node.record.status == RecordStatus::Active && node.record.groups.contains(group)
}

fn pair(word: &str) -> Result<(String, String)> {
    let pair = word.split_once('=').filter(|(name, value)| {
        !name.is_empty() && !name.starts_with("DEPLOYBUS_") && !name.contains('\0') && !value.contains('\0')
    });
    let (name, value) = pair.ok_or_else(|| {
        problem(
            format!("`{}` is not a variable that can be set", clean(word)),
            "write it as NAME=VALUE; names that begin with DEPLOYBUS_ are set by the worker itself",
        )
    })?;
    if loads_code(name) {
        return Err(problem(
            format!("{name} makes programs load code, and nodes take none from a record"),
            "set it in [env] of the app's deploybus.toml, which the release key signs, or in the node's own pi-worker.toml",
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}
