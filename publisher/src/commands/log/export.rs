//! `publisher log export`: all of the log in a file.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, Result};
use schemas::deploy_log::Query;
use tempfile::NamedTempFile;

use super::Reader;
use crate::{
    exit::Exit,
    home::Home,
    problem::{Advise as _, problem},
    screen::Screen,
    show::{json, log},
};

/// Writes the file, whole or not at all.
pub(super) async fn run(home: &Home, path: &Path, is_csv: bool, screen: &Screen) -> Result<Exit> {
    if path.exists() {
        return Err(there_already(path));
    }
    let what = format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file =
        NamedTempFile::new_in(folder).advise(&what, "name a file in a folder that you can write to")?;
    let mut out = BufWriter::new(file.as_file());
    let entries = write(&Reader::open(home)?, &mut out, is_csv, screen).await?;
    out.flush().and_then(|()| file.as_file().sync_all()).advise(&what, "free space on its disk")?;
    drop(out);
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => there_already(path),
        _ => anyhow::Error::new(error.error).context(what),
    })?;
    if screen.is_json() {
        screen.json(&serde_json::json!({ "entries": entries, "file": path }))?;
    } else {
        screen.say(&format!("wrote {entries} entries to {}", path.display()));
    }
    Ok(Exit::Done)
}

fn there_already(path: &Path) -> anyhow::Error {
    problem(format!("{} is there already", path.display()), "name another file, or remove it")
}

async fn write(
    reader: &Reader<'_>,
    out: &mut BufWriter<&File>,
    is_csv: bool,
    screen: &Screen,
) -> Result<u64> {
    let state = reader.state().await?;
    let bar = screen.count_bar("exporting", state.seq - state.anchor_seq);
    let (mut query, mut entries) = (Query { after: Some(state.anchor_seq), ..Query::default() }, 0);
    if is_csv {
        writeln!(out, "{}", log::CSV_HEADER).context("cannot write")?;
    }
    loop {
        let page = reader.page(&query).await?;
        for row in &page.entries {
            let line = if is_csv { log::csv(row) } else { json(serde_json::to_string(row)?) };
            writeln!(out, "{line}").context("cannot write")?;
        }
        entries += page.entries.len() as u64;
        bar.set_position(entries);
        if !page.more || query.after == Some(page.next) {
            bar.finish_and_clear();
            return Ok(entries);
        }
        query.after = Some(page.next);
    }
}
