//! The fixed header: where a packet begins and ends in a stream of bytes (MQTT 5, 2.1).

use bytes::{Bytes, BytesMut};

use super::{BadPacket, Reason};

/// One packet as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) struct Frame {
    /// Type and flags.
    pub(super) first: u8,
    /// Everything behind the fixed header.
    pub(super) body: Bytes,
}

impl Frame {
    /// Takes the next whole packet from `input`, if it is there. A packet of more than `max_bytes` is refused as soon as
    /// it is announced.
    pub(in crate::relay) fn take(input: &mut BytesMut, max_bytes: usize) -> Result<Option<Self>, BadPacket> {
        let Some(header) = Header::read(input)? else { return Ok(None) };
        if header.length > max_bytes {
            return Err(BadPacket {
                reason: Reason::PacketTooLarge,
                what: "packet is larger than the relay takes",
            });
        }
        if input.len() < header.length {
            // Once, instead of with each read.
            input.reserve(header.length - input.len());
            return Ok(None);
        }
        let mut body = input.split_to(header.length).freeze();
        let _header = body.split_to(header.bytes);
        Ok(Some(Self { first: header.first, body }))
    }

    /// The number of the packet's type.
    pub(super) fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The flags beside the type.
    pub(super) fn flags(&self) -> u8 {
        self.first & 0x0f
    }
}

struct Header {
    first: u8,
    /// Of the header.
    bytes: usize,
    /// Of the whole packet.
    length: usize,
}

impl Header {
    fn read(input: &[u8]) -> Result<Option<Self>, BadPacket> {
        let Some((first, rest)) = input.split_first() else { return Ok(None) };
        let mut length = 0;
        for (place, byte) in rest.iter().take(4).enumerate() {
            length |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                let bytes = place + 2;
                return Ok(Some(Self { first: *first, bytes, length: bytes + length }));
            }
        }
        if rest.len() < 4 { Ok(None) } else { Err(BadPacket::malformed("packet without an end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_taken_when_it_is_whole() {
        let wire = [&[0x30, 0x81, 0x01][..], &[7; 129], &[0xc0, 0]].concat();
        for length in 0..132 {
            let mut input = BytesMut::from(&wire[..length]);
            assert_eq!(Frame::take(&mut input, 132), Ok(None));
            assert_eq!(input, wire[..length]);
        }
        let mut input = BytesMut::from(&wire[..]);
        let first = Frame::take(&mut input, 132).unwrap().unwrap();
        assert_eq!((first.kind(), first.flags(), first.body.len()), (3, 0, 129));
        assert_eq!(Frame::take(&mut input, 132).unwrap().unwrap().kind(), 12);
        assert_eq!(Frame::take(&mut input, 132), Ok(None));
    }

    #[test]
    fn what_is_too_large_or_has_no_end_is_refused_at_once() {
        let refused = |bytes: &[u8]| Frame::take(&mut BytesMut::from(bytes), 131).unwrap_err().reason;
        assert_eq!(refused(&[0x30, 0x81, 0x01]), Reason::PacketTooLarge);
        assert_eq!(refused(&[0x30, 0xff, 0xff, 0xff, 0x7f]), Reason::PacketTooLarge);
        assert_eq!(refused(&[0x30, 0xff, 0xff, 0xff, 0xff]), Reason::MalformedPacket);
    }
}
