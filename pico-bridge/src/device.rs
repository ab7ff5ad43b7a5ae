//! One Pico: its port is held and drained at all times, what the guard says is heard, and whoever works on it has it alone.

mod claim;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{self, broadcast, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

pub(crate) use self::claim::Claim;
use crate::{
    guard::{DISARM, Said, Slots, State},
    port::{Port, PortError},
    ports::Ports,
    repl::{Repl, ReplError},
};

/// How often a Pico that is not there is looked for: hotplug events need a udevd, which containers have not.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often a port that somebody else has is asked for.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Stopping the watchdog is one write.
const DISARM_PATIENCE: Duration = Duration::from_secs(2);
/// Lines of an app that are kept: as many as a report takes.
const TAIL_LINES: usize = 50;
/// A line that is longer is no line.
const MAX_LINE_BYTES: usize = 1024;
/// Lines of the guard that wait for who listens.
const BACKLOG: usize = 64;
/// After a reset the same Pico is there again within that time.
pub(crate) const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Its port is open here; how often it was opened.
    There(u64),
    /// Another program has its port.
    Busy,
    /// It was let go of, for people.
    LetGo,
    /// It is not plugged in, since then.
    Away(Instant),
}

/// One Pico.
#[derive(Debug)]
pub(crate) struct Device {
    serial: String,
    ports: Ports,
    line: sync::Mutex<Option<Port>>,
    wanted: watch::Sender<usize>,
    presence: watch::Sender<Presence>,
    released: watch::Sender<Option<Instant>>,
    /// At its prompt, with nothing running.
    is_halted: AtomicBool,
    /// A reset is under way: being away is no news.
    is_booting: AtomicBool,
    /// Its firmware is replaced: being away is what is wanted.
    is_flashing: AtomicBool,
    /// Whether it has no node now: whoever works on it gives up.
    is_over: watch::Sender<bool>,
    heard: Mutex<Heard>,
    said: broadcast::Sender<Said>,
    lines: broadcast::Sender<String>,
}

/// What was heard of it.
#[derive(Debug, Default)]
struct Heard {
    part: Vec<u8>,
    tail: VecDeque<String>,
    slots: Slots,
    last: Option<Said>,
    opened: u64,
}

impl Device {
    /// The Pico with this serial number. It is held and listened to as long as [`Device::listen`] runs.
    pub(crate) fn new(serial: &str, ports: Ports) -> Arc<Self> {
        Arc::new(Self {
            serial: serial.to_owned(),
            ports,
            line: sync::Mutex::default(),
            wanted: watch::Sender::new(0),
            presence: watch::Sender::new(Presence::Away(Instant::now())),
            released: watch::Sender::new(None),
            is_halted: AtomicBool::new(false),
            is_booting: AtomicBool::new(false),
            is_flashing: AtomicBool::new(false),
            is_over: watch::Sender::new(false),
            heard: Mutex::default(),
            said: broadcast::Sender::new(BACKLOG),
            lines: broadcast::Sender::new(BACKLOG),
        })
    }

    /// Whether it is there, now and whenever that changes.
    pub(crate) fn presence(&self) -> watch::Receiver<Presence> {
        self.presence.subscribe()
    }

    /// What the guard says from now on.
    pub(crate) fn said(&self) -> broadcast::Receiver<Said> {
        self.said.subscribe()
    }

    /// What else it prints from now on.
    pub(crate) fn lines(&self) -> broadcast::Receiver<String> {
        self.lines.subscribe()
    }

    /// What the guard said last since the Pico booted.
    pub(crate) fn last(&self) -> Option<Said> {
        self.heard().last.clone()
    }

    /// What is known of the slots on it.
    pub(crate) fn slots(&self) -> Slots {
        self.heard().slots.clone()
    }

    /// Takes note of what is on it.
    pub(crate) fn note_slots(&self, slots: Slots) {
        self.heard().slots = slots;
    }

