//! A scenario as it is played in the simulator.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use machine::{Saved, Slot};
use rollout::course::Weight;
use schemas::{
    id::{AppId, GroupId, NodeId, Revision},
    order::OrderState,
    rollout::{CourseState, Wish},
    time::UnixTime,
    topic::{Kind, NodeTopic},
};

use super::{
    command::{Command, Nodes, Wished, names, starts},
    draft::Draft,
};
use crate::simulator::{
    apps::Behaviour,
    disk::Disk,
    fleet::{
        device::Device,
        office::{MANDATE_SECS, Recipe, Start},
        world::{Step, World},
    },
};

/// A scenario on its way.
pub(crate) struct Play {
    pub(crate) world: World,
    pub(crate) app: AppId,
    /// The plan of the next rollout, so far.
    draft: Draft,
    /// How everything stood each time that it was at rest.
    pub(super) rests: Vec<BTreeSet<String>>,
}

impl Default for Play {
    fn default() -> Self {
        Self {
            world: World::new(1),
            app: "web".parse().expect("is an app name"),
            draft: Draft::default(),
            rests: Vec::new(),
        }
    }
}

impl Play {
    /// Does what a line says.
    pub(crate) fn perform(&mut self, command: &Command) -> Step {
        match command {
            Command::Seed(seed) => self.world.rng = crate::simulator::rng::Rng::new(*seed),
            Command::App(app) => self.app = app.clone(),
            Command::Fleet { count, prefix, groups } => self.fleet(*count, prefix, groups)?,
            Command::Arrive { node, groups } => self.arrive(node.clone(), groups)?,
            Command::Label { node, key, value } => {
                let device = self.place(node)?;
                self.world.devices[device].record.labels.insert(key.clone(), value.clone());
                self.publish_record(device)?;
            }
            Command::Platform { node, platform } => {
                let device = self.place(node)?;
                self.world.devices[device].platform.clone_from(platform);
            }
            Command::Join { .. } | Command::Leave { .. } | Command::Retire(_) => self.regroup(command)?,
            Command::Runs { version, nodes } => self.runs(version, nodes)?,
            Command::Release { version, floor, platform, breaks } => {
                self.release(version, floor.as_deref(), platform.as_deref())?;
                if let Some((nodes, how)) = breaks {
                    self.breaks(version, nodes, how)?;
                }
            }
            Command::Breaks { version, nodes, how } => self.breaks(version, nodes, how)?,
            Command::Missing { version, is_missing } => {
                let digest = self.digest(version)?;
                if *is_missing {
                    self.world.missing.insert(digest);
                } else {
                    self.world.missing.remove(&digest);
                }
            }
            Command::Plan(line) => self.draft.write(line),
            Command::Start { version, after_ms, mandate_ms } => {
                self.start(version, *after_ms, *mandate_ms)?;
            }
            Command::Wish(wished) => self.wish(wished)?,
            Command::Announce { version, group } => self.order(version, group, OrderState::Active)?,
            Command::Withdraw { version, group, revert } => {
                self.order(version, group, OrderState::Withdrawn { revert: *revert })?;
            }
            Command::After(time_ms) => self.world.live_until(self.world.now_ms + time_ms)?,
            Command::Expect(expected) => self.expect(expected)?,
            Command::CheckEnd => {
                self.check_end()?;
                self.rests.push(self.standing());
            }
            Command::CheckRollouts => self.check_rollouts()?,
            Command::Finish => self.finish()?,
            command => self.upset(command)?,
        }
        Ok(())
    }

    pub(crate) fn place(&self, node: &NodeId) -> Result<usize, String> {
        self.world.places.get(node).copied().ok_or_else(|| format!("there is no node {node}"))
    }

    pub(crate) fn places(&self, nodes: &Nodes) -> Result<Vec<usize>, String> {
        match nodes {
            Nodes::All => Ok((0..self.world.devices.len()).collect()),
            Nodes::These(nodes) => nodes.iter().map(|node| self.place(node)).collect(),
        }
    }

