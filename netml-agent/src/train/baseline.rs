//! What a forest has to beat: answers that need no forest.

use super::forest::{self, FitError, Settings, Training, asked_features};
use super::random::Random;
use super::table::Table;
use super::validate::RowScore;
use crate::flow::FEATURES;
use crate::flow::schema::FEATURE_SPECS;

/// A way to answer; each calls a row an attack or not, by a score of one half or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Everything is benign.
    Majority,
    /// One cut through the class of the responder's port.
    Port,
    /// The best cut through one feature.
    Stump,
    /// One tree of three levels of splits.
    SmallTree,
    /// Logistic regression over the features that trees may ask.
    Logistic,
    /// The rules alone.
    Rules,
}

impl Baseline {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Majority,
        Self::Port,
        Self::Stump,
        Self::SmallTree,
        Self::Logistic,
        Self::Rules,
    ];

    /// Name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Majority => "majority",
            Self::Port => "port class only",
            Self::Stump => "best one-feature stump",
            Self::SmallTree => "tree of depth 3",
            Self::Logistic => "logistic regression",
            Self::Rules => "rules alone",
        }
    }

    /// Answers for some rows, learnt from the training rows alone.
    ///
    /// # Errors
    /// [`FitError`] of the small tree.
    pub fn answer(
        self,
        training: &Training<'_>,
        settings: &Settings,
        table: &Table,
        rows: &[usize],
    ) -> Result<Vec<RowScore>, FitError> {
        let say = |attack: bool| RowScore {
            score: f32::from(u8::from(attack)),
            class: u8::from(attack),
        };
        let by_cut = |cut: Cut| {
            let answer = |&row: &usize| say(cut.hits(&table.rows[row].features));
            rows.iter().map(answer).collect()
        };
        Ok(match self {
            Self::Majority => rows.iter().map(|_| say(false)).collect(),
            Self::Port => {
                let port = |feature: &usize| FEATURE_SPECS[*feature].port_based;
                let features: Vec<usize> = (0..FEATURES).filter(port).collect();
                by_cut(Cut::best(training, settings, table, &features))
            }
            Self::Stump => by_cut(Cut::best(training, settings, table, &asked_features())),
            Self::SmallTree => {
                let settings = Settings {
                    trees: 1,
                    depth: 4,
                    split_features: FEATURES,
                    ..settings.clone()
                };
                let tree = forest::fit(training, &settings)?;
                let features: Vec<_> = rows.iter().map(|&row| table.rows[row].features).collect();
                let judged = tree.judge_all(&features);
                judged
                    .into_iter()
                    .map(|(score, class)| RowScore { score, class })
                    .collect()
            }
            Self::Logistic => {
                let sample = training.sample(settings, &mut Random::new(settings.seed, 0));
                let asked = asked_features();
                let values = |row: usize| {
                    let features = &table.rows[row].features;
                    asked.iter().map(|&at| f64::from(features[at])).collect()
                };
                let learnt: Vec<(Vec<f64>, bool)> = sample
                    .iter()
                    .map(|&(row, class)| (values(row), class != 0))
                    .collect();
                let line = Line::fit(&learnt);
                let share = |row: usize| (1.0 + (-line.margin(&values(row))).exp()).recip() as f32;
                let graded = |score: f32| RowScore {
                    score,
                    ..say(score >= 0.5)
                };
                rows.iter().map(|&row| graded(share(row))).collect()
            }
            Self::Rules => rows
                .iter()
                .map(|&row| say(table.rows[row].rule.is_some()))
                .collect(),
        })
    }
}

/// A line through features of mean 0 and deviation 1.
struct Line {
    mean: Vec<f64>,
    /// 0 of a feature that does not vary.
    inverse_deviation: Vec<f64>,
    weights: Vec<f64>,
    bias: f64,
}

