use proptest::prelude::*;

use super::*;
use crate::{
    block::FAMILY_ABSOLUTE,
    boot::{crc, decisive_page},
};

type Spoil = fn(&mut Vec<u8>);

#[test]
fn a_good_file_is_read_and_each_wrong_one_is_told_why() {
    let good = file(&image(40), 0xe48b_ff56);
    let firmware = Firmware::parse(&good).unwrap();
    assert_eq!(
        (firmware.image(), firmware.chip(), firmware.encode()),
        (&image(40)[..], Chip::Rp2040, good.clone())
    );
    let spoils: [(Spoil, &str); 11] = [
        (|f| f.truncate(1_000), "1000 bytes"),
        (|f| f[512] = 0, "block 1 is none"),
        (|f| f[512 + 508] = 0, "block 1 is none"),
        (|f| f[28] = 0x12, "family 0xe48bff12, which is no chip of a Pico"),
        (
            |f| f[512 + 28] = 0x59,
            "block 1 is for another chip than the blocks before it, which are for an RP2040",
        ),
        (|f| f[9] = 0, "says no family"),
        (|f| f[17] = 0, "holds 0 bytes"),
        (|f| f.truncate(39 * 512), "number 0 of 40, in a file of 39"),
        (|f| f.rotate_left(512), "number 1 of 40"),
        (|f| f[513 + 12] = 9, "expected 0x10000100"),
        (|f| f[32] ^= 1, "an RP2040 would not boot it: the checksum"),
    ];
    for (spoil, said) in spoils {
        let mut wrong = good.clone();
        spoil(&mut wrong);
        let text = Firmware::parse(&wrong).unwrap_err().to_string();
        assert!(text.contains(said), "{text} / {said}");
    }
    let large = file(&image(8_193), 0xe48b_ff56);
    let text = Firmware::parse(&large).unwrap_err().to_string();
    assert_eq!(text, "it needs 2097408 bytes of flash, an RP2040 on a Pico has 2097152");
}

#[test]
fn the_newer_chip_is_known_by_its_family_and_boots_what_has_an_image_definition() {
    let image = newer_image(20, 1);
    let firmware = Firmware::parse(&file(&image, 0xe48b_ff59)).unwrap();
    assert_eq!((firmware.chip(), firmware.image()), (Chip::Rp2350, &image[..]));
    let steps = firmware.steps();
    let writes: Vec<_> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Write(at, bytes) => Some((*at, bytes.len())),
            Step::Erase(_) => None,
        })
        .collect();
    assert_eq!(
        writes,
        [(4096, 1024), (0, 256), (512, 3584), (256, 256)],
        "the page of the definition is the last"
    );
    let text = Firmware::parse(&file(&[7; 8192], 0xe48b_ff59)).unwrap_err().to_string();
    assert_eq!(text, "an RP2350 would not boot it: its first 4096 bytes have no image definition");
}

#[test]
fn blocks_that_the_boot_rom_ignores_are_ignored() {
    let mut padded = file(&[0xef; PAGE_BYTES], FAMILY_ABSOLUTE);
    padded.extend(file(&newer_image(2, 0), 0xe48b_ff59));
    assert_eq!(Firmware::parse(&padded).unwrap().image(), newer_image(2, 0));
}

#[test]
fn micropython_says_in_its_image_what_it_will_answer() {
    let says = |text: &str| {
        let mut image = image(3);
        image[300..300 + text.len()].copy_from_slice(text.as_bytes());
        Firmware::of_image(Chip::Rp2040, image).unwrap().micropython().map(str::to_owned)
    };
    let cases = [
        (
            "3.4.0; MicroPython v1.28.0 on 2026-04-06; Raspberry Pi Pico",
            Some("MicroPython v1.28.0 on 2026-04-06"),
        ),
        (
            "MicroPython is fun\0MicroPython 9458e3a23f on 2026-07-05",
            Some("MicroPython 9458e3a23f on 2026-07-05"),
        ),
        ("Adafruit CircuitPython 9.0.0 on 2024-03-19", None),
        ("MicroPython v1.28.0 on some day", None),
        ("MicroPython v1\n0 on 2026-04-06", None),
        ("MicroPython ", None),
    ];
    for (text, said) in cases {
        assert_eq!(says(text).as_deref(), said, "{text}");
    }
}

proptest! {
    #[test]
    fn a_cut_at_any_step_leaves_what_does_not_boot_or_all_of_the_firmware(
        pages in 1..80_usize, cut: prop::sample::Index, is_newer: bool, place in 0..16_usize,
    ) {
        let chip = if is_newer { Chip::Rp2350 } else { Chip::Rp2040 };
        let make = |pages: usize| if is_newer { newer_image(pages, place.min(pages - 1)) } else { image(pages) };
        let mut flash = make(96);
        let new = Firmware::parse(&file(&make(pages), chip.family())).unwrap();
        let steps = new.steps();
        let cut = cut.index(steps.len()) + 1;
        for step in &steps[..cut] {
            apply(&mut flash, *step);
        }
        if cut == steps.len() {
            prop_assert_eq!(&flash[..new.image().len()], new.image());
        } else {
            prop_assert_eq!(decisive_page(chip, &flash), None);
        }
    }

    #[test]
    fn no_bytes_are_its_end(bytes in prop::collection::vec(any::<u8>(), 0..4).prop_map(|few| few.repeat(512))) {
        prop_assert!(Firmware::parse(&bytes).is_err());
    }

    #[test]
    fn no_image_is_its_end(image in prop::collection::vec(any::<u8>(), 0..600), is_newer: bool) {
        let chip = if is_newer { Chip::Rp2350 } else { Chip::Rp2040 };
        prop_assert!(Firmware::of_image(chip, image.clone()).is_err());
        says::micropython(&[b"MicroPython ", &image[..]].concat());
    }
}

/// A made-up firmware with a boot stage that counts.
fn image(pages: usize) -> Vec<u8> {
    let mut image: Vec<u8> = (0..pages * PAGE_BYTES).map(|at| (at * 7 % 251) as u8).collect();
    let sum = crc(&image[..PAGE_BYTES - 4]);
    image[PAGE_BYTES - 4..PAGE_BYTES].copy_from_slice(&sum.to_le_bytes());
    image
}

/// One for the newer chip, with its image definition on this page.
fn newer_image(pages: usize, page: usize) -> Vec<u8> {
    let mut image = image(pages);
    image[page * PAGE_BYTES + 20..page * PAGE_BYTES + 24].copy_from_slice(&0xffff_ded3_u32.to_le_bytes());
    image
}

fn file(image: &[u8], family: u32) -> Vec<u8> {
    let pages = image.chunks(PAGE_BYTES).enumerate();
    pages.flat_map(|(at, page)| block::encode(page, at, image.len() / PAGE_BYTES, family)).collect()
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
