//! Fetching from stores that cut, stall and lie.

use super::{
    Key, StoreError, client,
    flaky::{Fault, Flaky},
    impatient, is_unusual, object,
};
use crate::store::{Body, Store};

const LEN: usize = 100_000;
const MAX: u64 = LEN as u64;

#[tokio::test]
async fn a_whole_object_comes_with_its_size() {
    let (store, key, bytes) = holding(&[]).await;
    let mut body = client(&[&store]).fetch(key, 0, MAX).await.unwrap();
    assert_eq!((body.offset(), body.total_bytes()), (0, MAX));
    assert_eq!(read(&mut body).await.unwrap(), bytes);
    assert_eq!(store.log(), ["GET"]);
}

#[tokio::test]
async fn a_fetch_carries_on_from_any_byte() {
    let (store, key, bytes) = holding(&[]).await;
    let mut body = client(&[&store]).fetch(key, 99_999, MAX).await.unwrap();
    assert_eq!((body.offset(), body.total_bytes()), (99_999, MAX));
    assert_eq!(read(&mut body).await.unwrap(), bytes[99_999..]);
    assert_eq!(store.log(), ["GET bytes=99999-"]);
}

#[tokio::test]
async fn a_cut_in_the_middle_is_passing() {
    let (store, key, _) = holding(&[Fault::CutAfter(1000)]).await;
    let mut body = client(&[&store]).fetch(key, 0, MAX).await.unwrap();
    let error = read(&mut body).await.unwrap_err();
    assert!(matches!(error, StoreError::Cut { .. }) && error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_small_thing_is_completed_over_cuts_without_fetching_twice() {
    let (store, key, bytes) =
        holding(&[Fault::CutAfter(1000), Fault::Status(500), Fault::CutAfter(10)]).await;
    assert_eq!(client(&[&store]).fetch_to_vec(key, MAX).await.unwrap(), bytes);
    assert_eq!(store.log(), ["GET", "GET bytes=1000-", "GET bytes=1000-", "GET bytes=1010-"]);
}

#[tokio::test]
async fn retries_end_at_some_time() {
    let (store, key, _) = holding(&[Fault::Status(503); 10]).await;
    let error = client(&[&store]).fetch_to_vec(key, MAX).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { status: 503, .. }) && error.is_transient(), "{error:?}");
    assert_eq!(store.log().len(), 4);
}

#[tokio::test]
async fn silence_is_noticed_before_the_answer_and_within_it() {
    let (store, key, _) = holding(&[Fault::StallAfter(0), Fault::StallAfter(1000)]).await;
    for _ in 0..2 {
        let error = match impatient(&[&store]).fetch(key, 0, MAX).await {
            Ok(mut body) => read(&mut body).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, StoreError::Slow { .. }) && error.is_transient(), "{error:?}");
    }
}

