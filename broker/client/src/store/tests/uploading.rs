//! Uploading to stores that cut, stall and refuse, and asking them what they lack.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use schemas::id::Digest;
use tokio::time::timeout;

use super::{
    Key, StoreError, client,
    flaky::{Fault, Flaky},
    impatient, is_unusual, object,
};
use crate::{
    Credentials,
    store::{Source, Store, Uploaded},
};

const LARGE: usize = 3_000_000;

#[tokio::test]
async fn something_small_takes_one_request() {
    let store = Flaky::start(&[]).await;
    let (key, bytes) = object(1000);
    let source = Source::Bytes(bytes.clone().into());
    let progress = AtomicU64::new(0);
    let tell = |sent| progress.store(sent, Ordering::Relaxed);
    assert_eq!(client(&[&store]).upload(key, &source, &tell).await.unwrap(), Uploaded::Stored);
    assert_eq!(store.held(key).unwrap(), bytes);
    assert_eq!(progress.into_inner(), 1000);
    assert_eq!(upload(&store, key, &source).await.unwrap(), Uploaded::AlreadyThere);
    assert_eq!(store.log(), ["PUT 0", "PUT 0"]);
}

#[tokio::test]
async fn an_upload_can_run_in_a_task_of_its_own() {
    let store = Flaky::start(&[]).await;
    let client = client(&[&store]);
    let (key, bytes) = object(1000);
    let uploading = tokio::spawn(async move {
        client.missing(&[key.digest()], &[]).await?;
        client.upload(key, &Source::Bytes(bytes.into()), &|_| {}).await
    });
    assert_eq!(uploading.await.unwrap().unwrap(), Uploaded::Stored);
}

#[tokio::test]
async fn something_empty_can_be_uploaded() {
    let store = Flaky::start(&[]).await;
    let (key, bytes) = object(0);
    assert_eq!(upload(&store, key, &Source::Bytes(bytes.into())).await.unwrap(), Uploaded::Stored);
}

#[tokio::test]
async fn something_large_that_is_there_is_not_sent() {
    let store = Flaky::start(&[]).await;
    let (key, bytes) = object(LARGE);
    store.hold(key, &bytes);
    assert_eq!(upload(&store, key, &Source::Bytes(bytes.into())).await.unwrap(), Uploaded::AlreadyThere);
    assert_eq!(store.log(), ["HEAD"]);
}

#[tokio::test]
async fn an_upload_that_is_cut_carries_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (key, bytes) = object(LARGE);
    let path = folder.path().join("object");
    std::fs::write(&path, &bytes).unwrap();
    for source in [Source::Bytes(bytes.clone().into()), Source::File(path)] {
        // Every other request is a HEAD, which has no body to cut.
        let cut = Fault::CutAfter(1_000_000);
        let store = Flaky::start(&[cut, cut, cut, cut]).await;
        assert_eq!(upload(&store, key, &source).await.unwrap(), Uploaded::Stored);
        assert_eq!(store.held(key).unwrap(), bytes);
        assert_eq!(store.log(), ["HEAD", "PUT 0", "HEAD", "PUT 1000000", "HEAD", "PUT 2000000"]);
    }
}

#[tokio::test]
async fn a_store_in_trouble_is_tried_again() {
    let store = Flaky::start(&[Fault::Status(500)]).await;
    let (key, bytes) = object(1000);
    assert_eq!(upload(&store, key, &Source::Bytes(bytes.into())).await.unwrap(), Uploaded::Stored);
    assert_eq!(store.log(), ["PUT 0", "HEAD", "PUT 0"]);
}

#[tokio::test]
async fn what_an_earlier_run_has_sent_is_not_sent_again() {
    let store = Flaky::start(&[]).await;
    let (key, bytes) = object(1000);
    store.hold_partial(key, &bytes[..600]);
    assert_eq!(upload(&store, key, &Source::Bytes(bytes.into())).await.unwrap(), Uploaded::Stored);
    assert_eq!(store.log(), ["PUT 0", "PUT 600"]);
}

#[tokio::test]
async fn a_beginning_that_does_not_fit_is_replaced() {
    for beginning in [600, 1000, 1500] {
        let store = Flaky::start(&[]).await;
        let (key, bytes) = object(1000);
        store.hold_partial(key, &vec![0; beginning]);
        assert_eq!(upload(&store, key, &Source::Bytes(bytes.into())).await.unwrap(), Uploaded::Stored);
        assert_eq!(store.log(), ["PUT 0".to_owned(), format!("PUT {beginning}"), "PUT 0".to_owned()]);
    }
}

