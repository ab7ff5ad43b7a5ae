//! The bus of the model: one retained order per group, and messages that get lost, doubled and overtaken.

use super::{
    catalog::{COUNT, GOOD, GROUPS, OrderKey, What, When},
    rng::Rng,
};

/// What was published, and what is on its way.
#[derive(Debug, Default)]
pub(crate) struct Bus {
    retained: [Option<OrderKey>; GROUPS.len()],
    /// Messages on their way, with the time of their arrival.
    wire: Vec<(u64, OrderKey)>,
    revision: u64,
}

impl Bus {
    /// A random order, which takes the place of its group's.
    pub(crate) fn publish_any(&mut self, now_ms: u64, rng: &mut Rng) -> OrderKey {
        let key = match self.series(rng) {
            Some(key) => key,
            None => self.any(rng),
        };
        let key = self.publish(key, now_ms);
        if rng.permille(200) {
            self.wire.pop();
        }
        for _ in 0..rng.below(3) {
            self.wire.push((now_ms + rng.between(0, 90_000), key));
        }
        key
    }

    /// The next order of a series that is retained: paused, active again, for more nodes, or for another group too.
    fn series(&self, rng: &mut Rng) -> Option<OrderKey> {
        let before = self.retained[group(rng)].filter(|_| rng.permille(500))?;
        let goes_on = matches!(before.what, What::Run | What::Pause);
        goes_on.then(|| OrderKey {
            group: if rng.permille(800) { before.group } else { group(rng) },
            what: rng.pick(&[What::Run, What::Run, What::Run, What::Pause]),
            when: rng.pick(&[before.when, When::Now]),
            for_us: before.for_us || rng.permille(930),
            continues: Some(before.continues.unwrap_or(before.revision)),
            ..before
        })
    }

    fn any(&self, rng: &mut Rng) -> OrderKey {
        let what = rng.pick(&[
            What::Run,
            What::Run,
            What::Run,
            What::Run,
            What::Pause,
            What::Withdraw,
            What::Revert,
        ]);
        let when =
            rng.pick(&[When::Now, When::Now, When::Now, When::Now, When::Later, When::Spread, When::TooLate]);
        let group = group(rng);
        let before = self.retained[group].map(|order| order.release);
        let any = usize::try_from(rng.below(COUNT)).unwrap_or(0);
        let any = if rng.permille(400) { rng.pick(&GOOD) } else { any };
        let release = match (what, before) {
            (What::Run, _) | (_, None) => any,
            // Most orders that take something back are about what was ordered.
            (_, Some(before)) => {
                if rng.permille(800) {
                    before
                } else {
                    any
                }
            }
        };
        OrderKey {
            revision: 0,
            release,
            group,
            what,
            when,
            for_us: rng.permille(930),
            urgent: rng.permille(200),
            continues: None,
        }
    }

    /// Publishes with the next revision; it arrives at once.
    pub(crate) fn publish(&mut self, key: OrderKey, now_ms: u64) -> OrderKey {
        self.revision += 1;
        let key = OrderKey { revision: self.revision, ..key };
        self.retained[key.group] = Some(key);
        self.wire.push((now_ms, key));
        key
    }

    /// The node subscribes again: every retained order is sent again.
    pub(crate) fn subscribe(&mut self, now_ms: u64, rng: &mut Rng) {
        let sent = self.retained.iter().flatten().map(|key| (now_ms + rng.between(0, 2_000), *key));
        self.wire.extend(sent);
    }

    /// When the next message arrives.
    pub(crate) fn arrives_ms(&self) -> Option<u64> {
        self.wire.iter().map(|(at_ms, _)| *at_ms).min()
    }

    /// The next message.
    pub(crate) fn take(&mut self) -> Option<OrderKey> {
        let at_ms = self.arrives_ms()?;
        let index = self.wire.iter().position(|(ms, _)| *ms == at_ms)?;
        Some(self.wire.swap_remove(index).1)
    }

    /// The connection breaks.
    pub(crate) fn lose_wire(&mut self) {
        self.wire.clear();
    }

    /// The orders that are retained.
    pub(crate) fn retained(&self) -> impl Iterator<Item = OrderKey> {
        self.retained.iter().flatten().copied()
    }
}

fn group(rng: &mut Rng) -> usize {
    usize::try_from(rng.below(GROUPS.len() as u64)).unwrap_or(0)
}
