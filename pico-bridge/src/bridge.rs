//! The bridge: it sees Picos come and go, and runs a node for each that is there.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use agent::{
    About, Pulse, RunError, Settings,
    enroll::{self, EnrollError, News},
};
use machine::Fault;
use schemas::id::NodeId;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    device::{Device, Presence},
    firmware::{UP_WITHIN, flashing::Flashing, keep::Keep},
    guard::{Guarded, Probed},
    installer::PicoInstaller,
    nodes::{Nodes, NodesError},
    ports::Ports,
    probe::probe,
    repl::ReplError,
};

/// How often Picos are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What cannot be had now is tried again after so long.
const AGAIN: Duration = Duration::from_secs(2);
/// Firmware that a chip did not take is tried again after so long.
const FLASH_AGAIN: Duration = Duration::from_secs(30);
/// A Pico that is away for so long was unplugged.
const UNPLUGGED: Duration = Duration::from_secs(3);
/// The same while it boots, for it was told to.
const LOST: Duration = Duration::from_secs(12);

/// What all nodes of a bridge have in common.
#[derive(Debug, Clone)]
pub(crate) struct Bridge {
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) ports: Ports,
    /// Becomes true when the bridge is to end.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Why a Pico has no node now.
#[derive(Debug, thiserror::Error)]
enum NotNow {
    #[error(transparent)]
    Nodes(#[from] NodesError),
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    #[error("cannot ask it who it is")]
    Probe(#[from] ReplError),
    #[error("the serial number on USB is {usb}, that of its flash is {flash}")]
    OtherId { usb: String, flash: String },
    #[error(transparent)]
    Run(#[from] RunError),
}

impl NotNow {
    fn advice(&self) -> &'static str {
        match self {
            Self::Nodes(error) => error.advice(),
            Self::Enroll(error) => error.advice(),
            Self::Probe(_) => {
                "see that MicroPython 1.17 or newer is on it, and that no other program has its port"
            }
            Self::OtherId { .. } => "flash it with MicroPython of its own board",
            Self::Run(error) => error.advice(),
        }
    }
}

impl Bridge {
    /// Looks after every Pico that ever comes, until the bridge is to end.
    pub(crate) async fn run(mut self) {
        let (mut known, mut tasks) = (BTreeSet::new(), JoinSet::new());
        for (serial, node) in self.nodes.in_flash() {
            if known.insert(serial.clone()) {
                info!(%node, serial, "Pico may wait for its firmware");
                tasks.spawn(self.clone().look_after(serial, node));
            }
        }
        loop {
            for plugged in self.ports.list() {
                if known.insert(plugged.serial.clone()) {
                    let Some(node) = self.nodes.name(&plugged.serial) else {
                        warn!(
                            serial = plugged.serial,
                            "Pico is left alone: no name can be made of its serial number"
                        );
                        continue;
                    };
                    info!(%node, serial = plugged.serial, usb = plugged.usb_path, "Pico is there");
                    tasks.spawn(self.clone().look_after(plugged.serial, node));
                }
            }
            if timeout(LOOK_EVERY, self.stop.wait_for(|stop| *stop)).await.is_ok() {
                break;
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// One Pico, from now on.
    async fn look_after(self, serial: String, node: NodeId) {
        let device = Device::new(&serial, self.ports.clone());
        let mut stop = self.stop.clone();
        loop {
            let turn = self.turn(&serial, &node, &device);
            match turn.await {
                Ok(()) => {}
                Err(error) => {
                    let hint = error.advice();
                    error!(%node, serial, hint, "{:#}", anyhow::Error::from(error));
                }
            }
            if timeout(AGAIN, stop.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
        }
    }

    /// From the time that it is there until it is not any more.
    async fn turn(&self, serial: &str, node: &NodeId, device: &Arc<Device>) -> Result<(), NotNow> {
        let mut stop = self.stop.clone();
        let settings = self.nodes.settings(node)?;
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = self.plugged(serial, &settings, device) => {}
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            let_in = come_in(&settings) => let_in?,
        }
        let listener = device.clone();
        let listening = tokio::spawn(async move { listener.listen().await });
        device.set_over(false);
        let ended = self.be_a_node(serial, settings, device).await;
        device.set_over(true);
        if device.is_halted() {
            // Whatever ended this, what is kept on it is to run.
            restart(device).await;
        }
        listening.abort();
        // The port is free for others from now on.
        let _ = listening.await;
        device.close().await;
        ended
    }

    /// Ends when the Pico is there, as one that runs. In BOOTSEL it gets what it waits for.
    async fn plugged(&self, serial: &str, settings: &Settings, device: &Arc<Device>) {
        let flashing = Flashing::new(device.clone(), Keep::new(settings.clone()));
        let (since, mut is_said) = (Instant::now(), false);
        while self.ports.find(serial).is_none() {
            if let Err(Fault { reason, text, .. }) = flashing.resume().await {
                error!(node = %settings.node, %reason, text, hint = reason.advice(), "Pico did not get its firmware");
                sleep(FLASH_AGAIN).await;
            }
            if !is_said && since.elapsed() > UP_WITHIN {
                is_said = flashing.remind();
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn be_a_node(&self, serial: &str, settings: Settings, device: &Arc<Device>) -> Result<(), NotNow> {
        let mut stop = self.stop.clone();
        let probed = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            probed = first_look(device) => probed?,
        };
        if !probed.id.eq_ignore_ascii_case(serial) {
            return Err(NotNow::OtherId { usb: serial.to_owned(), flash: probed.id });
        }
        let node = settings.node.clone();
        if probed.slots.active().is_none() {
            // Nothing of ours is on it that the node would start.
            restart(device).await;
        }
        self.note_port(serial, &settings);
        say_what_it_is(&node, &probed);
        let about = self.about(serial, &probed);
        let joint = self.nodes.joint(&node);
        let make = |notices| {
            Arc::new(PicoInstaller::new(settings.clone(), device.clone(), &probed, about, joint, notices))
        };
        let pulse = |pulse| {
            if pulse == Pulse::Ready {
                info!(%node, "Node is there");
            }
        };
        let ends = async {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = unplugged(device) => info!(%node, "Pico is not there any more"),
            }
        };
        Ok(agent::run(settings.clone(), make, pulse, ends).await?)
    }

    /// Where it is plugged in is all that is known of it in BOOTSEL.
    fn note_port(&self, serial: &str, settings: &Settings) {
        let keep = Keep::new(settings.clone());
        let (mut known, plugged) = (keep.load(), self.ports.find(serial));
        serial.clone_into(&mut known.serial);
        known.came_up();
        known.usb_path = plugged.map_or(known.usb_path, |plugged| plugged.usb_path);
        if let Err(Fault { text, .. }) = keep.store(&known) {
            warn!(node = %settings.node, text, "Port of the Pico is not kept: cut in the middle of firmware, it would wait");
        }
    }

    fn about(&self, serial: &str, probed: &Probed) -> About {
        About {
            kind: "pico".to_owned(),
            model: probed.machine.clone(),
            serial: serial.to_owned(),
            via: self.nodes.via().to_string(),
            agent: probed.agent(),
        }
    }
}

/// Asks to be let into the fleet, where it is not yet. The Pico itself is not touched before.
async fn come_in(settings: &Settings) -> Result<(), EnrollError> {
    if settings.record.exists() {
        return Ok(());
    }
    let node = settings.node.clone();
    let mut last = None;
    enroll::enroll(settings, |news| {
        if last.as_ref() == Some(news) {
            return;
        }
        match news {
            News::Waiting { words, key } => {
                let hint = format!("compare the words, then: publisher node approve {node} --group GROUP");
                info!(%node, %key, words, hint, "Pico waits to be let in");
            }
            News::Full => warn!(%node, "Too many nodes wait to be let in: asking again"),
            News::Unreachable(why) => warn!(%node, why, "Asking again to be let in"),
        }
        last = Some(news.clone());
    })
    .await?;
    info!(%node, "Let in");
    Ok(())
}

/// Asks the Pico what is on it. One that was left in the middle of something is restarted by its watchdog first.
async fn first_look(device: &Device) -> Result<Probed, ReplError> {
    const TRIES: u32 = 8;
    let mut tried = 0;
    loop {
        let asking = async {
            let claim = device.claim().await?;
            let answer = async { probe(&mut claim.enter().await?).await };
            let answer = answer.await;
            if answer.is_err() {
                claim.give_up();
            }
            answer
        };
        match asking.await {
            Ok(probed) => {
                device.note_slots(probed.slots.clone());
                return Ok(probed);
            }
            Err(error) => {
                tried += 1;
                if tried == TRIES {
                    return Err(error);
                }
                tracing::debug!(%error, "Pico does not say what it is");
                sleep(LOOK_EVERY).await;
            }
        }
    }
}

fn say_what_it_is(node: &NodeId, probed: &Probed) {
    let [major, minor, patch] = probed.version;
    info!(%node, machine = probed.machine, micropython = format!("{major}.{minor}.{patch}"), slots = ?probed.slots, "Pico says what it is");
    if probed.guarded() == Guarded::Foreign {
        let hint = "to let it be deployed to: publisher pico provision NODE";
        warn!(%node, hint, "Pico has a main.py of its own and is left as it is");
    }
}

/// Has it boot, so that what is kept on it runs.
async fn restart(device: &Device) {
    let booting = async {
        device.claim().await?.reset().await?;
        Ok::<_, ReplError>(())
    };
    if let Err(error) = booting.await {
        info!(%error, "Pico is not back after its boot");
    }
}

/// Ends when the Pico has been away for longer than a boot takes.
async fn unplugged(device: &Device) {
    let mut presence = device.presence();
    loop {
        let now = *presence.borrow_and_update();
        let Presence::Away(since) = now else {
            if presence.changed().await.is_err() {
                return;
            }
            continue;
        };
        let patience = if device.is_booting() { LOST } else { UNPLUGGED };
        if since.elapsed() >= patience && !device.is_flashing() {
            return;
        }
        // Whatever comes first: it is looked at again.
        let _ = timeout(LOOK_EVERY, presence.changed()).await;
    }
}
