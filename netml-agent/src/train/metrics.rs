//! Figures of merit over scored items: flows, packets or rows.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::verdict::Verdict;

/// Items seen so far, by what they are and what was said of them. An item may stand for several.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By the bits of the score, which order as the scores do (none is negative): benign, attack.
    scores: BTreeMap<u32, [f64; 2]>,
    total: [f64; 2],
    suspicious: [f64; 2],
    unsure: [f64; 2],
    no_verdict: [f64; 2],
}

/// Figures of one tally. What one class alone leaves undefined is `null`.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Metrics {
    /// Items that are attacks.
    pub attack: f64,
    /// Items that are benign.
    pub benign: f64,
    /// Attacks called SUSPICIOUS.
    pub true_positives: f64,
    /// Benign items called SUSPICIOUS.
    pub false_positives: f64,
    /// Attacks not called SUSPICIOUS; UNSURE is among them.
    pub false_negatives: f64,
    /// Benign items not called SUSPICIOUS; UNSURE is among them.
    pub true_negatives: f64,
    /// Attacks called UNSURE.
    pub unsure_attack: f64,
    /// Benign items called UNSURE.
    pub unsure_benign: f64,
    /// Items no model judged.
    pub no_verdict: f64,
    /// True positives / (true + false positives).
    pub precision: Option<f64>,
    /// True positives / attacks.
    pub recall: Option<f64>,
    /// Harmonic mean of the two.
    pub f1: Option<f64>,
    /// Area under precision over recall: mean precision, stepwise, equal scores together.
    pub pr_auc: Option<f64>,
    /// Chance that an attack scores above a benign item, a tie counting half.
    pub roc_auc: Option<f64>,
    /// False positives / benign items.
    pub fpr: Option<f64>,
}

impl Tally {
    /// Adds one item that stands for `weight`.
    pub fn add(&mut self, attack: bool, score: f32, verdict: Verdict, weight: f64) {
        let class = usize::from(attack);
        self.scores.entry(score.max(0.0).to_bits()).or_default()[class] += weight;
        self.total[class] += weight;
        match verdict {
            Verdict::Suspicious => self.suspicious[class] += weight,
            Verdict::Unsure => self.unsure[class] += weight,
            Verdict::NoVerdict => self.no_verdict[class] += weight,
            Verdict::Normal => {}
        }
    }

    /// Adds everything another tally holds.
    pub fn merge(&mut self, other: &Self) {
        for (score, weights) in &other.scores {
            let sum = self.scores.entry(*score).or_default();
            sum[0] += weights[0];
            sum[1] += weights[1];
        }
        for class in 0..2 {
            self.total[class] += other.total[class];
            self.suspicious[class] += other.suspicious[class];
            self.unsure[class] += other.unsure[class];
            self.no_verdict[class] += other.no_verdict[class];
        }
    }

    /// True without any item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// The figures.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let [benign, attack] = self.total;
        let [false_positives, true_positives] = self.suspicious;
        let both = benign > 0.0 && attack > 0.0;
        let precision = ratio(true_positives, true_positives + false_positives).filter(|_| both);
        let recall = ratio(true_positives, attack);
        let f1 = ratio(
            2.0 * true_positives,
            attack + true_positives + false_positives,
        );
        Metrics {
            attack,
            benign,
            true_positives,
            false_positives,
            false_negatives: attack - true_positives,
            true_negatives: benign - false_positives,
            unsure_attack: self.unsure[1],
            unsure_benign: self.unsure[0],
            no_verdict: self.no_verdict[0] + self.no_verdict[1],
            precision,
            recall,
            f1: f1.filter(|_| both),
            pr_auc: both.then(|| self.pr_auc()),
            roc_auc: both.then(|| self.roc_auc()),
            fpr: ratio(false_positives, benign),
        }
    }

    fn pr_auc(&self) -> f64 {
        let mut seen = [0.0; 2];
        let mut area = 0.0;
        for weights in self.scores.values().rev() {
            seen[0] += weights[0];
            seen[1] += weights[1];
            area += weights[1] / self.total[1] * (seen[1] / (seen[0] + seen[1]));
        }
        area
    }

    fn roc_auc(&self) -> f64 {
        let mut benign_below = 0.0;
        let mut wins = 0.0;
        for [benign, attack] in self.scores.values() {
            wins += attack * (benign_below + benign / 2.0);
            benign_below += benign;
        }
        wins / (self.total[0] * self.total[1])
    }
}

/// Bins of [`Calibration`], of equal width over the probability.
pub const CALIBRATION_BINS: usize = 15;

/// How far told probabilities are from what came true.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Calibration {
    /// Expected calibration error: mean over the items of the distance, within their bin, between
    /// the mean probability and the share of attack.
    pub ece: f64,
    /// Mean square of the distance between probability and truth.
    pub brier: f64,
    /// 1 less the ratio of that to the score of a constant, the share of attack; 0 is a constant's.
    pub brier_skill: f64,
    /// Weight, mean probability and share of attack of each bin that holds any.
    pub bins: Vec<[f64; 3]>,
}

