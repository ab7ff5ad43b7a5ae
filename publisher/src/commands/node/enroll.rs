//! Nodes that make their own keys: invited, approved, or listed by a factory.

use std::{collections::BTreeSet, fs, path::Path, pin::pin};

use anyhow::{Context as _, Result};
use rollout::{Fleet, Node};
use schemas::{
    enroll::Request,
    id::{KeyId, NodeId},
    record::{Record, RecordStatus},
    seal::{Head, Verified},
    topic::Kind,
};
use serde_json::json;
use tokio::signal;

use super::{next_steps, sync};
use crate::{
    cli::{Membership, NodeApprove},
    exit::Exit,
    home::{
        Home,
        nodes::{Kept, NewNode, Place, copy_folder},
    },
    problem::{Advise as _, problem},
    screen::Screen,
    session::{News, Session},
};

/// Writes what is copied to the node, and waits until the node has come.
pub(super) async fn invite(
    home: &Home,
    new: &NewNode,
    out: Option<&Path>,
    is_waited_for: bool,
    screen: &Screen,
) -> Result<Exit> {
    let card = home.invite(new)?;
    if let Some(out) = out {
        copy_folder(&card, out)?;
    }
    let folder = out.unwrap_or(&card);
    screen.say(&format!("{} is invited by {}\n\n{}", new.name, folder.display(), next_steps(folder)));
    let key = if is_waited_for { wait_for(home, &new.name, screen).await? } else { None };
    if screen.is_json() {
        screen.json(&json!({ "node": new.name, "folder": folder, "has_come": key.is_some(), "key": key }))?;
    }
    Ok(if is_waited_for && key.is_none() { Exit::Interrupted } else { Exit::Done })
}

/// Waits until the invited node has asked and is let in; nothing when the person gives up.
async fn wait_for(home: &Home, name: &NodeId, screen: &Screen) -> Result<Option<KeyId>> {
    screen.note(&format!("waiting for {name}; Ctrl-C ends this, and the node is let in later"));
    let mut interrupted = pin!(signal::ctrl_c());
    Session::with(home, async |session| {
        let mut fleet = session.read_fleet(home).await?;
        loop {
            sync(home, session, &mut fleet).await?;
            if !home.invitations().iter().any(|invitation| invitation.node == *name) {
                let key = fleet.nodes().get(name).and_then(Node::record).map(|record| record.key.id());
                screen.say(&format!("{name} has come"));
                return Ok(key);
            }
            tokio::select! {
                news = session.next(&mut fleet) => match news {
                    Some(News::Changed(_) | News::Back) => {}
                    Some(News::Lost(lost)) => screen.note(&format!("bus: {lost}; connecting again")),
                    None => return Ok(None),
                },
                _ = &mut interrupted => return Ok(None),
            }
        }
    })
    .await
}

/// Lets in the nodes that prove that they were invited, and those that ask for another token with the key that they have. One
/// that cannot be let in holds up nobody else.
pub(super) fn admit_invited(home: &Home, fleet: &Fleet) -> Result<()> {
    let requests = || fleet.requests().values();
    for invitation in home.invitations() {
        let proven: Vec<_> = requests().filter(|request| invitation.is_for(request)).collect();
        let keys: BTreeSet<_> = proven.iter().map(|request| request.key).collect();
        match (proven.first(), keys.len()) {
            (Some(request), 1) => warn_if(home.accept(&invitation, request, home.signing_time()?), request),
            (Some(request), _) => tracing::warn!(
                "Several keys come by the invitation of {node}, so its card was copied: invite it again with `publisher node add {node} --invite`",
                node = request.node
            ),
            (None, _) => {}
        }
    }
    for request in requests() {
        let known = home.nodes()?.into_iter().find(|known| is_renewal(request, &known.record));
        if let Some(known) = known {
            let (groups, labels) = (known.record.groups.clone(), known.record.labels.clone());
            warn_if(home.admit(request, &Place { groups, labels }, false, home.signing_time()?), request);
        }
    }
    Ok(())
}

/// Whether a node that belongs to the fleet asks for another token, by the key and the record that it has: once, since its next
/// record has another number.
fn is_renewal(request: &Request, record: &Record) -> bool {
    record.status == RecordStatus::Active
        && (&record.node, record.key) == (&request.node, request.key)
        && request.renews == Some(record.seq)
        && record.login != Some(request.login)
}

fn warn_if(admitted: Result<Kept>, request: &Request) {
    match admitted {
        Ok(Kept::Counts) => {}
        Ok(Kept::Waits(file)) => tracing::warn!("{}", waits(&request.node, &file)),
        Err(error) => tracing::warn!("Left out the request of {}: {error:#}", request.node),
    }
}

/// What is to be done about a record that others have to sign.
pub(in crate::commands) fn waits(node: &NodeId, file: &Path) -> String {
    format!(
        "nothing has changed for {node} yet: others have to `publisher sign {}`, then `publisher node sync`",
        file.display()
    )
}

