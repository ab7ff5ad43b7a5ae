//! What makes a boot ROM start what is in flash, and stay in BOOTSEL where that is missing.

use crate::{Chip, PAGE_BYTES, SECTOR_BYTES};

/// How a block of the RP2350 begins, among them the one that says that there is an image (datasheet 5.9.5).
const BLOCK_MARK: [u8; 4] = 0xffff_ded3_u32.to_le_bytes();

/// The page of the first sector without which the chip does not boot the image; nothing when it would not anyhow.
///
/// An RP2040 wants a boot stage whose last word is the CRC of the others, in the first 256 bytes (datasheet 2.8.1.3.1). An RP2350
/// wants a block with an image definition in the first 4 KiB, wherever that is.
pub(crate) fn decisive_page(chip: Chip, image: &[u8]) -> Option<usize> {
    match chip {
        Chip::Rp2040 => is_boot_stage(image.get(..PAGE_BYTES)?).then_some(0),
        Chip::Rp2350 => {
            let sector = &image[..image.len().min(SECTOR_BYTES)];
            Some(sector.chunks_exact(4).position(|word| word == BLOCK_MARK)? * 4 / PAGE_BYTES)
        }
    }
}

/// Whether the RP2040's boot ROM would start it.
pub(crate) fn is_boot_stage(page: &[u8]) -> bool {
    let (code, sum) = page.split_at(PAGE_BYTES - 4);
    sum == crc(code).to_le_bytes()
}

/// CRC-32 with the polynomial 04c11db7, begun with ones, not reflected.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ (u32::from(*byte) << 24), |sum, _| {
            let carry = sum & 0x8000_0000 != 0;
            (sum << 1) ^ if carry { 0x04c1_1db7 } else { 0 }
        })
    })
}
