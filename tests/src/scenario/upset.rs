//! What goes wrong in a scenario, and is put right.

use super::{
    command::{Command, ControllerChange, LinkChange, TroubleKind},
    play::Play,
};
use crate::simulator::fleet::{
    device::Trouble,
    hub::{Parcel, Peer},
    world::{Odds, Step},
};

impl Play {
    /// Something goes wrong, or is put right.
    pub(super) fn upset(&mut self, command: &Command) -> Step {
        match command {
            Command::Link { nodes, change } => {
                self.places(nodes)?.into_iter().try_for_each(|device| self.link(device, *change))?;
            }
            Command::CutPower { node, after } => {
                let device = self.place(node)?;
                match after {
                    Some(step) => self.world.devices[device].trouble.cut_after = Some(step.clone()),
                    None if self.world.devices[device].link.powered => self.world.cut_power(device)?,
                    None => {}
                }
            }
            Command::Trouble { nodes, what } => {
                self.places(nodes)?.into_iter().try_for_each(|device| self.trouble(device, *what))?;
            }
            Command::Messages { lose, double, delay_ms } => {
                self.world.odds = Odds { lose: *lose, double: *double, delay_ms: *delay_ms };
            }
            Command::Replay => {
                let peers = (0..self.world.devices.len()).map(Peer::Device).chain([Peer::Controller]);
                peers.for_each(|peer| self.world.hub.send(self.world.now_ms, Parcel::Again(peer)));
            }
            Command::Controller(ControllerChange::Kill) => {
                self.world.tell_done("the controller is killed");
                (self.world.controller, self.world.dies_after) = (None, None);
            }
            Command::Controller(ControllerChange::KillAfter(deeds)) => self.world.dies_after = Some(*deeds),
            Command::Controller(ControllerChange::Start) => {
                self.world.tell_done("the controller is started");
                self.world.start_controller();
            }
            Command::Clock { who: None, ahead_secs } => self.world.ahead_secs += ahead_secs,
            Command::Clock { who: Some(node), ahead_secs } => {
                let device = self.place(node)?;
                let apps = self.world.devices[device].apps.values_mut();
                apps.for_each(|node| node.ahead_secs += ahead_secs);
            }
            Command::Repair => self.repair()?,
            _ => {}
        }
        Ok(())
    }

    fn link(&mut self, device: usize, change: LinkChange) -> Step {
        let name = self.world.devices[device].name.clone();
        match change {
            LinkChange::Offline | LinkChange::Cut => {
                if self.world.devices[device].link.session {
                    let says_so = matches!(change, LinkChange::Offline);
                    self.world
                        .tell_done(&format!("{name}: {}", if says_so { "offline" } else { "network cut" }));
                }
                self.world.devices[device].link.wired = false;
                self.world.disconnect(device, matches!(change, LinkChange::Offline))?;
            }
            LinkChange::Online => {
                if !self.world.devices[device].link.wired {
                    self.world.tell_done(&format!("{name}: online"));
                }
                self.world.devices[device].link.wired = true;
                self.world.connect(device)?;
            }
            LinkChange::PowerOn => self.world.boot(device)?,
        }
        self.world.touch(device);
        Ok(())
    }

    fn trouble(&mut self, device: usize, what: TroubleKind) -> Step {
        let now_ms = self.world.now_ms;
        let of = &mut self.world.devices[device];
        match what {
            TroubleKind::Store(down) => of.trouble.store_down = down,
            TroubleKind::Disk(full) => of.trouble.disk_full = full,
            TroubleKind::Lock(is_locked) => return self.world.lock(device, is_locked),
            TroubleKind::Slow(slow_ms) => of.trouble.slow_ms = slow_ms,
            TroubleKind::Ill(time_ms) => {
                of.apps.values_mut().for_each(|node| node.ill_until_ms = now_ms + time_ms);
            }
        }
        self.world.touch(device);
        Ok(())
    }

    /// Nothing goes wrong any more.
    fn repair(&mut self) -> Step {
        self.world.tell_done("everything is repaired");
        self.world.odds = Odds::default();
        (self.world.dies_after, self.world.ahead_secs) = (None, 0);
        self.world.start_controller();
        for device in 0..self.world.devices.len() {
            let of = &mut self.world.devices[device];
            of.trouble = Trouble::default();
            of.link.wired = true;
            of.apps.values_mut().for_each(|node| node.ill_until_ms = 0);
            self.world.tell_holds(device)?;
            self.world.boot(device)?;
            self.world.connect(device)?;
            self.world.touch(device);
            self.world.hub.send(self.world.now_ms, Parcel::Again(Peer::Device(device)));
        }
        self.world.hub.send(self.world.now_ms, Parcel::Again(Peer::Controller));
        Ok(())
    }
}
