//! From the first byte of a connection to its place in the hub, or to a refusal that says why.

use std::{num::NonZeroU32, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};

use super::{
    Shared,
    budget::Part,
    codec::{self, BadPacket, Connect, Connected, Opening, Protocol, QoS, Reason, Reply},
    hub::{Attach, Attached, Event, Refused},
    message::Message,
    outgoing::{Outgoing, Terms},
    registry::{ClientId, Will},
    session::{RECEIVE_MAXIMUM, WINDOW},
    topic::{InvalidTopic, TopicName},
    transport::Peer,
    wire::{Step, Wire},
};
use crate::access::{Action, Denied, Role, User};

/// Longest CONNECT: a will and a password of 64 KiB each do not fit, all that makes sense does. Small, because
/// everybody may send one.
const MAX_CONNECT_BYTES: usize = 72 * 1024;
/// Longest client id.
const MAX_CLIENT_ID_BYTES: usize = 256;
/// The highest topic alias that a client may use. Each is a topic that is kept for the connection.
pub(super) const TOPIC_ALIAS_MAXIMUM: u16 = 16;

/// Who is at the other end.
#[derive(Debug)]
pub(super) struct Guest {
    /// The user.
    pub(super) user: Arc<User>,
    /// What the client calls itself.
    pub(super) id: ClientId,
    /// What it gets of the memory for what is on its way.
    pub(super) part: Part,
    /// The version that it speaks.
    pub(super) protocol: Protocol,
    /// Whether it is another broker.
    pub(super) is_bridge: bool,
    /// Its place in the hub.
    pub(super) attached: Attached,
    /// Seconds; 0 for a client that may be silent for ever.
    pub(super) keep_alive_secs: u16,
    /// Whether it asked for a session that outlives the connection.
    pub(super) keeps_session: bool,
}

/// Why a connection does not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoEntry {
    /// The stream broke.
    #[error("connection lost")]
    Io(#[from] std::io::Error),
    /// The client went away.
    #[error("closed before CONNECT")]
    Closed,
    /// Not MQTT.
    #[error("bad packet")]
    Packet(#[from] BadPacket),
    /// MQTT-3.1.2-2 (v3: MQTT-3.1.2-2).
    #[error("the versions of MQTT here are 3.1.1 and 5")]
    Version,
    /// MQTT-3.1.3-8 and our own limits.
    #[error("client id is empty, or longer than {MAX_CLIENT_ID_BYTES} bytes")]
    ClientId,
    /// MQTT-4.12.0-1.
    #[error("the only way to log in is with user and password")]
    AuthenticationMethod,
    /// No such user, or not with this id.
    #[error("log-in refused")]
    Denied(#[from] Denied),
    /// A will that could not be published.
    #[error("bad will")]
    Will(#[from] InvalidTopic),
    /// MQTT-3.2.2-12: a will "with a Will QoS that exceeds its capabilities" is refused.
    #[error("a will has QoS 0 or 1 here")]
    WillQos,
    /// A will that may not be published.
    #[error("will to `{0}` denied")]
    WillDenied(TopicName),
    /// The hub has no place.
    #[error("no session")]
    Refused(#[from] Refused),
    /// The relay ends.
    #[error("the relay stops")]
    Stopped,
}

/// Reads CONNECT, logs in, gets a session and answers. A refusal is answered with its code.
pub(super) async fn welcome<S>(wire: &mut Wire<S>, peer: &Peer, shared: &Shared) -> Result<Guest, NoEntry>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connect = match read_connect(wire).await {
        Ok(connect) => connect,
        Err(no_entry) => return Err(refuse(wire, Protocol::V311, no_entry).await),
    };
    let protocol = connect.protocol;
    wire.out = Outgoing::new(terms(&connect));
    match enter(*connect, peer, shared).await {
        Ok((guest, connected)) => {
            wire.out.push_reply(&Reply::Connected(Box::new(connected)));
            Ok(guest)
        }
        Err(no_entry) => Err(refuse(wire, protocol, no_entry).await),
    }
}

/// MQTT-3.1.4-2: the Server "MAY send an appropriate CONNACK response with a Reason Code of 0x80 or above before closing".
async fn refuse<S>(wire: &mut Wire<S>, protocol: Protocol, no_entry: NoEntry) -> NoEntry
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (why, max_bytes) = (crate::chain(&no_entry), wire.out.terms().maximum_packet_bytes);
    let refusal = no_entry.reason().and_then(|reason| codec::refusal(protocol, reason, &why, max_bytes));
    if let Some(refusal) = refusal
        && let Err(err) = wire.finish_with(refusal.freeze()).await
    {
        return err.into();
    }
    no_entry
}

async fn read_connect<S>(wire: &mut Wire<S>) -> Result<Box<Connect>, NoEntry>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match Opening::read(&mut wire.input, MAX_CONNECT_BYTES)? {
            Opening::OtherVersion => return Err(NoEntry::Version),
            Opening::Connect(connect) => return Ok(connect),
            Opening::Incomplete => {}
        }
        if wire.step(true).await? == Step::Closed {
            return Err(NoEntry::Closed);
        }
    }
}

