//! The fetcher against a store that misbehaves.

use std::{fs, sync::Mutex, time::Duration};

use bus_client::store::Key;
use schemas::{
    id::{Counter, Revision},
    manifest::{Entry, Node},
    reason::Reason,
    time::UnixTime,
};

use super::*;
use crate::testing::{
    self, noise,
    server::{Server, Trick},
    tiny_disk::TinyDisk,
    wait_until,
};

/// More than stays in memory, and nothing that compresses.
const LARGE: usize = 3 * 1024 * 1024;

#[tokio::test]
async fn brings_manifest_and_objects_and_says_what_it_cost() {
    let node = TestNode::new(&[b"one", b"two", b""]).await;
    let cost = node.fetch().await.unwrap();
    for content in [&b"one"[..], b"two", b""] {
        assert_eq!(node.landed(content).unwrap(), content);
    }
    let stored: usize = node.stored.values().map(Vec::len).sum();
    assert_eq!(cost, Yield { fetched_bytes: stored as u64, requests: 4, built: None });
    assert_eq!(node.server.requests(), 4);
}

#[tokio::test]
async fn brings_nothing_twice() {
    let mut node = TestNode::new(&[b"one", b"two"]).await;
    node.fetch().await.unwrap();
    assert_eq!(node.fetch().await.unwrap(), Yield::default());
    fs::remove_dir_all(&node.dirs.objects).unwrap();
    node.present = [(Digest::of(b"one"), 3)].into();
    assert_eq!(node.fetch().await.unwrap().requests, 1);
    assert!(node.landed(b"one").is_none() && node.landed(b"two").is_some());
}

#[tokio::test]
async fn goes_on_where_the_wire_was_cut() {
    let large = noise(LARGE);
    let node = TestNode::new(&[&large]).await;
    node.server.play(object(&large), &[Trick::CutAfter(1_000_000), Trick::CutAfter(700_000)]);
    let cost = node.fetch().await.unwrap();
    assert_eq!(node.landed(&large).unwrap(), large);
    assert_eq!(node.server.asked(object(&large)), [0, 1_000_000, 1_700_000]);
    let stored: usize = node.stored.values().map(Vec::len).sum();
    assert_eq!(cost, Yield { fetched_bytes: stored as u64, requests: 4, built: None });
}

#[tokio::test]
async fn what_is_half_there_is_left_for_the_next_fetch() {
    let large = noise(LARGE);
    let node = TestNode::new(&[&large, b"small"]).await;
    node.server.play(object(&large), &[Trick::CutAfter(500_000), Trick::Trouble, Trick::Trouble]);
    let fault = node.fetch().await.unwrap_err();
    assert_eq!((fault.reason, fault.transient), (Reason::StoreUnreachable, true));
    assert!(node.landed(b"small").is_none(), "nothing is final before all of it is");
    node.fetch().await.unwrap();
    assert_eq!(node.server.asked(object(&large)).last(), Some(&500_000));
    assert_eq!(node.server.asked(object(b"small")), [0]);
    assert_eq!((node.landed(&large).unwrap(), node.landed(b"small").unwrap()), (large, b"small".to_vec()));
}

#[tokio::test]
async fn a_part_of_something_else_is_fetched_from_the_beginning() {
    let large = noise(LARGE);
    let node = TestNode::new(&[&large]).await;
    let landing = Landing::open(&node.dirs.objects).unwrap();
    fs::write(landing.part(Digest::of(&large)), vec![7; 5_000]).unwrap();
    node.fetch().await.unwrap();
    assert_eq!(node.server.asked(object(&large)), [5_000, 0]);
    assert_eq!(node.landed(&large).unwrap(), large);
}

