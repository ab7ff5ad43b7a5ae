//! A line of a scenario, word by word.

use std::str::FromStr;

/// The words of a line that are still to be read.
#[derive(Debug, Clone)]
pub(super) struct Words<'a> {
    rest: Vec<&'a str>,
    last: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        let line = line.split('#').next().unwrap_or_default();
        let mut rest: Vec<&str> = line.split_whitespace().collect();
        rest.reverse();
        Self { rest, last: "" }
    }

    /// The next word.
    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.last = match self.rest.pop() {
            Some(word) => word,
            None if self.last.is_empty() => return Err(format!("{what} is missing")),
            None => return Err(format!("{what} is missing after `{}`", self.last)),
        };
        Ok(self.last)
    }

    /// The next word, as something.
    pub(super) fn get<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.word(what)?;
        word.parse().map_err(|_| format!("`{word}` is no {what}"))
    }

    /// Words with commas between them.
    pub(super) fn list<T: FromStr>(&mut self, what: &str) -> Result<Vec<T>, String> {
        let mut list = Vec::new();
        loop {
            let word = self.word(what)?;
            let one = word.trim_end_matches(',');
            list.push(one.parse().map_err(|_| format!("`{one}` is no {what}"))?);
            if !word.ends_with(',') {
                return Ok(list);
            }
        }
    }

    /// A time like `90s`, `10m` or `2h`, in milliseconds.
    pub(super) fn time(&mut self) -> Result<u64, String> {
        let word = self.word("time")?;
        let digits = word.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit_ms = match &word[digits.len()..] {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        let time_ms = unit_ms.zip(digits.parse::<u64>().ok()).map(|(unit_ms, number)| number * unit_ms);
        time_ms.ok_or_else(|| format!("`{word}` is no time like `90s`, `10m` or `2h`"))
    }

    /// Takes the next word, if it is this one.
    pub(super) fn takes(&mut self, word: &'a str) -> bool {
        let is_it = self.rest.last() == Some(&word);
        if is_it {
            self.last = word;
            self.rest.pop();
        }
        is_it
    }

    /// Takes the next word, which must be this one.
    pub(super) fn must(&mut self, word: &'a str) -> Result<(), String> {
        if self.takes(word) {
            return Ok(());
        }
        match self.rest.last() {
            Some(other) => Err(format!("`{word}` is to come instead of `{other}`")),
            None => Err(format!("`{word}` is missing after `{}`", self.last)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// There must be nothing more.
    pub(super) fn end(&self) -> Result<(), String> {
        match self.rest.last() {
            None => Ok(()),
            Some(more) => Err(format!("`{more}` is too much")),
        }
    }
}