#[tokio::test]
async fn a_store_that_crawls_is_found_out() {
    let (store, key, _) = holding(&[Fault::Crawl]).await;
    let mut body = impatient(&[&store]).fetch(key, 0, MAX).await.unwrap();
    let error = read(&mut body).await.unwrap_err();
    assert!(matches!(error, StoreError::Crawling { .. }) && error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn what_is_longer_than_permitted_is_refused_before_its_first_byte() {
    let (store, key, _) = holding(&[]).await;
    let client = client(&[&store]);
    for offset in [0, 10] {
        let error = client.fetch(key, offset, MAX - 1).await.unwrap_err();
        assert!(
            matches!(error, StoreError::TooLong { bytes: MAX, .. }) && !error.is_transient(),
            "{error:?}"
        );
    }
    assert!(client.fetch_to_vec(key, MAX - 1).await.is_err());
    assert_eq!(store.log().len(), 3);
}

#[tokio::test]
async fn no_more_is_taken_than_was_said() {
    let (store, key, bytes) = holding(&[Fault::TooMuch]).await;
    assert_eq!(client(&[&store]).fetch_to_vec(key, MAX).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_refused() {
    let (store, key, _) = holding(&[Fault::NoLength]).await;
    let error = client(&[&store]).fetch(key, 0, MAX).await.unwrap_err();
    assert!(is_unusual(&error), "{error:?}");
}

#[tokio::test]
async fn another_range_than_asked_for_is_refused() {
    let (store, key, _) = holding(&[Fault::WrongRange]).await;
    let error = client(&[&store]).fetch(key, 500, MAX).await.unwrap_err();
    assert!(is_unusual(&error), "{error:?}");
}

#[tokio::test]
async fn a_range_that_is_not_as_long_as_it_says_is_noticed_at_its_end() {
    let (store, key, _) = holding(&[Fault::RangeOffBy(1), Fault::RangeOffBy(-1)]).await;
    let client = client(&[&store]);
    let shorter = read(&mut client.fetch(key, 500, MAX + 1).await.unwrap()).await.unwrap_err();
    assert!(matches!(shorter, StoreError::Cut { .. }), "{shorter:?}");
    let longer = read(&mut client.fetch(key, 500, MAX).await.unwrap()).await.unwrap_err();
    assert!(is_unusual(&longer), "{longer:?}");
}

#[tokio::test]
async fn a_store_without_ranges_starts_over() {
    let (store, key, bytes) = holding(&[Fault::NoRange]).await;
    let mut body = client(&[&store]).fetch(key, 500, MAX).await.unwrap();
    assert_eq!(body.offset(), 0);
    assert_eq!(read(&mut body).await.unwrap(), bytes);
}

#[tokio::test]
async fn small_things_are_whole_also_when_the_store_starts_over() {
    let (store, key, bytes) = holding(&[Fault::CutAfter(1000), Fault::NoRange]).await;
    assert_eq!(client(&[&store]).fetch_to_vec(key, MAX).await.unwrap(), bytes);
}

#[tokio::test]
async fn an_offset_beyond_the_end_starts_over() {
    let (store, key, bytes) = holding(&[]).await;
    let mut body = client(&[&store]).fetch(key, MAX, MAX).await.unwrap();
    assert_eq!(body.offset(), 0);
    assert_eq!(read(&mut body).await.unwrap(), bytes);
}

#[tokio::test]
async fn what_no_store_has_is_absent_and_not_retried() {
    let stores = [Flaky::start(&[]).await, Flaky::start(&[]).await];
    let error = client(&[&stores[0], &stores[1]]).fetch_to_vec(object(3).0, MAX).await.unwrap_err();
    assert!(error.is_absent() && !error.is_transient(), "{error:?}");
    assert_eq!((stores[0].log().len(), stores[1].log().len()), (1, 1));
}

#[tokio::test]
async fn the_next_store_is_tried_when_one_is_down_or_lacks_it() {
    let (full, key, bytes) = holding(&[]).await;
    let (down, empty) = (Flaky::down(), Flaky::start(&[]).await);
    let client = client(&[&down, &empty, &full]);
    assert_eq!(client.fetch_to_vec(key, MAX).await.unwrap(), bytes);
    let mut body = client.fetch(key, 7, MAX).await.unwrap();
    assert_eq!(read(&mut body).await.unwrap(), bytes[7..]);
}

#[tokio::test]
async fn while_one_store_is_down_absence_in_another_is_not_the_last_word() {
    let (down, empty) = (Flaky::down(), Flaky::start(&[]).await);
    let error = client(&[&down, &empty]).fetch(object(3).0, 0, MAX).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }) && error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn many_fetches_run_at_the_same_time_in_tasks_of_their_own() {
    let (store, key, bytes) = holding(&[]).await;
    let client = client(&[&store]);
    let fetches = (0..20).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.fetch_to_vec(key, MAX).await })
    });
    for fetch in fetches.collect::<Vec<_>>() {
        assert_eq!(fetch.await.unwrap().unwrap(), bytes);
    }
}

#[test]
fn a_client_without_addresses_is_refused() {
    assert!(matches!(Store::open(Vec::new(), None, None), Err(StoreError::NoAddress)));
}

async fn holding(faults: &[Fault]) -> (Flaky, Key, Vec<u8>) {
    let store = Flaky::start(faults).await;
    let (key, bytes) = object(LEN);
    store.hold(key, &bytes);
    (store, key, bytes)
}

async fn read(body: &mut Body) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