/// Takes the requests of those off the bus that are let in.
pub(super) async fn clear_requests(home: &Home, session: &Session, fleet: &mut Fleet) -> Result<()> {
    let is_in = |request: &Request| {
        let record = fleet.nodes().get(&request.node).and_then(Node::record);
        record.is_some_and(|record| record.key == request.key && record.login == Some(request.login))
    };
    let done: Vec<KeyId> =
        fleet.requests().iter().filter(|(_, request)| is_in(request)).map(|(key, _)| *key).collect();
    for key in done {
        let topic = Kind::Enroll(key).of(&home.settings.fleet);
        session.publish(topic.clone(), Vec::new()).await?;
        fleet.take(&topic, b"");
    }
    Ok(())
}

/// Lets in a node that asks, or those of a list.
pub(super) async fn approve(home: &Home, arguments: NodeApprove, screen: &Screen) -> Result<Exit> {
    let place = place(&arguments.membership);
    if let Some(list) = &arguments.list {
        return approve_list(home, list, &place, arguments.force, screen).await;
    }
    let Some(name) = &arguments.name else { return Ok(Exit::Usage) };
    Session::with(home, async |session| {
        let mut fleet = session.read_fleet(home).await?;
        let request = choose(&fleet, name, arguments.key)?;
        let said = fleet.words(&request);
        screen.say(&format!("{name} says: {said}"));
        let question = "does the node show the same words?";
        if !arguments.yes && !screen.confirm(question, "say --yes when they were compared")? {
            screen.say("not let in");
            return Ok(Exit::Failed);
        }
        let kept = home.admit(&request, &place, arguments.force, home.signing_time()?)?;
        if let Kept::Waits(file) = kept {
            return Err(problem("its record has too few signatures", waits(name, &file)));
        }
        sync(home, session, &mut fleet).await?;
        if screen.is_json() {
            screen.json(&json!({ "node": name, "key": request.key.id(), "words": said }))?;
        } else {
            screen.say(&format!("{name} is let in"));
        }
        Ok(Exit::Done)
    })
    .await
}

fn place(membership: &Membership) -> Place {
    Place { groups: membership.groups(), labels: membership.labels.iter().cloned().collect() }
}

fn choose(fleet: &Fleet, name: &NodeId, key: Option<KeyId>) -> Result<Verified<Request>> {
    let fits =
        |request: &&Verified<Request>| request.node == *name && key.is_none_or(|key| request.key.id() == key);
    let mut asking: Vec<_> = fleet.requests().values().filter(fits).cloned().collect();
    match asking.len() {
        0 => Err(problem(
            format!("no node asks to be let in as {name}"),
            "start `pi-worker enroll` on the node; `publisher status` shows who waits",
        )),
        1 => Ok(asking.remove(0)),
        count => {
            let keys: Vec<_> = asking.iter().map(|request| request.key.id().to_string()).collect();
            Err(problem(
                format!("{count} nodes ask to be let in as {name}: at most one of them is yours"),
                format!("compare words on the node, and say which key with --key: {}", keys.join(", ")),
            ))
        }
    }
}

/// Lets in those whose keys were listed where they were made.
async fn approve_list(home: &Home, list: &Path, place: &Place, force: bool, screen: &Screen) -> Result<Exit> {
    let what = || format!("cannot use {}", list.display());
    let text = fs::read_to_string(list).advise(what(), "name a file with a line for each node")?;
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let requests: Vec<Request> = lines
        .map(|(at, line)| {
            parse_line(home, line)
                // The line is not quoted: it may be of a file that has a key in it.
                .with_context(|| format!("line {}", at + 1))
                .advise(what(), "each line has a name, a public key and the digest of a token, as `pi-worker enroll --offline` prints it")
        })
        .collect::<Result<_>>()?;
    for request in &requests {
        if let Kept::Waits(file) = home.admit(request, place, force, home.signing_time()?)? {
            screen.warn(&waits(&request.node, &file));
        }
    }
    let names: Vec<_> = requests.iter().map(|request| request.node.to_string()).collect();
    let synced = Session::with(home, async |session| {
        let mut fleet = session.read_fleet(home).await?;
        sync(home, session, &mut fleet).await
    });
    if let Err(error) = synced.await {
        screen.note(&format!(
            "the records are not on the bus yet ({error:#}): `publisher node sync` publishes them"
        ));
    }
    if screen.is_json() {
        screen.json(&json!({ "nodes": names }))?;
    } else {
        screen.say(&format!("let in: {}", names.join(", ")));
    }
    Ok(Exit::Done)
}

fn parse_line(home: &Home, line: &str) -> Result<Request> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [node, key, login] = words[..] else { anyhow::bail!("it has {} words, not 3", words.len()) };
    Ok(Request {
        head: Head::new(home.settings.fleet.clone(), home.signing_time()?),
        node: node.parse()?,
        key: key.parse()?,
        login: login.parse()?,
        renews: None,
        proof: None,
    })
}