async fn enter(connect: Connect, peer: &Peer, shared: &Shared) -> Result<(Guest, Connected), NoEntry> {
    if connect.properties.has_authentication_method {
        return Err(NoEntry::AuthenticationMethod);
    }
    let name = connect.login.user.as_deref();
    let user = if let Some(certified) = &peer.certificate {
        shared.access.log_in_certified(certified, name)?
    } else {
        let login = name.zip(connect.login.password.as_deref());
        shared.access.log_in(login, peer.address.ip()).await?
    };
    let (id, is_assigned) = client_id(&connect, &user)?;
    shared.access.check_client_id(&user, &id.0)?;
    let will = connect.will.as_ref().map(|will| checked_will(connect.protocol, will, &user)).transpose()?;
    let expiry = SessionExpiry::of(&connect, shared.session_expiry_secs);
    let (reply, attached) = oneshot::channel();
    let attach = Attach {
        id: id.clone(),
        user: user.shared_name(),
        owns_id: user.owns(&id.0),
        clean_start: connect.clean_start,
        expiry_secs: expiry.granted_secs,
        will: will.map(Box::new),
        events: shared.events.clone(),
        reply,
    };
    shared.events.send(Event::Attach(attach)).map_err(|_| NoEntry::Stopped)?;
    let attached = attached.await.map_err(|_| NoEntry::Stopped)??;
    let keep_alive_secs = keep_alive(&connect, shared.max_keep_alive_secs);
    let connected = Connected {
        session_present: attached.session_present,
        session_expiry_secs: expiry.is_changed().then_some(expiry.granted_secs),
        assigned_client_id: is_assigned.then(|| id.to_string()),
        keep_alive_secs: (keep_alive_secs != connect.keep_alive_secs).then_some(keep_alive_secs),
        receive_maximum: RECEIVE_MAXIMUM,
        maximum_packet_bytes: shared.max_packet_bytes.try_into().unwrap_or(u32::MAX),
        topic_alias_maximum: TOPIC_ALIAS_MAXIMUM,
    };
    let (protocol, is_bridge, keeps_session) = (connect.protocol, connect.is_bridge, expiry.asked_secs > 0);
    let part = shared.budget.part(user.shared_name());
    Ok((Guest { user, id, part, protocol, is_bridge, attached, keep_alive_secs, keeps_session }, connected))
}

/// What the client takes.
fn terms(connect: &Connect) -> Terms {
    let properties = &connect.properties;
    Terms {
        protocol: connect.protocol,
        window: properties.receive_maximum.map_or(WINDOW, |maximum| WINDOW.min(maximum.get().into())),
        maximum_packet_bytes: properties
            .maximum_packet_bytes
            .map_or(usize::MAX, |bytes: NonZeroU32| bytes.get() as usize),
        topic_alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
    }
}

/// For how long a session outlives its connections.
struct SessionExpiry {
    protocol: Protocol,
    asked_secs: u32,
    granted_secs: u32,
}

