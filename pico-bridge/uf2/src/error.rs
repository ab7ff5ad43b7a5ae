//! Why a file is no firmware.

use crate::Chip;

/// Why a file is no firmware for a Pico.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Uf2Error {
    /// Not whole blocks, or none.
    #[error("it has {0} bytes, which is no number of blocks of 512")]
    Length(usize),
    /// Something else than a block.
    #[error("block {0} is none: its magic numbers are wrong")]
    Magic(usize),
    /// For a chip that no Pico has.
    #[error("block {block} is for family {family:#010x}, which is no chip of a Pico")]
    Family {
        /// Which block.
        block: usize,
        /// What it is for.
        family: u32,
    },
    /// Several files in one.
    #[error("block {block} is for another chip than the blocks before it, which are for an {chip}")]
    Mixed {
        /// Which block.
        block: usize,
        /// What those before are for.
        chip: Chip,
    },
    /// For an unknown chip.
    #[error("block {0} says no family, so nobody knows which chip it is for")]
    NoFamily(usize),
    /// Another size than the boot ROM takes.
    #[error("block {block} holds {bytes} bytes, not 256")]
    Payload {
        /// Which block.
        block: usize,
        /// How many it says.
        bytes: u32,
    },
    /// Blocks are missing or in another order.
    #[error("block {block} is number {number} of {count}, in a file of {blocks}")]
    Numbering {
        /// Which block.
        block: usize,
        /// Its own number.
        number: u32,
        /// How many it says that there are.
        count: u32,
        /// How many there are.
        blocks: usize,
    },
    /// The firmware is not in one piece from the beginning of flash.
    #[error("block {block} is for address {address:#010x}, expected {expected:#010x}")]
    Gap {
        /// Which block.
        block: usize,
        /// Where it wants to be.
        address: u32,
        /// Where it has to be.
        expected: u32,
    },
    /// The chip has less flash.
    #[error("it needs {needed} bytes of flash, an {chip} on a Pico has {}", chip.flash_bytes())]
    TooLarge {
        /// By the file.
        needed: usize,
        /// What it is for.
        chip: Chip,
    },
    /// The chip would stay in BOOTSEL with it.
    #[error("an {chip} would not boot it: {}", chip.lacks())]
    NoBoot {
        /// What it is for.
        chip: Chip,
    },
}
