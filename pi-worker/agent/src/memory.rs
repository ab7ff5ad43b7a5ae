//! What a node remembers over restarts: how often it started, the newest time it was told, its record, whose keys count.

use std::path::PathBuf;

use schemas::{root::Root, seal::Signed, time::UnixTime};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tracing::warn;

use crate::{
    chain::chain,
    durable::{self, DurableError},
    keeper::Keeper,
    whole::sweep_drafts,
};

const SPEC: u32 = 1;

/// What a node remembers about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    spec: u32,
    /// How often the worker was started; orders its reports.
    pub(crate) boot: u64,
    /// The newest time in a verified document: the clock is never before it.
    pub(crate) floor: UnixTime,
    /// The envelope of the newest record that came over the bus.
    pub(crate) record: Option<ByteBuf>,
    /// The root documents that followed the one of the file.
    #[serde(default)]
    pub(crate) roots: Vec<Signed<Root>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { spec: SPEC, boot: 0, floor: UnixTime(0), record: None, roots: Vec::new() }
    }
}

impl Memory {
    /// What the file says, with one more start, which is on the disk when this returns, unless the disk is full.
    ///
    /// A damaged file is begun anew: `clock_secs` then stands in for the lost number of starts, so that reports still
    /// count as newer than those before.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn open(path: PathBuf, clock_secs: u64) -> Result<(Self, Keeper<Self>), DurableError> {
        if let Some(folder) = path.parent() {
            sweep_drafts(folder);
        }
        let mut memory = match durable::read(&path) {
            Ok(read) => read.unwrap_or_default(),
            Err(error @ DurableError::Damaged { .. }) => {
                warn!(error = %chain(&error), "Memory of this node is begun anew");
                durable::set_aside(&path)?;
                Self { boot: clock_secs, ..Self::default() }
            }
            Err(error) => return Err(error),
        };
        memory.boot = memory.boot.saturating_add(1);
        match durable::replace(&path, &memory) {
            // Better to look after the apps, and to say so, than to be gone until somebody makes room.
            Err(error) if error.is_full() => warn!(error = %chain(&error), "This start is not counted"),
            replaced => replaced?,
        }
        let keeper = Keeper::start(memory.clone(), move |memory| durable::replace(&path, memory));
        Ok((memory, keeper))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_disk::TinyDisk;

    #[tokio::test]
    async fn every_start_is_counted_and_the_newest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.cbor");
        let (mut memory, keeper) = Memory::open(path.clone(), 0).unwrap();
        assert_eq!(memory.boot, 1);
        for floor in 1..=3 {
            memory.floor = UnixTime(floor);
            keeper.keep(memory.clone());
        }
        keeper.finish().await;
        let (memory, _keeper) = Memory::open(path, 0).unwrap();
        assert_eq!((memory.boot, memory.floor), (2, UnixTime(3)));
    }

    #[tokio::test]
    async fn a_full_disk_is_no_reason_not_to_start() {
        let Some(disk) = TinyDisk::mount() else { return };
        disk.fill();
        let (memory, _keeper) = Memory::open(disk.path().join("node.cbor"), 0).unwrap();
        assert_eq!(memory.boot, 1);
    }

    #[tokio::test]
    async fn after_a_damaged_file_starts_still_count_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.cbor");
        std::fs::write(&path, b"torn").unwrap();
        let (memory, _keeper) = Memory::open(path, 1_800_000_000).unwrap();
        assert_eq!(memory.boot, 1_800_000_001);
    }
}
