//! How many connections there are, in all and from each address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// So many times more than from one address come from a whole IPv6 network, in which one machine has all addresses that it
/// wants and a fleet may be at home.
const NETWORK_FACTOR: usize = 16;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// In all.
    pub(crate) total: usize,
    /// From one address that is not this machine.
    pub(crate) per_address: usize,
}

/// Counts connections; each has a [`Place`] for as long as it lives.
#[derive(Debug)]
pub(crate) struct Places {
    limits: ConnectionLimits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    /// Of IPv6 alone.
    by_network: HashMap<IpAddr, usize>,
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// All places are free.
    pub(crate) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// A place for a connection from `address`, if there is one.
    pub(crate) fn take(places: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let ConnectionLimits { total, per_address } = places.limits;
        let address = address.to_canonical();
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let from = |counts: &HashMap<IpAddr, usize>, key| counts.get(&key).copied().unwrap_or_default();
        let is_too_many = from(&taken.by_address, address) >= per_address
            || from(&taken.by_network, network(address)) >= per_address.saturating_mul(NETWORK_FACTOR);
        if taken.total >= total || is_too_many && !address.is_loopback() {
            return None;
        }
        taken.total += 1;
        *taken.by_address.entry(address).or_default() += 1;
        if address.is_ipv6() {
            *taken.by_network.entry(network(address)).or_default() += 1;
        }
        Some(Place { places: Arc::clone(places), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        give_back(&mut taken.by_address, self.address);
        give_back(&mut taken.by_network, network(self.address));
    }
}

fn give_back(counts: &mut HashMap<IpAddr, usize>, key: IpAddr) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// An IPv6 network, in which one machine may have all addresses, or an IPv4 address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & NETWORK).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_by_address_and_are_given_back() {
        let limits = ConnectionLimits { total: 3, per_address: 2 };
        let places = Places::new(limits);
        let take = |address: &str| Places::take(&places, address.parse().unwrap());
        let first = take("10.0.0.1");
        let second = take("10.0.0.1");
        assert!(first.is_some() && second.is_some() && take("10.0.0.1").is_none());
        let third = take("10.0.0.2");
        assert!(third.is_some() && take("10.0.0.3").is_none());
        drop(first);
        assert!(take("10.0.0.1").is_some());
        drop((second, third));
        let local: Vec<_> = (0..3).map(|_| take("127.0.0.1")).collect();
        assert!(local.iter().all(Option::is_some));
        drop(local);
        assert!(places.taken.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn one_machine_with_many_addresses_leaves_places_for_others() {
        let places = Places::new(ConnectionLimits { total: 100, per_address: 2 });
        let take = |address: String| Places::take(&places, address.parse().unwrap());
        let held: Vec<_> = (0..50).filter_map(|n| take(format!("2001:db8:1:2::{n}"))).collect();
        assert_eq!(held.len(), 2 * NETWORK_FACTOR);
        assert!(take("2001:db8:1:3::1".to_owned()).is_some() && take("10.0.0.1".to_owned()).is_some());
        let local: Vec<_> = (0..3).map(|_| take("::ffff:127.0.0.1".to_owned())).collect();
        assert!(local.iter().all(Option::is_some));
        drop((held, local));
        assert!(places.taken.lock().unwrap().by_network.is_empty());
    }

    #[test]
    fn a_network_is_one_place() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
