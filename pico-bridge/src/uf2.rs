//! UF2 firmware: read and checked before the chip is touched, and put into an order in which a cut never leaves a chip that
//! runs half of it.
//!
//! A file is blocks of 512 bytes (pico-sdk `boot/uf2.h`): eight words, 476 bytes of which 256 count, one word.

/// Bytes of a block in the file.
pub const BLOCK_BYTES: usize = 512;
/// Bytes of flash that a block holds.
pub const PAGE_BYTES: usize = 256;
/// What is erased at a time.
pub const SECTOR_BYTES: usize = 4096;
/// Where flash is in the address space.
pub const FLASH_BASE: u32 = 0x1000_0000;

const MAGIC_START: [u32; 2] = [0x0a32_4655, 0x9e5d_5157];
const MAGIC_END: u32 = 0x0ab1_6f30;
/// The block is not meant for flash.
const NOT_FLASH: u32 = 0x1;
/// The last of the eight words is a family id.
const HAS_FAMILY: u32 = 0x2000;
/// RP2350-E10: a block for which the boot ROM has no use, at the end of the address space.
const FAMILY_ABSOLUTE: u32 = 0xe48b_ff57;

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

    fn takes(self, family: u32) -> bool {
        match self {
            Self::Rp2040 => family == 0xe48b_ff56,
            // For the ARM cores with and without security, and the RISC-V cores.
            Self::Rp2350 => matches!(family, 0xe48b_ff59..=0xe48b_ff5b),
        }
    }
}

/// Why a file is no firmware for this chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Uf2Error {
    /// Not whole blocks, or none.
    #[error("it has {0} bytes, which is no number of blocks of 512")]
    Length(usize),
    /// Something else than a block.
    #[error("block {0} is none: its magic numbers are wrong")]
    Magic(usize),
    /// For another chip.
    #[error("block {block} is for family {family:#010x}, which a {chip:?} does not run")]
    Family {
        /// Which block.
        block: usize,
        /// What it is for.
        family: u32,
        /// What there is.
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
    #[error("it needs {needed} bytes of flash, the chip has {flash}")]
    TooLarge {
        /// By the file.
        needed: usize,
        /// Of the chip.
        flash: usize,
    },
    /// An RP2040 would stay in BOOTSEL with it.
    #[error("its first 256 bytes are no boot stage: their checksum is wrong")]
    NoBootStage,
}

/// A whole firmware: what flash holds from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    chip: Chip,
    image: Vec<u8>,
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
    /// Reads a file for `chip`, which has so many bytes of flash.
    ///
    /// # Errors
    /// When it is no firmware for it, or not all of one.
    pub fn parse(file: &[u8], chip: Chip, flash_bytes: usize) -> Result<Self, Uf2Error> {
        if file.is_empty() || !file.len().is_multiple_of(BLOCK_BYTES) {
            return Err(Uf2Error::Length(file.len()));
        }
        let blocks = file.chunks_exact(BLOCK_BYTES).enumerate();
        let blocks: Vec<Block<'_>> =
            blocks.map(|(at, bytes)| Block::parse(at, bytes)).collect::<Result<_, _>>()?;
        let wanted: Vec<&Block<'_>> = blocks.iter().filter(|block| block.is_for_flash()).collect();
        let mut image = Vec::with_capacity(wanted.len() * PAGE_BYTES);
        for (place, block) in wanted.iter().enumerate() {
            block.check(chip, place, wanted.len(), image.len())?;
            image.extend_from_slice(block.payload);
        }
        if image.is_empty() {
            return Err(Uf2Error::Length(0));
        }
        if image.len() > flash_bytes {
            return Err(Uf2Error::TooLarge { needed: image.len(), flash: flash_bytes });
        }
        if chip == Chip::Rp2040 && !is_boot_stage(&image[..PAGE_BYTES]) {
            return Err(Uf2Error::NoBootStage);
        }
        Ok(Self { chip, image })
    }

    /// What flash is to hold.
    pub fn image(&self) -> &[u8] {
        &self.image
    }

    /// The steps in an order that is safe against cuts: the sector of the boot stage is erased first, and the boot stage is
    /// written last. Until then the boot ROM finds none and stays in BOOTSEL, where the same can be begun anew.
    pub fn steps(&self) -> Vec<Step<'_>> {
        let sectors = self.image.chunks(SECTOR_BYTES).enumerate();
        let mut sectors = sectors.map(|(at, bytes)| (at * SECTOR_BYTES, bytes));
        let Some((_, first)) = sectors.next() else { return Vec::new() };
        let mut steps = vec![Step::Erase(0)];
        for (at, bytes) in sectors {
            steps.extend([Step::Erase(at), Step::Write(at, bytes)]);
        }
        let (boot, rest) = first.split_at(PAGE_BYTES);
        if !rest.is_empty() {
            steps.push(Step::Write(PAGE_BYTES, rest));
        }
        steps.push(Step::Write(0, boot));
        steps
    }

    /// The chip that it is for.
    pub fn chip(&self) -> Chip {
        self.chip
    }
}

