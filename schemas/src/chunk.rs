//! Objects in pieces over the bus, for nodes that have no room for a second TLS connection.
//!
//! Nothing of it is signed: a piece counts only with the digest of the whole, which is.

use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, CodecError},
    id::Digest,
};

/// Most bytes of a piece.
pub const MAX_PIECE_BYTES: u64 = 4 * 1024;
/// The largest object that is given in pieces: more than a microcontroller's flash has room for.
pub const MAX_OBJECT_BYTES: u64 = 4 * 1024 * 1024;

/// A question for a piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Names the object or the manifest.
    pub digest: Digest,
    /// Where the piece begins in the plain content.
    pub offset: u64,
    /// How long it should be; at most [`MAX_PIECE_BYTES`] are given.
    pub length: u64,
}

impl Want {
    /// Most bytes of a question.
    pub const MAX_BYTES: usize = 256;

    /// Reads a question.
    ///
    /// # Errors
    /// When the bytes are too many or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, Self::MAX_BYTES)
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Of what.
    pub digest: Digest,
    /// Where it begins.
    pub offset: u64,
    /// The content from there on; none behind the end.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<NoPiece>,
}

/// Why there is no piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoPiece {
    /// The store does not have it.
    Missing,
    /// It is larger than [`MAX_OBJECT_BYTES`].
    TooLarge,
    /// The store cannot read it.
    Unreadable,
}

impl Piece {
    /// The answer as it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_fits_what_the_smallest_node_takes() {
        let bytes = vec![0xff; MAX_PIECE_BYTES as usize];
        let piece =
            Piece { digest: Digest::of(b"x"), offset: u64::MAX, bytes, error: Some(NoPiece::TooLarge) };
        let encoded = piece.to_bytes();
        assert!(encoded.len() < 5 * 1024, "{}", encoded.len());
        assert_eq!(codec::decode::<Piece>(&encoded, encoded.len()).unwrap(), piece);
    }

    #[test]
    fn a_question_is_read_and_nothing_else_is_taken_for_one() {
        let want = Want { digest: Digest::of(b"x"), offset: 4096, length: u64::MAX };
        let encoded = codec::encode(&want);
        assert_eq!(Want::from_bytes(&encoded).unwrap(), want);
        assert!(Want::from_bytes(&encoded[1..]).is_err());
        assert!(Want::from_bytes(&[0; 300]).is_err());
    }
}
