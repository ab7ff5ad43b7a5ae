//! A wave as a bar: how many of its nodes are how far.

use rollout::course::{Bucket, NodeState};
use serde::Serialize;

/// Cells of a bar: a wave of so many nodes has one for each.
const WIDTH: usize = 20;

/// How many nodes are how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Well with the release.
    pub good: usize,
    /// Not well with it.
    pub failed: usize,
    /// They have the order, and may be about to install, or do.
    pub on_the_way: usize,
    /// They are not there.
    pub away: usize,
    /// They have not got the order, or hold themselves back.
    pub waiting: usize,
    /// Nothing is expected of them.
    pub skipped: usize,
}

impl Counts {
    /// Counts one node more.
    pub fn add(&mut self, state: &NodeState) {
        let bucket = match state.bucket() {
            Bucket::Good => &mut self.good,
            Bucket::Failed => &mut self.failed,
            Bucket::Skipped => &mut self.skipped,
            Bucket::Away => &mut self.away,
            Bucket::Waiting => &mut self.waiting,
            Bucket::OnTheWay => &mut self.on_the_way,
        };
        *bucket += 1;
    }

    /// In words, without those that are none.
    pub fn text(&self) -> String {
        let named = [
            (self.good, "good"),
            (self.failed, "failed"),
            (self.on_the_way, "on the way"),
            (self.away, "away"),
            (self.waiting, "waiting"),
            (self.skipped, "skipped"),
        ];
        let texts = named.into_iter().filter(|(count, _)| *count > 0);
        texts.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    }

    fn parts(&self) -> [(usize, &'static Mark); 5] {
        let counts = [self.good, self.failed, self.on_the_way, self.away, self.waiting];
        std::array::from_fn(|at| (counts[at], &MARKS[at]))
    }
}

struct Mark {
    name: &'static str,
    plain: char,
    block: char,
    /// SGR code of its colour (ECMA-48, 8.3.117).
    colour: u8,
}

/// In the order of a bar.
const MARKS: [Mark; 5] = [
    Mark { name: "good", plain: '#', block: '█', colour: 32 },
    Mark { name: "failed", plain: '!', block: '█', colour: 31 },
    Mark { name: "on the way", plain: '>', block: '▓', colour: 33 },
    Mark { name: "away", plain: '~', block: '▒', colour: 34 },
    Mark { name: "waiting", plain: '.', block: '░', colour: 90 },
];

impl Mark {
    fn cells(&self, cells: usize, paints: bool) -> String {
        if paints {
            format!("\x1b[{}m{}\x1b[0m", self.colour, self.block.to_string().repeat(cells))
        } else {
            self.plain.to_string().repeat(cells)
        }
    }
}

/// The bar, as wide as every other; coloured blocks where a person looks.
pub(super) fn bar(counts: &Counts, paints: bool) -> String {
    let parts = counts.parts();
    let cells = cells(parts.map(|(count, _)| count));
    let drawn = parts.iter().zip(cells).filter(|(_, cells)| *cells > 0);
    let drawn: String = drawn.map(|((_, mark), cells)| mark.cells(cells, paints)).collect();
    format!("{drawn}{}", " ".repeat(WIDTH.saturating_sub(cells.iter().sum())))
}

/// What the marks of a bar are.
pub(super) fn legend(paints: bool) -> String {
    let texts = MARKS.iter().map(|mark| format!("{} {}", mark.cells(1, paints), mark.name));
    texts.collect::<Vec<_>>().join("  ")
}

/// So many cells for each: one at least for whoever is there.
fn cells(counts: [usize; 5]) -> [usize; 5] {
    let total: usize = counts.iter().sum();
    if total <= WIDTH {
        return counts;
    }
    let mut cells = counts.map(|count| (count * WIDTH / total).max(usize::from(count > 0)));
    while let sum = cells.iter().sum::<usize>()
        && sum != WIDTH
    {
        // The largest part can spare a cell, or take one.
        let Some(largest) = cells.iter_mut().max() else { break };
        *largest = if sum > WIDTH { *largest - 1 } else { *largest + 1 };
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_a_cell_for_each_node_or_its_share() {
        let small = Counts { good: 2, failed: 1, on_the_way: 1, away: 1, waiting: 3, skipped: 4 };
        assert_eq!(bar(&small, false), "##!>~...            ");
        let large = Counts { good: 400, failed: 1, waiting: 600, ..Counts::default() };
        assert_eq!(bar(&large, false), "#######!............");
        assert_eq!(bar(&Counts::default(), false).len(), WIDTH);
        assert_eq!(small.text(), "2 good, 1 failed, 1 on the way, 1 away, 3 waiting, 4 skipped");
        assert_eq!(legend(false), "# good  ! failed  > on the way  ~ away  . waiting");
    }

    #[test]
    fn colours_change_no_width() {
        let counts = Counts { good: 1, waiting: 2, ..Counts::default() };
        assert_eq!(bar(&counts, true), format!("\x1b[32m█\x1b[0m\x1b[90m░░\x1b[0m{}", " ".repeat(17)));
    }
}
