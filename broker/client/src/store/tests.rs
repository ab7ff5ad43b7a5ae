//! The client against a store that cuts, stalls, lies and forgets.

mod fetching;
mod flaky;
mod uploading;

use std::time::Duration;

use schemas::id::Digest;

use super::{Key, Patience, Store, StoreError};
use crate::Credentials;
use flaky::Flaky;

/// A client that waits for nothing longer than a test should take, but longer than a slow machine needs.
fn client(stores: &[&Flaky]) -> Store {
    let urls = stores.iter().map(|store| store.url()).collect();
    let mut store = Store::open(urls, Some(Credentials::new("anna", "secret")), None).unwrap();
    store.patience = Patience { silence: Duration::from_secs(20), first_retry: Duration::from_millis(1) };
    store
}

/// The same, for those who wait in vain.
fn impatient(stores: &[&Flaky]) -> Store {
    let mut store = client(stores);
    store.patience.silence = Duration::from_millis(200);
    store
}

/// Bytes that name themselves: the fake stores nothing compressed.
fn object(len: usize) -> (Key, Vec<u8>) {
    let bytes: Vec<u8> = (0..len).map(|n| (n * 7 + n / 251) as u8).collect();
    (Key::Object(Digest::of(&bytes)), bytes)
}

fn is_unusual(error: &StoreError) -> bool {
    matches!(error, StoreError::Unusual { .. }) && !error.is_transient()
}