    fn fleet(&mut self, count: usize, prefix: &str, groups: &[GroupId]) -> Step {
        for name in names(count, prefix) {
            self.arrive(name.parse().map_err(|_| format!("`{name}` is no node"))?, groups)?;
        }
        Ok(())
    }

    fn arrive(&mut self, node: NodeId, groups: &[GroupId]) -> Step {
        if self.world.places.contains_key(&node) {
            return Err(format!("{node} is there already"));
        }
        let device = self.world.devices.len();
        self.world.places.insert(node.clone(), device);
        self.world.devices.push(Device::new(node, groups.to_vec()));
        self.publish_record(device)?;
        self.world.touch(device);
        self.world.connect(device)
    }

    /// Ops signs the record of a node anew.
    fn publish_record(&mut self, device: usize) -> Step {
        let of = &self.world.devices[device];
        let payload = self.world.office.record(&of.record, &of.name);
        let topic = self.world.topic(Kind::Node(of.name.clone(), NodeTopic::Record));
        self.world.publish(&topic, &Rc::from(payload))
    }

    fn regroup(&mut self, command: &Command) -> Step {
        let (Command::Join { node, .. } | Command::Leave { node, .. } | Command::Retire(node)) = command
        else {
            return Ok(());
        };
        let device = self.place(node)?;
        let record = &mut self.world.devices[device].record;
        record.seq += 1;
        match command {
            Command::Join { group, .. } if !record.groups.contains(group) => {
                record.groups.push(group.clone());
            }
            Command::Leave { group, .. } => record.groups.retain(|of| of != group),
            Command::Retire(_) => record.is_active = false,
            _ => {}
        }
        self.publish_record(device)
    }

    fn release(&mut self, version: &str, floor: Option<&str>, platform: Option<&str>) -> Step {
        let floor = match floor {
            Some(floor) => {
                self.world.office.made(&self.app, floor).ok_or("the floor is no release")?.release.counter.0
            }
            None => 0,
        };
        let platform = platform.unwrap_or("any").to_owned();
        self.world.office.release(&self.app, &Recipe { version: version.to_owned(), floor, platform });
        Ok(())
    }

    pub(crate) fn digest(&self, version: &str) -> Result<schemas::id::Digest, String> {
        let made = self.world.office.made(&self.app, version);
        made.map(|made| made.signed.digest())
            .ok_or_else(|| format!("there is no release {version} of {}", self.app))
    }

    fn breaks(&mut self, version: &str, nodes: &Nodes, how: &str) -> Step {
        let digest = self.digest(version)?;
        let behaviour = behaviour(how)?;
        match nodes {
            Nodes::All => self.world.breaks.extend([((None, digest), behaviour)]),
            Nodes::These(nodes) => {
                let of_nodes = nodes.iter().map(|node| ((Some(node.clone()), digest), behaviour));
                self.world.breaks.extend(of_nodes);
            }
        }
        Ok(())
    }

    /// The nodes have a release since before the story begins.
    fn runs(&mut self, version: &str, nodes: &Nodes) -> Step {
        if self.world.office.made(&self.app, version).is_none() {
            self.release(version, None, None)?;
        }
        let made = self.world.office.made(&self.app, version).ok_or("no release")?.clone();
        for device in self.places(nodes)? {
            let of = &self.world.devices[device];
            let group = of.groups.first().cloned().ok_or("a node in no group")?;
            let slot = Slot {
                release: made.signed.digest(),
                version: version.to_owned(),
                counter: made.release.counter,
                min_counter: made.release.min_counter,
                commit: String::new(),
                notes: String::new(),
                revision: Revision(0),
                group,
                part: made.release.parts[0].clone(),
                since: UnixTime(1),
            };
            let tree = slot.part.tree_hash;
            let journal = Saved { current: Some(slot.clone()), ..Saved::new(self.app.clone()) };
            let slots = BTreeMap::from([(tree, slot)]);
            let disk = Disk { journal: Some(journal), link: Some(tree), slots, ..Disk::default() };
            let app = self.app.clone();
            self.world.install(device, &app, disk)?;
        }
        Ok(())
    }

