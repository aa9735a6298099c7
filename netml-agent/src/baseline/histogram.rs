//! Quantiles of what was observed, in fixed memory and with a fixed error: counts in fixed bins.
//!
//! The bins of a count are of equal width on the scale of its logarithm, as in DDSketch (Masson, Rim
//! and Lee, VLDB 2019): a quantile is then off by a fixed factor. The two values that hosts have
//! most of the time, nothing and all of it, have bins of their own. Stochastic estimates (frugal
//! streaming, Ma et al. 2013) and P² (Jain and Chlamtac 1985) take less memory, but the first have no
//! bound to their error and the second forgets nothing.

/// Bins of a histogram.
pub const BINS: usize = 40;

/// Weight at which everything is halved. Observations are one a second at most: what was seen four
/// hours of activity ago counts half.
pub const WEIGHT_MAX: u32 = 28_800;

/// What the values of a feature look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// `log2(1 + n)`: bin 0 holds 0, each further one half a power of two, the last all above 19.
    Log2,
    /// Part of a whole: bin 0 holds 0, the last 1, those between them a 38th each.
    Share,
}

impl Scale {
    /// Width of the bins that hold more than one value, and the most that a quantile is off.
    #[must_use]
    pub const fn width(self) -> f32 {
        match self {
            Self::Log2 => 0.5,
            Self::Share => 1.0 / (BINS - 2) as f32,
        }
    }

    /// Least deviation that is not taken for noise: for a count its double, for a share a tenth.
    #[must_use]
    pub const fn spread_min(self) -> f32 {
        match self {
            Self::Log2 => 1.0,
            Self::Share => 0.1,
        }
    }

    /// Bin of a finite value.
    #[expect(clippy::cast_sign_loss, reason = "negative values are taken before")]
    #[must_use]
    pub fn bin(self, value: f32) -> u8 {
        let last = match self {
            Self::Log2 => BINS - 1,
            Self::Share if value >= 1.0 => return (BINS - 1) as u8,
            Self::Share => BINS - 2,
        };
        if value <= 0.0 {
            return 0;
        }
        ((value / self.width()) as usize + 1).min(last) as u8
    }

    /// Least value of a bin.
    fn low(self, bin: usize) -> f32 {
        self.edge(bin.saturating_sub(1))
    }

    /// Least value above a bin; of one that holds a single value that value.
    fn high(self, bin: usize) -> f32 {
        match self {
            Self::Share => self.edge(bin).min(1.0),
            Self::Log2 => self.edge(bin),
        }
    }

    /// Value at so many bins from 0.
    fn edge(self, bins: usize) -> f32 {
        match self {
            Self::Share => bins as f32 / (BINS - 2) as f32,
            Self::Log2 => bins as f32 * self.width(),
        }
    }
}

/// What a histogram says; each of it is off by less than a bin's width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// At most 5 % lie below.
    pub low: f32,
    /// At most 5 % lie above.
    pub high: f32,
    /// Median distance from the median.
    pub deviation: f32,
}

/// Counts of one feature.
#[derive(Clone, Debug)]
pub struct Histogram([u16; BINS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BINS])
    }
}

impl Histogram {
    /// Counts a value of this bin.
    pub fn add(&mut self, bin: u8) {
        if let Some(count) = self.0.get_mut(usize::from(bin)) {
            *count = count.saturating_add(1);
        }
    }

    /// Forgets half of everything. What was seen once is forgotten: all bins together lose less than
    /// [`BINS`] by that, 0.3 % of half of [`WEIGHT_MAX`].
    pub fn halve(&mut self) {
        for count in &mut self.0 {
            *count /= 2;
        }
    }

