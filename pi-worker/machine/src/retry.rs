//! When to try again: back-off that doubles, and places that are spread over the nodes without random numbers.

use schemas::id::{Digest, NodeId, Revision};

/// Longest pause between two tries before the switch.
pub(crate) const PREPARE_LIMIT_MS: u64 = 300_000;
/// Longest pause between two starts of an app that does not stay up.
pub(crate) const START_LIMIT_MS: u64 = 60_000;
/// Pause after a journal could not be written.
pub(crate) const JOURNAL_PAUSE_MS: u64 = 5_000;

/// The pause after `failures` failures in a row, of which there was at least one: 1, 2, 4 … seconds up to `limit_ms`.
pub(crate) fn pause_ms(failures: u32, limit_ms: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(20);
    (1_000 << doublings).min(limit_ms)
}

/// Up to a quarter more than `pause_ms`, different on each node, so that a fleet does not come back in one moment.
pub(crate) fn spread_ms(pause_ms: u64, node: &NodeId, revision: Revision, failures: u32) -> u64 {
    pause_ms + place_ms(node, &format!("{revision}\0{failures}"), pause_ms / 4)
}

/// The place of `node` within `range_ms`; another salt gives other places.
pub(crate) fn place_ms(node: &NodeId, salt: &str, range_ms: u64) -> u64 {
    let digest = Digest::of(format!("{node}\0{salt}").as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&digest.0[..8]);
    let place = (u128::from(u64::from_be_bytes(head)) * u128::from(range_ms)) >> 64;
    u64::try_from(place).unwrap_or(range_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit() {
        let pauses: Vec<u64> = (1..=11).map(|n| pause_ms(n, PREPARE_LIMIT_MS) / 1_000).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pause_ms(u32::MAX, START_LIMIT_MS), START_LIMIT_MS);
    }

    #[test]
    fn places_are_the_same_each_time_and_spread_evenly_over_the_nodes() {
        let nodes: Vec<NodeId> = (0..1_000).map(|n| format!("pi-{n}").parse().unwrap()).collect();
        let places: Vec<u64> = nodes.iter().map(|node| place_ms(node, "7", 60_000)).collect();
        assert_eq!(places[5], place_ms(&nodes[5], "7", 60_000));
        for quarter in 0..4 {
            let range: std::ops::Range<u64> = quarter * 15_000..(quarter + 1) * 15_000;
            let count = places.iter().filter(|&&place| range.contains(&place)).count();
            assert!((200..300).contains(&count), "{count} nodes in {range:?}");
        }
    }

    #[test]
    fn a_spread_pause_is_at_most_a_quarter_longer() {
        let node = "pi-1".parse().unwrap();
        for failures in 1..40 {
            let spread = spread_ms(8_000, &node, Revision(3), failures);
            assert!((8_000..10_000).contains(&spread));
        }
        assert_eq!(place_ms(&node, "x", 0), 0);
    }
}
