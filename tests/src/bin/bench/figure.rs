//! Figures as a table and as JSON lines.

use std::{
    fmt,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::broker::Brand;

/// What `/proc` counts processor time in: `USER_HZ`, on every architecture of ours.
const TICKS_PER_SEC: f64 = 100.0;

/// Where the figures of one run go.
#[derive(Debug)]
pub(crate) struct Figures {
    path: PathBuf,
    file: File,
}

/// What is measured: of which bench, what, and in which unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) bench: &'a str,
    pub(crate) what: &'a str,
    pub(crate) unit: &'a str,
}

/// What the design asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    /// At most this part of what Mosquitto takes.
    Ratio(f64),
    /// At most so much.
    Most(f64),
    /// Nothing was asked.
    None,
}

/// Measurements of the same thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    /// Adds a time in milliseconds.
    pub(crate) fn push_ms(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1_000.0);
    }

    /// The one in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.at(50)
    }

    /// The one that 99 of 100 do not exceed: the worst of fewer.
    pub(crate) fn p99(&self) -> f64 {
        self.at(99)
    }

    fn at(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (percent * sorted.len()).div_ceil(100);
        sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

impl From<f64> for Samples {
    fn from(value: f64) -> Self {
        Self(vec![value])
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.pad(&short(self.median())),
            _ => f.pad(&format!("{} / {}", short(self.median()), short(self.p99()))),
        }
    }
}

impl Figures {
    /// Starts a new file in the target folder.
    pub(crate) fn create() -> Result<Self> {
        let target = e2e::binary("broker")?;
        let folder = target.parent().and_then(Path::parent).context("no target folder")?.join("bench");
        fs::create_dir_all(&folder)?;
        let path = folder.join("figures.jsonl");
        println!(
            "{:<10}{:<46}{:>20}{:>20}{:>8}  aim",
            "bench", "what (median / p99)", "deploybus", "mosquitto", "ratio"
        );
        Ok(Self { file: File::create(&path)?, path })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A figure that is ours alone.
    pub(crate) fn ours(&mut self, measured: Measured<'_>, samples: &Samples, aim: Aim) -> Result<()> {
        self.compare(measured, &[(Brand::Deploybus, samples.clone())], aim)
    }

    /// A figure of each that was measured.
    pub(crate) fn compare(
        &mut self,
        measured: Measured<'_>,
        samples: &[(Brand, Samples)],
        aim: Aim,
    ) -> Result<()> {
        let of = |brand| samples.iter().find(|(by, _)| *by == brand).map(|(_, samples)| samples);
        let theirs = of(Brand::Mosquitto).map(|theirs| (Brand::Mosquitto.name(), theirs));
        self.beside(measured, of(Brand::Deploybus), theirs, aim)
    }

    /// A figure of ours, beside that of another way to get the same, which has a name.
    pub(crate) fn beside(
        &mut self,
        measured: Measured<'_>,
        ours: Option<&Samples>,
        theirs: Option<(&str, &Samples)>,
        aim: Aim,
    ) -> Result<()> {
        let Measured { bench, what, unit } = measured;
        for (by, samples) in ours.map(|ours| (Brand::Deploybus.name(), ours)).into_iter().chain(theirs) {
            let line = json!({
                "bench": bench, "what": what, "unit": unit, "by": by, "rounds": samples.0.len(),
                "median": rounded(samples.median()), "p99": rounded(samples.p99()),
            });
            writeln!(self.file, "{line}")?;
        }
        let theirs = theirs.map(|(_, samples)| samples);
        let ratio =
            ours.zip(theirs).map(|(ours, theirs)| ours.median() / theirs.median()).filter(|r| r.is_finite());
        let shown = |samples: Option<&Samples>| samples.map(ToString::to_string).unwrap_or_default();
        let verdict = aim.verdict(ours.map_or(f64::NAN, Samples::median), ratio);
        println!(
            "{bench:<10}{:<46}{:>20}{:>20}{:>8}  {verdict}",
            format!("{what}, {unit}").trim_end_matches([',', ' ']),
            shown(ours),
            shown(theirs),
            ratio.map(short).unwrap_or_default(),
        );
        Ok(())
    }
}

impl Aim {
    fn verdict(self, ours: f64, ratio: Option<f64>) -> String {
        let met = |is_met| if is_met { "met" } else { "missed" };
        match self {
            Self::Ratio(most) => match ratio {
                Some(ratio) => format!("ratio {most}: {}", met(ratio <= most)),
                None => format!("ratio {most}"),
            },
            Self::Most(most) => format!("{}: {}", short(most), met(ours <= most)),
            Self::None => String::new(),
        }
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Resident memory of a process in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Processor time of a process so far, in seconds.
pub(crate) fn cpu_secs(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before the last parenthesis may have spaces; `utime` and `stime` are the fields 14 and 15 (proc(5)).
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks = |field: usize| -> Result<f64> {
        Ok(fields.split_whitespace().nth(field - 3).context("too few fields in stat")?.parse()?)
    };
    Ok((ticks(14)? + ticks(15)?) / TICKS_PER_SEC)
}
