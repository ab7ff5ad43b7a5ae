//! What apps and builds say, on its way to the bus: not more than the bus and a watcher can bear.

use machine::Now;
use schemas::{id::AppId, status::LogLines};

use super::{Installer, Node};
use crate::installer::Said;

/// Lines that go on the bus in the long run; a person reads no faster.
const LINES_PER_SEC: u64 = 50;
/// Lines that may come at once: a whole tail, and the beginning of a build.
const BURST_LINES: u64 = 300;

/// How much still goes on the bus.
#[derive(Debug)]
pub(super) struct Talk {
    /// Thousandths of a line.
    room: u64,
    filled_ms: u64,
    /// Lines that were left out since the last ones that were not.
    dropped: u64,
}

impl Default for Talk {
    fn default() -> Self {
        Self { room: BURST_LINES * 1_000, filled_ms: 0, dropped: 0 }
    }
}

impl Talk {
    /// Keeps of `lines` the last for which there is room, and says how many were left out since the last time.
    fn fit(&mut self, lines: &mut Vec<String>, now: Now) -> u64 {
        let passed_ms = now.mono_ms.saturating_sub(self.filled_ms);
        self.filled_ms = now.mono_ms;
        self.room =
            self.room.saturating_add(passed_ms.saturating_mul(LINES_PER_SEC)).min(BURST_LINES * 1_000);
        let fitting = usize::try_from(self.room / 1_000).unwrap_or(usize::MAX);
        let excess = lines.len().saturating_sub(fitting);
        lines.drain(..excess);
        self.room -= lines.len() as u64 * 1_000;
        self.dropped += excess as u64;
        if lines.is_empty() { 0 } else { std::mem::take(&mut self.dropped) }
    }
}

impl<I: Installer> Node<I> {
    /// Puts lines of a log on the bus, while it is there.
    pub(super) fn pass_on(&mut self, app: AppId, said: Said) {
        let Said { source, mut lines, answers } = said;
        let now = self.clock.now();
        let dropped = self.state.talk.fit(&mut lines, now);
        if !self.is_connected() || (lines.is_empty() && answers.is_empty()) {
            return;
        }
        let node = self.identity.node.clone();
        let said = LogLines { node, app, source, lines, dropped, answers, at: now.wall.into() };
        self.speaker.pass_on(&said);
    }
}

#[cfg(test)]
mod tests {
    use schemas::time::UnixTime;

    use super::*;

    #[test]
    fn who_says_too_much_is_cut_short_and_that_is_told() {
        let now = |mono_ms| Now { mono_ms, wall: UnixTime(0) };
        let lines = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        let mut talk = Talk::default();
        let mut said = lines(1_000);
        assert_eq!(talk.fit(&mut said, now(0)), 700);
        assert_eq!((said.len(), said[0].as_str()), (300, "700"), "the last ones");
        let mut more = lines(10);
        assert_eq!((talk.fit(&mut more, now(100)), more.len()), (5, 5));
        let mut none = lines(10);
        assert_eq!((talk.fit(&mut none, now(100)), none.len()), (0, 0), "told with the next lines");
        let mut later = lines(1);
        assert_eq!((talk.fit(&mut later, now(10_000)), later.len()), (10, 1));
    }
}
