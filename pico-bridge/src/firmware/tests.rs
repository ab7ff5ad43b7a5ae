use machine::Slot;
use schemas::{
    id::{Counter, Digest},
    manifest::{Entry, Manifest, Node},
    release::{Part, Proof, Run, Trial},
};
use tokio::sync::mpsc;
use uf2::{Chip, Firmware};

use super::*;
use crate::{ports::Ports, shelf::Shelf};

#[tokio::test]
async fn what_the_chip_cannot_boot_and_what_nothing_could_replace_is_refused_before_it_is_touched() {
    let desk = Desk::new(true);
    let good = desk.shelve(&made(Chip::Rp2040, "MicroPython v1.28.0 on 2026-04-06"));
    desk.installer.admit(&desk.app, &good, "rp2/rp2040").unwrap();
    let newer = desk.shelve(&made(Chip::Rp2350, "MicroPython v1.28.0 on 2026-04-06"));
    assert_eq!(desk.reason(&newer), Reason::BadFirmware, "whatever the part says of its platform");
    let none = desk.shelve(b"no firmware at all");
    assert_eq!(desk.reason(&none), Reason::BadFirmware);
    let mut last = desk.shelve(&made(Chip::Rp2040, "a program of somebody"));
    assert_eq!(desk.reason(&last), Reason::OneWay);
    last.part.one_way = true;
    desk.installer.admit(&desk.app, &last, "rp2/rp2040").unwrap();
    assert_eq!(desk.keep().load().under_way, None);
}

#[tokio::test]
async fn firmware_waits_where_somebody_has_to_hold_the_button_and_no_longer_than_its_order() {
    let desk = Desk::new(false);
    let good = desk.shelve(&made(Chip::Rp2040, "MicroPython v1.28.0 on 2026-04-06"));
    let older = Firmware::parse(&made(Chip::Rp2040, "what was on it long ago")).unwrap();
    desk.keep().keep_original(&older).unwrap();
    let refused = desk.installer.admit(&desk.app, &good, "rp2/rp2040").unwrap_err();
    assert!(!desk.keep().has_original(), "what it has now is read off it, not what it had once");
    assert_eq!((refused.reason, refused.transient), (Reason::NeedsButton, true));
    assert_eq!(desk.keep().load().under_way.unwrap().stage, Stage::Wanted);
    desk.installer.rest(&desk.app).unwrap();
    assert_eq!(desk.keep().load().under_way, None);
}

/// A Pi with the firmware of one Pico, which is not there.
struct Desk {
    folder: tempfile::TempDir,
    app: AppId,
    installer: FirmwareInstaller,
}

impl Desk {
    fn new(bootsel: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "node = \"pi-1\"\nfleet = \"home\"\nbus = \"mqtt://h:1\"\nstore = [\"http://h:2\"]\ndata = {:?}\n",
            folder.path()
        );
        std::fs::write(folder.path().join("pi-worker.toml"), text).unwrap();
        let device = Device::new("e6", Ports::new(Some(folder.path())));
        let probed = format!(
            r#"{{"id":"e6","platform":"rp2","machine":"Raspberry Pi Pico with RP2040","version":[1,27,0],"bootsel":{bootsel},
            "says":"MicroPython v1.27.0 on 2025-12-01","main":"","guard":"","slots":{{}}}}"#
        );
        let (notices, _) = mpsc::unbounded_channel();
        let keep = Keep::new(settings(folder.path()));
        let installer =
            FirmwareInstaller::new(device, keep, notices, &serde_json::from_str(&probed).unwrap());
        Self { folder, app: "micropython".parse().unwrap(), installer }
    }

    fn keep(&self) -> Keep {
        Keep::new(settings(self.folder.path()))
    }

    fn reason(&self, slot: &Slot) -> Reason {
        self.installer.admit(&self.app, slot, "rp2/rp2040").unwrap_err().reason
    }

    /// A release of this file, as if it had been fetched.
    fn shelve(&self, file: &[u8]) -> Slot {
        let dirs = settings(self.folder.path()).app_dirs(&self.app);
        let digest = Digest::of(file);
        std::fs::create_dir_all(&dirs.objects).unwrap();
        std::fs::write(dirs.objects.join(digest.to_string()), file).unwrap();
        let node = Node::File { executable: false, size: file.len() as u64, digest };
        let manifest = Manifest::new(vec![Entry { path: "firmware.uf2".to_owned(), node }]).unwrap();
        let slot = slot(&manifest);
        Shelf::new(dirs).keep(&slot, &manifest).unwrap();
        slot
    }
}

fn settings(folder: &std::path::Path) -> agent::Settings {
    agent::Settings::load(&folder.join("pi-worker.toml")).unwrap()
}

fn slot(manifest: &Manifest) -> Slot {
    Slot {
        release: Digest::of(b"release"),
        version: "1.28.0".to_owned(),
        counter: Counter(1),
        min_counter: Counter(0),
        commit: String::new(),
        notes: String::new(),
        revision: schemas::id::Revision(1),
        group: "desk".parse().unwrap(),
        part: Part {
            platform: "rp2/rp2040".to_owned(),
            kind: schemas::release::PartKind::Uf2,
            tree_hash: manifest.tree_hash(),
            size_bytes: manifest.size_bytes(),
            manifest_bytes: manifest.encode().len() as u64,
            run: Run::None,
            container: None,
            one_way: false,
            env: std::collections::BTreeMap::new(),
            pre_check: None,
            checks: Vec::new(),
            proof: Proof::None,
            trial: Trial::default(),
            joint: None,
        },
        since: schemas::time::UnixTime(0),
    }
}

/// Made up: what the chip wants to boot, and a text.
fn made(chip: Chip, says: &str) -> Vec<u8> {
    let mut image = match chip {
        // The boot stage of nothing, with its checksum.
        Chip::Rp2040 => [&[0; 252][..], &CHECKSUM_OF_ZEROS.to_le_bytes()].concat(),
        Chip::Rp2350 => 0xffff_ded3_u32.to_le_bytes().to_vec(),
    };
    image.extend(says.as_bytes());
    Firmware::of_image(chip, image).unwrap().encode()
}

/// CRC-32 of 252 zeros, with the polynomial 04c11db7, begun with ones, not reflected.
const CHECKSUM_OF_ZEROS: u32 = 0x7065_399a;
