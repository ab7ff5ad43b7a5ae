//! What an image is built of, as the engine takes it: a tar of the slot's files, the same for the same files.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use schemas::manifest::{Entry, Manifest, Node};
use tar::{Builder, EntryType, Header};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::spawn_blocking,
};

use super::ignore::Ignore;

/// So many bytes are handed over at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// So many chunks wait for the engine: little enough for the smallest Pi.
const CHUNKS: usize = 4;

/// What a recipe of ours is called.
pub(super) const RECIPE: &str = "Dockerfile";

/// The entries of the tree that the image is built of. The recipe itself always goes along: the engine reads it.
pub(super) fn entries<'a>(
    manifest: &'a Manifest,
    dockerfile: &'a str,
    ignore: &'a Ignore,
) -> impl Iterator<Item = &'a Entry> {
    let is_recipe = move |path: &str| path == dockerfile || path == Ignore::NAME;
    manifest.entries().iter().filter(move |entry| is_recipe(&entry.path) || !ignore.leaves_out(&entry.path))
}

/// The tar of `entries` below `folder`, as it is read. A file that cannot be read ends the stream with an error.
pub(super) fn tar(folder: PathBuf, entries: Vec<Entry>) -> impl Stream<Item = io::Result<Bytes>> {
    stream(move |out| write(out, &folder, &entries))
}

/// The tar of a Dockerfile with this text, and of nothing else.
pub(super) fn recipe(text: String) -> impl Stream<Item = io::Result<Bytes>> {
    stream(move |out| {
        let mut tar = Builder::new(out);
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, RECIPE, text.as_bytes())?;
        tar.finish()
    })
}

/// What is written, as it is written. An error ends the stream with it.
pub(super) fn stream(
    write: impl FnOnce(&mut Chunks) -> io::Result<()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = channel(CHUNKS);
    spawn_blocking(move || {
        let mut out = Chunks { room: Vec::with_capacity(CHUNK_BYTES), sender: sender.clone() };
        let written = write(&mut out).and_then(|()| out.flush());
        if let Err(err) = written {
            // The engine may have hung up, so that nobody listens.
            let _ = sender.blocking_send(Err(err));
        }
    });
    stream::unfold(receiver, |mut receiver: Receiver<io::Result<Bytes>>| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    })
}

fn write(out: &mut impl Write, folder: &Path, entries: &[Entry]) -> io::Result<()> {
    let mut tar = Builder::new(out);
    for entry in entries {
        let path = folder.join(&entry.path);
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        match &entry.node {
            Node::Directory => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                tar.append_data(&mut header, format!("{}/", entry.path), io::empty())?;
            }
            Node::File { executable, .. } => {
                let file = File::open(&path)?;
                header.set_entry_type(EntryType::Regular);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(file.metadata()?.len());
                tar.append_data(&mut header, &entry.path, file)?;
            }
            Node::Symlink { target } => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                tar.append_link(&mut header, &entry.path, target)?;
            }
        }
    }
    tar.finish()
}

/// Collects what is written into chunks.
pub(super) struct Chunks {
    room: Vec<u8>,
    sender: Sender<io::Result<Bytes>>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        self.room.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.room, Vec::with_capacity(CHUNK_BYTES));
        if chunk.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use futures_util::TryStreamExt as _;
    use schemas::id::Digest;

    use super::*;

    async fn packed(folder: &Path, manifest: &Manifest, ignore: &str) -> Vec<u8> {
        let ignore = Ignore::parse(ignore);
        let entries: Vec<_> = entries(manifest, "Dockerfile", &ignore).cloned().collect();
        let chunks: Vec<Bytes> = tar(folder.to_owned(), entries).try_collect().await.unwrap();
        chunks.concat()
    }

    fn folder(mtime_secs: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        for (path, content) in [("Dockerfile", "FROM scratch"), ("src/app.py", "print()"), ("NOTES.md", "x")]
        {
            fs::write(dir.path().join(path), content).unwrap();
            let file = File::options().write(true).open(dir.path().join(path)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(mtime_secs)).unwrap();
        }
        dir
    }

    fn manifest() -> Manifest {
        let file = |path: &str| Entry {
            path: path.into(),
            node: Node::File { executable: false, size: 1, digest: Digest::of(b"") },
        };
        let link = Entry { path: "src/link".into(), node: Node::Symlink { target: "app.py".into() } };
        let src = Entry { path: "src".into(), node: Node::Directory };
        Manifest::new(vec![file("Dockerfile"), src, file("src/app.py"), link, file("NOTES.md")]).unwrap()
    }

    #[tokio::test]
    async fn the_same_files_are_the_same_bytes_whenever_they_were_written() {
        let (one, other) = (folder(1), folder(1_000_000));
        let (one, other) =
            (packed(one.path(), &manifest(), "").await, packed(other.path(), &manifest(), "").await);
        assert_eq!(one, other);
    }

    #[tokio::test]
    async fn what_is_ignored_does_not_go_along_but_for_the_recipe() {
        let dir = folder(1);
        let bytes = packed(dir.path(), &manifest(), "*.md\nDockerfile").await;
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, ["Dockerfile", "src/", "src/app.py", "src/link"]);
    }

    #[tokio::test]
    async fn a_file_that_is_gone_ends_it_with_an_error() {
        let dir = folder(1);
        fs::remove_file(dir.path().join("src/app.py")).unwrap();
        let entries = manifest().entries().to_vec();
        let read: io::Result<Vec<Bytes>> = tar(dir.path().to_owned(), entries).try_collect().await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
