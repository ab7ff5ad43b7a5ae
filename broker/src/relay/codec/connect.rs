//! CONNECT: the first packet, which says what the rest will be.

use bytes::{Bytes, BytesMut};

use super::{
    BadPacket, Protocol, QoS,
    frame::Frame,
    properties::{self, Properties},
    reader::Reader,
};
use crate::relay::topic::{InvalidTopic, TopicName};

/// The first byte of CONNECT: its type, and flags that are all zero.
const FIRST: u8 = 0x10;
/// With this bit in the version, Mosquitto says that a bridge of MQTT 3.1.1 connects (`try_private`).
const BRIDGE: u8 = 0x80;

/// What a client opens with.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::relay) enum Opening {
    /// Not enough yet.
    Incomplete,
    /// A CONNECT.
    Connect(Box<Connect>),
    /// A CONNECT of another version than 3.1.1 and 5.
    OtherVersion,
}

/// A CONNECT that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::relay) struct Connect {
    /// The version in which the client goes on.
    pub(in crate::relay) protocol: Protocol,
    /// Whether another broker connects, which subscribes as the options of MQTT 5 allow that 3.1.1 has no place for.
    pub(in crate::relay) is_bridge: bool,
    /// What the client calls itself; may be empty.
    pub(in crate::relay) client_id: String,
    /// Whether an earlier session ends here (v3: and this one with the connection).
    pub(in crate::relay) clean_start: bool,
    /// Seconds; 0 for a client that may be silent for ever.
    pub(in crate::relay) keep_alive_secs: u16,
    /// User name and password.
    pub(in crate::relay) login: Login,
    /// What is published when the connection is lost.
    pub(in crate::relay) will: Option<Will>,
    /// What MQTT 5 adds.
    pub(in crate::relay) properties: Properties,
}

/// User name and password, each as far as it was given.
#[derive(Default, PartialEq, Eq)]
pub(in crate::relay) struct Login {
    /// The name.
    pub(in crate::relay) user: Option<String>,
    /// The password: any bytes.
    pub(in crate::relay) password: Option<Bytes>,
}

/// A will as the client wrote it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::relay) struct Will {
    /// Where to; or why that is no topic.
    pub(in crate::relay) topic: Result<TopicName, InvalidTopic>,
    /// What.
    pub(in crate::relay) payload: Bytes,
    /// How.
    pub(in crate::relay) qos: QoS,
    /// Whether it is to be retained.
    pub(in crate::relay) retain: bool,
    /// What MQTT 5 adds.
    pub(in crate::relay) properties: Properties,
}

impl std::fmt::Debug for Login {
    /// Passwords are not for logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Opening {
    /// Looks for a CONNECT of at most `max_bytes` at the start of a connection.
    ///
    /// MQTT-3.1.0-1: "the first packet sent from the Client to the Server MUST be a CONNECT packet": anything else is
    /// refused at its first byte.
    pub(in crate::relay) fn read(input: &mut BytesMut, max_bytes: usize) -> Result<Self, BadPacket> {
        if input.first().is_some_and(|first| *first != FIRST) {
            return Err(BadPacket::protocol_error("the first packet is not a CONNECT"));
        }
        let Some(frame) = Frame::take(input, max_bytes)? else { return Ok(Self::Incomplete) };
        let mut reader = Reader::new(frame.body);
        let Some((protocol, is_bridge)) = protocol(&mut reader)? else { return Ok(Self::OtherVersion) };
        let connect = Connect::read(reader, protocol, is_bridge)?;
        Ok(Self::Connect(Box::new(connect)))
    }
}

/// The version, and whether a bridge speaks it.
///
/// MQTT-3.1.2-1, -2: the name is `MQTT`; a version that is not spoken here is answered (with code 0x84, v3: 1).
fn protocol(reader: &mut Reader) -> Result<Option<(Protocol, bool)>, BadPacket> {
    let name = reader.binary()?;
    let version = reader.u8()?;
    match (&name[..], version) {
        (b"MQTT", 4) => Ok(Some((Protocol::V311, false))),
        (b"MQTT", version) if version == BRIDGE | 4 => Ok(Some((Protocol::V311, true))),
        (b"MQTT", 5) => Ok(Some((Protocol::V5, false))),
        (b"MQTT" | b"MQIsdp", _) => Ok(None),
        _ => Err(BadPacket::protocol_error("not MQTT")),
    }
}

/// The connect flags (3.1.2.3).
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    fn has(self, bit: u8) -> bool {
        self.0 & (1 << bit) != 0
    }

    /// Checks what the flags say about each other.
    fn read(byte: u8, protocol: Protocol) -> Result<Self, BadPacket> {
        let flags = Self(byte);
        let will_flags = byte & 0b0011_1000;
        // MQTT-3.1.2-3: "The Server MUST validate that the reserved flag in the CONNECT packet is set to 0".
        let is_good = !flags.has(0)
            // MQTT-3.1.2-11, -13: without a will, its QoS and retain flag are zero. MQTT-3.1.2-12: no QoS 3.
            && (flags.has(2) || will_flags == 0)
            && byte & 0b0001_1000 != 0b0001_1000
            // v3 MQTT-3.1.2-22: no password without a user name. MQTT 5 allows it.
            && (protocol == Protocol::V5 || flags.has(7) || !flags.has(6));
        if is_good { Ok(flags) } else { Err(BadPacket::malformed("CONNECT with impossible flags")) }
    }
}

