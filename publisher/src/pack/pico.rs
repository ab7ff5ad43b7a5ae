//! What of an app or of firmware for Picos can be judged before any Pico has it.

use std::{fs, path::Path};

use anyhow::Result;
use schemas::{
    id::AppId,
    manifest::{Manifest, Node},
    reason::Reason,
    release::ANY_PLATFORM,
    time::UnixTime,
};
use uf2::{Chip, Firmware};

use super::{Packed, Request, pack, read_app_file};
use crate::{
    app_file::{Joint, NAME, Pico},
    problem::{Advise as _, problem},
};

/// What the guard imports.
const MAIN: &str = "main.py";
/// Half of what MicroPython leaves for files on a Pico W, 848 KiB: the release before stays there, too.
const ROOMY_BYTES: u64 = 424 * 1024;

/// What is better said now than by a Pico: an error, or warnings.
pub(super) fn check(manifest: &Manifest) -> Result<Vec<String>> {
    if !manifest.files().any(|(path, ..)| path == MAIN) {
        return Err(problem(
            "the folder has no main.py, which is what a Pico runs",
            "add main.py, and call deploy_guard.alive() in its loop",
        ));
    }
    let is_link = |node: &Node| matches!(node, Node::Symlink { .. });
    if let Some(link) = manifest.entries().iter().find(|entry| is_link(&entry.node)) {
        return Err(problem(
            format!("{} is a link, and a Pico has none", link.path),
            "put a copy in its place, or leave it out with `ignore` under [app]",
        ));
    }
    let size_kb = manifest.size_bytes() / 1_000;
    let is_tight = manifest.size_bytes() > ROOMY_BYTES;
    let warning = format!(
        "the app has {size_kb} KB: on a Pico W the release that ran before goes to make room for it, so that going back has to bring it anew"
    );
    Ok(is_tight.then_some(warning).into_iter().collect())
}

/// Packs the folder of the Picos that keep a release together with their Pi, whose folder is `folder`. Both say `named`
/// in their deploybus.toml, and are released as `app`.
pub(super) fn pack_beside(
    joint: &Joint,
    named: &AppId,
    app: &AppId,
    version: &str,
    folder: &Path,
    caches: Option<&Path>,
    now: UnixTime,
) -> Result<Packed> {
    let pico = folder.join(&joint.pico);
    let file = read_app_file(&pico)?;
    let wrong =
        |text: String, advice: &str| problem(format!("{}: {text}", pico.join(NAME).display()), advice);
    match file.pico {
        Some(Pico::App) => {}
        Some(Pico::Firmware { .. }) => {
            let text = "it is firmware, which is a release of its own".to_owned();
            return Err(wrong(text, "announce that folder by itself"));
        }
        None => {
            let text = "it has no [pico]".to_owned();
            return Err(wrong(text, "add a line `[pico]`: the folder of [joint] is for Picos"));
        }
    }
    if file.name != *named {
        let text = format!("it is for app `{}`, the folder above for `{named}`", file.name);
        return Err(wrong(text, "give both the same name under [app]: they are one release"));
    }
    if let Some(other) = file.version.filter(|other| other.to_string() != version) {
        let text = format!("it says version {other}, the folder above is {version}");
        return Err(wrong(text, "leave `version` out there: they are one release"));
    }
    let request = Request {
        folder: pico,
        app: Some(app.clone()),
        version: Some(version.to_owned().try_into()?),
        ..Request::default()
    };
    let mut packed = pack(&request, caches, now)?;
    packed.part.joint = Some(joint.first);
    Ok(packed)
}

/// The chip that a file of firmware is for. The bridge asks the same again before it touches a Pico.
pub(super) fn check_firmware(folder: &Path, file: &str, one_way: bool, platform: &str) -> Result<Chip> {
    let path = folder.join(file);
    let what = || format!("cannot use {}", path.display());
    let bytes =
        fs::read(&path).advise(what(), "build it first, and say where it is with `firmware` under [pico]")?;
    let firmware = Firmware::parse(&bytes).advise(what(), Reason::BadFirmware.advice())?;
    let chip = firmware.chip();
    if platform != ANY_PLATFORM && platform != chip.platform() {
        return Err(problem(
            format!("{} is for an {chip}, and `platform` under [app] is {platform}", path.display()),
            format!("leave `platform` out: it is {} for this file", chip.platform()),
        ));
    }
    if firmware.micropython().is_none() && !one_way {
        return Err(problem(
            format!(
                "{} has no MicroPython in it, and nothing else can be asked back into BOOTSEL",
                path.display()
            ),
            Reason::OneWay.advice(),
        ));
    }
    Ok(chip)
}
