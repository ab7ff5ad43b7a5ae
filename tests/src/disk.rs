//! Disks that are small enough to fill.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::process::Output;

/// A file system of a given size, gone when dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at `folder`; none where this user may not.
    pub(crate) fn mount(folder: &Path, size: &str) -> Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder);
        let is_mounted = Output::of(&mut mount)?.code == Some(0);
        Ok(is_mounted.then(|| Self(folder.to_path_buf())))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for what is being killed may still hold it.
        let _ = Output::of(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}
