//! `publisher keys`.

use std::path::Path;

use anyhow::Result;
use rollout::{Fleet, Ordered};
use schemas::{
    announcement::Announcement,
    id::KeyId,
    root::{Role, Trust},
    seal::{RoleDocument, SecretKey, Signed},
    topic::Kind,
};
use serde::Serialize;

use super::{block_on, node, order::learn};
use crate::{
    cli::{KeyRole, KeysCommand},
    clock,
    exit::Exit,
    home::Home,
    screen::Screen,
    session::Session,
    show::{amount, table},
};

/// Carries out one of the commands about keys.
pub(super) fn run(dir: &Path, command: &KeysCommand, screen: &Screen) -> Result<Exit> {
    match command {
        KeysCommand::List => list(&Home::open(dir)?, screen),
        KeysCommand::Rotate { role, lost } => block_on(rotate(dir, (*role).into(), *lost, screen)),
    }
}

impl From<KeyRole> for Role {
    fn from(role: KeyRole) -> Self {
        match role {
            KeyRole::Root => Self::Root,
            KeyRole::Release => Self::Release,
            KeyRole::Ops => Self::Ops,
        }
    }
}

#[derive(Serialize)]
struct Listed {
    role: &'static str,
    key: KeyId,
    threshold: usize,
    of: usize,
    is_here: bool,
}

#[derive(Serialize)]
struct Ring {
    root_version: u64,
    root_fingerprint: String,
    expires: String,
    keys: Vec<Listed>,
}

fn list(home: &Home, screen: &Screen) -> Result<Exit> {
    let ring = Ring {
        root_version: home.trust.version(),
        root_fingerprint: home.trust.digest().to_string(),
        expires: home.trust.expires().to_string(),
        keys: Role::ALL.into_iter().flat_map(|role| listed(home, role)).collect(),
    };
    if screen.is_json() {
        screen.json(&ring)?;
        return Ok(Exit::Done);
    }
    let row = |key: &Listed| {
        let place = if key.is_here { format!("keys/{}.key", key.role) } else { "not here".to_owned() };
        vec![key.role.to_owned(), key.key.to_string(), format!("{} of {}", key.threshold, key.of), place]
    };
    let rows: Vec<_> = ring.keys.iter().map(row).collect();
    screen.say(&table(&["ROLE", "KEY", "NEEDED", "WHERE"], &rows));
    screen.say(&format!(
        "root {}, fingerprint {}, counts until {}",
        ring.root_version, ring.root_fingerprint, ring.expires
    ));
    Ok(Exit::Done)
}

fn listed(home: &Home, role: Role) -> Vec<Listed> {
    let (named, here) = (home.trust.keys(role), home.key(role).ok().map(|key| key.public()));
    let list = |key: &schemas::id::PublicKey| Listed {
        role: role.name(),
        key: key.id(),
        threshold: named.threshold(),
        of: named.keys().len(),
        is_here: here == Some(*key),
    };
    named.keys().iter().map(list).collect()
}

#[derive(Serialize)]
struct Changed {
    role: &'static str,
    key: KeyId,
    root_version: u64,
    root_fingerprint: String,
    signed_again: Vec<String>,
    taken_off: Vec<String>,
}

/// Changes the key with the bus at hand. First everything that is retained there is signed so that it is believed before and
/// after, then the change is made, and then nodes hear of it.
async fn rotate(dir: &Path, role: Role, lost: bool, screen: &Screen) -> Result<Exit> {
    let before = Home::open(dir)?;
    let now = clock::plausible(clock::now())?;
    let changed = Session::with(&before, async |session| {
        let mut fleet = session.read_fleet(&before).await?;
        if !lost {
            learn(&before, &fleet)?;
        }
        let rotation = before.prepare_rotation(role, lost, now)?;
        let mut changed = Changed {
            role: role.name(),
            key: rotation.key.public().id(),
            root_version: rotation.trust.version(),
            root_fingerprint: rotation.trust.digest().to_string(),
            signed_again: Vec::new(),
            taken_off: Vec::new(),
        };
        if role != Role::Root {
            let again = Again { role, lost, key: &rotation.key, old: &before.trust, new: &rotation.trust };
            again.publish(&before, session, &fleet, &mut changed).await?;
        }
        if role == Role::Ops {
            // Records were signed again in their folders.
            node::sync(&before, session, &mut Fleet::new(before.trust.clone())).await?;
        }
        before.rotate(&rotation)?;
        let home = Home::open(dir)?;
        let (topic, chain) = (Kind::Trust.of(&home.settings.fleet), home.chain()?.to_bytes());
        session.publish(topic.clone(), chain.clone()).await?;
        session.read_back(&mut fleet, &topic, &chain).await?;
        Ok(changed)
    })
    .await?;
    show(&changed, screen)?;
    Ok(Exit::Done)
}

/// How announcements that the bus has are believed after a change of keys.
struct Again<'a> {
    role: Role,
    lost: bool,
    key: &'a SecretKey,
    old: &'a Trust,
    new: &'a Trust,
}

impl Again<'_> {
    /// Signs again what the bus retains, and takes off what would not be believed any more.
    async fn publish(
        &self,
        home: &Home,
        session: &Session,
        fleet: &Fleet,
        changed: &mut Changed,
    ) -> Result<()> {
        for ordered in fleet.believed_orders() {
            let order = &ordered.announced.order;
            let topic = Kind::Release(order.group.clone(), order.app.clone()).of(&home.settings.fleet);
            let again = self.sign(ordered);
            let told = if again.is_some() { &mut changed.signed_again } else { &mut changed.taken_off };
            told.push(format!("{}/{}", order.group, order.app));
            session.publish(topic, again.unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// The same announcement with the signature of the new key, if that makes it believed.
    fn sign(&self, ordered: &Ordered) -> Option<Vec<u8>> {
        let mut announcement = ordered.announcement.clone();
        match self.role {
            Role::Release if !self.lost => self.add_to(&mut announcement.release),
            Role::Ops if !self.lost => self.add_to(&mut announcement.order),
            _ => {}
        }
        let bytes = announcement.to_bytes();
        let order = &ordered.announced.order;
        let is_believed = announcement.verify(self.new, &order.group, &order.app).is_ok();
        (is_believed && bytes.len() <= Announcement::MAX_BYTES).then_some(bytes)
    }

    /// Nodes that do not know the new root yet believe it as well.
    fn add_to<T: RoleDocument>(&self, document: &mut Signed<T>) {
        let old = self.old.keys(self.role).keys();
        document.retain_signatures(|id| old.iter().any(|key| key.id() == id));
        document.sign(std::slice::from_ref(self.key));
    }
}

fn show(changed: &Changed, screen: &Screen) -> Result<()> {
    if screen.is_json() {
        return screen.json(changed);
    }
    let Changed { role, key, root_version, signed_again, taken_off, .. } = changed;
    screen.say(&format!(
        "root {root_version}: {role} is {key} from now on; make a new backup of the folder `keys`"
    ));
    if !signed_again.is_empty() {
        let count = amount::count(signed_again.len(), "announcement");
        screen.say(&format!("signed {count} again: {}", signed_again.join(", ")));
    }
    if !taken_off.is_empty() {
        screen.say(&format!("taken off the bus, announce again what is to run: {}", taken_off.join(", ")));
    }
    Ok(())
}
