//! A small seeded generator: the lab must vary and yet be repeatable.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014). Not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The same seed and name give the same numbers.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let mut state = seed;
        for byte in name.bytes() {
            state = state.rotate_left(9) ^ u64::from(byte).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        Self(state)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high.saturating_sub(low) + 1)
    }

    /// Sizes and pauses of people and services have a long tail: mostly near `typical`, at most
    /// sixteen times as much.
    pub(crate) fn long_tail(&mut self, typical: u64) -> u64 {
        let half = typical / 2 + 1;
        let mut value = half + self.next() % (typical.max(1));
        for _ in 0..4 {
            if !self.next().is_multiple_of(4) {
                break;
            }
            value = value.saturating_mul(2);
        }
        value.min(typical.saturating_mul(16))
    }

    /// A pause, long-tailed around `typical_ms`.
    pub(crate) fn pause(&mut self, typical_ms: u64) -> Duration {
        Duration::from_millis(self.long_tail(typical_ms))
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn same_seed_and_name_repeat_and_another_name_differs() {
        let numbers = |name| {
            let mut random = Random::new(7, name);
            [random.next(), random.next(), random.between(3, 9)]
        };
        assert_eq!(numbers("web"), numbers("web"));
        assert_ne!(numbers("web"), numbers("dns"));
    }

    #[test]
    fn values_stay_in_their_range() {
        let mut random = Random::new(1, "range");
        for _ in 0..10_000 {
            assert!((3..=9).contains(&random.between(3, 9)));
            assert!((51..=1_600).contains(&random.long_tail(100)));
        }
    }
}