impl Line {
    /// Logistic regression with a ridge, by Nesterov's accelerated descent; the step is that of the
    /// loss's greatest curvature, a quarter of the number of features.
    fn fit(rows: &[(Vec<f64>, bool)]) -> Self {
        const STEPS: u32 = 400;
        const RIDGE: f64 = 1e-3;
        let width = rows.first().map_or(0, |(row, _)| row.len());
        let count = rows.len().max(1) as f64;
        let over = |of: &dyn Fn(&[f64], usize) -> f64| -> Vec<f64> {
            let mean = |at| rows.iter().map(|(row, _)| of(row, at)).sum::<f64>() / count;
            (0..width).map(mean).collect()
        };
        let mean = over(&|row, at| row[at]);
        let variance = over(&|row, at| (row[at] - mean[at]).powi(2));
        let inverse = |variance: &f64| {
            if *variance > 1e-12 {
                variance.sqrt().recip()
            } else {
                0.0
            }
        };
        let mut line = Self {
            mean,
            inverse_deviation: variance.iter().map(inverse).collect(),
            weights: vec![0.0; width],
            bias: 0.0,
        };
        let scaled: Vec<(Vec<f64>, f64)> = rows
            .iter()
            .map(|(row, attack)| (line.scaled(row), f64::from(u8::from(*attack))))
            .collect();
        let step = (0.25 * (width + 1) as f64 + RIDGE).recip();
        // The last place is the bias.
        let mut at = vec![0.0; width + 1];
        let mut before = at.clone();
        for turn in 0..STEPS {
            let momentum = f64::from(turn) / f64::from(turn + 3);
            let ahead: Vec<f64> = at
                .iter()
                .zip(&before)
                .map(|(now, before)| now + momentum * (now - before))
                .collect();
            let mut slope: Vec<f64> = ahead.iter().map(|weight| RIDGE * weight).collect();
            slope[width] = 0.0;
            for (row, attack) in &scaled {
                let margin = dot(row, &ahead) + ahead[width];
                let excess = ((1.0 + (-margin).exp()).recip() - attack) / count;
                for (slope, value) in slope.iter_mut().zip(row) {
                    *slope += excess * value;
                }
                slope[width] += excess;
            }
            before = at;
            at = ahead
                .iter()
                .zip(&slope)
                .map(|(ahead, slope)| ahead - step * slope)
                .collect();
        }
        line.bias = at.pop().unwrap_or(0.0);
        line.weights = at;
        line
    }

    fn scaled(&self, row: &[f64]) -> Vec<f64> {
        let places = row.iter().zip(&self.mean).zip(&self.inverse_deviation);
        places
            .map(|((value, mean), inverse)| (value - mean) * inverse)
            .collect()
    }

    /// Above 0: rather an attack.
    fn margin(&self, row: &[f64]) -> f64 {
        dot(&self.scaled(row), &self.weights) + self.bias
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A threshold on one feature.
#[derive(Clone, Copy, Debug)]
struct Cut {
    feature: usize,
    threshold: f32,
    above: bool,
}

impl Cut {
    fn hits(&self, features: &[f32; FEATURES]) -> bool {
        (features[self.feature] > self.threshold) == self.above
    }

    /// The cut with the best balanced accuracy on a balanced sample of the training rows.
    fn best(
        training: &Training<'_>,
        settings: &Settings,
        table: &Table,
        features: &[usize],
    ) -> Self {
        let sample = training.sample(settings, &mut Random::new(settings.seed, 0));
        let totals = [
            sample.iter().filter(|(_, class)| *class == 0).count() as f64,
            sample.iter().filter(|(_, class)| *class != 0).count() as f64,
        ];
        let mut best = (
            0.0,
            Self {
                feature: 0,
                threshold: f32::INFINITY,
                above: true,
            },
        );
        for &feature in features {
            let mut values: Vec<(f32, bool)> = sample
                .iter()
                .map(|&(row, class)| (table.rows[row].features[feature], class != 0))
                .collect();
            values.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut below = [0.0; 2];
            for pair in values.windows(2) {
                below[usize::from(pair[0].1)] += 1.0;
                if pair[0].0 < pair[1].0 {
                    let low = below[1] / totals[1] - below[0] / totals[0];
                    if low.abs() > best.0 {
                        let threshold = pair[0].0;
                        let above = low < 0.0;
                        best = (
                            low.abs(),
                            Self {
                                feature,
                                threshold,
                                above,
                            },
                        );
                    }
                }
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_finds_the_probabilities_that_made_the_labels() {
        // Two features that matter, of scales far apart, and one that never varies.
        let mut random = Random::new(5, 0);
        let mut rows = Vec::new();
        for _ in 0..20_000 {
            let (a, b) = (random.unit(), random.unit());
            let margin = 4.0 * (a - 0.5) - 2.0 * (b - 0.5) + 0.5;
            let attack = random.unit() < (1.0 + (-margin).exp()).recip();
            rows.push((vec![a, 1_000.0 * b, 7.0], attack));
        }
        let line = Line::fit(&rows);
        for (a, b) in [(0.1, 0.9), (0.5, 0.5), (0.9, 0.1), (0.9, 0.9)] {
            let want = 4.0 * (a - 0.5) - 2.0 * (b - 0.5) + 0.5;
            let got = line.margin(&[a, 1_000.0 * b, 7.0]);
            assert!((got - want).abs() < 0.2, "{got} {want}");
        }
    }

    #[test]
    fn rows_without_any_spread_are_judged_by_their_labels_alone() {
        let rows = vec![(vec![1.0], true), (vec![1.0], true), (vec![1.0], false)];
        assert!(Line::fit(&rows).margin(&[1.0]) > 0.0);
        assert!(Line::fit(&rows).margin(&[9.0]).is_finite());
    }
}