struct Block<'a> {
    at: usize,
    flags: u32,
    address: u32,
    bytes: u32,
    number: u32,
    count: u32,
    family: u32,
    payload: &'a [u8],
}

impl<'a> Block<'a> {
    fn parse(at: usize, bytes: &'a [u8]) -> Result<Self, Uf2Error> {
        let word = |place: usize| {
            let word = bytes.get(place..place + 4).and_then(|word| word.try_into().ok());
            u32::from_le_bytes(word.unwrap_or_default())
        };
        if [word(0), word(4)] != MAGIC_START || word(508) != MAGIC_END {
            return Err(Uf2Error::Magic(at));
        }
        let (flags, address, size) = (word(8), word(12), word(16));
        let (number, count, family) = (word(20), word(24), word(28));
        let payload = &bytes[32..32 + PAGE_BYTES];
        Ok(Self { at, flags, address, bytes: size, number, count, family, payload })
    }

    /// Whether the boot ROM writes it: others are ignored by it, and so here.
    fn is_for_flash(&self) -> bool {
        let is_ignored = self.flags & HAS_FAMILY != 0 && self.family == FAMILY_ABSOLUTE;
        self.flags & NOT_FLASH == 0 && !is_ignored
    }

    fn check(&self, chip: Chip, place: usize, blocks: usize, offset: usize) -> Result<(), Uf2Error> {
        let block = self.at;
        if self.flags & HAS_FAMILY == 0 {
            return Err(Uf2Error::NoFamily(block));
        }
        if !chip.takes(self.family) {
            return Err(Uf2Error::Family { block, family: self.family, chip });
        }
        if self.bytes as usize != PAGE_BYTES {
            return Err(Uf2Error::Payload { block, bytes: self.bytes });
        }
        let (number, count) = (self.number, self.count);
        if number as usize != place || count as usize != blocks {
            return Err(Uf2Error::Numbering { block, number, count, blocks });
        }
        let expected = FLASH_BASE.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
        if self.address != expected {
            return Err(Uf2Error::Gap { block, address: self.address, expected });
        }
        Ok(())
    }
}

/// Whether the RP2040's boot ROM would start it: the last word is the CRC of the others (datasheet 2.8.1.3.1).
fn is_boot_stage(page: &[u8]) -> bool {
    let (code, sum) = page.split_at(PAGE_BYTES - 4);
    sum == crc(code).to_le_bytes()
}

