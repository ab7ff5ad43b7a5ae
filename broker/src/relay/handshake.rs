//! From the first byte of a connection to its place in the hub, or to a refusal that says why.

use std::sync::Arc;

use bytes::Bytes;
use rumqttc::{Connect, ConnectReturnCode, LastWill, Packet, QoS};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};

use super::{
    Shared,
    hub::{Attach, Attached, Event, Refused},
    message::{Grant, Message},
    packet::{self, BadPacket, Opening, Reply},
    registry::ClientId,
    topic::{InvalidTopic, TopicName},
    wire::{Step, Wire},
};
use crate::access::{Action, Denied, User};

/// Longest CONNECT: a will and a password of 64 KiB each do not fit, all that makes sense does. Small, because
/// everybody may send one.
const MAX_CONNECT_BYTES: usize = 72 * 1024;
/// Longest client id.
const MAX_CLIENT_ID_BYTES: usize = 256;

/// Who is at the other end.
#[derive(Debug)]
pub(super) struct Guest {
    /// The user.
    pub(super) user: Arc<User>,
    /// What the client calls itself.
    pub(super) id: ClientId,
    /// Its place in the hub.
    pub(super) attached: Attached,
    /// Seconds; 0 for a client that may be silent for ever.
    pub(super) keep_alive_secs: u16,
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
    /// MQTT-3.1.2-2.
    #[error("other protocol level than 3.1.1")]
    Protocol,
    /// MQTT-3.1.3-8 and our own limits.
    #[error("client id is empty, too long or has a null character")]
    ClientId,
    /// No such user, or not with this id.
    #[error("log-in refused")]
    Denied(#[from] Denied),
    /// A will that could not be published.
    #[error("bad will")]
    Will(#[from] InvalidTopic),
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
pub(super) async fn welcome<S>(wire: &mut Wire<S>, shared: &Shared) -> Result<Guest, NoEntry>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match enter(wire, shared).await {
        Ok(guest) => {
            let session_present = guest.attached.session_present;
            wire.out.push_reply(&Reply::Connected { session_present });
            Ok(guest)
        }
        Err(no_entry) => {
            if let Some(code) = no_entry.code() {
                wire.finish_with(&packet::refusal(code)).await?;
            }
            Err(no_entry)
        }
    }
}

async fn enter<S>(wire: &mut Wire<S>, shared: &Shared) -> Result<Guest, NoEntry>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connect = read_connect(wire).await?;
    let id = client_id(&connect)?;
    let login = connect.login.as_ref().map(|login| (login.username.as_str(), login.password.as_str()));
    let user = shared.access.log_in(login)?;
    shared.access.check_client_id(&user, &id.0)?;
    let will = connect.last_will.as_ref().map(|will| checked_will(will, &user)).transpose()?;
    let (reply, attached) = oneshot::channel();
    let attach = Attach {
        id: id.clone(),
        user: user.shared_name(),
        owns_id: user.owns(&id.0),
        clean: connect.clean_session,
        will,
        reply,
    };
    shared.events.send(Event::Attach(attach)).map_err(|_| NoEntry::Stopped)?;
    let attached = attached.await.map_err(|_| NoEntry::Stopped)??;
    Ok(Guest { user, id, attached, keep_alive_secs: connect.keep_alive })
}

async fn read_connect<S>(wire: &mut Wire<S>) -> Result<Connect, NoEntry>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match packet::opening(&wire.input, MAX_CONNECT_BYTES)? {
            Opening::OtherLevel => return Err(NoEntry::Protocol),
            Opening::V311 => break,
            Opening::Incomplete => {}
        }
        if wire.step(true).await? == Step::Closed {
            return Err(NoEntry::Closed);
        }
    }
    match packet::next(&mut wire.input, MAX_CONNECT_BYTES)? {
        Some(Packet::Connect(connect)) => Ok(connect),
        _ => Err(BadPacket::NotConnect.into()),
    }
}

/// MQTT-3.1.3-6 and -8: an empty id gets one of ours, if nothing is to be kept under it.
fn client_id(connect: &Connect) -> Result<ClientId, NoEntry> {
    let id = &connect.client_id;
    if id.is_empty() && connect.clean_session {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        return Ok(ClientId(format!("auto-{:016x}", u64::from_be_bytes(random)).into()));
    }
    if id.is_empty() || id.len() > MAX_CLIENT_ID_BYTES || id.contains('\0') {
        return Err(NoEntry::ClientId);
    }
    Ok(ClientId(id.as_str().into()))
}

/// A will is a publish, and is checked like one.
fn checked_will(will: &LastWill, user: &User) -> Result<Arc<Message>, NoEntry> {
    let topic = TopicName::parse(&will.topic)?;
    if !user.may(Action::Publish, topic.as_str()) {
        return Err(NoEntry::WillDenied(topic));
    }
    let grant = if will.qos == QoS::AtMostOnce { Grant::AtMostOnce } else { Grant::AtLeastOnce };
    let payload = Bytes::copy_from_slice(&will.message);
    Ok(Arc::new(Message { topic, payload, grant, retain: will.retain }))
}

impl NoEntry {
    /// Whether somebody was turned away who asked properly.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::WillDenied(_) | Self::Refused(Refused::ForeignId))
    }

    fn code(&self) -> Option<ConnectReturnCode> {
        Some(match self {
            Self::Protocol => ConnectReturnCode::RefusedProtocolVersion,
            Self::ClientId | Self::Denied(Denied::ClientId) | Self::Refused(Refused::ForeignId) => {
                ConnectReturnCode::BadClientId
            }
            Self::Denied(Denied::WrongPassword) => ConnectReturnCode::BadUserNamePassword,
            Self::Denied(Denied::Anonymous) | Self::WillDenied(_) => ConnectReturnCode::NotAuthorized,
            Self::Refused(_) | Self::Stopped => ConnectReturnCode::ServiceUnavailable,
            Self::Io(_) | Self::Closed | Self::Packet(_) | Self::Will(_) => return None,
        })
    }
}