#[tokio::test]
async fn wrong_bytes_are_refused_for_good() {
    let store = Flaky::start(&[]).await;
    let error = upload(&store, object(1000).0, &Source::Bytes(object(999).1.into())).await.unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }) && !error.is_transient(), "{error:?}");
    assert_eq!(store.log().len(), 1);
}

#[tokio::test]
async fn who_is_not_permitted_learns_as_whom_and_what_to_do() {
    let store = Flaky::start(&[]).await;
    let (key, bytes) = object(1000);
    let stranger = Store::open(vec![store.url()], Some(Credentials::new("eve", "guess")), None).unwrap();
    let error = stranger.upload(key, &Source::Bytes(bytes.into()), &|_| {}).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }) && !error.is_transient(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("user `eve`") && !text.contains("guess"), "{text}");
    assert!(error.advice().contains("role is publisher"));
}

#[tokio::test]
async fn what_is_too_large_for_the_store_is_not_tried_again() {
    let store = Flaky::start(&[Fault::Status(413)]).await;
    let (key, bytes) = object(1000);
    let error = upload(&store, key, &Source::Bytes(bytes.into())).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }) && !error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_gone_is_named() {
    let store = Flaky::start(&[]).await;
    let source = Source::File(PathBuf::from("/nowhere/object"));
    let error = upload(&store, object(1).0, &source).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nowhere/object");
    assert_eq!(store.log().len(), 0);
}

#[tokio::test]
async fn a_store_that_stops_taking_is_noticed() {
    // More than fits into the buffers between the two.
    let (key, bytes) = object(40_000_000);
    let store = Flaky::start(&[Fault::Status(404), Fault::StallAfter(1000), Fault::Status(403)]).await;
    let source = Source::Bytes(bytes.into());
    let client = impatient(&[&store]);
    // The kernel gives up too, but after half a minute only.
    let given_up = timeout(Duration::from_secs(20), client.upload(key, &source, &|_| {})).await;
    let error = given_up.unwrap().unwrap_err();
    // The second try is refused, which shows that the first was given up.
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert_eq!(store.log(), ["HEAD", "PUT 0", "HEAD"]);
}

#[tokio::test]
async fn a_store_may_take_longer_to_check_and_keep_what_it_got() {
    let store = Flaky::start(&[Fault::Late]).await;
    let (key, bytes) = object(1000);
    let source = Source::Bytes(bytes.into());
    assert_eq!(impatient(&[&store]).upload(key, &source, &|_| {}).await.unwrap(), Uploaded::Stored);
    assert_eq!(store.log(), ["PUT 0"]);
}

#[tokio::test]
async fn what_is_missing_is_what_was_asked_for_and_is_not_there() {
    let store = Flaky::start(&[Fault::Status(502)]).await;
    let (there, bytes) = object(10);
    store.hold(there, &bytes);
    let (absent, tree) = (Digest::of(b"absent"), Digest::of(b"tree"));
    let missing = client(&[&store]).missing(&[there.digest(), absent], &[tree]).await.unwrap();
    assert_eq!((missing.objects, missing.manifests), (vec![absent], vec![tree]));
    assert_eq!(store.log(), ["POST", "POST"]);
}

#[tokio::test]
async fn nothing_is_asked_about_nothing() {
    let store = Flaky::start(&[]).await;
    assert_eq!(client(&[&store]).missing(&[], &[]).await.unwrap().objects, []);
    assert_eq!(store.log().len(), 0);
}

#[tokio::test]
async fn an_answer_that_is_no_list_or_too_long_is_refused() {
    let store = Flaky::start(&[Fault::Garbage, Fault::TooMuch]).await;
    for _ in 0..2 {
        let error = client(&[&store]).missing(&[Digest::of(b"x")], &[]).await.unwrap_err();
        assert!(is_unusual(&error), "{error:?}");
    }
}

async fn upload(store: &Flaky, key: Key, source: &Source) -> Result<Uploaded, StoreError> {
    client(&[store]).upload(key, source, &|_| {}).await
}
