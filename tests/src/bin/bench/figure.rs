//! Figures as JSON lines.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::json;

/// Where the figures of one run go.
#[derive(Debug)]
pub(crate) struct Figures {
    path: PathBuf,
    file: File,
}

impl Figures {
    /// Starts a new file in the target folder.
    pub(crate) fn create() -> Result<Self> {
        let target = e2e::binary("broker")?;
        let folder = target.parent().and_then(Path::parent).context("no target folder")?.join("bench");
        fs::create_dir_all(&folder)?;
        let path = folder.join("figures.jsonl");
        Ok(Self { file: File::create(&path)?, path })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one figure: of which bench, what, how much, in which unit, and by whom.
    pub(crate) fn add(&mut self, bench: &str, what: &str, value: f64, unit: &str, by: &str) -> Result<()> {
        let value = (value * 100.0).round() / 100.0;
        let line = json!({ "bench": bench, "what": what, "value": value, "unit": unit, "by": by });
        writeln!(self.file, "{line}")?;
        println!("{bench:<8} {what:<44} {value:>12} {unit:<8} {by}");
        Ok(())
    }
}

/// The median of some measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Resident memory of a process in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