    /// The last lines that it printed.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.heard().tail.iter().cloned().collect()
    }

    /// Whether nothing runs on it, for it was interrupted.
    pub(crate) fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::Relaxed)
    }

    /// Whether it boots because it was told to.
    pub(crate) fn is_booting(&self) -> bool {
        self.is_booting.load(Ordering::Relaxed)
    }

    /// Whether its firmware is replaced.
    pub(crate) fn is_flashing(&self) -> bool {
        self.is_flashing.load(Ordering::Relaxed)
    }

    /// Its firmware is replaced from now on, or no longer.
    pub(crate) fn set_flashing(&self, is_so: bool) {
        self.is_flashing.store(is_so, Ordering::Relaxed);
    }

    /// It has a node from now on, or none any more.
    pub(crate) fn set_over(&self, is_so: bool) {
        self.is_over.send_replace(is_so);
    }

    /// Ends when it has no node any more.
    pub(crate) async fn over(&self) {
        // The device outlives whoever waits.
        let _ = self.is_over.subscribe().wait_for(|is_so| *is_so).await;
    }

    /// Its serial number.
    pub(crate) fn serial(&self) -> &str {
        &self.serial
    }

    /// Where it is looked for.
    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Lets go of the port until then, for people with tools of their own.
    pub(crate) fn release_until(&self, until: Option<Instant>) {
        self.released.send_replace(until);
    }

    /// Closes the port, which others may have then.
    pub(crate) async fn close(&self) {
        *self.line.lock().await = None;
        self.is_away();
    }

    /// Has it for oneself. What runs goes on until [`Claim::enter`].
    ///
    /// # Errors
    /// When it is not there, or somebody else has it.
    pub(crate) async fn claim(&self) -> Result<Claim<'_>, PortError> {
        self.wanted.send_modify(|wanted| *wanted += 1);
        let mut claim = Claim::of(self);
        let mut line = self.line.lock().await;
        self.open(&mut line)?;
        claim.take(line);
        Ok(claim)
    }

    /// Has it for oneself, whether it is there or not.
    pub(crate) async fn hold(&self) -> Claim<'_> {
        self.wanted.send_modify(|wanted| *wanted += 1);
        let mut claim = Claim::of(self);
        claim.take(self.line.lock().await);
        claim
    }

    /// Holds and drains the port, for as long as this is polled.
    pub(crate) async fn listen(&self) {
        let (mut wanted, mut released) = (self.wanted.subscribe(), self.released.subscribe());
        loop {
            // Who works on it comes first.
            if wanted.wait_for(|wanted| *wanted == 0).await.is_err() {
                return;
            }
            let until = *released.borrow_and_update();
            let mut line = self.line.lock().await;
            if let Some(until) = until.filter(|until| *until > Instant::now()) {
                self.let_go(&mut line, until, &mut released).await;
                continue;
            }
            let pause = match self.open(&mut line) {
                Ok(port) => {
                    let read = tokio::select! {
                        biased;
                        _ = wanted.wait_for(|wanted| *wanted > 0) => continue,
                        _ = released.changed() => continue,
                        read = port.read() => read,
                    };
                    if let Ok(bytes) = read {
                        self.hear(&bytes);
                        continue;
                    }
                    *line = None;
                    self.is_away();
                    LOOK_EVERY
                }
                Err(PortError::Busy(_)) => BUSY_PAUSE,
                Err(PortError::Gone(_)) => LOOK_EVERY,
            };
            drop(line);
            let _ = timeout(pause, wanted.changed()).await;
        }
    }

    /// Waits until it is there again after a reset.
    ///
    /// # Errors
    /// When it does not come back in time.
    pub(crate) async fn wait_back(&self, opened: u64, within: Duration) -> Result<(), ReplError> {
        let mut presence = self.presence();
        let is_back = |presence: &Presence| matches!(presence, Presence::There(count) if *count > opened);
        let back = timeout(within, presence.wait_for(is_back)).await.is_ok();
        self.is_booting.store(false, Ordering::Relaxed);
        if back { Ok(()) } else { Err(ReplError::Silent(within)) }
    }

    /// How often its port was opened.
    pub(crate) fn opened(&self) -> u64 {
        self.heard().opened
    }

    /// Closes the port until then. The app is stopped, and its watchdog: it would restart the Pico under people's hands.
    async fn let_go(
        &self,
        line: &mut Option<Port>,
        until: Instant,
        released: &mut watch::Receiver<Option<Instant>>,
    ) {
        let stopping = async { Repl::enter(self.open(line)?).await?.run(DISARM, DISARM_PATIENCE).await };
        let is_stopped = stopping.await.is_ok();
        *line = None;
        info!(serial = self.serial, is_stopped, "Port is let go of, for other programs");
        self.presence.send_replace(Presence::LetGo);
        tokio::select! {
            () = sleep_until(until) => {}
            _ = released.changed() => {}
        }
        self.release_until(None);
        info!(serial = self.serial, "Port is taken again, and the Pico boots");
        let starting = async {
            Repl::enter(self.open(line)?).await?.reset().await;
            Ok::<_, ReplError>(())
        };
        if let Err(error) = starting.await {
            info!(serial = self.serial, %error, "Pico was not told to boot");
        }
        *line = None;
    }

    /// The open port.
    fn open<'a>(&self, line: &'a mut Option<Port>) -> Result<&'a Port, PortError> {
        if line.is_none() {
            let Some(plugged) = self.ports.find(&self.serial) else {
                self.is_away();
                return Err(PortError::Gone(std::io::ErrorKind::NotFound.into()));
            };
            match Port::open(&plugged.port) {
                Ok(port) => {
                    debug!(serial = self.serial, port = %plugged.port.display(), "Port is open");
                    *line = Some(port);
                    self.is_there();
                }
                Err(error @ PortError::Busy(_)) => {
                    if self.presence.send_replace(Presence::Busy) != Presence::Busy {
                        let hint = "close Thonny, mpremote or the terminal that has it";
                        warn!(serial = self.serial, hint, "{error}");
                    }
                    return Err(error);
                }
                Err(error) => {
                    self.is_away();
                    return Err(error);
                }
            }
        }
        line.as_ref().ok_or_else(|| PortError::Gone(std::io::ErrorKind::NotFound.into()))
    }

    fn is_there(&self) {
        let mut heard = self.heard();
        heard.opened += 1;
        heard.part.clear();
        heard.last = None;
        self.is_halted.store(false, Ordering::Relaxed);
        self.presence.send_replace(Presence::There(heard.opened));
    }

    fn is_away(&self) {
        self.presence.send_if_modified(|presence| {
            let was_there = !matches!(presence, Presence::Away(_));
            if was_there {
                *presence = Presence::Away(Instant::now());
            }
            was_there
        });
    }

    /// Takes the lines out of what the Pico prints.
    fn hear(&self, bytes: &[u8]) {
        let mut heard = self.heard();
        for &byte in bytes {
            if byte != b'\n' && heard.part.len() < MAX_LINE_BYTES {
                heard.part.push(byte);
                continue;
            }
            let line = std::mem::take(&mut heard.part);
            self.hear_line(&mut heard, String::from_utf8_lossy(&line).trim_end());
        }
    }

    fn hear_line(&self, heard: &mut Heard, line: &str) {
        if let Some(said) = Said::parse(line) {
            debug!(serial = self.serial, ?said, "Guard says");
            heard.slots.hear(&said);
            // That it went back is known; what runs is what counts.
            if said.state != State::RolledBack {
                heard.last = Some(said.clone());
            }
            // Nobody may listen.
            let _ = self.said.send(said);
        } else if !line.is_empty() {
            if heard.tail.len() == TAIL_LINES {
                heard.tail.pop_front();
            }
            heard.tail.push_back(line.to_owned());
            // Nobody may listen.
            let _ = self.lines.send(line.to_owned());
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
