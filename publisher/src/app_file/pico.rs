//! `[pico]`: an app of MicroPython, or firmware.

use serde::Deserialize;

use super::FileRules;

/// What a Pico gets of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pico {
    /// Its files: the guard there runs `main.py`.
    App,
    /// One UF2 file.
    Firmware {
        /// Its path in the folder.
        file: String,
        /// Whether it may be flashed though nothing but a hand on the button could bring another one.
        one_way: bool,
    },
}

#[derive(Deserialize)]
#[serde(try_from = "RawPico")]
pub(super) struct PicoTable(pub(super) Pico);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPico {
    firmware: Option<String>,
    allow_one_way: Option<bool>,
}

impl TryFrom<RawPico> for PicoTable {
    type Error = String;

    fn try_from(raw: RawPico) -> Result<Self, String> {
        let one_way = raw.allow_one_way.unwrap_or_default();
        match raw.firmware {
            Some(file) if is_plain(&file) => Ok(Self(Pico::Firmware { file, one_way })),
            Some(file) => {
                Err(format!("`{file}` is not the path of a file in the folder, as in `build/firmware.uf2`"))
            }
            None if raw.allow_one_way.is_some() => Err("`allow_one_way` is for `firmware`".to_owned()),
            None => Ok(Self(Pico::App)),
        }
    }
}

/// Whether it is a path below the folder in which nothing is a pattern.
fn is_plain(path: &str) -> bool {
    let is_name = |name: &str| {
        !matches!(name, "" | "." | "..")
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+~-".contains(&b))
    };
    path.split('/').all(is_name)
}

/// The rules that leave nothing but this file: what was built is what git usually ignores.
pub(super) fn alone(file: &str) -> FileRules {
    FileRules { include: vec![format!("/{file}")], ignore: Vec::new(), gitignore: false }
}
