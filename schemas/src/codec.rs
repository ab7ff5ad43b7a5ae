//! CBOR, the one encoding of everything that is signed or stored. Only this file knows the codec crate.

use serde::{Serialize, de::DeserializeOwned};

/// Bytes that are not the expected document.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// More bytes than this kind of document may have.
    #[error("{len} bytes are more than the {limit} allowed")]
    TooLarge {
        /// What was there.
        len: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Not CBOR, cut short, followed by more bytes, or of another shape.
    #[error(transparent)]
    Malformed(serde_cbor::Error),
}

/// Encodes `value` with shortest integers and definite lengths.
///
/// # Panics
/// Never for the types of this crate: none of them has a serializer that fails.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_cbor::to_vec(value).expect("documents have no serializer that fails")
}

/// Decodes exactly one value from `bytes`, which may be at most `limit` long.
///
/// # Errors
/// When the bytes are too many, or are not exactly one such value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::TooLarge { len: bytes.len(), limit });
    }
    serde_cbor::from_slice(bytes).map_err(CodecError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_too_many_bytes_trailing_bytes_and_deep_nesting() {
        assert!(matches!(decode::<u8>(&[1, 2], 1), Err(CodecError::TooLarge { len: 2, limit: 1 })));
        assert!(decode::<u8>(&[1, 2], 9).is_err());
        assert!(decode::<Vec<u8>>(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 99).is_err());
        let nested = vec![0x81; 100_000];
        assert!(decode::<serde::de::IgnoredAny>(&nested, 200_000).is_err());
    }

    #[test]
    fn refuses_nested_tags_floats_for_integers_and_lengths_that_are_not_there() {
        let nested_tags = vec![0xc1; 100_000];
        assert!(decode::<u8>(&nested_tags, 200_000).is_err());
        for float in
            [&[0xf9, 0x3c, 0x00][..], &[0xfa, 0x3f, 0x80, 0, 0], &[0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]]
        {
            assert!(decode::<u64>(float, 99).is_err(), "{float:x?}");
        }
        for announced in [0x5b, 0x7b, 0x9b, 0xbb] {
            let endless = [&[announced, 0x10][..], &[0; 7]].concat();
            assert!(decode::<serde_bytes::ByteBuf>(&endless, 99).is_err(), "{announced:x}");
            assert!(decode::<std::collections::BTreeMap<u8, u8>>(&endless, 99).is_err(), "{announced:x}");
            assert!(decode::<Vec<[u64; 4]>>(&endless, 99).is_err(), "{announced:x}");
        }
    }
}
