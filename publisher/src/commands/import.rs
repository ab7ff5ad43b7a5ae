//! `publisher import`: a compose file that is there already, as a `deploybus.toml`.

use std::{fs, path::Path};

use anyhow::Result;
use serde_json::json;

use crate::{
    app_file,
    cli::Import,
    compose::{ComposeError, import},
    exit::Exit,
    home::files,
    problem::{Advise as _, problem},
    screen::Screen,
};

/// Writes it beside the compose file, unless there is one.
pub(super) fn run(arguments: &Import, screen: &Screen) -> Result<Exit> {
    let file = &arguments.file;
    let what = || format!("cannot use {}", file.display());
    let yaml = fs::read_to_string(file).advise(what(), "name a compose file, such as compose.yaml")?;
    let imported = import(&yaml, arguments.service.as_deref()).advise_by(what(), |error| match error {
        ComposeError::Several(_) | ComposeError::NoSuch(..) => {
            "say which with --service; each becomes an app of its own"
        }
        ComposeError::Unsupported { .. } => {
            "change it there, or write deploybus.toml by hand: docs/containers.md"
        }
        ComposeError::Yaml(_) | ComposeError::NoServices => "name a compose file, such as compose.yaml",
    })?;
    app_file::parse(&imported.text).advise(what(), "write deploybus.toml by hand: docs/containers.md")?;
    let out =
        arguments.out.clone().unwrap_or_else(|| file.parent().unwrap_or(Path::new(".")).join(app_file::NAME));
    if out.exists() {
        return Err(problem(format!("{} is there already", out.display()), "name another file with --out"));
    }
    files::replace(&out, imported.text.as_bytes(), files::PUBLIC)
        .advise(format!("cannot write {}", out.display()), "name another file with --out")?;
    if screen.is_json() {
        screen.json(&json!({ "file": out, "left_out": imported.left_out }))?;
        return Ok(Exit::Done);
    }
    for left_out in &imported.left_out {
        screen.note(&format!("left out: {left_out}"));
    }
    screen.say(&format!(
        "{} is written\n\nnext:\n  say with `files` under [container] where the code is in the image, so that nodes read it back\n  \
         publisher announce {} --group canary",
        out.display(),
        out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).display()
    ));
    Ok(Exit::Done)
}