    /// Range and deviation of what was counted; of nothing 0.
    #[must_use]
    pub fn summary(&self, scale: Scale) -> Summary {
        let total: u32 = self.0.iter().map(|count| u32::from(*count)).sum();
        let (mut low, mut median, mut high) = (None, None, None);
        let mut seen = 0;
        for (bin, count) in self.0.iter().enumerate() {
            seen += u32::from(*count);
            if low.is_none() && seen * 20 > total {
                low = Some(bin);
            }
            if median.is_none() && seen * 2 >= total {
                median = Some(bin);
            }
            if high.is_none() && seen * 20 >= 19 * total {
                high = Some(bin);
            }
        }
        let (low, median, high) = (low.unwrap_or(0), median.unwrap_or(0), high.unwrap_or(0));
        let count = |bin: Option<usize>| {
            bin.and_then(|bin| self.0.get(bin))
                .map_or(0, |count| u32::from(*count))
        };
        let (mut steps, mut within) = (0, count(Some(median)));
        while within * 2 < total && steps < BINS {
            steps += 1;
            within += count(median.checked_sub(steps)) + count(Some(median + steps));
        }
        Summary {
            low: scale.low(low),
            high: scale.high(high),
            deviation: steps as f32 * scale.width(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::decay::mix;
    use proptest::prelude::*;

    /// The same numbers in 0..1 at every run.
    fn uniform(number: u64) -> f32 {
        (mix(number) >> 40) as f32 / (1u64 << 24) as f32
    }

    fn summary_of(scale: Scale, values: impl Iterator<Item = f32>) -> Summary {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.add(scale.bin(value));
        }
        histogram.summary(scale)
    }

    /// Within a bin, and what the draw itself is off.
    fn assert_near(scale: Scale, got: f32, expected: f32) {
        assert!(
            (got - expected).abs() <= scale.width() + 0.03,
            "{got} and not {expected}"
        );
    }

    #[test]
    fn quantiles_of_known_distributions_are_off_by_less_than_a_bin() {
        const COUNT: u64 = 20_000;
        let scale = Scale::Share;
        let flat = summary_of(scale, (0..COUNT).map(uniform));
        assert_near(scale, flat.low, 0.05);
        assert_near(scale, flat.high, 0.95);
        assert_near(scale, flat.deviation, 0.25);

        // A count whose logarithm is normal, mean 6 and deviation 1 (Box and Muller).
        let scale = Scale::Log2;
        let normal = |number: u64| {
            let radius = (-2.0 * uniform(2 * number).max(1e-9).ln()).sqrt();
            6.0 + radius * (std::f32::consts::TAU * uniform(2 * number + 1)).cos()
        };
        let bell = summary_of(scale, (0..COUNT).map(normal));
        assert_near(scale, bell.low, 6.0 - 1.645);
        assert_near(scale, bell.high, 6.0 + 1.645);
        assert_near(scale, bell.deviation, 0.6745);
    }

    #[test]
    fn what_never_changes_has_a_range_of_one_bin_and_no_deviation() {
        for (scale, value, low, high) in [
            (Scale::Share, 0.0, 0.0, 0.0),
            (Scale::Share, 1.0, 1.0, 1.0),
            (Scale::Log2, 0.0, 0.0, 0.0),
            (Scale::Log2, 1.0, 1.0, 1.5),
        ] {
            let got = summary_of(scale, (0..100).map(|_| value));
            let expected = Summary {
                low,
                high,
                deviation: 0.0,
            };
            assert_eq!(got, expected, "{scale:?} {value}");
        }
    }

    #[test]
    fn a_few_far_values_move_nothing_and_a_lasting_change_does() {
        let mut histogram = Histogram::default();
        let mut weight = 0;
        let mut see = |value: f32, times: u32| {
            for _ in 0..times {
                histogram.add(Scale::Log2.bin(value));
                weight += 1;
                if weight >= WEIGHT_MAX {
                    histogram.halve();
                    weight /= 2;
                }
            }
            (histogram.summary(Scale::Log2).high / Scale::Log2.width()).round() as i32
        };
        assert_eq!(see(2.0, WEIGHT_MAX), 5);
        assert_eq!(see(9.0, 700), 5, "below 5 %");
        assert_eq!(see(9.0, 300), 19);
        // Seven half-lives of something else: less than a hundredth is left.
        assert_eq!(see(2.0, 7 * WEIGHT_MAX / 2), 5);
    }

    proptest! {
        #[test]
        fn at_most_a_tenth_lies_outside_and_the_ends_are_the_quantiles(
            values in proptest::collection::vec(0f32..=1.0, 1..300),
            of_counts: bool,
        ) {
            let (scale, factor) = if of_counts { (Scale::Log2, 19.0) } else { (Scale::Share, 1.0) };
            let mut values: Vec<f32> = values.iter().map(|value| value * factor).collect();
            values.sort_by(f32::total_cmp);
            let got = summary_of(scale, values.iter().copied());
            let count = values.len();
            let below = values.iter().filter(|value| **value < got.low - 1e-5).count();
            let above = values.iter().filter(|value| **value > got.high + 1e-5).count();
            prop_assert!(below * 20 <= count && above * 20 <= count);
            let low = values[count / 20];
            let high = values[(19 * count).div_ceil(20) - 1];
            prop_assert!((low - got.low).abs() <= scale.width() + 1e-4, "{low} {}", got.low);
            prop_assert!((high - got.high).abs() <= scale.width() + 1e-4, "{high} {}", got.high);
            let median = values[count.div_ceil(2) - 1];
            let mut distances: Vec<f32> = values.iter().map(|v| (v - median).abs()).collect();
            distances.sort_by(f32::total_cmp);
            let deviation = distances[count.div_ceil(2) - 1];
            prop_assert!((deviation - got.deviation).abs() <= scale.width() + 1e-4);
        }
    }
}
