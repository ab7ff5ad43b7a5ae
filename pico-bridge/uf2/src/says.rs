//! What firmware says that it is: MicroPython has its version in the image as it answers it in `sys.version`.

/// How that begins.
const NAME: &[u8] = b"MicroPython ";
/// What stands between the version and the day on which it was built.
const ON: &[u8] = b" on ";
/// As in `2026-04-06`.
const DAY: usize = 10;
/// A version is shorter: `v1.28.0`, `v1.29.0-preview.123.g0123456789`.
const MAX_VERSION: usize = 64;

/// The text, as in `MicroPython v1.28.0 on 2026-04-06`; nothing when the image is not MicroPython.
pub(crate) fn micropython(image: &[u8]) -> Option<&str> {
    let mut from = 0;
    while let Some(at) = find(&image[from..], NAME) {
        let text = &image[from + at..];
        if let Some(said) = version(text) {
            return Some(said);
        }
        from += at + NAME.len();
    }
    None
}

fn version(text: &[u8]) -> Option<&str> {
    let rest = &text[NAME.len()..];
    let length = rest.iter().take(MAX_VERSION).position(|byte| *byte == b' ')?;
    let day = rest.get(length..length + ON.len() + DAY)?.strip_prefix(ON)?;
    let is_day = day.iter().enumerate().all(|(at, byte)| match at {
        4 | 7 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let all = &text[..NAME.len() + length + ON.len() + DAY];
    let is_plain = length > 0 && all.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    (is_day && is_plain).then(|| std::str::from_utf8(all).ok())?
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
