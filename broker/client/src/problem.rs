//! The shape in which every program shows what ended it: what happened and where, then what to do.

use std::fmt::Display;

/// `error` with all its causes in one line, and `advice` on lines of its own below.
pub fn render(error: impl Display, advice: Option<&str>) -> String {
    let error = format!("error: {error:#}");
    let mut lines = advice.unwrap_or_default().lines();
    let Some(first) = lines.next() else { return error.trim_end().to_owned() };
    lines.fold(format!("{}\nhint:  {first}", error.trim_end()), |text, line| {
        let indent = if line.is_empty() { "" } else { "       " };
        format!("{text}\n{indent}{line}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_on_lines_of_its_own() {
        assert_eq!(render("no disk\n", None), "error: no disk");
        assert_eq!(
            render("no disk", Some("buy one\n\nsoon")),
            "error: no disk\nhint:  buy one\n\n       soon"
        );
    }
}