impl Connect {
    fn read(mut reader: Reader, protocol: Protocol, is_bridge: bool) -> Result<Self, BadPacket> {
        let flags = Flags::read(reader.u8()?, protocol)?;
        let keep_alive_secs = reader.u16()?;
        let properties = properties_of(&mut reader, protocol, properties::OF_CONNECT)?;
        let client_id = reader.text(str::to_owned)?;
        let will = if flags.has(2) { Some(Will::read(&mut reader, protocol, flags)?) } else { None };
        let user = if flags.has(7) { Some(reader.text(str::to_owned)?) } else { None };
        let password = if flags.has(6) { Some(reader.binary()?) } else { None };
        reader.finish()?;
        let (clean_start, login) = (flags.has(1), Login { user, password });
        Ok(Self { protocol, is_bridge, client_id, clean_start, keep_alive_secs, login, will, properties })
    }
}

impl Will {
    fn read(reader: &mut Reader, protocol: Protocol, flags: Flags) -> Result<Self, BadPacket> {
        let properties = properties_of(reader, protocol, properties::OF_WILL)?;
        let topic = reader.text(TopicName::parse)?;
        let payload = reader.binary()?;
        let qos = QoS::of(flags.0 >> 3 & 3).ok_or(BadPacket::malformed("will with QoS 3"))?;
        Ok(Self { topic, payload, qos, retain: flags.has(5), properties })
    }
}

/// The properties that MQTT 5 has at this place.
pub(super) fn properties_of(
    reader: &mut Reader,
    protocol: Protocol,
    allowed: properties::Allowed,
) -> Result<Properties, BadPacket> {
    match protocol {
        Protocol::V311 => Ok(Properties::default()),
        Protocol::V5 => Properties::read(reader, allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::codec::Reason;

    const MAX: usize = 1 << 16;

    fn connect(version: u8, flags: u8, rest: &[u8]) -> BytesMut {
        let body = [&[0, 4, b'M', b'Q', b'T', b'T', version, flags, 0, 60][..], rest].concat();
        BytesMut::from(&[&[0x10, body.len() as u8][..], &body].concat()[..])
    }

    fn refused(mut input: BytesMut) -> Reason {
        Opening::read(&mut input, MAX).unwrap_err().reason
    }

    #[test]
    fn an_opening_is_recognised_at_every_length() {
        let whole = connect(4, 2, &[0, 1, b'x']);
        for length in 0..whole.len() {
            let mut cut = BytesMut::from(&whole[..length]);
            assert_eq!(Opening::read(&mut cut, MAX), Ok(Opening::Incomplete));
        }
        for (version, rest) in [(4, &[0, 1, b'x'][..]), (0x84, &[0, 1, b'x']), (5, &[0, 0, 1, b'x'])] {
            let opening = Opening::read(&mut connect(version, 2, rest), MAX).unwrap();
            let Opening::Connect(connect) = opening else { panic!("{opening:?}") };
            assert_eq!((connect.client_id.as_str(), connect.clean_start), ("x", true));
            assert_eq!(
                (connect.protocol == Protocol::V5, connect.is_bridge),
                (version == 5, version == 0x84)
            );
        }
        for other in [3, 6, 0x83, 0x85] {
            let mut other = connect(other, 2, &[0, 1, b'x']);
            assert_eq!(Opening::read(&mut other, MAX), Ok(Opening::OtherVersion));
        }
        let mut old = BytesMut::from(&b"\x10\x0c\0\x06MQIsdp\x03\x02\0\x3c"[..]);
        assert_eq!(Opening::read(&mut old, MAX), Ok(Opening::OtherVersion));
    }

    #[test]
    fn an_opening_that_is_not_mqtt_is_refused_at_once() {
        for wrong in [&b"GET / HTTP/1.1"[..], &[0x10, 5, 0, 2, b'X', b'Y', 4], &[0x11], &[0x30]] {
            assert_eq!(refused(BytesMut::from(wrong)), Reason::ProtocolError, "{wrong:?}");
        }
        assert_eq!(refused(BytesMut::from(&[0x10, 0xff, 0xff, 0x7f][..])), Reason::PacketTooLarge);
    }

    #[test]
    fn flags_that_contradict_each_other_are_malformed() {
        let id = &[0, 1, b'x'];
        for flags in [0x03, 0x0a, 0x22, 0x42, 0x1e, 0x3e] {
            assert_eq!(refused(connect(4, flags, id)), Reason::MalformedPacket, "{flags:#x}");
        }
        // A password alone is for MQTT 5.
        let mut alone = connect(5, 0x42, &[0, 0, 1, b'x', 0, 1, b'p']);
        assert!(matches!(Opening::read(&mut alone, MAX), Ok(Opening::Connect(_))));
        assert_eq!(refused(connect(4, 0x02, &[0, 1, b'x', 0])), Reason::MalformedPacket);
    }
}
