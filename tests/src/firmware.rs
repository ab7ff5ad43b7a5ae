//! Made-up firmware: a boot stage that counts, a text that says what it is, and bytes that differ.

use uf2::{Chip, Firmware, PAGE_BYTES};

/// Firmware of so many pages for an RP2040, which the boot ROM starts and which goes nowhere. `says` stands in it, and bytes that
/// differ by `seed`.
///
/// # Panics
/// When `says` has no room in it.
#[must_use]
pub fn firmware(pages: usize, seed: u8, says: &str) -> Firmware {
    let mut image: Vec<u8> = (0..pages * PAGE_BYTES).map(|at| (at % 253) as u8 ^ seed).collect();
    image[..2].copy_from_slice(&[0xfe, 0xe7]);
    let sum = image[..PAGE_BYTES - 4].iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ (u32::from(*byte) << 24), |sum, _| {
            (sum << 1) ^ if sum & 0x8000_0000 == 0 { 0 } else { 0x04c1_1db7 }
        })
    });
    image[PAGE_BYTES - 4..PAGE_BYTES].copy_from_slice(&sum.to_le_bytes());
    let text = format!("\0{says}\0");
    image[PAGE_BYTES..PAGE_BYTES + text.len()].copy_from_slice(text.as_bytes());
    Firmware::of_image(Chip::Rp2040, image).expect("its boot stage has its checksum")
}
