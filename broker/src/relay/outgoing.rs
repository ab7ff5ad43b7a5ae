//! What a connection is about to write: packets as a queue of shared pieces, so that a payload is never copied.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    message::{Delivery, PacketId},
    packet::Reply,
};

/// Beyond this many bytes nothing more is taken from the session: it stays there, where its limits hold.
const FULL_BYTES: usize = 32 * 1024;
/// Beyond this many pieces likewise.
const FULL_PIECES: usize = 128;
/// Most pieces in one system call.
pub(super) const MAX_SLICES: usize = 64;

/// Bytes on their way to one client.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Outgoing {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether enough is waiting.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES || self.pieces.len() >= FULL_PIECES
    }

    /// Adds an answer.
    pub(super) fn push_reply(&mut self, reply: &Reply) {
        let mut bytes = BytesMut::new();
        reply.encode(&mut bytes);
        self.push(bytes.freeze());
    }

    /// Adds a message.
    pub(super) fn push_publish(&mut self, delivery: &Delivery, id: Option<PacketId>, dup: bool) {
        self.push(delivery.header(id, dup));
        self.push(delivery.message.payload.clone());
    }

    /// Fills `slices` with what comes first; returns how many are filled.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Forgets the first `count` bytes: they are written.
    pub(super) fn written(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > count {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
        self.pieces.shrink_to(0);
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_writes_continue_in_the_middle_of_a_piece() {
        let mut out = Outgoing::default();
        for piece in ["abc", "", "defg", "h"] {
            out.push(Bytes::from_static(piece.as_bytes()));
        }
        out.written(2);
        out.written(2);
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = out.slices(&mut slices);
        assert_eq!(slices[..filled].iter().map(|s| &**s).collect::<Vec<_>>(), [&b"efg"[..], b"h"]);
        out.written(4);
        assert!(out.is_empty());
    }
}