impl Calibration {
    /// Of items with their probability, truth and weight; `None` unless both classes have weight.
    #[must_use]
    pub fn of(items: impl Iterator<Item = (f64, bool, f64)>) -> Option<Self> {
        let mut bins = [[0.0_f64; 3]; CALIBRATION_BINS];
        let mut brier = 0.0;
        for (probability, attack, weight) in items {
            let truth = f64::from(u8::from(attack));
            #[expect(clippy::cast_sign_loss, reason = "clamped to what is not negative")]
            let at = (probability.clamp(0.0, 1.0) * CALIBRATION_BINS as f64) as usize;
            let bin = &mut bins[at.min(CALIBRATION_BINS - 1)];
            bin[0] += weight;
            bin[1] += weight * probability;
            bin[2] += weight * truth;
            brier += weight * (probability - truth).powi(2);
        }
        let all: f64 = bins.iter().map(|bin| bin[0]).sum();
        let share = bins.iter().map(|bin| bin[2]).sum::<f64>() / all;
        if !(share > 0.0 && share < 1.0) {
            return None;
        }
        let brier = brier / all;
        Some(Self {
            ece: bins.iter().map(|bin| (bin[1] - bin[2]).abs()).sum::<f64>() / all,
            brier,
            brier_skill: 1.0 - brier / (share * (1.0 - share)),
            bins: bins
                .iter()
                .filter(|bin| bin[0] > 0.0)
                .map(|bin| [bin[0] / all, bin[1] / bin[0], bin[2] / bin[0]])
                .collect(),
        })
    }
}

/// `part / whole` where there is a whole.
#[must_use]
pub fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(items: &[(bool, f32)]) -> Tally {
        let mut tally = Tally::default();
        for &(attack, score) in items {
            let verdict = match score {
                s if s >= 0.8 => Verdict::Suspicious,
                s if s >= 0.5 => Verdict::Unsure,
                _ => Verdict::Normal,
            };
            tally.add(attack, score, verdict, 1.0);
        }
        tally
    }

    fn near(got: Option<f64>, want: f64) {
        assert!(
            (got.expect("defined") - want).abs() < 1e-9,
            "{got:?} {want}"
        );
    }

    #[test]
    fn figures_agree_with_a_case_computed_by_hand() {
        // Descending: A .9, B .9, A .8, B .6, A .6, A .3, B .1
        let items = [
            (true, 0.9),
            (false, 0.9),
            (true, 0.8),
            (false, 0.6),
            (true, 0.6),
            (true, 0.3),
            (false, 0.1),
        ];
        let metrics = tally(&items).metrics();
        near(metrics.precision, 2.0 / 3.0);
        near(metrics.recall, 0.5);
        near(metrics.f1, 4.0 / 7.0);
        near(metrics.fpr, 1.0 / 3.0);
        near(Some(metrics.unsure_attack), 1.0);
        near(Some(metrics.unsure_benign), 1.0);
        // Pairs won of 4 × 3: .9 → 2.5, .8 → 2, .6 → 1.5, .3 → 1.
        near(metrics.roc_auc, 7.0 / 12.0);
        near(
            metrics.pr_auc,
            (0.5 + 2.0 / 3.0 + 3.0 / 5.0 + 4.0 / 6.0) / 4.0,
        );
    }

    #[test]
    fn what_one_class_leaves_undefined_is_null() {
        let attacks = tally(&[(true, 0.9), (true, 0.1)]).metrics();
        near(attacks.recall, 0.5);
        for undefined in [
            attacks.precision,
            attacks.f1,
            attacks.pr_auc,
            attacks.roc_auc,
            attacks.fpr,
        ] {
            assert_eq!(undefined, None);
        }
        let benign = tally(&[(false, 0.9), (false, 0.1)]).metrics();
        near(benign.fpr, 0.5);
        assert_eq!((benign.recall, benign.precision), (None, None));
        let json = serde_json::to_value(&benign).expect("serialises");
        assert!(json["roc_auc"].is_null());
    }

    #[test]
    fn calibration_agrees_with_a_case_computed_by_hand() {
        // Bins of 0.2 (three of weight 1, one an attack) and of 0.9 (weight 2, an attack).
        let items = [
            (0.2, true, 1.0),
            (0.2, false, 1.0),
            (0.2, false, 1.0),
            (0.9, true, 2.0),
        ];
        let told = Calibration::of(items.into_iter()).expect("both classes");
        near(
            Some(told.ece),
            ((0.6_f64 - 1.0).abs() + (1.8_f64 - 2.0).abs()) / 5.0,
        );
        let brier = (0.64 + 0.04 + 0.04 + 0.02) / 5.0;
        near(Some(told.brier), brier);
        near(Some(told.brier_skill), 1.0 - brier / (0.6 * 0.4));
        assert_eq!(told.bins.len(), 2);
        near(Some(told.bins[0][2]), 1.0 / 3.0);
    }

    #[test]
    fn a_constant_has_no_skill_and_one_class_no_calibration() {
        let constant = [(0.25, true, 1.0), (0.25, false, 3.0)];
        let told = Calibration::of(constant.into_iter()).expect("both classes");
        near(Some(told.ece), 0.0);
        near(Some(told.brier_skill), 0.0);
        assert_eq!(Calibration::of([(1.0, true, 1.0)].into_iter()), None);
        assert_eq!(Calibration::of(std::iter::empty()), None);
    }

    #[test]
    fn merged_tallies_are_the_tally_of_all() {
        let (a, b) = ([(true, 0.9), (false, 0.2)], [(true, 0.2), (false, 0.95)]);
        let mut merged = tally(&a);
        merged.merge(&tally(&b));
        assert_eq!(merged.metrics(), tally(&[a, b].concat()).metrics());
    }
}