    fn order(&mut self, version: &str, group: &GroupId, state: OrderState) -> Step {
        let made = self
            .world
            .office
            .made(&self.app, version)
            .ok_or_else(|| format!("there is no release {version}"))?;
        let (made, at) = (made.clone(), self.world.wall());
        let announcement = self.world.office.announce(&made, group, state, at);
        let topic = self.world.topic(Kind::Release(group.clone(), self.app.clone()));
        self.world.publish(&topic, &Rc::from(announcement.to_bytes()))
    }

    fn start(&mut self, version: &str, after_ms: u64, mandate_ms: Option<u64>) -> Step {
        let (plan, groups) = self.draft.clone().of(&self.app);
        let at = self.world.wall();
        let start = Start {
            app: &self.app,
            version,
            plan,
            groups,
            not_before: if after_ms > 0 { at.plus_secs(after_ms / 1_000) } else { UnixTime(0) },
            expires: at.plus_secs(mandate_ms.map_or(MANDATE_SECS, |ms| ms / 1_000)),
        };
        let planned =
            self.world.office.start(start, at).ok_or_else(|| format!("there is no release {version}"))?;
        self.draft = Draft::default();
        self.world.tell_done(&starts(version, &self.app));
        let topic = self.world.topic(Kind::Plan(self.app.clone()));
        self.world.publish(&topic, &Rc::from(planned.to_bytes()))
    }

    /// A person wants something else of the rollout.
    pub(super) fn wish(&mut self, wished: &Wished) -> Step {
        let failed = self.failed();
        let planned = self.world.office.wish(&self.app, |rollout| match wished {
            Wished::Pause => rollout.wish = Wish::Pause,
            Wished::Abort { revert } => rollout.wish = Wish::Abort { revert: *revert },
            Wished::Approve => rollout.approved += 1,
            Wished::Resume { acknowledged } => {
                rollout.wish = Wish::Run;
                match acknowledged {
                    None => {}
                    Some(Nodes::These(nodes)) => rollout.acknowledged.extend(nodes.iter().cloned()),
                    Some(Nodes::All) => rollout.acknowledged.extend(failed),
                }
            }
        });
        let Some(planned) = planned else { return Err(format!("there is no rollout of {}", self.app)) };
        self.world.tell_done(wished.words());
        let topic = self.world.topic(Kind::Plan(self.app.clone()));
        self.world.publish(&topic, &Rc::from(planned.to_bytes()))
    }

    /// Nodes of which the controller says that they failed.
    fn failed(&self) -> Vec<NodeId> {
        let Some(conductor) = self.world.controller.as_ref().and_then(|of| of.desk.conductor(&self.app))
        else {
            return Vec::new();
        };
        let failed = conductor.seats().filter(|(_, _, state)| state.weight() == Weight::Failure);
        failed.map(|(node, ..)| node.clone()).collect()
    }

    /// How the rollout of the app stands, as the controller says it.
    pub(crate) fn state(&self) -> Option<&CourseState> {
        let controller = self.world.controller.as_ref()?;
        controller.desk.conductor(&self.app).map(rollout::course::Conductor::state)
    }
}

fn behaviour(how: &str) -> Result<Behaviour, String> {
    Ok(match how {
        "unhealthy" => Behaviour::Sick,
        "silent" => Behaviour::Silent,
        "exits" => Behaviour::Exits { after_ms: 700 },
        "stale" => Behaviour::Stale,
        "mute" => Behaviour::Mute,
        "cuts-off" => Behaviour::CutsOff,
        "wont-start" => Behaviour::WontStart,
        "not" => Behaviour::Good,
        other => {
            return Err(format!(
                "`{other}` is no way to break: unhealthy, exits, stale, cuts-off, wont-start or not"
            ));
        }
    })
}
