//! One client's connection, from CONNECT to its end. A small task: it holds a stream, and its place in the hub.

mod packets;

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tracing::{debug, trace};

use super::{
    Shared,
    codec::{self, BadPacket, Frame, Packet, Protocol, Reason},
    handshake::{self, Guest},
    hub::Event,
    session::{End, Taken},
    topic::{InvalidTopic, TopicName},
    transport::Peer,
    wire::{Step, Wire},
};

/// MQTT 3.1.4: a client that has not said who it is after this long is cut off.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A client that takes nothing for this long is cut off.
const STALL_LIMIT: Duration = Duration::from_secs(15);

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum Over {
    #[error("client said good-bye")]
    InPeace,
    #[error("client said good-bye and wants its will to be published")]
    WithWill,
    #[error("client closed the connection")]
    Closed,
    #[error("connection lost")]
    Io(#[from] std::io::Error),
    #[error("bad packet")]
    Packet(#[from] BadPacket),
    #[error("bad filter")]
    Filter(#[from] InvalidTopic),
    #[error("nothing heard within one and a half keep-alives")]
    Silent,
    #[error("client takes nothing")]
    Stalled,
    #[error("ended by the relay: {0:?}")]
    Ended(End),
    #[error("the relay stops")]
    Stopped,
}

struct Connection<'a, S> {
    wire: Wire<S>,
    guest: Guest,
    shared: &'a Shared,
    last_heard: Instant,
    /// Since when the client takes nothing.
    stalled: Option<Instant>,
    /// The topics that the client has given aliases, from alias 1 on.
    aliases: Vec<Option<TopicName>>,
    /// Another time for which the session is to be kept, if the client said one.
    expiry_secs: Option<u32>,
}

/// Serves one client until its connection is over.
pub(super) async fn serve<S>(stream: S, peer: Peer, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = Wire::new(stream);
    // Boxed, so that its memory is given back when it is done.
    let entry = timeout(CONNECT_LIMIT, Box::pin(handshake::welcome(&mut wire, &peer, &shared))).await;
    let mut guest = match entry {
        Ok(Ok(guest)) => guest,
        Ok(Err(no_entry)) => {
            if no_entry.is_denial() {
                shared.denials.note(format_args!("{peer}: {}", crate::chain(&no_entry)));
            }
            debug!(%peer, reason = %crate::chain(&no_entry), "client not admitted");
            return;
        }
        Err(_late) => return debug!(%peer, "client did not connect in time"),
    };
    debug!(%peer, client = %guest.id, user = guest.user.name(), "client connected");
    guest.attached.farewell.begin();
    peer.admission.grant();
    let mut connection = Connection {
        wire,
        guest,
        shared: &shared,
        last_heard: Instant::now(),
        stalled: None,
        aliases: Vec::new(),
        expiry_secs: None,
    };
    // The users may have changed since this one logged in; the hub hears of changes after this.
    let is_current = shared.access.is_current(&connection.guest.user);
    let over = if is_current { connection.run().await } else { Over::Ended(End::NotAuthorized) };
    // Who was taken out leaves nothing behind: no session, and no will.
    let is_out = matches!(over, Over::Ended(End::NotAuthorized));
    let expiry_secs = if is_out { Some(0) } else { connection.expiry_secs };
    // The hub need not wait for what the client may never take.
    connection.guest.attached.farewell.say(is_out || matches!(over, Over::InPeace), expiry_secs);
    debug!(%peer, client = %connection.guest.id, reason = %crate::chain(&over), "client disconnected");
    Box::pin(connection.part(&over)).await;
}

impl Over {
    /// What a client of MQTT 5 is told.
    fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Packet(bad) => bad.reason,
            Self::Filter(_) => Reason::TopicFilterInvalid,
            Self::Silent => Reason::KeepAliveTimeout,
            Self::Ended(End::TakenOver) => Reason::SessionTakenOver,
            Self::Ended(End::NotStored) => Reason::ImplementationSpecificError,
            Self::Ended(End::NotAuthorized) => Reason::NotAuthorized,
            Self::Ended(End::Shutdown) | Self::Stopped => Reason::ServerShuttingDown,
            Self::InPeace | Self::WithWill | Self::Closed | Self::Io(_) | Self::Stalled => return None,
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn run(&mut self) -> Over {
        let timer = sleep_until(self.next_check());
        tokio::pin!(timer);
        // MQTT 3.1.4: a client may send on without waiting for CONNACK.
        if let Err(over) = self.read().await {
            return over;
        }
        loop {
            if let Err(over) = self.turn(timer.as_mut()).await {
                return over;
            }
        }
    }

    /// Sends what there is, then waits for one thing to happen.
    async fn turn(&mut self, mut timer: Pin<&mut Sleep>) -> Result<(), Over> {
        if let Err(over) = self.take() {
            // What is acknowledged is acknowledged, if the client takes it at once.
            self.wire.write_now().await?;
            return Err(over);
        }
        self.write().await?;
        if let Some(stalled) = self.stalled_at()
            && stalled < timer.deadline()
        {
            timer.as_mut().reset(stalled);
        }
        // Who does not take our answers is not asked for more questions.
        let want_read = !self.wire.out.is_full();
        let session = Arc::clone(&self.guest.attached.session);
        if !want_read {
            // Whom nobody listens to is not silent; whether it still takes anything is watched all the same.
            self.last_heard = Instant::now();
        }
        tokio::select! {
            biased;
            step = self.wire.step(want_read) => match step? {
                Step::Read => self.read().await,
                Step::Wrote => {
                    self.stalled = None;
                    Ok(())
                }
                Step::Closed => Err(Over::Closed),
            },
            () = session.changed() => Ok(()),
            () = timer.as_mut() => self.check_time(timer),
        }
    }

    /// Says good-bye in MQTT 5 (MQTT-3.14.0-1: only after a CONNACK that let the client in), and ends the stream so
    /// that the client can read it.
    async fn part(&mut self, over: &Over) {
        let Some(reason) = over.reason().filter(|_| self.guest.protocol == Protocol::V5) else {
            // MQTT-3.1.4-5 (v3: MQTT-3.1.4-4): also who said good-bye in the same breath "MUST" get its CONNACK. It may be gone
            // by now.
            let _ = self.wire.write_now().await;
            return;
        };
        let max_bytes = self.wire.out.terms().maximum_packet_bytes;
        let last = codec::disconnect(reason, &crate::chain(over), max_bytes);
        // The client may be gone, or take nothing any more.
        let _ = self.wire.finish_with(last.freeze()).await;
    }

    fn take(&mut self) -> Result<(), Over> {
        match self.guest.attached.session.take(&mut self.wire.out) {
            Taken::Ended(end) => Err(Over::Ended(end)),
            Taken::Lagged => self.send(Event::CatchUp(self.guest.attached.from)),
            Taken::All | Taken::Congested => Ok(()),
        }
    }

    async fn write(&mut self) -> Result<(), Over> {
        if self.wire.out.is_empty() {
            return Ok(());
        }
        while self.wire.write_now().await? > 0 {
            self.stalled = None;
            self.take()?;
        }
        if self.wire.out.is_empty() {
            self.stalled = None;
        } else {
            self.stalled.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn check_time(&self, mut timer: Pin<&mut Sleep>) -> Result<(), Over> {
        let now = Instant::now();
        if self.silent_at().is_some_and(|limit| limit <= now) {
            return Err(Over::Silent);
        }
        if self.stalled_at().is_some_and(|limit| limit <= now) {
            return Err(Over::Stalled);
        }
        timer.as_mut().reset(self.next_check());
        Ok(())
    }

    /// MQTT-3.1.2-22 (v3: MQTT-3.1.2-24): one and a half times the keep-alive.
    fn silent_at(&self) -> Option<Instant> {
        let patience = Duration::from_millis(u64::from(self.guest.keep_alive_secs) * 1500);
        (!patience.is_zero()).then(|| self.last_heard + patience)
    }

    fn stalled_at(&self) -> Option<Instant> {
        self.stalled.map(|since| since + STALL_LIMIT)
    }

    fn next_check(&self) -> Instant {
        let limits = [self.silent_at(), self.stalled_at()];
        limits.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + Duration::from_hours(1))
    }

    async fn read(&mut self) -> Result<(), Over> {
        self.last_heard = Instant::now();
        while let Some(frame) = Frame::take(&mut self.wire.input, self.shared.max_packet_bytes)? {
            let packet = Packet::read(frame, self.guest.protocol)?;
            trace!(client = %self.guest.id, ?packet, "received");
            self.handle(packet).await?;
        }
        self.wire.release_input();
        Ok(())
    }

    fn send(&self, event: Event) -> Result<(), Over> {
        self.shared.events.send(event).map_err(|_| Over::Stopped)
    }
}
