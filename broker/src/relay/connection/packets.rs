//! What a client's packets come to: checked, and given to the hub.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    time::Instant,
};

use super::{Connection, Over};
use crate::{
    access::Action,
    relay::{
        budget::Permit,
        codec::{self, BadPacket, Packet, PacketId, Protocol, QoS, Reason, Reply, SubscribeOptions, Wanted},
        handshake::TOPIC_ALIAS_MAXIMUM,
        hub::{Ack, Asked, Event, Origin, Publish, ReplayWhen, Subscribe},
        message::Message,
        session::Once,
        subscriptions::Subscription,
        topic::{Filter, InvalidTopic, TopicName},
    },
};

/// What a filter counts for beside its text.
const FILTER_WEIGHT: usize = 64;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    pub(super) async fn handle(&mut self, packet: Packet) -> Result<(), Over> {
        let session = &self.guest.attached.session;
        match packet {
            Packet::Publish(publish) => self.publish(publish).await?,
            Packet::PubAck(id) => session.acknowledged(id),
            Packet::PubRel(id) => {
                let is_known = session.release(id) || self.guest.protocol == Protocol::V311;
                let reason = if is_known { Reason::Success } else { Reason::PacketIdentifierNotFound };
                self.wire.out.push_reply(&Reply::PubComp(id, reason));
            }
            Packet::Subscribe { id, filters, subscription_id } => {
                self.subscribe(id, filters, subscription_id).await?;
            }
            Packet::Unsubscribe { id, filters } => self.unsubscribe(id, filters).await?,
            Packet::PingReq => self.wire.out.push_reply(&Reply::Pong),
            Packet::Disconnect { with_will, session_expiry_secs } => {
                return Err(self.disconnect(with_will, session_expiry_secs));
            }
        }
        Ok(())
    }

    async fn publish(&mut self, publish: codec::Publish) -> Result<(), Over> {
        let topic = self.topic(&publish)?;
        let protocol = self.guest.protocol;
        let ack = match (publish.qos, publish.id) {
            (QoS::AtLeastOnce, Some(id)) => Ack::Received(id, protocol),
            (QoS::ExactlyOnce, Some(id)) => Ack::ReceivedOnce(id),
            _ => Ack::None,
        };
        if protocol == Protocol::V5 && publish.qos == QoS::ExactlyOnce {
            // MQTT-3.2.2-11: "the Client MUST NOT send PUBLISH packets at a QoS level exceeding the Maximum QoS level".
            return Err(bad(Reason::QosNotSupported, "publish above QoS 1"));
        }
        if topic.is_internal() || !self.guest.user.may(Action::Publish, topic.as_str()) {
            self.shared.denials.note(format_args!("{} may not publish to `{topic}`", self.guest.id));
            // v3 MQTT-3.3.5-2: positively acknowledged, or hung up; a client would only come back.
            self.acknowledge(ack, Reason::NotAuthorized);
            return Ok(());
        }
        if !self.is_new(ack)? {
            return Ok(());
        }
        let expiry = publish.properties.message_expiry_secs;
        let message = Message {
            topic,
            payload: publish.payload,
            grant: publish.qos.into(),
            retain: publish.retain,
            properties: publish.properties.passed_on,
            expires: expiry.map(|secs| Instant::now() + Duration::from_secs(secs.into())),
        };
        let permit = self.permit(message.weight()).await?;
        let session = Arc::clone(&self.guest.attached.session);
        let origin = Origin { from: self.guest.attached.from, session, ack };
        let user = self.guest.user.shared_name();
        let message = Arc::new(message);
        self.send(Event::Publish(Publish { message, user, origin, permit: Some(permit) }))
    }

    /// Whether a message that is acknowledged so did not come before, and there is room for one more that is not acknowledged.
    fn is_new(&mut self, ack: Ack) -> Result<bool, Over> {
        let session = &self.guest.attached.session;
        match ack {
            // MQTT-3.3.4-7: no more "than Receive Maximum QoS 1 and QoS 2 PUBLISH packets" at a time.
            Ack::Received(_, Protocol::V5) if !session.receive() => {
                Err(bad(Reason::ReceiveMaximumExceeded, "more unacknowledged messages than allowed"))
            }
            Ack::ReceivedOnce(id) => match session.receive_once(id) {
                Some(Once::New) => Ok(true),
                // v3 MQTT-4.3.3-2: it is not published again. The answer comes when it is safe.
                Some(Once::Pending) => Ok(false),
                Some(Once::Received) => {
                    self.acknowledge(ack, Reason::Success);
                    Ok(false)
                }
                None => Err(bad(Reason::QuotaExceeded, "too many unreleased messages")),
            },
            _ => Ok(true),
        }
    }

    /// The topic of a message: as it says, or as its alias says.
    fn topic(&mut self, publish: &codec::Publish) -> Result<TopicName, Over> {
        let unknown = || bad(Reason::ProtocolError, "topic alias that stands for nothing");
        let Some(alias) = publish.properties.topic_alias else {
            return publish.topic.clone().ok_or_else(unknown);
        };
        // MQTT-3.2.2-17: "The Client MUST NOT send a Topic Alias in a PUBLISH packet to the Server greater than this value".
        if alias.get() > TOPIC_ALIAS_MAXIMUM {
            return Err(bad(Reason::TopicAliasInvalid, "topic alias above the maximum"));
        }
        let place = usize::from(alias.get()) - 1;
        if let Some(topic) = &publish.topic {
            if self.aliases.len() <= place {
                self.aliases.resize(place + 1, None);
            }
            self.aliases[place] = Some(topic.clone());
        }
        self.aliases.get(place).cloned().flatten().ok_or_else(unknown)
    }

    async fn subscribe(
        &mut self,
        id: PacketId,
        wanted: Vec<Wanted>,
        subscription_id: Option<NonZeroU32>,
    ) -> Result<(), Over> {
        let weight = wanted.iter().map(|wanted| weight(&wanted.filter)).sum();
        let permit = self.permit(weight).await?;
        let mut filters = Vec::with_capacity(wanted.len());
        for Wanted { filter, options } in wanted {
            let filter = self.checked(filter)?.and_then(|filter| self.permitted(filter));
            let options = if self.guest.is_bridge { options.of_a_bridge() } else { options };
            filters.push(filter.map(|filter| asked(filter, options, subscription_id)));
        }
        let from = self.guest.attached.from;
        let (done, handled) = oneshot::channel();
        self.send(Event::Subscribe(Subscribe { from, filters, id, permit, done }))?;
        // A replay may be long work: a client that subscribes again and again takes turns with all others.
        handled.await.map_err(|_| Over::Stopped)
    }

    async fn unsubscribe(
        &mut self,
        id: PacketId,
        filters: Vec<Result<Filter, InvalidTopic>>,
    ) -> Result<(), Over> {
        let permit = self.permit(filters.iter().map(weight).sum()).await?;
        let filters = filters.into_iter().map(|filter| self.checked(filter)).collect::<Result<_, _>>()?;
        self.send(Event::Unsubscribe { from: self.guest.attached.from, filters, id, permit })
    }

    /// MQTT 5 has a code for what is no filter; in MQTT 3.1.1 it ends the connection.
    fn checked(&self, filter: Result<Filter, InvalidTopic>) -> Result<Result<Filter, Reason>, Over> {
        match self.guest.protocol {
            Protocol::V311 => Ok(Ok(filter?)),
            Protocol::V5 => Ok(filter.map_err(|_| Reason::TopicFilterInvalid)),
        }
    }

    fn permitted(&self, filter: Filter) -> Result<Filter, Reason> {
        if filter.is_shared() {
            return Err(Reason::SharedSubscriptionsNotSupported);
        }
        if !self.guest.user.may(Action::Subscribe, filter.as_str()) {
            self.shared.denials.note(format_args!("{} may not subscribe to `{filter}`", self.guest.id));
            return Err(Reason::NotAuthorized);
        }
        Ok(filter)
    }

    fn disconnect(&mut self, with_will: bool, session_expiry_secs: Option<u32>) -> Over {
        // MQTT 5, 3.14.2.2.2: what ends with the connection cannot be kept after all.
        if session_expiry_secs.is_some_and(|secs| secs > 0) && !self.guest.keeps_session {
            return bad(Reason::ProtocolError, "a session that was to end cannot be kept");
        }
        self.expiry_secs = session_expiry_secs.map(|secs| secs.min(self.shared.session_expiry_secs));
        if with_will { Over::WithWill } else { Over::InPeace }
    }

    fn acknowledge(&mut self, ack: Ack, reason: Reason) {
        let reply = match ack {
            Ack::None => return,
            Ack::Received(id, _) => Reply::PubAck(id, reason),
            Ack::ReceivedOnce(id) => Reply::PubRec(id, reason),
        };
        self.wire.out.push_reply(&reply);
    }

    /// Waits for the memory that a packet needs on its way.
    async fn permit(&self, weight: usize) -> Result<Permit, Over> {
        self.guest.part.take(weight).await.ok_or(Over::Stopped)
    }
}

fn bad(reason: Reason, what: &'static str) -> Over {
    Over::Packet(BadPacket { reason, what })
}

fn weight(filter: &Result<Filter, InvalidTopic>) -> usize {
    filter.as_ref().map_or(0, |filter| filter.as_str().len()) + FILTER_WEIGHT
}

fn asked(filter: Filter, options: SubscribeOptions, id: Option<NonZeroU32>) -> Asked {
    let SubscribeOptions { qos, no_local, retain_as_published, retain_handling } = options;
    let replay = match retain_handling {
        0 => ReplayWhen::Always,
        1 => ReplayWhen::New,
        _ => ReplayWhen::Never,
    };
    Asked {
        filter,
        subscription: Subscription { grant: qos.into(), no_local, retain_as_published, id },
        replay,
    }
}
