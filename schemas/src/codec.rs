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
    #[error("cannot decode")]
    Malformed(#[source] serde_cbor::Error),
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
}
