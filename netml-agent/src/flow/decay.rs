//! Small incremental statistics: O(1) memory and time, no history.

/// Half-life of every decayed count.
pub const HALF_LIFE_NS: u64 = 10_000_000_000;

/// Factor by which decayed counts shrink over `elapsed_ns`: `2^(−elapsed / half-life)`.
#[must_use]
pub fn decay_factor(elapsed_ns: u64) -> f32 {
    decay_factor_over(elapsed_ns, HALF_LIFE_NS)
}

/// The same for another half-life.
#[must_use]
#[inline]
pub fn decay_factor_over(elapsed_ns: u64, half_life_ns: u64) -> f32 {
    let half_lives = elapsed_ns as f32 / half_life_ns as f32;
    // Below a 5,000th the factor differs from one by less than 2e-4: not worth an exponential.
    if elapsed_ns < half_life_ns / 5_000 {
        return 1.0 - half_lives * std::f32::consts::LN_2;
    }
    (-half_lives).exp2()
}

/// Approximate count of distinct values over the last one to two generations: linear counting
/// (Whang et al., 1990) over two bitmaps of `64 × WORDS` bits that take turns. A turn begins with
/// the first value, so that absolute time does not matter.
#[derive(Clone, Copy, Debug)]
pub struct Sketch<const WORDS: usize = 4, const GENERATION_S: u64 = 15> {
    current: [u64; WORDS],
    previous: [u64; WORDS],
    current_since_ns: u64,
}

/// Distinct values over the last 5 to 10 minutes, in 128 bits: a standard error of about 9 % at 100;
/// at most 621 (all bits set).
pub type SlowSketch = Sketch<2, 300>;

impl<const WORDS: usize, const GENERATION_S: u64> Default for Sketch<WORDS, GENERATION_S> {
    fn default() -> Self {
        Self {
            current: [0; WORDS],
            previous: [0; WORDS],
            current_since_ns: 0,
        }
    }
}

impl<const WORDS: usize, const GENERATION_S: u64> Sketch<WORDS, GENERATION_S> {
    /// Life of one bitmap.
    pub const GENERATION_NS: u64 = GENERATION_S * 1_000_000_000;
    const BITS: usize = 64 * WORDS;

    /// Adds a value.
    pub fn insert(&mut self, value: u64, now_ns: u64) {
        const { assert!(Self::BITS.is_power_of_two()) };
        match self.age(now_ns) {
            0 => {}
            1 => {
                self.previous = std::mem::replace(&mut self.current, [0; WORDS]);
                self.current_since_ns += Self::GENERATION_NS;
            }
            _ => {
                *self = Self {
                    current_since_ns: now_ns,
                    ..Self::default()
                }
            }
        }
        let bit = (mix(value) >> (64 - Self::BITS.ilog2())) as usize;
        self.current[bit / 64] |= 1 << (bit % 64);
    }

    /// Distinct values; of 256 bits with a standard error of about 6 % at 200, at most 1,420 (all bits
    /// set).
    #[must_use]
    pub fn count(&self, now_ns: u64) -> f32 {
        let age = self.age(now_ns);
        let set: u32 = (0..WORDS)
            .map(|i| match age {
                0 => (self.current[i] | self.previous[i]).count_ones(),
                1 => self.current[i].count_ones(),
                _ => 0,
            })
            .sum();
        let bits = Self::BITS as f32;
        let empty = (bits - set as f32).max(1.0);
        bits * (bits / empty).ln()
    }

    fn age(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.current_since_ns) / Self::GENERATION_NS
    }
}

/// Finaliser of splitmix64 (Steele et al., 2014), unseeded so that a replay repeats itself.
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Mean and deviation of everything added (Welford, 1962).
#[derive(Clone, Copy, Debug, Default)]
pub struct Running {
    /// Values added.
    pub count: u32,
    mean: f32,
    squares: f32,
}

impl Running {
    /// Adds a value.
    pub fn add(&mut self, value: f32) {
        self.count = self.count.saturating_add(1);
        let delta = value - self.mean;
        self.mean += delta / self.count as f32;
        self.squares += delta * (value - self.mean);
    }

    /// Adds the same value `times` times (Chan et al., 1979).
    pub fn add_equal(&mut self, value: f32, times: u32) {
        if times <= 1 {
            if times == 1 {
                self.add(value);
            }
            return;
        }
        let before = self.count as f32;
        self.count = self.count.saturating_add(times);
        let (times, count) = (times as f32, self.count as f32);
        let delta = value - self.mean;
        self.mean += delta * (times / count);
        self.squares += delta * delta * (before * times / count);
    }

