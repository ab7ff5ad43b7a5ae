//! Thousands of random scenarios, each played in the simulator; one that breaks a rule is made short and saved.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{Failed, Kind, Played, Scenario, script};

/// Of so many, one is gentle, and one steady.
const KINDS: u64 = 4;

/// After so many broken histories there is enough to look at.
const MAX_BROKEN: usize = 6;

/// Histories that follow one another.
#[derive(Debug, Clone, Copy)]
pub struct Histories {
    /// The seed of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// What they showed.
#[derive(Debug, Default)]
pub struct Summary {
    /// What happened how often.
    pub told: BTreeMap<String, u64>,
    /// Nodes that began after a stop, for the message that stops them was on its way.
    pub late_begins: u64,
    /// How often the rules were asked.
    pub checks: u64,
    /// Those that broke a rule: which one, and how to see it again.
    pub broken: Vec<String>,
}

impl Histories {
    /// Plays them on every core.
    ///
    /// # Errors
    /// When one breaks a rule: says which, and where it was saved.
    pub fn play(self) -> Result<Summary> {
        let workers = thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let share = |worker: u64| move || self.play_some(worker, workers);
        let results: Vec<Result<Summary>> = thread::scope(|scope| {
            let running: Vec<_> = (0..workers).map(|worker| scope.spawn(share(worker))).collect();
            let end = |worker: ScopedJoinHandle<'_, Result<Summary>>| {
                worker.join().unwrap_or_else(|_| Err(anyhow!("a history panicked")))
            };
            running.into_iter().map(end).collect()
        });
        let mut summary = Summary::default();
        for some in results {
            summary.add(some?);
        }
        if summary.broken.is_empty() { Ok(summary) } else { bail!("{}", summary.broken.join("\n")) }
    }

    fn play_some(self, worker: u64, workers: u64) -> Result<Summary> {
        let mut summary = Summary::default();
        for seed in (self.first..self.first + self.count).skip(worker as usize).step_by(workers as usize) {
            let kind = match seed % KINDS {
                0 => Kind::Gentle,
                1 => Kind::Steady,
                _ => Kind::Wild,
            };
            let text = script(kind, seed);
            match play(&text) {
                Ok(played) => summary.add(Summary {
                    told: played.told,
                    late_begins: played.late_begins,
                    checks: played.checks,
                    broken: Vec::new(),
                }),
                Err(failed) => {
                    let saved = save(seed, &text, &failed)?;
                    summary.broken.push(format!("history {seed}: {failed}\n  {saved}"));
                    if summary.broken.len() >= MAX_BROKEN {
                        break;
                    }
                }
            }
        }
        Ok(summary)
    }
}

impl Summary {
    fn add(&mut self, other: Self) {
        self.late_begins += other.late_begins;
        self.checks += other.checks;
        self.broken.extend(other.broken);
        for (name, count) in other.told {
            *self.told.entry(name).or_default() += count;
        }
    }
}

fn play(text: &str) -> Result<Played, Failed> {
    Scenario::parse(text)?.play()
}

/// Leaves out every line without which the same still goes wrong, and writes the rest down.
fn save(seed: u64, text: &str, failed: &Failed) -> Result<String> {
    let kind = rule(&failed.what);
    let mut lines: Vec<&str> = text.lines().collect();
    let (mut width, mut tries) = (lines.len() / 2, 0);
    while width > 0 {
        let mut at = 0;
        while at < lines.len() && tries < 400 {
            let mut shorter = lines.clone();
            let left_out: Vec<&str> = shorter.drain(at..(at + width).min(lines.len())).collect();
            // Without it, what is still broken would not be at rest.
            if left_out.contains(&"repair") {
                at += width;
                continue;
            }
            tries += 1;
            match play(&shorter.join("\n")) {
                Err(failed) if rule(&failed.what) == kind => lines = shorter,
                _ => at += width,
            }
        }
        width /= 2;
    }
    let folder = folder()?;
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{seed}.txt"));
    let text = format!(
        "# {}\n# cargo run -p e2e -- replay target/histories/{seed}.txt\n{}\n",
        failed.what.lines().next().unwrap_or_default(),
        lines.join("\n")
    );
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(format!("cargo run -p e2e -- replay {}", path.display()))
}

/// The rule without the names and numbers in it.
fn rule(what: &str) -> String {
    let words = what.split_whitespace().take(12);
    let plain = words.filter(|word| word.chars().all(|letter| letter.is_ascii_lowercase()));
    plain.collect::<Vec<_>>().join(" ")
}

fn folder() -> Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("the workspace has a folder")?;
    Ok(std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), PathBuf::from)
        .join("histories"))
}
