//! The bus of a simulated fleet: what is retained, and what is on its way to whom.

use std::{collections::BTreeMap, rc::Rc};

use schemas::topic::Topic;

/// Who is on the bus beside its broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// A device, by its place.
    Device(usize),
    Controller,
}

/// What is on its way, or is to happen at a time.
#[derive(Debug, Clone)]
pub(crate) enum Parcel {
    /// A message to a peer.
    Message(Peer, Topic, Rc<[u8]>),
    /// A peer subscribes anew: everything retained comes again.
    Again(Peer),
    /// A message of a device reaches the broker.
    ToBroker(usize, Topic, Rc<[u8]>),
    /// The broker notices that a device is gone: the session of this number.
    Will(usize, u64),
}

/// The broker and its wires.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    pub(crate) retained: BTreeMap<Topic, Rc<[u8]>>,
    wires: BTreeMap<(u64, u64), Parcel>,
    count: u64,
}

impl Hub {
    /// Lets a parcel arrive at `at_ms`; of those that arrive at the same time, the one that was sent first.
    pub(crate) fn send(&mut self, at_ms: u64, parcel: Parcel) {
        self.count += 1;
        self.wires.insert((at_ms, self.count), parcel);
    }

    pub(crate) fn arrives_ms(&self) -> Option<u64> {
        self.wires.keys().next().map(|(at_ms, _)| *at_ms)
    }

    pub(crate) fn take(&mut self) -> Option<Parcel> {
        self.wires.pop_first().map(|(_, parcel)| parcel)
    }

    /// The connection of a peer breaks: what was on its way to it, and from it, is lost.
    pub(crate) fn cut(&mut self, peer: Peer) {
        self.wires.retain(|_, parcel| match parcel {
            Parcel::Message(to, ..) | Parcel::Again(to) => *to != peer,
            Parcel::ToBroker(from, ..) => Peer::Device(*from) != peer,
            Parcel::Will(..) => true,
        });
    }
}
