//! What has come of what the simulator shows, and what should not have come.

use std::collections::BTreeMap;

use crate::timeline::{self, Line, Voice};

/// What has to come until an act is over.
#[derive(Debug)]
pub(super) struct Awaited<'a> {
    /// The lines of each voice in their order.
    lines: BTreeMap<&'a Voice, Vec<Due<'a>>>,
    /// So many have come.
    came: BTreeMap<Voice, usize>,
    /// The last order for each group, and the one that came last.
    orders: BTreeMap<&'a Voice, &'a str>,
    newest: BTreeMap<Voice, String>,
    /// So many waves were opened.
    opened: usize,
}

#[derive(Debug)]
struct Due<'a> {
    text: &'a str,
    /// Not before so many waves were opened.
    opened: usize,
}

impl<'a> Awaited<'a> {
    pub(super) fn new(told: &'a [Line]) -> Self {
        let (mut lines, mut orders, mut opened) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::new(), 0);
        for line in told {
            match &line.voice {
                Voice::Order(_) => {
                    orders.insert(&line.voice, line.text.as_str());
                }
                voice => {
                    opened += usize::from(is_opening(line));
                    let opened = if timeline::is_begin(&line.text) { opened } else { 0 };
                    lines.entry(voice).or_default().push(Due { text: &line.text, opened });
                }
            }
        }
        Self { lines, came: BTreeMap::new(), orders, newest: BTreeMap::new(), opened: 0 }
    }

    /// Something has happened.
    ///
    /// # Errors
    /// When that is nothing that the simulator shows, or too early.
    pub(super) fn take(&mut self, line: &Line) -> Result<(), String> {
        if let Voice::Order(_) = line.voice {
            self.newest.insert(line.voice.clone(), line.text.clone());
            return Ok(());
        }
        let came = self.came.entry(line.voice.clone()).or_default();
        let due = self.lines.get(&line.voice).and_then(|lines| lines.get(*came));
        self.opened += usize::from(is_opening(line));
        match due {
            Some(due) if due.text == line.text && due.opened <= self.opened => *came += 1,
            Some(due) if due.text == line.text => {
                return Err(format!("`{}` came before its wave was opened", line.text));
            }
            Some(due) => return Err(format!("`{}` came instead of `{}`", line.text, due.text)),
            None => {
                return Err(format!(
                    "`{}` came, and the simulator shows nothing like it before the next deed",
                    line.text
                ));
            }
        }
        Ok(())
    }

    /// What has not come yet.
    pub(super) fn missing(&self) -> Vec<&'a str> {
        let came = |voice: &Voice| self.came.get(voice).copied().unwrap_or_default();
        let lines =
            self.lines.iter().flat_map(|(voice, lines)| lines[came(voice)..].iter().map(|due| due.text));
        let is_newest =
            |voice: &Voice, text: &str| self.newest.get(voice).is_some_and(|newest| newest == text);
        let orders =
            self.orders.iter().filter(|(voice, text)| !is_newest(voice, text)).map(|(_, text)| *text);
        lines.chain(orders).collect()
    }
}

fn is_opening(line: &Line) -> bool {
    matches!(line.voice, Voice::Rollout(..)) && line.text.starts_with("wave opened")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(voice: Voice, text: &str) -> Line {
        Line { at_ms: 0, voice, text: text.to_owned() }
    }

    fn rollout(text: &str) -> Line {
        line(Voice::Rollout("web".parse().unwrap(), "1.1.0".to_owned()), text)
    }

    fn node(name: &str, text: &str) -> Line {
        line(Voice::Node(name.parse().unwrap()), &format!("{name} web 1.1.0: {text}"))
    }

    fn order(text: &str) -> Line {
        line(Voice::Order("all".parse().unwrap()), text)
    }

    fn told() -> Vec<Line> {
        let wave = "wave opened: wave 1 of 1: pi-1, pi-2";
        let begin = [rollout(wave), order("run: pi-1"), node("pi-1", "started"), node("pi-2", "started")];
        begin
            .into_iter()
            .chain([node("pi-1", "kept"), node("pi-2", "kept"), order("run: everybody")])
            .collect()
    }

    #[test]
    fn what_different_ones_say_may_come_in_any_order() {
        let told = told();
        let mut awaited = Awaited::new(&told);
        for at in [0, 3, 5, 2, 1, 4] {
            awaited.take(&told[at]).unwrap();
        }
        assert_eq!(awaited.missing(), ["run: everybody"], "the last order counts");
        awaited.take(&told[6]).unwrap();
        assert!(awaited.missing().is_empty());
    }

    #[test]
    fn what_the_simulator_does_not_show_is_named() {
        let told = told();
        let mut awaited = Awaited::new(&told);
        let mut error = |line: &Line| awaited.take(line).unwrap_err();
        assert_eq!(error(&told[3]), "`pi-2 web 1.1.0: started` came before its wave was opened");
        assert_eq!(error(&told[4]), "`pi-1 web 1.1.0: kept` came instead of `pi-1 web 1.1.0: started`");
        assert_eq!(
            error(&node("pi-3", "started")),
            "`pi-3 web 1.1.0: started` came, and the simulator shows nothing like it before the next deed"
        );
    }
}
