//! How many answers in a row make a check change its mind.

/// One check's mind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Threshold {
    healthy_after: u32,
    unhealthy_after: u32,
    in_a_row: u32,
    last: Option<bool>,
    verdict: Option<bool>,
}

impl Threshold {
    pub(super) fn new(healthy_after: u32, unhealthy_after: u32) -> Self {
        let [healthy_after, unhealthy_after] = [healthy_after, unhealthy_after].map(|n| n.max(1));
        Self { healthy_after, unhealthy_after, in_a_row: 0, last: None, verdict: None }
    }

    /// Takes an answer and gives what the check says now; nothing before the first answers are enough.
    pub(super) fn take(&mut self, good: bool) -> Option<bool> {
        self.in_a_row = if self.last == Some(good) { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = Some(good);
        let needed = if good { self.healthy_after } else { self.unhealthy_after };
        if self.in_a_row >= needed {
            self.verdict = Some(good);
        }
        self.verdict
    }
}

/// What all checks say together, where each says healthy, why not, or nothing yet: bad as soon as one is, good when
/// all are.
pub(super) fn overall<'a>(
    verdicts: impl IntoIterator<Item = Option<Result<(), &'a str>>>,
) -> Option<Result<(), &'a str>> {
    let mut all_known = true;
    for verdict in verdicts {
        match verdict {
            Some(Err(text)) => return Some(Err(text)),
            Some(Ok(())) => {}
            None => all_known = false,
        }
    }
    all_known.then_some(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_count_only_in_a_row() {
        let mut check = Threshold::new(2, 3);
        let answers = [true, false, true, true, false, false, true, false, false, false, true, true];
        let verdicts: Vec<_> = answers.iter().map(|good| check.take(*good)).collect();
        let (good, bad) = (Some(true), Some(false));
        assert_eq!(verdicts, [None, None, None, good, good, good, good, good, good, bad, bad, good]);
    }

    #[test]
    fn a_threshold_of_zero_is_one() {
        assert_eq!(Threshold::new(0, 0).take(true), Some(true));
        assert_eq!(Threshold::new(0, 0).take(false), Some(false));
    }

    #[test]
    fn one_bad_check_is_enough_and_all_must_be_good() {
        let (good, bad) = (Some(Ok(())), Some(Err("no")));
        assert_eq!(overall([good, bad, None]), bad);
        assert_eq!(overall([good, None]), None);
        assert_eq!(overall([good, good]), good);
        assert_eq!(overall([]), good);
    }
}
