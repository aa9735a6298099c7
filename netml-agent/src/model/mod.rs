//! The forest that serves: file format with checks, batch evaluation, explanation.

use crate::flow::FEATURES;
use crate::verdict::Verdict;

/// Judgement of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Share of attack over the trees, 0 to 1.
    pub score: f32,
    /// Calibrated probability of attack, 0 to 1.
    pub probability: f32,
    /// Most probable attack class (never 0, which is normal).
    pub class: u8,
}

/// Contributions of all features to the margin of one row: `bias + Σ contributions == score`.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Score of the root, over all trees.
    pub bias: f32,
    /// Per feature, in the order of the schema.
    pub contributions: [f32; FEATURES],
}

/// A checked forest, ready to serve.
pub struct Model {}

impl Model {
    /// Short identity: the first 12 hex digits of the file's digest.
    #[must_use]
    pub fn id(&self) -> &str {
        ""
    }

    /// Class names; the first is "normal".
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &[]
    }

    /// Judges rows; `out` has their length.
    pub fn judge(&self, _rows: &[[f32; FEATURES]], _out: &mut [Judgement]) {}

    /// Cuts a score by the model's thresholds.
    #[must_use]
    pub fn verdict(&self, _score: f32) -> Verdict {
        Verdict::NoVerdict
    }

    /// What drove the score of one row.
    #[must_use]
    pub fn explain(&self, _row: &[f32; FEATURES]) -> Explanation {
        Explanation {
            bias: 0.0,
            contributions: [0.0; FEATURES],
        }
    }

    /// False alarms per host-day to expect at this score, from the validation captures.
    #[must_use]
    pub fn expected_false_alarms_per_host_day(&self, _score: f32) -> f32 {
        0.0
    }
}
