//! What a forest has to beat: answers that need no forest.

use super::forest::{self, FitError, Settings, Training, asked_features};
use super::random::Random;
use super::table::Table;
use super::validate::RowScore;
use crate::flow::FEATURES;
use crate::flow::schema::FEATURE_SPECS;

/// A way to answer; each calls a row an attack or not.
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
    /// The rules alone.
    Rules,
}

impl Baseline {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Majority,
        Self::Port,
        Self::Stump,
        Self::SmallTree,
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
                    .map(|(score, _)| say(score >= 0.5))
                    .collect()
            }
            Self::Rules => rows
                .iter()
                .map(|&row| say(table.rows[row].rule.is_some()))
                .collect(),
        })
    }
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
