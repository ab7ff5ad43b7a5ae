//! The last lines of what a program said, small enough for a report and safe for a terminal.

use schemas::report::{MAX_LOG_BYTES, MAX_LOG_LINES};

/// Longest line that is shown.
const MAX_LINE_CHARS: usize = 400;
/// So many bytes from the end are enough for any tail.
pub(crate) const ENOUGH_BYTES: usize = 4 * MAX_LOG_BYTES;

/// The last lines of `said`, oldest first, without control characters.
pub(crate) fn tail(said: &[u8]) -> Vec<String> {
    last_lines(said, MAX_LOG_LINES, MAX_LOG_BYTES)
}

/// The last lines of `said` that are at most `max_lines` and take at most `max_bytes`, oldest first, without control characters.
pub(crate) fn last_lines(said: &[u8], max_lines: usize, max_bytes: usize) -> Vec<String> {
    let said = String::from_utf8_lossy(said);
    let mut room = max_bytes;
    let mut lines: Vec<String> = said
        .lines()
        .rev()
        .map(shown)
        .filter(|line| !line.is_empty())
        .take(max_lines)
        .take_while(|line| {
            room = room.saturating_sub(line.len() + 1);
            room > 0
        })
        .collect();
    lines.reverse();
    lines
}

fn shown(line: &str) -> String {
    let printable = line.trim_end().chars().filter(|c| !c.is_control() || *c == '\t');
    printable.take(MAX_LINE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_in_order() {
        let said = (0..200).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\r\n");
        let lines = tail(said.as_bytes());
        assert_eq!(lines.len(), MAX_LOG_LINES);
        assert_eq!((lines[0].as_str(), lines[MAX_LOG_LINES - 1].as_str()), ("line 150", "line 199"));
    }

    #[test]
    fn endless_lines_bad_bytes_and_terminal_codes_do_no_harm() {
        assert!(tail(&vec![b'x'; 1_000_000])[0].len() <= MAX_LINE_CHARS);
        let long = format!("{}\n", "y".repeat(390)).repeat(40);
        assert!(tail(long.as_bytes()).iter().map(|line| line.len() + 1).sum::<usize>() <= MAX_LOG_BYTES);
        assert_eq!(tail(b"\x1b[31mred\xff\n\n"), ["[31mred\u{fffd}"]);
        assert!(tail(b"").is_empty());
    }
}