#[tokio::test]
async fn a_part_that_is_longer_than_the_object_is_dropped() {
    let large = noise(LARGE);
    let node = TestNode::new(&[&large]).await;
    let landing = Landing::open(&node.dirs.objects).unwrap();
    let longer = node.stored[&object(&large)].len() + 10;
    fs::write(landing.part(Digest::of(&large)), vec![7; longer]).unwrap();
    node.fetch().await.unwrap();
    assert_eq!(node.server.asked(object(&large)), [longer, 0]);
    assert_eq!(node.landed(&large).unwrap(), large);
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_never_land() {
    for size in [20, LARGE] {
        let (right, wrong) = (noise(size), vec![1; size]);
        let node = TestNode::new(&[&right]).await;
        node.server.put(object(&right), zstd::encode_all(&wrong[..], 1).unwrap());
        let fault = node.fetch().await.unwrap_err();
        assert_eq!((fault.reason, fault.transient), (Reason::DigestMismatch, false));
        assert!(fault.text.contains(node.server.url()), "{}", fault.text);
        assert!(node.landed(&right).is_none());
        node.server.put(object(&right), zstd::encode_all(&right[..], 1).unwrap());
        node.fetch().await.unwrap();
        assert_eq!(node.landed(&right).unwrap(), right);
    }
}

#[tokio::test]
async fn more_bytes_than_were_announced_are_refused() {
    let node = TestNode::new(&[b"short"]).await;
    for longer in [noise(100), noise(100_000)] {
        node.server.put(object(b"short"), zstd::encode_all(&longer[..], 1).unwrap());
        assert_eq!(node.fetch().await.unwrap_err().reason, Reason::DigestMismatch);
    }
    assert!(node.landed(b"short").is_none());
}

#[tokio::test]
async fn an_object_that_the_store_lacks_is_named() {
    let node = TestNode::new(&[b"here", b"gone"]).await;
    node.server.remove(object(b"gone"));
    let fault = node.fetch().await.unwrap_err();
    assert_eq!((fault.reason, fault.transient), (Reason::ObjectMissing, false));
    assert!(fault.text.contains(&Digest::of(b"gone").to_string()), "{}", fault.text);
}

#[tokio::test]
async fn a_manifest_that_is_wrong_missing_or_too_large_has_a_reason() {
    let mut node = TestNode::new(&[b"one"]).await;
    let key = Key::Manifest(node.slot.tree());
    let stored = node.stored[&key].clone();
    node.server.remove(key);
    assert_eq!(node.fetch().await.unwrap_err().reason, Reason::ObjectMissing);
    node.server.put(key, zstd::encode_all(&b"something else, of another length"[..], 1).unwrap());
    assert_eq!(node.fetch().await.unwrap_err().reason, Reason::DigestMismatch);
    node.server.put(key, stored);
    node.slot.part.size_bytes += 1;
    assert_eq!(node.fetch().await.unwrap_err().reason, Reason::BadManifest);
    node.slot.part.manifest_bytes = u64::MAX;
    assert_eq!(node.fetch().await.unwrap_err().reason, Reason::BadManifest);
}

#[tokio::test]
async fn a_store_in_trouble_is_asked_again_and_given_up_for_later() {
    let node = TestNode::new(&[b"one"]).await;
    node.server.play(object(b"one"), &[Trick::Trouble, Trick::CutAfter(0)]);
    assert_eq!(node.fetch().await.unwrap().requests, 4);
    let mut down = TestNode::new(&[b"one"]).await;
    down.fetcher = fetcher("http://127.0.0.1:1");
    let fault = down.fetch().await.unwrap_err();
    assert_eq!((fault.reason, fault.transient), (Reason::StoreUnreachable, true));
}

#[tokio::test]
async fn a_disk_without_room_is_noticed_before_anything_is_fetched() {
    let mut node = TestNode::new(&[&noise(1_000)]).await;
    node.fetcher.free_bytes = |_| Ok(1_050);
    let fault = node.fetch().await.unwrap_err();
    assert_eq!((fault.reason, fault.transient), (Reason::DiskFull, false));
    assert!(
        fault.text.contains("1100 bytes are needed") && fault.text.contains("1050 are free"),
        "{}",
        fault.text
    );
    assert_eq!(node.server.requests(), 1);
}

#[tokio::test]
async fn a_disk_that_fills_up_meanwhile_is_full_and_not_broken() {
    let Some(tiny) = TinyDisk::mount() else { return };
    let large = noise(LARGE);
    let mut node = TestNode::new(&[&large]).await;
    node.dirs.objects = tiny.path().join("objects");
    node.fetcher.free_bytes = |_| Ok(u64::MAX);
    let fault = node.fetch().await.unwrap_err();
    assert_eq!(fault.reason, Reason::DiskFull, "{}", fault.text);
    assert!(fault.text.contains("objects/tmp"), "{}", fault.text);
}

#[tokio::test]
async fn ends_soon_when_it_is_cancelled() {
    let node = TestNode::new(&[b"one", b"two"]).await;
    node.server.play(object(b"one"), &[Trick::Hang]);
    let (canceller, cancel) = Cancel::pair();
    let fetch = node.fetch_until(&cancel, |_| ());
    let cancelling = async {
        wait_until(|| !node.server.asked(object(b"one")).is_empty()).await;
        canceller.cancel();
    };
    let (outcome, ()) = tokio::join!(fetch, cancelling);
    assert_eq!(outcome.unwrap_err().reason, Reason::Superseded);
    node.fetch().await.unwrap();
    assert!(node.landed(b"one").is_some() && node.landed(b"two").is_some());
}

#[tokio::test]
async fn the_first_failure_ends_the_others() {
    let node = TestNode::new(&[b"gone", b"hangs"]).await;
    node.server.remove(object(b"gone"));
    node.server.play(object(b"hangs"), &[Trick::Hang]);
    let fetch = tokio::time::timeout(Duration::from_secs(10), node.fetch());
    assert_eq!(fetch.await.expect("it ends soon").unwrap_err().reason, Reason::ObjectMissing);
}

#[tokio::test]
async fn progress_rises_to_the_end() {
    let contents: Vec<_> = (0..40).map(|n| noise(20_000 + n)).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let mut node = TestNode::new(&contents).await;
    let limit = 1_000_000.try_into().ok();
    let settings = FetchSettings { bandwidth_bytes_per_s: limit, ..FetchSettings::default() };
    node.fetcher =
        Fetcher { pace: Fetcher::new(node.fetcher.store.clone(), "", settings).pace, ..node.fetcher };
    let told = Mutex::new(Vec::new());
    node.fetch_until(&Cancel::never(), |permille| told.lock().unwrap().push(permille)).await.unwrap();
    let told = told.into_inner().unwrap();
    assert!((2..=5).contains(&told.len()) && told.is_sorted(), "{told:?}");
}

/// A node with one slot to fetch, and the store that has it.
struct TestNode {
    _folder: tempfile::TempDir,
    server: Server,
    fetcher: Fetcher,
    dirs: AppDirs,
    slot: Slot,
    present: BTreeMap<Digest, u64>,
    stored: BTreeMap<Key, Vec<u8>>,
}

impl TestNode {
    async fn new(contents: &[&[u8]]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("apps/web");
        let server = Server::start().await;
        let manifest = manifest(contents);
        let plain = manifest.encode();
        let mut stored: BTreeMap<_, _> = contents
            .iter()
            .map(|content| (object(content), zstd::encode_all(*content, 1).unwrap()))
            .collect();
        stored.insert(Key::Manifest(manifest.tree_hash()), zstd::encode_all(&plain[..], 1).unwrap());
        for (key, stored) in &stored {
            server.put(*key, stored.clone());
        }
        Self {
            fetcher: fetcher(server.url()),
            dirs: AppDirs { data: root.join("data"), objects: root.join("objects"), root },
            slot: slot(&manifest, plain.len() as u64),
            present: BTreeMap::new(),
            stored,
            server,
            _folder: folder,
        }
    }

    async fn fetch(&self) -> Result<Yield, Fault> {
        self.fetch_until(&Cancel::never(), |_| ()).await
    }

    async fn fetch_until(&self, cancel: &Cancel, tell: impl Fn(u16) + Send + Sync) -> Result<Yield, Fault> {
        let present = self.present.clone();
        self.fetcher.fetch(&self.dirs, &self.slot, move |_| present, cancel, tell).await
    }

    fn landed(&self, content: &[u8]) -> Option<Vec<u8>> {
        fs::read(self.dirs.objects.join(Digest::of(content).to_string())).ok()
    }
}

fn fetcher(url: &str) -> Fetcher {
    let store = Store::open(vec![url.parse().unwrap()], None, None).unwrap();
    Fetcher::new(store, url, FetchSettings::default())
}

fn object(content: &[u8]) -> Key {
    Key::Object(Digest::of(content))
}

fn manifest(contents: &[&[u8]]) -> Manifest {
    let entry = |(number, content): (usize, &&[u8])| Entry {
        path: format!("file-{number}"),
        node: Node::File { executable: false, size: content.len() as u64, digest: Digest::of(content) },
    };
    Manifest::new(contents.iter().enumerate().map(entry).collect()).unwrap()
}

fn slot(manifest: &Manifest, manifest_bytes: u64) -> Slot {
    let mut part = testing::part(manifest.tree_hash());
    (part.size_bytes, part.manifest_bytes) = (manifest.size_bytes(), manifest_bytes);
    Slot {
        release: Digest::of(b"release"),
        version: "1.0.0".into(),
        counter: Counter(1),
        min_counter: Counter(0),
        commit: String::new(),
        notes: String::new(),
        revision: Revision(1),
        group: "all".parse().unwrap(),
        part,
        since: UnixTime(0),
    }
}
