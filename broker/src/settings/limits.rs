//! `[limits]`: what there may be at most, so that no client can take the broker's memory or disk from the others.

use serde::Deserialize;

const MIB: usize = 1024 * 1024;

/// What there may be at most.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// One MQTT packet. Ours are under 64 KiB; other users of the bus send pictures of cameras.
    pub packet_bytes: usize,
    /// MQTT connections in all: twice the largest fleet that was measured (docs/measurements.md).
    pub connections: usize,
    /// HTTP connections in all: nodes fetch one after the other over a few each.
    pub http_connections: usize,
    /// Connections of each kind from one address other than this machine: a house behind one router has fewer.
    pub connections_per_address: usize,
    /// Sessions, connected or kept: as many again may be away.
    pub sessions: usize,
    /// Sessions of one user, connected or kept: a stolen password leaves no more than that behind.
    pub sessions_per_user: usize,
    /// Levels of all filters of one user's sessions: each costs memory, and time with each message.
    pub filter_levels_per_user: usize,
    /// How long the session of an absent client is kept at most. What counts is retained, so a day is plenty.
    pub session_expiry_secs: u32,
    /// The longest keep-alive: a client of MQTT 5 with a longer one, or none, is told this one. 0 allows any.
    pub keep_alive_secs: u16,
    /// Messages that wait for one client; the oldest go first.
    pub queue_messages: usize,
    /// Bytes that wait for one client.
    pub queue_bytes: usize,
    /// Bytes of messages on their way from all clients; beyond, publishers wait. Fits the memory of the smallest Pi.
    pub in_transit_bytes: usize,
    /// Retained topics: ten each for the largest fleet that was measured.
    pub retained_topics: usize,
    /// Bytes of retained messages; they are in memory as well.
    pub retained_bytes: usize,
    /// Retained topics of one user.
    pub retained_topics_per_user: usize,
    /// Bytes of retained messages of one user: a stolen password fills no more than that.
    pub retained_bytes_per_user: usize,
    /// One object as it is stored.
    pub object_bytes: u64,
    /// One object unpacked.
    pub plain_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        /// The largest file of FAT32, as which an image may come on a stick.
        const LARGEST_FILE: u64 = 4 * 1024 * 1024 * 1024;
        Self {
            packet_bytes: MIB,
            connections: 20_000,
            http_connections: 2_000,
            connections_per_address: 256,
            sessions: 40_000,
            sessions_per_user: 256,
            filter_levels_per_user: 50_000,
            session_expiry_secs: 24 * 60 * 60,
            keep_alive_secs: 60 * 60,
            queue_messages: 1_000,
            queue_bytes: MIB,
            in_transit_bytes: 16 * MIB,
            retained_topics: 100_000,
            retained_bytes: 256 * MIB,
            retained_topics_per_user: 50_000,
            retained_bytes_per_user: 32 * MIB,
            object_bytes: LARGEST_FILE,
            plain_bytes: LARGEST_FILE,
        }
    }
}