impl SessionExpiry {
    /// MQTT 5, 3.1.2.11.2: as long as the client says, or not at all. MQTT 3.1.1: for ever, unless the session is clean
    /// (v3: MQTT-3.1.2-4, -5, -6). Nothing is kept for longer than `max_secs`.
    fn of(connect: &Connect, max_secs: u32) -> Self {
        let asked_secs = match connect.protocol {
            Protocol::V5 => connect.properties.session_expiry_secs.unwrap_or(0),
            Protocol::V311 if connect.clean_start => 0,
            Protocol::V311 => u32::MAX,
        };
        Self { protocol: connect.protocol, asked_secs, granted_secs: asked_secs.min(max_secs) }
    }

    fn is_changed(&self) -> bool {
        self.protocol == Protocol::V5 && self.asked_secs != self.granted_secs
    }
}

/// A client of MQTT 5 can be told to speak more often (MQTT-3.2.2-21), one of 3.1.1 cannot. A maximum of 0 is none.
fn keep_alive(connect: &Connect, max_secs: u16) -> u16 {
    let asked = connect.keep_alive_secs;
    let is_too_long = max_secs > 0 && (asked == 0 || asked > max_secs);
    if connect.protocol == Protocol::V5 && is_too_long { max_secs } else { asked }
}

/// The client's id, and whether we chose it. MQTT-3.1.3-6, -7: an empty id gets one of ours; v3 MQTT-3.1.3-7, -8: only
/// if nothing is to be kept under it. That of a node begins with its name, since nodes have no other.
fn client_id(connect: &Connect, user: &User) -> Result<(ClientId, bool), NoEntry> {
    let id = &connect.client_id;
    if id.len() > MAX_CLIENT_ID_BYTES {
        return Err(NoEntry::ClientId);
    }
    if !id.is_empty() {
        return Ok((ClientId(id.as_str().into()), false));
    }
    if connect.protocol == Protocol::V311 && !connect.clean_start {
        return Err(NoEntry::ClientId);
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    let random = u64::from_be_bytes(random);
    let id = match user.role() {
        Role::Node => format!("{}.auto-{random:016x}", user.name()),
        _ => format!("auto-{random:016x}"),
    };
    Ok((ClientId(id.into()), true))
}

/// A will is a publish, and is checked like one.
fn checked_will(protocol: Protocol, will: &codec::Will, user: &User) -> Result<Will, NoEntry> {
    let topic = will.topic.clone()?;
    if protocol == Protocol::V5 && will.qos == QoS::ExactlyOnce {
        return Err(NoEntry::WillQos);
    }
    if topic.is_internal() || !user.may(Action::Publish, topic.as_str()) {
        return Err(NoEntry::WillDenied(topic));
    }
    let message = Message {
        topic,
        payload: will.payload.clone(),
        grant: will.qos.into(),
        retain: will.retain,
        properties: will.properties.passed_on.clone(),
        expires: None,
    };
    Ok(Will {
        message,
        expiry_secs: will.properties.message_expiry_secs,
        delay_secs: will.properties.will_delay_secs.unwrap_or(0),
    })
}

impl NoEntry {
    /// Whether somebody was turned away who asked properly.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::WillDenied(_) | Self::Refused(Refused::ForeignId))
    }

    fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Version => Reason::UnsupportedProtocolVersion,
            Self::ClientId | Self::Denied(Denied::ClientId) | Self::Refused(Refused::ForeignId) => {
                Reason::ClientIdentifierNotValid
            }
            Self::AuthenticationMethod => Reason::BadAuthenticationMethod,
            Self::Denied(Denied::WrongPassword) => Reason::BadUserNameOrPassword,
            Self::Denied(Denied::Anonymous | Denied::Certificate) | Self::WillDenied(_) => {
                Reason::NotAuthorized
            }
            Self::Will(_) => Reason::TopicNameInvalid,
            Self::WillQos => Reason::QosNotSupported,
            Self::Refused(Refused::Superseded) => Reason::SessionTakenOver,
            Self::Refused(Refused::TooMany) | Self::Denied(Denied::Busy) => Reason::ServerUnavailable,
            Self::Refused(Refused::Stopping) | Self::Stopped => Reason::ServerShuttingDown,
            // What is not understood is not answered: nobody knows in which version.
            Self::Io(_) | Self::Closed | Self::Packet(_) => return None,
        })
    }
}
