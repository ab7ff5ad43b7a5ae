//! One block of a file: 512 bytes (pico-sdk `boot/uf2.h`), eight words, 476 bytes of which 256 count, one word.

use crate::{BLOCK_BYTES, Chip, FLASH_BASE, PAGE_BYTES, Uf2Error};

const MAGIC_START: [u32; 2] = [0x0a32_4655, 0x9e5d_5157];
const MAGIC_END: u32 = 0x0ab1_6f30;
/// The block is not meant for flash.
const NOT_FLASH: u32 = 0x1;
/// The last of the eight words is a family id.
const HAS_FAMILY: u32 = 0x2000;
/// RP2350-E10: a block for which the boot ROM has no use, at the end of the address space.
pub(crate) const FAMILY_ABSOLUTE: u32 = 0xe48b_ff57;

pub(crate) struct Block<'a> {
    at: usize,
    flags: u32,
    address: u32,
    bytes: u32,
    number: u32,
    count: u32,
    family: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Block<'a> {
    pub(crate) fn parse(at: usize, bytes: &'a [u8]) -> Result<Self, Uf2Error> {
        let word = |place: usize| {
            let word = bytes.get(place..place + 4).and_then(|word| word.try_into().ok());
            u32::from_le_bytes(word.unwrap_or_default())
        };
        if bytes.len() != BLOCK_BYTES || [word(0), word(4)] != MAGIC_START || word(508) != MAGIC_END {
            return Err(Uf2Error::Magic(at));
        }
        let (flags, address, size) = (word(8), word(12), word(16));
        let (number, count, family) = (word(20), word(24), word(28));
        let payload = &bytes[32..32 + PAGE_BYTES];
        Ok(Self { at, flags, address, bytes: size, number, count, family, payload })
    }

    /// Whether the boot ROM writes it: others are ignored by it, and so here.
    pub(crate) fn is_for_flash(&self) -> bool {
        let is_ignored = self.flags & HAS_FAMILY != 0 && self.family == FAMILY_ABSOLUTE;
        self.flags & NOT_FLASH == 0 && !is_ignored
    }

    /// The chip that it is for.
    pub(crate) fn chip(&self) -> Result<Chip, Uf2Error> {
        if self.flags & HAS_FAMILY == 0 {
            return Err(Uf2Error::NoFamily(self.at));
        }
        Chip::of_family(self.family).ok_or(Uf2Error::Family { block: self.at, family: self.family })
    }

    /// Whether it is the one of so many that comes at this place.
    pub(crate) fn check(&self, chip: Chip, place: usize, blocks: usize) -> Result<(), Uf2Error> {
        let block = self.at;
        if self.chip()? != chip {
            return Err(Uf2Error::Mixed { block, chip });
        }
        if self.bytes as usize != PAGE_BYTES {
            return Err(Uf2Error::Payload { block, bytes: self.bytes });
        }
        let (number, count) = (self.number, self.count);
        if number as usize != place || count as usize != blocks {
            return Err(Uf2Error::Numbering { block, number, count, blocks });
        }
        let expected = address(place);
        if self.address != expected {
            return Err(Uf2Error::Gap { block, address: self.address, expected });
        }
        Ok(())
    }
}

/// The block of so many that holds this page.
pub(crate) fn encode(page: &[u8], place: usize, blocks: usize, family: u32) -> [u8; BLOCK_BYTES] {
    let (place_word, blocks) = (place as u32, blocks as u32);
    let words = [HAS_FAMILY, address(place), PAGE_BYTES as u32, place_word, blocks, family];
    let mut block = [0; BLOCK_BYTES];
    for (at, word) in MAGIC_START.into_iter().chain(words).enumerate() {
        block[4 * at..4 * at + 4].copy_from_slice(&word.to_le_bytes());
    }
    block[32..32 + page.len()].copy_from_slice(page);
    block[BLOCK_BYTES - 4..].copy_from_slice(&MAGIC_END.to_le_bytes());
    block
}

fn address(place: usize) -> u32 {
    FLASH_BASE.saturating_add(u32::try_from(place * PAGE_BYTES).unwrap_or(u32::MAX))
}
