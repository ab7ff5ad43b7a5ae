//! MQTT's data types (MQTT 5, 1.5), read from the body of one packet.

use std::num::NonZeroU16;

use bytes::{Buf, Bytes};

use super::{BadPacket, PacketId};

const CUT_OFF: BadPacket = BadPacket::malformed("packet ends in the middle of a field");

/// The rest of a packet's body.
#[derive(Debug)]
pub(super) struct Reader(Bytes);

impl Reader {
    /// Reads `body` from its start.
    pub(super) fn new(body: Bytes) -> Self {
        Self(body)
    }

    /// Whether everything is read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes are left.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is left, as it is.
    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    /// Fails unless everything is read.
    pub(super) fn finish(self) -> Result<(), BadPacket> {
        if self.is_empty() { Ok(()) } else { Err(BadPacket::malformed("packet is longer than its fields")) }
    }

    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<Bytes, BadPacket> {
        if self.0.len() < count { Err(CUT_OFF) } else { Ok(self.0.split_to(count)) }
    }

    /// One byte.
    pub(super) fn u8(&mut self) -> Result<u8, BadPacket> {
        self.0.try_get_u8().map_err(|_| CUT_OFF)
    }

    /// Two bytes, the higher first.
    pub(super) fn u16(&mut self) -> Result<u16, BadPacket> {
        self.0.try_get_u16().map_err(|_| CUT_OFF)
    }

    /// Four bytes, the highest first.
    pub(super) fn u32(&mut self) -> Result<u32, BadPacket> {
        self.0.try_get_u32().map_err(|_| CUT_OFF)
    }

    /// A variable byte integer. MQTT-1.5.5-1: it "MUST use the minimum number of bytes".
    pub(super) fn varint(&mut self) -> Result<u32, BadPacket> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let is_shortest = shift == 0 || byte != 0;
                return if is_shortest { Ok(value) } else { Err(BadPacket::malformed("overlong number")) };
            }
        }
        Err(BadPacket::malformed("number of more than four bytes"))
    }

    /// Bytes that are preceded by their length.
    pub(super) fn binary(&mut self) -> Result<Bytes, BadPacket> {
        let length = usize::from(self.u16()?);
        self.bytes(length)
    }

    /// Text, given to `make`. MQTT-1.5.4-1: it is well-formed UTF-8 (which has no surrogates). MQTT-1.5.4-2: it has no
    /// null character.
    pub(super) fn text<T>(&mut self, make: impl FnOnce(&str) -> T) -> Result<T, BadPacket> {
        let bytes = self.binary()?;
        let text =
            std::str::from_utf8(&bytes).map_err(|_| BadPacket::malformed("text is not valid UTF-8"))?;
        if text.contains('\0') {
            return Err(BadPacket::malformed("text has a null character"));
        }
        Ok(make(text))
    }

    /// MQTT-2.2.1-3, MQTT-2.2.1-4 (v3: MQTT-2.3.1-1): a packet id is not zero.
    pub(super) fn packet_id(&mut self) -> Result<PacketId, BadPacket> {
        let id = NonZeroU16::new(self.u16()?);
        id.map(PacketId).ok_or(BadPacket::protocol_error("packet id is zero"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes))
    }

    #[test]
    fn numbers_of_variable_length_are_as_short_as_can_be() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0x7f], 127),
            (&[0x80, 0x01], 128),
            (&[0xff, 0x7f], 16_383),
            (&[0x80, 0x80, 0x01], 16_384),
            (&[0xff, 0xff, 0xff, 0x7f], 268_435_455),
        ] {
            assert_eq!(reader(bytes).varint(), Ok(value));
        }
        for bad in [&[][..], &[0x80], &[0x80, 0x00], &[0xff, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x80, 0x01]] {
            assert!(reader(bad).varint().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn text_is_utf_8_without_null() {
        assert_eq!(reader(b"\0\x03a\xc3\xa4").text(str::to_owned).unwrap(), "aä");
        for bad in [&b"\0\x02a"[..], b"\0\x01\xff", b"\0\x03\xed\xa0\x80", b"\0\x01\0", b"\0"] {
            assert!(reader(bad).text(str::to_owned).is_err(), "{bad:?}");
        }
    }
}
