//! Texts of strangers, on a terminal and in JSON. A node, a controller, a broker and whoever signs a release write what they
//! like: nothing of it may steer the terminal, or look like a line that this program has written.

use std::{borrow::Cow, fmt::Write as _};

/// A stranger's text as a part of a line.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Lines as they can be printed: what somebody forgot to clean steers nothing. Colours stay where they are wanted.
pub fn printable(text: &str, paints: bool) -> Cow<'_, str> {
    if !text.contains(|c| c != '\n' && steers(c)) {
        return text.into();
    }
    let (mut printable, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        let colour = colour(rest).filter(|_| paints);
        let piece = colour.unwrap_or(&rest[..c.len_utf8()]);
        let stays = colour.is_some() || c == '\n' || !steers(c);
        printable.push_str(if stays { piece } else { "\u{fffd}" });
        rest = &rest[piece.len()..];
    }
    printable.into()
}

/// JSON that means the same and steers nothing: of all these characters, serde escapes only those below the space.
pub fn json(text: String) -> String {
    if !text.contains(steers) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            // Writing to a string does not fail. All of them have four digits.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether a character does anything but stand there: controls, ends of lines, what turns the direction of a text
/// (UAX #9, as in "Trojan Source"), what cannot be seen.
fn steers(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// What sets a colour, at the beginning of a text (ECMA-48, 8.3.117).
fn colour(text: &str) -> Option<&str> {
    let code = text.strip_prefix("\x1b[")?;
    let digits = code.bytes().take_while(u8::is_ascii_digit).count();
    let end = text.len() - code.len() + digits;
    code[digits..].starts_with('m').then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_steers_no_terminal_and_stays_on_its_line() {
        assert_eq!(clean("a\tb\x1b[2J\r\nc"), "a\tb\u{fffd}[2J\u{fffd}\u{fffd}c");
        assert_eq!(clean("1.1.0\u{202e}\u{200b}\u{9b}31m"), "1.1.0\u{fffd}\u{fffd}\u{fffd}31m");
        assert_eq!(clean("grün 🍓 👩‍🌾"), "grün 🍓 👩‍🌾");
    }

    #[test]
    fn of_what_is_printed_only_ends_of_lines_and_wanted_colours_do_something() {
        let text = "a\n\x1b[32mok\x1b[0m \x1b]0;title\x07\x1b[2J\x1b[";
        assert_eq!(
            printable(text, true),
            "a\n\x1b[32mok\x1b[0m \u{fffd}]0;title\u{fffd}\u{fffd}[2J\u{fffd}["
        );
        assert!(printable(text, false).starts_with("a\n\u{fffd}[32mok"));
        assert!(matches!(printable("plain\ntext", false), Cow::Borrowed(_)));
    }

    #[test]
    fn json_means_the_same_and_steers_nothing() {
        let text = "a\x1b[2J\u{7f}\u{9b}31m\u{202e}\nb";
        let escaped = json(serde_json::to_string(text).unwrap());
        assert_eq!(escaped, r#""a\u001b[2J\u007f\u009b31m\u202e\nb""#);
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}
