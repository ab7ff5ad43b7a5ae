//! `publisher decode`.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use anyhow::Result;
use schemas::manifest;

use crate::{
    cli::Decode,
    decode::{DecodeError, Judge, Signatures, decode},
    exit::Exit,
    home::Home,
    problem::{Advise as _, problem},
    screen::Screen,
};

/// The largest document is a manifest.
const MAX_BYTES: u64 = manifest::MAX_BYTES as u64;

/// Reads a document and shows it; wrong signatures are a failure.
pub(super) fn run(dir: &Path, arguments: &Decode, screen: &Screen) -> Result<Exit> {
    let bytes = read(&arguments.file)?;
    let home = if Home::is_at(dir) { Some(Home::open(dir)?) } else { None };
    let judge = judge(home.as_ref());
    let decoded = decode(&bytes, arguments.kind, judge.as_ref())
        .advise_by(format!("cannot decode {}", name(&arguments.file)), DecodeError::advice)?;
    if screen.is_json() {
        screen.json(&decoded)?;
    } else {
        screen.say(&decoded.text()?);
    }
    Ok(if matches!(decoded.signatures, Signatures::Wrong(_)) { Exit::Failed } else { Exit::Done })
}

/// The keys that a home knows.
pub(super) fn judge(home: Option<&Home>) -> Option<Judge> {
    let home = home?;
    let nodes = home.nodes().unwrap_or_default();
    let keys = nodes.into_iter().map(|known| (known.record.node.clone(), known.record.key)).collect();
    let controllers = home.controllers().unwrap_or_default().known;
    Some(Judge { trust: home.trust.clone(), keys, controllers })
}

fn name(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let what = || format!("cannot read {}", name(file));
    let advice = "name a file that is there and that you may read, or - for standard input";
    let mut bytes = Vec::new();
    let len = if file == Path::new("-") {
        io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes).advise(what(), advice)?
    } else {
        File::open(file)
            .and_then(|open| open.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .advise(what(), advice)?
    };
    if len as u64 > MAX_BYTES {
        return Err(problem(
            format!("{} is longer than any document", name(file)),
            "give one document at a time",
        ));
    }
    Ok(bytes)
}
