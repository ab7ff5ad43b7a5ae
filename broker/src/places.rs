//! How many connections there are, in all and from each address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

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
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= places.limits.total {
            return None;
        }
        let from_there = taken.by_address.entry(address).or_default();
        if *from_there >= places.limits.per_address && !address.is_loopback() {
            return None;
        }
        *from_there += 1;
        taken.total += 1;
        Some(Place { places: Arc::clone(places), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
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
}
