//! Whether there is room for a build, and that what was built is on the disk.

use std::path::Path;

use agent::ContainerSettings;
use bollard::Docker;
use machine::Fault;
use rustix::fs::{Mode, OFlags};
use schemas::reason::Reason;
use tokio::task::spawn_blocking;
use tracing::debug;

use crate::fault::fault;

const MB: u64 = 1_000_000;

/// Refuses a build for which there is too little disk or memory.
pub(super) async fn check(docker: &Docker, settings: &ContainerSettings) -> Result<(), Fault> {
    if let Some((folder, free)) = free(docker).await {
        enough(Reason::DiskFull, &format!("free in {folder}"), free, settings.free_disk_bytes)?;
    }
    match memory_free_bytes(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()) {
        Some(free) => enough(Reason::MemoryLow, "of memory available", free, settings.free_memory_bytes),
        None => Ok(()),
    }
}

/// Where the engine keeps images, and how many bytes are free there. Of an engine on another machine that says nothing here.
pub(super) async fn free(docker: &Docker) -> Option<(String, u64)> {
    let folder = root(docker).await?;
    let disk = rustix::fs::statvfs(&folder).ok()?;
    Some((folder, disk.f_bavail.saturating_mul(disk.f_frsize)))
}

/// Brings what the engine has written to the disk: a layer that is hollow after a power cut would be believed.
pub(super) async fn sync(docker: &Docker) {
    let Some(folder) = root(docker).await else { return };
    let synced = spawn_blocking(move || {
        let folder = rustix::fs::open(Path::new(&folder), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?;
        rustix::fs::syncfs(folder)
    });
    if let Ok(Err(err)) = synced.await {
        debug!(%err, "the engine's folder cannot be synced from here");
    }
}

async fn root(docker: &Docker) -> Option<String> {
    docker.info().await.ok()?.docker_root_dir
}

fn enough(reason: Reason, what: &str, free: u64, needed: u64) -> Result<(), Fault> {
    if free >= needed {
        return Ok(());
    }
    Err(fault(reason, format!("{} MB {what}, a build needs {} MB", free / MB, needed / MB)))
}

fn memory_free_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_is_said_with_both_amounts() {
        assert!(enough(Reason::DiskFull, "free in /x", 5 * MB, 5 * MB).is_ok());
        let fault = enough(Reason::DiskFull, "free in /x", 4 * MB, 5 * MB).unwrap_err();
        assert_eq!(fault.text, "4 MB free in /x, a build needs 5 MB");
        assert_eq!(memory_free_bytes("MemTotal: 1 kB\nMemAvailable:   2 kB\n"), Some(2048));
    }
}
