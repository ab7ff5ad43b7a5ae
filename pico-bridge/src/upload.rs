//! Bringing a release onto a Pico: only what is not there yet, and read back from its flash.

use std::{collections::BTreeMap, time::Duration};

use agent::Cancel;
use machine::Fault;
use schemas::{
    id::Digest,
    manifest::{Manifest, Node},
    reason::Reason,
};
use serde::Deserialize;
use tracing::debug;

use crate::{
    fault,
    guard::{HELPER, Slots, quoted},
    repl::{Repl, ReplError},
    shelf::Shelf,
};

/// Bytes that the helper asks for at a time.
const FRAME_BYTES: usize = 1024;
/// A helper that has not answered by then is on a Pico that hangs: its watchdog ends it within 8 s.
const ANSWER_PATIENCE: Duration = Duration::from_secs(12);
/// Reading what is there and removing old releases takes long on a full flash.
const LOOK_PATIENCE: Duration = Duration::from_mins(1);

/// What the helper says of the Pico.
#[derive(Debug, Deserialize)]
struct Looked {
    slots: Slots,
    /// The release is there as a whole.
    complete: bool,
    /// Its files that are there, with their digests as they were read.
    here: BTreeMap<String, String>,
}

/// An upload under way.
pub(crate) struct Upload<'a> {
    pub(crate) shelf: &'a Shelf,
    pub(crate) manifest: &'a Manifest,
    /// The name of the release's folder on the Pico.
    pub(crate) release: &'a str,
    pub(crate) cancel: &'a Cancel,
}

impl Upload<'_> {
    /// Brings everything that is missing, and makes it a complete release. Gives the slots, and how many bytes were sent.
    pub(crate) async fn run(&self, repl: &mut Repl<'_>) -> Result<(Slots, u64), Fault> {
        ask(repl, "start the upload helper", HELPER).await?;
        let need = self.manifest.size_bytes();
        let looked = self.look(repl, need).await?;
        if looked.complete {
            // It was renamed when all of it was there and read back, and nothing changes it.
            return Ok((looked.slots, 0));
        }
        let mut sent = 0;
        for entry in self.manifest.entries() {
            if self.cancel.is_cancelled() {
                return Err(fault::cancelled());
            }
            match &entry.node {
                Node::Directory => {
                    let code = format!("folder({}, {})", quoted(self.release), quoted(&entry.path));
                    ask(repl, "make a folder", &code).await?;
                }
                Node::File { digest, .. } if looked.here.get(&entry.path) == Some(&digest.to_string()) => {
                    debug!(path = entry.path, "Is there already");
                }
                Node::File { digest, .. } => sent += self.put(repl, &entry.path, *digest).await?,
                Node::Symlink { .. } => {
                    let text = format!("{} is a link, which a Pico has not", entry.path);
                    return Err(fault::permanent(Reason::BadManifest, text));
                }
            }
        }
        self.complete(repl).await?;
        Ok((looked.slots, sent))
    }

    async fn look(&self, repl: &mut Repl<'_>, need: u64) -> Result<Looked, Fault> {
        let code = format!("look({}, {need})", quoted(self.release));
        let said =
            repl.run(&code, LOOK_PATIENCE).await.map_err(|error| fault::of("look at the Pico", &error))?;
        serde_json::from_str(said.trim()).map_err(|error| {
            fault::permanent(Reason::DeviceFault, format!("cannot read what the Pico says: {error}"))
        })
    }

    async fn put(&self, repl: &mut Repl<'_>, path: &str, digest: Digest) -> Result<u64, Fault> {
        let bytes = self.shelf.read(digest)?;
        let found = send(repl, self.release, path, &bytes, digest)
            .await
            .map_err(|error| fault::of(&format!("bring {path}"), &error))?;
        if found.trim() == digest.to_string() {
            return Ok(bytes.len() as u64);
        }
        let text = format!("{path} on the Pico reads back as {}, expected {digest}", found.trim());
        Err(fault::permanent(Reason::SlotMismatch, text))
    }

    /// One rename says that all of it is there.
    async fn complete(&self, repl: &mut Repl<'_>) -> Result<(), Fault> {
        let path = quoted(&format!("/apps/{}", self.release));
        let code = format!("guard.make({path} + \".tmp\")\nos.rename({path} + \".tmp\", {path})\nfeed()");
        ask(repl, "complete the release", &code).await
    }
}

/// Sends one file, frame by frame, and gives the digest that the Pico reads back.
async fn send(
    repl: &mut Repl<'_>,
    release: &str,
    path: &str,
    bytes: &[u8],
    digest: Digest,
) -> Result<String, ReplError> {
    let (release, path, digest) = (quoted(release), quoted(path), quoted(&digest.to_string()));
    repl.begin(&format!("put({release}, {path}, {}, {digest})", bytes.len())).await?;
    let mut said = Vec::new();
    for (place, frame) in bytes.chunks(FRAME_BYTES).enumerate() {
        // Each is asked for: a byte 3 that came before would interrupt the helper.
        while said.len() <= place {
            let more = repl.printed(ANSWER_PATIENCE).await?;
            said.extend(more.ok_or_else(|| ReplError::Unexpected("it ended too early".to_owned()))?);
        }
        repl.give(frame).await?;
    }
    let rest = repl.end(ANSWER_PATIENCE).await?;
    let (asked, begun) = said.split_at(bytes.len().div_ceil(FRAME_BYTES).min(said.len()));
    if asked.iter().any(|byte| *byte != b'K') {
        return Err(ReplError::Unexpected(String::from_utf8_lossy(asked).into_owned()));
    }
    Ok(String::from_utf8_lossy(begun).into_owned() + &rest)
}

/// Runs code whose output does not matter.
pub(crate) async fn ask(repl: &mut Repl<'_>, doing: &str, code: &str) -> Result<(), Fault> {
    repl.run(code, ANSWER_PATIENCE).await.map(drop).map_err(|error| fault::of(doing, &error))
}
