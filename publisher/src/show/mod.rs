//! What people read: tables, lines and amounts. Pure, so that tests compare whole outputs.

pub(crate) mod amount;
pub(crate) mod follow;
pub(crate) mod status;
pub(crate) mod watch;

use std::fmt::Write as _;

use schemas::status::Phase;

/// Columns as wide as their widest cell, two spaces apart.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|name| name.len())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = line(header.to_vec());
    for row in rows {
        let _ = write!(text, "\n{}", line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// What a node does now, as in `fetching, 41 %` or `deferred, waits for its time`.
pub(crate) fn doing(phase: Phase, percent: u16, waits_for: &str) -> String {
    let mut text = phase.name().replace('_', " ");
    // Elsewhere the share is a guess and says nothing.
    if matches!(phase, Phase::Fetching | Phase::Staging) && (1..100).contains(&percent) {
        let _ = write!(text, ", {percent} %");
    }
    if !waits_for.is_empty() {
        let _ = write!(text, ", waits for {}", clean(waits_for));
    }
    text
}

/// Text from a node without what would steer the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_have_no_tail() {
        let rows = [
            vec!["a".to_owned(), "ünï".to_owned(), String::new()],
            vec!["long".to_owned(), "b".to_owned(), "c".to_owned()],
        ];
        assert_eq!(table(&["ONE", "TWO", "X"], &rows), "ONE   TWO  X\na     ünï\nlong  b    c");
    }

    #[test]
    fn a_log_line_does_not_steer_the_terminal() {
        assert_eq!(clean("a\tb\x1b[2J\r\nc"), "a\tb\u{fffd}[2J\u{fffd}\u{fffd}c");
    }
}
