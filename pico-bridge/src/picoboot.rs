//! PICOBOOT, what the boot ROM speaks beside its drive: commands and their status as bytes (pico-sdk `boot/picoboot.h`).
//!
//! A command is 32 bytes to the OUT endpoint, its data follow, and the other side ends it with an empty packet. A command that
//! cannot be done stalls the endpoint; the status then says why.

/// First word of each command.
const MAGIC: u32 = 0x431f_d10b;
/// Bytes of a command.
pub const COMMAND_BYTES: usize = 32;
/// Bytes of a status.
pub const STATUS_BYTES: usize = 16;
/// Control request that gives the status of the last command.
pub const GET_STATUS: u8 = 0x42;
/// Control request that ends whatever is under way.
pub const RESET: u8 = 0x41;
/// The bit of a command whose data come from the device.
const IN: u8 = 0x80;

/// What the boot ROM is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Nobody else writes; the drive is taken away as well.
    ExclusiveAndEject,
    /// Flash is used for commands, and not for running code.
    ExitXip,
    /// Erases so many bytes from the address; both of whole sectors.
    Erase(u32, u32),
    /// So many bytes follow, for the address; both of whole pages.
    Write(u32, u32),
    /// So many bytes are wanted from the address.
    Read(u32, u32),
    /// Boots as usual, after so many milliseconds.
    Reboot(u32),
    /// As `Reboot`, for the RP2350, which does not know that one.
    Reboot2(u32),
}

impl Command {
    /// The command as bytes; `token` is answered in the status.
    pub fn encode(self, token: u32) -> [u8; COMMAND_BYTES] {
        let (id, arguments, size, data) = self.form();
        let mut bytes = [0; COMMAND_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&token.to_le_bytes());
        (bytes[8], bytes[9]) = (id, size);
        bytes[12..16].copy_from_slice(&data.to_le_bytes());
        for (place, word) in arguments.iter().enumerate() {
            bytes[16 + 4 * place..20 + 4 * place].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Whether its data, if any, come from the device; the empty packet then goes to it.
    pub fn is_read(self) -> bool {
        self.form().0 & IN != 0
    }

    /// Id, arguments, bytes of arguments, bytes of data.
    fn form(self) -> (u8, [u32; 4], u8, u32) {
        /// The third way to be exclusive: the drive goes, too.
        const EJECT: u32 = 2;
        match self {
            Self::ExclusiveAndEject => (0x01, [EJECT, 0, 0, 0], 1, 0),
            Self::Reboot(ms) => (0x02, [0, 0, ms, 0], 12, 0),
            Self::Erase(address, bytes) => (0x03, [address, bytes, 0, 0], 8, 0),
            Self::Read(address, bytes) => (0x84, [address, bytes, 0, 0], 8, bytes),
            Self::Write(address, bytes) => (0x05, [address, bytes, 0, 0], 8, bytes),
            Self::ExitXip => (0x06, [0; 4], 0, 0),
            Self::Reboot2(ms) => (0x0a, [0, ms, 0, 0], 16, 0),
        }
    }
}

/// How the last command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Of the command.
    pub token: u32,
    /// 0 when it was done.
    pub code: u32,
    /// It is being carried out.
    pub is_busy: bool,
}

impl Status {
    /// Reads a status; nothing when it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; STATUS_BYTES] = bytes.try_into().ok()?;
        let word = |place: usize| {
            let word = bytes.get(place..place + 4).and_then(|word| word.try_into().ok());
            u32::from_le_bytes(word.unwrap_or_default())
        };
        Some(Self { token: word(0), code: word(4), is_busy: bytes[9] != 0 })
    }

    /// The code for people.
    pub fn text(self) -> String {
        let known = [
            "done",
            "the command is unknown",
            "the arguments are of another length",
            "the length is wrong",
            "the address is not allowed",
            "the address is not aligned",
            "two pieces lie in between",
            "the boot ROM is rebooting",
            "the boot ROM does not know",
            "the state does not allow it",
            "it is not permitted",
        ];
        let code = self.code as usize;
        known.get(code).map_or_else(|| format!("status {code}"), |text| (*text).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_the_bytes_that_picotool_sends() {
        let bytes = Command::Write(0x1000_0100, 0xf00).encode(7);
        let head = [0x0b, 0xd1, 0x1f, 0x43, 7, 0, 0, 0, 5, 8, 0, 0, 0, 0x0f, 0, 0];
        assert_eq!(bytes[..16], head);
        assert_eq!(bytes[16..24], [0, 1, 0, 0x10, 0, 0x0f, 0, 0]);
        assert_eq!(Command::ExclusiveAndEject.encode(1)[8..17], [1, 1, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(Command::Reboot(500).encode(1)[24..28], [0xf4, 1, 0, 0]);
        assert!(Command::Read(0, 1).is_read() && !Command::Erase(0, 1).is_read());
    }

    #[test]
    fn a_status_says_why() {
        let mut bytes = [0; STATUS_BYTES];
        (bytes[0], bytes[4]) = (9, 5);
        let status = Status::parse(&bytes).unwrap();
        assert_eq!((status.token, status.text().as_str()), (9, "the address is not aligned"));
        assert!(!status.is_busy);
    }

    proptest! {
        #[test]
        fn a_status_is_sixteen_bytes_and_any_of_them(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let status = Status::parse(&bytes);
            prop_assert_eq!(status.is_some(), bytes.len() == STATUS_BYTES);
            prop_assert!(status.is_none_or(|status| !status.text().is_empty()));
        }

        #[test]
        fn only_what_has_data_announces_some(address: u32, bytes: u32) {
            for command in [Command::ExitXip, Command::Erase(address, bytes), Command::Reboot(bytes), Command::Reboot2(bytes)] {
                prop_assert_eq!(&command.encode(1)[12..16], &[0; 4]);
            }
            prop_assert_eq!(&Command::Read(address, bytes).encode(1)[12..16], &bytes.to_le_bytes());
        }
    }
}
