//! The app's files as they are in an image or a running container, compared with the manifest: stale layers and files
//! that a power cut has left empty are found by their bytes.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Component, Path},
};

use bollard::{Docker, errors::Error, query_parameters::DownloadFromContainerOptions};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use machine::Fault;
use schemas::{
    id::Digest,
    manifest::{Manifest, Node},
    reason::Reason,
    release::container::Container,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::mpsc::{Receiver, channel},
    task::spawn_blocking,
};

use super::{
    engine::{engine_fault, is_absent},
    ignore::Ignore,
};
use crate::fault::{chain, fault};

/// So many chunks wait to be hashed.
const CHUNKS: usize = 4;

/// Files by their path below one place of the image: size and digest.
type Wanted = BTreeMap<String, (u64, Digest)>;

/// What differs first in the container of that id; nothing when all is as it should be.
pub(super) async fn read_back(
    docker: &Docker,
    id: &str,
    container: &Container,
    manifest: &Manifest,
    ignore: &Ignore,
) -> Result<Option<String>, Fault> {
    for (from, to) in &container.files {
        let (place, wanted) = wanted(from, to, manifest, ignore);
        if let Some(difference) = compare(docker, id, &place, wanted).await? {
            return Ok(Some(difference));
        }
    }
    Ok(None)
}

/// The place in the image, and the files that must be there. A file lies at the place itself, under an empty path.
fn wanted(from: &str, to: &str, manifest: &Manifest, ignore: &Ignore) -> (String, Wanted) {
    let from = from.trim_start_matches("./").trim_end_matches('/');
    let is_all = from.is_empty() || from == ".";
    let mut wanted = Wanted::new();
    let mut place = to.trim_end_matches('/').to_owned();
    for entry in manifest.entries() {
        let Node::File { size, digest, .. } = entry.node else { continue };
        if entry.path == from {
            if to.ends_with('/') {
                place = format!("{place}/{}", from.rsplit('/').next().unwrap_or(from));
            }
            wanted.insert(String::new(), (size, digest));
        } else if !ignore.leaves_out(&entry.path) {
            let below = entry.path.strip_prefix(from).and_then(|rest| rest.strip_prefix('/'));
            let path = if is_all { Some(entry.path.as_str()) } else { below };
            wanted.extend(path.map(|path| (path.to_owned(), (size, digest))));
        }
    }
    (place, wanted)
}

async fn compare(docker: &Docker, id: &str, place: &str, wanted: Wanted) -> Result<Option<String>, Fault> {
    let options = DownloadFromContainerOptions { path: place.to_owned() };
    let archive = Box::pin(docker.download_from_container(id, Some(options)));
    let of = place.to_owned();
    match reading(archive, move |chunks| differs(&of, chunks, wanted)).await {
        Ok(compared) => compared.map_err(|err| {
            fault(Reason::NoProof, format!("cannot read {place} out of the image: {}", chain(err)))
        }),
        Err(err) if is_absent(&err) => Ok(Some(format!("there is no {place}"))),
        Err(err) => Err(engine_fault(Reason::NoProof, &format!("read {place} out of the image"), err)),
    }
}

/// Has `read` read what the engine sends; it may end before that does.
pub(super) async fn reading<T: Send + 'static>(
    mut archive: impl Stream<Item = Result<Bytes, Error>> + Unpin,
    read: impl FnOnce(Chunks) -> T + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = channel(CHUNKS);
    let reading = spawn_blocking(move || read(Chunks { receiver, left: Bytes::new() }));
    while let Some(chunk) = archive.next().await {
        // The reading has ended early when nobody takes it.
        if sender.send(chunk?).await.is_err() {
            break;
        }
    }
    drop(sender);
    Ok(reading.await.unwrap_or_else(|err| std::panic::resume_unwind(err.into_panic())))
}

/// The first difference between an archive of `place` and what is wanted there.
fn differs(place: &str, archive: impl Read, mut wanted: Wanted) -> io::Result<Option<String>> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let Some(path) = below_top(&entry.path()?) else { continue };
        let Some((size, digest)) = wanted.remove(&path) else { continue };
        let mut hash = Sha256::new();
        let found_size = io::copy(&mut entry, &mut hash)?;
        let found = Digest(hash.finalize().into());
        if (found_size, found) != (size, digest) {
            let name = if path.is_empty() { place.to_owned() } else { format!("{place}/{path}") };
            return Ok(Some(format!(
                "{name} has {found_size} bytes ({}), expected {size} bytes ({})",
                found.short(),
                digest.short()
            )));
        }
    }
    // What follows is read to the end, or the engine would be told that its answer is not wanted.
    Ok(wanted.into_keys().next().map(|path| format!("{place}/{path} is not in the image").replace("/ ", " ")))
}

/// The path without its first folder, which is the place itself.
fn below_top(path: &Path) -> Option<String> {
    let mut parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    parts.next()?;
    let rest: Option<Vec<&str>> = parts.map(|part| part.as_os_str().to_str()).collect();
    rest.map(|rest| rest.join("/"))
}

/// What the engine sends, as something that is read.
pub(super) struct Chunks {
    receiver: Receiver<Bytes>,
    left: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.left = chunk,
                None => return Ok(0),
            }
        }
        let len = room.len().min(self.left.len());
        room[..len].copy_from_slice(&self.left.split_to(len));
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::fixture::release;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn difference(files: &[(&str, &str)]) -> Option<String> {
        let release =
            release("1", &[("src/app.py", "new", false), ("src/lib/x.py", "x", false), ("a.md", "", false)]);
        let (place, wanted) = wanted("src", "/app", &release.manifest, &Ignore::default());
        differs(&place, archive(files).as_slice(), wanted).unwrap()
    }

    #[test]
    fn files_of_the_image_are_compared_with_the_manifest() {
        let good = ("app/lib/x.py", "x");
        assert_eq!(difference(&[("app/app.py", "new"), good, ("app/x.pyc", "more")]), None);
        let stale = difference(&[("app/app.py", "old"), good]).unwrap();
        assert!(stale.starts_with("/app/app.py has 3 bytes ("), "{stale}");
        let hollow = difference(&[("app/app.py", ""), good]).unwrap();
        assert!(hollow.starts_with("/app/app.py has 0 bytes (") && hollow.contains("expected 3"), "{hollow}");
        assert_eq!(difference(&[good]).unwrap(), "/app/app.py is not in the image");
    }

    #[test]
    fn a_single_file_and_the_whole_tree_have_their_places() {
        let release = release("1", &[("src/app.py", "new", false), ("a.md", "", false)]);
        let ignore = Ignore::parse("*.md");
        let (place, files) = wanted("src/app.py", "/app/", &release.manifest, &ignore);
        assert_eq!((place.as_str(), files.keys().next().unwrap().as_str()), ("/app/app.py", ""));
        assert_eq!(wanted("src/app.py", "/main.py", &release.manifest, &ignore).0, "/main.py");
        let (place, files) = wanted(".", "/app", &release.manifest, &ignore);
        assert_eq!(
            (place.as_str(), files.into_keys().collect::<Vec<_>>()),
            ("/app", vec!["src/app.py".to_owned()])
        );
    }
}