    /// Mean; 0 without values.
    #[must_use]
    pub fn mean(&self) -> f32 {
        self.mean
    }

    /// Coefficient of variation, capped at 10; −1 below two values.
    #[must_use]
    pub fn variation(&self) -> f32 {
        if self.count < 2 {
            return -1.0;
        }
        let deviation = (self.squares.max(0.0) / self.count as f32).sqrt();
        (deviation / self.mean.abs().max(1e-6)).min(10.0)
    }
}

/// Mean and deviation that forget: the last about eight values count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recent {
    /// Values added.
    pub count: u32,
    mean: f32,
    variance: f32,
}

impl Recent {
    const WEIGHT_MIN: f32 = 1.0 / 8.0;

    /// Adds a value.
    pub fn add(&mut self, value: f32) {
        self.count = self.count.saturating_add(1);
        let weight = (1.0 / self.count as f32).max(Self::WEIGHT_MIN);
        let delta = value - self.mean;
        self.mean += weight * delta;
        self.variance = (1.0 - weight) * (self.variance + weight * delta * delta);
    }

    /// Mean; 0 without values.
    #[must_use]
    pub fn mean(&self) -> f32 {
        self.mean
    }

    /// Coefficient of variation, capped at 10; −1 below three values.
    #[must_use]
    pub fn variation(&self) -> f32 {
        if self.count < 3 {
            return -1.0;
        }
        (self.variance.max(0.0).sqrt() / self.mean.abs().max(1e-6)).min(10.0)
    }
}

/// `log2(1 + value)`, rounded to sixteenths so that tiny differences do not split a tree.
#[must_use]
pub fn log_bin(value: f32) -> f32 {
    ((1.0 + value.max(0.0)).log2() * 16.0).round() / 16.0
}

/// `part / whole`, 0 where there is no whole.
#[must_use]
pub fn share(part: f32, whole: f32) -> f32 {
    if whole > 0.0 {
        (part / whole).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_count_halves_in_ten_seconds_in_one_step_or_in_many() {
        let whole = decay_factor(HALF_LIFE_NS);
        let steps = (0..10_000).fold(1.0f32, |f, _| f * decay_factor(HALF_LIFE_NS / 10_000));
        assert!((whole - 0.5).abs() < 1e-6);
        assert!((steps - 0.5).abs() < 1e-2, "{steps}");
    }

    #[test]
    fn the_sketch_counts_within_three_standard_errors_and_forgets() {
        for distinct in [1u64, 10, 50, 200] {
            let mut sketch: Sketch = Sketch::default();
            for value in 0..distinct * 3 {
                sketch.insert(value % distinct, 0);
            }
            let counted = sketch.count(0);
            assert!(
                (counted - distinct as f32).abs() <= 1.0 + distinct as f32 * 0.18,
                "{distinct}: {counted}"
            );
            assert!(sketch.count(3 * <Sketch>::GENERATION_NS) < 0.5);
        }
        let mut slow = SlowSketch::default();
        (0..100).for_each(|value| slow.insert(value, 0));
        let counted = slow.count(SlowSketch::GENERATION_NS - 1);
        assert!((counted - 100.0).abs() <= 27.0, "{counted}");
        assert!(slow.count(3 * SlowSketch::GENERATION_NS) < 0.5);
    }

    proptest! {
        #[test]
        fn equal_values_at_once_are_those_values_one_by_one(
            values in proptest::collection::vec((0f32..1e4, 0u32..50), 1..20)
        ) {
            let (mut at_once, mut one_by_one) = (Running::default(), Running::default());
            for (value, times) in values {
                at_once.add_equal(value, times);
                (0..times).for_each(|_| one_by_one.add(value));
            }
            prop_assert_eq!(at_once.count, one_by_one.count);
            prop_assert!((at_once.mean() - one_by_one.mean()).abs() <= 1e-3 * one_by_one.mean() + 1e-3);
            prop_assert!((at_once.variation() - one_by_one.variation()).abs() < 1e-2);
        }

        #[test]
        fn running_agrees_with_two_passes(values in proptest::collection::vec(0f32..1e4, 2..60)) {
            let mut running = Running::default();
            values.iter().for_each(|v| running.add(*v));
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32).sqrt();
            prop_assert!((running.mean() - mean).abs() <= 1e-3 * mean.abs() + 1e-3);
            prop_assert!((running.variation() - (deviation / mean.max(1e-6)).min(10.0)).abs() < 1e-2);
        }
    }
}
