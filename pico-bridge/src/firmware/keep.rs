//! What the Pi knows of a Pico's firmware, in a file: what is on the chip, and what is being brought there. A chip that was cut in
//! the middle waits in BOOTSEL without a name; this says which it is, and what it waits for.
//!
//! ```text
//! <data>/picos/<node>/firmware.cbor   what is known
//! <data>/picos/<node>/original.uf2    what was on the chip before the first release, read off it
//! ```

use std::{fs, path::PathBuf};

use agent::{Settings, replace_file};
use machine::{Fault, Slot};
use schemas::{
    codec,
    id::{AppId, Digest},
    reason::Reason,
    release::PartKind,
};
use serde::{Deserialize, Serialize};
use uf2::Firmware;

use crate::{
    fault,
    shelf::{Shelf, name_of},
};

/// Most bytes of it: a few names and digests.
const MAX_KNOWN_BYTES: usize = 16 * 1024;

/// One firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Image {
    /// What was on the chip before the first release.
    Original,
    /// That of a release.
    Release {
        /// The app that it is.
        app: AppId,
        /// The tree of its part.
        tree: Digest,
    },
}

/// How far it is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// It is to be flashed; the chip is as it was.
    Wanted,
    /// It is being flashed: the chip may hold half of it, and stays in BOOTSEL.
    Begun,
    /// It was flashed and read back; the chip has not come up with it yet.
    Flashed,
}

/// What is being brought to the chip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnderWay {
    pub(crate) image: Image,
    /// What is brought there when the chip does not come up with it.
    pub(crate) before: Image,
    pub(crate) stage: Stage,
}

/// What is known of one Pico's firmware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Known {
    /// The Pico.
    pub(crate) serial: String,
    /// The port of USB that it was seen at last: the same in BOOTSEL.
    pub(crate) usb_path: String,
    /// What was flashed last from here, and holds since.
    pub(crate) on_chip: Option<Image>,
    pub(crate) under_way: Option<UnderWay>,
    /// A release with which the chip did not come up.
    pub(crate) bad: Option<Digest>,
}

impl Known {
    /// The chip is up, whatever it runs: what was flashed has had its chance.
    pub(crate) fn came_up(&mut self) {
        self.under_way = self.under_way.take().filter(|on_way| on_way.stage == Stage::Wanted);
    }

    /// Whether nothing of what is under way is on the chip.
    pub(crate) fn is_untouched(&self) -> bool {
        self.under_way.as_ref().is_none_or(|on_way| on_way.stage == Stage::Wanted)
    }

    /// What is under way is so far.
    pub(crate) fn at(&mut self, stage: Stage) {
        if let Some(on_way) = &mut self.under_way {
            on_way.stage = stage;
        }
    }
}

/// What is known of one Pico's firmware, and the firmware itself, on the Pi's disk.
#[derive(Debug, Clone)]
pub(crate) struct Keep(Settings);

impl Keep {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(settings)
    }

    /// What is known: nothing where the file is missing or cannot be read.
    pub(crate) fn load(&self) -> Known {
        let bytes = fs::read(self.file()).unwrap_or_default();
        codec::decode(&bytes, MAX_KNOWN_BYTES).unwrap_or_default()
    }

    /// Keeps what is known now.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn store(&self, known: &Known) -> Result<(), Fault> {
        if self.load() == *known {
            return Ok(());
        }
        let path = self.file();
        replace_file(&path, &codec::encode(known)).map_err(|error| fault::disk("write", &path, &error))
    }

    /// Whether the app is firmware, by what is on its shelf.
    pub(crate) fn has(&self, app: &AppId) -> bool {
        let shelf = Shelf::new(self.0.app_dirs(app));
        shelf.trees().into_iter().any(|tree| self.slot(app, tree).is_some())
    }

    /// The release, as it is on the shelf.
    pub(crate) fn slot(&self, app: &AppId, tree: Digest) -> Option<Slot> {
        let slot = Shelf::new(self.0.app_dirs(app)).find(&name_of(tree))?;
        (slot.part.kind == PartKind::Uf2).then_some(slot)
    }

    /// The firmware, read from the Pi's disk and found to be whole.
    ///
    /// # Errors
    /// When it is not there, or is none.
    pub(crate) fn firmware(&self, image: &Image) -> Result<Firmware, Fault> {
        let bytes = match image {
            Image::Original => {
                let path = self.original();
                fs::read(&path)
                    .map_err(|error| fault::disk("read what was on the chip before, in", &path, &error))?
            }
            Image::Release { app, tree } => {
                let shelf = Shelf::new(self.0.app_dirs(app));
                let lost = || {
                    fault::permanent(
                        Reason::SlotMismatch,
                        format!("firmware {tree} is not on the Pi any more"),
                    )
                };
                let manifest = shelf.manifest(*tree).ok_or_else(lost)?;
                let mut files = manifest.files();
                let (Some((.., digest)), None) = (files.next(), files.next()) else {
                    let text = "firmware is one file, and this release has another number of them";
                    return Err(fault::permanent(Reason::BadFirmware, text));
                };
                shelf.read(digest)?
            }
        };
        Firmware::parse(&bytes).map_err(|error| fault::permanent(Reason::BadFirmware, error.to_string()))
    }

    /// Keeps what was read off the chip.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn keep_original(&self, firmware: &Firmware) -> Result<(), Fault> {
        let path = self.original();
        replace_file(&path, &firmware.encode()).map_err(|error| fault::disk("write", &path, &error))
    }

    /// Whether what was on the chip is kept.
    pub(crate) fn has_original(&self) -> bool {
        self.original().exists()
    }

    /// Forgets what was on the chip: another firmware came there by hand since.
    pub(crate) fn drop_original(&self) {
        // What stays only takes room, and is replaced.
        let _ = fs::remove_file(self.original());
    }

    fn file(&self) -> PathBuf {
        self.0.data.join("firmware.cbor")
    }

    fn original(&self) -> PathBuf {
        self.0.data.join("original.uf2")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_outlives_the_bridge_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pi-worker.toml");
        let text = "node = \"pi-1\"\nfleet = \"home\"\nbus = \"mqtt://h:1\"\nstore = [\"http://h:2\"]\n";
        fs::write(&config, format!("{text}data = {:?}\n", folder.path())).unwrap();
        let keep = Keep::new(Settings::load(&config).unwrap());
        assert_eq!(keep.load(), Known::default());
        let image = Image::Release { app: "micropython".parse().unwrap(), tree: Digest::of(b"tree") };
        let on_way = UnderWay { image: image.clone(), before: Image::Original, stage: Stage::Wanted };
        let mut known = Known { serial: "e6".into(), usb_path: "1-1.4".into(), ..Known::default() };
        known.under_way = Some(on_way);
        known.at(Stage::Begun);
        keep.store(&known).unwrap();
        assert_eq!(keep.load().under_way.unwrap().stage, Stage::Begun);
        assert_eq!(keep.firmware(&image).unwrap_err().reason, Reason::SlotMismatch, "it is not on the shelf");
        assert!(!keep.has_original());
        fs::write(keep.file(), [0xff; 20]).unwrap();
        assert_eq!(keep.load(), Known::default());
    }
}
