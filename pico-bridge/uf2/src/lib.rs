//! UF2 firmware: read and checked before the chip is touched, and put into an order in which a cut never leaves a chip that
//! runs half of it. Bytes in, bytes out: what packs firmware and what flashes it judge it alike.

mod block;
mod boot;
mod error;
mod says;

use std::fmt;

use block::Block;
pub use error::Uf2Error;

/// Bytes of a block in the file.
pub const BLOCK_BYTES: usize = 512;
/// Bytes of flash that a block holds.
pub const PAGE_BYTES: usize = 256;
/// What is erased at a time.
pub const SECTOR_BYTES: usize = 4096;
/// Where flash is in the address space.
pub const FLASH_BASE: u32 = 0x1000_0000;

/// Which chip it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chip {
    /// As on a Pico and a Pico W.
    Rp2040,
    /// As on a Pico 2 and a Pico 2 W.
    Rp2350,
}

impl Chip {
    /// The chip as parts of a release name it.
    pub fn platform(self) -> &'static str {
        match self {
            Self::Rp2040 => "rp2/rp2040",
            Self::Rp2350 => "rp2/rp2350",
        }
    }

    /// Flash of the Picos that have it. Boards of others may have more, which no firmware is known to need.
    pub fn flash_bytes(self) -> usize {
        match self {
            Self::Rp2040 => 2 * 1024 * 1024,
            Self::Rp2350 => 4 * 1024 * 1024,
        }
    }

    fn of_family(family: u32) -> Option<Self> {
        match family {
            0xe48b_ff56 => Some(Self::Rp2040),
            // For the ARM cores with and without security, and the RISC-V cores.
            0xe48b_ff59..=0xe48b_ff5b => Some(Self::Rp2350),
            _ => None,
        }
    }

    /// The family of what is made here: for the RP2350 that of its secure ARM cores.
    fn family(self) -> u32 {
        match self {
            Self::Rp2040 => 0xe48b_ff56,
            Self::Rp2350 => 0xe48b_ff59,
        }
    }

    fn lacks(self) -> &'static str {
        match self {
            Self::Rp2040 => "the checksum of its first 256 bytes, the boot stage, is wrong",
            Self::Rp2350 => "its first 4096 bytes have no image definition",
        }
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rp2040 => "RP2040",
            Self::Rp2350 => "RP2350",
        })
    }
}

/// A whole firmware: what flash holds from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    chip: Chip,
    image: Vec<u8>,
    /// The page of the first sector without which the chip stays in BOOTSEL.
    decisive: usize,
}

/// What is done to flash, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Erases the sector at the offset.
    Erase(usize),
    /// Writes the bytes at the offset.
    Write(usize, &'a [u8]),
}

impl Firmware {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is no firmware for a Pico, or not all of one.
    pub fn parse(file: &[u8]) -> Result<Self, Uf2Error> {
        if file.is_empty() || !file.len().is_multiple_of(BLOCK_BYTES) {
            return Err(Uf2Error::Length(file.len()));
        }
        let blocks = file.chunks_exact(BLOCK_BYTES).enumerate();
        let blocks: Vec<Block<'_>> =
            blocks.map(|(at, bytes)| Block::parse(at, bytes)).collect::<Result<_, _>>()?;
        let wanted: Vec<&Block<'_>> = blocks.iter().filter(|block| block.is_for_flash()).collect();
        let chip = wanted.first().ok_or(Uf2Error::Length(0))?.chip()?;
        let mut image = Vec::with_capacity(wanted.len() * PAGE_BYTES);
        for (place, block) in wanted.iter().enumerate() {
            block.check(chip, place, wanted.len())?;
            image.extend_from_slice(block.payload);
        }
        Self::of_image(chip, image)
    }

    /// The firmware that is in flash from its beginning on.
    ///
    /// # Errors
    /// When a chip does not boot it, or has less flash.
    pub fn of_image(chip: Chip, mut image: Vec<u8>) -> Result<Self, Uf2Error> {
        image.resize(image.len().next_multiple_of(PAGE_BYTES), 0);
        if image.len() > chip.flash_bytes() {
            return Err(Uf2Error::TooLarge { needed: image.len(), chip });
        }
        let decisive = boot::decisive_page(chip, &image).ok_or(Uf2Error::NoBoot { chip })?;
        Ok(Self { chip, image, decisive })
    }

    /// The firmware as a file.
    pub fn encode(&self) -> Vec<u8> {
        let (blocks, family) = (self.image.len() / PAGE_BYTES, self.chip.family());
        let pages = self.image.chunks(PAGE_BYTES).enumerate();
        pages.flat_map(|(place, page)| block::encode(page, place, blocks, family)).collect()
    }

    /// The chip that it is for.
    pub fn chip(&self) -> Chip {
        self.chip
    }

    /// What flash is to hold.
    pub fn image(&self) -> &[u8] {
        &self.image
    }

    /// What it answers in `sys.version` behind the version of Python, as in `MicroPython v1.28.0 on 2026-04-06`; nothing when it is
    /// not MicroPython. Such firmware cannot be asked back into BOOTSEL.
    pub fn micropython(&self) -> Option<&str> {
        says::micropython(&self.image)
    }

    /// The steps in an order that is safe against cuts: the first sector, without which no chip boots, is erased first, and the
    /// page of it that decides is written last. Until then the boot ROM stays in BOOTSEL, where the same can be begun anew.
    pub fn steps(&self) -> Vec<Step<'_>> {
        let sectors = self.image.chunks(SECTOR_BYTES).enumerate();
        let mut sectors = sectors.map(|(at, bytes)| (at * SECTOR_BYTES, bytes));
        let Some((_, first)) = sectors.next() else { return Vec::new() };
        let mut steps = vec![Step::Erase(0)];
        for (at, bytes) in sectors {
            steps.extend([Step::Erase(at), Step::Write(at, bytes)]);
        }
        let (before, rest) = first.split_at(self.decisive * PAGE_BYTES);
        let (decisive, after) = rest.split_at(PAGE_BYTES.min(rest.len()));
        let at = before.len();
        let pieces = [(0, before), (at + decisive.len(), after), (at, decisive)];
        steps.extend(
            pieces
                .into_iter()
                .filter(|(_, bytes)| !bytes.is_empty())
                .map(|(at, bytes)| Step::Write(at, bytes)),
        );
        steps
    }
}

#[cfg(test)]
mod tests;
