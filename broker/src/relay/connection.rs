//! One client's connection, from CONNECT to its end. A small task: it holds a stream, and its place in the hub.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use rumqttc::{Packet, QoS, Subscribe, Unsubscribe};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tracing::{debug, trace};

use super::{
    Shared,
    handshake::{self, Guest},
    hub::{Ack, Event, Origin, Publish},
    message::{Grant, Message, PacketId},
    packet::{self, BadPacket, Reply},
    session::{End, Taken},
    topic::{Filter, InvalidTopic, TopicName},
    wire::{Step, Wire},
};
use crate::access::Action;

/// MQTT-3.1.4: a client that has not said who it is after this long is cut off.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A client that takes nothing for this long is cut off.
const STALL_LIMIT: Duration = Duration::from_secs(15);
/// What a small packet counts for in the memory of what is on its way.
const MIN_PERMITS: usize = 256;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum Over {
    #[error("client said good-bye")]
    InPeace,
    #[error("client closed the connection")]
    Closed,
    #[error("connection lost")]
    Io(#[from] std::io::Error),
    #[error("bad packet")]
    Packet(#[from] BadPacket),
    #[error("bad topic")]
    Topic(#[from] InvalidTopic),
    #[error("packet that a client never sends, or not now")]
    Unexpected,
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
}

/// Tells the hub that a connection is over, however it came to that.
struct Farewell<'a> {
    shared: &'a Shared,
    event: Option<Event>,
}

/// Serves one client until its connection is over.
pub(super) async fn serve<S>(stream: S, peer: SocketAddr, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = Wire::new(stream);
    // Boxed, so that its memory is given back when it is done.
    let entry = timeout(CONNECT_LIMIT, Box::pin(handshake::welcome(&mut wire, &shared))).await;
    let guest = match entry {
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
    let from = guest.attached.from;
    let detach = |in_peace| Event::Detach { key: from.key, attachment: from.attachment, in_peace };
    let mut farewell = Farewell { shared: &shared, event: Some(detach(false)) };
    let mut connection =
        Connection { wire, guest, shared: &shared, last_heard: Instant::now(), stalled: None };
    let over = connection.run().await;
    if matches!(over, Over::InPeace) {
        farewell.event = Some(detach(true));
    }
    debug!(%peer, client = %connection.guest.id, reason = %crate::chain(&over), "client disconnected");
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            // When the hub is gone, so are all sessions.
            let _ = self.shared.events.send(event);
        }
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

    /// MQTT-3.1.2-24: one and a half times the keep-alive.
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
        while let Some(packet) = packet::next(&mut self.wire.input, self.shared.max_packet_bytes)? {
            trace!(client = %self.guest.id, ?packet, "received");
            self.handle(packet).await?;
        }
        self.wire.release_input();
        Ok(())
    }

    async fn handle(&mut self, packet: Packet) -> Result<(), Over> {
        let session = &self.guest.attached.session;
        match packet {
            Packet::Publish(publish) => self.publish(publish).await?,
            Packet::PubAck(ack) => session.acknowledged(PacketId(ack.pkid)),
            Packet::PubRel(release) => {
                let id = PacketId(release.pkid);
                session.release(id);
                self.reply(&Reply::PubComp(id));
            }
            Packet::Subscribe(subscribe) => self.subscribe(subscribe).await?,
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe).await?,
            Packet::PingReq => self.reply(&Reply::Pong),
            Packet::Disconnect => return Err(Over::InPeace),
            // MQTT-3.1.0-2: a second CONNECT; or an answer to what the relay never sends.
            _ => return Err(Over::Unexpected),
        }
        Ok(())
    }

    async fn publish(&mut self, publish: rumqttc::Publish) -> Result<(), Over> {
        let topic = TopicName::parse(&publish.topic)?;
        let id = PacketId(publish.pkid);
        let ack = match publish.qos {
            QoS::AtMostOnce => Ack::None,
            QoS::AtLeastOnce => Ack::Received(id),
            QoS::ExactlyOnce => Ack::ReceivedOnce(id),
        };
        if topic.is_internal() || !self.guest.user.may(Action::Publish, topic.as_str()) {
            self.shared.denials.note(format_args!("{} may not publish to `{topic}`", self.guest.id));
            self.acknowledge(ack);
            return Ok(());
        }
        let session = Arc::clone(&self.guest.attached.session);
        if publish.qos == QoS::ExactlyOnce {
            match session.receive_once(id) {
                Some(true) => {}
                Some(false) => {
                    self.acknowledge(ack);
                    return Ok(());
                }
                None => return Err(Over::Unexpected),
            }
        }
        let permit = self.permit(topic.as_str().len() + publish.payload.len()).await?;
        let grant = if publish.qos == QoS::AtMostOnce { Grant::AtMostOnce } else { Grant::AtLeastOnce };
        let payload: Bytes = publish.payload;
        let message = Arc::new(Message { topic, payload, grant, retain: publish.retain });
        let origin = Origin { session, attachment: self.guest.attached.from.attachment, ack };
        let user = self.guest.user.shared_name();
        self.send(Event::Publish(Publish { message, user, origin, permit: Some(permit) }))
    }

    async fn subscribe(&mut self, subscribe: Subscribe) -> Result<(), Over> {
        let weight = subscribe.filters.iter().map(|filter| filter.path.len() + 64).sum();
        let permit = self.permit(weight).await?;
        let mut filters = Vec::with_capacity(subscribe.filters.len());
        for wanted in subscribe.filters {
            let filter = Filter::parse(&wanted.path)?;
            let grant = if wanted.qos == QoS::AtMostOnce { Grant::AtMostOnce } else { Grant::AtLeastOnce };
            if self.guest.user.may(Action::Subscribe, filter.as_str()) {
                filters.push(Some((filter, grant)));
            } else {
                self.shared.denials.note(format_args!("{} may not subscribe to `{filter}`", self.guest.id));
                filters.push(None);
            }
        }
        let (from, id) = (self.guest.attached.from, PacketId(subscribe.pkid));
        let (done, handled) = oneshot::channel();
        self.send(Event::Subscribe { from, filters, id, permit, done })?;
        // A replay may be long work: a client that subscribes again and again takes turns with all others.
        handled.await.map_err(|_| Over::Stopped)
    }

    async fn unsubscribe(&mut self, unsubscribe: Unsubscribe) -> Result<(), Over> {
        let permit = self.permit(unsubscribe.topics.iter().map(|topic| topic.len() + 64).sum()).await?;
        let filters =
            unsubscribe.topics.iter().map(|topic| Filter::parse(topic)).collect::<Result<_, _>>()?;
        let (from, id) = (self.guest.attached.from, PacketId(unsubscribe.pkid));
        self.send(Event::Unsubscribe { from, filters, id, permit })
    }

    fn acknowledge(&mut self, ack: Ack) {
        match ack {
            Ack::None => {}
            Ack::Received(id) => self.reply(&Reply::PubAck(id)),
            Ack::ReceivedOnce(id) => self.reply(&Reply::PubRec(id)),
        }
    }

    fn reply(&mut self, reply: &Reply) {
        self.wire.out.push_reply(reply);
    }

    /// Waits for the share of memory that a packet needs on its way: fast publishers are held back here.
    async fn permit(&self, weight: usize) -> Result<OwnedSemaphorePermit, Over> {
        let share = weight.clamp(MIN_PERMITS, self.shared.budget_bytes) as u32;
        Arc::clone(&self.shared.budget).acquire_many_owned(share).await.map_err(|_| Over::Stopped)
    }

    fn send(&self, event: Event) -> Result<(), Over> {
        self.shared.events.send(event).map_err(|_| Over::Stopped)
    }
}