/// CRC-32 with the polynomial 04c11db7, begun with ones, not reflected.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ (u32::from(*byte) << 24), |sum, _| {
            let carry = sum & 0x8000_0000 != 0;
            (sum << 1) ^ if carry { 0x04c1_1db7 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLASH: usize = 2 * 1024 * 1024;

    type Spoil = fn(&mut Vec<u8>);

    #[test]
    fn a_good_file_is_read_and_each_wrong_one_is_told_why() {
        let good = file(&image(40), 0xe48b_ff56);
        assert_eq!(read(&good).unwrap().image(), image(40));
        let spoils: [(Spoil, &str); 10] = [
            (|f| f.truncate(1_000), "1000 bytes"),
            (|f| f[512] = 0, "block 1 is none"),
            (|f| f[512 + 508] = 0, "block 1 is none"),
            (|f| f[28] = 0x59, "family 0xe48bff59, which a Rp2040 does not run"),
            (|f| f[9] = 0, "says no family"),
            (|f| f[17] = 0, "holds 0 bytes"),
            (|f| f.truncate(39 * 512), "number 0 of 40, in a file of 39"),
            (|f| f.rotate_left(512), "number 1 of 40"),
            (|f| f[513 + 12] = 9, "expected 0x10000100"),
            (|f| f[32] ^= 1, "no boot stage"),
        ];
        for (spoil, said) in spoils {
            let mut wrong = good.clone();
            spoil(&mut wrong);
            let text = read(&wrong).unwrap_err().to_string();
            assert!(text.contains(said), "{text} / {said}");
        }
        assert!(matches!(
            Firmware::parse(&good, Chip::Rp2040, 9_999),
            Err(Uf2Error::TooLarge { needed: 10_240, flash: 9_999 })
        ));
    }

    #[test]
    fn firmware_of_one_chip_is_refused_by_the_other() {
        let newer = file(&image(3), 0xe48b_ff59);
        assert!(Firmware::parse(&newer, Chip::Rp2350, FLASH).is_ok());
        assert!(matches!(read(&newer), Err(Uf2Error::Family { .. })));
        let older = file(&image(3), 0xe48b_ff56);
        assert!(matches!(Firmware::parse(&older, Chip::Rp2350, FLASH), Err(Uf2Error::Family { .. })));
    }

    #[test]
    fn blocks_that_the_boot_rom_ignores_are_ignored() {
        let mut padded = file(&image(2), 0xe48b_ff59);
        let mut ignored = file(&[0xef; PAGE_BYTES], FAMILY_ABSOLUTE);
        ignored.extend(padded);
        padded = ignored;
        assert_eq!(Firmware::parse(&padded, Chip::Rp2350, FLASH).unwrap().image(), image(2));
    }

    proptest! {
        #[test]
        fn a_cut_at_any_step_leaves_no_boot_stage_or_all_of_the_firmware(pages in 1..80_usize, cut: prop::sample::Index) {
            let old: Vec<u8> = image(90).iter().map(|byte| byte ^ 0x5a).collect();
            let new = read(&file(&image(pages), 0xe48b_ff56)).unwrap();
            let steps = new.steps();
            let cut = cut.index(steps.len()) + 1;
            let mut flash = old.clone();
            for step in &steps[..cut] {
                apply(&mut flash, *step);
            }
            if cut == steps.len() {
                prop_assert_eq!(&flash[..new.image().len()], new.image());
            } else {
                prop_assert!(!is_boot_stage(&flash[..PAGE_BYTES]));
            }
        }

        #[test]
        fn no_bytes_are_its_end(bytes in prop::collection::vec(any::<u8>(), 0..4).prop_map(|few| few.repeat(512))) {
            prop_assert!(read(&bytes).is_err());
        }
    }

    fn read(file: &[u8]) -> Result<Firmware, Uf2Error> {
        Firmware::parse(file, Chip::Rp2040, FLASH)
    }

    /// A made-up firmware with a boot stage that counts.
    fn image(pages: usize) -> Vec<u8> {
        let mut image: Vec<u8> = (0..pages * PAGE_BYTES).map(|at| (at * 7 % 251) as u8).collect();
        let sum = crc(&image[..PAGE_BYTES - 4]);
        image[PAGE_BYTES - 4..PAGE_BYTES].copy_from_slice(&sum.to_le_bytes());
        image
    }

    fn file(image: &[u8], family: u32) -> Vec<u8> {
        let count = image.len() / PAGE_BYTES;
        let block = |(at, page): (usize, &[u8])| {
            let address = FLASH_BASE as usize + at * PAGE_BYTES;
            let words = [HAS_FAMILY, address as u32, 256, at as u32, count as u32, family];
            let mut block: Vec<u8> =
                MAGIC_START.iter().chain(&words).flat_map(|word| word.to_le_bytes()).collect();
            block.extend_from_slice(page);
            block.resize(508, 0);
            block.extend(MAGIC_END.to_le_bytes());
            block
        };
        image.chunks(PAGE_BYTES).enumerate().flat_map(block).collect()
    }

    fn apply(flash: &mut [u8], step: Step<'_>) {
        match step {
            Step::Erase(at) => flash[at..at + SECTOR_BYTES].fill(0xff),
            Step::Write(at, bytes) => {
                // Flash can only be written where it was erased.
                assert!(flash[at..at + bytes.len()].iter().all(|byte| *byte == 0xff));
                flash[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}
